/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever is done to a frame, what the checks let through is safe to use. Every golden frame is
 * damaged: each byte to each value, each size and count, pairs of them, and many bytes at random.
 * The body lies in a heap block of exactly body_size, so that ASan sees a step beyond it; what is
 * accepted is then used as its receiver would use it (use()), which asserts the limits that
 * docs/protocol.md promises to him. The edges of each limit are tried by name.
 */
#include "golden.h"

static uint64_t accepted_count; /* a test that accepts nothing would prove nothing */

/* --- what a receiver relies on --- */

static uint64_t use_segs(const struct wire_seg *segs, uint32_t count)
{
	uint64_t sum = 0;

	assert_true(count <= WIRE_SEG_MAX);
	for (uint32_t i = 0; i < count; i++) {
		assert_true(segs[i].region != 0);
		assert_true(segs[i].size > 0);
		assert_true(segs[i].offset + segs[i].size > segs[i].offset);
		sum += segs[i].size;
	}
	return sum;
}

static void use_get(const struct wire_header *header, const void *body)
{
	const struct wire_get *item = wire_items(header, body);
	const struct wire_request *request = body;

	assert_int_equal(request->flags & ~WIRE_REQ_PROGRESS, 0);
	for (uint32_t i = 0; i < header->count; i++) {
		uint64_t sum = use_segs(wire_get_segs(item), item->seg_count);

		assert_true(item->size >= 1 && item->size <= WIRE_BLOCK_MAX);
		assert_true((uint64_t)item->offset + item->size <= UINT32_MAX);
		assert_true(item->record.shard < WIRE_SHARD_MAX);
		assert_true(item->seg_count == 0 || sum == item->size);
		item = wire_get_next(item);
	}
	assert_ptr_equal(item, (const uint8_t *)body + header->body_size);
}

static void use_put(const struct wire_header *header, const void *body)
{
	const struct wire_put *item = wire_items(header, body);
	uint64_t inline_size = 0;

	assert_true(header->payload_size <= WIRE_INLINE_MAX);
	for (uint32_t i = 0; i < header->count; i++) {
		uint64_t sum = use_segs(wire_put_segs(item), item->seg_count);

		assert_true(item->size >= 1 && item->size <= WIRE_BLOCK_MAX);
		assert_true(item->flags == 0 || item->flags == WIRE_PUT_INLINE);
		assert_true(item->seg_count == 0 || sum == item->size);
		if (item->flags == WIRE_PUT_INLINE) {
			assert_int_equal(item->seg_count, 0);
			inline_size += item->size;
		}
		item = wire_put_next(item);
	}
	assert_int_equal(inline_size, header->payload_size);
	assert_ptr_equal(item, (const uint8_t *)body + header->body_size);
}

static void use_keys(const struct wire_header *header, const void *body)
{
	assert_true(header->count <= WIRE_ITEM_MAX);
	assert_true(header->count > 0 || header->kind == WIRE_DROP);
	assert_int_equal(header->body_size,
			 sizeof(struct wire_request) + header->count * sizeof(struct wire_key));
}

static void use_text(const uint8_t *text, size_t size)
{
	assert_non_null(memchr(text, '\0', size));
	for (size_t i = strlen((const char *)text); i < size; i++)
		assert_int_equal(text[i], 0);
	for (size_t i = 0; text[i] != '\0'; i++)
		assert_true(text[i] >= ' ' && text[i] != 0x7f);
}

static void use_welcome(const struct wire_header *header, const void *body)
{
	const struct wire_welcome *welcome = body;
	const struct wire_shard *shards = wire_items(header, body);
	const struct wire_offer *offers = (const void *)(shards + header->count);

	assert_in_range(header->count, 1, WIRE_SHARD_MAX);
	assert_in_range(welcome->block_max, 1, WIRE_BLOCK_MAX);
	assert_in_range(welcome->lane_max, 1, WIRE_LANE_MAX);
	assert_true(welcome->request_max > 0);
	assert_true(welcome->reactor < welcome->reactor_count);
	for (uint32_t i = 0; i < header->count; i++) {
		assert_true(shards[i].index < WIRE_SHARD_MAX);
		assert_true(shards[i].reactor < welcome->reactor_count);
	}
	for (uint32_t i = 0; i < welcome->offer_count; i++)
		use_text(offers[i].address, sizeof(offers[i].address));
	assert_ptr_equal(offers + welcome->offer_count, (const uint8_t *)body + header->body_size);
}

static void use_reply(const struct wire_header *header, const void *body)
{
	const struct wire_result *results = wire_items(header, body);

	assert_int_equal(header->body_size, header->count * sizeof(*results));
	for (uint32_t i = 0; i < header->count; i++) {
		assert_true(results[i].item < WIRE_ITEM_MAX);
		assert_true(results[i].status <= 0 && results[i].status >= WIRE_STATUS_MIN);
		assert_true(results[i].size <= WIRE_BLOCK_MAX);
		assert_true(results[i].block_size <= WIRE_BLOCK_MAX);
		assert_true(results[i].record.shard < WIRE_SHARD_MAX);
	}
}

static void use_bitmap(const struct wire_header *header, const void *body)
{
	const struct wire_bitmap *bitmap = body;
	const uint8_t *bits = wire_items(header, body);
	uint32_t size = (header->count + 7u) / 8;

	assert_int_equal(header->body_size, sizeof(*bitmap) + size);
	assert_true(bitmap->leased <= header->count);
	for (uint32_t i = header->count; i < size * 8; i++)
		assert_int_equal(bits[i / 8] >> i % 8 & 1, 0);
	for (uint32_t i = 0; bitmap->status != 0 && i < size; i++)
		assert_int_equal(bits[i], 0);
}

static void use_grant(const struct wire_header *header, const void *body)
{
	const struct wire_grant *grants = wire_items(header, body);

	assert_int_equal(header->body_size, header->count * sizeof(*grants));
	for (uint32_t i = 0; i < header->count; i++) {
		assert_true(grants[i].item < WIRE_ITEM_MAX);
		assert_in_range(grants[i].size, 1, WIRE_DATA_MAX);
		assert_true(grants[i].offset <= WIRE_BLOCK_MAX);
		assert_true(grants[i].offset + grants[i].size <= WIRE_BLOCK_MAX);
	}
}

static void use_data(const struct wire_header *header, const void *body)
{
	const struct wire_data *data = body;

	assert_in_range(header->payload_size, 1, WIRE_DATA_MAX);
	assert_true(data->item < WIRE_ITEM_MAX);
	assert_true(data->offset <= WIRE_BLOCK_MAX);
	assert_true(data->offset + header->payload_size <= WIRE_BLOCK_MAX);
}

static void use_declare(const struct wire_header *header, const void *body)
{
	const struct wire_declare *declare = wire_items(header, body);

	assert_true(declare->region != 0);
	assert_true(declare->size != 0);
	assert_true(declare->address <= UINT64_MAX - declare->size);
	assert_in_range(declare->kind, WIRE_REGION_SHM, WIRE_REGION_LOOP);
	assert_in_range(declare->access, 1, 3);
}

static void use_small(const struct wire_header *header, const void *body)
{
	const struct wire_hello *hello = body;
	const struct wire_refuse *refuse = body;
	const struct wire_notice *notice = body;
	const struct wire_text *text = body;
	const struct wire_cancel *cancels = wire_items(header, body);

	switch (header->kind) {
	case WIRE_HELLO:
		use_text(hello->tenant, sizeof(hello->tenant));
		assert_true(hello->tenant[0] != '\0');
		assert_true(hello->lane < WIRE_LANE_MAX);
		break;
	case WIRE_REFUSE:
		use_text(refuse->text, sizeof(refuse->text));
		assert_true(refuse->code < 0 && refuse->code >= WIRE_STATUS_MIN);
		break;
	case WIRE_NOTICE:
		use_text(notice->text, sizeof(notice->text));
		break;
	case WIRE_TEXT:
		assert_int_equal(header->body_size, sizeof(*text) + text->size);
		break;
	case WIRE_CANCEL:
		for (uint32_t i = 0; i < header->count; i++)
			assert_true(cancels[i].request != 0);
		break;
	}
}

static void use(const struct wire_header *header, const void *body)
{
	const struct wire_request *request = body;

	if (header->kind >= WIRE_PROBE && header->kind <= WIRE_STAT)
		assert_true(request->budget_ns <= WIRE_BUDGET_MAX);
	switch (header->kind) {
	case WIRE_WELCOME:
		use_welcome(header, body);
		break;
	case WIRE_PROBE:
	case WIRE_LEASE:
	case WIRE_DROP:
		use_keys(header, body);
		break;
	case WIRE_GET:
		use_get(header, body);
		break;
	case WIRE_PUT:
		use_put(header, body);
		break;
	case WIRE_DECLARE:
		use_declare(header, body);
		break;
	case WIRE_REPLY:
		use_reply(header, body);
		break;
	case WIRE_BITMAP:
		use_bitmap(header, body);
		break;
	case WIRE_GRANT:
		use_grant(header, body);
		break;
	case WIRE_DATA_GET:
	case WIRE_DATA_PUT:
		use_data(header, body);
		break;
	default:
		use_small(header, body);
	}
}

/* --- feeding a frame as a transport does --- */

/* Header first; then a body of exactly its size, made of what there is and zeros. */
static int feed(const struct golden_frame *frame, enum wire_direction direction)
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

	body = calloc(1, header->body_size);
	assert_non_null(body);
	memcpy(body, frame->body, MIN(header->body_size, sizeof(frame->body)));
	rc = wire_check_body(header, body);
	if (rc == 0) {
		use(header, body);
		accepted_count++;
	}
	free(body);
	return rc;
}

static bool is_refusal(int rc)
{
	return rc == -ERR_PROTOCOL || rc == -ERR_UNSUPPORTED || rc == -ERR_VERSION;
}

static void feed_any(const struct golden_frame *frame, enum wire_direction direction)
{
	int rc = feed(frame, direction);

	assert_true(rc == 0 || is_refusal(rc));
}

static void every_byte_may_have_every_value(void **state)
{
	accepted_count = 0;
	for (int id = 0; id < GOLDEN_COUNT; id++) {
		struct golden_frame frame;
		uint8_t *bytes = (uint8_t *)&frame.header;
		size_t size;

		golden_load((enum golden_id)id, &frame);
		size = offsetof(struct golden_frame, body) + frame.header.body_size;
		for (size_t at = 0; at < size; at++) {
			uint8_t was = bytes[at];

			for (uint32_t value = 0; value < 256; value++) {
				bytes[at] = (uint8_t)value;
				feed_any(&frame, golden[id].direction);
			}
			bytes[at] = was;
		}
	}
	assert_true(accepted_count > 1000);
}

/* Truncated and extended by any number of bytes, with any count near. */
static void sizes_and_counts_must_fit_together(void **state)
{
	for (int id = 0; id < GOLDEN_COUNT; id++) {
		struct golden_frame frame;
		uint32_t size;
		uint16_t count;

		golden_load((enum golden_id)id, &frame);
		size = frame.header.body_size;
		count = frame.header.count;
		for (uint32_t body_size = 0; body_size < size + 160; body_size++) {
			for (uint32_t items = 0; items < count + 4u; items++) {
				int rc;

				frame.header.body_size = body_size;
				frame.header.count = (uint16_t)items;
				rc = feed(&frame, golden[id].direction);
				if (body_size == size && items == count)
					assert_int_equal(rc, 0);
				else if (body_size != size && items == count)
					assert_int_equal(rc, -ERR_PROTOCOL);
			}
		}
	}
}

static void no_size_or_count_is_believed(void **state)
{
	static const uint32_t sizes[] = { 0,         1,         4096,    4097,          65535,
					  65536,     65537,     1 << 20, (1 << 20) + 1, 1 << 30,
					  INT32_MAX, UINT32_MAX };

	for (int id = 0; id < GOLDEN_COUNT; id++) {
		struct golden_frame frame;

		for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
			golden_load((enum golden_id)id, &frame);
			frame.header.body_size = sizes[i];
			feed_any(&frame, golden[id].direction);
			golden_load((enum golden_id)id, &frame);
			frame.header.payload_size = sizes[i];
			feed_any(&frame, golden[id].direction);
		}
		golden_load((enum golden_id)id, &frame);
		for (uint32_t count = 0; count <= UINT16_MAX; count++) {
			frame.header.count = (uint16_t)count;
			feed_any(&frame, golden[id].direction);
		}
	}
}

/* xorshift64*, seeded: the same frames in every run. */
static uint64_t next_random(uint64_t *random)
{
	*random ^= *random >> 12;
	*random ^= *random << 25;
	*random ^= *random >> 27;
	return *random * UINT64_C(2685821657736338717);
}

static void many_bytes_may_be_wrong_at_once(void **state)
{
	uint64_t random = 20261123;

	accepted_count = 0;
	for (uint32_t round = 0; round < 200000; round++) {
		enum golden_id id = (enum golden_id)(next_random(&random) % GOLDEN_COUNT);
		uint32_t changes = 1 + (uint32_t)(next_random(&random) % 4);
		struct golden_frame frame;

		golden_load(id, &frame);
		/* Half of the rounds leave the header alone, so that bodies are reached. */
		for (uint32_t i = 0; i < changes; i++) {
			uint64_t at = next_random(&random);
			uint8_t value = (uint8_t)(next_random(&random) >> 32);

			if (round % 2 == 0)
				frame.body[at % frame.header.body_size] = value;
			else
				((uint8_t *)&frame)[at % sizeof(frame)] = value;
		}
		feed_any(&frame, golden[id].direction);
	}
	assert_true(accepted_count > 10000);
}

static void a_frame_must_come_from_its_side(void **state)
{
	for (int id = 0; id < GOLDEN_COUNT; id++) {
		struct golden_frame frame;

		golden_load((enum golden_id)id, &frame);
		assert_int_equal(feed(&frame, WIRE_C2S),
				 golden[id].direction == WIRE_C2S ? 0 : -ERR_PROTOCOL);
		assert_int_equal(feed(&frame, WIRE_S2C),
				 golden[id].direction == WIRE_S2C ? 0 : -ERR_PROTOCOL);
	}
}

/* Additions of a later version: skipped with their body, which is bounded. */
static void an_unknown_kind_may_be_skipped(void **state)
{
	struct golden_frame frame;

	golden_load(GOLDEN_stat, &frame);
	frame.header.kind = 77;
	assert_int_equal(feed(&frame, WIRE_C2S), -ERR_UNSUPPORTED);
	frame.header.body_size = WIRE_BODY_MAX;
	assert_int_equal(feed(&frame, WIRE_C2S), -ERR_UNSUPPORTED);
	frame.header.body_size = WIRE_BODY_MAX + 1;
	assert_int_equal(feed(&frame, WIRE_C2S), -ERR_PROTOCOL);
	frame.header.body_size = 0;
	frame.header.payload_size = 1;
	assert_int_equal(feed(&frame, WIRE_C2S), -ERR_PROTOCOL);
	assert_null(wire_kind_name(77));
	assert_null(wire_kind_name(0));
	assert_null(wire_kind_name(255));
}

/* --- the edges of the limits --- */

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
		rc = feed(&frame, golden[edge->id].direction);
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
		assert_int_equal(feed(&frame, WIRE_C2S), cases[i].rc);
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
	assert_int_equal(wire_check_preface(&preface), -ERR_UNSUPPORTED);
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
		cmocka_unit_test(every_byte_may_have_every_value),
		cmocka_unit_test(sizes_and_counts_must_fit_together),
		cmocka_unit_test(no_size_or_count_is_believed),
		cmocka_unit_test(many_bytes_may_be_wrong_at_once),
		cmocka_unit_test(a_frame_must_come_from_its_side),
		cmocka_unit_test(an_unknown_kind_may_be_skipped),
		cmocka_unit_test(limits_hold_at_their_edges),
		cmocka_unit_test(segments_have_a_region_a_size_and_an_end),
		cmocka_unit_test(the_largest_frames_are_accepted),
		cmocka_unit_test(prefaces_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
