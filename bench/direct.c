/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU time of gets and durable puts whose memory is mapped, by a file: one reactor on io_uring, its
 * client in the same thread over xprt_loop_mapped. User and system time of the whole process for a
 * GiB, the client's share (a frame each way for each block) included; the best of ROUNDS.
 *
 *   bench_direct FILE [BLOCK_KIB] [PIECE_KIB]      FILE is overwritten: 3 GiB
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "../src/env/choose.h"
#include "../src/server/reactor_priv.h"
#include "../src/xprt/loop/loop.h"
#include "../test/lib/raw_client.h"

#define DATA      (512 * MiB)
#define IN_FLIGHT 4 /* below LOOP_HOLD_MAX */
#define ROUNDS    3

static struct world {
	struct env *env;
	struct medium *medium;
	struct shard *shard;
	struct reactor *reactor;
	struct raw_client client;
	uint8_t *memory;
	uint32_t block;
	uint32_t piece;
	uint32_t next_key;
} world;

static const char keyfile[] = "bench "
			      "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

static double cpu_s(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static uint64_t no_delay(struct env *from, struct env *to)
{
	return 0;
}

static void poll_cb(void *ctx)
{
	world.env->ops->poll(world.env, NS_PER_MS);
}

static void must(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, err_str(rc));
	exit(1);
}

static void store_open(const char *path, enum store_verify verify)
{
	const struct shard_opts opts = { .queue_depth = 16,
					 .put_max = 256,
					 .write_size = MiB,
					 .group_delay_ns = NS_PER_MS,
					 .verify = verify };
	const struct medium_spec spec = { .path = path, .size = 3 * GiB, .is_forced = true };
	struct medium_info info;
	char message[256];

	must(medium_setup(world.env, &spec, &info, message), message);
	must(medium_open(world.env, path, 1, &world.medium, message), message);
	must(shard_open(world.env, world.medium, 0, NULL, &opts, &world.shard), "shard");
}

static void client_open(const struct tenants *tenants)
{
	const struct wire_declare declare = { .region = 1,
					      .kind = WIRE_REGION_LOOP,
					      .access = 3,
					      .size = 2ull * IN_FLIGHT * world.block,
					      .address = (uintptr_t)world.memory };
	uint64_t request;

	raw_client_open_lane(&world.client, world.env, &xprt_loop_mapped, "bench", poll_cb, NULL);
	must(raw_client_hello(&world.client, "bench", &tenants->rows[0].secrets[0]), "hello");
	request = raw_client_items(&world.client, WIRE_DECLARE, &declare, sizeof(declare), 0);
	must(raw_client_finish(&world.client, request, NULL, NULL, NULL), "declare");
}

static void start(const char *path, enum store_verify verify, bool is_declared)
{
	const struct env_posix_opts env_opts = { .io_thread_count = 4,
						 .sock_max = 8,
						 .has_huge_pages = true };
	const struct reactor_listen listen = { .ops = &xprt_loop_mapped, .address = "bench" };
	struct tenants *tenants = NULL;
	struct reactor_opts opts;
	char message[256];

	must(env_open(ENV_CHOICE_URING, &env_opts, &world.env, message), "io_uring");
	store_open(path, verify);
	must(tenants_create(world.env, keyfile, &tenants, message), message);
	reactor_opts_init(&opts);
	opts.tenants = tenants;
	opts.shards = &world.shard;
	opts.shard_count = 1;
	opts.listens = &listen;
	opts.listen_count = 1;
	opts.session_max = 2;
	opts.lane_max = 1;
	opts.verify = verify;
	must(reactor_create(world.env, &opts, &world.reactor, message), message);
	world.memory = world.env->ops->map(world.env, 2ull * IN_FLIGHT * world.block);
	if (is_declared)
		world.env->ops->blk_declare(world.env, world.memory,
					    2ull * IN_FLIGHT * world.block);
	client_open(tenants);
}

/* Process ends: only the file is let go. */
static void stop(void)
{
	raw_client_close(&world.client);
	reactor_finish(world.reactor);
	while (!reactor_is_idle(world.reactor))
		poll_cb(NULL);
	reactor_destroy(&world.reactor);
	must(shard_close(&world.shard, true), "close");
	medium_close(&world.medium);
}

static void ask(bool is_put, uint32_t number, uint32_t place)
{
	struct wire_key key = { { 0 } };
	struct wire_seg segs[WIRE_SEG_MAX];
	uint64_t base = 2ull * place * world.block;
	uint32_t count = 0;

	/* Every other piece of the memory, so that none are joined. */
	for (uint32_t at = 0; at < world.block; at += world.piece)
		segs[count++] = (struct wire_seg) { 1, MIN(world.piece, world.block - at),
						    base + 2ull * at };
	memcpy(key.bytes, &number, sizeof(number));
	world.client.segs = segs;
	world.client.seg_count = count;
	if (is_put) {
		const struct raw_client_put put = { key, NULL, world.block, false };

		(void)raw_client_put(&world.client, &put, 1, WIRE_REQ_DURABLE, 10 * NS_PER_S);
	} else {
		(void)raw_client_get(&world.client, &key, 1, 0, world.block, 10 * NS_PER_S);
	}
}

/* CPU s for a GiB of count blocks from first. */
static double run(bool is_put, uint32_t first, uint32_t count)
{
	static struct raw_client_frame frame;
	double begin = cpu_s();
	uint32_t asked = 0;
	uint32_t answered = 0;

	while (answered < count) {
		for (; asked < count && asked - answered < IN_FLIGHT; asked++)
			ask(is_put, first + asked, asked % IN_FLIGHT);
		if (!raw_client_recv(&world.client, &frame))
			must(-ERR_PEER, "answer");
		must(((const struct wire_result *)(const void *)frame.body)->status, "item");
		answered++;
	}
	return (cpu_s() - begin) / ((double)count * world.block / (double)GiB);
}

static void rows(const char *path, enum store_verify verify, bool is_declared)
{
	uint32_t count = (uint32_t)(DATA / world.block);
	double best[2] = { 1e9, 1e9 };
	struct metrics metrics;

	start(path, verify, is_declared);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		double put = run(true, round * count, count);
		double get = run(false, round * count, count);

		best[0] = MIN(best[0], put);
		best[1] = MIN(best[1], get);
	}
	reactor_get_metrics(world.reactor, &metrics);
	printf("verify %d, memory %s: get %.4f, put %.4f CPU s/GiB; direct %.0f %% of gets, %.0f "
	       "%% "
	       "of puts\n",
	       (int)verify, is_declared ? "registered" : "plain", best[1], best[0],
	       100.0 * (double)metrics.get_direct / (double)metrics.get_delivered,
	       100.0 * (double)metrics.put_direct / ((double)ROUNDS * DATA));
	fflush(stdout);
	stop();
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s FILE [BLOCK_KIB] [PIECE_KIB]\n", argv[0]);
		return 2;
	}
	world.block = (argc > 2 ? (uint32_t)atoi(argv[2]) : 2048) * (uint32_t)KiB;
	world.piece = argc > 3 ? (uint32_t)atoi(argv[3]) * (uint32_t)KiB : world.block;
	xprt_loop_delay_set(no_delay);
	rows(argv[1], STORE_VERIFY_NONE, true);
	rows(argv[1], STORE_VERIFY_NONE, false);
	rows(argv[1], STORE_VERIFY_MEDIUM, true);
	return 0;
}
