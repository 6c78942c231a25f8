/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each limit of docs/protocol.md at its edge: the last value that is allowed, and the first that is
 * not; every reserved field; what belongs to other kinds only.
 */
#include "golden.h"

#define HEADER SIZE_MAX

/* One field of a golden frame gets value: rc is what must come of it. */
struct edge {
	enum golden_id id;
	size_t at; /* in the body; HEADER - offset: in the header */
	uint32_t size;
	uint64_t value;
	int rc;
};

#define BODY(type, field) offsetof(struct type, field), sizeof(((struct type *)0)->field)
#define BEHIND(type, next, field)                                                                  \
	sizeof(struct type) + offsetof(struct next, field), sizeof(((struct next *)0)->field)
#define HEAD(field)                                                                                \
	HEADER - offsetof(struct wire_header, field), sizeof(((struct wire_header *)0)->field)
#define BAD -ERR_PROTOCOL

static const struct edge edges[] = {
	{ GOLDEN_stat, HEAD(request), 0, BAD },
	{ GOLDEN_hello, HEAD(request), 1, BAD },
	{ GOLDEN_notice, HEAD(request), 1, BAD },
	{ GOLDEN_stat, HEAD(flags), WIRE_FLAG_LAST, BAD },
	{ GOLDEN_reply, HEAD(flags), 0, 0 },
	{ GOLDEN_reply, HEAD(flags), 2, BAD },
	{ GOLDEN_stat, HEAD(credit), 1, BAD },
	{ GOLDEN_challenge, HEAD(credit), 1, BAD },
	{ GOLDEN_stat, HEAD(reserved), 1, BAD },
	{ GOLDEN_stat, HEAD(magic), 0, BAD },
	{ GOLDEN_stat, HEAD(payload_size), 1, BAD },
	{ GOLDEN_reply, HEAD(payload_size), 1, BAD },
	{ GOLDEN_data_get, HEAD(payload_size), 0, BAD },
	{ GOLDEN_data_get, HEAD(payload_size), 1, 0 },
	{ GOLDEN_data_put, HEAD(payload_size), WIRE_DATA_MAX + 1, BAD },

	{ GOLDEN_hello, BODY(wire_hello, tenant), 0, BAD },
	{ GOLDEN_hello, 0, 1, '\n', BAD },
	{ GOLDEN_hello, WIRE_TENANT_MAX - 1, 1, 'x', BAD },
	{ GOLDEN_hello, BODY(wire_hello, lane), WIRE_LANE_MAX - 1, 0 },
	{ GOLDEN_hello, BODY(wire_hello, lane), WIRE_LANE_MAX, BAD },
	{ GOLDEN_hello, BODY(wire_hello, transports), 0, BAD },
	{ GOLDEN_hello, BODY(wire_hello, reserved0), 1, BAD },
	{ GOLDEN_hello, BODY(wire_hello, reserved1), 1, BAD },
	{ GOLDEN_challenge, BODY(wire_challenge, version), 0, -ERR_VERSION },
	{ GOLDEN_challenge, BODY(wire_challenge, version), WIRE_VERSION + 1, -ERR_VERSION },
	{ GOLDEN_challenge, BODY(wire_challenge, incarnation), 0, BAD },
	{ GOLDEN_challenge, BODY(wire_challenge, reserved0), 1, BAD },
	{ GOLDEN_challenge, BODY(wire_challenge, reserved1), 1, BAD },
	{ GOLDEN_welcome, BODY(wire_welcome, session), 0, BAD },
	{ GOLDEN_welcome, BODY(wire_welcome, incarnation), 0, BAD },
	{ GOLDEN_welcome, BODY(wire_welcome, block_max), 0, BAD },
	{ GOLDEN_welcome, BODY(wire_welcome, block_max), WIRE_BLOCK_MAX, 0 },
	{ GOLDEN_welcome, BODY(wire_welcome, block_max), WIRE_BLOCK_MAX + 1, BAD },
	{ GOLDEN_welcome, BODY(wire_welcome, request_max), 0, BAD },
	{ GOLDEN_welcome, BODY(wire_welcome, reactor), 2, BAD },
	{ GOLDEN_welcome, BODY(wire_welcome, lane_max), 0, BAD },
	{ GOLDEN_welcome, BODY(wire_welcome, lane_max), WIRE_LANE_MAX + 1, BAD },
	{ GOLDEN_welcome, BODY(wire_welcome, verify), WIRE_VERIFY_ALL + 1, BAD },
	{ GOLDEN_welcome, BODY(wire_welcome, rights), 4, BAD },
	{ GOLDEN_welcome, BODY(wire_welcome, offer_count), 0, BAD },
	{ GOLDEN_welcome, BODY(wire_welcome, offer_count), 2, BAD },
	{ GOLDEN_welcome, BODY(wire_welcome, reserved), 1, BAD },
	{ GOLDEN_welcome, BEHIND(wire_welcome, wire_shard, index), WIRE_SHARD_MAX, BAD },
	{ GOLDEN_welcome, BEHIND(wire_welcome, wire_shard, reactor), 2, BAD },
	{ GOLDEN_refuse, BODY(wire_refuse, code), 0, BAD },
	{ GOLDEN_refuse, BODY(wire_refuse, code), 1, BAD },
	{ GOLDEN_refuse, BODY(wire_refuse, code), (uint32_t)WIRE_STATUS_MIN, 0 },
	{ GOLDEN_refuse, BODY(wire_refuse, code), (uint32_t)WIRE_STATUS_MIN - 1, BAD },
	{ GOLDEN_refuse, BODY(wire_refuse, code), (uint32_t)INT32_MIN, BAD },
	{ GOLDEN_refuse, BODY(wire_refuse, reserved), 1, BAD },

	{ GOLDEN_probe, BODY(wire_request, budget_ns), WIRE_BUDGET_MAX, 0 },
	{ GOLDEN_probe, BODY(wire_request, budget_ns), WIRE_BUDGET_MAX + 1, BAD },
	{ GOLDEN_probe, BODY(wire_request, lease), 1, BAD },
	{ GOLDEN_probe, BODY(wire_request, flags), WIRE_REQ_ALL, BAD },
	{ GOLDEN_probe, BODY(wire_request, duration_ms), 1, BAD },
	{ GOLDEN_lease, BODY(wire_request, flags), WIRE_REQ_WARM, 0 },
	{ GOLDEN_lease, BODY(wire_request, flags), WIRE_REQ_DURABLE, BAD },
	{ GOLDEN_lease, BODY(wire_request, lease), 1, BAD },
	{ GOLDEN_get, BODY(wire_request, flags), WIRE_REQ_SHARED, BAD },
	{ GOLDEN_get, BODY(wire_request, flags), 1u << 5, BAD },
	{ GOLDEN_get, BODY(wire_request, lease), 0, 0 },
	{ GOLDEN_get, BODY(wire_request, duration_ms), 1, BAD },
	{ GOLDEN_put, BODY(wire_request, flags), WIRE_REQ_PROGRESS, BAD },
	{ GOLDEN_renew, BODY(wire_request, lease), 0, BAD },
	{ GOLDEN_renew, BODY(wire_request, duration_ms), 0, 0 },

	{ GOLDEN_get, BEHIND(wire_request, wire_get, size), 0, BAD },
	{ GOLDEN_get, BEHIND(wire_request, wire_get, size), WIRE_BLOCK_MAX, 0 },
	{ GOLDEN_get, BEHIND(wire_request, wire_get, size), WIRE_BLOCK_MAX + 1, BAD },
	{ GOLDEN_get, BEHIND(wire_request, wire_get, offset), UINT32_MAX - MiB, 0 },
	{ GOLDEN_get, BEHIND(wire_request, wire_get, offset), UINT32_MAX - MiB + 1, BAD },
	{ GOLDEN_get, BEHIND(wire_request, wire_get, record.shard), WIRE_SHARD_MAX - 1, 0 },
	{ GOLDEN_get, BEHIND(wire_request, wire_get, record.shard), WIRE_SHARD_MAX, BAD },
	{ GOLDEN_get, BEHIND(wire_request, wire_get, record.reserved0), 1, BAD },
	{ GOLDEN_get, BEHIND(wire_request, wire_get, record.reserved1), 1, BAD },
	{ GOLDEN_get, BEHIND(wire_request, wire_get, reserved0), 1, BAD },
	{ GOLDEN_get, BEHIND(wire_request, wire_get, reserved1), 1, BAD },
	{ GOLDEN_get, BEHIND(wire_request, wire_get, seg_count), 1, BAD },
	{ GOLDEN_get, BEHIND(wire_request, wire_get, seg_count), UINT16_MAX, BAD },
	{ GOLDEN_put, BEHIND(wire_request, wire_put, size), 0, BAD },
	{ GOLDEN_put, BEHIND(wire_request, wire_put, size), 4, BAD },
	{ GOLDEN_put, BEHIND(wire_request, wire_put, size), 6, BAD },
	{ GOLDEN_put, BEHIND(wire_request, wire_put, flags), 0, BAD },
	{ GOLDEN_put, BEHIND(wire_request, wire_put, flags), 2, BAD },
	{ GOLDEN_put, BEHIND(wire_request, wire_put, seg_count), 1, BAD },
	{ GOLDEN_put, HEAD(payload_size), 0, BAD },
	{ GOLDEN_put, HEAD(payload_size), 4, BAD },
	{ GOLDEN_put, HEAD(payload_size), WIRE_INLINE_MAX + 1, BAD },
	{ GOLDEN_cancel, BEHIND(wire_request, wire_cancel, request), 0, BAD },
	{ GOLDEN_declare, BEHIND(wire_request, wire_declare, region), 0, BAD },
	{ GOLDEN_declare, BEHIND(wire_request, wire_declare, kind), 0, BAD },
	{ GOLDEN_declare, BEHIND(wire_request, wire_declare, kind), 4, BAD },
	{ GOLDEN_declare, BEHIND(wire_request, wire_declare, access), 0, BAD },
	{ GOLDEN_declare, BEHIND(wire_request, wire_declare, access), 4, BAD },
	{ GOLDEN_declare, BEHIND(wire_request, wire_declare, size), 0, BAD },
	{ GOLDEN_declare, BEHIND(wire_request, wire_declare, address), UINT64_MAX - GiB, 0 },
	{ GOLDEN_declare, BEHIND(wire_request, wire_declare, address), UINT64_MAX - GiB + 1, BAD },
	{ GOLDEN_declare, BEHIND(wire_request, wire_declare, kind), WIRE_REGION_SHM, BAD },
	{ GOLDEN_declare, BEHIND(wire_request, wire_declare, page_size), 4096, BAD },
	{ GOLDEN_undeclare, BEHIND(wire_request, wire_undeclare, region), 0, BAD },
	{ GOLDEN_undeclare, BEHIND(wire_request, wire_undeclare, reserved), 1, BAD },

	{ GOLDEN_reply, BODY(wire_result, item), WIRE_ITEM_MAX - 1, 0 },
	{ GOLDEN_reply, BODY(wire_result, item), WIRE_ITEM_MAX, BAD },
	{ GOLDEN_reply, BODY(wire_result, status), 1, BAD },
	{ GOLDEN_reply, BODY(wire_result, status), (uint32_t)INT32_MIN, BAD },
	{ GOLDEN_reply, BODY(wire_result, size), WIRE_BLOCK_MAX + 1, BAD },
	{ GOLDEN_reply, BODY(wire_result, block_size), WIRE_BLOCK_MAX + 1, BAD },
	{ GOLDEN_reply, BODY(wire_result, record.shard), WIRE_SHARD_MAX, BAD },
	{ GOLDEN_reply, BODY(wire_result, flags), 1u << 4, BAD },
	{ GOLDEN_bitmap, BODY(wire_bitmap, status), 1, BAD },
	{ GOLDEN_bitmap, BODY(wire_bitmap, status), (uint32_t)-ERR_BUSY, BAD },
	{ GOLDEN_bitmap, BODY(wire_bitmap, leased), 11, 0 },
	{ GOLDEN_bitmap, BODY(wire_bitmap, leased), 12, BAD },
	{ GOLDEN_bitmap, BODY(wire_bitmap, lease), 0, BAD },
	{ GOLDEN_bitmap, BODY(wire_bitmap, reserved), 1, BAD },
	{ GOLDEN_bitmap, sizeof(struct wire_bitmap) + 1, 1, 0x07, 0 },
	{ GOLDEN_bitmap, sizeof(struct wire_bitmap) + 1, 1, 0x08, BAD },
	{ GOLDEN_text, BODY(wire_text, size), 9, BAD },
	{ GOLDEN_text, BODY(wire_text, size), 11, BAD },
	{ GOLDEN_text, BODY(wire_text, size), UINT32_MAX, BAD },
	{ GOLDEN_text, BODY(wire_text, status), 1, BAD },
	{ GOLDEN_grant, BODY(wire_grant, item), WIRE_ITEM_MAX, BAD },
	{ GOLDEN_grant, BODY(wire_grant, size), 0, BAD },
	{ GOLDEN_grant, BODY(wire_grant, size), WIRE_DATA_MAX + 1, BAD },
	{ GOLDEN_grant, BODY(wire_grant, offset), WIRE_BLOCK_MAX - MiB, 0 },
	{ GOLDEN_grant, BODY(wire_grant, offset), WIRE_BLOCK_MAX - MiB + 1, BAD },
	{ GOLDEN_grant, BODY(wire_grant, offset), UINT64_MAX, BAD },
	{ GOLDEN_data_get, BODY(wire_data, item), WIRE_ITEM_MAX, BAD },
	{ GOLDEN_data_get, BODY(wire_data, reserved), 1, BAD },
	{ GOLDEN_data_get, BODY(wire_data, offset), WIRE_BLOCK_MAX - MiB, 0 },
	{ GOLDEN_data_get, BODY(wire_data, offset), WIRE_BLOCK_MAX - MiB + 1, BAD },
	{ GOLDEN_data_get, BODY(wire_data, offset), UINT64_MAX, BAD },
	{ GOLDEN_notice, BODY(wire_notice, code), 99, 0 }, /* for later versions; ignored */
	{ GOLDEN_notice, BODY(wire_notice, reserved), 1, BAD },
	{ GOLDEN_notice, 8 + 3, 1, 0x1b, BAD },
};

static void limits_hold_at_their_edges(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(edges); i++) {
		const struct edge *edge = &edges[i];
		struct golden_frame frame;
		int rc;

		golden_load(edge->id, &frame);
		if (edge->at > GOLDEN_BODY_MAX)
			memcpy((uint8_t *)&frame.header + (HEADER - edge->at), &edge->value,
			       edge->size);
		else if (edge->size > sizeof(edge->value))
			memset(frame.body + edge->at, (int)edge->value, edge->size);
		else
			memcpy(frame.body + edge->at, &edge->value, edge->size);
		rc = golden_feed(&frame, golden[edge->id].direction, NULL);
		if (rc != edge->rc)
			print_message("edge %zu: %s at %zd value %llu\n", i, golden[edge->id].name,
				      (ssize_t)edge->at, (unsigned long long)edge->value);
		assert_int_equal(rc, edge->rc);
	}
}

/* Of the second item of the golden get: {1, 8192, 4096}, {2, 4096, 0x10000}, 12 KiB together. */
static void segments_have_a_region_a_size_and_an_end(void **state)
{
	static const struct {
		struct wire_seg seg;
		uint32_t item_size;
		int rc;
	} cases[] = {
		{ { .region = 2, .size = 4096, .offset = 0 }, 12288, 0 },
		{ { .region = 2, .size = 4096, .offset = UINT64_MAX - 4096 }, 12288, 0 },
		{ { .region = 2, .size = 4096, .offset = UINT64_MAX - 4095 }, 12288, BAD },
		{ { .region = 0, .size = 4096, .offset = 0 }, 12288, BAD },
		{ { .region = 2, .size = 0, .offset = 0 }, 8192, BAD },
		{ { .region = 2, .size = 4095, .offset = 0 }, 12288, BAD },
		{ { .region = 2, .size = 4097, .offset = 0 }, 12288, BAD },
		{ { .region = 2, .size = UINT32_MAX, .offset = 0 }, 8191, BAD },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct golden_frame frame;
		struct wire_get *item;

		golden_load(GOLDEN_get, &frame);
		item = (void *)(frame.body + sizeof(struct wire_request) + sizeof(*item));
		item->size = cases[i].item_size;
		memcpy((struct wire_seg *)(void *)(item + 1) + 1, &cases[i].seg,
		       sizeof(cases[i].seg));
		assert_int_equal(golden_feed(&frame, WIRE_C2S, NULL), cases[i].rc);
	}
}

/* As many items as there may be, at the limit of the body. */
static void the_largest_frames_are_accepted(void **state)
{
	struct wire_header header;
	uint8_t *body = calloc(1, WIRE_BODY_MAX);
	const uint16_t count =
		(WIRE_BODY_MAX - sizeof(struct wire_request)) / sizeof(struct wire_get);

	assert_non_null(body);
	wire_header_init(&header, WIRE_PROBE, 1, WIRE_ITEM_MAX,
			 sizeof(struct wire_request) + WIRE_ITEM_MAX * WIRE_KEY_SIZE);
	assert_int_equal(wire_check_header(&header, WIRE_C2S), 0);
	assert_int_equal(wire_check_body(&header, body), 0);
	header.count++;
	header.body_size += WIRE_KEY_SIZE;
	assert_int_equal(wire_check_header(&header, WIRE_C2S), -ERR_PROTOCOL);

	wire_header_init(&header, WIRE_GET, 1, count,
			 sizeof(struct wire_request) + count * sizeof(struct wire_get));
	for (uint32_t i = 0; i < count; i++) {
		struct wire_get *item = (void *)(body + sizeof(struct wire_request));

		item[i].size = 1;
	}
	assert_int_equal(wire_check_header(&header, WIRE_C2S), 0);
	assert_int_equal(wire_check_body(&header, body), 0);

	memset(body, 0, WIRE_BODY_MAX);
	wire_header_init(&header, WIRE_REPLY, 1, WIRE_REPLY_MAX / sizeof(struct wire_result),
			 WIRE_REPLY_MAX / sizeof(struct wire_result) * sizeof(struct wire_result));
	assert_int_equal(wire_check_header(&header, WIRE_S2C), 0);
	assert_int_equal(wire_check_body(&header, body), 0);
	header.count++;
	header.body_size += sizeof(struct wire_result);
	assert_int_equal(wire_check_header(&header, WIRE_S2C), -ERR_PROTOCOL);
	free(body);
}

static struct wire_preface preface_load(void)
{
	struct wire_preface preface;

	golden_decode(golden_preface, &preface, sizeof(preface));
	return preface;
}

static void prefaces_are_checked(void **state)
{
	struct wire_preface preface = preface_load();

	for (size_t i = 0; i < sizeof(preface.magic); i++) {
		preface.magic[i] ^= 1;
		assert_int_equal(wire_check_preface(&preface), -ERR_PROTOCOL);
		preface.magic[i] ^= 1;
	}
	preface.version_max = 9;
	assert_int_equal(wire_check_preface(&preface), 0);
	preface.version_min = 2;
	assert_int_equal(wire_check_preface(&preface), -ERR_VERSION);
	preface.version_min = 10;
	assert_int_equal(wire_check_preface(&preface), -ERR_PROTOCOL);
	preface.version_min = 0;
	assert_int_equal(wire_check_preface(&preface), -ERR_PROTOCOL);

	preface = preface_load();
	preface.flags = WIRE_PREFACE_TLS;
	assert_int_equal(wire_check_preface(&preface), 0);
	preface.flags = 2;
	assert_int_equal(wire_check_preface(&preface), -ERR_PROTOCOL);

	preface = preface_load();
	preface.session = 0;
	assert_int_equal(wire_check_preface(&preface), -ERR_PROTOCOL);
	preface.mode = WIRE_MODE_NEW;
	assert_int_equal(wire_check_preface(&preface), 0);
	preface.incarnation = 0;
	assert_int_equal(wire_check_preface(&preface), 0);
	preface.session = 1;
	assert_int_equal(wire_check_preface(&preface), -ERR_PROTOCOL);
	preface.mode = WIRE_MODE_JOIN;
	assert_int_equal(wire_check_preface(&preface), -ERR_PROTOCOL);
	preface.incarnation = 1;
	assert_int_equal(wire_check_preface(&preface), 0);
	preface.mode = 2;
	assert_int_equal(wire_check_preface(&preface), -ERR_PROTOCOL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_hold_at_their_edges),
		cmocka_unit_test(segments_have_a_region_a_size_and_an_end),
		cmocka_unit_test(the_largest_frames_are_accepted),
		cmocka_unit_test(prefaces_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
