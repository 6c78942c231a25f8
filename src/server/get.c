/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET: from the index to the client's memory.
 *
 *   1. find the block, under a lease also when it has expired; a miss, another record than asked
 *      for, or a range outside it is answered
 *   2. bytes in memory (memory mode, not yet written, or in the cache) are pinned and pushed from
 *      where they stand; for the others buffers for the whole range are reserved at once
 *   3. with buffers, the block is looked up again and its segment is pinned while the shard reads:
 *      a client that takes its time holds up neither other puts nor reclaim. Each piece is pushed
 *      as it comes
 *   4. when the read has its verdict and every push is done: the result, then the buffers go
 *
 * Where the client's memory is mapped and has the shape, the shard reads straight into it: no
 * buffers, no pushes, no copy for the cache (which remembers the name: who asks again brings the
 * block in). The memory is the client's, so that the answer, which gives it back, waits for the
 * read in any case; and whatever went wrong there says nothing of the block: it is read again
 * through buffers, and that is the verdict.
 *
 * Progress, where it is asked for: the shard reads in order and checks piece by piece, all pushes
 * go over the request's lane, and what has landed from the beginning on is told there.
 *
 * Failure: a block that does not pass its check, or cannot be read, is a miss with its cause; what
 * was pushed of it before is worth nothing, as the result says. A push that fails (its lane died)
 * ends the item with -ERR_PEER. The block was forgotten while it waited for buffers: a miss. Given
 * up while the shard still reads: the result goes out once no push is under way; buffers and pin
 * wait for the shard. The client takes its memory away in the middle: -ERR_PEER. The block is being
 * written from the memory of a client that put it, where nobody else may look: it is waited for.
 */
#include <string.h>

#include "../base/hash.h"
#include "reactor_priv.h"

static void get_count_miss(struct op *op, int status)
{
	struct metrics *metrics = &op->reactor->metrics;

	switch (status) {
	case -ERR_MISS:
		metrics->get_miss_absent++;
		break;
	case -ERR_CHANGED:
		metrics->get_miss_changed++;
		break;
	case -ERR_CORRUPT:
		metrics->get_miss_corrupt++;
		break;
	case -ERR_DEADLINE:
		metrics->get_miss_deadline++;
		break;
	default:
		metrics->get_miss_other++;
		break;
	}
}

static void get_answer(struct op *op, int status)
{
	if (status < 0)
		get_count_miss(op, status);
	op_answer(op, status);
}

/* --- the read --- */

static void get_piece_cb(struct shard_read *read, uint32_t begin, uint32_t size, void *data)
{
	struct op *op = CONTAINER_OF(read, struct op, u.get.read);
	struct op_get *get = &op->u.get;
	struct op_piece *piece = &op->pieces[get->piece_count];

	CHECK_OBJ(op, OP_MAGIC);
	ASSERT(get->piece_count < MAX(op->buffers.iov_count, OP_PIECES_MIN));
	ASSERT(begin >= get->offset);
	ASSERT(begin - get->offset + (uint64_t)size <= read->size);
	*piece = (struct op_piece) { begin - get->offset, size, data };
	get->piece_count++;
	op_wake(op);
}

static void get_done_cb(struct shard_read *read, int rc)
{
	struct op *op = CONTAINER_OF(read, struct op, u.get.read);

	CHECK_OBJ(op, OP_MAGIC);
	ASSERT(op->u.get.is_reading);
	op->u.get.is_reading = false;
	op->is_lent = false;
	op->u.get.read_rc = rc;
	op->u.get.is_complete = rc == 0 && read->offset == 0 && read->size == read->ref.size;
	op_wake(op);

	waiters_wake(&op->slot->read_waiters); /* one has become free */
}

static void get_pin(struct op *op)
{
	struct op_get *get = &op->u.get;

	shard_pin(op->slot->shard, &get->ref);
	get->is_pinned = true;
}

static void get_unpin(struct op *op)
{
	struct op_get *get = &op->u.get;

	if (!get->is_pinned)
		return;
	shard_unpin(op->slot->shard, &get->ref);
	get->is_pinned = false;
}

/* A lease does not end with its block's time to live. */
static bool get_find(struct op *op, struct shard_ref *ref_out)
{
	struct shard *shard = op->slot->shard;
	uint64_t lease = op->u.get.lease;
	struct shard_ref ref;

	if (shard_find(shard, &op->id, ref_out))
		return true;
	if (lease == 0 || !shard_find_leased(shard, &op->id, &ref) ||
	    !lease_covers(op, lease, &ref.hash))
		return false;
	*ref_out = ref;
	return true;
}

/* The record that was found at first is still there; reclaim may have given it another place. */
static bool get_is_here(struct op *op)
{
	struct op_get *get = &op->u.get;
	struct shard_ref ref;

	if (!get_find(op, &ref) || ref.sequence != get->ref.sequence)
		return false;
	get->ref = ref;
	return true;
}

static void get_read_start(struct op *op)
{
	struct op_get *get = &op->u.get;
	int rc;

	if (!list_is_empty(&op->wait_node))
		return;
	if (get->is_direct && op_is_late(op)) {
		op_give_up(op, -ERR_DEADLINE);
		return;
	}
	if (!get_is_here(op)) {
		op_give_up(op, -ERR_MISS);
		return;
	}
	get_pin(op);
	get->read = (struct shard_read) {
		.ref = get->ref,
		.offset = get->offset,
		.size = op->size,
		.is_in_order = get->has_progress,
		.is_foreign = get->is_direct,
		.buffers = get->is_direct ? op->mapped : op->buffers.iov,
		.buffer_count = get->is_direct ? op->mapped_count : op->buffers.iov_count,
		.piece = get_piece_cb,
		.done = get_done_cb,
	};
	rc = shard_read_start(op->slot->shard, &get->read);
	if (rc == -EAGAIN) {
		get_unpin(op);
		op->reactor->metrics.again_read++;
		op_wait_begin(op);
		list_add_tail(&op->slot->read_waiters, &op->wait_node);
		return;
	}
	if (rc < 0) {
		op_give_up(op, rc);
		return;
	}
	get->is_reading = true;
	op->is_lent = get->is_direct;
	op_state_set(op, OP_MOVING);
}

/* --- straight into the client's memory --- */

static bool get_is_whole(const struct op *op)
{
	return op->u.get.offset == 0 && op->size == op->u.get.ref.size;
}

/* Worth its copy: it was asked for not long ago, and comes into the cache now. */
static bool get_is_kept(const struct op *op)
{
	return get_is_whole(op) && cache_knows(&op->reactor->cache, &op->u.get.ref);
}

/* On true the memory is mapped, and fit. */
static bool get_goes_direct(struct op *op)
{
	struct op_get *get = &op->u.get;

	if (!direct_is_possible(op) || get->has_progress || !shard_read_is_large(op->size) ||
	    get_is_kept(op))
		return false;
	if (direct_map(op) && shard_read_fits(op->slot->shard, &get->ref, get->offset, op->size,
					      op->mapped, op->mapped_count))
		return true;
	(void)direct_unmap(op); /* nothing was done there */
	op->reactor->metrics.direct_declined++;
	return false;
}

/* --- the steps --- */

/* A view, where the block is checked: all of it, before a byte is sent. */
static bool get_is_checked_first(const struct op *op)
{
	return !get_is_whole(op) || op->u.get.has_progress;
}

/*
 * A view that is to be checked. A whole block whose bytes the client sums as they arrive: against
 * what the index has noted of it, so that nobody need look at them here; a client that finds them
 * wrong asks for a byte, with progress. A whole block that is copied straight into the client's
 * memory: summed here piece by piece, just before, and the result says what became of it. A range,
 * or where progress is told: all of it, where it stands.
 */
static int get_check_view(struct op *op)
{
	struct op_get *get = &op->u.get;
	bool is_noted = (get->ref.flags & SHARD_REF_NO_CRC) == 0;
	int rc = 0;

	if (get_is_checked_first(op)) {
		rc = shard_check(op->slot->shard, &get->ref, get->offset, op->size,
				 &op->result.crc);
	} else if (!is_noted || (op->session->xprt->caps & XPRT_CAP_DIRECT) != 0) {
		get->is_summed = true;
		get->sum = 0;
		return 0;
	} else {
		op->result.crc = get->ref.crc;
	}
	if (rc == 0)
		op->result.flags |= WIRE_RESULT_CRC;
	return rc;
}

/* Its bytes are in memory. */
static void get_start_view(struct op *op)
{
	bool is_checked = op->reactor->opts.verify == STORE_VERIFY_ALL;
	int rc = 0;

	if (is_checked && get_is_checked_first(op) && !check_admit(op))
		return;
	get_pin(op);
	if (is_checked)
		rc = get_check_view(op);
	if (rc < 0)
		get_answer(op, rc);
	else
		op_state_set(op, OP_MOVING);
}

/* Room for all that must be read. */
static void get_reserve(struct op *op)
{
	struct op_get *get = &op->u.get;
	uint64_t span;
	int rc;

	get->is_direct = false;
	span = shard_read_span(op->slot->shard, &get->ref, get->offset, op->size);
	rc = buffers_reserve(&op->reactor->read_buffers, &op_quotas(op)->read,
			     &op->slot->quotas.read, &op->buffers, span);
	op_state_set(op, rc == 0 ? OP_WAIT_READ : OP_WAIT_BUFFERS);
	if (rc == -EAGAIN) {
		op->reactor->metrics.again_buffers++;
		op_wait_begin(op);
	}
}

static void get_start_read(struct op *op)
{
	op->u.get.is_read = true;
	if (!get_goes_direct(op)) {
		get_reserve(op);
		return;
	}
	op->u.get.is_direct = true;
	op_state_set(op, OP_WAIT_READ);
}

/* Nobody is shown the memory of another client. */
static void get_wait_write(struct op *op)
{
	if (op->state == OP_NEW)
		op_state_set(op, OP_WAIT_WRITE);
	op_wait_begin(op);
	list_add_tail(&op->slot->write_waiters, &op->wait_node);
}

/* Likewise in the cache. A copy that went bad there is none: the medium has the block. */
static void get_start_cached(struct op *op)
{
	struct op_get *get = &op->u.get;
	struct cache *cache = &op->reactor->cache;

	if (op->reactor->opts.verify == STORE_VERIFY_ALL) {
		if (!check_admit(op)) {
			cache_unpin(cache, get->cached);
			get->cached = NULL;
			return;
		}
		if (!cache_check(cache, get->cached, get->offset, op->size, &op->result.crc)) {
			cache_unpin(cache, get->cached);
			get->cached = NULL;
			get_start_read(op);
			return;
		}
		op->result.flags |= WIRE_RESULT_CRC;
	}
	op_state_set(op, OP_MOVING);
}

static void get_start(struct op *op)
{
	struct op_get *get = &op->u.get;
	struct shard_ref *ref = &get->ref;
	int rc = op_check_shard(op);

	if (!list_is_empty(&op->wait_node))
		return;
	if (rc == -ERR_CHANGED) {
		get_answer(op, rc);
		return;
	}
	if (rc < 0 || !get_find(op, ref)) {
		if (rc == 0)
			reactor_count_miss(op->reactor, request_saving(op->request),
					   op->slot->shard, &op->id);
		get_answer(op, -ERR_MISS);
		return;
	}
	if (get->want.sequence != 0 &&
	    (get->want.sequence != ref->sequence || get->want.shard != op->slot->index)) {
		get_answer(op, -ERR_CHANGED);
		return;
	}
	op->result.block_size = ref->size;
	op->result.record.sequence = ref->sequence;
	op->result.record.shard = op->slot->index;
	if (get->offset >= ref->size) {
		get_answer(op, -EINVAL);
		return;
	}
	op->size = MIN(get->asked, ref->size - get->offset); /* another's, if it has waited */
	if (ref->put != NULL && ref->put->is_foreign)
		get_wait_write(op);
	else if ((ref->flags & (SHARD_REF_MEMORY | SHARD_REF_BUFFERED)) != 0)
		get_start_view(op);
	else if ((get->cached = cache_find(&op->reactor->cache, op->slot, ref)) != NULL)
		get_start_cached(op);
	else
		get_start_read(op);
}

/* All of a view has gone out: was it right? */
static int get_check_summed(struct op *op)
{
	struct op_get *get = &op->u.get;
	int rc = get->is_summed ? shard_check_sum(op->slot->shard, &get->ref, get->sum) : 0;

	if (rc == 0 && get->is_summed) {
		op->result.crc = get->sum;
		op->result.flags |= WIRE_RESULT_CRC;
	}
	return rc;
}

static void get_finish(struct op *op)
{
	struct op_get *get = &op->u.get;
	struct metrics *metrics = &op->reactor->metrics;
	int rc = get_check_summed(op);

	if (rc < 0) {
		op_give_up(op, rc);
		return;
	}
	if (get->is_read && get->read.crc_valid_out &&
	    op->reactor->opts.verify == STORE_VERIFY_ALL) {
		op->result.crc = get->read.crc_out;
		op->result.flags |= WIRE_RESULT_CRC;
	}
	shard_hit(op->slot->shard, &get->ref);
	metrics->get_hits++;
	metrics->get_delivered += op->size;
	if (get->is_direct)
		metrics->get_direct += op->size;
	else if (direct_is_possible(op))
		metrics->get_copied += op->size;
	metric_histogram_add(&metrics->get_time, env_now_ns(op->reactor->env) - op->begin_ns);
	op->result.size = op->size;
	op_answer(op, 0);
}

/* Bytes are handed on in order and checked: all that have landed in front of the first that has
 * not can be told. */
static void get_tell_progress(struct op *op)
{
	struct op_get *get = &op->u.get;
	uint32_t prefix = get->has_progress ? op_landed_prefix(op) : 0;

	if (prefix == get->progress || op->request == NULL)
		return;
	get->progress = prefix;
	if (list_is_empty(&op->progress_node))
		list_add_tail(&op->request->progress, &op->progress_node);
	request_reply_later(op->request);
}

static void get_go_on(struct op *op)
{
	get_tell_progress(op);
	if (op->issued < op->size)
		op_offer_moves(op);
}

/* The read has ended, if there is one: the client gets its memory back, or all again. */
static void get_step_direct(struct op *op)
{
	struct op_get *get = &op->u.get;
	int rc;

	if (get->is_reading)
		return;
	get_unpin(op);
	rc = direct_unmap(op);
	if (rc < 0) {
		op_give_up(op, rc);
		return;
	}
	if (get->read_rc < 0) {
		op->reactor->metrics.direct_repeated++;
		get->read_rc = 0;
		get_reserve(op);
		return;
	}
	if (get_is_whole(op))
		cache_note(&op->reactor->cache, &get->ref);
	op->issued = op->size;
	op->landed = op->size;
	get_finish(op);
}

static void get_step_moving(struct op *op)
{
	struct op_get *get = &op->u.get;

	if (get->is_read && !get->is_reading)
		get_unpin(op);
	if (op->move_rc < 0)
		op_give_up(op, op->move_rc);
	else if (!get->is_reading && get->read_rc < 0)
		op_give_up(op, get->read_rc);
	else if (!get->is_reading && op->landed == op->size)
		get_finish(op);
	else
		get_go_on(op);
}

static void get_step(struct op *op)
{
	switch (op->state) {
	case OP_NEW:
	case OP_WAIT_WRITE:
		get_start(op);
		break;
	case OP_WAIT_BUFFERS:
		if (op->buffers.state == BUFFERS_HELD)
			op_state_set(op, OP_WAIT_READ);
		break;
	case OP_WAIT_READ:
		get_read_start(op);
		break;
	case OP_MOVING:
		if (op->u.get.is_direct)
			get_step_direct(op);
		else
			get_step_moving(op);
		break;
	default:
		ASSERT(false);
	}
}

static bool get_next_view(struct op *op, struct xprt_move *move)
{
	struct op_get *get = &op->u.get;
	uint32_t size = (uint32_t)MIN(op->size - op->issued, WIRE_DATA_MAX);

	if (size == 0)
		return false;
	move->offset = op->issued;
	if (get->cached != NULL)
		move->iov_count =
			cache_view(&op->reactor->cache, get->cached, get->offset + op->issued, size,
				   move->iov, XPRT_MOVE_IOV_MAX);
	else
		move->iov_count = shard_view(op->slot->shard, &get->ref, get->offset + op->issued,
					     size, move->iov, XPRT_MOVE_IOV_MAX);
	for (uint32_t i = 0; i < move->iov_count; i++) {
		move->size += (uint32_t)move->iov[i].iov_len;
		if (get->is_summed)
			get->sum = crc32c(get->sum, move->iov[i].iov_base, move->iov[i].iov_len);
	}
	ASSERT(move->size > 0);
	ASSERT(move->size <= size);
	return true;
}

static bool get_next_move(struct op *op, struct xprt_move *move)
{
	struct op_get *get = &op->u.get;
	const struct op_piece *piece = &op->pieces[get->piece_next];

	if (!get->is_read)
		return get_next_view(op, move);
	if (get->piece_next == get->piece_count)
		return false;
	move->size = (uint32_t)MIN(piece->size - get->piece_issued, WIRE_DATA_MAX);
	move->offset = piece->begin + get->piece_issued;
	move->iov[0] = (struct iovec) { piece->data + get->piece_issued, move->size };
	move->iov_count = 1;
	get->piece_issued += move->size;
	if (get->piece_issued == piece->size) {
		get->piece_next++;
		get->piece_issued = 0;
	}
	return true;
}

static void get_end(struct op *op)
{
	get_count_miss(op, op->result.status);
}

/* What was read whole and is right, and is not cached: keep it. */
static void get_keep(struct op *op)
{
	struct op_get *get = &op->u.get;
	struct cache *cache = &op->reactor->cache;

	if (get->cached != NULL)
		cache_unpin(cache, get->cached);
	get->cached = NULL;
	if (get->is_complete && op->buffers.state == BUFFERS_HELD)
		cache_take(cache, op->slot, &get->ref, &op->buffers);
}

static bool get_release(struct op *op)
{
	struct op_get *get = &op->u.get;

	if (get->is_reading)
		return false;
	get_keep(op);
	op_buffers_free(op);
	get_unpin(op);
	return true;
}

const struct op_kind op_kind_get = {
	.name = "get",
	.step = get_step,
	.next_move = get_next_move,
	.is_pull = false,
	.end = get_end,
	.release = get_release,
};

void get_request(struct request *request, const struct wire_header *header, const void *body)
{
	const struct wire_request *fixed = body;
	const struct wire_get *item = wire_items(header, body);
	struct reactor *reactor = request->session->reactor;
	bool is_direct = (request->session->xprt->caps & XPRT_CAP_DIRECT) != 0;

	reactor->metrics.get_blocks += header->count;
	for (uint32_t i = 0; i < header->count; i++, item = wire_get_next(item)) {
		struct op *op = op_take(request, &op_kind_get, i, &item->key);

		if (op == NULL) {
			reactor->metrics.busy_items += header->count - i;
			request_refuse(request, i, -ERR_BUSY);
			break;
		}
		op->u.get.want = item->record;
		op->u.get.lease = fixed->lease;
		op->u.get.has_progress = (request->flags & WIRE_REQ_PROGRESS) != 0;
		op->u.get.offset = item->offset;
		op->u.get.asked = item->size;
		op->size = item->size;
		if (is_direct != (item->seg_count > 0) ||
		    item->seg_count > request->session->xprt->seg_max) {
			get_answer(op, -EINVAL);
			continue;
		}
		op->seg_count = item->seg_count;
		memcpy(op->segs, wire_get_segs(item), item->seg_count * sizeof(*op->segs));
		op_advance(op);
	}
}
