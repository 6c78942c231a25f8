/* SPDX-License-Identifier: Apache-2.0 */
/* A server, its clients and what they ask: see cluster_main.c. */
#ifndef SIM_CLUSTER_H
#define SIM_CLUSTER_H

#include "../../src/client/client.h"
#include "../../src/server/reactor.h"
#include "model.h"

#define CLIENT_MAX     5
#define OP_ITEM_MAX    6
#define QUARANTINE_MAX 64
#define ARENA_SIZE     GiB /* of addresses, not of memory */

struct cluster;

/* One process of the server; all NULL while there is none. */
struct server {
	struct sim_env *env;
	struct medium *medium;
	struct shard *shard;
	struct reactor *reactor;
	struct tenants *tenants;
};

/* Memory that was released by the library: nobody may read or write it. */
struct quarantine {
	uint8_t *bytes;
	uint64_t size;
	uint64_t released_ns;
	uint32_t opcode; /* what it was for */
	uint32_t ident;
};

struct user {
	struct cluster *cluster;
	uint32_t number;
	struct sim_env *env; /* NULL: the process is not there */
	struct client *client;
	struct client_opts opts;
	struct list ops;
	uint64_t late_ns; /* how long it was frozen, in all */
	bool is_dying;
	/* Its buffers come from here, one behind the other: what a transport does must not follow
	 * from where malloc() puts them. */
	uint8_t *arena;
	uint64_t arena_used;
	bool is_arena_declared;
	struct ctxkv_region *region;
	struct quarantine quarantine[QUARANTINE_MAX];
	uint32_t quarantine_next;
};

struct cluster {
	struct sim *sim;
	struct model model;
	struct sim_env *ctl;
	struct sim_event act;
	bool is_act_due;
	struct sim_disk *disk;
	struct server server;
	struct user users[CLIENT_MAX];
	uint32_t user_count;
	/* What the run is like. */
	const struct xprt_ops *xprt;
	struct reactor_opts reactor_opts;
	struct shard_opts shard_opts;
	struct shard_memory memory;
	bool is_memory;
	uint32_t block_max;
	uint32_t ns_count;
	uint32_t durable_rate;
	uint64_t timeout_max_ns;
	uint32_t actions_left;
	uint32_t trouble; /* permyriad of actions that are some kind of it */
	/* State. */
	uint64_t life; /* of the server: restarts and cuts count */
	uint64_t restart_ns;
	bool is_calm; /* at the end: every operation must succeed */
	uint64_t forgotten;
	uint64_t missed;
	/* To see that a run does something. */
	uint64_t hits, misses, stored, existed, drops, failures, restarts, kills;
};

/* --- cluster_server.c --- */

/* The server comes up; it dies in its recovery when the disk does. */
void server_start(struct cluster *cluster);

/* It stops at any moment: killed, or with the whole host. */
void server_kill(struct cluster *cluster, bool is_power_loss);

/* It stops in order, as far as that is possible in time. */
void server_stop(struct cluster *cluster);

/* Everything is back where it belongs: no session, no buffer, no operation. */
void server_check_idle(struct cluster *cluster);

uint64_t server_forgotten(const struct cluster *cluster);

/* --- cluster_user.c --- */

void user_init(struct user *user, struct cluster *cluster, uint32_t number);
void user_fini(struct user *user);
void user_start(struct user *user);
void user_stop(struct user *user, bool is_killed, bool is_silent);

/* Ask something; false: the client takes no more just now. */
bool user_act(struct user *user);
void user_ask(struct user *user, enum ctxkv_opcode opcode, uint32_t ident);

#endif
