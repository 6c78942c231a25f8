/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

/*
 * KV bytes: 2 x layers x KV heads x head size x 2 bytes; DeepSeek-V3 (MLA): layers x (512 + 64) x 2
 * bytes. From the models' published configurations.
 */
const struct model model_table[] = {
	{ "llama-3.1-70b", 2 * 80 * 8 * 128 * 2, 70.6, 80, 64 * 128 },
	{ "llama-3.1-8b", 2 * 32 * 8 * 128 * 2, 8.03, 32, 32 * 128 },
	{ "qwen3-32b", 2 * 64 * 8 * 128 * 2, 32.8, 64, 64 * 128 },
	{ "qwen3-8b", 2 * 36 * 8 * 128 * 2, 8.19, 36, 32 * 128 },
	{ "deepseek-v3", 61 * (512 + 64) * 2, 37.0, 61, 128 * 192 },
};
const size_t model_count = ARRAY_LEN(model_table);

/* Through (8192, 1.87 s) and (65536, 24.5 s). */
#define SECONDS_A 2.0748e-4
#define SECONDS_B 2.5384e-9

double model_prefill_s(const struct model *model, uint64_t begin, uint64_t end)
{
	const struct model *measured = &model_table[0];
	double a = SECONDS_A * model->parameters / measured->parameters;
	double b = SECONDS_B * model->layers * model->query_width /
		   ((double)measured->layers * measured->query_width);
	double from = (double)begin;
	double to = (double)end;

	return a * (to - from) + b * (to * to - from * from);
}
