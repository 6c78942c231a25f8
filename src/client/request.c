/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From parts of ops to frames. session_pump() takes a session's waiting parts in order of arrival,
 * puts apart from the rest (a put that waits for credit does not hold up a probe), and sends one
 * frame at a time (frame.c), each on the lane that xprt_group_pick() says.
 *
 * Credit: a frame of more than WIRE_FREE_MAX bytes (body and payload) uses up so many bytes of
 * credit, smaller ones none. Frames are built for the credit there is: none waits for more.
 *
 * Slots are the client's, but SLOTS_A_SESSION belong to each session: one that does not answer
 * cannot take all.
 *
 * Failure: no slot, credit or room in the lane: the part goes on waiting, nothing was taken;
 * answers, credit and writable() come back here. What the server had no room for is sent again,
 * before other puts (busy.c). A send that fails otherwise is followed by the
 * lane's closed().
 */
#include <string.h>

#include "frame.h"

/* What follows the request in the body of a small frame: a DECLARE, or an item of a GET. */
#define SMALL_BODY_MAX 64

/* --- slots --- */

bool session_has_request_room(const struct session *session)
{
	uint32_t count = session->request_count;

	for (uint32_t i = 0; i < session->group.lane_count; i++)
		count += session->lanes[i].ghost_count;
	return count < session->welcome.request_max;
}

static struct request *request_take(struct session *session, enum wire_kind kind)
{
	struct client *client = session->client;
	bool is_shared = session->request_count >= SLOTS_A_SESSION;
	struct request *request;

	if (!session_has_request_room(session) ||
	    (is_shared && client->shared_used == client->shared_max))
		return NULL;
	request = list_head(&client->free_requests, struct request, node);
	ASSERT(request != NULL);
	ASSERT(request->id == 0);
	ASSERT(list_is_empty(&request->slots));
	list_del(&request->node);
	request->generation++;
	request->id =
		id_make(ID_REQUEST, request->generation, (uint32_t)(request - client->requests));
	request->kind = kind;
	request->cop = NULL;
	request->text = NULL;
	request->session = session;
	request->lane = NULL;
	request->first = 0;
	request->count = 0;
	request->open_count = 0;
	request->answered = 0;
	request->has_last = false;
	request->is_cancelled = false;
	request->is_in_place = false;
	request->is_orphan = false;
	request->fence = NULL;
	client->request_count++;
	client->shared_used += is_shared;
	session->request_count++;
	return request;
}

static void slot_give(struct client *client, struct request *request)
{
	struct session *session = request->session;
	uint32_t *held = session != NULL ? &session->request_count : &request->fence->request_count;

	ASSERT(request->id != 0);
	ASSERT(client->request_count > 0);
	ASSERT(*held > 0);
	request->id = 0;
	client->request_count--;
	client->shared_used -= *held > SLOTS_A_SESSION;
	--*held;
	list_add_tail(&client->free_requests, &request->node);
}

static void slots_unstage(struct client *client, struct request *request)
{
	struct stage_slot *slot;

	while ((slot = list_head(&request->slots, struct stage_slot, node)) != NULL)
		stage_give(&client->stage, slot);
}

/* It was not sent. */
static void request_drop(struct client *client, struct request *request)
{
	slots_unstage(client, request);
	region_requests_end(client, request);
	slot_give(client, request);
}

/* Something that all share is free after it was not. */
void sessions_pump_later(struct client *client)
{
	client->is_region_short = false;
	client->is_stage_short = false;
	for (uint32_t i = 0; i < client->opts.session_max; i++) {
		if (session_is_up(&client->sessions[i]) &&
		    session_has_waiting(&client->sessions[i]))
			session_pump_later(&client->sessions[i]);
	}
}

void client_request_free(struct client *client, struct request *request)
{
	struct session *session = request->session;

	request_drop(client, request);
	if (session != NULL)
		session_pump_later(session); /* room for another */
	if (client->shared_used + 1 == client->shared_max || client->is_region_short ||
	    client->is_stage_short)
		sessions_pump_later(client);
}

struct request *client_request_find(struct client *client, uint64_t id)
{
	uint32_t index = id_index_of(id);

	if (index >= client->request_slots || client->requests[index].id != id)
		return NULL;
	return &client->requests[index];
}

bool request_is_exposed(const struct request *request)
{
	return request->is_in_place || !list_is_empty(&request->slots);
}

void request_over(struct client *client, struct request *request)
{
	struct client_op *cop = request->cop;

	list_del(&request->node);
	client_request_free(client, request);
	if (cop == NULL)
		return;
	cop->request_count--;
	op_release_check(cop);
}

void request_end(struct request *request)
{
	struct session *session = request->session;

	if (session_is_up(session) && !session_is_direct(session))
		session->xprt->forget(&session->group, request->id);
	if (!request->has_last)
		request->lane->ghost_count++;
	request_over(session->client, request);
}

void request_orphan(struct request *request)
{
	ASSERT(!request->is_in_place);
	list_del(&request->node);
	request->cop->request_count--;
	request->cop = NULL;
	request->is_orphan = true;
}

/* To all: this request has said what it has to say of it. */
static bool is_answered(const struct request *request, uint32_t position)
{
	return request->cop->is_to_all &&
	       (request->answered >> (position - request->first) & 1) != 0;
}

void request_lose_units(struct client_op *cop, const struct request *was, int status)
{
	uint32_t first = was->first;
	uint32_t end = first + MAX(was->count, 1u);

	for (; first < end && !cop->has_result; first++) {
		uint32_t unit = op_unit_at(cop, first);

		if (!op_unit_is_done(cop, unit) && !is_answered(was, first) &&
		    !busy_took(was, unit))
			op_unit_lose(cop, unit, status);
	}
}

void request_fail(struct client *client, struct request *request, int status)
{
	const struct request was = *request;
	struct client_op *cop = request->cop;

	if (request->is_orphan) {
		request_over(client, request);
		return;
	}
	if (cop == NULL) {
		text_finish(client, request->text, status, NULL, 0);
		return;
	}
	request_end(request);
	request_lose_units(cop, &was, status);
}

/* --- sending --- */

/* Direct transports move the data past the lanes: one lane keeps DECLARE before its users. */
static struct client_lane *lane_pick(struct session *session)
{
	struct xprt_lane *lane = session->group.lanes[0];

	if (!session_is_direct(session))
		lane = xprt_group_pick(&session->group);
	return lane == NULL ? NULL : lane->ctx;
}

static int frame_send(struct frame *frame, struct request *request)
{
	struct session *session = frame->session;
	struct client *client = session->client;
	uint32_t cost = frame->body_size + frame->payload_size;
	struct wire_header header;
	int rc;

	if (cost <= WIRE_FREE_MAX)
		cost = 0;
	if (cost > session->credit_given - session->credit_used)
		return -EAGAIN;
	request->lane = lane_pick(session);
	if (request->lane == NULL)
		return -EAGAIN;

	wire_header_init(&header, request->kind, request->id, (uint16_t)frame->count,
			 frame->body_size);
	header.payload_size = frame->payload_size;
	rc = session->xprt->send(request->lane->lane, &header, frame->body, frame->iov,
				 frame->iov_count);
	if (rc < 0)
		return -EAGAIN; /* if not for room, closed() follows */
	session->credit_used += cost;
	if (session->asked_ns == 0)
		session->asked_ns = env_now_ns(client->env);
	return 0;
}

static enum wire_kind kind_of(const struct ctxkv_op *op)
{
	static const enum wire_kind kinds[] = {
		[CTXKV_OP_PROBE] = WIRE_PROBE,   [CTXKV_OP_LEASE] = WIRE_LEASE,
		[CTXKV_OP_GET] = WIRE_GET,       [CTXKV_OP_PUT] = WIRE_PUT,
		[CTXKV_OP_DROP] = WIRE_DROP,     [CTXKV_OP_RENEW] = WIRE_RENEW,
		[CTXKV_OP_REPORT] = WIRE_REPORT,
	};

	ASSERT(op->opcode > 0 && op->opcode < ARRAY_LEN(kinds));
	return kinds[op->opcode];
}

/* Requests of an op at one session: fits the frame of its CANCEL. */
static bool has_cancel_room(const struct client_op *cop, const struct session *session)
{
	uint32_t count = 0;

	if (cop->request_count < OP_REQUEST_MAX)
		return true;
	list_for_each (node, &cop->requests)
		count += list_entry(node, struct request, node)->session == session;
	return count < OP_REQUEST_MAX;
}

/* One more request of a part. 0: sent, or none was left. -EAGAIN: not now. */
static int part_send(struct part *part)
{
	struct session *session = part->session;
	struct client_op *cop = part->cop;
	struct client *client = cop->client;
	struct request *request;
	struct frame frame;
	int rc;

	if (!has_cancel_room(cop, session))
		return -EAGAIN;
	request = request_take(session, kind_of(cop->op));
	if (request == NULL)
		return -EAGAIN;
	frame_begin(&frame, request, cop->deadline_ns);
	rc = frame_fill(&frame, part);
	if (rc == 0 && cop->item_count > 0 && frame.count == 0) {
		request_drop(client, request); /* no unit of it is open */
		return 0;
	}
	if (rc == 0)
		rc = frame_send(&frame, request);
	if (rc < 0) {
		frame_undo(&frame, part);
		request_drop(client, request);
	}
	if (rc == -EINVAL) {
		uint32_t unit = op_unit_at(cop, part->next++);

		op_unit_finish(cop, unit, rc); /* more pieces than the transport can name */
		return 0;
	}
	if (rc < 0)
		return rc;
	request->cop = cop;
	request->first = part->next;
	request->count = frame.count;
	request->open_count = MAX(frame.count, 1u);
	busy_sent(part, request, frame.count);
	list_add_tail(&cop->requests, &request->node);
	cop->request_count++;
	part->next += request->open_count;
	if (cop->sent_ns == 0)
		cop->sent_ns = env_now_ns(client->env);
	return 0;
}

static void pump_waiting(struct list *waiting)
{
	struct part *part;

	while ((part = list_head(waiting, struct part, node)) != NULL) {
		if (part->next == part->end)
			part_free(part);
		else if (part_send(part) < 0)
			return;
	}
}

static void pump_cancels(struct client *client)
{
	list_for_each (node, &client->releasing) {
		struct client_op *cop = list_entry(node, struct client_op, node);

		if (cop->is_cancel_due)
			cop->is_cancel_due = request_cancel(cop) < 0;
	}
}

static void pump_texts(struct session *session)
{
	struct client *client = session->client;
	struct client_text *text;

	if (list_is_empty(&client->texts) || session != text_session(client))
		return;
	while ((text = list_head(&client->texts, struct client_text, node)) != NULL) {
		struct request *request = request_take(session, WIRE_STAT);
		struct frame frame;

		if (request == NULL)
			return;
		frame_begin(&frame, request, text->timer.when_ns);
		if (frame_send(&frame, request) < 0) {
			request_drop(client, request);
			return;
		}
		list_del(&text->node);
		request->text = text;
		request->open_count = 1;
		text->request = request->id;
	}
}

void session_pump(struct session *session)
{
	struct client *client = session->client;
	int rc = 0;

	if (!session_is_up(session))
		return;
	door_pump(session);
	if (door_is_held(session))
		return;
	if (session_is_direct(session))
		rc = region_flush(session);
	if (rc < 0 && rc != -EAGAIN)
		session_fail(session, rc, 1);
	if (rc < 0)
		return;
	pump_cancels(client);
	pump_texts(session);
	if (!session->busy_gets.timer.is_set)
		pump_waiting(&session->waiting[WAITING_GET_AGAIN]);
	if (!session->busy_puts.timer.is_set)
		pump_waiting(&session->waiting[WAITING_PUT_AGAIN]);
	pump_waiting(&session->waiting[WAITING_CONTROL]);
	if (list_is_empty(&session->waiting[WAITING_PUT_AGAIN]))
		pump_waiting(&session->waiting[WAITING_PUT]);
}

void session_pump_later(struct session *session)
{
	struct client *client = session->client;

	if (list_is_empty(&session->due_node))
		list_add_tail(&client->due, &session->due_node);
	client->env->ops->defer(client->env, &client->pump_task);
}

static void pump_run(struct env_task *task)
{
	struct client *client = CONTAINER_OF(task, struct client, pump_task);

	CHECK_OBJ(client, CLIENT_MAGIC);
	spread_ops(client);
	spread_pump(client);
}

int request_send_small(struct session *session, enum wire_kind kind, uint64_t id,
		       const struct wire_request *request, const void *more, size_t more_size)
{
	struct client_lane *lane = &session->lanes[0];
	struct wire_header header;
	/* Not the client's: a request whose regions are being declared is built in that. */
	struct {
		struct wire_request request;
		uint64_t more[SMALL_BODY_MAX / sizeof(uint64_t)];
	} body = { .more = { 0 } };

	ASSERT(more_size <= sizeof(body.more));
	if (!session_is_up(session) || !session_has_request_room(session))
		return -EAGAIN;
	if (request != NULL)
		body.request = *request;
	if (more_size > 0)
		memcpy(body.more, more, more_size);
	wire_header_init(&header, kind, id, kind == WIRE_GET,
			 (uint32_t)(sizeof(body.request) + more_size));
	if (session->xprt->send(lane->lane, &header, &body, NULL, 0) < 0)
		return -EAGAIN; /* if not for room, closed() follows */
	lane->ghost_count++;
	return 0;
}

/* A CANCEL goes on the lane of the requests it names: it must not overtake them. */
static int lane_cancel(struct client_op *cop, struct client_lane *lane)
{
	struct {
		struct wire_request request;
		struct wire_cancel cancels[OP_REQUEST_MAX];
	} body = { .request = { .budget_ns = 0 } };
	struct wire_header header;
	uint16_t count = 0;
	int rc;

	_Static_assert(sizeof(body) <= WIRE_FREE_MAX, "a CANCEL never waits for credit");
	list_for_each (node, &cop->requests) {
		const struct request *request = list_entry(node, struct request, node);

		if (request->lane == lane && !request->is_cancelled)
			body.cancels[count++].request = request->id;
	}
	if (count == 0 || lane->lane == NULL)
		return 0;
	wire_header_init(&header, WIRE_CANCEL,
			 id_make_cancel(lane->index, cop->generation, cop->index), count,
			 (uint32_t)(sizeof(body.request) + count * sizeof(body.cancels[0])));
	rc = lane->xprt->send(lane->lane, &header, &body, NULL, 0);
	if (rc < 0)
		return rc;
	lane->ghost_count++;
	list_for_each (node, &cop->requests) {
		struct request *request = list_entry(node, struct request, node);

		request->is_cancelled |= request->lane == lane;
	}
	return 0;
}

int request_cancel(struct client_op *cop)
{
	int worst = 0;

	list_for_each (node, &cop->requests) {
		struct request *request = list_entry(node, struct request, node);

		if (!request->is_cancelled && request->session != NULL &&
		    session_is_up(request->session))
			worst = MIN(worst, lane_cancel(cop, request->lane));
	}
	return worst;
}

void request_init(struct client *client)
{
	client->pump_task.run = pump_run;
	list_init(&client->free_requests);
	list_init(&client->texts);
	for (uint32_t i = 0; i < client->request_slots; i++) {
		list_init(&client->requests[i].node);
		list_init(&client->requests[i].slots);
		list_add_tail(&client->free_requests, &client->requests[i].node);
	}
}
