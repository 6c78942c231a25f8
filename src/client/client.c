/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "client_priv.h"

/* How long the end of a client waits: for a server that answers; beyond a server's own bound, for
 * what it gave to its medium; in place of a bound that it does not name. */
#define END_MARGIN_NS   (200 * NS_PER_MS)
#define END_IN_PLACE_NS (5 * NS_PER_S)
#define END_NO_BOUND_NS (10 * NS_PER_S)

/* --- create and destroy --- */

static void client_lists_init(struct client *client)
{
	list_init(&client->free_ops);
	list_init(&client->releasing);
	list_init(&client->news);
	list_init(&client->due);
	list_init(&client->free_sessions);
	for (uint32_t i = 0; i < client->opts.inflight_max; i++) {
		struct client_op *cop = &client->ops[i];

		cop->client = client;
		cop->index = i;
		list_init(&cop->node);
		list_init(&cop->news_node);
		list_init(&cop->parts);
		list_init(&cop->requests);
		list_add_tail(&client->free_ops, &cop->node);
	}
	client->news_task.run = op_news_deliver;
	spread_init(client);
	request_init(client);
	lease_init(client);
	region_init(client);
	fence_init(client);
}

/* Every piece of memory: where its address is kept, how much. */
struct piece {
	void **at;
	size_t size;
};

#define PIECES 16

static void client_pieces(struct client *client, struct piece pieces[PIECES])
{
	const struct client_opts *opts = &client->opts;
	const struct piece all[PIECES] = {
		{ (void **)&client->hosts, opts->target.host_count * sizeof(*client->hosts) },
		{ (void **)&client->servers, SERVER_MAX * sizeof(*client->servers) },
		{ (void **)&client->sessions, opts->session_max * sizeof(*client->sessions) },
		{ (void **)&client->members, SERVER_MAX * sizeof(*client->members) },
		{ (void **)&client->get_rows, SERVER_MAX * sizeof(*client->get_rows) },
		{ (void **)&client->put_rows, SERVER_MAX * sizeof(*client->put_rows) },
		{ (void **)&client->ops, opts->inflight_max * sizeof(*client->ops) },
		{ (void **)&client->parts, client->part_count * sizeof(*client->parts) },
		{ (void **)&client->requests, client->request_slots * sizeof(*client->requests) },
		{ (void **)&client->lease_slots, LEASE_MAX * sizeof(*client->lease_slots) },
		{ (void **)&client->lease_rows, LEASE_ROW_MAX * sizeof(*client->lease_rows) },
		{ (void **)&client->region_rows, REGION_MAX * sizeof(*client->region_rows) },
		{ (void **)&client->stage_slots,
		  MAX(opts->stage_size / STAGE_CHUNK, 1) * sizeof(*client->stage_slots) },
		{ (void **)&client->fence_rows, client->fence_count * sizeof(*client->fence_rows) },
		{ (void **)&client->body, WIRE_BODY_MAX },
		{ NULL, 0 },
	};

	memcpy(pieces, all, sizeof(all));
}

static int client_take_memory(struct client *client)
{
	struct piece pieces[PIECES];

	client_pieces(client, pieces);
	for (const struct piece *piece = pieces; piece->at != NULL; piece++) {
		*piece->at = client->env->ops->alloc(client->env, piece->size);
		if (*piece->at == NULL)
			return -ENOMEM;
	}
	return 0;
}

/* All but resolvers: members_destroy() sees to them. */
static void client_give_memory(struct client *client)
{
	struct piece pieces[PIECES];

	client_pieces(client, pieces);
	for (const struct piece *piece = pieces; piece->at != NULL; piece++)
		client->env->ops->free(client->env, *piece->at);
	client->env->ops->free(client->env, client);
}

static void opts_check(const struct client_opts *opts)
{
	ASSERT(opts->xprt != NULL);
	ASSERT(opts->event != NULL);
	ASSERT(opts->lanes >= 1 && opts->lanes <= WIRE_LANE_MAX);
	ASSERT(opts->inflight_max >= 1 && opts->inflight_max <= CLIENT_INFLIGHT_MAX);
	ASSERT(opts->session_max <= SESSION_MAX);
	ASSERT(opts->target.host_count >= 1 && opts->target.host_count <= HOST_MAX);
	ASSERT(opts->door == NULL || opts->stage != NULL);
	ASSERT(opts->door != NULL || !opts->is_door_only);
	ASSERT(opts->stage_size % STAGE_CHUNK == 0 && opts->stage_size <= STAGE_SIZE_MAX);
	ASSERT(opts->stage == NULL || opts->stage_size >= STAGE_SIZE_MIN);
}

int client_create(struct env *env, const struct client_opts *opts, struct client **client_out)
{
	struct client *client;
	int rc;

	opts_check(opts);
	client = env->ops->alloc(env, sizeof(*client));
	if (client == NULL)
		return -ENOMEM;
	*client = (struct client) {
		.magic = CLIENT_MAGIC,
		.env = env,
		.opts = *opts,
		.shared_max = MAX(opts->inflight_max, (uint32_t)REQUEST_MIN),
	};
	if (client->opts.session_max == 0)
		client->opts.session_max = SESSION_DEFAULT;
	client->fence_count = client->opts.session_max + FENCE_SPARE;
	client->request_slots = client->shared_max +
				(client->opts.session_max + client->fence_count) * SLOTS_A_SESSION;
	ASSERT(client->request_slots < UINT16_MAX); /* item_state.again */
	client->part_count = opts->inflight_max * PARTS_AN_OP + client->opts.session_max;
	rc = client_take_memory(client);
	if (rc < 0)
		goto err_give_memory;
	client_lists_init(client);
	rc = members_create(client);
	if (rc < 0)
		goto err_destroy_members;
	*client_out = client;
	return 0;

err_destroy_members:
	members_destroy(client);
err_give_memory:
	client_give_memory(client);
	return rc;
}

void client_end(struct client *client)
{
	CHECK_OBJ(client, CLIENT_MAGIC);
	if (client->is_ending)
		return;
	client->is_ending = true;
	for (uint32_t i = 0; i < client->opts.inflight_max; i++) {
		if (client->ops[i].op != NULL)
			op_fail(&client->ops[i], -ECANCELED);
	}
	members_destroy(client);
	text_fail_waiting(client, -ECANCELED);
}

bool client_is_over(const struct client *client)
{
	return list_is_empty(&client->fences);
}

static bool is_holding(const struct request *request)
{
	return request->id != 0 && request->fence != NULL && request->cop != NULL;
}

bool client_is_holding(const struct client *client)
{
	for (uint32_t i = 0; i < client->request_slots; i++) {
		if (is_holding(&client->requests[i]))
			return true;
	}
	return false;
}

uint64_t client_end_max_ns(const struct client *client)
{
	uint64_t max_ns = END_MARGIN_NS;

	for (uint32_t i = 0; i < client->request_slots; i++) {
		const struct request *request = &client->requests[i];
		uint64_t wait_ns;

		if (!is_holding(request))
			continue; /* staged memory is ours: it may be left behind */
		wait_ns = request->fence->stall_ms * NS_PER_MS;
		wait_ns = (wait_ns > 0 ? wait_ns : END_NO_BOUND_NS) + END_IN_PLACE_NS;
		wait_ns += request->fence->fence.io_ms * NS_PER_MS;
		max_ns = MAX(max_ns, wait_ns);
	}
	return max_ns;
}

void client_destroy(struct client **client_ref)
{
	struct client *client = *client_ref;

	if (client == NULL)
		return;
	CHECK_OBJ(client, CLIENT_MAGIC);
	*client_ref = NULL;
	client_end(client);
	ASSERT(client_is_over(client));
	client->env->ops->undefer(client->env, &client->news_task);
	client->env->ops->undefer(client->env, &client->pump_task);
	op_news_deliver(&client->news_task);
	client->magic = 0;
	client_give_memory(client);
}

/* --- ops --- */

int client_submit(struct client *client, struct ctxkv_op *op)
{
	struct client_op *cop = list_head(&client->free_ops, struct client_op, node);

	CHECK_OBJ(client, CLIENT_MAGIC);
	if (cop == NULL)
		return -EAGAIN;
	list_del(&cop->node);
	op_submit(cop, op);
	return 0;
}

void client_cancel(struct client *client, struct ctxkv_op *op)
{
	CHECK_OBJ(client, CLIENT_MAGIC);
	/* Only compared: an op that has been released may be gone. */
	for (uint32_t i = 0; i < client->opts.inflight_max; i++) {
		if (client->ops[i].op == op)
			op_fail(&client->ops[i], -ECANCELED);
	}
}

void client_connect(struct client *client)
{
	CHECK_OBJ(client, CLIENT_MAGIC);
	members_want(client);
}

/* --- state --- */

bool client_is_settled(const struct client *client)
{
	CHECK_OBJ(client, CLIENT_MAGIC);
	return client->is_settled;
}

/* The first server stands for what a client has but one of. */
static const struct client_server *first_server(const struct client *client)
{
	for (uint32_t i = 0; i < client->server_count; i++) {
		if (client->servers[i].is_used && client->servers[i].is_member)
			return &client->servers[i];
	}
	return NULL;
}

static uint32_t server_state(const struct client_server *server)
{
	if (!server->is_member)
		return CTXKV_SERVER_GONE;
	if (server->is_alias)
		return CTXKV_SERVER_ALIAS;
	if (server->is_away)
		return CTXKV_SERVER_AWAY;
	if (!server->is_known)
		return CTXKV_SERVER_UNKNOWN;
	if (server->is_draining)
		return CTXKV_SERVER_DRAINING;
	return server->is_failing ? CTXKV_SERVER_OUT : CTXKV_SERVER_UP;
}

static uint64_t until_ns(const struct client *client, const struct env_timer *timer)
{
	uint64_t now_ns = env_now_ns(client->env);

	return timer->is_set && timer->when_ns > now_ns ? timer->when_ns - now_ns : 0;
}

static void server_row(const struct client_server *server, struct ctxkv_server *row)
{
	const struct client *client = server->client;
	const struct session *primary = server->primary;

	*row = (struct ctxkv_server) {
		.size = sizeof(*row),
		.state = server_state(server),
		.weight = server->weight,
		.reactors = server->reactor_count,
		.shards = server->shard_count,
		.connects = server->connects,
		.block_max = server->block_max,
		.capacity = server->capacity,
		.last_error = session_is_up(primary) ? 0 : primary->last_error,
	};
	snprintf(row->address, sizeof(row->address), "%s", server->address);
	if (session_is_up(primary))
		snprintf(row->transport, sizeof(row->transport), "%s", primary->xprt->name);
	snprintf(row->fallback, sizeof(row->fallback), "%s", primary->door.reason);
	memcpy(row->uuid, server->uuid, sizeof(row->uuid));
	list_for_each (node, &server->used_sessions) {
		const struct session *session = list_entry(node, struct session, node);

		row->sessions += session_is_up(session);
		row->requests += session->request_count;
	}
	if (!server->is_failing)
		return;
	row->failing_ns = MAX(env_now_ns(client->env) - server->failing_ns, UINT64_C(1));
	row->retry_ns = until_ns(client, &primary->timer);
	row->leaves_ns = until_ns(client, &server->away_timer);
}

uint32_t client_get_servers(const struct client *client, void *rows, size_t size, size_t count)
{
	uint32_t found = 0;

	for (uint32_t i = 0; i < client->server_count; i++) {
		struct ctxkv_server row;
		uint8_t *to = (uint8_t *)rows + found * size;
		uint64_t own = MIN(size, sizeof(row));

		if (!client->servers[i].is_used)
			continue;
		if (found++ >= count)
			continue;
		server_row(&client->servers[i], &row);
		row.size = own;
		memset(to, 0, size);
		memcpy(to, &row, own);
	}
	return found;
}

/* "tcp", "shm", or both while sessions differ. */
static void stat_transport(const char *name, struct ctxkv_stat *stat)
{
	size_t used = strlen(stat->transport);

	if (strstr(stat->transport, name) == NULL)
		snprintf(stat->transport + used, sizeof(stat->transport) - used, "%s%s",
			 used > 0 ? "+" : "", name);
}

static void stat_session(const struct session *session, struct ctxkv_stat *stat)
{
	if (stat->fallback[0] == '\0')
		snprintf(stat->fallback, sizeof(stat->fallback), "%s", session->door.reason);
	if (!session_is_up(session))
		return;
	stat->is_connected = 1;
	stat_transport(session->xprt->name, stat);
	for (uint32_t i = 0; i < session->group.lane_count; i++)
		stat->lanes += session->group.lanes[i] != NULL;
}

static void stat_server(const struct client_server *server, struct ctxkv_stat *stat)
{
	list_for_each (node, &server->used_sessions)
		stat_session(list_entry(node, struct session, node), stat);
	if (!session_is_up(server->primary) && stat->last_error == 0)
		stat->last_error = server->primary->last_error;
	if (!server->is_known || server->is_alias)
		return;
	stat->capacity += server->capacity;
	if (stat->block_max == 0 || server->block_max < stat->block_max)
		stat->block_max = server->block_max;
}

void client_get_stat(const struct client *client, struct ctxkv_stat *stat)
{
	const struct client_server *first = first_server(client);

	*stat = client->stat;
	stat->size = sizeof(*stat);
	if (first != NULL)
		snprintf(stat->server, sizeof(stat->server), "%.63s", first->address);
	for (uint32_t i = 0; i < client->server_count; i++) {
		if (client->servers[i].is_used && client->servers[i].is_member)
			stat_server(&client->servers[i], stat);
	}
	stat->staging_size = client->opts.stage_size;
	stat->staging_used =
		(uint64_t)(client->stage.chunk_count - client->stage.free_count) * STAGE_CHUNK;
}
