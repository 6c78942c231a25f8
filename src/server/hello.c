/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strangers: connections until they are lanes of a session.
 *
 *   0. a connection and its preface arrive at reactor 0: if they are for another reactor, they go
 *      there through its mailbox, at once and unread, and begin there
 *   1. is there a place among pending_max? A JOIN must name a session of this incarnation
 *   2. HELLO: look up the secret (NEW) or the session's key (JOIN), answer CHALLENGE with our proof
 *   3. PROOF: theirs is right; make the session (NEW) or find it again (JOIN); from here on frames
 *      carry MACs; WELCOME
 *
 * A tenant or secret that is not known gets a CHALLENGE like any other, at the same cost, its proof
 * made with a random key, and fails at its PROOF.
 *
 * Failure: REFUSE with code and text, one log line, a counter; the connection is closed a moment
 * later, so that what it sent meanwhile does not reset the REFUSE away. Frames out of place: closed
 * at once. hello_ns is all the time there is.
 */
#include <stdio.h>
#include <string.h>

#include "mailbox.h"
#include "reactor_priv.h"

#define REFUSE_LINGER_NS (100 * NS_PER_MS)

/* What a WELCOME takes with all shards and an offer. */
struct welcome {
	struct wire_welcome fixed;
	struct wire_shard shards[WIRE_SHARD_MAX];
	struct wire_offer offer; /* the room for it: it stands behind the last shard */
};

/* --- a conn's life --- */

static void conn_timer_cb(struct env_timer *timer)
{
	struct conn *conn = CONTAINER_OF(timer, struct conn, timer);
	char peer[64];

	CHECK_OBJ(conn, CONN_MAGIC);
	if (conn->state != CONN_REFUSED) {
		conn->lane->ops->peer_name(conn->lane, peer, sizeof(peer));
		log_info("connection from %s closed: no hello in time", peer);
		conn->reactor->metrics.hello_timeouts++;
	}
	conn->lane->ops->close(&conn->lane);
	conn_free(conn);
}

static struct conn *conn_take(struct reactor *reactor, struct xprt_lane *lane)
{
	struct env *env = reactor->env;
	struct list *node = NULL;
	struct conn *conn;

	if (reactor->pending_count < reactor->opts.pending_max)
		node = pool_take(&reactor->conns);
	if (node == NULL)
		return NULL;
	conn = list_entry(node, struct conn, node);
	memset(conn, 0, sizeof(*conn));
	conn->magic = CONN_MAGIC;
	conn->state = CONN_HELLO;
	conn->reactor = reactor;
	conn->lane = lane;
	conn->timer.fire = conn_timer_cb;
	env->ops->timer_set(env, &conn->timer, env_now_ns(env) + reactor->opts.hello_ns);
	list_init(&conn->node);
	list_add_tail(&reactor->pending, &conn->node);
	reactor->pending_count++;
	return conn;
}

static void conn_leave_pending(struct conn *conn)
{
	struct reactor *reactor = conn->reactor;

	ASSERT(reactor->pending_count > 0);
	reactor->pending_count--;
	list_del(&conn->node);
	reactor->env->ops->timer_clear(reactor->env, &conn->timer);
}

void conn_free(struct conn *conn)
{
	struct reactor *reactor = conn->reactor;

	CHECK_OBJ(conn, CONN_MAGIC);
	if (conn->state != CONN_OPEN)
		conn_leave_pending(conn);
	memset(conn, 0, sizeof(*conn));
	list_init(&conn->node);
	pool_give(&reactor->conns, &conn->node);
}

/* Returns 0: the lane goes on until the linger is over. */
static int conn_refuse(struct conn *conn, int code, const char *text)
{
	struct reactor *reactor = conn->reactor;
	struct env *env = reactor->env;
	char peer[64];

	conn->lane->ops->peer_name(conn->lane, peer, sizeof(peer));
	log_warn("connection from %s refused: %s", peer, text);
	reactor->metrics.refusals++;
	conn->state = CONN_REFUSED;
	env->ops->timer_set(env, &conn->timer, env_now_ns(env) + REFUSE_LINGER_NS);
	/* When it cannot even be sent, the peer sees the end of the connection. */
	(void)xprt_refuse(conn->lane, code, text);
	return 0;
}

/* --- the preface --- */

/* The session that a JOIN names, while it is here. All lanes of a session are of one transport,
 * under TLS or not. */
static struct session *conn_join_session(const struct conn *conn)
{
	const struct wire_preface *preface = &conn->transcript.preface;
	struct session *session;

	if (preface->incarnation != conn->reactor->opts.incarnation ||
	    preface->reactor != conn->reactor->opts.index)
		return NULL;
	session = session_find(conn->reactor, preface->session);
	if (session == NULL || session->xprt != conn->lane->ops ||
	    session->is_tls != conn_is_tls(conn))
		return NULL;
	return session;
}

static int conn_check(const struct reactor *reactor, const struct xprt_lane *lane,
		      const struct wire_preface *preface)
{
	bool has_tls = (lane->ops->caps & XPRT_CAP_TLS) != 0;
	bool is_tls = (preface->flags & WIRE_PREFACE_TLS) != 0;
	int rc = wire_check_preface(preface);

	if (rc == 0 && is_tls && (!has_tls || reactor->opts.tls == REACTOR_TLS_OFF))
		return -ERR_UNSUPPORTED;
	if (rc == 0 && !is_tls && has_tls && reactor->opts.tls == REACTOR_TLS_REQUIRED)
		return -ERR_UNSUPPORTED;
	if (rc == 0 && reactor->is_finishing)
		return -ERR_CLOSING;
	return rc;
}

/* Which reactor a connection is for. JOIN and a NEW that knows what it wants say it; others are
 * dealt out in turn. One that is not there: a NEW learns from WELCOME, a JOIN is refused here. */
static uint32_t conn_reactor(struct reactor *reactor, const struct wire_preface *preface)
{
	if (preface->reactor < reactor->opts.reactor_count)
		return preface->reactor;
	if (preface->mode == WIRE_MODE_JOIN)
		return reactor->opts.index;
	reactor->next_reactor = (reactor->next_reactor + 1) % reactor->opts.reactor_count;
	return reactor->next_reactor;
}

/* 1: it is on its way to another reactor; 0: it is ours. */
static int conn_hand_over(struct reactor *reactor, struct xprt_listener *listener,
			  struct xprt_lane *lane, const struct wire_preface *preface)
{
	uint32_t wanted = reactor->opts.index;
	struct mail *mail;
	int rc;

	if (reactor->opts.index == 0 && reactor->opts.mailboxes != NULL &&
	    listener != reactor->door)
		wanted = conn_reactor(reactor, preface);
	if (wanted == reactor->opts.index)
		return 0;
	mail = mailbox_reserve(reactor->opts.mailboxes[wanted]);
	if (mail == NULL)
		return -ERR_BUSY;
	rc = lane->ops->detach(lane, &mail->u.connection);
	mail->kind = rc < 0 ? MAIL_NOTHING : MAIL_CONNECTION;
	mail->u.connection.preface = *preface;
	mail->u.connection.listener = reactor_listener_index(reactor, listener);
	mailbox_commit(reactor->opts.mailboxes[wanted], mail);
	return rc < 0 ? rc : 1;
}

int conn_accepted(struct xprt_listener *listener, struct xprt_lane *lane,
		  const struct wire_preface *preface)
{
	struct reactor *reactor = reactor_of(listener->ctx);
	struct conn *conn;
	int rc;

	rc = conn_hand_over(reactor, listener, lane, preface);
	if (rc > 0)
		return 0;
	reactor->metrics.connections++;
	if (rc == 0)
		rc = conn_check(reactor, lane, preface);
	if (rc < 0) {
		reactor->metrics.refusals++;
		return rc;
	}
	conn = conn_take(reactor, lane);
	if (conn == NULL) {
		reactor->metrics.refusals++;
		return -ERR_BUSY;
	}
	conn->transcript.preface = *preface;
	if (preface->mode == WIRE_MODE_JOIN && conn_join_session(conn) == NULL) {
		conn_free(conn);
		reactor->metrics.refusals++;
		return -ERR_CHANGED;
	}
	lane->ctx = conn;
	return 0;
}

/* --- TLS: the tenant's secret as PSK --- */

bool conn_tls_key(struct xprt_lane *lane, char identity[AUTH_TLS_IDENTITY_MAX],
		  uint8_t key_out[AUTH_SECRET_SIZE])
{
	struct conn *conn = lane->ctx;
	const struct auth_secret *secret = NULL;
	char tenant[WIRE_TENANT_MAX];
	uint8_t id[8];

	CHECK_OBJ(conn, CONN_MAGIC);
	if (!auth_tls_identity_parse(identity, tenant, id))
		return false;
	(void)tenants_find(conn->reactor->opts.tenants, tenant, id, &secret);
	if (secret == NULL)
		return false;
	auth_tls_key(secret, key_out);
	return true;
}

/* --- HELLO --- */

/* The key that proofs are made with; NULL: not known. */
static const void *conn_find_key(struct conn *conn)
{
	const struct wire_hello *hello = &conn->transcript.hello;
	const char *name = (const char *)hello->tenant;
	struct session *session;

	if (conn->transcript.preface.mode == WIRE_MODE_JOIN) {
		session = conn_join_session(conn);
		if (session == NULL || strcmp(session->tenant->name, name) != 0)
			return NULL;
		return &session->key;
	}
	conn->tenant =
		tenants_find(conn->reactor->opts.tenants, name, hello->secret_id, &conn->secret);
	return conn->tenant != NULL ? conn->secret : NULL;
}

void conn_forget_tenant(struct conn *conn)
{
	conn->tenant = NULL;
	conn->secret = NULL;
}

/* Lanes that a session of this transport may have. */
static uint32_t conn_lane_max(const struct conn *conn)
{
	return MIN(conn->reactor->opts.lane_max, conn->lane->ops->lane_max);
}

static int conn_hello(struct conn *conn, const struct wire_hello *hello)
{
	struct reactor *reactor = conn->reactor;
	struct env *env = reactor->env;
	struct wire_challenge *challenge = &conn->transcript.challenge;
	bool is_join = conn->transcript.preface.mode == WIRE_MODE_JOIN;
	struct wire_header header;
	struct auth_key decoy;
	const void *key;

	if (is_join != (hello->lane != 0))
		return -ERR_PROTOCOL;
	if (hello->lane >= conn_lane_max(conn))
		return conn_refuse(conn, -ERR_BUSY, "a session may not have so many lanes");
	if ((hello->transports & conn->lane->ops->transport) == 0)
		return conn_refuse(conn, -ERR_UNSUPPORTED, "no transport in common");
	conn->transcript.hello = *hello;
	challenge->version = MIN(WIRE_VERSION, conn->transcript.preface.version_max);
	env->ops->random(env, challenge->nonce, sizeof(challenge->nonce));
	memcpy(challenge->server, reactor->opts.server, sizeof(challenge->server));
	challenge->incarnation = reactor->opts.incarnation;
	env->ops->random(env, &decoy, sizeof(decoy));
	key = conn_find_key(conn);
	auth_proof(key != NULL ? key : &decoy, AUTH_SERVER, &conn->transcript, challenge->proof);
	wire_header_init(&header, WIRE_CHALLENGE, 0, 0, sizeof(*challenge));
	conn->state = CONN_PROOF;
	return conn->lane->ops->send(conn->lane, &header, challenge, NULL, 0);
}

/* --- PROOF and WELCOME --- */

uint64_t reactor_capacity(const struct reactor *reactor)
{
	uint64_t sum = 0;

	if (reactor->opts.capacity != 0)
		return reactor->opts.capacity;
	for (uint32_t i = 0; i < reactor->opts.shard_count; i++) {
		struct shard_stats stats;

		if (reactor->slots[i].shard == NULL)
			continue;
		shard_get_stats(reactor->slots[i].shard, &stats);
		sum += stats.capacity;
	}
	return sum;
}

/* The door of this reactor, for who came by another way. How many: 0 or 1. */
static uint8_t welcome_offer(const struct conn *conn, struct wire_offer *offer_out)
{
	const struct reactor *reactor = conn->reactor;
	struct wire_offer offer = { .reactor = reactor->opts.index };
	char name[sizeof(offer.address)];

	if (reactor_door_name(reactor, name, sizeof(name)) < 0 ||
	    reactor->door->ops == conn->lane->ops)
		return 0;
	offer.transport = reactor->door->ops->transport;
	snprintf((char *)offer.address, sizeof(offer.address), "%s",
		 strncmp(name, "unix:", 5) == 0 ? name + 5 : name);
	memcpy(offer_out, &offer, sizeof(offer));
	return 1;
}

static int send_welcome(const struct conn *conn)
{
	const struct session *session = conn->session;
	const struct reactor *reactor = conn->reactor;
	const struct reactor_opts *opts = &reactor->opts;
	struct welcome welcome = { 0 };
	struct wire_header header;

	welcome.fixed = (struct wire_welcome) {
		.session = session->id,
		.incarnation = opts->incarnation,
		.block_max = reactor->block_max,
		.credit = session->credit_initial,
		.request_max = session->request_max,
		.weight = opts->weight,
		.capacity = reactor_capacity(reactor),
		.reactor = opts->index,
		.reactor_count = opts->reactor_count,
		.lane_max = (uint8_t)conn_lane_max(conn),
		.verify = (uint8_t)opts->verify,
		.rights = session->tenant->rights,
		.stall_ms = opts->stall_ms,
	};
	memcpy(welcome.fixed.server, opts->server, sizeof(welcome.fixed.server));
	for (uint32_t i = 0; i < opts->table_count; i++) {
		const struct reactor_shard *row = &opts->table[i];

		memcpy(welcome.shards[i].uuid, row->uuid, sizeof(row->uuid));
		welcome.shards[i].index = (uint16_t)i;
		welcome.shards[i].reactor = row->reactor;
		welcome.shards[i].weight = row->weight;
	}
	welcome.fixed.offer_count = welcome_offer(conn, (void *)&welcome.shards[opts->table_count]);
	wire_header_init(&header, WIRE_WELCOME, 0, (uint16_t)opts->table_count,
			 (uint32_t)(sizeof(welcome.fixed) +
				    opts->table_count * sizeof(welcome.shards[0]) +
				    welcome.fixed.offer_count * sizeof(welcome.offer)));
	header.credit = session->credit_given;
	return conn->lane->ops->send(conn->lane, &header, &welcome, NULL, 0);
}

/* From the next frame on there are MACs. */
static int conn_secure(const struct conn *conn, const struct auth_key *key)
{
	struct xprt_lane *lane = conn->lane;
	struct auth_mac *out = NULL;
	struct auth_mac *in = NULL;
	int rc;

	if ((lane->ops->caps & XPRT_CAP_MAC) == 0 || conn_is_tls(conn))
		return 0;
	rc = auth_mac_create(key, &conn->transcript, WIRE_S2C, &out);
	if (rc < 0)
		return rc;
	rc = auth_mac_create(key, &conn->transcript, WIRE_C2S, &in);
	if (rc < 0) {
		auth_mac_destroy(&out);
		return rc;
	}
	lane->ops->secure(lane, out, in);
	return 0;
}

/* The session of a proved connection; NULL: *code_out and why say why not. */
static struct session *conn_session(struct conn *conn, int *code_out, char *why, size_t why_size)
{
	struct auth_key key;
	struct session *session;

	if (conn->transcript.preface.mode == WIRE_MODE_JOIN) {
		session = conn_join_session(conn);
		*code_out = session == NULL ? -ERR_CHANGED : -ERR_BUSY;
		snprintf(why, why_size, "%s", err_str(*code_out));
		if (session != NULL && session->group.lanes[conn->transcript.hello.lane] != NULL)
			return NULL;
		return session;
	}
	auth_session_key(conn->secret, &conn->transcript, &key);
	*code_out = -ERR_BUSY;
	session = session_create(conn->reactor, conn->tenant, conn->lane->ops, &key, why, why_size);
	if (session != NULL)
		session->is_tls = conn_is_tls(conn);
	if (session != NULL)
		memcpy(session->secret_id, conn->transcript.hello.secret_id,
		       sizeof(session->secret_id));
	return session;
}

static int conn_proof(struct conn *conn, const struct wire_proof *proof)
{
	const void *key = conn_find_key(conn);
	struct session *session;
	char why[sizeof(((struct wire_refuse *)0)->text)];
	uint8_t want[32];
	int rc;

	if (key != NULL)
		auth_proof(key, AUTH_CLIENT, &conn->transcript, want);
	if (key == NULL || !auth_proof_equal(want, proof->proof)) {
		conn->reactor->metrics.auth_failures++;
		return conn_refuse(conn, -ERR_AUTH, err_str(-ERR_AUTH));
	}
	session = conn_session(conn, &rc, why, sizeof(why));
	if (session == NULL)
		return conn_refuse(conn, rc, why);
	rc = conn_secure(conn, &session->key);
	if (rc < 0) {
		if (session->lane_count == 0)
			session_end(session);
		return conn_refuse(conn, -ERR_BUSY, "no memory for the lane's keys");
	}
	conn_leave_pending(conn);
	conn->state = CONN_OPEN;
	session_lane_add(session, conn, conn->transcript.hello.lane);
	return send_welcome(conn);
}

int conn_hello_frame(struct conn *conn, const struct xprt_frame *frame)
{
	if (conn->state == CONN_REFUSED)
		return 0;
	if (conn->state == CONN_HELLO && frame->header->kind == WIRE_HELLO)
		return conn_hello(conn, frame->body);
	if (conn->state == CONN_PROOF && frame->header->kind == WIRE_PROOF)
		return conn_proof(conn, frame->body);
	conn->reactor->metrics.protocol_errors++;
	return -ERR_PROTOCOL;
}
