/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server: the listener, its pool of lanes, and what has a time limit.
 *
 * Normal path: a connection is accepted into a lane of the pool; its preface arrives with the
 * memory for the rings, which is mapped; user->accepted() takes it. The lane goes back to the pool
 * when it has ended and nobody holds a mapping of its any more.
 *
 * Limits. A connection that sends no preface for SHM_PREFACE_NS is closed, and the oldest of them
 * when there are more than SHM_PREFACE_MAX or no lane is left; if there is none to close, the
 * listener rests until a lane is free. A preface of another version, or one that the user does not
 * want, is answered with a REFUSE and counts as one without until its peer has closed it.
 *
 * Failure. Memory that is none, whose size may change, or of another version of this transport:
 * the connection ends with one log line. Accepting fails (no descriptors): the listener rests until
 * the next tick. A listener ends with its last lane: unlisten() only closes the door.
 */
#include "shm.h"

#include "../../base/log.h"

#include <stdio.h>
#include <unistd.h>

static void listener_watch(struct shm_listener *listener);
static void tick_arm(struct shm_listener *listener);
static void listener_free(struct shm_listener *listener);

/* --- the pool --- */

static void listener_hold(struct shm_listener *listener)
{
	listener->lanes_held++;
}

static void listener_release(struct shm_listener *listener)
{
	ASSERT(listener->lanes_held > 0);
	listener->lanes_held--;
	if (!listener->is_unlistened)
		listener_watch(listener);
	else if (listener->lanes_held == 0)
		listener_free(listener);
}

void shm_lane_pool_put(struct shm_lane *lane)
{
	struct shm_listener *listener = lane->listener;

	list_del(&lane->node);
	lane->magic = 0;
	list_add_tail(&listener->free, &lane->node);
	listener_release(listener);
}

static void preface_add(struct shm_lane *lane)
{
	struct shm_listener *listener = lane->listener;

	lane->accepted_ns = env_now_ns(lane->lane.env);
	list_add_tail(&listener->prefaces, &lane->node);
	listener->preface_count++;
	tick_arm(listener);
}

static void preface_remove(struct shm_lane *lane)
{
	struct shm_listener *listener = lane->listener;

	list_del(&lane->node);
	list_add_tail(&listener->live, &lane->node);
	listener->preface_count--;
}

void shm_lane_left(struct shm_lane *lane)
{
	if (lane->state == SHM_PREFACE || lane->state == SHM_REFUSED)
		preface_remove(lane);
}

/* --- prefaces --- */

/* Answer a connection that is not wanted. It stays until its peer has read that and closed it. */
static void lane_refuse(struct shm_lane *lane, int why)
{
	struct wire_refuse refuse = { .code = why };
	struct wire_header header;
	int rc;

	snprintf((char *)refuse.text, sizeof(refuse.text), "%s", err_str(why));
	wire_header_init(&header, WIRE_REFUSE, 0, 0, sizeof(refuse));
	rc = shm_send(&lane->lane, &header, &refuse, NULL, 0);
	ASSERT(rc == 0 || lane->broken != 0); /* the ring is empty */
	list_del(&lane->node);
	lane->state = SHM_REFUSED;
	preface_add(lane);
}

/* What is wrong with the memory that came; NULL: it is mapped. */
static const char *memory_take(struct shm_lane *lane)
{
	struct env *env = lane->lane.env;
	struct shm_memory *memory;
	void *base;

	if (lane->in_fd < 0)
		return "passed no memory with its preface";
	if (!env->ops->share_is_fixed(env, lane->in_fd))
		return "passed memory whose size may change";
	if (env->ops->share_map(env, lane->in_fd, 0, sizeof(*memory), &base) < 0)
		return "passed memory that cannot be mapped";
	(void)shm_lane_fd_close(lane); /* it is memory */
	memory = base;
	shm_lane_rings(lane, memory);
	return memory->version == SHM_VERSION ? NULL : "speaks another version of shared memory";
}

void shm_lane_accepted(struct shm_lane *lane)
{
	const struct shm_note server = { .kind = SHM_NOTE_SERVER };
	const struct wire_preface preface = lane->in.preface;
	struct shm_listener *listener = lane->listener;
	const char *fault = NULL;
	int rc = wire_check_preface(&preface);

	if (rc == -ERR_PROTOCOL)
		fault = "sent no preface of ours";
	else
		fault = memory_take(lane);
	if (fault != NULL) {
		shm_lane_fault(lane, fault);
		return;
	}
	preface_remove(lane);
	lane->state = SHM_OPEN;
	/* Without it the client's fences take the socket's end for the server's. */
	if (listener->process_fd >= 0)
		(void)shm_note_send(lane, &server, listener->process_fd);
	shm_lane_wake(lane);
	if (rc == 0)
		rc = lane->lane.user->accepted(&listener->listener, &lane->lane, &preface);
	if (lane->is_closed)
		return;
	if (rc < 0)
		lane_refuse(lane, rc);
	else
		lane->is_announced = true;
}

static void lane_drop(struct shm_lane *lane, int why)
{
	shm_lane_enter(lane);
	shm_lane_break(lane, why);
	shm_lane_leave(lane);
}

/* Make room in the pool at the cost of the connection that has longest sent nothing. */
static bool preface_drop(struct shm_listener *listener)
{
	struct shm_lane *oldest = list_head(&listener->prefaces, struct shm_lane, node);

	if (oldest == NULL)
		return false;
	lane_drop(oldest, -ERR_BUSY);
	return true;
}

/* --- accepting --- */

static void lane_accept(struct shm_listener *listener, struct env_sock *sock)
{
	struct shm_lane *lane = list_head(&listener->free, struct shm_lane, node);

	list_del(&lane->node);
	shm_lane_init(lane, listener->listener.env, listener->listener.user, sock, &listener->poll);
	lane->listener = listener;
	lane->frame = listener->frame;
	lane->state = SHM_PREFACE;
	shm_regions_of(lane)->count = 0;
	listener_hold(listener);
	preface_add(lane);
	shm_lane_watch(lane);
}

static void listener_rest(struct shm_listener *listener)
{
	struct env *env = listener->listener.env;

	listener->is_accepting = false;
	env->ops->sock_watch(env, listener->sock, 0, NULL, NULL);
	tick_arm(listener);
}

static void listener_ready(struct env_sock *sock, void *ctx, uint32_t events)
{
	struct shm_listener *listener = ctx;
	struct env *env = listener->listener.env;

	CHECK_OBJ(listener, SHM_LISTENER_MAGIC);
	for (uint32_t i = 0; i < SHM_PREFACE_MAX; i++) {
		struct env_sock *accepted;
		int rc;
		bool is_full = listener->preface_count == SHM_PREFACE_MAX ||
			       list_is_empty(&listener->free);

		if (is_full && i > 0)
			return; /* whether another one waits is not known: the event says */
		if (is_full && !preface_drop(listener)) {
			listener_rest(listener);
			return;
		}
		rc = env->ops->sock_accept(env, listener->sock, &accepted);
		if (rc == -EAGAIN)
			return;
		if (rc < 0) {
			log_warn("listener %s cannot accept: %s", listener->address, err_str(rc));
			listener_rest(listener);
			return;
		}
		lane_accept(listener, accepted);
	}
}

static void listener_watch(struct shm_listener *listener)
{
	struct env *env = listener->listener.env;

	if (listener->is_accepting || listener->sock == NULL)
		return;
	listener->is_accepting = true;
	env->ops->sock_watch(env, listener->sock, ENV_SOCK_IN, listener_ready, listener);
}

/* --- ticks --- */

static void tick_arm(struct shm_listener *listener)
{
	struct env *env = listener->listener.env;
	bool has_work = !list_is_empty(&listener->prefaces) ||
			(!listener->is_accepting && listener->sock != NULL);

	if (has_work && !listener->tick.is_set)
		env->ops->timer_set(env, &listener->tick, env_now_ns(env) + SHM_TICK_NS);
}

static void tick_fire(struct env_timer *timer)
{
	struct shm_listener *listener = CONTAINER_OF(timer, struct shm_listener, tick);
	uint64_t now_ns = env_now_ns(listener->listener.env);
	struct shm_lane *lane;

	CHECK_OBJ(listener, SHM_LISTENER_MAGIC);
	listener_hold(listener);
	while ((lane = list_head(&listener->prefaces, struct shm_lane, node)) != NULL &&
	       now_ns - lane->accepted_ns >= SHM_PREFACE_NS)
		lane_drop(lane, -ETIMEDOUT);
	tick_arm(listener);
	listener_release(listener);
}

/* --- the poller --- */

static bool listener_look(struct env_poller *poller)
{
	struct shm_poll *poll = CONTAINER_OF(poller, struct shm_poll, poller);
	struct shm_listener *listener = CONTAINER_OF(poll, struct shm_listener, poll);
	uint64_t budget = SHM_LOOK_BYTES;
	bool is_busy = false;
	struct shm_lane *lane;
	struct list batch;
	uint64_t now_ns;

	if (list_is_empty(&poll->awake))
		return false;
	listener_hold(listener); /* its last lane may go */
	now_ns = env_now_ns(poll->env);
	list_init(&batch);
	list_splice_tail(&batch, &poll->awake);
	while (budget > 0 && (lane = list_head(&batch, struct shm_lane, awake_node)) != NULL) {
		list_del(&lane->awake_node);
		list_add_tail(&poll->awake, &lane->awake_node);
		is_busy |= shm_lane_turn(lane, now_ns, &budget);
	}
	/* Those that had no turn are first in the next. */
	list_splice_tail(&batch, &poll->awake);
	list_splice_tail(&poll->awake, &batch);
	listener_release(listener);
	return is_busy;
}

static bool listener_sleep(struct env_poller *poller)
{
	struct shm_poll *poll = CONTAINER_OF(poller, struct shm_poll, poller);

	list_for_each_safe (node, &poll->awake) {
		if (!shm_lane_sleep(list_entry(node, struct shm_lane, awake_node)))
			return false;
	}
	return true;
}

/* --- listen, unlisten --- */

static uint32_t mapping_count_of(uint32_t lane_max)
{
	return MIN(MAX(SHM_MAPPING_MIN, lane_max * SHM_MAPPING_LANE), SHM_MAPPING_MAX);
}

static size_t lanes_size(uint32_t lane_max)
{
	return round_up(lane_max * sizeof(struct shm_server_lane), PAGE_SIZE);
}

uint64_t shm_listen_size(const struct xprt_ops *ops, uint32_t lane_max)
{
	return sizeof(struct shm_listener) + lanes_size(lane_max) +
	       mapping_count_of(lane_max) * sizeof(struct shm_mapping);
}

static void listener_free(struct shm_listener *listener)
{
	struct env *env = listener->listener.env;

	ASSERT(listener->lanes_held == 0);
	env->ops->timer_clear(env, &listener->tick);
	env->ops->poller_remove(env, &listener->poll.poller);
	if (listener->process_fd >= 0)
		close(listener->process_fd);
	env->ops->free(env, listener->mappings);
	env->ops->unmap(env, listener->lanes, lanes_size(listener->lane_max));
	listener->magic = 0;
	env->ops->free(env, listener);
}

static void listener_init(struct shm_listener *listener)
{
	struct env *env = listener->listener.env;
	uint32_t count = mapping_count_of(listener->lane_max);

	list_init(&listener->free);
	list_init(&listener->prefaces);
	list_init(&listener->live);
	list_init(&listener->mappings_free);
	listener->mapping_max = count;
	listener->tick.fire = tick_fire;
	listener->process_fd = env->ops->process_fd(env);
	if (listener->process_fd < 0)
		log_info("listener %s: no descriptor of this process: %s", listener->address,
			 err_str(listener->process_fd));
	for (uint32_t i = 0; i < listener->lane_max; i++)
		list_add_tail(&listener->free, &listener->lanes[i].shm.node);
	for (uint32_t i = 0; i < count; i++)
		list_add_tail(&listener->mappings_free, &listener->mappings[i].node);
	shm_poll_init(&listener->poll, env, listener_look, listener_sleep);
}

int shm_listen(const struct xprt_ops *ops, struct env *env, const char *address, uint32_t lane_max,
	       const struct xprt_user *user, void *ctx, struct xprt_listener **out)
{
	struct shm_listener *listener;
	int rc;

	ASSERT(lane_max > 0);
	listener = env->ops->alloc(env, sizeof(*listener));
	if (listener == NULL)
		return -ENOMEM;
	*listener = (struct shm_listener) {
		.listener = { .ops = ops, .user = user, .env = env, .ctx = ctx },
		.magic = SHM_LISTENER_MAGIC,
		.lane_max = lane_max,
	};
	rc = -ENOMEM;
	listener->lanes = env->ops->map(env, lanes_size(lane_max));
	if (listener->lanes == NULL)
		goto err_free_listener;
	listener->mappings =
		env->ops->alloc(env, mapping_count_of(lane_max) * sizeof(struct shm_mapping));
	if (listener->mappings == NULL)
		goto err_unmap_lanes;
	rc = address == NULL ? 0 : env->ops->sock_listen(env, address, &listener->sock);
	if (rc < 0)
		goto err_free_mappings;

	if (address != NULL)
		snprintf(listener->address, sizeof(listener->address), "%s", address);
	listener_init(listener);
	listener_watch(listener);
	*out = &listener->listener;
	return 0;

err_free_mappings:
	env->ops->free(env, listener->mappings);
err_unmap_lanes:
	env->ops->unmap(env, listener->lanes, lanes_size(lane_max));
err_free_listener:
	env->ops->free(env, listener);
	return rc;
}

/* Lanes that the user knows go on; the listener's memory goes with the last. */
void shm_unlisten(struct xprt_listener **xprt_listener)
{
	struct shm_listener *listener;

	if (*xprt_listener == NULL)
		return;
	listener = CONTAINER_OF(*xprt_listener, struct shm_listener, listener);
	CHECK_OBJ(listener, SHM_LISTENER_MAGIC);
	*xprt_listener = NULL;
	if (listener->sock != NULL)
		listener->listener.env->ops->sock_close(listener->listener.env, listener->sock);
	listener->sock = NULL;
	listener->is_unlistened = true;
	listener_hold(listener);
	while (preface_drop(listener)) {
	}
	listener_release(listener);
}

void shm_listener_name(struct xprt_listener *xprt_listener, char *buf, size_t buf_size)
{
	struct shm_listener *listener = CONTAINER_OF(xprt_listener, struct shm_listener, listener);

	CHECK_OBJ(listener, SHM_LISTENER_MAGIC);
	snprintf(buf, buf_size, "%s", listener->address);
}
