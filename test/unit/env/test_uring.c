/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring of env/uring over a kernel that is looked at, and that refuses: commands of a turn go in
 * one call, those inside declared memory by registered buffers; what the ring does not do whole, or
 * not at all, is done all the same; where io_uring is forbidden, the choice falls on posix and says
 * why.
 */
#include "../../lib/t.h"

#include <fcntl.h>
#include <liburing.h>
#include <linux/filter.h>
#include <linux/memfd.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../src/base/log.h"
#include "../../../src/env/posix/posix_priv.h"
#include "../../../src/env/uring/uring.h"

#include "../../../src/env/choose.h"

#define LIMIT_NS (5 * NS_PER_S)
#define SIZE     (8 * MiB)
#define IO_COUNT 600

/* --- the kernel between --- */

static struct kernel {
	int submits;   /* calls that hand something over */
	int submit_rc; /* what the next submit_fails calls return instead */
	int submit_fails;
	int results_forced; /* so many results are result_forced instead */
	int result_forced;
	int register_rc;    /* what registering memory returns, when not 0 */
	int registers;      /* calls that register some */
	int unregisters;    /* and that let go of some */
	unsigned in_kernel; /* handed over and not taken back */
	unsigned in_kernel_max;
	unsigned opcodes[IORING_OP_LAST];
	unsigned of_file; /* commands by a registered file */
	int cut_fd;       /* a file to cut to nothing when mincore() has been asked; 0: none */
} kernel;

int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
unsigned __real_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes,
					unsigned count);
unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes,
					unsigned count);
int __real_io_uring_register_buffers_update_tag(struct io_uring *ring, unsigned off,
						const struct iovec *iovecs, const __u64 *tags,
						unsigned nr);
int __wrap_io_uring_register_buffers_update_tag(struct io_uring *ring, unsigned off,
						const struct iovec *iovecs, const __u64 *tags,
						unsigned nr);
int __real_mincore(void *base, size_t size, unsigned char *resident);
int __wrap_mincore(void *base, size_t size, unsigned char *resident);

int __wrap_io_uring_submit(struct io_uring *ring)
{
	unsigned first = *ring->sq.khead;
	unsigned count = io_uring_sq_ready(ring);
	int rc;

	if (kernel.submit_fails > 0) {
		kernel.submit_fails--;
		return kernel.submit_rc;
	}
	kernel.submits++;
	for (unsigned i = 0; i < count; i++) {
		const struct io_uring_sqe *sqe = &ring->sq.sqes[(first + i) & *ring->sq.kring_mask];

		kernel.opcodes[sqe->opcode]++;
		kernel.of_file += (sqe->flags & IOSQE_FIXED_FILE) != 0;
	}
	rc = __real_io_uring_submit(ring);
	if (rc > 0)
		kernel.in_kernel += (unsigned)rc;
	kernel.in_kernel_max = MAX(kernel.in_kernel_max, kernel.in_kernel);
	return rc;
}

unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes,
					unsigned count)
{
	unsigned got = __real_io_uring_peek_batch_cqe(ring, cqes, count);

	kernel.in_kernel -= got;
	for (unsigned i = 0; i < got && kernel.results_forced > 0; i++, kernel.results_forced--)
		cqes[i]->res = kernel.result_forced;
	return got;
}

int __wrap_io_uring_register_buffers_update_tag(struct io_uring *ring, unsigned off,
						const struct iovec *iovecs, const __u64 *tags,
						unsigned nr)
{
	kernel.registers += iovecs->iov_base != NULL;
	kernel.unregisters += iovecs->iov_base == NULL;
	if (kernel.register_rc != 0)
		return kernel.register_rc;
	return __real_io_uring_register_buffers_update_tag(ring, off, iovecs, tags, nr);
}

int __wrap_mincore(void *base, size_t size, unsigned char *resident)
{
	int rc = __real_mincore(base, size, resident);

	if (kernel.cut_fd > 0)
		assert_int_equal(ftruncate(kernel.cut_fd, 0), 0);
	return rc;
}

/* --- the bench --- */

struct bench {
	struct env *env;
	struct env_blk *blk;
	char path[64];
	char *memory; /* SIZE, not declared */
	bool has_huge;
	struct env_io ios[IO_COUNT];
	struct iovec iovs[IO_COUNT][2];
};

static int log_lines;
static int done_count;

static void log_count(void *ctx, enum log_level level, const char *line)
{
	log_lines++;
}

static void io_done(struct env_io *io)
{
	done_count++;
}

static int begin(void **state)
{
	const struct env_posix_opts opts = { .io_thread_count = 2, .sock_max = 1 };
	struct bench *bench = calloc(1, sizeof(*bench));
	char message[ENV_TEXT_SIZE];
	int fd;

	kernel = (struct kernel) { 0 };
	log_lines = 0;
	done_count = 0;
	log_sink_set(log_count, NULL);
	snprintf(bench->path, sizeof(bench->path), "/var/tmp/ctxkv-uring-XXXXXX");
	fd = mkstemp(bench->path);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(env_open(ENV_CHOICE_URING, &opts, &bench->env, message), 0);
	assert_string_equal(message, "");
	assert_int_equal(bench->env->ops->blk_open(bench->env, bench->path, 0, &bench->blk), 0);
	assert_int_equal(bench->env->ops->blk_resize(bench->env, bench->blk, SIZE, false), 0);
	bench->memory = bench->env->ops->map(bench->env, SIZE);
	for (size_t i = 0; i < SIZE; i++)
		bench->memory[i] = (char)(i * 7 + i / 4093);
	assert_int_equal(bench->env->ops->blk_write(bench->env, bench->blk, bench->memory, SIZE, 0),
			 0);
	*state = bench;
	return 0;
}

static int end(void **state)
{
	struct bench *bench = *state;

	bench->env->ops->blk_close(bench->env, bench->blk);
	bench->env->ops->unmap(bench->env, bench->memory, SIZE);
	env_close(&bench->env);
	unlink(bench->path);
	free(bench);
	log_sink_set(NULL, NULL);
	return 0;
}

/* I/O i: page i of the file and of memory, as one piece; or two that lie apart. */
static void submit(struct bench *bench, int i, enum env_io_kind kind, int pieces)
{
	char *page = bench->memory + (size_t)i * 2 * PAGE_SIZE;

	bench->iovs[i][0] = (struct iovec) { page, PAGE_SIZE };
	bench->iovs[i][1] = (struct iovec) { page + PAGE_SIZE, PAGE_SIZE };
	bench->ios[i] = (struct env_io) {
		.done = io_done,
		.blk = bench->blk,
		.kind = kind,
		.offset = (uint64_t)i * 2 * PAGE_SIZE,
		.size = (uint64_t)pieces * PAGE_SIZE,
		.iov = bench->iovs[i],
		.iov_count = (uint32_t)pieces,
	};
	bench->env->ops->blk_submit(bench->env, &bench->ios[i]);
}

static void poll_until_done(struct bench *bench, int count)
{
	uint64_t until = env_now_ns(bench->env) + LIMIT_NS;

	while (done_count < count && env_now_ns(bench->env) < until)
		assert_int_equal(bench->env->ops->poll(bench->env, LIMIT_NS), 0);
	assert_int_equal(done_count, count);
}

/* Read count blocks over wiped memory; they must be those of begin(). */
static void check_reads(struct bench *bench, int count)
{
	char *expected = malloc(SIZE);

	memcpy(expected, bench->memory, SIZE);
	done_count = 0;
	for (int i = 0; i < count; i++) {
		memset(bench->memory + (size_t)i * 2 * PAGE_SIZE, 0, PAGE_SIZE);
		submit(bench, i, ENV_READ, 1);
	}
	poll_until_done(bench, count);
	for (int i = 0; i < count; i++)
		assert_int_equal(bench->ios[i].result, PAGE_SIZE);
	assert_memory_equal(bench->memory, expected, SIZE);
	free(expected);
}

/* --- what goes to the kernel, and how --- */

static void commands_of_a_turn_go_in_one_call(void **state)
{
	struct bench *bench = *state;

	for (int i = 0; i < 100; i++)
		submit(bench, i, i % 2 == 0 ? ENV_READ : ENV_WRITE, 1);
	assert_int_equal(kernel.submits, 0);
	assert_int_equal(bench->env->ops->poll(bench->env, LIMIT_NS), 0);
	assert_int_equal(kernel.submits, 1);
	poll_until_done(bench, 100);
	assert_int_equal(kernel.submits, 1);
	assert_int_equal(kernel.of_file, 100);
	assert_int_equal(bench->env->ops->poll(bench->env, 0), 0);
	assert_int_equal(kernel.submits, 1); /* nothing to do: nothing is called */
}

/* Pollers are not looked at for long then; and a large write waits for no turn. */
static void a_busy_drive_is_known(void **state)
{
	struct bench *bench = *state;
	struct env *env = bench->env;
	const struct posix *posix = posix_of(env);

	for (int kind = ENV_READ; kind <= ENV_WRITE; kind++) {
		for (size_t size = 128 * KiB; size <= 2 * MiB; size *= 4) {
			int submits;

			bench->iovs[0][0] = (struct iovec) { bench->memory, size };
			bench->ios[0] = (struct env_io) { .done = io_done,
							  .blk = bench->blk,
							  .kind = (enum env_io_kind)kind,
							  .size = size,
							  .iov = bench->iovs[0],
							  .iov_count = 1 };
			submits = kernel.submits;
			env->ops->blk_submit(env, &bench->ios[0]);
			assert_int_equal(kernel.submits - submits,
					 kind == ENV_WRITE && size >= 256 * KiB);
			done_count = -1;
			assert_int_equal(env->ops->poll(env, 0), 0);
			assert_int_equal(posix->spin.is_drive_busy, size >= MiB);
			poll_until_done(bench, 0);
			assert_int_equal(bench->ios[0].result, size);
		}
	}
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_false(posix->spin.is_drive_busy);
}

/* Of large reads a few are with the kernel all the same, of smaller ones as many as 4 MiB. */
static void reads_with_the_kernel_are_bounded(void **state)
{
	struct bench *bench = *state;

	for (size_t size = 64 * KiB; size <= MiB; size *= 4) {
		kernel.in_kernel_max = 0;
		done_count = 0;
		for (int i = 0; i < 100; i++) {
			submit(bench, i, ENV_READ, 1);
			bench->iovs[i][0] =
				(struct iovec) { bench->memory + (size_t)(i % 4) * MiB, size };
			bench->ios[i].offset = (uint64_t)(i % 4) * MiB;
			bench->ios[i].size = size;
		}
		poll_until_done(bench, 100);
		assert_int_equal(kernel.in_kernel_max, MAX(4 * MiB / size, 8));
	}
}

/* A second medium, with one page; end() of the bench knows nothing of it. */
static struct env_blk *second_open(struct bench *bench, char path[64])
{
	struct env_blk *blk;
	int fd;

	snprintf(path, 64, "/var/tmp/ctxkv-uring-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(bench->env->ops->blk_open(bench->env, path, 0, &blk), 0);
	assert_int_equal(bench->env->ops->blk_resize(bench->env, blk, SIZE, false), 0);
	return blk;
}

/* The first medium's reads, size bytes each, wait for each other; one of the second does not. */
static void check_beside(struct bench *bench, struct env_blk *second, size_t size, unsigned first)
{
	int count = IO_COUNT - 2;

	kernel.in_kernel_max = 0;
	done_count = 0;
	for (int i = 0; i < count; i++) {
		bench->iovs[i][0] = (struct iovec) { bench->memory + (size_t)(i % 4) * MiB, size };
		bench->ios[i] = (struct env_io) { .done = io_done,
						  .blk = bench->blk,
						  .kind = ENV_READ,
						  .offset = (uint64_t)(i % 4) * MiB,
						  .size = size,
						  .iov = bench->iovs[i],
						  .iov_count = 1 };
		bench->env->ops->blk_submit(bench->env, &bench->ios[i]);
	}
	for (int i = count; i < IO_COUNT; i++) {
		bench->iovs[i][0] = (struct iovec) { bench->memory + 6 * MiB, PAGE_SIZE };
		bench->ios[i] = (struct env_io) { .done = io_done,
						  .blk = second,
						  .kind = i == count ? ENV_READ : ENV_WRITE,
						  .size = PAGE_SIZE,
						  .iov = bench->iovs[i],
						  .iov_count = 1 };
		bench->env->ops->blk_submit(bench->env, &bench->ios[i]);
	}
	assert_int_equal(bench->env->ops->poll(bench->env, LIMIT_NS), 0);
	assert_int_equal(kernel.in_kernel_max, first + 2);
	poll_until_done(bench, IO_COUNT);
	assert_int_equal(kernel.in_kernel, 0);
}

/* However much is asked of one medium, and however slow it is. */
static void a_medium_does_not_wait_for_another(void **state)
{
	struct bench *bench = *state;
	char path[64];
	struct env_blk *second = second_open(bench, path);

	check_beside(bench, second, MiB, 8);
	check_beside(bench, second, 64 * KiB, 64);
	check_beside(bench, second, PAGE_SIZE, 128); /* half of the ring */
	bench->env->ops->blk_close(bench->env, second);
	check_reads(bench, IO_COUNT);
	assert_in_range(kernel.in_kernel_max, 129, 256); /* alone it has all */
	unlink(path);
}

static void no_more_is_with_the_kernel_than_results_have_room(void **state)
{
	check_reads(*state, IO_COUNT);
	assert_in_range(kernel.in_kernel_max, 100, 256);
}

static void declared_memory_goes_by_registered_buffers(void **state)
{
	struct bench *bench = *state;
	struct env *env = bench->env;

	env->ops->blk_declare(env, bench->memory + 2 * PAGE_SIZE, 5 * PAGE_SIZE);
	assert_int_equal(env_uring_registered(env), 5 * PAGE_SIZE);
	submit(bench, 0, ENV_READ, 1);             /* before it */
	submit(bench, 1, ENV_READ, 1);             /* its first page */
	submit(bench, 2, ENV_READ, 2);             /* inside, but two pieces */
	submit(bench, 3, ENV_WRITE, 1);            /* its last page */
	submit(bench, 4, ENV_READ, 1);             /* behind it */
	bench->iovs[3][0].iov_len = 2 * PAGE_SIZE; /* one page too long: out it goes */
	bench->ios[3].size = 2 * PAGE_SIZE;
	poll_until_done(bench, 5);
	assert_int_equal(kernel.opcodes[IORING_OP_READ_FIXED], 1);
	assert_int_equal(kernel.opcodes[IORING_OP_READV], 3);
	assert_int_equal(kernel.opcodes[IORING_OP_WRITE_FIXED], 0);
	submit(bench, 3, ENV_WRITE, 1);
	poll_until_done(bench, 6);
	assert_int_equal(kernel.opcodes[IORING_OP_WRITE_FIXED], 1);

	env->ops->blk_undeclare(env, bench->memory + 2 * PAGE_SIZE);
	assert_int_equal(env_uring_registered(env), 0);
	submit(bench, 1, ENV_READ, 1);
	poll_until_done(bench, 7);
	assert_int_equal(kernel.opcodes[IORING_OP_READ_FIXED], 1);
	for (int i = 0; i < 5; i++)
		assert_int_equal(bench->ios[i].result, bench->ios[i].size);
	check_reads(bench, 100);
}

/* A small RLIMIT_MEMLOCK costs speed and one line in the log, nothing else. */
static void memory_that_cannot_be_registered_works_without(void **state)
{
	struct bench *bench = *state;
	struct env *env = bench->env;

	kernel.register_rc = -ENOMEM;
	env->ops->blk_declare(env, bench->memory, MiB);
	env->ops->blk_declare(env, bench->memory + MiB, MiB);
	assert_int_equal(log_lines, 1);
	assert_int_equal(env_uring_registered(env), 0);
	check_reads(bench, 100);
	assert_int_equal(kernel.opcodes[IORING_OP_READV], 100);
	env->ops->blk_undeclare(env, bench->memory);
	env->ops->blk_undeclare(env, bench->memory + MiB);
}

/* A client's, of three pieces and a bit, with a hole in the second: it comes behind seal(). */
static char *client_memory(size_t size, size_t hole)
{
	int fd = memfd_create("client", MFD_CLOEXEC);
	char *memory;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	close(fd);
	for (size_t at = 0; at < size; at += PAGE_SIZE) {
		if (at != hole)
			memory[at] = 1;
	}
	return memory;
}

static void a_clients_memory_is_registered_a_piece_a_turn(void **state)
{
	struct bench *bench = *state;
	struct env *env = bench->env;
	const size_t size = 24 * MiB + 5 * PAGE_SIZE; /* pieces of 8 MiB */
	char *memory = client_memory(size, 9 * MiB);
	unsigned char resident;

	env->ops->seal(env);
	env->ops->blk_declare(env, memory, size);
	assert_int_equal(kernel.registers, 0);
	for (int turn = 1; turn <= 4; turn++) {
		assert_int_equal(env->ops->poll(env, LIMIT_NS), 0);
		assert_int_equal(kernel.registers, turn - (turn >= 2));
	}
	assert_int_equal(env_uring_registered(env), 16 * MiB + 5 * PAGE_SIZE);
	assert_int_equal(mincore(memory + 9 * MiB, PAGE_SIZE, &resident), 0);
	assert_int_equal(resident & 1, 0); /* nothing was made there */
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(kernel.registers, 3); /* that was all */

	for (int i = 0; i < 4; i++) {
		submit(bench, i, ENV_READ, 1);
		bench->iovs[i][0].iov_base = memory + (size_t)i * 8 * MiB + PAGE_SIZE;
	}
	poll_until_done(bench, 4);
	assert_int_equal(kernel.opcodes[IORING_OP_READ_FIXED], 3);
	assert_int_equal(kernel.opcodes[IORING_OP_READV], 1);
	for (int i = 0; i < 4; i++)
		assert_memory_equal(memory + (size_t)i * 8 * MiB + PAGE_SIZE,
				    bench->memory + (size_t)i * 2 * PAGE_SIZE, PAGE_SIZE);
	env->ops->blk_undeclare(env, memory);
	assert_int_equal(env_uring_registered(env), 0);
	munmap(memory, size);
	assert_int_equal(log_lines, 0);
}

/* Gone before its turn; and next to one that stays. */
static void memory_goes_while_it_is_registered(void **state)
{
	struct bench *bench = *state;
	struct env *env = bench->env;
	const size_t size = 16 * MiB;
	char *first = client_memory(size, SIZE_MAX);
	char *second = client_memory(size, SIZE_MAX);

	env->ops->seal(env);
	env->ops->blk_declare(env, first, size);
	env->ops->blk_declare(env, second, size);
	assert_int_equal(env->ops->poll(env, LIMIT_NS), 0);
	assert_int_equal(env_uring_registered(env), 8 * MiB);
	env->ops->blk_undeclare(env, first);
	assert_int_equal(env_uring_registered(env), 0);
	munmap(first, size);
	for (int turn = 0; turn < 3; turn++)
		assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(env_uring_registered(env), size);
	submit(bench, 0, ENV_READ, 1);
	bench->iovs[0][0].iov_base = second;
	poll_until_done(bench, 1);
	assert_int_equal(kernel.opcodes[IORING_OP_READ_FIXED], 1);
	env->ops->blk_declare(env, bench->memory, SIZE);
	env->ops->blk_undeclare(env, bench->memory); /* before its first turn */
	env->ops->blk_undeclare(env, second);
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(env_uring_registered(env), 0);
	munmap(second, size);
}

/* Not all at once either: what comes next is registered when that is through. */
static void a_clients_memory_goes_some_pieces_a_turn(void **state)
{
	struct bench *bench = *state;
	struct env *env = bench->env;
	const size_t size = 160 * MiB; /* 20 pieces */
	char *memory = client_memory(size, SIZE_MAX);
	char *next = client_memory(SIZE, SIZE_MAX);

	env->ops->seal(env);
	env->ops->blk_declare(env, memory, size);
	for (int turn = 0; turn < 20; turn++)
		assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(env_uring_registered(env), size);
	env->ops->blk_undeclare(env, memory);
	munmap(memory, size);
	assert_int_equal(env_uring_registered(env), 0);
	assert_int_equal(kernel.unregisters, 0);
	env->ops->blk_declare(env, next, SIZE);
	for (int turn = 1; turn <= 3; turn++) {
		assert_int_equal(env->ops->poll(env, 0), 0);
		assert_int_equal(kernel.unregisters, MIN(turn * 8, 20));
		assert_int_equal(env_uring_registered(env), 0);
	}
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(env_uring_registered(env), SIZE);
	assert_int_equal(kernel.unregisters, 20);
	env->ops->blk_undeclare(env, next);
	munmap(next, SIZE);
	assert_int_equal(log_lines, 0);
}

#define HUGE_COUNT_PATH "/proc/sys/vm/nr_hugepages"
#define HUGE_SIZE       (16 * MiB)

/* Reserve so many more huge pages, or fewer; false: that may not be changed here. */
static bool huge_pages_more(long more)
{
	FILE *file = fopen(HUGE_COUNT_PATH, "r+");
	long count = 0;
	bool is_done;

	if (file == NULL)
		return false;
	is_done = fscanf(file, "%ld", &count) == 1 && fseek(file, 0, SEEK_SET) == 0 &&
		  fprintf(file, "%ld\n", count + more) > 0;
	return fclose(file) == 0 && is_done;
}

static int begin_huge(void **state)
{
	if (begin(state) < 0)
		return -1;
	((struct bench *)*state)->has_huge = huge_pages_more(HUGE_SIZE / (2 * MiB));
	return 0;
}

static int end_huge(void **state)
{
	if (((struct bench *)*state)->has_huge)
		(void)huge_pages_more(-(long)(HUGE_SIZE / (2 * MiB)));
	return end(state);
}

/* Of a client's file of HUGE_SIZE with so much in it, not touched by us: what is registered. */
static uint64_t huge_registered(struct env *env, size_t size)
{
	int fd = memfd_create("client", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	struct stat before;
	struct stat after;
	uint64_t registered;
	void *base;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, HUGE_SIZE), 0);
	assert_int_equal(fallocate(fd, 0, 0, (off_t)size), 0);
	assert_int_equal(fstat(fd, &before), 0);
	assert_int_equal(env->ops->share_map(env, fd, 0, HUGE_SIZE, &base), 0);
	env->ops->blk_declare(env, base, HUGE_SIZE);
	for (int turn = 0; turn < 2; turn++)
		assert_int_equal(env->ops->poll(env, 0), 0);
	registered = env_uring_registered(env);
	env->ops->blk_undeclare(env, base);
	assert_int_equal(env->ops->poll(env, 0), 0);
	env->ops->share_unmap(env, base);
	assert_int_equal(fstat(fd, &after), 0);
	assert_int_equal(after.st_blocks, before.st_blocks); /* nothing was made */
	close(fd);
	return registered;
}

static void a_clients_huge_pages_are_registered(void **state)
{
	struct bench *bench = *state;
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	bool has_huge = bench->has_huge && fd >= 0 && fallocate(fd, 0, 0, HUGE_SIZE) == 0;

	if (fd >= 0)
		close(fd);
	if (!has_huge)
		skip(); /* none are to be had */
	bench->env->ops->seal(bench->env);
	assert_int_equal(huge_registered(bench->env, HUGE_SIZE), HUGE_SIZE);
	/* The piece without a hole, too, where mincore() knows: where no page table is there yet.
	 */
	assert_true(huge_registered(bench->env, HUGE_SIZE - 2 * MiB) <= HUGE_SIZE / 2);
	assert_int_equal(log_lines, 0);
}

/* What a client has cut off is nobody's trouble; no memory to lock ends it, and is told. */
static void a_clients_memory_that_cannot_be_registered_works_without(void **state)
{
	struct bench *bench = *state;
	struct env *env = bench->env;
	const size_t size = 16 * MiB;
	char *memory = client_memory(size, SIZE_MAX);

	env->ops->seal(env);
	kernel.register_rc = -EFAULT;
	env->ops->blk_declare(env, memory, size);
	for (int turn = 0; turn < 3; turn++)
		assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(kernel.registers, 2);
	assert_int_equal(log_lines, 0);
	env->ops->blk_undeclare(env, memory);
	kernel.register_rc = -ENOMEM;
	env->ops->blk_declare(env, memory, size);
	for (int turn = 0; turn < 3; turn++)
		assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(kernel.registers, 3);
	assert_int_equal(log_lines, 1);
	check_reads(bench, 100);
	env->ops->blk_undeclare(env, memory);
	munmap(memory, size);
}

/* Else memory of ours would stand there in its place, pinned; and each copy would be asked whether
 * its memory is lost. */
static void a_clients_memory_that_is_cut_just_then_is_not_touched(void **state)
{
	struct bench *bench = *state;
	struct env *env = bench->env;
	const size_t size = 16 * MiB;
	int fd = memfd_create("client", MFD_CLOEXEC);
	void *base;

	assert_true(fd >= 0);
	for (size_t at = 0; at < size; at += SIZE)
		assert_int_equal(pwrite(fd, bench->memory, SIZE, (off_t)at), SIZE);
	env->ops->seal(env);
	assert_int_equal(env->ops->share_map(env, fd, 0, size, &base), 0);
	env->ops->blk_declare(env, base, size);
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(env_uring_registered(env), size / 2);
	kernel.cut_fd = fd;
	assert_int_equal(env->ops->poll(env, 0), 0);
	kernel.cut_fd = 0;
	assert_int_equal(kernel.registers, 2);
	assert_int_equal(env_uring_registered(env), size / 2);
	assert_false(env->ops->share_is_lost(env, base));
	assert_int_equal(log_lines, 0);
	env->ops->blk_undeclare(env, base);
	assert_int_equal(env->ops->poll(env, 0), 0);
	env->ops->share_unmap(env, base);
	close(fd);
}

/* --- a kernel that does not do it --- */

static void what_comes_back_short_is_done_whole(void **state)
{
	struct bench *bench = *state;
	const int results[] = { 0, 512, -EAGAIN, -EINTR };

	for (size_t i = 0; i < ARRAY_LEN(results); i++) {
		kernel.result_forced = results[i];
		kernel.results_forced = 7;
		check_reads(bench, 50);
		assert_int_equal(kernel.results_forced, 0);
	}
}

static void errors_are_results(void **state)
{
	struct bench *bench = *state;

	kernel.result_forced = -EIO;
	kernel.results_forced = 1;
	submit(bench, 0, ENV_READ, 1);
	poll_until_done(bench, 1);
	assert_int_equal(bench->ios[0].result, -EIO);
	bench->ios[0] = (struct env_io) { .done = io_done, .blk = bench->blk, .kind = ENV_FLUSH };
	kernel.results_forced = 1;
	bench->env->ops->blk_submit(bench->env, &bench->ios[0]);
	poll_until_done(bench, 2);
	assert_int_equal(bench->ios[0].result, -EIO);
	check_reads(bench, 10);
}

static void a_kernel_that_takes_nothing_now_is_asked_again(void **state)
{
	struct bench *bench = *state;
	const int codes[] = { -EAGAIN, -EBUSY, -EINTR, 0 };

	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		kernel.submit_rc = codes[i];
		kernel.submit_fails = 3;
		check_reads(bench, 20);
		assert_int_equal(kernel.submit_fails, 0);
	}
}

/* As under a seccomp filter that comes later. */
static void a_ring_that_is_taken_away_leaves_the_work_to_threads(void **state)
{
	struct bench *bench = *state;

	check_reads(bench, 20);
	kernel.submit_rc = -EPERM;
	kernel.submit_fails = 1;
	check_reads(bench, IO_COUNT);
	assert_int_equal(kernel.submits, 1);
	assert_int_equal(log_lines, 1);
	check_reads(bench, 20);
	assert_int_equal(kernel.submits, 1);
}

/* Nothing may land after destroy; what is not with the kernel is never done. */
static void destroy_waits_for_what_is_with_the_kernel(void **state)
{
	struct bench *bench = *state;
	const struct env_posix_opts opts = { .io_thread_count = 2, .sock_max = 1 };
	char message[ENV_TEXT_SIZE];

	for (int i = 0; i < 200; i++)
		submit(bench, i, ENV_READ, 1);
	assert_int_equal(bench->env->ops->poll(bench->env, 0), 0);
	submit(bench, 200, ENV_READ, 1);
	bench->env->ops->blk_close(bench->env, bench->blk);
	env_close(&bench->env);
	memset(bench->memory, 1, SIZE);
	usleep(20000);
	for (size_t i = 0; i < SIZE; i++)
		assert_int_equal(bench->memory[i], 1);
	assert_int_equal(env_open(ENV_CHOICE_URING, &opts, &bench->env, message), 0);
	assert_int_equal(bench->env->ops->blk_open(bench->env, bench->path, 0, &bench->blk), 0);
}

/* --- not permitted --- */

/* From here on, call number is answered with code. For a child. */
static void forbid(int number, int code)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)code),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { ARRAY_LEN(filter), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(2);
}

/* In the child: auto gives posix and says word; uring by name is refused with the same. */
static bool is_fallback_right(const char *word)
{
	const struct env_posix_opts opts = { .io_thread_count = 1, .sock_max = 1 };
	char message[ENV_TEXT_SIZE];
	struct env *env = NULL;
	bool is_right;

	is_right = env_open(ENV_CHOICE_AUTO, &opts, &env, message) == 0 && !env_is_uring(env) &&
		   strncmp(message, "io_uring: ", 10) == 0 && strstr(message, word) != NULL;
	env_close(&env);
	is_right = is_right && env_open(ENV_CHOICE_URING, &opts, &env, message) == -EOPNOTSUPP &&
		   env == NULL && strstr(message, word) != NULL;
	is_right = is_right && env_open(ENV_CHOICE_POSIX, &opts, &env, message) == 0 &&
		   message[0] == '\0';
	env_close(&env);
	return is_right;
}

static void where_it_is_forbidden_posix_is_taken_and_the_reason_told(void **state)
{
	static const struct {
		int number;
		int code;
		const char *word;
	} cases[] = {
		{ SYS_io_uring_setup, EPERM, "not permitted here (seccomp" },
		{ SYS_io_uring_setup, ENOSYS, "does not have it" },
		{ SYS_io_uring_setup, ENOMEM, "RLIMIT_MEMLOCK" },
		{ SYS_io_uring_setup, EINVAL, "Invalid argument" },
		/* Setup is allowed, use is not: found out before anything rests on it. */
		{ SYS_io_uring_enter, EPERM, "not permitted here (seccomp" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			forbid(cases[i].number, cases[i].code);
			_exit(is_fallback_right(cases[i].word) ? 0 : 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
}

/* Registering forbidden: the ring works without buffers and files. */
static void without_registration_the_ring_works(void **state)
{
	struct bench *bench = *state;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		const struct env_posix_opts opts = { .io_thread_count = 1, .sock_max = 1 };
		char message[ENV_TEXT_SIZE];
		struct bench own = { 0 };

		forbid(SYS_io_uring_register, EPERM);
		kernel = (struct kernel) { 0 };
		own.memory = bench->memory;
		if (env_open(ENV_CHOICE_URING, &opts, &own.env, message) != 0 ||
		    own.env->ops->blk_open(own.env, bench->path, ENV_BLK_READ_ONLY, &own.blk) != 0)
			_exit(1);
		own.env->ops->blk_declare(own.env, own.memory, SIZE);
		check_reads(&own, 20);
		own.env->ops->blk_close(own.env, own.blk);
		env_close(&own.env);
		_exit(kernel.of_file == 0 && kernel.opcodes[IORING_OP_READV] == 20 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(commands_of_a_turn_go_in_one_call),
		T(a_busy_drive_is_known),
		T(reads_with_the_kernel_are_bounded),
		T(a_medium_does_not_wait_for_another),
		T(no_more_is_with_the_kernel_than_results_have_room),
		T(declared_memory_goes_by_registered_buffers),
		T(memory_that_cannot_be_registered_works_without),
		T(a_clients_memory_is_registered_a_piece_a_turn),
		T(memory_goes_while_it_is_registered),
		T(a_clients_memory_goes_some_pieces_a_turn),
		cmocka_unit_test_setup_teardown(a_clients_huge_pages_are_registered, begin_huge,
						end_huge),
		T(a_clients_memory_that_cannot_be_registered_works_without),
		T(a_clients_memory_that_is_cut_just_then_is_not_touched),
		T(what_comes_back_short_is_done_whole),
		T(errors_are_results),
		T(a_kernel_that_takes_nothing_now_is_asked_again),
		T(a_ring_that_is_taken_away_leaves_the_work_to_threads),
		T(destroy_waits_for_what_is_with_the_kernel),
		T(without_registration_the_ring_works),
		cmocka_unit_test(where_it_is_forbidden_posix_is_taken_and_the_reason_told),
	};
	const struct env_posix_opts opts = { .io_thread_count = 1, .sock_max = 1 };
	char message[ENV_TEXT_SIZE];
	struct env *env = NULL;

	if (env_open(ENV_CHOICE_URING, &opts, &env, message) < 0) {
		printf("passed over: %s\n", message);
		return 77; /* skipped */
	}
	env_close(&env);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
