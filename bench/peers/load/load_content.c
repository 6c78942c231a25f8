/* SPDX-License-Identifier: Apache-2.0 */
/* The content of load.c's blocks, for clients in Python (../pyload.py): a shared library. */
#include "../../../src/cmd/content.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT void peers_key(uint64_t run, uint64_t number, struct ctxkv_key *key_out);
EXPORT void peers_fill(uint64_t run, uint64_t number, void *bytes, uint64_t size);
EXPORT int peers_is_right(uint64_t run, uint64_t number, const void *bytes, uint64_t size);

void peers_key(uint64_t run, uint64_t number, struct ctxkv_key *key_out)
{
	*key_out = content_key(run, number);
}

void peers_fill(uint64_t run, uint64_t number, void *bytes, uint64_t size)
{
	struct ctxkv_key key = content_key(run, number);

	content_fill(bytes, size, &key);
}

int peers_is_right(uint64_t run, uint64_t number, const void *bytes, uint64_t size)
{
	struct ctxkv_key key = content_key(run, number);

	return content_is_right(bytes, size, &key);
}
