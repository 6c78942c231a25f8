/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop of each back end: timers, tasks, wake-ups and watches run when they must, once, and
 * nothing keeps the loop from the rest; memory is taken before seal() only; a forked child can
 * destroy its copy without touching the parent's.
 */
#include "../../lib/t.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../src/env/posix/posix.h"
#include "../../lib/back_end.h"

#define LIMIT_NS (5 * NS_PER_S) /* a test that takes longer has hung */

static int env_begin(void **state)
{
	const struct env_posix_opts opts = { .io_thread_count = 2, .sock_max = 4 };
	struct env *env = NULL;

	assert_int_equal(back_end_create(&opts, &env), 0);
	*state = env;
	return 0;
}

static int env_end(void **state)
{
	struct env *env = *state;

	env_close(&env);
	assert_null(env);
	env_close(&env); /* nothing: does nothing */
	return 0;
}

/* --- timers and tasks --- */

struct alarm {
	struct env_timer timer;
	struct env *env;
	int *order; /* counts over all alarms of a test */
	int fired_as;
	uint64_t fired_ns;
	uint64_t again_ns; /* set anew for then, when not 0 */
	int fired;
};

static void alarm_fire(struct env_timer *timer)
{
	struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);

	assert_false(timer->is_set);
	alarm->fired++;
	alarm->fired_as = ++*alarm->order;
	alarm->fired_ns = env_now_ns(alarm->env);
	if (alarm->again_ns != 0)
		alarm->env->ops->timer_set(alarm->env, timer, alarm->again_ns);
}

static void timers_fire_in_order_and_not_early(void **state)
{
	struct env *env = *state;
	uint64_t begin = env_now_ns(env);
	const uint64_t delays_ms[] = { 3, 1, 2, 1 };
	const int expected[] = { 4, 1, 3, 2 };
	struct alarm alarms[4];
	int order = 0;

	for (int i = 0; i < 4; i++) {
		alarms[i] =
			(struct alarm) { .timer.fire = alarm_fire, .env = env, .order = &order };
		env->ops->timer_set(env, &alarms[i].timer, begin + delays_ms[i] * NS_PER_MS);
	}
	while (order < 4 && env_now_ns(env) < begin + LIMIT_NS)
		assert_int_equal(env->ops->poll(env, ENV_FOREVER), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(alarms[i].fired_as, expected[i]);
		assert_true(alarms[i].fired_ns >= begin + delays_ms[i] * NS_PER_MS);
	}
	assert_int_equal(env_posix_timeout_ns(env), ENV_FOREVER);
}

static void a_cleared_timer_does_not_fire(void **state)
{
	struct env *env = *state;
	int order = 0;
	struct alarm alarm = { .timer.fire = alarm_fire, .env = env, .order = &order };

	env->ops->timer_set(env, &alarm.timer, 1);
	env->ops->timer_clear(env, &alarm.timer);
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(alarm.fired, 0);
}

/* One that is always due fires once a turn, and what else is due fires in the same turn. */
static void a_timer_set_in_the_past_by_itself_does_not_keep_the_loop(void **state)
{
	struct env *env = *state;
	int order = 0;
	struct alarm greedy = {
		.timer.fire = alarm_fire, .env = env, .order = &order, .again_ns = 1
	};
	struct alarm other = { .timer.fire = alarm_fire, .env = env, .order = &order };

	env->ops->timer_set(env, &greedy.timer, 1);
	env->ops->timer_set(env, &other.timer, 2);
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(greedy.fired, 1);
	assert_int_equal(other.fired, 1);
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(greedy.fired, 2);
	env->ops->timer_clear(env, &greedy.timer);
}

struct job {
	struct env_task task;
	struct env *env;
	struct job *deferred;   /* by this one, when it runs */
	struct job *undeferred; /* likewise */
	int runs;
};

static void job_run(struct env_task *task)
{
	struct job *job = CONTAINER_OF(task, struct job, task);

	job->runs++;
	if (job->deferred != NULL)
		job->env->ops->defer(job->env, &job->deferred->task);
	if (job->undeferred != NULL)
		job->env->ops->undefer(job->env, &job->undeferred->task);
}

static struct job job_of(struct env *env)
{
	return (struct job) { .task.run = job_run, .env = env };
}

static void tasks_run_once_and_deferred_ones_in_the_next_turn(void **state)
{
	struct env *env = *state;
	struct job job = job_of(env);
	uint64_t begin = env_now_ns(env);

	job.deferred = &job;
	env->ops->defer(env, &job.task);
	env->ops->defer(env, &job.task);
	assert_int_equal(env_posix_timeout_ns(env), 0);
	assert_int_equal(env->ops->poll(env, LIMIT_NS), 0); /* does not wait: there is work */
	assert_int_equal(job.runs, 1);
	assert_int_equal(env->ops->poll(env, LIMIT_NS), 0);
	assert_int_equal(job.runs, 2);
	assert_true(env_now_ns(env) < begin + LIMIT_NS);
	env->ops->undefer(env, &job.task);
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(job.runs, 2);
}

/* The second stands in the batch that is being run when the first takes it out. */
static void a_task_may_take_another_out(void **state)
{
	struct env *env = *state;
	struct job first = job_of(env);
	struct job second = job_of(env);
	struct job third = job_of(env);

	first.undeferred = &second;
	env->ops->defer(env, &first.task);
	env->ops->defer(env, &second.task);
	env->ops->defer(env, &third.task);
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(first.runs, 1);
	assert_int_equal(second.runs, 0);
	assert_int_equal(third.runs, 1);
}

/* --- waking --- */

static void *wake_often(void *ctx)
{
	struct env *env = ctx;

	for (int i = 0; i < 1000; i++)
		env->ops->wake(env);
	return NULL;
}

static void wake_from_another_thread_ends_the_wait(void **state)
{
	struct env *env = *state;
	struct job job = job_of(env);
	uint64_t begin = env_now_ns(env);
	pthread_t thread;

	env->ops->on_wake(env, &job.task);
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(job.runs, 0);
	assert_int_equal(pthread_create(&thread, NULL, wake_often, env), 0);
	while (job.runs == 0 && env_now_ns(env) < begin + LIMIT_NS)
		assert_int_equal(env->ops->poll(env, LIMIT_NS), 0);
	assert_true(job.runs > 0);
	pthread_join(thread, NULL);
	/* Many wake-ups are one; when all is taken, nothing is left to run. */
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(env->ops->poll(env, 0), 0);
	job.runs = 0;
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(job.runs, 0);
	env->ops->wake(env); /* and the next is seen again */
	assert_int_equal(env->ops->poll(env, LIMIT_NS), 0);
	assert_int_equal(job.runs, 1);
}

static struct env *signalled_env;

static void on_signal(int number)
{
	signalled_env->ops->wake(signalled_env);
}

static void wake_from_a_signal_handler_ends_the_wait(void **state)
{
	struct env *env = *state;
	struct job job = job_of(env);
	struct sigaction action = { .sa_handler = on_signal };
	uint64_t begin = env_now_ns(env);

	signalled_env = env;
	env->ops->on_wake(env, &job.task);
	sigaction(SIGUSR1, &action, NULL);
	errno = 77;
	raise(SIGUSR1);
	assert_int_equal(errno, 77);
	while (job.runs == 0 && env_now_ns(env) < begin + LIMIT_NS)
		assert_int_equal(env->ops->poll(env, LIMIT_NS), 0);
	assert_int_equal(job.runs, 1);
	signal(SIGUSR1, SIG_DFL);
}

/* An interruption (a signal, the end of another ring) may cut a wait short, but nobody spins. */
static void poll_waits_as_long_as_it_may_and_no_longer(void **state)
{
	struct env *env = *state;
	uint64_t begin = env_now_ns(env);
	uint64_t took = 0;
	int turns = 0;

	for (; took < 20 * NS_PER_MS; turns++) {
		assert_int_equal(env->ops->poll(env, 20 * NS_PER_MS - took), 0);
		took = env_now_ns(env) - begin;
	}
	assert_in_range(turns, 1, 50);
	assert_true(took < LIMIT_NS);
}

/* --- descriptors of others --- */

struct watcher {
	struct env_posix_watch watch;
	struct env *env;
	struct watcher *removed; /* by this one's callback */
	int calls;
};

static void watcher_ready(struct env_posix_watch *watch)
{
	struct watcher *watcher = CONTAINER_OF(watch, struct watcher, watch);

	watcher->calls++;
	if (watcher->removed != NULL)
		env_posix_watch_remove(watcher->env, &watcher->removed->watch);
}

/* Both are ready in one batch; whichever runs first removes the other, which then must not run. */
static void a_removed_watch_is_not_called_from_the_same_batch(void **state)
{
	struct env *env = *state;
	struct watcher a = { .watch.ready = watcher_ready, .env = env };
	struct watcher b = { .watch.ready = watcher_ready, .env = env };

	a.watch.fd = eventfd(1, EFD_CLOEXEC);
	b.watch.fd = eventfd(1, EFD_CLOEXEC);
	a.removed = &b;
	b.removed = &a;
	assert_int_equal(env_posix_watch_add(env, &a.watch), 0);
	assert_int_equal(env_posix_watch_add(env, &b.watch), 0);
	assert_int_equal(env->ops->poll(env, LIMIT_NS), 0);
	assert_int_equal(a.calls + b.calls, 1);
	if (a.calls != 0)
		env_posix_watch_remove(env, &a.watch);
	else
		env_posix_watch_remove(env, &b.watch);
	assert_int_equal(env->ops->poll(env, 0), 0);
	assert_int_equal(a.calls + b.calls, 1);
	close(a.watch.fd);
	close(b.watch.fd);
}

/* --- memory, clock, chance --- */

static void memory_is_zeroed_and_aligned(void **state)
{
	struct env *env = *state;
	char *small = env->ops->alloc(env, 100);
	char *large = env->ops->map(env, 3 * PAGE_SIZE + 1);

	assert_int_equal((uintptr_t)small % 64, 0);
	assert_int_equal((uintptr_t)large % PAGE_SIZE, 0);
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(small[i], 0);
	for (size_t i = 0; i < 3 * PAGE_SIZE + 1; i++)
		assert_int_equal(large[i], 0);
	env->ops->free(env, small);
	env->ops->unmap(env, large, 3 * PAGE_SIZE + 1);
	env->ops->unmap(env, NULL, 1);
	assert_null(env->ops->map(env, (size_t)1 << 60)); /* no such room: NULL, not death */
}

static jmp_buf panic_jump;

static void panic_caught(const char *file, int line, const char *what)
{
	longjmp(panic_jump, 1);
}

static void alloc_after_seal_panics(void **state)
{
	struct env *env = *state;

	env->ops->seal(env);
	base_panic_hook_set(panic_caught);
	if (setjmp(panic_jump) == 0) {
		(void)env->ops->alloc(env, 1);
		base_panic_hook_set(NULL);
		fail_msg("no panic");
	}
	if (setjmp(panic_jump) == 0) {
		(void)env->ops->map(env, PAGE_SIZE);
		base_panic_hook_set(NULL);
		fail_msg("no panic");
	}
	base_panic_hook_set(NULL);
}

static void time_and_chance_move(void **state)
{
	struct env *env = *state;
	uint64_t a[4] = { 0 };
	uint64_t b[4] = { 0 };
	uint64_t begin = env_now_ns(env);

	env->ops->random(env, a, sizeof(a));
	env->ops->random(env, b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	while (env_now_ns(env) == begin)
		;
	assert_true(env_now_ns(env) > begin);
	assert_true(env->ops->wall_s(env) > 1700000000); /* 2023 */
}

/* The child's destroy must not take descriptors out of the parent's epoll set, which both share. */
static void a_child_destroys_its_copy_and_the_parent_goes_on(void **state)
{
	struct env *env = *state;
	struct watcher watcher = { .watch.ready = watcher_ready, .env = env };
	struct job job = job_of(env);
	int status;
	pid_t pid;

	env->ops->on_wake(env, &job.task);
	watcher.watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(env_posix_watch_add(env, &watcher.watch), 0);
	pid = fork();
	if (pid == 0) {
		env_posix_watch_remove(env, &watcher.watch);
		env_close(&env);
		_exit(env == NULL ? 0 : 1);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	eventfd_write(watcher.watch.fd, 1);
	env->ops->wake(env);
	assert_int_equal(env->ops->poll(env, LIMIT_NS), 0);
	assert_int_equal(watcher.calls, 1);
	assert_int_equal(job.runs, 1);
	env_posix_watch_remove(env, &watcher.watch);
	close(watcher.watch.fd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, env_begin, env_end)

static int run_all(const char *back_end)
{
	const struct CMUnitTest tests[] = {
		T(timers_fire_in_order_and_not_early),
		T(a_cleared_timer_does_not_fire),
		T(a_timer_set_in_the_past_by_itself_does_not_keep_the_loop),
		T(tasks_run_once_and_deferred_ones_in_the_next_turn),
		T(a_task_may_take_another_out),
		T(wake_from_another_thread_ends_the_wait),
		T(wake_from_a_signal_handler_ends_the_wait),
		T(poll_waits_as_long_as_it_may_and_no_longer),
		T(a_removed_watch_is_not_called_from_the_same_batch),
		T(memory_is_zeroed_and_aligned),
		T(alloc_after_seal_panics),
		T(time_and_chance_move),
		T(a_child_destroys_its_copy_and_the_parent_goes_on),
	};

	return cmocka_run_group_tests_name(back_end, tests, NULL, NULL);
}

int main(void)
{
	return back_ends_run(run_all);
}
