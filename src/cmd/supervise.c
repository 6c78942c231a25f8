/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small parent process of `start`, for where no systemd watches.
 *
 * Normal path: the server is a child in a process group of its own, so that Ctrl-C reaches it once,
 * from here. The parent waits for signals, and looks at the heartbeat four times a timeout.
 * SIGTERM, SIGINT and SIGHUP are passed on. The child ends by itself: so does the parent, with its
 * code.
 *
 * Failure: the child stands still: SIGKILL, a line that says who stood still, and a new child. It
 * dies by a signal (a panic, the kernel out of memory): a new child. The pause before it doubles
 * from 1 s to 30 s while servers do not stay ready for a minute. Asked to stop meanwhile: no new
 * one. The parent dies: the child is told by SIGTERM and stops in order.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../base/log.h"
#include "../base/text.h"
#include "clock.h"
#include "cmd.h"
#include "supervise.h"

#define PAUSE_MIN_NS NS_PER_S
#define PAUSE_MAX_NS (30 * NS_PER_S)
#define STEADY_NS    (60 * NS_PER_S) /* ready for so long: what was before is forgotten */

struct watch {
	int (*serve)(void *ctx, struct heartbeat *heartbeat);
	void *ctx;
	uint64_t timeout_ns;
	struct heartbeat *heartbeat;
	struct pulse pulse;
	sigset_t signals;
	sigset_t before; /* mask of signals as it was */
	pid_t child;
	uint64_t begun_ns;
	uint64_t pause_ns;
	uint32_t stop_count; /* SIGTERM or SIGINT seen */
};

uint64_t watchdog_bound_ns(uint64_t timeout_ns)
{
	return timeout_ns + timeout_ns / 2;
}

int pulse_take(struct pulse *pulse, const struct heartbeat *heartbeat, uint64_t now_ns,
	       uint64_t timeout_ns)
{
	uint32_t count = atomic_load_explicit(&heartbeat->reactor_count, memory_order_relaxed);
	int late = -1;

	if (atomic_load_explicit(&heartbeat->state, memory_order_relaxed) != HEARTBEAT_READY) {
		pulse->is_begun = false;
		return -1;
	}
	for (uint32_t i = 0; i <= SERVER_REACTOR_MAX; i++) {
		uint64_t beats = atomic_load_explicit(&heartbeat->beats[i], memory_order_relaxed);

		if (i >= count && i != HEARTBEAT_MAIN)
			continue;
		if (!pulse->is_begun || beats != pulse->beats[i])
			pulse->seen_ns[i] = now_ns;
		else if (now_ns - pulse->seen_ns[i] >= timeout_ns)
			late = (int)i;
		pulse->beats[i] = beats;
	}
	pulse->is_begun = true;
	return late;
}

/* --- the child --- */

static int child_begin(struct watch *watch)
{
	pid_t parent = getpid();
	int code;

	memset(watch->heartbeat, 0, sizeof(*watch->heartbeat));
	watch->pulse = (struct pulse) { 0 };
	watch->begun_ns = clock_ns();
	watch->child = fork();
	if (watch->child < 0)
		return cmd_fail(-errno, "cannot make the server's process: %s", err_str(errno));
	if (watch->child > 0) {
		setpgid(watch->child, watch->child); /* whoever is first */
		return 0;
	}
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(EXIT_FAILED); /* it died before it could be told */
	sigprocmask(SIG_SETMASK, &watch->before, NULL);
	code = watch->serve(watch->ctx, watch->heartbeat);
	fflush(NULL);
	_exit(code);
}

/* True: it has ended by itself, *code_out is what to end with. */
static bool child_ended(struct watch *watch, int status, int *code_out)
{
	watch->child = 0;
	if (WIFEXITED(status)) {
		*code_out = WEXITSTATUS(status);
		return true;
	}
	if (watch->stop_count > 0) {
		*code_out = 128 + WTERMSIG(status);
		return true;
	}
	if (clock_ns() - watch->begun_ns >= STEADY_NS)
		watch->pause_ns = PAUSE_MIN_NS;
	log_error("server ended by signal %d: starting again in %u s", WTERMSIG(status),
		  (unsigned)(watch->pause_ns / NS_PER_S));
	return false;
}

static void child_check(struct watch *watch)
{
	int late = pulse_take(&watch->pulse, watch->heartbeat, clock_ns(), watch->timeout_ns);
	char who[32] = "main thread";
	char since[32];

	if (late < 0 || watch->child == 0)
		return;
	if (late != HEARTBEAT_MAIN)
		snprintf(who, sizeof(who), "reactor %d", late);
	log_error("%s has stood still for %s: server killed", who,
		  text_format_duration(since, sizeof(since), watch->timeout_ns));
	kill(watch->child, SIGKILL);
}

/* --- the parent --- */

static void signal_take(struct watch *watch, int number)
{
	if (number == SIGTERM || number == SIGINT)
		watch->stop_count++;
	if (watch->child > 0)
		kill(watch->child, number);
}

/* The next signal, or none within wait_ns: 0. */
static int signal_wait(const struct watch *watch, uint64_t wait_ns)
{
	const struct timespec wait = { (time_t)(wait_ns / NS_PER_S), (long)(wait_ns % NS_PER_S) };
	int number = sigtimedwait(&watch->signals, NULL, &wait);

	return number < 0 ? 0 : number;
}

/* Until a new child is due; true: asked to stop meanwhile. */
static bool pause_before(struct watch *watch)
{
	uint64_t until_ns = clock_ns() + watch->pause_ns;

	watch->pause_ns = MIN(2 * watch->pause_ns, PAUSE_MAX_NS);
	while (watch->stop_count == 0) {
		uint64_t now_ns = clock_ns();
		int number;

		if (now_ns >= until_ns)
			return false;
		number = signal_wait(watch, until_ns - now_ns);
		if (number != 0 && number != SIGCHLD)
			signal_take(watch, number);
	}
	return true;
}

static int watch_run(struct watch *watch)
{
	int rc = child_begin(watch);
	int code = EXIT_FAILED;

	while (rc == 0) {
		int number = signal_wait(watch, watch->timeout_ns / 4);
		int status;

		if (number != 0 && number != SIGCHLD)
			signal_take(watch, number);
		child_check(watch);
		if (waitpid(watch->child, &status, WNOHANG) != watch->child)
			continue;
		if (child_ended(watch, status, &code) || pause_before(watch))
			return code;
		rc = child_begin(watch);
	}
	return EXIT_FAILED;
}

int supervise(int (*serve)(void *ctx, struct heartbeat *heartbeat), void *ctx, uint64_t timeout_ns)
{
	struct watch watch = {
		.serve = serve, .ctx = ctx, .timeout_ns = timeout_ns, .pause_ns = PAUSE_MIN_NS
	};
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD };

	watch.heartbeat = mmap(NULL, round_up(sizeof(*watch.heartbeat), PAGE_SIZE),
			       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (watch.heartbeat == MAP_FAILED)
		return cmd_fail(EXIT_FAILED, "no memory for the heartbeat: %s", err_str(errno));
	sigemptyset(&watch.signals);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		sigaddset(&watch.signals, numbers[i]);
	sigprocmask(SIG_BLOCK, &watch.signals, &watch.before);
	return watch_run(&watch);
}
