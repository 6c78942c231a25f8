/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP request to an admin endpoint and its answer, over a connection of its own (HTTP/1.0: the
 * answer ends with the connection, and is never in pieces). For commands: it waits.
 */
#ifndef CMD_HTTP_H
#define CMD_HTTP_H

#include "../base/base.h"

#define HTTP_ANSWER_MAX (16 * MiB)

struct http_request {
	const char *address; /* numeric */
	uint16_t port;
	const char *method;
	const char *path;
	const char *token;   /* NULL: none is sent */
	const char *body;    /* NULL: none */
	uint64_t timeout_ns; /* for all of it */
};

struct http_answer {
	unsigned status;
	char *body; /* with a NUL; freed by the caller */
	size_t size;
};

/* 0 whatever the status; or a negative code when there was no answer. */
int http_ask(const struct http_request *request, struct http_answer *answer_out) MUST_USE;

/* The answer in bytes, taken apart: status, and where the body begins. -EINVAL: it is not HTTP. */
int http_parse(const char *bytes, size_t size, unsigned *status_out, size_t *body_out) MUST_USE;

#endif
