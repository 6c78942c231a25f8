/* SPDX-License-Identifier: Apache-2.0 */
/* The server's process: start, death and orderly stop of the real reactor over the real store. */
#include "cluster.h"

#include <stdio.h>
#include <string.h>

#define SERVER_NODE    0
#define DRAIN_NS       (20 * NS_PER_S)
#define START_PAUSE_NS (50 * NS_PER_MS)

static const char keyfile[] =
	"t1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

uint64_t server_forgotten(const struct cluster *cluster)
{
	struct shard_stats stats;

	if (cluster->server.shard == NULL)
		return cluster->forgotten;
	shard_get_stats(cluster->server.shard, &stats);
	return cluster->forgotten + stats.forgotten + stats.forgotten_index_full;
}

static int open_store(struct cluster *cluster)
{
	struct server *server = &cluster->server;
	char message[256] = "";
	int rc;

	if (!cluster->is_memory) {
		rc = medium_open(&server->env->env, cluster->disk->path, cluster->life,
				 &server->medium, message);
		if (rc < 0)
			return rc;
	}
	return shard_open(&server->env->env, server->medium, 0,
			  cluster->is_memory ? &cluster->memory : NULL, &cluster->shard_opts,
			  &server->shard);
}

static int open_all(struct cluster *cluster)
{
	struct server *server = &cluster->server;
	struct reactor_listen listen = { cluster->xprt, "server:9900" };
	struct reactor_opts opts = cluster->reactor_opts;
	char message[256] = "";
	int rc = open_store(cluster);

	if (rc < 0)
		return rc;
	rc = tenants_create(&server->env->env, keyfile, &server->tenants, message);
	if (rc < 0)
		sim_fail(cluster->sim, "tenants: %s", message);
	opts.shards = &server->shard;
	opts.shard_count = 1;
	opts.tenants = server->tenants;
	opts.listens = &listen;
	opts.listen_count = 1;
	opts.incarnation = cluster->life;
	opts.server[0] = 1;
	rc = reactor_create(&server->env->env, &opts, &server->reactor, message);
	if (rc < 0)
		sim_fail(cluster->sim, "reactor: %s (%s)", message, err_str(rc));
	server->env->env.ops->seal(&server->env->env);
	return 0;
}

/* Whatever is left of the process. */
static void bury(struct cluster *cluster, bool is_power_loss)
{
	struct server *server = &cluster->server;

	cluster->forgotten = server_forgotten(cluster);
	sim_env_kill(server->env, is_power_loss);
	if (!cluster->is_memory)
		sim_disk_crash(cluster->disk, is_power_loss);
	reactor_destroy(&server->reactor);
	(void)shard_close(&server->shard, true); /* a crash has no result */
	medium_close(&server->medium);
	tenants_destroy(&server->env->env, &server->tenants);
	sim_env_destroy(&server->env);
	model_crash(&cluster->model);
	cluster->life++;
}

void server_start(struct cluster *cluster)
{
	struct sim *sim = cluster->sim;
	int rc;

	if (sim->has_faults && !cluster->is_memory && rng_chance(&sim->rng, 1500))
		cluster->disk->dies_in = rng_log(&sim->rng, 1, 100);
	cluster->life++;
	cluster->server.env = sim_env_create(sim, "server", SERVER_NODE);
	rc = open_all(cluster);
	sim_note(sim, "server starts: %s", err_str(rc));
	if (rc == 0)
		return;
	if (cluster->is_memory || !cluster->disk->is_dead)
		sim_fail(sim, "the server does not start: %s", err_str(rc));
	bury(cluster, true);
	cluster->restart_ns = sim->now_ns + START_PAUSE_NS;
}

void server_kill(struct cluster *cluster, bool is_power_loss)
{
	struct sim *sim = cluster->sim;

	sim_note(sim, "server is killed, power loss %d", is_power_loss);
	bury(cluster, is_power_loss);
	cluster->kills++;
	cluster->restart_ns = sim->now_ns + rng_log(&sim->rng, NS_PER_MS, 5 * NS_PER_S);
}

void server_stop(struct cluster *cluster)
{
	struct sim *sim = cluster->sim;
	struct server *server = &cluster->server;
	uint64_t until_ns = sim->now_ns + DRAIN_NS;
	int rc;

	sim_note(sim, "server drains");
	reactor_finish(server->reactor);
	while (!reactor_is_idle(server->reactor) && sim->now_ns < until_ns &&
	       !cluster->disk->is_dead)
		(void)sim_step(sim); /* the drain's timers are there */
	if (cluster->disk->is_dead || !reactor_is_idle(server->reactor)) {
		server_kill(cluster, true);
		return;
	}
	cluster->forgotten = server_forgotten(cluster);
	reactor_destroy(&server->reactor);
	rc = shard_close(&server->shard, false);
	sim_note(sim, "server stops: %s", err_str(rc));
	if (cluster->disk->is_dead) {
		bury(cluster, true);
	} else {
		if (rc < 0)
			sim_fail(sim, "the shard does not stop: %s", err_str(rc));
		medium_close(&server->medium);
		tenants_destroy(&server->env->env, &server->tenants);
		sim_env_destroy(&server->env);
		if (cluster->is_memory)
			model_crash(&cluster->model);
		else
			model_stop(&cluster->model);
		cluster->life++;
	}
	cluster->restarts++;
	cluster->restart_ns = sim->now_ns + rng_log(&sim->rng, NS_PER_MS, NS_PER_S);
}

void server_check_idle(struct cluster *cluster)
{
	struct metrics metrics;

	reactor_get_metrics(cluster->server.reactor, &metrics);
	if (metrics.sessions != 0 || metrics.ops != 0 || metrics.buffers_used != 0)
		sim_fail(cluster->sim,
			 "at rest the server keeps %llu sessions, %llu operations, %llu bytes",
			 (unsigned long long)metrics.sessions, (unsigned long long)metrics.ops,
			 (unsigned long long)metrics.buffers_used);
}
