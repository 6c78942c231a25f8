/* SPDX-License-Identifier: Apache-2.0 */
/* Options: the table is sorted and consistent, values are parsed and refused with a reason, what is
 * written as text is read back the same. */
#include <stdlib.h>
#include <string.h>

#include "../../../src/tbl/options.h"
#include "../../lib/t.h"

static void rows_are_sorted_and_have_commands(void **state)
{
	(void)state;
	for (size_t i = 0; i < opt_count; i++) {
		assert_true(opt_table[i].where != 0);
		assert_true(strlen(opt_table[i].text) > 10);
		if (i > 0)
			assert_true(strcmp(opt_table[i - 1].name, opt_table[i].name) < 0);
	}
}

static void defaults_are_the_tables(void **state)
{
	struct options options;

	(void)state;
	options_init(&options);
	assert_int_equal(options.batch, 8);
	assert_int_equal(options.stall_timeout, 2 * NS_PER_S);
	assert_string_equal(options.listen, "0.0.0.0:9900");
	assert_int_equal(options.verify, 1);
}

static void values_are_parsed_by_kind(void **state)
{
	struct options options;
	char message[256];

	(void)state;
	options_init(&options);
	assert_int_equal(options_set(&options, "buffers", "2 GiB", IN_START, message), 0);
	assert_int_equal(options.buffers, 2 * GiB);
	assert_int_equal(options_set(&options, "stall-timeout", "500ms", IN_START, message), 0);
	assert_int_equal(options.stall_timeout, 500 * NS_PER_MS);
	assert_int_equal(options_set(&options, "verify", "all", IN_START, message), 0);
	assert_int_equal(options.verify, 2);
	assert_int_equal(options_set(&options, "huge-pages", "yes", IN_START, message), 0);
	assert_int_equal(options.huge_pages, 1);
	assert_int_equal(options_set(&options, "media", "/dev/nvme0n1", IN_SETUP, message), 0);
	assert_string_equal(options.media, "/dev/nvme0n1");
}

static void refusals_say_what_is_wanted(void **state)
{
	struct options options;
	struct options before;
	char message[256];

	(void)state;
	options_init(&options);
	before = options;
	assert_int_equal(options_set(&options, "bufers", "1", IN_START, message), -ENOENT);
	assert_non_null(strstr(message, "'buffers'"));
	/* An option of another command is none of this one. */
	assert_int_equal(options_set(&options, "batch", "1", IN_START, message), -ENOENT);
	assert_int_equal(options_set(&options, "verify", "some", IN_START, message), -EINVAL);
	assert_non_null(strstr(message, "none|medium|all"));
	assert_int_equal(options_set(&options, "queue-depth", "0", IN_START, message), -ERANGE);
	assert_non_null(strstr(message, "from 1 to 256"));
	assert_int_equal(options_set(&options, "queue-depth", "-1", IN_START, message), -EINVAL);
	assert_int_equal(options_set(&options, "write-size", "64KiB", IN_START, message), -ERANGE);
	assert_non_null(strstr(message, "256"));
	assert_memory_equal(&options, &before, sizeof(options));
}

/* What the sample configuration shows for each option sets the same value. */
static void formatted_values_read_back(void **state)
{
	struct options options;
	struct options copy;
	char message[256];
	char text[OPT_TEXT_MAX];

	(void)state;
	options_init(&options);
	options_init(&copy);
	for (size_t i = 0; i < opt_count; i++) {
		options_format(&options, &opt_table[i], text, sizeof(text));
		assert_int_equal(
			options_set(&copy, opt_table[i].name, text, opt_table[i].where, message),
			0);
	}
	assert_memory_equal(&options, &copy, sizeof(options));
}

static void sample_comments_out_defaults_only(void **state)
{
	struct options options;
	char *text = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&text, &size);

	(void)state;
	options_init(&options);
	options.queue_depth = 99;
	options_sample(file, &options);
	fclose(file);
	assert_non_null(strstr(text, "\nqueue-depth: \"99\"\n"));
	assert_non_null(strstr(text, "\n# verify: \"medium\"\n"));
	assert_null(strstr(text, "block-tokens"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_sorted_and_have_commands),
		cmocka_unit_test(defaults_are_the_tables),
		cmocka_unit_test(values_are_parsed_by_kind),
		cmocka_unit_test(refusals_say_what_is_wanted),
		cmocka_unit_test(formatted_values_read_back),
		cmocka_unit_test(sample_comments_out_defaults_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
