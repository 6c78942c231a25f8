/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: promises that blocks stay readable until a deadline. A lease belongs to the session that
 * asked for it and ends with it; other sessions of its tenant may read under it, extend it, and end
 * it.
 *
 * Limits     Leases and blocks in them, by tables taken at start-up, of which a session may have a
 *            quarter; bytes: a quarter of each shard (the store's), of which a tenant may have as
 *            much as is left free, so that there is always something left for the next.
 *            Beyond a limit a lease is granted for a shorter run.
 * Threads    The reactor's.
 */
#ifndef SERVER_LEASE_H
#define SERVER_LEASE_H

#include "../base/hash.h"
#include "../base/list.h"
#include "../env/env.h"
#include "../wire/wire.h"

#define LEASE_ROW_BITS 16 /* of an id: its row; the rest is a number that only grows */
#define LEASE_MAX      ((1u << LEASE_ROW_BITS) - 1)

struct op;
struct reactor;
struct reactor_opts;
struct request;
struct session;

struct lease {
	uint32_t magic;
	struct list node; /* leases->free or session->leases */
	struct session *session;
	uint64_t id;          /* 0: this row is free */
	uint32_t duration_ms; /* granted: no RENEW gives more */
	uint32_t item_count;
	struct env_timer timer;
	struct lease_tenant *tenant;
	struct list items;
};

struct leases {
	struct reactor *reactor;
	struct lease *rows;
	uint32_t row_count;
	uint32_t used;
	uint64_t serial; /* of the next lease */
	uint32_t item_count;
	uint32_t items_used;
	struct list free;
	struct list items;   /* unused */
	struct list blocks;  /* unused */
	struct list tenants; /* unused */
	struct list tenants_used;
	struct list *buckets; /* blocks by hash */
	uint32_t bucket_mask;
};

uint64_t leases_memory_size(const struct reactor_opts *opts);
void leases_init(struct reactor *reactor, void *memory);

/* LEASE and RENEW. */
void lease_request(struct request *request, const struct wire_header *header, const void *body);
int lease_renew(struct request *request, const struct wire_request *body) MUST_USE;

/* Whether op, a GET under this lease, may see its block although that has expired. */
bool lease_covers(const struct op *op, uint64_t id, const struct hash128 *hash);

void leases_end_session(struct session *session);

#endif
