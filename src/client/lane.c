/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to the server, from connect to WELCOME, and the transport's upcalls.
 *
 *   1. connect; the transport sends the preface: NEW for lane 0, JOIN for the others; then TLS,
 *      where the target wants it: with it or not at all
 *   2. HELLO with tenant, nonce and the secret's id
 *   3. CHALLENGE: the server's nonce and proof, checked here; lane 0 derives the session key
 *   4. PROOF; from the next frame on both directions carry MACs
 *   5. WELCOME: the lane is up and the session has it
 *
 * Failure: a wrong proof, a REFUSE, an unexpected frame, silence for connect_timeout_ns, a broken
 * connection: the lane is closed and session_lane_down() decides what next.
 *
 * The lane of a session's door (door.c) is a first lane of its own until the session moves to it.
 */
#include <stdio.h>
#include <string.h>

#include "../base/log.h"
#include "client_priv.h"

static bool lane_is_new(const struct client_lane *lane)
{
	return lane->index == 0;
}

static const void *lane_proof_key(const struct client_lane *lane)
{
	if (lane_is_new(lane))
		return lane_client(lane)->opts.target.secret.bytes;
	return lane->session->lanes[0].key.bytes;
}

static int send_hello(struct client_lane *lane)
{
	struct client *client = lane_client(lane);
	struct wire_hello *hello = &lane->transcript.hello;
	struct wire_header header;

	*hello = (struct wire_hello) {
		.transports = lane->xprt->transport,
		.lane = lane->index,
	};
	snprintf((char *)hello->tenant, sizeof(hello->tenant), "%s", client->opts.target.tenant);
	client->env->ops->random(client->env, hello->nonce, sizeof(hello->nonce));
	auth_secret_id(&client->opts.target.secret, hello->secret_id);

	wire_header_init(&header, WIRE_HELLO, 0, 0, sizeof(*hello));
	return lane->xprt->send(lane->lane, &header, hello, NULL, 0);
}

/* MACs begin behind PROOF. */
static int lane_secure(struct client_lane *lane)
{
	const struct xprt_ops *xprt = lane->xprt;
	const struct auth_key *key = lane_is_new(lane) ? &lane->key : &lane->session->lanes[0].key;
	struct auth_mac *out = NULL;
	struct auth_mac *in = NULL;
	int rc;

	if ((xprt->caps & XPRT_CAP_MAC) != 0 && !lane_client(lane)->opts.target.is_tls) {
		rc = auth_mac_create(key, &lane->transcript, WIRE_C2S, &out);
		if (rc < 0)
			return rc;
		rc = auth_mac_create(key, &lane->transcript, WIRE_S2C, &in);
		if (rc < 0) {
			auth_mac_destroy(&out);
			return rc;
		}
	}
	xprt->secure(lane->lane, out, in);
	return 0;
}

static int send_proof(struct client_lane *lane)
{
	struct wire_header header;
	struct wire_proof proof;
	int rc;

	auth_proof(lane_proof_key(lane), AUTH_CLIENT, &lane->transcript, proof.proof);
	wire_header_init(&header, WIRE_PROOF, 0, 0, sizeof(proof));
	rc = lane->xprt->send(lane->lane, &header, &proof, NULL, 0);
	return rc < 0 ? rc : lane_secure(lane);
}

/* Send what hello has to send next. -EAGAIN: writable() comes back here. */
static int lane_advance(struct client_lane *lane)
{
	int rc;

	switch (lane->state) {
	case LANE_HELLO:
		rc = send_hello(lane);
		if (rc < 0)
			return rc == -EAGAIN ? 0 : rc;
		lane->state = LANE_CHALLENGE;
		return 0;
	case LANE_PROOF:
		rc = send_proof(lane);
		if (rc < 0)
			return rc == -EAGAIN ? 0 : rc;
		lane->state = LANE_WELCOME;
		return 0;
	default:
		return 0;
	}
}

static int on_challenge(struct client_lane *lane, const struct wire_challenge *challenge)
{
	struct client *client = lane_client(lane);
	struct session *session = lane->session;
	uint8_t proof[32];

	if (lane->state != LANE_CHALLENGE)
		return -ERR_PROTOCOL;
	lane->transcript.challenge = *challenge;
	auth_proof(lane_proof_key(lane), AUTH_SERVER, &lane->transcript, proof);
	if (!auth_proof_equal(proof, challenge->proof)) {
		if (lane_is_new(lane) && session->last_error != -ERR_AUTH)
			log_error("server %s refused tenant %s: unknown there, or another secret "
				  "than in the key file; compare it with the server's secrets file",
				  session->server->address, client->opts.target.tenant);
		return -ERR_AUTH;
	}
	if (lane_is_new(lane))
		auth_session_key(&client->opts.target.secret, &lane->transcript, &lane->key);
	lane->state = LANE_PROOF;
	return lane_advance(lane);
}

static int on_welcome(struct client_lane *lane, const struct xprt_frame *frame)
{
	struct client *client = lane_client(lane);

	if (lane->state != LANE_WELCOME)
		return -ERR_PROTOCOL;
	client->env->ops->timer_clear(client->env, &lane->timer);
	lane->state = LANE_UP;
	if (lane->is_door)
		return door_lane_up(lane->session, frame->body);
	return session_lane_up(lane, frame->body, wire_items(frame->header, frame->body),
			       frame->header->count);
}

/* REFUSE has no MAC: behind WELCOME it is not believed, only the connection ends. */
static int on_refuse(struct client_lane *lane, const struct wire_refuse *refuse)
{
	if (lane->state == LANE_UP)
		return -ERR_PROTOCOL;
	if (!lane->is_door && lane->session->last_error != refuse->code)
		log_warn("server %s refused lane %u: %s (%s)", lane->session->server->address,
			 lane->index, refuse->text, err_str(refuse->code));
	lane->refused = refuse->code;
	return refuse->code;
}

static void lane_down(struct client_lane *lane, int why)
{
	if (lane->is_door)
		door_lane_down(lane->session, why);
	else
		session_lane_down(lane, why);
}

/* --- upcalls --- */

static struct client_lane *lane_of(struct xprt_lane *xlane)
{
	struct client_lane *lane = xlane->ctx;

	CHECK_OBJ(lane, LANE_MAGIC);
	ASSERT(lane->lane == xlane);
	return lane;
}

static int user_accepted(struct xprt_listener *listener, struct xprt_lane *lane,
			 const struct wire_preface *preface)
{
	ASSERT(false);
	return -ERR_PROTOCOL;
}

/* A failed send here is followed by closed(). */
static void user_opened(struct xprt_lane *xlane)
{
	struct client_lane *lane = lane_of(xlane);

	ASSERT(lane->state == LANE_CONNECT);
	lane->state = LANE_HELLO;
	(void)lane_advance(lane);
}

static bool user_tls_key(struct xprt_lane *xlane, char identity[AUTH_TLS_IDENTITY_MAX],
			 uint8_t key_out[AUTH_SECRET_SIZE])
{
	const struct client_target *target = &lane_client(lane_of(xlane))->opts.target;

	auth_tls_identity(target->tenant, &target->secret, identity);
	auth_tls_key(&target->secret, key_out);
	return true;
}

static int user_frame(struct xprt_lane *xlane, const struct xprt_frame *frame)
{
	struct client_lane *lane = lane_of(xlane);
	struct session *session = lane->session;
	int rc;

	session_heard(session);
	switch (frame->header->kind) {
	case WIRE_CHALLENGE:
		return on_challenge(lane, frame->body);
	case WIRE_WELCOME:
		return on_welcome(lane, frame);
	case WIRE_REFUSE:
		return on_refuse(lane, frame->body);
	default:
		if (lane->state != LANE_UP)
			return -ERR_PROTOCOL;
		if (lane->is_door)
			return 0; /* a notice; its credit stands in the next frame, too */
		session_credit(session, frame->header->credit);
		rc = answer_frame(lane, frame);
		if (rc == 0)
			session_pump(session);
		return rc;
	}
}

static int user_locate(struct xprt_lane *xlane, enum wire_kind kind, uint64_t request,
		       uint32_t item, uint64_t offset, uint32_t size, struct iovec *iov,
		       uint32_t iov_max)
{
	return answer_locate(lane_of(xlane), kind, request, item, offset, size, iov, iov_max);
}

static void user_landed(struct xprt_lane *xlane, enum wire_kind kind, uint64_t request,
			uint32_t item, uint64_t offset, uint32_t size)
{
	struct client_lane *lane = lane_of(xlane);

	session_heard(lane->session);
	answer_landed(lane, kind, request, item, offset, size);
}

static void user_writable(struct xprt_lane *xlane)
{
	struct client_lane *lane = lane_of(xlane);

	if (lane->state == LANE_UP)
		session_pump(lane->session);
	else
		(void)lane_advance(lane); /* a failed send is followed by closed() */
}

static void user_closed(struct xprt_lane *xlane, int why)
{
	struct client_lane *lane = lane_of(xlane);

	lane->is_gone = true;
	lane_down(lane, lane->refused < 0 ? lane->refused : why);
}

static const struct xprt_user client_xprt_user = {
	.accepted = user_accepted,
	.opened = user_opened,
	.frame = user_frame,
	.tls_key = user_tls_key,
	.locate = user_locate,
	.landed = user_landed,
	.writable = user_writable,
	.closed = user_closed,
};

/* --- for the session --- */

static void preface_init(const struct client_lane *lane, struct wire_preface *preface)
{
	const struct session *session = lane->session;
	const struct wire_welcome *welcome = &session->welcome;

	*preface = (struct wire_preface) {
		.magic = WIRE_PREFACE_MAGIC,
		.version_min = WIRE_VERSION_MIN,
		.version_max = WIRE_VERSION,
		.mode = WIRE_MODE_NEW,
		.flags = lane_client(lane)->opts.target.is_tls ? WIRE_PREFACE_TLS : 0,
		.reactor = session->is_any_asked ? REACTOR_ANY : session->reactor,
	};
	if (lane_is_new(lane))
		return;
	preface->mode = WIRE_MODE_JOIN;
	preface->reactor = welcome->reactor;
	preface->incarnation = welcome->incarnation;
	preface->session = welcome->session;
}

static void lane_late(struct env_timer *timer)
{
	struct client_lane *lane = CONTAINER_OF(timer, struct client_lane, timer);

	CHECK_OBJ(lane, LANE_MAGIC);
	ASSERT(lane->state != LANE_IDLE && lane->state != LANE_UP);
	lane_down(lane, -ETIMEDOUT);
}

void lane_init(struct client_lane *lane, struct session *session, uint16_t index)
{
	*lane = (struct client_lane) { .magic = LANE_MAGIC, .session = session, .index = index };
}

int lane_connect(struct client_lane *lane, const struct xprt_ops *xprt, const char *address)
{
	struct client *client = lane_client(lane);
	struct env *env = client->env;
	int rc;

	ASSERT(lane->lane == NULL);
	if (client->opts.target.is_tls && (xprt->caps & XPRT_CAP_TLS) == 0)
		return -ERR_UNSUPPORTED;
	lane->xprt = xprt;
	lane->refused = 0;
	lane->is_gone = false;
	lane->ghost_count = 0;
	preface_init(lane, &lane->transcript.preface);
	rc = xprt->connect(env, address, &lane->transcript.preface, &client_xprt_user, lane,
			   &lane->lane);
	if (rc < 0)
		return rc;
	lane->state = LANE_CONNECT;
	lane->timer.fire = lane_late;
	env->ops->timer_set(env, &lane->timer, env_now_ns(env) + client->opts.connect_timeout_ns);
	return 0;
}

void lane_close(struct client_lane *lane)
{
	struct client *client = lane_client(lane);

	client->env->ops->timer_clear(client->env, &lane->timer);
	if (!lane->is_door)
		lane->session->group.lanes[lane->index] = NULL;
	if (lane->lane != NULL && !lane->is_gone)
		lane->xprt->close(&lane->lane);
	lane->lane = NULL;
	lane->state = LANE_IDLE;
	lane->ghost_count = 0;
}

void lane_move(struct client_lane *to, struct client_lane *from)
{
	ASSERT(to->lane == NULL);
	ASSERT(from->state == LANE_UP);
	to->xprt = from->xprt;
	to->lane = from->lane;
	to->lane->ctx = to;
	to->is_gone = from->is_gone;
	to->state = LANE_UP;
	to->key = from->key;
	from->lane = NULL;
	from->state = LANE_IDLE;
}
