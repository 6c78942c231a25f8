/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading: any range, in any mode, is the bytes that were put; what is spoilt on the medium, in the
 * payload or the header, is a miss and a counter, never bytes.
 */
#include "../../lib/t.h"

#include <stdlib.h>

#include "../../lib/store_bench.h"

#define SEGMENTS  32u
#define LOG_BEGIN (MiB / PAGE_SIZE + DISK_SEGMENTS_OFFSET / PAGE_SIZE)

static void opened(struct store_bench *bench, enum store_verify verify)
{
	bench_init(bench, 1, SEGMENTS);
	bench->opts.verify = verify;
	assert_int_equal(bench_open(bench), 0);
}

static void closed(struct store_bench *bench)
{
	assert_int_equal(bench_close(bench), 0);
	bench_fini(bench);
}

/* Sizes on both sides of the group limit, ranges around every boundary, both orders, all modes. */
static void ranges_are_what_was_put(void **state)
{
	static const uint32_t sizes[] = { 1, 5000, 262143, 262144, 3 * MiB + 77 };
	static const uint32_t edges[] = {
		0,      1,      4095,   4096,    65535,       65536,
		131073, 262143, 262144, MiB - 1, 2 * MiB + 3, 3 * MiB + 76
	};

	for (uint32_t verify = STORE_VERIFY_NONE; verify <= STORE_VERIFY_ALL; verify++) {
		struct store_bench bench;

		opened(&bench, (enum store_verify)verify);
		bench.fake.is_shuffled = true;
		for (uint32_t i = 0; i < ARRAY_LEN(sizes); i++) {
			assert_int_equal(bench_put(&bench, i, sizes[i], true), 0);
			for (uint32_t e = 0; e < ARRAY_LEN(edges); e++) {
				uint32_t offset = edges[e];
				uint32_t whole = sizes[i];

				if (offset >= whole)
					break;
				assert_int_equal(bench_get_range(&bench, i, offset, 1, false, NULL),
						 BENCH_WHOLE);
				assert_int_equal(bench_get_range(&bench, i, offset, whole - offset,
								 e % 2 == 0, NULL),
						 BENCH_WHOLE);
				assert_int_equal(bench_get_range(&bench, i, 0, whole - offset,
								 e % 2 == 1, NULL),
						 BENCH_WHOLE);
			}
		}
		closed(&bench);
	}
}

/* Spoil a page of block 0; the ways to read it. */
static void spoil(uint32_t size, uint64_t page, bool is_range_hit)
{
	struct env_fake_disk *disk;
	struct store_bench bench;
	int rc;

	opened(&bench, STORE_VERIFY_MEDIUM);
	assert_int_equal(bench_put(&bench, 0, size, true), 0);
	assert_int_equal(bench_put(&bench, 1, size, true), 0);
	disk = env_fake_disk(&bench.fake, BENCH_PATH, 0);
	env_fake_page(disk, LOG_BEGIN + page)[77] ^= 1;
	if (is_range_hit) {
		assert_int_equal(bench_get_range(&bench, 0, 100, 100, false, &rc), BENCH_MISS);
	} else { /* another stride: that is whole */
		assert_int_equal(bench_get_range(&bench, 0, size - 100, 100, false, &rc),
				 BENCH_WHOLE);
		assert_int_equal(bench_get(&bench, 0, size, &rc), BENCH_MISS);
	}
	assert_int_equal(rc, -ERR_CORRUPT);
	assert_false(bench_has(&bench, 0));
	assert_int_equal(bench_stats(&bench).corrupt, 1);
	assert_int_equal(bench_get(&bench, 1, size, &rc), BENCH_WHOLE);
	/* Put again, it is there again. */
	assert_int_equal(bench_put(&bench, 0, size, true), 0);
	assert_int_equal(bench_get(&bench, 0, size, &rc), BENCH_WHOLE);
	closed(&bench);
}

/* The first segment: span header, record header, payload. */
static void what_is_spoilt_is_a_miss_and_a_counter(void **state)
{
	spoil(10000, 2, true);
	spoil(300000, 2, true);
	spoil(300000, 2, false);
	spoil(300000, 1, true); /* the header, which a range needs */
}

/* In order: nothing behind a spoilt stride is handed on. */
static void in_order_pieces_are_checked_first(void **state)
{
	struct env_fake_disk *disk;
	struct store_bench bench;
	int rc;

	opened(&bench, STORE_VERIFY_MEDIUM);
	bench.fake.is_shuffled = true;
	assert_int_equal(bench_put(&bench, 0, 3 * MiB, true), 0);
	disk = env_fake_disk(&bench.fake, BENCH_PATH, 0);
	env_fake_page(disk, LOG_BEGIN + 2 + MiB / PAGE_SIZE)[0] ^= 1;
	assert_int_equal(bench_get_range(&bench, 0, 0, 3 * MiB, true, &rc), BENCH_MISS);
	assert_int_equal(rc, -ERR_CORRUPT);
	assert_true(bench.told <= MiB);
	assert_true(bench.is_told_right);
	closed(&bench);
}

/* Each read command of a get fails in turn. */
static void a_failed_read_is_a_miss(void **state)
{
	for (uint64_t k = 1; k <= 3; k++) {
		struct store_bench bench;
		int rc;

		opened(&bench, STORE_VERIFY_MEDIUM);
		assert_int_equal(bench_put(&bench, 0, 600 * KiB, true), 0);
		bench.fake.calls = 0;
		bench.fake.fail_at = k;
		assert_int_equal(bench_get(&bench, 0, 600 * KiB, &rc), BENCH_MISS);
		bench.fake.fail_at = 0;
		assert_int_equal(rc, -EIO);
		assert_int_equal(bench_stats(&bench).io_errors, 1);
		assert_false(bench_has(&bench, 0));
		closed(&bench);
	}
}

static void an_expired_block_is_a_miss(void **state)
{
	struct store_bench bench;
	struct bench_put *put;

	opened(&bench, STORE_VERIFY_MEDIUM);
	for (uint32_t i = 0; i < 2; i++) {
		put = bench_put_begin(&bench, i, 5000, true);
		put->put.expiry_s = bench.env->ops->wall_s(bench.env) + 10 * (i + 1);
		assert_int_equal(bench_put_commit(&bench, put, i), 0);
		assert_int_equal(bench_put_end(&bench, put), 0);
	}
	bench.fake.wall_s += 9;
	assert_true(bench_has(&bench, 0));
	bench.fake.wall_s += 1;
	assert_false(bench_has(&bench, 0));
	assert_int_equal(bench_stats(&bench).expired, 1);
	assert_true(bench_has(&bench, 1));
	bench_crash(&bench);
	assert_int_equal(bench_open(&bench), 0);
	assert_false(bench_has(&bench, 0));
	assert_int_equal(bench_get(&bench, 1, 5000, NULL), BENCH_WHOLE);
	/* A put of an expired block is a put, not "existed". */
	assert_int_equal(bench_put(&bench, 0, 5000, true), 0);
	assert_int_equal(bench_get(&bench, 0, 5000, NULL), BENCH_WHOLE);
	closed(&bench);
}

/* --- checks and reads side by side --- */

struct turn_read {
	struct shard_read read;
	struct iovec iov;
	uint64_t told;
	bool is_done;
	int rc;
};

static void turn_piece(struct shard_read *read, uint32_t begin, uint32_t size, void *data)
{
	CONTAINER_OF(read, struct turn_read, read)->told += size;
}

static void turn_done(struct shard_read *read, int rc)
{
	struct turn_read *mine = CONTAINER_OF(read, struct turn_read, read);

	mine->is_done = true;
	mine->rc = rc;
}

static void turn_begin(struct store_bench *bench, struct turn_read *mine, uint32_t number)
{
	struct store_id id;

	bench_id(number, &id);
	*mine = (struct turn_read) { .iov = { aligned_alloc(PAGE_SIZE, MiB), MiB } };
	mine->read = (struct shard_read) { .size = MiB,
					   .buffers = &mine->iov,
					   .buffer_count = 1,
					   .piece = turn_piece,
					   .done = turn_done };
	assert_true(shard_find(bench->shard, &id, &mine->read.ref));
	shard_pin(bench->shard, &mine->read.ref);
	assert_int_equal(shard_read_start(bench->shard, &mine->read), 0);
}

static void turn_end(struct store_bench *bench, struct turn_read *mine)
{
	assert_true(mine->is_done);
	assert_int_equal(mine->told, MiB);
	assert_int_equal(mine->rc, 0);
	shard_unpin(bench->shard, &mine->read.ref);
	free(mine->iov.iov_base);
}

/* Whatever has landed together: a turn checks one piece, so that the next commands are on their way
 * before the others are. What is not checked waits for nothing. */
static void a_turn_checks_one_piece(void **state)
{
	for (uint32_t verify = STORE_VERIFY_NONE; verify <= STORE_VERIFY_MEDIUM; verify++) {
		struct turn_read reads[2];
		struct store_bench bench;
		uint64_t told_max = 0;
		uint64_t told = 0;

		opened(&bench, (enum store_verify)verify);
		for (uint32_t i = 0; i < 2; i++)
			assert_int_equal(bench_put(&bench, i, MiB, true), 0);
		for (uint32_t i = 0; i < 2; i++)
			turn_begin(&bench, &reads[i], i);
		for (uint32_t turn = 0; turn < 100 && told < 2 * MiB; turn++) {
			uint64_t now;

			assert_int_equal(bench.env->ops->poll(bench.env, 0), 0);
			now = reads[0].told + reads[1].told;
			told_max = MAX(told_max, now - told);
			told = now;
		}
		if (verify == STORE_VERIFY_NONE)
			assert_int_equal(told_max, 2 * MiB);
		else
			assert_int_equal(told_max, 256 * KiB);
		for (uint32_t i = 0; i < 2; i++)
			turn_end(&bench, &reads[i]);
		closed(&bench);
	}
}

/* --- straight into a client's memory --- */

static void foreign_reads_are_what_was_put(void **state)
{
	static const uint32_t sizes[] = { 65536, 200000, 262144, 300000, MiB + 77, 3 * MiB + 4095 };
	static const uint64_t pieces[] = { 64 * KiB, 68 * KiB, 256 * KiB, MiB, 8 * MiB };

	for (uint32_t verify = STORE_VERIFY_NONE; verify <= STORE_VERIFY_ALL; verify++) {
		struct store_bench bench;

		opened(&bench, (enum store_verify)verify);
		bench.fake.is_shuffled = true;
		for (uint32_t i = 0; i < ARRAY_LEN(sizes); i++) {
			bench.foreign_piece = 0;
			assert_int_equal(bench_put(&bench, i, sizes[i], true), 0);
			for (uint32_t p = 0; p < ARRAY_LEN(pieces); p++) {
				bench.foreign_piece = pieces[p];
				assert_int_equal(bench_get(&bench, i, sizes[i], NULL), BENCH_WHOLE);
			}
		}
		/* Whole strides of a large block. */
		bench.foreign_piece = 128 * KiB;
		assert_int_equal(bench_get_range(&bench, 5, MiB, MiB, false, NULL), BENCH_WHOLE);
		assert_int_equal(bench_get_range(&bench, 5, 64 * KiB, 2 * MiB, false, NULL),
				 BENCH_WHOLE);
		bench.foreign_piece = 0;
		closed(&bench);
	}
}

static bool fits(const struct store_bench *bench, const struct shard_ref *ref, uint32_t offset,
		 uint32_t size, const struct iovec *iov, uint32_t iov_count)
{
	return shard_read_fits(bench->shard, ref, offset, size, iov, iov_count);
}

static void what_fits_is_told_from_what_does_not(void **state)
{
	char *base = (char *)(uintptr_t)(16 * MiB); /* is not touched */
	struct store_bench bench;
	struct shard_ref ref;
	struct store_id id;
	uint32_t size = MiB + 100;
	struct iovec one = { base, size };
	struct iovec two[2] = { { base, MiB }, { base + 4 * MiB, 100 } };

	opened(&bench, STORE_VERIFY_MEDIUM);
	assert_int_equal(bench_put(&bench, 0, size, true), 0);
	bench_id(0, &id);
	assert_true(shard_find(bench.shard, &id, &ref));
	assert_true(fits(&bench, &ref, 0, size, &one, 1));
	assert_true(fits(&bench, &ref, 0, size, two, 2));
	two[1].iov_base = base + 4 * MiB + 512; /* not on a page */
	assert_false(fits(&bench, &ref, 0, size, two, 2));
	two[1].iov_base = base + 4 * MiB;
	two[0].iov_len = MiB - 512; /* not whole pages, in the middle */
	two[1].iov_len = 612;
	assert_false(fits(&bench, &ref, 0, size, two, 2));
	two[0].iov_len = 32 * KiB; /* too small */
	two[1].iov_len = size - 32 * KiB;
	assert_false(fits(&bench, &ref, 0, size, two, 2));
	/* Ranges: whole strides in pieces of whole strides. */
	one.iov_len = 128 * KiB;
	assert_true(fits(&bench, &ref, 64 * KiB, 128 * KiB, &one, 1));
	assert_false(fits(&bench, &ref, 4 * KiB, 128 * KiB, &one, 1));
	one.iov_len = 68 * KiB;
	assert_false(fits(&bench, &ref, 0, 68 * KiB, &one, 1));
	two[0].iov_len = 68 * KiB;
	two[1].iov_len = 60 * KiB;
	assert_false(fits(&bench, &ref, 0, 128 * KiB, two, 2));
	one.iov_len = size - MiB; /* the end, less than a page */
	assert_false(fits(&bench, &ref, MiB, size - MiB, &one, 1));
	/* What recovery has only seen the header of is verified for all who come later. */
	one.iov_len = size;
	bench_crash(&bench);
	assert_int_equal(bench_open(&bench), 0);
	assert_true(shard_find(bench.shard, &id, &ref));
	assert_true((ref.flags & SHARD_REF_SUSPECT) != 0);
	assert_false(fits(&bench, &ref, 0, size, &one, 1));
	assert_int_equal(bench_get(&bench, 0, size, NULL), BENCH_WHOLE);
	assert_true(shard_find(bench.shard, &id, &ref));
	assert_true(fits(&bench, &ref, 0, size, &one, 1));
	closed(&bench);
}

/* What is wrong in a client's memory may be the client's doing: only our own memory is believed. */
static void a_mismatch_in_foreign_memory_condemns_nothing(void **state)
{
	struct env_fake_disk *disk;
	struct store_bench bench;
	int rc;

	opened(&bench, STORE_VERIFY_MEDIUM);
	assert_int_equal(bench_put(&bench, 0, MiB, true), 0);
	disk = env_fake_disk(&bench.fake, BENCH_PATH, 0);
	for (uint64_t page = 1; page <= 2; page++) { /* the header, which a range needs; payload */
		env_fake_page(disk, LOG_BEGIN + page)[77] ^= 1;
		bench.foreign_piece = 64 * KiB;
		if (page == 1)
			assert_int_equal(bench_get_range(&bench, 0, 0, 64 * KiB, false, &rc),
					 BENCH_MISS);
		else
			assert_int_equal(bench_get(&bench, 0, MiB, &rc), BENCH_MISS);
		assert_int_equal(rc, -ERR_CORRUPT);
		assert_true(bench_has(&bench, 0));
		assert_int_equal(bench_stats(&bench).corrupt, 0);
		if (page == 1)
			env_fake_page(disk, LOG_BEGIN + page)[77] ^= 1;
	}
	bench.foreign_piece = 0;
	assert_int_equal(bench_get(&bench, 0, MiB, &rc), BENCH_MISS);
	assert_false(bench_has(&bench, 0));
	assert_int_equal(bench_stats(&bench).corrupt, 1);
	closed(&bench);
}

static void a_failure_in_foreign_memory_blames_nobody(void **state)
{
	static const int codes[] = { -EFAULT, -EHWPOISON, -EIO };

	for (uint32_t i = 0; i < ARRAY_LEN(codes); i++) {
		struct store_bench bench;
		int rc;

		opened(&bench, STORE_VERIFY_MEDIUM);
		bench.opts.io_error_max = 1;
		assert_int_equal(bench_put(&bench, 0, MiB, true), 0);
		bench.foreign_piece = 64 * KiB;
		bench.fake.calls = 0;
		bench.fake.fail_at = 1;
		bench.fake.fail_count = 100;
		bench.fake.fail_rc = codes[i];
		assert_int_equal(bench_get(&bench, 0, MiB, &rc), BENCH_MISS);
		assert_int_equal(rc, codes[i]);
		bench.fake.fail_at = 0;
		assert_int_equal(bench_stats(&bench).io_errors, 0);
		assert_int_equal(bench_get(&bench, 0, MiB, &rc), BENCH_WHOLE);
		closed(&bench);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_are_what_was_put),
		cmocka_unit_test(what_is_spoilt_is_a_miss_and_a_counter),
		cmocka_unit_test(in_order_pieces_are_checked_first),
		cmocka_unit_test(a_failed_read_is_a_miss),
		cmocka_unit_test(an_expired_block_is_a_miss),
		cmocka_unit_test(a_turn_checks_one_piece),
		cmocka_unit_test(foreign_reads_are_what_was_put),
		cmocka_unit_test(what_fits_is_told_from_what_does_not),
		cmocka_unit_test(a_mismatch_in_foreign_memory_condemns_nothing),
		cmocka_unit_test(a_failure_in_foreign_memory_blames_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
