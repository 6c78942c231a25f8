/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines of a server, to standard error. What strangers do is told, but they do not decide how
 * much is written: of lines below error at most LINES_PER_S a second, then one that says how many
 * were left out, with the first line of a later second.
 *
 * Atomics: any thread may log. The three words are independent and relaxed: two threads at the turn
 * of a second may let a few lines more or less through.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "../base/log.h"
#include "cmd.h"

#define LINES_PER_S 50

static atomic_uint_least64_t second; /* that count is of */
static atomic_uint count;            /* lines of it */
static atomic_uint left_out;         /* lines since the last time it was said */

static bool is_over_limit(void)
{
	struct timespec now;
	uint64_t now_s;
	unsigned lines;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now_s = (uint64_t)now.tv_sec;
	if (atomic_exchange_explicit(&second, now_s, memory_order_relaxed) != now_s) {
		atomic_store_explicit(&count, 0, memory_order_relaxed);
		lines = atomic_exchange_explicit(&left_out, 0, memory_order_relaxed);
		if (lines > 0)
			fprintf(stderr, "ctxkv: warn: log %u lines left out\n", lines);
	}
	if (atomic_fetch_add_explicit(&count, 1, memory_order_relaxed) < LINES_PER_S)
		return false;
	atomic_fetch_add_explicit(&left_out, 1, memory_order_relaxed);
	return true;
}

static void line_write(void *ctx, enum log_level level, const char *line)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };

	if (level != LOG_ERROR && is_over_limit())
		return;
	fprintf(stderr, "ctxkv: %s: %s\n", names[level], line);
}

void cmd_log_limit(void)
{
	log_sink_set(line_write, NULL);
}
