/* SPDX-License-Identifier: Apache-2.0 */
/* The table of queries, and the small ones; see query.h. */
#include "query.h"

#include <stdio.h>
#include <string.h>

#include "reactor_priv.h"

struct query_row {
	size_t row_size; /* 0: none */
	query_handler handler;
};

static const struct query_row query_rows[QUERY_KIND_COUNT] = {
	[QUERY_METRICS] = { sizeof(struct metrics), query_metrics },
	[QUERY_SESSIONS] = { sizeof(struct session_row), query_sessions },
	[QUERY_SHARDS] = { sizeof(struct shard_row), query_shards },
	[QUERY_USERS] = { sizeof(struct tenant_row), query_users },
	[QUERY_SAVINGS] = { sizeof(struct saving_row), query_savings },
	[QUERY_CENSUS] = { sizeof(struct census_row), query_census },
	[QUERY_DRAIN] = { 0, query_drain },
	[QUERY_DROP] = { sizeof(struct census_row), query_drop },
	[QUERY_TENANTS] = { 0, query_tenants },
	[QUERY_LEAVE] = { sizeof(struct left_row), query_leave },
	[QUERY_JOIN] = { 0, query_join },
	[QUERY_FINISH] = { 0, query_finish_reactor },
};

size_t query_row_size(enum query_kind kind)
{
	ASSERT(kind > QUERY_NONE);
	ASSERT(kind < QUERY_KIND_COUNT);
	return query_rows[kind].row_size;
}

void reactor_query_start(struct reactor *reactor, struct reactor_query *query)
{
	CHECK_OBJ(reactor, REACTOR_MAGIC);
	ASSERT(query->kind > QUERY_NONE);
	ASSERT(query->kind < QUERY_KIND_COUNT);
	query->reactor = reactor;
	query->row_count = 0;
	query_rows[query->kind].handler(reactor, query);
}

void query_refuse(struct reactor *reactor, struct reactor_query *query, int rc)
{
	query->reactor = reactor;
	query->row_count = 0;
	query_end(query, rc);
}

void *query_row(struct reactor_query *query)
{
	size_t size = query_row_size(query->kind);
	void *row = (char *)query->rows + query->row_count * size;

	ASSERT(size > 0);
	if (query->row_count == query->row_max)
		return NULL;
	query->row_count++;
	return memset(row, 0, size);
}

void query_end(struct reactor_query *query, int rc)
{
	query->rc = rc;
	query->done(query);
}

/* --- sessions --- */

static void session_fill(struct session_row *row, struct session *session)
{
	row->id = session->id;
	row->reactor = session->reactor->opts.index;
	row->lane_count = (uint16_t)session->lane_count;
	row->request_count = session->request_count;
	row->op_count = session->op_count;
	row->is_idle = session->lane_count == 0;
	row->moved_bytes = session->moved;
	snprintf(row->tenant, sizeof(row->tenant), "%s", session->tenant->name);
	snprintf(row->transport, sizeof(row->transport), "%s", session->xprt->name);
	for (uint32_t i = 0; i < session->group.lane_count; i++) {
		struct xprt_lane *lane = session->group.lanes[i];

		if (lane == NULL)
			continue;
		lane->ops->peer_name(lane, row->peer, sizeof(row->peer));
		break;
	}
}

/* The cursor is a place in the pool's memory, which holds still. */
void query_sessions(struct reactor *reactor, struct reactor_query *query)
{
	uint64_t at = query->cursor;

	query->cursor = 0;
	for (; at < reactor->opts.session_max; at++) {
		struct session *session = &reactor->session_memory[at];
		struct session_row *row;

		if (session->magic != SESSION_MAGIC)
			continue;
		row = query_row(query);
		if (row == NULL) {
			query->cursor = at;
			break;
		}
		session_fill(row, session);
	}
	query_end(query, 0);
}

/* --- shards --- */

static void shard_fill(struct shard_row *row, const struct shard_slot *slot)
{
	const struct reactor_opts *opts = &slot->reactor->opts;

	memcpy(row->uuid, opts->table[slot->index].uuid, sizeof(row->uuid));
	row->index = slot->index;
	row->reactor = opts->index;
	row->medium = opts->table[slot->index].medium;
	row->state = SHARD_STATE_MISSING;
	if (slot->shard == NULL)
		return;
	shard_get_stats(slot->shard, &row->stats);
	row->state = row->stats.is_offline ? SHARD_STATE_OFFLINE : SHARD_STATE_ONLINE;
}

void query_shards(struct reactor *reactor, struct reactor_query *query)
{
	uint64_t at = query->cursor;

	query->cursor = 0;
	for (; at < reactor->opts.shard_count; at++) {
		struct shard_row *row = query_row(query);

		if (row == NULL) {
			query->cursor = at;
			break;
		}
		shard_fill(row, &reactor->slots[at]);
	}
	query_end(query, 0);
}

/* --- commands --- */

void query_drain(struct reactor *reactor, struct reactor_query *query)
{
	reactor_drain(reactor);
	query_end(query, 0);
}

void query_finish_reactor(struct reactor *reactor, struct reactor_query *query)
{
	reactor_finish(reactor);
	query_end(query, 0);
}
