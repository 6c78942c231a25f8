/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docs/protocol.md is normative, so it must say what layout.def says: the tables of every struct
 * are compared with it, row by row, both ways; and each kind of frame has its heading there.
 */
#include <stdio.h>
#include <string.h>

#include "../../../src/wire/wire.h"
#include "../../lib/doc.h"
#include "../../lib/t.h"

static const struct doc_field fields[] = {
#define AT(type, field, offset) { #type, #field, offset, sizeof(((struct type *)0)->field) },
#define SIZE(type, size)
#include "../../../src/wire/layout.def"
#undef AT
#undef SIZE
};

static const struct doc_field structs[] = {
#define AT(type, field, offset)
#define SIZE(type, size) { #type, "", 0, size },
#include "../../../src/wire/layout.def"
#undef AT
#undef SIZE
};

static const struct {
	const char *name;
	int value;
	enum wire_direction direction;
} frames[] = {
#define FRAME(name, value, direction, item, text) { #name, value, WIRE_##direction },
#include "../../../src/tbl/ops.def"
#undef FRAME
};

static void every_field_is_where_the_protocol_says(void **state)
{
	doc_check(CTXKV_PROTOCOL, fields, ARRAY_LEN(fields), structs, ARRAY_LEN(structs));
}

/* "### GET (12, client)" */
static void every_frame_has_its_section(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
		FILE *file = fopen(CTXKV_PROTOCOL, "r");
		bool is_there = false;
		char heading[64];
		char line[1024];

		assert_non_null(file);
		snprintf(heading, sizeof(heading), "### %s (%d, %s)\n", frames[i].name,
			 frames[i].value, frames[i].direction == WIRE_C2S ? "client" : "server");
		while (fgets(line, sizeof(line), file) != NULL)
			is_there |= strcmp(line, heading) == 0;
		fclose(file);
		if (!is_there)
			print_message("docs/protocol.md lacks %s", heading);
		assert_true(is_there);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field_is_where_the_protocol_says),
		cmocka_unit_test(every_frame_has_its_section),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
