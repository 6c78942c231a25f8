/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes by payer, and what happens when a payer has too many.
 *
 * The bytes of a payer are those of the live blocks he paid for (the first putter pays): counted
 * where blocks enter the index and leave it, so they add up whatever happens to a block; and those
 * of his puts that are being filled. A restart counts what it finds, which may be more than was
 * left: what was forgotten leaves no trace on the medium. The next put of his makes up for it.
 *
 * A put would exceed the quota:
 *   1. His oldest blocks are forgotten, a sixteenth of the quota at once, while the put waits: one
 *      walk of the index adds up his bytes by segment, a second forgets the oldest.
 *   2. That was not enough (they are leased, not yet written, or still being filled): his puts are
 *      refused, -ERR_QUOTA, for DRY_NS, then it is tried again.
 *
 * A namespace is dropped: its blocks miss at once, but would count until somebody looks each of
 * them up or their segment is reclaimed. A walk takes them out, so that their payers have the room,
 * and what the shard says of itself is what can be found. One walk at a time: the other waits for
 * it.
 *
 * Near his quota his blocks are not written again by reclaim, unless they are leased.
 */
#include <string.h>

#include "shard_priv.h"

#define WALK_STEP 2048u /* buckets in one turn of the loop */
#define PART      16u   /* of the quota: so much is forgotten at once */
#define DRY_NS    (100 * NS_PER_MS)

void quota_add(struct shard *shard, const struct index_entry *entry)
{
	shard->quota.payers[entry->payer].bytes += entry->size;
}

void quota_remove(struct shard *shard, const struct index_entry *entry)
{
	struct payer *payer = &shard->quota.payers[entry->payer];

	ASSERT(payer->bytes >= entry->size);
	payer->bytes -= entry->size;
}

void quota_fill(struct shard *shard, const struct shard_put *put)
{
	shard->quota.payers[put->payer_name].filling += put->size;
}

void quota_filled(struct shard *shard, const struct shard_put *put)
{
	struct payer *payer = &shard->quota.payers[put->payer_name];

	ASSERT(payer->filling >= put->size);
	payer->filling -= put->size;
}

bool quota_is_near(const struct shard *shard, uint16_t name)
{
	const struct payer *payer = &shard->quota.payers[name];

	return payer->quota != 0 && payer->bytes > payer->quota - payer->quota / PART;
}

/* --- forgetting the oldest --- */

static void shed_begin(struct shard *shard, uint16_t name, uint64_t excess)
{
	struct quota *quota = &shard->quota;

	if (quota->state != QUOTA_IDLE)
		return;
	quota->state = QUOTA_ADDING;
	quota->payer = name;
	quota->excess = excess;
	quota->need = excess + quota->payers[name].quota / PART;
	quota->won = 0;
	quota->bucket = 0;
	memset(quota->sums, 0, shard->segment_count * sizeof(*quota->sums));
	shard->env->ops->defer(shard->env, &quota->task);
}

static bool can_go(const struct quota *quota, const struct index_entry *entry)
{
	return entry->payer == quota->payer && entry->leases == 0 &&
	       (entry->flags & INDEX_BUFFERED) == 0;
}

static bool add_visit(void *ctx, const struct index_entry *entry)
{
	struct shard *shard = ctx;

	if (can_go(&shard->quota, entry))
		shard->quota.sums[entry->segment] += entry->size;
	return true;
}

static bool forget_visit(void *ctx, const struct index_entry *entry)
{
	struct shard *shard = ctx;
	struct quota *quota = &shard->quota;
	uint64_t turn = shard->segments[entry->segment].turn;

	if (!can_go(quota, entry) || turn > quota->turn ||
	    (turn == quota->turn && quota->need == 0))
		return true;
	if (turn == quota->turn)
		quota->need -= MIN(quota->need, entry->size);
	quota->won += entry->size;
	shard->stats.forgotten_quota++;
	shard_index_forget(shard, entry);
	return true;
}

static uint64_t bytes_up_to(const struct shard *shard, uint64_t turn)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < shard->segment_count; i++) {
		if (shard->segments[i].turn <= turn)
			bytes += shard->quota.sums[i];
	}
	return bytes;
}

/* The age of the youngest segment that must give something. */
static void turn_choose(struct shard *shard)
{
	struct quota *quota = &shard->quota;
	uint64_t low = 0;
	uint64_t high = shard->turns;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (bytes_up_to(shard, middle) >= quota->need)
			high = middle;
		else
			low = middle + 1;
	}
	quota->turn = low;
	quota->need -= MIN(quota->need, low > 0 ? bytes_up_to(shard, low - 1) : 0);
}

static void sweep_begin(struct shard *shard)
{
	struct quota *quota = &shard->quota;

	quota->is_sweep_due = false;
	quota->state = QUOTA_SWEEPING;
	quota->bucket = 0;
	shard->env->ops->defer(shard->env, &quota->task);
}

/* The walk is over; who waited for it tries again. */
static void walk_end(struct shard *shard)
{
	shard->quota.state = QUOTA_IDLE;
	if (shard->quota.is_sweep_due)
		sweep_begin(shard);
	shard->is_room_wanted = true;
	shard_room(shard);
}

static void shed_end(struct shard *shard)
{
	struct quota *quota = &shard->quota;
	struct payer *payer = &quota->payers[quota->payer];

	if (quota->won < quota->excess)
		payer->dry_ns = env_now_ns(shard->env) + DRY_NS;
	walk_end(shard);
}

static bool sweep_visit(void *ctx, const struct index_entry *entry)
{
	struct shard *shard = ctx;

	if ((entry->flags & INDEX_TOMBSTONE) == 0 &&
	    shard_was_dropped(shard, entry->domain, entry->ns, entry->sequence))
		shard_index_drop(shard, entry);
	return true;
}

void quota_sweep(struct shard *shard)
{
	shard->quota.is_sweep_due = true;
	if (shard->quota.state == QUOTA_IDLE)
		sweep_begin(shard);
}

static void quota_run(struct env_task *task)
{
	struct shard *shard = CONTAINER_OF(task, struct shard, quota.task);
	struct quota *quota = &shard->quota;
	bool (*const visits[])(void *ctx, const struct index_entry *entry) = {
		[QUOTA_ADDING] = add_visit,
		[QUOTA_FORGETTING] = forget_visit,
		[QUOTA_SWEEPING] = sweep_visit,
	};

	CHECK_OBJ(shard, SHARD_MAGIC);
	if (shard->is_closing || shard->is_offline) {
		quota->state = QUOTA_IDLE;
		return;
	}
	quota->bucket = index_walk_part(shard->index, quota->bucket, WALK_STEP,
					visits[quota->state], shard);
	if (quota->bucket == 0 && quota->state == QUOTA_FORGETTING) {
		shed_end(shard);
		return;
	}
	if (quota->bucket == 0 && quota->state == QUOTA_SWEEPING) {
		walk_end(shard);
		return;
	}
	if (quota->bucket == 0) {
		turn_choose(shard);
		quota->state = QUOTA_FORGETTING;
	}
	shard->env->ops->defer(shard->env, &quota->task);
}

/* --- the gate --- */

int quota_admit(struct shard *shard, const struct shard_put *put)
{
	const struct payer *payer = &shard->quota.payers[put->payer_name];
	uint64_t wanted = payer->bytes + payer->filling + put->size;

	if (payer->quota == 0 || wanted <= payer->quota)
		return 0;
	if (put->size > payer->quota || env_now_ns(shard->env) < payer->dry_ns) {
		shard->stats.refused_quota++;
		return -ERR_QUOTA;
	}
	shed_begin(shard, put->payer_name, wanted - payer->quota);
	shard->is_room_wanted = true;
	return -EAGAIN;
}

int shard_set_quota(struct shard *shard, const uint8_t payer[16], uint64_t bytes)
{
	struct payer *row;
	uint16_t name;

	CHECK_OBJ(shard, SHARD_MAGIC);
	name = names_intern(shard->payers, payer);
	if (name == NAMES_NONE)
		return -ERR_FULL;
	row = &shard->quota.payers[name];
	row->quota = bytes;
	row->dry_ns = 0;
	if (bytes != 0 && row->bytes > bytes)
		shed_begin(shard, name, row->bytes - bytes);
	return 0;
}

uint64_t shard_payer_bytes(const struct shard *shard, const uint8_t payer[16])
{
	uint16_t name;

	CHECK_OBJ(shard, SHARD_MAGIC);
	name = names_find(shard->payers, payer);
	return name != NAMES_NONE ? shard->quota.payers[name].bytes : 0;
}

uint64_t quota_memory_size(uint32_t segment_count)
{
	return (NAMES_MAX + 1) * sizeof(struct payer) + segment_count * sizeof(uint64_t);
}

void quota_init(struct shard *shard, void *memory)
{
	memset(memory, 0, quota_memory_size(shard->segment_count));
	shard->quota.payers = memory;
	shard->quota.sums = (uint64_t *)(void *)(shard->quota.payers + NAMES_MAX + 1);
	shard->quota.task.run = quota_run;
}
