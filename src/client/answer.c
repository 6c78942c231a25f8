/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes back from the server. A REPLY gives items their results; a BITMAP all of them at once.
 * Over transports where the client itself receives the data, a get's result and its bytes come over
 * different lanes in any order: the item is done when the result is there and as many bytes have
 * landed as it says. Over direct ones the result comes after the bytes; what is staged is copied to
 * the caller then, and its slot is free.
 *
 * When the server asks for it (verify = all), the bytes that arrived are summed here, frame by
 * frame where they come in frames, and compared with the result: a difference is -ERR_CORRUPT, a
 * miss.
 *
 * Failure: an answer to a request that is no more is passed over; one that makes no sense ends the
 * session.
 */
#include <string.h>

#include "../base/hash.h"
#include "../base/log.h"
#include "client_priv.h"

/* A request of the lane's session. */
static struct request *request_find(const struct client_lane *lane, uint64_t id)
{
	struct request *request = client_request_find(lane_client(lane), id);

	return request != NULL && request->session == lane->session ? request : NULL;
}

static bool is_given_up(const struct request *request)
{
	return request->is_orphan || (request->cop != NULL && request->cop->has_result);
}

/* --- units --- */

static bool is_transfer(const struct request *request)
{
	return request->kind == WIRE_GET || request->kind == WIRE_PUT;
}

/* A get's bytes done_size … end - 1 to where the caller wants them. */
static void get_unstage(struct request *request, struct ctxkv_item *item, uint64_t end)
{
	struct client *client = request->cop->client;
	const struct stage *stage = &client->stage;
	uint64_t slot = item_state(item)->slot;

	if (!session_is_direct(request->session) || slot == 0)
		return;
	stage_copy_out(stage, stage_slot_at(stage, (uint32_t)slot - 1), item, item->done_size, end);
	client->stat.bytes_copied += end - item->done_size;
}

/* The server's word on a unit of a request. The request may end with it. */
static void unit_over(struct request *request, uint32_t unit)
{
	struct client_op *cop = request->cop;

	if (is_transfer(request) && session_is_direct(request->session))
		region_unstage(cop->client, &cop->op->items[unit]);

	ASSERT(request->open_count > 0);
	request->open_count--;
	if (request->open_count == 0)
		request_end(request);
}

static void unit_finish(struct request *request, uint32_t unit, int status)
{
	struct client_op *cop = request->cop;

	unit_over(request, unit);
	op_unit_finish(cop, unit, status);
}

/* Bytes of it have come. */
static bool is_begun(const struct request *request, const struct item_state *state)
{
	return request->kind == WIRE_GET && !session_is_direct(request->session) &&
	       state->landed > 0;
}

/* A unit that the server had no room for: true when it is sent again. */
static bool unit_again(struct request *request, uint32_t unit, uint32_t position)
{
	const struct item_state *state = item_state(&request->cop->op->items[unit]);

	if ((state->flags & (ITEM_DONE | ITEM_ANSWERED)) != 0 || is_begun(request, state) ||
	    !busy_again(request, position))
		return false;
	unit_over(request, unit);
	return true;
}

static uint32_t item_crc(const struct ctxkv_item *item, uint64_t offset, uint64_t size)
{
	uint32_t crc = 0;

	for (uint32_t i = 0; size > 0; i++) {
		const struct ctxkv_iov *iov = &item->iov[i];
		uint64_t piece;

		ASSERT(i < item->iov_count);
		if (offset >= iov->size) {
			offset -= iov->size;
			continue;
		}
		piece = MIN(size, iov->size - offset);
		crc = crc32c(crc, (const uint8_t *)iov->base + offset, piece);
		size -= piece;
		offset = 0;
	}
	return crc;
}

/* A frame's bytes, while they are near the CPU. Frames come in any order: see crc32c_combine(). */
static void landed_sum(struct ctxkv_item *item, uint64_t offset, uint32_t size)
{
	struct item_state *state = item_state(item);
	uint32_t crc = item_crc(item, offset, size);

	state->sum ^= crc32c_combine(crc, 0, state->room - (offset + size));
}

static bool get_is_right(const struct request *request, struct ctxkv_item *item)
{
	const struct item_state *state = item_state(item);

	if ((state->flags & ITEM_CRC) == 0)
		return true;
	if (session_is_direct(request->session))
		return item_crc(item, 0, state->size) == state->crc;
	return state->sum == crc32c_combine(state->crc, 0, state->room - state->size);
}

/*
 * What arrived is not what the server has noted of the block. It does not look itself before it
 * sends a block that is in its memory (we do): now it shall, and forget the block if it went bad
 * there. Where progress is told the server checks first; a byte is enough to ask for.
 */
static void get_doubt(const struct request *request, const struct ctxkv_item *item)
{
	struct client *client = request->cop->client;
	struct wire_request fixed = { .budget_ns = NS_PER_S, .flags = WIRE_REQ_PROGRESS };
	struct wire_get get = {
		.record = { item->record.sequence, (uint16_t)item->record.shard, 0, 0 },
		.size = 1,
	};
	int rc;

	if (session_is_direct(request->session))
		return;
	memcpy(fixed.ns, request->cop->op->ns.bytes, sizeof(fixed.ns));
	memcpy(fixed.domain, request->cop->op->domain, sizeof(fixed.domain));
	memcpy(get.key.bytes, item->key.bytes, sizeof(get.key.bytes));
	rc = request_send_small(request->session, WIRE_GET, id_make(ID_ASIDE, ++client->asides, 0),
				&fixed, &get, sizeof(get));
	(void)rc; /* no room for it: who gets the block next doubts it again */
}

/* Result and bytes are there. */
static void get_finish(struct request *request, uint32_t unit)
{
	struct client *client = request->cop->client;
	struct ctxkv_item *item = &request->cop->op->items[unit];
	const struct item_state *state = item_state(item);

	client->stat.bytes_in += state->size;
	get_unstage(request, item, state->size);
	if (!get_is_right(request, item)) {
		client->stat.corrupt++;
		log_warn("server %s sent bytes with a wrong checksum size %llu",
			 request->session->server->address, (unsigned long long)state->size);
		get_doubt(request, item);
		unit_finish(request, unit, -ERR_CORRUPT);
		return;
	}
	__atomic_store_n(&item->done_size, state->size, __ATOMIC_RELEASE);
	unit_finish(request, unit, 0);
}

/* --- REPLY --- */

/*
 * Bytes that the server has checked, in order. Over tcp they came before this on the same lane.
 * Where the client checks, too (verify is all), nothing counts before it has.
 */
static void get_progress(struct request *request, struct ctxkv_item *item,
			 const struct wire_result *result)
{
	const struct session *session = request->session;
	const struct item_state *state = item_state(item);
	uint64_t size = MIN((uint64_t)result->size, state->room);

	if (session->welcome.verify == WIRE_VERIFY_ALL)
		return;
	if (!session_is_direct(session))
		size = MIN(size, state->landed);
	if (size <= item->done_size)
		return;
	get_unstage(request, item, size);
	__atomic_store_n(&item->done_size, size, __ATOMIC_RELEASE);
}

static int get_result(struct request *request, uint32_t unit, const struct wire_result *result)
{
	bool is_direct = session_is_direct(request->session);
	struct ctxkv_item *item = &request->cop->op->items[unit];
	struct item_state *state = item_state(item);

	if ((state->flags & (ITEM_DONE | ITEM_ANSWERED)) != 0)
		return -ERR_PROTOCOL;
	if ((result->flags & WIRE_RESULT_PROGRESS) != 0) {
		get_progress(request, item, result);
		return 0;
	}
	if (result->status < 0) {
		unit_finish(request, unit, result->status);
		return 0;
	}
	if (result->size > state->room)
		return -ERR_PROTOCOL;
	if (is_direct ? item->done_size > result->size : state->landed > result->size)
		return -ERR_PROTOCOL;

	item->record.sequence = result->record.sequence;
	item->record.shard = result->record.shard;
	item->block_size = result->block_size;
	state->size = result->size;
	state->crc = result->crc;
	state->flags |= ITEM_ANSWERED;
	if (request->session->welcome.verify == WIRE_VERIFY_ALL &&
	    (result->flags & WIRE_RESULT_CRC) != 0)
		state->flags |= ITEM_CRC;
	if (is_direct || state->landed == state->size)
		get_finish(request, unit);
	return 0;
}

static int put_result(struct request *request, uint32_t unit, const struct wire_result *result)
{
	struct client *client = request->cop->client;
	struct ctxkv_item *item = &request->cop->op->items[unit];
	struct item_state *state = item_state(item);

	if ((state->flags & ITEM_DONE) != 0)
		return -ERR_PROTOCOL;
	if ((result->flags & WIRE_RESULT_EXISTED) != 0)
		item->flags |= CTXKV_EXISTED;
	else if (result->status == 0)
		client->stat.bytes_out += state->room;
	if (session_is_direct(request->session) && state->slot != 0)
		client->stat.bytes_copied += state->room;
	if ((result->flags & WIRE_RESULT_DURABLE) != 0)
		item->flags |= CTXKV_WAS_DURABLE;
	unit_finish(request, unit, result->status);
	return 0;
}

/* DROP, RENEW and REPORT. */
static int control_result(struct request *request, uint32_t unit, const struct wire_result *result)
{
	const struct client_op *cop = request->cop;
	uint64_t bit = UINT64_C(1) << result->item % TO_ALL_MAX;
	int status = result->status;

	if (op_unit_is_done(cop, unit) || (request->answered & bit) != 0)
		return -ERR_PROTOCOL;
	request->answered |= bit;
	/* Each reactor is asked for all keys, and has but some. */
	if (cop->is_to_all && cop->item_count > 0 && status == -ERR_CHANGED &&
	    !server_has(request->session, &cop->op->items[unit].key))
		status = 0;
	unit_finish(request, unit, status);
	return 0;
}

/* PROBE, LEASE and STAT are answered by other frames, but may be refused whole. */
static int refusal(struct client *client, struct request *request, const struct wire_result *result)
{
	if (result->status >= 0)
		return -ERR_PROTOCOL;
	request_fail(client, request, result->status);
	return 0;
}

static int unit_result(struct client *client, struct request *request,
		       const struct wire_result *result)
{
	struct client_op *cop = request->cop;
	uint32_t unit;

	if (result->item >= MAX(request->count, 1u))
		return -ERR_PROTOCOL;
	if (cop == NULL)
		return refusal(client, request, result); /* STAT's */
	unit = op_unit_at(cop, request->first + result->item);
	if (busy_took(request, unit))
		return -ERR_PROTOCOL; /* it was refused: another request has it */
	if (is_transfer(request) && result->status != -ERR_BUSY)
		busy_passed(request);
	else if (is_transfer(request) && unit_again(request, unit, request->first + result->item))
		return 0;
	switch (request->kind) {
	case WIRE_GET:
		return get_result(request, unit, result);
	case WIRE_PUT:
		return put_result(request, unit, result);
	case WIRE_DROP:
	case WIRE_RENEW:
	case WIRE_REPORT:
		return control_result(request, unit, result);
	default:
		return refusal(client, request, result);
	}
}

/* A request of cop that went on lane; NULL: none is left. */
static struct request *request_on_lane(const struct client_op *cop, const struct client_lane *lane)
{
	list_for_each (node, &cop->requests) {
		struct request *request = list_entry(node, struct request, node);

		if (request->lane == lane)
			return request;
	}
	return NULL;
}

/*
 * The answer to a CANCEL: nothing lands any more for the requests of that op on that lane. If it
 * was refused it says nothing: the requests' own last answers do, or the end of the lanes.
 */
static void answer_cancel(struct client_lane *lane, const struct xprt_frame *frame)
{
	const struct wire_result *results = wire_items(frame->header, frame->body);
	struct client *client = lane_client(lane);
	uint64_t id = frame->header->request;
	uint32_t index = id_index_of(id);
	struct request *request;
	struct client_op *cop;

	if (index >= client->opts.inflight_max)
		return;
	cop = &client->ops[index];
	if (cop->op == NULL || id != id_make_cancel(lane->index, cop->generation, index))
		return;
	for (uint32_t i = 0; i < frame->header->count; i++)
		cop->is_cancel_refused |= results[i].status != 0;
	if ((frame->header->flags & WIRE_FLAG_LAST) == 0 || cop->is_cancel_refused ||
	    !cop->has_result)
		return;
	while (cop->request_count > 0 && (request = request_on_lane(cop, lane)) != NULL)
		request_end(request);
}

/* Any result may end the request, and what is behind it is then nobody's. */
static int answer_results(struct client_lane *lane, const struct xprt_frame *frame)
{
	struct client *client = lane_client(lane);
	const struct wire_header *header = frame->header;
	const struct wire_result *results = wire_items(header, frame->body);

	for (uint32_t i = 0; i < header->count; i++) {
		struct request *request = request_find(lane, header->request);
		int rc;

		if (request == NULL || is_given_up(request))
			return 0;
		rc = unit_result(client, request, &results[i]);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int answer_reply(struct client_lane *lane, const struct xprt_frame *frame)
{
	const struct wire_header *header = frame->header;
	const struct wire_result *results = wire_items(header, frame->body);
	struct request *request;
	int rc;

	switch (id_tag_of(header->request)) {
	case ID_CANCEL:
		answer_cancel(lane, frame);
		return 0;
	case ID_REGION:
		return region_answered(lane->session,
				       (uint32_t)(header->request >> REQUEST_INDEX_BITS),
				       results[0].status);
	case ID_ASIDE:
		return 0;
	case ID_REQUEST:
		break;
	default:
		return -ERR_PROTOCOL;
	}
	rc = answer_results(lane, frame);
	if (rc < 0)
		return rc;
	/* An op that was given up: the last answer releases it like the answer to its CANCEL. */
	request = request_find(lane, header->request);
	if (request != NULL && is_given_up(request) && (header->flags & WIRE_FLAG_LAST) != 0)
		request_end(request);
	return 0;
}

/* --- BITMAP and TEXT --- */

static bool is_here(const struct wire_bitmap *bitmap, uint32_t index)
{
	const uint8_t *bits = (const uint8_t *)(bitmap + 1);

	return (bits[index / 8] >> index % 8 & 1) != 0;
}

/* A lease on the first of those that are here. Returns how many it holds. */
static uint32_t bitmap_lease(const struct request *request, const struct wire_bitmap *bitmap)
{
	struct client_op *cop = request->cop;

	if (cop->op->opcode != CTXKV_OP_LEASE || bitmap->lease == 0)
		return 0;
	for (uint32_t i = 0; i < request->count; i++) {
		if (is_here(bitmap, i))
			return lease_add(cop, request->session, bitmap,
					 op_unit_at(cop, request->first + i))
				       ? bitmap->leased
				       : 0;
	}
	return 0;
}

/* The leading run: here, or held by a lease that was asked for. */
static bool is_of_run(struct client_op *cop, uint32_t unit)
{
	struct ctxkv_item *item = &cop->op->items[unit];

	if (cop->op->opcode == CTXKV_OP_LEASE && cop->op->duration_ms != 0)
		return (item_state(item)->flags & ITEM_HELD) != 0;
	return item->is_here != 0;
}

/* The first so many of those that are here are held. */
static void bitmap_hold(const struct request *request, const struct wire_bitmap *bitmap)
{
	uint32_t held = bitmap_lease(request, bitmap);
	struct client_op *cop = request->cop;

	for (uint32_t i = 0; i < request->count && held > 0; i++) {
		uint32_t unit = op_unit_at(cop, request->first + i);

		if (!is_here(bitmap, i))
			continue;
		item_state(&cop->op->items[unit])->flags |= ITEM_HELD;
		held--;
	}
}

static void bitmap_items(const struct request *request, const struct wire_bitmap *bitmap)
{
	struct client_op *cop = request->cop;

	bitmap_hold(request, bitmap);
	for (uint32_t i = 0; i < request->count; i++) {
		uint32_t unit = op_unit_at(cop, request->first + i);
		struct ctxkv_item *item = &cop->op->items[unit];

		item->is_here = is_here(bitmap, i);
		if (bitmap->status == 0)
			op_item_settle(item, item->is_here != 0 ? 0 : -ERR_MISS);
	}
	/* Bitmaps of several requests come in any order. */
	while (cop->op->run < cop->item_count && is_of_run(cop, (uint32_t)cop->op->run))
		cop->op->run++;
}

static int answer_bitmap(struct client_lane *lane, const struct xprt_frame *frame)
{
	const struct wire_bitmap *bitmap = frame->body;
	struct request *request = request_find(lane, frame->header->request);
	struct request was;
	struct client_op *cop;

	if (request == NULL)
		return 0;
	if ((request->kind != WIRE_PROBE && request->kind != WIRE_LEASE) ||
	    frame->header->count != request->count)
		return -ERR_PROTOCOL;
	was = *request;
	cop = was.cop;
	request_end(request);
	if (cop->has_result)
		return 0;

	bitmap_items(&was, bitmap);
	if (bitmap->status < 0)
		request_lose_units(cop, &was, bitmap->status);
	else
		op_settled(cop, was.count);
	return 0;
}

static int answer_text(struct client_lane *lane, const struct xprt_frame *frame)
{
	struct client *client = lane_client(lane);
	const struct wire_text *text = frame->body;
	struct request *request = request_find(lane, frame->header->request);

	if (request == NULL)
		return 0;
	if (request->text == NULL)
		return -ERR_PROTOCOL;
	text_finish(client, request->text, text->status, (const char *)(text + 1), text->size);
	return 0;
}

static int answer_notice(struct session *session, const struct wire_notice *notice)
{
	switch (notice->code) {
	case WIRE_NOTICE_CREDIT:
		return 0;
	case WIRE_NOTICE_REVOKED:
		return -ERR_AUTH;
	case WIRE_NOTICE_DRAINING:
		server_drains(session->server);
		return 0;
	default:
		log_info("server %s says: %s", session->server->address,
			 notice->text[0] != '\0' ? (const char *)notice->text : "going away");
		return 0;
	}
}

/* The server's last word on a request: it no longer counts there. */
static void answer_last(struct client_lane *lane, const struct wire_header *header)
{
	struct request *request;

	if (header->kind == WIRE_NOTICE ||
	    (header->kind == WIRE_REPLY && (header->flags & WIRE_FLAG_LAST) == 0))
		return;
	request = request_find(lane, header->request);
	if (request != NULL)
		request->has_last = true;
	else if (lane->ghost_count > 0)
		lane->ghost_count--;
	if (request == NULL && lane_client(lane)->is_region_short)
		sessions_pump_later(lane_client(lane));
}

int answer_frame(struct client_lane *lane, const struct xprt_frame *frame)
{
	answer_last(lane, frame->header);
	switch (frame->header->kind) {
	case WIRE_REPLY:
		return answer_reply(lane, frame);
	case WIRE_BITMAP:
		return answer_bitmap(lane, frame);
	case WIRE_TEXT:
		return answer_text(lane, frame);
	case WIRE_NOTICE:
		return answer_notice(lane->session, frame->body);
	default:
		return -ERR_PROTOCOL;
	}
}

/* --- data --- */

/*
 * The item that data of this kind is for; NULL: nobody waits for it. A put's bytes are given out as
 * long as its request lives, even when it has its outcome: a frame that is half sent must be ended.
 */
static struct ctxkv_item *data_item(struct client_lane *lane, enum wire_kind kind, uint64_t id,
				    uint32_t item, struct request **request_out)
{
	struct request *request = request_find(lane, id);
	uint32_t unit;

	if (request == NULL || item >= request->count || request->cop == NULL ||
	    request->cop->has_result)
		return NULL;
	if (request->kind != (kind == WIRE_GRANT ? WIRE_PUT : WIRE_GET))
		return NULL;
	unit = op_unit_at(request->cop, request->first + item);
	if (kind != WIRE_GRANT && (op_unit_is_done(request->cop, unit) || busy_took(request, unit)))
		return NULL;
	*request_out = request;
	return &request->cop->op->items[unit];
}

int answer_locate(struct client_lane *lane, enum wire_kind kind, uint64_t id, uint32_t item_index,
		  uint64_t offset, uint32_t size, struct iovec *iov, uint32_t iov_max)
{
	struct request *request;
	const struct ctxkv_item *item = data_item(lane, kind, id, item_index, &request);
	uint32_t count = 0;

	if (item == NULL)
		return -ENOENT;
	if (offset > item_room(item) || size > item_room(item) - offset)
		return -ERR_PROTOCOL;
	for (uint32_t i = 0; size > 0 && count < iov_max; i++) {
		const struct ctxkv_iov *piece = &item->iov[i];
		uint64_t part;

		ASSERT(i < item->iov_count);
		if (offset >= piece->size) {
			offset -= piece->size;
			continue;
		}
		part = MIN(piece->size - offset, size);
		iov[count++] = (struct iovec) { (uint8_t *)piece->base + offset, part };
		size -= (uint32_t)part;
		offset = 0;
	}
	return (int)count;
}

void answer_landed(struct client_lane *lane, enum wire_kind kind, uint64_t id, uint32_t item_index,
		   uint64_t offset, uint32_t size)
{
	struct request *request;
	struct ctxkv_item *item = data_item(lane, kind, id, item_index, &request);
	struct item_state *state;

	if (item == NULL || kind == WIRE_GRANT)
		return;
	state = item_state(item);
	state->landed += size;
	if (lane->session->welcome.verify == WIRE_VERIFY_ALL)
		landed_sum(item, offset, size);
	if ((state->flags & ITEM_ANSWERED) != 0 && state->landed == state->size)
		get_finish(request, op_unit_at(request->cop, request->first + item_index));
}
