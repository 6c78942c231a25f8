/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DROP: forget keys, or a whole namespace. A key is one op at its shard; a namespace is one op that
 * goes through the shards one after the other. Answered when it survives a crash.
 *
 * Failure: a shard that cannot take it now (-ERR_BUSY: its tables are full) has done nothing for
 * it; a namespace may then be gone from the shards before it, and the client drops it again.
 */
#include <string.h>

#include "reactor_priv.h"

static void drop_done_cb(struct shard_drop *drop, int rc)
{
	struct op *op = CONTAINER_OF(drop, struct op, u.drop.drop);

	CHECK_OBJ(op, OP_MAGIC);
	ASSERT(op->u.drop.is_dropping);
	op->u.drop.is_dropping = false;
	op->u.drop.rc = rc;
	op_wake(op);
}

static void drop_start(struct op *op)
{
	struct op_drop *drop = &op->u.drop;
	int rc;

	if (drop->is_namespace)
		op->slot = &op->reactor->slots[drop->shard];
	/* What a missing medium holds would come back with it. */
	rc = op_check_shard(op);
	if (rc < 0) {
		op_answer(op, rc);
		return;
	}
	drop->drop = (struct shard_drop) {
		.id = op->id,
		.is_namespace = drop->is_namespace,
		.done = drop_done_cb,
	};
	rc = shard_drop_start(op->slot->shard, &drop->drop);
	if (rc < 0) {
		op_answer(op, rc);
		return;
	}
	drop->is_dropping = true;
	if (op->state == OP_NEW)
		op_state_set(op, OP_STORING);
}

static void drop_step(struct op *op)
{
	struct op_drop *drop = &op->u.drop;

	if (op->state == OP_NEW) {
		drop_start(op);
		return;
	}
	ASSERT(op->state == OP_STORING);
	if (drop->is_dropping)
		return;
	drop->shard++;
	if (drop->rc < 0)
		op_answer(op, drop->rc);
	else if (drop->is_namespace && drop->shard < op->reactor->opts.shard_count)
		drop_start(op);
	else
		op_answer(op, 0);
}

/* What the shard has begun goes on; the op waits for it. */
static void drop_end(struct op *op)
{
}

static bool drop_release(struct op *op)
{
	return !op->u.drop.is_dropping;
}

const struct op_kind op_kind_drop = {
	.name = "drop",
	.step = drop_step,
	.next_move = NULL,
	.is_pull = false,
	.end = drop_end,
	.release = drop_release,
};

void drop_request(struct request *request, const struct wire_header *header, const void *body)
{
	const struct wire_key *keys = wire_items(header, body);
	bool is_namespace = header->count == 0;
	struct reactor *reactor = request->session->reactor;

	for (uint32_t i = 0; i < request->item_count; i++) {
		struct op *op = op_take(request, &op_kind_drop, i, is_namespace ? NULL : &keys[i]);

		if (op == NULL) {
			reactor->metrics.busy_items += request->item_count - i;
			request_refuse(request, i, -ERR_BUSY);
			break;
		}
		op->u.drop.is_namespace = is_namespace;
		reactor->metrics.drop_keys += !is_namespace;
		reactor->metrics.drop_namespaces += is_namespace;
		op_advance(op);
	}
}
