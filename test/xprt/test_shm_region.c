/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regions of shm: they are exactly what was declared, and only memory; one owner leaves some to
 * others; a client that takes memory away loses that region; and mappings are held for others' I/O
 * whatever ends meanwhile.
 */
#include "shm_held.h"

#include "../../src/base/log.h"
#include "../../src/xprt/shm/shm.h"
#include "../lib/memory.h"
#include "../lib/t.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE HELD_SIZE

/* --- regions --- */

/* One move between the server's bytes and the client's segment; what it ends with. */
static int move_once(struct pair *pair, bool is_push, struct wire_seg seg, uint8_t *bytes)
{
	struct xprt_lane *lane = pair->server.group.lanes[0];
	struct pair_block block = { .request = 1, .region = { .id = 1 }, .segs = { seg } };
	struct pair_move move;
	int rc;

	pair_move_init(&move, pair, &block, 0, seg.size, 1);
	if (is_push) {
		memcpy(move.bytes, bytes, seg.size);
		lane->ops->push(lane, &move.move);
	} else {
		lane->ops->pull(lane, &move.move);
	}
	PAIR_UNTIL(pair, move.done > 0);
	if (!is_push)
		memcpy(bytes, move.bytes, seg.size);
	rc = move.rc;
	pair_move_fini(&move);
	return rc;
}

/* A region in the middle of a pool: what lies around it is out of reach, to the byte. */
static void the_bounds_of_a_region_are_exact(void **state)
{
	const struct {
		uint32_t region;
		uint64_t offset;
		uint32_t size;
		int rc;
	} cases[] = {
		{ 1, 0, 1, 0 },
		{ 1, 0, SIZE - 200, 0 },
		{ 1, SIZE - 201, 1, 0 },
		{ 1, SIZE - 200, 1, -ERR_PROTOCOL },
		{ 1, 0, SIZE - 199, -ERR_PROTOCOL },
		{ 1, 1, SIZE - 200, -ERR_PROTOCOL },
		{ 1, UINT64_MAX, 1, -ERR_PROTOCOL },
		{ 1, UINT64_MAX - SIZE, 2 * SIZE, -ERR_PROTOCOL },
		{ 1, UINT64_C(1) << 63, 8, -ERR_PROTOCOL },
		{ 2, 0, 1, -ERR_PROTOCOL },
		{ 0, 0, 1, -ERR_PROTOCOL },
	};
	static uint8_t ones[2 * SIZE];
	struct pair_memory memory;
	struct xprt_region region;
	struct pair pair;

	memset(ones, 1, sizeof(ones));
	pair_init(&pair, pair_shm);
	pair_connect(&pair, 1);
	memory = pair_memory_make(&pair, SIZE);
	region = (struct xprt_region) { memory.bytes + 100, SIZE - 200, 1, { 0 } };
	assert_int_equal(xprt_shm.declare(pair.client.group.lanes[0], &region), 0);
	assert_int_equal(xprt_shm.region_add(&pair.server.group, &region.declare), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct wire_seg seg = { cases[i].region, cases[i].size, cases[i].offset };
		struct iovec iov;
		void *hold = NULL;
		int rc;

		memset(memory.bytes, 0, SIZE);
		assert_int_equal(move_once(&pair, true, seg, ones), cases[i].rc);
		assert_true(held_is_all(memory.bytes, 100, 0));
		assert_true(held_is_all(memory.bytes + SIZE - 100, 100, 0));
		if (cases[i].rc == 0)
			assert_true(held_is_all(memory.bytes + 100 + seg.offset, seg.size, 1));
		rc = xprt_shm.map(&pair.server.group, &seg, 1, &iov, &hold);
		assert_int_equal(rc, cases[i].rc);
		if (rc == 0)
			assert_int_equal(xprt_shm.unmap(&hold), 0);
	}
	assert_int_equal(xprt_shm.region_remove(&pair.server.group, 1), 0);
	assert_int_equal(xprt_shm.region_remove(&pair.server.group, 1), -ERR_PROTOCOL);
	assert_int_equal(move_once(&pair, true, (struct wire_seg) { 1, 1, 0 }, ones),
			 -ERR_PROTOCOL);
	pair_memory_free(&memory);
	pair_fini(&pair);
}

/* An env in which so many descriptors are under way that no more may be sent. */
static struct crowded {
	struct env_ops ops;
	const struct env_ops *real;
	uint32_t refusals; /* still to come */
} crowded;

static ssize_t crowded_send_fds(struct env *env, struct env_sock *sock, const struct iovec *iov,
				uint32_t iov_count, const int *fds, uint32_t fd_count)
{
	if (crowded.refusals == 0)
		return crowded.real->sock_send_fds(env, sock, iov, iov_count, fds, fd_count);
	crowded.refusals--;
	return -ETOOMANYREFS;
}

static void what_cannot_be_passed_just_now_is_passed_later(void **state)
{
	struct pair_memory memory;
	struct xprt_region region;
	struct pair pair;

	pair_init(&pair, pair_shm);
	pair_connect(&pair, 1);
	memory = pair_memory_make(&pair, SIZE);
	region = (struct xprt_region) { .base = memory.bytes, .size = memory.size, .id = 1 };
	crowded = (struct crowded) { .ops = *pair.env->ops, .real = pair.env->ops, .refusals = 3 };
	crowded.ops.sock_send_fds = crowded_send_fds;
	pair.env->ops = &crowded.ops;
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(xprt_shm.declare(pair.client.group.lanes[0], &region), -EAGAIN);
		PAIR_UNTIL(&pair, pair.client.writable == i + 1);
	}
	assert_int_equal(xprt_shm.declare(pair.client.group.lanes[0], &region), 0);
	assert_int_equal(xprt_shm.region_add(&pair.server.group, &region.declare), 0);
	pair_settle(&pair);
	assert_int_equal(pair.client.writable, 3);
	pair.env->ops = crowded.real;
	pair_memory_free(&memory);
	pair_fini(&pair);
}

static void what_cannot_be_passed_is_staged(void **state)
{
	uint8_t *private_memory = calloc(1, SIZE);
	struct xprt_region region = { private_memory, SIZE, 1, { 0 } };
	struct pair pair;

	pair_init(&pair, pair_shm);
	pair_connect(&pair, 1);
	assert_int_equal(xprt_shm.declare(pair.client.group.lanes[0], &region), -EOPNOTSUPP);
	region.base = &pair;
	region.size = 1;
	assert_int_equal(xprt_shm.declare(pair.client.group.lanes[0], &region), -EOPNOTSUPP);
	free(private_memory);
	pair_fini(&pair);
}

/* DECLARE says something else than what was passed. */
static void a_declare_must_fit_what_was_passed(void **state)
{
	struct pair_memory memory;
	struct xprt_region region;
	struct wire_declare declare;
	struct pair pair;

	pair_init(&pair, pair_shm);
	pair_connect(&pair, 1);
	memory = pair_memory_make(&pair, SIZE);
	for (uint32_t i = 1; i < 7; i++) {
		region = held_region_of(&pair, &memory, i);
		declare = region.declare;
		declare.size -= i == 1;
		declare.address += i == 2 ? 8 : 0;
		declare.region += i == 3 ? 1000 : 0;
		declare.kind = i == 4 ? WIRE_REGION_LOOP : WIRE_REGION_SHM;
		declare.access = i == 5 ? 0 : 3;
		assert_int_equal(xprt_shm.region_add(&pair.server.group, &declare),
				 i < 6 ? -ERR_PROTOCOL : 0);
	}
	/* Twice. */
	assert_int_equal(xprt_shm.region_add(&pair.server.group, &declare), -ERR_PROTOCOL);
	pair_memory_free(&memory);
	pair_fini(&pair);
}

/* --- shares --- */

static uint64_t share_max_of_test(struct env *env)
{
	return 4 * (uint64_t)SIZE;
}

static uint32_t log_lines;

static void log_count(void *ctx, enum log_level level, const char *line)
{
	log_lines += level <= LOG_WARN;
}

/* The bytes that a loop maps have a bound; one owner gets three quarters, the rest is others'. */
static void an_owner_leaves_a_quarter_to_others(void **state)
{
	struct xprt_group other;
	struct env_ops ops;
	struct xprt_region region;
	struct pair_memory memory;
	struct pair pair;

	pair_init(&pair, pair_shm);
	ops = *pair.env->ops;
	ops.share_max = share_max_of_test;
	pair.env->ops = &ops;
	pair_connect(&pair, 2);
	xprt_group_init(&other, NULL);
	other.owner = 7;
	other.lanes[1] = pair.server.group.lanes[1];
	other.lane_count = 2;
	other.lanes[1]->group = &other;
	pair.server.group.lanes[1] = NULL;
	memory = pair_memory_make(&pair, SIZE);
	log_lines = 0;
	log_sink_set(log_count, NULL);
	for (uint32_t i = 1; i <= 5; i++) { /* each a quarter */
		region = held_region_of(&pair, &memory, i);
		assert_int_equal(xprt_shm.region_add(&pair.server.group, &region.declare),
				 i <= 3 ? 0 : -ERR_BUSY);
	}
	region = (struct xprt_region) { memory.bytes, SIZE, 9, { 0 } };
	assert_int_equal(xprt_shm.declare(pair.client.group.lanes[1], &region), 0);
	assert_int_equal(xprt_shm.region_add(&other, &region.declare), 0);
	region.id = 10;
	assert_int_equal(xprt_shm.declare(pair.client.group.lanes[1], &region), 0);
	assert_int_equal(xprt_shm.region_add(&other, &region.declare), -ERR_BUSY);
	assert_int_equal(log_lines, 2); /* once for each lane */
	log_sink_set(NULL, NULL);
	/* What goes makes room. */
	assert_int_equal(xprt_shm.region_remove(&pair.server.group, 2), 0);
	region = held_region_of(&pair, &memory, 11);
	assert_int_equal(xprt_shm.region_add(&pair.server.group, &region.declare), 0);
	pair.server.group.lanes[1] = other.lanes[1];
	other.lanes[1]->group = &pair.server.group;
	pair_memory_free(&memory);
	pair_fini(&pair);
}

/* --- memory that goes away --- */

static void a_client_that_cuts_its_memory_loses_that_region_only(void **state)
{
	static uint8_t bytes[SIZE];
	struct pair_memory memory[2];
	struct pair pair;

	pair_init(&pair, pair_shm);
	pair_connect(&pair, 1);
	for (uint32_t i = 0; i < 2; i++) {
		struct xprt_region region;

		memory[i] = pair_memory_make(&pair, SIZE);
		region = held_region_of(&pair, &memory[i], i + 1);
		assert_int_equal(xprt_shm.region_add(&pair.server.group, &region.declare), 0);
	}
	/* A hole is zeros, and no harm. */
	memset(memory[0].bytes, 7, SIZE);
	assert_int_equal(
		fallocate(memory[0].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE_SIZE),
		0);
	assert_int_equal(move_once(&pair, false, (struct wire_seg) { 1, SIZE, 0 }, bytes), 0);
	assert_true(held_is_all(bytes, PAGE_SIZE, 0));
	assert_int_equal(ftruncate(memory[0].fd, PAGE_SIZE), 0);
	assert_int_equal(move_once(&pair, false, (struct wire_seg) { 1, SIZE, 0 }, bytes),
			 -ERR_PEER);
	assert_int_equal(move_once(&pair, true, (struct wire_seg) { 1, SIZE, 0 }, bytes),
			 -ERR_PEER);
	/* It is not touched again, also where it is still there; and it is not mapped any more. */
	memset(bytes, 9, SIZE);
	memory[0].bytes[0] = 1;
	assert_int_equal(move_once(&pair, true, (struct wire_seg) { 1, PAGE_SIZE, 0 }, bytes),
			 -ERR_PEER);
	assert_int_equal(memory[0].bytes[0], 1);
	assert_int_equal(memory_mapping_count(memory[0].fd), 1); /* the client's own */
	assert_int_equal(shm_of(pair.server.group.lanes[0])->listener->mapping_count, 1);
	assert_int_equal(xprt_shm.region_remove(&pair.server.group, 1), 0);
	assert_int_equal(move_once(&pair, true, (struct wire_seg) { 2, SIZE, 0 }, bytes), 0);
	assert_true(held_is_all(memory[1].bytes, SIZE, 9));
	assert_int_equal(pair.server.closed, 0);
	pair_memory_free(&memory[0]);
	pair_memory_free(&memory[1]);
	pair_fini(&pair);
}

/* --- holds --- */

static void a_hold_outlives_region_lane_and_listener(void **state)
{
	struct held held;

	held_init(&held);
	held_write(&held, 1);
	assert_int_equal(xprt_shm.region_remove(&held.pair.server.group, 1), 0);
	held_write(&held, 2);
	xprt_shm.close(&held.pair.client.group.lanes[0]);
	PAIR_UNTIL(&held.pair, held.pair.server.closed == 1);
	held_write(&held, 3);
	xprt_shm.unlisten(&held.pair.listener);
	held_write(&held, 4);
	assert_int_equal(xprt_shm.unmap(&held.hold), 0);
	assert_null(held.hold);
	held_fini(&held);
}

static void push_in_frame(struct pair_end *end, const struct xprt_frame *frame)
{
	struct pair_move *move = end->ctx;

	xprt_shm.push(end->group.lanes[0], &move->move);
}

/* A frame that is refused breaks the lane, and its user closes it in the done() of a move. */
static void a_hold_outlives_a_lane_closed_in_done(void **state)
{
	struct pair_block block = { .request = 1, .region = { .id = 1 }, .segs = { { 1, 1, 0 } } };
	struct pair_move move;
	struct held held;

	held_init(&held);
	pair_move_init(&move, &held.pair, &block, 0, 1, 1);
	move.closes_lane = true;
	held.pair.server.on_frame = push_in_frame;
	held.pair.server.ctx = &move;
	held.pair.server.frame_rc = -ERR_PROTOCOL;
	held_ping(&held.pair, 1);
	PAIR_UNTIL(&held.pair, move.done == 1);
	assert_int_equal(move.rc, -ERR_PROTOCOL);
	pair_settle(&held.pair);
	held_write(&held, 1);
	assert_int_equal(xprt_shm.unmap(&held.hold), 0);
	PAIR_UNTIL(&held.pair, held.pair.client.closed == 1);
	pair_move_fini(&move);
	held_fini(&held);
}

static void a_hold_tells_of_memory_that_went_away(void **state)
{
	struct held held;

	held_init(&held);
	assert_int_equal(ftruncate(held.memory.fd, 0), 0);
	memset(held.iov[1].iov_base, 1, held.iov[1].iov_len);
	assert_int_equal(xprt_shm.unmap(&held.hold), -ERR_PEER);
	held_fini(&held);
}

/* An env that counts what is declared for I/O, and when a mapping goes. */
static struct declared {
	struct env_ops ops;
	const struct env_ops *real;
	void *base;
	size_t size;
	int declares;
	int undeclares;
	int undeclares_before_unmap;
} declared;

static void declared_blk_declare(struct env *env, void *base, size_t size)
{
	declared.base = base;
	declared.size = size;
	declared.declares++;
}

static void declared_blk_undeclare(struct env *env, void *base)
{
	assert_ptr_equal(base, declared.base);
	declared.undeclares++;
}

static void declared_share_unmap(struct env *env, void *base)
{
	declared.undeclares_before_unmap = declared.undeclares;
	declared.real->share_unmap(env, base);
}

static void declared_init(struct env *env)
{
	declared = (struct declared) { .ops = *env->ops, .real = env->ops };
	declared.ops.blk_declare = declared_blk_declare;
	declared.ops.blk_undeclare = declared_blk_undeclare;
	declared.ops.share_unmap = declared_share_unmap;
	env->ops = &declared.ops;
}

/* What the drive comes to is prepared for it until nobody holds it: never unmapped before. */
static void a_mapping_is_declared_from_its_first_hold_to_its_end(void **state)
{
	const struct wire_seg seg = { 1, 100, 0 };
	uint8_t bytes[100] = { 0 };
	struct iovec iov;
	struct held held;

	pair_init(&held.pair, pair_shm);
	declared_init(held.pair.env);
	pair_connect(&held.pair, 1);
	held.memory = pair_memory_make(&held.pair, SIZE);
	held.region = held_region_of(&held.pair, &held.memory, 1);

	assert_int_equal(xprt_shm.region_add(&held.pair.server.group, &held.region.declare), 0);
	assert_int_equal(move_once(&held.pair, true, seg, bytes), 0);
	assert_int_equal(declared.declares, 0); /* copies need it not */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(xprt_shm.map(&held.pair.server.group, &seg, 1, &iov, &held.hold),
				 0);
		assert_int_equal(declared.declares, 1);
		assert_int_equal((uintptr_t)declared.base % PAGE_SIZE, 0);
		assert_int_equal(declared.size % PAGE_SIZE, 0);
		assert_true((char *)declared.base <= (char *)iov.iov_base);
		assert_true(declared.size >= SIZE);
		if (i == 0)
			assert_int_equal(xprt_shm.unmap(&held.hold), 0);
	}
	assert_int_equal(xprt_shm.region_remove(&held.pair.server.group, 1), 0);
	assert_int_equal(declared.undeclares, 0);
	assert_int_equal(xprt_shm.unmap(&held.hold), 0);
	assert_int_equal(declared.undeclares, 1);
	assert_int_equal(declared.undeclares_before_unmap, 1);
	held.pair.env->ops = declared.real;
	held_fini(&held);
}

static void segments_of_several_regions_are_copied(void **state)
{
	const struct wire_seg segs[2] = { { 1, 100, 0 }, { 2, 100, 0 } };
	struct xprt_region other;
	struct iovec iov[2];
	struct held held;
	void *hold = NULL;

	held_init(&held);
	other = held_region_of(&held.pair, &held.memory, 2);
	assert_int_equal(xprt_shm.region_add(&held.pair.server.group, &other.declare), 0);
	assert_int_equal(xprt_shm.map(&held.pair.server.group, segs, 2, iov, &hold), -EOPNOTSUPP);
	assert_null(hold);
	assert_int_equal(xprt_shm.unmap(&held.hold), 0);
	held_fini(&held);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_bounds_of_a_region_are_exact),
		cmocka_unit_test(what_cannot_be_passed_is_staged),
		cmocka_unit_test(what_cannot_be_passed_just_now_is_passed_later),
		cmocka_unit_test(a_declare_must_fit_what_was_passed),
		cmocka_unit_test(an_owner_leaves_a_quarter_to_others),
		cmocka_unit_test(a_client_that_cuts_its_memory_loses_that_region_only),
		cmocka_unit_test(a_hold_outlives_region_lane_and_listener),
		cmocka_unit_test(a_hold_outlives_a_lane_closed_in_done),
		cmocka_unit_test(a_hold_tells_of_memory_that_went_away),
		cmocka_unit_test(a_mapping_is_declared_from_its_first_hold_to_its_end),
		cmocka_unit_test(segments_of_several_regions_are_copied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
