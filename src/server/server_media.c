/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a reactor's thread opens: media, then shards.
 *
 * Normal path: every medium is opened by its owner, with the lock. When the plan is made
 * (server_plan.c) each reactor opens its shards; one that runs a shard of another's medium opens
 * that once more for itself, under the owner's lock.
 *
 * Failure: a medium that is not there, not a store, or not readable refuses to start; with
 * has_degraded it is left out. One that another server has open refuses in any case. A shard whose
 * recovery fails refuses like its medium.
 */
#include <stdio.h>

#include "../base/log.h"
#include "server_priv.h"

/* --- media, on the threads --- */

/* What has_degraded may leave out: not what somebody else holds, and not what a newer program
 * wrote. */
static bool may_be_missing(int rc)
{
	return rc != -ERR_IN_USE && rc != -ERR_VERSION && rc != -ENOMEM;
}

static int medium_begin(struct reactor_thread *thread, uint32_t row, char *message)
{
	struct server *server = thread->server;
	const char *path = server->opts.media[row];
	char why[SERVER_MESSAGE_SIZE] = "";
	int rc = medium_open(thread->env, path, server->opts.reactor.incarnation,
			     &thread->media[row], why);

	if (rc == 0) {
		medium_get_info(thread->media[row], &server->plan.media[row]);
		return 0;
	}
	if (why[0] == '\0')
		snprintf(why, sizeof(why), "%s: %s", path, err_str(rc));
	if (!may_be_missing(rc) || server->opts.medium_count == 1)
		return server_say(message, rc, "%s", why);
	if (!server->opts.has_degraded)
		return server_say(message, rc,
				  "%.180s; --degraded starts without it (its blocks miss)", why);
	log_warn("medium %s is left out: %s", path, why);
	server->plan.is_missing[row] = true;
	return 0;
}

int media_open(struct reactor_thread *thread, char *message)
{
	struct server *server = thread->server;

	for (uint32_t i = 0; i < server->opts.medium_count; i++) {
		int rc;

		if (server_medium_owner(&server->opts, i) != thread->index)
			continue;
		rc = medium_begin(thread, i, message);
		if (rc < 0)
			return rc;
	}
	return 0;
}

void media_close(struct reactor_thread *thread)
{
	for (uint32_t i = 0; i < SERVER_MEDIUM_MAX; i++)
		medium_close(&thread->media[i]);
}

/* --- shards, on the threads --- */

/* The thread's own handle of a medium. */
static int medium_get(struct reactor_thread *thread, uint32_t row, char *message)
{
	struct server *server = thread->server;
	const struct reactor_thread *owner =
		&server->threads[server_medium_owner(&server->opts, row)];

	if (thread->media[row] != NULL)
		return 0;
	ASSERT(owner->media[row] != NULL);
	return medium_share(thread->env, thread->env, owner->media[row], &thread->media[row],
			    message);
}

static int shard_begin(struct reactor_thread *thread, uint32_t index, struct shard **shard_out,
		       char *message)
{
	struct server *server = thread->server;
	struct reactor_shard *row = &server->plan.table[index];
	const struct shard_memory memory = server_memory_share(&server->opts);
	bool is_memory = server->opts.medium_count == 0;
	int rc;

	if (row->medium == MEDIUM_NOT_HERE)
		return 0;
	if (!is_memory) {
		rc = medium_get(thread, row->medium, message);
		if (rc < 0)
			return rc;
	}
	rc = shard_open(thread->env, is_memory ? NULL : thread->media[row->medium],
			is_memory ? 0 : index - server->plan.media[row->medium].shard_first,
			is_memory ? &memory : NULL, &server->opts.shard, shard_out);
	if (rc < 0)
		return server_say(message, rc, "%.150s: shard %u cannot be opened: %s",
				  is_memory ? "memory" : server->opts.media[row->medium], index,
				  err_str(rc));
	shard_get_uuid(*shard_out, row->uuid);
	return 0;
}

int shards_open(struct reactor_thread *thread, char *message)
{
	struct server *server = thread->server;

	for (uint32_t i = 0; i < server->plan.table_count; i++) {
		int rc;

		if (server->plan.table[i].reactor != thread->index)
			continue;
		rc = shard_begin(thread, i, &thread->shards[thread->shard_count], message);
		if (rc < 0)
			return rc;
		thread->shard_count++;
	}
	return 0;
}

int shards_close(struct reactor_thread *thread)
{
	int first = 0;

	for (uint32_t i = 0; i < thread->shard_count; i++) {
		int rc = 0;

		if (thread->shards[i] != NULL)
			rc = shard_close(&thread->shards[i], thread->is_stuck);
		if (first == 0)
			first = rc;
	}
	thread->shard_count = 0;
	return first;
}
