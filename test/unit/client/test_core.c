/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's core over a transport that the test plays by hand, with a virtual clock: what goes
 * into frames, what credit and limits allow, and what each answer, silence or loss makes of an op.
 * The test is the server: it sees the frames that were sent and makes the transport's upcalls.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/base/hash.h"
#include "core_rig.h"

/* --- tests --- */

static void other_lanes_join_the_session(void **state)
{
	begin(&fake_sync, 4);
	connect_all(4);
	assert_int_equal(w.lanes[0].preface.mode, WIRE_MODE_NEW);
	for (uint32_t i = 1; i < 4; i++) {
		assert_int_equal(w.lanes[i].preface.mode, WIRE_MODE_JOIN);
		assert_int_equal(w.lanes[i].preface.session, 1234);
		assert_int_equal(w.lanes[i].preface.incarnation, 9);
	}
	end();
}

static void a_server_that_does_not_know_the_secret_is_refused(void **state)
{
	struct wire_challenge challenge = { .version = 1, .incarnation = 9 };
	struct test_op get;

	begin(&fake_sync, 1);
	submit(&get, CTXKV_OP_GET, 1, 100);
	pass_ns(1);
	w.lanes[0].lane.user->opened(&w.lanes[0].lane);
	assert_int_equal(deliver(0, WIRE_CHALLENGE, 0, 0, 0, 0, &challenge, sizeof(challenge)),
			 -ERR_AUTH);
	assert_int_equal(w.sent_count, 1); /* no proof for him */
	w.lanes[0].is_open = false;
	w.lanes[0].lane.user->closed(&w.lanes[0].lane, -ERR_AUTH);
	settle();
	assert_int_equal(told(&get), BOTH);
	assert_int_equal(get.op.status, -ERR_AUTH);
	end();
}

/* What there is no credit for is granted rather than kept waiting; credit that is back is used. */
static void small_puts_share_frames_within_the_credit(void **state)
{
	uint32_t given = 70000;
	struct sent frames[2];
	struct test_op put;
	struct test_op again;
	struct test_op probe;
	uint32_t cost;

	begin(&fake_sync, 1);
	w.peers[0].welcome.credit = given;
	connect_all(1);
	submit(&put, CTXKV_OP_PUT, 10, 30000);
	submit(&probe, CTXKV_OP_PROBE, 3, 0);
	assert_int_equal(w.sent_count, 3);
	assert_int_equal(w.sent[0].header.kind, WIRE_PUT);
	assert_int_equal(w.sent[0].header.count, 2);
	assert_int_equal(w.sent[0].header.payload_size, 60000);
	assert_int_equal(w.sent[1].header.kind, WIRE_PUT);
	assert_int_equal(w.sent[1].header.count, 8);
	assert_int_equal(w.sent[1].header.payload_size, 0);
	assert_int_equal(w.sent[2].header.kind, WIRE_PROBE);
	memcpy(frames, w.sent, sizeof(frames));
	cost = frames[0].header.body_size + frames[0].header.payload_size;
	assert_true(cost <= given);
	sent_clear();
	given += cost;
	assert_int_equal(reply_all(&frames[0], 0, 0, given), 0);
	assert_int_equal(reply_all(&frames[1], 0, 0, given), 0);
	assert_int_equal(told(&put), BOTH);
	assert_int_equal(put.op.status, 0);

	submit(&again, CTXKV_OP_PUT, 2, 30000);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(w.sent[0].header.payload_size, 60000);
	end();
}

static void large_puts_wait_for_grants_and_need_no_credit(void **state)
{
	struct test_op put;
	const struct wire_put *item;
	struct iovec iov[4];
	struct xprt_lane *xlane;

	begin(&fake_sync, 1);
	w.peers[0].welcome.credit = 0;
	connect_all(1);
	submit(&put, CTXKV_OP_PUT, 2, 70000);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(w.sent[0].header.payload_size, 0);
	item = wire_items(&w.sent[0].header, w.sent[0].body);
	assert_int_equal(item->flags, 0);
	assert_int_equal(item->size, 70000);
	xlane = &w.lanes[0].lane;
	assert_int_equal(xlane->user->locate(xlane, WIRE_GRANT, w.sent[0].header.request, 1, 60000,
					     10000, iov, 4),
			 1);
	assert_ptr_equal(iov[0].iov_base, memory + 60000);
	/* Not one byte more, and not of another item or request. */
	assert_true(xlane->user->locate(xlane, WIRE_GRANT, w.sent[0].header.request, 1, 60001,
					10000, iov, 4) < 0);
	assert_true(xlane->user->locate(xlane, WIRE_GRANT, w.sent[0].header.request, 2, 0, 1, iov,
					4) < 0);
	assert_true(xlane->user->locate(xlane, WIRE_GRANT, w.sent[0].header.request + 1, 0, 0, 1,
					iov, 4) < 0);
	assert_true(xlane->user->locate(xlane, WIRE_DATA_GET, w.sent[0].header.request, 0, 0, 1,
					iov, 4) < 0);
	end();
}

/* Whole frames of a body that is full, and no unit twice or never. */
static void every_unit_is_sent_once(void **state)
{
	static struct ctxkv_item items[CTXKV_ITEM_MAX];
	struct ctxkv_op probe = { .opcode = CTXKV_OP_PROBE,
				  .items = items,
				  .item_count = CTXKV_ITEM_MAX };
	uint32_t at = 0;

	begin(&fake_sync, 1);
	w.peers[0].welcome.credit = 8192;
	connect_all(1);
	for (uint32_t i = 0; i < CTXKV_ITEM_MAX; i++)
		memcpy(items[i].key.bytes, &i, sizeof(i));
	assert_int_equal(client_submit(w.client, &probe), 0);
	for (uint32_t i = 0; i < w.sent_count; i++) {
		struct {
			struct wire_bitmap bitmap;
			uint8_t bits[128];
		} body = { .bits = { 0 } };
		const struct wire_key *keys = wire_items(&w.sent[i].header, w.sent[i].body);
		uint16_t count = w.sent[i].header.count;

		assert_true(w.sent[i].header.body_size <= 8192);
		for (uint32_t k = 0; k < count; k++, at++) {
			assert_memory_equal(keys[k].bytes, &at, sizeof(at));
			body.bits[k / 8] |= (uint8_t)(1u << k % 8);
		}
		assert_int_equal(
			deliver(0, WIRE_BITMAP, w.sent[i].header.request, count, 0,
				w.client->sessions[0].credit_given + w.sent[i].header.body_size,
				&body, (uint32_t)sizeof(body.bitmap) + (count + 7u) / 8),
			0);
	}
	assert_int_equal(at, CTXKV_ITEM_MAX);
	assert_int_equal(probe.run, CTXKV_ITEM_MAX);
	assert_int_equal(probe.state, BOTH);
	end();
}

static void a_run_is_found_whatever_bitmap_comes_first(void **state)
{
	static struct ctxkv_item items[CTXKV_ITEM_MAX];
	struct ctxkv_op probe = { .opcode = CTXKV_OP_PROBE,
				  .items = items,
				  .item_count = CTXKV_ITEM_MAX };

	begin(&fake_sync, 1);
	w.peers[0].welcome.credit = 20000;
	connect_all(1);
	assert_int_equal(client_submit(w.client, &probe), 0);
	/* One frame for the credit, the other keys in frames that need none. */
	assert_int_equal(w.sent_count, 5);
	for (uint32_t i = w.sent_count; i-- > 0;) {
		struct {
			struct wire_bitmap bitmap;
			uint8_t bits[128];
		} body = { .bits = { 0 } };
		uint16_t count = w.sent[i].header.count;

		for (uint32_t k = 0; k < count; k++)
			body.bits[k / 8] |= (uint8_t)(1u << k % 8);
		if (i == 1)
			body.bits[1] = 0; /* the ninth of the second frame is not here */
		assert_int_equal(deliver(0, WIRE_BITMAP, w.sent[i].header.request, count, 0, 0,
					 &body, (uint32_t)sizeof(body.bitmap) + (count + 7u) / 8),
				 0);
	}
	assert_int_equal(probe.state, BOTH);
	assert_int_equal(probe.run, w.sent[0].header.count + 8);
	end();
}

static void bytes_and_result_come_in_any_order(void **state)
{
	struct wire_result result = { .item = 0, .size = 90, .block_size = 90 };
	struct sent frame;
	struct test_op get;

	begin(&fake_sync, 1);
	connect_all(1);
	for (int order = 0; order < 3; order++) {
		submit(&get, CTXKV_OP_GET, 1, 100);
		frame = w.sent[0];
		sent_clear();
		if (order == 0)
			assert_int_equal(reply(&frame, &result, 1, true, 0), 0);
		land(&frame, 0, 50, memory + 1000, 40, 1);
		assert_int_equal(told(&get), 0);
		if (order == 1)
			assert_int_equal(reply(&frame, &result, 1, true, 0), 0);
		assert_int_equal(told(&get), 0);
		land(&frame, 0, 0, memory + 1000, 50, 1);
		if (order == 2) {
			assert_int_equal(told(&get), 0);
			assert_int_equal(reply(&frame, &result, 1, true, 0), 0);
		}
		assert_int_equal(told(&get), BOTH);
		assert_int_equal(get.items[0].status, 0);
		assert_int_equal(get.items[0].done_size, 90);
		land(&frame, 0, 0, memory, 1, -ENOENT); /* what comes later has no place */
	}
	end();
}

static void bytes_of_an_item_that_has_its_outcome_have_no_place(void **state)
{
	struct wire_result result = { .item = 0, .status = -ERR_MISS };
	struct test_op get;

	begin(&fake_sync, 1);
	connect_all(1);
	submit(&get, CTXKV_OP_GET, 2, 100);
	assert_int_equal(reply(&w.sent[0], &result, 1, false, 0), 0);
	assert_int_equal(get.items[0].status, -ERR_MISS);
	land(&w.sent[0], 0, 0, memory, 100, -ENOENT);
	land(&w.sent[0], 1, 0, memory, 100, 1); /* the request lives on */
	end();
}

static void a_wrong_checksum_is_a_miss(void **state)
{
	begin(&fake_sync, 1);
	w.peers[0].welcome.verify = WIRE_VERIFY_ALL;
	connect_all(1);
	for (int is_wrong = 0; is_wrong < 2; is_wrong++) {
		struct wire_result result = { .size = 8, .flags = WIRE_RESULT_CRC };
		struct sent frame;
		struct test_op get;

		submit(&get, CTXKV_OP_GET, 1, 8);
		frame = w.sent[0];
		sent_clear();
		result.crc = crc32c(0, "8 bytes.", 8);
		assert_int_equal(reply(&frame, &result, 1, true, 0), 0);
		land(&frame, 0, 0, is_wrong ? "8 bytes!" : "8 bytes.", 8, 1);
		assert_int_equal(told(&get), BOTH);
		assert_int_equal(get.items[0].status, is_wrong ? -ERR_CORRUPT : 0);
		/* The server is asked to look for itself. */
		assert_int_equal(w.sent_count, is_wrong);
		if (is_wrong) {
			assert_int_equal(w.sent[0].header.kind, WIRE_GET);
			assert_int_equal(w.sent[0].header.count, 1);
			result.status = -ERR_CORRUPT;
			assert_int_equal(reply(&w.sent[0], &result, 1, true, 0), 0);
		}
	}
	assert_int_equal(w.client->stat.corrupt, 1);
	assert_int_equal(w.client->stat.hits, 1);
	end();
}

/* Frames come in any order, and the result before, between or behind them. */
static void a_sum_is_made_of_frames_in_any_order(void **state)
{
	static const uint32_t orders[][3] = { { 0, 1, 2 }, { 2, 1, 0 }, { 1, 2, 0 } };
	static const uint32_t cuts[] = { 0, 3, 20, 50 };
	uint8_t bytes[50];

	for (uint32_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 37 + 1);
	begin(&fake_sync, 1);
	w.peers[0].welcome.verify = WIRE_VERIFY_ALL;
	connect_all(1);
	for (uint32_t round = 0; round < ARRAY_LEN(orders) * 4 * 4; round++) {
		const uint32_t *order = orders[round % 3];
		uint32_t told_at = round / 3 % 4;
		uint32_t wrong = round / 12 % 4; /* 3: none */
		struct wire_result result = { .size = 50, .flags = WIRE_RESULT_CRC };
		struct sent frame;
		struct test_op get;

		result.crc = crc32c(0, bytes, sizeof(bytes));
		submit(&get, CTXKV_OP_GET, 1, 64); /* more room than it takes */
		frame = w.sent[0];
		sent_clear();
		for (uint32_t i = 0; i <= 3; i++) {
			uint8_t piece[50];
			uint32_t from;

			if (i == told_at)
				assert_int_equal(reply(&frame, &result, 1, true, 0), 0);
			if (i == 3)
				break;
			from = cuts[order[i]];
			memcpy(piece, bytes + from, cuts[order[i] + 1] - from);
			piece[1] ^= order[i] == wrong;
			land(&frame, 0, from, piece, cuts[order[i] + 1] - from, 1);
		}
		assert_int_equal(told(&get), BOTH);
		assert_int_equal(get.items[0].status, wrong < 3 ? -ERR_CORRUPT : 0);
		if (wrong < 3) {
			result = (struct wire_result) { .status = -ERR_MISS };
			assert_int_equal(reply(&w.sent[0], &result, 1, true, 0), 0);
		}
		sent_clear();
	}
	end();
}

static void answers_that_make_no_sense_break_the_lane(void **state)
{
	const struct wire_result rows[] = {
		{ .item = 2 },                          /* there are two */
		{ .item = 0, .size = 101 },             /* more than the room */
		{ .item = 0, .status = 0, .size = 10 }, /* see below: twice */
	};
	struct wire_bitmap bitmap = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct test_op get;
		int rc;

		begin(&fake_sync, 1);
		connect_all(1);
		submit(&get, CTXKV_OP_GET, 2, 100);
		rc = reply(&w.sent[0], &rows[i], 1, false, 0);
		if (i == 2) {
			assert_int_equal(rc, 0);
			rc = reply(&w.sent[0], &rows[i], 1, false, 0);
		}
		assert_int_equal(rc, -ERR_PROTOCOL);
		assert_int_equal(deliver(0, WIRE_BITMAP, w.sent[0].header.request, 2, 0, 0, &bitmap,
					 sizeof(bitmap) + 1),
				 -ERR_PROTOCOL);
		end();
		assert_int_equal(told(&get), BOTH);
	}
}

/* What was given up still counts at the server until it has had its last word. */
static int stat_rc;

static void stat_done(struct client_text *text, int rc, const char *bytes, uint32_t size)
{
	assert_null(bytes);
	stat_rc = rc;
}

/* A request for a text has no op; a server that does not know it says so as to any other. */
static void a_text_may_be_refused_by_a_reply(void **state)
{
	struct client_text text = { .done = stat_done, .timeout_ns = NS_PER_S };

	stat_rc = 0;
	begin(&fake_sync, 1);
	connect_all(1);
	client_server_stat(w.client, &text);
	assert_int_equal(w.sent[0].header.kind, WIRE_STAT);
	assert_int_equal(reply_all(&w.sent[0], 0, 0, 0), -ERR_PROTOCOL);
	assert_int_equal(stat_rc, 0);
	assert_int_equal(reply_all(&w.sent[0], -ERR_UNSUPPORTED, 0, 0), 0);
	assert_int_equal(stat_rc, -ERR_UNSUPPORTED);
	assert_int_equal(w.client->request_count, 0);
	end();
}

static void requests_given_up_count_until_their_last_answer(void **state)
{
	struct wire_result result = { .status = -ECANCELED };
	struct sent first;
	struct sent cancel;
	struct test_op gets[3];

	begin(&fake_sync, 1);
	w.peers[0].welcome.request_max = 2;
	connect_all(1);
	submit(&gets[0], CTXKV_OP_GET, 1, 100);
	first = w.sent[0];
	client_cancel(w.client, &gets[0].op);
	settle();
	assert_int_equal(told(&gets[0]), BOTH); /* released at once */
	assert_int_equal(gets[0].op.status, -ECANCELED);
	assert_int_equal(w.forgets, 1);
	assert_int_equal(w.sent_count, 2);
	cancel = w.sent[1];
	assert_int_equal(cancel.header.kind, WIRE_CANCEL);
	submit(&gets[1], CTXKV_OP_GET, 1, 100);
	assert_int_equal(w.sent_count, 2); /* request and CANCEL are the two */
	assert_int_equal(reply(&first, &result, 1, true, 0), 0);
	assert_int_equal(w.sent_count, 3);
	submit(&gets[2], CTXKV_OP_GET, 1, 100);
	assert_int_equal(w.sent_count, 3);
	result.status = 0;
	assert_int_equal(reply(&cancel, &result, 1, true, 0), 0);
	assert_int_equal(w.sent_count, 4);
	end();
}

static void a_lost_session_ends_what_was_sent_and_keeps_the_rest(void **state)
{
	struct test_op sent_get;
	struct test_op kept;

	begin(&fake_sync, 1);
	w.peers[0].welcome.request_max = 1;
	connect_all(1);
	submit(&sent_get, CTXKV_OP_GET, 1, 100);
	submit(&kept, CTXKV_OP_GET, 1, 100);
	assert_int_equal(w.sent_count, 1);
	pass_ns(2 * NS_PER_S);
	w.lanes[0].is_open = false;
	w.lanes[0].lane.user->closed(&w.lanes[0].lane, -ERR_PEER);
	settle();
	assert_int_equal(told(&sent_get), BOTH);
	assert_int_equal(sent_get.op.status, -ERR_PEER);
	assert_int_equal(told(&kept), 0);
	pass_ns(1);
	assert_int_equal(w.lane_count, 2);
	hello(1);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(w.sent[0].header.kind, WIRE_GET);
	assert_int_equal(reply_all(&w.sent[0], -ERR_MISS, 0, 0), 0);
	assert_int_equal(kept.items[0].status, -ERR_MISS);
	end();
}

static void a_lost_lane_takes_gets_and_what_went_through_it(void **state)
{
	struct test_op get;
	struct test_op put;

	begin(&fake_sync, 2);
	connect_all(2);
	w.lanes[1].lane.backlog_size = 1000;
	submit(&get, CTXKV_OP_GET, 1, 100);
	submit(&put, CTXKV_OP_PUT, 1, 100);
	assert_int_equal(w.sent[0].lane, 0);
	assert_int_equal(w.sent[1].lane, 0);
	w.lanes[1].is_open = false;
	w.lanes[1].lane.user->closed(&w.lanes[1].lane, -ECONNRESET);
	settle();
	assert_int_equal(get.op.status, -ERR_PEER); /* its bytes may have been on that lane */
	assert_int_equal(told(&put), 0);
	assert_int_equal(w.client->sessions[0].state, SESSION_UP);
	pass_ns(200 * NS_PER_MS);
	assert_int_equal(w.lane_count, 3);
	assert_int_equal(w.lanes[2].preface.mode, WIRE_MODE_JOIN);
	end();
	assert_int_equal(put.op.status, -ECANCELED);
}

static void silence_at_three_deadlines_ends_the_session(void **state)
{
	struct test_op gets[4];

	begin(&fake_sync, 1);
	connect_all(1);
	for (int i = 0; i < 3; i++) {
		submit(&gets[i], CTXKV_OP_GET, 1, 100);
		assert_int_equal(w.closes, 0);
		pass_ns(10 * NS_PER_S);
		assert_int_equal(gets[i].op.status, -ERR_DEADLINE);
	}
	assert_int_equal(w.closes, 1);
	submit(&gets[3], CTXKV_OP_GET, 1, 100);
	settle();
	assert_int_equal(gets[3].op.status, -ERR_UNREACHABLE);
	pass_ns(200 * NS_PER_MS); /* and is tried again */
	assert_int_equal(w.lane_count, 2);
	hello(1);
	submit(&gets[3], CTXKV_OP_GET, 1, 100);
	assert_int_equal(w.sent_count, 1);
	end();
}

static void a_slow_server_that_speaks_is_not_silent(void **state)
{
	struct wire_notice notice = { .code = WIRE_NOTICE_CREDIT };
	struct test_op get;

	begin(&fake_sync, 1);
	connect_all(1);
	for (int i = 0; i < 10; i++) {
		sent_clear();
		submit(&get, CTXKV_OP_GET, 1, 100);
		assert_int_equal(deliver(0, WIRE_NOTICE, 0, 0, 0, 0, &notice, sizeof(notice)), 0);
		pass_ns(10 * NS_PER_S);
		assert_int_equal(get.op.status, -ERR_DEADLINE);
	}
	assert_int_equal(w.closes, 0);
	end();
}

/* --- transports that reach the memory themselves --- */

static void direct_ops_name_declared_segments(void **state)
{
	const struct wire_get *item;
	const struct wire_seg *segs;
	struct test_op get;

	begin(&fake_direct, 1);
	connect_all(1);
	submit(&get, CTXKV_OP_GET, 1, 100);
	assert_int_equal(w.sent_count, 2);
	assert_int_equal(w.sent[0].header.kind, WIRE_DECLARE); /* before who needs it */
	assert_int_equal(w.sent[1].header.kind, WIRE_GET);
	item = wire_items(&w.sent[1].header, w.sent[1].body);
	segs = wire_get_segs(item);
	assert_int_equal(item->seg_count, 1);
	assert_int_equal(segs[0].region, 1);
	assert_int_equal(segs[0].size, 100);
	assert_int_equal(segs[0].offset, 0);
	end();
}

/* Nobody but the server, or the end of its connection, can say that nothing lands any more. */
static void a_direct_release_waits_for_the_server(void **state)
{
	struct wire_result result = { 0 };
	struct sent *cancel;
	struct test_op get;

	begin(&fake_direct, 1);
	connect_all(1);
	submit(&get, CTXKV_OP_GET, 1, 100);
	get.op.user = NULL;
	pass_ns(10 * NS_PER_S);
	assert_int_equal(told(&get), CTXKV_RESULT);
	assert_int_equal(get.op.status, -ERR_DEADLINE);
	cancel = &w.sent[w.sent_count - 1];
	assert_int_equal(cancel->header.kind, WIRE_CANCEL);
	assert_int_equal(
		((const struct wire_cancel *)wire_items(&cancel->header, cancel->body))->request,
		w.sent[1].header.request);
	pass_ns(50 * NS_PER_MS);
	assert_int_equal(told(&get), CTXKV_RESULT);
	assert_int_equal(reply(cancel, &result, 1, true, 0), 0);
	assert_int_equal(told(&get), BOTH);
	assert_int_equal(w.closes, 0);
	end();
}

/* It answers something else, and so much time passes. */
static void server_speaks(void)
{
	struct test_op probe;

	sent_clear();
	submit(&probe, CTXKV_OP_PROBE, 1, 0);
	assert_int_equal(w.sent_count, 1);
	answer_bits(&w.sent[0], 0, 0, 0);
	assert_int_equal(told(&probe), BOTH);
	pass_ns(80 * NS_PER_MS);
}

/* What is with its drive it cannot take back: it does not answer the CANCEL, but others. */
static void a_server_that_speaks_is_not_given_up(void **state)
{
	struct test_op get;

	begin(&fake_direct, 1);
	connect_all(1);
	submit(&get, CTXKV_OP_GET, 1, 100);
	pass_ns(10 * NS_PER_S);
	assert_int_equal(told(&get), CTXKV_RESULT);
	for (uint64_t passed_ns = 0; passed_ns < 59 * NS_PER_S; passed_ns += 80 * NS_PER_MS) {
		server_speaks();
		assert_int_equal(w.closes, 0);
		assert_int_equal(told(&get), CTXKV_RESULT);
	}
	pass_ns(200 * NS_PER_MS); /* and now it is silent */
	assert_int_equal(w.closes, 1);
	assert_int_equal(told(&get), BOTH);
	end();
}

/* There is an end to that. */
static void a_server_that_only_speaks_is_given_up(void **state)
{
	struct test_op get;

	begin(&fake_direct, 1);
	connect_all(1);
	submit(&get, CTXKV_OP_GET, 1, 100);
	pass_ns(10 * NS_PER_S);
	for (uint32_t i = 0; i < 70 * NS_PER_S / (80 * NS_PER_MS) && w.closes == 0; i++) {
		server_speaks();
	}
	assert_int_equal(w.closes, 1);
	assert_int_equal(told(&get), BOTH);
	end();
}

static void a_direct_release_comes_when_the_lanes_are_closed(void **state)
{
	struct test_op get;

	begin(&fake_direct, 1);
	connect_all(1);
	submit(&get, CTXKV_OP_GET, 1, 100);
	w.is_full = true; /* not even the CANCEL goes out */
	pass_ns(10 * NS_PER_S);
	assert_int_equal(told(&get), CTXKV_RESULT);
	assert_int_equal(w.closes, 0);
	pass_ns(99 * NS_PER_MS);
	assert_int_equal(told(&get), CTXKV_RESULT);
	pass_ns(2 * NS_PER_MS);
	assert_int_equal(w.closes, 1);
	assert_int_equal(told(&get), BOTH);
	end();
}

static void a_cancel_that_did_not_fit_goes_out_later(void **state)
{
	struct xprt_lane *xlane;
	struct test_op get;

	begin(&fake_direct, 1);
	connect_all(1);
	submit(&get, CTXKV_OP_GET, 1, 100);
	w.is_full = true;
	client_cancel(w.client, &get.op);
	settle();
	assert_int_equal(w.sent_count, 2);
	w.is_full = false;
	xlane = &w.lanes[0].lane;
	xlane->user->writable(xlane);
	assert_int_equal(w.sent_count, 3);
	assert_int_equal(w.sent[2].header.kind, WIRE_CANCEL);
	end();
	assert_int_equal(told(&get), BOTH);
}

/* --- faults --- */

static void create_survives_each_fault(void **state)
{
	struct client_opts opts = core_opts;

	opts.xprt = &fake_sync;
	opts.lanes = 1;
	for (uint64_t k = 1;; k++) {
		struct client *client = NULL;
		struct env_fake fake;
		int rc;

		env_fake_init(&fake, 1);
		fake.fail_at = k;
		rc = client_create(&fake.env, &opts, &client);
		if (rc == 0) {
			assert_true(fake.calls < k);
			client_destroy(&client);
			assert_int_equal(fake.held, 0);
			env_fake_fini(&fake);
			assert_true(k > 5);
			return;
		}
		assert_int_equal(rc, -ENOMEM);
		assert_null(client);
		assert_int_equal(fake.held, 0);
		env_fake_fini(&fake);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_lanes_join_the_session),
		cmocka_unit_test(a_server_that_does_not_know_the_secret_is_refused),
		cmocka_unit_test(small_puts_share_frames_within_the_credit),
		cmocka_unit_test(large_puts_wait_for_grants_and_need_no_credit),
		cmocka_unit_test(every_unit_is_sent_once),
		cmocka_unit_test(a_run_is_found_whatever_bitmap_comes_first),
		cmocka_unit_test(bytes_and_result_come_in_any_order),
		cmocka_unit_test(bytes_of_an_item_that_has_its_outcome_have_no_place),
		cmocka_unit_test(a_wrong_checksum_is_a_miss),
		cmocka_unit_test(a_sum_is_made_of_frames_in_any_order),
		cmocka_unit_test(answers_that_make_no_sense_break_the_lane),
		cmocka_unit_test(a_text_may_be_refused_by_a_reply),
		cmocka_unit_test(requests_given_up_count_until_their_last_answer),
		cmocka_unit_test(a_lost_session_ends_what_was_sent_and_keeps_the_rest),
		cmocka_unit_test(a_lost_lane_takes_gets_and_what_went_through_it),
		cmocka_unit_test(silence_at_three_deadlines_ends_the_session),
		cmocka_unit_test(a_slow_server_that_speaks_is_not_silent),
		cmocka_unit_test(direct_ops_name_declared_segments),
		cmocka_unit_test(a_direct_release_waits_for_the_server),
		cmocka_unit_test(a_server_that_speaks_is_not_given_up),
		cmocka_unit_test(a_server_that_only_speaks_is_given_up),
		cmocka_unit_test(a_direct_release_comes_when_the_lanes_are_closed),
		cmocka_unit_test(a_cancel_that_did_not_fit_goes_out_later),
		cmocka_unit_test(create_survives_each_fault),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
