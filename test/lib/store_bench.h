/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shard on a fake disk (or in memory) with blocks whose bytes follow from their number, so that a
 * test can say "put 7, lose power, what is 7?" in a line each.
 */
#ifndef TEST_LIB_STORE_BENCH_H
#define TEST_LIB_STORE_BENCH_H

#include "../../src/store/store.h"
#include "env_fake.h"

#define BENCH_PATH "d"

enum bench_block { BENCH_MISS = 0, BENCH_WHOLE = 1, BENCH_WRONG = 2 };

struct store_bench {
	struct env_fake fake;
	struct env *env;
	struct medium *medium;
	struct shard *shard;
	struct shard_opts opts;
	struct shard_memory memory; /* size 0: on a disk */
	uint32_t segment_count;
	uint8_t payer; /* first byte of the payer of puts; 0: 9 */
	/* Reads and puts go by foreign memory in pieces of so many bytes; 0: by their own. */
	uint64_t foreign_piece;
	uint64_t told; /* bytes that the last get from the medium handed on, … */
	bool is_told_right;
};

struct bench_put {
	struct shard_put put;
	char *buf;
	struct iovec iov[64];
	int begin_rc;
	int rc;
	bool is_done;
	bool is_filling; /* told so */
	bool is_released;
};

struct bench_drop {
	struct shard_drop drop;
	bool is_done;
	int rc;
};

/* A medium of so many segments of DISK_SEGMENT_MIN, set up, medium and shard not open. */
void bench_init(struct store_bench *bench, uint64_t seed, uint32_t segment_count);
void bench_init_memory(struct store_bench *bench, uint64_t size, uint64_t segment_room);
void bench_fini(struct store_bench *bench);

int bench_open(struct store_bench *bench);
int bench_close(struct store_bench *bench);
/* Power is lost and comes back; shard and medium are gone. */
void bench_crash(struct store_bench *bench);

void bench_id(uint64_t number, struct store_id *id_out);
void bench_fill(uint64_t number, char *buf, uint64_t offset, uint64_t size);
bool bench_is_filled(uint64_t number, const char *buf, uint64_t offset, uint64_t size);

/* poll() until *flag, or give up after a while: false. */
bool bench_wait(struct store_bench *bench, const bool *flag);

/* A put in steps: begin (begin_rc says), fill and commit; freed when released. */
struct bench_put *bench_put_begin(struct store_bench *bench, uint64_t number, uint32_t size,
				  bool is_durable);
int bench_put_commit(struct store_bench *bench, struct bench_put *put, uint64_t number);
/* Wait for release and free; the result. */
int bench_put_end(struct store_bench *bench, struct bench_put *put);

/* A put in one: its result. Waits for room. */
int bench_put(struct store_bench *bench, uint64_t number, uint32_t size, bool is_durable);

/* Get block number of size: whole and right, or a miss, or anything else. *rc_out may be NULL. */
enum bench_block bench_get(struct store_bench *bench, uint64_t number, uint32_t size, int *rc_out);
enum bench_block bench_get_range(struct store_bench *bench, uint64_t number, uint32_t offset,
				 uint32_t size, bool is_in_order, int *rc_out);
bool bench_has(struct store_bench *bench, uint64_t number);

/* A drop in steps, and in one. */
int bench_drop_begin(struct store_bench *bench, struct bench_drop *drop, uint64_t number,
		     bool is_namespace);
int bench_drop_end(struct store_bench *bench, struct bench_drop *drop);
int bench_drop(struct store_bench *bench, uint64_t number, bool is_namespace);

struct shard_stats bench_stats(const struct store_bench *bench);

#endif
