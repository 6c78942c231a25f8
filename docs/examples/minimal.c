/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts a block, reads it back, and says what it found. Link with: pkg-config --cflags --libs ctxkv
 *
 *   cc minimal.c $(pkg-config --cflags --libs ctxkv) -o minimal && ./minimal
 */
#include <ctxkv.h>
#include <stdio.h>
#include <string.h>

#define BLOCK_SIZE (1024 * 1024)

static unsigned char block[BLOCK_SIZE];
static unsigned char room[BLOCK_SIZE];

/* One block: its key, its memory, and the op that moves it. */
static int run(struct ctxkv_client *client, uint32_t opcode, const char *key, void *bytes,
	       struct ctxkv_item *item)
{
	struct ctxkv_iov iov = { bytes, BLOCK_SIZE };
	struct ctxkv_op op = { .opcode = opcode, .items = item, .item_count = 1 };

	memset(item, 0, sizeof(*item));
	strncpy((char *)item->key.bytes, key, sizeof(item->key.bytes)); /* usually a hash */
	item->iov = &iov;
	item->iov_count = 1;
	ctxkv_namespace("example model, bf16", &op.ns);
	return ctxkv_run(client, &op);
}

int main(int argc, char **argv)
{
	struct ctxkv_client *client;
	struct ctxkv_item item;
	struct ctxkv_opts opts;
	char message[512];
	int rc;

	if (argc > 1 && strcmp(argv[1], "--version") == 0)
		return puts(ctxkv_version()) < 0;

	ctxkv_opts_init(&opts, sizeof(opts));
	opts.url = argc > 1 ? argv[1] : NULL; /* NULL: what 'ctxkv setup' wrote */
	rc = ctxkv_open(&opts, 2000000000, &client, message, sizeof(message));
	if (rc < 0) {
		fprintf(stderr, "minimal: %s\n", message);
		return 1;
	}

	memset(block, 0x5a, sizeof(block));
	rc = run(client, CTXKV_OP_PUT, "example block", block, &item);
	printf("put: %s\n", ctxkv_strerror(rc < 0 ? rc : item.status));

	rc = run(client, CTXKV_OP_GET, "example block", room, &item);
	printf("get: %s, %llu bytes\n", ctxkv_strerror(rc < 0 ? rc : item.status),
	       (unsigned long long)item.done_size);
	rc = item.status == 0 && memcmp(block, room, sizeof(block)) == 0 ? 0 : 1;

	ctxkv_close(&client);
	return rc;
}
