/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was told durable is what the next open finds, wherever power fails and whichever slot rots;
 * what fails is told to all that wait; the table of dropped namespaces answers like a naive one.
 */
#include "../../lib/t.h"

#include <stdlib.h>
#include <string.h>

#include "../../../src/store/super.h"
#include "../../lib/env_fake.h"

#define OFFSET      MiB
#define ROOM        DISK_SEGMENT_MIN
#define SEGMENTS    40u
#define EXTENT_SIZE (720 * MiB)
#define TORN        100 /* bytes: the head of a slot, but no row */

static const struct disk_extent extent = { OFFSET, EXTENT_SIZE };

struct bench {
	struct env_fake fake;
	struct env_blk *blk;
	struct super super;
};

static void format(struct bench *bench)
{
	struct env *env = &bench->fake.env;
	struct disk_super *disk = env->ops->map(env, sizeof(*disk));

	*disk = (struct disk_super) { .segment_room = ROOM,
				      .segment_size = disk_segment_size(ROOM),
				      .segment_count = SEGMENTS,
				      .index = 3 };
	assert_int_equal(super_format(env, bench->blk, OFFSET, disk), 0);
	assert_int_equal(env->ops->blk_flush(env, bench->blk), 0);
	env->ops->unmap(env, disk, sizeof(*disk));
}

/* A fresh shard, not open. */
static struct bench *bench_open(uint64_t seed)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	env_fake_init(&bench->fake, seed);
	env_fake_disk(&bench->fake, "d", OFFSET + EXTENT_SIZE);
	assert_int_equal(bench->fake.env.ops->blk_open(&bench->fake.env, "d", 0, &bench->blk), 0);
	format(bench);
	bench->fake.calls = 0;
	bench->fake.writes = 0;
	return bench;
}

static int bench_super_open(struct bench *bench)
{
	return super_open(&bench->super, &bench->fake.env, bench->blk, &extent);
}

static void bench_close(struct bench *bench)
{
	bench->fake.env.ops->blk_close(&bench->fake.env, bench->blk);
	assert_int_equal(bench->fake.held, 0);
	env_fake_fini(&bench->fake);
	free(bench);
}

/* Flip a bit in a slot. */
static void rot(struct bench *bench, uint32_t slot, uint32_t byte)
{
	uint64_t offset = OFFSET + slot * DISK_SUPER_SIZE + byte;

	env_fake_page(env_fake_disk(&bench->fake, "d", 0),
		      offset / PAGE_SIZE)[offset % PAGE_SIZE] ^= 0x10;
}

static void name(uint8_t domain[16], uint8_t ns[16], uint32_t i)
{
	memset(domain, (int)(i % 3), 16);
	memset(ns, 0, 16);
	memcpy(ns, &i, sizeof(i));
}

struct waiter {
	struct super_wait wait;
	uint32_t told;
	int rc;
};

static void waiter_done(struct super_wait *wait, int rc)
{
	struct waiter *waiter = CONTAINER_OF(wait, struct waiter, wait);

	waiter->told++;
	waiter->rc = rc;
}

static int drop(struct bench *bench, uint32_t i, uint64_t sequence, struct waiter *waiter)
{
	uint8_t domain[16], ns[16];

	*waiter = (struct waiter) { .wait.done = waiter_done };
	name(domain, ns, i);
	return super_drop_add(&bench->super, domain, ns, sequence, &waiter->wait);
}

static uint64_t dropped(const struct bench *bench, uint32_t i)
{
	uint8_t domain[16], ns[16];

	name(domain, ns, i);
	return super_drop_sequence(&bench->super, domain, ns);
}

static void a_fresh_shard_opens_as_it_was_made(void **state)
{
	struct bench *bench = bench_open(1);
	static const uint8_t none[16];

	(void)state;
	assert_int_equal(bench_super_open(bench), 0);
	assert_int_equal(bench->super.disk->segment_room, ROOM);
	assert_int_equal(bench->super.disk->segment_count, SEGMENTS);
	assert_int_equal(bench->super.disk->index, 3);
	assert_int_equal(bench->super.disk->is_clean, 1);
	assert_int_equal(bench->super.disk->count, 2); /* the better of two */
	assert_int_equal(bench->super.disk->drop_count, 0);
	assert_int_not_equal(bench->super.disk->seed, 0);
	assert_memory_not_equal(bench->super.disk->shard, none, 16);
	assert_int_equal(bench->super.disk->shard[6] >> 4, 4); /* a random UUID */
	super_close(&bench->super);
	bench_close(bench);
}

static void either_slot_alone_is_enough(void **state)
{
	(void)state;
	for (uint32_t slot = 0; slot < 2; slot++) {
		struct bench *bench = bench_open(1);
		struct waiter waiter;

		assert_int_equal(bench_super_open(bench), 0);
		assert_int_equal(drop(bench, 7, 99, &waiter), 0);
		env_fake_settle(&bench->fake);
		assert_int_equal(waiter.rc, 0);
		super_close(&bench->super);

		rot(bench, slot, 5000);
		assert_int_equal(bench_super_open(bench), 0);
		assert_int_equal(dropped(bench, 7), 99);
		super_close(&bench->super);

		rot(bench, 1 - slot, 40);
		assert_int_equal(bench_super_open(bench), -ERR_FORMAT);
		bench_close(bench);
	}
}

/* A slot as a reader of another version, or a misdirected writing, would leave it. */
static void poke_super(struct bench *bench, void (*change)(struct disk_super *disk))
{
	struct env_fake_disk *disk = env_fake_disk(&bench->fake, "d", 0);
	struct disk_super super;

	env_fake_peek(disk, &super, sizeof(super), OFFSET);
	change(&super);
	super.count += 10;
	super.crc = disk_crc(&super, sizeof(super), offsetof(struct disk_super, crc));
	env_fake_poke(disk, &super, sizeof(super), OFFSET);
}

static void be_newer(struct disk_super *disk)
{
	disk->version = DISK_VERSION + 1;
}

static void be_elsewhere(struct disk_super *disk)
{
	disk->offset += MiB;
	disk->drop_count = 1;
}

static void have_many_rows(struct disk_super *disk)
{
	disk->drop_count = DISK_DROP_MAX + 1;
}

static void have_many_segments(struct disk_super *disk)
{
	disk->segment_count = 1000;
}

static void have_odd_room(struct disk_super *disk)
{
	disk->segment_room += PAGE_SIZE;
}

static void have_odd_size(struct disk_super *disk)
{
	disk->segment_size -= PAGE_SIZE;
}

static void what_makes_no_sense_is_not_believed(void **state)
{
	static const struct {
		void (*change)(struct disk_super *disk);
		int rc;
	} rows[] = {
		{ be_newer, -ERR_VERSION },      { be_elsewhere, 0 },
		{ have_many_rows, -ERR_FORMAT }, { have_many_segments, -ERR_FORMAT },
		{ have_odd_room, -ERR_FORMAT },  { have_odd_size, -ERR_FORMAT },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench *bench = bench_open(1);

		poke_super(bench, rows[i].change);
		assert_int_equal(bench_super_open(bench), rows[i].rc);
		if (rows[i].rc == 0) {
			assert_int_equal(bench->super.disk->drop_count, 0);
			super_close(&bench->super);
		}
		bench_close(bench);
	}
}

/* Every bit of a slot is under its checksum: spoiled anywhere, the other slot counts. */
static void a_bit_anywhere_spoils_a_slot(void **state)
{
	struct bench *bench = bench_open(1);

	(void)state;
	for (uint32_t byte = 0; byte < DISK_SUPER_SIZE; byte += byte < 4200 ? 1 : 97) {
		rot(bench, 1, byte); /* the one with the higher count */
		assert_int_equal(bench_super_open(bench), 0);
		assert_int_equal(bench->super.disk->count, 1);
		super_close(&bench->super);
		rot(bench, 1, byte);
	}
	bench_close(bench);
}

static void a_drop_holds_at_once_and_is_told_when_durable(void **state)
{
	struct bench *bench = bench_open(1);
	struct waiter waiters[3];
	uint64_t flushes;

	(void)state;
	assert_int_equal(bench_super_open(bench), 0);
	flushes = bench->fake.flushes;
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(drop(bench, i, 10 + i, &waiters[i]), 0);
		assert_int_equal(dropped(bench, i), 10 + i);
		assert_int_equal(waiters[i].told, 0);
	}
	assert_true(super_is_busy(&bench->super));
	env_fake_settle(&bench->fake);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(waiters[i].told, 1);
		assert_int_equal(waiters[i].rc, 0);
	}
	/* The first alone, the other two together; two slots each. */
	assert_int_equal(bench->fake.flushes - flushes, 4);
	assert_int_equal(bench->fake.writes, 4);
	assert_int_equal(bench->super.disk->count, 4); /* of setup: 2 */
	assert_false(super_is_busy(&bench->super));

	/* Raised, never lowered. */
	assert_int_equal(drop(bench, 1, 5, &waiters[0]), 0);
	assert_int_equal(drop(bench, 2, 50, &waiters[1]), 0);
	assert_int_equal(dropped(bench, 1), 11);
	assert_int_equal(dropped(bench, 2), 50);
	env_fake_settle(&bench->fake);
	super_close(&bench->super);
	assert_int_equal(bench_super_open(bench), 0);
	assert_int_equal(bench->super.disk->drop_count, 3);
	assert_int_equal(dropped(bench, 2), 50);
	super_close(&bench->super);
	bench_close(bench);
}

static void a_full_table_refuses_and_changes_nothing(void **state)
{
	struct bench *bench = bench_open(1);
	static struct waiter waiters[DISK_DROP_MAX + 1];

	(void)state;
	assert_int_equal(bench_super_open(bench), 0);
	for (uint32_t i = 0; i < DISK_DROP_MAX; i++)
		assert_int_equal(drop(bench, i, i + 1, &waiters[i]), 0);
	env_fake_settle(&bench->fake);
	assert_int_equal(drop(bench, DISK_DROP_MAX, 1000, &waiters[DISK_DROP_MAX]), -ERR_BUSY);
	assert_int_equal(dropped(bench, DISK_DROP_MAX), 0);
	assert_false(super_is_busy(&bench->super));
	/* A namespace that has a row still gets through. */
	assert_int_equal(drop(bench, 4, 1000, &waiters[4]), 0);
	env_fake_settle(&bench->fake);

	/* Rows go when nothing older than they is left: "below 50" needs segments opened below 50.
	 */
	super_drop_prune(&bench->super, 50);
	assert_int_equal(bench->super.disk->drop_count, 51);
	for (uint32_t i = 0; i < DISK_DROP_MAX; i++) {
		uint64_t sequence = i == 4 ? 1000 : i + 1;

		assert_int_equal(dropped(bench, i), sequence > 50 ? sequence : 0);
	}
	assert_int_equal(drop(bench, DISK_DROP_MAX, 1001, &waiters[DISK_DROP_MAX]), 0);
	env_fake_settle(&bench->fake);
	super_close(&bench->super);
	assert_int_equal(bench_super_open(bench), 0);
	assert_int_equal(bench->super.disk->drop_count, 52);
	assert_int_equal(dropped(bench, 4), 1000);
	super_close(&bench->super);
	bench_close(bench);
}

static void a_failed_writing_is_told_and_the_next_one_mends(void **state)
{
	(void)state;
	for (uint64_t k = 1; k <= 4; k++) { /* write, flush, write, flush */
		struct bench *bench = bench_open(1);
		struct waiter first, second;

		assert_int_equal(bench_super_open(bench), 0);
		bench->fake.calls = 0;
		bench->fake.fail_at = k;
		assert_int_equal(drop(bench, 1, 10, &first), 0);
		env_fake_settle(&bench->fake);
		assert_int_equal(first.told, 1);
		assert_int_equal(first.rc, -EIO);
		assert_int_equal(dropped(bench, 1), 10); /* misses go on */

		assert_int_equal(drop(bench, 2, 11, &second), 0);
		env_fake_settle(&bench->fake);
		assert_int_equal(second.rc, 0);
		super_close(&bench->super);
		assert_int_equal(bench_super_open(bench), 0);
		assert_int_equal(dropped(bench, 1), 10);
		assert_int_equal(dropped(bench, 2), 11);
		super_close(&bench->super);
		bench_close(bench);
	}
}

/* A writing that failed may have left anything in its slot, so the next one begins there: power
 * may fail in that one, too. */
static void a_failed_slot_is_written_first(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 16; i++) {
		struct bench *bench = bench_open(i);
		uint32_t slot = i % 2;
		struct waiter waiter;

		assert_int_equal(bench_super_open(bench), 0);
		bench->fake.calls = 0;
		bench->fake.fail_at = 1 + 2 * slot; /* its write */
		assert_int_equal(drop(bench, 1, 10, &waiter), 0);
		env_fake_settle(&bench->fake);
		assert_int_equal(waiter.rc, -EIO);
		rot(bench, slot, 100);

		bench->fake.cut_at = bench->fake.writes + 1;
		bench->fake.cut_size = TORN;
		assert_int_equal(drop(bench, 2, 11, &waiter), 0);
		env_fake_settle(&bench->fake);
		env_fake_power_cut(&bench->fake);
		super_close(&bench->super);
		assert_int_equal(bench_super_open(bench), 0);
		super_close(&bench->super);
		bench_close(bench);
	}
}

/* Power fails in any write of a run of drops: told ones are there, order is kept. */
static void power_may_fail_in_any_write(void **state)
{
	static const uint64_t sizes[] = { 0, TORN, DISK_SUPER_SIZE };

	(void)state;
	for (uint64_t cut = 1; cut <= 12; cut++) {
		for (uint64_t i = 0; i < 8 * ARRAY_LEN(sizes); i++) {
			struct bench *bench = bench_open(cut * 100 + i);
			struct waiter waiters[8] = { 0 };
			uint32_t told = 0;
			uint32_t there = 0;

			assert_int_equal(bench_super_open(bench), 0);
			bench->fake.cut_at = cut;
			bench->fake.cut_size = sizes[i % ARRAY_LEN(sizes)];
			for (uint32_t row = 0; row < 8; row++) {
				assert_int_equal(drop(bench, row, row + 1, &waiters[row]), 0);
				env_fake_settle(&bench->fake);
				told += waiters[row].rc == 0;
			}
			env_fake_power_cut(&bench->fake);
			super_close(&bench->super);

			assert_int_equal(bench_super_open(bench), 0);
			for (uint32_t row = 0; row < 8; row++)
				there += dropped(bench, row) == row + 1;
			assert_int_equal(there, bench->super.disk->drop_count);
			assert_true(there >= told);
			assert_true(there <= told + 1);
			assert_int_equal(told, MIN((cut - 1) / 2, 8));
			super_close(&bench->super);
			bench_close(bench);
		}
	}
}

static void storing_marks_clean_and_survives_each_fault(void **state)
{
	(void)state;
	for (uint64_t k = 1;; k++) {
		struct bench *bench = bench_open(1);
		int rc;

		bench->fake.fail_at = k;
		rc = bench_super_open(bench);
		if (rc == 0) {
			bench->super.disk->is_clean = 0;
			rc = super_store(&bench->super);
			super_close(&bench->super);
		}
		if (rc == 0) {
			/* One unreadable slot of two is not an error: calls 2 and 3. */
			bool is_forgiven = k == 2 || k == 3;

			assert_int_equal(bench->fake.calls < k, !is_forgiven);
			bench->fake.fail_at = 0;
			assert_int_equal(bench_super_open(bench), 0);
			assert_int_equal(bench->super.disk->is_clean, 0);
			super_close(&bench->super);
			bench_close(bench);
			if (is_forgiven)
				continue;
			assert_int_equal(k, 8);
			return;
		}
		bench_close(bench);
	}
}

static void memory_mode_has_the_table_too(void **state)
{
	struct bench *bench = bench_open(1);
	struct waiter waiter;
	uint64_t writes = bench->fake.writes;

	(void)state;
	assert_int_equal(super_open_memory(&bench->super, &bench->fake.env, ROOM, SEGMENTS), 0);
	assert_int_not_equal(bench->super.disk->seed, 0);
	assert_int_equal(drop(bench, 1, 10, &waiter), 0);
	assert_int_equal(dropped(bench, 1), 10);
	assert_int_equal(waiter.told, 0); /* never out of the call */
	env_fake_settle(&bench->fake);
	assert_int_equal(waiter.told, 1);
	assert_int_equal(waiter.rc, 0);
	assert_int_equal(super_store(&bench->super), 0);
	assert_int_equal(bench->fake.writes, writes);
	super_close(&bench->super);
	bench_close(bench);
}

/* --- model of the table --- */

#define MODEL_NAMES 160

static void the_table_answers_like_a_naive_one(void **state)
{
	struct bench *bench = bench_open(1);
	uint64_t model[MODEL_NAMES] = { 0 };
	struct waiter waiter;
	uint64_t sequence = 1;
	uint32_t rows = 0;

	(void)state;
	assert_int_equal(super_open_memory(&bench->super, &bench->fake.env, ROOM, SEGMENTS), 0);
	for (uint32_t step = 0; step < 5000; step++) {
		uint16_t dice;
		uint32_t i;

		bench->fake.env.ops->random(&bench->fake.env, &dice, sizeof(dice));
		i = dice % MODEL_NAMES;
		if (dice >> 8 < 3) {
			uint64_t oldest = sequence - MIN(sequence, dice % 256);

			super_drop_prune(&bench->super, oldest);
			for (i = 0; i < MODEL_NAMES; i++) {
				rows -= model[i] != 0 && model[i] <= oldest;
				model[i] = model[i] <= oldest ? 0 : model[i];
			}
		} else if (model[i] != 0 || rows < DISK_DROP_MAX) {
			rows += model[i] == 0;
			model[i] = ++sequence;
			assert_int_equal(drop(bench, i, sequence, &waiter), 0);
		} else {
			assert_int_equal(drop(bench, i, sequence, &waiter), -ERR_BUSY);
		}
		env_fake_settle(&bench->fake);
		for (i = 0; i < MODEL_NAMES; i++)
			assert_int_equal(dropped(bench, i), model[i]);
		assert_int_equal(bench->super.disk->drop_count, rows);
	}
	super_close(&bench->super);
	bench_close(bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fresh_shard_opens_as_it_was_made),
		cmocka_unit_test(either_slot_alone_is_enough),
		cmocka_unit_test(what_makes_no_sense_is_not_believed),
		cmocka_unit_test(a_bit_anywhere_spoils_a_slot),
		cmocka_unit_test(a_drop_holds_at_once_and_is_told_when_durable),
		cmocka_unit_test(a_full_table_refuses_and_changes_nothing),
		cmocka_unit_test(a_failed_writing_is_told_and_the_next_one_mends),
		cmocka_unit_test(a_failed_slot_is_written_first),
		cmocka_unit_test(power_may_fail_in_any_write),
		cmocka_unit_test(storing_marks_clean_and_survives_each_fault),
		cmocka_unit_test(memory_mode_has_the_table_too),
		cmocka_unit_test(the_table_answers_like_a_naive_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
