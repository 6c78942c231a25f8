/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Huge pages. A drive takes memory in pieces that are one in the machine's memory, too: 2 MiB in
 * 4 KiB pages are 512 of them, which cost up to two thirds of a drive's speed where each piece is
 * work for somebody (a virtual machine's host), and CPU everywhere. Shared memory has transparent
 * huge pages by itself only where the host says so (shmem_enabled), and the kernel's default is
 * that it does not: so one small page of each 2 MiB is taken, and the kernel asked to make one huge
 * page of them (MADV_COLLAPSE), which it does whatever that default is, unless it is "deny". That
 * takes a tenth of the time of touching 512 pages. What ctxkv_alloc() gives is made at once, the
 * staging area as it is used.
 *
 * Failure: an older kernel (before 6.1) does not know it, or there is no 2 MiB in one piece: small
 * pages, as before. There is no memory at all: touch_pages() says so, by an error and no SIGBUS.
 */
#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../env/posix/huge.h"

static int map(struct shared *shared)
{
	int rc = huge_map(shared->fd, 0, shared->size, shared->page_size, &shared->base);

	if (rc == 0) /* reserved ones have no need of it */
		(void)madvise(shared->base, shared->size, MADV_HUGEPAGE);
	return rc;
}

void shared_make_huge(void *base, uint64_t size)
{
	uint64_t whole = round_down(size, (uint64_t)HUGE_PAGE_SIZE);

	if ((uintptr_t)base % HUGE_PAGE_SIZE != 0)
		return; /* there was no such place: huge.h */
	for (uint64_t at = 0; at < whole; at += HUGE_PAGE_SIZE) {
		if (madvise((uint8_t *)base + at, PAGE_SIZE, MADV_POPULATE_WRITE) < 0)
			return;
	}
	if (whole > 0)
		(void)madvise(base, whole, MADV_COLLAPSE);
}

/* All that is not there yet. Kernels that cannot do it at once have it done here. */
static int touch_pages(const struct shared *shared)
{
	volatile uint8_t *bytes = shared->base;

	if (madvise(shared->base, shared->size, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	for (uint64_t at = 0; at < shared->size; at += shared->page_size)
		bytes[at] = 0;
	return 0;
}

static int touch(const struct shared *shared)
{
	if (shared->page_size < HUGE_PAGE_SIZE)
		shared_make_huge(shared->base, shared->size);
	return touch_pages(shared);
}

int shared_alloc(struct shared *shared, uint64_t size, bool is_huge, bool is_touched)
{
	uint32_t page_size = is_huge ? HUGE_PAGE_SIZE : PAGE_SIZE;
	unsigned flags =
		MFD_CLOEXEC | MFD_ALLOW_SEALING | (is_huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0);
	int rc;

	if (size == 0 || size > SIZE_MAX / 4)
		return -EINVAL;
	*shared = (struct shared) {
		.size = round_up(size, (uint64_t)page_size),
		.page_size = page_size,
		.fd = memfd_create("ctxkv", flags),
	};
	if (shared->fd < 0)
		return -errno;
	rc = ftruncate(shared->fd, (off_t)shared->size) < 0 ? -errno : 0;
	/* A server need not fear that it is cut while it writes. */
	if (rc == 0 &&
	    fcntl(shared->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		rc = -errno;
	if (rc == 0 && is_huge && fallocate(shared->fd, 0, 0, (off_t)shared->size) < 0)
		rc = -ENOMEM; /* found out here rather than by a fault at first touch */
	if (rc == 0)
		rc = map(shared);
	if (rc == 0 && is_touched)
		rc = touch(shared);
	if (rc < 0)
		shared_free(shared);
	return rc;
}

void shared_free(struct shared *shared)
{
	if (shared->base != NULL)
		munmap(shared->base, shared->size);
	if (shared->size > 0 && shared->fd >= 0)
		close(shared->fd);
	*shared = (struct shared) { .fd = -1 };
}
