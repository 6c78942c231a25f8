/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever is done to a frame, what the checks let through is safe to use. Every golden frame is
 * damaged: each byte to each value, each size and count, pairs of them, and many bytes at random.
 * The body lies in a heap block of exactly body_size, so that ASan sees a step beyond it; what is
 * accepted is then used as its receiver would use it (use()), which asserts the limits that
 * docs/protocol.md promises to him.
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

static void use_and_count(const struct wire_header *header, const void *body)
{
	use(header, body);
	accepted_count++;
}

static int feed(const struct golden_frame *frame, enum wire_direction direction)
{
	return golden_feed(frame, direction, use_and_count);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_may_have_every_value),
		cmocka_unit_test(sizes_and_counts_must_fit_together),
		cmocka_unit_test(no_size_or_count_is_believed),
		cmocka_unit_test(many_bytes_may_be_wrong_at_once),
		cmocka_unit_test(a_frame_must_come_from_its_side),
		cmocka_unit_test(an_unknown_kind_may_be_skipped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
