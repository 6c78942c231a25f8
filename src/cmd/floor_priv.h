/* SPDX-License-Identifier: Apache-2.0 */
/* What the floors share. */
#ifndef CMD_FLOOR_PRIV_H
#define CMD_FLOOR_PRIV_H

#include "floor.h"
#include "proc_cpu.h"

/* Where in either memory the block of a step of the walk lies. */
static inline uint64_t block_at(const struct floor_walk *walk, uint64_t step)
{
	return walk->order[step % walk->block_count] * walk->stride;
}

/* Everything but latency. */
static inline void floor_result_set(struct floor_result *result, uint64_t operations, uint64_t size,
				    uint64_t ns, uint64_t cpu_begin_ns)
{
	result->operations = operations;
	result->bytes = operations * size;
	result->ns = ns;
	result->cpu_ns = proc_cpu_self_ns() - cpu_begin_ns;
}

/* Both ends of a loopback TCP connection, set as ours are. */
int floor_pair_make(int *a_out, int *b_out) MUST_USE;

#endif
