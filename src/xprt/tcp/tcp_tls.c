/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 under a lane, with the tenant's key as external PSK: between the lane's socket and
 * tcp_rx.c, tcp_tx.c, which do not know it. By OpenSSL; its BIO is the lane's socket.
 *
 * Normal path. The client sends its preface in the clear and the handshake right behind it; the
 * server begins when it has taken the preface. Reading and flushing both drive the handshake on;
 * when it is done the client's user is told opened(), and frames go as records of up to 16 KiB.
 * There is no certificate anywhere: only psk_dhe_ke (X25519 or P-256) with AES-128-GCM, no ticket,
 * no early data, no resumption. An identity that is not known is answered with a random key, so
 * that it fails like a wrong one. The keys change every TLS_REKEY_SIZE bytes.
 *
 * Sending. A record that the socket has no room for stays in OpenSSL's buffer; its bytes count as
 * sent from then on (nobody reads the caller's memory any more), and OUT is watched until it has
 * left. Receiving takes all there is, so that less than was asked for means that no more is here,
 * as with a socket.
 *
 * Memory. The SSL object (about 6 KiB) lives as long as the lane; record buffers (17 KiB each way)
 * are OpenSSL's and held only while bytes are in them (SSL_MODE_RELEASE_BUFFERS). A stranger's
 * handshake takes at most 128 KiB more; connections in hello are bounded in number and time.
 *
 * Failure. A handshake that fails (a wrong key, a certificate instead of the key, bytes that were
 * changed): one log line, -ERR_AUTH. Later a record that is not authentic: -ERR_PROTOCOL. The end
 * of the stream needs no close_notify: a frame is whole or never was. A server that answers a
 * client's preface in the clear can only refuse it: rx is told to take a REFUSE and nothing else.
 */
#include "tcp.h"

#include "../../base/log.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <string.h>

#define TLS_RECORD_SIZE (16 * KiB)
/* 64 GiB are 4 M records; AES-GCM stands 24 M (RFC 8446, 5.5). */
#ifdef CTXKV_SLOW_CHECKS
#define TLS_REKEY_SIZE (256 * KiB)
#else
#define TLS_REKEY_SIZE (64 * GiB)
#endif

struct tcp_tls {
	SSL *ssl;
	struct tcp_lane *lane;
	bool is_open;
	bool is_plain; /* the server has answered in the clear */
	bool has_heard;
	bool is_dry;         /* no whole record is here */
	int broken;          /* what the socket said */
	uint32_t pending;    /* bytes of the record that waits in OpenSSL */
	uint64_t written;    /* under this key */
	uint32_t clear_size; /* of the preface: still to be sent, in the clear */
	struct wire_preface clear;
	char identity[AUTH_TLS_IDENTITY_MAX];
};

/* --- the socket, as OpenSSL sees it --- */

static int bio_read(BIO *bio, char *bytes, int size)
{
	struct tcp_tls *tls = BIO_get_data(bio);
	struct tcp_lane *lane = tls->lane;
	struct iovec iov = { bytes, (size_t)size };
	ssize_t got = lane->lane.env->ops->sock_recv(lane->lane.env, lane->sock, &iov, 1);

	BIO_clear_retry_flags(bio);
	if (got == -EAGAIN)
		BIO_set_retry_read(bio);
	else if (got <= 0 && tls->broken == 0)
		tls->broken = got < 0 ? (int)got : -ERR_PEER;
	if (got <= 0)
		return -1;
	if (!tls->has_heard && lane->client != NULL && (uint8_t)bytes[0] == (uint8_t)WIRE_MAGIC) {
		ASSERT((size_t)got <= lane->rx.buf.size - lane->rx.buf.end);
		memcpy(lane->rx.buf.bytes + lane->rx.buf.end, bytes, (size_t)got);
		lane->rx.buf.end += (uint32_t)got;
		tls->is_plain = true;
		return -1;
	}
	tls->has_heard = true;
	return (int)got;
}

static int bio_write(BIO *bio, const char *bytes, int size)
{
	struct tcp_tls *tls = BIO_get_data(bio);
	struct tcp_lane *lane = tls->lane;
	struct iovec iov[2] = {
		{ (uint8_t *)(&tls->clear + 1) - tls->clear_size, tls->clear_size },
		{ (void *)(uintptr_t)bytes, (size_t)size },
	};
	uint32_t first = tls->clear_size == 0 ? 1 : 0;
	ssize_t sent = lane->lane.env->ops->sock_send(lane->lane.env, lane->sock, iov + first,
						      ARRAY_LEN(iov) - first);
	uint32_t clear = sent > 0 ? (uint32_t)MIN((uint64_t)sent, tls->clear_size) : 0;

	BIO_clear_retry_flags(bio);
	tls->clear_size -= clear;
	if (sent > clear)
		return (int)(sent - clear);
	if (sent >= 0 || sent == -EAGAIN)
		BIO_set_retry_write(bio);
	else if (tls->broken == 0)
		tls->broken = (int)sent;
	return -1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP;
}

/* --- keys --- */

static SSL_SESSION *key_session(SSL *ssl, const uint8_t key[AUTH_SECRET_SIZE])
{
	static const uint8_t aes_128_gcm_sha256[2] = { 0x13, 0x01 };
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, aes_128_gcm_sha256);
	SSL_SESSION *session = SSL_SESSION_new();

	if (session != NULL && cipher != NULL &&
	    SSL_SESSION_set1_master_key(session, key, AUTH_SECRET_SIZE) == 1 &&
	    SSL_SESSION_set_cipher(session, cipher) == 1 &&
	    SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
		return session;
	SSL_SESSION_free(session);
	return NULL;
}

static int client_key_cb(SSL *ssl, const EVP_MD *digest, const unsigned char **identity_out,
			 size_t *identity_size_out, SSL_SESSION **session_out)
{
	struct tcp_tls *tls = SSL_get_app_data(ssl);
	struct xprt_lane *lane = &tls->lane->lane;
	uint8_t key[AUTH_SECRET_SIZE];

	if (!lane->user->tls_key(lane, tls->identity, key))
		return 0;
	*session_out = key_session(ssl, key);
	OPENSSL_cleanse(key, sizeof(key));
	*identity_out = (const unsigned char *)tls->identity;
	*identity_size_out = strlen(tls->identity);
	return *session_out != NULL;
}

static int server_key_cb(SSL *ssl, const unsigned char *identity, size_t identity_size,
			 SSL_SESSION **session_out)
{
	struct tcp_tls *tls = SSL_get_app_data(ssl);
	struct xprt_lane *lane = &tls->lane->lane;
	uint8_t key[AUTH_SECRET_SIZE];

	if (identity_size >= sizeof(tls->identity))
		identity_size = 0; /* nobody's: the decoy, too */
	memcpy(tls->identity, identity, identity_size);
	tls->identity[identity_size] = '\0';
	if (strlen(tls->identity) != identity_size ||
	    !lane->user->tls_key(lane, tls->identity, key))
		lane->env->ops->random(lane->env, key, sizeof(key));
	*session_out = key_session(ssl, key);
	OPENSSL_cleanse(key, sizeof(key));
	return *session_out != NULL;
}

/* --- what all lanes of a process share: read-only once made --- */

static struct {
	SSL_CTX *server;
	SSL_CTX *client;
	BIO_METHOD *socket;
} shared;

static SSL_CTX *context_make(const SSL_METHOD *method)
{
	SSL_CTX *context = SSL_CTX_new(method);

	if (context == NULL)
		return NULL;
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
					  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					  SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(context, 1);
	SSL_CTX_set_psk_use_session_callback(context, client_key_cb);
	SSL_CTX_set_psk_find_session_callback(context, server_key_cb);
	if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
	    SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
	    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") == 1 &&
	    SSL_CTX_set1_groups_list(context, "X25519:P-256") == 1 &&
	    SSL_CTX_set_num_tickets(context, 0) == 1)
		return context;
	SSL_CTX_free(context);
	return NULL;
}

static void shared_make(void)
{
	shared.server = context_make(TLS_server_method());
	shared.client = context_make(TLS_client_method());
	/* A certificate can only be refused: there is none that would be believed. */
	if (shared.client != NULL)
		SSL_CTX_set_verify(shared.client, SSL_VERIFY_PEER, NULL);
	shared.socket = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "lane");
	if (shared.socket == NULL)
		return;
	BIO_meth_set_read(shared.socket, bio_read);
	BIO_meth_set_write(shared.socket, bio_write);
	BIO_meth_set_ctrl(shared.socket, bio_ctrl);
}

/* --- beginning and end --- */

/* The BIO is made by the same call as its init flag: without it OpenSSL does not use it. */
static BIO *bio_make(struct tcp_tls *tls)
{
	BIO *bio = shared.socket != NULL ? BIO_new(shared.socket) : NULL;

	if (bio == NULL)
		return NULL;
	BIO_set_data(bio, tls);
	BIO_set_init(bio, 1);
	return bio;
}

int tcp_tls_begin(struct tcp_lane *lane, const struct wire_preface *preface)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	bool is_client = lane->client != NULL;
	struct tcp_tls *tls;
	SSL_CTX *context;
	BIO *bio;

	ASSERT(lane->tls == NULL);
	pthread_once(&once, shared_make);
	context = is_client ? shared.client : shared.server;
	if (context == NULL)
		return -ENOMEM;
	tls = OPENSSL_zalloc(sizeof(*tls));
	if (tls == NULL)
		return -ENOMEM;
	tls->lane = lane;
	if (is_client) {
		tls->clear = *preface;
		tls->clear_size = sizeof(tls->clear);
	}
	tls->ssl = SSL_new(context);
	if (tls->ssl == NULL)
		goto err_free_tls;
	bio = bio_make(tls);
	if (bio == NULL)
		goto err_free_ssl;
	SSL_set_bio(tls->ssl, bio, bio); /* taken */
	SSL_set_app_data(tls->ssl, tls);
	if (is_client)
		SSL_set_connect_state(tls->ssl);
	else
		SSL_set_accept_state(tls->ssl);
	lane->tls = tls;
	return 0;

err_free_ssl:
	SSL_free(tls->ssl);
err_free_tls:
	OPENSSL_free(tls);
	return -ENOMEM;
}

void tcp_tls_end(struct tcp_lane *lane)
{
	struct tcp_tls *tls = lane->tls;

	if (tls == NULL)
		return;
	lane->tls = NULL;
	SSL_free(tls->ssl);
	OPENSSL_cleanse(tls, sizeof(*tls));
	OPENSSL_free(tls);
}

/* --- the handshake --- */

/* What an SSL call that did not succeed means: -EAGAIN, or why the lane ends. */
static int tls_why(struct tcp_tls *tls, int result)
{
	struct tcp_lane *lane = tls->lane;
	const char *reason;

	switch (SSL_get_error(tls->ssl, result)) {
	case SSL_ERROR_WANT_WRITE:
		lane->lane.is_blocked = true;
		return -EAGAIN;
	case SSL_ERROR_WANT_READ:
		tls->is_dry = true;
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return -ERR_PEER;
	default:
		break;
	}
	if (tls->broken != 0)
		return tls->broken;
	reason = ERR_reason_error_string(ERR_peek_error());
	log_warn("lane %s %s: %s", lane->peer,
		 tls->is_open ? "broke TLS" : "failed the TLS handshake",
		 reason != NULL ? reason : "no reason given");
	tls->broken = tls->is_open ? -ERR_PROTOCOL : -ERR_AUTH;
	return tls->broken;
}

/* Bytes that the socket does not tell of came with the end of the handshake, perhaps to a flush. */
static void rx_look(struct tcp_lane *lane)
{
	lane->rx.is_stalled = true;
	tcp_lane_wake(lane);
}

/* The server answers in the clear: only a REFUSE may come. */
static int tls_give_up(struct tcp_lane *lane)
{
	lane->rx.is_refused = true;
	rx_look(lane);
	tcp_tls_end(lane);
	return 0;
}

/* 0: done, or given up (lane->tls is gone); -EAGAIN; why the lane ends. */
static int tls_handshake(struct tcp_tls *tls)
{
	struct tcp_lane *lane = tls->lane;
	int result;

	if (tls->broken != 0)
		return tls->broken;
	ERR_clear_error();
	result = SSL_do_handshake(tls->ssl);
	if (tls->is_plain)
		return tls_give_up(lane);
	if (result != 1)
		return tls_why(tls, result);
	if (tls->is_open)
		return 0;
	if (SSL_session_reused(tls->ssl) != 1) {
		log_warn("lane %s did not use the key in the TLS handshake", lane->peer);
		return -ERR_AUTH;
	}
	tls->is_open = true;
	rx_look(lane);
	if (lane->client != NULL)
		lane->lane.user->opened(&lane->lane);
	return tcp_lane_is_open(lane) ? 0 : -ECANCELED;
}

/* New keys, when it is time or the peer wants them. */
static int tls_rekey(struct tcp_tls *tls)
{
	bool is_due = tls->written >= TLS_REKEY_SIZE ||
		      SSL_get_key_update_type(tls->ssl) != SSL_KEY_UPDATE_NONE;
	int rc;

	if (!is_due && SSL_in_init(tls->ssl) == 0)
		return 0;
	if (SSL_in_init(tls->ssl) == 0 &&
	    SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
		return -ERR_PROTOCOL;
	rc = tls_handshake(tls);
	if (rc == 0)
		tls->written = 0;
	return rc;
}

/* --- bytes --- */

/* size bytes, at most a record. 0: OpenSSL has them, and the socket perhaps not yet. */
static int tls_write(struct tcp_tls *tls, const uint8_t *bytes, uint32_t size)
{
	int result;
	int rc;

	ERR_clear_error();
	result = SSL_write(tls->ssl, bytes, (int)size);
	tls->pending = 0;
	if (result == (int)size)
		return 0;
	ASSERT(result <= 0);
	rc = tls_why(tls, result);
	if (rc == -EAGAIN)
		tls->pending = size;
	return rc == -EAGAIN ? 0 : rc;
}

int tcp_tls_flush(struct tcp_lane *lane)
{
	static const uint8_t nothing[TLS_RECORD_SIZE]; /* what waits is encrypted already */
	struct tcp_tls *tls = lane->tls;
	int rc;

	if (!tls->is_open)
		return tls_handshake(tls);
	if (tls->pending > 0) {
		rc = tls_write(tls, nothing, tls->pending);
		if (rc < 0)
			return rc;
	}
	return tls->pending > 0 ? -EAGAIN : tls_rekey(tls);
}

/* The next bytes of iov from skip on: in place when a record's worth lies together, else copied. */
static const uint8_t *tls_chunk(const struct iovec *iov, uint32_t iov_count, uint64_t skip,
				uint8_t stage[TLS_RECORD_SIZE], uint32_t *size_out)
{
	uint32_t size = 0;

	for (uint32_t i = 0; i < iov_count && size < TLS_RECORD_SIZE; i++) {
		uint64_t step = iov[i].iov_len;

		if (skip >= step) {
			skip -= step;
			continue;
		}
		step = MIN(step - skip, TLS_RECORD_SIZE - size);
		if (step == TLS_RECORD_SIZE) {
			*size_out = TLS_RECORD_SIZE;
			return (const uint8_t *)iov[i].iov_base + skip;
		}
		memcpy(stage + size, (const uint8_t *)iov[i].iov_base + skip, step);
		size += (uint32_t)step;
		skip = 0;
	}
	*size_out = size;
	return stage;
}

ssize_t tcp_tls_send(struct tcp_lane *lane, const struct iovec *iov, uint32_t iov_count)
{
	uint8_t stage[TLS_RECORD_SIZE];
	struct tcp_tls *tls = lane->tls;
	uint64_t sum = 0;
	int rc = tcp_tls_flush(lane);

	if (rc < 0)
		return rc;
	if (lane->tls == NULL)
		return -EAGAIN; /* given up: nothing is sent any more */
	while (tls->pending == 0) {
		uint32_t size;
		const uint8_t *chunk = tls_chunk(iov, iov_count, sum, stage, &size);

		if (size == 0)
			break;
		rc = tls_write(tls, chunk, size);
		if (rc < 0)
			return sum > 0 ? (ssize_t)sum : rc;
		sum += size;
		tls->written += size;
	}
	return (ssize_t)sum;
}

ssize_t tcp_tls_recv(struct tcp_lane *lane, const struct iovec *iov, uint32_t iov_count)
{
	struct tcp_tls *tls = lane->tls;
	int result = 1;
	uint64_t sum = 0;
	int rc;

	tls->is_dry = false;
	rc = tls->is_open ? 0 : tls_handshake(tls);
	if (rc < 0)
		return rc;
	if (lane->tls == NULL)
		return -EAGAIN;
	ERR_clear_error();
	for (uint32_t i = 0; i < iov_count && result > 0; i++) {
		uint64_t have = 0;

		while (have < iov[i].iov_len && result > 0) {
			result = SSL_read(tls->ssl, (uint8_t *)iov[i].iov_base + have,
					  (int)MIN(iov[i].iov_len - have, GiB));
			have += result > 0 ? (uint64_t)result : 0;
		}
		sum += have;
	}
	if (result <= 0)
		rc = tls_why(tls, result); /* once there are no more bytes, it is met again */
	return sum > 0 ? (ssize_t)sum : rc;
}

bool tcp_tls_has_more(const struct tcp_lane *lane)
{
	/* Of a part of a record it says so, too. */
	return !lane->tls->is_dry && SSL_has_pending(lane->tls->ssl) == 1;
}
