/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `start` refuses about a configuration before it opens anything. `setup` asks the same, so
 * that it writes nothing that cannot be started.
 */
#ifndef CMD_SERVER_CHECK_H
#define CMD_SERVER_CHECK_H

#include "cmd.h"

/* 0, or negative after a message that says what to change. */
int cmd_server_check(const struct options *options) MUST_USE;

/* A file with secrets is its owner's only: likewise. */
int cmd_private_check(const char *path) MUST_USE;

/* How a client of this host names "ADDRESS:PORT" where a server listens: "localhost" where it
 * listens at every address. False: its port is chosen at each start. */
bool cmd_listen_reach(const char *listen, char *buf, size_t buf_size);

#endif
