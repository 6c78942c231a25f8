/* SPDX-License-Identifier: Apache-2.0 */
/* Where keys stand: golden values (made with libxxhash alone), and that shards fill evenly. */
#include <string.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_keys_stand_where_they_always_did),
		cmocka_unit_test(shards_fill_evenly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
