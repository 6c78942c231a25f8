/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEGMENT_ROOM (16 * MiB)

static const char keyfile[] = "alice "
			      "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
			      "bob   "
			      "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

void rig_init(struct rig *rig)
{
	const struct env_posix_opts env_opts = { .io_thread_count = 2, .sock_max = 256 };
	char message[256];
	int rc;

	*rig = (struct rig) { 0 };
	rc = env_posix_create(&env_opts, &rig->env);
	assert_int_equal(rc, 0);
	rc = tenants_create(rig->env, keyfile, &rig->tenants, message);
	assert_int_equal(rc, 0);
	rig->secret = rig->tenants->rows[0].secrets[0];
	reactor_opts_init(&rig->opts);
	rig->opts.incarnation = 77;
	rig->opts.tenants = rig->tenants;
	rig->opts.shards = &rig->shard;
	rig->opts.shard_count = 1;
	rig->opts.buffer_bytes = 32 * MiB;
	rig->opts.session_max = 8;
	rig->opts.lane_max = 4;
	rig->opts.operation_max = 256;
	rig->opts.request_max = 16;
	rig->opts.pending_max = 8;
}

static void shard_start(struct rig *rig, bool is_file)
{
	const struct shard_opts opts = {
		.index_entries = 4096,
		.queue_depth = 4,
		.put_max = rig->opts.operation_max,
		.write_size = MiB,
		.group_delay_ns = NS_PER_MS,
		.verify = rig->opts.verify,
	};
	const struct shard_memory memory = { .size = rig->memory_size != 0 ? rig->memory_size
									   : 64 * MiB,
					     .segment_room = SEGMENT_ROOM,
					     .block_max = 4 * MiB };
	struct medium_spec spec = { .path = rig->path,
				    .size = (DISK_SEGMENTS_MIN + 4) * (SEGMENT_ROOM + MiB),
				    .segment_room = SEGMENT_ROOM,
				    .is_sparse = true };
	struct medium_info info;
	char message[256];
	int rc;

	if (is_file) {
		snprintf(rig->path, sizeof(rig->path), "/tmp/ctxkv-rig-%d", getpid());
		rc = medium_setup(rig->env, &spec, &info, message);
		assert_int_equal(rc, 0);
		rc = medium_open(rig->env, rig->path, rig->opts.incarnation, &rig->medium, message);
		assert_int_equal(rc, 0);
	}
	rc = shard_open(rig->env, rig->medium, 0, is_file ? NULL : &memory, &opts, &rig->shard);
	assert_int_equal(rc, 0);
	rig->shards[0] = rig->shard;
	if (!rig->has_two_shards)
		return;
	rc = shard_open(rig->env, NULL, 0, &memory, &opts, &rig->shards[1]);
	assert_int_equal(rc, 0);
	rig->opts.shards = rig->shards;
	rig->opts.shard_count = 2;
}

void rig_start(struct rig *rig, bool is_file)
{
	const struct reactor_listen listens[] = { { .ops = &xprt_tcp, .address = "127.0.0.1:0" },
						  { .ops = &xprt_loop_mapped, .address = "rig" } };
	char message[256];
	char name[64];
	int rc;

	shard_start(rig, is_file);
	rig->opts.listens = listens;
	rig->opts.listen_count = rig->has_loop ? 2 : 1;
	rc = reactor_create(rig->env, &rig->opts, &rig->reactor, message);
	assert_int_equal(rc, 0);
	if (!rig->goes_on_taking_memory)
		rig->env->ops->seal(rig->env);
	reactor_listener_name(rig->reactor, 0, name, sizeof(name));
	rig->port = (uint16_t)atoi(strrchr(name, ':') + 1);
}

void rig_stop(struct rig *rig)
{
	reactor_finish(rig->reactor);
	RIG_UNTIL(rig, reactor_is_idle(rig->reactor));
	reactor_destroy(&rig->reactor);
	assert_null(rig->reactor);
	assert_int_equal(shard_close(&rig->shard, false), 0);
	if (rig->has_two_shards)
		assert_int_equal(shard_close(&rig->shards[1], false), 0);
	if (rig->medium != NULL) {
		medium_close(&rig->medium);
		unlink(rig->path);
	}
	tenants_destroy(rig->env, &rig->tenants);
	env_posix_destroy(&rig->env);
}

void rig_poll(void *ctx)
{
	struct rig *rig = ctx;

	rig->env->ops->poll(rig->env, NS_PER_MS);
}

void rig_run_ns(struct rig *rig, uint64_t ns)
{
	uint64_t end_ns = env_now_ns(rig->env) + ns;

	while (env_now_ns(rig->env) < end_ns)
		rig_poll(rig);
}

void rig_client(struct rig *rig, struct raw_client *client)
{
	raw_client_open(client, rig->port, rig_poll, rig);
	assert_int_equal(raw_client_hello(client, "alice", &rig->secret), 0);
}

struct metrics rig_metrics(const struct rig *rig)
{
	struct metrics metrics;

	reactor_get_metrics(rig->reactor, &metrics);
	return metrics;
}

struct wire_key rig_key(uint32_t number)
{
	struct wire_key key = { { 0 } };

	memcpy(key.bytes, &number, sizeof(number));
	return key;
}

uint8_t *rig_bytes(uint32_t number, size_t size)
{
	uint8_t *bytes = malloc(size);
	uint32_t x = number * 2654435761u + 1;

	assert_non_null(bytes);
	for (size_t i = 0; i < size; i++) {
		x = x * 1664525u + 1013904223u;
		bytes[i] = (uint8_t)(x >> 24);
	}
	return bytes;
}

void rig_put(struct raw_client *client, uint32_t number, uint32_t size, uint32_t flags,
	     uint32_t ttl_s)
{
	uint8_t *bytes = rig_bytes(number, size);
	const struct raw_client_put put = { rig_key(number), bytes, size, size <= 60000 };
	uint64_t request;

	client->put_ttl_s = ttl_s;
	request = raw_client_put(client, &put, 1, flags, 5 * NS_PER_S);
	assert_int_equal(raw_client_finish(client, request, NULL, &put, NULL), 0);
	free(bytes);
}

int rig_get(struct raw_client *client, uint32_t number, uint32_t size)
{
	uint8_t *want = rig_bytes(number, size);
	uint8_t *got = calloc(1, size);
	struct wire_key key = rig_key(number);
	uint64_t request = raw_client_get(client, &key, 1, 0, size, 5 * NS_PER_S);
	int rc = raw_client_finish(client, request, got, NULL, NULL);

	assert_non_null(got);
	if (rc == 0)
		assert_memory_equal(got, want, size);
	free(got);
	free(want);
	return rc;
}
