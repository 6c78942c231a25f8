/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LEASE, RENEW and the ends of leases.
 *
 *   1. LEASE looks at its keys like PROBE. Each block of the leading run (or each that is there)
 *      becomes an item of the new lease, until a limit says no: the lease holds those before.
 *   2. The first item of a tenant for a block makes a lease_block, which is charged to the tenant;
 *      the first lease_block of a block has the store keep it (shard_lease), once.
 *   3. RENEW moves the deadline, or ends the lease.
 *   4. The end, by deadline, RENEW or session: items go, blocks with their last item, and the store
 *      lets go of a block (shard_unlease) with the last lease_block of it.
 *
 * Dropped, or found corrupt: the store has forgotten block and count; the items stand for nothing.
 * It is put again, and leased: the store counts anew, and the old items hold it along, harmlessly.
 *
 * An id is the lease's row and a number that only grows, from a start that follows from the
 * server's incarnation: not used again, also behind a restart.
 */
#include "lease.h"

#include <string.h>

#include "reactor_priv.h"

#define LEASE_MAGIC        UINT32_C(0x5341454c)
#define LEASE_TENANT_MAX   64u /* that hold leases at a time */
#define LEASE_SESSION_PART 4u  /* of the tables, for one session */
#define LEASE_SERIAL_MASK  ((UINT64_C(1) << 47) - 1)

/* A tenant while it has leases. */
struct lease_tenant {
	struct list node;
	uint8_t id[16];
	uint32_t lease_count;
	uint64_t held[WIRE_SHARD_MAX]; /* bytes of its blocks */
};

/* A block that leases of one tenant hold. */
struct lease_block {
	struct list node; /* a bucket, or unused */
	struct hash128 hash;
	struct shard_slot *slot;
	struct lease_tenant *tenant;
	uint32_t item_count;
	uint32_t size; /* as charged */
};

struct lease_item {
	struct list node; /* lease->items, or unused */
	struct lease_block *block;
};

/* --- tables --- */

static uint32_t bucket_count_of(const struct reactor_opts *opts)
{
	uint32_t count = 64;

	while (count < opts->lease_block_max / 4)
		count *= 2;
	return count;
}

static uint32_t tenant_count_of(const struct reactor_opts *opts)
{
	return MIN(opts->lease_max, LEASE_TENANT_MAX);
}

uint64_t leases_memory_size(const struct reactor_opts *opts)
{
	return opts->lease_max * sizeof(struct lease) +
	       opts->lease_block_max * (sizeof(struct lease_item) + sizeof(struct lease_block)) +
	       tenant_count_of(opts) * sizeof(struct lease_tenant) +
	       bucket_count_of(opts) * sizeof(struct list);
}

static void timer_cb(struct env_timer *timer);

void leases_init(struct reactor *reactor, void *memory)
{
	const struct reactor_opts *opts = &reactor->opts;
	struct leases *leases = &reactor->leases;
	uint32_t bucket_count = bucket_count_of(opts);
	struct lease_tenant *tenants = memory;
	struct lease_block *blocks = (void *)(tenants + tenant_count_of(opts));
	struct lease_item *items = (void *)(blocks + opts->lease_block_max);

	ASSERT(opts->lease_max <= LEASE_MAX);
	*leases = (struct leases) { .reactor = reactor,
				    .rows = (void *)(items + opts->lease_block_max),
				    .row_count = opts->lease_max,
				    .item_count = opts->lease_block_max,
				    .bucket_mask = bucket_count - 1 };
	leases->buckets = (void *)(leases->rows + opts->lease_max);
	leases->serial = hash128(&opts->incarnation, sizeof(opts->incarnation), 0).lo;
	leases->serial = (leases->serial & LEASE_SERIAL_MASK) + 1;
	list_init(&leases->free);
	list_init(&leases->items);
	list_init(&leases->blocks);
	list_init(&leases->tenants);
	list_init(&leases->tenants_used);
	for (uint32_t i = 0; i < bucket_count; i++)
		list_init(&leases->buckets[i]);
	for (uint32_t i = 0; i < opts->lease_max; i++) {
		leases->rows[i].timer.fire = timer_cb;
		list_add_tail(&leases->free, &leases->rows[i].node);
	}
	for (uint32_t i = 0; i < opts->lease_block_max; i++) {
		list_add_tail(&leases->items, &items[i].node);
		list_add_tail(&leases->blocks, &blocks[i].node);
	}
	for (uint32_t i = 0; i < tenant_count_of(opts); i++)
		list_add_tail(&leases->tenants, &tenants[i].node);
}

/* --- tenants --- */

static struct lease_tenant *tenant_take(struct leases *leases, const uint8_t id[16])
{
	struct lease_tenant *tenant;

	list_for_each (node, &leases->tenants_used) {
		tenant = list_entry(node, struct lease_tenant, node);
		if (memcmp(tenant->id, id, sizeof(tenant->id)) == 0)
			return tenant;
	}
	tenant = list_head(&leases->tenants, struct lease_tenant, node);
	if (tenant == NULL)
		return NULL;
	list_del(&tenant->node);
	list_add_tail(&leases->tenants_used, &tenant->node);
	memset(tenant->held, 0, sizeof(tenant->held));
	memcpy(tenant->id, id, sizeof(tenant->id));
	tenant->lease_count = 0;
	return tenant;
}

static void tenant_give(struct leases *leases, struct lease_tenant *tenant)
{
	list_del(&tenant->node);
	list_add_tail(&leases->tenants, &tenant->node);
}

/* Whether the tenant may lease so much more: alone all that the shard gives, else not more than is
 * then left for others. */
static bool tenant_has_room(const struct leases *leases, const struct lease_tenant *tenant,
			    const struct shard_slot *slot, uint32_t size)
{
	uint64_t max = shard_lease_max(slot->shard);
	uint64_t leased = shard_lease_bytes(slot->shard) + size;

	if (leases->reactor->opts.tenants->count == 1)
		return true;
	return leased <= max && tenant->held[slot->index] + size <= max - leased;
}

/* --- blocks --- */

static struct list *bucket_of(const struct leases *leases, const struct hash128 *hash)
{
	return &leases->buckets[hash->lo & leases->bucket_mask];
}

/* Of this tenant, or (NULL) of any. */
static struct lease_block *block_find(const struct leases *leases, const struct shard_slot *slot,
				      const struct hash128 *hash, const uint8_t *tenant)
{
	list_for_each (node, bucket_of(leases, hash)) {
		struct lease_block *block = list_entry(node, struct lease_block, node);

		if (block->slot == slot && block->hash.lo == hash->lo &&
		    block->hash.hi == hash->hi &&
		    (tenant == NULL || memcmp(block->tenant->id, tenant, 16) == 0))
			return block;
	}
	return NULL;
}

static struct lease_block *block_take(struct leases *leases, struct lease_tenant *tenant,
				      struct shard_slot *slot, const struct shard_ref *ref)
{
	struct lease_block *block = list_head(&leases->blocks, struct lease_block, node);

	if (!tenant_has_room(leases, tenant, slot, ref->size))
		return NULL;
	ASSERT(block != NULL); /* there are as many as items */
	list_del(&block->node);
	list_add_tail(bucket_of(leases, &ref->hash), &block->node);
	block->hash = ref->hash;
	block->slot = slot;
	block->tenant = tenant;
	block->item_count = 0;
	block->size = ref->size;
	tenant->held[slot->index] += ref->size;
	return block;
}

static void block_give(struct leases *leases, struct lease_block *block)
{
	struct lease_tenant *tenant = block->tenant;

	ASSERT(tenant->held[block->slot->index] >= block->size);
	tenant->held[block->slot->index] -= block->size;
	list_del(&block->node);
	list_add_tail(&leases->blocks, &block->node);
}

/* --- leases --- */

static bool is_over_share(uint32_t used, uint32_t all)
{
	return used >= MAX(all / LEASE_SESSION_PART, 1);
}

static struct lease *lease_take(struct request *request, uint32_t duration_ms)
{
	struct session *session = request->session;
	struct leases *leases = &session->reactor->leases;
	struct lease *lease = list_head(&leases->free, struct lease, node);
	struct lease_tenant *tenant;

	if (lease == NULL || is_over_share(session->lease_count, leases->row_count))
		return NULL;
	tenant = tenant_take(leases, session->tenant->id);
	if (tenant == NULL)
		return NULL;
	list_del(&lease->node);
	list_add_tail(&session->leases, &lease->node);
	lease->magic = LEASE_MAGIC;
	lease->session = session;
	lease->id = leases->serial++ << LEASE_ROW_BITS | (uint64_t)(lease - leases->rows);
	lease->duration_ms = MIN(duration_ms, session->reactor->opts.lease_ms_max);
	lease->item_count = 0;
	lease->tenant = tenant;
	list_init(&lease->items);
	tenant->lease_count++;
	session->lease_count++;
	leases->used++;
	return lease;
}

static void item_give(struct leases *leases, struct lease_item *item)
{
	struct lease_block *block = item->block;
	struct shard_slot *slot = block->slot;
	struct hash128 hash = block->hash;

	list_del(&item->node);
	list_add_tail(&leases->items, &item->node);
	leases->items_used--;
	ASSERT(block->item_count > 0);
	if (--block->item_count > 0)
		return;
	block_give(leases, block);
	if (slot->shard != NULL && block_find(leases, slot, &hash, NULL) == NULL)
		shard_unlease(slot->shard, &hash);
}

static void lease_end(struct lease *lease)
{
	struct session *session = lease->session;
	struct reactor *reactor = session->reactor;
	struct leases *leases = &reactor->leases;

	CHECK_OBJ(lease, LEASE_MAGIC);
	reactor->env->ops->timer_clear(reactor->env, &lease->timer);
	while (!list_is_empty(&lease->items))
		item_give(leases, list_head(&lease->items, struct lease_item, node));
	if (--lease->tenant->lease_count == 0)
		tenant_give(leases, lease->tenant);
	session->lease_item_count -= lease->item_count;
	session->lease_count--;
	leases->used--;
	lease->magic = 0;
	lease->id = 0;
	list_del(&lease->node);
	list_add_tail(&leases->free, &lease->node);
}

static void timer_cb(struct env_timer *timer)
{
	struct lease *lease = CONTAINER_OF(timer, struct lease, timer);

	CHECK_OBJ(lease, LEASE_MAGIC);
	lease->session->reactor->metrics.leases_expired++;
	lease_end(lease);
}

static void lease_set_deadline(struct lease *lease, uint32_t duration_ms)
{
	struct env *env = lease->session->reactor->env;

	env->ops->timer_set(env, &lease->timer, env_now_ns(env) + duration_ms * NS_PER_MS);
}

/* Have it hold the block that is there as ref. False: a limit is reached. */
static bool lease_add(struct lease *lease, struct shard_slot *slot, const struct store_id *id,
		      const struct shard_ref *ref)
{
	struct session *session = lease->session;
	struct leases *leases = &session->reactor->leases;
	struct lease_item *item = list_head(&leases->items, struct lease_item, node);
	struct lease_block *block;
	struct shard_ref leased;

	if (item == NULL || is_over_share(session->lease_item_count, leases->item_count))
		return false;
	block = block_find(leases, slot, &ref->hash, lease->tenant->id);
	if (block == NULL)
		block = block_take(leases, lease->tenant, slot, ref);
	if (block == NULL)
		return false;
	if ((ref->flags & SHARD_REF_LEASED) == 0 && shard_lease(slot->shard, id, &leased) < 0) {
		if (block->item_count == 0)
			block_give(leases, block);
		return false;
	}
	block->item_count++;
	item->block = block;
	list_del(&item->node);
	list_add_tail(&lease->items, &item->node);
	leases->items_used++;
	session->lease_item_count++;
	lease->item_count++;
	return true;
}

/* --- requests --- */

/* Lease and warm what the request's keys name, as far as limits go, and say which are there. */
static void lease_fill(struct request *request, const struct wire_header *header,
		       const struct wire_key *keys, struct lease *lease)
{
	struct reactor *reactor = request->session->reactor;
	struct saving_row *saving = request_saving(request);
	uint64_t warm_left = (request->flags & WIRE_REQ_WARM) != 0 ? warm_max(reactor) : 0;
	bool is_wanted = true; /* a leading run, or all */
	struct store_id id;
	struct shard_ref ref;

	memcpy(id.domain, request->domain, sizeof(id.domain));
	memcpy(id.ns, request->ns, sizeof(id.ns));
	for (uint32_t i = 0; i < header->count; i++) {
		struct shard_slot *slot = reactor_slot(reactor, &keys[i]);
		bool has_shard = slot_is_open(slot);

		memcpy(id.key, keys[i].bytes, sizeof(id.key));
		if (!has_shard || !shard_find(slot->shard, &id, &ref)) {
			if (has_shard)
				reactor_count_miss(reactor, saving, slot->shard, &id);
			is_wanted = is_wanted && (request->flags & WIRE_REQ_ALL) != 0;
			continue;
		}
		request->bits[i / 8] |= (uint8_t)(1u << i % 8);
		reactor->metrics.lease_found++;
		if (is_wanted && warm_left > 0) {
			uint64_t size = warm_add(reactor, slot, &id, &ref);

			warm_left -= MIN(warm_left, size);
		}
		if (lease == NULL || !is_wanted)
			continue;
		if (lease_add(lease, slot, &id, &ref)) {
			request->bitmap.leased++;
			continue;
		}
		reactor->metrics.leases_shortened++;
		lease = NULL;
	}
	reactor->metrics.lease_keys += header->count;
}

void lease_request(struct request *request, const struct wire_header *header, const void *body)
{
	const struct wire_request *fixed = body;
	struct reactor *reactor = request->session->reactor;
	struct lease *lease = NULL;

	if (fixed->duration_ms > 0) {
		lease = lease_take(request, fixed->duration_ms);
		reactor->metrics.leases_shortened += lease == NULL;
	}
	lease_fill(request, header, wire_items(header, body), lease);
	if (lease == NULL)
		return;
	if (lease->item_count == 0) {
		lease_end(lease);
		return;
	}
	lease_set_deadline(lease, lease->duration_ms);
	request->bitmap.lease = lease->id;
	request->bitmap.duration_ms = lease->duration_ms;
	reactor->metrics.leases_granted++;
}

/* The lease of this id, when it is the tenant's. */
static struct lease *lease_find(const struct session *session, uint64_t id)
{
	const struct leases *leases = &session->reactor->leases;
	uint64_t row = id & LEASE_MAX;

	if (id == 0 || row >= leases->row_count || leases->rows[row].id != id ||
	    memcmp(leases->rows[row].tenant->id, session->tenant->id, 16) != 0)
		return NULL;
	return &leases->rows[row];
}

int lease_renew(struct request *request, const struct wire_request *body)
{
	struct lease *lease = lease_find(request->session, body->lease);

	if (lease == NULL)
		return -ERR_MISS;
	if (body->duration_ms == 0)
		lease_end(lease);
	else
		lease_set_deadline(lease, MIN(body->duration_ms, lease->duration_ms));
	return 0;
}

bool lease_covers(const struct op *op, uint64_t id, const struct hash128 *hash)
{
	const struct lease *lease = lease_find(op->session, id);

	return lease != NULL &&
	       block_find(&op->reactor->leases, op->slot, hash, lease->tenant->id) != NULL;
}

void leases_end_session(struct session *session)
{
	while (!list_is_empty(&session->leases))
		lease_end(list_head(&session->leases, struct lease, node));
	ASSERT(session->lease_count == 0);
	ASSERT(session->lease_item_count == 0);
}
