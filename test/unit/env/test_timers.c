/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers fire by time, of equal times the first set first, whatever was moved and cleared between:
 * compared with a naive twin (an array searched for its least) over random operations.
 */
#include "../../lib/t.h"

#include <string.h>

#include "../../../src/env/timers.h"

#define COUNT 200

struct twin {
	bool is_set[COUNT];
	uint64_t when_ns[COUNT];
	uint64_t order[COUNT];
	uint64_t set_count;
};

static void fire_never(struct env_timer *timer)
{
	fail_msg("the heap fires nothing itself");
}

/* Index of the twin's first, or COUNT. */
static size_t twin_first(const struct twin *twin)
{
	size_t first = COUNT;

	for (size_t i = 0; i < COUNT; i++) {
		if (!twin->is_set[i])
			continue;
		if (first == COUNT || twin->when_ns[i] < twin->when_ns[first] ||
		    (twin->when_ns[i] == twin->when_ns[first] &&
		     twin->order[i] < twin->order[first]))
			first = i;
	}
	return first;
}

static void check_first(const struct timers *timers, const struct twin *twin)
{
	size_t first = twin_first(twin);

	assert_int_equal(timers_next_ns(timers),
			 first == COUNT ? ENV_FOREVER : twin->when_ns[first]);
}

/* Everything due at now_ns comes out in the twin's order, unset, and nothing else does. */
static void take_all_due(struct timers *timers, struct env_timer *all, struct twin *twin,
			 uint64_t now_ns)
{
	struct env_timer *timer;

	while ((timer = timers_take_due(timers, now_ns)) != NULL) {
		size_t first = twin_first(twin);

		assert_ptr_equal(timer, &all[first]);
		assert_true(twin->when_ns[first] <= now_ns);
		assert_false(timer->is_set);
		twin->is_set[first] = false;
	}
	check_first(timers, twin);
	assert_true(timers_next_ns(timers) > now_ns);
}

static void random_use_agrees_with_a_naive_twin(void **state)
{
	static struct env_timer all[COUNT];
	static struct twin twin;
	struct timers timers = { 0 };
	uint64_t now_ns = 0;
	uint32_t seed = 7;

	memset(all, 0, sizeof(all));
	for (size_t i = 0; i < COUNT; i++)
		all[i].fire = fire_never;
	for (int step = 0; step < 50000; step++) {
		uint32_t draw = seed = seed * 1664525u + 1013904223u;
		size_t i = (draw >> 8) % COUNT;
		uint32_t kind = (draw >> 28);

		if (kind < 9) { /* few different times, so that many are equal */
			twin.is_set[i] = true;
			twin.when_ns[i] = now_ns + 10 * ((draw >> 20) % 16);
			twin.order[i] = twin.set_count++;
			timers_set(&timers, &all[i], twin.when_ns[i]);
		} else if (kind < 14) {
			timers_clear(&timers, &all[i]);
			twin.is_set[i] = false;
		} else {
			now_ns += (draw >> 20) % 32;
			take_all_due(&timers, all, &twin, now_ns);
		}
		assert_int_equal(all[i].is_set, twin.is_set[i]);
		check_first(&timers, &twin);
	}
	take_all_due(&timers, all, &twin, now_ns + 1000);
	assert_null(timers.root);
}

/* Every order of setting four timers at every choice of three times, then clearing one. */
static void small_heaps_completely(void **state)
{
	for (int times = 0; times < 81; times++) {
		for (int cleared = 0; cleared <= 4; cleared++) {
			struct env_timer all[4];
			struct timers timers = { 0 };
			uint64_t last = 0;
			size_t last_index = 0;
			int taken = 0;
			struct env_timer *timer;

			memset(all, 0, sizeof(all));
			for (int i = 0, rest = times; i < 4; i++, rest /= 3) {
				all[i].fire = fire_never;
				timers_set(&timers, &all[i], (uint64_t)(rest % 3));
			}
			if (cleared < 4)
				timers_clear(&timers, &all[cleared]);
			while ((timer = timers_take_due(&timers, 2)) != NULL) {
				size_t index = (size_t)(timer - all);

				assert_int_not_equal(index, cleared);
				assert_true(timer->when_ns > last ||
					    (timer->when_ns == last &&
					     (taken == 0 || index > last_index)));
				last = timer->when_ns;
				last_index = index;
				taken++;
			}
			assert_int_equal(taken, cleared < 4 ? 3 : 4);
		}
	}
}

static void clearing_an_idle_timer_does_nothing(void **state)
{
	struct timers timers = { 0 };
	struct env_timer timer = { .fire = fire_never };

	timers_clear(&timers, &timer);
	assert_int_equal(timers_next_ns(&timers), ENV_FOREVER);
	assert_null(timers_take_due(&timers, UINT64_MAX));
}

/* A long list of children must not cost stack. */
static void many_timers_need_no_stack(void **state)
{
	static struct env_timer all[200000];
	struct timers timers = { 0 };

	memset(all, 0, sizeof(all));
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		all[i].fire = fire_never;
		timers_set(&timers, &all[i], i % 2 == 0 ? i : ARRAY_LEN(all) - i);
	}
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		assert_non_null(timers_take_due(&timers, ARRAY_LEN(all)));
	assert_null(timers.root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_use_agrees_with_a_naive_twin),
		cmocka_unit_test(small_heaps_completely),
		cmocka_unit_test(clearing_an_idle_timer_does_nothing),
		cmocka_unit_test(many_timers_need_no_stack),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
