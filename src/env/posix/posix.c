/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One turn of poll(): wait for descriptors until the first timer at most, run what is ready, look
 * at pollers (pollers.c), then timers that are due, then deferred tasks. What timers and tasks set
 * or defer for at once waits for the next turn, which then does not wait for events: nobody can
 * keep the loop from its sockets.
 *
 * A callback may close any socket, also one whose event stands later in the same batch: closing
 * scrubs it from the batch. epoll_pwait2 gives nanoseconds; where a container's profile or an old
 * kernel lacks it, milliseconds, rounded up, do.
 *
 * After fork the child's env is dead: only destroy may be called, which closes descriptors and
 * frees memory, and leaves the parent's threads and epoll set alone.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "../../base/log.h"
#include "huge.h"
#include "posix_priv.h"

#define ALLOC_ALIGN 64

/* --- memory, clock, chance --- */

static void *posix_alloc(struct env *env, size_t size)
{
	void *ptr = NULL;

	ASSERT(!posix_of(env)->is_sealed);
	if (posix_memalign(&ptr, ALLOC_ALIGN, MAX(size, 1)) != 0)
		return NULL;
	return memset(ptr, 0, size);
}

static void posix_free(struct env *env, void *ptr)
{
	(void)env;
	free(ptr);
}

static void *map_with(size_t size, int flags)
{
	void *ptr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags,
			 -1, 0);

	return ptr != MAP_FAILED ? ptr : NULL;
}

/* unmap must know the same size for either kind of page. */
static size_t map_size(const struct posix *posix, size_t size)
{
	return round_up(size, posix->has_huge_pages ? HUGE_PAGE_SIZE : PAGE_SIZE);
}

static void *posix_map(struct env *env, size_t size)
{
	struct posix *posix = posix_of(env);
	size_t whole = map_size(posix, size);
	void *ptr = NULL;

	ASSERT(!posix->is_sealed);
	if (posix->has_huge_pages)
		ptr = map_with(whole, MAP_HUGETLB | MAP_POPULATE);
	if (ptr != NULL)
		return ptr;
	ptr = map_with(whole, 0);
	if (ptr == NULL)
		return NULL;
	/* Advice first, so that it is huge pages that are touched; a kernel without gives small. */
	if (posix->has_huge_pages)
		(void)madvise(ptr, whole, MADV_HUGEPAGE);
	for (size_t at = 0; at < whole; at += PAGE_SIZE)
		((volatile char *)ptr)[at] = 0;
	return ptr;
}

static void posix_unmap(struct env *env, void *ptr, size_t size)
{
	if (ptr != NULL)
		munmap(ptr, map_size(posix_of(env), size));
}

static void posix_seal(struct env *env)
{
	posix_of(env)->is_sealed = true;
}

static uint64_t posix_now_ns(struct env *env)
{
	struct timespec now;

	(void)env;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t posix_wall_s(struct env *env)
{
	struct timespec now;

	(void)env;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec;
}

static void posix_random(struct env *env, void *bytes, size_t size)
{
	char *at = bytes;

	(void)env;
	while (size > 0) {
		ssize_t got = getrandom(at, size, 0);

		if (got < 0) {
			ASSERT(errno == EINTR); /* the kernel's generator has no other failure */
			continue;
		}
		at += got;
		size -= (size_t)got;
	}
}

/* --- epoll --- */

int posix_epoll_set(struct posix *posix, int op, int fd, uint32_t epoll_events,
		    struct posix_source *source)
{
	struct epoll_event event = { .events = epoll_events, .data.ptr = source };

	return epoll_ctl(posix->epoll_fd, op, fd, &event) < 0 ? -errno : 0;
}

void posix_epoll_remove(struct posix *posix, int fd, struct posix_source *source)
{
	if (posix->pid == getpid()) /* a child shares the parent's epoll set */
		(void)epoll_ctl(posix->epoll_fd, EPOLL_CTL_DEL, fd, NULL); /* may not be in it */
	for (uint32_t i = 0; i < posix->batch_count; i++) {
		if (posix->batch[i] == source)
			posix->batch[i] = NULL;
	}
}

static int wait_events(struct posix *posix, struct epoll_event *events, uint64_t timeout_ns)
{
	struct timespec ts = { (time_t)(timeout_ns / NS_PER_S), (long)(timeout_ns % NS_PER_S) };
	uint64_t timeout_ms;
	int count;

	if (!posix->is_pwait2_missing) {
		count = epoll_pwait2(posix->epoll_fd, events, EPOLL_EVENTS_MAX,
				     timeout_ns == ENV_FOREVER ? NULL : &ts, NULL);
		if (count >= 0 || (errno != ENOSYS && errno != EPERM))
			return count;
		posix->is_pwait2_missing = true;
	}
	timeout_ms =
		MIN(timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS != 0), (uint64_t)INT32_MAX);
	return epoll_wait(posix->epoll_fd, events, EPOLL_EVENTS_MAX,
			  timeout_ns == ENV_FOREVER ? -1 : (int)timeout_ms);
}

static int run_events(struct posix *posix, uint64_t timeout_ns)
{
	struct epoll_event events[EPOLL_EVENTS_MAX];
	int count = wait_events(posix, events, timeout_ns);

	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	posix->batch_count = (uint32_t)count;
	for (int i = 0; i < count; i++)
		posix->batch[i] = events[i].data.ptr;
	for (int i = 0; i < count; i++) {
		if (posix->batch[i] != NULL)
			posix->batch[i]->ready(posix->batch[i], events[i].events);
	}
	posix->batch_count = 0;
	return count;
}

static void event_ready(struct posix_source *source, uint32_t epoll_events)
{
	struct posix *posix = CONTAINER_OF(source, struct posix, event_source);
	uint64_t count;

	(void)epoll_events;
	/* Empty when another wake-up took it: then there is nothing to do but look. */
	if (read(posix->event_fd, &count, sizeof(count)) < 0)
		ASSERT(errno == EAGAIN);
	pool_collect(posix);
	if (atomic_exchange_explicit(&posix->is_woken, false, memory_order_acquire) &&
	    posix->wake_task != NULL)
		posix->wake_task->run(posix->wake_task);
}

void posix_event_signal(struct posix *posix)
{
	const uint64_t one = 1;

	/* Full (2^64 - 2) cannot be reached: reading resets it. */
	if (write(posix->event_fd, &one, sizeof(one)) < 0)
		ASSERT(errno == EAGAIN);
}

/* --- loop --- */

static void run_timers(struct posix *posix)
{
	struct env_timer *timer;
	uint64_t now;

	if (timers_next_ns(&posix->timers) == ENV_FOREVER)
		return;
	/* In a turn that did not wait the time of its beginning will do. */
	now = posix->spin.turn_ns != 0 ? posix->spin.turn_ns : posix_now_ns(&posix->env);

	posix->timers_ns = now;
	while ((timer = timers_take_due(&posix->timers, now)) != NULL)
		timer->fire(timer);
	posix->timers_ns = 0;
}

static void run_tasks(struct posix *posix)
{
	struct list batch;
	struct env_task *task;

	list_init(&batch);
	list_splice_tail(&batch, &posix->tasks);
	while ((task = list_head(&batch, struct env_task, node)) != NULL) {
		list_del(&task->node);
		task->is_queued = false;
		task->run(task);
	}
}

/* Until there is something to do that does not come from outside. */
static uint64_t next_ns(struct posix *posix)
{
	uint64_t next;
	uint64_t now;

	if (!list_is_empty(&posix->tasks))
		return 0;
	next = timers_next_ns(&posix->timers);
	if (next == ENV_FOREVER)
		return ENV_FOREVER;
	now = posix_now_ns(&posix->env);
	return next > now ? next - now : 0;
}

int posix_poll(struct env *env, uint64_t timeout_ns)
{
	struct posix *posix = posix_of(env);
	int rc = 0;

	ASSERT(!posix->is_polling);
	posix->is_polling = true;
	timeout_ns = pollers_wait(posix, MIN(timeout_ns, next_ns(posix)));
	if (timeout_ns == POLLERS_ONE_SOCK)
		posix_sock_look(posix);
	else if (timeout_ns != POLLERS_GO_ON)
		rc = run_events(posix, timeout_ns);
	if (rc >= 0) {
		pollers_look(posix);
		if (posix->collect != NULL)
			posix->collect(posix);
		run_timers(posix);
		run_tasks(posix);
	}
	posix->is_polling = false;
	return MIN(rc, 0);
}

/* Also from a signal handler: an atomic, a write and errno as it was. */
static void posix_wake(struct env *env)
{
	struct posix *posix = posix_of(env);
	int saved = errno;

	if (!atomic_exchange_explicit(&posix->is_woken, true, memory_order_release))
		posix_event_signal(posix);
	errno = saved;
}

static void posix_on_wake(struct env *env, struct env_task *task)
{
	posix_of(env)->wake_task = task;
}

static void posix_timer_set(struct env *env, struct env_timer *timer, uint64_t when_ns)
{
	struct posix *posix = posix_of(env);

	/* A timer set by a timer is not due in the same turn. */
	timers_set(&posix->timers, timer,
		   posix->timers_ns != 0 ? MAX(when_ns, posix->timers_ns + 1) : when_ns);
}

static void posix_timer_clear(struct env *env, struct env_timer *timer)
{
	timers_clear(&posix_of(env)->timers, timer);
}

static void posix_defer(struct env *env, struct env_task *task)
{
	if (task->is_queued)
		return;
	task->is_queued = true;
	list_add_tail(&posix_of(env)->tasks, &task->node);
}

static void posix_undefer(struct env *env, struct env_task *task)
{
	(void)env;
	if (!task->is_queued)
		return;
	task->is_queued = false;
	list_del(&task->node);
}

static void posix_blk_submit(struct env *env, struct env_io *io)
{
	pool_submit(posix_of(env), io);
}

static void posix_blk_declare(struct env *env, void *base, size_t size)
{
	(void)env;
	ASSERT((uintptr_t)base % PAGE_SIZE == 0);
	ASSERT(size > 0);
}

static void posix_blk_undeclare(struct env *env, void *base)
{
	(void)env;
	ASSERT((uintptr_t)base % PAGE_SIZE == 0);
}

const struct env_ops posix_ops = {
	.name = "posix",
	.alloc = posix_alloc,
	.free = posix_free,
	.map = posix_map,
	.unmap = posix_unmap,
	.seal = posix_seal,
	.now_ns = posix_now_ns,
	.wall_s = posix_wall_s,
	.random = posix_random,
	.poll = posix_poll,
	.wake = posix_wake,
	.on_wake = posix_on_wake,
	.timer_set = posix_timer_set,
	.timer_clear = posix_timer_clear,
	.defer = posix_defer,
	.undefer = posix_undefer,
	.poller_add = posix_poller_add,
	.poller_remove = posix_poller_remove,
	.blk_open = posix_blk_open,
	.blk_close = posix_blk_close,
	.blk_info = posix_blk_info,
	.blk_resize = posix_blk_resize,
	.blk_read = posix_blk_read,
	.blk_write = posix_blk_write,
	.blk_flush = posix_blk_flush,
	.blk_submit = posix_blk_submit,
	.blk_declare = posix_blk_declare,
	.blk_undeclare = posix_blk_undeclare,
	.sock_listen = posix_sock_listen,
	.sock_accept = posix_sock_accept,
	.sock_connect = posix_sock_connect,
	.sock_watch = posix_sock_watch,
	.sock_recv = posix_sock_recv,
	.sock_want = posix_sock_want,
	.sock_send = posix_sock_send,
	.sock_close = posix_sock_close,
	.sock_name = posix_sock_name,
	.sock_adopt = posix_sock_adopt,
	.sock_detach = posix_sock_detach,
	.sock_send_fds = posix_sock_send_fds,
	.sock_recv_fds = posix_sock_recv_fds,
	.fd_close = posix_fd_close,
	.fd_waiting = posix_fd_waiting,
	.share_find = posix_share_find,
	.share_map = posix_share_map,
	.share_max = posix_share_max,
	.share_unmap = posix_share_unmap,
	.share_is_lost = posix_share_is_lost,
	.share_make = posix_share_make,
	.share_is_fixed = posix_share_is_fixed,
	.process_fd = posix_process_fd,
	.resolve = pool_resolve,
};

/* --- beginning and end --- */

int posix_init(struct posix *posix, const struct env_posix_opts *opts)
{
	int rc;

	posix->magic = POSIX_MAGIC;
	posix->env.ops = &posix_ops;
	posix->pid = getpid();
	posix->has_huge_pages = opts->has_huge_pages;
	posix->share_max = opts->share_max;
	posix->event_source.ready = event_ready;
	list_init(&posix->tasks);
	pollers_init(posix);
	posix_share_init(posix);

	posix->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (posix->epoll_fd < 0)
		return -errno;
	posix->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (posix->event_fd < 0) {
		rc = -errno;
		goto err_close_epoll;
	}
	rc = posix_epoll_set(posix, EPOLL_CTL_ADD, posix->event_fd, EPOLLIN, &posix->event_source);
	if (rc < 0)
		goto err_close_event;
	rc = posix_sock_init(posix, opts->sock_max);
	if (rc < 0)
		goto err_close_event;
	rc = pool_init(posix, opts->io_thread_count);
	if (rc < 0)
		goto err_sock_fini;
	posix->pool.has_cpus = opts->pool_cpus != NULL;
	if (opts->pool_cpus != NULL)
		posix->pool.cpus = *opts->pool_cpus;
	return 0;

err_sock_fini:
	posix_sock_fini(posix);
err_close_event:
	close(posix->event_fd);
err_close_epoll:
	close(posix->epoll_fd);
	return rc;
}

void posix_fini(struct posix *posix)
{
	pool_fini(posix);
	posix_sock_fini(posix);
	posix_share_fini(posix);
	close(posix->event_fd);
	close(posix->epoll_fd);
	posix->magic = 0;
}

int env_posix_create(const struct env_posix_opts *opts, struct env **env_out)
{
	struct posix *posix = calloc(1, sizeof(*posix));
	int rc;

	if (posix == NULL)
		return -ENOMEM;
	rc = posix_init(posix, opts);
	if (rc < 0) {
		free(posix);
		return rc;
	}
	*env_out = &posix->env;
	return 0;
}

void env_posix_destroy(struct env **env)
{
	struct posix *posix;

	if (*env == NULL)
		return;
	posix = posix_of(*env);
	ASSERT(posix->collect == NULL); /* else of a back end above */
	posix_fini(posix);
	free(posix);
	*env = NULL;
}

int env_posix_fd(struct env *env)
{
	return posix_of(env)->epoll_fd;
}

uint64_t env_posix_timeout_ns(struct env *env)
{
	struct posix *posix = posix_of(env);
	uint64_t timeout_ns = next_ns(posix);

	/* The caller is about to wait: for what only a poller sees, nobody else would wake him. */
	return timeout_ns == 0 || pollers_sleep(posix) ? timeout_ns : 0;
}

static void watch_ready(struct posix_source *source, uint32_t epoll_events)
{
	struct env_posix_watch *watch = CONTAINER_OF(source, struct env_posix_watch, source);

	(void)epoll_events;
	watch->ready(watch);
}

int env_posix_watch_add(struct env *env, struct env_posix_watch *watch)
{
	watch->source.ready = watch_ready;
	return posix_epoll_set(posix_of(env), EPOLL_CTL_ADD, watch->fd, EPOLLIN, &watch->source);
}

void env_posix_watch_remove(struct env *env, struct env_posix_watch *watch)
{
	posix_epoll_remove(posix_of(env), watch->fd, &watch->source);
}
