/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Floors: what the bare machine does with the same work, measured beside each row of `ctxkv bench`.
 * Each walks the blocks of a working set in the given order until duration_ns has passed (at least
 * once through one block) and says how many bytes it moved in how long. They block; threads and
 * sockets they make are gone when they return.
 */
#ifndef CMD_FLOOR_H
#define CMD_FLOOR_H

#include "histogram.h"

/* Blocks of one size in two memories, both touched by the caller. */
struct floor_walk {
	char *source;
	char *target;
	uint64_t block_size;
	uint64_t stride; /* from block to block in either memory */
	uint64_t block_count;
	const uint32_t *order; /* block_count indexes: which block comes when */
	bool is_scattered; /* floor_drive reads at random places of the file, not front to back */
};

struct floor_result {
	uint64_t bytes;
	uint64_t operations; /* blocks, exchanges */
	uint64_t ns;
	uint64_t cpu_ns;          /* of this process meanwhile, in all its threads */
	struct histogram latency; /* of single ones, where they can be told apart; else empty */
};

/* One thread copies block after block. latency: of one copy a MiB, so that timing costs nothing. */
int floor_memcpy(const struct floor_walk *walk, uint64_t duration_ns,
		 struct floor_result *result_out) MUST_USE;

/*
 * One thread sends, one receives, over `connections` bare loopback TCP connections: blocks in
 * pieces of at most 1 MiB, dealt out over the connections, each received by exact size into its
 * place.
 */
int floor_socket(const struct floor_walk *walk, uint32_t connections, uint64_t duration_ns,
		 struct floor_result *result_out) MUST_USE;

#define FLOOR_MESSAGE_MAX (64 * KiB)

/* What goes there and back over a bare loopback connection for one operation. */
struct floor_exchange {
	uint32_t request_size; /* a message of so many bytes, 1 to FLOOR_MESSAGE_MAX, is answered */
	uint32_t head_size;    /* by one of so many, 1 to FLOOR_MESSAGE_MAX, */
	bool is_block;         /* and behind it the next block of the walk, into its place */
	bool is_awake;         /* neither side ever sleeps: each looks until there is something */
};

/* One exchange at a time between two threads. */
int floor_pingpong(const struct floor_walk *walk, const struct floor_exchange *exchange,
		   uint64_t duration_ns, struct floor_result *result_out) MUST_USE;

/*
 * O_DIRECT reads or writes of whole strides at queue depth, by io_uring, into target or from
 * source. The n-th block of the walk lies at n * stride of the file, as a log would have it (reads
 * of a scattered walk: anywhere in the file); the file is as large as at least one. Writes: after
 * every `flush_every` blocks an fdatasync (0: none) that the result waits for. -EINVAL: the file
 * system has no direct I/O; -EPERM, -ENOSYS: no io_uring here.
 */
int floor_drive(const char *path, const struct floor_walk *walk, uint32_t depth, bool is_write,
		uint32_t flush_every, uint64_t duration_ns,
		struct floor_result *result_out) MUST_USE;

#endif
