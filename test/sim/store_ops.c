/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to the shard. Each is a struct of its own whose buffers come from the real allocator, so
 * that a sanitizer sees who touches them after their release.
 */
#include "store_world.h"

#include <stdlib.h>
#include <string.h>

#define PIECE_MAX 32u

struct put_op {
	struct list node;
	struct sim_event event; /* a fill that is due, while is_scheduled */
	struct world *world;
	struct shard_put put;
	struct iovec iov[PIECE_MAX];
	uint32_t ident;
	uint32_t version;
	uint32_t payer;
	bool is_scheduled;
	bool is_filled;
	bool is_waiting;    /* for room, to commit */
	bool is_doomed;     /* to be aborted, not committed */
	uint64_t begin;     /* tick */
	uint64_t forgotten; /* when it began */
	bool has_version;
	bool is_done;
	bool is_probe; /* of ops_check_pool() */
};

struct get_op {
	struct list node;
	struct sim_event event; /* the end of a view */
	struct world *world;
	struct shard_read read;
	struct shard_ref ref;
	struct iovec buffers[PIECE_MAX];
	uint32_t buffer_count;
	struct iovec pieces[PIECE_MAX]; /* as they came, sorted by begin */
	uint32_t begins[PIECE_MAX];
	uint32_t piece_count;
	uint32_t ident;
	uint32_t offset;
	uint32_t size;
	uint64_t tick;
	uint64_t wall_s;
	struct hash128 hash; /* of what a view showed */
	bool is_view;
	bool is_holder; /* it looks as the holder of a lease does */
};

struct drop_op {
	struct list node;
	struct world *world;
	struct shard_drop drop;
	uint32_t ident;
	bool is_namespace;
	uint64_t tick;
};

static void put_go(struct put_op *op);

/* --- put --- */

static uint32_t cut_pages(struct sim *sim, uint64_t size, uint64_t unit, struct iovec *iov)
{
	uint64_t pages = round_up(size, unit) / unit;
	uint32_t count = 0;

	while (pages > 0) {
		uint64_t part = count + 1 == PIECE_MAX ? pages : rng_range(&sim->rng, 1, pages);

		iov[count].iov_len = part * unit;
		iov[count].iov_base = aligned_alloc(PAGE_SIZE, part * unit);
		ASSERT(iov[count].iov_base != NULL);
		memset(iov[count].iov_base, 0xa5, part * unit);
		pages -= part;
		count++;
	}
	return count;
}

static void put_free(struct put_op *op)
{
	list_del(&op->node);
	if (op->has_version && !op->is_done)
		model_unknown(&op->world->model, op->ident, op->version);
	for (uint32_t i = 0; i < PIECE_MAX; i++)
		free(op->iov[i].iov_base);
	free(op);
}

static void fill_run(struct sim_event *event, bool is_dropped)
{
	struct put_op *op = CONTAINER_OF(event, struct put_op, event);

	op->is_scheduled = false;
	if (!is_dropped)
		put_go(op);
}

static void put_fill_soon(struct put_op *op)
{
	struct sim *sim = op->world->sim;

	op->is_scheduled = true;
	sim_env_schedule(op->world->ctl, &op->event, rng_log(&sim->rng, 1, 5 * NS_PER_MS),
			 fill_run);
}

static void put_fill(struct put_op *op)
{
	struct shard_put *put = &op->put;
	uint64_t offset = 0;

	if (!op->world->is_memory) {
		put->iov = op->iov;
		put->iov_count = cut_pages(op->world->sim, put->size, PAGE_SIZE, op->iov);
	}
	for (uint32_t i = 0; i < put->iov_count; i++) {
		uint64_t part = MIN(put->iov[i].iov_len, put->size - offset);

		model_fill(&op->world->model, op->ident, op->version, offset, put->iov[i].iov_base,
			   part);
		offset += part;
	}
	ASSERT(offset == put->size);
	op->is_filled = true;
}

/* It may be found from now on. */
static void put_committed(const struct put_op *op)
{
	struct model *model = &op->world->model;
	struct model_version *version = &model->idents[op->ident].versions[op->version];

	model_commit(model, op->ident, op->version);
	version->sequence = op->put.sequence_out;
	if (op->put.rc == 0)
		lease_replaced(op->world, op->ident, op->put.size);
}

/* Bring the payload and commit; or change the mind. */
static void put_go(struct put_op *op)
{
	struct world *world = op->world;
	int rc;

	if (op->is_doomed) {
		model_void(&world->model, op->ident, op->version);
		shard_put_abort(world->shard, &op->put, -ERR_ABORTED);
		return;
	}
	if (!op->is_filled)
		put_fill(op);
	rc = shard_put_commit(world->shard, &op->put);
	sim_trace(world->sim, op->ident, (uint64_t)-rc);
	op->is_waiting = rc == -EAGAIN;
	sim_note(world->sim, "put %u.%u commits: %s", op->ident, op->version, err_str(rc));
	if (rc == 0)
		put_committed(op);
	else if (rc != -EAGAIN)
		sim_fail(world->sim, "commit says %s", err_str(rc));
}

/* "It existed" is a promise, too: unless something has taken it away since, it is there now. */
static void check_existed(const struct put_op *op)
{
	struct world *world = op->world;
	const struct model_ident *row = &world->model.idents[op->ident];
	struct shard_ref ref;

	for (uint32_t i = 0; i < row->count; i++) {
		const struct model_version *version = &row->versions[i];

		if (version->dead_live > op->begin || version->expiry_s != 0)
			return;
	}
	if (world->has_eio || world->has_media_faults || world_forgotten(world) != op->forgotten)
		return;
	if (!shard_find(world->shard, &op->put.id, &ref))
		sim_fail(world->sim, "put %u.%u: it existed, and is not there", op->ident,
			 op->version);
}

static void put_done_cb(struct shard_put *put, int rc)
{
	struct put_op *op = CONTAINER_OF(put, struct put_op, put);
	struct world *world = op->world;

	if (op->is_done)
		sim_fail(world->sim, "a put has two results");
	op->is_done = true;
	sim_trace(world->sim, op->ident, (uint64_t)-rc + put->existed_out * 4096u);
	sim_note(world->sim, "put %u.%u: %s%s%s", op->ident, op->version, err_str(rc),
		 put->existed_out ? ", existed" : "", put->durable_out ? ", durable" : "");
	if (world->is_dying || op->is_probe)
		return;
	if (rc < 0 && rc != -ERR_ABORTED && rc != -ERR_FULL && !world->has_eio &&
	    !world->disk->is_dead)
		sim_fail(world->sim, "put %u.%u: %s", op->ident, op->version, err_str(rc));
	if (rc == 0 && put->is_durable && !put->durable_out && !world->is_memory)
		sim_fail(world->sim, "a durable put is done and not durable");
	if (rc == 0 && put->existed_out) {
		world->existed++;
		check_existed(op);
		model_void(&world->model, op->ident, op->version);
		if (put->durable_out)
			model_existed_durable(&world->model, op->ident, op->version);
	} else if (rc == 0) {
		world->stored++;
		world->stored_here++;
		world->written += round_up(put->size, PAGE_SIZE) + PAGE_SIZE;
		if (!op->is_filled)
			sim_fail(world->sim, "a put is done that nobody has filled");
		model_stored(&world->model, op->ident, op->version, put->durable_out);
		world->model.idents[op->ident].versions[op->version].mark = world_written(world);
	} else if (!op->is_filled) {
		model_void(&world->model, op->ident, op->version);
	} else {
		model_unknown(&world->model, op->ident, op->version);
	}
}

static void put_filling_cb(struct shard_put *put)
{
	struct put_op *op = CONTAINER_OF(put, struct put_op, put);

	ASSERT(put->state == SHARD_PUT_FILLING);
	if (!op->world->is_dying)
		put_fill_soon(op);
}

static void put_released_cb(struct shard_put *put)
{
	struct put_op *op = CONTAINER_OF(put, struct put_op, put);

	if (!op->is_done)
		sim_fail(op->world->sim, "a put is released without a result");
	put_free(op);
}

static struct put_op *put_make(struct world *world, uint32_t ident, uint32_t payer, uint32_t size,
			       uint32_t ttl_s)
{
	struct sim *sim = world->sim;
	struct put_op *op = calloc(1, sizeof(*op));

	ASSERT(op != NULL);
	op->world = world;
	op->ident = ident;
	op->payer = payer;
	op->put = (struct shard_put) {
		.size = size,
		.depth = (uint32_t)rng_below(&sim->rng, 1000),
		.chain = rng_next(&sim->rng),
		.flags = rng_chance(&sim->rng, 5000) ? DISK_ENTRY_SHARED : 0,
		.is_durable = rng_chance(&sim->rng, world->durable_rate),
		.expiry_s = ttl_s == 0 ? 0 : world_wall_s(world) + ttl_s,
		.done = put_done_cb,
		.filling = put_filling_cb,
		.released = put_released_cb,
	};
	world_id(world, ident, &op->put.id);
	world_payer(payer, op->put.payer);
	list_add_tail(&world->puts, &op->node);
	return op;
}

void ops_put(struct world *world, uint32_t ident)
{
	struct sim *sim = world->sim;
	bool is_mortal = world->has_ttls && rng_chance(&sim->rng, 1000);
	uint32_t ttl_s = is_mortal ? (uint32_t)rng_range(&sim->rng, 1, 3) : 0;
	struct put_op *op = put_make(world, ident, (uint32_t)rng_below(&sim->rng, PAYER_MAX),
				     (uint32_t)rng_log(&sim->rng, 1, world->block_max), ttl_s);
	int rc;

	op->is_doomed = rng_chance(&sim->rng, 800);
	op->begin = model_tick(&world->model);
	op->forgotten = world_forgotten(world);
	rc = shard_put_begin(world->shard, &op->put);
	sim_trace(sim, ident, (uint64_t)-rc + op->put.state * 4096u);
	if (rc < 0) {
		bool is_allowed = rc == -EAGAIN || rc == -ERR_BUSY || rc == -ERR_QUOTA ||
				  (rc == -ERR_OFFLINE && (world->has_eio || world->disk->is_dead));

		if (!is_allowed)
			sim_fail(sim, "begin says %s", err_str(rc));
		if (rc == -ERR_QUOTA)
			quota_refused(world, op->payer);
		put_free(op);
		return;
	}
	op->version = model_put(&world->model, ident, op->put.size, op->put.expiry_s);
	op->has_version = true;
	world->model.idents[ident].versions[op->version].payer = op->payer;
	sim_note(sim, "put %u.%u of %u bytes%s begins: state %d", ident, op->version, op->put.size,
		 op->put.is_durable ? ", durable," : "", (int)op->put.state);
	if (op->put.state == SHARD_PUT_FILLING)
		put_fill_soon(op);
}

/* --- get --- */

static void get_free(struct get_op *op)
{
	list_del(&op->node);
	for (uint32_t i = 0; i < op->buffer_count; i++)
		free(op->buffers[i].iov_base);
	free(op);
}

static void get_check(struct get_op *op, uint64_t offset, const struct iovec *iov, uint64_t size)
{
	/* What a medium with faults returns unverified is nobody's promise. */
	if (op->world->has_media_faults && op->world->opts.verify == STORE_VERIFY_NONE)
		return;
	op->world->model.is_lenient = op->world->disk->media_faults > 0;
	model_check(&op->world->model, op->ident, op->tick, op->wall_s, op->ref.size, offset, iov,
		    size);
}

static struct hash128 view_hash(const struct get_op *op)
{
	struct iovec iov[PIECE_MAX];
	struct hash128 sum = { 0, 0 };
	uint32_t count =
		shard_view(op->world->shard, &op->ref, op->offset, op->size, iov, PIECE_MAX);

	for (uint32_t i = 0; i < count; i++) {
		struct hash128 part = hash128(iov[i].iov_base, iov[i].iov_len, sum.lo);

		sum.lo = part.lo;
	}
	return sum;
}

static void view_end(struct sim_event *event, bool is_dropped)
{
	struct get_op *op = CONTAINER_OF(event, struct get_op, event);
	struct world *world = op->world;

	if (!is_dropped && world->shard != NULL) {
		if (view_hash(op).lo != op->hash.lo)
			sim_fail(world->sim, "pinned memory of identity %u has changed", op->ident);
		shard_unpin(world->shard, &op->ref);
	}
	get_free(op);
}

static void get_view(struct get_op *op)
{
	struct world *world = op->world;
	struct iovec iov[PIECE_MAX];
	uint32_t count = shard_view(world->shard, &op->ref, op->offset, op->size, iov, PIECE_MAX);
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += iov[i].iov_len;
	ASSERT(sum == op->size);
	op->is_view = true;
	get_check(op, op->offset, iov, op->size);
	op->hash = view_hash(op);
	sim_env_schedule(world->ctl, &op->event, rng_log(&world->sim->rng, 1, 20 * NS_PER_MS),
			 view_end);
}

static void get_piece_cb(struct shard_read *read, uint32_t begin, uint32_t size, void *data)
{
	struct get_op *op = CONTAINER_OF(read, struct get_op, read);
	uint32_t at = op->piece_count++;

	ASSERT(at < PIECE_MAX);
	if (read->is_in_order && op->world->opts.verify != STORE_VERIFY_NONE &&
	    !op->world->is_dying) {
		struct iovec iov = { data, size };

		/* Handed on as it comes, so each piece must be good by itself. */
		get_check(op, begin, &iov, size);
	}
	for (; at > 0 && op->begins[at - 1] > begin; at--) {
		op->begins[at] = op->begins[at - 1];
		op->pieces[at] = op->pieces[at - 1];
	}
	op->begins[at] = begin;
	op->pieces[at] = (struct iovec) { data, size };
}

static void get_done_cb(struct shard_read *read, int rc)
{
	struct get_op *op = CONTAINER_OF(read, struct get_op, read);
	struct world *world = op->world;
	uint64_t next = op->offset;

	sim_trace(world->sim, op->ident, (uint64_t)-rc);
	if (world->is_dying)
		return;
	shard_unpin(world->shard, &op->ref);
	if (rc == 0) {
		for (uint32_t i = 0; i < op->piece_count; next += op->pieces[i++].iov_len) {
			if (op->begins[i] != next)
				sim_fail(world->sim, "a read of identity %u left a gap at %llu",
					 op->ident, (unsigned long long)next);
		}
		if (next != op->offset + op->size)
			sim_fail(world->sim, "a read of identity %u ends early", op->ident);
		get_check(op, op->offset, op->pieces, op->size);
		world->hits++;
	} else {
		sim_note(world->sim, "get %u: %s", op->ident, err_str(rc));
		if (!world->has_media_faults && !world->has_eio && !world->disk->is_dead) {
			struct model_version *version =
				model_promised(&world->model, op->ident, world_wall_s(world));

			/* Of a process before this one, a torn payload, never promised, is found
			 * out here; what it replaced may have been forgotten before, another been
			 * stored in its place since. */
			if (rc != -ERR_CORRUPT || world->was_empty)
				sim_fail(world->sim, "a read of identity %u: %s", op->ident,
					 err_str(rc));
			if (version != NULL && version->commit < op->tick)
				world_missed(world, op->ident);
		}
		lease_void(world, op->ident); /* it was torn, or the medium lied */
		world->misses++;
	}
	get_free(op);
}

static void get_read(struct get_op *op)
{
	struct world *world = op->world;
	struct sim *sim = world->sim;
	uint64_t span = shard_read_span(world->shard, &op->ref, op->offset, op->size);
	int rc;

	if (rng_chance(&sim->rng, 5000)) {
		op->buffer_count = 1;
		op->buffers[0].iov_len = round_up(span, PAGE_SIZE);
	} else {
		uint64_t unit = DISK_STRIDE * rng_range(&sim->rng, 1, 4);

		op->buffer_count = (uint32_t)((span + unit - 1) / unit);
		for (uint32_t i = 0; i < op->buffer_count; i++, span -= MIN(span, unit))
			op->buffers[i].iov_len = round_up(MIN(span, unit), PAGE_SIZE);
	}
	ASSERT(op->buffer_count <= PIECE_MAX);
	for (uint32_t i = 0; i < op->buffer_count; i++)
		op->buffers[i].iov_base = aligned_alloc(PAGE_SIZE, op->buffers[i].iov_len);
	op->read = (struct shard_read) {
		.ref = op->ref,
		.offset = op->offset,
		.size = op->size,
		.is_in_order = rng_chance(&sim->rng, 5000),
		.buffers = op->buffers,
		.buffer_count = op->buffer_count,
		.piece = get_piece_cb,
		.done = get_done_cb,
	};
	rc = shard_read_start(world->shard, &op->read);
	if (rc == 0)
		return;
	if (rc != -EAGAIN)
		sim_fail(sim, "read_start says %s", err_str(rc));
	shard_unpin(world->shard, &op->ref);
	get_free(op);
}

void ops_get(struct world *world, uint32_t ident, bool is_whole)
{
	struct sim *sim = world->sim;
	struct get_op *op = calloc(1, sizeof(*op));
	struct store_id id;

	ASSERT(op != NULL);
	op->world = world;
	op->ident = ident;
	op->tick = model_tick(&world->model);
	op->is_holder = lease_holds(world, ident) && rng_chance(&sim->rng, 8000);
	op->wall_s = op->is_holder ? 0 : world_wall_s(world); /* a lease outlives a time to live */
	list_add_tail(&world->gets, &op->node);
	world_id(world, ident, &id);
	if (!(op->is_holder ? shard_find_leased : shard_find)(world->shard, &id, &op->ref)) {
		sim_trace(sim, ident, 1);
		world->misses++;
		if (op->is_holder)
			lease_missed(world, ident);
		else if (model_promised(&world->model, ident, world_wall_s(world)) != NULL)
			world_missed(world, ident);
		get_free(op);
		return;
	}
	if (rng_chance(&sim->rng, 5000))
		shard_hit(world->shard, &op->ref);
	op->size = op->ref.size;
	if (!is_whole && rng_chance(&sim->rng, 4000)) {
		op->offset = (uint32_t)rng_below(&sim->rng, op->ref.size);
		op->size = (uint32_t)rng_range(&sim->rng, 1, op->ref.size - op->offset);
	}
	sim_note(sim, "get %u: %u bytes at %u of %u, flags %x", ident, op->size, op->offset,
		 op->ref.size, op->ref.flags);
	shard_pin(world->shard, &op->ref);
	if ((op->ref.flags & (SHARD_REF_MEMORY | SHARD_REF_BUFFERED)) != 0)
		get_view(op);
	else
		get_read(op);
}

void ops_heat(struct world *world)
{
	for (uint32_t i = 0; i < world->model.ident_count; i++) {
		struct shard_ref ref;
		struct store_id id;

		world_id(world, i, &id);
		if (shard_find(world->shard, &id, &ref))
			shard_hit(world->shard, &ref);
	}
}

/* --- drop --- */

static void drop_apply(struct drop_op *op, bool is_durable)
{
	struct world *world = op->world;

	uint32_t step = op->is_namespace ? world->ns_count : world->model.ident_count;

	for (uint32_t i = op->ident % step; i < world->model.ident_count; i += step) {
		model_dropped(&world->model, i, op->tick, is_durable);
		if (!is_durable)
			lease_void(world, i);
	}
}

static void drop_done_cb(struct shard_drop *drop, int rc)
{
	struct drop_op *op = CONTAINER_OF(drop, struct drop_op, drop);
	struct world *world = op->world;

	sim_trace(world->sim, op->ident, (uint64_t)-rc);
	if (!world->is_dying) {
		sim_note(world->sim, "drop %s%u done: %s", op->is_namespace ? "namespace of " : "",
			 op->ident, err_str(rc));
		if (rc < 0 && !world->has_eio && !world->disk->is_dead)
			sim_fail(world->sim, "a drop ends with %s", err_str(rc));
		if (rc == 0)
			drop_apply(op, true);
		world->drops_done++;
	}
	list_del(&op->node);
	free(op);
}

void ops_drop(struct world *world, uint32_t ident, bool is_namespace)
{
	struct drop_op *op = calloc(1, sizeof(*op));
	int rc;

	ASSERT(op != NULL);
	op->world = world;
	op->ident = ident;
	op->is_namespace = is_namespace;
	op->tick = model_tick(&world->model);
	op->drop.is_namespace = is_namespace;
	op->drop.done = drop_done_cb;
	world_id(world, ident, &op->drop.id);
	list_add_tail(&world->drops, &op->node);
	rc = shard_drop_start(world->shard, &op->drop);
	sim_trace(world->sim, ident, (uint64_t)-rc);
	if (rc == 0) {
		sim_note(world->sim, "drop %s%u", is_namespace ? "namespace of " : "", ident);
		drop_apply(op, false);
		return;
	}
	if (rc != -ERR_BUSY && !(rc == -ERR_OFFLINE && (world->has_eio || world->disk->is_dead)))
		sim_fail(world->sim, "drop says %s", err_str(rc));
	list_del(&op->node);
	free(op);
}

/* --- all --- */

uint64_t ops_filling(const struct world *world, uint32_t payer)
{
	uint64_t bytes = 0;

	list_for_each (pos, &world->puts) {
		const struct put_op *op = list_entry(pos, struct put_op, node);

		if (op->payer == payer && op->put.state == SHARD_PUT_FILLING)
			bytes += op->put.size;
	}
	return bytes;
}

void ops_room(struct world *world)
{
	list_for_each_safe (pos, &world->puts) {
		struct put_op *op = list_entry(pos, struct put_op, node);

		if (op->is_waiting)
			put_go(op);
	}
}

void ops_settle(struct world *world)
{
	/* Fills and pins end by events of their own; only who waits for room is helped. */
	list_for_each_safe (pos, &world->puts) {
		struct put_op *op = list_entry(pos, struct put_op, node);

		if (!op->is_waiting)
			continue;
		op->is_waiting = false;
		op->is_doomed = true;
		put_go(op);
	}
}

bool ops_is_idle(const struct world *world)
{
	list_for_each (pos, &world->puts) {
		const struct put_op *op = list_entry(pos, struct put_op, node);

		if (op->put.state != SHARD_PUT_COMMITTED || op->is_scheduled)
			return false;
	}
	return list_is_empty(&world->gets) && list_is_empty(&world->drops);
}

void ops_abandon(struct world *world)
{
	struct drop_op *drop;
	struct put_op *put;

	while ((put = list_head(&world->puts, struct put_op, node)) != NULL) {
		if (put->is_scheduled)
			sim_env_cancel(world->ctl, &put->event);
		put_free(put);
	}
	list_for_each_safe (pos, &world->gets) {
		struct get_op *get = list_entry(pos, struct get_op, node);

		if (get->is_view)
			sim_env_cancel(world->ctl, &get->event);
		get_free(get);
	}
	while ((drop = list_head(&world->drops, struct drop_op, node)) != NULL) {
		list_del(&drop->node);
		free(drop);
	}
}

/* --- the pool of puts --- */

bool ops_try(struct world *world, uint32_t payer, uint32_t size)
{
	struct put_op *op = put_make(world, world->model.ident_count, payer, size, 0);
	int rc;

	op->is_probe = true;
	rc = shard_put_begin(world->shard, &op->put);
	if (rc == 0) {
		shard_put_abort(world->shard, &op->put, -ERR_ABORTED);
		return true;
	}
	if (rc != -EAGAIN && rc != -ERR_QUOTA && rc != -ERR_BUSY)
		sim_fail(world->sim, "a put of %u bytes at rest: %s", size, err_str(rc));
	put_free(op);
	return false;
}

void ops_check_pool(struct world *world)
{
	struct put_op *op;
	uint32_t count = 0;

	while (count < world->opts.put_max) {
		uint32_t ident = world->model.ident_count + count;
		int rc;

		op = put_make(world, ident, 0, 1, 0);
		op->is_probe = true;
		rc = shard_put_begin(world->shard, &op->put);
		if (rc < 0 && rc != -EAGAIN)
			sim_fail(world->sim, "put %u of %u at rest: %s", count, world->opts.put_max,
				 err_str(rc));
		if (rc < 0) {
			put_free(op);
			break;
		}
		count++;
	}
	list_for_each_safe (pos, &world->puts) {
		op = list_entry(pos, struct put_op, node);
		if (op->is_probe)
			shard_put_abort(world->shard, &op->put, -ERR_ABORTED);
	}
}
