/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index answers like a naive table, whatever is inserted, replaced, moved, removed or
 * forgotten with its segment; it takes as many entries as it was made for in at most 64 bytes each;
 * and when it is full it says so and keeps all it had.
 */
#include "../../lib/t.h"

#include <string.h>

#include "../../../src/store/index.h"
#include "../../../src/store/store.h"
#include "../../lib/env_fake.h"

#define FLAGS    ((uint16_t) ~(INDEX_FORGOTTEN | INDEX_EXPIRES)) /* of a live entry */

#define SEGMENTS 64

/* An index over segments that the test forgets and opens. */
struct bench {
	struct env_fake fake;
	uint64_t first[SEGMENTS];
	struct index_segments segments;
	struct index *index;
	uint64_t sequence; /* the next */
};

static uint64_t draw(struct bench *bench)
{
	uint64_t value;

	bench->fake.env.ops->random(&bench->fake.env, &value, sizeof(value));
	return value;
}

static void bench_open(struct bench *bench, uint64_t seed, uint64_t entry_count)
{
	memset(bench, 0, sizeof(*bench));
	env_fake_init(&bench->fake, seed);
	bench->sequence = 1;
	for (uint32_t i = 0; i < SEGMENTS; i++)
		bench->first[i] = 1;
	bench->segments = (struct index_segments) { bench->first, SEGMENTS };
	assert_int_equal(
		index_create(&bench->fake.env, entry_count, &bench->segments, &bench->index), 0);
}

static void bench_close(struct bench *bench)
{
	index_destroy(&bench->index);
	assert_null(bench->index);
	index_destroy(&bench->index); /* no-op */
	assert_int_equal(bench->fake.held, 0);
	env_fake_fini(&bench->fake);
}

/* An entry with every field at chance within its width. */
static struct index_entry entry_draw(struct bench *bench, struct hash128 hash, uint32_t segment)
{
	return (struct index_entry) { .hash = hash,
				      .sequence = bench->sequence++,
				      .segment = segment,
				      .page = (uint32_t)draw(bench) & 0xfffff,
				      .size = (uint32_t)draw(bench),
				      .crc = (uint32_t)draw(bench),
				      .chain = (uint32_t)draw(bench),
				      .expiry_s = draw(bench) % 2 == 0 ? 0 : (uint32_t)draw(bench),
				      .domain = (uint16_t)draw(bench),
				      .payer = (uint16_t)draw(bench),
				      .ns = (uint16_t)draw(bench),
				      .depth = (uint16_t)draw(bench),
				      .flags = (uint16_t)draw(bench) & FLAGS,
				      .hits = (uint8_t)draw(bench),
				      .leases = (uint16_t)(draw(bench) & 0xfff) };
}

static void assert_entry_equal(const struct index_entry *a, const struct index_entry *b)
{
	assert_int_equal(a->hash.lo, b->hash.lo);
	assert_int_equal(a->hash.hi, b->hash.hi);
	assert_int_equal(a->sequence, b->sequence);
	assert_int_equal(a->segment, b->segment);
	assert_int_equal(a->page, b->page);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->crc, b->crc);
	assert_int_equal(a->chain, b->chain);
	assert_int_equal(a->expiry_s, b->expiry_s);
	assert_int_equal(a->domain, b->domain);
	assert_int_equal(a->payer, b->payer);
	assert_int_equal(a->ns, b->ns);
	assert_int_equal(a->depth, b->depth);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->hits, b->hits);
	assert_int_equal(a->leases, b->leases);
}

static struct hash128 hash_draw(struct bench *bench)
{
	return (struct hash128) { draw(bench), draw(bench) };
}

/* --- fields --- */

static void every_field_comes_back_at_its_widest(void **state)
{
	static struct bench bench;
	struct index_entry widest = { .hash = { UINT64_MAX, UINT64_MAX - 1 },
				      .sequence = (UINT64_C(1) << 48) - 1,
				      .segment = SEGMENTS - 1,
				      .page = (1u << 20) - 1,
				      .size = UINT32_MAX,
				      .crc = UINT32_MAX,
				      .chain = UINT32_MAX,
				      .expiry_s = UINT32_MAX,
				      .domain = UINT16_MAX,
				      .payer = UINT16_MAX,
				      .ns = UINT16_MAX,
				      .depth = UINT16_MAX,
				      .flags = FLAGS,
				      .hits = UINT8_MAX,
				      .leases = (1u << 12) - 1 };
	struct index_entry found;

	(void)state;
	bench_open(&bench, 1, 100);
	assert_int_equal(index_insert(bench.index, &widest), 0);
	assert_true(index_find(bench.index, &widest.hash, &found));
	assert_entry_equal(&found, &widest);
	bench_close(&bench);
}

static void identity_hash_depends_on_seed_and_every_part(void **state)
{
	struct store_id id = { .domain = { 1 }, .ns = { 2 }, .key = { 3 } };
	struct hash128 hash = index_hash(7, &id);
	struct hash128 other = index_hash(8, &id);
	uint8_t *bytes = (uint8_t *)&id;

	(void)state;
	assert_true(hash.lo != other.lo && hash.hi != other.hi);
	for (size_t i = 0; i < sizeof(id); i++) {
		bytes[i] ^= 0x80;
		other = index_hash(7, &id);
		assert_true(hash.lo != other.lo && hash.hi != other.hi);
		bytes[i] ^= 0x80;
	}
	/* Golden: entries of footers carry it, so it must not change. XXH3-128 of the 64 bytes. */
	assert_int_equal(hash.lo, UINT64_C(0x2a4ee76398e5df9d));
	assert_int_equal(hash.hi, UINT64_C(0xe8bc9a06989309f3));
}

static void a_forgotten_block_is_remembered_until_its_slot_is_needed(void **state)
{
	static struct bench bench;
	struct index_entry entries[50];
	struct index_entry found;
	uint64_t sequence;

	(void)state;
	bench_open(&bench, 5, 1000);
	for (uint32_t i = 0; i < ARRAY_LEN(entries); i++) {
		entries[i] = entry_draw(&bench, hash_draw(&bench), 3);
		assert_int_equal(index_insert(bench.index, &entries[i]), 0);
		assert_false(index_remembers(bench.index, &entries[i].hash, &sequence));
	}
	bench.first[3] = UINT64_MAX;
	for (uint32_t i = 0; i < ARRAY_LEN(entries); i++) {
		assert_false(index_find(bench.index, &entries[i].hash, &found));
		assert_true(index_remembers(bench.index, &entries[i].hash, &sequence));
		assert_int_equal(sequence, entries[i].sequence);
	}
	/* There is room beside them: none gives way. */
	for (uint32_t i = 0; i < 100; i++) {
		struct index_entry other = entry_draw(&bench, hash_draw(&bench), 4);

		assert_int_equal(index_insert(bench.index, &other), 0);
	}
	for (uint32_t i = 0; i < ARRAY_LEN(entries); i++)
		assert_true(index_remembers(bench.index, &entries[i].hash, &sequence));
	bench_close(&bench);
}

/* --- model --- */

#define MODEL_IDS 1500

struct model {
	struct bench bench;
	struct hash128 hashes[MODEL_IDS];
	struct index_entry entries[MODEL_IDS]; /* sequence 0: not there */
	uint32_t seen[MODEL_IDS];
	uint32_t walked;
	uint32_t looked;
};

static bool model_has(const struct model *model, uint32_t id)
{
	const struct index_entry *entry = &model->entries[id];

	return entry->sequence != 0 && entry->sequence >= model->bench.first[entry->segment];
}

static void model_check_id(struct model *model, uint32_t id)
{
	struct index_entry found;
	bool is_there = index_find(model->bench.index, &model->hashes[id], &found);
	uint64_t sequence;

	assert_int_equal(is_there, model_has(model, id));
	if (is_there)
		assert_entry_equal(&found, &model->entries[id]);
	/* What it remembers is what was there last, and is there no more. */
	if (index_remembers(model->bench.index, &model->hashes[id], &sequence)) {
		assert_false(is_there);
		assert_int_equal(sequence, model->entries[id].sequence);
	}
}

static uint32_t model_open_segment(struct model *model)
{
	uint32_t segment = (uint32_t)(draw(&model->bench) % SEGMENTS);

	if (model->bench.first[segment] == UINT64_MAX)
		model->bench.first[segment] = model->bench.sequence;
	return segment;
}

static void model_insert(struct model *model, uint32_t id)
{
	uint32_t segment = model_open_segment(model);
	struct index_entry entry = entry_draw(&model->bench, model->hashes[id], segment);

	if (index_insert(model->bench.index, &entry) == 0)
		model->entries[id] = entry;
}

static void model_update(struct model *model, uint32_t id)
{
	struct index_entry entry = model->entries[id];
	bool is_other = draw(&model->bench) % 4 == 0;

	entry.hash = model->hashes[id];
	entry.sequence += is_other; /* of a record that was replaced meanwhile */
	entry.flags ^= (uint16_t)draw(&model->bench) & FLAGS;
	entry.hits++;
	entry.leases ^= 1;
	entry.page ^= 1; /* not an update's to change */
	assert_int_equal(index_update(model->bench.index, &entry),
			 model_has(model, id) && !is_other);
	if (!model_has(model, id) || is_other)
		return;
	entry.page ^= 1;
	model->entries[id] = entry;
}

static void model_remove(struct model *model, uint32_t id)
{
	uint64_t sequence = model->entries[id].sequence;
	uint64_t before =
		draw(&model->bench) % 2 == 0 ? UINT64_MAX : sequence + draw(&model->bench) % 2;
	bool is_removed = model_has(model, id) && sequence < before;

	assert_int_equal(index_remove(model->bench.index, &model->hashes[id], before), is_removed);
	if (is_removed)
		model->entries[id].sequence = 0;
}

static bool model_visit(void *ctx, const struct index_entry *entry)
{
	struct model *model = ctx;

	for (uint32_t id = 0; id < MODEL_IDS; id++) {
		if (model->hashes[id].lo != entry->hash.lo ||
		    model->hashes[id].hi != entry->hash.hi)
			continue;
		assert_true(model_has(model, id));
		assert_entry_equal(entry, &model->entries[id]);
		model->seen[id]++;
		model->walked++;
		if (entry->sequence % 8 != 0)
			return true;
		model->entries[id].sequence = 0;
		return false;
	}
	fail_msg("an entry that nobody inserted");
	return true;
}

/* A walk visits what is there once each, removes what it is told to, and counts exactly. */
static void model_walk(struct model *model)
{
	uint32_t live = 0;

	memset(model->seen, 0, sizeof(model->seen));
	model->walked = 0;
	for (uint32_t id = 0; id < MODEL_IDS; id++)
		live += model_has(model, id);
	index_walk(model->bench.index, model_visit, model);
	assert_int_equal(model->walked, live);
	live = 0;
	for (uint32_t id = 0; id < MODEL_IDS; id++) {
		assert_true(model->seen[id] <= 1);
		live += model_has(model, id);
	}
	assert_int_equal(index_count(model->bench.index), live);
}

/* Many at once: what each look says by itself; unclear is only what has an expiry or is too old. */
static void model_look(struct model *model)
{
	const struct index *index = model->bench.index;
	struct index_look look = { .count = 1 + (uint32_t)(draw(&model->bench) % INDEX_LOOK_MAX) };
	uint64_t sequence = draw(&model->bench) % (2 * model->bench.sequence);
	struct index_seen seen;

	sequence = sequence > model->bench.sequence ? 0 : sequence;
	for (uint32_t i = 0; i < look.count; i++)
		look.hashes[i] = model->hashes[draw(&model->bench) % MODEL_IDS];
	index_look_start(index, &look);
	index_look_fetch(index, &look);
	seen = index_look_finish(index, &look, sequence);
	for (uint32_t i = 0; i < look.count; i++) {
		struct index_entry entry = { 0 };
		enum index_looked looked = index_look(index, &look.hashes[i], &entry);
		bool is_late = looked != INDEX_NOTHING && entry.sequence >= sequence;
		bool is_plain = is_late && entry.expiry_s == 0;
		bool is_unclear = seen.unclear >> i & 1;

		assert_int_equal(seen.live >> i & 1, looked == INDEX_LIVE && is_plain);
		assert_int_equal(seen.stale >> i & 1, looked == INDEX_STALE && is_late);
		assert_int_equal(is_unclear, looked == INDEX_LIVE && !is_plain);
		model->looked += looked != INDEX_NOTHING;
	}
	if (look.count < INDEX_LOOK_MAX)
		assert_int_equal((seen.live | seen.stale | seen.unclear) >> look.count, 0);
}

static void model_step(struct model *model)
{
	uint32_t id = (uint32_t)(draw(&model->bench) % MODEL_IDS);
	uint64_t dice = draw(&model->bench) % 1000;

	if (dice < 600)
		model_insert(model, id);
	else if (dice < 750)
		model_update(model, id);
	else if (dice < 900)
		model_remove(model, id);
	else if (dice < 980)
		model_check_id(model, id);
	else if (dice < 990)
		model_look(model);
	else if (dice < 999)
		model->bench.first[draw(&model->bench) % SEGMENTS] = UINT64_MAX;
	else
		model_walk(model);
	model_check_id(model, id);
}

static void answers_like_a_naive_table(void **state)
{
	static struct model model;

	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		memset(&model, 0, sizeof(model));
		/* Room for fewer than there are: it is full now and then. */
		bench_open(&model.bench, seed, 1000);
		for (uint32_t id = 0; id < MODEL_IDS; id++) {
			model.hashes[id] = hash_draw(&model.bench);
			if (id % 16 == 0) /* one bucket by both halves, one tag for all */
				model.hashes[id].hi = model.hashes[id].lo &= ~UINT64_C(0x7f);
			if (id % 16 == 1) /* differ in one half only */
				model.hashes[id].lo = model.hashes[id - 1].lo;
			if (id % 16 == 2)
				model.hashes[id].hi = model.hashes[id - 1].hi;
		}
		for (uint32_t step = 0; step < 20000; step++)
			model_step(&model);
		for (uint32_t id = 0; id < MODEL_IDS; id++)
			model_check_id(&model, id);
		assert_true(model.looked > 1000);
		bench_close(&model.bench);
	}
}

/* --- fill --- */

#define FILL_COUNT 100000u

static struct hash128 fill_hash(uint64_t i)
{
	return hash128(&i, sizeof(i), 42);
}

static void takes_all_it_was_made_for_in_64_bytes_each(void **state)
{
	static struct bench bench;
	uint64_t count = 0;
	struct index_entry entry;

	(void)state;
	assert_true(index_size(FILL_COUNT) <= 64 * (uint64_t)FILL_COUNT);
	assert_true(index_size(1000000) <= UINT64_C(64000000));
	bench_open(&bench, 1, FILL_COUNT);
	assert_true(index_room(bench.index) >= FILL_COUNT);
	for (;; count++) {
		entry = entry_draw(&bench, fill_hash(count), (uint32_t)(count % SEGMENTS));
		if (index_insert(bench.index, &entry) != 0)
			break;
	}
	print_message("first refusal at fill %.3f\n", 0.9 * (double)count / FILL_COUNT);
	assert_true(count >= FILL_COUNT);
	assert_int_equal(index_count(bench.index), count);

	/* Refused again and again, it keeps what it had. */
	for (uint64_t more = 0; more < 1000; more++) {
		entry = entry_draw(&bench, fill_hash(count + more), 0);
		if (index_insert(bench.index, &entry) == 0)
			assert_true(index_remove(bench.index, &entry.hash, UINT64_MAX));
		assert_false(index_find(bench.index, &entry.hash, &entry));
	}
	for (uint64_t i = 0; i < count; i++) {
		struct hash128 hash = fill_hash(i);

		assert_true(index_find(bench.index, &hash, &entry));
		assert_int_equal(entry.sequence, i + 1);
	}
	assert_int_equal(index_count(bench.index), count);

	/* A replacement needs no room. */
	entry = entry_draw(&bench, fill_hash(0), 1);
	assert_int_equal(index_insert(bench.index, &entry), 0);

	/* Forget a segment, and there is room for as many. */
	bench.first[5] = UINT64_MAX;
	for (uint64_t i = 0; i < count / SEGMENTS / 2; i++) {
		entry = entry_draw(&bench, fill_hash(2 * count + i), 1);
		assert_int_equal(index_insert(bench.index, &entry), 0);
	}
	bench_close(&bench);
}

/* A log that goes round and round over a full index, oldest segment forgotten each time. */
static void goes_round_at_full_fill_without_a_refusal(void **state)
{
	static struct bench bench;
	const uint64_t per_segment = 20000 / SEGMENTS;
	uint64_t id = 0;
	struct index_entry entry;

	(void)state;
	bench_open(&bench, 1, 20000);
	for (uint32_t i = 0; i < SEGMENTS; i++)
		bench.first[i] = UINT64_MAX;
	for (uint32_t round = 0; round < 5 * SEGMENTS; round++) {
		uint32_t segment = round % SEGMENTS;

		bench.first[segment] = bench.sequence;
		for (uint64_t i = 0; i < per_segment; i++) {
			entry = entry_draw(&bench, fill_hash(id++), segment);
			assert_int_equal(index_insert(bench.index, &entry), 0);
		}
	}
	for (uint64_t i = 0; i < id; i++) {
		struct hash128 hash = fill_hash(i);

		assert_int_equal(index_find(bench.index, &hash, &entry),
				 i >= id - per_segment * SEGMENTS);
	}
	bench_close(&bench);
}

static void creation_survives_each_fault(void **state)
{
	static struct bench bench;

	(void)state;
	for (uint64_t k = 1;; k++) {
		struct index *index = NULL;
		int rc;

		env_fake_init(&bench.fake, 1);
		bench.fake.fail_at = k;
		rc = index_create(&bench.fake.env, 10, &bench.segments, &index);
		if (rc == 0) {
			assert_true(bench.fake.calls < k);
			assert_int_equal(k, 3);
			index_destroy(&index);
		}
		assert_null(index);
		assert_int_equal(bench.fake.held, 0);
		env_fake_fini(&bench.fake);
		if (rc == 0)
			return;
		assert_int_equal(rc, -ENOMEM);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field_comes_back_at_its_widest),
		cmocka_unit_test(identity_hash_depends_on_seed_and_every_part),
		cmocka_unit_test(a_forgotten_block_is_remembered_until_its_slot_is_needed),
		cmocka_unit_test(answers_like_a_naive_table),
		cmocka_unit_test(takes_all_it_was_made_for_in_64_bytes_each),
		cmocka_unit_test(goes_round_at_full_fill_without_a_refusal),
		cmocka_unit_test(creation_survives_each_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
