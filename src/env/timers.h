/* SPDX-License-Identifier: Apache-2.0 */
/* The timers of one event loop: a pairing heap, intrusive, no limit, shared by all env back ends.
 */
#ifndef ENV_TIMERS_H
#define ENV_TIMERS_H

#include "env.h"

struct timers {
	struct env_timer *root;
	uint64_t set_count;
};

/* Add timer, or move it when it is set. Of equal times, the first set fires first. */
void timers_set(struct timers *timers, struct env_timer *timer, uint64_t when_ns);
void timers_clear(struct timers *timers, struct env_timer *timer);

/* When the first fires; ENV_FOREVER when none is set. */
uint64_t timers_next_ns(const struct timers *timers);

/* Take the first timer due at now_ns, unset; NULL when none is due. The caller fires it. */
struct env_timer *timers_take_due(struct timers *timers, uint64_t now_ns);

#endif
