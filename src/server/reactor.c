/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reactor: its memory, its listeners, and the run task that all work goes through.
 *
 * Callbacks write down what happened and wake an op or a session; run_cb() then advances the ops
 * that were woken, and lets the sessions that were woken pump their moves and send what is ready,
 * until nothing is left. So results that become ready in one turn of the loop leave together.
 *
 * Memory. All of it is taken by reactor_create(), in the order of struct plan; only OpenSSL's
 * contexts of hello and of each lane's MACs are allocated later, a bounded number of them.
 *
 * Failure. create() undoes what it has done and says in a sentence what to change. stop() leaves
 * only ops that the store holds; after destroy() their callbacks would come to freed memory.
 */
#include "reactor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../base/text.h"
#include "query.h"
#include "reactor_priv.h"

/* Of the buffers: at most 1/8 inline payloads, 1/4 received blocks and 1/4 reads, as far as more
 * makes them faster; the rest is the cache's. */
#define INLINE_PART 8
#define FLOW_PART   4
#define FLOW_MAX    (256 * MiB)
#define FLOW_BLOCKS 4 /* but so many of the largest in any case */
/* Credit is bytes, buffers are rounded to powers of two. */
#define INLINE_PER_CREDIT 2

/* How much of everything, from the options. */
struct plan {
	uint32_t block_max;
	bool is_memory; /* all shards: no block goes through buffers */
	uint64_t inline_size;
	uint64_t receive_size;
	uint64_t read_size;
	uint64_t cache_size;
	uint32_t conn_count;
	uint32_t request_count;
	uint32_t move_count;
	uint32_t seg_max;
	uint32_t mapped_max; /* segments that can be mapped */
	uint32_t piece_max;
	uint64_t op_size; /* with its segments and pieces */
};

static int conn_frame(struct xprt_lane *lane, const struct xprt_frame *frame);
static void conn_writable(struct xprt_lane *lane);
static void conn_closed(struct xprt_lane *lane, int why);
static void never_opened(struct xprt_lane *lane);
static int never_locate(struct xprt_lane *lane, enum wire_kind kind, uint64_t request,
			uint32_t item, uint64_t offset, uint32_t size, struct iovec *iov,
			uint32_t iov_max);
static void never_landed(struct xprt_lane *lane, enum wire_kind kind, uint64_t request,
			 uint32_t item, uint64_t offset, uint32_t size);

static const struct xprt_user reactor_user = {
	.accepted = conn_accepted,
	.opened = never_opened,
	.frame = conn_frame,
	.tls_key = conn_tls_key,
	.locate = never_locate,
	.landed = never_landed,
	.writable = conn_writable,
	.closed = conn_closed,
};

/* --- pools --- */

struct list *pool_take(struct pool *pool)
{
	struct list *node = pool->free.next;

	if (list_is_empty(&pool->free))
		return NULL;
	list_del(node);
	pool->used++;
	pool->used_max = MAX(pool->used_max, pool->used);
	return node;
}

void pool_give(struct pool *pool, struct list *node)
{
	ASSERT(pool->used > 0);
	pool->used--;
	list_add_head(&pool->free, node);
}

static void pool_add(struct pool *pool, struct list *node)
{
	list_init(node);
	list_add_tail(&pool->free, node);
	pool->size++;
}

/* --- what the transport says --- */

static struct conn *conn_of(const struct xprt_lane *lane)
{
	struct conn *conn = lane->ctx;

	CHECK_OBJ(conn, CONN_MAGIC);
	return conn;
}

static int conn_frame(struct xprt_lane *lane, const struct xprt_frame *frame)
{
	struct conn *conn = conn_of(lane);

	if (conn->state == CONN_OPEN)
		return session_frame(conn->session, conn, frame);
	return conn_hello_frame(conn, frame);
}

static void conn_writable(struct xprt_lane *lane)
{
	struct conn *conn = conn_of(lane);

	conn->is_blocked = false;
	if (conn->state == CONN_OPEN)
		session_wake(conn->session);
}

static void conn_closed(struct xprt_lane *lane, int why)
{
	struct conn *conn = conn_of(lane);

	conn->reactor->metrics.lanes_lost += conn->state == CONN_OPEN;
	conn->reactor->metrics.tls_failures += conn->state == CONN_HELLO && conn_is_tls(conn);
	if (conn->state == CONN_OPEN)
		session_lane_gone(conn->session, conn);
	else
		conn_free(conn);
}

static void never_opened(struct xprt_lane *lane)
{
	ASSERT(false);
}

static int never_locate(struct xprt_lane *lane, enum wire_kind kind, uint64_t request,
			uint32_t item, uint64_t offset, uint32_t size, struct iovec *iov,
			uint32_t iov_max)
{
	ASSERT(false);
}

static void never_landed(struct xprt_lane *lane, enum wire_kind kind, uint64_t request,
			 uint32_t item, uint64_t offset, uint32_t size)
{
	ASSERT(false);
}

/* --- the run task --- */

static void run_cb(struct env_task *task)
{
	struct reactor *reactor = CONTAINER_OF(task, struct reactor, run_task);

	CHECK_OBJ(reactor, REACTOR_MAGIC);
	for (;;) {
		struct op *op = list_head(&reactor->woken, struct op, run_node);
		struct session *session =
			list_head(&reactor->sessions_woken, struct session, run_node);

		if (op != NULL) {
			list_del(&op->run_node);
			op_advance(op);
		} else if (session != NULL) {
			list_del(&session->run_node);
			session_run(session);
		} else {
			return;
		}
	}
}

void reactor_run_later(struct reactor *reactor)
{
	reactor->env->ops->defer(reactor->env, &reactor->run_task);
}

void waiters_wake(struct list *waiters)
{
	struct list now;

	list_init(&now);
	list_splice_tail(&now, waiters);
	while (!list_is_empty(&now)) {
		struct op *op = list_head(&now, struct op, wait_node);

		list_del(&op->wait_node);
		op_wake(op);
	}
}

/* A segment is free again. */
static void room_cb(struct env_task *task)
{
	waiters_wake(&CONTAINER_OF(task, struct shard_slot, room_task)->room_waiters);
}

/* --- the plan --- */

void reactor_opts_init(struct reactor_opts *opts)
{
	*opts = (struct reactor_opts) {
		.incarnation = 1,
		.weight = 100,
		.reactor_count = 1,
		.verify = STORE_VERIFY_MEDIUM,
		.buffer_bytes = 256 * MiB,
		.tls = REACTOR_TLS_ON,
		.session_max = 256,
		.lane_max = WIRE_LANE_MAX,
		.request_max = 256,
		.operation_max = 4096,
		.move_max = MOVES_DEFAULT,
		.lease_max = 4096,
		.lease_block_max = 65536,
		.lease_ms_max = 600000,
		.pending_max = 64,
		.hello_ns = 5 * NS_PER_S,
		.stall_ns = 2 * NS_PER_S,
		.idle_ns = 30 * NS_PER_S,
		.budget_ns = WIRE_BUDGET_MAX,
	};
}

/* Strangers, and all lanes of all sessions, were they all of this transport. */
static uint32_t listen_lanes(const struct reactor_opts *opts, const struct xprt_ops *ops)
{
	return opts->pending_max + opts->session_max * MIN(opts->lane_max, ops->lane_max);
}

static void plan_buffers(struct plan *plan, const struct reactor_opts *opts)
{
	uint64_t all = round_down(opts->buffer_bytes, BUFFER_MAX);
	uint64_t credit = (uint64_t)opts->session_max * SESSION_CREDIT * INLINE_PER_CREDIT;
	uint64_t shares;

	plan->inline_size = round_up(MIN(all / INLINE_PART, credit), BUFFER_MAX);
	if (plan->is_memory)
		return;
	plan->receive_size = MIN(all / FLOW_PART, MAX(FLOW_MAX, FLOW_BLOCKS * plan->block_max));
	plan->receive_size = round_up(plan->receive_size, BUFFER_MAX);
	plan->read_size = plan->receive_size;
	shares = plan->inline_size + plan->receive_size + plan->read_size;
	plan->cache_size = all - MIN(all, shares); /* 0: too small, plan_check() says so */
}

static uint64_t plan_buffer_size(const struct plan *plan)
{
	return plan->inline_size + plan->receive_size + plan->read_size + plan->cache_size;
}

static void plan_make(struct plan *plan, const struct reactor_opts *opts)
{
	uint32_t least = 2 * MIN(SESSION_REQUEST_MIN, opts->request_max);

	*plan = (struct plan) { .block_max = WIRE_BLOCK_MAX, .is_memory = !opts->has_media };
	if (opts->block_max != 0)
		plan->block_max = opts->block_max;
	for (uint32_t i = 0; i < opts->shard_count; i++) {
		if (opts->shards[i] == NULL)
			continue;
		plan->block_max = MIN(plan->block_max, shard_block_max(opts->shards[i]));
		plan->is_memory = plan->is_memory && shard_is_memory(opts->shards[i]);
	}
	for (uint32_t i = 0; i < opts->listen_count; i++) {
		const struct xprt_ops *xprt = opts->listens[i].ops;

		plan->seg_max = MAX(plan->seg_max, xprt->seg_max);
		if ((xprt->caps & XPRT_CAP_MAPPED) != 0)
			plan->mapped_max = MAX(plan->mapped_max, xprt->seg_max);
	}
	plan->conn_count = opts->pending_max + opts->session_max * opts->lane_max;
	/* The least of each session, and some to be shared out. */
	plan->request_count = opts->session_max * least;
	plan->request_count += MAX(opts->operation_max, 2 * opts->request_max);
	plan->move_count = MIN(opts->move_max, opts->session_max * SESSION_MOVE_MAX);
	plan->piece_max = MAX(buffers_piece_count(plan->block_max) + 1, OP_PIECES_MIN);
	plan->op_size = sizeof(struct op) + plan->seg_max * sizeof(struct wire_seg) +
			plan->mapped_max * sizeof(struct iovec) +
			plan->piece_max * (sizeof(struct iovec) + sizeof(struct op_piece));
	plan->op_size = round_up(plan->op_size, 64);
	plan_buffers(plan, opts);
}

/* What is wrong with the options; 0 when nothing is. */
static int plan_check(const struct plan *plan, const struct reactor_opts *opts, char *message)
{
	char need[32];

	if (!plan->is_memory && opts->buffer_bytes / 4 < MAX(plan->block_max, 2 * MiB)) {
		snprintf(message, 256,
			 "buffers must be at least %s: four times the largest block, and 8 MiB",
			 text_format_size(need, sizeof(need),
					  4 * MAX((uint64_t)plan->block_max, 2 * MiB)));
		return -EINVAL;
	}
	if (opts->buffer_bytes < BUFFER_MAX) {
		snprintf(message, 256, "buffers must be at least 1 MiB");
		return -EINVAL;
	}
	for (uint32_t i = 0; i < opts->shard_count; i++) {
		if (opts->shards[i] != NULL &&
		    shard_block_max(opts->shards[i]) != plan->block_max) {
			snprintf(message, 256,
				 "the shards differ in their largest block: set them up alike");
			return -EINVAL;
		}
	}
	return 0;
}

uint64_t reactor_memory_size(const struct reactor_opts *opts)
{
	struct plan plan;
	uint64_t sum = sizeof(struct reactor);

	plan_make(&plan, opts);
	sum += opts->listen_count * sizeof(struct xprt_listener *);
	sum += opts->shard_count * sizeof(struct shard_slot);
	sum += plan.conn_count * sizeof(struct conn);
	sum += opts->session_max * sizeof(struct session);
	sum += (uint64_t)opts->session_max * opts->shard_count * sizeof(struct flow_quotas);
	sum += plan.request_count * sizeof(struct request);
	sum += plan.move_count * sizeof(struct op_move);
	sum += opts->operation_max * plan.op_size;
	sum += leases_memory_size(opts);
	sum += buffers_arena_memory_size(plan_buffer_size(&plan));
	sum += cache_memory_size(plan.cache_size, plan_buffer_size(&plan));
	for (uint32_t i = 0; i < opts->listen_count; i++) {
		const struct xprt_ops *xprt = opts->listens[i].ops;

		sum += xprt->listen_size(xprt, listen_lanes(opts, xprt));
	}
	return sum;
}

uint64_t reactor_session_size(const struct xprt_ops *xprt)
{
	return sizeof(struct session) + sizeof(struct conn) + xprt->lane_size;
}

/* --- create and destroy --- */

/* Its own copy: a medium that comes back changes it. Alone: its own shards are all there are. */
static void table_make(struct reactor *reactor)
{
	struct reactor_opts *opts = &reactor->opts;

	if (opts->table != NULL) {
		memcpy(reactor->own_table, opts->table, opts->table_count * sizeof(*opts->table));
		opts->table = reactor->own_table;
		return;
	}
	for (uint32_t i = 0; i < opts->shard_count; i++) {
		reactor->own_table[i] =
			(struct reactor_shard) { .reactor = opts->index, .weight = 1 };
		if (opts->shards[i] != NULL)
			shard_get_uuid(opts->shards[i], reactor->own_table[i].uuid);
	}
	opts->table = reactor->own_table;
	opts->table_count = opts->shard_count;
}

void slot_set_shard(struct shard_slot *slot, struct shard *shard)
{
	slot->reactor->opts.shards[slot - slot->reactor->slots] = shard;
	slot->shard = shard;
	slot->is_leaving = false;
	if (shard == NULL)
		return;
	slot->is_memory = shard_is_memory(shard);
	shard_on_room(shard, &slot->room_task);
}

/* An even part of what flows; alone it has all, whatever waits. */
static void slot_quotas_init(struct reactor *reactor, struct flow_quotas *quotas)
{
	uint32_t count = reactor->opts.shard_count;
	bool is_alone = count == 1;

	buffers_quota_init(&quotas->receive,
			   is_alone ? UINT64_MAX : reactor->receive_buffers.buddy.size / count);
	buffers_quota_init(&quotas->read,
			   is_alone ? UINT64_MAX : reactor->read_buffers.buddy.size / count);
}

static void slot_init(struct reactor *reactor, struct shard_slot *slot, uint32_t index)
{
	slot->reactor = reactor;
	slot->index = (uint16_t)index;
	slot->room_task.run = room_cb;
	list_init(&slot->room_waiters);
	list_init(&slot->write_waiters);
	list_init(&slot->read_waiters);
	slot_quotas_init(reactor, &slot->quotas);
	reactor->slot_of[index] = slot;
	slot_set_shard(slot, reactor->opts.shards[slot - reactor->slots]);
}

static void slots_init(struct reactor *reactor)
{
	uint32_t count = 0;

	table_make(reactor);
	for (uint32_t i = 0; i < reactor->opts.table_count; i++) {
		if (reactor->opts.table[i].reactor == reactor->opts.index)
			slot_init(reactor, &reactor->slots[count++], i);
	}
	ASSERT(count == reactor->opts.shard_count);
}

static void op_memory_init(struct reactor *reactor, const struct plan *plan)
{
	for (uint32_t i = 0; i < reactor->opts.operation_max; i++) {
		struct op *op = (void *)(reactor->op_memory + i * plan->op_size);

		op->magic = OP_MAGIC;
		op->reactor = reactor;
		op->segs = (void *)(op + 1);
		op->buffers.iov = (void *)(op->segs + plan->seg_max);
		op->pieces = (void *)(op->buffers.iov + plan->piece_max);
		op->mapped = (void *)(op->pieces + plan->piece_max);
		pool_add(&reactor->ops, &op->node);
	}
}

static void pools_init(struct reactor *reactor, const struct plan *plan)
{
	for (uint32_t i = 0; i < plan->conn_count; i++)
		pool_add(&reactor->conns, &reactor->conn_memory[i].node);
	for (uint32_t i = 0; i < reactor->opts.session_max; i++) {
		reactor->session_memory[i].quotas =
			reactor->session_quotas + (size_t)i * reactor->opts.shard_count;
		pool_add(&reactor->sessions_pool, &reactor->session_memory[i].node);
	}
	for (uint32_t i = 0; i < plan->request_count; i++)
		pool_add(&reactor->requests, &reactor->request_memory[i].node);
	for (uint32_t i = 0; i < plan->move_count; i++) {
		list_init(&reactor->move_memory[i].session_node);
		pool_add(&reactor->moves, &reactor->move_memory[i].node);
	}
	op_memory_init(reactor, plan);
	leases_init(reactor, reactor->lease_memory);
	warm_init(reactor);
}

static void memory_free(struct reactor *reactor)
{
	struct env *env = reactor->env;

	env->ops->free(env, reactor->listeners);
	env->ops->free(env, reactor->slots);
	env->ops->free(env, reactor->conn_memory);
	env->ops->free(env, reactor->session_memory);
	env->ops->free(env, reactor->session_quotas);
	env->ops->free(env, reactor->request_memory);
	env->ops->free(env, reactor->move_memory);
	env->ops->free(env, reactor->op_memory);
	env->ops->free(env, reactor->lease_memory);
	env->ops->free(env, reactor->cache_memory);
}

/* One by one; a NULL is told from what it was for. */
static int memory_take(struct reactor *reactor, const struct plan *plan)
{
	const struct reactor_opts *opts = &reactor->opts;
	struct env *env = reactor->env;
	const struct {
		void **memory;
		uint64_t size;
	} parts[] = {
		{ (void **)&reactor->listeners, opts->listen_count * sizeof(void *) },
		{ (void **)&reactor->slots, opts->shard_count * sizeof(struct shard_slot) },
		{ (void **)&reactor->conn_memory, plan->conn_count * sizeof(struct conn) },
		{ (void **)&reactor->session_memory, opts->session_max * sizeof(struct session) },
		{ (void **)&reactor->session_quotas,
		  (uint64_t)opts->session_max * opts->shard_count * sizeof(struct flow_quotas) },
		{ (void **)&reactor->request_memory, plan->request_count * sizeof(struct request) },
		{ (void **)&reactor->move_memory, plan->move_count * sizeof(struct op_move) },
		{ (void **)&reactor->op_memory, opts->operation_max * plan->op_size },
		{ &reactor->lease_memory, leases_memory_size(opts) },
		{ &reactor->cache_memory,
		  cache_memory_size(plan->cache_size, plan_buffer_size(plan)) },
	};

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		*parts[i].memory = env->ops->alloc(env, parts[i].size);
		if (*parts[i].memory == NULL) {
			memory_free(reactor);
			return -ENOMEM;
		}
	}
	return 0;
}

static int buffers_open(struct reactor *reactor, const struct plan *plan)
{
	int rc = buffers_arena_init(&reactor->buffers, reactor->env, plan_buffer_size(plan));

	if (rc < 0)
		return rc;
	buffers_init(&reactor->inline_buffers, &reactor->buffers, plan->inline_size);
	buffers_init(&reactor->receive_buffers, &reactor->buffers, plan->receive_size);
	buffers_init(&reactor->read_buffers, &reactor->buffers, plan->read_size);
	cache_init(&reactor->cache, &reactor->buffers, plan->cache_size, reactor->cache_memory);
	reactor->credit_free = (uint32_t)MIN(plan->inline_size / INLINE_PER_CREDIT, UINT32_MAX);
	return 0;
}

static void listeners_close(struct reactor *reactor)
{
	for (uint32_t i = 0; i < reactor->listener_count; i++) {
		if (reactor->listeners[i] != NULL)
			reactor->listeners[i]->ops->unlisten(&reactor->listeners[i]);
	}
}

/* Where a reactor listens; empty: it has lanes only. */
static void listen_address(const struct reactor *reactor, const struct reactor_listen *listen,
			   char *buf, size_t buf_size)
{
	snprintf(buf, buf_size, "%s", "");
	if (listen->is_door)
		snprintf(buf, buf_size, "%s.%u.sock", listen->address, reactor->opts.index);
	else if (reactor->opts.index == 0)
		snprintf(buf, buf_size, "%s", listen->address);
}

static int listener_open(struct reactor *reactor, uint32_t index, char *message)
{
	const struct reactor_listen *listen = &reactor->opts.listens[index];
	const struct xprt_ops *xprt = listen->ops;
	char address[128];
	int rc;

	listen_address(reactor, listen, address, sizeof(address));
	rc = xprt->listen(xprt, reactor->env, address[0] == '\0' ? NULL : address,
			  listen_lanes(&reactor->opts, xprt), &reactor_user, reactor,
			  &reactor->listeners[index]);
	if (rc < 0)
		snprintf(message, 256, "cannot listen on %s %s: %s", xprt->name, address,
			 err_str(rc));
	if (rc == 0 && listen->is_door)
		reactor->door = reactor->listeners[index];
	if (rc == 0 || !listen->is_door)
		return rc;
	log_warn("reactor %u %s: clients of this host come by the other transports",
		 reactor->opts.index, message);
	reactor->door_why = rc;
	return 0;
}

static int listeners_open(struct reactor *reactor, char *message)
{
	for (uint32_t i = 0; i < reactor->opts.listen_count; i++) {
		int rc = listener_open(reactor, i, message);

		if (rc < 0) {
			listeners_close(reactor);
			return rc;
		}
		reactor->listener_count++;
	}
	return 0;
}

static struct reactor *reactor_alloc(struct env *env, const struct reactor_opts *opts,
				     const struct plan *plan)
{
	struct reactor *reactor = env->ops->alloc(env, sizeof(*reactor));

	if (reactor == NULL)
		return NULL;
	reactor->magic = REACTOR_MAGIC;
	reactor->env = env;
	reactor->opts = *opts;
	reactor->block_max = plan->block_max;
	reactor->op_size = plan->op_size;
	reactor->started_ns = env_now_ns(env);
	saving_init(&reactor->saving);
	reactor->run_task.run = run_cb;
	list_init(&reactor->conns.free);
	list_init(&reactor->sessions_pool.free);
	list_init(&reactor->requests.free);
	list_init(&reactor->moves.free);
	list_init(&reactor->move_waiters);
	list_init(&reactor->ops.free);
	list_init(&reactor->behind_sessions);
	list_init(&reactor->pending);
	list_init(&reactor->sessions);
	list_init(&reactor->woken);
	list_init(&reactor->sessions_woken);
	check_begin(reactor);
	return reactor;
}

int reactor_create(struct env *env, const struct reactor_opts *opts, struct reactor **reactor_out,
		   char message_out[256])
{
	struct reactor *reactor;
	struct plan plan;
	int rc;

	ASSERT(opts->shard_count > 0 || opts->table_count > 0);
	ASSERT(opts->shard_count <= WIRE_SHARD_MAX);
	ASSERT(opts->table_count <= WIRE_SHARD_MAX);
	ASSERT(opts->index < opts->reactor_count);
	ASSERT(opts->lane_max > 0);
	ASSERT(opts->lane_max <= WIRE_LANE_MAX);
	ASSERT(opts->request_max > 0);
	ASSERT(opts->move_max > 0);
	ASSERT(*reactor_out == NULL);
	message_out[0] = '\0';
	plan_make(&plan, opts);
	rc = plan_check(&plan, opts, message_out);
	if (rc < 0)
		return rc;
	rc = -ENOMEM;
	snprintf(message_out, 256, "not enough memory: the reactor needs %" PRIu64 " bytes",
		 reactor_memory_size(opts));
	reactor = reactor_alloc(env, opts, &plan);
	if (reactor == NULL)
		return rc;
	rc = memory_take(reactor, &plan);
	if (rc < 0)
		goto err_free_reactor;
	rc = buffers_open(reactor, &plan);
	if (rc < 0)
		goto err_free_memory;
	pools_init(reactor, &plan);
	rc = listeners_open(reactor, message_out);
	if (rc < 0)
		goto err_close_buffers;
	slots_init(reactor);
	tenancy_quotas(reactor);
	mail_begin(reactor);
	message_out[0] = '\0';
	*reactor_out = reactor;
	return 0;

err_close_buffers:
	buffers_arena_fini(&reactor->buffers);
err_free_memory:
	memory_free(reactor);
err_free_reactor:
	env->ops->free(env, reactor);
	return rc;
}

static void sessions_notify(struct reactor *reactor, enum wire_notice_code code)
{
	list_for_each (pos, &reactor->sessions) {
		struct session *session = list_entry(pos, struct session, node);

		session->notice_due = (uint8_t)code;
		session_wake(session);
	}
}

void reactor_drain(struct reactor *reactor)
{
	CHECK_OBJ(reactor, REACTOR_MAGIC);
	if (reactor->is_draining)
		return;
	reactor->is_draining = true;
	log_info("reactor %u draining: %u sessions", reactor->opts.index,
		 reactor->sessions_pool.used);
	sessions_notify(reactor, WIRE_NOTICE_DRAINING);
}

void reactor_finish(struct reactor *reactor)
{
	CHECK_OBJ(reactor, REACTOR_MAGIC);
	if (reactor->is_finishing)
		return;
	reactor->is_draining = true;
	reactor->is_finishing = true;
	log_info("reactor %u finishing: %u sessions", reactor->opts.index,
		 reactor->sessions_pool.used);
	sessions_notify(reactor, WIRE_NOTICE_CLOSING);
}

bool reactor_is_idle(const struct reactor *reactor)
{
	CHECK_OBJ(reactor, REACTOR_MAGIC);
	return reactor->ops.used == 0 && reactor->requests.used == 0 && reactor->warm.active == 0;
}

static void pending_close(struct reactor *reactor)
{
	while (!list_is_empty(&reactor->pending)) {
		struct conn *conn = list_head(&reactor->pending, struct conn, node);

		conn->lane->ops->close(&conn->lane);
		conn_free(conn);
	}
}

void reactor_stop(struct reactor *reactor)
{
	CHECK_OBJ(reactor, REACTOR_MAGIC);
	reactor->is_draining = true;
	reactor->is_finishing = true;
	warm_stop(reactor);
	pending_close(reactor);
	while (!list_is_empty(&reactor->sessions))
		session_end(list_head(&reactor->sessions, struct session, node));
}

void reactor_destroy(struct reactor **reactor_ptr)
{
	struct reactor *reactor = *reactor_ptr;
	struct env *env;

	if (reactor == NULL)
		return;
	CHECK_OBJ(reactor, REACTOR_MAGIC);
	env = reactor->env;
	reactor_stop(reactor);
	query_census_stop(reactor);
	mail_end(reactor);
	listeners_close(reactor);
	/* Ops that nothing holds go now; who is left is the store's. */
	run_cb(&reactor->run_task);
	env->ops->undefer(env, &reactor->run_task);
	check_end(reactor);
	for (uint32_t i = 0; i < reactor->opts.shard_count; i++) {
		if (reactor->slots[i].shard != NULL)
			shard_on_room(reactor->slots[i].shard, NULL);
		env->ops->undefer(env, &reactor->slots[i].room_task);
	}
	if (reactor->ops.used > 0)
		log_warn("server destroyed with %u operations under way", reactor->ops.used);
	buffers_arena_fini(&reactor->buffers);
	memory_free(reactor);
	reactor->magic = 0;
	env->ops->free(env, reactor);
	*reactor_ptr = NULL;
}

uint32_t reactor_listener_index(const struct reactor *reactor, const struct xprt_listener *listener)
{
	uint32_t i = 0;

	while (reactor->listeners[i] != listener)
		i++;
	ASSERT(i < reactor->listener_count);
	return i;
}

void reactor_listener_name(const struct reactor *reactor, uint32_t index, char *buf,
			   size_t buf_size)
{
	ASSERT(index < reactor->listener_count);
	ASSERT(reactor->listeners[index] != NULL);
	reactor->listeners[index]->ops->listener_name(reactor->listeners[index], buf, buf_size);
}

int reactor_door_name(const struct reactor *reactor, char *buf, size_t buf_size)
{
	if (reactor->door == NULL)
		return reactor->door_why != 0 ? reactor->door_why : -ENOENT;
	reactor->door->ops->listener_name(reactor->door, buf, buf_size);
	return 0;
}
