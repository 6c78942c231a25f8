/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts: one moves, others follow, share its outcome or inherit it; each acknowledgement says what
 * it may; failures of the medium are told to those who waited and cost nobody else.
 */
#include "../../lib/t.h"

#include <stdlib.h>

#include "../../lib/store_bench.h"

#define SEGMENTS 32u

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

static void a_put_is_followed_by_others_of_its_block(void **state)
{
	struct store_bench bench;
	struct bench_put *first;
	struct bench_put *buffered;
	struct bench_put *durable;

	opened(&bench);
	first = bench_put_begin(&bench, 1, 9000, false);
	buffered = bench_put_begin(&bench, 1, 9000, false);
	durable = bench_put_begin(&bench, 1, 9000, true);
	assert_int_equal(first->put.state, SHARD_PUT_FILLING);
	assert_int_equal(buffered->put.state, SHARD_PUT_FOLLOWING);
	assert_int_equal(durable->put.state, SHARD_PUT_FOLLOWING);
	assert_int_equal(bench_put_commit(&bench, first, 1), 0);
	assert_false(buffered->is_done);

	assert_true(bench_wait(&bench, &buffered->is_done));
	assert_true(buffered->put.existed_out);
	assert_false(buffered->put.durable_out);
	assert_int_equal(buffered->put.sequence_out, first->put.sequence_out);
	assert_true(bench_wait(&bench, &durable->is_done));
	assert_true(durable->put.existed_out);
	assert_true(durable->put.durable_out);
	assert_true(bench.fake.flushes > 0);
	assert_int_equal(bench_put_end(&bench, first), 0);
	assert_int_equal(bench_put_end(&bench, buffered), 0);
	assert_int_equal(bench_put_end(&bench, durable), 0);
	assert_int_equal(bench_stats(&bench).puts, 1);
	closed(&bench);
}

static void an_abort_hands_over(void **state)
{
	struct store_bench bench;
	struct bench_put *puts[4];

	opened(&bench);
	for (uint32_t i = 0; i < 4; i++)
		puts[i] = bench_put_begin(&bench, 1, 9000, false);
	shard_put_abort(bench.shard, &puts[1]->put, -ECANCELED); /* a follower */
	shard_put_abort(bench.shard, &puts[0]->put, -ERR_ABORTED);
	assert_false(puts[2]->is_filling); /* never out of a call */
	assert_true(bench_wait(&bench, &puts[2]->is_filling));
	assert_int_equal(bench_put_end(&bench, puts[0]), -ERR_ABORTED);
	assert_int_equal(bench_put_end(&bench, puts[1]), -ECANCELED);
	assert_int_equal(puts[2]->put.state, SHARD_PUT_FILLING);
	assert_int_equal(puts[3]->put.state, SHARD_PUT_FOLLOWING);
	assert_false(bench_has(&bench, 1));
	assert_int_equal(bench_put_commit(&bench, puts[2], 1), 0);
	assert_int_equal(bench_put_end(&bench, puts[2]), 0);
	assert_int_equal(bench_put_end(&bench, puts[3]), 0);
	assert_int_equal(bench_get(&bench, 1, 9000, NULL), BENCH_WHOLE);
	closed(&bench);
}

/* A durable put of what is only buffered waits until that is written and flushed. */
static void existed_is_durable_only_when_it_survives(void **state)
{
	struct store_bench bench;
	struct bench_put *first;
	struct bench_put *second;

	opened(&bench);
	first = bench_put_begin(&bench, 1, 9000, false);
	assert_int_equal(bench_put_commit(&bench, first, 1), 0);
	second = bench_put_begin(&bench, 1, 9000, true);
	assert_int_equal(second->put.state, SHARD_PUT_DONE);
	assert_true(bench_wait(&bench, &second->is_done));
	assert_true(second->put.existed_out);
	assert_true(second->put.durable_out);
	assert_int_equal(bench_put_end(&bench, first), 0);
	assert_int_equal(bench_put_end(&bench, second), 0);
	/* Written, but not flushed. */
	assert_int_equal(bench_put(&bench, 2, 300000, false), 0);
	second = bench_put_begin(&bench, 2, 300000, true);
	assert_true(bench_wait(&bench, &second->is_done));
	assert_true(second->put.durable_out);
	assert_int_equal(bench_put_end(&bench, second), 0);
	bench_crash(&bench);
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench_get(&bench, 1, 9000, NULL), BENCH_WHOLE);
	assert_int_equal(bench_get(&bench, 2, 300000, NULL), BENCH_WHOLE);
	closed(&bench);
}

static void refusals_take_nothing(void **state)
{
	struct store_bench bench;
	struct bench_put *puts[65];

	opened(&bench);
	puts[0] = bench_put_begin(&bench, 0, shard_block_max(bench.shard) + 1, false);
	assert_int_equal(puts[0]->begin_rc, -ERR_TOO_LARGE);
	free(puts[0]);
	for (uint32_t i = 0; i < 65; i++)
		puts[i] = bench_put_begin(&bench, i, 5000, false);
	assert_int_equal(puts[63]->begin_rc, 0);
	assert_int_equal(puts[64]->begin_rc, -ERR_BUSY);
	free(puts[64]);
	for (uint32_t i = 0; i < 64; i++) {
		shard_put_abort(bench.shard, &puts[i]->put, -ERR_ABORTED);
		assert_int_equal(bench_put_end(&bench, puts[i]), -ERR_ABORTED);
	}
	assert_int_equal(bench_put(&bench, 64, 5000, true), 0);
	closed(&bench);
}

/* The write of one record fails: its durable put is told, its block is a miss, others go on. */
static void a_failed_write_costs_its_own_record(void **state)
{
	struct store_bench bench;
	struct bench_put *put;

	opened(&bench);
	assert_int_equal(bench_put(&bench, 1, 300000, true), 0);
	bench.fake.calls = 0;
	bench.fake.fail_at = 1;
	put = bench_put_begin(&bench, 2, 300000, true);
	assert_int_equal(bench_put_commit(&bench, put, 2), 0);
	assert_true(bench_has(&bench, 2));
	assert_int_equal(bench_put_end(&bench, put), -EIO);
	assert_false(bench_has(&bench, 2));
	assert_int_equal(bench_stats(&bench).io_errors, 1);
	assert_false(bench_stats(&bench).is_offline);
	assert_int_equal(bench_put(&bench, 2, 300000, true), 0);
	assert_int_equal(bench_put(&bench, 3, 300000, true), 0);
	assert_int_equal(bench_close(&bench), 0);
	assert_int_equal(bench_open(&bench), 0);
	for (uint32_t i = 1; i <= 3; i++)
		assert_int_equal(bench_get(&bench, i, 300000, NULL), BENCH_WHOLE);
	closed(&bench);
}

/* A failed flush: nothing that waited is told durable, the shard is offline. */
static void a_failed_flush_takes_the_shard_offline(void **state)
{
	struct store_bench bench;
	struct bench_put *waiting;
	struct bench_put *filling;
	struct bench_put *follower;

	opened(&bench);
	assert_int_equal(bench_put(&bench, 1, 5000, true), 0);
	filling = bench_put_begin(&bench, 3, 5000, true);
	follower = bench_put_begin(&bench, 3, 5000, true);
	waiting = bench_put_begin(&bench, 2, 5000, true);
	bench.fake.calls = 0;
	bench.fake.fail_at = 2; /* the write, the flush */
	assert_int_equal(bench_put_commit(&bench, waiting, 2), 0);
	assert_int_equal(bench_put_end(&bench, waiting), -EIO);
	assert_true(bench_stats(&bench).is_offline);
	assert_false(bench_has(&bench, 1));
	assert_int_equal(bench_put(&bench, 4, 5000, false), -ERR_OFFLINE);
	assert_int_equal(bench_drop(&bench, 1, false), -ERR_OFFLINE);
	assert_int_equal(bench_put_commit(&bench, filling, 3), 0);
	assert_int_equal(bench_put_end(&bench, filling), -ERR_OFFLINE);
	assert_int_equal(bench_put_end(&bench, follower), -ERR_OFFLINE);
	assert_int_equal(bench_close(&bench), -ERR_OFFLINE);
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench_get(&bench, 1, 5000, NULL), BENCH_WHOLE);
	closed(&bench);
}

/* Fail the k-th call of puts, a drop and a stop: each is told, and what was told holds. */
static void every_fault_is_told(void **state)
{
	bool is_over = false;

	for (uint64_t k = 1; !is_over; k++) {
		struct store_bench bench;
		int rcs[4];
		int stop;

		opened(&bench);
		bench.fake.calls = 0;
		bench.fake.fail_at = k;
		rcs[0] = bench_put(&bench, 1, 5000, true);
		rcs[1] = bench_put(&bench, 2, 600000, true);
		rcs[2] = bench_drop(&bench, 1, false);
		rcs[3] = bench_put(&bench, 3, 5000, true);
		stop = bench_close(&bench);
		is_over = bench.fake.calls < k;
		bench.fake.fail_at = 0;
		env_fake_power_cut(&bench.fake);
		assert_int_equal(bench_open(&bench), 0);
		if (rcs[0] == 0 && rcs[2] == 0)
			assert_false(bench_has(&bench, 1));
		if (rcs[1] == 0)
			assert_int_equal(bench_get(&bench, 2, 600000, NULL), BENCH_WHOLE);
		if (rcs[3] == 0)
			assert_int_equal(bench_get(&bench, 3, 5000, NULL), BENCH_WHOLE);
		if (is_over)
			assert_int_equal(rcs[0] | rcs[1] | rcs[2] | rcs[3] | stop, 0);
		assert_true(k < 60);
		closed(&bench);
	}
}

/* Nobody gives a segment back as long as one pins it: puts wait, and go on when it is over. */
static void a_pinned_segment_is_not_used_again(void **state)
{
	struct store_bench bench;
	struct shard_ref ref;
	struct store_id id;
	struct bench_put *put = NULL;
	uint32_t number = 1;

	opened(&bench);
	assert_int_equal(bench_put(&bench, 0, 4 * MiB, true), 0);
	bench_id(0, &id);
	assert_true(shard_find(bench.shard, &id, &ref));
	shard_pin(bench.shard, &ref);
	for (; number < 200; number++) {
		put = bench_put_begin(&bench, number, 4 * MiB, false);
		if (put->begin_rc < 0 || bench_put_commit(&bench, put, number) < 0)
			break;
		assert_int_equal(bench_put_end(&bench, put), 0);
		for (uint32_t turn = 0; turn < 30; turn++) /* what can be prepared, is */
			(void)bench.env->ops->poll(bench.env, 0);
	}
	assert_true(number >= (SEGMENTS - 2) * 4);
	assert_true(number < 200);
	assert_false(bench_has(&bench, 0)); /* forgotten, but its bytes stay */
	shard_unpin(bench.shard, &ref);
	if (put->begin_rc == 0) {
		shard_put_abort(bench.shard, &put->put, -ERR_ABORTED);
		(void)bench_put_end(&bench, put);
	} else {
		free(put);
	}
	assert_int_equal(bench_put(&bench, 500, 4 * MiB, true), 0);
	closed(&bench);
}

/* --- straight from a client's memory --- */

static struct bench_put *foreign_begin(struct store_bench *bench, uint64_t number, uint32_t size)
{
	struct bench_put *put = bench_put_begin(bench, number, size, true);

	assert_int_equal(put->begin_rc, 0);
	bench->foreign_piece = 64 * KiB;
	assert_int_equal(bench_put_commit(bench, put, number), 0);
	bench->foreign_piece = 0;
	return put;
}

static void a_foreign_put_is_written_as_it_stands(void **state)
{
	struct store_bench bench;
	struct bench_put *put;
	struct shard_ref ref;
	struct store_id id;

	bench_init(&bench, 1, SEGMENTS);
	assert_int_equal(bench_open(&bench), 0);
	put = foreign_begin(&bench, 1, MiB);
	/* It is found, and whoever asks is told not to look at its bytes. */
	bench_id(1, &id);
	assert_true(shard_find(bench.shard, &id, &ref));
	assert_true((ref.flags & SHARD_REF_BUFFERED) != 0);
	assert_true(ref.put->is_foreign);
	assert_int_equal(bench_put_end(&bench, put), 0);
	assert_int_equal(bench_get(&bench, 1, MiB, NULL), BENCH_WHOLE);
	bench_crash(&bench);
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench_get(&bench, 1, MiB, NULL), BENCH_WHOLE);
	assert_int_equal(bench_close(&bench), 0);
	bench_fini(&bench);
}

/* A client that writes there behind the commit loses its block, and nobody else loses anything. */
static void a_scribbled_put_costs_itself(void **state)
{
	for (uint32_t crash = 0; crash < 2; crash++) {
		struct store_bench bench;
		struct bench_put *put;
		int rc;

		bench_init(&bench, 1, SEGMENTS);
		assert_int_equal(bench_open(&bench), 0);
		assert_int_equal(bench_put(&bench, 1, 300000, true), 0);
		put = foreign_begin(&bench, 2, 512 * KiB);
		put->buf[300 * KiB] ^= 1;
		assert_int_equal(bench_put(&bench, 3, 300000, true), 0);
		assert_int_equal(bench_put_end(&bench, put), 0);
		if (crash == 1) {
			bench_crash(&bench);
			assert_int_equal(bench_open(&bench), 0);
		}
		assert_int_equal(bench_get(&bench, 2, 512 * KiB, &rc), BENCH_MISS);
		assert_int_equal(rc, -ERR_CORRUPT);
		assert_false(bench_has(&bench, 2));
		assert_int_equal(bench_get(&bench, 1, 300000, NULL), BENCH_WHOLE);
		assert_int_equal(bench_get(&bench, 3, 300000, NULL), BENCH_WHOLE);
		assert_int_equal(bench_put(&bench, 2, 512 * KiB, true), 0);
		assert_int_equal(bench_get(&bench, 2, 512 * KiB, NULL), BENCH_WHOLE);
		assert_int_equal(bench_close(&bench), 0);
		bench_fini(&bench);
	}
}

/* Memory that goes away under a write, or is rewritten on a medium that checks, is not the medium's
 * fault; other errors are. */
static void memory_taken_from_a_put_does_not_blame_the_medium(void **state)
{
	static const int codes[] = { -EFAULT, -EHWPOISON, -EILSEQ, -EIO };

	for (uint32_t i = 0; i < ARRAY_LEN(codes); i++) {
		struct store_bench bench;
		struct bench_put *put;

		bench_init(&bench, 1, SEGMENTS);
		bench.opts.io_error_max = 1;
		assert_int_equal(bench_open(&bench), 0);
		assert_int_equal(bench_put(&bench, 1, 300000, true), 0);
		bench.fake.calls = 0;
		bench.fake.fail_at = 1;
		bench.fake.fail_rc = codes[i];
		put = foreign_begin(&bench, 2, 256 * KiB);
		assert_int_equal(bench_put_end(&bench, put), -EIO);
		bench.fake.fail_at = 0;
		assert_false(bench_has(&bench, 2));
		assert_int_equal(bench_stats(&bench).io_errors, codes[i] == -EIO);
		assert_int_equal(bench_get(&bench, 1, 300000, NULL), BENCH_WHOLE);
		assert_int_equal(bench_close(&bench), 0);
		bench_fini(&bench);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_put_is_followed_by_others_of_its_block),
		cmocka_unit_test(an_abort_hands_over),
		cmocka_unit_test(existed_is_durable_only_when_it_survives),
		cmocka_unit_test(refusals_take_nothing),
		cmocka_unit_test(a_failed_write_costs_its_own_record),
		cmocka_unit_test(a_failed_flush_takes_the_shard_offline),
		cmocka_unit_test(every_fault_is_told),
		cmocka_unit_test(a_pinned_segment_is_not_used_again),
		cmocka_unit_test(a_foreign_put_is_written_as_it_stands),
		cmocka_unit_test(a_scribbled_put_costs_itself),
		cmocka_unit_test(memory_taken_from_a_put_does_not_blame_the_medium),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
