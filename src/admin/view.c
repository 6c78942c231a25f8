/* SPDX-License-Identifier: Apache-2.0 */
#include "view.h"

#include <string.h>

const char *const admin_state_names[] = {
	[ADMIN_STARTING] = "starting",
	[ADMIN_READY] = "ready",
	[ADMIN_DEGRADED] = "degraded",
	[ADMIN_DRAINING] = "draining",
};

/* One question to all reactors, or to one. Rows of those that do not answer are missing. */
static void ask(struct view *view, struct server *server, struct server_query *query)
{
	/* Who was silent once would be waited for again with each question. */
	query->timeout_ns = view->silent_count > 0 ? VIEW_NS / 16 : VIEW_NS / 2;
	if (server_query(server, query) < 0 || query->is_cut)
		view->is_cut = true;
	view->silent_count = MAX(view->silent_count, query->silent_count);
}

static void fill_metrics(struct view *view, struct server *server)
{
	uint32_t answered =
		server_get_metrics(server, view->reactors, view->info.reactor_count, VIEW_NS / 2);

	view->silent_count = view->info.reactor_count - answered;
	for (uint32_t i = 0; i < view->info.reactor_count; i++)
		metrics_add(&view->total, &view->reactors[i]);
}

static void fill_shards(struct view *view, struct server *server)
{
	struct server_query query = { .kind = QUERY_SHARDS,
				      .reactor = SERVER_REACTOR_ALL,
				      .rows = view->shards,
				      .row_max = ARRAY_LEN(view->shards) };

	ask(view, server, &query);
	view->shard_count = query.row_count;
}

static void fill_sessions(struct view *view, struct server *server)
{
	struct server_query query = { .kind = QUERY_SESSIONS,
				      .reactor = SERVER_REACTOR_ALL,
				      .rows = view->sessions,
				      .row_max = ARRAY_LEN(view->sessions) };

	ask(view, server, &query);
	view->session_count = query.row_count;
}

static void tenant_merge(struct view *view, const struct tenant_row *more)
{
	struct tenant_row *row = NULL;

	for (uint32_t i = 0; i < view->tenant_count && row == NULL; i++) {
		if (strcmp(view->tenants[i].name, more->name) == 0)
			row = &view->tenants[i];
	}
	if (row == NULL && view->tenant_count < ARRAY_LEN(view->tenants)) {
		view->tenants[view->tenant_count++] = *more;
	} else if (row != NULL) {
		row->session_count += more->session_count;
		row->used_bytes += more->used_bytes;
	}
}

static void fill_tenants(struct view *view, struct server *server)
{
	for (uint32_t i = 0; i < view->info.reactor_count; i++) {
		struct server_query query = { .kind = QUERY_USERS,
					      .reactor = i,
					      .rows = view->tenant_scratch,
					      .row_max = ARRAY_LEN(view->tenant_scratch) };

		ask(view, server, &query);
		for (uint32_t row = 0; row < query.row_count; row++)
			tenant_merge(view, &view->tenant_scratch[row]);
	}
}

static void fill_savings(struct view *view, struct server *server)
{
	for (uint32_t i = 0; i < view->info.reactor_count; i++) {
		struct server_query query = { .kind = QUERY_SAVINGS,
					      .reactor = i,
					      .rows = view->saving_scratch,
					      .row_max = ARRAY_LEN(view->saving_scratch) };

		ask(view, server, &query);
		for (uint32_t row = 0; row < query.row_count; row++)
			view->saving_count =
				saving_merge(view->savings, view->saving_count,
					     ARRAY_LEN(view->savings), &view->saving_scratch[row]);
	}
}

static void census_merge(struct view *view, const struct census_row *more)
{
	for (uint32_t i = 0; i < view->census_count; i++) {
		struct census_row *row = &view->census[i];

		if (memcmp(row->domain, more->domain, 16) != 0 ||
		    memcmp(row->ns, more->ns, 16) != 0)
			continue;
		row->blocks += more->blocks;
		row->bytes += more->bytes;
		return;
	}
	if (view->census_count < ARRAY_LEN(view->census))
		view->census[view->census_count++] = *more;
	else
		view->is_cut = true;
}

static void fill_census(struct view *view, struct server *server)
{
	for (uint32_t i = 0; i < view->info.reactor_count; i++) {
		struct server_query query = { .kind = QUERY_CENSUS,
					      .reactor = i,
					      .rows = view->census_scratch,
					      .row_max = ARRAY_LEN(view->census_scratch),
					      .timeout_ns =
						      VIEW_CENSUS_NS / view->info.reactor_count };

		if (server_query(server, &query) < 0 || query.is_cut)
			view->is_cut = true;
		for (uint32_t row = 0; row < query.row_count; row++)
			census_merge(view, &view->census_scratch[row]);
	}
}

static enum admin_state state_of(const struct view *view)
{
	if (view->total.draining > 0)
		return ADMIN_DRAINING;
	if (view->silent_count > 0 || view->info.shards_missing > 0)
		return ADMIN_DEGRADED;
	for (uint32_t i = 0; i < view->shard_count; i++) {
		if (view->shards[i].state != SHARD_STATE_ONLINE)
			return ADMIN_DEGRADED;
	}
	return ADMIN_READY;
}

void view_fill(struct view *view, struct server *server, enum admin_state state_without,
	       uint32_t parts)
{
	view->state = state_without;
	view->has_server = server != NULL;
	view->parts = parts;
	view->is_cut = false;
	view->silent_count = 0;
	view->shard_count = 0;
	view->session_count = 0;
	view->tenant_count = 0;
	view->saving_count = 0;
	view->census_count = 0;
	memset(&view->info, 0, sizeof(view->info));
	memset(&view->total, 0, sizeof(view->total));
	if (server == NULL)
		return;
	server_get_info(server, &view->info);
	ASSERT(view->info.reactor_count <= SERVER_REACTOR_MAX);
	server_listener_name(server, view->address, sizeof(view->address));
	fill_metrics(view, server);
	fill_shards(view, server);
	if ((parts & VIEW_PART_SESSIONS) != 0)
		fill_sessions(view, server);
	if ((parts & VIEW_PART_TENANTS) != 0)
		fill_tenants(view, server);
	if ((parts & VIEW_PART_SAVINGS) != 0)
		fill_savings(view, server);
	if ((parts & VIEW_PART_CENSUS) != 0)
		fill_census(view, server);
	view->state = state_of(view);
}

double view_fill_share(const struct view *view)
{
	if (view->total.store_capacity == 0)
		return 0;
	return (double)view->total.store_payload / (double)view->total.store_capacity;
}

double view_hit_rate(const struct view *view)
{
	if (view->total.get_blocks == 0)
		return -1;
	return (double)view->total.get_hits / (double)view->total.get_blocks;
}

uint64_t view_oldest_s(const struct view *view)
{
	uint64_t oldest_s = 0;

	for (uint32_t i = 0; i < view->shard_count; i++)
		oldest_s = MAX(oldest_s, view->shards[i].stats.oldest_s);
	return oldest_s;
}
