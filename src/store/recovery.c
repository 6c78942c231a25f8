/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a restart believes.
 *
 *   1. The super says whether the stop was clean; it is marked unclean and flushed before anything
 *      else is written.
 *   2. The first page of every segment: a span header that is ours says when this life of the
 *      segment began. Segments are taken in order of that, the newest first.
 *   3. A segment's footer, if it counts (foot.c), else its record headers (scan.c), give entries.
 *      Behind the footer of a segment that was left at a stop there may be more: it is scanned from
 *      there, unless the stop was clean and nothing was written since.
 *   4. Entries are applied by sequence: a higher one of the same hash wins, whichever comes first;
 *      tombstones stand in the index until the end and are swept then. Where a scanned one, whose
 *      payload may be torn, would win over an older one, its payload is read: a put that was never
 *      acknowledged must not cost the durable block that it found suspect and replaced.
 *   5. The newest segment with entries goes on behind its tail, under a new flushed nonce, if it
 *      was not sealed and has room: a crash loop costs a page a restart. Other segments that were
 *      not sealed get their footer now. Segments without entries are the first to be used again.
 *   6. Sequences go on above the highest seen, with a gap for those that were lost.
 *
 * A page cannot be read or is torn: it costs what stands in it, and no more. An entry of a block
 * above the largest is passed over: buffers are made for those that can have been put.
 * Who opens it knows that there was more (opts.mark): an older copy of the medium would bring back
 * what was dropped since, and is refused before anything but the super is written.
 * The index is full: the oldest segments are forgotten, as when it fills at run time.
 * Everything that recovery writes can be lost again: the next one finds the same.
 */
#include <stdlib.h>
#include <string.h>

#include "shard_priv.h"

#define RECOVERY_READ MiB

/* Room that makes it worth going on in a segment: another span and a few records. */
#define RECOVERY_ROOM (MiB / PAGE_SIZE)

/* opened of a segment whose first page could not be read: older than all, but not nothing. */
#define OPENED_UNKNOWN 1

int recovery_read(struct recovery *recovery, const struct segment *segment, uint32_t page,
		  uint32_t page_count, void *buf)
{
	struct shard *shard = recovery->shard;
	struct env *env = shard->env;
	uint64_t offset = segment_offset(shard, segment_index(shard, segment), page);
	uint64_t size = page_count * PAGE_SIZE;
	int rc;

	for (uint64_t at = 0; at < size; at += RECOVERY_READ) {
		rc = env->ops->blk_read(env, shard->blk, (char *)buf + at,
					MIN(RECOVERY_READ, size - at), offset + at);
		if (rc < 0) {
			shard->stats.io_errors++;
			return rc;
		}
		shard->stats.recovery_bytes += MIN(RECOVERY_READ, size - at);
	}
	return 0;
}

static struct index_entry entry_of(uint32_t segment, const struct disk_foot_entry *entry)
{
	uint32_t flags = 0;

	flags |= (entry->flags & DISK_ENTRY_TOMBSTONE) != 0 ? INDEX_TOMBSTONE : 0;
	flags |= (entry->flags & DISK_ENTRY_NO_CRC) != 0 ? INDEX_NO_CRC : 0;
	flags |= (entry->flags & DISK_ENTRY_SHARED) != 0 ? INDEX_SHARED : 0;
	flags |= (entry->flags & DISK_ENTRY_SUSPECT) != 0 ? INDEX_SUSPECT : 0;
	return (struct index_entry) {
		.hash = { entry->hash[0], entry->hash[1] },
		.sequence = entry->sequence,
		.segment = segment,
		.page = entry->page,
		.size = entry->size,
		.crc = entry->crc,
		.chain = entry->chain,
		.expiry_s = entry->expiry_s,
		.domain = entry->domain,
		.payer = entry->payer,
		.ns = entry->ns,
		.depth = (uint16_t)MIN(entry->depth, UINT16_MAX),
		.flags = (uint16_t)flags,
	};
}

/* Read the payload of a suspect entry. It is rare, and nothing else is under way: the log's header
 * pages, one behind the other and not yet used, are the buffer. */
static bool payload_is_whole(struct recovery *recovery, const struct index_entry *entry)
{
	struct shard *shard = recovery->shard;
	char *buf = (char *)list_head(&shard->log.unused, struct log_record, node)->header;
	uint32_t page = entry->page;
	uint32_t crc = 0;

	for (uint64_t left = entry->size; left > 0;) {
		uint64_t size = MIN(left, SHARD_DROP_MAX * PAGE_SIZE);
		uint32_t pages = (uint32_t)pages_of(size);

		if (recovery_read(recovery, &shard->segments[entry->segment], page, pages, buf) < 0)
			return false;
		crc = crc32c(crc, buf, size);
		page += pages;
		left -= size;
	}
	return crc == entry->crc;
}

/* Whether `newer` is to be believed, against an older one of the same hash. */
static bool newer_counts(struct recovery *recovery, struct index_entry *newer)
{
	uint32_t unread = INDEX_TOMBSTONE | INDEX_NO_CRC;

	if ((newer->flags & INDEX_SUSPECT) == 0 || (newer->flags & unread) != 0)
		return true;
	if (!payload_is_whole(recovery, newer))
		return false;
	newer->flags &= (uint16_t)~INDEX_SUSPECT;
	return true;
}

/*
 * Whether `mine` is to be believed instead of `other`, both of the same putting: the block was
 * written again, and the segment it came from is not used again yet. The younger copy, seen first,
 * may be torn.
 */
static bool copy_counts(struct recovery *recovery, const struct index_entry *mine,
			struct index_entry *other)
{
	if ((other->flags & INDEX_SUSPECT) == 0 || other->segment == mine->segment)
		return false;
	if ((mine->flags & INDEX_SUSPECT) == 0)
		return true;
	if (!newer_counts(recovery, other))
		return true;
	(void)index_update(recovery->shard->index, other); /* it was just found */
	return false;
}

void recovery_apply(struct recovery *recovery, struct segment *segment,
		    const struct disk_foot_entry *entry)
{
	struct shard *shard = recovery->shard;
	uint32_t segment_number = segment_index(shard, segment);
	struct index_entry mine = entry_of(segment_number, entry);
	struct index_entry other;

	recovery->sequence_max = MAX(recovery->sequence_max, entry->sequence);
	recovery->entry_max = MAX(recovery->entry_max, entry->sequence);
	if (entry->size > shard->block_max ||
	    (entry->sequence < segment->opened && (entry->flags & DISK_ENTRY_REWRITTEN) == 0))
		return;
	recovery->found++;
	if (segment->foot != NULL && segment->foot->count < shard->segment_pages)
		foot_add(segment, entry);
	if (recovery->is_full ||
	    shard_was_dropped(shard, entry->domain, entry->ns, entry->sequence))
		return;
	if (index_find(shard->index, &mine.hash, &other)) {
		if (other.sequence == mine.sequence && !copy_counts(recovery, &mine, &other))
			return;
		if (other.sequence > mine.sequence && newer_counts(recovery, &other)) {
			(void)index_update(shard->index, &other); /* it was just found */
			return;
		}
		if (other.sequence < mine.sequence && !newer_counts(recovery, &mine))
			return;
		if (other.sequence > mine.sequence)
			(void)shard_index_remove(shard, &other.hash, other.sequence);
	}
	if (shard_index_add(shard, &mine) < 0)
		recovery->is_full = true;
}

/* --- segments --- */

/* Step 2: what the first page says. */
static void span_load(struct recovery *recovery, struct segment *segment)
{
	struct shard *shard = recovery->shard;
	const struct disk_span *span = (const struct disk_span *)(void *)shard->scratch;
	uint32_t index = segment_index(shard, segment);

	segment->state = SEGMENT_FREE;
	if (recovery_read(recovery, segment, 0, 1, shard->scratch) < 0) {
		segment->opened = OPENED_UNKNOWN;
		return;
	}
	if (!span_check(shard, span, index, 0))
		return;
	segment->state = SEGMENT_SEALED; /* until more is known */
	segment->opened = span->opened;
	segment->created_s = span->created_s;
	segment->tail = 1;
	memcpy(segment->nonce, span->nonce, sizeof(segment->nonce));
	memcpy(segment->first, span->nonce, sizeof(segment->first));
	shard->first_sequence[index] = 0; /* in use */
	recovery->sequence_max = MAX(recovery->sequence_max, span->sequence);
	recovery->sequence_max = MAX(recovery->sequence_max, span->opened);
}

/* Step 3. */
static void segment_load(struct recovery *recovery, struct segment *segment)
{
	struct shard *shard = recovery->shard;
	struct foot *foot = list_head(&shard->feet, struct foot, node);
	uint64_t io_errors = shard->stats.io_errors;
	bool is_sealed = false;
	bool has_foot;

	if (foot != NULL) {
		list_del(&foot->node);
		foot->count = 0;
		foot->void_count = 0;
		segment->foot = foot;
	}
	recovery->found = 0;
	has_foot = foot_load(recovery, segment, &is_sealed);
	if (!is_sealed && !(has_foot && recovery->was_clean))
		scan_segment(recovery, segment);
	if (is_sealed)
		return;
	segment->state = SEGMENT_SEALING;
	if (segment->foot == NULL)
		segment->state = SEGMENT_SEALED;
	if (recovery->found > 0)
		return;
	segment->state = SEGMENT_FREE;
	if (shard->stats.io_errors == io_errors) /* there is nothing: as if never used */
		segment->opened = 0;
}

static void segment_free(struct shard *shard, struct segment *segment)
{
	if (segment->foot != NULL)
		list_add_tail(&shard->feet, &segment->foot->node);
	segment->foot = NULL;
	segment->state = SEGMENT_FREE;
	segment->live_count = 0;
	segment->live_bytes = 0;
	shard->first_sequence[segment_index(shard, segment)] = UINT64_MAX;
}

static int newest_first(const void *a, const void *b)
{
	const struct segment_age *x = a;
	const struct segment_age *y = b;

	if (x->opened != y->opened)
		return x->opened < y->opened ? 1 : -1;
	return x->segment < y->segment ? -1 : 1;
}

/* The segments in order of age into out, the newest first. */
static void ages_sort(const struct shard *shard, struct segment_age *out)
{
	for (uint32_t i = 0; i < shard->segment_count; i++)
		out[i] = (struct segment_age) { shard->segments[i].opened, i };
	qsort(out, shard->segment_count, sizeof(*out), newest_first);
}

/* Steps 3 and 4 for all segments; those that the index has no room for are forgotten. */
static void segments_load(struct recovery *recovery, const struct segment_age *ages)
{
	struct shard *shard = recovery->shard;

	for (uint32_t i = 0; i < shard->segment_count; i++) {
		struct segment *segment = &shard->segments[ages[i].segment];

		if (segment->state == SEGMENT_FREE)
			continue;
		if (!recovery->is_full)
			segment_load(recovery, segment);
		if (recovery->is_full || segment->state == SEGMENT_FREE)
			segment_free(shard, segment);
	}
}

/* Step 5: each segment to its list, oldest first. The newest that was not sealed is returned, if
 * something can be added to it. */
static struct segment *segments_place(struct shard *shard, const struct segment_age *ages)
{
	struct segment *newest = NULL;

	for (uint32_t i = shard->segment_count; i-- > 0;) {
		struct segment *segment = &shard->segments[ages[i].segment];
		struct list *list = &shard->sealed;

		if (segment->state == SEGMENT_FREE) {
			list = &shard->free;
			shard->free_count++;
		} else {
			newest = segment;
			segment->turn = ++shard->turns;
		}
		if (segment->state == SEGMENT_SEALING)
			list = &shard->sealing;
		if (segment->opened == 0) /* nothing stands in it: before all others */
			list_add_head(list, &segment->node);
		else
			list_add_tail(list, &segment->node);
	}
	if (newest == NULL || newest->state != SEGMENT_SEALING ||
	    !segment_fits(shard, newest, RECOVERY_ROOM))
		return NULL;
	list_del(&newest->node);
	return newest;
}

/* --- the end --- */

/* Sweep tombstones, count the rest. */
static bool sweep(void *ctx, const struct index_entry *entry)
{
	struct shard *shard = ctx;

	if ((entry->flags & INDEX_TOMBSTONE) != 0)
		return false;
	quota_add(shard, entry);
	shard->stats.recovered++;
	if ((entry->flags & INDEX_SUSPECT) != 0)
		shard->stats.recovered_scanned++;
	return true;
}

/* -ERR_FORMAT: there are none left, which no shard of ours lives to see. */
static int sequence_resume(struct shard *shard, const struct recovery *recovery)
{
	const struct disk_super *disk = shard->super.disk;
	uint64_t sequence = recovery->sequence_max;

	if (shard->opts.mark != NULL)
		sequence = MAX(sequence, shard->opts.mark->next_sequence);

	for (uint32_t i = 0; i < disk->drop_count; i++)
		sequence = MAX(sequence, disk->drops[i].sequence);
	if (sequence >= SHARD_SEQUENCE_MAX - SHARD_SEQUENCE_JUMP)
		return -ERR_FORMAT;
	shard->sequence = sequence + SHARD_SEQUENCE_JUMP;
	shard->durable_sequence = shard->sequence;
	/* Step 1 has flushed what was found. */
	shard->written_sequence = recovery->entry_max;
	shard->kept_sequence = recovery->entry_max;
	return 0;
}

/* Where the next put goes: behind the newest segment's tail, or into a free one. With none of
 * either, the first put makes room. */
static int open_first(struct shard *shard, struct segment *newest)
{
	struct segment *segment = newest;

	if (segment == NULL) {
		segment = list_head(&shard->free, struct segment, node);
		if (segment == NULL || list_is_empty(&shard->feet))
			return 0;
		list_del(&segment->node);
		shard->free_count--;
		segment->tail = 0;
	}
	return segment_begin_sync(shard, segment);
}

/* Steps 2 to 4. */
static void find_all(struct recovery *recovery)
{
	struct shard *shard = recovery->shard;

	for (uint32_t i = 0; i < shard->segment_count; i++)
		span_load(recovery, &shard->segments[i]);
	ages_sort(shard, shard->ages);
	segments_load(recovery, shard->ages);
	shard->stats.is_index_short = recovery->is_full;
}

int recovery_look(struct shard *shard)
{
	struct recovery recovery = { .shard = shard };

	recovery.was_clean = shard->super.disk->is_clean != 0;
	find_all(&recovery);
	/* What was freed when the index was full has not been uncounted. */
	memset(shard->quota.payers, 0, (NAMES_MAX + 1) * sizeof(*shard->quota.payers));
	index_walk(shard->index, sweep, shard);
	return 0;
}

int recovery_run(struct shard *shard)
{
	struct recovery recovery = { .shard = shard };
	uint64_t begin_ns = env_now_ns(shard->env);
	const struct shard_mark *mark = shard->opts.mark;
	struct segment *newest;
	int rc;

	if (mark != NULL &&
	    (memcmp(mark->uuid, shard->super.disk->shard, sizeof(mark->uuid)) != 0 ||
	     shard->super.disk->count < mark->super_count))
		return -ERR_FOREIGN;

	recovery.was_clean = shard->super.disk->is_clean != 0;
	shard->super.disk->is_clean = 0;
	rc = super_store(&shard->super);
	if (rc < 0)
		return rc;

	find_all(&recovery);
	/* An entry: a span may have been written while those below it were still under way. */
	if (mark != NULL && recovery.entry_max < mark->kept_sequence)
		return -ERR_FOREIGN;
	newest = segments_place(shard, shard->ages);
	/* What was freed when the index was full has not been uncounted. */
	memset(shard->quota.payers, 0, (NAMES_MAX + 1) * sizeof(*shard->quota.payers));
	index_walk(shard->index, sweep, shard);
	rc = sequence_resume(shard, &recovery);
	if (rc < 0)
		return rc;
	rc = open_first(shard, newest);
	if (rc < 0)
		return rc;
	shard->stats.recovery_ns = env_now_ns(shard->env) - begin_ns;
	foot_advance(shard);
	return 0;
}
