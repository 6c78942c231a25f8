/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start: run the server. Configuration file, then secrets, then the server: media, shards
 * (recovery), reactors; "ready" is printed when connections are taken. Every failure on the way
 * refuses to start and says what to change.
 *
 * The main thread does nothing of a block's path: it takes signals, and beats. SIGTERM and SIGINT
 * stop the server cleanly: no new connections, what is under way is finished (at most 10 s),
 * buffered blocks are written, shards are left with a footer. A second SIGINT ends the process at
 * once. SIGHUP reads the secrets file and opens media that are away again (start_reload.c). Before
 * it is ready SIGTERM or SIGINT ends it at once: it has promised nothing yet, and what recovery
 * writes the next start can do without.
 *
 * Who watches: systemd where it asks for it, else a parent process (supervise.c), unless
 * --no-supervise.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "server_check.h"
#include "start.h"
#include "tenants_load.h"

#define HEALTH_LOOK_NS (2 * NS_PER_S)

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

static int secrets_read(struct start *start)
{
	char message[512] = "";
	int rc = cmd_tenants_load(start->env, start->options->secrets, &start->tenants, message);

	return rc < 0 ? cmd_fail(rc, "%s", message) : 0;
}

/* --- signals --- */

/* Blocked before any thread is made: all of them have them blocked. */
static int signals_watch(struct start *start)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	start->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (start->signal_fd < 0)
		return cmd_fail(-errno, "cannot watch signals: %s", err_str(errno));
	return 0;
}

static void signal_take(struct start *start, uint32_t number)
{
	if (number == SIGHUP && start->is_stopping)
		return;
	if (number == SIGHUP) {
		if (start->reload.is_begun)
			start_reload_ask(start);
		return;
	}
	if (start->is_stopping && number == SIGINT)
		_exit(EXIT_INTERRUPTED); /* asked twice: the next start recovers */
	start->is_stopping = true;
}

static void signals_wait(struct start *start, int timeout_ms)
{
	struct pollfd fd = { .fd = start->signal_fd, .events = POLLIN };
	struct signalfd_siginfo info;

	if (poll(&fd, 1, timeout_ms) <= 0)
		return;
	while (read(start->signal_fd, &info, sizeof(info)) == sizeof(info))
		signal_take(start, info.ssi_signo);
}

/* While the server stops in another thread: a second SIGINT ends it at once. */
static void *stop_watch(void *ctx)
{
	struct start *start = ctx;

	for (;;)
		signals_wait(start, -1);
	return NULL;
}

/* --- while it starts --- */

static void give_up(void)
{
	log_warn("start given up before it was ready");
	notify_send("STOPPING=1\nSTATUS=start given up");
	cmd_log_end();
	_exit(EXIT_DONE);
}

/* The main thread recovers, touches memory, waits for drives. What it does can be left at any
 * moment, as a crash would. SIGHUP is for the server that will be. */
static void *begin_watch(void *ctx)
{
	struct start *start = ctx;
	struct pollfd fds[] = { { .fd = start->begun_pipe[0], .events = 0 },
				{ .fd = start->signal_fd, .events = POLLIN } };
	struct signalfd_siginfo info;

	for (;;) {
		(void)poll(fds, ARRAY_LEN(fds), -1); /* a signal for others: look again */
		if (fds[0].revents != 0)
			return NULL; /* its other end is closed */
		if (read(start->signal_fd, &info, sizeof(info)) != sizeof(info))
			continue;
		if (info.ssi_signo != SIGHUP)
			give_up();
		start->is_hangup_due = true;
	}
}

static void begin_watch_start(struct start *start)
{
	start->is_begin_watched =
		pipe2(start->begun_pipe, O_CLOEXEC) == 0 &&
		pthread_create(&start->begin_thread, NULL, begin_watch, start) == 0;
	if (!start->is_begin_watched)
		log_warn("signals wait until it is ready");
}

/* From here on signals are the main thread's. */
static void begin_watch_end(struct start *start)
{
	if (!start->is_begin_watched)
		return;
	start->is_begin_watched = false;
	close(start->begun_pipe[1]);
	pthread_join(start->begin_thread, NULL);
	close(start->begun_pipe[0]);
	if (start->is_hangup_due)
		(void)kill(getpid(), SIGHUP); /* again, for who can take it now */
}

/* --- the watchdog --- */

static void beat(struct start *start)
{
	struct heartbeat *heartbeat = start->heartbeat;
	int late;

	/* Partner: pulse_take() of whoever watches. */
	atomic_fetch_add_explicit(&heartbeat->beats[HEARTBEAT_MAIN], 1, memory_order_relaxed);
	if (notify_watchdog_ns() == 0)
		return;
	late = pulse_take(&start->pulse, heartbeat, clock_ns(), start->watchdog_ns / 4);
	if (late < 0)
		notify_send("WATCHDOG=1");
}

static void state_set(struct start *start, enum heartbeat_state state)
{
	/* Partner: pulse_take(). */
	atomic_store_explicit(&start->heartbeat->state, state, memory_order_relaxed);
}

/* --- running --- */

/* Say it when a medium fails, was missing at start, or is back. */
static void health_look(struct start *start)
{
	struct metrics rows[SERVER_REACTOR_MAX];
	uint64_t offline = 0;
	uint32_t count = start->server_opts.reactor_count;

	if (server_get_metrics(start->server, rows, count, start->server_opts.beat_ns) < count)
		return; /* the watchdog's matter */
	for (uint32_t i = 0; i < count; i++)
		offline += rows[i].store_offline;
	if (offline == start->offline_count)
		return;
	start->offline_count = offline;
	if (offline == 0) {
		log_info("server whole again: no shard is offline");
		notify_send("STATUS=serving");
		return;
	}
	log_warn("server degraded: %" PRIu64 " shards offline, their blocks miss", offline);
	notify_send("STATUS=degraded: %" PRIu64 " shards offline", offline);
}

static void serve_loop(struct start *start)
{
	uint64_t pause_ns = start->server_opts.beat_ns;
	uint64_t looked_ns = 0;

	while (!start->is_stopping) {
		beat(start);
		if (clock_ns() - looked_ns >= HEALTH_LOOK_NS) {
			looked_ns = clock_ns();
			health_look(start);
		}
		signals_wait(start, (int)(pause_ns / NS_PER_MS));
	}
}

static void ready(struct start *start, uint64_t begin_ns)
{
	atomic_store_explicit(&start->heartbeat->reactor_count, start->server_opts.reactor_count,
			      memory_order_relaxed);
	state_set(start, HEARTBEAT_READY);
	start_door_open(start);
	if (start_reload_begin(start) < 0)
		log_warn("SIGHUP and reload will not be answered");
	if (start->admin != NULL)
		admin_set_server(start->admin, start->server);
	start_print(start, clock_ns() - begin_ns);
	notify_send("READY=1\nSTATUS=serving");
}

static int stop(struct start *start)
{
	pthread_t thread;
	int rc;

	state_set(start, HEARTBEAT_STOPPING);
	notify_send("STOPPING=1\nSTATUS=finishing what is under way");
	if (pthread_create(&thread, NULL, stop_watch, start) != 0)
		log_warn("a second SIGINT will not be seen");
	if (start->admin != NULL)
		admin_clear_server(start->admin);
	start_reload_end(start);
	start_door_close(start);
	rc = server_stop(start->server);
	if (rc < 0)
		cmd_fail(rc, "the store was not closed cleanly: %s; the next start recovers",
			 err_str(rc));
	return rc;
}

/* Codes that only a listener's address brings about. */
static const char *listen_advice(int rc)
{
	if (rc == -EADDRINUSE)
		return "; 'ss -ltnp' shows who listens there, --listen names another address";
	if (rc == -EADDRNOTAVAIL)
		return "; it is no address of this host: --listen names another, such as "
		       "0.0.0.0:9900";
	return "";
}

/* All of it until there is a server. */
static int begin(struct start *start)
{
	char message[256] = "";
	int rc = secrets_read(start);

	if (rc == 0)
		rc = start_opts_make(start);
	if (rc < 0)
		return rc;
	rc = start_admin_begin(start);
	if (rc < 0)
		return rc;
	rc = server_create(&start->server_opts, &start->server, message);
	if (rc == 0)
		rc = server_start(start->server, message);
	if (rc < 0)
		return cmd_fail(rc, "cannot start: %s%s",
				message[0] != '\0' ? message : err_str(rc), listen_advice(rc));
	return 0;
}

static int run(struct start *start)
{
	uint64_t begin_ns = clock_ns();
	int rc;

	begin_watch_start(start);
	rc = begin(start);
	begin_watch_end(start);
	if (rc < 0)
		return rc;
	ready(start, begin_ns);
	serve_loop(start);
	return stop(start);
}

static int serve(void *ctx, struct heartbeat *heartbeat)
{
	struct start *start = ctx;
	const struct env_posix_opts env_opts = { .io_thread_count = 1, .sock_max = 1 };
	int rc;

	start->heartbeat = heartbeat;
	start->watchdog_ns = notify_watchdog_ns();
	if (start->watchdog_ns == 0 && heartbeat != &start->own_heartbeat)
		start->watchdog_ns = start->options->watchdog;
	log_level_set((enum log_level)start->options->log_level);
	if (signals_watch(start) < 0)
		return EXIT_FAILED;
	cmd_log_begin();
	rc = env_posix_create(&env_opts, &start->env);
	if (rc < 0)
		return cmd_fail(EXIT_FAILED, "cannot begin: %s", err_str(rc));
	rc = run(start);
	admin_stop(&start->admin);
	server_destroy(&start->server);
	tenants_destroy(start->env, &start->tenants);
	env_posix_destroy(&start->env);
	cmd_log_end();
	return rc < 0 ? EXIT_FAILED : EXIT_DONE;
}

int cmd_start(struct options *options, const struct opt_set *set)
{
	struct start start = { .options = options, .signal_fd = -1 };

	if (config_read(options, set) < 0 || cmd_server_check(options) < 0)
		return EXIT_FAILED;
	if (options->supervise != 0 && !notify_is_there())
		return supervise(serve, &start, options->watchdog);
	return serve(&start, &start.own_heartbeat);
}
