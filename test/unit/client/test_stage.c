/* SPDX-License-Identifier: Apache-2.0 */
/* The staging area: no two items share a byte of it, none is cut, and it is whole again after. */
#include <stdlib.h>
#include <string.h>

#include "../../../src/client/stage.h"
#include "../../lib/t.h"

#define CHUNKS (STAGE_SIZE_MIN / STAGE_CHUNK)

static struct stage_slot rows[CHUNKS];
static struct stage stage;

static void fresh(void *base)
{
	memset(rows, 0, sizeof(rows));
	stage_init(&stage, base, STAGE_SIZE_MIN, rows);
}

static void neighbours_are_one_segment(void **state)
{
	struct wire_seg segs[8];
	struct stage_slot *slot = NULL;

	fresh(NULL);
	assert_int_equal(stage_take(&stage, 3 * STAGE_CHUNK - 5, 8, &slot), 0);
	assert_int_equal(stage_segs(&stage, slot, 7, segs), 1);
	assert_int_equal(segs[0].region, 7);
	assert_int_equal(segs[0].size, 3 * STAGE_CHUNK - 5);
	assert_int_equal(segs[0].offset, 0);
}

static void the_largest_block_fits_into_an_empty_area_as_one_segment(void **state)
{
	struct stage_slot *slot = NULL;
	struct stage_slot *more = NULL;

	fresh(NULL);
	assert_int_equal(stage_take(&stage, WIRE_BLOCK_MAX, 1, &slot), 0);
	assert_int_equal(stage.free_count, 0);
	assert_int_equal(stage_take(&stage, 1, 1, &more), -EAGAIN);
	assert_null(more);
	stage_give(&stage, slot);
	assert_int_equal(stage_take(&stage, WIRE_BLOCK_MAX, 1, &slot), 0);
}

static void what_lies_apart_is_taken_within_the_segments_allowed(void **state)
{
	struct stage_slot *slots[6] = { NULL };
	struct wire_seg segs[4];

	fresh(NULL);
	for (int i = 0; i < 5; i++)
		assert_int_equal(stage_take(&stage, STAGE_CHUNK, 1, &slots[i]), 0);
	stage_give(&stage, slots[1]);
	stage_give(&stage, slots[3]);
	assert_int_equal(stage_take(&stage, 3 * STAGE_CHUNK, 2, &slots[5]), -EAGAIN);
	assert_int_equal(stage_take(&stage, 3 * STAGE_CHUNK, 3, &slots[5]), 0);
	assert_int_equal(stage_segs(&stage, slots[5], 1, segs), 3);
	assert_int_equal(segs[0].offset, STAGE_CHUNK);
	assert_int_equal(segs[1].offset, 3 * STAGE_CHUNK);
	assert_int_equal(segs[2].offset, 5 * STAGE_CHUNK);
}

/* Pieces of any size, over chunks that lie apart, from any byte to any other. */
static void copies_go_where_the_segments_say(void **state)
{
	static const uint64_t sizes[] = { 1, 70000, 0, 65536, 3, 130000 };
	uint8_t *base = malloc(STAGE_SIZE_MIN);
	struct ctxkv_iov iovs[ARRAY_LEN(sizes)];
	struct ctxkv_item item = { .iov = iovs, .iov_count = ARRAY_LEN(sizes) };
	struct stage_slot *gap[3] = { NULL };
	struct stage_slot *slot = NULL;
	struct wire_seg segs[16];
	uint32_t size = 0;
	uint32_t at = 0;
	uint32_t count;

	fresh(base);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		iovs[i] = (struct ctxkv_iov) { malloc(sizes[i] + 1), sizes[i] };
		for (uint64_t k = 0; k < sizes[i]; k++)
			((uint8_t *)iovs[i].base)[k] = (uint8_t)((size + k) * 2654435761u >> 13);
		size += (uint32_t)sizes[i];
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(stage_take(&stage, STAGE_CHUNK, 1, &gap[i]), 0);
	stage_give(&stage, gap[0]);
	stage_give(&stage, gap[2]);
	assert_int_equal(stage_take(&stage, size, 16, &slot), 0);
	stage_copy_in(&stage, slot, &item, 0, size);
	count = stage_segs(&stage, slot, 1, segs);
	assert_int_equal(count, 2);
	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t k = 0; k < segs[i].size; k++, at++)
			assert_int_equal(base[segs[i].offset + k],
					 (uint8_t)(at * 2654435761u >> 13));
	}
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		memset(iovs[i].base, 0xee, sizes[i] + 1);
	stage_copy_out(&stage, slot, &item, 0, 70002);
	stage_copy_out(&stage, slot, &item, 70002, 200000);
	at = 0;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		for (uint64_t k = 0; k <= sizes[i]; k++) {
			bool is_copied = k < sizes[i] && at + k < 200000;

			assert_int_equal(((uint8_t *)iovs[i].base)[k],
					 is_copied ? (uint8_t)((at + k) * 2654435761u >> 13)
						   : 0xee);
		}
		at += (uint32_t)sizes[i];
		free(iovs[i].base);
	}
	free(base);
}

/* Any order of taking and giving: no chunk is two items', and all are free in the end. */
static void no_chunk_has_two_owners(void **state)
{
	struct stage_slot *held[64] = { NULL };
	uint8_t owner[CHUNKS];
	uint32_t random = 1;

	fresh(NULL);
	for (int step = 0; step < 20000; step++) {
		uint32_t i = (random = random * 1664525 + 1013904223) >> 26;
		struct wire_seg segs[32];
		uint32_t count;

		if (held[i] != NULL) {
			stage_give(&stage, held[i]);
			held[i] = NULL;
		} else if (stage_take(&stage, 1 + (random >> 4) % (8 * MiB), 32, &held[i]) < 0) {
			assert_null(held[i]);
		}
		if (step % 100 != 0)
			continue;
		memset(owner, 0, sizeof(owner));
		for (i = 0; i < 64; i++) {
			count = held[i] != NULL ? stage_segs(&stage, held[i], 1, segs) : 0;
			assert_true(count <= 32);
			for (uint32_t k = 0; k < count; k++) {
				uint64_t first = segs[k].offset / STAGE_CHUNK;
				uint64_t end = segs[k].offset + segs[k].size;

				assert_true(end <= STAGE_SIZE_MIN);
				for (; first * STAGE_CHUNK < end; first++)
					assert_int_equal(owner[first]++, 0);
			}
		}
	}
	for (uint32_t i = 0; i < 64; i++) {
		if (held[i] != NULL)
			stage_give(&stage, held[i]);
	}
	assert_int_equal(stage.free_count, CHUNKS);
	assert_int_equal(stage.free_from, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(neighbours_are_one_segment),
		cmocka_unit_test(the_largest_block_fits_into_an_empty_area_as_one_segment),
		cmocka_unit_test(what_lies_apart_is_taken_within_the_segments_allowed),
		cmocka_unit_test(copies_go_where_the_segments_say),
		cmocka_unit_test(no_chunk_has_two_owners),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
