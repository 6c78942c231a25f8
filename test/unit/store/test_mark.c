/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who has seen a shard fail and opens it again knows what it had acknowledged: an older copy of the
 * medium, in which what was dropped since still stands, is refused; the medium itself is not, and
 * gives no sequence a second time.
 */
#include "../../lib/t.h"

#include <stdlib.h>
#include <string.h>

#include "../../lib/store_bench.h"

#define BLOCKS 12u
#define SIZE   100000u

static void opened(struct store_bench *bench)
{
	bench_init(bench, 1, DISK_SEGMENTS_MIN);
	assert_int_equal(bench_open(bench), 0);
	for (uint32_t i = 0; i < BLOCKS; i++)
		assert_int_equal(bench_put(bench, i, SIZE, true), 0);
	env_fake_settle(&bench->fake);
}

/* What is on the disk, page by page; NULL: zeros. */
static uint8_t **disk_copy(struct store_bench *bench)
{
	struct env_fake_disk *disk = env_fake_disk(&bench->fake, BENCH_PATH, 0);
	uint8_t **pages = calloc(disk->page_count, sizeof(*pages));

	assert_non_null(pages);
	for (uint64_t i = 0; i < disk->page_count; i++) {
		if (disk->pages[i] == NULL)
			continue;
		pages[i] = malloc(PAGE_SIZE);
		assert_non_null(pages[i]);
		memcpy(pages[i], disk->pages[i], PAGE_SIZE);
	}
	return pages;
}

static void disk_restore(struct store_bench *bench, uint8_t **pages)
{
	static const uint8_t zeros[PAGE_SIZE];
	struct env_fake_disk *disk = env_fake_disk(&bench->fake, BENCH_PATH, 0);

	for (uint64_t i = 0; i < disk->page_count; i++) {
		if (disk->pages[i] != NULL || pages[i] != NULL)
			env_fake_poke(disk, pages[i] != NULL ? pages[i] : zeros, PAGE_SIZE,
				      i * PAGE_SIZE);
		free(pages[i]);
	}
	free(pages);
}

/* The machine goes and comes back; with pages the disk is an older one. */
static void comes_back_as(struct store_bench *bench, uint8_t **pages, struct shard_mark *mark)
{
	shard_get_mark(bench->shard, mark);
	bench_crash(bench);
	if (pages != NULL)
		disk_restore(bench, pages);
	bench->opts.mark = mark;
}

static void refused_until_nothing_is_known(struct store_bench *bench, uint64_t dropped)
{
	assert_int_equal(bench_open(bench), -ERR_FOREIGN);
	assert_null(bench->shard);
	bench->opts.mark = NULL;
	assert_int_equal(bench_open(bench), 0);
	assert_true(bench_has(bench, dropped)); /* what it is refused for */
	assert_int_equal(bench_close(bench), 0);
	bench_fini(bench);
}

static void an_older_copy_brings_no_dropped_block_back(void **state)
{
	static struct store_bench bench;
	struct shard_mark mark;
	uint8_t **copy;

	opened(&bench);
	assert_int_equal(bench_close(&bench), 0);
	assert_int_equal(bench_open(&bench), 0); /* the drop is the first entry of this life */
	copy = disk_copy(&bench);
	assert_int_equal(bench_drop(&bench, 3, false), 0);
	comes_back_as(&bench, copy, &mark);
	refused_until_nothing_is_known(&bench, 3);
}

static void nor_a_dropped_namespace(void **state)
{
	static struct store_bench bench;
	struct shard_mark mark;
	uint8_t **copy;

	opened(&bench);
	copy = disk_copy(&bench);
	assert_int_equal(bench_drop(&bench, 3, true), 0);
	comes_back_as(&bench, copy, &mark);
	refused_until_nothing_is_known(&bench, 3);
}

static void another_shard_is_refused(void **state)
{
	static struct store_bench bench;
	struct shard_mark mark;

	opened(&bench);
	comes_back_as(&bench, NULL, &mark);
	mark.uuid[0] ^= 1;
	refused_until_nothing_is_known(&bench, 3);
}

/* Sequences name records to clients that go on meanwhile. */
static void the_medium_itself_is_taken_and_no_sequence_comes_twice(void **state)
{
	static struct store_bench bench;
	struct shard_mark mark;
	struct store_id id;
	struct shard_ref ref;

	opened(&bench);
	assert_int_equal(bench_drop(&bench, 3, false), 0);
	comes_back_as(&bench, NULL, &mark);
	mark.next_sequence += UINT64_C(1) << 30; /* as if so many had been lost */
	assert_int_equal(bench_open(&bench), 0);
	for (uint32_t i = 0; i < BLOCKS; i++)
		assert_int_equal(bench_get(&bench, i, SIZE, NULL),
				 i == 3 ? BENCH_MISS : BENCH_WHOLE);
	assert_int_equal(bench_put(&bench, 100, SIZE, true), 0);
	bench_id(100, &id);
	assert_true(shard_find(bench.shard, &id, &ref));
	assert_true(ref.sequence >= mark.next_sequence);
	assert_int_equal(bench_close(&bench), 0);
	bench_fini(&bench);
}

/* What was written and never flushed may be lost: that is no older copy. */
static void what_was_never_acknowledged_may_be_missing(void **state)
{
	static struct store_bench bench;
	struct shard_mark mark;
	uint8_t **copy;

	opened(&bench);
	copy = disk_copy(&bench);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(bench_put(&bench, BLOCKS + i, SIZE, false), 0);
	comes_back_as(&bench, copy, &mark);
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench_get(&bench, 0, SIZE, NULL), BENCH_WHOLE);
	assert_int_equal(bench_close(&bench), 0);
	bench_fini(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_older_copy_brings_no_dropped_block_back),
		cmocka_unit_test(nor_a_dropped_namespace),
		cmocka_unit_test(another_shard_is_refused),
		cmocka_unit_test(the_medium_itself_is_taken_and_no_sequence_comes_twice),
		cmocka_unit_test(what_was_never_acknowledged_may_be_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
