/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A door: where connections come in to a server, and the pool of lanes that they become. What the
 * listeners of tcp and shm have in common; each begins with one. Without an address it stays shut:
 * connections come from other listeners only, by attach().
 *
 * Normal path. A connection is accepted into a free lane and is a stranger (kind->begin()). When
 * its preface has come the transport says so (door_lane_known()) and asks the user. The lane goes
 * back to the pool when it has ended (door_lane_put()).
 *
 * Failure.
 *   A stranger's preface does not come in DOOR_STRANGER_NS: it is dropped (kind->drop()).
 *   There are DOOR_STRANGER_MAX of them, or no lane is left: who has been one longest is dropped
 *   for the next. There is none to drop: the door rests until a lane is free, or for DOOR_REST_NS
 *   (one may have become a stranger).
 *   The transport refuses it: it is a stranger again (door_lane_stranger()), until its peer has
 *   closed the connection or its time is over: what is closed with bytes unread (its HELLO, say)
 *   is reset, and the REFUSE with it.
 *   Accepting fails (no descriptors): the door rests until a lane is free, or for DOOR_REST_NS.
 *   The user unlistens: strangers are dropped, lanes that he knows go on, and the door's memory
 *   goes with the last of them.
 */
#ifndef XPRT_DOOR_H
#define XPRT_DOOR_H

#include "xprt.h"

#define DOOR_STRANGER_MAX 64
#define DOOR_STRANGER_NS  (5 * NS_PER_S)
#define DOOR_REST_NS      (NS_PER_S / 2)
#define DOOR_MAGIC        UINT32_C(0xd0032157)

/* A lane as its door knows it: a part of the transport's. */
struct door_lane {
	struct list node; /* the door's: free, strangers or known */
	struct door *door;
	struct env_timer late; /* of a stranger: its time is over */
	bool is_stranger;      /* it has sent no preface, or was refused */
};

/* What a transport makes of its doors. All required. */
struct door_kind {
	size_t door_size;                        /* its listener, with the door first */
	size_t lane_size;                        /* a lane of the pool, … */
	size_t lane_offset;                      /* … and where in it the door's part is */
	size_t (*extra_size)(uint32_t lane_max); /* memory that it has besides */
	void (*init)(struct door *door, void *extra);
	void (*fini)(struct door *door); /* its last lane has ended; extra is not to be freed */
	/* A lane of the pool (nothing in it counts) is this connection's: watch for its preface. */
	void (*begin)(struct door *door, struct door_lane *lane, struct env_sock *sock);
	/* End this stranger's lane: it is back in the pool when this returns. */
	void (*drop)(struct door_lane *lane, int why);
};

struct door {
	struct xprt_listener listener;
	uint32_t magic;
	uint32_t lane_max;
	const struct door_kind *kind;
	struct env_sock *sock; /* NULL: it is shut */
	char address[128];     /* as given; init() may know better */
	uint8_t *memory;       /* lane_max lanes, and what is the kind's besides */
	struct list free;
	struct list strangers; /* who came first is first */
	struct list known;
	uint32_t stranger_count;
	uint32_t hold_count; /* lanes that are not free, and door_hold() */
	bool is_accepting;
	bool is_unlistened;
	struct env_timer rest; /* set when it begins to rest; a lane may end that */
};

/* Ops of every transport with doors. */
uint64_t door_listen_size(const struct xprt_ops *ops, uint32_t lane_max);
int door_listen(const struct xprt_ops *ops, struct env *env, const char *address, uint32_t lane_max,
		const struct xprt_user *user, void *ctx, struct xprt_listener **out);
void door_unlisten(struct xprt_listener **listener);
void door_name(struct xprt_listener *listener, char *buf, size_t buf_size);
struct door *door_of(struct xprt_listener *listener);

/* It stays until release, whatever becomes of its lanes. */
void door_hold(struct door *door);
void door_release(struct door *door);

/* A lane for sock, a stranger's. NULL: there is none, nor a stranger to drop; sock is closed. */
struct door_lane *door_lane_take(struct door *door, struct env_sock *sock);
void door_lane_known(struct door_lane *lane);
void door_lane_stranger(struct door_lane *lane);
void door_lane_put(struct door_lane *lane); /* an ended one */

#endif
