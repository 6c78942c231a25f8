/* SPDX-License-Identifier: Apache-2.0 */
/* What a replay counts, and how it is shown. */
#ifndef CMD_REPLAY_H
#define CMD_REPLAY_H

#include "../tbl/options.h"
#include "model.h"
#include "trace.h"

#define REPLAY_WINDOW_SIZE   (32 * MiB) /* bytes that are put or got at once */
#define REPLAY_WINDOW_BLOCKS 256

/* One request's outcome. */
struct replay_sample {
	uint64_t tokens;     /* of its whole blocks */
	uint64_t hit_tokens; /* loaded */
	uint64_t load_bytes;
	uint64_t load_ns; /* probe and gets, without the checking of bytes */
};

/* Sums; one a worker, added up at the end. */
struct replay_sums {
	uint64_t requests;
	uint64_t load_blocks;
	uint64_t put_blocks; /* stored or there already */
	uint64_t put_existed;
	uint64_t put_bytes; /* of those stored */
	uint64_t put_ns;
	uint64_t wrong_blocks; /* bytes that are not what was put: must be 0 */
	uint64_t lost_blocks;  /* the probe had them, the get did not */
	uint64_t failed_ops;   /* probes, gets and puts without an answer */
	uint64_t put_failures;
};

struct replay_plan {
	const struct options *options;
	const struct model *model;
	uint64_t bytes_per_token;
	uint64_t block_tokens;
	uint64_t block_size; /* bytes put for a block: scaled */
	uint64_t parts;      /* blocks of a trace block */
	uint64_t first;      /* requests [first, first + count) */
	uint64_t count;
};

struct replay_result {
	struct replay_sums sums;
	struct replay_sample *samples; /* of requests [0, plan.count) */
	uint64_t wall_ns;
};

/* Read back every block that a journal names, and check it. The exit code. */
int replay_audit(const struct options *options);

void replay_report(const struct replay_plan *plan, const struct trace *trace,
		   const struct replay_result *result);

#endif
