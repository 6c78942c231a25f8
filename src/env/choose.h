/* SPDX-License-Identifier: Apache-2.0 */
/* Which env a command runs on, chosen at run time. */
#ifndef ENV_CHOOSE_H
#define ENV_CHOOSE_H

#include "posix/posix.h"

/* The values of the option --io, in its order. */
enum env_choice { ENV_CHOICE_AUTO, ENV_CHOICE_URING, ENV_CHOICE_POSIX };

#define ENV_TEXT_SIZE 192

/*
 * auto takes uring, and posix where uring is not available. 0, and message_out says why uring is
 * not taken though it was wished (empty: nothing to say); or a negative code: with uring asked for
 * by name and not available -EOPNOTSUPP, and message_out says why.
 */
int env_open(enum env_choice choice, const struct env_posix_opts *opts, struct env **env_out,
	     char message_out[ENV_TEXT_SIZE]) MUST_USE;
/* Either kind, also one that env_posix_create() made. */
void env_close(struct env **env);

/* The back end in words: "uring, 1.00 GiB of buffers registered", "posix". */
const char *env_describe(struct env *env, char text_out[ENV_TEXT_SIZE]);

#endif
