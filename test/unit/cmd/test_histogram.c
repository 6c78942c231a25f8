/* SPDX-License-Identifier: Apache-2.0 */
/* Percentiles are within a bucket (2 %) of the exact ones, over the whole range. */
#include <stdlib.h>

#include "../../../src/cmd/histogram.h"
#include "../../lib/t.h"

static void percentiles_are_within_a_bucket(void **state)
{
	struct histogram *histogram = calloc(1, sizeof(*histogram));

	(void)state;
	for (uint64_t ns = 1; ns <= 100000; ns++)
		histogram_add(histogram, ns);
	for (double share = 0.01; share < 1; share += 0.01) {
		double exact = share * 100000;
		double got = (double)histogram_percentile(histogram, share);

		assert_true(got >= exact * 0.999 && got <= exact * 1.02 + 1);
	}
	assert_int_equal(histogram_percentile(histogram, 1), 100000);
	free(histogram);
}

static void every_value_is_in_its_bucket(void **state)
{
	static struct histogram histogram;

	(void)state;
	for (uint64_t power = 0; power < 63; power++) {
		for (int64_t off = -1; off <= 1; off++) {
			uint64_t ns = (UINT64_C(1) << power) + (uint64_t)off;

			histogram = (struct histogram) { 0 };
			histogram_add(&histogram, ns);
			assert_int_equal(histogram_percentile(&histogram, 0.5), ns);
		}
	}
}

static void merging_adds(void **state)
{
	static struct histogram a;
	static struct histogram b;

	(void)state;
	histogram_add(&a, 10);
	histogram_add(&b, 1000);
	histogram_add(&b, 1000);
	histogram_merge(&a, &b);
	assert_int_equal(a.total, 3);
	assert_int_equal(histogram_percentile(&a, 0.2), 10);
	assert_int_equal(histogram_percentile(&a, 0.9), 1000);
	assert_int_equal(histogram_percentile(&(struct histogram) { 0 }, 0.5), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(percentiles_are_within_a_bucket),
		cmocka_unit_test(every_value_is_in_its_bucket),
		cmocka_unit_test(merging_adds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
