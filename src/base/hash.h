/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksums and hashes. CRC32C (Castagnoli, reflected 0x82F63B78, as in RFC 3720) guards bytes
 * against accident; XXH3-128 names things. Neither is a MAC.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base.h"

struct hash128 {
	uint64_t lo;
	uint64_t hi;
};

/* CRC32C of size bytes, going on from crc (0 to begin): crc32c(crc32c(0, a), b) is that of ab. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

/* The CRC32C of ab from those of a and b, where b has size_b bytes. O(log size_b). */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t size_b);

/* XXH3-128 with a seed. */
struct hash128 hash128(const void *data, size_t size, uint64_t seed);

#endif
