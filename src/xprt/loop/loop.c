/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners, connections and frames.
 *
 * Normal path: connect() looks for the listener after a delay (a timer of the client's), takes a
 * lane of its pool and tells the client opened(); after another the server's lane is accepted().
 * send() copies the frame into the other end's inbox and sets that end's arrival timer; when it
 * fires, the first frame is checked and handed to the user.
 *
 * Failure: loop_sever() parts the ends at once, so that no move touches the other's memory any
 * more; the other hears of it later, by end_why. loop_break() is the end by fault, with closed();
 * close() the end by the user, without.
 */
#include "loop.h"

#include <stdio.h>
#include <string.h>

struct loop_entry {
	uint64_t when_ns;
	uint32_t size; /* with this; 0: go on at the beginning of the ring */
	uint32_t reserved;
};

#define FRAME_OFFSET (sizeof(struct loop_entry) + sizeof(struct wire_header))

_Static_assert(FRAME_OFFSET % 8 == 0, "bodies are 8-byte aligned");
_Static_assert(LOOP_INBOX_SIZE >= 2 * (FRAME_OFFSET + WIRE_BODY_MAX + WIRE_INLINE_MAX + 16),
	       "any frame fits into an empty inbox, wherever its head is");

/* One thread: see loop.h. */
static struct list listeners = { &listeners, &listeners };

static uint64_t delay_default(struct env *from, struct env *to)
{
	return loop_random(from, 50 * NS_PER_US);
}

static loop_delay delay_of_run = delay_default;

void xprt_loop_delay_set(loop_delay delay)
{
	delay_of_run = delay != NULL ? delay : delay_default;
}

static uint32_t window_of_run = LOOP_INBOX_SIZE;

void xprt_loop_window_set(uint32_t size)
{
	ASSERT(size <= LOOP_INBOX_SIZE);
	window_of_run = size;
}

uint64_t loop_delay_ns(struct env *from, struct env *to)
{
	return delay_of_run(from, to);
}

uint32_t loop_random(struct env *env, uint32_t limit)
{
	uint32_t value;

	env->ops->random(env, &value, sizeof(value));
	return value % limit;
}

struct loop_lane *loop_of(struct xprt_lane *lane)
{
	struct loop_lane *self = CONTAINER_OF(lane, struct loop_lane, lane);

	CHECK_OBJ(self, LOOP_LANE_MAGIC);
	return self;
}

/* --- inbox --- */

/* Where an entry of size goes; NULL: no room. */
static struct loop_entry *inbox_reserve(struct loop_inbox *inbox, uint32_t size)
{
	uint32_t left = (uint32_t)LOOP_INBOX_SIZE - inbox->tail;
	struct loop_entry *entry = (struct loop_entry *)(void *)(inbox->bytes + inbox->tail);

	if (inbox->used == 0) {
		inbox->head = inbox->tail = 0;
		left = LOOP_INBOX_SIZE;
		entry = (struct loop_entry *)(void *)inbox->bytes;
	} else if (inbox->used + size > window_of_run) {
		return NULL;
	}
	if (left < size) {
		if (inbox->used + left + size > LOOP_INBOX_SIZE)
			return NULL;
		if (left >= sizeof(*entry))
			entry->size = 0;
		inbox->used += left;
		inbox->tail = 0;
		entry = (struct loop_entry *)(void *)inbox->bytes;
	}
	if (inbox->used + size > LOOP_INBOX_SIZE)
		return NULL;
	inbox->tail = (inbox->tail + size) % LOOP_INBOX_SIZE;
	inbox->used += size;
	entry->size = size;
	return entry;
}

static struct loop_entry *inbox_first(struct loop_inbox *inbox)
{
	struct loop_entry *entry = (struct loop_entry *)(void *)(inbox->bytes + inbox->head);
	uint32_t left = (uint32_t)LOOP_INBOX_SIZE - inbox->head;

	if (inbox->used == 0)
		return NULL;
	if (left >= sizeof(*entry) && entry->size != 0)
		return entry;
	inbox->used -= left;
	inbox->head = 0;
	return inbox->used == 0 ? NULL : (struct loop_entry *)(void *)inbox->bytes;
}

static void inbox_drop(struct loop_inbox *inbox)
{
	struct loop_entry *entry = inbox_first(inbox);

	ASSERT(entry != NULL);
	ASSERT(entry->size <= inbox->used);
	inbox->head = (inbox->head + entry->size) % LOOP_INBOX_SIZE;
	inbox->used -= entry->size;
}

/* --- life of a lane --- */

static void arrival_arm(struct loop_lane *lane)
{
	struct env *env = lane->lane.env;
	struct loop_entry *entry = inbox_first(&lane->inbox);

	if (lane->is_closed || lane->is_connecting || lane->is_accepting || lane->is_detached)
		return;
	if (entry != NULL)
		env->ops->timer_set(env, &lane->arrival, entry->when_ns);
	else if (lane->end_why != 0)
		env->ops->timer_set(env, &lane->arrival, lane->end_ns);
	else
		env->ops->timer_clear(env, &lane->arrival);
}

/* When what leaves lane's other end now arrives at lane; false: never. */
static bool arrival_time(struct loop_lane *lane, struct env *from, uint64_t *when_out)
{
	uint64_t delay_ns = loop_delay_ns(from, lane->lane.env);

	if (lane->is_deaf || delay_ns == ENV_FOREVER)
		return false;
	lane->last_ns = MAX(lane->last_ns, env_now_ns(from) + delay_ns);
	*when_out = lane->last_ns;
	return true;
}

static void lane_end_at(struct loop_lane *lane, uint64_t when_ns, int why)
{
	if (lane->end_why != 0 && lane->end_ns <= when_ns)
		return;
	lane->end_ns = when_ns;
	lane->end_why = why;
	arrival_arm(lane);
}

void loop_lose(struct loop_lane *lane)
{
	uint64_t when_ns = env_now_ns(lane->lane.env) + LOOP_KEEPALIVE_NS;

	lane_end_at(lane, when_ns, -ETIMEDOUT);
	if (lane->peer != NULL)
		lane_end_at(lane->peer, when_ns, -ETIMEDOUT);
}

/* From now on nothing is moved between the two, and the other will hear of it. */
static void loop_sever(struct loop_lane *lane)
{
	struct loop_lane *peer = lane->peer;
	uint64_t when_ns;

	lane->lane.backlog_size = UINT64_MAX;
	if (peer == NULL)
		return;
	lane->peer = NULL;
	peer->peer = NULL;
	if (arrival_time(peer, lane->lane.env, &when_ns))
		lane_end_at(peer, when_ns, -ERR_PEER);
	else
		lane_end_at(peer, env_now_ns(lane->lane.env) + LOOP_KEEPALIVE_NS, -ETIMEDOUT);
}

static void listener_free(struct loop_listener *listener)
{
	struct env *env = listener->listener.env;
	uint32_t lane_max = listener->lane_max;

	ASSERT(listener->held == 0);
	listener->magic = 0;
	list_del(&listener->all_node);
	env->ops->free(env, listener->holds_memory);
	env->ops->unmap(env, listener->inboxes, lane_max * LOOP_INBOX_SIZE);
	env->ops->free(env, listener->regions);
	env->ops->free(env, listener->lanes);
	env->ops->free(env, listener);
}

static void lane_free(struct loop_lane *lane)
{
	struct env *env = lane->lane.env;
	struct loop_listener *listener = lane->listener;

	lane->magic = 0;
	if (listener == NULL) {
		env->ops->unmap(env, lane->inbox.bytes, LOOP_INBOX_SIZE);
		env->ops->free(env, lane);
		return;
	}
	list_del(&lane->node);
	list_add_tail(&listener->free, &lane->node);
	listener->held--;
	if (listener->is_unlistened && listener->held == 0)
		listener_free(listener);
}

/* No upcall of the lane comes any more, but done() of its moves now. */
static void lane_stop(struct loop_lane *lane, int why)
{
	struct env *env = lane->lane.env;

	loop_sever(lane);
	env->ops->timer_clear(env, &lane->arrival);
	env->ops->timer_clear(env, &lane->room);
	env->ops->timer_clear(env, &lane->mover);
	loop_moves_fail(lane, why);
}

void loop_enter(struct loop_lane *lane)
{
	CHECK_OBJ(lane, LOOP_LANE_MAGIC);
	lane->depth++;
}

void loop_leave(struct loop_lane *lane)
{
	ASSERT(lane->depth > 0);
	lane->depth--;
	if (lane->depth > 0)
		return;
	if (lane->is_closed)
		lane_free(lane);
	else
		arrival_arm(lane);
}

void loop_break(struct loop_lane *lane, int why)
{
	ASSERT(why < 0);
	if (lane->is_closed)
		return;
	loop_enter(lane);
	lane_stop(lane, why);
	if (!lane->is_closed) { /* by the user, in a done() */
		lane->is_closed = true;
		if (lane->is_announced)
			lane->lane.user->closed(&lane->lane, why);
	}
	loop_leave(lane);
}

static void loop_close(struct xprt_lane **xprt_lane)
{
	struct loop_lane *lane;

	if (*xprt_lane == NULL)
		return;
	lane = loop_of(*xprt_lane);
	*xprt_lane = NULL;
	if (lane->is_closed)
		return; /* in closed() */
	loop_enter(lane);
	lane->is_closed = true;
	lane_stop(lane, -ECANCELED);
	loop_leave(lane);
}

/* --- frames --- */

static void room_fire(struct env_timer *timer)
{
	struct loop_lane *lane = CONTAINER_OF(timer, struct loop_lane, room);

	loop_enter(lane);
	lane->lane.user->writable(&lane->lane);
	loop_leave(lane);
}

/* The inbox of lane has room again. */
static void tell_room(struct loop_lane *lane)
{
	struct loop_lane *peer = lane->peer;
	struct env *env;

	if (peer == NULL || !peer->lane.is_blocked)
		return;
	peer->lane.is_blocked = false;
	env = peer->lane.env;
	env->ops->timer_set(env, &peer->room, env_now_ns(env));
}

static int loop_send(struct xprt_lane *xprt_lane, struct wire_header *header, const void *body,
		     const struct iovec *payload, uint32_t payload_count)
{
	struct loop_lane *lane = loop_of(xprt_lane);
	struct loop_lane *peer = lane->peer;
	uint32_t body_size = (uint32_t)round_up(header->body_size, 8);
	struct loop_entry *entry;
	uint64_t when_ns;
	uint8_t *bytes;

	ASSERT(!lane->is_closed);
	header->magic = WIRE_MAGIC;
	if (peer == NULL && !lane->is_connecting)
		return 0; /* the end of the lane is on its way */
	if (peer == NULL) {
		xprt_lane->is_blocked = true;
		return -EAGAIN;
	}
	if (!arrival_time(peer, xprt_lane->env, &when_ns)) {
		peer->is_deaf = true;
		loop_lose(lane);
		return 0;
	}
	entry = inbox_reserve(&peer->inbox, (uint32_t)(FRAME_OFFSET + body_size +
						       round_up(header->payload_size, 8)));
	if (entry == NULL) {
		xprt_lane->is_blocked = true;
		return -EAGAIN;
	}
	bytes = (uint8_t *)(entry + 1);
	memcpy(bytes, header, sizeof(*header));
	bytes += sizeof(*header);
	if (header->body_size > 0)
		memcpy(bytes, body, header->body_size);
	bytes += body_size;
	for (uint32_t i = 0; i < payload_count; i++) {
		memcpy(bytes, payload[i].iov_base, payload[i].iov_len);
		bytes += payload[i].iov_len;
	}
	entry->when_ns = when_ns;
	xprt_lane->bytes_out += header->body_size + header->payload_size;
	arrival_arm(peer);
	return 0;
}

/* Hand on the first frame of the inbox. */
static void frame_deliver(struct loop_lane *lane, const struct loop_entry *entry)
{
	const struct wire_header *header = (const struct wire_header *)(const void *)(entry + 1);
	const uint8_t *body = (const uint8_t *)(header + 1);
	struct xprt_frame frame = { .header = header, .body = body };
	int rc = wire_check_header(header, lane->listener != NULL ? WIRE_C2S : WIRE_S2C);

	if (rc == 0)
		rc = wire_check_body(header, body);
	if (header->payload_size > 0)
		frame.payload = body + round_up(header->body_size, 8);
	lane->lane.bytes_in += header->body_size + header->payload_size;
	lane->lane.progress_ns = env_now_ns(lane->lane.env);
	if (rc == 0)
		rc = lane->lane.user->frame(&lane->lane, &frame);
	if (lane->is_closed)
		return;
	inbox_drop(&lane->inbox);
	if (rc < 0)
		loop_break(lane, rc);
	else
		tell_room(lane);
}

/* --- connections --- */

static struct loop_listener *listener_find(const char *address)
{
	list_for_each (pos, &listeners) {
		struct loop_listener *listener = list_entry(pos, struct loop_listener, node);

		if (strcmp(listener->address, address) == 0)
			return listener;
	}
	return NULL;
}

static void arrival_fire(struct env_timer *timer);

static void lane_init(struct loop_lane *lane, const struct xprt_ops *ops, struct env *env,
		      const struct xprt_user *user, uint8_t *inbox)
{
	*lane = (struct loop_lane) {
		.lane = { .ops = ops, .user = user, .env = env },
		.magic = LOOP_LANE_MAGIC,
		.inbox = { .bytes = inbox },
		.arrival = { .fire = arrival_fire },
		.room = { .fire = room_fire },
		.mover = { .fire = loop_mover_fire },
	};
	lane->lane.progress_ns = env_now_ns(env);
	list_init(&lane->node);
	list_init(&lane->moves);
}

/* The client's connection has reached where the listener is, or is not. */
static void lane_connect(struct loop_lane *lane)
{
	struct loop_listener *listener = listener_find(lane->address);
	struct loop_lane *peer;
	struct env *env;
	uint64_t delay_ns;

	lane->is_connecting = false;
	if (listener == NULL || list_is_empty(&listener->free)) {
		loop_break(lane, -ECONNREFUSED);
		return;
	}
	env = listener->listener.env;
	delay_ns = loop_delay_ns(lane->lane.env, env);
	peer = list_head(&listener->free, struct loop_lane, node);
	list_del(&peer->node);
	lane_init(peer, listener->listener.ops, env, listener->listener.user, peer->inbox.bytes);
	peer->serial = lane->serial;
	list_add_tail(&listener->live, &peer->node);
	listener->held++;
	peer->listener = listener;
	peer->preface = lane->preface;
	peer->is_accepting = true;
	peer->peer = lane;
	lane->peer = peer;
	if (delay_ns == ENV_FOREVER) {
		peer->is_deaf = true;
		delay_ns = LOOP_KEEPALIVE_NS;
	}
	peer->last_ns = env_now_ns(env) + delay_ns;
	env->ops->timer_set(env, &peer->arrival, peer->last_ns);
	lane->lane.user->opened(&lane->lane);
	if (!lane->is_closed && lane->lane.is_blocked) {
		lane->lane.is_blocked = false;
		lane->lane.user->writable(&lane->lane);
	}
}

static void lane_accept(struct loop_lane *lane)
{
	int sent;
	int rc;

	lane->is_accepting = false;
	if (lane->is_deaf || lane->peer == NULL) {
		loop_break(lane, -ERR_PEER);
		return;
	}
	rc = wire_check_preface(&lane->preface);
	if (rc == 0)
		rc = lane->lane.user->accepted(&lane->listener->listener, &lane->lane,
					       &lane->preface);
	if (lane->is_closed || lane->is_detached)
		return;
	if (rc == 0) {
		lane->is_announced = true;
		return;
	}
	sent = xprt_refuse(&lane->lane, rc, err_str(rc));
	ASSERT(sent == 0); /* nothing else was ever sent to it */
	loop_break(lane, rc);
}

static void arrival_fire(struct env_timer *timer)
{
	struct loop_lane *lane = CONTAINER_OF(timer, struct loop_lane, arrival);
	uint64_t now_ns = env_now_ns(lane->lane.env);
	struct loop_entry *entry;

	loop_enter(lane);
	entry = inbox_first(&lane->inbox);
	if (lane->is_connecting)
		lane_connect(lane);
	else if (lane->is_accepting)
		lane_accept(lane);
	else if (entry != NULL && entry->when_ns <= now_ns)
		frame_deliver(lane, entry);
	else if (lane->end_why != 0 && lane->end_ns <= now_ns)
		loop_break(lane, lane->end_why);
	loop_leave(lane);
}

/* --- from one listener to another --- */

/* The lane stays as it is, deaf to its env, until the other listener has taken what it stands for.
 */
static int loop_detach(struct xprt_lane *xprt_lane, struct xprt_handover *out)
{
	struct loop_lane *lane = loop_of(xprt_lane);

	ASSERT(lane->depth > 0);
	ASSERT(!lane->is_announced);
	lane->is_detached = true;
	xprt_lane->env->ops->timer_clear(xprt_lane->env, &lane->arrival);
	*out = (struct xprt_handover) { .ops = xprt_lane->ops, .lane = lane };
	return 0;
}

static void loop_discard(struct env *env, const struct xprt_handover *taken)
{
	struct loop_lane *lane = taken->lane;
	struct xprt_lane *xprt_lane = &lane->lane;

	ASSERT(lane->is_detached);
	lane->is_detached = false;
	loop_close(&xprt_lane);
}

/* What has arrived, the other end, and its end if it has come: all but the place in the pool. */
static void lane_move(struct loop_lane *to, struct loop_lane *from)
{
	uint8_t *bytes = to->inbox.bytes;

	to->inbox = from->inbox;
	from->inbox = (struct loop_inbox) { .bytes = bytes };
	to->peer = from->peer;
	from->peer = NULL;
	if (to->peer != NULL)
		to->peer->peer = to;
	to->preface = from->preface;
	to->serial = from->serial;
	to->last_ns = from->last_ns;
	to->end_ns = from->end_ns;
	to->end_why = from->end_why;
	to->is_deaf = from->is_deaf;
	to->lane.bytes_in = from->lane.bytes_in;
}

static void loop_attach(struct xprt_listener *xprt_listener, const struct xprt_handover *taken)
{
	struct loop_listener *listener =
		CONTAINER_OF(xprt_listener, struct loop_listener, listener);
	struct loop_lane *from = taken->lane;
	struct loop_lane *lane = list_head(&listener->free, struct loop_lane, node);

	if (lane == NULL) {
		loop_discard(xprt_listener->env, taken);
		return;
	}
	list_del(&lane->node);
	lane_init(lane, xprt_listener->ops, xprt_listener->env, xprt_listener->user,
		  lane->inbox.bytes);
	list_add_tail(&listener->live, &lane->node);
	listener->held++;
	lane->listener = listener;
	lane_move(lane, from);
	loop_discard(xprt_listener->env, taken);
	loop_enter(lane);
	lane_accept(lane);
	loop_leave(lane);
}

static int connect_as(const struct xprt_ops *ops, struct env *env, const char *address,
		      const struct wire_preface *preface, const struct xprt_user *user, void *ctx,
		      struct xprt_lane **out)
{
	static uint64_t serial;
	struct loop_listener *listener = listener_find(address);
	struct loop_lane *lane = env->ops->alloc(env, sizeof(*lane));
	uint8_t *inbox;
	uint64_t delay_ns;

	if (lane == NULL)
		return -ENOMEM;
	inbox = env->ops->map(env, LOOP_INBOX_SIZE);
	if (inbox == NULL) {
		env->ops->free(env, lane);
		return -ENOMEM;
	}
	lane_init(lane, ops, env, user, inbox);
	lane->serial = ++serial;
	lane->lane.ctx = ctx;
	lane->preface = *preface;
	lane->is_connecting = true;
	lane->is_announced = true;
	snprintf(lane->address, sizeof(lane->address), "%s", address);
	delay_ns = loop_delay_ns(env, listener != NULL ? listener->listener.env : env);
	if (delay_ns != ENV_FOREVER)
		env->ops->timer_set(env, &lane->arrival, env_now_ns(env) + delay_ns);
	*out = &lane->lane;
	return 0;
}

static int loop_connect(struct env *env, const char *address, const struct wire_preface *preface,
			const struct xprt_user *user, void *ctx, struct xprt_lane **out)
{
	return connect_as(&xprt_loop, env, address, preface, user, ctx, out);
}

static int mapped_connect(struct env *env, const char *address, const struct wire_preface *preface,
			  const struct xprt_user *user, void *ctx, struct xprt_lane **out)
{
	return connect_as(&xprt_loop_mapped, env, address, preface, user, ctx, out);
}

/* --- listener --- */

static uint64_t loop_listen_size(const struct xprt_ops *ops, uint32_t lane_max)
{
	return sizeof(struct loop_listener) + LOOP_HOLD_MAX * sizeof(struct loop_hold) +
	       (uint64_t)lane_max *
		       (sizeof(struct loop_lane) + LOOP_INBOX_SIZE + sizeof(struct loop_regions));
}

static int loop_listen(const struct xprt_ops *ops, struct env *env, const char *address,
		       uint32_t lane_max, const struct xprt_user *user, void *ctx,
		       struct xprt_listener **out)
{
	struct loop_listener *listener;

	ASSERT(lane_max > 0);
	if (address != NULL && listener_find(address) != NULL)
		return -EADDRINUSE;
	listener = env->ops->alloc(env, sizeof(*listener));
	if (listener == NULL)
		return -ENOMEM;
	*listener = (struct loop_listener) {
		.listener = { .ops = ops, .user = user, .env = env, .ctx = ctx },
		.magic = LOOP_LISTENER_MAGIC,
		.lane_max = lane_max,
	};
	listener->lanes = env->ops->alloc(env, lane_max * sizeof(listener->lanes[0]));
	if (listener->lanes == NULL)
		goto err_free_listener;
	listener->regions = env->ops->alloc(env, lane_max * sizeof(listener->regions[0]));
	if (listener->regions == NULL)
		goto err_free_lanes;
	listener->inboxes = env->ops->map(env, lane_max * LOOP_INBOX_SIZE);
	if (listener->inboxes == NULL)
		goto err_free_regions;
	listener->holds_memory =
		env->ops->alloc(env, LOOP_HOLD_MAX * sizeof(listener->holds_memory[0]));
	if (listener->holds_memory == NULL)
		goto err_unmap_inboxes;

	loop_holds_init(listener);
	list_init(&listener->all_node);
	list_add_tail(&loop_listeners, &listener->all_node);
	list_init(&listener->node);
	list_init(&listener->live);
	list_init(&listener->free);
	for (uint32_t i = 0; i < lane_max; i++) {
		listener->lanes[i].inbox.bytes = listener->inboxes + i * LOOP_INBOX_SIZE;
		list_add_tail(&listener->free, &listener->lanes[i].node);
	}
	if (address != NULL) {
		snprintf(listener->address, sizeof(listener->address), "%s", address);
		list_add_tail(&listeners, &listener->node);
	}
	*out = &listener->listener;
	return 0;

err_unmap_inboxes:
	env->ops->unmap(env, listener->inboxes, lane_max * LOOP_INBOX_SIZE);
err_free_regions:
	env->ops->free(env, listener->regions);
err_free_lanes:
	env->ops->free(env, listener->lanes);
err_free_listener:
	env->ops->free(env, listener);
	return -ENOMEM;
}

static void loop_unlisten(struct xprt_listener **xprt_listener)
{
	struct loop_listener *listener;

	if (*xprt_listener == NULL)
		return;
	listener = CONTAINER_OF(*xprt_listener, struct loop_listener, listener);
	CHECK_OBJ(listener, LOOP_LISTENER_MAGIC);
	*xprt_listener = NULL;
	list_del(&listener->node);
	listener->is_unlistened = true;
	/* Those the user has not seen yet are nobody's. */
	list_for_each_safe (pos, &listener->live) {
		struct loop_lane *lane = list_entry(pos, struct loop_lane, node);

		if (lane->is_accepting && !lane->is_closed) {
			struct xprt_lane *unseen = &lane->lane;

			listener->held++; /* stays until all have been looked at */
			loop_close(&unseen);
			listener->held--;
		}
	}
	if (listener->held == 0)
		listener_free(listener);
}

static void loop_listener_name(struct xprt_listener *xprt_listener, char *buf, size_t buf_size)
{
	snprintf(buf, buf_size, "%s",
		 CONTAINER_OF(xprt_listener, struct loop_listener, listener)->address);
}

/* --- small ones --- */

static void loop_peer_name(struct xprt_lane *xprt_lane, char *buf, size_t buf_size)
{
	const struct loop_lane *lane = loop_of(xprt_lane);

	snprintf(buf, buf_size, "%s", lane->listener != NULL ? "loop client" : lane->address);
}

/* Of both kinds. */
#define LOOP_OPS                                                                                   \
	.transport = WIRE_XPRT_LOOP, .seg_max = XPRT_MOVE_SEG_MAX, .lane_max = WIRE_LANE_MAX,      \
	.lane_size = sizeof(struct loop_lane) + LOOP_INBOX_SIZE, .listen_size = loop_listen_size,  \
	.listen = loop_listen, .unlisten = loop_unlisten, .listener_name = loop_listener_name,     \
	.detach = loop_detach, .attach = loop_attach, .discard = loop_discard, .send = loop_send,  \
	.close = loop_close, .secure = xprt_secure_none, .peer_name = loop_peer_name,              \
	.push = loop_push, .pull = loop_pull, .revoke = loop_revoke, .declare = loop_declare,      \
	.undeclare = loop_undeclare, .region_add = loop_region_add,                                \
	.region_remove = loop_region_remove

const struct xprt_ops xprt_loop = {
	LOOP_OPS,
	.name = "loop",
	.caps = XPRT_CAP_DIRECT | XPRT_CAP_CLOSE_FENCES,
	.connect = loop_connect,
};

const struct xprt_ops xprt_loop_mapped = {
	LOOP_OPS,
	.name = "loop mapped",
	.caps = XPRT_CAP_DIRECT | XPRT_CAP_MAPPED,
	.connect = mapped_connect,
	.map = loop_map,
	.unmap = loop_unmap,
	.fence = loop_fence,
};
