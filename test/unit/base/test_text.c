/* SPDX-License-Identifier: Apache-2.0 */
/* What people write is read as they mean it or refused; what is printed can be read again. */
#include "../../lib/t.h"

#include <stdio.h>
#include <string.h>

#include "../../../src/base/text.h"

#define UNTOUCHED UINT64_C(0x5a5a5a5a)

struct sample {
	const char *text;
	int rc;
	uint64_t value;
};

static void check(int (*parse)(const char *text, uint64_t *value_out), const struct sample *samples,
		  size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t value = UNTOUCHED;
		int rc = parse(samples[i].text, &value);

		if (rc != samples[i].rc || value != (rc == 0 ? samples[i].value : UNTOUCHED))
			fail_msg("'%s' gives %d and %llu", samples[i].text, rc,
				 (unsigned long long)value);
	}
}

static void sizes_are_read(void **state)
{
	const struct sample samples[] = {
		{ "0", 0, 0 },
		{ "4096", 0, 4096 },
		{ "64KiB", 0, 64 * KiB },
		{ "64 kib", 0, 64 * KiB },
		{ "1.5 MiB", 0, 3 * MiB / 2 },
		{ "2G", 0, 2 * GiB },
		{ "2gb", 0, 2 * GiB },
		{ "1T", 0, 1024 * GiB },
		{ "0.5k", 0, 512 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "16777216T", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ "KiB", -EINVAL, 0 },
		{ "1.", -EINVAL, 0 },
		{ ".", -EINVAL, 0 },
		{ "1.2.3", -EINVAL, 0 },
		{ "1 parsec", -EINVAL, 0 },
		{ "1 KiB ", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "1s", -EINVAL, 0 },
	};

	check(text_parse_size, samples, ARRAY_LEN(samples));
}

static void durations_are_read(void **state)
{
	const struct sample samples[] = {
		{ "1s", 0, NS_PER_S },
		{ "1", 0, NS_PER_S },
		{ "0.25", 0, 250 * NS_PER_MS },
		{ "250ms", 0, 250 * NS_PER_MS },
		{ "10 us", 0, 10 * NS_PER_US },
		{ "7ns", 0, 7 },
		{ "2m", 0, 120 * NS_PER_S },
		{ "1h", 0, 3600 * NS_PER_S },
		{ "7d", 0, 7 * 86400 * NS_PER_S },
		{ "300000d", -ERANGE, 0 },
		{ "1 year", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "s", -EINVAL, 0 },
	};

	check(text_parse_duration, samples, ARRAY_LEN(samples));
}

static void plain_numbers_are_digits_only(void **state)
{
	const struct sample samples[] = {
		{ "0", 0, 0 },
		{ "007", 0, 7 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "99999999999999999999", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "1k", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
	};

	check(text_parse_u64, samples, ARRAY_LEN(samples));
}

static void hex_goes_both_ways(void **state)
{
	uint8_t bytes[3] = { 0x11, 0x22, 0x33 };
	char text[7];

	assert_int_equal(text_parse_hex("00aBfF", bytes, 3), 0);
	assert_memory_equal(bytes, "\x00\xab\xff", 3);
	assert_string_equal(text_format_hex(text, sizeof(text), bytes, 3), "00abff");
	assert_int_equal(text_parse_hex("00ab", bytes, 3), -EINVAL);
	assert_int_equal(text_parse_hex("00abff00", bytes, 3), -EINVAL);
	assert_int_equal(text_parse_hex("11223g", bytes, 3), -EINVAL);
	assert_memory_equal(bytes, "\x00\xab\xff", 3); /* untouched on failure */
}

static void sizes_and_durations_are_printed_for_people(void **state)
{
	char buf[32];

	assert_string_equal(text_format_size(buf, sizeof(buf), 0), "0 B");
	assert_string_equal(text_format_size(buf, sizeof(buf), 1023), "1023 B");
	assert_string_equal(text_format_size(buf, sizeof(buf), 512 * KiB), "512 KiB");
	assert_string_equal(text_format_size(buf, sizeof(buf), 3 * GiB / 2), "1.50 GiB");
	assert_string_equal(text_format_size(buf, sizeof(buf), 5 * 1024 * GiB), "5 TiB");
	assert_string_equal(text_format_duration(buf, sizeof(buf), 0), "0 ns");
	assert_string_equal(text_format_duration(buf, sizeof(buf), 13200), "13.20 us");
	assert_string_equal(text_format_duration(buf, sizeof(buf), 1870 * NS_PER_MS), "1.87 s");
	assert_string_equal(text_format_duration(buf, sizeof(buf), 250 * NS_PER_MS), "250 ms");
}

/* What is a whole number of its unit comes back as it was. */
static void printed_sizes_are_read_again(void **state)
{
	for (uint64_t size = 1; size <= 512 * GiB; size *= 2) {
		uint64_t again = 0;
		char buf[32];

		assert_int_equal(text_parse_size(text_format_size(buf, sizeof(buf), size), &again),
				 0);
		assert_int_equal(again, size);
	}
}

static void distance_counts_edits(void **state)
{
	char long_text[200];

	assert_int_equal(text_distance("", ""), 0);
	assert_int_equal(text_distance("", "abc"), 3);
	assert_int_equal(text_distance("kitten", "sitting"), 3);
	assert_int_equal(text_distance("queue-depth", "queue-deph"), 1);
	assert_int_equal(text_distance("queue-deph", "queue-depth"), 1);
	memset(long_text, 'a', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	assert_int_equal(text_distance(long_text, "a"), 63); /* cut, not overrun */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_read),
		cmocka_unit_test(durations_are_read),
		cmocka_unit_test(plain_numbers_are_digits_only),
		cmocka_unit_test(hex_goes_both_ways),
		cmocka_unit_test(sizes_and_durations_are_printed_for_people),
		cmocka_unit_test(printed_sizes_are_read_again),
		cmocka_unit_test(distance_counts_edits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
