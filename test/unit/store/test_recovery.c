/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restarts. Power is cut at every write of a script, and at random in a long one: what was told
 * durable is there, what was told dropped is not, everything else is whole or gone. Restarts cost
 * nothing but a page.
 */
#include "../../lib/t.h"

#include <stdlib.h>
#include <string.h>

#include "../../../src/store/record.h"
#include "../../lib/store_bench.h"

#define SEGMENTS 32u
#define BLOCKS   40u

/* Page of segment 0 on the medium. */
#define LOG_BEGIN (MiB / PAGE_SIZE + DISK_SEGMENTS_OFFSET / PAGE_SIZE)

/* What the outside was told of a block. */
enum told { TOLD_NOTHING, TOLD_DURABLE, TOLD_DROPPED };

struct model {
	enum told told[BLOCKS];
	uint32_t sizes[BLOCKS];
	bool may_be[BLOCKS]; /* some put of it was begun since it was last told dropped */
};

static void model_put(struct store_bench *bench, struct model *model, uint32_t block, uint32_t size,
		      bool is_durable)
{
	int rc;

	if (model->sizes[block] == 0)
		model->sizes[block] = size;
	model->may_be[block] = true;
	rc = bench_put(bench, block, model->sizes[block], is_durable);
	if (rc == 0 && is_durable)
		model->told[block] = TOLD_DURABLE;
	else if (model->told[block] == TOLD_DROPPED)
		model->told[block] = TOLD_NOTHING;
}

static void model_drop(struct store_bench *bench, struct model *model, uint32_t block)
{
	int rc = bench_drop(bench, block, false);

	if (rc == 0) {
		model->told[block] = TOLD_DROPPED;
		model->may_be[block] = false;
	} else {
		model->told[block] = TOLD_NOTHING;
	}
}

static void model_check(struct store_bench *bench, const struct model *model, const char *when,
			uint64_t where)
{
	for (uint32_t i = 0; i < BLOCKS; i++) {
		enum bench_block block = bench_get(bench, i, MAX(model->sizes[i], 1), NULL);

		if (block == BENCH_WRONG)
			fail_msg("%s %lu: block %u is wrong", when, (unsigned long)where, i);
		if (model->told[i] == TOLD_DURABLE && block != BENCH_WHOLE)
			fail_msg("%s %lu: durable block %u is gone", when, (unsigned long)where, i);
		if (!model->may_be[i] && block != BENCH_MISS)
			fail_msg("%s %lu: block %u came back", when, (unsigned long)where, i);
	}
}

/* A script with every kind of write in it; false when the power went out in it. */
static bool script(struct store_bench *bench, struct model *model)
{
	if (bench_open(bench) < 0)
		return false;
	model_put(bench, model, 0, 5000, true);
	model_put(bench, model, 1, 300000, true);
	model_put(bench, model, 2, 7000, false);
	model_put(bench, model, 3, 4096, true);
	model_drop(bench, model, 0);
	model_put(bench, model, 4, 600000, false);
	if (bench_close(bench) < 0 || bench_open(bench) < 0)
		return false;
	model_put(bench, model, 5, 20000, true);
	model_drop(bench, model, 1);
	model_put(bench, model, 0, 5000, true);
	model_put(bench, model, 6, 20000, false);
	model_put(bench, model, 1, 300000, false);
	return bench_close(bench) == 0;
}

/* After a crash: true to the model; then another span, another crash, and still. */
static void crash_and_check(struct store_bench *bench, struct model *model, uint64_t where)
{
	if (bench->shard != NULL)
		bench_crash(bench);
	else
		env_fake_power_cut(&bench->fake);
	assert_int_equal(bench_open(bench), 0);
	model_check(bench, model, "cut at write", where);
	model_put(bench, model, 7, 9000, true);
	model_put(bench, model, 8, 9000, false);
	model_drop(bench, model, 3);
	bench_crash(bench);
	assert_int_equal(bench_open(bench), 0);
	model_check(bench, model, "second crash after a cut at write", where);
	assert_int_equal(bench_close(bench), 0);
	assert_int_equal(bench_open(bench), 0);
	model_check(bench, model, "stop after a cut at write", where);
	assert_int_equal(bench_close(bench), 0);
}

static void power_may_go_at_every_write(void **state)
{
	bool is_over = false;
	uint64_t cut;

	for (cut = 1; !is_over; cut++) {
		struct store_bench bench;
		struct model model = { 0 };

		bench_init(&bench, cut, SEGMENTS);
		bench.fake.cut_at = cut;
		bench.fake.cut_size = cut % 4 * 3000;
		is_over = script(&bench, &model);
		crash_and_check(&bench, &model, cut);
		bench_fini(&bench);
	}
	assert_true(cut > 20); /* or the script did not do what it says */
}

static uint64_t draw(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *seed >> 33;
}

/* Random operations, clean stops and crashes. Block numbers at or above BLOCKS fill the log. */
static void random_run(uint64_t seed, uint32_t steps)
{
	struct store_bench bench;
	struct model model = { 0 };
	uint64_t chance = seed;

	bench_init(&bench, seed, SEGMENTS);
	bench.fake.is_shuffled = true;
	bench.opts.verify = seed % 2 == 0 ? STORE_VERIFY_NONE : STORE_VERIFY_MEDIUM;
	assert_int_equal(bench_open(&bench), 0);
	for (uint32_t step = 0; step < steps; step++) {
		uint32_t block = (uint32_t)(draw(&chance) % BLOCKS);
		uint32_t what = (uint32_t)(draw(&chance) % 100);

		if (what < 55)
			model_put(&bench, &model, block,
				  (uint32_t)(1 + draw(&chance) % (what < 45 ? 30000 : 400000)),
				  what % 2 == 0);
		else if (what < 75)
			model_drop(&bench, &model, block);
		else if (what < 92)
			(void)bench_get(&bench, block, MAX(model.sizes[block], 1), NULL);
		else if (what < 98)
			bench_crash(&bench);
		else
			assert_int_equal(bench_close(&bench), 0);
		if (bench.shard == NULL)
			assert_int_equal(bench_open(&bench), 0);
		if (what >= 92)
			model_check(&bench, &model, "random, seed", seed);
	}
	assert_int_equal(bench_close(&bench), 0);
	bench_fini(&bench);
}

static void random_runs_keep_what_they_promised(void **state)
{
	for (uint64_t seed = 1; seed <= 6; seed++)
		random_run(seed, 120);
}

/* An opponent who restarts the server a hundred times must not make it forget. */
static void restarts_forget_nothing(void **state)
{
	struct store_bench bench;
	struct shard_stats stats;

	bench_init(&bench, 3, SEGMENTS);
	for (uint32_t i = 0; i < 40; i++) {
		assert_int_equal(bench_open(&bench), 0);
		assert_int_equal(bench_put(&bench, i, 10000, true), 0);
		if (i % 4 == 0)
			assert_int_equal(bench_close(&bench), 0);
		else
			bench_crash(&bench);
	}
	assert_int_equal(bench_open(&bench), 0);
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(bench_get(&bench, i, 10000, NULL), BENCH_WHOLE);
	stats = bench_stats(&bench);
	assert_int_equal(stats.recovered, 40);
	assert_int_equal(stats.segments_total - stats.segments_free, 1); /* one is in use */
	assert_int_equal(bench_close(&bench), 0);
	bench_fini(&bench);
}

/* --- told by hand: what a random disk shows too rarely --- */

/* The first page, at or behind from, that is a record's header. */
static uint64_t header_find(struct env_fake_disk *disk, uint64_t from)
{
	while (from < disk->page_count) {
		const struct disk_record *record = (void *)disk->pages[from];

		if (record != NULL && record->magic == DISK_REC_MAGIC)
			return from;
		from++;
	}
	fail_msg("no record header");
	return 0;
}

/* A torn payload under a whole header: a durable put of the same key must not lean on it. */
static void a_put_does_not_lean_on_what_nobody_verified(void **state)
{
	struct env_fake_disk *disk;
	struct store_bench bench;
	struct bench_put *put;
	int rc;

	bench_init(&bench, 1, SEGMENTS);
	bench.opts.verify = STORE_VERIFY_NONE;
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench_put(&bench, 1, 300000, true), 0);
	assert_int_equal(bench_put(&bench, 2, 300000, true), 0);
	bench_crash(&bench);
	disk = env_fake_disk(&bench.fake, BENCH_PATH, 0);
	disk->pages[header_find(disk, LOG_BEGIN) + 3][5] ^= 1;

	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench_stats(&bench).recovered_scanned, 2);
	put = bench_put_begin(&bench, 1, 300000, true);
	assert_int_equal(put->put.state, SHARD_PUT_FILLING);
	assert_int_equal(bench_put_commit(&bench, put, 1), 0);
	assert_int_equal(bench_put_end(&bench, put), 0);
	assert_int_equal(bench_get(&bench, 1, 300000, &rc), BENCH_WHOLE);
	/* Verified once, it is believed, and a put of it finds it there. */
	assert_int_equal(bench_get(&bench, 2, 300000, &rc), BENCH_WHOLE);
	put = bench_put_begin(&bench, 2, 300000, true);
	assert_int_equal(bench_put_end(&bench, put), 0);
	bench_crash(&bench);
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench_get(&bench, 1, 300000, NULL), BENCH_WHOLE);
	assert_int_equal(bench_close(&bench), 0);
	bench_fini(&bench);
}

/* Torn, found by a scan, sealed by a footer at a clean stop: still suspect, even to verify none. */
static void a_footer_does_not_make_a_torn_payload_good(void **state)
{
	struct env_fake_disk *disk;
	struct store_bench bench;
	int rc;

	bench_init(&bench, 1, SEGMENTS);
	bench.opts.verify = STORE_VERIFY_NONE;
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench_put(&bench, 1, 300000, true), 0);
	bench_crash(&bench);
	disk = env_fake_disk(&bench.fake, BENCH_PATH, 0);
	disk->pages[header_find(disk, LOG_BEGIN) + 3][5] ^= 1;
	for (uint32_t stop = 0; stop < 2; stop++) {
		assert_int_equal(bench_open(&bench), 0);
		assert_int_equal(bench_close(&bench), 0);
	}
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench_get(&bench, 1, 300000, &rc), BENCH_MISS);
	assert_int_equal(rc, -ERR_CORRUPT);
	assert_int_equal(bench_stats(&bench).corrupt, 1);
	assert_int_equal(bench_close(&bench), 0);
	bench_fini(&bench);
}

/*
 * Headers that recovery could not read are given up, and the log goes on over them under a new
 * nonce. When one can be read again, behind the new tail, it does not count any more.
 */
static void a_record_counts_only_under_its_own_nonce(void **state)
{
	struct env_fake_disk *disk;
	struct store_bench bench;
	uint64_t headers[3];

	bench_init(&bench, 1, SEGMENTS);
	assert_int_equal(bench_open(&bench), 0);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(bench_put(&bench, i, 300000, true), 0);
	bench_crash(&bench);
	disk = env_fake_disk(&bench.fake, BENCH_PATH, 0);
	for (uint32_t i = 0; i < 3; i++)
		headers[i] = header_find(disk, i == 0 ? LOG_BEGIN : headers[i - 1] + 1);
	disk->pages[headers[1]][100] ^= 1;
	disk->pages[headers[2]][100] ^= 1;

	assert_int_equal(bench_open(&bench), 0);
	assert_false(bench_has(&bench, 2));
	assert_int_equal(bench_put(&bench, 10, 5000, true), 0);
	bench_crash(&bench);
	disk->pages[headers[2]][100] ^= 1;
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench_get(&bench, 0, 300000, NULL), BENCH_WHOLE);
	assert_int_equal(bench_get(&bench, 10, 5000, NULL), BENCH_WHOLE);
	assert_false(bench_has(&bench, 2));
	assert_int_equal(bench_close(&bench), 0);
	bench_fini(&bench);
}

/* A block, its tombstone and the next put of it, each in a segment of its own. */
static void order_is_by_sequence_across_segments(void **state)
{
	struct store_bench bench;
	uint64_t filler = 100;

	bench_init(&bench, 1, SEGMENTS);
	assert_int_equal(bench_open(&bench), 0);
	for (uint32_t step = 0; step < 3; step++) {
		if (step != 1)
			assert_int_equal(bench_put(&bench, 1, 9000, true), 0);
		else
			assert_int_equal(bench_drop(&bench, 1, false), 0);
		if (step == 0)
			assert_int_equal(bench_put(&bench, 2, 9000, true), 0);
		else if (step == 2)
			assert_int_equal(bench_drop(&bench, 2, false), 0);
		for (uint32_t i = 0; i < 5; i++)
			assert_int_equal(bench_put(&bench, filler++, 4 * MiB, false), 0);
	}
	bench_crash(&bench);
	for (uint32_t restart = 0; restart < 2; restart++) {
		assert_int_equal(bench_open(&bench), 0);
		assert_int_equal(bench_get(&bench, 1, 9000, NULL), BENCH_WHOLE);
		assert_false(bench_has(&bench, 2));
		assert_int_equal(bench_close(&bench), 0);
	}
	bench_fini(&bench);
}

/* A smaller index than the log has blocks: the newest are kept. */
static void an_index_too_small_keeps_the_newest(void **state)
{
	struct store_bench bench;
	uint32_t oldest = 0;

	bench_init(&bench, 1, SEGMENTS);
	assert_int_equal(bench_open(&bench), 0);
	for (uint32_t i = 0; i < 12; i++) {
		for (uint32_t j = 0; j < 60; j++)
			assert_int_equal(bench_put(&bench, i * 64 + j, 100, false), 0);
		for (uint32_t j = 60; j < 64; j++)
			assert_int_equal(bench_put(&bench, i * 64 + j, 4 * MiB - 1, false), 0);
	}
	assert_int_equal(bench_close(&bench), 0);
	bench.opts.index_entries = 400;
	assert_int_equal(bench_open(&bench), 0);
	while (!bench_has(&bench, oldest))
		oldest++;
	assert_true(oldest > 200);
	assert_true(oldest < 600);
	for (uint32_t i = oldest; i < 12 * 64; i++)
		assert_true(bench_has(&bench, i));
	/* And at run time. */
	for (uint32_t i = 1000; i < 1300; i++)
		assert_int_equal(bench_put(&bench, i, 100, false), 0);
	assert_true(bench_stats(&bench).forgotten_index_full > 0);
	for (uint32_t i = 1000; i < 1300; i++)
		assert_true(bench_has(&bench, i));
	assert_int_equal(bench_close(&bench), 0);
	bench_fini(&bench);
}

/* Make the record at page claim a payload of size, with a header that adds up. */
static void record_enlarge(struct disk_record *record, uint32_t size)
{
	struct disk_entry *entry = (void *)record->body;

	entry->size = size;
	entry->stride_count = (uint16_t)record_stride_count(size);
	record->stride_count = entry->stride_count;
	record->page_count = 1 + size / PAGE_SIZE;
	record->crc = disk_crc(record, sizeof(*record), offsetof(struct disk_record, crc));
}

/* The same in the footer of segment 0. */
static void footer_enlarge(struct env_fake_disk *disk, uint32_t size)
{
	uint64_t end = LOG_BEGIN + disk_segment_size(DISK_SEGMENT_MIN) / PAGE_SIZE;
	struct disk_footer *footer = (void *)disk->pages[end - 1];
	struct disk_foot_entry *entry;

	assert_int_equal(footer->magic, DISK_FOOT_MAGIC);
	assert_int_equal(footer->entry_count, 1);
	assert_int_equal(footer->first_page, end - LOG_BEGIN - 2); /* a page of rows */
	entry = (void *)(disk->pages[end - 2] + disk_foot_entries_offset(footer->name_count));
	entry->size = size;
	footer->tail = entry->page + size / PAGE_SIZE;
	footer->entries_crc = crc32c(0, disk->pages[end - 2], PAGE_SIZE);
	footer->crc = disk_crc(footer, sizeof(*footer), offsetof(struct disk_footer, crc));
}

/* No buffers were taken for such a block: whoever wrote that, it is not one of ours. */
static void a_block_above_the_largest_is_not_believed(void **state)
{
	for (uint32_t is_clean = 0; is_clean < 2; is_clean++) {
		struct env_fake_disk *disk;
		struct store_bench bench;
		uint32_t size;

		bench_init(&bench, 1, SEGMENTS);
		assert_int_equal(bench_open(&bench), 0);
		size = shard_block_max(bench.shard) + PAGE_SIZE;
		assert_int_equal(bench_put(&bench, 1, 300000, true), 0);
		if (is_clean)
			assert_int_equal(bench_close(&bench), 0);
		else
			bench_crash(&bench);
		disk = env_fake_disk(&bench.fake, BENCH_PATH, 0);
		if (is_clean)
			footer_enlarge(disk, size);
		else
			record_enlarge((void *)disk->pages[header_find(disk, LOG_BEGIN)], size);
		assert_int_equal(bench_open(&bench), 0);
		assert_false(bench_has(&bench, 1));
		assert_int_equal(bench_put(&bench, 1, 300000, true), 0);
		assert_int_equal(bench_get(&bench, 1, 300000, NULL), BENCH_WHOLE);
		assert_int_equal(bench_close(&bench), 0);
		bench_fini(&bench);
	}
}

/* Bytes that add up and could not be ours: they must not end the server, now or at the next put. */
static void what_adds_up_but_makes_no_sense_ends_nothing(void **state)
{
	enum { FAR_TOMBSTONE, LAST_SEQUENCE, LATE_SEQUENCE, COUNT };

	for (uint32_t what = 0; what < COUNT; what++) {
		struct env_fake_disk *disk;
		struct disk_record *record;
		struct disk_entry *entry;
		struct store_bench bench;
		int rc;

		bench_init(&bench, 1, SEGMENTS);
		assert_int_equal(bench_open(&bench), 0);
		assert_int_equal(what == FAR_TOMBSTONE ? bench_drop(&bench, 1, false)
						       : bench_put(&bench, 1, 5000, true),
				 0);
		bench_crash(&bench);
		disk = env_fake_disk(&bench.fake, BENCH_PATH, 0);
		record = (void *)disk->pages[header_find(disk, LOG_BEGIN)];
		entry = (void *)record->body;
		if (what == FAR_TOMBSTONE)
			entry->page = UINT32_MAX;
		else
			entry->sequence = (UINT64_C(1) << 48) - (what == LAST_SEQUENCE ? 1 : 9000);
		record->crc = disk_crc(record, sizeof(*record), offsetof(struct disk_record, crc));
		rc = bench_open(&bench);
		assert_int_equal(rc, what == FAR_TOMBSTONE ? 0 : -ERR_FORMAT);
		if (rc == 0) {
			assert_int_equal(bench_put(&bench, 3, 5000, true), 0);
			assert_int_equal(bench_get(&bench, 3, 5000, NULL), BENCH_WHOLE);
			assert_int_equal(bench_close(&bench), 0);
		}
		bench_fini(&bench);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_may_go_at_every_write),
		cmocka_unit_test(random_runs_keep_what_they_promised),
		cmocka_unit_test(restarts_forget_nothing),
		cmocka_unit_test(a_put_does_not_lean_on_what_nobody_verified),
		cmocka_unit_test(a_footer_does_not_make_a_torn_payload_good),
		cmocka_unit_test(a_record_counts_only_under_its_own_nonce),
		cmocka_unit_test(order_is_by_sequence_across_segments),
		cmocka_unit_test(an_index_too_small_keeps_the_newest),
		cmocka_unit_test(a_block_above_the_largest_is_not_believed),
		cmocka_unit_test(what_adds_up_but_makes_no_sense_ends_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
