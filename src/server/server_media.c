/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which media make up the server, which reactor runs which shard, and whether all of it fits.
 *
 * Normal path: every medium is opened by its owner, reactor medium % reactors, with the lock. Then
 * the main thread looks at what they say of themselves: one server, no shard twice, none missing.
 * Shards stay with their medium's owner while there are at least as many media as reactors; else
 * the shards of a medium are spread, and a reactor that runs a shard of another's medium opens it
 * once more for itself, under the owner's lock.
 *
 * Failure: a medium that is not there, not a store, or not readable refuses to start; with
 * has_degraded it is left out, and its shards are rows without a medium, dealt out to reactors in
 * turn, so that somebody answers for them. One that another server has open, that belongs to
 * another server, or that is a copy of one of ours refuses in any case. A shard whose recovery
 * fails refuses like its medium.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../base/log.h"
#include "../base/text.h"
#include "server_priv.h"

#define BUFFERS_MAX GiB /* of a reactor, when nobody asks for more */
#define BUFFERS_MIN (64 * MiB)
#define MEMORY_PART 10 /* of the machine's memory, all together */

uint32_t server_medium_owner(const struct server *server, uint32_t medium)
{
	return medium % server->reactor_count;
}

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
		medium_get_info(thread->media[row], &server->info[row]);
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
	server->is_missing[row] = true;
	return 0;
}

int media_open(struct reactor_thread *thread, char *message)
{
	struct server *server = thread->server;

	for (uint32_t i = 0; i < server->opts.medium_count; i++) {
		int rc;

		if (server_medium_owner(server, i) != thread->index)
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

/* --- the plan of the shards --- */

uint32_t server_first_medium(const struct server *server)
{
	uint32_t i = 0;

	while (i < server->opts.medium_count && server->is_missing[i])
		i++;
	return i;
}

int server_check_alike(const struct server *server, uint32_t a, uint32_t b, char *message)
{
	const struct medium_info *left = &server->info[a];
	const struct medium_info *right = &server->info[b];
	const char *const *media = server->opts.media;

	if (memcmp(left->medium, right->medium, sizeof(left->medium)) == 0)
		return server_say(message, -EINVAL,
				  "%.100s and %.100s are one medium, or one is a copy: name one",
				  media[a], media[b]);
	if (memcmp(left->server, right->server, sizeof(left->server)) != 0)
		return server_say(
			message, -EINVAL,
			"%.80s belongs to another server than %.80s: name media that were "
			"set up together",
			media[b], media[a]);
	if (left->server_shards != right->server_shards || left->block_max != right->block_max)
		return server_say(message, -EINVAL,
				  "%.80s and %.80s were not set up together: set them up by one "
				  "'ctxkv setup'",
				  media[a], media[b]);
	return 0;
}

static uint32_t shard_reactor(const struct server *server, uint32_t medium, uint32_t shard)
{
	uint32_t media = server->opts.medium_count;

	if (server->reactor_count <= media)
		return server_medium_owner(server, medium);
	return (medium + shard * media) % server->reactor_count;
}

/* The rows of one medium's shards. */
static int table_add(struct server *server, uint32_t medium, char *message)
{
	const struct medium_info *info = &server->info[medium];

	for (uint32_t i = 0; i < info->shard_count; i++) {
		struct reactor_shard *row = &server->table[info->shard_first + i];

		if (row->medium != MEDIUM_NOT_HERE)
			return server_say(
				message, -EINVAL,
				"%.80s and %.80s both have shard %u: they were not set up "
				"together",
				server->opts.media[row->medium], server->opts.media[medium],
				info->shard_first + i);
		row->medium = (uint16_t)medium;
		row->reactor = (uint16_t)shard_reactor(server, medium, i);
	}
	return 0;
}

static int table_check_missing(struct server *server, char *message)
{
	uint32_t first = 0;

	for (uint32_t i = server->table_count; i-- > 0;) {
		if (server->table[i].medium != MEDIUM_NOT_HERE)
			continue;
		first = i;
		atomic_fetch_add_explicit(&server->missing_count, 1, memory_order_relaxed);
		server->table[i].reactor = (uint16_t)(i % server->reactor_count);
	}
	if (server->missing_count == 0)
		return 0;
	if (!server->opts.has_degraded)
		return server_say(
			message, -ENODEV,
			"the server was set up with %u shards, %u of them (from %u on) are "
			"on no medium that is named: name all media; --degraded starts "
			"without",
			server->table_count, server->missing_count, first);
	log_warn("server degraded: %u of %u shards have no medium", server->missing_count,
		 server->table_count);
	return 0;
}

static int plan_media(struct server *server, char *message)
{
	uint32_t first = server_first_medium(server);
	int rc = 0;

	if (first == server->opts.medium_count)
		return server_say(message, -ENODEV, "none of the media can be opened");
	memcpy(server->uuid, server->info[first].server, sizeof(server->uuid));
	server->block_max = server->info[first].block_max;
	server->table_count = server->info[first].server_shards;
	for (uint32_t i = 0; i < server->table_count; i++)
		server->table[i].medium = MEDIUM_NOT_HERE;
	for (uint32_t i = first; i < server->opts.medium_count && rc == 0; i++) {
		if (server->is_missing[i])
			continue;
		for (uint32_t j = first; j < i && rc == 0; j++) {
			if (!server->is_missing[j])
				rc = server_check_alike(server, j, i, message);
		}
		if (rc == 0)
			rc = table_add(server, i, message);
	}
	return rc < 0 ? rc : table_check_missing(server, message);
}

/* Memory mode: one shard a reactor. */
static void plan_memory_mode(struct server *server)
{
	struct env *env = server->threads[0].env;

	env->ops->random(env, server->uuid, sizeof(server->uuid));
	server->table_count = server->reactor_count;
	for (uint32_t i = 0; i < server->table_count; i++)
		server->table[i].reactor = (uint16_t)i;
}

int server_plan_shards(struct server *server, char *message)
{
	int rc = 0;

	if (server->opts.medium_count == 0)
		plan_memory_mode(server);
	else
		rc = plan_media(server, message);
	if (rc < 0)
		return rc;
	if (server->table_count < server->reactor_count)
		return server_say(
			message, -EINVAL,
			"%u reactors, but only %u shards: start fewer reactors, or set up "
			"with more shards",
			server->reactor_count, server->table_count);
	for (uint32_t i = 0; i < server->table_count; i++)
		server->table[i].weight = 1;
	return 0;
}

/* --- the plan of the memory --- */

static struct shard_memory memory_share(const struct server *server)
{
	struct shard_memory memory = server->opts.memory;

	memory.size /= server->reactor_count;
	return memory;
}

static uint64_t store_size(const struct server *server)
{
	const struct server_opts *opts = &server->opts;
	const struct shard_memory memory = memory_share(server);
	uint64_t sum = 0;

	if (opts->medium_count == 0)
		return server->reactor_count * shard_memory_size(NULL, &memory, &opts->shard);
	for (uint32_t i = 0; i < opts->medium_count; i++) {
		if (!server->is_missing[i])
			sum += server->info[i].shard_count *
			       shard_memory_size(&server->info[i], NULL, &opts->shard);
	}
	return sum;
}

/* Nobody asked: what is left of a tenth of the machine, within bounds; but never less than the
 * largest block needs. */
static uint64_t buffers_choose(const struct server *server, uint64_t used)
{
	uint64_t all = server->opts.ram_bytes / MEMORY_PART;
	uint64_t each = all > used ? (all - used) / server->reactor_count : 0;

	each = round_down(MAX(MIN(each, BUFFERS_MAX), BUFFERS_MIN), MiB);
	if (server->opts.medium_count == 0)
		return each;
	return MAX(each, round_up(4 * (uint64_t)server->block_max, MiB));
}

int server_plan_memory(struct server *server, char *message)
{
	struct server_opts *opts = &server->opts;
	struct server_memory *memory = &server->memory;
	struct reactor_opts each = opts->reactor;
	const struct shard_memory share = memory_share(server);
	char need[32];
	char have[32];

	if (opts->medium_count == 0)
		server->block_max = shard_memory_block_max(&share);
	if (server->block_max == 0)
		return server_say(message, -EINVAL,
				  "memory of %s for each reactor makes no store: ask for more, or "
				  "for smaller segments or blocks",
				  text_format_size(have, sizeof(have), share.size));
	each.block_max = server->block_max;
	each.has_media = opts->medium_count > 0;
	each.shard_count = 0;
	each.reactor_count = (uint16_t)server->reactor_count;
	memory->store = store_size(server);
	each.buffer_bytes = 0;
	memory->sessions = server->reactor_count * reactor_memory_size(&each);
	server->buffer_bytes = opts->reactor.buffer_bytes;
	if (server->buffer_bytes == 0)
		server->buffer_bytes = buffers_choose(server, memory->store + memory->sessions);
	each.buffer_bytes = server->buffer_bytes;
	memory->total = memory->store + server->reactor_count * reactor_memory_size(&each);
	memory->buffers = memory->total - memory->store - memory->sessions;
	if (opts->ram_bytes != 0 && memory->total > opts->ram_bytes)
		return server_say(message, -ENOMEM,
				  "the options ask for %s of memory, the machine has %s: lower "
				  "buffers, index-entries, memory or the number of reactors",
				  text_format_size(need, sizeof(need), memory->total),
				  text_format_size(have, sizeof(have), opts->ram_bytes));
	return 0;
}

/* --- shards, on the threads --- */

/* The thread's own handle of a medium. */
static int medium_get(struct reactor_thread *thread, uint32_t row, char *message)
{
	struct server *server = thread->server;
	const struct reactor_thread *owner = &server->threads[server_medium_owner(server, row)];

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
	struct reactor_shard *row = &server->table[index];
	const struct shard_memory memory = memory_share(server);
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
			is_memory ? 0 : index - server->info[row->medium].shard_first,
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

	for (uint32_t i = 0; i < server->table_count; i++) {
		int rc;

		if (server->table[i].reactor != thread->index)
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
