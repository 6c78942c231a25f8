/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a server: its threads, and the steps that they take together.
 *
 * Normal path: server_start() makes the threads and has all of them take one step after the other:
 * env, media, shards, reactor. A step is taken by all threads at once and has ended for all before
 * the next begins, so the plan that the main thread makes between two steps (whose shards are
 * where, how much memory) needs no lock: a semaphore stands on either side. Then STEP_RUN: the
 * loops, until server_stop().
 *
 * Failure: the first thread whose step failed has the message; what was done is undone by the same
 * steps backwards. A loop that does not end within STOP_NS is not waited for any longer than twice
 * that: its operations end with their sessions, its shards as after a crash.
 *
 * Threads do not share a cache line that is written while they work: struct reactor_thread is
 * written by its own thread, its mailbox by others, rarely.
 */
#include "server.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/log.h"
#include "../base/text.h"
#include "server_priv.h"

#define STOP_NS (10 * NS_PER_S)
/* Memory mode: a reactor for so much, in which a block may be as large as in all of it. */
#define MEMORY_EACH (16 * GiB)

uint32_t server_reactor_default(const struct server_opts *opts, uint32_t core_count)
{
	if (opts->medium_count > 0)
		return MAX(MIN(MIN(opts->medium_count, 4), core_count / 8), 1);
	return (uint32_t)MAX(MIN(MIN(opts->memory.size / MEMORY_EACH, 4), core_count / 4), 1);
}

int server_say(char *message, int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(message, SERVER_MESSAGE_SIZE, format, args); /* cut off when too long */
	va_end(args);
	return rc;
}

/* --- the steps, each on the reactor's thread --- */

static void beat_cb(struct env_timer *timer)
{
	struct reactor_thread *thread = CONTAINER_OF(timer, struct reactor_thread, beat);
	const struct server_opts *opts = &thread->server->opts;

	/* Partner: who watches; a number that grows, nothing follows from it. */
	atomic_fetch_add_explicit(&opts->beats[thread->index], 1, memory_order_relaxed);
	thread->env->ops->timer_set(thread->env, timer, env_now_ns(thread->env) + opts->beat_ns);
}

static int step_env(struct reactor_thread *thread)
{
	const struct server_opts *opts = &thread->server->opts;
	char message[SERVER_MESSAGE_SIZE] = "";
	int rc;

	if (opts->thread_begin != NULL)
		opts->thread_begin(opts->ctx, thread->index);
	rc = opts->env_create(opts->ctx, thread->index, &thread->env, message);
	if (rc < 0)
		return server_say(thread->message, rc, "reactor %u cannot begin: %.200s",
				  thread->index, message[0] != '\0' ? message : err_str(rc));
	mailbox_init(&thread->mailbox, thread->env);
	return 0;
}

static int step_reactor(struct reactor_thread *thread)
{
	struct server *server = thread->server;
	struct reactor_opts opts = server->opts.reactor;
	char message[SERVER_MESSAGE_SIZE] = "";
	int rc;

	memcpy(opts.server, server->plan.uuid, sizeof(opts.server));
	opts.index = (uint16_t)thread->index;
	opts.reactor_count = (uint16_t)server->reactor_count;
	opts.shards = thread->shards;
	opts.media = thread->media;
	opts.shard_count = thread->shard_count;
	opts.table = server->plan.table;
	opts.table_count = server->plan.table_count;
	opts.block_max = server->plan.block_max;
	opts.has_media = server->opts.medium_count > 0;
	opts.buffer_bytes = server->plan.buffer_bytes;
	opts.mailboxes = server->mailboxes;
	rc = reactor_create(thread->env, &opts, &thread->reactor, message);
	if (rc < 0)
		return server_say(thread->message, rc, "%.200s",
				  message[0] != '\0' ? message : err_str(rc));
	thread->env->ops->seal(thread->env);
	if (server->opts.thread_ready != NULL)
		server->opts.thread_ready(server->opts.ctx, thread->index, thread->env);
	return 0;
}

/* Poll until nothing is under way. False: not within STOP_NS. */
static bool settle(const struct reactor_thread *thread)
{
	struct env *env = thread->env;
	uint64_t deadline_ns = env_now_ns(env) + STOP_NS;

	while (!reactor_is_idle(thread->reactor) && env_now_ns(env) < deadline_ns)
		env->ops->poll(env, 100 * NS_PER_MS);
	return reactor_is_idle(thread->reactor);
}

/* One turn of the loop, and what comes within spin_ns of it. */
static void turn(struct env *env, uint64_t spin_ns)
{
	uint64_t until_ns;

	env->ops->poll(env, ENV_FOREVER);
	if (spin_ns == 0)
		return;
	until_ns = env_now_ns(env) + spin_ns;
	while (env_now_ns(env) < until_ns)
		env->ops->poll(env, 0);
}

static int step_run(struct reactor_thread *thread)
{
	struct server *server = thread->server;
	struct env *env = thread->env;

	if (server->opts.beat_ns > 0) {
		thread->beat.fire = beat_cb;
		beat_cb(&thread->beat);
	}
	reactor_mail(thread->reactor);
	while (!atomic_load_explicit(&server->is_stopping, memory_order_relaxed))
		turn(env, server->opts.spin_ns);
	reactor_finish(thread->reactor);
	if (!settle(thread)) {
		log_warn("reactor %u requests are not done in time: sessions end", thread->index);
		reactor_stop(thread->reactor);
		thread->is_stuck = !settle(thread);
	}
	env->ops->timer_clear(env, &thread->beat);
	return 0;
}

static int step_unenv(struct reactor_thread *thread)
{
	if (thread->env != NULL)
		thread->server->opts.env_destroy(thread->server->opts.ctx, &thread->env);
	return 0;
}

static int step_take(struct reactor_thread *thread)
{
	switch (thread->step) {
	case STEP_ENV:
		return step_env(thread);
	case STEP_MEDIA:
		return media_open(thread, thread->message);
	case STEP_SHARDS:
		return shards_open(thread, thread->message);
	case STEP_REACTOR:
		return step_reactor(thread);
	case STEP_RUN:
		return step_run(thread);
	case STEP_UNREACTOR:
		reactor_destroy(&thread->reactor);
		return 0;
	case STEP_UNSHARDS:
		return shards_close(thread);
	case STEP_UNMEDIA:
		media_close(thread);
		return 0;
	case STEP_UNENV:
		return step_unenv(thread);
	case STEP_QUIT:
	case STEP_COUNT:
		break;
	}
	return 0;
}

static void *thread_main(void *ctx)
{
	struct reactor_thread *thread = ctx;
	bool is_quitting = false;

	while (!is_quitting) {
		while (sem_wait(&thread->go) < 0) /* EINTR */
			;
		is_quitting = thread->step == STEP_QUIT;
		thread->rc = step_take(thread);
		sem_post(&thread->server->done);
	}
	return NULL;
}

/* --- the main thread --- */

static void steps_begin(struct server *server, enum server_step step)
{
	for (uint32_t i = 0; i < server->reactor_count; i++) {
		struct reactor_thread *thread = &server->threads[i];

		if (!thread->is_begun)
			continue;
		thread->step = step;
		thread->rc = 0;
		sem_post(&thread->go);
	}
}

/* The first failure. */
static int steps_end(struct server *server, char *message)
{
	int rc = 0;

	for (uint32_t i = 0; i < server->reactor_count; i++) {
		if (!server->threads[i].is_begun)
			continue;
		while (sem_wait(&server->done) < 0)
			;
	}
	for (uint32_t i = 0; i < server->reactor_count && rc == 0; i++) {
		rc = server->threads[i].rc;
		if (rc < 0 && message != NULL)
			snprintf(message, SERVER_MESSAGE_SIZE, "%s", server->threads[i].message);
	}
	return rc;
}

static int steps_take(struct server *server, enum server_step step, char *message)
{
	steps_begin(server, step);
	return steps_end(server, message);
}

static int threads_begin(struct server *server, char *message)
{
	for (uint32_t i = 0; i < server->reactor_count; i++) {
		struct reactor_thread *thread = &server->threads[i];
		int rc = -pthread_create(&thread->thread, NULL, thread_main, thread);

		if (rc < 0)
			return server_say(message, rc, "cannot make %u threads: %s",
					  server->reactor_count, err_str(rc));
		thread->is_begun = true;
	}
	return 0;
}

static int undo(struct server *server)
{
	int rc;

	(void)steps_take(server, STEP_UNREACTOR, NULL);
	rc = steps_take(server, STEP_UNSHARDS, NULL);
	(void)steps_take(server, STEP_UNMEDIA, NULL);
	server_return_fini(server);
	(void)steps_take(server, STEP_UNENV, NULL);
	(void)steps_take(server, STEP_QUIT, NULL);
	for (uint32_t i = 0; i < server->reactor_count; i++) {
		if (server->threads[i].is_begun)
			pthread_join(server->threads[i].thread, NULL);
		server->threads[i].is_begun = false;
	}
	return rc;
}

uint32_t server_weight(uint64_t capacity)
{
	uint64_t quarters = MAX(capacity / (SERVER_WEIGHT_UNIT / 4), 4);
	uint32_t weight;

	if (quarters >= 4u * SERVER_WEIGHT_MAX)
		return SERVER_WEIGHT_MAX;
	for (weight = 1; quarters > 7; quarters /= 2)
		weight *= 2;
	/* quarters are 4 to 7 of this weight's: the steps 1, 1.5 and 2 lie at 4, 6 and 8. */
	if (quarters == 7 || (weight == 1 && quarters == 6))
		return 2 * weight;
	return quarters >= 5 ? weight * 3 / 2 : weight;
}

/* Its share of the places is that of its room, whether or not all of its media are here today. */
static void weight_choose(struct server *server)
{
	struct reactor_opts *opts = &server->opts.reactor;
	uint64_t here = server->plan.table_count - server->missing_count;

	if (opts->weight == 0)
		opts->weight =
			server_weight(opts->capacity / MAX(here, 1) * server->plan.table_count);
}

/* WELCOME says how much the whole server holds. */
static void capacity_sum(struct server *server)
{
	for (uint32_t i = 0; i < server->reactor_count; i++) {
		const struct reactor_thread *thread = &server->threads[i];

		for (uint32_t j = 0; j < thread->shard_count; j++) {
			struct shard_stats stats;

			if (thread->shards[j] == NULL)
				continue;
			shard_get_stats(thread->shards[j], &stats);
			server->opts.reactor.capacity += stats.capacity;
		}
	}
}

static int plan_make(struct server *server, char *message)
{
	const struct server_opts *opts = &server->opts;
	struct server_plan *plan = &server->plan;
	struct env *env = server->threads[0].env;
	int rc;

	if (opts->medium_count == 0)
		env->ops->random(env, plan->uuid, sizeof(plan->uuid));
	rc = server_plan_shards(opts, plan, message);
	if (rc == 0)
		rc = server_plan_memory(opts, plan, message);
	atomic_store_explicit(&server->missing_count, plan->missing_count, memory_order_relaxed);
	return rc;
}

static int start_steps(struct server *server, char *message)
{
	int rc = steps_take(server, STEP_ENV, message);

	if (rc == 0)
		rc = steps_take(server, STEP_MEDIA, message);
	if (rc == 0)
		rc = plan_make(server, message);
	if (rc == 0)
		rc = steps_take(server, STEP_SHARDS, message);
	if (rc < 0)
		return rc;
	capacity_sum(server);
	weight_choose(server);
	server->is_direct = true;
	for (uint32_t i = 0; i < server->opts.medium_count; i++)
		server->is_direct &= server->plan.is_missing[i] || server->plan.media[i].is_direct;
	return steps_take(server, STEP_REACTOR, message);
}

int server_start(struct server *server, char message_out[SERVER_MESSAGE_SIZE])
{
	int rc;

	CHECK_OBJ(server, SERVER_MAGIC);
	ASSERT(!server->is_running);
	message_out[0] = '\0';
	rc = threads_begin(server, message_out);
	if (rc == 0)
		rc = start_steps(server, message_out);
	if (rc < 0) {
		(void)undo(server);
		return rc;
	}
	steps_begin(server, STEP_RUN);
	server->is_running = true;
	return 0;
}

int server_stop(struct server *server)
{
	CHECK_OBJ(server, SERVER_MAGIC);
	if (!server->is_running)
		return 0;
	log_info("server stopping");
	atomic_store_explicit(&server->is_stopping, true, memory_order_relaxed);
	for (uint32_t i = 0; i < server->reactor_count; i++)
		server->threads[i].env->ops->wake(server->threads[i].env);
	(void)steps_end(server, NULL);
	pthread_mutex_lock(&server->query_lock);
	server->is_running = false;
	pthread_mutex_unlock(&server->query_lock);
	return undo(server);
}

/* --- create and destroy --- */

static int opts_check(const struct server_opts *opts, char *message)
{
	if (opts->medium_count > SERVER_MEDIUM_MAX)
		return server_say(message, -EINVAL, "%u media: a server has at most %u",
				  opts->medium_count, SERVER_MEDIUM_MAX);
	if (opts->reactor_count == 0 || opts->reactor_count > SERVER_REACTOR_MAX)
		return server_say(message, -EINVAL, "%u reactors: a server has 1 to %u",
				  opts->reactor_count, SERVER_REACTOR_MAX);
	for (uint32_t i = 0; i < opts->medium_count; i++) {
		for (uint32_t j = 0; j < i; j++) {
			if (strcmp(opts->media[i], opts->media[j]) == 0)
				return server_say(message, -EINVAL,
						  "%s is named twice: name each medium once",
						  opts->media[i]);
		}
	}
	return 0;
}

int server_create(const struct server_opts *opts, struct server **server_out,
		  char message_out[SERVER_MESSAGE_SIZE])
{
	struct server *server;
	int rc;

	ASSERT(*server_out == NULL);
	message_out[0] = '\0';
	rc = opts_check(opts, message_out);
	if (rc < 0)
		return rc;
	server = calloc(1, sizeof(*server));
	if (server == NULL)
		return -ENOMEM;
	*server = (struct server) {
		.magic = SERVER_MAGIC,
		.opts = *opts,
		.reactor_count = opts->reactor_count,
	};
	server->threads = aligned_alloc(64, opts->reactor_count * sizeof(server->threads[0]));
	if (server->threads == NULL) {
		free(server);
		return -ENOMEM;
	}
	memset(server->threads, 0, opts->reactor_count * sizeof(server->threads[0]));
	sem_init(&server->done, 0, 0);
	pthread_mutex_init(&server->query_lock, NULL);
	pthread_mutex_init(&server->return_lock, NULL);
	*server_out = server;
	for (uint32_t i = 0; i < server->reactor_count; i++) {
		struct reactor_thread *thread = &server->threads[i];

		thread->server = server;
		thread->index = i;
		sem_init(&thread->go, 0, 0);
		server->mailboxes[i] = &thread->mailbox;
		rc = server_query_init(thread);
		if (rc < 0) {
			server_destroy(server_out);
			return rc;
		}
	}
	return 0;
}

void server_destroy(struct server **server_ptr)
{
	struct server *server = *server_ptr;

	if (server == NULL)
		return;
	CHECK_OBJ(server, SERVER_MAGIC);
	(void)server_stop(server); /* who wants the result has asked before */
	for (uint32_t i = 0; i < server->reactor_count; i++)
		server_query_fini(&server->threads[i]);
	pthread_mutex_destroy(&server->query_lock);
	pthread_mutex_destroy(&server->return_lock);
	sem_destroy(&server->done);
	server->magic = 0;
	free(server->threads);
	free(server);
	*server_ptr = NULL;
}

/* --- what it is --- */

void server_get_info(const struct server *server, struct server_info *info_out)
{
	CHECK_OBJ(server, SERVER_MAGIC);
	*info_out = (struct server_info) {
		.reactor_count = server->reactor_count,
		.shard_count = server->plan.table_count,
		.shards_missing =
			atomic_load_explicit(&server->missing_count, memory_order_relaxed),
		.block_max = server->plan.block_max,
		.weight = server->opts.reactor.weight,
		.buffer_bytes = server->opts.medium_count > 0
					? server->plan.buffer_bytes
					: server->plan.memory.buffers / server->reactor_count,
		.is_direct = server->is_direct,
		.memory = server->plan.memory,
	};
	memcpy(info_out->uuid, server->plan.uuid, sizeof(server->plan.uuid));
}

void server_listener_name(const struct server *server, char *buf, size_t buf_size)
{
	CHECK_OBJ(server, SERVER_MAGIC);
	ASSERT(server->is_running);
	reactor_listener_name(server->threads[0].reactor, 0, buf, buf_size);
}

int server_door_name(const struct server *server, uint32_t reactor, char *buf, size_t buf_size)
{
	CHECK_OBJ(server, SERVER_MAGIC);
	ASSERT(server->is_running);
	ASSERT(reactor < server->reactor_count);
	return reactor_door_name(server->threads[reactor].reactor, buf, buf_size);
}

uint64_t server_beats(const struct server *server, uint32_t reactor)
{
	CHECK_OBJ(server, SERVER_MAGIC);
	ASSERT(reactor < server->reactor_count);
	ASSERT(server->opts.beats != NULL);
	return atomic_load_explicit(&server->opts.beats[reactor], memory_order_relaxed);
}
