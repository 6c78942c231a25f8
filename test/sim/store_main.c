/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_store: one shard on a drive that tears, or in memory; puts, gets, drops, crashes and stops at
 * any event, also inside of recovery. The model (model.h) knows what may be read and what must be.
 *
 * What must be there and is not has one excuse without media faults: its segment was forgotten. So
 * misses are counted against what the store says that it forgot, and one that was written only
 * lately, with most of the medium unused since, has no excuse at all. What is leased, and what
 * quotas do: store_policy.c. In half of the runs the log goes round all the time.
 */
#include "run.h"
#include "store_world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DISK_PATH    "medium"
#define STEPS_MAX    UINT64_C(2000000)
#define SETTLE_NS    (60 * NS_PER_S) /* with faults off everything ends by then */
#define STARTS_MAX   50
#define INDEX_ENOUGH 4096 /* entries, for any run */

static void act_run(struct sim_event *event, bool is_dropped);

void world_id(const struct world *world, uint32_t ident, struct store_id *id_out)
{
	uint32_t ns = ident % world->ns_count;

	*id_out = (struct store_id) { .domain = { (uint8_t)(1 + ns / 2) }, .ns = { (uint8_t)ns } };
	memcpy(id_out->key, &ident, sizeof(ident));
}

void world_payer(uint32_t payer, uint8_t payer_out[16])
{
	memset(payer_out, 0x70 + (int)payer, 16);
}

uint64_t world_wall_s(const struct world *world)
{
	return world->sim->wall_base_s + world->sim->now_ns / NS_PER_S;
}

/* --- forgetting --- */

uint64_t world_forgotten(const struct world *world)
{
	struct shard_stats stats;

	if (world->shard == NULL || world->is_counted)
		return world->forgotten;
	shard_get_stats(world->shard, &stats);
	return world->forgotten + stats.forgotten;
}

uint64_t world_forgotten_leased(const struct world *world)
{
	struct shard_stats stats;

	if (world->shard == NULL || world->is_counted)
		return world->forgotten_leased;
	shard_get_stats(world->shard, &stats);
	return world->forgotten_leased + stats.forgotten_leased;
}

uint64_t world_forgotten_quota(const struct world *world)
{
	struct shard_stats stats;

	if (world->shard == NULL || world->is_counted)
		return world->forgotten_quota;
	shard_get_stats(world->shard, &stats);
	return world->forgotten_quota + stats.forgotten_quota;
}

uint64_t world_written(const struct world *world)
{
	struct shard_stats stats;

	if (world->shard == NULL || world->is_counted)
		return world->written;
	shard_get_stats(world->shard, &stats);
	return world->written + stats.rewritten_bytes + 2 * stats.rewritten * PAGE_SIZE;
}

/* The process ends: what it counted. */
static void account_keep(struct world *world)
{
	struct shard_stats stats;

	if (world->shard != NULL) {
		shard_get_stats(world->shard, &stats);
		world->put_bytes += stats.put_bytes + stats.puts * PAGE_SIZE;
		world->rewritten_bytes += stats.rewritten_bytes + stats.rewritten * PAGE_SIZE;
	}
	world->written = world_written(world);
	world->forgotten = world_forgotten(world);
	world->forgotten_leased = world_forgotten_leased(world);
	world->forgotten_quota = world_forgotten_quota(world);
	world->is_counted = true;
}

bool world_may_lose(const struct world *world)
{
	struct shard_stats stats;

	if (world->opts.index_entries < INDEX_ENOUGH)
		return true; /* a restart with a full index cannot count what it leaves out */
	if (world->has_media_faults)
		return world->disk->media_faults > 0;
	if (!world->has_eio || world->shard == NULL)
		return false;
	shard_get_stats(world->shard, &stats);
	return stats.is_offline || world->disk->eio_count > 0;
}

/* Whether somebody else may have paid for what was there: a put of a process that died may have
 * taken the place of the promised version (a block that a restart has found and nobody has verified
 * counts as absent), without a word to anybody. */
static bool may_be_anothers(const struct model_ident *row, const struct model_version *promised)
{
	for (const struct model_version *version = promised + 1;
	     version < row->versions + row->count; version++) {
		if (version->outcome != MODEL_VOID && version->payer != promised->payer)
			return true;
	}
	return false;
}

/* One payer's quota costs another nothing. Payer 0 has none: who misses is right to. */
static void missed_unlimited(struct world *world, uint32_t ident,
			     const struct model_version *version)
{
	uint64_t forgotten = world_forgotten(world) - world_forgotten_quota(world);
	uint64_t since = world_written(world) - version->mark;
	struct shard_stats stats;

	shard_get_stats(world->shard, &stats);
	if (++world->missed_unlimited > forgotten)
		sim_fail(world->sim,
			 "identity %u is gone; the store has forgotten %" PRIu64
			 " blocks for room, and who has no quota misses %" PRIu64,
			 ident, forgotten, world->missed_unlimited);
	if (since < stats.capacity / 3)
		sim_fail(world->sim,
			 "identity %u was forgotten after %" PRIu64 " bytes of %" PRIu64, ident,
			 since, stats.capacity);
}

void world_missed(struct world *world, uint32_t ident)
{
	struct model_version *version = model_promised(&world->model, ident, world_wall_s(world));

	if (world_may_lose(world) || world->disk->is_dead)
		return;
	version->is_promised = false;
	world->missed++;
	sim_note(world->sim, "identity %u is gone, %" PRIu64 " bytes after its put", ident,
		 world_written(world) - version->mark);
	if (world->missed > world_forgotten(world))
		sim_fail(world->sim,
			 "identity %u was %s and is gone; the store has forgotten %" PRIu64
			 " blocks and misses %" PRIu64,
			 ident, version->is_durable ? "durable" : "stored", world_forgotten(world),
			 world->missed);
	if (version->payer == 0 && !may_be_anothers(&world->model.idents[ident], version))
		missed_unlimited(world, ident, version);
}

/* --- the process --- */

static void room_run(struct env_task *task)
{
	ops_room(CONTAINER_OF(task, struct world, room_task));
}

static int process_open(struct world *world)
{
	char message[256] = "";
	int rc;

	world->env = sim_env_create(world->sim, "server", 0);
	if (!world->is_memory) {
		rc = medium_open(&world->env->env, DISK_PATH, world->restarts + 1, &world->medium,
				 message);
		if (rc < 0) {
			sim_note(world->sim, "medium: %s (%s)", message, err_str(rc));
			return rc;
		}
	}
	rc = shard_open(&world->env->env, world->medium, 0,
			world->is_memory ? &world->memory : NULL, &world->opts, &world->shard);
	if (rc < 0) {
		sim_note(world->sim, "shard: %s", err_str(rc));
		return rc;
	}
	sim_env_of(&world->env->env)->env.ops->seal(&world->env->env);
	world->room_task = (struct env_task) { .run = room_run };
	shard_on_room(world->shard, &world->room_task);
	world->stored_here = 0;
	world->is_counted = false;
	world->was_empty = world->restarts == 0;
	quota_give(world);
	return 0;
}

/* What is left of the process, without a word to anybody. */
static void process_bury(struct world *world)
{
	world->is_dying = true;
	account_keep(world);
	lease_end_all(world, true);
	sim_env_kill(world->env, true);
	if (!world->is_memory)
		sim_disk_crash(world->disk, rng_chance(&world->sim->rng, 5000));
	if (world->shard != NULL)
		shard_on_room(world->shard, NULL);
	world->env->env.ops->undefer(&world->env->env, &world->room_task);
	(void)shard_close(&world->shard, true); /* a crash has no result */
	medium_close(&world->medium);
	ops_abandon(world);
	sim_env_destroy(&world->env);
	model_crash(&world->model);
	world->is_dying = false;
	world->restarts++;
	world->written += 2 * world->memory.segment_room; /* a restart may leave a tail unused */
}

static void sweep(struct world *world)
{
	for (uint32_t i = 0; i < world->model.ident_count; i++)
		ops_get(world, i, true);
}

/* Start the process; it may die in its recovery, several times. False: the medium is beyond use. */
static bool process_start(struct world *world)
{
	struct sim *sim = world->sim;

	for (uint32_t tries = 0; tries < STARTS_MAX; tries++) {
		int rc;

		if (sim->has_faults && !world->is_memory && rng_chance(&sim->rng, 2000))
			world->disk->dies_in = rng_log(&sim->rng, 1, 100);
		rc = process_open(world);
		sim_note(sim, "process starts: %s", err_str(rc));
		if (rc == 0) {
			sweep(world);
			return true;
		}
		if (!world->disk->is_dead && world->has_media_faults) {
			process_bury(world);
			return false;
		}
		if (!world->disk->is_dead && ((rc != -EIO && rc != -ERR_FORMAT) || !world->has_eio))
			sim_fail(sim, "the shard does not open: %s", err_str(rc));
		process_bury(world);
	}
	sim->has_faults = false;
	world->disk->dies_in = 0;
	if (process_open(world) < 0)
		sim_fail(sim, "the shard does not open although all faults are over");
	sweep(world);
	return true;
}

/* --- waiting --- */

/* Step until done() or the disk dies; it must not take longer than SETTLE_NS. */
static void step_until(struct world *world, bool (*done)(const struct world *world))
{
	uint64_t until_ns = world->sim->now_ns + SETTLE_NS;

	while (!done(world) && !world->disk->is_dead) {
		if (!sim_step(world->sim) || world->sim->now_ns > until_ns)
			sim_fail(world->sim, "requests do not end");
		if (world->sim->steps > STEPS_MAX)
			sim_fail(world->sim, "no end of steps");
	}
}

static bool no_puts(const struct world *world)
{
	return list_is_empty(&world->puts);
}

/* Stop in order and leave no process; false: it died in it. */
static bool process_stop(struct world *world)
{
	int rc;

	world->is_quiet = true;
	ops_settle(world);
	step_until(world, ops_is_idle);
	if (world->disk->is_dead)
		return false;
	shard_on_room(world->shard, NULL);
	world->env->env.ops->undefer(&world->env->env, &world->room_task);
	account_keep(world);
	lease_end_all(world, false);
	rc = shard_close(&world->shard, false);
	sim_note(world->sim, "process stops: %s", err_str(rc));
	if (world->disk->is_dead)
		return false;
	if (rc < 0 && !world->has_eio)
		sim_fail(world->sim, "the shard does not stop: %s", err_str(rc));
	medium_close(&world->medium);
	if (!list_is_empty(&world->puts))
		sim_fail(world->sim, "the shard has stopped and keeps puts");
	sim_env_destroy(&world->env);
	if (rc == 0 && !world->has_eio)
		model_stop(&world->model);
	else
		model_crash(&world->model);
	world->restarts++;
	world->written += world->memory.segment_room;
	world->is_quiet = false;
	return true;
}

/* --- the run --- */

static void act_soon(struct world *world)
{
	sim_env_schedule(world->ctl, &world->act, rng_log(&world->sim->rng, 1, 3 * NS_PER_MS),
			 act_run);
}

/* And put it again, now and then at once: its old place may be on its way to a new one. */
static void drop(struct world *world, uint32_t ident)
{
	ops_drop(world, ident, rng_chance(&world->sim->rng, 1500));
	if (rng_chance(&world->sim->rng, 3000))
		ops_put(world, ident);
}

static void act_run(struct sim_event *event, bool is_dropped)
{
	struct world *world = CONTAINER_OF(event, struct world, act);
	struct rng *rng = &world->sim->rng;
	uint32_t ident;

	if (is_dropped || world->actions_left == 0)
		return;
	act_soon(world);
	if (world->is_quiet || world->shard == NULL)
		return;
	world->actions_left--;
	ident = (uint32_t)rng_below(rng, world->model.ident_count);
	if (world->is_skewed)
		ident = (uint32_t)rng_log(rng, 1, ident + 1) - 1;
	if (rng_chance(rng, world->lease_rate))
		lease_begin(world, ident);
	else if (rng_chance(rng, world->quota_rate))
		rng_chance(rng, 2000) ? quota_change(world) : quota_check(world);
	else if (rng_chance(rng, world->heat_rate))
		ops_heat(world);
	else if (rng_chance(rng, world->put_rate))
		ops_put(world, ident);
	else if (!rng_chance(rng, world->drop_rate))
		ops_get(world, ident, false);
	else
		drop(world, ident);
	if (rng_chance(rng, 100))
		world->sim->now_ns += rng_log(rng, 1, 2 * NS_PER_S); /* a clock that jumps */
}

static void choose_disk(struct world *world)
{
	struct rng *rng = &world->sim->rng;
	struct sim_disk_faults *faults = &world->disk->faults;
	uint32_t rate = (uint32_t)rng_log(rng, 1, 300);

	faults->delay_max_ns = rng_log(rng, 10 * NS_PER_US, 100 * NS_PER_MS);
	world->has_media_faults = rng_chance(rng, 2000);
	world->has_eio = !world->has_media_faults && rng_chance(rng, 2000);
	if (world->has_eio) {
		faults->read_eio = (uint32_t)rng_below(rng, rate + 1);
		faults->write_eio = (uint32_t)rng_below(rng, rate + 1);
	}
	if (world->has_media_faults && world->opts.verify != STORE_VERIFY_NONE) {
		faults->lost = (uint32_t)rng_below(rng, rate + 1);
		faults->misdirected = (uint32_t)rng_below(rng, rate + 1);
		faults->rot = (uint32_t)rng_below(rng, rate + 1);
		faults->stale = (uint32_t)rng_below(rng, rate + 1);
	}
}

/* Who may have how much, who leases, and whether reclaim ever rests: with a crash every few turns
 * the log does not come round often. */
static void choose_policy(struct world *world)
{
	struct rng *rng = &world->sim->rng;

	world->lease_rate = rng_chance(rng, 5000) ? 0 : (uint32_t)rng_log(rng, 10, 3000);
	world->quota_rate = rng_chance(rng, 5000) ? 0 : (uint32_t)rng_log(rng, 10, 300);
	world->has_ttls = rng_chance(rng, 5000);
	world->is_skewed = rng_chance(rng, 5000);
	world->crash_rate = rng_chance(rng, 5000) ? 10 : 0;
	world->drop_rate = 1500;
	if (rng_chance(rng, 5000))
		return;
	world->memory.segment_room = DISK_SEGMENT_MIN;
	world->memory.size = rng_range(rng, DISK_SEGMENTS_MIN, DISK_SEGMENTS_MIN + 4) *
			     disk_segment_size(DISK_SEGMENT_MIN);
	world->memory.block_max = rng_log(rng, 4 * KiB, DISK_SEGMENT_MIN / 4);
	world->block_max = (uint32_t)world->memory.block_max;
	world->ident_count = (uint32_t)rng_log(rng, 50, 500);
	world->actions_left = (uint32_t)rng_log(rng, 1000, 6000);
	world->opts.reinsert_hits = (uint32_t)rng_range(rng, 0, 1);
	world->opts.reinsert_age = rng_chance(rng, 5000) ? 0 : (uint32_t)rng_below(rng, 60);
	if (rng_chance(rng, 5000))
		world->opts.reinsert_share = (uint32_t)rng_below(rng, 75);
	world->put_rate = (uint32_t)rng_range(rng, 2000, 8000);
	world->drop_rate = rng_chance(rng, 2000) ? 0 : (uint32_t)rng_log(rng, 1, 500);
	world->heat_rate = rng_chance(rng, 5000) ? 0 : (uint32_t)rng_log(rng, 10, 1000);
	if (rng_chance(rng, 5000))
		world->crash_rate /= 5;
}

static void choose(struct world *world)
{
	struct rng *rng = &world->sim->rng;
	bool is_small = rng_chance(rng, 6000); /* so that it is full soon */
	uint64_t room = DISK_SEGMENT_MIN << rng_below(rng, is_small ? 2 : 4);
	uint32_t segments =
		(uint32_t)rng_range(rng, DISK_SEGMENTS_MIN, (is_small ? 2 : 3) * DISK_SEGMENTS_MIN);
	static const uint64_t write_sizes[] = { 256 * KiB, 512 * KiB, MiB };

	world->is_memory = rng_chance(rng, 1000);
	world->memory.segment_room = room;
	world->memory.size = segments * disk_segment_size(room);
	world->memory.block_max = rng_log(rng, 4 * KiB, room / 4);
	world->block_max = (uint32_t)world->memory.block_max;
	world->opts = (struct shard_opts) {
		.index_entries = rng_chance(rng, 2000) ? rng_range(rng, 32, 200) : INDEX_ENOUGH,
		.queue_depth = (uint32_t)rng_range(rng, 1, 16),
		.put_max = (uint32_t)rng_log(rng, 2, 64),
		.write_size = write_sizes[rng_below(rng, ARRAY_LEN(write_sizes))],
		.group_delay_ns = rng_log(rng, 1, 5 * NS_PER_MS),
		.verify = (enum store_verify)rng_below(rng, 3),
		.reinsert_hits = (uint32_t)rng_below(rng, 3),
		.reinsert_age = (uint32_t)rng_below(rng, 60),
		.reinsert_share = 75,
	};
	world->ident_count = (uint32_t)(is_small ? rng_range(rng, 50, 2000) : rng_log(rng, 2, 200));
	world->put_rate = (uint32_t)rng_range(rng, 4000, 9000);
	world->ns_count = (uint32_t)rng_range(rng, 1, 4);
	world->durable_rate = (uint32_t)rng_below(rng, 10001);
	world->actions_left = (uint32_t)rng_log(rng, is_small ? 300 : 50, 1500);
	choose_policy(world);
	world->disk = sim_disk_create(
		world->sim, DISK_PATH,
		round_up(DISK_EXTENT_ALIGN + DISK_SEGMENTS_OFFSET + world->memory.size,
			 DISK_EXTENT_ALIGN));
	choose_disk(world);
}

static void setup(struct world *world)
{
	struct sim_env *env = sim_env_create(world->sim, "setup", 0);
	struct medium_spec spec = { .path = DISK_PATH,
				    .size = world->disk->size,
				    .segment_room = world->memory.segment_room,
				    .block_max = world->block_max,
				    .is_sparse = true };
	struct medium_info info;
	char message[256] = "";
	int rc;

	world->sim->has_faults = false;
	rc = medium_setup(&env->env, &spec, &info, message);
	world->sim->has_faults = true;
	if (rc < 0)
		sim_fail(world->sim, "setup: %s (%s)", message, err_str(rc));
	sim_env_destroy(&env);
}

/* Until the actions are done: steps, and now and then the process goes. False: beyond use. */
static bool live(struct world *world)
{
	struct sim *sim = world->sim;

	while (world->actions_left > 0) {
		if (sim->steps > STEPS_MAX)
			sim_fail(sim, "no end of steps");
		if (!sim_step(sim))
			sim_fail(sim, "nothing happens any more");
		if (!world->is_memory && !world->disk->is_dead &&
		    rng_chance(&sim->rng, world->crash_rate))
			world->disk->dies_in = rng_log(&sim->rng, 1, 50);
		if (!world->is_memory && !world->disk->is_dead &&
		    rng_chance(&sim->rng, (world->crash_rate + 1) / 2) && process_stop(world)) {
			if (!process_start(world))
				return false;
			continue;
		}
		if (world->disk->is_dead ||
		    (!world->is_memory && rng_chance(&sim->rng, world->crash_rate))) {
			process_bury(world);
			world->is_quiet = false;
			if (!process_start(world))
				return false;
		}
	}
	return true;
}

/* Faults are over: all requests end, the pool is whole, and what a last restart must find is
 * there. */
static void finish(struct world *world)
{
	while (world->disk->is_dead) { /* it may die again as the next one looks round */
		process_bury(world);
		if (!process_start(world))
			return;
	}
	world->sim->has_faults = false;
	world->disk->dies_in = 0;
	ops_settle(world);
	step_until(world, ops_is_idle);
	step_until(world, no_puts);
	sweep(world);
	step_until(world, ops_is_idle);
	lease_end_all(world, false);
	policy_check_sums(world);
	if (!world_may_lose(world)) {
		quota_check(world);
		quota_check_liveness(world);
		step_until(world, no_puts);
		ops_check_pool(world);
		step_until(world, no_puts);
	}
	if (!process_stop(world))
		sim_fail(world->sim, "the disk died after its time");
	if (world->is_memory)
		return;
	if (!process_start(world))
		return;
	step_until(world, ops_is_idle);
	(void)process_stop(world); /* it fails the run by itself */
}

static void scenario(struct sim *sim)
{
	struct world world = { .sim = sim };

	list_init(&world.puts);
	list_init(&world.gets);
	list_init(&world.drops);
	list_init(&world.leases);
	choose(&world);
	model_init(&world.model, sim, world.ident_count);
	world.ctl = sim_env_create(sim, "world", 1);
	if (!world.is_memory)
		setup(&world);
	sim_note(sim,
		 "memory %d, media faults %d, eio %d, room %" PRIu64 ", disk %" PRIu64
		 ", block_max %u, verify %d, identities %u, index %" PRIu64
		 ", hits %u, age %u, share %u, puts %u, crashes %u",
		 world.is_memory, world.has_media_faults, world.has_eio, world.memory.segment_room,
		 world.disk->size, world.block_max, (int)world.opts.verify, world.model.ident_count,
		 world.opts.index_entries, world.opts.reinsert_hits, world.opts.reinsert_age,
		 world.opts.reinsert_share, world.put_rate, world.crash_rate);
	act_soon(&world);
	if (process_start(&world) && live(&world))
		finish(&world);
	policy_check_writes(&world);
	sim_note(sim,
		 "%" PRIu64 " stored, %" PRIu64 " existed, %" PRIu64 " hits, %" PRIu64
		 " misses, %" PRIu64 " drops, %" PRIu64 " restarts, %" PRIu64 " forgotten, %" PRIu64
		 " missed, %" PRIu64 " leased, %" PRIu64 " refused; %" PRIu64 " put bytes, %" PRIu64
		 " written again, of %" PRIu64,
		 world.stored, world.existed, world.hits, world.misses, world.drops_done,
		 world.restarts, world.forgotten, world.missed, world.leased, world.refused,
		 world.put_bytes, world.rewritten_bytes, world.memory.size);
	sim_env_destroy(&world.ctl);
	model_fini(&world.model);
}

int main(int argc, char **argv)
{
	return run_main(argc, argv, scenario);
}
