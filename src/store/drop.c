/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dropping a block or a namespace.
 *
 * A block: 1. Its entry leaves the index: misses from now on. 2. A tombstone (an entry without a
 * payload) gets a place and a sequence, before any put that is committed later; with no segment
 * ready it waits, and puts wait behind it. 3. Its record is written and flushed: done.
 * Recovery applies records by sequence, so a tombstone buries what is older and nothing younger:
 * a put of the same key that is being written just now is buried when it was committed before the
 * drop, and stays when it was committed after.
 * A tombstone is written for a key that is not there, too: an older record of it may well stand on
 * the medium (expired, corrupt at its last read, in a segment forgotten but not yet used again) and
 * would come back at the next restart.
 *
 * A namespace: its sequence goes into the table of the super (super.h); lookups compare, and a walk
 * takes its blocks out of the index (quota.c).
 *
 * The tombstone cannot be written: the drop ends with -EIO; the block is a miss until a restart.
 * The super cannot be written: -EIO, and the shard goes offline.
 */
#include <string.h>

#include "shard_priv.h"

struct drop_state {
	struct list node; /* unused, or waiting for room */
	struct shard *shard;
	struct shard_drop *drop;
	struct shard_put tombstone;
	struct super_wait super_wait;
};

static void drop_tell(struct env_task *task)
{
	struct shard_drop *drop = CONTAINER_OF(task, struct shard_drop, task);

	drop->done(drop, drop->rc);
}

static void drop_end(struct drop_state *state, int rc)
{
	struct shard *shard = state->shard;
	struct shard_drop *drop = state->drop;

	CHECK_OBJ(shard, SHARD_MAGIC);
	drop->rc = rc;
	drop->state = NULL;
	state->drop = NULL;
	list_add_tail(&shard->drops, &state->node);
	ASSERT(shard->drop_count > 0);
	shard->drop_count--;
	shard_tell(shard, &drop->task);
}

static void tombstone_survives(struct shard_wait *wait, int rc)
{
	drop_end(CONTAINER_OF(wait, struct drop_state, tombstone.wait), rc < 0 ? -EIO : 0);
}

static void namespace_survives(struct super_wait *wait, int rc)
{
	struct drop_state *state = CONTAINER_OF(wait, struct drop_state, super_wait);

	if (rc < 0) {
		state->shard->stats.io_errors++;
		shard_go_offline(state->shard, "superblock", rc);
	}
	drop_end(state, rc < 0 ? -EIO : 0);
}

void drop_retry(struct shard *shard)
{
	while (!list_is_empty(&shard->drops_waiting)) {
		struct drop_state *state =
			list_head(&shard->drops_waiting, struct drop_state, node);
		struct shard_put *tombstone = &state->tombstone;

		if (log_reserve(shard, tombstone) < 0)
			return;
		list_del(&state->node);
		tombstone->sequence_out = shard->sequence++;
		log_append(shard, tombstone);
	}
}

void drop_fail(struct shard *shard, int rc)
{
	while (!list_is_empty(&shard->drops_waiting)) {
		struct drop_state *state =
			list_head(&shard->drops_waiting, struct drop_state, node);

		list_del(&state->node);
		drop_end(state, rc);
	}
}

static void tombstone_init(struct shard *shard, struct shard_put *tombstone,
			   const struct store_id *id, const struct hash128 *hash)
{
	memset(tombstone, 0, sizeof(*tombstone));
	tombstone->id = *id;
	tombstone->shard = shard;
	tombstone->hash = *hash;
	tombstone->is_durable = true;
	tombstone->entry_flags = DISK_ENTRY_TOMBSTONE;
	tombstone->domain_name = names_find(shard->domains, id->domain);
	tombstone->ns_name = names_find(shard->namespaces, id->ns);
	tombstone->wait.done = tombstone_survives;
	list_init(&tombstone->wait.node);
}

static int drop_namespace(struct shard *shard, struct drop_state *state,
			  const struct shard_drop *drop)
{
	if (shard->super.disk->drop_count == DISK_DROP_MAX)
		super_drop_prune(&shard->super, segment_oldest(shard));
	state->super_wait.done = namespace_survives;
	list_init(&state->super_wait.node);
	return super_drop_add(&shard->super, drop->id.domain, drop->id.ns, shard->sequence,
			      &state->super_wait);
}

static void drop_block(struct shard *shard, struct drop_state *state, struct shard_drop *drop)
{
	struct index_entry entry;
	struct hash128 hash;

	if (shard_lookup_leased(shard, &drop->id, &hash, &entry)) {
		drop->existed_out = shard_index_remove(shard, &hash, entry.sequence);
		shard->stats.dropped++;
	}
	if (is_memory(shard)) {
		drop_end(state, 0);
		return;
	}
	tombstone_init(shard, &state->tombstone, &drop->id, &hash);
	list_add_tail(&shard->drops_waiting, &state->node);
	drop_retry(shard);
}

int shard_drop_start(struct shard *shard, struct shard_drop *drop)
{
	struct drop_state *state;
	int rc;

	CHECK_OBJ(shard, SHARD_MAGIC);
	ASSERT(drop->done != NULL);
	if (shard->is_offline)
		return -ERR_OFFLINE;
	state = list_head(&shard->drops, struct drop_state, node);
	if (state == NULL)
		return -ERR_BUSY;
	drop->existed_out = false;
	if (drop->is_namespace) {
		drop->existed_out = names_find(shard->namespaces, drop->id.ns) != NAMES_NONE;
		rc = drop_namespace(shard, state, drop);
		if (rc < 0)
			return rc;
	}
	if (drop->is_namespace)
		quota_sweep(shard);
	list_del(&state->node);
	state->drop = drop;
	drop->shard = shard;
	drop->state = state;
	drop->task = (struct env_task) { .run = drop_tell };
	shard->drop_count++;
	if (!drop->is_namespace)
		drop_block(shard, state, drop);
	return 0;
}

uint64_t drop_memory_size(void)
{
	return SHARD_DROP_MAX * sizeof(struct drop_state);
}

void drop_init(struct shard *shard, void *memory)
{
	struct drop_state *states = memory;

	list_init(&shard->drops);
	list_init(&shard->drops_waiting);
	for (uint32_t i = 0; i < SHARD_DROP_MAX; i++) {
		states[i].shard = shard;
		list_add_tail(&shard->drops, &states[i].node);
	}
}
