/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clients of bench: each a thread that walks its blocks with `batch` operations in flight.
 *
 * An operation is of one block; a probe or lease asks for PROBE_KEYS keys, every other one present.
 * With --rate operations begin when they are due (pace.h), so many in flight as that takes.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bench_load.h"
#include "clock.h"
#include "cmd.h"
#include "content.h"
#include "pace.h"
#include "proc_cpu.h"

#define LEASE_MS    1 /* that leases of the last operations do not fill the tables */
#define CHECK_EVERY 7
#define PACED_MAX   1024 /* in flight of a client with --rate; what is due then waits, and counts */

/* One operation in flight. */
struct slot {
	struct ctxkv_op op;
	struct ctxkv_item *items;
	struct ctxkv_iov iov;
	uint64_t begin_ns; /* or when it was due */
};

struct bench_client {
	const struct bench_load *load;
	struct ctxkv_client *handle;
	struct slot *slots;
	struct slot **idle; /* those that are not in flight */
	uint64_t slot_count;
	uint64_t idle_count;
	struct pace pace;
	pthread_t thread;
	bool is_running;
	uint64_t first; /* its blocks: order[first, first + count) */
	uint64_t count;
	uint64_t next; /* blocks begun in this measurement */
	uint64_t only; /* so many blocks, however long it takes; 0: until the time is up */
	uint64_t most; /* likewise, or until the time is up; 0: no bound */
	uint64_t done;
	uint64_t failures;
	int error; /* the first */
	uint64_t late_ns;
	struct histogram latency;
};

/* --- one client --- */

static void slot_fill(struct bench_client *client, struct slot *slot)
{
	const struct bench_load *load = client->load;
	uint32_t block = load->walk.order[client->first + client->next % client->count];
	uint64_t pass = load->pass + (load->kind == BENCH_GET ? 0 : client->next / client->count);
	char *memory = load->kind == BENCH_GET ? load->walk.target : load->walk.source;

	slot->op = (struct ctxkv_op) { .ns = load->ns, .items = slot->items, .item_count = 1 };
	slot->items[0] = (struct ctxkv_item) { .key = content_key(load->run + pass, block) };
	if (bench_is_lookup(load->kind)) {
		slot->op.opcode = load->kind == BENCH_PROBE ? CTXKV_OP_PROBE : CTXKV_OP_LEASE;
		slot->op.flags = load->kind == BENCH_LEASE ? CTXKV_ALL : 0;
		slot->op.duration_ms = load->kind == BENCH_LEASE ? LEASE_MS : 0;
		slot->op.item_count = PROBE_KEYS;
		for (uint64_t i = 0; i < PROBE_KEYS; i++)
			slot->items[i] = (struct ctxkv_item) {
				.key = content_key(load->run + load->pass + i % 2 * UINT32_MAX,
						   (block + i) % load->walk.block_count)
			};
		return;
	}
	slot->op.opcode = load->kind == BENCH_GET ? CTXKV_OP_GET : CTXKV_OP_PUT;
	slot->op.flags = load->kind == BENCH_PUT_DURABLE ? CTXKV_DURABLE : 0;
	slot->iov =
		(struct ctxkv_iov) { memory + block * load->walk.stride, load->walk.block_size };
	slot->items[0].iov = &slot->iov;
	slot->items[0].iov_count = 1;
}

/* Operations that are due in a round and have not begun so long after it have failed. */
static uint64_t give_up_ns(const struct bench_load *load)
{
	return load->until_ns + MAX(load->until_ns - load->begin_ns, NS_PER_S);
}

static bool is_over(const struct bench_client *client)
{
	if (cmd_is_interrupted())
		return true;
	if (client->only > 0)
		return client->next >= client->only;
	if (client->most > 0 && client->next >= client->most)
		return true;
	if (!client->load->is_paced)
		return clock_ns() >= client->load->until_ns;
	return pace_due_ns(&client->pace, client->next) >= client->load->until_ns ||
	       clock_ns() >= give_up_ns(client->load);
}

/* In an open loop an operation has a time to begin at, and its clock runs from then on; in a closed
 * one it begins when it is handed over, keys and all. */
static void slots_submit(struct bench_client *client)
{
	bool is_paced = client->load->is_paced;

	while (client->idle_count > 0 && !is_over(client)) {
		struct slot *slot = client->idle[client->idle_count - 1];
		struct ctxkv_op *op = &slot->op;
		uint64_t now_ns;

		slot->begin_ns = is_paced ? pace_due_ns(&client->pace, client->next) : 0;
		if (is_paced && slot->begin_ns > clock_ns())
			return;
		slot_fill(client, slot);
		op->user = slot;
		now_ns = clock_ns();
		if (!is_paced)
			slot->begin_ns = now_ns;
		if (ctxkv_submit(client->handle, &op, 1) != 1)
			return;
		client->late_ns = MAX(client->late_ns, now_ns - slot->begin_ns);
		client->idle_count--;
		client->next++;
	}
}

/* Until an operation has ended or the next is due; 1: there are events. */
static int events_wait(const struct bench_client *client)
{
	uint64_t ns = NS_PER_S;

	if (client->load->is_paced && client->idle_count > 0)
		ns = MIN(ns, pace_sleep_ns(&client->pace, client->next, clock_ns()));
	return ns > 0 ? ctxkv_wait(client->handle, ns) : 0;
}

static void answer_note(struct bench_client *client, const struct slot *slot)
{
	int rc = slot->op.status < 0 ? slot->op.status : slot->items[0].status;

	client->failures += rc < 0;
	if (rc < 0 && client->error == 0)
		client->error = rc;
}

static void slots_collect(struct bench_client *client)
{
	struct ctxkv_event events[64];
	int count = ctxkv_poll(client->handle, events, ARRAY_LEN(events));

	if (count == 0)
		count = events_wait(client) == 1
				? ctxkv_poll(client->handle, events, ARRAY_LEN(events))
				: 0;
	for (int i = 0; i < count; i++) {
		struct slot *slot = events[i].op->user;

		if ((events[i].what & CTXKV_RELEASE) == 0)
			continue;
		histogram_add(&client->latency, clock_ns() - slot->begin_ns);
		client->done++;
		answer_note(client, slot);
		client->idle[client->idle_count++] = slot;
	}
}

/* What was due and never began has failed; it counts with the time that it has waited so far. */
static void overdue_count(struct bench_client *client)
{
	uint64_t now_ns = clock_ns();

	for (; pace_due_ns(&client->pace, client->next) < client->load->until_ns; client->next++) {
		uint64_t late_ns = now_ns - pace_due_ns(&client->pace, client->next);

		histogram_add(&client->latency, late_ns);
		client->late_ns = MAX(client->late_ns, late_ns);
		client->failures++;
	}
}

static void *client_main(void *ctx)
{
	struct bench_client *client = ctx;

	do {
		slots_submit(client);
		if (client->idle_count < client->slot_count || client->load->is_paced)
			slots_collect(client);
	} while (client->idle_count < client->slot_count || !is_over(client));
	if (client->load->is_paced && !cmd_is_interrupted())
		overdue_count(client);
	return NULL;
}

/* --- all clients --- */

static bool is_put(enum bench_kind kind)
{
	return kind != BENCH_GET && !bench_is_lookup(kind);
}

static void client_start(struct bench_load *load, uint64_t index, uint64_t only)
{
	const struct options *options = load->options;
	struct bench_client *client = &load->clients[index];

	client->next = 0;
	client->done = 0;
	client->failures = 0;
	client->error = 0;
	client->late_ns = 0;
	client->pace = (struct pace) { load->begin_ns + NS_PER_MS, options->rate, index,
				       options->clients };
	client->only = only;
	client->most = only == 0 && is_put(load->kind) ? load->put_max : 0;
	memset(&client->latency, 0, sizeof(client->latency));
	client->is_running = pthread_create(&client->thread, NULL, client_main, client) == 0;
	if (!client->is_running)
		client->failures = 1;
}

/* Waits until it has ended. */
static void client_collect(struct bench_load *load, struct bench_client *client,
			   struct bench_load_result *result)
{
	uint64_t passes;

	if (client->is_running)
		pthread_join(client->thread, NULL);
	passes = client->next / client->count + 1;
	if (is_put(load->kind))
		load->pass_next = MAX(load->pass_next, load->pass + passes);
	result->moved.operations += client->done;
	result->failures += client->failures;
	if (result->error == 0)
		result->error = client->error;
	result->late_ns = MAX(result->late_ns, client->late_ns);
	histogram_merge(&result->moved.latency, &client->latency);
}

void bench_load_run(struct bench_load *load, enum bench_kind kind, uint64_t duration_ns,
		    struct bench_load_result *result_out)
{
	const struct options *options = load->options;
	uint64_t cpu_ns = proc_cpu_self_ns();

	*result_out = (struct bench_load_result) { 0 };
	load->kind = kind;
	if (is_put(kind))
		load->pass = load->pass_next;
	load->begin_ns = clock_ns();
	load->until_ns = load->begin_ns + duration_ns;
	load->is_paced = options->rate > 0 && duration_ns > 0;
	for (uint64_t i = 0; i < options->clients; i++)
		client_start(load, i,
			     duration_ns > 0      ? 0
			     : kind == BENCH_FILL ? options->fill / options->clients
						  : load->clients[i].count);
	for (uint64_t i = 0; i < options->clients; i++)
		client_collect(load, &load->clients[i], result_out);
	result_out->moved.ns = clock_ns() - load->begin_ns;
	result_out->moved.cpu_ns = proc_cpu_self_ns() - cpu_ns;
	if (!bench_is_lookup(kind))
		result_out->moved.bytes = result_out->moved.operations * load->walk.block_size;
}

/* --keys: whether an earlier run has put them: its last block is there. */
static bool is_put_before(const struct bench_load *load)
{
	struct ctxkv_item item = { .key = content_key(load->run + load->pass_next,
						      load->walk.block_count - 1) };
	struct ctxkv_op op = {
		.opcode = CTXKV_OP_PROBE, .ns = load->ns, .items = &item, .item_count = 1
	};

	return load->options->keys > 0 && ctxkv_run(load->clients[0].handle, &op) >= 0 &&
	       item.is_here == 1;
}

static void set_put(struct bench_load *load, struct bench_load_result *result_out)
{
	const struct floor_walk *walk = &load->walk;

	for (uint64_t i = 0; i < walk->block_count; i++) {
		struct ctxkv_key key = content_key(load->run + load->pass_next, i);

		content_fill(walk->source + i * walk->stride, walk->block_size, &key);
	}
	bench_load_run(load, BENCH_PUT, 0, result_out);
}

bool bench_load_take_set(struct bench_load *load, struct bench_load_result *result_out)
{
	uint64_t pass = load->pass_next;
	bool is_found = is_put_before(load);

	*result_out = (struct bench_load_result) { 0 };
	if (!is_found)
		set_put(load, result_out);
	load->pass = pass;
	load->pass_next = pass + 1; /* as of a run that has put them, or has not */
	return is_found;
}

/* Every measurement begins at the front of a client's blocks, and ends with all that it has begun.
 */
static uint64_t client_count_wrong(const struct bench_load *load, const struct bench_client *client)
{
	const struct floor_walk *walk = &load->walk;
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < MIN(client->done, client->count); i += CHECK_EVERY) {
		uint32_t block = walk->order[client->first + i];
		struct ctxkv_key key = content_key(load->run + load->pass, block);

		wrong += !content_is_right(walk->target + block * walk->stride, walk->block_size,
					   &key);
	}
	return wrong;
}

uint64_t bench_load_count_wrong(const struct bench_load *load)
{
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < load->options->clients; i++)
		if (load->clients[i].failures == 0)
			wrong += client_count_wrong(load, &load->clients[i]);
	return wrong;
}

/* --- the walk --- */

static void in_order(uint32_t *order, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		order[i] = (uint32_t)i;
}

/* The same walk for a seed every time. */
static void shuffle(uint32_t *order, uint64_t count, uint64_t seed)
{
	uint64_t state = count + seed;

	in_order(order, count);
	for (uint64_t i = count; i > 1; i--) {
		uint64_t j;
		uint32_t swap;

		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		j = (state >> 33) % i; /* Knuth's MMIX generator */
		swap = order[i - 1];
		order[i - 1] = order[j];
		order[j] = swap;
	}
}

/* Each client gets as many blocks of the walk. */
static void clients_share(struct bench_load *load)
{
	uint64_t share = load->walk.block_count / load->options->clients;

	for (uint64_t i = 0; i < load->options->clients; i++) {
		load->clients[i].first = i * share;
		load->clients[i].count = share;
	}
}

uint64_t bench_load_block_count(const struct bench_load *load, uint64_t size)
{
	uint64_t clients = load->options->clients;

	return MAX(load->memory_size / round_up(size, PAGE_SIZE) / clients, 1) * clients;
}

void bench_load_walk(struct bench_load *load, uint64_t size, bool is_scattered)
{
	uint64_t stride = round_up(size, PAGE_SIZE);
	uint64_t count = bench_load_block_count(load, size);

	if (is_scattered)
		shuffle(load->order, count, 1);
	else if (load->options->sequential)
		in_order(load->order, count);
	else
		shuffle(load->order, count, 0);
	load->walk = (struct floor_walk) {
		.source = load->memory,
		.target = load->memory + count * stride,
		.block_size = size,
		.stride = stride,
		.block_count = count,
		.order = load->order,
		.is_scattered = is_scattered,
	};
	clients_share(load);
}

#define LEARN_SIZE PAGE_SIZE /* of each block, to hear where it lies */

/* Blocks from, from + 1, … of the working set. */
static int shard_ask(struct bench_load *load, uint64_t from, uint32_t count, bool *is_there)
{
	const struct floor_walk *walk = &load->walk;
	struct ctxkv_item items[PROBE_KEYS];
	struct ctxkv_iov iovs[PROBE_KEYS];
	struct ctxkv_op op = {
		.opcode = CTXKV_OP_GET, .ns = load->ns, .items = items, .item_count = count
	};
	int rc;

	for (uint32_t i = 0; i < count; i++) {
		iovs[i] = (struct ctxkv_iov) { walk->target + (from + i) * walk->stride,
					       MIN(walk->block_size, LEARN_SIZE) };
		items[i] =
			(struct ctxkv_item) { .key = content_key(load->run + load->pass, from + i),
					      .iov = &iovs[i],
					      .iov_count = 1 };
	}
	rc = ctxkv_run(load->clients[0].handle, &op);
	for (uint32_t i = 0; i < count; i++)
		is_there[from + i] =
			items[i].status >= 0 && items[i].record.shard + 1 == load->options->shard;
	return rc;
}

int bench_load_find_shard(struct bench_load *load, bool *is_there_out)
{
	uint64_t count = load->walk.block_count;
	uint64_t found = 0;

	for (uint64_t from = 0; from < count; from += PROBE_KEYS) {
		int rc = shard_ask(load, from, (uint32_t)MIN(count - from, PROBE_KEYS),
				   is_there_out);

		if (rc < 0)
			return cmd_fail(rc, "where blocks lie: %s", ctxkv_strerror(rc));
	}
	for (uint64_t i = 0; i < count; i++)
		found += is_there_out[i];
	if (found < load->options->clients)
		return cmd_fail(-ENOENT,
				"--shard %" PRIu64 ": of %" PRIu64 " blocks %" PRIu64
				" lie there, fewer than clients",
				load->options->shard, count, found);
	return 0;
}

void bench_load_keep(struct bench_load *load, const bool *is_there)
{
	uint64_t kept = 0;

	for (uint64_t i = 0; i < load->walk.block_count; i++)
		if (is_there[load->order[i]])
			load->order[kept++] = load->order[i];
	load->walk.block_count = kept - kept % load->options->clients;
	clients_share(load);
}

/* --- beginning and end --- */

static int slots_make(struct bench_client *client, const struct options *options)
{
	client->slot_count = options->rate > 0 ? PACED_MAX : options->batch;
	client->slots = calloc(client->slot_count, sizeof(*client->slots));
	client->idle = calloc(client->slot_count, sizeof(struct slot *));
	if (client->slots == NULL || client->idle == NULL)
		return -ENOMEM;
	for (; client->idle_count < client->slot_count; client->idle_count++) {
		struct slot *slot = &client->slots[client->idle_count];

		slot->items = calloc(PROBE_KEYS, sizeof(struct ctxkv_item));
		if (slot->items == NULL)
			return -ENOMEM;
		client->idle[client->idle_count] = slot;
	}
	return 0;
}

int bench_load_open(struct bench_load *load, const struct options *options)
{
	load->options = options;
	/* Other runs' keys are elsewhere. */
	load->run = (options->keys > 0 ? options->keys : clock_ns()) << 16;
	load->clients = calloc(options->clients, sizeof(*load->clients));
	if (load->clients == NULL)
		return cmd_fail(-1, "no memory for %" PRIu64 " clients", options->clients);
	for (uint64_t i = 0; i < options->clients; i++) {
		struct bench_client *client = &load->clients[i];

		client->load = load;
		client->handle = cmd_client_open(options, (uint32_t)options->lanes);
		if (client->handle == NULL || slots_make(client, options) < 0)
			return -1;
	}
	return 0;
}

struct ctxkv_client *bench_load_client(const struct bench_load *load, uint64_t index)
{
	return load->clients[index].handle;
}

void bench_load_close(struct bench_load *load)
{
	for (uint64_t i = load->clients != NULL ? load->options->clients : 0; i-- > 0;) {
		struct bench_client *client =
			&load->clients[i]; /* the first, with the memory, last */

		ctxkv_close(&client->handle);
		for (uint64_t j = 0; client->slots != NULL && j < client->slot_count; j++)
			free(client->slots[j].items);
		free(client->slots);
		free(client->idle);
	}
	free(load->clients);
	free(load->order);
}
