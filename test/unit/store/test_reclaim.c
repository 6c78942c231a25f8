/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reclaim: what was hit or is leased outlives its segment under the name it had, on a medium and in
 * memory; the rest is forgotten, tails before roots; corrupt bytes are not written again; what was
 * dropped stays dropped, and a crash at any write loses nothing that was to stay.
 */
#include "../../lib/t.h"

#include <stdlib.h>
#include <string.h>

#include "../../lib/store_bench.h"

#define SEGMENTS 32u
#define ROUND    8u /* blocks of SIZE that a segment holds */
#define SIZE     ((uint32_t)(DISK_SEGMENT_MIN / ROUND))
#define KEPT     5u   /* block of segment 0 that is to stay */
#define COLD     6u   /* its neighbour that is not */
#define FIRST    100u /* blocks that write the log over */
#define LAP      (SEGMENTS * ROUND)

static void opened(struct store_bench *bench, bool is_memory)
{
	if (is_memory)
		bench_init_memory(bench, SEGMENTS * DISK_SEGMENT_MIN, DISK_SEGMENT_MIN);
	else
		bench_init(bench, 3, SEGMENTS);
	bench->opts.reinsert_hits = 1;
	bench->opts.reinsert_share = 75;
	bench->opts.verify = STORE_VERIFY_ALL;
	assert_int_equal(bench_open(bench), 0);
}

static void closed(struct store_bench *bench)
{
	assert_int_equal(bench_close(bench), 0);
	bench_fini(bench);
}

static bool find(struct store_bench *bench, uint64_t number, struct shard_ref *ref)
{
	struct store_id id;

	bench_id(number, &id);
	return shard_find(bench->shard, &id, ref);
}

static void hit(struct store_bench *bench, uint64_t number)
{
	struct shard_ref ref;

	assert_true(find(bench, number, &ref));
	shard_hit(bench->shard, &ref);
}

static void fill(struct store_bench *bench, uint64_t first, uint64_t count, bool is_durable)
{
	for (uint64_t i = first; i < first + count; i++)
		assert_int_equal(bench_put(bench, i, SIZE, is_durable), 0);
}

/* All that is there of the blocks below end is hit. */
static void heat(struct store_bench *bench, uint64_t end)
{
	struct shard_ref ref;

	for (uint64_t i = 0; i < end; i++) {
		if (find(bench, i, &ref))
			shard_hit(bench->shard, &ref);
	}
}

/* A hit is worth one life; with a hit in each, it stays for ever. */
static void what_was_hit_stays_under_its_name(void **state)
{
	struct store_bench bench;
	struct shard_ref before;
	struct shard_ref after;

	for (int is_memory = 0; is_memory < 2; is_memory++) {
		opened(&bench, is_memory);
		fill(&bench, 0, ROUND, true);
		assert_true(find(&bench, KEPT, &before));
		for (uint32_t lap = 0; lap < 2; lap++) {
			hit(&bench, KEPT);
			fill(&bench, FIRST + lap * LAP, LAP, false);
			assert_true(find(&bench, KEPT, &after));
			assert_int_equal(after.sequence, before.sequence);
			assert_true(after.segment != before.segment || after.page != before.page);
			assert_int_equal(bench_get(&bench, KEPT, SIZE, NULL), BENCH_WHOLE);
			assert_false(bench_has(&bench, COLD));
			before = after;
		}
		assert_true(bench_stats(&bench).rewritten >= 2);
		assert_int_equal(bench_stats(&bench).rewritten_bytes,
				 bench_stats(&bench).rewritten * SIZE);
		fill(&bench, FIRST + 2 * LAP, LAP + 2 * ROUND, false);
		assert_false(bench_has(&bench, KEPT));
		closed(&bench);
	}
}

static void what_is_leased_stays_whatever_its_hits(void **state)
{
	struct store_bench bench;
	struct shard_ref lease;
	struct shard_ref now;
	struct store_id id;

	for (int is_memory = 0; is_memory < 2; is_memory++) {
		opened(&bench, is_memory);
		bench.opts.reinsert_hits = 0;
		assert_int_equal(bench_close(&bench), 0);
		assert_int_equal(bench_open(&bench), 0);
		fill(&bench, 0, ROUND, true);
		bench_id(KEPT, &id);
		assert_int_equal(shard_lease(bench.shard, &id, &lease), 0);
		fill(&bench, FIRST, 2 * LAP, false);
		assert_true(find(&bench, KEPT, &now));
		assert_int_equal(now.sequence, lease.sequence);
		assert_int_equal(bench_get(&bench, KEPT, SIZE, NULL), BENCH_WHOLE);
		assert_int_equal(bench_stats(&bench).forgotten_leased, 0);
		assert_int_equal(bench_stats(&bench).leased_bytes, SIZE);
		shard_unlease(bench.shard, &lease.hash);
		fill(&bench, FIRST + 2 * LAP, LAP, false);
		assert_false(bench_has(&bench, KEPT));
		closed(&bench);
	}
}

/* Small blocks share a record; some of them stay. */
static void blocks_of_a_group_are_written_again(void **state)
{
	struct store_bench bench;
	struct shard_ref ref;

	for (int is_memory = 0; is_memory < 2; is_memory++) {
		opened(&bench, is_memory);
		for (uint32_t i = 0; i < 40; i++)
			assert_int_equal(bench_put(&bench, i, 5000 + i, false), 0);
		for (uint32_t i = 0; i < 40; i += 3)
			hit(&bench, i);
		fill(&bench, FIRST, LAP, false);
		for (uint32_t i = 0; i < 40; i++) {
			bool stays = i % 3 == 0;

			assert_int_equal(find(&bench, i, &ref), stays);
			if (stays)
				assert_int_equal(bench_get(&bench, i, 5000 + i, NULL), BENCH_WHOLE);
		}
		if (!is_memory) { /* headers are new, and know their places: ranges are by stride */
			bench_crash(&bench);
			assert_int_equal(bench_open(&bench), 0);
			for (uint32_t i = 0; i < 40; i += 3)
				assert_int_equal(bench_get(&bench, i, 5000 + i, NULL), BENCH_WHOLE);
		}
		closed(&bench);
	}
}

static void put_deep(struct store_bench *bench, uint64_t number, uint32_t depth, bool is_shared)
{
	struct bench_put *put = bench_put_begin(bench, number, SIZE, false);

	assert_int_equal(put->begin_rc, 0);
	put->put.depth = depth;
	put->put.entry_flags = is_shared ? DISK_ENTRY_SHARED : 0;
	assert_int_equal(bench_put_commit(bench, put, number), 0);
	assert_int_equal(bench_put_end(bench, put), 0);
}

/*
 * Five blocks of 175 KiB fill a segment of a MiB, a seventh of which is lost behind them. All of
 * them hot, a pass wins a quarter of what they took all the same: at most three are written again
 * for each that is put.
 */
static void a_pass_over_what_packs_badly_wins_a_quarter(void **state)
{
	const uint32_t size = DISK_SEGMENT_MIN * 175 / 1024;
	const uint64_t full = SEGMENTS * 5;
	struct store_bench bench;
	uint64_t before = 0;

	for (int is_memory = 0; is_memory < 2; is_memory++) {
		opened(&bench, is_memory);
		for (uint64_t i = 0; i < full + 100; i++) {
			if (i == full)
				before = bench_stats(&bench).rewritten;
			assert_int_equal(bench_put(&bench, i, size, false), 0);
			heat(&bench, i + 1);
		}
		assert_in_range(bench_stats(&bench).rewritten, before + 100,
				before + 3 * 100 + 2 * 5);
		closed(&bench);
	}
}

/*
 * All of a whole log is hit, again and again. Of what is written so many percent were written
 * again; and what passes over cold blocks have left is saved, up to an eighth of the log.
 */
static void hits_have_a_share_of_the_writes(void **state)
{
	static const uint32_t shares[] = { 0, 13, 50 };
	struct store_bench bench;

	for (uint32_t i = 0; i < 2 * ARRAY_LEN(shares); i++) {
		uint64_t share = shares[i / 2];
		uint64_t put = 4 * LAP;
		uint64_t most;

		opened(&bench, i % 2);
		bench.opts.reinsert_share = (uint32_t)share;
		assert_int_equal(bench_close(&bench), 0);
		assert_int_equal(bench_open(&bench), 0);
		fill(&bench, 0, 2 * LAP, false);
		for (uint64_t j = 0; j < put; j++) {
			heat(&bench, 2 * LAP + j);
			fill(&bench, 2 * LAP + j, 1, false);
		}
		most = put * share / (100 - share);
		assert_in_range(bench_stats(&bench).rewritten, most, most + LAP / 8 + 4 * ROUND);
		closed(&bench);
	}
}

/* Several segments of which all was hit: a quarter of each goes, private ones and tails first. */
static void tails_go_before_roots(void **state)
{
	struct store_bench bench;
	uint32_t count = 6 * ROUND;
	uint32_t kept[2][2] = { { 0 } }; /* by class, by depth */

	for (int is_memory = 0; is_memory < 2; is_memory++) {
		memset(kept, 0, sizeof(kept));
		opened(&bench, is_memory);
		for (uint32_t i = 0; i < count; i++)
			put_deep(&bench, i, i % 4 < 2 ? 1 : 900, i % 2);
		for (uint32_t i = 0; i < count; i++)
			hit(&bench, i);
		fill(&bench, FIRST, LAP, false);
		for (uint32_t i = 0; i < count; i++)
			kept[i % 2][i % 4 >= 2] += bench_has(&bench, i);
		assert_int_equal(kept[1][0], count / 4); /* shared roots: all */
		assert_int_equal(kept[1][1], count / 4);
		assert_true(kept[0][0] > kept[0][1]);
		assert_true(kept[0][1] < count / 4);
		closed(&bench);
	}
}

static uint64_t page_of(const struct shard_ref *ref)
{
	return (MiB + DISK_SEGMENTS_OFFSET + ref->segment * disk_segment_size(DISK_SEGMENT_MIN)) /
		       PAGE_SIZE +
	       ref->page;
}

static void corrupt_bytes_are_not_written_again(void **state)
{
	struct store_bench bench;
	struct env_fake_disk *disk;
	struct shard_ref ref;

	opened(&bench, false);
	fill(&bench, 0, ROUND, true);
	hit(&bench, KEPT);
	hit(&bench, COLD);
	assert_true(find(&bench, KEPT, &ref));
	disk = env_fake_disk(&bench.fake, BENCH_PATH, 0);
	env_fake_page(disk, page_of(&ref) + 7)[100] ^= 1;
	fill(&bench, FIRST, LAP, false);
	assert_false(bench_has(&bench, KEPT));
	assert_int_equal(bench_get(&bench, COLD, SIZE, NULL), BENCH_WHOLE);
	assert_int_equal(bench_stats(&bench).corrupt, 1);
	closed(&bench);
}

/* The footer rots: the index knows what is in the segment. */
static void a_segment_without_a_footer_is_reclaimed(void **state)
{
	struct store_bench bench;
	struct env_fake_disk *disk;
	uint64_t last =
		(MiB + DISK_SEGMENTS_OFFSET + disk_segment_size(DISK_SEGMENT_MIN)) / PAGE_SIZE - 1;

	opened(&bench, false);
	fill(&bench, 0, 2 * ROUND, true);
	hit(&bench, KEPT);
	disk = env_fake_disk(&bench.fake, BENCH_PATH, 0);
	env_fake_page(disk, last)[20] ^= 1;
	fill(&bench, FIRST, LAP, false);
	assert_int_equal(bench_get(&bench, KEPT, SIZE, NULL), BENCH_WHOLE);
	assert_false(bench_has(&bench, COLD));
	closed(&bench);
}

static void what_is_dropped_after_it_was_written_again_stays_dropped(void **state)
{
	struct store_bench bench;

	opened(&bench, false);
	fill(&bench, 0, ROUND, true);
	hit(&bench, KEPT);
	fill(&bench, FIRST, LAP, false);
	assert_true(bench_has(&bench, KEPT));
	assert_int_equal(bench_drop(&bench, KEPT, false), 0);
	bench_crash(&bench);
	assert_int_equal(bench_open(&bench), 0);
	assert_false(bench_has(&bench, KEPT));
	fill(&bench, FIRST + LAP, LAP, false);
	bench_crash(&bench);
	assert_int_equal(bench_open(&bench), 0);
	assert_false(bench_has(&bench, KEPT));
	closed(&bench);
}

/* A put to its end: NULL; or until the power is gone: what is left of it. */
static struct bench_put *put_until_cut(struct store_bench *bench, uint64_t number)
{
	struct bench_put *put = bench_put_begin(bench, number, SIZE, false);
	int rc = put->begin_rc;

	while (rc == -EAGAIN && !bench->fake.is_cut) {
		(void)bench->env->ops->poll(bench->env, NS_PER_MS); /* always 0 */
		rc = shard_put_begin(bench->shard, &put->put);
	}
	if (rc == 0)
		rc = -EAGAIN;
	while (rc == -EAGAIN && !bench->fake.is_cut) {
		rc = bench_put_commit(bench, put, number);
		(void)bench->env->ops->poll(bench->env, NS_PER_MS); /* always 0 */
	}
	while (!put->is_released && !bench->fake.is_cut)
		(void)bench->env->ops->poll(bench->env, NS_PER_MS); /* always 0 */
	if (!put->is_released)
		return put;
	free(put->buf);
	free(put);
	return NULL;
}

/* No power at each of the writes of a lap: what was to stay does. */
static void a_crash_at_any_write_loses_nothing_that_stays(void **state)
{
	struct store_bench bench;
	uint64_t begun = 0;

	for (uint64_t cut = 1; begun < 2 * ROUND; cut += 3) {
		struct bench_put *put = NULL;

		opened(&bench, false);
		bench.fake.is_shuffled = true;
		fill(&bench, 0, ROUND, true);
		fill(&bench, FIRST, (SEGMENTS - 4) * ROUND, false);
		for (uint32_t i = 0; i < ROUND / 2; i++)
			hit(&bench, i);
		bench.fake.cut_at = bench.fake.writes + cut;
		bench.fake.cut_size = PAGE_SIZE;
		for (begun = 0; begun < 2 * ROUND && !bench.fake.is_cut; begun++) {
			put = put_until_cut(&bench, FIRST + LAP + begun);
			if (put != NULL)
				break;
		}
		bench_crash(&bench);
		if (put != NULL) {
			free(put->buf);
			free(put);
		}
		assert_int_equal(bench_open(&bench), 0);
		for (uint32_t i = 0; i < ROUND / 2; i++)
			assert_int_equal(bench_get(&bench, i, SIZE, NULL), BENCH_WHOLE);
		closed(&bench);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_hit_stays_under_its_name),
		cmocka_unit_test(what_is_leased_stays_whatever_its_hits),
		cmocka_unit_test(blocks_of_a_group_are_written_again),
		cmocka_unit_test(a_pass_over_what_packs_badly_wins_a_quarter),
		cmocka_unit_test(hits_have_a_share_of_the_writes),
		cmocka_unit_test(tails_go_before_roots),
		cmocka_unit_test(corrupt_bytes_are_not_written_again),
		cmocka_unit_test(a_segment_without_a_footer_is_reclaimed),
		cmocka_unit_test(what_is_dropped_after_it_was_written_again_stays_dropped),
		cmocka_unit_test(a_crash_at_any_write_loses_nothing_that_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
