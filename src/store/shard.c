/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of a shard share: callbacks that are due, the index with its counts, lookup, pins,
 * counters.
 *
 * Offline    A flush, a span header or the super could not be written: nothing can be promised any
 *            more, and nothing that was promised can be told from what was not. Lookups miss, puts
 *            and drops are refused, those under way end with -EIO; the medium is left alone.
 */
#include <string.h>

#include "../base/hash_inline.h"
#include "../base/log.h"
#include "../base/text.h"
#include "shard_priv.h"

/* --- callbacks --- */

void shard_tell(struct shard *shard, struct env_task *task)
{
	if (!task->is_queued) {
		task->is_queued = true;
		list_add_tail(&shard->telling, &task->node);
	}
	shard->env->ops->defer(shard->env, &shard->task);
}

void shard_telling_run(struct env_task *task)
{
	struct shard *shard = CONTAINER_OF(task, struct shard, task);
	struct list now;

	CHECK_OBJ(shard, SHARD_MAGIC);
	/* What callbacks cause is told in the next turn of the loop. */
	list_init(&now);
	list_splice_tail(&now, &shard->telling);
	while (!list_is_empty(&now)) {
		struct env_task *due = list_head(&now, struct env_task, node);

		list_del(&due->node);
		due->is_queued = false;
		due->run(due);
	}
}

void shard_room(struct shard *shard)
{
	if (!is_memory(shard))
		drop_retry(shard);
	if (!shard->is_room_wanted)
		return;
	shard->is_room_wanted = !list_is_empty(&shard->drops_waiting);
	if (shard->room_task != NULL)
		shard->env->ops->defer(shard->env, shard->room_task);
}

void shard_on_room(struct shard *shard, struct env_task *task)
{
	CHECK_OBJ(shard, SHARD_MAGIC);
	shard->room_task = task;
}

void shard_go_offline(struct shard *shard, const char *what, int rc)
{
	char uuid[33];

	if (shard->is_offline)
		return;
	shard->is_offline = true;
	log_error("shard %s offline, %s failed, error %s",
		  text_format_hex(uuid, sizeof(uuid), shard->super.disk->shard, 16), what,
		  err_str(rc));
	log_fail(shard, -EIO);
	flush_fail(shard, -EIO);
	drop_fail(shard, -EIO);
	reclaim_wake(shard);
	shard->is_room_wanted = true;
	shard_room(shard);
}

/* --- index --- */

static void live_add(struct shard *shard, const struct index_entry *entry)
{
	struct segment *segment = &shard->segments[entry->segment];

	if ((entry->flags & INDEX_TOMBSTONE) != 0)
		return;
	segment->live_count++;
	segment->live_bytes += entry->size;
	lease_count(shard, entry);
	quota_add(shard, entry);
}

static void live_remove(struct shard *shard, const struct index_entry *entry)
{
	struct segment *segment = &shard->segments[entry->segment];

	if ((entry->flags & INDEX_TOMBSTONE) != 0)
		return;
	ASSERT(segment->live_count > 0);
	ASSERT(segment->live_bytes >= entry->size);
	segment->live_count--;
	segment->live_bytes -= entry->size;
	lease_uncount(shard, entry);
	quota_remove(shard, entry);
}

int shard_index_add(struct shard *shard, const struct index_entry *entry)
{
	struct index_entry new = *entry;
	struct index_entry old;
	bool is_replaced = index_find(shard->index, &entry->hash, &old);
	int rc;

	if (is_replaced)
		new.leases = old.leases;
	rc = index_insert(shard->index, &new);
	if (rc < 0)
		return rc;
	if (is_replaced)
		live_remove(shard, &old);
	live_add(shard, &new);
	return 0;
}

/* By the age of its segment, then by its place there. */
static bool is_older(const struct shard *shard, const struct index_entry *a,
		     const struct index_entry *b)
{
	uint64_t a_turn = shard->segments[a->segment].turn;
	uint64_t b_turn = shard->segments[b->segment].turn;

	return a_turn != b_turn ? a_turn < b_turn : a->page < b->page;
}

/* Make room where hash could stand. */
static bool index_evict(struct shard *shard, const struct hash128 *hash)
{
	struct index_entry entries[INDEX_CANDIDATES];
	uint32_t count = index_candidates(shard->index, hash, entries);
	const struct index_entry *oldest = NULL;

	for (uint32_t i = 0; i < count; i++) {
		if (entries[i].leases == 0 &&
		    (oldest == NULL || is_older(shard, &entries[i], oldest)))
			oldest = &entries[i];
	}
	if (oldest == NULL)
		return false;
	shard_index_forget(shard, oldest);
	shard->stats.forgotten_index_full++;
	return true;
}

int shard_index_insert(struct shard *shard, const struct index_entry *entry)
{
	int rc = shard_index_add(shard, entry);

	if (rc == -ENOSPC && index_evict(shard, &entry->hash))
		rc = shard_index_add(shard, entry);
	return rc;
}

static bool is_at(const struct index_entry *entry, uint64_t sequence,
		  const struct shard_place *place)
{
	return entry->sequence == sequence && entry->segment == place->segment &&
	       entry->page == place->page;
}

bool shard_index_move(struct shard *shard, const struct hash128 *hash, uint64_t sequence,
		      const struct shard_place *from, const struct shard_place *to)
{
	struct index_entry old;
	struct index_entry new;

	if (!index_find(shard->index, hash, &old) || !is_at(&old, sequence, from))
		return false;
	new = old;
	new.segment = to->segment;
	new.page = to->page;
	new.flags &= (uint16_t)~INDEX_SUSPECT; /* it was checked as it passed */
	new.hits = 0;
	if (shard->opts.reinsert_hits > 0 && old.hits > shard->opts.reinsert_hits)
		new.hits = (uint8_t)MIN(old.hits - shard->opts.reinsert_hits,
					shard->opts.reinsert_hits - 1);
	if (index_insert(shard->index, &new) < 0)
		return false; /* never: it goes in the place of the old one */
	live_add(shard, &new);
	live_remove(shard, &old);
	return true;
}

void shard_index_forget(struct shard *shard, const struct index_entry *entry)
{
	index_forget(shard->index, &entry->hash, entry->sequence);
	live_remove(shard, entry);
	shard->stats.forgotten++;
}

void shard_index_drop(struct shard *shard, const struct index_entry *entry)
{
	index_forget(shard->index, &entry->hash, entry->sequence);
	live_remove(shard, entry);
	shard->stats.dropped++;
}

bool shard_index_remove_at(struct shard *shard, const struct hash128 *hash, uint64_t sequence,
			   const struct shard_place *place)
{
	struct index_entry entry;

	return index_find(shard->index, hash, &entry) && is_at(&entry, sequence, place) &&
	       shard_index_remove(shard, hash, sequence);
}

bool shard_index_remove(struct shard *shard, const struct hash128 *hash, uint64_t sequence)
{
	struct index_entry entry;

	if (!index_find(shard->index, hash, &entry) || entry.sequence > sequence)
		return false;
	(void)index_remove(shard->index, hash, sequence + 1); /* it was just found */
	live_remove(shard, &entry);
	return true;
}

static bool has_expired(const struct shard *shard, const struct index_entry *entry)
{
	return entry->expiry_s != 0 && entry->expiry_s <= shard->env->ops->wall_s(shard->env);
}

/* A live entry was found: it goes if it does not count any more. */
static bool is_still_there(struct shard *shard, const struct store_id *id,
			   const struct hash128 *hash, const struct index_entry *entry)
{
	if (entry->sequence < super_drop_sequence(&shard->super, id->domain, id->ns)) {
		shard->stats.dropped++;
	} else if (entry->leases == 0 && has_expired(shard, entry)) {
		shard->stats.expired++;
	} else {
		return true;
	}
	(void)shard_index_remove(shard, hash, entry->sequence); /* it was just found */
	return false;
}

bool shard_lookup_leased(struct shard *shard, const struct store_id *id, struct hash128 *hash_out,
			 struct index_entry *entry_out)
{
	*hash_out = index_hash(shard->super.disk->seed, id);
	return !shard->is_offline && index_find(shard->index, hash_out, entry_out) &&
	       is_still_there(shard, id, hash_out, entry_out);
}

bool shard_lookup(struct shard *shard, const struct store_id *id, struct hash128 *hash_out,
		  struct index_entry *entry_out)
{
	return shard_lookup_leased(shard, id, hash_out, entry_out) &&
	       !has_expired(shard, entry_out);
}

/* --- lookup --- */

static uint32_t ref_flags(const struct shard *shard, const struct index_entry *entry)
{
	uint32_t flags = 0;

	if (is_memory(shard))
		flags |= SHARD_REF_MEMORY;
	else if (entry->sequence < shard->durable_sequence)
		flags |= SHARD_REF_DURABLE;
	flags |= (entry->flags & INDEX_BUFFERED) != 0 ? SHARD_REF_BUFFERED : 0;
	flags |= (entry->flags & INDEX_NO_CRC) != 0 ? SHARD_REF_NO_CRC : 0;
	flags |= (entry->flags & INDEX_SUSPECT) != 0 ? SHARD_REF_SUSPECT : 0;
	flags |= entry->leases > 0 ? SHARD_REF_LEASED : 0;
	return flags;
}

void shard_ref_fill(const struct shard *shard, const struct index_entry *entry,
		    struct shard_ref *ref_out)
{
	*ref_out = (struct shard_ref) {
		.sequence = entry->sequence,
		.segment = entry->segment,
		.page = entry->page,
		.size = entry->size,
		.crc = entry->crc,
		.flags = ref_flags(shard, entry),
		.hash = entry->hash,
	};
	if ((ref_out->flags & SHARD_REF_BUFFERED) != 0) {
		ref_out->put = put_find_buffered(shard, &entry->hash, entry->sequence);
		ASSERT(ref_out->put != NULL);
	}
}

bool shard_find(struct shard *shard, const struct store_id *id, struct shard_ref *ref_out)
{
	struct index_entry entry;
	struct hash128 hash;

	CHECK_OBJ(shard, SHARD_MAGIC);
	if (!shard_lookup(shard, id, &hash, &entry))
		return false;
	shard_ref_fill(shard, &entry, ref_out);
	return true;
}

static bool is_dropped(const struct shard *shard, const struct store_id *id, uint64_t sequence)
{
	return sequence < super_drop_sequence(&shard->super, id->domain, id->ns);
}

bool shard_was_dropped(const struct shard *shard, uint16_t domain, uint16_t ns, uint64_t sequence)
{
	if (shard->super.disk->drop_count == 0 || domain == NAMES_NONE || ns == NAMES_NONE)
		return false;
	return sequence < super_drop_sequence(&shard->super, names_get(shard->domains, domain),
					      names_get(shard->namespaces, ns));
}

bool shard_was_here(const struct shard *shard, const struct store_id *id)
{
	struct hash128 hash = index_hash(shard->super.disk->seed, id);
	uint64_t sequence;

	CHECK_OBJ(shard, SHARD_MAGIC);
	return !shard->is_offline && index_remembers(shard->index, &hash, &sequence) &&
	       !is_dropped(shard, id, sequence);
}

/* --- lookup of many --- */

/*
 * Keys are looked up INDEX_LOOK_MAX at a time, and what the memory is to bring for some is asked
 * for before others are worked on: the hashes of the next are made while the entries of these come,
 * and their tags come while these entries are looked at.
 */
struct looking {
	struct shard *shard;
	struct hash128_head head;
	uint64_t sequence; /* of the domain and namespace, what is before is dropped */
	struct index_look looks[2];
};

/* What index_look_finish() left open. */
static bool look_closer(struct looking *looking, struct store_id *id, const uint8_t *key,
			struct shard_found *found)
{
	struct shard_ref ref;

	memcpy(id->key, key, sizeof(id->key));
	if (shard_find(looking->shard, id, &ref)) {
		found->here++;
		return true;
	}
	found->forgotten += shard_was_here(looking->shard, id);
	return false;
}

static uint32_t look_finish(struct looking *looking, const struct index_look *look,
			    const struct store_id *id, const uint8_t *const *keys,
			    struct shard_found *found)
{
	struct index_seen seen = index_look_finish(looking->shard->index, look, looking->sequence);
	struct store_id closer = *id;

	found->here += (uint32_t)__builtin_popcount(seen.live);
	found->forgotten += (uint32_t)__builtin_popcount(seen.stale);
	for (uint32_t left = seen.unclear; left != 0; left &= left - 1) {
		uint32_t i = (uint32_t)__builtin_ctz(left);

		seen.live |= (uint32_t)look_closer(looking, &closer, keys[i], found) << i;
	}
	return seen.live;
}

static void look_start(struct looking *looking, struct index_look *look, const uint8_t *const *keys,
		       uint32_t count)
{
	index_look_hash(look, &looking->head, keys, MIN(count, INDEX_LOOK_MAX));
	index_look_start(looking->shard->index, look);
}

static void look_all(struct looking *looking, const struct store_id *id, const uint8_t *const *keys,
		     uint32_t count, uint8_t *here_out, struct shard_found *found)
{
	struct index_look *look = &looking->looks[0];
	struct index_look *next = &looking->looks[1];

	_Static_assert(INDEX_LOOK_MAX == 32, "the bits of a word");
	look_start(looking, look, keys, count);
	index_look_fetch(looking->shard->index, look);
	for (uint32_t from = 0; from < count; from += INDEX_LOOK_MAX) {
		uint32_t to = MIN(from + INDEX_LOOK_MAX, count);
		struct index_look *done = look;
		uint32_t here;

		look_start(looking, next, keys + to, count - to);
		here = look_finish(looking, look, id, keys + from, found);
		memcpy(here_out + from / 8, &here, (to - from + 7) / 8);
		index_look_fetch(looking->shard->index, next);
		look = next;
		next = done;
	}
}

void shard_find_many(struct shard *shard, const struct store_id *id, const uint8_t *const *keys,
		     uint32_t count, uint8_t *here_out, struct shard_found *found_out)
{
	struct looking looking; /* its looks are written before they are read */

	CHECK_OBJ(shard, SHARD_MAGIC);
	*found_out = (struct shard_found) { 0, 0, 0 };
	if (shard->is_offline) {
		memset(here_out, 0, (count + 7) / 8);
	} else {
		looking.shard = shard;
		looking.head = index_hash_head(shard->super.disk->seed, id);
		looking.sequence = super_drop_sequence(&shard->super, id->domain, id->ns);
		look_all(&looking, id, keys, count, here_out, found_out);
	}
	found_out->missing = count - found_out->here - found_out->forgotten;
}

/* Little was written since: who is asked for again so soon is no sign of use later on. */
static bool is_young(const struct shard *shard, const struct index_entry *entry)
{
	uint64_t age = shard->turns - shard->segments[entry->segment].turn;

	return age * 100 < (uint64_t)shard->segment_count * shard->opts.reinsert_age;
}

void shard_hit(struct shard *shard, const struct shard_ref *ref)
{
	struct index_entry entry;

	CHECK_OBJ(shard, SHARD_MAGIC);
	if (!index_find(shard->index, &ref->hash, &entry) || entry.sequence != ref->sequence ||
	    entry.hits == UINT8_MAX || is_young(shard, &entry))
		return;
	entry.hits++;
	(void)index_update(shard->index, &entry); /* it was just found */
}

void shard_pin(struct shard *shard, struct shard_ref *ref)
{
	CHECK_OBJ(shard, SHARD_MAGIC);
	if (ref->put != NULL)
		ref->put->pin_count++;
	else
		segment_pin(&shard->segments[ref->segment]);
}

void shard_unpin(struct shard *shard, struct shard_ref *ref)
{
	CHECK_OBJ(shard, SHARD_MAGIC);
	if (ref->put != NULL)
		put_unpin(ref->put);
	else
		segment_unpin(shard, &shard->segments[ref->segment]);
}

void shard_get_uuid(const struct shard *shard, uint8_t uuid_out[16])
{
	memcpy(uuid_out, shard->super.disk->shard, 16);
}

uint32_t shard_block_max(const struct shard *shard)
{
	return shard->block_max;
}

bool shard_is_memory(const struct shard *shard)
{
	return is_memory(shard);
}

void shard_get_stats(const struct shard *shard, struct shard_stats *stats_out)
{
	const struct disk_super *disk = shard->super.disk;
	uint64_t now_s = shard->env->ops->wall_s(shard->env);
	uint64_t oldest_s = now_s;

	CHECK_OBJ(shard, SHARD_MAGIC);
	*stats_out = shard->stats;
	stats_out->capacity = shard->segment_count * disk->segment_room;
	stats_out->segments_free = shard->free_count + (shard->ready != NULL);
	stats_out->segments_total = shard->segment_count;
	stats_out->block_count = 0;
	stats_out->block_bytes = 0;
	for (uint32_t i = 0; i < shard->segment_count; i++) {
		const struct segment *segment = &shard->segments[i];

		stats_out->block_count += segment->live_count;
		stats_out->block_bytes += segment->live_bytes;
		if (segment->live_count > 0)
			oldest_s = MIN(oldest_s, segment->created_s);
	}
	stats_out->oldest_s = now_s - oldest_s;
	stats_out->budget_left = governor_left(shard);
	stats_out->is_offline = shard->is_offline;
}
