/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop: a transport inside one thread, whose server reaches the client's memory directly. It is
 * what the simulator and unit tests use to see what a one-sided transport can do to the code above:
 * frames arrive in order, later; moves land in pieces at any moment, in any order among themselves
 * and with the frames.
 *
 * Both ends live in the same address space, each on an env of its own (or one for both), all polled
 * by one thread. An address is any text. loop.c has connections and frames, loop_move.c the moves,
 * loop_hold.c what is mapped.
 *
 * Of two kinds: xprt_loop is as a NIC would be (moves, and a closed lane fences); xprt_loop_mapped
 * as memory that two processes share: the server also maps it, and a closed lane fences nothing.
 *
 * A lane whose other end has not taken what fills its inbox is blocked (send() says -EAGAIN) until
 * one frame of that is taken. Moves do not wait for it.
 *
 * Failure    An end that goes away is seen by the other after a delay, behind what it sent before.
 *            Nothing moves to or from an end that is gone. What is lost (see the delay) is lost
 * with all that follows it; both ends break after LOOP_KEEPALIVE_NS.
 */
#ifndef XPRT_LOOP_H
#define XPRT_LOOP_H

#include "../../env/timers.h"
#include "../xprt.h"

#define LOOP_LANE_MAGIC     0x6c6f6f70u
#define LOOP_LISTENER_MAGIC 0x6c6c6973u
#define LOOP_INBOX_SIZE     (512 * KiB) /* two of the largest frames */
#define LOOP_REGION_MAX     256         /* of a session: as many as a client keeps */
#define LOOP_KEEPALIVE_NS   (20 * NS_PER_S)
#define LOOP_HOLD_MAX       6         /* of a listener; then moves have to do */
#define LOOP_FENCE_NS       NS_PER_MS /* between two looks whether all is over */

/*
 * How long something takes from one env to the other; ENV_FOREVER: it is lost. The default is up to
 * 50 us, by env->random.
 */
typedef uint64_t (*loop_delay)(struct env *from, struct env *to);
void xprt_loop_delay_set(loop_delay delay);
/* So many bytes of frames are under way to an end; one frame may be more. At most LOOP_INBOX_SIZE,
 * which is the default. */
void xprt_loop_window_set(uint32_t size);

/* Whether a server holds some of these bytes: a client that lets go of them now has erred. */
bool xprt_loop_is_held(const void *base, uint64_t size);
/* The process of env is no more: who waits in it for a fence waits no longer. */
void xprt_loop_fences_open(struct env *env);
/* As if the client had cut this memory: whoever holds some of it is told so by unmap(). */
void xprt_loop_cut(const void *base, uint64_t size);

/* --- for loop.c and loop_move.c --- */

/* Frames on their way to a lane: a ring of struct loop_entry, each with its frame behind it. */
struct loop_inbox {
	uint8_t *bytes; /* LOOP_INBOX_SIZE */
	uint32_t head;  /* first entry */
	uint32_t tail;
	uint32_t used; /* the unused end before a wrap included */
};

struct loop_regions {
	struct xprt_group *group; /* whose; NULL: nobody's */
	uint64_t session;         /* serial of the client's lane 0 */
	struct loop_region {
		uint32_t id; /* 0: none */
		uint8_t *base;
		uint64_t size;
	} rows[LOOP_REGION_MAX];
};

/* Memory of a client that the server has mapped. */
struct loop_hold {
	struct list node; /* listener's holds or free_holds */
	struct loop_listener *listener;
	uint64_t session; /* as in loop_regions */
	bool is_cut;
	uint32_t iov_count;
	struct iovec iov[WIRE_SEG_MAX];
};

struct loop_lane {
	struct xprt_lane lane;
	uint32_t magic;
	uint64_t serial; /* the client's: no other lane ever has it; of the server's: its peer's */
	struct loop_listener *listener; /* of a server's lane */
	struct loop_lane *peer;         /* NULL: not yet, or gone */
	struct list node;               /* listener's live or free lanes */
	char address[64];
	struct wire_preface preface; /* until accepted */
	struct loop_inbox inbox;
	struct env_timer arrival; /* of what comes next: connection, frame, end */
	struct env_timer room;    /* writable() is due */
	struct env_timer mover;   /* a piece of a move is due */
	struct list moves;
	uint64_t last_ns; /* nothing arrives before what was sent before it */
	uint64_t end_ns;  /* when end_why arrives */
	int end_why;      /* 0: the other end is there */
	bool is_connecting;
	bool is_accepting;
	bool is_detached;  /* between two listeners */
	bool is_announced; /* closed() is owed */
	bool is_deaf;      /* something to it was lost, and so is all that follows */
	bool is_closed;
	uint32_t depth; /* of upcalls under way */
};

struct loop_listener {
	struct xprt_listener listener;
	uint32_t magic;
	char address[64];
	struct list node;     /* of listeners with a door */
	struct list all_node; /* of all that are there */
	struct loop_lane *lanes;
	uint8_t *inboxes;
	struct loop_regions *regions; /* lane_max of them */
	uint32_t lane_max;
	struct list live;
	struct list free;
	uint32_t held;
	bool is_unlistened;
	struct loop_hold *holds_memory;
	struct list holds;
	struct list free_holds;
};

struct loop_lane *loop_of(struct xprt_lane *lane);

/* As the delay says; the random bytes of env decide. */
uint64_t loop_delay_ns(struct env *from, struct env *to);
uint32_t loop_random(struct env *env, uint32_t limit);

void loop_push(struct xprt_lane *lane, struct xprt_move *move);
void loop_pull(struct xprt_lane *lane, struct xprt_move *move);
void loop_revoke(struct xprt_move *move);
void loop_mover_fire(struct env_timer *timer);
void loop_moves_fail(struct loop_lane *lane, int why);
int loop_declare(struct xprt_lane *lane, struct xprt_region *region);
void loop_undeclare(struct xprt_lane *lane, struct xprt_region *region);
int loop_region_add(struct xprt_group *group, const struct wire_declare *declare);
int loop_region_remove(struct xprt_group *group, uint32_t region);
/* The client's memory of a segment; NULL: it was not declared. */
uint8_t *loop_region_memory(const struct xprt_group *group, const struct wire_seg *seg);
/* The listener of some lane of a server's group. */
struct loop_listener *loop_group_listener(const struct xprt_group *group);

void loop_holds_init(struct loop_listener *listener);
int loop_map(struct xprt_group *group, const struct wire_seg *segs, uint32_t seg_count,
	     struct iovec *iov_out, void **hold_out);
int loop_unmap(void **hold);
void loop_fence(struct xprt_lane *lane, struct xprt_fence *fence);

extern struct list loop_listeners; /* all_node */

/* The lane's end of something lost: both break when keepalive finds out. */
void loop_lose(struct loop_lane *lane);

/* Around whatever makes upcalls: the lane is freed at the last leave once it is closed. */
void loop_enter(struct loop_lane *lane);
void loop_leave(struct loop_lane *lane);
void loop_break(struct loop_lane *lane, int why);

#endif
