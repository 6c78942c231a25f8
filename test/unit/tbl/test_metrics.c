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

static void every_row_is_added_and_printed(void **state)
{
	static char text[65536];
	struct metrics a;
	struct metrics b;
	uint64_t *cells = (uint64_t *)&a;
	size_t size;

	assert_int_equal(sizeof(a), metric_count * sizeof(uint64_t));
	for (size_t i = 0; i < metric_count; i++)
		cells[i] = i + 1;
	b = a;
	metrics_add(&a, &b);
	size = metrics_format(&a, text, sizeof(text));
	assert_int_equal(size, strlen(text));
	for (size_t i = 0; i < metric_count; i++)
		assert_int_equal(value_in(text, metric_table[i].name),
				 2 * (metric_table[i].offset / 8 + 1));
	assert_int_equal(value_in(text, "ctxkv_get_hits_total"), a.get_hits);
	assert_int_equal(value_in(text, "ctxkv_store_payload_bytes"), a.store_payload);
	assert_int_equal(value_in(text, "ctxkv_get_delivered_bytes_total"), a.get_delivered);
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
		cmocka_unit_test(a_small_buffer_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
