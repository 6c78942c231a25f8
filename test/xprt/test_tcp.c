/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only tcp has: bytes. A peer that is a bare socket cuts, flips, replays, floods and stops in
 * the middle; the lane ends, or goes on, and never more than that.
 */
#include "raw.h"

#include "../../src/xprt/tcp/tcp.h"
#include "../lib/t.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uint8_t frame[sizeof(struct wire_header) + sizeof(struct wire_data) + WIRE_DATA_MAX];

static void start(struct pair *pair)
{
	pair_init(pair, &pair_kinds[0]);
}

static void secure(struct xprt_lane *lane, bool is_server)
{
	xprt_tcp.secure(lane, raw_mac(is_server ? WIRE_S2C : WIRE_C2S),
			raw_mac(is_server ? WIRE_C2S : WIRE_S2C));
}

/* --- frames in pieces, and frames that are not allowed --- */

static void a_stream_may_come_byte_by_byte(void **state)
{
	struct pair_block *block;
	struct pair_move move;
	struct pair pair;
	struct raw raw;
	uint32_t size = 0;

	start(&pair);
	raw_connect(&raw, &pair, 0, true);
	block = pair_block_add(&pair, 9, 777, 777);
	pair_move_init(&move, &pair, block, 0, 777, 5);
	xprt_tcp.pull(pair.server.group.lanes[0], &move.move);
	pair_settle(&pair);
	size += raw_probe(frame + size, NULL, 1, 3);
	size += raw_data(frame + size, NULL, WIRE_DATA_PUT, 9, 0, 777, 4);
	size += raw_probe(frame + size, NULL, 2, 1);
	for (uint32_t i = 0; i < size; i++) {
		raw_write(&raw, frame + i, 1);
		PAIR_UNTIL(&pair, pair.server.group.lanes[0]->bytes_in == raw.sent);
		assert_int_equal(pair.server.frame_count, (i + 1 >= 200) + (i + 1 == size));
		assert_int_equal(move.done, i + 1 >= 200 + 64 + 777);
	}
	assert_int_equal(move.rc, 0);
	assert_true(pair_is_filled(move.bytes, 777, 4));
	pair_move_fini(&move);
	raw_close(&raw);
	pair_fini(&pair);
}

static void a_flipped_bit_ends_the_lane(void **state)
{
	uint32_t size = raw_probe(frame, NULL, 1, 1);
	struct pair pair;

	start(&pair);
	for (uint32_t bit = 0; bit < size * 8; bit += 5) {
		struct raw raw;
		uint32_t ended = pair.server.closed;

		raw_connect(&raw, &pair, 0, true);
		secure(pair.server.group.lanes[0], true);
		raw.mac = raw_mac(WIRE_C2S);
		(void)raw_probe(frame, raw.mac, 1, 1);
		frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
		raw_write(&raw, frame, size);
		PAIR_UNTIL(&pair, pair.server.closed == ended + 1);
		assert_int_equal(pair.server.why, -ERR_PROTOCOL);
		assert_int_equal(pair.server.frame_count, 0);
		raw_close(&raw);
	}
	pair_fini(&pair);
}

static void a_frame_counts_once_and_in_its_turn(void **state)
{
	uint32_t size = raw_probe(frame, NULL, 1, 1);
	struct auth_mac *mac = raw_mac(WIRE_C2S);
	struct pair pair;
	struct raw raw;

	start(&pair);
	raw_connect(&raw, &pair, 0, true);
	secure(pair.server.group.lanes[0], true);
	(void)raw_probe(frame, mac, 1, 1);
	raw_write(&raw, frame, size);
	raw_write(&raw, frame, size); /* replayed */
	PAIR_UNTIL(&pair, pair.server.closed == 1);
	assert_int_equal(pair.server.frame_count, 1);
	raw_close(&raw);

	raw_connect(&raw, &pair, 1, true);
	secure(pair.server.group.lanes[1], true);
	auth_mac_destroy(&mac);
	mac = raw_mac(WIRE_C2S);
	(void)raw_probe(frame, mac, 1, 1); /* lost */
	(void)raw_probe(frame, mac, 2, 1);
	raw_write(&raw, frame, size);
	PAIR_UNTIL(&pair, pair.server.closed == 2);
	assert_int_equal(pair.server.frame_count, 1);
	auth_mac_destroy(&mac);
	raw_close(&raw);
	pair_fini(&pair);
}

static void secured_lanes_carry_everything_both_ways(void **state)
{
	struct pair_move moves[16];
	struct pair_block *block;
	struct pair pair;

	start(&pair);
	pair_connect(&pair, 2);
	for (uint32_t i = 0; i < 2; i++) {
		secure(pair.server.group.lanes[i], true);
		secure(pair.client.group.lanes[i], false);
	}
	block = pair_block_add(&pair, 1, 8 * MiB, 200000);
	pair_fill(block->bytes, block->size, 3);
	for (uint32_t i = 0; i < 16; i++) {
		struct xprt_lane *lane = pair.server.group.lanes[i % 2];
		const struct wire_notice notice = { .code = WIRE_NOTICE_CREDIT };
		struct wire_header header;

		pair_move_init(&moves[i], &pair, block, (uint32_t)(i / 2 * MiB), MiB, 2);
		if (i < 8)
			xprt_tcp.pull(lane, &moves[i].move);
		else
			xprt_tcp.push(lane, &moves[i].move);
		memset(moves[i].bytes, 0x77, MiB);
		wire_header_init(&header, WIRE_NOTICE, 0, 0, sizeof(notice));
		assert_int_equal(lane->ops->send(lane, &header, &notice, NULL, 0), 0);
		if (i == 12) /* some are gone before they begin: the sequence has no gap */
			xprt_tcp.revoke(&moves[12].move);
	}
	for (uint32_t i = 0; i < 16; i++) {
		PAIR_UNTIL(&pair, moves[i].done > 0);
		assert_int_equal(moves[i].rc, i == 12 ? -ECANCELED : 0);
		pair_move_fini(&moves[i]);
	}
	PAIR_UNTIL(&pair, pair.client.frame_count == 16);
	pair_settle(&pair);
	assert_int_equal(pair.server.closed + pair.client.closed, 0);
	pair_fini(&pair);
}

/* PROOF goes without a MAC although the lane is secured before it has left. */
static void what_was_sent_before_secure_has_no_mac(void **state)
{
	const struct wire_proof proof = { { 1 } };
	static const uint8_t zero[WIRE_MAC_SIZE];
	struct auth_mac *check = raw_mac(WIRE_C2S);
	struct wire_header header;
	struct xprt_lane *lane;
	char address[64];
	struct pair pair;
	struct raw raw;
	int fd;

	start(&pair);
	fd = raw_listen(address, sizeof(address));
	lane = pair_dial(&pair, address, 0);
	raw_accept(&raw, &pair, fd, 0);
	wire_header_init(&header, WIRE_PROOF, 0, 0, sizeof(proof));
	assert_int_equal(xprt_tcp.send(lane, &header, &proof, NULL, 0), 0);
	secure(lane, false);
	wire_header_init(&header, WIRE_STAT, 5, 0, sizeof(struct wire_request));
	assert_int_equal(
		xprt_tcp.send(lane, &header, &(struct wire_request) { .flags = 0 }, NULL, 0), 0);

	assert_true(raw_read_frame(&raw, frame, sizeof(frame)) > 0);
	memcpy(&header, frame, sizeof(header));
	assert_int_equal(header.kind, WIRE_PROOF);
	assert_memory_equal(header.mac, zero, sizeof(zero));
	assert_true(raw_read_frame(&raw, frame, sizeof(frame)) > 0);
	memcpy(&header, frame, sizeof(header));
	assert_int_equal(header.kind, WIRE_STAT);
	assert_true(auth_mac_check(check, &header, frame + sizeof(header)));

	/* A REFUSE is heard without one. */
	wire_header_init(&header, WIRE_REFUSE, 0, 0, sizeof(struct wire_refuse));
	raw_write(&raw, &header, sizeof(header));
	raw_write(&raw, &(struct wire_refuse) { .code = -ERR_AUTH }, sizeof(struct wire_refuse));
	PAIR_UNTIL(&pair, pair.client.frame_count == 1);
	auth_mac_destroy(&check);
	raw_close(&raw);
	close(fd);
	pair_fini(&pair);
}

static void a_header_that_asks_for_much_ends_the_lane_at_once(void **state)
{
	const struct {
		enum wire_kind kind;
		uint32_t body_size;
		uint32_t payload_size;
	} cases[] = {
		{ WIRE_PROBE, GiB, 0 },          { WIRE_PUT, 128, GiB },
		{ WIRE_DATA_PUT, 16, GiB },      { WIRE_DATA_PUT, GiB, 1 },
		{ WIRE_GET, UINT32_MAX, 0 },     { WIRE_DATA_PUT, 16, WIRE_DATA_MAX + 1 },
		{ (enum wire_kind)200, GiB, 0 },
	};
	struct pair pair;

	start(&pair);
	for (uint32_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct wire_header header;
		struct raw raw;

		raw_connect(&raw, &pair, 0, true);
		wire_header_init(&header, cases[i].kind, 1, cases[i].kind == WIRE_DATA_PUT ? 0 : 1,
				 cases[i].body_size);
		header.payload_size = cases[i].payload_size;
		raw_write(&raw, &header, sizeof(header));
		PAIR_UNTIL(&pair, pair.server.closed == i + 1);
		assert_int_equal(pair.server.why, -ERR_PROTOCOL);
		raw_close(&raw);
	}
	pair_fini(&pair);
}

static void a_truncated_frame_ends_the_lane(void **state)
{
	uint32_t size = raw_probe(frame, NULL, 1, 500);
	struct pair pair;

	start(&pair);
	for (uint32_t i = 1; i <= 20; i++) {
		struct raw raw;

		raw_connect(&raw, &pair, 0, true);
		raw_write(&raw, frame, size / 20 * i - (i == 20 ? 1 : 0) - 16);
		raw_close(&raw);
		PAIR_UNTIL(&pair, pair.server.closed == i);
		assert_int_equal(pair.server.why, -ERR_PEER);
		assert_int_equal(pair.server.frame_count, 0);
	}
	pair_fini(&pair);
}

static void unknown_kinds_write(struct raw *raw)
{
	struct wire_header header;

	for (uint32_t i = 0; i < 3; i++) {
		wire_header_init(&header, (enum wire_kind)(90 + i), 1, 7, 3 + i * 20000);
		raw_write(raw, &header, sizeof(header));
		raw_write(raw, frame, header.body_size);
	}
}

/* A newer peer may send it. The server's user answers that it is not known; a client skips it. */
static void an_unknown_kind_does_not_end_the_lane(void **state)
{
	struct wire_header header;
	struct wire_text text = { .size = 0 };
	struct pair pair;
	struct raw raw;
	char address[64];
	int fd;

	start(&pair);
	raw_connect(&raw, &pair, 0, true);
	unknown_kinds_write(&raw);
	raw_write(&raw, frame, raw_probe(frame, NULL, 4, 2));
	PAIR_UNTIL(&pair, pair.server.frame_count == 4);
	assert_int_equal(pair.server.frames[0].kind, 90);
	assert_int_equal(pair.server.frames[2].body_size, 40003);
	assert_int_equal(pair.server.frames[3].request, 4);
	assert_int_equal(pair.server.closed, 0);
	raw_close(&raw);

	fd = raw_listen(address, sizeof(address));
	assert_non_null(pair_dial(&pair, address, 1));
	raw_accept(&raw, &pair, fd, 1);
	unknown_kinds_write(&raw);
	wire_header_init(&header, WIRE_TEXT, 5, 0, sizeof(text));
	raw_write(&raw, &header, sizeof(header));
	raw_write(&raw, &text, sizeof(text));
	PAIR_UNTIL(&pair, pair.client.frame_count > 0);
	assert_int_equal(pair.client.frame_count, 1);
	assert_int_equal(pair.client.frames[0].kind, WIRE_TEXT);
	raw_close(&raw);
	close(fd);
	pair_fini(&pair);
}

static void before_hello_there_is_neither_data_nor_a_large_frame(void **state)
{
	struct pair pair;
	struct raw raw;

	start(&pair);
	pair.is_before_hello = true;
	raw_connect(&raw, &pair, 0, true);
	raw_write(&raw, frame, raw_probe(frame, NULL, 1, 100)); /* the user's to refuse */
	PAIR_UNTIL(&pair, pair.server.frame_count == 1);
	raw_write(&raw, frame, raw_data(frame, NULL, WIRE_DATA_PUT, 1, 0, 10, 0));
	PAIR_UNTIL(&pair, pair.server.closed == 1);
	raw_close(&raw);
	raw_connect(&raw, &pair, 0, true);
	raw_write(&raw, frame, raw_probe(frame, NULL, 1, 1000));
	PAIR_UNTIL(&pair, pair.server.closed == 2);
	assert_int_equal(pair.server.why, -ERR_PROTOCOL);
	raw_close(&raw);
	pair_fini(&pair);
}

/* --- prefaces --- */

static void a_preface_of_something_else_is_not_answered(void **state)
{
	struct pair pair;
	struct raw raw;
	uint8_t byte;

	start(&pair);
	raw_connect(&raw, &pair, 0, false);
	raw_write(&raw, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 35);
	assert_false(raw_read(&raw, &byte, 1));
	assert_int_equal(pair.server.opened, 0);
	assert_int_equal(pair.server.closed, 0);
	raw_close(&raw);
	pair_fini(&pair);
}

static void a_preface_of_another_version_is_refused_with_the_reason(void **state)
{
	struct wire_preface preface = { .version_min = 77, .version_max = 99 };
	struct wire_header header;
	struct wire_refuse refuse;
	struct pair pair;
	struct raw raw;

	start(&pair);
	memcpy(preface.magic, WIRE_PREFACE_MAGIC, sizeof(preface.magic));
	raw_connect(&raw, &pair, 0, false);
	raw_write(&raw, &preface, sizeof(preface));
	assert_int_equal(raw_read_frame(&raw, frame, sizeof(frame)),
			 sizeof(header) + sizeof(refuse));
	memcpy(&header, frame, sizeof(header));
	memcpy(&refuse, frame + sizeof(header), sizeof(refuse));
	assert_int_equal(header.kind, WIRE_REFUSE);
	assert_int_equal(refuse.code, -ERR_VERSION);
	assert_int_equal(raw_read_frame(&raw, frame, sizeof(frame)), 0);
	raw_close(&raw);
	pair_fini(&pair);
}

/* Connections that say nothing: their number is bounded, and a client still comes in. */
static void silent_connections_do_not_keep_others_out(void **state)
{
	struct raw silent[100];
	struct pair pair;
	struct raw raw;
	uint8_t byte;

	start(&pair); /* 80 lanes */
	for (uint32_t i = 0; i < ARRAY_LEN(silent); i++) {
		raw_connect(&silent[i], &pair, 0, false);
		pair_poll(&pair);
	}
	raw_connect(&raw, &pair, 3, true);
	raw_write(&raw, frame, raw_probe(frame, NULL, 1, 1));
	PAIR_UNTIL(&pair, pair.server.frame_count == 1);
	assert_false(raw_read(&silent[0], &byte, 1)); /* the oldest went */
	for (uint32_t i = 0; i < ARRAY_LEN(silent); i++)
		raw_close(&silent[i]);
	raw_close(&raw);
	pair_fini(&pair);
}

static void a_full_pool_takes_the_next_when_one_leaves(void **state)
{
	struct raw raws[3];
	struct pair pair;

	start(&pair);
	xprt_tcp.unlisten(&pair.listener);
	assert_int_equal(xprt_tcp.listen(&xprt_tcp, pair.env, "127.0.0.1:0", 2, &pair_server_user,
					 &pair, &pair.listener),
			 0);
	xprt_tcp.listener_name(pair.listener, pair.address, sizeof(pair.address));
	raw_connect(&raws[0], &pair, 0, true);
	raw_connect(&raws[1], &pair, 1, true);
	raw_connect(&raws[2], &pair, 2, false);
	pair_settle(&pair);
	raw_close(&raws[0]);
	PAIR_UNTIL(&pair, pair.server.closed == 1);
	raw_close(&raws[2]);
	raw_connect(&raws[2], &pair, 2, true);
	raw_write(&raws[2], frame, raw_probe(frame, NULL, 1, 1));
	PAIR_UNTIL(&pair, pair.server.frame_count == 1);
	raw_close(&raws[1]);
	raw_close(&raws[2]);
	pair_fini(&pair);
}

#define HOLDERS 36 /* more than there are big buffers */

/* Each has sent half of a large frame; how much that is. */
static uint32_t holders_connect(struct raw *holders, struct pair *pair)
{
	uint32_t half = 0;

	for (uint32_t i = 0; i < HOLDERS; i++) {
		raw_connect(&holders[i], pair, WIRE_LANE_MAX + i, true);
		half = raw_probe(frame, NULL, 100 + i, 1000) / 2;
		raw_write(&holders[i], frame, half);
	}
	return half;
}

static void holders_close(struct raw *holders, struct pair *pair)
{
	for (uint32_t i = 0; i < HOLDERS; i++)
		raw_close(&holders[i]);
	PAIR_UNTIL(pair, pair->server.closed == HOLDERS);
}

/* Clients that stop in the middle of large frames hold all big buffers. Small frames go on; a large
 * one waits, until those who stand still are closed. */
static void large_frames_that_stop_do_not_block_the_server(void **state)
{
	struct raw holders[HOLDERS];
	uint64_t begin_ns;
	struct pair pair;
	struct raw raw;

	start(&pair);
	raw_connect(&raw, &pair, 0, true);
	(void)holders_connect(holders, &pair);
	pair_settle(&pair);
	raw_write(&raw, frame, raw_probe(frame, NULL, 1, 1));
	PAIR_UNTIL(&pair, pair.server.frame_count == 1);
	begin_ns = env_now_ns(pair.env);
	raw_write(&raw, frame, raw_probe(frame, NULL, 2, 1000));
	PAIR_UNTIL(&pair, pair.server.frame_count == 2);
	assert_true(env_now_ns(pair.env) - begin_ns > NS_PER_S); /* else nothing was short */
	assert_int_equal(pair.server.why, -ETIMEDOUT);
	assert_non_null(pair.server.group.lanes[0]);
	holders_close(holders, &pair);
	raw_close(&raw);
	pair_fini(&pair);
}

/* The same with clients that send a byte now and then: who waits for a buffer is served within
 * TRICKLE_NS. */
#define TRICKLE_NS (8 * NS_PER_S)

/* Raw sends a large frame, and each of the others the next byte of one, from byte fed on. */
static void check_trickle(struct pair *pair, struct raw *raw, struct raw *holders, uint32_t fed)
{
	uint64_t begin_ns = env_now_ns(pair->env);
	uint64_t fed_ns = begin_ns;

	raw_write(raw, frame, raw_probe(frame, NULL, 2, 1000));
	while (pair->server.frame_count == 0) {
		assert_true(env_now_ns(pair->env) - begin_ns < TRICKLE_NS);
		if (env_now_ns(pair->env) - fed_ns > NS_PER_S) {
			fed_ns = env_now_ns(pair->env);
			for (uint32_t i = 0; i < HOLDERS; i++)
				raw_write(&holders[i], frame + fed, 1);
			fed++;
		}
		pair_poll(pair);
	}
	assert_true(env_now_ns(pair->env) - begin_ns > NS_PER_S); /* else nothing was short */
}

static void large_frames_that_trickle_do_not_block_the_server(void **state)
{
	struct raw holders[HOLDERS];
	struct pair pair;
	uint32_t fed;
	struct raw raw;

	start(&pair);
	raw_connect(&raw, &pair, 0, true);
	fed = holders_connect(holders, &pair);
	pair_settle(&pair);
	check_trickle(&pair, &raw, holders, fed);
	holders_close(holders, &pair);
	raw_close(&raw);
	pair_fini(&pair);
}

static ssize_t stuck_send(struct env *env, struct env_sock *sock, const struct iovec *iov,
			  uint32_t iov_count)
{
	return -EAGAIN;
}

/* A large answer on each of the server's lanes but keep's, as far as there are buffers. */
static void answer_all(struct pair *pair, const struct xprt_lane *keep)
{
	static struct {
		struct wire_text text;
		char bytes[2 * TCP_TX_SIZE];
	} body = { .text.size = sizeof(body.bytes) };
	struct tcp_listener *listener =
		CONTAINER_OF(pair->listener, struct tcp_listener, door.listener);
	struct wire_header header;

	list_for_each (node, &listener->door.known) {
		struct tcp_lane *lane = list_entry(node, struct tcp_lane, door.node);

		wire_header_init(&header, WIRE_TEXT, 1, 0, sizeof(body));
		if (&lane->lane != keep)
			(void)xprt_tcp.send(&lane->lane, &header, &body, NULL, 0);
	}
	assert_int_equal(listener->big_free_count, 0);
}

/* And with clients that do not read what they asked for. */
static void large_answers_that_nobody_reads_do_not_block_the_server(void **state)
{
	struct raw holders[HOLDERS];
	const struct env_ops *ops;
	struct env_ops stuck_ops;
	struct pair pair;
	struct raw raw;

	start(&pair);
	ops = pair.env->ops;
	stuck_ops = *ops;
	stuck_ops.sock_send = stuck_send;
	raw_connect(&raw, &pair, 0, true);
	for (uint32_t i = 0; i < HOLDERS; i++)
		raw_connect(&holders[i], &pair, WIRE_LANE_MAX + i, true);
	PAIR_UNTIL(&pair, pair.server.opened == 1 + HOLDERS);
	pair.env->ops = &stuck_ops;
	answer_all(&pair, pair.server.group.lanes[0]);
	check_trickle(&pair, &raw, holders, 0);
	assert_non_null(pair.server.group.lanes[0]);
	pair.env->ops = ops;
	holders_close(holders, &pair);
	raw_close(&raw);
	pair_fini(&pair);
}

static struct env_ops counted_ops;
static const struct env_ops *uncounted_ops;
static uint32_t recv_count; /* that brought something */

static ssize_t counted_recv(struct env *env, struct env_sock *sock, const struct iovec *iov,
			    uint32_t iov_count)
{
	ssize_t size = uncounted_ops->sock_recv(env, sock, iov, iov_count);

	recv_count += size > 0;
	return size;
}

/* Of lanes that take turns nobody keeps a big buffer, and behind a large frame another is received
 * in one piece; the first, and the first behind a small one, in two. */
static void check_large_frames(struct pair *pair, struct raw *raw)
{
	static const uint32_t key_counts[] = { 300, 300, 1000, 1, 300, 300 };
	static const uint32_t most[] = { 2, 1, 2, 1, 2, 1 };

	for (uint32_t i = 0; i < ARRAY_LEN(key_counts); i++) {
		uint32_t frames = pair->server.frame_count;

		recv_count = 0;
		raw_write(raw, frame, raw_probe(frame, NULL, 1 + i, key_counts[i]));
		PAIR_UNTIL(pair, pair->server.frame_count == frames + 1);
		assert_in_range(recv_count, 1, most[i]);
	}
}

static void large_frames_in_a_row_take_a_read_each(void **state)
{
	struct raw raws[HOLDERS];
	struct pair pair;

	start(&pair);
	uncounted_ops = pair.env->ops;
	counted_ops = *uncounted_ops;
	counted_ops.sock_recv = counted_recv;
	pair.env->ops = &counted_ops;
	for (uint32_t i = 0; i < HOLDERS; i++) {
		raw_connect(&raws[i], &pair, WIRE_LANE_MAX + i, true);
		check_large_frames(&pair, &raws[i]);
	}
	assert_int_equal(pair.server.closed, 0); /* none for keeping what others wait for */
	for (uint32_t i = 0; i < HOLDERS; i++)
		raw_close(&raws[i]);
	PAIR_UNTIL(&pair, pair.server.closed == HOLDERS);
	pair.env->ops = uncounted_ops;
	pair_fini(&pair);
}

/* --- a socket that always has more --- */

static struct env_ops endless_ops;
static uint32_t endless_size; /* of what is in frame, which comes again and again */
static uint32_t endless_at;
static uint32_t endless_reads; /* in this turn of the loop */

/* All that is asked for: over loopback a sender is too slow for that. */
static ssize_t endless_recv(struct env *env, struct env_sock *sock, const struct iovec *iov,
			    uint32_t iov_count)
{
	size_t size = 0;

	if (++endless_reads > 100)
		return -EAGAIN; /* this turn would not end */
	for (uint32_t i = 0; i < iov_count; i++) {
		uint8_t *to = iov[i].iov_base;

		for (size_t step, left = iov[i].iov_len; left > 0; left -= step, to += step) {
			step = MIN(left, endless_size - endless_at);
			memcpy(to, frame + endless_at, step);
			endless_at = (endless_at + (uint32_t)step) % endless_size;
		}
		size += iov[i].iov_len;
	}
	return (ssize_t)size;
}

static void endless_want(struct env *env, struct env_sock *sock, uint32_t size)
{
}

/* Reads of one turn, at most, of a lane whose peer sends so for ten of them. */
static uint32_t endless_turns(uint32_t size)
{
	const struct env_ops *ops;
	uint32_t most = 0;
	struct pair pair;
	struct raw raw;

	start(&pair);
	raw_connect(&raw, &pair, 0, true);
	ops = pair.env->ops;
	endless_ops = *ops;
	endless_ops.sock_recv = endless_recv;
	endless_ops.sock_want = endless_want;
	endless_size = size;
	endless_at = 0;
	pair.env->ops = &endless_ops;
	raw_write(&raw, frame, 1); /* so that there is something to read, in each turn */
	for (uint32_t turn = 0; turn < 10; turn++) {
		endless_reads = 0;
		PAIR_UNTIL(&pair, endless_reads > 0);
		most = MAX(most, endless_reads);
	}
	assert_int_equal(pair.server.closed, 0);
	pair.env->ops = ops;
	raw_close(&raw);
	pair_fini(&pair);
	return most;
}

/* The budget of a turn is 512 KiB; a read of control frames counts 64 KiB more than it brings. */
static void a_lane_that_always_has_more_takes_turns(void **state)
{
	assert_in_range(endless_turns(raw_probe(frame, NULL, 1, 100)), 1, 8);
	assert_in_range(endless_turns(raw_data(frame, NULL, WIRE_DATA_PUT, 7, 0, WIRE_DATA_MAX, 1)),
			1, 2);
}

/* --- beginning --- */

static struct env_ops failing_ops;
static const struct env_ops *working_ops;
static uint32_t fail_in; /* calls until the one that fails */
static int64_t held;     /* allocations, mappings and sockets */

static bool fails(void)
{
	return fail_in > 0 && --fail_in == 0;
}

static void *failing_alloc(struct env *env, size_t size)
{
	if (fails())
		return NULL;
	held++;
	return working_ops->alloc(env, size);
}

static void counting_free(struct env *env, void *ptr)
{
	held -= ptr != NULL;
	working_ops->free(env, ptr);
}

static void *failing_map(struct env *env, size_t size)
{
	if (fails())
		return NULL;
	held++;
	return working_ops->map(env, size);
}

static void counting_unmap(struct env *env, void *ptr, size_t size)
{
	held--;
	working_ops->unmap(env, ptr, size);
}

static int failing_listen(struct env *env, const char *address, struct env_sock **sock_out)
{
	if (fails())
		return -EADDRINUSE;
	held++;
	return working_ops->sock_listen(env, address, sock_out);
}

static int failing_connect(struct env *env, const char *address, struct env_sock **sock_out)
{
	if (fails())
		return -ENETUNREACH;
	held++;
	return working_ops->sock_connect(env, address, sock_out);
}

static void counting_close(struct env *env, struct env_sock *sock)
{
	held--;
	working_ops->sock_close(env, sock);
}

/* Fail the first call, then the second, … until it succeeds. Nothing is held after a failure. */
static void listen_and_connect_survive_each_fault(void **state)
{
	const struct wire_preface preface = { .version_min = 1 };
	struct xprt_listener *listener = NULL;
	struct xprt_lane *lane = NULL;
	struct pair pair;
	uint32_t faults;
	int rc;

	start(&pair);
	working_ops = pair.env->ops;
	failing_ops = *working_ops;
	failing_ops.alloc = failing_alloc;
	failing_ops.free = counting_free;
	failing_ops.map = failing_map;
	failing_ops.unmap = counting_unmap;
	failing_ops.sock_listen = failing_listen;
	failing_ops.sock_connect = failing_connect;
	failing_ops.sock_close = counting_close;
	pair.env->ops = &failing_ops;
	for (faults = 1;; faults++) {
		fail_in = faults;
		rc = xprt_tcp.listen(&xprt_tcp, pair.env, "127.0.0.1:0", 3, &pair_server_user,
				     &pair, &listener);
		if (rc == 0)
			break;
		assert_null(listener);
		assert_int_equal(held, 0);
	}
	assert_int_equal(faults, 4); /* an allocation, a mapping, a socket: none was skipped */
	xprt_tcp.unlisten(&listener);
	assert_int_equal(held, 0);
	for (faults = 1;; faults++) {
		fail_in = faults;
		rc = xprt_tcp.connect(pair.env, pair.address, &preface, &pair_client_user, &pair,
				      &lane);
		if (rc == 0)
			break;
		assert_null(lane);
		assert_int_equal(held, 0);
	}
	assert_int_equal(faults, 4);
	xprt_tcp.close(&lane);
	assert_int_equal(held, 0);
	pair.env->ops = working_ops;
	pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stream_may_come_byte_by_byte),
		cmocka_unit_test(a_flipped_bit_ends_the_lane),
		cmocka_unit_test(a_frame_counts_once_and_in_its_turn),
		cmocka_unit_test(secured_lanes_carry_everything_both_ways),
		cmocka_unit_test(what_was_sent_before_secure_has_no_mac),
		cmocka_unit_test(a_header_that_asks_for_much_ends_the_lane_at_once),
		cmocka_unit_test(a_truncated_frame_ends_the_lane),
		cmocka_unit_test(an_unknown_kind_does_not_end_the_lane),
		cmocka_unit_test(before_hello_there_is_neither_data_nor_a_large_frame),
		cmocka_unit_test(a_preface_of_something_else_is_not_answered),
		cmocka_unit_test(a_preface_of_another_version_is_refused_with_the_reason),
		cmocka_unit_test(silent_connections_do_not_keep_others_out),
		cmocka_unit_test(a_full_pool_takes_the_next_when_one_leaves),
		cmocka_unit_test(listen_and_connect_survive_each_fault),
		cmocka_unit_test(large_frames_that_stop_do_not_block_the_server),
		cmocka_unit_test(large_frames_that_trickle_do_not_block_the_server),
		cmocka_unit_test(large_answers_that_nobody_reads_do_not_block_the_server),
		cmocka_unit_test(large_frames_in_a_row_take_a_read_each),
		cmocka_unit_test(a_lane_that_always_has_more_takes_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
