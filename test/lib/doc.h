/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds the tables of a normative document against a layout.def, both ways. A struct's table stands
 * below a line "`struct NAME`, N bytes:"; a row begins "| offset | size | `field` |".
 */
#ifndef TEST_LIB_DOC_H
#define TEST_LIB_DOC_H

#include <stddef.h>

/* A field, or (field "", offset 0) a whole struct. */
struct doc_field {
	char type[40];
	char name[40];
	unsigned offset;
	unsigned size;
};

/* Fails the test when the document says something else, too little or too much. */
void doc_check(const char *path, const struct doc_field *fields, size_t field_count,
	       const struct doc_field *structs, size_t struct_count);

#endif
