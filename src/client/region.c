/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declared memory. Over tcp a region is a note: the client's own calls reach all its memory. A
 * direct transport makes it reachable (xprt->declare()) and a DECLARE frame tells the server; items
 * then name segments of regions. Memory that was not declared is, on the fly; such regions stay
 * until the table is full and nothing is under way.
 *
 * Ids are not used again in a client's life. Every new session is told all regions.
 *
 * Failure: DECLARE does not fit in the lane: the ops that need it wait. The server refuses one: the
 * session ends (answer.c).
 */
#include <stdio.h>
#include <string.h>

#include "client_priv.h"

static void region_free(struct client *client, struct ctxkv_region *region)
{
	list_del(&region->node);
	list_add_tail(&client->free_regions, &region->node);
}

static struct xprt_lane *region_lane(const struct session *session)
{
	return session_is_up(session) ? session->group.lanes[0] : NULL;
}

static bool is_sent(const struct ctxkv_region *region, const struct session *session)
{
	return (region->sent[session->index / 64] >> session->index % 64 & 1) != 0;
}

static void sent_set(struct ctxkv_region *region, const struct session *session, bool is_set)
{
	uint64_t bit = UINT64_C(1) << session->index % 64;
	uint64_t *word = &region->sent[session->index / 64];

	*word = is_set ? *word | bit : *word & ~bit;
}

/* Make it known to transport and server. */
static int region_send(struct session *session, struct ctxkv_region *region)
{
	struct client *client = session->client;
	struct xprt_lane *lane = region_lane(session);
	int rc;

	if (lane == NULL)
		return -EAGAIN;
	rc = client->xprt->declare(lane, &region->region);
	if (rc < 0)
		return rc;
	rc = request_send_small(session, WIRE_DECLARE, id_make(ID_REGION, region->region.id, 0),
				NULL, &region->region.declare, sizeof(region->region.declare));
	if (rc < 0) {
		client->xprt->undeclare(lane, &region->region);
		return rc;
	}
	sent_set(region, session, true);
	return 0;
}

/* -EAGAIN: not all servers could be told yet; it goes when they are, and is not used meanwhile: a
 * server that was told is not told of it again. */
static int region_retract(struct client *client, struct ctxkv_region *region)
{
	struct wire_undeclare undeclare = { .region = region->region.id };
	uint64_t id = id_make(ID_REGION, region->region.id, 1);
	int rc;

	for (uint32_t i = 0; i < client->opts.session_max; i++) {
		struct session *session = &client->sessions[i];

		if (!is_sent(region, session))
			continue;
		rc = request_send_small(session, WIRE_UNDECLARE, id, NULL, &undeclare,
					sizeof(undeclare));
		if (rc < 0)
			return rc;
		client->xprt->undeclare(region_lane(session), &region->region);
		sent_set(region, session, false);
		region->is_going = true;
	}
	return 0;
}

/* Room for one more on the fly. */
static int regions_make_room(struct client *client)
{
	if (client->request_count > 0)
		return -EAGAIN;
	list_for_each_safe (node, &client->regions) {
		struct ctxkv_region *region = list_entry(node, struct ctxkv_region, node);

		if (!region->is_implicit)
			continue;
		if (region_retract(client, region) < 0)
			break; /* the oldest go first, and whole */
		region_free(client, region);
	}
	return list_is_empty(&client->free_regions) ? -ENOSPC : 0;
}

static struct ctxkv_region *region_take(struct client *client, void *base, uint64_t size)
{
	struct ctxkv_region *region = list_head(&client->free_regions, struct ctxkv_region, node);

	if (region == NULL)
		return NULL;
	list_del(&region->node);
	region->region = (struct xprt_region) {
		.base = base,
		.size = size,
		.id = ++client->region_id,
	};
	region->is_implicit = false;
	region->is_going = false;
	memset(region->sent, 0, sizeof(region->sent));
	list_add_tail(&client->regions, &region->node);
	return region;
}

/* The declared region that holds the piece; declared now when there is none. */
static int region_find(struct session *session, const struct ctxkv_iov *iov,
		       const struct ctxkv_region **region_out)
{
	struct client *client = session->client;
	struct ctxkv_region *region;
	int rc;

	list_for_each (node, &client->regions) {
		uintptr_t base;

		region = list_entry(node, struct ctxkv_region, node);
		base = (uintptr_t)region->region.base;
		if (region->is_going)
			continue;
		if ((uintptr_t)iov->base < base ||
		    (uintptr_t)iov->base - base > region->region.size)
			continue;
		if (iov->size > region->region.size - ((uintptr_t)iov->base - base))
			continue;
		*region_out = region;
		return is_sent(region, session) ? 0 : region_send(session, region);
	}
	if (list_is_empty(&client->free_regions)) {
		rc = regions_make_room(client);
		client->is_region_short = rc < 0;
		if (rc < 0)
			return rc;
	}
	region = region_take(client, iov->base, iov->size);
	region->is_implicit = true;
	*region_out = region;
	return region_send(session, region);
}

int region_segs(struct session *session, const struct ctxkv_item *item, uint64_t size,
		struct wire_seg *segs)
{
	uint32_t seg_max = MIN(session->client->xprt->seg_max, (uint32_t)WIRE_SEG_MAX);
	uint32_t count = 0;
	int rc;

	for (uint32_t i = 0; size > 0; i++) {
		const struct ctxkv_iov *iov = &item->iov[i];
		const struct ctxkv_region *region = NULL;

		ASSERT(i < item->iov_count);
		if (iov->size == 0)
			continue;
		if (count == seg_max)
			return -EINVAL;
		rc = region_find(session, iov, &region);
		if (rc < 0)
			return rc;
		segs[count++] = (struct wire_seg) {
			.region = region->region.id,
			.size = (uint32_t)MIN(iov->size, size),
			.offset = (uint64_t)((uint8_t *)iov->base - (uint8_t *)region->region.base),
		};
		size -= MIN(iov->size, size);
	}
	return (int)count;
}

int region_flush(struct session *session)
{
	const struct client *client = session->client;

	list_for_each (node, &client->regions) {
		struct ctxkv_region *region = list_entry(node, struct ctxkv_region, node);

		if (!region->is_going && !is_sent(region, session) &&
		    region_send(session, region) < 0)
			return -EAGAIN;
	}
	return 0;
}

void region_session_down(struct session *session)
{
	list_for_each (node, &session->client->regions)
		sent_set(list_entry(node, struct ctxkv_region, node), session, false);
}

int client_region_declare(struct client *client, void *base, uint64_t size,
			  struct ctxkv_region **region_out)
{
	struct ctxkv_region *region;
	uintptr_t end;

	if (base == NULL || size == 0 || __builtin_add_overflow((uintptr_t)base, size, &end))
		return -EINVAL;
	if (list_is_empty(&client->free_regions) && regions_make_room(client) < 0)
		return -ENOSPC;
	region = region_take(client, base, size);
	region->info = (struct ctxkv_region_info) {
		.size = sizeof(region->info),
		.is_direct = client_is_direct(client),
	};
	snprintf(region->info.served, sizeof(region->info.served), "%s: %s", client->xprt->name,
		 client_is_direct(client) ? "in place" : "received into place");
	for (uint32_t i = 0; i < client->opts.session_max; i++)
		session_pump(&client->sessions[i]);
	*region_out = region;
	return 0;
}

const struct ctxkv_region_info *client_region_info(const struct ctxkv_region *region)
{
	return &region->info;
}

int client_region_undeclare(struct client *client, struct ctxkv_region **region)
{
	int rc;

	if (*region == NULL)
		return 0;
	if (client_is_direct(client) && client->request_count > 0)
		return -EBUSY;
	rc = region_retract(client, *region);
	if (rc < 0)
		return rc;
	region_free(client, *region);
	*region = NULL;
	return 0;
}

void region_init(struct client *client)
{
	list_init(&client->regions);
	list_init(&client->free_regions);
	for (uint32_t i = 0; i < REGION_MAX; i++) {
		list_init(&client->region_rows[i].node);
		list_add_tail(&client->free_regions, &client->region_rows[i].node);
	}
}
