/* SPDX-License-Identifier: Apache-2.0 */
/* A pair of shm whose client has declared memory of which the server holds a mapping. */
#ifndef TEST_XPRT_SHM_HELD_H
#define TEST_XPRT_SHM_HELD_H

#include "pair.h"

#define HELD_SIZE (4 * PAGE_SIZE)

struct held {
	struct pair pair;
	struct pair_memory memory; /* HELD_SIZE */
	struct xprt_region region; /* all of it, 1 */
	struct iovec iov[2];       /* of it, by hold: 100 bytes at its begin, the third page */
	void *hold;
};

void held_init(struct held *held);
/* What is written there is the client's. */
void held_write(struct held *held, uint8_t value);
void held_fini(struct held *held); /* hold is let go */

/* Declared by the client, and not more. */
struct xprt_region held_region_of(struct pair *pair, struct pair_memory *memory, uint32_t id);

/* A frame from the client. */
void held_ping(struct pair *pair, uint64_t request);

bool held_is_all(const uint8_t *bytes, uint64_t size, uint8_t value);

#endif
