/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for blocks, taken once and cut into fixed shares, so that no use of it can starve another:
 *
 *   inline    payloads that came inside PUT frames; credit promises them their room
 *   receive   blocks that are pulled from clients, until the log has written them
 *   read      blocks that are read from the medium and pushed to clients
 *   cache     the rest (cache.h), which takes over whole pieces of the others for free ones
 *
 * A block's buffers are reserved all at once, in order of arrival: who waits has nothing that
 * another waits for, so nobody waits for ever. A session has its quota of a share for each medium,
 * and so has each medium for all sessions; and more as long as as much is left free as is held by
 * it and nobody waits. What exceeds that waits apart, behind its own releases, and holds up nobody
 * else: neither does a session that asks for much, nor a medium that is slow.
 *
 * Owner: the reactor. Failure: -EAGAIN and the want is queued; granted() tells, from buffers_free()
 * of another. Callers only note it there.
 */
#ifndef SERVER_BUFFERS_H
#define SERVER_BUFFERS_H

#include <sys/uio.h>

#include "../base/buddy.h"
#include "../base/list.h"
#include "../env/env.h"
#include "../wire/wire.h"

#define BUFFER_MAX MiB /* of one piece: a move, a command to the drive */
/* Pieces of the largest block, plus one: a range may begin and end inside strides. */
#define BUFFER_PIECE_MAX (WIRE_BLOCK_MAX / BUFFER_MAX + 1)

/* What the shares are parts of. */
struct buffers_arena {
	struct env *env;
	void *memory; /* NULL: none */
	void *pages;
	uint64_t size;
	uint64_t given;
};

struct buffers {
	struct buddy buddy;
	uint64_t waits;      /* wants that had to wait, ever */
	struct list waiters; /* of buffers_want, in order of arrival */
};

/* What a session, or a medium, may hold of one share. */
struct buffers_quota {
	uint64_t used; /* bytes, with those that are QUEUED */
	uint64_t max;  /* in any case; and one want, however large */
	struct list waiters;
};

enum buffers_state {
	BUFFERS_NONE = 0,
	BUFFERS_HELD_UP, /* waits for a quota, counts against those before it */
	BUFFERS_QUEUED,  /* counts against its quotas, waits for the share */
	BUFFERS_HELD,
};

/* Of the shares that blocks flow through. */
struct flow_quotas {
	struct buffers_quota receive;
	struct buffers_quota read;
};

/* Both, or NULL: its session's (NULL also when that is gone), its medium's. */
#define BUFFERS_QUOTAS 2

/* Buffers of one block. Zeroed is none; iov has room for buffers_piece_count(size) pieces. */
struct buffers_want {
	struct list node;
	enum buffers_state state;
	struct buffers *pool;
	struct buffers_quota *quotas[BUFFERS_QUOTAS];
	uint32_t passed;   /* of them: it counts against so many */
	uint64_t size;     /* bytes wanted */
	uint64_t held;     /* bytes of the pieces, as they are rounded */
	struct iovec *iov; /* sums up to size once held */
	uint32_t iov_count;
	void (*granted)(struct buffers_want *want);
};

int buffers_arena_init(struct buffers_arena *arena, struct env *env, uint64_t size) MUST_USE;
void buffers_arena_fini(struct buffers_arena *arena);
uint64_t buffers_arena_memory_size(uint64_t size); /* what init takes */
/* The next size bytes of it. */
void buffers_arena_give(struct buffers_arena *arena, struct buddy *buddy, uint64_t size);

/* A share. */
void buffers_init(struct buffers *pool, struct buffers_arena *arena, uint64_t size);

void buffers_quota_init(struct buffers_quota *quota, uint64_t max);

/* Bytes that pieces for size take, and how many they are. */
uint64_t buffers_held_size(uint64_t size);
uint32_t buffers_piece_count(uint64_t size);

/* 0: want->iov holds size bytes. -EAGAIN: want waits for granted(). */
int buffers_reserve(struct buffers *pool, struct buffers_quota *of_session,
		    struct buffers_quota *of_medium, struct buffers_want *want,
		    uint64_t size) MUST_USE;
/* The same, but -EAGAIN does not queue. */
int buffers_try(struct buffers *pool, struct buffers_want *want, uint64_t size) MUST_USE;
/* Give back what is held, or stop waiting. Nothing to do: does nothing. */
void buffers_free(struct buffers_want *want);
/* The session goes: what want holds no longer counts against its quota. It does not wait. */
void buffers_forget_quota(struct buffers_want *want);

#endif
