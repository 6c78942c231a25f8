/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of a store that speaks text over TCP (load_redis.c, load_memcached.c): one blocking
 * connection, `batch` requests in flight, replies in the order of requests, payload sent from and
 * received into place. Every error of the connection ends the process.
 */
#ifndef PEERS_LOAD_SOCKET_H
#define PEERS_LOAD_SOCKET_H

#include "load.h"

/* How a store's requests and replies look. Requests: what snprintf() returns; a set's is what
 * stands before the payload, and a payload ends with CR LF. Replies are lines without their end. */
struct load_dialect {
	int (*set)(char *buf, size_t size, const char *name, uint64_t payload_size);
	int (*get)(char *buf, size_t size, const char *name);
	int (*here)(char *buf, size_t size, const char *name);
	enum load_status (*set_status)(const char *line);
	/* LOAD_OK: *size_out bytes of payload follow. */
	enum load_status (*get_status)(const char *line, uint64_t *size_out);
	enum load_status (*here_status)(const char *line);
};

/* target: "HOST:PORT", numbers. The result is the store of the functions below. */
void *load_socket_open(const char *target, const struct load_dialect *dialect);
void load_socket_put(void *store, const struct load_walk *walk);
void load_socket_get(void *store, const struct load_walk *walk);
void load_socket_probe(void *store, const struct load_walk *walk);

#endif
