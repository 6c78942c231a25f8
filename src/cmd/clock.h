/* SPDX-License-Identifier: Apache-2.0 */
/* The clock that measuring commands read; everything that is served reads env's. */
#ifndef CMD_CLOCK_H
#define CMD_CLOCK_H

#include <time.h>

#include "../base/base.h"

static inline uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

#endif
