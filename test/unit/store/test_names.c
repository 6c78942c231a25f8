/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A name has one id, for ever; different names have different ids; the name after the last has
 * none, and those before keep theirs; memory is taken at create and nowhere else.
 */
#include "../../lib/t.h"

#include <string.h>

#include "../../../src/store/names.h"
#include "../../lib/env_fake.h"

/* Names as clients choose them who want to fill one chain: all but the same. */
static void name_make(uint8_t name[16], uint32_t i)
{
	memset(name, 0, 16);
	memcpy(name + i % 4, &i, sizeof(i));
	name[15] = (uint8_t)(i % 4);
}

static void fill(uint32_t name_max)
{
	struct env_fake fake;
	struct names *names = NULL;
	uint8_t name[16];

	env_fake_init(&fake, 1);
	assert_int_equal(names_create(&fake.env, name_max, &names), 0);
	fake.env.ops->seal(&fake.env); /* panics when more is taken */
	for (uint32_t i = 0; i < name_max; i++) {
		name_make(name, i);
		assert_int_equal(names_find(names, name), NAMES_NONE);
		assert_int_equal(names_intern(names, name), i + 1);
		assert_int_equal(names_count(names), i + 1);
	}
	for (uint32_t i = name_max; i < name_max + 100; i++) {
		name_make(name, i);
		assert_int_equal(names_intern(names, name), NAMES_NONE);
		assert_int_equal(names_find(names, name), NAMES_NONE);
	}
	assert_int_equal(names_count(names), name_max);
	for (uint32_t i = 0; i < name_max; i++) {
		name_make(name, i);
		assert_int_equal(names_intern(names, name), i + 1);
		assert_int_equal(names_find(names, name), i + 1);
		assert_memory_equal(names_get(names, (uint16_t)(i + 1)), name, 16);
	}
	names_destroy(&names);
	assert_null(names);
	names_destroy(&names); /* no-op */
	assert_int_equal(fake.held, 0);
	env_fake_fini(&fake);
}

static void every_name_up_to_the_limit_has_its_own_id(void **state)
{
	(void)state;
	for (uint32_t name_max = 1; name_max <= 70; name_max++)
		fill(name_max);
	fill(NAMES_MAX);
}

static void memory_is_what_was_said(void **state)
{
	(void)state;
	assert_true(names_size(NAMES_MAX) >= NAMES_MAX * (16 + 2));
	assert_true(names_size(NAMES_MAX) < 2 * MiB);
}

static void creation_fails_whole(void **state)
{
	struct env_fake fake;
	struct names *names = NULL;

	(void)state;
	env_fake_init(&fake, 1);
	fake.fail_at = 1;
	assert_int_equal(names_create(&fake.env, 10, &names), -ENOMEM);
	assert_null(names);
	assert_int_equal(fake.held, 0);
	env_fake_fini(&fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_name_up_to_the_limit_has_its_own_id),
		cmocka_unit_test(memory_is_what_was_said),
		cmocka_unit_test(creation_fails_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
