/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server: N reactors, each a thread with an env, shards, sessions and buffers of its own. They
 * share nothing on the path of a block; what passes between threads goes through the reactors'
 * mailboxes (mailbox.h).
 *
 * Life       create: options are checked, labels of the media are read, a plan is made. start: the
 *            threads begin; each makes its env, opens its media, then its shards (recovery, all
 *            reactors at once), then its reactor; then the listeners open. It returns when all
 *            take connections, or with why not, everything undone. stop: drain, at most
 *            STOP_NS, then the sessions end; shards close, all reactors at once. destroy: free.
 * Threads    create, start, stop and destroy by one thread (start's main thread), which is not a
 *            reactor's. Functions marked ANY_THREAD by any, between start and stop: they block,
 *            at most for the timeout given, and those of whoever came before: one asks at a time.
 * Failure    A medium that is missing at start refuses to start, unless has_degraded: then its
 *            shards are missing: requests for them are misses, puts are refused. A medium that
 *            fails later takes its shards offline, nobody else; either comes back by
 *            server_return_media(), while the others serve. A reactor's thread that stands
 *            still is seen by its beats (server_beats()): the watchdog's matter. A query to it
 *            times out and is left to it.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include <stdatomic.h>

#include "query.h"
#include "reactor.h"

#define SERVER_REACTOR_MAX  64
#define SERVER_MEDIUM_MAX   16
#define SERVER_REACTOR_ALL  UINT32_MAX
#define SERVER_ENV_RECOVERY UINT32_MAX
#define SERVER_WEIGHT_UNIT  (8 * GiB)
#define SERVER_WEIGHT_MAX   49152u

#define ANY_THREAD          /* documentation: see Threads above */

struct server;

struct server_opts {
	/* For every reactor: incarnation, weight (0: by capacity), verify, buffer_bytes (of one
	 * reactor; 0: chosen), limits, timeouts, tenants and listens. What it has to know of shards
	 * is filled in. */
	struct reactor_opts reactor;
	struct shard_opts shard;
	const char *media[SERVER_MEDIUM_MAX]; /* borrowed until destroy */
	uint32_t medium_count;                /* 0: memory mode, one shard a reactor */
	struct shard_memory memory;           /* medium_count 0: of the whole server */
	uint32_t reactor_count;               /* see server_reactor_default() */
	uint64_t ram_bytes; /* of the machine: bounds what is taken; 0: not known */
	bool has_degraded;  /* start without media that are not there */
	uint64_t spin_ns;   /* a reactor that has worked looks for more so long before it sleeps */
	/* Makes the env of reactor index, on its thread; SERVER_ENV_RECOVERY: of a thread that
	 * opens a medium again, without sockets and with little I/O. server_opts.ctx is ctx.
	 * message_out: why not, where there is more to say than the code does; else it stays as it
	 * is. */
	int (*env_create)(void *ctx, uint32_t index, struct env **env_out, char message_out[256]);
	void (*env_destroy)(void *ctx, struct env **env);
	/* May be NULL: on reactor index's thread, before anything is allocated there; and when
	 * everything is and the env is sealed. */
	void (*thread_begin)(void *ctx, uint32_t index);
	void (*thread_ready)(void *ctx, uint32_t index, struct env *env);
	void *ctx;
	/* May be NULL: a counter for each reactor, in memory that others may watch (a watchdog's
	 * shared page). Each reactor adds to its own at least every beat_ns. */
	atomic_uint_least64_t *beats;
	uint64_t beat_ns; /* 0: no beats */
};

/* What start prints: bytes that the server takes, by part. */
struct server_memory {
	uint64_t store;    /* of it index and buffers of writing; memory mode: the blocks, too */
	uint64_t buffers;  /* blocks under way */
	uint64_t sessions; /* sessions, lanes, requests, operations */
	uint64_t total;    /* the sum: what the process takes beyond its code */
};

/* What the options, and the labels of the media, make of a server: made by start between opening
 * its media and its shards, and by who only wants to know. */
struct server_plan {
	/* By row of the options' media, filled in by the caller. */
	struct medium_info media[SERVER_MEDIUM_MAX];
	bool is_missing[SERVER_MEDIUM_MAX];
	/* server_plan_shards(). */
	uint8_t uuid[16]; /* memory mode: the caller's, too */
	struct reactor_shard table[WIRE_SHARD_MAX];
	uint32_t table_count;
	uint32_t missing_count; /* shards without a medium */
	uint32_t block_max;     /* memory mode: of server_plan_memory() */
	/* server_plan_memory(). */
	uint64_t buffer_bytes; /* of a reactor */
	struct server_memory memory;
};

struct server_info {
	uint8_t uuid[16];
	uint32_t reactor_count;
	uint32_t shard_count; /* of the whole server, missing ones included */
	uint32_t shards_missing;
	uint32_t block_max;
	uint32_t weight;       /* in placement */
	uint64_t buffer_bytes; /* of a reactor, as asked for; memory mode: as taken */
	bool is_direct;        /* all media without the page cache */
	struct server_memory memory;
};

/* One for each medium, at most 4 and an eighth of the cores; in memory mode, where a reactor copies
 * instead of keeping up with a drive, one for each 16 GiB, at most 4 and a quarter of the cores.
 * At least 1. */
uint32_t server_reactor_default(const struct server_opts *opts, uint32_t core_count);

/*
 * The weight of a server with so many bytes for blocks: one for each SERVER_WEIGHT_UNIT, as the
 * nearest of 1, 2, 3, 4, 6, 8, 12, … (2^n and 3 * 2^n), at most SERVER_WEIGHT_MAX. Steps, so that
 * servers of nearly one size have one weight: a search costs a logarithm a weight, and a few
 * segments more or less move no places.
 */
uint32_t server_weight(uint64_t capacity);

/* Do the media make up one server, and whose shard is where. The rest of the plan is zeros. Nothing
 * is opened or taken, here and below; message_out: a sentence that says what to change. */
int server_plan_shards(const struct server_opts *opts, struct server_plan *plan,
		       char message_out[256]) MUST_USE;
/* Behind it: does all of it fit. */
int server_plan_memory(const struct server_opts *opts, struct server_plan *plan,
		       char message_out[256]) MUST_USE;

/* message_out: a sentence that says what to change. */
int server_create(const struct server_opts *opts, struct server **server_out,
		  char message_out[256]) MUST_USE;
int server_start(struct server *server, char message_out[256]) MUST_USE;
/* 0; negative: some shard was not closed cleanly, the next start recovers. No query is under way.
 */
int server_stop(struct server *server);
void server_destroy(struct server **server);

/* Between start and stop. */
void server_get_info(const struct server *server, struct server_info *info_out);
/* The first listener's address with the real port. */
void server_listener_name(const struct server *server, char *buf, size_t buf_size);
/* Where clients of this host find a reactor; 0, or why nowhere (-ENOENT: it was not asked for). */
int server_door_name(const struct server *server, uint32_t reactor, char *buf, size_t buf_size);

/* --- ANY_THREAD --- */

/* No new connections and no new puts from now on; gets go on until server_stop(). */
ANY_THREAD int server_drain(struct server *server, uint64_t timeout_ns) MUST_USE;

/*
 * Another table of tenants for every reactor, at once for its sessions (reactor_set_tenants()). 0:
 * nobody points into the old one. Negative: some reactor did not say so in time, so that both
 * tables have to stay until the server has stopped, or a later call returns 0.
 */
ANY_THREAD int server_set_tenants(struct server *server, const struct tenants *tenants,
				  uint64_t timeout_ns) MUST_USE;

/*
 * One row for each reactor, in rows[reactor]; those that do not answer in time have zeros. Returns
 * how many answered.
 */
ANY_THREAD uint32_t server_get_metrics(struct server *server, struct metrics *rows, uint32_t count,
				       uint64_t timeout_ns);

struct server_query {
	enum query_kind kind;
	uint32_t reactor; /* who is asked; or SERVER_REACTOR_ALL */
	union query_in in;
	void *rows; /* row_max of query_row_size(kind), NULL without rows; those of reactor 0 first
		     */
	uint32_t row_max;
	uint64_t timeout_ns; /* for all of it */
	/* Out. */
	uint32_t row_count;
	uint32_t silent_count; /* reactors that did not answer in time */
	bool is_cut;           /* there were more rows than row_max */
};

/*
 * Ask and wait. 0, or the first refusal of a reactor (the others are asked all the same), or
 * -ETIMEDOUT when nothing else was wrong but silent_count. Commands that timed out may still be
 * carried out.
 */
ANY_THREAD int server_query(struct server *server, struct server_query *query) MUST_USE;

/* What came of a medium that was away. */
struct server_return {
	const char *path;
	int rc;            /* 0: its shards answer again */
	char message[256]; /* what was found, or why it stays away */
};

/*
 * Open media again that failed or were missing, and recover what they hold, in this thread: it may
 * take as long as a start. It must be the medium that was there, as it was left: another one, an
 * older copy, one that another server has or had open stays away, with the reason. A row for each
 * medium that was away; returns how many. -ETIMEDOUT: a reactor does not answer. One asks at a
 * time, and none any more when the server is about to stop.
 */
ANY_THREAD int server_return_media(struct server *server,
				   struct server_return rows[SERVER_MEDIUM_MAX]) MUST_USE;

/* Grows while the reactor's loop turns. server_opts.beats is set. */
ANY_THREAD uint64_t server_beats(const struct server *server, uint32_t reactor);

#endif
