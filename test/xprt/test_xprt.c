/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every transport must do, run over each kind of pair.c: control frames arrive whole and in
 * order, "no room" takes nothing, moves bring exactly their bytes and are done exactly once,
 * whatever happens to the lane.
 */
#include "pair.h"

#include "../../src/base/hash.h"
#include "../lib/t.h"

#include <stdlib.h>
#include <string.h>

static const struct pair_kind *kind; /* the tests of main() run once for each */

/* --- control frames --- */

/* A body that passes wire_check_body(): a request with count keys. */
static uint32_t probe_body(uint8_t *body, uint32_t count, uint32_t seed)
{
	uint32_t size = (uint32_t)(sizeof(struct wire_request) + count * sizeof(struct wire_key));

	memset(body, 0, sizeof(struct wire_request));
	pair_fill(body + sizeof(struct wire_request), count * (uint32_t)sizeof(struct wire_key),
		  seed);
	return size;
}

static int probe_send(struct xprt_lane *lane, uint64_t request, uint32_t count)
{
	static uint8_t body[WIRE_BODY_MAX];
	struct wire_header header;
	uint32_t size = probe_body(body, count, (uint32_t)request);

	wire_header_init(&header, WIRE_PROBE, request, (uint16_t)count, size);
	return lane->ops->send(lane, &header, body, NULL, 0);
}

static uint32_t probe_crc(uint64_t request, uint32_t count)
{
	static uint8_t body[WIRE_BODY_MAX];

	return crc32c(0, body, probe_body(body, count, (uint32_t)request));
}

/* A TEXT of size bytes behind its head: odd sizes, up to WIRE_BODY_MAX. */
static int text_send(struct xprt_lane *lane, uint64_t request, uint32_t size)
{
	static uint8_t body[WIRE_BODY_MAX];
	struct wire_text text = { .size = size };
	struct wire_header header;

	memcpy(body, &text, sizeof(text));
	pair_fill(body + sizeof(text), size, (uint32_t)request);
	wire_header_init(&header, WIRE_TEXT, request, 0, (uint32_t)sizeof(text) + size);
	return lane->ops->send(lane, &header, body, NULL, 0);
}

static void frames_arrive_whole_and_in_order(void **state)
{
	struct pair pair;

	pair_init(&pair, kind);
	pair_connect(&pair, 2);
	for (uint32_t i = 0; i < 400; i++) {
		uint32_t count = i % 37 == 0 ? 1000 : 1 + i % 50;
		uint32_t size = i % 41 == 0 ? 60000 : 1 + i % 300;

		while (probe_send(pair.client.group.lanes[0], i + 1, count) == -EAGAIN)
			pair_poll(&pair);
		while (text_send(pair.server.group.lanes[1], i + 1, size) == -EAGAIN)
			pair_poll(&pair);
	}
	PAIR_UNTIL(&pair, pair.server.frame_count == 400 && pair.client.frame_count == 400);
	for (uint32_t i = 0; i < 400; i++) {
		const struct pair_frame *probe = &pair.server.frames[i];
		const struct pair_frame *text = &pair.client.frames[i];

		assert_int_equal(probe->kind, WIRE_PROBE);
		assert_int_equal(probe->lane, 0);
		assert_int_equal(probe->request, i + 1);
		assert_int_equal(probe->count, i % 37 == 0 ? 1000 : 1 + i % 50);
		assert_int_equal(probe->crc, probe_crc(i + 1, probe->count));
		assert_int_equal(text->kind, WIRE_TEXT);
		assert_int_equal(text->lane, 1);
		assert_int_equal(text->request, i + 1);
		assert_int_equal(text->body_size,
				 sizeof(struct wire_text) + (i % 41 == 0 ? 60000 : 1 + i % 300));
	}
	pair_fini(&pair);
}

static void inline_payload_comes_with_its_frame(void **state)
{
	static uint8_t payload[WIRE_INLINE_MAX];
	const uint32_t sizes[] = { 1, 7, 4096, 8000, 65535, WIRE_INLINE_MAX };
	struct pair pair;

	pair_init(&pair, kind);
	pair_connect(&pair, 1);
	for (uint32_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct {
			struct wire_request request;
			struct wire_put put;
		} body = { .put = { .size = sizes[i], .flags = WIRE_PUT_INLINE } };
		struct iovec pieces[2] = { { payload, sizes[i] / 3 },
					   { payload + sizes[i] / 3, sizes[i] - sizes[i] / 3 } };
		struct wire_header header;
		int rc;

		pair_fill(payload, sizes[i], i);
		wire_header_init(&header, WIRE_PUT, i + 1, 1, sizeof(body));
		header.payload_size = sizes[i];
		rc = kind->ops->send(pair.client.group.lanes[0], &header, &body, pieces, 2);
		assert_int_equal(rc, 0);
		memset(payload, 0xee, sizeof(payload)); /* it was copied */
		PAIR_UNTIL(&pair, pair.server.frame_count == i + 1);
		pair_fill(payload, sizes[i], i);
		assert_int_equal(pair.server.frames[i].payload_size, sizes[i]);
		assert_int_equal(pair.server.frames[i].crc,
				 crc32c(crc32c(0, &body, sizeof(body)), payload, sizes[i]));
	}
	pair_fini(&pair);
}

/* The receiver reads nothing (where there is no socket, nobody polls): the sender is told so after
 * a bounded amount, nothing of a refused frame is sent, and everything that was taken arrives once
 * it reads. */
static void a_slow_reader_pushes_back(struct pair *pair, struct xprt_lane *from,
				      struct xprt_lane *to, struct pair_end *sender,
				      struct pair_end *receiver,
				      int (*send)(struct xprt_lane *, uint64_t, uint32_t))
{
	bool has_socket = pair_hold(pair, to);
	uint64_t since_ns = env_now_ns(pair->env);
	uint32_t sent = 0;

	while (env_now_ns(pair->env) - since_ns < PAIR_QUIET_NS) {
		int rc = send(from, sent + 1, 100);

		if (rc == 0) {
			sent++;
			since_ns = env_now_ns(pair->env);
			assert_true(sent < PAIR_FRAME_MAX); /* 3 MiB and more would be growth */
		} else {
			assert_int_equal(rc, -EAGAIN);
			if (!has_socket)
				break;
			pair_poll(pair);
		}
	}
	while (send(from, sent + 1, 100) == 0)
		sent++;
	assert_int_equal(receiver->frame_count, 0);
	assert_true(from->backlog_size <= 512 * KiB);
	sender->writable = 0;
	pair_release(pair);
	PAIR_UNTIL(pair, receiver->frame_count == sent);
	PAIR_UNTIL(pair, sender->writable > 0);
	for (uint32_t i = 0; i < sent; i++)
		assert_int_equal(receiver->frames[i].request, i + 1);
	assert_int_equal(send(from, sent + 1, 100), 0);
	PAIR_UNTIL(pair, receiver->frame_count == sent + 1);
}

static int large_text_send(struct xprt_lane *lane, uint64_t request, uint32_t count)
{
	return text_send(lane, request, 4000);
}

static int large_probe_send(struct xprt_lane *lane, uint64_t request, uint32_t count)
{
	return probe_send(lane, request, 120);
}

static void a_slow_server_pushes_back(void **state)
{
	struct pair pair;

	pair_init(&pair, kind);
	pair_connect(&pair, 1);
	a_slow_reader_pushes_back(&pair, pair.client.group.lanes[0], pair.server.group.lanes[0],
				  &pair.client, &pair.server, large_probe_send);
	pair_fini(&pair);
}

static void a_slow_client_pushes_back(void **state)
{
	struct pair pair;

	pair_init(&pair, kind);
	pair_connect(&pair, 1);
	a_slow_reader_pushes_back(&pair, pair.server.group.lanes[0], pair.client.group.lanes[0],
				  &pair.server, &pair.client, large_text_send);
	pair_fini(&pair);
}

/* --- moves --- */

static const struct move_case {
	uint32_t size;
	uint32_t piece_count; /* of the server's memory */
	uint32_t piece_size;  /* of the client's */
} move_cases[] = {
	{ 1, 1, 1 },
	{ 63, 3, 7 },
	{ 4096, 1, 4096 },
	{ 8191, 17, 1000 },
	{ 65536 + 1, 2, 65536 },
	{ 300000, 5, 1500 }, /* more pieces than a call to locate() gives */
	{ MiB, 1, MiB },
	{ MiB, 17, 4096 },
};

/* By one move over the only lane. */
static void block_moves(struct pair *pair, struct pair_block *block, const struct move_case *c,
			bool is_push)
{
	struct xprt_lane *lane = pair->server.group.lanes[0];
	struct pair_move move;

	pair_move_init(&move, pair, block, 0, c->size, c->piece_count);
	pair_fill(is_push ? move.bytes : block->bytes, c->size, c->size);
	if (is_push)
		kind->ops->push(lane, &move.move);
	else
		kind->ops->pull(lane, &move.move);
	assert_int_equal(move.done, 0); /* never out of the middle of a call */
	PAIR_UNTIL(pair, move.done > 0);
	if ((kind->ops->caps & XPRT_CAP_DIRECT) == 0)
		PAIR_UNTIL(pair, (is_push ? block->got : block->sent) == c->size);
	assert_int_equal(move.done, 1);
	assert_int_equal(move.rc, 0);
	assert_true(pair_is_filled(is_push ? block->bytes : move.bytes, c->size, c->size));
	pair_move_fini(&move);
}

static void blocks_move(bool is_push)
{
	struct pair pair;

	pair_init(&pair, kind);
	pair_connect(&pair, 1);
	for (uint32_t i = 0; i < ARRAY_LEN(move_cases); i++) {
		const struct move_case *c = &move_cases[i];

		block_moves(&pair, pair_block_add(&pair, i + 1, c->size, c->piece_size), c,
			    is_push);
	}
	pair_fini(&pair);
}

static void pushes_bring_their_bytes(void **state)
{
	blocks_move(true);
}

static void pulls_fetch_their_bytes(void **state)
{
	blocks_move(false);
}

#define STRIPE_COUNT 24

/* A block in many moves of size bytes, with control frames in between. How many of four lanes its
 * bytes went over. */
static uint32_t striped(bool is_push, uint32_t size)
{
	struct pair_move moves[STRIPE_COUNT];
	struct pair_block *block;
	uint32_t lanes_used = 0;
	struct pair pair;

	pair_init(&pair, kind);
	pair_connect(&pair, 4);
	block = pair_block_add(&pair, 1, STRIPE_COUNT * size, 100000);
	if (!is_push)
		pair_fill(block->bytes, block->size, 9);
	for (uint32_t i = 0; i < STRIPE_COUNT; i++) {
		struct xprt_lane *lane = xprt_group_pick(&pair.server.group);

		pair_move_init(&moves[i], &pair, block, i * size, size, 3);
		if (is_push) {
			pair_fill(moves[i].bytes, size, i);
			kind->ops->push(lane, &moves[i].move);
		} else {
			kind->ops->pull(lane, &moves[i].move);
		}
		assert_int_equal(text_send(lane, i + 1, 100), 0);
	}
	for (uint32_t i = 0; i < STRIPE_COUNT; i++) {
		PAIR_UNTIL(&pair, moves[i].done > 0);
		assert_int_equal(moves[i].rc, 0);
	}
	if ((kind->ops->caps & XPRT_CAP_DIRECT) == 0)
		PAIR_UNTIL(&pair, (is_push ? block->got : block->sent) == block->size);
	PAIR_UNTIL(&pair, pair.client.frame_count == STRIPE_COUNT);
	if (is_push) {
		for (uint32_t i = 0; i < STRIPE_COUNT; i++)
			assert_true(pair_is_filled(block->bytes + i * size, size, i));
	}
	for (uint32_t i = 0; i < STRIPE_COUNT; i++) {
		if (!is_push)
			assert_memory_equal(moves[i].bytes, block->bytes + i * size, size);
		assert_int_equal(moves[i].done, 1);
		pair_move_fini(&moves[i]);
	}
	for (uint32_t i = 0; i < 4; i++) {
		struct xprt_lane *lane =
			is_push ? pair.server.group.lanes[i] : pair.client.group.lanes[i];

		lanes_used += lane->bytes_out > size || lane->backlog_size > 0;
		assert_int_equal(lane->backlog_size, 0);
	}
	pair_fini(&pair);
	return lanes_used;
}

static void much_goes_over_all_lanes(bool is_push)
{
	uint32_t used = striped(is_push, 900 * KiB + 5);

	if ((kind->ops->caps & XPRT_CAP_DIRECT) == 0)
		assert_int_equal(used, 4);
}

static void pushes_are_striped(void **state)
{
	much_goes_over_all_lanes(true);
}

static void pulls_are_striped(void **state)
{
	much_goes_over_all_lanes(false);
}

/* Spread, each lane would need system calls of its own for it. */
static void little_shares_a_lane(void **state)
{
	uint32_t pushed = striped(true, 10 * KiB);
	uint32_t pulled = striped(false, 10 * KiB);

	if ((kind->ops->caps & XPRT_CAP_DIRECT) == 0) {
		assert_int_equal(pushed, 1);
		assert_int_equal(pulled, 1);
	}
}

/* --- a lane that stands still --- */

/* Its peer reads nothing of it: what is asked for goes over the others. */
static void a_full_lane_holds_up_no_frames(void **state)
{
	struct pair pair;
	uint64_t since_ns;
	uint32_t sent = 0;

	if (kind->ops != &xprt_tcp)
		return;
	pair_init(&pair, kind);
	pair_connect(&pair, 4);
	assert_true(pair_hold(&pair, pair.server.group.lanes[0]));
	since_ns = env_now_ns(pair.env);
	while (pair.server.frame_count == 0 && env_now_ns(pair.env) - since_ns < 2 * NS_PER_S) {
		struct xprt_lane *lane = xprt_group_pick(&pair.client.group);

		if (sent < 3000 && large_probe_send(lane, sent + 1, 0) == 0)
			sent++;
		else
			pair_poll(&pair);
	}
	assert_true(pair.server.frame_count > 0);
	pair_release(&pair);
	PAIR_UNTIL(&pair, pair.server.frame_count == sent);
	pair_settle(&pair);
	assert_ptr_equal(xprt_group_pick(&pair.client.group), pair.client.group.lanes[0]);
	pair_fini(&pair);
}

/* Without a socket: what nobody polls is full, too. */
static void a_full_lane_is_not_picked(void **state)
{
	struct pair pair;
	uint32_t sent = 0;

	if (kind->ops->lane_max == 1 || kind->ops == &xprt_tcp)
		return;
	pair_init(&pair, kind);
	pair_connect(&pair, 2);
	while (large_probe_send(pair.client.group.lanes[0], sent + 1, 0) == 0)
		sent++;
	assert_ptr_equal(xprt_group_pick(&pair.client.group), pair.client.group.lanes[1]);
	PAIR_UNTIL(&pair, pair.server.frame_count == sent);
	pair_settle(&pair);
	assert_ptr_equal(xprt_group_pick(&pair.client.group), pair.client.group.lanes[0]);
	pair_fini(&pair);
}

/* Nor pushes: only those that it has begun wait. */
static void a_full_lane_holds_up_no_pushes(void **state)
{
	enum { MOVES = 40, SIZE = 256 * KiB, LATER = 8 };
	struct pair_move moves[MOVES];
	struct pair_block *block;
	struct pair pair;
	uint32_t count = 0;
	uint32_t stuck;
	uint32_t done = 0;

	if (kind->ops != &xprt_tcp)
		return;
	pair_init(&pair, kind);
	pair_connect(&pair, 4);
	block = pair_block_add(&pair, 1, MOVES * SIZE, MOVES * SIZE);
	assert_true(pair_hold(&pair, pair.client.group.lanes[0]));
	do {
		assert_true(count < MOVES - LATER);
		pair_move_init(&moves[count], &pair, block, count * SIZE, SIZE, 1);
		kind->ops->push(pair.server.group.lanes[0], &moves[count].move);
		pair_settle(&pair);
	} while (moves[count++].done > 0);
	stuck = count - 1; /* it has begun, and lane 0 takes no more */
	for (uint32_t i = 0; i < LATER; i++, count++) {
		pair_move_init(&moves[count], &pair, block, count * SIZE, SIZE, 1);
		kind->ops->push(xprt_group_pick(&pair.server.group), &moves[count].move);
		pair_settle(&pair);
		done += moves[count].done;
	}
	assert_int_equal(done, LATER);
	/* Given up, as at a deadline: it has little to send now, but stands still all the same. */
	for (uint32_t i = stuck; i < count; i++) {
		if (moves[i].done == 0)
			kind->ops->revoke(&moves[i].move);
	}
	pair_settle(&pair);
	assert_ptr_not_equal(xprt_group_pick(&pair.server.group), pair.server.group.lanes[0]);
	pair_release(&pair);
	for (uint32_t i = 0; i < count; i++) {
		PAIR_UNTIL(&pair, moves[i].done > 0);
		pair_move_fini(&moves[i]);
	}
	pair_settle(&pair);
	pair_fini(&pair);
}

/* --- giving up --- */

static void a_revoked_pull_is_done_at_once(void **state)
{
	struct pair_block *block;
	struct pair_move move;
	struct pair pair;

	pair_init(&pair, kind);
	pair_connect(&pair, 1);
	block = pair_block_add(&pair, 1, MiB, MiB);
	block->is_gone = true; /* nobody answers the grant */
	pair_move_init(&move, &pair, block, 0, MiB, 1);
	kind->ops->pull(pair.server.group.lanes[0], &move.move);
	if ((kind->ops->caps & XPRT_CAP_DIRECT) == 0) {
		pair_settle(&pair);
		assert_int_equal(move.done, 0);
	}
	kind->ops->revoke(&move.move);
	assert_int_equal(move.done, 0);
	PAIR_UNTIL(&pair, move.done > 0);
	pair_settle(&pair);
	assert_int_equal(move.done, 1);
	assert_int_equal(move.rc, -ECANCELED);
	pair_move_fini(&move);
	pair_fini(&pair);
}

static void revoked_pushes_are_done_once(void **state)
{
	struct pair_move moves[16];
	struct pair_block *block;
	struct pair pair;
	uint32_t canceled = 0;

	pair_init(&pair, kind);
	pair_connect(&pair, 1);
	block = pair_block_add(&pair, 1, MiB, MiB);
	for (uint32_t i = 0; i < ARRAY_LEN(moves); i++) {
		pair_move_init(&moves[i], &pair, block, 0, MiB, 1);
		pair_fill(moves[i].bytes, MiB, 5);
		kind->ops->push(pair.server.group.lanes[0], &moves[i].move);
	}
	pair_poll(&pair);
	for (uint32_t i = 0; i < ARRAY_LEN(moves); i++) {
		if (moves[i].done == 0)
			kind->ops->revoke(&moves[i].move);
	}
	for (uint32_t i = 0; i < ARRAY_LEN(moves); i++) {
		PAIR_UNTIL(&pair, moves[i].done > 0);
		assert_true(moves[i].rc == 0 || moves[i].rc == -ECANCELED);
		canceled += moves[i].rc != 0;
	}
	pair_settle(&pair);
	if ((kind->ops->caps & XPRT_CAP_DIRECT) == 0) {
		assert_true(canceled > 0);
		assert_int_equal(block->got, (ARRAY_LEN(moves) - canceled) * MiB);
	}
	/* The stream is whole: a frame behind it still arrives. */
	assert_int_equal(text_send(pair.server.group.lanes[0], 1, 50), 0);
	PAIR_UNTIL(&pair, pair.client.frame_count == 1);
	for (uint32_t i = 0; i < ARRAY_LEN(moves); i++) {
		assert_int_equal(moves[i].done, 1);
		pair_move_fini(&moves[i]);
	}
	pair_fini(&pair);
}

/* --- ends --- */

enum ending { SERVER_CLOSES, CLIENT_CLOSES, DONE_CLOSES, ENDING_COUNT };

/* Ends a lane when polls of the loop have run; all moves must be done exactly once. */
static void end_in_the_middle(enum ending ending, bool is_push, uint32_t polls)
{
	struct pair_move moves[6];
	struct pair_block *block;
	struct pair pair;
	uint32_t done = 0;

	pair_init(&pair, kind);
	pair_connect(&pair, 1);
	block = pair_block_add(&pair, 1, MiB, MiB / 8);
	for (uint32_t i = 0; i < ARRAY_LEN(moves); i++) {
		pair_move_init(&moves[i], &pair, block, 0, MiB, 2);
		moves[i].move.item = 0;
		moves[i].closes_lane = ending == DONE_CLOSES;
		if (is_push)
			kind->ops->push(pair.server.group.lanes[0], &moves[i].move);
		else
			kind->ops->pull(pair.server.group.lanes[0], &moves[i].move);
	}
	for (uint32_t i = 0; i < polls; i++)
		pair_poll(&pair);
	if (ending == SERVER_CLOSES) {
		kind->ops->close(&pair.server.group.lanes[0]);
		for (uint32_t i = 0; i < ARRAY_LEN(moves); i++)
			assert_int_equal(moves[i].done, 1); /* before close() returns */
	} else if (ending == CLIENT_CLOSES) {
		kind->ops->close(&pair.client.group.lanes[0]);
	}
	for (uint32_t i = 0; i < ARRAY_LEN(moves); i++) {
		PAIR_UNTIL(&pair, moves[i].done > 0);
		done += moves[i].rc == 0;
	}
	pair_settle(&pair);
	for (uint32_t i = 0; i < ARRAY_LEN(moves); i++) {
		assert_int_equal(moves[i].done, 1);
		pair_move_fini(&moves[i]);
	}
	if (polls == 0 && ending != DONE_CLOSES)
		assert_true(done < ARRAY_LEN(moves));
	assert_int_equal(pair.server.closed, ending == CLIENT_CLOSES);
	assert_int_equal(pair.client.closed, ending != CLIENT_CLOSES);
	pair_fini(&pair);
}

static void every_move_is_done_once_whoever_closes(void **state)
{
	for (int ending = 0; ending < ENDING_COUNT; ending++) {
		for (uint32_t polls = 0; polls < 5; polls++) {
			end_in_the_middle((enum ending)ending, true, polls);
			end_in_the_middle((enum ending)ending, false, polls);
		}
	}
}

static void the_other_end_hears_of_a_close(void **state)
{
	struct pair pair;

	pair_init(&pair, kind);
	pair_connect(&pair, 2);
	kind->ops->close(&pair.client.group.lanes[1]);
	assert_null(pair.client.group.lanes[1]);
	PAIR_UNTIL(&pair, pair.server.closed > 0);
	pair_settle(&pair);
	assert_int_equal(pair.server.closed, 1);
	assert_int_equal(pair.server.why, -ERR_PEER);
	assert_int_equal(pair.client.closed, 0);
	assert_null(pair.server.group.lanes[1]);
	assert_non_null(pair.server.group.lanes[0]);
	pair_fini(&pair);
}

/* What was sent before close() still arrives: a refusal is read before the connection ends. */
static void the_last_words_of_a_lane_arrive(void **state)
{
	struct pair pair;

	pair_init(&pair, kind);
	pair_connect(&pair, 1);
	assert_int_equal(text_send(pair.server.group.lanes[0], 7, 100), 0);
	kind->ops->close(&pair.server.group.lanes[0]);
	PAIR_UNTIL(&pair, pair.client.closed == 1);
	assert_int_equal(pair.client.frame_count, 1);
	assert_int_equal(pair.client.frames[0].request, 7);
	pair_fini(&pair);
}

/* A server that refuses does not take what its client still sends: the client reads on. */
static void the_last_words_arrive_where_nothing_can_be_sent(void **state)
{
	struct pair pair;
	uint64_t since_ns;
	uint32_t sent = 0;

	pair_init(&pair, kind);
	pair_connect(&pair, 1);
	while (sent < 6 && text_send(pair.server.group.lanes[0], sent + 1, 500) == 0)
		sent++;
	kind->ops->close(&pair.server.group.lanes[0]);
	assert_true(sent > 0);
	for (since_ns = env_now_ns(pair.env); pair.client.closed == 0;) {
		assert_true(env_now_ns(pair.env) - since_ns < 10 * NS_PER_S);
		(void)probe_send(pair.client.group.lanes[0], 1, 1);
		pair_poll(&pair);
	}
	assert_int_equal(pair.client.frame_count, sent);
	pair_fini(&pair);
}

static void a_frame_that_the_user_refuses_ends_the_lane(void **state)
{
	struct pair pair;

	pair_init(&pair, kind);
	pair_connect(&pair, 1);
	pair.server.frame_rc = -ERR_DENIED;
	assert_int_equal(probe_send(pair.client.group.lanes[0], 1, 1), 0);
	assert_int_equal(probe_send(pair.client.group.lanes[0], 2, 1), 0);
	PAIR_UNTIL(&pair, pair.server.closed == 1 && pair.client.closed == 1);
	assert_int_equal(pair.server.why, -ERR_DENIED);
	assert_int_equal(pair.server.frame_count, 1);
	pair_fini(&pair);
}

static void a_lane_may_be_closed_in_its_own_upcall(void **state)
{
	struct pair pair;

	pair_init(&pair, kind);
	pair_connect(&pair, 1);
	pair.server.closes_in_frame = true;
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(probe_send(pair.client.group.lanes[0], i + 1, 1000), 0);
	PAIR_UNTIL(&pair, pair.client.closed == 1);
	assert_int_equal(pair.server.frame_count, 1);
	assert_int_equal(pair.server.closed, 0);
	pair_fini(&pair);
}

static void a_refused_connection_hears_why(void **state)
{
	struct pair pair;

	pair_init(&pair, kind);
	pair.accept_rc = -ERR_BUSY;
	pair.client.closes_in_frame = true; /* as a client does: the server would wait for that */
	(void)pair_dial(&pair, pair.address, 0);
	PAIR_UNTIL(&pair, pair.client.frame_count == 1);
	assert_int_equal(pair.server.opened, 0);
	assert_int_equal(pair.server.closed, 0);
	assert_int_equal(pair.client.frame_count, 1);
	assert_int_equal(pair.client.frames[0].kind, WIRE_REFUSE);
	pair_fini(&pair);
}

static void nobody_listens(void **state)
{
	struct pair pair;
	char address[128];

	pair_init(&pair, kind);
	memcpy(address, pair.address, sizeof(address));
	kind->ops->unlisten(&pair.listener);
	if (pair_dial(&pair, address, 0) != NULL)
		PAIR_UNTIL(&pair, pair.client.closed == 1);
	assert_int_equal(pair.client.opened, 0);
	pair_fini(&pair);
}

static void lanes_outlive_their_listener(void **state)
{
	struct pair pair;

	pair_init(&pair, kind);
	pair_connect(&pair, 2);
	kind->ops->unlisten(&pair.listener);
	assert_int_equal(probe_send(pair.client.group.lanes[1], 1, 1000), 0);
	PAIR_UNTIL(&pair, pair.server.frame_count == 1);
	pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_arrive_whole_and_in_order),
		cmocka_unit_test(inline_payload_comes_with_its_frame),
		cmocka_unit_test(a_slow_server_pushes_back),
		cmocka_unit_test(a_slow_client_pushes_back),
		cmocka_unit_test(pushes_bring_their_bytes),
		cmocka_unit_test(pulls_fetch_their_bytes),
		cmocka_unit_test(pushes_are_striped),
		cmocka_unit_test(pulls_are_striped),
		cmocka_unit_test(little_shares_a_lane),
		cmocka_unit_test(a_full_lane_holds_up_no_frames),
		cmocka_unit_test(a_full_lane_is_not_picked),
		cmocka_unit_test(a_full_lane_holds_up_no_pushes),
		cmocka_unit_test(a_revoked_pull_is_done_at_once),
		cmocka_unit_test(revoked_pushes_are_done_once),
		cmocka_unit_test(every_move_is_done_once_whoever_closes),
		cmocka_unit_test(the_other_end_hears_of_a_close),
		cmocka_unit_test(the_last_words_of_a_lane_arrive),
		cmocka_unit_test(the_last_words_arrive_where_nothing_can_be_sent),
		cmocka_unit_test(a_frame_that_the_user_refuses_ends_the_lane),
		cmocka_unit_test(a_lane_may_be_closed_in_its_own_upcall),
		cmocka_unit_test(a_refused_connection_hears_why),
		cmocka_unit_test(nobody_listens),
		cmocka_unit_test(lanes_outlive_their_listener),
	};
	int failed = 0;

	for (size_t i = 0; i < pair_kind_count; i++) {
		kind = &pair_kinds[i];
		if (!pair_kind_is_here(kind))
			continue;
		failed += cmocka_run_group_tests_name(kind->name, tests, NULL, NULL);
	}
	return failed;
}
