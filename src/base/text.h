/* SPDX-License-Identifier: Apache-2.0 */
/* Text to numbers and back, for options, URLs and reports. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base.h"

/* "4096", "64KiB", "1.5 MiB", "2G" (binary units, B optional). 0, -EINVAL or -ERANGE. */
int text_parse_size(const char *text, uint64_t *size_out) MUST_USE;

/* "1s", "250ms", "10us", "2m", "1h", "7d"; a bare number is seconds. 0, -EINVAL or -ERANGE. */
int text_parse_duration(const char *text, uint64_t *ns_out) MUST_USE;

/* Decimal digits only, whole string. 0, -EINVAL or -ERANGE. */
int text_parse_u64(const char *text, uint64_t *value_out) MUST_USE;

/* size bytes from 2 * size hex digits. 0 or -EINVAL. */
int text_parse_hex(const char *text, void *bytes_out, size_t size) MUST_USE;

/* "512 KiB", "1.50 GiB". Returns buf. */
const char *text_format_size(char *buf, size_t buf_size, uint64_t size);

/* "13.2 us", "1.87 s". Returns buf. */
const char *text_format_duration(char *buf, size_t buf_size, uint64_t ns);

/* Lower-case hex and a NUL: buf_size is at least 2 * size + 1. Returns buf. */
const char *text_format_hex(char *buf, size_t buf_size, const void *bytes, size_t size);

/* How many single-character edits turn a into b: for "did you mean". */
unsigned text_distance(const char *a, const char *b);

#endif
