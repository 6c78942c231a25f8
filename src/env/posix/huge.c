/* SPDX-License-Identifier: Apache-2.0 */
#include "huge.h"

#include <errno.h>

/* size bytes of addresses, nobody else's, that fit offset. */
static int reserve(uint64_t offset, size_t size, size_t align, char **base_out)
{
	size_t all = size + align;
	char *base;
	size_t before;

	if (all < size)
		return -ENOMEM;
	base = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	before = (offset - (uintptr_t)base) & (align - 1);
	if (before > 0)
		munmap(base, before);
	if (before < align)
		munmap(base + before + size, align - before);
	*base_out = base + before;
	return 0;
}

int huge_map(int fd, uint64_t offset, size_t size, size_t page_size, void **base_out)
{
	char *base = NULL;
	int rc;

	ASSERT(offset % page_size == 0);
	ASSERT(size % page_size == 0);
	rc = reserve(offset, size, MAX(page_size, HUGE_PAGE_SIZE), &base);
	if (rc < 0)
		return rc;
	if (mmap(base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset) ==
	    MAP_FAILED) {
		rc = -errno;
		munmap(base, size);
		return rc;
	}
	*base_out = base;
	return 0;
}
