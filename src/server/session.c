/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session: an authenticated client. It is made by the first connection's hello, joined by more
 * lanes, and ends with its last lane, or, where it has leases that others of its tenant may read
 * under, when it has had no lane for idle_ns; when it breaks the protocol; or when it stands still
 * in the middle of a move (moves.c).
 *
 * Room. Each session that may still come keeps SESSION_REQUEST_MIN requests, so that session_max of
 * them there can be, whatever the first were given. Who is one too many takes the place of a
 * session without lanes, else is told which limit he met and which option moves it.
 *
 * Credit. What a client may send beyond small frames is backed by the inline share of the buffers:
 * a session gets its part when it is made, spends it with each frame, and is given it again when
 * the frame's bytes are no longer held, with the next frame to it or by a NOTICE.
 *
 * The end. Lanes are closed first: afterwards no move is under way. Ops that the store still holds
 * go on without their session and are freed when it lets go of them. Leases end with it.
 */
#include "session.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "reactor_priv.h"

static void session_idle_cb(struct env_timer *timer);

/* --- making one --- */

/* A quarter of a share each, and the largest block; of each medium an even part. */
static void quotas_init(struct session *session)
{
	const struct reactor *reactor = session->reactor;
	uint64_t most = buffers_held_size(reactor->block_max);
	uint32_t count = reactor->opts.shard_count;

	for (uint32_t i = 0; i < count; i++) {
		buffers_quota_init(&session->quotas[i].receive,
				   (reactor->receive_buffers.buddy.size / 4 + most) / count);
		buffers_quota_init(&session->quotas[i].read,
				   (reactor->read_buffers.buddy.size / 4 + most) / count);
	}
}

static void session_init(struct session *session, struct reactor *reactor)
{
	struct flow_quotas *quotas = session->quotas;

	memset(session, 0, sizeof(*session));
	session->quotas = quotas;
	session->magic = SESSION_MAGIC;
	session->reactor = reactor;
	list_init(&session->node);
	list_init(&session->replies);
	list_init(&session->run_node);
	list_init(&session->ops);
	list_init(&session->behind_waiters);
	list_init(&session->behind_node);
	list_init(&session->check_waiters);
	list_init(&session->check_node);
	list_init(&session->leases);
	for (uint32_t i = 0; i < REQUEST_BUCKETS; i++)
		list_init(&session->buckets[i]);
	session->idle_timer.fire = session_idle_cb;
	xprt_group_init(&session->group, session);
	moves_init(session);
	quotas_init(session);
}

/* How many a session may have in flight: the least that is kept for each, and a fair part of those
 * that are promised to nobody. As many again are answered BUSY. */
static uint32_t session_request_share(const struct reactor *reactor)
{
	uint32_t least = MIN(SESSION_REQUEST_MIN, reactor->opts.request_max);
	uint32_t coming = reactor->sessions_pool.size - reactor->sessions_pool.used;
	uint32_t left = (reactor->requests.size - reactor->requests_reserved) / 2;

	ASSERT(coming > 0);
	ASSERT(left >= coming * least);
	return MIN(reactor->opts.request_max, least + (left - coming * least) / 16);
}

static uint64_t session_new_id(struct reactor *reactor)
{
	uint64_t id = 0;

	while (id == 0 || session_find(reactor, id) != NULL)
		reactor->env->ops->random(reactor->env, &id, sizeof(id));
	return id;
}

/* The one that has been without lanes for longest, when there is one. tenant NULL: of all. */
static void session_end_idle(struct reactor *reactor, const struct tenant *tenant)
{
	struct session *oldest = NULL;

	list_for_each (pos, &reactor->sessions) {
		struct session *session = list_entry(pos, struct session, node);

		if (session->lane_count == 0 && (tenant == NULL || session->tenant == tenant) &&
		    (oldest == NULL || session->idle_timer.when_ns < oldest->idle_timer.when_ns))
			oldest = session;
	}
	if (oldest != NULL)
		session_end(oldest);
}

static bool tenant_is_full(struct reactor *reactor, const struct tenant *tenant)
{
	uint32_t count = 0;

	if (tenant->session_max == 0)
		return false;
	list_for_each (pos, &reactor->sessions)
		count += list_entry(pos, struct session, node)->tenant == tenant;
	return count >= tenant->session_max;
}

/* Room for one more of the tenant; false: why says which limit it is. */
static bool session_room(struct reactor *reactor, const struct tenant *tenant, char *why,
			 size_t why_size)
{
	if (tenant_is_full(reactor, tenant))
		session_end_idle(reactor, tenant);
	if (tenant_is_full(reactor, tenant)) {
		snprintf(why, why_size,
			 "tenant %.40s has its %" PRIu32
			 " sessions; sessions= of its row allows more",
			 tenant->name, tenant->session_max);
		return false;
	}
	if (reactor->sessions_pool.used == reactor->sessions_pool.size)
		session_end_idle(reactor, NULL);
	if (reactor->sessions_pool.used == reactor->sessions_pool.size) {
		snprintf(why, why_size,
			 "reactor %" PRIu32 " has its %" PRIu32
			 " sessions; --sessions-max of the server allows more",
			 reactor->opts.index, reactor->sessions_pool.size);
		return false;
	}
	return true;
}

struct session *session_create(struct reactor *reactor, const struct tenant *tenant,
			       const struct xprt_ops *xprt, const struct auth_key *key, char *why,
			       size_t why_size)
{
	uint32_t request_max;
	struct session *session;

	if (!session_room(reactor, tenant, why, why_size))
		return NULL;
	request_max = session_request_share(reactor);
	session = list_entry(pool_take(&reactor->sessions_pool), struct session, node);
	session_init(session, reactor);
	session->id = session_new_id(reactor);
	session->key = *key;
	session->tenant = tenant;
	memcpy(&session->group.owner, tenant->id, sizeof(session->group.owner));
	session->xprt = xprt;
	session->request_max = request_max;
	reactor->requests_reserved += 2 * request_max;
	session->credit_initial = MIN(SESSION_CREDIT, reactor->credit_free);
	session->credit_given = session->credit_initial;
	session->credit_told = session->credit_initial;
	reactor->credit_free -= session->credit_initial;
	list_add_tail(&reactor->sessions, &session->node);
	reactor->metrics.sessions_opened++;
	return session;
}

struct session *session_find(struct reactor *reactor, uint64_t id)
{
	list_for_each (pos, &reactor->sessions) {
		struct session *session = list_entry(pos, struct session, node);

		if (session->id == id)
			return session;
	}
	return NULL;
}

/* --- lanes --- */

void session_lane_add(struct session *session, struct conn *conn, uint16_t number)
{
	struct env *env = session->reactor->env;

	ASSERT(number < WIRE_LANE_MAX);
	ASSERT(session->group.lanes[number] == NULL);
	session->group.lanes[number] = conn->lane;
	session->group.lane_count = MAX(session->group.lane_count, number + 1u);
	session->lane_count++;
	conn->session = session;
	conn->number = number;
	conn->lane->group = &session->group;
	env->ops->timer_clear(env, &session->idle_timer);
}

static void request_orphan(struct request *request)
{
	list_for_each_safe (pos, &request->items)
		op_orphan(list_entry(pos, struct op, node));
	list_for_each_safe (pos, &request->ready)
		op_orphan(list_entry(pos, struct op, node));
	request_free(request);
}

/* End the requests that came on a lane, or all of them. */
static void session_end_requests(struct session *session, int lane)
{
	for (uint32_t i = 0; i < REQUEST_BUCKETS; i++) {
		list_for_each_safe (pos, &session->buckets[i]) {
			struct request *request = list_entry(pos, struct request, node);

			if (lane < 0 || request->lane == lane)
				request_orphan(request);
		}
	}
}

static void session_lane_remove(struct session *session, struct conn *conn)
{
	ASSERT(session->group.lanes[conn->number] == conn->lane);
	ASSERT(session->lane_count > 0);
	session->group.lanes[conn->number] = NULL;
	session->lane_count--;
}

void session_lane_gone(struct session *session, struct conn *conn)
{
	struct env *env = session->reactor->env;

	session_lane_remove(session, conn);
	session_end_requests(session, conn->number);
	conn_free(conn);
	if (session->is_broken) {
		session_end(session);
		return;
	}
	if (session->lane_count > 0)
		return;
	ASSERT(session->request_count == 0);
	if (session->lease_count == 0 || session->xprt->lane_max == 1) {
		session_end(session); /* nothing of it is of use, or nobody can join it any more */
		return;
	}
	env->ops->timer_set(env, &session->idle_timer,
			    env_now_ns(env) + session->reactor->opts.idle_ns);
}

/* --- the end --- */

static void session_idle_cb(struct env_timer *timer)
{
	struct session *session = CONTAINER_OF(timer, struct session, idle_timer);

	CHECK_OBJ(session, SESSION_MAGIC);
	ASSERT(session->lane_count == 0);
	session_end(session);
}

static void session_close_lanes(struct session *session)
{
	for (uint32_t i = 0; i < WIRE_LANE_MAX; i++) {
		struct xprt_lane *lane = session->group.lanes[i];
		struct conn *conn;

		if (lane == NULL)
			continue;
		conn = lane->ctx;
		CHECK_OBJ(conn, CONN_MAGIC);
		session->xprt->close(&lane);
		session_lane_remove(session, conn);
		conn_free(conn);
	}
	ASSERT(session->move_count == 0);
}

void session_end(struct session *session)
{
	struct reactor *reactor = session->reactor;
	struct env *env = reactor->env;
	uint32_t held = 0;

	CHECK_OBJ(session, SESSION_MAGIC);
	session_close_lanes(session);
	session_end_requests(session, -1);
	while (!list_is_empty(&session->ops)) {
		struct op *op = list_head(&session->ops, struct op, session_node);

		held += op->credit;
		op_forget_session(op);
	}
	ASSERT(session->op_count == 0);
	ASSERT(list_is_empty(&session->behind_waiters));
	ASSERT(list_is_empty(&session->check_waiters));
	leases_end_session(session);
	reactor->credit_free += session->credit_initial - held;
	reactor->requests_reserved -= 2 * session->request_max;
	env->ops->timer_clear(env, &session->idle_timer);
	env->ops->timer_clear(env, &session->stall_timer);
	list_del(&session->run_node);
	list_del(&session->move_node);
	list_del(&session->behind_node);
	list_del(&session->check_node);
	list_del(&session->node);
	memset(&session->key, 0, sizeof(session->key));
	session->magic = 0;
	reactor->metrics.sessions_closed++;
	pool_give(&reactor->sessions_pool, &session->node);
}

/* --- frames in, frames out --- */

static int session_break(struct session *session, const struct conn *conn, const char *why)
{
	char peer[64];

	session->xprt->peer_name(conn->lane, peer, sizeof(peer));
	log_warn("session %016llx of tenant %s at %s breaks the protocol: %s",
		 (unsigned long long)session->id, session->tenant->name, peer, why);
	session->reactor->metrics.protocol_errors++;
	session->is_broken = true;
	return -ERR_PROTOCOL;
}

int session_frame(struct session *session, struct conn *conn, const struct xprt_frame *frame)
{
	uint32_t cost = frame->header->body_size + frame->header->payload_size;
	int held;

	if (session->is_broken)
		return -ERR_PROTOCOL;
	if (cost <= WIRE_FREE_MAX)
		cost = 0;
	if (cost > session->credit_given - session->credit_used)
		return session_break(session, conn, "credit overdrawn");
	session->credit_used += cost;
	held = request_frame(session, conn->number, frame);
	if (held < 0)
		return session_break(session, conn, "request out of place, or its id in use");
	session_credit_return(session, cost - MIN(cost, (uint32_t)held));
	return 0;
}

void session_credit_return(struct session *session, uint32_t size)
{
	if (size == 0)
		return;
	session->credit_given += size;
	ASSERT(session->credit_given - session->credit_used <= session->credit_initial);
	session_wake(session);
}

int session_send(struct session *session, uint16_t number, struct wire_header *header,
		 const void *body)
{
	struct xprt_lane *lane = session->group.lanes[number];
	struct conn *conn;
	int rc;

	if (lane == NULL)
		return -ERR_PEER;
	conn = lane->ctx;
	if (conn->is_blocked)
		return -EAGAIN;
	header->credit = session->credit_given;
	rc = session->xprt->send(lane, header, body, NULL, 0);
	if (rc == -EAGAIN) {
		conn->is_blocked = true;
		session->reactor->metrics.again_send++;
	}
	if (rc < 0)
		return rc;
	session->credit_told = session->credit_given;
	return 0;
}

/* What is to be told apart from answers: credit, and that the server is going. */
static void session_notify(struct session *session)
{
	struct wire_notice notice = { 0 };
	struct wire_header header;

	if (session->credit_told == session->credit_given && session->notice_due == 0)
		return;
	notice.code = session->notice_due;
	if (session->notice_due != 0)
		memcpy(notice.text, "the server is going", sizeof("the server is going"));
	for (uint16_t i = 0; i < session->group.lane_count; i++) {
		wire_header_init(&header, WIRE_NOTICE, 0, 0, sizeof(notice));
		if (session_send(session, i, &header, &notice) == 0) {
			session->notice_due = 0;
			return;
		}
	}
}

void session_wake(struct session *session)
{
	CHECK_OBJ(session, SESSION_MAGIC);
	if (!list_is_empty(&session->run_node))
		return;
	list_add_tail(&session->reactor->sessions_woken, &session->run_node);
	reactor_run_later(session->reactor);
}

void session_run(struct session *session)
{
	CHECK_OBJ(session, SESSION_MAGIC);
	moves_pump(session);
	list_for_each_safe (pos, &session->replies)
		request_send(list_entry(pos, struct request, reply_node));
	session_notify(session);
}
