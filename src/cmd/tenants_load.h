/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_TENANTS_LOAD_H
#define CMD_TENANTS_LOAD_H

#include "../server/tenants.h"

/*
 * A table from a secrets file that nobody but its owner can read, in memory of env (one that is
 * not sealed). message_out: a sentence that says what to change.
 */
int cmd_tenants_load(struct env *env, const char *path, struct tenants **tenants_out,
		     char message_out[512]) MUST_USE;

#endif
