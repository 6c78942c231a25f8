/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transport carries control frames both ways and moves payload between the server's memory and
 * the client's. One const struct xprt_ops per kind (loop, shm, tcp; later rdma), each in its
 * folder; xprt_list.c is the registry.
 *
 * A connection is a lane; the lanes of one session share a group. Control frames of one lane arrive
 * in order; nothing is ordered between lanes, or between control frames and moves.
 *
 * The server moves the data. push() brings bytes to where the client's request wants them: request,
 * item and offset say it; the segments too, for transports that reach the client's memory
 * directly. pull() fetches bytes the same way. A move's pieces and the move itself are borrowed
 * until its done callback, which says that no byte of it is read or written by anybody any more:
 *   tcp   push: the kernel has the bytes. pull: they have arrived (GRANT was sent, DATA_PUT came).
 *   loop  they have landed in the other's memory, at some simulated moment.
 *   shm   copied, or the drive's own DMA is done. rdma: the completion of WRITE or READ.
 *
 * Client side of tcp: DATA_GET frames are received straight to where locate() says, GRANT frames
 * are answered with DATA_PUT from where locate() says, striped over the lanes of the group. For
 * direct transports neither happens: the server reaches the declared regions.
 *
 * Nothing here blocks. A call that cannot go on returns -EAGAIN and takes nothing; the user tries
 * again after user->writable(). Upcalls come from env->poll(), never out of the middle of a call.
 *
 * Failure: whatever breaks a lane ends in one user->closed(lane, why), after every move of that
 * lane is done with a negative result; the lane is gone when closed() returns. close() ends a lane
 * at once, without the upcall; its moves are done (-ECANCELED) before it returns, control frames
 * before them are handed on as far as that is possible without waiting. After either no byte lands
 * through that lane any more, except where caps lacks XPRT_CAP_CLOSE_FENCES.
 */
#ifndef XPRT_XPRT_H
#define XPRT_XPRT_H

#include "../env/env.h"
#include "../wire/auth.h"
#include "../wire/wire.h"

enum xprt_cap {
	XPRT_CAP_DIRECT = 1u << 0,       /* the server reaches declared regions by itself */
	XPRT_CAP_SYNC_RELEASE = 1u << 1, /* the client's own calls fill its memory: a finished
					    operation is released at once */
	XPRT_CAP_CLOSE_FENCES = 1u
				<< 2, /* after close() nothing lands, even from a silent server */
	XPRT_CAP_MAC = 1u << 3,       /* frames carry MACs once secured */
	XPRT_CAP_TLS = 1u << 4,       /* a preface with WIRE_PREFACE_TLS has TLS under its lane */
	XPRT_CAP_MAPPED = 1u << 5,    /* DIRECT, and the client's memory is in the server's address
					 space: map(), unmap() */
};

#define XPRT_MOVE_IOV_MAX 17 /* pieces of a move: at most WIRE_DATA_MAX bytes */
#define XPRT_MOVE_SEG_MAX WIRE_SEG_MAX

struct door_kind;
struct xprt_lane;
struct xprt_listener;
struct xprt_group;

/* Some bytes of one block, at most WIRE_DATA_MAX. */
struct xprt_move {
	struct list node; /* the transport's while under way */
	uint64_t request;
	uint32_t item;
	uint32_t size;   /* bytes */
	uint64_t offset; /* tcp: in the range (GET) or block (PUT), from the first byte wanted */
	struct iovec iov[XPRT_MOVE_IOV_MAX]; /* the server's memory; consumed by the transport */
	uint32_t iov_count;
	const struct wire_seg *segs; /* DIRECT: the client's memory of the whole item */
	uint32_t seg_count;
	void (*done)(struct xprt_move *move, int rc);
	/* The transport's own. */
	struct xprt_lane *lane;
	uint64_t moved; /* grows with the bytes that have moved: what a stall is told by */
	uint64_t order; /* tcp push, begun: control bytes of the lane that go before it */
	int rc;         /* tcp: what done() will be told */
	uint32_t state;
	union {
		uint8_t frame[sizeof(struct wire_header) + sizeof(struct wire_data)];
		uint64_t words[8];
	} priv;
};

/* A frame as it arrived. All pointers are valid until the upcall returns. */
struct xprt_frame {
	const struct wire_header *header;
	const void *body;    /* checked by wire_check_body() */
	const void *payload; /* inline payload of a PUT; NULL when none */
};

/* What a transport asks of who uses it. All required; unused ones may ASSERT(false). */
struct xprt_user {
	/* Server: a connection with its preface; rc < 0 refuses: the peer is sent a REFUSE with
	 * that code and the lane is gone, without closed(). It may also detach() the lane. */
	int (*accepted)(struct xprt_listener *listener, struct xprt_lane *lane,
			const struct wire_preface *preface);
	/* Client: connect() succeeded; the preface is on its way, TLS is up where it asked for it.
	 */
	void (*opened)(struct xprt_lane *lane);
	/* A control frame (every kind but DATA_* and, on a tcp client, GRANT). Server: also one of
	 * a kind that is not known, whose body is not checked. rc < 0: the lane is broken by it (a
	 * protocol error); it is closed with that code. */
	int (*frame)(struct xprt_lane *lane, const struct xprt_frame *frame);
	/*
	 * Client, not DIRECT: the caller's memory of size bytes from offset of an item. Up to
	 * iov_max pieces; returns how many. Where more are needed they cover the beginning, and it
	 * is called again for the rest. Negative: the operation is gone (bytes of a get go to a
	 * sink; a grant is not answered). kind: WIRE_DATA_GET or WIRE_GRANT.
	 */
	int (*locate)(struct xprt_lane *lane, enum wire_kind kind, uint64_t request, uint32_t item,
		      uint64_t offset, uint32_t size, struct iovec *iov, uint32_t iov_max);
	/* Client, not DIRECT: that piece of a get has arrived whole (and was not sunk), or the
	 * granted piece of a put has been handed to the kernel. */
	void (*landed)(struct xprt_lane *lane, enum wire_kind kind, uint64_t request, uint32_t item,
		       uint64_t offset, uint32_t size);
	/*
	 * XPRT_CAP_TLS. Client: the identity and key of a lane that connects. Server: the key of
	 * that identity; false: nobody's. From the middle of a handshake: it calls nothing of the
	 * transport.
	 */
	bool (*tls_key)(struct xprt_lane *lane, char identity[AUTH_TLS_IDENTITY_MAX],
			uint8_t key_out[AUTH_SECRET_SIZE]);
	/* send() may be tried again after it returned -EAGAIN. */
	void (*writable)(struct xprt_lane *lane);
	void (*closed)(struct xprt_lane *lane, int why);
};

/* Beginning of every transport's lane. */
struct xprt_lane {
	const struct xprt_ops *ops;
	const struct xprt_user *user;
	struct env *env;
	struct xprt_group *group; /* set by the user once the session is known; before: NULL */
	void *ctx;                /* the user's */
	/* Bytes of moves and frames not yet handed on, for striping. UINT64_MAX: the lane is broken
	 * and closed() is about to be called; moves given to it fail. */
	uint64_t backlog_size;
	bool is_blocked;      /* the peer takes no more just now */
	uint64_t progress_ns; /* when the peer last took or sent a byte */
	uint64_t bytes_in;
	uint64_t bytes_out;
};

/* The lanes of one session. Owned by the session (either side). */
struct xprt_group {
	struct xprt_lane *lanes[WIRE_LANE_MAX]; /* NULL: none with that number */
	uint32_t lane_count;                    /* highest number + 1 */
	struct list pulls;                      /* tcp server: moves that wait for DATA_PUT */
	void *regions;                          /* the transport's: what the client declared */
	void *ctx;                              /* the user's */
	uint64_t owner; /* whose session: of what is short an owner gets a share, in all his */
};

struct xprt_listener {
	const struct xprt_ops *ops;
	const struct xprt_user *user;
	struct env *env;
	void *ctx;
};

/*
 * A connection on its way from the listener that read its preface to another of the same transport,
 * on another env: see detach(). Whoever has it owns it.
 */
struct xprt_handover {
	const struct xprt_ops *ops;
	uint32_t listener; /* which of the other's: the user's number */
	int fd;            /* tcp */
	void *lane;        /* loop */
	struct wire_preface preface;
};

/*
 * Client: a session whose server may still write into declared memory, and a wait for the end of
 * that. The user's, zeroed with done set, borrowed by fence() until done().
 */
struct xprt_fence {
	void (*done)(struct xprt_fence *fence);
	uint32_t io_ms; /* set by the transport: so long behind the process's end I/O may go on */
	/* The transport's own. */
	struct list node;
	void *ctx;
	uint64_t session;
	struct env_timer timer;
};

struct xprt_region {
	void *base;
	uint64_t size;
	uint32_t id;
	struct wire_declare declare; /* filled by declare(): what to tell the server */
};

struct xprt_ops {
	const char *name;              /* "tcp" */
	enum wire_transport transport; /* its bit */
	uint32_t caps;                 /* enum xprt_cap */
	uint32_t seg_max;              /* segments of an item it can serve */
	uint32_t lane_max;             /* of a session: more would make it no faster */
	uint32_t lane_size;            /* bytes that a server's idle lane takes */

	/* Server. listen: at start-up; lanes come from a pool of lane_max. address NULL: its door
	 * stays shut, lanes come by attach() only. listen_size: bytes that listen() will take.
	 * ops: this table. */
	uint64_t (*listen_size)(const struct xprt_ops *ops, uint32_t lane_max);
	int (*listen)(const struct xprt_ops *ops, struct env *env, const char *address,
		      uint32_t lane_max, const struct xprt_user *user, void *ctx,
		      struct xprt_listener **out);
	void (*unlisten)(struct xprt_listener **listener);
	/* The address listened on, with the real port; empty where it is shut. */
	void (*listener_name)(struct xprt_listener *listener, char *buf, size_t buf_size);
	const struct door_kind *door; /* where these four are of door.h; else NULL */
	/* Out of accepted() only, when nothing was sent yet: the connection leaves this listener
	 * and the lane is gone. Fills in all but listener and preface. */
	int (*detach)(struct xprt_lane *lane, struct xprt_handover *out);
	/* On the other listener's thread: the connection goes on there, and accepted() comes before
	 * this returns. Taken in any case. */
	void (*attach)(struct xprt_listener *listener, const struct xprt_handover *taken);
	/* Nobody wants it: close it. env: of the calling thread. */
	void (*discard)(struct env *env, const struct xprt_handover *taken);

	/* Client. The preface is sent once connected. */
	int (*connect)(struct env *env, const char *address, const struct wire_preface *preface,
		       const struct xprt_user *user, void *ctx, struct xprt_lane **out);

	/* Both. Copies header, body and payload (a PUT's inline bytes: the only frames with any),
	 * and fills in magic and MAC; or -EAGAIN, and writable() follows. Any other code: the lane
	 * is broken, closed() follows. */
	int (*send)(struct xprt_lane *lane, struct wire_header *header, const void *body,
		    const struct iovec *payload, uint32_t payload_count);
	void (*close)(struct xprt_lane **lane);
	/* MACs from the next frame on, both directions; taken. NULL: none (Unix sockets, loop).
	 * REFUSE never carries one. */
	void (*secure)(struct xprt_lane *lane, struct auth_mac *out, struct auth_mac *in);
	void (*peer_name)(struct xprt_lane *lane, char *buf, size_t buf_size);

	/* Server, on a lane whose group is set. */
	void (*push)(struct xprt_lane *lane, struct xprt_move *move);
	void (*pull)(struct xprt_lane *lane, struct xprt_move *move);
	/* Give up a move that has not begun, at once; one under way ends by itself. The result of
	 * either comes by done(). */
	void (*revoke)(struct xprt_move *move);

	/*
	 * Client. Required without XPRT_CAP_DIRECT, NULL with it. A request ends although its data
	 * may be under way: when it returns, no lane of the group reads or writes the caller's
	 * memory for that request any more. Call it while locate() still answers for the request
	 * (it may be asked once more, for the rest of a frame that is half sent), and let locate()
	 * be negative for it from then on. Cheap when nothing is under way.
	 */
	void (*forget)(struct xprt_group *group, uint64_t request);

	/* Required by XPRT_CAP_DIRECT, NULL without it. Client: make memory reachable; -EOPNOTSUPP:
	 * this memory cannot be (shm: it is private); -EAGAIN: not now, writable() follows, or the
	 * lane is about to end. Server: note what the client declared, of this group;
	 * -ERR_PROTOCOL when it is no good, -ERR_BUSY when there is no room for it. */
	int (*declare)(struct xprt_lane *lane, struct xprt_region *region);
	void (*undeclare)(struct xprt_lane *lane, struct xprt_region *region);
	int (*region_add)(struct xprt_group *group, const struct wire_declare *declare);
	int (*region_remove)(struct xprt_group *group, uint32_t region);

	/*
	 * Required by XPRT_CAP_MAPPED, NULL without it. Server: the memory of the segments where
	 * this process sees it, one piece a segment, held until unmap(), whatever becomes of
	 * region, lane and group meanwhile. The client reads and writes it at any time, so that
	 * nothing in it can be believed: copy before judging. -EOPNOTSUPP: not these (of several
	 * regions): use push() and pull(). -ERR_PROTOCOL: outside of what was declared.
	 */
	int (*map)(struct xprt_group *group, const struct wire_seg *segs, uint32_t seg_count,
		   struct iovec *iov_out, void **hold_out);
	/* 0, or -ERR_PEER: the client took memory away while it was held; what was read of it is
	 * zeros. */
	int (*unmap)(void **hold);

	/*
	 * Client. Required without XPRT_CAP_SYNC_RELEASE and XPRT_CAP_CLOSE_FENCES, else NULL. On
	 * lane 0 of a session, just before close(), or in its closed(): fence->done() comes from
	 * the loop once nothing can land any more through the session: by the server's word, or
	 * when its process has ended and what it gave to the kernel is over.
	 */
	void (*fence)(struct xprt_lane *lane, struct xprt_fence *fence);
};

/* All transports in this binary, best first. */
extern const struct xprt_ops *const xprt_list[];
extern const size_t xprt_count;

extern const struct xprt_ops xprt_shm;
extern const struct xprt_ops xprt_tcp;
extern const struct xprt_ops xprt_loop;
extern const struct xprt_ops xprt_loop_mapped; /* not in the list: tests name it */

const struct xprt_ops *xprt_find(const char *name);

/* NULL when ops is well formed, else what is wrong with it. Run at start-up and by the tests. */
const char *xprt_ops_check(const struct xprt_ops *ops);

void xprt_group_init(struct xprt_group *group, void *ctx);

/*
 * Where the next move or frame goes: the first lane that its peer keeps up with and that has less
 * than XPRT_STRIPE_SIZE to send, else the one with the smallest backlog; one whose peer takes no
 * more only where all are so. What is small so shares a lane, and its system calls; many large
 * moves go over all. NULL: none is left (broken ones do not count).
 */
#define XPRT_STRIPE_SIZE (4 * MiB)

/* Whether lane is to be picked where best, of a smaller number, might be. */
static inline bool xprt_lane_is_better(const struct xprt_lane *lane, const struct xprt_lane *best)
{
	if (best == NULL)
		return true;
	if (lane->is_blocked != best->is_blocked)
		return best->is_blocked;
	return (best->is_blocked || best->backlog_size >= XPRT_STRIPE_SIZE) &&
	       lane->backlog_size < best->backlog_size;
}

struct xprt_lane *xprt_group_pick(const struct xprt_group *group);

/* Say why a connection is not wanted, as send(). Server. */
int xprt_refuse(struct xprt_lane *lane, int why, const char *text);

/* For transports whose two ends have nobody between them: their secure(). */
void xprt_secure_none(struct xprt_lane *lane, struct auth_mac *out, struct auth_mac *in);
/* DIRECT: the segment that a move's next bytes are in, from *offset_out on. NULL: there is none. */
const struct wire_seg *xprt_move_seg(const struct xprt_move *move, uint64_t *offset_out);
/* So many bytes have moved, of its first piece. */
void xprt_move_advance(struct xprt_move *move, uint64_t size);

#endif
