/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shm transport: a client on the server's host. Frames go through two rings in memory that both
 * map; payload is copied by the server between its buffers and the client's regions, or moved there
 * by the drive itself (map()). A Unix stream socket beside it tells of a hang-up, carries
 * descriptors, and wakes who sleeps. Its files:
 *   ring.c        the rings and the bells that wake (knows nobody)
 *   shm.c         life and death of a lane, its turn, frames, connect, the table of ops
 *   shm_listen.c  what a connection meets at the door (door.h), turns of lanes
 *   shm_note.c    notes: what the socket carries
 *   shm_region.c  regions: declaring, noting, mapping; holds
 *   shm_move.c    moves
 *   shm_fence.c   the end of a session whose server may still write
 * docs/decisions/0009-shared-memory.md says why; docs/protocol.md has the bytes.
 *
 * Normal path. The client makes the memory (struct shm_memory, of a fixed size), connects, and
 * sends the preface with the memory's descriptor. From then on all frames go through the rings.
 * Each end looks at the rings of its lanes that are awake in every turn of its loop (env_poller):
 * it reads what has come, copies for moves, and publishes what it wrote, once a turn; so two ends
 * that are awake need no system call for a frame. A lane that had nothing to do for
 * SHM_AWAKE_NS, or whose loop is about to wait, hangs out its bells and is not looked at any more:
 * any number of idle lanes cost nothing. Who finds the other's bell sends a note.
 *
 * The peer is not believed. Frames are copied out of the ring before they are checked; positions
 * are read once and checked (ring.h). Regions are mapped by env (only memory, SIGBUS caught) and
 * every access is checked against their bounds; what is in them is nobody's business here.
 *
 * The end. A lane ends by the user's close(), by a hang-up or the peer's END note (behind the
 * frames that came before it), or by a fault of the peer's, with one log line. A server's lane then
 * has its moves done, its regions gone, and sends END: from then on the server writes nothing into
 * the client's memory. While somebody holds a mapping (the drive's I/O into it) END waits, and the
 * lane stays in nobody's sight. That word is what a client's fence waits for.
 *
 * Memory. A server's lanes are a pool taken by listen(); the rings are the client's. Nothing is
 * allocated later. A client's lane is taken at connect().
 *
 * Upcalls. Every entry from env is bracketed by shm_lane_enter() and shm_lane_leave(). Between them
 * the lane struct stays, whatever the user closes; the code looks at shm_lane_is_open() after each
 * upcall. A lane found broken inside is torn down by the outermost leave.
 */
#ifndef XPRT_SHM_H
#define XPRT_SHM_H

#include "../door.h"
#include "ring.h"

#define SHM_VERSION UINT64_C(1)
/* The largest frame: a PUT's, body and inline payload each to a whole word. */
#define SHM_FRAME_MAX (sizeof(struct wire_header) + WIRE_BODY_MAX + WIRE_INLINE_MAX)
#define SHM_AWAKE_NS  (50 * NS_PER_US) /* a lane that had nothing to do for so long sleeps */
/* A lane's turn: so that no client holds the reactor. */
#define SHM_TURN_FRAMES 64
#define SHM_TURN_BYTES  (256 * KiB) /* of moves; about 25 us */
#define SHM_LOOK_BYTES  MiB         /* of all lanes; who is left over is first in the next turn */
/*
 * Mappings of a listener: so many a lane. A process has 16384 (env/posix/share.c), for these and
 * for the rings of all lanes: enough for the four reactors that a server has unless told otherwise.
 */
#define SHM_MAPPING_LANE 8
#define SHM_MAPPING_MIN  512
#define SHM_MAPPING_MAX  3072
/* One owner's sessions leave so much to others, of mappings and of bytes: a quarter. */
#define SHM_OWNER_SHARE 4
/* A client has at most 256 regions; notes of new ones may overtake the end of old ones. */
#define SHM_REGION_MAX 512
/* How long the kernel may go on with a dead server's I/O: Linux's default for NVMe. */
#define SHM_IO_TIMEOUT_MS 30000

/* What both map, whole, and nothing else is in the descriptor. */
struct shm_memory {
	uint64_t version; /* SHM_VERSION; by the client */
	uint8_t reserved[RING_LINE - sizeof(uint64_t)];
	struct ring_shared rings[2];
	uint8_t pad[PAGE_SIZE - RING_LINE - 2 * sizeof(struct ring_shared)];
	uint8_t bytes[2][RING_SIZE];
};

enum { SHM_C2S = 0, SHM_S2C = 1 }; /* of rings, bytes */

_Static_assert(offsetof(struct shm_memory, rings) == 128, "docs/protocol.md");
_Static_assert(offsetof(struct shm_memory, bytes) == PAGE_SIZE, "docs/protocol.md");
_Static_assert(sizeof(struct shm_memory) == PAGE_SIZE + 2 * RING_SIZE, "docs/protocol.md");
_Static_assert(SHM_FRAME_MAX % RING_WORD == 0, "a frame is whole words");
_Static_assert(2 * SHM_FRAME_MAX > RING_SIZE && SHM_FRAME_MAX < RING_SIZE, "any frame fits");

/* --- notes --- */

enum shm_note_kind {
	SHM_NOTE_BELL = 1,   /* look at the rings */
	SHM_NOTE_REGION = 2, /* client: of a region, with its descriptor */
	SHM_NOTE_SERVER = 3, /* server, first: with the descriptor of its process */
	SHM_NOTE_DIRECT = 4, /* server: from now on the kernel may move into this client's memory */
	SHM_NOTE_END = 5,    /* it writes nothing any more: its last frame is in the ring; server:
				nothing lands any more either */
};

struct shm_note {
	uint32_t kind;   /* enum shm_note_kind */
	uint32_t value;  /* REGION: its id; DIRECT: ms that I/O of a dead process may go on */
	uint64_t offset; /* REGION: in the descriptor */
	uint64_t size;   /* REGION */
};

_Static_assert(sizeof(struct shm_note) == 24, "docs/protocol.md");

/* --- regions --- */

enum { SHM_WRITE = 1, SHM_READ = 2 }; /* of wire_declare.access: what the server may do */

/* A region's memory here. It stays while it is held, in nobody's table perhaps. */
struct shm_mapping {
	struct list node; /* the listener's free ones */
	struct shm_lane *lane;
	uint32_t region; /* its id */
	uint8_t *base;
	uint64_t size;
	uint32_t hold_count;
	bool is_gone;     /* no region's any more: goes with the last hold */
	bool is_declared; /* to env, for I/O: it was held once */
};

struct shm_region {
	struct shm_mapping *mapping; /* NULL: rc says why not; -ERR_PEER: it was taken away */
	int rc;
	uint16_t access; /* 0: noted, not declared yet */
	uint64_t offset; /* as noted */
	uint64_t size;
};

struct shm_regions {
	uint32_t count;
	uint32_t last;                /* that was found */
	uint32_t ids[SHM_REGION_MAX]; /* of rows, 0 … count in use */
	struct shm_region rows[SHM_REGION_MAX];
};

/* --- lanes --- */

/* The lanes of a loop that are awake. */
struct shm_poll {
	struct env_poller poller;
	struct env *env;
	struct list awake;
};

enum shm_state {
	SHM_PREFACE, /* server: it is due */
	SHM_REFUSED, /* server: REFUSE is sent; nothing is looked at */
	SHM_OPEN,
	SHM_ENDING, /* server: nobody's, until the last hold; client: until its fences are done */
};

/* What a client's lane has in addition. */
struct shm_client {
	struct shm_lane *lane;
	char address[128];
	struct shm_poll poll;
	struct env_task opening;
	struct list fences;          /* struct xprt_fence */
	struct env_task fence_task;  /* they are done */
	struct env_timer io_timer;   /* the kernel is through with a dead server's I/O */
	struct env_timer pass_timer; /* a descriptor may be passed again */
	struct env_sock *process;    /* the server's, watched while fences wait */
	int process_fd;              /* -1: not told */
	uint32_t io_ms;              /* by DIRECT; 0: the server only copies */
	bool has_regions;            /* some were declared */
	bool has_end;                /* END has come */
	bool is_free;                /* nothing can land any more */
	_Alignas(8) uint8_t frame[SHM_FRAME_MAX];
};

#define SHM_LANE_MAGIC UINT32_C(0x5348a4e1)

struct shm_lane {
	struct xprt_lane lane;
	uint32_t magic;
	uint32_t depth; /* entries from env under way */
	enum shm_state state;
	bool is_announced; /* the user knows it: closed() is due */
	bool is_closed;    /* the user does not know it any more */
	bool is_ended;     /* the peer hung up, or said END: what is in the ring is the last */
	bool is_room_due;  /* the socket had no room for a note */
	int broken;        /* why, once it is */
	const char *fault; /* what the peer did wrong, for the log */
	uint32_t wanted;   /* size of the frame that send() had no room for; 0: none */
	struct env_sock *sock;
	struct shm_memory *memory; /* NULL: none yet */
	struct ring rx;
	struct ring tx;
	struct shm_poll *poll;
	struct list awake_node;
	uint64_t active_ns; /* when it last had something to do */
	uint64_t now_ns;    /* of its turn */
	struct list moves;
	struct list finished;
	union {
		struct shm_note note;
		struct wire_preface preface; /* PREFACE */
		uint8_t bytes[32];
	} in; /* what the socket has brought so far, … */
	uint32_t in_size;
	int in_fd;                 /* … and the descriptor beside it; -1: none */
	uint8_t *frame;            /* where a frame is copied to: the listener's, or the client's */
	struct shm_client *client; /* NULL on the server */
	struct shm_listener *listener; /* NULL on the client */
	struct door_lane door;         /* the server's */
	uint32_t hold_count;           /* of all its mappings */
	uint64_t owner;                /* whose they are */
	uint32_t mapping_count;        /* those that it has */
	uint64_t mapped_size;          /* their bytes */
	bool is_direct;                /* DIRECT was sent */
	bool is_refused;               /* a region of its had no room: one log line */
};

/* A server's lane with its regions. */
struct shm_server_lane {
	struct shm_lane shm;
	struct shm_regions regions;
};

struct shm_listener {
	struct door door;
	int process_fd; /* of this process; -1: the kernel has none */
	struct shm_poll poll;
	struct list mappings_free;
	uint32_t mapping_max;
	uint32_t mapping_count; /* of all lanes */
	uint64_t mapped_size;
	_Alignas(8) uint8_t frame[SHM_FRAME_MAX];
};

static inline struct shm_lane *shm_of(const struct xprt_lane *lane)
{
	struct shm_lane *shm = CONTAINER_OF(lane, struct shm_lane, lane);

	CHECK_OBJ(shm, SHM_LANE_MAGIC);
	return shm;
}

static inline struct shm_regions *shm_regions_of(struct shm_lane *lane)
{
	ASSERT(lane->listener != NULL);
	return &CONTAINER_OF(lane, struct shm_server_lane, shm)->regions;
}

static inline bool shm_lane_is_open(const struct shm_lane *lane)
{
	return !lane->is_closed && lane->broken == 0;
}

/* shm.c */
void shm_lane_init(struct shm_lane *lane, struct env *env, const struct xprt_user *user,
		   struct env_sock *sock, struct shm_poll *poll);
void shm_lane_enter(struct shm_lane *lane);
void shm_lane_leave(struct shm_lane *lane);
/* The lane is finished, because of why; the rest follows in leave. */
void shm_lane_break(struct shm_lane *lane, int why);
/* The same: the peer did what it must not. */
void shm_lane_fault(struct shm_lane *lane, const char *what);
/* It has something to do: it is looked at in the next turn. */
void shm_lane_wake(struct shm_lane *lane);
/* Its socket is not needed any more. */
void shm_lane_shut(struct shm_lane *lane);
/* What the peer has passed and nobody needs. False: it was no memory, the lane is to end. */
bool shm_lane_fd_close(struct shm_lane *lane);
/* Memory mapped, ends known. */
void shm_lane_rings(struct shm_lane *lane, struct shm_memory *memory);
void shm_lane_watch(struct shm_lane *lane);
/* Nobody needs it: back to the pool, or freed. */
void shm_lane_free(struct shm_lane *lane);
int shm_send(struct xprt_lane *lane, struct wire_header *header, const void *body,
	     const struct iovec *payload, uint32_t payload_count);
/* One turn; budget: bytes that may be copied. True: something was done. The lane may be gone. */
bool shm_lane_turn(struct shm_lane *lane, uint64_t now_ns, uint64_t *budget);
/* It is not looked at any more until somebody rings. False: it has something to do. */
bool shm_lane_sleep(struct shm_lane *lane);
/* The last hold of a mapping of its is gone. */
void shm_lane_unheld(struct shm_lane *lane);
void shm_poll_init(struct shm_poll *poll, struct env *env, bool (*look)(struct env_poller *poller),
		   bool (*sleep)(struct env_poller *poller));

/* shm_listen.c */
extern const struct door_kind shm_door;
/* The preface has come, with its descriptor: the user's, or refused. */
void shm_lane_accepted(struct shm_lane *lane);

/* shm_note.c */
/* Receive what is there. It may break the lane. */
void shm_notes_receive(struct shm_lane *lane);
/* fd -1: none; borrowed. -EAGAIN, or why the socket is broken. */
int shm_note_send(struct shm_lane *lane, const struct shm_note *note, int fd);
/* The other end sleeps: wake it. */
void shm_ring_bell(struct shm_lane *lane);

/* shm_region.c */
int shm_declare(struct xprt_lane *lane, struct xprt_region *region);
void shm_declare_again(struct env_timer *timer);
void shm_undeclare(struct xprt_lane *lane, struct xprt_region *region);
/* A REGION note; fd is borrowed. */
void shm_region_noted(struct shm_lane *lane, const struct shm_note *note, int fd);
int shm_region_add(struct xprt_group *group, const struct wire_declare *declare);
int shm_region_remove(struct xprt_group *group, uint32_t region);
void shm_regions_drop(struct shm_lane *lane); /* all of a lane's */
int shm_map(struct xprt_group *group, const struct wire_seg *segs, uint32_t seg_count,
	    struct iovec *iov_out, void **hold_out);
int shm_unmap(void **hold);
/*
 * The memory of a segment. -ERR_PROTOCOL: it was not declared, or not for that (SHM_WRITE,
 * SHM_READ); -ERR_PEER: its region was taken away. Behind each touch of it: is it still there?
 */
int shm_seg_memory(const struct xprt_group *group, const struct wire_seg *seg, uint16_t access,
		   uint8_t **memory_out, struct shm_mapping **mapping_out);
bool shm_mapping_is_lost(struct shm_mapping *mapping);

/* shm_move.c */
void shm_push(struct xprt_lane *lane, struct xprt_move *move);
void shm_pull(struct xprt_lane *lane, struct xprt_move *move);
void shm_revoke(struct xprt_move *move);
/* Copy for the moves of a lane, as far as the budgets go. True: something was copied or ended. */
bool shm_moves_run(struct shm_lane *lane, uint64_t *budget);
void shm_moves_deliver(struct shm_lane *lane);
void shm_moves_fail(struct shm_lane *lane, int why); /* all of the lane; then deliver */

/* shm_fence.c */
void shm_fence(struct xprt_lane *lane, struct xprt_fence *fence);
/* Something has come of the server, or its end: are fences done? */
void shm_fence_look(struct shm_lane *lane);
/* A client's lane is closed, and fences wait. */
void shm_fence_closed(struct shm_lane *lane);
/* There is room for a note again, if there was none for the last one. */
void shm_fence_say_end(struct shm_lane *lane);
void shm_client_init(struct shm_client *client, struct shm_lane *lane);
void shm_client_fini(struct shm_client *client, struct env *env);

#endif
