/* SPDX-License-Identifier: Apache-2.0 */
/* Who uses the store and what it saves them: QUERY_USERS, QUERY_SAVINGS. */
#include <string.h>

#include "query.h"
#include "reactor_priv.h"

static void tenant_fill(struct tenant_row *row, const struct reactor *reactor,
			const struct tenant *tenant)
{
	memcpy(row->name, tenant->name, sizeof(row->name));
	row->quota_bytes = tenant->quota;
	row->used_bytes = 0;
	for (uint32_t i = 0; i < reactor->opts.shard_count; i++) {
		if (reactor->slots[i].shard != NULL)
			row->used_bytes += shard_payer_bytes(reactor->slots[i].shard, tenant->id);
	}
	row->session_max = tenant->session_max;
	row->domain_count = tenant->domain_count;
	row->secret_count = tenant->secret_count;
	row->rights = tenant->rights;
	list_for_each (pos, &reactor->sessions)
		row->session_count += list_entry(pos, struct session, node)->tenant == tenant;
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
