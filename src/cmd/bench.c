/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench: put, get and probe through the real client, each beside what the bare machine does.
 *
 * A cell is an operation and a block size. Its working set is two memories (what puts send, where
 * gets land), divided over the clients; each client walks its blocks in a shuffled order with
 * `batch` operations in flight, each of one block. Puts use keys never used before; gets, keys that
 * were put just before; a probe or lease asks for PROBE_KEYS keys, every other one present; mixed
 * are gets while a writer (bench_writer.c) puts at a steady rate. With --rate operations begin when
 * they are due (pace.h), so many in flight as that takes. A cell is
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
#include "../wire/wire.h"
#include "bench.h"
#include "bench_writer.h"
#include "clock.h"
#include "cmd.h"
#include "content.h"
#include "floor.h"
#include "pace.h"
#include "proc_cpu.h"

#define PROBE_KEYS      256
#define LEASE_MS        1 /* that leases of the last operations do not fill the tables */
#define WORKING_SET_MAX GiB
#define SIZES_MAX       32
#define CHECK_EVERY     7
#define PACED_MAX       1024 /* in flight of a client with --rate; what is due then waits, and counts */
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
	uint64_t begin_ns;
	uint64_t until_ns;
	bool is_paced;
};

/* One operation in flight. */
struct slot {
	struct ctxkv_op op;
	struct ctxkv_item *items;
	struct ctxkv_iov iov;
	uint64_t begin_ns; /* or when it was due */
};

struct client_run {
	struct cell *cell;
	struct ctxkv_client *client;
	struct slot *slots;
	struct slot **idle; /* those that are not in flight */
	uint64_t slot_count;
	uint64_t idle_count;
	struct pace pace;
	pthread_t thread;
	uint64_t first; /* its blocks: order[first, first + count) */
	uint64_t count;
	uint64_t next; /* blocks begun in this measurement */
	uint64_t pass;
	uint64_t only; /* so many blocks, however long it takes; 0: until the time is up */
	uint64_t done;
	uint64_t failures;
	uint64_t late_ns;
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

/* Operations that are due in a round and have not begun so long after it have failed. */
static uint64_t give_up_ns(const struct cell *cell)
{
	return cell->until_ns + MAX(cell->until_ns - cell->begin_ns, NS_PER_S);
}

static bool is_over(const struct client_run *run)
{
	if (cmd_is_interrupted())
		return true;
	if (run->only > 0)
		return run->next >= run->only;
	if (!run->cell->is_paced)
		return clock_ns() >= run->cell->until_ns;
	return pace_due_ns(&run->pace, run->next) >= run->cell->until_ns ||
	       clock_ns() >= give_up_ns(run->cell);
}

/* In an open loop an operation has a time to begin at; else it is now. */
static uint64_t due_ns(const struct client_run *run, uint64_t now_ns)
{
	return run->cell->is_paced ? pace_due_ns(&run->pace, run->next) : now_ns;
}

static void slots_submit(struct client_run *run)
{
	while (run->idle_count > 0 && !is_over(run)) {
		struct slot *slot = run->idle[run->idle_count - 1];
		struct ctxkv_op *op = &slot->op;
		uint64_t now_ns = clock_ns();

		slot->begin_ns = due_ns(run, now_ns);
		if (slot->begin_ns > now_ns)
			return;
		slot_fill(run, slot);
		op->user = slot;
		if (ctxkv_submit(run->client, &op, 1) != 1)
			return;
		run->late_ns = MAX(run->late_ns, now_ns - slot->begin_ns);
		run->idle_count--;
		run->next++;
	}
}

/* Until an operation has ended or the next is due; 1: there are events. */
static int events_wait(const struct client_run *run)
{
	uint64_t ns = NS_PER_S;

	if (run->cell->is_paced && run->idle_count > 0)
		ns = MIN(ns, pace_sleep_ns(&run->pace, run->next, clock_ns()));
	return ns > 0 ? ctxkv_wait(run->client, ns) : 0;
}

static void slots_collect(struct client_run *run)
{
	struct ctxkv_event events[64];
	int count = ctxkv_poll(run->client, events, ARRAY_LEN(events));

	if (count == 0)
		count = events_wait(run) == 1 ? ctxkv_poll(run->client, events, ARRAY_LEN(events))
					      : 0;
	for (int i = 0; i < count; i++) {
		struct slot *slot = events[i].op->user;

		if ((events[i].what & CTXKV_RELEASE) == 0)
			continue;
		histogram_add(&run->latency, clock_ns() - slot->begin_ns);
		run->done++;
		run->failures += slot->op.status < 0 || slot->items[0].status < 0;
		run->idle[run->idle_count++] = slot;
	}
}

/* What was due and never began has failed; it counts with the time that it has waited so far. */
static void overdue_count(struct client_run *run)
{
	uint64_t now_ns = clock_ns();

	for (; pace_due_ns(&run->pace, run->next) < run->cell->until_ns; run->next++) {
		uint64_t late_ns = now_ns - pace_due_ns(&run->pace, run->next);

		histogram_add(&run->latency, late_ns);
		run->late_ns = MAX(run->late_ns, late_ns);
		run->failures++;
	}
}

static void *client_main(void *ctx)
{
	struct client_run *run = ctx;

	do {
		slots_submit(run);
		if (run->idle_count < run->slot_count || run->cell->is_paced)
			slots_collect(run);
	} while (run->idle_count < run->slot_count || !is_over(run));
	if (run->cell->is_paced && !cmd_is_interrupted())
		overdue_count(run);
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
	bench->cell.begin_ns = begin;
	bench->cell.until_ns = begin + duration_ns;
	bench->cell.is_paced = bench->options->rate > 0 && duration_ns > 0;
	for (uint64_t i = 0; i < clients; i++) {
		struct client_run *run = &bench->runs[i];

		run->next = 0;
		run->done = 0;
		run->failures = 0;
		run->late_ns = 0;
		run->pace = (struct pace) { begin + NS_PER_MS, bench->options->rate, i, clients };
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
		row->late_ns = MAX(row->late_ns, run->late_ns);
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

/* units: the bytes, or operations of lookups, that were done. */
static void floor_note(struct bench_series *series, uint64_t round, int rc,
		       const struct floor_result *result, uint64_t units)
{
	series->is_measured = rc == 0 && result->ns > 0;
	series->rates[round] = 0;
	if (!series->is_measured)
		return;
	series->rates[round] = (double)units * 1e9 / (double)result->ns;
	series->bytes += result->bytes;
	series->operations += result->operations;
	series->ns += result->ns;
	series->cpu_ns += result->cpu_ns;
	histogram_merge(&series->latency, &result->latency);
}

/* Where one is in flight at a time: the same bytes there and back, without a store behind. What
 * sleeps in between shows what a wake-up costs here. */
static void pingpongs_measure(struct bench *bench, struct bench_row *row, uint64_t round,
			      uint64_t duration_ns)
{
	bool is_probe = bench_is_lookup(row->kind);
	struct floor_exchange exchange = {
		.request_size = sizeof(struct wire_header) + sizeof(struct wire_request) +
				(is_probe ? PROBE_KEYS * sizeof(struct wire_key)
					  : sizeof(struct wire_get) + sizeof(struct wire_seg)),
		.head_size = sizeof(struct wire_header) +
			     (is_probe ? sizeof(struct wire_bitmap) + PROBE_KEYS / 8
				       : sizeof(struct wire_result)),
		.is_block = !is_probe,
	};
	struct floor_result result;
	int rc;

	if (bench->options->batch > 1 || bench->options->clients > 1)
		return;
	for (int awake = 0; awake <= 1; awake++) {
		exchange.is_awake = awake > 0;
		rc = floor_pingpong(&bench->cell.walk, &exchange, duration_ns / 2 + 1, &result);
		floor_note(awake > 0 ? &row->pingpong_awake : &row->pingpong, round, rc, &result,
			   is_probe ? result.operations : result.bytes);
	}
}

static void floors_measure(struct bench *bench, struct bench_row *row, uint64_t round,
			   uint64_t duration_ns)
{
	const struct options *options = bench->options;
	const struct floor_walk *walk = &bench->cell.walk;
	struct floor_result result;
	bool is_drive = options->floor_file[0] != '\0' &&
			(row->kind == BENCH_GET || row->kind == BENCH_PUT_DURABLE);
	int rc;

	if (!options->floors || options->rate > 0)
		return;
	if (row->kind == BENCH_GET || bench_is_lookup(row->kind))
		pingpongs_measure(bench, row, round, duration_ns);
	if (bench_is_lookup(row->kind))
		return;
	rc = floor_socket(walk, (uint32_t)(options->lanes * options->clients), duration_ns,
			  &result);
	floor_note(&row->socket, round, rc, &result, result.bytes);
	rc = floor_memcpy(walk, duration_ns / 4 + 1, &result);
	floor_note(&row->memcpy, round, rc, &result, result.bytes);
	if (!is_drive)
		return;
	rc = floor_drive(options->floor_file, walk, (uint32_t)options->batch,
			 row->kind == BENCH_PUT_DURABLE,
			 row->kind == BENCH_PUT_DURABLE ? FLUSH_EVERY : 0, duration_ns, &result);
	if (rc < 0)
		cmd_fail(rc, "%s: %s", options->floor_file, err_str(rc));
	floor_note(&row->drive, round, rc, &result, result.bytes);
}

/* CPU time so far: of this process, and of the one that --cpu-of names (gone: 0). */
struct usage {
	uint64_t own_ns;
	uint64_t server_ns;
};

static struct usage usage_now(const struct options *options)
{
	struct usage usage = { .own_ns = proc_cpu_self_ns() };

	if (options->cpu_of > 0 && proc_cpu_ns((pid_t)options->cpu_of, &usage.server_ns) < 0)
		usage.server_ns = 0;
	return usage;
}

static void usage_add(const struct options *options, struct bench_row *row,
		      const struct usage *begin)
{
	struct usage now = usage_now(options);

	row->cpu_ns += now.own_ns - begin->own_ns;
	if (now.server_ns > begin->server_ns)
		row->server_cpu_ns += now.server_ns - begin->server_ns;
}

static void round_measure(struct bench *bench, struct bench_row *row, uint64_t round)
{
	uint64_t duration_ns = bench->options->duration / bench->options->rounds;
	uint64_t unit = bench_is_lookup(row->kind) ? 1 : row->size;
	struct usage begin;
	uint64_t done;
	uint64_t ns;

	if (round % 2 == 0)
		floors_measure(bench, row, round, duration_ns);
	begin = usage_now(bench->options);
	if (row->kind == BENCH_GET || bench_is_lookup(row->kind)) {
		uint64_t pass = bench->cell.pass;

		done = clients_run(bench, row->kind, duration_ns, row, &ns);
		bench->cell.pass = pass;
	} else {
		done = clients_run(bench, row->kind, duration_ns, row, &ns);
	}
	usage_add(bench->options, row, &begin);
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

static int slots_make(struct client_run *run, const struct options *options)
{
	run->slot_count = options->rate > 0 ? PACED_MAX : options->batch;
	run->slots = calloc(run->slot_count, sizeof(*run->slots));
	run->idle = calloc(run->slot_count, sizeof(struct slot *));
	if (run->slots == NULL || run->idle == NULL)
		return -ENOMEM;
	for (; run->idle_count < run->slot_count; run->idle_count++) {
		struct slot *slot = &run->slots[run->idle_count];

		slot->items = calloc(PROBE_KEYS, sizeof(struct ctxkv_item));
		if (slot->items == NULL)
			return -ENOMEM;
		run->idle[run->idle_count] = slot;
	}
	return 0;
}

static int clients_open(struct bench *bench)
{
	struct ctxkv_stat stat = { .size = sizeof(stat) };
	const struct options *options = bench->options;

	for (uint64_t i = 0; i < options->clients; i++) {
		struct client_run *run = &bench->runs[i];

		run->cell = &bench->cell;
		run->client = cmd_client_open(options, (uint32_t)options->lanes);
		if (run->client == NULL || slots_make(run, options) < 0)
			return -1;
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
		for (uint64_t j = 0; run->slots != NULL && j < run->slot_count; j++)
			free(run->slots[j].items);
		free(run->slots);
		free(run->idle);
	}
	free(bench->runs);
	free(bench->order);
}

static bool is_given(const struct opt_set *set, const char *name)
{
	return set->is_set[options_find(name, IN_BENCH) - opt_table];
}

/* What does not go together, and who is not there. */
static int options_check(const struct options *options, const struct opt_set *set)
{
	uint64_t ns;

	if (options->cpu_of > 0 && proc_cpu_ns((pid_t)options->cpu_of, &ns) < 0)
		return cmd_fail(-EINVAL, "--cpu-of %" PRIu64 ": there is no such process here",
				options->cpu_of);
	if (options->rate == 0)
		return 0;
	if (is_given(set, "batch"))
		return cmd_fail(-EINVAL,
				"--rate has as many in flight as it takes: leave out --batch");
	if (options->floor_file[0] != '\0')
		return cmd_fail(-EINVAL,
				"--rate has no floors, which go as fast as they can: leave "
				"out --floor-file");
	if (strstr(options->ops, "fill") != NULL)
		return cmd_fail(-EINVAL,
				"--rate is not for --ops fill, which puts as fast as it can");
	if ((double)options->rate * (double)options->duration / (double)NS_PER_S <
	    (double)(options->rounds * options->clients))
		return cmd_fail(-EINVAL,
				"--rate %" PRIu64 " is less than one operation of each client in a "
				"round: give a longer --duration, or fewer --rounds or --clients",
				options->rate);
	return 0;
}

int cmd_bench(struct options *options, const struct opt_set *set)
{
	struct bench bench = { .options = options };
	int rc = -1;

	if (options_check(options, set) < 0)
		return EXIT_USAGE;
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
