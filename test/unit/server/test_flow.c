/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that do not run straight: a put whose client goes, two puts of one block, a reader that
 * does not read, a client that stands still, deadlines and cancels. What must hold: keys stay
 * usable, an item is answered once and only when nothing more lands for it, memory stays bounded,
 * and other sessions go on.
 */
#include <stdlib.h>
#include <string.h>

#include "../../../src/store/shard_priv.h"
#include "rig.h"

#define BIG   (4 * MiB)
#define SMALL 50000

static int finish_put(struct raw_client *client, const struct raw_client_put *put)
{
	uint64_t request = raw_client_put(client, put, 1, 0, 5 * NS_PER_S);

	return raw_client_finish(client, request, NULL, put, NULL);
}

static int finish_get(struct raw_client *client, const struct wire_key *key, void *bytes,
		      uint32_t size)
{
	uint64_t request = raw_client_get(client, key, 1, 0, size, 5 * NS_PER_S);

	return raw_client_finish(client, request, bytes, NULL, NULL);
}

static void check_bytes(struct raw_client *client, const struct raw_client_put *put)
{
	uint8_t *got = calloc(1, put->size);

	assert_non_null(got);
	assert_int_equal(finish_get(client, &put->key, got, put->size), 0);
	assert_memory_equal(got, put->bytes, put->size);
	free(got);
}

/* Take frames until one of kind for request (0: any) comes. */
static void recv_until(struct raw_client *client, enum wire_kind kind, uint64_t request,
		       struct raw_client_frame *frame)
{
	do
		assert_true(raw_client_recv(client, frame));
	while (frame->header.kind != kind || (request != 0 && frame->header.request != request));
}

static struct raw_client_frame frame;
static const struct wire_result *const result = (const void *)frame.body;

static void a_put_whose_client_dies_leaves_the_key_usable(void **state)
{
	for (int is_file = 0; is_file < 2; is_file++) {
		struct rig rig;
		struct raw_client dying;
		struct raw_client other;
		uint8_t *bytes = rig_bytes(1, BIG);
		struct raw_client_put put = { rig_key(1), bytes, BIG, false };

		rig_init(&rig);
		rig_start(&rig, is_file);
		rig_client(&rig, &dying);
		rig_client(&rig, &other);
		(void)raw_client_put(&dying, &put, 1, 0, 10 * NS_PER_S);
		recv_until(&dying, WIRE_GRANT, 0, &frame);
		raw_client_close(&dying);
		RIG_UNTIL(&rig, rig_metrics(&rig).ops == 0);
		assert_int_equal(finish_get(&other, &put.key, NULL, BIG), -ERR_MISS);
		assert_int_equal(finish_put(&other, &put), 0);
		check_bytes(&other, &put);
		free(bytes);
		raw_client_close(&other);
		rig_stop(&rig);
	}
}

/* The second put of a block has the outcome of the first; only one of them is pulled. */
static void a_second_put_follows_the_first(void **state)
{
	struct rig rig;
	struct raw_client first;
	struct raw_client second;
	uint8_t *bytes = rig_bytes(1, BIG);
	struct raw_client_put put = { rig_key(1), bytes, BIG, false };
	uint64_t a;
	uint64_t b;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &first);
	rig_client(&rig, &second);
	a = raw_client_put(&first, &put, 1, 0, 10 * NS_PER_S);
	recv_until(&first, WIRE_GRANT, a, &frame);
	b = raw_client_put(&second, &put, 1, 0, 10 * NS_PER_S);
	RIG_UNTIL(&rig, rig_metrics(&rig).put_followed == 1);
	assert_true(raw_client_answer(&first, &frame, &put));
	assert_int_equal(raw_client_finish(&first, a, NULL, &put, NULL), 0);
	assert_true(raw_client_recv(&second, &frame));
	assert_int_equal(frame.header.kind, WIRE_REPLY);
	assert_int_equal(frame.header.request, b);
	assert_int_equal(result->status, 0);
	assert_int_not_equal(result->flags & WIRE_RESULT_EXISTED, 0);
	check_bytes(&second, &put);
	free(bytes);
	raw_client_close(&first);
	raw_client_close(&second);
	rig_stop(&rig);
}

/* The first dies: the second is granted, or its inline bytes are still there. */
static void a_follower_inherits(bool is_file, bool is_inline)
{
	struct rig rig;
	struct raw_client first;
	struct raw_client second;
	uint8_t *theirs = rig_bytes(1, SMALL);
	uint8_t *mine = rig_bytes(2, SMALL);
	struct raw_client_put a = { rig_key(1), theirs, SMALL, false };
	struct raw_client_put b = { rig_key(1), mine, SMALL, is_inline };
	uint64_t request;

	rig_init(&rig);
	rig_start(&rig, is_file);
	rig_client(&rig, &first);
	rig_client(&rig, &second);
	(void)raw_client_put(&first, &a, 1, 0, 10 * NS_PER_S);
	recv_until(&first, WIRE_GRANT, 0, &frame);
	request = raw_client_put(&second, &b, 1, 0, 10 * NS_PER_S);
	RIG_UNTIL(&rig, rig_metrics(&rig).put_followed == 1);
	raw_client_close(&first);
	assert_int_equal(raw_client_finish(&second, request, NULL, &b, NULL), 0);
	check_bytes(&second, &b);
	/* The credit of the inline bytes comes back once they are with the medium. */
	RIG_UNTIL(&rig, rig_metrics(&rig).ops == 0);
	assert_int_equal(rig_metrics(&rig).buffers_used, 0);
	free(theirs);
	free(mine);
	raw_client_close(&second);
	rig_stop(&rig);
}

static void followers_inherit_what_is_given_up(void **state)
{
	a_follower_inherits(false, false);
	a_follower_inherits(false, true);
	a_follower_inherits(true, false);
	a_follower_inherits(true, true);
}

/* A get that is not read holds its session's share, and no more; others are served. */
static void a_reader_that_does_not_read_holds_up_nobody(void **state)
{
	struct rig rig;
	struct raw_client slow;
	struct raw_client other;
	uint8_t *bytes = rig_bytes(1, BIG);
	struct raw_client_put puts[12];
	struct metrics metrics;

	rig_init(&rig);
	rig.opts.buffer_bytes = 32 * MiB;
	rig.opts.stall_ns = NS_PER_S;
	rig_start(&rig, true);
	rig_client(&rig, &slow);
	rig_client(&rig, &other);
	for (uint32_t i = 0; i < ARRAY_LEN(puts); i++) {
		puts[i] = (struct raw_client_put) { rig_key(i), bytes, BIG, false };
		assert_int_equal(finish_put(&other, &puts[i]), 0);
	}
	RIG_UNTIL(&rig, rig_metrics(&rig).ops == 0); /* all is on the medium */
	for (uint32_t i = 0; i < ARRAY_LEN(puts); i++)
		(void)raw_client_get(&slow, &puts[i].key, 1, 0, BIG, 10 * NS_PER_S);
	rig_run_ns(&rig, 200 * NS_PER_MS);
	metrics = rig_metrics(&rig);
	assert_true(metrics.buffers_used > 0);
	assert_true(metrics.buffers_used <= 32 * MiB / 2);
	assert_int_equal(metrics.sessions, 2);
	check_bytes(&other, &puts[0]);
	/* It never reads: its operations end, then its session. */
	RIG_UNTIL(&rig, rig_metrics(&rig).sessions == 1);
	RIG_UNTIL(&rig, rig_metrics(&rig).ops == 0);
	assert_int_equal(rig_metrics(&rig).buffers_used, 0);
	check_bytes(&other, &puts[1]);
	free(bytes);
	raw_client_close(&slow);
	raw_client_close(&other);
	rig_stop(&rig);
}

/* Many times what the buffers hold, at once, by a client that reads: all come. */
static void more_gets_than_buffers_wait_their_turn(void **state)
{
	struct rig rig;
	struct raw_client client;
	uint8_t *bytes = rig_bytes(1, BIG);
	struct wire_key keys[12];
	struct wire_result results[12];
	uint64_t request;

	rig_init(&rig);
	rig.opts.buffer_bytes = 16 * MiB;
	rig_start(&rig, true);
	rig_client(&rig, &client);
	for (uint32_t i = 0; i < 12; i++) {
		struct raw_client_put put = { rig_key(i), bytes, BIG, false };

		keys[i] = put.key;
		assert_int_equal(finish_put(&client, &put), 0);
	}
	RIG_UNTIL(&rig, rig_metrics(&rig).ops == 0);
	request = raw_client_get(&client, keys, 12, 0, BIG, 10 * NS_PER_S);
	assert_int_equal(raw_client_finish(&client, request, NULL, NULL, results), 0);
	for (uint32_t i = 0; i < 12; i++) {
		assert_int_equal(results[i].status, 0);
		assert_int_equal(results[i].size, BIG);
	}
	assert_true(rig_metrics(&rig).buffer_waits > 0);
	assert_int_equal(rig_metrics(&rig).buffers_used, 0);
	free(bytes);
	raw_client_close(&client);
	rig_stop(&rig);
}

/* Many times the window of a session, in one request: all are there. */
static void puts_beyond_the_window(bool is_file, uint32_t count, uint32_t size)
{
	struct rig rig;
	struct raw_client client;
	static struct raw_client_put puts[100];
	static struct wire_result results[100];
	uint64_t request;

	rig_init(&rig);
	rig.memory_size = 96 * MiB; /* some of it is reclaim's */
	rig.opts.buffer_bytes = 16 * MiB;
	rig_start(&rig, is_file);
	rig_client(&rig, &client);
	for (uint32_t i = 0; i < count; i++)
		puts[i] = (struct raw_client_put) { rig_key(i), rig_bytes(i, size), size, false };
	request = raw_client_put(&client, puts, (uint16_t)count, 0, 10 * NS_PER_S);
	assert_int_equal(raw_client_finish(&client, request, NULL, puts, results), 0);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(results[i].status, 0);
		check_bytes(&client, &puts[i]);
		free((void *)(uintptr_t)puts[i].bytes);
	}
	raw_client_close(&client);
	rig_stop(&rig);
}

static void more_puts_than_the_window_wait_their_turn(void **state)
{
	puts_beyond_the_window(false, 12, BIG);
	puts_beyond_the_window(true, 12, BIG);
	puts_beyond_the_window(false, 100, 3000);
	puts_beyond_the_window(true, 100, 3000);
}

/* A grant nobody answers ends after the stall time; the session is not harmed. */
static void a_grant_without_progress_ends(void **state)
{
	struct rig rig;
	struct raw_client client;
	uint8_t *bytes = rig_bytes(1, BIG);
	struct raw_client_put put = { rig_key(1), bytes, BIG, false };
	uint64_t begin_ns;
	uint64_t request;

	rig_init(&rig);
	rig.opts.stall_ns = 300 * NS_PER_MS;
	rig_start(&rig, true);
	rig_client(&rig, &client);
	begin_ns = env_now_ns(rig.env);
	request = raw_client_put(&client, &put, 1, 0, 10 * NS_PER_S);
	recv_until(&client, WIRE_REPLY, request, &frame);
	assert_int_equal(result->status, -ERR_ABORTED);
	assert_in_range(env_now_ns(rig.env) - begin_ns, 300 * NS_PER_MS, 2 * NS_PER_S);
	assert_int_equal(rig_metrics(&rig).sessions, 1);
	assert_int_equal(finish_put(&client, &put), 0);
	check_bytes(&client, &put);
	free(bytes);
	raw_client_close(&client);
	rig_stop(&rig);
}

#define PULLERS 5

/* Puts 12 MiB, answers no grant, and counts them: MiB. */
static uint32_t granted(struct rig *rig, struct raw_client *client, uint32_t first,
			const uint8_t *bytes)
{
	const struct raw_client_put puts[] = { { rig_key(first), bytes, BIG, false },
					       { rig_key(first + 1), bytes, BIG, false },
					       { rig_key(first + 2), bytes, BIG, false } };
	uint32_t count = 0;
	uint64_t probe;

	(void)raw_client_put(client, puts, ARRAY_LEN(puts), 0, 10 * NS_PER_S);
	rig_run_ns(rig, 20 * NS_PER_MS);
	probe = raw_client_keys(client, WIRE_PROBE, &puts[0].key, 1);
	do {
		assert_true(raw_client_recv(client, &frame));
		if (frame.header.kind == WIRE_GRANT)
			count += frame.header.count;
	} while (frame.header.request != probe);
	return count;
}

/* Who puts alone may send more than one of many. */
static void the_window_of_puts_is_small_beside_others(void **state)
{
	struct rig rig;
	struct raw_client clients[PULLERS];
	uint8_t *bytes = rig_bytes(1, BIG);

	rig_init(&rig);
	rig.memory_size = 128 * MiB;
	rig_start(&rig, false);
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < PULLERS; i++) {
			rig_client(&rig, &clients[i]);
			assert_int_equal(granted(&rig, &clients[i], 3 * i, bytes), i == 0 ? 4 : 1);
		}
		for (uint32_t i = 0; i < PULLERS; i++)
			raw_client_close(&clients[i]);
		RIG_UNTIL(&rig, rig_metrics(&rig).ops == 0);
	}
	free(bytes);
	rig_stop(&rig);
}

/* So much is queued on a lane before the next is taken: what is for two keeps two busy. */
static void who_puts_alone_has_the_window_of_two_lanes(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct raw_client second;
	uint8_t *bytes = rig_bytes(1, BIG);

	rig_init(&rig);
	rig.memory_size = 128 * MiB;
	rig_start(&rig, false);
	rig_client(&rig, &client);
	raw_client_open(&second, rig.port, rig_poll, &rig);
	assert_int_equal(raw_client_join(&second, &client, "alice", 1), 0);
	assert_int_equal(granted(&rig, &client, 0, bytes), 8);
	raw_client_close(&second);
	raw_client_close(&client);
	free(bytes);
	rig_stop(&rig);
}

/* A grant that is answered slowly, but answered, does not end, however large its piece is. */
static void a_slow_client_is_not_taken_for_a_frozen_one(void **state)
{
	struct rig rig;
	struct raw_client slow;
	uint8_t *bytes = rig_bytes(1, 400000);
	struct raw_client_put put = { rig_key(1), bytes, 400000, false };
	struct wire_header header;
	struct wire_data data = { .item = 0 };
	uint64_t request;

	rig_init(&rig);
	rig.opts.stall_ns = 600 * NS_PER_MS;
	rig_start(&rig, false);
	rig_client(&rig, &slow);
	request = raw_client_put(&slow, &put, 1, 0, 10 * NS_PER_S);
	recv_until(&slow, WIRE_GRANT, request, &frame);
	wire_header_init(&header, WIRE_DATA_PUT, request, 0, sizeof(data));
	header.payload_size = put.size;
	auth_mac_seal(slow.out, &header, &data);
	assert_true(raw_client_write(&slow, &header, sizeof(header)));
	assert_true(raw_client_write(&slow, &data, sizeof(data)));
	for (uint32_t at = 0; at < put.size; at += 40000) {
		assert_true(raw_client_write(&slow, bytes + at, 40000));
		rig_run_ns(&rig, 150 * NS_PER_MS);
	}
	assert_int_equal(raw_client_finish(&slow, request, NULL, &put, NULL), 0);
	assert_int_equal(rig_metrics(&rig).stalls, 0);
	check_bytes(&slow, &put);
	free(bytes);
	raw_client_close(&slow);
	rig_stop(&rig);
}

static uint32_t pin_count(const struct shard *shard)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < shard->segment_count; i++)
		count += shard->segments[i].pins;
	return count;
}

/* What has been read, or waits for buffers, does not keep a segment from being used again: else one
 * reader who takes his time holds up everybody's puts. */
static void a_slow_reader_holds_no_segment(void **state)
{
	struct wire_key keys[4];
	struct raw_client slow;
	uint64_t request;
	uint8_t *bytes;
	struct rig rig;

	rig_init(&rig);
	rig_start(&rig, true);
	rig_client(&rig, &slow);
	for (uint32_t i = 0; i < 4; i++) {
		struct raw_client_put put = { rig_key(i), rig_bytes(i, BIG), BIG, false };

		keys[i] = put.key;
		request = raw_client_put(&slow, &put, 1, WIRE_REQ_DURABLE, 5 * NS_PER_S);
		assert_int_equal(raw_client_finish(&slow, request, NULL, &put, NULL), 0);
		free((void *)(uintptr_t)put.bytes);
	}
	request = raw_client_get(&slow, keys, 4, 0, BIG, 10 * NS_PER_S);
	RIG_UNTIL(&rig, pin_count(rig.shard) > 0); /* while the shard reads, it must */
	RIG_UNTIL(&rig, rig_metrics(&rig).store_read >= BIG);
	rig_run_ns(&rig, 50 * NS_PER_MS);
	assert_true(rig_metrics(&rig).ops >= 2); /* it has not read yet */
	assert_int_equal(pin_count(rig.shard), 0);
	bytes = rig_bytes(0, BIG);
	assert_int_equal(raw_client_finish(&slow, request, bytes, NULL, NULL), 0);
	check_bytes(&slow, &(struct raw_client_put) { keys[0], bytes, BIG, false });
	assert_int_equal(rig_metrics(&rig).get_hits, 5);
	free(bytes);
	raw_client_close(&slow);
	rig_stop(&rig);
}

/* A client that freezes inside a DATA_PUT loses its put, and the key is free again. */
static void a_client_frozen_inside_a_frame_loses_its_put(void **state)
{
	struct rig rig;
	struct raw_client frozen;
	struct raw_client other;
	uint8_t *bytes = rig_bytes(1, BIG);
	struct raw_client_put put = { rig_key(1), bytes, BIG, false };
	const struct wire_grant *grant = (const void *)frame.body;
	struct wire_header header;
	struct wire_data data;

	rig_init(&rig);
	rig.opts.stall_ns = 200 * NS_PER_MS;
	rig_start(&rig, false);
	rig_client(&rig, &frozen);
	rig_client(&rig, &other);
	(void)raw_client_put(&frozen, &put, 1, 0, 10 * NS_PER_S);
	recv_until(&frozen, WIRE_GRANT, 0, &frame);
	data = (struct wire_data) { .item = grant->item, .offset = grant->offset };
	wire_header_init(&header, WIRE_DATA_PUT, frame.header.request, 0, sizeof(data));
	header.payload_size = grant->size;
	header.magic = WIRE_MAGIC;
	auth_mac_seal(frozen.out, &header, &data);
	assert_true(raw_client_write(&frozen, &header, sizeof(header)));
	assert_true(raw_client_write(&frozen, &data, sizeof(data)));
	assert_true(raw_client_write(&frozen, bytes, 1000));
	RIG_UNTIL(&rig, rig_metrics(&rig).ops == 1);
	RIG_UNTIL(&rig, rig_metrics(&rig).ops == 0);
	assert_int_equal(rig_metrics(&rig).stalls, 1);
	assert_int_equal(finish_put(&other, &put), 0);
	check_bytes(&other, &put);
	free(bytes);
	raw_client_close(&frozen);
	raw_client_close(&other);
	rig_stop(&rig);
}

static void a_spent_budget_is_answered_in_time(void **state)
{
	struct rig rig;
	struct raw_client client;
	uint8_t *bytes = rig_bytes(1, BIG);
	struct raw_client_put put = { rig_key(1), bytes, BIG, false };
	uint64_t begin_ns;
	uint64_t request;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &client);
	begin_ns = env_now_ns(rig.env);
	request = raw_client_put(&client, &put, 1, 0, 100 * NS_PER_MS);
	recv_until(&client, WIRE_REPLY, request, &frame);
	assert_int_equal(result->status, -ERR_DEADLINE);
	assert_int_equal(frame.header.flags, WIRE_FLAG_LAST);
	assert_in_range(env_now_ns(rig.env) - begin_ns, 100 * NS_PER_MS, NS_PER_S);
	assert_int_equal(rig_metrics(&rig).deadlines, 1);
	assert_int_equal(rig_metrics(&rig).put_deadline, 1);

	/* With less than a millisecond nothing is moved. */
	assert_int_equal(finish_put(&client, &put), 0);
	request = raw_client_get(&client, &put.key, 1, 0, BIG, 1000);
	assert_int_equal(raw_client_finish(&client, request, NULL, NULL, NULL), -ERR_DEADLINE);
	assert_int_equal(rig_metrics(&rig).get_delivered, 0);
	free(bytes);
	raw_client_close(&client);
	rig_stop(&rig);
}

/* CANCEL: the items first, then its own answer; nothing of the request comes behind that. */
static void a_cancel_is_answered_when_nothing_lands_any_more(void **state)
{
	struct rig rig;
	struct raw_client client;
	uint8_t *bytes = rig_bytes(1, BIG);
	struct raw_client_put put = { rig_key(1), bytes, BIG, false };
	uint64_t targets[4];
	uint64_t cancel;
	bool is_answered = false;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &client);
	assert_int_equal(finish_put(&client, &put), 0);
	targets[0] = raw_client_get(&client, &put.key, 1, 0, BIG, 10 * NS_PER_S);
	put.key = rig_key(2);
	targets[1] = raw_client_put(&client, &put, 1, 0, 10 * NS_PER_S);
	targets[2] = 12345;      /* never seen */
	targets[3] = targets[1]; /* named already */
	/* The get is under way: its data fills the socket. */
	rig_run_ns(&rig, 50 * NS_PER_MS);
	cancel = raw_client_cancel(&client, targets, 4);
	rig_run_ns(&rig, 50 * NS_PER_MS);
	for (uint32_t answered = 0; answered < 4;) {
		assert_true(raw_client_recv(&client, &frame));
		if (frame.header.request == targets[0] && frame.header.kind == WIRE_REPLY) {
			assert_int_equal(result->status, -ECANCELED);
			is_answered = true;
		}
		if (frame.header.request != cancel)
			continue;
		for (uint32_t i = 0; i < frame.header.count; i++) {
			assert_int_equal(result[i].status, result[i].item == 3 ? -EALREADY : 0);
			if (result[i].item == 0)
				assert_true(is_answered);
		}
		answered += frame.header.count;
	}
	assert_true(is_answered);
	(void)raw_client_plain(&client, WIRE_STAT);
	assert_true(raw_client_recv(&client, &frame));
	assert_int_equal(frame.header.kind, WIRE_TEXT);
	assert_int_equal(rig_metrics(&rig).ops, 0);
	assert_int_equal(rig_metrics(&rig).cancels, 2);
	assert_int_equal(finish_put(&client, &put), 0);
	check_bytes(&client, &put);
	free(bytes);
	raw_client_close(&client);
	rig_stop(&rig);
}

/* A session's second lane dies with a request: the first goes on with its own. */
static void a_lost_lane_takes_its_requests_only(void **state)
{
	struct rig rig;
	struct raw_client first;
	struct raw_client second;
	uint8_t *bytes = rig_bytes(1, BIG);
	struct raw_client_put a = { rig_key(1), bytes, BIG, false };
	struct raw_client_put b = { rig_key(2), bytes, BIG, false };

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &first);
	raw_client_open(&second, rig.port, rig_poll, &rig);
	assert_int_equal(raw_client_join(&second, &first, "alice", 1), 0);
	(void)raw_client_put(&second, &b, 1, 0, 10 * NS_PER_S);
	RIG_UNTIL(&rig, rig_metrics(&rig).ops == 1);
	raw_client_close(&second);
	RIG_UNTIL(&rig, rig_metrics(&rig).ops == 0);
	assert_int_equal(rig_metrics(&rig).sessions, 1);
	assert_int_equal(finish_put(&first, &a), 0);
	check_bytes(&first, &a);
	assert_int_equal(finish_put(&first, &b), 0);

	/* The number is free again. */
	raw_client_open(&second, rig.port, rig_poll, &rig);
	assert_int_equal(raw_client_join(&second, &first, "alice", 1), 0);
	free(bytes);
	raw_client_close(&second);
	raw_client_close(&first);
	rig_stop(&rig);
}

static void a_draining_server_finishes_and_takes_no_more(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct raw_client late;
	uint8_t *bytes = rig_bytes(1, BIG);
	struct raw_client_put put = { rig_key(1), bytes, BIG, false };
	uint64_t request;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &client);
	request = raw_client_put(&client, &put, 1, 0, 5 * NS_PER_S);
	recv_until(&client, WIRE_GRANT, request, &frame);
	reactor_finish(rig.reactor);
	assert_false(reactor_is_idle(rig.reactor));
	raw_client_open(&late, rig.port, rig_poll, &rig);
	assert_int_equal(raw_client_hello(&late, "alice", &rig.secret), -ERR_CLOSING);
	raw_client_close(&late);
	assert_true(raw_client_answer(&client, &frame, &put));
	assert_int_equal(raw_client_finish(&client, request, NULL, &put, NULL), 0);
	assert_int_equal(finish_get(&client, &put.key, NULL, BIG), -ERR_CLOSING);
	RIG_UNTIL(&rig, reactor_is_idle(rig.reactor));
	free(bytes);
	raw_client_close(&client);
	rig_stop(&rig);
}

/* Sessions that do not end by themselves are ended; the store keeps what it took. */
static void a_stopped_server_is_idle_soon(void **state)
{
	struct rig rig;
	struct raw_client client;
	uint8_t *bytes = rig_bytes(1, BIG);
	struct raw_client_put put = { rig_key(1), bytes, BIG, false };
	struct raw_client_put small = { rig_key(2), bytes, SMALL, true };

	rig_init(&rig);
	rig_start(&rig, true);
	rig_client(&rig, &client);
	(void)raw_client_put(&client, &put, 1, 0, 60 * NS_PER_S);
	recv_until(&client, WIRE_GRANT, 0, &frame);
	(void)raw_client_put(&client, &small, 1, WIRE_REQ_DURABLE, 60 * NS_PER_S);
	RIG_UNTIL(&rig, rig_metrics(&rig).store_puts == 1);
	reactor_finish(rig.reactor);
	reactor_stop(rig.reactor);
	assert_int_equal(rig_metrics(&rig).sessions, 0);
	RIG_UNTIL(&rig, reactor_is_idle(rig.reactor));
	assert_int_equal(rig_metrics(&rig).buffers_used, 0);
	assert_int_equal(rig_metrics(&rig).store_blocks, 1);
	free(bytes);
	raw_client_close(&client);
	rig_stop(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_put_whose_client_dies_leaves_the_key_usable),
		cmocka_unit_test(a_second_put_follows_the_first),
		cmocka_unit_test(followers_inherit_what_is_given_up),
		cmocka_unit_test(a_reader_that_does_not_read_holds_up_nobody),
		cmocka_unit_test(more_gets_than_buffers_wait_their_turn),
		cmocka_unit_test(more_puts_than_the_window_wait_their_turn),
		cmocka_unit_test(the_window_of_puts_is_small_beside_others),
		cmocka_unit_test(who_puts_alone_has_the_window_of_two_lanes),
		cmocka_unit_test(a_grant_without_progress_ends),
		cmocka_unit_test(a_slow_client_is_not_taken_for_a_frozen_one),
		cmocka_unit_test(a_slow_reader_holds_no_segment),
		cmocka_unit_test(a_client_frozen_inside_a_frame_loses_its_put),
		cmocka_unit_test(a_spent_budget_is_answered_in_time),
		cmocka_unit_test(a_cancel_is_answered_when_nothing_lands_any_more),
		cmocka_unit_test(a_lost_lane_takes_its_requests_only),
		cmocka_unit_test(a_draining_server_finishes_and_takes_no_more),
		cmocka_unit_test(a_stopped_server_is_idle_soon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
