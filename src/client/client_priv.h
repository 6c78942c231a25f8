/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the client's core. Files and who calls whom:
 *
 *   client.c    create, destroy, counters
 *   op.c        an op from submit to release: checks, deadline, statuses, events
 *   spread.c    an op's units go to the sessions that have them, as parts
 *   request.c   parts of ops become requests on the wire: credit, slots, cancel
 *   frame.c     how many of them in a frame, and its bytes
 *   answer.c    what comes back: results, bitmaps, texts, and where data lands
 *   busy.c      what the server had no room for is sent again
 *   lane.c      one connection: connect, hello, join; the transport's upcalls
 *   session.c   the lanes to one reactor together: first connect, reconnect, breaker
 *   door.c      a faster way to the same reactor, that WELCOME offered
 *   fence.c     sessions that are gone, whose server may still write into memory
 *   server.c    the sessions to one server: what it said of itself, the 60 s rule, draining
 *   members.c   which servers there are: the URL's hosts, name resolution, placement
 *   lease.c     one handle for the leases that several sessions granted
 *   server_stat.c  a server's counters as text
 *   region.c    declared memory, segments for transports that reach it directly
 *   stage.c     memory of our own in place of what they do not reach
 *
 * An op's way: op_submit() checks it, gives it a deadline and queues it; spread_ops() waits until
 * it is known who has what and makes parts of it, each for one session; session_pump() turns their
 * units into requests while the session is up and has credit and a free slot; answers and landed
 * bytes give each item its outcome (op_unit_finish()); the last outcome makes the RESULT, the end
 * of its last request the RELEASE; op_news_deliver() tells the caller from the loop. A request that
 * only knows memory of ours does not hold up the RELEASE: it goes on as nobody's
 * (request_orphan()).
 *
 * Sessions share nothing but slots and parts, of which each always finds some: a server that does
 * not answer holds up its own items only.
 *
 * All memory is taken in client_create().
 */
#ifndef CLIENT_CLIENT_PRIV_H
#define CLIENT_CLIENT_PRIV_H

#include <stdatomic.h>

#include "../wire/place.h"
#include "breaker.h"
#include "client.h"
#include "stage.h"

#define CLIENT_MAGIC       UINT64_C(0x544e45494c435843)
#define LANE_MAGIC         UINT64_C(0x454e414c20565843)
#define SESSION_MAGIC      UINT64_C(0x5353455320565843)

#define OP_REQUEST_MAX     256 /* requests of one op under way: fits one CANCEL frame */
#define REQUEST_MIN        256 /* slots at least */
#define REQUEST_INDEX_BITS 16
#define ID_LANE_SHIFT      48
#define REQUEST_IOV_MAX    48             /* pieces of inline payload in a frame */
#define REGION_MAX         256            /* declared at once */
#define REACTOR_MAX        WIRE_SHARD_MAX /* of a server that have shards */
#define REACTOR_ANY        UINT16_MAX
#define TO_ALL_MAX         64   /* items of a request to all: what request.answered has bits for */
#define PARTS_AN_OP        4    /* on average; an op may have one for each session */
#define SLOTS_A_SESSION    4    /* requests that no other session can take from it */
#define LEASE_MAX          1024 /* handles */
#define LEASE_ROW_MAX      4096 /* sessions of all handles */
#define FENCE_SPARE        64   /* fences beyond one for each session */

/* The two highest bits of a request id say whose it is. */
enum id_tag {
	ID_REQUEST = 0, /* a slot: generation, index */
	ID_CANCEL = 1,  /* of an op on a lane: lane, generation, index */
	ID_REGION = 2,  /* DECLARE or UNDECLARE: the region's id */
	ID_ASIDE = 3,   /* beside all ops: a lease given back, a doubt; its answer is no news */
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
	ITEM_HELD = 1u << 3,     /* LEASE: it is held */
	ITEM_BUSY = 1u << 4,     /* GET, PUT: the server had no room; it is to be sent again */
};

/* Lives in ctxkv_item.reserved while the op is in flight. */
struct item_state {
	union {
		uint64_t landed; /* GET, not DIRECT: bytes that have arrived */
		uint64_t slot;   /* staged: its slot's index + 1; else 0 */
	};
	uint32_t room; /* bytes of its iov, at most UINT32_MAX */
	uint32_t size; /* GET: of the result */
	uint32_t crc;
	uint16_t flags;   /* enum item_flag */
	uint16_t unit;    /* of the op: which unit stands at this position */
	uint16_t session; /* while the op is spread: whose it is */
	union {
		uint16_t pending; /* to all: answers that are to come */
		uint16_t again; /* GET, PUT: sent again, by the request of this slot + 1; else 0 */
	};
	union {
		int32_t worst; /* to all: the first answer that was no success */
		uint32_t sum;  /* GET, not DIRECT: of what has landed, as if behind it were zeros up
				* to room */
	};
};
_Static_assert(sizeof(struct item_state) == sizeof(((struct ctxkv_item *)0)->reserved),
	       "the item's private part");
_Static_assert(CTXKV_ITEM_MAX <= UINT16_MAX, "units are told by 16 bits");

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
	struct list node;      /* client's free_ops, spreading or releasing */
	struct list news_node; /* client's news */
	struct list parts;     /* not yet sent */
	struct list requests;  /* under way */
	struct client *client;
	struct ctxkv_op *op; /* NULL: free */
	struct env_timer timer;
	uint64_t deadline_ns;
	uint64_t sent_ns;   /* its first request; 0: none yet */
	uint64_t result_ns; /* with has_result */
	uint32_t generation;
	uint32_t index;
	uint32_t item_count;
	uint32_t unit_count;    /* items; 1 for an op without */
	uint32_t open_count;    /* units without outcome */
	uint32_t request_count; /* under way */
	uint32_t news;          /* CTXKV_RESULT | CTXKV_RELEASE to be told */
	bool has_answer;        /* the server has decided at least one unit */
	bool has_result;
	bool is_cancel_due;     /* its CANCEL did not fit yet */
	bool is_cancel_refused; /* its answer says nothing about what may land */
	bool is_to_all;         /* DROP, RENEW: every part has every unit */
	bool is_straight;       /* each unit stands at its own position */
	uint16_t pending;       /* as item_state's, of an op without items */
	int32_t worst;
	struct lease *lease; /* LEASE: being made */
};

/*
 * What of an op goes to one session: positions next … end - 1 are yet to be sent. At a position
 * stands a unit: op_unit_at().
 */
struct part {
	struct list node; /* session's waiting, or the client's free_parts */
	struct list op_node;
	struct client_op *cop;
	struct session *session;
	uint64_t lease; /* GET, RENEW: the session's id of it, or 0 */
	uint32_t next;
	uint32_t end;
	bool is_again; /* only those that are BUSY */
};

/* Positions first … first + count - 1 of an op, or a text, on the wire. */
struct request {
	struct list node; /* client_op.requests, or the client's free_requests */
	uint64_t id;      /* 0: free */
	struct client_op *cop;
	struct client_text *text;
	struct session *session;
	struct client_lane *lane;
	uint32_t generation;
	uint32_t first;
	uint32_t count;      /* 0: an op without items, or a text */
	uint32_t open_count; /* units without outcome */
	uint64_t answered;   /* to all: the items that have been, a bit each */
	enum wire_kind kind;
	bool has_last;     /* the server has answered all of it */
	bool is_cancelled; /* a CANCEL that names it has been sent */
	bool is_in_place;  /* it names memory of the caller's that the server reaches */
	bool is_orphan;    /* its op is gone; its slots wait for the server's last word */
	struct list slots; /* staged items that have no outcome */
	uint64_t regions[REGION_MAX / 64]; /* that it names, by row */
	struct fence *fence;               /* session is NULL: the end of this is its end */
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
	struct session *session;
	const struct xprt_ops *xprt;
	struct xprt_lane *lane; /* NULL: none */
	enum lane_state state;
	uint16_t index;
	bool is_door; /* the session's door.lane */
	bool is_gone; /* the transport has closed it: only fence() may still be asked of it */
	struct auth_key key;    /* NEW: of the session that it makes */
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
	SESSION_HELLO,    /* lane 0 is on its way */
	SESSION_UP,
};

/* A better way to the session's reactor. */
enum door_state {
	DOOR_NONE = 0, /* none is offered, or it is in use */
	DOOR_PAUSE,    /* it could not be used: tried again when the timer fires */
	DOOR_HELLO,    /* its lane is on its way */
	DOOR_OPEN,     /* welcomed there: the session moves once nothing is under way */
};

struct door {
	enum door_state state;
	bool is_first;  /* the session has not been used yet: it waits for what comes of this */
	bool is_in_use; /* the session is up through it */
	const struct xprt_ops *xprt;
	char address[128];
	struct client_lane lane;
	struct wire_welcome welcome;
	struct env_timer timer;          /* PAUSE: the next attempt; OPEN: the end of the wait */
	uint64_t pause_ns;               /* before the next; 0: all is well */
	uint64_t retry_ns;               /* not before that */
	int why;                         /* why it is not used; 0 */
	char reason[CLIENT_REASON_SIZE]; /* the same, and what to do; "" */
};

enum waiting {
	WAITING_GET_AGAIN = 0,
	WAITING_PUT_AGAIN,
	WAITING_CONTROL,
	WAITING_PUT,
	WAITING_COUNT,
};

/* Of what a server had no room for, gets or puts. */
struct busy {
	struct session *session;
	struct env_timer timer; /* set: they wait for it */
	uint64_t pause_ns;      /* the last; 0: none was refused lately */
};

/* To one reactor of one server. */
struct session {
	uint64_t magic;
	struct client *client;
	struct client_server *server; /* NULL: not in use */
	uint32_t index;
	uint16_t reactor;     /* REACTOR_ANY: not known yet */
	bool is_any_asked;    /* the last attempt at its own reactor failed: take any */
	struct list node;     /* client's free_sessions, or the server's */
	struct list due_node; /* client's due: to be pumped */
	enum session_state state;
	struct breaker breaker;
	const struct xprt_ops *xprt; /* how it is made, or will be */
	struct door door;
	struct fence *fence; /* should its end need one; NULL: its transport needs none */
	struct client_lane lanes[WIRE_LANE_MAX];
	struct xprt_group group;
	struct wire_welcome welcome;
	uint32_t lane_count; /* wanted */
	uint32_t credit_given;
	uint32_t credit_used;
	uint32_t request_count; /* under way */
	uint64_t up_ns;         /* since when it is up */
	uint64_t asked_ns; /* since when an answer is awaited and nothing was heard; 0: not so */
	uint32_t silences; /* ops that ended at their deadline since then */
	struct env_timer timer;
	int last_error;
	struct list waiting[WAITING_COUNT]; /* parts with units to send, in order of arrival */
	struct busy busy_gets;
	struct busy busy_puts;
	uint32_t spread_count; /* while an op is spread: its units here */
	uint32_t spread_at;
};

/* --- servers --- */

/*
 * A server is known by where it is (a host of the URL, an address of that) until its first hello,
 * and by its UUID from then on.
 */
struct client_server {
	struct client *client;
	uint32_t index;
	uint32_t host;    /* of the target */
	bool is_used;     /* else the row is free */
	bool is_member;   /* the URL or its host's name has this address */
	bool is_known;    /* has said who it is */
	bool is_alias;    /* another address of a server that another row stands for */
	bool is_draining; /* takes no puts any more */
	bool is_away;     /* 60 s without any success */
	bool is_failing;
	uint64_t failing_ns; /* since when without success */
	char address[128];
	uint8_t uuid[16];
	uint64_t incarnation;
	uint64_t capacity;
	uint64_t connects;
	uint32_t weight;
	uint32_t block_max;
	uint16_t reactor_count;
	uint16_t shard_count;
	uint8_t shard_reactors[WIRE_SHARD_MAX]; /* by shard, in order of index */
	bool has_one_reactor;                   /* for all of them */
	struct session *primary;                /* the first, which finds out all of this */
	struct session *sessions[REACTOR_MAX];  /* by reactor */
	struct list used_sessions;
	struct env_timer away_timer;
};

/* Outlives the client when the client goes first: name resolution cannot be cancelled. */
struct resolver {
	struct env_resolve resolve;
	struct env *env;
	struct client_host_state *state; /* NULL: the client is gone */
	char host[128];
	bool is_busy;
};

/* One host of the URL. */
struct client_host_state {
	struct client *client;
	uint32_t index;
	bool is_resolved; /* at least once */
	struct resolver *resolver;
	struct breaker breaker; /* of resolution */
	struct env_timer timer; /* the next resolution; while one is on its way: its end */
	uint64_t asked_ns;      /* the last one's begin */
};

/* --- leases --- */

struct lease_row {
	struct list node; /* lease's rows, or the client's free_lease_rows */
	struct session *session;
	uint64_t id;
	uint32_t first_unit; /* the lowest that it holds */
};

/* What one LEASE op got, from however many sessions. Its handle names it to the caller. */
struct lease {
	struct list node; /* client's leases, or free_leases */
	struct list rows;
	uint64_t handle; /* 0: free */
	uint64_t end_ns; /* no server holds it longer */
	bool is_new;     /* its op is under way */
};

/* --- fences --- */

/* A session that is gone, of which requests are left: those whose fence is this. */
struct fence {
	struct xprt_fence fence;
	struct client *client;
	struct list node; /* client's fences or free_fences; a session's: on none */
	uint32_t request_count;
	uint32_t stall_ms; /* of the server: so long it may stand still at most; 0: for ever */
	uint64_t begin_ns;
	bool is_late;           /* it was logged */
	struct env_timer timer; /* to log it */
	char server[128];
};

/* --- regions --- */

#define SESSION_WORDS ((SESSION_MAX + 63) / 64)

enum served { SERVED_RECEIVED = 0, SERVED_IN_PLACE, SERVED_STAGED };

struct ctxkv_region {
	struct list node; /* client's regions or free_regions */
	struct client *client;
	struct xprt_region region;
	uint32_t request_count;       /* under way, that name it */
	bool is_stage;                /* the staging area */
	bool is_implicit;             /* declared on the fly */
	bool is_refused;              /* a server did not take it: staged for good */
	bool is_going;                /* nobody uses it any more; some sessions may still know it */
	bool is_told;                 /* the log has said that it is staged */
	uint64_t sent[SESSION_WORDS]; /* DIRECT: the sessions that know it */
	uint64_t staged[SESSION_WORDS]; /* DIRECT: those that do not reach it */
	_Atomic uint32_t served;        /* enum served; read by any thread, as the next */
	_Atomic uint32_t page_size;     /* of its memory; 0: not known */
};

/* --- client --- */

struct client {
	uint64_t magic;
	struct env *env;
	struct client_opts opts;

	struct client_host_state *hosts;
	struct client_server *servers;
	uint32_t server_count; /* rows that were ever used */
	struct session *sessions;
	struct list free_sessions;
	struct list due; /* sessions to be pumped */
	bool is_wanted;
	bool is_settled; /* everybody of the list has had his chance to say who he is */
	struct env_timer settle_timer;
	struct place_map get_map; /* values: indexes of servers */
	struct place_map put_map; /* without those that drain */
	struct place_member *members;
	struct place_row *get_rows;
	struct place_row *put_rows;

	struct client_op *ops;
	struct list free_ops;
	struct list spreading; /* ops that wait for parts, or for servers to be known */
	struct list releasing; /* ops with a RESULT that wait for their RELEASE */
	struct list news;
	struct env_task news_task;
	struct part *parts;
	uint32_t part_count;
	uint32_t free_part_count;
	struct list free_parts;

	struct request *requests;
	uint32_t request_slots;
	uint32_t request_count; /* under way */
	uint32_t shared_used;   /* of these, beyond SLOTS_A_SESSION of their sessions */
	uint32_t shared_max;
	struct list free_requests;
	struct env_task pump_task;
	struct list texts; /* not yet sent */
	uint8_t *body;     /* WIRE_BODY_MAX: the frame being built */

	struct lease *lease_slots;
	struct list leases;
	struct list free_leases;
	struct lease_row *lease_rows;
	struct list free_lease_rows;
	uint64_t lease_handle; /* the last one */
	uint32_t asides;       /* ids of ID_ASIDE */

	struct ctxkv_region *region_rows;
	struct list regions;
	struct list free_regions;
	uint32_t region_id;
	bool is_region_short; /* a part waits until a region can be taken back, wherever that is */
	struct stage stage;
	struct stage_slot *stage_slots;
	uint64_t stage_prepared;                 /* bytes from its beginning */
	const struct ctxkv_region *stage_region; /* NULL: there is no staging area */
	bool is_stage_short;                     /* a part waits for room in it */

	struct fence *fence_rows;
	uint32_t fence_count;
	struct list fences; /* that have begun */
	struct list free_fences;

	struct ctxkv_stat stat;
	bool is_ending;
};

/* For what must not happen to all at the same moment. */
static inline uint64_t client_chance(struct client *client)
{
	uint64_t value;

	client->env->ops->random(client->env, &value, sizeof(value));
	return value;
}

static inline bool session_is_direct(const struct session *session)
{
	return (session->xprt->caps & XPRT_CAP_DIRECT) != 0;
}

/* A finished request is released at once, without a word from the server. */
static inline bool session_is_sync(const struct session *session)
{
	return (session->xprt->caps & XPRT_CAP_SYNC_RELEASE) != 0;
}

/* The end of its lanes does not end what its server does. */
static inline bool session_is_fenced(const struct session *session)
{
	return session->xprt->fence != NULL;
}

static inline bool session_is_up(const struct session *session)
{
	return session->state == SESSION_UP;
}

static inline struct client *lane_client(const struct client_lane *lane)
{
	return lane->session->client;
}

static inline bool op_unit_is_done(const struct client_op *cop, uint32_t unit)
{
	if (cop->item_count == 0)
		return cop->open_count == 0;
	return (item_state(&cop->op->items[unit])->flags & ITEM_DONE) != 0;
}

/* An item's outcome, and no more: who gives it counts it, in open_count. */
static inline void op_item_settle(struct ctxkv_item *item, int status)
{
	ASSERT((item_state(item)->flags & ITEM_DONE) == 0);
	item_state(item)->flags |= ITEM_DONE;
	item->status = status;
}

/* The unit that stands at a position of its parts. */
static inline uint32_t op_unit_at(const struct client_op *cop, uint32_t position)
{
	if (cop->item_count == 0 || cop->is_to_all || cop->is_straight)
		return position;
	return item_state(&cop->op->items[position])->unit;
}

/* Whether the unit at a position of a part is to be sent. */
static inline bool part_has(const struct part *part, uint32_t position)
{
	uint32_t unit = op_unit_at(part->cop, position);

	if (op_unit_is_done(part->cop, unit))
		return false;
	return !part->is_again || (item_state(&part->cop->op->items[unit])->flags & ITEM_BUSY) != 0;
}

/* op.c */
void op_submit(struct client_op *cop, struct ctxkv_op *op);
/* Give a unit its outcome. The last one makes the RESULT. */
void op_unit_finish(struct client_op *cop, uint32_t unit, int status);
/* The same, for a unit that shares the fate of its request: not an outcome of its own. */
void op_unit_lose(struct client_op *cop, uint32_t unit, int status);
/* So many items of a lookup were settled by its server. */
void op_settled(struct client_op *cop, uint32_t count);
/* Give every open unit this outcome, and the op its RESULT. */
void op_fail(struct client_op *cop, int status);
/* The requests of an op that has its RESULT may have come to their end: RELEASE. */
void op_release_check(struct client_op *cop);
void op_news_deliver(struct env_task *task);

/* spread.c */
/* Make parts of ops that wait for it, as far as servers are known and there is room. */
void spread_ops(struct client *client);
/* To every session that has got something to do. */
void spread_pump(struct client *client);
void part_free(struct part *part);
/* The op's part for what that session had no room for; NULL: no part is free. */
struct part *part_again(struct client_op *cop, struct session *session);
/* The units of a part that were not sent get this outcome. */
void part_lose(struct part *part, int status);
void spread_init(struct client *client);

/* request.c */
/* Send what can be sent. */
void session_pump(struct session *session);
/* The same, soon. */
void session_pump_later(struct session *session);
/* All of them that have something to send. */
void sessions_pump_later(struct client *client);
struct request *client_request_find(struct client *client, uint64_t id);
void client_request_free(struct client *client, struct request *request);
/* The request is over: forget it in the transport, free its slot. */
void request_end(struct request *request);
/* Its op ends without it. What it staged stays until the server's last word. */
void request_orphan(struct request *request);
/* The server may still read or write memory for it: the caller's, or staged. */
bool request_is_exposed(const struct request *request);
/* Nothing lands any more: give back all that it has. An op's may be released by that. */
void request_over(struct client *client, struct request *request);
/* Every open unit of it gets this outcome, and it ends. */
void request_fail(struct client *client, struct request *request, int status);
/* The same, but of the request as it was: it is not looked after here. */
void request_lose_units(struct client_op *cop, const struct request *was, int status);
/* Tell the servers to give up an op's requests. -EAGAIN: a lane was full. */
int request_cancel(struct client_op *cop) MUST_USE;
void request_init(struct client *client);
/* The server has room for one more. */
bool session_has_request_room(const struct session *session);
/* A small request outside of ops, on lane 0. */
int request_send_small(struct session *session, enum wire_kind kind, uint64_t id,
		       const struct wire_request *request, const void *more,
		       size_t more_size) MUST_USE;

/* answer.c */
int answer_frame(struct client_lane *lane, const struct xprt_frame *frame) MUST_USE;
int answer_locate(struct client_lane *lane, enum wire_kind kind, uint64_t id, uint32_t item,
		  uint64_t offset, uint32_t size, struct iovec *iov, uint32_t iov_max);
void answer_landed(struct client_lane *lane, enum wire_kind kind, uint64_t id, uint32_t item,
		   uint64_t offset, uint32_t size);

/* busy.c */
/* The server had no room for the unit at that position: it is sent again. False: it is not. */
bool busy_again(struct request *request, uint32_t position) MUST_USE;
/* So many of a part, from the next on, were sent by this request. */
void busy_sent(const struct part *part, const struct request *request, uint32_t count);
/* A unit that this request was rid of: it waits, or another has it. It is neither lost with this
 * one nor answered by it. */
bool busy_took(const struct request *request, uint32_t unit) MUST_USE;
/* The server had room for one. */
void busy_passed(const struct request *request);
/* Its server is not asked any more. */
void busy_close(struct session *session);
void busy_init(struct session *session);

/* server_stat.c */
void text_finish(struct client *client, struct client_text *text, int rc, const char *bytes,
		 uint32_t size);
/* Those that wait to be sent. */
void text_fail_waiting(struct client *client, int status);
/* Whom they are for: the first server that can be reached. */
struct session *text_session(struct client *client);

/* lane.c */
void lane_init(struct client_lane *lane, struct session *session, uint16_t index);
int lane_connect(struct client_lane *lane, const struct xprt_ops *xprt,
		 const char *address) MUST_USE;
void lane_close(struct client_lane *lane);
/* The connection of from goes on as that of to. */
void lane_move(struct client_lane *to, struct client_lane *from);

/* door.c */
/* WELCOME of the session's first lane, with what it offers. */
void door_offered(struct session *session, const struct wire_offer *offers, uint32_t offer_count);
/* The door's lane is up, or gone. */
int door_lane_up(struct session *session, const struct wire_welcome *welcome) MUST_USE;
void door_lane_down(struct session *session, int why);
/* Nothing may be sent just now: the session is about to move. */
bool door_is_held(const struct session *session);
/* Nothing is under way, perhaps. */
void door_pump(struct session *session);
/* The session goes down. */
void door_close(struct session *session);
/* It could not be used after all. */
void door_fail(struct session *session, int why);
void door_init(struct session *session);

/* fence.c */
/* For a session; NULL: there are too many that wait. */
struct fence *fence_take(struct client *client) MUST_USE;
/* The session's, if it has one: it is not needed. */
void fence_give(struct session *session);
/* Just before the lanes of a session are closed: NULL when nothing needs it. It is the session's
 * no more. */
struct fence *fence_begin(struct session *session);
/* The request is the session's no more. Its open units get the outcome status. */
void fence_add(struct fence *fence, struct request *request, int status);
void fence_init(struct client *client);

/* session.c */
/* lanes[0] is that of its door. */
void session_moved(struct session *session, const struct wire_welcome *welcome);
/* It stays as it is: the other lanes join, and it is used. */
void session_stays(struct session *session);
/* NULL: no session is free. */
struct session *session_take(struct client_server *server, uint16_t reactor);
/* It is not needed any more; what is under way and waits for it fails. */
void session_give(struct session *session, int why);
/* An op wants it. */
void session_want(struct session *session);
/* shards: the welcome.shard_count... of the frame; offers stand behind them. */
int session_lane_up(struct client_lane *lane, const struct wire_welcome *welcome,
		    const struct wire_shard *shards, uint32_t shard_count) MUST_USE;
/* The lane is gone. */
void session_lane_down(struct client_lane *lane, int why);
/* Close every lane; what is under way fails; try again after a pause. weight: for the breaker; 0:
 * does not count. */
void session_fail(struct session *session, int why, uint32_t weight);
/* What waits to be sent through it has this outcome. */
void session_lose_waiting(struct session *session, int status);
/* An op that had been sent there ended at its deadline. */
void session_silence(struct session *session);
/* Something arrived from the server. */
void session_heard(struct session *session);
/* When its server last sent anything (or, on some transports, took anything); 0: no lane is up. */
uint64_t session_heard_ns(const struct session *session);
void session_credit(struct session *session, uint32_t credit);
bool session_has_waiting(const struct session *session);
void session_init(struct session *session, struct client *client, uint32_t index);

/* server.c */
void server_init(struct client_server *server, struct client *client, uint32_t index);
void server_begin(struct client_server *server, uint32_t host, const char *address);
/* All its sessions go; the row is free. */
void server_end(struct client_server *server, int why);
bool server_is_idle(const struct client_server *server);
/* Whether the session's reactor runs the shard of this key, as far as is known. */
bool server_has(const struct session *session, const struct ctxkv_key *key);
/* The session that has this key; NULL with a status when its items miss. */
struct session *server_session(struct client_server *server, const struct wire_key *key,
			       int *status_out);
struct session *server_session_of(struct client_server *server, uint16_t reactor, int *status_out);
/* What WELCOME said. 0, or why the session is no good. */
int server_learn(struct session *session, const struct wire_welcome *welcome,
		 const struct wire_shard *shards, uint32_t shard_count) MUST_USE;
/* A session is up, or was heard of. */
void server_succeeded(struct client_server *server);
/* A session has failed; since when nothing was heard. */
void server_failed(struct client_server *server, uint64_t since_ns);
void server_drains(struct client_server *server);
/* Whether it will have said who it is, or that it cannot be reached, by and by. */
bool server_is_awaited(const struct client_server *server);

/* members.c */
int members_create(struct client *client) MUST_USE;
void members_destroy(struct client *client);
/* Connect to all there are. */
void members_want(struct client *client);
/* A server has come, gone, or changed: place anew. */
void members_changed(struct client *client);
/* An attempt at a server has ended, one way or the other. */
void members_tried(struct client *client);
/* Look again where the host's servers are. */
void members_resolve_soon(struct client *client, uint32_t host);
/* Whether ops can be spread, or must wait for servers to be known. */
bool members_are_settled(const struct client *client);
/* Nobody can be reached, and nobody is being tried for the first time. */
bool members_are_out(const struct client *client);
/* Why there is nobody. */
int members_code(const struct client *client);

/* lease.c */
void lease_init(struct client *client);
/* NULL: there is none of that handle (any more). */
struct lease *lease_find(struct client *client, uint64_t handle);
/* For a LEASE op that begins. NULL: there are too many. */
struct lease *lease_take(struct client *client);
/* A session has granted its part. False: there is no room for it, and it has been given back. */
bool lease_add(struct client_op *cop, struct session *session, const struct wire_bitmap *bitmap,
	       uint32_t first_unit) MUST_USE;
/* The id of it at a session; 0: none. */
uint64_t lease_id_at(const struct lease *lease, const struct session *session);
/* Some lease has a part of it at this session. */
bool lease_is_held(const struct session *session);
/* LEASE, RENEW: the op has its RESULT. */
void lease_op_finish(struct client_op *cop);
/* The session has gone, and all its leases. */
void lease_session_down(struct session *session);

/* region.c */
void region_init(struct client *client);
/*
 * Segments of the first size bytes of an item's iov for a direct transport: of the caller's memory,
 * or staged. Returns how many; -EAGAIN: a region is yet to be declared, or the staging area is
 * full; -EINVAL: more pieces than an item may have. Noted in request, even when it fails.
 */
int region_segs(struct request *request, struct ctxkv_item *item, uint32_t size, bool is_put,
		struct wire_seg *segs) MUST_USE;
/* What region_segs() noted last is not sent after all. */
void region_unstage(struct client *client, struct ctxkv_item *item);
/* The request does not name them any more. */
void region_requests_end(struct client *client, struct request *request);
/* A server has answered DECLARE. */
int region_answered(struct session *session, uint32_t id, int status) MUST_USE;
/* Tell the server the regions that it does not know yet. -EAGAIN: not all. Else: there is no
 * staging in this session. */
int region_flush(struct session *session) MUST_USE;
/* The session is gone, and what it knew. */
void region_session_down(struct session *session);

#endif
