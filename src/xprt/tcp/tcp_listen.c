/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server: the listener, its pool of lanes, its big buffers, and what has a time limit.
 *
 * Normal path: a connection is accepted into a lane of the pool; its preface arrives and is
 * checked; user->accepted() takes it. The lane goes back to the pool when it has ended.
 *
 * Limits. A connection that sends no preface for TCP_PREFACE_NS is closed, and the oldest of them
 * when there are more than TCP_PREFACE_MAX or no lane is left; if there is none to close, the
 * listener rests until a lane is free. A preface of another version, or one that the user does not
 * want, is answered with a REFUSE and counts as one without until its peer closes it. A lane that
 * holds a big buffer without progress while others wait for one is closed after TCP_STALL_NS.
 *
 * Failure. Accepting fails (no descriptors): the listener rests until the next tick. A listener
 * ends with its last lane: unlisten() only closes the door.
 */
#include "tcp.h"

#include "../../base/log.h"

#include <stdio.h>

static void listener_watch(struct tcp_listener *listener);
static void tick_arm(struct tcp_listener *listener);
static void listener_free(struct tcp_listener *listener);

/* --- the pool --- */

static void listener_hold(struct tcp_listener *listener)
{
	listener->lanes_held++;
}

static void listener_release(struct tcp_listener *listener)
{
	ASSERT(listener->lanes_held > 0);
	listener->lanes_held--;
	if (!listener->is_unlistened)
		listener_watch(listener);
	else if (listener->lanes_held == 0)
		listener_free(listener);
}

/* A server's lane goes back to the pool, and there is room for a connection. */
void tcp_lane_pool_put(struct tcp_lane *lane)
{
	struct tcp_listener *listener = lane->listener;

	if (lane->rx.state == TCP_RX_PREFACE || lane->rx.state == TCP_RX_REFUSED)
		listener->preface_count--;
	list_del(&lane->node);
	lane->magic = 0;
	list_add_tail(&listener->free, &lane->node);
	listener_release(listener);
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

static const char *refuse_text(int why, const struct wire_preface *preface)
{
	if (why != -ERR_UNSUPPORTED)
		return err_str(why);
	return (preface->flags & WIRE_PREFACE_TLS) != 0
		       ? "this server does not speak TLS (tls: off)"
		       : "this server wants TLS: tls=1 in the URL";
}

/*
 * Answer a connection that is not wanted. It waits among those without a preface until its peer has
 * closed it: what is closed with bytes unread (its HELLO, say) is reset, and the REFUSE with it.
 */
static void lane_refuse(struct tcp_lane *lane, int why, const struct wire_preface *preface)
{
	struct tcp_listener *listener = lane->listener;
	struct wire_refuse refuse = { .code = why };
	struct wire_header header;

	snprintf((char *)refuse.text, sizeof(refuse.text), "%s", refuse_text(why, preface));
	wire_header_init(&header, WIRE_REFUSE, 0, 0, sizeof(refuse));
	if (tcp_tx_frame(lane, &header, &refuse) < 0) {
		tcp_lane_break(lane, why);
		return;
	}
	lane->rx.state = TCP_RX_REFUSED;
	lane->accepted_ns = env_now_ns(lane->lane.env);
	list_del(&lane->node);
	list_add_tail(&listener->prefaces, &lane->node);
	listener->preface_count++;
	tick_arm(listener);
}

static void lane_announce(struct tcp_lane *lane, const struct wire_preface *preface)
{
	int rc = 0;

	lane->is_announced = true;
	if ((preface->flags & WIRE_PREFACE_TLS) != 0)
		rc = tcp_tls_begin(lane, NULL);
	if (rc < 0)
		tcp_lane_break(lane, rc);
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
		lane_refuse(lane, rc, preface);
	else
		lane_announce(lane, preface);
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

static struct tcp_lane *lane_begin(struct tcp_listener *listener, struct env_sock *sock)
{
	struct tcp_lane *lane = list_head(&listener->free, struct tcp_lane, node);
	struct tcp_server_lane *server = tcp_server_of(lane);

	list_del(&lane->node);
	tcp_lane_init(lane, listener->listener.env, listener->listener.user, sock);
	lane->listener = listener;
	lane->rx = (struct tcp_rx) {
		.state = TCP_RX_PREFACE,
		.buf = { .bytes = server->rx, .size = sizeof(server->rx) },
	};
	lane->tx.buf = (struct tcp_buf) { .bytes = server->tx, .size = sizeof(server->tx) };
	list_add_tail(&listener->prefaces, &lane->node);
	listener->preface_count++;
	listener->lanes_held++;
	return lane;
}

static void lane_accept(struct tcp_listener *listener, struct env_sock *sock)
{
	tcp_lane_watch(lane_begin(listener, sock));
	tick_arm(listener);
}

void tcp_attach(struct xprt_listener *xprt_listener, const struct xprt_handover *taken)
{
	struct tcp_listener *listener = CONTAINER_OF(xprt_listener, struct tcp_listener, listener);
	struct env *env = xprt_listener->env;
	struct tcp_lane *lane;
	struct env_sock *sock;

	CHECK_OBJ(listener, TCP_LISTENER_MAGIC);
	if (list_is_empty(&listener->free) && !preface_drop(listener)) {
		log_warn("listener %s has no lane left for a connection", xprt_tcp.name);
		tcp_discard(env, taken);
		return;
	}
	if (env->ops->sock_adopt(env, taken->fd, &sock) < 0)
		return; /* adopt takes it in any case */
	lane = lane_begin(listener, sock);
	tcp_lane_enter(lane);
	lane->rx.state = TCP_RX_HEADER;
	tcp_lane_accepted(lane, &taken->preface);
	tcp_lane_leave(lane);
}

void tcp_discard(struct env *env, const struct xprt_handover *taken)
{
	struct env_sock *sock;

	if (env->ops->sock_adopt(env, taken->fd, &sock) == 0)
		env->ops->sock_close(env, sock);
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

	if (listener->is_accepting || listener->sock == NULL)
		return;
	listener->is_accepting = true;
	env->ops->sock_watch(env, listener->sock, ENV_SOCK_IN, listener_ready, listener);
}

/* --- ticks: what has a time limit --- */

static void tick_arm(struct tcp_listener *listener)
{
	struct env *env = listener->listener.env;
	bool has_work = !list_is_empty(&listener->prefaces) || !list_is_empty(&listener->waiters) ||
			(!listener->is_accepting && listener->sock != NULL);

	if (has_work && !listener->tick.is_set)
		env->ops->timer_set(env, &listener->tick, env_now_ns(env) + TCP_TICK_NS);
}

/* Of a frame that comes byte by byte, too. */
static bool is_holder(const struct tcp_lane *lane, uint64_t now_ns)
{
	if (lane->rx.buf.big != NULL && lane->rx.state == TCP_RX_BODY &&
	    now_ns - lane->rx.begin_ns >= TCP_FRAME_NS)
		return true;
	return (lane->rx.buf.big != NULL || lane->tx.buf.big != NULL) &&
	       now_ns - lane->lane.progress_ns >= TCP_STALL_NS;
}

/* A lane that holds a big buffer and does not move, or NULL. */
static struct tcp_lane *holder_find(struct tcp_listener *listener, uint64_t now_ns)
{
	list_for_each (node, &listener->live) {
		struct tcp_lane *lane = CONTAINER_OF(node, struct tcp_lane, node);

		if (tcp_lane_is_open(lane) && is_holder(lane, now_ns))
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
	listener_hold(listener);
	while ((lane = list_head(&listener->prefaces, struct tcp_lane, node)) != NULL &&
	       now_ns - lane->accepted_ns >= TCP_PREFACE_NS)
		lane_drop(lane, -ETIMEDOUT, NULL);
	while (!list_is_empty(&listener->waiters) && (lane = holder_find(listener, now_ns)) != NULL)
		lane_drop(lane, -ETIMEDOUT, "held a buffer that others wait for");
	tick_arm(listener);
	listener_release(listener);
}

/* --- listen, unlisten --- */

static uint32_t big_count_of(uint32_t lane_max)
{
	return MIN(lane_max, TCP_BIG_COUNT);
}

uint64_t tcp_listen_size(const struct xprt_ops *ops, uint32_t lane_max)
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

int tcp_listen(const struct xprt_ops *ops, struct env *env, const char *address, uint32_t lane_max,
	       const struct xprt_user *user, void *ctx, struct xprt_listener **out)
{
	struct tcp_listener *listener;
	int rc;

	ASSERT(lane_max > 0);
	listener = env->ops->alloc(env, sizeof(*listener));
	if (listener == NULL)
		return -ENOMEM;
	*listener = (struct tcp_listener) {
		.listener = { .ops = ops, .user = user, .env = env, .ctx = ctx },
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
	rc = address == NULL ? 0 : env->ops->sock_listen(env, address, &listener->sock);
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
void tcp_unlisten(struct xprt_listener **xprt_listener)
{
	struct tcp_listener *listener;

	if (*xprt_listener == NULL)
		return;
	listener = CONTAINER_OF(*xprt_listener, struct tcp_listener, listener);
	CHECK_OBJ(listener, TCP_LISTENER_MAGIC);
	*xprt_listener = NULL;
	if (listener->sock != NULL)
		listener->listener.env->ops->sock_close(listener->listener.env, listener->sock);
	listener->sock = NULL;
	listener->is_unlistened = true;
	listener_hold(listener);
	while (preface_drop(listener)) {
	}
	listener_release(listener);
}

void tcp_listener_name(struct xprt_listener *xprt_listener, char *buf, size_t buf_size)
{
	struct tcp_listener *listener = CONTAINER_OF(xprt_listener, struct tcp_listener, listener);
	struct env *env = xprt_listener->env;

	CHECK_OBJ(listener, TCP_LISTENER_MAGIC);
	snprintf(buf, buf_size, "%s", "");
	if (listener->sock != NULL)
		env->ops->sock_name(env, listener->sock, false, buf, buf_size);
}
