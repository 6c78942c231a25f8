/* SPDX-License-Identifier: Apache-2.0 */
/* Multiply and shift instead of a remainder: no bias for any count, and one multiplication. */
#include "place.h"

#include <stdlib.h>
#include <string.h>

#include "../base/hash.h"

#define SEED_UUID    0
#define SEED_PLACE   1 /* another than the UUIDs', or a place that equals one would draw 0 */
#define LOG_FRACTION 32

_Static_assert(sizeof(struct hash128) == 16, "a place is a hash128 as it stands in memory");

/* --- servers --- */

static int member_compare(const void *left, const void *right)
{
	const struct place_member *a = left;
	const struct place_member *b = right;

	if (a->weight != b->weight)
		return a->weight > b->weight ? -1 : 1;
	return memcmp(a->uuid, b->uuid, sizeof(a->uuid));
}

void place_map_init(struct place_map *map, struct place_row *rows, struct place_member *members,
		    uint32_t count)
{
	*map = (struct place_map) { .rows = rows };
	if (count > 1)
		qsort(members, count, sizeof(*members), member_compare);
	for (uint32_t i = 0; i < count && members[i].weight > 0; i++) {
		struct hash128 hash = hash128(members[i].uuid, sizeof(members[i].uuid), SEED_UUID);

		if (i > 0)
			ASSERT(member_compare(&members[i - 1], &members[i]) < 0);
		rows[map->count++] = (struct place_row) {
			.lo = hash.lo,
			.hi = hash.hi,
			.weight = members[i].weight,
			.value = members[i].value,
		};
	}
}

uint64_t place_log(uint64_t number)
{
	uint64_t x = number | 1;
	uint32_t zeros = (uint32_t)__builtin_clzll(x);
	uint64_t log2 = 63 - zeros;

	x <<= zeros; /* in [1, 2), 63 bits behind the point */
	for (uint32_t i = 0; i < LOG_FRACTION; i++) {
		unsigned __int128 square = (unsigned __int128)x * x;
		uint32_t is_two = (uint32_t)(square >> 127);

		x = (uint64_t)(square >> (63 + is_two));
		log2 = log2 << 1 | is_two;
	}
	return (UINT64_C(64) << LOG_FRACTION) - log2;
}

/* What a server draws for a place. */
static inline uint64_t draw(const struct place_row *row, const struct hash128 *place)
{
	unsigned __int128 product =
		(unsigned __int128)(row->lo ^ place->lo) * (row->hi ^ place->hi);

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The best of the rows of one weight, which begin at first. Of equals the first. */
static const struct place_row *class_best(const struct place_map *map, uint32_t first,
					  const struct hash128 *place, uint64_t *number_out,
					  uint32_t *next_out)
{
	const struct place_row *best = &map->rows[first];
	const struct place_row *end = map->rows + map->count;
	const struct place_row *row = best;
	uint64_t number = draw(row, place);

	for (row++; row < end && row->weight == best->weight; row++) {
		uint64_t other = draw(row, place);

		if (other > number) {
			number = other;
			best = row;
		}
	}
	*number_out = number;
	*next_out = (uint32_t)(row - map->rows);
	return best;
}

/*
 * At most place_log(number), for one multiplication: -log2(1 - t) is above t / ln 2, which is above
 * 23/16 t, and place_log() rounds up.
 */
static uint64_t log_floor(uint64_t number)
{
	return ((UINT64_MAX - number) >> LOG_FRACTION) * 23 >> 4;
}

/* log_a / weight_a < log_b / weight_b */
static bool is_less(uint64_t log_a, uint32_t weight_a, uint64_t log_b, uint32_t weight_b)
{
	return (unsigned __int128)log_a * weight_b < (unsigned __int128)log_b * weight_a;
}

uint32_t place_server(const struct place_map *map, const uint8_t place[16])
{
	struct hash128 hash;
	const struct place_row *best = NULL;
	uint64_t best_log = 0;
	uint32_t next = 0;

	if (place_is_fixed(map))
		return map->count == 0 ? PLACE_NONE : map->rows[0].value;
	hash = hash128(place, 16, SEED_PLACE);
	/* A lighter weight must be better to win. Most are out by the floor of their logarithm. */
	for (uint32_t first = 0; first < map->count; first = next) {
		uint64_t number;
		const struct place_row *row = class_best(map, first, &hash, &number, &next);

		if (first == 0 && next == map->count)
			return row->value; /* one weight: no logarithm at all */
		if (best != NULL &&
		    !is_less(log_floor(number), row->weight, best_log, best->weight))
			continue;
		if (best == NULL ||
		    is_less(place_log(number), row->weight, best_log, best->weight)) {
			best = row;
			best_log = place_log(number);
		}
	}
	return best == NULL ? PLACE_NONE : best->value;
}

/* --- shards --- */

uint32_t place_shard(const struct wire_key *key, uint32_t shard_count)
{
	struct hash128 hash;

	ASSERT(shard_count > 0);
	ASSERT(shard_count <= WIRE_SHARD_MAX);
	if (shard_count == 1)
		return 0;
	hash = hash128(key->bytes, sizeof(key->bytes), 0);
	return (uint32_t)(((unsigned __int128)hash.lo * shard_count) >> 64);
}

void place_default(const struct wire_key *key, uint8_t place_out[16])
{
	struct hash128 hash = hash128(key->bytes, sizeof(key->bytes), 0);

	memcpy(place_out, &hash, sizeof(hash));
}
