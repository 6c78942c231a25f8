/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where keys stand. Golden values, made with libxxhash and exact fractions alone: whoever places by
 * other arithmetic loses every block there is. Then what the arithmetic is for: shares follow
 * weights, a server that goes or comes moves only its own, shards fill evenly.
 */
#include <string.h>

#include "../../../src/base/hash.h"
#include "../../../src/wire/place.h"
#include "../../lib/t.h"

static const struct {
	uint8_t first; /* bytes of the key: first, first + step, … */
	uint8_t step;
	uint64_t low;
	uint64_t high;
	uint32_t of_7;
	uint32_t of_64;
} rows[] = {
	{ 0, 0, UINT64_C(0xa057271c9071c99d), UINT64_C(0x9a026d96b3c0f0fc), 4, 40 },
	{ 0, 1, UINT64_C(0x457d9566b6fcd697), UINT64_C(0x25e7c9b3424ceed2), 1, 17 },
	{ 255, 0, UINT64_C(0xfe0382022a0ed8a9), UINT64_C(0x44256c49b35b96ff), 6, 63 },
};

static void golden_keys_stand_where_they_always_did(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct wire_key key;
		uint8_t place[16];

		for (uint32_t j = 0; j < WIRE_KEY_SIZE; j++)
			key.bytes[j] = (uint8_t)(rows[i].first + j * rows[i].step);
		assert_int_equal(place_shard(&key, 1), 0);
		assert_int_equal(place_shard(&key, 7), rows[i].of_7);
		assert_int_equal(place_shard(&key, 64), rows[i].of_64);
		place_default(&key, place);
		assert_memory_equal(place, &rows[i].low, 8);
		assert_memory_equal(place + 8, &rows[i].high, 8);
	}
}

static void shards_fill_evenly(void **state)
{
	uint32_t counts[7] = { 0 };

	for (uint32_t i = 0; i < 7000; i++) {
		struct wire_key key = { { 0 } };

		memcpy(key.bytes, &i, sizeof(i));
		counts[place_shard(&key, 7)]++;
	}
	for (uint32_t i = 0; i < 7; i++)
		assert_in_range(counts[i], 850, 1150);
}

/* --- servers --- */

#define SERVERS_MAX 100

static struct place_member members[SERVERS_MAX];
static struct place_row map_rows[SERVERS_MAX];

/* A server whose UUID is one byte, repeated. */
static void member_set(uint32_t index, uint32_t weight)
{
	members[index] = (struct place_member) { .weight = weight, .value = index + 1 };
	memset(members[index].uuid, (int)(index + 1), sizeof(members[index].uuid));
}

static void place_of(uint64_t number, uint8_t place[16])
{
	memset(place, 0, 16);
	memcpy(place, &number, sizeof(number));
}

static void golden_logarithms(void **state)
{
	static const struct {
		uint64_t number;
		uint64_t log;
	} logs[] = {
		{ 0, UINT64_C(274877906944) },
		{ 1, UINT64_C(274877906944) },
		{ 2, UINT64_C(268070544839) },
		{ UINT64_C(1) << 32, UINT64_C(137438953471) },
		{ (UINT64_C(1) << 63) - 1, UINT64_C(4294967297) },
		{ UINT64_C(1) << 63, UINT64_C(4294967296) },
		{ UINT64_MAX, 1 },
		{ UINT64_C(0x123456789abcdef0), UINT64_C(16380065491) },
	};

	for (size_t i = 0; i < ARRAY_LEN(logs); i++)
		assert_int_equal(place_log(logs[i].number), logs[i].log);
	/* It never rises: the largest number of a weight has the smallest. */
	for (uint64_t number = 1; number < UINT64_MAX / 3; number += number / 1000 + 1)
		assert_true(place_log(number) >= place_log(number + number / 1000 + 1));
}

static uint64_t number_of(const uint8_t place[16], uint32_t index)
{
	struct hash128 a = hash128(place, 16, 1);
	struct hash128 b = hash128(members[index].uuid, 16, 0);
	unsigned __int128 product = (unsigned __int128)(a.lo ^ b.lo) * (a.hi ^ b.hi);

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Whether member a has the place before b, by the words of docs/protocol.md. No two are equal. */
static bool is_before(const uint8_t place[16], uint32_t a, uint32_t b)
{
	unsigned __int128 left =
		(unsigned __int128)place_log(number_of(place, a)) * members[b].weight;
	unsigned __int128 right =
		(unsigned __int128)place_log(number_of(place, b)) * members[a].weight;

	if (left != right)
		return left < right;
	if (members[a].weight != members[b].weight)
		return members[a].weight > members[b].weight;
	return number_of(place, a) > number_of(place, b);
}

static void golden_places_stand_where_they_always_did(void **state)
{
	static const uint8_t equal[] = { 3, 5, 4, 3, 1, 1, 5, 1, 5, 3, 3, 3, 2, 3, 2, 3 };
	static const uint8_t weighted[] = { 3, 5, 4, 3, 5, 1, 6, 1, 5, 3, 3, 6, 2, 7, 2, 6 };
	uint8_t places[16][16] = { { 0 } };
	struct place_map map;

	for (uint32_t i = 0; i < 16; i++) {
		places[1][i] = (uint8_t)i;
		places[2][i] = 0xff;
		if (i >= 3)
			places[i][0] = (uint8_t)(i - 2);
	}
	for (uint32_t kind = 0; kind < 2; kind++) {
		for (uint32_t i = 0; i < 7; i++)
			member_set(6 - i, kind == 0 ? 100 : 7 - i); /* the order is no matter */
		place_map_init(&map, map_rows, members, 7);
		for (uint32_t i = 0; i < 16; i++)
			assert_int_equal(place_server(&map, places[i]),
					 kind == 0 ? equal[i] : weighted[i]);
	}
}

/* Against the definition, without the short cuts: many weights, also extreme ones. */
static void the_search_agrees_with_its_definition(void **state)
{
	static const uint32_t steps[] = { 0, 1, 7, 1000003, 97612893 };

	for (uint32_t kind = 0; kind < ARRAY_LEN(steps); kind++) {
		struct place_map map;
		uint8_t place[16];

		for (uint32_t i = 0; i < 20; i++)
			member_set(i, 1 + i * steps[kind]);
		place_map_init(&map, map_rows, members, 20);
		for (uint64_t i = 0; i < 3000; i++) {
			uint32_t best = 0;

			place_of(i * i, place);
			for (uint32_t j = 1; j < 20; j++) {
				if (is_before(place, j, best))
					best = j;
			}
			assert_int_equal(place_server(&map, place), members[best].value);
		}
	}
}

static void without_weight_nothing_is_placed(void **state)
{
	struct place_map map;
	uint8_t place[16] = { 0 };

	place_map_init(&map, map_rows, members, 0);
	assert_int_equal(place_server(&map, place), PLACE_NONE);
	member_set(0, 0);
	member_set(1, 0);
	place_map_init(&map, map_rows, members, 2);
	assert_int_equal(place_server(&map, place), PLACE_NONE);
	member_set(1, UINT32_MAX);
	place_map_init(&map, map_rows, members, 2);
	assert_int_equal(place_server(&map, place), 2);
}

/* 100 servers of five weights, places that are mere counters: within 5 sigma of the weight's. */
static void shares_follow_weights(void **state)
{
	const uint32_t places = 200000;
	uint64_t counts[SERVERS_MAX + 1] = { 0 };
	uint64_t weights = 0;
	struct place_map map;
	uint8_t place[16];

	for (uint32_t i = 0; i < SERVERS_MAX; i++) {
		member_set(i, 100u << i % 5);
		weights += members[i].weight;
	}
	place_map_init(&map, map_rows, members, SERVERS_MAX);
	for (uint64_t i = 0; i < places; i++) {
		place_of(i, place);
		counts[place_server(&map, place)]++;
	}
	for (uint32_t i = 0; i < SERVERS_MAX; i++) {
		uint64_t fair = (uint64_t)places * members[i].weight / weights;
		uint64_t count = counts[members[i].value];
		uint64_t off = count > fair ? count - fair : fair - count;

		assert_true(off * off <= 25 * fair);
	}
}

/* Each of ten servers of three weights in turn: whatever it did not have stays where it was. */
static void a_lost_server_moves_only_its_own(void **state)
{
	struct place_row fewer_rows[10];
	struct place_map map;
	struct place_map fewer;
	uint8_t place[16];

	for (uint32_t lost = 0; lost < 10; lost++) {
		uint32_t moved[11] = { 0 };

		for (uint32_t i = 0; i < 10; i++)
			member_set(i, 1 + i % 3);
		place_map_init(&map, map_rows, members, 10);
		for (uint32_t i = 0; i < 10; i++)
			member_set(i, i == lost ? 0 : 1 + i % 3);
		place_map_init(&fewer, fewer_rows, members, 10);
		for (uint64_t i = 0; i < 20000; i++) {
			uint32_t before;
			uint32_t after;

			place_of(i, place);
			before = place_server(&map, place);
			after = place_server(&fewer, place);
			assert_int_not_equal(after, lost + 1);
			if (before != lost + 1)
				assert_int_equal(after, before);
			else
				moved[after]++;
		}
		for (uint32_t i = 0; i < 10; i++)
			assert_int_equal(moved[i + 1] > 0, i != lost); /* over all that are left */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_logarithms),
		cmocka_unit_test(golden_places_stand_where_they_always_did),
		cmocka_unit_test(the_search_agrees_with_its_definition),
		cmocka_unit_test(without_weight_nothing_is_placed),
		cmocka_unit_test(shares_follow_weights),
		cmocka_unit_test(a_lost_server_moves_only_its_own),
		cmocka_unit_test(golden_keys_stand_where_they_always_did),
		cmocka_unit_test(shards_fill_evenly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
