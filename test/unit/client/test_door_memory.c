/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a door asks of the client whose session has moved: memory that is staged, ops whose RELEASE
 * waits for the server or a fence; in every order of what may happen to them.
 */
#include <stdlib.h>
#include <string.h>

#include "door_rig.h"

/* --- staging --- */

static const struct wire_seg *get_seg(const struct sent *sent)
{
	const struct wire_get *get = wire_items(&sent->header, sent->body);

	assert_int_equal(sent->header.kind, WIRE_GET);
	assert_int_equal(get->seg_count, 1);
	return wire_get_segs(get);
}

static void what_is_not_declared_is_staged(void **state)
{
	struct test_op get;
	struct ctxkv_stat stat;

	begin_moved();
	memset(memory, 0, 200);
	submit(&get, CTXKV_OP_GET, 1, 100);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(get_seg(&w.sent[0])->region, w.client->stage_region->region.id);
	memset(stage_memory + get_seg(&w.sent[0])->offset, 'x', 100);
	assert_int_equal(memory[0], 0);
	client_get_stat(w.client, &stat);
	assert_int_equal(stat.staging_used, STAGE_CHUNK);
	assert_int_equal(reply_all(&w.sent[0], 0, 90, 0), 0);
	assert_int_equal(told(&get), BOTH);
	assert_int_equal(memory[89], 'x');
	assert_int_equal(memory[90], 0); /* not one byte more than the result says */
	client_get_stat(w.client, &stat);
	assert_int_equal(stat.bytes_copied, 90);
	assert_int_equal(stat.staging_used, 0);
	end();
}

static void declared_memory_that_can_be_shared_is_served_in_place(void **state)
{
	struct ctxkv_region *region = NULL;
	struct ctxkv_region_info info;
	struct test_op get;

	begin_moved();
	assert_int_equal(client_region_declare(w.client, memory, MEMORY_SIZE, 0, &region), 0);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(w.sent[0].header.kind, WIRE_DECLARE);
	client_region_info(region, &info);
	assert_string_equal(info.served, "door: in place");
	assert_int_equal(info.is_direct, 1);
	sent_clear();
	submit(&get, CTXKV_OP_GET, 1, 100);
	assert_int_equal(get_seg(&w.sent[0])->region, region->region.id);
	assert_int_equal(client_region_undeclare(w.client, &region), -EBUSY);
	assert_int_equal(reply_all(&w.sent[0], 0, 100, 0), 0);
	assert_int_equal(w.client->stat.bytes_copied, 0);
	assert_int_equal(client_region_undeclare(w.client, &region), 0);
	end();
}

/* The server ends a session that notes one region twice. */
static void memory_is_declared_once_however_busy_the_session_is(void **state)
{
	struct ctxkv_region *region = NULL;
	struct test_op gets[3];
	uint32_t shares;

	begin_door();
	w.peers[0].welcome.request_max = 3;
	w.peers[1].welcome.request_max = 3;
	hello(0);
	pass_ns(1);
	hello(1); /* and the staging area is declared */
	for (uint32_t i = 0; i < 2; i++)
		submit(&gets[i], CTXKV_OP_GET, 1, 100);
	shares = w.shares;
	assert_int_equal(client_region_declare(w.client, memory, MEMORY_SIZE, 0, &region), 0);
	for (uint32_t i = 0; i < 5; i++)
		pass_ns(NS_PER_MS);
	assert_int_equal(w.shares, shares);
	assert_int_equal(w.sent_count, 3);
	assert_int_equal(reply_all(&w.sent[1], -ERR_MISS, 0, 0), 0);
	assert_int_equal(w.shares, shares + 1);
	assert_int_equal(w.sent_count, 4);
	assert_int_equal(w.sent[3].header.kind, WIRE_DECLARE);
	end();
}

static void private_memory_is_staged_and_says_so(void **state)
{
	struct ctxkv_region *region = NULL;
	struct ctxkv_region_info info;
	struct wire_result refusal = { .status = -EINVAL };

	for (int is_refused = 0; is_refused < 2; is_refused++) {
		begin_moved();
		w.share_error = is_refused ? 0 : -EOPNOTSUPP;
		assert_int_equal(client_region_declare(w.client, memory, MEMORY_SIZE, 0, &region),
				 0);
		assert_int_equal(w.sent_count, is_refused);
		if (is_refused)
			assert_int_equal(reply(&w.sent[0], &refusal, 1, true, 0), 0);
		client_region_info(region, &info);
		assert_string_equal(info.served, "door: staged");
		assert_int_equal(info.is_direct, 0);
		end();
	}
}

/* A put is copied in before it is sent, and not again. */
static void puts_are_copied_in(void **state)
{
	const struct wire_put *put;
	struct test_op op;

	begin_moved();
	memset(memory, 'p', MEMORY_SIZE);
	submit(&op, CTXKV_OP_PUT, 1, 100000);
	assert_int_equal(w.sent_count, 1);
	put = wire_items(&w.sent[0].header, w.sent[0].body);
	assert_int_equal(put->seg_count, 1);
	assert_memory_equal(stage_memory + wire_put_segs(put)->offset, memory, 100000);
	assert_int_equal(reply_all(&w.sent[0], 0, 0, 0), 0);
	assert_int_equal(w.client->stat.bytes_copied, 100000);
	assert_int_equal(w.client->stage.free_count, w.client->stage.chunk_count);
	end();
}

static uint64_t prepared; /* bytes of the staging area, from its beginning */

/* In order, none twice, in whole steps; what would be written over is seen. */
static void note_prepared(void *base, uint64_t size)
{
	assert_ptr_equal(base, stage_memory + prepared);
	assert_int_equal(size, STAGE_STEP);
	memset(base, 0, size);
	prepared += size;
}

/* Staged, and not answered. */
static void put_staged(struct test_op *op, struct ctxkv_iov *iov)
{
	memset(op, 0, sizeof(*op));
	op->op.opcode = CTXKV_OP_PUT;
	op->op.items = op->items;
	op->op.item_count = 1;
	op->items[0].iov = iov;
	op->items[0].iov_count = 1;
	assert_int_equal(client_submit(w.client, &op->op), 0);
}

/* Before its first byte is there, and no more of it than is used. */
static void the_staging_area_is_prepared_as_it_is_used(void **state)
{
	struct client_opts opts = door_opts();
	uint8_t *bytes = malloc(3 * MiB);
	struct ctxkv_iov small = { memory, 100000 };
	struct ctxkv_iov large = { bytes, 3 * MiB };
	struct sent first;
	struct test_op ops[3];
	const struct wire_put *put;

	assert_non_null(bytes);
	prepared = 0;
	opts.stage_prepare = note_prepared;
	begin_moved_with(&opts);
	assert_int_equal(prepared, 0);
	memset(memory, 'p', 100000);
	memset(bytes, 'q', 3 * MiB);
	put_staged(&ops[0], &small);
	assert_int_equal(prepared, STAGE_STEP);
	first = w.sent[0];
	put_staged(&ops[1], &large);
	assert_int_equal(prepared, 2 * STAGE_STEP);
	put = wire_items(&w.sent[1].header, w.sent[1].body);
	assert_memory_equal(stage_memory, memory, 100000);
	assert_memory_equal(stage_memory + wire_put_segs(put)->offset, bytes, 3 * MiB);
	assert_int_equal(reply_all(&first, 0, 0, 0), 0);
	put_staged(&ops[2], &small); /* in the first's place */
	assert_int_equal(prepared, 2 * STAGE_STEP);
	assert_memory_equal(stage_memory, memory, 100000);
	end();
	free(bytes);
}

static void ops_wait_for_room_to_stage(void **state)
{
	static uint8_t large[1];
	struct ctxkv_iov iov = { large, WIRE_BLOCK_MAX };
	struct test_op gets[2];
	struct sent first;

	begin_moved();
	for (int i = 0; i < 2; i++) {
		memset(&gets[i], 0, sizeof(gets[i]));
		gets[i].op.opcode = CTXKV_OP_GET;
		gets[i].op.items = gets[i].items;
		gets[i].op.item_count = 1;
		gets[i].items[0].iov = &iov;
		gets[i].items[0].iov_count = 1;
		assert_int_equal(client_submit(w.client, &gets[i].op), 0);
	}
	assert_int_equal(w.sent_count, 1);
	first = w.sent[0];
	assert_int_equal(told(&gets[1]), 0);
	assert_int_equal(reply_all(&first, -ERR_MISS, 0, 0), 0);
	assert_int_equal(told(&gets[0]), BOTH);
	assert_int_equal(w.sent_count, 2);
	end();
}

/* Neither the frame's failure nor the next way may see what was staged for nothing. */
static void what_was_staged_for_nothing_is_forgotten(void **state)
{
	struct test_op get;

	begin_moved();
	pass_ns(2 * NS_PER_S);
	w.is_full = true;
	submit(&get, CTXKV_OP_GET, 1, 100);
	assert_int_equal(w.client->stage.free_count, w.client->stage.chunk_count);
	w.is_full = false;
	lane_break(1, -ERR_PEER);
	w.door_error = -ENOENT;
	pass_ns(1);
	hello(2);
	pass_ns(1);
	assert_int_equal(w.sent[0].header.kind, WIRE_GET);
	assert_transport("fake");
	assert_int_equal(item_state(&get.items[0])->landed, 0);
	end();
}

static void without_a_staging_area_memory_is_declared_or_refused(void **state)
{
	struct test_op get;

	begin(&fake_door, 1);
	w.stage = memory + 1; /* none */
	connect_all(1);
	submit(&get, CTXKV_OP_GET, 1, 100);
	assert_int_equal(w.sent_count, 2);
	assert_int_equal(w.sent[0].header.kind, WIRE_DECLARE);
	assert_int_equal(get_seg(&w.sent[1])->region, 1);
	end();

	begin(&fake_door, 1);
	w.stage = memory + 1;
	w.share_error = -EOPNOTSUPP;
	connect_all(1);
	submit(&get, CTXKV_OP_GET, 1, 100);
	settle();
	assert_int_equal(told(&get), BOTH);
	assert_int_equal(get.items[0].status, -EINVAL);
	submit(&get, CTXKV_OP_PROBE, 1, 0); /* the session goes on */
	assert_int_equal(w.sent[0].header.kind, WIRE_PROBE);
	end();
}

/* --- result and release --- */

static void a_staged_op_is_released_with_its_result(void **state)
{
	struct test_op get;
	struct test_op next;
	struct sent first;

	begin_moved();
	memset(memory, 0, 200);
	submit(&get, CTXKV_OP_GET, 1, 100);
	first = w.sent[0];
	pass_ns(10 * NS_PER_S);
	assert_int_equal(told(&get), BOTH);
	assert_int_equal(w.sent[1].header.kind, WIRE_CANCEL);
	/* Its slot is nobody else's until the server's last word. */
	assert_int_equal(w.client->stage.free_count, w.client->stage.chunk_count - 1);
	submit(&next, CTXKV_OP_GET, 1, 100);
	assert_int_not_equal(get_seg(&w.sent[2])->offset, get_seg(&first)->offset);
	memset(stage_memory + get_seg(&first)->offset, 'x', 100);
	assert_int_equal(reply_all(&first, 0, 100, 0), 0);
	assert_int_equal(memory[0], 0); /* nor the caller's memory written any more */
	assert_int_equal(told(&next), 0);
	assert_int_equal(w.client->stage.free_count, w.client->stage.chunk_count - 1);
	end();
}

/* Ops without memory are released at once. */
static void a_probe_does_not_wait_for_anybody(void **state)
{
	struct test_op probe;

	begin_moved();
	submit(&probe, CTXKV_OP_PROBE, 3, 0);
	pass_ns(NS_PER_S);
	assert_int_equal(told(&probe), BOTH);
	assert_int_equal(w.fence_count, 0);
	end();
}

static struct ctxkv_region *declare_memory(void)
{
	struct ctxkv_region *region = NULL;

	assert_int_equal(client_region_declare(w.client, memory, MEMORY_SIZE, 0, &region), 0);
	sent_clear();
	return region;
}

/* The server is silent: its session is given up, but not the memory. */
static void an_op_in_place_waits_for_the_fence(void **state)
{
	struct ctxkv_region *region;
	struct test_op get;

	begin_moved();
	region = declare_memory();
	submit(&get, CTXKV_OP_GET, 1, 100);
	pass_ns(10 * NS_PER_S);
	assert_int_equal(told(&get), CTXKV_RESULT);
	assert_int_equal(get.op.status, -ERR_DEADLINE);
	assert_int_equal(w.fence_count, 0);
	pass_ns(100 * NS_PER_MS);
	assert_int_equal(w.fence_count, 1);
	assert_false(w.lanes[1].is_open);
	pass_ns(30 * NS_PER_S);
	assert_int_equal(told(&get), CTXKV_RESULT);
	assert_int_equal(client_region_undeclare(w.client, &region), -EBUSY);
	fence_end(0);
	assert_int_equal(told(&get), BOTH);
	assert_int_equal(client_region_undeclare(w.client, &region), 0);
	end();
}

static void a_staged_slot_waits_for_the_fence(void **state)
{
	struct test_op get;

	begin_moved();
	submit(&get, CTXKV_OP_GET, 1, 100);
	lane_break(1, -ERR_PEER);
	assert_int_equal(told(&get), BOTH);
	assert_int_equal(get.op.status, -ERR_PEER);
	assert_int_equal(w.fence_count, 1);
	assert_int_equal(w.client->stage.free_count, w.client->stage.chunk_count - 1);
	fence_end(0);
	assert_int_equal(w.client->stage.free_count, w.client->stage.chunk_count);
	end();
}

/* Another session is up and used while the fence of the first one waits. */
static void a_fence_does_not_hold_up_the_next_session(void **state)
{
	struct test_op get;
	struct test_op next;

	begin_moved();
	declare_memory();
	pass_ns(2 * NS_PER_S);
	submit(&get, CTXKV_OP_GET, 1, 100);
	lane_break(1, -ERR_PEER);
	assert_int_equal(told(&get), CTXKV_RESULT);
	pass_ns(1);
	hello(2);
	pass_ns(1);
	hello(3);
	assert_transport("door");
	submit(&next, CTXKV_OP_GET, 1, 100);
	assert_int_equal(reply_all(&w.sent[w.sent_count - 1], -ERR_MISS, 0, 0), 0);
	assert_int_equal(told(&next), BOTH);
	assert_int_equal(told(&get), CTXKV_RESULT);
	fence_end(0);
	assert_int_equal(told(&get), BOTH);
	end();
}

static void nothing_under_way_needs_no_fence(void **state)
{
	struct test_op put;

	begin_moved();
	submit(&put, CTXKV_OP_PUT, 1, 100); /* its bytes are in the frame */
	lane_break(1, -ERR_PEER);
	assert_int_equal(told(&put), BOTH);
	assert_int_equal(w.fence_count, 0);
	end();
}

/* The end of the client: results at once, memory of callers waited for, its own left behind. */
static void the_end_waits_for_memory_of_callers(void **state)
{
	struct test_op gets[2];

	begin_moved();
	w.peers[1].welcome.stall_ms = 0;
	declare_memory();
	submit(&gets[0], CTXKV_OP_GET, 1, 100);
	client_end(w.client);
	settle();
	assert_int_equal(told(&gets[0]), CTXKV_RESULT);
	assert_false(client_is_over(w.client));
	assert_true(client_is_holding(w.client));
	assert_true(client_end_max_ns(w.client) > NS_PER_S);
	assert_true(client_end_max_ns(w.client) < 30 * NS_PER_S);
	w.fences[0]->io_ms = 30000; /* its drive may go on so long */
	assert_true(client_end_max_ns(w.client) > 40 * NS_PER_S);
	fence_end(0);
	assert_int_equal(told(&gets[0]), BOTH);
	assert_true(client_is_over(w.client));
	end();

	begin_moved();
	submit(&gets[1], CTXKV_OP_GET, 1, 100);
	client_end(w.client);
	settle();
	assert_int_equal(told(&gets[1]), BOTH);
	assert_false(client_is_over(w.client));
	assert_false(client_is_holding(w.client));
	assert_true(client_end_max_ns(w.client) < NS_PER_S);
	end();
}

/* --- every interleaving --- */

/*
 * One get in place and one staged, and what may happen to them, in every order: the deadline, the
 * server's answers, the end of the connection, the fence, bytes that land late. In each state:
 * an op has its RELEASE only when nothing can land for it any more; a slot is free only then; what
 * lands late reaches no caller's memory that was released, and no slot that is another's.
 */
enum step { DEADLINE, ANSWER_IN_PLACE, ANSWER_STAGED, CANCELLED, CONNECTION_ENDS, FENCE, STEPS };

struct path {
	enum step steps[STEPS];
	uint32_t count;
	struct test_op in_place;
	struct test_op staged;
	struct sent frames[2];
	bool is_answered[2];
	bool is_closed;
	bool is_fenced;
};

/* Whether the server may still write for that request. */
static bool may_land(const struct path *path, int which)
{
	return !path->is_answered[which] && !path->is_fenced;
}

static void path_check(const struct path *path)
{
	uint32_t taken = w.client->stage.chunk_count - w.client->stage.free_count;

	if (may_land(path, 0))
		assert_true((told(&path->in_place) & CTXKV_RELEASE) == 0);
	if (may_land(path, 1))
		assert_int_equal(taken, 1);
	/* And nothing is held for longer than that. */
	if (!may_land(path, 0))
		assert_int_equal(told(&path->in_place), BOTH);
	if (!may_land(path, 1))
		assert_int_equal(taken, 0);
	if (told(&path->staged) != 0)
		assert_int_equal(told(&path->staged), BOTH);
}

/* The server's bytes, as late as it can be. */
static void path_land(const struct path *path)
{
	uint8_t before[100];

	if (!may_land(path, 1))
		return;
	memcpy(before, memory + 1000, sizeof(before));
	memset(stage_memory + get_seg(&path->frames[1])->offset, 'y', 100);
	if (told(&path->staged) != 0)
		assert_memory_equal(memory + 1000, before, sizeof(before));
}

/* False: it cannot happen now. */
static bool path_step(struct path *path, enum step step)
{
	struct sent cancel = { .lane = UINT32_MAX };
	struct wire_result result = { 0 };
	int which = step == ANSWER_STAGED;

	switch (step) {
	case DEADLINE:
		if (told(&path->in_place) != 0 && told(&path->staged) != 0)
			return false;
		pass_ns(10 * NS_PER_S);
		return true;
	case ANSWER_IN_PLACE:
	case ANSWER_STAGED:
		if (path->is_closed || path->is_answered[which])
			return false;
		path->is_answered[which] = true;
		assert_int_equal(reply_all(&path->frames[which], 0, 100, 0), 0);
		return true;
	case CANCELLED:
		for (uint32_t i = 0; i < w.sent_count; i++) {
			if (w.sent[i].header.kind == WIRE_CANCEL &&
			    ((const struct wire_cancel *)wire_items(&w.sent[i].header,
								    w.sent[i].body))
					    ->request == path->frames[0].header.request)
				cancel = w.sent[i];
		}
		if (cancel.lane == UINT32_MAX || path->is_closed)
			return false;
		path->is_answered[0] = true;
		assert_int_equal(reply(&cancel, &result, 1, true, 0), 0);
		return true;
	case CONNECTION_ENDS:
		if (path->is_closed)
			return false;
		path->is_closed = true;
		lane_break(1, -ERR_PEER);
		return true;
	default:
		if (w.fence_count == 0 || w.fences[0] == NULL)
			return false;
		path->is_fenced = true;
		fence_end(0);
		return true;
	}
}

/* Both ops are under way. */
static void path_begin(struct path *path)
{
	begin_moved();
	assert_int_equal(w.client->stage.free_count, w.client->stage.chunk_count);
	memset(memory, 0, 2000);
	{
		struct ctxkv_region *region = NULL;

		assert_int_equal(client_region_declare(w.client, memory, 1000, 0, &region), 0);
		sent_clear();
	}
	submit(&path->in_place, CTXKV_OP_GET, 1, 100);
	memset(&path->staged, 0, sizeof(path->staged));
	path->staged.op = (struct ctxkv_op) { .opcode = CTXKV_OP_GET,
					      .items = path->staged.items,
					      .item_count = 1 };
	path->staged.iovs[0] = (struct ctxkv_iov) { memory + 1000, 100 };
	path->staged.items[0].iov = path->staged.iovs;
	path->staged.items[0].iov_count = 1;
	assert_int_equal(client_submit(w.client, &path->staged.op), 0);
	assert_int_equal(w.sent_count, 2);
	memcpy(path->frames, w.sent, sizeof(path->frames));
}

static uint32_t paths_tried;

/* All ways to go on from steps[0 … count - 1]; each is played from the beginning. */
static void path_try(const enum step *steps, uint32_t count)
{
	struct path *path = calloc(1, sizeof(*path));
	bool is_possible = true;
	enum step longer[STEPS];

	path_begin(path);
	path_check(path);
	for (uint32_t i = 0; i < count && is_possible; i++) {
		is_possible = path_step(path, steps[i]);
		path_land(path);
		path_check(path);
	}
	end();
	assert_int_equal(told(&path->in_place), BOTH);
	assert_int_equal(told(&path->staged), BOTH);
	free(path);
	paths_tried++;
	memcpy(longer, steps, count * sizeof(*steps));
	for (int step = 0; is_possible && step < STEPS; step++) {
		bool is_used = false;

		for (uint32_t i = 0; i < count; i++)
			is_used |= (int)steps[i] == step;
		if (is_used)
			continue;
		longer[count] = (enum step)step;
		path_try(longer, count + 1);
	}
}

static void every_order_of_what_may_happen(void **state)
{
	const enum step none[1] = { DEADLINE };

	path_try(none, 0);
	assert_true(paths_tried > 100);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_declared_is_staged),
		cmocka_unit_test(declared_memory_that_can_be_shared_is_served_in_place),
		cmocka_unit_test(memory_is_declared_once_however_busy_the_session_is),
		cmocka_unit_test(private_memory_is_staged_and_says_so),
		cmocka_unit_test(puts_are_copied_in),
		cmocka_unit_test(the_staging_area_is_prepared_as_it_is_used),
		cmocka_unit_test(ops_wait_for_room_to_stage),
		cmocka_unit_test(what_was_staged_for_nothing_is_forgotten),
		cmocka_unit_test(without_a_staging_area_memory_is_declared_or_refused),
		cmocka_unit_test(a_staged_op_is_released_with_its_result),
		cmocka_unit_test(a_probe_does_not_wait_for_anybody),
		cmocka_unit_test(an_op_in_place_waits_for_the_fence),
		cmocka_unit_test(a_staged_slot_waits_for_the_fence),
		cmocka_unit_test(a_fence_does_not_hold_up_the_next_session),
		cmocka_unit_test(nothing_under_way_needs_no_fence),
		cmocka_unit_test(the_end_waits_for_memory_of_callers),
		cmocka_unit_test(every_order_of_what_may_happen),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, door_group_begin, door_group_end);
}
