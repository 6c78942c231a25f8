/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU time of block I/O through each back end of env: one file, O_DIRECT, reads or writes of one
 * size at one depth, by the loop as the store does it. User and system time of the whole process
 * (threads of the pool and of the kernel's included), which a shared machine disturbs less than the
 * clock. Rows: posix, uring without and with declared memory; rounds are interleaved.
 *
 *   bench_block_io FILE [SIZE_KIB] [DEPTH] [ROUNDS]      FILE is overwritten: 512 MiB
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "../src/env/choose.h"

#define FILE_SIZE (512 * MiB)
#define DEPTH_MAX 256
#define ROUND_MAX 64

struct row {
	const char *name;
	enum env_choice choice;
	bool is_declared;
	double cpu[2][ROUND_MAX]; /* seconds a GiB: reads, writes */
	double rate[2][ROUND_MAX];
};

struct walk {
	struct env *env;
	struct env_blk *blk;
	char *memory;
	uint64_t size; /* of one I/O */
	uint64_t next;
	uint64_t done;
	enum env_io_kind kind;
	struct env_io ios[DEPTH_MAX];
	struct iovec iovs[DEPTH_MAX];
};

static struct walk walk;

static void must(int rc, const char *what)
{
	if (rc == 0)
		return;
	fprintf(stderr, "%s: %s\n", what, err_str(rc));
	exit(1);
}

static double cpu_s(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Every block of the file once, in an order that no read-ahead guesses. */
static void io_next(struct env_io *io)
{
	uint64_t count = FILE_SIZE / walk.size;
	uint32_t index = (uint32_t)(io - walk.ios);

	if (walk.next == count)
		return;
	walk.iovs[index] = (struct iovec) { walk.memory + index * walk.size, walk.size };
	io->blk = walk.blk;
	io->kind = walk.kind;
	io->offset = walk.next++ * 197 % count * walk.size;
	io->size = walk.size;
	io->iov = &walk.iovs[index];
	io->iov_count = 1;
	walk.env->ops->blk_submit(walk.env, io);
}

static void io_done(struct env_io *io)
{
	must(io->result == (int64_t)walk.size ? 0 : (int)MIN(io->result, -EIO), "io");
	walk.done++;
	io_next(io);
}

static void pass(struct row *row, enum env_io_kind kind, uint32_t depth, int round)
{
	double gib = (double)FILE_SIZE / (double)GiB;
	uint64_t begin = env_now_ns(walk.env);
	double cpu = cpu_s();
	int is_write = kind == ENV_WRITE;

	walk.kind = kind;
	walk.next = walk.done = 0;
	for (uint32_t i = 0; i < depth; i++) {
		walk.ios[i] = (struct env_io) { .done = io_done };
		io_next(&walk.ios[i]);
	}
	while (walk.done < FILE_SIZE / walk.size)
		must(walk.env->ops->poll(walk.env, ENV_FOREVER), "poll");
	row->cpu[is_write][round] = (cpu_s() - cpu) / gib;
	row->rate[is_write][round] =
		gib / ((double)(env_now_ns(walk.env) - begin) / (double)NS_PER_S);
}

static void round_run(struct row *row, const char *path, uint32_t depth, int round)
{
	const struct env_posix_opts opts = { .io_thread_count = 8,
					     .sock_max = 1,
					     .has_huge_pages = true };
	char message[ENV_TEXT_SIZE];
	uint64_t memory_size = depth * walk.size;

	must(env_open(row->choice, &opts, &walk.env, message), "env");
	must(walk.env->ops->blk_open(walk.env, path, ENV_BLK_CREATE, &walk.blk), path);
	must(walk.env->ops->blk_resize(walk.env, walk.blk, FILE_SIZE, false), path);
	walk.memory = walk.env->ops->map(walk.env, memory_size);
	must(walk.memory != NULL ? 0 : -ENOMEM, "memory");
	if (row->is_declared)
		walk.env->ops->blk_declare(walk.env, walk.memory, memory_size);
	pass(row, ENV_WRITE, depth, round);
	pass(row, ENV_READ, depth, round);
	if (row->is_declared)
		walk.env->ops->blk_undeclare(walk.env, walk.memory);
	walk.env->ops->unmap(walk.env, walk.memory, memory_size);
	walk.env->ops->blk_close(walk.env, walk.blk);
	env_close(&walk.env);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, int count)
{
	qsort(values, (size_t)count, sizeof(*values), compare);
	return values[count / 2];
}

int main(int argc, char **argv)
{
	struct row rows[] = {
		{ .name = "posix", .choice = ENV_CHOICE_POSIX },
		{ .name = "uring", .choice = ENV_CHOICE_URING },
		{ .name = "uring, registered", .choice = ENV_CHOICE_URING, .is_declared = true },
	};
	uint64_t size_kib = argc > 2 ? strtoull(argv[2], NULL, 10) : 1024;
	uint64_t depth = argc > 3 ? strtoull(argv[3], NULL, 10) : 8;
	uint64_t rounds = argc > 4 ? strtoull(argv[4], NULL, 10) : 9;

	if (argc < 2 || size_kib < 4 || size_kib % 4 != 0 || depth - 1 >= DEPTH_MAX ||
	    rounds - 1 >= ROUND_MAX) {
		fprintf(stderr, "usage: %s FILE [SIZE_KIB] [DEPTH] [ROUNDS]\n", argv[0]);
		return 2;
	}
	walk.size = size_kib * KiB;
	for (int round = 0; round < (int)rounds; round++) {
		for (size_t i = 0; i < ARRAY_LEN(rows); i++)
			round_run(&rows[i], argv[1], (uint32_t)depth, round);
	}
	printf("%" PRIu64 " KiB, depth %" PRIu64 ", medians of %" PRIu64 "\n", size_kib, depth,
	       rounds);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		printf("%-18s read %.4f CPU s/GiB %.2f GiB/s   write %.4f CPU s/GiB %.2f GiB/s\n",
		       rows[i].name, median(rows[i].cpu[0], (int)rounds),
		       median(rows[i].rate[0], (int)rounds), median(rows[i].cpu[1], (int)rounds),
		       median(rows[i].rate[1], (int)rounds));
	return 0;
}
