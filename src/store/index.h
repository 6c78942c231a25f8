/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Index of a shard: identity hash to where the block is. 56-byte entries, nine to a bucket of 512
 * bytes, two candidate buckets a hash, entries moved between them to reach a fill of 0.9: at most
 * 64 bytes a block with empty slots counted.
 *
 * An entry is live unless it was forgotten, and only when its sequence is at least the first one
 * that counts in its segment (index_segments). Stale entries miss, and their slots are taken by
 * later inserts.
 */
#ifndef STORE_INDEX_H
#define STORE_INDEX_H

#include "../base/hash.h"
#include "../env/env.h"

struct hash128_head; /* base/hash_inline.h */
struct index;
struct store_id; /* store.h */

enum index_flag {
	INDEX_BUFFERED = 1u << 0, /* not yet on the medium: the log's directory has its put */
	INDEX_DURABLE = 1u << 1,
	INDEX_NO_CRC = 1u << 2,
	INDEX_SUSPECT = 1u << 3, /* verify at the next get */
	INDEX_SHARED = 1u << 4,
	INDEX_TOMBSTONE = 1u << 5, /* during recovery only */
	INDEX_FORGOTTEN = 1u << 6, /* stale: only index_remembers() sees it */
	INDEX_EXPIRES = 1u << 15,  /* the index's own: nobody sees it */
};

/* An entry unpacked. */
struct index_entry {
	struct hash128 hash;
	uint64_t sequence; /* 48 bits */
	uint32_t segment;  /* 24 bits */
	uint32_t page;     /* of the payload, in the segment; 20 bits */
	uint32_t size;
	uint32_t crc;
	uint32_t chain;    /* folded: policy only */
	uint32_t expiry_s; /* 0: never */
	uint16_t domain;   /* interned */
	uint16_t payer;
	uint16_t ns;
	uint16_t depth;  /* saturating */
	uint16_t flags;  /* enum index_flag */
	uint8_t hits;    /* since written, saturating */
	uint16_t leases; /* 12 bits */
};

/* First sequence that counts in each segment; UINT64_MAX: free, nothing in it is live. The
 * log's; the index only reads it. */
struct index_segments {
	const uint64_t *first_sequence;
	uint32_t count;
};

/* The hash of an identity under the shard's seed (disk_super.seed). */
struct hash128 index_hash(uint64_t seed, const struct store_id *id);

/* Bytes that index_create takes for entry_count entries. */
uint64_t index_size(uint64_t entry_count);
int index_create(struct env *env, uint64_t entry_count, const struct index_segments *segments,
		 struct index **index_out) MUST_USE;
void index_destroy(struct index **index);
/* Its memory is given back by another env of the same kind. */
void index_move(struct index *index, struct env *env);

bool index_find(const struct index *index, const struct hash128 *hash,
		struct index_entry *entry_out);

enum index_looked {
	INDEX_NOTHING = 0,
	INDEX_STALE, /* it was forgotten and nothing has taken its slot yet */
	INDEX_LIVE,
};

/* Both finds at once; *entry_out unless there is nothing. */
enum index_looked index_look(const struct index *index, const struct hash128 *hash,
			     struct index_entry *entry_out);

/*
 * For who looks up many: fill hashes and count, start, fetch, finish. The memory brings meanwhile
 * what the next step looks at, so that between two steps of one the steps of another are well used.
 * No entry goes or comes between fetch and finish.
 */
#define INDEX_LOOK_MAX 32u

struct index_look {
	struct hash128 hashes[INDEX_LOOK_MAX];
	uint64_t buckets[INDEX_LOOK_MAX][2];
	const void *entries[INDEX_LOOK_MAX]; /* that may be its own */
	uint32_t count;
	uint32_t some; /* bit i: there is such an entry for hashes[i], … */
	uint32_t more; /* … and others that may be its own, too */
};

/* What was found: bit i is of hashes[i], at most one of these. */
struct index_seen {
	uint32_t live;
	uint32_t stale;
	uint32_t unclear; /* has an expiry, or is before the sequence asked for */
};

/* What index_hash() makes of all identities of a domain and namespace. */
struct hash128_head index_hash_head(uint64_t seed, const struct store_id *id);
void index_look_hash(struct index_look *look, const struct hash128_head *head,
		     const uint8_t *const *keys, uint32_t count);
void index_look_start(const struct index *index, struct index_look *look);
void index_look_fetch(const struct index *index, struct index_look *look);
struct index_seen index_look_finish(const struct index *index, const struct index_look *look,
				    uint64_t sequence);

/* True when the entry of hash is stale: its sequence is then in *sequence_out. */
bool index_remembers(const struct index *index, const struct hash128 *hash, uint64_t *sequence_out);

/* Insert, or replace the entry of the same hash. -ENOSPC: both buckets are full of live entries
 * that cannot be moved; nothing is changed: forget a segment and try again. */
int index_insert(struct index *index, const struct index_entry *entry) MUST_USE;

/* Change flags, hits or leases of the entry with this hash and sequence; false when it is gone. */
bool index_update(struct index *index, const struct index_entry *entry);

/* The entry of hash, if it has this sequence, is stale from now on. */
void index_forget(struct index *index, const struct hash128 *hash, uint64_t sequence);

/* The live entries in the two buckets of hash: whose removal makes room for it. */
#define INDEX_CANDIDATES 18u
uint32_t index_candidates(const struct index *index, const struct hash128 *hash,
			  struct index_entry entries_out[INDEX_CANDIDATES]);

/* Remove the entry of hash, if its sequence is below before (UINT64_MAX: whatever it is). */
bool index_remove(struct index *index, const struct hash128 *hash, uint64_t before);

/* Live entries, exactly only after index_walk(); and room. */
uint64_t index_count(const struct index *index);
uint64_t index_room(const struct index *index);

/* Visit every live entry; the visitor returns false to have it removed. Recovery and tests. */
void index_walk(struct index *index, bool (*visit)(void *ctx, const struct index_entry *entry),
		void *ctx);

/* The same for count buckets from bucket on, but what is stale stays remembered; where to go on, 0
 * at the end. */
uint64_t index_walk_part(struct index *index, uint64_t bucket, uint64_t count,
			 bool (*visit)(void *ctx, const struct index_entry *entry), void *ctx);

#endif
