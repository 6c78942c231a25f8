/* SPDX-License-Identifier: Apache-2.0 */
/* The report of `ctxkv doctor`, and who adds to it. */
#ifndef CMD_DOCTOR_H
#define CMD_DOCTOR_H

#include <jansson.h>

#include "../server/server.h"
#include "cmd.h"
#include "doctor_judge.h"

struct doctor {
	struct options *options;
	struct options *server; /* server.yaml; NULL: there is none */
	struct env *env;
	json_t *rows; /* NULL: text */
	uint32_t counts[3];
	/* Found by doctor_media() and doctor_server(), for doctor_plan(). */
	struct medium_info media[SERVER_MEDIUM_MAX]; /* in the order of the configuration */
	bool is_missing[SERVER_MEDIUM_MAX];          /* not to be opened, which was said */
	bool is_running; /* a server has a medium or the address already, and its memory */
};

void doctor_add(struct doctor *doctor, const struct doctor_row *row);

/* Judged where it was found. */
PRINTF_LIKE(5, 6)
void doctor_say(struct doctor *doctor, enum doctor_verdict verdict, const char *name,
		const char *advice, const char *format, ...);

/* The first line of a small file, "" when it cannot be read. Returns buf. */
const char *doctor_line(const char *path, char *buf, size_t buf_size);

/* Of /proc/meminfo: bytes for lines in kB, the number itself for counts. */
uint64_t doctor_meminfo(const char *name);

void doctor_host(struct doctor *doctor);    /* kernel, io_uring, huge pages, clock */
void doctor_media(struct doctor *doctor);   /* of the server's configuration */
void doctor_server(struct doctor *doctor);  /* its address, its secrets */
void doctor_plan(struct doctor *doctor);    /* whether all of it fits together, and this host */
void doctor_clients(struct doctor *doctor); /* every server of the URL */

#endif
