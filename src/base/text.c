/* SPDX-License-Identifier: Apache-2.0 */
#include "text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DISTANCE_MAX 64 /* longer texts are cut for text_distance() */

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{ "", 1 },
	{ "b", 1 },
	{ "k", KiB },
	{ "kb", KiB },
	{ "kib", KiB },
	{ "m", MiB },
	{ "mb", MiB },
	{ "mib", MiB },
	{ "g", GiB },
	{ "gb", GiB },
	{ "gib", GiB },
	{ "t", 1024 * GiB },
	{ "tb", 1024 * GiB },
	{ "tib", 1024 * GiB },
};

static const struct unit duration_units[] = {
	{ "", NS_PER_S },          { "ns", 1 },
	{ "us", NS_PER_US },       { "ms", NS_PER_MS },
	{ "s", NS_PER_S },         { "m", 60 * NS_PER_S },
	{ "min", 60 * NS_PER_S },  { "h", 3600 * NS_PER_S },
	{ "d", 86400 * NS_PER_S },
};

int text_parse_u64(const char *text, uint64_t *value_out)
{
	uint64_t value = 0;

	if (*text == '\0')
		return -EINVAL;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return -ERANGE;
	}
	*value_out = value;
	return 0;
}

/* Digits, optionally a point and more of them: value and denominator. Returns what is behind. */
static const char *parse_decimal(const char *text, uint64_t *value_out, uint64_t *scale_out)
{
	uint64_t value = 0;
	uint64_t scale = 1;
	bool is_fraction = false;
	const char *begin = text;

	for (; isdigit((unsigned char)*text) || (*text == '.' && !is_fraction); text++) {
		if (*text == '.') {
			is_fraction = true;
			continue;
		}
		if (scale > 1000000)
			continue; /* digits that no longer matter */
		if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return NULL;
		if (is_fraction)
			scale *= 10;
	}
	*value_out = value;
	*scale_out = scale;
	return text > begin && text[-1] != '.' ? text : begin;
}

static int parse_with_unit(const char *text, const struct unit *units, size_t unit_count,
			   uint64_t *value_out)
{
	char name[8] = "";
	uint64_t value;
	uint64_t scale;
	unsigned __int128 product;
	const char *rest = parse_decimal(text, &value, &scale);

	if (rest == NULL)
		return -ERANGE;
	if (rest == text)
		return -EINVAL;
	while (*rest == ' ')
		rest++;
	if (strlen(rest) >= sizeof(name))
		return -EINVAL;
	for (size_t i = 0; rest[i] != '\0'; i++)
		name[i] = (char)tolower((unsigned char)rest[i]);
	for (size_t i = 0; i < unit_count; i++) {
		if (strcmp(units[i].name, name) != 0)
			continue;
		product = (unsigned __int128)value * units[i].factor / scale;
		if (product > UINT64_MAX)
			return -ERANGE;
		*value_out = (uint64_t)product;
		return 0;
	}
	return -EINVAL;
}

int text_parse_size(const char *text, uint64_t *size_out)
{
	return parse_with_unit(text, size_units, ARRAY_LEN(size_units), size_out);
}

int text_parse_duration(const char *text, uint64_t *ns_out)
{
	return parse_with_unit(text, duration_units, ARRAY_LEN(duration_units), ns_out);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int text_parse_hex(const char *text, void *bytes_out, size_t size)
{
	uint8_t *bytes = bytes_out;

	if (strlen(text) != 2 * size)
		return -EINVAL;
	for (size_t i = 0; i < 2 * size; i++) {
		if (hex_digit(text[i]) < 0)
			return -EINVAL;
	}
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
	return 0;
}

/* The value in the largest unit that leaves a whole part; whole numbers without a point. */
static const char *format_scaled(char *buf, size_t buf_size, uint64_t value, uint64_t factor,
				 const char *unit)
{
	if (value % factor == 0)
		snprintf(buf, buf_size, "%" PRIu64 " %s", value / factor, unit);
	else
		snprintf(buf, buf_size, "%.*f %s", value / factor < 100 ? 2 : 1,
			 (double)value / (double)factor, unit);
	return buf;
}

const char *text_format_size(char *buf, size_t buf_size, uint64_t size)
{
	static const struct unit units[] = {
		{ "TiB", 1024 * GiB }, { "GiB", GiB }, { "MiB", MiB }, { "KiB", KiB }
	};

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (size >= units[i].factor)
			return format_scaled(buf, buf_size, size, units[i].factor, units[i].name);
	}
	return format_scaled(buf, buf_size, size, 1, "B");
}

const char *text_format_duration(char *buf, size_t buf_size, uint64_t ns)
{
	static const struct unit units[] = { { "s", NS_PER_S },
					     { "ms", NS_PER_MS },
					     { "us", NS_PER_US } };

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (ns >= units[i].factor)
			return format_scaled(buf, buf_size, ns, units[i].factor, units[i].name);
	}
	return format_scaled(buf, buf_size, ns, 1, "ns");
}

const char *text_format_hex(char *buf, size_t buf_size, const void *bytes, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *from = bytes;

	ASSERT(buf_size > 2 * size);
	for (size_t i = 0; i < size; i++) {
		buf[2 * i] = digits[from[i] >> 4];
		buf[2 * i + 1] = digits[from[i] & 15];
	}
	buf[2 * size] = '\0';
	return buf;
}

unsigned text_distance(const char *a, const char *b)
{
	unsigned row[DISTANCE_MAX + 1];
	size_t size_a = MIN(strlen(a), DISTANCE_MAX);
	size_t size_b = MIN(strlen(b), DISTANCE_MAX);

	for (size_t j = 0; j <= size_b; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= size_a; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= size_b; j++) {
			unsigned change = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = MIN(MIN(row[j] + 1, row[j - 1] + 1), change);
		}
	}
	return row[size_b];
}
