/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <string.h>

void ring_init(struct ring *ring, struct ring_shared *shared, uint8_t *bytes)
{
	*ring = (struct ring) { .shared = shared, .bytes = bytes };
}

/* --- the writer --- */

int ring_see_head(struct ring *ring)
{
	/* Partner: ring_publish_head(). The reader is done with what lies before it. */
	uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_acquire);

	if (head - ring->other > ring->published - ring->other || head % RING_WORD != 0)
		return -ERR_PROTOCOL;
	ring->other = head;
	return 0;
}

uint64_t ring_room(const struct ring *ring)
{
	return RING_SIZE - (ring->own - ring->other);
}

void ring_write(struct ring *ring, const void *bytes, uint64_t size)
{
	uint64_t at = ring->own % RING_SIZE;
	uint64_t first = MIN(size, RING_SIZE - at);

	ASSERT(size <= ring_room(ring));
	memcpy(ring->bytes + at, bytes, first);
	if (first < size)
		memcpy(ring->bytes, (const uint8_t *)bytes + first, size - first);
	ring->own += size;
}

void ring_write_pad(struct ring *ring)
{
	ring->own = round_up(ring->own, RING_WORD);
	ASSERT(ring->own - ring->other <= RING_SIZE);
}

/* --- the reader --- */

int ring_see_tail(struct ring *ring)
{
	/* Partner: ring_publish_tail(). The bytes before it are there. */
	uint64_t tail = atomic_load_explicit(&ring->shared->tail, memory_order_acquire);

	if (tail - ring->own > RING_SIZE || tail - ring->own < ring->other - ring->own ||
	    tail % RING_WORD != 0)
		return -ERR_PROTOCOL;
	ring->other = tail;
	return 0;
}

uint64_t ring_have(const struct ring *ring)
{
	return ring->other - ring->own;
}

void ring_read(struct ring *ring, void *bytes, uint64_t size)
{
	uint64_t at = ring->own % RING_SIZE;
	uint64_t first = MIN(size, RING_SIZE - at);

	ASSERT(size <= ring_have(ring));
	memcpy(bytes, ring->bytes + at, first);
	if (first < size)
		memcpy((uint8_t *)bytes + first, ring->bytes, size - first);
	ring->own += size;
}

/* --- both --- */

void ring_publish_tail(struct ring *ring)
{
	ASSERT(ring->own % RING_WORD == 0);
	ring->published = ring->own;
	atomic_store_explicit(&ring->shared->tail, ring->own, memory_order_release);
}

void ring_publish_head(struct ring *ring)
{
	ASSERT(ring->own % RING_WORD == 0);
	ring->published = ring->own;
	atomic_store_explicit(&ring->shared->head, ring->own, memory_order_release);
}

void bell_hang(atomic_uint *bell)
{
	atomic_store_explicit(bell, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst); /* partner: bell_take() */
}

void bell_unhang(atomic_uint *bell)
{
	if (atomic_load_explicit(bell, memory_order_relaxed) != 0)
		atomic_store_explicit(bell, 0, memory_order_relaxed);
}

bool bell_take(atomic_uint *bell)
{
	atomic_thread_fence(memory_order_seq_cst); /* partner: bell_hang() */
	return atomic_load_explicit(bell, memory_order_relaxed) != 0 &&
	       atomic_exchange_explicit(bell, 0, memory_order_relaxed) != 0;
}
