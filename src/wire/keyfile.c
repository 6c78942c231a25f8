/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key files, line by line: cut the comment, take words, a name and one or two secrets. The first
 * thing that is wrong ends the parse with its line and reason; a secret is never repeated in a
 * message.
 */
#include "keyfile.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../base/text.h"

#define SECRET_DIGITS (2 * AUTH_SECRET_SIZE)
#define WORD_MAX      3

struct word {
	const char *at;
	size_t size;
};

bool keyfile_is_tenant(const char *name)
{
	size_t size = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789-_.");

	return name[size] == '\0' && size >= 1 && size < WIRE_TENANT_MAX;
}

static int PRINTF_LIKE(3, 4) refuse(char message_out[256], uint32_t line, const char *format, ...)
{
	va_list args;
	int size = snprintf(message_out, 256, "line %u: ", line);

	va_start(args, format);
	vsnprintf(message_out + size, 256 - (size_t)size, format, args);
	va_end(args);
	return -EINVAL;
}

/* Words of a line of size bytes; more than WORD_MAX count as WORD_MAX + 1. */
static uint32_t line_split(const char *line, size_t size, struct word words_out[WORD_MAX])
{
	uint32_t count = 0;
	size_t at = 0;

	while (at < size && line[at] != '#') {
		size_t begin = at;

		while (at < size && strchr(" \t\r#", line[at]) == NULL)
			at++;
		if (at > begin) {
			if (count == WORD_MAX)
				return WORD_MAX + 1;
			words_out[count++] = (struct word) { line + begin, at - begin };
		}
		while (at < size && strchr(" \t\r", line[at]) != NULL)
			at++;
	}
	return count;
}

static bool tenant_parse(struct word word, char tenant_out[WIRE_TENANT_MAX])
{
	if (word.size >= WIRE_TENANT_MAX)
		return false;
	memcpy(tenant_out, word.at, word.size);
	tenant_out[word.size] = '\0';
	return keyfile_is_tenant(tenant_out);
}

static bool secret_parse(struct word word, struct auth_secret *secret_out)
{
	char digits[SECRET_DIGITS + 1];

	if (word.size != SECRET_DIGITS)
		return false;
	memcpy(digits, word.at, SECRET_DIGITS);
	digits[SECRET_DIGITS] = '\0';
	return text_parse_hex(digits, secret_out->bytes, AUTH_SECRET_SIZE) == 0;
}

static int row_parse(const struct word *words, uint32_t word_count, uint32_t line,
		     struct keyfile_row *row_out, char message_out[256])
{
	struct keyfile_row row = { .secret_count = word_count - 1 };

	if (word_count > WORD_MAX)
		return refuse(message_out, line, "more than a tenant and two secrets");
	if (!tenant_parse(words[0], row.tenant))
		return refuse(message_out, line,
			      "a tenant is 1 to %d letters, digits, '-', '_' and '.'",
			      WIRE_TENANT_MAX - 1);
	if (word_count == 1)
		return refuse(message_out, line, "tenant %s has no secret", row.tenant);
	for (uint32_t i = 0; i < row.secret_count; i++) {
		if (!secret_parse(words[1 + i], &row.secrets[i]))
			return refuse(message_out, line,
				      "secret %u of tenant %s is not %d hex digits", i + 1,
				      row.tenant, SECRET_DIGITS);
	}
	*row_out = row;
	return 0;
}

int keyfile_parse(const char *text, struct keyfile_row *rows, uint32_t row_max,
		  char message_out[256])
{
	uint32_t line = 1;
	uint32_t count = 0;

	for (const char *at = text; *at != '\0'; line++) {
		size_t size = strcspn(at, "\n");
		struct word words[WORD_MAX];
		uint32_t word_count = line_split(at, size, words);
		struct keyfile_row row;
		int rc;

		at += size + (at[size] == '\n');
		if (word_count == 0)
			continue;
		rc = row_parse(words, word_count, line, &row, message_out);
		if (rc < 0)
			return rc;
		for (uint32_t i = 0; i < MIN(count, row_max); i++) {
			if (strcmp(rows[i].tenant, row.tenant) == 0)
				return refuse(message_out, line, "tenant %s was named before",
					      row.tenant);
		}
		if (count < row_max)
			rows[count] = row;
		count++;
	}
	return (int)count;
}
