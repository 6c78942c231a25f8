/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients whose memory is mapped: gets land in it and durable puts leave from it without a copy,
 * and whatever the client does to that memory meanwhile costs itself alone. The drive is real; its
 * commands can be held, ended with an error, or looked at while they wait.
 */
#include <stdlib.h>
#include <string.h>

#include "../../../src/store/shard_priv.h"
#include "../../../src/xprt/loop/loop.h"
#include "drive.h"

#define BIG    (2 * MiB)
#define MEMORY (16 * MiB) /* of the client's region */

/* --- a client with a region --- */

struct side {
	struct rig rig;
	struct raw_client client;
	uint8_t *memory;
	struct wire_seg segs[64];
};

static void side_client(struct side *side, struct raw_client *client, uint8_t *memory)
{
	const struct wire_declare declare = { .region = 1,
					      .kind = WIRE_REGION_LOOP,
					      .access = 3,
					      .size = MEMORY,
					      .address = (uintptr_t)memory };
	uint64_t request;

	raw_client_open_lane(client, side->rig.env, &xprt_loop_mapped, "rig", rig_poll, &side->rig);
	assert_int_equal(raw_client_hello(client, "alice", &side->rig.secret), 0);
	request = raw_client_items(client, WIRE_DECLARE, &declare, sizeof(declare), 0);
	assert_int_equal(raw_client_finish(client, request, NULL, NULL, NULL), 0);
}

static void side_begin(struct side *side, enum store_verify verify, bool is_file)
{
	memset(side, 0, sizeof(*side));
	rig_init(&side->rig);
	side->rig.has_loop = true;
	side->rig.goes_on_taking_memory = true; /* both ends are on its env */
	side->rig.opts.verify = verify;
	drive_init(&side->rig);
	rig_start(&side->rig, is_file);
	side->memory = aligned_alloc(PAGE_SIZE, MEMORY);
	assert_non_null(side->memory);
	memset(side->memory, 0, MEMORY);
	side_client(side, &side->client, side->memory);
}

static void side_init(struct side *side, enum store_verify verify)
{
	side_begin(side, verify, true);
}

static void side_fini(struct side *side)
{
	assert_false(xprt_loop_is_held(side->memory, MEMORY));
	raw_client_close(&side->client);
	rig_stop(&side->rig);
	free(side->memory);
}

/* Segments of the next request: size bytes at offset, in pieces each gap bytes behind the last. */
static void cut(struct side *side, uint64_t offset, uint32_t size, uint32_t piece, uint32_t gap)
{
	uint32_t count = 0;

	for (uint32_t at = 0; at < size; at += piece) {
		assert_true(count < ARRAY_LEN(side->segs));
		side->segs[count++] = (struct wire_seg) { 1, MIN(piece, size - at), offset };
		offset += piece + gap;
	}
	side->client.segs = side->segs;
	side->client.seg_count = count;
}

static uint64_t get(struct side *side, uint32_t number, uint32_t offset, uint32_t size)
{
	const struct wire_key key = rig_key(number);

	return raw_client_get(&side->client, &key, 1, offset, size, 5 * NS_PER_S);
}

static int finish(struct side *side, uint64_t request)
{
	return raw_client_finish(&side->client, request, NULL, NULL, NULL);
}

static void check_pieces(const struct side *side, uint32_t number, uint32_t offset, uint32_t size)
{
	uint8_t *want = rig_bytes(number, offset + size);
	uint32_t at = offset;

	for (uint32_t i = 0; i < side->client.seg_count; i++) {
		assert_memory_equal(side->memory + side->segs[i].offset, want + at,
				    side->segs[i].size);
		at += side->segs[i].size;
	}
	assert_int_equal(at, offset + size);
	free(want);
}

static uint64_t put(struct side *side, uint32_t number, uint32_t size, uint32_t flags)
{
	const struct raw_client_put item = { rig_key(number), NULL, size, false };

	return raw_client_put(&side->client, &item, 1, flags, 5 * NS_PER_S);
}

static void fill_pieces(const struct side *side, uint32_t number, uint32_t size)
{
	uint8_t *bytes = rig_bytes(number, size);
	uint32_t at = 0;

	for (uint32_t i = 0; i < side->client.seg_count; i++) {
		memcpy(side->memory + side->segs[i].offset, bytes + at, side->segs[i].size);
		at += side->segs[i].size;
	}
	free(bytes);
}

/* A durable block, written straight from the client's memory: not in the cache. */
static void stored(struct side *side, uint32_t number, uint32_t size)
{
	struct metrics before = rig_metrics(&side->rig);

	cut(side, 0, size, MiB, 0);
	fill_pieces(side, number, size);
	assert_int_equal(finish(side, put(side, number, size, WIRE_REQ_DURABLE)), 0);
	assert_int_equal(rig_metrics(&side->rig).put_direct - before.put_direct, size);
	memset(side->memory, 0, size);
}

static struct wire_result *result_of(struct raw_client_frame *frame)
{
	return (void *)frame->body;
}

/* --- gets --- */

static void a_get_lands_where_it_is_wanted(void **state)
{
	for (uint32_t verify = STORE_VERIFY_NONE; verify <= STORE_VERIFY_ALL; verify++) {
		struct side side;
		struct metrics metrics;

		side_init(&side, (enum store_verify)verify);
		stored(&side, 1, BIG);
		cut(&side, 4 * MiB, BIG, 64 * KiB, 4 * KiB);
		assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), 0);
		check_pieces(&side, 1, 0, BIG);
		metrics = rig_metrics(&side.rig);
		assert_int_equal(metrics.get_direct, BIG);
		assert_int_equal(metrics.get_copied, 0);
		assert_int_equal(metrics.cache_blocks, 0);
		assert_int_equal(metrics.buffers_used_max, 0);
		/* A range of whole strides. */
		cut(&side, 4 * MiB, 192 * KiB, 64 * KiB, 4 * KiB);
		assert_int_equal(finish(&side, get(&side, 1, 64 * KiB, 192 * KiB)), 0);
		check_pieces(&side, 1, 64 * KiB, 192 * KiB);
		assert_int_equal(rig_metrics(&side.rig).get_direct, BIG + 192 * KiB);
		side_fini(&side);
	}
}

/* The second look at a block brings it into the cache, the third finds it there. */
static void what_is_asked_for_again_comes_into_the_cache(void **state)
{
	struct side side;

	side_init(&side, STORE_VERIFY_MEDIUM);
	stored(&side, 1, BIG);
	cut(&side, 4 * MiB, BIG, MiB, 0);
	for (uint32_t i = 0; i < 3; i++) {
		memset(side.memory, 0, MEMORY);
		assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), 0);
		check_pieces(&side, 1, 0, BIG);
		assert_int_equal(rig_metrics(&side.rig).get_direct, BIG);
		assert_int_equal(rig_metrics(&side.rig).get_copied, i * BIG);
		RIG_UNTIL(&side.rig, rig_metrics(&side.rig).ops == 0);
		assert_int_equal(rig_metrics(&side.rig).cache_blocks, i > 0);
	}
	assert_int_equal(rig_metrics(&side.rig).cache_hits, 1);
	assert_int_equal(rig_metrics(&side.rig).direct_declined, 0);
	side_fini(&side);
}

/* A size that is no whole page, and what has no shape for the drive. */
static void any_shape_is_served(void **state)
{
	const uint32_t odd = MiB + 77;
	struct side side;

	side_init(&side, STORE_VERIFY_MEDIUM);
	cut(&side, 0, odd, MiB, 0);
	fill_pieces(&side, 1, odd);
	assert_int_equal(finish(&side, put(&side, 1, odd, WIRE_REQ_DURABLE)), 0);
	assert_int_equal(rig_metrics(&side.rig).put_copied, odd); /* a put must be whole pages */
	RIG_UNTIL(&side.rig, rig_metrics(&side.rig).ops == 0);
	cut(&side, 4 * MiB + 512, odd, 100000, 0); /* from the cache */
	assert_int_equal(finish(&side, get(&side, 1, 0, odd)), 0);
	check_pieces(&side, 1, 0, odd);

	stored(&side, 2, BIG);
	cut(&side, 4 * MiB, BIG, 100000, 100); /* pieces of no whole pages */
	assert_int_equal(finish(&side, get(&side, 2, 0, BIG)), 0);
	check_pieces(&side, 2, 0, BIG);
	cut(&side, 4 * MiB, 70000, 70000, 0); /* ranges that begin anywhere */
	assert_int_equal(finish(&side, get(&side, 2, 4097, 70000)), 0);
	check_pieces(&side, 2, 4097, 70000);
	cut(&side, 4 * MiB, 8192, 8192, 0); /* too small to be worth it */
	assert_int_equal(finish(&side, get(&side, 2, 0, 8192)), 0);
	check_pieces(&side, 2, 0, 8192);
	assert_int_equal(rig_metrics(&side.rig).get_direct, 0);
	assert_true(rig_metrics(&side.rig).direct_declined >= 2);

	stored(&side, 3, BIG);
	side.client.get_flags = WIRE_REQ_PROGRESS;
	cut(&side, 4 * MiB, BIG, MiB, 0);
	assert_int_equal(finish(&side, get(&side, 3, 0, BIG)), 0);
	check_pieces(&side, 3, 0, BIG);
	assert_int_equal(rig_metrics(&side.rig).get_direct, 0);
	side_fini(&side);
}

/* The store is memory: a block is summed as it is copied, and the answer says what it was worth. */
static void a_block_that_goes_bad_in_memory_is_not_believed(void **state)
{
	struct side side;
	struct store_id id;
	struct shard_ref ref;
	struct iovec iov;

	side_begin(&side, STORE_VERIFY_ALL, false);
	cut(&side, 0, BIG, MiB, 0);
	fill_pieces(&side, 1, BIG);
	assert_int_equal(finish(&side, put(&side, 1, BIG, 0)), 0);
	memset(side.memory, 0, BIG);
	assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), 0);
	check_pieces(&side, 1, 0, BIG);

	memcpy(id.domain, side.client.domain, sizeof(id.domain));
	memcpy(id.ns, side.client.ns, sizeof(id.ns));
	memcpy(id.key, rig_key(1).bytes, sizeof(id.key));
	assert_true(shard_find(side.rig.shard, &id, &ref));
	assert_int_equal(shard_view(side.rig.shard, &ref, 0, BIG, &iov, 1), 1);
	((uint8_t *)iov.iov_base)[BIG / 2 + 1] ^= 0x10;
	assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), -ERR_CORRUPT);
	assert_int_equal(rig_metrics(&side.rig).store_corrupt, 1);
	assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), -ERR_MISS);
	side_fini(&side);
}

/* Pieces that lie in the same memory: what is there is not what was read, and the block is fine. */
static void a_client_that_scribbles_condemns_no_block(void **state)
{
	struct side side;

	side_init(&side, STORE_VERIFY_MEDIUM);
	stored(&side, 1, BIG);
	cut(&side, 4 * MiB, BIG, 64 * KiB, 0);
	side.segs[3].offset = side.segs[2].offset;
	assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), 0);
	assert_int_equal(rig_metrics(&side.rig).direct_repeated, 1);
	assert_int_equal(rig_metrics(&side.rig).store_corrupt, 0);
	assert_int_equal(rig_metrics(&side.rig).get_copied, BIG);
	cut(&side, 4 * MiB, BIG, 64 * KiB, 0);
	assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), 0);
	check_pieces(&side, 1, 0, BIG);
	side_fini(&side);
}

/* Where the medium is wrong, the second reading says so. */
static void a_spoilt_block_is_a_miss(void **state)
{
	struct side side;
	uint8_t *page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	uint64_t offset;

	side_init(&side, STORE_VERIFY_MEDIUM);
	stored(&side, 1, BIG);
	offset = segment_offset(side.rig.shard, 0, 1 + 1 + 5); /* span, header, payload */
	assert_int_equal(side.rig.env->ops->blk_read(side.rig.env, side.rig.shard->blk, page,
						     PAGE_SIZE, offset),
			 0);
	page[17] ^= 1;
	assert_int_equal(side.rig.env->ops->blk_write(side.rig.env, side.rig.shard->blk, page,
						      PAGE_SIZE, offset),
			 0);
	cut(&side, 4 * MiB, BIG, MiB, 0);
	assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), -ERR_CORRUPT);
	assert_int_equal(rig_metrics(&side.rig).direct_repeated, 1);
	assert_int_equal(rig_metrics(&side.rig).store_corrupt, 1);
	assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), -ERR_MISS);
	free(page);
	side_fini(&side);
}

/* The client cuts its file while the drive reads: its get ends, and nothing is held against the
 * medium. */
static void memory_that_goes_away_ends_the_get(void **state)
{
	static const int codes[] = { 0, -EFAULT };

	for (uint32_t i = 0; i < ARRAY_LEN(codes); i++) {
		struct side side;
		uint64_t request;

		side_init(&side, STORE_VERIFY_MEDIUM);
		stored(&side, 1, BIG);
		cut(&side, 4 * MiB, BIG, MiB, 0);
		drive_hold(ENV_READ);
		request = get(&side, 1, 0, BIG);
		RIG_UNTIL(&side.rig, drive.count > 0);
		xprt_loop_cut(side.memory + 4 * MiB, PAGE_SIZE);
		drive_go(&side.rig, codes[i]);
		assert_int_equal(finish(&side, request), -ERR_PEER);
		assert_int_equal(rig_metrics(&side.rig).store_io_errors, 0);
		assert_int_equal(rig_metrics(&side.rig).direct_repeated, 0);
		assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), 0);
		check_pieces(&side, 1, 0, BIG);
		side_fini(&side);
	}
}

/* An error of the drive's: the second reading decides. */
static void a_failed_read_is_tried_again(void **state)
{
	struct side side;
	uint64_t request;

	side_init(&side, STORE_VERIFY_MEDIUM);
	stored(&side, 1, BIG);
	cut(&side, 4 * MiB, BIG, MiB, 0);
	drive_hold(ENV_READ);
	request = get(&side, 1, 0, BIG);
	RIG_UNTIL(&side.rig, drive.count > 0);
	drive_go(&side.rig, -EIO);
	assert_int_equal(finish(&side, request), 0);
	check_pieces(&side, 1, 0, BIG);
	assert_int_equal(rig_metrics(&side.rig).direct_repeated, 1);
	assert_int_equal(rig_metrics(&side.rig).store_io_errors, 0);
	side_fini(&side);
}

/* --- nothing is answered while the drive may still write there --- */

static void expect_silence(struct side *side)
{
	rig_run_ns(&side->rig, 50 * NS_PER_MS);
	assert_true(list_is_empty(&side->client.inbox));
	assert_true(xprt_loop_is_held(side->memory, MEMORY));
	assert_int_equal(rig_metrics(&side->rig).ops, 1);
}

static void a_cancelled_get_is_answered_when_the_drive_is_done(void **state)
{
	static struct raw_client_frame frame;
	struct side side;
	uint64_t request;
	uint64_t cancel;

	side_init(&side, STORE_VERIFY_MEDIUM);
	stored(&side, 1, BIG);
	cut(&side, 4 * MiB, BIG, MiB, 0);
	drive_hold(ENV_READ);
	request = get(&side, 1, 0, BIG);
	RIG_UNTIL(&side.rig, drive.count > 0);
	cancel = raw_client_cancel(&side.client, &request, 1);
	expect_silence(&side);
	drive_go(&side.rig, 0);
	assert_true(raw_client_recv(&side.client, &frame));
	assert_int_equal(frame.header.request, request);
	assert_int_equal(result_of(&frame)->status, -ECANCELED);
	assert_false(xprt_loop_is_held(side.memory, MEMORY));
	assert_true(raw_client_recv(&side.client, &frame));
	assert_int_equal(frame.header.request, cancel);
	assert_int_equal(result_of(&frame)->status, 0);
	side_fini(&side);
}

static void a_late_get_is_answered_when_the_drive_is_done(void **state)
{
	struct wire_key key = rig_key(1);
	struct side side;
	uint64_t request;

	side_init(&side, STORE_VERIFY_MEDIUM);
	stored(&side, 1, BIG);
	cut(&side, 4 * MiB, BIG, MiB, 0);
	drive_hold(ENV_READ);
	request = raw_client_get(&side.client, &key, 1, 0, BIG, 20 * NS_PER_MS);
	RIG_UNTIL(&side.rig, rig_metrics(&side.rig).deadlines == 1);
	expect_silence(&side);
	drive_go(&side.rig, 0);
	assert_int_equal(finish(&side, request), -ERR_DEADLINE);
	/* With less than a millisecond nothing is begun. */
	request = raw_client_get(&side.client, &key, 1, 0, BIG, 1000);
	assert_int_equal(finish(&side, request), -ERR_DEADLINE);
	assert_int_equal(rig_metrics(&side.rig).get_direct, 0);
	side_fini(&side);
}

static bool is_fence_done;

static void fence_done(struct xprt_fence *fence)
{
	is_fence_done = true;
}

/* Lanes are closed, then the session ends: the fence opens when the drive is done. */
static void a_fence_waits_for_the_drive(void **state)
{
	struct xprt_fence fence = { .done = fence_done };
	struct side side;

	side_init(&side, STORE_VERIFY_MEDIUM);
	stored(&side, 1, BIG);
	cut(&side, 4 * MiB, BIG, MiB, 0);
	drive_hold(ENV_READ);
	(void)get(&side, 1, 0, BIG);
	RIG_UNTIL(&side.rig, drive.count > 0);
	is_fence_done = false;
	xprt_loop_mapped.fence(side.client.lane, &fence);
	raw_client_close(&side.client);
	rig_run_ns(&side.rig, 50 * NS_PER_MS);
	assert_int_equal(rig_metrics(&side.rig).lanes_lost, 1);
	assert_false(is_fence_done);
	assert_true(xprt_loop_is_held(side.memory, MEMORY));
	drive_go(&side.rig, 0);
	RIG_UNTIL(&side.rig, is_fence_done);
	assert_false(xprt_loop_is_held(side.memory, MEMORY));
	RIG_UNTIL(&side.rig, rig_metrics(&side.rig).ops == 0);
	/* Nothing is under way: at once. */
	side_client(&side, &side.client, side.memory);
	is_fence_done = false;
	xprt_loop_mapped.fence(side.client.lane, &fence);
	raw_client_close(&side.client);
	RIG_UNTIL(&side.rig, is_fence_done);
	side_client(&side, &side.client, side.memory);
	side_fini(&side);
}

/* The whole session ends while the drive writes into its memory. */
static void a_session_may_end_while_its_memory_is_lent(void **state)
{
	for (uint32_t kind = 0; kind < 2; kind++) {
		struct side side;

		side_init(&side, STORE_VERIFY_MEDIUM);
		side.rig.opts.idle_ns = NS_PER_MS;
		stored(&side, 1, BIG);
		cut(&side, 4 * MiB, BIG, MiB, 0);
		drive_hold(kind == 0 ? ENV_READ : ENV_WRITE);
		if (kind == 0)
			(void)get(&side, 1, 0, BIG);
		else
			(void)put(&side, 2, BIG, WIRE_REQ_DURABLE);
		RIG_UNTIL(&side.rig, drive.count > 0);
		raw_client_close(&side.client);
		rig_run_ns(&side.rig, 20 * NS_PER_MS);
		reactor_stop(side.rig.reactor);
		assert_int_equal(rig_metrics(&side.rig).sessions, 0);
		assert_int_equal(rig_metrics(&side.rig).ops, 1);
		drive_go(&side.rig, 0);
		RIG_UNTIL(&side.rig, rig_metrics(&side.rig).ops == 0);
		side_fini(&side);
	}
}

/* --- puts --- */

static void a_durable_put_leaves_from_where_it_stands(void **state)
{
	struct side side;
	struct metrics metrics;

	side_init(&side, STORE_VERIFY_MEDIUM);
	cut(&side, 0, BIG, 64 * KiB, 4 * KiB);
	fill_pieces(&side, 1, BIG);
	assert_int_equal(finish(&side, put(&side, 1, BIG, WIRE_REQ_DURABLE)), 0);
	metrics = rig_metrics(&side.rig);
	assert_int_equal(metrics.put_direct, BIG);
	assert_int_equal(metrics.put_copied, 0);
	assert_int_equal(metrics.buffers_used_max, 0);
	cut(&side, 8 * MiB, BIG, MiB, 0);
	assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), 0);
	check_pieces(&side, 1, 0, BIG);

	/* Buffered: one copy. Small, or odd: one copy. */
	cut(&side, 0, BIG, MiB, 0);
	fill_pieces(&side, 2, BIG);
	assert_int_equal(finish(&side, put(&side, 2, BIG, 0)), 0);
	cut(&side, 0, 128 * KiB, MiB, 0);
	fill_pieces(&side, 3, 128 * KiB);
	assert_int_equal(finish(&side, put(&side, 3, 128 * KiB, WIRE_REQ_DURABLE)), 0);
	cut(&side, 512, 512 * KiB, MiB, 0);
	fill_pieces(&side, 4, 512 * KiB);
	assert_int_equal(finish(&side, put(&side, 4, 512 * KiB, WIRE_REQ_DURABLE)), 0);
	metrics = rig_metrics(&side.rig);
	assert_int_equal(metrics.put_direct, BIG);
	assert_int_equal(metrics.put_copied, BIG + 640 * KiB);
	assert_int_equal(metrics.direct_declined, 1);
	side_fini(&side);
}

/* What leaves straight from the client's memory is summed a few blocks in each turn of the loop, as
 * others wait for the turn's end; nothing is left when who puts them goes. */
static void many_puts_are_summed_in_turns(void **state)
{
	enum { SIZE = 4 * MiB, SUMMED = 4 };
	struct raw_client_put puts[LOOP_HOLD_MAX];
	struct side side;
	uint64_t request;

	side_init(&side, STORE_VERIFY_MEDIUM);
	cut(&side, 0, SIZE, SIZE, 0);
	for (uint32_t i = 0; i < LOOP_HOLD_MAX; i++)
		puts[i] = (struct raw_client_put) { rig_key(i), NULL, SIZE, false };
	request = raw_client_put(&side.client, puts, LOOP_HOLD_MAX, WIRE_REQ_DURABLE, NS_PER_S);
	RIG_UNTIL(&side.rig, rig_metrics(&side.rig).again_check == LOOP_HOLD_MAX - SUMMED);
	assert_int_equal(finish(&side, request), 0);
	RIG_UNTIL(&side.rig, rig_metrics(&side.rig).put_direct == LOOP_HOLD_MAX * SIZE);

	for (uint32_t i = 0; i < LOOP_HOLD_MAX; i++)
		puts[i].key = rig_key(100 + i);
	(void)raw_client_put(&side.client, puts, LOOP_HOLD_MAX, WIRE_REQ_DURABLE, NS_PER_S);
	RIG_UNTIL(&side.rig, rig_metrics(&side.rig).again_check == 2 * (LOOP_HOLD_MAX - SUMMED));
	raw_client_close(&side.client);
	RIG_UNTIL(&side.rig, rig_metrics(&side.rig).ops == 0);
	side_client(&side, &side.client, side.memory);
	side_fini(&side);
}

/* Others find the block while it is written, but are never shown the memory of who puts it. */
static void readers_wait_until_it_is_written(void **state)
{
	struct wire_key key = rig_key(1);
	struct raw_client other;
	struct side side;
	uint64_t request;
	uint64_t asked;
	uint8_t *got = malloc(BIG);
	uint8_t *want = rig_bytes(1, BIG);

	side_init(&side, STORE_VERIFY_MEDIUM);
	rig_client(&side.rig, &other);
	cut(&side, 0, BIG, MiB, 0);
	fill_pieces(&side, 1, BIG);
	drive_hold(ENV_WRITE);
	request = put(&side, 1, BIG, WIRE_REQ_DURABLE);
	RIG_UNTIL(&side.rig, drive.count > 0);
	asked = raw_client_get(&other, &key, 1, 0, BIG, 5 * NS_PER_S);
	rig_run_ns(&side.rig, 50 * NS_PER_MS);
	assert_int_equal(rig_metrics(&side.rig).ops, 2);
	assert_int_equal(rig_metrics(&side.rig).get_delivered, 0);
	drive_go(&side.rig, 0);
	assert_int_equal(finish(&side, request), 0);
	assert_int_equal(raw_client_finish(&other, asked, got, NULL, NULL), 0);
	assert_memory_equal(got, want, BIG);

	/* One that waits may be given up. */
	drive_hold(ENV_WRITE);
	request = put(&side, 2, BIG, WIRE_REQ_DURABLE);
	RIG_UNTIL(&side.rig, drive.count > 0);
	key = rig_key(2);
	asked = raw_client_get(&other, &key, 1, 0, BIG, 20 * NS_PER_MS);
	assert_int_equal(raw_client_finish(&other, asked, got, NULL, NULL), -ERR_DEADLINE);
	drive_go(&side.rig, 0);
	assert_int_equal(finish(&side, request), 0);
	free(got);
	free(want);
	raw_client_close(&other);
	side_fini(&side);
}

/* What the client changes behind the commit fails its check later: its block, nobody else's. */
static void a_scribbled_put_costs_itself(void **state)
{
	struct side side;
	uint64_t request;

	side_init(&side, STORE_VERIFY_MEDIUM);
	stored(&side, 1, BIG);
	cut(&side, 0, BIG, MiB, 0);
	fill_pieces(&side, 2, BIG);
	drive_hold(ENV_WRITE);
	request = put(&side, 2, BIG, WIRE_REQ_DURABLE);
	RIG_UNTIL(&side.rig, drive.count > 0);
	side.memory[MiB + 5] ^= 1;
	drive_go(&side.rig, 0);
	assert_int_equal(finish(&side, request), 0);
	stored(&side, 3, BIG);
	cut(&side, 4 * MiB, BIG, MiB, 0);
	assert_int_equal(finish(&side, get(&side, 2, 0, BIG)), -ERR_CORRUPT);
	assert_int_equal(finish(&side, get(&side, 2, 0, BIG)), -ERR_MISS);
	for (uint32_t number = 1; number <= 3; number += 2) {
		assert_int_equal(finish(&side, get(&side, number, 0, BIG)), 0);
		check_pieces(&side, number, 0, BIG);
	}
	side_fini(&side);
}

static void a_put_given_up_is_answered_when_it_is_written(void **state)
{
	static struct raw_client_frame frame;
	struct side side;
	uint64_t request;

	side_init(&side, STORE_VERIFY_MEDIUM);
	cut(&side, 0, BIG, MiB, 0);
	fill_pieces(&side, 1, BIG);
	drive_hold(ENV_WRITE);
	request = put(&side, 1, BIG, WIRE_REQ_DURABLE);
	RIG_UNTIL(&side.rig, drive.count > 0);
	(void)raw_client_cancel(&side.client, &request, 1);
	expect_silence(&side);
	drive_go(&side.rig, 0);
	assert_true(raw_client_recv(&side.client, &frame));
	assert_int_equal(frame.header.request, request);
	assert_int_equal(result_of(&frame)->status, -ECANCELED);
	assert_false(xprt_loop_is_held(side.memory, MEMORY));
	assert_true(raw_client_recv(&side.client, &frame));
	/* It went on. */
	cut(&side, 4 * MiB, BIG, MiB, 0);
	assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), 0);
	check_pieces(&side, 1, 0, BIG);
	side_fini(&side);
}

static void memory_that_goes_away_ends_the_put(void **state)
{
	static const int codes[] = { 0, -EFAULT };

	for (uint32_t i = 0; i < ARRAY_LEN(codes); i++) {
		struct side side;
		uint64_t request;

		side_init(&side, STORE_VERIFY_MEDIUM);
		stored(&side, 1, BIG);
		cut(&side, 0, BIG, MiB, 0);
		fill_pieces(&side, 2, BIG);
		drive_hold(ENV_WRITE);
		request = put(&side, 2, BIG, WIRE_REQ_DURABLE);
		RIG_UNTIL(&side.rig, drive.count > 0);
		xprt_loop_cut(side.memory, PAGE_SIZE);
		drive_go(&side.rig, codes[i]);
		assert_int_equal(finish(&side, request), -ERR_PEER);
		assert_int_equal(rig_metrics(&side.rig).store_io_errors, 0);
		cut(&side, 4 * MiB, BIG, MiB, 0);
		assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), 0);
		check_pieces(&side, 1, 0, BIG);
		side_fini(&side);
	}
}

/* More at once than can be mapped: the rest is copied. */
static void what_cannot_be_mapped_is_copied(void **state)
{
	struct side side;

	side_init(&side, STORE_VERIFY_NONE);
	stored(&side, 1, BIG);
	side.segs[0] = (struct wire_seg) { 1, BIG, MEMORY - MiB };
	side.client.segs = side.segs;
	side.client.seg_count = 1;
	/* Outside of what was declared. */
	assert_int_equal(finish(&side, get(&side, 1, 0, BIG)), -ERR_PROTOCOL);
	stored(&side, 2, BIG);
	cut(&side, 0, BIG, MiB, 0);
	drive_hold(ENV_READ);
	for (uint32_t i = 0; i < LOOP_HOLD_MAX + 2; i++)
		(void)get(&side, 2, 0, BIG);
	RIG_UNTIL(&side.rig, rig_metrics(&side.rig).direct_declined == 1 + 2);
	drive_go(&side.rig, 0);
	RIG_UNTIL(&side.rig, rig_metrics(&side.rig).get_hits == LOOP_HOLD_MAX + 2);
	assert_int_equal(rig_metrics(&side.rig).get_direct, LOOP_HOLD_MAX * BIG);
	assert_int_equal(rig_metrics(&side.rig).get_copied, 2 * BIG);
	check_pieces(&side, 2, 0, BIG);
	side_fini(&side);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_get_lands_where_it_is_wanted),
		cmocka_unit_test(what_is_asked_for_again_comes_into_the_cache),
		cmocka_unit_test(any_shape_is_served),
		cmocka_unit_test(a_block_that_goes_bad_in_memory_is_not_believed),
		cmocka_unit_test(a_client_that_scribbles_condemns_no_block),
		cmocka_unit_test(a_spoilt_block_is_a_miss),
		cmocka_unit_test(memory_that_goes_away_ends_the_get),
		cmocka_unit_test(a_failed_read_is_tried_again),
		cmocka_unit_test(a_cancelled_get_is_answered_when_the_drive_is_done),
		cmocka_unit_test(a_late_get_is_answered_when_the_drive_is_done),
		cmocka_unit_test(a_fence_waits_for_the_drive),
		cmocka_unit_test(a_session_may_end_while_its_memory_is_lent),
		cmocka_unit_test(a_durable_put_leaves_from_where_it_stands),
		cmocka_unit_test(many_puts_are_summed_in_turns),
		cmocka_unit_test(readers_wait_until_it_is_written),
		cmocka_unit_test(a_scribbled_put_costs_itself),
		cmocka_unit_test(a_put_given_up_is_answered_when_it_is_written),
		cmocka_unit_test(memory_that_goes_away_ends_the_put),
		cmocka_unit_test(what_cannot_be_mapped_is_copied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
