/* SPDX-License-Identifier: Apache-2.0 */
/* Chance from a seed: SplitMix64 (Steele, Lea, Flood 2014). Good enough to choose faults. */
#ifndef SIM_RNG_H
#define SIM_RNG_H

#include "../../src/base/base.h"

struct rng {
	uint64_t state;
};

static inline uint64_t rng_mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static inline uint64_t rng_next(struct rng *rng)
{
	rng->state += UINT64_C(0x9e3779b97f4a7c15);
	return rng_mix(rng->state);
}

/* 0 … limit - 1; limit is at least 1. */
static inline uint64_t rng_below(struct rng *rng, uint64_t limit)
{
	ASSERT(limit > 0);
	return rng_next(rng) % limit;
}

/* low … high, both included. */
static inline uint64_t rng_range(struct rng *rng, uint64_t low, uint64_t high)
{
	ASSERT(low <= high);
	return low + rng_below(rng, high - low + 1);
}

/* low … high with every order of magnitude as likely as the next; low is at least 1. */
static inline uint64_t rng_log(struct rng *rng, uint64_t low, uint64_t high)
{
	uint64_t top = low;

	ASSERT(low > 0);
	for (uint64_t doublings = 64 - (uint64_t)__builtin_clzll(high / low);
	     doublings > 1 && rng_below(rng, doublings) != 0; doublings--)
		top *= 2;
	return rng_range(rng, top, MIN(high, 2 * top));
}

/* True in permyriad of 10,000 cases. */
static inline bool rng_chance(struct rng *rng, uint32_t permyriad)
{
	return rng_below(rng, 10000) < permyriad;
}

#endif
