/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations on both ends of a session against a naive model: each control frame arrives
 * once and in its lane's order; each move is done once; a push that is done has landed unless it
 * was forgotten; a pull that is done has brought its bytes; memory of what was forgotten or revoked
 * does not change any more; in the end nothing is left. Then the same with lanes that close at any
 * moment, where only "once" and "no late byte" are promised.
 *
 *   test_suite_random [seed]     replays one seed over every kind
 */
#include "raw.h"

#include "../lib/t.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS           400
#define LANES           3
#define MOVE_MAX        200
#define DIRECT_MOVE_MAX 60 /* each has a region */

static const struct pair_kind *kind;
static uint32_t seed_first = 1;
static uint32_t seed_count = 6;

struct model_move {
	struct pair_move move;
	struct pair_block *block;
	bool is_push;
	bool is_forgotten;
	bool is_poisoned; /* the memory that must not change is full of POISON */
};

#define POISON 0x5a

struct model {
	struct pair pair;
	uint32_t random;
	bool has_closes;
	struct model_move moves[MOVE_MAX];
	uint32_t move_count;
	uint64_t sent[2][LANES]; /* requests of control frames, by sender (0: client) and lane */
};

static uint32_t pick(struct model *model, uint32_t below)
{
	model->random = model->random * 1664525u + 1013904223u;
	return (model->random >> 8) % below;
}

static struct xprt_lane *pick_lane(struct model *model, struct pair_end *end)
{
	return end->group.lanes[pick(model, LANES)];
}

static bool is_direct(void)
{
	return (kind->ops->caps & XPRT_CAP_DIRECT) != 0;
}

/* --- steps --- */

static void step_control(struct model *model)
{
	uint32_t from = pick(model, 2);
	uint32_t index = pick(model, LANES);
	struct pair_end *end = from == 0 ? &model->pair.client : &model->pair.server;
	struct xprt_lane *lane = end->group.lanes[index];
	uint8_t body[8 * KiB] = { 0 };
	struct wire_header header;
	uint32_t size = pick(model, 6000);
	int rc;

	if (lane == NULL)
		return;
	if (from == 0) {
		uint16_t count = (uint16_t)(1 + size / 40);

		wire_header_init(
			&header, WIRE_PROBE, model->sent[0][index] + 1, count,
			(uint32_t)(sizeof(struct wire_request) + count * sizeof(struct wire_key)));
	} else {
		memcpy(body, &(struct wire_text) { .size = size }, sizeof(struct wire_text));
		wire_header_init(&header, WIRE_TEXT, model->sent[1][index] + 1, 0,
				 (uint32_t)sizeof(struct wire_text) + size);
	}
	rc = kind->ops->send(lane, &header, body, NULL, 0);
	assert_true(rc == 0 || rc == -EAGAIN);
	if (rc == 0)
		model->sent[from][index]++;
}

static void step_move(struct model *model)
{
	struct model_move *move = &model->moves[model->move_count];
	uint32_t size = 1 + pick(model, 1u << pick(model, 20));
	uint32_t index = model->move_count;
	struct xprt_lane *lane = pick_lane(model, &model->pair.server);

	if (model->move_count == MOVE_MAX || lane == NULL)
		return;
	if (is_direct() &&
	    (model->move_count == DIRECT_MOVE_MAX || model->pair.client.group.lanes[0] == NULL ||
	     model->pair.server.group.lanes[0] == NULL))
		return;
	*move = (struct model_move) { .is_push = pick(model, 2) == 0 };
	move->block = pair_block_add(&model->pair, index + 1, size, 1 + pick(model, size));
	pair_move_init(&move->move, &model->pair, move->block, 0, size,
		       MIN(size, 1 + pick(model, XPRT_MOVE_IOV_MAX)));
	pair_fill(move->is_push ? move->move.bytes : move->block->bytes, size, index);
	model->move_count++;
	if (move->is_push)
		kind->ops->push(lane, &move->move.move);
	else
		kind->ops->pull(lane, &move->move.move);
}

static struct model_move *pick_move(struct model *model)
{
	if (model->move_count == 0)
		return NULL;
	/* Late ones are more often under way. */
	return &model->moves[model->move_count - 1 - pick(model, MIN(model->move_count, 8))];
}

static void step_revoke(struct model *model)
{
	struct model_move *move = pick_move(model);

	if (move != NULL && move->move.done == 0)
		kind->ops->revoke(&move->move.move);
}

/* The client's operation ends: its caller uses the memory for something else at once. */
static void step_forget(struct model *model)
{
	struct model_move *move = pick_move(model);

	if (move == NULL || move->is_forgotten || is_direct())
		return;
	kind->ops->forget(&model->pair.client.group, move->block->request);
	move->is_forgotten = true;
	move->block->is_gone = true;
	memset(move->block->bytes, POISON, move->block->size);
}

/* Of tcp: an end reads nothing for a while. */
static void step_hold(struct model *model)
{
	struct xprt_lane *lane =
		pick_lane(model, pick(model, 2) == 0 ? &model->pair.client : &model->pair.server);

	if (pick(model, 2) == 0)
		pair_release(&model->pair);
	else if (lane != NULL)
		(void)pair_hold(&model->pair, lane);
}

static void step_close(struct model *model)
{
	struct pair_end *end = pick(model, 2) == 0 ? &model->pair.client : &model->pair.server;

	kind->ops->close(&end->group.lanes[pick(model, LANES)]);
}

static void step(struct model *model)
{
	uint32_t what = pick(model, 100);

	if (what < 25)
		step_control(model);
	else if (what < 55)
		step_move(model);
	else if (what < 62)
		step_revoke(model);
	else if (what < 72)
		step_forget(model);
	else if (what < 78)
		step_hold(model);
	else if (what < 79 && model->has_closes)
		step_close(model);
	else
		pair_poll(&model->pair);
}

/* --- what must hold --- */

static bool is_poison(const uint8_t *bytes, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++) {
		if (bytes[i] != POISON)
			return false;
	}
	return true;
}

/* The memory of a move that was done without success is the server's again. */
static void moves_poison(struct model *model)
{
	for (uint32_t i = 0; i < model->move_count; i++) {
		struct model_move *move = &model->moves[i];

		assert_true(move->move.done <= 1);
		if (move->move.done == 0 || move->move.rc == 0 || move->is_poisoned)
			continue;
		memset(move->move.bytes, POISON, move->move.move.size);
		move->is_poisoned = true;
	}
}

static void move_check(struct model *model, uint32_t index)
{
	struct model_move *move = &model->moves[index];
	uint32_t size = move->block->size;

	assert_int_equal(move->move.done, 1);
	if (move->is_forgotten)
		assert_true(is_poison(move->block->bytes, size));
	if (move->is_poisoned)
		assert_true(is_poison(move->move.bytes, size));
	if (move->move.rc != 0) {
		assert_true(model->has_closes || move->move.rc == -ECANCELED);
		return;
	}
	if (!move->is_push) {
		assert_true(pair_is_filled(move->move.bytes, size, index));
		return;
	}
	if (move->is_forgotten || (model->has_closes && move->block->got == 0))
		return;
	assert_true(pair_is_filled(move->block->bytes, size, index));
}

/* Control frames of each lane have come in order, without a gap; without closes all of them. */
static void frames_check(struct model *model, const struct pair_end *end, uint32_t sender)
{
	uint64_t seen[LANES] = { 0 };

	for (uint32_t i = 0; i < end->frame_count; i++) {
		uint32_t lane = end->frames[i].lane;

		assert_int_equal(end->frames[i].request, ++seen[lane]);
	}
	for (uint32_t i = 0; i < LANES; i++) {
		assert_true(seen[i] <= model->sent[sender][i]);
		if (!model->has_closes)
			assert_int_equal(seen[i], model->sent[sender][i]);
	}
}

/* Let everything come to its end: read all, answer what is owed, revoke what nobody answers. */
static void finish(struct model *model)
{
	struct pair_end *ends[2] = { &model->pair.client, &model->pair.server };

	pair_release(&model->pair);
	pair_settle(&model->pair);
	for (uint32_t i = 0; i < model->move_count; i++) {
		struct model_move *move = &model->moves[i];

		if (move->move.done > 0)
			continue;
		/* A put that the client forgot, or lost with a lane: what a stall timer is for. */
		assert_true(!move->is_push);
		assert_true(move->is_forgotten || model->has_closes);
		kind->ops->revoke(&move->move.move);
	}
	pair_settle(&model->pair);
	for (uint32_t i = 0; i < LANES; i++) {
		if (model->has_closes)
			break;
		assert_int_equal(ends[0]->group.lanes[i]->backlog_size, 0);
		assert_int_equal(ends[1]->group.lanes[i]->backlog_size, 0);
	}
	assert_true(list_is_empty(&model->pair.server.group.pulls));
}

static void run(uint32_t seed, bool has_closes)
{
	struct model *model = calloc(1, sizeof(*model));

	assert_non_null(model);
	print_message("%s: seed %u%s\n", kind->name, seed, has_closes ? " with closes" : "");
	model->random = seed;
	model->has_closes = has_closes;
	pair_init(&model->pair, kind);
	pair_connect(&model->pair, LANES);
	for (uint32_t i = 0; i < LANES && (kind->ops->caps & XPRT_CAP_MAC) != 0; i++) {
		kind->ops->secure(model->pair.server.group.lanes[i], raw_mac(WIRE_S2C),
				  raw_mac(WIRE_C2S));
		kind->ops->secure(model->pair.client.group.lanes[i], raw_mac(WIRE_C2S),
				  raw_mac(WIRE_S2C));
	}
	for (uint32_t i = 0; i < STEPS; i++) {
		step(model);
		moves_poison(model);
	}
	finish(model);
	moves_poison(model);
	for (uint32_t i = 0; i < model->move_count; i++)
		move_check(model, i);
	frames_check(model, &model->pair.server, 0);
	frames_check(model, &model->pair.client, 1);
	if (!has_closes)
		assert_int_equal(model->pair.client.closed + model->pair.server.closed, 0);
	for (uint32_t i = 0; i < model->move_count; i++)
		pair_move_fini(&model->moves[i].move);
	pair_fini(&model->pair);
	free(model);
}

static void random_operations_keep_the_promises(void **state)
{
	for (uint32_t seed = seed_first; seed < seed_first + seed_count; seed++)
		run(seed, false);
}

static void random_operations_with_closes_keep_the_promises(void **state)
{
	for (uint32_t seed = seed_first; seed < seed_first + seed_count; seed++)
		run(seed, true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations_keep_the_promises),
		cmocka_unit_test(random_operations_with_closes_keep_the_promises),
	};
	int failed = 0;

	if (argc > 1) {
		seed_first = (uint32_t)strtoul(argv[1], NULL, 10);
		seed_count = 1;
	}
	for (size_t i = 0; i < pair_kind_count; i++) {
		kind = &pair_kinds[i];
		if (!pair_kind_is_here(kind))
			continue;
		failed += cmocka_run_group_tests_name(kind->name, tests, NULL, NULL);
	}
	return failed;
}
