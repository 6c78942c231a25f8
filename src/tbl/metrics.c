/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics.h"

#include <inttypes.h>
#include <stdarg.h>

/* Parts of a name that may be empty come with their underscore. */
#define SUFFIX_COUNTER   "_total"
#define SUFFIX_GAUGE     ""
#define SUFFIX_HISTOGRAM ""
#define IS_NS(unit)      (sizeof(unit) == 3 && (unit)[0] == 'n')
#define NAME(id, unit, suffix)                                                                     \
	(sizeof(unit) > 1 ? "ctxkv_" #id "_" unit suffix : "ctxkv_" #id suffix)
#define NAME_COUNTER(id, unit)   NAME(id, unit, SUFFIX_COUNTER)
#define NAME_GAUGE(id, unit)     NAME(id, unit, SUFFIX_GAUGE)
#define NAME_HISTOGRAM(id, unit) ("ctxkv_" #id)
#define SCRAPE(id, unit, suffix)                                                                   \
	(IS_NS(unit) ? "ctxkv_" #id "_seconds" suffix : NAME(id, unit, suffix))

const struct metric_row metric_table[] = {
#define MET(id, kind, unit, text)                                                                  \
	{ NAME_##kind(id, unit), SCRAPE(id, unit, SUFFIX_##kind), text, METRIC_##kind,             \
	  IS_NS(unit),           offsetof(struct metrics, id) },
#include "metrics.def"
#undef MET
};
const size_t metric_count = ARRAY_LEN(metric_table);

static void sum_histogram(struct metric_histogram *sum, const struct metric_histogram *more)
{
	for (size_t i = 0; i < METRIC_BUCKETS; i++)
		sum->buckets[i] += more->buckets[i];
	sum->sum_ns += more->sum_ns;
}

#define ADD_COUNTER(sum, more)   ((sum) += (more))
#define ADD_GAUGE(sum, more)     ((sum) += (more))
#define ADD_HISTOGRAM(sum, more) sum_histogram(&(sum), &(more))

void metrics_add(struct metrics *sum, const struct metrics *more)
{
#define MET(id, kind, unit, text) ADD_##kind(sum->id, more->id);
#include "metrics.def"
#undef MET
}

uint64_t metric_value(const struct metrics *metrics, const struct metric_row *row)
{
	ASSERT(row->kind != METRIC_HISTOGRAM);
	return *(const uint64_t *)(const void *)((const char *)metrics + row->offset);
}

/* --- histograms --- */

void metric_histogram_add(struct metric_histogram *histogram, uint64_t ns)
{
	uint32_t bucket = 0;

	/* The first bound that is not below ns: bounds are inclusive, as Prometheus' le is. */
	if (ns > METRIC_BOUND_FIRST)
		bucket = 64u - (uint32_t)__builtin_clzll((ns - 1) / METRIC_BOUND_FIRST);
	histogram->buckets[MIN(bucket, METRIC_BUCKETS - 1)]++;
	histogram->sum_ns += ns;
}

uint64_t metric_histogram_count(const struct metric_histogram *histogram)
{
	uint64_t count = 0;

	for (size_t i = 0; i < METRIC_BUCKETS; i++)
		count += histogram->buckets[i];
	return count;
}

uint64_t metric_histogram_quantile(const struct metric_histogram *histogram, uint32_t permille)
{
	uint64_t count = metric_histogram_count(histogram);
	uint64_t below = 0;

	ASSERT(permille <= 1000);
	if (count == 0)
		return 0;
	for (uint32_t i = 0; i < METRIC_BUCKETS - 1; i++) {
		below += histogram->buckets[i];
		if (below > 0 && (double)below >= (double)count * permille / 1000)
			return METRIC_BOUND_FIRST << i;
	}
	return UINT64_MAX;
}

const struct metric_histogram *metric_histogram_of(const struct metrics *metrics,
						   const struct metric_row *row)
{
	ASSERT(row->kind == METRIC_HISTOGRAM);
	return (const void *)((const char *)metrics + row->offset);
}

/* --- plain lines --- */

/* Text that is cut at the end of its buffer. */
struct line_buffer {
	char *text;
	size_t size;
	size_t used;
};

static void PRINTF_LIKE(2, 3) add_line(struct line_buffer *lines, const char *format, ...)
{
	va_list args;
	int size;

	va_start(args, format);
	size = vsnprintf(lines->text + lines->used, lines->size - lines->used, format, args);
	va_end(args);
	ASSERT(size > 0);
	lines->used = MIN(lines->used + (size_t)size, lines->size - 1);
}

static void add_histogram(struct line_buffer *lines, const struct metrics *metrics,
			  const struct metric_row *row)
{
	const struct metric_histogram *histogram = metric_histogram_of(metrics, row);

	add_line(lines, "%s_count %" PRIu64 "\n", row->name, metric_histogram_count(histogram));
	add_line(lines, "%s_sum_ns %" PRIu64 "\n", row->name, histogram->sum_ns);
	add_line(lines, "%s_p50_ns %" PRIu64 "\n", row->name,
		 metric_histogram_quantile(histogram, 500));
	add_line(lines, "%s_p99_ns %" PRIu64 "\n", row->name,
		 metric_histogram_quantile(histogram, 990));
}

size_t metrics_format(const struct metrics *metrics, char *buf, size_t buf_size)
{
	struct line_buffer lines = { buf, buf_size, 0 };

	ASSERT(buf_size > 0);
	buf[0] = '\0';
	for (size_t i = 0; i < metric_count; i++) {
		const struct metric_row *row = &metric_table[i];

		if (row->kind == METRIC_HISTOGRAM)
			add_histogram(&lines, metrics, row);
		else
			add_line(&lines, "%s %" PRIu64 "\n", row->name, metric_value(metrics, row));
	}
	return lines.used;
}

/* --- Prometheus --- */

static const char *const kind_names[] = {
	[METRIC_COUNTER] = "counter",
	[METRIC_GAUGE] = "gauge",
	[METRIC_HISTOGRAM] = "histogram",
};

static void scrape_histogram(FILE *out, const struct metric_row *row,
			     const struct metric_histogram *histogram, const char *label)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < METRIC_BUCKETS - 1; i++) {
		count += histogram->buckets[i];
		fprintf(out, "%s_bucket{%s,le=\"%.9g\"} %" PRIu64 "\n", row->scrape, label,
			(double)(METRIC_BOUND_FIRST << i) / (double)NS_PER_S, count);
	}
	count += histogram->buckets[METRIC_BUCKETS - 1];
	fprintf(out, "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", row->scrape, label, count);
	fprintf(out, "%s_sum{%s} %.9f\n", row->scrape, label,
		(double)histogram->sum_ns / (double)NS_PER_S);
	fprintf(out, "%s_count{%s} %" PRIu64 "\n", row->scrape, label, count);
}

static void scrape_sample(FILE *out, const struct metric_row *row, const struct metrics *part,
			  const char *label)
{
	if (row->kind == METRIC_HISTOGRAM)
		scrape_histogram(out, row, metric_histogram_of(part, row), label);
	else if (row->is_ns)
		fprintf(out, "%s{%s} %.9f\n", row->scrape, label,
			(double)metric_value(part, row) / (double)NS_PER_S);
	else
		fprintf(out, "%s{%s} %" PRIu64 "\n", row->scrape, label, metric_value(part, row));
}

void metrics_prometheus(FILE *out, const struct metrics *parts, size_t part_count,
			const char *part_name)
{
	char label[64];

	for (size_t i = 0; i < metric_count; i++) {
		const struct metric_row *row = &metric_table[i];

		fprintf(out, "# HELP %s %s.\n# TYPE %s %s\n", row->scrape, row->text, row->scrape,
			kind_names[row->kind]);
		for (size_t part = 0; part < part_count; part++) {
			snprintf(label, sizeof(label), "%s=\"%zu\"", part_name, part);
			scrape_sample(out, row, &parts[part], label);
		}
	}
}

void metrics_reference(FILE *out)
{
	fputs("# Metrics\n\nWritten from `src/tbl/metrics.def` by `ctxkv version "
	      "--reference-metrics`. "
	      "Each has the label `reactor`;\n`ctxkv stat` shows their sums. Durations are "
	      "nanoseconds there and seconds in Prometheus' text. Bounds of the\nhistograms' "
	      "buckets double from 16 us to 17 s; `ctxkv stat` shows count, sum, and the bounds "
	      "below which half and 99 % lie.\nHow to scrape them, and the metrics of namespaces, "
	      "shards and tenants: [operating/metrics.md](../operating/metrics.md).\n\n"
	      "| in Prometheus' text | in `ctxkv stat` | kind | what |\n"
	      "| --- | --- | --- | --- |\n",
	      out);
	for (size_t i = 0; i < metric_count; i++)
		fprintf(out, "| `%s` | `%s%s` | %s | %s |\n", metric_table[i].scrape,
			metric_table[i].name, metric_table[i].kind == METRIC_HISTOGRAM ? "_*" : "",
			kind_names[metric_table[i].kind], metric_table[i].text);
}
