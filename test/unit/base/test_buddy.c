/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pieces never overlap, are aligned to their size, hold what was asked for; an arena that is given
 * back whole can be taken whole; "none left" is true; wrong use panics. A naive twin (a byte a
 * page) is compared on every step.
 */
#include "../../lib/t.h"

#include <stdlib.h>
#include <string.h>

#include "../../../src/base/buddy.h"

#define ARENA      (4 * MiB)
#define PAGES      (ARENA / BUDDY_PIECE_MIN)
#define PIECES_MAX PAGES

struct bench {
	struct buddy buddy;
	char *arena;
	uint8_t pages[PAGES];
	bool is_taken[PAGES]; /* the twin */
	uint64_t taken;
};

struct piece {
	char *ptr;
	uint64_t size;
};

static int bench_begin(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	bench->arena = aligned_alloc(MiB, ARENA);
	assert_int_equal(buddy_pages_size(ARENA), sizeof(bench->pages));
	buddy_init(&bench->buddy, bench->arena, ARENA, bench->pages);
	*state = bench;
	return 0;
}

static int bench_end(void **state)
{
	struct bench *bench = *state;

	free(bench->arena);
	free(bench);
	return 0;
}

/* Whether the twin has a free, aligned run of size. */
static bool twin_has_room(const struct bench *bench, uint64_t size)
{
	uint64_t count = size / BUDDY_PIECE_MIN;

	for (uint64_t page = 0; page < PAGES; page += count) {
		uint64_t i = 0;

		while (i < count && !bench->is_taken[page + i])
			i++;
		if (i == count)
			return true;
	}
	return false;
}

static void twin_mark(struct bench *bench, const struct piece *piece, bool is_taken)
{
	uint64_t page = (uint64_t)(piece->ptr - bench->arena) / BUDDY_PIECE_MIN;

	for (uint64_t i = 0; i < piece->size / BUDDY_PIECE_MIN; i++) {
		assert_int_equal(bench->is_taken[page + i], !is_taken);
		bench->is_taken[page + i] = is_taken;
	}
	bench->taken = is_taken ? bench->taken + piece->size : bench->taken - piece->size;
}

static bool take(struct bench *bench, uint64_t size, struct piece *piece)
{
	uint64_t room = BUDDY_PIECE_MIN;

	while (room < size)
		room *= 2;
	assert_int_equal(buddy_piece_size(size), room);
	piece->ptr = buddy_take(&bench->buddy, size);
	piece->size = room;
	assert_int_equal(piece->ptr != NULL, twin_has_room(bench, room));
	if (piece->ptr == NULL)
		return false;
	assert_true(piece->ptr >= bench->arena);
	assert_true(piece->ptr + room <= bench->arena + ARENA);
	assert_int_equal((uint64_t)(piece->ptr - bench->arena) % room, 0);
	twin_mark(bench, piece, true);
	assert_int_equal(bench->buddy.used, bench->taken);
	memset(piece->ptr, 0xa5, room);
	return true;
}

static void give(struct bench *bench, const struct piece *piece)
{
	twin_mark(bench, piece, false);
	buddy_give(&bench->buddy, piece->ptr);
	assert_int_equal(bench->buddy.used, bench->taken);
}

/* Everything is given back: the arena is one again. */
static void check_whole(struct bench *bench)
{
	struct piece pieces[ARENA / BUDDY_PIECE_MAX];

	assert_int_equal(bench->buddy.used, 0);
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
		assert_true(take(bench, BUDDY_PIECE_MAX, &pieces[i]));
	assert_null(buddy_take(&bench->buddy, 1));
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
		give(bench, &pieces[i]);
}

static void every_size_around_every_boundary_fits_its_piece(void **state)
{
	struct bench *bench = *state;
	struct piece piece;

	for (uint64_t power = BUDDY_PIECE_MIN; power <= BUDDY_PIECE_MAX; power *= 2) {
		for (uint64_t size = power - 1; size <= MIN(power + 1, BUDDY_PIECE_MAX); size++) {
			assert_true(take(bench, size, &piece));
			give(bench, &piece);
		}
	}
	assert_true(take(bench, 1, &piece));
	assert_int_equal(piece.size, BUDDY_PIECE_MIN);
	give(bench, &piece);
	check_whole(bench);
}

static void smallest_pieces_use_the_arena_up_and_come_back_as_one(void **state)
{
	struct bench *bench = *state;
	static struct piece pieces[PIECES_MAX];
	struct piece piece;

	for (size_t i = 0; i < PIECES_MAX; i++)
		assert_true(take(bench, 1, &pieces[i]));
	assert_false(take(bench, 1, &piece));
	assert_int_equal(bench->buddy.used_max, ARENA);
	for (size_t i = 0; i < PIECES_MAX; i += 2)
		give(bench, &pieces[i]);
	assert_false(take(bench, BUDDY_PIECE_MIN + 1, &piece)); /* half free, in single pages */
	for (size_t i = 1; i < PIECES_MAX; i += 2)
		give(bench, &pieces[i]);
	check_whole(bench);
}

static void random_use_agrees_with_a_naive_twin(void **state)
{
	struct bench *bench = *state;
	static struct piece pieces[PIECES_MAX];
	size_t count = 0;
	uint32_t seed = 12345;

	for (int step = 0; step < 20000; step++) {
		uint32_t draw = seed = seed * 1664525u + 1013904223u;
		uint64_t size = 1 + ((uint64_t)BUDDY_PIECE_MIN << (draw >> 28) % BUDDY_ORDERS) - 1;

		/* A phase of filling, a phase of giving back. */
		if ((draw >> 8) % 8 < (step / 2000 % 2 == 0 ? 5 : 3)) {
			if (count < PIECES_MAX && take(bench, size, &pieces[count]))
				count++;
		} else if (count > 0) {
			size_t which = (draw >> 12) % count;

			give(bench, &pieces[which]);
			pieces[which] = pieces[--count];
		}
	}
	while (count > 0)
		give(bench, &pieces[--count]);
	check_whole(bench);
}

static void high_water_stays(void **state)
{
	struct bench *bench = *state;
	struct piece piece;

	assert_true(take(bench, 64 * KiB, &piece));
	give(bench, &piece);
	assert_int_equal(bench->buddy.used, 0);
	assert_int_equal(bench->buddy.used_max, 64 * KiB);
}

static jmp_buf panic_jump;

static void panic_caught(const char *file, int line, const char *what)
{
	longjmp(panic_jump, 1);
}

/* What must panic, panics. */
static void expect_panic(struct bench *bench, void (*act)(struct bench *bench, void *ptr),
			 void *ptr)
{
	base_panic_hook_set(panic_caught);
	if (setjmp(panic_jump) == 0) {
		act(bench, ptr);
		base_panic_hook_set(NULL);
		fail_msg("no panic");
	}
	base_panic_hook_set(NULL);
}

static void act_give(struct bench *bench, void *ptr)
{
	buddy_give(&bench->buddy, ptr);
}

static void act_take(struct bench *bench, void *ptr)
{
	(void)buddy_take(&bench->buddy, (uintptr_t)ptr);
}

static void wrong_use_panics(void **state)
{
	struct bench *bench = *state;
	char *piece = buddy_take(&bench->buddy, 16 * KiB);

	expect_panic(bench, act_give, piece + 1);
	expect_panic(bench, act_give, piece + BUDDY_PIECE_MIN);
	expect_panic(bench, act_give, bench->arena + ARENA);
	expect_panic(bench, act_give, bench->arena - BUDDY_PIECE_MIN);
	expect_panic(bench, act_take, (void *)(uintptr_t)0);
	expect_panic(bench, act_take, (void *)(uintptr_t)(BUDDY_PIECE_MAX + 1));
	buddy_give(&bench->buddy, piece);
	expect_panic(bench, act_give, piece); /* twice */
	check_whole(bench);
}

/* With slow checks only: a write after giving back is noticed when the piece is taken again. */
static void a_late_write_panics(void **state)
{
#ifdef CTXKV_SLOW_CHECKS
	struct bench *bench = *state;
	char *piece = buddy_take(&bench->buddy, BUDDY_PIECE_MAX);

	buddy_give(&bench->buddy, piece);
	memset(piece + 8 * BUDDY_PIECE_MIN, 0x11, BUDDY_PIECE_MIN);
	expect_panic(bench, act_take, (void *)(uintptr_t)BUDDY_PIECE_MAX);
#else
	print_message("needs -Dslow_checks=true\n");
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_size_around_every_boundary_fits_its_piece,
						bench_begin, bench_end),
		cmocka_unit_test_setup_teardown(
			smallest_pieces_use_the_arena_up_and_come_back_as_one, bench_begin,
			bench_end),
		cmocka_unit_test_setup_teardown(random_use_agrees_with_a_naive_twin, bench_begin,
						bench_end),
		cmocka_unit_test_setup_teardown(high_water_stays, bench_begin, bench_end),
		cmocka_unit_test_setup_teardown(wrong_use_panics, bench_begin, bench_end),
		cmocka_unit_test_setup_teardown(a_late_write_panics, bench_begin, bench_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
