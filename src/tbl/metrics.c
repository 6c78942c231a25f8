/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics.h"

#include <inttypes.h>
#include <stdio.h>

/* Parts of a name that may be empty come with their underscore. */
#define SUFFIX_COUNTER "_total"
#define SUFFIX_GAUGE   ""
#define NAME(id, unit, suffix)                                                                     \
	(sizeof(unit) > 1 ? "ctxkv_" #id "_" unit suffix : "ctxkv_" #id suffix)

const struct metric_row metric_table[] = {
#define MET(id, kind, unit, text)                                                                  \
	{ NAME(id, unit, SUFFIX_##kind), text, METRIC_##kind, offsetof(struct metrics, id) },
#include "metrics.def"
#undef MET
};
const size_t metric_count = ARRAY_LEN(metric_table);

void metrics_add(struct metrics *sum, const struct metrics *more)
{
#define MET(id, kind, unit, text) sum->id += more->id;
#include "metrics.def"
#undef MET
}

static uint64_t metric_value(const struct metrics *metrics, const struct metric_row *row)
{
	return *(const uint64_t *)(const void *)((const char *)metrics + row->offset);
}

size_t metrics_format(const struct metrics *metrics, char *buf, size_t buf_size)
{
	size_t used = 0;

	ASSERT(buf_size > 0);
	buf[0] = '\0';
	for (size_t i = 0; i < metric_count; i++) {
		int size = snprintf(buf + used, buf_size - used, "%s %" PRIu64 "\n",
				    metric_table[i].name, metric_value(metrics, &metric_table[i]));

		ASSERT(size > 0);
		used += (size_t)size;
		if (used >= buf_size)
			return buf_size - 1;
	}
	return used;
}
