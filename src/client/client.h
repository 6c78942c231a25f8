/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's core, over one env: sessions, lanes, requests, deadlines, breaker. It is what the
 * progress thread runs (thread.c), what a caller-driven client runs in his own thread, and what the
 * simulator runs. ctxkv.c is the public face of it.
 *
 * Threads    The thread that polls env.
 * Failure    Every failure of the server, the network or the transport ends as statuses of items;
 *            the op's RESULT event comes at its deadline at the latest.
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include "../../include/ctxkv.h"
#include "../xprt/xprt.h"

struct client;

#define HOST_MAX            64  /* hosts of a URL */
#define SERVER_MAX          256 /* servers of a client, names resolved */
#define SESSION_MAX         512 /* of all servers */
#define SESSION_DEFAULT     256
#define CLIENT_INFLIGHT_MAX 32768
#define CLIENT_REASON_SIZE  256
#define SERVER_AWAY_NS      (60 * NS_PER_S) /* so long without any success: it has no places */

struct client_host {
	char host[128]; /* or a Unix socket's path, or a loop address */
	uint16_t port;
	bool is_numeric; /* needs no resolution: one server. Else every address is one */
};

enum client_transport { CLIENT_AUTO = 0, CLIENT_TCP, CLIENT_SHM };

/* Where to, as whom and how: a parsed URL and key file (url.c). */
struct client_target {
	struct client_host hosts[HOST_MAX];
	uint32_t host_count;
	char tenant[WIRE_TENANT_MAX];
	struct auth_secret secret;
	bool is_tls; /* TLS, or no connection */
	enum client_transport transport;
};

struct client_opts {
	struct client_target target;
	const struct xprt_ops *xprt; /* tcp; loop in the simulator */
	const struct xprt_ops *door; /* better, where a server offers it: shm; NULL: none */
	bool is_door_only;           /* through it or not at all */
	_Atomic bool *is_door_used;  /* set when a session first goes through it; NULL: not asked */
	/* Where door (or xprt) cannot reach memory: see stage.h. Must be such that they reach it.
	 * Not freed before the client is over; NULL: none. */
	void *stage;
	uint64_t stage_size;
	/* The next STAGE_STEP bytes of it (less at its end), in order, are about to be used for the
	 * first time. NULL: nobody need know. */
	void (*stage_prepare)(void *base, uint64_t size);
	uint32_t lanes;
	uint32_t inflight_max;
	uint32_t session_max; /* 0: SESSION_DEFAULT. At least one for each server */
	uint64_t probe_timeout_ns;
	uint64_t timeout_ns;
	uint64_t connect_timeout_ns;
	uint64_t release_wait_ns; /* after a cancel, or its last word since, before the lanes of a
				   * silent server are closed */
	/* From the loop, never out of a call: op has this news. */
	void (*event)(void *ctx, struct ctxkv_op *op, uint32_t what);
	void *ctx;
};

int client_create(struct env *env, const struct client_opts *opts,
		  struct client **client_out) MUST_USE;
/*
 * Begin to end: every op has its RESULT, the sessions are closed. What servers may still do to the
 * callers' memory is waited for, in the loop, until client_is_over(): then client_destroy().
 */
void client_end(struct client *client);
bool client_is_over(const struct client *client);
/* So long after client_end() at most, if servers are as they say. */
uint64_t client_end_max_ns(const struct client *client);
/* Memory of callers is among what is waited for, not only the library's. */
bool client_is_holding(const struct client *client);
/* Every op still in flight is finished (events are delivered) before it returns. Calls client_end()
 * where that has not been done; the client must be over then. */
void client_destroy(struct client **client);

/* 0, or -EAGAIN (inflight_max). Refusals of the op itself come as its event. */
int client_submit(struct client *client, struct ctxkv_op *op) MUST_USE;
/* No effect on an op that is not in flight; it is not looked at then. */
void client_cancel(struct client *client, struct ctxkv_op *op);
/* Begin to connect now rather than at the first op. */
void client_connect(struct client *client);

/* page_size: of the memory; 0: not known. */
int client_region_declare(struct client *client, void *base, uint64_t size, uint32_t page_size,
			  struct ctxkv_region **region_out) MUST_USE;
/* ANY_THREAD: what the region's memory is served by. */
void client_region_info(const struct ctxkv_region *region, struct ctxkv_region_info *info_out);
/* -EBUSY: ops under way name it. -EAGAIN: a server could not be told yet. */
int client_region_undeclare(struct client *client, struct ctxkv_region **region);
/* Its memory is about to go, whatever is under way: nobody names it from now on. */
void client_region_abandon(struct client *client, struct ctxkv_region **region);
/* The declared region that holds this; NULL: none. */
struct ctxkv_region *client_region_find(struct client *client, const void *base, uint64_t size);

/* STAT of the server: done comes once. text is borrowed by the callback. */
struct client_text {
	void (*done)(struct client_text *text, int rc, const char *bytes, uint32_t size);
	uint64_t timeout_ns;
	struct client *client; /* from here on the client's */
	struct list node;
	struct env_timer timer;
	uint64_t request;
};
void client_server_stat(struct client *client, struct client_text *text);

/* Every server that there was at the beginning is connected, or known to be out of reach. */
bool client_is_settled(const struct client *client);

/* How many servers there are; the first count of them, size bytes of each, into rows. */
uint32_t client_get_servers(const struct client *client, void *rows, size_t size, size_t count);

void client_get_stat(const struct client *client, struct ctxkv_stat *stat);

#endif
