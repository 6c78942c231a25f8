/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Submit, poll, wait, run, cancel, in the user's thread.
 *
 * Every op in flight has a slot in the table; a slot is taken at submit and given back when the
 * op's RELEASE is handed out. So there are at most inflight_max ops, twice as many events, and one
 * cancel an op (noted in its reserved[1]): the rings are sized for that and are never full.
 */
#include <poll.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "../env/posix/posix.h"
#include "face.h"

#define EVENT_BOTH    (CTXKV_RESULT | CTXKV_RELEASE)
#define WAIT_TICK_NS  NS_PER_S
#define SPIN_MIN_NS   (2 * NS_PER_US)  /* not worth it */
#define SPIN_LATE_NS  (10 * NS_PER_US) /* of a yield: about 0.5 us are usual */

#define OP_SLOT(op)   ((op)->reserved[0]) /* slot + 1; 0: not in flight */
#define OP_CANCEL(op) ((op)->reserved[1]) /* 1: ctxkv_cancel() was called */

/* --- fork --- */

static _Atomic uint32_t fork_generation; /* raised in a child, before it has threads */

static void fork_child(void)
{
	atomic_fetch_add_explicit(&fork_generation, 1, memory_order_relaxed);
}

static void fork_register(void)
{
	pthread_atfork(NULL, NULL, fork_child);
}

void face_fork_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, fork_register);
}

uint32_t face_fork_generation(void)
{
	return atomic_load_explicit(&fork_generation, memory_order_relaxed);
}

/* --- slots --- */

static void slot_take(struct ctxkv_client *face, struct ctxkv_op *op)
{
	uint32_t slot;

	ASSERT(face->free_count > 0);
	slot = face->free_slots[--face->free_count];
	face->table[slot] = op;
	OP_SLOT(op) = slot + 1;
}

/* The op is the caller's memory: what stands in it is believed only as far as the table agrees. */
static void slot_give(struct ctxkv_client *face, struct ctxkv_op *op)
{
	uint32_t slot = (uint32_t)OP_SLOT(op) - 1;

	if (slot >= face->inflight_max || face->table[slot] != op) {
		for (slot = 0; slot < face->inflight_max && face->table[slot] != op;)
			slot++;
	}
	if (slot == face->inflight_max)
		return;
	face->table[slot] = NULL;
	face->free_slots[face->free_count++] = slot;
	OP_SLOT(op) = 0;
	OP_CANCEL(op) = 0;
}

/* --- the broken client --- */

/* What it has not been told yet, as misses. */
static void op_break(struct ctxkv_client *face, struct ctxkv_op *op)
{
	struct ctxkv_event event = { .op = op, .what = EVENT_BOTH & ~op->state };
	bool has_items = op->items != NULL && op->item_count <= CTXKV_ITEM_MAX;

	if (event.what == 0)
		return;
	for (uint64_t i = 0; has_items && i < op->item_count; i++) {
		memset(op->items[i].reserved, 0, sizeof(op->items[i].reserved));
		if ((event.what & CTXKV_RESULT) != 0)
			op->items[i].status = -ERR_BROKEN;
	}
	if ((event.what & CTXKV_RESULT) != 0)
		op->status = -ERR_BROKEN;
	op->state = EVENT_BOTH;
	ring_push(&face->kept, &event);
}

void face_bury(struct ctxkv_client *face)
{
	const struct timespec hang_up = { .tv_sec = 1 };
	struct ctxkv_event event;

	if (face->is_buried)
		return;
	face->is_buried = true;
	loan_wake(&face->loan);
	if (face->has_thread && !face->is_joined)
		pthread_join(face->thread, NULL);
	/* Sockets first; should that break as well, they stay open, but nobody reads them. A server
	 * that reaches memory by itself sees the end of the session, and stops. */
	if (face_env_destroy(face) < 0)
		face->env = NULL;
	if (atomic_load(&face->is_reached) && face->free_count < face->inflight_max)
		nanosleep(&hang_up, NULL);
	while (ring_take(&face->events, &event))
		ring_push(&face->kept, &event);
	for (uint32_t slot = 0; slot < face->inflight_max; slot++) {
		if (face->table[slot] != NULL)
			op_break(face, face->table[slot]);
	}
	face_notify(face);
}

int face_check(const struct ctxkv_client *client)
{
	struct ctxkv_client *face = (struct ctxkv_client *)client;

	if (face == NULL || face->magic != FACE_MAGIC)
		return -EINVAL;
	if (face->fork_generation != face_fork_generation())
		return -ERR_FORKED;
	if (atomic_load(&face->is_broken))
		face_bury(face);
	return 0;
}

/* --- submit and cancel --- */

static bool is_fresh(const struct ctxkv_op *op)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_LEN(op->reserved); i++)
		sum |= op->reserved[i];
	return sum == 0;
}

int ctxkv_submit(struct ctxkv_client *client, struct ctxkv_op *const *ops, size_t count)
{
	size_t taken = 0;
	int rc = face_check(client);

	if (rc < 0)
		return rc;
	count = MIN(count, (size_t)INT32_MAX);
	while (taken < count && client->free_count > 0) {
		struct ctxkv_op *op = ops[taken];

		if (op == NULL || !is_fresh(op)) {
			rc = -EINVAL;
			break;
		}
		op->state = 0;
		slot_take(client, op);
		if (client->is_buried)
			op_break(client, op);
		else
			face_call(client, (struct call) { .kind = CALL_SUBMIT, .op = op });
		if (!client->has_thread && atomic_load(&client->is_broken))
			face_bury(client);
		taken++;
	}
	if (client->is_buried)
		face_notify(client);
	else if (taken > 0) {
		loan_note_submit(&client->loan);
		face_wake(client);
	}
	return taken > 0 ? (int)taken : rc;
}

void ctxkv_cancel(struct ctxkv_client *client, struct ctxkv_op *op)
{
	if (face_check(client) < 0 || client->is_buried || OP_SLOT(op) == 0 || OP_CANCEL(op) != 0)
		return;
	OP_CANCEL(op) = 1;
	loan_return(&client->loan);
	face_call(client, (struct call) { .kind = CALL_CANCEL, .op = op });
	face_wake(client);
}

/* --- poll --- */

static bool event_take(struct ctxkv_client *face, struct ctxkv_event *event)
{
	if (!ring_take(&face->kept, event) && !ring_take(&face->events, event))
		return false;
	if ((event->what & CTXKV_RELEASE) != 0)
		slot_give(face, event->op);
	return true;
}

/* Caller-driven: let the core work. */
static void face_look(struct ctxkv_client *face)
{
	if (face->has_thread || face->is_buried)
		return;
	face_run_once(face, 0);
	if (atomic_load(&face->is_broken))
		face_bury(face);
}

static int take_events(struct ctxkv_client *face, struct ctxkv_event *events, int count)
{
	int taken = 0;

	while (taken < count && event_take(face, &events[taken]))
		taken++;
	if (taken == count)
		return taken; /* perhaps there are more: the descriptor stays readable */
	face_notify_clear(face);
	while (taken < count && event_take(face, &events[taken]))
		taken++;
	if (!ring_is_empty(&face->events))
		face_notify(face);
	return taken;
}

int ctxkv_poll(struct ctxkv_client *client, struct ctxkv_event *events_out, size_t count)
{
	int rc = face_check(client);

	if (rc < 0)
		return rc;
	face_look(client);
	return take_events(client, events_out, (int)MIN(count, (size_t)INT32_MAX));
}

int ctxkv_event_fd(const struct ctxkv_client *client)
{
	struct ctxkv_client *face = (struct ctxkv_client *)client;
	int rc = face_check(client);

	if (rc < 0)
		return rc;
	if (!face->has_thread && !face->is_buried)
		return env_posix_fd(face->env);
	face->is_fd_given = true;
	if (!ring_is_empty(&face->events))
		face_notify(face);
	return face->event_fd;
}

uint64_t ctxkv_timeout_ns(const struct ctxkv_client *client)
{
	if (face_check(client) < 0 || client->has_thread)
		return ENV_FOREVER;
	if (client->is_buried || !ring_is_empty(&client->kept))
		return 0;
	return env_posix_timeout_ns(client->env);
}

/* --- wait --- */

static uint64_t wait_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec) { (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) };
}

static void nap(uint64_t ns)
{
	const struct timespec time = timespec_of(ns);

	(void)nanosleep(&time, NULL); /* cut short: the wait goes on */
}

/*
 * What comes soon is seen soon: sleeping and being woken costs more than looking for a while. The
 * window is halved when looking was in vain, down to nothing, and whole again when something comes
 * so soon after falling asleep that looking would have seen it. A sched_yield() that returns late
 * says that others want the core.
 */
static bool spin(struct ctxkv_client *face, uint64_t begin_ns, uint64_t timeout_ns)
{
	uint64_t end_ns = begin_ns + MIN(face->spin_ns, timeout_ns);
	uint64_t yielded_ns = begin_ns;
	uint64_t now_ns = begin_ns;

	while (now_ns < end_ns && now_ns - yielded_ns < SPIN_LATE_NS) {
		if (!ring_is_empty(&face->events) || loan_is_open(&face->loan))
			return true;
		yielded_ns = now_ns;
		sched_yield();
		now_ns = wait_now_ns();
	}
	face->spin_ns = face->spin_ns / 2 < SPIN_MIN_NS ? 0 : face->spin_ns / 2;
	return !ring_is_empty(&face->events) || loan_is_open(&face->loan);
}

/* What the descriptor told of is taken, or was no event: left readable, it would end every sleep at
 * once. False: there is something new. */
static bool is_quiet(struct ctxkv_client *face)
{
	face_notify_clear(face);
	if (!ring_is_empty(&face->events))
		face_notify(face);
	return ring_is_empty(&face->events) && !loan_is_open(&face->loan) &&
	       !atomic_load(&face->is_broken);
}

static void wait_for_thread(struct ctxkv_client *face, uint64_t timeout_ns)
{
	struct pollfd pollfd = { .fd = face->event_fd, .events = POLLIN };
	const struct timespec timeout = timespec_of(timeout_ns);
	uint64_t begin_ns = wait_now_ns();

	if (loan_ask(&face->loan))
		face_wake(face);
	if (spin(face, begin_ns, timeout_ns) || !is_quiet(face))
		return;
	begin_ns = wait_now_ns();
	if (ppoll(&pollfd, 1, &timeout, NULL) > 0 && wait_now_ns() - begin_ns < SPIN_MAX_NS)
		face->spin_ns = SPIN_MAX_NS;
}

/* Until there may be events. The core sees to it that every op ends. */
static void face_wait(struct ctxkv_client *face, uint64_t timeout_ns)
{
	timeout_ns = MIN(timeout_ns, WAIT_TICK_NS); /* to see whether it has broken */
	if (!ring_is_empty(&face->events))
		return;
	if (face->is_buried)
		nap(timeout_ns); /* all events that there will be are kept */
	else if (!face->has_thread)
		face_run_once(face, timeout_ns);
	else if (loan_use(&face->loan))
		face_work(face, timeout_ns);
	else
		wait_for_thread(face, timeout_ns);
	if (atomic_load(&face->is_broken))
		face_bury(face);
}

static bool has_events(const struct ctxkv_client *face)
{
	return !ring_is_empty(&face->kept) || !ring_is_empty(&face->events);
}

static bool is_busy(const struct ctxkv_client *face)
{
	return face->free_count < face->inflight_max;
}

int ctxkv_wait(struct ctxkv_client *client, uint64_t timeout_ns)
{
	uint64_t begin_ns = wait_now_ns();
	uint64_t passed_ns = 0;
	int rc = face_check(client);
	int cancel;

	if (rc < 0)
		return rc;
	cancel = face_cancel_off();
	loan_note_begin(&client->loan, begin_ns);
	while (!has_events(client) && passed_ns < timeout_ns) {
		face_wait(client, timeout_ns - passed_ns);
		passed_ns = wait_now_ns() - begin_ns;
	}
	loan_note_end(&client->loan, begin_ns + passed_ns, is_busy(client));
	face_cancel_as(cancel);
	return has_events(client);
}

/* --- run --- */

/* One pass over what has come. True: op is released. The others' events go back in order. */
static bool run_pass(struct ctxkv_client *face, const struct ctxkv_op *op)
{
	uint32_t kept_count = ring_count(&face->kept);
	struct ctxkv_event event;
	bool is_released = false;

	for (; kept_count > 0 && ring_take(&face->kept, &event); kept_count--) {
		if (event.op != op)
			ring_push(&face->kept, &event);
		else if ((event.what & CTXKV_RELEASE) != 0)
			is_released = true;
	}
	face_notify_clear(face);
	while (ring_take(&face->events, &event)) {
		if (event.op != op)
			ring_push(&face->kept, &event);
		else if ((event.what & CTXKV_RELEASE) != 0)
			is_released = true;
	}
	return is_released;
}

static int run(struct ctxkv_client *client, struct ctxkv_op *op)
{
	int rc = face_check(client);

	if (rc < 0)
		return rc;
	loan_note_begin(&client->loan, wait_now_ns());
	rc = ctxkv_submit(client, &op, 1);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return -EAGAIN;
	while (!run_pass(client, op))
		face_wait(client, WAIT_TICK_NS);
	slot_give(client, op);
	loan_note_end(&client->loan, wait_now_ns(), is_busy(client));
	if (client->has_thread && !ring_is_empty(&client->kept))
		face_notify(client);
	return op->status;
}

int ctxkv_run(struct ctxkv_client *client, struct ctxkv_op *op)
{
	int cancel = face_cancel_off();
	int rc = run(client, op);

	face_cancel_as(cancel);
	return rc;
}
