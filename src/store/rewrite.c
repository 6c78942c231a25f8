/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks from an old place on the medium to a new one.
 *
 *   1. A run is a record of the victim of which something stays. It gets memory from a ring, as
 *      much as it spans up to its last block that stays, and is read in commands of at most
 *      write_size: a few in flight, one while somebody reads.
 *   2. All of it is there: the header must be of that record and name the block as the index does.
 *   3. Each block is summed up and compared with its header (put_sum): corrupt bytes are never
 *      written again. It joins the log behind the puts that came before it, under the sequence it
 *      has.
 *   4. It is written: its entry names the new place (reclaim_moved), unless it was dropped or
 *      replaced meanwhile. When the last block of a run is written its memory is free.
 *
 * The old place stays as it is until the pass ends, so readers never wait.
 * No segment is ready: the run waits, and tries again when something happens.
 * A read or a write fails: the block stays at its old place, and is forgotten with that.
 */
#include <string.h>

#include "shard_priv.h"

/* --- the ring --- */

/* A run of pages: its first, or -1 when there is no room yet. */
static int64_t ring_take(struct rewrite *rewrite, uint32_t pages)
{
	uint32_t at = rewrite->ring_tail;

	if (list_is_empty(&rewrite->runs)) {
		rewrite->ring_head = 0;
		at = 0;
	}
	if (rewrite->ring_head <= at) { /* not wrapped */
		if (rewrite->ring_pages - at < pages)
			at = 0;
		if (at == 0 && !list_is_empty(&rewrite->runs) && rewrite->ring_head <= pages)
			return -1;
	} else if (rewrite->ring_head - at <= pages) {
		return -1;
	}
	rewrite->ring_tail = at + pages;
	return at;
}

static char *run_data(const struct rewrite_run *run, uint32_t page)
{
	const struct rewrite *rewrite = &run->shard->reclaim.rewrite;

	return rewrite->ring + (uint64_t)(run->ring_page + page - run->record_page) * PAGE_SIZE;
}

/* Runs that have ended give their memory back in the order in which they took it. */
static void runs_end(struct rewrite *rewrite)
{
	for (;;) {
		struct rewrite_run *run = list_head(&rewrite->runs, struct rewrite_run, node);

		if (run == NULL || !run->is_placed || run->puts > 0 || run->reads > 0)
			return;
		ASSERT(run->pending == NULL);
		list_del(&run->node);
		list_add_tail(&rewrite->runs_unused, &run->node);
		run = list_head(&rewrite->runs, struct rewrite_run, node);
		rewrite->ring_head = run != NULL ? run->ring_page : 0;
	}
}

/* --- reading --- */

static bool stays(const struct disk_foot_entry *row)
{
	return row->reserved == RECLAIM_HIT || row->reserved == RECLAIM_LEASED;
}

static bool is_stopped(const struct shard *shard)
{
	return shard->is_closing || shard->is_offline || shard->reclaim.has_no_room;
}

/* Rows [run->first, …) of one record: where it ends, how many blocks stay; 0: none can. */
static uint32_t run_span(const struct shard *shard, struct rewrite_run *run)
{
	const struct reclaim *reclaim = &shard->reclaim;
	uint32_t record_page = reclaim_entry(reclaim, run->first)->record_page;
	uint64_t end_page = 0;
	uint32_t count = 0;

	for (run->end = run->first; run->end < reclaim->count; run->end++) {
		const struct disk_foot_entry *row = reclaim_entry(reclaim, run->end);

		if (row->record_page != record_page || count == DISK_GROUP_MAX)
			break;
		if (!stays(row))
			continue;
		end_page = MAX(end_page, row->page + pages_of(row->size));
		count += row->page > record_page;
	}
	if (record_page == 0 || end_page <= record_page ||
	    end_page - record_page > reclaim->rewrite.ring_pages)
		return 0;
	run->record_page = record_page;
	run->page_count = (uint32_t)(end_page - record_page);
	return count;
}

/* Still in the list of unused ones. */
static void run_init(struct rewrite_run *run, struct shard *shard, uint32_t first)
{
	struct list node = run->node;

	*run = (struct rewrite_run) { .node = node, .shard = shard, .first = first };
}

/* Take the next record of which something stays; false: there is none, or no room for it now. */
static bool run_begin(struct shard *shard)
{
	struct reclaim *reclaim = &shard->reclaim;
	struct rewrite *rewrite = &reclaim->rewrite;
	struct rewrite_run *run = list_head(&rewrite->runs_unused, struct rewrite_run, node);
	uint32_t count;
	int64_t at;

	while (reclaim->next < reclaim->count && !stays(reclaim_entry(reclaim, reclaim->next)))
		reclaim->next++;
	if (run == NULL || reclaim->next == reclaim->count || is_stopped(shard))
		return false;
	run_init(run, shard, reclaim->next);
	count = run_span(shard, run);
	if (count == 0) {
		reclaim->next = run->end;
		return true;
	}
	if (count > rewrite->put_count)
		return false;
	at = ring_take(rewrite, run->page_count);
	if (at < 0)
		return false;
	run->ring_page = (uint32_t)at;
	run->next = run->first;
	list_del(&run->node);
	list_add_tail(&rewrite->runs, &run->node);
	rewrite->put_count -= count;
	run->promised = count;
	reclaim->next = run->end;
	return true;
}

static void run_landed(struct env_io *io)
{
	struct rewrite_read *read = CONTAINER_OF(io, struct rewrite_read, io);
	struct rewrite_run *run = read->run;
	struct shard *shard = run->shard;

	CHECK_OBJ(shard, SHARD_MAGIC);
	ASSERT(run->reads > 0);
	run->reads--;
	shard->reclaim.rewrite.reads_under_way--;
	read->run = NULL;
	if (io->result < 0) {
		run->rc = (int)io->result;
		shard_io_failed(shard, run->rc);
	} else {
		shard->stats.read_bytes += io->size;
	}
	reclaim_wake(shard);
}

static void run_read(struct rewrite_run *run, struct rewrite_read *read)
{
	struct shard *shard = run->shard;
	uint32_t page = run->record_page + run->read_pages;
	uint64_t pages = MIN(run->page_count - run->read_pages, shard->opts.write_size / PAGE_SIZE);

	read->run = run;
	read->iov = (struct iovec) { run_data(run, page), pages * PAGE_SIZE };
	read->io = (struct env_io) {
		.done = run_landed,
		.blk = shard->blk,
		.kind = ENV_READ,
		.offset = segment_offset(shard, segment_index(shard, shard->reclaim.victim), page),
		.size = pages * PAGE_SIZE,
		.iov = &read->iov,
		.iov_count = 1,
	};
	run->read_pages += (uint32_t)pages;
	run->reads++;
	shard->reclaim.rewrite.reads_under_way++;
	shard->env->ops->blk_submit(shard->env, &read->io);
}

static struct rewrite_read *read_unused(struct rewrite *rewrite)
{
	for (uint32_t i = 0; i < REWRITE_READS; i++) {
		if (rewrite->reads[i].run == NULL)
			return &rewrite->reads[i];
	}
	return NULL;
}

/* Behind what others read, unless puts wait for us. */
static uint32_t reads_max(const struct shard *shard)
{
	return read_is_busy(shard) && !shard->is_room_wanted ? 1 : REWRITE_READS;
}

static void reads_pump(struct shard *shard)
{
	struct rewrite *rewrite = &shard->reclaim.rewrite;

	list_for_each (node, &rewrite->runs) {
		struct rewrite_run *run = list_entry(node, struct rewrite_run, node);

		while (run->rc == 0 && run->read_pages < run->page_count && !is_stopped(shard)) {
			if (rewrite->reads_under_way >= reads_max(shard))
				return;
			run_read(run, read_unused(rewrite));
		}
	}
}

/* --- writing --- */

/* The header of the run, when it is what it should be. */
static const struct disk_record *run_header(const struct rewrite_run *run)
{
	const struct shard *shard = run->shard;
	const struct disk_record *header = (void *)run_data(run, run->record_page);
	struct record_where where = { .shard = shard->super.disk->shard,
				      .segment = segment_index(shard, shard->reclaim.victim),
				      .page = run->record_page,
				      .segment_pages = shard->segment_pages };

	return record_check(header, &where) ? header : NULL;
}

/* What the header says of the block; NULL: it does not know it. */
static const struct disk_entry *block_entry(const struct rewrite_run *run,
					    const struct index_entry *live)
{
	const struct disk_record *header = run_header(run);

	for (uint32_t i = 0; header != NULL && i < header->entry_count; i++) {
		const struct disk_entry *entry = record_entry(header, i);
		struct store_id id;
		struct hash128 hash;

		if (entry->sequence != live->sequence || entry->page != live->page ||
		    entry->size != live->size || entry->crc != live->crc)
			continue;
		memcpy(id.domain, entry->domain, sizeof(id.domain));
		memcpy(id.ns, entry->ns, sizeof(id.ns));
		memcpy(id.key, entry->key, sizeof(id.key));
		hash = index_hash(run->shard->super.disk->seed, &id);
		if (hash.lo == live->hash.lo && hash.hi == live->hash.hi)
			return entry;
	}
	return NULL;
}

static void put_make(const struct rewrite_run *run, struct rewrite_put *mine,
		     const struct disk_entry *entry, const struct index_entry *live)
{
	struct shard_put *put = &mine->put;

	memset(put, 0, sizeof(*put));
	memcpy(put->id.domain, entry->domain, sizeof(put->id.domain));
	memcpy(put->id.ns, entry->ns, sizeof(put->id.ns));
	memcpy(put->id.key, entry->key, sizeof(put->id.key));
	memcpy(put->payer, entry->payer, sizeof(put->payer));
	memcpy(put->place, entry->place, sizeof(put->place));
	put->chain = entry->chain;
	put->depth = entry->depth;
	put->size = entry->size;
	put->expiry_s = entry->expiry_s;
	put->entry_flags =
		(entry->flags & (DISK_ENTRY_SHARED | DISK_ENTRY_NO_CRC)) | DISK_ENTRY_REWRITTEN;
	put->shard = run->shard;
	put->hash = live->hash;
	put->domain_name = live->domain;
	put->payer_name = live->payer;
	put->ns_name = live->ns;
	put->sequence_out = live->sequence;
	put->view = (struct iovec) { run_data(run, live->page), live->size };
	put->iov = &put->view;
	put->iov_count = 1;
	mine->old_page = live->page;
}

/* Its bytes are those that were put. */
static bool put_is_whole(const struct shard *shard, struct shard_put *put,
			 const struct disk_record *header, const struct disk_entry *entry)
{
	if ((put->entry_flags & DISK_ENTRY_NO_CRC) != 0) {
		put_pad(put);
		put->crc = entry->crc;
		return true;
	}
	put_sum(shard, put);
	return put->crc == entry->crc && memcmp(put->strides, record_strides(header, entry),
						put->stride_count * sizeof(put->strides[0])) == 0;
}

/* The block of a row, ready for the log; NULL: it is not there any more, or not as it should be. */
static struct rewrite_put *block_take(struct rewrite_run *run, const struct disk_foot_entry *row)
{
	struct shard *shard = run->shard;
	struct rewrite *rewrite = &shard->reclaim.rewrite;
	struct rewrite_put *mine = list_head(&rewrite->puts_unused, struct rewrite_put, node);
	const struct disk_entry *entry;
	struct index_entry live;

	ASSERT(mine != NULL);
	if (run->rc < 0 || !reclaim_find(shard, row, &live))
		return NULL;
	entry = block_entry(run, &live);
	if (entry == NULL) {
		shard->stats.corrupt++;
		return NULL;
	}
	if (live.sequence < super_drop_sequence(&shard->super, entry->domain, entry->ns))
		return NULL;
	put_make(run, mine, entry, &live);
	if (!put_is_whole(shard, &mine->put, run_header(run), entry)) {
		shard->stats.corrupt++;
		(void)shard_index_remove(shard, &live.hash, live.sequence); /* it was just found */
		return NULL;
	}
	mine->run = run;
	list_del(&mine->node);
	return mine;
}

static void block_done(struct rewrite_run *run, struct rewrite_put *mine, uint64_t size)
{
	struct rewrite *rewrite = &run->shard->reclaim.rewrite;

	if (mine != NULL)
		list_add_tail(&rewrite->puts_unused, &mine->node);
	rewrite->put_count++;
	run->shard->reclaim.done_pages += pages_of(size) + (size >= DISK_GROUP_BLOCK_MAX);
}

/* Give the pending block a place; false: there is none now. */
static bool pending_place(struct rewrite_run *run)
{
	struct shard *shard = run->shard;
	struct shard_put *put = &run->pending->put;
	struct index_entry live;

	/* It may have gone while it waited. */
	if (!index_find(shard->index, &put->hash, &live) || live.sequence != put->sequence_out ||
	    live.sequence < super_drop_sequence(&shard->super, put->id.domain, put->id.ns)) {
		block_done(run, run->pending, put->size);
		run->pending = NULL;
		return true;
	}
	if (log_reserve(shard, put) < 0)
		return false;
	run->puts++;
	run->pending = NULL;
	log_append(shard, put);
	return true;
}

/* Place what of the run is not yet; false: it waits for a segment. */
static bool run_place(struct rewrite_run *run)
{
	const struct reclaim *reclaim = &run->shard->reclaim;

	for (;;) {
		const struct disk_foot_entry *row;

		if (run->pending != NULL && !pending_place(run))
			return false;
		if (run->promised == 0)
			break;
		ASSERT(run->next < run->end);
		row = reclaim_entry(reclaim, run->next++);
		if (!stays(row) || row->page <= run->record_page)
			continue;
		run->promised--;
		run->pending = block_take(run, row);
		if (run->pending == NULL)
			block_done(run, NULL, row->size);
	}
	run->is_placed = true;
	return true;
}

/* Nothing more of it goes into the log. */
static void run_stop(struct rewrite_run *run)
{
	struct rewrite *rewrite = &run->shard->reclaim.rewrite;

	if (run->pending != NULL)
		block_done(run, run->pending, run->pending->put.size);
	run->pending = NULL;
	rewrite->put_count += run->promised;
	run->promised = 0;
	run->is_placed = true;
}

/* There is no segment to write to, and none will come before this pass has ended. */
static bool is_out_of_room(const struct shard *shard)
{
	return shard->ready == NULL && shard->prepare.segment == NULL &&
	       list_is_empty(&shard->free) && !list_is_empty(&shard->feet);
}

static void runs_place(struct shard *shard)
{
	struct reclaim *reclaim = &shard->reclaim;

	list_for_each (node, &reclaim->rewrite.runs) {
		struct rewrite_run *run = list_entry(node, struct rewrite_run, node);

		if (run->is_placed)
			continue;
		if (is_stopped(shard)) {
			run_stop(run);
			continue;
		}
		if (run->reads > 0 || (run->rc == 0 && run->read_pages < run->page_count))
			return;
		if (run_place(run))
			continue;
		if (!is_out_of_room(shard))
			return;
		reclaim->has_no_room = true;
		run_stop(run);
	}
}

bool rewrite_step(struct shard *shard)
{
	struct rewrite *rewrite = &shard->reclaim.rewrite;

	runs_place(shard);
	runs_end(rewrite);
	while (run_begin(shard))
		;
	reads_pump(shard);
	if (!list_is_empty(&rewrite->runs)) {
		const struct rewrite_run *last =
			list_entry(rewrite->runs.prev, struct rewrite_run, node);

		if (shard->reclaim.next == shard->reclaim.count && last->is_placed)
			log_close_group(shard); /* nothing of ours joins it any more */
		return false;
	}
	return is_stopped(shard) || shard->reclaim.next == shard->reclaim.count;
}

void rewrite_written(struct shard *shard, struct shard_put *put, int rc)
{
	struct rewrite_put *mine = CONTAINER_OF(put, struct rewrite_put, put);
	struct rewrite_run *run = mine->run;

	ASSERT(run->puts > 0);
	run->puts--;
	if (rc == 0)
		reclaim_moved(shard, &put->hash, put->sequence_out,
			      &(struct shard_place) { segment_index(shard, shard->reclaim.victim),
						      mine->old_page },
			      &(struct shard_place) { put->segment, put->page });
	block_done(run, mine, put->size);
	reclaim_wake(shard);
}

void rewrite_init(struct shard *shard, char *ring, uint64_t ring_size, struct rewrite_run *runs,
		  struct rewrite_put *puts)
{
	struct rewrite *rewrite = &shard->reclaim.rewrite;

	rewrite->ring = ring;
	rewrite->ring_pages = (uint32_t)(ring_size / PAGE_SIZE);
	rewrite->put_count = REWRITE_PUTS;
	list_init(&rewrite->runs);
	list_init(&rewrite->runs_unused);
	list_init(&rewrite->puts_unused);
	for (uint32_t i = 0; i < REWRITE_RUNS; i++)
		list_add_tail(&rewrite->runs_unused, &runs[i].node);
	for (uint32_t i = 0; i < REWRITE_PUTS; i++)
		list_add_tail(&rewrite->puts_unused, &puts[i].node);
}
