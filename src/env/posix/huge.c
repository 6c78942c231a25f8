/* SPDX-License-Identifier: Apache-2.0 */
#include "huge.h"

#include <errno.h>

#define PLACE_TRIES 3

/* Addresses that were free a moment ago, the first of which fits offset. NULL: there are none, or
 * none is needed, as what holds no huge page may lie anywhere. */
static void *place_find(uint64_t offset, size_t size, size_t align)
{
	size_t all = size + align;
	char *room;

	if (size < HUGE_PAGE_SIZE || all < size)
		return NULL;
	room = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return NULL;
	munmap(room, all);
	return room + ((offset - (uintptr_t)room) & (align - 1));
}

int huge_map(int fd, uint64_t offset, size_t size, size_t page_size, void **base_out)
{
	ASSERT(offset % page_size == 0);
	ASSERT(size % page_size == 0);
	for (uint32_t i = 1;; i++) {
		void *place = place_find(offset, size, MAX(page_size, HUGE_PAGE_SIZE));
		void *base =
			mmap(place, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);

		if (base == MAP_FAILED)
			return -errno;
		if (place == NULL || base == place || i == PLACE_TRIES) {
			*base_out = base;
			return 0;
		}
		munmap(base, size);
	}
}
