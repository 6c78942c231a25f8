/* SPDX-License-Identifier: Apache-2.0 */
#include "server_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../../src/wire/place.h"

#define SEGMENT_ROOM (16 * MiB)

static const char keyfile[] = "alice "
			      "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

/* One rig at a time stalls: env_ops have no context of ours. */
static struct server_rig *stall_rig;
static struct env_ops stall_ops;
static int (*real_poll)(struct env *env, uint64_t timeout_ns);
static void (*real_submit)(struct env *env, struct env_io *io);

static void nap(void)
{
	const struct timespec pause = { .tv_nsec = NS_PER_MS };

	nanosleep(&pause, NULL);
}

static int stalled_poll(struct env *env, uint64_t timeout_ns)
{
	if (atomic_load(&stall_rig->is_stalled)) {
		atomic_fetch_add(&stall_rig->stall_count, 1);
		while (atomic_load(&stall_rig->is_stalled))
			nap();
	}
	return real_poll(env, timeout_ns);
}

static void failing_submit(struct env *env, struct env_io *io)
{
	if (atomic_load(&stall_rig->is_failing) && io->kind == ENV_READ)
		io->offset = UINT64_C(1) << 50; /* behind the end: -EIO */
	real_submit(env, io);
}

static int env_make(void *ctx, uint32_t index, struct env **env_out, char message_out[256])
{
	struct server_rig *rig = ctx;
	const struct env_posix_opts opts = { .io_thread_count = 2, .sock_max = 64 };
	int rc = env_posix_create(&opts, env_out);

	if (rc == 0 && stall_rig == rig && index == rig->stalled) {
		stall_ops = *(*env_out)->ops;
		real_poll = stall_ops.poll;
		stall_ops.poll = stalled_poll;
		real_submit = stall_ops.blk_submit;
		stall_ops.blk_submit = failing_submit;
		(*env_out)->ops = &stall_ops;
	}
	return rc;
}

static void env_end(void *ctx, struct env **env)
{
	env_posix_destroy(env);
}

void server_rig_init(struct server_rig *rig, uint32_t reactor_count)
{
	const struct env_posix_opts env_opts = { .io_thread_count = 1, .sock_max = 4 };
	char message[256];

	*rig = (struct server_rig) { .stalled = UINT32_MAX };
	assert_int_equal(env_posix_create(&env_opts, &rig->env), 0);
	assert_int_equal(tenants_create(rig->env, keyfile, &rig->tenants, message), 0);
	rig->secret = rig->tenants->rows[0].secrets[0];
	reactor_opts_init(&rig->opts.reactor);
	rig->listen = (struct reactor_listen) { .ops = &xprt_tcp, .address = "127.0.0.1:0" };
	rig->opts.reactor.incarnation = 77;
	rig->opts.reactor.tenants = rig->tenants;
	rig->opts.reactor.listens = &rig->listen;
	rig->opts.reactor.listen_count = 1;
	rig->opts.reactor.buffer_bytes = 32 * MiB;
	rig->opts.reactor.session_max = 8;
	rig->opts.reactor.lane_max = 4;
	rig->opts.reactor.operation_max = 256;
	rig->opts.reactor.request_max = 16;
	rig->opts.reactor.pending_max = 8;
	rig->opts.shard = (struct shard_opts) { .index_entries = 4096,
						.queue_depth = 4,
						.put_max = 256,
						.write_size = MiB,
						.group_delay_ns = NS_PER_MS,
						.verify = STORE_VERIFY_MEDIUM };
	rig->opts.memory = (struct shard_memory) { .size = reactor_count * 64 * MiB,
						   .segment_room = SEGMENT_ROOM,
						   .block_max = 4 * MiB };
	rig->opts.reactor_count = reactor_count;
	rig->opts.env_create = env_make;
	rig->opts.env_destroy = env_end;
	rig->opts.ctx = rig;
}

void server_rig_media(struct server_rig *rig, uint32_t count, uint32_t shards)
{
	struct medium_info info;

	for (uint32_t i = 0; i < count; i++) {
		struct medium_spec spec = {
			.path = rig->paths[i],
			.size = (shards * (DISK_SEGMENTS_MIN + 4)) * (SEGMENT_ROOM + MiB),
			.shard_count = shards,
			.shard_first = i * shards,
			.server_shards = count * shards,
			.segment_room = SEGMENT_ROOM,
			.server = { 9, 9 },
			.is_sparse = true,
			.is_forced = true,
		};

		snprintf(rig->paths[i], sizeof(rig->paths[i]), "/tmp/ctxkv-server-%d-%u", getpid(),
			 i);
		assert_int_equal(medium_setup(rig->env, &spec, &info, rig->message), 0);
		rig->opts.media[i] = rig->paths[i];
	}
	rig->opts.medium_count = count;
}

int server_rig_try(struct server_rig *rig)
{
	char name[64];
	int rc;

	if (rig->stalled != UINT32_MAX)
		stall_rig = rig;
	rc = server_create(&rig->opts, &rig->server, rig->message);
	if (rc == 0)
		rc = server_start(rig->server, rig->message);
	if (rc < 0) {
		server_destroy(&rig->server);
		return rc;
	}
	server_listener_name(rig->server, name, sizeof(name));
	rig->port = (uint16_t)atoi(strrchr(name, ':') + 1);
	return 0;
}

void server_rig_start(struct server_rig *rig)
{
	if (server_rig_try(rig) < 0)
		fail_msg("the server does not start: %s", rig->message);
}

void server_rig_stop(struct server_rig *rig)
{
	assert_int_equal(server_stop(rig->server), 0);
	server_destroy(&rig->server);
	assert_null(rig->server);
}

void server_rig_fini(struct server_rig *rig)
{
	for (uint32_t i = 0; i < RIG_MEDIA; i++) {
		if (rig->paths[i][0] != '\0')
			unlink(rig->paths[i]);
	}
	tenants_destroy(rig->env, &rig->tenants);
	env_posix_destroy(&rig->env);
	stall_rig = NULL;
}

static void wait_nap(void *ctx)
{
	nap();
}

void server_rig_client(const struct server_rig *rig, struct raw_client *client, uint16_t reactor)
{
	raw_client_open(client, rig->port, wait_nap, NULL);
	client->reactor = reactor;
	assert_int_equal(raw_client_hello(client, "alice", &rig->secret), 0);
}

struct wire_key server_rig_key(uint32_t shard, uint32_t count, uint32_t number)
{
	struct wire_key key = { { 0 } };
	uint32_t try = number << 16;

	do {
		memcpy(key.bytes, &try, sizeof(try));
		try++;
	} while (place_shard(&key, count) != shard);
	return key;
}

/* The block's bytes follow from its key. */
static uint8_t *block_of(const struct wire_key *key, uint32_t size)
{
	uint8_t *bytes = malloc(size);
	uint32_t x;

	memcpy(&x, key->bytes, sizeof(x));
	for (uint32_t i = 0; i < size; i++) {
		x = x * 1664525u + 1013904223u;
		bytes[i] = (uint8_t)(x >> 24);
	}
	return bytes;
}

int server_rig_put(struct raw_client *client, const struct wire_key *key, uint32_t size)
{
	uint8_t *bytes = block_of(key, size);
	const struct raw_client_put put = { .key = *key, .bytes = bytes, .size = size };
	uint64_t request = raw_client_put(client, &put, 1, WIRE_REQ_DURABLE, 10 * NS_PER_S);
	int rc = raw_client_finish(client, request, NULL, &put, NULL);

	free(bytes);
	return rc;
}

int server_rig_get(struct raw_client *client, const struct wire_key *key, uint32_t size)
{
	uint8_t *bytes = block_of(key, size);
	uint8_t *got = calloc(1, size);
	uint64_t request = raw_client_get(client, key, 1, 0, size, 10 * NS_PER_S);
	int rc = raw_client_finish(client, request, got, NULL, NULL);

	if (rc == 0)
		assert_memory_equal(bytes, got, size);
	free(bytes);
	free(got);
	return rc;
}
