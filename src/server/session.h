/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections, sessions and requests, as the reactor sees them.
 *
 *   conn      one connection: first a stranger in hello (hello.c), then a lane of a session
 *   session   an authenticated client: lanes, credit, quotas, its requests and ops (session.c);
 *             its window of moves (moves.c)
 *   request   one request frame until all its items are answered (request.c)
 *
 * Threads: the reactor's. Memory: pools of the reactor; only the OpenSSL contexts of hello and of a
 * lane's MACs are allocated when a connection comes.
 */
#ifndef SERVER_SESSION_H
#define SERVER_SESSION_H

#include "op.h"
#include "tenants.h"

#define CONN_MAGIC       UINT32_C(0x4e4f4343)
#define SESSION_MAGIC    UINT32_C(0x53455343)
#define REQUEST_MAGIC    UINT32_C(0x51455243)

#define SESSION_MOVE_MAX 32   /* moves under way in a session */
#define MOVES_DEFAULT    2048 /* in a reactor: 64 sessions may have as many */
/* Bytes of moves under way in a session. */
#define PUSH_WINDOW         (8 * MiB)
#define PULL_WINDOW         MiB
#define PULL_WINDOW_LANE    XPRT_STRIPE_SIZE /* no other session pulls: of one lane, or of two */
#define SESSION_CREDIT      (64 * KiB)
#define SESSION_REQUEST_MIN 8  /* kept for each session there may be */
#define REQUEST_BUCKETS     64 /* of a session's table of requests */

enum conn_state {
	CONN_FREE = 0,
	CONN_HELLO,   /* HELLO is due */
	CONN_PROOF,   /* PROOF is due */
	CONN_REFUSED, /* REFUSE is on its way; frames are not looked at */
	CONN_OPEN,    /* a lane of session */
};

struct conn {
	uint32_t magic;
	enum conn_state state;
	struct list node; /* the pool, or reactor->pending */
	struct reactor *reactor;
	struct xprt_lane *lane;
	struct session *session; /* OPEN */
	uint16_t number;         /* of the lane in the session */
	bool is_blocked;         /* send() said -EAGAIN; writable() will come */
	/* Hello. */
	struct env_timer timer; /* ends hello, or a refusal's last moments */
	struct auth_transcript transcript;
	const struct tenant *tenant;
	const struct auth_secret *secret; /* NULL: unknown; its proof cannot be right */
};

struct session {
	uint32_t magic;
	struct list node; /* the pool, or reactor->sessions */
	struct reactor *reactor;
	uint64_t id;
	struct auth_key key;
	const struct tenant *tenant;
	uint8_t secret_id[8]; /* that it proved itself with */
	const struct xprt_ops *xprt;
	bool is_tls; /* all its lanes are, or none */
	struct xprt_group group;
	uint32_t lane_count;
	struct env_timer idle_timer; /* no lanes: the end comes */

	/* Credit, as wire_header.credit counts it: sums that wrap. */
	uint32_t credit_given;
	uint32_t credit_told;
	uint32_t credit_used;
	uint32_t credit_initial; /* its share of reactor->credit_free */
	uint8_t notice_due;      /* enum wire_notice_code beside CREDIT; 0: none */
	bool is_broken;          /* it broke the protocol: ends with the lane that did */

	/* Requests. */
	uint32_t request_max;   /* told in WELCOME; as many again are answered BUSY */
	uint32_t request_count; /* in flight */
	struct list buckets[REQUEST_BUCKETS];
	struct list replies;  /* requests with something to send */
	struct list run_node; /* reactor->sessions_woken */

	struct list leases;
	uint32_t lease_count;
	uint32_t lease_item_count; /* in them */

	/* Ops and their moves. */
	struct list ops;
	uint32_t op_count;
	uint32_t behind_count;      /* of them, answered and still being written */
	struct list behind_waiters; /* ops whose answer is held back for that */
	struct list behind_node;    /* reactor->behind_sessions */
	struct list check_waiters;  /* ops whose block is to be summed (check.c) */
	struct list check_node;     /* reactor->check_sessions */
	int64_t check_part;    /* bytes that it may have summed before others; 0 and less: none */
	struct list movers;    /* ops with something to move */
	struct list moves;     /* under way, by op_move.session_node */
	struct list move_node; /* reactor->move_waiters */
	uint64_t window[2];    /* bytes under way, by op_kind.is_pull */
	uint32_t move_count;
	uint64_t moved;               /* bytes of finished moves */
	uint64_t moved_seen;          /* progress of all moves when the stall timer last looked */
	struct env_timer stall_timer; /* set while moves are under way */
	struct flow_quotas *quotas;   /* of each slot of the reactor */
};

struct request {
	uint32_t magic;
	uint16_t kind;          /* enum wire_kind */
	uint16_t lane;          /* it came on; the answer goes there */
	struct list node;       /* the pool, or a bucket of the session */
	struct list reply_node; /* session->replies */
	struct session *session;
	uint64_t id;
	uint8_t ns[16];
	uint8_t domain[16];
	uint32_t flags;
	uint32_t item_count;
	uint32_t sent_count;
	struct list items;    /* ops under way */
	struct list ready;    /* ops ANSWERED, in the order it happened */
	struct list progress; /* ops that are not, with something to tell of it */
	/* Items [refused_next, refused_end) have no op and this result. */
	uint32_t refused_next;
	uint32_t refused_end;
	int refused_status;
	uint64_t received_ns;
	uint64_t deadline_ns;
	struct env_timer timer;
	struct request *canceller; /* a CANCEL waits for the end of this one */
	uint32_t canceller_item;
	struct wire_bitmap bitmap; /* BITMAP */
	/* BITMAP: the bits. CANCEL: items to be answered; of these, -EALREADY and -EINVAL. */
	uint8_t bits[WIRE_ITEM_MAX / 8];
	uint8_t already_bits[WIRE_ITEM_MAX / 8];
	uint8_t invalid_bits[WIRE_ITEM_MAX / 8];
};

/* --- hello.c --- */

int conn_accepted(struct xprt_listener *listener, struct xprt_lane *lane,
		  const struct wire_preface *preface);
int conn_hello_frame(struct conn *conn, const struct xprt_frame *frame);
bool conn_tls_key(struct xprt_lane *lane, char identity[AUTH_TLS_IDENTITY_MAX],
		  uint8_t key_out[AUTH_SECRET_SIZE]);
static inline bool conn_is_tls(const struct conn *conn)
{
	return (conn->transcript.preface.flags & WIRE_PREFACE_TLS) != 0;
}

void conn_free(struct conn *conn);
/* The table of tenants goes: it is asked again at PROOF. */
void conn_forget_tenant(struct conn *conn);

/* --- session.c --- */

/* NULL: no session is left, or the tenant has all it may have: why says it, with the option. */
struct session *session_create(struct reactor *reactor, const struct tenant *tenant,
			       const struct xprt_ops *xprt, const struct auth_key *key, char *why,
			       size_t why_size);
struct session *session_find(struct reactor *reactor, uint64_t id);
void session_lane_add(struct session *session, struct conn *conn, uint16_t number);
/* The transport has closed the lane: its requests end with it. Without lanes the session ends,
 * unless it has leases: then it idles. */
void session_lane_gone(struct session *session, struct conn *conn);
int session_frame(struct session *session, struct conn *conn, const struct xprt_frame *frame);
/* Close its lanes, give up its ops, forget it. */
void session_end(struct session *session);
/* Run it soon, from the loop: pump moves, send replies. */
void session_wake(struct session *session);
void session_run(struct session *session);
/* Send a control frame on the lane with that number; credit goes with it. */
int session_send(struct session *session, uint16_t number, struct wire_header *header,
		 const void *body) MUST_USE;
/* The bytes of a frame that cost credit are no longer held. */
void session_credit_return(struct session *session, uint32_t size);

/* --- moves.c --- */

void moves_init(struct session *session);
void moves_pump(struct session *session);
void moves_revoke(struct op *op);

/* --- request.c --- */

/* What came in a frame that is checked and paid for. Returns how many bytes of its payload are
 * still held, and cost credit; or -ERR_PROTOCOL. */
int request_frame(struct session *session, uint16_t lane, const struct xprt_frame *frame) MUST_USE;
struct request *request_find(struct session *session, uint64_t id);
/* Items from first on have no op and end with status. */
void request_refuse(struct request *request, uint32_t first, int status);
/* It has something to send. */
void request_reply_later(struct request *request);
/* Send what there is; afterwards request may be gone. What cannot be sent now stays in
 * session->replies, until writable() or the end of its lane. */
void request_send(struct request *request);
void request_give_up(struct request *request, int status);
/* End it and tell nobody but who cancels it. Its ops are gone or orphaned. */
void request_free(struct request *request);

/* --- a file per kind of request; the frame is checked --- */

void get_request(struct request *request, const struct wire_header *header, const void *body);
/* Returns how many bytes of the payload are still held, and cost credit. */
uint32_t put_request(struct request *request, const struct wire_header *header, const void *body,
		     const void *payload);
void drop_request(struct request *request, const struct wire_header *header, const void *body);
void lookup_request(struct request *request, const struct wire_header *header, const void *body);
void cancel_request(struct request *request, const struct wire_header *header, const void *body);
/* The request that a CANCEL waits for has ended. */
void cancel_ended(struct request *cancel, uint32_t item);
uint32_t stat_text(struct reactor *reactor, const struct session *session, char *buf,
		   uint32_t buf_size);

#endif
