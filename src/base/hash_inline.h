/* SPDX-License-Identifier: Apache-2.0 */
/* hash128() of a size that is known, in place: for who hashes many. */
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

#endif
