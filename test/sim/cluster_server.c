/* SPDX-License-Identifier: Apache-2.0 */
/* A server's process: start, death and orderly stop of the real reactors over the real store. */
#include "cluster.h"

#include <stdio.h>
#include <string.h>

#define DRAIN_NS       (20 * NS_PER_S)
#define START_PAUSE_NS (50 * NS_PER_MS)
#define RESTART_MAX_NS (5 * NS_PER_S)
#define OUTAGE_MAX_NS  (100 * NS_PER_S) /* of one of several: beyond the 60 s */

static uint64_t part_forgotten(const struct part *part)
{
	struct shard_stats stats;

	if (part->shard == NULL)
		return 0;
	shard_get_stats(part->shard, &stats);
	return stats.forgotten;
}

static bool part_has_lied(const struct part *part)
{
	struct shard_stats stats;

	if (part->shard == NULL)
		return true;
	shard_get_stats(part->shard, &stats);
	return stats.corrupt > 0 || stats.io_errors > 0 || stats.is_offline;
}

bool servers_have_lied(const struct cluster *cluster)
{
	bool has_lied = false;

	for (uint32_t i = 0; i < cluster->server_count; i++) {
		for (uint32_t j = 0; j < cluster->reactor_count; j++)
			has_lied |= part_has_lied(&cluster->servers[i].parts[j]);
	}
	return has_lied;
}

static uint64_t server_forgotten(const struct server *server)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < server->cluster->reactor_count; i++)
		sum += part_forgotten(&server->parts[i]);
	return sum;
}

uint64_t servers_forgotten(const struct cluster *cluster)
{
	uint64_t sum = cluster->forgotten;

	for (uint32_t i = 0; i < cluster->server_count; i++)
		sum += server_forgotten(&cluster->servers[i]);
	return sum;
}

bool server_has_dead_disk(const struct server *server)
{
	bool is_dead = false;

	for (uint32_t i = 0; i < server->cluster->reactor_count; i++)
		is_dead |= server->parts[i].disk->is_dead;
	return is_dead;
}

/* --- start --- */

static int open_store(struct server *server, struct part *part)
{
	struct cluster *cluster = server->cluster;
	char message[256] = "";
	int rc;

	if (!cluster->is_memory) {
		rc = medium_open(&part->env->env, part->disk->path, cluster->life, &part->medium,
				 message);
		if (rc < 0)
			return rc;
	}
	return shard_open(&part->env->env, part->medium, 0,
			  cluster->is_memory ? &cluster->memory : NULL, &cluster->shard_opts,
			  &part->shard);
}

static void open_reactor(struct server *server, uint32_t index)
{
	struct cluster *cluster = server->cluster;
	struct part *part = &server->parts[index];
	struct reactor_listen listen = { .ops = cluster->xprt, .address = server->address };
	struct reactor_opts opts = cluster->reactor_opts;
	char message[256] = "";
	int rc;

	opts.shards = &part->shard;
	opts.shard_count = 1;
	opts.tenants = server->tenants;
	opts.listens = &listen;
	opts.listen_count = 1;
	opts.incarnation = cluster->life;
	opts.weight = server->weight;
	opts.server[0] = (uint8_t)(server->number + 1);
	opts.index = (uint16_t)index;
	opts.reactor_count = (uint16_t)cluster->reactor_count;
	opts.table = server->table;
	opts.table_count = cluster->reactor_count;
	opts.mailboxes = server->mailboxes;
	rc = reactor_create(&part->env->env, &opts, &part->reactor, message);
	if (rc < 0)
		sim_fail(cluster->sim, "reactor: %s (%s)", message, err_str(rc));
}

static int open_all(struct server *server)
{
	struct cluster *cluster = server->cluster;
	char message[256] = "";
	int rc = 0;

	for (uint32_t i = 0; i < cluster->reactor_count && rc == 0; i++)
		rc = open_store(server, &server->parts[i]);
	if (rc < 0)
		return rc;
	rc = tenants_create(&server->parts[0].env->env, cluster->keyfile, &server->tenants,
			    message);
	if (rc < 0)
		sim_fail(cluster->sim, "tenants: %s", message);
	for (uint32_t i = 0; i < cluster->reactor_count; i++) {
		struct part *part = &server->parts[i];

		mailbox_init(&part->mailbox, &part->env->env);
		server->mailboxes[i] = &part->mailbox;
		server->table[i] = (struct reactor_shard) { .reactor = (uint16_t)i, .weight = 1 };
		shard_get_uuid(part->shard, server->table[i].uuid);
	}
	for (uint32_t i = cluster->reactor_count; i-- > 0;)
		open_reactor(server, i); /* the doors open last */
	for (uint32_t i = 0; i < cluster->reactor_count; i++) {
		struct env *env = &server->parts[i].env->env;

		env->ops->seal(env);
		reactor_mail(server->parts[i].reactor);
	}
	return 0;
}

/* --- end --- */

static void close_memory(struct server *server)
{
	struct cluster *cluster = server->cluster;

	tenants_destroy(&server->parts[0].env->env, &server->tenants);
	for (uint32_t i = 0; i < cluster->reactor_count; i++)
		sim_env_destroy(&server->parts[i].env);
	server->is_up = false;
	cluster->life++;
}

static void part_end(struct cluster *cluster, struct part *part)
{
	struct metrics metrics;

	if (part->reactor == NULL)
		return;
	reactor_get_metrics(part->reactor, &metrics);
	metrics_add(&cluster->metrics, &metrics);
	reactor_destroy(&part->reactor);
}

/* Whatever is left of the process; of one that dies while it starts, too. Clients hear of it one by
 * one: meanwhile they place differently. A disk's death kills in runs without other trouble. */
static void bury(struct server *server, bool is_power_loss)
{
	struct cluster *cluster = server->cluster;

	if (cluster->server_count > 1)
		cluster->model.is_lenient = true;
	cluster->forgotten += server_forgotten(server);
	for (uint32_t i = 0; i < cluster->reactor_count; i++) {
		sim_env_kill(server->parts[i].env, is_power_loss);
		if (!cluster->is_memory)
			sim_disk_crash(server->parts[i].disk, is_power_loss);
	}
	for (uint32_t i = 0; i < cluster->reactor_count; i++) {
		struct part *part = &server->parts[i];

		part_end(cluster, part);
		(void)shard_close(&part->shard, true); /* a crash has no result */
		medium_close(&part->medium);
	}
	close_memory(server);
	model_crash(&cluster->model);
}

void server_start(struct server *server)
{
	struct cluster *cluster = server->cluster;
	struct sim *sim = cluster->sim;
	char name[24];
	int rc;

	if (sim->has_faults && !cluster->is_memory && rng_chance(&sim->rng, 1500))
		server->parts[rng_below(&sim->rng, cluster->reactor_count)].disk->dies_in =
			rng_log(&sim->rng, 1, 100);
	cluster->life++;
	for (uint32_t i = 0; i < cluster->reactor_count; i++) {
		snprintf(name, sizeof(name), "server%u.%u", server->number, i);
		server->parts[i].env = sim_env_create(sim, name, server->number);
	}
	rc = open_all(server);
	sim_note(sim, "server %u starts at %s: %s", server->number, server->address, err_str(rc));
	server->is_up = rc == 0;
	if (rc == 0)
		return;
	if (cluster->is_memory || !server_has_dead_disk(server))
		sim_fail(sim, "server %u does not start: %s", server->number, err_str(rc));
	bury(server, true);
	server->restart_ns = sim->now_ns + START_PAUSE_NS;
}

static uint64_t outage_ns(struct cluster *cluster, uint64_t max_ns)
{
	if (cluster->server_count > 1 && rng_chance(&cluster->sim->rng, 3000))
		max_ns = OUTAGE_MAX_NS;
	return rng_log(&cluster->sim->rng, NS_PER_MS, max_ns);
}

void server_kill(struct server *server, bool is_power_loss)
{
	struct cluster *cluster = server->cluster;
	struct sim *sim = cluster->sim;

	sim_note(sim, "server %u is killed, power loss %d", server->number, is_power_loss);
	bury(server, is_power_loss);
	cluster->kills++;
	server->restart_ns = sim->now_ns + outage_ns(cluster, RESTART_MAX_NS);
}

static bool is_idle(const struct server *server)
{
	bool is = true;

	for (uint32_t i = 0; i < server->cluster->reactor_count; i++)
		is &= reactor_is_idle(server->parts[i].reactor);
	return is;
}

/* The reactors have stopped: close what they had. */
static void close_shards(struct server *server)
{
	struct cluster *cluster = server->cluster;

	cluster->forgotten += server_forgotten(server);
	for (uint32_t i = 0; i < cluster->reactor_count; i++)
		part_end(cluster, &server->parts[i]);
	for (uint32_t i = 0; i < cluster->reactor_count; i++) {
		struct part *part = &server->parts[i];
		int rc = shard_close(&part->shard, false);

		sim_note(cluster->sim, "server %u stops: %s", server->number, err_str(rc));
		if (rc < 0 && !part->disk->is_dead)
			sim_fail(cluster->sim, "a shard does not stop: %s", err_str(rc));
	}
}

/* Some disk died while the server stopped: that was a crash of the whole host. */
static void stop_in_crash(struct server *server)
{
	struct cluster *cluster = server->cluster;

	for (uint32_t i = 0; i < cluster->reactor_count; i++) {
		struct part *part = &server->parts[i];

		sim_env_kill(part->env, true);
		sim_disk_crash(part->disk, true);
		medium_close(&part->medium);
	}
	close_memory(server);
	model_crash(&cluster->model);
}

void server_stop(struct server *server)
{
	struct cluster *cluster = server->cluster;
	struct sim *sim = cluster->sim;
	uint64_t until_ns = sim->now_ns + DRAIN_NS;

	sim_note(sim, "server %u drains", server->number);
	for (uint32_t i = 0; i < cluster->reactor_count; i++)
		reactor_finish(server->parts[i].reactor);
	while (!is_idle(server) && sim->now_ns < until_ns && !server_has_dead_disk(server))
		(void)sim_step(sim); /* the drain's timers are there */
	if (server_has_dead_disk(server) || !is_idle(server)) {
		server_kill(server, true);
		return;
	}
	close_shards(server);
	if (server_has_dead_disk(server)) {
		stop_in_crash(server);
	} else {
		for (uint32_t i = 0; i < cluster->reactor_count; i++)
			medium_close(&server->parts[i].medium);
		close_memory(server);
		if (cluster->is_memory)
			model_crash(&cluster->model);
		else
			model_stop(&cluster->model);
	}
	cluster->restarts++;
	server->restart_ns = sim->now_ns + outage_ns(cluster, NS_PER_S);
}

void server_move(struct server *server)
{
	ASSERT(!server->is_up);
	snprintf(server->address, sizeof(server->address), "server%u-%u:9900", server->number,
		 ++server->moves);
}

void server_check_idle(const struct server *server)
{
	for (uint32_t i = 0; i < server->cluster->reactor_count; i++) {
		struct metrics metrics;

		reactor_get_metrics(server->parts[i].reactor, &metrics);
		metrics.sessions += metrics.sessions_idle;
		if (metrics.sessions != 0 || metrics.ops != 0 || metrics.buffers_used != 0)
			sim_fail(server->cluster->sim,
				 "at rest reactor %u of server %u keeps %llu sessions, %llu "
				 "operations, %llu bytes",
				 i, server->number, (unsigned long long)metrics.sessions,
				 (unsigned long long)metrics.ops,
				 (unsigned long long)metrics.buffers_used);
	}
}

/* --- a new one --- */

static void setup_medium(struct cluster *cluster, const struct sim_disk *disk)
{
	struct sim_env *env = sim_env_create(cluster->sim, "setup", 0);
	struct medium_spec spec = { .path = disk->path,
				    .size = disk->size,
				    .segment_room = cluster->memory.segment_room,
				    .block_max = cluster->block_max,
				    .is_sparse = true };
	struct medium_info info;
	char message[256] = "";
	int rc = medium_setup(&env->env, &spec, &info, message);

	if (rc < 0)
		sim_fail(cluster->sim, "setup: %s", message);
	sim_env_destroy(&env);
}

struct server *server_add(struct cluster *cluster)
{
	struct server *server = &cluster->servers[cluster->server_count];
	struct rng *rng = &cluster->sim->rng;
	char path[32];

	ASSERT(cluster->server_count < SERVERS_MAX);
	*server = (struct server) {
		.cluster = cluster,
		.number = cluster->server_count++,
		.is_listed = true,
		.weight = (uint32_t)rng_range(rng, 1, 4) * 50,
	};
	snprintf(server->address, sizeof(server->address), "server%u:9900", server->number);
	for (uint32_t i = 0; i < cluster->reactor_count; i++) {
		struct part *part = &server->parts[i];

		snprintf(path, sizeof(path), "medium%u.%u", server->number, i);
		part->disk = sim_disk_create(cluster->sim, path, cluster->disk_size);
		part->disk->faults.delay_max_ns = cluster->disk_delay_ns;
		setup_medium(cluster, part->disk);
	}
	return server;
}
