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

/* x^0 … x^3 times the polynomial, for the remainder of four bits at a time; Castagnoli, reflected:
 * bit 31 is x^0. */
static const uint32_t remainders[16] = {
	0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
	0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
	0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

/* x^(8 * 2^n): each is the square of the one before, and that of the last is the first again. */
static const uint32_t powers[31] = {
	0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a, 0xb82be955,
	0xb8fdb1e7, 0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a, 0x35d73a62, 0x28461564,
	0xbf455269, 0xe2ea32dc, 0xfe7740e6, 0xf946610b, 0x3c204f8f, 0x538586e3, 0x59726915,
	0x734d5309, 0xbc1ac763, 0x7d0722cc, 0xd289cabe, 0xe94ca9bc, 0x05b74f3f, 0xa51e1f42,
	0x40000000, 0x20000000, 0x08000000,
};

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

/* Times x^4. */
static uint32_t shift(uint32_t a)
{
	return a >> 4 ^ remainders[a & 15];
}

static uint32_t half(uint32_t a)
{
	return a >> 1 ^ remainders[(a & 1) << 3];
}

static uint32_t multiply(uint32_t a, uint32_t b)
{
	uint32_t multiples[16] = { 0 };
	uint32_t product = 0;

	for (uint32_t bit = 8; bit != 0; bit >>= 1, b = half(b)) {
		for (uint32_t i = 0; i < 16; i += 2 * bit) {
			for (uint32_t j = i; j < i + bit; j++)
				multiples[j + bit] = multiples[j] ^ b;
		}
	}
	for (uint32_t i = 0; i < 8; i++, a >>= 4)
		product = shift(product) ^ multiples[a & 15];
	return product;
}

uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t size_b)
{
	for (uint32_t i = 0; size_b != 0 && crc_a != 0; size_b >>= 1, i++) {
		if ((size_b & 1) != 0)
			crc_a = multiply(crc_a, powers[i % ARRAY_LEN(powers)]);
	}
	return crc_a ^ crc_b;
}

struct hash128 hash128(const void *data, size_t size, uint64_t seed)
{
	XXH128_hash_t hash = XXH3_128bits_withSeed(data, size, seed);

	return (struct hash128) { hash.low64, hash.high64 };
}
