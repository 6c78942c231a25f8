/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A medium that is full and written over and over, while power fails: segments that are used again
 * never show old entries over new bytes (verify none, so that no checksum hides it), what was
 * dropped does not come back with an old segment, and the newest durable blocks are there.
 */
#include "../../lib/t.h"

#include <stdlib.h>

#include "../../lib/store_bench.h"

#define SEGMENTS 32u
#define SIZE     (4 * MiB)
#define ROUND    4u       /* blocks of SIZE that a segment holds */
#define ROUNDS   24u      /* crashes */
#define SMALL    1000000u /* numbers of small blocks: one a round, dropped in the next */

struct run {
	struct store_bench bench;
	uint32_t next;  /* number of the next large block */
	uint32_t round; /* small blocks below it were told dropped */
};

static void put_next(struct run *run, bool is_durable)
{
	assert_int_equal(bench_put(&run->bench, run->next, SIZE, is_durable), 0);
	run->next++;
}

/* As many turns of the loop as chance says, then no power. */
static void fail_power(struct run *run)
{
	struct bench_put *puts[2 * ROUND];
	uint32_t count = 0;

	for (; count < ARRAY_LEN(puts); count++) {
		puts[count] = bench_put_begin(&run->bench, run->next, SIZE, false);
		if (puts[count]->begin_rc < 0 ||
		    bench_put_commit(&run->bench, puts[count], run->next) < 0) {
			count++;
			break;
		}
		run->next++;
		for (uint32_t turn = 0; turn < run->round * count % 5; turn++)
			(void)run->bench.env->ops->poll(run->bench.env, NS_PER_MS);
	}
	bench_crash(&run->bench);
	for (uint32_t i = 0; i < count; i++) {
		free(puts[i]->buf);
		free(puts[i]);
	}
	assert_int_equal(bench_open(&run->bench), 0);
}

/* The oldest large blocks that are there, of which some may have been written over. */
static void check_oldest(struct run *run)
{
	uint32_t seen = 0;

	for (uint32_t i = 0; i < run->next && seen < 3 * ROUND; i++) {
		enum bench_block block = bench_get(&run->bench, i, SIZE, NULL);

		if (block == BENCH_WRONG)
			fail_msg("round %u: block %u is wrong", run->round, i);
		seen += block == BENCH_WHOLE;
	}
	assert_true(seen > 0);
	for (uint32_t i = 0; i < run->round; i++) {
		if (bench_has(&run->bench, SMALL + i))
			fail_msg("round %u: small block %u came back", run->round, i);
	}
}

static void segments_are_used_again_safely(void **state)
{
	struct run run = { .next = 0 };
	uint32_t durable;

	bench_init(&run.bench, 11, SEGMENTS);
	run.bench.opts.verify = STORE_VERIFY_NONE;
	run.bench.fake.is_shuffled = true;
	assert_int_equal(bench_open(&run.bench), 0);
	while (run.next < (SEGMENTS - 2) * ROUND)
		put_next(&run, false);
	for (; run.round < ROUNDS; run.round++) {
		if (run.round > 0)
			assert_int_equal(bench_drop(&run.bench, SMALL + run.round - 1, false), 0);
		assert_int_equal(bench_put(&run.bench, SMALL + run.round, 5000, true), 0);
		durable = run.next;
		put_next(&run, true);
		fail_power(&run);
		check_oldest(&run);
		assert_int_equal(bench_get(&run.bench, durable, SIZE, NULL), BENCH_WHOLE);
		assert_int_equal(bench_get(&run.bench, SMALL + run.round, 5000, NULL), BENCH_WHOLE);
	}
	assert_true(run.next > SEGMENTS * ROUND + 3 * ROUND);
	assert_true(bench_stats(&run.bench).segments_free < 4);
	assert_int_equal(bench_close(&run.bench), 0);
	bench_fini(&run.bench);
}

/* Page of the footer of segment 0. */
static uint64_t footer_page(void)
{
	return (MiB + DISK_SEGMENTS_OFFSET + disk_segment_size(DISK_SEGMENT_MIN)) / PAGE_SIZE - 1;
}

/*
 * A small block is in segment 0, its tombstone in segment 1. The footer of 0 rots, so that a
 * restart scans 0 and seals it again, when 1 is long sealed. 0 is still the one to be used again
 * first: else the tombstone goes before what it buries.
 */
static void a_segment_that_is_sealed_again_keeps_its_age(void **state)
{
	struct run run = { .next = 0 };
	struct env_fake_disk *disk;

	bench_init(&run.bench, 5, SEGMENTS);
	assert_int_equal(bench_open(&run.bench), 0);
	assert_int_equal(bench_put(&run.bench, SMALL, 5000, true), 0);
	while (run.next <= ROUND)
		put_next(&run, true);
	assert_int_equal(bench_drop(&run.bench, SMALL, false), 0);
	while (run.next < 5 * ROUND)
		put_next(&run, true);
	assert_int_equal(bench_close(&run.bench), 0);
	disk = env_fake_disk(&run.bench.fake, BENCH_PATH, 0);
	assert_int_equal(((struct disk_footer *)(void *)disk->pages[footer_page()])->magic,
			 DISK_FOOT_MAGIC);
	disk->pages[footer_page()][9] ^= 1;
	assert_int_equal(bench_open(&run.bench), 0);
	assert_int_equal(bench_stats(&run.bench).recovered_scanned, ROUND);

	while (run.next < (SEGMENTS + 2) * ROUND)
		put_next(&run, true);
	bench_crash(&run.bench);
	assert_int_equal(bench_open(&run.bench), 0);
	assert_false(bench_has(&run.bench, SMALL));
	assert_int_equal(bench_get(&run.bench, 0, SIZE, NULL), BENCH_MISS); /* it was used again */
	assert_int_equal(bench_close(&run.bench), 0);
	bench_fini(&run.bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segments_are_used_again_safely),
		cmocka_unit_test(a_segment_that_is_sealed_again_keeps_its_age),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
