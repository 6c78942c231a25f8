/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks whose bytes are in memory: of a put that is not yet written, or in memory mode. Pinned,
 * they stay where they are; nothing is copied.
 */
#include "shard_priv.h"

uint32_t shard_view(const struct shard *shard, const struct shard_ref *ref, uint32_t offset,
		    uint32_t size, struct iovec *iov, uint32_t iov_max)
{
	const struct shard_put *put = ref->put;
	uint64_t skip = offset;
	uint32_t count = 0;

	CHECK_OBJ(shard, SHARD_MAGIC);
	ASSERT((uint64_t)offset + size <= ref->size);
	if ((ref->flags & SHARD_REF_MEMORY) != 0) {
		char *data = memory_page(shard, ref->segment, ref->page);

		if (iov_max == 0 || size == 0)
			return 0;
		iov[0] = (struct iovec) { data + offset, size };
		return 1;
	}
	ASSERT((ref->flags & SHARD_REF_BUFFERED) != 0);
	ASSERT(!put->is_foreign);
	for (uint32_t i = 0; size > 0 && count < iov_max; i++) {
		uint64_t piece;

		ASSERT(i < put->iov_count);
		if (skip >= put->iov[i].iov_len) {
			skip -= put->iov[i].iov_len;
			continue;
		}
		piece = MIN(put->iov[i].iov_len - skip, size);
		iov[count++] = (struct iovec) { (char *)put->iov[i].iov_base + skip, piece };
		skip = 0;
		size -= (uint32_t)piece;
	}
	return count;
}

static uint32_t view_crc(const struct shard *shard, const struct shard_ref *ref, uint32_t offset,
			 uint32_t size)
{
	uint32_t crc = 0;

	while (size > 0) {
		struct iovec iov;

		(void)shard_view(shard, ref, offset, size, &iov, 1); /* one: size is not 0 */
		crc = crc32c(crc, iov.iov_base, iov.iov_len);
		offset += (uint32_t)iov.iov_len;
		size -= (uint32_t)iov.iov_len;
	}
	return crc;
}

int shard_check(struct shard *shard, const struct shard_ref *ref, uint32_t offset, uint32_t size,
		uint32_t *crc_out)
{
	uint32_t crc = view_crc(shard, ref, offset, size);
	uint32_t whole = crc;
	int rc;

	if (offset != 0 || size != ref->size)
		whole = view_crc(shard, ref, 0, ref->size);
	rc = shard_check_sum(shard, ref, whole);
	if (rc == 0)
		*crc_out = crc;
	return rc;
}

int shard_check_sum(struct shard *shard, const struct shard_ref *ref, uint32_t crc)
{
	CHECK_OBJ(shard, SHARD_MAGIC);
	if ((ref->flags & SHARD_REF_NO_CRC) != 0 || crc == ref->crc)
		return 0;
	shard->stats.corrupt++;
	(void)shard_index_remove(shard, &ref->hash, ref->sequence); /* may be gone */
	return -ERR_CORRUPT;
}
