/* SPDX-License-Identifier: Apache-2.0 */
#include "breaker.h"

uint64_t breaker_fail(struct breaker *breaker, int why, uint32_t weight, uint64_t chance)
{
	uint64_t quarter;

	ASSERT(why < 0);
	ASSERT(weight > 0 && weight <= BREAKER_LIMIT);

	breaker->why = why;
	breaker->failures = MIN(breaker->failures + weight, BREAKER_LIMIT);
	if (breaker->failures == BREAKER_LIMIT) {
		if (breaker->state == BREAKER_CLOSED)
			breaker->opens++;
		breaker->state = BREAKER_OPEN;
	}

	if (breaker->pause_ns == 0)
		breaker->pause_ns = BREAKER_PAUSE_MIN;
	else
		breaker->pause_ns = MIN(breaker->pause_ns * 2, BREAKER_PAUSE_MAX);
	quarter = breaker->pause_ns / 4;
	return breaker->pause_ns - quarter + chance % (2 * quarter);
}

void breaker_try(struct breaker *breaker)
{
	if (breaker->state == BREAKER_OPEN)
		breaker->state = BREAKER_HALF_OPEN;
}

void breaker_succeed(struct breaker *breaker)
{
	breaker->state = BREAKER_CLOSED;
	breaker->failures = 0;
	breaker->pause_ns = 0;
	breaker->why = 0;
}

int breaker_code(const struct breaker *breaker)
{
	if (breaker->why < 0 && err_class_of(breaker->why) == ERR_CLASS_SETUP)
		return breaker->why;
	return -ERR_UNREACHABLE;
}
