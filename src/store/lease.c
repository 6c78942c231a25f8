/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases, as the store sees them: a count in the entry of a block. While it is above 0 the block is
 * not forgotten and does not expire for who reads under a lease. Who holds how many, and for how
 * long, is the server's (server/lease.c); what is leased is counted here, for the limit and for
 * reclaim, which must be able to write all of it again and still win room.
 *
 * The count goes with the entry: a drop, or a block found corrupt, takes it away (the lease is then
 * of nothing, and an unlease finds no count); a put that replaces the block, and reclaim, hand it
 * on. Nothing of it is on the medium: leases end with the server.
 */
#include "shard_priv.h"

#define LEASE_PART 4u     /* of a shard can be leased */
#define LEASES_MAX 0xfffu /* 12 bits of an entry */

uint64_t shard_lease_max(const struct shard *shard)
{
	return shard->segment_count * shard->super.disk->segment_room / LEASE_PART;
}

uint64_t shard_lease_bytes(const struct shard *shard)
{
	return shard->stats.leased_bytes;
}

void lease_count(struct shard *shard, const struct index_entry *entry)
{
	if (entry->leases == 0)
		return;
	shard->segments[entry->segment].leased_count++;
	shard->stats.leased_count++;
	shard->stats.leased_bytes += entry->size;
}

void lease_uncount(struct shard *shard, const struct index_entry *entry)
{
	struct segment *segment = &shard->segments[entry->segment];

	if (entry->leases == 0)
		return;
	ASSERT(segment->leased_count > 0);
	ASSERT(shard->stats.leased_bytes >= entry->size);
	segment->leased_count--;
	shard->stats.leased_count--;
	shard->stats.leased_bytes -= entry->size;
}

int shard_lease(struct shard *shard, const struct store_id *id, struct shard_ref *ref_out)
{
	struct index_entry entry;
	struct hash128 hash;

	CHECK_OBJ(shard, SHARD_MAGIC);
	if (!shard_lookup(shard, id, &hash, &entry))
		return -ERR_MISS;
	if (entry.leases == LEASES_MAX)
		return -ERR_FULL;
	if (entry.leases == 0 && shard->stats.leased_bytes + entry.size > shard_lease_max(shard))
		return -ERR_FULL;
	entry.leases++;
	(void)index_update(shard->index, &entry); /* it was just found */
	if (entry.leases == 1)
		lease_count(shard, &entry);
	shard_ref_fill(shard, &entry, ref_out);
	return 0;
}

void shard_unlease(struct shard *shard, const struct hash128 *hash)
{
	struct index_entry entry;

	CHECK_OBJ(shard, SHARD_MAGIC);
	if (!index_find(shard->index, hash, &entry) || entry.leases == 0)
		return;
	entry.leases--;
	(void)index_update(shard->index, &entry); /* it was just found */
	if (entry.leases > 0)
		return;
	entry.leases = 1;
	lease_uncount(shard, &entry);
}

bool shard_find_leased(struct shard *shard, const struct store_id *id, struct shard_ref *ref_out)
{
	struct index_entry entry;
	struct hash128 hash;

	CHECK_OBJ(shard, SHARD_MAGIC);
	if (!shard_lookup_leased(shard, id, &hash, &entry))
		return false;
	shard_ref_fill(shard, &entry, ref_out);
	return true;
}
