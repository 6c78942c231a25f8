/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shard from the inside: one struct, its parts in the order in which a put meets them.
 *
 *   put.c       begin, commit, abort; who follows whom; what the caller is told
 *   log.c       a place in the open segment, records and groups, write commands
 *   flush.c     one flush at a time for all that wait
 *   segment.c   life of a segment: prepared, open, sealed, forgotten
 *   foot.c      a segment's footer: made while it fills, written when it is full, read at start
 *   record.c    the header page of a record, to and from bytes
 *   reclaim.c   the oldest segment becomes a free one; what is worth it is written again
 *   directory.c what stands in a segment that is reclaimed
 *   rewrite.c   blocks from an old place on the medium to a new one
 *   read.c      from the medium into buffers, checked
 *   foreign.c   clients' memory instead of buffers
 *   drop.c      tombstones and dropped namespaces
 *   lease.c     blocks that are kept
 *   quota.c     bytes by payer, and who has too many
 *   census.c    blocks by namespace, when somebody asks
 *   governor.c  the budget of writes, and who is admitted when it runs short
 *   recovery.c  what a restart believes; scan.c: of a segment without a footer
 *   memory.c    memory mode: the same without a medium
 *   shard.c     callbacks that are due, lookup, pins, counters
 *   move.c      from one env to another
 *   start.c     open and close, memory
 *   view.c      blocks whose bytes are in memory
 */
#ifndef STORE_SHARD_PRIV_H
#define STORE_SHARD_PRIV_H

#include "index.h"
#include "names.h"
#include "record.h"
#include "store.h"
#include "super.h"

#define SHARD_MAGIC       0x73686472u
#define SHARD_DROP_MAX    256u /* tombstones under way */
#define SHARD_READ_MAX    256u /* reads under way */
#define SHARD_READ_WINDOW 8u   /* commands in flight of one read */
#define SHARD_READ_SIZE   MiB  /* of a command */
/* Of a command of a read of at most SHARD_READ_WINDOW of them: its pieces are checked and sent
 * while the next are read. */
#define SHARD_READ_SMALL (256 * KiB)
/* Of a command whose pieces nobody waits for. */
#define SHARD_READ_LARGE (4 * MiB)
#define SHARD_FOOT_MAX   3u     /* segments that are open or being sealed */
#define SHARD_SPARE      2u     /* free segments that only reclaim may open; 1 of few */
#define FOOT_NAMES_MAX   65534u /* rows + 1 fit into 16 bits */
#define SHARD_SPAN_TRIES 3u     /* writings of a span header that fail before the shard does */

/* Sequences that recovery leaves out, so that none of a lost record is given again. 16 M restarts
 * fit into 48 bits. */
#define SHARD_SEQUENCE_JUMP (UINT64_C(1) << 24)
#define SHARD_SEQUENCE_MAX  (UINT64_C(1) << 47) /* of 48 bits: the rest is for one life's puts */

enum segment_state {
	SEGMENT_FREE = 0, /* no live block; readers may still be in it, its old bytes still stand */
	SEGMENT_PREPARING, /* its span header is being written and flushed */
	SEGMENT_READY,
	SEGMENT_OPEN,
	SEGMENT_SEALING, /* no more records; they are written, flushed, then the footer is written
			  */
	SEGMENT_SEALED,
};

struct segment {
	struct list node; /* shard's free, sealing or sealed list: oldest first */
	enum segment_state state;
	uint32_t pins;       /* readers; memory mode: also puts that are being filled */
	uint32_t filling;    /* memory mode: of these, puts */
	uint64_t opened;     /* of the life that is on the medium; 0: nothing of ours is */
	uint64_t created_s;  /* when that life began */
	uint64_t nonce[2];   /* of its last span */
	uint64_t first[2];   /* of its first span */
	uint32_t tail;       /* page behind the last place given */
	uint32_t unwritten;  /* records placed and not yet written */
	uint32_t live_count; /* blocks in the index */
	uint64_t live_bytes;
	uint32_t leased_count; /* of these, leased: they are written again */
	uint64_t turn;         /* of shard.turns, when this life began to be filled */
	bool is_trim_due;      /* free, and to be discarded when nobody reads from it */
	struct foot *foot;     /* while OPEN or SEALING */
	/* Memory mode: entries in its directory, and those that have room there. */
	uint32_t dir_count;
	uint32_t dir_reserved;
};

/* Recovery's order of segments. */
struct segment_age {
	uint64_t opened;
	uint32_t segment;
};

/* What will stand in a segment's footer. Names are interned ids here, rows on the medium. */
struct foot {
	struct list node; /* shard's unused ones */
	struct disk_foot_entry *entries;
	uint32_t count;
	uint32_t void_count; /* of these, entries whose record was not written: sequence 0 */
};

/* A record between its place in the log and its end on the medium. */
struct log_record {
	struct list node; /* log's unwritten, in order of place; or its unused */
	struct segment *segment;
	struct disk_record *header; /* a page of its own */
	uint32_t page;
	uint32_t page_count;
	uint64_t sequence; /* of its first entry */
	struct shard_put *puts[DISK_GROUP_MAX];
	uint32_t put_count;
	uint32_t stride_count;
	uint32_t foot_first; /* its entries in the segment's foot */
	struct list waiters; /* shard_wait: go on to the flush when it is written */
	bool is_group;       /* may have, or could have had, several blocks */
	bool is_closed;      /* complete: to be written */
	bool is_submitted;   /* its last command is under way */
	uint32_t writes;     /* commands in flight */
	uint32_t submitted_pages;
	uint32_t next_put;    /* where the next command begins: put (put_count: none left), … */
	uint32_t next_iov;    /* its piece, … */
	uint64_t next_offset; /* bytes in that, … */
	uint64_t next_done;   /* and bytes of the put before it */
	int rc;
};

/* A write command. */
struct log_write {
	struct list node; /* log's unused */
	struct shard *shard;
	struct log_record *record;
	struct env_io io;
	struct iovec iov[ENV_IOV_MAX];
};

struct log {
	struct log_record *group;  /* at the tail, still open; NULL */
	struct log_record *next;   /* the first whose last command is not under way; NULL */
	struct list unwritten;     /* records, in order of place, the group included */
	struct list unused;        /* records */
	struct list writes;        /* unused commands */
	uint32_t groups_under_way; /* closed and not yet written */
	uint32_t writes_under_way; /* commands */
	bool is_group_wanted;      /* somebody waits for the group to become durable */
	struct env_timer timer;    /* closes the group */
};

struct flush {
	struct env_task task; /* begins one, so that all that ended in this turn share it */
	struct env_io io;
	bool is_under_way;
	struct list waiting;
	struct list serving;
	uint64_t watermark; /* entries below it will be durable */
	uint64_t covered;   /* written_sequence when it began */
};

/* The segment that is being made ready. */
struct prepare {
	struct segment *segment; /* NULL: none */
	struct disk_span *span;  /* a page */
	struct iovec iov;
	struct env_io io;
	struct shard_wait wait;
	uint32_t tries;
};

/* The footer that is being written: of the head of shard.sealing. */
struct foot_write {
	bool is_under_way; /* waiting for its flush, or written */
	bool is_last;      /* of a clean stop: the segment goes on behind it */
	struct shard_wait wait;
	struct env_io io;
	struct iovec iov;
	uint32_t next_page;
	uint32_t page_count;
};

/* --- reclaim --- */

#define REWRITE_RUNS  32u /* records that are read or written again at once */
#define REWRITE_PUTS  64u /* blocks of them */
#define REWRITE_READS 4u  /* commands in flight */

enum reclaim_state {
	RECLAIM_IDLE = 0,
	RECLAIM_LOADING,    /* the victim's directory is being read */
	RECLAIM_WALKING,    /* it has none: the index is walked instead */
	RECLAIM_MARKING,    /* what of it is alive, and who stays */
	RECLAIM_COPYING,    /* who stays gets a new place */
	RECLAIM_FLUSHING,   /* the new places survive a crash before the old ones go */
	RECLAIM_FORGETTING, /* the rest leaves the index */
};

/* What becomes of a block: disk_foot_entry.reserved of the victim's directory. */
enum reclaim_mark {
	RECLAIM_GONE = 0, /* it is not there any more, or has its new place */
	RECLAIM_FORGET,
	RECLAIM_HIT,    /* worth another life */
	RECLAIM_LEASED, /* promised */
};

/* A record of the victim between its reading and the end of the writing of its blocks. */
struct rewrite_run {
	struct list node; /* rewrite's runs, in order of their memory; or its unused */
	struct shard *shard;
	uint32_t first; /* entries of the directory: from first, … */
	uint32_t end;   /* … to before end */
	uint32_t next;  /* to be placed next */
	uint32_t record_page;
	uint32_t page_count;
	uint32_t read_pages; /* asked for */
	uint32_t reads;      /* commands in flight */
	uint32_t promised;   /* blocks that are still to be looked at */
	uint32_t puts;       /* blocks in the log */
	uint32_t ring_page;
	bool is_placed; /* all that could be */
	int rc;
	struct rewrite_put *pending; /* checked, waits for a segment */
};

/* A block that is written again. */
struct rewrite_put {
	struct list node; /* rewrite's unused */
	struct rewrite_run *run;
	struct shard_put put;
	uint32_t old_page;
};

struct rewrite_read {
	struct env_io io;
	struct iovec iov;
	struct rewrite_run *run; /* NULL: unused */
};

struct rewrite {
	char *ring; /* memory of runs */
	uint32_t ring_pages;
	uint32_t ring_head; /* page of the oldest run */
	uint32_t ring_tail; /* where the next one may begin */
	struct list runs;
	struct list runs_unused;
	struct list puts_unused;
	uint32_t put_count; /* unused */
	struct rewrite_read reads[REWRITE_READS];
	uint32_t reads_under_way;
};

struct reclaim {
	enum reclaim_state state;
	struct segment *victim;
	struct env_task task; /* the next step */
	/* Its directory: entries[0], entries[step], … */
	char *buffer; /* where it is read to */
	struct disk_foot_entry *entries;
	int32_t step;
	uint32_t count;
	uint32_t next; /* with which the present step goes on */
	uint32_t live; /* of its entries */
	bool has_walked;
	uint64_t bucket; /* of the index, while it is walked */
	/* What is read of it. */
	struct env_io io;
	struct iovec iov;
	struct disk_footer *footer; /* a page */
	uint32_t read_pages;
	/* The pass. */
	uint32_t rounds; /* of copying: a lease may come late */
	bool has_no_room;
	bool has_rewritten;
	struct shard_wait wait;
	uint64_t keep_pages; /* to be written again */
	uint64_t done_pages; /* of these */
	uint64_t told_pages; /* done_pages when those that wait for room were last told */
	uint64_t credit;     /* pages that the passes before have freed beyond their share */
	uint64_t allowance;  /* pages of opts.reinsert_share that they have not written again */
	/* Memory mode: the block that is being copied. */
	bool is_copying;
	uint32_t copy_segment;
	uint32_t copy_page;
	uint64_t copied;
	struct rewrite rewrite;
	/* TRIM. */
	struct env_io trim_io;
	struct segment *trim_segment; /* NULL: none under way */
};

/* How often the medium failed of late: health.c. */
struct health {
	struct env_task task;
	uint64_t since_ns; /* of the first error that error_count counts */
	uint32_t error_count;
	int rc; /* the task's */
};

/* --- who may put --- */

struct payer {
	uint64_t bytes;   /* of live blocks */
	uint64_t filling; /* of puts that are not committed yet */
	uint64_t quota;   /* 0: none */
	uint64_t dry_ns;  /* until then nothing more of his can be forgotten */
};

enum quota_state { QUOTA_IDLE = 0, QUOTA_ADDING, QUOTA_FORGETTING, QUOTA_SWEEPING };

struct quota {
	struct payer *payers; /* by interned id; 0: those beyond */
	/* Whose oldest blocks are being forgotten. */
	enum quota_state state;
	uint16_t payer;
	uint64_t excess; /* bytes that he has too many */
	uint64_t need;   /* bytes to forget; later, of the segment of turn */
	uint64_t won;    /* bytes forgotten */
	uint64_t *sums;  /* his bytes by segment */
	uint64_t turn;   /* of the youngest segment that gives something */
	uint64_t bucket; /* of the index */
	bool is_sweep_due;
	struct env_task task;
};

struct governor {
	uint64_t budget; /* bytes a day; 0: none */
	int64_t left;
	uint64_t updated_ns;
	uint64_t counted;  /* of stats.written_bytes */
	uint64_t *seen[2]; /* filters */
	uint32_t young;    /* which is being filled */
	uint32_t count;    /* of blocks in it */
};

struct shard {
	uint32_t magic;
	struct env *env;
	struct env_blk *blk; /* the medium's; NULL: memory mode */
	uint64_t base;       /* of segment 0: bytes on the medium */
	char *memory;        /* of segment 0: memory mode */
	uint64_t memory_size;
	struct shard_opts opts;
	uint32_t block_max;
	uint64_t incarnation;
	bool is_offline;
	bool is_closing;
	struct health health;

	void *arena; /* all that is not index, names, super: see layout() */
	uint64_t arena_size;
	struct super super; /* opened when super.env is set */
	struct index *index;
	struct index_segments index_segments;
	struct names *domains;
	struct names *payers;
	struct names *namespaces;
	char *scratch;     /* of a whole footer, or of a scan; page aligned */
	uint16_t *rows[3]; /* of domain, payer, namespace: id to row, or row to id */

	uint64_t segment_size;
	uint32_t segment_pages;
	uint32_t segment_count;
	struct segment *segments;
	uint64_t *first_sequence;
	struct segment_age *ages;
	struct segment *open;  /* NULL: none */
	struct segment *ready; /* NULL: none */
	struct list free;      /* segments, in the order in which they are used again */
	struct list sealing;
	struct list sealed;
	uint32_t free_count;
	uint32_t spare;   /* free segments that are reclaim's */
	uint64_t turns;   /* segments that were opened, ever */
	bool has_trim;    /* the medium discards */
	struct list feet; /* unused */
	struct prepare prepare;
	struct foot_write foot_write;
	struct reclaim reclaim;
	struct quota quota;
	struct governor governor;

	uint64_t sequence;         /* of the next entry */
	uint64_t durable_sequence; /* entries below it survive a crash */
	uint64_t written_sequence; /* highest of an entry of this life that was written, … */
	uint64_t kept_sequence;    /* … and flushed */
	struct log log;
	struct flush flush;

	struct list *buckets; /* puts in flight by hash */
	uint32_t bucket_mask;
	uint32_t put_count;
	struct env_task task; /* runs telling */
	struct list telling;  /* env_task.node: callbacks that are due */
	struct env_task *room_task;
	bool is_room_wanted;

	struct list drops;         /* unused drop_state */
	struct list drops_waiting; /* for room */
	uint32_t drop_count;       /* under way */
	struct list reads;         /* unused read_state */
	struct list landed;        /* read_io.io.node: to be checked */
	struct env_task check_task;
	uint32_t read_count; /* under way */
	uint64_t read_ns;    /* when one began last */

	struct shard_stats stats;
};

static inline uint64_t pages_of(uint64_t size)
{
	return round_up(size, PAGE_SIZE) / PAGE_SIZE;
}

/* --- shard.c --- */

/* Where a block stands. */
struct shard_place {
	uint32_t segment;
	uint32_t page; /* of the payload */
};

/* Have task run from the loop. */
void shard_tell(struct shard *shard, struct env_task *task);
void shard_telling_run(struct env_task *task); /* shard.task */

/* The live entry of id: not expired, not dropped. *hash_out is set whatever the result. */
bool shard_lookup(struct shard *shard, const struct store_id *id, struct hash128 *hash_out,
		  struct index_entry *entry_out);

/* The same, but what is leased has not expired. */
bool shard_lookup_leased(struct shard *shard, const struct store_id *id, struct hash128 *hash_out,
			 struct index_entry *entry_out);

/* What callers see of an entry. */
void shard_ref_fill(const struct shard *shard, const struct index_entry *entry,
		    struct shard_ref *ref_out);

/* index_insert, with the counts of segments; what it replaces leaves it its leases. -ENOSPC: the
 * index has no room for it. */
int shard_index_add(struct shard *shard, const struct index_entry *entry) MUST_USE;

/* The same, but forgets the oldest block that stands where it could stand. -ENOSPC: all of these
 * are leased. */
int shard_index_insert(struct shard *shard, const struct index_entry *entry) MUST_USE;

/* The block of hash and sequence at from is at to now. False: it is not there any more. */
bool shard_index_move(struct shard *shard, const struct hash128 *hash, uint64_t sequence,
		      const struct shard_place *from, const struct shard_place *to);

/* An entry that was just found leaves the index by policy; counted. */
void shard_index_forget(struct shard *shard, const struct index_entry *entry);
/* The same for a block of a namespace that was dropped. */
void shard_index_drop(struct shard *shard, const struct index_entry *entry);
/* The namespace of a block, by ids of the shard's names, was dropped after it was put. */
bool shard_was_dropped(const struct shard *shard, uint16_t domain, uint16_t ns, uint64_t sequence);

/* Remove the entry of hash when it has this sequence and stands there. */
bool shard_index_remove_at(struct shard *shard, const struct hash128 *hash, uint64_t sequence,
			   const struct shard_place *place);

/* Remove the entry of hash when its sequence is at most sequence; true when there was one. */
bool shard_index_remove(struct shard *shard, const struct hash128 *hash, uint64_t sequence);

/* A flush or the writing of a span header or of the super failed: nothing is promised any more. */
void shard_go_offline(struct shard *shard, const char *what, int rc);

/* --- health.c --- */

void health_init(struct shard *shard);
void health_fini(struct shard *shard);
/* A read or a write ended with rc: counted, and the shard goes offline where that was too many. */
void shard_io_failed(struct shard *shard, int rc);

/* Somebody was refused for want of room, and there may be some now. */
void shard_room(struct shard *shard);

/* --- log.c --- */

void log_init(struct shard *shard, struct log_record *records, uint32_t record_count,
	      struct disk_record *headers, struct log_write *writes);

/* Find put->segment and put->page for a block of put->size; nothing is taken yet. -EAGAIN: no
 * segment is ready. Memory mode has memory_reserve(). */
int log_reserve(struct shard *shard, struct shard_put *put) MUST_USE;

/* Take that place for put (payload complete, sequence given, iov padded with zeros) and write it
 * when its record is due. */
void log_append(struct shard *shard, struct shard_put *put);

/* Have wait->done() called when the record is written and flushed. */
void log_wait(struct shard *shard, struct log_record *record, struct shard_wait *wait);

void log_close_group(struct shard *shard);

/* Lowest sequence of what is not yet written; the next sequence when all is. */
uint64_t log_oldest_unwritten(const struct shard *shard);

/* Offline: end all records with rc. */
void log_fail(struct shard *shard, int rc);

/* --- flush.c --- */

void flush_init(struct shard *shard);

/* What wait stands for was written: call wait->done() after a flush that begins from now on. */
void flush_wait(struct shard *shard, struct shard_wait *wait);

/* Offline: all that wait get rc. */
void flush_fail(struct shard *shard, int rc);

/* --- segment.c --- */

static inline uint32_t segment_index(const struct shard *shard, const struct segment *segment)
{
	return (uint32_t)(segment - shard->segments);
}

static inline uint64_t segment_offset(const struct shard *shard, uint32_t segment, uint64_t page)
{
	return shard->base + segment * shard->segment_size + page * PAGE_SIZE;
}

/* One more record of pages with one more entry, and the footer, fit behind tail. */
bool segment_fits(const struct shard *shard, const struct segment *segment, uint64_t pages);

/* Make the next segment ready, if none is, and one can be. */
void segment_prepare(struct shard *shard);

/* Close the open segment and open the ready one. -EAGAIN: none is ready; nothing was done. */
int segment_turn(struct shard *shard) MUST_USE;

/* A place was taken or a record was written: whatever is due because of it. */
void segment_took(struct shard *shard, struct segment *segment);
void segment_wrote(struct shard *shard, struct segment *segment);

/* Nothing goes into the open segment any more; leave a footer behind which it can go on. */
void segment_leave(struct shard *shard);

/* The oldest one that can be reclaimed; NULL: none. */
struct segment *segment_victim(const struct shard *shard);

/* Nothing in a victim is alive any more: it can be used again. */
void segment_release(struct shard *shard, struct segment *segment);

/* A segment has become free to take: make it ready, if one is due. */
void segment_room(struct shard *shard);

void segment_pin(struct segment *segment);
void segment_unpin(struct shard *shard, struct segment *segment);

/* Lowest opened of what is on the medium; UINT64_MAX: nothing is. */
uint64_t segment_oldest(const struct shard *shard);

/* Begin a span at segment->tail (0: a new life), blocking, and open the segment. */
int segment_begin_sync(struct shard *shard, struct segment *segment) MUST_USE;

/* What is in a page, if it is a span header of this segment that stands at page. */
bool span_check(const struct shard *shard, const struct disk_span *span, uint32_t segment,
		uint32_t page);

/* --- foot.c --- */

void foot_add(struct segment *segment, const struct disk_foot_entry *entry);
void foot_add_put(struct shard *shard, struct segment *segment, const struct shard_put *put);

/* The record of these entries was not written. */
void foot_void(struct foot *foot, uint32_t first, uint32_t count);

/* Pages of the footer with extra entries more, whatever names they have. */
uint32_t foot_pages(const struct shard *shard, const struct segment *segment, uint32_t extra);

/* Write the footers of shard.sealing, one after the other. */
void foot_advance(struct shard *shard);

/* What is in a page, if it is the footer of segment's present life. */
bool footer_check(const struct shard *shard, const struct segment *segment,
		  const struct disk_footer *footer);
bool foot_entry_check(const struct disk_footer *footer, const struct disk_foot_entry *entry);

/* --- reclaim.c --- */

uint64_t reclaim_ring_size(uint64_t segment_size, uint64_t block_max);
void reclaim_init(struct shard *shard);

/* Something has changed that a pass may wait for, or that makes one due. */
void reclaim_wake(struct shard *shard);

/* A put (or tombstone) may take pages: puts are paced to what reclaim frees. False: shard_room()
 * tells. */
bool reclaim_admits(struct shard *shard, uint64_t pages);

/* Nothing of it is under way. */
bool reclaim_is_idle(const struct shard *shard);

/* For directory.c and the copying: on with the next step. */
void reclaim_go(struct shard *shard, enum reclaim_state state);

static inline struct disk_foot_entry *reclaim_entry(const struct reclaim *reclaim, uint32_t index)
{
	return reclaim->entries + (int64_t)reclaim->step * index;
}

/* The live entry that a row of the directory stands for. */
bool reclaim_find(const struct shard *shard, const struct disk_foot_entry *row,
		  struct index_entry *entry_out);

/* A block has got its new place. */
void reclaim_moved(struct shard *shard, const struct hash128 *hash, uint64_t sequence,
		   const struct shard_place *from, const struct shard_place *to);

/* Discard what a free segment holds, when nobody reads from it. */
void reclaim_trim(struct shard *shard, struct segment *segment);

/* --- directory.c --- */

/* Find out what stands in the victim; ends in RECLAIM_MARKING. */
void directory_load(struct shard *shard);
void directory_walk(struct shard *shard); /* a step of RECLAIM_WALKING */

/* --- rewrite.c --- */

void rewrite_init(struct shard *shard, char *ring, uint64_t ring_size, struct rewrite_run *runs,
		  struct rewrite_put *puts);

/* Read, check and write what is marked to stay; true when all of it has ended. */
bool rewrite_step(struct shard *shard);
void rewrite_written(struct shard *shard, struct shard_put *put, int rc);

/* --- put.c --- */

struct shard_put *put_find_buffered(const struct shard *shard, const struct hash128 *hash,
				    uint64_t sequence);
void put_written(struct shard *shard, struct shard_put *put, int rc);
void put_unpin(struct shard_put *put);

/* Checksums of the payload in iov, and zeros behind it up to the page. */
void put_sum(const struct shard *shard, struct shard_put *put);
void put_pad(const struct shard_put *put); /* zeros only */

/* --- drop.c --- */

uint64_t drop_memory_size(void);
void drop_init(struct shard *shard, void *memory);
void drop_retry(struct shard *shard);        /* there is room */
void drop_fail(struct shard *shard, int rc); /* offline */

/* --- lease.c --- */

/* The entry enters the index or leaves it: what of it is counted as leased. */
void lease_count(struct shard *shard, const struct index_entry *entry);
void lease_uncount(struct shard *shard, const struct index_entry *entry);

/* --- quota.c --- */

uint64_t quota_memory_size(uint32_t segment_count);
void quota_init(struct shard *shard, void *memory);

/* A block enters the index, or leaves it. */
void quota_add(struct shard *shard, const struct index_entry *entry);
void quota_remove(struct shard *shard, const struct index_entry *entry);

/* A put is being filled, or not any more. */
void quota_fill(struct shard *shard, const struct shard_put *put);
void quota_filled(struct shard *shard, const struct shard_put *put);

/* 0: it may begin. -EAGAIN: his oldest blocks are being forgotten; -ERR_QUOTA: it helps nothing. */
/* A namespace was dropped: its blocks leave the index, from the loop. */
void quota_sweep(struct shard *shard);
int quota_admit(struct shard *shard, const struct shard_put *put) MUST_USE;
bool quota_is_near(const struct shard *shard, uint16_t name);

/* --- governor.c --- */

uint64_t governor_memory_size(void);
void governor_init(struct shard *shard, void *memory);

/* Once a put: 0 or -ERR_BUDGET. */
int governor_admit(struct shard *shard, const struct shard_put *put) MUST_USE;
uint64_t governor_left(const struct shard *shard); /* bytes, when a put was last offered */

/* --- foreign.c --- */

/* Of the client, not of the medium. */
bool foreign_is_fault(int rc);

/* --- read.c --- */

/* Somebody reads, or did a moment ago: writes keep out of the way. */
bool read_is_busy(const struct shard *shard);

uint64_t read_memory_size(void);
void read_init(struct shard *shard, void *memory);

/* --- recovery.c, scan.c --- */

int recovery_run(struct shard *shard) MUST_USE;

/* The reading half of it: what a restart would find is in the index, nothing is written. */
int recovery_look(struct shard *shard) MUST_USE;

/* What recovery.c knows of a block, and who hears of it. */
struct recovery {
	struct shard *shard;
	uint64_t sequence_max; /* that was ever given, as far as can be seen */
	uint64_t entry_max;    /* of an entry */
	uint64_t found;        /* entries in the segment that is being read */
	bool was_clean;
	bool is_full; /* the index is */
};

/* A block (or tombstone) that stands in segment, names interned: into the index, if it is the
 * newest of its hash, and into the segment's foot, if it has one. */
void recovery_apply(struct recovery *recovery, struct segment *segment,
		    const struct disk_foot_entry *entry);

/* Read pages of a segment into buf. */
int recovery_read(struct recovery *recovery, const struct segment *segment, uint32_t page,
		  uint32_t page_count, void *buf) MUST_USE;

enum foot_state {
	FOOT_NONE,   /* none, or one of an earlier life */
	FOOT_TORN,   /* one that is not whole, or cannot be read */
	FOOT_COUNTS, /* names and entries are in the scratch, its own page is in *footer_out */
};

enum foot_state foot_read(struct recovery *recovery, const struct segment *segment,
			  struct disk_footer *footer_out);

/* Apply the footer of segment's present life and set its tail and nonce; false: none counts. */
bool foot_load(struct recovery *recovery, struct segment *segment, bool *is_sealed_out);

/* Walk segment from its tail; moves tail and nonce behind the last record or span found. */
void scan_segment(struct recovery *recovery, struct segment *segment);

/* Who hears of what a walk meets. What is told lies in the scratch. */
struct scan_visitor {
	void *ctx;
	void (*record)(void *ctx, const struct disk_record *record); /* it counts */
	/* A page that is no header that counts; bytes NULL: it cannot be read. May be NULL. */
	void (*other)(void *ctx, const void *bytes, uint32_t page);
	bool is_sparse; /* payloads are stepped over, not read along */
};

void scan_walk(struct recovery *recovery, struct segment *segment,
	       const struct scan_visitor *visitor);

/* --- start.c --- */

/* Nothing is under way and nobody has to be told anything. */
bool shard_is_idle(const struct shard *shard);
/* Poll until it is idle. -ETIMEDOUT; -ERR_OFFLINE. */
int shard_drain(struct shard *shard) MUST_USE;
/* Nothing comes any more: the env is gone, or what it still does goes nowhere. */
void shard_forget_all(struct shard *shard);

/* --- memory.c --- */

int memory_reserve(struct shard *shard, struct shard_put *put) MUST_USE;
void memory_settle(struct shard *shard, struct shard_put *put); /* the put is no longer filling */
void memory_publish(struct shard *shard, const struct shard_put *put); /* it is in the index */

/* The directory of a segment, from its end to its beginning. */
struct disk_foot_entry *memory_directory(const struct shard *shard, const struct segment *segment);

/* Copy some of what is marked to stay; true when all of it has ended. */
bool memory_copy_step(struct shard *shard);

static inline void *memory_page(const struct shard *shard, uint32_t segment, uint32_t page)
{
	return shard->memory + segment * shard->segment_size + page * PAGE_SIZE;
}

static inline bool is_memory(const struct shard *shard)
{
	return shard->blk == NULL;
}

#endif
