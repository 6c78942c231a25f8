/* SPDX-License-Identifier: Apache-2.0 */
/* A row of `ctxkv bench`: what was measured, and how it is shown. */
#ifndef CMD_BENCH_H
#define CMD_BENCH_H

#include "../tbl/options.h"
#include "histogram.h"

#define BENCH_ROUNDS_MAX 101

enum bench_kind {
	BENCH_PUT,
	BENCH_PUT_DURABLE,
	BENCH_GET,
	BENCH_PROBE,
	BENCH_FILL,
	BENCH_LEASE,
	BENCH_MIXED,
	BENCH_KIND_COUNT
};

/* Many keys in an operation, no bytes: a rate of operations. */
static inline bool bench_is_lookup(enum bench_kind kind)
{
	return kind == BENCH_PROBE || kind == BENCH_LEASE;
}

struct bench_round {
	double rate; /* bytes a second (lookups: operations) */
	uint64_t p50_ns;
	uint64_t p99_ns;
	double cpu_s_per_gib; /* of this process */
	double server_cpu_s_per_gib;
};

/* Of ours, or of a floor: each round, and all of them together. */
struct bench_series {
	struct bench_round rounds[BENCH_ROUNDS_MAX];
	bool is_measured;
	bool has_failed; /* a floor: in some round, so that it is not shown */
	uint64_t bytes;
	uint64_t operations;
	uint64_t cpu_ns;          /* of this process meanwhile */
	struct histogram latency; /* --rate: from when operations were due */
};

struct bench_row {
	enum bench_kind kind;
	uint64_t size;
	uint64_t group; /* the cells with this number were measured in turn, round by round */
	uint64_t rounds;
	uint64_t blocks;   /* of the working set */
	bool is_set_found; /* --keys: an earlier run had put the working set */
	struct bench_series ours;
	struct bench_series socket;
	struct bench_series memcpy;
	struct bench_series drive;
	struct bench_series pingpong; /* one at a time only */
	struct bench_series pingpong_awake;
	uint64_t server_cpu_ns; /* --cpu-of: of that process, while ours was measured */
	uint64_t late_ns;       /* --rate: none began later than so long after it was due */
	uint64_t failures;      /* no answer, or not stored */
	int error;              /* the first of them; 0: none, or it was never begun */
	uint64_t wrong;         /* blocks with other bytes than were put */
	double write_rate;      /* MIXED: bytes a second that were put meanwhile */
};

/* CPU seconds for a GiB; 0: nothing was moved. */
static inline double bench_cpu_s_per_gib(uint64_t cpu_ns, uint64_t bytes)
{
	return bytes > 0 ? (double)cpu_ns / 1e9 / ((double)bytes / (double)GiB) : 0;
}

const char *bench_kind_name(enum bench_kind kind);

/* How the server and the buffers are reached. */
struct bench_way {
	char transport[16];
	char served[64];
};

/* Text: a title line first, then a line a row. JSON: an array, rows between begin and end. way is
 * borrowed until the end. */
void bench_print_begin(const struct options *options, const struct bench_way *way);
void bench_print_row(const struct options *options, const struct bench_row *row);
/* On a terminal: a line on standard error that the next one takes the place of. NULL: takes it
 * away. */
void bench_print_progress(const struct bench_row *row, uint64_t round, uint64_t rounds);
void bench_print_end(const struct options *options);

#endif
