/* SPDX-License-Identifier: Apache-2.0 */
/* Puts at a steady rate beside what bench measures. */
#ifndef CMD_BENCH_WRITER_H
#define CMD_BENCH_WRITER_H

#include <pthread.h>
#include <stdatomic.h>

#include "../../include/ctxkv.h"
#include "../tbl/options.h"

#define WRITER_BATCH 16

struct bench_writer {
	struct ctxkv_client *client;
	struct ctxkv_ns ns;
	pthread_t thread;
	atomic_bool should_end;
	uint8_t *bytes;
	uint64_t block_size;
	uint64_t interval_ns; /* between the beginnings of two puts */
	uint64_t run;
	uint64_t next;
	uint64_t stored;
	uint64_t failures;
	int error; /* the first */
	uint64_t begin_ns;
	uint64_t end_ns;
};

/* 0, or -1 and the reason is printed. options->write_rate is not 0. */
int bench_writer_start(struct bench_writer *writer, const struct options *options,
		       const struct ctxkv_ns *ns, uint64_t block_size) CTXKV_MUST_USE;
/* The rate that it reached, bytes a second. */
double bench_writer_stop(struct bench_writer *writer);

#endif
