/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim: servers and their clients, the real reactors, stores, transports and client core, over the
 * simulated disks and network. Transport loop (one-sided, or mapped) or tcp, media or memory, one
 * server or three, of one reactor or several, all limits by the seed.
 *
 *   1. Actions: clients ask; in between there is trouble: kills, power loss, orderly restarts,
 * cuts, freezes, of servers and of clients, at any event; where members come from the name server,
 *      servers that leave for good, come, and come back elsewhere.
 *   2. Calm: faults stop, everybody is there again. All clients must connect, and every operation
 *      must succeed now. Several servers: whatever is at the server that has its place, every
 *      client finds, and nothing else.
 *   3. The end: clients go, the server is at rest with nothing left over, it stops in order.
 *
 * Oracles: bytes (model.h), deadlines, no byte in a released buffer (cluster_user.c), misses
 * against what the store forgot (one server) or against what is there (several), nothing left over.
 * Where places may move (several servers and trouble) a block may stand at two, one of them older
 * or dropped meanwhile: the model is lenient then, as docs/failure-modes.md says.
 */
#include "cluster.h"
#include "run.h"

#include "../../src/xprt/loop/loop.h"

#include <inttypes.h>

#define STEPS_MAX    UINT64_C(3000000)
#define COME_BACK_NS (120 * NS_PER_S) /* breakers, half-open connections, sessions of the dead */
#define KEEPALIVE_NS (25 * NS_PER_S)
#define REST_NS      (120 * NS_PER_S)
#define CALM_ROUNDS  3
#define HELLO_DELAYS 12 /* of the net, at most, from the first connect() to the last WELCOME */

/* What the loop transport asks: cuts delay, the dead without a word lose. */
static uint64_t loop_delay_cb(struct env *from_env, struct env *to_env)
{
	struct sim_env *from = sim_env_of(from_env);
	const struct sim_env *to = sim_env_of(to_env);
	struct sim *sim = from->sim;
	uint64_t delay_ns = rng_log(&sim->rng, NS_PER_US, sim->net_delay_max_ns);
	uint64_t cut_ns = sim->cut_until_ns[from->node][to->node];

	if (from->is_silent)
		return ENV_FOREVER;
	if (sim->has_faults && cut_ns > sim->now_ns)
		delay_ns += cut_ns - sim->now_ns;
	return delay_ns;
}

/* --- the run's choices --- */

static void choose_store(struct cluster *cluster)
{
	struct rng *rng = &cluster->sim->rng;
	uint64_t room = DISK_SEGMENT_MIN << rng_below(rng, 5);
	uint32_t segments = (uint32_t)rng_range(rng, DISK_SEGMENTS_MIN, 3 * DISK_SEGMENTS_MIN);

	cluster->is_memory = rng_chance(rng, 2500);
	cluster->memory.segment_room = room;
	cluster->memory.size = segments * disk_segment_size(room);
	cluster->memory.block_max = rng_log(rng, 4 * KiB, room / 4);
	cluster->block_max = (uint32_t)cluster->memory.block_max;
	cluster->shard_opts = (struct shard_opts) {
		.index_entries = 4096,
		.queue_depth = (uint32_t)rng_range(rng, 1, 16),
		.put_max = (uint32_t)rng_range(rng, 64, 512),
		.write_size = 256 * KiB,
		.group_delay_ns = rng_log(rng, 1, 5 * NS_PER_MS),
		.verify = (enum store_verify)rng_below(rng, 3),
	};
	cluster->disk_size = round_up(DISK_EXTENT_ALIGN + DISK_SEGMENTS_OFFSET +
					      segments * disk_segment_size(room),
				      DISK_EXTENT_ALIGN);
	cluster->disk_delay_ns = rng_log(rng, 10 * NS_PER_US, 200 * NS_PER_MS);
}

/* So small that reclaim never rests, and what is read often is written again. */
static void choose_churn(struct cluster *cluster)
{
	struct rng *rng = &cluster->sim->rng;
	uint32_t segments = (uint32_t)rng_range(rng, DISK_SEGMENTS_MIN, DISK_SEGMENTS_MIN + 4);

	cluster->memory.segment_room = DISK_SEGMENT_MIN;
	cluster->memory.size = segments * disk_segment_size(DISK_SEGMENT_MIN);
	cluster->memory.block_max = rng_log(rng, 4 * KiB, DISK_SEGMENT_MIN / 4);
	cluster->block_max = (uint32_t)cluster->memory.block_max;
	cluster->shard_opts.reinsert_hits = (uint32_t)rng_below(rng, 3);
	cluster->shard_opts.reinsert_age = rng_chance(rng, 5000) ? 0 : 30;
	cluster->shard_opts.reinsert_share = rng_chance(rng, 5000) ? 75 : 13;
	cluster->disk_size = round_up(
		DISK_EXTENT_ALIGN + DISK_SEGMENTS_OFFSET + cluster->memory.size, DISK_EXTENT_ALIGN);
	cluster->actions_left = (uint32_t)rng_range(rng, 200, 2000);
	cluster->drop_rate = (uint32_t)rng_log(rng, 10, 1000);
}

/* One tenant, or two with a domain in common, of which one has a quota. */
static void choose_tenants(struct cluster *cluster)
{
	struct rng *rng = &cluster->sim->rng;
	char secrets[2][2 * AUTH_SECRET_SIZE + 1];

	for (uint32_t i = 0; i < 2 * AUTH_SECRET_SIZE; i++)
		snprintf(secrets[i / AUTH_SECRET_SIZE] + 2 * (i % AUTH_SECRET_SIZE), 3, "%02x", i);
	cluster->has_second = rng_chance(rng, 5000);
	if (!cluster->has_second) {
		snprintf(cluster->keyfile, sizeof(cluster->keyfile), "t1 %s\n", secrets[0]);
		return;
	}
	cluster->quota = rng_log(rng, PAGE_SIZE, cluster->memory.size);
	snprintf(cluster->keyfile, sizeof(cluster->keyfile),
		 "t1 %s domain=pool:read+write\nt2 %s domain=pool:read+write quota=%" PRIu64 "\n",
		 secrets[0], secrets[1], cluster->quota);
	auth_domain_id("pool", cluster->domain);
}

static void choose_server(struct cluster *cluster)
{
	struct rng *rng = &cluster->sim->rng;
	struct reactor_opts *opts = &cluster->reactor_opts;

	reactor_opts_init(opts);
	opts->verify = cluster->shard_opts.verify;
	opts->buffer_bytes = 8 * MiB;
	opts->session_max = 32;
	opts->lane_max = (uint32_t)rng_range(rng, 1, 4);
	opts->request_max = (uint32_t)rng_log(rng, 2, 64);
	opts->move_max = (uint32_t)rng_log(rng, 1, 64);
	opts->operation_max = (uint32_t)rng_log(rng, 4, 256); /* fewer than are asked for */
	opts->pending_max = 16;
	opts->lease_max = (uint32_t)rng_log(rng, 4, 64);
	opts->lease_block_max = (uint32_t)rng_log(rng, 4, 256);
}

static void choose_users(struct cluster *cluster)
{
	struct rng *rng = &cluster->sim->rng;

	cluster->user_count = (uint32_t)(cluster->server_count > 1 ? rng_range(rng, 8, CLIENT_MAX)
								   : rng_range(rng, 1, 5));
	for (uint32_t i = 0; i < cluster->user_count; i++) {
		struct user *user = &cluster->users[i];

		user_init(user, cluster, i + 1);
		user->opts = (struct client_opts) {
			.target = { .tenant = "t1" },
			.xprt = cluster->xprt,
			.lanes = (uint32_t)rng_range(rng, 1, 4),
			.inflight_max = (uint32_t)rng_log(rng, 2, 64),
			.probe_timeout_ns = NS_PER_S,
			.timeout_ns = cluster->timeout_max_ns,
			.connect_timeout_ns = rng_log(rng, 100 * NS_PER_MS, 2 * NS_PER_S),
			.release_wait_ns = rng_log(rng, NS_PER_MS, NS_PER_S),
		};
		members_target(cluster, &user->opts.target);
		/* Who has not heard of all servers by then goes on with those that he has heard of.
		 */
		cluster->model.is_lenient |= cluster->server_count > 1 &&
					     user->opts.connect_timeout_ns <
						     HELLO_DELAYS * cluster->sim->net_delay_max_ns;
		user->is_second = cluster->has_second && i > 0 && rng_chance(rng, 5000);
		if (user->is_second)
			user->opts.target.tenant[1] = '2';
		for (uint32_t b = 0; b < AUTH_SECRET_SIZE; b++)
			user->opts.target.secret.bytes[b] =
				(uint8_t)(b + (user->is_second ? AUTH_SECRET_SIZE : 0));
	}
}

static void choose_shape(struct cluster *cluster)
{
	struct rng *rng = &cluster->sim->rng;
	uint32_t servers = rng_chance(rng, 5000) ? 3 : 1;

	cluster->reactor_count =
		rng_chance(rng, 5000) ? 1 : (uint32_t)rng_range(rng, 2, REACTORS_MAX);
	cluster->has_names = rng_chance(rng, 5000);
	cluster->run_size = (uint32_t)rng_below(rng, 9);
	/* A reset in a first hello leaves a client without that server for a while. */
	cluster->model.is_lenient =
		servers > 1 && (cluster->trouble > 0 || cluster->sim->reset_rate > 0);
	for (uint32_t i = 0; i < servers; i++)
		(void)server_add(cluster); /* the cluster has it */
}

static void choose(struct cluster *cluster)
{
	static const struct xprt_ops *const xprts[] = { &xprt_loop, &xprt_loop_mapped, &xprt_tcp,
							&xprt_tcp };
	struct sim *sim = cluster->sim;
	struct rng *rng = &sim->rng;

	cluster->xprt = xprts[rng_below(rng, ARRAY_LEN(xprts))];
	cluster->ns_count = (uint32_t)rng_range(rng, 1, 3);
	cluster->durable_rate = (uint32_t)rng_below(rng, 10001);
	cluster->timeout_max_ns = rng_log(rng, 100 * NS_PER_MS, 10 * NS_PER_S);
	cluster->actions_left = (uint32_t)rng_log(rng, 20, 500);
	cluster->trouble = rng_chance(rng, 2000) ? 0 : (uint32_t)rng_log(rng, 10, 1000);
	sim->net_delay_max_ns = rng_log(rng, 20 * NS_PER_US, 50 * NS_PER_MS);
	sim->net_window = (uint32_t)rng_log(rng, 4 * KiB, 256 * KiB);
	sim->reset_rate = rng_chance(rng, 7000) ? 0 : (uint32_t)rng_log(rng, 1, 100);
	sim->names = members_names_cb;
	sim->names_ctx = cluster;
	choose_store(cluster);
	cluster->drop_rate = 5000;
	if (rng_chance(rng, 5000))
		choose_churn(cluster);
	choose_tenants(cluster);
	choose_server(cluster);
	choose_shape(cluster);
	choose_users(cluster);
}

/* --- trouble --- */

static struct server *some_server(struct cluster *cluster)
{
	return &cluster->servers[rng_below(&cluster->sim->rng, cluster->server_count)];
}

static void freeze(struct cluster *cluster)
{
	struct sim *sim = cluster->sim;
	uint64_t size_ns = rng_log(&sim->rng, NS_PER_MS, FREEZE_MAX_NS);
	uint32_t who = (uint32_t)rng_below(&sim->rng, cluster->user_count + 2);
	struct server *server = some_server(cluster);

	if (who < cluster->user_count) {
		struct user *user = &cluster->users[who];

		if (user->env == NULL)
			return;
		sim_env_freeze(user->env, sim->now_ns + size_ns);
		user->late_ns += size_ns;
	} else if (server->is_up) {
		/* One reactor, or the whole process. */
		uint64_t one = rng_below(&sim->rng, cluster->reactor_count + 1);

		for (uint32_t i = 0; i < cluster->reactor_count; i++) {
			if (one == i || one == cluster->reactor_count)
				sim_env_freeze(server->parts[i].env, sim->now_ns + size_ns);
		}
	}
	sim_note(sim, "freeze of %u for %.3f s", who, (double)size_ns / 1e9);
}

static void cut(struct cluster *cluster)
{
	struct sim *sim = cluster->sim;
	uint64_t until_ns = sim->now_ns + rng_log(&sim->rng, NS_PER_MS, 10 * NS_PER_S);
	uint32_t server = some_server(cluster)->number;
	uint32_t node = SERVERS_MAX + (uint32_t)rng_range(&sim->rng, 1, cluster->user_count);
	uint64_t choice = rng_below(&sim->rng, 3); /* one way, the other, both */

	if (choice != 1)
		sim->cut_until_ns[server][node] = until_ns;
	if (choice != 0)
		sim->cut_until_ns[node][server] = until_ns;
	sim_note(sim, "cut of client %u from server %u until %.6f", node - SERVERS_MAX, server,
		 (double)until_ns / 1e9);
}

static void disk_trouble(struct cluster *cluster, struct server *server)
{
	struct rng *rng = &cluster->sim->rng;
	struct sim_disk *disk = server->parts[rng_below(rng, cluster->reactor_count)].disk;

	if (cluster->is_memory || disk->is_dead || !server->is_up)
		return;
	if (rng_chance(rng, 5000)) {
		disk->dies_in = rng_log(rng, 1, 50);
		return;
	}
	disk->slow_until_ns = cluster->sim->now_ns + rng_log(rng, 100 * NS_PER_MS, 20 * NS_PER_S);
	disk->slow_rate = rng_log(rng, 64 * KiB, 16 * MiB);
	sim_note(cluster->sim, "disk %s is slow, %" PRIu64 " bytes a second, until %.6f",
		 disk->path, disk->slow_rate, (double)disk->slow_until_ns / 1e9);
}

static void trouble(struct cluster *cluster)
{
	struct rng *rng = &cluster->sim->rng;
	struct user *user = &cluster->users[rng_below(rng, cluster->user_count)];
	struct server *server = some_server(cluster);

	switch (rng_below(rng, cluster->server_count > 1 ? 8 : 7)) {
	case 0:
		cut(cluster);
		break;
	case 1:
		freeze(cluster);
		break;
	case 2:
		if (user->env != NULL)
			user_stop(user, rng_chance(rng, 6000), rng_chance(rng, 5000));
		break;
	case 3:
		if (server->is_up)
			server_kill(server, rng_chance(rng, 5000));
		break;
	case 4:
		if (server->is_up)
			server_stop(server);
		break;
	case 5:
		disk_trouble(cluster, server);
		break;
	case 6:
		if (user->env == NULL)
			user_start(user);
		break;
	default:
		members_change(cluster);
		break;
	}
}

/* --- the run --- */

static void act_run(struct sim_event *event, bool is_dropped)
{
	struct cluster *cluster = CONTAINER_OF(event, struct cluster, act);

	/* Only the alarm: actions that block are made outside of sim_step(). */
	if (!is_dropped)
		cluster->is_act_due = true;
}

static void act(struct cluster *cluster)
{
	struct rng *rng = &cluster->sim->rng;

	cluster->is_act_due = false;
	if (cluster->actions_left == 0)
		return;
	cluster->actions_left--;
	if (rng_chance(rng, cluster->trouble))
		trouble(cluster);
	else
		(void)user_act(&cluster->users[rng_below(rng, cluster->user_count)]); /* absent */
	sim_env_schedule(cluster->ctl, &cluster->act, rng_log(rng, NS_PER_US, 200 * NS_PER_MS),
			 act_run);
}

/* One step, and what the outside does to the server. */
static void step(struct cluster *cluster)
{
	struct sim *sim = cluster->sim;

	if (sim->steps > STEPS_MAX)
		sim_fail(sim, "no end of steps");
	if (!sim_step(sim))
		sim->now_ns += NS_PER_MS;
	if (cluster->is_act_due)
		act(cluster);
	for (uint32_t i = 0; i < cluster->server_count; i++) {
		struct server *server = &cluster->servers[i];

		if (server->is_up && server_has_dead_disk(server))
			server_kill(server, rng_chance(&sim->rng, 5000));
		if (!server->is_up && !server->is_gone && sim->now_ns >= server->restart_ns)
			server_start(server);
	}
}

static bool has_ops(const struct cluster *cluster)
{
	for (uint32_t i = 0; i < cluster->user_count; i++) {
		if (!list_is_empty(&cluster->users[i].ops))
			return true;
	}
	for (uint32_t i = 0; i < SERVERS_MAX; i++) {
		const struct user *auditor = &cluster->auditors[i];

		if (auditor->env != NULL && !list_is_empty(&auditor->ops))
			return true;
	}
	return false;
}

static bool are_connected(const struct cluster *cluster)
{
	for (uint32_t i = 0; i < cluster->user_count; i++) {
		if (!members_are_known(cluster, &cluster->users[i]))
			return false;
	}
	return true;
}

static void run_for(struct cluster *cluster, uint64_t size_ns)
{
	uint64_t until_ns = cluster->sim->now_ns + size_ns;

	while (cluster->sim->now_ns < until_ns)
		step(cluster);
}

void finish_ops(struct cluster *cluster)
{
	uint64_t until_ns = cluster->sim->now_ns + COME_BACK_NS;

	while (has_ops(cluster)) {
		if (cluster->sim->now_ns > until_ns)
			sim_fail(cluster->sim, "operations do not end");
		step(cluster);
	}
}

static void calm_down(struct cluster *cluster)
{
	struct sim *sim = cluster->sim;
	uint64_t until_ns;

	sim_note(sim, "calm");
	sim->has_faults = false;
	sim->net_delay_max_ns = MIN(sim->net_delay_max_ns, NS_PER_MS);
	for (uint32_t i = 0; i < cluster->server_count; i++) {
		struct server *server = &cluster->servers[i];

		for (uint32_t r = 0; r < cluster->reactor_count; r++)
			server->parts[r].disk->dies_in = 0;
		server->restart_ns = 0;
		server->is_listed = !server->is_gone;
	}
	for (uint32_t i = 0; i < cluster->user_count; i++) {
		if (cluster->users[i].env == NULL)
			user_start(&cluster->users[i]);
	}
	finish_ops(cluster);
	run_for(cluster, KEEPALIVE_NS); /* who waits for the dead hears of it */
	until_ns = sim->now_ns + COME_BACK_NS;
	do {
		for (uint32_t i = 0; i < cluster->user_count; i++)
			client_connect(cluster->users[i].client);
		run_for(cluster, NS_PER_S);
		if (sim->now_ns > until_ns)
			sim_fail(sim, "a client does not come back");
	} while (!are_connected(cluster));
}

/* Nothing is wrong: whatever is asked must be done. */
static void calm_ask(struct cluster *cluster)
{
	run_for(cluster, LEASE_MS_MAX * NS_PER_MS); /* nothing is leased any more */
	cluster->timeout_max_ns = 10 * NS_PER_S;
	cluster->is_calm = true;
	for (uint32_t round = 0; round < CALM_ROUNDS; round++) {
		for (uint32_t i = 0; i < cluster->user_count; i++) {
			uint32_t ident =
				(uint32_t)rng_below(&cluster->sim->rng, cluster->model.ident_count);

			user_ask(&cluster->users[i], CTXKV_OP_PUT, ident);
			if (rng_chance(&cluster->sim->rng, 5000))
				finish_ops(cluster);
			user_ask(&cluster->users[i], CTXKV_OP_GET, ident);
		}
		finish_ops(cluster);
	}
	for (uint32_t ident = 0; ident < cluster->model.ident_count; ident++) {
		user_ask(&cluster->users[0], CTXKV_OP_GET, ident);
		finish_ops(cluster);
	}
	members_audit(cluster);
}

static void end(struct cluster *cluster)
{
	struct sim *sim = cluster->sim;

	for (uint32_t i = 0; i < cluster->user_count; i++) {
		user_stop(&cluster->users[i], false, false);
		user_fini(&cluster->users[i]);
	}
	run_for(cluster, REST_NS);
	for (uint32_t i = 0; i < cluster->server_count; i++) {
		struct server *server = &cluster->servers[i];

		if (server->is_gone)
			continue;
		server_check_idle(server);
		server_stop(server);
		server->is_gone = true;
		if (server->is_up)
			sim_fail(sim, "server %u does not stop", i);
	}
}

static void scenario(struct sim *sim)
{
	struct cluster cluster = { .sim = sim, .life = 1 };

	xprt_loop_delay_set(loop_delay_cb);
	model_init(&cluster.model, sim,
		   (uint32_t)(rng_chance(&sim->rng, 5000) ? rng_log(&sim->rng, 4, 60)
							  : rng_log(&sim->rng, 60, 300)));
	choose(&cluster);
	xprt_loop_window_set(sim->net_window / 64);
	cluster.ctl = sim_env_create(sim, "world", SIM_NODE_MAX - 1);
	sim_note(sim,
		 "%s, %u servers of %u reactors, memory %d, %u clients, block_max %u, room %" PRIu64
		 ", verify %d, two tenants %d, quota %" PRIu64,
		 cluster.xprt->name, cluster.server_count, cluster.reactor_count, cluster.is_memory,
		 cluster.user_count, cluster.block_max, cluster.memory.segment_room,
		 (int)cluster.shard_opts.verify, cluster.has_second, cluster.quota);
	for (uint32_t i = 0; i < cluster.server_count; i++)
		server_start(&cluster.servers[i]);
	for (uint32_t i = 0; i < cluster.user_count; i++)
		user_start(&cluster.users[i]);
	cluster.is_act_due = true;
	while (cluster.actions_left > 0)
		step(&cluster);
	calm_down(&cluster);
	calm_ask(&cluster);
	end(&cluster);
	sim_note(sim,
		 "%" PRIu64 " stored, %" PRIu64 " existed, %" PRIu64 " hits, %" PRIu64
		 " misses, %" PRIu64 " failures, %" PRIu64 " drops, %" PRIu64 " kills, %" PRIu64
		 " restarts, %" PRIu64 " forgotten, %" PRIu64 " missed, %" PRIu64
		 " leases, %" PRIu64 " refused by quota",
		 cluster.stored, cluster.existed, cluster.hits, cluster.misses, cluster.failures,
		 cluster.drops, cluster.kills, cluster.restarts, cluster.forgotten, cluster.missed,
		 cluster.leases, cluster.refused);
	sim_note(sim,
		 "gets: %" PRIu64 " bytes direct, %" PRIu64 " copied, %" PRIu64
		 " read again; puts: %" PRIu64 " direct, %" PRIu64 " copied; %" PRIu64 " declined",
		 cluster.metrics.get_direct, cluster.metrics.get_copied,
		 cluster.metrics.direct_repeated, cluster.metrics.put_direct,
		 cluster.metrics.put_copied, cluster.metrics.direct_declined);
	sim_env_destroy(&cluster.ctl);
	model_fini(&cluster.model);
}

int main(int argc, char **argv)
{
	return run_main(argc, argv, scenario);
}
