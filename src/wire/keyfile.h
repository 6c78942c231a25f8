/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key files, of servers (all tenants) and clients (their own line). A line is
 *   TENANT SECRET [SECRET] [OPTION]...
 * A secret is 64 hex digits; two while one replaces the other: clients use the first, servers take
 * both. Options, each once but domain:
 *   rights=read | read+write       on the tenant's own domain; default read+write
 *   domain=NAME[:read|:read+write] a shared domain and the rights on it; default read
 *   quota=SIZE                     payload bytes on each server; default none
 *   sessions=COUNT                 at once at each reactor; default none but the reactor's own
 * A shared domain may not have the name of a tenant: that would be his own. Empty lines and text
 * from # on are passed over. Clients pass over the options. Pure: the caller reads the file.
 */
#ifndef WIRE_KEYFILE_H
#define WIRE_KEYFILE_H

#include "auth.h"

#define KEYFILE_DOMAIN_MAX 8 /* shared domains of a tenant */
#define KEYFILE_LINE_MAX   1024

struct keyfile_domain {
	char name[WIRE_TENANT_MAX];
	uint8_t rights; /* enum wire_right */
};

struct keyfile_row {
	char tenant[WIRE_TENANT_MAX];
	uint32_t line; /* of the file, from 1 on */
	struct auth_secret secrets[2];
	uint32_t secret_count;
	uint32_t session_max; /* 0: no limit of its own */
	uint64_t quota;       /* 0: none */
	uint8_t rights;       /* enum wire_right, on its own domain */
	struct keyfile_domain domains[KEYFILE_DOMAIN_MAX];
	uint32_t domain_count;
};

/*
 * Parse text. Fills at most row_max rows and returns how many the file has, or -EINVAL with line
 * and reason in message_out. A tenant named twice is an error, as is a domain with a tenant's name
 * (among the rows filled: give it room for all). A count above row_max is for the caller to refuse.
 */
int keyfile_parse(const char *text, struct keyfile_row *rows, uint32_t row_max,
		  char message_out[256]) MUST_USE;

/* The row as a line that keyfile_parse() takes, without its end. Returns buf. */
const char *keyfile_format(const struct keyfile_row *row, char buf[KEYFILE_LINE_MAX]);

/* "read" or "read+write". 0 or -EINVAL. */
int keyfile_parse_rights(const char *text, uint8_t *rights_out) MUST_USE;
const char *keyfile_rights_name(uint8_t rights);
/* NAME[:RIGHTS], as behind "domain=". 0 or -EINVAL. */
int keyfile_parse_domain(const char *text, struct keyfile_domain *domain_out) MUST_USE;

/* Of tenants and domains: letters, digits, '-', '_' and '.', 1 to 63 of them. */
bool keyfile_is_tenant(const char *name);

#endif
