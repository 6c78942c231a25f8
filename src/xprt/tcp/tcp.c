/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners, connections, and the life of a lane.
 *
 * Normal path, server: a connection is accepted into a lane of the pool; its preface arrives and is
 * checked; user->accepted(). Client: connect() queues the preface; the socket is connected;
 * user->opened(). Then frames and moves, until close() or the peer ends it.
 *
 * Limits. A connection that sends no preface for TCP_PREFACE_NS is closed, and the oldest of them
 * when there are more than TCP_PREFACE_MAX or no lane is left; if there is none to close, the
 * listener rests until a lane is free. A preface of another version is answered with a REFUSE.
 *
 * Failure. tcp_lane_break() closes the socket at once, so that nothing more arrives or leaves; the
 * outermost tcp_lane_leave() then fails the moves, tells the user, and frees the lane.
 */
#include "tcp.h"

#include "../../base/log.h"

#include <stdio.h>
#include <string.h>

static void listener_watch(struct tcp_listener *listener);
static void tick_arm(struct tcp_listener *listener);
static void listener_free(struct tcp_listener *listener);

/* --- life of a lane --- */

void tcp_lane_wake(struct tcp_lane *lane)
{
	if (!lane->is_closed)
		lane->lane.env->ops->defer(lane->lane.env, &lane->task);
}

static void lane_ready(struct env_sock *sock, void *ctx, uint32_t events);

static void lane_watch(struct tcp_lane *lane)
{
	uint32_t events = 0;

	if (lane->is_connecting || lane->tx.is_blocked)
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
	lane_shut(lane);
	lane->lane.env->ops->undefer(lane->lane.env, &lane->task);
	tcp_big_put(lane, &lane->rx.big);
	tcp_tx_fini(lane);
	list_del(&lane->wait_node);
	auth_mac_destroy(&lane->mac_in);
	auth_mac_destroy(&lane->mac_out);
	if (lane->client != NULL)
		tcp_puts_hand_over(lane);
}

/* A server's lane goes back to the pool, and there is room for a connection. */
static void lane_pool_put(struct tcp_lane *lane)
{
	struct tcp_listener *listener = lane->listener;

	if (lane->rx.state == TCP_RX_PREFACE)
		listener->preface_count--;
	list_del(&lane->node);
	lane->magic = 0;
	list_add_tail(&listener->free, &lane->node);
	listener->lanes_held--;
	if (!listener->is_unlistened)
		listener_watch(listener);
	else if (listener->lanes_held == 0)
		listener_free(listener);
}

static void lane_free(struct tcp_lane *lane)
{
	struct env *env = lane->lane.env;

	ASSERT(lane->is_closed);
	ASSERT(list_is_empty(&lane->finished));
	if (lane->listener != NULL) {
		lane_pool_put(lane);
		return;
	}
	lane->magic = 0;
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

void tcp_lane_leave(struct tcp_lane *lane)
{
	ASSERT(lane->depth == 1);
	if (tcp_lane_is_open(lane))
		tcp_tx_flush(lane);
	tcp_moves_deliver(lane);
	if (tcp_lane_is_open(lane))
		tcp_tx_writable(lane);
	if (tcp_lane_is_open(lane))
		lane_watch(lane);
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
	lane->lane.user->opened(&lane->lane);
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
		lane->tx.is_blocked = false;
	if (lane->rx.is_stalled) {
		if ((events & ENV_SOCK_ERR) != 0)
			tcp_lane_break(lane, -ERR_PEER);
	} else if ((events & (ENV_SOCK_IN | ENV_SOCK_ERR)) != 0) {
		tcp_rx_run(lane);
	}
	tcp_lane_leave(lane);
}

static void lane_init(struct tcp_lane *lane, struct env *env, const struct xprt_user *user,
		      struct env_sock *sock)
{
	*lane = (struct tcp_lane) {
		.lane = { .ops = &xprt_tcp, .user = user, .env = env },
		.magic = TCP_LANE_MAGIC,
		.sock = sock,
		.task = { .run = lane_run },
		.accepted_ns = env_now_ns(env),
	};
	lane->lane.progress_ns = lane->accepted_ns;
	list_init(&lane->asking);
	list_init(&lane->finished);
	list_init(&lane->tx.moves);
	list_init(&lane->node);
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

	lane_init(lane, env, user, sock);
	lane->lane.ctx = ctx;
	lane->client = client;
	lane->is_connecting = true;
	lane->is_announced = true;
	lane->rx = (struct tcp_rx) {
		.state = TCP_RX_HEADER,
		.buf = client->rx,
		.size = sizeof(client->rx),
	};
	lane->tx.buf = client->tx;
	lane->tx.size = sizeof(client->tx);
	snprintf(lane->peer, sizeof(lane->peer), "%s", address);
	tcp_tx_raw(lane, preface, sizeof(*preface));
	lane_watch(lane);
	*out = &lane->lane;
	return 0;

err_free_client:
	env->ops->free(env, client);
err_free_lane:
	env->ops->free(env, lane);
	return rc;
}

/* --- big buffers --- */

uint8_t *tcp_big_get(struct tcp_lane *lane)
{
	struct tcp_listener *listener = lane->listener;

	ASSERT(listener != NULL); /* a client's own buffers hold any frame */
	if (listener->big_free_count > 0)
		return listener->big_free[--listener->big_free_count];
	if (list_is_empty(&lane->wait_node))
		list_add_tail(&listener->waiters, &lane->wait_node);
	tick_arm(listener);
	return NULL;
}

void tcp_big_put(struct tcp_lane *lane, uint8_t **big)
{
	struct tcp_listener *listener = lane->listener;

	if (*big == NULL)
		return;
	ASSERT(listener->big_free_count < listener->big_count);
	listener->big_free[listener->big_free_count++] = *big;
	*big = NULL;
	/* All that wait try; who is too late waits again. */
	list_for_each_safe (node, &listener->waiters) {
		list_del(node);
		tcp_lane_wake(CONTAINER_OF(node, struct tcp_lane, wait_node));
	}
}

/* --- listener --- */

/* Answer a connection that is not wanted. */
static void lane_refuse(struct tcp_lane *lane, int why)
{
	struct wire_refuse refuse = { .code = why };
	struct wire_header header;

	snprintf((char *)refuse.text, sizeof(refuse.text), "%s", err_str(why));
	wire_header_init(&header, WIRE_REFUSE, 0, 0, sizeof(refuse));
	if (tcp_tx_frame(lane, &header, &refuse) == 0)
		tcp_tx_last(lane);
	tcp_lane_break(lane, why);
}

void tcp_lane_accepted(struct tcp_lane *lane, const struct wire_preface *preface)
{
	struct tcp_listener *listener = lane->listener;
	int rc;

	list_del(&lane->node);
	list_add_tail(&listener->live, &lane->node);
	listener->preface_count--;
	rc = wire_check_preface(preface);
	if (rc == -ERR_PROTOCOL) {
		lane->fault = "sent no preface of ours";
		tcp_lane_break(lane, rc);
		return;
	}
	if (rc == 0)
		rc = lane->lane.user->accepted(&listener->listener, &lane->lane, preface);
	if (lane->is_closed)
		return;
	if (rc < 0)
		lane_refuse(lane, rc);
	else
		lane->is_announced = true;
}

static void lane_drop(struct tcp_lane *lane, int why, const char *fault)
{
	tcp_lane_enter(lane);
	lane->fault = fault;
	tcp_lane_break(lane, why);
	tcp_lane_leave(lane);
}

/* Make room in the pool at the cost of the connection that has longest sent nothing. */
static bool preface_drop(struct tcp_listener *listener)
{
	struct tcp_lane *oldest = list_head(&listener->prefaces, struct tcp_lane, node);

	if (oldest == NULL)
		return false;
	lane_drop(oldest, -ERR_BUSY, NULL);
	return true;
}

static void lane_accept(struct tcp_listener *listener, struct env_sock *sock)
{
	struct tcp_lane *lane = list_head(&listener->free, struct tcp_lane, node);
	struct tcp_server_lane *server = CONTAINER_OF(lane, struct tcp_server_lane, tcp);

	list_del(&lane->node);
	lane_init(lane, listener->listener.env, listener->listener.user, sock);
	lane->listener = listener;
	lane->rx = (struct tcp_rx) {
		.state = TCP_RX_PREFACE,
		.buf = server->rx,
		.size = sizeof(server->rx),
	};
	lane->tx.buf = server->tx;
	lane->tx.size = sizeof(server->tx);
	list_add_tail(&listener->prefaces, &lane->node);
	listener->preface_count++;
	listener->lanes_held++;
	lane_watch(lane);
	tick_arm(listener);
}

static void listener_ready(struct env_sock *sock, void *ctx, uint32_t events)
{
	struct tcp_listener *listener = ctx;
	struct env *env = listener->listener.env;

	CHECK_OBJ(listener, TCP_LISTENER_MAGIC);
	for (uint32_t i = 0; i < TCP_PREFACE_MAX; i++) {
		struct env_sock *accepted;
		int rc;
		bool is_full = listener->preface_count == TCP_PREFACE_MAX ||
			       list_is_empty(&listener->free);

		if (is_full && i > 0)
			return; /* whether another one waits is not known: the event says */
		if (is_full && !preface_drop(listener))
			goto rest;
		rc = env->ops->sock_accept(env, listener->sock, &accepted);
		if (rc == -EAGAIN)
			return;
		if (rc < 0) {
			log_warn("listener %s cannot accept: %s", xprt_tcp.name, err_str(rc));
			goto rest;
		}
		lane_accept(listener, accepted);
	}
	return;

rest: /* until a lane is free, or the next tick */
	listener->is_accepting = false;
	env->ops->sock_watch(env, listener->sock, 0, listener_ready, listener);
	tick_arm(listener);
}

static void listener_watch(struct tcp_listener *listener)
{
	struct env *env = listener->listener.env;

	if (listener->is_accepting)
		return;
	listener->is_accepting = true;
	env->ops->sock_watch(env, listener->sock, ENV_SOCK_IN, listener_ready, listener);
}

/* --- ticks: what has a time limit --- */

static void tick_arm(struct tcp_listener *listener)
{
	struct env *env = listener->listener.env;
	bool has_work = !list_is_empty(&listener->prefaces) || !list_is_empty(&listener->waiters) ||
			(!listener->is_accepting && !listener->is_unlistened);

	if (has_work && !listener->tick.is_set)
		env->ops->timer_set(env, &listener->tick, env_now_ns(env) + TCP_TICK_NS);
}

/* A lane that holds a big buffer and does not move, or NULL. */
static struct tcp_lane *holder_find(struct tcp_listener *listener, uint64_t now_ns)
{
	list_for_each (node, &listener->live) {
		struct tcp_lane *lane = CONTAINER_OF(node, struct tcp_lane, node);

		if ((lane->rx.big != NULL || lane->tx.big != NULL) && tcp_lane_is_open(lane) &&
		    now_ns - lane->lane.progress_ns >= TCP_STALL_NS)
			return lane;
	}
	return NULL;
}

static void tick_fire(struct env_timer *timer)
{
	struct tcp_listener *listener = CONTAINER_OF(timer, struct tcp_listener, tick);
	uint64_t now_ns = env_now_ns(listener->listener.env);
	struct tcp_lane *lane;

	CHECK_OBJ(listener, TCP_LISTENER_MAGIC);
	while ((lane = list_head(&listener->prefaces, struct tcp_lane, node)) != NULL &&
	       now_ns - lane->accepted_ns >= TCP_PREFACE_NS)
		lane_drop(lane, -ETIMEDOUT, NULL);
	while (!list_is_empty(&listener->waiters) && (lane = holder_find(listener, now_ns)) != NULL)
		lane_drop(lane, -ETIMEDOUT, "held a buffer that others wait for");
	if (!listener->is_unlistened)
		listener_watch(listener);
	tick_arm(listener);
}

/* --- listen, unlisten --- */

static uint32_t big_count_of(uint32_t lane_max)
{
	return MIN(lane_max, TCP_BIG_COUNT);
}

static uint64_t tcp_listen_size(uint32_t lane_max)
{
	return sizeof(struct tcp_listener) + lane_max * sizeof(struct tcp_server_lane) +
	       big_count_of(lane_max) * TCP_BIG_SIZE;
}

static void listener_free(struct tcp_listener *listener)
{
	struct env *env = listener->listener.env;

	ASSERT(listener->lanes_held == 0);
	env->ops->timer_clear(env, &listener->tick);
	env->ops->unmap(env, listener->bigs, listener->big_count * TCP_BIG_SIZE);
	env->ops->unmap(env, listener->lanes,
			round_up(listener->lane_max * sizeof(listener->lanes[0]), PAGE_SIZE));
	listener->magic = 0;
	env->ops->free(env, listener);
}

static void listener_init(struct tcp_listener *listener)
{
	list_init(&listener->free);
	list_init(&listener->prefaces);
	list_init(&listener->live);
	list_init(&listener->waiters);
	listener->tick.fire = tick_fire;
	for (uint32_t i = 0; i < listener->lane_max; i++)
		list_add_tail(&listener->free, &listener->lanes[i].tcp.node);
	for (uint32_t i = 0; i < listener->big_count; i++)
		listener->big_free[listener->big_free_count++] = listener->bigs + i * TCP_BIG_SIZE;
}

static int tcp_listen(struct env *env, const char *address, uint32_t lane_max,
		      const struct xprt_user *user, void *ctx, struct xprt_listener **out)
{
	struct tcp_listener *listener;
	int rc;

	ASSERT(lane_max > 0);
	listener = env->ops->alloc(env, sizeof(*listener));
	if (listener == NULL)
		return -ENOMEM;
	*listener = (struct tcp_listener) {
		.listener = { .ops = &xprt_tcp, .user = user, .env = env, .ctx = ctx },
		.magic = TCP_LISTENER_MAGIC,
		.lane_max = lane_max,
		.big_count = big_count_of(lane_max),
	};
	rc = -ENOMEM;
	listener->lanes =
		env->ops->map(env, round_up(lane_max * sizeof(listener->lanes[0]), PAGE_SIZE));
	if (listener->lanes == NULL)
		goto err_free_listener;
	listener->bigs = env->ops->map(env, listener->big_count * TCP_BIG_SIZE);
	if (listener->bigs == NULL)
		goto err_unmap_lanes;
	rc = env->ops->sock_listen(env, address, &listener->sock);
	if (rc < 0)
		goto err_unmap_bigs;

	listener_init(listener);
	listener_watch(listener);
	*out = &listener->listener;
	return 0;

err_unmap_bigs:
	env->ops->unmap(env, listener->bigs, listener->big_count * TCP_BIG_SIZE);
err_unmap_lanes:
	env->ops->unmap(env, listener->lanes,
			round_up(lane_max * sizeof(listener->lanes[0]), PAGE_SIZE));
err_free_listener:
	env->ops->free(env, listener);
	return rc;
}

/* Lanes that the user knows go on; the listener's memory goes with the last. */
static void tcp_unlisten(struct xprt_listener **xprt_listener)
{
	struct tcp_listener *listener;

	if (*xprt_listener == NULL)
		return;
	listener = CONTAINER_OF(*xprt_listener, struct tcp_listener, listener);
	CHECK_OBJ(listener, TCP_LISTENER_MAGIC);
	*xprt_listener = NULL;
	listener->listener.env->ops->sock_close(listener->listener.env, listener->sock);
	listener->sock = NULL;
	listener->is_unlistened = true;
	listener->lanes_held++; /* by us, for the moment */
	while (preface_drop(listener)) {
	}
	listener->lanes_held--;
	if (listener->lanes_held == 0)
		listener_free(listener);
}

static void tcp_listener_name(struct xprt_listener *xprt_listener, char *buf, size_t buf_size)
{
	struct tcp_listener *listener = CONTAINER_OF(xprt_listener, struct tcp_listener, listener);
	struct env *env = xprt_listener->env;

	CHECK_OBJ(listener, TCP_LISTENER_MAGIC);
	env->ops->sock_name(env, listener->sock, false, buf, buf_size);
}

/* --- small ops --- */

static void tcp_secure(struct xprt_lane *xprt_lane, struct auth_mac *out, struct auth_mac *in)
{
	struct tcp_lane *lane = tcp_of(xprt_lane);

	ASSERT(lane->mac_out == NULL);
	ASSERT(lane->mac_in == NULL);
	lane->mac_out = out;
	lane->mac_in = in;
	lane->tx.secure_from = lane->tx.position + (lane->tx.end - lane->tx.start);
}

static void tcp_pause(struct xprt_lane *xprt_lane, bool is_paused)
{
	struct tcp_lane *lane = tcp_of(xprt_lane);

	lane->rx.is_paused = is_paused;
	if (!is_paused)
		tcp_lane_wake(lane);
}

static void tcp_peer_name(struct xprt_lane *xprt_lane, char *buf, size_t buf_size)
{
	snprintf(buf, buf_size, "%s", tcp_of(xprt_lane)->peer);
}

const struct xprt_ops xprt_tcp = {
	.name = "tcp",
	.transport = WIRE_XPRT_TCP,
	.caps = XPRT_CAP_SYNC_RELEASE | XPRT_CAP_CLOSE_FENCES | XPRT_CAP_MAC,
	.listen_size = tcp_listen_size,
	.listen = tcp_listen,
	.unlisten = tcp_unlisten,
	.listener_name = tcp_listener_name,
	.connect = tcp_connect,
	.send = tcp_send,
	.close = tcp_close,
	.secure = tcp_secure,
	.pause = tcp_pause,
	.peer_name = tcp_peer_name,
	.push = tcp_push,
	.pull = tcp_pull,
	.revoke = tcp_revoke,
	.forget = tcp_forget,
};
