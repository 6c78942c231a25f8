/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store keeps, and for whom: leases, quotas, and the account of what it forgot.
 *
 * Leases   As the server does it: the store counts one lease of a block while any is held. Until
 *          the last is over the block is found by its holders, whatever reclaim does and although
 *          its time to live is over; unless it was dropped, or the store says that it had to
 *          forget leased ones.
 * Quotas   The payer of a stored block is known by the name (sequence) of its record. What a payer
 *          has can only shrink down to his quota; he alone pays for that, in blocks that the store
 *          counts apart; only who has a quota is refused for it; and at rest everybody may put.
 * Sums     While nothing crashed: what was stored is there, or forgotten, dropped, expired. And
 * each pass of reclaim wins a quarter of a segment, so that it writes at most three times what was
 * put (and what is left of a pass at both ends).
 */
#include "store_world.h"

#include <inttypes.h>
#include <stdlib.h>

#define LEASE_MAX_NS (2 * NS_PER_S)
#define CALM_NS      (60 * NS_PER_S)

struct lease_op {
	struct list node;
	struct sim_event event; /* its end */
	struct world *world;
	struct hash128 hash;
	uint32_t ident;
	uint32_t size;
	bool is_gone; /* its block was dropped: it holds what comes in its place, or nothing */
	bool is_weak; /* nobody has seen the payload yet: it may turn out to be torn */
};

/* --- leases --- */

static struct lease_op *lease_of(const struct world *world, uint32_t ident)
{
	list_for_each (pos, &world->leases) {
		struct lease_op *op = list_entry(pos, struct lease_op, node);

		if (op->ident == ident)
			return op;
	}
	return NULL;
}

/* That is owed its block. */
static bool is_owed(const struct lease_op *op)
{
	return !op->is_gone && !op->is_weak;
}

bool lease_holds(const struct world *world, uint32_t ident)
{
	list_for_each (pos, &world->leases) {
		const struct lease_op *op = list_entry(pos, struct lease_op, node);

		if (op->ident == ident && is_owed(op))
			return true;
	}
	return false;
}

void lease_void(struct world *world, uint32_t ident)
{
	list_for_each (pos, &world->leases) {
		struct lease_op *op = list_entry(pos, struct lease_op, node);

		if (op->ident == ident)
			op->is_gone = true;
	}
}

void lease_replaced(struct world *world, uint32_t ident, uint32_t size)
{
	list_for_each (pos, &world->leases) {
		struct lease_op *op = list_entry(pos, struct lease_op, node);

		if (op->ident == ident)
			op->size = size;
	}
}

void lease_missed(struct world *world, uint32_t ident)
{
	if (world_may_lose(world) || world->disk->is_dead)
		return;
	sim_note(world->sim, "identity %u is leased and gone", ident);
	lease_void(world, ident);
	world->missed_leased++;
	/* There is always room for them, unless there are many that pack badly. */
	if (world->missed_leased > world_forgotten_leased(world) ||
	    (world->was_empty && world->leased_peak < shard_lease_max(world->shard) / 2))
		sim_fail(world->sim,
			 "identity %u is leased and gone; the store has forgotten %" PRIu64
			 " leased blocks and misses %" PRIu64 "; %" PRIu64
			 " bytes were leased at most",
			 ident, world_forgotten_leased(world), world->missed_leased,
			 world->leased_peak);
	if (model_promised(&world->model, ident, world_wall_s(world)) != NULL)
		world_missed(world, ident);
}

static void lease_end(struct lease_op *op, bool is_gone)
{
	struct world *world = op->world;
	struct hash128 hash = op->hash;
	uint32_t ident = op->ident;

	list_del(&op->node);
	free(op);
	if (!is_gone && lease_of(world, ident) == NULL)
		shard_unlease(world->shard, &hash);
}

static void lease_over(struct sim_event *event, bool is_dropped)
{
	lease_end(CONTAINER_OF(event, struct lease_op, event), is_dropped);
}

void lease_end_all(struct world *world, bool is_gone)
{
	struct lease_op *op;

	while ((op = list_head(&world->leases, struct lease_op, node)) != NULL) {
		sim_env_cancel(world->ctl, &op->event);
		lease_end(op, is_gone);
	}
}

/* Bytes of blocks that leases hold for certain, each once. */
static uint64_t leased_bytes(const struct world *world)
{
	uint64_t bytes = 0;

	list_for_each (pos, &world->leases) {
		const struct lease_op *op = list_entry(pos, struct lease_op, node);
		bool is_counted = op->is_gone;

		for (struct list *before = pos->prev; before != &world->leases && !is_counted;
		     before = before->prev) {
			const struct lease_op *other = list_entry(before, struct lease_op, node);

			is_counted = other->ident == op->ident && !other->is_gone;
		}
		bytes += is_counted ? 0 : op->size;
	}
	return bytes;
}

/* What they hold may have another size by now, or be held for somebody whose block was dropped. */
static bool has_doubts(const struct world *world)
{
	list_for_each (pos, &world->leases) {
		if (!is_owed(list_entry(pos, struct lease_op, node)))
			return true;
	}
	return false;
}

static int lease_take(struct world *world, const struct store_id *id, struct shard_ref *ref)
{
	uint64_t max = shard_lease_max(world->shard);
	uint64_t sum;
	int rc;

	if ((ref->flags & SHARD_REF_LEASED) != 0)
		return 0;
	sum = leased_bytes(world) + ref->size;
	rc = shard_lease(world->shard, id, ref);
	if (rc < 0 && rc != -ERR_FULL)
		sim_fail(world->sim, "a block that is there is not leased: %s", err_str(rc));
	if (!has_doubts(world) && !world_may_lose(world) && (rc == 0) != (sum <= max))
		sim_fail(world->sim, "%" PRIu64 " bytes of %" PRIu64 " are leased: %s", sum, max,
			 err_str(rc));
	return rc;
}

void lease_begin(struct world *world, uint32_t ident)
{
	struct sim *sim = world->sim;
	struct lease_op *op;
	struct shard_ref ref;
	struct store_id id;
	int rc;

	world_id(world, ident, &id);
	if (!shard_find(world->shard, &id, &ref)) {
		if (model_promised(&world->model, ident, world_wall_s(world)) != NULL)
			world_missed(world, ident);
		return;
	}
	rc = lease_take(world, &id, &ref);
	sim_trace(sim, ident, (uint64_t)-rc);
	if (rc < 0)
		return;
	op = calloc(1, sizeof(*op));
	ASSERT(op != NULL);
	op->world = world;
	op->ident = ident;
	op->hash = ref.hash;
	op->size = ref.size;
	op->is_weak = (ref.flags & SHARD_REF_SUSPECT) != 0;
	list_add_tail(&world->leases, &op->node);
	world->leased++;
	world->leased_peak = MAX(world->leased_peak, leased_bytes(world));
	sim_note(sim, "lease %u: %u bytes", ident, op->size);
	sim_env_schedule(world->ctl, &op->event, rng_log(&sim->rng, NS_PER_MS, LEASE_MAX_NS),
			 lease_over);
}

/* --- quotas --- */

/* Bytes that are there and were put at this payer's cost. */
static uint64_t payer_bytes(struct world *world, uint32_t payer)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < world->model.ident_count; i++) {
		const struct model_ident *row = &world->model.idents[i];
		struct shard_ref ref;
		struct store_id id;

		world_id(world, i, &id);
		if (!shard_find(world->shard, &id, &ref))
			continue;
		for (uint32_t v = row->count; v-- > 0;) {
			if (row->versions[v].sequence != ref.sequence)
				continue;
			bytes += row->versions[v].payer == payer ? ref.size : 0;
			break;
		}
	}
	return bytes;
}

static uint64_t payer_sum(struct world *world, uint32_t payer)
{
	return payer_bytes(world, payer) + ops_filling(world, payer);
}

static void quota_set(struct world *world, uint32_t payer)
{
	struct world_payer *row = &world->payers[payer];
	uint8_t name[16];
	int rc;

	world_payer(payer, name);
	rc = shard_set_quota(world->shard, name, row->quota);
	if (rc < 0)
		sim_fail(world->sim, "a quota is not set: %s", err_str(rc));
	row->bound = UINT64_MAX; /* what he has may be more: it only shrinks */
}

void quota_give(struct world *world)
{
	for (uint32_t i = 1; i < PAYER_MAX; i++) {
		if (world->payers[i].quota != 0)
			quota_set(world, i);
	}
}

void quota_change(struct world *world)
{
	struct rng *rng = &world->sim->rng;
	uint32_t payer = (uint32_t)rng_range(rng, 1, PAYER_MAX - 1);
	struct world_payer *row = &world->payers[payer];

	row->quota = rng_chance(rng, 2000) ? 0 : rng_log(rng, PAGE_SIZE, world->memory.size / 2);
	sim_note(world->sim, "payer %u may have %" PRIu64 " bytes", payer, row->quota);
	quota_set(world, payer);
}

void quota_refused(struct world *world, uint32_t payer)
{
	world->refused++;
	if (world->payers[payer].quota == 0)
		sim_fail(world->sim, "payer %u has no quota and is refused for it", payer);
}

void quota_check(struct world *world)
{
	for (uint32_t i = 1; i < PAYER_MAX; i++) {
		struct world_payer *row = &world->payers[i];
		uint64_t sum;

		if (row->quota == 0)
			continue;
		sum = payer_sum(world, i);
		if (sum > row->quota && sum > row->bound)
			sim_fail(world->sim,
				 "payer %u has %" PRIu64 " bytes of %" PRIu64 ", and had %" PRIu64,
				 i, sum, row->quota, row->bound);
		row->bound = sum;
	}
}

/* A put of this payer is let in within a while. */
static void check_admitted(struct world *world, uint32_t payer, uint32_t size)
{
	uint64_t until_ns = world->sim->now_ns + CALM_NS;

	while (!ops_try(world, payer, size)) {
		if (world->sim->now_ns > until_ns)
			sim_fail(world->sim,
				 "payer %u has a quota of %" PRIu64
				 " bytes, and a put of %u bytes is refused for ever",
				 payer, world->payers[payer].quota, size);
		if (!sim_step(world->sim))
			world->sim->now_ns += NS_PER_MS;
	}
}

void quota_check_liveness(struct world *world)
{
	for (uint32_t i = 0; i < PAYER_MAX; i++) {
		uint64_t quota = world->payers[i].quota;
		uint32_t max = (uint32_t)MIN(world->block_max, quota != 0 ? quota : UINT32_MAX);

		check_admitted(world, i, (uint32_t)rng_range(&world->sim->rng, 1, max));
	}
}

/* --- the account --- */

void policy_check_sums(struct world *world)
{
	struct shard_stats stats;
	uint64_t found = 0;

	/* A leased block that has expired is replaced without a word. */
	if (!world->was_empty || world_may_lose(world) || (world->has_ttls && world->leased > 0))
		return;
	for (uint32_t i = 0; i < world->model.ident_count; i++) {
		struct shard_ref ref;
		struct store_id id;

		world_id(world, i, &id);
		found += shard_find(world->shard, &id, &ref);
	}
	shard_get_stats(world->shard, &stats);
	if (world->stored_here != found + stats.forgotten + stats.dropped + stats.expired)
		sim_fail(world->sim,
			 "%" PRIu64 " blocks were stored: %" PRIu64 " are there, %" PRIu64
			 " forgotten, %" PRIu64 " dropped, %" PRIu64 " expired",
			 world->stored_here, found, stats.forgotten, stats.dropped, stats.expired);
}

void policy_check_writes(struct world *world)
{
	/* What is leased is written again whatever else is. */
	uint64_t share = world->leased > 0 ? 75 : world->opts.reinsert_share;
	uint64_t max = 2 * world->put_bytes * share / (100 - share) + 2 * world->memory.size;

	if (world->rewritten_bytes > max)
		sim_fail(world->sim,
			 "%" PRIu64 " bytes were put and reclaim has written %" PRIu64 " again",
			 world->put_bytes, world->rewritten_bytes);
}
