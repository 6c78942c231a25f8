/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cell of bench. A round walks the working set for a share of the cell's time; before or after it
 * in turn (ABBA) the floors walk the same memory in the same order. The memory is that of all
 * cells, which take turns: nothing of it lasts from one round to the next but the order, which is
 * the same for a size every time. What lasts is in the store, put once: the blocks that gets and
 * lookups ask for. Samples of what gets brought are checked after the round.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench_cell.h"
#include "cmd.h"
#include "proc_cpu.h"

#include "../wire/wire.h"

#define FLUSH_EVERY                                                                                \
	8 /* blocks of put-durable that the floor's fdatasync covers: as many as                   \
	     are in flight */

bool bench_needs_set(enum bench_kind kind)
{
	return kind == BENCH_GET || kind == BENCH_MIXED || bench_is_lookup(kind);
}

/* A round of ours or of a floor. */
static void series_note(struct bench_series *series, uint64_t round, bool is_lookup,
			const struct floor_result *result)
{
	uint64_t units = is_lookup ? result->operations : result->bytes;

	series->is_measured = true;
	series->rounds[round] = (struct bench_round) {
		.rate = result->ns > 0 ? (double)units * 1e9 / (double)result->ns : 0,
		.p50_ns = histogram_percentile(&result->latency, 0.5),
		.p99_ns = histogram_percentile(&result->latency, 0.99),
		.cpu_s_per_gib = bench_cpu_s_per_gib(result->cpu_ns, result->bytes),
	};
	series->bytes += result->bytes;
	series->operations += result->operations;
	series->cpu_ns += result->cpu_ns;
	histogram_merge(&series->latency, &result->latency);
}

/* A floor that fails once is not measured from then on. */
static void floor_note(struct bench_series *series, uint64_t round, bool is_lookup, int rc,
		       const struct floor_result *result)
{
	if (series->has_failed)
		return;
	if (rc == 0 && result->ns > 0)
		series_note(series, round, is_lookup, result);
	else
		*series = (struct bench_series) { .has_failed = true };
}

/* --floor-only, where it is given, names it. */
static bool is_wanted(const struct options *options, const char *floor)
{
	return options->floor_only[0] == '\0' || strstr(options->floor_only, floor) != NULL;
}

/* Where one is in flight at a time: the same bytes there and back, without a store behind. What
 * sleeps in between shows what a wake-up costs here. */
static void pingpongs_measure(const struct bench_load *load, struct bench_row *row, uint64_t round,
			      uint64_t duration_ns)
{
	bool is_lookup = bench_is_lookup(row->kind);
	struct floor_exchange exchange = {
		.request_size = sizeof(struct wire_header) + sizeof(struct wire_request) +
				(is_lookup ? PROBE_KEYS * sizeof(struct wire_key)
					   : sizeof(struct wire_get) + sizeof(struct wire_seg)),
		.head_size = sizeof(struct wire_header) +
			     (is_lookup ? sizeof(struct wire_bitmap) + PROBE_KEYS / 8
					: sizeof(struct wire_result)),
		.is_block = !is_lookup,
	};
	struct floor_result result;
	int rc;

	if (load->options->batch > 1 || load->options->clients > 1 ||
	    !is_wanted(load->options, "pingpong"))
		return;
	for (int awake = 0; awake <= 1; awake++) {
		exchange.is_awake = awake > 0;
		rc = floor_pingpong(&load->walk, &exchange, duration_ns / 2 + 1, &result);
		floor_note(awake > 0 ? &row->pingpong_awake : &row->pingpong, round, is_lookup, rc,
			   &result);
	}
}

static void drive_measure(const struct bench_load *load, struct bench_row *row, uint64_t round,
			  uint64_t duration_ns)
{
	const struct options *options = load->options;
	bool is_write = row->kind == BENCH_PUT_DURABLE;
	struct floor_result result;
	int rc;

	if (options->floor_file[0] == '\0' || (row->kind != BENCH_GET && !is_write) ||
	    row->drive.has_failed || !is_wanted(options, "drive"))
		return;
	rc = floor_drive(options->floor_file, &load->walk, (uint32_t)options->batch, is_write,
			 is_write ? FLUSH_EVERY : 0, duration_ns, &result);
	if (rc < 0)
		cmd_fail(rc, "%s: %s", options->floor_file, err_str(rc));
	floor_note(&row->drive, round, false, rc, &result);
}

/* From one memory into the other. */
static void memories_measure(const struct bench_load *load, struct bench_row *row, uint64_t round,
			     uint64_t duration_ns)
{
	const struct options *options = load->options;
	struct floor_result result;
	int rc;

	if (is_wanted(options, "socket")) {
		rc = floor_socket(&load->walk, (uint32_t)(options->lanes * options->clients),
				  duration_ns, &result);
		floor_note(&row->socket, round, false, rc, &result);
	}
	if (is_wanted(options, "memcpy")) {
		rc = floor_memcpy(&load->walk, duration_ns / 4 + 1, &result);
		floor_note(&row->memcpy, round, false, rc, &result);
	}
}

static void floors_measure(const struct bench_load *load, struct bench_row *row, uint64_t round,
			   uint64_t duration_ns)
{
	const struct options *options = load->options;

	if (!options->floors || options->rate > 0)
		return;
	if (row->kind == BENCH_GET || bench_is_lookup(row->kind))
		pingpongs_measure(load, row, round, duration_ns);
	if (bench_is_lookup(row->kind))
		return;
	memories_measure(load, row, round, duration_ns);
	drive_measure(load, row, round, duration_ns);
}

/* CPU time so far of the process that --cpu-of names; gone: 0. */
static uint64_t server_cpu_ns(const struct options *options)
{
	uint64_t ns = 0;

	if (options->cpu_of > 0 && proc_cpu_ns((pid_t)options->cpu_of, &ns) < 0)
		return 0;
	return ns;
}

static void failures_note(struct bench_row *row, const struct bench_load_result *result)
{
	row->failures += result->failures;
	if (row->error == 0)
		row->error = result->error;
}

static void ours_measure(struct bench_load *load, struct bench_row *row, uint64_t round,
			 uint64_t duration_ns)
{
	struct bench_load_result result;
	uint64_t begin_ns = server_cpu_ns(load->options);
	uint64_t end_ns;

	bench_load_run(load, row->kind, duration_ns, &result);
	end_ns = server_cpu_ns(load->options);
	series_note(&row->ours, round, bench_is_lookup(row->kind), &result.moved);
	if (end_ns > begin_ns) {
		row->server_cpu_ns += end_ns - begin_ns;
		row->ours.rounds[round].server_cpu_s_per_gib =
			bench_cpu_s_per_gib(end_ns - begin_ns, result.moved.bytes);
	}
	failures_note(row, &result);
	row->late_ns = MAX(row->late_ns, result.late_ns);
	if (row->kind == BENCH_GET)
		row->wrong += bench_load_count_wrong(load);
}

void bench_cell_round(struct bench_load *load, struct bench_cell *cell, uint64_t round)
{
	uint64_t duration_ns = load->options->duration / load->options->rounds;

	bench_load_walk(load, cell->size, load->options->random && bench_needs_set(cell->kind));
	if (cell->is_there != NULL)
		bench_load_keep(load, cell->is_there);
	cell->row.blocks = load->walk.block_count;
	load->pass = cell->set_pass;
	load->put_max = cell->put_max;
	if (round % 2 == 0)
		floors_measure(load, &cell->row, round, duration_ns);
	ours_measure(load, &cell->row, round, duration_ns);
	if (round % 2 == 1)
		floors_measure(load, &cell->row, round, duration_ns);
}

int bench_cell_prepare(struct bench_load *load, struct bench_cell *cell)
{
	struct bench_load_result result = { 0 };

	/* What is measured of mixed are the gets. */
	cell->row.kind = cell->kind == BENCH_MIXED ? BENCH_GET : cell->kind;
	cell->row.size = cell->size;
	bench_load_walk(load, cell->size, false);
	if (bench_needs_set(cell->kind))
		cell->row.is_set_found = bench_load_take_set(load, &result);
	failures_note(&cell->row, &result);
	cell->set_pass = load->pass;
	if (load->options->shard == 0)
		return 0;
	cell->is_there = calloc(load->walk.block_count, sizeof(*cell->is_there));
	if (cell->is_there == NULL)
		return cmd_fail(-ENOMEM, "no memory for a cell's blocks");
	return bench_load_find_shard(load, cell->is_there);
}

void bench_cell_free(struct bench_cell *cell)
{
	free(cell->is_there);
	free(cell);
}

int bench_cell_fill(struct bench_load *load, struct bench_cell *cell)
{
	struct bench_load_result result;

	int rc = bench_cell_prepare(load, cell);

	if (rc < 0)
		return rc;
	bench_load_run(load, BENCH_FILL, 0, &result);
	series_note(&cell->row.ours, 0, false, &result.moved);
	failures_note(&cell->row, &result);
	cell->row.rounds = 1;
	return 0;
}
