/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctxkv by its own library: `batch` ops of one block in flight, in memory of ctxkv_alloc(), waited
 * for by ctxkv_wait(), as who has nothing else to do does. TARGET: the URL.
 */
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define BATCH_MAX 256
#define LANES     4

struct slot {
	struct ctxkv_op op;
	struct ctxkv_item item;
	struct ctxkv_iov iov;
	struct load_block *block; /* NULL: free */
};

struct store {
	struct ctxkv_client *client;
	struct ctxkv_ns ns;
	struct ctxkv_item items[CTXKV_ITEM_MAX]; /* of a probe or drop */
	struct slot slots[BATCH_MAX];
};

/* "transport=NAME" at the end of the URL is what the row says: no other may stand in for it. */
static void transport_check(const struct store *store, const char *target)
{
	struct ctxkv_stat stat = { .size = sizeof(stat) };
	const char *wanted = strstr(target, "transport=");

	if (wanted != NULL && (ctxkv_get_stat(store->client, &stat) < 0 ||
			       strcmp(wanted + strlen("transport="), stat.transport) != 0))
		load_die("the session is over '%s', %s was asked for", stat.transport, wanted);
}

static void *store_open(const char *target)
{
	struct store *store = calloc(1, sizeof(*store));
	struct ctxkv_opts opts;
	char message[512] = "";

	if (store == NULL)
		load_die("no memory");
	ctxkv_opts_init(&opts, sizeof(opts));
	opts.url = target;
	opts.lanes = LANES;
	if (ctxkv_open(&opts, 5 * NS_PER_S, &store->client, message, sizeof(message)) < 0)
		load_die("%s", message);
	transport_check(store, target);
	ctxkv_namespace("peers", &store->ns);
	return store;
}

static void *store_memory(void *ctx, uint64_t size)
{
	struct store *store = ctx;
	void *memory = ctxkv_alloc(store->client, size);

	if (memory == NULL)
		load_die("ctxkv_alloc gave no memory");
	return memory;
}

static enum load_status status_of(const struct ctxkv_op *op, const struct ctxkv_item *item)
{
	if (op->status < 0)
		return LOAD_FAILED;
	if (item->status == -CTXKV_EMISS || (op->opcode == CTXKV_OP_PROBE && !item->is_here))
		return LOAD_MISSING;
	return item->status < 0 ? LOAD_FAILED : LOAD_OK;
}

static void slot_fill(struct store *store, struct slot *slot, const struct load_walk *walk,
		      struct load_block *block, uint32_t opcode)
{
	slot->block = block;
	slot->iov = (struct ctxkv_iov) { block->bytes, walk->size };
	slot->item = (struct ctxkv_item) { .key = block->key, .iov = &slot->iov, .iov_count = 1 };
	slot->op = (struct ctxkv_op) { .opcode = opcode,
				       .ns = store->ns,
				       .items = &slot->item,
				       .item_count = 1,
				       .user = slot };
}

/* Fill free slots from *next on, submit them at once; returns how many are now in flight. */
static uint64_t submit(struct store *store, const struct load_walk *walk, uint32_t opcode,
		       uint64_t *next)
{
	struct ctxkv_op *ops[BATCH_MAX];
	uint64_t batch = MIN(walk->batch, BATCH_MAX);
	uint64_t busy = 0;
	uint64_t count = 0;

	for (uint64_t i = 0; i < batch; i++) {
		struct slot *slot = &store->slots[i];

		if (slot->block == NULL && *next < walk->count && !load_is_over(walk)) {
			slot_fill(store, slot, walk, &walk->blocks[(*next)++], opcode);
			ops[count++] = &slot->op;
		}
		busy += slot->block != NULL;
	}
	if (count > 0 && ctxkv_submit(store->client, ops, count) != (int)count)
		load_die("ctxkv_submit did not take %d ops", (int)count);
	return busy;
}

static void collect(struct store *store)
{
	struct ctxkv_event events[BATCH_MAX];
	int count = ctxkv_poll(store->client, events, BATCH_MAX);

	if (count == 0)
		(void)!ctxkv_wait(store->client, NS_PER_S);
	for (int i = 0; i < count; i++) {
		struct slot *slot = events[i].op->user;

		if ((events[i].what & CTXKV_RELEASE) == 0)
			continue;
		slot->block->status = status_of(&slot->op, &slot->item);
		slot->block = NULL;
	}
}

static void blocks_move(struct store *store, const struct load_walk *walk, uint32_t opcode)
{
	uint64_t next = 0;

	while (submit(store, walk, opcode, &next) > 0)
		collect(store);
}

static void store_put(void *store, const struct load_walk *walk)
{
	blocks_move(store, walk, CTXKV_OP_PUT);
}

static void store_get(void *store, const struct load_walk *walk)
{
	blocks_move(store, walk, CTXKV_OP_GET);
}

static void store_probe(void *ctx, const struct load_walk *walk)
{
	struct store *store = ctx;
	struct ctxkv_op op = { .opcode = CTXKV_OP_PROBE,
			       .ns = store->ns,
			       .items = store->items,
			       .item_count = walk->count };

	for (uint64_t i = 0; i < walk->count; i++)
		store->items[i] = (struct ctxkv_item) { .key = walk->blocks[i].key };
	(void)!ctxkv_run(store->client, &op); /* its status is in op */
	for (uint64_t i = 0; i < walk->count; i++)
		walk->blocks[i].status = status_of(&op, &store->items[i]);
}

const struct load_backend load_ctxkv = {
	.name = "ctxkv",
	.open = store_open,
	.memory = store_memory,
	.put = store_put,
	.get = store_get,
	.probe = store_probe,
};
