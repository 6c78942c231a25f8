/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start's options as the server wants them: media cut apart, CPUs counted, limits, and how each
 * reactor gets its env. What nobody chose is chosen for a machine whose cores and memory belong to
 * an engine: the options' texts say why.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/text.h"
#include "start.h"

/* --- lists --- */

/* The paths point into start->media. */
static int media_cut(struct start *start)
{
	struct server_opts *opts = &start->server_opts;
	int count;

	snprintf(start->media, sizeof(start->media), "%s", start->options->media);
	count = cmd_list_cut(start->media, opts->media, SERVER_MEDIUM_MAX);
	if (count < 0)
		return cmd_fail(count, "a server has at most %d media", SERVER_MEDIUM_MAX);
	opts->medium_count = (uint32_t)count;
	return 0;
}

/* "4" or "0-3". */
static int cpus_add(struct start *start, const char *one)
{
	char text[32];
	char *rest = text;
	uint64_t first;
	uint64_t last;

	snprintf(text, sizeof(text), "%s", one);
	if (text_parse_u64(strsep(&rest, "-"), &first) < 0)
		return -EINVAL;
	last = first;
	if (rest != NULL && text_parse_u64(rest, &last) < 0)
		return -EINVAL;
	for (; first <= last; first++) {
		if (first >= CPU_SETSIZE || start->cpu_count == SERVER_REACTOR_MAX)
			return -ERANGE;
		start->cpus[start->cpu_count++] = (uint32_t)first;
	}
	return 0;
}

static int cpus_parse(struct start *start)
{
	char text[OPT_TEXT_MAX];
	const char *items[SERVER_REACTOR_MAX];
	int count;

	snprintf(text, sizeof(text), "%s", start->options->cpus);
	count = cmd_list_cut(text, items, SERVER_REACTOR_MAX);
	for (int i = 0; i < MAX(count, 1); i++) {
		if (count < 0 || (count > 0 && cpus_add(start, items[i]) < 0))
			return cmd_fail(-EINVAL, "'%s' is no list of CPUs: 0-3,8 is one",
					start->options->cpus);
	}
	for (uint32_t i = 0; i < start->cpu_count; i++) {
		if (!CPU_ISSET(start->cpus[i], &start->all_cpus))
			return cmd_fail(-EINVAL, "CPU %u is not there, or not for this process",
					start->cpus[i]);
	}
	return 0;
}

static int reactors_choose(struct start *start)
{
	struct server_opts *opts = &start->server_opts;

	opts->reactor_count = (uint32_t)start->options->reactors;
	if (opts->reactor_count == 0) {
		opts->reactor_count =
			server_reactor_default(opts, (uint32_t)CPU_COUNT(&start->all_cpus));
		if (start->cpu_count != 0)
			opts->reactor_count = MIN(opts->reactor_count, start->cpu_count);
	}
	if (start->cpu_count != 0 && start->cpu_count < opts->reactor_count)
		return cmd_fail(-EINVAL, "%u CPUs are named for %u reactors: name one for each",
				start->cpu_count, opts->reactor_count);
	return 0;
}

/* --- memory of the machine --- */

/* A limit of this process's control group, as the file says; UINT64_MAX: none. */
static uint64_t cgroup_limit(const char *path)
{
	char *text = cmd_read_file(path);
	uint64_t limit = UINT64_MAX;

	if (text == NULL)
		return UINT64_MAX;
	text[strcspn(text, "\n")] = '\0';
	if (text_parse_u64(text, &limit) < 0)
		limit = UINT64_MAX; /* "max" */
	free(text);
	return limit;
}

/* What the process may have: the machine's, or less where its control group says so. */
static uint64_t ram_size(void)
{
	uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	char path[OPT_TEXT_MAX + 64];
	char *groups = cmd_read_file("/proc/self/cgroup");
	char *own = groups != NULL ? strstr(groups, "0::") : NULL;

	ram = MIN(ram, cgroup_limit("/sys/fs/cgroup/memory.max"));
	if (own != NULL) {
		own[strcspn(own, "\n")] = '\0';
		snprintf(path, sizeof(path), "/sys/fs/cgroup%.500s/memory.max", own + 3);
		ram = MIN(ram, cgroup_limit(path));
	}
	free(groups);
	return ram;
}

/* --- what each reactor is made with --- */

static int env_make(void *ctx, uint32_t index, struct env **env_out, char message_out[256])
{
	struct start *start = ctx;
	struct env_posix_opts opts = start->env_opts;
	char *why;
	int rc;

	if (index == SERVER_ENV_RECOVERY) {
		opts.io_thread_count = 1;
		opts.sock_max = 1;
		return env_open(ENV_CHOICE_POSIX, &opts, env_out, message_out);
	}
	why = start->io_message[index];
	rc = env_open((enum env_choice)start->options->io, &opts, env_out, why);
	if (rc < 0)
		snprintf(message_out, 256, "%s", why);
	return rc;
}

static void env_end(void *ctx, struct env **env)
{
	(void)ctx;
	env_close(env);
}

static void thread_ready(void *ctx, uint32_t index, struct env *env)
{
	struct start *start = ctx;

	(void)env_describe(env, start->back_end[index]);
}

/* Pinned before it touches memory: what it touches first is near it. */
static void thread_begin(void *ctx, uint32_t index)
{
	const struct start *start = ctx;
	char name[16];
	cpu_set_t set;

	snprintf(name, sizeof(name), "reactor %u", index);
	pthread_setname_np(pthread_self(), name);
	if (start->cpu_count == 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(start->cpus[index], &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		log_warn("reactor %u cannot be pinned to CPU %u: %s", index, start->cpus[index],
			 err_str(errno));
}

/* --- all of it --- */

static void limits_set(struct start *start)
{
	const struct options *options = start->options;
	struct reactor_opts *opts = &start->server_opts.reactor;

	opts->weight = (uint32_t)options->weight;
	opts->tls = (enum reactor_tls)options->tls;
	opts->verify = (enum store_verify)options->verify;
	opts->buffer_bytes = options->buffers;
	opts->session_max = (uint32_t)options->sessions_max;
	opts->lane_max = (uint32_t)options->lanes_max;
	opts->request_max = (uint32_t)options->requests_max;
	opts->operation_max = (uint32_t)options->operations_max;
	opts->pending_max = (uint32_t)options->pending_max;
	opts->hello_ns = options->hello_timeout;
	opts->stall_ns = options->stall_timeout;
	opts->idle_ns = options->idle_timeout;
	opts->budget_ns = options->budget_max;
	opts->gpu_cents = options->gpu_price;
	if (start->watchdog_ns != 0)
		opts->stall_ms = (uint32_t)(watchdog_bound_ns(start->watchdog_ns) / NS_PER_MS);
	start->server_opts.shard = (struct shard_opts) {
		.index_entries = options->index_entries,
		.queue_depth = (uint32_t)options->queue_depth,
		.put_max = (uint32_t)options->operations_max,
		.write_size = options->write_size,
		.group_delay_ns = options->group_delay,
		.io_error_max = (uint32_t)options->io_errors_max,
		.verify = (enum store_verify)options->verify,
		.reinsert_hits = (uint32_t)options->reinsert_hits,
		.reinsert_age = (uint32_t)options->reinsert_age,
		.reinsert_share = (uint32_t)options->reinsert_share,
		.write_budget = options->write_budget,
	};
	start->server_opts.memory = (struct shard_memory) {
		.size = options->memory,
		.segment_room = options->segment_size,
		.block_max = options->block_max,
	};
}

int start_opts_plan(struct start *start)
{
	const struct options *options = start->options;
	struct server_opts *opts = &start->server_opts;
	int rc;

	reactor_opts_init(&opts->reactor);
	limits_set(start);
	if (sched_getaffinity(0, sizeof(start->all_cpus), &start->all_cpus) < 0)
		return cmd_fail(-errno, "cannot see the CPUs: %s", err_str(errno));
	rc = media_cut(start);
	if (rc == 0)
		rc = cpus_parse(start);
	if (rc == 0)
		rc = reactors_choose(start);
	if (rc < 0)
		return rc;
	start->listens[0] =
		(struct reactor_listen) { .ops = &xprt_tcp, .address = options->listen };
	opts->reactor.listens = start->listens;
	opts->reactor.listen_count = 1;
	opts->ram_bytes = ram_size();
	opts->has_degraded = options->degraded != 0;
	return 0;
}

int start_opts_make(struct start *start)
{
	const struct options *options = start->options;
	struct server_opts *opts = &start->server_opts;
	int rc = start_opts_plan(start);

	if (rc < 0)
		return rc;
	start->env->ops->random(start->env, &opts->reactor.incarnation,
				sizeof(opts->reactor.incarnation));
	opts->reactor.tenants = start->tenants;
	rc = start_door_plan(start);
	if (rc < 0)
		return rc;
	opts->spin_ns = options->spin;
	opts->beats = start->heartbeat->beats;
	opts->beat_ns = (start->watchdog_ns != 0 ? start->watchdog_ns : options->watchdog) / 8;
	opts->env_create = env_make;
	opts->env_destroy = env_end;
	opts->thread_begin = thread_begin;
	opts->thread_ready = thread_ready;
	opts->ctx = start;
	start->env_opts = (struct env_posix_opts) {
		.io_thread_count = (uint32_t)options->io_threads,
		.sock_max = (uint32_t)(options->sessions_max * options->lanes_max +
				       2 * options->pending_max + 128),
		.pool_cpus = start->cpu_count != 0 ? &start->all_cpus : NULL,
		.has_huge_pages = options->huge_pages != 0,
		.share_max = options->shm_memory_max / opts->reactor_count,
	};
	return 0;
}
