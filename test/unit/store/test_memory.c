/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory mode: payloads stay where they were received, the oldest are forgotten when it is full,
 * nothing that is read or filled is moved from under anybody, nothing is called durable.
 */
#include "../../lib/t.h"

#include <stdlib.h>

#include "../../lib/store_bench.h"

#define ROOM (256 * KiB)

static void opened(struct store_bench *bench, uint32_t segments)
{
	bench_init_memory(bench, segments * ROOM, ROOM);
	bench->opts.verify = STORE_VERIFY_ALL;
	assert_int_equal(bench_open(bench), 0);
}

static void closed(struct store_bench *bench)
{
	assert_int_equal(bench_close(bench), 0);
	bench_fini(bench);
}

static void a_payload_is_received_where_it_stays(void **state)
{
	struct store_bench bench;
	struct bench_put *put;
	struct shard_ref ref;
	struct store_id id;
	struct iovec iov;

	opened(&bench, 8);
	put = bench_put_begin(&bench, 1, 5000, true);
	assert_int_equal(put->begin_rc, 0);
	assert_int_equal(put->put.iov_count, 1);
	assert_int_equal(put->put.iov[0].iov_len, 5000);
	assert_false(bench_has(&bench, 1));
	assert_int_equal(bench_put_commit(&bench, put, 1), 0);
	bench_id(1, &id);
	assert_true(shard_find(bench.shard, &id, &ref));
	assert_int_equal(shard_view(bench.shard, &ref, 100, 200, &iov, 1), 1);
	assert_ptr_equal(iov.iov_base, (char *)put->put.iov[0].iov_base + 100);
	assert_true(bench_wait(&bench, &put->is_done));
	assert_false(put->put.durable_out);
	assert_int_equal(bench_put_end(&bench, put), 0);
	assert_int_equal(bench_get(&bench, 1, 5000, NULL), BENCH_WHOLE);
	assert_int_equal(bench_put(&bench, 1, 5000, false), 0); /* existed */
	assert_int_equal(bench_stats(&bench).puts, 1);
	assert_int_equal(bench_drop(&bench, 1, false), 0);
	assert_false(bench_has(&bench, 1));
	assert_int_equal(bench_put(&bench, 1, 5000, false), 0);
	assert_int_equal(bench_drop(&bench, 1, true), 0);
	assert_false(bench_has(&bench, 1));
	closed(&bench);
}

/* Sums are made for who looks at them: what stays in memory is checked with verify = all only. */
static void payloads_are_summed_only_where_they_are_checked(void **state)
{
	for (uint32_t verify = STORE_VERIFY_NONE; verify <= STORE_VERIFY_ALL; verify++) {
		struct store_bench bench;
		struct shard_ref ref;
		struct store_id id;

		bench_init_memory(&bench, 8 * ROOM, ROOM);
		bench.opts.verify = (enum store_verify)verify;
		assert_int_equal(bench_open(&bench), 0);
		assert_int_equal(bench_put(&bench, 1, 5000, false), 0);
		bench_id(1, &id);
		assert_true(shard_find(bench.shard, &id, &ref));
		assert_int_equal((ref.flags & SHARD_REF_NO_CRC) == 0, verify == STORE_VERIFY_ALL);
		assert_int_equal(bench_get(&bench, 1, 5000, NULL), BENCH_WHOLE);
		closed(&bench);
	}
}

/* A record's name says which bytes: one of before a restart must not fit other bytes behind it. */
static void a_record_of_before_a_restart_is_not_named_again(void **state)
{
	struct store_bench bench;
	struct shard_ref before;
	struct shard_ref after;
	struct store_id id;

	opened(&bench, 8);
	bench_id(1, &id);
	assert_int_equal(bench_put(&bench, 1, 5000, false), 0);
	assert_true(shard_find(bench.shard, &id, &before));
	assert_int_equal(bench_close(&bench), 0);
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench_put(&bench, 1, 5000, false), 0);
	assert_true(shard_find(bench.shard, &id, &after));
	assert_int_not_equal(before.sequence, after.sequence);
	closed(&bench);
}

static void the_oldest_are_forgotten(void **state)
{
	struct store_bench bench;
	uint32_t oldest = 0;

	opened(&bench, 8);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(bench_put(&bench, i, 60000, false), 0);
	while (!bench_has(&bench, oldest))
		oldest++;
	assert_true(100 - oldest >= 4 * 4); /* two are reclaim's, one is being filled */
	for (uint32_t i = oldest; i < 100; i++)
		assert_int_equal(bench_get(&bench, i, 60000, NULL), BENCH_WHOLE);
	assert_int_equal(bench_stats(&bench).forgotten, oldest);
	closed(&bench);
}

/* One block is being read and one is being filled while the memory is written over twice. */
static void readers_and_fillers_keep_their_memory(void **state)
{
	struct store_bench bench;
	struct bench_put *put;
	struct shard_ref ref;
	struct store_id id;
	struct iovec iov;

	opened(&bench, 8);
	assert_int_equal(bench_put(&bench, 0, 60000, false), 0);
	bench_id(0, &id);
	assert_true(shard_find(bench.shard, &id, &ref));
	shard_pin(bench.shard, &ref);
	for (uint32_t i = 1; i < 6; i++)
		assert_int_equal(bench_put(&bench, i, 60000, false), 0);
	put = bench_put_begin(&bench, 1000, 60000, false);
	for (uint32_t i = 10; i < 90; i++)
		assert_int_equal(bench_put(&bench, i, 60000, false), 0);
	assert_false(bench_has(&bench, 0));
	assert_int_equal(shard_view(bench.shard, &ref, 0, 60000, &iov, 1), 1);
	assert_true(bench_is_filled(0, iov.iov_base, 0, 60000));
	shard_unpin(bench.shard, &ref);
	assert_int_equal(bench_put_commit(&bench, put, 1000), 0);
	assert_int_equal(bench_put_end(&bench, put), 0);
	assert_int_equal(bench_get(&bench, 1000, 60000, NULL), BENCH_WHOLE);
	closed(&bench);
}

/* Every segment is being filled: "not now", and a task when that is over. */
static bool is_room;

static void room_came(struct env_task *task)
{
	is_room = true;
}

static void room_is_told(void **state)
{
	struct env_task task = { .run = room_came };
	struct store_bench bench;
	struct bench_put *puts[13]; /* the fourth segment is reclaim's */

	opened(&bench, 4);
	shard_on_room(bench.shard, &task);
	for (uint32_t i = 0; i < ARRAY_LEN(puts); i++)
		puts[i] = bench_put_begin(&bench, i, 64 * KiB, false);
	assert_int_equal(puts[11]->begin_rc, 0);
	assert_int_equal(puts[12]->begin_rc, -EAGAIN);
	free(puts[12]);
	for (uint32_t i = 0; i < 12; i++) {
		assert_int_equal(i < 4 && is_room, 0);
		shard_put_abort(bench.shard, &puts[i]->put, -ERR_ABORTED);
		assert_int_equal(bench_put_end(&bench, puts[i]), -ERR_ABORTED);
	}
	assert_true(is_room);
	assert_int_equal(bench_put(&bench, 12, 64 * KiB, false), 0);
	closed(&bench);
}

static void memory_is_what_was_announced(void **state)
{
	struct store_bench bench;
	uint64_t before;

	bench_init_memory(&bench, 8 * ROOM, ROOM);
	before = bench.fake.taken;
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench.fake.taken - before,
			 shard_memory_size(NULL, &bench.memory, &bench.opts));
	closed(&bench);
}

/* Fail each call of an open in turn. */
static void open_survives_every_fault(void **state)
{
	int rc = -ENOMEM;

	for (uint64_t k = 1; rc < 0; k++) {
		struct store_bench bench;

		bench_init_memory(&bench, 8 * ROOM, ROOM);
		bench.fake.fail_at = k;
		rc = bench_open(&bench);
		if (rc < 0)
			assert_null(bench.shard);
		else
			assert_true(bench.fake.calls < k);
		assert_int_equal(bench_close(&bench), 0);
		bench_fini(&bench);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_payload_is_received_where_it_stays),
		cmocka_unit_test(payloads_are_summed_only_where_they_are_checked),
		cmocka_unit_test(a_record_of_before_a_restart_is_not_named_again),
		cmocka_unit_test(the_oldest_are_forgotten),
		cmocka_unit_test(readers_and_fillers_keep_their_memory),
		cmocka_unit_test(room_is_told),
		cmocka_unit_test(memory_is_what_was_announced),
		cmocka_unit_test(open_survives_every_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
