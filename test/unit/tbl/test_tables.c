/* SPDX-License-Identifier: Apache-2.0 */
/*
 * errors.def and ops.def are wire format and ABI: values are unique, lie where their class has its
 * range, and errors.def and ctxkv.h say the same both ways.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../include/ctxkv.h"
#include "../../../src/base/base.h"
#include "../../../src/wire/wire.h"
#include "../../lib/t.h"

/* Each row of errors.def has its CTXKV_E* with the same value: else this does not compile. */
#define ERR(name, value, class, text)                                                              \
	_Static_assert(CTXKV_E##name == (value), "ctxkv.h differs from errors.def: " #name);
#include "../../../src/tbl/errors.def"
#undef ERR

static const struct {
	const char *name;
	int value;
	enum err_class class;
	const char *text;
} errors[] = {
#define ERR(name, value, class, text) { #name, value, ERR_CLASS_##class, text },
#include "../../../src/tbl/errors.def"
#undef ERR
};

static const struct {
	const char *name;
	int value;
	enum wire_direction direction;
	const char *text;
} frames[] = {
#define FRAME(name, value, direction, item, text) { #name, value, WIRE_##direction, text },
#include "../../../src/tbl/ops.def"
#undef FRAME
};

static void error_values_rise_within_the_range_of_their_class(void **state)
{
	static const struct {
		int first;
		int last;
	} ranges[] = {
		[ERR_CLASS_MISS] = { 2001, 2019 },
		[ERR_CLASS_RETRY] = { 2020, 2039 },
		[ERR_CLASS_SETUP] = { 2040, 2099 },
	};

	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		assert_true(errors[i].value >= ranges[errors[i].class].first);
		assert_true(errors[i].value <= ranges[errors[i].class].last);
		if (i > 0)
			assert_true(errors[i - 1].value < errors[i].value);
	}
}

/* What callers act on: err_class_of() for either sign, OS for all that is not ours. */
static void codes_have_their_class_and_text(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		assert_int_equal(err_class_of(-errors[i].value), errors[i].class);
		assert_int_equal(err_class_of(errors[i].value), errors[i].class);
		assert_string_equal(err_str(-errors[i].value), errors[i].text);
		assert_string_equal(err_str(errors[i].value), errors[i].text);
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(errors[i].text, errors[k].text);
	}
	assert_int_equal(err_class_of(-ENOMEM), ERR_CLASS_OS);
	assert_int_equal(err_class_of(-2999), ERR_CLASS_OS);
	assert_string_equal(err_str(0), "ok");
	assert_non_null(err_str(-2999));
	assert_string_equal(err_str(-ENOMEM), "Cannot allocate memory");
}

static void every_status_fits_the_wire(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(errors); i++)
		assert_true(-errors[i].value >= WIRE_STATUS_MIN);
}

/* The other way round: ctxkv.h has no code that errors.def lacks. */
static void the_header_has_no_code_of_its_own(void **state)
{
	FILE *file = fopen(CTXKV_HEADER, "r");
	char line[256];
	size_t count = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		char name[64];
		int value;

		if (sscanf(line, "#define CTXKV_E%63s %d", name, &value) == 2 && value >= 2000)
			count++;
	}
	fclose(file);
	assert_int_equal(count, ARRAY_LEN(errors));
}

static void frame_kinds_rise_and_fit_a_byte(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
		assert_in_range(frames[i].value, 1, UINT8_MAX);
		assert_true(frames[i].direction == WIRE_C2S || frames[i].direction == WIRE_S2C);
		assert_string_equal(wire_kind_name((uint8_t)frames[i].value), frames[i].name);
		assert_true(strlen(frames[i].text) > 10);
		if (i > 0)
			assert_true(frames[i - 1].value < frames[i].value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_values_rise_within_the_range_of_their_class),
		cmocka_unit_test(codes_have_their_class_and_text),
		cmocka_unit_test(every_status_fits_the_wire),
		cmocka_unit_test(the_header_has_no_code_of_its_own),
		cmocka_unit_test(frame_kinds_rise_and_fit_a_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
