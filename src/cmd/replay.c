/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay: what an engine with the store would have done for a trace of requests.
 *
 * For each request: probe its blocks, get the leading run that is here, check every byte, "compute"
 * the rest (counted by model.c; slept for with --realtime) and put what was missing. Workers (one a
 * request in flight, each with a client of its own) take the requests in the trace's order. A trace
 * block of 512 tokens is `parts` blocks of the store; contents derive from keys (content.c).
 * What was loaded and what was computed is reported as a connector does, about once a second, so
 * that the server's view of the saving is what an engine's would be.
 *
 * Failures are misses: a get that fails ends the run there; a put that fails is counted; a server
 * that is gone makes every request a miss until it is back. Wrong bytes fail the command.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../base/hash.h"
#include "../base/text.h"
#include "clock.h"
#include "cmd.h"
#include "content.h"
#include "replay.h"

#define REPORT_NS NS_PER_S

struct replay {
	struct replay_plan plan;
	struct trace trace;
	struct ctxkv_ns ns;
	struct replay_result result;
	atomic_uint_least64_t
		next; /* request; workers take it by fetch_add, relaxed: only a count */
	pthread_mutex_t journal_lock;
	FILE *journal;
	uint64_t begin_ns;
};

struct worker {
	struct replay *replay;
	struct ctxkv_client *client;
	pthread_t thread;
	bool is_started;
	char *memory;
	uint64_t window; /* blocks that fit memory */
	struct ctxkv_item items[CTXKV_ITEM_MAX];
	struct ctxkv_iov iov[REPLAY_WINDOW_BLOCKS];
	uint8_t *here; /* of the request's blocks */
	uint64_t here_room;
	struct replay_sums sums;
	struct ctxkv_report due; /* not told yet */
	uint64_t reported_ns;
};

static void sleep_until(uint64_t when_ns)
{
	while (clock_ns() < when_ns && !cmd_is_interrupted()) {
		uint64_t left = MIN(when_ns - MIN(when_ns, clock_ns()), 100 * NS_PER_MS);
		struct timespec pause = { 0, (long)left };

		nanosleep(&pause, NULL);
	}
}

/* Name the index-th block of a request. */
static void item_name(const struct worker *worker, const struct trace_request *request,
		      uint64_t index, struct ctxkv_item *item)
{
	const struct replay_plan *plan = &worker->replay->plan;
	const uint32_t *ids = worker->replay->trace.ids + request->first;
	uint64_t run = trace_place_id(index / plan->parts);
	struct hash128 place = hash128(&ids[run], sizeof(ids[run]), 0);

	memset(item, 0, sizeof(*item));
	item->key = content_key(ids[index / plan->parts], index % plan->parts);
	memcpy(item->place, &place, sizeof(item->place));
	item->chain = (uint64_t)ids[0] + 1;
	item->depth = (uint32_t)index;
}

static int op_run(struct worker *worker, uint32_t opcode, uint64_t count, uint64_t *ns_out)
{
	struct ctxkv_op op = { .opcode = opcode,
			       .flags = worker->replay->plan.options->durable ? CTXKV_DURABLE : 0,
			       .ns = worker->replay->ns,
			       .items = worker->items,
			       .item_count = count };
	uint64_t begin = clock_ns();
	int rc;

	if (opcode != CTXKV_OP_PUT)
		op.flags = 0;
	rc = ctxkv_run(worker->client, &op);
	*ns_out += clock_ns() - begin;
	if (rc < 0)
		worker->sums.failed_ops++;
	return rc;
}

/* Point items [0, count) at the worker's memory, one block each. */
static void window_aim(struct worker *worker, uint64_t count)
{
	uint64_t size = worker->replay->plan.block_size;

	for (uint64_t i = 0; i < count; i++) {
		worker->iov[i] =
			(struct ctxkv_iov) { worker->memory + i * round_up(size, PAGE_SIZE), size };
		worker->items[i].iov = &worker->iov[i];
		worker->items[i].iov_count = 1;
	}
}

/* Which blocks are here; the length of the leading run. */
static uint64_t request_probe(struct worker *worker, const struct trace_request *request,
			      uint64_t blocks, uint64_t *ns)
{
	uint64_t run = 0;
	bool is_leading = true;

	for (uint64_t at = 0; at < blocks; at += CTXKV_ITEM_MAX) {
		uint64_t count = MIN(blocks - at, CTXKV_ITEM_MAX);

		for (uint64_t i = 0; i < count; i++)
			item_name(worker, request, at + i, &worker->items[i]);
		if (op_run(worker, CTXKV_OP_PROBE, count, ns) < 0)
			memset(worker->here + at, 0, count);
		else
			for (uint64_t i = 0; i < count; i++)
				worker->here[at + i] = worker->items[i].is_here != 0;
	}
	for (uint64_t i = 0; i < blocks && is_leading; i++) {
		is_leading = worker->here[i] != 0;
		run += is_leading;
	}
	return run;
}

/* Load the run; returns how many blocks of it came, in order, before the first that did not. */
static uint64_t request_load(struct worker *worker, const struct trace_request *request,
			     uint64_t run, uint64_t *ns)
{
	uint64_t size = worker->replay->plan.block_size;

	for (uint64_t at = 0; at < run; at += worker->window) {
		uint64_t count = MIN(run - at, worker->window);

		for (uint64_t i = 0; i < count; i++)
			item_name(worker, request, at + i, &worker->items[i]);
		window_aim(worker, count);
		(void)op_run(worker, CTXKV_OP_GET, count, ns); /* items have their own status */
		for (uint64_t i = 0; i < count; i++) {
			const struct ctxkv_item *item = &worker->items[i];

			if (item->status < 0 || item->done_size != size) {
				worker->sums.lost_blocks++;
				return at + i;
			}
			worker->sums.load_blocks++;
			if (!content_is_right(worker->iov[i].base, size, &item->key))
				worker->sums.wrong_blocks++;
		}
	}
	return run;
}

static void put_count(struct worker *worker, uint64_t count, const uint64_t *indexes,
		      const struct trace_request *request)
{
	struct replay *replay = worker->replay;
	const uint32_t *ids = replay->trace.ids + request->first;

	for (uint64_t i = 0; i < count; i++) {
		const struct ctxkv_item *item = &worker->items[i];

		if (item->status < 0) {
			worker->sums.put_failures++;
			continue;
		}
		worker->sums.put_blocks++;
		if ((item->flags & CTXKV_EXISTED) != 0)
			worker->sums.put_existed++;
		else
			worker->sums.put_bytes += replay->plan.block_size;
		if (replay->journal == NULL || (item->flags & CTXKV_WAS_DURABLE) == 0)
			continue;
		pthread_mutex_lock(&replay->journal_lock);
		fprintf(replay->journal, "%" PRIu32 " %" PRIu64 " %" PRIu64 "\n",
			ids[indexes[i] / replay->plan.parts], indexes[i] % replay->plan.parts,
			replay->plan.block_size);
		fflush(replay->journal);
		pthread_mutex_unlock(&replay->journal_lock);
	}
}

/* Put the blocks behind the run that are not here. */
static void request_store(struct worker *worker, const struct trace_request *request, uint64_t run,
			  uint64_t blocks)
{
	uint64_t size = worker->replay->plan.block_size;
	uint64_t indexes[REPLAY_WINDOW_BLOCKS];
	uint64_t at = run;

	while (at < blocks) {
		uint64_t count = 0;

		for (; at < blocks && count < worker->window; at++) {
			if (at > run && worker->here[at] != 0)
				continue;
			item_name(worker, request, at, &worker->items[count]);
			indexes[count++] = at;
		}
		window_aim(worker, count);
		for (uint64_t i = 0; i < count; i++)
			content_fill(worker->iov[i].base, size, &worker->items[i].key);
		if (count == 0)
			return;
		(void)op_run(worker, CTXKV_OP_PUT, count, &worker->sums.put_ns);
		put_count(worker, count, indexes, request);
	}
}

/* Seconds as they were: of loads as they came, of computing as the model has it. What a server that
 * is gone is not told, the next report tells. */
static void worker_report(struct worker *worker)
{
	struct ctxkv_op op = { .opcode = CTXKV_OP_REPORT,
			       .ns = worker->replay->ns,
			       .report = worker->due };

	worker->reported_ns = clock_ns();
	if (worker->due.tokens_loaded + worker->due.tokens_recomputed == 0)
		return;
	if (ctxkv_run(worker->client, &op) == 0)
		worker->due = (struct ctxkv_report) { 0 };
}

static void report_add(struct worker *worker, const struct replay_sample *sample, double prefill_s)
{
	worker->due.tokens_loaded += sample->hit_tokens;
	worker->due.tokens_recomputed += sample->tokens - sample->hit_tokens;
	worker->due.load_ns += sample->load_ns;
	worker->due.prefill_ns += (uint64_t)(prefill_s * 1e9);
	if (clock_ns() - worker->reported_ns >= REPORT_NS)
		worker_report(worker);
}

static void request_replay(struct worker *worker, uint64_t number)
{
	struct replay *replay = worker->replay;
	const struct replay_plan *plan = &replay->plan;
	const struct trace_request *request = &replay->trace.requests[plan->first + number];
	struct replay_sample *sample = &replay->result.samples[number];
	uint64_t blocks = MIN(request->count * plan->parts, worker->here_room);
	uint64_t speed = plan->options->time_scale;
	double prefill_s;
	uint64_t run;

	if (plan->options->realtime)
		sleep_until(replay->begin_ns + request->timestamp_ms * NS_PER_MS / speed);
	sample->tokens = request->count * TRACE_BLOCK_TOKENS;
	run = request_probe(worker, request, blocks, &sample->load_ns);
	run = request_load(worker, request, run, &sample->load_ns);
	sample->hit_tokens = run * plan->block_tokens;
	sample->load_bytes = run * plan->block_size;
	prefill_s = model_prefill_s(plan->model, sample->hit_tokens, sample->tokens);
	if (plan->options->realtime)
		sleep_until(clock_ns() + (uint64_t)(1e9 / (double)speed * prefill_s));
	report_add(worker, sample, prefill_s);
	request_store(worker, request, run, blocks);
	worker->sums.requests++;
}

static void *worker_main(void *ctx)
{
	struct worker *worker = ctx;
	struct replay *replay = worker->replay;

	while (!cmd_is_interrupted()) {
		uint64_t number = atomic_fetch_add_explicit(&replay->next, 1, memory_order_relaxed);

		if (number >= replay->plan.count)
			break;
		request_replay(worker, number);
		if (!replay->plan.options->json)
			cmd_progress("replay", number + 1, replay->plan.count);
	}
	worker_report(worker);
	return NULL;
}

/* --- beginning and end --- */

static void worker_free(struct worker *worker)
{
	if (worker->client != NULL && worker->memory != NULL)
		ctxkv_free(worker->client, worker->memory);
	ctxkv_close(&worker->client);
	free(worker->here);
}

static int worker_init(struct worker *worker, struct replay *replay)
{
	const struct replay_plan *plan = &replay->plan;
	uint64_t room = round_up(plan->block_size, PAGE_SIZE);

	worker->replay = replay;
	worker->window = MAX(1, MIN(REPLAY_WINDOW_BLOCKS, REPLAY_WINDOW_SIZE / room));
	for (uint64_t r = 0; r < plan->count; r++)
		worker->here_room =
			MAX(worker->here_room,
			    replay->trace.requests[plan->first + r].count * plan->parts);
	worker->here = calloc(1, worker->here_room + 1);
	worker->client = cmd_client_open(plan->options, (uint32_t)plan->options->lanes);
	if (worker->client == NULL || worker->here == NULL)
		return -1;
	worker->memory = ctxkv_alloc(worker->client, worker->window * room);
	return worker->memory != NULL ? 0
				      : cmd_fail(-1, "no memory for %" PRIu64 " blocks of %" PRIu64,
						 worker->window, room);
}

static int workers_run(struct replay *replay)
{
	uint64_t count = replay->plan.options->clients;
	struct worker *workers = calloc(count, sizeof(*workers));
	int rc = workers == NULL ? -1 : 0;

	for (uint64_t i = 0; rc == 0 && i < count; i++)
		rc = worker_init(&workers[i], replay);
	replay->begin_ns = clock_ns();
	for (uint64_t i = 0; rc == 0 && i < count; i++) {
		rc = -pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
		workers[i].is_started = rc == 0;
	}
	for (uint64_t i = 0; workers != NULL && i < count; i++) {
		uint64_t *sum = (uint64_t *)&replay->result.sums;
		const uint64_t *more = (const uint64_t *)&workers[i].sums;

		if (workers[i].is_started)
			pthread_join(workers[i].thread, NULL);
		for (size_t j = 0; j < sizeof(workers[i].sums) / sizeof(*sum); j++)
			sum[j] += more[j];
	}
	replay->result.wall_ns = clock_ns() - replay->begin_ns;
	for (uint64_t i = 0; workers != NULL && i < count; i++)
		worker_free(&workers[i]);
	free(workers);
	return rc;
}

/* Bytes of a block: halve the tokens until the store takes it. */
static int plan_make(struct replay *replay, const struct options *options, uint64_t block_max)
{
	struct replay_plan *plan = &replay->plan;
	char a[32];
	char b[32];

	plan->options = options;
	plan->model = &model_table[options->model];
	plan->bytes_per_token = options->bytes_per_token != 0 ? options->bytes_per_token
							      : plan->model->bytes_per_token;
	plan->block_tokens =
		options->block_tokens != 0 ? options->block_tokens : TRACE_BLOCK_TOKENS;
	while (options->block_tokens == 0 && plan->block_tokens > 1 &&
	       plan->block_tokens * plan->bytes_per_token / options->scale > block_max)
		plan->block_tokens /= 2;
	plan->block_size = MAX(1, plan->block_tokens * plan->bytes_per_token / options->scale);
	if (plan->block_tokens > TRACE_BLOCK_TOKENS || TRACE_BLOCK_TOKENS % plan->block_tokens != 0)
		return cmd_fail(-1, "--block-tokens must divide %d, the tokens of a trace block",
				TRACE_BLOCK_TOKENS);
	if (plan->block_size > block_max)
		return cmd_fail(-1,
				"a block would have %s, the store takes %s: give fewer "
				"--block-tokens or a larger --scale",
				text_format_size(a, sizeof(a), plan->block_size),
				text_format_size(b, sizeof(b), block_max));
	plan->parts = TRACE_BLOCK_TOKENS / plan->block_tokens;
	plan->first = MIN(options->skip, replay->trace.request_count);
	plan->count = replay->trace.request_count - plan->first;
	if (options->requests != 0)
		plan->count = MIN(plan->count, options->requests);
	return 0;
}

static int store_block_max(const struct options *options, uint64_t *block_max_out)
{
	struct ctxkv_stat stat = { .size = sizeof(stat) };
	struct ctxkv_client *client = cmd_client_open(options, 1);
	int rc;

	if (client == NULL)
		return -1;
	rc = ctxkv_get_stat(client, &stat);
	*block_max_out = stat.block_max;
	ctxkv_close(&client);
	return rc;
}

/* What two engines must agree on to share these blocks. */
static void namespace_text(const struct replay *replay, char *buf, size_t buf_size)
{
	snprintf(buf, buf_size, "replay %s %" PRIu64 " tokens %" PRIu64 " bytes",
		 replay->plan.model->name, replay->plan.block_tokens, replay->plan.block_size);
}

static int journal_open(struct replay *replay, const char *path, const char *text)
{
	if (path[0] == '\0')
		return 0;
	replay->journal = fopen(path, "we");
	if (replay->journal == NULL)
		return cmd_fail(-1, "cannot write %s: %s", path, err_str(errno));
	fprintf(replay->journal, "%s\n", text);
	return 0;
}

static int replay_run(struct replay *replay, const struct options *options)
{
	uint64_t block_max = 0;
	char message[256];
	char text[256];

	if (trace_load(options->trace, &replay->trace, message) < 0)
		return cmd_fail(-1, "%s: %s", options->trace, message);
	if (store_block_max(options, &block_max) < 0 || plan_make(replay, options, block_max) < 0)
		return -1;
	namespace_text(replay, text, sizeof(text));
	ctxkv_namespace(text, &replay->ns);
	replay->result.samples = calloc(replay->plan.count + 1, sizeof(*replay->result.samples));
	if (replay->result.samples == NULL)
		return cmd_fail(-1, "no memory");
	if (journal_open(replay, options->journal, text) < 0)
		return -1;
	if (workers_run(replay) < 0)
		return -1;
	replay_report(&replay->plan, &replay->trace, &replay->result);
	return 0;
}

int cmd_replay(struct options *options, const struct opt_set *set)
{
	struct replay replay = { .journal_lock = PTHREAD_MUTEX_INITIALIZER };
	int rc;

	(void)set;
	cmd_catch_signals();
	if (options->audit[0] != '\0')
		return replay_audit(options);
	if (options->trace[0] == '\0')
		return cmd_fail(EXIT_USAGE, "name a trace: ctxkv replay traces/NAME.jsonl.zst");
	rc = replay_run(&replay, options);
	if (replay.journal != NULL)
		fclose(replay.journal);
	free(replay.result.samples);
	trace_free(&replay.trace);
	if (rc < 0 || replay.result.sums.wrong_blocks > 0)
		return EXIT_FAILED;
	return cmd_is_interrupted() ? EXIT_INTERRUPTED : EXIT_DONE;
}
