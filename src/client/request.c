/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From ops to frames. client_pump() takes the waiting ops in order of arrival, puts apart from the
 * rest (a put that waits for credit does not hold up a probe), and sends one frame at a time
 * (frame.c), each on the lane with the smallest backlog.
 *
 * Credit: a frame of more than WIRE_FREE_MAX bytes (body and payload) uses up so many bytes of
 * credit, smaller ones none. Frames are built for the credit there is: none waits for more.
 *
 * Failure: no slot, credit or room in the lane: the op goes on waiting, nothing was taken; answers,
 * credit and writable() come back here. A send that fails otherwise is followed by the lane's
 * closed().
 */
#include <string.h>

#include "frame.h"

/* What follows the request in the body of a small frame: a DECLARE at most. */
#define SMALL_BODY_MAX 64

/* --- slots --- */

/* Whether the server has room for one more. */
static bool has_request_room(const struct client *client)
{
	const struct session *session = &client->session;
	uint32_t count = client->request_count;

	for (uint32_t i = 0; i < session->group.lane_count; i++)
		count += session->lanes[i].ghost_count;
	return count < session->welcome.request_max;
}

static struct request *request_take(struct client *client, enum wire_kind kind)
{
	struct request *request;

	if (!has_request_room(client))
		return NULL;
	request = list_head(&client->free_requests, struct request, node);
	if (request == NULL)
		return NULL;
	ASSERT(request->id == 0);
	list_del(&request->node);
	request->generation++;
	request->id =
		id_make(ID_REQUEST, request->generation, (uint32_t)(request - client->requests));
	request->kind = kind;
	request->cop = NULL;
	request->text = NULL;
	request->lane = NULL;
	request->first = 0;
	request->count = 0;
	request->open_count = 0;
	request->has_last = false;
	client->request_count++;
	return request;
}

static void slot_give(struct client *client, struct request *request)
{
	ASSERT(request->id != 0);
	ASSERT(client->request_count > 0);
	request->id = 0;
	client->request_count--;
	list_add_tail(&client->free_requests, &request->node);
}

void client_request_free(struct client *client, struct request *request)
{
	slot_give(client, request);
	client->env->ops->defer(client->env, &client->pump_task); /* room for another */
}

struct request *client_request_find(struct client *client, uint64_t id)
{
	uint32_t index = id_index_of(id);

	if (index >= client->request_slots || client->requests[index].id != id)
		return NULL;
	return &client->requests[index];
}

void request_end(struct request *request)
{
	struct client_op *cop = request->cop;
	struct client *client = cop->client;

	if (session_is_up(client) && !client_is_direct(client))
		client->xprt->forget(&client->session.group, request->id);
	if (!request->has_last)
		request->lane->ghost_count++;
	list_del(&request->node);
	cop->request_count--;
	client_request_free(client, request);
	op_release_check(cop);
}

void request_fail(struct client *client, struct request *request, int status)
{
	struct client_op *cop = request->cop;
	uint32_t first = request->first;
	uint32_t end = first + MAX(request->count, 1u);

	if (cop == NULL) {
		text_finish(client, request->text, status, NULL, 0);
		return;
	}
	request_end(request);
	for (uint32_t unit = first; unit < end && !cop->has_result; unit++) {
		if (!op_unit_is_done(cop, unit))
			op_unit_lose(cop, unit, status);
	}
}

/* --- sending --- */

/* Direct transports move the data past the lanes: one lane keeps DECLARE before its users. */
static struct client_lane *lane_pick(struct client *client)
{
	struct xprt_lane *lane = client->session.group.lanes[0];

	if (!client_is_direct(client))
		lane = xprt_group_pick(&client->session.group);
	return lane == NULL ? NULL : lane->ctx;
}

static int frame_send(struct frame *frame, struct request *request)
{
	struct client *client = frame->client;
	struct session *session = &client->session;
	uint32_t cost = frame->body_size + frame->payload_size;
	struct wire_header header;
	int rc;

	if (cost <= WIRE_FREE_MAX)
		cost = 0;
	if (cost > session->credit_given - session->credit_used)
		return -EAGAIN;
	request->lane = lane_pick(client);
	if (request->lane == NULL)
		return -EAGAIN;

	wire_header_init(&header, request->kind, request->id, (uint16_t)frame->count,
			 frame->body_size);
	header.payload_size = frame->payload_size;
	rc = client->xprt->send(request->lane->lane, &header, frame->body, frame->iov,
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

/* One more request of an op. 0: sent, or none was left. -EAGAIN: not now. */
static int op_send(struct client *client, struct client_op *cop)
{
	struct request *request;
	struct frame frame;
	int rc;

	frame_begin(&frame, client, cop->deadline_ns);
	rc = frame_fill(&frame, cop, &cop->next);
	if (rc == -EINVAL) {
		op_unit_finish(cop, cop->next, rc); /* more pieces than the transport can name */
		return 0;
	}
	if (rc < 0)
		return rc;
	if (cop->item_count > 0 && frame.count == 0)
		return 0;

	if (cop->request_count == OP_REQUEST_MAX)
		return -EAGAIN;
	request = request_take(client, kind_of(cop->op));
	if (request == NULL)
		return -EAGAIN;
	rc = frame_send(&frame, request);
	if (rc < 0) {
		slot_give(client, request);
		return rc;
	}
	request->cop = cop;
	request->first = cop->next;
	request->count = frame.count;
	request->open_count = MAX(frame.count, 1u);
	list_add_tail(&cop->requests, &request->node);
	cop->request_count++;
	cop->next += request->open_count;
	if (cop->sent_ns == 0)
		cop->sent_ns = env_now_ns(client->env);
	return 0;
}

static void pump_waiting(struct client *client, struct list *waiting)
{
	struct client_op *cop;

	while ((cop = list_head(waiting, struct client_op, node)) != NULL) {
		while (!cop->has_result && cop->next < cop->unit_count) {
			if (op_send(client, cop) < 0)
				return;
		}
		if (!cop->has_result)
			list_del(&cop->node);
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

static void pump_texts(struct client *client)
{
	struct client_text *text;

	while ((text = list_head(&client->texts, struct client_text, node)) != NULL) {
		struct request *request = request_take(client, WIRE_STAT);
		struct frame frame;

		if (request == NULL)
			return;
		frame_begin(&frame, client, text->timer.when_ns);
		if (frame_send(&frame, request) < 0) {
			slot_give(client, request);
			return;
		}
		list_del(&text->node);
		request->text = text;
		request->open_count = 1;
		text->request = request->id;
	}
}

void client_pump(struct client *client)
{
	if (!session_is_up(client))
		return;
	if (client_is_direct(client) && region_flush(client) < 0)
		return;
	pump_cancels(client);
	pump_texts(client);
	for (uint32_t i = 0; i < WAITING_COUNT; i++)
		pump_waiting(client, &client->waiting[i]);
}

static void pump_run(struct env_task *task)
{
	client_pump(CONTAINER_OF(task, struct client, pump_task));
}

int request_send_small(struct client *client, enum wire_kind kind, uint64_t id, const void *more,
		       size_t more_size)
{
	struct client_lane *lane = &client->session.lanes[0];
	struct wire_header header;
	/* Not the client's: a request whose regions are being declared is built in that. */
	struct {
		struct wire_request request;
		uint64_t more[SMALL_BODY_MAX / sizeof(uint64_t)];
	} body = { .more = { 0 } };

	ASSERT(more_size <= sizeof(body.more));
	if (!session_is_up(client) || !has_request_room(client))
		return -EAGAIN;
	memcpy(body.more, more, more_size);
	wire_header_init(&header, kind, id, 0, (uint32_t)(sizeof(body.request) + more_size));
	if (client->xprt->send(lane->lane, &header, &body, NULL, 0) < 0)
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

		if (request->lane == lane)
			body.cancels[count++].request = request->id;
	}
	if (count == 0 || lane->lane == NULL)
		return 0;
	wire_header_init(&header, WIRE_CANCEL,
			 id_make_cancel(lane->index, cop->generation, cop->index), count,
			 (uint32_t)(sizeof(body.request) + count * sizeof(body.cancels[0])));
	rc = cop->client->xprt->send(lane->lane, &header, &body, NULL, 0);
	if (rc == 0)
		lane->ghost_count++;
	return rc;
}

int request_cancel(struct client_op *cop)
{
	struct session *session = &cop->client->session;
	int worst = 0;

	if (session->state != SESSION_UP)
		return 0;
	for (uint32_t i = 0; i < session->group.lane_count; i++) {
		int rc = lane_cancel(cop, &session->lanes[i]);

		worst = MIN(worst, rc);
	}
	return worst;
}

void request_fail_waiting(struct client *client, int status)
{
	struct client_text *text;
	struct client_op *cop;

	for (uint32_t i = 0; i < WAITING_COUNT; i++) {
		while ((cop = list_head(&client->waiting[i], struct client_op, node)) != NULL)
			op_fail(cop, status);
	}
	while ((text = list_head(&client->texts, struct client_text, node)) != NULL)
		text_finish(client, text, status, NULL, 0);
}

void request_init(struct client *client)
{
	client->pump_task.run = pump_run;
	list_init(&client->free_requests);
	list_init(&client->texts);
	for (uint32_t i = 0; i < client->request_slots; i++) {
		list_init(&client->requests[i].node);
		list_add_tail(&client->free_requests, &client->requests[i].node);
	}
}
