/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session that moves to a better way: when it does, when it does not, and what becomes of it
 * where the door is shut, another's, or does not hold.
 */
#include <string.h>

#include "door_rig.h"

static void a_session_moves_before_it_is_used(void **state)
{
	struct test_op get;

	begin_door();
	submit(&get, CTXKV_OP_GET, 1, 100);
	hello(0);
	assert_false(client_is_settled(w.client));
	pass_ns(1);
	assert_int_equal(w.sent_count, 0); /* not over tcp */
	assert_int_equal(w.lane_count, 2); /* and no other lane there */
	assert_string_equal(w.lanes[1].address, DOOR);
	assert_int_equal(w.lanes[1].preface.mode, WIRE_MODE_NEW);
	hello(1);
	assert_true(client_is_settled(w.client));
	assert_int_equal(w.closes, 1);
	assert_false(w.lanes[0].is_open);
	assert_transport("door");
	/* The staging area first. */
	assert_int_equal(w.sent_count, 2);
	assert_int_equal(w.sent[0].header.kind, WIRE_DECLARE);
	assert_int_equal(w.sent[1].header.kind, WIRE_GET);
	assert_int_equal(w.sent[1].lane, 1);
	assert_int_equal(w.lane_count, 2); /* one is enough */
	end();
}

static void a_door_that_cannot_be_opened_is_said_and_tried_again(void **state)
{
	static const int errors[] = { -ENOENT, -EACCES, -ECONNREFUSED, -EMFILE };
	struct ctxkv_stat stat;
	struct test_op get;

	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		begin_door();
		w.door_error = errors[i];
		hello(0);
		submit(&get, CTXKV_OP_GET, 1, 100);
		pass_ns(1);
		assert_transport("fake");
		assert_int_equal(w.sent_count, 1);
		assert_true(client_is_settled(w.client));
		client_get_stat(w.client, &stat);
		assert_int_equal(stat.fallbacks, 1);
		assert_non_null(strstr(stat.fallback, "/run/a.sock"));
		assert_int_equal(w.lane_count, 2); /* the other tcp lane */
		hello(1);
		/* Again, with growing pauses; and it works in the end. */
		pass_ns(2 * NS_PER_S);
		client_get_stat(w.client, &stat);
		assert_int_equal(stat.fallbacks, 2);
		pass_ns(2 * NS_PER_S);
		w.door_error = 0;
		pass_ns(3 * NS_PER_S);
		pass_ns(3 * NS_PER_S);
		assert_string_equal(w.lanes[w.lane_count - 1].address, DOOR);
		hello(w.lane_count - 1);
		assert_transport("door");
		client_get_stat(w.client, &stat);
		assert_string_equal(stat.fallback, "");
		end();
	}
}

static void another_server_behind_the_door_is_not_believed(void **state)
{
	struct ctxkv_stat stat;

	for (int i = 0; i < 3; i++) {
		begin_door();
		if (i == 0)
			w.peers[1].welcome.server[3]++;
		else if (i == 1)
			w.peers[1].welcome.incarnation++;
		hello(0);
		pass_ns(1);
		if (i == 2) { /* it does not say a word */
			pass_ns(500 * NS_PER_MS);
			assert_false(w.lanes[1].is_open);
		} else {
			/* The hello that is right in all else is refused at its end. */
			struct fake_lane *lane = &w.lanes[1];
			struct client_lane *door_lane = lane->lane.ctx;

			door_lane->state = LANE_WELCOME;
			assert_int_equal(deliver(1, WIRE_WELCOME, 0, 1, 0, 0, &w.peers[1].welcome,
						 sizeof(w.peers[1].welcome)),
					 i == 0 ? -ERR_FOREIGN : -ERR_CHANGED);
			lane_break(1, i == 0 ? -ERR_FOREIGN : -ERR_CHANGED);
		}
		assert_transport("fake");
		client_get_stat(w.client, &stat);
		assert_int_equal(stat.fallbacks, 1);
		assert_true(stat.fallback[0] != '\0');
		end();
	}
}

/* What is under way over tcp comes to its end there; what comes meanwhile waits. */
static void a_session_in_use_moves_when_nothing_is_under_way(void **state)
{
	struct test_op gets[3];
	struct sent first;

	begin_fallen_back();
	submit(&gets[0], CTXKV_OP_GET, 1, 100);
	first = w.sent[0];
	pass_ns(1500 * NS_PER_MS);
	assert_string_equal(w.lanes[2].address, DOOR);
	hello(2);
	assert_transport("fake");
	submit(&gets[1], CTXKV_OP_GET, 1, 100);
	assert_int_equal(w.sent_count, 0);
	assert_int_equal(reply_all(&first, -ERR_MISS, 0, 0), 0);
	assert_int_equal(told(&gets[0]), BOTH);
	assert_transport("door");
	assert_int_equal(w.sent_count, 2);
	assert_int_equal(w.sent[1].lane, 2);
	end();
}

/* They would be lost with the session. */
static void a_session_with_leases_does_not_move(void **state)
{
	struct test_op lease;
	struct test_op renew;
	struct sent first;

	begin_fallen_back();
	while (w.lane_count < 3)
		pass_ns(10 * NS_PER_MS);
	sent_clear();
	submit(&lease, CTXKV_OP_LEASE, 1, 0);
	assert_int_equal(w.sent_count, 1);
	first = w.sent[0];
	hello(2);
	answer_bits(&first, 1, 70, 1);
	assert_int_equal(told(&lease), BOTH);
	assert_transport("fake");
	pass_ns(200 * NS_PER_MS);
	assert_false(w.lanes[2].is_open);
	assert_transport("fake");
	memset(&renew, 0, sizeof(renew));
	renew.op.opcode = CTXKV_OP_RENEW;
	renew.op.lease = lease.op.lease;
	assert_int_equal(client_submit(w.client, &renew.op), 0);
	settle();
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(w.sent[0].header.kind, WIRE_RENEW);
	assert_int_equal(w.sent[0].lane, 0);
	end();
}

static void a_session_that_stays_busy_goes_on_over_tcp(void **state)
{
	struct test_op gets[3];

	begin_fallen_back();
	submit(&gets[0], CTXKV_OP_GET, 1, 100);
	pass_ns(1500 * NS_PER_MS);
	hello(2);
	submit(&gets[1], CTXKV_OP_GET, 1, 100);
	assert_int_equal(w.sent_count, 0);
	pass_ns(200 * NS_PER_MS);
	assert_false(w.lanes[2].is_open);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(w.sent[0].lane, 0);
	assert_transport("fake");
	end();
}

static void door_only_is_no_tcp(void **state)
{
	struct client_opts opts = door_opts();
	struct test_op get;

	opts.is_door_only = true;
	for (int is_offered = 0; is_offered < 2; is_offered++) {
		begin_door_with(&opts);
		w.door_error = -EACCES;
		if (!is_offered)
			w.peers[0].offer.transport = 0;
		submit(&get, CTXKV_OP_GET, 1, 100);
		hello(0);
		pass_ns(1);
		assert_int_equal(w.sent_count, 0);
		assert_int_equal(told(&get), BOTH);
		assert_int_equal(get.op.status, -ERR_UNSUPPORTED);
		assert_false(w.lanes[0].is_open);
		end();
	}
}

static void a_lost_session_begins_over_tcp_again(void **state)
{
	begin_moved();
	pass_ns(2 * NS_PER_S);
	lane_break(1, -ERR_PEER);
	pass_ns(1);
	assert_string_equal(w.lanes[2].address, "the server");
	hello(2);
	pass_ns(1);
	assert_string_equal(w.lanes[3].address, DOOR);
	hello(3);
	assert_transport("door");
	end();
}

static void a_door_that_does_not_hold_is_left_alone_for_a_while(void **state)
{
	begin_moved();
	lane_break(1, -ERR_PEER);
	pass_ns(200 * NS_PER_MS);
	assert_string_equal(w.lanes[2].address, "the server");
	hello(2);
	pass_ns(1);
	assert_transport("fake");
	assert_string_equal(w.lanes[3].address, "the server");
	hello(3);
	pass_ns(1300 * NS_PER_MS);
	assert_string_equal(w.lanes[4].address, DOOR);
	end();
}

static void a_session_without_staging_is_none(void **state)
{
	struct test_op get;

	begin_door();
	w.stage_error = -EMFILE;
	hello(0);
	submit(&get, CTXKV_OP_GET, 1, 100);
	pass_ns(1);
	hello(1);
	assert_false(w.lanes[1].is_open);
	assert_int_equal(told(&get), 0);
	pass_ns(200 * NS_PER_MS);
	hello(2); /* over tcp again, and the door is left alone for a while */
	pass_ns(1);
	assert_transport("fake");
	assert_int_equal(w.sent[0].header.kind, WIRE_GET);
	end();
}

/* What the door's server says before the session has moved is not the session's. */
static void a_notice_before_the_move_gives_no_credit(void **state)
{
	struct wire_notice notice = { .code = WIRE_NOTICE_CREDIT };
	struct test_op get;
	uint32_t credit;

	begin_fallen_back();
	submit(&get, CTXKV_OP_GET, 1, 100);
	pass_ns(1500 * NS_PER_MS);
	hello(2);
	credit = w.client->sessions[0].credit_given;
	assert_int_equal(deliver(2, WIRE_NOTICE, 0, 0, 0, credit + 12345, &notice, sizeof(notice)),
			 0);
	assert_int_equal(w.client->sessions[0].credit_given, credit);
	end();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_session_moves_before_it_is_used),
		cmocka_unit_test(a_door_that_cannot_be_opened_is_said_and_tried_again),
		cmocka_unit_test(another_server_behind_the_door_is_not_believed),
		cmocka_unit_test(a_session_in_use_moves_when_nothing_is_under_way),
		cmocka_unit_test(a_session_with_leases_does_not_move),
		cmocka_unit_test(a_session_that_stays_busy_goes_on_over_tcp),
		cmocka_unit_test(door_only_is_no_tcp),
		cmocka_unit_test(a_lost_session_begins_over_tcp_again),
		cmocka_unit_test(a_door_that_does_not_hold_is_left_alone_for_a_while),
		cmocka_unit_test(a_session_without_staging_is_none),
		cmocka_unit_test(a_notice_before_the_move_gives_no_credit),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, door_group_begin, door_group_end);
}
