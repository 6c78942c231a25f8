/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docs/disk-format.md is normative, so it must say what layout.def says: the tables of every struct
 * are compared with it, row by row, both ways.
 */
#include "../../lib/t.h"
#include "../../../src/store/format.h"
#include "../../lib/doc.h"

static const struct doc_field fields[] = {
#define AT(type, field, offset) { #type, #field, offset, sizeof(((struct type *)0)->field) },
#define SIZE(type, size)
#include "../../../src/store/layout.def"
#undef AT
#undef SIZE
};

static const struct doc_field structs[] = {
#define AT(type, field, offset)
#define SIZE(type, size) { #type, "", 0, size },
#include "../../../src/store/layout.def"
#undef AT
#undef SIZE
};

static void every_field_is_where_the_document_says(void **state)
{
	doc_check(CTXKV_DISK_FORMAT, fields, ARRAY_LEN(fields), structs, ARRAY_LEN(structs));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field_is_where_the_document_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
