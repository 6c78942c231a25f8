/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clock, events, processes and memory of the simulation. See sim.h for what is simulated.
 *
 * Normal path: sim_step() asks every env when it has something to do, picks one of the first, and
 * runs one callback of it: a due timer, a task, a socket, or an event (end of an I/O, arrival of
 * bytes), whichever chance says. A callback takes a few microseconds of virtual time.
 *
 * Code that blocks (start-up and stop) calls poll() of its env: then only this env's events and the
 * network's run, and the others find themselves late, as when a thread was not scheduled.
 */
#include "sim.h"

#include "../../src/base/hash.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SIM_ENV_MAGIC 0x51e17001u

struct sim_alloc {
	struct list node;
	size_t size;
	bool is_mapped;
	void *ptr;
};

/* --- the run --- */

void sim_init(struct sim *sim, uint64_t seed, bool is_verbose)
{
	*sim = (struct sim) {
		.seed = seed,
		.rng = { rng_mix(seed + 1) },
		.is_verbose = is_verbose,
		.has_faults = true,
		.wall_base_s = UINT64_C(1700000000),
		.net_delay_max_ns = NS_PER_MS,
		.net_window = 64 * KiB,
	};
	list_init(&sim->envs);
	list_init(&sim->disks);
	list_init(&sim->conns);
	list_init(&sim->listeners);
	sim->now_ns = NS_PER_S + rng_below(&sim->rng, NS_PER_S);
	sim->net = sim_env_create(sim, "net", SIM_NODE_MAX - 1);
}

void sim_fini(struct sim *sim)
{
	struct sim_disk *disk;

	sim_env_destroy(&sim->net);
	ASSERT(list_is_empty(&sim->envs));
	sim_net_fini(sim);
	while ((disk = list_head(&sim->disks, struct sim_disk, node)) != NULL)
		sim_disk_destroy(&disk);
}

void sim_trace(struct sim *sim, uint64_t a, uint64_t b)
{
	sim->trace = rng_mix(sim->trace * UINT64_C(0x9e3779b97f4a7c15) + a) ^ rng_mix(b + 1);
}

void sim_note(struct sim *sim, const char *format, ...)
{
	va_list args;

	if (!sim->is_verbose)
		return;
	printf("%12.6f ", (double)sim->now_ns / 1e9);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

_Noreturn void sim_fail(struct sim *sim, const char *format, ...)
{
	va_list args;

	printf("FAIL seed %llu: step %llu, %.6f s: ", (unsigned long long)sim->seed,
	       (unsigned long long)sim->steps, (double)sim->now_ns / 1e9);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	_Exit(1);
}

/* --- events --- */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
	return a->when_ns != b->when_ns ? a->when_ns < b->when_ns : a->order < b->order;
}

static void queue_push(struct sim_queue *queue, struct sim_event *event)
{
	uint32_t at = queue->count++;

	if (at == queue->room) {
		queue->room = MAX(64, 2 * queue->room);
		queue->heap = realloc(queue->heap, queue->room * sizeof(queue->heap[0]));
		ASSERT(queue->heap != NULL);
	}
	for (; at > 0 && event_before(event, queue->heap[(at - 1) / 2]); at = (at - 1) / 2)
		queue->heap[at] = queue->heap[(at - 1) / 2];
	queue->heap[at] = event;
}

static struct sim_event *queue_pop(struct sim_queue *queue)
{
	struct sim_event *first = queue->heap[0];
	struct sim_event *last = queue->heap[--queue->count];
	uint32_t at = 0;

	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= queue->count)
			break;
		if (child + 1 < queue->count &&
		    event_before(queue->heap[child + 1], queue->heap[child]))
			child++;
		if (!event_before(queue->heap[child], last))
			break;
		queue->heap[at] = queue->heap[child];
		at = child;
	}
	queue->heap[at] = last;
	return first;
}

void sim_env_schedule(struct sim_env *env, struct sim_event *event, uint64_t delay_ns,
		      void (*run)(struct sim_event *event, bool is_dropped))
{
	event->when_ns = env->sim->now_ns + delay_ns;
	event->order = env->sim->order++;
	event->run = run;
	queue_push(&env->queue, event);
}

void sim_env_cancel(struct sim_env *env, struct sim_event *event)
{
	struct sim_queue queue = env->queue;

	/* Rare: put the others into a new heap. */
	env->queue.count = 0;
	for (uint32_t i = 0; i < queue.count; i++) {
		struct sim_event *other = queue.heap[i];

		if (other != event)
			queue_push(&env->queue, other);
	}
	ASSERT(env->queue.count + 1 == queue.count);
}

/* --- what runs next --- */

/* When env has something to do; ENV_FOREVER: never, as things stand. */
static uint64_t env_next_ns(const struct sim_env *env)
{
	uint64_t next_ns = timers_next_ns(&env->timers);

	if (!list_is_empty(&env->tasks) || !list_is_empty(&env->ready))
		next_ns = env->sim->now_ns;
	if (env->queue.count > 0)
		next_ns = MIN(next_ns, env->queue.heap[0]->when_ns);
	if (next_ns == ENV_FOREVER)
		return ENV_FOREVER;
	return MAX(next_ns, env->frozen_until_ns);
}

static void run_timer(struct sim_env *env)
{
	struct env_timer *timer = timers_take_due(&env->timers, env->sim->now_ns);

	timer->fire(timer);
}

static void run_task(struct sim_env *env)
{
	struct env_task *task = list_head(&env->tasks, struct env_task, node);

	list_del(&task->node);
	task->is_queued = false;
	task->run(task);
}

static void run_event(struct sim_env *env)
{
	struct sim_event *event = queue_pop(&env->queue);

	event->run(event, false);
}

/* One callback of env, of those that are due. */
static void env_run(struct sim_env *env)
{
	struct sim *sim = env->sim;
	void (*due[4])(struct sim_env * env);
	uint32_t count = 0;
	uint64_t choice;

	if (timers_next_ns(&env->timers) <= sim->now_ns)
		due[count++] = run_timer;
	if (!list_is_empty(&env->tasks))
		due[count++] = run_task;
	if (!list_is_empty(&env->ready))
		due[count++] = sim_net_run;
	if (env->queue.count > 0 && env->queue.heap[0]->when_ns <= sim->now_ns)
		due[count++] = run_event;
	ASSERT(count > 0);
	choice = rng_below(&sim->rng, count);
	sim->steps++;
	sim_trace(sim, sim->now_ns, env->node * 64 + choice * 8 + count);
	due[choice](env);
	sim->now_ns += rng_below(&sim->rng, 3 * NS_PER_US);
}

bool sim_step(struct sim *sim)
{
	struct sim_env *first = NULL;
	uint64_t first_ns = ENV_FOREVER;
	uint32_t due_count = 0;

	list_for_each (pos, &sim->envs) {
		struct sim_env *env = list_entry(pos, struct sim_env, node_envs);
		uint64_t next_ns = env->is_dead ? ENV_FOREVER : env_next_ns(env);

		if (next_ns == ENV_FOREVER)
			continue;
		if (next_ns <= sim->now_ns) {
			/* Each of those that are due is as likely as the others. */
			if (rng_below(&sim->rng, ++due_count) == 0)
				first = env;
		} else if (due_count == 0 && next_ns < first_ns) {
			first = env;
			first_ns = next_ns;
		}
	}
	if (first == NULL)
		return false;
	if (due_count == 0)
		sim->now_ns = first_ns;
	env_run(first);
	return true;
}

/* --- processes --- */

struct sim_env *sim_env_of(struct env *env)
{
	struct sim_env *self = CONTAINER_OF(env, struct sim_env, env);

	CHECK_OBJ(self, SIM_ENV_MAGIC);
	return self;
}

struct sim_env *sim_env_create(struct sim *sim, const char *name, uint32_t node)
{
	struct sim_env *env = calloc(1, sizeof(*env));

	ASSERT(env != NULL);
	ASSERT(node < SIM_NODE_MAX);
	env->env.ops = &sim_env_ops;
	env->magic = SIM_ENV_MAGIC;
	env->sim = sim;
	env->node = node;
	snprintf(env->name, sizeof(env->name), "%s", name);
	list_init(&env->tasks);
	list_init(&env->ready);
	list_init(&env->socks);
	list_init(&env->allocs);
	list_add_tail(&sim->envs, &env->node_envs);
	return env;
}

void sim_env_kill(struct sim_env *env, bool is_silent)
{
	if (env->is_dead)
		return;
	env->is_dead = true;
	env->is_silent = is_silent;
	sim_net_kill(env, is_silent);
}

void sim_env_freeze(struct sim_env *env, uint64_t until_ns)
{
	env->frozen_until_ns = MAX(env->frozen_until_ns, until_ns);
}

void sim_env_destroy(struct sim_env **env_ptr)
{
	struct sim_env *env = *env_ptr;

	sim_env_kill(env, false);
	while (env->queue.count > 0) {
		struct sim_event *event = queue_pop(&env->queue);

		event->run(event, true);
	}
	if (env->held_count != 0)
		sim_fail(env->sim, "%s leaks %llu allocations, %llu bytes", env->name,
			 (unsigned long long)env->held_count, (unsigned long long)env->held_bytes);
	if (!list_is_empty(&env->tasks) || timers_next_ns(&env->timers) != ENV_FOREVER)
		sim_fail(env->sim, "%s leaves a task or a timer behind", env->name);
	list_del(&env->node_envs);
	free(env->queue.heap);
	env->magic = 0;
	free(env);
	*env_ptr = NULL;
}

/* --- env: memory --- */

static void alloc_note(struct sim_env *env, void *ptr, size_t size, bool is_mapped)
{
	struct sim_alloc *alloc = malloc(sizeof(*alloc));

	ASSERT(alloc != NULL);
	*alloc = (struct sim_alloc) { .size = size, .is_mapped = is_mapped, .ptr = ptr };
	list_add_head(&env->allocs, &alloc->node);
	env->held_count++;
	env->held_bytes += size;
}

static void alloc_forget(struct sim_env *env, void *ptr, bool is_mapped, size_t *size_out)
{
	list_for_each_safe (pos, &env->allocs) {
		struct sim_alloc *alloc = list_entry(pos, struct sim_alloc, node);

		if (alloc->ptr != ptr)
			continue;
		ASSERT(alloc->is_mapped == is_mapped);
		env->held_count--;
		env->held_bytes -= alloc->size;
		*size_out = alloc->size;
		list_del(&alloc->node);
		free(alloc);
		return;
	}
	sim_fail(env->sim, "%s gives back memory that it does not hold", env->name);
}

static void *sim_alloc(struct env *env, size_t size)
{
	struct sim_env *self = sim_env_of(env);
	void *ptr = aligned_alloc(64, round_up(MAX(size, 1), 64));

	ASSERT(!self->is_sealed);
	ASSERT(ptr != NULL);
	memset(ptr, 0, size);
	alloc_note(self, ptr, size, false);
	return ptr;
}

static void sim_free(struct env *env, void *ptr)
{
	size_t size = 0;

	if (ptr == NULL)
		return;
	alloc_forget(sim_env_of(env), ptr, false, &size);
	free(ptr);
}

/* With an unmapped page behind it, so that a step beyond the end is seen. */
static void *sim_map(struct env *env, size_t size)
{
	size_t room = round_up(MAX(size, 1), PAGE_SIZE);
	char *ptr = mmap(NULL, room + PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int rc;

	ASSERT(!sim_env_of(env)->is_sealed);
	ASSERT(ptr != MAP_FAILED);
	rc = mprotect(ptr + room, PAGE_SIZE, PROT_NONE);
	ASSERT(rc == 0);
	alloc_note(sim_env_of(env), ptr, size, true);
	return ptr;
}

static void sim_unmap(struct env *env, void *ptr, size_t size)
{
	size_t held = 0;

	if (ptr == NULL)
		return;
	alloc_forget(sim_env_of(env), ptr, true, &held);
	ASSERT(held == size);
	munmap(ptr, round_up(MAX(size, 1), PAGE_SIZE) + PAGE_SIZE);
}

static void sim_seal(struct env *env)
{
	sim_env_of(env)->is_sealed = true;
}

/* --- env: clock, chance, loop --- */

static uint64_t sim_now_ns(struct env *env)
{
	return sim_env_of(env)->sim->now_ns;
}

static uint64_t sim_wall_s(struct env *env)
{
	const struct sim *sim = sim_env_of(env)->sim;

	return sim->wall_base_s + sim->now_ns / NS_PER_S;
}

static void sim_random(struct env *env, void *bytes, size_t size)
{
	struct rng *rng = &sim_env_of(env)->sim->rng;
	uint8_t *out = bytes;

	for (size_t done = 0; done < size; done += sizeof(uint64_t)) {
		uint64_t word = rng_next(rng);

		memcpy(out + done, &word, MIN(sizeof(word), size - done));
	}
}

static int sim_poll(struct env *env, uint64_t timeout_ns)
{
	struct sim_env *self = sim_env_of(env);
	struct sim *sim = self->sim;
	uint64_t next_ns = env_next_ns(self);

	if (env_next_ns(sim->net) < next_ns) {
		self = sim->net;
		next_ns = env_next_ns(self);
	}
	if (next_ns == ENV_FOREVER && timeout_ns == ENV_FOREVER)
		sim_fail(sim, "%s waits for ever", self->name);
	if (timeout_ns != ENV_FOREVER && next_ns > sim->now_ns + timeout_ns) {
		sim->now_ns += timeout_ns;
		sim->blocked_ns += timeout_ns;
		return 0;
	}
	if (next_ns > sim->now_ns) {
		sim->blocked_ns += next_ns - sim->now_ns;
		sim->now_ns = next_ns;
	}
	env_run(self);
	return 0;
}

static void sim_wake(struct env *env)
{
	struct sim_env *self = sim_env_of(env);

	if (self->wake_task != NULL)
		env->ops->defer(env, self->wake_task);
}

static void sim_on_wake(struct env *env, struct env_task *task)
{
	sim_env_of(env)->wake_task = task;
}

static void sim_timer_set(struct env *env, struct env_timer *timer, uint64_t when_ns)
{
	timers_set(&sim_env_of(env)->timers, timer, when_ns);
}

static void sim_timer_clear(struct env *env, struct env_timer *timer)
{
	timers_clear(&sim_env_of(env)->timers, timer);
}

static void sim_defer(struct env *env, struct env_task *task)
{
	ASSERT(task->run != NULL);
	if (task->is_queued)
		return;
	task->is_queued = true;
	list_add_tail(&sim_env_of(env)->tasks, &task->node);
}

static void sim_undefer(struct env *env, struct env_task *task)
{
	if (!task->is_queued)
		return;
	task->is_queued = false;
	list_del(&task->node);
}

static void sim_blk_declare(struct env *env, void *base, size_t size)
{
}

static void sim_blk_undeclare(struct env *env, void *base)
{
}

const struct env_ops sim_env_ops = {
	.name = "sim",
	.alloc = sim_alloc,
	.free = sim_free,
	.map = sim_map,
	.unmap = sim_unmap,
	.seal = sim_seal,
	.now_ns = sim_now_ns,
	.wall_s = sim_wall_s,
	.random = sim_random,
	.poll = sim_poll,
	.wake = sim_wake,
	.on_wake = sim_on_wake,
	.timer_set = sim_timer_set,
	.timer_clear = sim_timer_clear,
	.defer = sim_defer,
	.undefer = sim_undefer,
	.blk_open = sim_blk_open,
	.blk_close = sim_blk_close,
	.blk_info = sim_blk_info,
	.blk_resize = sim_blk_resize,
	.blk_read = sim_blk_read,
	.blk_write = sim_blk_write,
	.blk_flush = sim_blk_flush,
	.blk_submit = sim_blk_submit,
	.blk_declare = sim_blk_declare,
	.blk_undeclare = sim_blk_undeclare,
	.sock_listen = sim_sock_listen,
	.sock_accept = sim_sock_accept,
	.sock_connect = sim_sock_connect,
	.sock_watch = sim_sock_watch,
	.sock_recv = sim_sock_recv,
	.sock_want = sim_sock_want,
	.sock_send = sim_sock_send,
	.sock_close = sim_sock_close,
	.sock_name = sim_sock_name,
	.sock_adopt = sim_sock_adopt,
	.sock_detach = sim_sock_detach,
	.resolve = sim_resolve,
};
