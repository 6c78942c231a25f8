/* SPDX-License-Identifier: Apache-2.0 */
/* Durations in buckets of 1/64 of a power of two: percentiles within 2 %. */
#ifndef CMD_HISTOGRAM_H
#define CMD_HISTOGRAM_H

#include "../base/base.h"

#define HISTOGRAM_SHIFT   6
#define HISTOGRAM_SUB     (1 << HISTOGRAM_SHIFT)
#define HISTOGRAM_BUCKETS (64 * HISTOGRAM_SUB)

struct histogram {
	uint64_t counts[HISTOGRAM_BUCKETS];
	uint64_t total;
	uint64_t max;
};

void histogram_add(struct histogram *histogram, uint64_t ns);
void histogram_merge(struct histogram *sum, const struct histogram *more);
/* Upper bound of the bucket with the given share (0 … 1) of all values at or below it; 0: empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double share);

#endif
