/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arithmetic inside a bucket, tried completely: each tag in each slot beside each other tag is
 * found, set and cleared without touching its neighbours; every hash has two different buckets in
 * range, whatever their number; a word of tags says how many slots are empty.
 */
#include "../../lib/t.h"

#include "../../../src/store/index.c"

#define TAG_COUNT (1u << TAG_BITS)

static void a_tag_is_found_in_its_slot_beside_any_other(void **state)
{
	struct bucket bucket;

	(void)state;
	for (uint64_t tag = 0; tag < TAG_COUNT; tag++) {
		for (uint64_t other = 0; other < TAG_COUNT; other++) {
			for (uint32_t slot = 0; slot < BUCKET_SLOTS; slot++) {
				uint64_t match;

				bucket.tags = other * TAG_LANES;
				tag_set(&bucket, slot, tag);
				assert_int_equal(tag_at(&bucket, slot), tag);
				if (slot > 0)
					assert_int_equal(tag_at(&bucket, slot - 1), other);
				if (slot + 1 < BUCKET_SLOTS)
					assert_int_equal(tag_at(&bucket, slot + 1), other);
				match = tag_match(&bucket, tag);
				assert_int_not_equal(match, 0);
				if (tag != other) /* the lowest is no mere hint */
					assert_int_equal(match_take(&match), slot);
				assert_int_equal(bucket.tags >> (BUCKET_SLOTS * TAG_BITS), 0);
			}
		}
	}
}

static void every_set_of_slots_matches_completely(void **state)
{
	(void)state;
	for (uint32_t set = 0; set < 1u << BUCKET_SLOTS; set++) {
		struct bucket bucket = { .tags = 0 };
		uint32_t seen = 0;
		uint64_t match;

		for (uint32_t slot = 0; slot < BUCKET_SLOTS; slot++)
			tag_set(&bucket, slot, set >> slot & 1 ? 5 : slot % 2);
		match = tag_match(&bucket, 5);
		assert_int_equal(match != 0, set != 0);
		while (match != 0)
			seen |= 1u << match_take(&match);
		assert_int_equal(seen & set, set); /* hints beside are allowed, gaps are not */

		bucket.tags = 0;
		for (uint32_t slot = 0; slot < BUCKET_SLOTS; slot++)
			tag_set(&bucket, slot, set >> slot & 1 ? 0 : 1 + slot);
		assert_int_equal(empty_count(&bucket), __builtin_popcount(set));
	}
}

static void a_hash_has_two_buckets_in_range(void **state)
{
	const uint64_t halves[] = { 0,
				    1,
				    UINT64_MAX,
				    UINT64_MAX - 1,
				    UINT64_C(1) << 63,
				    (UINT64_C(1) << 63) - 1,
				    UINT64_C(0x5555555555555555) };

	(void)state;
	for (uint64_t count = 2; count < 3000; count++) {
		struct index index = { .bucket_count = count };

		for (size_t i = 0; i < ARRAY_LEN(halves) * ARRAY_LEN(halves); i++) {
			uint64_t both[2];

			buckets_of(&index, halves[i / ARRAY_LEN(halves)],
				   halves[i % ARRAY_LEN(halves)], both);
			assert_true(both[0] < count && both[1] < count);
			assert_true(both[0] != both[1]);
		}
		/* All buckets are reached: the first and last hash of each is its own. */
		assert_int_equal(scale(0, count), 0);
		assert_int_equal(scale(UINT64_MAX, count), count - 1);
	}
}

static void no_tag_is_that_of_an_empty_slot(void **state)
{
	(void)state;
	for (uint64_t lo = 0; lo < 4 * TAG_COUNT; lo++) {
		assert_int_not_equal(tag_of(lo), 0);
		assert_true(tag_of(lo) < TAG_COUNT);
	}
}

static void room_is_never_below_what_was_asked(void **state)
{
	(void)state;
	for (uint64_t entry_count = 1; entry_count < 100000; entry_count++) {
		uint64_t slots = bucket_count_of(entry_count) * BUCKET_SLOTS;

		assert_true(slots * FILL_NUM / FILL_DEN >= entry_count);
		if (entry_count >= 10000) /* else the struct itself counts */
			assert_true(index_size(entry_count) <= 64 * entry_count);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tag_is_found_in_its_slot_beside_any_other),
		cmocka_unit_test(every_set_of_slots_matches_completely),
		cmocka_unit_test(a_hash_has_two_buckets_in_range),
		cmocka_unit_test(no_tag_is_that_of_an_empty_slot),
		cmocka_unit_test(room_is_never_below_what_was_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
