/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real reactor over real sockets, in the test's thread: env/posix, tcp on a port of its own, and
 * a shard in memory, or on a file. Clients are raw ones that poll the reactor while they wait.
 */
#ifndef TEST_SERVER_RIG_H
#define TEST_SERVER_RIG_H

#include "../../../src/env/posix/posix.h"
#include "../../../src/server/reactor.h"
#include "../../lib/raw_client.h"
#include "../../lib/t.h"

struct rig {
	uint64_t memory_size; /* of the store in memory mode; 0: 64 MiB */
	struct env *env;
	struct tenants *tenants;
	struct medium *medium; /* NULL: memory mode */
	struct shard *shard;
	struct shard *shards[2];  /* has_two_shards: both of them */
	struct reactor_opts opts; /* change them between rig_init() and rig_start() */
	struct reactor *reactor;
	struct auth_secret secret; /* of tenant "alice" */
	uint16_t port;
	char path[64];
	bool has_two_shards;        /* in memory mode */
	bool has_loop;              /* xprt_loop_mapped at "rig", too */
	bool goes_on_taking_memory; /* the env is not sealed: the test makes more */
};

void rig_init(struct rig *rig);
void rig_start(struct rig *rig, bool is_file);
/* Nothing may be under way at the server; else the test fails. */
void rig_stop(struct rig *rig);

/* Poll the server for so long. */
void rig_run_ns(struct rig *rig, uint64_t ns);
void rig_poll(void *rig);

/* A client that has said hello as alice. */
void rig_client(struct rig *rig, struct raw_client *client);

struct metrics rig_metrics(const struct rig *rig);

/* Poll until condition; fails the test after 10 s. */
#define RIG_UNTIL(rig, condition)                                                                  \
	do {                                                                                       \
		uint64_t rig_end_ns_ = env_now_ns((rig)->env) + 10 * NS_PER_S;                     \
		while (!(condition)) {                                                             \
			assert_true(env_now_ns((rig)->env) < rig_end_ns_);                         \
			rig_poll(rig);                                                             \
		}                                                                                  \
	} while (0)

/* A key and bytes that derive from a number. */
struct wire_key rig_key(uint32_t number);
/* To be freed. */
uint8_t *rig_bytes(uint32_t number, size_t size);

/* Put the block of that number (flags: WIRE_REQ_*; ttl_s 0: no limit); it must be stored. */
void rig_put(struct raw_client *client, uint32_t number, uint32_t size, uint32_t flags,
	     uint32_t ttl_s);
/* Get it, from its beginning, and compare. The status. */
int rig_get(struct raw_client *client, uint32_t number, uint32_t size);

#endif
