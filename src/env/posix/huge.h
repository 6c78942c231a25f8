/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared files mapped so that their huge pages are mapped as such: at an address that lies as far
 * behind a multiple of 2 MiB as offset does in the file. Anywhere else each of their 4 KiB is a
 * fault, and a place in the TLB, of its own; and mmap() looks for such a place only where
 * shmem_enabled says so. What is smaller than a huge page holds none, and lies anywhere.
 *
 * Such a place is looked for, and then asked for: another thread may have taken it meanwhile. It is
 * not reserved: what is mapped over a reservation (MAP_FIXED) takes it away first, and where the
 * mapping then fails (a peer's file may see to that: F_SEAL_WRITE, hugetlbfs without pages) there
 * is a hole that another thread may have filled by the time it would be unmapped.
 *
 * Failure: there is no such place, or others are faster again and again: it lies anywhere.
 */
#ifndef ENV_POSIX_HUGE_H
#define ENV_POSIX_HUGE_H

#include <sys/mman.h>

#include "../../base/base.h"

#define HUGE_PAGE_SIZE (2 * MiB)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* of Linux 6.1 */
#endif

/* Readable and writable; offset and size are multiples of the file's page_size. 0 or -errno. */
int huge_map(int fd, uint64_t offset, size_t size, size_t page_size, void **base_out) MUST_USE;

#endif
