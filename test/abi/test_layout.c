/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public structs and constants are those of layout.def: asserted when this is compiled. That
 * layout.def forgets no field is seen by its rows leaving no hole larger than padding.
 */
#include <stdlib.h>
#include <string.h>

#include "../../include/ctxkv.h"
#include "../lib/t.h"

#define AT(type, field, offset, size)                                                              \
	_Static_assert(offsetof(struct type, field) == (offset), "ABI: " #type "." #field);        \
	_Static_assert(sizeof(((struct type *)0)->field) == (size), "ABI: " #type "." #field);
#define SIZE(type, size)   _Static_assert(sizeof(struct type) == (size), "ABI: " #type);
#define VALUE(name, value) _Static_assert((name) == (value), "ABI: " #name);
#include "layout.def"
#undef AT
#undef SIZE
#undef VALUE

static const struct row {
	const char *type;
	const char *field; /* NULL: the struct's end */
	size_t offset;
	size_t size;
} rows[] = {
#define AT(type, field, offset, size) { #type, #field, offset, size },
#define SIZE(type, size)              { #type, NULL, size, 0 },
#define VALUE(name, value)
#include "layout.def"
#undef AT
#undef SIZE
#undef VALUE
};

static void rows_leave_no_hole(void **state)
{
	size_t end = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];

		assert_true(row->offset >= end);
		assert_true(row->offset - end < 8);
		end = row->field != NULL ? row->offset + row->size : 0;
	}
}

/* Structs for arrays and for embedding keep their natural alignment in any language. */
static void sizes_are_whole_words(void **state)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].field == NULL)
			assert_int_equal(rows[i].offset % 8, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_leave_no_hole),
		cmocka_unit_test(sizes_are_whole_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
