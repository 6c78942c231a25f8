/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store may answer, and what it must: a naive twin of it. Of every identity it knows each
 * version that was ever put (its content follows from seed, identity and version), and what the
 * store has promised about it. The oracle looks only at bytes that came back.
 *
 * Order is told by ticks. A version is dead from the tick on at which a drop, or the answer that a
 * later put was stored, excluded it; dead_live holds until a crash, dead_durable for ever.
 */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include "sim.h"

enum model_outcome {
	MODEL_PENDING = 0, /* may or may not be there */
	MODEL_STORED,
	MODEL_VOID, /* was never published: aborted, or the block existed */
};

struct model_version {
	uint32_t size;
	uint64_t expiry_s;
	uint64_t begin;  /* tick */
	uint64_t commit; /* tick since which it may be seen, at the latest; 0: not yet */
	enum model_outcome outcome;
	bool is_open; /* its put is under way: a later process may publish it yet */
	bool is_durable;
	bool is_promised; /* must be found */
	bool is_mortal;   /* expires some time before expiry_s: nothing is promised */
	uint64_t dead_live;
	uint64_t dead_durable;
	/* The scenario's: when it was stored, since its commit its name, and who pays. */
	uint64_t mark;
	uint64_t sequence;
	uint32_t payer;
};

struct model_ident {
	struct model_version *versions;
	uint32_t count;
	uint32_t room;
	uint32_t drops_open;    /* under way: nothing is promised meanwhile */
	uint32_t drops_unknown; /* given up; this process may carry them out yet */
	uint64_t drop_over;     /* tick of the last answer */
};

struct model {
	struct sim *sim;
	uint64_t tick;
	struct model_ident *idents;
	uint32_t ident_count;
	/* The medium has lied: what was dropped or replaced may come back, for the record of that
	 * was lost. Whatever comes back is still one version of this identity. */
	bool is_lenient;
};

void model_init(struct model *model, struct sim *sim, uint32_t ident_count);
void model_fini(struct model *model);

/* Now, and later than all before. */
uint64_t model_tick(struct model *model);

/* A put begins; returns its version. */
uint32_t model_put(struct model *model, uint32_t ident, uint32_t size, uint64_t expiry_s);

/* Its payload is complete: from now on it may be seen. */
void model_commit(struct model *model, uint32_t ident, uint32_t version);

void model_stored(struct model *model, uint32_t ident, uint32_t version, bool is_durable);
void model_void(struct model *model, uint32_t ident, uint32_t version);

/* Its put is over, and nobody knows how it ended. */
void model_unknown(struct model *model, uint32_t ident, uint32_t version);

/* What was there when version `by` began (and found it) is durable now. */
void model_existed_durable(struct model *model, uint32_t ident, uint32_t by);

/* A drop was asked; it may take effect any time until it is over. is_known false: nobody knows how
 * it ended, and it may still take effect until the process is gone. */
void model_drop_asked(struct model *model, uint32_t ident);
void model_drop_over(struct model *model, uint32_t ident, bool is_known);

/* A drop that began at tick misses from now on; later: it is durable. */
void model_dropped(struct model *model, uint32_t ident, uint64_t tick, bool is_durable);

/* The process died, or stopped in order: what is promised from now on. */
void model_crash(struct model *model);
void model_stop(struct model *model);

/* The version that must be found now; NULL: none. */
struct model_version *model_promised(const struct model *model, uint32_t ident, uint64_t wall_s);

/* The content of bytes [offset, offset + size) of a version. */
void model_fill(const struct model *model, uint32_t ident, uint32_t version, uint64_t offset,
		void *bytes, uint64_t size);

/*
 * A get, begun at tick and wall_s, has answered bytes [offset, offset + size) of a block of
 * block_size: fails the run unless they are those of one version that may be seen. Returns it.
 */
uint32_t model_check(const struct model *model, uint32_t ident, uint64_t tick, uint64_t wall_s,
		     uint32_t block_size, uint64_t offset, const struct iovec *iov, uint64_t size);

#endif
