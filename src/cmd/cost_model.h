/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What recomputing context costs a GPU cluster a year, and what a store would save: pure
 * arithmetic, step by step, so that each figure can be shown with its formula.
 *
 * A request brings a context (tokens that were computed before, for an earlier request), adds new
 * prompt tokens and is answered. With a miss its context is computed again; with a hit in the store
 * it is loaded, and the GPU is taken to wait for it (pessimistic: engines load while others
 * compute). The store turns into hits what it keeps; hits that the engine has already in its own
 * memory stay what they are.
 */
#ifndef CMD_COST_MODEL_H
#define CMD_COST_MODEL_H

#include "model.h"

struct cost_input {
	const struct model *model;
	double gpus;
	double gpu_price; /* dollars an hour */
	double busy;      /* share of the time in which the GPUs compute */
	double batch;     /* requests that a GPU answers at once */
	double context_tokens;
	double context_bytes;   /* of KV cache; 0: bytes_per_token times tokens */
	double bytes_per_token; /* 0: the model's */
	double session_tokens;  /* new prompt tokens of a request */
	double answer_tokens;
	double prefill_s; /* to compute a context; 0: the model's curve */
	double miss_rate; /* requests whose context must be computed again, today */
	double store_miss_rate;
	double load_rate;   /* bytes per second */
	double contexts;    /* that the store keeps */
	double store_price; /* dollars per TB */
	double store_years; /* over which it is written off */
	double watts;       /* of the store */
	double power_price; /* dollars per kWh */
};

/* Steps, in the order in which they are computed and printed. */
enum cost_step {
#define STEP(id, name, unit, formula) COST_##id,
#include "cost_steps.def"
#undef STEP
	COST_STEPS,
};

struct cost_row {
	const char *name;
	const char *unit; /* "$": dollars */
	const char *formula;
};

extern const struct cost_row cost_rows[COST_STEPS];

struct cost {
	double value[COST_STEPS];
	char numbers[COST_STEPS][160]; /* the formula with its numbers */
};

/* NULL, or which input makes no sense. */
const char *cost_check(const struct cost_input *input);

/* input was checked. PAYBACK is infinite when nothing is saved. */
void cost_compute(const struct cost_input *input, struct cost *cost_out);

#endif
