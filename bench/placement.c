/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/placement: what placement costs and how even it is. A JSON object on standard output, for
 * ./dev bench placement:
 *
 *   place_ns      a place among 1,000 servers of 8 weights
 *   key_ns        a key among 64 shards
 *   share_off     10 M places, 100 servers of 5 weights: the share that is farthest from its
 *                 weight's, as a part of that
 *   moved_wrong   of the same places, those that a lost server moved although it had them not
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../src/wire/place.h"

#define SERVERS 1000
#define ROUNDS  7

static struct place_member members[SERVERS];
static struct place_row rows[SERVERS];
static struct place_row fewer_rows[SERVERS];

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void members_make(uint32_t count, uint32_t weights)
{
	for (uint32_t i = 0; i < count; i++) {
		members[i] = (struct place_member) { .weight = 100u << i % weights, .value = i };
		memcpy(members[i].uuid, &i, sizeof(i));
	}
}

/* The best of some rounds: the machine may have something else to do. */
static double place_ns(uint64_t *sum)
{
	const uint32_t count = 20000;
	struct place_map map;
	uint64_t best = UINT64_MAX;
	uint8_t place[16] = { 0 };

	members_make(SERVERS, 8);
	place_map_init(&map, rows, members, SERVERS);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint64_t begin = now_ns();

		for (uint32_t i = 0; i < count; i++) {
			memcpy(place, &i, sizeof(i));
			*sum += place_server(&map, place);
		}
		best = MIN(best, now_ns() - begin);
	}
	return (double)best / count;
}

static double key_ns(uint64_t *sum)
{
	const uint32_t count = 1000000;
	uint64_t best = UINT64_MAX;
	struct wire_key key = { { 0 } };

	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint64_t begin = now_ns();

		for (uint32_t i = 0; i < count; i++) {
			memcpy(key.bytes, &i, sizeof(i));
			*sum += place_shard(&key, 64);
		}
		best = MIN(best, now_ns() - begin);
	}
	return (double)best / count;
}

static double share_off(uint64_t places, uint64_t *moved_wrong)
{
	static uint64_t counts[SERVERS];
	struct place_map map;
	struct place_map fewer;
	uint64_t weights = 0;
	double worst = 0;
	uint8_t place[16] = { 0 };

	members_make(100, 5);
	place_map_init(&map, rows, members, 100);
	members_make(100, 5);
	members[42].weight = 0;
	place_map_init(&fewer, fewer_rows, members, 100);
	for (uint64_t i = 0; i < places; i++) {
		uint32_t at;

		memcpy(place, &i, sizeof(i));
		at = place_server(&map, place);
		counts[at]++;
		*moved_wrong += at != 42 && place_server(&fewer, place) != at;
	}
	members_make(100, 5);
	for (uint32_t i = 0; i < 100; i++)
		weights += members[i].weight;
	for (uint32_t i = 0; i < 100; i++) {
		double fair = (double)places * members[i].weight / (double)weights;
		double off = ((double)counts[i] - fair) / fair;

		worst = MAX(worst, off < 0 ? -off : off);
	}
	return worst;
}

int main(void)
{
	uint64_t sum = 0; /* printed, so that nothing is left out */
	uint64_t moved_wrong = 0;
	double place = place_ns(&sum);
	double key = key_ns(&sum);
	double off = share_off(10000000, &moved_wrong);

	printf("{\"place_ns\": %.1f, \"key_ns\": %.1f, \"share_off\": %.5f, "
	       "\"moved_wrong\": %" PRIu64 ", \"sum\": %" PRIu64 "}\n",
	       place, key, off, moved_wrong, sum);
	return 0;
}
