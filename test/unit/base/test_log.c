/* SPDX-License-Identifier: Apache-2.0 */
/* Lines reach the sink as they were meant, and only at their level; texts of codes always exist. */
#include "../../lib/t.h"

#include <stdio.h>
#include <string.h>

#include "../../../src/base/log.h"

struct seen {
	int count;
	enum log_level level;
	char line[2048];
};

static void see(void *ctx, enum log_level level, const char *line)
{
	struct seen *seen = ctx;

	seen->count++;
	seen->level = level;
	snprintf(seen->line, sizeof(seen->line), "%s", line);
}

static void lines_go_to_the_sink_up_to_the_level(void **state)
{
	struct seen seen = { 0 };

	log_sink_set(see, &seen);
	log_debug("nobody sees %d", 1);
	assert_int_equal(seen.count, 0);
	log_info("segment %u sealed bytes %d", 7u, 42);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.level, LOG_INFO);
	assert_string_equal(seen.line, "segment 7 sealed bytes 42");
	log_level_set(LOG_ERROR);
	log_warn("nobody sees this");
	assert_int_equal(seen.count, 1);
	log_error("seen");
	assert_int_equal(seen.count, 2);
	log_level_set(LOG_DEBUG);
	log_debug("seen too");
	assert_int_equal(seen.count, 3);
	log_level_set(LOG_INFO);
	log_sink_set(NULL, NULL);
}

static void a_line_too_long_is_cut(void **state)
{
	struct seen seen = { 0 };
	char text[1900];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_sink_set(see, &seen);
	log_info("%s", text);
	assert_true(strlen(seen.line) > 500);
	assert_true(strlen(seen.line) < strlen(text));
	log_sink_set(NULL, NULL);
}

static void every_code_has_a_text_and_a_class(void **state)
{
	assert_string_equal(err_str(0), "ok");
	assert_string_equal(err_str(-ERR_MISS), "not in the store");
	assert_string_equal(err_str(ERR_MISS), err_str(-ERR_MISS));
	assert_string_equal(err_str(-ENOENT), strerror(ENOENT));
	assert_non_null(err_str(-123456));
	assert_int_equal(err_class_of(-ERR_CORRUPT), ERR_CLASS_MISS);
	assert_int_equal(err_class_of(-ERR_BUSY), ERR_CLASS_RETRY);
	assert_int_equal(err_class_of(-ERR_IN_USE), ERR_CLASS_SETUP);
	assert_int_equal(err_class_of(-EIO), ERR_CLASS_OS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_go_to_the_sink_up_to_the_level),
		cmocka_unit_test(a_line_too_long_is_cut),
		cmocka_unit_test(every_code_has_a_text_and_a_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
