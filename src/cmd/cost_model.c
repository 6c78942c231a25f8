/* SPDX-License-Identifier: Apache-2.0 */
#include "cost_model.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define HOURS_A_YEAR      (24.0 * 365)
#define BYTES_A_PARAMETER 2.0    /* bf16 */
#define MEMORY_BANDWIDTH  4.8e12 /* bytes/s: NVIDIA H200 data sheet; the curve is of one, too */

const struct cost_row cost_rows[COST_STEPS] = {
#define STEP(id, name, unit, formula) { name, unit, formula },
#include "cost_steps.def"
#undef STEP
};

const char *cost_check(const struct cost_input *input)
{
	if (input->gpus <= 0 || input->gpu_price <= 0)
		return "without GPUs and their price there is nothing to save";
	if (input->busy <= 0 || input->busy > 1)
		return "busy is from 1 to 100 per cent";
	if (input->context_tokens < 1 || input->batch < 1)
		return "context-tokens and gpu-batch are at least 1";
	if (input->session_tokens + input->answer_tokens < 1)
		return "a request that neither asks nor answers anything costs nothing";
	if (input->load_rate <= 0 || input->store_years <= 0)
		return "load-rate and store-years are above 0";
	if (input->miss_rate > 1 || input->store_miss_rate > input->miss_rate)
		return "with a store there are not more misses than without: store-miss-rate is at "
		       "most miss-rate";
	return NULL;
}

/* The value of a step, and its formula with the numbers in it. */
PRINTF_LIKE(4, 5)
static double step(struct cost *cost, enum cost_step id, double value, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(cost->numbers[id], sizeof(cost->numbers[id]), format, args);
	va_end(args);
	cost->value[id] = value;
	return value;
}

/* GB (1e9) of a context. */
static double context_bytes(const struct cost_input *in, struct cost *cost)
{
	double per_token =
		in->bytes_per_token > 0 ? in->bytes_per_token : (double)in->model->bytes_per_token;

	if (in->context_bytes > 0)
		return step(cost, COST_CONTEXT_BYTES, in->context_bytes / 1e9, "as given");
	return step(cost, COST_CONTEXT_BYTES, in->context_tokens * per_token / 1e9,
		    "%.0f x %.0f bytes / 1e9", in->context_tokens, per_token);
}

/* Seconds of one GPU for the parts of a request. */
static void parts(const struct cost_input *in, struct cost *cost)
{
	double bytes = context_bytes(in, cost) * 1e9;
	double weights = in->model->parameters * 1e9 * BYTES_A_PARAMETER;
	uint64_t n = (uint64_t)in->context_tokens;
	uint64_t m = (uint64_t)in->session_tokens;

	if (in->prefill_s > 0)
		step(cost, COST_RECOMPUTE_S, in->prefill_s, "as given");
	else
		step(cost, COST_RECOMPUTE_S, model_prefill_s(in->model, 0, n),
		     "n = %.0f, %s on one H200", in->context_tokens, in->model->name);
	step(cost, COST_PROMPT_S, model_prefill_s(in->model, n, n + m), "n = %.0f, m = %.0f",
	     in->context_tokens, in->session_tokens);
	step(cost, COST_ANSWER_S,
	     in->answer_tokens * (weights / in->batch + bytes) / MEMORY_BANDWIDTH,
	     "%.0f x (%.1f GB / %.0f + %.1f GB) / %.0f GB/s", in->answer_tokens, weights / 1e9,
	     in->batch, bytes / 1e9, MEMORY_BANDWIDTH / 1e9);
	step(cost, COST_LOAD_S, bytes / in->load_rate, "%.1f GB / %.1f GB/s", bytes / 1e9,
	     in->load_rate / 1e9);
}

static void tax(const struct cost_input *in, struct cost *cost)
{
	const double *v = cost->value;

	step(cost, COST_REQUEST_S,
	     v[COST_PROMPT_S] + v[COST_ANSWER_S] + in->miss_rate * v[COST_RECOMPUTE_S],
	     "%.2f + %.2f + %.2f x %.2f", v[COST_PROMPT_S], v[COST_ANSWER_S], in->miss_rate,
	     v[COST_RECOMPUTE_S]);
	step(cost, COST_TAX_SHARE, 100 * in->miss_rate * v[COST_RECOMPUTE_S] / v[COST_REQUEST_S],
	     "%.2f x %.2f / %.2f", in->miss_rate, v[COST_RECOMPUTE_S], v[COST_REQUEST_S]);
	step(cost, COST_GPU_HOURS, in->gpus * HOURS_A_YEAR, "%.0f x 24 x 365", in->gpus);
	step(cost, COST_GPU_DOLLARS, v[COST_GPU_HOURS] * in->gpu_price, "%.0f x %.2f",
	     v[COST_GPU_HOURS], in->gpu_price);
	step(cost, COST_TAX, v[COST_GPU_DOLLARS] * in->busy * v[COST_TAX_SHARE] / 100,
	     "%.0f x %.2f x %.1f %%", v[COST_GPU_DOLLARS], in->busy, v[COST_TAX_SHARE]);
}

static void saving(const struct cost_input *in, struct cost *cost)
{
	const double *v = cost->value;
	double gained = in->miss_rate - in->store_miss_rate;

	step(cost, COST_STORED_S,
	     v[COST_PROMPT_S] + v[COST_ANSWER_S] + in->store_miss_rate * v[COST_RECOMPUTE_S] +
		     gained * v[COST_LOAD_S],
	     "%.2f + %.2f + %.2f x %.2f + %.2f x %.2f", v[COST_PROMPT_S], v[COST_ANSWER_S],
	     in->store_miss_rate, v[COST_RECOMPUTE_S], gained, v[COST_LOAD_S]);
	step(cost, COST_DELIVERED,
	     in->gpus * in->busy / v[COST_STORED_S] * gained * v[COST_CONTEXT_BYTES],
	     "%.0f x %.2f / %.2f x %.2f x %.1f GB", in->gpus, in->busy, v[COST_STORED_S], gained,
	     v[COST_CONTEXT_BYTES]);
	step(cost, COST_SAVED_SHARE, 100 * (1 - v[COST_STORED_S] / v[COST_REQUEST_S]),
	     "1 - %.2f / %.2f", v[COST_STORED_S], v[COST_REQUEST_S]);
	step(cost, COST_SAVED_HOURS, v[COST_GPU_HOURS] * in->busy * v[COST_SAVED_SHARE] / 100,
	     "%.0f x %.2f x %.1f %%", v[COST_GPU_HOURS], in->busy, v[COST_SAVED_SHARE]);
	step(cost, COST_SAVED, v[COST_SAVED_HOURS] * in->gpu_price, "%.0f x %.2f",
	     v[COST_SAVED_HOURS], in->gpu_price);
}

static void store(const struct cost_input *in, struct cost *cost)
{
	const double *v = cost->value;
	double gain;

	step(cost, COST_STORE_TB, in->contexts * v[COST_CONTEXT_BYTES] / 1000,
	     "%.0f x %.1f GB / 1000", in->contexts, v[COST_CONTEXT_BYTES]);
	step(cost, COST_STORE_DOLLARS, v[COST_STORE_TB] * in->store_price, "%.1f x %.0f",
	     v[COST_STORE_TB], in->store_price);
	step(cost, COST_POWER, in->watts / 1000 * HOURS_A_YEAR * in->power_price,
	     "%.1f x 24 x 365 x %.2f", in->watts / 1000, in->power_price);
	step(cost, COST_NET,
	     v[COST_SAVED] - v[COST_POWER] - v[COST_STORE_DOLLARS] / in->store_years,
	     "%.0f - %.0f - %.0f / %.0f", v[COST_SAVED], v[COST_POWER], v[COST_STORE_DOLLARS],
	     in->store_years);
	gain = v[COST_SAVED] - v[COST_POWER];
	step(cost, COST_PAYBACK, gain > 0 ? 365 * v[COST_STORE_DOLLARS] / gain : INFINITY,
	     "365 x %.0f / (%.0f - %.0f)", v[COST_STORE_DOLLARS], v[COST_SAVED], v[COST_POWER]);
}

/* What a request costs, idle time of its GPU included. The store is paid by as many requests as
 * there are today: the same work on fewer GPUs. */
static void million(const struct cost_input *in, struct cost *cost)
{
	const double *v = cost->value;
	double second = in->gpu_price / 3600 / in->busy;
	double requests = v[COST_GPU_HOURS] * 3600 * in->busy / v[COST_REQUEST_S];
	double store_a_request =
		(v[COST_POWER] + v[COST_STORE_DOLLARS] / in->store_years) / requests;

	step(cost, COST_TOKENS, in->context_tokens + in->session_tokens + in->answer_tokens,
	     "%.0f + %.0f + %.0f", in->context_tokens, in->session_tokens, in->answer_tokens);
	step(cost, COST_MILLION, second * v[COST_REQUEST_S] / v[COST_TOKENS] * 1e6,
	     "%.2f / 3600 / %.2f x %.2f / %.0f x 1e6", in->gpu_price, in->busy, v[COST_REQUEST_S],
	     v[COST_TOKENS]);
	step(cost, COST_MILLION_STORED,
	     (second * v[COST_STORED_S] + store_a_request) / v[COST_TOKENS] * 1e6,
	     "(%.2f / 3600 / %.2f x %.2f + %.6f) / %.0f x 1e6", in->gpu_price, in->busy,
	     v[COST_STORED_S], store_a_request, v[COST_TOKENS]);
}

void cost_compute(const struct cost_input *input, struct cost *cost_out)
{
	ASSERT(cost_check(input) == NULL);
	*cost_out = (struct cost) { .value = { 0 } };
	parts(input, cost_out);
	tax(input, cost_out);
	saving(input, cost_out);
	store(input, cost_out);
	million(input, cost_out);
}
