/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics: a struct with a cell for each row of metrics.def. One writer, no atomics.
 *
 * Durations are kept in ns, and in Prometheus' text they are seconds. A HISTOGRAM counts durations
 * in buckets that are the same for all: each bound is twice the one before, from METRIC_BOUND_FIRST
 * on; the last bucket has no bound.
 */
#ifndef TBL_METRICS_H
#define TBL_METRICS_H

#include <stdio.h>

#include "../base/base.h"

#define METRIC_BUCKETS     22
#define METRIC_BOUND_FIRST (UINT64_C(1) << 14) /* ns: 16 us; the last bound is 17 s */

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_histogram {
	uint64_t buckets[METRIC_BUCKETS]; /* each by itself, not cumulative */
	uint64_t sum_ns;
};

#define METRIC_CELL_COUNTER   uint64_t
#define METRIC_CELL_GAUGE     uint64_t
#define METRIC_CELL_HISTOGRAM struct metric_histogram

struct metrics {
#define MET(id, kind, unit, text) METRIC_CELL_##kind id;
#include "metrics.def"
#undef MET
};

struct metric_row {
	const char *name;   /* ctxkv_<id>[_<unit>][_total]; of a HISTOGRAM ctxkv_<id> */
	const char *scrape; /* the name in Prometheus' text: seconds for ns */
	const char *text;
	enum metric_kind kind;
	bool is_ns;    /* a duration: seconds in Prometheus' text */
	size_t offset; /* in struct metrics */
};

extern const struct metric_row metric_table[];
extern const size_t metric_count;

/* Add every counter, gauge and bucket of more to sum. */
void metrics_add(struct metrics *sum, const struct metrics *more);

/* Of a COUNTER or GAUGE. */
uint64_t metric_value(const struct metrics *metrics, const struct metric_row *row);

void metric_histogram_add(struct metric_histogram *histogram, uint64_t ns);
uint64_t metric_histogram_count(const struct metric_histogram *histogram);
/* Bound of the bucket in which the part of permille falls; UINT64_MAX: the last, 0: it is empty. */
uint64_t metric_histogram_quantile(const struct metric_histogram *histogram, uint32_t permille);
const struct metric_histogram *metric_histogram_of(const struct metrics *metrics,
						   const struct metric_row *row);

/* "name value" a line, of a histogram count, sum, p50 and p99; returns the size (cut to buf_size,
 * always with a NUL). */
size_t metrics_format(const struct metrics *metrics, char *buf, size_t buf_size);

/*
 * Prometheus text of all rows: each with # HELP and # TYPE once, then a sample for each of the
 * parts under the label part_name="0", "1", …
 */
void metrics_prometheus(FILE *out, const struct metrics *parts, size_t part_count,
			const char *part_name);

/* The reference page. */
void metrics_reference(FILE *out);

#endif
