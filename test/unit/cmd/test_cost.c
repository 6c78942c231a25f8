/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of 'ctxkv cost': against sums done by hand, and at its edges. */
#include <math.h>
#include <string.h>

#include "../../../src/cmd/cost_model.h"
#include "../../lib/t.h"

/* Round numbers: a context takes 100 s to compute and 10 s to load, all else 20 s. */
static struct cost_input input_make(void)
{
	return (struct cost_input) {
		.model = &model_table[0],
		.gpus = 100,
		.gpu_price = 2,
		.busy = 0.5,
		.batch = 1e9, /* weights cost nothing */
		.context_tokens = 1000,
		.context_bytes = 48e9,
		.session_tokens = 0,
		.answer_tokens = 2000, /* x 48 GB / 4800 GB/s: 20 s */
		.prefill_s = 100,
		.miss_rate = 0.8,
		.store_miss_rate = 0.1,
		.load_rate = 4.8e9,
		.contexts = 1000,
		.store_price = 100,
		.store_years = 4,
		.watts = 1000,
		.power_price = 0.1,
	};
}

#define CLOSE(a, b) assert_true(fabs((a) - (b)) <= 1e-4 * fabs((double)(b)))

static void steps_are_what_a_hand_computes(void **state)
{
	struct cost_input input = input_make();
	struct cost cost;
	const double *v = cost.value;

	assert_null(cost_check(&input));
	cost_compute(&input, &cost);
	CLOSE(v[COST_CONTEXT_BYTES], 48);
	CLOSE(v[COST_RECOMPUTE_S], 100);
	CLOSE(v[COST_PROMPT_S] + 1, 1);
	CLOSE(v[COST_ANSWER_S], 20);
	CLOSE(v[COST_LOAD_S], 10);
	CLOSE(v[COST_REQUEST_S], 20 + 0.8 * 100);
	CLOSE(v[COST_TAX_SHARE], 80);
	CLOSE(v[COST_GPU_HOURS], 876000);
	CLOSE(v[COST_GPU_DOLLARS], 1752000);
	CLOSE(v[COST_TAX], 700800);
	CLOSE(v[COST_STORED_S], 20 + 0.1 * 100 + 0.7 * 10);
	CLOSE(v[COST_DELIVERED], 100 * 0.5 / 37 * 0.7 * 48);
	CLOSE(v[COST_SAVED_SHARE], 63);
	CLOSE(v[COST_SAVED], 551880);
	CLOSE(v[COST_STORE_TB], 48);
	CLOSE(v[COST_STORE_DOLLARS], 4800);
	CLOSE(v[COST_POWER], 876);
	CLOSE(v[COST_NET], 551880 - 876 - 1200);
	CLOSE(v[COST_PAYBACK], 365.0 * 4800 / (551880 - 876));
	CLOSE(v[COST_TOKENS], 3000);
	CLOSE(v[COST_MILLION], 2.0 / 3600 / 0.5 * 100 / 3000 * 1e6);
	/* 15,768,000 requests a year pay 2076 dollars. */
	CLOSE(v[COST_MILLION_STORED], (2.0 / 3600 / 0.5 * 37 + 2076.0 / 15768000) / 3000 * 1e6);
}

/* A request costs what its GPU costs: a year of requests costs the busy GPUs' year. */
static void the_year_and_the_million_agree(void **state)
{
	struct cost_input input = input_make();
	struct cost cost;
	double requests;

	cost_compute(&input, &cost);
	requests = cost.value[COST_GPU_HOURS] * 3600 * input.busy / cost.value[COST_REQUEST_S];
	CLOSE(requests * cost.value[COST_TOKENS] / 1e6 * cost.value[COST_MILLION],
	      cost.value[COST_GPU_DOLLARS]);
	CLOSE(requests * cost.value[COST_TOKENS] / 1e6 * cost.value[COST_MILLION_STORED],
	      cost.value[COST_GPU_DOLLARS] - cost.value[COST_NET] -
		      (cost.value[COST_GPU_DOLLARS] * cost.value[COST_SAVED_SHARE] / 100 -
		       cost.value[COST_SAVED]));
}

/* The example that the project began with. Defaults as in options.def. */
static void the_example_is_of_the_order_of_two_million(void **state)
{
	struct cost_input input = {
		.model = &model_table[0],
		.gpus = 128,
		.gpu_price = 3,
		.busy = 0.8,
		.batch = 8,
		.context_tokens = 131072,
		.session_tokens = 1024,
		.answer_tokens = 512,
		.miss_rate = 0.5,
		.store_miss_rate = 0.1,
		.load_rate = 1e10,
		.contexts = 2500,
		.store_price = 200,
		.store_years = 5,
		.watts = 2000,
		.power_price = 0.15,
	};
	struct cost cost;

	cost_compute(&input, &cost);
	assert_true(cost.value[COST_CONTEXT_BYTES] > 40 && cost.value[COST_CONTEXT_BYTES] < 45);
	assert_true(cost.value[COST_TAX] > 1.8e6 && cost.value[COST_TAX] < 2.5e6);
	input.gpu_price = 2;
	cost_compute(&input, &cost);
	assert_true(cost.value[COST_TAX] > 1.3e6);
	input.gpu_price = 4;
	cost_compute(&input, &cost);
	assert_true(cost.value[COST_TAX] < 3.2e6);
}

static void what_saves_nothing_is_never_paid_back(void **state)
{
	struct cost_input input = input_make();
	struct cost cost;

	input.store_miss_rate = input.miss_rate;
	cost_compute(&input, &cost);
	assert_true(fabs(cost.value[COST_SAVED]) < 1e-6);
	assert_true(isinf(cost.value[COST_PAYBACK]));
	assert_true(cost.value[COST_NET] < 0);
	/* Loading slower than computing: the store loses, and says so. */
	input = input_make();
	input.load_rate = 48e9 / 200;
	cost_compute(&input, &cost);
	assert_true(cost.value[COST_SAVED] < 0);
	assert_true(isinf(cost.value[COST_PAYBACK]));
}

static void nonsense_is_refused_with_a_reason(void **state)
{
	struct cost_input input = input_make();

	input.gpus = 0;
	assert_non_null(cost_check(&input));
	input = input_make();
	input.busy = 0;
	assert_non_null(cost_check(&input));
	input = input_make();
	input.store_miss_rate = 0.9;
	assert_non_null(strstr(cost_check(&input), "store-miss-rate"));
	input = input_make();
	input.answer_tokens = 0;
	assert_non_null(cost_check(&input));
}

static void every_step_shows_its_numbers(void **state)
{
	struct cost_input input = input_make();
	struct cost cost;

	cost_compute(&input, &cost);
	for (size_t i = 0; i < COST_STEPS; i++) {
		assert_true(strlen(cost.numbers[i]) > 0);
		assert_true(strlen(cost.numbers[i]) < sizeof(cost.numbers[i]) - 1);
		assert_true(strlen(cost_rows[i].formula) > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(steps_are_what_a_hand_computes),
		cmocka_unit_test(the_year_and_the_million_agree),
		cmocka_unit_test(the_example_is_of_the_order_of_two_million),
		cmocka_unit_test(what_saves_nothing_is_never_paid_back),
		cmocka_unit_test(nonsense_is_refused_with_a_reason),
		cmocka_unit_test(every_step_shows_its_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
