/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server that has no room for some items. What must hold: they are sent again, nothing else is,
 * not at once and not for ever; nobody is told more than one outcome; other things go on.
 */
#include <errno.h>
#include <string.h>

#include "core_rig.h"

#define PAUSE_MAX (128 * NS_PER_MS)

static void answer_items(const struct sent *to, const int *statuses, uint16_t count)
{
	struct wire_result results[8];

	for (uint32_t i = 0; i < count; i++)
		results[i] = (struct wire_result) { .item = i, .status = statuses[i] };
	assert_int_equal(reply(to, results, count, true, 0), 0);
}

/* The only item of a PUT frame; keys tell items apart by their first byte. */
static void check_put(uint32_t index, uint8_t key)
{
	const struct wire_put *item = wire_items(&w.sent[index].header, w.sent[index].body);

	assert_int_equal(w.sent[index].header.kind, WIRE_PUT);
	assert_int_equal(w.sent[index].header.count, 1);
	assert_int_equal(item->key.bytes[0], key);
}

static void what_there_was_no_room_for_is_sent_again(void **state)
{
	static const int statuses[] = { 0, -ERR_BUSY, 0, -ERR_BUSY };
	struct test_op put;
	struct test_op later;
	struct test_op probe;

	begin(&fake_sync, 1);
	connect_all(1);
	submit(&put, CTXKV_OP_PUT, 4, 70000);
	assert_int_equal(w.sent_count, 1);
	answer_items(&w.sent[0], statuses, 4);
	assert_int_equal(told(&put), 0);
	assert_int_equal(w.client->request_count, 0);
	sent_clear();
	/* Puts wait behind it, a probe does not. */
	submit(&later, CTXKV_OP_PUT, 1, 70000);
	submit(&probe, CTXKV_OP_PROBE, 1, 0);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(w.sent[0].header.kind, WIRE_PROBE);
	sent_clear();
	pass_ns(PAUSE_MAX);
	assert_int_equal(w.sent_count, 3);
	check_put(0, 1);
	check_put(1, 3);
	check_put(2, 0);
	assert_int_equal(reply_all(&w.sent[1], 0, 0, 0), 0);
	assert_int_equal(told(&put), 0);
	assert_int_equal(reply_all(&w.sent[0], 0, 0, 0), 0);
	assert_int_equal(told(&put), BOTH);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(put.items[i].status, 0);
	assert_int_equal(w.client->stat.retries, 2);
	assert_int_equal(w.client->stat.puts, 4);
	assert_int_equal(w.client->stat.put_failures, 0);
	end();
	assert_int_equal(told(&later), BOTH);
}

/* Twice as long after each refusal, until one is taken. */
static void a_server_that_stays_busy_is_asked_less_often(void **state)
{
	struct test_op put;
	uint64_t begin_ns;
	uint32_t asked = 0;

	begin(&fake_sync, 1);
	connect_all(1);
	submit(&put, CTXKV_OP_PUT, 1, 70000);
	begin_ns = w.fake.now_ns;
	while (w.fake.now_ns - begin_ns < 5 * NS_PER_S) {
		if (w.sent_count > 0) {
			assert_int_equal(w.sent_count, 1);
			assert_int_equal(reply_all(&w.sent[0], -ERR_BUSY, 0, 0), 0);
			sent_clear();
			asked++;
		}
		pass_ns(NS_PER_MS / 4);
	}
	assert_in_range(asked, 5 * NS_PER_S / PAUSE_MAX, 5 * NS_PER_S / PAUSE_MAX * 4);
	pass_ns(PAUSE_MAX);
	assert_int_equal(reply_all(&w.sent[0], 0, 0, 0), 0);
	assert_int_equal(told(&put), BOTH);
	assert_int_equal(put.items[0].status, 0);
	assert_int_equal(w.client->sessions[0].busy_puts.pause_ns, 0);
	end();
}

/* A get goes as soon as there is room for gets, and a put for puts. */
static void gets_and_puts_are_refused_apart(void **state)
{
	enum { REFUSALS = 8 };
	struct test_op put;
	struct test_op get;
	struct test_op later;

	begin(&fake_sync, 1);
	connect_all(1);
	submit(&put, CTXKV_OP_PUT, 1, 70000);
	for (uint32_t i = 0; i < REFUSALS; i++) {
		assert_int_equal(w.sent_count, 1);
		assert_int_equal(reply_all(&w.sent[0], -ERR_BUSY, 0, 0), 0);
		sent_clear();
		if (i + 1 < REFUSALS)
			pass_ns(PAUSE_MAX);
	}
	submit(&get, CTXKV_OP_GET, 1, 100);
	assert_int_equal(reply_all(&w.sent[0], -ERR_BUSY, 0, 0), 0);
	sent_clear();
	pass_ns(NS_PER_MS / 4);
	assert_int_equal(w.sent_count, 0);
	pass_ns(2 * NS_PER_MS); /* the pause of a first refusal; that of the put is 32 at least */
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(w.sent[0].header.kind, WIRE_GET);
	assert_int_equal(reply_all(&w.sent[0], -ERR_BUSY, 0, 0), 0);
	sent_clear();
	pass_ns(PAUSE_MAX);
	assert_int_equal(w.sent_count, 2); /* each in its time */
	assert_int_equal(reply_all(&w.sent[w.sent[0].header.kind == WIRE_GET], 0, 0, 0), 0);
	assert_int_equal(told(&put), BOTH);

	/* Nor do puts wait because a get is refused. */
	assert_int_equal(reply_all(&w.sent[w.sent[0].header.kind != WIRE_GET], -ERR_BUSY, 0, 0), 0);
	sent_clear();
	submit(&later, CTXKV_OP_PUT, 1, 70000);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(w.sent[0].header.kind, WIRE_PUT);
	assert_int_equal(told(&get), 0);
	end();
}

static void busy_until_the_deadline_is_busy(void **state)
{
	static const int statuses[] = { 0, -ERR_BUSY };
	struct test_op put;

	begin(&fake_sync, 1);
	connect_all(1);
	submit(&put, CTXKV_OP_PUT, 2, 70000);
	answer_items(&w.sent[0], statuses, 2);
	sent_clear();
	for (uint32_t i = 0; i < 100; i++) {
		pass_ns(PAUSE_MAX);
		if (w.sent_count > 0)
			assert_int_equal(reply_all(&w.sent[0], -ERR_BUSY, 0, 0), 0);
		sent_clear();
	}
	assert_int_equal(told(&put), BOTH);
	assert_int_equal(put.op.status, 0);
	assert_int_equal(put.items[0].status, 0);
	assert_int_equal(put.items[1].status, -ERR_BUSY);
	pass_ns(PAUSE_MAX);
	assert_int_equal(w.sent_count, 0);
	end();
}

static void a_get_is_sent_again_to_the_same_place(void **state)
{
	const struct wire_result busy = { .item = 1, .status = -ERR_BUSY };
	uint8_t bytes[100];
	struct test_op get;

	memset(bytes, 7, sizeof(bytes));
	memset(memory, 0, sizeof(bytes));
	begin(&fake_sync, 1);
	connect_all(1);
	submit(&get, CTXKV_OP_GET, 2, sizeof(bytes));
	assert_int_equal(reply(&w.sent[0], &busy, 1, false, 0), 0);
	/* What still comes for it by the old request has no place. */
	land(&w.sent[0], 1, 0, bytes, sizeof(bytes), -ENOENT);
	pass_ns(PAUSE_MAX);
	assert_int_equal(w.sent_count, 2);
	land(&w.sent[0], 1, 0, bytes, sizeof(bytes), -ENOENT);
	land(&w.sent[1], 0, 0, bytes, sizeof(bytes), 1);
	assert_int_equal(reply_all(&w.sent[1], 0, sizeof(bytes), 0), 0);
	assert_int_equal(get.items[1].status, 0);
	assert_memory_equal(memory, bytes, sizeof(bytes));
	assert_int_equal(told(&get), 0); /* the other item's */
	end();
	assert_int_equal(told(&get), BOTH);
}

/* An item of which bytes have come was begun: it is not sent again, whatever the server says. */
static void a_get_that_was_begun_is_not_sent_again(void **state)
{
	uint8_t bytes[10] = { 7 };
	struct test_op get;

	begin(&fake_sync, 1);
	connect_all(1);
	submit(&get, CTXKV_OP_GET, 1, 100);
	land(&w.sent[0], 0, 0, bytes, sizeof(bytes), 1);
	assert_int_equal(reply_all(&w.sent[0], -ERR_BUSY, 0, 0), 0);
	assert_int_equal(told(&get), BOTH);
	assert_int_equal(get.items[0].status, -ERR_BUSY);
	end();
}

/* Over a transport that reaches memory: nothing is staged, or named, while it waits. */
static void what_waits_names_no_memory(void **state)
{
	const struct wire_result declared = { 0 };
	struct test_op put;

	begin(&fake_direct, 1);
	connect_all(1);
	submit(&put, CTXKV_OP_PUT, 1, 70000);
	assert_int_equal(w.sent[0].header.kind, WIRE_DECLARE);
	assert_int_equal(reply(&w.sent[0], &declared, 1, true, 0), 0);
	assert_int_equal(reply_all(&w.sent[1], -ERR_BUSY, 0, 0), 0);
	assert_int_equal(w.client->stage.free_count, w.client->stage.chunk_count);
	assert_int_equal(w.client->request_count, 0);
	pass_ns(PAUSE_MAX);
	assert_int_equal(w.sent_count, 3);
	assert_int_equal(reply_all(&w.sent[2], 0, 0, 0), 0);
	assert_int_equal(told(&put), BOTH);
	assert_int_equal(put.items[0].status, 0);
	end();
}

static void what_waits_outlives_its_session(void **state)
{
	struct test_op put;

	begin(&fake_sync, 1);
	connect_all(1);
	submit(&put, CTXKV_OP_PUT, 1, 70000);
	assert_int_equal(reply_all(&w.sent[0], -ERR_BUSY, 0, 0), 0);
	pass_ns(2 * NS_PER_MS / 5);
	lane_break(0, -ERR_PEER);
	assert_int_equal(told(&put), 0);
	pass_ns(200 * NS_PER_MS);
	hello(1);
	pass_ns(PAUSE_MAX);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(reply_all(&w.sent[0], 0, 0, 0), 0);
	assert_int_equal(told(&put), BOTH);
	assert_int_equal(put.items[0].status, 0);
	end();
}

/* More than fit into one frame where there is no credit, so that they go in two. */
#define MANY 60

/*
 * A request of many puts goes through lane 1. Of its first two the server had no room: one is under
 * way again, through lane 0, and the other waits. Then lane 1 is lost, and with it what that
 * request still has: not these two.
 */
static void what_is_sent_again_outlives_its_first_lane(void **state)
{
	const struct wire_result first = { .item = 0, .status = -ERR_BUSY };
	const struct wire_result second = { .item = 1, .status = -ERR_BUSY };
	struct test_op probes[2];
	struct test_op put;
	uint32_t count;

	begin(&fake_sync, 2);
	w.peers[0].welcome.request_max = 3;
	w.peers[0].welcome.credit = 0;
	connect_all(2);
	submit(&probes[0], CTXKV_OP_PROBE, 1, 0);
	submit(&probes[1], CTXKV_OP_PROBE, 1, 0);
	w.lanes[0].lane.is_blocked = true;
	submit(&put, CTXKV_OP_PUT, MANY, 70000);
	assert_int_equal(w.sent_count, 3);
	assert_int_equal(w.sent[2].lane, 1);
	count = w.sent[2].header.count;
	assert_in_range(count, 3, MANY - 1);
	w.lanes[0].lane.is_blocked = false;
	answer_bits(&w.sent[0], 0, 0, 0);
	assert_int_equal(w.sent_count, 4); /* the rest of the puts */
	assert_int_equal(w.sent[3].lane, 0);
	answer_bits(&w.sent[1], 0, 0, 0);
	assert_int_equal(reply(&w.sent[2], &first, 1, false, 0), 0);
	pass_ns(PAUSE_MAX);
	assert_int_equal(w.sent_count, 5);
	assert_int_equal(w.sent[4].lane, 0);
	check_put(4, 0);
	assert_int_equal(reply(&w.sent[2], &second, 1, false, 0), 0);
	lane_break(1, -ERR_PEER);

	assert_int_equal(reply_all(&w.sent[4], 0, 0, 0), 0);
	assert_int_equal(reply_all(&w.sent[3], 0, 0, 0), 0);
	assert_int_equal(told(&put), 0);
	pass_ns(PAUSE_MAX);
	assert_int_equal(w.sent[5].lane, 0);
	check_put(5, 1);
	assert_int_equal(reply_all(&w.sent[5], 0, 0, 0), 0);
	assert_int_equal(told(&put), BOTH);
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(put.items[i].status, i >= 2 && i < count ? -ERR_PEER : 0);
	assert_int_equal(w.client->stat.puts, MANY - count + 2);
	end();
}

/* An item is refused once a request. */
static void a_second_refusal_breaks_the_lane(void **state)
{
	const struct wire_result busy = { .item = 1, .status = -ERR_BUSY };
	struct test_op put;

	begin(&fake_sync, 1);
	connect_all(1);
	submit(&put, CTXKV_OP_PUT, 2, 70000);
	assert_int_equal(reply(&w.sent[0], &busy, 1, false, 0), 0);
	assert_int_equal(reply(&w.sent[0], &busy, 1, false, 0), -ERR_PROTOCOL);
	end();
	assert_int_equal(told(&put), BOTH);
}

/* Nor is it answered by the request that it was refused in. */
static void what_is_sent_again_is_answered_there_alone(void **state)
{
	const struct wire_result busy = { .item = 1, .status = -ERR_BUSY };
	const struct wire_result stored = { .item = 1 };
	struct test_op put;

	begin(&fake_sync, 1);
	connect_all(1);
	submit(&put, CTXKV_OP_PUT, 2, 70000);
	assert_int_equal(reply(&w.sent[0], &busy, 1, false, 0), 0);
	pass_ns(PAUSE_MAX);
	assert_int_equal(w.sent_count, 2);
	check_put(1, 1);
	assert_int_equal(reply(&w.sent[0], &stored, 1, false, 0), -ERR_PROTOCOL);
	assert_int_equal(w.client->request_count, 2); /* the other item's has not ended by it */
	end();
	assert_int_equal(told(&put), BOTH);
}

static void a_cancelled_op_is_not_sent_again(void **state)
{
	struct test_op put;

	begin(&fake_sync, 1);
	connect_all(1);
	submit(&put, CTXKV_OP_PUT, 1, 70000);
	assert_int_equal(reply_all(&w.sent[0], -ERR_BUSY, 0, 0), 0);
	sent_clear();
	client_cancel(w.client, &put.op);
	settle();
	assert_int_equal(told(&put), BOTH);
	assert_int_equal(put.items[0].status, -ECANCELED);
	pass_ns(PAUSE_MAX);
	assert_int_equal(w.sent_count, 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_there_was_no_room_for_is_sent_again),
		cmocka_unit_test(a_server_that_stays_busy_is_asked_less_often),
		cmocka_unit_test(gets_and_puts_are_refused_apart),
		cmocka_unit_test(busy_until_the_deadline_is_busy),
		cmocka_unit_test(a_get_is_sent_again_to_the_same_place),
		cmocka_unit_test(a_get_that_was_begun_is_not_sent_again),
		cmocka_unit_test(what_waits_names_no_memory),
		cmocka_unit_test(what_waits_outlives_its_session),
		cmocka_unit_test(what_is_sent_again_outlives_its_first_lane),
		cmocka_unit_test(a_second_refusal_breaks_the_lane),
		cmocka_unit_test(what_is_sent_again_is_answered_there_alone),
		cmocka_unit_test(a_cancelled_op_is_not_sent_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
