/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declared memory as buffers that the kernel holds ready (registered): its pages are looked up and
 * pinned once, not at each I/O.
 *
 * What is declared before the env is sealed is our own, and registered at once. What comes later is
 * a client's, of any size, whose pages the kernel may have to map first (0.3 us each in all): of
 * that a piece a turn, so that nobody waits for long; I/O in what has not had its turn goes
 * without. Pages that are not there are not made: a piece with a hole is left out (of hugetlbfs,
 * where mincore() does not know: all of a file with a hole). It goes in the same way: I/O finds
 * nothing of it any more, and the kernel lets go of some pieces a turn, before it takes others.
 *
 * Failure: none for the caller. RLIMIT_MEMLOCK is too small, or there are no slots left: the rest
 * goes without, said in one log line. A piece that its client has cut off is left out.
 */
#ifndef ENV_URING_MEMORY_H
#define ENV_URING_MEMORY_H

#include <liburing.h>

#include "../env.h"

#define MEMORY_SLOTS     8192u /* buffers */
#define MEMORY_SIZE_MAX  GiB   /* of one: the kernel's limit */
#define MEMORY_PIECE     (8 * MiB)
#define MEMORY_GONE_TURN 8u   /* pieces let go of in a turn: about half a ms */
#define MEMORY_LATER_MAX 256u /* clients' memories that are not yet registered whole */

struct ring_buffer {
	char *base;
	size_t size;
	const void *declared; /* where the memory it is part of begins */
	uint32_t slot;
};

struct ring_later {
	char *base;
	size_t size;
	size_t done;
	bool is_there; /* all of it; else mincore() is asked */
};

struct ring_memory {
	struct env *env;
	struct io_uring *ring;
	struct env_task task;
	bool is_possible;
	bool is_told;   /* one log line */
	uint32_t count; /* of buffers, by address */
	uint32_t free_count;
	uint32_t later_count;
	struct ring_buffer buffers[MEMORY_SLOTS];
	uint32_t free_slots[MEMORY_SLOTS];
	uint32_t gone_count;
	uint32_t gone_slots[MEMORY_SLOTS];         /* nobody's, but still with the kernel */
	struct ring_later later[MEMORY_LATER_MAX]; /* first come, first served */
	unsigned char resident[MEMORY_PIECE / PAGE_SIZE];
};

void memory_init(struct ring_memory *memory, struct env *env, struct io_uring *ring);
/* is_ours: all of it at once. */
void memory_declare(struct ring_memory *memory, void *base, size_t size, bool is_ours);
void memory_undeclare(struct ring_memory *memory, const void *base);
/* The slot that piece lies in whole; -1: none. */
int memory_find(const struct ring_memory *memory, const struct iovec *piece);
uint64_t memory_registered(const struct ring_memory *memory); /* bytes */

#endif
