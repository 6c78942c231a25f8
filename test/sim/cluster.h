/* SPDX-License-Identifier: Apache-2.0 */
/* Servers, their clients and what they ask: see cluster_main.c. */
#ifndef SIM_CLUSTER_H
#define SIM_CLUSTER_H

#include "../../src/client/client.h"
#include "../../src/server/mailbox.h"
#include "../../src/server/reactor.h"
#include "model.h"

#define CLIENT_MAX     10
#define SERVERS_MAX    5
#define REACTORS_MAX   3
#define OP_ITEM_MAX    6
#define QUARANTINE_MAX 64
#define USER_LEASE_MAX 8
#define LEASE_MS_MAX   10000u
#define ARENA_SIZE     GiB        /* of addresses, not of memory */
#define USER_STAGE     (64 * MiB) /* likewise: where a mapped transport serves the rest */
#define FREEZE_MAX_NS  (10 * NS_PER_S)

struct cluster;

/* A reactor of a server with its medium and shard. All but the disk NULL while there is no process.
 */
struct part {
	struct sim_env *env;
	struct sim_disk *disk;
	struct medium *medium;
	struct shard *shard;
	struct reactor *reactor;
	struct mailbox mailbox;
};

struct server {
	struct cluster *cluster;
	uint32_t number;
	char address[32]; /* where it is now */
	uint32_t moves;
	bool is_up;
	bool is_gone;   /* for good */
	bool is_listed; /* the name server knows it */
	uint64_t restart_ns;
	uint32_t weight;
	struct part parts[REACTORS_MAX];
	struct reactor_shard table[REACTORS_MAX];
	struct mailbox *mailboxes[REACTORS_MAX];
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

/* What a LEASE gave: the first so many of its identities are held. */
struct user_lease {
	uint64_t handle; /* 0: none */
	uint32_t idents[OP_ITEM_MAX];
	uint32_t count;
	uint32_t duration_ms;
	uint32_t renewals; /* under way: nobody knows what it is until the last is answered */
	uint64_t begin_ns; /* when it was asked */
	uint64_t until_ns; /* it holds until then at least */
	uint64_t asked;    /* tick */
	uint64_t tick;     /* of its answer */
	uint64_t life;
	uint64_t connects;
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
	bool is_killed; /* what the server still holds of its memory is nobody's business */
	/* Its buffers come from here, one behind the other: what a transport does must not follow
	 * from where malloc() puts them. */
	uint8_t *arena;
	uint64_t arena_used;
	bool is_arena_declared;
	uint8_t *stage;
	struct ctxkv_region *region;
	struct quarantine quarantine[QUARANTINE_MAX];
	uint32_t quarantine_next;
	int last_status; /* of the first item of its last op */
	struct user_lease leases[USER_LEASE_MAX];
	bool is_second; /* of the tenant that has a quota */
};

struct cluster {
	struct sim *sim;
	struct model model;
	struct sim_env *ctl;
	struct sim_event act;
	bool is_act_due;
	struct server servers[SERVERS_MAX];
	uint32_t server_count; /* that have been there so far */
	uint32_t reactor_count;
	bool has_names; /* members come from the name server */
	struct user users[CLIENT_MAX];
	uint32_t user_count;
	struct user auditors[SERVERS_MAX]; /* at the end: clients of one server alone */
	/* Tenants t1 and t2 with a domain in common; t2 may have so much on each server. */
	uint64_t quota;
	bool has_second;
	char keyfile[512];
	uint8_t domain[16];
	uint32_t run_size; /* identities that have a place together; 0: each its own */
	/* What the run is like. */
	const struct xprt_ops *xprt;
	struct reactor_opts reactor_opts;
	struct shard_opts shard_opts;
	struct shard_memory memory; /* of a reactor */
	bool is_memory;
	uint64_t disk_size;
	uint64_t disk_delay_ns;
	uint32_t block_max;
	uint32_t ns_count;
	uint32_t durable_rate;
	uint32_t drop_rate; /* permyriad of what is neither put, get nor lease */
	uint64_t timeout_max_ns;
	uint32_t actions_left;
	uint32_t trouble; /* permyriad of actions that are some kind of it */
	/* State. */
	uint64_t life; /* of all servers: restarts and cuts count */
	bool is_calm;  /* at the end: every operation must succeed */
	uint64_t forgotten;
	uint64_t missed;
	/* To see that a run does something. */
	uint64_t hits, misses, stored, existed, drops, failures, restarts, kills, leases, refused;
	struct metrics metrics; /* of servers that are no more */
};

/* --- cluster_server.c --- */

/* One more, with empty media. */
struct server *server_add(struct cluster *cluster);

/* The server comes up; it dies in its recovery when the disk does. */
void server_start(struct server *server);

/* It stops at any moment: killed, or with the whole host. */
void server_kill(struct server *server, bool is_power_loss);

/* It stops in order, as far as that is possible in time. */
void server_stop(struct server *server);

/* Its media come up elsewhere: another address, the same server. */
void server_move(struct server *server);

bool server_has_dead_disk(const struct server *server);

/* Everything is back where it belongs: no session, no buffer, no operation. */
void server_check_idle(const struct server *server);

uint64_t servers_forgotten(const struct cluster *cluster);

/* --- cluster_members.c --- */

/* What the name server says: the addresses of those that are listed. */
void members_names_cb(void *ctx, struct env_resolve *resolve);

/* Give a client the members: by name, or one by one. */
void members_target(const struct cluster *cluster, struct client_target *target);

/* Somebody leaves for good, comes, or moves. */
void members_change(struct cluster *cluster);

/* Whether the client knows all that are there, and nobody else. */
bool members_are_known(const struct cluster *cluster, const struct user *user);

/* At rest: whatever is on the server that has its place is found by every client, and nothing else.
 */
void members_audit(struct cluster *cluster);

/* A block was found corrupt, or could not be read or written: what was leased may be missed. */
bool servers_have_lied(const struct cluster *cluster);

/* --- cluster_lease.c --- */

void lease_clear(struct user *user);
/* Ask for one, or renew one. */
void lease_ask(struct user *user);
/* What an op says of leases, and of progress. */
void lease_fill(struct user *user, struct ctxkv_op *op);
/* The answers; asked: begin_ns, asked, tick, life, connects. */
void lease_granted(struct user *user, const struct ctxkv_op *op, const uint32_t *idents,
		   const struct user_lease *asked);
void lease_renewed(struct user *user, const struct ctxkv_op *op, const struct user_lease *asked);
/* A get that began at tick and named a lease (0: none) misses. */
void lease_check_miss(struct user *user, uint32_t ident, uint64_t tick, uint64_t connects,
		      uint64_t named);

/* --- cluster_user.c --- */

void user_init(struct user *user, struct cluster *cluster, uint32_t number);
void user_fini(struct user *user);
void user_start(struct user *user);
void user_stop(struct user *user, bool is_killed, bool is_silent);

/* Ask something; false: the client takes no more just now. */
bool user_act(struct user *user);
void user_ask(struct user *user, enum ctxkv_opcode opcode, uint32_t ident);
void user_place(const struct cluster *cluster, uint32_t ident, uint8_t place_out[16]);

/* --- cluster_main.c --- */

/* Until no operation is under way. */
void finish_ops(struct cluster *cluster);

#endif
