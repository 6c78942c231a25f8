/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QUERY_DROP: an administrator's drop. A key goes to its shard, a namespace to all shards of this
 * reactor, one after the other. A key whose shard is another reactor's is answered -ERR_CHANGED:
 * ask all of them, one has it.
 */
#include <string.h>

#include "query.h"
#include "reactor_priv.h"

static void drop_next(struct reactor_query *query);

static void key_was_here(struct reactor_query *query)
{
	struct census_row *row = query_row(query);

	if (row != NULL)
		row->blocks = 1;
}

static void drop_done_cb(struct shard_drop *drop, int rc)
{
	struct reactor_query *query = CONTAINER_OF(drop, struct reactor_query, state.drop.drop);

	query->state.drop.slot++;
	if (rc == 0 && !query->in.drop.is_namespace && drop->existed_out)
		key_was_here(query);
	if (rc < 0 || !query->in.drop.is_namespace ||
	    query->state.drop.slot == query->reactor->opts.shard_count)
		query_end(query, rc);
	else
		drop_next(query);
}

/* At the shard that state.drop.slot says. */
static void drop_next(struct reactor_query *query)
{
	const struct shard_slot *slot = &query->reactor->slots[query->state.drop.slot];
	struct shard_drop *drop = &query->state.drop.drop;
	int rc;

	*drop = (struct shard_drop) { .is_namespace = query->in.drop.is_namespace,
				      .done = drop_done_cb };
	memcpy(drop->id.domain, query->in.drop.domain, sizeof(drop->id.domain));
	memcpy(drop->id.ns, query->in.drop.ns, sizeof(drop->id.ns));
	memcpy(drop->id.key, query->in.drop.key, sizeof(drop->id.key));
	rc = slot_is_open(slot) ? shard_drop_start(slot->shard, drop) : -ERR_OFFLINE;
	if (rc < 0)
		query_end(query, rc);
}

void query_drop(struct reactor *reactor, struct reactor_query *query)
{
	struct wire_key key;
	const struct shard_slot *slot;

	query->state.drop.slot = 0;
	if (query->in.drop.is_namespace && reactor->opts.shard_count == 0) {
		query_end(query, 0);
		return;
	}
	if (!query->in.drop.is_namespace) {
		memcpy(key.bytes, query->in.drop.key, sizeof(key.bytes));
		slot = reactor_slot(reactor, &key);
		if (slot == NULL) {
			query_end(query, -ERR_CHANGED);
			return;
		}
		query->state.drop.slot = (uint32_t)(slot - reactor->slots);
	}
	drop_next(query);
}
