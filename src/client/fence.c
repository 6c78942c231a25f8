/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions that are gone although their server may still read and write memory for them.
 *
 * Over most transports the end of a session's lanes ends that, too. Where it does not (shared
 * memory: a server that stands still in a copy goes on with it when it wakes, and what it gave to
 * the kernel outlives it), the session's requests that name memory are its fence's from then on:
 * their items have their outcome, and
 *   - an op whose own memory is named gets its RELEASE when the transport says that the fence is
 *     done: by the server's word, or when its process has ended
 *   - an op that is staged is released at once; its slots stay taken until then: nobody else's
 *     bytes are read or written in them.
 *
 * Every session of such a transport has taken its fence before it is used, so that none is missing
 * when it is lost. A new session to the same server may be up meanwhile.
 *
 * Failure: the server neither answers nor ends: what waits, waits, and the log says so. Closing the
 * client: client_end().
 */
#include <stdio.h>

#include "../base/log.h"
#include "client_priv.h"

#define FENCE_LATE_NS NS_PER_S

struct fence *fence_take(struct client *client)
{
	struct fence *fence = list_head(&client->free_fences, struct fence, node);

	if (fence != NULL)
		list_del(&fence->node);
	return fence;
}

void fence_give(struct session *session)
{
	if (session->fence == NULL)
		return;
	ASSERT(session->fence->request_count == 0);
	list_add_tail(&session->client->free_fences, &session->fence->node);
	session->fence = NULL;
}

static void fence_late(struct env_timer *timer)
{
	struct fence *fence = CONTAINER_OF(timer, struct fence, timer);

	fence->is_late = true;
	log_warn("server %s does not answer: memory of %u requests waits until it does, or has "
		 "ended",
		 fence->server, fence->request_count);
}

static void fence_done(struct xprt_fence *xprt_fence)
{
	struct fence *fence = CONTAINER_OF(xprt_fence, struct fence, fence);
	struct client *client = fence->client;
	struct env *env = client->env;

	CHECK_OBJ(client, CLIENT_MAGIC);
	for (uint32_t i = 0; i < client->request_slots && fence->request_count > 0; i++) {
		struct request *request = &client->requests[i];

		if (request->id != 0 && request->fence == fence)
			request_over(client, request);
	}
	ASSERT(fence->request_count == 0);
	env->ops->timer_clear(env, &fence->timer);
	if (fence->is_late)
		log_warn("server %s: memory is free again after %llu ms", fence->server,
			 (unsigned long long)((env_now_ns(env) - fence->begin_ns) / NS_PER_MS));
	list_del(&fence->node);
	list_add_tail(&client->free_fences, &fence->node);
	sessions_pump_later(client);
}

static bool is_needed(const struct session *session)
{
	const struct client *client = session->client;

	if (!session_is_fenced(session) || session->lanes[0].lane == NULL)
		return false;
	for (uint32_t i = 0; i < client->request_slots; i++) {
		const struct request *request = &client->requests[i];

		if (request->id != 0 && request->session == session && request_is_exposed(request))
			return true;
	}
	return false;
}

struct fence *fence_begin(struct session *session)
{
	struct client *client = session->client;
	struct fence *fence = session->fence;
	struct env *env = client->env;

	if (!is_needed(session)) {
		fence_give(session);
		return NULL;
	}
	ASSERT(fence != NULL);
	session->fence = NULL;
	fence->fence = (struct xprt_fence) { .done = fence_done };
	fence->client = client;
	fence->stall_ms = session->welcome.stall_ms;
	fence->begin_ns = env_now_ns(env);
	fence->is_late = false;
	fence->timer.fire = fence_late;
	snprintf(fence->server, sizeof(fence->server), "%s", session->server->address);
	list_add_tail(&client->fences, &fence->node);
	env->ops->timer_set(env, &fence->timer, fence->begin_ns + FENCE_LATE_NS);
	session->xprt->fence(session->lanes[0].lane, &fence->fence);
	return fence;
}

static void request_to_fence(struct fence *fence, struct request *request)
{
	struct client *client = fence->client;
	struct session *session = request->session;

	ASSERT(session->request_count > 0);
	client->shared_used -= session->request_count > SLOTS_A_SESSION;
	session->request_count--;
	client->shared_used += fence->request_count >= SLOTS_A_SESSION;
	fence->request_count++;
	request->session = NULL;
	request->lane = NULL;
	request->fence = fence;
}

void fence_add(struct fence *fence, struct request *request, int status)
{
	struct client_op *cop = request->cop;
	const struct request was = *request;

	request_to_fence(fence, request);
	if (cop == NULL)
		return;
	if (!request->is_in_place)
		request_orphan(request);
	request_lose_units(cop, &was, status);
}

void fence_init(struct client *client)
{
	list_init(&client->fences);
	list_init(&client->free_fences);
	for (uint32_t i = 0; i < client->fence_count; i++) {
		list_init(&client->fence_rows[i].node);
		list_add_tail(&client->free_fences, &client->fence_rows[i].node);
	}
}
