/* SPDX-License-Identifier: Apache-2.0 */
/* Who uses the store and what it saves them: QUERY_USERS, QUERY_SAVINGS. */
#include <string.h>

#include "query.h"
#include "reactor_priv.h"

/* Every shard counts every payer, whether he has a quota or not (store/quota.c). */
static uint64_t used_by(const struct reactor *reactor, const struct tenant *tenant)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < reactor->opts.shard_count; i++) {
		if (reactor->slots[i].shard != NULL)
			sum += shard_payer_bytes(reactor->slots[i].shard, tenant->id);
	}
	return sum;
}

/* What no tenant of the table has put. */
static uint64_t used_by_others(const struct reactor *reactor)
{
	const struct tenants *tenants = reactor->opts.tenants;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < reactor->opts.shard_count; i++) {
		struct shard_stats stats;

		if (reactor->slots[i].shard == NULL)
			continue;
		shard_get_stats(reactor->slots[i].shard, &stats);
		sum += stats.block_bytes;
	}
	for (uint32_t i = 0; i < tenants->count; i++)
		sum -= used_by(reactor, &tenants->rows[i]);
	return sum;
}

static void tenant_fill(struct tenant_row *row, const struct reactor *reactor,
			const struct tenant *tenant)
{
	memcpy(row->name, tenant->name, sizeof(row->name));
	row->quota_bytes = tenant->quota;
	row->used_bytes = used_by(reactor, tenant);
	row->session_max = tenant->session_max;
	row->domain_count = tenant->domain_count;
	row->secret_count = tenant->secret_count;
	row->rights = tenant->rights;
	list_for_each (pos, &reactor->sessions)
		row->session_count += list_entry(pos, struct session, node)->tenant == tenant;
}

/* A last row, if there is anything; when there is no room for it, the next time. */
static void others_add(const struct reactor *reactor, struct reactor_query *query)
{
	uint64_t used = used_by_others(reactor);
	struct tenant_row *row;

	if (used == 0)
		return;
	row = query_row(query);
	if (row == NULL) {
		query->cursor = reactor->opts.tenants->count;
		return;
	}
	memcpy(row->name, TENANT_GONE, sizeof(TENANT_GONE));
	row->used_bytes = used;
}

/* The cursor is a row of the table. */
void query_users(struct reactor *reactor, struct reactor_query *query)
{
	const struct tenants *tenants = reactor->opts.tenants;
	uint64_t at = query->cursor;

	query->cursor = 0;
	for (; at < tenants->count; at++) {
		struct tenant_row *row = query_row(query);

		if (row == NULL) {
			query->cursor = at;
			break;
		}
		tenant_fill(row, reactor, &tenants->rows[at]);
	}
	if (query->cursor == 0)
		others_add(reactor, query);
	query_end(query, 0);
}

/* The cursor is a slot of the table, which holds still; whether a slot has a row may change. */
void query_savings(struct reactor *reactor, struct reactor_query *query)
{
	uint64_t at = query->cursor;

	query->cursor = 0;
	for (; at < SAVING_ROWS; at++) {
		const struct saving_row *from = saving_row_at(&reactor->saving, (uint32_t)at);
		struct saving_row *row;

		if (from == NULL)
			continue;
		row = query_row(query);
		if (row == NULL) {
			query->cursor = at;
			break;
		}
		*row = *from;
	}
	query_end(query, 0);
}
