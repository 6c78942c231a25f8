/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A frame as a transport receives it: byte 0 is the direction, then header and body. What the
 * checks let through is read to its last field.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/wire/wire.h"
#include "fuzz.h"

static uint64_t read_segs(const struct wire_seg *segs, uint32_t count)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += segs[i].size;
	return sum;
}

static void read_items(const struct wire_header *header, const void *body)
{
	const void *end = (const uint8_t *)body + header->body_size;
	const void *items = wire_items(header, body);
	const struct wire_get *get = items;
	const struct wire_put *put = items;
	uint64_t payload_size = 0;

	for (uint32_t i = 0; header->kind == WIRE_GET && i < header->count; i++) {
		if (get->seg_count > 0)
			ASSERT(read_segs(wire_get_segs(get), get->seg_count) == get->size);
		get = wire_get_next(get);
	}
	for (uint32_t i = 0; header->kind == WIRE_PUT && i < header->count; i++) {
		if (put->seg_count > 0)
			ASSERT(read_segs(wire_put_segs(put), put->seg_count) == put->size);
		if ((put->flags & WIRE_PUT_INLINE) != 0)
			payload_size += put->size;
		put = wire_put_next(put);
	}
	if (header->kind == WIRE_GET)
		ASSERT(get == end);
	if (header->kind == WIRE_PUT) {
		ASSERT(put == end);
		ASSERT(payload_size == header->payload_size);
	}
}

/* The others have items of one size. */
static void read_welcome(const struct wire_header *header, const void *body)
{
	const struct wire_welcome *welcome = body;
	const struct wire_shard *shards = wire_items(header, body);
	const struct wire_offer *offers = (const void *)(shards + header->count);

	for (uint32_t i = 0; i < header->count; i++)
		ASSERT(shards[i].reactor < welcome->reactor_count);
	for (uint32_t i = 0; i < welcome->offer_count; i++)
		ASSERT(strlen((const char *)offers[i].address) < sizeof(offers[i].address));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct wire_header header;
	void *body;

	if (size < 1 + sizeof(header))
		return 0;
	memcpy(&header, bytes + 1, sizeof(header));
	if (wire_check_header(&header, bytes[0] == WIRE_C2S ? WIRE_C2S : WIRE_S2C) < 0)
		return 0;
	if (header.body_size > size - 1 - sizeof(header))
		return 0;
	body = malloc(MAX(header.body_size, 1));
	ASSERT(body != NULL);
	memcpy(body, bytes + 1 + sizeof(header), header.body_size);
	if (wire_check_body(&header, body) == 0) {
		read_items(&header, body);
		if (header.kind == WIRE_WELCOME)
			read_welcome(&header, body);
	}
	free(body);
	return 0;
}
