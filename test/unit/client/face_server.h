/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real reactor over a store in memory, in a process of its own, so that it can be killed, frozen
 * and started again on its port.
 */
#ifndef TEST_FACE_SERVER_H
#define TEST_FACE_SERVER_H

#include <sys/types.h>

#include "face_lib.h"

struct face_server {
	/* To be set before the first start; 0: a default. */
	uint64_t memory;
	uint64_t segment_room;
	uint64_t block_max;
	uint32_t request_max;
	uint32_t verify; /* enum store_verify */
	/* Out. */
	uint16_t port; /* kept from start to start */
	pid_t pid;
};

/* The one that most tests talk to, with the defaults; set up and torn down for each. */
extern struct face_server face_server;
int face_server_setup(void **state);
int face_server_teardown(void **state);

void face_server_start(struct face_server *server);
void face_server_kill(struct face_server *server); /* SIGKILL, and gone when it returns */
void face_server_freeze(struct face_server *server);
void face_server_thaw(struct face_server *server);

#endif
