/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded ring of fixed-size entries between one writing and one reading thread. Its users size
 * it so that it cannot be full; a push into a full ring is a bug of ours.
 *
 * Atomics: head (reader's) and tail (writer's) are partners: the writer's release store of tail
 * publishes an entry to the reader's acquire load; the reader's release store of head gives the
 * slot back to the writer's acquire load.
 */
#ifndef CLIENT_RING_H
#define CLIENT_RING_H

#include <stdatomic.h>
#include <string.h>

#include "../base/base.h"

struct ring {
	uint8_t *entries;
	uint32_t entry_size;
	uint32_t mask; /* entries - 1 */
	_Alignas(64) _Atomic uint64_t head;
	_Alignas(64) _Atomic uint64_t tail;
};

/* entries: (a power of two) * entry_size bytes. */
static inline void ring_init(struct ring *ring, void *entries, uint32_t count, uint32_t entry_size)
{
	ASSERT(is_power_of_2(count));
	ring->entries = entries;
	ring->entry_size = entry_size;
	ring->mask = count - 1;
	atomic_init(&ring->head, 0);
	atomic_init(&ring->tail, 0);
}

static inline bool ring_is_empty(const struct ring *ring)
{
	return atomic_load_explicit(&ring->head, memory_order_acquire) ==
	       atomic_load_explicit(&ring->tail, memory_order_acquire);
}

/* Entries; a lower bound for the reader while the writer goes on. */
static inline uint32_t ring_count(const struct ring *ring)
{
	return (uint32_t)(atomic_load_explicit(&ring->tail, memory_order_acquire) -
			  atomic_load_explicit(&ring->head, memory_order_acquire));
}

/* Writer. */
static inline void ring_push(struct ring *ring, const void *entry)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

	ASSERT(tail - atomic_load_explicit(&ring->head, memory_order_acquire) <= ring->mask);
	memcpy(ring->entries + (tail & ring->mask) * ring->entry_size, entry, ring->entry_size);
	atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
}

/* Reader: false when there is none. */
static inline bool ring_take(struct ring *ring, void *entry_out)
{
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

	if (head == atomic_load_explicit(&ring->tail, memory_order_acquire))
		return false;
	memcpy(entry_out, ring->entries + (head & ring->mask) * ring->entry_size, ring->entry_size);
	atomic_store_explicit(&ring->head, head + 1, memory_order_release);
	return true;
}

#endif
