/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PUT: from the client's memory to the store. The bytes come inside the frame (inline), or are
 * pulled once there is room for all of them.
 *
 *   1. begin: the block is there already (done), another put of it is filling (follow it), no
 *      segment is free (wait), or it is ours to fill
 *   2. room for the payload: in memory mode it is in the segment already; else buffers of the
 *      receive share, reserved at once. A follower holds none
 *   3. pull it, 1 MiB a move
 *   4. commit, when the last byte is there: the store publishes the block and says when it is as
 *      safe as was asked for
 *   5. the result; buffers and op stay with the store until released(), then the cache may keep
 *      the bytes
 *
 * A durable put whose memory is mapped and has the shape skips 2 and 3: checksums are taken from,
 * in its turn (check.c), and the log writes, what stands there. It is not answered before that is
 * written. Until then others find the block, but wait for its bytes (get.c).
 *
 * Inline bytes are copied while the frame is there: into the segment where step 1 gives one, else
 * into buffers of the inline share, which the client's credit stands for. So a follower that
 * inherits the put, or a put that waits for room, still has them.
 *
 * A buffered put is answered when it is published, as long as the drive keeps up: where too many
 * blocks, of its session or of all, are still being written, its answer is held back (behind.c).
 *
 * Failure: until commit the put is aborted, whoever follows inherits it, and nothing of it is ever
 * seen. Behind commit nothing more is wanted of the client: a put given up there is answered at
 * once and goes on; but not while its bytes are still the client's. A client that takes its memory
 * away from under a put gets -ERR_PEER; what was written fails its check. A block that cannot be
 * written is gone: its put gets -EIO if it has not been answered.
 */
#include <string.h>

#include "iov.h"
#include "reactor_priv.h"

static struct op *op_of_put(struct shard_put *put)
{
	struct op *op = CONTAINER_OF(put, struct op, u.put.put);

	CHECK_OBJ(op, OP_MAGIC);
	ASSERT(op->kind == &op_kind_put);
	return op;
}

static void put_done_cb(struct shard_put *put, int rc)
{
	struct op *op = op_of_put(put);

	ASSERT(op->u.put.is_begun);
	ASSERT(!op->u.put.is_done);
	op->u.put.is_done = true;
	op->u.put.rc = rc;
	op_wake(op);
}

static void put_filling_cb(struct shard_put *put)
{
	struct op *op = op_of_put(put);

	ASSERT(!op->u.put.is_done);
	op->u.put.is_filling = true;
	op_wake(op);
}

static void put_released_cb(struct shard_put *put)
{
	struct op *op = op_of_put(put);

	ASSERT(op->u.put.is_begun);
	ASSERT(op->u.put.is_done);
	op->u.put.is_begun = false;
	if (put->lost_out)
		op->u.put.rc = -EIO; /* who waits for the answer is told */
	op->is_lent = false;
	op_wake(op);
	if (op->u.put.put.is_foreign)
		waiters_wake(&op->slot->write_waiters);
}

static void put_count_failure(struct op *op, int status)
{
	struct metrics *metrics = &op->reactor->metrics;

	switch (status) {
	case -ERR_TOO_LARGE:
		metrics->put_too_large++;
		break;
	case -ERR_DEADLINE:
		metrics->put_deadline++;
		break;
	default:
		metrics->put_failed++;
		break;
	}
}

static void put_answer(struct op *op, int status)
{
	if (status < 0)
		put_count_failure(op, status);
	op_answer(op, status);
}

/* --- inline payloads --- */

/* Copy the frame's bytes into buffers of the inline share. */
static int put_keep_payload(struct op *op)
{
	const uint8_t *from = op->u.put.payload;
	int rc;

	rc = buffers_try(&op->reactor->inline_buffers, &op->buffers, op->size);
	if (rc < 0) {
		op->reactor->metrics.again_inline++;
		return -ERR_BUSY;
	}
	for (uint32_t i = 0; i < op->buffers.iov_count; i++) {
		memcpy(op->buffers.iov[i].iov_base, from, op->buffers.iov[i].iov_len);
		from += op->buffers.iov[i].iov_len;
	}
	op->u.put.payload = NULL;
	return 0;
}

/* Memory mode: the bytes, wherever they are, go into the segment. */
static void put_fill_segment(struct op *op)
{
	const struct shard_put *put = &op->u.put.put;
	struct iovec kept = { (void *)(uintptr_t)op->u.put.payload, op->size };
	const struct iovec *from = op->u.put.payload != NULL ? &kept : op->buffers.iov;
	uint32_t from_count = op->u.put.payload != NULL ? 1 : op->buffers.iov_count;

	iov_copy(put->iov, put->iov_count, from, from_count, op->size);
	op->u.put.payload = NULL;
	op_buffers_free(op);
}

static void put_fill_inline(struct op *op)
{
	struct shard_put *put = &op->u.put.put;
	int rc;

	op->issued = op->size;
	op->landed = op->size;
	if (op->slot->is_memory) {
		put_fill_segment(op);
		op_state_set(op, OP_WAIT_COMMIT);
		return;
	}
	if (op->u.put.payload != NULL) {
		rc = put_keep_payload(op);
		if (rc < 0) {
			op_give_up(op, rc);
			return;
		}
	}
	put->iov = op->buffers.iov;
	put->iov_count = op->buffers.iov_count;
	op_state_set(op, OP_WAIT_COMMIT);
}

/* --- the steps --- */

/* On true the memory is mapped, and fit: the payload stands where it will be written from. */
static bool put_goes_direct(struct op *op)
{
	struct shard_put *put = &op->u.put.put;

	if (!put->is_durable || !direct_is_possible(op) || !shard_put_is_large(op->size))
		return false;
	if (direct_map(op) &&
	    shard_put_fits(op->slot->shard, op->size, op->mapped, op->mapped_count)) {
		put->is_foreign = true;
		put->iov = op->mapped;
		put->iov_count = op->mapped_count;
		return true;
	}
	(void)direct_unmap(op); /* nothing was done there */
	op->reactor->metrics.direct_declined++;
	return false;
}

/* It is FILLING: make room for the payload. */
static void put_fill(struct op *op)
{
	int rc;

	if (op->u.put.is_inline) {
		put_fill_inline(op);
		return;
	}
	if (op->slot->is_memory) {
		op_state_set(op, OP_MOVING);
		return;
	}
	if (put_goes_direct(op)) {
		op->issued = op->size;
		op->landed = op->size;
		op_state_set(op, OP_WAIT_COMMIT);
		return;
	}
	rc = buffers_reserve(&op->reactor->receive_buffers, &op_quotas(op)->receive,
			     &op->slot->quotas.receive, &op->buffers, op->size);
	op_state_set(op, OP_WAIT_BUFFERS);
	if (rc == -EAGAIN) {
		op->reactor->metrics.again_buffers++;
		op_wait_begin(op);
	}
}

static void put_wait_room(struct op *op)
{
	op->reactor->metrics.again_room++;
	op_wait_begin(op);
	list_add_tail(&op->slot->room_waiters, &op->wait_node);
}

static void put_begin(struct op *op)
{
	struct shard_put *put = &op->u.put.put;
	int rc = op_check_shard(op);

	if (!list_is_empty(&op->wait_node))
		return;
	if (rc == 0)
		rc = shard_put_begin(op->slot->shard, put);
	if (rc == -EAGAIN) {
		if (op->state == OP_NEW)
			op_state_set(op, OP_WAIT_ROOM);
		put_wait_room(op);
		return;
	}
	if (rc < 0) {
		put_answer(op, rc);
		return;
	}
	op->u.put.is_begun = true;
	switch (put->state) {
	case SHARD_PUT_FILLING:
		put_fill(op);
		break;
	case SHARD_PUT_FOLLOWING:
		op->reactor->metrics.put_followed++;
		op_state_set(op, OP_FOLLOWING);
		break;
	default:
		op_state_set(op, OP_STORING);
		break;
	}
}

static void put_commit(struct op *op)
{
	int rc;

	if (!list_is_empty(&op->wait_node))
		return;
	/* Others are summed at the pace at which their bytes came. */
	if (op->u.put.put.is_foreign && !check_admit(op))
		return;
	rc = shard_put_commit(op->slot->shard, &op->u.put.put);
	if (rc == -EAGAIN) {
		put_wait_room(op);
		return;
	}
	ASSERT(rc == 0);
	op->is_lent = op->u.put.put.is_foreign;
	op_state_set(op, OP_STORING);
}

static void put_count_stored(struct op *op)
{
	struct metrics *metrics = &op->reactor->metrics;

	metrics->put_stored++;
	if (op->u.put.put.is_foreign)
		metrics->put_direct += op->size;
	else if (op->session != NULL && direct_is_possible(op))
		metrics->put_copied += op->size;
}

/* The result of a put that is done, and succeeded. */
static void put_result(struct op *op)
{
	const struct shard_put *put = &op->u.put.put;
	struct metrics *metrics = &op->reactor->metrics;

	if (put->existed_out) {
		metrics->put_existed++;
		op->result.flags |= WIRE_RESULT_EXISTED;
	} else {
		put_count_stored(op);
	}
	metric_histogram_add(&metrics->put_time, env_now_ns(op->reactor->env) - op->begin_ns);
	if (put->durable_out)
		op->result.flags |= WIRE_RESULT_DURABLE;
	op->result.block_size = put->size;
	op->result.record.sequence = put->sequence_out;
	op->result.record.shard = op->slot->index;
	op->result.status = 0;
}

static void put_finish(struct op *op)
{
	int rc = direct_unmap(op);

	if (rc == 0)
		rc = op->u.put.rc;
	if (rc < 0) {
		put_answer(op, rc);
		return;
	}
	put_result(op);
	op_answer(op, 0);
}

/* Stored, with its block still to be written: is one more of them too many? */
static bool put_is_held_back(struct op *op)
{
	const struct op_put *put = &op->u.put;

	/* A durable one is written: what it may still wait for are readers of its buffers. */
	if (!put->is_begun || put->rc < 0 || put->put.is_durable || behind_has_room(op->session))
		return false;
	behind_wait(op);
	return true;
}

static void put_step(struct op *op)
{
	struct op_put *put = &op->u.put;

	switch (op->state) {
	case OP_NEW:
	case OP_WAIT_ROOM:
		put_begin(op);
		break;
	case OP_FOLLOWING:
		if (put->is_done)
			put_finish(op);
		else if (put->is_filling)
			put_fill(op);
		break;
	case OP_WAIT_BUFFERS:
		if (op->buffers.state != BUFFERS_HELD)
			break;
		put->put.iov = op->buffers.iov;
		put->put.iov_count = op->buffers.iov_count;
		op_state_set(op, OP_MOVING);
		break;
	case OP_MOVING:
		if (op->move_rc < 0)
			op_give_up(op, op->move_rc);
		else if (op->landed == op->size) {
			list_del(&op->wait_node); /* the window was full behind its last move */
			op_state_set(op, OP_WAIT_COMMIT);
		} else if (op->issued < op->size)
			op_offer_moves(op);
		break;
	case OP_WAIT_COMMIT:
		put_commit(op);
		break;
	case OP_STORING:
		if (put->is_done && !op->is_lent && !put_is_held_back(op))
			put_finish(op);
		break;
	default:
		ASSERT(false);
	}
}

static bool put_next_move(struct op *op, struct xprt_move *move)
{
	const struct shard_put *put = &op->u.put.put;
	uint32_t size = (uint32_t)MIN(op->size - op->issued, WIRE_DATA_MAX);

	if (size == 0)
		return false;
	move->offset = op->issued;
	move->iov_count = iov_slice(put->iov, put->iov_count, op->issued, size, move->iov,
				    XPRT_MOVE_IOV_MAX, &move->size);
	ASSERT(move->size > 0);
	return true;
}

static void put_end(struct op *op)
{
	struct op_put *put = &op->u.put;

	if (put->is_done && put->rc == 0 && !put->put.is_foreign) {
		put_result(op); /* only its answer was held back, though nobody may wait for it */
		return;
	}
	put_count_failure(op, op->result.status);
	if (put->is_begun && !put->is_done &&
	    (put->put.state == SHARD_PUT_FILLING || put->put.state == SHARD_PUT_FOLLOWING))
		shard_put_abort(op->slot->shard, &put->put, op->result.status);
}

/* It has been written, and is in the index: keep what stands in the buffers. */
static void put_keep(struct op *op)
{
	struct op_put *put = &op->u.put;
	struct shard_ref ref;

	if (!put->is_done || put->rc < 0 || put->put.existed_out ||
	    op->buffers.state != BUFFERS_HELD)
		return;
	if (shard_find(op->slot->shard, &op->id, &ref) && ref.sequence == put->put.sequence_out &&
	    (ref.flags & SHARD_REF_BUFFERED) == 0)
		cache_take(&op->reactor->cache, op->slot, &ref, &op->buffers);
}

static bool put_release(struct op *op)
{
	if (op->u.put.is_begun) {
		behind_begin(op);
		return false;
	}
	behind_end(op);
	put_keep(op);
	op_buffers_free(op);
	return true;
}

const struct op_kind op_kind_put = {
	.name = "put",
	.step = put_step,
	.next_move = put_next_move,
	.is_pull = true,
	.end = put_end,
	.release = put_release,
};

/* --- the frame --- */

static void put_init(struct op *op, const struct request *request, const struct wire_put *item)
{
	struct shard_put *put = &op->u.put.put;

	op->size = item->size;
	op->u.put.is_inline = (item->flags & WIRE_PUT_INLINE) != 0;
	put->id = op->id;
	put->chain = item->chain;
	put->depth = item->depth;
	put->size = item->size;
	memcpy(put->payer, request->session->tenant->id, sizeof(put->payer));
	memcpy(put->place, item->place, sizeof(put->place));
	if (item->ttl_s > 0)
		put->expiry_s = op->reactor->env->ops->wall_s(op->reactor->env) + item->ttl_s;
	if ((request->flags & WIRE_REQ_SHARED) != 0)
		put->flags = DISK_ENTRY_SHARED;
	put->is_durable = (request->flags & WIRE_REQ_DURABLE) != 0;
	put->done = put_done_cb;
	put->filling = put_filling_cb;
	put->released = put_released_cb;
}

/* Begin with the payload still in the frame; afterwards nothing points into it. */
static void put_start_inline(struct op *op, const uint8_t *payload)
{
	int rc;

	op->u.put.payload = payload;
	op_advance(op);
	if (op->u.put.payload != NULL && (op->state == OP_WAIT_ROOM || op->state == OP_FOLLOWING)) {
		rc = put_keep_payload(op);
		if (rc < 0)
			op_give_up(op, rc);
	}
	op->u.put.payload = NULL;
}

static bool put_is_valid(const struct request *request, const struct wire_put *item)
{
	const struct xprt_ops *xprt = request->session->xprt;
	bool is_direct = (xprt->caps & XPRT_CAP_DIRECT) != 0;

	if ((item->flags & WIRE_PUT_INLINE) != 0)
		return true;
	return is_direct == (item->seg_count > 0) && item->seg_count <= xprt->seg_max;
}

uint32_t put_request(struct request *request, const struct wire_header *header, const void *body,
		     const void *payload)
{
	const struct wire_put *item = wire_items(header, body);
	const uint8_t *bytes = payload;
	struct reactor *reactor = request->session->reactor;
	bool costs_credit = header->body_size + header->payload_size > WIRE_FREE_MAX;
	uint32_t held = 0;

	reactor->metrics.put_blocks += header->count;
	for (uint32_t i = 0; i < header->count; i++, item = wire_put_next(item)) {
		struct op *op = op_take(request, &op_kind_put, i, &item->key);
		bool is_inline = (item->flags & WIRE_PUT_INLINE) != 0;

		if (op == NULL) {
			reactor->metrics.busy_items += header->count - i;
			request_refuse(request, i, -ERR_BUSY);
			break;
		}
		put_init(op, request, item);
		if (!put_is_valid(request, item)) {
			put_answer(op, -EINVAL);
		} else if (item->size > reactor->block_max) {
			put_answer(op, -ERR_TOO_LARGE);
		} else if (is_inline) {
			put_start_inline(op, bytes);
		} else {
			op->seg_count = item->seg_count;
			memcpy(op->segs, wire_put_segs(item), op->seg_count * sizeof(*op->segs));
			op_advance(op);
		}
		if (is_inline)
			bytes += item->size;
		if (is_inline && costs_credit && op->buffers.state == BUFFERS_HELD) {
			op->credit = item->size;
			held += item->size;
		}
	}
	return held;
}
