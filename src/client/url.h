/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a client URL to a target:
 * ctxkv://[TENANT@]HOST[:PORT][,HOST[:PORT]]…[?keyfile=PATH][&tls=1][&transport=auto].
 *
 * tls=1 (or tls=required): under TLS or not at all; tls=0: in the clear. transport=tcp, shm: only
 * that; auto (as without): shared memory where a server offers it and it can be used, else tcp.
 *
 * What the URL leaves out (all of it, the key file, the tenant) comes from the URL that 'ctxkv
 * setup' wrote, one line in $XDG_CONFIG_HOME/ctxkv/client.url (~/.config/ctxkv/client.url); the
 * tenant also from a key file with one tenant. Reads files; for open only.
 */
#ifndef CLIENT_URL_H
#define CLIENT_URL_H

#include "client.h"

#define URL_MESSAGE_SIZE 512

/* A URL taken apart. Absent: "" and 0. */
struct url {
	char tenant[WIRE_TENANT_MAX];
	struct client_host hosts[HOST_MAX];
	uint32_t host_count;
	char keyfile[4096];
	char tls[16];       /* "0" or "1" */
	char transport[16]; /* "auto", "tcp" or "shm" */
};

/* Pure. -ERR_URL, and what is wrong in message_out. */
int url_parse(const char *text, struct url *url_out, char message_out[URL_MESSAGE_SIZE]) MUST_USE;

/* text NULL: $CTXKV_URL, else what setup wrote. -ERR_URL, -EINVAL or an errno value, and a sentence
 * that says what to do. */
int url_resolve(const char *text, struct client_target *target_out,
		char message_out[URL_MESSAGE_SIZE]) MUST_USE;

#endif
