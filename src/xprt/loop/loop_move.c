/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves: the server's side reaches into the client's memory, as a NIC would.
 *
 * All moves of a lane wait in one list. A timer of the server's takes one of them, any, copies some
 * of its bytes between the server's pieces and the client's segments, and is set again; a move ends
 * when its last byte is copied. So bytes land late, in pieces, and out of order.
 *
 * The lane's other end is gone: nothing is copied any more; the moves end with the lane. A segment
 * outside of what the client declared ends its move with -ERR_PROTOCOL.
 */
#include "loop.h"

#include <string.h>

/* --- regions --- */

int loop_declare(struct xprt_lane *lane, struct xprt_region *region)
{
	region->declare = (struct wire_declare) {
		.region = region->id,
		.kind = WIRE_REGION_LOOP,
		.access = 3,
		.size = region->size,
		.address = (uint64_t)(uintptr_t)region->base,
	};
	return 0;
}

void loop_undeclare(struct xprt_lane *lane, struct xprt_region *region)
{
}

static struct xprt_lane *first_lane(const struct xprt_group *group)
{
	for (uint32_t i = 0; i < group->lane_count; i++) {
		if (group->lanes[i] != NULL)
			return group->lanes[i];
	}
	return NULL;
}

struct loop_listener *loop_group_listener(const struct xprt_group *group)
{
	struct xprt_lane *lane = first_lane(group);

	return lane != NULL ? loop_of(lane)->listener : NULL;
}

static bool group_is_live(const struct loop_listener *listener, const struct xprt_group *group)
{
	list_for_each (pos, &listener->live) {
		if (list_entry(pos, struct loop_lane, node)->lane.group == group)
			return true;
	}
	return false;
}

/* A table that is this group's (of an earlier life of that address) or nobody's any more. */
static struct loop_regions *regions_take(struct xprt_group *group)
{
	struct loop_listener *listener = loop_group_listener(group);

	for (uint32_t i = 0; listener != NULL && i < listener->lane_max; i++) {
		struct loop_regions *regions = &listener->regions[i];

		if (regions->group != NULL && regions->group != group &&
		    group_is_live(listener, regions->group))
			continue;
		*regions = (struct loop_regions) { .group = group,
						   .session = loop_of(first_lane(group))->serial };
		return regions;
	}
	return NULL;
}

static struct loop_region *region_find(const struct xprt_group *group, uint32_t id)
{
	struct loop_regions *regions = group->regions;

	for (uint32_t i = 0; regions != NULL && i < LOOP_REGION_MAX; i++) {
		if (regions->rows[i].id == id)
			return &regions->rows[i];
	}
	return NULL;
}

int loop_region_add(struct xprt_group *group, const struct wire_declare *declare)
{
	struct loop_region *row;

	if (declare->kind != WIRE_REGION_LOOP || declare->region == 0 || declare->address == 0)
		return -ERR_PROTOCOL;
	if (group->regions == NULL)
		group->regions = regions_take(group);
	if (group->regions == NULL)
		return -ERR_BUSY;
	if (region_find(group, declare->region) != NULL)
		return -ERR_PROTOCOL;
	row = region_find(group, 0);
	if (row == NULL)
		return -ERR_BUSY;
	*row = (struct loop_region) { declare->region, (uint8_t *)(uintptr_t)declare->address,
				      declare->size };
	return 0;
}

int loop_region_remove(struct xprt_group *group, uint32_t region)
{
	struct loop_region *row = region == 0 ? NULL : region_find(group, region);

	if (row == NULL)
		return -ERR_PROTOCOL;
	*row = (struct loop_region) { 0 };
	return 0;
}

uint8_t *loop_region_memory(const struct xprt_group *group, const struct wire_seg *seg)
{
	const struct loop_region *region =
		seg->region == 0 ? NULL : region_find(group, seg->region);

	if (region == NULL || seg->offset > region->size || seg->size > region->size - seg->offset)
		return NULL;
	return region->base + seg->offset;
}

/* --- moves --- */

/* The client's memory of the next bytes of move, *size_io at most; NULL: it was not declared. */
static uint8_t *client_memory(const struct xprt_move *move, uint64_t *size_io)
{
	uint64_t offset = 0;
	const struct wire_seg *seg = xprt_move_seg(move, &offset);
	uint8_t *memory = seg != NULL ? loop_region_memory(move->lane->group, seg) : NULL;

	if (memory == NULL)
		return NULL;
	*size_io = MIN(*size_io, seg->size - offset);
	return memory + offset;
}

/* Copy up to size bytes of move; false: the client's segments are no good. */
static bool move_some(struct xprt_move *move, bool is_push, uint64_t size)
{
	struct loop_lane *lane = loop_of(move->lane);

	while (size > 0) {
		struct iovec *piece = move->iov;
		uint64_t part = MIN(size, piece->iov_len);
		uint8_t *memory = client_memory(move, &part);

		if (memory == NULL)
			return false;
		if (is_push)
			memcpy(memory, piece->iov_base, part);
		else
			memcpy(piece->iov_base, memory, part);
		xprt_move_advance(move, part);
		size -= part;
		lane->lane.backlog_size -= part;
		if (is_push)
			lane->lane.bytes_out += part;
		else
			lane->lane.bytes_in += part;
	}
	return true;
}

static void mover_arm(struct loop_lane *lane)
{
	struct env *env = lane->lane.env;
	uint64_t delay_ns;

	if (lane->mover.is_set || lane->is_closed || lane->peer == NULL ||
	    list_is_empty(&lane->moves))
		return;
	delay_ns = loop_delay_ns(env, lane->peer->lane.env);
	if (delay_ns == ENV_FOREVER)
		loop_lose(lane);
	else
		env->ops->timer_set(env, &lane->mover, env_now_ns(env) + delay_ns);
}

static struct xprt_move *any_move(struct loop_lane *lane)
{
	struct xprt_move *chosen = NULL;
	uint32_t seen = 0;

	list_for_each (pos, &lane->moves) {
		if (loop_random(lane->lane.env, ++seen) == 0)
			chosen = list_entry(pos, struct xprt_move, node);
	}
	return chosen;
}

static void move_end(struct loop_lane *lane, struct xprt_move *move, int rc)
{
	list_del(&move->node);
	if (lane->lane.backlog_size != UINT64_MAX)
		lane->lane.backlog_size -= move->size - move->moved;
	move->done(move, rc);
}

void loop_mover_fire(struct env_timer *timer)
{
	struct loop_lane *lane = CONTAINER_OF(timer, struct loop_lane, mover);
	struct xprt_move *move = any_move(lane);
	uint64_t size;

	if (lane->peer == NULL || move == NULL)
		return;
	loop_enter(lane);
	size = move->size - move->moved;
	if (loop_random(lane->lane.env, 2) == 0)
		size = 1 + loop_random(lane->lane.env, (uint32_t)size);
	lane->lane.progress_ns = env_now_ns(lane->lane.env);
	if (move->rc == 0) {
		if (!move_some(move, move->priv.words[0] != 0, size))
			move->rc = -ERR_PROTOCOL;
	}
	if (move->rc != 0 || move->moved == move->size)
		move_end(lane, move, move->rc);
	mover_arm(lane);
	loop_leave(lane);
}

static void move_add(struct xprt_lane *xprt_lane, struct xprt_move *move, bool is_push)
{
	struct loop_lane *lane = loop_of(xprt_lane);

	ASSERT(move->size > 0);
	ASSERT(move->size <= WIRE_DATA_MAX);
	ASSERT(move->done != NULL);
	ASSERT(xprt_lane->group != NULL);
	move->lane = xprt_lane;
	move->moved = 0;
	move->rc = 0;
	move->priv.words[0] = is_push;
	list_add_tail(&lane->moves, &move->node);
	if (xprt_lane->backlog_size != UINT64_MAX)
		xprt_lane->backlog_size += move->size;
	mover_arm(lane);
}

void loop_push(struct xprt_lane *lane, struct xprt_move *move)
{
	move_add(lane, move, true);
}

void loop_pull(struct xprt_lane *lane, struct xprt_move *move)
{
	move_add(lane, move, false);
}

void loop_revoke(struct xprt_move *move)
{
	if (move->moved == 0)
		move->rc = -ECANCELED; /* told by the mover */
}

void loop_moves_fail(struct loop_lane *lane, int why)
{
	struct xprt_move *move;

	while ((move = list_head(&lane->moves, struct xprt_move, node)) != NULL)
		move_end(lane, move, why);
}
