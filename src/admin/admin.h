/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The admin endpoint: HTTP on a port of its own, for people, probes and Prometheus. What it answers
 * is docs/operating/admin.md.
 *
 * Threads    One of libmicrohttpd serves all requests, one after the other. It asks the reactors by
 *            server.h's ANY_THREAD calls and waits for them (view.h says how long); no reactor ever
 *            waits for it. The functions here are for the thread that starts and stops the server.
 * Memory     ADMIN_CONNECTIONS connections of ADMIN_CONNECTION_SIZE bytes, one view, and the text
 *            of the answers under way: malloc, none of it on the path of a block.
 * Who may    Reading needs no token on a loopback address, and the token on any other; what changes
 *            something always needs it. A page of another site that the user's browser is made to
 *            fetch can do neither: it has no token, and its host name is refused (address.h).
 * Failure    A request that is wrong, too large or too slow costs only its connection. Reactors
 *            that do not answer are counted, and shown, and the state is degraded.
 */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "view.h"

#define ADMIN_CONNECTIONS 32
#define ADMIN_CONNECTION_SIZE                                                                      \
	(16 * KiB)             /* a request's line and headers, and a piece of its answer */
#define ADMIN_BODY_MAX    4096 /* bytes of a request's body */
#define ADMIN_IDLE_S      10   /* a connection on which nothing moves is closed */
#define ADMIN_COMMAND_NS  (5 * NS_PER_S)
#define ADMIN_RELOAD_TEXT 1024 /* bytes of what a reload came to */

struct admin;

struct admin_opts {
	const char *address;    /* "127.0.0.1:9901" */
	const char *token_text; /* of the token's file; NULL: no token, nothing can be changed */
	const struct options *options; /* shown as configuration; borrowed until stop */
	/* Have secrets read and media opened again, as by SIGHUP (is_asked), or say what the last
	 * asking came to: 0, or why it failed, and text; -EINPROGRESS: it is not done yet; -ENOENT:
	 * nobody asked. On the admin thread, waits a moment at most. May be NULL. */
	int (*reload)(void *ctx, bool is_asked, char *text, size_t text_size);
	void *ctx;
};

/* Listens when it returns; the state is "starting". message_out: a sentence that says what to
 * change. */
int admin_start(const struct admin_opts *opts, struct admin **admin_out,
		char message_out[256]) MUST_USE;
/* The server takes connections: it is shown from now on. */
void admin_set_server(struct admin *admin, struct server *server);
/* The server is about to stop: when this returns nothing asks it any more. The state is "draining".
 */
void admin_clear_server(struct admin *admin);
/* With the real port. */
void admin_name(const struct admin *admin, char *buf, size_t buf_size);
void admin_stop(struct admin **admin);

#endif
