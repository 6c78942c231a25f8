/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of a replay. Times to load are measured with payloads divided by --scale; whether
 * loading beats computing is judged at full size: unscaled bytes at the measured bytes per second.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "../base/text.h"
#include "replay.h"

struct figures {
	double hit_rate;
	double ideal_rate;
	double load_bytes;
	double load_s;
	double load_bytes_per_s;
	double put_bytes_per_s;
	double load_p50_s;
	double load_p99_s;
	double prefill_without_s;
	double prefill_avoided_s;
	double gpu_hours;
	double dollars;
	double break_even_bytes_per_s; /* slower than this, loading all hits would not pay */
	uint64_t hit_requests;
	uint64_t slower_requests; /* loading at full size takes longer than computing */
};

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Of requests that loaded something. */
static void percentiles(const struct replay_plan *plan, const struct replay_result *result,
			struct figures *figures)
{
	uint64_t *ns = calloc(plan->count + 1, sizeof(*ns));
	uint64_t count = 0;

	if (ns == NULL)
		return;
	for (uint64_t i = 0; i < plan->count; i++) {
		if (result->samples[i].hit_tokens > 0)
			ns[count++] = result->samples[i].load_ns;
	}
	qsort(ns, count, sizeof(*ns), compare_u64);
	if (count > 0) {
		figures->load_p50_s = (double)ns[count / 2] / 1e9;
		figures->load_p99_s = (double)ns[(count * 99) / 100] / 1e9;
	}
	free(ns);
}

static void figures_sum(const struct replay_plan *plan, const struct replay_result *result,
			struct figures *f)
{
	uint64_t tokens = 0;
	uint64_t hits = 0;

	for (uint64_t i = 0; i < plan->count; i++) {
		const struct replay_sample *sample = &result->samples[i];

		tokens += sample->tokens;
		hits += sample->hit_tokens;
		f->load_bytes += (double)sample->load_bytes;
		f->load_s += (double)sample->load_ns / 1e9;
		f->prefill_without_s += model_prefill_s(plan->model, 0, sample->tokens);
		f->prefill_avoided_s += model_prefill_s(plan->model, 0, sample->hit_tokens);
	}
	f->hit_rate = tokens > 0 ? (double)hits / (double)tokens : 0;
	f->load_bytes_per_s = f->load_s > 0 ? f->load_bytes / f->load_s : 0;
	f->put_bytes_per_s = result->sums.put_ns > 0 ? (double)result->sums.put_bytes * 1e9 /
							       (double)result->sums.put_ns
						     : 0;
	f->gpu_hours = f->prefill_avoided_s / 3600;
	f->dollars = f->gpu_hours * (double)plan->options->gpu_price / 100;
	if (f->prefill_avoided_s > 0)
		f->break_even_bytes_per_s =
			(double)hits * (double)plan->bytes_per_token / f->prefill_avoided_s;
}

static void figures_slower(const struct replay_plan *plan, const struct replay_result *result,
			   struct figures *f)
{
	for (uint64_t i = 0; i < plan->count; i++) {
		const struct replay_sample *sample = &result->samples[i];
		double full = (double)sample->hit_tokens * (double)plan->bytes_per_token;
		double speed = sample->load_ns > 0
				       ? (double)sample->load_bytes * 1e9 / (double)sample->load_ns
				       : 0;

		if (sample->hit_tokens == 0)
			continue;
		f->hit_requests++;
		if (speed > 0 && full / speed > model_prefill_s(plan->model, 0, sample->hit_tokens))
			f->slower_requests++;
	}
}

static void print_text(const struct replay_plan *plan, const struct replay_result *result,
		       const struct figures *f)
{
	const struct replay_sums *sums = &result->sums;
	char a[32];
	char b[32];

	printf("model            %s, %s of KV cache a token\n", plan->model->name,
	       text_format_size(a, sizeof(a), plan->bytes_per_token));
	printf("blocks           %" PRIu64 " tokens, %s each", plan->block_tokens,
	       text_format_size(a, sizeof(a), plan->block_size));
	printf(plan->options->scale > 1 ? " (payload divided by %" PRIu64 ")\n" : "\n",
	       plan->options->scale);
	printf("requests         %" PRIu64 " in %s\n", sums->requests,
	       text_format_duration(a, sizeof(a), result->wall_ns));
	printf("hit rate         %.1f %% of tokens (an unlimited store, empty at first: %.1f %%)\n",
	       100 * f->hit_rate, 100 * f->ideal_rate);
	printf("loaded           %s in %" PRIu64 " blocks, %s/s\n",
	       text_format_size(a, sizeof(a), (uint64_t)f->load_bytes), sums->load_blocks,
	       text_format_size(b, sizeof(b), (uint64_t)f->load_bytes_per_s));
	printf("time to load     p50 %s",
	       text_format_duration(a, sizeof(a), (uint64_t)(f->load_p50_s * 1e9)));
	printf(", p99 %s a request that hit\n",
	       text_format_duration(a, sizeof(a), (uint64_t)(f->load_p99_s * 1e9)));
	printf("stored           %s in %" PRIu64 " blocks, %s/s (%" PRIu64 " were there)\n",
	       text_format_size(a, sizeof(a), sums->put_bytes),
	       sums->put_blocks - sums->put_existed,
	       text_format_size(b, sizeof(b), (uint64_t)f->put_bytes_per_s), sums->put_existed);
	printf("prefill          %.0f s without the store, %.0f s avoided (%.1f %%; calibrated on "
	       "one "
	       "H200)\n",
	       f->prefill_without_s, f->prefill_avoided_s,
	       f->prefill_without_s > 0 ? 100 * f->prefill_avoided_s / f->prefill_without_s : 0);
	printf("saved            %.2f GPU-hours, %.2f dollars at %.2f an hour\n", f->gpu_hours,
	       f->dollars, (double)plan->options->gpu_price / 100);
	printf("loading slower   %" PRIu64 " of %" PRIu64
	       " requests that hit, at full size and the "
	       "measured speed; break-even %s/s\n",
	       f->slower_requests, f->hit_requests,
	       text_format_size(a, sizeof(a), (uint64_t)f->break_even_bytes_per_s));
	printf("checked          %" PRIu64 " blocks, %" PRIu64 " wrong; %" PRIu64 " lost after the "
	       "probe, %" PRIu64 " puts failed, %" PRIu64 " operations without an answer\n",
	       sums->load_blocks, sums->wrong_blocks, sums->lost_blocks, sums->put_failures,
	       sums->failed_ops);
}

static void print_json(const struct replay_plan *plan, const struct replay_result *result,
		       const struct figures *f)
{
	const struct replay_sums *sums = &result->sums;
	json_t *object = json_pack(
		"{s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:f, s:f, s:f, s:I, s:I, "
		"s:I, "
		"s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:f, s:I, s:I, s:I, s:I}",
		"model", plan->model->name, "bytes_per_token", (json_int_t)plan->bytes_per_token,
		"block_tokens", (json_int_t)plan->block_tokens, "block_size",
		(json_int_t)plan->block_size, "scale", (json_int_t)plan->options->scale, "requests",
		(json_int_t)sums->requests, "seconds", (double)result->wall_ns / 1e9, "hit_rate",
		f->hit_rate, "ideal_hit_rate", f->ideal_rate, "load_bytes", f->load_bytes,
		"load_blocks", (json_int_t)sums->load_blocks, "load_bytes_per_s",
		f->load_bytes_per_s, "load_p50_s", f->load_p50_s, "load_p99_s", f->load_p99_s,
		"put_bytes", (json_int_t)sums->put_bytes, "put_blocks",
		(json_int_t)sums->put_blocks, "put_existed", (json_int_t)sums->put_existed,
		"put_bytes_per_s", f->put_bytes_per_s, "prefill_without_s", f->prefill_without_s,
		"prefill_avoided_s", f->prefill_avoided_s, "gpu_hours", f->gpu_hours, "dollars",
		f->dollars, "hit_requests", (json_int_t)f->hit_requests, "slower_requests",
		(json_int_t)f->slower_requests, "break_even_bytes_per_s", f->break_even_bytes_per_s,
		"wrong_blocks", (json_int_t)sums->wrong_blocks, "lost_blocks",
		(json_int_t)sums->lost_blocks, "put_failures", (json_int_t)sums->put_failures,
		"failed_ops", (json_int_t)sums->failed_ops);

	json_dumpf(object, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(object);
}

void replay_report(const struct replay_plan *plan, const struct trace *trace,
		   const struct replay_result *result)
{
	struct figures figures = { 0 };
	uint64_t total;
	uint64_t hits = trace_ideal_hits(trace, plan->first, plan->count, &total);

	figures.ideal_rate = total > 0 ? (double)hits / (double)total : 0;
	figures_sum(plan, result, &figures);
	figures_slower(plan, result, &figures);
	percentiles(plan, result, &figures);
	if (plan->options->json)
		print_json(plan, result, &figures);
	else
		print_text(plan, result, &figures);
}
