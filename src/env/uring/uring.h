/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env/posix with block I/O through io_uring: no thread a command, one system call for all commands
 * of a turn of the loop, memory and files known to the kernel beforehand where it allows that.
 *
 * Everything of env/posix/posix.h but create and destroy works on it, too.
 */
#ifndef ENV_URING_H
#define ENV_URING_H

#include "../posix/posix.h"

/*
 * -EOPNOTSUPP: this kernel, or who confines this process, does not let us; message_out says
 * how in a sentence. Other codes: as env_posix_create(). io_thread_count is for what io_uring does
 * not do (discards, names, repairs): at least 1.
 */
int env_uring_create(const struct env_posix_opts *opts, struct env **env_out, char *message_out,
		     size_t message_size) MUST_USE;
void env_uring_destroy(struct env **env);

bool env_is_uring(struct env *env);
/* Bytes of declared memory that the kernel holds ready (registered buffers). */
uint64_t env_uring_registered(struct env *env);

#endif
