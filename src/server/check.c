/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that are summed where they stand, at once: with verify all those in memory of which a
 * range is asked for, or progress, before a byte is sent; and durable puts that leave straight from
 * a client's memory. A range of one byte has all of its block summed, nothing has yet been copied
 * of such a put, and a request names a thousand: done at once, seconds in which the reactor serves
 * nobody, and behind which the watchdog ends it. So a turn of the loop sums CHECK_TURN bytes and
 * the rest of the block it is at; whose turn it is not waits for one of the next.
 *
 * Sessions that wait take turns by bytes: each may have CHECK_PART summed before it stands behind
 * the others, and a block that is larger is paid for by letting them pass so many times. So who
 * asks for little waits for a block or two of who asks for much, not for all of them. What is
 * summed while nobody waits costs nothing.
 *
 * Failure: an op that is given up while it waits leaves the list, as it does any other.
 */
#include "reactor_priv.h"

#define CHECK_TURN (16 * MiB)
#define CHECK_PART MiB

static uint32_t check_size(const struct op *op)
{
	return op->kind == &op_kind_get ? op->u.get.ref.size : op->size;
}

static void check_take(struct op *op)
{
	struct reactor *reactor = op->reactor;

	reactor->check_left -= MIN(reactor->check_left, check_size(op));
	op->is_admitted = true;
}

/* Whose turn it is; NULL: nobody waits. What a session owes is at most a block, so this ends. */
static struct op *check_next(struct reactor *reactor)
{
	struct session *session;

	while ((session = list_head(&reactor->check_sessions, struct session, check_node)) !=
	       NULL) {
		struct op *op = list_head(&session->check_waiters, struct op, wait_node);

		if (op != NULL && session->check_part > 0)
			return op;
		list_del(&session->check_node);
		if (op == NULL) {
			session->check_part = MIN(session->check_part, 0);
			continue;
		}
		session->check_part += CHECK_PART;
		list_add_tail(&reactor->check_sessions, &session->check_node);
	}
	return NULL;
}

static void check_turn(struct env_task *task)
{
	struct reactor *reactor = CONTAINER_OF(task, struct reactor, check_task);
	struct op *op;

	CHECK_OBJ(reactor, REACTOR_MAGIC);
	reactor->check_left = CHECK_TURN;
	while (reactor->check_left > 0 && (op = check_next(reactor)) != NULL) {
		op->session->check_part -= check_size(op);
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
	struct session *session = op->session;

	if (op->is_admitted)
		return true;
	reactor->env->ops->defer(reactor->env, &reactor->check_task);
	if (reactor->check_left > 0 && list_is_empty(&reactor->check_sessions)) {
		check_take(op);
		return true;
	}
	reactor->metrics.again_check++;
	op_wait_begin(op);
	if (list_is_empty(&reactor->check_sessions))
		session->check_part = 0;
	list_add_tail(&session->check_waiters, &op->wait_node);
	if (list_is_empty(&session->check_node))
		list_add_tail(&reactor->check_sessions, &session->check_node);
	return false;
}

void check_begin(struct reactor *reactor)
{
	list_init(&reactor->check_sessions);
	reactor->check_left = CHECK_TURN;
	reactor->check_task.run = check_turn;
}

void check_end(struct reactor *reactor)
{
	ASSERT(list_is_empty(&reactor->check_sessions));
	reactor->env->ops->undefer(reactor->env, &reactor->check_task);
}
