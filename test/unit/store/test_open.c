/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a shard when calls fail and pages have rotted: an error and nothing held, or everything
 * but what was hit. And the memory that it takes.
 */
#include "../../lib/t.h"

#include <stdlib.h>
#include <string.h>

#include "../../lib/store_bench.h"

#define SEGMENTS 32u

/* Page of segment 0 on the medium. */
#define LOG_BEGIN (MiB / PAGE_SIZE + DISK_SEGMENTS_OFFSET / PAGE_SIZE)

/* Fail each call of an open in turn: an error and nothing held, or a block less and a counter. Only
 * label and super have a second copy, which is taken without a word. */
static void open_survives_every_fault(void **state)
{
	bool is_over = false;
	uint32_t silent = 0;

	for (uint64_t k = 1; !is_over; k++) {
		struct store_bench bench;
		int rc;

		bench_init(&bench, 5, SEGMENTS);
		assert_int_equal(bench_open(&bench), 0);
		assert_int_equal(bench_put(&bench, 1, 10000, true), 0);
		assert_int_equal(bench_put(&bench, 2, 300000, true), 0);
		bench_crash(&bench);
		bench.fake.calls = 0;
		bench.fake.fail_at = k;
		rc = bench_open(&bench);
		is_over = bench.fake.calls < k;
		bench.fake.fail_at = 0;
		if (rc < 0) {
			assert_null(bench.shard);
			assert_null(bench.medium);
			assert_int_equal(bench.fake.held, 0);
			assert_int_equal(bench_open(&bench), 0);
			assert_int_equal(bench_get(&bench, 1, 10000, NULL), BENCH_WHOLE);
		} else {
			silent += !is_over && bench_stats(&bench).io_errors == 0;
			assert_true(silent <= 6);
			assert_true(bench_get(&bench, 1, 10000, NULL) != BENCH_WRONG);
		}
		assert_int_equal(bench_close(&bench), 0);
		bench_fini(&bench);
		if (is_over)
			assert_true(k > 20);
	}
}

/* Memory is what start says it is, to the byte, and nothing is taken later. */
static void memory_is_what_was_announced(void **state)
{
	struct store_bench bench;
	struct medium_info info;
	uint64_t taken;

	bench_init(&bench, 1, SEGMENTS);
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(shard_close(&bench.shard, false), 0);
	taken = bench.fake.taken;
	assert_int_equal(shard_open(bench.env, bench.medium, 0, NULL, &bench.opts, &bench.shard),
			 0);
	medium_get_info(bench.medium, &info);
	taken = bench.fake.taken - taken;
	assert_int_equal(taken, shard_memory_size(&info, NULL, &bench.opts));
	assert_int_equal(taken, bench_stats(&bench).memory_bytes);
	bench.env->ops->seal(bench.env);
	assert_int_equal(bench_put(&bench, 1, 10000, true), 0);
	assert_int_equal(bench_drop(&bench, 1, false), 0);
	assert_int_equal(bench_drop(&bench, 1, true), 0);
	assert_int_equal(bench_put(&bench, 1, 10000, true), 0);
	assert_int_equal(bench_get(&bench, 1, 10000, NULL), BENCH_WHOLE);
	assert_int_equal(bench_close(&bench), 0);
	bench_fini(&bench);
}

/* Blocks whose bytes are lost when a page rots, found by a restart that leaves no trace. */
static uint32_t lost_by_rot(struct store_bench *bench, struct env_fake_disk *disk, uint64_t page)
{
	uint64_t count = disk->page_count;
	uint8_t **copies = calloc(count, sizeof(*copies));
	uint32_t lost = 0;

	for (uint64_t i = 0; i < count; i++) {
		if (disk->pages[i] == NULL)
			continue;
		copies[i] = malloc(PAGE_SIZE);
		memcpy(copies[i], disk->pages[i], PAGE_SIZE);
	}
	disk->pages[page][page % PAGE_SIZE] ^= 0x40;
	assert_int_equal(bench_open(bench), 0);
	for (uint32_t i = 0; i < 8; i++) {
		enum bench_block block = bench_get(bench, i, 5000 + i * 6000, NULL);

		assert_int_not_equal(block, BENCH_WRONG);
		lost += block == BENCH_MISS;
	}
	bench_crash(bench);
	for (uint64_t i = 0; i < count; i++) {
		if (copies[i] != NULL)
			memcpy(disk->pages[i], copies[i], PAGE_SIZE);
		else if (disk->pages[i] != NULL)
			memset(disk->pages[i], 0, PAGE_SIZE);
		free(copies[i]);
	}
	free(copies);
	return lost;
}

/* Every page of the log rots, one after the other: the span header takes the segment with it, any
 * other page at most one record. */
static void rot_costs_only_what_it_hits(void **state)
{
	struct env_fake_disk *disk;
	struct store_bench bench;
	uint64_t span = 0;
	uint32_t total = 0;

	bench_init(&bench, 9, SEGMENTS);
	assert_int_equal(bench_open(&bench), 0);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(bench_put(&bench, i, 5000 + i * 6000, true), 0);
	bench_crash(&bench);
	disk = env_fake_disk(&bench.fake, BENCH_PATH, 0);
	for (uint64_t page = LOG_BEGIN; page < LOG_BEGIN + 100; page++) {
		uint32_t lost;

		if (disk->pages[page] == NULL)
			continue;
		lost = lost_by_rot(&bench, disk, page);
		if (span == 0)
			assert_int_equal(lost, 8);
		else
			assert_true(lost <= 1);
		span = span == 0 ? page : span;
		total += lost;
	}
	assert_true(total > 8 + 30); /* every page of a payload counts */
	bench_fini(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(open_survives_every_fault),
		cmocka_unit_test(memory_is_what_was_announced),
		cmocka_unit_test(rot_costs_only_what_it_hits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
