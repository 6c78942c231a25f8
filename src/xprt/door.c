/* SPDX-License-Identifier: Apache-2.0 */
#include "door.h"

#include "../base/log.h"

#include <stdio.h>

/* --- accepting, and resting from it --- */

static void door_ready(struct env_sock *sock, void *ctx, uint32_t events);

static void door_watch(struct door *door, bool accepts)
{
	struct env *env = door->listener.env;

	if (door->sock == NULL || door->is_accepting == accepts)
		return;
	door->is_accepting = accepts;
	env->ops->sock_watch(env, door->sock, accepts ? ENV_SOCK_IN : 0, door_ready, door);
}

static void rest_over(struct env_timer *timer)
{
	door_watch(CONTAINER_OF(timer, struct door, rest), true);
}

static void door_rest(struct door *door)
{
	struct env *env = door->listener.env;

	door_watch(door, false);
	env->ops->timer_set(env, &door->rest, env_now_ns(env) + DOOR_REST_NS);
}

/* One more is one too many. */
static bool is_full(const struct door *door)
{
	return door->stranger_count >= DOOR_STRANGER_MAX || list_is_empty(&door->free);
}

/* Make room at the cost of the one who has been a stranger longest. */
static bool stranger_drop(struct door *door)
{
	struct door_lane *oldest = list_head(&door->strangers, struct door_lane, node);

	if (oldest == NULL)
		return false;
	door->kind->drop(oldest, -ERR_BUSY);
	return true;
}

static void door_ready(struct env_sock *sock, void *ctx, uint32_t events)
{
	struct door *door = ctx;
	struct env *env = door->listener.env;

	CHECK_OBJ(door, DOOR_MAGIC);
	for (uint32_t i = 0; i < DOOR_STRANGER_MAX; i++) {
		struct env_sock *accepted;
		int rc;

		if (is_full(door) && i > 0)
			return; /* whether another one waits is not known: the event says */
		if (is_full(door) && !stranger_drop(door)) {
			door_rest(door);
			return;
		}
		rc = env->ops->sock_accept(env, door->sock, &accepted);
		if (rc == -EAGAIN)
			return;
		if (rc < 0) {
			log_warn("listener %s cannot accept: %s", door->address, err_str(rc));
			door_rest(door);
			return;
		}
		(void)door_lane_take(door, accepted);
	}
}

/* --- memory --- */

static size_t lanes_size(const struct door_kind *kind, uint32_t lane_max)
{
	return round_up(lane_max * kind->lane_size, PAGE_SIZE);
}

static size_t memory_size(const struct door_kind *kind, uint32_t lane_max)
{
	return lanes_size(kind, lane_max) + round_up(kind->extra_size(lane_max), PAGE_SIZE);
}

uint64_t door_listen_size(const struct xprt_ops *ops, uint32_t lane_max)
{
	return ops->door->door_size + memory_size(ops->door, lane_max);
}

static void door_free(struct door *door)
{
	struct env *env = door->listener.env;

	ASSERT(door->hold_count == 0);
	env->ops->timer_clear(env, &door->rest);
	door->kind->fini(door);
	env->ops->unmap(env, door->memory, memory_size(door->kind, door->lane_max));
	door->magic = 0;
	env->ops->free(env, door);
}

void door_hold(struct door *door)
{
	door->hold_count++;
}

void door_release(struct door *door)
{
	ASSERT(door->hold_count > 0);
	door->hold_count--;
	if (door->is_unlistened && door->hold_count == 0)
		door_free(door);
}

/* --- lanes --- */

static void stranger_is_late(struct env_timer *timer)
{
	struct door_lane *lane = CONTAINER_OF(timer, struct door_lane, late);

	lane->door->kind->drop(lane, -ETIMEDOUT);
}

void door_lane_stranger(struct door_lane *lane)
{
	struct door *door = lane->door;
	struct env *env = door->listener.env;

	ASSERT(!lane->is_stranger);
	lane->is_stranger = true;
	list_del(&lane->node);
	list_add_tail(&door->strangers, &lane->node);
	door->stranger_count++;
	env->ops->timer_set(env, &lane->late, env_now_ns(env) + DOOR_STRANGER_NS);
}

void door_lane_known(struct door_lane *lane)
{
	struct door *door = lane->door;

	if (!lane->is_stranger)
		return;
	lane->is_stranger = false;
	list_del(&lane->node);
	list_add_tail(&door->known, &lane->node);
	door->stranger_count--;
	door->listener.env->ops->timer_clear(door->listener.env, &lane->late);
}

struct door_lane *door_lane_take(struct door *door, struct env_sock *sock)
{
	struct env *env = door->listener.env;
	struct door_lane *lane;

	if (is_full(door) && !stranger_drop(door)) {
		log_warn("listener %s has no lane left for a connection", door->listener.ops->name);
		env->ops->sock_close(env, sock);
		return NULL;
	}
	lane = list_head(&door->free, struct door_lane, node);
	list_del(&lane->node);
	door->kind->begin(door, lane, sock);
	*lane = (struct door_lane) { .door = door, .late = { .fire = stranger_is_late } };
	list_init(&lane->node);
	door_lane_stranger(lane);
	door_hold(door);
	return lane;
}

void door_lane_put(struct door_lane *lane)
{
	struct door *door = lane->door;

	door_lane_known(lane);
	list_del(&lane->node);
	list_add_tail(&door->free, &lane->node);
	door_watch(door, true);
	door_release(door);
}

/* --- listen, unlisten --- */

static void door_init(struct door *door)
{
	const struct door_kind *kind = door->kind;

	list_init(&door->free);
	list_init(&door->strangers);
	list_init(&door->known);
	for (uint32_t i = 0; i < door->lane_max; i++) {
		void *lane = door->memory + i * kind->lane_size + kind->lane_offset;

		list_add_tail(&door->free, &((struct door_lane *)lane)->node);
	}
	kind->init(door, door->memory + lanes_size(kind, door->lane_max));
}

int door_listen(const struct xprt_ops *ops, struct env *env, const char *address, uint32_t lane_max,
		const struct xprt_user *user, void *ctx, struct xprt_listener **out)
{
	const struct door_kind *kind = ops->door;
	struct door *door;
	int rc;

	ASSERT(lane_max > 0);
	door = env->ops->alloc(env, kind->door_size);
	if (door == NULL)
		return -ENOMEM;
	*door = (struct door) {
		.listener = { .ops = ops, .user = user, .env = env, .ctx = ctx },
		.magic = DOOR_MAGIC,
		.lane_max = lane_max,
		.kind = kind,
		.rest = { .fire = rest_over },
	};
	rc = -ENOMEM;
	door->memory = env->ops->map(env, memory_size(kind, lane_max));
	if (door->memory == NULL)
		goto err_free_door;
	rc = address == NULL ? 0 : env->ops->sock_listen(env, address, &door->sock);
	if (rc < 0)
		goto err_unmap_memory;

	snprintf(door->address, sizeof(door->address), "%s", address != NULL ? address : "");
	door_init(door);
	door_watch(door, true);
	*out = &door->listener;
	return 0;

err_unmap_memory:
	env->ops->unmap(env, door->memory, memory_size(kind, lane_max));
err_free_door:
	env->ops->free(env, door);
	return rc;
}

struct door *door_of(struct xprt_listener *listener)
{
	struct door *door = CONTAINER_OF(listener, struct door, listener);

	CHECK_OBJ(door, DOOR_MAGIC);
	return door;
}

void door_unlisten(struct xprt_listener **listener)
{
	struct door *door;

	if (*listener == NULL)
		return;
	door = door_of(*listener);
	*listener = NULL;
	if (door->sock != NULL)
		door->listener.env->ops->sock_close(door->listener.env, door->sock);
	door->sock = NULL;
	door->is_unlistened = true;
	door_hold(door);
	while (stranger_drop(door)) {
	}
	door_release(door);
}

void door_name(struct xprt_listener *listener, char *buf, size_t buf_size)
{
	snprintf(buf, buf_size, "%s", door_of(listener)->address);
}
