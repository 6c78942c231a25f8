/* SPDX-License-Identifier: Apache-2.0 */
/* Multiply and shift instead of a remainder: no bias for any count, and one multiplication. */
#include "place.h"

#include <string.h>

#include "../base/hash.h"

_Static_assert(sizeof(struct hash128) == 16, "a place is a hash128 as it stands in memory");

uint32_t place_shard(const struct wire_key *key, uint32_t shard_count)
{
	struct hash128 hash = hash128(key->bytes, sizeof(key->bytes), 0);

	ASSERT(shard_count > 0);
	ASSERT(shard_count <= WIRE_SHARD_MAX);
	return (uint32_t)(((unsigned __int128)hash.lo * shard_count) >> 64);
}

void place_default(const struct wire_key *key, uint8_t place_out[16])
{
	struct hash128 hash = hash128(key->bytes, sizeof(key->bytes), 0);

	memcpy(place_out, &hash, sizeof(hash));
}
