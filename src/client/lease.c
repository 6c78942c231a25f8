/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One handle for what a LEASE op got from several sessions.
 *
 * Every session grants a lease of its own, of its items alone; the handle stands for all of them:
 * a get under it names each session's own, a renewal goes to all. The leading run of an op is over
 * items of all sessions: a session that holds only what lies behind it gets its lease back at once
 * (unless the op was for ALL). One that also holds something of the run keeps it whole: a lease
 * cannot be cut.
 *
 * Failures: a session ends: its part of the lease is gone with it, the rest stays. No room for
 * another handle: the op fails with -ERR_BUSY; for another row: that session's lease is given back
 * and its items are not held. A give-back that cannot be sent is left to the lease's own end.
 * Handles go when they are ended, when all their sessions have gone, or when their time is over.
 */
#include "client_priv.h"

static void row_free(struct client *client, struct lease_row *row)
{
	list_del(&row->node);
	list_add_tail(&client->free_lease_rows, &row->node);
}

static void lease_free(struct client *client, struct lease *lease)
{
	struct lease_row *row;

	while ((row = list_head(&lease->rows, struct lease_row, node)) != NULL)
		row_free(client, row);
	lease->handle = 0;
	list_del(&lease->node);
	list_add_tail(&client->free_leases, &lease->node);
}

/* Tell the session that nobody reads under it. */
static void give_back(struct session *session, uint64_t id)
{
	struct client *client = session->client;
	const struct wire_request request = { .lease = id };
	uint64_t request_id = id_make(ID_ASIDE, ++client->asides, 0);
	int rc = request_send_small(session, WIRE_RENEW, request_id, &request, NULL, 0);

	(void)rc; /* then it ends by itself, at its deadline */
}

static void leases_expire(struct client *client)
{
	uint64_t now_ns = env_now_ns(client->env);

	list_for_each_safe (node, &client->leases) {
		struct lease *lease = list_entry(node, struct lease, node);

		if (!lease->is_new && lease->end_ns <= now_ns)
			lease_free(client, lease);
	}
}

struct lease *lease_find(struct client *client, uint64_t handle)
{
	uint32_t index = id_index_of(handle);
	struct lease *lease;

	if (handle == 0 || index >= LEASE_MAX)
		return NULL;
	lease = &client->lease_slots[index];
	return lease->handle == handle && !lease->is_new ? lease : NULL;
}

bool lease_is_held(const struct session *session)
{
	uint64_t now_ns = env_now_ns(session->client->env);

	list_for_each (node, &session->client->leases) {
		const struct lease *lease = list_entry(node, struct lease, node);

		list_for_each (row, &lease->rows) {
			if (list_entry(row, struct lease_row, node)->session == session &&
			    lease->end_ns > now_ns)
				return true;
		}
	}
	return false;
}

struct lease *lease_take(struct client *client)
{
	struct lease *lease;

	if (list_is_empty(&client->free_leases))
		leases_expire(client);
	lease = list_head(&client->free_leases, struct lease, node);
	if (lease == NULL)
		return NULL;
	list_del(&lease->node);
	list_add_tail(&client->leases, &lease->node);
	lease->handle = ++client->lease_handle << REQUEST_INDEX_BITS |
			(uint64_t)(lease - client->lease_slots);
	lease->end_ns = 0;
	lease->is_new = true;
	return lease;
}

bool lease_add(struct client_op *cop, struct session *session, const struct wire_bitmap *bitmap,
	       uint32_t first_unit)
{
	struct client *client = session->client;
	struct lease *lease = cop->lease;
	uint64_t end_ns = env_now_ns(client->env) + bitmap->duration_ms * NS_PER_MS;
	struct lease_row *row;

	ASSERT(lease != NULL);
	ASSERT(lease->is_new);
	if (list_is_empty(&client->free_lease_rows))
		leases_expire(client);
	row = list_head(&client->free_lease_rows, struct lease_row, node);
	if (row == NULL) {
		give_back(session, bitmap->lease);
		return false;
	}
	list_del(&row->node);
	list_add_tail(&lease->rows, &row->node);
	row->session = session;
	row->id = bitmap->lease;
	row->first_unit = first_unit;
	lease->end_ns = MAX(lease->end_ns, end_ns);
	return true;
}

uint64_t lease_id_at(const struct lease *lease, const struct session *session)
{
	list_for_each (node, &lease->rows) {
		const struct lease_row *row = list_entry(node, struct lease_row, node);

		if (row->session == session)
			return row->id;
	}
	return 0;
}

/* What lies behind the leading run is given back. */
static void lease_made(struct client_op *cop)
{
	struct client *client = cop->client;
	struct lease *lease = cop->lease;
	struct ctxkv_op *op = cop->op;

	cop->lease = NULL;
	lease->is_new = false;
	list_for_each_safe (node, &lease->rows) {
		struct lease_row *row = list_entry(node, struct lease_row, node);

		if ((op->flags & CTXKV_ALL) != 0 || row->first_unit < op->run)
			continue;
		give_back(row->session, row->id);
		row_free(client, row);
	}
	if (list_is_empty(&lease->rows))
		lease_free(client, lease);
	else
		op->lease = lease->handle;
}

static void lease_renewed(struct client_op *cop)
{
	struct client *client = cop->client;
	const struct ctxkv_op *op = cop->op;
	struct lease *lease = lease_find(client, op->lease);

	if (lease == NULL)
		return;
	if (op->duration_ms == 0)
		lease_free(client, lease);
	else if (op->status == 0)
		lease->end_ns = env_now_ns(client->env) + op->duration_ms * NS_PER_MS;
}

void lease_op_finish(struct client_op *cop)
{
	if (cop->lease != NULL)
		lease_made(cop);
	else if (cop->op->opcode == CTXKV_OP_RENEW)
		lease_renewed(cop);
}

void lease_session_down(struct session *session)
{
	struct client *client = session->client;

	list_for_each_safe (node, &client->leases) {
		struct lease *lease = list_entry(node, struct lease, node);

		list_for_each_safe (row_node, &lease->rows) {
			struct lease_row *row = list_entry(row_node, struct lease_row, node);

			if (row->session == session)
				row_free(client, row);
		}
		if (!lease->is_new && list_is_empty(&lease->rows))
			lease_free(client, lease);
	}
}

void lease_init(struct client *client)
{
	list_init(&client->leases);
	list_init(&client->free_leases);
	list_init(&client->free_lease_rows);
	for (uint32_t i = 0; i < LEASE_MAX; i++) {
		list_init(&client->lease_slots[i].rows);
		list_init(&client->lease_slots[i].node);
		list_add_tail(&client->free_leases, &client->lease_slots[i].node);
	}
	for (uint32_t i = 0; i < LEASE_ROW_MAX; i++) {
		list_init(&client->lease_rows[i].node);
		list_add_tail(&client->free_lease_rows, &client->lease_rows[i].node);
	}
}
