/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The progress thread: takes calls from the ring, lets the core work, sleeps in env->poll(). While
 * the core is on loan (loan.h) the user's thread does the same in its waits: face_work().
 *
 * Waking it. The user's thread pushes a call and then looks at is_sleeping; the progress thread
 * sets is_sleeping and then looks at the ring. Between the two steps of each stands a full fence,
 * so that at least one of them sees the other: a call is never left lying.
 *
 * Waking the user. face_event() pushes and, when is_notified was not set, writes the event
 * descriptor. The user reads the descriptor, clears is_notified, and looks at the ring once more
 * (events.c): whoever pushes later finds it clear and writes again.
 */
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../base/log.h"
#include "../env/posix/posix.h"
#include "face.h"
#include "tick.h"

#define SYNC_TICK_NS                                                                               \
	(50 * NS_PER_MS) /* how often a waiting call looks whether the client broke                \
			  */

/* --- to the user --- */

void face_notify(struct ctxkv_client *face)
{
	const uint64_t one = 1;

	if (atomic_exchange(&face->is_notified, true))
		return;
	/* It cannot be full: the user reads it before the flag is clear again. */
	if (write(face->event_fd, &one, sizeof(one)) != sizeof(one))
		ASSERT(errno == EINTR || errno == EAGAIN);
}

void face_notify_clear(struct ctxkv_client *face)
{
	uint64_t count;

	if (!atomic_load(&face->is_notified))
		return;
	/* Set but not readable: face_notify() is between its two steps. The flag stays, so that
	 * what it is about to write is read next time, and not left lying for ever. */
	if (read(face->event_fd, &count, sizeof(count)) < 0) {
		ASSERT(errno == EINTR || errno == EAGAIN);
		return;
	}
	atomic_store(&face->is_notified, false);
}

void face_event(void *ctx, struct ctxkv_op *op, uint32_t what)
{
	struct ctxkv_client *face = ctx;
	struct ctxkv_event event = { .op = op, .what = what };

	CHECK_OBJ(face, FACE_MAGIC);
	if (!face->has_thread) {
		ring_push(&face->kept, &event);
		return;
	}
	ring_push(&face->events, &event);
	/* He sees it himself, in the call that he is in. */
	if (!face->is_working || face->is_fd_given)
		face_notify(face);
}

/* --- calls, in the core's thread --- */

static void sync_end(struct sync *sync, int rc)
{
	sync->rc = rc;
	if (sync->has_thread)
		sem_post(&sync->done);
	else
		sync->is_done = true;
}

static void server_stat_done(struct client_text *text, int rc, const char *bytes, uint32_t size)
{
	struct sync *sync = CONTAINER_OF(text, struct sync, server_stat.text);
	size_t room = sync->server_stat.buf_size;

	if (rc == 0 && room > 0) {
		size_t part = MIN((size_t)size, room - 1);

		memcpy(sync->server_stat.buf, bytes, part);
		sync->server_stat.buf[part] = '\0';
	}
	sync_end(sync, rc < 0 ? rc : (int)size);
}

static void sync_begin(struct ctxkv_client *face, struct sync *sync)
{
	switch (sync->kind) {
	case SYNC_STAT:
		client_get_stat(face->core, &sync->stat);
		sync->is_settled = client_is_settled(face->core);
		sync_end(sync, 0);
		break;
	case SYNC_SERVERS:
		sync_end(sync, (int)client_get_servers(face->core, sync->servers.rows,
						       sync->servers.size, sync->servers.count));
		break;
	case SYNC_SERVER_STAT:
		sync->server_stat.text.done = server_stat_done;
		client_server_stat(face->core, &sync->server_stat.text);
		break;
	case SYNC_DECLARE:
		sync_end(sync,
			 client_region_declare(face->core, sync->region.base, sync->region.size,
					       sync->region.page_size, &sync->region.region));
		break;
	case SYNC_ABANDON:
		client_region_abandon(face->core, &sync->region.region);
		sync_end(sync, 0);
		break;
	case SYNC_FIND:
		sync->region.region =
			client_region_find(face->core, sync->region.base, sync->region.size);
		sync_end(sync, 0);
		break;
	case SYNC_UNDECLARE:
		sync_end(sync, client_region_undeclare(face->core, &sync->region.region));
		break;
	}
}

/* False: stop. */
static bool call_begin(struct ctxkv_client *face, const struct call *call)
{
	int rc;

	switch (call->kind) {
	case CALL_SUBMIT:
		rc = client_submit(face->core, call->op);
		ASSERT(rc == 0); /* inflight_max is the core's, too */
		return true;
	case CALL_CANCEL:
		client_cancel(face->core, call->op);
		return true;
	case CALL_CONNECT:
		client_connect(face->core);
		return true;
	case CALL_SYNC:
		sync_begin(face, call->sync);
		return true;
	case CALL_STOP:
		return false;
	}
	ASSERT(false);
	return false;
}

/* --- the thread --- */

void face_poll_env(struct ctxkv_client *face, uint64_t timeout_ns)
{
	int rc = face->env->ops->poll(face->env, timeout_ns);

	ASSERT(rc == 0); /* epoll itself has failed: there is no going on */
}

/* False: stop. */
static bool calls_begin(struct ctxkv_client *face)
{
	struct call call;

	while (ring_take(&face->calls, &call)) {
		if (!call_begin(face, &call))
			return false;
	}
	return true;
}

static bool has_calls(const struct ctxkv_client *face)
{
	return !ring_is_empty(&face->calls) || loan_is_asked(&face->loan);
}

static void thread_body(void *ctx)
{
	struct ctxkv_client *face = ctx;

	while (!atomic_load(&face->is_broken)) {
		if (!calls_begin(face)) {
			face_close_core(face);
			return;
		}
		if (loan_give(&face->loan)) {
			face_notify(face);
			loan_sleep(&face->loan, &face->is_broken);
			continue;
		}
		atomic_store(&face->is_sleeping, true);
		atomic_thread_fence(memory_order_seq_cst); /* partner: face_wake() */
		face_poll_env(face, has_calls(face) ? 0 : ENV_FOREVER);
		atomic_store(&face->is_sleeping, false);
	}
}

/* What is left of a core whose servers may still write is nobody's: it stays where it is. */
void face_close_core(struct ctxkv_client *face)
{
	struct env *env = face->env;
	uint64_t end_ns;

	client_end(face->core);
	end_ns = env_now_ns(env) + client_end_max_ns(face->core);
	while (!client_is_over(face->core) && env_now_ns(env) < end_ns)
		face_poll_env(face, end_ns - MIN(end_ns, env_now_ns(env)));
	if (client_is_over(face->core)) {
		client_destroy(&face->core);
		return;
	}
	face->is_left = true;
	if (client_is_holding(face->core))
		log_error("closed although a server that does not answer may still write into "
			  "buffers of ops: do not use them again before it has ended");
}

static void *thread_main(void *ctx)
{
	struct ctxkv_client *face = ctx;

	if (panic_guard(&face->log, thread_body, face) < 0) {
		atomic_store(&face->is_broken, true);
		face_notify(face);
	}
	return NULL;
}

int face_thread_start(struct ctxkv_client *face)
{
	sigset_t all;
	sigset_t before;
	int rc;

	/* The engine's signals are not for our thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&face->thread, NULL, thread_main, face);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		return -rc;
	(void)pthread_setname_np(face->thread, "ctxkv"); /* only for whoever looks at a list */
	return 0;
}

/* --- from the user's thread --- */

void face_run(struct ctxkv_client *face, void (*body)(void *ctx), void *ctx)
{
	int cancel = face_cancel_off();

	if (panic_guard(&face->log, body, ctx) < 0)
		atomic_store(&face->is_broken, true);
	face_cancel_as(cancel);
}

static void env_destroy_body(void *ctx)
{
	struct ctxkv_client *face = ctx;

	env_posix_destroy(&face->env);
}

int face_env_destroy(struct ctxkv_client *face)
{
	return panic_guard(&face->log, env_destroy_body, face);
}

struct direct_call {
	struct ctxkv_client *face;
	struct call call;
};

static void direct_body(void *ctx)
{
	struct direct_call *direct = ctx;

	(void)call_begin(direct->face, &direct->call); /* CALL_STOP does not come here */
}

void face_call(struct ctxkv_client *face, struct call call)
{
	struct direct_call direct = { .face = face, .call = call };

	if (face->has_thread)
		ring_push(&face->calls, &call);
	else if (!atomic_load(&face->is_broken))
		face_run(face, direct_body, &direct);
}

void face_wake(struct ctxkv_client *face)
{
	if (!face->has_thread)
		return;
	atomic_thread_fence(memory_order_seq_cst); /* partner: thread_body() */
	if (atomic_load(&face->is_sleeping))
		face->env->ops->wake(face->env);
}

struct turn {
	struct ctxkv_client *face;
	uint64_t timeout_ns;
};

static void turn_body(void *ctx)
{
	struct turn *turn = ctx;

	face_poll_env(turn->face, turn->timeout_ns);
}

void face_run_once(struct ctxkv_client *face, uint64_t timeout_ns)
{
	struct turn turn = { .face = face, .timeout_ns = timeout_ns };

	if (!atomic_load(&face->is_broken))
		face_run(face, turn_body, &turn);
}

/* CALL_STOP is pushed by a user who has returned the core. */
static void work_body(void *ctx)
{
	struct turn *turn = ctx;
	struct ctxkv_client *face = turn->face;
	uint64_t end_ns = env_now_ns(face->env) + turn->timeout_ns;
	uint64_t now_ns;

	do {
		bool is_going = calls_begin(face);

		ASSERT(is_going);
		now_ns = env_now_ns(face->env);
		if (ring_is_empty(&face->events))
			face_poll_env(face, end_ns - MIN(now_ns, end_ns));
	} while (ring_is_empty(&face->events) && now_ns < end_ns);
}

void face_work(struct ctxkv_client *face, uint64_t timeout_ns)
{
	struct turn turn = { .face = face, .timeout_ns = timeout_ns };

	face->is_working = true;
	face_run(face, work_body, &turn);
	face->is_working = false;
}

static bool sync_wait(struct ctxkv_client *face, struct sync *sync)
{
	if (!face->has_thread) {
		if (!sync->is_done)
			face_run_once(face, SYNC_TICK_NS);
		return sync->is_done;
	}
	return tick_wait(&sync->done, SYNC_TICK_NS);
}

int face_sync(struct ctxkv_client *face, struct sync *sync)
{
	int rc = -ERR_BROKEN;
	int cancel;

	sync->has_thread = face->has_thread;
	loan_return(&face->loan);
	if (sem_init(&sync->done, 0, 0) < 0)
		return -errno;
	cancel = face_cancel_off();
	face_call(face, (struct call) { .kind = CALL_SYNC, .sync = sync });
	face_wake(face);
	for (;;) {
		if (sync_wait(face, sync)) {
			rc = sync->rc;
			break;
		}
		if (atomic_load(&face->is_broken)) {
			face_bury(face); /* then nobody writes to sync any more */
			break;
		}
	}
	face_cancel_as(cancel);
	sem_destroy(&sync->done);
	return rc;
}
