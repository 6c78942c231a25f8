/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks by namespace, for an administrator who asks.
 *
 * Nothing is counted while blocks come and go. The index is walked, some buckets a call, so that
 * the caller can serve others in between: what moves meanwhile may be missing or be seen twice.
 * What was dropped, or is over and not leased, does not count.
 *
 * The rows are a table by hash in the caller's memory, the first one apart: it has the sum of the
 * namespaces that found no place, and of those without a name (names.h).
 */
#include <string.h>

#include "shard_priv.h"

#define CENSUS_STEP   256u /* buckets a call: some thousand entries, 100 us */
#define CENSUS_PROBES 32u  /* clients choose names: a search is bounded */

struct walk {
	struct shard *shard;
	struct census *census;
	/* With census->only: its ids here. */
	uint16_t domain;
	uint16_t ns;
	uint32_t now_s;
};

static bool counts(const struct walk *walk, const struct index_entry *entry)
{
	const struct shard *shard = walk->shard;

	if ((entry->flags & INDEX_TOMBSTONE) != 0)
		return false;
	if (entry->expiry_s != 0 && entry->expiry_s <= walk->now_s && entry->leases == 0)
		return false;
	return !shard_was_dropped(shard, entry->domain, entry->ns, entry->sequence);
}

/* The row of this namespace, made when it is new. */
static struct census_row *row_of(struct census *census, const uint8_t domain[16],
				 const uint8_t ns[16])
{
	uint8_t both[32];
	uint64_t hash;

	memcpy(both, domain, 16);
	memcpy(both + 16, ns, 16);
	hash = hash128(both, sizeof(both), census->seed).lo;
	for (uint64_t i = 0; i < MIN(CENSUS_PROBES, census->row_max - 1); i++) {
		struct census_row *row = &census->rows[1 + (hash + i) % (census->row_max - 1)];

		if (row->blocks == 0) {
			memcpy(row->domain, domain, 16);
			memcpy(row->ns, ns, 16);
			return row;
		}
		if (memcmp(row->domain, domain, 16) == 0 && memcmp(row->ns, ns, 16) == 0)
			return row;
	}
	return &census->rows[0];
}

static bool census_visit(void *ctx, const struct index_entry *entry)
{
	const struct walk *walk = ctx;
	struct census *census = walk->census;
	const struct shard *shard = walk->shard;
	struct census_row *row = &census->rows[0];

	if (census->only != NULL && (entry->domain != walk->domain || entry->ns != walk->ns))
		return true;
	if (!counts(walk, entry))
		return true;
	if (census->only == NULL && entry->domain != NAMES_NONE && entry->ns != NAMES_NONE)
		row = row_of(census, names_get(shard->domains, entry->domain),
			     names_get(shard->namespaces, entry->ns));
	row->blocks++;
	row->bytes += entry->size;
	return true;
}

uint64_t shard_census(struct shard *shard, struct census *census, uint64_t bucket)
{
	struct walk walk = { .shard = shard,
			     .census = census,
			     .now_s = (uint32_t)shard->env->ops->wall_s(shard->env) };

	CHECK_OBJ(shard, SHARD_MAGIC);
	ASSERT(census->row_max > 0);
	if (shard->is_offline)
		return 0;
	if (census->only != NULL) {
		walk.domain = names_find(shard->domains, census->only->domain);
		walk.ns = names_find(shard->namespaces, census->only->ns);
		if (walk.domain == NAMES_NONE || walk.ns == NAMES_NONE)
			return 0;
	}
	return index_walk_part(shard->index, bucket, CENSUS_STEP, census_visit, &walk);
}

uint32_t census_end(struct census *census)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < census->row_max; i++) {
		if (census->rows[i].blocks > 0)
			census->rows[count++] = census->rows[i];
	}
	return count;
}
