/* SPDX-License-Identifier: Apache-2.0 */
/* cost: what recomputing context costs a year and what a store saves, each step shown. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "cmd.h"
#include "cost_model.h"

/* Where the defaults come from. */
static const char sources[] =
	"Where the numbers come from (each is an option; 'ctxkv help cost'):\n"
	"  compute       a and b: Llama-3.1-70B in bf16 on one H200, measured at 8K to 64K "
	"tokens;\n"
	"                other models scaled by active parameters and attention "
	"(src/cmd/model.h).\n"
	"                --prefill takes your own measurement\n"
	"  answer        weights of 2 bytes a parameter, read once a step for the whole batch, "
	"and\n"
	"                each context, at 4.8 TB/s (data sheet of the H200)\n"
	"  KV cache      from the model's published configuration: 320 KiB a token for 70B, so "
	"128K\n"
	"                tokens are 40 GiB; --context-size takes another\n"
	"  GPU price     3 dollars an hour: the middle of 2 to 4, what H100 and H200 rent for\n"
	"  busy, batch, miss rates, tokens, contexts, watts, price of store and power: "
	"assumptions;\n"
	"                put in your own ('ctxkv replay' measures miss rates on a trace)\n"
	"  load          the GPU is taken to wait while a context is loaded: pessimistic. What "
	"the\n"
	"                store delivers at once must be within its drives and network: check it\n"
	"                with 'ctxkv bench'\n";

static struct cost_input input_of(const struct options *options)
{
	return (struct cost_input) {
		.model = &model_table[options->model],
		.gpus = (double)options->gpus,
		.gpu_price = (double)options->gpu_price / 100,
		.busy = (double)options->busy / 100,
		.batch = (double)options->gpu_batch,
		.context_tokens = (double)options->context_tokens,
		.context_bytes = (double)options->context_size,
		.bytes_per_token = (double)options->bytes_per_token,
		.session_tokens = (double)options->session_tokens,
		.answer_tokens = (double)options->answer_tokens,
		.prefill_s = (double)options->prefill / (double)NS_PER_S,
		.miss_rate = (double)options->miss_rate / 100,
		.store_miss_rate = (double)options->store_miss_rate / 100,
		.load_rate = (double)options->load_rate,
		.contexts = (double)options->contexts,
		.store_price = (double)options->store_price,
		.store_years = (double)options->store_years,
		.watts = (double)options->watts,
		.power_price = (double)options->power_price / 100,
	};
}

/* As many digits as mean something. */
static const char *value_format(char *buf, size_t buf_size, double value, const char *unit)
{
	int digits = fabs(value) >= 1000 ? 0 : fabs(value) >= 10 ? 1 : 2;

	if (isinf(value))
		snprintf(buf, buf_size, "never");
	else if (unit[0] == '$' && fabs(value) >= 1e6)
		snprintf(buf, buf_size, "%.2f million dollars", value / 1e6);
	else if (unit[0] == '$')
		snprintf(buf, buf_size, "%.*f dollars", fabs(value) >= 1000 ? 0 : 2, value);
	else
		snprintf(buf, buf_size, "%.*f %s", digits, value, unit);
	return buf;
}

static void print_text(const struct cost_input *input, const struct cost *cost)
{
	char value[64];

	printf("%.0f GPUs at %.2f dollars an hour, %s, contexts of %.0f tokens\n\n", input->gpus,
	       input->gpu_price, input->model->name, input->context_tokens);
	for (size_t i = 0; i < COST_STEPS; i++) {
		value_format(value, sizeof(value), cost->value[i], cost_rows[i].unit);
		printf("%-27s %20s   %s\n%-51s= %s\n", cost_rows[i].name, value,
		       cost_rows[i].formula, "", cost->numbers[i]);
	}
	value_format(value, sizeof(value), cost->value[COST_TAX], "$");
	printf("\nRecomputing costs %s a year. ", value);
	value_format(value, sizeof(value), cost->value[COST_NET], "$");
	printf("The store saves %s of it, all its costs paid", value);
	value_format(value, sizeof(value), cost->value[COST_PAYBACK], "days");
	printf("; it has paid for itself after: %s.\n\n%s", value, sources);
}

static void print_json(const struct cost_input *input, const struct cost *cost)
{
	json_t *steps = json_array();
	json_t *all = json_pack("{s:f, s:f, s:s, s:f, s:f, s:f, s:f, s:f}", "gpus", input->gpus,
				"gpu_price", input->gpu_price, "model", input->model->name,
				"context_tokens", input->context_tokens, "busy", input->busy,
				"miss_rate", input->miss_rate, "store_miss_rate",
				input->store_miss_rate, "recompute_tax", cost->value[COST_TAX]);

	for (size_t i = 0; i < COST_STEPS; i++)
		json_array_append_new(
			steps,
			json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", cost_rows[i].name, "unit",
				  cost_rows[i].unit, "formula", cost_rows[i].formula, "numbers",
				  cost->numbers[i], "value",
				  isinf(cost->value[i]) ? json_null() : json_real(cost->value[i])));
	json_object_set_new(all, "steps", steps);
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

int cmd_cost(struct options *options, const struct opt_set *set)
{
	struct cost_input input = input_of(options);
	const char *wrong = cost_check(&input);
	struct cost cost;

	(void)set;
	if (wrong != NULL)
		return cmd_fail(EXIT_USAGE, "%s", wrong);
	cost_compute(&input, &cost);
	if (options->json)
		print_json(&input, &cost);
	else
		print_text(&input, &cost);
	return EXIT_DONE;
}
