/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buddy allocator over memory of the caller: pieces of 4 KiB to 1 MiB, powers of two, each aligned
 * to its size from the arena's base. Free pieces carry their list nodes; one byte a page beside the
 * arena tells what begins there. No lock: one thread.
 *
 * Several allocators may share an arena, each with a part of it at first. Pieces of
 * BUDDY_PIECE_MAX are never halves of anything: two allocators may exchange taken ones.
 */
#ifndef BASE_BUDDY_H
#define BASE_BUDDY_H

#include "base.h"
#include "list.h"

#define BUDDY_PIECE_MIN PAGE_SIZE
#define BUDDY_PIECE_MAX MiB
#define BUDDY_ORDERS    9 /* 4 KiB << 8 is 1 MiB */

struct buddy {
	char *arena;
	uint8_t *pages; /* of the arena: what begins at each */
	uint64_t arena_size;
	uint64_t size;     /* its own bytes */
	uint64_t used;     /* bytes, rounded to pieces */
	uint64_t used_max; /* since init */
	struct list free[BUDDY_ORDERS];
};

/* Bytes that buddy_init() needs beside an arena of size. */
uint64_t buddy_pages_size(uint64_t size);

/* arena is aligned to BUDDY_PIECE_MIN, size a multiple of BUDDY_PIECE_MAX; both memories are
 * borrowed for good. pages is buddy_pages_size(size) bytes. */
void buddy_init(struct buddy *buddy, void *arena, uint64_t size, void *pages);
/* The same, of size bytes from offset of an arena that others have parts of, too. */
void buddy_init_part(struct buddy *buddy, void *arena, uint64_t arena_size, void *pages,
		     uint64_t offset, uint64_t size);

/* Room for size bytes (1 … BUDDY_PIECE_MAX), page aligned. NULL: none is left. */
void *buddy_take(struct buddy *buddy, uint64_t size);
/* Back what buddy_take() gave. A piece that is free already panics. */
void buddy_give(struct buddy *buddy, void *piece);

/* Bytes of the piece that a size gets. */
uint64_t buddy_piece_size(uint64_t size);

#endif
