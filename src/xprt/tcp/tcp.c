/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a lane, the client's connect, and the table of ops.
 *
 * Normal path: a lane begins in connect(), or in tcp_listen.c when a connection is accepted. Then
 * it reacts: to its socket (lane_ready) and to its task (lane_run), which send() and the moves
 * defer. It ends by the user's close(), or by tcp_lane_break().
 *
 * Failure. tcp_lane_break() closes the socket at once, so that nothing more arrives or leaves; the
 * outermost tcp_lane_leave() then fails the moves, tells the user, and frees the lane. A socket
 * that cannot be sent to is first read to its end, for the peer's last word.
 */
#include "tcp.h"

#include "../../base/log.h"

#include <stdio.h>
#include <string.h>

/* --- life of a lane --- */

void tcp_lane_wake(struct tcp_lane *lane)
{
	if (!lane->is_closed)
		lane->lane.env->ops->defer(lane->lane.env, &lane->task);
}

static void lane_ready(struct env_sock *sock, void *ctx, uint32_t events);

void tcp_lane_watch(struct tcp_lane *lane)
{
	uint32_t events = 0;

	if (lane->is_connecting || lane->lane.is_blocked)
		events |= ENV_SOCK_OUT;
	if (!lane->is_connecting && !lane->rx.is_stalled)
		events |= ENV_SOCK_IN;
	if (events == lane->watched)
		return;
	lane->watched = events;
	lane->lane.env->ops->sock_watch(lane->lane.env, lane->sock, events, lane_ready, lane);
}

static void lane_shut(struct tcp_lane *lane)
{
	if (lane->sock == NULL)
		return;
	lane->lane.env->ops->sock_close(lane->lane.env, lane->sock);
	lane->sock = NULL;
	lane->lane.backlog_size = UINT64_MAX;
}

void tcp_lane_break(struct tcp_lane *lane, int why)
{
	ASSERT(why < 0);
	if (!tcp_lane_is_open(lane))
		return;
	lane->broken = why;
	if (lane->fault != NULL)
		log_warn("lane %s %s", lane->peer, lane->fault);
	else
		log_debug("lane %s ends: %s", lane->peer, err_str(why));
	lane_shut(lane);
	if (lane->depth == 0)
		tcp_lane_wake(lane);
}

/* Give back what the lane holds but its memory. */
static void lane_release(struct tcp_lane *lane)
{
	lane->lane.env->ops->timer_clear(lane->lane.env, &lane->rx_timer);
	lane_shut(lane);
	tcp_tls_end(lane);
	tcp_tx_fini(lane);
	list_del(&lane->wait_node);
	auth_mac_destroy(&lane->mac_in);
	auth_mac_destroy(&lane->mac_out);
	if (lane->client != NULL)
		tcp_puts_hand_over(lane);
}

static void lane_free(struct tcp_lane *lane)
{
	struct env *env = lane->lane.env;

	ASSERT(lane->is_closed);
	ASSERT(list_is_empty(&lane->finished));
	env->ops->undefer(env, &lane->task); /* deferred by a done(), too */
	lane->magic = 0;
	if (lane->listener != NULL) {
		/* Not before: the frame that is with the user may lie in it. */
		tcp_big_put(lane, &lane->rx.buf.big);
		door_lane_put(&lane->door);
		return;
	}
	env->ops->free(env, lane->client);
	env->ops->free(env, lane);
}

static void lane_fail_moves(struct tcp_lane *lane, int why)
{
	tcp_moves_fail(lane, why);
	tcp_moves_deliver(lane);
}

/* The end of a broken lane. */
static void lane_end(struct tcp_lane *lane)
{
	lane_release(lane);
	lane_fail_moves(lane, lane->broken);
	if (lane->is_closed)
		return; /* by the user, in a done() */
	lane->is_closed = true;
	if (lane->is_announced)
		lane->lane.user->closed(&lane->lane, lane->broken);
}

void tcp_lane_enter(struct tcp_lane *lane)
{
	CHECK_OBJ(lane, TCP_LANE_MAGIC);
	lane->depth++;
}

/* Nothing can be sent any more. */
static void lane_read_last(struct tcp_lane *lane)
{
	if (!lane->rx.is_stalled)
		tcp_rx_run(lane);
	if (tcp_lane_is_open(lane))
		tcp_lane_break(lane, lane->tx.broken);
}

void tcp_lane_leave(struct tcp_lane *lane)
{
	ASSERT(lane->depth == 1);
	if (tcp_lane_is_open(lane))
		tcp_tx_flush(lane);
	if (tcp_lane_is_open(lane) && lane->tx.broken != 0)
		lane_read_last(lane);
	tcp_moves_deliver(lane);
	if (tcp_lane_is_open(lane))
		tcp_tx_writable(lane);
	if (tcp_lane_is_open(lane))
		tcp_lane_watch(lane);
	if (lane->broken != 0 && !lane->is_closed)
		lane_end(lane);
	lane->depth--;
	if (lane->is_closed)
		lane_free(lane);
}

static void tcp_close(struct xprt_lane **xprt_lane)
{
	struct tcp_lane *lane;

	if (*xprt_lane == NULL)
		return;
	lane = tcp_of(*xprt_lane);
	*xprt_lane = NULL;
	if (lane->is_closed)
		return; /* in closed() */
	if (lane->broken == 0)
		tcp_tx_last(lane);
	lane->is_closed = true;
	lane->depth++;
	lane_release(lane);
	lane_fail_moves(lane, -ECANCELED);
	lane->depth--;
	if (lane->depth == 0)
		lane_free(lane);
}

/* The socket goes, the lane ends as if closed. */
static int tcp_detach(struct xprt_lane *xprt_lane, struct xprt_handover *out)
{
	struct tcp_lane *lane = tcp_of(xprt_lane);
	struct env *env = xprt_lane->env;
	int fd;

	ASSERT(lane->listener != NULL);
	ASSERT(lane->depth > 0);
	ASSERT(tcp_lane_is_open(lane));
	ASSERT(tcp_buf_have(&lane->rx.buf) == 0); /* the preface was received alone */
	fd = env->ops->sock_detach(env, lane->sock);
	if (fd < 0)
		return fd;
	lane->sock = NULL;
	lane->is_closed = true;
	lane_release(lane);
	*out = (struct xprt_handover) { .ops = &xprt_tcp, .fd = fd };
	return 0;
}

static void lane_run(struct env_task *task)
{
	struct tcp_lane *lane = CONTAINER_OF(task, struct tcp_lane, task);

	tcp_lane_enter(lane);
	if (tcp_lane_is_open(lane) && lane->rx.is_stalled)
		tcp_rx_run(lane);
	tcp_lane_leave(lane);
}

/* --- events --- */

static void lane_connected(struct tcp_lane *lane, uint32_t events)
{
	struct env *env = lane->lane.env;

	if ((events & ENV_SOCK_ERR) != 0) {
		char byte;
		struct iovec iov = { &byte, 1 };
		ssize_t why = env->ops->sock_recv(env, lane->sock, &iov, 1);

		tcp_lane_break(lane, why < 0 && why != -EAGAIN ? (int)why : -ERR_PEER);
		return;
	}
	lane->is_connecting = false;
	lane->lane.progress_ns = env_now_ns(env);
	if (lane->tls == NULL)
		lane->lane.user->opened(&lane->lane); /* else when TLS is up */
}

static void lane_ready(struct env_sock *sock, void *ctx, uint32_t events)
{
	struct tcp_lane *lane = ctx;

	tcp_lane_enter(lane);
	if (lane->is_connecting) {
		lane_connected(lane, events);
		tcp_lane_leave(lane);
		return;
	}
	if ((events & ENV_SOCK_OUT) != 0)
		lane->lane.is_blocked = false;
	if (lane->rx.is_stalled) {
		if ((events & ENV_SOCK_ERR) != 0)
			tcp_lane_break(lane, -ERR_PEER);
	} else if ((events & (ENV_SOCK_IN | ENV_SOCK_ERR)) != 0) {
		tcp_rx_run(lane);
	}
	tcp_lane_leave(lane);
}

void tcp_lane_init(struct tcp_lane *lane, struct env *env, const struct xprt_user *user,
		   struct env_sock *sock)
{
	*lane = (struct tcp_lane) {
		.lane = { .ops = &xprt_tcp, .user = user, .env = env },
		.magic = TCP_LANE_MAGIC,
		.sock = sock,
		.task = { .run = lane_run },
		.rx_timer = { .fire = tcp_rx_timer },
	};
	lane->lane.progress_ns = env_now_ns(env);
	list_init(&lane->asking);
	list_init(&lane->finished);
	list_init(&lane->tx.moves);
	list_init(&lane->wait_node);
	env->ops->sock_name(env, sock, true, lane->peer, sizeof(lane->peer));
}

/* --- client --- */

static int tcp_connect(struct env *env, const char *address, const struct wire_preface *preface,
		       const struct xprt_user *user, void *ctx, struct xprt_lane **out)
{
	struct tcp_client *client;
	struct tcp_lane *lane;
	struct env_sock *sock;
	int rc;

	lane = env->ops->alloc(env, sizeof(*lane));
	if (lane == NULL)
		return -ENOMEM;
	client = env->ops->alloc(env, sizeof(*client));
	if (client == NULL) {
		rc = -ENOMEM;
		goto err_free_lane;
	}
	rc = env->ops->sock_connect(env, address, &sock);
	if (rc < 0)
		goto err_free_client;

	tcp_lane_init(lane, env, user, sock);
	lane->lane.ctx = ctx;
	lane->client = client;
	lane->is_connecting = true;
	lane->is_announced = true;
	lane->rx = (struct tcp_rx) {
		.state = TCP_RX_HEADER,
		.buf = { .bytes = client->rx, .size = sizeof(client->rx) },
	};
	lane->tx.buf = (struct tcp_buf) { .bytes = client->tx, .size = sizeof(client->tx) };
	snprintf(lane->peer, sizeof(lane->peer), "%s", address);
	if ((preface->flags & WIRE_PREFACE_TLS) == 0) {
		tcp_tx_raw(lane, preface, sizeof(*preface));
	} else {
		rc = tcp_tls_begin(lane, preface);
		if (rc < 0)
			goto err_close_sock;
	}
	tcp_lane_watch(lane);
	*out = &lane->lane;
	return 0;

err_close_sock:
	env->ops->sock_close(env, sock);
err_free_client:
	env->ops->free(env, client);
err_free_lane:
	env->ops->free(env, lane);
	return rc;
}

/* --- small ops --- */

static void tcp_secure(struct xprt_lane *xprt_lane, struct auth_mac *out, struct auth_mac *in)
{
	struct tcp_lane *lane = tcp_of(xprt_lane);

	ASSERT(lane->mac_out == NULL);
	ASSERT(lane->mac_in == NULL);
	lane->mac_out = out;
	lane->mac_in = in;
	lane->tx.secure_from = lane->tx.position + tcp_buf_have(&lane->tx.buf);
}

static void tcp_peer_name(struct xprt_lane *xprt_lane, char *buf, size_t buf_size)
{
	snprintf(buf, buf_size, "%s", tcp_of(xprt_lane)->peer);
}

const struct xprt_ops xprt_tcp = {
	.name = "tcp",
	.transport = WIRE_XPRT_TCP,
	.lane_max = WIRE_LANE_MAX,
	.lane_size = sizeof(struct tcp_server_lane),
	.caps = XPRT_CAP_SYNC_RELEASE | XPRT_CAP_CLOSE_FENCES | XPRT_CAP_MAC | XPRT_CAP_TLS,
	.listen_size = door_listen_size,
	.listen = door_listen,
	.door = &tcp_door,
	.unlisten = door_unlisten,
	.listener_name = door_name,
	.detach = tcp_detach,
	.attach = tcp_attach,
	.discard = tcp_discard,
	.connect = tcp_connect,
	.send = tcp_send,
	.close = tcp_close,
	.secure = tcp_secure,
	.peer_name = tcp_peer_name,
	.push = tcp_push,
	.pull = tcp_pull,
	.revoke = tcp_revoke,
	.forget = tcp_forget,
};
