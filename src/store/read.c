/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a block from the medium, checked.
 *
 *   1. shard_read_start takes a read_state and chooses how to check: a whole block against its
 *      checksum in the index, as pieces land in any order (their checksums are shifted to their
 *      places and added up); a range of a large block, or one wanted in order, stride by stride
 *      against the record's header, which is read first; a range of a small block by reading all of
 *      it, and nothing is handed on before it is checked.
 *   2. At most SHARD_READ_WINDOW commands are in flight, each within a buffer.
 *   3. Each piece that landed is checked and handed on; in order, if asked. A checksum takes as
 *      long as the drive needs for a few pages, so that checks are made from the loop, CHECK_TURN
 *      bytes a turn: what is to be read next, of whichever block, goes to the drive before them.
 *   4. When all have landed, done() gets the verdict. A block that recovery had marked is believed
 *      from now on.
 *
 * A command fails, a checksum does not fit, or the header names another block: no further command
 * is begun, and when those in flight have ended the block's entry leaves the index, a counter moves
 * and done() gets -EIO or -ERR_CORRUPT.
 *
 * Foreign buffers are a client's memory: it can write there, or take it away, at any time. They
 * hold exactly the range. Commands go over as many of them as fit; what is less than a page at the
 * end goes through a page of the state's and is copied. Whatever fails in such a read says nothing
 * of the block or the medium: done() tells, entry and counters stay as they are. Who wants to know
 * reads again into memory of his own.
 */
#include <string.h>

#include "shard_priv.h"

#define BUSY_NS    (50 * NS_PER_MS) /* behind a read another is likely */
#define CHECK_TURN (256 * KiB)      /* 25 us where a core checks 10 GiB/s */

struct read_io {
	struct env_io io;
	struct iovec iov; /* where the command is part of one buffer */
	struct read_state *state;
	uint64_t begin; /* in the block */
	bool is_busy;
	bool is_tail;   /* into the state's page */
	bool is_landed; /* and not yet handed on */
};

struct read_state {
	struct list node;
	struct shard *shard;
	struct shard_read *read;
	struct disk_record *header; /* a page of its own; foreign: for the tail */
	struct read_io ios[SHARD_READ_WINDOW];
	uint32_t in_flight;     /* commands, until they are checked */
	uint64_t begin;         /* what is read of the block: begin, … */
	uint64_t end;           /* and end */
	uint64_t next;          /* next to be asked for */
	uint64_t told;          /* in order: next to be handed on */
	uint32_t buffer;        /* of next: index, … */
	uint64_t buffer_offset; /* and bytes in it */
	bool is_checked;
	bool is_by_stride;
	bool is_held; /* handed on only when the whole block is checked */
	const uint32_t *strides;
	uint32_t crc; /* of the whole block or, by stride, of the range */
	int rc;
};

static uint64_t range_end(const struct shard_read *read)
{
	return (uint64_t)read->offset + read->size;
}

static bool is_whole(const struct shard_read *read)
{
	return read->offset == 0 && read->size == read->ref.size;
}

static bool is_small(const struct shard_ref *ref)
{
	return ref->size < DISK_GROUP_BLOCK_MAX;
}

/* What must be read for a range: strides, or all of a small block. */
static void span_of(const struct shard_ref *ref, uint32_t offset, uint32_t size,
		    uint64_t *begin_out, uint64_t *end_out)
{
	uint32_t stride = record_stride(ref->size);

	*begin_out = 0;
	*end_out = ref->size;
	if (is_small(ref))
		return;
	*begin_out = round_down(offset, stride);
	*end_out = MIN(round_up((uint64_t)offset + size, stride), ref->size);
}

uint64_t shard_read_span(const struct shard *shard, const struct shard_ref *ref, uint32_t offset,
			 uint32_t size)
{
	uint64_t begin;
	uint64_t end;

	CHECK_OBJ(shard, SHARD_MAGIC);
	span_of(ref, offset, size, &begin, &end);
	return round_up(end - begin, PAGE_SIZE);
}

/* Hand on what of [begin, end) of the block, at data, is in the range. */
static void piece_tell(struct read_state *state, uint64_t begin, uint64_t end, char *data)
{
	struct shard_read *read = state->read;
	uint64_t from = MAX(begin, read->offset);
	uint64_t to = MIN(end, range_end(read));

	if (from < to)
		read->piece(read, (uint32_t)from, (uint32_t)(to - from), data + (from - begin));
}

/* A held block is checked: all of it, in order. */
static void held_tell(struct read_state *state)
{
	struct shard_read *read = state->read;
	uint64_t at = 0;

	read->crc_out = 0;
	for (uint32_t i = 0; at < state->end; i++) {
		char *data = read->buffers[i].iov_base;
		uint64_t end = MIN(at + read->buffers[i].iov_len, state->end);
		uint64_t from = MAX(at, read->offset);
		uint64_t to = MIN(end, range_end(read));

		if (from < to)
			read->crc_out = crc32c(read->crc_out, data + (from - at), to - from);
		piece_tell(state, at, end, data);
		at = end;
	}
	read->crc_valid_out = true;
}

/* --- the end --- */

/* The block was verified: later reads believe its entry. */
static void trust(struct shard *shard, const struct shard_ref *ref)
{
	struct index_entry entry;

	if (!index_find(shard->index, &ref->hash, &entry) || entry.sequence != ref->sequence)
		return;
	entry.flags &= (uint16_t)~INDEX_SUSPECT;
	(void)index_update(shard->index, &entry); /* it was just found */
}

static void read_succeeded(struct read_state *state)
{
	struct shard_read *read = state->read;

	if (state->is_held) {
		held_tell(state);
	} else if (is_whole(read)) {
		read->crc_out = read->ref.crc;
		read->crc_valid_out = (read->ref.flags & SHARD_REF_NO_CRC) == 0;
	} else {
		read->crc_out = state->crc;
		read->crc_valid_out = state->is_checked;
	}
	if ((read->ref.flags & SHARD_REF_SUSPECT) != 0 && state->is_checked &&
	    (is_small(&read->ref) || is_whole(read)))
		trust(state->shard, &read->ref);
}

static void read_end(struct read_state *state)
{
	struct shard *shard = state->shard;
	struct shard_read *read = state->read;
	int rc = state->rc;

	ASSERT(state->in_flight == 0);
	if (rc == 0 && state->is_checked && !state->is_by_stride && state->crc != read->ref.crc)
		rc = -ERR_CORRUPT;
	if (rc == 0) {
		read_succeeded(state);
	} else if (!read->is_foreign) {
		if (rc == -ERR_CORRUPT)
			shard->stats.corrupt++;
		else
			shard_io_failed(shard, rc);
		/* Reclaim may have given it another place meanwhile, where it is whole. */
		(void)shard_index_remove_at(
			shard, &read->ref.hash, read->ref.sequence,
			&(struct shard_place) { read->ref.segment, read->ref.page });
	}
	list_add_tail(&shard->reads, &state->node);
	shard->read_count--;
	state->read = NULL;
	read->state = NULL;
	read->done(read, rc);
}

/* --- pieces --- */

/* Check a piece by its strides and add what of it is in the range to the checksum. */
static bool strides_check(struct read_state *state, uint64_t begin, uint64_t end, const char *data)
{
	const struct shard_read *read = state->read;
	uint32_t stride = record_stride(read->ref.size);

	for (uint64_t at = begin; at < end; at += stride) {
		uint64_t stop = MIN(at + stride, end);
		uint64_t from = MAX(at, read->offset);
		uint64_t to = MIN(stop, range_end(read));
		uint32_t crc = crc32c(0, data + (at - begin), stop - at);

		if (crc != state->strides[at / stride])
			return false;
		if (from >= to)
			continue;
		if (from != at || to != stop)
			crc = crc32c(0, data + (from - begin), to - from);
		state->crc ^= crc32c_combine(crc, 0, range_end(read) - to);
	}
	return true;
}

static void piece_check(struct read_state *state, uint64_t begin, uint64_t end, const char *data)
{
	if (!state->is_checked)
		return;
	if (state->is_by_stride) {
		if (!strides_check(state, begin, end, data))
			state->rc = -ERR_CORRUPT;
		return;
	}
	state->crc ^= crc32c_combine(crc32c(0, data, end - begin), 0, state->end - end);
}

static uint64_t piece_end(const struct read_state *state, const struct read_io *io)
{
	return MIN(io->begin + io->io.size, state->end);
}

/* What is less than a page at the end of foreign buffers. */
static void tail_copy(const struct read_state *state, const struct read_io *io)
{
	const struct shard_read *read = state->read;
	const struct iovec *last = &read->buffers[read->buffer_count - 1];
	uint64_t size = state->end - io->begin;

	ASSERT(size < PAGE_SIZE);
	ASSERT(size <= last->iov_len);
	memcpy((char *)last->iov_base + (last->iov_len - size), io->iov.iov_base, size);
}

static void command_check(struct read_state *state, const struct read_io *io)
{
	uint64_t at = io->begin;
	uint64_t end = piece_end(state, io);

	for (uint32_t i = 0; state->is_checked && i < io->io.iov_count; i++) {
		const struct iovec *piece = &io->io.iov[i];
		uint64_t stop = MIN(at + piece->iov_len, end);

		piece_check(state, at, stop, piece->iov_base);
		at = stop;
	}
	if (io->is_tail)
		tail_copy(state, io);
}

/* Hand on what has landed, in order if asked. */
static void pieces_tell(struct read_state *state)
{
	bool is_more = true;

	while (is_more && state->rc == 0) {
		is_more = false;
		for (uint32_t i = 0; i < SHARD_READ_WINDOW; i++) {
			struct read_io *io = &state->ios[i];

			if (!io->is_landed ||
			    (state->read->is_in_order && io->begin != state->told))
				continue;
			io->is_landed = false;
			io->is_busy = false;
			state->told = piece_end(state, io);
			if (!state->is_held && !state->read->is_foreign)
				piece_tell(state, io->begin, state->told, io->iov.iov_base);
			is_more = true;
		}
	}
}

static void read_pump(struct read_state *state);

/* A command has ended, and its piece is as it should be, or state->rc says why not. */
static void piece_done(struct read_state *state, struct read_io *io)
{
	ASSERT(state->in_flight > 0);
	state->in_flight--;
	io->is_landed = true;
	pieces_tell(state);
	read_pump(state);
}

/* What has landed is checked in order of landing. */
static void checks_run(struct env_task *task)
{
	struct shard *shard = CONTAINER_OF(task, struct shard, check_task);
	struct read_io *io;
	uint64_t size = 0;

	CHECK_OBJ(shard, SHARD_MAGIC);
	while (size < CHECK_TURN &&
	       (io = list_head(&shard->landed, struct read_io, io.node)) != NULL) {
		list_del(&io->io.node);
		size += io->io.size;
		if (io->state->rc == 0)
			command_check(io->state, io);
		piece_done(io->state, io);
	}
	if (!list_is_empty(&shard->landed))
		shard->env->ops->defer(shard->env, &shard->check_task);
}

static void piece_landed(struct env_io *env_io)
{
	struct read_io *io = CONTAINER_OF(env_io, struct read_io, io);
	struct read_state *state = io->state;
	struct shard *shard = state->shard;

	CHECK_OBJ(shard, SHARD_MAGIC);
	ASSERT(io->is_busy);
	if (env_io->result < 0)
		state->rc = (int)env_io->result;
	else
		shard->stats.read_bytes += env_io->size;
	if (state->rc == 0 && state->is_checked) {
		list_add_tail(&shard->landed, &io->io.node);
		shard->env->ops->defer(shard->env, &shard->check_task);
		return;
	}
	if (state->rc == 0 && io->is_tail)
		tail_copy(state, io);
	piece_done(state, io);
}

static struct read_io *io_idle(struct read_state *state)
{
	for (uint32_t i = 0; i < SHARD_READ_WINDOW; i++) {
		if (!state->ios[i].is_busy)
			return &state->ios[i];
	}
	return NULL;
}

/* Nobody waits for a piece that is read into foreign memory and not checked. */
static uint64_t command_size(const struct read_state *state)
{
	const struct shard_read *read = state->read;

	if (read->is_foreign && !state->is_checked)
		return SHARD_READ_LARGE;
	return read->size <= SHARD_READ_WINDOW * SHARD_READ_SMALL ? SHARD_READ_SMALL
								  : SHARD_READ_SIZE;
}

/* Whole foreign buffers from the next on, of max bytes together; returns how many. */
static uint32_t run_count(const struct read_state *state, uint64_t max, uint64_t *size_out)
{
	const struct shard_read *read = state->read;
	uint64_t size = 0;
	uint32_t count = 0;

	while (state->buffer + count < read->buffer_count && count < ENV_IOV_MAX) {
		uint64_t next = read->buffers[state->buffer + count].iov_len;

		if (next % PAGE_SIZE != 0 || size + next > max)
			break;
		size += next;
		count++;
	}
	*size_out = size;
	return count;
}

/* The next command goes over several buffers; false: it does not. */
static bool run_take(struct read_state *state, struct env_io *io, uint64_t max)
{
	uint64_t size;
	uint32_t count;

	if (!state->read->is_foreign || state->buffer_offset > 0)
		return false;
	count = run_count(state, max, &size);
	if (count < 2)
		return false;
	io->iov = &state->read->buffers[state->buffer];
	io->iov_count = count;
	io->size = size;
	state->buffer += count;
	return true;
}

/* It goes into a part of one. */
static void part_take(struct read_state *state, struct read_io *io, uint64_t max)
{
	const struct iovec *buffer = &state->read->buffers[state->buffer];
	uint64_t size = MIN(max, buffer->iov_len - state->buffer_offset);

	ASSERT(state->buffer < state->read->buffer_count);
	io->iov = (struct iovec) { (char *)buffer->iov_base + state->buffer_offset, size };
	io->io.size = size;
	state->buffer_offset += size;
	if (state->buffer_offset == buffer->iov_len) {
		state->buffer++;
		state->buffer_offset = 0;
	}
}

static void piece_submit(struct read_state *state, struct read_io *io)
{
	struct shard *shard = state->shard;
	const struct shard_read *read = state->read;
	uint64_t left = state->end - state->next;
	uint64_t max = MIN(round_up(left, PAGE_SIZE), command_size(state));

	io->is_busy = true;
	io->is_landed = false;
	io->is_tail = read->is_foreign && left < PAGE_SIZE;
	io->begin = state->next;
	io->io = (struct env_io) {
		.done = piece_landed,
		.blk = shard->blk,
		.kind = ENV_READ,
		.offset = segment_offset(shard, read->ref.segment, read->ref.page) + state->next,
		.iov = &io->iov,
		.iov_count = 1,
	};
	if (read->is_foreign)
		max = MIN(max, round_down(left, PAGE_SIZE));
	if (io->is_tail) {
		io->iov = (struct iovec) { state->header, PAGE_SIZE };
		io->io.size = PAGE_SIZE;
	} else if (!run_take(state, &io->io, max)) {
		part_take(state, io, max);
	}
	ASSERT(io->io.size > 0);
	ASSERT(io->io.size % PAGE_SIZE == 0);
	state->next += io->io.size;
	state->in_flight++;
	shard->env->ops->blk_submit(shard->env, &io->io);
}

/* Ask for more, or end. */
static void read_pump(struct read_state *state)
{
	struct read_io *io;

	while (state->rc == 0 && state->next < state->end && (io = io_idle(state)) != NULL)
		piece_submit(state, io);
	if (state->in_flight == 0)
		read_end(state);
}

/* --- the beginning --- */

/* The entry of the block that is read, if the header in state is of its record. */
static const struct disk_entry *header_entry(const struct read_state *state)
{
	const struct shard *shard = state->shard;
	const struct shard_ref *ref = &state->read->ref;
	struct record_where where = { .shard = shard->super.disk->shard,
				      .segment = ref->segment,
				      .page = ref->page - 1,
				      .segment_pages = shard->segment_pages };

	if (!record_check(state->header, &where))
		return NULL;
	for (uint32_t i = 0; i < state->header->entry_count; i++) {
		const struct disk_entry *entry = record_entry(state->header, i);
		struct store_id id;
		struct hash128 hash;

		memcpy(id.domain, entry->domain, sizeof(id.domain));
		memcpy(id.ns, entry->ns, sizeof(id.ns));
		memcpy(id.key, entry->key, sizeof(id.key));
		hash = index_hash(shard->super.disk->seed, &id);
		if (entry->sequence == ref->sequence && entry->page == ref->page &&
		    entry->size == ref->size && entry->crc == ref->crc && hash.lo == ref->hash.lo &&
		    hash.hi == ref->hash.hi)
			return entry;
	}
	return NULL;
}

static void header_landed(struct env_io *env_io)
{
	struct read_io *io = CONTAINER_OF(env_io, struct read_io, io);
	struct read_state *state = io->state;
	const struct disk_entry *entry = NULL;

	CHECK_OBJ(state->shard, SHARD_MAGIC);
	state->in_flight--;
	io->is_busy = false;
	if (env_io->result < 0) {
		state->rc = (int)env_io->result;
	} else {
		state->shard->stats.read_bytes += env_io->size;
		entry = header_entry(state);
		if (entry == NULL)
			state->rc = -ERR_CORRUPT;
		else
			state->strides = record_strides(state->header, entry);
	}
	read_pump(state);
}

static void header_submit(struct read_state *state)
{
	struct read_io *io = &state->ios[0];
	struct shard *shard = state->shard;
	const struct shard_ref *ref = &state->read->ref;

	io->is_busy = true;
	io->iov = (struct iovec) { state->header, PAGE_SIZE };
	io->io = (struct env_io) {
		.done = header_landed,
		.blk = shard->blk,
		.kind = ENV_READ,
		.offset = segment_offset(shard, ref->segment, ref->page - 1),
		.size = PAGE_SIZE,
		.iov = &io->iov,
		.iov_count = 1,
	};
	state->in_flight++;
	shard->env->ops->blk_submit(shard->env, &io->io);
}

static void state_init(struct read_state *state, struct shard_read *read)
{
	const struct shard *shard = state->shard;
	const struct shard_ref *ref = &read->ref;
	bool is_part = !is_whole(read) || read->is_in_order;

	state->read = read;
	state->in_flight = 0;
	span_of(ref, read->offset, read->size, &state->begin, &state->end);
	state->next = state->begin;
	state->told = state->begin;
	state->buffer = 0;
	state->buffer_offset = 0;
	state->is_checked = (shard->opts.verify != STORE_VERIFY_NONE ||
			     (ref->flags & SHARD_REF_SUSPECT) != 0) &&
			    (ref->flags & SHARD_REF_NO_CRC) == 0;
	state->is_by_stride = state->is_checked && is_part && !is_small(ref);
	state->is_held = state->is_checked && is_part && is_small(ref);
	state->strides = NULL;
	state->crc = 0;
	state->rc = 0;
	for (uint32_t i = 0; i < SHARD_READ_WINDOW; i++) {
		state->ios[i].is_busy = false;
		state->ios[i].is_landed = false;
	}
}

int shard_read_start(struct shard *shard, struct shard_read *read)
{
	struct read_state *state;

	CHECK_OBJ(shard, SHARD_MAGIC);
	ASSERT((read->ref.flags & (SHARD_REF_MEMORY | SHARD_REF_BUFFERED)) == 0);
	ASSERT(read->size > 0);
	ASSERT(range_end(read) <= read->ref.size);
	if (read->is_foreign)
		ASSERT(!read->is_in_order);
	state = list_head(&shard->reads, struct read_state, node);
	if (state == NULL)
		return -EAGAIN;
	list_del(&state->node);
	shard->read_count++;
	shard->read_ns = env_now_ns(shard->env);
	read->shard = shard;
	read->state = state;
	read->crc_valid_out = false;
	state_init(state, read);
	if (state->is_by_stride)
		header_submit(state);
	else
		read_pump(state);
	return 0;
}

bool read_is_busy(const struct shard *shard)
{
	return shard->read_count > 0 ||
	       (shard->read_ns != 0 && env_now_ns(shard->env) - shard->read_ns < BUSY_NS);
}

uint64_t read_memory_size(void)
{
	return SHARD_READ_MAX * (PAGE_SIZE + sizeof(struct read_state));
}

void read_init(struct shard *shard, void *memory)
{
	struct disk_record *headers = memory;
	struct read_state *states = (struct read_state *)(void *)(headers + SHARD_READ_MAX);

	list_init(&shard->reads);
	list_init(&shard->landed);
	shard->check_task.run = checks_run;
	for (uint32_t i = 0; i < SHARD_READ_MAX; i++) {
		states[i].shard = shard;
		states[i].header = &headers[i];
		for (uint32_t j = 0; j < SHARD_READ_WINDOW; j++)
			states[i].ios[j].state = &states[i];
		list_add_tail(&shard->reads, &states[i].node);
	}
}
