/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes that leave a lane.
 *
 * Normal path. send() copies a control frame into the lane's send buffer; push() (and on a client
 * the answer to a GRANT) queues a move. Flush runs from the lane's task, once for all that was
 * queued in this turn of the loop: it gathers control bytes, frame heads and payload pieces into
 * one sendmsg of about TCP_GATHER_SIZE, and advances past what the kernel took. When that has ended
 * moves of a server, the loop goes round before more is sent: its answers, on which the client goes
 * on, leave with the next moves and need not wait behind all that are queued. So a few small moves
 * a call are faster than many, and of a few that wait half are sent first: the client takes them in
 * and asks for more while the next are sent, or both would wait for each other in turn. A client
 * does so when TCP_ROUND_SIZE has been taken: grants and results that came in the meantime are the
 * next work of both sides, and one that first sends all it has would then wait for the server.
 *
 * No call is given more than TCP_SEND_SIZE. Linux cuts what it is given into segments of 64 KiB,
 * and takes in the peer's acknowledgements when the call ends; one that makes 16 segments does so
 * in the middle, with the socket locked, and the peer runs dry: 1 MiB a call moves 0.75 to 0.9 of
 * what 512 to 960 KiB do. Less than that costs as much, by the number of calls.
 *
 * Order. Control frames leave before moves that are not begun. A frame is begun, and gets its MAC,
 * when it is first gathered: that is stream order, and a move's order says how many control bytes
 * stand before it. Until then it can be taken back, from then on it is sent to its end.
 *
 * secure() counts from the end of what is queued: PROOF, sent before it, goes without MAC whenever
 * it leaves. REFUSE never has one.
 *
 * A frame larger than the server lane's own buffer borrows a big one; the bytes that wait move into
 * it, and it is given back when what waits fits without.
 *
 * Failure. No room: -EAGAIN, tx.wanted, and writable() when the frame would fit. The socket takes
 * no more: OUT is watched. The socket is broken: sending ends here and the lane is read
 * once more before it breaks, for the socket may hold the peer's last word (a REFUSE).
 */
#include "tcp.h"

#include <string.h>

#define TCP_GATHER_SIZE (576 * KiB) /* nine blocks of 64 KiB, or parts of two larger ones */
#define TCP_GATHER_MIN  (256 * KiB)
#define TCP_SEND_SIZE   (896 * KiB)
#define TCP_ROUND_SIZE  (256 * KiB)

static uint32_t tx_pending(const struct tcp_tx *tx)
{
	return tcp_buf_have(&tx->buf);
}

static uint64_t tx_end_position(const struct tcp_tx *tx)
{
	return tx->position + tx_pending(tx);
}

/* --- the send buffer --- */

/* All has left: begin at the front again. What waits fits: in the lane's own buffer. */
static void tx_shrink(struct tcp_lane *lane)
{
	struct tcp_tx *tx = &lane->tx;

	if (tx_pending(tx) == 0) {
		tx->buf.start = 0;
		tx->buf.end = 0;
	}
	if (tx->buf.big != NULL && tx_pending(tx) <= TCP_TX_SIZE)
		tcp_buf_shrink(lane, &tx->buf, tcp_server_of(lane)->tx, TCP_TX_SIZE);
}

/* Make room for size bytes behind end; false: there is none now. */
static bool tx_reserve(struct tcp_lane *lane, uint32_t size)
{
	struct tcp_tx *tx = &lane->tx;

	ASSERT(size <= TCP_BIG_SIZE);
	if (size > tcp_tx_room(lane) && size > TCP_TX_SIZE && lane->listener != NULL &&
	    tx->buf.big == NULL && tcp_buf_grow(lane, &tx->buf))
		tx->big_ns = env_now_ns(lane->lane.env);
	if (size > tcp_tx_room(lane))
		return false;
	if (size > tx->buf.size - tx->buf.end)
		tcp_buf_move(&tx->buf, tx->buf.bytes, tx->buf.size);
	return true;
}

static void tx_append(struct tcp_lane *lane, const void *bytes, uint32_t size)
{
	struct tcp_tx *tx = &lane->tx;

	ASSERT(size <= tx->buf.size - tx->buf.end);
	if (size > 0)
		memcpy(tx->buf.bytes + tx->buf.end, bytes, size);
	tx->buf.end += size;
	lane->lane.backlog_size += size;
}

void tcp_tx_raw(struct tcp_lane *lane, const void *bytes, uint32_t size)
{
	ASSERT(tx_end_position(&lane->tx) == 0);
	tx_append(lane, bytes, size);
	lane->tx.sealed = size; /* not a frame */
}

uint32_t tcp_tx_room(const struct tcp_lane *lane)
{
	return lane->tx.buf.size - tx_pending(&lane->tx);
}

static uint32_t frame_size(const struct wire_header *header)
{
	return (uint32_t)sizeof(*header) + header->body_size + header->payload_size;
}

/* False: there is no room for it now. */
static bool tx_frame(struct tcp_lane *lane, struct wire_header *header, const void *body,
		     const struct iovec *payload, uint32_t payload_count)
{
	if (!tx_reserve(lane, frame_size(header)))
		return false;
	header->magic = WIRE_MAGIC;
	tx_append(lane, header, sizeof(*header));
	tx_append(lane, body, header->body_size);
	for (uint32_t i = 0; i < payload_count; i++)
		tx_append(lane, payload[i].iov_base, (uint32_t)payload[i].iov_len);
	return true;
}

bool tcp_tx_small(struct tcp_lane *lane, struct wire_header *header, const struct wire_data *data,
		  const struct iovec *payload, uint32_t payload_count)
{
	return header->payload_size <= TCP_SMALL_SIZE && lane->tx.buf.big == NULL &&
	       frame_size(header) + TCP_SMALL_REST <= tcp_tx_room(lane) &&
	       tx_frame(lane, header, data, payload, payload_count);
}

int tcp_tx_frame(struct tcp_lane *lane, struct wire_header *header, const void *body)
{
	ASSERT(header->payload_size == 0);
	return tx_frame(lane, header, body, NULL, 0) ? 0 : -EAGAIN;
}

int tcp_send(struct xprt_lane *xprt_lane, struct wire_header *header, const void *body,
	     const struct iovec *payload, uint32_t payload_count)
{
	struct tcp_lane *lane = tcp_of(xprt_lane);

	ASSERT(!lane->is_closed);
	ASSERT(header->body_size <= WIRE_BODY_MAX);
	ASSERT(header->payload_size <= WIRE_INLINE_MAX);
	ASSERT(header->payload_size == tcp_iov_size(payload, payload_count));
	if (lane->broken != 0)
		return lane->broken;

	memset(header->mac, 0, sizeof(header->mac));
	if (!tx_frame(lane, header, body, payload, payload_count)) {
		lane->tx.wanted = MAX(lane->tx.wanted, frame_size(header));
		return -EAGAIN;
	}
	tcp_lane_wake(lane);
	return 0;
}

/* --- moves --- */

void tcp_tx_move(struct tcp_lane *lane, struct xprt_move *move)
{
	move->lane = &lane->lane;
	move->moved = 0;
	move->order = UINT64_MAX;
	move->state = TCP_PUSH_QUEUED;
	list_add_tail(&lane->tx.moves, &move->node);
	lane->lane.backlog_size += TCP_HEAD_SIZE + move->size;
}

void tcp_tx_unmove(struct tcp_lane *lane, struct xprt_move *move)
{
	ASSERT(move->state == TCP_PUSH_QUEUED);
	list_del(&move->node);
	if (tcp_lane_is_open(lane))
		lane->lane.backlog_size -= TCP_HEAD_SIZE + move->size;
}

/* --- gathering --- */

struct gather {
	struct iovec iov[TCP_IOV_MAX];
	uint32_t iov_count;
	uint64_t size;
};

static void gather_add(struct gather *gather, void *bytes, uint64_t size)
{
	ASSERT(gather->iov_count < TCP_IOV_MAX);
	gather->iov[gather->iov_count++] = (struct iovec) { bytes, size };
	gather->size += size;
}

static void tx_seal_to(struct tcp_lane *lane, uint64_t position)
{
	struct tcp_tx *tx = &lane->tx;

	while (tx->sealed < position) {
		uint8_t *frame = tx->buf.bytes + tx->buf.start + (tx->sealed - tx->position);
		struct wire_header header;

		memcpy(&header, frame, sizeof(header));
		ASSERT(header.magic == WIRE_MAGIC);
		if (lane->mac_out != NULL && tx->sealed >= tx->secure_from &&
		    header.kind != WIRE_REFUSE) {
			auth_mac_seal(lane->mac_out, &header, frame + sizeof(header));
			memcpy(frame, &header, sizeof(header));
		}
		tx->sealed += sizeof(header) + header.body_size + header.payload_size;
	}
	ASSERT(tx->sealed == position);
}

static void gather_control(struct tcp_lane *lane, struct gather *gather, uint64_t from, uint64_t to)
{
	struct tcp_tx *tx = &lane->tx;

	ASSERT(from <= to);
	if (from == to)
		return;
	if (tx->sealed < to)
		tx_seal_to(lane, to);
	gather_add(gather, tx->buf.bytes + tx->buf.start + (from - tx->position), to - from);
}

static void move_begin(struct tcp_lane *lane, struct xprt_move *move)
{
	struct wire_header header;

	memcpy(&header, move->priv.frame, sizeof(header));
	ASSERT(header.payload_size == move->size);
	if (lane->mac_out != NULL) {
		auth_mac_seal(lane->mac_out, &header, move->priv.frame + sizeof(header));
		memcpy(move->priv.frame, &header, sizeof(header));
	}
	move->state = TCP_PUSH_BEGUN;
}

/* What is left of the move, as far as there are pieces and room. True: all of it. */
static bool gather_move(struct tcp_lane *lane, struct gather *gather, struct xprt_move *move)
{
	struct tcp_span span = { move->iov, move->iov_count, 0, move->size };
	uint32_t offset = move->moved > TCP_HEAD_SIZE ? (uint32_t)(move->moved - TCP_HEAD_SIZE) : 0;
	uint64_t room = TCP_SEND_SIZE - MIN(gather->size, TCP_SEND_SIZE);
	uint64_t size;

	if (move->state == TCP_PUSH_QUEUED)
		move_begin(lane, move);
	if (move->moved < TCP_HEAD_SIZE)
		gather_add(gather, move->priv.frame + move->moved, TCP_HEAD_SIZE - move->moved);
	if (lane->client != NULL) {
		const struct tcp_span *there = tcp_put_span(lane, move, offset);

		if (there == NULL) {
			tcp_lane_break(lane, -ECANCELED);
			return false;
		}
		span = *there;
	}
	gather->iov_count += tcp_iov_slice(
		gather->iov + gather->iov_count, TCP_IOV_MAX - gather->iov_count, span.iov,
		span.iov_count, offset - span.base, MIN(move->size - offset, room), &size);
	gather->size += size;
	return size == move->size - offset;
}

/* So many bytes are enough for one call. */
static uint64_t gather_enough(const struct tcp_lane *lane)
{
	if (lane->client != NULL)
		return TCP_GATHER_SIZE;
	return MIN(MAX(lane->lane.backlog_size / 2, TCP_GATHER_MIN), TCP_GATHER_SIZE);
}

static void tx_gather(struct tcp_lane *lane, struct gather *gather)
{
	struct tcp_tx *tx = &lane->tx;
	uint64_t enough = gather_enough(lane);
	uint64_t position = tx->position;

	gather->iov_count = 0;
	gather->size = 0;
	list_for_each (node, &tx->moves) {
		struct xprt_move *move = list_entry(node, struct xprt_move, node);

		/* A move takes a piece of control bytes, its head, and one of payload at least. */
		if (gather->size >= enough || gather->iov_count + 3 > TCP_IOV_MAX)
			return;
		if (move->state == TCP_PUSH_QUEUED)
			move->order = tx_end_position(tx);
		gather_control(lane, gather, position, move->order);
		position = move->order;
		if (!gather_move(lane, gather, move))
			return;
	}
	if (gather->iov_count < TCP_IOV_MAX)
		gather_control(lane, gather, position, tx_end_position(tx));
}

/* The kernel took size bytes: advance in the order of tx_gather(). */
static void tx_sent(struct tcp_lane *lane, uint64_t size)
{
	struct tcp_tx *tx = &lane->tx;

	ASSERT(lane->lane.backlog_size >= size);
	lane->lane.backlog_size -= size;
	while (size > 0) {
		struct xprt_move *move = list_head(&tx->moves, struct xprt_move, node);
		uint64_t limit = move != NULL ? move->order : tx_end_position(tx);
		uint64_t step = MIN(size, limit - tx->position);

		tx->buf.start += (uint32_t)step;
		tx->position += step;
		size -= step;
		if (size == 0)
			break;

		ASSERT(move != NULL);
		step = MIN(size, TCP_HEAD_SIZE + move->size - move->moved);
		move->moved += step;
		size -= step;
		if (move->moved == TCP_HEAD_SIZE + move->size) {
			list_del(&move->node);
			tcp_move_finish(lane, move, 0);
		}
	}
	tx_shrink(lane);
}

/* --- flush --- */

static ssize_t tx_write(struct tcp_lane *lane, const struct gather *gather)
{
	struct env *env = lane->lane.env;
	ssize_t sent = lane->tls == NULL ? env->ops->sock_send(env, lane->sock, gather->iov,
							       gather->iov_count)
					 : tcp_tls_send(lane, gather->iov, gather->iov_count);

	if (sent > 0) {
		lane->lane.bytes_out += (uint64_t)sent;
		lane->lane.progress_ns = env_now_ns(env);
		tx_sent(lane, (uint64_t)sent);
	}
	return sent;
}

/* What waits in TLS, or its handshake. */
static void tx_flush_tls(struct tcp_lane *lane)
{
	int rc;

	if (lane->is_connecting || lane->lane.is_blocked || lane->tx.broken != 0)
		return;
	rc = tcp_tls_flush(lane);
	if (rc < 0 && rc != -EAGAIN)
		lane->tx.broken = rc;
}

/*
 * Small moves are done before they are sent. Their users make results of that within a turn of the
 * loop: once they are waited for. False: nothing is sent now.
 */
static bool server_next(struct tcp_lane *lane)
{
	bool has_small = lane->tx.has_small;

	lane->tx.has_small = false;
	tcp_moves_deliver(lane);
	if (!tcp_lane_is_open(lane))
		return false;
	lane->tx.is_held = has_small && !lane->tx.is_held;
	if (lane->tx.is_held) {
		tcp_lane_wake(lane);
		return false;
	}
	tcp_grants_send(lane);
	return true;
}

/* What came in is looked at before more is sent. sum: of this round. */
static bool is_round_over(const struct tcp_lane *lane, uint64_t sum, bool has_ended)
{
	return lane->client != NULL ? sum >= TCP_ROUND_SIZE : has_ended;
}

void tcp_tx_flush(struct tcp_lane *lane)
{
	struct gather gather;
	uint64_t sum = 0;

	if (lane->tls != NULL)
		tx_flush_tls(lane);

	while (tcp_lane_is_open(lane) && !lane->is_connecting && !lane->lane.is_blocked &&
	       lane->tx.broken == 0) {
		bool has_ended;
		ssize_t sent;

		if (lane->client != NULL)
			tcp_put_next(lane);
		else if (!server_next(lane))
			break;
		tx_gather(lane, &gather);
		if (gather.size == 0 || !tcp_lane_is_open(lane))
			break;
		sent = tx_write(lane, &gather);
		if (sent < 0 && sent != -EAGAIN) {
			lane->tx.broken = (int)sent;
			break;
		}
		if (sent < (ssize_t)gather.size)
			lane->lane.is_blocked = true;
		sum += (uint64_t)MAX(sent, 0);
		has_ended = tcp_moves_deliver(lane);
		if (is_round_over(lane, sum, has_ended) && !lane->lane.is_blocked) {
			tcp_lane_wake(lane);
			break;
		}
	}
	if (!lane->is_closed && lane->tx.wanted == 0)
		tx_shrink(lane);
}

void tcp_tx_writable(struct tcp_lane *lane)
{
	if (lane->tx.wanted == 0 || !tx_reserve(lane, lane->tx.wanted))
		return;
	lane->tx.wanted = 0;
	lane->lane.user->writable(&lane->lane);
	if (tcp_lane_is_open(lane))
		tx_shrink(lane); /* it had nothing more to send */
}

/* As far as it goes without waiting; moves only if they stand before control frames. */
void tcp_tx_last(struct tcp_lane *lane)
{
	struct gather gather;
	ssize_t sent;

	if (lane->is_connecting || lane->tx.broken != 0)
		return;
	if (lane->client != NULL && lane->client->put_count > 0)
		return; /* locate() may not be asked in the middle of close() */
	do {
		if (tx_pending(&lane->tx) == 0)
			return;
		tx_gather(lane, &gather);
		if (!tcp_lane_is_open(lane))
			return;
		sent = tx_write(lane, &gather);
	} while (sent > 0);
}

void tcp_tx_fini(struct tcp_lane *lane)
{
	tcp_big_put(lane, &lane->tx.buf.big);
}
