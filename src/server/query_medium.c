/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QUERY_LEAVE and QUERY_JOIN: a medium that failed is taken out of this reactor and, when it has
 * been opened again elsewhere (server_return.c), put in again.
 *
 * LEAVE  1. Its shards here go offline, if they are not: a medium comes back as a whole. Nothing
 * new is begun with them: gets miss, puts and drops are refused as for any that is offline.
 *        2. -EAGAIN as long as an operation here, or the drive, has to do with one of them. The
 *           asker asks again; what is offline ends soon, but for I/O that the drive never ends.
 *        3. They are detached and handed to the asker, this reactor's handle of the medium closes.
 * JOIN   Shards that were recovered are attached to this reactor, on a handle of its own. All
 *        reactors hear of it: who runs which shard has not changed, its name may have.
 *
 * What a shard has counted since the start stays counted. Leases of before hold nothing of the new
 * one and end by themselves (lease.c). Blocks in the cache are found by what the index says; as no
 * sequence is given again, what it finds there is what it found on the medium.
 */
#include <string.h>

#include "query.h"
#include "reactor_priv.h"

static bool is_of(const struct shard_slot *slot, uint16_t row)
{
	return slot->shard != NULL && slot->reactor->opts.table[slot->index].medium == row;
}

/* Whether some operation has to do with it. */
static bool is_in_use(const struct shard_slot *slot)
{
	const struct reactor *reactor = slot->reactor;

	for (uint32_t i = 0; i < reactor->opts.operation_max; i++) {
		const struct op *op = (void *)(reactor->op_memory + i * reactor->op_size);

		if (op->state != OP_FREE && op->slot == slot)
			return true;
	}
	return !shard_is_quiet(slot->shard);
}

static void slot_leave(struct shard_slot *slot, struct left_row *row)
{
	struct reactor *reactor = slot->reactor;

	ASSERT(list_is_empty(&slot->room_waiters));
	ASSERT(list_is_empty(&slot->read_waiters));
	ASSERT(list_is_empty(&slot->write_waiters));
	reactor_keep_counters(reactor, slot->shard);
	shard_on_room(slot->shard, NULL);
	reactor->env->ops->undefer(reactor->env, &slot->room_task);
	shard_detach(slot->shard);
	*row = (struct left_row) { .shard = slot->shard, .index = slot->index };
	slot_set_shard(slot, NULL);
}

void query_leave(struct reactor *reactor, struct reactor_query *query)
{
	uint16_t row = query->in.medium.row;
	bool is_used = false;

	ASSERT(reactor->opts.media != NULL);
	ASSERT(query->row_max >= reactor->opts.shard_count);
	for (uint32_t i = 0; i < reactor->opts.shard_count; i++) {
		struct shard_slot *slot = &reactor->slots[i];

		if (!is_of(slot, row))
			continue;
		slot->is_leaving = true;
		shard_give_up(slot->shard);
		is_used = is_in_use(slot) || is_used;
	}
	if (is_used) {
		query_end(query, -EAGAIN);
		return;
	}
	for (uint32_t i = 0; i < reactor->opts.shard_count; i++) {
		if (is_of(&reactor->slots[i], row))
			slot_leave(&reactor->slots[i], query_row(query));
	}
	medium_close(&reactor->opts.media[row]);
	query_end(query, 0);
}

/* The handle is there, when any of the shards is this reactor's. */
static int medium_take(struct reactor *reactor, const struct query_medium *in)
{
	char message[256] = "";
	int rc;

	ASSERT(reactor->opts.media[in->row] == NULL);
	rc = medium_share(reactor->env, in->memory, in->owner, &reactor->opts.media[in->row],
			  message);
	if (rc < 0)
		log_error("reactor %u cannot open the medium that came back: %s",
			  reactor->opts.index, message);
	return rc;
}

void query_join(struct reactor *reactor, struct reactor_query *query)
{
	const struct query_medium *in = &query->in.medium;
	bool is_open = false;
	int rc = 0;

	ASSERT(reactor->opts.media != NULL);
	for (uint32_t i = 0; i < reactor->opts.table_count; i++)
		reactor->own_table[i] = in->table[i];
	reactor->opts.capacity = in->capacity;
	for (uint32_t i = 0; i < reactor->opts.shard_count && rc == 0; i++) {
		struct shard_slot *slot = &reactor->slots[i];
		struct shard **shard = &in->shards[slot->index];

		if (*shard == NULL)
			continue;
		ASSERT(slot->shard == NULL);
		if (!is_open)
			rc = medium_take(reactor, in);
		if (rc < 0)
			break;
		is_open = true;
		shard_attach(*shard, reactor->env, reactor->opts.media[in->row]);
		slot_set_shard(slot, *shard);
		*shard = NULL;
		reactor->metrics.store_returned++;
	}
	tenancy_quotas(reactor);
	query_end(query, rc);
}
