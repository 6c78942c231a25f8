/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quotas: bytes by payer add up whatever happens to the blocks; over the quota a payer's oldest go
 * first and nobody else's, then his puts are refused. The write budget: short, a block is admitted
 * at second sight; spent, none is.
 */
#include "../../lib/t.h"

#include <stdlib.h>
#include <string.h>

#include "../../lib/store_bench.h"

#define SEGMENTS 32u
#define SIZE     (2 * MiB)
#define QUOTA    (20 * SIZE)
#define OTHER    1000u /* blocks of another payer */

static const uint8_t payer[16] = { 9 }; /* of bench_put() */
static const uint8_t other[16] = { 8 };

static void opened(struct store_bench *bench, bool is_memory)
{
	if (is_memory)
		bench_init_memory(bench, SEGMENTS * DISK_SEGMENT_MIN, DISK_SEGMENT_MIN);
	else
		bench_init(bench, 3, SEGMENTS);
	assert_int_equal(bench_open(bench), 0);
}

static void closed(struct store_bench *bench)
{
	assert_int_equal(bench_close(bench), 0);
	bench_fini(bench);
}

static void put_other(struct store_bench *bench, uint64_t number)
{
	bench->payer = other[0];
	assert_int_equal(bench_put(bench, number, SIZE, false), 0);
	bench->payer = 0;
}

static void bytes_add_up(void **state)
{
	struct store_bench bench;
	struct bench_put *put;

	for (int is_memory = 0; is_memory < 2; is_memory++) {
		opened(&bench, is_memory);
		assert_int_equal(shard_payer_bytes(bench.shard, payer), 0);
		for (uint32_t i = 0; i < 10; i++)
			assert_int_equal(bench_put(&bench, i, 5000, true), 0);
		put_other(&bench, OTHER);
		assert_int_equal(bench_put(&bench, OTHER, SIZE, false), 0); /* the first pays */
		assert_int_equal(shard_payer_bytes(bench.shard, payer), 50000);
		assert_int_equal(shard_payer_bytes(bench.shard, other), SIZE);
		assert_int_equal(bench_drop(&bench, 3, false), 0);
		assert_int_equal(shard_payer_bytes(bench.shard, payer), 45000);
		put = bench_put_begin(&bench, 20, 5000, false);
		put->put.expiry_s = bench.fake.wall_s + 1;
		assert_int_equal(bench_put_commit(&bench, put, 20), 0);
		assert_int_equal(bench_put_end(&bench, put), 0);
		bench.fake.wall_s += 2;
		assert_false(bench_has(&bench, 20));
		assert_int_equal(shard_payer_bytes(bench.shard, payer), 45000);
		if (!is_memory) {
			bench_crash(&bench);
			assert_int_equal(bench_open(&bench), 0);
			assert_int_equal(shard_payer_bytes(bench.shard, payer), 45000);
		}
		for (uint32_t i = 0; i < SEGMENTS * 8; i++)
			put_other(&bench, OTHER + 1 + i);
		assert_int_equal(shard_payer_bytes(bench.shard, payer), 0);
		closed(&bench);
	}
}

static void the_oldest_of_who_has_too_much_go_first(void **state)
{
	struct store_bench bench;

	for (int is_memory = 0; is_memory < 2; is_memory++) {
		opened(&bench, is_memory);
		assert_int_equal(shard_set_quota(bench.shard, payer, QUOTA), 0);
		for (uint32_t i = 0; i < 40; i++) {
			put_other(&bench, OTHER + i);
			assert_int_equal(bench_put(&bench, i, SIZE, false), 0);
			assert_true(shard_payer_bytes(bench.shard, payer) <= QUOTA);
			assert_true(bench_has(&bench, i));
		}
		for (uint32_t i = 0; i < 40; i++)
			assert_true(bench_has(&bench, OTHER + i));
		for (uint32_t i = 0; i < 16; i++)
			assert_false(bench_has(&bench, i));
		assert_true(bench_has(&bench, 30));
		assert_int_equal(bench_stats(&bench).refused_quota, 0);
		/* Exactly the quota fits. */
		assert_int_equal(shard_set_quota(bench.shard, payer, SIZE), 0);
		assert_int_equal(bench_put(&bench, 50, SIZE, false), 0);
		assert_int_equal(shard_payer_bytes(bench.shard, payer), SIZE);
		assert_int_equal(bench_put(&bench, 51, SIZE + 1, false), -ERR_QUOTA);
		assert_true(bench_has(&bench, 50));
		closed(&bench);
	}
}

static void who_can_give_nothing_is_refused(void **state)
{
	struct store_bench bench;
	struct shard_ref ref;
	struct store_id id;

	opened(&bench, false);
	assert_int_equal(shard_set_quota(bench.shard, payer, 2 * SIZE), 0);
	assert_int_equal(bench_put(&bench, 0, SIZE, true), 0);
	assert_int_equal(bench_put(&bench, 1, SIZE, true), 0);
	for (uint32_t i = 0; i < 2; i++) {
		bench_id(i, &id);
		assert_int_equal(shard_lease(bench.shard, &id, &ref), 0);
	}
	assert_int_equal(bench_put(&bench, 2, SIZE, true), -ERR_QUOTA);
	assert_true(bench_has(&bench, 0));
	put_other(&bench, OTHER);
	shard_unlease(bench.shard, &ref.hash);
	bench.fake.now_ns += NS_PER_S;
	assert_int_equal(bench_put(&bench, 2, SIZE, true), 0);
	assert_false(bench_has(&bench, 1));
	closed(&bench);
}

static void a_short_budget_admits_at_second_sight(void **state)
{
	struct store_bench bench;
	uint32_t first = 0;

	bench_init(&bench, 3, SEGMENTS);
	bench.opts.write_budget = 40 * SIZE;
	assert_int_equal(bench_open(&bench), 0);
	while (bench_put(&bench, first, SIZE, false) == 0)
		first++;
	assert_in_range(first, 28, 31); /* three quarters */
	assert_int_equal(bench_stats(&bench).refused_budget, 1);
	assert_int_equal(bench_put(&bench, 500, SIZE, false), -ERR_BUDGET);
	assert_int_equal(bench_put(&bench, 500, SIZE, false), 0);
	for (uint32_t i = 501; i < 530; i++)
		(void)bench_put(&bench, i, SIZE, false); /* seen */
	while (bench_put(&bench, first, SIZE, false) == 0 && first < 600)
		first++;
	for (uint32_t i = 501; i < 530; i++)
		(void)bench_put(&bench, i, SIZE, false); /* until it is spent */
	assert_int_equal(bench_put(&bench, 529, SIZE, false), -ERR_BUDGET);
	assert_true(bench_stats(&bench).budget_left < SIZE);
	bench.fake.now_ns += UINT64_C(86400) * NS_PER_S;
	assert_int_equal(bench_put(&bench, 529, SIZE, false), 0);
	assert_int_equal(bench_put(&bench, 700, SIZE, false), 0);
	closed(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_add_up),
		cmocka_unit_test(the_oldest_of_who_has_too_much_go_first),
		cmocka_unit_test(who_can_give_nothing_is_refused),
		cmocka_unit_test(a_short_budget_admits_at_second_sight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
