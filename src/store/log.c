/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tail of the log: from a complete payload to bytes on the medium.
 *
 *   1. log_reserve finds the place: behind the payloads of the open group (a small block that it
 *      has room for), or behind a header page of its own at the tail of the open segment. When the
 *      segment has no room for it, the group is closed and the ready segment opened.
 *   2. The put gets its sequence and its entry in the index (put.c), and log_append takes the
 *      place: readers find the block in the put's buffers from now on. Places are in order of
 *      sequence, and a record is one run of pages.
 *   3. A large block's record is closed at once. The open group is closed when it is full, when a
 *      large block follows, when the segment ends, when group_delay_ns have passed, or when
 *      somebody waits for it to be durable and no other group is under way: the durable puts that
 *      come while one is written share the next (group commit). Closing encodes the header page.
 *   4. Closed records are written in order of place, header first, as commands of at most
 *      write_size (and the header), at most queue_depth in flight, WRITES_BESIDE_READS while
 * somebody reads.
 *   5. When all commands of a record have ended, its blocks are read from the medium, its puts'
 *      buffers go back, and what waits for it goes on to the next flush (flush.c).
 *
 * A write fails: the record's entries leave the index and the footer, what waits for it gets the
 * error; the log goes on behind it. It counts against the medium, unless the bytes were a client's
 * that has taken its memory away. Its pages are a hole: a header without its payload, at worst,
 * whose checksums do not fit.
 * No segment is ready, or what is left is reclaim's: -EAGAIN, nothing is taken; segment.c makes one
 * and shard_room() tells. The shard goes offline: every record ends with -EIO once its commands in
 * flight have ended.
 */
#include "shard_priv.h"

#define GROUP_PAGES_MAX     (MiB / PAGE_SIZE)
#define WRITES_BESIDE_READS 4u

static struct shard *shard_of(struct log *log)
{
	struct shard *shard = CONTAINER_OF(log, struct shard, log);

	CHECK_OBJ(shard, SHARD_MAGIC);
	return shard;
}

static bool is_small(const struct shard_put *put)
{
	return put->size < DISK_GROUP_BLOCK_MAX;
}

/* Its block was put before: the sequence it keeps says nothing of its place in the log. */
static bool is_rewrite(const struct shard_put *put)
{
	return (put->entry_flags & DISK_ENTRY_REWRITTEN) != 0;
}

/* --- writing --- */

/* The next run of payload of record, at most max bytes; false: there is no more. */
static bool piece_next(struct log_record *record, uint64_t max, struct iovec *piece_out)
{
	const struct shard_put *put;
	const struct iovec *iov;
	uint64_t left;
	uint64_t size;

	for (;; record->next_put++, record->next_iov = 0, record->next_done = 0) {
		if (record->next_put == record->put_count)
			return false;
		put = record->puts[record->next_put];
		left = pages_of(put->size) * PAGE_SIZE - record->next_done;
		if (left > 0)
			break;
	}
	ASSERT(record->next_iov < put->iov_count);
	iov = &put->iov[record->next_iov];
	size = round_up(iov->iov_len, PAGE_SIZE) - record->next_offset;
	size = MIN(MIN(size, left), max);
	ASSERT(size % PAGE_SIZE == 0);
	*piece_out = (struct iovec) { (char *)iov->iov_base + record->next_offset, size };

	record->next_done += size;
	record->next_offset += size;
	if (record->next_offset == round_up(iov->iov_len, PAGE_SIZE)) {
		record->next_iov++;
		record->next_offset = 0;
	}
	return true;
}

/* The whole record has been given to the medium: on to the next one that is complete. */
static void record_submitted(struct log *log, struct log_record *record)
{
	struct list *node = record->node.next;
	struct log_record *next = NULL;

	if (node != &log->unwritten)
		next = list_entry(node, struct log_record, node);
	record->is_submitted = true;
	log->next = next != NULL && next->is_closed ? next : NULL;
}

static void write_ended(struct env_io *io);

static void write_submit(struct shard *shard, struct log_write *write, struct log_record *record)
{
	uint64_t max = shard->opts.write_size;
	uint64_t size = 0;
	uint32_t count = 0;
	uint64_t offset = segment_offset(shard, segment_index(shard, record->segment),
					 record->page + record->submitted_pages);

	if (record->submitted_pages == 0) {
		write->iov[count++] = (struct iovec) { record->header, PAGE_SIZE };
		size += PAGE_SIZE;
		max += PAGE_SIZE; /* else the last page of a block would be a command of its own */
	}
	while (count < ENV_IOV_MAX && size < max &&
	       piece_next(record, max - size, &write->iov[count]))
		size += write->iov[count++].iov_len;
	ASSERT(size > 0);

	record->submitted_pages += (uint32_t)(size / PAGE_SIZE);
	ASSERT(record->submitted_pages <= record->page_count);
	record->writes++;
	shard->log.writes_under_way++;
	list_del(&write->node);
	write->record = record;
	write->io = (struct env_io) { .done = write_ended,
				      .blk = shard->blk,
				      .kind = ENV_WRITE,
				      .offset = offset,
				      .size = size,
				      .iov = write->iov,
				      .iov_count = count };
	if (record->submitted_pages == record->page_count)
		record_submitted(&shard->log, record);
	shard->env->ops->blk_submit(shard->env, &write->io);
}

/* Commands in flight: few where somebody reads, whose command would wait behind all of them. */
static uint32_t writes_max(const struct shard *shard)
{
	return read_is_busy(shard) ? MIN(WRITES_BESIDE_READS, shard->opts.queue_depth)
				   : shard->opts.queue_depth;
}

static void log_pump(struct shard *shard)
{
	struct log *log = &shard->log;
	uint32_t max = writes_max(shard);

	while (log->next != NULL && log->writes_under_way < max) {
		ASSERT(!shard->is_offline);
		write_submit(shard, list_head(&log->writes, struct log_write, node), log->next);
	}
}

static void group_close_if_due(struct shard *shard)
{
	struct log *log = &shard->log;

	if (log->group != NULL && log->is_group_wanted && log->groups_under_way == 0)
		log_close_group(shard);
}

static uint64_t record_last_sequence(const struct log_record *record)
{
	uint64_t last = 0;

	for (uint32_t i = 0; i < record->put_count; i++)
		last = MAX(last, record->puts[i]->sequence_out);
	return last;
}

/* Nothing of record is in flight and nothing will be. */
static void record_end(struct shard *shard, struct log_record *record)
{
	struct segment *segment = record->segment;
	int rc = record->rc;

	ASSERT(record->writes == 0);
	ASSERT(record != shard->log.group);
	list_del(&record->node);
	if (record->is_group)
		shard->log.groups_under_way--;
	if (rc < 0)
		foot_void(segment->foot, record->foot_first, record->put_count);
	else
		shard->written_sequence =
			MAX(shard->written_sequence, record_last_sequence(record));
	for (uint32_t i = 0; i < record->put_count; i++)
		put_written(shard, record->puts[i], rc);
	while (!list_is_empty(&record->waiters)) {
		struct shard_wait *wait = list_head(&record->waiters, struct shard_wait, node);

		list_del(&wait->node);
		if (rc < 0)
			wait->done(wait, rc);
		else
			flush_wait(shard, wait);
	}
	list_add_tail(&shard->log.unused, &record->node);
	segment_wrote(shard, segment);
}

/* Its bytes were a client's, and it took them away. */
static bool is_client_fault(const struct log_record *record, int rc)
{
	return record->puts[0]->is_foreign && foreign_is_fault(rc);
}

static void write_ended(struct env_io *io)
{
	struct log_write *write = CONTAINER_OF(io, struct log_write, io);
	struct log_record *record = write->record;
	struct shard *shard = write->shard;
	struct log *log = &shard->log;

	CHECK_OBJ(shard, SHARD_MAGIC);
	ASSERT(record->writes > 0);
	record->writes--;
	log->writes_under_way--;
	list_add_tail(&log->writes, &write->node);
	if (io->result < 0) {
		record->rc = (int)io->result;
		if (!is_client_fault(record, record->rc))
			shard_io_failed(shard, record->rc);
	} else {
		shard->stats.written_bytes += io->size;
	}
	if (record->is_submitted && record->writes == 0)
		record_end(shard, record);
	group_close_if_due(shard);
	log_pump(shard);
}

/* --- placing --- */

static void record_close(struct shard *shard, struct log_record *record)
{
	struct log *log = &shard->log;

	ASSERT(!record->is_closed);
	record->is_closed = true;
	record_encode(shard, record);
	if (record->is_group)
		log->groups_under_way++;
	if (log->next == NULL)
		log->next = record;
	log_pump(shard);
}

void log_close_group(struct shard *shard)
{
	struct log_record *group = shard->log.group;

	if (group == NULL)
		return;
	shard->log.group = NULL;
	shard->log.is_group_wanted = false;
	shard->env->ops->timer_clear(shard->env, &shard->log.timer);
	record_close(shard, group);
}

static void group_delay_over(struct env_timer *timer)
{
	log_close_group(shard_of(CONTAINER_OF(timer, struct log, timer)));
}

static bool group_takes(const struct shard *shard, const struct shard_put *put)
{
	const struct log_record *group = shard->log.group;
	uint64_t pages = pages_of(put->size);

	return group != NULL && is_small(put) &&
	       record_has_room(group->put_count + 1, group->stride_count + put->stride_count) &&
	       group->page_count + pages <= GROUP_PAGES_MAX &&
	       segment_fits(shard, shard->open, pages);
}

int log_reserve(struct shard *shard, struct shard_put *put)
{
	int rc;

	if (!is_rewrite(put) && !reclaim_admits(shard, 1 + pages_of(put->size)))
		return -EAGAIN;
	if (group_takes(shard, put)) {
		put->segment = segment_index(shard, shard->open);
		put->page = shard->open->tail;
		return 0;
	}
	if (shard->open == NULL || !segment_fits(shard, shard->open, 1 + pages_of(put->size))) {
		rc = segment_turn(shard);
		if (rc < 0)
			return rc;
	}
	put->segment = segment_index(shard, shard->open);
	put->page = shard->open->tail + 1;
	return 0;
}

static struct log_record *record_begin(struct shard *shard, struct shard_put *put)
{
	struct log *log = &shard->log;
	struct log_record *record = list_head(&log->unused, struct log_record, node);
	struct segment *segment = shard->open;

	ASSERT(record != NULL); /* there is one for each put and each tombstone */
	list_del(&record->node);
	*record = (struct log_record) { .header = record->header,
					.segment = segment,
					.page = segment->tail,
					.page_count = 1,
					.sequence = is_rewrite(put) ? shard->sequence
								    : put->sequence_out,
					.foot_first = segment->foot->count,
					.is_group = is_small(put) };
	list_init(&record->waiters);
	list_add_tail(&log->unwritten, &record->node);
	segment->tail++;
	segment->unwritten++;
	if (record->is_group) {
		log->group = record;
		shard->env->ops->timer_set(shard->env, &log->timer,
					   env_now_ns(shard->env) + shard->opts.group_delay_ns);
	}
	return record;
}

void log_append(struct shard *shard, struct shard_put *put)
{
	struct log *log = &shard->log;
	struct segment *segment = shard->open;
	struct log_record *record;
	uint32_t pages = (uint32_t)pages_of(put->size);

	ASSERT(!shard->is_offline);
	ASSERT(put->segment == segment_index(shard, segment));
	if (put->page == segment->tail) {
		record = log->group;
		ASSERT(record != NULL);
	} else {
		ASSERT(put->page == segment->tail + 1);
		log_close_group(shard);
		record = record_begin(shard, put);
	}
	ASSERT(record->put_count < DISK_GROUP_MAX);
	record->puts[record->put_count++] = put;
	record->stride_count += put->stride_count;
	record->page_count += pages;
	segment->tail += pages;
	put->record = record;
	foot_add_put(shard, segment, put);
	shard->stats.padding_bytes += pages * PAGE_SIZE - put->size;

	if (put->is_durable)
		log_wait(shard, record, &put->wait);
	if (!record->is_group)
		record_close(shard, record);
	else if (record == log->group &&
		 (record->put_count == DISK_GROUP_MAX || record->page_count == GROUP_PAGES_MAX))
		log_close_group(shard);
	segment_took(shard, segment);
}

void log_wait(struct shard *shard, struct log_record *record, struct shard_wait *wait)
{
	list_add_tail(&record->waiters, &wait->node);
	if (record == shard->log.group) {
		shard->log.is_group_wanted = true;
		group_close_if_due(shard);
	}
}

uint64_t log_oldest_unwritten(const struct shard *shard)
{
	const struct log *log = &shard->log;

	if (list_is_empty(&log->unwritten))
		return shard->sequence;
	return list_entry(log->unwritten.next, struct log_record, node)->sequence;
}

void log_fail(struct shard *shard, int rc)
{
	struct log *log = &shard->log;

	ASSERT(shard->is_offline);
	shard->env->ops->timer_clear(shard->env, &log->timer);
	if (log->group != NULL && log->group->is_group)
		log->groups_under_way++; /* as if it had been closed */
	log->group = NULL;
	log->next = NULL;
	list_for_each_safe (node, &log->unwritten) {
		struct log_record *record = list_entry(node, struct log_record, node);

		record->is_submitted = true;
		record->rc = rc;
		if (record->writes == 0)
			record_end(shard, record);
	}
}

void log_init(struct shard *shard, struct log_record *records, uint32_t record_count,
	      struct disk_record *headers, struct log_write *writes)
{
	struct log *log = &shard->log;

	log->timer.fire = group_delay_over;
	list_init(&log->unwritten);
	list_init(&log->unused);
	list_init(&log->writes);
	for (uint32_t i = 0; i < record_count; i++) {
		records[i].header = &headers[i];
		list_add_tail(&log->unused, &records[i].node);
	}
	for (uint32_t i = 0; writes != NULL && i < shard->opts.queue_depth; i++) {
		writes[i].shard = shard;
		list_add_tail(&log->writes, &writes[i].node);
	}
}
