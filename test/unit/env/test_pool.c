/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread pool alone, over a blk_execute() of the test's that waits until it is let go: a burst
 * of work is done by as many threads as the limit says, at once, whether threads were idle before
 * or not; each piece is done once; the loop is signalled once for many; no thread to be had fails
 * the work and nothing else.
 */
#include "../../lib/t.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../../src/env/posix/posix_priv.h"

#define THREADS  4
#define LIMIT_NS (5 * NS_PER_S)
#define IO_COUNT 64
#define MEDIA    3

/* --- what pool.c calls --- */

static struct gate {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	int inside;
	int inside_max;
	int inside_of[MEDIA]; /* likewise, of each medium */
	int inside_of_max[MEDIA];
	bool is_open;
} gate = { .lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER };
static struct env_blk media[MEDIA];

static atomic_int signals; /* written by threads under the pool's lock, read by the test */
static atomic_bool has_threads = true;

/* With the lock held. */
static void gate_count(const struct env_io *io, int difference)
{
	int *of = &gate.inside_of[io->blk - media];
	int *of_max = &gate.inside_of_max[io->blk - media];

	gate.inside += difference;
	gate.inside_max = MAX(gate.inside_max, gate.inside);
	*of += difference;
	*of_max = MAX(*of_max, *of);
}

int64_t blk_execute(struct env_io *io)
{
	pthread_mutex_lock(&gate.lock);
	gate_count(io, 1);
	pthread_cond_broadcast(&gate.moved);
	while (!gate.is_open)
		pthread_cond_wait(&gate.moved, &gate.lock);
	gate_count(io, -1);
	pthread_mutex_unlock(&gate.lock);
	return (int64_t)io->size;
}

bool blk_io_is_valid(const struct env_io *io)
{
	return true;
}

void posix_event_signal(struct posix *posix)
{
	atomic_fetch_add_explicit(&signals, 1, memory_order_relaxed);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *),
			  void *ctx);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *),
			  void *ctx);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *),
			  void *ctx)
{
	if (!atomic_load_explicit(&has_threads, memory_order_relaxed))
		return EAGAIN;
	return __real_pthread_create(thread, attr, main, ctx);
}

/* --- the bench --- */

static struct env_io ios[IO_COUNT];
static int done_count;

static void io_done(struct env_io *io)
{
	done_count++;
}

static void media_open(struct posix *posix, uint32_t count)
{
	for (uint32_t i = posix->pool.medium_count; i < count; i++) {
		media[i] = (struct env_blk) { 0 };
		pool_medium_add(posix, &media[i]);
	}
}

static int begin(void **state)
{
	struct posix *posix = calloc(1, sizeof(*posix));

	posix->magic = POSIX_MAGIC;
	posix->pid = getpid();
	atomic_store(&has_threads, true);
	atomic_store(&signals, 0);
	gate.inside = gate.inside_max = 0;
	memset(gate.inside_of, 0, sizeof(gate.inside_of));
	memset(gate.inside_of_max, 0, sizeof(gate.inside_of_max));
	gate.is_open = false;
	done_count = 0;
	assert_int_equal(pool_init(posix, THREADS), 0);
	media_open(posix, 1);
	*state = posix;
	return 0;
}

static int end(void **state)
{
	struct posix *posix = *state;

	pool_fini(posix);
	free(posix);
	return 0;
}

static void submit_to(struct posix *posix, struct env_blk *blk, int first, int count)
{
	for (int i = first; i < first + count; i++) {
		ios[i] = (struct env_io) { .done = io_done, .blk = blk, .size = (uint64_t)i };
		pool_submit(posix, &ios[i]);
	}
}

static void submit(struct posix *posix, int first, int count)
{
	submit_to(posix, &media[0], first, count);
}

/* Wait until so many are inside blk_execute() together. */
static bool wait_inside(int count)
{
	struct timespec until;
	int rc = 0;
	bool is_so;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += (time_t)(LIMIT_NS / NS_PER_S);
	pthread_mutex_lock(&gate.lock);
	while (gate.inside < count && rc == 0)
		rc = pthread_cond_timedwait(&gate.moved, &gate.lock, &until);
	is_so = gate.inside >= count;
	pthread_mutex_unlock(&gate.lock);
	return is_so;
}

static void gate_set(bool is_open)
{
	pthread_mutex_lock(&gate.lock);
	gate.is_open = is_open;
	pthread_cond_broadcast(&gate.moved);
	pthread_mutex_unlock(&gate.lock);
}

static bool collect_until(struct posix *posix, int count)
{
	struct timespec pause = { 0, 1000000 };

	for (int i = 0; i < 5000 && done_count < count; i++) {
		pool_collect(posix);
		if (done_count < count)
			nanosleep(&pause, NULL);
	}
	return done_count == count;
}

/* --- tests --- */

static void a_burst_runs_on_all_threads_at_once(void **state)
{
	struct posix *posix = *state;

	submit(posix, 0, IO_COUNT);
	assert_true(wait_inside(THREADS));
	assert_int_equal(posix->io_in_flight, IO_COUNT);
	gate_set(true);
	assert_true(collect_until(posix, IO_COUNT));
	assert_int_equal(gate.inside_max, THREADS);
	assert_int_equal(posix->pool.thread_count, THREADS);
	assert_int_equal(posix->io_in_flight, 0);
	assert_int_equal(posix->pool.todo_count, 0);
	for (int i = 0; i < IO_COUNT; i++)
		assert_int_equal(ios[i].result, i);
}

/* The threads that are in a medium that does not answer are none of another's. */
static void a_medium_does_not_wait_for_another(void **state)
{
	struct posix *posix = *state;

	media_open(posix, MEDIA);
	submit_to(posix, &media[0], 0, 20);
	assert_true(wait_inside(THREADS));
	submit_to(posix, &media[1], 20, 20);
	assert_true(wait_inside(2 * THREADS));
	submit_to(posix, &media[2], 40, 1);
	assert_true(wait_inside(2 * THREADS + 1));
	gate_set(true);
	assert_true(collect_until(posix, 41));
	assert_int_equal(gate.inside_max, 2 * THREADS + 1);
	for (int i = 0; i < 41; i++)
		assert_int_equal(ios[i].result, i);
	for (int i = 0; i < MEDIA; i++) {
		assert_int_equal(gate.inside_of_max[i], i == 2 ? 1 : THREADS);
		pool_medium_remove(posix, &media[i]);
	}
	assert_int_equal(posix->pool.medium_count, 0);
}

/* One idle thread must not get a whole burst for itself. */
static void a_burst_runs_at_once_also_when_one_thread_is_idle(void **state)
{
	struct posix *posix = *state;

	gate_set(true);
	submit(posix, 0, 1);
	assert_true(collect_until(posix, 1));
	gate_set(false);
	submit(posix, 1, THREADS);
	assert_true(wait_inside(THREADS));
	gate_set(true);
	assert_true(collect_until(posix, 1 + THREADS));
}

static void one_at_a_time_needs_one_thread(void **state)
{
	struct posix *posix = *state;

	gate_set(true);
	for (int i = 0; i < 20; i++) {
		bool is_idle = false;

		submit(posix, i, 1);
		assert_true(collect_until(posix, i + 1));
		while (!is_idle) { /* it says done a moment before it waits again */
			pthread_mutex_lock(&posix->pool.lock);
			is_idle = posix->pool.idle_count == 1;
			pthread_mutex_unlock(&posix->pool.lock);
		}
	}
	assert_int_equal(posix->pool.thread_count, 1);
}

static void many_that_are_done_signal_once(void **state)
{
	struct posix *posix = *state;

	submit(posix, 0, THREADS);
	assert_true(wait_inside(THREADS));
	gate_set(true);
	for (bool is_done = false; !is_done;) {
		size_t count = 0;

		pthread_mutex_lock(&posix->pool.lock);
		list_for_each (at, &posix->pool.done)
			count++;
		is_done = count == THREADS;
		pthread_mutex_unlock(&posix->pool.lock);
	}
	assert_int_equal(atomic_load(&signals), 1);
	assert_true(collect_until(posix, THREADS));
	submit(posix, 0, 1);
	assert_true(collect_until(posix, THREADS + 1));
	assert_int_equal(atomic_load(&signals), 2); /* after a collection the next signals again */
}

static void without_any_thread_the_work_fails(void **state)
{
	struct posix *posix = *state;

	atomic_store(&has_threads, false);
	submit(posix, 0, 3);
	assert_int_equal(done_count, 0); /* from the loop, never out of the call */
	assert_int_equal(atomic_load(&signals), 1);
	pool_collect(posix);
	assert_int_equal(done_count, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ios[i].result, -EAGAIN);
	atomic_store(&has_threads, true); /* and it comes back by itself */
	gate_set(true);
	submit(posix, 3, 1);
	assert_true(collect_until(posix, 4));
	assert_int_equal(ios[3].result, 3);
}

static void a_thread_fewer_than_wanted_does_it_all(void **state)
{
	struct posix *posix = *state;

	submit(posix, 0, 1);
	assert_true(wait_inside(1));
	atomic_store(&has_threads, false);
	submit(posix, 1, 9);
	gate_set(true);
	assert_true(collect_until(posix, 10));
	assert_int_equal(posix->pool.thread_count, 1);
	for (int i = 0; i < 10; i++)
		assert_int_equal(ios[i].result, i);
}

static void *open_later(void *ctx)
{
	struct timespec pause = { 0, 20000000 };

	nanosleep(&pause, NULL);
	gate_set(true);
	return ctx;
}

/* Nothing may land after destroy. */
static void fini_waits_for_what_runs(void **state)
{
	struct posix *posix = *state;
	pthread_t opener;

	submit(posix, 0, THREADS);
	assert_true(wait_inside(THREADS));
	assert_int_equal(__real_pthread_create(&opener, NULL, open_later, NULL), 0);
	pool_fini(posix);
	assert_true(gate.is_open);
	assert_int_equal(gate.inside, 0);
	assert_int_equal(done_count, 0);
	pthread_join(opener, NULL);
	memset(&posix->pool, 0, sizeof(posix->pool)); /* for the end of the test */
	assert_int_equal(pool_init(posix, THREADS), 0);
}

/* --- names --- */

int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
		       struct addrinfo **found_out);
void __wrap_freeaddrinfo(struct addrinfo *found);
int __real_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
		       struct addrinfo **found_out);
void __real_freeaddrinfo(struct addrinfo *found);

static struct sockaddr_in6 loopback6 = { .sin6_family = AF_INET6,
					 .sin6_addr = IN6ADDR_LOOPBACK_INIT };
static struct sockaddr_in loopback4 = { .sin_family = AF_INET };
static struct addrinfo both[2] = {
	{ .ai_family = AF_INET6,
	  .ai_addrlen = sizeof(loopback6),
	  .ai_addr = (struct sockaddr *)&loopback6,
	  .ai_next = &both[1] },
	{ .ai_family = AF_INET,
	  .ai_addrlen = sizeof(loopback4),
	  .ai_addr = (struct sockaddr *)&loopback4 },
};

/* A host with both kinds of addresses, IPv6 first, as glibc sorts them; others as they are. */
int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
		       struct addrinfo **found_out)
{
	if (strcmp(host, "slow") == 0)
		(void)blk_execute(&(struct env_io) { .blk = media }); /* waits for the gate */
	if (strcmp(host, "both") != 0 && strcmp(host, "slow") != 0)
		return __real_getaddrinfo(host, service, hints, found_out);
	loopback4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	*found_out = both;
	return 0;
}

void __wrap_freeaddrinfo(struct addrinfo *found)
{
	if (found != both)
		__real_freeaddrinfo(found);
}

static bool is_inside(void)
{
	bool is;

	pthread_mutex_lock(&gate.lock);
	is = gate.inside > 0;
	pthread_mutex_unlock(&gate.lock);
	return is;
}

static int resolved_order[4];
static int resolved_count;

static void resolve_done(struct env_resolve *resolve)
{
	resolved_order[resolved_count++] = resolve->port;
}

static void names_are_resolved_in_order_and_numbers_are_names(void **state)
{
	struct posix *posix = *state;
	char host[400];
	struct env_resolve resolves[4] = {
		{ .done = resolve_done, .host = "127.0.0.1", .port = 1 },
		{ .done = resolve_done, .host = "::1", .port = 2 },
		/* Longer than a name may be: no server is asked. */
		{ .done = resolve_done, .host = host, .port = 3 },
		{ .done = resolve_done, .host = "both", .port = 4 },
	};
	struct timespec pause = { 0, 1000000 };

	memset(host, 'x', sizeof(host) - 1);
	host[sizeof(host) - 1] = '\0';
	posix->pool.thread_max = 1;
	resolved_count = 0;
	for (int i = 0; i < 4; i++)
		pool_resolve(&posix->env, &resolves[i]);
	for (int i = 0; i < 5000 && resolved_count < 4; i++) {
		pool_collect(posix);
		nanosleep(&pause, NULL);
	}
	assert_int_equal(resolved_count, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(resolved_order[i], i + 1);
	assert_int_equal(resolves[0].result, 0);
	assert_string_equal(resolves[0].addresses[0], "127.0.0.1:1");
	assert_int_equal(resolves[1].result, 0);
	assert_string_equal(resolves[1].addresses[0], "[::1]:2");
	/* No such name, or no name server here to say so. */
	assert_true(resolves[2].result == -ERR_NAME || resolves[2].result == -EHOSTUNREACH);
	assert_int_equal(resolves[3].result, 0);
	assert_int_equal(resolves[3].count, 1); /* IPv4 alone, where there is any */
	assert_string_equal(resolves[3].addresses[0], "127.0.0.1:4");
}

/* The name server may take as long as he likes: nobody waits for him, and his answer lands in
 * nothing of the env's. */
static void fini_does_not_wait_for_a_name(void **state)
{
	struct posix *posix = *state;
	struct env_resolve resolve = { .done = resolve_done, .host = "slow", .port = 1 };
	const struct env_resolve before = resolve;
	struct timespec pause = { 0, 1000000 };

	resolved_count = 0;
	pool_resolve(&posix->env, &resolve);
	assert_true(wait_inside(1));
	pool_fini(posix);
	assert_int_equal(gate.inside, 1);
	memset(&posix->pool, 0xff, sizeof(posix->pool)); /* nobody looks at it any more */
	gate_set(true);
	for (int i = 0; i < 5000 && is_inside(); i++)
		nanosleep(&pause, NULL);
	assert_false(is_inside());
	nanosleep(&(struct timespec) { 0, 20000000 }, NULL);
	assert_memory_equal(&resolve, &before, sizeof(resolve));
	assert_int_equal(resolved_count, 0);
	memset(&posix->pool, 0, sizeof(posix->pool)); /* for the end of the test */
	assert_int_equal(pool_init(posix, THREADS), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_burst_runs_on_all_threads_at_once),
		T(a_medium_does_not_wait_for_another),
		T(a_burst_runs_at_once_also_when_one_thread_is_idle),
		T(one_at_a_time_needs_one_thread),
		T(many_that_are_done_signal_once),
		T(without_any_thread_the_work_fails),
		T(a_thread_fewer_than_wanted_does_it_all),
		T(fini_waits_for_what_runs),
		T(names_are_resolved_in_order_and_numbers_are_names),
		T(fini_does_not_wait_for_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
