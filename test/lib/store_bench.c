/* SPDX-License-Identifier: Apache-2.0 */
#include "store_bench.h"

#include <stdlib.h>
#include <string.h>

#define WAIT_TURNS 200000

static void *pages_alloc(uint64_t size)
{
	void *pages = aligned_alloc(PAGE_SIZE, round_up(MAX(size, 1), PAGE_SIZE));

	ASSERT(pages != NULL);
	return pages;
}

static void defaults(struct store_bench *bench, uint64_t seed)
{
	memset(bench, 0, sizeof(*bench));
	env_fake_init(&bench->fake, seed);
	bench->fake.wall_s = 1000000;
	bench->env = &bench->fake.env;
	bench->opts = (struct shard_opts) { .index_entries = 8192,
					    .queue_depth = 16,
					    .put_max = 64,
					    .write_size = 256 * KiB,
					    .group_delay_ns = NS_PER_MS,
					    .verify = STORE_VERIFY_MEDIUM };
}

void bench_init(struct store_bench *bench, uint64_t seed, uint32_t segment_count)
{
	uint64_t size = segment_count * disk_segment_size(DISK_SEGMENT_MIN) + 2 * MiB;
	struct medium_spec spec = { .path = BENCH_PATH, .is_sparse = true };
	struct medium_info info;
	char message[256];

	defaults(bench, seed);
	env_fake_disk(&bench->fake, BENCH_PATH, size);
	spec.segment_room = DISK_SEGMENT_MIN;
	ASSERT(medium_setup(bench->env, &spec, &info, message) == 0);
	bench->segment_count = info.segment_count;
	bench->fake.calls = 0;
	bench->fake.writes = 0;
}

void bench_init_memory(struct store_bench *bench, uint64_t size, uint64_t segment_room)
{
	defaults(bench, 1);
	bench->memory = (struct shard_memory) { .size = size, .segment_room = segment_room };
}

void bench_fini(struct store_bench *bench)
{
	ASSERT(bench->shard == NULL);
	ASSERT(bench->fake.held == 0);
	env_fake_fini(&bench->fake);
}

int bench_open(struct store_bench *bench)
{
	char message[256];
	int rc;

	if (bench->memory.size != 0)
		return shard_open(bench->env, NULL, 0, &bench->memory, &bench->opts, &bench->shard);
	rc = medium_open(bench->env, BENCH_PATH, 7, &bench->medium, message);
	if (rc < 0)
		return rc;
	rc = shard_open(bench->env, bench->medium, 0, NULL, &bench->opts, &bench->shard);
	if (rc < 0)
		medium_close(&bench->medium);
	return rc;
}

int bench_close(struct store_bench *bench)
{
	int rc = shard_close(&bench->shard, false);

	if (bench->medium != NULL)
		medium_close(&bench->medium);
	return rc;
}

void bench_crash(struct store_bench *bench)
{
	env_fake_power_cut(&bench->fake);
	(void)shard_close(&bench->shard, true);
	medium_close(&bench->medium);
}

void bench_id(uint64_t number, struct store_id *id_out)
{
	memset(id_out, 0, sizeof(*id_out));
	id_out->domain[0] = 1;
	id_out->ns[0] = (uint8_t)(1 + number / 1000000);
	memcpy(id_out->key, &number, sizeof(number));
}

/* Eight bytes of a block, from a multiple of 8. */
static uint64_t word_at(uint64_t number, uint64_t offset)
{
	uint64_t x = (number + 1) * UINT64_C(0x9e3779b97f4a7c15) ^
		     (offset / 8 + 1) * UINT64_C(0xbf58476d1ce4e5b9);

	return x ^ x >> 29;
}

void bench_fill(uint64_t number, char *buf, uint64_t offset, uint64_t size)
{
	for (uint64_t at = 0; at < size;) {
		uint64_t skip = (offset + at) % 8;
		uint64_t word = word_at(number, offset + at - skip);
		uint64_t count = MIN(8 - skip, size - at);

		memcpy(buf + at, (char *)&word + skip, count);
		at += count;
	}
}

bool bench_is_filled(uint64_t number, const char *buf, uint64_t offset, uint64_t size)
{
	for (uint64_t at = 0; at < size;) {
		uint64_t skip = (offset + at) % 8;
		uint64_t word = word_at(number, offset + at - skip);
		uint64_t count = MIN(8 - skip, size - at);

		if (memcmp(buf + at, (char *)&word + skip, count) != 0)
			return false;
		at += count;
	}
	return true;
}

bool bench_wait(struct store_bench *bench, const bool *flag)
{
	for (uint32_t turn = 0; turn < WAIT_TURNS && !*flag; turn++)
		(void)bench->env->ops->poll(bench->env, NS_PER_MS); /* always 0 */
	return *flag;
}

/* --- puts --- */

static void put_done(struct shard_put *put, int rc)
{
	struct bench_put *mine = CONTAINER_OF(put, struct bench_put, put);

	ASSERT(!mine->is_done);
	mine->is_done = true;
	mine->rc = rc;
}

static void put_filling(struct shard_put *put)
{
	CONTAINER_OF(put, struct bench_put, put)->is_filling = true;
}

static void put_released(struct shard_put *put)
{
	struct bench_put *mine = CONTAINER_OF(put, struct bench_put, put);

	ASSERT(mine->is_done);
	ASSERT(!mine->is_released);
	mine->is_released = true;
}

struct bench_put *bench_put_begin(struct store_bench *bench, uint64_t number, uint32_t size,
				  bool is_durable)
{
	struct bench_put *put = calloc(1, sizeof(*put));

	ASSERT(put != NULL);
	bench_id(number, &put->put.id);
	put->put.payer[0] = bench->payer != 0 ? bench->payer : 9;
	put->put.size = size;
	put->put.is_durable = is_durable;
	put->put.done = put_done;
	put->put.filling = put_filling;
	put->put.released = put_released;
	put->begin_rc = shard_put_begin(bench->shard, &put->put);
	return put;
}

/* Cut size bytes at buf into pieces. */
static uint32_t cut(struct iovec *iov, char *buf, uint64_t size, uint64_t piece)
{
	uint32_t count = 0;

	for (uint64_t at = 0; at < size; at += piece)
		iov[count++] = (struct iovec) { buf + at, MIN(piece, size - at) };
	return count;
}

int bench_put_commit(struct store_bench *bench, struct bench_put *put, uint64_t number)
{
	uint32_t size = put->put.size;

	if (bench->memory.size == 0 && put->buf == NULL) {
		uint64_t half = round_up(size / 2, PAGE_SIZE); /* two pieces where possible */
		uint64_t piece = bench->foreign_piece != 0 ? bench->foreign_piece : MAX(half, 1);

		ASSERT(size <= ARRAY_LEN(put->iov) * piece);
		put->buf = pages_alloc(size);
		memset(put->buf, 0xee, round_up(size, PAGE_SIZE));
		put->put.iov = put->iov;
		put->put.iov_count = cut(put->iov, put->buf, size, piece);
		put->put.is_foreign = bench->foreign_piece != 0;
	}
	for (uint32_t i = 0, at = 0; i < put->put.iov_count; i++) {
		bench_fill(number, put->put.iov[i].iov_base, at, put->put.iov[i].iov_len);
		at += (uint32_t)put->put.iov[i].iov_len;
	}
	return shard_put_commit(bench->shard, &put->put);
}

int bench_put_end(struct store_bench *bench, struct bench_put *put)
{
	int rc;

	ASSERT(bench_wait(bench, &put->is_released));
	rc = put->rc;
	free(put->buf);
	free(put);
	return rc;
}

int bench_put(struct store_bench *bench, uint64_t number, uint32_t size, bool is_durable)
{
	for (uint32_t turn = 0; turn < WAIT_TURNS; turn++) {
		struct bench_put *put = bench_put_begin(bench, number, size, is_durable);
		int rc = put->begin_rc;

		if (rc == 0 && put->put.state == SHARD_PUT_FILLING) {
			for (rc = -EAGAIN; rc == -EAGAIN && turn < WAIT_TURNS; turn++) {
				rc = bench_put_commit(bench, put, number);
				if (rc == -EAGAIN)
					(void)bench->env->ops->poll(bench->env, NS_PER_MS);
			}
			ASSERT(rc == 0);
		}
		if (rc == 0)
			return bench_put_end(bench, put);
		free(put);
		if (rc != -EAGAIN)
			return rc;
		(void)bench->env->ops->poll(bench->env, NS_PER_MS); /* always 0 */
	}
	return -ETIMEDOUT;
}

/* --- gets --- */

struct bench_read {
	struct shard_read read;
	uint64_t number;
	uint64_t told; /* bytes */
	uint64_t next; /* in order */
	bool is_right;
	bool is_done;
	int rc;
};

static void read_piece(struct shard_read *read, uint32_t begin, uint32_t size, void *data)
{
	struct bench_read *mine = CONTAINER_OF(read, struct bench_read, read);

	if (read->is_in_order)
		ASSERT(begin == mine->next);
	mine->next = begin + size;
	mine->told += size;
	mine->is_right &= bench_is_filled(mine->number, data, begin, size);
}

static void read_done(struct shard_read *read, int rc)
{
	struct bench_read *mine = CONTAINER_OF(read, struct bench_read, read);

	mine->rc = rc;
	mine->is_done = true;
}

#define GUARD 0xa5

/* Straight into memory that holds the range and no byte more. */
static enum bench_block read_foreign(struct store_bench *bench, struct bench_read *read)
{
	uint64_t size = read->read.size;
	uint64_t all = round_up(size + 1, PAGE_SIZE);
	struct iovec *buffers = calloc(size / bench->foreign_piece + 1, sizeof(*buffers));
	char *buf = pages_alloc(all);
	bool is_right;

	memset(buf, GUARD, all);
	read->read.is_foreign = true;
	read->read.buffers = buffers;
	read->read.buffer_count = cut(buffers, buf, size, bench->foreign_piece);
	read->read.done = read_done;
	ASSERT(shard_read_fits(bench->shard, &read->read.ref, read->read.offset, read->read.size,
			       buffers, read->read.buffer_count));
	ASSERT(shard_read_start(bench->shard, &read->read) == 0);
	ASSERT(bench_wait(bench, &read->is_done));
	is_right = bench_is_filled(read->number, buf, read->read.offset, size);
	if (read->rc == 0 && read->read.crc_valid_out)
		is_right &= crc32c(0, buf, size) == read->read.crc_out;
	for (uint64_t i = size; i < all; i++)
		is_right &= buf[i] == (char)GUARD;
	free(buf);
	free(buffers);
	if (read->rc < 0)
		return BENCH_MISS;
	return is_right ? BENCH_WHOLE : BENCH_WRONG;
}

static enum bench_block read_medium(struct store_bench *bench, struct bench_read *read)
{
	uint64_t span =
		shard_read_span(bench->shard, &read->read.ref, read->read.offset, read->read.size);
	uint64_t unit = 256 * KiB;
	uint32_t count = (uint32_t)((span + unit - 1) / unit);
	struct iovec *buffers = calloc(count, sizeof(*buffers));
	char *buf = pages_alloc(span);
	bool is_right;

	for (uint32_t i = 0; i < count; i++)
		buffers[i] = (struct iovec) { buf + i * unit, MIN(unit, span - i * unit) };
	read->read.buffers = buffers;
	read->read.buffer_count = count;
	read->read.piece = read_piece;
	read->read.done = read_done;
	read->next = read->read.offset;
	read->is_right = true;
	ASSERT(shard_read_start(bench->shard, &read->read) == 0);
	ASSERT(!read->is_done);
	ASSERT(bench_wait(bench, &read->is_done));
	bench->told = read->told;
	bench->is_told_right = read->is_right;
	is_right = read->is_right && read->told == read->read.size;
	if (read->rc == 0 && read->read.crc_valid_out) {
		char *copy = malloc(read->read.size);

		bench_fill(read->number, copy, read->read.offset, read->read.size);
		is_right &= crc32c(0, copy, read->read.size) == read->read.crc_out;
		free(copy);
	}
	free(buf);
	free(buffers);
	if (read->rc < 0)
		return BENCH_MISS;
	return is_right ? BENCH_WHOLE : BENCH_WRONG;
}

static enum bench_block read_view(struct store_bench *bench, struct bench_read *read)
{
	struct iovec iov[8];
	uint32_t at = read->read.offset;
	uint32_t count = shard_view(bench->shard, &read->read.ref, at, read->read.size, iov, 8);
	uint32_t crc;

	for (uint32_t i = 0; i < count; i++) {
		if (!bench_is_filled(read->number, iov[i].iov_base, at, iov[i].iov_len))
			return BENCH_WRONG;
		at += (uint32_t)iov[i].iov_len;
	}
	read->rc = shard_check(bench->shard, &read->read.ref, read->read.offset, read->read.size,
			       &crc);
	if (read->rc < 0)
		return BENCH_MISS;
	return at == read->read.offset + read->read.size ? BENCH_WHOLE : BENCH_WRONG;
}

enum bench_block bench_get_range(struct store_bench *bench, uint64_t number, uint32_t offset,
				 uint32_t size, bool is_in_order, int *rc_out)
{
	struct bench_read read = { .number = number };
	enum bench_block block;
	struct store_id id;

	bench_id(number, &id);
	if (rc_out != NULL)
		*rc_out = 0;
	if (!shard_find(bench->shard, &id, &read.read.ref))
		return BENCH_MISS;
	if (size > read.read.ref.size - offset)
		return BENCH_WRONG;
	read.read.offset = offset;
	read.read.size = size;
	read.read.is_in_order = is_in_order;
	shard_pin(bench->shard, &read.read.ref);
	if ((read.read.ref.flags & (SHARD_REF_MEMORY | SHARD_REF_BUFFERED)) != 0)
		block = read_view(bench, &read);
	else if (bench->foreign_piece != 0)
		block = read_foreign(bench, &read);
	else
		block = read_medium(bench, &read);
	shard_unpin(bench->shard, &read.read.ref);
	if (rc_out != NULL)
		*rc_out = read.rc;
	return block;
}

enum bench_block bench_get(struct store_bench *bench, uint64_t number, uint32_t size, int *rc_out)
{
	return bench_get_range(bench, number, 0, size, false, rc_out);
}

bool bench_has(struct store_bench *bench, uint64_t number)
{
	struct shard_ref ref;
	struct store_id id;

	bench_id(number, &id);
	return shard_find(bench->shard, &id, &ref);
}

/* --- drops --- */

static void drop_done(struct shard_drop *drop, int rc)
{
	struct bench_drop *mine = CONTAINER_OF(drop, struct bench_drop, drop);

	mine->rc = rc;
	mine->is_done = true;
}

int bench_drop_begin(struct store_bench *bench, struct bench_drop *drop, uint64_t number,
		     bool is_namespace)
{
	*drop = (struct bench_drop) { .drop.done = drop_done, .drop.is_namespace = is_namespace };
	bench_id(number, &drop->drop.id);
	return shard_drop_start(bench->shard, &drop->drop);
}

int bench_drop_end(struct store_bench *bench, struct bench_drop *drop)
{
	ASSERT(bench_wait(bench, &drop->is_done));
	return drop->rc;
}

int bench_drop(struct store_bench *bench, uint64_t number, bool is_namespace)
{
	struct bench_drop drop;
	int rc = bench_drop_begin(bench, &drop, number, is_namespace);

	if (rc < 0)
		return rc;
	ASSERT(!drop.is_done); /* never out of a call */
	return bench_drop_end(bench, &drop);
}

struct shard_stats bench_stats(const struct store_bench *bench)
{
	struct shard_stats stats;

	shard_get_stats(bench->shard, &stats);
	return stats;
}
