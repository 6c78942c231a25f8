/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines: lower case, no trailing stop, object first, then "key value" pairs. Log once, where
 * the cause is first known. No line per request below LOG_DEBUG. Any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Lines above this level are not formatted. Default LOG_INFO. */
void log_level_set(enum log_level level);

/* Where lines go; NULL is stderr. The line has no newline. */
void log_sink_set(void (*sink)(void *ctx, enum log_level level, const char *line), void *ctx);

void log_line(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
