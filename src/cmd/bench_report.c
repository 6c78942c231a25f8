/* SPDX-License-Identifier: Apache-2.0 */
/* Medians, and ratios to the floors taken round by round: both were measured next to each other. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../include/ctxkv.h"
#include "../base/text.h"
#include "bench.h"

static bool is_first_row;
static const struct bench_way *present_way;

const char *bench_kind_name(enum bench_kind kind)
{
	static const char *const names[] = { "put",  "put-durable", "get",  "probe",
					     "fill", "lease",       "mixed" };

	return names[kind];
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return x < y ? -1 : x > y;
}

struct spread {
	double median;
	double min;
	double max;
};

/* Of the rounds' rates, or of what they are to a floor's. */
static struct spread spread_of(const struct bench_row *row, const struct bench_series *series,
			       const struct bench_series *floor)
{
	double sorted[BENCH_ROUNDS_MAX];

	for (uint64_t i = 0; i < row->rounds; i++) {
		sorted[i] = series->rounds[i].rate;
		if (floor != NULL)
			sorted[i] =
				floor->rounds[i].rate > 0 ? sorted[i] / floor->rounds[i].rate : 0;
	}
	qsort(sorted, row->rounds, sizeof(*sorted), compare_double);
	return (struct spread) { sorted[row->rounds / 2], sorted[0], sorted[row->rounds - 1] };
}

/* "  3.21 (0.93; 0.90-0.96)": GiB/s of the floor, and our share of it. */
static void print_floor(const struct bench_row *row, const struct bench_series *floor)
{
	struct spread ratio;

	if (!floor->is_measured) {
		printf("  %24s", "-");
		return;
	}
	ratio = spread_of(row, &row->ours, floor);
	printf("  %6.2f (%.2f; %.2f-%.2f)", spread_of(row, floor, NULL).median / (double)GiB,
	       ratio.median, ratio.min, ratio.max);
}

static void print_latency(const char *name, const struct histogram *latency)
{
	char buf[2][32];

	if (latency->total > 0)
		printf("  %s %s/%s", name,
		       text_format_duration(buf[0], 32, histogram_percentile(latency, 0.5)),
		       text_format_duration(buf[1], 32, histogram_percentile(latency, 0.99)));
}

/* What not every row has: CPU time, latency of floors, percentiles of an open loop. */
static void print_more(const struct options *options, const struct bench_row *row)
{
	uint64_t bytes = row->ours.bytes;
	char buf[3][32];

	if (bytes > 0)
		printf("  CPU s/GiB %.3f", bench_cpu_s_per_gib(row->ours.cpu_ns, bytes));
	if (bytes > 0 && options->cpu_of > 0)
		printf(" + %.3f", bench_cpu_s_per_gib(row->server_cpu_ns, bytes));
	if (bytes > 0 && row->socket.is_measured)
		printf(" (pair %.3f)", bench_cpu_s_per_gib(row->socket.cpu_ns, row->socket.bytes));
	print_latency("ping-pong", &row->pingpong.latency);
	print_latency("awake", &row->pingpong_awake.latency);
	print_latency("drive", &row->drive.latency);
	if (options->rate > 0)
		printf("  p90 %s, p99.9 %s, latest begin %s",
		       text_format_duration(buf[0], 32,
					    histogram_percentile(&row->ours.latency, 0.9)),
		       text_format_duration(buf[1], 32,
					    histogram_percentile(&row->ours.latency, 0.999)),
		       text_format_duration(buf[2], 32, row->late_ns));
}

/* Of the first failure; "": there is none. */
static const char *error_text(const struct bench_row *row)
{
	if (row->failures == 0)
		return "";
	return row->error != 0 ? ctxkv_strerror(row->error) : "not begun in time";
}

static void print_text(const struct options *options, const struct bench_row *row)
{
	double rate = spread_of(row, &row->ours, NULL).median;
	char size[32];
	char buf[32];

	printf("%-11s %8s ", bench_kind_name(row->kind),
	       text_format_size(size, sizeof(size), row->size));
	if (bench_is_lookup(row->kind))
		printf("%9.0f/s", rate);
	else
		printf("%6.2f GiB/s", rate / (double)GiB);
	printf(" %9s", text_format_duration(buf, sizeof(buf),
					    histogram_percentile(&row->ours.latency, 0.5)));
	printf(" %9s", text_format_duration(buf, sizeof(buf),
					    histogram_percentile(&row->ours.latency, 0.99)));
	print_floor(row, &row->socket);
	print_floor(row, &row->memcpy);
	print_floor(row, &row->drive);
	print_more(options, row);
	if (row->failures > 0 || row->wrong > 0)
		printf("  %" PRIu64 " failed%s%s%s, %" PRIu64 " wrong", row->failures,
		       row->failures > 0 ? " (the first: " : "", error_text(row),
		       row->failures > 0 ? ")" : "", row->wrong);
	if (row->kind == BENCH_MIXED)
		printf("  beside %.2f GiB/s written", row->write_rate / (double)GiB);
	putchar('\n');
	fflush(stdout);
}

static void json_latency(json_t *object, const struct histogram *latency)
{
	static const struct {
		const char *name;
		double share;
	} rows[] = {
		{ "p50_ns", 0.5 }, { "p90_ns", 0.9 }, { "p99_ns", 0.99 }, { "p999_ns", 0.999 }
	};

	for (size_t i = 0; latency->total > 0 && i < ARRAY_LEN(rows); i++)
		json_object_set_new(
			object, rows[i].name,
			json_integer((json_int_t)histogram_percentile(latency, rows[i].share)));
}

enum round_field { ROUND_RATE, ROUND_P50, ROUND_P99, ROUND_CPU, ROUND_SERVER_CPU, ROUND_FIELDS };

static double round_value(const struct bench_round *round, enum round_field field)
{
	const double values[] = { round->rate, (double)round->p50_ns, (double)round->p99_ns,
				  round->cpu_s_per_gib, round->server_cpu_s_per_gib };

	return values[field];
}

/* What each round brought, in order, so that cells of a group can be compared round by round. */
static void json_rounds(json_t *object, const struct bench_row *row,
			const struct bench_series *series)
{
	const char *names[] = { bench_is_lookup(row->kind) ? "ops_per_s" : "bytes_per_s", "p50_ns",
				"p99_ns", "cpu_s_per_gib", "server_cpu_s_per_gib" };
	json_t *inner = json_object();

	for (int field = 0; field < ROUND_FIELDS; field++) {
		json_t *values = json_array();
		bool is_there = false;

		for (uint64_t i = 0; i < row->rounds; i++) {
			double value = round_value(&series->rounds[i], (enum round_field)field);

			is_there = is_there || value > 0;
			json_array_append_new(values, json_real(value));
		}
		if (is_there)
			json_object_set(inner, names[field], values);
		json_decref(values);
	}
	json_object_set_new(object, "by_round", inner);
}

static void json_floor(json_t *object, const char *name, const struct bench_row *row,
		       const struct bench_series *floor)
{
	struct spread ratio;
	json_t *inner;

	if (!floor->is_measured)
		return;
	ratio = spread_of(row, &row->ours, floor);
	inner = json_pack("{s:f, s:f, s:f, s:f, s:f}",
			  bench_is_lookup(row->kind) ? "ops_per_s" : "bytes_per_s",
			  spread_of(row, floor, NULL).median, "ratio", ratio.median, "ratio_min",
			  ratio.min, "ratio_max", ratio.max, "cpu_s_per_gib",
			  bench_cpu_s_per_gib(floor->cpu_ns, floor->bytes));
	json_latency(inner, &floor->latency);
	json_rounds(inner, row, floor);
	json_object_set_new(object, name, inner);
}

static void json_cpu(json_t *object, const struct options *options, const struct bench_row *row)
{
	uint64_t bytes = row->ours.bytes;

	if (bytes == 0)
		return;
	json_object_set_new(object, "cpu_s_per_gib",
			    json_real(bench_cpu_s_per_gib(row->ours.cpu_ns, bytes)));
	if (options->cpu_of > 0)
		json_object_set_new(object, "server_cpu_s_per_gib",
				    json_real(bench_cpu_s_per_gib(row->server_cpu_ns, bytes)));
}

static void print_json(const struct options *options, const struct bench_row *row)
{
	struct spread rate = spread_of(row, &row->ours, NULL);
	json_t *object = json_pack(
		"{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:I, s:I, s:I}",
		"op", bench_kind_name(row->kind), "transport", present_way->transport, "served",
		present_way->served, "size", (json_int_t)row->size, "blocks",
		(json_int_t)row->blocks, "clients", (json_int_t)options->clients, "lanes",
		(json_int_t)options->lanes, "batch", (json_int_t)options->batch, "group",
		(json_int_t)row->group, "rounds", (json_int_t)row->rounds,
		bench_is_lookup(row->kind) ? "ops_per_s" : "bytes_per_s", rate.median, "min",
		rate.min, "max", rate.max, "operations", (json_int_t)row->ours.operations,
		"failures", (json_int_t)row->failures, "wrong", (json_int_t)row->wrong);

	if (row->failures > 0)
		json_object_set_new(object, "error", json_string(error_text(row)));
	json_latency(object, &row->ours.latency);
	json_rounds(object, row, &row->ours);
	json_cpu(object, options, row);
	if (options->rate > 0)
		json_object_update_new(object,
				       json_pack("{s:I, s:I}", "rate", (json_int_t)options->rate,
						 "late_ns", (json_int_t)row->late_ns));
	if (options->keys > 0)
		json_object_set_new(object, "set_found", json_boolean(row->is_set_found));
	if (row->kind == BENCH_MIXED)
		json_object_set_new(object, "written_bytes_per_s", json_real(row->write_rate));
	json_floor(object, "socket", row, &row->socket);
	json_floor(object, "memcpy", row, &row->memcpy);
	json_floor(object, "drive", row, &row->drive);
	json_floor(object, "pingpong", row, &row->pingpong);
	json_floor(object, "pingpong_awake", row, &row->pingpong_awake);
	fputs(is_first_row ? "  " : ",\n  ", stdout);
	json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
	json_decref(object);
}

void bench_print_begin(const struct options *options, const struct bench_way *way)
{
	is_first_row = true;
	present_way = way;
	if (options->json) {
		puts("[");
		return;
	}
	printf("transport %s, buffers %s\n", way->transport, way->served);
	printf("%" PRIu64 " clients, %" PRIu64 " lanes each, %" PRIu64 " %s; floors in GiB/s "
	       "(median of our share of it; lowest-highest)\n\n%-11s %8s %12s %9s %9s  %24s  %24s"
	       "  %24s\n",
	       options->clients, options->lanes, options->rate > 0 ? options->rate : options->batch,
	       options->rate > 0 ? "operations begin a second" : "in flight", "op", "size", "rate",
	       "p50", "p99", "socket pair", "memcpy", "bare drive");
}

void bench_print_progress(const struct bench_row *row, uint64_t round, uint64_t rounds)
{
	char size[32];

	if (isatty(STDERR_FILENO) == 0)
		return;
	fputs("\r\033[K", stderr);
	if (row != NULL)
		fprintf(stderr, "%s %s: round %" PRIu64 " of %" PRIu64, bench_kind_name(row->kind),
			text_format_size(size, sizeof(size), row->size), round + 1, rounds);
}

void bench_print_row(const struct options *options, const struct bench_row *row)
{
	if (options->json)
		print_json(options, row);
	else
		print_text(options, row);
	is_first_row = false;
}

void bench_print_end(const struct options *options)
{
	if (options->json)
		puts("\n]");
}
