/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pollers of each back end: they are looked at in every turn, asked to sleep before the loop waits
 * and only then; a busy one keeps nobody from sockets, timers and tasks; one that has nothing to do
 * costs no CPU, and a busy one stops costing any soon after its last work.
 */
#include "../../lib/t.h"

#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "../../../src/env/posix/posix_priv.h"
#include "../../lib/back_end.h"

struct watched {
	struct env_poller poller;
	struct env *env;
	uint32_t todo; /* turns in which it does something */
	bool is_late;  /* something has come when it is asked to sleep */
	bool leaves;   /* removes itself when it is looked at */
	uint32_t looked;
	uint32_t slept;
};

static bool on_look(struct env_poller *poller)
{
	struct watched *watched = CONTAINER_OF(poller, struct watched, poller);

	watched->looked++;
	if (watched->leaves)
		watched->env->ops->poller_remove(watched->env, poller);
	if (watched->todo == 0)
		return false;
	watched->todo--;
	return true;
}

static bool on_sleep(struct env_poller *poller)
{
	struct watched *watched = CONTAINER_OF(poller, struct watched, poller);

	if (watched->is_late) {
		watched->is_late = false;
		watched->todo = 1;
	}
	if (watched->todo > 0)
		return false;
	watched->slept++;
	return true;
}

static void watched_add(struct watched *watched, struct env *env)
{
	*watched = (struct watched) {
		.poller = { .look = on_look, .sleep = on_sleep },
		.env = env,
	};
	list_init(&watched->poller.node);
	env->ops->poller_add(env, &watched->poller);
}

static uint64_t cpu_ns(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * NS_PER_US;
}

static void poll_for(struct env *env, uint64_t time_ns)
{
	uint64_t until_ns = env_now_ns(env) + time_ns;
	uint64_t now_ns;

	while ((now_ns = env_now_ns(env)) < until_ns)
		env->ops->poll(env, until_ns - now_ns);
}

static void an_idle_poller_sleeps_and_costs_nothing(void **state)
{
	struct env *env = *state;
	struct watched watched;
	uint64_t before;

	watched_add(&watched, env);
	before = cpu_ns();
	poll_for(env, 200 * NS_PER_MS);
	assert_true(cpu_ns() - before < 20 * NS_PER_MS);
	assert_in_range(watched.slept, 1, 50);
	env->ops->poller_remove(env, &watched.poller);
}

static void a_poller_is_looked_at_while_it_works_and_a_little_longer(void **state)
{
	struct env *env = *state;
	struct watched watched;
	uint64_t before;

	watched_add(&watched, env);
	watched.todo = 1000;
	while (watched.todo > 0) {
		env->ops->poll(env, ENV_FOREVER);
		assert_int_equal(watched.slept, 0);
	}
	before = cpu_ns();
	poll_for(env, 100 * NS_PER_MS);
	assert_true(watched.slept >= 1);
	assert_true(cpu_ns() - before < 20 * NS_PER_MS);
	env->ops->poller_remove(env, &watched.poller);
}

/* How often of ten the window is as it was behind a turn's work and a sleep. */
static uint32_t windows_kept(struct env *env, struct watched *watched)
{
	struct posix_spin *spin = &posix_of(env)->spin;
	uint32_t kept = 0;

	for (int i = 0; i < 10; i++) {
		uint32_t slept = watched->slept;

		spin->window_ns = 50 * NS_PER_US;
		watched->todo = 1;
		poll_for(env, NS_PER_MS);
		assert_true(watched->slept > slept);
		kept += spin->window_ns == 50 * NS_PER_US;
	}
	return kept;
}

/* Its completion will end the wait: nothing is learned from looking in vain meanwhile. A core that
 * somebody else wants may spoil some of it. */
static void beside_a_busy_drive_it_sleeps_soon(void **state)
{
	struct env *env = *state;
	struct watched watched;

	if (strcmp(env->ops->name, "posix") != 0)
		skip(); /* env/uring knows itself what it has given to the drive */
	watched_add(&watched, env);
	posix_of(env)->spin.is_drive_busy = true;
	assert_true(windows_kept(env, &watched) >= 5);
	posix_of(env)->spin.is_drive_busy = false;
	assert_int_equal(windows_kept(env, &watched), 0);
	env->ops->poller_remove(env, &watched.poller);
}

/* Likewise while a socket waits for many bytes, and no longer than it does. */
static void beside_a_payload_it_sleeps_soon(void **state)
{
	struct env *env = *state;
	struct posix_spin *spin = &posix_of(env)->spin;
	struct env_sock *sock = NULL;
	struct watched watched;

	watched_add(&watched, env);
	assert_int_equal(env->ops->sock_listen(env, "127.0.0.1:0", &sock), 0);
	env->ops->sock_want(env, sock, 128 * KiB);
	env->ops->sock_want(env, sock, 64 * KiB);
	assert_int_equal(spin->patient, 1);
	assert_true(windows_kept(env, &watched) >= 5);
	env->ops->sock_want(env, sock, 1);
	assert_int_equal(spin->patient, 0);
	assert_int_equal(windows_kept(env, &watched), 0);
	env->ops->sock_want(env, sock, 128 * KiB);
	env->ops->sock_close(env, sock);
	assert_int_equal(spin->patient, 0);
	env->ops->poller_remove(env, &watched.poller);
}

static void what_comes_at_the_last_moment_is_not_slept_over(void **state)
{
	struct env *env = *state;
	struct watched first;
	struct watched second;

	watched_add(&first, env);
	watched_add(&second, env);
	second.is_late = true;
	env->ops->poll(env, ENV_FOREVER); /* would hang */
	assert_int_equal(second.slept, 0);
	assert_int_equal(second.looked, 1);
	assert_int_equal(second.todo, 0);
	env->ops->poller_remove(env, &first.poller);
	env->ops->poller_remove(env, &second.poller);
}

static void a_poller_may_leave_while_it_is_looked_at(void **state)
{
	struct env *env = *state;
	struct watched watched[3];

	for (uint32_t i = 0; i < ARRAY_LEN(watched); i++)
		watched_add(&watched[i], env);
	watched[1].leaves = true;
	env->ops->poll(env, 0);
	env->ops->poll(env, 0);
	assert_int_equal(watched[0].looked, 2);
	assert_int_equal(watched[1].looked, 1);
	assert_int_equal(watched[2].looked, 2);
	env->ops->poller_remove(env, &watched[0].poller);
	env->ops->poller_remove(env, &watched[2].poller);
}

struct others {
	struct env_timer timer;
	struct env_task task;
	struct env *env;
	uint32_t fired;
	uint32_t run;
	uint32_t woken;
	struct env_task wake_task;
};

static void on_timer(struct env_timer *timer)
{
	CONTAINER_OF(timer, struct others, timer)->fired++;
}

static void on_task(struct env_task *task)
{
	struct others *others = CONTAINER_OF(task, struct others, task);

	others->run++;
	others->env->ops->defer(others->env, task);
}

static void on_woken(struct env_task *task)
{
	CONTAINER_OF(task, struct others, wake_task)->woken++;
}

static void *wake_soon(void *ctx)
{
	struct env *env = ctx;
	const struct timespec soon = { .tv_nsec = 2 * NS_PER_MS };

	nanosleep(&soon, NULL);
	env->ops->wake(env);
	return NULL;
}

/* Descriptors, timers and tasks have their turns although the poller always has something to do. */
static void a_busy_poller_keeps_nobody_waiting(void **state)
{
	struct env *env = *state;
	struct others others = { .timer = { .fire = on_timer },
				 .task = { .run = on_task },
				 .wake_task = { .run = on_woken },
				 .env = env };
	struct watched watched;
	uint64_t begin_ns = env_now_ns(env);
	pthread_t thread;

	watched_add(&watched, env);
	watched.todo = UINT32_MAX;
	env->ops->on_wake(env, &others.wake_task);
	env->ops->timer_set(env, &others.timer, begin_ns + NS_PER_MS);
	env->ops->defer(env, &others.task);
	assert_int_equal(pthread_create(&thread, NULL, wake_soon, env), 0);
	while (others.fired == 0 || others.woken == 0) {
		env->ops->poll(env, ENV_FOREVER);
		assert_true(env_now_ns(env) - begin_ns < 5 * NS_PER_S);
	}
	assert_true(others.run > 10);
	pthread_join(thread, NULL);
	env->ops->undefer(env, &others.task);
	env->ops->poller_remove(env, &watched.poller);
}

/* Who waits by himself is told to only when the pollers sleep. */
static void a_caller_who_waits_himself_puts_pollers_to_sleep(void **state)
{
	struct env *env = *state;
	struct watched watched;

	watched_add(&watched, env);
	watched.is_late = true;
	assert_int_equal(env_posix_timeout_ns(env), 0);
	assert_int_equal(watched.slept, 0);
	env->ops->poll(env, 0);
	assert_int_equal(env_posix_timeout_ns(env), ENV_FOREVER);
	assert_int_equal(watched.slept, 1);
	env->ops->poller_remove(env, &watched.poller);
}

#define T(name) cmocka_unit_test_setup_teardown(name, back_end_begin, back_end_end)

static int run_all(const char *back_end)
{
	const struct CMUnitTest tests[] = {
		T(an_idle_poller_sleeps_and_costs_nothing),
		T(a_poller_is_looked_at_while_it_works_and_a_little_longer),
		T(beside_a_busy_drive_it_sleeps_soon),
		T(beside_a_payload_it_sleeps_soon),
		T(what_comes_at_the_last_moment_is_not_slept_over),
		T(a_poller_may_leave_while_it_is_looked_at),
		T(a_busy_poller_keeps_nobody_waiting),
		T(a_caller_who_waits_himself_puts_pollers_to_sleep),
	};

	return cmocka_run_group_tests_name(back_end, tests, NULL, NULL);
}

int main(void)
{
	return back_ends_run(run_all);
}
