/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16-byte names (domains, payers, namespaces) interned to 16-bit ids, so that an index entry can
 * carry them. Names are never forgotten while the shard is open: a table holds at most NAMES_MAX,
 * its memory is taken at create. What happens to the name after the last is the caller's choice:
 * domains and payers are refused (-ERR_FULL), namespaces share id 0 and are not counted apart.
 *
 * Names come from clients, who may choose them at will: probes are by a hash under a secret seed.
 */
#ifndef STORE_NAMES_H
#define STORE_NAMES_H

#include "../env/env.h"

#define NAMES_MAX  65535u /* ids 1 … NAMES_MAX */
#define NAMES_NONE 0u     /* of no name: the table was full */

struct names;

/* Bytes that names_create takes for a table of name_max. */
uint64_t names_size(uint32_t name_max);

/* name_max: 1 … NAMES_MAX. -ENOMEM. */
int names_create(struct env *env, uint32_t name_max, struct names **names_out) MUST_USE;
void names_destroy(struct names **names);
/* Its memory is given back by another env of the same kind. */
void names_move(struct names *names, struct env *env);

/* The id of name, given now when it is new; NAMES_NONE when it is new and the table is full. */
uint16_t names_intern(struct names *names, const uint8_t name[16]);

/* The id of name; NAMES_NONE when it has none. */
uint16_t names_find(const struct names *names, const uint8_t name[16]);

/* The name of an id that names_intern gave (not NAMES_NONE). */
const uint8_t *names_get(const struct names *names, uint16_t id);

uint32_t names_count(const struct names *names);

#endif
