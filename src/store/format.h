/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The medium as structs: little endian, overlaid on pages. docs/disk-format.md is normative; each
 * field's offset is asserted in format.c and golden bytes stand in test/unit/store/test_format.c.
 *
 *   medium   = label page | its copy | shard extents
 *   extent   = super slot 0 | super slot 1 (each DISK_SUPER_SIZE) | segments
 *   segment  = span … | footer (at the end of the segment)
 *   span     = span header page (draws a nonce) | records
 *   record   = header page (1 … DISK_GROUP_MAX entries, their stride checksums) | payloads, each on
 * a page of its own, zero padded to the next
 *
 * A segment's life begins with a span header at its offset 0 and a fresh random nonce, written and
 * flushed before its first record. Going on behind a crash or a clean stop begins a further span in
 * the same segment, with a nonce of its own, that names the nonce before it. Records count only
 * under the nonce of the span they stand in; footers only under the nonce of the first span of the
 * segment's present life, and a span behind a footer only when it names that footer's last nonce.
 * Every header carries a CRC32C of its whole page (or pages), computed with that field zero.
 */
#ifndef STORE_FORMAT_H
#define STORE_FORMAT_H

#include "../base/base.h"

#define DISK_VERSION      1
#define DISK_LABEL_MAGIC  UINT64_C(0x314c424c56585443) /* "CTXVLBL1" */
#define DISK_SUPER_MAGIC  UINT64_C(0x3150555356585443) /* "CTXVSUP1" */
#define DISK_SPAN_MAGIC   UINT64_C(0x314e505356585443) /* "CTXVSPN1" */
#define DISK_REC_MAGIC    UINT64_C(0x3143455256585443) /* "CTXVREC1" */
#define DISK_FOOT_MAGIC   UINT64_C(0x31544f4656585443) /* "CTXVFOT1" */

#define DISK_SHARD_MAX    64
#define DISK_SUPER_SIZE   (8 * KiB) /* a slot */
#define DISK_EXTENT_ALIGN MiB
#define DISK_DROP_MAX     100 /* rows of dropped namespaces */
#define DISK_GROUP_MAX    21  /* entries of one record */
#ifndef DISK_GROUP_BLOCK_MAX
#define DISK_GROUP_BLOCK_MAX (256 * KiB) /* blocks below it may share a record */
#endif
#define DISK_STRIDE      (64 * KiB)
#define DISK_STRIDE_BIG  (128 * KiB) /* of blocks above 32 MiB */
#define DISK_STRIDE_MAX  512         /* checksums in a record header */
#define DISK_SEGMENT_MAX GiB

/* The simulator builds the store with smaller ones, so that a run fills a medium in no time. */
#ifndef DISK_SEGMENT_MIN
#define DISK_SEGMENT_MIN  (16 * MiB) /* payload room of a segment */
#define DISK_SEGMENTS_MIN 32         /* a shard */
#endif

/* First page of a medium, and its copy in the second. */
struct disk_label {
	uint64_t magic;
	uint32_t version;
	uint32_t crc;       /* of the page with this field zero */
	uint8_t medium[16]; /* UUID */
	uint8_t server[16]; /* UUID of the server it belongs to */
	uint64_t size;      /* bytes of the medium at setup */
	uint64_t created_s; /* seconds since 1970 */
	uint32_t shard_count;
	uint32_t block_max;   /* bytes */
	uint64_t incarnation; /* of the server that has, or last had, it open */
	/* Where it stands among the media of its server; both 0: it is the only one. */
	uint32_t shard_first;   /* index of its first shard in the server */
	uint32_t server_shards; /* shards of the whole server */
	uint8_t reserved[32];
	struct disk_extent {
		uint64_t offset;
		uint64_t size;
	} extents[DISK_SHARD_MAX];
	uint8_t reserved1[2952];
};

/* State of a shard that is not in the log. A writing goes to one slot, then to the other; the
 * higher count wins. */
struct disk_super {
	uint64_t magic;
	uint32_t version;
	uint32_t crc;          /* of the slot with this field zero */
	uint8_t shard[16];     /* UUID */
	uint64_t count;        /* of this writing */
	uint64_t seed;         /* of identity hashes; secret */
	uint64_t segment_room; /* payload bytes of a segment, power of two */
	uint64_t segment_size; /* bytes of a segment, span header and footer included */
	uint32_t segment_count;
	uint32_t index; /* of the shard in its server */
	uint32_t drop_count;
	uint32_t
		is_clean; /* 1: stopped cleanly; cleared at open, before anything else is written */
	uint64_t offset;  /* of the extent on the medium: a misdirected writing is not believed */
	uint64_t reserved[4];
	struct disk_drop {
		uint8_t domain[16];
		uint8_t ns[16];
		uint64_t sequence; /* records of the namespace before it are forgotten */
	} drops[DISK_DROP_MAX];
	uint8_t reserved1[4072];
};

struct disk_span {
	uint64_t magic;
	uint32_t version;
	uint32_t crc; /* of the page with this field zero */
	uint8_t shard[16];
	uint64_t nonce[2];
	uint64_t previous[2]; /* nonce of the span before in this segment; zero: first of this life
			       */
	uint32_t segment;
	uint32_t page;     /* where in the segment this span begins, pages */
	uint64_t sequence; /* every record of this span has at least this one */
	uint64_t opened; /* sequence at which this life of the segment began: the order of segments
			  */
	uint64_t incarnation;
	uint64_t created_s; /* wall clock when this life of the segment began */
	uint8_t reserved[3992];
};

enum disk_entry_flag {
	DISK_ENTRY_TOMBSTONE = 1u << 0, /* drop of this key; no payload */
	DISK_ENTRY_NO_CRC = 1u << 1,    /* written without checksums (verify none) */
	DISK_ENTRY_SHARED = 1u << 2,    /* class shared */
	DISK_ENTRY_REWRITTEN = 1u << 4, /* its sequence is of an earlier place, and may be lower
					   than its span's */
	DISK_ENTRY_SUSPECT = 1u << 3,   /* footers only: found by a scan, payload never verified */
};

/* One block of a record. */
struct disk_entry {
	uint8_t key[32];
	uint8_t ns[16];
	uint8_t domain[16];
	uint8_t payer[16];
	uint8_t place[16];
	uint64_t chain;
	uint64_t sequence;
	uint64_t expiry_s; /* seconds since 1970; 0: never */
	uint32_t depth;
	uint32_t size;         /* payload bytes */
	uint32_t crc;          /* of the payload */
	uint32_t page;         /* of the payload, in the segment */
	uint32_t flags;        /* enum disk_entry_flag */
	uint16_t stride_first; /* index of its first checksum in the page's strides */
	uint16_t stride_count;
	uint8_t reserved[16];
};

/* Header page of a record. */
struct disk_record {
	uint64_t magic;
	uint32_t version;
	uint32_t crc; /* of the page with this field zero */
	uint8_t shard[16];
	uint64_t nonce[2];
	uint32_t segment;
	uint32_t page;       /* where in the segment this page stands */
	uint32_t page_count; /* of the whole record, this page included */
	uint32_t entry_count;
	uint32_t stride_count;
	uint32_t flags;
	uint8_t reserved[56];
	/* entry_count disk_entry, then stride_count uint32_t, then zero. */
	uint8_t body[3968];
};

/*
 * Footer, at the end of a segment: entry pages, then this page as the last of the segment. It
 * covers the records before page tail. is_sealed 0: the segment was left at a clean stop and goes
 * on at tail with a new span.
 */
struct disk_footer {
	uint64_t magic;
	uint32_t version;
	uint32_t crc; /* of this page with this field zero */
	uint8_t shard[16];
	uint64_t nonce[2]; /* of the last span it covers */
	uint32_t segment;
	uint32_t entry_count;
	uint32_t first_page;  /* where its entries begin, in the segment */
	uint32_t entries_crc; /* of all entry pages */
	uint32_t tail;        /* page behind the last record */
	uint32_t is_sealed;
	uint32_t name_count; /* rows of names */
	uint32_t reserved0;
	uint64_t opened; /* as in the spans */
	uint64_t sequence_max;
	uint64_t first[2]; /* nonce of the first span of this life: a footer counts only under it */
	uint8_t reserved[3984];
};

/* Names (domain, payer, namespace) that entries of the same footer refer to by row. */
struct disk_name {
	uint8_t bytes[16];
};

/* What the index needs of a block: name_count disk_name, padded to 64 bytes, then entries. */
struct disk_foot_entry {
	uint64_t hash[2]; /* identity under the shard's seed: index_hash() */
	uint64_t sequence;
	uint32_t page;
	uint32_t size;
	uint32_t crc;
	uint32_t chain; /* folded */
	uint32_t expiry_s;
	uint32_t depth;
	uint32_t flags;  /* enum disk_entry_flag */
	uint16_t domain; /* row + 1; 0: not known */
	uint16_t payer;
	uint16_t ns;
	uint16_t reserved;
	uint32_t record_page; /* of its record header */
};

/* CRC32C of size bytes at page with the u32 at crc_offset taken as zero. */
uint32_t disk_crc(const void *page, size_t size, size_t crc_offset);

/*
 * Geometry. A segment is its room (power of two, DISK_SEGMENT_MIN … DISK_SEGMENT_MAX) and 0.3 %,
 * in whole pages (small ones of the simulator: 12 pages), for span headers, record headers and the
 * footer: room / size blocks of 2 MiB or more always fit, each with a header page of its own.
 * Segments follow the super slots without a gap.
 */
#define DISK_SEGMENTS_OFFSET (2 * DISK_SUPER_SIZE) /* of segment 0, in the extent */
#define DISK_OVERHEAD_MIN    (12 * PAGE_SIZE)      /* below that of DISK_SEGMENT_MIN */

uint64_t disk_segment_size(uint64_t segment_room);

/* Segments of segment_size that an extent holds. */
uint64_t disk_segment_count(uint64_t extent_size, uint64_t segment_size);

/* Where the names end and the entries begin, bytes from the first entry page of a footer. */
uint64_t disk_foot_entries_offset(uint32_t name_count);

/* Pages of a footer, its own page included. */
uint32_t disk_foot_pages(uint32_t name_count, uint32_t entry_count);

#endif
