/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory mode: segments are memory, there is no log.
 *
 *   1. begin takes room for the payload in the open segment, so that it is received where it stays:
 *      iov is one piece of the segment.
 *   2. commit publishes it (put.c). Nothing is written, nobody waits, nothing survives. A row of
 *      the directory at the segment's end (its footer, as it were) names it for reclaim.
 *   3. The open segment is full: it is sealed, and the next is a free one that nobody reads from.
 *   4. Reclaim copies what stays to the open segment, a piece a turn of the loop.
 *
 * A put is aborted: its room stays a hole until the segment is used again.
 * A put that is being filled pins its segment, which is not reclaimed before it ends. No free
 * segment, or all of them pinned: -EAGAIN; segment_unpin() and reclaim say when that is over.
 */
#include <string.h>

#include "shard_priv.h"

#define COPY_STEP (2 * MiB) /* bytes in one turn of the loop */

static struct segment *segment_unpinned(const struct shard *shard)
{
	list_for_each (node, &shard->free) {
		struct segment *segment = list_entry(node, struct segment, node);

		if (segment->pins == 0)
			return segment;
	}
	return NULL;
}

static int memory_turn(struct shard *shard)
{
	struct segment *segment = segment_unpinned(shard);

	if (segment == NULL) {
		shard->is_room_wanted = true;
		reclaim_wake(shard);
		return -EAGAIN;
	}
	if (shard->open != NULL) {
		shard->stats.padding_bytes +=
			(shard->segment_pages - shard->open->tail) * PAGE_SIZE;
		shard->open->state = SEGMENT_SEALED;
		list_add_tail(&shard->sealed, &shard->open->node);
	}
	list_del(&segment->node);
	shard->free_count--;
	segment->state = SEGMENT_OPEN;
	segment->tail = 0;
	segment->dir_count = 0;
	segment->dir_reserved = 0;
	segment->turn = ++shard->turns;
	segment->opened = shard->sequence++;
	segment->created_s = shard->env->ops->wall_s(shard->env);
	shard->first_sequence[segment_index(shard, segment)] = 0; /* in use */
	shard->open = segment;
	return 0;
}

struct disk_foot_entry *memory_directory(const struct shard *shard, const struct segment *segment)
{
	char *end = memory_page(shard, segment_index(shard, segment), shard->segment_pages);

	return (struct disk_foot_entry *)(void *)end - 1;
}

/* Pages more, and a row more in the directory. */
static bool memory_fits(const struct shard *shard, const struct segment *segment, uint64_t pages)
{
	uint64_t rows = (segment->dir_reserved + 1) * sizeof(struct disk_foot_entry);

	return segment->tail + pages + pages_of(rows) <= shard->segment_pages;
}

static int memory_place(struct shard *shard, uint64_t size, struct shard_place *place_out)
{
	uint64_t pages = pages_of(size);
	struct segment *segment = shard->open;
	int rc;

	if (segment == NULL || !memory_fits(shard, segment, pages)) {
		rc = memory_turn(shard);
		if (rc < 0)
			return rc;
		segment = shard->open;
	}
	*place_out = (struct shard_place) { segment_index(shard, segment), segment->tail };
	segment->tail += (uint32_t)pages;
	segment->dir_reserved++;
	segment->filling++;
	segment_pin(segment);
	shard->stats.padding_bytes += pages * PAGE_SIZE - size;
	if (segment->tail >= shard->segment_pages / 2)
		reclaim_wake(shard);
	return 0;
}

static void place_settle(struct shard *shard, uint32_t index)
{
	struct segment *segment = &shard->segments[index];

	ASSERT(segment->filling > 0);
	segment->filling--;
	segment_unpin(shard, segment);
	if (segment->filling > 0)
		return;
	reclaim_wake(shard);
	shard_room(shard);
}

static void directory_add(struct shard *shard, const struct disk_foot_entry *row, uint32_t index)
{
	struct segment *segment = &shard->segments[index];

	ASSERT(segment->dir_count < segment->dir_reserved);
	*(memory_directory(shard, segment) - segment->dir_count) = *row;
	segment->dir_count++;
}

int memory_reserve(struct shard *shard, struct shard_put *put)
{
	struct shard_place place;
	int rc;

	rc = memory_place(shard, put->size, &place);
	if (rc < 0)
		return rc;
	put->segment = place.segment;
	put->page = place.page;
	put->view = (struct iovec) { memory_page(shard, put->segment, put->page), put->size };
	put->iov = &put->view;
	put->iov_count = 1;
	return 0;
}

void memory_settle(struct shard *shard, struct shard_put *put)
{
	place_settle(shard, put->segment);
}

void memory_publish(struct shard *shard, const struct shard_put *put)
{
	directory_add(shard,
		      &(struct disk_foot_entry) {
			      .hash = { put->hash.lo, put->hash.hi },
			      .sequence = put->sequence_out,
			      .page = put->page,
			      .size = put->size,
			      .depth = put->depth,
			      .flags = put->entry_flags,
		      },
		      put->segment);
}

/* --- copying --- */

/* The next block that stays; NULL: there is none. */
static struct disk_foot_entry *copy_next(const struct shard *shard, struct reclaim *reclaim)
{
	for (; reclaim->next < reclaim->count; reclaim->next++) {
		struct disk_foot_entry *row = reclaim_entry(reclaim, reclaim->next);
		struct index_entry live;

		if ((row->reserved == RECLAIM_HIT || row->reserved == RECLAIM_LEASED) &&
		    reclaim_find(shard, row, &live))
			return row;
	}
	return NULL;
}

/* A place for the copy; false: there is none now. */
static bool copy_begin(struct shard *shard, const struct disk_foot_entry *row)
{
	struct reclaim *reclaim = &shard->reclaim;
	struct shard_place place;

	if (memory_place(shard, row->size, &place) < 0) {
		reclaim->has_no_room = list_is_empty(&shard->free);
		return false;
	}
	reclaim->is_copying = true;
	reclaim->copy_segment = place.segment;
	reclaim->copy_page = place.page;
	reclaim->copied = 0;
	return true;
}

/* All of it is there: publish it, if it is still wanted. */
static void copy_end(struct shard *shard, struct disk_foot_entry *row)
{
	struct reclaim *reclaim = &shard->reclaim;
	const struct hash128 hash = { row->hash[0], row->hash[1] };
	struct disk_foot_entry copy = *row;

	copy.page = reclaim->copy_page;
	directory_add(shard, &copy, reclaim->copy_segment);
	reclaim_moved(shard, &hash, row->sequence,
		      &(struct shard_place) { segment_index(shard, reclaim->victim), row->page },
		      &(struct shard_place) { reclaim->copy_segment, reclaim->copy_page });
	reclaim->done_pages += pages_of(row->size);
	reclaim->is_copying = false;
	reclaim->next++;
	place_settle(shard, reclaim->copy_segment);
}

bool memory_copy_step(struct shard *shard)
{
	struct reclaim *reclaim = &shard->reclaim;
	uint64_t left = COPY_STEP;

	while (left > 0) {
		struct disk_foot_entry *row = reclaim->is_copying
						      ? reclaim_entry(reclaim, reclaim->next)
						      : copy_next(shard, reclaim);
		uint64_t size;

		if (!reclaim->is_copying &&
		    (row == NULL || shard->is_closing || reclaim->has_no_room))
			return true;
		if (!reclaim->is_copying && !copy_begin(shard, row))
			return reclaim->has_no_room; /* else segment_unpin() comes back */
		size = MIN(row->size - reclaim->copied, left);
		memcpy((char *)memory_page(shard, reclaim->copy_segment, reclaim->copy_page) +
			       reclaim->copied,
		       (char *)memory_page(shard, segment_index(shard, reclaim->victim),
					   row->page) +
			       reclaim->copied,
		       size);
		reclaim->copied += size;
		left -= size;
		if (reclaim->copied == row->size)
			copy_end(shard, row);
	}
	shard->env->ops->defer(shard->env, &reclaim->task);
	return false;
}
