/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env over epoll, a small thread pool for block I/O and name resolution, and an eventfd: what every
 * kernel and every container profile allows.
 */
#ifndef ENV_POSIX_H
#define ENV_POSIX_H

#include <sched.h>

#include "../env.h"

struct env_posix_opts {
	uint32_t io_thread_count; /* pool for block I/O and resolve; 0: no block I/O. Started lazily
				   */
	uint32_t sock_max;        /* sockets open at once */
	const cpu_set_t *pool_cpus; /* where the pool's threads may run; NULL: as who makes them */
	uint64_t share_max;         /* bytes of others' memory; 0: as much as there is room for */
	bool has_huge_pages;        /* map() tries MAP_HUGETLB first, then transparent ones */
};

int env_posix_create(const struct env_posix_opts *opts, struct env **env_out) MUST_USE;
void env_posix_destroy(struct env **env);

/* The epoll descriptor: readable when poll(env, 0) has work. For a caller with a loop of his own;
 * timers are not in it, ask env_posix_timeout_ns(). */
int env_posix_fd(struct env *env);
uint64_t env_posix_timeout_ns(struct env *env); /* until the next timer; ENV_FOREVER: none */

/* What an epoll event points to; the env's own. */
struct posix_source {
	void (*ready)(struct posix_source *source, uint32_t epoll_events);
};

/* Call ready when fd is readable (signalfd, eventfd of others). One watch a descriptor. */
struct env_posix_watch {
	struct posix_source source; /* the env's own */
	int fd;
	void (*ready)(struct env_posix_watch *watch);
};
int env_posix_watch_add(struct env *env, struct env_posix_watch *watch) MUST_USE;
void env_posix_watch_remove(struct env *env, struct env_posix_watch *watch);

#endif
