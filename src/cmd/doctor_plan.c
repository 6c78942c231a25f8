/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor: what the server would make of configuration, media and host together, by the server's own
 * plan: nothing is opened, no memory is taken, no thread is made.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "../base/log.h"
#include "../server/server.h"
#include "doctor.h"
#include "server_check.h"
#include "start.h"

/* The options as start would give them. False: it would refuse them, with a line that was written.
 */
static bool options_plan(struct doctor *doctor, struct start *start)
{
	struct reactor_opts *opts = &start->server_opts.reactor;

	start->options = doctor->server;
	start->heartbeat = &start->own_heartbeat;
	if (cmd_server_check(doctor->server) < 0 || start_opts_plan(start) < 0) {
		doctor_say(doctor, DOCTOR_FAIL, "options", "the line above says what is wanted",
			   "start would refuse them");
		return false;
	}
	if (strcmp(doctor->server->shm_dir, "none") != 0)
		start->listens[opts->listen_count++] =
			(struct reactor_listen) { .ops = xprt_find("shm"), .is_door = true };
	return true;
}

/* What doctor_media() found. False: nothing is there. */
static bool plan_fill(const struct doctor *doctor, const struct server_opts *opts,
		      struct server_plan *plan)
{
	uint32_t here = 0;

	for (uint32_t i = 0; i < opts->medium_count; i++) {
		plan->media[i] = doctor->media[i];
		plan->is_missing[i] = doctor->is_missing[i];
		here += !doctor->is_missing[i];
	}
	return here > 0 || opts->medium_count == 0;
}

static void limits_look(struct doctor *doctor, const struct server_opts *opts,
			const struct server_plan *plan)
{
	uint64_t buffers = opts->reactor_count * plan->buffer_bytes;
	struct rlimit limit;
	struct doctor_row row;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
		row = doctor_judge_memlock(
			limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur, buffers);
		doctor_add(doctor, &row);
	}
	/* Of a running server it is taken, not available. */
	row = doctor_judge_memory(doctor_meminfo("MemTotal:"), doctor_meminfo("MemAvailable:"),
				  doctor->is_running ? 0 : plan->memory.total);
	doctor_add(doctor, &row);
}

static void plan_look(struct doctor *doctor, const struct server_opts *opts,
		      struct server_plan *plan)
{
	char message[256] = "";

	log_level_set(LOG_ERROR); /* missing media have rows of their own */
	if (server_plan_shards(opts, plan, message) < 0) {
		doctor_say(doctor, DOCTOR_FAIL, "media", "start refuses this", "%s", message);
		return;
	}
	if (server_plan_memory(opts, plan, message) < 0)
		doctor_say(doctor, DOCTOR_FAIL, "memory", "change it in server.yaml", "%s",
			   message);
	else
		limits_look(doctor, opts, plan);
}

void doctor_plan(struct doctor *doctor)
{
	struct server_plan *plan = calloc(1, sizeof(*plan));
	struct start *start = calloc(1, sizeof(*start));

	if (plan != NULL && start != NULL && options_plan(doctor, start) &&
	    plan_fill(doctor, &start->server_opts, plan)) {
		start->server_opts.has_degraded = true; /* what is missing was said */
		plan_look(doctor, &start->server_opts, plan);
	}
	free(start);
	free(plan);
}
