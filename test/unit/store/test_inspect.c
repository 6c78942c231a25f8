/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What inspection says of a medium is what a restart makes of it, also when the medium was stopped,
 * cut off or spoiled anywhere; it writes nothing, and every failing call is survived.
 */
#include <string.h>

#include "../../../src/store/inspect.h"
#include "../../lib/store_bench.h"
#include "../../lib/t.h"

#define SEGMENTS 32u
#define BLOCKS   40u

static uint32_t size_of(uint64_t number)
{
	return number % 4 == 3 ? (uint32_t)(number * 30011 + 1) : (uint32_t)(number * 700 + 1);
}

/* What was told of each block that would be found. */
struct seen {
	bool is_live[BLOCKS];
	bool is_right[BLOCKS]; /* live, and its payload is */
	bool is_unnamed;       /* a live one whose header is gone */
	uint64_t live;
	uint64_t damage;
};

static void seen_block(void *ctx, const struct inspect_block *block)
{
	struct seen *seen = ctx;
	uint64_t number;

	if (block->life != INSPECT_LIVE)
		return;
	seen->live++;
	if (block->entry == NULL) {
		seen->is_unnamed = true;
		return;
	}
	memcpy(&number, block->entry->key, sizeof(number));
	assert_true(number < BLOCKS);
	assert_false(seen->is_live[number]); /* one record of a block counts */
	seen->is_live[number] = true;
	seen->is_right[number] = block->payload == INSPECT_PAYLOAD_RIGHT;
}

static void seen_damage(void *ctx, enum inspect_damage what, uint32_t segment, uint32_t page)
{
	struct seen *seen = ctx;

	seen->damage++;
}

/* Inspect the medium; 0 or why it could not be. */
static int look(struct store_bench *bench, struct seen *seen)
{
	const struct inspect_visitor visitor = {
		.ctx = seen, .block = seen_block, .damage = seen_damage, .reads_payload = true
	};
	struct inspect *inspect = NULL;
	struct inspect_shard shard;
	char message[256] = "";
	int rc = inspect_open(bench->env, BENCH_PATH, &inspect, message);

	*seen = (struct seen) { .live = 0 };
	if (rc < 0)
		return rc;
	rc = inspect_shard(inspect, 0, bench->opts.index_entries, &shard);
	for (uint32_t i = 0; rc == 0 && i < inspect_segment_count(inspect); i++) {
		struct inspect_segment segment;

		inspect_segment_get(inspect, i, &segment);
		inspect_segment_walk(inspect, i, &visitor);
	}
	if (rc == 0)
		assert_int_equal(shard.blocks, seen->live);
	inspect_close(&inspect);
	return rc;
}

/* Every block is as inspection said. */
static void assert_restart_agrees(struct store_bench *bench, const struct seen *seen)
{
	assert_int_equal(bench_open(bench), 0);
	for (uint64_t number = 0; number < BLOCKS; number++) {
		enum bench_block block = bench_get(bench, number, size_of(number), NULL);

		assert_int_not_equal(block, BENCH_WRONG);
		if (!seen->is_unnamed || seen->is_live[number])
			assert_int_equal(block == BENCH_WHOLE, seen->is_right[number]);
	}
	assert_int_equal(bench_close(bench), 0);
}

/* Put a part of the blocks, drop one. */
static void fill(struct store_bench *bench, uint64_t first, uint64_t count)
{
	assert_int_equal(bench_open(bench), 0);
	for (uint64_t i = first; i < first + count; i++)
		assert_int_equal(bench_put(bench, i, size_of(i), i % 3 != 0), 0);
	assert_int_equal(bench_drop(bench, first + 2, false), 0);
}

static void make(struct store_bench *bench, uint64_t seed)
{
	bench_init(bench, seed, SEGMENTS);
	fill(bench, 0, BLOCKS / 2);
	if (seed % 2 == 0)
		assert_int_equal(bench_close(bench), 0);
	else
		bench_crash(bench);
	fill(bench, BLOCKS / 2, BLOCKS / 2);
	if (seed % 3 == 0)
		assert_int_equal(bench_close(bench), 0);
	else
		bench_crash(bench);
}

static void inspection_and_restart_agree(void **state)
{
	static struct store_bench bench;
	struct seen seen;

	for (uint64_t seed = 0; seed < 6; seed++) {
		make(&bench, seed);
		assert_int_equal(look(&bench, &seen), 0);
		assert_true(seen.live >= BLOCKS / 2);
		assert_restart_agrees(&bench, &seen);
		bench_fini(&bench);
	}
}

/* A byte of one of the pages that hold something, but not in the first label. */
static void spoil(struct env_fake_disk *disk, uint64_t random)
{
	static uint64_t used[UINT16_MAX];
	uint64_t count = 0;
	uint64_t offset;
	uint8_t byte;

	for (uint64_t page = 1; page < disk->page_count; page++) {
		if (disk->pages[page] != NULL && count < ARRAY_LEN(used))
			used[count++] = page;
	}
	offset = used[random % count] * PAGE_SIZE + (random >> 32) % PAGE_SIZE;
	env_fake_peek(disk, &byte, 1, offset);
	byte ^= 0x41;
	env_fake_poke(disk, &byte, 1, offset);
}

static void they_agree_on_a_spoiled_medium(void **state)
{
	static struct store_bench bench;
	struct seen seen;

	for (uint64_t seed = 0; seed < 12; seed++) {
		make(&bench, seed % 6);
		for (uint64_t i = 0; i <= seed % 3; i++)
			spoil(env_fake_disk(&bench.fake, BENCH_PATH, 0),
			      (seed * 3 + i + 1) * UINT64_C(0x9e3779b97f4a7c15));
		assert_int_equal(look(&bench, &seen), 0);
		assert_restart_agrees(&bench, &seen);
		bench_fini(&bench);
	}
}

static void nothing_is_written_and_every_failure_survived(void **state)
{
	static struct store_bench bench;
	struct seen seen;
	uint64_t held;
	uint64_t failed = 0;

	make(&bench, 1);
	held = bench.fake.held;
	bench.fake.writes = 0;
	for (uint64_t k = 1;; k += 1 + k / 8) {
		bench.fake.calls = 0;
		bench.fake.fail_at = k;
		failed += look(&bench, &seen) < 0;
		assert_int_equal(bench.fake.held, held);
		if (bench.fake.calls < k)
			break;
	}
	assert_int_equal(bench.fake.writes, 0);
	assert_true(failed > 5);
	bench.fake.fail_at = 0;
	assert_int_equal(look(&bench, &seen), 0);
	assert_restart_agrees(&bench, &seen);
	bench_fini(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inspection_and_restart_agree),
		cmocka_unit_test(they_agree_on_a_spoiled_medium),
		cmocka_unit_test(nothing_is_written_and_every_failure_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
