/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session, to one reactor of one server: lane 0 makes it, the other lanes join it, its breaker
 * says when to try again.
 *
 * Normal path: the first op (or client_connect()) wants it: connect lane 0, hello; WELCOME brings
 * limits and credit; lanes 1 … join in parallel and are used as they come up. Where WELCOME offers
 * a better way to the same reactor, the session moves there first (door.c).
 *
 * Failures:
 *   - connect or hello fail: a pause, then again; after BREAKER_LIMIT of them in a row, or one that
 *     took the whole connect timeout, or one that only an operator can mend, the breaker is open:
 *     what waits here ends, new items end at once, attempts go on in the background.
 *   - lane 0 is lost: the session is. What was under way ends with -ERR_PEER, what was not sent yet
 *     waits for the next session, which is tried for at once. Its hello is always a new one, so
 *     that a restarted server (another incarnation) is nothing special.
 *   - another lane is lost: what went through it is (requests sent on it; gets, whose data is
 *     striped over all lanes). It joins again after a pause. Transports that are not SYNC_RELEASE
 *     cannot say what still lands, so that there the session is lost.
 *   - a server that says nothing while SILENCE_MAX ops end at their deadline: the session is given
 *     up.
 *
 * All of it concerns this session only; what it means for the server is server.c's.
 */
#include <stdio.h>
#include <string.h>

#include "../base/log.h"
#include "../base/text.h"
#include "client_priv.h"

#define SILENCE_MAX    3
#define SILENCE_MIN_NS (500 * NS_PER_MS) /* a deadline shorter than this proves nothing */
#define SHORT_LIFE_NS  NS_PER_S          /* a session lost so soon counts as a failure */

static void timer_in(struct client *client, struct env_timer *timer, uint64_t pause_ns)
{
	client->env->ops->timer_set(client->env, timer, env_now_ns(client->env) + pause_ns);
}

/* --- the other lanes --- */

static void lane_join(struct client_lane *lane);

static void lane_rejoin(struct env_timer *timer)
{
	struct client_lane *lane = CONTAINER_OF(timer, struct client_lane, timer);

	CHECK_OBJ(lane, LANE_MAGIC);
	lane_join(lane);
}

static void lane_pause(struct client_lane *lane)
{
	struct client *client = lane_client(lane);
	uint64_t pause_ns = lane->pause_ns == 0 ? BREAKER_PAUSE_MIN : lane->pause_ns * 2;

	lane->pause_ns = MIN(pause_ns, BREAKER_PAUSE_MAX);
	lane->timer.fire = lane_rejoin;
	timer_in(client, &lane->timer,
		 lane->pause_ns + client_chance(client) % (lane->pause_ns / 2));
}

static void lane_join(struct client_lane *lane)
{
	ASSERT(lane->index > 0);
	ASSERT(session_is_up(lane->session));
	if (lane_connect(lane, lane->session->xprt, lane->session->server->address) < 0)
		lane_pause(lane);
}

/* What depended on a lane that is gone. */
static void lane_lost(struct client_lane *lane)
{
	struct client *client = lane_client(lane);

	for (uint32_t i = 0; i < client->request_slots; i++) {
		struct request *request = &client->requests[i];

		if (request->id == 0 || request->session != lane->session)
			continue;
		if (request->lane == lane || request->kind == WIRE_GET)
			request_fail(client, request, -ERR_PEER);
	}
	lane->ghost_count = 0; /* the server has ended them, too */
}

/* --- attempts --- */

static void session_attempt(struct session *session)
{
	int rc;

	breaker_try(&session->breaker);
	session->state = SESSION_HELLO;
	rc = lane_connect(&session->lanes[0], session->xprt, session->server->address);
	if (rc < 0)
		session_fail(session, rc, 1);
}

static void session_timer(struct env_timer *timer)
{
	struct session *session = CONTAINER_OF(timer, struct session, timer);

	CHECK_OBJ(session, SESSION_MAGIC);
	ASSERT(session->state == SESSION_PAUSE);
	session_attempt(session);
}

/* --- up and down --- */

static void session_log_up(const struct session *session)
{
	const struct wire_welcome *welcome = &session->welcome;
	char reactor[32] = "";
	char block_max[32];

	if (welcome->reactor_count > 1)
		snprintf(reactor, sizeof(reactor), " reactor %u", welcome->reactor);
	log_info("server %s connected%s transport %s lanes %u block_max %s",
		 session->server->address, reactor, session->xprt->name, session->lane_count,
		 text_format_size(block_max, sizeof(block_max), welcome->block_max));
}

/* What WELCOME says to this session, whichever way it came. A transport that maps memory moves no
 * bytes through its lanes: one is enough. */
static void session_begin(struct session *session, const struct wire_welcome *welcome)
{
	bool is_mapped = (session->xprt->caps & XPRT_CAP_MAPPED) != 0;

	session->welcome = *welcome;
	session->lane_count = is_mapped ? 1 : MIN(session->client->opts.lanes, welcome->lane_max);
	session->credit_given = welcome->credit;
	session->credit_used = 0;
	session->up_ns = env_now_ns(session->client->env);
	xprt_group_init(&session->group, session);
	session_log_up(session);
}

static int session_up(struct session *session, const struct wire_welcome *welcome,
		      const struct wire_shard *shards, uint32_t shard_count)
{
	int rc;

	if (session_is_fenced(session)) {
		session->fence = fence_take(session->client);
		if (session->fence == NULL)
			return -ERR_BUSY;
	}
	rc = server_learn(session, welcome, shards, shard_count);
	if (rc < 0)
		return rc;
	session->state = SESSION_UP;
	session->last_error = 0;
	session->is_any_asked = false;
	breaker_succeed(&session->breaker);
	session->client->stat.connects++;
	session->server->connects++;
	session_begin(session, welcome);
	return 0;
}

static void session_lane_add(struct session *session, struct client_lane *lane)
{
	struct xprt_group *group = &session->group;

	ASSERT(group->lanes[lane->index] == NULL);
	lane->pause_ns = 0;
	lane->lane->group = group;
	group->lanes[lane->index] = lane->lane;
	group->lane_count = MAX(group->lane_count, lane->index + 1u);
}

int session_lane_up(struct client_lane *lane, const struct wire_welcome *welcome,
		    const struct wire_shard *shards, uint32_t shard_count)
{
	struct session *session = lane->session;
	int rc;

	if (lane->index == 0) {
		rc = session_up(session, welcome, shards, shard_count);
		if (rc < 0)
			return rc;
	}
	session_lane_add(session, lane);
	if (lane->index == 0) {
		door_offered(session, (const void *)(shards + shard_count), welcome->offer_count);
		server_succeeded(session->server);
	}
	session_pump(session);
	return 0;
}

void session_stays(struct session *session)
{
	for (uint32_t i = 1; i < session->lane_count; i++) {
		if (session->lanes[i].state == LANE_IDLE)
			lane_join(&session->lanes[i]);
	}
	members_tried(session->client);
	session_pump_later(session);
}

void session_moved(struct session *session, const struct wire_welcome *welcome)
{
	session_begin(session, welcome);
	session_lane_add(session, &session->lanes[0]);
	members_tried(session->client);
	session_pump_later(session);
}

/* An attempt that took all its time, or was refused for a cause that stays, opens the breaker. */
static uint32_t weight_of(int why)
{
	switch (-why) {
	case ETIMEDOUT:
	case ERR_AUTH:
	case ERR_DENIED:
	case ERR_VERSION:
		return BREAKER_LIMIT;
	default:
		return 1;
	}
}

void session_lane_down(struct client_lane *lane, int why)
{
	struct session *session = lane->session;
	bool was_up = lane->state == LANE_UP;

	if (lane->index > 0 && (!was_up || session_is_sync(session))) {
		lane_close(lane);
		if (was_up) {
			log_warn("server %s lost lane %u: %s", session->server->address,
				 lane->index, err_str(why));
			lane_lost(lane);
		}
		lane_pause(lane);
		return;
	}
	if (session_is_up(session) &&
	    env_now_ns(session->client->env) - session->up_ns >= SHORT_LIFE_NS &&
	    why != -ERR_PROTOCOL)
		session_fail(session, why, 0);
	else
		session_fail(session, why, weight_of(why));
}

static void session_log_down(const struct session *session, enum session_state before,
			     bool was_closed, int why)
{
	const struct client_server *server = session->server;

	if (session->client->is_ending)
		return;
	if (before == SESSION_UP)
		log_warn("server %s lost: %s", server->address, err_str(why));
	if (was_closed && !breaker_is_closed(&session->breaker))
		log_warn("server %s not reachable: %s; its blocks miss until it is",
			 server->address, err_str(why));
}

/* Nothing of it goes on, but what its server may still do to memory: that is the fence's. */
static void session_close(struct session *session)
{
	struct fence *fence = fence_begin(session);
	struct client *client = session->client;

	session->asked_ns = 0;
	session->silences = 0;
	busy_close(session);
	door_close(session);
	for (uint32_t i = 0; i < WIRE_LANE_MAX; i++)
		lane_close(&session->lanes[i]);
	region_session_down(session);
	lease_session_down(session);
	for (uint32_t i = 0; i < client->request_slots && session->request_count > 0; i++) {
		struct request *request = &client->requests[i];

		if (request->id == 0 || request->session != session)
			continue;
		if (fence != NULL && request_is_exposed(request))
			fence_add(fence, request, -ERR_PEER);
		else
			request_fail(client, request, -ERR_PEER);
	}
	ASSERT(session->request_count == 0);
	session->xprt = client->opts.xprt;
}

void session_lose_waiting(struct session *session, int status)
{
	struct part *part;

	for (uint32_t i = 0; i < WAITING_COUNT; i++) {
		while ((part = list_head(&session->waiting[i], struct part, node)) != NULL)
			part_lose(part, status);
	}
}

void session_fail(struct session *session, int why, uint32_t weight)
{
	struct client *client = session->client;
	struct client_server *server = session->server;
	enum session_state before = session->state;
	bool was_closed = breaker_is_closed(&session->breaker);
	uint64_t since_ns = session->asked_ns;
	uint64_t pause_ns = 0;

	ASSERT(why < 0);
	session->state = SESSION_PAUSE;
	session->last_error = why;
	session->is_any_asked = before == SESSION_HELLO && session == server->primary &&
				session->reactor != REACTOR_ANY && !session->is_any_asked;
	session_close(session);
	if (weight > 0)
		pause_ns = breaker_fail(&session->breaker, why, weight, client_chance(client));
	if (was_closed && !breaker_is_closed(&session->breaker))
		client->stat.breaker_opens++;
	session_log_down(session, before, was_closed, why);
	timer_in(client, &session->timer, pause_ns);
	if (!breaker_is_closed(&session->breaker))
		session_lose_waiting(session, breaker_code(&session->breaker));
	server_failed(server, since_ns != 0 ? since_ns : env_now_ns(client->env));
}

/* --- for the others --- */

void session_want(struct session *session)
{
	if (session->state != SESSION_DOWN)
		return;
	session->state = SESSION_PAUSE;
	timer_in(session->client, &session->timer, 0);
}

void session_heard(struct session *session)
{
	session->asked_ns = 0;
	session->silences = 0;
}

uint64_t session_heard_ns(const struct session *session)
{
	uint64_t heard_ns = 0;

	for (uint32_t i = 0; i < session->group.lane_count; i++) {
		const struct xprt_lane *lane = session->lanes[i].lane;

		heard_ns = MAX(heard_ns, lane == NULL ? 0 : lane->progress_ns);
	}
	return heard_ns;
}

void session_silence(struct session *session)
{
	if (!session_is_up(session) || session->asked_ns == 0 ||
	    env_now_ns(session->client->env) - session->asked_ns < SILENCE_MIN_NS)
		return;
	session->silences++;
	if (session->silences >= SILENCE_MAX)
		session_fail(session, -ETIMEDOUT, BREAKER_LIMIT);
}

void session_credit(struct session *session, uint32_t credit)
{
	/* Lanes are not ordered: an older sum says nothing new. */
	if ((int32_t)(credit - session->credit_given) > 0)
		session->credit_given = credit;
}

bool session_has_waiting(const struct session *session)
{
	for (uint32_t i = 0; i < WAITING_COUNT; i++) {
		if (!list_is_empty(&session->waiting[i]))
			return true;
	}
	return false;
}

struct session *session_take(struct client_server *server, uint16_t reactor)
{
	struct client *client = server->client;
	struct session *session = list_head(&client->free_sessions, struct session, node);

	if (session == NULL)
		return NULL;
	list_del(&session->node);
	list_add_tail(&server->used_sessions, &session->node);
	session->server = server;
	session->reactor = reactor;
	session->is_any_asked = false;
	session->state = SESSION_DOWN;
	session->breaker = (struct breaker) { 0 };
	session->last_error = 0;
	door_init(session);
	return session;
}

void session_give(struct session *session, int why)
{
	struct client *client = session->client;

	session->state = SESSION_DOWN;
	session_close(session);
	session_lose_waiting(session, why);
	client->env->ops->timer_clear(client->env, &session->timer);
	list_del(&session->due_node);
	list_del(&session->node);
	session->server = NULL;
	list_add_tail(&client->free_sessions, &session->node);
}

void session_init(struct session *session, struct client *client, uint32_t index)
{
	*session = (struct session) {
		.magic = SESSION_MAGIC,
		.client = client,
		.index = index,
		.xprt = client->opts.xprt,
		.timer.fire = session_timer,
	};
	list_init(&session->node);
	list_init(&session->due_node);
	for (uint32_t i = 0; i < WAITING_COUNT; i++)
		list_init(&session->waiting[i]);
	for (uint16_t i = 0; i < WIRE_LANE_MAX; i++)
		lane_init(&session->lanes[i], session, i);
	busy_init(session);
	lane_init(&session->door.lane, session, 0);
	session->door.lane.is_door = true;
	list_add_tail(&client->free_sessions, &session->node);
}
