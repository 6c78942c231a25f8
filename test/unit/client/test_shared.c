/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory to be shared: whole pieces of 2 MiB are in huge pages whatever the host gives shared
 * memory by itself, as the kernel says (smaps); what is behind the last one is there, too, and all
 * of it is zero and can be passed on by its descriptor. Where the kernel itself makes no huge page
 * of shared memory on request (before 6.1, "deny", none in one piece) there is nothing to see.
 */
#include "../../lib/t.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../../src/client/shared.h"
#include "../../../src/env/posix/huge.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define PIECES 4
#define REST   (100 * KiB)
#define SIZE   (PIECES * HUGE_PAGE_SIZE + REST)

/* Bytes of the mapping that begins at base, by a name in smaps. */
static uint64_t bytes_of(const void *base, const char *name)
{
	FILE *maps = fopen("/proc/self/smaps", "re");
	unsigned long long found = 0;
	bool is_it = false;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL) {
		unsigned long from;
		unsigned long to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			is_it = from == (uintptr_t)base;
		else if (is_it && strncmp(line, name, strlen(name)) == 0)
			(void)sscanf(line + strlen(name), ": %llu", &found);
	}
	fclose(maps);
	return found * KiB;
}

/* Asked without a line of ours: memory as large, touched, and made one. */
static bool kernel_can(void)
{
	uint64_t size = PIECES * HUGE_PAGE_SIZE;
	int fd = memfd_create("test", MFD_CLOEXEC);
	char *room =
		mmap(NULL, size + HUGE_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *base = (char *)round_up((uintptr_t)room, (uintptr_t)HUGE_PAGE_SIZE);
	bool can;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_ptr_equal(mmap(base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
			 base);
	memset(base, 1, size);
	can = madvise(base, size, MADV_COLLAPSE) == 0;
	munmap(room, size + HUGE_PAGE_SIZE);
	close(fd);
	return can;
}

static void whole_pieces_are_huge_pages(void **state)
{
	struct shared shared;

	(void)state;
	if (!kernel_can()) {
		print_message("this kernel makes no huge page of shared memory\n");
		skip();
	}
	assert_int_equal(shared_alloc(&shared, SIZE, false, true), 0);
	assert_int_equal(bytes_of(shared.base, "ShmemPmdMapped"), PIECES * HUGE_PAGE_SIZE);
	shared_free(&shared);
}

/* As the staging area grows. */
static void a_piece_is_made_huge_alone(void **state)
{
	uint64_t page = kernel_can() ? HUGE_PAGE_SIZE : 0;
	struct shared shared;
	uint8_t *bytes;

	(void)state;
	assert_int_equal(shared_alloc(&shared, SIZE, false, false), 0);
	assert_int_equal(bytes_of(shared.base, "Rss"), 0);
	bytes = shared.base;
	shared_make_huge(bytes, HUGE_PAGE_SIZE);
	assert_int_equal(bytes_of(shared.base, "ShmemPmdMapped"), page);
	assert_in_range(bytes_of(shared.base, "Rss"), PAGE_SIZE, HUGE_PAGE_SIZE);
	bytes[0] = 1;
	shared_make_huge(bytes + HUGE_PAGE_SIZE, HUGE_PAGE_SIZE);
	assert_int_equal(bytes_of(shared.base, "ShmemPmdMapped"), 2 * page);
	assert_int_equal(bytes[0], 1);
	shared_make_huge(bytes + PIECES * HUGE_PAGE_SIZE, REST); /* no whole one: left alone */
	assert_in_range(bytes_of(shared.base, "Rss"), 2 * PAGE_SIZE, 2 * HUGE_PAGE_SIZE);
	shared_free(&shared);
}

static void all_of_it_is_there_and_zero(void **state)
{
	static const uint64_t sizes[] = { 1, REST, HUGE_PAGE_SIZE, SIZE };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct shared shared;
		const uint8_t *bytes;

		assert_int_equal(shared_alloc(&shared, sizes[i], false, true), 0);
		assert_int_equal(shared.size, round_up(sizes[i], PAGE_SIZE));
		assert_int_equal(bytes_of(shared.base, "Rss"), shared.size);
		bytes = shared.base;
		for (uint64_t at = 0; at < shared.size; at++) {
			if (bytes[at] != 0)
				fail();
		}
		shared_free(&shared);
		assert_null(shared.base);
	}
}

/* What this side wrote stands in the file, at the same place. */
static void the_descriptor_is_of_the_same_bytes(void **state)
{
	struct shared shared;
	uint8_t *bytes;

	(void)state;
	assert_int_equal(shared_alloc(&shared, SIZE, false, true), 0);
	bytes = shared.base;
	for (uint64_t at = 0; at < SIZE; at += 300 * KiB) {
		uint8_t there = 0;

		bytes[at] = (uint8_t)(1 + at / KiB % 255);
		assert_int_equal(pread(shared.fd, &there, 1, (off_t)at), 1);
		assert_int_equal(there, bytes[at]);
	}
	assert_true((fcntl(shared.fd, F_GET_SEALS) & F_SEAL_SHRINK) != 0);
	shared_free(&shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_pieces_are_huge_pages),
		cmocka_unit_test(a_piece_is_made_huge_alone),
		cmocka_unit_test(all_of_it_is_there_and_zero),
		cmocka_unit_test(the_descriptor_is_of_the_same_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
