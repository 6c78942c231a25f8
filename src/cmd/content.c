/* SPDX-License-Identifier: Apache-2.0 */
#include "content.h"

#include <string.h>

#include "../base/hash.h"

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15) /* 2^64 / the golden ratio, as in splitmix64 */

struct ctxkv_key content_key(uint64_t id, uint64_t part)
{
	const uint64_t name[2] = { id, part };
	struct hash128 halves[2] = { hash128(name, sizeof(name), 1),
				     hash128(name, sizeof(name), 2) };
	struct ctxkv_key key;

	_Static_assert(sizeof(halves) == sizeof(key), "two halves are a key");
	memcpy(&key, halves, sizeof(key));
	return key;
}

static uint64_t seed_of(const struct ctxkv_key *key)
{
	uint64_t seed;

	memcpy(&seed, key, sizeof(seed));
	return seed;
}

static uint64_t word_at(uint64_t seed, uint64_t index)
{
	uint64_t word = seed + index * GOLDEN;

	return word ^ (word >> 31);
}

void content_fill(void *buf, uint64_t size, const struct ctxkv_key *key)
{
	uint64_t seed = seed_of(key);
	uint64_t word;
	char *bytes = buf;
	uint64_t i;

	for (i = 0; i < size / 8; i++) {
		word = word_at(seed, i);
		memcpy(bytes + i * 8, &word, 8);
	}
	word = word_at(seed, i);
	memcpy(bytes + i * 8, &word, size % 8);
}

bool content_is_right(const void *buf, uint64_t size, const struct ctxkv_key *key)
{
	uint64_t seed = seed_of(key);
	uint64_t differences = 0;
	const char *bytes = buf;
	uint64_t word;
	uint64_t i;

	for (i = 0; i < size / 8; i++) {
		memcpy(&word, bytes + i * 8, 8);
		differences |= word ^ word_at(seed, i);
	}
	word = word_at(seed, i);
	return differences == 0 && memcmp(bytes + i * 8, &word, size % 8) == 0;
}
