/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands in a segment that is to be reclaimed: its footer, read back.
 *
 *   1. The last page is the footer's own; it says where the rest begins.
 *   2. The rest is read piece by piece and must fit its checksum; its entries are the directory.
 *
 * There is no footer that counts (it could not be written, or rots), or it does not name all that
 * is alive in the segment: the index is walked for what is, a step a turn of the loop. The walk
 * does not know records: a small block that shares one cannot be written again then.
 */
#include <string.h>

#include "shard_priv.h"

#define WALK_STEP 2048u /* buckets: a MiB of the index */

static void directory_read(struct shard *shard);

static void walk_instead(struct shard *shard)
{
	shard->reclaim.count = 0;
	reclaim_go(shard, RECLAIM_WALKING);
}

/* All of it is in the buffer. */
static void directory_use(struct shard *shard)
{
	struct reclaim *reclaim = &shard->reclaim;
	const struct disk_footer *footer = reclaim->footer;
	uint64_t size = (uint64_t)reclaim->read_pages * PAGE_SIZE;

	if (crc32c(0, reclaim->buffer, size) != footer->entries_crc) {
		shard->stats.corrupt++;
		walk_instead(shard);
		return;
	}
	reclaim->entries =
		(struct disk_foot_entry *)(void *)(reclaim->buffer +
						   disk_foot_entries_offset(footer->name_count));
	reclaim->step = 1;
	reclaim->count = footer->entry_count;
	for (uint32_t i = 0; i < reclaim->count; i++) {
		if (!foot_entry_check(footer, &reclaim->entries[i]))
			reclaim->entries[i].sequence = 0; /* no block has it */
	}
	reclaim_go(shard, RECLAIM_MARKING);
}

static void directory_landed(struct env_io *io)
{
	struct shard *shard = CONTAINER_OF(io, struct shard, reclaim.io);
	struct reclaim *reclaim = &shard->reclaim;
	const struct disk_footer *footer = reclaim->footer;

	CHECK_OBJ(shard, SHARD_MAGIC);
	if (shard->is_closing || shard->is_offline) {
		reclaim->state = RECLAIM_IDLE;
		return;
	}
	if (io->result < 0) {
		shard_io_failed(shard, (int)io->result);
		walk_instead(shard);
		return;
	}
	shard->stats.read_bytes += io->size;
	if (io->iov->iov_base == reclaim->footer) {
		reclaim->read_pages = 0;
		if (!footer_check(shard, reclaim->victim, footer) || footer->is_sealed == 0) {
			walk_instead(shard);
			return;
		}
	} else {
		reclaim->read_pages += (uint32_t)(io->size / PAGE_SIZE);
	}
	if (footer->first_page + reclaim->read_pages == shard->segment_pages - 1)
		directory_use(shard);
	else
		directory_read(shard);
}

static void read_submit(struct shard *shard, void *to, uint32_t page, uint64_t size)
{
	struct reclaim *reclaim = &shard->reclaim;

	reclaim->iov = (struct iovec) { to, size };
	reclaim->io = (struct env_io) {
		.done = directory_landed,
		.blk = shard->blk,
		.kind = ENV_READ,
		.offset = segment_offset(shard, segment_index(shard, reclaim->victim), page),
		.size = size,
		.iov = &reclaim->iov,
		.iov_count = 1,
	};
	shard->env->ops->blk_submit(shard->env, &reclaim->io);
}

/* The next piece. */
static void directory_read(struct shard *shard)
{
	struct reclaim *reclaim = &shard->reclaim;
	uint32_t page = reclaim->footer->first_page + reclaim->read_pages;
	uint64_t pages = MIN(shard->segment_pages - 1 - page, MiB / PAGE_SIZE);

	read_submit(shard, reclaim->buffer + reclaim->read_pages * PAGE_SIZE, page,
		    pages * PAGE_SIZE);
}

void directory_load(struct shard *shard)
{
	read_submit(shard, shard->reclaim.footer, shard->segment_pages - 1, PAGE_SIZE);
}

/* --- without a footer --- */

static bool walk_visit(void *ctx, const struct index_entry *entry)
{
	struct shard *shard = ctx;
	struct reclaim *reclaim = &shard->reclaim;

	if (entry->segment != segment_index(shard, reclaim->victim) ||
	    reclaim->count == shard->segment_pages)
		return true;
	*reclaim_entry(reclaim, reclaim->count++) = (struct disk_foot_entry) {
		.hash = { entry->hash.lo, entry->hash.hi },
		.sequence = entry->sequence,
		.page = entry->page,
		.size = entry->size,
		.crc = entry->crc,
		.depth = entry->depth,
		.flags = (entry->flags & INDEX_SHARED) != 0 ? DISK_ENTRY_SHARED : 0,
		.record_page = entry->page - 1,
	};
	return true;
}

void directory_walk(struct shard *shard)
{
	struct reclaim *reclaim = &shard->reclaim;

	if (!reclaim->has_walked) {
		reclaim->has_walked = true;
		reclaim->bucket = 0;
		reclaim->count = 0;
		reclaim->live = 0;
		if (!is_memory(shard)) {
			reclaim->entries = (struct disk_foot_entry *)(void *)reclaim->buffer;
			reclaim->step = 1;
		}
	}
	reclaim->bucket =
		index_walk_part(shard->index, reclaim->bucket, WALK_STEP, walk_visit, shard);
	if (reclaim->bucket == 0)
		reclaim_go(shard, RECLAIM_MARKING);
	else
		shard->env->ops->defer(shard->env, &reclaim->task);
}
