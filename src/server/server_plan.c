/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which media make up the server, which reactor runs which shard, and whether all of it fits. Pure:
 * it looks at options and labels.
 *
 * Normal path: media are one server, no shard twice, none missing. A medium's owner is reactor
 * medium % reactors. Shards stay with it while there are at least as many media as reactors; else
 * the shards of a medium are spread.
 *
 * Failure: shards that are on no medium refuse to start; with has_degraded they are rows without
 * one, dealt out to reactors in turn, so that somebody answers for them. A medium that belongs to
 * another server, or that is a copy of one of ours, refuses in any case.
 */
#include <string.h>

#include "../base/log.h"
#include "../base/text.h"
#include "server_priv.h"

#define BUFFERS_MAX GiB /* of a reactor, when nobody asks for more */
#define BUFFERS_MIN (64 * MiB)
#define MEMORY_PART 10 /* of the machine's memory, all together */

uint32_t server_medium_owner(const struct server_opts *opts, uint32_t medium)
{
	return medium % opts->reactor_count;
}

/* --- the plan of the shards --- */

/* The first medium that is there; medium_count: none. */
static uint32_t first_medium(const struct server_opts *opts, const struct server_plan *plan)
{
	uint32_t i = 0;

	while (i < opts->medium_count && plan->is_missing[i])
		i++;
	return i;
}

int server_check_alike(const struct server_opts *opts, const struct server_plan *plan, uint32_t a,
		       uint32_t b, char *message)
{
	const struct medium_info *left = &plan->media[a];
	const struct medium_info *right = &plan->media[b];
	const char *const *media = opts->media;

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

static uint32_t shard_reactor(const struct server_opts *opts, uint32_t medium, uint32_t shard)
{
	uint32_t media = opts->medium_count;

	if (opts->reactor_count <= media)
		return server_medium_owner(opts, medium);
	return (medium + shard * media) % opts->reactor_count;
}

/* The rows of one medium's shards. */
static int table_add(const struct server_opts *opts, struct server_plan *plan, uint32_t medium,
		     char *message)
{
	const struct medium_info *info = &plan->media[medium];

	for (uint32_t i = 0; i < info->shard_count; i++) {
		struct reactor_shard *row = &plan->table[info->shard_first + i];

		if (row->medium != MEDIUM_NOT_HERE)
			return server_say(
				message, -EINVAL,
				"%.80s and %.80s both have shard %u: they were not set up "
				"together",
				opts->media[row->medium], opts->media[medium],
				info->shard_first + i);
		row->medium = (uint16_t)medium;
		row->reactor = (uint16_t)shard_reactor(opts, medium, i);
	}
	return 0;
}

static int table_check_missing(const struct server_opts *opts, struct server_plan *plan,
			       char *message)
{
	uint32_t first = 0;

	for (uint32_t i = plan->table_count; i-- > 0;) {
		if (plan->table[i].medium != MEDIUM_NOT_HERE)
			continue;
		first = i;
		plan->missing_count++;
		plan->table[i].reactor = (uint16_t)(i % opts->reactor_count);
	}
	if (plan->missing_count == 0)
		return 0;
	if (!opts->has_degraded)
		return server_say(
			message, -ENODEV,
			"the server was set up with %u shards, %u of them (from %u on) are "
			"on no medium that is named: name all media; --degraded starts "
			"without",
			plan->table_count, plan->missing_count, first);
	log_warn("server degraded: %u of %u shards have no medium", plan->missing_count,
		 plan->table_count);
	return 0;
}

static int plan_media(const struct server_opts *opts, struct server_plan *plan, char *message)
{
	uint32_t first = first_medium(opts, plan);
	int rc = 0;

	if (first == opts->medium_count)
		return server_say(message, -ENODEV, "none of the media can be opened");
	memcpy(plan->uuid, plan->media[first].server, sizeof(plan->uuid));
	plan->block_max = plan->media[first].block_max;
	plan->table_count = plan->media[first].server_shards;
	for (uint32_t i = 0; i < plan->table_count; i++)
		plan->table[i].medium = MEDIUM_NOT_HERE;
	for (uint32_t i = first; i < opts->medium_count && rc == 0; i++) {
		if (plan->is_missing[i])
			continue;
		for (uint32_t j = first; j < i && rc == 0; j++) {
			if (!plan->is_missing[j])
				rc = server_check_alike(opts, plan, j, i, message);
		}
		if (rc == 0)
			rc = table_add(opts, plan, i, message);
	}
	return rc < 0 ? rc : table_check_missing(opts, plan, message);
}

/* Memory mode: one shard a reactor. */
static void plan_memory_mode(const struct server_opts *opts, struct server_plan *plan)
{
	plan->table_count = opts->reactor_count;
	for (uint32_t i = 0; i < plan->table_count; i++)
		plan->table[i].reactor = (uint16_t)i;
}

int server_plan_shards(const struct server_opts *opts, struct server_plan *plan, char message[256])
{
	int rc = 0;

	if (opts->medium_count == 0)
		plan_memory_mode(opts, plan);
	else
		rc = plan_media(opts, plan, message);
	if (rc < 0)
		return rc;
	if (plan->table_count < opts->reactor_count)
		return server_say(
			message, -EINVAL,
			"%u reactors, but only %u shards: start fewer reactors, or set up "
			"with more shards",
			opts->reactor_count, plan->table_count);
	for (uint32_t i = 0; i < plan->table_count; i++)
		plan->table[i].weight = 1;
	return 0;
}

/* --- the plan of the memory --- */

struct shard_memory server_memory_share(const struct server_opts *opts)
{
	struct shard_memory memory = opts->memory;

	memory.size /= opts->reactor_count;
	return memory;
}

static uint64_t store_size(const struct server_opts *opts, const struct server_plan *plan)
{
	const struct shard_memory memory = server_memory_share(opts);
	uint64_t sum = 0;

	if (opts->medium_count == 0)
		return opts->reactor_count * shard_memory_size(NULL, &memory, &opts->shard);
	for (uint32_t i = 0; i < opts->medium_count; i++) {
		if (!plan->is_missing[i])
			sum += plan->media[i].shard_count *
			       shard_memory_size(&plan->media[i], NULL, &opts->shard);
	}
	return sum;
}

/* Nobody asked: what is left of a tenth of the machine, within bounds; but never less than the
 * largest block needs. */
static uint64_t buffers_choose(const struct server_opts *opts, const struct server_plan *plan,
			       uint64_t used)
{
	uint64_t all = opts->ram_bytes / MEMORY_PART;
	uint64_t each = all > used ? (all - used) / opts->reactor_count : 0;

	each = round_down(MAX(MIN(each, BUFFERS_MAX), BUFFERS_MIN), MiB);
	if (opts->medium_count == 0)
		return each;
	return MAX(each, round_up(4 * (uint64_t)plan->block_max, MiB));
}

int server_plan_memory(const struct server_opts *opts, struct server_plan *plan, char message[256])
{
	struct server_memory *memory = &plan->memory;
	struct reactor_opts each = opts->reactor;
	const struct shard_memory share = server_memory_share(opts);
	char need[32];
	char have[32];

	if (opts->medium_count == 0)
		plan->block_max = shard_memory_block_max(&share);
	if (plan->block_max == 0)
		return server_say(message, -EINVAL,
				  "memory of %s for each reactor makes no store: ask for more, or "
				  "for smaller segments or blocks",
				  text_format_size(have, sizeof(have), share.size));
	each.block_max = plan->block_max;
	each.has_media = opts->medium_count > 0;
	each.shard_count = 0;
	each.reactor_count = (uint16_t)opts->reactor_count;
	memory->store = store_size(opts, plan);
	each.buffer_bytes = 0;
	memory->sessions = opts->reactor_count * reactor_memory_size(&each);
	plan->buffer_bytes = opts->reactor.buffer_bytes;
	if (plan->buffer_bytes == 0)
		plan->buffer_bytes = buffers_choose(opts, plan, memory->store + memory->sessions);
	each.buffer_bytes = plan->buffer_bytes;
	memory->total = memory->store + opts->reactor_count * reactor_memory_size(&each);
	memory->buffers = memory->total - memory->store - memory->sessions;
	if (opts->ram_bytes != 0 && memory->total > opts->ram_bytes)
		return server_say(message, -ENOMEM,
				  "the options ask for %s of memory, the machine has %s: lower "
				  "buffers, index-entries, memory or the number of reactors",
				  text_format_size(need, sizeof(need), memory->total),
				  text_format_size(have, sizeof(have), opts->ram_bytes));
	return 0;
}
