/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c_combine works with polynomials over GF(2) modulo the CRC's: appending n zero bytes to a
 * message multiplies its CRC by x^(8n), so crc(ab) = crc(a) * x^(8|b|) + crc(b), without the usual
 * pre- and post-inversion, which cancel out.
 */
#include "hash.h"

#include <isa-l.h>
#define XXH_INLINE_ALL /* no library at run time, and short keys hash in place */
#include <xxhash.h>

#define POLY UINT32_C(0x82f63b78) /* Castagnoli, reflected: bit 31 is x^0 */
#define ONE  UINT32_C(0x80000000)
#define BYTE UINT32_C(0x00800000) /* x^8 */

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	crc = ~crc;
	while (size > 0) { /* ISA-L takes an int */
		size_t part = MIN(size, GiB);

		crc = crc32_iscsi((unsigned char *)(uintptr_t)bytes, (int)part, crc);
		bytes += part;
		size -= part;
	}
	return ~crc;
}

static uint32_t multiply(uint32_t a, uint32_t b)
{
	uint32_t product = 0;

	for (uint32_t bit = ONE; bit != 0; bit >>= 1) {
		if ((a & bit) != 0)
			product ^= b;
		b = (b >> 1) ^ ((b & 1) != 0 ? POLY : 0);
	}
	return product;
}

uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t size_b)
{
	uint32_t shift = ONE;

	for (uint32_t power = BYTE; size_b != 0; size_b >>= 1) {
		if ((size_b & 1) != 0)
			shift = multiply(shift, power);
		power = multiply(power, power);
	}
	return multiply(crc_a, shift) ^ crc_b;
}

struct hash128 hash128(const void *data, size_t size, uint64_t seed)
{
	XXH128_hash_t hash = XXH3_128bits_withSeed(data, size, seed);

	return (struct hash128) { hash.low64, hash.high64 };
}

struct hash128 hash128_of_64(const void *data, uint64_t seed)
{
	XXH128_hash_t hash = XXH3_128bits_withSeed(data, 64, seed);

	return (struct hash128) { hash.low64, hash.high64 };
}
