/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache by itself, against a model of what it was given; and in the reactor: what was written
 * or read lately is served from it, a scan does not drive out what is read again, nothing stale is
 * ever served, and a copy that went bad is not, either.
 */
#include <stdlib.h>
#include <string.h>

#include "../../../src/server/cache.h"
#include "../../../src/server/reactor_priv.h"
#include "../../../src/store/shard_priv.h"
#include "../../lib/env_fake.h"
#include "rig.h"

#define SIZE  (2 * MiB)
#define CACHE (16 * MiB)
#define SHARE (8 * MiB)

/* --- by itself --- */

struct bench {
	struct env_fake fake;
	struct buffers_arena arena;
	struct buffers share;
	struct cache cache;
	void *memory;
	struct buffers_want want;
	struct iovec iov[BUFFER_PIECE_MAX];
	struct shard_slot slot;
};

static void granted_never(struct buffers_want *want)
{
	assert_true(false);
}

static void bench_begin(struct bench *bench)
{
	uint64_t all = SHARE + CACHE;

	memset(bench, 0, sizeof(*bench));
	env_fake_init(&bench->fake, 1);
	assert_int_equal(buffers_arena_init(&bench->arena, &bench->fake.env, all), 0);
	buffers_init(&bench->share, &bench->arena, SHARE);
	bench->memory = calloc(1, cache_memory_size(CACHE, all));
	assert_non_null(bench->memory);
	cache_init(&bench->cache, &bench->arena, CACHE, bench->memory);
	bench->want.iov = bench->iov;
	bench->want.granted = granted_never;
	list_init(&bench->want.node);
}

/* All that shares and cache had at first is there again, whoever has it now. */
static void bench_end(struct bench *bench)
{
	uint32_t used = bench->cache.used;
	uint32_t pinned = 0;

	for (uint32_t i = 0; i < bench->cache.entry_count; i++)
		pinned += bench->cache.entries[i].pins;
	assert_int_equal(pinned, 0);
	assert_int_equal(bench->share.buddy.used, 0);
	assert_int_equal(bench->share.buddy.size, SHARE);
	assert_true(bench->cache.buddy.used <= CACHE);
	if (used == 0)
		assert_int_equal(bench->cache.buddy.used, 0);
	/* The share is whole: all of it can be had at once. */
	assert_int_equal(buffers_try(&bench->share, &bench->want, SHARE), 0);
	for (uint32_t i = 0; i < bench->want.iov_count; i++)
		memset(bench->want.iov[i].iov_base, 0xee, bench->want.iov[i].iov_len);
	buffers_free(&bench->want);
	buffers_arena_fini(&bench->arena);
	env_fake_fini(&bench->fake);
	free(bench->memory);
}

static struct shard_ref ref_of(uint64_t number, uint64_t sequence, uint32_t size)
{
	const struct hash128 hash = { number * UINT64_C(0x9e3779b97f4a7c15), number };

	return (struct shard_ref) {
		.sequence = sequence, .size = size, .hash = hash, .flags = SHARD_REF_NO_CRC
	};
}

static uint8_t byte_of(uint64_t number, uint64_t sequence, uint64_t at)
{
	return (uint8_t)(number * 31 + sequence * 7 + at / 4096 + at % 251);
}

/* As a put or read that is about to free its buffers. */
static void give(struct bench *bench, uint64_t number, uint64_t sequence, uint32_t size)
{
	struct shard_ref ref = ref_of(number, sequence, size);
	uint64_t at = 0;

	assert_int_equal(buffers_try(&bench->share, &bench->want, size), 0);
	for (uint32_t i = 0; i < bench->want.iov_count; i++) {
		uint8_t *data = bench->want.iov[i].iov_base;

		for (uint64_t j = 0; j < bench->want.iov[i].iov_len; j++)
			data[j] = byte_of(number, sequence, at++);
	}
	cache_take(&bench->cache, &bench->slot, &ref, &bench->want);
	buffers_free(&bench->want);
}

static bool has(struct bench *bench, uint64_t number, uint64_t sequence, uint32_t size)
{
	struct shard_ref ref = ref_of(number, sequence, size);

	return cache_has(&bench->cache, &bench->slot, &ref);
}

static void check_range(struct bench *bench, const struct cache_entry *entry, uint64_t number,
			uint64_t sequence, uint32_t offset, uint32_t size)
{
	while (size > 0) {
		struct iovec iov[2];
		uint32_t count = cache_view(&bench->cache, entry, offset, size, iov, 2);

		assert_true(count > 0);
		for (uint32_t i = 0; i < count; i++) {
			const uint8_t *data = iov[i].iov_base;

			for (uint64_t j = 0; j < iov[i].iov_len; j++)
				assert_int_equal(data[j], byte_of(number, sequence, offset + j));
			offset += (uint32_t)iov[i].iov_len;
			size -= (uint32_t)iov[i].iov_len;
		}
	}
}

static bool read_back(struct bench *bench, uint64_t number, uint64_t sequence, uint32_t size)
{
	struct shard_ref ref = ref_of(number, sequence, size);
	struct cache_entry *entry = cache_find(&bench->cache, &bench->slot, &ref);

	if (entry == NULL)
		return false;
	check_range(bench, entry, number, sequence, 0, size);
	if (size > 2)
		check_range(bench, entry, number, sequence, size / 2, size / 2);
	check_range(bench, entry, number, sequence, size - 1, 1);
	cache_unpin(&bench->cache, entry);
	return true;
}

static void it_holds_blocks_of_any_size(void **state)
{
	static const uint32_t sizes[] = { 1,       4096,        5000,        65536,   262145,
					  600000,  MiB - 1,     MiB,         MiB + 1, MiB + 600000,
					  2 * MiB, 2 * MiB + 5, 3 * MiB - 1, 4 * MiB };
	struct bench bench;

	for (uint32_t i = 0; i < ARRAY_LEN(sizes); i++) {
		bench_begin(&bench);
		assert_false(read_back(&bench, 1, 1, sizes[i]));
		give(&bench, 1, 1, sizes[i]);
		assert_true(read_back(&bench, 1, 1, sizes[i]));
		give(&bench, 1, 1, sizes[i]); /* once more: nothing changes */
		assert_int_equal(bench.cache.used, 1);
		assert_int_equal(bench.cache.buddy.used, buffers_held_size(sizes[i]));
		bench_end(&bench);
	}
	/* Too large for its part: not at all. */
	bench_begin(&bench);
	give(&bench, 1, 1, 4 * MiB + 1);
	assert_int_equal(bench.cache.used, 0);
	bench_end(&bench);
}

static void whole_buffers_change_hands_without_a_copy(void **state)
{
	struct bench bench;

	bench_begin(&bench);
	for (uint64_t i = 0; i < 100; i++)
		give(&bench, i, 1, 2 * MiB);
	assert_int_equal(bench.cache.copied, 0);
	give(&bench, 1000, 1, MiB + 5000);
	assert_int_equal(bench.cache.copied, 5000);
	bench_end(&bench);
}

static void another_record_is_not_served(void **state)
{
	struct bench bench;
	struct shard_slot other = { 0 };
	struct shard_ref ref = ref_of(1, 1, SIZE);

	bench_begin(&bench);
	give(&bench, 1, 1, SIZE);
	assert_null(cache_find(&bench.cache, &other, &ref));
	assert_false(has(&bench, 1, 2, SIZE));
	assert_false(read_back(&bench, 1, 2, SIZE)); /* and the old one goes */
	assert_int_equal(bench.cache.used, 0);
	give(&bench, 1, 1, SIZE);
	give(&bench, 1, 2, SIZE);
	assert_int_equal(bench.cache.used, 1);
	assert_true(read_back(&bench, 1, 2, SIZE));
	bench_end(&bench);
}

static void what_is_read_is_not_reused(void **state)
{
	struct bench bench;
	struct shard_ref ref = ref_of(1, 1, SIZE);
	struct shard_ref newer = ref_of(1, 2, SIZE);
	struct cache_entry *entry;

	bench_begin(&bench);
	give(&bench, 1, 1, SIZE);
	entry = cache_find(&bench.cache, &bench.slot, &ref);
	assert_non_null(entry);
	for (uint64_t i = 10; i < 50; i++)
		give(&bench, i, 1, SIZE);
	check_range(&bench, entry, 1, 1, 0, SIZE);
	/* Replaced while it is read. */
	assert_null(cache_find(&bench.cache, &bench.slot, &newer));
	for (uint64_t i = 50; i < 90; i++)
		give(&bench, i, 1, SIZE);
	check_range(&bench, entry, 1, 1, 0, SIZE);
	cache_unpin(&bench.cache, entry);
	bench_end(&bench);
}

/* All of it is pinned: nothing comes in, nothing waits. */
static void a_cache_that_is_all_read_takes_nothing(void **state)
{
	struct cache_entry *entries[CACHE / SIZE];
	struct bench bench;

	bench_begin(&bench);
	for (uint64_t i = 0; i < ARRAY_LEN(entries); i++) {
		struct shard_ref ref = ref_of(i, 1, SIZE);

		give(&bench, i, 1, SIZE);
		entries[i] = cache_find(&bench.cache, &bench.slot, &ref);
		assert_non_null(entries[i]);
	}
	give(&bench, 100, 1, SIZE);
	assert_false(has(&bench, 100, 1, SIZE));
	for (uint64_t i = 0; i < ARRAY_LEN(entries); i++)
		cache_unpin(&bench.cache, entries[i]);
	give(&bench, 100, 1, SIZE);
	assert_true(has(&bench, 100, 1, SIZE));
	bench_end(&bench);
}

static void a_scan_does_not_drive_out_what_is_read_again(void **state)
{
	struct bench bench;

	bench_begin(&bench);
	for (uint64_t i = 0; i < 3; i++)
		give(&bench, i, 1, SIZE);
	for (uint64_t i = 0; i < 3; i++)
		assert_true(read_back(&bench, i, 1, SIZE));
	for (uint64_t i = 100; i < 300; i++)
		give(&bench, i, 1, SIZE);
	for (uint64_t i = 0; i < 3; i++)
		assert_true(read_back(&bench, i, 1, SIZE));
	assert_true(has(&bench, 299, 1, SIZE)); /* what came last is there, too */

	/* Known by name, the second time it stays. */
	give(&bench, 295, 1, SIZE);
	assert_true(has(&bench, 295, 1, SIZE));
	give(&bench, 290, 1, SIZE);
	for (uint64_t i = 400; i < 420; i++)
		give(&bench, i, 1, SIZE);
	assert_true(has(&bench, 290, 1, SIZE));
	bench_end(&bench);
}

static struct shard_ref noted(struct bench *bench, uint64_t number, uint32_t size)
{
	struct shard_ref ref = ref_of(number, 1, size);

	cache_note(&bench->cache, &ref);
	return ref;
}

/* What is read past the cache is known afterwards for as long as what left it is, and comes in to
 * stay. */
static void what_is_read_past_it_is_remembered(void **state)
{
	struct shard_ref ref = ref_of(1, 1, SIZE);
	struct bench bench;

	bench_begin(&bench);
	assert_false(cache_knows(&bench.cache, &ref));
	(void)noted(&bench, 1, SIZE);
	ref = noted(&bench, 1, SIZE); /* twice is once */
	assert_true(cache_knows(&bench.cache, &ref));
	assert_int_equal(bench.cache.named_bytes, SIZE);
	assert_int_equal(bench.cache.used, 0);
	give(&bench, 1, 1, SIZE);
	assert_false(cache_knows(&bench.cache, &ref)); /* it has done its duty */
	for (uint64_t i = 100; i < 200; i++)
		give(&bench, i, 1, SIZE);
	assert_true(has(&bench, 1, 1, SIZE));

	/* A long scan past it: the newest names stay. */
	for (uint64_t i = 1000; i < 1100; i++)
		(void)noted(&bench, i, SIZE);
	ref = ref_of(1099, 1, SIZE);
	assert_true(cache_knows(&bench.cache, &ref));
	ref = ref_of(1000, 1, SIZE);
	assert_false(cache_knows(&bench.cache, &ref));
	assert_true(bench.cache.named_bytes <= 4 * CACHE);
	/* One that would not come in has no name. */
	ref = noted(&bench, 5000, 4 * MiB + 1);
	assert_false(cache_knows(&bench.cache, &ref));
	bench_end(&bench);
}

/* Blocks of any size come and are read at random, against a list of what was given last. */
static void chance_finds_nothing_wrong(void **state)
{
	uint32_t sizes[64] = { 0 };
	uint64_t sequences[64] = { 0 };
	uint64_t x = 1;
	struct bench bench;
	uint32_t hits = 0;

	bench_begin(&bench);
	for (uint32_t turn = 0; turn < 1500; turn++) {
		uint32_t number;

		x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		number = (uint32_t)(x >> 33) % 64;
		if (x >> 62 == 0 || sequences[number] == 0) {
			sizes[number] = 1 + (uint32_t)(x >> 20) % (64 * KiB << (x >> 50) % 6);
			sequences[number] = turn + 1;
			give(&bench, number, turn + 1, sizes[number]);
		} else if (read_back(&bench, number, sequences[number], sizes[number])) {
			hits++;
		}
	}
	assert_true(hits > 200);
	assert_true(bench.cache.evictions > 50);
	bench_end(&bench);
}

/* --- in the reactor --- */

static void start(struct rig *rig, struct raw_client *client, enum store_verify verify)
{
	rig_init(rig);
	rig->opts.verify = verify;
	rig_start(rig, true);
	rig_client(rig, client);
}

static void what_was_written_is_read_from_it(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct wire_key key = rig_key(1);

	start(&rig, &client, STORE_VERIFY_ALL);
	rig_put(&client, 1, SIZE, WIRE_REQ_DURABLE, 0);
	rig_put(&client, 2, 5000, WIRE_REQ_DURABLE, 0);
	RIG_UNTIL(&rig, rig_metrics(&rig).cache_blocks == 2);
	assert_int_equal(rig_get(&client, 1, SIZE), 0);
	assert_int_equal(rig_get(&client, 2, 5000), 0);
	assert_int_equal(rig_get(&client, 1, 100000), 0); /* a range */
	assert_int_equal(rig_metrics(&rig).cache_hits, 3);
	assert_int_equal(rig_metrics(&rig).store_read, 0);

	/* Dropped it is gone; put again it is the new one. */
	assert_int_equal(raw_client_finish(&client, raw_client_keys(&client, WIRE_DROP, &key, 1),
					   NULL, NULL, NULL),
			 0);
	assert_int_equal(rig_get(&client, 1, SIZE), -ERR_MISS);
	rig_put(&client, 1, MiB, WIRE_REQ_DURABLE, 0);
	assert_int_equal(rig_get(&client, 1, MiB), 0);
	raw_client_close(&client);
	rig_stop(&rig);
}

static void what_was_read_is_read_from_it_next_time(void **state)
{
	struct rig rig;
	struct raw_client client;

	start(&rig, &client, STORE_VERIFY_MEDIUM);
	for (uint32_t i = 0; i < 20; i++)
		rig_put(&client, i, SIZE, WIRE_REQ_DURABLE, 0);
	assert_int_equal(rig_get(&client, 0, SIZE), 0);
	RIG_UNTIL(&rig, rig_metrics(&rig).store_read >= SIZE);
	assert_int_equal(rig_metrics(&rig).cache_misses, 1);
	RIG_UNTIL(&rig, rig_metrics(&rig).ops == 0);
	assert_int_equal(rig_get(&client, 0, SIZE), 0);
	assert_int_equal(rig_metrics(&rig).cache_hits, 1);
	assert_int_equal(rig_metrics(&rig).store_read, SIZE);
	assert_int_equal(rig_metrics(&rig).cache_copied, 0);
	raw_client_close(&client);
	rig_stop(&rig);
}

static void warm(struct raw_client *client, uint32_t first, uint16_t count)
{
	struct raw_client_frame *frame = malloc(sizeof(*frame));
	struct wire_key keys[32];

	assert_non_null(frame);
	for (uint32_t i = 0; i < count; i++)
		keys[i] = rig_key(first + i);
	(void)raw_client_lease(client, keys, count, WIRE_REQ_WARM, 0);
	assert_true(raw_client_recv(client, frame));
	assert_int_equal(frame->header.kind, WIRE_BITMAP);
	free(frame);
}

/* A hint has the leading run read, as far as half of the cache; nothing is held. */
static void a_hint_reads_ahead(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct metrics before;

	start(&rig, &client, STORE_VERIFY_ALL);
	for (uint32_t i = 0; i < 30; i++)
		rig_put(&client, i, i == 1 ? 5000 : SIZE + 5000, WIRE_REQ_DURABLE, 0);
	warm(&client, 0, 20);
	RIG_UNTIL(&rig, rig_metrics(&rig).cache_warmed >= 3 && rig.reactor->warm.active == 0);
	before = rig_metrics(&rig);
	assert_true(before.cache_warmed <= 5);
	assert_int_equal(before.leases, 0);
	assert_int_equal(before.leases_shortened, 0);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(rig_get(&client, i, i == 1 ? 5000 : SIZE + 5000), 0);
	assert_int_equal(rig_metrics(&rig).store_read, before.store_read);
	assert_int_equal(rig_metrics(&rig).cache_hits, before.cache_hits + 3);
	/* Again: all there, nothing is read. */
	warm(&client, 0, 2);
	rig_run_ns(&rig, 20 * NS_PER_MS);
	assert_int_equal(rig_metrics(&rig).store_read, before.store_read);
	warm(&client, 500, 2); /* nothing is there */
	raw_client_close(&client);
	rig_stop(&rig);
}

/* The server stops in the middle of it. */
static void a_hint_does_not_outlive_the_server(void **state)
{
	struct rig rig;
	struct raw_client client;

	start(&rig, &client, STORE_VERIFY_MEDIUM);
	for (uint32_t i = 0; i < 20; i++)
		rig_put(&client, i, SIZE, WIRE_REQ_DURABLE, 0);
	warm(&client, 0, 10);
	raw_client_close(&client);
	rig_stop(&rig);
}

/* A bit of the cached copy flips: with verify all the medium is asked. */
static void a_copy_that_went_bad_is_not_served(void **state)
{
	struct rig rig;
	struct raw_client client;

	start(&rig, &client, STORE_VERIFY_ALL);
	rig_put(&client, 1, SIZE, WIRE_REQ_DURABLE, 0);
	RIG_UNTIL(&rig, rig_metrics(&rig).cache_blocks == 1);
	for (uint32_t i = 0; i < rig.reactor->cache.entry_count; i++) {
		struct cache_entry *entry = &rig.reactor->cache.entries[i];
		struct iovec iov;

		if (entry->place == CACHE_UNUSED)
			continue;
		entry->pins++;
		assert_int_equal(cache_view(&rig.reactor->cache, entry, 1234567, 1, &iov, 1), 1);
		*(uint8_t *)iov.iov_base ^= 1;
		entry->pins--;
	}
	assert_int_equal(rig_get(&client, 1, SIZE), 0);
	assert_int_equal(rig_metrics(&rig).cache_corrupt, 1);
	assert_int_equal(rig_metrics(&rig).store_corrupt, 0);
	assert_int_equal(rig_metrics(&rig).store_read, SIZE);
	raw_client_close(&client);
	rig_stop(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_holds_blocks_of_any_size),
		cmocka_unit_test(whole_buffers_change_hands_without_a_copy),
		cmocka_unit_test(another_record_is_not_served),
		cmocka_unit_test(what_is_read_is_not_reused),
		cmocka_unit_test(a_cache_that_is_all_read_takes_nothing),
		cmocka_unit_test(a_scan_does_not_drive_out_what_is_read_again),
		cmocka_unit_test(what_is_read_past_it_is_remembered),
		cmocka_unit_test(chance_finds_nothing_wrong),
		cmocka_unit_test(what_was_written_is_read_from_it),
		cmocka_unit_test(what_was_read_is_read_from_it_next_time),
		cmocka_unit_test(a_hint_reads_ahead),
		cmocka_unit_test(a_hint_does_not_outlive_the_server),
		cmocka_unit_test(a_copy_that_went_bad_is_not_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
