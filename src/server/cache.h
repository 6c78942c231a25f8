/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of the reactor's shards in its own part of the buffers: those that were written lately,
 * and those that are read again and again. A block read once, however many there are of that kind,
 * does not drive them out.
 *
 * A block is found by hash and sequence of what the shard's index says now: what was dropped,
 * forgotten, replaced or written again elsewhere is never found, and goes when its turn comes.
 *
 * Threads    The reactor's.
 * Memory     Its part of the buffers' arena, and tables of fixed size. No share waits for it: a
 *            block comes in by exchange, its whole pieces for free ones of the cache; what is
 *            smaller than a piece is copied.
 * Failure    No room (all of it is being read): the block does not come in.
 */
#ifndef SERVER_CACHE_H
#define SERVER_CACHE_H

#include "../store/store.h"
#include "buffers.h"

struct shard_slot;

enum cache_place {
	CACHE_UNUSED = 0,
	CACHE_LOOSE, /* being filled, or turned out while it is read */
	CACHE_FIRST,
	CACHE_MAIN,
};

struct cache_entry {
	struct list node; /* its queue, or unused; LOOSE: none */
	struct list bucket_node;
	const struct shard_slot *slot;
	struct hash128 hash;
	uint64_t sequence;
	uint32_t size;
	uint32_t crc;
	bool has_crc;
	bool is_hit; /* since it came into its queue */
	enum cache_place place;
	uint32_t pins;
	uint32_t chunk; /* first whole piece: number in the arena + 1; 0: none */
	uint8_t *tail;  /* what is behind the whole pieces; NULL: nothing */
};

/* The name of a block that left the first queue without a hit. */
struct cache_name {
	uint64_t tag;
	uint32_t size;
	uint32_t next; /* in its bucket: index + 1 */
};

struct cache_queue {
	struct list entries; /* oldest first */
	uint64_t bytes;      /* of memory */
};

struct cache {
	struct buddy buddy;
	struct cache_entry *entries;
	uint32_t entry_count;
	uint32_t used;
	struct list unused;
	struct list *buckets;
	uint32_t bucket_mask;
	uint32_t *next_chunk; /* by number in the arena: the next of its block, + 1 */
	struct cache_queue first;
	struct cache_queue main;
	/* A ring of names: [name_tail, name_head), as numbers that only grow. */
	struct cache_name *names;
	uint32_t *name_buckets; /* index + 1 */
	uint64_t name_head;
	uint64_t name_tail;
	uint64_t named_bytes; /* of their blocks */
	/* Figures. */
	uint64_t hits;
	uint64_t misses;
	uint64_t evictions;
	uint64_t copied; /* bytes, into pieces that could not be exchanged */
	uint64_t corrupt;
};

/* Bytes of tables for a part of size of an arena. */
uint64_t cache_memory_size(uint64_t size, uint64_t arena_size);
/* size 0: it holds nothing, and every call finds nothing. */
void cache_init(struct cache *cache, struct buffers_arena *arena, uint64_t size, void *memory);

/* The block as the index has it, pinned; NULL: it is not here. Counts a hit or a miss. */
struct cache_entry *cache_find(struct cache *cache, const struct shard_slot *slot,
			       const struct shard_ref *ref);
bool cache_has(const struct cache *cache, const struct shard_slot *slot,
	       const struct shard_ref *ref);
void cache_unpin(struct cache *cache, struct cache_entry *entry);

/* Pinned: pieces of [offset, offset + size) of the block; returns how many. */
uint32_t cache_view(const struct cache *cache, const struct cache_entry *entry, uint32_t offset,
		    uint32_t size, struct iovec *iov, uint32_t iov_max);
/* Pinned: whether it is what was put; the checksum of the range. False: it is turned out. */
bool cache_check(struct cache *cache, struct cache_entry *entry, uint32_t offset, uint32_t size,
		 uint32_t *crc_out);

/* Buffers that hold the whole block and are about to be freed: keep its bytes. What want holds
 * afterwards is to be freed all the same. */
void cache_take(struct cache *cache, const struct shard_slot *slot, const struct shard_ref *ref,
		struct buffers_want *want);

/*
 * What is read past the cache, whole: note leaves its name, as if it had come into the first queue
 * and left it without a hit. knows: it was here or was noted not long ago, so that it is worth
 * coming in.
 */
bool cache_knows(const struct cache *cache, const struct shard_ref *ref);
void cache_note(struct cache *cache, const struct shard_ref *ref);

/* Room for a block that is to be read, pinned and not found before cache_publish(); NULL: none. */
struct cache_entry *cache_reserve(struct cache *cache, const struct shard_slot *slot,
				  const struct shard_ref *ref);
/* Its memory, whole pages. Returns how many pieces, at most BUFFER_PIECE_MAX. */
uint32_t cache_buffers(const struct cache *cache, const struct cache_entry *entry,
		       struct iovec *iov);
/* It is complete: found from now on, and not turned out before the next. Unpins. */
void cache_publish(struct cache *cache, struct cache_entry *entry);
/* It could not be filled. Unpins. */
void cache_discard(struct cache *cache, struct cache_entry *entry);

#endif
