/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream sockets over virtual time. A connection is two pipes of bytes; what is written arrives
 * later, in order, in any chunks, at most `net_window` bytes under way; reading gives the writer
 * room, later. All of that are events of one hidden env ("net"), which is never frozen or killed:
 * the network goes on while a process does not.
 *
 * Failures: a cut between two nodes delays what crosses it until it is healed (a connection attempt
 * may be lost); a reset breaks both ends; a killed process's peers see the end, or a reset; after a
 * power loss they see nothing until they send to the host that came back, or keepalive tells them.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOCK_MAGIC   0x50cc0001u
#define BACKLOG_MAX  64
#define KEEPALIVE_NS (20 * NS_PER_S)
#define SOCK_CLIENT  0
#define SOCK_SERVER  1

enum sock_state { SOCK_LISTENING = 1, SOCK_CONNECTING, SOCK_OPEN, SOCK_BROKEN };

struct env_sock {
	uint32_t magic;
	enum sock_state state;
	struct sim_env *env;
	struct list node_env;
	struct list node_ready;
	uint32_t watched;
	uint32_t wanted; /* IN waits for so much, or for as much as half of the window */
	env_sock_ready ready;
	void *ctx;
	/* A listener. */
	char address[64];
	struct list node_listener; /* in sim->listeners */
	struct list backlog;       /* ends not yet accepted, by node_env */
	uint32_t backlog_count;
	/* An end of a connection. */
	struct sim_conn *conn;
	uint32_t side;
};

/* Bytes from one side to the other. Positions count from 0. */
struct pipe {
	uint8_t *ring;
	uint64_t written;
	uint64_t arrived;
	uint64_t read;
	uint64_t acked;   /* read, as far as the writer knows */
	uint64_t last_ns; /* nothing arrives before what was sent before it */
	bool has_end;     /* the writer will write no more, and the reader knows */
};

struct sim_conn {
	struct list node;
	struct sim *sim;
	uint32_t id;
	uint32_t window;
	char address[64];
	uint32_t nodes[2];
	struct env_sock *ends[2];  /* NULL: closed, or gone, or not there yet */
	struct env_sock *detached; /* between two envs */
	bool is_silent[2];         /* that end's host is gone without a word */
	struct pipe pipes[2];      /* written by side 0, by side 1 */
};

enum packet_kind { PACKET_SYN, PACKET_OPEN, PACKET_DATA, PACKET_ROOM, PACKET_END, PACKET_RESET };

struct packet {
	struct sim_event event;
	struct sim_conn *conn;
	enum packet_kind kind;
	uint32_t to; /* side */
	uint32_t size;
};

static void packet_run(struct sim_event *event, bool is_dropped);

/* --- readiness --- */

static struct pipe *sock_in(const struct env_sock *sock)
{
	return &sock->conn->pipes[1 - sock->side];
}

static struct pipe *sock_out(const struct env_sock *sock)
{
	return &sock->conn->pipes[sock->side];
}

static uint64_t sock_room(const struct env_sock *sock)
{
	const struct pipe *out = sock_out(sock);

	return sock->conn->window - (out->written - out->acked);
}

static bool has_wanted(const struct env_sock *sock)
{
	const struct pipe *in = sock_in(sock);

	return in->arrived - in->read >= MIN(MAX(sock->wanted, 1), sock->conn->window / 2);
}

static uint32_t sock_events(const struct env_sock *sock)
{
	uint32_t events = 0;

	switch (sock->state) {
	case SOCK_LISTENING:
		return sock->backlog_count > 0 ? ENV_SOCK_IN : 0;
	case SOCK_CONNECTING:
		return 0;
	case SOCK_BROKEN:
		return ENV_SOCK_IN | ENV_SOCK_ERR;
	case SOCK_OPEN:
		if (has_wanted(sock) || sock_in(sock)->has_end)
			events |= ENV_SOCK_IN;
		if (sock_room(sock) > 0)
			events |= ENV_SOCK_OUT;
		return events;
	}
	return 0;
}

static void sock_update(struct env_sock *sock)
{
	bool is_due =
		sock->ready != NULL && (sock_events(sock) & (sock->watched | ENV_SOCK_ERR)) != 0;

	if (!is_due)
		list_del(&sock->node_ready);
	else if (list_is_empty(&sock->node_ready))
		list_add_tail(&sock->env->ready, &sock->node_ready);
}

void sim_net_run(struct sim_env *env)
{
	struct env_sock *sock = list_head(&env->ready, struct env_sock, node_ready);
	uint32_t events = sock_events(sock) & (sock->watched | ENV_SOCK_ERR);

	/* Those that are ready take turns. */
	list_del(&sock->node_ready);
	list_add_tail(&env->ready, &sock->node_ready);
	ASSERT(events != 0);
	sock->ready(sock, sock->ctx, events);
}

/* --- packets --- */

static void packet_send(struct sim_conn *conn, enum packet_kind kind, uint32_t to, uint32_t size,
			uint64_t extra_ns)
{
	struct sim *sim = conn->sim;
	struct pipe *pipe = &conn->pipes[1 - to];
	uint64_t cut_ns = sim->cut_until_ns[conn->nodes[1 - to]][conn->nodes[to]];
	uint64_t when_ns = sim->now_ns + extra_ns;
	struct packet *packet = calloc(1, sizeof(*packet));

	ASSERT(packet != NULL);
	if (sim->has_faults && cut_ns > when_ns)
		when_ns = cut_ns;
	when_ns += rng_log(&sim->rng, NS_PER_US, sim->net_delay_max_ns);
	if (kind == PACKET_DATA || kind == PACKET_END) {
		when_ns = MAX(when_ns, pipe->last_ns);
		pipe->last_ns = when_ns;
	}
	packet->conn = conn;
	packet->kind = kind;
	packet->to = to;
	packet->size = size;
	sim_env_schedule(sim->net, &packet->event, when_ns - sim->now_ns, packet_run);
}

static struct env_sock *sock_create(struct sim_env *env, enum sock_state state)
{
	struct env_sock *sock = calloc(1, sizeof(*sock));

	ASSERT(sock != NULL);
	sock->magic = SOCK_MAGIC;
	sock->state = state;
	sock->env = env;
	list_init(&sock->node_ready);
	list_init(&sock->node_listener);
	list_init(&sock->backlog);
	list_init(&sock->node_env);
	return sock;
}

static void conn_break(struct sim_conn *conn, uint32_t side)
{
	struct env_sock *sock = conn->ends[side];

	if (sock == NULL || sock->state == SOCK_BROKEN)
		return;
	sock->state = SOCK_BROKEN;
	sock_update(sock);
}

/* Both ends are gone: nobody will look at the bytes. */
static void conn_trim(struct sim_conn *conn)
{
	if (conn->ends[0] != NULL || conn->ends[1] != NULL)
		return;
	for (uint32_t i = 0; i < 2; i++) {
		free(conn->pipes[i].ring);
		conn->pipes[i].ring = NULL;
	}
}

static void on_syn(struct sim_conn *conn)
{
	list_for_each (pos, &conn->sim->listeners) {
		struct env_sock *listener = list_entry(pos, struct env_sock, node_listener);
		struct env_sock *sock;

		if (strcmp(listener->address, conn->address) != 0)
			continue;
		if (listener->backlog_count == BACKLOG_MAX)
			return;
		sock = sock_create(listener->env, SOCK_OPEN);
		sock->conn = conn;
		sock->side = SOCK_SERVER;
		conn->ends[SOCK_SERVER] = sock;
		conn->nodes[SOCK_SERVER] = listener->env->node;
		list_add_tail(&listener->backlog, &sock->node_env);
		listener->backlog_count++;
		sock_update(listener);
		packet_send(conn, PACKET_OPEN, SOCK_CLIENT, 0, 0);
		return;
	}
	packet_send(conn, PACKET_RESET, SOCK_CLIENT, 0, 0);
}

static void on_data(struct sim_conn *conn, uint32_t to, uint32_t size)
{
	if (conn->ends[to] != NULL) {
		conn->pipes[1 - to].arrived += size;
		sock_update(conn->ends[to]);
	} else if (!conn->is_silent[to] || !conn->sim->has_faults ||
		   rng_chance(&conn->sim->rng, 2000)) {
		packet_send(conn, PACKET_RESET, 1 - to, 0, 0);
	}
}

static void packet_run(struct sim_event *event, bool is_dropped)
{
	struct packet packet = *CONTAINER_OF(event, struct packet, event);
	struct sim_conn *conn = packet.conn;
	struct env_sock *sock = conn->ends[packet.to];

	free(CONTAINER_OF(event, struct packet, event));
	if (is_dropped)
		return;
	sim_trace(conn->sim, conn->id * 16 + packet.kind * 2 + packet.to, packet.size);
	switch (packet.kind) {
	case PACKET_SYN:
		on_syn(conn);
		break;
	case PACKET_OPEN:
		if (sock != NULL && sock->state == SOCK_CONNECTING) {
			sock->state = SOCK_OPEN;
			sock_update(sock);
		} else if (sock == NULL) {
			packet_send(conn, PACKET_RESET, SOCK_SERVER, 0, 0);
		}
		break;
	case PACKET_DATA:
		on_data(conn, packet.to, packet.size);
		break;
	case PACKET_ROOM:
		conn->pipes[packet.to].acked += packet.size;
		if (sock != NULL)
			sock_update(sock);
		break;
	case PACKET_END:
		conn->pipes[1 - packet.to].has_end = true;
		if (sock != NULL)
			sock_update(sock);
		break;
	case PACKET_RESET:
		conn_break(conn, packet.to);
		break;
	}
}

/* --- env calls --- */

static void sock_attach(struct env_sock *sock)
{
	list_add_tail(&sock->env->socks, &sock->node_env);
	sock->env->held_count++;
}

int sim_sock_listen(struct env *env, const char *address, struct env_sock **sock_out)
{
	struct sim_env *self = sim_env_of(env);
	struct env_sock *sock;

	list_for_each (pos, &self->sim->listeners) {
		if (strcmp(list_entry(pos, struct env_sock, node_listener)->address, address) == 0)
			return -EADDRINUSE;
	}
	sock = sock_create(self, SOCK_LISTENING);
	snprintf(sock->address, sizeof(sock->address), "%s", address);
	list_add_tail(&self->sim->listeners, &sock->node_listener);
	sock_attach(sock);
	*sock_out = sock;
	return 0;
}

int sim_sock_accept(struct env *env, struct env_sock *listener, struct env_sock **sock_out)
{
	struct env_sock *sock = list_head(&listener->backlog, struct env_sock, node_env);

	ASSERT(listener->state == SOCK_LISTENING);
	if (sock == NULL)
		return -EAGAIN;
	list_del(&sock->node_env);
	listener->backlog_count--;
	sock_attach(sock);
	sock_update(listener);
	*sock_out = sock;
	return 0;
}

int sim_sock_connect(struct env *env, const char *address, struct env_sock **sock_out)
{
	struct sim_env *self = sim_env_of(env);
	struct sim *sim = self->sim;
	struct sim_conn *conn = calloc(1, sizeof(*conn));
	struct env_sock *sock = sock_create(self, SOCK_CONNECTING);

	ASSERT(conn != NULL);
	conn->sim = sim;
	conn->id = sim->conn_count++;
	conn->window = sim->net_window;
	conn->nodes[SOCK_CLIENT] = self->node;
	conn->ends[SOCK_CLIENT] = sock;
	snprintf(conn->address, sizeof(conn->address), "%s", address);
	for (uint32_t i = 0; i < 2; i++) {
		conn->pipes[i].ring = malloc(conn->window);
		ASSERT(conn->pipes[i].ring != NULL);
	}
	list_add_tail(&sim->conns, &conn->node);
	sock->conn = conn;
	sock->side = SOCK_CLIENT;
	sock_attach(sock);
	if (!sim->has_faults || sim->cut_until_ns[self->node][0] < sim->now_ns ||
	    rng_chance(&sim->rng, 5000))
		packet_send(conn, PACKET_SYN, SOCK_SERVER, 0, 0);
	*sock_out = sock;
	return 0;
}

void sim_sock_want(struct env *env, struct env_sock *sock, uint32_t size)
{
	(void)env;
	CHECK_OBJ(sock, SOCK_MAGIC);
	sock->wanted = size;
	sock_update(sock);
}

void sim_sock_watch(struct env *env, struct env_sock *sock, uint32_t events, env_sock_ready ready,
		    void *ctx)
{
	CHECK_OBJ(sock, SOCK_MAGIC);
	sock->watched = events;
	sock->ready = ready;
	sock->ctx = ctx;
	sock_update(sock);
}

static uint64_t iov_size(const struct iovec *iov, uint32_t iov_count)
{
	uint64_t size = 0;

	ASSERT(iov_count <= ENV_IOV_MAX);
	for (uint32_t i = 0; i < iov_count; i++)
		size += iov[i].iov_len;
	return size;
}

/* Copy size bytes between the ring at position at and the pieces. */
static void ring_copy(struct sim_conn *conn, uint8_t *ring, uint64_t at, const struct iovec *iov,
		      uint64_t size, bool is_in)
{
	for (uint64_t used = 0; size > 0; iov++, used = 0) {
		while (used < iov->iov_len && size > 0) {
			uint64_t here = at % conn->window;
			uint64_t part = MIN(MIN(size, iov->iov_len - used), conn->window - here);
			uint8_t *piece = (uint8_t *)iov->iov_base + used;

			if (is_in)
				memcpy(ring + here, piece, part);
			else
				memcpy(piece, ring + here, part);
			at += part;
			used += part;
			size -= part;
		}
	}
}

/* What a call moves of what it could. */
static uint64_t some_of(struct sim *sim, uint64_t size)
{
	return rng_chance(&sim->rng, 3000) ? rng_log(&sim->rng, 1, size) : size;
}

ssize_t sim_sock_recv(struct env *env, struct env_sock *sock, const struct iovec *iov,
		      uint32_t iov_count)
{
	struct sim *sim = sim_env_of(env)->sim;
	struct pipe *in;
	uint64_t size;

	CHECK_OBJ(sock, SOCK_MAGIC);
	if (sock->state == SOCK_BROKEN || sock->env->is_dead)
		return -ECONNRESET;
	if (sock->state == SOCK_CONNECTING)
		return -EAGAIN;
	in = sock_in(sock);
	size = MIN(iov_size(iov, iov_count), in->arrived - in->read);
	if (size == 0)
		return in->has_end && in->arrived == in->read ? 0 : -EAGAIN;
	size = some_of(sim, size);
	ring_copy(sock->conn, in->ring, in->read, iov, size, false);
	in->read += size;
	packet_send(sock->conn, PACKET_ROOM, 1 - sock->side, (uint32_t)size, 0);
	sock_update(sock);
	return (ssize_t)size;
}

ssize_t sim_sock_send(struct env *env, struct env_sock *sock, const struct iovec *iov,
		      uint32_t iov_count)
{
	struct sim *sim = sim_env_of(env)->sim;
	uint64_t size;

	CHECK_OBJ(sock, SOCK_MAGIC);
	if (sock->state == SOCK_BROKEN || sock->env->is_dead)
		return -EPIPE;
	if (sock->state == SOCK_CONNECTING)
		return -EAGAIN;
	if (sim->has_faults && rng_chance(&sim->rng, sim->reset_rate)) {
		packet_send(sock->conn, PACKET_RESET, 1 - sock->side, 0, 0);
		conn_break(sock->conn, sock->side);
		return -ECONNRESET;
	}
	size = MIN(iov_size(iov, iov_count), sock_room(sock));
	if (size == 0)
		return -EAGAIN;
	size = some_of(sim, size);
	ring_copy(sock->conn, sock_out(sock)->ring, sock_out(sock)->written, iov, size, true);
	sock_out(sock)->written += size;
	packet_send(sock->conn, PACKET_DATA, 1 - sock->side, (uint32_t)size, 0);
	sock_update(sock);
	return (ssize_t)size;
}

/* This end says goodbye: in order, or by a reset when bytes were left unread. */
static void end_leave(struct env_sock *sock)
{
	struct sim_conn *conn = sock->conn;

	if (conn->ends[sock->side] != sock)
		return;
	conn->ends[sock->side] = NULL;
	if (sock->state == SOCK_OPEN)
		packet_send(conn,
			    sock_in(sock)->arrived > sock_in(sock)->read ? PACKET_RESET
									 : PACKET_END,
			    1 - sock->side, 0, 0);
	conn_trim(conn);
}

static void listener_leave(struct env_sock *sock)
{
	struct env_sock *waiting;

	list_del(&sock->node_listener);
	while ((waiting = list_head(&sock->backlog, struct env_sock, node_env)) != NULL) {
		list_del(&waiting->node_env);
		end_leave(waiting);
		free(waiting);
	}
	sock->backlog_count = 0;
}

void sim_sock_close(struct env *env, struct env_sock *sock)
{
	CHECK_OBJ(sock, SOCK_MAGIC);
	ASSERT(sock->env == sim_env_of(env));
	if (sock->state == SOCK_LISTENING)
		listener_leave(sock);
	else
		end_leave(sock);
	list_del(&sock->node_ready);
	list_del(&sock->node_env);
	sock->env->held_count--;
	sock->magic = 0;
	free(sock);
}

void sim_sock_name(struct env *env, struct env_sock *sock, bool is_peer, char *buf, size_t buf_size)
{
	if (sock->state == SOCK_LISTENING)
		snprintf(buf, buf_size, "%s", sock->address);
	else
		snprintf(buf, buf_size, "node%u:%u",
			 sock->conn->nodes[is_peer ? 1 - sock->side : sock->side], sock->conn->id);
}

/* A descriptor is the number of the connection; its socket stays with the env it leaves, so that it
 * dies with that process, until the other takes it. */
int sim_sock_detach(struct env *env, struct env_sock *sock)
{
	ASSERT(sock->env == sim_env_of(env));
	ASSERT(sock->conn != NULL);
	ASSERT(sock->side == SOCK_SERVER);
	sock->ready = NULL;
	sock->watched = 0;
	sock_update(sock);
	sock->conn->detached = sock;
	return (int)sock->conn->id;
}

int sim_sock_adopt(struct env *env, int fd, struct env_sock **sock_out)
{
	struct sim_env *self = sim_env_of(env);

	list_for_each (pos, &self->sim->conns) {
		struct sim_conn *conn = list_entry(pos, struct sim_conn, node);
		struct env_sock *sock = conn->detached;

		if (conn->id != (uint32_t)fd || sock == NULL)
			continue;
		conn->detached = NULL;
		list_del(&sock->node_env);
		sock->env->held_count--;
		sock->env = self;
		sock_attach(sock);
		*sock_out = sock;
		return 0;
	}
	return -EBADF;
}

/* --- names --- */

struct answer {
	struct sim_event event;
	struct env_resolve *resolve;
};

static void answer_run(struct sim_event *event, bool is_dropped)
{
	struct answer *answer = CONTAINER_OF(event, struct answer, event);
	struct env_resolve *resolve = answer->resolve;

	free(answer);
	if (is_dropped)
		resolve->result = -ECANCELED; /* its memory goes with done() */
	resolve->done(resolve);
}

void sim_resolve(struct env *env, struct env_resolve *resolve)
{
	struct sim_env *self = sim_env_of(env);
	struct answer *answer = calloc(1, sizeof(*answer));

	ASSERT(answer != NULL);
	answer->resolve = resolve;
	if (self->sim->names != NULL) {
		self->sim->names(self->sim->names_ctx, resolve);
	} else {
		snprintf(resolve->addresses[0], sizeof(resolve->addresses[0]), "%.50s:%u",
			 resolve->host, resolve->port);
		resolve->count = 1;
	}
	resolve->result =
		self->sim->has_faults && rng_chance(&self->sim->rng, 200) ? -EHOSTUNREACH : 0;
	sim_env_schedule(self, &answer->event, rng_log(&self->sim->rng, NS_PER_US, 100 * NS_PER_MS),
			 answer_run);
}

/* --- death --- */

void sim_net_kill(struct sim_env *env, bool is_silent)
{
	list_for_each (pos, &env->socks) {
		struct env_sock *sock = list_entry(pos, struct env_sock, node_env);
		struct sim_conn *conn = sock->conn;

		if (sock->state == SOCK_LISTENING) {
			listener_leave(sock);
		} else if (is_silent && conn->ends[sock->side] == sock) {
			conn->ends[sock->side] = NULL;
			conn->is_silent[sock->side] = true;
			packet_send(conn, PACKET_RESET, 1 - sock->side, 0, KEEPALIVE_NS);
			conn_trim(conn);
		} else {
			end_leave(sock);
		}
	}
}

void sim_net_fini(struct sim *sim)
{
	struct sim_conn *conn;

	while ((conn = list_head(&sim->conns, struct sim_conn, node)) != NULL) {
		ASSERT(conn->ends[0] == NULL);
		ASSERT(conn->ends[1] == NULL);
		list_del(&conn->node);
		free(conn);
	}
}
