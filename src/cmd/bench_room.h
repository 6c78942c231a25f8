/* SPDX-License-Identifier: Apache-2.0 */
/* What `bench` may write into a store that is in use: nothing that others have put is pushed out.
 */
#ifndef CMD_BENCH_ROOM_H
#define CMD_BENCH_ROOM_H

#include "bench_load.h"

/* Room in the log and in the index; of all reactors together. */
struct bench_room {
	bool is_bounded;    /* else nothing of others is there, or --evict: write on */
	uint64_t held;      /* blocks of others */
	uint64_t forgotten; /* by the server, ever */
	uint64_t segment_size;
	uint64_t segments;
	uint64_t entries;
	uint64_t put_cells;    /* that share what is left when all have their part */
	uint64_t put_segments; /* what all write at least; once checked: what a put cell may add */
	uint64_t put_entries;
};

/* Drop what this run, and any before it with --keep or without an end, has put. 0, or negative and
 * the reason is printed. */
int bench_room_drop(const struct bench_load *load) CTXKV_MUST_USE;
/* Ask the server. 0, or negative and the reason is printed. */
int bench_room_find(const struct bench_load *load, struct bench_room *room_out) CTXKV_MUST_USE;
/* A cell that will be measured takes its part. */
void bench_room_take(struct bench_room *room, const struct bench_load *load, enum bench_kind kind,
		     uint64_t size);
/* All cells have: whether they fit; -ENOSPC: they do not, and that is printed. */
int bench_room_check(struct bench_room *room) CTXKV_MUST_USE;
/* At the end: whether the server has forgotten blocks meanwhile is printed. */
void bench_room_tell(const struct bench_room *room, const struct bench_load *load);
/* Blocks that a client may put in a round of a cell; 0: there is no bound. */
uint64_t bench_room_put_max(const struct bench_room *room, const struct bench_load *load,
			    uint64_t size);

#endif
