/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An op from submit to release.
 *
 * Every op has units: its items, or one when it has none. Each gets one outcome: from its server (a
 * unit that goes to several: from the last of them, the first that is no success), from a check
 * here, or, for all that are open, from what ended the op (deadline, cancel, end of the client).
 * The last outcome makes the RESULT. The RELEASE comes with it when no request of the op is under
 * way any more that names its memory. Else (only transports that are not SYNC_RELEASE) a CANCEL
 * asks the server; its answer releases. A server that says nothing at all for release_wait_ns, or
 * speaks and does not answer for RELEASE_MAX_NS, loses the session, and its end releases: closed
 * lanes, or its fence (fence.c).
 *
 * Events are handed on from the loop, never out of a call.
 */
#include <string.h>

#include "client_priv.h"

/* A drive may take so long for what is with it. */
#define RELEASE_MAX_NS (60 * NS_PER_S)

/* --- checks of what the caller gave --- */

static const struct {
	uint32_t flags;
	bool has_items;
	bool may_have_none;
} op_rules[] = {
	[CTXKV_OP_PROBE] = { 0, true, false },
	[CTXKV_OP_LEASE] = { CTXKV_WARM | CTXKV_ALL, true, false },
	[CTXKV_OP_GET] = { CTXKV_PROGRESS, true, false },
	[CTXKV_OP_PUT] = { CTXKV_DURABLE | CTXKV_PRIVATE, true, false },
	[CTXKV_OP_DROP] = { 0, true, true },
	[CTXKV_OP_RENEW] = { 0, false, true },
	[CTXKV_OP_REPORT] = { 0, false, true },
};

static bool is_transfer(const struct ctxkv_op *op)
{
	return op->opcode == CTXKV_OP_GET || op->opcode == CTXKV_OP_PUT;
}

static int iov_room(const struct ctxkv_item *item, uint64_t *room_out)
{
	uint64_t room = 0;

	if (item->iov == NULL && item->iov_count > 0)
		return -EINVAL;
	for (uint32_t i = 0; i < item->iov_count; i++) {
		const struct ctxkv_iov *iov = &item->iov[i];
		uintptr_t end;

		if (iov->base == NULL && iov->size > 0)
			return -EINVAL;
		if (__builtin_add_overflow((uintptr_t)iov->base, iov->size, &end) ||
		    __builtin_add_overflow(room, iov->size, &room))
			return -EINVAL;
	}
	if (room == 0)
		return -EINVAL;
	*room_out = room;
	return 0;
}

static int item_check(const struct ctxkv_op *op, struct ctxkv_item *item)
{
	uint64_t room = 0;
	int rc;

	if (!is_transfer(op))
		return 0;
	if (op->opcode == CTXKV_OP_GET &&
	    (item->offset > WIRE_BLOCK_MAX || item->record.shard >= WIRE_SHARD_MAX))
		return -EINVAL;
	rc = iov_room(item, &room);
	item_state(item)->room = (uint32_t)MIN(room, UINT32_MAX);
	return rc;
}

static int op_check(const struct ctxkv_op *op)
{
	if (op->opcode == 0 || op->opcode >= ARRAY_LEN(op_rules))
		return -EINVAL;
	if ((op->flags & ~op_rules[op->opcode].flags) != 0 || op->item_count > CTXKV_ITEM_MAX)
		return -EINVAL;
	if (op->item_count > 0 && (op->items == NULL || !op_rules[op->opcode].has_items))
		return -EINVAL;
	if (op->item_count == 0 && !op_rules[op->opcode].may_have_none)
		return -EINVAL;
	if (op->opcode == CTXKV_OP_RENEW && op->lease == 0)
		return -EINVAL;
	return 0;
}

/* Outputs and private parts begin at zero, whatever the op is. Returns the first that is wrong. */
static int items_begin(struct ctxkv_op *op)
{
	int first = 0;

	for (uint64_t i = 0; i < op->item_count; i++) {
		struct ctxkv_item *item = &op->items[i];

		*item_state(item) = (struct item_state) { 0 };
		item->status = 0;
		item->done_size = 0;
		item->block_size = 0;
		item->flags = 0;
		item->is_here = 0;
		if (first == 0)
			first = item_check(op, item);
	}
	return first;
}

/* --- outcomes --- */

static void news_add(struct client_op *cop, uint32_t what)
{
	struct client *client = cop->client;

	ASSERT(((cop->news | cop->op->state) & what) == 0);
	cop->news |= what;
	if (!list_is_empty(&cop->news_node))
		return;
	list_add_tail(&client->news, &cop->news_node);
	client->env->ops->defer(client->env, &client->news_task);
}

static void op_result(struct client_op *cop)
{
	struct client *client = cop->client;
	struct env *env = client->env;
	struct part *part;

	ASSERT(cop->open_count == 0);
	ASSERT(!cop->has_result);
	cop->has_result = true;
	list_del(&cop->node);
	while ((part = list_head(&cop->parts, struct part, op_node)) != NULL)
		part_free(part);
	lease_op_finish(cop);
	env->ops->timer_clear(env, &cop->timer);
	news_add(cop, CTXKV_RESULT);
	if (cop->request_count > 0) {
		cop->result_ns = env_now_ns(env);
		list_add_tail(&client->releasing, &cop->node);
		env->ops->timer_set(env, &cop->timer,
				    cop->result_ns + client->opts.release_wait_ns);
	}
	op_release_check(cop);
}

void op_release_check(struct client_op *cop)
{
	if (!cop->has_result || cop->request_count > 0)
		return;
	list_del(&cop->node);
	cop->client->env->ops->timer_clear(cop->client->env, &cop->timer);
	news_add(cop, CTXKV_RELEASE);
}

static void unit_count(struct client_op *cop, const struct ctxkv_item *item)
{
	struct ctxkv_stat *stat = &cop->client->stat;

	switch (cop->op->opcode) {
	case CTXKV_OP_GET:
		if (item->status == 0)
			stat->hits++;
		else
			stat->misses++;
		break;
	case CTXKV_OP_PUT:
		if (item->status == 0)
			stat->puts++;
		else
			stat->put_failures++;
		break;
	default:
		break;
	}
}

static void unit_set(struct client_op *cop, uint32_t unit, int status)
{
	struct ctxkv_op *op = cop->op;

	if (cop->item_count == 0) {
		ASSERT(cop->open_count > 0);
		cop->open_count--;
		op->status = status;
		return;
	}
	ASSERT(cop->open_count > 0);
	cop->open_count--;
	op_item_settle(&op->items[unit], status);
	unit_count(cop, &op->items[unit]);
}

/* A unit that goes to several sessions: false while answers are to come; then *status is the first
 * that is no success. */
static bool unit_is_answered(struct client_op *cop, uint32_t unit, int *status)
{
	uint16_t *pending = &cop->pending;
	int32_t *worst = &cop->worst;

	if (!cop->is_to_all)
		return true;
	if (cop->item_count > 0) {
		pending = &item_state(&cop->op->items[unit])->pending;
		worst = &item_state(&cop->op->items[unit])->worst;
	}
	ASSERT(*pending > 0);
	--*pending;
	if (*worst == 0)
		*worst = *status;
	*status = *worst;
	return *pending == 0;
}

void op_settled(struct client_op *cop, uint32_t count)
{
	ASSERT(!cop->is_to_all);
	ASSERT(cop->open_count >= count);
	cop->open_count -= count;
	cop->has_answer = true;
	cop->op->status = 0;
	if (cop->open_count == 0)
		op_result(cop);
}

void op_unit_finish(struct client_op *cop, uint32_t unit, int status)
{
	if (!unit_is_answered(cop, unit, &status))
		return;
	cop->has_answer = true;
	cop->op->status = 0;
	unit_set(cop, unit, status);
	if (cop->open_count == 0)
		op_result(cop);
}

void op_unit_lose(struct client_op *cop, uint32_t unit, int status)
{
	if (!unit_is_answered(cop, unit, &status))
		return;
	if (!cop->has_answer)
		cop->op->status = status;
	unit_set(cop, unit, status);
	if (cop->open_count == 0)
		op_result(cop);
}

/* The requests of an op that is given up: at once where the transport allows it or they name no
 * memory of the caller's, else by CANCEL. */
static void op_give_up_requests(struct client_op *cop)
{
	int rc;

	if (cop->request_count == 0)
		return;
	rc = request_cancel(cop);
	list_for_each_safe (node, &cop->requests) {
		struct request *request = list_entry(node, struct request, node);

		if (request->session == NULL)
			continue; /* its fence's */
		if (session_is_sync(request->session) || !request_is_exposed(request))
			request_end(request);
		else if (!request->is_in_place)
			request_orphan(request);
	}
	cop->is_cancel_due = rc < 0 && cop->request_count > 0;
}

/* What the server had no room for until the deadline says so. */
static int unit_failure(const struct client_op *cop, uint32_t unit, int status)
{
	bool is_busy =
		cop->item_count > 0 && (item_state(&cop->op->items[unit])->flags & ITEM_BUSY) != 0;

	return is_busy && status == -ERR_DEADLINE ? -ERR_BUSY : status;
}

void op_fail(struct client_op *cop, int status)
{
	ASSERT(status < 0);
	if (cop->has_result)
		return;
	op_give_up_requests(cop);
	if (!cop->has_answer)
		cop->op->status = status;
	for (uint32_t unit = 0; unit < cop->unit_count; unit++) {
		if (!op_unit_is_done(cop, unit))
			unit_set(cop, unit, unit_failure(cop, unit, status));
	}
	op_result(cop);
}

/* The op ends at its deadline: those who have not answered are silent. */
static void op_late(struct client_op *cop)
{
	struct client *client = cop->client;
	uint64_t silent[(SESSION_MAX + 63) / 64] = { 0 };

	list_for_each (node, &cop->requests) {
		const struct session *session = list_entry(node, struct request, node)->session;

		if (session != NULL)
			silent[session->index / 64] |= UINT64_C(1) << session->index % 64;
	}
	op_fail(cop, -ERR_DEADLINE);
	for (uint32_t i = 0; i < client->opts.session_max; i++) {
		if ((silent[i / 64] >> i % 64 & 1) != 0)
			session_silence(&client->sessions[i]);
	}
}

/* A session of its requests whose last word is older; NULL: there is none. */
static struct session *session_before(const struct client_op *cop, uint64_t heard_ns)
{
	list_for_each (node, &cop->requests) {
		struct session *session = list_entry(node, struct request, node)->session;

		if (session != NULL && session_heard_ns(session) < heard_ns)
			return session;
	}
	return NULL; /* what is left may be with fences */
}

/* The CANCEL has no answer yet. What is with its drive a server cannot take back: while it speaks,
 * that is waited for. */
static void op_release_late(struct client_op *cop)
{
	struct client *client = cop->client;
	struct env *env = client->env;
	uint64_t now_ns = env_now_ns(env);
	uint64_t heard_ns = now_ns - client->opts.release_wait_ns + 1;
	struct session *session;

	if (now_ns - cop->result_ns >= RELEASE_MAX_NS)
		heard_ns = UINT64_MAX;
	while ((session = session_before(cop, heard_ns)) != NULL)
		session_fail(session, -ETIMEDOUT, BREAKER_LIMIT);
	if (session_before(cop, UINT64_MAX) != NULL)
		env->ops->timer_set(env, &cop->timer, now_ns + client->opts.release_wait_ns);
}

/* The deadline, or the end of the wait for a CANCEL's answer. */
static void op_timer(struct env_timer *timer)
{
	struct client_op *cop = CONTAINER_OF(timer, struct client_op, timer);
	struct client *client = cop->client;

	CHECK_OBJ(client, CLIENT_MAGIC);
	if (cop->has_result) {
		op_release_late(cop);
		return;
	}
	client->stat.deadlines++;
	op_late(cop);
}

/* --- submit --- */

static uint64_t op_timeout_ns(const struct client *client, const struct ctxkv_op *op)
{
	uint64_t timeout_ns = op->timeout_ns;

	if (timeout_ns == 0)
		timeout_ns = op->opcode == CTXKV_OP_PROBE || op->opcode == CTXKV_OP_LEASE
				     ? client->opts.probe_timeout_ns
				     : client->opts.timeout_ns;
	return MIN(timeout_ns, WIRE_BUDGET_MAX / 2);
}

static void op_begin(struct client_op *cop, struct ctxkv_op *op)
{
	struct client *client = cop->client;

	cop->op = op;
	cop->generation++;
	cop->item_count = 0;
	cop->unit_count = 1;
	cop->open_count = 1;
	cop->request_count = 0;
	cop->sent_ns = 0;
	cop->news = 0;
	cop->has_answer = false;
	cop->has_result = false;
	cop->is_cancel_refused = false;
	cop->is_cancel_due = false;
	cop->is_to_all = false;
	cop->is_straight = false;
	cop->lease = NULL;
	list_init(&cop->node);
	list_init(&cop->parts);
	list_init(&cop->news_node);
	list_init(&cop->requests);
	cop->deadline_ns = env_now_ns(client->env) + op_timeout_ns(client, op);
	cop->timer.fire = op_timer;

	op->status = 0;
	op->state = 0;
	op->run = 0;
	if (op->opcode == CTXKV_OP_LEASE)
		op->lease = 0;
}

/* The items of an op that is refused as such are not looked at: they may not even be there. */
static int op_take_items(struct client_op *cop)
{
	struct ctxkv_op *op = cop->op;
	int rc = op_check(op);

	if (rc < 0)
		return rc;
	cop->item_count = (uint32_t)op->item_count;
	cop->unit_count = MAX(cop->item_count, 1u);
	cop->open_count = cop->unit_count;
	return items_begin(op);
}

/* Whatever a server may allow. */
static void op_refuse_large(struct client_op *cop)
{
	if (cop->op->opcode != CTXKV_OP_PUT)
		return;
	for (uint32_t unit = 0; unit < cop->unit_count; unit++) {
		if (item_state(&cop->op->items[unit])->room > WIRE_BLOCK_MAX)
			op_unit_finish(cop, unit, -ERR_TOO_LARGE);
	}
}

void op_submit(struct client_op *cop, struct ctxkv_op *op)
{
	struct client *client = cop->client;
	int rc;

	op_begin(cop, op);
	client->stat.ops++;
	rc = op_take_items(cop);
	if (rc < 0) {
		op_fail(cop, rc);
		return;
	}
	op_refuse_large(cop);
	if (cop->has_result)
		return;
	if (client->is_ending) {
		op_fail(cop, -ECANCELED);
		return;
	}
	client->env->ops->timer_set(client->env, &cop->timer, cop->deadline_ns);
	list_add_tail(&client->spreading, &cop->node);
	members_want(client);
	spread_ops(client);
	spread_pump(client);
}

/* --- news --- */

static void op_forget(struct client_op *cop)
{
	struct ctxkv_op *op = cop->op;

	ASSERT(cop->request_count == 0);
	ASSERT(!cop->timer.is_set);
	for (uint32_t i = 0; i < cop->item_count; i++)
		*item_state(&op->items[i]) = (struct item_state) { 0 };
	cop->op = NULL;
	list_add_tail(&cop->client->free_ops, &cop->node);
}

void op_news_deliver(struct env_task *task)
{
	struct client *client = CONTAINER_OF(task, struct client, news_task);
	struct client_op *cop;

	CHECK_OBJ(client, CLIENT_MAGIC);
	while ((cop = list_head(&client->news, struct client_op, news_node)) != NULL) {
		struct ctxkv_op *op = cop->op;
		uint32_t what = cop->news;

		list_del(&cop->news_node);
		cop->news = 0;
		__atomic_store_n(&op->state, op->state | what, __ATOMIC_RELAXED);
		if ((what & CTXKV_RELEASE) != 0)
			op_forget(cop);
		client->opts.event(client->opts.ctx, op, what);
	}
}
