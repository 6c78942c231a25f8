/* SPDX-License-Identifier: Apache-2.0 */
#include "iov.h"

#include <string.h>

uint32_t iov_slice(const struct iovec *from, uint32_t from_count, uint64_t offset, uint32_t size,
		   struct iovec *out, uint32_t out_max, uint32_t *size_out)
{
	uint32_t count = 0;
	uint32_t sum = 0;

	for (uint32_t i = 0; i < from_count && count < out_max && sum < size; i++) {
		uint64_t here = from[i].iov_len;

		if (offset >= here) {
			offset -= here;
			continue;
		}
		here = MIN(here - offset, size - sum);
		out[count].iov_base = (uint8_t *)from[i].iov_base + offset;
		out[count].iov_len = here;
		count++;
		sum += (uint32_t)here;
		offset = 0;
	}
	*size_out = sum;
	return count;
}

void iov_copy(const struct iovec *to, uint32_t to_count, const struct iovec *from,
	      uint32_t from_count, uint64_t size)
{
	uint32_t t = 0;
	uint32_t f = 0;
	uint64_t t_used = 0;
	uint64_t f_used = 0;

	while (size > 0) {
		uint64_t here;

		ASSERT(t < to_count);
		ASSERT(f < from_count);
		here = MIN(to[t].iov_len - t_used, from[f].iov_len - f_used);
		here = MIN(here, size);
		memcpy((uint8_t *)to[t].iov_base + t_used,
		       (const uint8_t *)from[f].iov_base + f_used, here);
		size -= here;
		t_used += here;
		f_used += here;
		if (t_used == to[t].iov_len) {
			t++;
			t_used = 0;
		}
		if (f_used == from[f].iov_len) {
			f++;
			f_used = 0;
		}
	}
}
