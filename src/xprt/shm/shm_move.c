/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves: copies between the server's buffers and the client's regions, in the lane's turns.
 *
 * Normal path. Moves wait in order; each turn goes on with the first for some bytes, so that no
 * client holds the reactor; a move that is through is told of at the end of the turn.
 *
 * Failure. A segment outside of what was declared: -ERR_PROTOCOL, nothing of it is touched. Memory
 * that the client took away (env put zeros there): -ERR_PEER, once, and then without touching it
 * again. The lane ends: so do its moves, with what ended it. A move that has not begun is given
 * back at once by revoke().
 */
#include "shm.h"

#include <string.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#define STREAM_MIN  (32 * KiB) /* less than that is likely to be read from the cache */
#define STREAM_LINE 64

enum { MOVE_PUSH = 1, MOVE_PULL = 2 }; /* of move->state; 0 once it is in finished */

static void move_finish(struct shm_lane *lane, struct xprt_move *move, int rc)
{
	list_del(&move->node);
	if (lane->lane.backlog_size != UINT64_MAX)
		lane->lane.backlog_size -= move->size - move->moved;
	move->state = 0;
	move->rc = rc;
	list_add_tail(&lane->finished, &move->node);
}

static void move_add(struct xprt_lane *xprt_lane, struct xprt_move *move, uint32_t state)
{
	struct shm_lane *lane = shm_of(xprt_lane);

	ASSERT(xprt_lane->group != NULL);
	ASSERT(lane->listener != NULL);
	ASSERT(move->done != NULL);
	ASSERT(move->size > 0 && move->size <= WIRE_DATA_MAX);
	ASSERT(move->iov_count > 0 && move->iov_count <= XPRT_MOVE_IOV_MAX);
	move->lane = xprt_lane;
	move->moved = 0;
	move->state = state;
	list_add_tail(&lane->moves, &move->node);
	if (xprt_lane->backlog_size != UINT64_MAX)
		xprt_lane->backlog_size += move->size;
	if (!shm_lane_is_open(lane))
		move_finish(lane, move, lane->broken != 0 ? lane->broken : -ECANCELED);
	shm_lane_wake(lane);
}

void shm_push(struct xprt_lane *lane, struct xprt_move *move)
{
	move_add(lane, move, MOVE_PUSH);
}

void shm_pull(struct xprt_lane *lane, struct xprt_move *move)
{
	move_add(lane, move, MOVE_PULL);
}

void shm_revoke(struct xprt_move *move)
{
	struct shm_lane *lane = shm_of(move->lane);

	if (move->state == 0 || move->moved > 0)
		return; /* ends by itself */
	move_finish(lane, move, -ECANCELED);
	shm_lane_wake(lane);
}

void shm_moves_deliver(struct shm_lane *lane)
{
	struct xprt_move *move;

	while ((move = list_head(&lane->finished, struct xprt_move, node)) != NULL) {
		list_del(&move->node);
		move->done(move, move->rc);
	}
}

void shm_moves_fail(struct shm_lane *lane, int why)
{
	struct xprt_move *move;

	while ((move = list_head(&lane->moves, struct xprt_move, node)) != NULL)
		move_finish(lane, move, why);
}

/* The client's memory of the move's next bytes, *size_io at most; negative: as shm_seg_memory(). */
static int client_memory(const struct xprt_move *move, uint64_t *size_io, uint8_t **memory_out,
			 struct shm_mapping **mapping_out)
{
	uint16_t access = move->state == MOVE_PUSH ? SHM_WRITE : SHM_READ;
	uint64_t offset = 0;
	const struct wire_seg *seg = xprt_move_seg(move, &offset);
	int rc = -ERR_PROTOCOL;

	if (seg != NULL)
		rc = shm_seg_memory(move->lane->group, seg, access, memory_out, mapping_out);
	if (rc < 0)
		return rc;
	*size_io = MIN(*size_io, seg->size - offset);
	*memory_out += offset;
	return 0;
}

/*
 * Past the cache: the lines written are not read first, and who looks at them next is a GPU, a
 * drive, a get much later, or, of a put that is summed, the checksum when all of the block is here:
 * little of it would be in the cache still. Of 64 KiB and more this is 1.4 (puts, not summed)
 * to 1.6 (gets) times as fast as memcpy() on the machine it was measured on.
 */
static void copy(uint8_t *to, const uint8_t *from, uint64_t size)
{
#if defined(__x86_64__)
	uint64_t head = (STREAM_LINE - (uintptr_t)to % STREAM_LINE) % STREAM_LINE;

	if (size >= STREAM_MIN) {
		memcpy(to, from, head);
		to += head;
		from += head;
		size -= head;
		for (; size >= STREAM_LINE; size -= STREAM_LINE) {
			for (uint32_t i = 0; i < STREAM_LINE; i += sizeof(__m128i))
				_mm_stream_si128((void *)(to + i),
						 _mm_loadu_si128((const void *)(from + i)));
			to += STREAM_LINE;
			from += STREAM_LINE;
		}
		_mm_sfence(); /* before it is published: an answer, a command to the drive */
	}
#endif
	memcpy(to, from, size);
}

/* Copy some of it, at most size bytes; how many, or negative: it has failed. */
static int64_t move_some(struct xprt_move *move, uint64_t size)
{
	struct iovec *piece = move->iov;
	struct shm_mapping *mapping = NULL;
	uint8_t *memory = NULL;
	int rc;

	ASSERT(move->iov_count > 0);
	size = MIN(size, piece->iov_len);
	rc = client_memory(move, &size, &memory, &mapping);
	if (rc < 0)
		return rc;
	if (move->state == MOVE_PUSH)
		copy(memory, piece->iov_base, size);
	else
		copy(piece->iov_base, memory, size);
	if (shm_mapping_is_lost(mapping))
		return -ERR_PEER;
	xprt_move_advance(move, size);
	return (int64_t)size;
}

static void move_count(struct shm_lane *lane, const struct xprt_move *move, uint64_t size)
{
	struct xprt_lane *xprt_lane = &lane->lane;

	xprt_lane->backlog_size -= size;
	xprt_lane->progress_ns = lane->now_ns;
	if (move->state == MOVE_PUSH)
		xprt_lane->bytes_out += size;
	else
		xprt_lane->bytes_in += size;
}

bool shm_moves_run(struct shm_lane *lane, uint64_t *budget)
{
	uint64_t room = MIN(*budget, SHM_TURN_BYTES);
	bool is_busy = !list_is_empty(&lane->moves) || !list_is_empty(&lane->finished);
	struct xprt_move *move;

	while (room > 0 && (move = list_head(&lane->moves, struct xprt_move, node)) != NULL) {
		int64_t size = move_some(move, MIN(room, move->size - move->moved));

		if (size < 0) {
			move_finish(lane, move, (int)size);
			continue;
		}
		move_count(lane, move, (uint64_t)size);
		room -= (uint64_t)size;
		*budget -= (uint64_t)size;
		if (move->moved == move->size)
			move_finish(lane, move, 0);
	}
	return is_busy;
}
