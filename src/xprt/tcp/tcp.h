/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tcp transport, over env's stream sockets (also Unix sockets and the simulator's). Its files:
 *   tcp.c         life and death of a lane, connect, the table of ops
 *   tcp_listen.c  what a connection meets at the door (door.h), big buffers
 *   tcp_rx.c      bytes that arrive: frames to the user, payload straight into place
 *   tcp_tx.c      bytes that leave: control frames and DATA frames in stream order
 *   tcp_move.c    server: pushes, pulls and their GRANTs
 *   tcp_put.c     client: DATA_PUT frames that answer GRANTs, forget
 *   tcp_tls.c     TLS between the socket and the two above, for lanes that ask for it
 *   tcp_buf.c     a lane's buffers, its own and borrowed ones
 *   tcp_iov.c     pieces of memory
 * Each begins with its story. This header is private to them.
 *
 * Memory. A server's lanes are a pool taken by listen(): each has a receive and a send buffer for
 * small frames inside (10 KiB, nearly all that an idle lane costs). What does not fit (a
 * request of many items, inline payload, WELCOME with many offers, TEXT) borrows one of
 * TCP_BIG_COUNT big buffers of the listener; when none is free the lane stops reading, or its
 * send() says -EAGAIN, until one is. A lane that sits on a big buffer without progress for
 * TCP_STALL_NS, or TCP_FRAME_NS for one frame, while others wait is closed. Before its group is set
 * a lane gets none. A client's lane takes buffers of its own, large enough for every frame, at
 * connect().
 *
 * Upcalls. Every entry from env (socket, task, timer) is bracketed by tcp_lane_enter() and
 * tcp_lane_leave(). Between them the lane struct stays, whatever the user closes; the code looks at
 * tcp_lane_is_open() after each upcall. A lane found broken inside is torn down by the outermost
 * leave.
 */
#ifndef XPRT_TCP_H
#define XPRT_TCP_H

#include "../door.h"

#define TCP_RX_SIZE        (5 * KiB) /* a server lane's receive buffer: frames up to this size */
#define TCP_TX_SIZE        (5 * KiB) /* and send buffer: a WIRE_REPLY_MAX frame and some more */
#define TCP_AHEAD_SIZE     (8 * KiB) /* received ahead of what is known to come */
#define TCP_BIG_SIZE       (WIRE_BODY_MAX + WIRE_INLINE_MAX + PAGE_SIZE) /* any control frame */
#define TCP_BIG_COUNT      32
#define TCP_CLIENT_TX_SIZE (256 * KiB) /* at least one PUT with all its inline payload */
#define TCP_SINK_SIZE      (128 * KiB) /* where payload goes that nobody wants any more */
#define TCP_IOV_MAX        ENV_IOV_MAX
#define TCP_GRANT_MAX      1024 /* grants a client's lane has still to answer */
#define TCP_PUT_MAX        16   /* of these, under way at once: 1 MiB of all together at most */
#define TCP_STALL_NS       (2 * NS_PER_S)
#define TCP_FRAME_NS       (3 * TCP_STALL_NS) /* for a large frame to come or to leave */
#define TCP_TICK_NS        (NS_PER_S / 2)
/* A grant that is larger begins behind no other: one call is little beside it, and its lane is to
 * go on with what comes meanwhile. */
#define TCP_PUT_SMALL (128 * KiB)
/*
 * Bytes a lane may receive in one go, so that it starves neither the others nor its own user, who
 * waits to hear of it: with 4 MiB a client took all eight blocks that were under way before it
 * asked for more, and the server stood still meanwhile. Half is enough where a payload has ended:
 * small blocks are told a few at a time, while the next arrive. A system call counts as
 * TCP_CALL_COST of them.
 */
#define TCP_RX_BUDGET (512 * KiB)
#define TCP_CALL_COST (64 * KiB)

/* A push so small is copied behind control frames, while the lane's own buffer has room for that
 * and a result. */
#define TCP_SMALL_SIZE (4 * KiB)
#define TCP_SMALL_REST 256
#define TCP_HEAD_SIZE  (sizeof(struct wire_header) + sizeof(struct wire_data))

/* Bytes received and not used yet, or to be sent: start … end of memory that is the lane's own, or
 * of a big buffer. */
struct tcp_buf {
	uint8_t *bytes;
	uint32_t size;
	uint32_t start;
	uint32_t end;
	uint8_t *big; /* == bytes when one is borrowed */
};

/* Pieces of memory that cover the bytes base … base + size of a payload. */
struct tcp_span {
	struct iovec *iov;
	uint32_t iov_count;
	uint32_t base;
	uint32_t size;
};

enum tcp_rx_state {
	TCP_RX_PREFACE,
	TCP_RX_REFUSED, /* REFUSE is sent; what comes is passed over */
	TCP_RX_HEADER,
	TCP_RX_BODY, /* of a control frame, collected in the buffer */
	TCP_RX_DATA, /* payload of a DATA frame */
};

struct tcp_rx {
	enum tcp_rx_state state;
	bool is_stalled;           /* reading waits: for a big buffer, or room for grants */
	bool is_refused;           /* TLS was answered in the clear: only a REFUSE is taken */
	bool is_dry;               /* the last read took all that the socket had */
	bool has_ended;            /* a payload, in this run */
	bool is_known;             /* kind of the frame under way; else it is skipped */
	struct tcp_buf buf;        /* a part of a frame; or more, while they are taken apart */
	bool is_waiting;           /* the socket was told to wait for RX_WANT bytes */
	bool is_slow;              /* it is not for this payload: they took too long */
	uint64_t read_ns;          /* when bytes last came */
	uint64_t begin_ns;         /* BODY: when its head came */
	struct wire_header header; /* of the frame under way */
	uint32_t usual;            /* size of the control frame before it; behind DATA: 0 */
	struct wire_data data;     /* DATA: what it is, … */
	uint32_t data_have;        /* … how much of payload_size is there, … */
	struct xprt_move *move;    /* … server: where it goes; NULL: to the sink */
	struct tcp_span span;      /* … client: where it goes; no iov: to the sink */
};

struct tcp_tx {
	struct tcp_buf buf;   /* control frames */
	uint64_t big_ns;      /* with a big buffer: since when */
	uint64_t position;    /* of its start, among all control bytes of the lane */
	uint64_t sealed;      /* position up to which frames have their MAC */
	uint64_t secure_from; /* position of the first frame that gets one */
	uint32_t wanted;      /* size of the frame that send() had no room for; 0: none */
	bool has_small;       /* server: small moves were made since the last flush */
	bool is_held;         /* server: results of small moves are waited for, for a turn */
	int broken;           /* why it never will have again */
	struct list moves;    /* DATA frames in order of their move's order */
};

struct tcp_grant {
	uint64_t request;
	uint64_t offset;
	uint32_t item;
	uint32_t size;
};

/* A DATA_PUT under way. */
struct tcp_put {
	struct xprt_move move;
	bool is_used;
	bool is_forgotten; /* its bytes come from spare */
	uint32_t spare_at; /* its own part of that: as many bytes as it has */
	struct tcp_span span;
	struct iovec iov[TCP_IOV_MAX];
};

/* What a client's lane has in addition. */
struct tcp_client {
	struct tcp_put puts[TCP_PUT_MAX];
	uint32_t put_count;
	uint32_t spare_used; /* by puts since there was none under way */
	struct iovec get_iov[TCP_IOV_MAX];
	struct tcp_grant grants[TCP_GRANT_MAX]; /* a ring */
	uint32_t grant_first;
	uint32_t grant_count;
	uint8_t sink[TCP_SINK_SIZE];
	uint8_t rx[TCP_BIG_SIZE];
	uint8_t tx[TCP_CLIENT_TX_SIZE];
	uint8_t spare[WIRE_DATA_MAX]; /* the rest of forgotten puts' frames */
};

#define TCP_LANE_MAGIC UINT32_C(0x7c91a9e1)

struct tcp_lane {
	struct xprt_lane lane;
	uint32_t magic;
	uint32_t depth; /* entries from env under way */
	bool is_connecting;
	bool is_announced; /* the user knows it: closed() is due */
	bool is_closed;    /* nothing but the memory is left */
	int broken;        /* why, once it is */
	const char *fault; /* what the peer did wrong, for the log */
	uint32_t watched;
	struct env_sock *sock; /* NULL once broken or closed */
	struct tcp_tls *tls;   /* NULL: in the clear */
	struct env_task task;
	struct env_timer rx_timer; /* set while the socket waits, and for a while: tcp_rx.c */
	struct auth_mac *mac_in;
	struct auth_mac *mac_out;
	struct list asking;   /* pulls whose GRANT is not in the send buffer yet */
	struct list finished; /* moves that wait for done() */
	struct tcp_rx rx;
	struct tcp_tx tx;
	struct tcp_client *client;     /* NULL on the server */
	struct tcp_listener *listener; /* NULL on the client */
	struct door_lane door;         /* the server's */
	struct list wait_node;         /* for a big buffer */
	char peer[64];
};

/* A server's lane with its buffers. */
struct tcp_server_lane {
	struct tcp_lane tcp;
	uint8_t rx[TCP_RX_SIZE];
	uint8_t tx[TCP_TX_SIZE];
};

_Static_assert(sizeof(struct tcp_server_lane) <= 11 * KiB, "what an idle lane may cost");
_Static_assert(TCP_RX_SIZE >= WIRE_FREE_MAX + sizeof(struct wire_header),
	       "a frame that needs no credit fits");
_Static_assert(offsetof(struct tcp_server_lane, rx) % 8 == 0, "bodies are 8-byte aligned");
_Static_assert(offsetof(struct tcp_client, rx) % 8 == 0, "bodies are 8-byte aligned");
_Static_assert(TCP_TX_SIZE >= WIRE_REPLY_MAX + sizeof(struct wire_header), "a reply fits");
_Static_assert(TCP_BIG_SIZE >= sizeof(struct wire_header) + WIRE_BODY_MAX + WIRE_INLINE_MAX,
	       "any frame fits");
_Static_assert(sizeof(((struct xprt_move *)0)->priv.frame) == TCP_HEAD_SIZE, "xprt.h agrees");

struct tcp_listener {
	struct door door; /* what it has besides the lanes: big buffers */
	uint32_t big_count;
	uint32_t big_free_count;
	uint8_t *big_free[TCP_BIG_COUNT];
	struct list waiters;   /* lanes that wait for one */
	struct env_timer tick; /* set while there are some */
	uint8_t sink[TCP_SINK_SIZE];
};

static inline struct tcp_lane *tcp_of(struct xprt_lane *lane)
{
	struct tcp_lane *tcp = CONTAINER_OF(lane, struct tcp_lane, lane);

	CHECK_OBJ(tcp, TCP_LANE_MAGIC);
	return tcp;
}

/* A lane of a listener's pool. */
static inline struct tcp_server_lane *tcp_server_of(struct tcp_lane *lane)
{
	return CONTAINER_OF(lane, struct tcp_server_lane, tcp);
}

static inline bool tcp_lane_is_open(const struct tcp_lane *lane)
{
	return !lane->is_closed && lane->broken == 0;
}

/* tcp.c */
void tcp_lane_enter(struct tcp_lane *lane);
void tcp_lane_leave(struct tcp_lane *lane);
/* The lane is finished, because of why: its socket is closed now, the rest follows in leave. */
void tcp_lane_break(struct tcp_lane *lane, int why);
/* Run the lane's task soon: send, deliver what is finished, go on reading if it had stalled. */
void tcp_lane_wake(struct tcp_lane *lane);
void tcp_lane_init(struct tcp_lane *lane, struct env *env, const struct xprt_user *user,
		   struct env_sock *sock);
void tcp_lane_watch(struct tcp_lane *lane);

/* tcp_listen.c */
extern const struct door_kind tcp_door;
void tcp_attach(struct xprt_listener *listener, const struct xprt_handover *taken);
void tcp_discard(struct env *env, const struct xprt_handover *taken);
/* The preface of a connection has come: the user's, or refused. */
void tcp_lane_accepted(struct tcp_lane *lane, const struct wire_preface *preface);
/* A big buffer, or NULL: the lane is woken when there may be one. */
uint8_t *tcp_big_get(struct tcp_lane *lane);
void tcp_big_put(struct tcp_lane *lane, uint8_t **big);

/* tcp_buf.c */
static inline uint32_t tcp_buf_have(const struct tcp_buf *buf)
{
	return buf->end - buf->start;
}

/* What is there goes to the front of bytes, which may be where it is. */
void tcp_buf_move(struct tcp_buf *buf, uint8_t *bytes, uint32_t size);
/* Into a big buffer; false: none is free, and the lane is woken when there may be one. */
bool tcp_buf_grow(struct tcp_lane *lane, struct tcp_buf *buf);
/* Back into the lane's own memory: it fits. */
void tcp_buf_shrink(struct tcp_lane *lane, struct tcp_buf *buf, uint8_t *own, uint32_t own_size);

/* tcp_rx.c */
void tcp_rx_run(struct tcp_lane *lane);
void tcp_rx_timer(struct env_timer *timer);

/* tcp_tx.c */
int tcp_send(struct xprt_lane *lane, struct wire_header *header, const void *body,
	     const struct iovec *payload, uint32_t payload_count);
/* A DATA frame that is small, copied. False: it is not, or there is no room. */
bool tcp_tx_small(struct tcp_lane *lane, struct wire_header *header, const struct wire_data *data,
		  const struct iovec *payload, uint32_t payload_count);
/* As send(), for frames of our own, and without the promise of writable(). */
int tcp_tx_frame(struct tcp_lane *lane, struct wire_header *header, const void *body);
uint32_t tcp_tx_room(const struct tcp_lane *lane); /* bytes that a small frame may have now */
void tcp_tx_raw(struct tcp_lane *lane, const void *bytes, uint32_t size); /* the preface */
/* Queue the DATA frame whose header and body are in move->priv.frame. */
void tcp_tx_move(struct tcp_lane *lane, struct xprt_move *move);
void tcp_tx_unmove(struct tcp_lane *lane, struct xprt_move *move); /* one not begun */
void tcp_tx_flush(struct tcp_lane *lane);
void tcp_tx_writable(struct tcp_lane *lane);
void tcp_tx_last(struct tcp_lane *lane); /* before close: once, as far as it goes */
void tcp_tx_fini(struct tcp_lane *lane);

/* tcp_move.c */
void tcp_push(struct xprt_lane *lane, struct xprt_move *move);
void tcp_pull(struct xprt_lane *lane, struct xprt_move *move);
void tcp_revoke(struct xprt_move *move);
void tcp_move_finish(struct tcp_lane *lane, struct xprt_move *move, int rc);
bool tcp_moves_deliver(struct tcp_lane *lane);      /* true: there were some */
void tcp_moves_fail(struct tcp_lane *lane, int rc); /* all of the lane; then deliver */
void tcp_grants_send(struct tcp_lane *lane);
struct xprt_move *tcp_pull_find(struct tcp_lane *lane, uint64_t request,
				const struct wire_data *data);

enum tcp_move_state {
	TCP_PUSH_QUEUED = 1, /* in tx.moves, may be taken back */
	TCP_PUSH_BEGUN,      /* sealed: its whole frame will be sent */
	TCP_PULL_ASKING,     /* in lane->asking */
	TCP_PULL_GRANTED,    /* in group->pulls */
	TCP_PULL_RECEIVING,  /* rx.move of its lane */
	TCP_MOVE_FINISHED,   /* in lane->finished */
};

/* tcp_put.c */
bool tcp_grants_fit(const struct tcp_lane *lane, uint32_t count);
void tcp_grants_take(struct tcp_lane *lane, const struct wire_header *header, const void *body);
void tcp_put_next(struct tcp_lane *lane);
/* The pieces from byte offset of the put's payload on; NULL: it was not there any more. */
const struct tcp_span *tcp_put_span(struct tcp_lane *lane, struct xprt_move *move, uint32_t offset);
void tcp_puts_hand_over(struct tcp_lane *lane); /* unanswered grants go to other lanes */
void tcp_forget(struct xprt_group *group, uint64_t request);

/* tcp_tls.c */
/* From here on the socket speaks TLS. preface: the client's, sent before it; the server's: NULL. */
int tcp_tls_begin(struct tcp_lane *lane, const struct wire_preface *preface);
void tcp_tls_end(struct tcp_lane *lane);
/* As sock_recv and sock_send. Bytes that were sent may wait here: tcp_tls_flush() first. */
ssize_t tcp_tls_recv(struct tcp_lane *lane, const struct iovec *iov, uint32_t iov_count);
ssize_t tcp_tls_send(struct tcp_lane *lane, const struct iovec *iov, uint32_t iov_count);
/* 0: nothing waits; -EAGAIN: OUT is watched; or why the lane is broken. */
int tcp_tls_flush(struct tcp_lane *lane);
/* Bytes are here that the socket does not tell of. */
bool tcp_tls_has_more(const struct tcp_lane *lane);

/* tcp_iov.c */
/* Pieces of src that cover size bytes from byte skip on; how many, and their sum (less than size
 * when dst_max or src ran out). */
uint32_t tcp_iov_slice(struct iovec *dst, uint32_t dst_max, const struct iovec *src,
		       uint32_t src_count, uint64_t skip, uint64_t size, uint64_t *size_out);
uint64_t tcp_iov_size(const struct iovec *iov, uint32_t iov_count);
/* Client: ask for the caller's pieces of what from byte base on, as many as iov takes
 * (TCP_IOV_MAX). False, and span as it was: it is not there any more. */
bool tcp_span_locate(struct tcp_lane *lane, struct tcp_span *span, struct iovec *iov,
		     enum wire_kind kind, const struct tcp_grant *what, uint32_t base);

#endif
