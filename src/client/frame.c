/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling a request frame: frame_fill() takes units of a part while body, credit, pieces and
 * staging room last; put, get and all others have their own way of writing one. The first unit that
 * does not fit ends the frame; if it is the first of all, -EAGAIN says what there is to wait for,
 * and nothing was taken. Payload stays where the caller has it: the frame's iovec points to it.
 */
#include "frame.h"

#include <string.h>

/* The server is told a little less than what is left, so that its answer is here in time. */
#define BUDGET_MARGIN_MAX (50 * NS_PER_MS)

/* What a frame may cost now: no frame waits for credit. A put that there is none for is granted. */
static uint32_t cost_max(const struct session *session)
{
	return MAX((uint32_t)WIRE_FREE_MAX, session->credit_given - session->credit_used);
}

static uint64_t budget_ns(const struct client *client, uint64_t deadline_ns)
{
	uint64_t now_ns = env_now_ns(client->env);
	uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;

	return left_ns - MIN(left_ns / 16, BUDGET_MARGIN_MAX);
}

void frame_begin(struct frame *frame, struct request *owner, uint64_t deadline_ns)
{
	struct session *session = owner->session;
	struct client *client = session->client;
	struct wire_request *request = (void *)client->body;

	frame->request = owner;
	frame->session = session;
	frame->body = client->body;
	frame->body_size = sizeof(struct wire_request);
	frame->cost_max = cost_max(session);
	frame->body_max = MIN((uint32_t)WIRE_BODY_MAX, frame->cost_max);
	frame->count = 0;
	frame->payload_size = 0;
	frame->iov_count = 0;
	*request = (struct wire_request) { .budget_ns = budget_ns(client, deadline_ns) };
}

void *frame_add(struct frame *frame, size_t size)
{
	void *at = frame->body + frame->body_size;

	ASSERT(frame->body_size + size <= frame->body_max);
	frame->body_size += (uint32_t)size;
	return at;
}

/* Whether so much more fits. */
static bool frame_has_room(const struct frame *frame, uint64_t body_size, uint64_t payload_size)
{
	uint64_t body = frame->body_size + body_size;
	uint64_t payload = frame->payload_size + payload_size;

	return body <= frame->body_max && payload <= WIRE_INLINE_MAX &&
	       body + payload <= frame->cost_max;
}

/* Of items of which only the key is sent: as many as fit. */
static void add_keys(struct frame *frame, const struct part *part, uint32_t count_max)
{
	const struct client_op *cop = part->cop;
	uint32_t room = (frame->body_max - frame->body_size) / (uint32_t)sizeof(struct wire_key);
	uint32_t end = part->next + MIN(part->end - part->next, MIN(count_max, room));
	struct wire_key *key = (void *)(frame->body + frame->body_size);
	bool are_open = cop->open_count == cop->item_count; /* all of them */

	for (uint32_t at = part->next; at < end; at++, key++) {
		uint32_t unit = op_unit_at(cop, at);
		const struct ctxkv_item *item = &cop->op->items[unit];

		if (!are_open && op_unit_is_done(cop, unit))
			break;
		memcpy(key->bytes, item->key.bytes, sizeof(key->bytes));
		frame->count++;
	}
	(void)frame_add(frame, frame->count * sizeof(*key));
}

static uint32_t get_size(const struct ctxkv_item *item)
{
	uint64_t room = item_room(item);

	return (uint32_t)MIN(room, WIRE_BLOCK_MAX);
}

/*
 * Segments of an item with its head of head_size, if its transport needs any. Returns how many;
 * -EAGAIN: not now; -ENOSPC: the frame is full.
 */
static int item_segs(struct frame *frame, struct ctxkv_item *item, uint32_t size, size_t head_size,
		     bool is_put, struct wire_seg *segs)
{
	int seg_count = 0;

	if (!frame_has_room(frame, head_size, 0))
		return -ENOSPC;
	if (!session_is_direct(frame->session))
		return 0;
	seg_count = region_segs(frame->request, item, size, is_put, segs);
	if (seg_count < 0 ||
	    frame_has_room(frame, head_size + (size_t)seg_count * sizeof(*segs), 0))
		return seg_count;
	region_unstage(frame->session->client, item);
	return -ENOSPC;
}

/* 1: added. 0: the frame is full. -EAGAIN: a region is not declared yet, or no room to stage it. */
static int add_get(struct frame *frame, struct ctxkv_item *item)
{
	struct wire_seg segs[WIRE_SEG_MAX];
	struct wire_get *get;
	int seg_count = item_segs(frame, item, get_size(item), sizeof(*get), false, segs);

	if (seg_count < 0)
		return seg_count == -ENOSPC ? 0 : seg_count;
	get = frame_add(frame, sizeof(*get));
	*get = (struct wire_get) {
		.record = { item->record.sequence, (uint16_t)item->record.shard, 0, 0 },
		.offset = (uint32_t)item->offset,
		.size = get_size(item),
		.seg_count = (uint16_t)seg_count,
	};
	memcpy(get->key.bytes, item->key.bytes, sizeof(get->key.bytes));
	memcpy(frame_add(frame, (size_t)seg_count * sizeof(*segs)), segs,
	       (size_t)seg_count * sizeof(*segs));
	return 1;
}

/* Whether an empty frame could hold it whole. */
static bool is_inline(const struct session *session, const struct ctxkv_item *item)
{
	uint64_t size = item_room(item);

	return size <= WIRE_INLINE_MAX && item->iov_count <= REQUEST_IOV_MAX &&
	       sizeof(struct wire_request) + sizeof(struct wire_put) + size <= cost_max(session);
}

static void put_init(struct wire_put *put, const struct ctxkv_item *item)
{
	*put = (struct wire_put) {
		.chain = item->chain,
		.depth = item->depth,
		.size = (uint32_t)item_room(item),
		.ttl_s = item->ttl_s,
	};
	memcpy(put->key.bytes, item->key.bytes, sizeof(put->key.bytes));
	memcpy(put->place, item->place, sizeof(put->place));
}

static int add_put_inline(struct frame *frame, const struct ctxkv_item *item)
{
	uint64_t size = item_room(item);
	struct wire_put *put;

	if (!frame_has_room(frame, sizeof(*put), size) ||
	    frame->iov_count + item->iov_count > REQUEST_IOV_MAX)
		return 0;
	put = frame_add(frame, sizeof(*put));
	put_init(put, item);
	put->flags = WIRE_PUT_INLINE;
	for (uint32_t i = 0; i < item->iov_count; i++) {
		if (item->iov[i].size > 0)
			frame->iov[frame->iov_count++] =
				(struct iovec) { item->iov[i].base, item->iov[i].size };
	}
	frame->payload_size += (uint32_t)size;
	return 1;
}

static int add_put(struct frame *frame, struct ctxkv_item *item)
{
	struct wire_seg segs[WIRE_SEG_MAX];
	struct wire_put *put;
	int seg_count;

	if (is_inline(frame->session, item))
		return add_put_inline(frame, item);
	seg_count = item_segs(frame, item, (uint32_t)item_room(item), sizeof(*put), true, segs);
	if (seg_count < 0)
		return seg_count == -ENOSPC ? 0 : seg_count;
	put = frame_add(frame, sizeof(*put));
	put_init(put, item);
	put->seg_count = (uint16_t)seg_count;
	memcpy(frame_add(frame, (size_t)seg_count * sizeof(*segs)), segs,
	       (size_t)seg_count * sizeof(*segs));
	return 1;
}

/* Gets or puts. 0, or why there is not even one. */
static int add_transfers(struct frame *frame, const struct part *part)
{
	const struct client_op *cop = part->cop;
	bool is_put = cop->op->opcode == CTXKV_OP_PUT;

	for (uint32_t at = part->next; at < part->end && frame->count < WIRE_ITEM_MAX; at++) {
		uint32_t unit = op_unit_at(cop, at);
		struct ctxkv_item *item = &cop->op->items[unit];
		int rc;

		if (!part_has(part, at))
			break;
		rc = is_put ? add_put(frame, item) : add_get(frame, item);
		if (rc < 0 && frame->count == 0)
			return rc;
		if (rc <= 0)
			break;
		frame->count++;
	}
	return 0;
}

static uint32_t request_flags(const struct ctxkv_op *op)
{
	switch (op->opcode) {
	case CTXKV_OP_LEASE:
		return ((op->flags & CTXKV_ALL) != 0 ? WIRE_REQ_ALL : 0u) |
		       ((op->flags & CTXKV_WARM) != 0 ? WIRE_REQ_WARM : 0u);
	case CTXKV_OP_GET:
		return (op->flags & CTXKV_PROGRESS) != 0 ? WIRE_REQ_PROGRESS : 0;
	case CTXKV_OP_PUT:
		return ((op->flags & CTXKV_DURABLE) != 0 ? WIRE_REQ_DURABLE : 0u) |
		       ((op->flags & CTXKV_PRIVATE) != 0 ? 0u : WIRE_REQ_SHARED);
	default:
		return 0;
	}
}

/* What the op says to all of its requests. */
static void fill_request(struct frame *frame, const struct ctxkv_op *op, uint64_t lease)
{
	bool has_duration = op->opcode == CTXKV_OP_LEASE || op->opcode == CTXKV_OP_RENEW;
	struct wire_request *request = (void *)frame->body;

	request->lease = lease;
	request->flags = request_flags(op);
	request->duration_ms = has_duration ? op->duration_ms : 0;
	memcpy(request->ns, op->ns.bytes, sizeof(request->ns));
	memcpy(request->domain, op->domain, sizeof(request->domain));
}

static void fill_report(struct frame *frame, const struct ctxkv_op *op)
{
	struct wire_report *report = frame_add(frame, sizeof(*report));

	*report = (struct wire_report) {
		.tokens_loaded = op->report.tokens_loaded,
		.tokens_recomputed = op->report.tokens_recomputed,
		.load_ns = op->report.load_ns,
		.prefill_ns = op->report.prefill_ns,
	};
}

/* The next open unit of the part. */
static bool part_skip(struct part *part)
{
	while (part->next < part->end && !part_has(part, part->next))
		part->next++;
	return part->next < part->end;
}

int frame_fill(struct frame *frame, struct part *part)
{
	const struct client_op *cop = part->cop;
	int rc = 0;

	fill_request(frame, cop->op, part->lease);
	if (cop->op->opcode == CTXKV_OP_REPORT)
		fill_report(frame, cop->op);
	if (cop->item_count == 0 || !part_skip(part))
		return 0;
	if (cop->op->opcode == CTXKV_OP_GET || cop->op->opcode == CTXKV_OP_PUT)
		rc = add_transfers(frame, part);
	else
		add_keys(frame, part, cop->is_to_all ? TO_ALL_MAX : WIRE_ITEM_MAX);
	ASSERT(rc < 0 || frame->count > 0);
	return rc;
}

void frame_undo(const struct frame *frame, const struct part *part)
{
	const struct client_op *cop = part->cop;

	if (!session_is_direct(frame->session))
		return;
	for (uint32_t at = part->next; at < part->next + frame->count; at++)
		item_state(&cop->op->items[op_unit_at(cop, at)])->slot = 0;
}
