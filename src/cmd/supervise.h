/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who watches the server: systemd (notify.c), or without it a small parent process (supervise.c).
 * Both look at the same page: each reactor's loop, and the main thread's, adds to its own counter
 * at least every timeout / 8. Who has not beaten for the timeout stands still.
 */
#ifndef CMD_SUPERVISE_H
#define CMD_SUPERVISE_H

#include <stdatomic.h>

#include "../server/server.h"

/* Where the main thread beats. */
#define HEARTBEAT_MAIN SERVER_REACTOR_MAX

enum heartbeat_state {
	HEARTBEAT_STARTING = 0, /* recovery takes its time: nobody is measured */
	HEARTBEAT_READY,
	HEARTBEAT_STOPPING,
};

/* Shared by the server and its parent; zeroed for each server process. */
struct heartbeat {
	/* Server → watcher; relaxed: numbers that nothing else follows from. */
	atomic_uint state;         /* enum heartbeat_state */
	atomic_uint reactor_count; /* set before READY */
	atomic_uint_least64_t beats[SERVER_REACTOR_MAX + 1];
};

/* What a watcher remembers of the beats. */
struct pulse {
	uint64_t beats[SERVER_REACTOR_MAX + 1];
	uint64_t seen_ns[SERVER_REACTOR_MAX + 1]; /* when each last grew */
	bool is_begun;
};

/* Look once. -1: all have beaten within timeout_ns; else who has not: a reactor, or
 * HEARTBEAT_MAIN. Only while the server is READY. */
int pulse_take(struct pulse *pulse, const struct heartbeat *heartbeat, uint64_t now_ns,
	       uint64_t timeout_ns);

/* How long a server may stand still before it is ended, whoever watches: told to clients. */
uint64_t watchdog_bound_ns(uint64_t timeout_ns);

/*
 * Run serve() in a child process and watch it, until it ends by itself: then this returns its exit
 * code. Signals are forwarded. A server that dies by a signal, or stands still for timeout_ns (then
 * it is killed), is begun again, after a pause that grows from 1 s to 30 s.
 */
int supervise(int (*serve)(void *ctx, struct heartbeat *heartbeat), void *ctx, uint64_t timeout_ns);

/* --- notify.c: systemd's side; all are no-ops without $NOTIFY_SOCKET --- */

bool notify_is_there(void);
/* systemd's WatchdogSec for this process; 0: it does not watch. */
uint64_t notify_watchdog_ns(void);
/* "READY=1", "STATUS=…" and the like. */
void notify_send(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
