/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading into the cache what somebody says will be wanted soon (LEASE with WARM): a queue of
 * identities and a few reads. A hint, not a promise: what finds the queue full, no room in the
 * cache, or no read to spare, is passed over and counted.
 *
 * Threads: the reactor's. Memory: fixed.
 */
#ifndef SERVER_WARM_H
#define SERVER_WARM_H

#include "../store/store.h"
#include "buffers.h"

#define WARM_QUEUE_MAX 2048u
#define WARM_READ_MAX  4u

struct cache_entry;
struct reactor;
struct shard_slot;

struct warm_read {
	struct shard_read read;
	struct reactor *reactor;
	struct shard_slot *slot;
	struct cache_entry *entry; /* that it fills; NULL: idle */
	struct iovec iov[BUFFER_PIECE_MAX];
};

struct warm_item {
	struct shard_slot *slot;
	struct store_id id;
};

struct warm {
	struct env_task task;
	uint32_t head; /* numbers that only grow */
	uint32_t tail;
	uint32_t active; /* reads */
	struct warm_read reads[WARM_READ_MAX];
	struct warm_item queue[WARM_QUEUE_MAX];
};

void warm_init(struct reactor *reactor);
/* Nothing more is begun. */
void warm_stop(struct reactor *reactor);

/* The block is there as ref: have it read, if it is not in memory. Returns the bytes of cache that
 * it will take. */
uint64_t warm_add(struct reactor *reactor, struct shard_slot *slot, const struct store_id *id,
		  const struct shard_ref *ref);
/* Bytes that one request may have read: more would only drive out its own beginning. */
uint64_t warm_max(const struct reactor *reactor);

#endif
