/* SPDX-License-Identifier: Apache-2.0 */
#include "panic.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>

struct guard {
	jmp_buf back;
	const struct panic_log *log;
};

static _Thread_local struct guard *current;

/* Outside of a guard (a server's thread in the same process) the panic goes on. */
static void hook(const char *file, int line, const char *what)
{
	struct guard *guard = current;

	if (guard == NULL)
		return;
	log_error("client broken %s:%d: %s; it answers misses only from now on", file, line, what);
	longjmp(guard->back, 1);
}

static void sink(void *ctx, enum log_level level, const char *line)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	const struct panic_log *log = current != NULL ? current->log : NULL;

	if (log != NULL && level > log->level)
		return;
	if (log != NULL && log->line != NULL)
		log->line(log->ctx, (int)level, line);
	else
		fprintf(stderr, "ctxkv: %s: %s\n", names[level], line);
}

static void init(void)
{
	base_panic_hook_set(hook);
	log_sink_set(sink, NULL);
}

void panic_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init);
}

int panic_guard(const struct panic_log *log, void (*body)(void *ctx), void *ctx)
{
	struct guard guard = { .log = log };

	ASSERT(current == NULL);
	if (setjmp(guard.back) != 0) {
		current = NULL;
		return -ERR_BROKEN;
	}
	current = &guard;
	body(ctx);
	current = NULL;
	return 0;
}
