/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench: put, get and probe through the real client, each beside what the bare machine does.
 *
 * A cell is an operation and a block size. Its working set is two memories (what puts send, where
 * gets land), divided over the clients; each client walks its blocks in a shuffled order with
 * `batch` operations in flight, each of one block. Puts use keys never used before; gets, keys that
 * were put just before; a probe or lease asks for PROBE_KEYS keys, every other one present; mixed
 * are gets while a writer (bench_writer.c) puts at a steady rate. A cell is
 * measured in rounds; before and after it in turn (ABBA) its floors walk the same memory in the
 * same order. Samples of what gets brought are checked after the round.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../base/text.h"
#include "bench.h"
#include "bench_writer.h"
#include "clock.h"
#include "cmd.h"
#include "content.h"
#include "floor.h"

#define PROBE_KEYS      256
#define LEASE_MS        1 /* that leases of the last operations do not fill the tables */
#define WORKING_SET_MAX GiB
#define SIZES_MAX       32
#define CHECK_EVERY     7
#define FLUSH_EVERY                                                                                \
	8 /* blocks of put-durable that the floor's fdatasync covers: as many as                   \
	     are in flight */

struct cell {
	const struct options *options;
	struct ctxkv_ns ns;
	enum bench_kind kind;
	struct floor_walk walk; /* all clients' blocks */
	uint64_t run;           /* of this process: makes keys new */
	uint64_t pass;          /* likewise, of each walk through the working set */
	uint64_t until_ns;
};

/* One operation in flight. */
struct slot {
	struct ctxkv_op op;
	struct ctxkv_item *items;
	struct ctxkv_iov iov;
	uint64_t begin_ns;
	bool is_busy;
};

struct client_run {
	struct cell *cell;
	struct ctxkv_client *client;
	struct slot *slots;
	pthread_t thread;
	uint64_t first; /* its blocks: order[first, first + count) */
	uint64_t count;
	uint64_t next; /* blocks begun in this measurement */
	uint64_t pass;
	uint64_t only; /* so many blocks, however long it takes; 0: until the time is up */
	uint64_t done;
	uint64_t failures;
	struct histogram latency;
};

/* --- one client --- */

static void slot_fill(struct client_run *run, struct slot *slot)
{
	const struct cell *cell = run->cell;
	uint32_t block = cell->walk.order[run->first + run->next % run->count];
	uint64_t pass = run->pass + (cell->kind == BENCH_GET ? 0 : run->next / run->count);
	char *memory = cell->kind == BENCH_GET ? cell->walk.target : cell->walk.source;

	slot->op = (struct ctxkv_op) { .ns = cell->ns, .items = slot->items, .item_count = 1 };
	slot->items[0] = (struct ctxkv_item) { .key = content_key(cell->run + pass, block) };
	if (bench_is_lookup(cell->kind)) {
		slot->op.opcode = cell->kind == BENCH_PROBE ? CTXKV_OP_PROBE : CTXKV_OP_LEASE;
		slot->op.flags = cell->kind == BENCH_LEASE ? CTXKV_ALL : 0;
		slot->op.duration_ms = cell->kind == BENCH_LEASE ? LEASE_MS : 0;
		slot->op.item_count = PROBE_KEYS;
		for (uint64_t i = 0; i < PROBE_KEYS; i++)
			slot->items[i] = (struct ctxkv_item) {
				.key = content_key(cell->run + run->pass + i % 2 * UINT32_MAX,
						   (block + i) % cell->walk.block_count)
			};
		return;
	}
	slot->op.opcode = cell->kind == BENCH_GET ? CTXKV_OP_GET : CTXKV_OP_PUT;
	slot->op.flags = cell->kind == BENCH_PUT_DURABLE ? CTXKV_DURABLE : 0;
	slot->iov =
		(struct ctxkv_iov) { memory + block * cell->walk.stride, cell->walk.block_size };
	slot->items[0].iov = &slot->iov;
	slot->items[0].iov_count = 1;
}

static bool is_over(const struct client_run *run)
{
	if (cmd_is_interrupted())
		return true;
	return run->only > 0 ? run->next >= run->only : clock_ns() >= run->cell->until_ns;
}

static void slots_submit(struct client_run *run)
{
	for (uint64_t i = 0; i < run->cell->options->batch && !is_over(run); i++) {
		struct slot *slot = &run->slots[i];
		struct ctxkv_op *op = &slot->op;

		if (slot->is_busy)
			continue;
		slot_fill(run, slot);
		slot->begin_ns = clock_ns();
		op->user = slot;
		if (ctxkv_submit(run->client, &op, 1) != 1)
			return;
		slot->is_busy = true;
		run->next++;
	}
}

static uint64_t slots_collect(struct client_run *run, uint64_t busy)
{
	struct ctxkv_event events[64];
	int count = ctxkv_poll(run->client, events, ARRAY_LEN(events));

	if (count == 0)
		count = ctxkv_wait(run->client, NS_PER_S) == 1
				? ctxkv_poll(run->client, events, ARRAY_LEN(events))
				: 0;
	for (int i = 0; i < count; i++) {
		struct slot *slot = events[i].op->user;

		if ((events[i].what & CTXKV_RELEASE) == 0)
			continue;
		histogram_add(&run->latency, clock_ns() - slot->begin_ns);
		run->done++;
		run->failures += slot->op.status < 0 || slot->items[0].status < 0;
		slot->is_busy = false;
		busy--;
	}
	return busy;
}

static uint64_t busy_count(const struct client_run *run)
{
	uint64_t busy = 0;

	for (uint64_t i = 0; i < run->cell->options->batch; i++)
		busy += run->slots[i].is_busy;
	return busy;
}

static void *client_main(void *ctx)
{
	struct client_run *run = ctx;
	uint64_t busy;

	do {
		slots_submit(run);
		busy = busy_count(run);
		if (busy > 0)
			busy = slots_collect(run, busy);
	} while (busy > 0 || !is_over(run));
	return NULL;
}

/* --- all clients --- */

struct bench {
	struct options *options;
	struct cell cell;
	struct client_run *runs;
	char *memory;
	uint64_t memory_size;
	uint32_t *order;
	uint64_t block_max;
	uint64_t capacity;
	struct bench_way way;
};

/* Every client through its blocks (duration 0: once each, fill: as many as asked); returns blocks
 * (probe: operations) done, and the time. */
static uint64_t clients_run(struct bench *bench, enum bench_kind kind, uint64_t duration_ns,
			    struct bench_row *row, uint64_t *ns_out)
{
	uint64_t clients = bench->options->clients;
	uint64_t begin = clock_ns();
	uint64_t done = 0;

	bench->cell.kind = kind;
	bench->cell.until_ns = begin + duration_ns;
	for (uint64_t i = 0; i < clients; i++) {
		struct client_run *run = &bench->runs[i];

		run->next = 0;
		run->done = 0;
		run->failures = 0;
		run->only = duration_ns > 0      ? 0
			    : kind == BENCH_FILL ? bench->options->fill / clients
						 : run->count;
		run->pass = bench->cell.pass;
		memset(&run->latency, 0, sizeof(run->latency));
		if (pthread_create(&run->thread, NULL, client_main, run) != 0)
			run->count = 0;
	}
	for (uint64_t i = 0; i < clients; i++) {
		struct client_run *run = &bench->runs[i];

		pthread_join(run->thread, NULL);
		done += run->done;
		bench->cell.pass = MAX(bench->cell.pass, run->pass + run->next / run->count + 1);
		if (row == NULL)
			continue;
		histogram_merge(&row->latency, &run->latency);
		row->operations += run->done;
		row->failures += run->failures;
	}
	*ns_out = clock_ns() - begin;
	return done;
}

/* Put the working set once, with bytes that can be checked, under the keys of the present pass. */
static void working_set_put(struct bench *bench)
{
	const struct floor_walk *walk = &bench->cell.walk;
	uint64_t pass = bench->cell.pass;
	uint64_t ns;

	for (uint64_t i = 0; i < walk->block_count; i++) {
		struct ctxkv_key key = content_key(bench->cell.run + pass, i);

		content_fill(walk->source + i * walk->stride, walk->block_size, &key);
	}
	clients_run(bench, BENCH_PUT, 0, NULL, &ns);
	bench->cell.pass = pass; /* gets ask for these */
}

/* done: gets of this round. Every round begins at the front, so that those behind them may never
 * have been got. */
static void samples_check(const struct bench *bench, struct bench_row *row, uint64_t done)
{
	const struct floor_walk *walk = &bench->cell.walk;

	if (row->failures > 0 || done < walk->block_count)
		return;
	for (uint64_t i = 0; i < walk->block_count; i += CHECK_EVERY) {
		struct ctxkv_key key = content_key(bench->cell.run + bench->cell.pass, i);

		row->wrong +=
			!content_is_right(walk->target + i * walk->stride, walk->block_size, &key);
	}
}

static void floor_note(struct bench_series *series, uint64_t round, int rc,
		       const struct floor_result *result)
{
	series->is_measured = rc == 0 && result->ns > 0;
	series->rates[round] =
		series->is_measured ? (double)result->bytes * 1e9 / (double)result->ns : 0;
}

static void floors_measure(struct bench *bench, struct bench_row *row, uint64_t round,
			   uint64_t duration_ns)
{
	const struct options *options = bench->options;
	const struct floor_walk *walk = &bench->cell.walk;
	struct floor_result result = { 0 };
	bool is_drive = options->floor_file[0] != '\0' &&
			(row->kind == BENCH_GET || row->kind == BENCH_PUT_DURABLE);
	int rc;

	if (!options->floors || bench_is_lookup(row->kind))
		return;
	rc = floor_socket(walk, (uint32_t)(options->lanes * options->clients), duration_ns,
			  &result);
	floor_note(&row->socket, round, rc, &result);
	rc = floor_memcpy(walk, duration_ns / 4 + 1, &result);
	floor_note(&row->memcpy, round, rc, &result);
	if (!is_drive)
		return;
	rc = floor_drive(options->floor_file, walk, (uint32_t)options->batch,
			 row->kind == BENCH_PUT_DURABLE,
			 row->kind == BENCH_PUT_DURABLE ? FLUSH_EVERY : 0, duration_ns, &result);
	if (rc < 0)
		cmd_fail(rc, "%s: %s", options->floor_file, err_str(rc));
	floor_note(&row->drive, round, rc, &result);
}

static void round_measure(struct bench *bench, struct bench_row *row, uint64_t round)
{
	uint64_t duration_ns = bench->options->duration / bench->options->rounds;
	uint64_t unit = bench_is_lookup(row->kind) ? 1 : row->size;
	uint64_t done;
	uint64_t ns;

	if (round % 2 == 0)
		floors_measure(bench, row, round, duration_ns);
	if (row->kind == BENCH_GET || bench_is_lookup(row->kind)) {
		uint64_t pass = bench->cell.pass;

		done = clients_run(bench, row->kind, duration_ns, row, &ns);
		bench->cell.pass = pass;
	} else {
		done = clients_run(bench, row->kind, duration_ns, row, &ns);
	}
	if (row->kind == BENCH_GET)
		samples_check(bench, row, done);
	row->ours.rates[round] = ns > 0 ? (double)(done * unit) * 1e9 / (double)ns : 0;
	if (round % 2 == 1)
		floors_measure(bench, row, round, duration_ns);
}

static void in_order(uint32_t *order, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		order[i] = (uint32_t)i;
}

static void shuffle(uint32_t *order, uint64_t count)
{
	uint64_t state = count;

	in_order(order, count);
	for (uint64_t i = count; i > 1; i--) {
		uint64_t j;
		uint32_t swap;

		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		j = (state >> 33) % i; /* Knuth's MMIX generator: the same walk every time */
		swap = order[i - 1];
		order[i - 1] = order[j];
		order[j] = swap;
	}
}

static void walk_make(struct bench *bench, uint64_t size)
{
	uint64_t stride = round_up(size, PAGE_SIZE);
	uint64_t clients = bench->options->clients;
	uint64_t count = MAX(bench->memory_size / stride, 1);

	count = MAX(count / clients, 1) * clients;
	if (bench->options->sequential)
		in_order(bench->order, count);
	else
		shuffle(bench->order, count);
	bench->cell.walk = (struct floor_walk) {
		.source = bench->memory,
		.target = bench->memory + count * stride,
		.block_size = size,
		.stride = stride,
		.block_count = count,
		.order = bench->order,
	};
	for (uint64_t i = 0; i < clients; i++) {
		bench->runs[i].first = i * (count / clients);
		bench->runs[i].count = count / clients;
	}
}

/* Blocks of the working set under ever new keys, as many as --fill says. */
static void cell_fill(struct bench *bench, uint64_t size)
{
	struct bench_row *row = calloc(1, sizeof(*row));
	uint64_t done;
	uint64_t ns;

	if (row == NULL)
		return;
	row->kind = BENCH_FILL;
	row->size = size;
	row->rounds = 1;
	walk_make(bench, size);
	done = clients_run(bench, BENCH_FILL, 0, row, &ns);
	row->ours.rates[0] = (double)(done * size) * 1e9 / (double)MAX(ns, 1);
	bench_print_row(bench->options, row);
	free(row);
}

static void cell_measure(struct bench *bench, enum bench_kind kind, uint64_t size)
{
	struct bench_row *row = calloc(1, sizeof(*row));
	bool is_mixed = kind == BENCH_MIXED;
	struct bench_writer writer;

	if (row == NULL)
		return;
	kind = is_mixed ? BENCH_GET : kind;
	row->kind = kind;
	row->size = size;
	row->rounds = bench->options->rounds;
	walk_make(bench, size);
	bench->cell.pass++;
	if (kind == BENCH_GET || bench_is_lookup(kind))
		working_set_put(bench);
	if (is_mixed && bench_writer_start(&writer, bench->options, &bench->cell.ns, size) < 0) {
		free(row);
		return;
	}
	for (uint64_t round = 0; round < row->rounds && !cmd_is_interrupted(); round++)
		round_measure(bench, row, round);
	if (is_mixed) {
		row->write_rate = bench_writer_stop(&writer);
		row->failures += writer.failures;
		row->kind = BENCH_MIXED;
	}
	if (!cmd_is_interrupted())
		bench_print_row(bench->options, row);
	free(row);
}

/* --- what to measure --- */

/* The next word of "a,b,c"; NULL at the end. */
static const char *word_next(const char **rest, char *buf, size_t buf_size)
{
	size_t size = strcspn(*rest, ",");

	if (size == 0 || size >= buf_size)
		return NULL;
	memcpy(buf, *rest, size);
	buf[size] = '\0';
	*rest += size + ((*rest)[size] == ',');
	return buf;
}

static int kind_parse(const char *word, enum bench_kind *kind_out)
{
	for (int kind = BENCH_PUT; kind < BENCH_KIND_COUNT; kind++) {
		if (strcmp(word, bench_kind_name((enum bench_kind)kind)) == 0) {
			*kind_out = (enum bench_kind)kind;
			return 0;
		}
	}
	return -EINVAL;
}

static int sizes_parse(const char *text, uint64_t *sizes, uint64_t *count_out)
{
	char word[32];

	*count_out = 0;
	while (*text != '\0' && *count_out < SIZES_MAX) {
		if (word_next(&text, word, sizeof(word)) == NULL ||
		    text_parse_size(word, &sizes[*count_out]) < 0 || sizes[*count_out] == 0 ||
		    sizes[*count_out] > 64 * MiB)
			return -EINVAL;
		(*count_out)++;
	}
	return *count_out > 0 ? 0 : -EINVAL;
}

static int bench_all(struct bench *bench)
{
	const char *ops = bench->options->ops;
	uint64_t sizes[SIZES_MAX];
	uint64_t count;
	char word[32];
	char buf[32];
	enum bench_kind kind;

	if (sizes_parse(bench->options->sizes, sizes, &count) < 0)
		return cmd_fail(-EINVAL, "--sizes takes sizes up to 64MiB such as 64KiB,2MiB");
	bench_print_begin(bench->options, &bench->way);
	while (*ops != '\0') {
		if (word_next(&ops, word, sizeof(word)) == NULL || kind_parse(word, &kind) < 0)
			return cmd_fail(-EINVAL, "--ops takes put, put-durable, get, probe, lease, "
						 "mixed and fill");
		if (kind == BENCH_MIXED && bench->options->write_rate == 0)
			return cmd_fail(-EINVAL, "--ops mixed needs --write-rate, bytes a second");
		for (uint64_t i = 0; i < count && !cmd_is_interrupted(); i++) {
			if (bench_is_lookup(kind) && i > 0)
				break; /* sizes make no difference to it */
			if (kind == BENCH_FILL)
				cell_fill(bench, sizes[i]);
			else if (sizes[i] <= bench->block_max)
				cell_measure(bench, kind, sizes[i]);
			else if (!bench->options->json)
				printf("%-11s %8s larger than this store's largest block\n", word,
				       text_format_size(buf, sizeof(buf), sizes[i]));
		}
	}
	bench_print_end(bench->options);
	return 0;
}

/* --- beginning and end --- */

static int clients_open(struct bench *bench)
{
	struct ctxkv_stat stat = { .size = sizeof(stat) };
	const struct options *options = bench->options;

	for (uint64_t i = 0; i < options->clients; i++) {
		struct client_run *run = &bench->runs[i];

		run->cell = &bench->cell;
		run->client = cmd_client_open(options, (uint32_t)options->lanes);
		run->slots = calloc(options->batch, sizeof(*run->slots));
		if (run->client == NULL || run->slots == NULL)
			return -1;
		for (uint64_t j = 0; j < options->batch; j++) {
			run->slots[j].items = calloc(PROBE_KEYS, sizeof(struct ctxkv_item));
			if (run->slots[j].items == NULL)
				return -1;
		}
	}
	if (ctxkv_get_stat(bench->runs[0].client, &stat) < 0)
		return -1;
	bench->block_max = stat.block_max;
	bench->capacity = stat.capacity;
	snprintf(bench->way.transport, sizeof(bench->way.transport), "%s", stat.transport);
	return 0;
}

/* Huge pages, where there are any, for the floors as for ours; then all of it touched. */
static char *memory_private(uint64_t size)
{
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	(void)madvise(memory, size, MADV_HUGEPAGE);
	memset(memory, 1, size);
	return memory;
}

/* All clients use all of it, so that it is declared with each. It lives as long as the first. */
static int memory_declare(struct bench *bench, uint64_t size)
{
	struct ctxkv_region_info info = { .size = sizeof(info) };
	struct ctxkv_region *region = NULL;
	int rc = 0;

	for (uint64_t i = 0; i < bench->options->clients && rc == 0; i++) {
		struct ctxkv_client *client = bench->runs[i].client;

		region = ctxkv_region_find(client, bench->memory, size);
		if (region == NULL)
			rc = ctxkv_region_declare(client, bench->memory, size, &region);
	}
	if (rc == 0)
		rc = ctxkv_region_get_info(region, &info);
	if (rc < 0)
		return cmd_fail(rc, "the buffers cannot be declared: %s", ctxkv_strerror(rc));
	snprintf(bench->way.served, sizeof(bench->way.served), "%s", info.served);
	return 0;
}

/* Both memories of the largest cell, touched. */
static int memory_take(struct bench *bench)
{
	bool is_shared = strstr(bench->way.transport, "shm") != NULL && !bench->options->private;
	uint64_t size = bench->options->working_set;
	uint64_t whole;

	if (size == 0)
		size = MIN(bench->capacity / 2, WORKING_SET_MAX);
	bench->memory_size = MAX(size, PAGE_SIZE);
	/* A cell has a block of 64 MiB a client at least. */
	whole = 2 * (bench->memory_size + bench->options->clients * 64 * MiB);
	if (is_shared)
		bench->memory = ctxkv_alloc(bench->runs[0].client, whole);
	else
		bench->memory = memory_private(whole);
	bench->order = calloc(whole / PAGE_SIZE, sizeof(*bench->order));
	if (bench->memory == NULL || bench->order == NULL)
		return cmd_fail(-1, "no memory for a working set of %" PRIu64 " bytes", size);
	return memory_declare(bench, whole);
}

static void bench_end(struct bench *bench)
{
	for (uint64_t i = bench->runs != NULL ? bench->options->clients : 0; i-- > 0;) {
		struct client_run *run = &bench->runs[i]; /* the first, with the memory, last */

		ctxkv_close(&run->client);
		for (uint64_t j = 0; run->slots != NULL && j < bench->options->batch; j++)
			free(run->slots[j].items);
		free(run->slots);
	}
	free(bench->runs);
	free(bench->order);
}

int cmd_bench(struct options *options, const struct opt_set *set)
{
	struct bench bench = { .options = options };
	int rc = -1;

	(void)set;
	cmd_catch_signals();
	bench.cell.options = options;
	bench.cell.run = clock_ns() << 16; /* other runs' keys are elsewhere */
	ctxkv_namespace("bench", &bench.cell.ns);
	bench.runs = calloc(options->clients, sizeof(*bench.runs));
	if (bench.runs != NULL && clients_open(&bench) == 0 && memory_take(&bench) == 0)
		rc = bench_all(&bench);
	bench_end(&bench);
	if (cmd_is_interrupted())
		return EXIT_INTERRUPTED;
	return rc < 0 ? EXIT_FAILED : EXIT_DONE;
}
