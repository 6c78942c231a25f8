/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the server of xprt_loop_mapped has mapped, and how its client learns that nothing lands any
 * more.
 *
 * There is one address space, so that a mapping is a note: which bytes, and of which client's
 * session. It stays when region, lane or session go. A fence looks now and then whether a lane of
 * the session's is still there on the server's side (what was sent before the end may still be
 * acted on) or some of its memory is held; a server that is gone has neither.
 */
#include "loop.h"

struct list loop_listeners = { &loop_listeners, &loop_listeners };

void loop_holds_init(struct loop_listener *listener)
{
	list_init(&listener->holds);
	list_init(&listener->free_holds);
	for (uint32_t i = 0; i < LOOP_HOLD_MAX; i++) {
		listener->holds_memory[i].listener = listener;
		list_add_tail(&listener->free_holds, &listener->holds_memory[i].node);
	}
}

int loop_map(struct xprt_group *group, const struct wire_seg *segs, uint32_t seg_count,
	     struct iovec *iov_out, void **hold_out)
{
	struct loop_listener *listener = loop_group_listener(group);
	const struct loop_regions *regions = group->regions;
	struct loop_hold *hold;

	ASSERT(seg_count <= WIRE_SEG_MAX);
	for (uint32_t i = 0; i < seg_count; i++) {
		iov_out[i] = (struct iovec) { loop_region_memory(group, &segs[i]), segs[i].size };
		if (iov_out[i].iov_base == NULL)
			return -ERR_PROTOCOL;
	}
	hold = listener != NULL ? list_head(&listener->free_holds, struct loop_hold, node) : NULL;
	if (hold == NULL)
		return -EOPNOTSUPP;
	list_del(&hold->node);
	list_add_tail(&listener->holds, &hold->node);
	hold->session = regions->session;
	hold->is_cut = false;
	hold->iov_count = seg_count;
	for (uint32_t i = 0; i < seg_count; i++)
		hold->iov[i] = iov_out[i];
	*hold_out = hold;
	return 0;
}

int loop_unmap(void **taken)
{
	struct loop_hold *hold = *taken;

	*taken = NULL;
	list_del(&hold->node);
	list_add_tail(&hold->listener->free_holds, &hold->node);
	return hold->is_cut ? -ERR_PEER : 0;
}

static bool is_touched(const struct loop_hold *hold, const void *base, uint64_t size)
{
	uintptr_t begin = (uintptr_t)base;

	for (uint32_t i = 0; i < hold->iov_count; i++) {
		uintptr_t at = (uintptr_t)hold->iov[i].iov_base;

		if (at < begin + size && begin < at + hold->iov[i].iov_len)
			return true;
	}
	return false;
}

bool xprt_loop_is_held(const void *base, uint64_t size)
{
	list_for_each (pos, &loop_listeners) {
		struct loop_listener *listener = list_entry(pos, struct loop_listener, all_node);

		list_for_each (node, &listener->holds) {
			if (is_touched(list_entry(node, struct loop_hold, node), base, size))
				return true;
		}
	}
	return false;
}

void xprt_loop_cut(const void *base, uint64_t size)
{
	list_for_each (pos, &loop_listeners) {
		struct loop_listener *listener = list_entry(pos, struct loop_listener, all_node);

		list_for_each (node, &listener->holds) {
			struct loop_hold *hold = list_entry(node, struct loop_hold, node);

			hold->is_cut |= is_touched(hold, base, size);
		}
	}
}

/* --- fences --- */

static bool is_lane_of(const struct loop_lane *lane, uint64_t session)
{
	const struct loop_regions *regions =
		lane->lane.group != NULL ? lane->lane.group->regions : NULL;

	return lane->serial == session || (regions != NULL && regions->session == session);
}

static bool is_at_listener(const struct loop_listener *listener, uint64_t session)
{
	list_for_each (pos, &listener->live) {
		if (is_lane_of(list_entry(pos, struct loop_lane, node), session))
			return true;
	}
	list_for_each (pos, &listener->holds) {
		if (list_entry(pos, struct loop_hold, node)->session == session)
			return true;
	}
	return false;
}

static bool is_over(uint64_t session)
{
	list_for_each (pos, &loop_listeners) {
		if (is_at_listener(list_entry(pos, struct loop_listener, all_node), session))
			return false;
	}
	return true;
}

static struct list fences = { &fences, &fences };

static void fence_open(struct xprt_fence *fence)
{
	list_del(&fence->node);
	fence->done(fence);
}

static void fence_look(struct env_timer *timer)
{
	struct xprt_fence *fence = CONTAINER_OF(timer, struct xprt_fence, timer);
	struct env *env = fence->ctx;

	if (is_over(fence->session))
		fence_open(fence);
	else
		env->ops->timer_set(env, timer, env_now_ns(env) + LOOP_FENCE_NS);
}

void loop_fence(struct xprt_lane *lane, struct xprt_fence *fence)
{
	struct env *env = lane->env;

	list_init(&fence->node);
	list_add_tail(&fences, &fence->node);
	fence->ctx = env;
	fence->session = loop_of(lane)->serial;
	fence->timer = (struct env_timer) { .fire = fence_look };
	env->ops->timer_set(env, &fence->timer, env_now_ns(env));
}

void xprt_loop_fences_open(struct env *env)
{
	list_for_each_safe (pos, &fences) {
		struct xprt_fence *fence = list_entry(pos, struct xprt_fence, node);

		if (fence->ctx != env)
			continue;
		env->ops->timer_clear(env, &fence->timer);
		fence_open(fence);
	}
}
