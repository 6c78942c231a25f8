/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An op's units go to the sessions that have them.
 *
 * Items of a get, put, probe or lease are grouped by session: place → server, key → shard →
 * reactor. In each group they keep their order; positions of the op are the groups one behind the
 * other, and the unit of each position is noted in the item that stands there. A drop goes to every
 * reactor of every server, for any of them may have the block from a time when its place was there;
 * a renewal to every session of the lease; a report to one server. Each group is a part, which
 * waits at its session.
 *
 * Failures: a session whose breaker is open: its units miss at once, all others go on. Not enough
 * parts: the op waits, with all behind it, until some are free; there are as many as sessions, so
 * that the first that waits is served when all others have ended. Servers not known yet:
 * members.c.
 */
#include <string.h>

#include "client_priv.h"

/* --- parts --- */

void part_free(struct part *part)
{
	struct client *client = part->cop->client;

	list_del(&part->node);
	list_del(&part->op_node);
	part->cop = NULL;
	part->session = NULL;
	list_add_tail(&client->free_parts, &part->node);
	client->free_part_count++;
	if (!list_is_empty(&client->spreading))
		client->env->ops->defer(client->env, &client->pump_task);
}

/* Without units. One is free. */
static struct part *part_take(struct client_op *cop, struct session *session, enum waiting waiting)
{
	struct client *client = cop->client;
	struct part *part = list_head(&client->free_parts, struct part, node);

	ASSERT(part != NULL);
	list_del(&part->node);
	client->free_part_count--;
	*part = (struct part) { .cop = cop, .session = session };
	list_init(&part->op_node);
	list_add_tail(&session->waiting[waiting], &part->node);
	list_add_tail(&cop->parts, &part->op_node);
	return part;
}

static void part_add(struct client_op *cop, struct session *session, uint64_t lease, uint32_t first,
		     uint32_t count)
{
	bool is_put = cop->op->opcode == CTXKV_OP_PUT;
	struct part *part = part_take(cop, session, is_put ? WAITING_PUT : WAITING_CONTROL);

	ASSERT(count > 0);
	part->lease = lease;
	part->next = first;
	part->end = first + count;
	session_want(session);
	session_pump_later(session);
}

void part_lose(struct part *part, int status)
{
	const struct part was = *part;
	struct client_op *cop = part->cop;
	uint32_t next = part->next;
	uint32_t end = part->end;

	part_free(part);
	for (; next < end && !cop->has_result; next++) {
		uint32_t unit = op_unit_at(cop, next);

		if (part_has(&was, next))
			op_unit_lose(cop, unit, status);
	}
}

/* GET: the session's id of the op's lease. */
static uint64_t get_lease(const struct client_op *cop, const struct session *session)
{
	const struct lease *lease = NULL;

	if (cop->op->opcode == CTXKV_OP_GET)
		lease = lease_find(cop->client, cop->op->lease);
	return lease != NULL ? lease_id_at(lease, session) : 0;
}

struct part *part_again(struct client_op *cop, struct session *session)
{
	bool is_put = cop->op->opcode == CTXKV_OP_PUT;
	struct part *part;

	list_for_each (node, &cop->parts) {
		part = list_entry(node, struct part, op_node);
		if (part->is_again && part->session == session)
			return part;
	}
	if (cop->client->free_part_count == 0)
		return NULL;
	part = part_take(cop, session, is_put ? WAITING_PUT_AGAIN : WAITING_GET_AGAIN);
	part->is_again = true;
	part->lease = get_lease(cop, session);
	part->next = cop->unit_count;
	return part;
}

/* --- by item --- */

static bool is_zero(const uint8_t place[16])
{
	static const uint8_t zero[16];

	return memcmp(place, zero, sizeof(zero)) == 0;
}

/*
 * Items of one run of tokens have one place: it is looked up once. All of them are the same
 * session's where there is one server, and one reactor of it has the shards: that is, too.
 */
struct finder {
	const struct place_map *map;
	uint8_t place[16];
	uint32_t server;
	bool is_set;
	bool is_fixed; /* session and status are every item's */
	struct session *session;
	int status;
};

static uint32_t find_server(struct finder *finder, const uint8_t place[16])
{
	if (!finder->is_set || memcmp(finder->place, place, sizeof(finder->place)) != 0) {
		memcpy(finder->place, place, sizeof(finder->place));
		finder->server = place_server(finder->map, place);
		finder->is_set = true;
	}
	return finder->server;
}

/* Who has it; NULL with a status: nobody just now. */
static struct session *item_session(struct client *client, struct finder *finder,
				    const struct ctxkv_item *item, int *status_out)
{
	struct wire_key key;
	uint8_t place[16];
	uint32_t server;

	if (finder->is_fixed) {
		*status_out = finder->status;
		return finder->session;
	}
	memcpy(key.bytes, item->key.bytes, sizeof(key.bytes));
	memcpy(place, item->place, sizeof(place));
	if (is_zero(place) && !place_is_fixed(finder->map))
		place_default(&key, place);
	server = find_server(finder, place);
	if (server == PLACE_NONE)
		*status_out = members_code(client);
	else
		finder->session = server_session(&client->servers[server], &key, status_out);
	if (place_is_fixed(finder->map) &&
	    (server == PLACE_NONE || client->servers[server].has_one_reactor)) {
		finder->is_fixed = true;
		finder->status = *status_out;
	}
	return server == PLACE_NONE ? NULL : finder->session;
}

/* Sessions of an op, in order of their first unit. */
struct groups {
	struct session *sessions[SESSION_MAX];
	uint32_t count;
	bool has_lost; /* some unit has no session */
};

static void group_count(struct groups *groups, struct session *session)
{
	if (session->spread_count++ == 0)
		groups->sessions[groups->count++] = session;
}

/* All units are one session's, as the first one shows. Puts are looked at one by one. */
static bool group_whole(struct client_op *cop, struct finder *finder, struct groups *groups)
{
	struct session *session;
	int status = 0;

	if (cop->op->opcode == CTXKV_OP_PUT || cop->open_count < cop->unit_count)
		return false;
	session = item_session(cop->client, finder, &cop->op->items[0], &status);
	if (!finder->is_fixed || session == NULL || status < 0)
		return false;
	session->spread_count = cop->unit_count;
	groups->sessions[groups->count++] = session;
	return true;
}

/* Whose each open unit is. */
static void group_items(struct client_op *cop, struct groups *groups)
{
	struct client *client = cop->client;
	bool is_put = cop->op->opcode == CTXKV_OP_PUT;
	struct finder finder = { .map = is_put ? &client->put_map : &client->get_map };

	if (group_whole(cop, &finder, groups))
		return;
	for (uint32_t unit = 0; unit < cop->unit_count; unit++) {
		struct ctxkv_item *item = &cop->op->items[unit];
		struct item_state *state = item_state(item);
		struct session *session;
		int status = 0;

		if (op_unit_is_done(cop, unit))
			continue;
		session = item_session(client, &finder, item, &status);
		if (session != NULL && is_put && item_room(item) > session->server->block_max)
			status = -ERR_TOO_LARGE;
		state->worst = status;
		if (status < 0) {
			groups->has_lost = true;
			continue;
		}
		state->session = (uint16_t)session->index;
		state->unit = (uint16_t)unit;
		group_count(groups, session);
	}
}

/* Units that have nobody, and puts that are too large for who has them. */
static void lose_items(struct client_op *cop)
{
	for (uint32_t unit = 0; unit < cop->unit_count && !cop->has_result; unit++) {
		const struct item_state *state = item_state(&cop->op->items[unit]);

		if (op_unit_is_done(cop, unit) || state->worst == 0)
			continue;
		if (state->worst == -ERR_TOO_LARGE)
			op_unit_finish(cop, unit, state->worst);
		else
			op_unit_lose(cop, unit, state->worst);
	}
}

/* Which unit stands at each position. */
static void order_items(struct client_op *cop, struct groups *groups)
{
	struct client *client = cop->client;
	uint32_t at = 0;

	for (uint32_t i = 0; i < groups->count; i++) {
		groups->sessions[i]->spread_at = at;
		at += groups->sessions[i]->spread_count;
	}
	cop->is_straight = groups->count == 1 && at == cop->unit_count;
	if (cop->is_straight) {
		groups->sessions[0]->spread_at = at;
		return;
	}
	for (uint32_t unit = 0; unit < cop->unit_count; unit++) {
		const struct item_state *state = item_state(&cop->op->items[unit]);
		struct session *session = &client->sessions[state->session];

		if (op_unit_is_done(cop, unit) || state->worst < 0)
			continue;
		item_state(&cop->op->items[session->spread_at++])->unit = (uint16_t)unit;
	}
}

static void place_items(struct client_op *cop, struct groups *groups)
{
	order_items(cop, groups);
	for (uint32_t i = 0; i < groups->count; i++) {
		struct session *session = groups->sessions[i];

		part_add(cop, session, get_lease(cop, session),
			 session->spread_at - session->spread_count, session->spread_count);
	}
}

static int spread_items(struct client_op *cop)
{
	struct client *client = cop->client;
	struct groups groups; /* its sessions are written before they are read */

	groups.count = 0;
	groups.has_lost = false;
	if (cop->op->opcode == CTXKV_OP_LEASE && cop->lease == NULL) {
		cop->lease = lease_take(client);
		if (cop->lease == NULL) {
			op_fail(cop, -ERR_BUSY);
			return 0;
		}
	}
	group_items(cop, &groups);
	if (groups.count <= client->free_part_count)
		place_items(cop, &groups);
	for (uint32_t i = 0; i < groups.count; i++)
		groups.sessions[i]->spread_count = 0;
	if (list_is_empty(&cop->parts) && groups.count > 0)
		return -EAGAIN;
	list_del(&cop->node);
	if (groups.has_lost)
		lose_items(cop);
	return 0;
}

/* --- to all --- */

static void to_all_begin(struct client_op *cop, uint32_t count, int worst)
{
	cop->is_to_all = true;
	cop->pending = (uint16_t)count;
	cop->worst = worst;
	for (uint32_t unit = 0; unit < cop->item_count; unit++) {
		item_state(&cop->op->items[unit])->pending = (uint16_t)count;
		item_state(&cop->op->items[unit])->worst = worst;
	}
}

/* The reactors of a server that have shards. A session that is not to be had is an outcome, too. */
static void server_groups(struct client_server *server, struct groups *groups, int *worst)
{
	for (uint32_t i = 0; i < server->shard_count; i++) {
		int status = 0;
		struct session *session =
			server_session_of(server, server->shard_reactors[i], &status);

		if (session == NULL)
			*worst = *worst == 0 ? status : *worst;
		else if (session->spread_count == 0)
			group_count(groups, session);
	}
}

static int spread_drop(struct client_op *cop)
{
	struct client *client = cop->client;
	struct groups groups; /* as above */
	int worst = 0;

	groups.count = 0;
	for (uint32_t i = 0; i < client->server_count; i++) {
		struct client_server *server = &client->servers[i];

		if (!server->is_used || !server->is_member || server->is_alias)
			continue;
		if (server->is_known)
			server_groups(server, &groups, &worst);
		else
			worst = -ERR_UNREACHABLE; /* it may have the blocks */
	}
	for (uint32_t i = 0; i < groups.count; i++)
		groups.sessions[i]->spread_count = 0;
	if (groups.count > client->free_part_count)
		return -EAGAIN;
	list_del(&cop->node);
	if (groups.count == 0) {
		op_fail(cop, worst < 0 ? worst : members_code(client));
		return 0;
	}
	to_all_begin(cop, groups.count, worst);
	for (uint32_t i = 0; i < groups.count; i++)
		part_add(cop, groups.sessions[i], 0, 0, cop->unit_count);
	return 0;
}

static int spread_renew(struct client_op *cop)
{
	struct client *client = cop->client;
	struct lease *lease = lease_find(client, cop->op->lease);
	uint32_t count = 0;

	if (lease != NULL) {
		list_for_each (node, &lease->rows)
			count++;
	}
	if (count > client->free_part_count)
		return -EAGAIN;
	list_del(&cop->node);
	if (count == 0) {
		op_fail(cop, -ERR_MISS);
		return 0;
	}
	to_all_begin(cop, count, 0);
	list_for_each (node, &lease->rows) {
		const struct lease_row *row = list_entry(node, struct lease_row, node);

		part_add(cop, row->session, row->id, 0, 1);
	}
	return 0;
}

static int spread_report(struct client_op *cop)
{
	struct client *client = cop->client;
	uint32_t server = place_server(&client->get_map, cop->op->ns.bytes);
	struct session *session = NULL;
	int status = members_code(client);

	if (client->free_part_count == 0)
		return -EAGAIN;
	if (server != PLACE_NONE)
		session = server_session_of(&client->servers[server],
					    client->servers[server].shard_reactors[0], &status);
	list_del(&cop->node);
	if (session == NULL)
		op_fail(cop, status);
	else
		part_add(cop, session, 0, 0, 1);
	return 0;
}

/* --- in turn --- */

/* 0: it is spread (or over). -EAGAIN: not now. */
static int spread_op(struct client_op *cop)
{
	switch (cop->op->opcode) {
	case CTXKV_OP_DROP:
		return spread_drop(cop);
	case CTXKV_OP_RENEW:
		return spread_renew(cop);
	case CTXKV_OP_REPORT:
		return spread_report(cop);
	default:
		return spread_items(cop);
	}
}

void spread_ops(struct client *client)
{
	struct client_op *cop;

	while ((cop = list_head(&client->spreading, struct client_op, node)) != NULL) {
		if (!members_are_settled(client) || spread_op(cop) < 0)
			return;
	}
}

void spread_pump(struct client *client)
{
	struct session *session;

	while ((session = list_head(&client->due, struct session, due_node)) != NULL) {
		list_del(&session->due_node);
		session_pump(session);
	}
}

void spread_init(struct client *client)
{
	list_init(&client->spreading);
	list_init(&client->free_parts);
	for (uint32_t i = 0; i < client->part_count; i++) {
		list_init(&client->parts[i].op_node);
		list_init(&client->parts[i].node);
		list_add_tail(&client->free_parts, &client->parts[i].node);
	}
	client->free_part_count = client->part_count;
}
