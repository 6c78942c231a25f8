/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One server: its sessions, what it says of itself, and whether it has places.
 *
 * Normal path: the primary session asks for any reactor; its WELCOME names the server's UUID, its
 * weight and the reactor of every shard. From then on the server has places; sessions to its other
 * reactors are made when an item first needs them.
 *
 * Failures:
 *   - a session fails: its items wait or miss, as its breaker says. Nothing moves.
 *   - no session is up for SERVER_AWAY_NS: the server is away, its places go to others. The first
 *     success brings them back at once.
 *   - the server drains: it has no places for puts, and serves gets until it stops.
 *   - it restarts with fewer reactors: sessions to those that are gone end. The primary asks for
 *     the reactor it had, and for any after a refusal.
 *   - another server answers at its address: it is that one from now on.
 */
#include <stdio.h>
#include <string.h>

#include "../base/log.h"
#include "../base/text.h"
#include "client_priv.h"

/* --- what it says --- */

static bool has_shards(const struct client_server *server, uint16_t reactor)
{
	for (uint32_t i = 0; i < server->shard_count; i++) {
		if (server->shard_reactors[i] == reactor)
			return true;
	}
	return false;
}

/* What waits was spread by a table that is no more: a drop would pass by reactors that are new. */
static void lose_waiting(struct client_server *server)
{
	list_for_each (node, &server->used_sessions)
		session_lose_waiting(list_entry(node, struct session, node), -ERR_CHANGED);
}

/* The reactor of each shard, in order of the shards' indexes. */
static int learn_shards(struct client_server *server, const struct wire_shard *shards,
			uint32_t count)
{
	uint8_t reactors[WIRE_SHARD_MAX];
	uint32_t found = 0;

	ASSERT(count > 0);
	for (uint32_t index = 0; index < WIRE_SHARD_MAX; index++) {
		for (uint32_t i = 0; i < count && found < count; i++) {
			if (shards[i].index != index)
				continue;
			if (shards[i].reactor >= REACTOR_MAX)
				return -ERR_UNSUPPORTED;
			reactors[found++] = (uint8_t)shards[i].reactor;
		}
	}
	if (server->is_known &&
	    (found != server->shard_count || memcmp(server->shard_reactors, reactors, found) != 0))
		lose_waiting(server);
	memcpy(server->shard_reactors, reactors, found);
	server->shard_count = (uint16_t)found;
	server->has_one_reactor = true;
	for (uint32_t i = 1; i < found; i++)
		server->has_one_reactor &= reactors[i] == reactors[0];
	return 0;
}

/* After a restart: reactors that are no more. */
static void forget_reactors(struct client_server *server, const struct session *but)
{
	for (uint16_t reactor = 0; reactor < REACTOR_MAX; reactor++) {
		struct session *session = server->sessions[reactor];

		if (session == NULL || session == but || session == server->primary ||
		    has_shards(server, reactor))
			continue;
		server->sessions[reactor] = NULL;
		session_give(session, -ERR_CHANGED);
	}
}

/* The session turned out to be at this reactor. */
static int learn_reactor(struct session *session, uint16_t reactor)
{
	struct client_server *server = session->server;
	struct session *other;

	if (reactor >= REACTOR_MAX)
		return -ERR_UNSUPPORTED;
	if (session->reactor == reactor)
		return 0;
	if (session != server->primary)
		return -ERR_CHANGED;
	if (session->reactor != REACTOR_ANY) {
		/* What waits is for the reactor that it was at: a drop must not pass it by. */
		session_lose_waiting(session, -ERR_CHANGED);
		server->sessions[session->reactor] = NULL;
	}
	session->reactor = reactor;
	other = server->sessions[reactor];
	server->sessions[reactor] = session;
	if (other != NULL)
		session_give(other, -ERR_CHANGED);
	return 0;
}

static void log_identity(const struct client_server *server, const uint8_t uuid[16])
{
	char before[33];
	char now[33];

	text_format_hex(now, sizeof(now), uuid, 16);
	text_format_hex(before, sizeof(before), server->uuid, 16);
	if (!server->is_known)
		log_info("server %s is %s", server->address, now);
	else
		log_warn("server %s is %s now, it was %s", server->address, now, before);
}

int server_learn(struct session *session, const struct wire_welcome *welcome,
		 const struct wire_shard *shards, uint32_t shard_count)
{
	struct client_server *server = session->server;
	bool is_restart = server->incarnation != welcome->incarnation;
	int rc;

	rc = learn_shards(server, shards, shard_count);
	if (rc == 0)
		rc = learn_reactor(session, welcome->reactor);
	if (rc < 0)
		return rc;
	if (!server->is_known || memcmp(server->uuid, welcome->server, sizeof(server->uuid)) != 0)
		log_identity(server, welcome->server);
	memcpy(server->uuid, welcome->server, sizeof(server->uuid));
	server->is_known = true;
	server->is_draining = false; /* who drains makes no new session */
	server->incarnation = welcome->incarnation;
	server->weight = welcome->weight;
	server->block_max = welcome->block_max;
	server->capacity = welcome->capacity;
	server->reactor_count = welcome->reactor_count;
	if (is_restart)
		forget_reactors(server, session);
	return 0;
}

/* --- how it does --- */

static bool is_any_up(const struct client_server *server)
{
	list_for_each (node, &server->used_sessions) {
		if (session_is_up(list_entry(node, struct session, node)))
			return true;
	}
	return false;
}

static void away_timer(struct env_timer *timer)
{
	struct client_server *server = CONTAINER_OF(timer, struct client_server, away_timer);

	ASSERT(server->is_used);
	ASSERT(server->is_failing);
	server->is_away = true;
	if (server->is_known)
		log_warn("server %s had no success for %llu s: its places go to others until it "
			 "is back",
			 server->address, (unsigned long long)(SERVER_AWAY_NS / NS_PER_S));
	members_changed(server->client);
}

void server_succeeded(struct client_server *server)
{
	struct env *env = server->client->env;

	if (server->is_away)
		log_warn("server %s is back: it has its places again", server->address);
	server->is_failing = false;
	server->is_away = false;
	env->ops->timer_clear(env, &server->away_timer);
	members_changed(server->client);
	members_tried(server->client);
}

void server_failed(struct client_server *server, uint64_t since_ns)
{
	struct client *client = server->client;

	members_tried(client);
	if (is_any_up(server))
		return;
	members_resolve_soon(client, server->host);
	members_changed(client); /* another address of it may be up */
	if (server->is_failing)
		return;
	server->is_failing = true;
	server->failing_ns = since_ns;
	client->env->ops->timer_set(client->env, &server->away_timer, since_ns + SERVER_AWAY_NS);
}

void server_drains(struct client_server *server)
{
	if (server->is_draining)
		return;
	server->is_draining = true;
	log_warn("server %s drains: puts go to others, gets are served until it stops",
		 server->address);
	members_changed(server->client);
}

bool server_is_awaited(const struct client_server *server)
{
	return server->is_used && server->is_member &&
	       (!server->is_known || server->primary->door.is_first) &&
	       server->primary->state != SESSION_DOWN &&
	       breaker_is_closed(&server->primary->breaker);
}

/* --- its sessions --- */

struct session *server_session_of(struct client_server *server, uint16_t reactor, int *status_out)
{
	const struct session *primary = server->primary;
	struct session *session = server->sessions[reactor];
	bool is_reachable = session_is_up(primary) || breaker_is_closed(&primary->breaker);

	ASSERT(reactor < REACTOR_MAX);
	if (session == NULL && is_reachable) {
		session = session_take(server, reactor);
		server->sessions[reactor] = session;
		if (session == NULL)
			*status_out = -ERR_BUSY; /* more than this client may have */
		return session;
	}
	if (session != NULL && session_is_up(session))
		return session;
	if (!is_reachable) {
		*status_out = breaker_code(&primary->breaker);
		return NULL;
	}
	if (breaker_is_closed(&session->breaker))
		return session;
	*status_out = breaker_code(&session->breaker);
	return NULL;
}

struct session *server_session(struct client_server *server, const struct wire_key *key,
			       int *status_out)
{
	uint32_t shard = server->has_one_reactor ? 0 : place_shard(key, server->shard_count);

	ASSERT(server->is_known);
	return server_session_of(server, server->shard_reactors[shard], status_out);
}

bool server_has(const struct session *session, const struct ctxkv_key *key)
{
	const struct client_server *server = session->server;
	struct wire_key wire_key;

	memcpy(wire_key.bytes, key->bytes, sizeof(wire_key.bytes));
	return server->shard_reactors[place_shard(&wire_key, server->shard_count)] ==
	       session->reactor;
}

bool server_is_idle(const struct client_server *server)
{
	list_for_each (node, &server->used_sessions) {
		const struct session *session = list_entry(node, struct session, node);

		if (session->request_count > 0 || session_has_waiting(session))
			return false;
	}
	return true;
}

/* --- rows --- */

void server_begin(struct client_server *server, uint32_t host, const char *address)
{
	struct client *client = server->client;
	uint32_t index = server->index;

	ASSERT(!server->is_used);
	*server = (struct client_server) {
		.client = client,
		.index = index,
		.host = host,
		.is_used = true,
		.is_member = true,
		.away_timer.fire = away_timer,
	};
	list_init(&server->used_sessions);
	snprintf(server->address, sizeof(server->address), "%s", address);
	server->primary = session_take(server, REACTOR_ANY);
	ASSERT(server->primary != NULL); /* the caller has looked */
}

void server_end(struct client_server *server, int why)
{
	struct client *client = server->client;
	struct session *session;

	ASSERT(server->is_used);
	while ((session = list_head(&server->used_sessions, struct session, node)) != NULL)
		session_give(session, why);
	client->env->ops->timer_clear(client->env, &server->away_timer);
	server->is_used = false;
	server->is_member = false;
	server->is_known = false;
}

void server_init(struct client_server *server, struct client *client, uint32_t index)
{
	server->client = client;
	server->index = index;
}
