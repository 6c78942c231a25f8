/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server: what a connection is asked and told at the door (door.h), its lane, and the big buffers.
 *
 * Normal path: a connection is accepted into a lane of the pool; its preface arrives and is
 * checked; user->accepted() takes it. Or it was accepted at another listener, which had its preface
 * and detached it: it is attached here.
 *
 * Failure. A preface of another version, or one that the user does not want, is answered with a
 * REFUSE; one that is none ends the lane. A lane that holds a big buffer while others wait for one
 * is closed after TCP_STALL_NS without progress, or TCP_FRAME_NS for one frame.
 */
#include "tcp.h"

#include "../../base/log.h"

static struct tcp_lane *lane_of(struct door_lane *lane)
{
	return CONTAINER_OF(lane, struct tcp_lane, door);
}

static void lane_drop(struct door_lane *door_lane, int why)
{
	struct tcp_lane *lane = lane_of(door_lane);

	tcp_lane_enter(lane);
	tcp_lane_break(lane, why);
	tcp_lane_leave(lane);
}

/* --- big buffers --- */

static void tick_arm(struct tcp_listener *listener)
{
	struct env *env = listener->door.listener.env;

	if (!list_is_empty(&listener->waiters) && !listener->tick.is_set)
		env->ops->timer_set(env, &listener->tick, env_now_ns(env) + TCP_TICK_NS);
}

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

/* Of a frame that comes or leaves byte by byte, too, and of one that is not read while others come.
 */
static bool is_holder(const struct tcp_lane *lane, uint64_t now_ns)
{
	if (lane->rx.buf.big != NULL && lane->rx.state == TCP_RX_BODY &&
	    now_ns - lane->rx.begin_ns >= TCP_FRAME_NS)
		return true;
	if (lane->tx.buf.big != NULL && now_ns - lane->tx.big_ns >= TCP_FRAME_NS)
		return true;
	return (lane->rx.buf.big != NULL || lane->tx.buf.big != NULL) &&
	       now_ns - lane->lane.progress_ns >= TCP_STALL_NS;
}

/* A lane that holds a big buffer and does not move, or NULL. */
static struct tcp_lane *holder_find(struct tcp_listener *listener, uint64_t now_ns)
{
	list_for_each (node, &listener->door.known) {
		struct tcp_lane *lane = list_entry(node, struct tcp_lane, door.node);

		if (tcp_lane_is_open(lane) && is_holder(lane, now_ns))
			return lane;
	}
	return NULL;
}

static void tick_fire(struct env_timer *timer)
{
	struct tcp_listener *listener = CONTAINER_OF(timer, struct tcp_listener, tick);
	uint64_t now_ns = env_now_ns(listener->door.listener.env);
	struct tcp_lane *lane;

	door_hold(&listener->door);
	while (!list_is_empty(&listener->waiters) &&
	       (lane = holder_find(listener, now_ns)) != NULL) {
		lane->fault = "held a buffer that others wait for";
		lane_drop(&lane->door, -ETIMEDOUT);
	}
	tick_arm(listener);
	door_release(&listener->door);
}

/* --- prefaces --- */

static const char *refuse_text(int why, const struct wire_preface *preface)
{
	if (why != -ERR_UNSUPPORTED)
		return err_str(why);
	return (preface->flags & WIRE_PREFACE_TLS) != 0
		       ? "this server does not speak TLS (tls: off)"
		       : "this server wants TLS: tls=1 in the URL";
}

/* Answer a connection that is not wanted. */
static void lane_refuse(struct tcp_lane *lane, int why, const struct wire_preface *preface)
{
	if (xprt_refuse(&lane->lane, why, refuse_text(why, preface)) < 0) {
		tcp_lane_break(lane, why);
		return;
	}
	lane->rx.state = TCP_RX_REFUSED;
	door_lane_stranger(&lane->door);
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
	int rc;

	door_lane_known(&lane->door);
	rc = wire_check_preface(preface);
	if (rc == -ERR_PROTOCOL) {
		lane->fault = "sent no preface of ours";
		tcp_lane_break(lane, rc);
		return;
	}
	if (rc == 0)
		rc = lane->lane.user->accepted(&lane->listener->door.listener, &lane->lane,
					       preface);
	if (lane->is_closed)
		return;
	if (rc < 0)
		lane_refuse(lane, rc, preface);
	else
		lane_announce(lane, preface);
}

/* --- from another listener --- */

void tcp_attach(struct xprt_listener *listener, const struct xprt_handover *taken)
{
	struct door_lane *door_lane;
	struct tcp_lane *lane;
	struct env_sock *sock;

	if (listener->env->ops->sock_adopt(listener->env, taken->fd, &sock) < 0)
		return; /* adopt takes it in any case */
	door_lane = door_lane_take(door_of(listener), sock);
	if (door_lane == NULL)
		return;
	lane = lane_of(door_lane);
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

/* --- the door --- */

static void lane_begin(struct door *door, struct door_lane *door_lane, struct env_sock *sock)
{
	struct tcp_lane *lane = lane_of(door_lane);
	struct tcp_server_lane *server = tcp_server_of(lane);

	tcp_lane_init(lane, door->listener.env, door->listener.user, sock);
	lane->listener = CONTAINER_OF(door, struct tcp_listener, door);
	lane->rx = (struct tcp_rx) {
		.state = TCP_RX_PREFACE,
		.buf = { .bytes = server->rx, .size = sizeof(server->rx) },
	};
	lane->tx.buf = (struct tcp_buf) { .bytes = server->tx, .size = sizeof(server->tx) };
	tcp_lane_watch(lane);
}

static size_t bigs_size(uint32_t lane_max)
{
	return MIN(lane_max, TCP_BIG_COUNT) * TCP_BIG_SIZE;
}

static void listener_init(struct door *door, void *bigs)
{
	struct tcp_listener *listener = CONTAINER_OF(door, struct tcp_listener, door);
	struct env *env = door->listener.env;

	list_init(&listener->waiters);
	listener->tick.fire = tick_fire;
	listener->big_count = MIN(door->lane_max, TCP_BIG_COUNT);
	for (uint32_t i = 0; i < listener->big_count; i++)
		listener->big_free[listener->big_free_count++] = (uint8_t *)bigs + i * TCP_BIG_SIZE;
	if (door->sock != NULL) /* with the real port */
		env->ops->sock_name(env, door->sock, false, door->address, sizeof(door->address));
}

static void listener_fini(struct door *door)
{
	struct tcp_listener *listener = CONTAINER_OF(door, struct tcp_listener, door);

	door->listener.env->ops->timer_clear(door->listener.env, &listener->tick);
}

_Static_assert(offsetof(struct tcp_listener, door) == 0, "door.h");

const struct door_kind tcp_door = {
	.door_size = sizeof(struct tcp_listener),
	.lane_size = sizeof(struct tcp_server_lane),
	.lane_offset = offsetof(struct tcp_server_lane, tcp.door),
	.extra_size = bigs_size,
	.init = listener_init,
	.fini = listener_fini,
	.begin = lane_begin,
	.drop = lane_drop,
};
