/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the client's core. Files and who calls whom:
 *
 *   client.c    create, destroy, counters
 *   op.c        an op from submit to release: checks, deadline, statuses, events
 *   request.c   items of ops become requests on the wire: credit, slots, cancel
 *   frame.c     how many of them in a frame, and its bytes
 *   answer.c    what comes back: results, bitmaps, texts, and where data lands
 *   lane.c      one connection: connect, hello, join; the transport's upcalls
 *   session.c   the lanes together: first connect, reconnect, breaker
 *   server_stat.c  the server's counters as text
 *   region.c    declared memory, segments for transports that reach it directly
 *
 * An op's way: op_submit() checks it, gives it a deadline and queues it; client_pump() turns its
 * items into requests while there is a session, credit and a free slot; answers and landed bytes
 * give each item its outcome (op_item_finish()); the last outcome makes the RESULT, the end of its
 * last request the RELEASE; news_deliver() tells the caller from the loop.
 *
 * All memory is taken in client_create().
 */
#ifndef CLIENT_CLIENT_PRIV_H
#define CLIENT_CLIENT_PRIV_H

#include "breaker.h"
#include "client.h"

#define CLIENT_MAGIC       UINT64_C(0x544e45494c435843)
#define LANE_MAGIC         UINT64_C(0x454e414c20565843)

#define OP_REQUEST_MAX     256 /* requests of one op under way: fits one CANCEL frame */
#define REQUEST_MIN        256 /* slots at least */
#define REQUEST_INDEX_BITS 16
#define ID_LANE_SHIFT      48
#define REQUEST_IOV_MAX    48  /* pieces of inline payload in a frame */
#define REGION_MAX         256 /* declared at once */

/* The two highest bits of a request id say whose it is. */
enum id_tag {
	ID_REQUEST = 0, /* a slot: generation, index */
	ID_CANCEL = 1,  /* of an op on a lane: lane, generation, index */
	ID_REGION = 2,  /* DECLARE or UNDECLARE: the region's id */
};

static inline uint64_t id_make(enum id_tag tag, uint32_t generation, uint32_t index)
{
	return (uint64_t)tag << 62 | (uint64_t)generation << REQUEST_INDEX_BITS | index;
}

/* Each lane's CANCEL has an id of its own. */
static inline uint64_t id_make_cancel(uint32_t lane, uint32_t generation, uint32_t index)
{
	return id_make(ID_CANCEL, generation, index) | (uint64_t)lane << ID_LANE_SHIFT;
}

static inline enum id_tag id_tag_of(uint64_t id)
{
	return (enum id_tag)(id >> 62);
}

static inline uint32_t id_index_of(uint64_t id)
{
	return (uint32_t)(id & ((UINT64_C(1) << REQUEST_INDEX_BITS) - 1));
}

/* --- ops --- */

enum item_flag {
	ITEM_DONE = 1u << 0,     /* has its outcome */
	ITEM_ANSWERED = 1u << 1, /* GET: the result is there; bytes may still be missing */
	ITEM_CRC = 1u << 2,      /* GET: crc is to be compared */
};

/* Lives in ctxkv_item.reserved while the op is in flight. */
struct item_state {
	uint64_t room;   /* bytes of its iov */
	uint64_t landed; /* GET: bytes that have arrived */
	uint64_t size;   /* GET: of the result */
	uint32_t crc;
	uint32_t flags; /* enum item_flag */
};
_Static_assert(sizeof(struct item_state) == sizeof(((struct ctxkv_item *)0)->reserved),
	       "the item's private part");

static inline struct item_state *item_state(struct ctxkv_item *item)
{
	return (struct item_state *)(void *)item->reserved;
}

static inline uint64_t item_room(const struct ctxkv_item *item)
{
	return ((const struct item_state *)(const void *)item->reserved)->room;
}

/* An op in flight. */
struct client_op {
	struct list node;      /* client's free_ops, waiting or releasing */
	struct list news_node; /* client's news */
	struct list requests;  /* under way */
	struct client *client;
	struct ctxkv_op *op; /* NULL: free */
	struct env_timer timer;
	uint64_t deadline_ns;
	uint64_t sent_ns; /* its first request; 0: none yet */
	uint32_t generation;
	uint32_t index;
	uint32_t item_count;
	uint32_t unit_count;    /* items; 1 for an op without */
	uint32_t next;          /* first unit not yet sent */
	uint32_t open_count;    /* units without outcome */
	uint32_t request_count; /* under way */
	uint32_t news;          /* CTXKV_RESULT | CTXKV_RELEASE to be told */
	bool has_answer;        /* the server has decided at least one unit */
	bool has_result;
	bool is_cancel_due;     /* its CANCEL did not fit yet */
	bool is_cancel_refused; /* its answer says nothing about what may land */
};

/* Items first … first + count - 1 of an op, or a text, on the wire. */
struct request {
	struct list node; /* client_op.requests, or the client's free_requests */
	uint64_t id;      /* 0: free */
	struct client_op *cop;
	struct client_text *text;
	struct client_lane *lane;
	uint32_t generation;
	uint32_t first;
	uint32_t count;      /* 0: an op without items, or a text */
	uint32_t open_count; /* units without outcome */
	enum wire_kind kind;
	bool has_last; /* the server has answered all of it */
};

/* --- session --- */

enum lane_state {
	LANE_IDLE = 0,
	LANE_CONNECT,   /* waits for opened() */
	LANE_HELLO,     /* has a HELLO to send */
	LANE_CHALLENGE, /* waits for it */
	LANE_PROOF,     /* has a PROOF to send */
	LANE_WELCOME,   /* waits for it */
	LANE_UP,
};

struct client_lane {
	uint64_t magic;
	struct client *client;
	struct xprt_lane *lane; /* NULL: none */
	enum lane_state state;
	uint16_t index;
	uint64_t pause_ns;      /* before the next attempt to join */
	struct env_timer timer; /* IDLE: the next attempt; else, until UP: the end of this one */
	struct auth_transcript transcript;
	/* What the server still counts against request_max although no slot does: requests that
	 * ended here before their last answer, CANCELs, DECLAREs. Their answers come on this lane.
	 */
	uint32_t ghost_count;
	int refused; /* what a REFUSE said */
};

enum session_state {
	SESSION_DOWN = 0, /* nobody wants it */
	SESSION_PAUSE,    /* the timer begins the next attempt */
	SESSION_RESOLVE,
	SESSION_HELLO, /* lane 0 is on its way */
	SESSION_UP,
};

/* Outlives the client when the client goes first: name resolution cannot be cancelled. */
struct resolver {
	struct env_resolve resolve;
	struct env *env;
	struct client *client; /* NULL: gone */
	char host[128];
	bool is_busy;
};

struct session {
	enum session_state state;
	struct client_lane lanes[WIRE_LANE_MAX];
	struct xprt_group group;
	struct auth_key key;
	struct wire_welcome welcome;
	uint32_t lane_count; /* wanted */
	uint32_t credit_given;
	uint32_t credit_used;
	uint64_t up_ns;    /* since when it is up */
	uint64_t asked_ns; /* since when an answer is awaited and nothing was heard; 0: not so */
	uint32_t silences; /* ops that ended at their deadline since then */
	struct env_timer timer;
	struct resolver *resolver;
	char address[160];
	int last_error;
};

/* --- regions --- */

struct ctxkv_region {
	struct list node; /* client's regions or free_regions */
	struct xprt_region region;
	struct ctxkv_region_info info;
	bool is_implicit; /* declared on the fly */
	bool is_sent;     /* DIRECT: the server of this session knows it */
};

/* --- client --- */

enum waiting { WAITING_CONTROL = 0, WAITING_PUT, WAITING_COUNT };

struct client {
	uint64_t magic;
	struct env *env;
	struct client_opts opts;
	const struct xprt_ops *xprt;
	struct session session;
	struct breaker breaker;

	struct client_op *ops;
	struct list free_ops;
	struct list waiting[WAITING_COUNT]; /* ops with units to send, in order of arrival */
	struct list releasing;              /* ops with a RESULT that wait for their RELEASE */
	struct list news;
	struct env_task news_task;

	struct request *requests;
	uint32_t request_slots;
	uint32_t request_count; /* under way */
	struct list free_requests;
	struct env_task pump_task;
	struct list texts; /* not yet sent */
	uint8_t *body;     /* WIRE_BODY_MAX: the frame being built */

	struct ctxkv_region *region_rows;
	struct list regions;
	struct list free_regions;
	uint32_t region_id;

	struct ctxkv_stat stat;
	bool is_ending;
};

static inline bool client_is_direct(const struct client *client)
{
	return (client->xprt->caps & XPRT_CAP_DIRECT) != 0;
}

/* A finished request is released at once, without a word from the server. */
static inline bool client_is_sync(const struct client *client)
{
	return (client->xprt->caps & XPRT_CAP_SYNC_RELEASE) != 0;
}

static inline bool session_is_up(const struct client *client)
{
	return client->session.state == SESSION_UP;
}

/* op.c */
void op_submit(struct client_op *cop, struct ctxkv_op *op);
/* Give a unit its outcome. The last one makes the RESULT. */
void op_unit_finish(struct client_op *cop, uint32_t unit, int status);
/* The same, for a unit that shares the fate of its request: not an outcome of its own. */
void op_unit_lose(struct client_op *cop, uint32_t unit, int status);
bool op_unit_is_done(const struct client_op *cop, uint32_t unit);
/* Give every open unit this outcome, and the op its RESULT. */
void op_fail(struct client_op *cop, int status);
/* The requests of an op that has its RESULT may have come to their end: RELEASE. */
void op_release_check(struct client_op *cop);
void op_news_deliver(struct env_task *task);

/* request.c */
/* Send what can be sent. */
void client_pump(struct client *client);
struct request *client_request_find(struct client *client, uint64_t id);
void client_request_free(struct client *client, struct request *request);
/* The request is over: forget it in the transport, free its slot. */
void request_end(struct request *request);
/* Every open unit of it gets this outcome, and it ends. */
void request_fail(struct client *client, struct request *request, int status);
/* Tell the server to give up an op's requests. -EAGAIN: a lane was full. */
int request_cancel(struct client_op *cop) MUST_USE;
void request_init(struct client *client);
/* A small request outside of ops, on lane 0. */
int request_send_small(struct client *client, enum wire_kind kind, uint64_t id, const void *more,
		       size_t more_size) MUST_USE;
/* A server that cannot be reached: what waits to be sent gets this outcome. */
void request_fail_waiting(struct client *client, int status);

/* answer.c */
int answer_frame(struct client_lane *lane, const struct xprt_frame *frame) MUST_USE;
int answer_locate(struct client *client, enum wire_kind kind, uint64_t id, uint32_t item,
		  uint64_t offset, uint32_t size, struct iovec *iov, uint32_t iov_max);
void answer_landed(struct client *client, enum wire_kind kind, uint64_t id, uint32_t item,
		   uint64_t offset, uint32_t size);

/* server_stat.c */
void text_finish(struct client *client, struct client_text *text, int rc, const char *bytes,
		 uint32_t size);

/* lane.c */
void lane_init(struct client_lane *lane, struct client *client, uint16_t index);
int lane_connect(struct client_lane *lane, const char *address) MUST_USE;
void lane_close(struct client_lane *lane);

/* session.c */
void session_init(struct client *client);
void session_fini(struct client *client);
/* An op wants it. */
void session_want(struct client *client);
void session_lane_up(struct client_lane *lane, const struct wire_welcome *welcome);
/* The lane is gone. */
void session_lane_down(struct client_lane *lane, int why);
/* Close every lane; what is under way fails; try again after a pause. weight: for the breaker; 0:
 * does not count. */
void session_fail(struct client *client, int why, uint32_t weight);
/* An op that had been sent ended at its deadline. */
void session_silence(struct client *client);
/* Something arrived from the server. */
void session_heard(struct client *client);
void session_credit(struct client *client, uint32_t credit);

/* region.c */
void region_init(struct client *client);
/*
 * Segments of the first size bytes of an item's iov for a direct transport. Returns how many;
 * -EAGAIN: a region is yet to be declared; -EINVAL: more pieces than an item may have.
 */
int region_segs(struct client *client, const struct ctxkv_item *item, uint64_t size,
		struct wire_seg *segs) MUST_USE;
/* Tell the server the regions that it does not know yet. -EAGAIN: not all. */
int region_flush(struct client *client) MUST_USE;
/* The session is gone, and what it knew. */
void region_session_down(struct client *client);

#endif
