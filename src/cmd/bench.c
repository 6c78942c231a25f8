/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench: put, get and probe through the real client, each beside what the bare machine does.
 *
 * A cell is an operation and a block size, measured in rounds (bench_cell.c) by clients that walk a
 * working set (bench_load.c). The cells of an operation take turns: each is measured once in a
 * round, forwards and backwards in turn, so that what the machine does meanwhile meets all of them,
 * and they can be compared round by round. They share the memory they walk; the working sets that
 * gets ask for are in the store together, put before the first round. Where the store has no room
 * for all of them, as many cells as it has room for form a group, and the groups come one after the
 * other. So do operations, as puts push out what gets ask for, and sizes of mixed: their writer
 * (bench_writer.c) puts at a steady rate from the first round to the last.
 *
 * All blocks are in a namespace of bench's own, which is dropped at the end; others' are not pushed
 * out, unless that is wanted (bench_room.c).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../base/text.h"
#include "bench_cell.h"
#include "bench_room.h"
#include "bench_writer.h"
#include "cmd.h"
#include "proc_cpu.h"

#define WORKING_SET_MAX GiB
#define SIZES_MAX       32
#define OPS_MAX         16

struct bench {
	struct options *options;
	struct bench_load load;
	uint64_t block_max;
	uint64_t capacity;
	uint64_t groups; /* measured so far */
	struct bench_way way;
	struct bench_room room;
	bool are_sizes_given;
	bool has_failed; /* some operation, or a block had other bytes */
};

/* --- groups of cells --- */

static void group_print(struct bench *bench, struct bench_cell **cells, uint64_t count,
			uint64_t rounds)
{
	bench_print_progress(NULL, 0, 0);
	for (uint64_t i = 0; i < count && rounds > 0; i++) {
		cells[i]->row.kind = cells[i]->kind;
		cells[i]->row.rounds = rounds;
		cells[i]->row.group = bench->groups;
		bench_print_row(bench->options, &cells[i]->row);
		if (cells[i]->row.failures > 0 || cells[i]->row.wrong > 0)
			bench->has_failed = true;
	}
	bench->groups++;
}

/* All rounds; returns how many are whole. */
static uint64_t group_rounds(struct bench *bench, struct bench_cell **cells, uint64_t count)
{
	uint64_t rounds = bench->options->rounds;

	for (uint64_t round = 0; round < rounds; round++) {
		for (uint64_t i = 0; i < count; i++) {
			struct bench_cell *cell = cells[round % 2 == 0 ? i : count - 1 - i];

			if (cmd_is_interrupted())
				return round;
			bench_print_progress(&cell->row, round, rounds);
			bench_cell_round(&bench->load, cell, round);
		}
	}
	return cmd_is_interrupted() ? rounds - 1 : rounds;
}

static int group_measure(struct bench *bench, struct bench_cell **cells, uint64_t count)
{
	bool is_mixed = cells[0]->kind == BENCH_MIXED;
	struct bench_writer writer;
	uint64_t rounds;
	int rc = 0;

	for (uint64_t i = 0; i < count && rc == 0 && !cmd_is_interrupted(); i++)
		rc = bench_cell_prepare(&bench->load, cells[i]);
	if (rc < 0)
		return rc;
	if (is_mixed &&
	    bench_writer_start(&writer, bench->options, &bench->load.ns, cells[0]->size) < 0)
		return -1;
	rounds = group_rounds(bench, cells, count);
	if (is_mixed) {
		cells[0]->row.write_rate = bench_writer_stop(&writer);
		cells[0]->row.failures += writer.failures;
		if (cells[0]->row.error == 0)
			cells[0]->row.error = writer.error;
	}
	group_print(bench, cells, count, rounds);
	return 0;
}

/* How many of the cells, all of one operation, can take turns: what their gets ask for has to stay
 * in the store, with room to spare for its segments. One always can. */
static uint64_t group_count(const struct bench *bench, struct bench_cell **cells, uint64_t count)
{
	uint64_t room = bench->capacity - bench->capacity / 4;
	uint64_t taken = 0;

	if (cells[0]->kind == BENCH_MIXED || cells[0]->kind == BENCH_FILL)
		return 1;
	if (!bench_needs_set(cells[0]->kind))
		return count;
	for (uint64_t i = 0; i < count; i++) {
		taken += bench_load_block_count(&bench->load, cells[i]->size) * cells[i]->size;
		if (i > 0 && taken > room)
			return i;
	}
	return count;
}

static int cells_measure(struct bench *bench, struct bench_cell **cells, uint64_t count)
{
	uint64_t done;
	int rc = 0;

	for (uint64_t i = 0; i < count && rc == 0 && !cmd_is_interrupted(); i += done) {
		done = group_count(bench, cells + i, count - i);
		if (cells[i]->kind != BENCH_FILL) {
			rc = group_measure(bench, cells + i, done);
			continue;
		}
		rc = bench_cell_fill(&bench->load, cells[i]);
		if (rc == 0)
			group_print(bench, cells + i, 1, 1);
	}
	return rc;
}

/* Lookups: one, as sizes make no difference to them. */
static uint64_t sizes_of(enum bench_kind kind, uint64_t size_count)
{
	return bench_is_lookup(kind) ? 1 : size_count;
}

/* Who has asked for it has not got what he asked for. */
static void size_refuse(struct bench *bench, enum bench_kind kind, uint64_t size)
{
	char buf[32];

	text_format_size(buf, sizeof(buf), size);
	if (bench->are_sizes_given) {
		bench->has_failed = true;
		cmd_fail(-CTXKV_ETOO_LARGE, "%s: %s is larger than this store's largest block",
			 bench_kind_name(kind), buf);
	} else if (!bench->options->json) {
		printf("%-11s %8s larger than this store's largest block\n", bench_kind_name(kind),
		       buf);
	}
}

/* A cell for each size that the store takes. */
static int op_measure(struct bench *bench, enum bench_kind kind, const uint64_t *sizes,
		      uint64_t size_count)
{
	struct bench_cell *cells[SIZES_MAX];
	uint64_t count = 0;
	int rc = 0;

	for (uint64_t i = 0; i < sizes_of(kind, size_count) && rc == 0; i++) {
		if (sizes[i] > bench->block_max) {
			size_refuse(bench, kind, sizes[i]);
			continue;
		}
		cells[count] = calloc(1, sizeof(**cells));
		if (cells[count] == NULL) {
			rc = cmd_fail(-ENOMEM, "no memory for a cell's results");
			continue;
		}
		cells[count]->kind = kind;
		cells[count]->put_max = bench_room_put_max(&bench->room, &bench->load, sizes[i]);
		cells[count++]->size = sizes[i];
	}
	if (rc == 0)
		rc = cells_measure(bench, cells, count);
	for (uint64_t i = 0; i < count; i++)
		bench_cell_free(cells[i]);
	return rc;
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

static int kinds_parse(const struct options *options, enum bench_kind *kinds, uint64_t *count_out)
{
	const char *ops = options->ops;
	char word[32];

	for (*count_out = 0; *ops != '\0'; (*count_out)++) {
		if (*count_out == OPS_MAX || word_next(&ops, word, sizeof(word)) == NULL ||
		    kind_parse(word, &kinds[*count_out]) < 0)
			return cmd_fail(-EINVAL, "--ops takes put, put-durable, get, probe, lease, "
						 "mixed and fill");
		if (kinds[*count_out] == BENCH_MIXED && options->write_rate == 0)
			return cmd_fail(-EINVAL, "--ops mixed needs --write-rate, bytes a second");
	}
	return 0;
}

/* 0: what all cells write has room. */
static int room_take(struct bench *bench, const enum bench_kind *kinds, uint64_t kind_count,
		     const uint64_t *sizes, uint64_t size_count)
{
	for (uint64_t i = 0; i < kind_count; i++)
		for (uint64_t j = 0; j < sizes_of(kinds[i], size_count); j++)
			if (sizes[j] <= bench->block_max)
				bench_room_take(&bench->room, &bench->load, kinds[i], sizes[j]);
	return bench_room_check(&bench->room);
}

static int bench_all(struct bench *bench)
{
	enum bench_kind kinds[OPS_MAX];
	uint64_t sizes[SIZES_MAX];
	uint64_t kind_count;
	uint64_t count;
	int rc;

	if (sizes_parse(bench->options->sizes, sizes, &count) < 0)
		return cmd_fail(-EINVAL, "--sizes takes sizes up to 64MiB such as 64KiB,2MiB");
	rc = kinds_parse(bench->options, kinds, &kind_count);
	if (rc == 0)
		rc = room_take(bench, kinds, kind_count, sizes, count);
	if (rc < 0)
		return rc;
	bench_print_begin(bench->options, &bench->way);
	for (uint64_t i = 0; i < kind_count && rc == 0 && !cmd_is_interrupted(); i++)
		rc = op_measure(bench, kinds[i], sizes, count);
	bench_print_end(bench->options);
	return rc;
}

/* --- beginning and end --- */

static int clients_open(struct bench *bench)
{
	struct ctxkv_stat stat = { .size = sizeof(stat) };

	if (bench_load_open(&bench->load, bench->options) < 0 ||
	    ctxkv_get_stat(bench_load_client(&bench->load, 0), &stat) < 0)
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
		struct ctxkv_client *client = bench_load_client(&bench->load, i);

		region = ctxkv_region_find(client, bench->load.memory, size);
		if (region == NULL)
			rc = ctxkv_region_declare(client, bench->load.memory, size, &region);
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
	bench->load.memory_size = MAX(size, PAGE_SIZE);
	/* A cell has a block of 64 MiB a client at least. */
	whole = 2 * (bench->load.memory_size + bench->options->clients * 64 * MiB);
	if (is_shared)
		bench->load.memory = ctxkv_alloc(bench_load_client(&bench->load, 0), whole);
	else
		bench->load.memory = memory_private(whole);
	bench->load.order = calloc(whole / PAGE_SIZE, sizeof(*bench->load.order));
	if (bench->load.memory == NULL || bench->load.order == NULL)
		return cmd_fail(-1, "no memory for a working set of %" PRIu64 " bytes", size);
	return memory_declare(bench, whole);
}

static bool is_given(const struct opt_set *set, const char *name)
{
	return set->is_set[options_find(name, IN_BENCH) - opt_table];
}

static int floors_check(const struct options *options)
{
	static const char *const names[] = { "socket", "memcpy", "drive", "pingpong" };
	const char *rest = options->floor_only;
	char word[32];

	while (*rest != '\0') {
		bool is_known = false;

		if (word_next(&rest, word, sizeof(word)) != NULL)
			for (size_t i = 0; i < ARRAY_LEN(names); i++)
				is_known = is_known || strcmp(word, names[i]) == 0;
		if (!is_known)
			return cmd_fail(-EINVAL,
					"--floor-only takes socket, memcpy, drive and pingpong");
	}
	return 0;
}

/* What does not go together, and who is not there. */
static int options_check(const struct options *options, const struct opt_set *set)
{
	uint64_t ns;

	if (options->cpu_of > 0 && proc_cpu_ns((pid_t)options->cpu_of, &ns) < 0)
		return cmd_fail(-EINVAL, "--cpu-of %" PRIu64 ": there is no such process here",
				options->cpu_of);
	if (options->keys > 0 &&
	    (strstr(options->ops, "put") != NULL || strstr(options->ops, "fill") != NULL))
		return cmd_fail(-EINVAL,
				"--keys is for what finds blocks of an earlier run: put and "
				"fill make new ones");
	if (floors_check(options) < 0)
		return -EINVAL;
	if (options->shard > 0 &&
	    (strcmp(options->ops, "get") != 0 && strcmp(options->ops, "mixed") != 0))
		return cmd_fail(-EINVAL,
				"--shard is for --ops get or mixed: it asks where blocks lie");
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

/* From the first look at the store to the last. */
static int store_measure(struct bench *bench)
{
	/* --keys is to find what earlier runs have put, and to be found. */
	bool is_dropped = !bench->options->keep && bench->options->keys == 0;
	int rc = is_dropped ? bench_room_drop(&bench->load) : 0;

	if (rc == 0)
		rc = bench_room_find(&bench->load, &bench->room);
	if (rc < 0)
		return rc;
	rc = bench_all(bench);
	bench_room_tell(&bench->room, &bench->load);
	if (is_dropped && bench_room_drop(&bench->load) < 0)
		rc = -1;
	return rc;
}

int cmd_bench(struct options *options, const struct opt_set *set)
{
	struct bench bench = { .options = options, .are_sizes_given = is_given(set, "sizes") };
	int rc = -1;

	if (options_check(options, set) < 0)
		return EXIT_USAGE;
	cmd_catch_signals();
	ctxkv_namespace("ctxkv bench", &bench.load.ns);
	if (clients_open(&bench) == 0 && memory_take(&bench) == 0)
		rc = store_measure(&bench);
	bench_load_close(&bench.load);
	if (cmd_is_interrupted())
		return EXIT_INTERRUPTED;
	return rc < 0 || bench.has_failed ? EXIT_FAILED : EXIT_DONE;
}
