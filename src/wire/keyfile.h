/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key files, of servers (all tenants) and clients (their own line). A line is
 *   TENANT SECRET [SECRET]      # a secret is 64 hex digits; two while one replaces the other
 * Empty lines and text from # on are passed over. Pure: the caller reads the file.
 */
#ifndef WIRE_KEYFILE_H
#define WIRE_KEYFILE_H

#include "auth.h"

struct keyfile_row {
	char tenant[WIRE_TENANT_MAX];
	struct auth_secret secrets[2];
	uint32_t secret_count;
};

/*
 * Parse text. Fills at most row_max rows and returns how many the file has, or -EINVAL with line
 * and reason in message_out. A tenant named twice is an error (among the rows filled: give it room
 * for all). A count above row_max is for the caller to refuse.
 */
int keyfile_parse(const char *text, struct keyfile_row *rows, uint32_t row_max,
		  char message_out[256]) MUST_USE;

/* Letters, digits, '-', '_' and '.', 1 to 63 of them. */
bool keyfile_is_tenant(const char *name);

#endif
