/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of pieces: cut one out of another, copy one into another. */
#ifndef SERVER_IOV_H
#define SERVER_IOV_H

#include <sys/uio.h>

#include "../base/base.h"

/*
 * Pieces of [offset, offset + size) of from, at most out_max of them. Returns their number; they
 * hold *size_out bytes: less than size when out_max or from ends before.
 */
uint32_t iov_slice(const struct iovec *from, uint32_t from_count, uint64_t offset, uint32_t size,
		   struct iovec *out, uint32_t out_max, uint32_t *size_out);

/* Both hold at least size bytes. */
void iov_copy(const struct iovec *to, uint32_t to_count, const struct iovec *from,
	      uint32_t from_count, uint64_t size);

#endif
