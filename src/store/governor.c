/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The endurance budget: bytes that may be written to the medium a day.
 *
 * What is left grows evenly up to a day's worth, and shrinks by all that is written, also by
 * reclaim and footers. While more than a quarter is left everything is admitted. Then only on
 * second sight: a block whose chain was seen before at this depth (without a chain: the block
 * itself), for such blocks were computed twice. With nothing left puts are refused. Refused is
 * -ERR_BUDGET.
 *
 * What was seen is a filter of two generations, each of SEEN_BITS bits, two a block: when one has
 * taken SEEN_MAX blocks the older is forgotten. It knows at least the last SEEN_MAX blocks offered,
 * and takes less than one in a hundred for seen that was not. A start begins with a full budget and
 * an empty filter.
 */
#include <string.h>

#include "shard_priv.h"

#define SEEN_BITS  (UINT64_C(1) << 20)
#define SEEN_MAX   (SEEN_BITS / 32)
#define SEEN_WORDS (SEEN_BITS / 64)
#define DAY_NS     (UINT64_C(86400) * NS_PER_S)
#define SHORT      4u /* less than one part in so many is left */

static void left_update(struct shard *shard)
{
	struct governor *governor = &shard->governor;
	uint64_t now_ns = env_now_ns(shard->env);
	unsigned __int128 earned =
		(unsigned __int128)governor->budget * (now_ns - governor->updated_ns) / DAY_NS;
	uint64_t written = shard->stats.written_bytes;

	if (earned == 0 && written == governor->counted)
		return; /* the rest of a byte is kept */
	governor->left += (int64_t)MIN(earned, governor->budget);
	governor->left = MIN(governor->left, (int64_t)governor->budget);
	governor->left -= (int64_t)(written - governor->counted);
	governor->left = MAX(governor->left, -(int64_t)governor->budget);
	governor->updated_ns = now_ns;
	governor->counted = written;
}

static struct hash128 sight_of(const struct shard *shard, const struct shard_put *put)
{
	struct {
		uint8_t domain[16];
		uint8_t ns[16];
		uint64_t chain;
		uint64_t depth;
	} place = { .chain = put->chain, .depth = put->depth };

	if (put->chain == 0)
		return put->hash;
	memcpy(place.domain, put->id.domain, sizeof(place.domain));
	memcpy(place.ns, put->id.ns, sizeof(place.ns));
	return hash128(&place, sizeof(place), shard->super.disk->seed);
}

static bool seen_has(const uint64_t *words, const struct hash128 *sight)
{
	uint64_t a = sight->lo % SEEN_BITS;
	uint64_t b = sight->hi % SEEN_BITS;

	return (words[a / 64] >> (a % 64) & words[b / 64] >> (b % 64) & 1) != 0;
}

/* Whether it was seen before; it has been now. */
static bool see(struct governor *governor, const struct hash128 *sight)
{
	uint64_t a = sight->lo % SEEN_BITS;
	uint64_t b = sight->hi % SEEN_BITS;
	uint64_t *words = governor->seen[governor->young];
	bool was_seen = seen_has(governor->seen[governor->young ^ 1], sight);

	if (seen_has(words, sight))
		return true;
	words[a / 64] |= UINT64_C(1) << (a % 64);
	words[b / 64] |= UINT64_C(1) << (b % 64);
	if (++governor->count == SEEN_MAX) {
		governor->count = 0;
		governor->young ^= 1;
		memset(governor->seen[governor->young], 0, SEEN_WORDS * sizeof(uint64_t));
	}
	return was_seen;
}

int governor_admit(struct shard *shard, const struct shard_put *put)
{
	struct governor *governor = &shard->governor;
	struct hash128 sight;
	bool was_seen;

	if (governor->budget == 0)
		return 0;
	left_update(shard);
	sight = sight_of(shard, put);
	was_seen = see(governor, &sight);
	if (governor->left > (int64_t)(governor->budget / SHORT) ||
	    (governor->left > 0 && was_seen))
		return 0;
	shard->stats.refused_budget++;
	return -ERR_BUDGET;
}

uint64_t governor_left(const struct shard *shard)
{
	return (uint64_t)MAX(shard->governor.left, 0);
}

uint64_t governor_memory_size(void)
{
	return 2 * SEEN_WORDS * sizeof(uint64_t);
}

void governor_init(struct shard *shard, void *memory)
{
	struct governor *governor = &shard->governor;

	memset(memory, 0, governor_memory_size());
	governor->budget = MIN(shard->opts.write_budget, UINT64_C(1) << 60);
	governor->left = (int64_t)governor->budget;
	governor->updated_ns = env_now_ns(shard->env);
	governor->seen[0] = memory;
	governor->seen[1] = governor->seen[0] + SEEN_WORDS;
}
