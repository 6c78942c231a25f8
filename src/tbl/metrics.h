/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics: a struct with a plain counter for each row of metrics.def. One writer, no atomics. */
#ifndef TBL_METRICS_H
#define TBL_METRICS_H

#include "../base/base.h"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE };

struct metrics {
#define MET(id, kind, unit, text) uint64_t id;
#include "metrics.def"
#undef MET
};

struct metric_row {
	const char *name; /* ctxkv_<id>[_<unit>][_total] */
	const char *text;
	enum metric_kind kind;
	size_t offset; /* in struct metrics */
};

extern const struct metric_row metric_table[];
extern const size_t metric_count;

/* Add every counter and gauge of more to sum. */
void metrics_add(struct metrics *sum, const struct metrics *more);

/* "name value" a line; returns the size (cut to buf_size, always with a NUL). */
size_t metrics_format(const struct metrics *metrics, char *buf, size_t buf_size);

#endif
