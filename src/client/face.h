/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Behind ctxkv.h: struct ctxkv_client, around the core. Files: ctxkv.c (open, close, regions,
 * names, state), events.c (submit, poll, run, cancel), thread.c (the progress thread and calls to
 * it), panic.c.
 *
 * Threads    The user's thread (one at a time) and the progress thread. They share two rings
 *            (ring.h), some flags (below) and the struct sync of a call that is waited for. Core
 *            and env belong to the progress thread, which lends them to a user who waits again and
 *            again (loan.h). With CTXKV_CALLER_DRIVEN there is only the user's thread.
 *
 * Broken. When a guard comes back with -ERR_BROKEN, is_broken is set. The user's thread then waits
 * for the end of the progress thread, closes all sockets, so that no byte can land any more, and
 * answers every op in flight and to come with -ERR_BROKEN. Nothing of core and env is used again;
 * their memory stays where it is (nobody knows what of it is in order). Where servers may reach
 * memory by themselves, he gives them a second to see that the session has ended; one that stands
 * still at that very moment could write later.
 *
 * Fork. A child has none of the threads: its calls are refused, and close only closes descriptors.
 */
#ifndef CLIENT_FACE_H
#define CLIENT_FACE_H

#include <pthread.h>
#include <semaphore.h>

#include "client.h"
#include "loan.h"
#include "panic.h"
#include "ring.h"
#include "shared.h"

#define SPIN_MAX_NS (50 * NS_PER_US)
#define FACE_MAGIC  UINT64_C(0x45434146564b5843)

enum call_kind {
	CALL_SUBMIT = 1, /* op */
	CALL_CANCEL,     /* op */
	CALL_CONNECT,
	CALL_STOP,
	CALL_SYNC, /* sync */
};

/* An entry of the ring to the progress thread. */
struct call {
	enum call_kind kind;
	union {
		struct ctxkv_op *op;
		struct sync *sync;
	};
};

enum sync_kind {
	SYNC_STAT = 1,
	SYNC_SERVERS,
	SYNC_SERVER_STAT,
	SYNC_DECLARE,
	SYNC_UNDECLARE,
	SYNC_ABANDON,
	SYNC_FIND
};

/* A call whose answer the user's thread waits for; on his stack. */
struct sync {
	enum sync_kind kind;
	int rc;
	bool is_done; /* caller-driven */
	sem_t done;   /* else */
	bool has_thread;
	bool is_settled; /* STAT: every server has been tried */
	union {
		struct ctxkv_stat stat;
		struct {
			void *rows;
			size_t size;
			size_t count;
		} servers;
		struct {
			struct client_text text;
			char *buf;
			size_t buf_size;
		} server_stat;
		struct {
			void *base;
			uint64_t size;
			uint32_t page_size;
			struct ctxkv_region *region;
		} region;
	};
};

/* Memory given out by ctxkv_alloc(). */
struct allocation {
	struct allocation *next;
	struct shared memory;
	struct ctxkv_region *region;
};

struct ctxkv_client {
	uint64_t magic;
	uint32_t fork_generation;
	uint32_t inflight_max;
	bool has_thread; /* not CALLER_DRIVEN */
	struct panic_log log;
	struct env *env;     /* NULL once buried */
	struct client *core; /* whoever has it: loan.h */
	struct allocation *allocations;
	struct shared stage;
	bool is_huge;        /* HUGE_PAGES */
	bool is_huge_missed; /* and they were not to be had: it was logged */
	bool is_left;        /* a server still holds memory: see face_close_core() */

	/* The user's thread. */
	struct ctxkv_op **table; /* ops in flight by slot; an op's reserved[0] is its slot + 1 */
	uint32_t *free_slots;
	uint32_t free_count;
	uint64_t spin_ns; /* so long it is worth to look before sleeping */
	struct ring kept; /* events to be polled: caller-driven, or passed over by ctxkv_run() */
	bool is_buried;
	bool is_joined;
	bool is_fd_given; /* somebody may wait for the event descriptor by himself */
	bool is_working;  /* the core does, in his thread */

	/* Between the threads. */
	pthread_t thread;
	struct loan loan;
	struct ring calls;  /* user → core */
	struct ring events; /* core → user */
	int event_fd;       /* has_thread: readable when is_notified */
	atomic_bool is_notified;
	atomic_bool is_sleeping; /* the progress thread must be woken to see a call */
	atomic_bool is_broken;
	atomic_bool is_reached; /* some server may have reached memory by itself */

	struct ctxkv_client *next_broken; /* what is left of broken clients stays reachable */
};

/*
 * Who ends the user's thread (pthread_cancel()) ends it between calls: in one it would take the
 * core along, or memory that the core is to write to.
 */
static inline int face_cancel_off(void)
{
	int before;

	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	return before;
}

static inline void face_cancel_as(int before)
{
	(void)pthread_setcancelstate(before, &before);
}

/* thread.c */
int face_thread_start(struct ctxkv_client *face) MUST_USE;
/* Room for it is certain: see inflight_max in events.c. */
void face_call(struct ctxkv_client *face, struct call call);
void face_wake(struct ctxkv_client *face);
/* Run it in the core's thread and wait for it. Returns sync->rc, or -ERR_BROKEN. */
int face_sync(struct ctxkv_client *face, struct sync *sync) MUST_USE;
/* From the core: op has news. */
void face_event(void *ctx, struct ctxkv_op *op, uint32_t what);
/* Make event_fd readable. */
void face_notify(struct ctxkv_client *face);
void face_notify_clear(struct ctxkv_client *face);
/* Close all descriptors of the env. -ERR_BROKEN: not all, perhaps. */
int face_env_destroy(struct ctxkv_client *face) MUST_USE;
/* The core's end, in its thread. */
void face_close_core(struct ctxkv_client *face);
/* One turn of the loop; under a guard. */
void face_poll_env(struct ctxkv_client *face, uint64_t timeout_ns);
/* The user's thread has the core: one turn under the guard. */
void face_run_once(struct ctxkv_client *face, uint64_t timeout_ns);
/* He lets the core work, until there are events, timeout_ns at most. */
void face_work(struct ctxkv_client *face, uint64_t timeout_ns);
/* Caller-driven: body(ctx) under the guard. */
void face_run(struct ctxkv_client *face, void (*body)(void *ctx), void *ctx);

/* events.c */
/* 0, -ERR_FORKED. Also sees whether the client has broken. */
int face_check(const struct ctxkv_client *client) MUST_USE;
/* A broken client's end: no byte lands any more, all its ops have their events. */
void face_bury(struct ctxkv_client *face);
void face_fork_init(void);
uint32_t face_fork_generation(void);

#endif
