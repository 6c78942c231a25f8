/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clean stop is believed by the next start (nothing is scanned behind its footer), so it must not
 * be on the medium before what it vouches for: power may go in any write of a second stop, while
 * the footer of the first one still stands, and everything durable is there.
 */
#include "../../lib/t.h"

#include "../../lib/store_bench.h"

#define BLOCKS 12u
#define SIZE   5000u

/* False: the stop ended before its write number cut. */
static bool stop_cut_by_power(uint64_t seed, uint64_t cut)
{
	static struct store_bench bench;
	bool is_cut;

	bench_init(&bench, seed, DISK_SEGMENTS_MIN);
	assert_int_equal(bench_open(&bench), 0);
	for (uint32_t i = 0; i < BLOCKS / 2; i++)
		assert_int_equal(bench_put(&bench, i, SIZE, true), 0);
	assert_int_equal(bench_close(&bench), 0);
	assert_int_equal(bench_open(&bench), 0);
	for (uint32_t i = BLOCKS / 2; i < BLOCKS; i++)
		assert_int_equal(bench_put(&bench, i, SIZE, true), 0);

	bench.fake.cut_at = bench.fake.writes + cut;
	bench.fake.cut_size = MiB; /* whole, but nothing behind it */
	is_cut = bench_close(&bench) != 0;
	bench_crash(&bench);
	assert_int_equal(bench_open(&bench), 0);
	for (uint32_t i = 0; i < BLOCKS; i++)
		assert_int_equal(bench_get(&bench, i, SIZE, NULL), BENCH_WHOLE);
	assert_int_equal(bench_close(&bench), 0);
	bench_fini(&bench);
	return is_cut;
}

static void power_may_go_in_any_write_of_a_stop(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 4; seed++) {
		uint64_t cut = 1;

		while (stop_cut_by_power(seed, cut))
			cut++;
		assert_true(cut > 3); /* footer, two super slots */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_may_go_in_any_write_of_a_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
