/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What start prints when it is ready: the store, what each reactor runs, the memory it took and the
 * limits that it chose. Each default's reason stands in --help.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../base/text.h"
#include "start.h"

#define ASK_NS (10 * NS_PER_S)

/* The sum over all shards. */
struct whole {
	uint64_t capacity;
	uint64_t block_count;
	uint64_t block_bytes;
	uint64_t index_bytes;
	uint64_t index_entries;
	uint64_t recovery_ns; /* the longest: they recover at the same time */
};

static uint32_t shards_ask(const struct start *start, struct shard_row rows[WIRE_SHARD_MAX])
{
	struct server_query query = { .kind = QUERY_SHARDS,
				      .reactor = SERVER_REACTOR_ALL,
				      .rows = rows,
				      .row_max = WIRE_SHARD_MAX,
				      .timeout_ns = ASK_NS };

	if (server_query(start->server, &query) < 0)
		log_warn("server does not say what its shards hold");
	return query.row_count;
}

static void whole_add(struct whole *whole, const struct shard_stats *stats)
{
	whole->capacity += stats->capacity;
	whole->block_count += stats->block_count;
	whole->block_bytes += stats->block_bytes;
	whole->index_bytes += stats->index_bytes;
	whole->index_entries += stats->index_entries;
	whole->recovery_ns = MAX(whole->recovery_ns, stats->recovery_ns);
}

static void store_print(const struct start *start, const struct server_info *info,
			const struct whole *whole)
{
	char buf[3][32];

	printf("store      %s: %s, %" PRIu64 " blocks (%s) here, largest block %s\n",
	       start->options->media[0] != '\0' ? start->options->media : "memory",
	       text_format_size(buf[0], 32, whole->capacity), whole->block_count,
	       text_format_size(buf[1], 32, whole->block_bytes),
	       text_format_size(buf[2], 32, info->block_max));
	if (info->shards_missing > 0)
		printf("degraded   %" PRIu32 " of %" PRIu32 " shards have no medium: their blocks "
		       "miss\n",
		       info->shards_missing, info->shard_count);
}

static void placement_print(const struct start *start, const struct server_info *info)
{
	printf("placement  weight %" PRIu32 " among servers%s\n", info->weight,
	       start->options->weight == 0 ? ", by capacity" : "");
}

/* A line for the first reactor, and for each that differs from the one before. */
static void back_ends_print(const struct start *start, const struct server_info *info)
{
	static const char *const verify[] = { "none", "medium", "all" };

	for (uint32_t i = 0; i < info->reactor_count; i++) {
		const char *why = start->io_message[i];

		if (i > 0 && strcmp(start->back_end[i], start->back_end[i - 1]) == 0)
			continue;
		printf("back end   %s%s%s%s%s, verify %s\n", start->back_end[i],
		       why[0] != '\0' ? " (" : "", why, why[0] != '\0' ? ")" : "",
		       info->is_direct ? "" : " without direct I/O",
		       verify[start->options->verify]);
	}
}

static void reactors_print(const struct start *start, const struct server_info *info)
{
	char spin[32];

	printf("reactors   %" PRIu32 " for %" PRIu32 " shards on %" PRIu32 " media%s%s, idle "
	       "ones sleep",
	       info->reactor_count, info->shard_count, start->server_opts.medium_count,
	       start->cpu_count != 0 ? ", pinned to CPUs " : "",
	       start->cpu_count != 0 ? start->options->cpus : "");
	if (start->options->spin > 0)
		printf(", after work they look for more %s\n",
		       text_format_duration(spin, sizeof(spin), start->options->spin));
	else
		printf(", up to 50 us behind work where that pays\n");
}

static void memory_print(const struct server_info *info, const struct whole *whole)
{
	const struct server_memory *memory = &info->memory;
	char buf[7][32];

	printf("memory     %s in all: store %s (of it index %s for %" PRIu64 " blocks), buffers %s "
	       "(%s a reactor), sessions and operations %s (an idle session %s)\n",
	       text_format_size(buf[0], 32, memory->total),
	       text_format_size(buf[1], 32, memory->store),
	       text_format_size(buf[2], 32, whole->index_bytes), whole->index_entries,
	       text_format_size(buf[3], 32, memory->buffers),
	       text_format_size(buf[4], 32, info->buffer_bytes),
	       text_format_size(buf[5], 32, memory->sessions),
	       text_format_size(buf[6], 32, reactor_session_size(&xprt_tcp)));
}

static void watchdog_print(const struct start *start)
{
	char buf[2][32];

	if (start->watchdog_ns == 0) {
		puts("watchdog   none");
		return;
	}
	printf("watchdog   %s: a server that stands still is ended after %s, at the latest %s\n",
	       notify_watchdog_ns() != 0 ? "systemd" : "parent process",
	       text_format_duration(buf[0], 32, start->watchdog_ns),
	       text_format_duration(buf[1], 32, watchdog_bound_ns(start->watchdog_ns)));
}

void start_print(const struct start *start, uint64_t ready_ns)
{
	struct shard_row rows[WIRE_SHARD_MAX];
	uint32_t count = shards_ask(start, rows);
	struct whole whole = { 0 };
	struct server_info info;
	char name[128];
	char buf[2][32];

	for (uint32_t i = 0; i < count; i++)
		whole_add(&whole, &rows[i].stats);
	server_get_info(start->server, &info);
	server_listener_name(start->server, name, sizeof(name));
	store_print(start, &info, &whole);
	placement_print(start, &info);
	back_ends_print(start, &info);
	reactors_print(start, &info);
	memory_print(&info, &whole);
	start_door_print(start);
	watchdog_print(start);
	start_admin_print(start);
	printf("ready      %s in %s, recovery %s\n", name,
	       text_format_duration(buf[0], 32, ready_ns),
	       text_format_duration(buf[1], 32, whole.recovery_ns));
	fflush(stdout);
}
