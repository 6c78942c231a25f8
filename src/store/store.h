/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: media and the shards on them. A shard is an index and a segment log on one extent; in
 * memory mode the segments are memory. See docs/disk-format.md for the bytes, log.c for the path of
 * a put, recovery.c for what a restart believes.
 *
 * Threads    A shard belongs to one reactor; everything here is called by it. medium_* and
 *            shard_open/close may block (start-up and stop); nothing else does.
 * Memory     Taken at shard_open; afterwards only pools. Request structs are the caller's, borrowed
 *            until their callback. Callbacks come from the loop, never out of a call.
 * Failure    Whatever goes wrong with one block (I/O error, checksum) becomes -ERR_CORRUPT or -EIO
 * of that block, its index entry is dropped and a counter moves. A failed flush takes the shard
 * offline: all lookups miss, puts are refused with -ERR_OFFLINE.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "../base/hash.h"
#include "../env/env.h"
#include "format.h"
#include "index.h"

struct medium;
struct shard;

/* --- media --- */

struct medium_spec {
	const char *path;
	uint64_t size;         /* of a file to make; 0: what is there (device, existing file) */
	uint32_t shard_count;  /* 0: 1 */
	uint64_t segment_room; /* 0: largest power of two in range that gives 64 segments or more */
	uint64_t block_max;    /* 0: MIN(64 MiB, segment_room / 4) */
	uint32_t shard_first;  /* index of its first shard in the server */
	uint32_t server_shards; /* of the whole server; 0: those of this medium are all */
	uint8_t server[16];     /* UUID */
	bool is_sparse;         /* do not allocate and write a file once */
	bool is_forced;         /* overwrite what is foreign (never what is in use) */
	void (*progress)(void *ctx, uint64_t done, uint64_t total); /* may be NULL */
	void *ctx;
};

struct medium_info {
	uint8_t medium[16];
	uint8_t server[16];
	uint64_t size;
	uint32_t shard_count;
	uint32_t block_max;
	uint64_t segment_room;
	uint32_t segment_count; /* of each shard */
	uint32_t shard_first;   /* index of its first shard in the server */
	uint32_t server_shards; /* of the whole server */
	bool is_direct;
};

/*
 * Make a medium ready: open takes the lock and refuses what cannot be set up, but writes nothing (a
 * file that is not there is made, empty), so that several media are set up all or none; write makes
 * it a store, info_out says what came of it. spec is borrowed until close. -ERR_FOREIGN: holds
 * other data and not forced; -ERR_IN_USE; -ENOSPC: too small for DISK_SEGMENTS_MIN segments.
 * message_out: a sentence for people.
 */
struct medium_setup;
int medium_setup_open(struct env *env, const struct medium_spec *spec,
		      struct medium_setup **setup_out, char message_out[256]) MUST_USE;
int medium_setup_write(struct medium_setup *setup, struct medium_info *info_out,
		       char message_out[256]) MUST_USE;
void medium_setup_close(struct medium_setup **setup);
/* All three, for one medium. */
int medium_setup(struct env *env, const struct medium_spec *spec, struct medium_info *info_out,
		 char message_out[256]) MUST_USE;

/* Open exclusively and write incarnation into the label. -ERR_FORMAT, -ERR_VERSION, -ERR_IN_USE. */
int medium_open(struct env *env, const char *path, uint64_t incarnation, struct medium **medium_out,
		char message_out[256]) MUST_USE;
/* Look only: without lock or claim, and nothing can be written. */
int medium_open_read_only(struct env *env, const char *path, struct medium **medium_out,
			  char message_out[256]) MUST_USE;
/* The same medium on another env of this process, for shards of its own there. owner may belong to
 * another thread; it is only read, and closed last. memory gives what it takes: env, or while that
 * is sealed another one of its kind, which is destroyed later. */
int medium_share(struct env *env, struct env *memory, const struct medium *owner,
		 struct medium **medium_out, char message_out[256]) MUST_USE;
void medium_close(struct medium **medium); /* its shards are closed */
void medium_get_info(const struct medium *medium, struct medium_info *info_out);
/* As given to medium_open(); READ_ONLY: of who opened it last. */
uint64_t medium_incarnation(const struct medium *medium);

/* --- identity --- */

/* Names a block inside a store. 16-byte names: auth_domain_id(), auth_namespace_id(). */
struct store_id {
	uint8_t domain[16];
	uint8_t ns[16];
	uint8_t key[32];
};

/* --- shards --- */

/*
 * What a shard's medium must hold, for who opens it again while he still knows: what was
 * acknowledged. A medium that shows less is an older copy, or has lost what it had flushed.
 */
struct shard_mark {
	uint8_t uuid[16];
	uint64_t super_count;   /* of the last writing of the super that ended well */
	uint64_t kept_sequence; /* highest that was written and flushed; 0: none */
	uint64_t next_sequence; /* none below is given to a block again */
};

enum store_verify { STORE_VERIFY_NONE = 0, STORE_VERIFY_MEDIUM = 1, STORE_VERIFY_ALL = 2 };

struct shard_opts {
	uint64_t index_entries;  /* 0: MAX(capacity / MiB, 1 M) */
	uint32_t queue_depth;    /* write commands in flight; reads are not limited here */
	uint32_t put_max;        /* puts between begin and their end: their structs' tables */
	uint64_t write_size;     /* bytes of a write command, 256 KiB … 1 MiB */
	uint64_t group_delay_ns; /* a buffered small put waits at most so long for company */
	uint32_t io_error_max;   /* more errors of the medium in a minute: offline; 0: no limit */
	enum store_verify verify;
	bool is_read_only;      /* inspect.c: find what is there, write nothing, close as a crash */
	uint32_t reinsert_hits; /* hits that make a block worth another life; 0: none does */
	uint64_t write_budget;  /* bytes a day that may be written to the medium; 0: any */
	uint32_t reinsert_age;  /* percent of the log that must be written behind it before they
				   count */
	uint32_t reinsert_share; /* percent of what is written that may be blocks written again for
				    their hits, on average: 0 … 75 */
	const struct shard_mark *mark; /* NULL: nothing is known; borrowed by shard_open() */
};

/* Memory mode: instead of a medium. */
struct shard_memory {
	uint64_t size;         /* bytes for segments */
	uint64_t segment_room; /* 0: as for media */
	uint64_t block_max;
};

/* All counters are since shard_open. Rows of src/tbl/metrics.def are filled from here. */
struct shard_stats {
	uint64_t capacity;    /* payload bytes of all segments */
	uint64_t block_count; /* live */
	uint64_t block_bytes; /* live payload */
	uint64_t segments_free;
	uint64_t segments_total;
	uint64_t puts; /* committed */
	uint64_t put_bytes;
	uint64_t written_bytes; /* to the medium: headers, padding and footers included */
	uint64_t padding_bytes;
	uint64_t read_bytes;
	uint64_t flushes;
	uint64_t rewritten; /* blocks that reclaim has written again */
	uint64_t rewritten_bytes;
	uint64_t forgotten; /* blocks whose segment was taken for new ones */
	uint64_t forgotten_index_full;
	uint64_t forgotten_leased; /* though they were leased: no room, or they could not be read */
	uint64_t forgotten_quota;  /* because their payer had too much */
	uint64_t refused_quota;    /* puts */
	uint64_t refused_budget;
	uint64_t budget_left; /* bytes of the write budget */
	uint64_t trims;       /* segments that were discarded */
	uint64_t expired;
	uint64_t dropped;
	uint64_t corrupt; /* reads dropped because a checksum did not match */
	uint64_t io_errors;
	uint64_t recovered;         /* blocks found at open */
	uint64_t recovered_scanned; /* of these, in unsealed segments: verified at first get */
	uint64_t recovery_ns;
	uint64_t recovery_bytes; /* read from the medium by recovery */
	uint64_t index_entries;  /* room */
	uint64_t index_bytes;
	uint64_t memory_bytes; /* all that shard_open took */
	uint64_t oldest_s;     /* age of the oldest segment in use, seconds */
	uint64_t leased_count; /* blocks that are leased */
	uint64_t leased_bytes;
	bool is_offline;
	bool is_index_short; /* recovery found more blocks than the index has room for */
};

/* Recovers what is on the extent. Exactly one of medium and memory is given. -ERR_FOREIGN: mark
 * knows of more than is there; no block was touched. */
int shard_open(struct env *env, struct medium *medium, uint32_t index,
	       const struct shard_memory *memory, const struct shard_opts *opts,
	       struct shard **shard_out) MUST_USE;

/* Bytes shard_open will take for these, for the sum that start prints. */
uint64_t shard_memory_size(const struct medium_info *info, const struct shard_memory *memory,
			   const struct shard_opts *opts);

/* Memory mode: the largest block that a shard of this will take; 0: it makes no shard. */
uint32_t shard_memory_block_max(const struct shard_memory *memory);

/*
 * Write what is buffered, seal or leave a footer, flush, mark clean. No request is under way but
 * writes of committed puts. is_crash: do nothing of that, only free (tests, a medium that fails).
 */
int shard_close(struct shard **shard, bool is_crash);

/*
 * From one env to another of its kind (move.c), of a shard that is on a medium and quiet: nothing
 * is under way, nobody has a pin. settle waits for that, in the thread of its env. A shard that is
 * detached belongs to nobody until it is attached; medium NULL: only to be closed, as a crash.
 */
int shard_settle(struct shard *shard) MUST_USE;
bool shard_is_quiet(const struct shard *shard);
void shard_detach(struct shard *shard);
void shard_attach(struct shard *shard, struct env *env, struct medium *medium);
/* Offline from now on, as if its medium had failed. */
void shard_give_up(struct shard *shard);
void shard_get_mark(const struct shard *shard, struct shard_mark *mark_out);

void shard_get_stats(const struct shard *shard, struct shard_stats *stats_out);
void shard_get_uuid(const struct shard *shard, uint8_t uuid_out[16]);
uint32_t shard_block_max(const struct shard *shard);
bool shard_is_memory(const struct shard *shard);

/* --- lookup --- */

/* A found block. Valid until the next call into the loop, or as long as it is pinned. */
struct shard_ref {
	uint64_t sequence; /* names the record: wire_record.sequence */
	uint32_t segment;
	uint32_t page; /* of the payload, in the segment */
	uint32_t size;
	uint32_t crc;
	uint32_t flags; /* enum shard_ref_flag */
	struct hash128 hash;
	struct shard_put *put; /* SHARD_REF_BUFFERED: whose buffers hold it */
};

enum shard_ref_flag {
	SHARD_REF_MEMORY = 1u << 0,   /* shard_view() gives its bytes: memory mode */
	SHARD_REF_BUFFERED = 1u << 1, /* shard_view() gives its bytes: not yet written */
	SHARD_REF_DURABLE = 1u << 2,
	SHARD_REF_NO_CRC = 1u << 3,
	SHARD_REF_SUSPECT = 1u << 4, /* from an unsealed segment: verified at this get whatever */
	SHARD_REF_LEASED = 1u << 5,
};

/* True and *ref_out when the block is there (not expired, not dropped). Counts no hit. */
bool shard_find(struct shard *shard, const struct store_id *id, struct shard_ref *ref_out);

/*
 * For a block that shard_find() did not find: true when it was here, was forgotten for room, and
 * the index still remembers. It remembers in the slots that no live block needs, since the start:
 * false may also mean that too much has come since. Dropped and expired blocks do not count.
 */
bool shard_was_here(const struct shard *shard, const struct store_id *id);

/* Of how many keys. */
struct shard_found {
	uint32_t here;      /* shard_find() */
	uint32_t forgotten; /* shard_was_here() */
	uint32_t missing;   /* neither */
};

/* The same for many keys (32 bytes each) of the domain and namespace of id, faster: bit i of
 * here_out says whether that of keys[i] is here; the bits behind the last are 0. */
void shard_find_many(struct shard *shard, const struct store_id *id, const uint8_t *const *keys,
		     uint32_t count, uint8_t *here_out, struct shard_found *found_out);

/* Count a hit of the block, for reclaim. */
void shard_hit(struct shard *shard, const struct shard_ref *ref);

/* Keep what ref names in place (segment not reused, buffers not freed). Every pin is unpinned. */
void shard_pin(struct shard *shard, struct shard_ref *ref);
void shard_unpin(struct shard *shard, struct shard_ref *ref);

/* MEMORY or BUFFERED, pinned: pieces of [offset, offset + size) of the block; returns how many
 * (at most iov_max). */
uint32_t shard_view(const struct shard *shard, const struct shard_ref *ref, uint32_t offset,
		    uint32_t size, struct iovec *iov, uint32_t iov_max);

/* --- leases --- */

/*
 * Keep a block: until as many unleases as there were leases it is neither forgotten nor reclaimed,
 * and shard_find_leased() finds it although its time to live is over. A drop ends that at once. The
 * lease is the identity's: a put that replaces the block inherits it, reclaim takes it along.
 *
 * 0 and *ref_out; -ERR_MISS: it is not there; -ERR_FULL: a quarter of the shard is leased, or this
 * block as often as can be counted.
 */
int shard_lease(struct shard *shard, const struct store_id *id, struct shard_ref *ref_out) MUST_USE;
/* Of ref_out->hash. Dropped meanwhile: does nothing. */
void shard_unlease(struct shard *shard, const struct hash128 *hash);
/* shard_find(), but what is leased has not expired. */
bool shard_find_leased(struct shard *shard, const struct store_id *id, struct shard_ref *ref_out);
/* Bytes of blocks that are leased, and that can be. */
uint64_t shard_lease_bytes(const struct shard *shard);
uint64_t shard_lease_max(const struct shard *shard);

/* --- quotas --- */

/* Bytes of live blocks that payer may have here; 0: any. His oldest are forgotten when there are
 * more. -ERR_FULL: too many payers. */
int shard_set_quota(struct shard *shard, const uint8_t payer[16], uint64_t bytes) MUST_USE;
uint64_t shard_payer_bytes(const struct shard *shard, const uint8_t payer[16]);

/* --- read from the medium --- */

/* Whether something of that size is worth a client's memory instead of buffers, if it fits. */
bool shard_read_is_large(uint32_t size);
bool shard_put_is_large(uint32_t size);

/*
 * Reads a range of a pinned block into the caller's buffers and checks it as verify says: a whole
 * block by its CRC, a range by its strides (the header is read first). piece() comes for every
 * buffer, in any order, once its bytes are there; in_order and a range: in order and checked.
 * done() comes last, with the verdict: bytes given out before are worth nothing unless it is 0.
 *
 * buffers hold the range rounded out to align(): shard_read_span() says how much that is. Each is
 * page aligned, each but the last the same multiple of the stride (or one buffer for all).
 */
struct shard_read {
	struct shard_ref ref;
	uint32_t offset; /* range in the block */
	uint32_t size;
	bool is_in_order; /* pieces in order, each checked before piece() */
	/* The buffers are a client's memory, that shard_read_fits() found good: exactly the range.
	 * No piece() comes, and a failure has no consequence but done(). */
	bool is_foreign;
	struct iovec *buffers;
	uint32_t buffer_count;
	/* rc of piece: bytes [begin, begin + size) of the block are at data. */
	void (*piece)(struct shard_read *read, uint32_t begin, uint32_t size, void *data);
	void (*done)(struct shard_read *read, int rc);
	uint32_t crc_out; /* of exactly the range; valid when crc_valid_out */
	bool crc_valid_out;
	/* The store's own. */
	struct shard *shard;
	struct read_state *state;
};

/* Bytes of buffer that a read of this range fills. */
uint64_t shard_read_span(const struct shard *shard, const struct shard_ref *ref, uint32_t offset,
			 uint32_t size);
/* Whether a range can be read straight into these pieces of a client's memory. Not what is in
 * memory already, nor what has yet to be verified for all who come later. */
bool shard_read_fits(const struct shard *shard, const struct shard_ref *ref, uint32_t offset,
		     uint32_t size, const struct iovec *iov, uint32_t iov_count);
/* -EAGAIN: too many reads under way (a limit of the pool); nothing was taken. */
int shard_read_start(struct shard *shard, struct shard_read *read) MUST_USE;
/* MEMORY and BUFFERED blocks with verify ALL: check and CRC of a range in place. 0 or -ERR_CORRUPT;
 * the entry is dropped then. */
int shard_check(struct shard *shard, const struct shard_ref *ref, uint32_t offset, uint32_t size,
		uint32_t *crc_out);
/* The same of a whole block whose CRC was taken as its bytes went out. */
int shard_check_sum(struct shard *shard, const struct shard_ref *ref, uint32_t crc);

/* --- put --- */

/* The store's own: waits for the write of a record, then for a flush begun behind it. */
struct shard_wait {
	void (*done)(struct shard_wait *wait, int rc);
	struct list node;
};

enum shard_put_state {
	SHARD_PUT_IDLE = 0,
	SHARD_PUT_FILLING,   /* begun: the caller brings the payload to iov */
	SHARD_PUT_FOLLOWING, /* another put of the same block is filling; its outcome comes by done
			      */
	SHARD_PUT_COMMITTED, /* readable; being written */
	SHARD_PUT_DONE,
};

struct shard_put {
	struct store_id id;
	uint8_t payer[16];
	uint8_t place[16];
	uint64_t chain;
	uint32_t depth;
	uint32_t size;
	uint64_t expiry_s;
	uint32_t flags;  /* DISK_ENTRY_SHARED */
	bool is_durable; /* done() waits for the flush */
	/*
	 * The buffers are a client's memory, that shard_put_fits() found good: the client may
	 * change it at any time, and take it away. Until the put is released its block is found,
	 * but not to be viewed; what was changed meanwhile fails its checksum later.
	 */
	bool is_foreign;
	/*
	 * Medium: the caller's buffers, page aligned, each a multiple of PAGE_SIZE but for the
	 * bytes used; set before commit; lent until released(). Memory mode: set by begin, at most
	 * SHARD_PUT_IOV_MAX pieces of the segment.
	 */
	struct iovec *iov;
	uint32_t iov_count;
	/* The result: 0, or why not. Comes once, from the loop, after begin returned 0 (a follower
	 * that inherits the put gets filling() instead). existed_out: nothing was moved. */
	void (*done)(struct shard_put *put, int rc);
	/* The put was FOLLOWING and the first was aborted: it is FILLING now. */
	void (*filling)(struct shard_put *put);
	/* The buffers (and this struct) are the caller's again; the last callback. It comes after
	 * done(), also when done() had an error. */
	void (*released)(struct shard_put *put);
	uint64_t sequence_out;
	bool existed_out;
	bool durable_out;
	bool lost_out; /* known by released(): it was published, and could not be written */
	/* The store's own. */
	struct shard *shard;
	enum shard_put_state state;
	struct hash128 hash;
	struct list node;      /* table of puts in flight */
	struct list followers; /* or node in the first put's list */
	struct shard_wait wait;
	struct env_task task; /* callbacks that are due: queued in the shard */
	uint32_t due;         /* enum put_due */
	uint16_t domain_name; /* interned */
	uint16_t payer_name;
	uint16_t ns_name;
	uint32_t segment;
	uint32_t page; /* of the payload */
	uint32_t crc;
	uint32_t entry_flags; /* enum disk_entry_flag */
	uint32_t pin_count;
	uint32_t stride_count;
	uint32_t strides[DISK_STRIDE_MAX];
	struct log_record *record; /* until it is written */
	int rc;
	struct iovec view; /* memory mode, and of a block that is written again */
};

/*
 * Begin a put. On 0 look at put->state: FILLING (bring the payload, then commit or abort),
 * FOLLOWING (wait), or DONE with existed_out (done() and released() are on their way; durable:
 * after the flush). Refusals take nothing: -ERR_TOO_LARGE, -ERR_OFFLINE, -ERR_BUSY (put_max),
 * -ERR_QUOTA (of the payer), -ERR_BUDGET (of writes: at first sight), -EAGAIN (no room just now:
 * shard_on_room() tells when).
 */
int shard_put_begin(struct shard *shard, struct shard_put *put) MUST_USE;
/* Whether a block can be written straight from these pieces of a client's memory. */
bool shard_put_fits(const struct shard *shard, uint32_t size, const struct iovec *iov,
		    uint32_t iov_count);
/* The payload is complete: give it a place in the log and publish it. -EAGAIN: no segment is free
 * just now; call again from shard_on_room(). Anything else is told by done(). */
int shard_put_commit(struct shard *shard, struct shard_put *put) MUST_USE;
/* Give up a FILLING or FOLLOWING put; done(rc) and released() follow. */
void shard_put_abort(struct shard *shard, struct shard_put *put, int rc);

/* task is deferred whenever room appears after an -EAGAIN. One a shard. */
void shard_on_room(struct shard *shard, struct env_task *task);

/* --- drop --- */

struct shard_drop {
	struct store_id id;
	bool is_namespace;                             /* key is not looked at */
	void (*done)(struct shard_drop *drop, int rc); /* durable; 0 also when it was not there */
	bool existed_out;
	/* The store's own. */
	struct shard *shard;
	struct drop_state *state;
	struct env_task task;
	int rc;
};

/* Misses from the return on; done() when it survives a crash. -ERR_BUSY: namespace table or pool
 * full, nothing was done. */
int shard_drop_start(struct shard *shard, struct shard_drop *drop) MUST_USE;

/* --- census: who has how much here --- */

/* Blocks of a namespace that are here, and their payload. Both names zero: of those that found no
 * row of their own. */
struct census_row {
	uint8_t domain[16];
	uint8_t ns[16];
	uint64_t blocks;
	uint64_t bytes;
	char domain_name[64]; /* the caller's, zeroed before */
};

struct census {
	struct census_row *rows; /* row_max (at least 2), zeroed before the first call */
	uint32_t row_max;
	uint64_t seed;               /* by chance: names are their clients' choice */
	const struct store_id *only; /* NULL, or the only namespace that counts: in rows[0] */
};

/* Add what stands in some part of the index, from bucket on. Returns where to go on, 0: it was the
 * last part. A shard that is offline has nothing. */
uint64_t shard_census(struct shard *shard, struct census *census, uint64_t bucket) MUST_USE;
/* After the last shard: the rows, from the first on; how many. */
uint32_t census_end(struct census *census);

#endif
