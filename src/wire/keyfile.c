/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key files, line by line: cut the comment, take words: a name, one or two secrets, options. The
 * first thing that is wrong ends the parse with its line and reason; a secret is never repeated in
 * a message, nor is a word that could be one in the wrong place.
 */
#include "keyfile.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../base/text.h"

#define SECRET_DIGITS (2 * AUTH_SECRET_SIZE)
#define WORD_MAX      (1 + 2 + 3 + KEYFILE_DOMAIN_MAX)
#define VALUE_MAX     128 /* characters of a value */

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

/* --- options --- */

int keyfile_parse_rights(const char *text, uint8_t *rights_out)
{
	if (strcmp(text, "read") == 0)
		*rights_out = WIRE_RIGHT_READ;
	else if (strcmp(text, "read+write") == 0)
		*rights_out = WIRE_RIGHT_READ | WIRE_RIGHT_WRITE;
	else
		return -EINVAL;
	return 0;
}

const char *keyfile_rights_name(uint8_t rights)
{
	return (rights & WIRE_RIGHT_WRITE) != 0 ? "read+write" : "read";
}

int keyfile_parse_domain(const char *text, struct keyfile_domain *domain_out)
{
	struct keyfile_domain domain = { .rights = WIRE_RIGHT_READ };
	size_t size = strcspn(text, ":");

	if (size >= sizeof(domain.name))
		return -EINVAL;
	memcpy(domain.name, text, size);
	if (!keyfile_is_tenant(domain.name))
		return -EINVAL;
	if (text[size] == ':' && keyfile_parse_rights(text + size + 1, &domain.rights) < 0)
		return -EINVAL;
	*domain_out = domain;
	return 0;
}

static int domain_add(struct keyfile_row *row, const char *value)
{
	struct keyfile_domain *domain = &row->domains[row->domain_count];

	if (row->domain_count == KEYFILE_DOMAIN_MAX || keyfile_parse_domain(value, domain) < 0)
		return -EINVAL;
	for (uint32_t i = 0; i < row->domain_count; i++) {
		if (strcmp(row->domains[i].name, domain->name) == 0)
			return -EINVAL;
	}
	row->domain_count++;
	return 0;
}

static int sessions_parse(struct keyfile_row *row, const char *value)
{
	uint64_t count;

	if (text_parse_u64(value, &count) < 0 || count == 0 || count > UINT32_MAX)
		return -EINVAL;
	row->session_max = (uint32_t)count;
	return 0;
}

static int rights_parse(struct keyfile_row *row, const char *value)
{
	return keyfile_parse_rights(value, &row->rights);
}

static int quota_parse(struct keyfile_row *row, const char *value)
{
	return text_parse_size(value, &row->quota) < 0 || row->quota == 0 ? -EINVAL : 0;
}

/* NAME=VALUE. seen: bits of options that stood on the line. */
static int option_parse(struct word word, struct keyfile_row *row, uint32_t *seen, uint32_t line,
			char message_out[256])
{
	static const struct {
		const char *name;
		bool is_repeated;
		int (*parse)(struct keyfile_row *row, const char *value);
		const char *wanted;
	} options[] = {
		{ "domain=", true, domain_add, "NAME, NAME:read or NAME:read+write, 8 at most" },
		{ "quota=", false, quota_parse, "a size above 0, as in 200GiB" },
		{ "rights=", false, rights_parse, "read or read+write" },
		{ "sessions=", false, sessions_parse, "a number above 0" },
	};
	char value[VALUE_MAX];

	for (uint32_t i = 0; i < ARRAY_LEN(options); i++) {
		size_t size = strlen(options[i].name);

		if (word.size < size || memcmp(word.at, options[i].name, size) != 0)
			continue;
		if ((*seen & 1u << i) != 0 && !options[i].is_repeated)
			return refuse(message_out, line, "tenant %s has %s twice", row->tenant,
				      options[i].name);
		*seen |= 1u << i;
		snprintf(value, sizeof(value), "%.*s", (int)MIN(word.size - size, VALUE_MAX),
			 word.at + size);
		if (word.size - size >= VALUE_MAX || options[i].parse(row, value) < 0)
			return refuse(message_out, line, "%s of tenant %s is not %s",
				      options[i].name, row->tenant, options[i].wanted);
		return 0;
	}
	return refuse(message_out, line,
		      "tenant %s has an option that is not known; there are domain=, quota=, "
		      "rights= and sessions=",
		      row->tenant);
}

/* --- rows --- */

static int secret_add(struct word word, struct keyfile_row *row, uint32_t line,
		      char message_out[256])
{
	if (row->secret_count == ARRAY_LEN(row->secrets))
		return refuse(message_out, line, "more than a tenant and two secrets");
	if (!secret_parse(word, &row->secrets[row->secret_count]))
		return refuse(message_out, line, "secret %u of tenant %s is not %d hex digits",
			      row->secret_count + 1, row->tenant, SECRET_DIGITS);
	row->secret_count++;
	return 0;
}

static int row_parse(const struct word *words, uint32_t word_count, uint32_t line,
		     struct keyfile_row *row_out, char message_out[256])
{
	struct keyfile_row row = { .line = line, .rights = WIRE_RIGHT_READ | WIRE_RIGHT_WRITE };
	uint32_t seen = 0;

	if (word_count > WORD_MAX)
		return refuse(message_out, line, "more words than a row can have");
	if (!tenant_parse(words[0], row.tenant))
		return refuse(message_out, line,
			      "a tenant is 1 to %d letters, digits, '-', '_' and '.'",
			      WIRE_TENANT_MAX - 1);
	for (uint32_t i = 1; i < word_count; i++) {
		bool is_option = memchr(words[i].at, '=', words[i].size) != NULL;
		int rc = is_option ? option_parse(words[i], &row, &seen, line, message_out)
				   : secret_add(words[i], &row, line, message_out);

		if (rc < 0)
			return rc;
	}
	if (row.secret_count == 0)
		return refuse(message_out, line, "tenant %s has no secret", row.tenant);
	*row_out = row;
	return 0;
}

static const struct keyfile_row *row_find(const struct keyfile_row *rows, uint32_t row_count,
					  const char *tenant)
{
	for (uint32_t i = 0; i < row_count; i++) {
		if (strcmp(rows[i].tenant, tenant) == 0)
			return &rows[i];
	}
	return NULL;
}

/* Shared domains are nobody's own. */
static int domains_check(const struct keyfile_row *rows, uint32_t row_count, char message_out[256])
{
	for (uint32_t i = 0; i < row_count; i++) {
		for (uint32_t j = 0; j < rows[i].domain_count; j++) {
			if (row_find(rows, row_count, rows[i].domains[j].name) != NULL)
				return refuse(message_out, rows[i].line,
					      "domain %s has the name of a tenant, and is his own",
					      rows[i].domains[j].name);
		}
	}
	return 0;
}

int keyfile_parse(const char *text, struct keyfile_row *rows, uint32_t row_max,
		  char message_out[256])
{
	uint32_t line = 1;
	uint32_t count = 0;
	int rc;

	for (const char *at = text; *at != '\0'; line++) {
		size_t size = strcspn(at, "\n");
		struct word words[WORD_MAX];
		uint32_t word_count = line_split(at, size, words);
		struct keyfile_row row;

		at += size + (at[size] == '\n');
		if (word_count == 0)
			continue;
		rc = row_parse(words, word_count, line, &row, message_out);
		if (rc < 0)
			return rc;
		if (row_find(rows, MIN(count, row_max), row.tenant) != NULL)
			return refuse(message_out, line, "tenant %s was named before", row.tenant);
		if (count < row_max)
			rows[count] = row;
		count++;
	}
	rc = domains_check(rows, MIN(count, row_max), message_out);
	return rc < 0 ? rc : (int)count;
}

/* --- format --- */

static void PRINTF_LIKE(2, 3) line_add(char *line, const char *format, ...)
{
	size_t size = strlen(line);
	va_list args;

	va_start(args, format);
	vsnprintf(line + size, KEYFILE_LINE_MAX - size, format, args);
	va_end(args);
}

const char *keyfile_format(const struct keyfile_row *row, char buf[KEYFILE_LINE_MAX])
{
	char hex[SECRET_DIGITS + 1];

	ASSERT(row->secret_count >= 1 && row->secret_count <= ARRAY_LEN(row->secrets));
	ASSERT(row->domain_count <= KEYFILE_DOMAIN_MAX);
	snprintf(buf, KEYFILE_LINE_MAX, "%s", row->tenant);
	for (uint32_t i = 0; i < row->secret_count; i++)
		line_add(
			buf, " %s",
			text_format_hex(hex, sizeof(hex), row->secrets[i].bytes, AUTH_SECRET_SIZE));
	explicit_bzero(hex, sizeof(hex));
	if (row->rights != (WIRE_RIGHT_READ | WIRE_RIGHT_WRITE))
		line_add(buf, " rights=%s", keyfile_rights_name(row->rights));
	for (uint32_t i = 0; i < row->domain_count; i++)
		line_add(buf, " domain=%s:%s", row->domains[i].name,
			 keyfile_rights_name(row->domains[i].rights));
	if (row->quota != 0)
		line_add(buf, " quota=%llu", (unsigned long long)row->quota);
	if (row->session_max != 0)
		line_add(buf, " sessions=%u", row->session_max);
	return buf;
}

_Static_assert(WIRE_TENANT_MAX + 2 * (SECRET_DIGITS + 1) + sizeof(" rights=read+write") +
			       KEYFILE_DOMAIN_MAX *
				       (sizeof(" domain=:read+write") + WIRE_TENANT_MAX) +
			       2 * 32 <=
		       KEYFILE_LINE_MAX,
	       "a line holds the largest row");
