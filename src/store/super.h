/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a shard that is not in its log: identity, seed, geometry, whether it was stopped
 * cleanly, and the table of dropped namespaces. On the medium it lives in two slots. A writing goes
 * to one and is flushed, then to the other and is flushed, under a count above all before; loading
 * believes the valid slot with the higher count. A torn writing costs itself, a rotten slot
 * nothing.
 *
 * In memory mode (no block device) the same struct holds the table, and every writing succeeds.
 *
 * Dropped namespaces: a block is forgotten when its sequence is below super_drop_sequence() of its
 * (domain, namespace). Lookups and recovery compare; nothing is walked when a namespace is dropped.
 *
 * Threads    The shard's. super_open, super_store and super_close may block; nothing else does.
 * Failure    A failed writing is told to all that wait for it; the row stays in memory (misses go
 *            on) and the next writing begins with the slot that failed. The shard goes offline by
 * then.
 */
#ifndef STORE_SUPER_H
#define STORE_SUPER_H

#include "../base/list.h"
#include "../env/env.h"
#include "format.h"

/* Power of two, at least twice DISK_DROP_MAX: probes for a name end soon. */
#define SUPER_DROP_SLOTS 256

/* Waits for a writing. Borrowed until done(), which comes from the loop. */
struct super_wait {
	void (*done)(struct super_wait *wait, int rc);
	struct list node;
};

struct super {
	struct env *env;
	struct env_blk *blk; /* NULL: memory mode */
	uint64_t offset;     /* of slot 0 on the medium */
	/* As of now. Beside drops and drop_count the shard may change is_clean; count is ours. */
	struct disk_super *disk;
	/* Ours. */
	struct disk_super *out; /* what is being written */
	uint32_t slot;          /* holds the last good writing */
	uint64_t kept_count;    /* of the last writing that ended well, or was loaded */
	uint32_t round;         /* of the writing under way */
	bool is_writing;
	struct list waiting; /* for the next writing */
	struct list writing; /* for the one under way */
	struct env_io io;
	struct iovec iov;
	struct env_task task;                 /* memory mode: ends a writing */
	uint8_t drop_slots[SUPER_DROP_SLOTS]; /* row + 1, by hash of the name; 0: empty */
};

/* Bytes that super_open takes. */
uint64_t super_size(void);

/*
 * Load the slots at the head of extent. -ERR_FORMAT: neither is valid, or what it says does not
 * fit the extent; -ERR_VERSION: the newer one is of a later version.
 */
int super_open(struct super *super, struct env *env, struct env_blk *blk,
	       const struct disk_extent *extent) MUST_USE;

/* Memory mode: UUID and seed are drawn, no row; a segment is its room and nothing else. */
int super_open_memory(struct super *super, struct env *env, uint64_t segment_room,
		      uint32_t segment_count) MUST_USE;

/* What stands in a slot of the extent at offset is a whole writing of it. */
bool super_slot_is_whole(const struct disk_super *disk, uint64_t offset);

/* No writing is under way. */
void super_close(struct super *super);

/* Write *disk and flush, blocking. No other writing is under way. */
int super_store(struct super *super) MUST_USE;

/*
 * Make a shard: draw UUID and seed, write both slots of its extent, not flushed. disk is page
 * aligned and zero but for segment_room, segment_size, segment_count and index.
 */
int super_format(struct env *env, struct env_blk *blk, uint64_t offset,
		 struct disk_super *disk) MUST_USE;

/* A random (version 4) UUID. */
void super_uuid_draw(struct env *env, uint8_t uuid_out[16]);

/* True while a writing is under way or waits: super_store and super_close must not be called. */
bool super_is_busy(const struct super *super);

/* Records of the namespace with a sequence below this are forgotten; 0: it was never dropped. */
uint64_t super_drop_sequence(const struct super *super, const uint8_t domain[16],
			     const uint8_t ns[16]);

/*
 * Drop a namespace: add a row, or raise the one it has. Takes effect at once; wait->done() comes
 * when it is durable, or with the error of the writing. -ERR_BUSY: the table is full, nothing was
 * done.
 */
int super_drop_add(struct super *super, const uint8_t domain[16], const uint8_t ns[16],
		   uint64_t sequence, struct super_wait *wait) MUST_USE;

/*
 * Remove the rows that no record can need any more: oldest is the lowest `opened` of all segments
 * whose span headers are still on the medium (a forgotten segment counts until its next life's
 * header is durable: a crash could bring it back). The medium follows with the next writing.
 */
void super_drop_prune(struct super *super, uint64_t oldest);

#endif
