/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's core with several servers, each played by hand: an op's items go to who has their
 * places and come back in their own order; a server that is dead, away, draining, moved or not yet
 * known costs what the docs say and nothing else.
 */
#include <stdio.h>
#include <string.h>

#include "core_rig.h"

static const char *const names[] = { "a", "b", "c" };

static struct client_opts opts_of(uint32_t servers)
{
	struct client_opts opts = core_opts;

	opts.xprt = &fake_sync;
	opts.lanes = 1;
	opts.target.host_count = servers;
	for (uint32_t i = 0; i < servers; i++) {
		snprintf(opts.target.hosts[i].host, sizeof(opts.target.hosts[i].host), "%s",
			 names[i]);
		opts.target.hosts[i].is_numeric = true;
	}
	return opts;
}

/* Servers a, b, …, of one reactor each. */
static void begin_over(const struct xprt_ops *xprt, uint32_t count)
{
	struct client_opts opts = opts_of(count);

	opts.xprt = xprt;
	begin_with(&opts);
	for (uint32_t i = 0; i < count; i++)
		peer_add(names[i]);
}

static void begin_servers(uint32_t count)
{
	begin_over(&fake_sync, count);
}

/* Lane i is to server i. */
static void connect_servers(uint32_t count)
{
	client_connect(w.client);
	pass_ns(1);
	assert_int_equal(w.lane_count, count);
	for (uint32_t i = 0; i < count; i++)
		hello(i);
	sent_clear();
}

static void begin_up(uint32_t count)
{
	begin_servers(count);
	connect_servers(count);
}

/* Give the item a place that this server has, for gets. */
static void aim(struct ctxkv_item *item, uint32_t server)
{
	for (uint64_t i = 1;; i++) {
		assert_true(i < 100000); /* else it has no places */
		memset(item->place, 0, sizeof(item->place));
		memcpy(item->place, &i, sizeof(i));
		if (place_server(&w.client->get_map, item->place) == server)
			return;
	}
}

/* Item i to server servers[i]. */
static void submit_to(struct test_op *test, uint32_t opcode, uint32_t count,
		      const uint32_t *servers, uint64_t size)
{
	memset(test, 0, sizeof(*test));
	test->op.opcode = opcode;
	test->op.items = test->items;
	test->op.item_count = count;
	test->op.duration_ms = opcode == CTXKV_OP_LEASE ? 1000 : 0;
	for (uint32_t i = 0; i < count; i++) {
		test->items[i].key.bytes[0] = (uint8_t)i;
		test->iovs[i] = (struct ctxkv_iov) { memory, size };
		test->items[i].iov = &test->iovs[i];
		test->items[i].iov_count = size > 0;
		aim(&test->items[i], servers[i]);
	}
	assert_int_equal(client_submit(w.client, &test->op), 0);
	settle();
}

/* The request of a kind that went to a server; NULL: none did. */
static const struct sent *sent_to(uint32_t server, enum wire_kind kind)
{
	for (uint32_t i = 0; i < w.sent_count; i++) {
		if (w.sent[i].header.kind == kind &&
		    strcmp(w.lanes[w.sent[i].lane].address, names[server]) == 0)
			return &w.sent[i];
	}
	return NULL;
}

static uint32_t state_of(uint32_t server)
{
	struct ctxkv_server rows[8];

	assert_true(client_get_servers(w.client, rows, sizeof(rows[0]), 8) > server);
	return rows[server].state;
}

/* Refused until its breaker is open. */
static void kill_server(uint32_t server, uint32_t lane)
{
	uint32_t before = w.lane_count;

	pass_ns(2 * NS_PER_S); /* a session that lived is no failure by itself */
	lane_break(lane, -ERR_PEER);
	for (int i = 0; i < 3; i++) {
		pass_ns(NS_PER_S);
		assert_int_equal(w.lane_count, before + (uint32_t)i + 1);
		lane_break(w.lane_count - 1, -ECONNREFUSED);
	}
	assert_int_equal(state_of(server), CTXKV_SERVER_OUT);
}

/* It answers again at its next attempt. */
static void revive_server(void)
{
	uint32_t before = w.lane_count;

	while (w.lane_count == before)
		pass_ns(NS_PER_S);
	hello(w.lane_count - 1);
	sent_clear();
}

/* --- grouping --- */

static void items_go_to_who_has_their_place_and_come_back_in_order(void **state)
{
	static const uint32_t to[] = { 0, 1, 1, 0, 2, 0, 1 };
	struct test_op get;

	begin_up(3);
	submit_to(&get, CTXKV_OP_GET, 7, to, 100);
	assert_int_equal(w.sent_count, 3);
	for (uint32_t server = 0; server < 3; server++) {
		const struct sent *sent = sent_to(server, WIRE_GET);
		const struct wire_get *item = wire_items(&sent->header, sent->body);
		uint32_t at = 0;

		for (uint32_t i = 0; i < 7; i++) {
			if (to[i] != server)
				continue;
			assert_int_equal(item->key.bytes[0], i);
			item = wire_get_next(item);
			at++;
		}
		assert_int_equal(sent->header.count, at);
	}
	/* The second item of b's request is item 2 of the op. */
	{
		const struct wire_result result = { .item = 1, .size = 10, .block_size = 10 };

		land(sent_to(1, WIRE_GET), 1, 0, "0123456789", 10, 1);
		assert_int_equal(reply(sent_to(1, WIRE_GET), &result, 1, false, 0), 0);
		assert_int_equal(get.items[2].done_size, 10);
		assert_int_equal(get.items[1].done_size, 0);
	}
	assert_int_equal(reply_all(sent_to(0, WIRE_GET), -ERR_MISS, 0, 0), 0);
	assert_int_equal(reply_all(sent_to(2, WIRE_GET), -ERR_CORRUPT, 0, 0), 0);
	assert_int_equal(told(&get), 0);
	assert_int_equal(get.items[0].status, -ERR_MISS);
	assert_int_equal(get.items[4].status, -ERR_CORRUPT);
	end();
	assert_int_equal(told(&get), BOTH);
	assert_int_equal(get.items[1].status, -ECANCELED);
	assert_int_equal(get.items[2].status, 0);
}

static void the_leading_run_is_over_all_servers(void **state)
{
	static const uint32_t to[] = { 0, 1, 0, 1, 0, 1 };
	struct test_op probe;

	begin_up(2);
	submit_to(&probe, CTXKV_OP_PROBE, 6, to, 0);
	answer_bits(sent_to(0, WIRE_PROBE), 7, 0, 0); /* items 0, 2, 4 */
	assert_int_equal(probe.op.run, 1);
	answer_bits(sent_to(1, WIRE_PROBE), 5, 0, 0); /* items 1 and 5 */
	assert_int_equal(told(&probe), BOTH);
	assert_int_equal(probe.op.run, 3);
	assert_int_equal(probe.items[3].is_here, 0);
	assert_int_equal(probe.items[5].is_here, 1);
	end();
}

/* Shards of two reactors: a session to the second is made when a key needs it. */
static void keys_go_to_the_reactor_of_their_shard(void **state)
{
	struct test_op probe;
	const struct wire_key *key;
	uint32_t count;

	begin_servers(1);
	w.peers[0].shard_count = 2;
	w.peers[0].shards[0] = (struct wire_shard) { .index = 1, .reactor = 1, .weight = 1 };
	w.peers[0].shards[1] = (struct wire_shard) { .index = 0, .reactor = 0, .weight = 1 };
	w.peers[0].welcome.reactor_count = 2;
	client_connect(w.client);
	pass_ns(1);
	assert_int_equal(w.lanes[0].preface.reactor, REACTOR_ANY);
	hello(0);
	submit(&probe, CTXKV_OP_PROBE, 64, 0);
	pass_ns(1);
	assert_int_equal(w.lane_count, 2);
	assert_int_equal(w.lanes[1].preface.reactor, 1);
	assert_int_equal(w.lanes[1].preface.mode, WIRE_MODE_NEW);
	assert_int_equal(w.sent_count, 1);
	key = wire_items(&w.sent[0].header, w.sent[0].body);
	count = w.sent[0].header.count;
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(place_shard(&key[i], 2), 0);
	answer_bits(&w.sent[0], 0, 0, 0);
	hello(1);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(w.sent[0].lane, 1);
	key = wire_items(&w.sent[0].header, w.sent[0].body);
	for (uint32_t i = 0; i < w.sent[0].header.count; i++)
		assert_int_equal(place_shard(&key[i], 2), 1);
	assert_int_equal(count + w.sent[0].header.count, 64);
	answer_bits(&w.sent[0], 0, 0, 0);
	assert_int_equal(told(&probe), BOTH);
	end();
}

/* --- failures --- */

static void a_dead_server_costs_its_own_items_only(void **state)
{
	static const uint32_t to[] = { 0, 1, 0, 1 };
	struct test_op get;

	begin_up(2);
	pass_ns(2 * NS_PER_S);
	lane_break(1, -ERR_PEER);
	submit_to(&get, CTXKV_OP_GET, 4, to, 100); /* b's wait: it may be back at once */
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(reply_all(sent_to(0, WIRE_GET), -ERR_MISS, 0, 0), 0);
	assert_int_equal(get.items[2].status, -ERR_MISS);
	assert_int_equal(told(&get), 0);
	for (int i = 0; i < 3; i++) {
		pass_ns(NS_PER_S);
		lane_break(w.lane_count - 1, -ECONNREFUSED);
	}
	assert_int_equal(told(&get), BOTH);
	assert_int_equal(get.op.status, 0);
	assert_int_equal(get.items[1].status, -ERR_UNREACHABLE);
	assert_int_equal(get.items[3].status, -ERR_UNREACHABLE);
	/* From now on its items miss at once; the places are still its own. */
	sent_clear();
	submit_to(&get, CTXKV_OP_GET, 4, to, 100);
	assert_int_equal(get.items[1].status, -ERR_UNREACHABLE);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(reply_all(sent_to(0, WIRE_GET), -ERR_MISS, 0, 0), 0);
	assert_int_equal(told(&get), BOTH);
	end();
}

/* However many requests a server holds that does not answer, others always have slots. */
static void a_silent_server_does_not_take_all_slots(void **state)
{
	static struct test_op gets[24];
	static const uint32_t to_a[] = { 0 };
	static const uint32_t to_b[] = { 1 };

	begin_servers(2);
	w.peers[0].welcome.request_max = 1024;
	w.client->shared_max = 4; /* what inflight_max gives is more than a test needs */
	client_connect(w.client);
	pass_ns(1);
	hello(0);
	hello(1);
	for (uint32_t i = 0; i < 20; i++)
		submit_to(&gets[i], CTXKV_OP_GET, 1, to_a, 100);
	assert_int_equal(w.sent_count, 4 + SLOTS_A_SESSION);
	submit_to(&gets[20], CTXKV_OP_GET, 1, to_b, 100);
	assert_int_equal(w.sent_count, 5 + SLOTS_A_SESSION);
	/* A slot that is free again goes to who waits. */
	assert_int_equal(reply_all(&w.sent[0], -ERR_MISS, 0, 0), 0);
	assert_int_equal(w.sent_count, 6 + SLOTS_A_SESSION);
	end();
}

static void nothing_is_placed_before_every_server_was_tried(void **state)
{
	struct test_op get;

	begin_servers(3);
	submit(&get, CTXKV_OP_GET, 3, 100);
	pass_ns(1);
	assert_int_equal(w.lane_count, 3);
	hello(0);
	hello(1);
	assert_int_equal(w.sent_count, 0); /* c may be who has them */
	pass_ns(2 * NS_PER_S + 1);         /* not within the connect timeout */
	pass_ns(2 * NS_PER_MS);
	assert_true(w.sent_count > 0);
	assert_int_equal(state_of(2), CTXKV_SERVER_UNKNOWN);
	assert_int_equal(w.client->get_map.count, 2);
	revive_server();
	assert_int_equal(w.client->get_map.count, 3);
	assert_int_equal(state_of(2), CTXKV_SERVER_UP);
	end();
}

static void places_move_after_60_s_and_come_back_at_once(void **state)
{
	static const uint32_t to[] = { 1 };
	struct ctxkv_server rows[2];
	struct test_op get;
	struct ctxkv_item its = { 0 };
	uint64_t died_ns;

	begin_up(2);
	aim(&its, 1);
	kill_server(1, 1);
	died_ns = w.client->servers[1].failing_ns;
	for (int seconds = 0;; seconds++) {
		assert_true(seconds < 100);
		assert_int_equal(client_get_servers(w.client, rows, sizeof(rows[0]), 2), 2);
		if (rows[1].state != CTXKV_SERVER_OUT)
			break;
		assert_int_equal(place_server(&w.client->get_map, its.place), 1);
		assert_int_equal(rows[1].leaves_ns, died_ns + SERVER_AWAY_NS - w.fake.now_ns);
		if (w.lanes[w.lane_count - 1].is_open)
			lane_break(w.lane_count - 1, -ECONNREFUSED);
		pass_ns(NS_PER_S);
	}
	assert_in_range(w.fake.now_ns - died_ns, SERVER_AWAY_NS, SERVER_AWAY_NS + NS_PER_S);
	assert_int_equal(rows[1].state, CTXKV_SERVER_AWAY);
	assert_int_equal(place_server(&w.client->get_map, its.place), 0);
	if (w.lanes[w.lane_count - 1].is_open)
		hello(w.lane_count - 1);
	else
		revive_server();
	assert_int_equal(state_of(1), CTXKV_SERVER_UP);
	assert_int_equal(place_server(&w.client->get_map, its.place), 1);
	sent_clear();
	submit_to(&get, CTXKV_OP_GET, 1, to, 100);
	assert_non_null(sent_to(1, WIRE_GET));
	end();
}

/* Answers within the 60 s, now and then: it keeps its places whatever its breaker says. */
static void a_server_that_comes_and_goes_keeps_its_places(void **state)
{
	begin_up(2);
	kill_server(1, 1);
	for (int i = 0; i < 4; i++) {
		pass_ns(30 * NS_PER_S);
		if (!w.lanes[w.lane_count - 1].is_open)
			pass_ns(15 * NS_PER_S);
		assert_int_equal(state_of(1), CTXKV_SERVER_OUT);
		hello(w.lane_count - 1);
		assert_int_equal(w.client->get_map.count, 2);
		lane_break(w.lane_count - 1, -ERR_PEER); /* a short life is a failure */
	}
	end();
}

static void who_drains_gets_no_puts_and_serves_gets(void **state)
{
	static const uint32_t to[] = { 1 };
	const struct wire_notice notice = { .code = WIRE_NOTICE_DRAINING };
	struct test_op get;
	struct test_op put;

	begin_up(2);
	assert_int_equal(deliver(1, WIRE_NOTICE, 0, 0, 0, 0, &notice, sizeof(notice)), 0);
	assert_int_equal(state_of(1), CTXKV_SERVER_DRAINING);
	submit_to(&get, CTXKV_OP_GET, 1, to, 100);
	assert_non_null(sent_to(1, WIRE_GET));
	submit_to(&put, CTXKV_OP_PUT, 1, to, 100);
	assert_non_null(sent_to(0, WIRE_PUT));
	assert_null(sent_to(1, WIRE_PUT));
	assert_int_equal(reply_all(sent_to(0, WIRE_PUT), 0, 0, 0), 0);
	/* It has stopped and started again: another incarnation. */
	pass_ns(2 * NS_PER_S);
	lane_break(1, -ERR_PEER);
	w.peers[1].welcome.incarnation++;
	revive_server();
	assert_int_equal(state_of(1), CTXKV_SERVER_UP);
	submit_to(&put, CTXKV_OP_PUT, 1, to, 100);
	assert_non_null(sent_to(1, WIRE_PUT));
	end();
}

/* --- identity --- */

static void one_uuid_at_two_addresses_is_one_server(void **state)
{
	static const uint32_t to[] = { 1 };
	struct test_op get;

	begin_servers(3);
	memcpy(w.peers[2].welcome.server, w.peers[1].welcome.server, 16);
	client_connect(w.client);
	pass_ns(1);
	for (uint32_t i = 0; i < 3; i++)
		hello(i);
	assert_int_equal(w.client->get_map.count, 2);
	assert_int_equal(state_of(1), CTXKV_SERVER_UP);
	assert_int_equal(state_of(2), CTXKV_SERVER_ALIAS);
	submit_to(&get, CTXKV_OP_GET, 1, to, 100);
	assert_non_null(sent_to(1, WIRE_GET));
	/* The address is gone: the other stands for it, with the same places. */
	pass_ns(2 * NS_PER_S);
	lane_break(1, -ERR_PEER);
	assert_int_equal(state_of(2), CTXKV_SERVER_UP);
	assert_int_equal(state_of(1), CTXKV_SERVER_ALIAS);
	sent_clear();
	assert_int_equal(client_submit(w.client, &get.op), 0);
	settle();
	assert_non_null(sent_to(2, WIRE_GET));
	end();
}

static void a_name_stands_for_all_its_addresses(void **state)
{
	static const char *const two[] = { "a", "b" };
	static const char *const other[] = { "b", "c" };
	struct client_opts opts = opts_of(1);
	struct test_op probe;

	opts.target.hosts[0].is_numeric = false;
	begin_with(&opts);
	for (uint32_t i = 0; i < 3; i++)
		peer_add(names[i]);
	submit(&probe, CTXKV_OP_PROBE, 1, 0);
	pass_ns(1);
	env_fake_answer(&w.fake, two, 2);
	pass_ns(1);
	assert_int_equal(w.lane_count, 2);
	hello(0);
	assert_int_equal(w.sent_count, 0);
	hello(1);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(w.client->get_map.count, 2);
	/* c has come, a has gone. */
	pass_ns(34 * NS_PER_S);
	assert_non_null(w.fake.resolve);
	env_fake_answer(&w.fake, other, 2);
	pass_ns(1);
	hello(2);
	assert_int_equal(w.client->get_map.count, 2);
	for (uint64_t i = 0; i < 100; i++) {
		uint8_t place[16] = { (uint8_t)i };
		uint32_t server = place_server(&w.client->get_map, place);

		assert_string_not_equal(w.client->servers[server].address, "a");
	}
	/* The name server is gone: all stays as it is. */
	pass_ns(34 * NS_PER_S);
	env_fake_answer(&w.fake, NULL, 0);
	assert_int_equal(w.client->get_map.count, 2);
	end();
}

static void a_name_without_an_address_is_a_miss(void **state)
{
	struct client_opts opts = opts_of(1);
	struct test_op probe;

	opts.target.hosts[0].is_numeric = false;
	begin_with(&opts);
	submit(&probe, CTXKV_OP_PROBE, 1, 0);
	probe.op.user = NULL;
	for (int i = 0; i < 3; i++) {
		pass_ns(200 * NS_PER_MS);
		assert_int_equal(told(&probe), 0);
		env_fake_answer(&w.fake, NULL, 0);
	}
	assert_int_equal(told(&probe), BOTH);
	assert_int_equal(probe.op.status, -ERR_UNREACHABLE);
	end();
}

/* --- to all --- */

static void a_drop_is_done_when_every_server_has_done_it(void **state)
{
	static const uint32_t to[] = { 0, 1, 0 };
	const struct wire_result busy = { .item = 1, .status = -ERR_BUSY };
	const struct wire_result done[] = { { .item = 0 }, { .item = 2 } };
	struct test_op drop;

	begin_up(2);
	submit_to(&drop, CTXKV_OP_DROP, 3, to, 0);
	assert_int_equal(w.sent_count, 2);
	assert_int_equal(w.sent[0].header.count, 3);
	assert_int_equal(w.sent[1].header.count, 3);
	assert_int_equal(reply_all(&w.sent[0], 0, 0, 0), 0);
	assert_int_equal(told(&drop), 0);
	assert_int_equal(reply(&w.sent[1], &busy, 1, false, 0), 0);
	assert_int_equal(reply(&w.sent[1], done, 2, true, 0), 0);
	assert_int_equal(told(&drop), BOTH);
	assert_int_equal(drop.items[0].status, 0);
	assert_int_equal(drop.items[1].status, -ERR_BUSY);
	assert_int_equal(drop.items[2].status, 0);
	end();
}

/* The one that is out may bring the block back: that is no success. */
static void a_drop_without_one_of_the_servers_is_not_done(void **state)
{
	static const uint32_t to[] = { 0 };
	struct test_op drop;

	begin_up(2);
	kill_server(1, 1);
	sent_clear();
	submit_to(&drop, CTXKV_OP_DROP, 1, to, 0);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(reply_all(&w.sent[0], 0, 0, 0), 0);
	assert_int_equal(told(&drop), BOTH);
	assert_int_equal(drop.items[0].status, -ERR_UNREACHABLE);

	sent_clear();
	submit(&drop, CTXKV_OP_DROP, 0, 0); /* the namespace */
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(reply_all(&w.sent[0], 0, 0, 0), 0);
	assert_int_equal(drop.op.status, -ERR_UNREACHABLE);
	end();
}

/* A session that breaks after it has answered some of a drop is asked no more for those. */
static void a_drop_cut_in_the_middle_keeps_what_was_answered(void **state)
{
	static const uint32_t to[] = { 0, 1 };
	const struct wire_result first = { .item = 0 };
	struct test_op drop;

	begin_up(2);
	submit_to(&drop, CTXKV_OP_DROP, 2, to, 0);
	assert_int_equal(reply(&w.sent[0], &first, 1, false, 0), 0);
	assert_int_equal(reply(&w.sent[0], &first, 1, false, 0), -ERR_PROTOCOL); /* twice */
	lane_break(w.sent[0].lane, -ERR_PEER);
	assert_int_equal(reply_all(&w.sent[1], 0, 0, 0), 0);
	assert_int_equal(told(&drop), BOTH);
	assert_int_equal(drop.items[0].status, 0);
	assert_int_equal(drop.items[1].status, -ERR_PEER);
	end();
}

static void two_reactors(void)
{
	w.peers[0].shard_count = 2;
	w.peers[0].shards[0] = (struct wire_shard) { .index = 0, .reactor = 0, .weight = 1 };
	w.peers[0].shards[1] = (struct wire_shard) { .index = 1, .reactor = 1, .weight = 1 };
	w.peers[0].welcome.reactor_count = 2;
}

/* A drop of the namespace, while no session is up. */
static void drop_waits(struct test_op *drop, uint32_t lane)
{
	pass_ns(2 * NS_PER_S); /* a session that lived is no failure by itself */
	lane_break(lane, -ERR_PEER);
	submit(drop, CTXKV_OP_DROP, 0, 0);
	assert_int_equal(w.sent_count, 0);
	pass_ns(NS_PER_S);
}

/* It was meant for the one reactor that there was: a second would never hear of it. */
static void a_drop_that_waits_is_not_done_by_more_reactors(void **state)
{
	struct test_op drop;

	begin_up(1);
	drop_waits(&drop, 0);
	two_reactors();
	w.peers[0].welcome.incarnation++;
	assert_int_equal(w.lane_count, 2);
	hello(1);
	assert_int_equal(w.sent_count, 0);
	assert_int_equal(told(&drop), BOTH);
	assert_int_equal(drop.op.status, -ERR_CHANGED);
	end();
}

/* Its reactor is not to be had, any other is: what waited is not for that one. */
static void a_drop_that_waits_does_not_go_to_another_reactor(void **state)
{
	struct test_op drop;

	begin_servers(1);
	two_reactors();
	client_connect(w.client);
	pass_ns(1);
	hello(0);
	drop_waits(&drop, 0);
	assert_int_equal(w.lanes[1].preface.reactor, 0);
	lane_break(1, -ECONNREFUSED);
	w.peers[0].welcome.reactor = 1;
	while (w.lanes[w.lane_count - 1].preface.reactor != REACTOR_ANY)
		pass_ns(100 * NS_PER_MS);
	hello(w.lane_count - 1);
	assert_int_equal(w.sent_count, 0);
	end();
	assert_int_equal(told(&drop), BOTH);
	assert_int_equal(drop.op.status, -ERR_CHANGED);
}

static void a_report_goes_to_one_server(void **state)
{
	struct test_op report;

	begin_up(3);
	submit(&report, CTXKV_OP_REPORT, 0, 0);
	settle();
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(reply_all(&w.sent[0], 0, 0, 0), 0);
	assert_int_equal(report.op.status, 0);
	end();
}

/* --- leases --- */

static const struct wire_request *request_of(const struct sent *sent)
{
	return (const void *)sent->body;
}

/* a: items 0, 2, 3; b: item 1 and what lies behind the run. */
static void lease_take_two(struct test_op *lease)
{
	static const uint32_t to[] = { 0, 1, 0, 0 };

	begin_up(2);
	memset(lease, 0, sizeof(*lease));
	submit_to(lease, CTXKV_OP_LEASE, 4, to, 0);
	answer_bits(sent_to(0, WIRE_LEASE), 7, 70, 3);
	answer_bits(sent_to(1, WIRE_LEASE), 1, 71, 1);
	assert_int_equal(told(lease), BOTH);
	assert_int_equal(lease->op.run, 4);
	assert_true(lease->op.lease != 0);
	sent_clear();
}

static void one_handle_names_the_leases_of_all_sessions(void **state)
{
	static const uint32_t to[] = { 0, 1 };
	struct test_op lease;
	struct test_op get;
	struct test_op renew;

	lease_take_two(&lease);
	memset(&get, 0, sizeof(get));
	get.op.lease = lease.op.lease;
	for (uint32_t i = 0; i < 2; i++) {
		get.iovs[i] = (struct ctxkv_iov) { memory, 10 };
		get.items[i].iov = &get.iovs[i];
		get.items[i].iov_count = 1;
		aim(&get.items[i], to[i]);
	}
	get.op.opcode = CTXKV_OP_GET;
	get.op.items = get.items;
	get.op.item_count = 2;
	assert_int_equal(client_submit(w.client, &get.op), 0);
	settle();
	assert_int_equal(request_of(sent_to(0, WIRE_GET))->lease, 70);
	assert_int_equal(request_of(sent_to(1, WIRE_GET))->lease, 71);

	for (uint32_t duration = 500;; duration = 0) {
		sent_clear();
		memset(&renew, 0, sizeof(renew));
		renew.op.opcode = CTXKV_OP_RENEW;
		renew.op.lease = lease.op.lease;
		renew.op.duration_ms = duration;
		assert_int_equal(client_submit(w.client, &renew.op), 0);
		settle();
		assert_int_equal(w.sent_count, 2);
		assert_int_equal(request_of(sent_to(0, WIRE_RENEW))->lease, 70);
		assert_int_equal(request_of(sent_to(1, WIRE_RENEW))->lease, 71);
		assert_int_equal(request_of(sent_to(1, WIRE_RENEW))->duration_ms, duration);
		assert_int_equal(reply_all(&w.sent[0], 0, 0, 0), 0);
		assert_int_equal(told(&renew), 0);
		assert_int_equal(reply_all(&w.sent[1], 0, 0, 0), 0);
		assert_int_equal(renew.op.status, 0);
		if (duration == 0)
			break;
	}
	/* It has ended: nobody is asked. */
	sent_clear();
	assert_int_equal(client_submit(w.client, &renew.op), 0);
	settle();
	assert_int_equal(w.sent_count, 0);
	assert_int_equal(renew.op.status, -ERR_MISS);
	end();
}

static void what_lies_behind_the_run_is_given_back(void **state)
{
	static const uint32_t to[] = { 0, 1, 0, 1 };
	struct test_op lease;

	begin_up(2);
	submit_to(&lease, CTXKV_OP_LEASE, 4, to, 0);
	answer_bits(sent_to(1, WIRE_LEASE), 2, 71, 1); /* item 3 alone */
	answer_bits(sent_to(0, WIRE_LEASE), 3, 70, 2);
	assert_int_equal(lease.op.run, 1);
	assert_int_equal(w.sent_count, 3);
	assert_int_equal(request_of(sent_to(1, WIRE_RENEW))->lease, 71);
	assert_int_equal(request_of(sent_to(1, WIRE_RENEW))->duration_ms, 0);
	assert_null(sent_to(0, WIRE_RENEW));
	assert_int_equal(reply_all(sent_to(1, WIRE_RENEW), -ERR_MISS, 0, 0), 0);
	assert_int_equal(w.closes, 0);
	end();
}

/* Granted for a shorter run: what is here and not held is not of the run. */
static void the_run_of_a_lease_is_what_it_holds(void **state)
{
	static const uint32_t to[] = { 0, 0, 1 };
	struct test_op lease;

	begin_up(2);
	submit_to(&lease, CTXKV_OP_LEASE, 3, to, 0);
	answer_bits(sent_to(0, WIRE_LEASE), 3, 70, 1);
	answer_bits(sent_to(1, WIRE_LEASE), 1, 71, 1);
	assert_int_equal(lease.op.run, 1);
	assert_int_equal(lease.items[1].is_here, 1);
	assert_non_null(sent_to(1, WIRE_RENEW));
	end();
}

static void a_session_takes_its_part_of_a_lease_with_it(void **state)
{
	struct test_op lease;
	struct test_op renew;

	lease_take_two(&lease);
	pass_ns(2 * NS_PER_S);
	lane_break(1, -ERR_PEER);
	memset(&renew, 0, sizeof(renew));
	renew.op.opcode = CTXKV_OP_RENEW;
	renew.op.lease = lease.op.lease;
	renew.op.duration_ms = 1000;
	assert_int_equal(client_submit(w.client, &renew.op), 0);
	settle();
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(request_of(sent_to(0, WIRE_RENEW))->lease, 70);
	lane_break(0, -ERR_PEER);
	assert_int_equal(renew.op.status, -ERR_PEER);
	assert_int_equal(client_submit(w.client, &renew.op), 0);
	settle();
	assert_int_equal(renew.op.status, -ERR_MISS);
	end();
}

static void leases_are_bounded_and_expire(void **state)
{
	static const uint32_t to[] = { 0 };
	struct test_op lease;

	begin_up(1);
	for (uint32_t i = 0; i <= LEASE_MAX; i++) {
		submit_to(&lease, CTXKV_OP_LEASE, 1, to, 0);
		if (i == LEASE_MAX)
			break;
		answer_bits(sent_to(0, WIRE_LEASE), 1, i + 1, 1);
		assert_true(lease.op.lease != 0);
		sent_clear();
	}
	assert_int_equal(lease.op.status, -ERR_BUSY);
	pass_ns(2 * NS_PER_S); /* granted for one */
	submit_to(&lease, CTXKV_OP_LEASE, 1, to, 0);
	answer_bits(sent_to(0, WIRE_LEASE), 1, 99, 1);
	assert_true(lease.op.lease != 0);
	end();
}

/* --- regions --- */

/* All that was sent, also meanwhile. Gets are misses. */
static void answer_sent(void)
{
	for (uint32_t i = 0; i < w.sent_count; i++) {
		int status = w.sent[i].header.kind == WIRE_GET ? -ERR_MISS : 0;

		assert_int_equal(reply_all(&w.sent[i], status, 0, 0), 0);
	}
	sent_clear();
}

/* All free rows of the table but left: as if somebody had declared so much. */
static void regions_hold(struct list *held, uint32_t left)
{
	uint32_t count = 0;

	list_init(held);
	list_for_each_safe (node, &w.client->free_regions) {
		if (count++ < left)
			continue;
		list_del(node);
		list_add_tail(held, node);
	}
}

/*
 * Two servers wait until a region can be taken back, which one of them holds up. That one gets the
 * first; the other is not forgotten, although nothing happens there any more.
 */
static void all_who_wait_for_a_region_get_one(void **state)
{
	static const uint32_t a_and_b[] = { 0, 1 };
	struct test_op gets[4];
	struct list held;

	begin_over(&fake_direct, 2);
	connect_servers(2);
	regions_hold(&held, 2);
	for (uint32_t i = 0; i < 2; i++) {
		submit_to(&gets[i], CTXKV_OP_GET, 2, a_and_b, 100 * (i + 1));
		answer_sent();
		assert_int_equal(told(&gets[i]), BOTH);
	}
	assert_true(list_is_empty(&w.client->free_regions));

	w.lanes[1].is_full = true;
	submit_to(&gets[2], CTXKV_OP_GET, 1, &a_and_b[0], 400);
	submit_to(&gets[3], CTXKV_OP_GET, 1, &a_and_b[1], 300);
	answer_sent();
	w.lanes[1].is_full = false;
	w.lanes[1].lane.user->writable(&w.lanes[1].lane);
	settle();
	assert_non_null(sent_to(1, WIRE_GET));
	assert_null(sent_to(0, WIRE_GET));
	assert_int_equal(reply_all(sent_to(1, WIRE_UNDECLARE), 0, 0, 0), 0);
	assert_non_null(sent_to(0, WIRE_GET));
	answer_sent();
	assert_int_equal(told(&gets[2]), BOTH);
	assert_int_equal(told(&gets[3]), BOTH);
	end();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(items_go_to_who_has_their_place_and_come_back_in_order),
		cmocka_unit_test(the_leading_run_is_over_all_servers),
		cmocka_unit_test(keys_go_to_the_reactor_of_their_shard),
		cmocka_unit_test(a_dead_server_costs_its_own_items_only),
		cmocka_unit_test(a_silent_server_does_not_take_all_slots),
		cmocka_unit_test(nothing_is_placed_before_every_server_was_tried),
		cmocka_unit_test(places_move_after_60_s_and_come_back_at_once),
		cmocka_unit_test(a_server_that_comes_and_goes_keeps_its_places),
		cmocka_unit_test(who_drains_gets_no_puts_and_serves_gets),
		cmocka_unit_test(one_uuid_at_two_addresses_is_one_server),
		cmocka_unit_test(a_name_stands_for_all_its_addresses),
		cmocka_unit_test(a_name_without_an_address_is_a_miss),
		cmocka_unit_test(a_drop_is_done_when_every_server_has_done_it),
		cmocka_unit_test(a_drop_without_one_of_the_servers_is_not_done),
		cmocka_unit_test(a_drop_cut_in_the_middle_keeps_what_was_answered),
		cmocka_unit_test(a_drop_that_waits_is_not_done_by_more_reactors),
		cmocka_unit_test(a_drop_that_waits_does_not_go_to_another_reactor),
		cmocka_unit_test(a_report_goes_to_one_server),
		cmocka_unit_test(one_handle_names_the_leases_of_all_sessions),
		cmocka_unit_test(what_lies_behind_the_run_is_given_back),
		cmocka_unit_test(the_run_of_a_lease_is_what_it_holds),
		cmocka_unit_test(a_session_takes_its_part_of_a_lease_with_it),
		cmocka_unit_test(leases_are_bounded_and_expire),
		cmocka_unit_test(all_who_wait_for_a_region_get_one),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
