/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server: moves.
 *
 * Normal path. A push becomes a DATA_GET frame in the lane's send queue; it is done when the kernel
 * has its last byte. A small one is copied among the control frames and done at once: so the result
 * that follows it leaves with it, in one system call and one packet. A pull asks for its bytes in a
 * GRANT (several pulls of one request share a frame) and then waits in group->pulls. One DATA_PUT
 * answers one grant, whole, through whichever lane of the group: never in parts, so that a client
 * cannot leave a hole in what it was granted. The receiving lane takes the pull over and the
 * payload is received into its pieces.
 *
 * Revoke. A push not begun and any pull are given back at once; data that comes for a pull that is
 * gone goes to the sink. A push that has begun is sent to its end, from the server's own memory.
 *
 * Failure. A lane dies: its pushes, the pulls issued on it or being received through it fail. A
 * pull issued on a lane that lives, whose data was queued by the client on one that died, is sent
 * again by the client (tcp_put.c) or, if it had begun, fails with the lane that received it. A pull
 * that nobody answers stays: the server core's stall timer revokes it.
 */
#include "tcp.h"

#include <string.h>

#define GRANTS_MAX (WIRE_REPLY_MAX / sizeof(struct wire_grant))

static void move_check(const struct xprt_lane *lane, const struct xprt_move *move)
{
	ASSERT(lane->group != NULL);
	ASSERT(move->done != NULL);
	ASSERT(move->request != 0);
	ASSERT(move->size > 0 && move->size <= WIRE_DATA_MAX);
	ASSERT(move->iov_count > 0 && move->iov_count <= XPRT_MOVE_IOV_MAX);
	ASSERT(tcp_iov_size(move->iov, move->iov_count) == move->size);
}

void tcp_move_finish(struct tcp_lane *lane, struct xprt_move *move, int rc)
{
	ASSERT(move->state != TCP_MOVE_FINISHED);
	move->state = TCP_MOVE_FINISHED;
	move->rc = rc;
	list_add_tail(&lane->finished, &move->node);
}

bool tcp_moves_deliver(struct tcp_lane *lane)
{
	bool had_any = !list_is_empty(&lane->finished);
	struct xprt_move *move;

	while ((move = list_head(&lane->finished, struct xprt_move, node)) != NULL) {
		list_del(&move->node);
		move->done(move, move->rc);
	}
	return had_any;
}

/* Of a lane that is not open: broken, or being closed by its user. */
static int lane_why(const struct tcp_lane *lane)
{
	return lane->broken != 0 ? lane->broken : -ECANCELED;
}

void tcp_push(struct xprt_lane *xprt_lane, struct xprt_move *move)
{
	struct tcp_lane *lane = tcp_of(xprt_lane);
	struct wire_data data = { .item = move->item, .offset = move->offset };
	struct wire_header header;

	move_check(xprt_lane, move);
	move->lane = xprt_lane;
	move->state = 0;
	tcp_lane_wake(lane);
	if (!tcp_lane_is_open(lane)) {
		tcp_move_finish(lane, move, lane_why(lane));
		return;
	}
	wire_header_init(&header, WIRE_DATA_GET, move->request, 0, sizeof(data));
	header.payload_size = move->size;
	if (tcp_tx_small(lane, &header, &data, move->iov, move->iov_count)) {
		lane->tx.has_small = true;
		tcp_move_finish(lane, move, 0);
		return;
	}
	memcpy(move->priv.frame, &header, sizeof(header));
	memcpy(move->priv.frame + sizeof(header), &data, sizeof(data));
	tcp_tx_move(lane, move);
}

void tcp_pull(struct xprt_lane *xprt_lane, struct xprt_move *move)
{
	struct tcp_lane *lane = tcp_of(xprt_lane);

	move_check(xprt_lane, move);
	move->lane = xprt_lane;
	move->moved = 0;
	move->state = TCP_PULL_ASKING;
	tcp_lane_wake(lane);
	if (tcp_lane_is_open(lane))
		list_add_tail(&lane->asking, &move->node);
	else
		tcp_move_finish(lane, move, lane_why(lane));
}

void tcp_revoke(struct xprt_move *move)
{
	struct tcp_lane *lane = tcp_of(move->lane);

	switch (move->state) {
	case TCP_PUSH_QUEUED:
		tcp_tx_unmove(lane, move);
		break;
	case TCP_PULL_ASKING:
	case TCP_PULL_GRANTED:
		list_del(&move->node);
		break;
	case TCP_PULL_RECEIVING:
		ASSERT(lane->rx.move == move);
		lane->rx.move = NULL;
		break;
	default: /* begun or finished: ends by itself */
		return;
	}
	tcp_move_finish(lane, move, -ECANCELED);
	tcp_lane_wake(lane);
}

static void group_pulls_fail(struct tcp_lane *lane, int rc)
{
	list_for_each_safe (node, &lane->lane.group->pulls) {
		struct xprt_move *move = list_entry(node, struct xprt_move, node);

		if (move->lane != &lane->lane)
			continue;
		list_del(&move->node);
		tcp_move_finish(lane, move, rc);
	}
}

void tcp_moves_fail(struct tcp_lane *lane, int rc)
{
	struct xprt_move *move;

	while ((move = list_head(&lane->tx.moves, struct xprt_move, node)) != NULL) {
		list_del(&move->node);
		tcp_move_finish(lane, move, rc);
	}
	while ((move = list_head(&lane->asking, struct xprt_move, node)) != NULL) {
		list_del(&move->node);
		tcp_move_finish(lane, move, rc);
	}
	if (lane->rx.move != NULL) {
		tcp_move_finish(lane, lane->rx.move, rc);
		lane->rx.move = NULL;
	}
	if (lane->listener != NULL && lane->lane.group != NULL)
		group_pulls_fail(lane, rc);
}

/* One GRANT for as many of the pulls in front as are of one request and fit. */
static bool grant_send(struct tcp_lane *lane)
{
	struct xprt_move *first = list_head(&lane->asking, struct xprt_move, node);
	uint32_t room = tcp_tx_room(lane);
	struct wire_grant grants[GRANTS_MAX];
	struct wire_header header;
	uint16_t count = 0;
	int rc;

	if (first == NULL || room < sizeof(header) + sizeof(grants[0]))
		return false;
	room = (uint32_t)MIN(GRANTS_MAX, (room - sizeof(header)) / sizeof(grants[0]));
	list_for_each_safe (node, &lane->asking) {
		struct xprt_move *move = list_entry(node, struct xprt_move, node);

		if (count == room || move->request != first->request)
			break;
		grants[count++] = (struct wire_grant) {
			.item = move->item,
			.size = move->size,
			.offset = move->offset,
		};
		list_del(&move->node);
		move->state = TCP_PULL_GRANTED;
		list_add_tail(&lane->lane.group->pulls, &move->node);
	}
	wire_header_init(&header, WIRE_GRANT, first->request, count,
			 (uint32_t)(count * sizeof(grants[0])));
	rc = tcp_tx_frame(lane, &header, grants);
	ASSERT(rc == 0);
	return true;
}

void tcp_grants_send(struct tcp_lane *lane)
{
	while (grant_send(lane)) {
	}
}

struct xprt_move *tcp_pull_find(struct tcp_lane *lane, uint64_t request,
				const struct wire_data *data)
{
	list_for_each (node, &lane->lane.group->pulls) {
		struct xprt_move *move = list_entry(node, struct xprt_move, node);

		if (move->request == request && move->item == data->item &&
		    move->offset == data->offset)
			return move;
	}
	return NULL;
}
