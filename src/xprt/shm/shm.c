/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a lane, its turn, frames, the client's connect, and the table of ops.
 *
 * Normal path: a lane begins in connect(), or in shm_listen.c when a connection is accepted. While
 * it is awake it has a turn whenever its loop looks (shm_lane_turn): publish what was written, read
 * frames, tell of room, copy for moves. It ends by the user's close(), or by shm_lane_break().
 *
 * Failure. What the peer does wrong breaks the lane with one log line. The outermost
 * shm_lane_leave() then fails the moves, tells the user, and says END to the peer; what was written
 * before is published, so that a refusal is read. A peer that hung up is read to the end first.
 */
#include "shm.h"

#include "../../base/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- awake and asleep --- */

void shm_lane_wake(struct shm_lane *lane)
{
	if (lane->is_closed || !list_is_empty(&lane->awake_node))
		return;
	lane->active_ns = env_now_ns(lane->lane.env);
	list_add_tail(&lane->poll->awake, &lane->awake_node);
	if (lane->memory == NULL)
		return;
	bell_unhang(&lane->rx.shared->bytes_bell);
	bell_unhang(&lane->tx.shared->room_bell);
}

/* What nobody would ring for. */
static bool lane_has_work(const struct shm_lane *lane)
{
	return lane->broken != 0 || lane->is_ended || !list_is_empty(&lane->moves) ||
	       !list_is_empty(&lane->finished) ||
	       (lane->memory != NULL && !ring_is_published(&lane->tx));
}

/* Whether there is something for it in the rings, or they are no good any more. */
static bool lane_is_called(struct shm_lane *lane)
{
	if (lane->state == SHM_OPEN && (ring_see_tail(&lane->rx) < 0 || ring_have(&lane->rx) > 0))
		return true;
	return lane->wanted > 0 &&
	       (ring_see_head(&lane->tx) < 0 || ring_room(&lane->tx) >= lane->wanted);
}

bool shm_lane_sleep(struct shm_lane *lane)
{
	if (lane_has_work(lane))
		return false;
	if (lane->memory != NULL) {
		if (lane->wanted > 0)
			bell_hang(&lane->tx.shared->room_bell);
		bell_hang(&lane->rx.shared->bytes_bell);
		if (lane_is_called(lane)) {
			bell_unhang(&lane->rx.shared->bytes_bell);
			bell_unhang(&lane->tx.shared->room_bell);
			return false;
		}
	}
	list_del(&lane->awake_node);
	return true;
}

/* --- life of a lane --- */

static void lane_ready(struct env_sock *sock, void *ctx, uint32_t events);

void shm_lane_watch(struct shm_lane *lane)
{
	uint32_t events = 0;

	if (lane->sock == NULL)
		return;
	if (lane->listener == NULL || lane->state != SHM_ENDING)
		events = lane->is_room_due ? ENV_SOCK_IN | ENV_SOCK_OUT : ENV_SOCK_IN;
	lane->lane.env->ops->sock_watch(lane->lane.env, lane->sock, events, lane_ready, lane);
}

void shm_lane_shut(struct shm_lane *lane)
{
	if (lane->sock == NULL)
		return;
	lane->lane.env->ops->sock_close(lane->lane.env, lane->sock);
	lane->sock = NULL;
}

bool shm_lane_fd_close(struct shm_lane *lane)
{
	struct env *env = lane->lane.env;
	bool is_memory = lane->in_fd < 0 || env->ops->fd_close(env, lane->in_fd);

	lane->in_fd = -1;
	return is_memory;
}

void shm_lane_break(struct shm_lane *lane, int why)
{
	char peer[128];

	ASSERT(why < 0);
	if (!shm_lane_is_open(lane))
		return;
	shm_lane_wake(lane); /* for the turn that ends it */
	lane->broken = why;
	lane->lane.backlog_size = UINT64_MAX;
	lane->lane.ops->peer_name(&lane->lane, peer, sizeof(peer));
	if (lane->fault != NULL)
		log_warn("lane %s %s", peer, lane->fault);
	else
		log_debug("lane %s ends: %s", peer, err_str(why));
}

void shm_lane_fault(struct shm_lane *lane, const char *what)
{
	lane->fault = what;
	shm_lane_break(lane, -ERR_PROTOCOL);
}

static bool frames_publish(struct shm_lane *lane)
{
	if (lane->memory == NULL || ring_is_published(&lane->tx))
		return false;
	ring_publish_tail(&lane->tx);
	if (bell_take(&lane->tx.shared->bytes_bell))
		shm_ring_bell(lane);
	return true;
}

/* All that the lane has of others: from here on it moves nothing. */
static void lane_release(struct shm_lane *lane, int why)
{
	frames_publish(lane);
	list_del(&lane->awake_node);
	lane->lane.backlog_size = UINT64_MAX;
	(void)shm_lane_fd_close(lane);
	shm_moves_fail(lane, why);
	shm_moves_deliver(lane);
	if (lane->listener != NULL)
		shm_regions_drop(lane);
}

/* What is left of it: the word to the peer that it is over, now or when it is true. */
static void lane_finish(struct shm_lane *lane)
{
	const struct shm_note end = { .kind = SHM_NOTE_END };
	struct env *env = lane->lane.env;

	if (lane->memory != NULL)
		env->ops->share_unmap(env, lane->memory);
	lane->memory = NULL;
	if (lane->client != NULL && !list_is_empty(&lane->client->fences)) {
		lane->state = SHM_ENDING;
		shm_fence_closed(lane);
	} else if (lane->hold_count > 0) {
		lane->state = SHM_ENDING;
		shm_lane_watch(lane);
	} else {
		lane->state = SHM_OPEN;
		/* When it cannot be said any more, nobody listens. */
		(void)shm_note_send(lane, &end, -1);
		shm_lane_shut(lane);
	}
}

void shm_lane_free(struct shm_lane *lane)
{
	struct env *env = lane->lane.env;

	ASSERT(lane->is_closed);
	ASSERT(lane->depth == 0);
	ASSERT(list_is_empty(&lane->finished));
	ASSERT(lane->hold_count == 0);
	lane->magic = 0;
	if (lane->listener != NULL) {
		door_lane_put(&lane->door);
		return;
	}
	shm_client_fini(lane->client, env);
	env->ops->free(env, lane->client);
	env->ops->free(env, lane);
}

static void lane_free_if_over(struct shm_lane *lane)
{
	if (lane->depth == 0 && lane->is_closed && lane->state != SHM_ENDING)
		shm_lane_free(lane);
}

void shm_lane_unheld(struct shm_lane *lane)
{
	if (lane->state != SHM_ENDING)
		return;
	lane_finish(lane);
	lane_free_if_over(lane);
}

/* The end of a broken lane. */
static void lane_end(struct shm_lane *lane)
{
	lane_release(lane, lane->broken);
	if (lane->is_closed)
		return; /* by the user, in a done() */
	lane->is_closed = true;
	if (lane->is_announced)
		lane->lane.user->closed(&lane->lane, lane->broken);
	lane_finish(lane);
}

void shm_lane_enter(struct shm_lane *lane)
{
	CHECK_OBJ(lane, SHM_LANE_MAGIC);
	ASSERT(lane->depth == 0);
	lane->depth++;
}

void shm_lane_leave(struct shm_lane *lane)
{
	ASSERT(lane->depth == 1);
	shm_moves_deliver(lane);
	if (lane->broken != 0 && !lane->is_closed)
		lane_end(lane);
	lane->depth--;
	lane_free_if_over(lane);
}

static void shm_close(struct xprt_lane **xprt_lane)
{
	struct shm_lane *lane;

	if (*xprt_lane == NULL)
		return;
	lane = shm_of(*xprt_lane);
	*xprt_lane = NULL;
	if (lane->is_closed)
		return; /* in closed() */
	lane->is_closed = true;
	lane->depth++;
	lane_release(lane, -ECANCELED);
	lane_finish(lane);
	lane->depth--;
	lane_free_if_over(lane);
}

/* --- frames --- */

static bool is_data(const struct wire_header *header)
{
	return header->kind == WIRE_DATA_GET || header->kind == WIRE_DATA_PUT ||
	       header->kind == WIRE_GRANT;
}

/* The rest of a frame, from the ring to lane->frame. False: it is no good. */
static bool frame_copy(struct shm_lane *lane, const struct wire_header *header, bool is_known)
{
	uint64_t size =
		round_up(header->body_size, RING_WORD) + round_up(header->payload_size, RING_WORD);

	if (size > ring_have(&lane->rx) || size > SHM_FRAME_MAX) {
		shm_lane_fault(lane, "sent a frame that is not all there");
		return false;
	}
	ring_read(&lane->rx, lane->frame, size);
	if (is_known && wire_check_body(header, lane->frame) < 0) {
		shm_lane_fault(lane, "sent a frame whose body is not allowed");
		return false;
	}
	return true;
}

static void frame_deliver(struct shm_lane *lane, const struct wire_header *header, bool is_known)
{
	struct xprt_frame frame = { .header = header, .body = lane->frame };
	int rc;

	lane->lane.progress_ns = lane->now_ns;
	lane->lane.bytes_in += sizeof(*header) + header->body_size + header->payload_size;
	if (!is_known && lane->client != NULL)
		return; /* a server says that it does not know it */
	if (header->payload_size > 0)
		frame.payload = lane->frame + round_up(header->body_size, RING_WORD);
	rc = lane->lane.user->frame(&lane->lane, &frame);
	if (rc < 0)
		shm_lane_break(lane, rc);
}

/* False: there is none, or the lane is broken. */
static bool frame_next(struct shm_lane *lane)
{
	struct wire_header header;
	bool is_known;
	int rc;

	if (ring_have(&lane->rx) == 0 && ring_see_tail(&lane->rx) < 0) {
		shm_lane_fault(lane, "moved its end of a ring where it cannot be");
		return false;
	}
	if (ring_have(&lane->rx) == 0)
		return false;
	if (ring_have(&lane->rx) < sizeof(header)) {
		shm_lane_fault(lane, "sent a frame that is not all there");
		return false;
	}
	ring_read(&lane->rx, &header, sizeof(header));
	rc = wire_check_header(&header, lane->client != NULL ? WIRE_S2C : WIRE_C2S);
	is_known = rc != -ERR_UNSUPPORTED;
	if ((is_known && rc < 0) || is_data(&header)) {
		shm_lane_fault(lane, "sent a frame whose header is not allowed");
		return false;
	}
	if (!frame_copy(lane, &header, is_known))
		return false;
	frame_deliver(lane, &header, is_known);
	return true;
}

static bool frames_read(struct shm_lane *lane)
{
	bool has_all = false;
	uint32_t count = 0;

	while (count < SHM_TURN_FRAMES && shm_lane_is_open(lane) && !has_all) {
		has_all = !frame_next(lane);
		count += !has_all;
	}
	if (!shm_lane_is_open(lane))
		return true;
	if (!ring_is_published(&lane->rx)) {
		ring_publish_head(&lane->rx);
		if (bell_take(&lane->rx.shared->room_bell))
			shm_ring_bell(lane);
	}
	if (lane->is_ended && has_all)
		shm_lane_break(lane, -ERR_PEER);
	return count > 0;
}

int shm_send(struct xprt_lane *xprt_lane, struct wire_header *header, const void *body,
	     const struct iovec *payload, uint32_t payload_count)
{
	struct shm_lane *lane = shm_of(xprt_lane);
	struct ring *tx = &lane->tx;
	uint64_t size = sizeof(*header) + round_up(header->body_size, RING_WORD) +
			round_up(header->payload_size, RING_WORD);

	ASSERT(!lane->is_closed);
	ASSERT(size <= SHM_FRAME_MAX);
	header->magic = WIRE_MAGIC;
	if (lane->broken != 0)
		return lane->broken;
	shm_lane_wake(lane);
	if (ring_room(tx) < size && ring_see_head(tx) < 0) {
		shm_lane_fault(lane, "moved its end of a ring where it cannot be");
		return lane->broken;
	}
	if (ring_room(tx) < size) {
		lane->wanted = (uint32_t)size;
		return -EAGAIN;
	}
	ring_write(tx, header, sizeof(*header));
	if (header->body_size > 0)
		ring_write(tx, body, header->body_size);
	ring_write_pad(tx);
	for (uint32_t i = 0; i < payload_count; i++) {
		if (payload[i].iov_len > 0)
			ring_write(tx, payload[i].iov_base, payload[i].iov_len);
	}
	ring_write_pad(tx);
	xprt_lane->bytes_out += sizeof(*header) + header->body_size + header->payload_size;
	return 0;
}

/* There is room again for what send() had none for. */
static bool room_look(struct shm_lane *lane)
{
	if (lane->wanted == 0)
		return false;
	if (ring_see_head(&lane->tx) < 0) {
		shm_lane_fault(lane, "moved its end of a ring where it cannot be");
		return true;
	}
	if (ring_room(&lane->tx) < lane->wanted)
		return false;
	lane->wanted = 0;
	lane->lane.user->writable(&lane->lane);
	return true;
}

bool shm_lane_turn(struct shm_lane *lane, uint64_t now_ns, uint64_t *budget)
{
	bool is_busy = true;

	shm_lane_enter(lane);
	lane->now_ns = now_ns;
	if (shm_lane_is_open(lane) && lane->memory != NULL) {
		is_busy = frames_publish(lane);
		is_busy |= lane->state == SHM_OPEN && frames_read(lane);
		is_busy |= shm_lane_is_open(lane) && room_look(lane);
		is_busy |= shm_lane_is_open(lane) && shm_moves_run(lane, budget);
	}
	if (is_busy)
		lane->active_ns = now_ns;
	else if (now_ns - lane->active_ns > SHM_AWAKE_NS)
		(void)shm_lane_sleep(lane);
	shm_lane_leave(lane);
	return is_busy;
}

/* --- the socket --- */

static void lane_ready(struct env_sock *sock, void *ctx, uint32_t events)
{
	struct shm_lane *lane = ctx;

	shm_lane_enter(lane);
	if (lane->listener != NULL && lane->state == SHM_ENDING) {
		shm_lane_shut(lane); /* nobody is there to be told */
	} else {
		if ((events & ENV_SOCK_OUT) != 0) {
			lane->is_room_due = false;
			shm_lane_watch(lane);
			if (shm_lane_is_open(lane))
				lane->lane.user->writable(&lane->lane);
			else if (lane->state == SHM_ENDING)
				shm_fence_say_end(lane);
		}
		if ((events & (ENV_SOCK_IN | ENV_SOCK_ERR)) != 0)
			shm_notes_receive(lane);
	}
	shm_lane_leave(lane);
}

void shm_lane_init(struct shm_lane *lane, struct env *env, const struct xprt_user *user,
		   struct env_sock *sock, struct shm_poll *poll)
{
	*lane = (struct shm_lane) {
		.lane = { .ops = &xprt_shm, .user = user, .env = env },
		.magic = SHM_LANE_MAGIC,
		.sock = sock,
		.poll = poll,
		.in_fd = -1,
	};
	lane->lane.progress_ns = env_now_ns(env);
	list_init(&lane->awake_node);
	list_init(&lane->moves);
	list_init(&lane->finished);
}

void shm_lane_rings(struct shm_lane *lane, struct shm_memory *memory)
{
	uint32_t in = lane->client != NULL ? SHM_S2C : SHM_C2S;

	lane->memory = memory;
	ring_init(&lane->rx, &memory->rings[in], memory->bytes[in]);
	ring_init(&lane->tx, &memory->rings[!in], memory->bytes[!in]);
}

/* --- client --- */

static struct shm_lane *client_lane(struct shm_poll *poll)
{
	return list_head(&poll->awake, struct shm_lane, awake_node);
}

/* The lane, and the poller with it, may be gone behind its turn. */
static bool client_look(struct env_poller *poller)
{
	struct shm_poll *poll = CONTAINER_OF(poller, struct shm_poll, poller);
	struct shm_lane *lane = client_lane(poll);
	uint64_t budget = 0; /* a client moves nothing */

	return lane != NULL && shm_lane_turn(lane, env_now_ns(poll->env), &budget);
}

static bool client_sleep(struct env_poller *poller)
{
	struct shm_lane *lane = client_lane(CONTAINER_OF(poller, struct shm_poll, poller));

	return lane == NULL || shm_lane_sleep(lane);
}

void shm_poll_init(struct shm_poll *poll, struct env *env, bool (*look)(struct env_poller *poller),
		   bool (*sleep)(struct env_poller *poller))
{
	*poll = (struct shm_poll) { .poller = { .look = look, .sleep = sleep }, .env = env };
	list_init(&poll->awake);
	list_init(&poll->poller.node);
	env->ops->poller_add(env, &poll->poller);
}

static void client_open(struct env_task *task)
{
	struct shm_client *client = CONTAINER_OF(task, struct shm_client, opening);
	struct shm_lane *lane = client->lane;

	shm_lane_enter(lane);
	if (shm_lane_is_open(lane))
		lane->lane.user->opened(&lane->lane);
	shm_lane_leave(lane);
}

/* The memory with the rings, and the socket with its preface and descriptor sent. */
static int client_dial(struct env *env, const char *address, const struct wire_preface *preface,
		       struct shm_memory **memory_out, struct env_sock **sock_out)
{
	struct iovec iov = { (void *)(uintptr_t)preface, sizeof(*preface) };
	char path[256];
	void *memory;
	ssize_t sent;
	int fd;
	int rc;

	snprintf(path, sizeof(path), "%s%s", address[0] == '/' ? "unix:" : "", address);
	if (strncmp(path, "unix:", 5) != 0)
		return -EINVAL;
	rc = env->ops->sock_connect(env, path, sock_out);
	if (rc < 0)
		return rc;
	rc = env->ops->share_make(env, sizeof(struct shm_memory), &fd, &memory);
	if (rc < 0)
		goto err_close_sock;
	*memory_out = memory;
	(*memory_out)->version = SHM_VERSION;
	sent = env->ops->sock_send_fds(env, *sock_out, &iov, 1, &fd, 1);
	close(fd);
	if (sent == (ssize_t)sizeof(*preface))
		return 0;

	rc = sent < 0 ? (int)sent : -ERR_PEER;
	env->ops->share_unmap(env, memory);
err_close_sock:
	env->ops->sock_close(env, *sock_out);
	return rc;
}

static int shm_connect(struct env *env, const char *address, const struct wire_preface *preface,
		       const struct xprt_user *user, void *ctx, struct xprt_lane **out)
{
	struct shm_lane *lane = env->ops->alloc(env, sizeof(*lane));
	struct shm_client *client;
	struct shm_memory *memory;
	struct env_sock *sock;
	int rc;

	if (lane == NULL)
		return -ENOMEM;
	client = env->ops->alloc(env, sizeof(*client));
	if (client == NULL) {
		rc = -ENOMEM;
		goto err_free_lane;
	}
	rc = client_dial(env, address, preface, &memory, &sock);
	if (rc < 0)
		goto err_free_client;

	shm_poll_init(&client->poll, env, client_look, client_sleep);
	shm_lane_init(lane, env, user, sock, &client->poll);
	shm_client_init(client, lane);
	client->opening.run = client_open;
	snprintf(client->address, sizeof(client->address), "%s", address);
	lane->lane.ctx = ctx;
	lane->client = client;
	lane->frame = client->frame;
	lane->state = SHM_OPEN;
	lane->is_announced = true;
	shm_lane_rings(lane, memory);
	shm_lane_watch(lane);
	shm_lane_wake(lane);
	env->ops->defer(env, &client->opening);
	*out = &lane->lane;
	return 0;

err_free_client:
	env->ops->free(env, client);
err_free_lane:
	env->ops->free(env, lane);
	return rc;
}

/* --- small ops --- */

/* Each reactor has its own door: nobody is handed over. */
static int shm_detach(struct xprt_lane *lane, struct xprt_handover *out)
{
	return -ERR_UNSUPPORTED;
}

static void shm_attach(struct xprt_listener *listener, const struct xprt_handover *taken)
{
	ASSERT(false);
}

static void shm_discard(struct env *env, const struct xprt_handover *taken)
{
	ASSERT(false);
}

static void shm_peer_name(struct xprt_lane *xprt_lane, char *buf, size_t buf_size)
{
	const struct shm_lane *lane = shm_of(xprt_lane);

	snprintf(buf, buf_size, "%s",
		 lane->client != NULL ? lane->client->address : lane->listener->door.address);
}

const struct xprt_ops xprt_shm = {
	.name = "shm",
	.transport = WIRE_XPRT_SHM,
	.caps = XPRT_CAP_DIRECT | XPRT_CAP_MAPPED,
	.seg_max = XPRT_MOVE_SEG_MAX,
	.lane_max = 1,
	.lane_size = sizeof(struct shm_server_lane),
	.listen_size = door_listen_size,
	.listen = door_listen,
	.door = &shm_door,
	.unlisten = door_unlisten,
	.listener_name = door_name,
	.detach = shm_detach,
	.attach = shm_attach,
	.discard = shm_discard,
	.connect = shm_connect,
	.send = shm_send,
	.close = shm_close,
	.secure = xprt_secure_none,
	.peer_name = shm_peer_name,
	.push = shm_push,
	.pull = shm_pull,
	.revoke = shm_revoke,
	.declare = shm_declare,
	.undeclare = shm_undeclare,
	.region_add = shm_region_add,
	.region_remove = shm_region_remove,
	.map = shm_map,
	.unmap = shm_unmap,
	.fence = shm_fence,
};
