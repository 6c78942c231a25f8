/* SPDX-License-Identifier: Apache-2.0 */
#include "shm_held.h"

#include "../lib/t.h"

#include <string.h>

struct xprt_region held_region_of(struct pair *pair, struct pair_memory *memory, uint32_t id)
{
	struct xprt_region region = { .base = memory->bytes, .size = memory->size, .id = id };

	assert_int_equal(pair->kind->ops->declare(pair->client.group.lanes[0], &region), 0);
	return region;
}

void held_ping(struct pair *pair, uint64_t request)
{
	struct wire_header header;
	struct {
		struct wire_request request;
		struct wire_key key;
	} body = { .request = { .budget_ns = 1 } };

	wire_header_init(&header, WIRE_PROBE, request, 1, sizeof(body));
	assert_int_equal(xprt_shm.send(pair->client.group.lanes[0], &header, &body, NULL, 0), 0);
}

bool held_is_all(const uint8_t *bytes, uint64_t size, uint8_t value)
{
	for (uint64_t i = 0; i < size; i++) {
		if (bytes[i] != value)
			return false;
	}
	return true;
}

void held_init(struct held *held)
{
	const struct wire_seg segs[2] = { { 1, 100, 0 }, { 1, PAGE_SIZE, 2 * PAGE_SIZE } };

	pair_init(&held->pair, pair_shm);
	pair_connect(&held->pair, 1);
	held->memory = pair_memory_make(&held->pair, HELD_SIZE);
	held->region = held_region_of(&held->pair, &held->memory, 1);
	assert_int_equal(xprt_shm.region_add(&held->pair.server.group, &held->region.declare), 0);
	held->hold = NULL;
	assert_int_equal(xprt_shm.map(&held->pair.server.group, segs, 2, held->iov, &held->hold),
			 0);
	assert_int_equal(held->iov[1].iov_len, PAGE_SIZE);
	assert_int_equal((uintptr_t)held->iov[1].iov_base % PAGE_SIZE, 0);
}

void held_write(struct held *held, uint8_t value)
{
	memset(held->iov[0].iov_base, value, held->iov[0].iov_len);
	memset(held->iov[1].iov_base, value, held->iov[1].iov_len);
	assert_true(held_is_all(held->memory.bytes, 100, value));
	assert_true(held_is_all(held->memory.bytes + 2 * PAGE_SIZE, PAGE_SIZE, value));
}

void held_fini(struct held *held)
{
	pair_memory_free(&held->memory);
	pair_fini(&held->pair);
}
