/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Client: answers to GRANTs.
 *
 * Normal path. Each grant of a GRANT frame is queued on a lane of the group (xprt_group_pick()'s
 * choice, of those whose queue has room). When its turn comes, locate() says where the bytes are,
 * and one DATA_PUT of exactly the grant's range is sent from there; then landed(). Where the
 * caller's memory is in many pieces, locate() is asked again for the rest as the frame is sent.
 * Small ones are begun together, so that one system call sends them: up to TCP_PUT_MAX, and of
 * WIRE_DATA_MAX bytes in all.
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
 * Failure. A lane that dies hands its grants to the others, those, too, whose answer was begun but
 * of which no byte was sent. The answer that was half sent is lost: the server fails that pull.
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

/* An open lane with room, as xprt_group_pick() does, or NULL. */
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
		if (xprt_lane_is_better(&lane->lane, best != NULL ? &best->lane : NULL))
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

static struct tcp_grant put_grant(const struct tcp_put *put)
{
	return (struct tcp_grant) { put->move.request, put->move.offset, put->move.item,
				    put->move.size };
}

/* Begun, but the peer has nothing of it. */
static bool put_is_whole(const struct tcp_put *put)
{
	return put->is_used && !put->is_forgotten && put->move.moved == 0 &&
	       put->move.state != TCP_MOVE_FINISHED;
}

static void put_give(struct tcp_client *client, struct tcp_put *put)
{
	ASSERT(put->is_used);
	ASSERT(client->put_count > 0);
	put->is_used = false;
	if (--client->put_count == 0)
		client->spare_used = 0;
}

static void put_hand_over(struct tcp_lane *lane, struct tcp_put *put)
{
	const struct tcp_grant grant = put_grant(put);
	struct tcp_lane *other = grant_pick(lane->lane.group);

	if (other == NULL)
		return;
	list_del(&put->move.node);
	put_give(lane->client, put);
	grant_queue(other, &grant);
}

void tcp_puts_hand_over(struct tcp_lane *lane)
{
	struct tcp_client *client = lane->client;

	ASSERT(!tcp_lane_is_open(lane));
	if (lane->lane.group == NULL)
		return;
	for (uint32_t i = 0; i < TCP_PUT_MAX; i++) {
		if (put_is_whole(&client->puts[i]))
			put_hand_over(lane, &client->puts[i]);
	}
	while (client->grant_count > 0) {
		struct tcp_lane *other = grant_pick(lane->lane.group);
		struct tcp_grant grant;

		if (other == NULL)
			return;
		grant = grant_take(lane);
		grant_queue(other, &grant);
	}
}

/* --- the frames under way --- */

static void put_done(struct xprt_move *move, int rc)
{
	struct tcp_put *put = CONTAINER_OF(move, struct tcp_put, move);
	struct tcp_lane *lane = tcp_of(move->lane);

	put_give(lane->client, put);
	if (rc == 0 && !put->is_forgotten)
		lane->lane.user->landed(&lane->lane, WIRE_GRANT, move->request, move->item,
					move->offset, move->size);
}

const struct tcp_span *tcp_put_span(struct tcp_lane *lane, struct xprt_move *move, uint32_t offset)
{
	struct tcp_put *put = CONTAINER_OF(move, struct tcp_put, move);
	const struct tcp_grant grant = put_grant(put);
	const struct tcp_span *span = &put->span;

	ASSERT(offset >= span->base);
	if (offset < span->base + span->size || offset == move->size ||
	    tcp_span_locate(lane, &put->span, put->iov, WIRE_GRANT, &grant, offset))
		return span;
	return NULL;
}

/* A free one. */
static struct tcp_put *put_find(struct tcp_client *client)
{
	uint32_t i = 0;

	while (client->puts[i].is_used)
		i++;
	ASSERT(i < TCP_PUT_MAX);
	return &client->puts[i];
}

static void put_begin(struct tcp_lane *lane, const struct tcp_grant *grant)
{
	struct tcp_client *client = lane->client;
	struct tcp_put *put = put_find(client);
	struct xprt_move *move = &put->move;
	struct wire_data data = { .item = grant->item, .offset = grant->offset };
	struct wire_header header;

	move->request = grant->request;
	move->item = grant->item;
	move->offset = grant->offset;
	move->size = grant->size;
	move->done = put_done;
	if (!tcp_span_locate(lane, &put->span, put->iov, WIRE_GRANT, grant, 0))
		return;

	wire_header_init(&header, WIRE_DATA_PUT, grant->request, 0, sizeof(data));
	header.payload_size = grant->size;
	memcpy(move->priv.frame, &header, sizeof(header));
	memcpy(move->priv.frame + sizeof(header), &data, sizeof(data));
	put->is_used = true;
	put->is_forgotten = false;
	put->spare_at = client->spare_used;
	client->spare_used += grant->size;
	client->put_count++;
	tcp_tx_move(lane, move);
}

/* Whether the first grant may begin. */
static bool put_has_room(const struct tcp_client *client)
{
	uint32_t size = client->grants[client->grant_first].size;

	if (client->put_count == 0)
		return true;
	return client->put_count < TCP_PUT_MAX && size <= TCP_PUT_SMALL &&
	       size <= WIRE_DATA_MAX - client->spare_used;
}

void tcp_put_next(struct tcp_lane *lane)
{
	struct tcp_client *client = lane->client;
	bool had_any = false;

	while (client->grant_count > 0 && put_has_room(client)) {
		struct tcp_grant grant = grant_take(lane);

		lane->lane.backlog_size -= TCP_HEAD_SIZE + grant.size;
		put_begin(lane, &grant);
		had_any = true;
	}
	if (had_any)
		grants_unstall(lane->lane.group);
}

/* --- forget --- */

/* Copy what is left of a put under way to its part of spare, and go on from there. */
static bool put_copy_rest(struct tcp_lane *lane, struct tcp_put *put)
{
	struct xprt_move *move = &put->move;
	uint32_t first = move->moved > TCP_HEAD_SIZE ? (uint32_t)(move->moved - TCP_HEAD_SIZE) : 0;
	uint8_t *spare = lane->client->spare + put->spare_at;
	uint32_t copied = 0;

	while (first + copied < move->size) {
		const struct tcp_span *span = tcp_put_span(lane, move, first + copied);
		struct iovec iov[TCP_IOV_MAX];
		uint32_t count;
		uint64_t size;

		if (span == NULL)
			return false;
		count = tcp_iov_slice(iov, TCP_IOV_MAX, span->iov, span->iov_count,
				      first + copied - span->base, move->size - first - copied,
				      &size);
		for (uint32_t i = 0; i < count; i++) {
			memcpy(spare + copied, iov[i].iov_base, iov[i].iov_len);
			copied += (uint32_t)iov[i].iov_len;
		}
	}
	put->iov[0] = (struct iovec) { spare, copied };
	put->span = (struct tcp_span) { put->iov, 1, first, copied };
	return true;
}

static void put_forget(struct tcp_lane *lane, struct tcp_put *put)
{
	if (put->move.state == TCP_MOVE_FINISHED) {
		put->is_forgotten = true; /* landed() would come too late */
		return;
	}
	if (put->move.state == TCP_PUSH_QUEUED) {
		tcp_tx_unmove(lane, &put->move);
		put_give(lane->client, put);
		tcp_lane_wake(lane);
		return;
	}
	put->is_forgotten = true;
	if (!put_copy_rest(lane, put))
		tcp_lane_break(lane, -ECANCELED);
}

static void puts_forget(struct tcp_lane *lane, uint64_t request)
{
	for (uint32_t i = 0; i < TCP_PUT_MAX; i++) {
		struct tcp_put *put = &lane->client->puts[i];

		if (put->is_used && !put->is_forgotten && put->move.request == request)
			put_forget(lane, put);
	}
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
		puts_forget(lane, request);
		if (lane->rx.state == TCP_RX_DATA && lane->rx.header.request == request)
			lane->rx.span.iov = NULL;
	}
}
