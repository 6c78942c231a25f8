/* SPDX-License-Identifier: Apache-2.0 */
/* A table of text: cells separated by tabs, rows by newlines; columns become as wide as they must.
 */
#ifndef CMD_TABLE_H
#define CMD_TABLE_H

#include <stdio.h>

#include "../base/base.h"

#define TABLE_COLUMNS 16

/* The first row is the heading. Columns whose bit is set in left are aligned to the left, others to
 * the right. Cells may be UTF-8. */
void table_print(FILE *out, const char *text, uint32_t left);

#endif
