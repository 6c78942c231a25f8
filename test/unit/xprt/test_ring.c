/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rings of shm: what is written comes out, in order, wherever the ring begins; a position that
 * cannot be is found out, whatever it is; and nobody sleeps over what the other did, in any
 * interleaving of the steps of both ends, and between two real threads.
 */
#include "../../lib/t.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../../src/xprt/shm/ring.h"

static struct ring_shared shared;
static uint8_t bytes[RING_SIZE];

static void ends_init(struct ring *writer, struct ring *reader)
{
	memset(&shared, 0, sizeof(shared));
	ring_init(writer, &shared, bytes);
	ring_init(reader, &shared, bytes);
}

/* --- bytes --- */

static void bytes_come_out_as_they_went_in(void **state)
{
	struct ring writer;
	struct ring reader;
	uint32_t x = 1;
	uint8_t in[3000];
	uint8_t out[3000];

	ends_init(&writer, &reader);
	for (uint32_t i = 0; i < 1000; i++) {
		uint32_t size = 1 + i * 37 % (uint32_t)sizeof(in);

		for (uint32_t k = 0; k < size; k++)
			in[k] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
		assert_int_equal(ring_see_head(&writer), 0);
		assert_int_equal(ring_room(&writer), RING_SIZE);
		ring_write(&writer, in, size);
		ring_write_pad(&writer);
		assert_int_equal(ring_see_tail(&reader), 0);
		assert_int_equal(ring_have(&reader), 0); /* not yet published */
		ring_publish_tail(&writer);
		assert_int_equal(ring_see_tail(&reader), 0);
		assert_int_equal(ring_have(&reader), round_up(size, RING_WORD));
		ring_read(&reader, out, size);
		assert_memory_equal(in, out, size);
		reader.own = round_up(reader.own, RING_WORD);
		ring_publish_head(&reader);
	}
}

static void a_full_ring_has_no_room_until_it_is_told(void **state)
{
	static uint8_t all[RING_SIZE];
	struct ring writer;
	struct ring reader;

	ends_init(&writer, &reader);
	ring_write(&writer, all, RING_SIZE - 8);
	ring_publish_tail(&writer);
	assert_int_equal(ring_room(&writer), 8);
	assert_int_equal(ring_see_tail(&reader), 0);
	ring_read(&reader, all, 800);
	assert_int_equal(ring_see_head(&writer), 0);
	assert_int_equal(ring_room(&writer), 8);
	ring_publish_head(&reader);
	assert_int_equal(ring_room(&writer), 8); /* as last seen */
	assert_int_equal(ring_see_head(&writer), 0);
	assert_int_equal(ring_room(&writer), 808);
}

/* --- a peer that lies --- */

static void a_tail_that_cannot_be_is_found_out(void **state)
{
	const struct {
		uint64_t tail;
		int rc;
	} cases[] = {
		{ 1000, 0 },
		{ 1008, 0 },
		{ 1000 + RING_SIZE - 200, 0 },
		{ 1000 + RING_SIZE - 192, -ERR_PROTOCOL }, /* more than a ring from what was read */
		{ 992, -ERR_PROTOCOL },                    /* backwards */
		{ 800, -ERR_PROTOCOL },
		{ 0, -ERR_PROTOCOL },
		{ 1001, -ERR_PROTOCOL }, /* half a word */
		{ UINT64_MAX, -ERR_PROTOCOL },
		{ UINT64_MAX - 7, -ERR_PROTOCOL },
		{ UINT64_C(1) << 63, -ERR_PROTOCOL },
		{ 1000 + (UINT64_C(1) << 32), -ERR_PROTOCOL },
	};
	struct ring writer;
	struct ring reader;
	uint8_t some[1000] = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		ends_init(&writer, &reader);
		ring_write(&writer, some, 1000);
		ring_publish_tail(&writer);
		assert_int_equal(ring_see_tail(&reader), 0);
		ring_read(&reader, some, 800);
		shared.tail = cases[i].tail;
		assert_int_equal(ring_see_tail(&reader), cases[i].rc);
		/* What was seen before still holds. */
		assert_in_range(ring_have(&reader), 200, RING_SIZE);
	}
}

static void a_head_that_cannot_be_is_found_out(void **state)
{
	const struct {
		uint64_t head;
		int rc;
	} cases[] = {
		{ 400, 0 },
		{ 800, 0 },
		{ 808, -ERR_PROTOCOL }, /* more than was published */
		{ 1000, -ERR_PROTOCOL },
		{ 392, -ERR_PROTOCOL },
		{ 0, -ERR_PROTOCOL },
		{ 401, -ERR_PROTOCOL },
		{ UINT64_MAX - 7, -ERR_PROTOCOL },
		{ 800 + RING_SIZE, -ERR_PROTOCOL },
	};
	struct ring writer;
	struct ring reader;
	uint8_t some[1000] = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		ends_init(&writer, &reader);
		ring_write(&writer, some, 800);
		ring_publish_tail(&writer);
		ring_write(&writer, some, 200);
		shared.head = 400;
		assert_int_equal(ring_see_head(&writer), 0);
		shared.head = cases[i].head;
		assert_int_equal(ring_see_head(&writer), cases[i].rc);
		assert_in_range(ring_room(&writer), 0, RING_SIZE);
	}
}

/* --- sleep and wake: every interleaving --- */

/*
 * A writer with ITEMS items of a whole ring each, so that it waits for room as often as the reader
 * for bytes. Each state is one step of the code above it (shm.c); steps of the two are interleaved
 * in every way. A note is what ring_bell() would have sent.
 */
#define ITEMS 3

enum step { TRY, TAKE, HANG, LOOK, ASLEEP, DONE };

struct end {
	enum step step;
	uint32_t notes; /* to it, not read yet */
	uint32_t items;
	struct ring ring;
};

struct world {
	struct ring_shared shared;
	struct end writer;
	struct end reader;
	bool has_last_look; /* false: the mistake that the test must find */
};

static uint64_t worlds_seen;
static uint64_t worlds_stuck;

static void writer_step(struct world *world)
{
	struct end *self = &world->writer;
	bool has_room;

	self->ring.shared = &world->shared;
	assert_int_equal(ring_see_head(&self->ring), 0);
	has_room = ring_room(&self->ring) == RING_SIZE;
	switch (self->step) {
	case TRY:
		if (has_room) {
			ring_write(&self->ring, bytes, 0);
			self->ring.own += RING_SIZE;
			ring_publish_tail(&self->ring);
		}
		self->step = has_room ? TAKE : HANG;
		break;
	case TAKE:
		world->reader.notes += bell_take(&world->shared.bytes_bell);
		self->step = ++self->items == ITEMS ? DONE : TRY;
		break;
	case HANG:
		bell_hang(&world->shared.room_bell);
		self->step = world->has_last_look ? LOOK : ASLEEP;
		break;
	case LOOK:
		if (has_room)
			bell_unhang(&world->shared.room_bell);
		self->step = has_room ? TRY : ASLEEP;
		break;
	case ASLEEP:
		self->notes--;
		bell_unhang(&world->shared.room_bell);
		self->step = TRY;
		break;
	case DONE:
		break;
	}
}

static void reader_step(struct world *world)
{
	struct end *self = &world->reader;
	bool has_bytes;

	self->ring.shared = &world->shared;
	assert_int_equal(ring_see_tail(&self->ring), 0);
	has_bytes = ring_have(&self->ring) > 0;
	switch (self->step) {
	case TRY:
		if (has_bytes) {
			self->ring.own += RING_SIZE;
			self->items++;
			ring_publish_head(&self->ring);
		}
		self->step = has_bytes ? TAKE : HANG;
		break;
	case TAKE:
		world->writer.notes += bell_take(&world->shared.room_bell);
		self->step = TRY;
		break;
	case HANG:
		bell_hang(&world->shared.bytes_bell);
		self->step = world->has_last_look ? LOOK : ASLEEP;
		break;
	case LOOK:
		if (has_bytes)
			bell_unhang(&world->shared.bytes_bell);
		self->step = has_bytes ? TRY : ASLEEP;
		break;
	case ASLEEP:
		self->notes--;
		bell_unhang(&world->shared.bytes_bell);
		self->step = TRY;
		break;
	case DONE:
		break;
	}
}

static bool can_step(const struct end *end)
{
	return end->step != DONE && (end->step != ASLEEP || end->notes > 0);
}

/* Depth is bounded: each end has finitely many steps until it sleeps. */
static void worlds_walk(const struct world *world)
{
	struct world next;

	worlds_seen++;
	if (can_step(&world->writer)) {
		next = *world;
		writer_step(&next);
		worlds_walk(&next);
	}
	if (can_step(&world->reader)) {
		next = *world;
		reader_step(&next);
		worlds_walk(&next);
	}
	if (can_step(&world->writer) || can_step(&world->reader))
		return;
	if (world->writer.items < ITEMS || world->reader.items < ITEMS)
		worlds_stuck++;
}

static void walk_all(bool has_last_look)
{
	struct world world = { .has_last_look = has_last_look };

	ring_init(&world.writer.ring, &world.shared, bytes);
	ring_init(&world.reader.ring, &world.shared, bytes);
	worlds_seen = worlds_stuck = 0;
	worlds_walk(&world);
}

static void nobody_sleeps_over_what_was_published(void **state)
{
	walk_all(true);
	assert_true(worlds_seen > 1000);
	assert_int_equal(worlds_stuck, 0);
	print_message("%llu states\n", (unsigned long long)worlds_seen);
	/* Without the last look somebody does: the walk would see it. */
	walk_all(false);
	assert_true(worlds_stuck > 0);
}

/* --- two threads --- */

#define ROUNDS 200000

struct pair_of_threads {
	sem_t to_reader;
	sem_t to_writer;
	atomic_bool is_stuck;
};

static bool wait_for_note(struct pair_of_threads *pair, sem_t *sem)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	if (sem_timedwait(sem, &until) == 0)
		return true;
	pair->is_stuck = true;
	return false;
}

/* Reads words that count up. */
static void *reader_main(void *ctx)
{
	struct pair_of_threads *pair = ctx;
	struct ring reader;
	uint64_t seen = 0;

	ring_init(&reader, &shared, bytes);
	while (seen < ROUNDS) {
		if (ring_see_tail(&reader) < 0)
			return NULL;
		if (ring_have(&reader) == 0) {
			bell_hang(&shared.bytes_bell);
			if (ring_see_tail(&reader) == 0 && ring_have(&reader) == 0 &&
			    !wait_for_note(pair, &pair->to_reader))
				return NULL;
			bell_unhang(&shared.bytes_bell);
			continue;
		}
		while (ring_have(&reader) > 0) {
			uint64_t word;

			ring_read(&reader, &word, sizeof(word));
			if (word != seen++)
				return NULL;
		}
		ring_publish_head(&reader);
		if (bell_take(&shared.room_bell))
			sem_post(&pair->to_writer);
	}
	return &shared;
}

static bool write_word(struct pair_of_threads *pair, struct ring *writer, uint64_t word)
{
	while (ring_see_head(writer) == 0 && ring_room(writer) < RING_SIZE - 56) {
		bell_hang(&shared.room_bell);
		if (ring_see_head(writer) == 0 && ring_room(writer) < RING_SIZE - 56 &&
		    !wait_for_note(pair, &pair->to_writer))
			return false;
		bell_unhang(&shared.room_bell);
	}
	ring_write(writer, &word, sizeof(word));
	ring_publish_tail(writer);
	if (bell_take(&shared.bytes_bell))
		sem_post(&pair->to_reader);
	return true;
}

/* At most seven words are under way, so that both wait often. */
static void two_threads_do_not_lose_each_other(void **state)
{
	struct pair_of_threads pair = { .is_stuck = false };
	struct ring writer;
	struct ring unused;
	pthread_t thread;
	void *result = NULL;

	ends_init(&writer, &unused);
	sem_init(&pair.to_reader, 0, 0);
	sem_init(&pair.to_writer, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, reader_main, &pair), 0);
	for (uint64_t i = 0; i < ROUNDS; i++) {
		if (!write_word(&pair, &writer, i))
			break;
	}
	pthread_join(thread, &result);
	assert_false(pair.is_stuck);
	assert_ptr_equal(result, &shared);
	sem_destroy(&pair.to_reader);
	sem_destroy(&pair.to_writer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_out_as_they_went_in),
		cmocka_unit_test(a_full_ring_has_no_room_until_it_is_told),
		cmocka_unit_test(a_tail_that_cannot_be_is_found_out),
		cmocka_unit_test(a_head_that_cannot_be_is_found_out),
		cmocka_unit_test(nobody_sleeps_over_what_was_published),
		cmocka_unit_test(two_threads_do_not_lose_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
