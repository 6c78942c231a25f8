/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that are summed where they stand before a byte of them is sent (verify is all). A range of
 * one byte has all of its block summed, and a request asks for a thousand: done at once, seconds in
 * which the reactor serves nobody, and behind which the watchdog ends it. So a turn of the loop
 * sums CHECK_TURN bytes and the rest of the block it is at; whose turn it is not waits, in order,
 * for one of the next.
 *
 * Failure: an op that is given up while it waits leaves the list, as it does any other.
 */
#include "reactor_priv.h"

#define CHECK_TURN (16 * MiB)

static void check_take(struct op *op)
{
	struct reactor *reactor = op->reactor;

	reactor->check_left -= MIN(reactor->check_left, op->u.get.ref.size);
	op->u.get.is_admitted = true;
}

static void check_turn(struct env_task *task)
{
	struct reactor *reactor = CONTAINER_OF(task, struct reactor, check_task);

	CHECK_OBJ(reactor, REACTOR_MAGIC);
	reactor->check_left = CHECK_TURN;
	while (reactor->check_left > 0 && !list_is_empty(&reactor->check_waiters)) {
		struct op *op = list_head(&reactor->check_waiters, struct op, wait_node);

		check_take(op);
		list_del(&op->wait_node);
		op_wake(op);
	}
	if (reactor->check_left < CHECK_TURN)
		reactor->env->ops->defer(reactor->env, &reactor->check_task);
}

bool check_admit(struct op *op)
{
	struct reactor *reactor = op->reactor;

	ASSERT(op->kind == &op_kind_get);
	if (op->u.get.is_admitted)
		return true;
	reactor->env->ops->defer(reactor->env, &reactor->check_task);
	if (reactor->check_left > 0 && list_is_empty(&reactor->check_waiters)) {
		check_take(op);
		return true;
	}
	reactor->metrics.again_check++;
	op_wait_begin(op);
	list_add_tail(&reactor->check_waiters, &op->wait_node);
	return false;
}

void check_begin(struct reactor *reactor)
{
	list_init(&reactor->check_waiters);
	reactor->check_left = CHECK_TURN;
	reactor->check_task.run = check_turn;
}

void check_end(struct reactor *reactor)
{
	ASSERT(list_is_empty(&reactor->check_waiters));
	reactor->env->ops->undefer(reactor->env, &reactor->check_task);
}
