/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Setup makes a medium of every sound wish, refuses what is foreign, in use, too small or
 * contradictory with a sentence that names the numbers, and is a store only when it is done. Open
 * believes the label or its copy, refuses what is newer or has shrunk, and never leaves a medium
 * without a whole label, wherever power fails.
 */
#include "../../lib/t.h"

#include <stdlib.h>
#include <string.h>

#include "../../../src/store/medium.h"
#include "../../../src/store/super.h"
#include "../../lib/env_fake.h"

#define SMALL (640 * MiB) /* holds 39 segments of 16 MiB */

struct bench {
	struct env_fake fake;
	struct medium_spec spec;
	struct medium_info info;
	struct medium *medium;
	char message[256];
};

static struct bench *bench_open(void)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	env_fake_init(&bench->fake, 5);
	bench->spec = (struct medium_spec) {
		.path = "d", .size = SMALL, .server = { 1, 2, 3 }, .is_sparse = true
	};
	return bench;
}

static void bench_close(struct bench *bench)
{
	medium_close(&bench->medium);
	assert_null(bench->medium);
	assert_int_equal(bench->fake.held, 0);
	env_fake_fini(&bench->fake);
	free(bench);
}

static int setup(struct bench *bench)
{
	memset(bench->message, 'x', sizeof(bench->message));
	return medium_setup(&bench->fake.env, &bench->spec, &bench->info, bench->message);
}

static int open_it(struct bench *bench, uint64_t incarnation)
{
	memset(bench->message, 'x', sizeof(bench->message));
	return medium_open(&bench->fake.env, "d", incarnation, &bench->medium, bench->message);
}

static struct env_fake_disk *disk_of(struct bench *bench)
{
	return env_fake_disk(&bench->fake, "d", SMALL);
}

static struct disk_label *label_of(struct bench *bench, uint32_t page)
{
	return (struct disk_label *)(void *)env_fake_page(disk_of(bench), page);
}

static void assert_says(const struct bench *bench, const char *part)
{
	if (strstr(bench->message, part) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", bench->message, part);
}

/* --- what setup makes --- */

static void what_was_set_up_opens(void **state)
{
	struct bench *bench = bench_open();
	struct medium_info info;

	(void)state;
	bench->spec.shard_count = 1;
	assert_int_equal(setup(bench), 0);
	assert_says(bench, "640 MiB");
	assert_says(bench, "sparse");
	assert_int_equal(bench->info.size, SMALL);
	assert_int_equal(bench->info.segment_room, 16 * MiB);
	assert_int_equal(bench->info.segment_count, 39);
	assert_int_equal(bench->info.block_max, 4 * MiB);
	assert_int_equal(open_it(bench, 77), 0);
	medium_get_info(bench->medium, &info);
	assert_memory_equal(info.medium, bench->info.medium, 16);
	assert_memory_equal(info.server, bench->spec.server, 16);
	assert_int_equal(info.size, bench->info.size);
	assert_int_equal(info.shard_count, 1);
	assert_int_equal(info.block_max, bench->info.block_max);
	assert_int_equal(info.segment_room, bench->info.segment_room);
	assert_int_equal(info.segment_count, bench->info.segment_count);
	assert_int_equal(label_of(bench, 0)->incarnation, 77);
	assert_int_equal(label_of(bench, 1)->incarnation, 77);
	bench_close(bench);
}

static void shards_have_extents_of_their_own(void **state)
{
	struct bench *bench = bench_open();
	uint64_t end = 0;

	(void)state;
	bench->spec.size = 5 * SMALL + 12345; /* no multiple of anything */
	bench->spec.shard_count = 5;
	bench->spec.shard_first = 8;
	assert_int_equal(setup(bench), 0);
	assert_int_equal(bench->info.size, 5 * SMALL + 3 * PAGE_SIZE);
	assert_int_equal(open_it(bench, 1), 0);
	for (uint32_t i = 0; i < 5; i++) {
		struct disk_extent extent = medium_extent(bench->medium, i);
		struct super super;

		assert_int_equal(extent.offset % MiB, 0);
		assert_true(extent.offset >= MAX(end, MiB));
		end = extent.offset + extent.size;
		assert_true(end <= bench->info.size);
		assert_int_equal(
			super_open(&super, &bench->fake.env, medium_blk(bench->medium), &extent),
			0);
		assert_int_equal(super.disk->index, 8 + i);
		assert_int_equal(super.disk->segment_count, bench->info.segment_count);
		super_close(&super);
	}
	bench_close(bench);
}

static void segments_are_as_large_as_64_of_them_allow(void **state)
{
	static const struct {
		uint64_t size;
		uint64_t block_max;
		uint64_t room;
	} rows[] = {
		{ SMALL, 0, 16 * MiB },           { 2 * GiB, 0, 16 * MiB }, /* 127: not 64 of 32 */
		{ 3 * GiB, 0, 32 * MiB },         { 5 * GiB, 0, 64 * MiB },
		{ 9 * GiB, 64 * MiB, 256 * MiB }, /* four of the largest blocks */
		{ SMALL, 4 * MiB, 16 * MiB },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench *bench = bench_open();

		bench->spec.size = rows[i].size;
		bench->spec.block_max = rows[i].block_max;
		assert_int_equal(setup(bench), 0);
		assert_int_equal(bench->info.segment_room, rows[i].room);
		assert_true(bench->info.segment_count >= DISK_SEGMENTS_MIN);
		bench_close(bench);
	}
}

/* Several are set up all or none: each is taken before the first is written. */
static void a_medium_that_is_only_taken_is_what_it_was(void **state)
{
	struct bench *bench = bench_open();
	struct medium_setup *setup_taken = NULL;
	struct medium_setup *second = NULL;

	(void)state;
	assert_int_equal(setup(bench), 0);
	bench->spec.is_forced = true;
	assert_int_equal(
		medium_setup_open(&bench->fake.env, &bench->spec, &setup_taken, bench->message), 0);
	assert_int_equal(medium_setup_open(&bench->fake.env, &bench->spec, &second, bench->message),
			 -ERR_IN_USE);
	assert_null(second);
	medium_setup_close(&setup_taken);
	assert_null(setup_taken);
	medium_setup_close(&setup_taken);
	assert_int_equal(open_it(bench, 1), 0);
	bench_close(bench);
}

static uint64_t progress_done;

static void progress(void *ctx, uint64_t done, uint64_t total)
{
	struct bench *bench = ctx;

	assert_true(done > progress_done && done <= total);
	assert_int_equal(total, bench->spec.size);
	progress_done = done;
}

static void a_file_is_written_once_with_progress(void **state)
{
	struct bench *bench = bench_open();

	(void)state;
	progress_done = 0;
	bench->spec.is_sparse = false;
	bench->spec.progress = progress;
	bench->spec.ctx = bench;
	assert_int_equal(setup(bench), 0);
	assert_int_equal(progress_done, SMALL);
	assert_says(bench, "written once");
	bench_close(bench);
}

static void a_device_is_used_whole(void **state)
{
	struct bench *bench = bench_open();

	(void)state;
	disk_of(bench)->is_device = true; /* resizing it panics */
	assert_int_equal(setup(bench), -EINVAL);
	assert_says(bench, "size is for files");
	bench->spec.size = 0;
	assert_int_equal(setup(bench), 0);
	assert_says(bench, "device");
	bench_close(bench);
}

/* --- what setup refuses --- */

static void what_is_not_empty_is_refused(void **state)
{
	static const uint64_t bytes[] = { 0, 511, 4096, 8191, 65600, MiB - 1 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
		struct bench *bench = bench_open();
		uint8_t *page = env_fake_page(disk_of(bench), bytes[i] / PAGE_SIZE);
		uint8_t *byte = &page[bytes[i] % PAGE_SIZE];

		*byte = 1;
		assert_int_equal(setup(bench), -ERR_FOREIGN);
		assert_says(bench, "--force");
		assert_int_equal(*byte, 1);
		assert_int_equal(bench->fake.writes, 0);
		assert_int_equal(open_it(bench, 1), -ERR_FORMAT);

		bench->spec.is_forced = true;
		assert_int_equal(setup(bench), 0);
		assert_true(bytes[i] < 2 * PAGE_SIZE || *byte == 0);
		assert_int_equal(open_it(bench, 1), 0);
		bench_close(bench);
	}
}

static void a_tiny_file_of_something_is_refused(void **state)
{
	struct bench *bench = bench_open();

	(void)state;
	env_fake_disk(&bench->fake, "d", 100);
	assert_int_equal(setup(bench), -ERR_FOREIGN);
	assert_says(bench, "100 bytes");
	bench->spec.is_forced = true;
	assert_int_equal(setup(bench), 0);
	bench_close(bench);
}

static void a_store_is_refused_as_such_and_replaced_when_forced(void **state)
{
	(void)state;
	for (uint32_t spoiled = 0; spoiled < 2; spoiled++) {
		struct bench *bench = bench_open();
		uint8_t first[16];

		assert_int_equal(setup(bench), 0);
		memcpy(first, bench->info.medium, 16);
		label_of(bench, spoiled)->size ^= 1; /* either label is enough to know it */
		assert_int_equal(setup(bench), -ERR_FOREIGN);
		assert_says(bench, "already holds a ctxkv store");
		bench->spec.is_forced = true;
		assert_int_equal(setup(bench), 0);
		assert_memory_not_equal(bench->info.medium, first, 16);
		bench_close(bench);
	}
}

static void what_is_in_use_is_refused_even_when_forced(void **state)
{
	struct bench *bench = bench_open();
	struct medium *second = NULL;
	uint64_t writes;

	(void)state;
	assert_int_equal(setup(bench), 0);
	assert_int_equal(open_it(bench, 1), 0);
	writes = bench->fake.writes;
	bench->spec.is_forced = true;
	assert_int_equal(setup(bench), -ERR_IN_USE);
	assert_says(bench, "in use");
	assert_int_equal(medium_open(&bench->fake.env, "d", 2, &second, bench->message),
			 -ERR_IN_USE);
	assert_null(second);
	assert_int_equal(bench->fake.writes, writes);
	bench_close(bench);
}

static void wishes_that_contradict_are_refused_with_numbers(void **state)
{
	static const struct {
		struct medium_spec spec;
		int rc;
		const char *says[2];
	} rows[] = {
		{ { .size = 500 * MiB }, -ENOSPC, { "500 MiB", "515 MiB" } },
		{ { .size = PAGE_SIZE }, -ENOSPC, { "4 KiB", "515 MiB" } },
		{ { .size = SMALL, .segment_room = 32 * MiB }, -ENOSPC, { "640 MiB", "32 MiB" } },
		{ { .size = SMALL, .shard_count = 2 }, -ENOSPC, { "2 shard", "640 MiB" } },
		{ { .size = SMALL, .shard_count = 65 }, -EINVAL, { "65", "64" } },
		{ { .size = SMALL, .segment_room = 8 * MiB }, -EINVAL, { "16", "1024" } },
		{ { .size = SMALL, .segment_room = 2 * GiB }, -EINVAL, { "16", "1024" } },
		{ { .size = SMALL, .segment_room = 17 * MiB }, -EINVAL, { "power of two", "" } },
		{ { .size = SMALL, .block_max = 65 * MiB }, -EINVAL, { "64 MiB", "" } },
		{ { .size = SMALL, .block_max = 8 * MiB }, -ENOSPC, { "640 MiB", "32 MiB" } },
		{ { .size = SMALL, .segment_room = 16 * MiB, .block_max = 5 * MiB },
		  -EINVAL,
		  { "5 MiB", "16 MiB" } },
		{ { .size = 0 }, -ENOENT, { "size", "" } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench *bench = bench_open();

		bench->spec = rows[i].spec;
		bench->spec.path = "d";
		assert_int_equal(setup(bench), rows[i].rc);
		assert_says(bench, rows[i].says[0]);
		assert_says(bench, rows[i].says[1]);
		assert_int_equal(bench->fake.disks[0].path[0], 0); /* not even made */
		bench_close(bench);
	}
}

/* The size that the message names is enough, and nothing less is. */
static void the_size_that_is_asked_for_is_enough(void **state)
{
	static const struct {
		uint32_t shard_count;
		uint64_t room;
	} rows[] = { { 1, 16 * MiB }, { 2, 16 * MiB }, { 3, 32 * MiB } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t extent = round_up(
			DISK_SEGMENTS_OFFSET + DISK_SEGMENTS_MIN * disk_segment_size(rows[i].room),
			MiB);
		struct bench *bench = bench_open();

		bench->spec.shard_count = rows[i].shard_count;
		bench->spec.segment_room = rows[i].room;
		bench->spec.size = MiB + rows[i].shard_count * extent - PAGE_SIZE;
		assert_int_equal(setup(bench), -ENOSPC);
		bench->spec.size += PAGE_SIZE;
		assert_int_equal(setup(bench), 0);
		assert_int_equal(bench->info.segment_count, DISK_SEGMENTS_MIN);
		bench_close(bench);
	}
}

/* --- what open refuses and mends --- */

static void either_label_is_enough_and_heals_the_other(void **state)
{
	(void)state;
	for (uint32_t spoiled = 0; spoiled < 2; spoiled++) {
		struct bench *bench = bench_open();

		assert_int_equal(setup(bench), 0);
		label_of(bench, spoiled)->extents[0].size ^= 4096;
		assert_int_equal(open_it(bench, 3), 0);
		medium_close(&bench->medium);
		label_of(bench, 1 - spoiled)->magic ^= 1;
		assert_int_equal(open_it(bench, 4), 0);
		medium_close(&bench->medium);
		label_of(bench, 0)->crc ^= 1;
		label_of(bench, 1)->reserved1[2000] ^= 1;
		assert_int_equal(open_it(bench, 5), -ERR_FORMAT);
		assert_says(bench, "ctxkv setup");
		bench_close(bench);
	}
}

static void label_poke(struct bench *bench, void (*change)(struct disk_label *label))
{
	for (uint32_t page = 0; page < 2; page++) {
		struct disk_label *label = label_of(bench, page);

		change(label);
		label->crc = disk_crc(label, sizeof(*label), offsetof(struct disk_label, crc));
	}
}

static void be_newer(struct disk_label *label)
{
	label->version = 9;
}

static void be_larger(struct disk_label *label)
{
	label->size += PAGE_SIZE;
}

static void have_no_shard(struct disk_label *label)
{
	label->shard_count = 0;
}

static void have_many_shards(struct disk_label *label)
{
	label->shard_count = DISK_SHARD_MAX + 1;
}

static void reach_out(struct disk_label *label)
{
	label->extents[0].size += MiB;
}

static void wrap_around(struct disk_label *label)
{
	label->extents[0].offset = UINT64_MAX - MiB + 1;
	label->extents[0].size = 2 * MiB;
}

static void overlap(struct disk_label *label)
{
	label->shard_count = 2;
	label->extents[1] = label->extents[0];
}

static void cover_the_label(struct disk_label *label)
{
	label->extents[0].offset = 0;
}

static void be_crooked(struct disk_label *label)
{
	label->extents[0].offset += PAGE_SIZE;
	label->extents[0].size -= MiB;
}

static void have_no_block(struct disk_label *label)
{
	label->block_max = 0;
}

static void labels_that_make_no_sense_are_refused(void **state)
{
	static const struct {
		void (*change)(struct disk_label *label);
		int rc;
		const char *says[2];
	} rows[] = {
		{ be_newer, -ERR_VERSION, { "format 9", "up to 1" } },
		{ be_larger, -ERR_FORMAT, { "shrunk", "640 MiB" } },
		{ have_no_shard, -ERR_FORMAT, { "no sense", "" } },
		{ have_many_shards, -ERR_FORMAT, { "no sense", "" } },
		{ reach_out, -ERR_FORMAT, { "no sense", "" } },
		{ wrap_around, -ERR_FORMAT, { "no sense", "" } },
		{ overlap, -ERR_FORMAT, { "no sense", "" } },
		{ cover_the_label, -ERR_FORMAT, { "no sense", "" } },
		{ be_crooked, -ERR_FORMAT, { "no sense", "" } },
		{ have_no_block, -ERR_FORMAT, { "no sense", "" } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench *bench = bench_open();
		uint64_t writes;

		assert_int_equal(setup(bench), 0);
		label_poke(bench, rows[i].change);
		writes = bench->fake.writes;
		assert_int_equal(open_it(bench, 1), rows[i].rc);
		assert_null(bench->medium);
		assert_says(bench, rows[i].says[0]);
		assert_says(bench, rows[i].says[1]);
		assert_int_equal(bench->fake.writes, writes);
		bench_close(bench);
	}
}

static void what_is_missing_empty_or_tiny_is_no_store(void **state)
{
	struct bench *bench = bench_open();

	(void)state;
	assert_int_equal(open_it(bench, 1), -ENOENT);
	assert_says(bench, "ctxkv setup");
	env_fake_disk(&bench->fake, "d", 10);
	assert_int_equal(open_it(bench, 1), -ERR_FORMAT);
	bench_close(bench);
	bench = bench_open();
	disk_of(bench);
	assert_int_equal(open_it(bench, 1), -ERR_FORMAT);
	bench_close(bench);
}

/* --- faults --- */

/* Fail the k-th call of setup: an error, nothing held, no store, and a second try succeeds. */
static void setup_survives_each_fault(void **state)
{
	(void)state;
	for (uint64_t k = 1;; k++) {
		struct bench *bench = bench_open();
		int rc;

		bench->fake.fail_at = k;
		rc = setup(bench);
		assert_int_equal(bench->fake.held, 0);
		if (rc == 0) {
			assert_true(bench->fake.calls < k);
			/* alloc, map, open, resize, head, flush, two supers, flush, labels, flush
			 */
			assert_int_equal(k, 12);
			bench_close(bench);
			return;
		}
		assert_null(strchr(bench->message, 'x')); /* it was written */
		bench->fake.fail_at = 0;
		/* The labels are the last but the flush: only then a store may be there. */
		if (k < 11)
			assert_int_not_equal(open_it(bench, 1), 0);
		medium_close(&bench->medium);
		bench->spec.is_forced = true;
		assert_int_equal(setup(bench), 0);
		assert_int_equal(open_it(bench, 1), 0);
		bench_close(bench);
	}
}

/* Power fails at any page of any write of a forced setup over a store: the old one is never
 * believed with the new one's shards, nor the new one before all of it is there. */
static void setup_cut_by_power_is_no_store(void **state)
{
	(void)state;
	for (uint64_t cut = 1; cut <= 4; cut++) {
		for (uint64_t pages = 0; pages < 3; pages++) {
			struct bench *bench = bench_open();
			uint8_t old[16];
			struct medium_info info;
			int rc;

			assert_int_equal(setup(bench), 0);
			memcpy(old, bench->info.medium, 16);
			bench->fake.writes = 0;
			bench->fake.cut_at = cut;
			bench->fake.cut_size = pages * PAGE_SIZE;
			bench->spec.is_forced = true;
			assert_int_not_equal(setup(bench), 0);
			env_fake_power_cut(&bench->fake);
			rc = open_it(bench, 1);
			if (rc == 0) {
				medium_get_info(bench->medium, &info);
				/* Nothing was lost of the old one, or all was there of the new. */
				if (memcmp(info.medium, old, 16) == 0)
					assert_int_equal(cut, 1);
				else
					assert_int_equal(cut, 4);
			} else {
				assert_int_equal(rc, -ERR_FORMAT);
			}
			bench_close(bench);
		}
	}
}

static void open_survives_each_fault(void **state)
{
	(void)state;
	for (uint64_t k = 1;; k++) {
		struct bench *bench = bench_open();
		uint64_t held = 0;
		int rc;

		assert_int_equal(setup(bench), 0);
		bench->fake.calls = 0;
		bench->fake.fail_at = k;
		held = bench->fake.held;
		rc = open_it(bench, 1);
		if (rc == 0 && bench->fake.calls < k) {
			assert_int_equal(k, 13);
			bench_close(bench);
			return;
		}
		/* One page that cannot be read, of two of a kind, is not an error. */
		if (rc == 0)
			assert_true(k == 4 || k == 5 || k == 7 || k == 8);
		else
			assert_int_equal(bench->fake.held, held);
		medium_close(&bench->medium);
		bench->fake.fail_at = 0;
		assert_int_equal(open_it(bench, 1), 0);
		bench_close(bench);
	}
}

static void claim_cut_by_power(uint64_t seed, uint32_t spoiled, uint64_t cut, uint64_t size)
{
	struct bench *bench = bench_open();

	bench->fake.seed = seed;
	assert_int_equal(setup(bench), 0);
	if (spoiled < 2)
		label_of(bench, spoiled)->size ^= 1;
	bench->fake.writes = 0;
	bench->fake.cut_at = cut;
	bench->fake.cut_size = size;
	assert_int_equal(open_it(bench, 1), -EIO);
	env_fake_power_cut(&bench->fake);
	assert_int_equal(open_it(bench, 2), 0);
	bench_close(bench);
}

static void power_may_fail_while_a_medium_is_claimed(void **state)
{
	/* Nothing; with the new checksum and without the incarnation; all. */
	static const uint64_t sizes[] = { 0, 40, PAGE_SIZE };

	(void)state;
	for (uint64_t seed = 0; seed < 4; seed++) {
		for (uint32_t spoiled = 0; spoiled <= 2; spoiled++) {
			for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
				claim_cut_by_power(seed, spoiled, 1, sizes[i]);
				claim_cut_by_power(seed, spoiled, 2, sizes[i]);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_set_up_opens),
		cmocka_unit_test(shards_have_extents_of_their_own),
		cmocka_unit_test(segments_are_as_large_as_64_of_them_allow),
		cmocka_unit_test(a_medium_that_is_only_taken_is_what_it_was),
		cmocka_unit_test(a_file_is_written_once_with_progress),
		cmocka_unit_test(a_device_is_used_whole),
		cmocka_unit_test(what_is_not_empty_is_refused),
		cmocka_unit_test(a_tiny_file_of_something_is_refused),
		cmocka_unit_test(a_store_is_refused_as_such_and_replaced_when_forced),
		cmocka_unit_test(what_is_in_use_is_refused_even_when_forced),
		cmocka_unit_test(wishes_that_contradict_are_refused_with_numbers),
		cmocka_unit_test(the_size_that_is_asked_for_is_enough),
		cmocka_unit_test(either_label_is_enough_and_heals_the_other),
		cmocka_unit_test(labels_that_make_no_sense_are_refused),
		cmocka_unit_test(what_is_missing_empty_or_tiny_is_no_store),
		cmocka_unit_test(setup_survives_each_fault),
		cmocka_unit_test(setup_cut_by_power_is_no_store),
		cmocka_unit_test(open_survives_each_fault),
		cmocka_unit_test(power_may_fail_while_a_medium_is_claimed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
