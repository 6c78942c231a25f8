/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was dropped stays dropped, whatever of it was in flight, old, expired or forgotten; what is
 * put after a drop stays put.
 */
#include "../../lib/t.h"

#include <stdlib.h>
#include <string.h>

#include "../../lib/store_bench.h"

#define SEGMENTS 32u
#define NS       1000000u /* block numbers per namespace: see bench_id() */

static void opened(struct store_bench *bench)
{
	bench_init(bench, 1, SEGMENTS);
	assert_int_equal(bench_open(bench), 0);
}

static void closed(struct store_bench *bench)
{
	assert_int_equal(bench_close(bench), 0);
	bench_fini(bench);
}

static void restarted(struct store_bench *bench, bool is_crash)
{
	if (is_crash)
		bench_crash(bench);
	else
		assert_int_equal(bench_close(bench), 0);
	assert_int_equal(bench_open(bench), 0);
}

static void a_dropped_block_stays_dropped(void **state)
{
	struct store_bench bench;

	opened(&bench);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(bench_put(&bench, i, 5000, true), 0);
	assert_int_equal(bench_drop(&bench, 0, false), 0);
	assert_int_equal(bench_drop(&bench, 77, false), 0); /* never was there */
	assert_int_equal(bench_drop(&bench, 1, false), 0);
	assert_int_equal(bench_put(&bench, 1, 5000, true), 0);
	for (uint32_t restart = 0; restart < 4; restart++) {
		assert_false(bench_has(&bench, 0));
		for (uint32_t i = 1; i < 4; i++)
			assert_int_equal(bench_get(&bench, i, 5000, NULL), BENCH_WHOLE);
		assert_int_equal(bench_stats(&bench).block_count, 3);
		restarted(&bench, restart % 2 == 0);
	}
	closed(&bench);
}

/* In each order of commit, drop and commit, with nothing written in between. */
static void drops_and_puts_in_flight_keep_their_order(void **state)
{
	struct store_bench bench;
	struct bench_put *before;
	struct bench_put *after;
	struct bench_drop drop = { 0 };

	opened(&bench);
	before = bench_put_begin(&bench, 1, 300000, true);
	assert_int_equal(bench_put_commit(&bench, before, 1), 0);
	assert_int_equal(bench_drop_begin(&bench, &drop, 1, false), 0);
	assert_true(drop.drop.existed_out);
	assert_false(bench_has(&bench, 1)); /* at once */
	after = bench_put_begin(&bench, 1, 300000, false);
	assert_int_equal(after->put.state, SHARD_PUT_FILLING);
	assert_int_equal(bench_put_commit(&bench, after, 1), 0);
	assert_true(bench_has(&bench, 1));
	assert_int_equal(bench_drop_end(&bench, &drop), 0);
	assert_int_equal(bench_put_end(&bench, before), 0);
	assert_int_equal(bench_put_end(&bench, after), 0);
	assert_int_equal(bench_get(&bench, 1, 300000, NULL), BENCH_WHOLE);
	assert_int_equal(bench_stats(&bench).block_count, 1);
	restarted(&bench, false);
	assert_int_equal(bench_get(&bench, 1, 300000, NULL), BENCH_WHOLE);

	before = bench_put_begin(&bench, 2, 300000, true);
	assert_int_equal(bench_put_commit(&bench, before, 2), 0);
	assert_int_equal(bench_drop(&bench, 2, false), 0);
	assert_int_equal(bench_put_end(&bench, before), 0);
	restarted(&bench, true);
	assert_false(bench_has(&bench, 2));
	closed(&bench);
}

/* Gone from the index for another reason, but not from the medium. */
static void a_drop_buries_what_only_the_medium_knows(void **state)
{
	struct store_bench bench;
	struct bench_put *put;
	int rc;

	opened(&bench);
	assert_int_equal(bench_put(&bench, 1, 5000, true), 0);
	bench.fake.calls = 0;
	bench.fake.fail_at = 1;
	assert_int_equal(bench_get(&bench, 1, 5000, &rc), BENCH_MISS); /* EIO: out of the index */
	bench.fake.fail_at = 0;
	assert_int_equal(bench_drop(&bench, 1, false), 0);
	put = bench_put_begin(&bench, 2, 5000, true);
	put->put.expiry_s = bench.env->ops->wall_s(bench.env) + 5;
	assert_int_equal(bench_put_commit(&bench, put, 2), 0);
	assert_int_equal(bench_put_end(&bench, put), 0);
	bench.fake.wall_s += 50;
	assert_false(bench_has(&bench, 2));
	assert_int_equal(bench_drop(&bench, 2, false), 0);
	bench.fake.wall_s -= 50; /* clocks are set back, too */
	restarted(&bench, true);
	assert_false(bench_has(&bench, 1));
	assert_false(bench_has(&bench, 2));
	closed(&bench);
}

static void a_dropped_namespace_stays_dropped(void **state)
{
	struct store_bench bench;
	struct bench_put *put;

	opened(&bench);
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(bench_put(&bench, i, 5000, true), 0);
		assert_int_equal(bench_put(&bench, NS + i, 5000, true), 0);
	}
	put = bench_put_begin(&bench, 10, 5000, true); /* in flight over the drop */
	assert_int_equal(bench_put_commit(&bench, put, 10), 0);
	assert_int_equal(bench_drop(&bench, 0, true), 0);
	assert_int_equal(bench_put_end(&bench, put), 0);
	assert_int_equal(bench_put(&bench, 3, 5000, true), 0);
	for (uint32_t restart = 0; restart < 3; restart++) {
		for (uint32_t i = 0; i < 5; i++) {
			assert_int_equal(bench_has(&bench, i), i == 3);
			assert_int_equal(bench_get(&bench, NS + i, 5000, NULL), BENCH_WHOLE);
		}
		assert_false(bench_has(&bench, 10));
		restarted(&bench, restart % 2 == 0);
	}
	closed(&bench);
}

/* A hundred rows, then "try later"; rows go when nothing older is on the medium. */
static void the_table_of_namespaces_is_bounded(void **state)
{
	struct store_bench bench;

	opened(&bench);
	assert_int_equal(bench_put(&bench, 1, 5000, true), 0);
	for (uint64_t i = 0; i < DISK_DROP_MAX; i++)
		assert_int_equal(bench_drop(&bench, i * NS, true), 0);
	assert_int_equal(bench_drop(&bench, DISK_DROP_MAX * NS, true), -ERR_BUSY);
	assert_int_equal(bench_drop(&bench, 5 * NS, true), 0); /* has its row */
	assert_false(bench_has(&bench, 1));
	closed(&bench);
}

static void put_until(struct store_bench *bench, uint64_t number, uint32_t expiry_s)
{
	struct bench_put *put = bench_put_begin(bench, number, 5000, true);

	put->put.expiry_s = expiry_s;
	assert_int_equal(bench_put_commit(bench, put, number), 0);
	assert_int_equal(bench_put_end(bench, put), 0);
}

static uint32_t census_of(struct store_bench *bench, struct census *census)
{
	uint64_t bucket = 0;

	memset(census->rows, 0, census->row_max * sizeof(*census->rows));
	do
		bucket = shard_census(bench->shard, census, bucket);
	while (bucket != 0);
	return census->only != NULL ? 1 : census_end(census);
}

static const struct census_row *census_find(const struct census *census, uint32_t count,
					    uint64_t number)
{
	struct store_id id;

	bench_id(number, &id);
	for (uint32_t i = 0; i < count; i++) {
		if (memcmp(census->rows[i].domain, id.domain, 16) == 0 &&
		    memcmp(census->rows[i].ns, id.ns, 16) == 0)
			return &census->rows[i];
	}
	return NULL;
}

/* What can be found is counted, by namespace: not what was dropped, alone or with all of its
 * namespace, whether the index still has it or not. */
static void a_census_counts_what_can_be_found(void **state)
{
	struct census_row rows[16];
	struct census census = { .rows = rows, .row_max = ARRAY_LEN(rows), .seed = 7 };
	struct store_bench bench;
	struct store_id id;

	opened(&bench);
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(bench_put(&bench, i, 5000, true), 0);
		assert_int_equal(bench_put(&bench, NS + i, 7000, true), 0);
		assert_int_equal(bench_put(&bench, 2 * NS + i, 100, true), 0);
	}
	assert_int_equal(bench_drop(&bench, 2, false), 0);
	assert_int_equal(bench_drop(&bench, NS, true), 0);
	assert_int_equal(bench_put(&bench, NS + 3, 7000, true), 0); /* after the drop */
	for (uint32_t restart = 0; restart < 2; restart++) {
		assert_int_equal(census_of(&bench, &census), 3);
		assert_int_equal(census_find(&census, 3, 0)->blocks, 4);
		assert_int_equal(census_find(&census, 3, 0)->bytes, 4 * 5000);
		assert_int_equal(census_find(&census, 3, NS)->blocks, 1);
		assert_int_equal(census_find(&census, 3, 2 * NS)->blocks, 5);
		bench_id(2 * NS, &id);
		census.only = &id;
		assert_int_equal(census_of(&bench, &census), 1);
		assert_int_equal(rows[0].blocks, 5);
		assert_int_equal(rows[0].bytes, 500);
		census.only = NULL;
		restarted(&bench, restart == 0);
	}
	/* What was dropped has left the index, too, without anybody having found for it. */
	assert_int_equal(bench_stats(&bench).block_count, 10);
	assert_int_equal(bench_stats(&bench).block_bytes, 4 * 5000 + 7000 + 5 * 100);
	/* Without a row for each the sum is right still. */
	census.row_max = 2;
	assert_int_equal(census_of(&bench, &census), 2);
	assert_int_equal(rows[0].blocks + rows[1].blocks, 10);
	assert_int_equal(rows[0].ns[0] | rows[0].domain[0], 0);
	closed(&bench);
}

/* Dropped at once, though nobody asks for them: the payer has the room, the shard says so. */
static void a_dropped_namespace_leaves_the_index(void **state)
{
	struct store_bench bench;

	opened(&bench);
	for (uint32_t i = 0; i < 50; i++) {
		assert_int_equal(bench_put(&bench, i, 5000, true), 0);
		assert_int_equal(bench_put(&bench, NS + i, 5000, true), 0);
	}
	assert_int_equal(bench_drop(&bench, 0, true), 0);
	assert_int_equal(bench_drop(&bench, 5 * NS, true), 0); /* while the first is swept */
	for (int turn = 0; turn < 1000 && bench_stats(&bench).block_count > 50; turn++)
		(void)bench.env->ops->poll(bench.env, 0);
	assert_int_equal(bench_stats(&bench).block_count, 50);
	assert_int_equal(bench_stats(&bench).dropped, 50);
	for (uint32_t i = 0; i < 50; i++)
		assert_true(bench_has(&bench, NS + i));
	closed(&bench);
}

#define MANY 256u

/* Blocks first, first + step, … asked for together, then one by one. */
static struct shard_found look_compared(struct store_bench *bench, uint32_t first, uint32_t step,
					uint32_t count)
{
	struct shard_found want = { 0 };
	struct shard_found got = { 0 };
	struct store_id ids[MANY];
	const uint8_t *keys[MANY];
	uint8_t here[MANY / 8 + 1];

	memset(here, 0xaa, sizeof(here));
	for (uint32_t i = 0; i < count; i++) {
		bench_id((first + i * step) % MANY, &ids[i]);
		keys[i] = ids[i].key;
	}
	shard_find_many(bench->shard, &ids[0], keys, count, here, &got);
	for (uint32_t i = 0; i < count; i++) {
		struct shard_ref ref;
		bool is_here = shard_find(bench->shard, &ids[i], &ref);

		assert_int_equal(here[i / 8] >> i % 8 & 1, is_here);
		want.here += is_here;
		want.forgotten += !is_here && shard_was_here(bench->shard, &ids[i]);
	}
	if (count % 8 != 0)
		assert_int_equal(here[count / 8] >> count % 8, 0);
	assert_int_equal(here[(count + 7) / 8], 0xaa);
	assert_int_equal(got.here, want.here);
	assert_int_equal(got.forgotten, want.forgotten);
	assert_int_equal(got.missing, count - want.here - want.forgotten);
	return got;
}

/* All that could be known of blocks, asked one by one and together: the answers are the same. */
static void looking_up_many_is_looking_up_each(void **state)
{
	struct store_bench bench;
	struct shard_found found;

	opened(&bench);
	/* More than fits: the first are forgotten. */
	for (uint32_t i = 0; i < 200; i++)
		assert_int_equal(bench_put(&bench, i, 3 * MiB, true), 0);
	for (uint32_t i = 180; i < 200; i += 4)
		assert_int_equal(bench_drop(&bench, i, false), 0);
	for (uint32_t i = 200; i < 210; i++)
		put_until(&bench, i, bench.fake.wall_s + (i % 2 == 0 ? 5 : 500));
	bench.fake.wall_s += 50;
	/* An expired one twice: the first time it leaves the index. */
	found = look_compared(&bench, 200, MANY, 4);
	assert_int_equal(found.here, 0);
	found = look_compared(&bench, 0, 1, MANY);
	assert_true(found.here > 20 && found.forgotten > 20);
	assert_true(found.missing >= 46 + 5 + 5);
	found = look_compared(&bench, 201, 2, 5);
	assert_int_equal(found.here, 5); /* their time is to come */
	for (uint32_t count = 1; count < MANY; count++)
		(void)look_compared(&bench, count * 3, 5, count);
	/* What is dropped and what has come since. */
	assert_int_equal(bench_drop(&bench, 0, true), 0);
	for (uint32_t i = 190; i < 198; i++)
		assert_int_equal(bench_put(&bench, i, 3 * MiB, true), 0);
	found = look_compared(&bench, 0, 1, MANY);
	assert_int_equal(found.here, 8);
	assert_int_equal(found.forgotten, 0);
	closed(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_dropped_block_stays_dropped),
		cmocka_unit_test(drops_and_puts_in_flight_keep_their_order),
		cmocka_unit_test(a_drop_buries_what_only_the_medium_knows),
		cmocka_unit_test(a_dropped_namespace_stays_dropped),
		cmocka_unit_test(the_table_of_namespaces_is_bounded),
		cmocka_unit_test(a_census_counts_what_can_be_found),
		cmocka_unit_test(a_dropped_namespace_leaves_the_index),
		cmocka_unit_test(looking_up_many_is_looking_up_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
