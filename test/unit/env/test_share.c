/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is shared between processes: a piece is found however its maker left it, and is the
 * same bytes on both sides; what is no memory, or too small, is refused; where it is mapped nobody
 * else's memory goes; and one that is cut while it is used costs only itself.
 */
#include "../../lib/t.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../src/env/posix/huge.h"
#include "../../../src/env/posix/posix.h"
#include "../../lib/back_end.h"
#include "../../lib/memory.h"

#define SIZE (16 * PAGE_SIZE)

static char *map_all(int fd)
{
	char *base = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(base, MAP_FAILED);
	return base;
}

/* Piece base … size of ours, by what find says, is the same bytes elsewhere. */
static void check_found(struct env *env, char *base, size_t size)
{
	uint64_t offset = 0;
	void *theirs = NULL;
	int fd = -1;

	assert_int_equal(env->ops->share_find(env, base, size, &fd, &offset), 0);
	assert_int_equal(env->ops->share_map(env, fd, offset, size, &theirs), 0);
	close(fd);
	memset(base, 'a', size);
	((char *)theirs)[size - 1] = 'b';
	assert_int_equal(base[size - 1], 'b');
	assert_int_equal(((char *)theirs)[0], 'a');
	assert_false(env->ops->share_is_lost(env, theirs));
	env->ops->share_unmap(env, theirs);
}

/* --- find --- */

static void a_shared_piece_is_found_by_its_descriptor(void **state)
{
	int fd = memory_make("pool", SIZE);
	char *base = map_all(fd);

	check_found(*state, base, SIZE);
	check_found(*state, base + 3 * PAGE_SIZE, 5 * PAGE_SIZE);
	munmap(base, SIZE);
	close(fd);
}

/* vLLM's pool: a file of /dev/shm, unlinked, its descriptor open. LMCache's: the other way round.
 */
static void a_pool_is_found_unlinked_or_closed_but_not_both(void **state)
{
	struct env *env = *state;
	char path[] = "/dev/shm/ctxkv-share-XXXXXX";
	uint64_t offset;
	int found = -1;
	int fd = mkostemp(path, O_CLOEXEC);
	char *base;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	base = map_all(fd);
	close(fd);
	check_found(env, base, SIZE);
	fd = open(path, O_RDWR | O_CLOEXEC);
	unlink(path);
	check_found(env, base, SIZE);
	close(fd);
	assert_int_equal(env->ops->share_find(env, base, SIZE, &found, &offset), -ENOENT);
	/* Another file under that name is not the pool. */
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(env->ops->share_find(env, base, SIZE, &found, &offset), -ENOENT);
	unlink(path);
	munmap(base, SIZE);
}

/* A file of a long name, mapped in front of all memory: what stands behind it in the list of
 * mappings is seen all the same. */
static void a_long_name_hides_no_piece(void **state)
{
	char *const low = (char *)0x20000000;
	char path[600] = "/var/tmp/ctxkv-share-XXXXXX";
	int fd = memory_make("pool", SIZE);
	char *base = map_all(fd);
	size_t ends[3]; /* of what was made */
	int file;

	assert_non_null(mkdtemp(path));
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		ends[i] = strlen(path);
		if (i < 2)
			snprintf(path + ends[i], sizeof(path) - ends[i], "/%0245d", 0);
		if (i < 2)
			assert_int_equal(mkdir(path, 0700), 0);
	}
	snprintf(path + ends[2], sizeof(path) - ends[2], "/file");
	assert_true(strlen(path) > 512);
	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(file >= 0);
	assert_int_equal(ftruncate(file, PAGE_SIZE), 0);
	assert_ptr_equal(mmap(low, PAGE_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, file, 0),
			 low);
	assert_true(low < base);
	check_found(*state, base, SIZE);
	munmap(low, PAGE_SIZE);
	close(file);
	unlink(path);
	for (size_t i = ARRAY_LEN(ends); i > 0; i--) {
		path[ends[i - 1]] = '\0';
		rmdir(path);
	}
	munmap(base, SIZE);
	close(fd);
}

static void what_is_not_one_shared_piece_is_not_found(void **state)
{
	struct env *env = *state;
	uint64_t offset;
	int found = -1;
	int fd = memory_make("pool", SIZE);
	int other = memory_make("other", SIZE);
	char *base = map_all(fd);
	char *private_memory = malloc(SIZE);
	uint32_t before = descriptor_count();

	assert_int_equal(env->ops->share_find(env, private_memory, SIZE, &found, &offset),
			 -EOPNOTSUPP);
	assert_int_equal(env->ops->share_find(env, base, 0, &found, &offset), -EINVAL);
	assert_int_equal(env->ops->share_find(env, base, SIZE_MAX, &found, &offset), -EINVAL);
	/* A hole in it, another file in it, and the same file out of order. */
	munmap(base + 4 * PAGE_SIZE, PAGE_SIZE);
	assert_int_equal(env->ops->share_find(env, base, SIZE, &found, &offset), -EOPNOTSUPP);
	mmap(base + 4 * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, other,
	     4 * PAGE_SIZE);
	assert_int_equal(env->ops->share_find(env, base, SIZE, &found, &offset), -EOPNOTSUPP);
	mmap(base + 4 * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
	     5 * PAGE_SIZE);
	assert_int_equal(env->ops->share_find(env, base, SIZE, &found, &offset), -EOPNOTSUPP);
	mmap(base + 4 * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
	     4 * PAGE_SIZE);
	assert_int_equal(env->ops->share_find(env, base, SIZE, &found, &offset), -EOPNOTSUPP);
	/* Whole again, though in two mappings: found. */
	mmap(base + 4 * PAGE_SIZE, PAGE_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 4 * PAGE_SIZE);
	assert_int_equal(env->ops->share_find(env, base, SIZE, &found, &offset), 0);
	assert_int_equal(offset, 0);
	close(found);
	assert_int_equal(descriptor_count(), before);
	munmap(base, SIZE);
	close(fd);
	close(other);
	free(private_memory);
}

/* --- map --- */

static void only_memory_of_that_size_is_mapped(void **state)
{
	struct env *env = *state;
	char path[] = "/var/tmp/ctxkv-share-XXXXXX";
	void *base = NULL;
	int fd = memory_make("pool", SIZE);
	int file = mkostemp(path, O_CLOEXEC);
	int folder = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fds[2];
	const struct {
		int fd;
		uint64_t offset;
		size_t size;
		int rc;
	} cases[] = {
		{ fd, 0, SIZE + 1, -EINVAL },
		{ fd, PAGE_SIZE, SIZE, -EINVAL },
		{ fd, SIZE, 1, -EINVAL },
		{ fd, 0, 0, -EINVAL },
		{ fd, UINT64_MAX - PAGE_SIZE + 1, PAGE_SIZE, -EINVAL },
		{ fd, UINT64_C(1) << 63, PAGE_SIZE, -EINVAL },
		{ file, 0, PAGE_SIZE, -EOPNOTSUPP },
		{ folder, 0, PAGE_SIZE, -EOPNOTSUPP },
		{ -1, 0, PAGE_SIZE, -EBADF },
	};

	assert_int_equal(ftruncate(file, SIZE), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(env->ops->share_map(env, cases[i].fd, cases[i].offset,
						     cases[i].size, &base),
				 cases[i].rc);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(env->ops->share_map(env, fds[0], 0, PAGE_SIZE, &base), -EOPNOTSUPP);
	assert_null(base);
	close(fds[0]);
	close(fds[1]);
	close(fd);
	close(file);
	close(folder);
	unlink(path);
}

/* The pages around it are mapped, and it is what was asked for. */
static void a_piece_may_begin_and_end_anywhere(void **state)
{
	struct env *env = *state;
	int fd = memory_make("pool", SIZE);
	char *all = map_all(fd);
	void *base = NULL;

	memset(all, 'a', SIZE);
	assert_int_equal(
		env->ops->share_map(env, fd, PAGE_SIZE + 100, 2 * (size_t)PAGE_SIZE, &base), 0);
	memset(base, 'b', 2 * (size_t)PAGE_SIZE);
	assert_int_equal(all[PAGE_SIZE + 99], 'a');
	assert_int_equal(all[PAGE_SIZE + 100], 'b');
	assert_int_equal(all[3 * PAGE_SIZE + 99], 'b');
	assert_int_equal(all[3 * PAGE_SIZE + 100], 'a');
	assert_int_equal(ftruncate(fd, 2 * PAGE_SIZE), 0);
	memset(base, 'c', 2 * (size_t)PAGE_SIZE);
	assert_true(env->ops->share_is_lost(env, base));
	env->ops->share_unmap(env, base);
	munmap(all, SIZE);
	close(fd);
}

/* KiB of the mapping around address that are mapped as huge pages. */
static long huge_kib(const void *address)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	uintptr_t at = (uintptr_t)address;
	unsigned long from;
	unsigned long to;
	char line[512];
	bool is_it = false;
	long kib = -1;

	assert_non_null(smaps);
	while (kib < 0 && fgets(line, sizeof(line), smaps) != NULL) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			is_it = from <= at && at < to;
		else if (is_it)
			(void)sscanf(line, "ShmemPmdMapped: %ld", &kib);
	}
	fclose(smaps);
	return kib;
}

/* A client's huge page is one for us, too, wherever in the file the piece begins. */
static void huge_pages_stay_huge(void **state)
{
	const uint64_t offsets[] = { 0, PAGE_SIZE, 2 * MiB - PAGE_SIZE, 2 * MiB + 100 };
	const size_t size = 6 * MiB;
	struct env *env = *state;
	int fd = memfd_create("pool", MFD_CLOEXEC);
	char *room =
		mmap(NULL, size + HUGE_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *ours = (char *)round_up((uintptr_t)room, (uintptr_t)HUGE_PAGE_SIZE);
	void *base = NULL;

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_ptr_equal(mmap(ours, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
			 ours);
	memset(ours, 'a', size);
	(void)madvise(ours, size, MADV_COLLAPSE);
	if (huge_kib(ours) == (long)(size / KiB)) { /* else there are none here */
		for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
			assert_int_equal(
				env->ops->share_map(env, fd, offsets[i], size - offsets[i], &base),
				0);
			((volatile char *)base)[2 * MiB] = 'b';
			assert_int_equal(huge_kib((char *)base + 2 * MiB), 2 * MiB / KiB);
			env->ops->share_unmap(env, base);
		}
	}
	munmap(room, size + HUGE_PAGE_SIZE);
	close(fd);
}

void *__real_mmap64(void *address, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t size, int prot, int flags, int fd, off_t offset);

/* Another thread, as quick as can be: it has the first page of each place that is asked for. */
static struct {
	uint32_t takes;    /* so often still */
	bool is_in_kernel; /* it comes while the kernel maps, which fails */
	char *taken[4];
	uint32_t count;
} other;
static uint32_t map_calls;

static void other_take(void *address)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;

	other.takes--;
	other.taken[other.count] =
		__real_mmap64(address, PAGE_SIZE, PROT_READ | PROT_WRITE, flags, -1, 0);
	assert_ptr_equal(other.taken[other.count++], address);
}

void *__wrap_mmap64(void *address, size_t size, int prot, int flags, int fd, off_t offset)
{
	map_calls++;
	if (fd < 0 || address == NULL || other.takes == 0)
		return __real_mmap64(address, size, prot, flags, fd, offset);
	if (!other.is_in_kernel) {
		other_take(address);
		return __real_mmap64(address, size, prot, flags, fd, offset);
	}
	if ((flags & MAP_FIXED) != 0)
		munmap(address, size); /* the kernel's first step, and no step back */
	other_take(address);
	errno = EPERM;
	return MAP_FAILED;
}

/* What another thread maps meanwhile stays, whether the piece is mapped or not; and only what is
 * given to us stays mapped of ours. */
static void check_other(struct env *env, uint32_t takes, bool is_in_kernel, int expected)
{
	const size_t size = HUGE_PAGE_SIZE; /* a place is looked for */
	int fd = memory_make("pool", size);
	void *base = NULL;
	unsigned char there;

	other.takes = takes;
	other.is_in_kernel = is_in_kernel;
	other.count = 0;
	assert_int_equal(env->ops->share_map(env, fd, 0, size, &base), expected);
	other.takes = 0;
	assert_true(other.count > 0);
	assert_int_equal(memory_mapping_count(fd), expected == 0);
	if (expected == 0) {
		if (takes == 1) /* once is tried again */
			assert_int_equal((uintptr_t)base % HUGE_PAGE_SIZE, 0);
		memset(base, 'p', size);
		env->ops->share_unmap(env, base);
	}
	for (uint32_t i = 0; i < other.count; i++) {
		assert_int_equal(mincore(other.taken[i], PAGE_SIZE, &there), 0);
		assert_int_equal(*other.taken[i], 0);
		munmap(other.taken[i], PAGE_SIZE);
	}
	close(fd);
}

static void what_another_thread_maps_meanwhile_stays(void **state)
{
	check_other(*state, 1, true, -EPERM);
	check_other(*state, 1, false, 0);
	check_other(*state, ARRAY_LEN(other.taken), false, 0);
}

/* What holds no huge page lies where it may: a connection's rings cost one call. */
static void a_small_piece_is_mapped_by_one_call(void **state)
{
	struct env *env = *state;
	int fd = memory_make("rings", HUGE_PAGE_SIZE);
	void *base = NULL;

	for (int is_large = 0; is_large < 2; is_large++) {
		size_t size = HUGE_PAGE_SIZE - (is_large != 0 ? 0 : PAGE_SIZE);

		map_calls = 0;
		assert_int_equal(env->ops->share_map(env, fd, 0, size, &base), 0);
		assert_int_equal(map_calls, is_large != 0 ? 2 : 1);
		env->ops->share_unmap(env, base);
	}
	close(fd);
}

static bool is_mapped(const char *address)
{
	unsigned char resident;

	return mincore((void *)(uintptr_t)address, PAGE_SIZE, &resident) == 0;
}

/* Nobody takes all addresses by mapping huge files of nothing again and again. */
static void what_goes_later_is_bounded(void **state)
{
	const size_t size = 1024 * GiB;
	struct env *env = *state;
	int fd = memory_make("pool", SIZE);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	for (int i = 0; i < 200; i++) {
		void *base = NULL;

		assert_int_equal(env->ops->share_map(env, fd, 0, size, &base), 0);
		env->ops->share_unmap(env, base);
		if (i % 10 == 0)
			assert_int_equal(env->ops->poll(env, 0), 0);
	}
	close(fd);
}

/* To unmap much takes long: nobody waits for all of it, and none is left. */
static void a_large_piece_goes_by_parts(void **state)
{
	const size_t size = 60 * MiB; /* in four turns */
	struct env *env = *state;
	void *bases[2] = { NULL, NULL };
	int fd = memory_make("pool", SIZE);
	char *last[2];

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(env->ops->share_map(env, fd, 0, size, &bases[i]), 0);
		last[i] = (char *)bases[i] + size - PAGE_SIZE;
	}
	env->ops->share_unmap(env, bases[0]);
	for (int turn = 1; turn <= 4; turn++) {
		assert_true(is_mapped(last[0]));
		assert_int_equal(env->ops->poll(env, 0), 0);
		assert_false(is_mapped(bases[0]));
	}
	assert_false(is_mapped(last[0]));
	assert_true(is_mapped(bases[1]));
	assert_false(env->ops->share_is_lost(env, bases[1]));
	/* The end of the loop waits for no turn. */
	env->ops->share_unmap(env, bases[1]);
	assert_true(is_mapped(last[1]));
	env_close(&env);
	assert_false(is_mapped(last[1]));
	close(fd);
	assert_int_equal(back_end_begin(state), 0);
}

/* What share_make() gives is seen by both sides, and keeps its size whatever either does. */
static void made_memory_keeps_its_size(void **state)
{
	struct env *env = *state;
	uint32_t before = descriptor_count();
	void *mine = NULL;
	void *theirs = NULL;
	int fd = -1;
	int plain = memory_make("plain", SIZE);

	assert_int_equal(env->ops->share_make(env, SIZE, &fd, &mine), 0);
	assert_true(env->ops->share_is_fixed(env, fd));
	assert_int_equal(env->ops->share_map(env, fd, 0, SIZE, &theirs), 0);
	memcpy(mine, "hello", 6);
	assert_string_equal(theirs, "hello");
	assert_int_equal(ftruncate(fd, PAGE_SIZE), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, 0), -1);
	assert_false(env->ops->share_is_fixed(env, plain));
	assert_false(env->ops->share_is_fixed(env, -1));
	env->ops->share_unmap(env, mine);
	env->ops->share_unmap(env, theirs);
	close(fd);
	close(plain);
	assert_int_equal(descriptor_count(), before);
}

static void a_piece_that_is_cut_costs_only_itself(void **state)
{
	struct env *env = *state;
	int fd = memory_make("cut", SIZE);
	int whole_fd = memory_make("whole", SIZE);
	void *cut = NULL;
	void *whole = NULL;
	char *bytes = malloc(SIZE);

	assert_int_equal(env->ops->share_map(env, fd, 0, SIZE, &cut), 0);
	assert_int_equal(env->ops->share_map(env, whole_fd, 0, SIZE, &whole), 0);
	memset(bytes, 'x', SIZE);
	memcpy(cut, bytes, SIZE);
	assert_int_equal(ftruncate(fd, 4 * PAGE_SIZE), 0);
	assert_false(env->ops->share_is_lost(env, cut)); /* nobody has touched it yet */
	memcpy(cut, bytes, SIZE);
	assert_true(env->ops->share_is_lost(env, cut));
	assert_false(env->ops->share_is_lost(env, whole));
	memcpy(whole, bytes, SIZE);
	memcpy(bytes, cut, SIZE); /* it can still be touched */
	env->ops->share_unmap(env, cut);
	/* The next piece in its place is not lost, and a read finds out as well. */
	assert_int_equal(env->ops->share_map(env, whole_fd, 0, SIZE, &cut), 0);
	assert_false(env->ops->share_is_lost(env, cut));
	assert_int_equal(ftruncate(whole_fd, 0), 0);
	memcpy(bytes, cut, SIZE);
	assert_true(env->ops->share_is_lost(env, cut));
	assert_false(env->ops->share_is_lost(env, whole));
	env->ops->share_unmap(env, cut);
	env->ops->share_unmap(env, whole);
	close(fd);
	close(whole_fd);
	free(bytes);
}

/* Of a large piece that is cut only what is touched, and a little around it, becomes ours. */
static void what_is_lost_is_not_ours_as_a_whole(void **state)
{
	const size_t size = 64 * MiB;
	struct env *env = *state;
	int fd = memory_make("large", SIZE);
	char *base = NULL;
	char *own;

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	own = map_all(fd);
	assert_int_equal(env->ops->share_map(env, fd, 0, size, (void **)&base), 0);
	assert_int_equal(ftruncate(fd, (off_t)(size / 2)), 0);
	base[size - 1] = 1;
	assert_true(env->ops->share_is_lost(env, base));
	base[0] = 'b'; /* is still the file's */
	assert_int_equal(own[0], 'b');
	env->ops->share_unmap(env, base);
	munmap(own, SIZE);
	close(fd);
}

/* Memory of ours that breaks is our own trouble. */
static void a_fault_elsewhere_still_kills(void **state)
{
	struct env *env = *state;
	int status;
	pid_t pid;

	pid = fork();
	if (pid == 0) {
		int fd = memory_make("own", SIZE);
		void *shared = NULL;
		char *own = map_all(fd);

		signal(SIGBUS, SIG_DFL); /* a sanitizer's handler would tell a story */
		if (env->ops->share_map(env, fd, 0, SIZE, &shared) != 0)
			_exit(1);
		if (ftruncate(fd, 0) != 0)
			_exit(2);
		*(volatile char *)own = 1;
		_exit(3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_false(WIFEXITED(status) && WEXITSTATUS(status) < 4);
}

#define T(name) cmocka_unit_test_setup_teardown(name, back_end_begin, back_end_end)

static int run_all(const char *back_end)
{
	const struct CMUnitTest tests[] = {
		T(a_shared_piece_is_found_by_its_descriptor),
		T(a_pool_is_found_unlinked_or_closed_but_not_both),
		T(a_long_name_hides_no_piece),
		T(what_is_not_one_shared_piece_is_not_found),
		T(only_memory_of_that_size_is_mapped),
		T(a_piece_may_begin_and_end_anywhere),
		T(huge_pages_stay_huge),
		T(what_another_thread_maps_meanwhile_stays),
		T(a_small_piece_is_mapped_by_one_call),
		T(a_large_piece_goes_by_parts),
		T(what_goes_later_is_bounded),
		T(made_memory_keeps_its_size),
		T(a_piece_that_is_cut_costs_only_itself),
		T(what_is_lost_is_not_ours_as_a_whole),
		T(a_fault_elsewhere_still_kills),
	};

	return cmocka_run_group_tests_name(back_end, tests, NULL, NULL);
}

int main(void)
{
	return back_ends_run(run_all);
}
