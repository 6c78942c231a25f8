/* SPDX-License-Identifier: Apache-2.0 */
/* Which servers there are, what the name server says of it, and whether clients know. */
#include "cluster.h"

#include "../../src/wire/place.h"

#include <stdio.h>
#include <string.h>

void members_names_cb(void *ctx, struct env_resolve *resolve)
{
	const struct cluster *cluster = ctx;

	resolve->count = 0;
	for (uint32_t i = 0; i < cluster->server_count; i++) {
		const struct server *server = &cluster->servers[i];

		if (server->is_listed)
			snprintf(resolve->addresses[resolve->count++],
				 sizeof(resolve->addresses[0]), "%s", server->address);
	}
}

/* "server0:9900" */
static void host_of(const struct server *server, struct client_host *host)
{
	*host = (struct client_host) { .port = WIRE_PORT, .is_numeric = true };
	snprintf(host->host, sizeof(host->host), "%.*s", (int)strcspn(server->address, ":"),
		 server->address);
}

void members_target(const struct cluster *cluster, struct client_target *target)
{
	target->host_count = 1;
	if (cluster->has_names) {
		target->hosts[0] = (struct client_host) { .host = "servers", .port = WIRE_PORT };
		return;
	}
	target->host_count = cluster->server_count;
	for (uint32_t i = 0; i < cluster->server_count; i++)
		host_of(&cluster->servers[i], &target->hosts[i]);
}

/* --- change --- */

static struct server *pick(struct cluster *cluster)
{
	return &cluster->servers[rng_below(&cluster->sim->rng, cluster->server_count)];
}

static uint32_t live_count(const struct cluster *cluster)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < cluster->server_count; i++)
		count += !cluster->servers[i].is_gone;
	return count;
}

void members_change(struct cluster *cluster)
{
	struct rng *rng = &cluster->sim->rng;
	struct server *server = pick(cluster);
	uint64_t choice = rng_below(rng, 3);

	if (!cluster->has_names || server->is_gone)
		return;
	if (choice == 0 && cluster->server_count < SERVERS_MAX) {
		server = server_add(cluster);
		sim_note(cluster->sim, "server %u is new", server->number);
		server_start(server);
		return;
	}
	if (choice == 1 && live_count(cluster) < 2)
		return;
	if (server->is_up)
		server_kill(server, rng_chance(rng, 5000));
	if (choice == 1) {
		sim_note(cluster->sim, "server %u is gone for good", server->number);
		server->is_gone = true;
		server->is_listed = rng_chance(rng, 5000); /* the name server may not know yet */
	} else {
		server_move(server);
	}
}

/* --- what clients know --- */

static const struct server *server_at(const struct cluster *cluster, const char *address)
{
	for (uint32_t i = 0; i < cluster->server_count; i++) {
		if (strcmp(cluster->servers[i].address, address) == 0)
			return &cluster->servers[i];
	}
	return NULL;
}

bool members_are_known(const struct cluster *cluster, const struct user *user)
{
	struct ctxkv_server rows[2 * SERVERS_MAX * 4];
	uint32_t count = client_get_servers(user->client, rows, sizeof(rows[0]), ARRAY_LEN(rows));
	uint32_t up = 0;

	ASSERT(count <= ARRAY_LEN(rows));
	for (uint32_t i = 0; i < count; i++) {
		const struct server *server = server_at(cluster, rows[i].address);

		if (rows[i].state == CTXKV_SERVER_GONE)
			continue;
		if (rows[i].state != CTXKV_SERVER_UP || server == NULL || server->is_gone)
			return false;
		up++;
	}
	return up == live_count(cluster);
}

/* --- at rest --- */

/* Who has the identity's place, by arithmetic over those that are there. */
static struct server *server_of(struct cluster *cluster, uint32_t ident)
{
	struct place_member members[SERVERS_MAX];
	struct place_row rows[SERVERS_MAX];
	struct place_map map;
	uint32_t count = 0;
	uint8_t place[16];

	for (uint32_t i = 0; i < cluster->server_count; i++) {
		const struct server *server = &cluster->servers[i];

		if (server->is_gone)
			continue;
		members[count] = (struct place_member) { .weight = server->weight, .value = i };
		members[count++].uuid[0] = (uint8_t)(server->number + 1);
	}
	place_map_init(&map, rows, members, count);
	user_place(cluster, ident, place);
	return &cluster->servers[place_server(&map, place)];
}

static bool get(struct cluster *cluster, struct user *user, uint32_t ident)
{
	user_ask(user, CTXKV_OP_GET, ident);
	finish_ops(cluster);
	return user->last_status == 0 || user->last_status == -EINVAL; /* behind its end */
}

/* A client of one server alone sees what is there. */
static void auditor_start(struct cluster *cluster, struct user *auditor,
			  const struct server *server)
{
	user_init(auditor, cluster, CLIENT_MAX + server->number + 1);
	auditor->opts = cluster->users[0].opts;
	auditor->opts.target.host_count = 1;
	host_of(server, &auditor->opts.target.hosts[0]);
	user_start(auditor);
}

void members_audit(struct cluster *cluster)
{
	struct user *auditors = cluster->auditors;
	uint32_t ident_count = cluster->model.ident_count;

	for (uint32_t i = 0; i < cluster->server_count; i++) {
		if (!cluster->servers[i].is_gone)
			auditor_start(cluster, &auditors[i], &cluster->servers[i]);
	}
	for (uint32_t ident = 0; ident < ident_count; ident++) {
		struct server *server = server_of(cluster, ident);
		struct user *user =
			&cluster->users[rng_below(&cluster->sim->rng, cluster->user_count)];
		bool is_there = get(cluster, &auditors[server->number], ident);

		if (get(cluster, user, ident) != is_there)
			sim_fail(cluster->sim,
				 "identity %u is%s at server %u, which has its place, and client "
				 "%u says: %s",
				 ident, is_there ? "" : " not", server->number, user->number,
				 err_str(user->last_status));
	}
	for (uint32_t i = 0; i < cluster->server_count; i++) {
		if (cluster->servers[i].is_gone)
			continue;
		user_stop(&auditors[i], false, false);
		user_fini(&auditors[i]);
	}
}
