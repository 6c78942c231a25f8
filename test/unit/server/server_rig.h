/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real server of several reactors, on threads of its own, with env/posix and tcp on a port of its
 * own. Clients are raw ones of the test's thread.
 */
#ifndef TEST_SERVER_SERVER_RIG_H
#define TEST_SERVER_SERVER_RIG_H

#include "../../../src/env/posix/posix.h"
#include "../../../src/server/server.h"
#include "../../lib/raw_client.h"
#include "../../lib/t.h"

#define RIG_MEDIA 3

struct server_rig {
	struct server_opts opts; /* change them between init and start */
	struct reactor_listen listen;
	struct env *env; /* of the test, for setup */
	struct tenants *tenants;
	struct server *server;
	struct auth_secret secret; /* of tenant "alice" */
	uint16_t port;
	char paths[RIG_MEDIA][64];
	char message[256];
	/* The reactor with this number stands still while is_stalled; its reads fail while
	 * is_failing. */
	uint32_t stalled;
	atomic_bool is_stalled;
	atomic_bool is_failing;
	atomic_uint stall_count; /* it does now */
};

void server_rig_init(struct server_rig *rig, uint32_t reactor_count);
/* Make count media of shards shards each, files; start() opens them. */
void server_rig_media(struct server_rig *rig, uint32_t count, uint32_t shards);
/* 0, or what server_create() or server_start() said: message says why. */
int server_rig_try(struct server_rig *rig);
void server_rig_start(struct server_rig *rig);
void server_rig_stop(struct server_rig *rig);
void server_rig_fini(struct server_rig *rig);

/* A client that has said hello as alice at this reactor; 0xffff: any. */
void server_rig_client(const struct server_rig *rig, struct raw_client *client, uint16_t reactor);

/* A key whose shard is that one of count. */
struct wire_key server_rig_key(uint32_t shard, uint32_t count, uint32_t number);

/* Put and get it at once; the status of the item. */
int server_rig_put(struct raw_client *client, const struct wire_key *key, uint32_t size);
int server_rig_get(struct raw_client *client, const struct wire_key *key, uint32_t size);

#endif
