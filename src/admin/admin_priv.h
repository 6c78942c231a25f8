/* SPDX-License-Identifier: Apache-2.0 */
/* The endpoint's struct, and what http.c and serve.c call of each other. */
#ifndef ADMIN_ADMIN_PRIV_H
#define ADMIN_ADMIN_PRIV_H

#include <pthread.h>

#include "address.h"
#include "admin.h"
#include "params.h"

#define ADMIN_MAGIC 0x6e6d6461u

struct MHD_Daemon;

struct admin {
	uint32_t magic;
	struct MHD_Daemon *daemon;
	union admin_address address; /* with the real port */
	bool is_loopback;
	bool has_token;
	char token[ADMIN_TOKEN_MAX + 1];
	struct admin_opts opts;
	/* Over what follows. Held as long as a request uses server, so that clear waits for it. */
	pthread_mutex_t lock;
	struct server *server;
	enum admin_state state_without; /* while there is no server */
	struct view *view;
};

/* A request that has come in full. */
struct admin_request {
	const char *method;
	const char *path;
	const char *authorization; /* headers; NULL: not there */
	const char *host;
	const char *body;
	size_t body_size;
};

struct admin_reply {
	unsigned status;    /* of HTTP */
	const char *type;   /* of the text */
	const char *header; /* one more header and its value, or NULL */
	const char *value;
	char *text; /* malloc()ed, or NULL: fixed */
	const char *fixed;
	size_t size;
};

/* --- serve.c --- */

/* Fill the reply; false: no memory. */
bool admin_serve(struct admin *admin, const struct admin_request *request,
		 struct admin_reply *reply);

/* --- page.c, made from page.html --- */

extern const char admin_page[];
extern const size_t admin_page_size;

#endif
