/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic that all must agree on: where a key stands. Normative in docs/protocol.md, golden
 * values in test/unit/wire/test_place.c. Pure; integers only.
 *
 * The place chooses the server: weighted rendezvous. Every server draws a number for the place, of
 * the place and its own UUID alone; drawn numbers are compared as -log(number) / weight, and the
 * smallest has it. So each gets its weight's share, and one that comes or goes moves only what it
 * gets or had. Inside one weight the largest number has the smallest logarithm: a search multiplies
 * once a server and takes one logarithm a weight.
 *
 * The key chooses the shard inside its server.
 */
#ifndef WIRE_PLACE_H
#define WIRE_PLACE_H

#include "wire.h"

#define PLACE_NONE UINT32_MAX

/* A server that may be chosen. */
struct place_member {
	uint8_t uuid[16];
	uint32_t weight; /* 0: never chosen */
	uint32_t value;  /* the caller's: what a search answers */
};

/* A member, prepared for the search. */
struct place_row {
	uint64_t lo; /* of the hash of its UUID */
	uint64_t hi;
	uint32_t weight;
	uint32_t value;
};

/* Who is chosen from. The rows are the caller's memory and stay as long as the map is used. */
struct place_map {
	struct place_row *rows; /* by weight, the largest first, then by UUID */
	uint32_t count;
};

/* rows: room for count. members are put in order. UUIDs are distinct. */
void place_map_init(struct place_map *map, struct place_row *rows, struct place_member *members,
		    uint32_t count);

/* The value of the member that has this place; PLACE_NONE: there is no member. */
uint32_t place_server(const struct place_map *map, const uint8_t place[16]);

/* Whether that is the same for every place. */
static inline bool place_is_fixed(const struct place_map *map)
{
	return map->count <= 1;
}

/*
 * -log2((number | 1) / 2^64) in units of 2^-32, by squaring 32 times: the same on every machine.
 */
uint64_t place_log(uint64_t number);

/*
 * The shard of a key inside its server, 0 … shard_count - 1: the low half of the key's XXH3-128
 * (seed 0) as a fraction of 2^64, times shard_count.
 */
uint32_t place_shard(const struct wire_key *key, uint32_t shard_count);

/* The place of a key whose caller gave none: its XXH3-128 (seed 0), low half first, little endian.
 */
void place_default(const struct wire_key *key, uint8_t place_out[16]);

#endif
