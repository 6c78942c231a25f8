/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers: all pieces or none, in order of arrival, a quota that holds up nobody else; and lists of
 * pieces, against a naive twin.
 */
#include <stdlib.h>
#include <string.h>

#include "../../../src/server/buffers.h"
#include "../../../src/server/iov.h"
#include "../../lib/env_fake.h"
#include "../../lib/t.h"

struct test_want {
	struct buffers_want want;
	struct iovec iov[8];
	uint32_t order; /* in which it was granted; 0: not yet */
};

static uint32_t granted_count;

static void granted_cb(struct buffers_want *want)
{
	struct test_want *test = CONTAINER_OF(want, struct test_want, want);

	assert_int_equal(want->state, BUFFERS_HELD);
	test->order = ++granted_count;
}

static void want_init(struct test_want *test)
{
	*test = (struct test_want) { .want = { .iov = test->iov, .granted = granted_cb } };
	list_init(&test->want.node);
}

static struct buffers_arena arena;

static void pool_begin(struct env_fake *fake, struct buffers *pool, uint64_t size)
{
	granted_count = 0;
	env_fake_init(fake, 1);
	assert_int_equal(buffers_arena_init(&arena, &fake->env, size), 0);
	buffers_init(pool, &arena, size);
}

static void pool_end(struct env_fake *fake, struct buffers *pool)
{
	assert_int_equal(pool->buddy.used, 0);
	assert_true(list_is_empty(&pool->waiters));
	buffers_arena_fini(&arena);
	assert_int_equal(fake->held, 0);
	env_fake_fini(fake);
}

static void pieces_sum_up_to_what_is_wanted(void **state)
{
	static const uint64_t sizes[] = { 1, 4096, 4097, 300000, MiB, MiB + 1, 3 * MiB - 1 };
	struct env_fake fake;
	struct buffers pool;
	struct test_want test;

	pool_begin(&fake, &pool, 4 * MiB);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint64_t sum = 0;

		want_init(&test);
		assert_int_equal(buffers_reserve(&pool, NULL, NULL, &test.want, sizes[i]), 0);
		assert_int_equal(test.want.iov_count, buffers_piece_count(sizes[i]));
		for (uint32_t j = 0; j < test.want.iov_count; j++) {
			sum += test.iov[j].iov_len;
			assert_int_equal((uintptr_t)test.iov[j].iov_base % PAGE_SIZE, 0);
			memset(test.iov[j].iov_base, 1, test.iov[j].iov_len);
		}
		assert_int_equal(sum, sizes[i]);
		assert_int_equal(pool.buddy.used, buffers_held_size(sizes[i]));
		buffers_free(&test.want);
		buffers_free(&test.want); /* nothing to do */
	}
	pool_end(&fake, &pool);
}

/* The first in the queue is the first served, although a later one would fit before. */
static void who_waits_is_served_in_order(void **state)
{
	struct env_fake fake;
	struct buffers pool;
	struct test_want tests[4];

	pool_begin(&fake, &pool, 4 * MiB);
	for (size_t i = 0; i < 4; i++)
		want_init(&tests[i]);
	assert_int_equal(buffers_reserve(&pool, NULL, NULL, &tests[0].want, 3 * MiB), 0);
	assert_int_equal(buffers_reserve(&pool, NULL, NULL, &tests[1].want, 2 * MiB), -EAGAIN);
	assert_int_equal(buffers_reserve(&pool, NULL, NULL, &tests[2].want, 4096), -EAGAIN);
	assert_int_equal(buffers_try(&pool, &tests[3].want, 4096), -EAGAIN);
	assert_int_equal(pool.buddy.used, 3 * MiB); /* nothing of the second is held */
	buffers_free(&tests[0].want);
	assert_int_equal(tests[1].order, 1);
	assert_int_equal(tests[2].order, 2);
	assert_int_equal(tests[3].order, 0);
	buffers_free(&tests[1].want);
	buffers_free(&tests[2].want);
	pool_end(&fake, &pool);
}

static void who_leaves_the_queue_lets_others_pass(void **state)
{
	struct env_fake fake;
	struct buffers pool;
	struct test_want tests[3];

	pool_begin(&fake, &pool, 4 * MiB);
	for (size_t i = 0; i < 3; i++)
		want_init(&tests[i]);
	assert_int_equal(buffers_reserve(&pool, NULL, NULL, &tests[0].want, 3 * MiB), 0);
	assert_int_equal(buffers_reserve(&pool, NULL, NULL, &tests[1].want, 2 * MiB), -EAGAIN);
	assert_int_equal(buffers_reserve(&pool, NULL, NULL, &tests[2].want, 4096), -EAGAIN);
	buffers_free(&tests[1].want);
	assert_int_equal(tests[1].order, 0);
	assert_int_equal(tests[2].order, 1);
	buffers_free(&tests[0].want);
	buffers_free(&tests[2].want);
	pool_end(&fake, &pool);
}

/* Small pieces everywhere cannot keep a large want from being served in the end. */
static void small_pieces_do_not_starve_a_large_want(void **state)
{
	struct env_fake fake;
	struct buffers pool;
	static struct test_want small[1024];
	struct test_want large;

	pool_begin(&fake, &pool, 4 * MiB);
	for (size_t i = 0; i < 1024; i++) {
		want_init(&small[i]);
		assert_int_equal(buffers_reserve(&pool, NULL, NULL, &small[i].want, 1), 0);
	}
	want_init(&large);
	assert_int_equal(buffers_reserve(&pool, NULL, NULL, &large.want, 4 * MiB), -EAGAIN);
	for (size_t i = 0; i < 1024; i += 2)
		buffers_free(&small[i].want);
	assert_int_equal(large.order, 0);
	for (size_t i = 1; i < 1024; i += 2) {
		assert_int_equal(large.order, 0);
		buffers_free(&small[i].want);
	}
	assert_int_equal(large.order, 1);
	buffers_free(&large.want);
	pool_end(&fake, &pool);
}

static void a_quota_holds_up_only_its_own(void **state)
{
	struct env_fake fake;
	struct buffers pool;
	struct buffers_quota greedy;
	struct buffers_quota modest;
	struct test_want tests[4];

	pool_begin(&fake, &pool, 4 * MiB);
	buffers_quota_init(&greedy, 2 * MiB);
	buffers_quota_init(&modest, 2 * MiB);
	for (size_t i = 0; i < 4; i++)
		want_init(&tests[i]);
	assert_int_equal(buffers_reserve(&pool, &greedy, NULL, &tests[0].want, 2 * MiB), 0);
	assert_int_equal(buffers_reserve(&pool, &greedy, NULL, &tests[1].want, 4096), -EAGAIN);
	assert_int_equal(buffers_reserve(&pool, &modest, NULL, &tests[2].want, MiB), 0);
	assert_int_equal(tests[1].order, 0);
	buffers_free(&tests[0].want);
	assert_int_equal(tests[1].order, 1);
	assert_int_equal(greedy.used, 4096);

	/* One whose session goes gives back to the share only. */
	assert_int_equal(buffers_reserve(&pool, &greedy, NULL, &tests[3].want, MiB), 0);
	buffers_forget_quota(&tests[3].want);
	buffers_forget_quota(&tests[1].want);
	assert_int_equal(greedy.used, 0);
	buffers_free(&tests[3].want);
	buffers_free(&tests[1].want);
	buffers_free(&tests[2].want);
	assert_int_equal(modest.used, 0);
	pool_end(&fake, &pool);
}

/* Also where one session asks for both, with a quota for each. */
static void a_medium_holds_up_only_its_own(void **state)
{
	struct env_fake fake;
	struct buffers pool;
	struct buffers_quota session[2];
	struct buffers_quota slow;
	struct buffers_quota sound;
	struct test_want tests[6];

	pool_begin(&fake, &pool, 4 * MiB);
	buffers_quota_init(&session[0], 4 * MiB);
	buffers_quota_init(&session[1], 4 * MiB);
	buffers_quota_init(&slow, 2 * MiB);
	buffers_quota_init(&sound, 2 * MiB);
	for (size_t i = 0; i < ARRAY_LEN(tests); i++)
		want_init(&tests[i]);
	assert_int_equal(buffers_reserve(&pool, &session[0], &slow, &tests[0].want, MiB), 0);
	assert_int_equal(buffers_reserve(&pool, NULL, &slow, &tests[1].want, MiB), 0);
	assert_int_equal(buffers_reserve(&pool, &session[0], &slow, &tests[2].want, MiB), -EAGAIN);
	assert_int_equal(buffers_reserve(&pool, NULL, &slow, &tests[3].want, 4096), -EAGAIN);
	assert_int_equal(session[0].used, 2 * MiB);
	assert_int_equal(slow.used, 2 * MiB);
	/* All the while there is room for the other's; its next waits for its first only. */
	assert_int_equal(buffers_reserve(&pool, &session[1], &sound, &tests[4].want, 2 * MiB), 0);
	assert_int_equal(buffers_reserve(&pool, &session[1], &sound, &tests[5].want, MiB), -EAGAIN);
	buffers_free(&tests[4].want);
	assert_int_equal(tests[5].order, 1);
	assert_int_equal(tests[2].order, 0);

	/* In order of arrival; who gives up waiting counts nowhere any more. */
	buffers_free(&tests[1].want);
	assert_int_equal(tests[2].order, 2);
	assert_int_equal(tests[3].order, 0);
	buffers_free(&tests[3].want);
	buffers_free(&tests[0].want);
	assert_int_equal(tests[3].order, 0);
	assert_int_equal(slow.used, MiB);
	buffers_free(&tests[2].want);
	buffers_free(&tests[5].want);
	assert_int_equal(session[0].used + session[1].used + slow.used + sound.used, 0);
	pool_end(&fake, &pool);
}

/* More than its quota, when it holds nothing: else it would wait for ever. */
static void the_largest_block_passes_any_quota(void **state)
{
	struct env_fake fake;
	struct buffers pool;
	struct buffers_quota slow;
	struct test_want tests[2];

	pool_begin(&fake, &pool, 4 * MiB);
	buffers_quota_init(&slow, MiB);
	want_init(&tests[0]);
	want_init(&tests[1]);
	assert_int_equal(buffers_reserve(&pool, NULL, &slow, &tests[0].want, 4 * MiB), 0);
	assert_int_equal(buffers_reserve(&pool, NULL, &slow, &tests[1].want, 4 * MiB), -EAGAIN);
	buffers_free(&tests[0].want);
	assert_int_equal(tests[1].order, 1);
	buffers_free(&tests[1].want);
	pool_end(&fake, &pool);
}

static void who_is_alone_has_more_than_its_quota(void **state)
{
	struct env_fake fake;
	struct buffers pool;
	struct buffers_quota greedy;
	struct buffers_quota modest;
	struct test_want tests[6];

	pool_begin(&fake, &pool, 8 * MiB);
	buffers_quota_init(&greedy, MiB);
	buffers_quota_init(&modest, MiB);
	for (size_t i = 0; i < ARRAY_LEN(tests); i++)
		want_init(&tests[i]);
	/* As much as it leaves, not a piece more. */
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(buffers_reserve(&pool, &greedy, NULL, &tests[i].want, MiB), 0);
	assert_int_equal(buffers_reserve(&pool, &greedy, NULL, &tests[4].want, MiB), -EAGAIN);
	/* With another there it is less: what it gives back it does not get again. */
	assert_int_equal(buffers_reserve(&pool, &modest, NULL, &tests[5].want, MiB), 0);
	buffers_free(&tests[0].want);
	assert_int_equal(tests[4].order, 0);
	buffers_free(&tests[1].want);
	assert_int_equal(tests[4].order, 1);
	for (size_t i = 2; i < ARRAY_LEN(tests); i++)
		buffers_free(&tests[i].want);
	assert_int_equal(greedy.used, 0);
	pool_end(&fake, &pool);
}

static void creation_survives_each_fault(void **state)
{
	for (uint64_t k = 1;; k++) {
		struct env_fake fake;
		int rc;

		env_fake_init(&fake, 1);
		fake.fail_at = k;
		rc = buffers_arena_init(&arena, &fake.env, MiB);
		if (rc == 0) {
			assert_true(fake.calls < k);
			assert_int_equal(k, 3);
		}
		buffers_arena_fini(&arena);
		assert_int_equal(fake.held, 0);
		env_fake_fini(&fake);
		if (rc == 0)
			return;
		assert_int_equal(rc, -ENOMEM);
	}
}

/* --- pieces --- */

/* bytes cut into pieces of these sizes. */
static uint32_t cut(uint8_t *bytes, const uint32_t *sizes, uint32_t count, struct iovec *iov)
{
	for (uint32_t i = 0; i < count; i++) {
		iov[i] = (struct iovec) { bytes, sizes[i] };
		bytes += sizes[i];
	}
	return count;
}

static void slices_are_those_of_the_bytes(void **state)
{
	static const uint32_t sizes[] = { 3, 1, 5, 2 };
	uint8_t bytes[11] = "abcdefghijk";
	struct iovec from[4];
	struct iovec out[4];
	uint32_t count = cut(bytes, sizes, 4, from);

	for (uint32_t offset = 0; offset <= 11; offset++) {
		for (uint32_t size = 0; offset + size <= 12; size++) {
			for (uint32_t max = 1; max <= 4; max++) {
				uint32_t got;
				uint32_t pieces =
					iov_slice(from, count, offset, size, out, max, &got);
				uint32_t at = offset;

				assert_true(pieces <= max);
				for (uint32_t i = 0; i < pieces; i++) {
					assert_memory_equal(out[i].iov_base, bytes + at,
							    out[i].iov_len);
					at += (uint32_t)out[i].iov_len;
				}
				assert_int_equal(at - offset, got);
				if (max == 4)
					assert_int_equal(got, MIN(size, 11 - offset));
			}
		}
	}
}

static void copies_are_whole_whatever_the_pieces(void **state)
{
	static const uint32_t a[] = { 3, 1, 5, 2 };
	static const uint32_t b[] = { 1, 6, 4 };
	uint8_t bytes[11] = "abcdefghijk";
	struct iovec from[4];
	struct iovec to[3];

	for (uint64_t size = 0; size <= 11; size++) {
		uint8_t copy[11] = { 0 };
		uint8_t want[11] = { 0 };

		cut(bytes, a, 4, from);
		cut(copy, b, 3, to);
		memcpy(want, bytes, size);
		iov_copy(to, 3, from, 4, size);
		assert_memory_equal(copy, want, 11);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_sum_up_to_what_is_wanted),
		cmocka_unit_test(who_waits_is_served_in_order),
		cmocka_unit_test(who_leaves_the_queue_lets_others_pass),
		cmocka_unit_test(small_pieces_do_not_starve_a_large_want),
		cmocka_unit_test(a_quota_holds_up_only_its_own),
		cmocka_unit_test(a_medium_holds_up_only_its_own),
		cmocka_unit_test(the_largest_block_passes_any_quota),
		cmocka_unit_test(who_is_alone_has_more_than_its_quota),
		cmocka_unit_test(creation_survives_each_fault),
		cmocka_unit_test(slices_are_those_of_the_bytes),
		cmocka_unit_test(copies_are_whole_whatever_the_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
