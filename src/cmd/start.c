/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start: run the server. Configuration file, then secrets, then medium and shard (recovery), then
 * the reactor; "ready" is printed when connections are taken. Every failure on the way refuses to
 * start and says what to change. SIGTERM and SIGINT stop it cleanly: no new connections, what is
 * under way is finished (at most STOP_NS), buffered blocks are written, the shard is left with a
 * footer.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/text.h"
#include "../env/choose.h"
#include "../server/reactor.h"
#include "../wire/wire.h"
#include "cmd.h"

#define STOP_NS (10 * NS_PER_S)

struct start {
	struct options *options;
	struct env *env;
	struct tenants *tenants;
	struct medium *medium;
	struct medium_info info;
	struct shard *shard;
	struct reactor *reactor;
	struct env_posix_watch signals;
	char io_message[ENV_TEXT_SIZE]; /* why io_uring is not used, if so */
	bool is_stopping;
	bool is_stuck; /* the store does not let go of something: leave it as after a crash */
};

static uint64_t buffers_default(void)
{
	uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	return round_down(MAX(256 * MiB, MIN(memory / 10, GiB)), MiB);
}

/* --- configuration --- */

static int config_read(struct options *options, const struct opt_set *set)
{
	char path[OPT_TEXT_MAX + 16];
	char dir[OPT_TEXT_MAX];
	int rc;

	if (options->config[0] != '\0')
		return cmd_config_load(options->config, options, set);
	rc = cmd_config_dir(options, dir, sizeof(dir));
	if (rc < 0)
		return rc;
	snprintf(path, sizeof(path), "%s/server.yaml", dir);
	if (access(path, R_OK) < 0)
		return cmd_fail(-errno,
				"cannot read %s: %s; 'ctxkv setup' writes it, --config FILE "
				"names another",
				path, err_str(errno));
	return cmd_config_load(path, options, set);
}

static int config_check(const struct options *options)
{
	if (options->secrets[0] == '\0')
		return cmd_fail(-EINVAL, "no secrets file is named; 'ctxkv setup' makes one, "
					 "--secrets FILE names one");
	if ((options->media[0] == '\0') == (options->memory == 0))
		return cmd_fail(-EINVAL,
				"name a medium (media) or memory mode (memory), one of them");
	if (strchr(options->media, ',') != NULL)
		return cmd_fail(-EINVAL, "several media come with a later version; name one");
	return 0;
}

static int secrets_read(struct start *start)
{
	const char *path = start->options->secrets;
	char message[256] = "";
	struct stat st;
	char *text;
	int rc;

	if (stat(path, &st) == 0 && (st.st_mode & 077) != 0)
		return cmd_fail(-EPERM, "%s can be read by others: chmod 600 %s", path, path);
	text = cmd_read_file(path);
	if (text == NULL)
		return cmd_fail(-errno, "cannot read %s: %s", path, err_str(errno));
	rc = tenants_create(start->env, text, &start->tenants, message);
	explicit_bzero(text, strlen(text));
	free(text);
	return rc < 0 ? cmd_fail(rc, "%s: %s", path, message) : 0;
}

/* --- store and reactor --- */

static struct shard_opts shard_opts_of(const struct options *options)
{
	return (struct shard_opts) {
		.index_entries = options->index_entries,
		.queue_depth = (uint32_t)options->queue_depth,
		.put_max = (uint32_t)options->operations_max,
		.write_size = options->write_size,
		.group_delay_ns = options->group_delay,
		.verify = (enum store_verify)options->verify,
	};
}

static int shard_start(struct start *start, uint64_t incarnation)
{
	const struct options *options = start->options;
	const struct shard_opts opts = shard_opts_of(options);
	const struct shard_memory memory = {
		.size = options->memory,
		.segment_room = options->segment_size,
		.block_max = options->block_max,
	};
	bool is_memory = options->media[0] == '\0';
	char message[256] = "";
	int rc;

	if (!is_memory) {
		rc = medium_open(start->env, options->media, incarnation, &start->medium, message);
		if (rc < 0)
			return cmd_fail(rc, "%s", message[0] != '\0' ? message : err_str(rc));
		medium_get_info(start->medium, &start->info);
	} else {
		start->env->ops->random(start->env, start->info.server, 16);
	}
	rc = shard_open(start->env, start->medium, 0, is_memory ? &memory : NULL, &opts,
			&start->shard);
	if (rc < 0)
		return cmd_fail(rc, "cannot open the store: %s", err_str(rc));
	return 0;
}

static int reactor_start(struct start *start, uint64_t incarnation)
{
	const struct options *options = start->options;
	const struct reactor_listen listen = { &xprt_tcp, options->listen };
	struct reactor_opts opts;
	char message[256] = "";
	char need[32];
	int rc;

	reactor_opts_init(&opts);
	memcpy(opts.server, start->info.server, sizeof(opts.server));
	opts.incarnation = incarnation;
	opts.weight = (uint32_t)options->weight;
	opts.reactor_count = 1;
	opts.shards = &start->shard;
	opts.shard_count = 1;
	opts.tenants = start->tenants;
	opts.listens = &listen;
	opts.listen_count = 1;
	opts.verify = (enum store_verify)options->verify;
	opts.buffer_bytes = options->buffers != 0 ? options->buffers : buffers_default();
	opts.session_max = (uint32_t)options->sessions_max;
	opts.lane_max = (uint32_t)options->lanes_max;
	opts.request_max = (uint32_t)options->requests_max;
	opts.operation_max = (uint32_t)options->operations_max;
	opts.pending_max = (uint32_t)options->pending_max;
	opts.hello_ns = options->hello_timeout;
	opts.stall_ns = options->stall_timeout;
	opts.idle_ns = options->idle_timeout;
	opts.gpu_cents = options->gpu_price;
	if (opts.buffer_bytes / 4 < shard_block_max(start->shard))
		return cmd_fail(-EINVAL,
				"buffers must be at least %s: four times the largest block",
				text_format_size(need, sizeof(need),
						 4 * (uint64_t)shard_block_max(start->shard)));
	rc = reactor_create(start->env, &opts, &start->reactor, message);
	if (rc < 0)
		return cmd_fail(rc, "cannot start: %s", message[0] != '\0' ? message : err_str(rc));
	return 0;
}

static void memory_print(const struct start *start)
{
	struct shard_stats stats;
	char all[32];
	char shard[32];
	char index[32];
	char buffers[32];
	uint64_t buffer_bytes =
		start->options->buffers != 0 ? start->options->buffers : buffers_default();

	shard_get_stats(start->shard, &stats);
	printf("memory     %s: store %s (of it index %s for %" PRIu64 " blocks), buffers %s for "
	       "blocks under way, the rest for sessions and operations\n",
	       text_format_size(all, sizeof(all), stats.memory_bytes + buffer_bytes),
	       text_format_size(shard, sizeof(shard), stats.memory_bytes),
	       text_format_size(index, sizeof(index), stats.index_bytes), stats.index_entries,
	       text_format_size(buffers, sizeof(buffers), buffer_bytes));
}

static void ready_print(const struct start *start, uint64_t begin_ns)
{
	static const char *const verify[] = { "none", "medium", "all" };
	struct shard_stats stats;
	char back_end[ENV_TEXT_SIZE];
	char name[128];
	char buf[3][32];

	shard_get_stats(start->shard, &stats);
	reactor_listener_name(start->reactor, 0, name, sizeof(name));
	printf("store      %s: %s, %" PRIu64 " blocks (%s) here, largest block %s\n",
	       start->medium != NULL ? start->options->media : "memory",
	       text_format_size(buf[0], 32, stats.capacity), stats.block_count,
	       text_format_size(buf[1], 32, stats.block_bytes),
	       text_format_size(buf[2], 32, shard_block_max(start->shard)));
	printf("back end   %s%s%s%s%s, verify %s\n", env_describe(start->env, back_end),
	       start->io_message[0] != '\0' ? " (" : "", start->io_message,
	       start->io_message[0] != '\0' ? ")" : "",
	       start->medium != NULL && !start->info.is_direct ? " without direct I/O" : "",
	       verify[start->options->verify]);
	memory_print(start);
	printf("ready      %s in %s, recovery %s\n", name,
	       text_format_duration(buf[0], 32, env_now_ns(start->env) - begin_ns),
	       text_format_duration(buf[1], 32, stats.recovery_ns));
	fflush(stdout);
}

/* --- running and stopping --- */

static void signal_ready(struct env_posix_watch *watch)
{
	struct start *start = CONTAINER_OF(watch, struct start, signals);
	struct signalfd_siginfo info;

	if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (start->is_stopping && info.ssi_signo == SIGINT)
		_exit(EXIT_INTERRUPTED); /* asked twice: the next start recovers */
	start->is_stopping = true;
}

static int signals_watch(struct start *start)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	start->signals.ready = signal_ready;
	start->signals.fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (start->signals.fd < 0)
		return cmd_fail(-errno, "cannot watch signals: %s", err_str(errno));
	return env_posix_watch_add(start->env, &start->signals);
}

/* Poll until nothing is under way. False: not within STOP_NS. */
static bool settle(struct start *start)
{
	uint64_t deadline_ns = env_now_ns(start->env) + STOP_NS;

	while (!reactor_is_idle(start->reactor) && env_now_ns(start->env) < deadline_ns)
		start->env->ops->poll(start->env, 100 * NS_PER_MS);
	return reactor_is_idle(start->reactor);
}

static void serve(struct start *start)
{
	while (!start->is_stopping)
		start->env->ops->poll(start->env, ENV_FOREVER);
	log_info("server stopping");
	reactor_finish(start->reactor);
	if (settle(start))
		return;
	log_warn("requests are not done in time: sessions end");
	reactor_stop(start->reactor);
	start->is_stuck = !settle(start);
}

static int start_run(struct start *start)
{
	uint64_t begin_ns = env_now_ns(start->env);
	uint64_t incarnation;
	int rc;

	rc = secrets_read(start);
	if (rc < 0)
		return rc;
	rc = signals_watch(start);
	if (rc < 0)
		return rc;
	start->env->ops->random(start->env, &incarnation, sizeof(incarnation));
	rc = shard_start(start, incarnation);
	if (rc < 0)
		return rc;
	rc = reactor_start(start, incarnation);
	if (rc < 0)
		return rc;
	start->env->ops->seal(start->env);
	ready_print(start, begin_ns);
	serve(start);
	return 0;
}

/* Ends what start_run() began, in the reverse order. */
static int start_end(struct start *start)
{
	int rc = 0;

	reactor_destroy(&start->reactor);
	if (start->shard != NULL)
		rc = shard_close(&start->shard, start->is_stuck);
	if (rc < 0)
		cmd_fail(rc, "the store was not closed cleanly: %s; the next start recovers",
			 err_str(rc));
	if (start->medium != NULL)
		medium_close(&start->medium);
	if (start->tenants != NULL)
		tenants_destroy(start->env, &start->tenants);
	if (start->signals.ready != NULL)
		close(start->signals.fd);
	env_close(&start->env);
	return rc;
}

int cmd_start(struct options *options, const struct opt_set *set)
{
	struct start start = { .options = options };
	struct env_posix_opts env_opts;
	int rc;

	if (config_read(options, set) < 0 || config_check(options) < 0)
		return EXIT_FAILED;
	log_level_set((enum log_level)options->log_level);
	cmd_log_limit();
	env_opts = (struct env_posix_opts) {
		.io_thread_count = (uint32_t)options->io_threads,
		.sock_max = (uint32_t)(options->sessions_max * 4 + options->pending_max + 8),
		.has_huge_pages = options->huge_pages != 0,
	};
	rc = env_open((enum env_choice)options->io, &env_opts, &start.env, start.io_message);
	if (rc < 0)
		return cmd_fail(EXIT_FAILED, "cannot begin: %s",
				start.io_message[0] != '\0' ? start.io_message : err_str(rc));
	rc = start_run(&start);
	if (start_end(&start) < 0)
		rc = -EIO;
	return rc < 0 ? EXIT_FAILED : EXIT_DONE;
}
