/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory mode: segments are memory, there is no log.
 *
 *   1. begin takes room for the payload in the open segment, so that it is received where it stays:
 *      iov is one piece of the segment.
 *   2. commit publishes it (put.c). Nothing is written, nobody waits, nothing survives.
 *   3. The open segment is full: it is sealed, and the next is one that nobody reads from: a free
 *      one, else the oldest sealed one is forgotten.
 *
 * A put is aborted: its room stays a hole until the segment is used again.
 * A put that is being filled pins its segment, which is not forgotten before it ends. All segments
 * pinned: -EAGAIN; segment_unpin() says when that is over.
 */
#include "shard_priv.h"

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

	if (segment == NULL && segment_forget_oldest(shard))
		segment = segment_unpinned(shard);
	if (segment == NULL) {
		shard->is_room_wanted = true;
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
	segment->opened = shard->sequence++;
	segment->created_s = shard->env->ops->wall_s(shard->env);
	shard->first_sequence[segment_index(shard, segment)] = segment->opened;
	shard->open = segment;
	return 0;
}

int memory_reserve(struct shard *shard, struct shard_put *put)
{
	uint64_t pages = pages_of(put->size);
	struct segment *segment = shard->open;
	int rc;

	if (segment == NULL || segment->tail + pages > shard->segment_pages) {
		rc = memory_turn(shard);
		if (rc < 0)
			return rc;
		segment = shard->open;
	}
	put->segment = segment_index(shard, segment);
	put->page = segment->tail;
	put->view = (struct iovec) { memory_page(shard, put->segment, put->page), put->size };
	put->iov = &put->view;
	put->iov_count = 1;
	segment->tail += (uint32_t)pages;
	segment->filling++;
	segment_pin(segment);
	shard->stats.padding_bytes += pages * PAGE_SIZE - put->size;
	return 0;
}

void memory_settle(struct shard *shard, struct shard_put *put)
{
	struct segment *segment = &shard->segments[put->segment];

	ASSERT(segment->filling > 0);
	segment->filling--;
	segment_unpin(shard, segment);
	if (segment->filling == 0)
		shard_room(shard);
}
