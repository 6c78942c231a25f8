/* SPDX-License-Identifier: Apache-2.0 */
/* A shard on a simulated disk (or in memory) and what is asked of it: see store_main.c. */
#ifndef SIM_STORE_WORLD_H
#define SIM_STORE_WORLD_H

#include "../../src/store/store.h"
#include "model.h"

#define PAYER_MAX 4u

/* Who pays, and what he may have. Payer 0 never has a quota. */
struct world_payer {
	uint64_t quota; /* bytes; 0: any */
	uint64_t bound; /* what he had can only shrink to the quota: at most so much is his */
};

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
	uint32_t drop_rate;    /* of what is not a put: the rest are gets */
	uint32_t lease_rate;   /* permyriad of actions */
	uint32_t quota_rate;   /* likewise: a quota is set */
	uint32_t heat_rate;    /* likewise: all that is there is hit */
	uint32_t crash_rate;   /* permyriad of steps */
	bool has_ttls;
	bool is_skewed; /* a few identities are asked for most */
	uint32_t actions_left;
	/* Under way. */
	struct list puts;
	struct list gets;
	struct list drops;
	struct list leases;
	struct world_payer payers[PAYER_MAX];
	bool is_dying;   /* callbacks that still come mean nothing */
	bool is_quiet;   /* nothing new is begun */
	bool is_counted; /* what the process has counted is below: it is stopping */
	/* Forgetting: what the store says that it forgot, and what the model missed. */
	uint64_t forgotten; /* of processes that are gone */
	uint64_t missed;
	uint64_t missed_unlimited; /* of these, certainly of payer 0 */
	uint64_t forgotten_leased; /* of processes that are gone */
	uint64_t forgotten_quota;
	uint64_t missed_leased;
	uint64_t leased_peak; /* bytes */
	uint64_t written;     /* bytes, roughly, wasted segments included */
	uint64_t stored_here; /* blocks, by this process */
	bool was_empty;       /* the medium, when this process came: all that is there is its own */
	/* For --verbose, and to see that a run does something. */
	uint64_t hits, misses, stored, existed, drops_done, restarts, leased, refused;
	uint64_t put_bytes, rewritten_bytes; /* whole pages; of processes that are gone */
};

/* The identity that number stands for. */
void world_id(const struct world *world, uint32_t ident, struct store_id *id_out);
void world_payer(uint32_t payer, uint8_t payer_out[16]);
uint64_t world_wall_s(const struct world *world);

/* Blocks that the store says it has forgotten, so far. */
uint64_t world_forgotten(const struct world *world);

/* Likewise of those that were leased, and of those whose payer had too much. */
uint64_t world_forgotten_leased(const struct world *world);
uint64_t world_forgotten_quota(const struct world *world);

/* Bytes that went into the log, roughly: puts and what reclaim wrote again. */
uint64_t world_written(const struct world *world);

/* Anything may be gone, for the medium lied or failed, or the index is too small to tell. */
bool world_may_lose(const struct world *world);

/* A promised version was not found: count it, or fail when it cannot have been forgotten. */
void world_missed(struct world *world, uint32_t ident);

/* --- store_ops.c --- */

void ops_put(struct world *world, uint32_t ident);
void ops_get(struct world *world, uint32_t ident, bool is_whole);
void ops_drop(struct world *world, uint32_t ident, bool is_namespace);

/* Everybody asks for everything, but reads nothing of it. */
void ops_heat(struct world *world);

/* Somebody waits for room. */
void ops_room(struct world *world);

/* Give up what waits for this side: fills under way end, pins go. */
void ops_settle(struct world *world);
bool ops_is_idle(const struct world *world);

/* The process is gone: free all requests. */
void ops_abandon(struct world *world);

/* put_max puts fit at once: nothing was lost from the pool. */
void ops_check_pool(struct world *world);

/* Bytes of puts of this payer that are being filled. */
uint64_t ops_filling(const struct world *world, uint32_t payer);

/* Whether a put of this payer is let in now. It is given up at once. */
bool ops_try(struct world *world, uint32_t payer, uint32_t size);

/* --- store_policy.c --- */

/* Lease it for a while. */
void lease_begin(struct world *world, uint32_t ident);
bool lease_holds(const struct world *world, uint32_t ident);
/* A get of ident found nothing, although it looked as the holder of a lease does. */
void lease_missed(struct world *world, uint32_t ident);
/* It was dropped, replaced by a put of unknown fate, or found corrupt: no promise is left. */
void lease_void(struct world *world, uint32_t ident);
/* A put in place of a block whose time was over: it has its leases, whatever its size. */
void lease_replaced(struct world *world, uint32_t ident, uint32_t size);
/* All of them end; is_gone: with the process. */
void lease_end_all(struct world *world, bool is_gone);

/* Give the shard, which has just come up, the quotas. */
void quota_give(struct world *world);
/* Another quota for somebody. */
void quota_change(struct world *world);
/* A put of payer was refused: he must have a quota. */
void quota_refused(struct world *world, uint32_t payer);
/* Nobody has more than he may. */
void quota_check(struct world *world);
/* At rest: everybody may put again, what he may have. */
void quota_check_liveness(struct world *world);

/* At rest: what was stored is there, or the store has said why not. */
void policy_check_sums(struct world *world);
/* At the end: reclaim has not written more than it may. */
void policy_check_writes(struct world *world);

#endif
