/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: peers_load BACKEND TARGET RUN BATCH MEMORY
 *
 * BATCH: blocks in flight; of small ones more (BATCH_SMALL).
 * Blocks are numbered; number and RUN give a block's key, the key its content. On standard input:
 *
 *   put SIZE LIMIT_MS FIRST COUNT            blocks FIRST and on
 *   get SIZE LIMIT_MS FIRST SPAN COUNT TURN  COUNT of the SPAN blocks from FIRST, scattered; TURN
 *                                            says where to begin, so that turns differ
 *   probe FIRST SPAN CALLS                   CALLS times 256 keys, every other one of the SPAN
 *                                            blocks from FIRST, the others never put
 *   drop FIRST COUNT                         forget, where the store does not by itself
 *
 * The memory that blocks are put from and got into is MEMORY bytes, touched before the first
 * answer; a walk never needs more. Making content and checking it are outside the clock. The
 * answer counts blocks that were moved, were missing, failed, and were wrong; cpu_ns is this
 * process's, between begin and end.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "../../../src/cmd/clock.h"
#include "load.h"

#define PROBE_KEYS   256
#define CALLS_MAX    100000
#define IN_FLIGHT    (2 * MiB)            /* of small blocks as many as give this … */
#define BATCH_SMALL  32                   /* … but no more; else BATCH */
#define ABSENT       (UINT64_C(1) << 48)  /* numbers from here on are never put */
#define SCATTER_STEP UINT64_C(2654435761) /* a prime, near 2^32 / the golden ratio */

static const struct load_backend *const backends[] = {
	&load_ctxkv,
	&load_files,
	&load_memcached,
	&load_redis,
};

struct load {
	const struct load_backend *backend;
	void *store;
	uint64_t run;
	uint64_t batch;
	char *memory;
	uint64_t memory_size;
	uint64_t limit_ns; /* of the present walk */
	struct load_walk walk;
};

struct answer {
	uint64_t done;
	uint64_t missing;
	uint64_t failed;
	uint64_t wrong;
	uint64_t begin_ns;
	uint64_t end_ns;
	uint64_t cpu_ns;
};

void load_die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

bool load_is_over(const struct load_walk *walk)
{
	return clock_ns() >= walk->until_ns;
}

static uint64_t cpu_ns(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * NS_PER_US;
}

/* --- the walk --- */

static void block_name(struct load *load, struct load_block *block, uint64_t number)
{
	static const char digits[] = "0123456789abcdef";

	block->key = content_key(load->run, number);
	for (size_t i = 0; i < sizeof(block->key.bytes); i++) {
		block->name[2 * i] = digits[block->key.bytes[i] >> 4];
		block->name[2 * i + 1] = digits[block->key.bytes[i] & 15];
	}
	block->name[LOAD_NAME_SIZE - 1] = '\0';
	block->status = LOAD_SKIPPED;
}

/* count blocks of size; their memory may be less than size where none is moved. */
static void walk_make(struct load *load, uint64_t size, uint64_t limit_ms, uint64_t count)
{
	struct load_walk *walk = &load->walk;

	free(walk->blocks);
	walk->blocks = calloc(MAX(count, 1), sizeof(*walk->blocks));
	if (walk->blocks == NULL)
		load_die("no memory for %" PRIu64 " blocks", count);
	walk->count = count;
	walk->size = size;
	walk->batch = MAX(load->batch, MIN(BATCH_SMALL, IN_FLIGHT / MAX(size, 1)));
	load->limit_ns = limit_ms * NS_PER_MS;
	for (uint64_t i = 0; i < count; i++)
		walk->blocks[i].bytes = load->memory + i * size;
}

static uint64_t common_factor(uint64_t a, uint64_t b)
{
	while (b != 0) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* A step by which one comes to each of span numbers once, far from the one before. */
static uint64_t scatter_step(uint64_t span)
{
	uint64_t step = SCATTER_STEP % span;

	while (common_factor(step, span) != 1)
		step++;
	return step;
}

static void answer_print(const struct load *load, const struct answer *answer)
{
	printf("{\"done\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"missing\": %" PRIu64
	       ", \"failed\": %" PRIu64 ", \"wrong\": %" PRIu64 ", \"begin_ns\": %" PRIu64
	       ", \"end_ns\": %" PRIu64 ", \"cpu_ns\": %" PRIu64 "}\n",
	       answer->done, answer->done * load->walk.size, answer->missing, answer->failed,
	       answer->wrong, answer->begin_ns, answer->end_ns, answer->cpu_ns);
}

static void walk_run(struct load *load, void (*move)(void *, const struct load_walk *),
		     struct answer *answer)
{
	uint64_t cpu = cpu_ns();

	answer->begin_ns = clock_ns();
	load->walk.until_ns = answer->begin_ns + load->limit_ns;
	move(load->store, &load->walk);
	answer->end_ns = clock_ns();
	answer->cpu_ns = cpu_ns() - cpu;
	for (uint64_t i = 0; i < load->walk.count; i++) {
		answer->done += load->walk.blocks[i].status == LOAD_OK;
		answer->missing += load->walk.blocks[i].status == LOAD_MISSING;
		answer->failed += load->walk.blocks[i].status == LOAD_FAILED;
	}
}

/* --- commands --- */

static void put(struct load *load, const uint64_t *arguments)
{
	struct answer answer = { 0 };
	struct load_walk *walk = &load->walk;

	walk_make(load, arguments[0], arguments[1], arguments[3]);
	for (uint64_t i = 0; i < walk->count; i++) {
		block_name(load, &walk->blocks[i], arguments[2] + i);
		content_fill(walk->blocks[i].bytes, walk->size, &walk->blocks[i].key);
	}
	walk_run(load, load->backend->put, &answer);
	answer_print(load, &answer);
}

static void get(struct load *load, const uint64_t *arguments)
{
	struct answer answer = { 0 };
	struct load_walk *walk = &load->walk;

	uint64_t span = arguments[3];
	uint64_t step = scatter_step(span);
	uint64_t begin = arguments[5] * (span / 3 + 1);

	walk_make(load, arguments[0], arguments[1], arguments[4]);
	for (uint64_t i = 0; i < walk->count; i++)
		block_name(load, &walk->blocks[i], arguments[2] + (begin + i * step) % span);
	walk_run(load, load->backend->get, &answer);
	for (uint64_t i = 0; i < walk->count; i++)
		answer.wrong +=
			walk->blocks[i].status == LOAD_OK &&
			!content_is_right(walk->blocks[i].bytes, walk->size, &walk->blocks[i].key);
	answer_print(load, &answer);
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return (*x > *y) - (*x < *y);
}

/* Half of the keys were put: what is missing of them is counted; one that was never put and is
 * said to be here is wrong. */
static void probe(struct load *load, const uint64_t *arguments)
{
	uint64_t calls = MIN(MAX(arguments[2], 1), CALLS_MAX);
	uint64_t *took_ns = calloc(calls, sizeof(*took_ns));
	struct answer sum = { 0 };
	struct load_walk *walk = &load->walk;

	if (took_ns == NULL)
		load_die("no memory for %" PRIu64 " calls", calls);
	for (uint64_t call = 0; call < calls; call++) {
		struct answer answer = { 0 };

		walk_make(load, 0, 10000, PROBE_KEYS);
		for (uint64_t i = 0; i < walk->count; i++) {
			uint64_t number = (call * PROBE_KEYS + i / 2) % arguments[1];

			block_name(load, &walk->blocks[i],
				   arguments[0] + number + (i % 2 == 0 ? 0 : ABSENT));
		}
		walk_run(load, load->backend->probe, &answer);
		took_ns[call] = answer.end_ns - answer.begin_ns;
		sum.cpu_ns += answer.cpu_ns;
		for (uint64_t i = 0; i < walk->count; i++) {
			sum.missing += i % 2 == 0 && walk->blocks[i].status == LOAD_MISSING;
			sum.wrong += i % 2 == 1 && walk->blocks[i].status == LOAD_OK;
			sum.failed += walk->blocks[i].status == LOAD_FAILED;
		}
	}
	qsort(took_ns, calls, sizeof(*took_ns), by_value);
	printf("{\"done\": %" PRIu64 ", \"missing\": %" PRIu64 ", \"failed\": %" PRIu64
	       ", \"wrong\": %" PRIu64 ", \"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64
	       ", \"cpu_ns\": %" PRIu64 "}\n",
	       calls, sum.missing, sum.failed, sum.wrong, took_ns[calls / 2],
	       took_ns[calls * 99 / 100], sum.cpu_ns);
	free(took_ns);
}

static void drop(struct load *load, const uint64_t *arguments)
{
	struct answer answer = { 0 };

	walk_make(load, 0, 60000, arguments[1]);
	for (uint64_t i = 0; i < load->walk.count; i++)
		block_name(load, &load->walk.blocks[i], arguments[0] + i);
	if (load->backend->drop != NULL)
		walk_run(load, load->backend->drop, &answer);
	answer_print(load, &answer);
}

static const struct {
	const char *name;
	int arguments;
	void (*run)(struct load *load, const uint64_t *arguments);
} commands[] = {
	{ "put", 4, put },
	{ "get", 6, get },
	{ "probe", 3, probe },
	{ "drop", 2, drop },
};

static void command_run(struct load *load, char *line)
{
	uint64_t arguments[6] = { 0 };
	char *rest = line + strcspn(line, " \n");
	size_t name_size = (size_t)(rest - line);
	int count = 0;

	while (count < 6 && *rest == ' ')
		arguments[count++] = strtoull(rest, &rest, 10);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strlen(commands[i].name) != name_size ||
		    memcmp(line, commands[i].name, name_size) != 0 ||
		    commands[i].arguments != count)
			continue;
		if (count >= 4 && (arguments[0] == 0 || arguments[count == 4 ? 3 : 4] >
								load->memory_size / arguments[0]))
			load_die("more than the memory holds: %s", line);
		if (count != 4 && count != 2 && arguments[count == 3 ? 1 : 3] == 0)
			load_die("a span of no blocks: %s", line);
		commands[i].run(load, arguments);
		fflush(stdout);
		return;
	}
	load_die("not a command: %s", line);
}

static void *memory_map(uint64_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		load_die("no memory: %s", err_str(-errno));
	madvise(memory, size, MADV_HUGEPAGE);
	return memory;
}

int main(int argc, char **argv)
{
	struct load load = { 0 };
	char line[256];

	if (argc != 6)
		load_die("usage: peers_load BACKEND TARGET RUN BATCH MEMORY");
	for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
		if (strcmp(backends[i]->name, argv[1]) == 0)
			load.backend = backends[i];
	}
	load.run = strtoull(argv[3], NULL, 10);
	load.batch = MAX(strtoull(argv[4], NULL, 10), 1);
	load.memory_size = strtoull(argv[5], NULL, 10);
	if (load.backend == NULL || load.memory_size == 0)
		load_die("no back end '%s', or no memory", argv[1]);
	load.store = load.backend->open(argv[2]);
	load.memory = load.backend->memory != NULL
			      ? load.backend->memory(load.store, load.memory_size)
			      : memory_map(load.memory_size);
	memset(load.memory, 1, load.memory_size);
	printf("{\"ready\": true}\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL)
		command_run(&load, line);
	free(load.walk.blocks);
	return 0;
}
