/* SPDX-License-Identifier: Apache-2.0 */
/* "HOST:PORT" to a socket address. HOST is numeric: 127.0.0.1, [::1], 0.0.0.0. Pure. */
#ifndef ADMIN_ADDRESS_H
#define ADMIN_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "../base/base.h"

#define ADMIN_PORT 9901

union admin_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* 0 or -EINVAL. */
int admin_address_parse(const char *text, union admin_address *address_out) MUST_USE;
/* Only processes of this host reach it. */
bool admin_address_is_loopback(const union admin_address *address);
/* "127.0.0.1:9901", "[::1]:9901". Returns buf. */
const char *admin_address_format(const union admin_address *address, char *buf, size_t buf_size);

/*
 * A Host header that a page of another site cannot bring about by a name of its own that it makes
 * resolve to this host: "localhost" or an address, with or without a port.
 */
bool admin_host_is_plain(const char *host);

#endif
