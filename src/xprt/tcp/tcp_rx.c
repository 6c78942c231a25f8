/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes that arrive on a lane.
 *
 * Normal path. A frame's header is looked at as soon as it is there: sizes before anything. A
 * control frame is collected whole in the lane's buffer, its MAC is checked, then its body, then
 * the user gets it. For one that does not fit a server's lane borrows a big buffer in its place,
 * until what is there fits again. Behind such a frame another is likely, and the buffer is borrowed
 * before it is received, when one is free: one recvmsg takes it whole. Of a DATA frame only header
 * and body are collected; once they are believed its payload is received straight into place: the
 * pieces of the pull it answers (server), what locate() says (client), or the sink when nobody
 * wants it any more. One recvmsg takes the rest of such a payload and the head of the next frame,
 * so that a stream of DATA frames costs one call for each and copies nothing. Where much of a
 * payload is still to come, the socket says so only when RX_WANT of it is there: the sender is not
 * held up by waking us for every piece, nor we by looking. Of a peer who needs longer than
 * RX_WANT_NS for so much the rest of the payload is read as it comes: whoever watches the move is
 * to see it go on.
 *
 * Waiting. The lane stalls (reads no more) at a control frame while no big buffer is free for it,
 * and at a whole GRANT that the client's queues have no room for. Its task tries again. Each run
 * stops after TCP_RX_BUDGET (half, where a payload has ended), so that one busy lane does not
 * starve the others; the event is level triggered and comes back.
 *
 * Failure. A header that is not allowed, a wrong MAC (a flipped bit, a replayed or lost frame), a
 * body that does not add up, data that does not fit its grant: the lane is closed with one log
 * line. A kind that is not known, with a right MAC, may come from a newer peer: the server's
 * user says that it does not know it, a client skips it. The
 * stream ends: -ERR_PEER.
 */
#include "tcp.h"

#include <string.h>

/* What a step says: go on with the next, more bytes are needed, or the lane stalls. */
enum rx_step { RX_NEXT, RX_MORE, RX_STALL };

#define RX_WANT        (128 * KiB)
#define RX_LAST_BUDGET (16 * MiB)     /* of a socket that cannot be sent to */
#define RX_WANT_NS     (NS_PER_S / 4) /* much less than a move may stand still */
/* While so much payload is to come, only the next frame's head is received with it. */
#define RX_STREAM_SIZE (64 * KiB)

static uint32_t rx_have(const struct tcp_rx *rx)
{
	return tcp_buf_have(&rx->buf);
}

static int rx_fault(struct tcp_lane *lane, const char *what)
{
	lane->fault = what;
	return -ERR_PROTOCOL;
}

static bool is_data(const struct wire_header *header)
{
	return header->kind == WIRE_DATA_GET || header->kind == WIRE_DATA_PUT;
}

/* --- the buffer --- */

/* Bytes of the control frame under way. */
static uint32_t rx_frame_size(const struct tcp_rx *rx)
{
	return (uint32_t)sizeof(rx->header) + rx->header.body_size + rx->header.payload_size;
}

/* What is here, and the rest of its frame, fits into the lane's own buffer again. */
static void rx_shrink(struct tcp_lane *lane)
{
	struct tcp_rx *rx = &lane->rx;
	uint32_t needed = rx->state == TCP_RX_BODY ? rx_frame_size(rx) : rx_have(rx);

	if (rx->buf.big != NULL && needed <= TCP_RX_SIZE)
		tcp_buf_shrink(lane, &rx->buf, tcp_server_of(lane)->rx, TCP_RX_SIZE);
}

/* The next frame is likely to be as large as the last. */
static void rx_expect(struct tcp_lane *lane)
{
	struct tcp_rx *rx = &lane->rx;

	if (rx->state == TCP_RX_HEADER && rx->usual > rx->buf.size &&
	    lane->listener->big_free_count > 0)
		(void)tcp_buf_grow(lane, &rx->buf);
}

/* --- frames --- */

/* Whether header and body are what the peer sent next, and within the rules. */
static int rx_believe(struct tcp_lane *lane, const void *body)
{
	const struct wire_header *header = &lane->rx.header;

	if (lane->mac_in != NULL && header->kind != WIRE_REFUSE &&
	    !auth_mac_check(lane->mac_in, header, body))
		return rx_fault(lane, "sent a frame with a wrong MAC");
	if (lane->rx.is_known && wire_check_body(header, body) < 0)
		return rx_fault(lane, "sent a frame whose body is not allowed");
	return 0;
}

static int rx_deliver(struct tcp_lane *lane, const uint8_t *body)
{
	const struct wire_header *header = &lane->rx.header;
	struct xprt_frame frame = { .header = header, .body = body };
	int rc;

	rc = rx_believe(lane, body);
	if (rc < 0)
		return rc;
	if (!lane->rx.is_known && lane->client != NULL)
		return RX_NEXT; /* a server says that it does not know it */
	if (header->kind == WIRE_GRANT) {
		tcp_grants_take(lane, header, body);
		return RX_NEXT;
	}
	if (header->payload_size > 0)
		frame.payload = body + header->body_size;
	rc = lane->lane.user->frame(&lane->lane, &frame);
	return rc < 0 ? rc : RX_NEXT;
}

static int rx_preface(struct tcp_lane *lane)
{
	struct wire_preface preface;

	if (rx_have(&lane->rx) < sizeof(preface))
		return RX_MORE;
	memcpy(&preface, lane->rx.buf.bytes + lane->rx.buf.start, sizeof(preface));
	lane->rx.buf.start += (uint32_t)sizeof(preface);
	lane->rx.state = TCP_RX_HEADER;
	tcp_lane_accepted(lane, &preface);
	return RX_NEXT;
}

static bool rx_is_grant(const struct tcp_rx *rx)
{
	return rx->header.kind == WIRE_GRANT && rx->is_known;
}

/* Where a control frame will be collected; or the lane stalls before it. */
static int rx_control_begin(struct tcp_lane *lane)
{
	struct tcp_rx *rx = &lane->rx;
	uint32_t size = rx_frame_size(rx);

	if (rx_is_grant(rx) && lane->lane.group == NULL)
		return rx_fault(lane, "sent a grant before welcome");
	if (size > rx->buf.size && lane->lane.group == NULL)
		return rx_fault(lane, "sent a large frame before hello was done");
	if (size > rx->buf.size && !tcp_buf_grow(lane, &rx->buf))
		return RX_STALL;
	rx->usual = size;
	rx->begin_ns = rx->read_ns;
	rx->state = TCP_RX_BODY;
	return RX_NEXT;
}

static int rx_body(struct tcp_lane *lane)
{
	struct tcp_rx *rx = &lane->rx;
	uint32_t inner_size = rx->header.body_size + rx->header.payload_size;
	uint8_t *body;

	if (rx_have(rx) < rx_frame_size(rx))
		return RX_MORE;
	if (rx_is_grant(rx) && !tcp_grants_fit(lane, rx->header.count))
		return RX_STALL;
	/* The header is copied, so there is room before the body to align it. */
	body = rx->buf.bytes + round_down(rx->buf.start + sizeof(rx->header), 8);
	if (body != rx->buf.bytes + rx->buf.start + sizeof(rx->header))
		memmove(body, rx->buf.bytes + rx->buf.start + sizeof(rx->header), inner_size);
	rx->buf.start += rx_frame_size(rx);
	rx->state = TCP_RX_HEADER;
	return rx_deliver(lane, body);
}

/* --- DATA frames --- */

static bool rx_locate(struct tcp_lane *lane, uint32_t base)
{
	struct tcp_rx *rx = &lane->rx;
	const struct tcp_grant what = { rx->header.request, rx->data.offset, rx->data.item,
					rx->header.payload_size };

	if (tcp_span_locate(lane, &rx->span, lane->client->get_iov, WIRE_DATA_GET, &what, base))
		return true;
	rx->span.iov = NULL;
	return false;
}

static int rx_data_begin(struct tcp_lane *lane)
{
	struct tcp_rx *rx = &lane->rx;
	int rc;

	if (rx_have(rx) < TCP_HEAD_SIZE)
		return RX_MORE;
	memcpy(&rx->data, rx->buf.bytes + rx->buf.start + sizeof(rx->header), sizeof(rx->data));
	rc = rx_believe(lane, &rx->data);
	if (rc < 0)
		return rc;
	if (lane->lane.group == NULL)
		return rx_fault(lane, "sent data before hello was done");

	rx->buf.start += (uint32_t)TCP_HEAD_SIZE;
	rx->usual = 0;
	rx->data_have = 0;
	rx->is_slow = false;
	rx->move = NULL;
	rx->state = TCP_RX_DATA;
	if (lane->client != NULL) {
		(void)rx_locate(lane, 0); /* gone: to the sink */
		return RX_NEXT;
	}
	rx->move = tcp_pull_find(lane, rx->header.request, &rx->data);
	if (rx->move == NULL)
		return RX_NEXT; /* revoked: to the sink */
	if (rx->move->size != rx->header.payload_size) {
		rx->move = NULL;
		return rx_fault(lane, "sent data that does not fit its grant");
	}
	list_del(&rx->move->node);
	rx->move->lane = &lane->lane;
	rx->move->state = TCP_PULL_RECEIVING;
	return RX_NEXT;
}

static uint32_t sink_pieces(struct tcp_lane *lane, struct iovec *iov, uint32_t iov_max,
			    uint32_t size, uint64_t *size_out)
{
	uint8_t *sink = lane->client != NULL ? lane->client->sink : lane->listener->sink;
	uint32_t count = 0;
	uint64_t sum = 0;

	while (sum < size && count < iov_max) {
		iov[count] = (struct iovec) { sink, MIN(TCP_SINK_SIZE, size - sum) };
		sum += iov[count++].iov_len;
	}
	*size_out = sum;
	return count;
}

/* Pieces for the next bytes of payload, size at most; how many and their sum. */
static uint32_t rx_data_pieces(struct tcp_lane *lane, struct iovec *iov, uint32_t iov_max,
			       uint32_t size, uint64_t *size_out)
{
	struct tcp_rx *rx = &lane->rx;
	const struct tcp_span *span = &rx->span;

	if (rx->move != NULL)
		return tcp_iov_slice(iov, iov_max, rx->move->iov, rx->move->iov_count,
				     rx->data_have, size, size_out);
	if (lane->client == NULL || span->iov == NULL)
		return sink_pieces(lane, iov, iov_max, size, size_out);
	if (rx->data_have == span->base + span->size && !rx_locate(lane, rx->data_have))
		return sink_pieces(lane, iov, iov_max, size, size_out);
	return tcp_iov_slice(iov, iov_max, span->iov, span->iov_count, rx->data_have - span->base,
			     size, size_out);
}

/* So much more of the payload is there. A slow pull is not one that stands still. */
static void rx_data_took(struct tcp_rx *rx, uint32_t size)
{
	rx->data_have += size;
	if (rx->move != NULL)
		rx->move->moved = rx->data_have;
}

static void rx_data_end(struct tcp_lane *lane)
{
	struct tcp_rx *rx = &lane->rx;
	struct xprt_move *move = rx->move;

	rx->state = TCP_RX_HEADER;
	rx->has_ended = true;
	rx->move = NULL;
	if (move != NULL)
		tcp_move_finish(lane, move, 0);
	else if (lane->client != NULL && rx->span.iov != NULL)
		lane->lane.user->landed(&lane->lane, WIRE_DATA_GET, rx->header.request,
					rx->data.item, rx->data.offset, rx->header.payload_size);
}

/* What of the payload came with the frame's head is in the lane's buffer: at most 8 KiB. */
static int rx_data(struct tcp_lane *lane)
{
	struct tcp_rx *rx = &lane->rx;

	for (;;) {
		uint32_t rest = rx->header.payload_size - rx->data_have;
		struct iovec iov;
		uint64_t size;

		if (rest == 0) {
			rx_data_end(lane);
			return RX_NEXT;
		}
		if (rx_have(rx) == 0)
			return RX_MORE;
		(void)rx_data_pieces(lane, &iov, 1, MIN(rest, rx_have(rx)), &size);
		memcpy(iov.iov_base, rx->buf.bytes + rx->buf.start, size);
		rx->buf.start += (uint32_t)size;
		rx_data_took(rx, (uint32_t)size);
	}
}

/* --- the machine --- */

static int rx_header(struct tcp_lane *lane)
{
	struct tcp_rx *rx = &lane->rx;
	int rc;

	if (rx_have(rx) < sizeof(rx->header))
		return RX_MORE;
	memcpy(&rx->header, rx->buf.bytes + rx->buf.start, sizeof(rx->header));
	rc = wire_check_header(&rx->header, lane->client != NULL ? WIRE_S2C : WIRE_C2S);
	if (rc < 0 && rc != -ERR_UNSUPPORTED)
		return rx_fault(lane, "sent a frame whose header is not allowed");
	rx->is_known = rc == 0;
	if (rx->is_refused && rx->header.kind != WIRE_REFUSE)
		return rx_fault(lane, "answered in the clear where TLS was asked for");
	return is_data(&rx->header) ? rx_data_begin(lane) : rx_control_begin(lane);
}

static int rx_step(struct tcp_lane *lane)
{
	switch (lane->rx.state) {
	case TCP_RX_PREFACE:
		return rx_preface(lane);
	case TCP_RX_REFUSED:
		lane->rx.buf.start = lane->rx.buf.end;
		return RX_MORE;
	case TCP_RX_HEADER:
		return rx_header(lane);
	case TCP_RX_BODY:
		return rx_body(lane);
	case TCP_RX_DATA:
		return rx_data(lane);
	}
	ASSERT(false);
}

/* Take steps until more bytes are needed. True: then read. */
static bool rx_parse(struct tcp_lane *lane)
{
	for (;;) {
		int rc = rx_step(lane);

		if (!tcp_lane_is_open(lane))
			return false;
		if (rc < 0) {
			tcp_lane_break(lane, rc);
			return false;
		}
		if (rc == RX_STALL)
			lane->rx.is_stalled = true;
		if (rc != RX_NEXT)
			return rc == RX_MORE;
	}
}

/* Where the next bytes go: *inner_out of them into payload, the rest behind end. */
static uint32_t rx_pieces(struct tcp_lane *lane, struct iovec *iov, uint64_t *inner_out)
{
	struct tcp_rx *rx = &lane->rx;
	uint64_t ahead = TCP_AHEAD_SIZE;
	uint64_t wanted = 0;
	uint32_t count = 0;

	*inner_out = 0;
	if (rx->buf.start > 0) /* a part of one frame at most */
		tcp_buf_move(&rx->buf, rx->buf.bytes, rx->buf.size);
	if (rx->state == TCP_RX_PREFACE) {
		/* What is behind it is for the reactor that the preface names. */
		ahead = sizeof(struct wire_preface) - rx->buf.end;
	} else if (rx->state == TCP_RX_DATA) {
		wanted = rx->header.payload_size - rx->data_have;
		count = rx_data_pieces(lane, iov, TCP_IOV_MAX - 1, (uint32_t)wanted, inner_out);
		if (wanted >= RX_STREAM_SIZE)
			ahead = TCP_HEAD_SIZE;
	} else if (rx->state == TCP_RX_BODY) {
		ahead = MAX(ahead, rx_frame_size(rx) - rx->buf.end);
	} else if (rx->state == TCP_RX_HEADER) {
		ahead += rx->usual; /* more than it: else there might be more */
	}
	if (*inner_out == wanted)
		iov[count++] = (struct iovec) { rx->buf.bytes + rx->buf.end,
						MIN(ahead, rx->buf.size - rx->buf.end) };
	return count;
}

static ssize_t rx_read(struct tcp_lane *lane)
{
	struct env *env = lane->lane.env;
	struct tcp_rx *rx = &lane->rx;
	struct iovec iov[TCP_IOV_MAX];
	uint64_t inner;
	uint32_t count;
	ssize_t got;

	rx_expect(lane);
	count = rx_pieces(lane, iov, &inner);
	got = lane->tls == NULL ? env->ops->sock_recv(env, lane->sock, iov, count)
				: tcp_tls_recv(lane, iov, count);
	if (got == 0)
		return -ERR_PEER;
	if (got < 0)
		return got;
	rx->is_dry = lane->tls == NULL && (uint64_t)got < tcp_iov_size(iov, count);
	lane->lane.bytes_in += (uint64_t)got;
	lane->lane.progress_ns = env_now_ns(env);
	rx->read_ns = lane->lane.progress_ns;
	inner = MIN(inner, (uint64_t)got);
	if (rx->state == TCP_RX_DATA)
		rx_data_took(rx, (uint32_t)inner);
	rx->buf.end += (uint32_t)((uint64_t)got - inner);
	return got;
}

/* Before the lane is left to the socket. What TLS makes of bytes is not counted in them. */
static void rx_want(struct tcp_lane *lane)
{
	struct env *env = lane->lane.env;
	struct tcp_rx *rx = &lane->rx;
	bool is_waiting = rx->state == TCP_RX_DATA && lane->tls == NULL && !rx->is_slow &&
			  rx->header.payload_size - rx->data_have >= RX_WANT;

	if (is_waiting && !lane->rx_timer.is_set)
		env->ops->timer_set(env, &lane->rx_timer, rx->read_ns + RX_WANT_NS);
	if (is_waiting == rx->is_waiting)
		return;
	rx->is_waiting = is_waiting;
	env->ops->sock_want(env, lane->sock, is_waiting ? RX_WANT : 1);
}

/* It is not cleared where the wait is over: one timer serves many payloads. */
void tcp_rx_timer(struct env_timer *timer)
{
	struct tcp_lane *lane = CONTAINER_OF(timer, struct tcp_lane, rx_timer);
	struct env *env = lane->lane.env;
	struct tcp_rx *rx = &lane->rx;

	CHECK_OBJ(lane, TCP_LANE_MAGIC);
	if (!tcp_lane_is_open(lane) || !rx->is_waiting)
		return;
	if (env_now_ns(env) - rx->read_ns >= RX_WANT_NS) {
		rx->is_slow = true;
		rx_want(lane);
		return;
	}
	env->ops->timer_set(env, timer, rx->read_ns + RX_WANT_NS);
}

/* What is in a socket that cannot be sent to is the last that comes: it is read to its
 * end; or as far as it goes, where it is our memory that could not be sent. */
static bool rx_is_enough(const struct tcp_lane *lane, int64_t budget)
{
	if (lane->tx.broken != 0)
		return budget <= 0;
	return lane->rx.is_dry || budget <= (int64_t)(lane->rx.has_ended ? TCP_RX_BUDGET / 2 : 0);
}

/* Until there is no more, or it was enough for one turn. False: the lane has ended. */
static bool rx_go(struct tcp_lane *lane)
{
	struct tcp_rx *rx = &lane->rx;
	int64_t budget = lane->tx.broken != 0 ? RX_LAST_BUDGET : TCP_RX_BUDGET;

	rx->is_dry = false;
	rx->has_ended = false;
	while (rx_parse(lane) && !rx_is_enough(lane, budget)) {
		ssize_t got = rx_read(lane);

		if (got == -EAGAIN)
			break;
		if (got < 0) {
			tcp_lane_break(lane, (int)got);
			return false;
		}
		budget -= TCP_CALL_COST + got;
	}
	return tcp_lane_is_open(lane);
}

void tcp_rx_run(struct tcp_lane *lane)
{
	lane->rx.is_stalled = false;
	if (!rx_go(lane))
		return;
	rx_shrink(lane);
	rx_want(lane);
	/* Out of budget: the socket is ready in the next turn of the loop, unless TLS has it all.
	 */
	if (lane->tls != NULL && !lane->rx.is_stalled && tcp_tls_has_more(lane)) {
		lane->rx.is_stalled = true;
		tcp_lane_wake(lane);
	}
}
