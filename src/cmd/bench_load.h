/* SPDX-License-Identifier: Apache-2.0 */
/* The clients of `bench`, and the memory that they walk. */
#ifndef CMD_BENCH_LOAD_H
#define CMD_BENCH_LOAD_H

#include "../../include/ctxkv.h"
#include "bench.h"
#include "floor.h"

#define PROBE_KEYS 256

struct bench_client;

struct bench_load {
	const struct options *options;
	struct ctxkv_ns ns;
	struct bench_client *clients; /* options->clients of them */
	uint64_t run;                 /* of this process: makes keys new */
	uint64_t pass_next;           /* likewise: nothing has been put under this one or a later */
	/* Two memories for the largest working set, and room for the order of its blocks. */
	char *memory;
	uint64_t memory_size; /* of a working set */
	uint32_t *order;
	/* What is measured now. */
	enum bench_kind kind;
	struct floor_walk walk; /* all clients' blocks */
	uint64_t pass;          /* what puts begin with, and gets and lookups ask for */
	uint64_t put_max;       /* blocks that a client puts until the time is up; 0: no bound */
	uint64_t begin_ns;
	uint64_t until_ns;
	bool is_paced;
};

struct bench_load_result {
	struct floor_result moved; /* as of a floor; lookups move no bytes */
	uint64_t failures;
	int error; /* the first of one of the clients */
	uint64_t late_ns;
};

/* Open the clients; 0, or -1 and the reason is printed. bench_load_close() either way. */
int bench_load_open(struct bench_load *load, const struct options *options) CTXKV_MUST_USE;
/* The memory lives as long as the clients. */
void bench_load_close(struct bench_load *load);
struct ctxkv_client *bench_load_client(const struct bench_load *load, uint64_t index);

/* Blocks of a size that fill the working set, each client's share a whole number. */
uint64_t bench_load_block_count(const struct bench_load *load, uint64_t size);
/* From here on blocks of this size are walked: the same way for a size every time. Scattered: in
 * another order than the working set is put. */
void bench_load_walk(struct bench_load *load, uint64_t size, bool is_scattered);

/* Which blocks of the working set that was taken lie in the --shard-th shard of their server: the
 * walk goes through them only, until the next bench_load_walk(). */
int bench_load_find_shard(struct bench_load *load, bool *is_there_out) CTXKV_MUST_USE;
void bench_load_keep(struct bench_load *load, const bool *is_there);

/* Every client through its blocks until the time is up; duration 0: through each once, or as many
 * as --fill says. Puts have keys never used before. */
void bench_load_run(struct bench_load *load, enum bench_kind kind, uint64_t duration_ns,
		    struct bench_load_result *result_out);
/* Put the working set, with bytes that can be checked, unless an earlier run with the same --keys
 * has, which is what it returns: load->pass is what to ask for, result_out what failed. */
bool bench_load_take_set(struct bench_load *load, struct bench_load_result *result_out);
/* Of the blocks that the gets just run have brought, a sample; how many have other bytes than were
 * put. */
uint64_t bench_load_count_wrong(const struct bench_load *load);

#endif
