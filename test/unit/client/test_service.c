/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library against a real server over loopback: what was put is what is got, whatever size,
 * shape and number; and what the server does (dies, freezes, comes back) ends as misses in time,
 * with no byte landing after a release.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../lib/t.h"
#include "face_server.h"

#define SLACK_NS (600 * NS_PER_MS) /* of a busy machine */

static struct ctxkv_client *open_to(uint32_t flags, uint32_t lanes)
{
	return face_open(face_url(face_server.port, FACE_SECRET), flags, lanes, 5 * NS_PER_S);
}

static struct ctxkv_stat stat_of(struct ctxkv_client *client)
{
	struct ctxkv_stat stat = { .size = sizeof(stat) };

	assert_int_equal(ctxkv_get_stat(client, &stat), 0);
	return stat;
}

static void put_blocks(struct ctxkv_client *client, uint32_t first, uint32_t count, uint64_t size)
{
	struct face_op put;

	face_op_init(&put, CTXKV_OP_PUT, first, count, size);
	assert_int_equal(ctxkv_run(client, &put.op), 0);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(put.items[i].status, 0);
	face_op_free(&put);
}

static void get_blocks(struct ctxkv_client *client, uint32_t first, uint32_t count, uint64_t size)
{
	struct face_op get;

	face_op_init(&get, CTXKV_OP_GET, first, count, size);
	assert_int_equal(ctxkv_run(client, &get.op), 0);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(get.items[i].status, 0);
		assert_int_equal(get.items[i].done_size, size);
		assert_int_equal(get.items[i].block_size, size);
		assert_true(face_is_filled(get.bytes + i * size, size, first + i, 0));
	}
	face_op_free(&get);
}

/* --- what was put is what is got --- */

static void every_size_comes_back(uint32_t flags)
{
	static const uint64_t sizes[] = { 1,     7,       4000,    4096,    65535,       65536,
					  65537, 1048575, 1048576, 1048577, 3 * MiB + 1, 4 * MiB };
	struct ctxkv_client *client = open_to(flags, 3);

	for (uint32_t i = 0; i < ARRAY_LEN(sizes); i++) {
		put_blocks(client, 100 * i, 3, sizes[i]);
		get_blocks(client, 100 * i, 3, sizes[i]);
	}
	assert_int_equal(stat_of(client).corrupt, 0);
	assert_int_equal(stat_of(client).puts, 3 * ARRAY_LEN(sizes));
	assert_int_equal(stat_of(client).hits, 3 * ARRAY_LEN(sizes));
	assert_int_equal(stat_of(client).block_max, 4 * MiB);
	assert_string_equal(stat_of(client).transport, "tcp");
	ctxkv_close(&client);
}

static void every_size_comes_back_by_thread(void **state)
{
	every_size_comes_back(0);
}

static void every_size_comes_back_by_caller(void **state)
{
	every_size_comes_back(CTXKV_CALLER_DRIVEN);
}

/* A thousand blocks in one op are many frames; the probe says how far they reach. */
static void a_large_batch_is_split_and_put_together(void **state)
{
	struct ctxkv_client *client = open_to(0, 2);
	struct face_op probe;

	put_blocks(client, 0, CTXKV_ITEM_MAX, 700);
	put_blocks(client, 2000, 300, 20000);
	get_blocks(client, 0, CTXKV_ITEM_MAX, 700);
	get_blocks(client, 2000, 300, 20000);
	face_op_init(&probe, CTXKV_OP_PROBE, 1000, 100, 0);
	assert_int_equal(ctxkv_run(client, &probe.op), 0);
	assert_int_equal(probe.op.run, 24);
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(probe.items[i].is_here, i < 24);
		assert_int_equal(probe.items[i].status, i < 24 ? 0 : -CTXKV_EMISS);
	}
	ctxkv_close(&client);
	face_op_free(&probe);
}

/* Pieces of odd sizes on both sides, not the same ones. */
static void scatter_and_gather(void **state)
{
	static const uint64_t put_sizes[] = { 1, 65536, 7, 4097, 1000003, 2, 333 };
	static const uint64_t get_sizes[] = { 1048577, 0, 3, 20000, 1399 };
	struct ctxkv_client *client = open_to(0, 4);
	struct ctxkv_iov put_iov[ARRAY_LEN(put_sizes)];
	struct ctxkv_iov get_iov[ARRAY_LEN(get_sizes)];
	struct face_op put;
	struct face_op get;
	uint64_t total = 0;
	uint64_t at = 0;

	for (size_t i = 0; i < ARRAY_LEN(put_sizes); i++)
		total += put_sizes[i];
	face_op_init(&put, CTXKV_OP_PUT, 9, 1, total);
	for (size_t i = 0; i < ARRAY_LEN(put_sizes); i++) {
		put_iov[i] = (struct ctxkv_iov) { put.bytes + at, put_sizes[i] };
		at += put_sizes[i];
	}
	put.items[0].iov = put_iov;
	put.items[0].iov_count = ARRAY_LEN(put_iov);
	assert_int_equal(ctxkv_run(client, &put.op), 0);
	assert_int_equal(put.items[0].status, 0);

	face_op_init(&get, CTXKV_OP_GET, 9, 1, total);
	at = 0;
	for (size_t i = 0; i < ARRAY_LEN(get_sizes); i++) {
		get_iov[i] = (struct ctxkv_iov) { get.bytes + at, get_sizes[i] };
		at += get_sizes[i];
	}
	assert_int_equal(at, total);
	get.items[0].iov = get_iov;
	get.items[0].iov_count = ARRAY_LEN(get_iov);
	assert_int_equal(ctxkv_run(client, &get.op), 0);
	assert_int_equal(get.items[0].done_size, total);
	assert_true(face_is_filled(get.bytes, total, 9, 0));
	ctxkv_close(&client);
	face_op_free(&put);
	face_op_free(&get);
}

static void ranges_are_cut_at_the_end_of_the_block(void **state)
{
	static const struct {
		uint64_t offset;
		uint64_t room;
		uint64_t size; /* delivered */
	} rows[] = { { 0, 1, 1 },
		     { 1, 99999, 99999 },
		     { 65536, 65536, 65536 },
		     { 123456, 2 * MiB, 1500000 - 123456 },
		     { 1499999, 10, 1 } };
	struct ctxkv_client *client = open_to(0, 2);
	struct ctxkv_record record = { 0, 0 };

	put_blocks(client, 5, 1, 1500000);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct face_op get;

		face_op_init(&get, CTXKV_OP_GET, 5, 1, rows[i].room);
		get.items[0].offset = rows[i].offset;
		get.items[0].record = record; /* the first answer names it, the others carry it */
		assert_int_equal(ctxkv_run(client, &get.op), 0);
		assert_int_equal(get.items[0].status, 0);
		assert_int_equal(get.items[0].done_size, rows[i].size);
		assert_int_equal(get.items[0].block_size, 1500000);
		assert_true(face_is_filled(get.bytes, rows[i].size, 5, rows[i].offset));
		record = get.items[0].record;
		assert_true(record.sequence != 0);
		face_op_free(&get);
	}
	ctxkv_close(&client);
}

static void puts_existing_drops_and_misses(void **state)
{
	struct ctxkv_client *client = open_to(0, 1);
	struct face_op put;
	struct face_op get;
	struct face_op drop;

	put_blocks(client, 1, 2, 5000);
	face_op_init(&put, CTXKV_OP_PUT, 1, 3, 5000);
	assert_int_equal(ctxkv_run(client, &put.op), 0);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(put.items[i].status, 0);
		assert_int_equal(put.items[i].flags & CTXKV_EXISTED, i < 2 ? CTXKV_EXISTED : 0);
	}
	face_op_init(&drop, CTXKV_OP_DROP, 2, 1, 0);
	assert_int_equal(ctxkv_run(client, &drop.op), 0);
	face_op_init(&get, CTXKV_OP_GET, 1, 4, 5000);
	assert_int_equal(ctxkv_run(client, &get.op), 0);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(get.items[i].status, i == 1 || i == 3 ? -CTXKV_EMISS : 0);

	/* Another namespace is another block. */
	face_op_again(&get);
	ctxkv_namespace("another model", &get.op.ns);
	assert_int_equal(ctxkv_run(client, &get.op), 0);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(get.items[i].status, -CTXKV_EMISS);

	face_op_free(&drop);
	face_op_init(&drop, CTXKV_OP_DROP, 0, 0, 0);
	assert_int_equal(ctxkv_run(client, &drop.op), 0);
	face_op_again(&get);
	ctxkv_namespace("test model", &get.op.ns);
	assert_int_equal(ctxkv_run(client, &get.op), 0);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(get.items[i].status, -CTXKV_EMISS);
	ctxkv_close(&client);
	face_op_free(&put);
	face_op_free(&get);
	face_op_free(&drop);
}

static void too_large_is_refused_here_and_the_rest_goes_on(void **state)
{
	struct ctxkv_client *client = open_to(0, 1);
	struct face_op put;

	face_op_init(&put, CTXKV_OP_PUT, 1, 3, 4 * MiB + 1);
	put.iovs[0].size = 4 * MiB;
	put.iovs[2].size = 10;
	assert_int_equal(ctxkv_run(client, &put.op), 0);
	assert_int_equal(put.items[0].status, 0);
	assert_int_equal(put.items[1].status, -CTXKV_ETOO_LARGE);
	assert_int_equal(put.items[2].status, 0);
	ctxkv_close(&client);
	face_op_free(&put);
}

static void the_server_tells_its_counters(void **state)
{
	struct ctxkv_client *client = open_to(0, 1);
	char text[16384];
	char small[8];
	int size;

	put_blocks(client, 1, 2, 5000);
	size = ctxkv_server_stat(client, NS_PER_S, text, sizeof(text));
	assert_true(size > 0);
	assert_int_equal(strlen(text), size);
	assert_non_null(strstr(text, "put"));
	assert_int_equal(ctxkv_server_stat(client, NS_PER_S, small, sizeof(small)), size);
	assert_int_equal(strlen(small), 7);
	ctxkv_close(&client);
}

/* --- many at once --- */

#define MANY 200

/* More ops than the server takes requests: they wait here, none is refused. */
static void limits_of_the_server_are_waited_for(void **state)
{
	struct ctxkv_client *client = open_to(0, 4);
	struct face_op puts[MANY];
	struct face_op gets[MANY];
	struct ctxkv_op *pointers[MANY];

	for (uint32_t i = 0; i < MANY; i++) {
		face_op_init(&puts[i], CTXKV_OP_PUT, 10 * i, 3, i % 2 == 0 ? 30000 : 100000);
		pointers[i] = &puts[i].op;
	}
	assert_int_equal(ctxkv_submit(client, pointers, MANY), MANY);
	for (uint32_t i = 0; i < MANY; i++) {
		if (puts[i].op.reserved[0] != 0)
			(void)face_wait_released(client, &puts[i].op, 20 * NS_PER_S);
	}
	for (uint32_t i = 0; i < MANY; i++) {
		for (uint32_t k = 0; k < 3; k++)
			assert_int_equal(puts[i].items[k].status, 0);
		face_op_init(&gets[i], CTXKV_OP_GET, 10 * i, 3, puts[i].size);
		pointers[i] = &gets[i].op;
	}
	assert_int_equal(ctxkv_submit(client, pointers, MANY), MANY);
	for (uint32_t i = 0; i < MANY; i++) {
		if (gets[i].op.reserved[0] != 0)
			(void)face_wait_released(client, &gets[i].op, 20 * NS_PER_S);
	}
	for (uint32_t i = 0; i < MANY; i++) {
		for (uint32_t k = 0; k < 3; k++) {
			assert_int_equal(gets[i].items[k].status, 0);
			assert_true(face_is_filled(gets[i].bytes + k * gets[i].size, gets[i].size,
						   10 * i + k, 0));
		}
		face_op_free(&puts[i]);
		face_op_free(&gets[i]);
	}
	assert_int_equal(stat_of(client).connects, 1);
	ctxkv_close(&client);
}

static int start_server_for_few_requests(void **state)
{
	face_server = (struct face_server) { .request_max = 2 };
	face_server_start(&face_server);
	return 0;
}

/* After a release nothing lands: what is written to the buffer then stays. */
static void cancels_and_deadlines_at_any_moment(void **state)
{
	struct ctxkv_client *client = open_to(0, 4);
	struct face_op get;
	uint32_t hits = 0;
	uint32_t seed = 1;

	put_blocks(client, 1, 4, 2 * MiB);
	face_op_init(&get, CTXKV_OP_GET, 1, 4, 2 * MiB);
	for (int round = 0; round < 60; round++) {
		struct ctxkv_op *op = &get.op;

		seed = seed * 1664525u + 1013904223u;
		face_op_again(&get);
		memset(get.bytes, 0, 8 * MiB);
		get.op.timeout_ns =
			round % 3 == 0 ? (seed >> 8) % (4 * NS_PER_MS) + 1 : 10 * NS_PER_S;
		assert_int_equal(ctxkv_submit(client, &op, 1), 1);
		if (round % 3 == 1) {
			usleep((seed >> 8) % 6000);
			ctxkv_cancel(client, op);
		}
		(void)face_wait_released(client, op, 12 * NS_PER_S);
		for (uint32_t i = 0; i < 4; i++) {
			if (get.items[i].status == 0) {
				hits++;
				assert_true(
					face_is_filled(get.bytes + i * 2 * MiB, 2 * MiB, 1 + i, 0));
			}
		}
		memset(get.bytes, 0xee, 8 * MiB);
		usleep(500);
		if (get.bytes[0] != 0xee || memcmp(get.bytes, get.bytes + 1, 8 * MiB - 1) != 0)
			fail_msg("a byte landed after the release, round %d", round);
	}
	assert_true(hits >= 4 * 20);
	assert_int_equal(stat_of(client).connects, 1); /* none of it cost the session */
	get_blocks(client, 1, 4, 2 * MiB);
	ctxkv_close(&client);
	face_op_free(&get);
}

/* A put given up half-way: not there, or whole; and the lane goes on. */
static void puts_given_up_leave_nothing_half_written(void **state)
{
	struct ctxkv_client *client = open_to(0, 3);
	uint32_t seed = 7;

	for (uint32_t round = 0; round < 30; round++) {
		struct face_op put;
		struct face_op get;
		struct ctxkv_op *op = &put.op;

		seed = seed * 1664525u + 1013904223u;
		face_op_init(&put, CTXKV_OP_PUT, 10 * round, 3, 3 * MiB);
		assert_int_equal(ctxkv_submit(client, &op, 1), 1);
		usleep((seed >> 8) % 5000);
		ctxkv_cancel(client, op);
		(void)face_wait_released(client, op, 12 * NS_PER_S);
		memset(put.bytes, 0xee, 9 * MiB); /* what is sent late must not be this */
		face_op_init(&get, CTXKV_OP_GET, 10 * round, 3, 3 * MiB);
		assert_int_equal(ctxkv_run(client, &get.op), 0);
		for (uint32_t i = 0; i < 3; i++) {
			if (put.items[i].status == 0)
				assert_int_equal(get.items[i].status, 0);
			if (get.items[i].status == 0)
				assert_true(face_is_filled(get.bytes + i * 3 * MiB, 3 * MiB,
							   10 * round + i, 0));
		}
		face_op_free(&put);
		face_op_free(&get);
	}
	assert_int_equal(stat_of(client).connects, 1);
	ctxkv_close(&client);
}

/* --- servers that go wrong --- */

static void a_wrong_secret_is_said_clearly(void **state)
{
	struct ctxkv_client *client = NULL;
	struct ctxkv_opts opts;
	struct face_op get;
	char message[512] = "";

	ctxkv_opts_init(&opts, sizeof(opts));
	opts.url = face_url(face_server.port, FACE_OTHER);
	opts.log_level = CTXKV_LOG_ERROR;
	assert_int_equal(ctxkv_open(&opts, 2 * NS_PER_S, &client, message, sizeof(message)),
			 -CTXKV_EAUTH);
	assert_non_null(strstr(message, "authentication"));
	assert_null(client);

	/* Without waiting for it, the ops and the log say so. */
	client = face_open(face_url(face_server.port, FACE_OTHER), 0, 2, 0);
	face_op_init(&get, CTXKV_OP_GET, 1, 1, 10);
	assert_int_equal(ctxkv_run(client, &get.op), -CTXKV_EAUTH);
	assert_int_equal(stat_of(client).last_error, -CTXKV_EAUTH);
	assert_non_null(strstr(face_log, "tenant tester"));
	ctxkv_close(&client);
	face_op_free(&get);
}

static void wait_connected(struct ctxkv_client *client, uint64_t limit_ns)
{
	uint64_t begin_ns = face_now_ns();

	while (stat_of(client).is_connected == 0) {
		assert_true(face_now_ns() - begin_ns < limit_ns);
		usleep(2000);
	}
}

static void a_killed_server_is_misses_and_its_successor_is_found(void **state)
{
	struct ctxkv_client *client = open_to(0, 4);
	struct face_op gets[8];
	uint64_t begin_ns;

	put_blocks(client, 1, 8, 4 * MiB);
	for (uint32_t i = 0; i < 8; i++) {
		struct ctxkv_op *op = &gets[i].op;

		face_op_init(&gets[i], CTXKV_OP_GET, 1, 8, 4 * MiB);
		assert_int_equal(ctxkv_submit(client, &op, 1), 1);
	}
	usleep(10000); /* in the middle of it */
	face_server_kill(&face_server);
	begin_ns = face_now_ns();
	for (uint32_t i = 0; i < 8; i++) {
		if (gets[i].op.reserved[0] != 0)
			(void)face_wait_released(client, &gets[i].op, 5 * NS_PER_S);
		for (uint32_t k = 0; k < 8; k++) {
			if (gets[i].items[k].status == 0)
				assert_true(face_is_filled(gets[i].bytes + k * 4 * MiB, 4 * MiB,
							   1 + k, 0));
		}
		face_op_free(&gets[i]);
	}
	assert_true(face_now_ns() - begin_ns < 2 * NS_PER_S); /* not at the deadline of 10 s */

	face_server_start(&face_server);
	wait_connected(client, 5 * NS_PER_S);
	put_blocks(client, 1, 2, 100000);
	get_blocks(client, 1, 2, 100000);
	assert_int_equal(stat_of(client).connects, 2);
	ctxkv_close(&client);
}

static void a_server_frozen_in_a_session_costs_deadlines_then_nothing(void **state)
{
	struct ctxkv_client *client = open_to(0, 2);
	struct face_op get;
	uint64_t begin_ns;
	int deadlines = 0;

	put_blocks(client, 1, 4, MiB);
	face_op_init(&get, CTXKV_OP_GET, 1, 4, MiB);
	face_server_freeze(&face_server);
	for (int i = 0; i < 8; i++) {
		int rc;

		face_op_again(&get);
		get.op.timeout_ns = 300 * NS_PER_MS;
		begin_ns = face_now_ns();
		rc = ctxkv_run(client, &get.op);
		assert_true(rc == -CTXKV_EDEADLINE || rc == -CTXKV_EUNREACHABLE);
		assert_true(face_now_ns() - begin_ns < 300 * NS_PER_MS + SLACK_NS);
		deadlines += rc == -CTXKV_EDEADLINE;
	}
	assert_true(deadlines < 8); /* then the breaker is open */
	assert_int_equal(stat_of(client).breaker_opens, 1);
	face_server_thaw(&face_server);
	wait_connected(client, 10 * NS_PER_S);
	get_blocks(client, 1, 4, MiB); /* nothing was forgotten */
	ctxkv_close(&client);
	face_op_free(&get);
}

/* Shut the client's n-th connection to the server down, in the order of descriptors. */
static void cut_connection(uint32_t n)
{
	uint32_t seen = 0;

	for (int fd = 3; fd < 256; fd++) {
		struct sockaddr_in peer;
		socklen_t size = sizeof(peer);

		if (getpeername(fd, (struct sockaddr *)&peer, &size) < 0 ||
		    ntohs(peer.sin_port) != face_server.port)
			continue;
		if (seen++ == n) {
			shutdown(fd, SHUT_RDWR);
			return;
		}
	}
	fail_msg("there is no connection %u", n);
}

static void wait_lanes(struct ctxkv_client *client, uint32_t lanes)
{
	uint64_t begin_ns = face_now_ns();

	while (stat_of(client).lanes != lanes) {
		assert_true(face_now_ns() - begin_ns < 5 * NS_PER_S);
		usleep(1000);
	}
}

/* Gets end with -CTXKV_EPEER when they meet the loss, and with nothing else. */
static void get_until_hit(struct ctxkv_client *client)
{
	int rc;

	do {
		struct face_op get;

		face_op_init(&get, CTXKV_OP_GET, 1, 4, MiB);
		rc = ctxkv_run(client, &get.op);
		face_op_free(&get);
		assert_true(rc == 0 || rc == -CTXKV_EPEER);
	} while (rc != 0);
}

/* Lane 0 is the first descriptor: it made the connection first. */
static void a_lost_lane_is_joined_again_and_the_session_stays(void **state)
{
	struct ctxkv_client *client = open_to(0, 4);

	wait_lanes(client, 4);
	put_blocks(client, 1, 4, MiB);
	for (int round = 0; round < 3; round++) {
		cut_connection(3);
		get_until_hit(client);
		wait_lanes(client, 4);
		get_blocks(client, 1, 4, MiB);
	}
	assert_int_equal(stat_of(client).connects, 1);
	cut_connection(0);
	usleep(50000);
	wait_lanes(client, 4);
	get_blocks(client, 1, 4, MiB);
	assert_int_equal(stat_of(client).connects, 2);
	ctxkv_close(&client);
}

static int start_large_server(void **state)
{
	face_server = (struct face_server) { .memory = 1040 * MiB,
					     .segment_room = 256 * MiB,
					     .block_max = 64 * MiB,
					     .verify = WIRE_VERIFY_ALL };
	face_server_start(&face_server);
	return 0;
}

static void the_largest_block_over_four_lanes_and_checked(void **state)
{
	struct ctxkv_client *client = open_to(0, 4);

	put_blocks(client, 1, 1, 64 * MiB);
	get_blocks(client, 1, 1, 64 * MiB);
	assert_int_equal(stat_of(client).corrupt, 0);
	ctxkv_close(&client);
}

#define WITH_SERVER(test)                                                                          \
	cmocka_unit_test_setup_teardown(test, face_server_setup, face_server_teardown)

/* test_client_service [PATTERN]: only the tests whose name matches. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		WITH_SERVER(every_size_comes_back_by_thread),
		WITH_SERVER(every_size_comes_back_by_caller),
		WITH_SERVER(a_large_batch_is_split_and_put_together),
		WITH_SERVER(scatter_and_gather),
		WITH_SERVER(ranges_are_cut_at_the_end_of_the_block),
		WITH_SERVER(puts_existing_drops_and_misses),
		WITH_SERVER(too_large_is_refused_here_and_the_rest_goes_on),
		WITH_SERVER(the_server_tells_its_counters),
		WITH_SERVER(limits_of_the_server_are_waited_for),
		cmocka_unit_test_setup_teardown(limits_of_the_server_are_waited_for,
						start_server_for_few_requests,
						face_server_teardown),
		WITH_SERVER(cancels_and_deadlines_at_any_moment),
		WITH_SERVER(puts_given_up_leave_nothing_half_written),
		WITH_SERVER(a_wrong_secret_is_said_clearly),
		WITH_SERVER(a_killed_server_is_misses_and_its_successor_is_found),
		WITH_SERVER(a_server_frozen_in_a_session_costs_deadlines_then_nothing),
		WITH_SERVER(a_lost_lane_is_joined_again_and_the_session_stays),
		cmocka_unit_test_setup_teardown(the_largest_block_over_four_lanes_and_checked,
						start_large_server, face_server_teardown),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
