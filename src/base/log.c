/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#define LINE_MAX_SIZE 1024

/* Set before threads begin, in practice; relaxed, since a line more or less at a change is no harm.
 */
static atomic_int level_max = LOG_INFO;
static void (*sink_line)(void *ctx, enum log_level level, const char *line);
static void *sink_ctx;

void log_level_set(enum log_level level)
{
	atomic_store_explicit(&level_max, (int)level, memory_order_relaxed);
}

void log_sink_set(void (*sink)(void *ctx, enum log_level level, const char *line), void *ctx)
{
	sink_line = sink;
	sink_ctx = ctx;
}

void log_line(enum log_level level, const char *format, ...)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	char line[LINE_MAX_SIZE];
	va_list args;

	if ((int)level > atomic_load_explicit(&level_max, memory_order_relaxed))
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (sink_line != NULL)
		sink_line(sink_ctx, level, line);
	else
		fprintf(stderr, "ctxkv: %s: %s\n", names[level], line);
}
