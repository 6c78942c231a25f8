/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: what is put is got, before and after it is written and after restarts; small blocks
 * share headers; a full medium forgets its oldest blocks and no others.
 */
#include "../../lib/t.h"

#include <stdlib.h>

#include "../../lib/store_bench.h"

#define SEGMENTS 32u

static void opened(struct store_bench *bench, uint64_t seed)
{
	bench_init(bench, seed, SEGMENTS);
	assert_int_equal(bench_open(bench), 0);
}

static void closed(struct store_bench *bench)
{
	assert_int_equal(bench_close(bench), 0);
	bench_fini(bench);
}

/* Sizes around every boundary: pages, strides, groups, commands; buffered and durable. */
static void what_is_put_is_got_now_and_after_a_restart(void **state)
{
	static const uint32_t sizes[] = { 1,       4095,    4096,        4097,   65535,
					  65536,   65537,   262143,      262144, 262145,
					  1048576, 1048577, 3 * MiB + 5, 4 * MiB };
	struct store_bench bench;

	opened(&bench, 1);
	for (uint32_t i = 0; i < ARRAY_LEN(sizes); i++) {
		assert_int_equal(bench_put(&bench, i, sizes[i], i % 2 == 0), 0);
		assert_int_equal(bench_get(&bench, i, sizes[i], NULL), BENCH_WHOLE);
	}
	assert_false(bench_has(&bench, ARRAY_LEN(sizes)));
	assert_int_equal(bench_close(&bench), 0);
	for (uint32_t restart = 0; restart < 2; restart++) {
		assert_int_equal(bench_open(&bench), 0);
		assert_int_equal(bench_stats(&bench).block_count, ARRAY_LEN(sizes));
		assert_int_equal(bench_stats(&bench).recovered_scanned, 0);
		for (uint32_t i = 0; i < ARRAY_LEN(sizes); i++)
			assert_int_equal(bench_get(&bench, i, sizes[i], NULL), BENCH_WHOLE);
		assert_int_equal(bench_close(&bench), 0);
	}
	bench_fini(&bench);
}

static void a_block_is_read_from_the_put_before_it_is_written(void **state)
{
	struct store_bench bench;
	struct bench_put *put;
	struct shard_ref ref;
	struct store_id id;

	opened(&bench, 1);
	bench_id(5, &id);
	put = bench_put_begin(&bench, 5, 20000, false);
	assert_int_equal(put->begin_rc, 0);
	assert_false(shard_find(bench.shard, &id, &ref)); /* nothing half-written is visible */
	assert_int_equal(bench_put_commit(&bench, put, 5), 0);
	assert_false(put->is_done); /* never out of a call */
	assert_true(shard_find(bench.shard, &id, &ref));
	assert_true(ref.flags & SHARD_REF_BUFFERED);
	assert_int_equal(bench_get(&bench, 5, 20000, NULL), BENCH_WHOLE);

	/* Pinned, the buffers stay lent although the record is written. */
	shard_pin(bench.shard, &ref);
	for (uint32_t i = 0; i < 100; i++)
		(void)bench.env->ops->poll(bench.env, NS_PER_MS);
	assert_true(put->is_done);
	assert_false(put->is_released);
	assert_int_equal(bench_get(&bench, 5, 20000, NULL), BENCH_WHOLE);
	shard_unpin(bench.shard, &ref);
	assert_int_equal(bench_put_end(&bench, put), 0);
	assert_int_equal(bench_get(&bench, 5, 20000, NULL), BENCH_WHOLE);
	closed(&bench);
}

/* Overhead of headers, counted from what reaches the disk. */
static void group_of(struct store_bench *bench, uint32_t size, uint32_t count, double overhead_max)
{
	struct bench_put *puts[64];
	uint64_t before = bench_stats(bench).written_bytes;
	static uint64_t number = 100;
	double overhead;

	assert_true(count <= ARRAY_LEN(puts));
	for (uint32_t i = 0; i < count; i++) {
		puts[i] = bench_put_begin(bench, number + i, size, false);
		assert_int_equal(puts[i]->begin_rc, 0);
		assert_int_equal(bench_put_commit(bench, puts[i], number + i), 0);
	}
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(bench_put_end(bench, puts[i]), 0);
	overhead = (double)(bench_stats(bench).written_bytes - before) / ((double)size * count) - 1;
	if (overhead > overhead_max)
		fail_msg("%u of %u: overhead %f", count, size, overhead);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(bench_get(bench, number + i, size, NULL), BENCH_WHOLE);
	number += count;
}

/* The header rides with the first command: the last page is not left for one of its own. */
static void whole_commands_of_payload_are_as_many_writes(void **state)
{
	struct store_bench bench;

	opened(&bench, 1);
	assert_int_equal(bench.opts.write_size, 256 * KiB);
	assert_int_equal(bench_put(&bench, 0, MiB, true), 0); /* the segment is open */
	for (uint32_t i = 1; i <= 3; i++) {
		uint64_t before = bench.fake.writes;

		assert_int_equal(bench_put(&bench, i, i * 256 * (uint32_t)KiB, true), 0);
		assert_int_equal(bench.fake.writes - before, i);
	}
	closed(&bench);
}

static void small_blocks_share_headers(void **state)
{
	struct store_bench bench;

	opened(&bench, 1);
	group_of(&bench, 16 * KiB, 7, 0.05);
	group_of(&bench, 16 * KiB, 21, 0.05);
	group_of(&bench, 16 * KiB, 42, 0.05);
	group_of(&bench, 4 * KiB, 21, 0.05);
	group_of(&bench, 2 * MiB, 1, 0.003);
	closed(&bench);
}

/* Durable small puts that come while one is written share the next record and its flush. */
static void durable_puts_commit_in_groups(void **state)
{
	struct store_bench bench;
	struct bench_put *puts[40];
	uint64_t flushes;

	opened(&bench, 1);
	flushes = bench_stats(&bench).flushes;
	for (uint32_t i = 0; i < ARRAY_LEN(puts); i++) {
		puts[i] = bench_put_begin(&bench, i, 5000, true);
		assert_int_equal(bench_put_commit(&bench, puts[i], i), 0);
	}
	for (uint32_t i = 0; i < ARRAY_LEN(puts); i++) {
		assert_true(bench_wait(&bench, &puts[i]->is_done));
		assert_true(puts[i]->put.durable_out);
		assert_int_equal(bench_put_end(&bench, puts[i]), 0);
	}
	assert_true(bench_stats(&bench).flushes - flushes <= 4);
	closed(&bench);
}

/* Twice the room: what is there is an unbroken run of the newest, at most a few segments short. */
static void a_full_medium_forgets_its_oldest(void **state)
{
	enum { SIZE = 2 * MiB, COUNT = 320 };
	struct store_bench bench;
	struct shard_stats stats;
	uint32_t oldest = 0;

	opened(&bench, 1);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(bench_put(&bench, i, SIZE, false), 0);
	while (oldest < COUNT && !bench_has(&bench, oldest))
		oldest++;
	for (uint32_t i = oldest; i < COUNT; i++) {
		assert_true(bench_has(&bench, i));
		if (i % 40 == 0)
			assert_int_equal(bench_get(&bench, i, SIZE, NULL), BENCH_WHOLE);
	}
	stats = bench_stats(&bench);
	assert_int_equal(stats.block_count, COUNT - oldest);
	assert_int_equal(stats.forgotten, oldest);
	assert_true(stats.block_bytes >= (SEGMENTS - 4) * DISK_SEGMENT_MIN);
	assert_int_equal(bench_close(&bench), 0);
	assert_int_equal(bench_open(&bench), 0);
	for (uint32_t i = oldest; i < COUNT; i++)
		assert_true(bench_has(&bench, i));
	assert_int_equal(bench_get(&bench, COUNT - 1, SIZE, NULL), BENCH_WHOLE);
	closed(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_got_now_and_after_a_restart),
		cmocka_unit_test(a_block_is_read_from_the_put_before_it_is_written),
		cmocka_unit_test(whole_commands_of_payload_are_as_many_writes),
		cmocka_unit_test(small_blocks_share_headers),
		cmocka_unit_test(durable_puts_commit_in_groups),
		cmocka_unit_test(a_full_medium_forgets_its_oldest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
