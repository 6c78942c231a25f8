/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QUERY_CENSUS: blocks and bytes by namespace, of this reactor's shards. The indexes are walked a
 * part at a time, from the loop, so that clients are served in between; rows are made in the
 * query's memory. A shard that goes away meanwhile counts as far as it was walked.
 *
 * The reactor ends before the walk does: the query is answered -ERR_CLOSING.
 */
#include <stdio.h>
#include <string.h>

#include "query.h"
#include "reactor_priv.h"

static void census_finish(struct reactor_query *query)
{
	const struct tenants *tenants = query->reactor->opts.tenants;
	struct census_row *rows = query->rows;

	query->reactor->census = NULL;
	query->row_count = census_end(&query->state.census.census);
	if (query->in.census.is_one) {
		/* There is one, whether it has blocks or not. */
		query->row_count = 1;
		memcpy(rows[0].domain, query->in.census.id.domain, sizeof(rows[0].domain));
		memcpy(rows[0].ns, query->in.census.id.ns, sizeof(rows[0].ns));
	}
	for (uint32_t i = 0; i < query->row_count; i++) {
		const char *name = tenants_domain_name(tenants, rows[i].domain);

		snprintf(rows[i].domain_name, sizeof(rows[i].domain_name), "%s",
			 name != NULL ? name : "");
	}
	query_end(query, 0);
}

static void census_run(struct env_task *task)
{
	struct reactor_query *query = CONTAINER_OF(task, struct reactor_query, state.census.task);
	struct reactor *reactor = query->reactor;
	uint32_t slot = query->state.census.slot;

	if (slot == reactor->opts.shard_count) {
		census_finish(query);
		return;
	}
	if (slot_is_open(&reactor->slots[slot]))
		query->state.census.bucket =
			shard_census(reactor->slots[slot].shard, &query->state.census.census,
				     query->state.census.bucket);
	else
		query->state.census.bucket = 0;
	query->state.census.slot += query->state.census.bucket == 0;
	reactor->env->ops->defer(reactor->env, task);
}

void query_census(struct reactor *reactor, struct reactor_query *query)
{
	struct census *census = &query->state.census.census;
	struct env *env = reactor->env;

	if (reactor->census != NULL || query->row_max < 2) {
		query_end(query, -ERR_BUSY);
		return;
	}
	memset(&query->state.census, 0, sizeof(query->state.census));
	memset(query->rows, 0, query->row_max * sizeof(struct census_row));
	census->rows = query->rows;
	census->row_max = query->row_max;
	census->only = query->in.census.is_one ? &query->in.census.id : NULL;
	env->ops->random(env, &census->seed, sizeof(census->seed));
	query->state.census.task.run = census_run;
	reactor->census = query;
	env->ops->defer(env, &query->state.census.task);
}

void query_census_stop(struct reactor *reactor)
{
	struct reactor_query *query = reactor->census;

	if (query == NULL)
		return;
	reactor->census = NULL;
	reactor->env->ops->undefer(reactor->env, &query->state.census.task);
	query->row_count = 0;
	query_end(query, -ERR_CLOSING);
}
