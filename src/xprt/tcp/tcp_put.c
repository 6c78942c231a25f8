/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Client: answers to GRANTs.
 *
 * Normal path. Each grant of a GRANT frame is queued on the lane of the group with the smallest
 * backlog. When its turn comes, locate() says where the bytes are, and one DATA_PUT of exactly the
 * grant's range is sent from there; then landed(). Where the caller's memory is in many pieces,
 * locate() is asked again for the rest as the frame is sent.
 *
 * Back-pressure. The queues hold TCP_GRANT_MAX grants a lane. A GRANT that does not fit stays
 * unread, and so does all behind it on that lane, until answers have been sent; the server always
 * takes them, for a granted pull has its memory.
 *
 * forget(). The operation is finished (its deadline came) and the caller wants his buffers back. A
 * grant not begun is not answered: locate() will be negative for it. A DATA_PUT under way must go
 * on, the stream demands it: what is left of it (at most 1 MiB) is copied to the lane's spare
 * buffer and sent from there. So the bytes are right whatever the server does with them; no marker
 * has to tell it that a frame was filled up with something else. A DATA_GET under way goes on into
 * the sink.
 *
 * Failure. A lane that dies hands its unanswered grants to the others. The answer that was half
 * sent is lost: the server fails that pull.
 */
#include "tcp.h"

#include <string.h>

/* --- queues --- */

static uint32_t grant_room(const struct tcp_lane *lane)
{
	return TCP_GRANT_MAX - lane->client->grant_count;
}

bool tcp_grants_fit(const struct tcp_lane *lane, uint32_t count)
{
	const struct xprt_group *group = lane->lane.group;
	uint32_t room = 0;

	for (uint32_t i = 0; i < group->lane_count; i++) {
		if (group->lanes[i] != NULL && tcp_lane_is_open(tcp_of(group->lanes[i])))
			room += grant_room(tcp_of(group->lanes[i]));
	}
	return room >= count;
}

/* The open lane with room and the smallest backlog, or NULL. */
static struct tcp_lane *grant_pick(struct xprt_group *group)
{
	struct tcp_lane *best = NULL;

	for (uint32_t i = 0; i < group->lane_count; i++) {
		struct tcp_lane *lane;

		if (group->lanes[i] == NULL)
			continue;
		lane = tcp_of(group->lanes[i]);
		if (!tcp_lane_is_open(lane) || grant_room(lane) == 0)
			continue;
		if (best == NULL || lane->lane.backlog_size < best->lane.backlog_size)
			best = lane;
	}
	return best;
}

static void grant_queue(struct tcp_lane *lane, const struct tcp_grant *grant)
{
	struct tcp_client *client = lane->client;

	ASSERT(client->grant_count < TCP_GRANT_MAX);
	client->grants[(client->grant_first + client->grant_count) % TCP_GRANT_MAX] = *grant;
	client->grant_count++;
	lane->lane.backlog_size += TCP_HEAD_SIZE + grant->size;
	tcp_lane_wake(lane);
}

void tcp_grants_take(struct tcp_lane *lane, const struct wire_header *header, const void *body)
{
	const struct wire_grant *grants = wire_items(header, body);

	ASSERT(tcp_grants_fit(lane, header->count));
	for (uint32_t i = 0; i < header->count; i++) {
		struct tcp_grant grant = { header->request, grants[i].offset, grants[i].item,
					   grants[i].size };

		grant_queue(grant_pick(lane->lane.group), &grant);
	}
}

/* There is room again: lanes whose GRANT did not fit go on reading. */
static void grants_unstall(struct xprt_group *group)
{
	for (uint32_t i = 0; i < group->lane_count; i++) {
		if (group->lanes[i] != NULL && tcp_of(group->lanes[i])->rx.is_stalled)
			tcp_lane_wake(tcp_of(group->lanes[i]));
	}
}

static struct tcp_grant grant_take(struct tcp_lane *lane)
{
	struct tcp_client *client = lane->client;
	struct tcp_grant grant = client->grants[client->grant_first];

	client->grant_first = (client->grant_first + 1) % TCP_GRANT_MAX;
	client->grant_count--;
	return grant;
}

void tcp_puts_hand_over(struct tcp_lane *lane)
{
	ASSERT(!tcp_lane_is_open(lane));
	while (lane->client->grant_count > 0 && lane->lane.group != NULL) {
		struct tcp_lane *other = grant_pick(lane->lane.group);
		struct tcp_grant grant;

		if (other == NULL)
			return;
		grant = grant_take(lane);
		grant_queue(other, &grant);
	}
}

/* --- the frame under way --- */

static void put_done(struct xprt_move *move, int rc)
{
	struct tcp_lane *lane = tcp_of(move->lane);
	struct tcp_client *client = lane->client;

	ASSERT(client->is_putting);
	client->is_putting = false;
	if (rc == 0 && !client->is_forgotten)
		lane->lane.user->landed(&lane->lane, WIRE_GRANT, move->request, move->item,
					move->offset, move->size);
}

/* Ask for the pieces from byte base on, as many as fit. */
static bool span_locate(struct tcp_lane *lane, struct tcp_span *span, uint32_t base)
{
	const struct xprt_move *put = &lane->client->put;
	int count;

	count = lane->lane.user->locate(&lane->lane, WIRE_GRANT, put->request, put->item,
					put->offset + base, put->size - base, span->iov,
					TCP_IOV_MAX);
	if (count <= 0)
		return false;
	ASSERT(count <= TCP_IOV_MAX);
	span->iov_count = (uint32_t)count;
	span->base = base;
	span->size = (uint32_t)tcp_iov_size(span->iov, span->iov_count);
	ASSERT(span->size > 0 && span->size <= put->size - base);
	return true;
}

bool tcp_put_span(struct tcp_lane *lane, uint32_t offset)
{
	struct tcp_span *span = &lane->client->put_span;

	ASSERT(offset >= span->base);
	if (offset < span->base + span->size)
		return true;
	return offset == lane->client->put.size || span_locate(lane, span, offset);
}

static bool put_begin(struct tcp_lane *lane, const struct tcp_grant *grant)
{
	struct tcp_client *client = lane->client;
	struct xprt_move *put = &client->put;
	struct wire_data data = { .item = grant->item, .offset = grant->offset };
	struct wire_header header;

	put->request = grant->request;
	put->item = grant->item;
	put->offset = grant->offset;
	put->size = grant->size;
	put->done = put_done;
	client->put_span = (struct tcp_span) { .iov = client->put_iov };
	if (!span_locate(lane, &client->put_span, 0))
		return false;

	wire_header_init(&header, WIRE_DATA_PUT, grant->request, 0, sizeof(data));
	header.payload_size = grant->size;
	memcpy(put->priv.frame, &header, sizeof(header));
	memcpy(put->priv.frame + sizeof(header), &data, sizeof(data));
	client->is_putting = true;
	client->is_forgotten = false;
	return true;
}

void tcp_put_next(struct tcp_lane *lane)
{
	struct tcp_client *client = lane->client;

	if (client->is_putting || client->grant_count == 0)
		return;
	while (!client->is_putting && client->grant_count > 0) {
		struct tcp_grant grant = grant_take(lane);

		lane->lane.backlog_size -= TCP_HEAD_SIZE + grant.size;
		if (put_begin(lane, &grant))
			tcp_tx_move(lane, &client->put);
	}
	grants_unstall(lane->lane.group);
}

/* --- forget --- */

/* Copy what is left of the put under way to spare, and go on from there. */
static bool put_copy_rest(struct tcp_lane *lane)
{
	struct tcp_client *client = lane->client;
	struct xprt_move *put = &client->put;
	struct tcp_span *span = &client->put_span;
	uint32_t first = put->moved > TCP_HEAD_SIZE ? (uint32_t)(put->moved - TCP_HEAD_SIZE) : 0;
	uint32_t copied = 0;

	while (first + copied < put->size) {
		struct iovec iov[TCP_IOV_MAX];
		uint32_t count;
		uint64_t size;

		if (!tcp_put_span(lane, first + copied))
			return false;
		count = tcp_iov_slice(iov, TCP_IOV_MAX, span->iov, span->iov_count,
				      first + copied - span->base, put->size - first - copied,
				      &size);
		for (uint32_t i = 0; i < count; i++) {
			memcpy(client->spare + copied, iov[i].iov_base, iov[i].iov_len);
			copied += (uint32_t)iov[i].iov_len;
		}
	}
	span->iov[0] = (struct iovec) { client->spare, copied };
	span->iov_count = 1;
	span->base = first;
	span->size = copied;
	return true;
}

static void put_forget(struct tcp_lane *lane, uint64_t request)
{
	struct tcp_client *client = lane->client;

	if (!client->is_putting || client->is_forgotten || client->put.request != request)
		return;
	if (client->put.state == TCP_MOVE_FINISHED) {
		client->is_forgotten = true; /* landed() would come too late */
		return;
	}
	if (client->put.state == TCP_PUSH_QUEUED) {
		tcp_tx_unmove(lane, &client->put);
		client->is_putting = false;
		tcp_lane_wake(lane);
		return;
	}
	client->is_forgotten = true;
	if (!put_copy_rest(lane))
		tcp_lane_break(lane, -ECANCELED);
}

void tcp_forget(struct xprt_group *group, uint64_t request)
{
	for (uint32_t i = 0; i < group->lane_count; i++) {
		struct tcp_lane *lane;

		if (group->lanes[i] == NULL)
			continue;
		lane = tcp_of(group->lanes[i]);
		ASSERT(lane->client != NULL);
		if (!tcp_lane_is_open(lane))
			continue;
		put_forget(lane, request);
		if (lane->rx.state == TCP_RX_DATA && lane->rx.header.request == request)
			lane->rx.span.iov = NULL;
	}
}
