/* SPDX-License-Identifier: Apache-2.0 */
/* The golden frames of golden.def as bytes. */
#ifndef TEST_GOLDEN_H
#define TEST_GOLDEN_H

#include <stdlib.h>
#include <string.h>

#include "../../../src/wire/wire.h"
#include "../../lib/t.h"

#define GOLDEN_BODY_MAX 512

struct golden {
	const char *name;
	enum wire_direction direction;
	const char *header_hex;
	const char *body_hex;
};

enum golden_id {
#define PREFACE(hex)
#define GOLDEN(name, direction, kind, header, body) GOLDEN_##name,
#include "golden.def"
#undef GOLDEN
	GOLDEN_COUNT,
};

static const struct golden golden[GOLDEN_COUNT] = {
#define GOLDEN(name, direction, kind, header, body)                                                \
	[GOLDEN_##name] = { #name, WIRE_##direction, header, body },
#include "golden.def"
#undef GOLDEN
#undef PREFACE
};

static const char golden_preface[] =
#define PREFACE(hex) hex
#define GOLDEN(name, direction, kind, header, body)
#include "golden.def"
#undef GOLDEN
#undef PREFACE
	;

static inline size_t golden_decode(const char *hex, void *bytes_out, size_t size_max)
{
	uint8_t *bytes = bytes_out;
	size_t size = strlen(hex) / 2;

	assert_int_equal(strlen(hex) % 2, 0);
	assert_true(size <= size_max);
	for (size_t i = 0; i < size; i++) {
		char digits[3] = { hex[2 * i], hex[2 * i + 1], '\0' };

		bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return size;
}

/* A frame to be damaged: its header, and as much of a body as the golden one has. */
struct golden_frame {
	struct wire_header header;
	_Alignas(8) uint8_t body[GOLDEN_BODY_MAX];
};

static inline void golden_load(enum golden_id id, struct golden_frame *frame_out)
{
	size_t size;

	memset(frame_out, 0, sizeof(*frame_out));
	size = golden_decode(golden[id].header_hex, &frame_out->header, sizeof(frame_out->header));
	assert_int_equal(size, sizeof(frame_out->header));
	size = golden_decode(golden[id].body_hex, frame_out->body, sizeof(frame_out->body));
	assert_int_equal(size, frame_out->header.body_size);
}

/*
 * Check a frame as a transport does: the header first; then a body of exactly the size that it
 * says, in a heap block of its own, made of what there is and zeros. What is accepted goes to use
 * (may be NULL). Returns what the checks said.
 */
static inline int golden_feed(const struct golden_frame *frame, enum wire_direction direction,
			      void (*use)(const struct wire_header *header, const void *body))
{
	const struct wire_header *header = &frame->header;
	void *body;
	int rc;

	rc = wire_check_header(header, direction);
	if (rc < 0)
		return rc;
	assert_true(header->body_size <= WIRE_BODY_MAX);
	assert_true(header->payload_size <= WIRE_DATA_MAX);
	assert_non_null(wire_kind_name(header->kind));

	body = calloc(1, MAX(header->body_size, 1));
	assert_non_null(body);
	memcpy(body, frame->body, MIN(header->body_size, sizeof(frame->body)));
	rc = wire_check_body(header, body);
	if (rc == 0 && use != NULL)
		use(header, body);
	free(body);
	return rc;
}

#endif
