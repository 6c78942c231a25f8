/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/placement_replay TRACE BLOCK_TOKENS [PERCENT]: a trace of requests on 16 servers, one of
 * which is killed for good at half time, each in turn; and one added at half time, 16 different
 * ones. The real placement, by runs of 16K tokens as in 'ctxkv replay', over a model of each
 * server's store: every block for ever, or, with PERCENT, segments of 256 trace blocks that hold
 * PERCENT of the trace's unique blocks in all, forgotten oldest first, blocks that were hit written
 * again (../traces/README.md: "segment FIFO + reinsert if hit").
 *
 * After a kill the dead server keeps its places for 60 s: gets of them miss, puts are dropped.
 * Rates are hit tokens of the requests from half time to the end, beside the same requests
 * undisturbed. One JSON object on standard output.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/base/hash.h"
#include "../src/base/text.h"
#include "../src/cmd/trace.h"
#include "../src/wire/place.h"

#define SERVERS        16
#define ADDED          SERVERS /* index of the one that is added */
#define SEGMENT_TOKENS (256 * TRACE_BLOCK_TOKENS)
#define AWAY_MS        60000

/* Blocks in order of writing; the segments one behind the other, the oldest at head. */
struct store {
	uint32_t *blocks; /* a ring of room entries; NULL: everything is kept */
	uint64_t room;
	uint64_t segment;
	uint64_t head;
	uint64_t tail;
};

struct world {
	struct trace trace;
	uint64_t block_tokens;
	uint64_t parts; /* of a trace block */
	uint64_t id_max;
	uint64_t half_ms;
	uint64_t percent;
	uint64_t unique;
	uint32_t *here; /* of each block: a bit for each server that has it */
	uint32_t *hit;  /* and one for each that was asked for it since it wrote it */
	struct store stores[SERVERS + 1];
	struct place_row rows[SERVERS + 1];
	struct place_map map;
};

/* Hit tokens of requests from half time on; of these, within the first 60 s. */
struct rates {
	uint64_t hits;
	uint64_t hits_first;
	uint64_t tokens;
	uint64_t tokens_first;
};

static void *must(void *memory)
{
	if (memory == NULL) {
		fprintf(stderr, "no memory\n");
		exit(1);
	}
	return memory;
}

/* --- stores --- */

static void store_write(struct world *world, uint32_t server, uint32_t block);

/* The oldest segment: what was hit is written again, the rest is forgotten. */
static void store_reclaim(struct world *world, uint32_t server)
{
	struct store *store = &world->stores[server];
	uint32_t bit = 1u << server;
	uint64_t end = store->head + store->segment;
	uint32_t again = 0;

	for (; store->head < end; store->head++) {
		uint32_t block = store->blocks[store->head % store->room];

		/* At least a quarter of a segment is freed. */
		if ((world->hit[block] & bit) != 0 && again < store->segment * 3 / 4) {
			world->hit[block] &= ~bit;
			store->blocks[store->tail++ % store->room] = block;
			again++;
		} else {
			world->here[block] &= ~bit;
		}
	}
}

static void store_write(struct world *world, uint32_t server, uint32_t block)
{
	struct store *store = &world->stores[server];

	world->here[block] |= 1u << server;
	world->hit[block] &= ~(1u << server);
	if (store->blocks == NULL)
		return;
	/* One segment of room is for what is written again. */
	if (store->tail - store->head + store->segment >= store->room)
		store_reclaim(world, server);
	store->blocks[store->tail++ % store->room] = block;
}

static void stores_clear(struct world *world)
{
	memset(world->here, 0, world->id_max * world->parts * sizeof(*world->here));
	memset(world->hit, 0, world->id_max * world->parts * sizeof(*world->hit));
	for (uint32_t i = 0; i <= SERVERS; i++)
		world->stores[i].head = world->stores[i].tail = 0;
}

static void stores_init(struct world *world)
{
	uint64_t blocks = world->unique * world->percent / 100 / SERVERS * world->parts;

	world->here = must(calloc(world->id_max * world->parts, sizeof(*world->here)));
	world->hit = must(calloc(world->id_max * world->parts, sizeof(*world->hit)));
	for (uint32_t i = 0; i <= SERVERS && world->percent > 0; i++) {
		struct store *store = &world->stores[i];

		store->segment = SEGMENT_TOKENS / world->block_tokens;
		store->segment = MIN(store->segment, MAX(blocks / 8, 1));
		store->room = blocks + store->segment;
		store->blocks = must(calloc(store->room, sizeof(*store->blocks)));
	}
}

/* --- placement --- */

/* without: nobody, or a server that has left. added: 0 none, else which one. */
static void map_make(struct world *world, uint32_t without, uint32_t added)
{
	struct place_member members[SERVERS + 1];
	uint32_t count = 0;

	memset(members, 0, sizeof(members));
	for (uint32_t i = 0; i < SERVERS + (added > 0); i++) {
		if (i == without)
			continue;
		members[count].weight = 100;
		members[count].value = i;
		members[count].uuid[0] = (uint8_t)(i + (i == ADDED ? added : 1));
		count++;
	}
	place_map_init(&world->map, world->rows, members, count);
}

static uint32_t server_of(const struct world *world, uint32_t id)
{
	struct hash128 place = hash128(&id, sizeof(id), 0);
	uint8_t bytes[16];

	memcpy(bytes, &place, sizeof(bytes));
	return place_server(&world->map, bytes);
}

/* --- a play --- */

/* One request; dead: a server that still has its places. Returns hit tokens. */
static uint64_t play_request(struct world *world, const struct trace_request *request,
			     uint32_t dead)
{
	const uint32_t *ids = world->trace.ids + request->first;
	uint64_t blocks = request->count * world->parts;
	uint64_t run = 0;
	bool is_leading = true;
	uint32_t server = 0;

	for (uint64_t i = 0; i < blocks; i++) {
		uint32_t block =
			(uint32_t)(ids[i / world->parts] * world->parts + i % world->parts);
		bool is_here;

		if (i % world->parts == 0)
			server = server_of(world, ids[trace_place_id(i / world->parts)]);
		is_here = server != dead && (world->here[block] >> server & 1) != 0;
		is_leading &= is_here;
		run += is_leading;
		if (is_leading)
			world->hit[block] |= 1u << server;
		if (!is_here && server != dead)
			store_write(world, server, block);
	}
	return run * world->block_tokens;
}

static struct rates play(struct world *world, uint32_t victim, uint32_t added)
{
	struct rates rates = { 0 };
	uint32_t dead = PLACE_NONE;
	bool is_half = false;
	bool is_away = false;

	stores_clear(world);
	map_make(world, PLACE_NONE, 0);
	for (uint64_t r = 0; r < world->trace.request_count; r++) {
		const struct trace_request *request = &world->trace.requests[r];
		uint64_t tokens = request->count * TRACE_BLOCK_TOKENS;
		uint64_t hits;

		if (!is_half && request->timestamp_ms >= world->half_ms) {
			is_half = true;
			dead = victim;
			if (added > 0)
				map_make(world, PLACE_NONE, added);
		}
		if (!is_away && victim != PLACE_NONE &&
		    request->timestamp_ms >= world->half_ms + AWAY_MS) {
			is_away = true;
			dead = PLACE_NONE;
			map_make(world, victim, 0);
		}
		hits = play_request(world, request, dead);
		if (!is_half)
			continue;
		rates.hits += hits;
		rates.tokens += tokens;
		if (request->timestamp_ms < world->half_ms + AWAY_MS) {
			rates.hits_first += hits;
			rates.tokens_first += tokens;
		}
	}
	return rates;
}

static double ratio(uint64_t part, uint64_t whole)
{
	return whole == 0 ? 1 : (double)part / (double)whole;
}

/* Sixteen plays of a kind, beside the undisturbed one. */
static void sweep(struct world *world, const struct rates *calm, bool is_kill, const char *name)
{
	double sum = 0;
	double sum_first = 0;
	double worst = 1e9;
	double worst_first = 1e9;

	for (uint32_t i = 0; i < SERVERS; i++) {
		struct rates rates = is_kill ? play(world, i, 0) : play(world, PLACE_NONE, 100 + i);
		double all = ratio(rates.hits, calm->hits);
		double first = ratio(rates.hits_first, calm->hits_first);

		sum += all;
		sum_first += first;
		worst = MIN(worst, all);
		worst_first = MIN(worst_first, first);
	}
	printf(", \"%s\": {\"mean\": %.4f, \"worst\": %.4f, \"mean_first_60s\": %.4f, "
	       "\"worst_first_60s\": %.4f}",
	       name, sum / SERVERS, worst, sum_first / SERVERS, worst_first);
}

static void world_load(struct world *world, const char *path)
{
	char message[256];
	uint8_t *seen;

	if (trace_load(path, &world->trace, message) < 0) {
		fprintf(stderr, "%s: %s\n", path, message);
		exit(1);
	}
	for (uint64_t i = 0; i < world->trace.id_count; i++)
		world->id_max = MAX(world->id_max, world->trace.ids[i] + UINT64_C(1));
	seen = must(calloc(world->id_max, 1));
	for (uint64_t i = 0; i < world->trace.id_count; i++) {
		world->unique += seen[world->trace.ids[i]] == 0;
		seen[world->trace.ids[i]] = 1;
	}
	free(seen);
	world->half_ms = world->trace.requests[world->trace.request_count - 1].timestamp_ms / 2;
}

int main(int argc, char **argv)
{
	static struct world world;
	struct rates calm;

	if (argc < 3 || text_parse_u64(argv[2], &world.block_tokens) < 0 ||
	    world.block_tokens == 0 || TRACE_BLOCK_TOKENS % world.block_tokens != 0 ||
	    (argc > 3 && text_parse_u64(argv[3], &world.percent) < 0)) {
		fprintf(stderr, "usage: placement_replay TRACE BLOCK_TOKENS [PERCENT]\n");
		return 2;
	}
	world.parts = TRACE_BLOCK_TOKENS / world.block_tokens;
	world_load(&world, argv[1]);
	stores_init(&world);
	calm = play(&world, PLACE_NONE, 0);
	printf("{\"servers\": %d, \"block_tokens\": %" PRIu64 ", \"percent\": %" PRIu64
	       ", \"undisturbed\": %.4f",
	       SERVERS, world.block_tokens, world.percent, ratio(calm.hits, calm.tokens));
	sweep(&world, &calm, true, "killed");
	sweep(&world, &calm, false, "added");
	printf("}\n");
	return 0;
}
