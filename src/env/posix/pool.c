/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that do what blocks: block I/O and name resolution. Work waits in lists under a lock; a
 * thread takes one, does it without the lock, and puts it on the list of what is done. The first on
 * that list signals the loop's eventfd; the loop takes the whole list at once. Threads begin as
 * work comes, up to the limit. I/O goes before resolution, which a server does not do and a client
 * does instead of I/O.
 *
 * Each medium has a list of its own, the media take turns, and as many threads as the limit says
 * are there for each: those that wait in one that is slow are nobody else's.
 *
 * A thread that cannot be made (a container's limit) is no loss while there are others; without
 * any, the work fails with -EAGAIN. Destroying the env waits for the I/O that threads are in, so
 * that nothing lands in memory that is freed afterwards; what no thread has taken is never done.
 *
 * It does not wait for a name server, who may take half a minute: a thread resolves from and into
 * memory of its own, and one that is in it when the env goes is left to itself. Its resolution is
 * never done.
 */
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "posix_priv.h"

struct pool_thread {
	pthread_t id;
	struct posix *posix; /* NULL: the env went while this thread resolved */
	bool is_resolving;   /* set under the pool's lock, cleared under left_lock */
};

/* Guards what a thread and the end of its env decide between them: posix, and the end of
 * is_resolving. Taken before a pool's lock, never behind it. */
static pthread_mutex_t left_lock = PTHREAD_MUTEX_INITIALIZER;

static void resolve_add(struct resolve_queue *queue, struct env_resolve *resolve)
{
	resolve->env_priv = NULL;
	if (queue->first == NULL)
		queue->first = resolve;
	else
		queue->last->env_priv = resolve;
	queue->last = resolve;
}

static struct env_resolve *resolve_take(struct resolve_queue *queue)
{
	struct env_resolve *resolve = queue->first;

	if (resolve != NULL)
		queue->first = resolve->env_priv;
	return resolve;
}

/*
 * The first IPv4 address when there is one: a name like localhost, or a dual-stacked host, has both
 * kinds, and the server's default address (0.0.0.0) listens on one.
 */
static int best_family(const struct addrinfo *found)
{
	for (const struct addrinfo *info = found; info != NULL; info = info->ai_next) {
		if (info->ai_family == AF_INET)
			return AF_INET;
	}
	return found->ai_family;
}

/* One more address, if it is not there already. */
static int resolve_address(struct env_resolve *resolve, const struct addrinfo *info)
{
	char *address = resolve->addresses[resolve->count];
	char host[NI_MAXHOST];
	int rc = getnameinfo(info->ai_addr, info->ai_addrlen, host, sizeof(host), NULL, 0,
			     NI_NUMERICHOST);

	if (rc != 0)
		return rc;
	snprintf(address, sizeof(resolve->addresses[0]),
		 info->ai_family == AF_INET6 ? "[%.54s]:%u" : "%.54s:%u", host,
		 (unsigned)resolve->port);
	for (uint32_t i = 0; i < resolve->count; i++) {
		if (strcmp(resolve->addresses[i], address) == 0)
			return 0;
	}
	resolve->count++;
	return 0;
}

/* A name that is not there is told from a resolver that does not answer. */
static int resolve_code(int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case EAI_MEMORY:
		return -ENOMEM;
	case EAI_NONAME:
	case EAI_NODATA:
		return -ERR_NAME;
	default:
		return -EHOSTUNREACH;
	}
}

static void resolve_execute(struct env_resolve *resolve, const char *name)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	int rc = getaddrinfo(name, NULL, &hints, &found);
	int family = rc == 0 ? best_family(found) : AF_UNSPEC;

	for (const struct addrinfo *info = found; info != NULL && rc == 0; info = info->ai_next) {
		if (info->ai_family == family && resolve->count < ENV_ADDRESS_MAX)
			rc = resolve_address(resolve, info);
	}
	resolve->result = resolve_code(rc);
	if (found != NULL)
		freeaddrinfo(found);
}

/* --- media --- */

/* Threads that may be in one medium's I/O at once. */
static uint32_t medium_share(const struct pool *pool)
{
	uint32_t part = (uint32_t)ARRAY_LEN(pool->threads) / MAX(pool->medium_count, 1);

	return MIN(pool->thread_max, MAX(part, 1));
}

static uint32_t thread_limit(const struct pool *pool)
{
	return MIN(MAX(pool->thread_max, medium_share(pool) * pool->medium_count),
		   (uint32_t)ARRAY_LEN(pool->threads));
}

/* With the lock held: see whether a thread may take its next. */
static void medium_place(struct pool *pool, struct blk_work *work)
{
	if (list_is_empty(&work->node) && !list_is_empty(&work->todo) &&
	    work->thread_count < medium_share(pool))
		list_add_tail(&pool->ready, &work->node);
}

/* With the lock held. */
static struct env_io *io_take(struct pool *pool)
{
	struct blk_work *work = list_head(&pool->ready, struct blk_work, node);
	struct env_io *io;

	if (work == NULL)
		return NULL;
	io = list_head(&work->todo, struct env_io, node);
	list_del(&io->node);
	list_del(&work->node);
	work->thread_count++;
	medium_place(pool, work);
	return io;
}

void pool_medium_add(struct posix *posix, struct env_blk *blk)
{
	list_init(&blk->work.node);
	list_init(&blk->work.todo);
	pthread_mutex_lock(&posix->pool.lock);
	posix->pool.medium_count++;
	pthread_mutex_unlock(&posix->pool.lock);
}

void pool_medium_remove(struct posix *posix, struct env_blk *blk)
{
	if (posix->pid != getpid())
		return; /* as in pool_fini() */
	pthread_mutex_lock(&posix->pool.lock);
	list_del(&blk->work.node);
	posix->pool.medium_count--;
	pthread_mutex_unlock(&posix->pool.lock);
}

/* --- work --- */

/* With the lock held. */
static void done_signal(struct posix *posix)
{
	if (posix->pool.is_signalled)
		return;
	posix->pool.is_signalled = true;
	posix_event_signal(posix);
}

/* With the lock held, dropped and, when the env is still there, taken again. */
static void work_resolve(struct pool_thread *thread, struct env_resolve *resolve)
{
	struct posix *posix = thread->posix;
	struct env_resolve mine = { .port = resolve->port };
	char name[NI_MAXHOST];

	snprintf(name, sizeof(name), "%s", resolve->host);
	thread->is_resolving = true;
	pthread_mutex_unlock(&posix->pool.lock);
	resolve_execute(&mine, name);
	pthread_mutex_lock(&left_lock);
	thread->is_resolving = false;
	if (thread->posix != NULL) {
		pthread_mutex_lock(&posix->pool.lock);
		resolve->result = mine.result;
		memcpy(resolve->addresses, mine.addresses, sizeof(resolve->addresses));
		resolve->count = mine.count;
		resolve_add(&posix->pool.resolve_done, resolve);
	}
	pthread_mutex_unlock(&left_lock);
}

/* With the lock held, dropped and taken again (unless the env went: thread->posix says); false when
 * there is nothing to do. */
static bool work_take(struct pool_thread *thread)
{
	struct posix *posix = thread->posix;
	struct pool *pool = &posix->pool;
	struct env_io *io = io_take(pool);
	struct env_resolve *resolve = io == NULL ? resolve_take(&pool->resolve_todo) : NULL;

	if (io == NULL && resolve == NULL)
		return false;
	ASSERT(pool->todo_count > 0);
	pool->todo_count--;
	if (io != NULL) {
		pthread_mutex_unlock(&pool->lock);
		io->result = blk_execute(io);
		pthread_mutex_lock(&pool->lock);
		io->blk->work.thread_count--;
		medium_place(pool, &io->blk->work);
		list_add_tail(&pool->done, &io->node);
	} else {
		work_resolve(thread, resolve);
		if (thread->posix == NULL)
			return true;
	}
	done_signal(posix);
	return true;
}

static void *pool_main(void *ctx)
{
	struct pool_thread *thread = ctx;
	struct pool *pool = &thread->posix->pool;

	pthread_mutex_lock(&pool->lock);
	while (!pool->is_stopping) {
		if (work_take(thread)) {
			if (thread->posix != NULL)
				continue;
			free(thread);
			return NULL;
		}
		pool->idle_count++;
		pthread_cond_wait(&pool->wanted, &pool->lock);
		pool->idle_count--;
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* With the lock held: one more thread, if the system lets us. */
static void thread_begin(struct posix *posix)
{
	struct pool *pool = &posix->pool;
	struct pool_thread *thread = calloc(1, sizeof(*thread));
	pthread_attr_t attr;
	sigset_t all;
	sigset_t before;

	if (thread == NULL)
		return;
	thread->posix = posix;
	sigfillset(&all);
	pthread_attr_init(&attr);
	if (pool->has_cpus)
		pthread_attr_setaffinity_np(&attr, sizeof(pool->cpus), &pool->cpus);
	pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
	if (pthread_create(&thread->id, &attr, pool_main, thread) == 0)
		pool->threads[pool->thread_count++] = thread;
	else
		free(thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
}

/*
 * With the lock held: see to it that new work finds a thread. false: there is none at all. One that
 * was signalled counts as idle until it is awake, so work in a burst is compared with idle threads,
 * not each piece by itself: else one idle thread would get it all.
 */
static bool thread_want(struct posix *posix)
{
	struct pool *pool = &posix->pool;

	if (pool->idle_count > 0)
		pthread_cond_signal(&pool->wanted);
	if (pool->todo_count + 1 > pool->idle_count && pool->thread_count < thread_limit(pool))
		thread_begin(posix);
	if (pool->thread_count == 0)
		return false;
	pool->todo_count++;
	return true;
}

void pool_submit(struct posix *posix, struct env_io *io)
{
	struct pool *pool = &posix->pool;

	ASSERT(pool->thread_max > 0);
	ASSERT_SLOW(blk_io_is_valid(io));
	posix->io_in_flight++;
	pthread_mutex_lock(&pool->lock);
	if (thread_want(posix)) {
		list_add_tail(&io->blk->work.todo, &io->node);
		medium_place(pool, &io->blk->work);
	} else {
		io->result = -EAGAIN;
		list_add_tail(&pool->done, &io->node);
		done_signal(posix);
	}
	pthread_mutex_unlock(&pool->lock);
}

void pool_resolve(struct env *env, struct env_resolve *resolve)
{
	struct posix *posix = posix_of(env);
	struct pool *pool = &posix->pool;

	ASSERT(pool->thread_max > 0);
	pthread_mutex_lock(&pool->lock);
	if (thread_want(posix)) {
		resolve_add(&pool->resolve_todo, resolve);
	} else {
		resolve->result = -EAGAIN;
		resolve_add(&pool->resolve_done, resolve);
		done_signal(posix);
	}
	pthread_mutex_unlock(&pool->lock);
}

void pool_collect(struct posix *posix)
{
	struct pool *pool = &posix->pool;
	struct resolve_queue resolved;
	struct env_resolve *resolve;
	struct env_io *io;
	struct list done;

	list_init(&done);
	pthread_mutex_lock(&pool->lock);
	list_splice_tail(&done, &pool->done);
	resolved = pool->resolve_done;
	pool->resolve_done.first = NULL;
	pool->is_signalled = false;
	pthread_mutex_unlock(&pool->lock);
	while ((io = list_head(&done, struct env_io, node)) != NULL) {
		list_del(&io->node);
		ASSERT(posix->io_in_flight > 0);
		posix->io_in_flight--;
		io->done(io);
	}
	while ((resolve = resolve_take(&resolved)) != NULL)
		resolve->done(resolve);
}

int pool_init(struct posix *posix, uint32_t thread_max)
{
	struct pool *pool = &posix->pool;

	if (thread_max > ARRAY_LEN(pool->threads))
		return -EINVAL;
	pool->thread_max = thread_max;
	list_init(&pool->ready);
	list_init(&pool->done);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wanted, NULL);
	return 0;
}

/* Wait for its end, or leave it to itself when it resolves: then it frees itself. */
static void thread_end(struct pool_thread *thread)
{
	bool is_left;

	pthread_mutex_lock(&left_lock);
	is_left = thread->is_resolving;
	if (is_left) {
		thread->posix = NULL;
		pthread_detach(thread->id);
	}
	pthread_mutex_unlock(&left_lock);
	if (is_left)
		return;
	pthread_join(thread->id, NULL);
	free(thread);
}

void pool_fini(struct posix *posix)
{
	struct pool *pool = &posix->pool;

	if (posix->pid != getpid())
		return; /* a child has none of the threads, and the lock may be held for ever */
	pthread_mutex_lock(&pool->lock);
	pool->is_stopping = true;
	pthread_cond_broadcast(&pool->wanted);
	pthread_mutex_unlock(&pool->lock);
	for (uint32_t i = 0; i < pool->thread_count; i++)
		thread_end(pool->threads[i]);
	pthread_cond_destroy(&pool->wanted);
	pthread_mutex_destroy(&pool->lock);
}
