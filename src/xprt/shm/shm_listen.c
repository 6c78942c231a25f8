/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server: what a connection is asked and told at the door (door.h), and whose turn it is.
 *
 * Normal path: a connection is accepted into a lane of the pool; its preface arrives with the
 * memory for the rings, which is mapped; user->accepted() takes it. The lane goes back to the pool
 * when it has ended and nobody holds a mapping of its any more.
 *
 * Failure. Memory that is none, whose size may change, or of another version of this transport, or
 * a preface that is none: the connection ends with one log line. A preface of another version, or
 * one that the user does not want, is answered with a REFUSE.
 */
#include "shm.h"

#include "../../base/log.h"

#include <unistd.h>

/* --- prefaces --- */

/* Answer a connection that is not wanted. It stays until its peer has read that and closed it. */
static void lane_refuse(struct shm_lane *lane, int why)
{
	int rc = xprt_refuse(&lane->lane, why, err_str(why));

	ASSERT(rc == 0 || lane->broken != 0); /* the ring is empty */
	lane->state = SHM_REFUSED;
	door_lane_stranger(&lane->door);
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
	door_lane_known(&lane->door);
	lane->state = SHM_OPEN;
	/* Without it the client's fences take the socket's end for the server's. */
	if (listener->process_fd >= 0)
		(void)shm_note_send(lane, &server, listener->process_fd);
	shm_lane_wake(lane);
	if (rc == 0)
		rc = lane->lane.user->accepted(&listener->door.listener, &lane->lane, &preface);
	if (lane->is_closed)
		return;
	if (rc < 0)
		lane_refuse(lane, rc);
	else
		lane->is_announced = true;
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
	door_hold(&listener->door); /* its last lane may go */
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
	door_release(&listener->door);
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

/* --- the door --- */

static void lane_begin(struct door *door, struct door_lane *door_lane, struct env_sock *sock)
{
	struct shm_listener *listener = CONTAINER_OF(door, struct shm_listener, door);
	struct shm_lane *lane = CONTAINER_OF(door_lane, struct shm_lane, door);

	shm_lane_init(lane, door->listener.env, door->listener.user, sock, &listener->poll);
	lane->listener = listener;
	lane->frame = listener->frame;
	lane->state = SHM_PREFACE;
	shm_regions_of(lane)->count = 0;
	shm_lane_watch(lane);
}

static void lane_drop(struct door_lane *door_lane, int why)
{
	struct shm_lane *lane = CONTAINER_OF(door_lane, struct shm_lane, door);

	shm_lane_enter(lane);
	shm_lane_break(lane, why);
	shm_lane_leave(lane);
}

static uint32_t mapping_count_of(uint32_t lane_max)
{
	return MIN(MAX(SHM_MAPPING_MIN, lane_max * SHM_MAPPING_LANE), SHM_MAPPING_MAX);
}

static size_t mappings_size(uint32_t lane_max)
{
	return mapping_count_of(lane_max) * sizeof(struct shm_mapping);
}

static void listener_init(struct door *door, void *extra)
{
	struct shm_listener *listener = CONTAINER_OF(door, struct shm_listener, door);
	struct shm_mapping *mappings = extra;
	struct env *env = door->listener.env;

	list_init(&listener->mappings_free);
	listener->mapping_max = mapping_count_of(door->lane_max);
	for (uint32_t i = 0; i < listener->mapping_max; i++)
		list_add_tail(&listener->mappings_free, &mappings[i].node);
	listener->process_fd = env->ops->process_fd(env);
	if (listener->process_fd < 0)
		log_info("listener %s: no descriptor of this process: %s", door->address,
			 err_str(listener->process_fd));
	shm_poll_init(&listener->poll, env, listener_look, listener_sleep);
}

static void listener_fini(struct door *door)
{
	struct shm_listener *listener = CONTAINER_OF(door, struct shm_listener, door);
	struct env *env = door->listener.env;

	env->ops->poller_remove(env, &listener->poll.poller);
	if (listener->process_fd >= 0)
		close(listener->process_fd);
}

_Static_assert(offsetof(struct shm_listener, door) == 0, "door.h");

const struct door_kind shm_door = {
	.door_size = sizeof(struct shm_listener),
	.lane_size = sizeof(struct shm_server_lane),
	.lane_offset = offsetof(struct shm_server_lane, shm.door),
	.extra_size = mappings_size,
	.init = listener_init,
	.fini = listener_fini,
	.begin = lane_begin,
	.drop = lane_drop,
};
