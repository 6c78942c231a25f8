/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reactor: one thread's shards, sessions, requests and buffers over one env. It is a pure
 * reaction to env's callbacks, so that the simulator runs it as it is. docs/design.md tells the
 * path of a get and of a put.
 *
 * Threads    All by the thread that polls env. Others reach it through its mailbox (mailbox.h),
 *            which is read in the loop: connections handed over, queries, the end.
 * Memory     Everything is taken in reactor_create(): reactor_memory_size() says how much.
 * Failure    A bad frame ends its session; a failed read is a miss of that block; no buffers: the
 *            request waits, in order of arrival, until its budget is spent.
 */
#ifndef SERVER_REACTOR_H
#define SERVER_REACTOR_H

#include "../store/store.h"
#include "../tbl/metrics.h"
#include "../xprt/xprt.h"
#include "tenants.h"

struct mailbox;
struct medium;
struct reactor;

/* TLS on connections of transports that have it: refused, taken when asked for, asked of all. */
enum reactor_tls { REACTOR_TLS_OFF = 0, REACTOR_TLS_ON, REACTOR_TLS_REQUIRED };

struct reactor_listen {
	const struct xprt_ops *ops;
	const char *address;
	/* A door of this host: each reactor has its own, at ADDRESS.INDEX.sock. WELCOME offers it.
	 * One that cannot be opened is said, and the others go on without. */
	bool is_door;
};

/* A shard of the server, as every reactor knows it. */
struct reactor_shard {
	uint8_t uuid[16]; /* zero: its medium is missing */
	uint16_t reactor; /* that runs it */
	uint16_t medium;  /* whose it is; for people */
	uint32_t weight;
};

struct reactor_opts {
	uint8_t server[16]; /* UUID */
	uint64_t incarnation;
	uint32_t weight;
	uint16_t index; /* of this reactor */
	uint16_t reactor_count;
	/* Its own, opened on the same env, in the order of their indexes; borrowed until destroy.
	 * NULL: the medium is missing: gets of it miss, puts are refused. Kept up to date when a
	 * medium leaves or comes back. */
	struct shard **shards;
	uint32_t shard_count;
	struct medium **media; /* likewise: its handles, by row; NULL: no medium ever leaves */
	/* All of the server, by index; copied. NULL: its own are all. */
	const struct reactor_shard *table;
	uint32_t table_count;
	uint64_t capacity;  /* of the server; 0: of its own shards */
	uint32_t block_max; /* of the server; 0: of its own shards */
	bool has_media;     /* blocks go through buffers, although no shard is here to show it */
	/* Of all reactors, by index; borrowed until destroy. NULL: it is alone and nobody asks. */
	struct mailbox *const *mailboxes;
	const struct tenants *tenants; /* borrowed */
	/* Reactor 0 takes connections and hands them over; the others have lanes only, and the
	 * doors (is_door) of their own. */
	const struct reactor_listen *listens;
	uint32_t listen_count;
	enum reactor_tls tls;
	enum store_verify verify;
	uint64_t buffer_bytes; /* for blocks under way; a quarter is at least the largest block */
	uint32_t session_max;
	uint32_t lane_max;        /* of a session */
	uint32_t request_max;     /* in flight in a session */
	uint32_t operation_max;   /* blocks under way in the reactor */
	uint32_t move_max;        /* pieces of at most 1 MiB under way in the reactor */
	uint32_t lease_max;       /* leases in the reactor, and … */
	uint32_t lease_block_max; /* … blocks in them */
	uint32_t lease_ms_max;    /* longest lease that is granted */
	uint32_t pending_max;     /* connections that have not finished hello */
	uint64_t hello_ns;        /* a connection that has not finished hello by then is closed */
	uint64_t stall_ns;        /* a grant ends so long after its last progress (2 s) */
	uint64_t idle_ns;         /* a session without lanes ends after so long */
	uint64_t gpu_cents;       /* price of a GPU-hour, for the money saved */
	uint64_t budget_ns;       /* a request has at most so long, whatever it asks for */
	uint32_t stall_ms;        /* told in welcome: the watchdog's bound */
};

void reactor_opts_init(struct reactor_opts *opts); /* defaults for all but the pointers */
uint64_t reactor_memory_size(const struct reactor_opts *opts);

/* Of it, what an idle session with one lane of this transport costs. */
uint64_t reactor_session_size(const struct xprt_ops *xprt);

/* Listens when it returns. message_out says what was wrong. */
int reactor_create(struct env *env, const struct reactor_opts *opts, struct reactor **reactor_out,
		   char message_out[256]) MUST_USE;

/* Leave the service: tell the sessions, take no more puts; gets go on until the end. */
void reactor_drain(struct reactor *reactor);

/* The end is near: no new connection and no new request, finish what is under way. */
void reactor_finish(struct reactor *reactor);
bool reactor_is_idle(const struct reactor *reactor);

/*
 * Another table of tenants, borrowed; when it returns nothing points into the old one. Sessions
 * whose tenant or secret is gone are told and end; the others have their new rights, limits and
 * quotas at once (tenancy.c).
 */
void reactor_set_tenants(struct reactor *reactor, const struct tenants *tenants);

/* End all sessions at once: who drains has had time enough. What the store holds goes on: poll
 * until the reactor is idle. */
void reactor_stop(struct reactor *reactor);

/*
 * End all sessions and operations at once, free. The shards stay the caller's. A reactor that is
 * not idle has operations in the store's hands: close its shards as after a crash, without a poll
 * in between.
 */
void reactor_destroy(struct reactor **reactor);

void reactor_get_metrics(const struct reactor *reactor, struct metrics *metrics_out);

/* Read the mailbox: before the loop runs, so that nothing waits for the first wake-up. */
void reactor_mail(struct reactor *reactor);

/* Address listened on, with the real port. */
void reactor_listener_name(const struct reactor *reactor, uint32_t index, char *buf,
			   size_t buf_size);
/* The address of its door; 0, or why there is none (-ENOENT: it was not asked for). */
int reactor_door_name(const struct reactor *reactor, char *buf, size_t buf_size);

#endif
