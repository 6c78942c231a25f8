/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions and commands that a reactor answers in its own thread: what the admin thread, a SIGHUP
 * or the simulator wants of it. Each kind has an enum value, a member of the unions where it needs
 * one, and a row in query.c's table with its handler, which lives in the file of its subject.
 *
 * Normal path: reactor_query_start() calls the handler. It answers at once by query_end(), or
 * keeps the query (state is its scratch memory) and finishes later, from the loop.
 *
 * Rows. An answer of rows is written to the caller's memory by query_row(); when that is full the
 * handler stores in cursor where to go on, and the caller asks again with that cursor. A cursor
 * names a place, not an object: what came or went meanwhile may be missing or be seen.
 *
 * Threads    The reactor's; the other side of the thread border is server.h.
 */
#ifndef SERVER_QUERY_H
#define SERVER_QUERY_H

#include "../store/store.h"
#include "../tbl/metrics.h"
#include "../wire/wire.h"
#include "saving.h"

struct medium;
struct reactor;
struct reactor_shard;
struct tenants;

enum query_kind {
	QUERY_NONE = 0,
	QUERY_METRICS,  /* one row: struct metrics */
	QUERY_SESSIONS, /* rows: struct session_row */
	QUERY_SHARDS,   /* rows: struct shard_row */
	QUERY_USERS,    /* rows: struct tenant_row */
	QUERY_SAVINGS,  /* rows: struct saving_row */
	QUERY_CENSUS,   /* in.census. Rows: struct census_row: blocks by namespace, walked for */
	QUERY_DRAIN,    /* no new puts, the clients are told; gets go on. No rows */
	QUERY_DROP,     /* in.drop: a namespace, or one key. Finished when it is durable. A key: one
			   row, struct census_row, if it was here */
	QUERY_TENANTS,  /* in.tenants takes the place of the table: reactor_set_tenants() */
	QUERY_LEAVE,    /* in.medium.row: give up its shards. -EAGAIN: they are still in use, ask
			   again. Rows: struct left_row: they are the asker's */
	QUERY_JOIN,     /* in.medium: it is here again */
	QUERY_FINISH,   /* the server's own: no new requests, finish what is under way */
	QUERY_KIND_COUNT,
};

enum shard_state {
	SHARD_STATE_ONLINE = 0,
	SHARD_STATE_OFFLINE, /* its medium failed */
	SHARD_STATE_MISSING, /* its medium was not there at start, or is being opened again */
};

struct session_row {
	uint64_t id;
	uint16_t reactor;
	uint16_t lane_count;
	uint32_t request_count; /* in flight */
	uint32_t op_count;      /* blocks under way */
	bool is_idle;           /* it has no lane and will end */
	uint64_t moved_bytes;   /* payload, both directions */
	char tenant[WIRE_TENANT_MAX];
	char transport[16];
	char peer[64]; /* of its first lane */
};

struct shard_row {
	uint8_t uuid[16];
	uint16_t index; /* in the server */
	uint16_t reactor;
	uint16_t medium; /* row of server_opts.media */
	uint16_t reserved;
	enum shard_state state;
	struct shard_stats stats; /* MISSING: zero */
};

/* Name of the row for those who are not in the table any more, when blocks of theirs are left. No
 * tenant can have it. */
#define TENANT_GONE "(gone)"

/* A tenant, as this reactor sees it. */
struct tenant_row {
	char name[WIRE_TENANT_MAX];
	uint64_t quota_bytes; /* of the whole server; 0: none */
	uint64_t used_bytes;  /* payload in this reactor's shards that it put first */
	uint64_t session_count;
	uint32_t session_max;
	uint32_t domain_count; /* it has rights on, besides its own */
	uint32_t secret_count;
	uint8_t rights; /* enum wire_right on its own domain */
};

struct query_drop {
	uint8_t domain[16];
	uint8_t ns[16];
	uint8_t key[32];
	bool is_namespace; /* key is not looked at */
};

/* A shard that is with no env any more. */
struct left_row {
	struct shard *shard;
	uint16_t index; /* in the server */
};

/* A medium that leaves or comes back; see query_medium.c. */
struct query_medium {
	uint16_t row; /* of server_opts.media */
	/* JOIN only; all borrowed until the answer. */
	const struct medium *owner; /* to be shared */
	struct env *memory;         /* for the handle; outlives it */
	struct shard **shards; /* by index in the server, detached; taken ones are set to NULL */
	const struct reactor_shard *table; /* of the server, as it is from now on */
	uint64_t capacity;                 /* of the server, likewise */
};

/* All namespaces; or one, that has a row whether it has blocks or not. */
struct query_census {
	bool is_one;
	struct store_id id; /* key is not looked at */
};

union query_in {
	struct query_census census;
	struct query_drop drop;
	struct query_medium medium;
	const struct tenants *tenants; /* borrowed until another table, or the end */
};

/* What a handler keeps while it works. */
union query_state {
	struct {
		struct shard_drop drop;
		uint32_t slot;
	} drop;
	struct {
		struct census census;
		uint32_t slot;
		uint64_t bucket;
		struct env_task task;
	} census;
};

struct reactor_query {
	enum query_kind kind;
	union query_in in;
	void *rows; /* row_max of the kind's size; borrowed until done() */
	uint32_t row_max;
	/* In: 0, or the cursor of the last answer. Out: 0: these were all. */
	uint64_t cursor;
	/* Called once, from the reactor's loop or out of reactor_query_start(). */
	void (*done)(struct reactor_query *query);
	/* The answer. */
	int rc;
	uint32_t row_count;
	/* The handler's. */
	struct reactor *reactor;
	union query_state state;
};

/* Bytes of a row; 0: the kind has none. */
size_t query_row_size(enum query_kind kind);

void reactor_query_start(struct reactor *reactor, struct reactor_query *query);

/* For handlers. The next row, zeroed; NULL: there is no room, set cursor and finish. */
void *query_row(struct reactor_query *query);
void query_end(struct reactor_query *query, int rc);
/* Answer without the handler: the reactor ends. */
void query_refuse(struct reactor *reactor, struct reactor_query *query, int rc);

/* Handlers, each in the file of its subject. */
typedef void (*query_handler)(struct reactor *reactor, struct reactor_query *query);
void query_metrics(struct reactor *reactor, struct reactor_query *query);  /* stat.c */
void query_sessions(struct reactor *reactor, struct reactor_query *query); /* query.c */
void query_shards(struct reactor *reactor, struct reactor_query *query);   /* query.c */
void query_users(struct reactor *reactor, struct reactor_query *query);    /* query_meters.c */
void query_savings(struct reactor *reactor, struct reactor_query *query);  /* query_meters.c */
void query_drain(struct reactor *reactor, struct reactor_query *query);    /* query.c */
void query_census(struct reactor *reactor, struct reactor_query *query);   /* query_census.c */
void query_drop(struct reactor *reactor, struct reactor_query *query);     /* query_drop.c */
void query_tenants(struct reactor *reactor, struct reactor_query *query);  /* tenancy.c */
void query_leave(struct reactor *reactor, struct reactor_query *query);    /* query_medium.c */
void query_join(struct reactor *reactor, struct reactor_query *query);     /* query_medium.c */
/* The reactor ends: a census under way is answered. */
void query_census_stop(struct reactor *reactor);
void query_finish_reactor(struct reactor *reactor, struct reactor_query *query);

#endif
