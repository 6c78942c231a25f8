/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request: from its frame to the last answer.
 *
 *   1. the frame has been checked and paid for. May this tenant do this here? Is there room?
 *   2. its kind's function makes an op of every item, or answers on the spot
 *   3. ops are ANSWERED in any order; at the end of the loop's turn results that are ready go out
 *      together, in REPLY frames of at most WIRE_REPLY_MAX
 *   4. the last item's frame carries LAST; then the id is forgotten, and a CANCEL that waits for
 *      this request is told
 *
 * An answer that cannot be sent now (-EAGAIN) stays where it is: results in their ops, bits in the
 * request. Nothing grows.
 *
 * Failure: what a whole request is refused for is the status of every item. The budget is a timer:
 * it gives up what is not answered. With its lane a request ends, and nobody is told.
 */
#include <string.h>

#include "reactor_priv.h"

#define REPLY_RESULT_MAX ((uint32_t)(WIRE_REPLY_MAX / sizeof(struct wire_result)))

/* What kinds there are, what they need, how they are answered. */
static const struct request_kind {
	uint8_t rights;
	bool is_bitmap;
	bool is_text;
	bool is_for_drain; /* is taken although the server is going */
	void (*begin)(struct request *request, const struct wire_header *header, const void *body);
} request_kinds[] = {
	[WIRE_PROBE] = { .rights = WIRE_RIGHT_READ, .is_bitmap = true, .begin = lookup_request },
	[WIRE_LEASE] = { .rights = WIRE_RIGHT_READ, .is_bitmap = true, .begin = lookup_request },
	[WIRE_GET] = { .rights = WIRE_RIGHT_READ, .begin = get_request },
	[WIRE_PUT] = { .rights = WIRE_RIGHT_WRITE },
	[WIRE_DROP] = { .rights = WIRE_RIGHT_WRITE, .begin = drop_request },
	[WIRE_RENEW] = { .rights = WIRE_RIGHT_READ, .is_for_drain = true, .begin = lookup_request },
	[WIRE_CANCEL] = { .is_for_drain = true, .begin = cancel_request },
	[WIRE_DECLARE] = { .begin = lookup_request },
	[WIRE_UNDECLARE] = { .is_for_drain = true, .begin = lookup_request },
	[WIRE_REPORT] = { .is_for_drain = true, .begin = lookup_request },
	[WIRE_STAT] = { .is_text = true, .is_for_drain = true, .begin = lookup_request },
};

static const struct request_kind *request_kind_of(const struct request *request)
{
	return &request_kinds[request->kind];
}

/* --- the table of a session --- */

static struct list *request_bucket(struct session *session, uint64_t id)
{
	return &session->buckets[id % REQUEST_BUCKETS];
}

struct request *request_find(struct session *session, uint64_t id)
{
	list_for_each (pos, request_bucket(session, id)) {
		struct request *request = list_entry(pos, struct request, node);

		if (request->id == id)
			return request;
	}
	return NULL;
}

static void request_timer_cb(struct env_timer *timer)
{
	struct request *request = CONTAINER_OF(timer, struct request, timer);

	CHECK_OBJ(request, REQUEST_MAGIC);
	request->session->reactor->metrics.deadlines++;
	request_give_up(request, -ERR_DEADLINE);
}

/* The domain that a request names; zeros: the tenant's own. */
static void request_domain(struct request *request, const uint8_t domain[16])
{
	static const uint8_t own[16];
	bool is_own = memcmp(domain, own, sizeof(own)) == 0;

	memcpy(request->domain, is_own ? request->session->tenant->id : domain,
	       sizeof(request->domain));
}

/* NULL: the id is in use, or the client has gone on after it was told BUSY. */
static struct request *request_take(struct session *session, uint16_t lane,
				    const struct wire_header *header,
				    const struct wire_request *body)
{
	struct reactor *reactor = session->reactor;
	struct request *request;

	if (header->request == 0 || request_find(session, header->request) != NULL)
		return NULL;
	if (session->request_count == 2 * session->request_max)
		return NULL;
	request = list_entry(pool_take(&reactor->requests), struct request, node);
	memset(request, 0, sizeof(*request));
	request->magic = REQUEST_MAGIC;
	request->kind = header->kind;
	request->lane = lane;
	request->session = session;
	request->id = header->request;
	request->flags = body->flags;
	request->item_count = MAX(header->count, 1);
	request->refused_next = request->item_count;
	request->refused_end = request->item_count;
	request->timer.fire = request_timer_cb;
	memcpy(request->ns, body->ns, sizeof(request->ns));
	request_domain(request, body->domain);
	list_init(&request->reply_node);
	list_init(&request->items);
	list_init(&request->ready);
	list_init(&request->progress);
	list_init(&request->node);
	list_add_tail(request_bucket(session, request->id), &request->node);
	session->request_count++;
	return request;
}

/* Requests that wait to tell it that they have ended have nobody to tell. */
static void request_forget_canceller(struct request *cancel)
{
	struct session *session = cancel->session;

	for (uint32_t i = 0; i < REQUEST_BUCKETS; i++) {
		list_for_each (pos, &session->buckets[i]) {
			struct request *request = list_entry(pos, struct request, node);

			if (request->canceller == cancel)
				request->canceller = NULL;
		}
	}
}

void request_free(struct request *request)
{
	struct session *session = request->session;
	struct reactor *reactor = session->reactor;

	CHECK_OBJ(request, REQUEST_MAGIC);
	ASSERT(list_is_empty(&request->items));
	ASSERT(list_is_empty(&request->ready));
	ASSERT(list_is_empty(&request->progress));
	reactor->env->ops->timer_clear(reactor->env, &request->timer);
	list_del(&request->reply_node);
	list_del(&request->node);
	ASSERT(session->request_count > 0);
	session->request_count--;
	if (request->kind == WIRE_CANCEL && request->sent_count < request->item_count)
		request_forget_canceller(request);
	if (request->canceller != NULL)
		cancel_ended(request->canceller, request->canceller_item);
	request->magic = 0;
	pool_give(&reactor->requests, &request->node);
}

/* --- the beginning --- */

/* 0, or what the whole request is refused for. */
static int request_check(const struct request *request)
{
	const struct session *session = request->session;
	const struct request_kind *kind = request_kind_of(request);
	struct metrics *metrics = &session->reactor->metrics;
	uint8_t rights = tenant_rights(session->tenant, request->domain);

	/* A CANCEL that is refused would leave its requests running: it has the room beyond. */
	if (session->request_count > session->request_max && request->kind != WIRE_CANCEL) {
		metrics->busy_requests++;
		return -ERR_BUSY;
	}
	if (rights == 0 || (rights & kind->rights) != kind->rights) {
		metrics->denied++;
		return -ERR_DENIED;
	}
	if (session->reactor->is_finishing && !kind->is_for_drain)
		return -ERR_CLOSING;
	if (session->reactor->is_draining && request->kind == WIRE_PUT)
		return -ERR_CLOSING;
	return 0;
}

void request_refuse(struct request *request, uint32_t first, int status)
{
	ASSERT(first < request->item_count);
	request->refused_next = first;
	request->refused_status = status;
	if (request_kind_of(request)->is_bitmap) {
		request->bitmap.status = status;
		memset(request->bits, 0, sizeof(request->bits));
	}
	request_reply_later(request);
}

static void request_timer_start(struct request *request, uint64_t budget_ns)
{
	struct env *env = request->session->reactor->env;

	ASSERT(budget_ns <= WIRE_BUDGET_MAX);
	request->received_ns = env_now_ns(env);
	request->deadline_ns =
		request->received_ns + MIN(budget_ns, request->session->reactor->opts.budget_ns);
	if (request->kind != WIRE_CANCEL)
		env->ops->timer_set(env, &request->timer, request->deadline_ns);
}

/* A kind that a newer client may know. Its body is not looked at. */
static int request_unknown(struct session *session, uint16_t lane, const struct wire_header *header)
{
	static const struct wire_request nothing;
	struct wire_header plain;
	struct request *request;

	if (header->request == 0)
		return 0;
	/* As a kind that has one answer, of one result. */
	wire_header_init(&plain, WIRE_RENEW, header->request, 0, sizeof(nothing));
	request = request_take(session, lane, &plain, &nothing);
	if (request == NULL)
		return -ERR_PROTOCOL;
	request_refuse(request, 0, -ERR_UNSUPPORTED);
	return 0;
}

int request_frame(struct session *session, uint16_t lane, const struct xprt_frame *frame)
{
	const struct wire_header *header = frame->header;
	const struct wire_request *body = frame->body;
	struct request *request;
	int rc;

	if (wire_kind_name(header->kind) == NULL)
		return request_unknown(session, lane, header);
	if (header->kind >= ARRAY_LEN(request_kinds) ||
	    (request_kinds[header->kind].begin == NULL && header->kind != WIRE_PUT))
		return -ERR_PROTOCOL;
	request = request_take(session, lane, header, body);
	if (request == NULL)
		return -ERR_PROTOCOL;
	session->reactor->metrics.requests++;
	rc = request_check(request);
	if (rc < 0) {
		request_refuse(request, 0, rc);
		return 0;
	}
	request_timer_start(request, body->budget_ns);
	if (header->kind == WIRE_PUT)
		return (int)put_request(request, header, frame->body, frame->payload);
	request_kinds[header->kind].begin(request, header, frame->body);
	return 0;
}

void request_give_up(struct request *request, int status)
{
	list_for_each_safe (pos, &request->items)
		op_give_up(list_entry(pos, struct op, node), status);
}

/* --- the answers --- */

void request_reply_later(struct request *request)
{
	struct session *session = request->session;

	if (!list_is_empty(&request->reply_node))
		return;
	list_add_tail(&session->replies, &request->reply_node);
	session_wake(session);
}

static int send_bitmap(struct request *request)
{
	struct {
		struct wire_bitmap bitmap;
		uint8_t bits[sizeof(request->bits)];
	} body;
	struct wire_header header;
	uint32_t bits_size = (request->item_count + 7) / 8;

	body.bitmap = request->bitmap;
	memcpy(body.bits, request->bits, bits_size);
	wire_header_init(&header, WIRE_BITMAP, request->id, (uint16_t)request->item_count,
			 (uint32_t)sizeof(body.bitmap) + bits_size);
	return session_send(request->session, request->lane, &header, &body);
}

static int send_text(struct request *request)
{
	struct reactor *reactor = request->session->reactor;
	struct wire_text *text = (void *)reactor->text;
	struct wire_header header;

	text->status = request->refused_status;
	text->size = 0;
	if (text->status == 0)
		text->size = stat_text(reactor, request->session, reactor->text + sizeof(*text),
				       sizeof(reactor->text) - sizeof(*text));
	wire_header_init(&header, WIRE_TEXT, request->id, 0, (uint32_t)sizeof(*text) + text->size);
	return session_send(request->session, request->lane, &header, text);
}

/* Results to send next. */
struct reply {
	uint32_t progress_count; /* first so many of request->progress: no answers */
	uint32_t ready_count;    /* first so many of request->ready */
	uint32_t refused_count;  /* and of the refused */
	uint32_t cancel_end;     /* CANCEL: bits below it are sent */
	uint32_t count;
	struct wire_result results[REPLY_RESULT_MAX];
};

static bool bit_is_set(const uint8_t *bits, uint32_t index)
{
	return (bits[index / 8] >> index % 8 & 1) != 0;
}

static void reply_add_cancelled(struct reply *reply, const struct request *request)
{
	uint32_t i = 0;

	for (; i < request->item_count && reply->count < REPLY_RESULT_MAX; i++) {
		int status = 0;

		if (!bit_is_set(request->bits, i))
			continue;
		if (bit_is_set(request->already_bits, i))
			status = -EALREADY;
		if (bit_is_set(request->invalid_bits, i))
			status = -EINVAL;
		reply->results[reply->count++] =
			(struct wire_result) { .item = i, .status = status };
	}
	reply->cancel_end = i;
}

static void reply_add_progress(struct reply *reply, const struct request *request)
{
	list_for_each (pos, &request->progress) {
		const struct op *op = list_entry(pos, struct op, progress_node);
		struct wire_result *result = &reply->results[reply->count];

		if (reply->count == REPLY_RESULT_MAX)
			return;
		*result = op->result;
		result->size = op->u.get.progress;
		result->crc = 0;
		result->flags = WIRE_RESULT_PROGRESS;
		reply->count++;
		reply->progress_count++;
	}
}

static void reply_fill(struct reply *reply, const struct request *request)
{
	reply->progress_count = 0;
	reply->ready_count = 0;
	reply->refused_count = 0;
	reply->cancel_end = 0;
	reply->count = 0;
	reply_add_progress(reply, request);
	list_for_each (pos, &request->ready) {
		if (reply->count == REPLY_RESULT_MAX)
			return;
		reply->results[reply->count++] = list_entry(pos, struct op, node)->result;
		reply->ready_count++;
	}
	if (request->kind == WIRE_CANCEL)
		reply_add_cancelled(reply, request);
	while (reply->count < REPLY_RESULT_MAX &&
	       request->refused_next + reply->refused_count < request->refused_end) {
		reply->results[reply->count++] = (struct wire_result) {
			.item = request->refused_next + reply->refused_count,
			.status = request->refused_status,
		};
		reply->refused_count++;
	}
}

static void reply_sent(const struct reply *reply, struct request *request)
{
	for (uint32_t i = 0; i < reply->progress_count; i++)
		list_del(request->progress.next);
	for (uint32_t i = 0; i < reply->ready_count; i++)
		op_sent(list_head(&request->ready, struct op, node));
	for (uint32_t i = 0; i < reply->cancel_end; i++)
		request->bits[i / 8] &= (uint8_t) ~(1u << i % 8);
	request->refused_next += reply->refused_count;
	request->sent_count += reply->count - reply->progress_count;
	ASSERT(request->sent_count <= request->item_count);
}

/* 1: all items have been answered. */
static int send_results(struct request *request)
{
	struct reply reply;
	struct wire_header header;
	int rc;

	for (;;) {
		reply_fill(&reply, request);
		if (reply.count == 0)
			return 0;
		wire_header_init(&header, WIRE_REPLY, request->id, (uint16_t)reply.count,
				 reply.count * (uint32_t)sizeof(reply.results[0]));
		if (request->sent_count + reply.count - reply.progress_count == request->item_count)
			header.flags |= WIRE_FLAG_LAST;
		rc = session_send(request->session, request->lane, &header, reply.results);
		if (rc < 0)
			return rc;
		reply_sent(&reply, request);
		if (request->sent_count == request->item_count)
			return 1;
	}
}

/* A BITMAP is on its way. */
static void count_bitmap(const struct request *request)
{
	struct reactor *reactor = request->session->reactor;
	struct metrics *metrics = &reactor->metrics;

	if (request->received_ns == 0)
		return; /* refused before it was looked at */
	metric_histogram_add(request->kind == WIRE_PROBE ? &metrics->probe_time
							 : &metrics->lease_time,
			     env_now_ns(reactor->env) - request->received_ns);
}

void request_send(struct request *request)
{
	const struct request_kind *kind = request_kind_of(request);
	int rc;

	CHECK_OBJ(request, REQUEST_MAGIC);
	if (kind->is_bitmap)
		rc = send_bitmap(request);
	else if (kind->is_text)
		rc = send_text(request);
	else
		rc = send_results(request);
	if (rc < 0)
		return;
	if (kind->is_bitmap)
		count_bitmap(request);
	list_del(&request->reply_node);
	if (kind->is_bitmap || kind->is_text || rc == 1)
		request_free(request);
}
