/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A failed ASSERT inside the library does not abort the engine's process. Everything the library
 * does runs under a guard; a broken invariant below it logs one line and comes back as -ERR_BROKEN.
 * What was being done is left as it was, so that the client must not be used again: face.h.
 *
 * This is the one place with setjmp. The alternative, ending the thread from the hook, is none for
 * a caller-driven client, which runs in the engine's own thread; one way for both is less. Nothing
 * between guard and ASSERT holds a lock or a resource that only its own frame knows.
 *
 * The guard also says whose log lines a thread writes.
 */
#ifndef CLIENT_PANIC_H
#define CLIENT_PANIC_H

#include "../base/log.h"

struct panic_log {
	void (*line)(void *ctx, int level, const char *line); /* NULL: standard error */
	void *ctx;
	enum log_level level;
};

/* Once a process: the hook of base_panic() and the sink of log lines. */
void panic_init(void);

/* Run body(ctx). 0, or -ERR_BROKEN when an ASSERT failed in it. Not nested. */
int panic_guard(const struct panic_log *log, void (*body)(void *ctx), void *ctx) MUST_USE;

#endif
