/* SPDX-License-Identifier: Apache-2.0 */
#include "xprt.h"

#include <stdio.h>
#include <string.h>

const struct xprt_ops *xprt_find(const char *name)
{
	ASSERT(name != NULL);
	for (size_t i = 0; i < xprt_count; i++) {
		if (strcmp(xprt_list[i]->name, name) == 0)
			return xprt_list[i];
	}
	return NULL;
}

#define CAPS_ALL                                                                                   \
	(XPRT_CAP_DIRECT | XPRT_CAP_SYNC_RELEASE | XPRT_CAP_CLOSE_FENCES | XPRT_CAP_MAC |          \
	 XPRT_CAP_TLS | XPRT_CAP_MAPPED)

const char *xprt_ops_check(const struct xprt_ops *ops)
{
	bool is_direct = (ops->caps & XPRT_CAP_DIRECT) != 0;
	bool is_mapped = (ops->caps & XPRT_CAP_MAPPED) != 0;
	bool is_fenced = (ops->caps & (XPRT_CAP_SYNC_RELEASE | XPRT_CAP_CLOSE_FENCES)) != 0;

	if (ops->name == NULL || ops->name[0] == '\0')
		return "no name";
	if (!is_power_of_2(ops->transport))
		return "transport is not one bit";
	if (ops->lane_max == 0 || ops->lane_max > WIRE_LANE_MAX)
		return "lane_max is none, or beyond the wire's";
	if ((ops->caps & ~(uint32_t)CAPS_ALL) != 0)
		return "a capability that does not exist";
	if (!ops->listen_size || !ops->listen || !ops->unlisten || !ops->listener_name)
		return "a required op of the server is missing";
	if (!ops->detach || !ops->attach || !ops->discard)
		return "an op of handing over is missing";
	if (!ops->connect)
		return "a required op of the client is missing";
	if (!ops->send || !ops->close || !ops->secure || !ops->peer_name)
		return "a required op of both sides is missing";
	if (!ops->push || !ops->pull || !ops->revoke)
		return "a move is missing";
	if (is_direct != (ops->declare != NULL) || is_direct != (ops->undeclare != NULL) ||
	    is_direct != (ops->region_add != NULL) || is_direct != (ops->region_remove != NULL))
		return "DIRECT and the region ops disagree";
	if (is_direct == (ops->forget != NULL))
		return "DIRECT and forget disagree";
	if (is_direct != (ops->seg_max > 0) || ops->seg_max > XPRT_MOVE_SEG_MAX)
		return "DIRECT and seg_max disagree, or it is beyond the wire's";
	if (is_mapped && !is_direct)
		return "MAPPED without DIRECT";
	if (is_mapped != (ops->map != NULL) || is_mapped != (ops->unmap != NULL))
		return "MAPPED and map or unmap disagree";
	if (is_fenced == (ops->fence != NULL))
		return "what fences is not said, or said twice";
	return NULL;
}

void xprt_group_init(struct xprt_group *group, void *ctx)
{
	*group = (struct xprt_group) { .ctx = ctx };
	list_init(&group->pulls);
}

struct xprt_lane *xprt_group_pick(const struct xprt_group *group)
{
	struct xprt_lane *best = NULL;

	ASSERT(group->lane_count <= WIRE_LANE_MAX);
	for (uint32_t i = 0; i < group->lane_count; i++) {
		struct xprt_lane *lane = group->lanes[i];

		if (lane == NULL || lane->backlog_size == UINT64_MAX)
			continue;
		if (xprt_lane_is_better(lane, best))
			best = lane;
	}
	return best;
}

int xprt_refuse(struct xprt_lane *lane, int why, const char *text)
{
	struct wire_refuse refuse = { .code = why };
	struct wire_header header;

	snprintf((char *)refuse.text, sizeof(refuse.text), "%s", text);
	wire_header_init(&header, WIRE_REFUSE, 0, 0, sizeof(refuse));
	return lane->ops->send(lane, &header, &refuse, NULL, 0);
}

void xprt_secure_none(struct xprt_lane *lane, struct auth_mac *out, struct auth_mac *in)
{
	auth_mac_destroy(&out);
	auth_mac_destroy(&in);
}

const struct wire_seg *xprt_move_seg(const struct xprt_move *move, uint64_t *offset_out)
{
	uint64_t offset = move->offset + move->moved;

	for (uint32_t i = 0; i < move->seg_count; i++) {
		if (offset < move->segs[i].size) {
			*offset_out = offset;
			return &move->segs[i];
		}
		offset -= move->segs[i].size;
	}
	return NULL;
}

void xprt_move_advance(struct xprt_move *move, uint64_t size)
{
	struct iovec *piece = move->iov;

	ASSERT(size <= piece->iov_len);
	move->moved += size;
	piece->iov_base = (uint8_t *)piece->iov_base + size;
	piece->iov_len -= size;
	if (piece->iov_len > 0)
		return;
	move->iov_count--;
	memmove(move->iov, move->iov + 1, move->iov_count * sizeof(move->iov[0]));
}
