/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an op, whatever its kind: taken, advanced, given up, answered, freed. The table says
 * which moves between states exist; every change of state goes through op_state_set().
 *
 * Giving up (deadline, CANCEL, a stalled client, the end of the session) is one path: ENDING, moves
 * revoked; when the last of them is done, and the drive is done with the client's memory, the kind
 * lets go, and the op is ANSWERED with the status
 * it was given up with.
 */
#include "op.h"

#include <string.h>

#include "reactor_priv.h"

#define TO(state) (1u << OP_##state)

static const uint32_t op_moves[OP_STATE_COUNT] = {
	[OP_FREE] = TO(NEW),
	[OP_NEW] = TO(WAIT_ROOM) | TO(FOLLOWING) | TO(WAIT_WRITE) | TO(WAIT_BUFFERS) |
		   TO(WAIT_READ) | TO(MOVING) | TO(WAIT_COMMIT) | TO(STORING) | TO(ENDING) |
		   TO(ANSWERED),
	[OP_WAIT_ROOM] = TO(FOLLOWING) | TO(WAIT_BUFFERS) | TO(MOVING) | TO(WAIT_COMMIT) |
			 TO(STORING) | TO(ENDING) | TO(ANSWERED),
	[OP_FOLLOWING] =
		TO(WAIT_BUFFERS) | TO(MOVING) | TO(WAIT_COMMIT) | TO(ENDING) | TO(ANSWERED),
	[OP_WAIT_WRITE] = TO(WAIT_BUFFERS) | TO(WAIT_READ) | TO(MOVING) | TO(ENDING) | TO(ANSWERED),
	[OP_WAIT_BUFFERS] = TO(WAIT_READ) | TO(MOVING) | TO(ENDING),
	[OP_WAIT_READ] = TO(MOVING) | TO(ENDING),
	[OP_MOVING] =
		TO(WAIT_BUFFERS) | TO(WAIT_READ) | TO(WAIT_COMMIT) | TO(ENDING) | TO(ANSWERED),
	[OP_WAIT_COMMIT] = TO(STORING) | TO(ENDING),
	[OP_STORING] = TO(ENDING) | TO(ANSWERED),
	[OP_ENDING] = TO(ANSWERED),
	[OP_ANSWERED] = TO(FREE),
};

/* What holds of an op in any state. */
static void op_check(const struct op *op)
{
	CHECK_OBJ(op, OP_MAGIC);
	ASSERT(op->state < OP_STATE_COUNT);
	ASSERT(op->landed <= op->issued);
	ASSERT(op->issued <= op->size);
	if (op->state == OP_ANSWERED || op->state == OP_FREE) {
		ASSERT(list_is_empty(&op->moves));
		ASSERT(!op->is_lent);
		ASSERT(op->hold == NULL);
	}
	if (op->request != NULL)
		ASSERT(op->session == op->request->session);
}

void op_state_set(struct op *op, enum op_state state)
{
	ASSERT((op_moves[op->state] & (1u << state)) != 0);
	op->state = state;
	op_check(op);
	if (op->wait_ns == 0)
		return;
	metric_histogram_add(&op->reactor->metrics.queue_time,
			     env_now_ns(op->reactor->env) - op->wait_ns);
	op->wait_ns = 0;
}

void op_wait_begin(struct op *op)
{
	if (op->wait_ns == 0)
		op->wait_ns = env_now_ns(op->reactor->env);
}

static void buffers_granted(struct buffers_want *want)
{
	struct op *op = CONTAINER_OF(want, struct op, buffers);

	CHECK_OBJ(op, OP_MAGIC);
	op_wake(op);
}

/* The pool's memory is reused: everything but the op's fixed parts starts as zero. */
static void op_reset(struct op *op)
{
	struct wire_seg *segs = op->segs;
	struct op_piece *pieces = op->pieces;
	struct iovec *mapped = op->mapped;
	struct iovec *iov = op->buffers.iov;
	struct reactor *reactor = op->reactor;

	memset(op, 0, sizeof(*op));
	op->magic = OP_MAGIC;
	op->reactor = reactor;
	op->segs = segs;
	op->pieces = pieces;
	op->mapped = mapped;
	op->buffers.iov = iov;
	op->buffers.granted = buffers_granted;
	list_init(&op->buffers.node);
	list_init(&op->node);
	list_init(&op->session_node);
	list_init(&op->run_node);
	list_init(&op->wait_node);
	list_init(&op->progress_node);
	list_init(&op->moves);
}

/* A quarter of the pool, but room for the largest request. */
uint32_t op_session_max(const struct reactor *reactor)
{
	return MAX(reactor->ops.size / 4, MIN(reactor->ops.size, WIRE_ITEM_MAX));
}

struct op *op_take(struct request *request, const struct op_kind *kind, uint32_t item,
		   const struct wire_key *key)
{
	struct session *session = request->session;
	struct reactor *reactor = session->reactor;
	struct list *node;
	struct op *op;

	if (session->op_count == op_session_max(reactor))
		return NULL;
	node = pool_take(&reactor->ops);
	if (node == NULL)
		return NULL;
	op = list_entry(node, struct op, node);
	op_reset(op);
	op->kind = kind;
	op->item = item;
	op->session = session;
	op->request = request;
	op->begin_ns = request->received_ns;
	op->result.item = item;
	memcpy(op->id.domain, request->domain, sizeof(op->id.domain));
	memcpy(op->id.ns, request->ns, sizeof(op->id.ns));
	if (key != NULL) {
		memcpy(op->id.key, key->bytes, sizeof(op->id.key));
		op->slot = reactor_slot(reactor, key);
	}
	list_add_tail(&request->items, &op->node);
	list_add_tail(&session->ops, &op->session_node);
	session->op_count++;
	op_state_set(op, OP_NEW);
	return op;
}

int op_check_shard(const struct op *op)
{
	if (op->slot == NULL)
		return -ERR_CHANGED;
	return slot_is_open(op->slot) ? 0 : -ERR_OFFLINE;
}

static void op_free(struct op *op)
{
	struct reactor *reactor = op->reactor;

	ASSERT(op->request == NULL);
	ASSERT(op->buffers.state == BUFFERS_NONE);
	ASSERT(op->credit == 0);
	ASSERT(list_is_empty(&op->wait_node));
	list_del(&op->run_node);
	list_del(&op->session_node);
	if (op->session != NULL) {
		ASSERT(op->session->op_count > 0);
		op->session->op_count--;
	}
	op->session = NULL;
	op_state_set(op, OP_FREE);
	pool_give(&reactor->ops, &op->node);
}

/* One step. */
static void op_step(struct op *op)
{
	switch (op->state) {
	case OP_FREE:
		break;
	case OP_ENDING:
		if (!list_is_empty(&op->moves) || op->is_lent)
			break;
		op->kind->end(op);
		op_answer(op, op->result.status);
		break;
	case OP_ANSWERED:
		if (op->kind->release(op) && op->request == NULL)
			op_free(op);
		break;
	default:
		op->kind->step(op);
		break;
	}
}

void op_advance(struct op *op)
{
	enum op_state before;

	CHECK_OBJ(op, OP_MAGIC);
	do {
		before = op->state;
		op_step(op);
	} while (op->state != before);
}

void op_wake(struct op *op)
{
	CHECK_OBJ(op, OP_MAGIC);
	ASSERT(op->state != OP_FREE);
	if (!list_is_empty(&op->run_node))
		return;
	list_add_tail(&op->reactor->woken, &op->run_node);
	reactor_run_later(op->reactor);
}

void op_answer(struct op *op, int status)
{
	ASSERT(status <= 0);
	ASSERT(list_is_empty(&op->moves));
	(void)direct_unmap(op); /* who wanted to know has asked */
	op->result.status = status;
	if (status < 0) {
		op->result.size = 0;
		op->result.flags = 0;
		op->result.crc = 0;
	}
	list_del(&op->wait_node);
	list_del(&op->progress_node);
	op_state_set(op, OP_ANSWERED);
	if (op->request == NULL)
		return;
	list_del(&op->node);
	list_add_tail(&op->request->ready, &op->node);
	request_reply_later(op->request);
}

void op_give_up(struct op *op, int status)
{
	ASSERT(status < 0);
	if (op->state == OP_ENDING || op->state == OP_ANSWERED)
		return;
	op->result.status = status;
	op_state_set(op, OP_ENDING);
	list_del(&op->wait_node);
	list_del(&op->progress_node);
	if (op->buffers.state != BUFFERS_HELD)
		buffers_free(&op->buffers);
	moves_revoke(op);
	op_wake(op);
}

bool op_is_late(const struct op *op)
{
	return env_now_ns(op->reactor->env) + OP_BUDGET_MIN >= op->request->deadline_ns;
}

void op_orphan(struct op *op)
{
	op_give_up(op, -ERR_PEER);
	list_del(&op->node);
	list_del(&op->progress_node);
	op->request = NULL;
	op_wake(op);
}

void op_forget_session(struct op *op)
{
	ASSERT(op->request == NULL);
	ASSERT(list_is_empty(&op->moves));
	ASSERT(op->session->op_count > 0);
	buffers_forget_quota(&op->buffers);
	list_del(&op->session_node);
	op->session->op_count--;
	op->session = NULL;
}

void op_sent(struct op *op)
{
	ASSERT(op->state == OP_ANSWERED);
	list_del(&op->node);
	op->request = NULL;
	op_wake(op);
}

uint32_t op_landed_prefix(const struct op *op)
{
	uint32_t prefix = op->issued;

	list_for_each (pos, &op->moves) {
		const struct op_move *move = list_entry(pos, struct op_move, node);

		prefix = (uint32_t)MIN(prefix, move->move.offset);
	}
	return prefix;
}

void op_offer_moves(struct op *op)
{
	ASSERT(op->state == OP_MOVING);
	if (op->session == NULL || !list_is_empty(&op->wait_node))
		return;
	list_add_tail(&op->session->movers, &op->wait_node);
	session_wake(op->session);
}

struct flow_quotas *op_quotas(const struct op *op)
{
	return &op->session->quotas[op->slot - op->reactor->slots];
}

void op_buffers_free(struct op *op)
{
	uint32_t credit = op->credit;

	buffers_free(&op->buffers);
	op->credit = 0;
	if (credit == 0)
		return;
	if (op->session != NULL)
		session_credit_return(op->session, credit);
	else
		op->reactor->credit_free += credit;
}
