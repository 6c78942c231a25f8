/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC32C and XXH3-128 are what others mean by these names (published vectors, a bitwise twin), and
 * the combination of two CRCs is the CRC of both.
 */
#include "../../lib/t.h"

#include <string.h>

#include "../../../src/base/hash_inline.h"

/* By the definition: one bit at a time. */
static uint32_t crc32c_bitwise(const uint8_t *bytes, size_t size)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < size; i++) {
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ ((crc & 1) != 0 ? UINT32_C(0x82f63b78) : 0);
	}
	return ~crc;
}

static void fill(uint8_t *bytes, size_t size)
{
	uint32_t seed = 1;

	for (size_t i = 0; i < size; i++) {
		seed = seed * 1664525u + 1013904223u;
		bytes[i] = (uint8_t)(seed >> 24);
	}
}

/* RFC 3720, B.4, and the usual check value. */
static void crc32c_has_the_published_values(void **state)
{
	uint8_t bytes[32];

	assert_int_equal(crc32c(0, "", 0), 0);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x62a8ab43);
	for (uint8_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = i;
	assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x46dd794e);
}

static void crc32c_agrees_with_the_definition_at_every_size_and_alignment(void **state)
{
	_Alignas(16) uint8_t bytes[600];

	fill(bytes, sizeof(bytes));
	for (size_t begin = 0; begin < 16; begin++) {
		for (size_t size = 0; begin + size <= sizeof(bytes); size += 1 + size / 16)
			assert_int_equal(crc32c(0, bytes + begin, size),
					 crc32c_bitwise(bytes + begin, size));
	}
}

static void crc32c_goes_on_and_combines_at_every_cut(void **state)
{
	uint8_t bytes[300];
	uint32_t whole;

	fill(bytes, sizeof(bytes));
	whole = crc32c(0, bytes, sizeof(bytes));
	for (size_t cut = 0; cut <= sizeof(bytes); cut++) {
		uint32_t a = crc32c(0, bytes, cut);
		uint32_t b = crc32c(0, bytes + cut, sizeof(bytes) - cut);

		assert_int_equal(crc32c(a, bytes + cut, sizeof(bytes) - cut), whole);
		assert_int_equal(crc32c_combine(a, b, sizeof(bytes) - cut), whole);
	}
}

/* Sizes as they come in blocks: strides of 64 KiB up to 64 MiB, without hashing 64 MiB. */
static void crc32c_combines_over_large_sizes(void **state)
{
	uint8_t stride[64 * 1024];
	uint32_t one;
	uint32_t by_steps = 0;
	uint32_t by_doubling;

	fill(stride, sizeof(stride));
	one = crc32c(0, stride, sizeof(stride));
	for (int i = 0; i < 1024; i++)
		by_steps = crc32c_combine(by_steps, one, sizeof(stride));
	by_doubling = one;
	for (uint64_t size = sizeof(stride); size < 64 * MiB; size *= 2)
		by_doubling = crc32c_combine(by_doubling, by_doubling, size);
	assert_int_equal(by_steps, by_doubling);
}

/* Any size, also those nobody hashes: twice so many zeros are as many, and as many again. */
static void crc32c_combines_over_any_size(void **state)
{
	uint32_t crc = UINT32_C(0xdeadbeef);

	for (uint64_t size = 1; size <= UINT64_MAX / 2; size += size / 2 + 1) {
		uint32_t once = crc32c_combine(crc, 0, size);

		assert_int_equal(crc32c_combine(once, 0, size), crc32c_combine(crc, 0, 2 * size));
		assert_int_equal(crc32c_combine(once, 7, 1), crc32c_combine(crc, 7, size + 1));
	}
	for (uint64_t size = 1; size != 0; size *= 2)
		assert_int_equal(crc32c_combine(crc, 0, size - 1),
				 crc32c_combine(crc32c_combine(crc, 0, (size - 1) / 2), 0,
						size - 1 - (size - 1) / 2));
	assert_int_equal(crc32c_combine(0, crc, 12345), crc);
}

static void crc32c_sees_every_single_bit(void **state)
{
	uint8_t bytes[128];
	uint32_t whole;

	fill(bytes, sizeof(bytes));
	whole = crc32c(0, bytes, sizeof(bytes));
	for (size_t bit = 0; bit < 8 * sizeof(bytes); bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_not_equal(crc32c(0, bytes, sizeof(bytes)), whole);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

/* Known outputs of the reference implementation (xxhsum -H2 and its tests). */
static void hash128_is_xxh3_128(void **state)
{
	struct hash128 hash = hash128("", 0, 0);

	assert_int_equal(hash.hi, UINT64_C(0x99aa06d3014798d8));
	assert_int_equal(hash.lo, UINT64_C(0x6001c324468d497f));
	hash = hash128("abc", 3, 0);
	assert_int_equal(hash.hi, UINT64_C(0x06b05ab6733a6185));
	assert_int_equal(hash.lo, UINT64_C(0x78af5f94892f3950));
	assert_int_not_equal(hash128("abc", 3, 1).lo, hash.lo);
}

static void hash128_of_64_is_hash128(void **state)
{
	uint8_t bytes[64] = { 0 };

	for (uint32_t i = 0; i < 64 * 8; i++) {
		uint64_t seed = i % 3 * UINT64_C(0x9e3779b97f4a7c15);
		struct hash128 hash = hash128(bytes, sizeof(bytes), seed);
		struct hash128 same = hash128_of_64(bytes, seed);
		struct hash128_head head = hash128_head_of_32(bytes, seed);
		struct hash128 joined = hash128_of_tail(&head, bytes + 32);

		assert_true(hash.lo == same.lo && hash.hi == same.hi);
		assert_true(hash.lo == joined.lo && hash.hi == joined.hi);
		bytes[i / 8] ^= (uint8_t)(1u << i % 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc32c_has_the_published_values),
		cmocka_unit_test(crc32c_agrees_with_the_definition_at_every_size_and_alignment),
		cmocka_unit_test(crc32c_goes_on_and_combines_at_every_cut),
		cmocka_unit_test(crc32c_combines_over_large_sizes),
		cmocka_unit_test(crc32c_combines_over_any_size),
		cmocka_unit_test(crc32c_sees_every_single_bit),
		cmocka_unit_test(hash128_is_xxh3_128),
		cmocka_unit_test(hash128_of_64_is_hash128),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
