/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's process: the real client core, asked for puts, gets, probes and drops. What comes back
 * goes to the model. Buffers are filled with a pattern when they are released, and looked at again
 * before they are freed: whatever has changed was written by somebody late. What is released is not
 * held by any server; buffers are such that a drive can be let at them, or odd.
 */
#include "cluster.h"

#include "../../src/wire/place.h"
#include "../../src/xprt/loop/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define POISON       0x5a
#define OVER_MAX_NS  (120 * NS_PER_S) /* a frozen server thaws, a dead one is gone */
#define RESULT_SLACK (50 * NS_PER_MS) /* timers and the loop's turn, after the deadline */

struct cop {
	struct ctxkv_op op;
	struct list node;
	struct user *user;
	struct ctxkv_item items[OP_ITEM_MAX];
	struct ctxkv_iov iov[OP_ITEM_MAX][2];
	uint8_t *bytes[OP_ITEM_MAX];
	uint64_t sizes[OP_ITEM_MAX];
	uint32_t idents[OP_ITEM_MAX];
	uint32_t versions[OP_ITEM_MAX]; /* PUT */
	uint64_t tick;
	uint64_t wall_s;
	uint64_t life;
	uint64_t begin_ns;
	uint64_t deadline_ns;
	uint64_t late_ns; /* of its user and of blocking calls, when it began */
	uint64_t connects;
	struct hash128 hash[OP_ITEM_MAX]; /* of what a put was given, or a get has got */
	bool has_result;
	bool was_calm;
};

/* --- buffers --- */

static void check_row(const struct user *user, const struct quarantine *row)
{
	for (uint64_t i = 0; i < row->size; i++) {
		if (row->bytes[i] != POISON)
			sim_fail(user->cluster->sim,
				 "client %u: byte %llu of %llu, of op %u of identity %u, was "
				 "written after its release at %.6f",
				 user->number, (unsigned long long)i, (unsigned long long)row->size,
				 row->opcode, row->ident, (double)row->released_ns / 1e9);
	}
}

static void check_quarantine(const struct user *user)
{
	for (uint32_t i = 0; i < QUARANTINE_MAX; i++)
		check_row(user, &user->quarantine[i]);
}

/* Not used again; its memory goes back to the system. */
static void row_free(struct quarantine *row)
{
	uintptr_t begin = round_up((uintptr_t)row->bytes, PAGE_SIZE);
	uintptr_t end = round_down((uintptr_t)row->bytes + row->size, PAGE_SIZE);

	if (end > begin)
		(void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* only thrift */
	*row = (struct quarantine) { 0 };
}

static void buffer_release(struct user *user, const struct cop *cop, uint32_t i)
{
	struct quarantine *row = &user->quarantine[user->quarantine_next++ % QUARANTINE_MAX];

	/* What a dead process has sent may still be acted on: its memory is nobody's. */
	if (cop->bytes[i] == NULL || user->is_killed)
		return;
	if (xprt_loop_is_held(cop->bytes[i], cop->sizes[i]))
		sim_fail(user->cluster->sim,
			 "client %u: memory of op %u of identity %u is released and held",
			 user->number, cop->op.opcode, cop->idents[i]);
	check_row(user, row);
	row_free(row);
	memset(cop->bytes[i], POISON, cop->sizes[i]);
	*row = (struct quarantine) { cop->bytes[i], cop->sizes[i], user->cluster->sim->now_ns,
				     cop->op.opcode, cop->idents[i] };
}

static void cop_free(struct cop *cop)
{
	list_del(&cop->node);
	for (uint32_t i = 0; i < OP_ITEM_MAX; i++)
		buffer_release(cop->user, cop, i);
	free(cop);
}

/* --- results --- */

static bool is_known(int status)
{
	switch (-status) {
	case 0:
	case ERR_MISS:
	case ERR_CORRUPT:
	case ERR_CHANGED:
	case ERR_DEADLINE:
	case ERR_UNREACHABLE:
	case ERR_OFFLINE:
	case ERR_PEER:
	case ERR_CLOSING:
	case ERR_BUSY:
	case ERR_FULL:
	case ERR_QUOTA:
	case ERR_ABORTED:
	case ECANCELED:
	case ECONNRESET:
	case ECONNREFUSED:
	case EPIPE:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case EIO:
		return true;
	default:
		return false;
	}
}

static void on_put(struct cop *cop, uint32_t i)
{
	struct user *user = cop->user;
	struct cluster *cluster = user->cluster;
	const struct ctxkv_item *item = &cop->items[i];
	struct ctxkv_stat stat = { .size = sizeof(stat) };
	bool is_durable =
		(cop->op.flags & CTXKV_DURABLE) != 0 || (item->flags & CTXKV_WAS_DURABLE) != 0;

	if (item->status == -ERR_QUOTA) {
		cluster->refused++;
		if (!user->is_second)
			sim_fail(cluster->sim, "client %u has no quota and is refused for it",
				 user->number);
	}
	if (item->status != 0) {
		model_unknown(&cluster->model, cop->idents[i], cop->versions[i]);
		return;
	}
	if ((cop->op.flags & CTXKV_DURABLE) != 0 && (item->flags & CTXKV_WAS_DURABLE) == 0 &&
	    !cluster->is_memory)
		sim_fail(cluster->sim, "a durable put is answered and not durable");
	if (!user->is_dying)
		client_get_stat(user->client, &stat);
	if ((item->flags & CTXKV_EXISTED) != 0) {
		cluster->existed++;
		/* It may be its own first attempt that it met. */
		if (stat.connects == cop->connects)
			model_void(&cluster->model, cop->idents[i], cop->versions[i]);
		else
			model_unknown(&cluster->model, cop->idents[i], cop->versions[i]);
		return;
	}
	cluster->stored++;
	if (cop->life == cluster->life)
		model_stored(&cluster->model, cop->idents[i], cop->versions[i],
			     is_durable && !cluster->is_memory);
	else
		model_unknown(&cluster->model, cop->idents[i], cop->versions[i]);
}

static uint64_t connects_of(struct user *user)
{
	struct ctxkv_stat stat = { .size = sizeof(stat) };

	client_get_stat(user->client, &stat);
	return stat.connects;
}

static void on_miss(struct cop *cop, uint32_t i)
{
	struct cluster *cluster = cop->user->cluster;
	struct model_version *version;

	cluster->misses++;
	/* Where places move, which of several servers was asked is the audit's matter. */
	if (cluster->server_count > 1 && cluster->model.is_lenient)
		return;
	if (cop->items[i].status == -ERR_MISS && cop->life == cluster->life && !cop->user->is_dying)
		lease_check_miss(cop->user, cop->idents[i], cop->tick, connects_of(cop->user),
				 cop->op.lease);
	/* A client that has not met all servers yet places differently. */
	if (cluster->server_count > 1)
		return;
	if ((cop->items[i].status != -ERR_MISS && cop->items[i].status != -ERR_CORRUPT) ||
	    cop->life != cluster->life)
		return;
	version = model_promised(&cluster->model, cop->idents[i],
				 cluster->sim->wall_base_s + cluster->sim->now_ns / NS_PER_S);
	if (version == NULL || version->commit > cop->tick)
		return;
	version->is_promised = false;
	cluster->missed++;
	if (cluster->missed > servers_forgotten(cluster))
		sim_fail(cluster->sim,
			 "identity %u (%u bytes, until %llu) is gone; the store has forgotten %llu "
			 "and misses %llu",
			 cop->idents[i], version->size, (unsigned long long)version->expiry_s,
			 (unsigned long long)servers_forgotten(cluster),
			 (unsigned long long)cluster->missed);
}

static void on_get(struct cop *cop, uint32_t i)
{
	struct cluster *cluster = cop->user->cluster;
	const struct ctxkv_item *item = &cop->items[i];
	struct iovec iov[2];
	uint64_t size;

	if (item->status != 0) {
		on_miss(cop, i);
		return;
	}
	cluster->hits++;
	size = MIN(cop->sizes[i], item->block_size - item->offset);
	if (item->done_size != size || item->offset >= item->block_size)
		sim_fail(cluster->sim, "a get of %llu bytes at %llu of %llu has %llu",
			 (unsigned long long)cop->sizes[i], (unsigned long long)item->offset,
			 (unsigned long long)item->block_size, (unsigned long long)item->done_size);
	for (uint32_t p = 0; p < 2; p++)
		iov[p] = (struct iovec) { cop->iov[i][p].base, cop->iov[i][p].size };
	/* Under a lease it may have expired. */
	model_check(&cluster->model, cop->idents[i], cop->tick,
		    cop->op.lease != 0 ? 0 : cop->wall_s, (uint32_t)item->block_size, item->offset,
		    iov, size);
	cop->hash[i] = hash128(cop->bytes[i], size, 0);
}

static void drop_answered(struct cop *cop, uint32_t ident, int status)
{
	struct cluster *cluster = cop->user->cluster;

	model_drop_over(&cluster->model, ident, status == 0);
	if (status != 0)
		return;
	cluster->drops++;
	model_dropped(&cluster->model, ident, cop->tick, true);
}

static void on_drop(struct cop *cop)
{
	const struct cluster *cluster = cop->user->cluster;

	for (uint32_t i = 0; i < cop->op.item_count; i++)
		drop_answered(cop, cop->idents[i], cop->items[i].status);
	if (cop->op.item_count > 0)
		return;
	for (uint32_t i = cop->idents[0] % cluster->ns_count; i < cluster->model.ident_count;
	     i += cluster->ns_count)
		drop_answered(cop, i, cop->op.status);
}

static void drop_asked(struct cop *cop)
{
	struct cluster *cluster = cop->user->cluster;

	for (uint32_t i = 0; i < cop->op.item_count; i++)
		model_drop_asked(&cluster->model, cop->idents[i]);
	if (cop->op.item_count > 0)
		return;
	for (uint32_t i = cop->idents[0] % cluster->ns_count; i < cluster->model.ident_count;
	     i += cluster->ns_count)
		model_drop_asked(&cluster->model, i);
}

/* The client has not taken it. */
static void drop_refused(struct cop *cop)
{
	struct cluster *cluster = cop->user->cluster;

	for (uint32_t i = 0; i < cop->op.item_count; i++)
		model_drop_over(&cluster->model, cop->idents[i], true);
	if (cop->op.item_count > 0)
		return;
	for (uint32_t i = cop->idents[0] % cluster->ns_count; i < cluster->model.ident_count;
	     i += cluster->ns_count)
		model_drop_over(&cluster->model, i, true);
}

static void check_time(struct cop *cop)
{
	struct user *user = cop->user;
	struct sim *sim = user->cluster->sim;
	uint64_t late_ns = user->late_ns + sim->blocked_ns - cop->late_ns;

	if (!user->is_dying && sim->now_ns > cop->deadline_ns + late_ns + RESULT_SLACK)
		sim_fail(sim, "client %u: a result comes %.3f s after its deadline", user->number,
			 (double)(sim->now_ns - cop->deadline_ns) / 1e9);
}

static void on_lease(struct cop *cop)
{
	const struct cluster *cluster = cop->user->cluster;
	const struct user_lease asked = { .begin_ns = cop->begin_ns,
					  .asked = cop->tick,
					  .tick = cluster->model.tick,
					  .life = cop->life,
					  .connects = cop->connects };

	if (cop->user->is_dying || cop->life != cluster->life ||
	    connects_of(cop->user) != cop->connects)
		return;
	if (cop->op.opcode == CTXKV_OP_LEASE)
		lease_granted(cop->user, &cop->op, cop->idents, &asked);
	else if (cop->op.opcode == CTXKV_OP_RENEW)
		lease_renewed(cop->user, &cop->op, &asked);
}

static void on_result(struct cop *cop)
{
	struct cluster *cluster = cop->user->cluster;

	if (cop->has_result)
		sim_fail(cluster->sim, "an op has two results");
	cop->has_result = true;
	cop->user->last_status = cop->items[0].status;
	check_time(cop);
	sim_trace(cluster->sim, cop->op.opcode, (uint64_t)-cop->op.status);
	sim_note(cluster->sim, "client %u: op %u of identity %u…: %s, %s", cop->user->number,
		 cop->op.opcode, cop->idents[0], err_str(cop->op.status),
		 err_str(cop->items[0].status));
	for (uint32_t i = 0; i < cop->op.item_count; i++) {
		int status = cop->items[i].status;

		sim_trace(cluster->sim, i, (uint64_t)-status);
		sim_note(cluster->sim, "          item %u, identity %u.%u: %s, size %u, flags %x",
			 i, cop->idents[i], cop->versions[i], err_str(status),
			 (unsigned)cop->sizes[i], cop->items[i].flags);
		if (status == -EINVAL && cop->items[i].offset > 0)
			continue; /* behind the end of the block */
		if (!is_known(status))
			sim_fail(cluster->sim, "client %u: op %u: %s", cop->user->number,
				 cop->op.opcode, err_str(status));
		if (status != 0 && status != -ERR_MISS && status != -ERR_CORRUPT) {
			cluster->failures++;
			/* A block may be larger than what its tenant has of a shard: on_put(). */
			if (cop->was_calm && status != -ERR_QUOTA)
				sim_fail(cluster->sim, "no trouble, and op %u: %s", cop->op.opcode,
					 err_str(status));
		}
		if (cop->op.opcode == CTXKV_OP_PUT)
			on_put(cop, i);
		else if (cop->op.opcode == CTXKV_OP_GET)
			on_get(cop, i);
	}
	if (cop->op.opcode == CTXKV_OP_DROP)
		on_drop(cop);
	on_lease(cop);
}

/* Between result and release a delivered block, and what a put was given, stay as they are. */
static void on_release(struct cop *cop)
{
	for (uint32_t i = 0; i < cop->op.item_count; i++) {
		const struct ctxkv_item *item = &cop->items[i];
		uint64_t size = cop->sizes[i];

		if (cop->op.opcode == CTXKV_OP_GET && item->status != 0)
			continue;
		if (cop->op.opcode == CTXKV_OP_GET)
			size = item->done_size;
		else if (cop->op.opcode != CTXKV_OP_PUT)
			continue;
		if (hash128(cop->bytes[i], size, 0).lo != cop->hash[i].lo)
			sim_fail(cop->user->cluster->sim, "a buffer of op %u has changed",
				 cop->op.opcode);
	}
	cop_free(cop);
}

static void event_cb(void *ctx, struct ctxkv_op *op, uint32_t what)
{
	struct cop *cop = CONTAINER_OF(op, struct cop, op);

	ASSERT(cop->user == ctx);
	if ((what & CTXKV_RESULT) != 0)
		on_result(cop);
	if (!cop->has_result)
		sim_fail(cop->user->cluster->sim, "an op is released without a result");
	if ((what & CTXKV_RELEASE) != 0)
		on_release(cop);
}

/* --- asking --- */

static void give_buffer(struct cop *cop, uint32_t i, uint64_t size)
{
	struct rng *rng = &cop->user->cluster->sim->rng;
	uint64_t first = rng_chance(rng, 5000) ? size : rng_range(rng, 1, size);

	if (rng_chance(rng, 6000)) { /* for the drive */
		cop->user->arena_used = round_up(cop->user->arena_used, PAGE_SIZE);
		first = MIN(round_up(first, PAGE_SIZE), size);
	}
	cop->bytes[i] = cop->user->arena + cop->user->arena_used;
	cop->user->arena_used += size + 1 + rng_below(rng, 200); /* any alignment */
	ASSERT(cop->user->arena_used <= ARENA_SIZE);
	memset(cop->bytes[i], 0x11, size);
	cop->sizes[i] = size;
	cop->iov[i][0] = (struct ctxkv_iov) { cop->bytes[i], first };
	cop->iov[i][1] = (struct ctxkv_iov) { cop->bytes[i] + first, size - first };
	cop->items[i].iov = cop->iov[i];
	cop->items[i].iov_count = first == size ? 1 : 2;
}

/* Any; where memory is mapped often what a drive is let at. */
static uint64_t some_size(struct cluster *cluster)
{
	struct rng *rng = &cluster->sim->rng;

	if ((cluster->xprt->caps & XPRT_CAP_MAPPED) != 0 && rng_chance(rng, 6000))
		return round_down(rng_range(rng, PAGE_SIZE, cluster->block_max), PAGE_SIZE);
	return rng_log(rng, 1, cluster->block_max);
}

static void make_put(struct cop *cop, uint32_t i)
{
	struct cluster *cluster = cop->user->cluster;
	struct rng *rng = &cluster->sim->rng;
	uint64_t size = some_size(cluster);
	uint64_t expiry_s = 0;

	if (rng_chance(rng, 500)) {
		cop->items[i].ttl_s = (uint32_t)rng_range(rng, 1, 20);
		/* Counted by the server from the arrival on: a deadline later, or when it thaws. */
		expiry_s = cop->wall_s + cop->items[i].ttl_s +
			   (cluster->timeout_max_ns + FREEZE_MAX_NS) / NS_PER_S + 2;
	}
	cop->items[i].chain = rng_below(rng, 4);
	cop->items[i].depth = (uint32_t)rng_below(rng, 100);
	give_buffer(cop, i, size);
	cop->versions[i] = model_put(&cluster->model, cop->idents[i], (uint32_t)size, expiry_s);
	model_fill(&cluster->model, cop->idents[i], cop->versions[i], 0, cop->bytes[i], size);
	cop->hash[i] = hash128(cop->bytes[i], size, 0);
	if (expiry_s != 0) /* nothing is promised of it: it may be gone earlier */
		cluster->model.idents[cop->idents[i]].versions[cop->versions[i]].is_mortal = true;
}

static void make_get(struct cop *cop, uint32_t i)
{
	struct cluster *cluster = cop->user->cluster;
	struct rng *rng = &cluster->sim->rng;

	give_buffer(cop, i,
		    rng_chance(rng, 7000) ? cluster->block_max
					  : rng_log(rng, 1, cluster->block_max));
	if (rng_chance(rng, 1500))
		cop->items[i].offset = rng_below(rng, 64);
}

static bool is_twice(const struct cop *cop, uint32_t count, uint32_t ident)
{
	for (uint32_t i = 0; i < count; i++) {
		if (cop->idents[i] == ident)
			return true;
	}
	return false;
}

void user_place(const struct cluster *cluster, uint32_t ident, uint8_t place_out[16])
{
	struct wire_key key = { { 0 } };
	uint32_t run;

	if (cluster->run_size == 0) {
		memcpy(key.bytes, &ident, sizeof(ident));
		place_default(&key, place_out);
		return;
	}
	run = 1 + ident / cluster->run_size;
	memset(place_out, 0, 16);
	memcpy(place_out, &run, sizeof(run));
}

/* Items are of one namespace: identities that are alike modulo ns_count. */
static void make_items(struct cop *cop, uint32_t ident, uint32_t count)
{
	struct cluster *cluster = cop->user->cluster;
	struct rng *rng = &cluster->sim->rng;
	uint32_t step = cluster->ns_count;
	uint32_t alike = (cluster->model.ident_count - 1 - ident % step) / step + 1;

	for (uint32_t i = 0; i < count; i++) {
		if (i > 0)
			ident = ident % step + step * (uint32_t)rng_below(rng, alike);
		if (is_twice(cop, i, ident))
			break;
		cop->idents[i] = ident;
		memcpy(cop->items[i].key.bytes, &ident, sizeof(ident));
		if (cluster->run_size > 0)
			user_place(cluster, ident, cop->items[i].place);
		cop->op.item_count = i + 1;
		if (cop->op.opcode == CTXKV_OP_PUT)
			make_put(cop, i);
		else if (cop->op.opcode == CTXKV_OP_GET)
			make_get(cop, i);
	}
}

void user_ask(struct user *user, enum ctxkv_opcode opcode, uint32_t ident)
{
	struct cluster *cluster = user->cluster;
	struct sim *sim = cluster->sim;
	struct ctxkv_stat stat = { .size = sizeof(stat) };
	struct cop *cop = calloc(1, sizeof(*cop));
	bool is_all = opcode == CTXKV_OP_DROP && rng_chance(&sim->rng, 1500);

	ASSERT(cop != NULL);
	client_get_stat(user->client, &stat);
	cop->user = user;
	cop->op.opcode = opcode;
	cop->op.ns.bytes[0] = (uint8_t)(1 + ident % cluster->ns_count);
	cop->op.items = cop->items;
	cop->op.timeout_ns = cluster->is_calm
				     ? cluster->timeout_max_ns
				     : rng_log(&sim->rng, NS_PER_MS, cluster->timeout_max_ns);
	memcpy(cop->op.domain, cluster->domain, sizeof(cop->op.domain));
	if (opcode == CTXKV_OP_PUT && rng_chance(&sim->rng, cluster->durable_rate))
		cop->op.flags |= CTXKV_DURABLE;
	if (opcode == CTXKV_OP_PUT && rng_chance(&sim->rng, 5000))
		cop->op.flags |= CTXKV_PRIVATE;
	cop->wall_s = sim->wall_base_s + sim->now_ns / NS_PER_S;
	cop->tick = model_tick(&cluster->model);
	cop->life = cluster->life;
	cop->late_ns = user->late_ns + sim->blocked_ns;
	cop->begin_ns = sim->now_ns;
	cop->deadline_ns = sim->now_ns + cop->op.timeout_ns;
	cop->connects = stat.connects;
	cop->was_calm = cluster->is_calm;
	cop->idents[0] = ident;
	list_add_tail(&user->ops, &cop->node);
	if (!cluster->is_calm)
		lease_fill(user, &cop->op);
	if (!is_all && opcode != CTXKV_OP_RENEW)
		make_items(cop, ident, (uint32_t)rng_range(&sim->rng, 1, OP_ITEM_MAX));
	if (opcode == CTXKV_OP_DROP)
		drop_asked(cop);
	sim_note(sim, "client %u: asks op %u of identity %u…, %u items%s", user->number, opcode,
		 ident, (unsigned)cop->op.item_count,
		 (cop->op.flags & CTXKV_DURABLE) != 0 ? ", durable" : "");
	if (client_submit(user->client, &cop->op) == 0)
		return;
	if (opcode == CTXKV_OP_DROP)
		drop_refused(cop);
	for (uint32_t i = 0; opcode == CTXKV_OP_PUT && i < cop->op.item_count; i++)
		model_void(&cluster->model, cop->idents[i], cop->versions[i]);
	cop_free(cop);
}

bool user_act(struct user *user)
{
	struct cluster *cluster = user->cluster;
	struct rng *rng = &cluster->sim->rng;
	uint32_t ident = (uint32_t)rng_below(rng, cluster->model.ident_count);

	if (user->client == NULL || user->env->frozen_until_ns > cluster->sim->now_ns)
		return false;
	if (cluster->trouble > 0 && !cluster->is_calm && rng_chance(rng, 50))
		xprt_loop_cut(user->arena, ARENA_SIZE);
	if (rng_chance(rng, 300) && !list_is_empty(&user->ops))
		client_cancel(user->client, &list_head(&user->ops, struct cop, node)->op);
	if (rng_chance(rng, 1000))
		lease_ask(user);
	else if (rng_chance(rng, 4500))
		user_ask(user, CTXKV_OP_PUT, ident);
	else if (rng_chance(rng, 8000))
		user_ask(user, CTXKV_OP_GET, ident);
	else if (!rng_chance(rng, cluster->drop_rate))
		user_ask(user, CTXKV_OP_PROBE, ident);
	else
		user_ask(user, CTXKV_OP_DROP, ident);
	return true;
}

/* --- the process --- */

static uint8_t *memory_map(uint64_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ASSERT(memory != MAP_FAILED);
	return memory;
}

void user_init(struct user *user, struct cluster *cluster, uint32_t number)
{
	user->cluster = cluster;
	user->number = number;
	list_init(&user->ops);
	user->arena = memory_map(ARENA_SIZE);
	user->stage = memory_map(USER_STAGE);
	user->is_arena_declared = rng_chance(&cluster->sim->rng, 5000);
}

void user_fini(struct user *user)
{
	check_quarantine(user);
	munmap(user->arena, ARENA_SIZE);
	munmap(user->stage, USER_STAGE);
}

void user_start(struct user *user)
{
	struct cluster *cluster = user->cluster;
	char name[16];
	int rc;

	snprintf(name, sizeof(name), "client%u", user->number);
	user->env = sim_env_create(cluster->sim, name, SERVERS_MAX + user->number);
	lease_clear(user);
	user->opts.event = event_cb;
	user->opts.ctx = user;
	if ((cluster->xprt->caps & XPRT_CAP_MAPPED) != 0) {
		user->opts.stage = user->stage;
		user->opts.stage_size = USER_STAGE;
	}
	rc = client_create(&user->env->env, &user->opts, &user->client);
	if (rc < 0)
		sim_fail(cluster->sim, "client: %s", err_str(rc));
	user->region = NULL;
	if (user->is_arena_declared)
		rc = client_region_declare(user->client, user->arena, ARENA_SIZE, 0, &user->region);
	if (rc < 0)
		sim_fail(cluster->sim, "declare: %s", err_str(rc));
	sim_note(cluster->sim, "client %u starts", user->number);
}

/* It closes in order: what servers may still do to its memory is waited for. */
static void wait_over(struct user *user)
{
	struct sim *sim = user->cluster->sim;
	uint64_t until_ns = sim->now_ns + OVER_MAX_NS;

	while (!client_is_over(user->client)) {
		if (sim->now_ns > until_ns)
			sim_fail(sim, "client %u cannot close", user->number);
		if (!sim_step(sim))
			sim->now_ns += NS_PER_MS;
	}
}

void user_stop(struct user *user, bool is_killed, bool is_silent)
{
	struct sim *sim = user->cluster->sim;

	sim_note(sim, "client %u %s", user->number, is_killed ? "is killed" : "closes");
	user->is_dying = true;
	user->is_killed = is_killed;
	if (is_killed)
		sim_env_kill(user->env, is_silent);
	client_end(user->client);
	if (is_killed)
		xprt_loop_fences_open(&user->env->env);
	else
		wait_over(user);
	client_destroy(&user->client);
	if (!list_is_empty(&user->ops))
		sim_fail(sim, "client %u is closed and keeps ops", user->number);
	check_quarantine(user);
	sim_env_destroy(&user->env);
	user->is_dying = false;
	user->is_killed = false;
}
