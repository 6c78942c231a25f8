/* SPDX-License-Identifier: Apache-2.0 */
/* A shard on a simulated disk (or in memory) and what is asked of it: see store_main.c. */
#ifndef SIM_STORE_WORLD_H
#define SIM_STORE_WORLD_H

#include "../../src/store/store.h"
#include "model.h"

struct world {
	struct sim *sim;
	struct model model;
	struct sim_env *ctl;  /* whose events are the world's own */
	struct sim_event act; /* the next thing to ask */
	struct sim_disk *disk;
	/* The process; all NULL while there is none. */
	struct sim_env *env;
	struct medium *medium;
	struct shard *shard;
	struct env_task room_task;
	/* What the run is like. */
	struct shard_opts opts;
	struct shard_memory memory;
	bool is_memory;
	bool has_media_faults;
	bool has_eio;
	uint32_t block_max;
	uint32_t ident_count;
	uint32_t ns_count;
	uint32_t put_rate;     /* permyriad of actions */
	uint32_t durable_rate; /* permyriad of puts */
	uint32_t actions_left;
	/* Under way. */
	struct list puts;
	struct list gets;
	struct list drops;
	bool is_dying; /* callbacks that still come mean nothing */
	bool is_quiet; /* nothing new is begun */
	/* Forgetting: what the store says that it forgot, and what the model missed. */
	uint64_t forgotten; /* of processes that are gone */
	uint64_t missed;
	uint64_t written; /* bytes, roughly, wasted segments included */
	/* For --verbose, and to see that a run does something. */
	uint64_t hits, misses, stored, existed, drops_done, restarts;
};

/* The identity that number stands for. */
void world_id(const struct world *world, uint32_t ident, struct store_id *id_out);
uint64_t world_wall_s(const struct world *world);

/* Blocks that the store says it has forgotten, so far. */
uint64_t world_forgotten(const struct world *world);

/* A promised version was not found: count it, or fail when it cannot have been forgotten. */
void world_missed(struct world *world, uint32_t ident);

/* --- store_ops.c --- */

void ops_put(struct world *world, uint32_t ident);
void ops_get(struct world *world, uint32_t ident, bool is_whole);
void ops_drop(struct world *world, uint32_t ident, bool is_namespace);

/* Somebody waits for room. */
void ops_room(struct world *world);

/* Give up what waits for this side: fills under way end, pins go. */
void ops_settle(struct world *world);
bool ops_is_idle(const struct world *world);

/* The process is gone: free all requests. */
void ops_abandon(struct world *world);

/* put_max puts fit at once: nothing was lost from the pool. */
void ops_check_pool(struct world *world);

#endif
