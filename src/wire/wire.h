/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol's frames as structs: little endian, overlaid on the received bytes. docs/protocol.md
 * is normative; each field's offset is asserted in layout.c (layout.def) and each frame has golden
 * bytes in test/unit/wire/test_golden.c. Pure: no I/O, no memory, no state.
 *
 * A connection (lane) begins with the client's preface. Then both sides send frames: a header, a
 * body (both under the MAC), and for PUT and DATA_* a payload (not under the MAC). Bodies are
 * received to 8-byte aligned memory. wire_check_*() is called on what arrives before any field of
 * it is used; behind it, fields are within the limits below.
 *
 * A put or get item names the client's memory by segments {region, offset, size} for transports
 * that reach it directly (loop, shm, rdma); for tcp there are none, and DATA frames name the
 * request, the item and the offset in the block.
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include "../base/base.h"

#define WIRE_MAGIC       UINT32_C(0x31565843) /* "CXV1" */
#define WIRE_VERSION     1
#define WIRE_VERSION_MIN 1
#define WIRE_PORT        9900

#define WIRE_BODY_MAX    (64 * KiB) /* bytes of a body */
#define WIRE_FREE_MAX    (4 * KiB) /* frames with at most so much body and payload need no credit */
#define WIRE_REPLY_MAX   (4 * KiB) /* body of any frame from the server except WELCOME and TEXT */
#define WIRE_INLINE_MAX  (64 * KiB) /* payload of a PUT frame */
#define WIRE_DATA_MAX    MiB        /* payload of a DATA frame */
#define WIRE_BLOCK_MAX   (64 * MiB)
#define WIRE_ITEM_MAX    1024 /* items in a request */
#define WIRE_SEG_MAX     256  /* segments of an item: K and V of 126 layers, each by itself */
#define WIRE_SHARD_MAX   64   /* shards of a server */
#define WIRE_LANE_MAX    16   /* lanes of a session */
#define WIRE_KEY_SIZE    32
#define WIRE_TENANT_MAX  64 /* with the NUL */
#define WIRE_MAC_SIZE    16
#define WIRE_BUDGET_MAX  (UINT64_MAX / 2) /* ns: now + budget does not overflow */
#define WIRE_STATUS_MIN  (-4095)          /* statuses and codes are WIRE_STATUS_MIN … 0 */

enum wire_kind {
#define FRAME(name, value, direction, item, text) WIRE_##name = (value),
#include "../tbl/ops.def"
#undef FRAME
};

enum wire_direction { WIRE_C2S = 1, WIRE_S2C = 2 };

/* Bits of hello.transports and of offers. */
enum wire_transport {
	WIRE_XPRT_TCP = 1u << 0,
	WIRE_XPRT_SHM = 1u << 1,
	WIRE_XPRT_RDMA = 1u << 2,
	WIRE_XPRT_LOOP = 1u << 3,
};

#define WIRE_PREFACE_MAGIC "ctxkv\r\n\x1a" /* 8 bytes, no NUL: text mode would break it */

enum wire_mode { WIRE_MODE_NEW = 0, WIRE_MODE_JOIN = 1 };
enum wire_preface_flag { WIRE_PREFACE_TLS = 1u << 0 };

/* Client to server, once, in the clear; part of the transcript that hello signs. */
struct wire_preface {
	uint8_t magic[8];
	uint16_t version_min;
	uint16_t version_max;
	uint8_t mode;         /* enum wire_mode */
	uint8_t flags;        /* enum wire_preface_flag */
	uint16_t reactor;     /* wanted; 0xffff: any */
	uint64_t incarnation; /* of the server as last seen; 0: not known. JOIN: must be right */
	uint64_t session;     /* JOIN: the session to join */
};

struct wire_header {
	uint32_t magic;        /* WIRE_MAGIC */
	uint8_t kind;          /* enum wire_kind */
	uint8_t flags;         /* enum wire_flag */
	uint16_t count;        /* items in the body */
	uint32_t body_size;    /* bytes behind the header, under the MAC */
	uint32_t payload_size; /* bytes behind the body, not under it */
	uint64_t request;      /* the client's id, not used again in the session; 0: none */
	uint32_t credit; /* S2C: sum of all credit given to the session so far, bytes, wraps */
	uint32_t reserved;
	uint8_t mac[WIRE_MAC_SIZE]; /* AES-128-GMAC of 32 header bytes and body; zero where none */
};

enum wire_flag {
	WIRE_FLAG_LAST = 1u << 0, /* REPLY: every item of the request has been answered */
};

/* --- hello --- */

struct wire_hello {
	uint8_t tenant[WIRE_TENANT_MAX]; /* text, NUL padded, at least one NUL */
	uint8_t nonce[32];
	uint8_t secret_id[8]; /* which of the tenant's secrets: auth_secret_id() */
	uint32_t transports;  /* what the client can use */
	uint16_t lane;        /* JOIN: 1.. ; NEW: 0 */
	uint16_t reserved0;
	uint64_t reserved1;
};

struct wire_challenge {
	uint16_t version; /* chosen */
	uint16_t reserved0;
	uint32_t reserved1;
	uint8_t nonce[32];
	uint8_t server[16]; /* UUID */
	uint64_t incarnation;
	uint8_t proof[32];
};

struct wire_proof {
	uint8_t proof[32];
};

enum wire_right { WIRE_RIGHT_READ = 1u << 0, WIRE_RIGHT_WRITE = 1u << 1 };
enum wire_verify { WIRE_VERIFY_NONE = 0, WIRE_VERIFY_MEDIUM = 1, WIRE_VERIFY_ALL = 2 };

/* Followed by count wire_shard, then offer_count wire_offer. */
struct wire_welcome {
	uint64_t session;
	uint64_t incarnation;
	uint8_t server[16];   /* UUID */
	uint32_t block_max;   /* bytes; a larger put is refused */
	uint32_t credit;      /* initial, bytes */
	uint32_t request_max; /* requests in flight in the session */
	uint32_t weight;      /* of the server in placement */
	uint64_t capacity;    /* payload bytes */
	uint16_t reactor;     /* that has this session */
	uint16_t reactor_count;
	uint8_t lane_max;
	uint8_t verify; /* enum wire_verify of the server: ALL asks the client to check too */
	uint8_t rights; /* enum wire_right on the tenant's own domain */
	uint8_t offer_count;
	uint32_t stall_ms; /* a watchdog ends a server that stood still so long; 0: none */
	uint32_t reserved;
};

struct wire_shard {
	uint8_t uuid[16];
	uint16_t index;   /* as in results and ranges */
	uint16_t reactor; /* that runs it */
	uint32_t weight;
};

struct wire_offer {
	uint32_t transport; /* one enum wire_transport */
	uint32_t reactor;
	uint8_t address[120]; /* text, NUL padded: a Unix socket's path, HOST:PORT */
};

struct wire_refuse {
	int32_t code; /* negative ERR_* */
	uint32_t reserved;
	uint8_t text[120]; /* NUL padded */
};

/*
 * --- requests: every kind from PROBE to STAT begins with struct wire_request; DECLARE, UNDECLARE
 * and REPORT go on with their struct (count 0), the others with count items ---
 */

enum wire_request_flag {
	WIRE_REQ_ALL = 1u << 0,      /* LEASE: all that are here, not only the leading run */
	WIRE_REQ_WARM = 1u << 1,     /* LEASE: begin reading into the cache */
	WIRE_REQ_DURABLE = 1u << 2,  /* PUT: answer when durable */
	WIRE_REQ_PROGRESS = 1u << 3, /* GET: report checked bytes in order */
	WIRE_REQ_SHARED = 1u << 4,   /* PUT: class shared (else private) */
};

struct wire_request {
	uint8_t ns[16];     /* namespace */
	uint8_t domain[16]; /* zero: the tenant's own */
	uint64_t budget_ns; /* 0 … WIRE_BUDGET_MAX, relative to receipt; what is not done by then is
			       answered DEADLINE */
	uint64_t lease;     /* GET: read under it, or 0; RENEW: the lease; else 0 */
	uint32_t flags;     /* those of enum wire_request_flag that go with the kind; else 0 */
	uint32_t duration_ms; /* LEASE, RENEW: how long from now; else 0 */
};

struct wire_key {
	uint8_t bytes[WIRE_KEY_SIZE];
};

/* Which version of a block: the first answer names it, further ranges carry it. */
struct wire_record {
	uint64_t sequence; /* 0: any */
	uint16_t shard;
	uint16_t reserved0;
	uint32_t reserved1;
};

/* Items of GET and PUT are followed by their segments: item, segments, item, segments … */
struct wire_seg {
	uint32_t region;
	uint32_t size;
	uint64_t offset;
};

struct wire_get {
	struct wire_key key;
	struct wire_record record;
	uint32_t offset; /* of the range in the block */
	uint32_t size;   /* room for it, 1 … WIRE_BLOCK_MAX; the block may be shorter */
	uint16_t seg_count;
	uint16_t reserved0;
	uint32_t reserved1;
};

enum wire_put_flag {
	WIRE_PUT_INLINE = 1u << 0, /* its bytes are in the frame's payload, in order of items */
};

struct wire_put {
	struct wire_key key;
	uint8_t place[16];
	uint64_t chain;
	uint32_t depth; /* blocks before it in its context */
	uint32_t size;  /* 1 … block_max */
	uint32_t ttl_s; /* 0: none */
	uint16_t seg_count;
	uint16_t flags; /* enum wire_put_flag */
};

/*
 * CANCEL: requests to give up; each is answered by one RESULT, item = index here. It goes on the
 * lane of the requests it names: on another one it could overtake them.
 */
struct wire_cancel {
	uint64_t request;
};

enum wire_region_kind { WIRE_REGION_SHM = 1, WIRE_REGION_RDMA = 2, WIRE_REGION_LOOP = 3 };

struct wire_declare {
	uint32_t region; /* the client's id, 1 …; not used again in the session */
	uint16_t kind;   /* enum wire_region_kind */
	uint16_t access; /* bit 0: server may write, bit 1: server may read */
	uint64_t size;
	uint64_t address;   /* RDMA: remote address; SHM: offset in the descriptor; LOOP: pointer */
	uint32_t rkey;      /* RDMA */
	uint32_t page_size; /* SHM: of the mapping; 0: not known */
};

struct wire_undeclare {
	uint32_t region;
	uint32_t reserved;
};

struct wire_report {
	uint64_t tokens_loaded;
	uint64_t tokens_recomputed;
	uint64_t load_ns;
	uint64_t prefill_ns;
};

/* --- answers --- */

enum wire_result_flag {
	WIRE_RESULT_EXISTED = 1u << 0,  /* PUT: the block was there; nothing was moved */
	WIRE_RESULT_DURABLE = 1u << 1,  /* PUT: the block is durable */
	WIRE_RESULT_CRC = 1u << 2,      /* GET: crc is that of the bytes delivered */
	WIRE_RESULT_PROGRESS = 1u << 3, /* GET: size bytes are there and checked; more follows */
};

struct wire_result {
	uint32_t item;       /* index in the request */
	int32_t status;      /* 0 or a negative code */
	uint32_t size;       /* GET: bytes delivered */
	uint32_t block_size; /* GET: of the whole block */
	struct wire_record record;
	uint32_t crc;   /* CRC32C of the bytes delivered */
	uint32_t flags; /* enum wire_result_flag */
};

/* BITMAP body: this, then (count + 7) / 8 bytes, bit i % 8 of byte i / 8 is item i, zero padded. */
struct wire_bitmap {
	uint64_t lease;  /* LEASE: its id, 0 when none was granted */
	int32_t status;  /* 0, or why the whole request failed (the bits are then zero) */
	uint32_t leased; /* LEASE: it holds the first so many of those that are here */
	uint32_t duration_ms;
	uint32_t reserved;
};

struct wire_text {
	int32_t status;
	uint32_t size; /* bytes of text behind this */
};

struct wire_grant {
	uint32_t item;
	uint32_t size;   /* at most WIRE_DATA_MAX */
	uint64_t offset; /* in the block */
};

/* Body of DATA_GET and DATA_PUT; payload_size bytes of the block from offset follow. */
struct wire_data {
	uint32_t item;
	uint32_t reserved;
	uint64_t offset;
};

enum wire_notice_code {
	WIRE_NOTICE_CREDIT = 0, /* only the header's credit counts */
	WIRE_NOTICE_DRAINING = 1,
	WIRE_NOTICE_REVOKED = 2,
	WIRE_NOTICE_CLOSING = 3,
};

struct wire_notice {
	uint32_t code; /* enum wire_notice_code */
	uint32_t reserved;
	uint8_t text[56];
};

/* --- checks; 0, -ERR_PROTOCOL, -ERR_VERSION or -ERR_UNSUPPORTED --- */

int wire_check_preface(const struct wire_preface *preface) MUST_USE;

/* A header as it came from a peer that may send frames of direction. Sizes are within the limits
 * afterwards; -ERR_UNSUPPORTED: a kind not known, whose body may be skipped. */
int wire_check_header(const struct wire_header *header, enum wire_direction direction) MUST_USE;

/* The body of a header that has passed: count, item and segment counts and sizes add up to exactly
 * body_size, sizes and offsets are in bounds, reserved bits are zero, texts end in NUL. */
int wire_check_body(const struct wire_header *header, const void *body) MUST_USE;

/* --- access to a checked body --- */

/* Behind the fixed part; request-like frames: behind struct wire_request. */
const void *wire_items(const struct wire_header *header, const void *body);

/* The segments of an item, and the item behind them. */
const struct wire_seg *wire_get_segs(const struct wire_get *item);
const struct wire_get *wire_get_next(const struct wire_get *item);
const struct wire_seg *wire_put_segs(const struct wire_put *item);
const struct wire_put *wire_put_next(const struct wire_put *item);

/* Fill a header: magic, kind, count, sizes, request; all else zero. */
void wire_header_init(struct wire_header *header, enum wire_kind kind, uint64_t request,
		      uint16_t count, uint32_t body_size);

/* "GET"; "kind 77" is never returned: NULL when there is no such kind. */
const char *wire_kind_name(uint8_t kind);

#endif
