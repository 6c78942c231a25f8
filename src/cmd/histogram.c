/* SPDX-License-Identifier: Apache-2.0 */
#include "histogram.h"

/* Values below HISTOGRAM_SUB have a bucket each; then so many to each power of two. */
static uint32_t bucket_of(uint64_t ns)
{
	uint32_t power;

	if (ns < HISTOGRAM_SUB)
		return (uint32_t)ns;
	power = 63 - (uint32_t)__builtin_clzll(ns);
	return (power - HISTOGRAM_SHIFT) * HISTOGRAM_SUB +
	       (uint32_t)(ns >> (power - HISTOGRAM_SHIFT));
}

static uint64_t bucket_end(uint32_t bucket)
{
	uint32_t power;

	if (bucket < HISTOGRAM_SUB)
		return bucket;
	power = bucket / HISTOGRAM_SUB + HISTOGRAM_SHIFT - 1;
	return (((uint64_t)HISTOGRAM_SUB + bucket % HISTOGRAM_SUB + 1)
		<< (power - HISTOGRAM_SHIFT)) -
	       1;
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
	histogram->counts[bucket_of(ns)]++;
	histogram->total++;
	histogram->max = MAX(histogram->max, ns);
}

void histogram_merge(struct histogram *sum, const struct histogram *more)
{
	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		sum->counts[i] += more->counts[i];
	sum->total += more->total;
	sum->max = MAX(sum->max, more->max);
}

uint64_t histogram_percentile(const struct histogram *histogram, double share)
{
	uint64_t want = (uint64_t)(share * (double)histogram->total);
	uint64_t seen = 0;

	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += histogram->counts[i];
		if (seen > want)
			return MIN(bucket_end(i), histogram->max);
	}
	return histogram->max;
}
