/* SPDX-License-Identifier: Apache-2.0 */
#include "doc.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "t.h"

static bool has_row(const struct doc_field *rows, size_t count, const struct doc_field *row)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(rows[i].type, row->type) == 0 && strcmp(rows[i].name, row->name) == 0)
			return rows[i].offset == row->offset && rows[i].size == row->size;
	}
	return false;
}

void doc_check(const char *path, const struct doc_field *fields, size_t field_count,
	       const struct doc_field *structs, size_t struct_count)
{
	FILE *file = fopen(path, "r");
	struct doc_field row = { .offset = 0 };
	struct doc_field whole = { .offset = 0 };
	size_t fields_seen = 0;
	size_t structs_seen = 0;
	char line[1024];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		bool is_good = true;

		if (sscanf(line, "`struct %39[a-z_]`, %u bytes:", row.type, &whole.size) == 2) {
			memcpy(whole.type, row.type, sizeof(whole.type));
			structs_seen++;
			is_good = has_row(structs, struct_count, &whole);
		} else if (sscanf(line, "| %u | %u | `%39[a-z0-9_]` |", &row.offset, &row.size,
				  row.name) == 3) {
			fields_seen++;
			is_good = has_row(fields, field_count, &row);
		}
		if (!is_good)
			print_message("layout.def differs: %s: %s", row.type, line);
		assert_true(is_good);
	}
	fclose(file);
	assert_int_equal(structs_seen, struct_count);
	assert_int_equal(fields_seen, field_count);
}
