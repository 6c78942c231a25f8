/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reclaim: the oldest segment becomes a free one; what is worth it is written again.
 *
 *   1. A pass begins when only `spare` segments are free and the open one is half full, or somebody
 *      waits for room. Its victim is the oldest sealed segment.
 *   2. LOADING    Its directory is read: the footer (directory.c); in memory mode it is there.
 *   3. MARKING    Which of its blocks are alive; of these stay the leased ones and those that were
 *                 hit (opts.reinsert_hits). They may take three quarters of what the blocks in it
 *                 took, counted together with what the passes before have left: a quarter of a
 *                 segment is won. And they may take opts.reinsert_share of all that is written, on
 *                 the average of many passes. Beyond that the private ones go first, then the
 *                 deepest: tails before roots.
 *   4. COPYING    Who stays is read, checked and written at the tail of the log (rewrite.c), or
 *                 copied (memory.c). It keeps its sequence, so that who knows its name still finds
 *                 it; when it is written, its entry names the new place.
 *   5. FLUSHING   The new places survive a crash before the old ones may go.
 *   6. FORGETTING The rest leaves the index. A block that was leased meanwhile goes back to 4. The
 *                 segment is free, and discarded where the medium does that.
 *
 * Pacing: the spare segments are the pass's own, so it can always write; puts take of them only as
 * much as it has won, step by step. Steps are short, each in a turn of the loop of its own.
 *
 * A block is dropped, replaced or forgotten meanwhile: it is looked up again at each step.
 * A block cannot be read, or is corrupt: it is not written again.
 * No segment is left to write to: the rest is forgotten, leased or not (forgotten_leased). It takes
 * a quarter of the store in blocks that pack badly.
 * A crash: both places are on the medium, or the old one is; recovery takes one that is whole.
 */
#include <string.h>

#include "shard_priv.h"

#define STEP_ROWS  1024u /* of the directory, in one turn of the loop */
#define ROUNDS_MAX 3u
#define SHARE      4u /* a pass frees at least one part in so many of a segment */
#define SAVED      8u /* of opts.reinsert_share passes save up to one part in so many of the store */

uint64_t reclaim_ring_size(uint64_t segment_size, uint64_t block_max)
{
	uint64_t record = MAX(round_up(block_max, PAGE_SIZE), MIN(MiB, segment_size)) + PAGE_SIZE;

	return MAX(record, MIN(8 * MiB, segment_size / 2));
}

static uint32_t free_total(const struct shard *shard)
{
	return shard->free_count + (shard->ready != NULL) + (shard->prepare.segment != NULL);
}

static bool is_due(const struct shard *shard)
{
	if (shard->is_closing || shard->is_offline || free_total(shard) > shard->spare)
		return false;
	return shard->is_room_wanted || shard->open == NULL ||
	       shard->open->tail >= shard->segment_pages / 2;
}

void reclaim_wake(struct shard *shard)
{
	if (shard->reclaim.state != RECLAIM_IDLE || is_due(shard))
		shard->env->ops->defer(shard->env, &shard->reclaim.task);
}

void reclaim_go(struct shard *shard, enum reclaim_state state)
{
	shard->reclaim.state = state;
	shard->reclaim.next = 0;
	shard->env->ops->defer(shard->env, &shard->reclaim.task);
}

bool reclaim_is_idle(const struct shard *shard)
{
	return shard->reclaim.state == RECLAIM_IDLE && shard->reclaim.trim_segment == NULL;
}

/* Pages that the pass under way has won so far, those that it wrote again included: its victim is
 * as good as free by so much. */
static uint64_t pages_won(const struct shard *shard)
{
	const struct reclaim *reclaim = &shard->reclaim;
	uint64_t all = shard->segment_pages;

	switch (reclaim->state) {
	case RECLAIM_COPYING:
		if (reclaim->keep_pages == 0)
			return all;
		if (reclaim->keep_pages >= all)
			return reclaim->done_pages;
		return all * reclaim->done_pages / reclaim->keep_pages;
	case RECLAIM_FLUSHING:
	case RECLAIM_FORGETTING:
		return all;
	default:
		return 0;
	}
}

bool reclaim_admits(struct shard *shard, uint64_t pages)
{
	uint64_t all = shard->segment_pages;
	uint64_t room = free_total(shard) * all + pages_won(shard);

	if (shard->open != NULL && shard->open->tail + pages <= all)
		room += all - shard->open->tail;
	if (room >= shard->spare * all + pages)
		return true;
	shard->is_room_wanted = true;
	reclaim_wake(shard);
	return false;
}

/* --- marking --- */

bool reclaim_find(const struct shard *shard, const struct disk_foot_entry *row,
		  struct index_entry *entry_out)
{
	const struct hash128 hash = { row->hash[0], row->hash[1] };

	return index_find(shard->index, &hash, entry_out) && entry_out->sequence == row->sequence &&
	       entry_out->page == row->page &&
	       entry_out->segment == segment_index(shard, shard->reclaim.victim);
}

static enum reclaim_mark mark_of(const struct shard *shard, const struct index_entry *entry)
{
	bool has_expired =
		entry->expiry_s != 0 && entry->expiry_s <= shard->env->ops->wall_s(shard->env);

	if (shard_was_dropped(shard, entry->domain, entry->ns, entry->sequence))
		return RECLAIM_FORGET;
	if (entry->leases > 0)
		return RECLAIM_LEASED;
	if (shard->opts.reinsert_hits == 0 || entry->hits < shard->opts.reinsert_hits ||
	    has_expired || quota_is_near(shard, entry->payer))
		return RECLAIM_FORGET;
	return RECLAIM_HIT;
}

/* Pages that a block takes in the log, its header with it when that is its own. */
static uint64_t pages_kept(const struct disk_foot_entry *row)
{
	return pages_of(row->size) + (row->size >= DISK_GROUP_BLOCK_MAX);
}

/* The lower, the rather it stays. */
static uint64_t rank_of(const struct disk_foot_entry *row)
{
	uint64_t is_private = (row->flags & DISK_ENTRY_SHARED) == 0;

	return is_private << 32 | row->depth;
}

/* Pages of the rows with this mark whose rank is below. */
static uint64_t pages_below(const struct reclaim *reclaim, enum reclaim_mark mark, uint64_t rank)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < reclaim->count; i++) {
		const struct disk_foot_entry *row = reclaim_entry(reclaim, i);

		if (row->reserved == mark && rank_of(row) < rank)
			pages += pages_kept(row);
	}
	return pages;
}

/* The highest rank below which all that was hit fits into room. */
static uint64_t rank_limit(const struct reclaim *reclaim, uint64_t room)
{
	uint64_t low = 0;
	uint64_t high = UINT64_C(1) << 33;

	while (low < high) {
		uint64_t middle = low + (high - low + 1) / 2;

		if (pages_below(reclaim, RECLAIM_HIT, middle) <= room)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* Of what was hit, forget what has no room. */
static void hits_cut(struct reclaim *reclaim, uint64_t room)
{
	uint64_t limit = rank_limit(reclaim, room);

	room -= pages_below(reclaim, RECLAIM_HIT, limit);
	for (uint32_t i = 0; i < reclaim->count; i++) {
		struct disk_foot_entry *row = reclaim_entry(reclaim, i);

		if (row->reserved != RECLAIM_HIT || rank_of(row) < limit)
			continue;
		if (rank_of(row) == limit && pages_kept(row) <= room)
			room -= pages_kept(row);
		else
			row->reserved = RECLAIM_FORGET;
	}
}

/* Pages of blocks that the victim took when it was written: between them were headers, and behind
 * the last a tail too small for the next. What is written again packs no better. A segment that a
 * restart left half full says nothing of that. */
static uint64_t pages_packed(const struct shard *shard)
{
	const struct reclaim *reclaim = &shard->reclaim;
	uint64_t pages = 0;

	if (reclaim->has_walked) /* the rows are those that are alive */
		return shard->segment_pages;
	for (uint32_t i = 0; i < reclaim->count; i++)
		pages += pages_kept(reclaim_entry(reclaim, i));
	return MIN(MAX(pages, shard->segment_pages / 2), shard->segment_pages);
}

/* Every row has its mark: who stays. Leased blocks do, whatever is left for the others. */
static void marks_choose(struct shard *shard)
{
	struct reclaim *reclaim = &shard->reclaim;
	uint64_t packed = pages_packed(shard);
	uint64_t pass = packed - packed / SHARE + reclaim->credit;
	uint64_t lost = packed * (100 - shard->opts.reinsert_share) / 100;
	uint64_t share = packed - lost + reclaim->allowance;
	uint64_t leased = pages_below(reclaim, RECLAIM_LEASED, UINT64_MAX);
	uint64_t hit = pages_below(reclaim, RECLAIM_HIT, UINT64_MAX);
	uint64_t room = MIN(pass, share);

	room -= MIN(leased, room);
	if (hit > room) {
		hits_cut(reclaim, room);
		hit = pages_below(reclaim, RECLAIM_HIT, UINT64_MAX);
	}
	reclaim->keep_pages = leased + hit;
	reclaim->credit = MIN(pass - MIN(pass, reclaim->keep_pages), shard->segment_pages);
	reclaim->allowance = MIN(share - MIN(share, reclaim->keep_pages),
				 (uint64_t)shard->segment_count * shard->segment_pages / SAVED);
}

static void mark_step(struct shard *shard)
{
	struct reclaim *reclaim = &shard->reclaim;
	uint32_t end = MIN(reclaim->count, reclaim->next + STEP_ROWS);

	for (; reclaim->next < end; reclaim->next++) {
		struct disk_foot_entry *row = reclaim_entry(reclaim, reclaim->next);
		struct index_entry entry;

		row->reserved = RECLAIM_GONE;
		if (!reclaim_find(shard, row, &entry))
			continue;
		reclaim->live++;
		row->reserved = mark_of(shard, &entry);
	}
	if (end < reclaim->count) {
		shard->env->ops->defer(shard->env, &reclaim->task);
		return;
	}
	/* What leaves the index meanwhile makes the directory's count the higher one. */
	if (reclaim->live < reclaim->victim->live_count && !reclaim->has_walked) {
		reclaim->count = 0;
		reclaim_go(shard, RECLAIM_WALKING);
		return;
	}
	marks_choose(shard);
	reclaim_go(shard, RECLAIM_COPYING);
}

/* --- copying --- */

void reclaim_moved(struct shard *shard, const struct hash128 *hash, uint64_t sequence,
		   const struct shard_place *from, const struct shard_place *to)
{
	struct index_entry entry;

	if (!shard_index_move(shard, hash, sequence, from, to))
		return;
	shard->reclaim.has_rewritten = true;
	shard->stats.rewritten++;
	if (index_find(shard->index, hash, &entry))
		shard->stats.rewritten_bytes += entry.size;
}

static void copies_flushed(struct shard_wait *wait, int rc)
{
	struct shard *shard = CONTAINER_OF(wait, struct shard, reclaim.wait);

	CHECK_OBJ(shard, SHARD_MAGIC);
	if (rc == 0)
		reclaim_go(shard, RECLAIM_FORGETTING);
	else /* offline */
		shard->reclaim.state = RECLAIM_IDLE;
}

static void copy_step(struct shard *shard)
{
	struct reclaim *reclaim = &shard->reclaim;
	bool is_done = is_memory(shard) ? memory_copy_step(shard) : rewrite_step(shard);

	if (shard->is_room_wanted && reclaim->done_pages != reclaim->told_pages) {
		reclaim->told_pages = reclaim->done_pages;
		shard_room(shard); /* who is paced */
	}
	if (!is_done)
		return;
	if (shard->is_closing || shard->is_offline) {
		reclaim->state = RECLAIM_IDLE;
	} else if (is_memory(shard) || !reclaim->has_rewritten) {
		reclaim_go(shard, RECLAIM_FORGETTING);
	} else {
		reclaim->state = RECLAIM_FLUSHING;
		reclaim->wait.done = copies_flushed;
		flush_wait(shard, &reclaim->wait);
	}
}

/* --- forgetting --- */

/* False: it was leased since it was looked at. */
static bool row_forget(struct shard *shard, struct disk_foot_entry *row)
{
	const struct reclaim *reclaim = &shard->reclaim;
	struct index_entry entry;

	if (!reclaim_find(shard, row, &entry))
		return true;
	if (entry.leases > 0 && !reclaim->has_no_room && reclaim->rounds < ROUNDS_MAX) {
		row->reserved = RECLAIM_LEASED;
		return false;
	}
	shard->stats.forgotten_leased += entry.leases > 0;
	shard_index_forget(shard, &entry);
	return true;
}

static void pass_end(struct shard *shard)
{
	struct reclaim *reclaim = &shard->reclaim;
	struct segment *victim = reclaim->victim;

	reclaim->state = RECLAIM_IDLE;
	reclaim->victim = NULL;
	segment_release(shard, victim);
	reclaim_wake(shard);
}

static void forget_step(struct shard *shard)
{
	struct reclaim *reclaim = &shard->reclaim;
	uint32_t end = MIN(reclaim->count, reclaim->next + STEP_ROWS);

	for (; reclaim->next < end; reclaim->next++) {
		struct disk_foot_entry *row = reclaim_entry(reclaim, reclaim->next);

		row->reserved = RECLAIM_GONE;
		(void)row_forget(shard, row); /* its lease says it */
	}
	if (end < reclaim->count) {
		shard->env->ops->defer(shard->env, &reclaim->task);
		return;
	}
	if (reclaim->victim->live_count == 0) {
		pass_end(shard);
		return;
	}
	/* Leased meanwhile; or a walk of the index missed what a put moved there. */
	reclaim->has_walked = false;
	if (reclaim->victim->leased_count > 0 && reclaim->rounds++ < ROUNDS_MAX)
		reclaim_go(shard, RECLAIM_COPYING);
	else
		reclaim_go(shard, RECLAIM_WALKING);
}

/* --- the pass --- */

static void pass_begin(struct shard *shard)
{
	struct reclaim *reclaim = &shard->reclaim;

	reclaim->victim = segment_victim(shard);
	if (reclaim->victim == NULL) /* foot_end() or memory_settle() comes back */
		return;
	reclaim->count = 0;
	reclaim->live = 0;
	reclaim->rounds = 0;
	reclaim->keep_pages = 0;
	reclaim->done_pages = 0;
	reclaim->told_pages = 0;
	reclaim->has_walked = false;
	reclaim->has_no_room = false;
	reclaim->has_rewritten = false;
	if (reclaim->victim->live_count == 0) {
		reclaim_go(shard, RECLAIM_FORGETTING);
	} else if (is_memory(shard)) {
		reclaim->entries = memory_directory(shard, reclaim->victim);
		reclaim->step = -1;
		reclaim->count = reclaim->victim->dir_count;
		reclaim_go(shard, RECLAIM_MARKING);
	} else {
		reclaim->state = RECLAIM_LOADING;
		directory_load(shard);
	}
}

static void reclaim_run(struct env_task *task)
{
	struct shard *shard = CONTAINER_OF(task, struct shard, reclaim.task);
	struct reclaim *reclaim = &shard->reclaim;

	CHECK_OBJ(shard, SHARD_MAGIC);
	switch (reclaim->state) {
	case RECLAIM_IDLE:
		if (is_due(shard))
			pass_begin(shard);
		return;
	case RECLAIM_COPYING:
		copy_step(shard);
		return;
	case RECLAIM_LOADING:
	case RECLAIM_FLUSHING:
		return;
	default:
		break;
	}
	if (shard->is_closing || shard->is_offline)
		reclaim->state = RECLAIM_IDLE;
	else if (reclaim->state == RECLAIM_WALKING)
		directory_walk(shard);
	else if (reclaim->state == RECLAIM_MARKING)
		mark_step(shard);
	else
		forget_step(shard);
}

/* --- trim --- */

static void trim_ended(struct env_io *io)
{
	struct shard *shard = CONTAINER_OF(io, struct shard, reclaim.trim_io);
	struct segment *segment = shard->reclaim.trim_segment;

	CHECK_OBJ(shard, SHARD_MAGIC);
	shard->reclaim.trim_segment = NULL;
	if (io->result < 0)
		shard->stats.io_errors++;
	else
		shard->stats.trims++;
	segment_unpin(shard, segment);
}

void reclaim_trim(struct shard *shard, struct segment *segment)
{
	struct reclaim *reclaim = &shard->reclaim;

	if (!segment->is_trim_due || segment->pins > 0 || reclaim->trim_segment != NULL ||
	    shard->is_offline)
		return;
	ASSERT(segment->state == SEGMENT_FREE);
	segment->is_trim_due = false;
	segment_pin(segment); /* nothing is written there before it has ended */
	reclaim->trim_segment = segment;
	reclaim->trim_io = (struct env_io) {
		.done = trim_ended,
		.blk = shard->blk,
		.kind = ENV_DISCARD,
		.offset = segment_offset(shard, segment_index(shard, segment), 0),
		.size = shard->segment_size,
	};
	shard->env->ops->blk_submit(shard->env, &reclaim->trim_io);
}

void reclaim_init(struct shard *shard)
{
	shard->reclaim.task.run = reclaim_run;
	shard->spare = shard->segment_count >= 4 * SHARD_SPARE ? SHARD_SPARE : 1;
}
