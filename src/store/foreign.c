/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be read or written straight in a client's memory, and what of a failure there is the
 * client's. The drive wants whole pages; a command is worth its cost from some size on; and what
 * the client may change under our hands must be nobody else's business:
 *
 *   - a block that has yet to be verified for all who come later is verified in our own memory
 *   - a small block shares its record with others', which must not fail with it
 */
#include "shard_priv.h"

#ifndef FOREIGN_MIN
#define FOREIGN_MIN (64 * KiB) /* of a piece */
#endif

bool shard_read_is_large(uint32_t size)
{
	return size >= FOREIGN_MIN;
}

bool shard_put_is_large(uint32_t size)
{
	return size >= DISK_GROUP_BLOCK_MAX;
}

/* All but the last are whole units, none of them tiny. */
static bool are_fit(const struct iovec *iov, uint32_t iov_count, uint64_t unit)
{
	for (uint32_t i = 0; i < iov_count; i++) {
		if ((uintptr_t)iov[i].iov_base % PAGE_SIZE != 0)
			return false;
		if (i + 1 < iov_count &&
		    (iov[i].iov_len < FOREIGN_MIN || iov[i].iov_len % unit != 0))
			return false;
	}
	return iov_count > 1 || (iov_count == 1 && iov[0].iov_len >= FOREIGN_MIN);
}

bool shard_read_fits(const struct shard *shard, const struct shard_ref *ref, uint32_t offset,
		     uint32_t size, const struct iovec *iov, uint32_t iov_count)
{
	const uint32_t never = SHARD_REF_MEMORY | SHARD_REF_BUFFERED | SHARD_REF_SUSPECT;

	CHECK_OBJ(shard, SHARD_MAGIC);
	if ((ref->flags & never) != 0)
		return false;
	if (offset == 0 && size == ref->size)
		return are_fit(iov, iov_count, PAGE_SIZE);
	/* Strides: no more of them than was asked for, and none in two places. */
	return size % PAGE_SIZE == 0 && shard_read_span(shard, ref, offset, size) == size &&
	       are_fit(iov, iov_count, record_stride(ref->size));
}

bool shard_put_fits(const struct shard *shard, uint32_t size, const struct iovec *iov,
		    uint32_t iov_count)
{
	CHECK_OBJ(shard, SHARD_MAGIC);
	return !is_memory(shard) && shard_put_is_large(size) && size % PAGE_SIZE == 0 &&
	       are_fit(iov, iov_count, PAGE_SIZE);
}

/*
 * Memory that went away, or broke; or, on a medium that checks what it writes (an NVMe drive with
 * protection information, dm-integrity), memory that was rewritten between the sum and the writing.
 */
bool foreign_is_fault(int rc)
{
	return rc == -EFAULT || rc == -EHWPOISON || rc == -EILSEQ;
}
