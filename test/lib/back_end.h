/* SPDX-License-Identifier: Apache-2.0 */
/* The back ends of env that run here, for tests that must hold over each. */
#ifndef TEST_LIB_BACK_END_H
#define TEST_LIB_BACK_END_H

#include "../../src/env/choose.h"

/* An env of the back end that is tested now. 0 or negative. */
int back_end_create(const struct env_posix_opts *opts, struct env **env_out);
bool back_end_is_uring(void);
/* Of a test that needs no more than that, with four sockets: an env in *state, and its end. */
int back_end_begin(void **state);
int back_end_end(void **state);

/*
 * Run run() once for each back end; the sum of what it returns. One that this kernel or container
 * does not allow is passed over, and said so.
 */
int back_ends_run(int (*run)(const char *back_end));

#endif
