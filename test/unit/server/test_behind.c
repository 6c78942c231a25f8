/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A drive that is slower than those that write (server/behind.c): puts are answered before they are
 * on it, up to a number that its sessions share; beyond that answers wait for the drive. What must
 * hold: nobody is refused for it, who begins to write is answered, and nothing is answered as
 * stored that was lost before.
 */
#include <stdlib.h>
#include <string.h>

#include "drive.h"

#define SMALL 50000

static struct raw_client_frame frame;
static const struct wire_result *const result = (const void *)frame.body;

#define OPS_MAX    128           /* of the server; half of them may be behind */
#define BEHIND_MAX (OPS_MAX / 4) /* of one that writes alone */

/* A client and what it has heard. */
struct writer {
	struct raw_client client;
	uint32_t granted;
	uint32_t answered;
	uint32_t failed;
};

struct slow {
	struct rig rig;
	struct writer writer;
	struct raw_client_put puts[OPS_MAX];
};

/* Its drive writes nothing until drive_go(). */
static void slow_init(struct slow *slow)
{
	memset(slow, 0, sizeof(*slow));
	rig_init(&slow->rig);
	slow->rig.opts.operation_max = OPS_MAX;
	drive_init(&slow->rig);
	rig_start(&slow->rig, true);
	rig_client(&slow->rig, &slow->writer.client);
	for (uint32_t i = 0; i < OPS_MAX; i++)
		slow->puts[i] =
			(struct raw_client_put) { rig_key(i), rig_bytes(i, SMALL), SMALL, false };
	rig_put(&slow->writer.client, OPS_MAX, SMALL, WIRE_REQ_DURABLE,
		0); /* it has a segment open */
	drive_hold(ENV_WRITE);
}

static void slow_fini(struct slow *slow)
{
	for (uint32_t i = 0; i < OPS_MAX; i++)
		free((void *)(uintptr_t)slow->puts[i].bytes);
	raw_client_close(&slow->writer.client);
	rig_stop(&slow->rig);
}

/* Take the next frame of the request that these are of. */
static void writer_take(struct writer *writer, const struct raw_client_put *puts)
{
	bool is_reply;

	assert_true(raw_client_recv(&writer->client, &frame));
	is_reply = frame.header.kind == WIRE_REPLY;
	if (!is_reply) {
		assert_int_equal(frame.header.kind, WIRE_GRANT);
		assert_true(raw_client_answer(&writer->client, &frame, puts));
		writer->granted += frame.header.count;
		return;
	}
	for (uint32_t i = 0; i < frame.header.count; i++)
		writer->failed += result[i].status != 0;
	writer->answered += frame.header.count;
}

/* Put so many; none is under way. */
static void writer_put(struct writer *writer, const struct raw_client_put *puts, uint32_t count,
		       uint64_t budget_ns)
{
	uint32_t end = writer->granted + count;

	(void)raw_client_put(&writer->client, puts, (uint16_t)count, 0, budget_ns);
	while (writer->granted < end)
		writer_take(writer, puts);
}

static void slow_put(struct slow *slow, uint32_t first, uint32_t count, uint64_t budget_ns)
{
	writer_put(&slow->writer, &slow->puts[first], count, budget_ns);
}

static void slow_answered(struct slow *slow, uint32_t first, uint32_t count)
{
	while (slow->writer.answered < first + count)
		writer_take(&slow->writer, &slow->puts[first]);
	assert_int_equal(slow->writer.failed, 0);
}

/* As many are behind as may be. */
static void slow_begin(struct slow *slow)
{
	slow_init(slow);
	slow_put(slow, 0, BEHIND_MAX, 10 * NS_PER_S);
	slow_answered(slow, 0, BEHIND_MAX);
}

/* A client that waits for its answers is never refused, however long the drive takes: what it has
 * put is there, and answers that would let it put too much wait for the drive. */
static void a_slow_drive_holds_back_answers_and_refuses_nothing(void **state)
{
	struct slow slow;

	slow_begin(&slow);
	slow_put(&slow, BEHIND_MAX, BEHIND_MAX, 10 * NS_PER_S);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).store_puts == 1 + 2 * BEHIND_MAX);
	rig_run_ns(&slow.rig, 20 * NS_PER_MS);
	assert_int_equal(rig_metrics(&slow.rig).put_stored, 1 + BEHIND_MAX);
	assert_int_equal(rig_metrics(&slow.rig).again_behind, BEHIND_MAX);
	drive_go(&slow.rig, 0);
	slow_answered(&slow, BEHIND_MAX, BEHIND_MAX);
	for (uint32_t i = 0; i < 2 * BEHIND_MAX; i++)
		assert_int_equal(rig_get(&slow.writer.client, i, SMALL), 0);
	assert_int_equal(rig_metrics(&slow.rig).busy_items, 0);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).ops == 0);
	assert_int_equal(rig_metrics(&slow.rig).buffers_used, 0);
	slow_fini(&slow);
}

/* Blocks are written many together: each of them lets the answer to another go. */
static void each_block_that_is_written_lets_an_answer_go(void **state)
{
	struct slow slow;
	uint32_t written;

	slow_begin(&slow);
	slow_put(&slow, BEHIND_MAX, BEHIND_MAX, 10 * NS_PER_S);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).again_behind == BEHIND_MAX);
	drive_go_one(&slow.rig);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).ops < 2 * BEHIND_MAX);
	rig_run_ns(&slow.rig, 20 * NS_PER_MS);
	written = 2 * BEHIND_MAX - (uint32_t)rig_metrics(&slow.rig).ops;
	assert_true(written > 1);
	assert_true(written < BEHIND_MAX);
	assert_int_equal(rig_metrics(&slow.rig).put_stored, 1 + BEHIND_MAX + written);
	drive_go(&slow.rig, 0);
	slow_answered(&slow, BEHIND_MAX, BEHIND_MAX);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).ops == 0);
	slow_fini(&slow);
}

/* What could not be written is not there: who has not been told that it is stored is told so. */
static void a_put_that_is_lost_before_its_answer_has_failed(void **state)
{
	struct slow slow;

	slow_begin(&slow);
	slow_put(&slow, BEHIND_MAX, 4, 10 * NS_PER_S);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).again_behind == 4);
	rig_run_ns(&slow.rig, 20 * NS_PER_MS); /* the drive has all of them */
	drive_go(&slow.rig, -EIO);
	while (slow.writer.answered < BEHIND_MAX + 4)
		writer_take(&slow.writer, &slow.puts[BEHIND_MAX]);
	assert_int_equal(slow.writer.failed, 4);
	assert_int_equal(rig_metrics(&slow.rig).put_failed, 4);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).ops == 0);
	slow_fini(&slow);
}

/* Stored is stored: a put whose budget ends while only its answer waits has succeeded. */
static void a_put_whose_answer_is_held_back_has_succeeded(void **state)
{
	struct slow slow;
	uint64_t begin_ns;

	slow_begin(&slow);
	begin_ns = env_now_ns(slow.rig.env);
	slow_put(&slow, BEHIND_MAX, 4, 300 * NS_PER_MS);
	slow_answered(&slow, BEHIND_MAX, 4);
	assert_true(env_now_ns(slow.rig.env) - begin_ns >= 300 * NS_PER_MS);
	assert_int_equal(rig_metrics(&slow.rig).put_deadline, 0);
	assert_int_equal(rig_metrics(&slow.rig).put_stored, 1 + BEHIND_MAX + 4);
	assert_int_equal(rig_get(&slow.writer.client, BEHIND_MAX, SMALL), 0);
	drive_go(&slow.rig, 0);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).ops == 0);
	slow_fini(&slow);
}

/* The session of what is behind ends: nothing waits for it, and the drive is done with it in its
 * own time. */
static void a_session_ends_while_its_answers_are_held_back(void **state)
{
	struct slow slow;

	slow_begin(&slow);
	slow_put(&slow, BEHIND_MAX, 4, 10 * NS_PER_S);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).again_behind == 4);
	raw_client_close(&slow.writer.client);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).sessions == 0);
	rig_run_ns(&slow.rig, 5 * NS_PER_MS);
	assert_int_equal(rig_metrics(&slow.rig).put_stored, 1 + BEHIND_MAX + 4);
	assert_int_equal(rig_metrics(&slow.rig).put_failed, 0);
	drive_go(&slow.rig, 0);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).ops == 0);
	rig_client(&slow.rig, &slow.writer.client);
	assert_int_equal(rig_get(&slow.writer.client, BEHIND_MAX + 3, SMALL), 0);
	slow_fini(&slow);
}

/* What the drive has is counted until it lets go: also for who is gone. */
static void all_is_free_again(struct slow *slow)
{
	uint64_t again = rig_metrics(&slow->rig).again_behind;
	const struct raw_client_put *puts = &slow->puts[3 * BEHIND_MAX];
	uint32_t answered = slow->writer.answered;

	RIG_UNTIL(&slow->rig, rig_metrics(&slow->rig).ops == 0);
	drive_hold(ENV_WRITE);
	writer_put(&slow->writer, puts, BEHIND_MAX, 10 * NS_PER_S);
	while (slow->writer.answered < answered + BEHIND_MAX)
		writer_take(&slow->writer, puts);
	assert_int_equal(rig_metrics(&slow->rig).again_behind, again);
	drive_go(&slow->rig, 0);
	RIG_UNTIL(&slow->rig, rig_metrics(&slow->rig).ops == 0);
}

/* Who is only connected has no part in it, and who writes has not all of it: another that begins to
 * is answered although the drive stands still. */
static void those_that_write_share_what_may_be_behind(void **state)
{
	enum { IDLE = 6 };
	struct raw_client idle[IDLE];
	struct writer other = { 0 };
	struct slow slow;
	uint64_t begin_ns;

	slow_init(&slow);
	for (uint32_t i = 0; i < IDLE; i++)
		rig_client(&slow.rig, &idle[i]);
	rig_client(&slow.rig, &other.client);
	slow_put(&slow, 0, BEHIND_MAX + 4, 10 * NS_PER_S);
	slow_answered(&slow, 0, BEHIND_MAX);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).again_behind == 4);

	begin_ns = env_now_ns(slow.rig.env);
	writer_put(&other, &slow.puts[2 * BEHIND_MAX], BEHIND_MAX, 10 * NS_PER_S);
	while (other.answered < BEHIND_MAX / 2)
		writer_take(&other, &slow.puts[2 * BEHIND_MAX]);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).again_behind == 4 + BEHIND_MAX / 2);
	rig_run_ns(&slow.rig, 20 * NS_PER_MS);
	assert_int_equal(rig_metrics(&slow.rig).put_stored, 1 + BEHIND_MAX + BEHIND_MAX / 2);
	assert_int_equal(rig_metrics(&slow.rig).busy_items, 0);

	/* What is written of one leaves more for the other, whose own blocks are still to be. */
	drive_go_one(&slow.rig);
	writer_take(&other, &slow.puts[2 * BEHIND_MAX]);
	assert_true(env_now_ns(slow.rig.env) - begin_ns < 5 * NS_PER_S); /* not by its deadline */
	assert_true(rig_metrics(&slow.rig).ops > 4 + BEHIND_MAX);

	raw_client_close(&other.client);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).sessions == 1 + IDLE);
	drive_go(&slow.rig, 0);
	slow_answered(&slow, 0, BEHIND_MAX + 4);
	all_is_free_again(&slow);
	for (uint32_t i = 0; i < IDLE; i++)
		raw_client_close(&idle[i]);
	slow_fini(&slow);
}

/* Who lets its answers run out has more behind than its part: another that begins to write is
 * answered all the same. */
static void who_gives_up_takes_nothing_from_others(void **state)
{
	struct writer other = { 0 };
	struct slow slow;
	uint64_t begin_ns;

	slow_init(&slow);
	rig_client(&slow.rig, &other.client);
	slow_put(&slow, 0, 2 * BEHIND_MAX, 300 * NS_PER_MS);
	slow_answered(&slow, 0, 2 * BEHIND_MAX); /* the second half when their budget was spent */
	begin_ns = env_now_ns(slow.rig.env);
	writer_put(&other, &slow.puts[2 * BEHIND_MAX], 4, 5 * NS_PER_S);
	while (other.answered < 4)
		writer_take(&other, &slow.puts[2 * BEHIND_MAX]);
	assert_true(env_now_ns(slow.rig.env) - begin_ns < NS_PER_S);
	raw_client_close(&other.client);
	drive_go(&slow.rig, 0);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).ops == 0);
	slow_fini(&slow);
}

/* However many write already: who begins to is answered though the drive stands still. */
static void who_begins_to_write_last_finds_a_part(void **state)
{
	static const uint32_t parts[] = { 32, 16, 8, 4, 2, 1, 1, 1 };
	struct writer writers[ARRAY_LEN(parts)] = { 0 };
	struct slow slow;
	uint32_t first = 0;
	uint64_t took_ns = 0;

	slow_init(&slow);
	for (uint32_t i = 0; i < ARRAY_LEN(parts); i++) {
		uint64_t begin_ns = env_now_ns(slow.rig.env);
		struct writer *writer = i == 0 ? &slow.writer : &writers[i];

		if (i > 0)
			rig_client(&slow.rig, &writer->client);
		writer_put(writer, &slow.puts[first], parts[i], 3 * NS_PER_S);
		while (writer->answered < parts[i])
			writer_take(writer, &slow.puts[first]);
		first += parts[i];
		took_ns = env_now_ns(slow.rig.env) - begin_ns;
	}
	assert_true(took_ns < NS_PER_S);
	for (uint32_t i = 1; i < ARRAY_LEN(parts); i++)
		raw_client_close(&writers[i].client);
	drive_go(&slow.rig, 0);
	RIG_UNTIL(&slow.rig, rig_metrics(&slow.rig).ops == 0);
	slow_fini(&slow);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_slow_drive_holds_back_answers_and_refuses_nothing),
		cmocka_unit_test(each_block_that_is_written_lets_an_answer_go),
		cmocka_unit_test(a_put_that_is_lost_before_its_answer_has_failed),
		cmocka_unit_test(a_put_whose_answer_is_held_back_has_succeeded),
		cmocka_unit_test(a_session_ends_while_its_answers_are_held_back),
		cmocka_unit_test(those_that_write_share_what_may_be_behind),
		cmocka_unit_test(who_gives_up_takes_nothing_from_others),
		cmocka_unit_test(who_begins_to_write_last_finds_a_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
