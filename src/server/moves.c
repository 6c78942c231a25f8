/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The moves of a session: ops with something to move stand in session->movers; the pump takes from
 * the first as long as the session's window and its few move structs last. So a block goes out
 * front to back, the next one behind it, and no session holds up another by the size of what it
 * asked for. Pushes and pulls have a window each.
 *
 * A move that ends only writes down what became of it; its op and the pump run later.
 *
 * Failure: no byte moves for stall_ns although moves are under way: their ops are given up (a put's
 * grants end, others inherit its key). If that does not bring the moves to an end the client stands
 * still in the middle of one, and the session ends.
 */
#include "reactor_priv.h"

/* An op with less time than this gets no further move. */
#define MOVE_BUDGET_MIN NS_PER_MS

static void moves_stall_cb(struct env_timer *timer);

static uint64_t moves_progress(const struct session *session)
{
	uint64_t sum = session->moved;

	for (uint32_t i = 0; i < SESSION_MOVE_MAX; i++) {
		if (session->moves[i].op != NULL)
			sum += session->moves[i].move.moved;
	}
	return sum;
}

static void moves_watch(struct session *session, uint64_t delay_ns)
{
	struct env *env = session->reactor->env;

	session->moved_seen = moves_progress(session);
	env->ops->timer_set(env, &session->stall_timer, env_now_ns(env) + delay_ns);
}

static void move_done_cb(struct xprt_move *done, int rc)
{
	struct op_move *move = CONTAINER_OF(done, struct op_move, move);
	struct session *session = move->session;
	struct op *op = move->op;
	struct env *env = session->reactor->env;

	CHECK_OBJ(session, SESSION_MAGIC);
	CHECK_OBJ(op, OP_MAGIC);
	ASSERT(session->move_count > 0);
	ASSERT(session->window[op->kind->is_pull] >= done->size);
	list_del(&move->node);
	list_add_head(&session->moves_free, &move->node);
	move->op = NULL;
	session->move_count--;
	session->window[op->kind->is_pull] -= done->size;
	if (rc < 0) {
		if (op->move_rc == 0)
			op->move_rc = rc == -ECANCELED ? -ERR_PEER : rc;
	} else {
		op->landed += done->size;
		session->moved += done->size;
	}
	if (session->move_count == 0)
		env->ops->timer_clear(env, &session->stall_timer);
	op_wake(op);
	session_wake(session);
}

void moves_init(struct session *session)
{
	list_init(&session->movers);
	list_init(&session->moves_free);
	for (uint32_t i = 0; i < SESSION_MOVE_MAX; i++) {
		session->moves[i].session = session;
		session->moves[i].op = NULL;
		list_add_tail(&session->moves_free, &session->moves[i].node);
	}
	session->stall_timer = (struct env_timer) { .fire = moves_stall_cb };
}

/* Start the op's next move. False: it has none just now. */
static bool move_start(struct session *session, struct op *op, struct xprt_lane *lane)
{
	struct op_move *move = list_head(&session->moves_free, struct op_move, node);
	bool is_pull = op->kind->is_pull;

	move->move = (struct xprt_move) {
		.request = op->request->id,
		.item = op->item,
		.segs = op->segs,
		.seg_count = op->seg_count,
		.done = move_done_cb,
	};
	list_init(&move->move.node);
	if (!op->kind->next_move(op, &move->move))
		return false;
	ASSERT(move->move.size > 0);
	ASSERT(move->move.size <= WIRE_DATA_MAX);
	move->op = op;
	list_del(&move->node);
	list_add_tail(&op->moves, &move->node);
	op->issued += move->move.size;
	if (op->issued == op->size)
		list_del(&op->wait_node); /* it may not be MOVING when the pump looks again */
	session->window[is_pull] += move->move.size;
	if (session->move_count++ == 0)
		moves_watch(session, session->reactor->opts.stall_ns);
	if (is_pull)
		session->xprt->pull(lane, &move->move);
	else
		session->xprt->push(lane, &move->move);
	return true;
}

static bool moves_have_room(const struct session *session, const struct op *op)
{
	return session->window[op->kind->is_pull] < SESSION_WINDOW &&
	       !list_is_empty(&session->moves_free);
}

/* Who wants to know the progress gets all data on the lane that tells it, in order. */
static struct xprt_lane *moves_lane(const struct session *session, const struct op *op)
{
	if (op->kind == &op_kind_get && op->u.get.has_progress)
		return session->group.lanes[op->request->lane];
	return xprt_group_pick(&session->group);
}

void moves_pump(struct session *session)
{
	uint64_t now_ns;

	if (list_is_empty(&session->movers))
		return;
	now_ns = env_now_ns(session->reactor->env);
	list_for_each_safe (pos, &session->movers) {
		struct op *op = list_entry(pos, struct op, wait_node);

		ASSERT(op->state == OP_MOVING);
		if (now_ns + MOVE_BUDGET_MIN >= op->request->deadline_ns) {
			op_give_up(op, -ERR_DEADLINE);
			continue;
		}
		while (!list_is_empty(&op->wait_node) && moves_have_room(session, op)) {
			struct xprt_lane *lane = moves_lane(session, op);

			if (lane == NULL)
				return;
			if (!move_start(session, op, lane))
				list_del(&op->wait_node);
		}
	}
}

void moves_revoke(struct op *op)
{
	list_for_each_safe (pos, &op->moves) {
		struct op_move *move = list_entry(pos, struct op_move, node);

		op->session->xprt->revoke(&move->move);
	}
}

/* Whether ops that were given up have moves that do not end. */
static bool moves_are_stuck(const struct session *session)
{
	for (uint32_t i = 0; i < SESSION_MOVE_MAX; i++) {
		const struct op *op = session->moves[i].op;

		if (op != NULL && op->state == OP_ENDING)
			return true;
	}
	return false;
}

static void moves_stall_cb(struct env_timer *timer)
{
	struct session *session = CONTAINER_OF(timer, struct session, stall_timer);
	struct reactor *reactor = session->reactor;

	CHECK_OBJ(session, SESSION_MAGIC);
	if (moves_progress(session) != session->moved_seen) {
		moves_watch(session, reactor->opts.stall_ns);
		return;
	}
	reactor->metrics.stalls++;
	if (moves_are_stuck(session)) {
		log_warn("session %016llx of tenant %s stands still: ends",
			 (unsigned long long)session->id, session->tenant->name);
		session_end(session);
		return;
	}
	for (uint32_t i = 0; i < SESSION_MOVE_MAX; i++) {
		struct op *op = session->moves[i].op;

		if (op != NULL)
			op_give_up(op, op->kind->is_pull ? -ERR_ABORTED : -ERR_PEER);
	}
	if (session->move_count > 0)
		moves_watch(session, reactor->opts.stall_ns);
}
