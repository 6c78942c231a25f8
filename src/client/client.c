/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "client_priv.h"

/* --- create and destroy --- */

static void client_lists_init(struct client *client)
{
	list_init(&client->free_ops);
	list_init(&client->releasing);
	list_init(&client->news);
	for (uint32_t i = 0; i < WAITING_COUNT; i++)
		list_init(&client->waiting[i]);
	for (uint32_t i = 0; i < client->opts.inflight_max; i++) {
		struct client_op *cop = &client->ops[i];

		cop->client = client;
		cop->index = i;
		list_init(&cop->node);
		list_init(&cop->news_node);
		list_init(&cop->requests);
		list_add_tail(&client->free_ops, &cop->node);
	}
	client->news_task.run = op_news_deliver;
	request_init(client);
	region_init(client);
}

static int client_take_memory(struct client *client)
{
	struct env *env = client->env;
	struct resolver *resolver;

	client->ops = env->ops->alloc(env, client->opts.inflight_max * sizeof(*client->ops));
	client->requests = env->ops->alloc(env, client->request_slots * sizeof(*client->requests));
	client->body = env->ops->alloc(env, WIRE_BODY_MAX);
	client->region_rows = env->ops->alloc(env, REGION_MAX * sizeof(*client->region_rows));
	resolver = env->ops->alloc(env, sizeof(*resolver));
	client->session.resolver = resolver;
	if (client->ops == NULL || client->requests == NULL || client->body == NULL ||
	    client->region_rows == NULL || resolver == NULL)
		return -ENOMEM;
	resolver->env = env;
	resolver->client = client;
	snprintf(resolver->host, sizeof(resolver->host), "%s", client->opts.target.host);
	return 0;
}

/* All but the resolver: session_fini() sees to it. */
static void client_give_memory(struct client *client)
{
	struct env *env = client->env;

	env->ops->free(env, client->region_rows);
	env->ops->free(env, client->body);
	env->ops->free(env, client->requests);
	env->ops->free(env, client->ops);
	env->ops->free(env, client);
}

int client_create(struct env *env, const struct client_opts *opts, struct client **client_out)
{
	struct client *client;
	int rc;

	ASSERT(opts->xprt != NULL);
	ASSERT(opts->event != NULL);
	ASSERT(opts->lanes >= 1 && opts->lanes <= WIRE_LANE_MAX);
	ASSERT(opts->inflight_max >= 1 && opts->inflight_max <= 1u << REQUEST_INDEX_BITS);
	ASSERT((opts->xprt->caps & (XPRT_CAP_SYNC_RELEASE | XPRT_CAP_CLOSE_FENCES)) != 0);

	client = env->ops->alloc(env, sizeof(*client));
	if (client == NULL)
		return -ENOMEM;
	*client = (struct client) {
		.magic = CLIENT_MAGIC,
		.env = env,
		.opts = *opts,
		.xprt = opts->xprt,
		.request_slots = MAX(opts->inflight_max, (uint32_t)REQUEST_MIN),
	};
	rc = client_take_memory(client);
	if (rc < 0) {
		env->ops->free(env, client->session.resolver);
		client_give_memory(client);
		return rc;
	}
	client_lists_init(client);
	session_init(client);
	*client_out = client;
	return 0;
}

void client_destroy(struct client **client_ref)
{
	struct client *client = *client_ref;
	struct client_text *text;

	if (client == NULL)
		return;
	CHECK_OBJ(client, CLIENT_MAGIC);
	*client_ref = NULL;
	client->is_ending = true;
	for (uint32_t i = 0; i < client->opts.inflight_max; i++) {
		if (client->ops[i].op != NULL)
			op_fail(&client->ops[i], -ECANCELED);
	}
	session_fail(client, -ECANCELED, 0);
	while ((text = list_head(&client->texts, struct client_text, node)) != NULL)
		text_finish(client, text, -ECANCELED, NULL, 0);
	session_fini(client);
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
	session_want(client);
}

/* --- state --- */

void client_get_stat(const struct client *client, struct ctxkv_stat *stat)
{
	const struct session *session = &client->session;

	*stat = client->stat;
	stat->size = sizeof(*stat);
	snprintf(stat->server, sizeof(stat->server), "%.63s", session->address);
	stat->breaker_opens = client->breaker.opens;
	stat->last_error = session->last_error;
	stat->block_max = session->welcome.block_max;
	stat->capacity = session->welcome.capacity;
	if (!session_is_up(client))
		return;
	stat->is_connected = 1;
	snprintf(stat->transport, sizeof(stat->transport), "%s", client->xprt->name);
	for (uint32_t i = 0; i < session->group.lane_count; i++)
		stat->lanes += session->group.lanes[i] != NULL;
}
