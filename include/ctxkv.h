/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libctxkv: client library of ctxkv, a shared context memory for LLM inference.
 *
 * A block is an immutable value of 1 byte to 64 MiB under a 32-byte key in a namespace. A get
 * returns the bytes that were put, or a miss; every failure of the store is a miss for the caller.
 *
 * Threads    By default a client has one progress thread, and any one thread at a time may call
 *            into a client. A thread that waits again and again (ctxkv_wait(), ctxkv_run()) does
 *            the work itself meanwhile: no other has to be woken. With CTXKV_CALLER_DRIVEN there
 *            is no progress thread: work is done inside ctxkv_submit() and ctxkv_poll(), too, by
 *            the thread that calls them, and nothing moves between calls. A thread that is ended
 *            by pthread_cancel() ends behind a wait or run, not in it.
 * Memory     Ops, items, iovecs and buffers are the caller's. They are borrowed from ctxkv_submit()
 *            until the op is released (below). Zero what you do not set.
 * Finish     An op finishes in two steps. RESULT: statuses are final; it comes at the deadline at
 *            the latest. RELEASE: nothing will write to or read from its buffers any more. Over tcp
 *            both come together; over transports where the server reaches the buffers itself, a
 *            server that froze can delay the release. Do not reuse buffers before it.
 * Errors     0 (or a count) or a negative code: negative errno values and CTXKV_E* below.
 *            ctxkv_strerror() has a text for each. A block's outcome is in its item's status; a
 *            miss is -CTXKV_EMISS. Treat every other negative status of a get as a miss, too.
 * Fork       After fork() a child may only close: other calls return -CTXKV_EFORKED.
 * Bugs       A broken invariant inside the library does not end the process: the client logs it
 *            once and answers -CTXKV_EBROKEN from then on.
 * Stability  Option structs begin with their size and grow at the end. ctxkv_op and ctxkv_item have
 *            their sizes for good and grow into reserved, which must be zero at submit. It is zero
 *            again at the release: an op may be submitted once more.
 *
 * Link with: pkg-config --cflags --libs ctxkv
 */
#ifndef CTXKV_H
#define CTXKV_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CTXKV_API      __attribute__((visibility("default")))
#define CTXKV_MUST_USE __attribute__((warn_unused_result))
#else
#define CTXKV_API
#define CTXKV_MUST_USE
#endif

/* Codes of our own, returned negated. The first group is served as a miss, the second may be tried
 * again, the third needs an operator. */
#define CTXKV_EMISS         2001
#define CTXKV_ECORRUPT      2002
#define CTXKV_ECHANGED      2003
#define CTXKV_EDEADLINE     2004
#define CTXKV_EUNREACHABLE  2005
#define CTXKV_EBROKEN       2006
#define CTXKV_EOFFLINE      2007
#define CTXKV_ENAME         2008
#define CTXKV_EPEER         2020
#define CTXKV_ECLOSING      2021
#define CTXKV_EBUSY         2022
#define CTXKV_EFULL         2023
#define CTXKV_EABORTED      2024
#define CTXKV_EQUOTA        2025
#define CTXKV_EBUDGET       2026
#define CTXKV_ETOO_LARGE    2040
#define CTXKV_EDENIED       2041
#define CTXKV_EAUTH         2042
#define CTXKV_EPROTOCOL     2043
#define CTXKV_EVERSION      2044
#define CTXKV_EFORMAT       2045
#define CTXKV_EIN_USE       2046
#define CTXKV_EFOREIGN      2047
#define CTXKV_EUNSUPPORTED  2048
#define CTXKV_EFORKED       2049
#define CTXKV_EURL          2050

#define CTXKV_VERSION_MAJOR 0
#define CTXKV_VERSION_MINOR 1
#define CTXKV_VERSION_PATCH 0

#define CTXKV_ITEM_MAX      1024u /* items of an op */

struct ctxkv_client;
struct ctxkv_region;

/* Names a block inside a namespace: hash what your engine names it by, with rank and KV group. */
struct ctxkv_key {
	uint8_t bytes[32];
};

/* Names all that must agree for blocks to be shared; from text by ctxkv_namespace(). */
struct ctxkv_ns {
	uint8_t bytes[16];
};

/* Which version of a block a get has read. Zero: any. */
struct ctxkv_record {
	uint64_t sequence;
	uint64_t shard;
};

struct ctxkv_iov {
	void *base;
	uint64_t size;
};

enum ctxkv_opcode {
	CTXKV_OP_PROBE = 1, /* which keys are here; pins nothing, counts as no hit */
	CTXKV_OP_LEASE = 2, /* probe, and keep the leading run readable for duration_ms */
	CTXKV_OP_GET = 3,   /* blocks or ranges into iov */
	CTXKV_OP_PUT = 4,   /* blocks from iov, if absent */
	CTXKV_OP_DROP = 5,  /* forget the items' keys; with no item the whole namespace */
	CTXKV_OP_RENEW = 6, /* extend lease by duration_ms, or end it with 0; no item */
	CTXKV_OP_REPORT = 7 /* add op.report to the namespace's meters; no item */
};

/* Flags of ctxkv_op.flags. */
#define CTXKV_DURABLE  1u  /* PUT: the result waits until the block survives a crash */
#define CTXKV_PRIVATE  2u  /* PUT: of this context only; goes first when room is short */
#define CTXKV_PROGRESS 4u  /* GET: item.done_size grows as checked bytes arrive in order */
#define CTXKV_WARM     8u  /* LEASE: begin reading into the server's cache */
#define CTXKV_ALL      16u /* LEASE: every block that is here, not only the leading run */

/* Flags of ctxkv_item.flags. */
#define CTXKV_EXISTED     1u /* PUT: the block was there already; nothing was moved */
#define CTXKV_WAS_DURABLE 2u /* PUT: the block is durable now */

/* One block of an op. 160 bytes. */
struct ctxkv_item {
	struct ctxkv_key key;
	uint8_t place[16]; /* which server; zero: from the key. Same for a run of tokens */
	uint64_t chain;    /* PUT: the context it continues; 0: none */
	uint32_t depth;    /* PUT: blocks before it in that context */
	uint32_t ttl_s;    /* PUT: seconds to live; 0: no limit */
	uint64_t offset;   /* GET: where in the block to begin */
	const struct ctxkv_iov *iov; /* GET: room, filled in order; PUT: the bytes, in order */
	uint32_t iov_count;
	int32_t status;             /* out: 0, -CTXKV_EMISS, or another negative code */
	struct ctxkv_record record; /* GET: in: this version only; out: the version read */
	uint64_t done_size;         /* out: GET: bytes delivered */
	uint64_t block_size;        /* out: GET: bytes of the whole block */
	uint32_t flags;             /* out: CTXKV_EXISTED, CTXKV_WAS_DURABLE */
	uint32_t is_here;           /* out: PROBE and LEASE: 1 when the block is here */
	uint64_t reserved[4];
};

/* What an engine did with a context: see CTXKV_OP_REPORT. */
struct ctxkv_report {
	uint64_t tokens_loaded;
	uint64_t tokens_recomputed;
	uint64_t load_ns;
	uint64_t prefill_ns;
};

#define CTXKV_RESULT  1u /* statuses are final */
#define CTXKV_RELEASE 2u /* buffers are the caller's again */

/* One request for a batch of blocks. 192 bytes. Zero it, fill the first part, submit. */
struct ctxkv_op {
	uint32_t opcode; /* enum ctxkv_opcode */
	uint32_t flags;
	struct ctxkv_ns ns;
	uint8_t domain[16]; /* ctxkv_domain(); zero: the tenant's own */
	struct ctxkv_item *items;
	uint64_t item_count;  /* at most CTXKV_ITEM_MAX */
	uint64_t timeout_ns;  /* 0: default of the client (1 s probe, 10 s get and put) */
	uint64_t lease;       /* GET: read under it; RENEW: in; LEASE: out */
	uint32_t duration_ms; /* LEASE, RENEW */
	uint32_t reserved0;
	struct ctxkv_report report;
	void *user; /* returned untouched */

	int32_t status;       /* out: 0, or why no item has an outcome of its own */
	uint32_t state;       /* out: CTXKV_RESULT | CTXKV_RELEASE, as events come */
	uint64_t run;         /* out: length of the leading run; PROBE: here, LEASE: held */
	uint64_t reserved[7]; /* the library's own; zero at submit */
};

/* What ctxkv_poll() gives. */
struct ctxkv_event {
	struct ctxkv_op *op;
	uint64_t what; /* CTXKV_RESULT, CTXKV_RELEASE, or both */
};

/* Flags of ctxkv_opts.flags. */
#define CTXKV_CALLER_DRIVEN 1u /* no thread: submit and poll do the work */
#define CTXKV_HUGE_PAGES    2u /* ctxkv_alloc() takes reserved huge pages while there are any */

/* ctxkv_opts.transport */
#define CTXKV_TRANSPORT_AUTO 0u /* as the URL says; else shared memory where it can be used */
#define CTXKV_TRANSPORT_TCP  1u
#define CTXKV_TRANSPORT_SHM  2u /* only that: no session where it cannot be used */

#define CTXKV_LOG_ERROR      0
#define CTXKV_LOG_WARN       1
#define CTXKV_LOG_INFO       2
#define CTXKV_LOG_DEBUG      3

struct ctxkv_opts {
	uint64_t size; /* sizeof(struct ctxkv_opts) as the caller compiled it */
	/*
	 * "ctxkv://TENANT@HOST:PORT?keyfile=PATH", "ctxkv://HOST,HOST,…", … A host that is a name
	 * stands for all servers it has addresses of. NULL: $CTXKV_URL, else the URL that
	 * 'ctxkv setup' wrote to client.url in $XDG_CONFIG_HOME/ctxkv (~/.config/ctxkv).
	 * "&transport=tcp" or "shm": only that; "auto": shared memory where it can be used, as
	 * without. "&tls=1": under TLS or not at all.
	 */
	const char *url;
	uint32_t flags;
	uint32_t lanes;              /* connections a session; default 4, at most 16 */
	uint32_t inflight_max;       /* ops submitted and not yet released; default 1024 */
	uint32_t log_level;          /* CTXKV_LOG_*; default WARN */
	uint64_t probe_timeout_ns;   /* default 1 s */
	uint64_t timeout_ns;         /* of other ops; default 10 s */
	uint64_t connect_timeout_ns; /* default 2 s */
	void (*log)(void *ctx, int level, const char *line); /* NULL: standard error. Any thread */
	void *log_ctx;
	uint32_t sessions;  /* to all reactors of all servers, at most 512; default 256 */
	uint32_t transport; /* CTXKV_TRANSPORT_*; outranks the URL's */
	/*
	 * Bytes through which memory that a server on this host cannot reach is copied: 64 MiB to
	 * 4 GiB, default 128 MiB; taken as they are used. Ops wait while it is full.
	 */
	uint64_t staging_size;
};

/* Fill *opts with defaults; size is sizeof(*opts). Call it first. */
CTXKV_API void ctxkv_opts_init(struct ctxkv_opts *opts, size_t size);

/*
 * Make a client. Bad options, URL or key file: an error, and a sentence that says what to do in
 * message_out (may be NULL). A server that cannot be reached is no error here: ops miss until it
 * can. wait_ns: wait so long for a session to every server, or until it is known that there is
 * none; still no error, unless no server took us, and one refused the tenant, the secret or the
 * version.
 */
CTXKV_API CTXKV_MUST_USE int ctxkv_open(const struct ctxkv_opts *opts, uint64_t wait_ns,
					struct ctxkv_client **client_out, char *message_out,
					size_t message_size);

/*
 * Cancel what is outstanding, wait for its release, free, set *client to NULL. NULL is a no-op.
 * Only where a server of this host stands still that reaches an op's own memory does that take
 * time: at most as long as it says that it may (10 s where it does not), 5 s, and 30 s where its
 * drive moves into that memory by itself. Then an error is logged, and memory that is still named
 * must not be used before that server has ended.
 */
CTXKV_API void ctxkv_close(struct ctxkv_client **client);

/* Queue up to count ops. Returns how many were taken (fewer: collect events first) or an error. An
 * op that is refused as such (bad opcode, sizes) is taken and finishes with status -EINVAL. */
CTXKV_API CTXKV_MUST_USE int ctxkv_submit(struct ctxkv_client *client, struct ctxkv_op *const *ops,
					  size_t count);

/* Collect events, at most count, without blocking. Returns how many, or an error. */
CTXKV_API CTXKV_MUST_USE int ctxkv_poll(struct ctxkv_client *client, struct ctxkv_event *events_out,
					size_t count);

/* Wait until ctxkv_poll() has events, at most timeout_ns and one turn of work: the quickest way, as
 * it does the work itself when it is called again and again, and looks for up to 50 us before it
 * sleeps, where that pays. Returns 1, 0 when there are none, or an error. */
CTXKV_API CTXKV_MUST_USE int ctxkv_wait(struct ctxkv_client *client, uint64_t timeout_ns);

/* Readable when ctxkv_poll() may have events. Not to be read or closed. */
CTXKV_API int ctxkv_event_fd(const struct ctxkv_client *client);

/* CALLER_DRIVEN: before waiting for that descriptor, call this, and ctxkv_poll() after so many ns
 * at the latest, even if nothing is readable. */
CTXKV_API uint64_t ctxkv_timeout_ns(const struct ctxkv_client *client);

/* Submit one op and wait until it is released. Returns its status. Events of other ops are kept for
 * ctxkv_poll(). It returns soon after the op's deadline even if the server is gone; where the
 * server reaches the op's own memory, when that is released (above). */
CTXKV_API CTXKV_MUST_USE int ctxkv_run(struct ctxkv_client *client, struct ctxkv_op *op);

/* Give up a submitted op: its RESULT comes soon, with -ECANCELED for what has no outcome. */
CTXKV_API void ctxkv_cancel(struct ctxkv_client *client, struct ctxkv_op *op);

/* --- regions --- */

struct ctxkv_region_info {
	uint64_t size;      /* sizeof(struct ctxkv_region_info) */
	char served[64];    /* "tcp: received into place", "shm: in place", "shm: staged", … */
	uint32_t is_direct; /* 1: the server reaches it without a copy on this side */
	uint32_t page_size; /* of its memory, bytes; 0: not known */
};

/*
 * Declare memory that ops will use, once, so that the fastest way to it is prepared. Ops may use
 * undeclared memory, too. The memory stays mapped until undeclare returns, and its pages stay, too:
 * a server on this host may have pinned them, and would go on with those that are punched out
 * (MADV_REMOVE, fallocate) or cut off meanwhile.
 */
CTXKV_API CTXKV_MUST_USE int ctxkv_region_declare(struct ctxkv_client *client, void *base,
						  uint64_t size, struct ctxkv_region **region_out);
/* -EBUSY: ops that are not released use it. -EAGAIN: a server could not be told yet, try again. */
CTXKV_API int ctxkv_region_undeclare(struct ctxkv_client *client, struct ctxkv_region **region);
/* How it is served now: it may change as sessions come and go. info->size is set by the caller. */
CTXKV_API int ctxkv_region_get_info(const struct ctxkv_region *region,
				    struct ctxkv_region_info *info);
/* The declared region (ctxkv_alloc()'s, too) that holds these bytes; NULL: there is none. */
CTXKV_API struct ctxkv_region *ctxkv_region_find(struct ctxkv_client *client, const void *base,
						 uint64_t size);

/*
 * Memory that every transport serves without a copy on this side, declared: shared, page-aligned,
 * from 2 MiB on aligned to 2 MiB, zeroed and touched, in transparent huge pages where the kernel
 * can (Linux 6.1). NULL: there is none left. Where reserved ones were asked for (CTXKV_HUGE_PAGES)
 * and there are none it is as without: the log says so, and page_size of its region. Freed at
 * close, if not before.
 */
CTXKV_API void *ctxkv_alloc(struct ctxkv_client *client, uint64_t size);
CTXKV_API void ctxkv_free(struct ctxkv_client *client, void *base);

/* --- names --- */

/* The id of a namespace: of its canonical text (model, weights, dtype, layout, …), or a domain's.
 */
CTXKV_API void ctxkv_namespace(const char *text, struct ctxkv_ns *ns_out);
CTXKV_API void ctxkv_domain(const char *name, uint8_t domain_out[16]);

/* --- state --- */

struct ctxkv_stat {
	uint64_t size;      /* sizeof(struct ctxkv_stat) */
	char transport[16]; /* "tcp", "shm", "tcp+shm"; "" while there is no session */
	char server[64];    /* address */
	uint32_t is_connected;
	uint32_t lanes;
	uint64_t block_max; /* largest block of the store, bytes; 0: not known yet */
	uint64_t capacity;  /* payload bytes of the store */
	uint64_t ops;       /* submitted */
	uint64_t hits;      /* blocks delivered by gets */
	uint64_t misses;    /* blocks not delivered by gets, for whatever reason */
	uint64_t puts;      /* blocks stored or there already */
	uint64_t put_failures;
	uint64_t bytes_in; /* payload */
	uint64_t bytes_out;
	uint64_t
		bytes_copied; /* of these, copied once more on this side than the transport needs */
	uint64_t deadlines;   /* ops that ended at their deadline */
	uint64_t connects;    /* sessions made */
	uint64_t breaker_opens;
	uint64_t corrupt;   /* blocks that arrived with a wrong checksum */
	int64_t last_error; /* why there is no session, negative; 0 */
	uint64_t fallbacks; /* attempts at shared memory that failed, and sessions went on over tcp
			     */
	uint64_t staging_size;
	uint64_t staging_used; /* bytes of it taken just now */
	char fallback[256];    /* why a session that could be faster is not, and what to do; "" */
	uint64_t retries;      /* times that a block was sent again because a server had no room */
};

/* Sums over all servers; server is the first one's address. */
CTXKV_API int ctxkv_get_stat(const struct ctxkv_client *client, struct ctxkv_stat *stat);

#define CTXKV_SERVER_UNKNOWN  0 /* has not said who it is yet: it has no places */
#define CTXKV_SERVER_UP       1
#define CTXKV_SERVER_OUT      2 /* cannot be reached: its blocks miss until leaves_ns is over */
#define CTXKV_SERVER_AWAY     3 /* its places are others' until it is back */
#define CTXKV_SERVER_DRAINING 4 /* takes no puts, serves gets */
#define CTXKV_SERVER_ALIAS    5 /* another address of a server that stands in the list */
#define CTXKV_SERVER_GONE     6 /* no member any more: what is under way ends */

struct ctxkv_server {
	uint64_t size; /* sizeof(struct ctxkv_server) */
	char address[128];
	uint8_t uuid[16]; /* zero: not known yet */
	uint32_t state;   /* CTXKV_SERVER_* */
	uint32_t weight;  /* in placement */
	uint32_t reactors;
	uint32_t shards;
	uint32_t sessions; /* that are up */
	uint32_t requests; /* under way */
	uint64_t connects; /* sessions made */
	uint64_t block_max;
	uint64_t capacity;
	uint64_t failing_ns; /* since when without any success; 0: it has some */
	uint64_t retry_ns;   /* OUT, AWAY: until the next attempt */
	uint64_t leaves_ns;  /* OUT: until its places go to others */
	int64_t last_error;  /* why there is no session, negative; 0 */
	char transport[16];  /* "tcp", "shm"; "": no session */
	char fallback[256];  /* why it is not shared memory although it is offered; "" */
};

/* The servers of this client, at most count of them; servers[0].size is set by the caller, who gets
 * so much of each, one behind the other. Returns how many there are, or an error. */
CTXKV_API CTXKV_MUST_USE int ctxkv_get_servers(const struct ctxkv_client *client,
					       struct ctxkv_server *servers, size_t count);

/* The server's counters as text, "name value" a line. Blocks at most timeout_ns. Returns its size
 * (without the NUL; cut when buf is too small) or an error. */
CTXKV_API CTXKV_MUST_USE int ctxkv_server_stat(struct ctxkv_client *client, uint64_t timeout_ns,
					       char *buf, size_t buf_size);

/* Static text for any code. Never NULL. */
CTXKV_API const char *ctxkv_strerror(int code);

/* "0.1.0". */
CTXKV_API const char *ctxkv_version(void);

#ifdef __cplusplus
}
#endif
#endif /* CTXKV_H */
