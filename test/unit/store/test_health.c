/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A medium that fails now and then costs the blocks concerned; one that fails all the time, or is
 * gone, takes its shard offline: misses at once, puts refused, every request still answered. Opened
 * anew, what was durable is there.
 */
#include "../../lib/t.h"

#include <errno.h>

#include "../../lib/store_bench.h"

#define BLOCKS 40u
#define SIZE   300000u
#define LIMIT  8u

static void opened(struct store_bench *bench)
{
	bench_init(bench, 1, DISK_SEGMENTS_MIN);
	bench->opts.io_error_max = LIMIT;
	assert_int_equal(bench_open(bench), 0);
	for (uint32_t i = 0; i < BLOCKS; i++)
		assert_int_equal(bench_put(bench, i, SIZE, true), 0);
}

static void failing(struct store_bench *bench, uint64_t count, int rc)
{
	bench->fake.fail_at = bench->fake.calls + 1;
	bench->fake.fail_count = count;
	bench->fake.fail_rc = rc;
}

/* How many blocks a new open finds. */
static uint32_t found_anew(struct store_bench *bench)
{
	uint32_t found = 0;

	bench->fake.fail_at = 0;
	assert_int_not_equal(bench_close(bench), 0); /* it could not be left in order */
	bench_crash(bench);
	assert_int_equal(bench_open(bench), 0);
	for (uint32_t i = 0; i < BLOCKS; i++)
		found += bench_get(bench, i, SIZE, NULL) == BENCH_WHOLE;
	assert_int_equal(bench_close(bench), 0);
	bench_fini(bench);
	return found;
}

static void errors_up_to_the_limit_cost_their_blocks_only(void **state)
{
	static struct store_bench bench;

	opened(&bench);
	for (uint32_t i = 0; i < LIMIT; i++) {
		failing(&bench, UINT32_MAX, -EIO);
		assert_int_equal(bench_get(&bench, i, SIZE, NULL), BENCH_MISS);
		bench.fake.fail_at = 0;
	}
	env_fake_settle(&bench.fake);
	assert_false(bench_stats(&bench).is_offline);
	assert_int_equal(bench_stats(&bench).io_errors, LIMIT);
	assert_int_equal(bench_get(&bench, LIMIT, SIZE, NULL), BENCH_WHOLE);
	assert_int_equal(bench_put(&bench, 100, SIZE, true), 0);
	assert_int_equal(bench_close(&bench), 0);
	bench_fini(&bench);
}

static void one_more_takes_the_shard_offline(void **state)
{
	static struct store_bench bench;

	opened(&bench);
	failing(&bench, UINT64_MAX, -EIO);
	for (uint32_t i = 0; i <= LIMIT; i++)
		assert_int_equal(bench_get(&bench, i, SIZE, NULL), BENCH_MISS);
	env_fake_settle(&bench.fake);
	assert_true(bench_stats(&bench).is_offline);
	bench.fake.fail_at = 0; /* well again: it stays offline all the same */
	assert_int_equal(bench_get(&bench, BLOCKS - 1, SIZE, NULL), BENCH_MISS);
	assert_int_equal(bench_put(&bench, 100, SIZE, true), -ERR_OFFLINE);
	assert_int_equal(found_anew(&bench), BLOCKS);
}

/* Errors that are far apart are not added up. */
static void a_minute_without_an_error_forgives(void **state)
{
	static struct store_bench bench;

	opened(&bench);
	for (uint32_t i = 0; i < 3 * LIMIT; i++) {
		failing(&bench, UINT32_MAX, -EIO);
		assert_int_equal(bench_get(&bench, i, SIZE, NULL), BENCH_MISS);
		bench.fake.fail_at = 0;
		bench.fake.now_ns += 10 * NS_PER_S;
	}
	env_fake_settle(&bench.fake);
	assert_false(bench_stats(&bench).is_offline);
	assert_int_equal(bench_close(&bench), 0);
	bench_fini(&bench);
}

static void a_medium_that_is_gone_is_given_up_at_once(void **state)
{
	static const int codes[] = { -ENODEV, -ENXIO, -EROFS };

	for (uint32_t i = 0; i < ARRAY_LEN(codes); i++) {
		static struct store_bench bench;

		opened(&bench);
		failing(&bench, UINT64_MAX, codes[i]);
		if (i == 0)
			assert_int_equal(bench_get(&bench, 0, SIZE, NULL), BENCH_MISS);
		else
			assert_true(bench_put(&bench, 100, SIZE, true) < 0);
		env_fake_settle(&bench.fake);
		assert_true(bench_stats(&bench).is_offline);
		assert_int_equal(found_anew(&bench), BLOCKS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_up_to_the_limit_cost_their_blocks_only),
		cmocka_unit_test(one_more_takes_the_shard_offline),
		cmocka_unit_test(a_minute_without_an_error_forgives),
		cmocka_unit_test(a_medium_that_is_gone_is_given_up_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
