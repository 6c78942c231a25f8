/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session: lane 0 makes it, the other lanes join it, the breaker says when to try again.
 *
 * Normal path: the first op (or client_connect()) wants it: resolve the host, connect lane 0,
 * hello; WELCOME brings limits and credit; lanes 1 … join in parallel and are used as they come up.
 *
 * Failures:
 *   - resolve, connect or hello fail: a pause, then again; after BREAKER_LIMIT of them in a row, or
 *     one that took the whole connect timeout, or one that only an operator can mend, the breaker
 * is open: waiting ops end, new ones end at once, attempts go on in the background.
 *   - lane 0 is lost: the session is. What was under way ends with -ERR_PEER, what was not sent yet
 *     waits for the next session, which is tried for at once. Its hello is always a new one, so
 * that a restarted server (another incarnation) is nothing special.
 *   - another lane is lost: what went through it is (requests sent on it; gets, whose data is
 * striped over all lanes). It joins again after a pause. Transports that are not SYNC_RELEASE
 * cannot say what still lands, so that there the session is lost.
 *   - a server that says nothing while SILENCE_MAX ops end at their deadline: the session is given
 * up.
 */
#include <stdio.h>
#include <string.h>

#include "../base/log.h"
#include "../base/text.h"
#include "client_priv.h"

#define SILENCE_MAX    3
#define SILENCE_MIN_NS (500 * NS_PER_MS) /* a deadline shorter than this proves nothing */
#define SHORT_LIFE_NS  NS_PER_S          /* a session lost so soon counts as a failure */

static uint64_t chance(struct client *client)
{
	uint64_t value;

	client->env->ops->random(client->env, &value, sizeof(value));
	return value;
}

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
	uint64_t pause_ns = lane->pause_ns == 0 ? BREAKER_PAUSE_MIN : lane->pause_ns * 2;

	lane->pause_ns = MIN(pause_ns, BREAKER_PAUSE_MAX);
	lane->timer.fire = lane_rejoin;
	timer_in(lane->client, &lane->timer,
		 lane->pause_ns + chance(lane->client) % (lane->pause_ns / 2));
}

static void lane_join(struct client_lane *lane)
{
	ASSERT(lane->index > 0);
	ASSERT(session_is_up(lane->client));
	if (lane_connect(lane, lane->client->session.address) < 0)
		lane_pause(lane);
}

/* What depended on a lane that is gone. */
static void lane_lost(struct client_lane *lane)
{
	struct client *client = lane->client;

	for (uint32_t i = 0; i < client->request_slots; i++) {
		struct request *request = &client->requests[i];

		if (request->id != 0 && (request->lane == lane || request->kind == WIRE_GET))
			request_fail(client, request, -ERR_PEER);
	}
	lane->ghost_count = 0; /* the server has ended them, too */
}

/* --- attempts --- */

static void session_hello(struct client *client)
{
	struct session *session = &client->session;
	int rc;

	session->state = SESSION_HELLO;
	rc = lane_connect(&session->lanes[0], session->address);
	if (rc < 0)
		session_fail(client, rc, 1);
}

static void resolve_done(struct env_resolve *resolve)
{
	struct resolver *resolver = CONTAINER_OF(resolve, struct resolver, resolve);
	struct client *client = resolver->client;

	resolver->is_busy = false;
	if (client == NULL) {
		resolver->env->ops->free(resolver->env, resolver);
		return;
	}
	CHECK_OBJ(client, CLIENT_MAGIC);
	if (client->session.state != SESSION_RESOLVE)
		return;
	client->env->ops->timer_clear(client->env, &client->session.timer);
	if (resolve->result < 0) {
		session_fail(client, resolve->result, 1);
		return;
	}
	snprintf(client->session.address, sizeof(client->session.address), "%s", resolve->address);
	session_hello(client);
}

static void session_resolve(struct client *client)
{
	struct resolver *resolver = client->session.resolver;

	client->session.state = SESSION_RESOLVE;
	timer_in(client, &client->session.timer, client->opts.connect_timeout_ns);
	if (resolver->is_busy)
		return; /* the last attempt's is still on its way */
	resolver->is_busy = true;
	resolver->resolve = (struct env_resolve) {
		.done = resolve_done,
		.host = resolver->host,
		.port = client->opts.target.port,
	};
	client->env->ops->resolve(client->env, &resolver->resolve);
}

static void session_attempt(struct client *client)
{
	const struct client_target *target = &client->opts.target;
	struct session *session = &client->session;

	breaker_try(&client->breaker);
	if (!target->is_numeric) {
		session_resolve(client);
		return;
	}
	if (target->port == 0)
		snprintf(session->address, sizeof(session->address), "%s", target->host);
	else
		snprintf(session->address, sizeof(session->address),
			 strchr(target->host, ':') != NULL ? "[%s]:%u" : "%s:%u", target->host,
			 target->port);
	session_hello(client);
}

static void session_timer(struct env_timer *timer)
{
	struct session *session = CONTAINER_OF(timer, struct session, timer);
	struct client *client = CONTAINER_OF(session, struct client, session);

	CHECK_OBJ(client, CLIENT_MAGIC);
	if (session->state == SESSION_RESOLVE) {
		session_fail(client, -ETIMEDOUT, BREAKER_LIMIT);
		return;
	}
	ASSERT(session->state == SESSION_PAUSE);
	session_attempt(client);
}

/* --- up and down --- */

static void session_log_up(struct client *client)
{
	const struct wire_welcome *welcome = &client->session.welcome;
	char block_max[32];

	log_info("server %s connected transport %s lanes %u block_max %s", client->session.address,
		 client->xprt->name, client->session.lane_count,
		 text_format_size(block_max, sizeof(block_max), welcome->block_max));
}

static void session_up(struct client *client, const struct wire_welcome *welcome)
{
	struct session *session = &client->session;

	session->state = SESSION_UP;
	session->welcome = *welcome;
	session->lane_count = MIN(client->opts.lanes, welcome->lane_max);
	session->credit_given = welcome->credit;
	session->credit_used = 0;
	session->up_ns = env_now_ns(client->env);
	session->last_error = 0;
	xprt_group_init(&session->group, client);
	breaker_succeed(&client->breaker);
	client->stat.connects++;
	session_log_up(client);
	for (uint32_t i = 1; i < session->lane_count; i++)
		lane_join(&session->lanes[i]);
}

void session_lane_up(struct client_lane *lane, const struct wire_welcome *welcome)
{
	struct client *client = lane->client;
	struct xprt_group *group = &client->session.group;

	if (lane->index == 0)
		session_up(client, welcome);
	ASSERT(group->lanes[lane->index] == NULL);
	lane->pause_ns = 0;
	lane->lane->group = group;
	group->lanes[lane->index] = lane->lane;
	group->lane_count = MAX(group->lane_count, lane->index + 1u);
	client_pump(client);
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
	struct client *client = lane->client;
	struct session *session = &client->session;
	bool was_up = lane->state == LANE_UP;

	lane_close(lane);
	if (lane->index > 0 && (!was_up || client_is_sync(client))) {
		if (was_up) {
			log_warn("server %s lost lane %u: %s", session->address, lane->index,
				 err_str(why));
			lane_lost(lane);
		}
		lane_pause(lane);
		return;
	}
	if (session_is_up(client) && env_now_ns(client->env) - session->up_ns >= SHORT_LIFE_NS &&
	    why != -ERR_PROTOCOL)
		session_fail(client, why, 0);
	else
		session_fail(client, why, weight_of(why));
}

static void session_log_down(struct client *client, enum session_state before, bool was_closed,
			     int why)
{
	if (client->is_ending)
		return;
	if (before == SESSION_UP)
		log_warn("server %s lost: %s", client->session.address, err_str(why));
	if (was_closed && !breaker_is_closed(&client->breaker))
		log_warn("server %s not reachable: %s; ops miss until it is",
			 client->opts.target.host, err_str(why));
}

void session_fail(struct client *client, int why, uint32_t weight)
{
	struct session *session = &client->session;
	enum session_state before = session->state;
	bool was_closed = breaker_is_closed(&client->breaker);
	uint64_t pause_ns = 0;

	ASSERT(why < 0);
	session->state = SESSION_PAUSE;
	session->last_error = why;
	session->asked_ns = 0;
	session->silences = 0;
	for (uint32_t i = 0; i < WIRE_LANE_MAX; i++)
		lane_close(&session->lanes[i]);
	region_session_down(client);
	for (uint32_t i = 0; i < client->request_slots; i++) {
		if (client->requests[i].id != 0)
			request_fail(client, &client->requests[i], -ERR_PEER);
	}
	ASSERT(client->request_count == 0);

	if (weight > 0)
		pause_ns = breaker_fail(&client->breaker, why, weight, chance(client));
	session_log_down(client, before, was_closed, why);
	if (!breaker_is_closed(&client->breaker))
		request_fail_waiting(client, breaker_code(&client->breaker));
	timer_in(client, &session->timer, pause_ns);
}

/* --- for the others --- */

void session_want(struct client *client)
{
	struct session *session = &client->session;

	if (session->state != SESSION_DOWN)
		return;
	session->state = SESSION_PAUSE;
	timer_in(client, &session->timer, 0);
}

void session_heard(struct client *client)
{
	client->session.asked_ns = 0;
	client->session.silences = 0;
}

void session_silence(struct client *client)
{
	struct session *session = &client->session;

	if (!session_is_up(client) || session->asked_ns == 0 ||
	    env_now_ns(client->env) - session->asked_ns < SILENCE_MIN_NS)
		return;
	session->silences++;
	if (session->silences >= SILENCE_MAX)
		session_fail(client, -ETIMEDOUT, BREAKER_LIMIT);
}

void session_credit(struct client *client, uint32_t credit)
{
	struct session *session = &client->session;

	/* Lanes are not ordered: an older sum says nothing new. */
	if ((int32_t)(credit - session->credit_given) > 0)
		session->credit_given = credit;
}

void session_init(struct client *client)
{
	struct session *session = &client->session;

	for (uint16_t i = 0; i < WIRE_LANE_MAX; i++)
		lane_init(&session->lanes[i], client, i);
	session->timer.fire = session_timer;
	snprintf(session->address, sizeof(session->address), "%s", client->opts.target.host);
}

void session_fini(struct client *client)
{
	struct session *session = &client->session;

	for (uint32_t i = 0; i < WIRE_LANE_MAX; i++)
		lane_close(&session->lanes[i]);
	session->state = SESSION_DOWN;
	client->env->ops->timer_clear(client->env, &session->timer);
	if (session->resolver->is_busy)
		session->resolver->client = NULL;
	else
		client->env->ops->free(client->env, session->resolver);
}
