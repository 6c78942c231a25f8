/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leased blocks: kept however much is written behind them and however old they grow, until the last
 * lease ends; never in the way of a drop; counted, and no more of them than a quarter of the shard.
 */
#include "../../lib/t.h"

#include <stdlib.h>

#include "../../lib/store_bench.h"

#define SEGMENTS 32u
#define SIZE     100000u
#define NS       1000000u /* block numbers per namespace: see bench_id() */

static void opened(struct store_bench *bench, bool is_memory)
{
	if (is_memory)
		bench_init_memory(bench, SEGMENTS * MiB, MiB);
	else
		bench_init(bench, 1, SEGMENTS);
	assert_int_equal(bench_open(bench), 0);
}

static void closed(struct store_bench *bench)
{
	assert_int_equal(bench_close(bench), 0);
	bench_fini(bench);
}

static int lease(struct store_bench *bench, uint64_t number)
{
	struct shard_ref ref;
	struct store_id id;
	int rc;

	bench_id(number, &id);
	rc = shard_lease(bench->shard, &id, &ref);
	if (rc == 0)
		assert_int_not_equal(ref.flags & SHARD_REF_LEASED, 0);
	return rc;
}

static void unlease(struct store_bench *bench, uint64_t number)
{
	struct shard_ref ref;
	struct store_id id;

	bench_id(number, &id);
	if (shard_find_leased(bench->shard, &id, &ref))
		shard_unlease(bench->shard, &ref.hash);
}

static bool has_leased(struct store_bench *bench, uint64_t number)
{
	struct shard_ref ref;
	struct store_id id;

	bench_id(number, &id);
	return shard_find_leased(bench->shard, &id, &ref);
}

/* A block that is leased while its time to live runs out. */
static void put_lease_expire(struct store_bench *bench, uint64_t number)
{
	struct bench_put *put = bench_put_begin(bench, number, 5000, false);

	put->put.expiry_s = bench->fake.wall_s + 10;
	assert_int_equal(bench_put_commit(bench, put, number), 0);
	assert_int_equal(bench_put_end(bench, put), 0);
	assert_int_equal(lease(bench, number), 0);
	bench->fake.wall_s += 10;
}

/* Put a block as soon as there is room; false: there is none. */
static bool put_in_time(struct store_bench *bench, uint64_t number)
{
	struct bench_put *put = bench_put_begin(bench, number, SIZE, true);
	uint32_t tries = 0;
	int rc;

	while (put->begin_rc == -EAGAIN && tries++ < 100) {
		bench->env->ops->poll(bench->env, NS_PER_MS);
		put->begin_rc = shard_put_begin(bench->shard, &put->put);
	}
	if (put->begin_rc < 0) {
		assert_int_equal(put->begin_rc, -EAGAIN);
		free(put);
		return false;
	}
	while ((rc = bench_put_commit(bench, put, number)) == -EAGAIN && tries++ < 100)
		bench->env->ops->poll(bench->env, NS_PER_MS);
	if (rc == -EAGAIN)
		shard_put_abort(bench->shard, &put->put, -ERR_ABORTED);
	return bench_put_end(bench, put) == 0;
}

/* Put as many bytes as the store holds, as far as it takes them. Returns whether it took all. */
static bool write_over(struct store_bench *bench, uint64_t first)
{
	uint64_t count = bench_stats(bench).capacity / SIZE;

	for (uint64_t i = 0; i < count; i++) {
		if (!put_in_time(bench, first + i))
			return false;
	}
	return true;
}

static void what_is_leased_is_not_forgotten(void **state)
{
	struct store_bench bench;

	for (int is_memory = 0; is_memory < 2; is_memory++) {
		opened(&bench, is_memory);
		for (uint32_t i = 0; i < 3; i++)
			assert_int_equal(bench_put(&bench, i, SIZE, true), 0);
		assert_int_equal(lease(&bench, 1), 0);
		assert_int_equal(lease(&bench, 1), 0);
		(void)write_over(&bench, 1 * NS); /* it may stop before the lease */
		(void)write_over(&bench, 2 * NS);
		assert_int_equal(bench_get(&bench, 1, SIZE, NULL), BENCH_WHOLE);
		unlease(&bench, 1);
		(void)write_over(&bench, 3 * NS);
		assert_int_equal(bench_get(&bench, 1, SIZE, NULL), BENCH_WHOLE);
		assert_int_equal(bench_stats(&bench).leased_bytes, SIZE);
		unlease(&bench, 1);
		assert_int_equal(bench_stats(&bench).leased_bytes, 0);
		assert_true(write_over(&bench, 4 * NS));
		assert_true(write_over(&bench, 5 * NS));
		assert_false(bench_has(&bench, 1));
		assert_int_equal(bench_stats(&bench).leased_count, 0);
		closed(&bench);
	}
}

/* Who reads under a lease finds it, nobody else does; a put brings it anew, still leased. */
static void a_lease_outlives_the_time_to_live(void **state)
{
	struct store_bench bench;

	for (int is_memory = 0; is_memory < 2; is_memory++) {
		opened(&bench, is_memory);
		put_lease_expire(&bench, 1);
		assert_false(bench_has(&bench, 1));
		assert_int_equal(lease(&bench, 1), -ERR_MISS);
		assert_true(has_leased(&bench, 1));
		assert_int_equal(bench_put(&bench, 1, 6000, true), 0);
		assert_int_equal(bench_get(&bench, 1, 6000, NULL), BENCH_WHOLE);
		assert_int_equal(bench_stats(&bench).leased_bytes, 6000);
		unlease(&bench, 1);
		assert_true(bench_has(&bench, 1));
		assert_int_equal(bench_stats(&bench).leased_bytes, 0);

		put_lease_expire(&bench, 2);
		unlease(&bench, 2);
		assert_false(has_leased(&bench, 2));
		closed(&bench);
	}
}

static void a_drop_outranks_a_lease(void **state)
{
	struct store_bench bench;

	for (int is_memory = 0; is_memory < 2; is_memory++) {
		opened(&bench, is_memory);
		for (uint32_t i = 0; i < 3; i++)
			assert_int_equal(bench_put(&bench, i, 5000, true), 0);
		assert_int_equal(bench_put(&bench, NS, 5000, true), 0);
		for (uint32_t i = 0; i < 2; i++)
			assert_int_equal(lease(&bench, i), 0);
		assert_int_equal(lease(&bench, NS), 0);
		assert_int_equal(bench_drop(&bench, 0, false), 0);
		assert_false(has_leased(&bench, 0));
		assert_int_equal(bench_drop(&bench, 1, true), 0);
		assert_false(has_leased(&bench, 1));
		assert_true(has_leased(&bench, NS));
		assert_int_equal(bench_stats(&bench).leased_bytes, 5000);
		/* Put again it is another block, that nobody has leased. */
		assert_int_equal(bench_put(&bench, 0, 5000, true), 0);
		assert_int_equal(bench_stats(&bench).leased_bytes, 5000);
		unlease(&bench, 0);
		unlease(&bench, NS);
		assert_int_equal(bench_stats(&bench).leased_bytes, 0);
		assert_true(bench_has(&bench, 0));
		closed(&bench);
	}
}

/* Dropped although its time to live was over and only a lease kept it. */
static void what_is_expired_and_leased_can_be_dropped(void **state)
{
	struct store_bench bench;

	opened(&bench, false);
	put_lease_expire(&bench, 1);
	assert_int_equal(bench_drop(&bench, 1, false), 0);
	assert_false(has_leased(&bench, 1));
	closed(&bench);
}

static void a_quarter_can_be_leased(void **state)
{
	struct store_bench bench;
	uint64_t count;

	opened(&bench, false);
	count = bench_stats(&bench).capacity / SIZE * 3 / 4;
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(bench_put(&bench, i, SIZE, true), 0);
	count = shard_lease_max(bench.shard) / SIZE;
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(lease(&bench, i), 0);
	assert_int_equal(lease(&bench, count), -ERR_FULL);
	assert_int_equal(lease(&bench, 0), 0); /* costs nothing more */
	unlease(&bench, 1);
	assert_int_equal(lease(&bench, count), 0);
	assert_int_equal(lease(&bench, 77777), -ERR_MISS);
	closed(&bench);
}

static void leases_of_a_block_are_counted_as_far_as_it_goes(void **state)
{
	struct store_bench bench;

	opened(&bench, true);
	assert_int_equal(bench_put(&bench, 1, 5000, true), 0);
	for (uint32_t i = 0; i < 4095; i++)
		assert_int_equal(lease(&bench, 1), 0);
	assert_int_equal(lease(&bench, 1), -ERR_FULL);
	for (uint32_t i = 0; i < 4095; i++) {
		assert_int_equal(bench_stats(&bench).leased_bytes, 5000);
		unlease(&bench, 1);
	}
	assert_int_equal(bench_stats(&bench).leased_bytes, 0);
	unlease(&bench, 1);
	assert_int_equal(lease(&bench, 1), 0);
	closed(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_leased_is_not_forgotten),
		cmocka_unit_test(a_lease_outlives_the_time_to_live),
		cmocka_unit_test(a_drop_outranks_a_lease),
		cmocka_unit_test(what_is_expired_and_leased_can_be_dropped),
		cmocka_unit_test(a_quarter_can_be_leased),
		cmocka_unit_test(leases_of_a_block_are_counted_as_far_as_it_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
