/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A better way to a session's reactor: shared memory, where the server is on this host.
 *
 * Normal path: WELCOME over tcp offers the address of a Unix socket for the session's reactor. The
 * session is held (nothing is sent) while the door's own lane connects there and says hello as any
 * first lane does. Where the same server, incarnation and reactor answer, the session moves: the
 * tcp lanes are closed, the door's lane is lane 0, and it goes on as a session of that transport.
 *
 * Failures: all of them leave the session on tcp, said once in the log with what to do, counted,
 * and shown with the server (ctxkv_server.fallback):
 *   - no such socket, no permission, nobody there, refused, silence for DOOR_WAIT_NS
 *   - another server answers there: paths of two hosts or two containers that look alike
 *   - too many former sessions' memory is still waited for (fence.c)
 *   - the session was moved and did not live for DOOR_LIFE_NS
 * It is tried again after 1 s, 2 s, … 60 s while the session goes on over tcp. When it is welcomed
 * then, the session is held until nothing is under way, DOOR_DRAIN_NS at most, and not while it has
 * leases, which would be lost: else later.
 *
 * When a session that had moved is lost, the next begins over tcp again.
 *
 * With opts.is_door_only the session fails instead, and its breaker says when it is tried again.
 */
#include <stdio.h>
#include <string.h>

#include "../base/log.h"
#include "client_priv.h"

#define DOOR_WAIT_NS   (500 * NS_PER_MS)
#define DOOR_DRAIN_NS  (200 * NS_PER_MS)
#define DOOR_LIFE_NS   NS_PER_S
#define DOOR_PAUSE_MIN NS_PER_S
#define DOOR_PAUSE_MAX (60 * NS_PER_S)

static void door_timer_in(struct session *session, uint64_t pause_ns)
{
	struct env *env = session->client->env;

	env->ops->timer_set(env, &session->door.timer, env_now_ns(env) + pause_ns);
}

static void door_timer_clear(struct session *session)
{
	struct env *env = session->client->env;

	env->ops->timer_clear(env, &session->door.timer);
}

bool door_is_held(const struct session *session)
{
	return session->door.is_first || session->door.state == DOOR_OPEN;
}

/* --- failure --- */

static const char *path_of(const struct door *door)
{
	return strncmp(door->address, "unix:", 5) == 0 ? door->address + 5 : door->address;
}

static void reason_set(struct door *door, int why)
{
	const char *path = path_of(door);
	char *to = door->reason;

	door->why = why;
	switch (-why) {
	case ENOENT:
		snprintf(to, CLIENT_REASON_SIZE,
			 "there is no %s here: the server is on another host, or its run directory "
			 "is not mounted at that path",
			 path);
		break;
	case EACCES:
	case EPERM:
		snprintf(to, CLIENT_REASON_SIZE,
			 "no permission for %s: this user must be in the group of that socket",
			 path);
		break;
	case ECONNREFUSED:
		snprintf(to, CLIENT_REASON_SIZE, "nobody listens at %s", path);
		break;
	case ETIMEDOUT:
		snprintf(to, CLIENT_REASON_SIZE, "no answer at %s", path);
		break;
	case ERR_FOREIGN:
		snprintf(to, CLIENT_REASON_SIZE,
			 "another server answers at %s: give each its own run directory", path);
		break;
	case ERR_UNSUPPORTED:
		snprintf(to, CLIENT_REASON_SIZE, "%s",
			 door->address[0] == '\0' ? "the server offers none"
						  : "TLS is asked for, and it has none");
		break;
	default:
		snprintf(to, CLIENT_REASON_SIZE, "%s: %s", path, err_str(why));
		break;
	}
}

static bool is_loopback(const char *address)
{
	return strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]", 5) == 0;
}

/* That a path of another host is not here is what is to be expected. */
static void log_fallback(const struct session *session)
{
	const struct door *door = &session->door;
	const char *address = session->server->address;
	const char *name = session->client->opts.door->name;

	if (door->why == -ENOENT && !is_loopback(address) && !session->client->opts.is_door_only)
		log_info("server %s: %s is not used: %s", address, name, door->reason);
	else
		log_warn("server %s: %s is not used: %s", address, name, door->reason);
}

static void door_back_off(struct session *session)
{
	struct door *door = &session->door;
	struct client *client = session->client;
	uint64_t quarter;

	door->pause_ns =
		door->pause_ns == 0 ? DOOR_PAUSE_MIN : MIN(door->pause_ns * 2, DOOR_PAUSE_MAX);
	quarter = door->pause_ns / 4;
	door->retry_ns = env_now_ns(client->env) + door->pause_ns - quarter +
			 client_chance(client) % (2 * quarter);
}

/* Later. The session goes on as it is. */
static void door_wait(struct session *session)
{
	struct door *door = &session->door;
	struct env *env = session->client->env;
	bool was_held = door_is_held(session);

	lane_close(&door->lane);
	if (!session_is_fenced(session))
		fence_give(session);
	door->state = DOOR_PAUSE;
	door->is_first = false;
	env->ops->timer_set(env, &door->timer, door->retry_ns);
	if (was_held)
		session_stays(session);
}

void door_fail(struct session *session, int why)
{
	struct door *door = &session->door;
	struct client *client = session->client;
	bool is_new = door->why != why;

	ASSERT(why < 0);
	reason_set(door, why);
	client->stat.fallbacks++;
	if (is_new)
		log_fallback(session);
	door_back_off(session);
	if (client->opts.is_door_only)
		session_fail(session, err_class_of(why) == ERR_CLASS_SETUP ? why : -ERR_UNSUPPORTED,
			     BREAKER_LIMIT);
	else
		door_wait(session);
}

void door_lane_down(struct session *session, int why)
{
	door_fail(session, why);
}

/* --- attempts --- */

static void door_attempt(struct session *session)
{
	struct door *door = &session->door;
	uint64_t wait_ns = MIN(session->client->opts.connect_timeout_ns, DOOR_WAIT_NS);
	int rc = -ERR_UNSUPPORTED;

	door->state = DOOR_HELLO;
	if (door->address[0] != '\0')
		rc = lane_connect(&door->lane, door->xprt, door->address);
	if (rc < 0)
		door_fail(session, rc);
	else
		door_timer_in(session, wait_ns);
}

/* All that the session has is lost by the move. */
static void door_move(struct session *session)
{
	struct door *door = &session->door;

	ASSERT(session->request_count == 0);
	door_timer_clear(session);
	for (uint32_t i = 0; i < WIRE_LANE_MAX; i++)
		lane_close(&session->lanes[i]);
	region_session_down(session);
	lease_session_down(session);
	session->xprt = door->xprt;
	session->asked_ns = 0;
	lane_move(&session->lanes[0], &door->lane);
	door->state = DOOR_NONE;
	door->is_first = false;
	door->is_in_use = true;
	if (session->client->opts.is_door_used != NULL)
		atomic_store(session->client->opts.is_door_used, true);
	if (door->why != 0)
		log_warn("server %s: %s is used now", session->server->address, door->xprt->name);
	door->why = 0;
	door->reason[0] = '\0';
	session_moved(session, &door->welcome);
}

int door_lane_up(struct session *session, const struct wire_welcome *welcome)
{
	const struct wire_welcome *own = &session->welcome;
	struct door *door = &session->door;

	if (memcmp(welcome->server, own->server, sizeof(own->server)) != 0)
		return -ERR_FOREIGN;
	if (welcome->incarnation != own->incarnation || welcome->reactor != own->reactor)
		return -ERR_CHANGED;
	if (door->xprt->fence != NULL) {
		session->fence = fence_take(session->client);
		if (session->fence == NULL)
			return -ERR_BUSY;
	}
	door->welcome = *welcome;
	door->state = DOOR_OPEN;
	door_timer_in(session, lease_is_held(session) ? 0 : DOOR_DRAIN_NS);
	door_pump(session);
	return 0;
}

void door_pump(struct session *session)
{
	if (session->door.state == DOOR_OPEN && session->request_count == 0 &&
	    !lease_is_held(session))
		door_move(session);
}

static void door_timer(struct env_timer *timer)
{
	struct session *session = CONTAINER_OF(timer, struct session, door.timer);
	struct door *door = &session->door;

	CHECK_OBJ(session, SESSION_MAGIC);
	ASSERT(session_is_up(session));
	switch (door->state) {
	case DOOR_PAUSE:
		if (!lease_is_held(session)) {
			door_attempt(session);
			return;
		}
		break;
	case DOOR_HELLO:
		door_fail(session, -ETIMEDOUT);
		return;
	default:
		ASSERT(door->state == DOOR_OPEN);
		break;
	}
	/* It is too busy just now, or has leases. */
	door_back_off(session);
	door_wait(session);
}

/* --- for the session --- */

static bool offer_suits(const struct session *session, const struct wire_offer *offer)
{
	return offer->transport == session->client->opts.door->transport &&
	       (offer->reactor == session->reactor || offer->reactor == REACTOR_ANY);
}

void door_offered(struct session *session, const struct wire_offer *offers, uint32_t offer_count)
{
	const struct client_opts *opts = &session->client->opts;
	uint64_t now_ns = env_now_ns(session->client->env);
	struct door *door = &session->door;
	const char *address = NULL;

	ASSERT(door->state == DOOR_NONE);
	door->xprt = opts->door;
	for (uint32_t i = 0; i < offer_count && opts->door != NULL; i++) {
		if (offer_suits(session, &offers[i]) && address == NULL)
			address = (const char *)offers[i].address;
	}
	if (address == NULL && !opts->is_door_only) {
		session_stays(session);
		return;
	}
	address = address != NULL ? address : "";
	snprintf(door->address, sizeof(door->address), "%s%s", address[0] == '/' ? "unix:" : "",
		 address);
	/* From the loop, as whatever it comes to may end the lane that we are called from. */
	door->state = DOOR_PAUSE;
	door->is_first = opts->is_door_only || door->retry_ns <= now_ns;
	door_timer_in(session, door->is_first ? 0 : door->retry_ns - now_ns);
	if (!door->is_first)
		session_stays(session);
}

void door_close(struct session *session)
{
	struct door *door = &session->door;
	uint64_t lived_ns = env_now_ns(session->client->env) - session->up_ns;

	lane_close(&door->lane);
	door_timer_clear(session);
	if (door->is_in_use && lived_ns < DOOR_LIFE_NS) {
		door_back_off(session);
	} else if (door->is_in_use) {
		door->pause_ns = 0;
		door->retry_ns = 0;
	}
	door->state = DOOR_NONE;
	door->is_first = false;
	door->is_in_use = false;
}

void door_init(struct session *session)
{
	struct door *door = &session->door;

	ASSERT(door->lane.lane == NULL);
	door->state = DOOR_NONE;
	door->pause_ns = 0;
	door->retry_ns = 0;
	door->why = 0;
	door->reason[0] = '\0';
	door->timer.fire = door_timer;
}
