/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether ops wait for a server or miss at once, and when it is tried again. Pure.
 *
 *   closed      ops wait for the session, or use it
 *   open        BREAKER_LIMIT failures in a row: ops miss at once
 *   half-open   one attempt is being made; ops still miss at once
 *
 * Each failure doubles the pause before the next attempt, from 100 ms to 10 s, with a quarter of
 * jitter so that clients do not come back all together. One success forgets everything: an error
 * never costs the fast path for good.
 */
#ifndef CLIENT_BREAKER_H
#define CLIENT_BREAKER_H

#include "../base/base.h"

#define BREAKER_LIMIT     3
#define BREAKER_PAUSE_MIN (100 * NS_PER_MS)
#define BREAKER_PAUSE_MAX (10 * NS_PER_S)

enum breaker_state { BREAKER_CLOSED = 0, BREAKER_OPEN, BREAKER_HALF_OPEN };

/* Zeroed: closed. */
struct breaker {
	enum breaker_state state;
	uint32_t failures; /* in a row, weighted */
	uint64_t pause_ns; /* before jitter; 0: none yet */
	uint64_t opens;    /* how often it opened, ever */
	int why;           /* the last failure, negative; 0 */
};

/*
 * A failure of this weight (BREAKER_LIMIT opens at once). Returns how long to wait before the next
 * attempt. chance: any random number.
 */
uint64_t breaker_fail(struct breaker *breaker, int why, uint32_t weight, uint64_t chance);

/* An attempt begins. */
void breaker_try(struct breaker *breaker);
void breaker_succeed(struct breaker *breaker);

static inline bool breaker_is_closed(const struct breaker *breaker)
{
	return breaker->state == BREAKER_CLOSED;
}

/* What ops miss with while it is not closed: the cause when an operator must act. */
int breaker_code(const struct breaker *breaker);

#endif
