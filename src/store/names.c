/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open addressing with linear probes over a table of ids, at most half full; the names themselves
 * stand in an array by id. Nothing is ever removed, so the first empty slot ends a probe.
 */
#include "names.h"

#include <string.h>

#include "../base/hash.h"

#define NAMES_MAGIC 0x6e616d65u

struct name {
	uint8_t bytes[16];
};

struct names {
	uint32_t magic;
	uint32_t name_max;
	uint32_t count;
	uint32_t slot_mask;
	uint64_t seed;
	struct env *env;
	struct name *names; /* by id - 1 */
	uint16_t *slots;    /* ids; NAMES_NONE: empty */
};

static uint32_t slot_count_of(uint32_t name_max)
{
	uint32_t count = 2;

	while (count < 2 * name_max)
		count *= 2;
	return count;
}

uint64_t names_size(uint32_t name_max)
{
	return sizeof(struct names) + name_max * sizeof(struct name) +
	       slot_count_of(name_max) * sizeof(uint16_t);
}

int names_create(struct env *env, uint32_t name_max, struct names **names_out)
{
	struct names *names;
	uint32_t slot_count;

	ASSERT(name_max >= 1);
	ASSERT(name_max <= NAMES_MAX);
	ASSERT(*names_out == NULL);

	names = env->ops->alloc(env, names_size(name_max));
	if (names == NULL)
		return -ENOMEM;
	slot_count = slot_count_of(name_max);
	*names = (struct names) { .magic = NAMES_MAGIC,
				  .name_max = name_max,
				  .slot_mask = slot_count - 1,
				  .env = env,
				  .names = (struct name *)(names + 1) };
	names->slots = (uint16_t *)(void *)(names->names + name_max);
	env->ops->random(env, &names->seed, sizeof(names->seed));
	*names_out = names;
	return 0;
}

void names_move(struct names *names, struct env *env)
{
	CHECK_OBJ(names, NAMES_MAGIC);
	names->env = env;
}

void names_destroy(struct names **names)
{
	if (*names == NULL)
		return;
	CHECK_OBJ(*names, NAMES_MAGIC);
	(*names)->magic = 0;
	(*names)->env->ops->free((*names)->env, *names);
	*names = NULL;
}

/* The slot that holds the id of name, or the empty one where it would go. */
static uint16_t *slot_of(const struct names *names, const uint8_t name[16])
{
	uint64_t hash = hash128(name, sizeof(struct name), names->seed).lo;

	for (uint32_t i = (uint32_t)hash;; i++) {
		uint16_t *slot = &names->slots[i & names->slot_mask];

		if (*slot == NAMES_NONE)
			return slot;
		if (memcmp(names->names[*slot - 1].bytes, name, sizeof(struct name)) == 0)
			return slot;
	}
}

uint16_t names_intern(struct names *names, const uint8_t name[16])
{
	uint16_t *slot;

	CHECK_OBJ(names, NAMES_MAGIC);
	slot = slot_of(names, name);
	if (*slot != NAMES_NONE || names->count == names->name_max)
		return *slot;
	memcpy(names->names[names->count].bytes, name, sizeof(struct name));
	*slot = (uint16_t)++names->count;
	return *slot;
}

uint16_t names_find(const struct names *names, const uint8_t name[16])
{
	CHECK_OBJ(names, NAMES_MAGIC);
	return *slot_of(names, name);
}

const uint8_t *names_get(const struct names *names, uint16_t id)
{
	CHECK_OBJ(names, NAMES_MAGIC);
	ASSERT(id != NAMES_NONE);
	ASSERT(id <= names->count);
	return names->names[id - 1].bytes;
}

uint32_t names_count(const struct names *names)
{
	CHECK_OBJ(names, NAMES_MAGIC);
	return names->count;
}
