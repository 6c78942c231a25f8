/* SPDX-License-Identifier: Apache-2.0 */
/* Three failures in a row open the breaker, one success closes it; pauses grow, within bounds. */
#include "../../../src/client/breaker.h"
#include "../../lib/t.h"

static void opens_at_the_third_failure_and_not_before(void **state)
{
	struct breaker breaker = { 0 };

	for (int i = 0; i < BREAKER_LIMIT - 1; i++) {
		breaker_fail(&breaker, -ECONNREFUSED, 1, 7);
		assert_true(breaker_is_closed(&breaker));
	}
	breaker_fail(&breaker, -ECONNREFUSED, 1, 7);
	assert_int_equal(breaker.state, BREAKER_OPEN);
	assert_int_equal(breaker.opens, 1);
	assert_int_equal(breaker_code(&breaker), -ERR_UNREACHABLE);
}

static void one_heavy_failure_opens_at_once(void **state)
{
	struct breaker breaker = { 0 };

	breaker_fail(&breaker, -ERR_AUTH, BREAKER_LIMIT, 0);
	assert_int_equal(breaker.state, BREAKER_OPEN);
	/* What an operator must mend is said, not hidden behind "unreachable". */
	assert_int_equal(breaker_code(&breaker), -ERR_AUTH);
}

static void a_success_in_between_starts_the_count_again(void **state)
{
	struct breaker breaker = { 0 };

	for (int round = 0; round < 10; round++) {
		breaker_fail(&breaker, -ECONNREFUSED, 1, 0);
		breaker_fail(&breaker, -ECONNREFUSED, 1, 0);
		breaker_succeed(&breaker);
	}
	assert_true(breaker_is_closed(&breaker));
	assert_int_equal(breaker.opens, 0);
}

static void a_failed_probe_opens_again_and_counts_once(void **state)
{
	struct breaker breaker = { 0 };

	breaker_fail(&breaker, -ETIMEDOUT, BREAKER_LIMIT, 0);
	breaker_try(&breaker);
	assert_int_equal(breaker.state, BREAKER_HALF_OPEN);
	assert_false(breaker_is_closed(&breaker));
	breaker_fail(&breaker, -ECONNREFUSED, 1, 0);
	assert_int_equal(breaker.state, BREAKER_OPEN);
	assert_int_equal(breaker.opens, 1);
	breaker_try(&breaker);
	breaker_succeed(&breaker);
	assert_true(breaker_is_closed(&breaker));
}

static void pauses_double_within_bounds_and_jitter(void **state)
{
	const uint64_t chances[] = { 0, 1, UINT64_MAX, UINT64_C(0x123456789abcdef) };

	for (size_t c = 0; c < ARRAY_LEN(chances); c++) {
		struct breaker breaker = { 0 };
		uint64_t middle = BREAKER_PAUSE_MIN;

		for (int i = 0; i < 20; i++) {
			uint64_t pause = breaker_fail(&breaker, -ECONNREFUSED, 1, chances[c]);

			assert_true(pause >= middle - middle / 4);
			assert_true(pause <= middle + middle / 4);
			middle = MIN(middle * 2, BREAKER_PAUSE_MAX);
		}
		breaker_succeed(&breaker);
		assert_true(breaker_fail(&breaker, -ECONNREFUSED, 1, chances[c]) <
			    2 * BREAKER_PAUSE_MIN);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens_at_the_third_failure_and_not_before),
		cmocka_unit_test(one_heavy_failure_opens_at_once),
		cmocka_unit_test(a_success_in_between_starts_the_count_again),
		cmocka_unit_test(a_failed_probe_opens_again_and_counts_once),
		cmocka_unit_test(pauses_double_within_bounds_and_jitter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
