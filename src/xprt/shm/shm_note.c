/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notes: what the socket of a lane carries beside its preface. All are of one size, and received
 * one at a time, so that a descriptor belongs to the note it came with.
 *
 * Failure. A note that does not exist or does not belong here, a descriptor too many or too few:
 * the lane is broken with one log line, and no descriptor is kept. The end of the stream: what is
 * in the ring is read, then the lane ends. No room for a bell: it is not needed, what waits there
 * wakes as well.
 */
#include "shm.h"

#define NOTES_MAX 64 /* in one go */
#define IO_MS_MAX (10 * 60 * 1000)

/* --- sending --- */

int shm_note_send(struct shm_lane *lane, const struct shm_note *note, int fd)
{
	struct env *env = lane->lane.env;
	struct iovec iov = { (void *)(uintptr_t)note, sizeof(*note) };
	ssize_t sent;

	if (lane->sock == NULL)
		return -ERR_PEER;
	if (fd >= 0)
		sent = env->ops->sock_send_fds(env, lane->sock, &iov, 1, &fd, 1);
	else
		sent = env->ops->sock_send(env, lane->sock, &iov, 1);
	if (sent < 0)
		return (int)sent;               /* a hang-up is heard of by the event */
	ASSERT(sent == (ssize_t)sizeof(*note)); /* so few bytes go whole or not at all */
	return 0;
}

void shm_ring_bell(struct shm_lane *lane)
{
	const struct shm_note bell = { .kind = SHM_NOTE_BELL };

	(void)shm_note_send(lane, &bell, -1);
}

/* --- receiving --- */

/* The peer writes nothing any more; what it has written is still read. */
static void lane_ended(struct shm_lane *lane)
{
	lane->is_ended = true;
	if (lane->state == SHM_OPEN && lane->memory != NULL)
		shm_lane_wake(lane);
	else
		shm_lane_break(lane, -ERR_PEER);
}

/* A client's: what the server says of itself. False: not that. */
static bool note_of_server(struct shm_lane *lane, const struct shm_note *note)
{
	struct shm_client *client = lane->client;

	switch (note->kind) {
	case SHM_NOTE_SERVER:
		if (lane->in_fd < 0 || client->process_fd >= 0)
			return false;
		client->process_fd = lane->in_fd;
		lane->in_fd = -1;
		return true;
	case SHM_NOTE_DIRECT:
		client->io_ms = MIN(note->value, IO_MS_MAX);
		return true;
	case SHM_NOTE_END:
		client->has_end = true;
		lane_ended(lane);
		shm_fence_look(lane);
		return true;
	default:
		return false;
	}
}

static bool note_of_client(struct shm_lane *lane, const struct shm_note *note)
{
	switch (note->kind) {
	case SHM_NOTE_REGION:
		if (lane->in_fd < 0 || lane->lane.group == NULL)
			return false;
		shm_region_noted(lane, note, lane->in_fd);
		if (!shm_lane_fd_close(lane))
			shm_lane_fault(lane, "passed what is no memory as a region");
		return true;
	case SHM_NOTE_END:
		lane_ended(lane);
		return true;
	default:
		return false;
	}
}

static void note_take(struct shm_lane *lane)
{
	const struct shm_note note = lane->in.note;
	bool is_good = true;

	if (lane->state == SHM_PREFACE) {
		shm_lane_accepted(lane);
		return;
	}
	shm_lane_wake(lane); /* whatever it says: a bell may have found no room behind it */
	if (note.kind != SHM_NOTE_BELL)
		is_good = lane->client != NULL ? note_of_server(lane, &note)
					       : note_of_client(lane, &note);
	if (!is_good)
		shm_lane_fault(lane, "sent a note that does not belong here");
	else if (lane->in_fd >= 0)
		shm_lane_fault(lane, "passed a descriptor that belongs to nothing");
}

/* The descriptors that came with some bytes: one for each note at most. */
static bool fds_take(struct shm_lane *lane, const int *fds, uint32_t count)
{
	if (count == 0)
		return true;
	if (count == 1 && lane->in_fd < 0 && lane->state != SHM_REFUSED) {
		lane->in_fd = fds[0];
		return true;
	}
	for (uint32_t i = 0; i < count; i++)
		(void)lane->lane.env->ops->fd_close(lane->lane.env, fds[i]);
	return false;
}

/* False: no more for now. */
static bool note_receive(struct shm_lane *lane)
{
	struct env *env = lane->lane.env;
	uint32_t size =
		lane->state == SHM_PREFACE ? sizeof(lane->in.preface) : sizeof(lane->in.note);
	struct iovec iov = { lane->in.bytes + lane->in_size, size - lane->in_size };
	int fds[ENV_FDS_MAX];
	uint32_t count = 0;
	ssize_t got = env->ops->sock_recv_fds(env, lane->sock, &iov, 1, fds, &count);

	if (got == -EAGAIN)
		return false;
	if (got <= 0) {
		if (got == -EMFILE)
			lane->fault = "passed more descriptors than there is room for";
		shm_lane_shut(lane);
		lane_ended(lane);
		shm_fence_look(lane);
		return false;
	}
	if (!fds_take(lane, fds, count)) {
		shm_lane_fault(lane, "passed a descriptor that belongs to nothing");
		return false;
	}
	lane->in_size += (uint32_t)got;
	if (lane->in_size < size)
		return true;
	lane->in_size = 0;
	if (lane->state != SHM_REFUSED)
		note_take(lane);
	return true;
}

void shm_notes_receive(struct shm_lane *lane)
{
	for (uint32_t i = 0; i < NOTES_MAX; i++) {
		if (lane->sock == NULL || (lane->broken != 0 && lane->state != SHM_ENDING) ||
		    !note_receive(lane))
			return;
	}
}
