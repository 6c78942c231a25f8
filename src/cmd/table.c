/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <string.h>

/* Characters, of UTF-8 bytes. */
static size_t width_of(const char *cell, size_t size)
{
	size_t width = 0;

	for (size_t i = 0; i < size; i++)
		width += ((unsigned char)cell[i] & 0xc0) != 0x80;
	return width;
}

static void measure(const char *text, size_t widths[TABLE_COLUMNS])
{
	uint32_t column = 0;

	memset(widths, 0, TABLE_COLUMNS * sizeof(widths[0]));
	while (*text != '\0') {
		size_t size = strcspn(text, "\t\n");

		ASSERT(column < TABLE_COLUMNS);
		widths[column] = MAX(widths[column], width_of(text, size));
		column = text[size] == '\t' ? column + 1 : 0;
		text += size + (text[size] != '\0');
	}
}

void table_print(FILE *out, const char *text, uint32_t left)
{
	size_t widths[TABLE_COLUMNS];
	uint32_t column = 0;

	measure(text, widths);
	while (*text != '\0') {
		size_t size = strcspn(text, "\t\n");
		int gap = (int)(widths[column] - width_of(text, size));
		bool is_left = (left & (1u << column)) != 0;
		bool is_last = text[size] != '\t';

		fprintf(out, "%s%*s%.*s%*s", column > 0 ? "  " : "", is_left ? 0 : gap, "",
			(int)size, text, is_left && !is_last ? gap : 0, "");
		if (is_last)
			fputc('\n', out);
		column = is_last ? 0 : column + 1;
		text += size + (text[size] != '\0');
	}
}
