/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which admin endpoints a command speaks to:
 *   --admin HOST[:PORT],…   these
 *   else                    the hosts of the client URL (--url, $CTXKV_URL, or what setup wrote),
 *                           port 9901
 * A name that has several addresses (a headless service) is as many servers.
 */
#ifndef CMD_ADMIN_TARGET_H
#define CMD_ADMIN_TARGET_H

#include "../tbl/options.h"

#define ADMIN_TARGETS_MAX  128
#define ADMIN_DEFAULT_PORT 9901

struct admin_target {
	char name[160];   /* as it is shown: what the user wrote, or the address */
	char address[64]; /* numeric */
	uint16_t port;
};

/* "HOST[:PORT]" or "[HOST][:PORT]" of size characters. 0 or -EINVAL. Pure. */
int admin_host_parse(const char *text, size_t size, char host_out[128],
		     uint16_t *port_out) MUST_USE;

/* The hosts of a client URL as the list that --admin takes, without their ports. Pure. */
int admin_list_of_url(const char *url, char *list_out, size_t list_size) MUST_USE;

/* Returns how many, at least 1; or a negative code, after a message. */
int admin_targets(const struct options *options, struct admin_target *targets_out,
		  uint32_t target_max) MUST_USE;

#endif
