/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docs/protocol.md is normative, so it must say what layout.def says: the tables of every struct
 * are compared with it, row by row, both ways; and each kind of frame has its heading there.
 */
#include <stdio.h>
#include <string.h>

#include "../../../src/wire/wire.h"
#include "../../lib/t.h"

struct field {
	char type[40];
	char name[40];
	unsigned offset;
	unsigned size;
};

static const struct field fields[] = {
#define AT(type, field, offset) { #type, #field, offset, sizeof(((struct type *)0)->field) },
#define SIZE(type, size)
#include "../../../src/wire/layout.def"
#undef AT
#undef SIZE
};

static const struct field structs[] = {
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

static FILE *document_open(void)
{
	FILE *file = fopen(CTXKV_PROTOCOL, "r");

	assert_non_null(file);
	return file;
}

static bool has_field(const struct field *row)
{
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		if (strcmp(fields[i].type, row->type) == 0 &&
		    strcmp(fields[i].name, row->name) == 0)
			return fields[i].offset == row->offset && fields[i].size == row->size;
	}
	return false;
}

static bool has_struct(const struct field *row)
{
	for (size_t i = 0; i < ARRAY_LEN(structs); i++) {
		if (strcmp(structs[i].type, row->type) == 0)
			return structs[i].size == row->size;
	}
	return false;
}

static void every_field_is_where_the_protocol_says(void **state)
{
	FILE *file = document_open();
	struct field row = { 0 };
	size_t field_count = 0;
	size_t struct_count = 0;
	char line[1024];

	while (fgets(line, sizeof(line), file) != NULL) {
		bool is_good = true;

		if (sscanf(line, "`struct %39[a-z_]`, %u bytes:", row.type, &row.size) == 2) {
			struct_count++;
			is_good = has_struct(&row);
		} else if (sscanf(line, "| %u | %u | `%39[a-z0-9_]` |", &row.offset, &row.size,
				  row.name) == 3) {
			field_count++;
			is_good = has_field(&row);
		}
		if (!is_good)
			print_message("layout.def differs: %s: %s", row.type, line);
		assert_true(is_good);
	}
	fclose(file);
	assert_int_equal(struct_count, ARRAY_LEN(structs));
	assert_int_equal(field_count, ARRAY_LEN(fields));
}

/* "### GET (12, client)" */
static void every_frame_has_its_section(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
		FILE *file = document_open();
		bool is_there = false;
		char heading[64];
		char line[1024];

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
