/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   1. warm_add() queues the identity of a block that is only on the medium.
 *   2. The task takes them in order: looks the block up again, reserves its room in the cache, pins
 *      its segment and has the shard read straight into the cache's memory. At most WARM_READ_MAX
 *      at a time, and none while gets wait for a read of the shard.
 *   3. Read and checked, it is in the cache, marked as wanted.
 *
 * It is gone, or came into the cache by itself, meanwhile: nothing to do. It does not pass its
 * check: the store has dropped it; nothing comes into the cache.
 */
#include "warm.h"

#include "reactor_priv.h"

static void warm_done_cb(struct shard_read *read, int rc)
{
	struct warm_read *mine = CONTAINER_OF(read, struct warm_read, read);
	struct reactor *reactor = mine->reactor;

	CHECK_OBJ(reactor, REACTOR_MAGIC);
	ASSERT(mine->entry != NULL);
	ASSERT(reactor->warm.active > 0);
	shard_unpin(mine->slot->shard, &read->ref);
	if (rc == 0) {
		reactor->metrics.cache_warmed++;
		cache_publish(&reactor->cache, mine->entry);
	} else {
		cache_discard(&reactor->cache, mine->entry);
	}
	mine->entry = NULL;
	reactor->warm.active--;
	reactor->env->ops->defer(reactor->env, &reactor->warm.task);
}

/* The bytes stand where they stay. */
static void warm_piece_cb(struct shard_read *read, uint32_t begin, uint32_t size, void *data)
{
	ASSERT((uint64_t)begin + size <= read->ref.size);
	ASSERT(data != NULL);
}

static bool is_in_memory(const struct reactor *reactor, const struct shard_slot *slot,
			 const struct shard_ref *ref)
{
	return (ref->flags & (SHARD_REF_MEMORY | SHARD_REF_BUFFERED)) != 0 ||
	       cache_has(&reactor->cache, slot, ref);
}

/* False: the hint is passed over. */
static bool warm_read(struct reactor *reactor, struct warm_read *mine, const struct warm_item *item,
		      struct shard_ref *ref)
{
	struct cache_entry *entry = cache_reserve(&reactor->cache, item->slot, ref);

	if (entry == NULL)
		return false;
	shard_pin(item->slot->shard, ref);
	mine->slot = item->slot;
	mine->read = (struct shard_read) {
		.ref = *ref,
		.size = ref->size,
		.buffers = mine->iov,
		.buffer_count = cache_buffers(&reactor->cache, entry, mine->iov),
		.piece = warm_piece_cb,
		.done = warm_done_cb,
	};
	if (shard_read_start(item->slot->shard, &mine->read) < 0) {
		shard_unpin(item->slot->shard, ref);
		cache_discard(&reactor->cache, entry);
		return false;
	}
	mine->entry = entry;
	reactor->warm.active++;
	return true;
}

static struct warm_read *read_idle(struct warm *warm)
{
	for (uint32_t i = 0; i < WARM_READ_MAX; i++) {
		if (warm->reads[i].entry == NULL)
			return &warm->reads[i];
	}
	return NULL;
}

static void warm_run(struct env_task *task)
{
	struct reactor *reactor = CONTAINER_OF(task, struct reactor, warm.task);
	struct warm *warm = &reactor->warm;
	struct warm_read *mine;

	CHECK_OBJ(reactor, REACTOR_MAGIC);
	while (warm->tail != warm->head && (mine = read_idle(warm)) != NULL) {
		const struct warm_item *item = &warm->queue[warm->tail++ % WARM_QUEUE_MAX];
		struct shard_ref ref;

		if (!slot_is_open(item->slot) || !shard_find(item->slot->shard, &item->id, &ref) ||
		    is_in_memory(reactor, item->slot, &ref))
			continue;
		if (!list_is_empty(&item->slot->read_waiters) ||
		    !warm_read(reactor, mine, item, &ref))
			reactor->metrics.cache_warm_skipped++;
	}
}

void warm_init(struct reactor *reactor)
{
	struct warm *warm = &reactor->warm;

	warm->task.run = warm_run;
	for (uint32_t i = 0; i < WARM_READ_MAX; i++)
		warm->reads[i].reactor = reactor;
}

void warm_stop(struct reactor *reactor)
{
	reactor->warm.tail = reactor->warm.head;
	reactor->env->ops->undefer(reactor->env, &reactor->warm.task);
}

uint64_t warm_add(struct reactor *reactor, struct shard_slot *slot, const struct store_id *id,
		  const struct shard_ref *ref)
{
	struct warm *warm = &reactor->warm;

	if (is_in_memory(reactor, slot, ref))
		return 0;
	if (warm->head - warm->tail == WARM_QUEUE_MAX) {
		reactor->metrics.cache_warm_skipped++;
		return 0;
	}
	warm->queue[warm->head++ % WARM_QUEUE_MAX] = (struct warm_item) { slot, *id };
	reactor->env->ops->defer(reactor->env, &warm->task);
	return buffers_held_size(ref->size);
}

uint64_t warm_max(const struct reactor *reactor)
{
	return reactor->cache.buddy.size / 2;
}
