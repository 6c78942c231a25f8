/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bench may write into a store that is in use.
 *
 *   1. Blocks of earlier runs are dropped, unless this one is to find them.
 *   2. The server says how many segments are free, and how many blocks it holds. Where there are
 *      none, or --evict is given, there is no bound.
 *   3. Each cell takes what it writes at least: a working set, --fill, what comes at a given rate.
 *   4. Where that fits, puts share what is left: their rounds end early when it is used up.
 *      Where it does not fit, bench ends before it has put anything.
 *   5. At the end the server says whether it has forgotten blocks all the same: others put, too,
 * and a tenant with a quota makes room for bench itself.
 *
 * The log forgets its oldest segment first, whatever is alive in it. So a drop wins no room, and
 * bytes count that are written, not those that stay. Three quarters of the free room are taken:
 * engines go on putting meanwhile, blocks pack badly, shards do not get the same.
 *
 * Several reactors: one has told, and the others of its server are taken to be like it, as blocks
 * are dealt out to them by their keys; a bound there is in any case. Several servers: in doubt, no.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../base/text.h"
#include "bench_cell.h"
#include "bench_room.h"
#include "cmd.h"

#define STAT_SIZE    (64 * KiB)
#define SPARE        2 /* free segments of a shard that are its reclaim's */
#define SETTLE_MAX   100
#define SETTLE_NS    (10 * NS_PER_MS)
#define ROUNDS_LASTS 5 /* a round of mixed and its floors, at most, to the round itself */

int bench_room_drop(const struct bench_load *load)
{
	struct ctxkv_op op = { .opcode = CTXKV_OP_DROP, .ns = load->ns };
	int rc = ctxkv_run(bench_load_client(load, 0), &op);

	if (rc < 0)
		return cmd_fail(rc, "blocks of bench stay in the store, they cannot be dropped: %s",
				ctxkv_strerror(rc));
	return 0;
}

/* --- what the server has --- */

/* The number behind "\nNAME "; 0 where there is none. */
static uint64_t number_of(const char *text, const char *name)
{
	const char *line = strstr(text, name);
	uint64_t value = 0;
	char word[32];

	if (line == NULL)
		return 0;
	line += strlen(name);
	snprintf(word, sizeof(word), "%.*s", (int)strcspn(line, "\n"), line);
	return text_parse_u64(word, &value) < 0 ? 0 : value;
}

/* A drop is answered before its walk through the index is over: until the count stands still. */
static int text_settle(struct ctxkv_client *client, uint64_t timeout_ns, char *text)
{
	uint64_t blocks = UINT64_MAX;

	for (int i = 0; i < SETTLE_MAX; i++) {
		const struct timespec pause = { .tv_nsec = SETTLE_NS };
		int rc = ctxkv_server_stat(client, timeout_ns, text, STAT_SIZE);
		uint64_t now = rc < 0 ? 0 : number_of(text, "\nctxkv_store_blocks ");

		if (rc < 0 || now == 0 || now == blocks)
			return rc;
		blocks = now;
		nanosleep(&pause, NULL);
	}
	return 0;
}

static uint64_t forgotten_of(const char *text)
{
	return number_of(text, "\nctxkv_store_forgotten_total ") +
	       number_of(text, "\nctxkv_store_forgotten_index_total ") +
	       number_of(text, "\nctxkv_store_forgotten_quota_total ");
}

/* capacity: of all reactors. */
static void room_of(const char *text, uint64_t capacity, struct bench_room *room)
{
	uint64_t own = MAX(number_of(text, "\nctxkv_store_capacity_bytes "), 1);
	uint64_t segments = MAX(number_of(text, "\nctxkv_store_segments "), 1);
	uint64_t free = number_of(text, "\nctxkv_store_segments_free ");
	uint64_t spare = SPARE * number_of(text, "\nshards ");
	uint64_t blocks = number_of(text, "\nctxkv_store_blocks ");
	uint64_t entries = number_of(text, "\nctxkv_store_index_entries ");
	double share = (double)MAX(capacity, own) / (double)own;

	room->held = blocks;
	room->forgotten = forgotten_of(text);
	room->is_bounded = blocks > 0 || number_of(text, "\nreactors ") > 1;
	room->segment_size = own / segments;
	room->segments = (uint64_t)((double)free * share);
	room->segments = (room->segments - MIN(room->segments, spare)) * 3 / 4;
	room->entries = (uint64_t)((double)(entries - MIN(entries, blocks)) * share) * 3 / 4;
}

int bench_room_find(const struct bench_load *load, struct bench_room *room_out)
{
	struct ctxkv_client *client = bench_load_client(load, 0);
	struct ctxkv_stat stat = { .size = sizeof(stat) };
	struct ctxkv_server servers[2] = { { .size = sizeof(servers[0]) } };
	char *text;
	int rc;

	*room_out = (struct bench_room) { 0 };
	if (load->options->evict)
		return 0;
	if (ctxkv_get_servers(client, servers, ARRAY_LEN(servers)) > 1)
		return cmd_fail(-ENOSPC, "what several servers hold is not known here, and bench "
					 "may push it out: --evict goes on");
	text = calloc(1, STAT_SIZE);
	rc = text == NULL ? -ENOMEM : text_settle(client, load->options->timeout, text);
	if (rc >= 0)
		rc = ctxkv_get_stat(client, &stat);
	if (rc >= 0)
		room_of(text, stat.capacity, room_out);
	free(text);
	return rc < 0 ? cmd_fail(rc, "the server did not tell what it holds: %s",
				 ctxkv_strerror(rc))
		      : 0;
}

void bench_room_tell(const struct bench_room *room, const struct bench_load *load)
{
	char *text = room->is_bounded ? calloc(1, STAT_SIZE) : NULL;

	if (text != NULL &&
	    ctxkv_server_stat(bench_load_client(load, 0), load->options->timeout, text,
			      STAT_SIZE) >= 0 &&
	    forgotten_of(text) > room->forgotten)
		cmd_fail(0,
			 "meanwhile this store forgot %" PRIu64 " blocks, for others' puts or as "
			 "a tenant had used up its quota",
			 forgotten_of(text) - room->forgotten);
	free(text);
}

/* --- what cells take --- */

static uint64_t blocks_in_segment(const struct bench_room *room, uint64_t size)
{
	return MAX(room->segment_size / (round_up(size, PAGE_SIZE) + PAGE_SIZE), 1);
}

/* What it puts at least; puts at no rate put as much more as there is room. */
static uint64_t blocks_of(const struct bench_load *load, enum bench_kind kind, uint64_t size)
{
	const struct options *options = load->options;
	double seconds = (double)options->duration / (double)NS_PER_S;
	uint64_t set = bench_load_block_count(load, size);

	if (kind == BENCH_FILL)
		return options->fill;
	if (kind == BENCH_MIXED)
		return set + (uint64_t)((double)options->write_rate * seconds * ROUNDS_LASTS /
					(double)size);
	if (!bench_needs_set(kind) && options->rate > 0)
		return (uint64_t)((double)options->rate * seconds) + 1;
	return set;
}

void bench_room_take(struct bench_room *room, const struct bench_load *load, enum bench_kind kind,
		     uint64_t size)
{
	uint64_t blocks = blocks_of(load, kind, size);

	if (!room->is_bounded)
		return;
	room->put_segments += blocks / blocks_in_segment(room, size) + 1;
	room->put_entries += blocks;
	if (kind == BENCH_PUT || kind == BENCH_PUT_DURABLE)
		room->put_cells++;
}

int bench_room_check(struct bench_room *room)
{
	uint64_t cells = MAX(room->put_cells, 1);
	char is_free[32];
	char is_wanted[32];

	if (!room->is_bounded)
		return 0;
	if (room->put_segments > room->segments || room->put_entries > room->entries)
		return cmd_fail(
			-ENOSPC,
			"this store holds at least %" PRIu64
			" blocks, and what bench writes (%s in %" PRIu64
			" blocks at least) may push them out: it has free room for %s, %" PRIu64
			" blocks. A smaller --working-set or fewer --sizes write less; --evict "
			"goes on",
			room->held,
			text_format_size(is_wanted, sizeof(is_wanted),
					 room->put_segments * room->segment_size),
			room->put_entries,
			text_format_size(is_free, sizeof(is_free),
					 room->segments * room->segment_size),
			room->entries);
	/* What is left, for a cell of puts. */
	room->put_segments = (room->segments - room->put_segments) / cells;
	room->put_entries = (room->entries - room->put_entries) / cells;
	return 0;
}

uint64_t bench_room_put_max(const struct bench_room *room, const struct bench_load *load,
			    uint64_t size)
{
	const struct options *options = load->options;
	uint64_t blocks;

	if (!room->is_bounded || options->rate > 0)
		return 0;
	blocks = MIN(room->put_segments * blocks_in_segment(room, size), room->put_entries);
	blocks += bench_load_block_count(load, size);
	return MAX(blocks / options->rounds / options->clients, 1);
}
