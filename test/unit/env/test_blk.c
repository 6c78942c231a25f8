/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files through each back end: reads and writes are whole however short the kernel's steps are, a
 * medium is opened by one only, what is not one is refused, and errors come back as results.
 */
#include "../../lib/t.h"

#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../src/base/log.h"
#include "../../../src/env/posix/posix.h"
#include "../../lib/back_end.h"

#define LIMIT_NS (5 * NS_PER_S)
#define SIZE     (8 * MiB)

/* --- a kernel that moves little at a time (Meson asks for 64-bit offsets, hence the names) --- */

static size_t step_max; /* bytes; 0: as the kernel likes */
static int interrupts;  /* so many calls end in EINTR first */
static int steps;

ssize_t __real_preadv64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __real_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);

static ssize_t step(ssize_t (*move)(int fd, const struct iovec *iov, int count, off_t offset),
		    int fd, const struct iovec *iov, int count, off_t offset)
{
	struct iovec part[ENV_IOV_MAX];
	size_t room = step_max;
	int part_count = 0;

	__atomic_fetch_add(&steps, 1, __ATOMIC_RELAXED);
	if (__atomic_fetch_sub(&interrupts, 1, __ATOMIC_RELAXED) > 0) {
		errno = EINTR;
		return -1;
	}
	if (step_max == 0)
		return move(fd, iov, count, offset);
	for (int i = 0; i < count && room > 0; i++) {
		part[i] = iov[i];
		part[i].iov_len = MIN(iov[i].iov_len, room);
		room -= part[i].iov_len;
		part_count++;
	}
	return move(fd, part, part_count, offset);
}

ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int count, off_t offset)
{
	return step(__real_preadv64, fd, iov, count, offset);
}

ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset)
{
	return step(__real_pwritev64, fd, iov, count, offset);
}

/* The same of a ring: results are cut when they are taken out of it. */
unsigned __real_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes,
					unsigned count);
unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes,
					unsigned count);

unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes,
					unsigned count)
{
	unsigned got = __real_io_uring_peek_batch_cqe(ring, cqes, count);

	for (unsigned i = 0; i < got; i++) {
		if (__atomic_fetch_sub(&interrupts, 1, __ATOMIC_RELAXED) > 0)
			cqes[i]->res = -EINTR;
		else if (step_max != 0)
			cqes[i]->res = MIN(cqes[i]->res, (int)step_max);
	}
	return got;
}

/* --- the bench: a file of SIZE bytes --- */

struct bench {
	struct env *env;
	struct env_blk *blk;
	char dir[64];
	char path[96];
	char *memory; /* SIZE, page aligned */
};

static void log_nothing(void *ctx, enum log_level level, const char *line)
{
}

static int begin(void **state)
{
	const struct env_posix_opts opts = { .io_thread_count = 3, .sock_max = 1 };
	struct bench *bench = calloc(1, sizeof(*bench));
	const char *tmp = getenv("TMPDIR");

	snprintf(bench->dir, sizeof(bench->dir), "%s/ctxkv-blk-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(bench->dir));
	snprintf(bench->path, sizeof(bench->path), "%s/medium", bench->dir);
	log_sink_set(log_nothing, NULL);
	step_max = 0;
	interrupts = 0;
	steps = 0;
	assert_int_equal(back_end_create(&opts, &bench->env), 0);
	assert_int_equal(
		bench->env->ops->blk_open(bench->env, bench->path, ENV_BLK_CREATE, &bench->blk), 0);
	assert_int_equal(bench->env->ops->blk_resize(bench->env, bench->blk, SIZE, true), 0);
	bench->memory = bench->env->ops->map(bench->env, SIZE);
	*state = bench;
	return 0;
}

static int end(void **state)
{
	struct bench *bench = *state;

	bench->env->ops->unmap(bench->env, bench->memory, SIZE);
	if (bench->blk != NULL)
		bench->env->ops->blk_close(bench->env, bench->blk);
	env_close(&bench->env);
	unlink(bench->path);
	rmdir(bench->dir);
	free(bench);
	log_sink_set(NULL, NULL);
	return 0;
}

static int done_count;

static void io_done(struct env_io *io)
{
	done_count++;
}

/* Submit and wait. */
static int64_t run_io(struct bench *bench, struct env_io *io)
{
	uint64_t until = env_now_ns(bench->env) + LIMIT_NS;
	int before = done_count;

	io->done = io_done;
	io->blk = bench->blk;
	bench->env->ops->blk_submit(bench->env, io);
	assert_int_equal(done_count, before); /* never out of the call */
	while (done_count == before && env_now_ns(bench->env) < until)
		assert_int_equal(bench->env->ops->poll(bench->env, LIMIT_NS), 0);
	assert_int_equal(done_count, before + 1);
	return io->result;
}

static void fill(char *bytes, uint64_t size, uint32_t seed)
{
	for (uint64_t i = 0; i < size / 4; i++) {
		seed = seed * 1664525u + 1013904223u;
		memcpy(bytes + 4 * i, &seed, 4);
	}
}

/* Pieces of 1, 2, 3 … pages that lie apart in memory; returns the sum. */
static uint64_t pieces_make(char *memory, struct iovec *iov, uint32_t count)
{
	uint64_t at = 0;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++) {
		iov[i] = (struct iovec) { memory + at, (i % 5 + 1) * PAGE_SIZE };
		at += iov[i].iov_len + PAGE_SIZE;
		sum += iov[i].iov_len;
	}
	assert_true(at <= SIZE / 2);
	return sum;
}

static void check_scattered(struct bench *bench)
{
	struct iovec from[ENV_IOV_MAX];
	struct iovec to[ENV_IOV_MAX];
	struct env_io io = { .kind = ENV_WRITE, .offset = 3 * PAGE_SIZE, .iov = from };

	fill(bench->memory, SIZE / 2, 42);
	io.iov_count = ENV_IOV_MAX;
	io.size = pieces_make(bench->memory, from, ENV_IOV_MAX);
	assert_int_equal(run_io(bench, &io), io.size);
	pieces_make(bench->memory + SIZE / 2, to, ENV_IOV_MAX);
	io.kind = ENV_READ;
	io.iov = to;
	assert_int_equal(run_io(bench, &io), io.size);
	for (uint32_t i = 0; i < ENV_IOV_MAX; i++)
		assert_memory_equal(from[i].iov_base, to[i].iov_base, from[i].iov_len);
	/* The caller's list of pieces is his: untouched. */
	assert_int_equal(to[0].iov_len, PAGE_SIZE);
	assert_ptr_equal(to[0].iov_base, bench->memory + SIZE / 2);
}

static void scattered_bytes_come_back(void **state)
{
	check_scattered(*state);
}

static void short_and_interrupted_steps_are_gone_on_with(void **state)
{
	const size_t maxima[] = { PAGE_SIZE, 3 * PAGE_SIZE, 7 * PAGE_SIZE };

	for (size_t i = 0; i < ARRAY_LEN(maxima); i++) {
		step_max = maxima[i];
		steps = 0;
		interrupts = 3;
		check_scattered(*state);
		assert_true(steps > 50);
	}
	step_max = 0;
}

static void sync_calls_move_the_same_bytes(void **state)
{
	struct bench *bench = *state;
	struct env *env = bench->env;
	char *other = bench->memory + SIZE / 2;

	fill(bench->memory, 64 * KiB, 5);
	step_max = 5 * PAGE_SIZE;
	assert_int_equal(env->ops->blk_write(env, bench->blk, bench->memory, 64 * KiB, MiB), 0);
	assert_int_equal(env->ops->blk_flush(env, bench->blk), 0);
	assert_int_equal(env->ops->blk_read(env, bench->blk, other, 64 * KiB, MiB), 0);
	assert_memory_equal(bench->memory, other, 64 * KiB);
	assert_int_equal(env->ops->blk_read(env, bench->blk, other, PAGE_SIZE, SIZE), -EIO);
}

static void behind_the_end_is_an_error_and_no_short_count(void **state)
{
	struct bench *bench = *state;
	struct iovec iov = { bench->memory, 2 * PAGE_SIZE };
	struct env_io io = { .kind = ENV_READ,
			     .offset = SIZE - PAGE_SIZE,
			     .size = 2 * PAGE_SIZE,
			     .iov = &iov,
			     .iov_count = 1 };

	assert_int_equal(run_io(bench, &io), -EIO);
}

static void flush_and_discard_answer(void **state)
{
	struct bench *bench = *state;
	struct env_blk_info info;
	struct iovec iov = { bench->memory, MiB };
	struct env_io io = { .kind = ENV_WRITE, .size = MiB, .iov = &iov, .iov_count = 1 };

	bench->env->ops->blk_info(bench->env, bench->blk, &info);
	fill(bench->memory, MiB, 9);
	assert_int_equal(run_io(bench, &io), MiB);
	io = (struct env_io) { .kind = ENV_FLUSH };
	assert_int_equal(run_io(bench, &io), 0);
	io = (struct env_io) { .kind = ENV_DISCARD, .offset = 64 * KiB, .size = 128 * KiB };
	if (info.discards == 0) {
		assert_int_equal(run_io(bench, &io), -EOPNOTSUPP);
		return;
	}
	assert_int_equal(run_io(bench, &io), 0);
	assert_int_equal(
		bench->env->ops->blk_read(bench->env, bench->blk, bench->memory + MiB, MiB, 0), 0);
	memset(bench->memory + 64 * KiB, 0, 128 * KiB);
	assert_memory_equal(bench->memory, bench->memory + MiB, MiB);
	bench->env->ops->blk_info(bench->env, bench->blk, &info);
	assert_int_equal(info.size, SIZE); /* a hole does not move the end */
}

static void a_medium_is_opened_by_one_and_read_by_many(void **state)
{
	struct bench *bench = *state;
	struct env *env = bench->env;
	struct env_blk *second = NULL;
	struct iovec iov = { bench->memory, PAGE_SIZE };
	struct env_io io = { .kind = ENV_WRITE, .size = PAGE_SIZE, .iov = &iov, .iov_count = 1 };

	assert_int_equal(env->ops->blk_open(env, bench->path, 0, &second), -ERR_IN_USE);
	assert_null(second);
	assert_int_equal(env->ops->blk_open(env, bench->path, ENV_BLK_READ_ONLY, &second), 0);
	env->ops->blk_close(env, bench->blk);
	bench->blk = second;
	assert_int_equal(run_io(bench, &io), -EBADF);
	io.kind = ENV_READ;
	assert_int_equal(run_io(bench, &io), PAGE_SIZE);
	env->ops->blk_close(env, bench->blk);
	bench->blk = NULL;
	assert_int_equal(env->ops->blk_open(env, bench->path, 0, &bench->blk), 0);
}

static void what_is_no_medium_is_refused(void **state)
{
	struct bench *bench = *state;
	struct env *env = bench->env;
	struct env_blk *blk = NULL;
	char path[128];

	snprintf(path, sizeof(path), "%s/absent", bench->dir);
	assert_int_equal(env->ops->blk_open(env, path, 0, &blk), -ENOENT);
	assert_int_equal(env->ops->blk_open(env, bench->dir, 0, &blk), -EISDIR);
	assert_int_equal(env->ops->blk_open(env, "/dev/null", ENV_BLK_BUFFERED, &blk), -ENOTBLK);
	assert_null(blk);
}

static uint64_t allocated(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void a_file_is_allocated_unless_it_is_sparse(void **state)
{
	struct bench *bench = *state;
	struct env *env = bench->env;
	struct env_blk_info info;

	assert_true(allocated(bench->path) < MiB);
	assert_int_equal(env->ops->blk_resize(env, bench->blk, 2 * SIZE, false), 0);
	env->ops->blk_info(env, bench->blk, &info);
	assert_int_equal(info.size, 2 * SIZE);
	assert_false(info.is_device);
	assert_true(allocated(bench->path) >= 2 * SIZE);
	assert_int_equal(env->ops->blk_resize(env, bench->blk, UINT64_C(1) << 62, false), -EFBIG);
}

/* Direct I/O is used where it can be, is told truly, and the other way works too. */
static void buffered_files_work_and_say_so(void **state)
{
	struct bench *bench = *state;
	struct env *env = bench->env;
	struct env_blk_info info;
	int fd = open(bench->path, O_RDWR | O_DIRECT | O_CLOEXEC);

	env->ops->blk_info(env, bench->blk, &info);
	assert_int_equal(info.is_direct, fd >= 0);
	if (fd >= 0)
		close(fd);
	env->ops->blk_close(env, bench->blk);
	assert_int_equal(env->ops->blk_open(env, bench->path, ENV_BLK_BUFFERED, &bench->blk), 0);
	env->ops->blk_info(env, bench->blk, &info);
	assert_false(info.is_direct);
	check_scattered(bench);
}

/* Many in flight over few threads, each its own page; every one comes back once and right. */
static void many_in_flight_all_come_back(void **state)
{
	enum { COUNT = 500 };
	struct bench *bench = *state;
	static struct env_io ios[COUNT];
	static struct iovec iovs[COUNT];
	uint64_t until = env_now_ns(bench->env) + LIMIT_NS;

	for (int round = 0; round < 2; round++) {
		int before = done_count;

		for (uint32_t i = 0; i < COUNT; i++) {
			char *page = bench->memory + i * PAGE_SIZE + (uint64_t)round * SIZE / 2;

			if (round == 0)
				fill(page, PAGE_SIZE, i);
			iovs[i] = (struct iovec) { page, PAGE_SIZE };
			ios[i] = (struct env_io) { .done = io_done,
						   .blk = bench->blk,
						   .kind = round == 0 ? ENV_WRITE : ENV_READ,
						   .offset = (COUNT - 1 - i) * PAGE_SIZE,
						   .size = PAGE_SIZE,
						   .iov = &iovs[i],
						   .iov_count = 1 };
			bench->env->ops->blk_submit(bench->env, &ios[i]);
		}
		while (done_count < before + COUNT && env_now_ns(bench->env) < until)
			assert_int_equal(bench->env->ops->poll(bench->env, LIMIT_NS), 0);
		assert_int_equal(done_count, before + COUNT);
		for (uint32_t i = 0; i < COUNT; i++)
			assert_int_equal(ios[i].result, PAGE_SIZE);
	}
	assert_memory_equal(bench->memory, bench->memory + SIZE / 2, COUNT * PAGE_SIZE);
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)

static int run_all(const char *back_end)
{
	const struct CMUnitTest tests[] = {
		T(scattered_bytes_come_back),      T(short_and_interrupted_steps_are_gone_on_with),
		T(sync_calls_move_the_same_bytes), T(behind_the_end_is_an_error_and_no_short_count),
		T(flush_and_discard_answer),       T(a_medium_is_opened_by_one_and_read_by_many),
		T(what_is_no_medium_is_refused),   T(a_file_is_allocated_unless_it_is_sparse),
		T(buffered_files_work_and_say_so), T(many_in_flight_all_come_back),
	};

	return cmocka_run_group_tests_name(back_end, tests, NULL, NULL);
}

int main(void)
{
	return back_ends_run(run_all);
}
