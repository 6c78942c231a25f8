/* SPDX-License-Identifier: Apache-2.0 */
/* A cell of `bench`: an operation and a block size, measured a round at a time. */
#ifndef CMD_BENCH_CELL_H
#define CMD_BENCH_CELL_H

#include "bench_load.h"

struct bench_cell {
	enum bench_kind kind;
	uint64_t size;
	uint64_t set_pass; /* what gets and lookups ask for */
	uint64_t put_max;  /* blocks of a client in a round; 0: no bound */
	bool *is_there;    /* --shard: which blocks of the set lie there; else NULL */
	struct bench_row row;
};

/* Gets and lookups ask for a working set that is in the store. */
bool bench_needs_set(enum bench_kind kind);
/* Put it, once for all rounds: nothing else that is measured meanwhile may push it out. 0, or -1
 * and the reason is printed. */
int bench_cell_prepare(struct bench_load *load, struct bench_cell *cell) CTXKV_MUST_USE;
void bench_cell_free(struct bench_cell *cell);
/* Ours and the floors, one behind the other; every other round the other way round. */
void bench_cell_round(struct bench_load *load, struct bench_cell *cell, uint64_t round);
/* Blocks of the working set under ever new keys, as many as --fill says: no rounds, no floors. */
int bench_cell_fill(struct bench_load *load, struct bench_cell *cell) CTXKV_MUST_USE;

#endif
