/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A medium looked at from outside: read-only, by the same parsing and the same recovery that a
 * server uses, for `ctxkv drive`. Nothing is written, no lock is held.
 *
 *   1. inspect_open() believes the label or its copy, as medium_open() does, and claims nothing.
 *   2. inspect_shard() runs recovery as far as it reads: what a restart would find is in the index.
 *   3. inspect_segment() walks one segment: every record header from page 1 on, under the nonces of
 *      its spans; each entry is told with what the index says of it and, unless quick, with the
 *      verdict on its payload. Entries of the footer whose header was not met are told last.
 *
 * A page cannot be read: it is damage that is told, and the walk goes on behind it. Another process
 * has the medium open: is_in_use; what is seen then may change while it is read, and "damage" may
 * be a write under way.
 *
 * Threads    One command, one thread; every call blocks.
 * Memory     That of a shard (index, tables) and a buffer of a largest block; alloc'ed, not pooled.
 */
#ifndef STORE_INSPECT_H
#define STORE_INSPECT_H

#include "store.h"

struct inspect;

/* Of a copied place (label pages, super slots): whole, and the same writing as the believed one. */
enum inspect_copy { INSPECT_WHOLE, INSPECT_OLDER, INSPECT_DAMAGED };

struct inspect_medium {
	struct medium_info info;
	struct disk_label label;
	enum inspect_copy labels[2];
	bool is_in_use;
};

struct inspect_shard {
	uint8_t uuid[16];
	uint32_t index; /* in the server */
	struct disk_extent extent;
	uint64_t segment_size;
	uint64_t writings; /* of the super */
	enum inspect_copy supers[2];
	bool is_clean;
	uint32_t drop_count;
	uint64_t blocks; /* what a restart would find, … */
	uint64_t bytes;
	uint64_t scanned; /* … of these, behind no footer: verified at their first get */
	uint64_t io_errors;
	uint64_t recovery_bytes;
	bool is_index_full; /* the oldest segments would be forgotten */
};

enum inspect_segment_state {
	INSPECT_FREE,    /* never used, or nothing of ours stands in it */
	INSPECT_SEALED,  /* has a footer that covers all of it */
	INSPECT_STOPPED, /* has a footer of a clean stop; the next start goes on behind it */
	INSPECT_OPEN,    /* without a footer: scanned by recovery */
};

enum inspect_footer { INSPECT_NO_FOOTER, INSPECT_FOOTER, INSPECT_FOOTER_DAMAGED };

struct inspect_segment {
	uint32_t index;
	enum inspect_segment_state state;
	enum inspect_footer footer;
	bool is_span_damaged; /* page 0 was a span header of ours, and is not whole */
	uint32_t tail;        /* page behind the last record, as recovery sees it */
	uint64_t opened;      /* order of segments */
	uint64_t created_s;
	uint64_t live_blocks;
	uint64_t live_bytes;
};

/* What a get would make of an entry. */
enum inspect_life {
	INSPECT_LIVE,
	INSPECT_REPLACED, /* a newer record or a tombstone of the same identity counts */
	INSPECT_DROPPED,  /* its namespace was dropped */
	INSPECT_EXPIRED,
	INSPECT_TOMBSTONE,
};

enum inspect_payload {
	INSPECT_PAYLOAD_UNREAD,
	INSPECT_PAYLOAD_RIGHT,
	INSPECT_PAYLOAD_WRONG, /* checksum */
	INSPECT_PAYLOAD_UNREADABLE,
	INSPECT_PAYLOAD_UNSUMMED, /* written without checksums */
};

struct inspect_block {
	uint32_t segment;
	uint32_t record_page;
	uint32_t page;
	/* NULL: its record header was not met, only the footer knows of it. It is served whole, but
	 * its key and name are not known here. */
	const struct disk_entry *entry;
	struct hash128 hash;
	uint64_t sequence;
	uint64_t expiry_s;
	uint32_t depth;
	uint32_t size;
	enum inspect_life life;
	enum inspect_payload payload;
	uint32_t wrong_offset; /* WRONG: first stride that is not right, bytes into the block */
	bool is_in_footer;     /* no footer, or not in it: a crash may have torn its payload */
};

enum inspect_damage {
	INSPECT_HEADER_TORN,     /* a record header of this life that is not whole */
	INSPECT_SPAN_TORN,       /* likewise a span header behind the first */
	INSPECT_PAGE_UNREADABLE, /* I/O error */
};

struct inspect_visitor {
	void *ctx;
	void (*block)(void *ctx, const struct inspect_block *block);
	void (*damage)(void *ctx, enum inspect_damage what, uint32_t segment, uint32_t page);
	bool reads_payload;
};

/* -ERR_FORMAT, -ERR_VERSION or an errno value, and a sentence. */
int inspect_open(struct env *env, const char *path, struct inspect **inspect_out,
		 char message_out[256]) MUST_USE;
void inspect_close(struct inspect **inspect);
const struct inspect_medium *inspect_medium(const struct inspect *inspect);

/* Make shard index the current one. index_entries: as of a server (0: its default). */
int inspect_shard(struct inspect *inspect, uint32_t index, uint64_t index_entries,
		  struct inspect_shard *shard_out) MUST_USE;

/* Segments of the current shard. */
uint32_t inspect_segment_count(const struct inspect *inspect);
void inspect_segment_get(struct inspect *inspect, uint32_t index,
			 struct inspect_segment *segment_out);

/* Step 3 for a segment. */
void inspect_segment_walk(struct inspect *inspect, uint32_t index,
			  const struct inspect_visitor *visitor);

/* The whole payload of a block of the walk into buf; 0, -ERR_CORRUPT, or an I/O error. */
int inspect_payload(struct inspect *inspect, const struct inspect_block *block, void *buf) MUST_USE;

#endif
