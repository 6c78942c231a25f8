/* SPDX-License-Identifier: Apache-2.0 */
/* A server's counters as text: one small request, no caller's memory in it. It goes to the first
 * server that can be reached. */
#include "client_priv.h"

void text_finish(struct client *client, struct client_text *text, int rc, const char *bytes,
		 uint32_t size)
{
	struct request *request = client_request_find(client, text->request);

	client->env->ops->timer_clear(client->env, &text->timer);
	list_del(&text->node);
	if (text->request != 0) {
		ASSERT(request != NULL);
		ASSERT(request->text == text);
		if (!request->has_last)
			request->lane->ghost_count++;
		client_request_free(client, request);
	}
	text->done(text, rc, rc < 0 ? NULL : bytes, rc < 0 ? 0 : size);
}

struct session *text_session(struct client *client)
{
	for (uint32_t i = 0; i < client->server_count; i++) {
		struct client_server *server = &client->servers[i];

		if (server->is_used && server->is_member && session_is_up(server->primary))
			return server->primary;
	}
	return NULL;
}

void text_fail_waiting(struct client *client, int status)
{
	struct client_text *text;

	while ((text = list_head(&client->texts, struct client_text, node)) != NULL)
		text_finish(client, text, status, NULL, 0);
}

static void text_late(struct env_timer *timer)
{
	struct client_text *text = CONTAINER_OF(timer, struct client_text, timer);

	text_finish(text->client, text, -ERR_DEADLINE, NULL, 0);
}

void client_server_stat(struct client *client, struct client_text *text)
{
	struct env *env = client->env;
	struct session *session;

	text->client = client;
	text->request = 0;
	text->timer = (struct env_timer) { .fire = text_late };
	env->ops->timer_set(env, &text->timer, env_now_ns(env) + text->timeout_ns);
	list_init(&text->node);
	list_add_tail(&client->texts, &text->node);
	members_want(client);
	session = text_session(client);
	if (session != NULL)
		session_pump(session);
	else if (members_are_out(client))
		text_fail_waiting(client, members_code(client));
}
