/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring of bytes in memory that two processes share: one writes, the other reads, and neither
 * believes the other.
 *
 * Positions are counts of bytes and never wrap. Each end keeps its own position in its own memory,
 * and only publishes it. What the other published is loaded once into a local, checked (not more
 * than the ring holds, not backwards, whole words), and then used; so the worst that a peer can do
 * by it is to be caught. Bytes are copied out before anybody looks at them.
 *
 * Bells. Whoever has nothing to do hangs out a bell and looks once more; whoever publishes looks at
 * the other's bell behind that and takes it down, and must then ring (somewhere else). A full fence
 * stands between the two steps of each, so at least one of the two sees the other: nobody sleeps
 * over what was published. A reader hangs out a bell for bytes, a writer one for room.
 *
 * Memory     struct ring_shared and its RING_SIZE bytes are the caller's, in the shared mapping.
 *            Head and tail have cache lines of their own; bells are rarely written, and on a third.
 * Threads    One thread at each end.
 */
#ifndef XPRT_SHM_RING_H
#define XPRT_SHM_RING_H

#include <stdatomic.h>

#include "../../base/base.h"

#define RING_SIZE (256 * KiB) /* the largest frame fits twice (wire: 128 KiB and a header) */
#define RING_WORD 8           /* positions are multiples of it */
#define RING_LINE 128         /* two cache lines: the one behind is fetched along */

struct ring_shared {
	_Alignas(RING_LINE) atomic_uint_least64_t tail; /* the writer's; partner: the reader */
	_Alignas(RING_LINE) atomic_uint_least64_t head; /* the reader's; partner: the writer */
	_Alignas(RING_LINE) atomic_uint bytes_bell;     /* the reader wants to hear of bytes */
	atomic_uint room_bell;                          /* the writer wants to hear of room */
};

_Static_assert(sizeof(struct ring_shared) == 3 * RING_LINE, "both ends agree");

/* One end of it. */
struct ring {
	struct ring_shared *shared;
	uint8_t *bytes;
	uint64_t own;       /* writer: tail, reader: head; what is written or read */
	uint64_t published; /* of it, what the other has been told */
	uint64_t other;     /* of the other end, when it was last looked at */
};

void ring_init(struct ring *ring, struct ring_shared *shared, uint8_t *bytes);

/* --- the writer --- */

/* Look at the reader's position. -ERR_PROTOCOL: it is none. */
int ring_see_head(struct ring *ring) MUST_USE;
/* Bytes that may be written, as last seen. */
uint64_t ring_room(const struct ring *ring);
/* There is room; the bytes wait for ring_publish(). Then up to the next word. */
void ring_write(struct ring *ring, const void *bytes, uint64_t size);
void ring_write_pad(struct ring *ring);

/* --- the reader --- */

/* Look at the writer's position. -ERR_PROTOCOL: it is none. */
int ring_see_tail(struct ring *ring) MUST_USE;
/* Bytes that may be read, as last seen. */
uint64_t ring_have(const struct ring *ring);
/* So much is there; its room is the writer's after ring_publish(). */
void ring_read(struct ring *ring, void *bytes, uint64_t size);

/* --- both --- */

static inline bool ring_is_published(const struct ring *ring)
{
	return ring->own == ring->published;
}

/* The writer's bytes, the reader's room. Then bell_take(): the other's bell. */
void ring_publish_tail(struct ring *ring);
void ring_publish_head(struct ring *ring);

/* Before the last look. */
void bell_hang(atomic_uint *bell);
/* Awake: there is no need to ring. */
void bell_unhang(atomic_uint *bell);
/* Behind publishing: true, once for each time it was hung out: ring. */
bool bell_take(atomic_uint *bell) MUST_USE;

#endif
