/* SPDX-License-Identifier: Apache-2.0 */
/* The reactor's struct and what its parts call of it. */
#ifndef SERVER_REACTOR_PRIV_H
#define SERVER_REACTOR_PRIV_H

#include "../base/log.h"
#include "../wire/place.h"
#include "cache.h"
#include "lease.h"
#include "reactor.h"
#include "saving.h"
#include "session.h"
#include "warm.h"

#define REACTOR_MAGIC UINT32_C(0x54435243)

/* A shard and the ops that wait for it. */
struct shard_slot {
	struct reactor *reactor;
	struct shard *shard; /* NULL: its medium is missing */
	uint16_t index;
	bool is_memory;
	bool is_leaving; /* nothing new is begun: its medium is to be opened again */
	struct env_task room_task;
	struct list room_waiters;  /* puts */
	struct list read_waiters;  /* gets */
	struct list write_waiters; /* gets of blocks that are written from clients' memory */
	struct flow_quotas quotas;
};

/* A pool: a free list and how deep it went. */
struct pool {
	struct list free;
	uint32_t size;
	uint32_t used;
	uint32_t used_max;
};

struct reactor {
	uint32_t magic;
	struct env *env;
	struct reactor_opts opts;
	struct metrics metrics;
	struct saving saving;
	uint64_t started_ns;
	uint32_t block_max;
	bool is_draining;      /* no puts; the sessions know */
	bool is_finishing;     /* no new requests at all */
	uint32_t next_reactor; /* that gets a connection which wants any */

	struct xprt_listener **listeners;
	uint32_t listener_count;
	struct xprt_listener *door;                 /* of them; NULL: door_why */
	int door_why;                               /* 0: none was asked for */
	struct shard_slot *slots;                   /* opts.shard_count */
	struct shard_slot *slot_of[WIRE_SHARD_MAX]; /* by index in the server; NULL: another's */
	struct reactor_shard own_table[WIRE_SHARD_MAX]; /* opts.table */
	struct env_task mail_task;
	struct reactor_query *census; /* under way; NULL: none */

	/* Buffers and their shares. */
	struct buffers_arena buffers;
	struct buffers inline_buffers;
	struct buffers receive_buffers;
	struct buffers read_buffers;
	struct cache cache;
	uint32_t credit_free; /* of the inline share, not promised to a session */

	/* Pools and their memory. */
	struct pool conns;
	struct flow_quotas *session_quotas; /* shard_count of each session */
	struct pool sessions_pool;
	struct pool requests;
	struct pool moves;
	struct list move_waiters; /* sessions */
	uint32_t puller_count;    /* sessions with pulls under way */
	struct pool ops;
	uint32_t behind_count;       /* of them, answered and still being written (behind.c) */
	struct list behind_sessions; /* with answers that are held back */
	struct conn *conn_memory;
	struct session *session_memory;
	struct request *request_memory;
	struct op_move *move_memory;
	uint8_t *op_memory;
	uint64_t op_size; /* of each, with its tables */
	void *lease_memory;
	void *cache_memory;
	uint32_t requests_reserved; /* told to sessions */
	struct leases leases;
	struct warm warm;

	struct list pending; /* conns in hello */
	uint32_t pending_count;
	struct list sessions;
	uint32_t session_count;

	/* What the run task has to do. */
	struct list woken; /* ops */
	struct list sessions_woken;
	struct env_task run_task;

	/* Blocks that are summed on the spot (check.c). */
	struct list check_sessions; /* with ops that wait for it */
	struct env_task check_task;
	uint64_t check_left; /* bytes, in this turn of the loop */

	char text[WIRE_BODY_MAX]; /* STAT's answer, while it is made */
};

static inline struct reactor *reactor_of(void *ctx)
{
	struct reactor *reactor = ctx;

	CHECK_OBJ(reactor, REACTOR_MAGIC);
	return reactor;
}

void reactor_run_later(struct reactor *reactor);

/* What the ops in this list (of a slot) waited for has come: they try again, in order. */
void waiters_wake(struct list *waiters);

/* Whether it takes something new. */
static inline bool slot_is_open(const struct shard_slot *slot)
{
	return slot != NULL && slot->shard != NULL && !slot->is_leaving;
}

/* The slot has a shard, or another one. */
void slot_set_shard(struct shard_slot *slot, struct shard *shard);

/* The slot of a key; NULL: its shard is another reactor's. */
static inline struct shard_slot *reactor_slot(const struct reactor *reactor,
					      const struct wire_key *key)
{
	uint32_t count = reactor->opts.table_count;

	return reactor->slot_of[count == 1 ? 0 : place_shard(key, count)];
}

/* --- check.c --- */

void check_begin(struct reactor *reactor);
void check_end(struct reactor *reactor);

/* --- lookup.c --- */

/* Where misses of the request's namespace count; NULL: nowhere. */
struct saving_row *request_saving(const struct request *request);
/* A block was asked for and is not here: was it once? */
void reactor_count_miss(struct reactor *reactor, struct saving_row *saving,
			const struct shard *shard, const struct store_id *id);

/* --- mail.c --- */

void mail_begin(struct reactor *reactor);
void mail_end(struct reactor *reactor);

/* Which of opts.listens it is. */
uint32_t reactor_listener_index(const struct reactor *reactor,
				const struct xprt_listener *listener);

/* Take a node off the pool's free list; NULL when it is empty. */
struct list *pool_take(struct pool *pool);
void pool_give(struct pool *pool, struct list *node);

/* Payload bytes of the whole server. */
uint64_t reactor_capacity(const struct reactor *reactor);

/* What the shard has counted goes on counting without it (stat.c). */
void reactor_keep_counters(struct reactor *reactor, const struct shard *shard);

/* Give each shard its part of the tenants' quotas (tenancy.c). */
void tenancy_quotas(struct reactor *reactor);

#endif
