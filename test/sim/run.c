/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   sim --seed N [--verbose] [--twice]    one seed, in this process
 *   sim --seeds A-B [--jobs J] [--failures F]
 *                                         A to B, in J processes, until F (10) have failed
 *
 * A range is played by child processes, each a share of the seeds, so that a panic or a sanitizer's
 * report costs one seed and the rest goes on. Every failure ends with the command that replays it.
 */
#include "run.h"

#include "../../src/base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOB_MAX      64
#define FAILURES_MAX 10 /* then the range is given up, if nobody says when */
#define SEED_SECONDS 60 /* of real time: a run that takes longer hangs */

struct args {
	const char *program;
	uint64_t first;
	uint64_t last;
	uint32_t jobs;
	uint32_t failures;
	bool is_single;
	bool is_verbose;
	bool is_twice;
};

/* Between parent and children: the seed that a job is at. */
struct job {
	uint64_t seed;
	pid_t pid;
};

static void no_log(void *ctx, enum log_level level, const char *line)
{
}

static void verbose_log(void *ctx, enum log_level level, const char *line)
{
	printf("             log: %s\n", line);
}

static uint64_t play(const struct args *args, uint64_t seed, void (*scenario)(struct sim *sim))
{
	struct sim sim;
	uint64_t steps;

	sim_init(&sim, seed, args->is_verbose);
	scenario(&sim);
	sim_fini(&sim);
	steps = sim.steps;
	if (args->is_single)
		printf("seed %" PRIu64 ": ok, %" PRIu64 " steps, %.3f s, trace %016" PRIx64 "\n",
		       seed, steps, (double)sim.now_ns / 1e9, sim.trace);
	return sim.trace;
}

static bool play_checked(const struct args *args, uint64_t seed, void (*scenario)(struct sim *sim))
{
	uint64_t trace = play(args, seed, scenario);

	if (!args->is_twice || play(args, seed, scenario) == trace)
		return true;
	printf("FAIL seed %" PRIu64 ": two runs, two traces\n", seed);
	return false;
}

static void job_start(const struct args *args, struct job *job, void (*scenario)(struct sim *sim))
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid > 0) {
		job->pid = pid;
		return;
	}
	for (; job->seed <= args->last; job->seed += args->jobs) {
		(void)alarm(SEED_SECONDS);
		if (!play_checked(args, job->seed, scenario)) {
			fflush(stdout);
			_exit(1);
		}
	}
	_exit(0);
}

static void report(const struct args *args, const struct job *job, int status)
{
	if (WIFSIGNALED(status))
		printf("FAIL seed %" PRIu64 ": ended by signal %d (%s)\n", job->seed,
		       WTERMSIG(status), strsignal(WTERMSIG(status)));
	printf("  replay: %s --seed %" PRIu64 " --verbose\n", args->program, job->seed);
}

static int play_range(const struct args *args, void (*scenario)(struct sim *sim))
{
	struct job *jobs = mmap(NULL, JOB_MAX * sizeof(*jobs), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t failed = 0, skipped = 0;
	uint32_t running = 0;
	int status;
	pid_t pid;

	ASSERT(jobs != MAP_FAILED);
	for (uint32_t i = 0; i < args->jobs; i++, running++) {
		jobs[i].seed = args->first + i;
		job_start(args, &jobs[i], scenario);
	}
	while (running > 0 && (pid = wait(&status)) > 0) {
		struct job *job = jobs;

		while (job->pid != pid)
			job++;
		running--;
		if (status == 0)
			continue;
		report(args, job, status);
		failed++;
		job->seed += args->jobs;
		if (failed >= args->failures) {
			if (job->seed <= args->last)
				skipped += (args->last - job->seed) / args->jobs + 1;
		} else if (job->seed <= args->last) {
			job_start(args, job, scenario);
			running++;
		}
	}
	printf("%" PRIu64 " passed, %" PRIu64 " failed",
	       args->last - args->first + 1 - failed - skipped, failed);
	printf(skipped > 0 ? ", %" PRIu64 " not played\n" : "\n", skipped);
	return failed == 0 ? 0 : 1;
}

static bool parse(int argc, char **argv, struct args *args)
{
	int i;

	*args = (struct args) {
		.program = argv[0], .last = 99, .jobs = 1, .failures = FAILURES_MAX
	};
	for (i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "--verbose") == 0) {
			args->is_verbose = true;
		} else if (strcmp(argv[i], "--twice") == 0) {
			args->is_twice = true;
		} else if (strcmp(argv[i], "--seed") == 0 &&
			   sscanf(value, "%" SCNu64, &args->first) == 1) {
			args->last = args->first;
			args->is_single = true;
			i++;
		} else if (strcmp(argv[i], "--seeds") == 0 &&
			   sscanf(value, "%" SCNu64 "-%" SCNu64, &args->first, &args->last) == 2) {
			i++;
		} else if (strcmp(argv[i], "--jobs") == 0 &&
			   sscanf(value, "%u", &args->jobs) == 1) {
			i++;
		} else if (strcmp(argv[i], "--failures") == 0 &&
			   sscanf(value, "%u", &args->failures) == 1) {
			i++;
		} else {
			return false;
		}
	}
	args->jobs = MIN(args->jobs, JOB_MAX);
	return args->first <= args->last && args->jobs > 0;
}

int run_main(int argc, char **argv, void (*scenario)(struct sim *sim))
{
	struct args args;

	if (!parse(argc, argv, &args)) {
		fprintf(stderr,
			"usage: %s [--seed N | --seeds A-B] [--jobs J] [--failures F] [--twice] "
			"[--verbose]\n",
			argv[0]);
		return 2;
	}
	log_sink_set(args.is_verbose ? verbose_log : no_log, NULL);
	if (args.is_verbose)
		log_level_set(LOG_DEBUG);
	if (args.is_single)
		return play_checked(&args, args.first, scenario) ? 0 : 1;
	return play_range(&args, scenario);
}
