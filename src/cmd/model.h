/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a model's context costs: KV-cache bytes and prefill seconds.
 *
 * Prefill of n tokens takes a n + b n^2 seconds: a for the weights, b for attention. Calibrated for
 * Llama-3.1-70B in bf16 on one H200: 1.87 s for 8K tokens, 9.9 s for 32K, 24.5 s for 64K (the curve
 * through the outer two is 4 % low at 32K). Other models are scaled, not measured: a by active
 * parameters, b by layers times query width.
 */
#ifndef CMD_MODEL_H
#define CMD_MODEL_H

#include "../base/base.h"

struct model {
	const char *name;
	uint64_t bytes_per_token; /* KV cache, bf16 */
	double parameters;        /* active, 1e9 */
	uint32_t layers;
	uint32_t query_width; /* query heads times head size */
};

/* Rows in the order of the option `model`. */
extern const struct model model_table[];
extern const size_t model_count;

/* Seconds to prefill tokens [begin, end) of a context whose first begin are loaded. */
double model_prefill_s(const struct model *model, uint64_t begin, uint64_t end);

#endif
