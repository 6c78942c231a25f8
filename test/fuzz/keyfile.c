/* SPDX-License-Identifier: Apache-2.0 */
/* A secrets file, as text. */
#include <stdlib.h>
#include <string.h>

#include "../../src/wire/keyfile.h"
#include "fuzz.h"

#define ROW_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct keyfile_row rows[ROW_MAX];
	char message[256] = "";
	char *text = malloc(size + 1);
	int count;

	ASSERT(text != NULL);
	memcpy(text, bytes, size);
	text[size] = '\0';
	count = keyfile_parse(text, rows, ROW_MAX, message);
	for (int i = 0; i < MIN(count, ROW_MAX); i++) {
		ASSERT(keyfile_is_tenant(rows[i].tenant));
		ASSERT(rows[i].secret_count == 1 || rows[i].secret_count == 2);
		ASSERT(rows[i].domain_count <= KEYFILE_DOMAIN_MAX);
		ASSERT(rows[i].rights != 0);
	}
	if (count < 0)
		ASSERT(strlen(message) > 0);
	free(text);
	return 0;
}
