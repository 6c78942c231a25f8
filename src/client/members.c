/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which servers there are, and who has which places.
 *
 * Members come from the URL: a host that is a number is one server; a name stands for as many as it
 * has addresses, and is resolved again every RESOLVE_NS and soon after a server of it has failed.
 * An address that is new is a new server; one that is gone is no member any more: no places, and
 * its sessions end when nothing is under way.
 *
 * Before a server has said its UUID it has no places. So that a client that has just begun does not
 * look for blocks, or put them, where they do not belong, nothing is placed until every server of
 * the list has said who it is or could not be reached, for connect_timeout_ns at most. Who comes
 * later gets his places when he comes.
 *
 * The same UUID at several addresses is one server: the address with a session stands for it, the
 * others wait to take over (an IPv4 and an IPv6 address, a host that has moved).
 *
 * Failure: a name that cannot be resolved leaves members as they are; before the first time its
 * breaker says whether ops wait. More addresses than rows or sessions: the rest is left out, with a
 * log line.
 */
#include <stdio.h>
#include <string.h>

#include "../base/log.h"
#include "client_priv.h"

#define RESOLVE_NS      (30 * NS_PER_S)
#define RESOLVE_SOON_NS NS_PER_S

/* --- placement --- */

/* Whether a stands for the server rather than b. */
static bool is_better(const struct client_server *a, const struct client_server *b)
{
	bool is_a_up = session_is_up(a->primary);
	bool is_b_up = session_is_up(b->primary);

	if (is_a_up != is_b_up)
		return is_a_up;
	if (a->is_away != b->is_away)
		return b->is_away;
	return a->index < b->index;
}

static bool is_placed(const struct client_server *server)
{
	return server->is_used && server->is_member && server->is_known;
}

static void find_aliases(struct client *client)
{
	for (uint32_t i = 0; i < client->server_count; i++) {
		struct client_server *server = &client->servers[i];

		server->is_alias = false;
		for (uint32_t j = 0; j < client->server_count && is_placed(server); j++) {
			const struct client_server *other = &client->servers[j];

			if (i == j || !is_placed(other) ||
			    memcmp(server->uuid, other->uuid, sizeof(server->uuid)) != 0)
				continue;
			server->is_alias |= is_better(other, server);
		}
	}
}

static void map_make(struct client *client, struct place_map *map, struct place_row *rows,
		     bool is_for_puts)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < client->server_count; i++) {
		const struct client_server *server = &client->servers[i];
		struct place_member *member = &client->members[count];

		if (!is_placed(server) || server->is_alias || server->is_away ||
		    (is_for_puts && server->is_draining))
			continue;
		*member = (struct place_member) { .weight = server->weight, .value = i };
		memcpy(member->uuid, server->uuid, sizeof(member->uuid));
		count++;
	}
	place_map_init(map, rows, client->members, count);
}

void members_changed(struct client *client)
{
	uint32_t before = client->get_map.count;

	if (client->is_ending)
		return;
	find_aliases(client);
	map_make(client, &client->get_map, client->get_rows, false);
	map_make(client, &client->put_map, client->put_rows, true);
	if (client->get_map.count != before)
		log_info("placement has %u servers", client->get_map.count);
}

/* --- the beginning --- */

static bool host_is_awaited(const struct client_host_state *host)
{
	const struct client_host *where = &host->client->opts.target.hosts[host->index];

	return !where->is_numeric && !host->is_resolved && breaker_is_closed(&host->breaker);
}

static bool is_anybody_awaited(const struct client *client)
{
	for (uint32_t i = 0; i < client->opts.target.host_count; i++) {
		if (host_is_awaited(&client->hosts[i]))
			return true;
	}
	for (uint32_t i = 0; i < client->server_count; i++) {
		if (server_is_awaited(&client->servers[i]))
			return true;
	}
	return false;
}

static void settle(struct client *client)
{
	client->is_settled = true;
	client->env->ops->timer_clear(client->env, &client->settle_timer);
}

bool members_are_settled(const struct client *client)
{
	if (client->get_map.count > 0)
		return client->is_settled;
	return !is_anybody_awaited(client);
}

void members_tried(struct client *client)
{
	if (!client->is_settled && !is_anybody_awaited(client))
		settle(client);
	if (!list_is_empty(&client->texts) && members_are_out(client))
		text_fail_waiting(client, members_code(client));
	if (!list_is_empty(&client->spreading))
		client->env->ops->defer(client->env, &client->pump_task);
}

static void settle_timer(struct env_timer *timer)
{
	struct client *client = CONTAINER_OF(timer, struct client, settle_timer);

	CHECK_OBJ(client, CLIENT_MAGIC);
	settle(client);
	members_tried(client);
}

bool members_are_out(const struct client *client)
{
	if (is_anybody_awaited(client))
		return false;
	for (uint32_t i = 0; i < client->server_count; i++) {
		const struct client_server *server = &client->servers[i];

		if (server->is_used && server->is_member &&
		    (session_is_up(server->primary) ||
		     breaker_is_closed(&server->primary->breaker)))
			return false;
	}
	return true;
}

int members_code(const struct client *client)
{
	int code = -ERR_UNREACHABLE;

	for (uint32_t i = client->server_count; i-- > 0;) {
		const struct client_server *server = &client->servers[i];

		if (server->is_used && server->is_member &&
		    !breaker_is_closed(&server->primary->breaker))
			code = breaker_code(&server->primary->breaker);
	}
	return code;
}

/* --- rows --- */

/* A row, and a session for it. */
static struct client_server *row_find(struct client *client)
{
	uint32_t row_max = MIN((uint32_t)SERVER_MAX, client->opts.session_max);

	if (list_is_empty(&client->free_sessions))
		return NULL;
	for (uint32_t i = 0; i < row_max; i++) {
		if (!client->servers[i].is_used) {
			client->server_count = MAX(client->server_count, i + 1);
			return &client->servers[i];
		}
	}
	return NULL;
}

/* Servers that are no members any more, and have nothing under way. */
static void rows_sweep(struct client *client, bool is_forced)
{
	for (uint32_t i = 0; i < client->server_count; i++) {
		struct client_server *server = &client->servers[i];

		if (server->is_used && !server->is_member && (is_forced || server_is_idle(server)))
			server_end(server, -ERR_UNREACHABLE);
	}
}

static void member_add(struct client *client, uint32_t host, const char *address)
{
	struct client_server *server = row_find(client);

	if (server == NULL) {
		rows_sweep(client, true);
		server = row_find(client);
	}
	if (server == NULL) {
		log_warn("server %s is left out: this client speaks to %u at most", address,
			 MIN((uint32_t)SERVER_MAX, client->opts.session_max));
		return;
	}
	server_begin(server, host, address);
	if (client->is_wanted)
		session_want(server->primary);
}

/* --- names --- */

static bool is_among(const struct env_resolve *resolve, const char *address)
{
	for (uint32_t i = 0; i < resolve->count; i++) {
		if (strcmp(resolve->addresses[i], address) == 0)
			return true;
	}
	return false;
}

static struct client_server *member_find(struct client *client, uint32_t host, const char *address)
{
	for (uint32_t i = 0; i < client->server_count; i++) {
		struct client_server *server = &client->servers[i];

		if (server->is_used && server->host == host &&
		    strcmp(server->address, address) == 0)
			return server;
	}
	return NULL;
}

static void host_answered(struct client_host_state *host, const struct env_resolve *resolve)
{
	struct client *client = host->client;

	for (uint32_t i = 0; i < client->server_count; i++) {
		struct client_server *server = &client->servers[i];

		if (!server->is_used || server->host != host->index ||
		    is_among(resolve, server->address))
			continue;
		if (server->is_member)
			log_info("server %s is no member any more", server->address);
		server->is_member = false;
	}
	for (uint32_t i = 0; i < resolve->count; i++) {
		struct client_server *server =
			member_find(client, host->index, resolve->addresses[i]);

		if (server != NULL)
			server->is_member = true;
		else
			member_add(client, host->index, resolve->addresses[i]);
	}
	rows_sweep(client, false);
	members_changed(client);
}

static void host_timer_in(struct client_host_state *host, uint64_t pause_ns)
{
	struct env *env = host->client->env;

	env->ops->timer_set(env, &host->timer, env_now_ns(env) + pause_ns);
}

static void host_failed(struct client_host_state *host, int why, uint32_t weight)
{
	struct client *client = host->client;
	bool was_closed = breaker_is_closed(&host->breaker);
	uint64_t pause_ns = breaker_fail(&host->breaker, why, weight, client_chance(client));

	if (was_closed && !breaker_is_closed(&host->breaker)) {
		client->stat.breaker_opens++;
		log_warn("host %s has no address: %s%s", host->resolver->host, err_str(why),
			 host->is_resolved ? "; its servers stay as they were"
					   : "; its blocks miss until it has");
	}
	host_timer_in(host, pause_ns);
	members_tried(client);
}

static void resolve_done(struct env_resolve *resolve)
{
	struct resolver *resolver = CONTAINER_OF(resolve, struct resolver, resolve);
	struct client_host_state *host = resolver->state;

	resolver->is_busy = false;
	if (host == NULL) {
		resolver->env->ops->free(resolver->env, resolver);
		return;
	}
	CHECK_OBJ(host->client, CLIENT_MAGIC);
	if (resolve->result < 0 || resolve->count == 0) {
		host_failed(host, resolve->result < 0 ? resolve->result : -EHOSTUNREACH, 1);
		return;
	}
	host->is_resolved = true;
	breaker_succeed(&host->breaker);
	host_timer_in(host, RESOLVE_NS + client_chance(host->client) % (RESOLVE_NS / 10));
	host_answered(host, resolve);
	members_tried(host->client);
}

static void host_resolve(struct client_host_state *host)
{
	struct client *client = host->client;
	struct resolver *resolver = host->resolver;

	ASSERT(!resolver->is_busy);
	breaker_try(&host->breaker);
	host->asked_ns = env_now_ns(client->env);
	resolver->is_busy = true;
	resolver->resolve = (struct env_resolve) {
		.done = resolve_done,
		.host = resolver->host,
		.port = client->opts.target.hosts[host->index].port,
	};
	host_timer_in(host, client->opts.connect_timeout_ns);
	client->env->ops->resolve(client->env, &resolver->resolve);
}

static void host_timer(struct env_timer *timer)
{
	struct client_host_state *host = CONTAINER_OF(timer, struct client_host_state, timer);

	CHECK_OBJ(host->client, CLIENT_MAGIC);
	if (host->resolver->is_busy)
		host_failed(host, -ETIMEDOUT, BREAKER_LIMIT); /* and its answer is still awaited */
	else
		host_resolve(host);
}

void members_resolve_soon(struct client *client, uint32_t index)
{
	struct client_host_state *host = &client->hosts[index];
	struct env *env = client->env;
	uint64_t when_ns = host->asked_ns + RESOLVE_SOON_NS;

	if (client->is_ending || host->resolver == NULL || host->resolver->is_busy ||
	    !client->is_wanted)
		return;
	if (!host->timer.is_set || host->timer.when_ns > when_ns)
		env->ops->timer_set(env, &host->timer, MAX(when_ns, env_now_ns(env)));
}

/* --- for the client --- */

void members_want(struct client *client)
{
	struct env *env = client->env;

	if (client->is_wanted)
		return;
	client->is_wanted = true;
	env->ops->timer_set(env, &client->settle_timer,
			    env_now_ns(env) + client->opts.connect_timeout_ns + NS_PER_MS);
	for (uint32_t i = 0; i < client->server_count; i++)
		session_want(client->servers[i].primary);
	for (uint32_t i = 0; i < client->opts.target.host_count; i++) {
		if (client->hosts[i].resolver != NULL)
			host_timer_in(&client->hosts[i], 0);
	}
}

static void numeric_add(struct client *client, uint32_t index)
{
	const struct client_host *host = &client->opts.target.hosts[index];
	char address[160];

	if (host->port == 0)
		snprintf(address, sizeof(address), "%s", host->host);
	else
		snprintf(address, sizeof(address),
			 strchr(host->host, ':') != NULL ? "[%s]:%u" : "%s:%u", host->host,
			 host->port);
	member_add(client, index, address);
}

static int resolver_create(struct client *client, struct client_host_state *host)
{
	struct env *env = client->env;
	struct resolver *resolver = env->ops->alloc(env, sizeof(*resolver));

	if (resolver == NULL)
		return -ENOMEM;
	*resolver = (struct resolver) { .env = env, .state = host };
	snprintf(resolver->host, sizeof(resolver->host), "%s",
		 client->opts.target.hosts[host->index].host);
	host->resolver = resolver;
	return 0;
}

int members_create(struct client *client)
{
	client->settle_timer.fire = settle_timer;
	for (uint32_t i = 0; i < client->opts.session_max; i++)
		session_init(&client->sessions[i], client, i);
	for (uint32_t i = 0; i < SERVER_MAX; i++)
		server_init(&client->servers[i], client, i);
	for (uint32_t i = 0; i < client->opts.target.host_count; i++) {
		struct client_host_state *host = &client->hosts[i];

		*host = (struct client_host_state) {
			.client = client,
			.index = i,
			.timer.fire = host_timer,
		};
		if (client->opts.target.hosts[i].is_numeric)
			numeric_add(client, i);
		else if (resolver_create(client, host) < 0)
			return -ENOMEM;
	}
	return 0;
}

void members_destroy(struct client *client)
{
	struct env *env = client->env;

	env->ops->timer_clear(env, &client->settle_timer);
	for (uint32_t i = 0; i < client->server_count; i++) {
		if (client->servers[i].is_used)
			server_end(&client->servers[i], -ECANCELED);
	}
	for (uint32_t i = 0; i < client->opts.target.host_count; i++) {
		struct client_host_state *host = &client->hosts[i];

		env->ops->timer_clear(env, &host->timer);
		if (host->resolver == NULL)
			continue;
		if (host->resolver->is_busy)
			host->resolver->state = NULL;
		else
			env->ops->free(env, host->resolver);
	}
}
