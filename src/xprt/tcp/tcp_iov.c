/* SPDX-License-Identifier: Apache-2.0 */
#include "tcp.h"

uint32_t tcp_iov_slice(struct iovec *dst, uint32_t dst_max, const struct iovec *src,
		       uint32_t src_count, uint64_t skip, uint64_t size, uint64_t *size_out)
{
	uint32_t count = 0;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < src_count && count < dst_max && sum < size; i++) {
		uint64_t piece;

		if (skip >= src[i].iov_len) {
			skip -= src[i].iov_len;
			continue;
		}
		piece = MIN(src[i].iov_len - skip, size - sum);
		dst[count].iov_base = (char *)src[i].iov_base + skip;
		dst[count].iov_len = piece;
		count++;
		sum += piece;
		skip = 0;
	}
	*size_out = sum;
	return count;
}

uint64_t tcp_iov_size(const struct iovec *iov, uint32_t iov_count)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < iov_count; i++)
		sum += iov[i].iov_len;
	return sum;
}

bool tcp_span_locate(struct tcp_lane *lane, struct tcp_span *span, struct iovec *iov,
		     enum wire_kind kind, const struct tcp_grant *what, uint32_t base)
{
	int count =
		lane->lane.user->locate(&lane->lane, kind, what->request, what->item,
					what->offset + base, what->size - base, iov, TCP_IOV_MAX);

	if (count <= 0)
		return false;
	ASSERT(count <= TCP_IOV_MAX);
	*span = (struct tcp_span) { iov, (uint32_t)count, base,
				    (uint32_t)tcp_iov_size(iov, (uint32_t)count) };
	ASSERT(span->size > 0 && span->size <= what->size - base);
	return true;
}
