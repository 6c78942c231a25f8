/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An op is one block under way: an item of a GET or PUT, a key (or a namespace) of a DROP. It is a
 * state, and op_advance() moves it on until the state stops changing; "waiting for a buffer" is a
 * state like any other. get.c, put.c and drop.c hold the steps of their kind.
 *
 * Callbacks of the store, the transport, timers and buffers only write down what they say and wake
 * the op; the reactor's run task advances it from the loop. So nothing is ever changed underneath a
 * caller.
 *
 * An op ends in two halves, like everything in ctxkv. It is ANSWERED when its result is known, no
 * move of it is under way and its client's memory is not lent to the drive: only then may a REPLY
 * name it, so an answered item means that no byte lands for it any more. It is freed when the reply
 * is sent and nothing holds it: no read that still fills its buffers, no put that the store has yet
 * to release.
 */
#ifndef SERVER_OP_H
#define SERVER_OP_H

#include "../store/store.h"
#include "../xprt/xprt.h"
#include "buffers.h"

#define OP_MAGIC UINT32_C(0x504f5643)

struct cache_entry;
struct reactor;
struct request;
struct session;
struct shard_slot;

enum op_state {
	OP_FREE = 0,
	OP_NEW,
	OP_WAIT_ROOM,    /* PUT: no segment is free to begin in */
	OP_FOLLOWING,    /* PUT: another put of the same block is filling */
	OP_WAIT_WRITE,   /* GET: it is being written from the memory of the client that put it */
	OP_WAIT_BUFFERS, /* in the queue of a share */
	OP_WAIT_READ,    /* GET: the shard has no read to spare */
	OP_MOVING,       /* GET: reading and pushing; PUT: pulling */
	OP_WAIT_COMMIT,  /* PUT: complete; no segment is free */
	OP_STORING,      /* PUT, DROP: with the store; its done() comes */
	OP_ENDING,       /* given up; moves under way end by themselves */
	OP_ANSWERED,     /* the result is known, nothing lands any more */
	OP_STATE_COUNT,
};

/* An op with less time than this begins nothing more in its client's memory. */
#define OP_BUDGET_MIN NS_PER_MS

/* The store reads a block of few buffers in up to so many pieces, smaller than those. */
#define OP_PIECES_MIN 10

/* A piece of a block that has been read and is to be pushed. */
struct op_piece {
	uint32_t begin; /* in the block */
	uint32_t size;
	uint8_t *data;
};

struct op_get {
	struct wire_record want; /* sequence 0: any */
	uint64_t lease;          /* 0: none */
	struct shard_ref ref;
	struct shard_read read;
	uint32_t offset; /* of the range in the block */
	uint32_t asked;  /* its bytes, there or not */
	uint32_t piece_count;
	uint32_t piece_next;   /* first that is not all issued */
	uint32_t piece_issued; /* bytes of it */
	int read_rc;
	struct cache_entry *cached; /* pinned; its bytes are pushed */
	uint32_t progress;          /* bytes from the beginning that have landed, as last told */
	uint32_t sum;               /* is_summed: CRC of what is issued */
	bool has_progress;          /* the client wants to know */
	bool is_pinned;
	bool is_read;     /* from the medium, in contrast to a view of memory */
	bool is_summed;   /* a view that is checked as it goes out */
	bool is_direct;   /* straight into the client's memory: no buffers, no moves */
	bool is_reading;  /* read is with the store */
	bool is_complete; /* the whole block was read, and passed its check */
};

struct op_put {
	struct shard_put put;
	const uint8_t *payload; /* inline bytes, while their frame is looked at */
	bool is_inline;
	bool is_begun; /* put is with the store until released() */
	bool is_done;  /* done() came */
	bool is_filling;
	int rc; /* of done(), or the block was lost behind that */
};

struct op_drop {
	struct shard_drop drop;
	uint32_t shard; /* namespaces: those before it are done */
	bool is_namespace;
	bool is_dropping; /* drop is with the store */
	int rc;           /* of done() */
};

struct op;

/* The steps of a kind. */
struct op_kind {
	const char *name;
	void (*step)(struct op *op); /* in this state; wakes come while something is awaited */
	/* MOVING: describe the next move (iov, offset, size at most WIRE_DATA_MAX). False: none
	 * just now. */
	bool (*next_move)(struct op *op, struct xprt_move *move);
	bool is_pull;
	/* ENDING and no move is under way: let go of what has not been handed to the store for
	 * good. */
	void (*end)(struct op *op);
	/* ANSWERED: free what can be freed; true when nothing holds the op any more. */
	bool (*release)(struct op *op);
};

extern const struct op_kind op_kind_get;
extern const struct op_kind op_kind_put;
extern const struct op_kind op_kind_drop;

struct op {
	uint32_t magic;
	uint32_t item; /* index in the request */
	enum op_state state;
	const struct op_kind *kind;
	struct reactor *reactor;
	struct session *session; /* NULL: it is gone */
	struct request *request; /* NULL: the reply is sent, or the session is gone */
	struct shard_slot *slot;
	struct list node;          /* the pool, request->items, or request->ready */
	struct list session_node;  /* session->ops */
	struct list run_node;      /* reactor->woken */
	struct list wait_node;     /* slot->…_waiters, session->movers, ->behind_waiters or
				    * ->check_waiters */
	struct list progress_node; /* request->progress */
	struct list moves;         /* op_move under way */
	struct store_id id;
	uint32_t size;     /* bytes to move */
	uint32_t issued;   /* of these, given to moves */
	uint32_t landed;   /* of these, whose moves are done */
	uint64_t begin_ns; /* its request came */
	uint64_t wait_ns;  /* it has waited for its turn since; 0: it does not */
	uint32_t credit;   /* goes back to the session with the buffers */
	int move_rc;       /* the first failure of a move */
	struct wire_result result;
	struct buffers_want buffers;
	uint32_t seg_count;
	bool is_behind;   /* PUT: answered, and its block is still being written (behind.c) */
	bool is_admitted; /* its block is summed in this turn of the loop, or was (check.c) */
	bool is_lent;     /* the drive reads or writes the client's memory */
	void *hold;       /* on that memory, by which mapped was made; NULL: none */
	const struct xprt_ops *hold_xprt;
	uint32_t mapped_count;
	union {
		struct op_get get;
		struct op_put put;
		struct op_drop drop;
	} u;
	struct wire_seg *segs; /* room for the transports' seg_max */
	struct iovec *mapped;  /* the same, where a transport maps */
	struct op_piece
		*pieces; /* room for the largest block's, as buffers.iov, or OP_PIECES_MIN */
};

/* A move of an op; taken from the reactor's pool. */
struct op_move {
	struct xprt_move move;
	struct list node;         /* the pool, or op->moves */
	struct list session_node; /* session->moves */
	struct op *op;
	struct session *session;
};

/* Take an op from the pool for an item of request; NULL: none is free, or the session has its
 * share. Advance or wake it next. */
struct op *op_take(struct request *request, const struct op_kind *kind, uint32_t item,
		   const struct wire_key *key);
/* How many a session may have at once. */
uint32_t op_session_max(const struct reactor *reactor);
void op_advance(struct op *op);
/* Advance it soon, from the loop. */
void op_wake(struct op *op);

/* --- direct.c --- */

/*
 * Map the client's memory for the first size bytes of the op: op->mapped, until direct_unmap(). The
 * answer does that, too. False: it cannot be had, or not so.
 */
bool direct_map(struct op *op);
/* 0; -ERR_PEER: the client took the memory away meanwhile. Nothing is mapped: does nothing. */
int direct_unmap(struct op *op);
/* Whether its client's memory is mapped at all. */
bool direct_is_possible(const struct op *op);

/* --- behind.c --- */

/* One more put of the session may be answered before its block is written. */
bool behind_has_room(const struct session *session);
/* The op is woken when there may be. */
void behind_wait(struct op *op);
/* It is answered, and the store still has it; nothing to do when that is known. */
void behind_begin(struct op *op);
/* It is answered, and the store has let go of it. */
void behind_end(struct op *op);

/* --- check.c --- */

/* All of the op's block is to be summed on the spot. False: not in this turn of the loop, it is
 * woken in one of the next. */
bool check_admit(struct op *op);

/* --- op.c --- */

/* For the steps. */
/* It has so little time left that nothing more is begun. */
bool op_is_late(const struct op *op);
/* 0; -ERR_CHANGED: its shard is another reactor's, the client has to learn that anew;
 * -ERR_OFFLINE: the medium of its shard is missing. */
int op_check_shard(const struct op *op);
/* What its session may hold of buffers for its medium. */
struct flow_quotas *op_quotas(const struct op *op);
/* Give back its buffers, and the credit that stood for them. */
void op_buffers_free(struct op *op);
void op_state_set(struct op *op, enum op_state state);
/* It waits for buffers, a read or room: until its state changes, for the meters. */
void op_wait_begin(struct op *op);
/* The result is known, no move is under way, the client's memory is not lent. */
void op_answer(struct op *op, int status);
/* Bytes from its beginning that have landed: no move under way is of them. */
uint32_t op_landed_prefix(const struct op *op);
/* There is something to move: the session's pump asks next_move(). */
void op_offer_moves(struct op *op);

/* End it as soon as nothing lands any more, with this status. Answered ops stay as they are. */
void op_give_up(struct op *op, int status);
/* Its request is gone: give it up and tell nobody. */
void op_orphan(struct op *op);
/* Its session ends; it is answered or orphaned, and no move of it is under way. */
void op_forget_session(struct op *op);
/* Its result has been sent. */
void op_sent(struct op *op);

#endif
