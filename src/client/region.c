/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declared memory. Over tcp a region is a note: the client's own calls reach all its memory. A
 * direct transport makes it reachable (xprt->declare()) and a DECLARE frame tells the server; items
 * then name segments of regions.
 *
 * Memory that was not declared: where the transport goes by addresses it is declared on the fly;
 * such regions stay until the table is full and nothing is under way. A transport that maps memory
 * (XPRT_CAP_MAPPED) would not see that another mapping has taken its place, so that there it is
 * staged.
 *
 * Staged: an item any of whose memory is not within reach (private, not declared, refused by the
 * server, in too many pieces) goes whole through the staging area (stage.h), which is a region
 * like the others, declared first. Without one such items are refused, and what was not declared is
 * declared on the fly.
 *
 * Ids are not used again in a client's life. Every new session is told all regions.
 *
 * Failure: DECLARE does not fit in the lane: the ops that need it wait. The staging area is full:
 * they wait. The server refuses a region: it is staged from then on; the staging area: the session
 * does without its door.
 */
#include <stdio.h>
#include <string.h>

#include "../base/log.h"
#include "client_priv.h"

static void region_free(struct client *client, struct ctxkv_region *region)
{
	ASSERT(region->request_count == 0);
	list_del(&region->node);
	list_add_tail(&client->free_regions, &region->node);
}

static struct xprt_lane *region_lane(const struct session *session)
{
	return session_is_up(session) ? session->group.lanes[0] : NULL;
}

/* --- who knows it --- */

static bool bit_is_set(const uint64_t bits[SESSION_WORDS], const struct session *session)
{
	return (bits[session->index / 64] >> session->index % 64 & 1) != 0;
}

static void bit_set(uint64_t bits[SESSION_WORDS], const struct session *session, bool is_set)
{
	uint64_t bit = UINT64_C(1) << session->index % 64;
	uint64_t *word = &bits[session->index / 64];

	*word = is_set ? *word | bit : *word & ~bit;
}

static bool is_any(const uint64_t bits[SESSION_WORDS])
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < SESSION_WORDS; i++)
		sum |= bits[i];
	return sum != 0;
}

static bool is_sent(const struct ctxkv_region *region, const struct session *session)
{
	return bit_is_set(region->sent, session);
}

static bool is_staged(const struct ctxkv_region *region, const struct session *session)
{
	return region->is_refused || bit_is_set(region->staged, session);
}

/* The slowest of the ways that it is served. */
static void served_update(struct ctxkv_region *region)
{
	bool is_base_direct = (region->client->opts.xprt->caps & XPRT_CAP_DIRECT) != 0;
	enum served served = is_base_direct ? SERVED_IN_PLACE : SERVED_RECEIVED;

	if (is_any(region->staged))
		served = SERVED_STAGED;
	else if (is_any(region->sent))
		served = SERVED_IN_PLACE;
	atomic_store_explicit(&region->served, served, memory_order_relaxed);
}

static void region_stage(struct session *session, struct ctxkv_region *region, int why)
{
	bit_set(region->sent, session, false);
	bit_set(region->staged, session, true);
	served_update(region);
	if (region->is_told || region->is_implicit)
		return;
	region->is_told = true;
	log_info("memory at %p size %llu cannot be shared with server %s: %s; it is copied through "
		 "the staging area: ctxkv_alloc() gives memory that is not",
		 region->region.base, (unsigned long long)region->region.size,
		 session->server->address, err_str(why));
}

/* Make it known to transport and server. */
static int region_send(struct session *session, struct ctxkv_region *region)
{
	const struct xprt_ops *xprt = session->xprt;
	struct xprt_lane *lane = region_lane(session);
	int rc;

	/* What the transport has been told and the server has not is told again: not for that. */
	if (lane == NULL || !session_has_request_room(session))
		return -EAGAIN;
	rc = xprt->declare(lane, &region->region);
	if (rc < 0 && rc != -EAGAIN && !region->is_stage && session->client->stage_region != NULL) {
		region_stage(session, region, rc);
		return 0;
	}
	if (rc < 0)
		return rc;
	rc = request_send_small(session, WIRE_DECLARE, id_make(ID_REGION, region->region.id, 0),
				NULL, &region->region.declare, sizeof(region->region.declare));
	if (rc < 0) {
		xprt->undeclare(lane, &region->region);
		return rc;
	}
	bit_set(region->sent, session, true);
	if (region->region.declare.page_size != 0)
		atomic_store_explicit(&region->page_size, region->region.declare.page_size,
				      memory_order_relaxed);
	served_update(region);
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
		session->xprt->undeclare(region_lane(session), &region->region);
		bit_set(region->sent, session, false);
		region->is_going = true;
	}
	return 0;
}

/* --- the table --- */

/* Room for one more: those that nobody names, of what was declared on the fly or is on its way
 * out. The oldest go first, and whole. */
static int regions_make_room(struct client *client)
{
	list_for_each_safe (node, &client->regions) {
		struct ctxkv_region *region = list_entry(node, struct ctxkv_region, node);

		if ((!region->is_implicit && !region->is_going) || region->request_count > 0)
			continue;
		if (region_retract(client, region) < 0)
			break;
		region_free(client, region);
	}
	return list_is_empty(&client->free_regions) ? -EAGAIN : 0;
}

static struct ctxkv_region *region_take(struct client *client, void *base, uint64_t size)
{
	struct ctxkv_region *region = list_head(&client->free_regions, struct ctxkv_region, node);

	ASSERT(region != NULL);
	list_del(&region->node);
	*region = (struct ctxkv_region) {
		.client = client,
		.region = { .base = base, .size = size, .id = ++client->region_id },
	};
	list_init(&region->node);
	list_add_tail(&client->regions, &region->node);
	served_update(region);
	return region;
}

struct ctxkv_region *client_region_find(struct client *client, const void *base, uint64_t size)
{
	list_for_each (node, &client->regions) {
		struct ctxkv_region *region = list_entry(node, struct ctxkv_region, node);
		uintptr_t begin = (uintptr_t)region->region.base;

		if (region->is_going || region->is_stage)
			continue;
		if ((uintptr_t)base < begin || (uintptr_t)base - begin > region->region.size)
			continue;
		if (size <= region->region.size - ((uintptr_t)base - begin))
			return region;
	}
	return NULL;
}

/* --- segments --- */

/* The region that holds the piece. -EOPNOTSUPP: the session does not reach it. */
static int region_find(struct session *session, const struct ctxkv_iov *iov,
		       struct ctxkv_region **region_out)
{
	struct client *client = session->client;
	struct ctxkv_region *region = client_region_find(client, iov->base, iov->size);
	int rc = 0;

	if (region == NULL && client->stage_region != NULL &&
	    (session->xprt->caps & XPRT_CAP_MAPPED) != 0)
		return -EOPNOTSUPP;
	if (region == NULL) {
		if (list_is_empty(&client->free_regions))
			rc = regions_make_room(client);
		client->is_region_short |= rc < 0; /* others may wait for one, too */
		if (rc < 0)
			return rc;
		region = region_take(client, iov->base, iov->size);
		region->is_implicit = true;
	}
	if (!is_sent(region, session) && !is_staged(region, session))
		rc = region_send(session, region);
	if (rc == 0 && is_staged(region, session))
		rc = -EOPNOTSUPP;
	*region_out = region;
	return rc;
}

static void request_name(struct request *request, struct ctxkv_region *region)
{
	uint32_t row = (uint32_t)(region - region->client->region_rows);
	uint64_t bit = UINT64_C(1) << row % 64;

	region->request_count += (request->regions[row / 64] & bit) == 0;
	request->regions[row / 64] |= bit;
}

void region_requests_end(struct client *client, struct request *request)
{
	for (uint32_t i = 0; i < ARRAY_LEN(request->regions); i++) {
		for (uint64_t *rows = &request->regions[i]; *rows != 0; *rows &= *rows - 1) {
			uint32_t row = i * 64 + (uint32_t)__builtin_ctzll(*rows);

			ASSERT(client->region_rows[row].request_count > 0);
			client->region_rows[row].request_count--;
		}
	}
}

/* -EOPNOTSUPP: to be staged. */
static int segs_in_place(struct request *request, const struct ctxkv_item *item, uint64_t size,
			 struct wire_seg *segs)
{
	struct session *session = request->session;
	uint32_t seg_max = MIN(session->xprt->seg_max, (uint32_t)WIRE_SEG_MAX);
	uint32_t count = 0;
	int rc;

	for (uint32_t i = 0; size > 0; i++) {
		const struct ctxkv_iov *iov = &item->iov[i];
		struct ctxkv_region *region = NULL;

		ASSERT(i < item->iov_count);
		if (iov->size == 0)
			continue;
		if (count == seg_max)
			return session->client->stage_region != NULL ? -EOPNOTSUPP : -EINVAL;
		rc = region_find(session, iov, &region);
		if (rc < 0)
			return rc;
		request_name(request, region);
		segs[count++] = (struct wire_seg) {
			.region = region->region.id,
			.size = (uint32_t)MIN(iov->size, size),
			.offset = (uint64_t)((uint8_t *)iov->base - (uint8_t *)region->region.base),
		};
		size -= MIN(iov->size, size);
	}
	request->is_in_place = true;
	return (int)count;
}

/* An item's chunks are in order, so that all of them are before the end of its last segment. */
static void stage_prepare(struct client *client, const struct wire_seg *last)
{
	const struct client_opts *opts = &client->opts;
	uint64_t end = last->offset + last->size;

	while (opts->stage_prepare != NULL && client->stage_prepared < end) {
		uint64_t size = MIN(STAGE_STEP, opts->stage_size - client->stage_prepared);

		opts->stage_prepare((uint8_t *)opts->stage + client->stage_prepared, size);
		client->stage_prepared += size;
	}
}

static int segs_staged(struct request *request, struct ctxkv_item *item, uint32_t size, bool is_put,
		       struct wire_seg *segs)
{
	struct session *session = request->session;
	struct client *client = session->client;
	struct stage *stage = &client->stage;
	struct stage_slot *slot = NULL;
	uint32_t count;
	int rc;

	ASSERT(client->stage_region != NULL);
	ASSERT(is_sent(client->stage_region, session));
	rc = stage_take(stage, size, MIN(session->xprt->seg_max, (uint32_t)WIRE_SEG_MAX), &slot);
	client->is_stage_short |= rc < 0;
	if (rc < 0)
		return rc;
	list_add_tail(&request->slots, &slot->node);
	item_state(item)->slot = stage_index_of(stage, slot) + 1;
	count = stage_segs(stage, slot, client->stage_region->region.id, segs);
	stage_prepare(client, &segs[count - 1]);
	if (is_put)
		stage_copy_in(stage, slot, item, 0, size);
	return (int)count;
}

int region_segs(struct request *request, struct ctxkv_item *item, uint32_t size, bool is_put,
		struct wire_seg *segs)
{
	int rc = segs_in_place(request, item, size, segs);

	if (rc != -EOPNOTSUPP)
		return rc;
	if (request->session->client->stage_region == NULL)
		return -EINVAL;
	return segs_staged(request, item, size, is_put, segs);
}

void region_unstage(struct client *client, struct ctxkv_item *item)
{
	struct item_state *state = item_state(item);

	if (state->slot == 0)
		return;
	stage_give(&client->stage, stage_slot_at(&client->stage, (uint32_t)state->slot - 1));
	state->slot = 0;
}

/* --- sessions --- */

/* The staging area is the first of the list. */
int region_flush(struct session *session)
{
	int rc;

	list_for_each (node, &session->client->regions) {
		struct ctxkv_region *region = list_entry(node, struct ctxkv_region, node);

		if (region->is_going || is_sent(region, session) || is_staged(region, session))
			continue;
		rc = region_send(session, region);
		if (rc == -EAGAIN || (rc < 0 && region->is_stage))
			return rc;
	}
	return 0;
}

void region_session_down(struct session *session)
{
	list_for_each (node, &session->client->regions) {
		struct ctxkv_region *region = list_entry(node, struct ctxkv_region, node);

		bit_set(region->sent, session, false);
		bit_set(region->staged, session, false);
		served_update(region);
	}
}

int region_answered(struct session *session, uint32_t id, int status)
{
	if (status == 0)
		return 0;
	list_for_each (node, &session->client->regions) {
		struct ctxkv_region *region = list_entry(node, struct ctxkv_region, node);

		if (region->region.id != id || !is_sent(region, session))
			continue;
		if (region->is_stage || session->client->stage_region == NULL)
			return status;
		session->xprt->undeclare(region_lane(session), &region->region);
		region->is_refused = true;
		region_stage(session, region, status);
		return 0;
	}
	return 0; /* an UNDECLARE, or of a region that is no more */
}

/* --- for the client --- */

int client_region_declare(struct client *client, void *base, uint64_t size, uint32_t page_size,
			  struct ctxkv_region **region_out)
{
	struct ctxkv_region *region;
	uintptr_t end;

	if (base == NULL || size == 0 || __builtin_add_overflow((uintptr_t)base, size, &end))
		return -EINVAL;
	if (list_is_empty(&client->free_regions) && regions_make_room(client) < 0)
		return -ENOSPC;
	region = region_take(client, base, size);
	atomic_store_explicit(&region->page_size, page_size, memory_order_relaxed);
	for (uint32_t i = 0; i < client->opts.session_max; i++)
		session_pump(&client->sessions[i]);
	*region_out = region;
	return 0;
}

void client_region_info(const struct ctxkv_region *region, struct ctxkv_region_info *info_out)
{
	static const char *const texts[] = {
		[SERVED_RECEIVED] = "received into place",
		[SERVED_IN_PLACE] = "in place",
		[SERVED_STAGED] = "staged",
	};
	const struct client_opts *opts = &region->client->opts;
	uint32_t served = atomic_load_explicit(&region->served, memory_order_relaxed);
	bool is_base = served == SERVED_RECEIVED || (opts->xprt->caps & XPRT_CAP_DIRECT) != 0;

	*info_out = (struct ctxkv_region_info) {
		.size = sizeof(*info_out),
		.is_direct = served == SERVED_IN_PLACE,
		.page_size = atomic_load_explicit(&region->page_size, memory_order_relaxed),
	};
	snprintf(info_out->served, sizeof(info_out->served), "%s: %s",
		 is_base ? opts->xprt->name : opts->door->name, texts[served]);
}

int client_region_undeclare(struct client *client, struct ctxkv_region **region)
{
	int rc;

	if (*region == NULL)
		return 0;
	if ((*region)->request_count > 0)
		return -EBUSY;
	rc = region_retract(client, *region);
	if (rc < 0)
		return rc;
	region_free(client, *region);
	*region = NULL;
	return 0;
}

/* The row goes when there is need of it. */
void client_region_abandon(struct client *client, struct ctxkv_region **region)
{
	if (client_region_undeclare(client, region) == 0)
		return;
	(*region)->is_going = true;
	*region = NULL;
}

void region_init(struct client *client)
{
	struct ctxkv_region *region;

	list_init(&client->regions);
	list_init(&client->free_regions);
	for (uint32_t i = 0; i < REGION_MAX; i++) {
		list_init(&client->region_rows[i].node);
		list_add_tail(&client->free_regions, &client->region_rows[i].node);
	}
	if (client->opts.stage == NULL)
		return;
	stage_init(&client->stage, client->opts.stage, client->opts.stage_size,
		   client->stage_slots);
	region = region_take(client, client->opts.stage, client->opts.stage_size);
	region->is_stage = true;
	client->stage_region = region;
}
