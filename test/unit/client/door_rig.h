/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server with a door: a session begins over the first transport and moves to the door's. The test
 * is the server, at both.
 */
#ifndef TEST_CLIENT_DOOR_RIG_H
#define TEST_CLIENT_DOOR_RIG_H

#include "core_rig.h"

#define DOOR "unix:/run/a.sock"

extern uint8_t *stage_memory; /* the staging area */

struct client_opts door_opts(void);

/* One server, at "the server", that offers its door. */
void begin_door_with(const struct client_opts *opts);
void begin_door(void);
/* The session is up through the door: lanes[1]. */
void begin_moved_with(const struct client_opts *opts);
void begin_moved(void);
/* It is up over tcp, lanes[0] and [1]: the door was not there, and is from now on. */
void begin_fallen_back(void);

void assert_transport(const char *name);

/* Around all tests of a program. */
int door_group_begin(void **state);
int door_group_end(void **state);

#endif
