/* SPDX-License-Identifier: Apache-2.0 */
/* To wait for a semaphore, and to look at something else every so often. */
#ifndef CLIENT_TICK_H
#define CLIENT_TICK_H

#include <semaphore.h>
#include <time.h>

#include "../base/base.h"

/* False: not posted within tick_ns (less than a second), or cut short. */
static inline bool tick_wait(sem_t *sem, uint64_t tick_ns)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)tick_ns;
	if (until.tv_nsec >= (long)NS_PER_S) {
		until.tv_nsec -= (long)NS_PER_S;
		until.tv_sec++;
	}
	return sem_clockwait(sem, CLOCK_MONOTONIC, &until) == 0;
}

#endif
