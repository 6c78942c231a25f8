/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics: the table is sorted and well named, sums and text have every row, a small buffer is cut
 * and never overrun. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/tbl/metrics.h"
#include "../../lib/t.h"

static const char *const ids[] = {
#define MET(id, kind, unit, text) #id,
#include "../../../src/tbl/metrics.def"
#undef MET
};

static void rows_are_sorted_and_well_named(void **state)
{
	for (size_t i = 0; i < metric_count; i++) {
		const struct metric_row *row = &metric_table[i];
		size_t size = strlen(row->name);
		bool is_total = size > 6 && strcmp(row->name + size - 6, "_total") == 0;

		if (i > 0)
			assert_true(strcmp(ids[i - 1], ids[i]) < 0);
		assert_memory_equal(row->name, "ctxkv_", 6);
		assert_memory_equal(row->name + 6, ids[i], strlen(ids[i]));
		assert_int_equal(is_total, row->kind == METRIC_COUNTER);
		assert_int_equal(strspn(row->name, "abcdefghijklmnopqrstuvwxyz_0123456789"), size);
		assert_true(row->text[0] >= 'A' && row->text[0] <= 'Z');
		assert_int_not_equal(row->text[strlen(row->text) - 1], '.');
	}
}

/* The value of a name in text; -1: it is not there. */
static long long value_in(const char *text, const char *name)
{
	const char *at = text;

	while (at != NULL) {
		if (strncmp(at, name, strlen(name)) == 0 && at[strlen(name)] == ' ')
			return strtoll(at + strlen(name), NULL, 10);
		at = strchr(at, '\n');
		if (at != NULL)
			at++;
	}
	return -1;
}

/* Every cell of every row its own number. */
static void fill(struct metrics *metrics)
{
	uint64_t *cells = (uint64_t *)metrics;

	for (size_t i = 0; i < sizeof(*metrics) / sizeof(*cells); i++)
		cells[i] = i + 1;
}

static void every_row_is_added_and_printed(void **state)
{
	static char text[65536];
	struct metrics a;
	struct metrics b;
	size_t size;

	fill(&a);
	b = a;
	metrics_add(&a, &b);
	for (size_t i = 0; i < sizeof(a) / sizeof(uint64_t); i++)
		assert_int_equal(((uint64_t *)&a)[i], 2 * (i + 1));
	size = metrics_format(&a, text, sizeof(text));
	assert_int_equal(size, strlen(text));
	for (size_t i = 0; i < metric_count; i++) {
		const struct metric_row *row = &metric_table[i];
		char name[128];

		snprintf(name, sizeof(name), "%s%s", row->name,
			 row->kind == METRIC_HISTOGRAM ? "_count" : "");
		if (row->kind == METRIC_HISTOGRAM)
			assert_int_equal(value_in(text, name),
					 metric_histogram_count(metric_histogram_of(&a, row)));
		else
			assert_int_equal(value_in(text, name), 2 * (row->offset / 8 + 1));
	}
	assert_int_equal(value_in(text, "ctxkv_get_hits_total"), a.get_hits);
	assert_int_equal(value_in(text, "ctxkv_store_payload_bytes"), a.store_payload);
	assert_int_equal(value_in(text, "ctxkv_get_delivered_bytes_total"), a.get_delivered);
	assert_int_equal(value_in(text, "ctxkv_get_time_sum_ns"), a.get_time.sum_ns);
}

/* A duration is counted under the first bound that is not below it, on both sides of every bound.
 */
static void durations_fall_into_their_bucket(void **state)
{
	for (uint32_t i = 0; i < METRIC_BUCKETS - 1; i++) {
		uint64_t bound = METRIC_BOUND_FIRST << i;
		struct metric_histogram histogram = { 0 };

		metric_histogram_add(&histogram, bound - 1);
		metric_histogram_add(&histogram, bound);
		assert_int_equal(histogram.buckets[i], 2);
		metric_histogram_add(&histogram, bound + 1);
		assert_int_equal(histogram.buckets[i + 1], 1);
		assert_int_equal(histogram.sum_ns, 3 * bound);
	}
}

static void durations_have_no_end(void **state)
{
	struct metric_histogram histogram = { 0 };

	metric_histogram_add(&histogram, 0);
	metric_histogram_add(&histogram, UINT64_MAX);
	assert_int_equal(histogram.buckets[0], 1);
	assert_int_equal(histogram.buckets[METRIC_BUCKETS - 1], 1);
	assert_int_equal(metric_histogram_quantile(&histogram, 500), METRIC_BOUND_FIRST);
	assert_int_equal(metric_histogram_quantile(&histogram, 990), UINT64_MAX);
}

static void quantiles_are_bounds(void **state)
{
	struct metric_histogram histogram = { 0 };

	assert_int_equal(metric_histogram_quantile(&histogram, 500), 0);
	histogram.buckets[3] = 99;
	histogram.buckets[7] = 1;
	assert_int_equal(metric_histogram_quantile(&histogram, 500), METRIC_BOUND_FIRST << 3);
	assert_int_equal(metric_histogram_quantile(&histogram, 990), METRIC_BOUND_FIRST << 3);
	assert_int_equal(metric_histogram_quantile(&histogram, 991), METRIC_BOUND_FIRST << 7);
	assert_int_equal(metric_histogram_quantile(&histogram, 1000), METRIC_BOUND_FIRST << 7);
}

static char *scrape(const struct metrics *parts, size_t part_count)
{
	char *text = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&text, &size);

	assert_non_null(file);
	metrics_prometheus(file, parts, part_count, "reactor");
	assert_int_equal(fclose(file), 0);
	return text;
}

static uint32_t count_in(const char *text, const char *what)
{
	uint32_t count = 0;

	for (; (text = strstr(text, what)) != NULL; text++)
		count++;
	return count;
}

/* One HELP and TYPE a row, then a sample a reactor; ns are seconds; le is cumulative. */
static void the_scrape_has_every_row_of_every_reactor(void **state)
{
	static struct metrics parts[2];
	char *text;

	fill(&parts[0]);
	parts[1].get_hits = 42;
	parts[1].report_load = 1500000000;
	parts[1].get_time.buckets[0] = 3;
	parts[1].get_time.buckets[1] = 4;
	parts[1].get_time.buckets[METRIC_BUCKETS - 1] = 5;
	parts[1].get_time.sum_ns = 2500000000;
	text = scrape(parts, 2);
	for (size_t i = 0; i < metric_count; i++) {
		char line[128];

		snprintf(line, sizeof(line), "# TYPE %s ", metric_table[i].scrape);
		assert_int_equal(count_in(text, line), 1);
		snprintf(line, sizeof(line), "# HELP %s ", metric_table[i].scrape);
		assert_int_equal(count_in(text, line), 1);
		assert_null(strstr(metric_table[i].scrape, "_ns"));
	}
	assert_non_null(strstr(text, "\nctxkv_get_hits_total{reactor=\"1\"} 42\n"));
	assert_non_null(strstr(text, "\nctxkv_report_load_seconds_total{reactor=\"1\"} 1.5"));
	assert_non_null(strstr(
		text, "\nctxkv_get_time_seconds_bucket{reactor=\"1\",le=\"1.6384e-05\"} 3\n"));
	assert_non_null(strstr(
		text, "\nctxkv_get_time_seconds_bucket{reactor=\"1\",le=\"3.2768e-05\"} 7\n"));
	assert_non_null(
		strstr(text, "\nctxkv_get_time_seconds_bucket{reactor=\"1\",le=\"+Inf\"} 12\n"));
	assert_non_null(strstr(text, "\nctxkv_get_time_seconds_sum{reactor=\"1\"} 2.5"));
	assert_non_null(strstr(text, "\nctxkv_get_time_seconds_count{reactor=\"1\"} 12\n"));
	free(text);
}

static void a_small_buffer_is_cut(void **state)
{
	struct metrics metrics = { 0 };

	for (size_t size = 1; size < 300; size++) {
		char *buf = malloc(size);

		assert_non_null(buf);
		assert_int_equal(metrics_format(&metrics, buf, size), size - 1);
		assert_int_equal(strlen(buf), size - 1);
		free(buf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_sorted_and_well_named),
		cmocka_unit_test(every_row_is_added_and_printed),
		cmocka_unit_test(durations_fall_into_their_bucket),
		cmocka_unit_test(durations_have_no_end),
		cmocka_unit_test(quantiles_are_bounds),
		cmocka_unit_test(the_scrape_has_every_row_of_every_reactor),
		cmocka_unit_test(a_small_buffer_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
