/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash128() of a size that is known, in place: for who hashes many. And of many 64-byte strings
 * that begin alike: what XXH3 makes of their first 32 bytes and the seed is kept, the rest is two
 * multiplications and the end.
 */
#ifndef BASE_HASH_INLINE_H
#define BASE_HASH_INLINE_H

#include "hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline struct hash128 hash128_of_64(const void *data, uint64_t seed)
{
	XXH128_hash_t hash = XXH3_128bits_withSeed(data, 64, seed);

	return (struct hash128) { hash.low64, hash.high64 };
}

/* What the first 32 of 64 bytes and the seed come to. */
struct hash128_head {
	uint64_t mixed[2];  /* both sixteenths of bytes, multiplied; and the size, with the first */
	uint64_t sums[2];   /* of their words */
	uint64_t masks[4];  /* for the words of the other half */
	uint64_t size_term; /* of the end */
};

static inline struct hash128_head hash128_head_of_32(const void *first, uint64_t seed)
{
	const uint8_t *at = first;
	const uint8_t *secret = XXH3_kSecret;

	return (struct hash128_head) {
		.mixed = { 64 * XXH_PRIME64_1 + XXH3_mix16B(at + 16, secret + 32, seed),
			   XXH3_mix16B(at, secret, seed) },
		.sums = { XXH_readLE64(at + 16) + XXH_readLE64(at + 24),
			  XXH_readLE64(at) + XXH_readLE64(at + 8) },
		.masks = { XXH_readLE64(secret + 48) + seed, XXH_readLE64(secret + 56) - seed,
			   XXH_readLE64(secret + 16) + seed, XXH_readLE64(secret + 24) - seed },
		.size_term = (64 - seed) * XXH_PRIME64_2,
	};
}

static inline uint64_t hash128_fold(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* hash128_of_64() of those 32 bytes and these. */
static inline struct hash128 hash128_of_tail(const struct hash128_head *head, const void *last)
{
	const uint8_t *at = last;
	const uint64_t words[4] = { XXH_readLE64(at), XXH_readLE64(at + 8), XXH_readLE64(at + 16),
				    XXH_readLE64(at + 24) };
	uint64_t lo;
	uint64_t hi;

	lo = ((head->mixed[0] ^ (words[0] + words[1])) + head->mixed[1]) ^ (words[2] + words[3]);
	hi = hash128_fold(words[0] ^ head->masks[0], words[1] ^ head->masks[1]) ^ head->sums[0];
	hi += hash128_fold(words[2] ^ head->masks[2], words[3] ^ head->masks[3]);
	hi ^= head->sums[1];
	return (struct hash128) {
		.lo = XXH3_avalanche(lo + hi),
		.hi = 0 - XXH3_avalanche(lo * XXH_PRIME64_1 + hi * XXH_PRIME64_4 + head->size_term),
	};
}

#endif
