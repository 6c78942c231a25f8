/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request traces in Mooncake's format (FAST'25): a JSON object a line, {"timestamp": ms,
 * "input_length": tokens, "output_length": tokens, "hash_ids": [id of each 512-token block]}. Equal
 * ids are equal prefixes.
 */
#ifndef CMD_TRACE_H
#define CMD_TRACE_H

#include "../base/base.h"

#define TRACE_BLOCK_TOKENS 512

struct trace_request {
	uint64_t timestamp_ms;
	uint64_t input_tokens;
	uint64_t first; /* index of its first id */
	uint64_t count; /* ids */
};

struct trace {
	struct trace_request *requests;
	uint64_t request_count;
	uint32_t *ids;
	uint64_t id_count;
};

/*
 * Which of a request's ids names the place of its index-th: runs of 16K tokens have a place
 * together, so that a prefix needs few servers; but for the first id, which has its own: what all
 * prompts begin with would else bring the first 16K tokens of all of them to one server
 * (docs/decisions/0007-places-of-runs.md).
 */
#define TRACE_RUN_IDS (16384 / TRACE_BLOCK_TOKENS)

static inline uint64_t trace_place_id(uint64_t index)
{
	return index == 0 ? 0 : (index - 1) / TRACE_RUN_IDS * TRACE_RUN_IDS + 1;
}

/* Plain, or zstd when the name ends in .zst. 0, or negative with a sentence in message_out. */
int trace_load(const char *path, struct trace *trace_out, char message_out[256]) MUST_USE;
void trace_free(struct trace *trace);

/* Ids (blocks) of requests [first, first + count) that an unlimited store would have given as a
 * leading run; *total_out: all ids of them. */
uint64_t trace_ideal_hits(const struct trace *trace, uint64_t first, uint64_t count,
			  uint64_t *total_out);

#endif
