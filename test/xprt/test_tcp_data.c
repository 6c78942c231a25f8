/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Payload over tcp, against a peer that is a bare socket: data that fits no grant, comes twice, is
 * cut off, is half there when nobody wants it any more, or is never taken.
 */
#include "raw.h"

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

/* --- data --- */

struct pulled {
	struct pair pair;
	struct pair_block *block;
	struct pair_move move;
	struct raw raw;
};

/* A pull of 100,000 bytes whose GRANT the bare client has read. */
static void pulled_start(struct pulled *pulled)
{
	struct wire_header header;

	start(&pulled->pair);
	raw_connect(&pulled->raw, &pulled->pair, 0, true);
	pulled->block = pair_block_add(&pulled->pair, 9, 100000, 100000);
	pair_move_init(&pulled->move, &pulled->pair, pulled->block, 0, 100000, 3);
	xprt_tcp.pull(pulled->pair.server.group.lanes[0], &pulled->move.move);
	assert_true(raw_read_frame(&pulled->raw, frame, sizeof(frame)) > 0);
	memcpy(&header, frame, sizeof(header));
	assert_int_equal(header.kind, WIRE_GRANT);
	assert_int_equal(header.request, 9);
	assert_int_equal(header.count, 1);
}

static void pulled_end(struct pulled *pulled)
{
	raw_close(&pulled->raw);
	pair_settle(&pulled->pair);
	assert_int_equal(pulled->move.done, 1);
	pair_move_fini(&pulled->move);
	pair_fini(&pulled->pair);
}

static void data_that_does_not_fit_its_grant_ends_the_lane(void **state)
{
	const uint32_t sizes[] = { 1, 99999, 100001, WIRE_DATA_MAX };

	for (uint32_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct pulled p;

		pulled_start(&p);
		raw_write(&p.raw, frame, raw_data(frame, NULL, WIRE_DATA_PUT, 9, 0, sizes[i], 4));
		PAIR_UNTIL(&p.pair, p.move.done > 0);
		assert_int_equal(p.move.rc, -ERR_PROTOCOL);
		assert_int_equal(p.pair.server.closed, 1);
		pulled_end(&p);
	}
}

static void data_that_nobody_waits_for_is_dropped(void **state)
{
	struct pulled p;

	pulled_start(&p);
	raw_write(&p.raw, frame, raw_data(frame, NULL, WIRE_DATA_PUT, 8, 0, WIRE_DATA_MAX, 1));
	raw_write(&p.raw, frame, raw_data(frame, NULL, WIRE_DATA_PUT, 9, 1, 100000, 2));
	raw_write(&p.raw, frame, raw_data(frame, NULL, WIRE_DATA_PUT, 9, 0, 100000, 3));
	raw_write(&p.raw, frame, raw_data(frame, NULL, WIRE_DATA_PUT, 9, 0, 100000, 4));
	raw_write(&p.raw, frame, raw_probe(frame, NULL, 1, 1));
	PAIR_UNTIL(&p.pair, p.pair.server.frame_count == 1);
	assert_int_equal(p.move.done, 1);
	assert_int_equal(p.move.rc, 0);
	assert_true(pair_is_filled(p.move.bytes, 100000, 3));
	pulled_end(&p);
}

/* A lane that ends takes its own pulls with it, not those of the others. */
static void a_pull_outlives_another_lane(void **state)
{
	struct pair_block *other_block;
	struct pair_move other;
	struct raw raw;
	struct pulled p;

	pulled_start(&p);
	raw_connect(&raw, &p.pair, 1, true);
	other_block = pair_block_add(&p.pair, 10, 5000, 5000);
	pair_move_init(&other, &p.pair, other_block, 0, 5000, 1);
	xprt_tcp.pull(p.pair.server.group.lanes[1], &other.move);
	assert_true(raw_read_frame(&raw, frame, sizeof(frame)) > 0);
	raw_close(&p.raw);
	PAIR_UNTIL(&p.pair, p.pair.server.closed == 1);
	assert_int_equal(p.move.done, 1);
	assert_int_equal(p.move.rc, -ERR_PEER);
	assert_int_equal(other.done, 0);
	raw_write(&raw, frame, raw_data(frame, NULL, WIRE_DATA_PUT, 10, 0, 5000, 6));
	PAIR_UNTIL(&p.pair, other.done == 1);
	assert_int_equal(other.rc, 0);
	assert_true(pair_is_filled(other.bytes, 5000, 6));
	pair_move_fini(&other);
	raw_close(&raw);
	pulled_end(&p);
}

static void data_cut_off_fails_its_pull(void **state)
{
	struct pulled p;

	pulled_start(&p);
	raw_write(&p.raw, frame, raw_data(frame, NULL, WIRE_DATA_PUT, 9, 0, 100000, 4) / 2);
	raw_close(&p.raw);
	PAIR_UNTIL(&p.pair, p.move.done > 0);
	assert_int_equal(p.move.rc, -ERR_PEER);
	pulled_end(&p);
}

/* Whoever watches a move must see it go on, however few bytes come at a time. */
static void a_slow_pull_goes_on(void **state)
{
	struct pair_block *block;
	struct pair_move move;
	struct pair pair;
	struct raw raw;
	uint32_t size;

	start(&pair);
	raw_connect(&raw, &pair, 0, true);
	block = pair_block_add(&pair, 9, MiB, MiB);
	pair_move_init(&move, &pair, block, 0, MiB, 3);
	xprt_tcp.pull(pair.server.group.lanes[0], &move.move);
	assert_true(raw_read_frame(&raw, frame, sizeof(frame)) > 0);
	size = raw_data(frame, NULL, WIRE_DATA_PUT, 9, 0, MiB, 4);
	for (uint32_t i = 0; i < 10; i++) {
		uint64_t begin_ns = env_now_ns(pair.env);

		raw_write(&raw, frame + i * 50000, 50000);
		PAIR_UNTIL(&pair, pair.server.group.lanes[0]->bytes_in == raw.sent);
		assert_true(env_now_ns(pair.env) - begin_ns < NS_PER_S);
	}
	assert_true(move.move.moved > 400000);
	raw_write(&raw, frame + 500000, size - 500000);
	PAIR_UNTIL(&pair, move.done == 1);
	assert_int_equal(move.rc, 0);
	assert_true(pair_is_filled(move.bytes, MiB, 4));
	pair_move_fini(&move);
	raw_close(&raw);
	pair_fini(&pair);
}

static void a_pull_revoked_half_received_touches_no_memory(void **state)
{
	uint32_t size;
	struct pulled p;

	pulled_start(&p);
	size = raw_data(frame, NULL, WIRE_DATA_PUT, 9, 0, 100000, 4);
	raw_write(&p.raw, frame, size / 2);
	PAIR_UNTIL(&p.pair, p.pair.server.group.lanes[0]->bytes_in == p.raw.sent);
	xprt_tcp.revoke(&p.move.move);
	PAIR_UNTIL(&p.pair, p.move.done > 0);
	assert_int_equal(p.move.rc, -ECANCELED);
	memset(p.move.bytes, 0x55, 100000);
	raw_write(&p.raw, frame + size / 2, size - size / 2);
	raw_write(&p.raw, frame, raw_probe(frame, NULL, 1, 1));
	PAIR_UNTIL(&p.pair, p.pair.server.frame_count == 1);
	for (uint32_t i = 0; i < 100000; i++)
		assert_int_equal(p.move.bytes[i], 0x55);
	pulled_end(&p);
}

/* --- forget --- */

struct dialed {
	struct pair pair;
	struct xprt_lane *lane;
	struct raw raw;
	int fd;
};

static void dialed_start(struct dialed *dialed)
{
	char address[64];

	start(&dialed->pair);
	dialed->fd = raw_listen(address, sizeof(address));
	dialed->lane = pair_dial(&dialed->pair, address, 0);
	raw_accept(&dialed->raw, &dialed->pair, dialed->fd, 0);
}

static void dialed_end(struct dialed *dialed)
{
	raw_close(&dialed->raw);
	close(dialed->fd);
	pair_fini(&dialed->pair);
}

static void text_write(struct raw *raw, uint64_t request)
{
	struct wire_text text = { .size = 0 };
	struct wire_header header;

	wire_header_init(&header, WIRE_TEXT, request, 0, sizeof(text));
	raw_write(raw, &header, sizeof(header));
	raw_write(raw, &text, sizeof(text));
}

static void a_get_forgotten_half_received_touches_no_memory(void **state)
{
	const uint32_t cuts[] = { 64, 65, 1000, 500000, WIRE_DATA_MAX + 63 };

	for (uint32_t i = 0; i < ARRAY_LEN(cuts); i++) {
		struct pair_block *block;
		struct dialed d;
		uint32_t size;

		dialed_start(&d);
		block = pair_block_add(&d.pair, 5, WIRE_DATA_MAX, 3000);
		size = raw_data(frame, NULL, WIRE_DATA_GET, 5, 0, WIRE_DATA_MAX, 8);
		raw_write(&d.raw, frame, cuts[i]);
		PAIR_UNTIL(&d.pair, d.lane->bytes_in == d.raw.sent);
		xprt_tcp.forget(&d.pair.client.group, 5);
		block->is_gone = true;
		memset(block->bytes, 0x55, block->size);
		raw_write(&d.raw, frame + cuts[i], size - cuts[i]);
		text_write(&d.raw, 6);
		PAIR_UNTIL(&d.pair, d.pair.client.frame_count == 1);
		for (uint32_t k = 0; k < block->size; k++)
			assert_int_equal(block->bytes[k], 0x55);
		assert_int_equal(block->got, 0);
		dialed_end(&d);
	}
}

static bool is_readable(const struct raw *raw)
{
	char byte;

	return recv(raw->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* The server reads nothing, so the client stops in the middle of a DATA_PUT. What it sends of it
 * after the caller has his memory back is still what was to be put. */
static void a_put_forgotten_half_sent_is_sent_right(void **state)
{
	const uint32_t piece_sizes[] = { WIRE_DATA_MAX, 70000, 3000, WIRE_DATA_MAX, 3000, 700 };

	for (uint32_t i = 0; i < ARRAY_LEN(piece_sizes); i++) {
		const uint32_t size = i < 3 ? MiB : 64 * KiB; /* several are under way */
		const uint32_t begun_max = MiB / size;
		uint8_t *expected = malloc(16 * MiB);
		struct pair_block *block;
		uint32_t received = 0;
		struct dialed d;

		dialed_start(&d);
		block = pair_block_add(&d.pair, 5, 16 * MiB, piece_sizes[i]);
		pair_fill(block->bytes, block->size, i);
		memcpy(expected, block->bytes, block->size);
		raw_write(&d.raw, frame, raw_grants(frame, 5, (uint16_t)(16 * MiB / size), size));
		pair_settle(&d.pair);
		assert_true(block->sent < 16 * MiB); /* else the test shows nothing */
		xprt_tcp.forget(&d.pair.client.group, 5);
		block->is_gone = true;
		memset(block->bytes, 0x55, block->size);
		text_write(&d.raw, 6);
		PAIR_UNTIL(&d.pair, d.pair.client.frame_count == 1);
		while (d.lane->backlog_size > 0 || is_readable(&d.raw)) {
			struct wire_header header;
			struct wire_data data;

			assert_true(raw_read_frame(&d.raw, frame, sizeof(frame)) > 0);
			memcpy(&header, frame, sizeof(header));
			memcpy(&data, frame + sizeof(header), sizeof(data));
			assert_int_equal(header.kind, WIRE_DATA_PUT);
			assert_int_equal(header.payload_size, size);
			assert_memory_equal(frame + sizeof(header) + sizeof(data),
					    expected + data.offset, size);
			received++;
		}
		/* Those under way, where the sockets did not end between two, and no others. */
		assert_true(received >= block->sent / size);
		assert_true(received <= block->sent / size + begun_max);
		assert_int_equal(d.pair.client.closed, 0);
		free(expected);
		dialed_end(&d);
	}
}

/* --- floods and standstills --- */

/* More grants than the client queues: it reads on when it has answered some. */
static void a_flood_of_grants_is_answered(void **state)
{
	uint32_t answers[6] = { 0 };
	struct dialed d;

	dialed_start(&d);
	for (uint32_t i = 0; i < 6; i++) {
		(void)pair_block_add(&d.pair, i + 1, 256 * 32 * KiB, 32 * KiB);
		raw_write(&d.raw, frame, raw_grants(frame, i + 1, 256, 32 * KiB));
	}
	text_write(&d.raw, 9);
	pair_settle(&d.pair);
	assert_int_equal(d.pair.client.frame_count, 0);
	for (uint32_t i = 0; i < 6 * 256; i++) {
		struct wire_header header;

		assert_true(raw_read_frame(&d.raw, frame, sizeof(frame)) > 0);
		memcpy(&header, frame, sizeof(header));
		assert_int_equal(header.kind, WIRE_DATA_PUT);
		answers[header.request - 1]++;
	}
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(answers[i], 256);
	PAIR_UNTIL(&d.pair, d.pair.client.frame_count == 1);
	dialed_end(&d);
}

static ssize_t stuck_send(struct env *env, struct env_sock *sock, const struct iovec *iov,
			  uint32_t iov_count)
{
	return -EAGAIN;
}

#define TINY_SIZE 16
#define FLOODS    9 /* of 256 grants: as many as two lanes queue, and one more */

/* There was room for a GRANT when its head came, and there is none when all of it is there: others
 * came by the other lane. */
static void a_grant_that_comes_in_two_waits_for_room(void **state)
{
	const uint32_t cut = sizeof(struct wire_header) + 100;
	const struct env_ops *ops;
	struct env_ops stuck_ops;
	struct xprt_lane *second;
	struct dialed d;
	struct raw other;
	char address[64];
	uint32_t size;
	int fd;

	dialed_start(&d);
	fd = raw_listen(address, sizeof(address));
	second = pair_dial(&d.pair, address, 1);
	raw_accept(&other, &d.pair, fd, 1);
	ops = d.pair.env->ops;
	stuck_ops = *ops;
	stuck_ops.sock_send = stuck_send;
	d.pair.env->ops = &stuck_ops;
	for (uint32_t i = 0; i < FLOODS; i++)
		(void)pair_block_add(&d.pair, i + 1, 256 * TINY_SIZE, TINY_SIZE);
	size = raw_grants(frame, FLOODS, 256, TINY_SIZE);
	raw_write(&other, frame, cut);
	PAIR_UNTIL(&d.pair, second->bytes_in == cut);
	for (uint32_t i = 0; i + 1 < FLOODS; i++)
		raw_write(&d.raw, frame, raw_grants(frame, i + 1, 256, TINY_SIZE));
	pair_settle(&d.pair);
	(void)raw_grants(frame, FLOODS, 256, TINY_SIZE);
	raw_write(&other, frame + cut, size - cut);
	pair_settle(&d.pair);
	d.pair.env->ops = ops;
	for (uint32_t i = 0; i < FLOODS; i++)
		PAIR_UNTIL(&d.pair, d.pair.blocks[i].sent == 256 * TINY_SIZE);
	raw_close(&other);
	close(fd);
	dialed_end(&d);
}

static const struct env_ops *uncounted_ops;
static uint64_t turn_size; /* bytes sent in it */

static ssize_t counted_send(struct env *env, struct env_sock *sock, const struct iovec *iov,
			    uint32_t iov_count)
{
	ssize_t size = uncounted_ops->sock_send(env, sock, iov, iov_count);

	turn_size += (uint64_t)MAX(size, 0);
	return size;
}

#define SMALL_SIZE (4 * KiB)
#define ROUND_SIZE (256 * KiB)

/* A client looks at what came in when it has sent ROUND_SIZE, in however many calls. */
static void small_grants_are_answered_in_turns(void **state)
{
	struct env_ops counted_ops;
	uint64_t sum = 0;
	struct dialed d;

	dialed_start(&d);
	uncounted_ops = d.pair.env->ops;
	counted_ops = *uncounted_ops;
	counted_ops.sock_send = counted_send;
	for (uint32_t i = 0; i < 3; i++) {
		(void)pair_block_add(&d.pair, i + 1, 256 * SMALL_SIZE, SMALL_SIZE);
		raw_write(&d.raw, frame, raw_grants(frame, i + 1, 256, SMALL_SIZE));
	}
	d.pair.env->ops = &counted_ops;
	for (uint32_t turn = 0; turn < 20; turn++, sum += turn_size) {
		turn_size = 0;
		pair_poll(&d.pair);
		/* Once for the socket, once for the lane's task; and a call's more. */
		assert_true(turn_size < 2 * (ROUND_SIZE + 17 * SMALL_SIZE));
	}
	assert_true(sum > ROUND_SIZE);
	d.pair.env->ops = uncounted_ops;
	dialed_end(&d);
}

/* Two lanes have count grants of size bytes between them, and one dies. */
static void a_lane_dies_with_grants(uint16_t count, uint32_t size)
{
	const uint32_t frame_size =
		(uint32_t)(size + sizeof(struct wire_header)) + (uint32_t)sizeof(struct wire_data);
	bool is_there[256] = { false };
	struct xprt_lane *second;
	struct dialed d;
	struct raw other;
	uint32_t lost = 0;
	char address[64];
	int fd;

	dialed_start(&d);
	fd = raw_listen(address, sizeof(address));
	second = pair_dial(&d.pair, address, 1);
	raw_accept(&other, &d.pair, fd, 1);
	(void)pair_block_add(&d.pair, 5, count * size, size);
	raw_write(&d.raw, frame, raw_grants(frame, 5, count, size));
	pair_settle(&d.pair);
	assert_true(second->bytes_out > 0);
	/* Of what is lost some byte was sent. */
	lost = (uint32_t)(second->bytes_out - sizeof(struct wire_preface) + frame_size - 1) /
	       frame_size;
	raw_close(&other);
	PAIR_UNTIL(&d.pair, d.pair.client.closed == 1);
	for (uint32_t i = 0; i < count - lost; i++) {
		struct wire_data data;

		assert_true(raw_read_frame(&d.raw, frame, sizeof(frame)) > 0);
		memcpy(&data, frame + sizeof(struct wire_header), sizeof(data));
		assert_false(is_there[data.offset / size]);
		is_there[data.offset / size] = true;
	}
	pair_settle(&d.pair);
	assert_int_equal(d.lane->backlog_size, 0);
	close(fd);
	dialed_end(&d);
}

/* A lane dies with grants unanswered: another one answers them. */
static void grants_of_a_dead_lane_are_answered_by_another(void **state)
{
	a_lane_dies_with_grants(32, MiB);
	a_lane_dies_with_grants(256, 128 * KiB); /* several answers are begun */
}

/* A pull on a lane whose done() pushes again there. */
struct again {
	struct pair pair;
	struct raw raw;
	struct pair_move first;
	struct pair_move second;
};

static void again_init(struct again *again)
{
	struct pair_block *block;

	start(&again->pair);
	raw_connect(&again->raw, &again->pair, 0, true);
	block = pair_block_add(&again->pair, 9, 1000, 1000);
	pair_move_init(&again->first, &again->pair, block, 0, 1000, 1);
	pair_move_init(&again->second, &again->pair, block, 0, 1000, 1);
	again->first.pushes = &again->second.move;
	xprt_tcp.pull(again->pair.server.group.lanes[0], &again->first.move);
	pair_settle(&again->pair);
	assert_int_equal(again->first.done, 0);
}

static void again_fini(struct again *again)
{
	pair_move_fini(&again->first);
	pair_move_fini(&again->second);
	pair_fini(&again->pair);
}

/* The lane just dies: that move fails, too, and once. */
static void a_push_on_a_dying_lane_fails(void **state)
{
	struct again again;

	again_init(&again);
	raw_close(&again.raw);
	PAIR_UNTIL(&again.pair, again.pair.server.closed == 1);
	assert_int_equal(again.first.rc, again.pair.server.why);
	assert_int_equal(again.second.rc, again.pair.server.why);
	pair_settle(&again.pair);
	assert_int_equal(again.first.done, 1);
	assert_int_equal(again.second.done, 1);
	again_fini(&again);
}

/* It is being closed. */
static void a_push_on_a_closing_lane_fails(void **state)
{
	struct again again;

	again_init(&again);
	xprt_tcp.close(&again.pair.server.group.lanes[0]);
	assert_int_equal(again.first.rc, -ECANCELED);
	assert_int_equal(again.second.done, 1);
	assert_int_equal(again.second.rc, -ECANCELED);
	raw_close(&again.raw);
	again_fini(&again);
}

/* A client that takes nothing: its pushes wait, and every byte comes once it reads. */
static void a_client_that_stops_reading_gets_all_in_the_end(void **state)
{
	struct pair_move moves[40];
	struct pair_block *block;
	struct pair pair;
	struct raw raw;
	uint32_t done = 0;

	start(&pair);
	raw_connect(&raw, &pair, 0, true);
	block = pair_block_add(&pair, 1, MiB, MiB);
	for (uint32_t i = 0; i < ARRAY_LEN(moves); i++) {
		pair_move_init(&moves[i], &pair, block, 0, MiB, 3);
		pair_fill(moves[i].bytes, MiB, i);
		xprt_tcp.push(pair.server.group.lanes[0], &moves[i].move);
	}
	pair_settle(&pair);
	for (uint32_t i = 0; i < ARRAY_LEN(moves); i++)
		done += moves[i].done;
	assert_true(done < ARRAY_LEN(moves));
	for (uint32_t i = 0; i < ARRAY_LEN(moves); i++) {
		assert_int_equal(raw_read_frame(&raw, frame, sizeof(frame)), MiB + 64);
		assert_true(pair_is_filled(frame + 64, MiB, i));
		PAIR_UNTIL(&pair, moves[i].done == 1);
		pair_move_fini(&moves[i]);
	}
	raw_close(&raw);
	pair_fini(&pair);
}

static uint64_t asked_first; /* what the first call was given; 0: there was none */

static ssize_t asked_send(struct env *env, struct env_sock *sock, const struct iovec *iov,
			  uint32_t iov_count)
{
	uint64_t asked = 0;

	for (uint32_t i = 0; i < iov_count; i++)
		asked += iov[i].iov_len;
	if (asked_first == 0)
		asked_first = asked;
	return uncounted_ops->sock_send(env, sock, iov, iov_count);
}

/* So many blocks of 64 KiB are in the first call when count wait. */
static uint64_t first_call(uint32_t count)
{
	const uint32_t size = 64 * KiB;
	struct pair_move moves[32];
	struct env_ops asked_ops;
	struct pair_block *block;
	struct pair pair;
	struct raw raw;

	start(&pair);
	raw_connect(&raw, &pair, 0, true);
	block = pair_block_add(&pair, 1, size, size);
	uncounted_ops = pair.env->ops;
	asked_ops = *uncounted_ops;
	asked_ops.sock_send = asked_send;
	pair.env->ops = &asked_ops;
	asked_first = 0;
	for (uint32_t i = 0; i < count; i++) {
		pair_move_init(&moves[i], &pair, block, 0, size, 3);
		xprt_tcp.push(pair.server.group.lanes[0], &moves[i].move);
	}
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(raw_read_frame(&raw, frame, sizeof(frame)), size + 64);
		PAIR_UNTIL(&pair, moves[i].done == 1);
		pair_move_fini(&moves[i]);
	}
	pair.env->ops = uncounted_ops;
	raw_close(&raw);
	pair_fini(&pair);
	assert_int_equal(asked_first % (size + 64), 0);
	return asked_first / (size + 64);
}

/* The client is to have something to go on with while the second half is sent. */
static void of_a_few_pushes_half_are_sent_first(void **state)
{
	assert_int_equal(first_call(1), 1);
	assert_int_equal(first_call(4), 4); /* too little to share out */
	assert_int_equal(first_call(8), 4);
	assert_int_equal(first_call(12), 6);
	assert_int_equal(first_call(32), 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_that_does_not_fit_its_grant_ends_the_lane),
		cmocka_unit_test(data_that_nobody_waits_for_is_dropped),
		cmocka_unit_test(a_pull_outlives_another_lane),
		cmocka_unit_test(data_cut_off_fails_its_pull),
		cmocka_unit_test(a_slow_pull_goes_on),
		cmocka_unit_test(a_pull_revoked_half_received_touches_no_memory),
		cmocka_unit_test(a_get_forgotten_half_received_touches_no_memory),
		cmocka_unit_test(a_put_forgotten_half_sent_is_sent_right),
		cmocka_unit_test(a_flood_of_grants_is_answered),
		cmocka_unit_test(a_grant_that_comes_in_two_waits_for_room),
		cmocka_unit_test(small_grants_are_answered_in_turns),
		cmocka_unit_test(grants_of_a_dead_lane_are_answered_by_another),
		cmocka_unit_test(a_push_on_a_dying_lane_fails),
		cmocka_unit_test(a_push_on_a_closing_lane_fails),
		cmocka_unit_test(a_client_that_stops_reading_gets_all_in_the_end),
		cmocka_unit_test(of_a_few_pushes_half_are_sent_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
