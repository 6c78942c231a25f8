/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Client: the end of a session whose server may still write into declared memory.
 *
 * Normal path: the user asks for a fence and closes the lane. The lane says END and stays, in
 * nobody's sight, until the server's END: it has no move under way and holds no mapping any more.
 *
 * Failure. The server is dead: its socket ends without END, and its process has ended (the
 * descriptor that it passed at the beginning; two PID namespaces do not matter to it). Copies ended
 * with it. What it gave to the kernel may go on for the device's io_timeout, if it said (DIRECT)
 * that it ever did that. It is frozen: the fence waits; a watchdog ends it. It never told its
 * process: the end of the socket has to do. No region was declared: there is nothing to wait for.
 */
#include "shm.h"

#include <unistd.h>

static void fences_run(struct env_task *task)
{
	struct shm_client *client = CONTAINER_OF(task, struct shm_client, fence_task);
	struct shm_lane *lane = client->lane;
	struct xprt_fence *fence;
	struct list done;

	list_init(&done);
	list_splice_tail(&done, &client->fences);
	if (lane->state == SHM_ENDING) {
		lane->state = SHM_OPEN;
		shm_lane_shut(lane);
		shm_lane_free(lane);
	}
	while ((fence = list_head(&done, struct xprt_fence, node)) != NULL) {
		list_del(&fence->node);
		fence->done(fence);
	}
}

static void io_is_over(struct env_timer *timer)
{
	struct shm_client *client = CONTAINER_OF(timer, struct shm_client, io_timer);

	client->is_free = true;
	shm_fence_look(client->lane);
}

/* The process is dead, and it said no END. */
static void server_is_dead(struct shm_lane *lane)
{
	struct shm_client *client = lane->client;
	struct env *env = lane->lane.env;

	if (client->io_ms == 0)
		client->is_free = true;
	else if (!client->io_timer.is_set)
		env->ops->timer_set(env, &client->io_timer,
				    env_now_ns(env) + client->io_ms * NS_PER_MS);
}

static void process_ended(struct env_sock *sock, void *ctx, uint32_t events)
{
	struct shm_lane *lane = ctx;
	struct env *env = lane->lane.env;

	shm_lane_enter(lane);
	env->ops->sock_close(env, sock);
	lane->client->process = NULL;
	shm_notes_receive(lane); /* its last word, if it had one */
	shm_lane_shut(lane);
	shm_fence_look(lane);
	shm_lane_leave(lane);
}

/* Its process is watched from now on. Without a handle for that the socket's end has to do. */
static void process_watch(struct shm_lane *lane)
{
	struct shm_client *client = lane->client;
	struct env *env = lane->lane.env;
	int rc;

	if (client->process_fd < 0)
		return;
	rc = env->ops->sock_adopt(env, client->process_fd, &client->process);
	client->process_fd = -1; /* taken */
	if (rc < 0)
		client->process = NULL;
	else
		env->ops->sock_watch(env, client->process, ENV_SOCK_IN, process_ended, lane);
}

void shm_fence_look(struct shm_lane *lane)
{
	struct shm_client *client = lane->client;
	struct env *env = lane->lane.env;

	if (client == NULL || list_is_empty(&client->fences))
		return;
	list_for_each (node, &client->fences)
		list_entry(node, struct xprt_fence, node)->io_ms = client->io_ms;
	if (lane->state == SHM_ENDING)
		process_watch(lane); /* it may have been told of after the close */
	if (client->has_end || !client->has_regions)
		client->is_free = true;
	if (!client->is_free && lane->state == SHM_ENDING && lane->sock == NULL &&
	    client->process == NULL)
		server_is_dead(lane);
	if (client->is_free)
		env->ops->defer(env, &client->fence_task);
}

void shm_fence_say_end(struct shm_lane *lane)
{
	const struct shm_note end = { .kind = SHM_NOTE_END };

	/* Where nobody listens any more, the socket's end is heard, behind all that was said. */
	if (shm_note_send(lane, &end, -1) == -EAGAIN)
		lane->is_room_due = true;
	shm_lane_watch(lane);
}

void shm_fence_closed(struct shm_lane *lane)
{
	shm_fence_say_end(lane);
	shm_notes_receive(lane); /* its process, its drive, its END: they may be here already */
	shm_fence_look(lane);
}

void shm_fence(struct xprt_lane *xprt_lane, struct xprt_fence *fence)
{
	struct shm_lane *lane = shm_of(xprt_lane);

	ASSERT(lane->client != NULL);
	list_add_tail(&lane->client->fences, &fence->node);
	shm_fence_look(lane);
}

void shm_client_init(struct shm_client *client, struct shm_lane *lane)
{
	client->lane = lane;
	client->process_fd = -1;
	client->fence_task.run = fences_run;
	client->io_timer.fire = io_is_over;
	client->pass_timer.fire = shm_declare_again;
	list_init(&client->fences);
}

void shm_client_fini(struct shm_client *client, struct env *env)
{
	ASSERT(list_is_empty(&client->fences));
	env->ops->undefer(env, &client->opening);
	env->ops->undefer(env, &client->fence_task);
	env->ops->timer_clear(env, &client->io_timer);
	env->ops->timer_clear(env, &client->pass_timer);
	env->ops->poller_remove(env, &client->poll.poller);
	if (client->process != NULL)
		env->ops->sock_close(env, client->process);
	if (client->process_fd >= 0)
		close(client->process_fd);
}
