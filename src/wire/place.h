/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic that both ends of the wire must agree on: where a key stands. Normative in
 * docs/protocol.md, golden values in test/unit/wire/test_place.c. Pure.
 */
#ifndef WIRE_PLACE_H
#define WIRE_PLACE_H

#include "wire.h"

/*
 * The shard of a key inside its server, 0 … shard_count - 1: the low half of the key's XXH3-128
 * (seed 0) as a fraction of 2^64, times shard_count.
 */
uint32_t place_shard(const struct wire_key *key, uint32_t shard_count);

/* The place of a key whose caller gave none: its XXH3-128 (seed 0), low half first, little endian.
 */
void place_default(const struct wire_key *key, uint8_t place_out[16]);

#endif
