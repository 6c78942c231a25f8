/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts that are answered while the store is still writing their blocks: they are behind.
 *
 * Each keeps its op. Were there no bound, a slow drive would let them take all the ops that a
 * session may have, and its next blocks would be refused although it never had more under way than
 * its batch. So half of a session's ops, and of the pool, are for what is under way, and no more
 * than the other half may be behind; the answer to a put that would be one too many is held back
 * until the store lets go of others, or of this one. The block is readable and on its way to
 * the drive meanwhile: nothing but the client waits, and that is what paces it.
 *
 * The pool's half is for those that write, however many sessions there are: one may have as much
 * of it behind as is left for others. So a lone writer has up to half of it, and n of them come to
 * one part in n + 1 each while the drive writes. What is left can be nothing: answers of those that
 * gave up count until the drive lets go of them. A part as if all sessions wrote is anybody's all
 * the same, beyond the half if need be.
 *
 * Failure: the budget is spent, or the client gives up, while the answer is held back: the put is
 * answered as what it is, stored (put.c). Who lets that happen may have more behind than its half;
 * what then finds no op is refused (op_take()). The drive cannot write the block: the put that has
 * not been answered has failed.
 */
#include "reactor_priv.h"

#define LOOK_MAX 8 /* sessions at which each end looks: there may be thousands */

/* Ops that none has behind yet. Those of sessions that are gone count as long as the drive stands
 * still, and what was given up may have gone beyond. */
static uint32_t behind_left(const struct reactor *reactor)
{
	uint32_t max = reactor->ops.size / 2;

	return max - MIN(max, reactor->behind_count);
}

/* What one may have whatever others have. */
static uint32_t behind_least(const struct reactor *reactor)
{
	return reactor->ops.size / 2 / (reactor->sessions_pool.used + 1);
}

bool behind_has_room(const struct session *session)
{
	const struct reactor *reactor = session->reactor;
	uint32_t count = session->behind_count;

	return count < op_session_max(reactor) / 2 &&
	       count < MAX(behind_left(reactor), behind_least(reactor));
}

void behind_wait(struct op *op)
{
	if (!list_is_empty(&op->wait_node))
		return;
	op->reactor->metrics.again_behind++;
	op_wait_begin(op);
	list_add_tail(&op->session->behind_waiters, &op->wait_node);
	if (list_is_empty(&op->session->behind_node))
		list_add_tail(&op->reactor->behind_sessions, &op->session->behind_node);
}

/* It leaves the list with its answer, and then the next is woken if there is still room: many
 * blocks are written together. False: none waits, or there is none for it. */
static bool behind_wake(const struct session *session)
{
	struct op *next = list_head(&session->behind_waiters, struct op, wait_node);

	if (next == NULL || !behind_has_room(session))
		return false;
	op_wake(next);
	return true;
}

/* There is more left for all: the next session that waits and may have more gets it. They take
 * turns; where none of those looked at may, there will be another end: that of what waits itself.
 */
static void behind_wake_other(struct reactor *reactor)
{
	struct session *session;

	for (uint32_t i = 0; i < LOOK_MAX; i++) {
		session = list_head(&reactor->behind_sessions, struct session, behind_node);
		if (session == NULL)
			return;
		list_del(&session->behind_node);
		if (list_is_empty(&session->behind_waiters))
			continue;
		list_add_tail(&reactor->behind_sessions, &session->behind_node);
		if (behind_wake(session))
			return;
	}
}

void behind_begin(struct op *op)
{
	struct session *session = op->session;

	if (op->is_behind)
		return;
	op->is_behind = true;
	op->reactor->behind_count++;
	if (session == NULL)
		return;
	session->behind_count++;
	ASSERT(session->behind_count <= session->op_count);
	(void)behind_wake(session);
}

void behind_end(struct op *op)
{
	struct reactor *reactor = op->reactor;
	struct session *session = op->session;

	if (op->is_behind) {
		ASSERT(reactor->behind_count > 0);
		reactor->behind_count--;
	}
	if (op->is_behind && session != NULL) {
		ASSERT(session->behind_count > 0);
		session->behind_count--;
	}
	op->is_behind = false;
	if (session != NULL)
		(void)behind_wake(session);
	behind_wake_other(reactor);
}
