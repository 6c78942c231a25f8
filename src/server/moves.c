/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The moves of a session: ops with something to move stand in session->movers; the pump takes from
 * the first as long as the session's window lasts and it has fewer than SESSION_MOVE_MAX moves
 * under way. So a block goes out front to back, the next one behind it, and no session holds up
 * another by the size of what it asked for. Pushes and pulls have a window each. That of pulls is
 * small while others put, too: what they send at once waits in sockets' buffers, and is received
 * from the cache as long as it fits there. (4 clients on two cores: puts of 4 MiB 1.6 times as fast
 * as with 8 MiB each.)
 *
 * The move structs are a pool of the reactor, enough for many busy sessions (move_max), so that
 * an idle one costs none. When the pool is empty, sessions wait for it: whenever a move ends, all
 * that wait try again, in order.
 *
 * A move that ends only writes down what became of it; its op and the pump run later.
 *
 * Failure: no byte moves for stall_ns although moves are under way: their ops are given up (a put's
 * grants end, others inherit its key). If that does not bring the moves to an end the client stands
 * still in the middle of one, and the session ends.
 */
#include "reactor_priv.h"

static void moves_stall_cb(struct env_timer *timer);

static uint64_t moves_progress(const struct session *session)
{
	uint64_t sum = session->moved;

	list_for_each (pos, &session->moves)
		sum += list_entry(pos, struct op_move, session_node)->move.moved;
	return sum;
}

static void moves_watch(struct session *session, uint64_t delay_ns)
{
	struct env *env = session->reactor->env;

	session->moved_seen = moves_progress(session);
	env->ops->timer_set(env, &session->stall_timer, env_now_ns(env) + delay_ns);
}

static void moves_give(struct session *session, struct op_move *move)
{
	struct reactor *reactor = session->reactor;

	ASSERT(session->move_count > 0);
	session->move_count--;
	list_del(&move->node);
	list_del(&move->session_node);
	move->op = NULL;
	pool_give(&reactor->moves, &move->node);
	while (!list_is_empty(&reactor->move_waiters)) {
		struct session *waiter =
			list_head(&reactor->move_waiters, struct session, move_node);

		list_del(&waiter->move_node);
		session_wake(waiter);
	}
}

static void move_done_cb(struct xprt_move *done, int rc)
{
	struct op_move *move = CONTAINER_OF(done, struct op_move, move);
	struct session *session = move->session;
	struct op *op = move->op;
	struct env *env = session->reactor->env;

	CHECK_OBJ(session, SESSION_MAGIC);
	CHECK_OBJ(op, OP_MAGIC);
	ASSERT(session->window[op->kind->is_pull] >= done->size);
	moves_give(session, move);
	session->window[op->kind->is_pull] -= done->size;
	if (op->kind->is_pull && session->window[true] == 0)
		session->reactor->puller_count--;
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
	list_init(&session->moves);
	list_init(&session->move_node);
	session->stall_timer = (struct env_timer) { .fire = moves_stall_cb };
}

/* Start the op's next move; the pool has one. False: the op has none just now. */
static bool move_start(struct session *session, struct op *op, struct xprt_lane *lane)
{
	struct pool *pool = &session->reactor->moves;
	struct op_move *move = list_entry(pool_take(pool), struct op_move, node);
	bool is_pull = op->kind->is_pull;

	move->move = (struct xprt_move) {
		.request = op->request->id,
		.item = op->item,
		.segs = op->segs,
		.seg_count = op->seg_count,
		.done = move_done_cb,
	};
	list_init(&move->move.node);
	if (!op->kind->next_move(op, &move->move)) {
		pool_give(pool, &move->node);
		return false;
	}
	ASSERT(move->move.size > 0);
	ASSERT(move->move.size <= WIRE_DATA_MAX);
	move->op = op;
	move->session = session;
	list_add_tail(&op->moves, &move->node);
	list_add_tail(&session->moves, &move->session_node);
	op->issued += move->move.size;
	if (op->issued == op->size)
		list_del(&op->wait_node); /* it may not be MOVING when the pump looks again */
	if (is_pull && session->window[true] == 0)
		session->reactor->puller_count++;
	session->window[is_pull] += move->move.size;
	if (session->move_count++ == 0)
		moves_watch(session, session->reactor->opts.stall_ns);
	if (is_pull)
		session->xprt->pull(lane, &move->move);
	else
		session->xprt->push(lane, &move->move);
	return true;
}

static uint64_t moves_window(const struct session *session, bool is_pull)
{
	bool is_puller = session->window[true] > 0;

	if (!is_pull)
		return PUSH_WINDOW;
	if (session->reactor->puller_count > is_puller)
		return PULL_WINDOW;
	return session->lane_count > 1 ? 2 * PULL_WINDOW_LANE : PULL_WINDOW_LANE;
}

static bool moves_have_room(struct session *session, const struct op *op)
{
	struct reactor *reactor = session->reactor;
	bool is_pull = op->kind->is_pull;

	if (session->window[is_pull] >= moves_window(session, is_pull) ||
	    session->move_count == SESSION_MOVE_MAX)
		return false;
	if (!list_is_empty(&reactor->moves.free))
		return true;
	reactor->metrics.again_move++;
	if (list_is_empty(&session->move_node))
		list_add_tail(&reactor->move_waiters, &session->move_node);
	return false;
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
		if (now_ns + OP_BUDGET_MIN >= op->request->deadline_ns) {
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
	list_for_each (pos, &session->moves) {
		if (list_entry(pos, struct op_move, session_node)->op->state == OP_ENDING)
			return true;
	}
	return false;
}

/* An op with moves under way that was not given up; NULL: none. */
static struct op *moves_not_ending(const struct session *session)
{
	list_for_each (pos, &session->moves) {
		struct op *op = list_entry(pos, struct op_move, session_node)->op;

		if (op->state == OP_MOVING)
			return op;
	}
	return NULL;
}

static void moves_stall_cb(struct env_timer *timer)
{
	struct session *session = CONTAINER_OF(timer, struct session, stall_timer);
	struct reactor *reactor = session->reactor;
	struct op *op;

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
	while ((op = moves_not_ending(session)) != NULL)
		op_give_up(op, op->kind->is_pull ? -ERR_ABORTED : -ERR_PEER);
	if (session->move_count > 0)
		moves_watch(session, reactor->opts.stall_ns);
}
