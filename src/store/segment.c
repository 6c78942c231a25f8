/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a segment.
 *
 *   FREE       1. Nothing in it is live, but its old bytes still stand, and a crash brings them
 *              back. So the list `free` is in order of age, and the oldest is always used again
 *              first: a tombstone never goes before what it buries.
 *   PREPARING  2. When the open segment is half full and nobody reads from the oldest free one any
 *              more, a span header with a fresh nonce is written over its first page and flushed.
 *   READY      3. From now on its old records and footer mean nothing.
 *   OPEN       4. Takes places (log.c) until the next does not fit beside the footer.
 *   SEALING    5. Its records are written and flushed, then its footer is written (foot.c).
 *   SEALED     6. Until it is the oldest and free ones run short: then it is reclaimed (reclaim.c).
 *              No entry of the index is left in it then. Readers that pinned it go on; only its
 *              reuse waits for them.
 *
 * Going on in a segment behind a restart begins a further span in it (segment_begin_sync).
 *
 * The span header cannot be written: another nonce, another try; after SHARD_SPAN_TRIES the shard
 * goes offline. (Skipping the segment would break the order of age.)
 * The last free segments (shard.spare) are reclaim's: puts wait for what it frees.
 * No segment can be made ready, or none has a foot to fill: puts get -EAGAIN, and shard_room()
 * tells when that is over.
 */
#include <string.h>

#include "shard_priv.h"

bool segment_fits(const struct shard *shard, const struct segment *segment, uint64_t pages)
{
	return segment->foot->count < shard->segment_pages &&
	       segment->tail + pages + foot_pages(shard, segment, 1) <= shard->segment_pages;
}

/* --- span headers --- */

static void span_fill(struct shard *shard, const struct segment *segment, uint32_t page,
		      struct disk_span *span)
{
	bool is_first = page == 0;

	*span = (struct disk_span) {
		.magic = DISK_SPAN_MAGIC,
		.version = DISK_VERSION,
		.segment = segment_index(shard, segment),
		.page = page,
		.opened = is_first ? shard->sequence++ : segment->opened,
		.incarnation = shard->incarnation,
		.created_s = is_first ? shard->env->ops->wall_s(shard->env) : segment->created_s,
	};
	span->sequence = shard->sequence;
	shard->env->ops->random(shard->env, span->nonce, sizeof(span->nonce));
	if (!is_first)
		memcpy(span->previous, segment->nonce, sizeof(span->previous));
	memcpy(span->shard, shard->super.disk->shard, sizeof(span->shard));
	span->crc = disk_crc(span, sizeof(*span), offsetof(struct disk_span, crc));
}

/* The span is on the medium: the segment's records count under it from now on. */
static void span_adopt(struct shard *shard, struct segment *segment, const struct disk_span *span)
{
	segment->opened = span->opened;
	segment->created_s = span->created_s;
	memcpy(segment->nonce, span->nonce, sizeof(segment->nonce));
	if (span->page == 0)
		memcpy(segment->first, span->nonce, sizeof(segment->first));
	segment->tail = span->page + 1;
	shard->first_sequence[segment_index(shard, segment)] = 0; /* in use */
}

bool span_check(const struct shard *shard, const struct disk_span *span, uint32_t segment,
		uint32_t page)
{
	return span->magic == DISK_SPAN_MAGIC && span->version == DISK_VERSION &&
	       span->crc == disk_crc(span, sizeof(*span), offsetof(struct disk_span, crc)) &&
	       memcmp(span->shard, shard->super.disk->shard, sizeof(span->shard)) == 0 &&
	       span->segment == segment && span->page == page && span->opened != 0 &&
	       span->opened >> 48 == 0 && span->sequence >> 48 == 0;
}

/* --- preparing --- */

static void prepare_write(struct shard *shard);

static void prepare_failed(struct shard *shard, int rc)
{
	shard->stats.io_errors++;
	if (++shard->prepare.tries < SHARD_SPAN_TRIES && !shard->is_offline) {
		prepare_write(shard);
		return;
	}
	shard->prepare.segment = NULL;
	shard_go_offline(shard, "span header", rc);
}

static void prepare_flushed(struct shard_wait *wait, int rc)
{
	struct shard *shard = CONTAINER_OF(wait, struct shard, prepare.wait);
	struct segment *segment = shard->prepare.segment;

	CHECK_OBJ(shard, SHARD_MAGIC);
	shard->prepare.segment = NULL;
	if (rc < 0) /* offline */
		return;
	ASSERT(segment->pins == 0);
	span_adopt(shard, segment, shard->prepare.span);
	segment->state = SEGMENT_READY;
	shard->ready = segment;
	reclaim_wake(shard);
	shard_room(shard);
}

static void prepare_wrote(struct env_io *io)
{
	struct shard *shard = CONTAINER_OF(io, struct shard, prepare.io);

	CHECK_OBJ(shard, SHARD_MAGIC);
	if (io->result < 0) {
		prepare_failed(shard, (int)io->result);
		return;
	}
	shard->stats.written_bytes += io->size;
	shard->prepare.wait.done = prepare_flushed;
	flush_wait(shard, &shard->prepare.wait);
}

static void prepare_write(struct shard *shard)
{
	struct prepare *prepare = &shard->prepare;

	span_fill(shard, prepare->segment, 0, prepare->span);
	prepare->iov = (struct iovec) { prepare->span, PAGE_SIZE };
	prepare->io = (struct env_io) {
		.done = prepare_wrote,
		.blk = shard->blk,
		.kind = ENV_WRITE,
		.offset = segment_offset(shard, segment_index(shard, prepare->segment), 0),
		.size = PAGE_SIZE,
		.iov = &prepare->iov,
		.iov_count = 1,
	};
	shard->env->ops->blk_submit(shard->env, &prepare->io);
}

void segment_prepare(struct shard *shard)
{
	struct segment *segment;

	if (shard->ready != NULL || shard->prepare.segment != NULL || shard->is_offline ||
	    shard->is_closing)
		return;
	if (list_is_empty(&shard->free))
		return;
	segment = list_head(&shard->free, struct segment, node);
	if (segment->pins > 0) /* segment_unpin() comes back */
		return;
	list_del(&segment->node);
	shard->free_count--;
	segment->state = SEGMENT_PREPARING;
	shard->prepare.segment = segment;
	shard->prepare.tries = 0;
	prepare_write(shard);
}

/* --- open and sealed --- */

static void segment_open(struct shard *shard, struct segment *segment)
{
	struct foot *foot = segment->foot;

	if (foot == NULL) {
		foot = list_head(&shard->feet, struct foot, node);
		ASSERT(foot != NULL);
		list_del(&foot->node);
		foot->count = 0;
		foot->void_count = 0;
	}
	segment->foot = foot;
	segment->turn = ++shard->turns;
	segment->state = SEGMENT_OPEN;
	shard->open = segment;
}

static void segment_seal(struct shard *shard, struct segment *segment)
{
	ASSERT(segment->state == SEGMENT_OPEN);
	shard->open = NULL;
	segment->state = SEGMENT_SEALING;
	list_add_tail(&shard->sealing, &segment->node);
	foot_advance(shard);
}

int segment_turn(struct shard *shard)
{
	struct segment *segment = shard->ready;

	if (segment == NULL || list_is_empty(&shard->feet)) {
		shard->is_room_wanted = true;
		segment_prepare(shard);
		reclaim_wake(shard);
		return -EAGAIN;
	}
	if (shard->open != NULL) {
		const struct segment *full = shard->open;

		log_close_group(shard);
		shard->stats.padding_bytes +=
			(shard->segment_pages - full->tail - foot_pages(shard, full, 0)) *
			PAGE_SIZE;
		segment_seal(shard, shard->open);
	}
	shard->ready = NULL;
	segment_open(shard, segment);
	return 0;
}

void segment_took(struct shard *shard, struct segment *segment)
{
	if (segment->tail < shard->segment_pages / 2)
		return;
	segment_prepare(shard);
	reclaim_wake(shard);
}

void segment_wrote(struct shard *shard, struct segment *segment)
{
	ASSERT(segment->unwritten > 0);
	segment->unwritten--;
	if (segment->state == SEGMENT_SEALING)
		foot_advance(shard);
}

void segment_leave(struct shard *shard)
{
	ASSERT(list_is_empty(&shard->sealing));
	ASSERT(shard->log.group == NULL);
	if (shard->open == NULL)
		return;
	shard->foot_write.is_last = true;
	segment_seal(shard, shard->open);
}

/* --- used again --- */

struct segment *segment_victim(const struct shard *shard)
{
	list_for_each (node, &shard->sealed) {
		struct segment *segment = list_entry(node, struct segment, node);

		if (segment->filling == 0)
			return segment;
		if (!is_memory(shard)) /* in order of age, whatever it costs */
			return NULL;
	}
	return NULL;
}

void segment_release(struct shard *shard, struct segment *segment)
{
	ASSERT(segment->state == SEGMENT_SEALED);
	ASSERT(segment->live_count == 0);
	ASSERT(segment->leased_count == 0);
	shard->first_sequence[segment_index(shard, segment)] = UINT64_MAX;
	segment->state = SEGMENT_FREE;
	list_del(&segment->node);
	list_add_tail(&shard->free, &segment->node);
	shard->free_count++;
	segment->is_trim_due = shard->has_trim;
	reclaim_trim(shard, segment);
	segment_room(shard);
}

void segment_room(struct shard *shard)
{
	reclaim_wake(shard);
	if (!is_memory(shard) && (shard->is_room_wanted || shard->open == NULL ||
				  shard->open->tail >= shard->segment_pages / 2))
		segment_prepare(shard);
	if (is_memory(shard) || shard->ready != NULL)
		shard_room(shard);
}

void segment_pin(struct segment *segment)
{
	segment->pins++;
}

void segment_unpin(struct shard *shard, struct segment *segment)
{
	ASSERT(segment->pins > 0);
	if (--segment->pins > 0 || segment->state != SEGMENT_FREE)
		return;
	reclaim_trim(shard, segment);
	segment_room(shard);
}

uint64_t segment_oldest(const struct shard *shard)
{
	uint64_t oldest = UINT64_MAX;

	for (uint32_t i = 0; i < shard->segment_count; i++) {
		if (shard->segments[i].opened != 0)
			oldest = MIN(oldest, shard->segments[i].opened);
	}
	return oldest;
}

int segment_begin_sync(struct shard *shard, struct segment *segment)
{
	struct disk_span *span = shard->prepare.span;
	struct env *env = shard->env;
	uint32_t page = segment->tail;
	int rc;

	span_fill(shard, segment, page, span);
	rc = env->ops->blk_write(env, shard->blk, span, sizeof(*span),
				 segment_offset(shard, segment_index(shard, segment), page));
	if (rc < 0)
		return rc;
	rc = env->ops->blk_flush(env, shard->blk);
	if (rc < 0)
		return rc;
	shard->stats.written_bytes += sizeof(*span);
	span_adopt(shard, segment, span);
	segment_open(shard, segment);
	return 0;
}
