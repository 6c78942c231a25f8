/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What small requests cost the server's CPU, apart from the network: one reactor, its client in the
 * same thread over loop, nothing ever waits.
 *
 *   probe   a PROBE of 256 keys of an index of 1 M (or INDEX_ENTRIES), as a cold cache of the CPU
 *           meets them: other keys each time. us a request, ns a key beyond the first (a PROBE of
 *           one key, that is all that is not lookup, taken off). Found, and not found.
 *   find    shard_find() of the same keys, one after the other: ns a key
 *   get     a GET of 32 blocks of 64 KiB from memory; the transport takes their bytes and moves
 *           none: ns an item
 *
 * The best of ROUNDS rounds.
 *
 *   bench_requests [INDEX_ENTRIES]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../src/env/posix/posix.h"
#include "../src/server/reactor_priv.h"
#include "../src/store/shard_priv.h"
#include "../src/xprt/loop/loop.h"
#include "../test/lib/raw_client.h"

#define KEYS       256
#define REPEATS    400
#define ROUNDS     7
#define GET_ITEMS  32
#define GET_BLOCKS 128
#define GET_SIZE   (64 * KiB)
#define MEMORY     (64 * MiB)

static struct world {
	struct env *env;
	struct shard *shard;
	struct reactor *reactor;
	struct raw_client client;
	struct xprt_ops null_ops;
	struct env_task null_task;
	struct list null_moves;
	uint64_t entries;
	uint64_t x; /* chance */
} world;

static uint64_t chance(void)
{
	world.x = world.x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return world.x >> 20;
}

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static uint64_t no_delay(struct env *from, struct env *to)
{
	return 0;
}

static void poll_cb(void *ctx)
{
	world.env->ops->poll(world.env, 0);
}

static struct wire_key key_of(uint64_t number)
{
	struct wire_key key = { { 0 } };

	memcpy(key.bytes, &number, sizeof(number));
	return key;
}

static void id_of(uint64_t number, struct store_id *id_out)
{
	struct wire_key key = key_of(number);

	memset(id_out, 0, sizeof(*id_out));
	memcpy(id_out->domain, world.client.domain, sizeof(id_out->domain));
	memcpy(id_out->ns, world.client.ns, sizeof(id_out->ns));
	memcpy(id_out->key, key.bytes, sizeof(id_out->key));
}

/* --- set up --- */

static const char keyfile[] = "bench "
			      "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

static void start(void)
{
	const struct env_posix_opts env_opts = { .io_thread_count = 1,
						 .sock_max = 8,
						 .has_huge_pages = true };
	const struct shard_opts shard_opts = { .index_entries = world.entries,
					       .queue_depth = 4,
					       .put_max = 256,
					       .write_size = MiB,
					       .group_delay_ns = NS_PER_MS };
	const struct shard_memory memory = { .size = 8 * MEMORY, .segment_room = 16 * MiB };
	const struct reactor_listen listen = { .ops = &xprt_loop, .address = "bench" };
	struct reactor_opts opts;
	struct tenants *tenants = NULL;
	char message[256];
	int rc = env_posix_create(&env_opts, &world.env);

	ASSERT(rc == 0);
	xprt_loop_delay_set(no_delay);
	rc = shard_open(world.env, NULL, 0, &memory, &shard_opts, &world.shard);
	ASSERT(rc == 0);
	rc = tenants_create(world.env, keyfile, &tenants, message);
	ASSERT(rc == 0);
	reactor_opts_init(&opts);
	opts.tenants = tenants;
	opts.shards = &world.shard;
	opts.shard_count = 1;
	opts.listens = &listen;
	opts.listen_count = 1;
	opts.buffer_bytes = 64 * MiB;
	opts.session_max = 2;
	opts.lane_max = 1;
	opts.verify = STORE_VERIFY_NONE;
	rc = reactor_create(world.env, &opts, &world.reactor, message);
	ASSERT(rc == 0);
	raw_client_open_lane(&world.client, world.env, &xprt_loop, "bench", poll_cb, NULL);
	rc = raw_client_hello(&world.client, "bench", &tenants->rows[0].secrets[0]);
	ASSERT(rc == 0);
}

/* Entries for the index without their blocks, in the segment of one that is there. */
static void fill(uint64_t count)
{
	struct shard_ref ref;
	struct store_id id;

	id_of(UINT64_MAX, &id);
	ASSERT(shard_find(world.shard, &id, &ref));
	for (uint64_t i = 0; i < count; i++) {
		struct index_entry entry = { .sequence = world.shard->sequence++,
					     .segment = ref.segment,
					     .page = ref.page,
					     .size = GET_SIZE };

		id_of(i, &id);
		entry.hash = index_hash(world.shard->super.disk->seed, &id);
		ASSERT(index_insert(world.shard->index, &entry) == 0);
	}
}

static uint64_t blocks_put(uint64_t first, uint32_t count)
{
	static uint8_t bytes[GET_SIZE - 4096];

	for (uint32_t i = 0; i < count; i++) {
		const struct raw_client_put put = { key_of(first + i), bytes, sizeof(bytes), true };
		uint64_t request = raw_client_put(&world.client, &put, 1, 0, NS_PER_S);
		int rc = raw_client_finish(&world.client, request, NULL, NULL, NULL);

		ASSERT(rc == 0);
	}
	return sizeof(bytes);
}

/* --- probe and find --- */

static void answer_wait(void)
{
	static struct raw_client_frame frame;

	ASSERT(raw_client_recv(&world.client, &frame));
}

/* ns of one request. */
static double probe(uint32_t count, uint64_t base)
{
	struct wire_key keys[KEYS];
	double sum = 0;

	for (uint32_t i = 0; i < REPEATS; i++) {
		double begin;

		for (uint32_t k = 0; k < count; k++)
			keys[k] = key_of(base + chance() % (world.entries * 8 / 10));
		begin = now_ns();
		(void)raw_client_keys(&world.client, WIRE_PROBE, keys, (uint16_t)count);
		answer_wait();
		sum += now_ns() - begin;
	}
	return sum / REPEATS;
}

static double find(void)
{
	struct store_id ids[KEYS];
	struct shard_ref ref;
	double sum = 0;

	for (uint32_t i = 0; i < REPEATS; i++) {
		double begin;

		for (uint32_t k = 0; k < KEYS; k++)
			id_of(chance() % (world.entries * 8 / 10), &ids[k]);
		begin = now_ns();
		for (uint32_t k = 0; k < KEYS; k++)
			ASSERT(shard_find(world.shard, &ids[k], &ref));
		sum += now_ns() - begin;
	}
	return sum / (REPEATS * KEYS);
}

/* --- get --- */

static void null_run(struct env_task *task)
{
	struct xprt_move *move;

	while ((move = list_head(&world.null_moves, struct xprt_move, node)) != NULL) {
		list_del(&move->node);
		move->moved = move->size;
		move->done(move, 0);
	}
}

static void null_push(struct xprt_lane *lane, struct xprt_move *move)
{
	list_add_tail(&world.null_moves, &move->node);
	lane->env->ops->defer(lane->env, &world.null_task);
}

static void null_begin(void)
{
	struct session *session = list_head(&world.reactor->sessions, struct session, node);

	world.null_ops = xprt_loop;
	world.null_ops.caps &= ~(uint32_t)XPRT_CAP_DIRECT; /* no segments to look at */
	world.null_ops.push = null_push;
	world.null_task.run = null_run;
	list_init(&world.null_moves);
	session->xprt = &world.null_ops;
}

/* ns of one item. */
static double get(uint64_t size)
{
	static struct raw_client_frame frame;
	struct wire_key keys[GET_ITEMS];
	double sum = 0;

	for (uint32_t i = 0; i < REPEATS; i++) {
		double begin;
		uint32_t answered = 0;

		for (uint32_t k = 0; k < GET_ITEMS; k++)
			keys[k] = key_of(UINT64_MAX / 2 + chance() % GET_BLOCKS);
		begin = now_ns();
		(void)raw_client_get(&world.client, keys, GET_ITEMS, 0, (uint32_t)size, NS_PER_S);
		while (answered < GET_ITEMS) {
			ASSERT(raw_client_recv(&world.client, &frame));
			if (frame.header.kind == WIRE_REPLY)
				answered += frame.header.count;
		}
		sum += now_ns() - begin;
	}
	return sum / (REPEATS * GET_ITEMS);
}

/* --- figures --- */

struct figure {
	const char *name;
	const char *unit;
	double best;
};

static void better(struct figure *figure, double value)
{
	if (figure->best == 0 || value < figure->best)
		figure->best = value;
}

int main(int argc, char **argv)
{
	struct figure figures[] = { { "probe of 256 keys, all found", "us", 0 },
				    { "  a key of it", "ns", 0 },
				    { "probe of 256 keys, none found", "us", 0 },
				    { "probe of 1 key", "us", 0 },
				    { "find, one after the other", "ns a key", 0 },
				    { "get of 64 KiB from memory, no bytes moved", "ns an item",
				      0 } };
	uint64_t size;

	world.entries = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
	world.x = 1;
	start();
	(void)blocks_put(UINT64_MAX, 1);
	size = blocks_put(UINT64_MAX / 2, GET_BLOCKS);
	fill(world.entries * 8 / 10);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		double all = probe(KEYS, 0);
		double one = probe(1, 0);

		better(&figures[0], all / 1000);
		better(&figures[1], (all - one) / (KEYS - 1));
		better(&figures[2], probe(KEYS, UINT64_C(1) << 40) / 1000);
		better(&figures[3], one / 1000);
		better(&figures[4], find());
	}
	null_begin();
	for (uint32_t round = 0; round < ROUNDS; round++)
		better(&figures[5], get(size));
	for (uint32_t i = 0; i < ARRAY_LEN(figures); i++)
		printf("%-44s %8.2f %s\n", figures[i].name, figures[i].best, figures[i].unit);
	return 0;
}
