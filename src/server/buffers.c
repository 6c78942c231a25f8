/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A want is granted when it is the first of the share's queue and all its pieces fit. Pieces are
 * BUFFER_MAX, the last one as small as will do. The buddy allocator cannot be fragmented for ever:
 * whatever else is in the share is given back some day, and then the first of the queue fits,
 * however large it is (reactor_create() checks that the largest block fits an empty share).
 */
#include "buffers.h"

int buffers_arena_init(struct buffers_arena *arena, struct env *env, uint64_t size)
{
	ASSERT(size % BUDDY_PIECE_MAX == 0);
	ASSERT(size > 0);
	*arena = (struct buffers_arena) { .env = env, .size = size };
	arena->memory = env->ops->map(env, size);
	if (arena->memory == NULL)
		return -ENOMEM;
	arena->pages = env->ops->alloc(env, buddy_pages_size(size));
	if (arena->pages == NULL) {
		env->ops->unmap(env, arena->memory, size);
		arena->memory = NULL;
		return -ENOMEM;
	}
	env->ops->blk_declare(env, arena->memory, size);
	return 0;
}

void buffers_arena_fini(struct buffers_arena *arena)
{
	struct env *env = arena->env;

	if (arena->memory == NULL)
		return;
	env->ops->blk_undeclare(env, arena->memory);
	env->ops->free(env, arena->pages);
	env->ops->unmap(env, arena->memory, arena->size);
	*arena = (struct buffers_arena) { 0 };
}

uint64_t buffers_arena_memory_size(uint64_t size)
{
	return size + buddy_pages_size(size);
}

void buffers_arena_give(struct buffers_arena *arena, struct buddy *buddy, uint64_t size)
{
	buddy_init_part(buddy, arena->memory, arena->size, arena->pages, arena->given, size);
	arena->given += size;
}

void buffers_init(struct buffers *pool, struct buffers_arena *arena, uint64_t size)
{
	*pool = (struct buffers) { .waits = 0 };
	list_init(&pool->waiters);
	buffers_arena_give(arena, &pool->buddy, size);
}

void buffers_quota_init(struct buffers_quota *quota, uint64_t max)
{
	*quota = (struct buffers_quota) { .max = max };
	list_init(&quota->waiters);
}

uint64_t buffers_held_size(uint64_t size)
{
	uint64_t tail = size % BUFFER_MAX;

	return size - tail + (tail > 0 ? buddy_piece_size(tail) : 0);
}

uint32_t buffers_piece_count(uint64_t size)
{
	return (uint32_t)((size + BUFFER_MAX - 1) / BUFFER_MAX);
}

/* All pieces or none. */
static bool want_take(struct buffers *pool, struct buffers_want *want)
{
	uint64_t left = want->size;

	if (want->held > pool->buddy.size - pool->buddy.used)
		return false;
	want->iov_count = 0;
	while (left > 0) {
		uint64_t here = MIN(left, BUFFER_MAX);
		void *piece = buddy_take(&pool->buddy, here);

		if (piece == NULL) {
			while (want->iov_count > 0)
				buddy_give(&pool->buddy, want->iov[--want->iov_count].iov_base);
			return false;
		}
		want->iov[want->iov_count++] = (struct iovec) { piece, here };
		left -= here;
	}
	want->state = BUFFERS_HELD;
	return true;
}

/* One in any case; within its own; or, while nobody waits for the share, no more than is left for
 * others. */
static bool quota_fits(const struct buffers_quota *quota, const struct buffers_want *want)
{
	const struct buffers *pool = want->pool;
	uint64_t sum = quota->used + want->held;

	return quota->used == 0 || sum <= quota->max ||
	       (list_is_empty(&pool->waiters) &&
		sum + want->held <= pool->buddy.size - pool->buddy.used);
}

/* Through the quotas that it has yet to pass; false: it waits at one. */
static bool want_pass(struct buffers_want *want)
{
	for (; want->passed < BUFFERS_QUOTAS; want->passed++) {
		struct buffers_quota *quota = want->quotas[want->passed];

		if (quota == NULL)
			continue;
		if (!list_is_empty(&quota->waiters) || !quota_fits(quota, want)) {
			want->state = BUFFERS_HELD_UP;
			list_add_tail(&quota->waiters, &want->node);
			return false;
		}
		quota->used += want->held;
	}
	return true;
}

/* It stands in the share's queue from now on. */
static void want_enter(struct buffers_want *want)
{
	list_add_tail(&want->pool->waiters, &want->node);
	want->state = BUFFERS_QUEUED;
}

/* Grant from the front of the queue as far as it goes. */
static void pool_grant(struct buffers *pool)
{
	for (;;) {
		struct buffers_want *want = list_head(&pool->waiters, struct buffers_want, node);

		if (want == NULL || !want_take(pool, want))
			return;
		list_del(&want->node);
		want->granted(want);
	}
}

static void quota_give(struct buffers_quota *quota, uint64_t held)
{
	ASSERT(quota->used >= held);
	quota->used -= held;
	for (;;) {
		struct buffers_want *want = list_head(&quota->waiters, struct buffers_want, node);

		if (want == NULL || !quota_fits(quota, want))
			return;
		list_del(&want->node);
		quota->used += want->held;
		want->passed++;
		if (want_pass(want))
			want_enter(want);
	}
}

static void want_init(struct buffers_want *want, struct buffers *pool, uint64_t size)
{
	ASSERT(want->state == BUFFERS_NONE);
	want->pool = pool;
	want->quotas[0] = NULL;
	want->quotas[1] = NULL;
	want->passed = 0;
	want->size = size;
	want->held = buffers_held_size(size);
}

int buffers_reserve(struct buffers *pool, struct buffers_quota *of_session,
		    struct buffers_quota *of_medium, struct buffers_want *want, uint64_t size)
{
	want_init(want, pool, size);
	want->quotas[0] = of_session;
	want->quotas[1] = of_medium;
	ASSERT(want->granted != NULL);
	ASSERT(want->held <= pool->buddy.size);
	if (want_pass(want)) {
		if (list_is_empty(&pool->waiters) && want_take(pool, want))
			return 0;
		want_enter(want);
	}
	pool->waits++;
	return -EAGAIN;
}

int buffers_try(struct buffers *pool, struct buffers_want *want, uint64_t size)
{
	want_init(want, pool, size);
	return list_is_empty(&pool->waiters) && want_take(pool, want) ? 0 : -EAGAIN;
}

void buffers_free(struct buffers_want *want)
{
	struct buffers *pool = want->pool;
	enum buffers_state state = want->state;

	if (state == BUFFERS_NONE)
		return;
	if (state == BUFFERS_HELD) {
		for (uint32_t i = 0; i < want->iov_count; i++)
			buddy_give(&pool->buddy, want->iov[i].iov_base);
	}
	want->state = BUFFERS_NONE;
	want->iov_count = 0;
	list_del(&want->node);
	for (uint32_t i = 0; i < want->passed; i++) {
		if (want->quotas[i] != NULL)
			quota_give(want->quotas[i], want->held);
		want->quotas[i] = NULL;
	}
	want->passed = 0;
	pool_grant(pool);
}

void buffers_forget_quota(struct buffers_want *want)
{
	if (want->state == BUFFERS_NONE || want->quotas[0] == NULL)
		return;
	ASSERT(want->state == BUFFERS_HELD);
	want->quotas[0]->used -= want->held;
	want->quotas[0] = NULL;
}
