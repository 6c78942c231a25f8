/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the command 'admin' share: asked servers, and what they are shown as. */
#ifndef CMD_ADMIN_H
#define CMD_ADMIN_H

#include <jansson.h>
#include <stdio.h>

#include "admin_target.h"

/* A server that was asked, and what it said. */
struct admin_server {
	struct admin_target target;
	json_t *answer;  /* NULL: none; then why says so */
	unsigned status; /* of HTTP; 0: not reached */
	char why[1152];
};

struct admin_fleet {
	struct admin_server servers[ADMIN_TARGETS_MAX];
	uint32_t count;
};

/* --- admin_print.c: pure --- */

/* One server's status in sentences. */
void admin_print_status(FILE *out, const json_t *status);
/* before: the same servers, seconds earlier, for rates; NULL: none. */
void admin_print_fleet(FILE *out, const struct admin_fleet *fleet, const struct admin_fleet *before,
		       double seconds);
/* Options that differ between servers, each with who has what; nothing when all agree. Returns how
 * many. skew_out (one each server, may be NULL): in how many it is not with the most. */
uint32_t admin_print_skew(FILE *out, const struct admin_fleet *fleet, uint32_t *skew_out);
void admin_print_sessions(FILE *out, const struct admin_fleet *fleet);
void admin_print_tenants(FILE *out, const struct admin_fleet *fleet);
void admin_print_savings(FILE *out, const struct admin_fleet *fleet);

#endif
