/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks of what a peer sent. Two tables have a row for each kind of frame: kinds (from ops.def:
 * who sends it, the size of an item) and shapes (the size of the fixed part, how many items there
 * may be, and a function that looks at the fields). First the header: whether the sizes it claims
 * are allowed for its kind, before anything is received on their word. Then the body: its size must
 * follow exactly from count (and, for items with segments, from walking them, each step checked
 * against what is left), and every field must be within its limits.
 *
 * Failure: -ERR_PROTOCOL, and the connection ends; nothing is repaired. A kind not known is
 * -ERR_UNSUPPORTED: it may come from a newer peer, and its body can be skipped.
 */
#include "wire.h"

#include <string.h>

static bool is_zero(const void *bytes, size_t size)
{
	const uint8_t *at = bytes;
	uint8_t sum = 0;

	for (size_t i = 0; i < size; i++)
		sum |= at[i];
	return sum == 0;
}

/* Text without control characters (it goes to logs), a NUL, and zeros to the end. */
static bool is_text(const uint8_t *text, size_t size)
{
	size_t used = 0;

	while (used < size && text[used] >= 0x20 && text[used] != 0x7f)
		used++;
	return used < size && is_zero(text + used, size - used);
}

static bool is_status(int32_t status)
{
	return status <= 0 && status >= WIRE_STATUS_MIN;
}

static bool is_record(const struct wire_record *record)
{
	return record->shard < WIRE_SHARD_MAX && record->reserved0 == 0 && record->reserved1 == 0;
}

/* --- hello --- */

static int check_hello(const struct wire_header *header, const void *body)
{
	const struct wire_hello *hello = body;

	if (!is_text(hello->tenant, sizeof(hello->tenant)) || hello->tenant[0] == '\0')
		return -ERR_PROTOCOL;
	if (hello->lane >= WIRE_LANE_MAX || hello->transports == 0)
		return -ERR_PROTOCOL;
	if (hello->reserved0 != 0 || hello->reserved1 != 0)
		return -ERR_PROTOCOL;
	return 0;
}

static int check_challenge(const struct wire_header *header, const void *body)
{
	const struct wire_challenge *challenge = body;

	if (challenge->version < WIRE_VERSION_MIN || challenge->version > WIRE_VERSION)
		return -ERR_VERSION;
	if (challenge->reserved0 != 0 || challenge->reserved1 != 0 || challenge->incarnation == 0)
		return -ERR_PROTOCOL;
	return 0;
}

static int check_nothing(const struct wire_header *header, const void *body)
{
	return 0;
}

static int check_shards(const struct wire_welcome *welcome, const struct wire_shard *shards,
			uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (shards[i].index >= WIRE_SHARD_MAX)
			return -ERR_PROTOCOL;
		if (shards[i].reactor >= welcome->reactor_count)
			return -ERR_PROTOCOL;
	}
	return 0;
}

static int check_welcome(const struct wire_header *header, const void *body)
{
	const struct wire_welcome *welcome = body;
	const struct wire_shard *shards = (const void *)(welcome + 1);
	const struct wire_offer *offers = (const void *)(shards + header->count);
	size_t size = sizeof(*welcome) + header->count * sizeof(*shards) +
		      welcome->offer_count * sizeof(*offers);

	if (header->body_size != size || welcome->reserved != 0)
		return -ERR_PROTOCOL;
	if (welcome->session == 0 || welcome->incarnation == 0)
		return -ERR_PROTOCOL;
	if (welcome->block_max == 0 || welcome->block_max > WIRE_BLOCK_MAX)
		return -ERR_PROTOCOL;
	if (welcome->request_max == 0 || welcome->reactor >= welcome->reactor_count)
		return -ERR_PROTOCOL;
	if (welcome->lane_max == 0 || welcome->lane_max > WIRE_LANE_MAX)
		return -ERR_PROTOCOL;
	if (welcome->verify > WIRE_VERIFY_ALL)
		return -ERR_PROTOCOL;
	if ((welcome->rights & ~(WIRE_RIGHT_READ | WIRE_RIGHT_WRITE)) != 0)
		return -ERR_PROTOCOL;
	for (uint32_t i = 0; i < welcome->offer_count; i++) {
		if (!is_power_of_2(offers[i].transport) ||
		    !is_text(offers[i].address, sizeof(offers[i].address)))
			return -ERR_PROTOCOL;
	}
	return check_shards(welcome, shards, header->count);
}

static int check_refuse(const struct wire_header *header, const void *body)
{
	const struct wire_refuse *refuse = body;

	if (!is_status(refuse->code) || refuse->code == 0 || refuse->reserved != 0)
		return -ERR_PROTOCOL;
	return is_text(refuse->text, sizeof(refuse->text)) ? 0 : -ERR_PROTOCOL;
}

/* --- requests --- */

/* The fields of wire_request that only some kinds use are zero in the others. */
static int check_request(const struct wire_header *header, const void *body)
{
	const struct wire_request *request = body;
	uint32_t flags = 0;

	switch (header->kind) {
	case WIRE_LEASE:
		flags = WIRE_REQ_ALL | WIRE_REQ_WARM;
		break;
	case WIRE_GET:
		flags = WIRE_REQ_PROGRESS;
		break;
	case WIRE_PUT:
		flags = WIRE_REQ_DURABLE | WIRE_REQ_SHARED;
		break;
	}
	if ((request->flags & ~flags) != 0 || request->budget_ns > WIRE_BUDGET_MAX)
		return -ERR_PROTOCOL;
	if (request->lease != 0 && header->kind != WIRE_GET && header->kind != WIRE_RENEW)
		return -ERR_PROTOCOL;
	if (request->lease == 0 && header->kind == WIRE_RENEW)
		return -ERR_PROTOCOL;
	if (request->duration_ms != 0 && header->kind != WIRE_LEASE && header->kind != WIRE_RENEW)
		return -ERR_PROTOCOL;
	return 0;
}

/* seg_count segments, within room bytes, that together hold item_size bytes; or none. */
static bool is_segs(const struct wire_seg *segs, uint32_t seg_count, size_t room,
		    uint64_t item_size)
{
	uint64_t sum = 0;

	if (seg_count > WIRE_SEG_MAX || seg_count * sizeof(*segs) > room)
		return false;
	for (uint32_t i = 0; i < seg_count; i++) {
		uint64_t end;

		if (segs[i].region == 0 || segs[i].size == 0)
			return false;
		if (__builtin_add_overflow(segs[i].offset, segs[i].size, &end))
			return false;
		sum += segs[i].size;
	}
	return seg_count == 0 || sum == item_size;
}

static int check_get(const struct wire_header *header, const void *body)
{
	const struct wire_get *item = wire_items(header, body);
	size_t left = header->body_size - sizeof(struct wire_request);
	uint32_t end;

	for (uint32_t i = 0; i < header->count; i++) {
		if (left < sizeof(*item))
			return -ERR_PROTOCOL;
		left -= sizeof(*item);
		if (item->size == 0 || item->size > WIRE_BLOCK_MAX || item->reserved0 != 0 ||
		    item->reserved1 != 0 || !is_record(&item->record))
			return -ERR_PROTOCOL;
		if (__builtin_add_overflow(item->offset, item->size, &end))
			return -ERR_PROTOCOL;
		if (!is_segs(wire_get_segs(item), item->seg_count, left, item->size))
			return -ERR_PROTOCOL;
		left -= item->seg_count * sizeof(struct wire_seg);
		item = wire_get_next(item);
	}
	return left == 0 ? 0 : -ERR_PROTOCOL;
}

static int check_put(const struct wire_header *header, const void *body)
{
	const struct wire_put *item = wire_items(header, body);
	size_t left = header->body_size - sizeof(struct wire_request);
	uint64_t inline_size = 0;

	for (uint32_t i = 0; i < header->count; i++) {
		if (left < sizeof(*item))
			return -ERR_PROTOCOL;
		left -= sizeof(*item);
		if (item->size == 0 || item->size > WIRE_BLOCK_MAX ||
		    (item->flags & ~WIRE_PUT_INLINE) != 0)
			return -ERR_PROTOCOL;
		if ((item->flags & WIRE_PUT_INLINE) != 0) {
			if (item->seg_count != 0)
				return -ERR_PROTOCOL;
			inline_size += item->size;
		}
		if (!is_segs(wire_put_segs(item), item->seg_count, left, item->size))
			return -ERR_PROTOCOL;
		left -= item->seg_count * sizeof(struct wire_seg);
		item = wire_put_next(item);
	}
	return left == 0 && inline_size == header->payload_size ? 0 : -ERR_PROTOCOL;
}

static int check_cancel(const struct wire_header *header, const void *body)
{
	const struct wire_cancel *items = wire_items(header, body);

	for (uint32_t i = 0; i < header->count; i++) {
		if (items[i].request == 0)
			return -ERR_PROTOCOL;
	}
	return 0;
}

static int check_declare(const struct wire_header *header, const void *body)
{
	const struct wire_declare *declare = wire_items(header, body);
	uint64_t end;

	if (declare->region == 0 || declare->size == 0)
		return -ERR_PROTOCOL;
	if (declare->kind < WIRE_REGION_SHM || declare->kind > WIRE_REGION_LOOP)
		return -ERR_PROTOCOL;
	if (declare->access == 0 || declare->access > 3)
		return -ERR_PROTOCOL;
	if (__builtin_add_overflow(declare->address, declare->size, &end))
		return -ERR_PROTOCOL;
	if (declare->rkey != 0 && declare->kind != WIRE_REGION_RDMA)
		return -ERR_PROTOCOL;
	if (declare->page_size != 0 &&
	    (declare->kind != WIRE_REGION_SHM || !is_power_of_2(declare->page_size)))
		return -ERR_PROTOCOL;
	return 0;
}

static int check_undeclare(const struct wire_header *header, const void *body)
{
	const struct wire_undeclare *undeclare = wire_items(header, body);

	if (undeclare->region == 0 || undeclare->reserved != 0)
		return -ERR_PROTOCOL;
	return 0;
}

/* --- answers --- */

static int check_reply(const struct wire_header *header, const void *body)
{
	const struct wire_result *results = body;
	const uint32_t flags =
		WIRE_RESULT_EXISTED | WIRE_RESULT_DURABLE | WIRE_RESULT_CRC | WIRE_RESULT_PROGRESS;

	for (uint32_t i = 0; i < header->count; i++) {
		const struct wire_result *result = &results[i];

		if (result->item >= WIRE_ITEM_MAX || !is_status(result->status))
			return -ERR_PROTOCOL;
		if (result->size > WIRE_BLOCK_MAX || result->block_size > WIRE_BLOCK_MAX)
			return -ERR_PROTOCOL;
		if (!is_record(&result->record) || (result->flags & ~flags) != 0)
			return -ERR_PROTOCOL;
	}
	return 0;
}

static int check_bitmap(const struct wire_header *header, const void *body)
{
	const struct wire_bitmap *bitmap = body;
	const uint8_t *bits = (const uint8_t *)(bitmap + 1);
	size_t size = (header->count + 7u) / 8;

	if (header->body_size != sizeof(*bitmap) + size)
		return -ERR_PROTOCOL;
	if (!is_status(bitmap->status) || bitmap->reserved != 0)
		return -ERR_PROTOCOL;
	if (bitmap->leased > header->count || (bitmap->leased > 0 && bitmap->lease == 0))
		return -ERR_PROTOCOL;
	if (bitmap->status != 0 && !is_zero(bits, size))
		return -ERR_PROTOCOL;
	if (header->count % 8 != 0 && bits[size - 1] >> header->count % 8 != 0)
		return -ERR_PROTOCOL;
	return 0;
}

static int check_text(const struct wire_header *header, const void *body)
{
	const struct wire_text *text = body;

	if (!is_status(text->status) || text->size != header->body_size - sizeof(*text))
		return -ERR_PROTOCOL;
	return 0;
}

static int check_grant(const struct wire_header *header, const void *body)
{
	const struct wire_grant *grants = body;

	for (uint32_t i = 0; i < header->count; i++) {
		if (grants[i].item >= WIRE_ITEM_MAX)
			return -ERR_PROTOCOL;
		if (grants[i].size == 0 || grants[i].size > WIRE_DATA_MAX)
			return -ERR_PROTOCOL;
		if (grants[i].offset > WIRE_BLOCK_MAX - grants[i].size)
			return -ERR_PROTOCOL;
	}
	return 0;
}

static int check_data(const struct wire_header *header, const void *body)
{
	const struct wire_data *data = body;

	if (data->item >= WIRE_ITEM_MAX || data->reserved != 0)
		return -ERR_PROTOCOL;
	return data->offset <= WIRE_BLOCK_MAX - header->payload_size ? 0 : -ERR_PROTOCOL;
}

static int check_notice(const struct wire_header *header, const void *body)
{
	const struct wire_notice *notice = body;

	if (notice->reserved != 0)
		return -ERR_PROTOCOL;
	return is_text(notice->text, sizeof(notice->text)) ? 0 : -ERR_PROTOCOL;
}

/* --- the tables --- */

/* What ops.def calls an item. */
enum item_size {
	ITEM_NONE = 0,
	ITEM_KEY = sizeof(struct wire_key),
	ITEM_GET = sizeof(struct wire_get),
	ITEM_PUT = sizeof(struct wire_put),
	ITEM_REQUEST = sizeof(struct wire_cancel),
	ITEM_RESULT = sizeof(struct wire_result),
	ITEM_GRANT = sizeof(struct wire_grant),
	ITEM_SHARD = sizeof(struct wire_shard),
};

static const struct kind {
	const char *name; /* NULL: no such kind */
	enum wire_direction direction;
	enum item_size item_size;
} kinds[] = {
#define FRAME(name, value, direction, item, text)                                                  \
	[value] = { #name, WIRE_##direction, ITEM_##item },
#include "../tbl/ops.def"
#undef FRAME
};

#define REQUEST_SIZE sizeof(struct wire_request)

static const struct shape {
	size_t fixed_size;
	uint32_t count_min;
	uint32_t count_max; /* the limit of body_size may be reached before it */
	int (*check)(const struct wire_header *header, const void *body);
} shapes[ARRAY_LEN(kinds)] = {
	[WIRE_HELLO] = { sizeof(struct wire_hello), 0, 0, check_hello },
	[WIRE_CHALLENGE] = { sizeof(struct wire_challenge), 0, 0, check_challenge },
	[WIRE_PROOF] = { sizeof(struct wire_proof), 0, 0, check_nothing },
	[WIRE_WELCOME] = { sizeof(struct wire_welcome), 1, WIRE_SHARD_MAX, check_welcome },
	[WIRE_REFUSE] = { sizeof(struct wire_refuse), 0, 0, check_refuse },
	[WIRE_PROBE] = { REQUEST_SIZE, 1, WIRE_ITEM_MAX, check_nothing },
	[WIRE_LEASE] = { REQUEST_SIZE, 1, WIRE_ITEM_MAX, check_nothing },
	[WIRE_GET] = { REQUEST_SIZE, 1, WIRE_ITEM_MAX, check_get },
	[WIRE_PUT] = { REQUEST_SIZE, 1, WIRE_ITEM_MAX, check_put },
	[WIRE_DROP] = { REQUEST_SIZE, 0, WIRE_ITEM_MAX, check_nothing },
	[WIRE_RENEW] = { REQUEST_SIZE, 0, 0, check_nothing },
	[WIRE_CANCEL] = { REQUEST_SIZE, 1, WIRE_ITEM_MAX, check_cancel },
	[WIRE_DECLARE] = { REQUEST_SIZE + sizeof(struct wire_declare), 0, 0, check_declare },
	[WIRE_UNDECLARE] = { REQUEST_SIZE + sizeof(struct wire_undeclare), 0, 0, check_undeclare },
	[WIRE_REPORT] = { REQUEST_SIZE + sizeof(struct wire_report), 0, 0, check_nothing },
	[WIRE_STAT] = { REQUEST_SIZE, 0, 0, check_nothing },
	[WIRE_REPLY] = { 0, 1, WIRE_ITEM_MAX, check_reply },
	[WIRE_BITMAP] = { sizeof(struct wire_bitmap), 1, WIRE_ITEM_MAX, check_bitmap },
	[WIRE_TEXT] = { sizeof(struct wire_text), 0, 0, check_text },
	[WIRE_GRANT] = { 0, 1, WIRE_ITEM_MAX, check_grant },
	[WIRE_DATA_GET] = { sizeof(struct wire_data), 0, 0, check_data },
	[WIRE_DATA_PUT] = { sizeof(struct wire_data), 0, 0, check_data },
	[WIRE_NOTICE] = { sizeof(struct wire_notice), 0, 0, check_notice },
};

static bool is_kind(uint8_t kind)
{
	return kind < ARRAY_LEN(kinds) && kinds[kind].name != NULL;
}

static bool is_hello(uint8_t kind)
{
	return kind <= WIRE_REFUSE;
}

static bool is_request(uint8_t kind)
{
	return kind >= WIRE_PROBE && kind <= WIRE_STAT;
}

/* Behind the fixed part and the items there may be more: offers, segments, bits, text. */
static bool has_tail(uint8_t kind)
{
	return kind == WIRE_WELCOME || kind == WIRE_GET || kind == WIRE_PUT ||
	       kind == WIRE_BITMAP || kind == WIRE_TEXT;
}

static bool is_data(uint8_t kind)
{
	return kind == WIRE_DATA_GET || kind == WIRE_DATA_PUT;
}

static uint32_t payload_max(uint8_t kind)
{
	if (is_data(kind))
		return WIRE_DATA_MAX;
	return kind == WIRE_PUT ? WIRE_INLINE_MAX : 0;
}

static uint32_t body_max(uint8_t kind)
{
	if (kinds[kind].direction == WIRE_C2S || kind == WIRE_WELCOME || kind == WIRE_TEXT)
		return WIRE_BODY_MAX;
	return WIRE_REPLY_MAX;
}

/* --- public --- */

int wire_check_preface(const struct wire_preface *preface)
{
	if (memcmp(preface->magic, WIRE_PREFACE_MAGIC, sizeof(preface->magic)) != 0)
		return -ERR_PROTOCOL;
	if (preface->version_min == 0 || preface->version_min > preface->version_max)
		return -ERR_PROTOCOL;
	if (preface->version_max < WIRE_VERSION_MIN || preface->version_min > WIRE_VERSION)
		return -ERR_VERSION;
	if ((preface->flags & ~WIRE_PREFACE_TLS) != 0)
		return -ERR_PROTOCOL;
	switch (preface->mode) {
	case WIRE_MODE_NEW:
		return preface->session == 0 ? 0 : -ERR_PROTOCOL;
	case WIRE_MODE_JOIN:
		return preface->session != 0 && preface->incarnation != 0 ? 0 : -ERR_PROTOCOL;
	default:
		return -ERR_PROTOCOL;
	}
}

/* What a newer peer may send: the body is skipped, a payload it cannot have. */
static int check_unknown(const struct wire_header *header)
{
	if (header->body_size > WIRE_BODY_MAX || header->payload_size != 0)
		return -ERR_PROTOCOL;
	return -ERR_UNSUPPORTED;
}

static int check_sizes(const struct wire_header *header)
{
	const struct shape *shape = &shapes[header->kind];
	size_t size = shape->fixed_size + header->count * (size_t)kinds[header->kind].item_size;

	if (header->count < shape->count_min || header->count > shape->count_max)
		return -ERR_PROTOCOL;
	if (header->body_size < size || (header->body_size > size && !has_tail(header->kind)))
		return -ERR_PROTOCOL;
	if (header->body_size > body_max(header->kind))
		return -ERR_PROTOCOL;
	if (header->payload_size > payload_max(header->kind))
		return -ERR_PROTOCOL;
	if (header->payload_size == 0 && is_data(header->kind))
		return -ERR_PROTOCOL;
	return 0;
}

int wire_check_header(const struct wire_header *header, enum wire_direction direction)
{
	bool has_request;
	uint8_t flags;

	if (header->magic != WIRE_MAGIC)
		return -ERR_PROTOCOL;
	if (!is_kind(header->kind))
		return check_unknown(header);
	if (kinds[header->kind].direction != direction)
		return -ERR_PROTOCOL;

	has_request = !is_hello(header->kind) && header->kind != WIRE_NOTICE;
	flags = header->kind == WIRE_REPLY ? WIRE_FLAG_LAST : 0;
	if (has_request != (header->request != 0) || (header->flags & ~flags) != 0)
		return -ERR_PROTOCOL;
	if (header->reserved != 0)
		return -ERR_PROTOCOL;
	if (header->credit != 0 && (direction == WIRE_C2S || header->kind == WIRE_CHALLENGE))
		return -ERR_PROTOCOL;
	return check_sizes(header);
}

int wire_check_body(const struct wire_header *header, const void *body)
{
	int rc;

	ASSERT(is_kind(header->kind));
	ASSERT(check_sizes(header) == 0);
	ASSERT((uintptr_t)body % 8 == 0);

	if (is_request(header->kind)) {
		rc = check_request(header, body);
		if (rc < 0)
			return rc;
	}
	return shapes[header->kind].check(header, body);
}

const void *wire_items(const struct wire_header *header, const void *body)
{
	ASSERT(is_kind(header->kind));
	if (is_request(header->kind))
		return (const uint8_t *)body + REQUEST_SIZE;
	return (const uint8_t *)body + shapes[header->kind].fixed_size;
}

const struct wire_seg *wire_get_segs(const struct wire_get *item)
{
	return (const void *)(item + 1);
}

const struct wire_get *wire_get_next(const struct wire_get *item)
{
	return (const void *)(wire_get_segs(item) + item->seg_count);
}

const struct wire_seg *wire_put_segs(const struct wire_put *item)
{
	return (const void *)(item + 1);
}

const struct wire_put *wire_put_next(const struct wire_put *item)
{
	return (const void *)(wire_put_segs(item) + item->seg_count);
}

void wire_header_init(struct wire_header *header, enum wire_kind kind, uint64_t request,
		      uint16_t count, uint32_t body_size)
{
	*header = (struct wire_header) {
		.magic = WIRE_MAGIC,
		.kind = (uint8_t)kind,
		.count = count,
		.body_size = body_size,
		.request = request,
	};
}

const char *wire_kind_name(uint8_t kind)
{
	return is_kind(kind) ? kinds[kind].name : NULL;
}
