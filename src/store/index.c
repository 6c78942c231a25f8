/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cuckoo table of buckets. A bucket is a word of nine 7-bit tags and nine packed entries. The
 * words of all buckets stand together (1 MiB for 1 M entries: near the CPU, where the entries are
 * not), the entries apart, and of these what a look wants to see (32 bytes, never in two lines of
 * the cache) apart from the rest. The two halves of a hash choose its two buckets (multiply and
 * shift, so that any number of buckets will do), the low bits of one half its tag; tag 0 is an
 * empty slot.
 *
 * Find       Compares the nine tags of a bucket at once and looks only at entries whose tag
 *            agrees: usually two words of tags and one entry; none where there is none.
 * Insert     1. The same hash in either bucket: replace it there. A hash stands in the table at
 *            most once, live or stale.
 *            2. An empty slot in the bucket that has more of them.
 *            3. Breadth first from both buckets: a node is a bucket, reached because an entry of
 *            its parent could move into it. The first node with an empty or stale slot ends the
 *            search; then the entries on the way to it move one step each, the farthest first.
 *            4. WALK_MAX nodes without one: -ENOSPC, nothing was changed.
 * Stale      An entry whose segment was forgotten since (see index.h). Find and update pass over
 *            it; insert and walk take its slot, but an empty one first. Until then it tells that
 *            its block was here once.
 */
#include "index.h"

#include <string.h>

#include "../base/hash_inline.h"
#include "store.h"

#define INDEX_MAGIC  0x696e6478u
#define BUCKET_SLOTS 9u
#define TAG_BITS     7u
#define TAG_LANES    UINT64_C(0x0102040810204081) /* 1 in each of nine 7-bit lanes */
#define WALK_MAX     192u                         /* nodes: two roots and most of three levels */

#define LAST_LANE    (UINT64_C(1) << (BUCKET_SLOTS * TAG_BITS - 1))
#define LINE_SIZE    64u

/* Fill that inserts reach: BUCKET_SLOTS * 9 / 10 entries a bucket. */
#define FILL_NUM 9u
#define FILL_DEN 10u

/* What tells an entry from others and whether it counts. */
struct packed {
	uint64_t hash_lo;
	uint64_t hash_hi;
	uint64_t sequence_flags; /* 48, 16 */
	uint64_t where;          /* segment 24, page 20, hits 8, leases 12 */
};
_Static_assert(sizeof(struct packed) == 32, "half a line of the cache");

/* The rest of it. */
struct packed_more {
	uint32_t expiry_s;
	uint32_t size;
	uint32_t crc;
	uint32_t chain;
	uint16_t domain;
	uint16_t payer;
	uint16_t ns;
	uint16_t depth;
};
#define PACKED_SIZE (sizeof(struct packed) + sizeof(struct packed_more))
_Static_assert(PACKED_SIZE == 56, "nine and the tags are a bucket");

struct bucket {
	uint64_t tags; /* lane i: of slot i */
};
#define BUCKET_SIZE (sizeof(struct bucket) + BUCKET_SLOTS * PACKED_SIZE)
_Static_assert(BUCKET_SIZE == 512, "at a fill of 0.9, 64 bytes a block");
_Static_assert(BUCKET_SLOTS *TAG_BITS < 64, "all tags in a word");

struct index {
	uint32_t magic;
	struct env *env;
	const struct index_segments *segments;
	struct bucket *buckets;
	struct packed *slots; /* BUCKET_SLOTS of each bucket */
	struct packed_more *more;
	uint64_t bucket_count;
	uint64_t used; /* slots that are not empty */
};

/* An entry of nobody. */
static const struct packed packed_nothing;

/* A bucket on the way of an insert. */
struct node {
	uint64_t bucket;
	uint16_t parent; /* node whose entry would move here; of a root: itself */
	uint8_t slot;    /* of that entry */
};

/* A slot of the table; bucket NULL: none. */
struct place {
	struct bucket *bucket;
	uint32_t slot;
};

static uint64_t number_of(const struct index *index, const struct bucket *bucket, uint32_t slot)
{
	return (uint64_t)(bucket - index->buckets) * BUCKET_SLOTS + slot;
}

static struct packed *slot_at(const struct index *index, const struct bucket *bucket, uint32_t slot)
{
	return &index->slots[number_of(index, bucket, slot)];
}

static struct packed_more *more_at(const struct index *index, const struct packed *packed)
{
	return &index->more[packed - index->slots];
}

static uint64_t bucket_count_of(uint64_t entry_count)
{
	uint64_t per_den = (uint64_t)BUCKET_SLOTS * FILL_NUM;

	return MAX((entry_count * FILL_DEN + per_den - 1) / per_den, 2);
}

static uint64_t scale(uint64_t half, uint64_t count)
{
	return (uint64_t)(((unsigned __int128)half * count) >> 64);
}

/* The two buckets of a hash, never the same. */
static void buckets_of(const struct index *index, uint64_t lo, uint64_t hi, uint64_t out[2])
{
	out[0] = scale(lo, index->bucket_count);
	out[1] = scale(hi, index->bucket_count);
	if (out[0] == out[1])
		out[1] = out[0] + 1 == index->bucket_count ? 0 : out[0] + 1;
}

/* From bits that do not choose the bucket; never 0. */
static uint64_t tag_of(uint64_t lo)
{
	uint64_t tag = lo & ((1u << TAG_BITS) - 1);

	return tag != 0 ? tag : 1;
}

static uint64_t tag_at(const struct bucket *bucket, uint32_t slot)
{
	return bucket->tags >> (slot * TAG_BITS) & ((1u << TAG_BITS) - 1);
}

static void tag_set(struct bucket *bucket, uint32_t slot, uint64_t tag)
{
	bucket->tags &= ~(UINT64_C(0x7f) << (slot * TAG_BITS));
	bucket->tags |= tag << (slot * TAG_BITS);
}

/*
 * The top bit of each lane whose tag is this one. A lane above a true match may show up though it
 * differs by one: a hint whose entry is looked at anyway, and exact for "is there any".
 */
static uint64_t tag_match(const struct bucket *bucket, uint64_t tag)
{
	uint64_t lanes = bucket->tags ^ (tag * TAG_LANES);

	return (lanes - TAG_LANES) & ~lanes & (TAG_LANES << (TAG_BITS - 1));
}

/* Take the lowest lane off a tag_match(). */
static uint32_t match_take(uint64_t *match)
{
	uint32_t slot = (uint32_t)__builtin_ctzll(*match) / TAG_BITS;

	*match &= *match - 1;
	return slot;
}

static uint32_t empty_count(const struct bucket *bucket)
{
	uint32_t count = 0;

	for (uint32_t slot = 0; slot < BUCKET_SLOTS; slot++)
		count += tag_at(bucket, slot) == 0;
	return count;
}

static struct packed pack(const struct index_entry *entry)
{
	uint32_t flags = entry->flags | (entry->expiry_s != 0 ? INDEX_EXPIRES : 0u);

	ASSERT(entry->sequence < UINT64_C(1) << 48);
	ASSERT(entry->segment < 1u << 24);
	ASSERT(entry->page < 1u << 20);
	ASSERT(entry->leases < 1u << 12);
	ASSERT((entry->flags & INDEX_EXPIRES) == 0);
	return (struct packed) {
		.hash_lo = entry->hash.lo,
		.hash_hi = entry->hash.hi,
		.sequence_flags = entry->sequence | (uint64_t)flags << 48,
		.where = entry->segment | (uint64_t)entry->page << 24 |
			 (uint64_t)entry->hits << 44 | (uint64_t)entry->leases << 52,
	};
}

static struct packed_more pack_more(const struct index_entry *entry)
{
	return (struct packed_more) {
		.size = entry->size,
		.crc = entry->crc,
		.chain = entry->chain,
		.expiry_s = entry->expiry_s,
		.domain = entry->domain,
		.payer = entry->payer,
		.ns = entry->ns,
		.depth = entry->depth,
	};
}

static uint64_t packed_sequence(const struct packed *packed)
{
	return packed->sequence_flags & ((UINT64_C(1) << 48) - 1);
}

static uint32_t packed_segment(const struct packed *packed)
{
	return (uint32_t)(packed->where & ((1u << 24) - 1));
}

static struct index_entry unpack(const struct index *index, const struct packed *packed)
{
	const struct packed_more *more = more_at(index, packed);

	return (struct index_entry) {
		.hash = { .lo = packed->hash_lo, .hi = packed->hash_hi },
		.sequence = packed_sequence(packed),
		.segment = packed_segment(packed),
		.page = (uint32_t)(packed->where >> 24 & ((1u << 20) - 1)),
		.size = more->size,
		.crc = more->crc,
		.chain = more->chain,
		.expiry_s = more->expiry_s,
		.domain = more->domain,
		.payer = more->payer,
		.ns = more->ns,
		.depth = more->depth,
		.flags = (uint16_t)(packed->sequence_flags >> 48) & (uint16_t)~INDEX_EXPIRES,
		.hits = (uint8_t)(packed->where >> 44),
		.leases = (uint16_t)(packed->where >> 52),
	};
}

static bool has_flag(const struct packed *packed, enum index_flag flag)
{
	return (packed->sequence_flags >> 48 & flag) != 0;
}

/* Without a branch: of many that are looked at, some are stale. */
static bool is_live(const struct index *index, const struct packed *packed)
{
	uint32_t segment = packed_segment(packed);

	ASSERT(segment < index->segments->count);
	return (int)!has_flag(packed, INDEX_FORGOTTEN) &
	       (packed_sequence(packed) >= index->segments->first_sequence[segment]);
}

static bool is_at(const struct index *index, struct place place, const struct hash128 *hash)
{
	const struct packed *packed = slot_at(index, place.bucket, place.slot);

	return packed->hash_lo == hash->lo && packed->hash_hi == hash->hi &&
	       tag_at(place.bucket, place.slot) != 0;
}

/* Where hash stands, live or stale. */
static struct place find_place(const struct index *index, const struct hash128 *hash)
{
	uint64_t tag = tag_of(hash->lo);
	uint64_t buckets[2];

	buckets_of(index, hash->lo, hash->hi, buckets);
	__builtin_prefetch(&index->buckets[buckets[1]]);
	for (uint32_t i = 0; i < 2; i++) {
		struct bucket *bucket = &index->buckets[buckets[i]];
		uint64_t match = tag_match(bucket, tag);

		while (match != 0) {
			struct place place = { bucket, match_take(&match) };

			if (is_at(index, place, hash))
				return place;
		}
	}
	return (struct place) { NULL, 0 };
}

/* Where hash stands alive. */
static struct packed *find_live(const struct index *index, const struct hash128 *hash)
{
	struct place place = find_place(index, hash);
	struct packed *packed;

	if (place.bucket == NULL)
		return NULL;
	packed = slot_at(index, place.bucket, place.slot);
	return is_live(index, packed) ? packed : NULL;
}

static void place_set(struct index *index, struct place place, const struct packed *packed,
		      const struct packed_more *more)
{
	struct packed *slot = slot_at(index, place.bucket, place.slot);

	*slot = *packed;
	*more_at(index, slot) = *more;
	tag_set(place.bucket, place.slot, tag_of(packed->hash_lo));
}

static void place_clear(struct index *index, struct place place)
{
	ASSERT(index->used > 0);
	ASSERT(tag_at(place.bucket, place.slot) != 0);
	tag_set(place.bucket, place.slot, 0);
	index->used--;
}

/* An empty slot, else one whose entry is stale (then emptied), else BUCKET_SLOTS. */
static uint32_t free_slot(struct index *index, struct bucket *bucket)
{
	uint64_t match = tag_match(bucket, 0);

	if (match != 0)
		return match_take(&match);
	for (uint32_t slot = 0; slot < BUCKET_SLOTS; slot++) {
		if (is_live(index, slot_at(index, bucket, slot)))
			continue;
		place_clear(index, (struct place) { bucket, slot });
		return slot;
	}
	return BUCKET_SLOTS;
}

/* Add the buckets into which the entries of node could move. Returns the count of nodes. */
static uint32_t walk_expand(const struct index *index, struct node *nodes, uint32_t node,
			    uint32_t count)
{
	uint64_t from = nodes[node].bucket;
	const struct bucket *bucket = &index->buckets[from];

	for (uint32_t slot = 0; slot < BUCKET_SLOTS && count < WALK_MAX; slot++) {
		const struct packed *packed = slot_at(index, bucket, slot);
		uint64_t both[2];
		uint64_t to;

		buckets_of(index, packed->hash_lo, packed->hash_hi, both);
		ASSERT(both[0] == from || both[1] == from);
		to = both[0] == from ? both[1] : both[0];
		__builtin_prefetch(&index->buckets[to]);
		nodes[count++] = (struct node) { to, (uint16_t)node, (uint8_t)slot };
	}
	return count;
}

/*
 * Move entries one step each along the way to node, whose slot is free; the slot in the root that
 * this leaves to be overwritten. The way is a shortest one, so it meets no bucket twice.
 */
static struct place walk_move(struct index *index, const struct node *nodes, uint32_t node,
			      uint32_t slot)
{
	struct place to = { &index->buckets[nodes[node].bucket], slot };

	while (nodes[node].parent != node) {
		uint32_t parent = nodes[node].parent;
		struct place from = { &index->buckets[nodes[parent].bucket], nodes[node].slot };
		const struct packed *packed = slot_at(index, from.bucket, from.slot);
		uint64_t both[2];

		buckets_of(index, packed->hash_lo, packed->hash_hi, both);
		ASSERT(both[0] == nodes[node].bucket || both[1] == nodes[node].bucket);
		place_set(index, to, packed, more_at(index, packed));
		to = from;
		node = parent;
	}
	return to;
}

/* Step 3 of an insert. */
static struct place walk(struct index *index, const uint64_t roots[2])
{
	struct node nodes[WALK_MAX] = { { roots[0], 0, 0 }, { roots[1], 1, 0 } };
	uint32_t count = 2;

	for (uint32_t node = 0; node < count; node++) {
		uint32_t slot = free_slot(index, &index->buckets[nodes[node].bucket]);

		if (slot < BUCKET_SLOTS)
			return walk_move(index, nodes, node, slot);
		count = walk_expand(index, nodes, node, count);
	}
	return (struct place) { NULL, 0 };
}

/* Steps 2 and 3: a slot to be set for a hash that is not in the table. */
static struct place make_place(struct index *index, const struct hash128 *hash)
{
	uint64_t buckets[2];
	uint32_t empty[2];
	struct bucket *roomier;

	buckets_of(index, hash->lo, hash->hi, buckets);
	for (uint32_t i = 0; i < 2; i++)
		empty[i] = empty_count(&index->buckets[buckets[i]]);
	if (empty[0] + empty[1] == 0)
		return walk(index, buckets);
	roomier = &index->buckets[buckets[empty[1] > empty[0]]];
	return (struct place) { roomier, free_slot(index, roomier) };
}

struct hash128 index_hash(uint64_t seed, const struct store_id *id)
{
	_Static_assert(sizeof(*id) == 64, "no padding: the struct is what is hashed");
	return hash128_of_64(id, seed);
}

struct hash128_head index_hash_head(uint64_t seed, const struct store_id *id)
{
	_Static_assert(offsetof(struct store_id, key) == 32, "domain and namespace, then the key");
	_Static_assert(sizeof(id->key) == 32, "the other half");
	return hash128_head_of_32(id, seed);
}

/* The words of tags, and where entries begin: a line of the cache. */
static uint64_t words_size(uint64_t bucket_count)
{
	return round_up(bucket_count * sizeof(struct bucket), LINE_SIZE);
}

static uint64_t table_size(uint64_t bucket_count)
{
	return words_size(bucket_count) + bucket_count * BUCKET_SLOTS * PACKED_SIZE;
}

uint64_t index_size(uint64_t entry_count)
{
	return sizeof(struct index) + table_size(bucket_count_of(entry_count));
}

int index_create(struct env *env, uint64_t entry_count, const struct index_segments *segments,
		 struct index **index_out)
{
	struct index *index;

	ASSERT(entry_count > 0);
	ASSERT(*index_out == NULL);

	index = env->ops->alloc(env, sizeof(*index));
	if (index == NULL)
		return -ENOMEM;
	*index = (struct index) { .magic = INDEX_MAGIC,
				  .env = env,
				  .segments = segments,
				  .bucket_count = bucket_count_of(entry_count) };

	index->buckets = env->ops->map(env, table_size(index->bucket_count));
	if (index->buckets == NULL)
		goto err_free_index;
	index->slots = (void *)((char *)index->buckets + words_size(index->bucket_count));
	index->more = (void *)(index->slots + index->bucket_count * BUCKET_SLOTS);
	for (uint64_t i = 0; i < index->bucket_count; i++)
		index->buckets[i].tags = 0;

	*index_out = index;
	return 0;

err_free_index:
	env->ops->free(env, index);
	return -ENOMEM;
}

void index_move(struct index *index, struct env *env)
{
	CHECK_OBJ(index, INDEX_MAGIC);
	index->env = env;
}

void index_destroy(struct index **index)
{
	struct index *dead = *index;
	struct env *env;

	if (dead == NULL)
		return;
	CHECK_OBJ(dead, INDEX_MAGIC);
	env = dead->env;
	env->ops->unmap(env, dead->buckets, table_size(dead->bucket_count));
	dead->magic = 0;
	env->ops->free(env, dead);
	*index = NULL;
}

bool index_find(const struct index *index, const struct hash128 *hash,
		struct index_entry *entry_out)
{
	const struct packed *packed;

	CHECK_OBJ(index, INDEX_MAGIC);
	packed = find_live(index, hash);
	if (packed == NULL)
		return false;
	*entry_out = unpack(index, packed);
	return true;
}

enum index_looked index_look(const struct index *index, const struct hash128 *hash,
			     struct index_entry *entry_out)
{
	const struct packed *packed;
	struct place place;

	CHECK_OBJ(index, INDEX_MAGIC);
	place = find_place(index, hash);
	if (place.bucket == NULL)
		return INDEX_NOTHING;
	packed = slot_at(index, place.bucket, place.slot);
	*entry_out = unpack(index, packed);
	return is_live(index, packed) ? INDEX_LIVE : INDEX_STALE;
}

void index_look_hash(struct index_look *look, const struct hash128_head *head,
		     const uint8_t *const *keys, uint32_t count)
{
	ASSERT(count <= INDEX_LOOK_MAX);
	for (uint32_t i = 0; i < count; i++)
		look->hashes[i] = hash128_of_tail(head, keys[i]);
	look->count = count;
}

void index_look_start(const struct index *index, struct index_look *look)
{
	CHECK_OBJ(index, INDEX_MAGIC);
	for (uint32_t i = 0; i < look->count; i++) {
		buckets_of(index, look->hashes[i].lo, look->hashes[i].hi, look->buckets[i]);
		__builtin_prefetch(&index->buckets[look->buckets[i][0]]);
		__builtin_prefetch(&index->buckets[look->buckets[i][1]]);
	}
}

/* All bits when it holds. The compiler is not to make a branch of it again. */
static uint64_t mask_if(bool holds)
{
	uint64_t mask = 0 - (uint64_t)holds;

	__asm__("" : "+r"(mask));
	return mask;
}

static uint64_t choose(uint64_t mask, uint64_t if_set, uint64_t if_clear)
{
	return if_clear ^ ((if_set ^ if_clear) & mask);
}

/* Where the lowest lane of a tag_match() stands; none: the last slot. */
static uint64_t match_slot(uint64_t match)
{
	uint32_t bit = (uint32_t)__builtin_ctzll(match | LAST_LANE);

	_Static_assert(TAG_BITS == 7 && BUCKET_SLOTS == 9, "37 / 256 is near enough to a seventh");
	return bit * 37 >> 8;
}

/* No branch depends on what is there: it could not be foreseen. */
void index_look_fetch(const struct index *index, struct index_look *look)
{
	const struct bucket *buckets = index->buckets;
	const struct packed *slots = index->slots;
	uint32_t count = look->count;
	uint32_t some = 0;
	uint32_t more = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t tag = tag_of(look->hashes[i].lo);
		uint64_t first = tag_match(&buckets[look->buckets[i][0]], tag);
		uint64_t second = tag_match(&buckets[look->buckets[i][1]], tag);
		uint64_t in_second = mask_if(first == 0);
		uint64_t match = first | (second & in_second);
		uint64_t others = (match & (match - 1)) | (second & ~in_second);
		uint64_t bucket = choose(in_second, look->buckets[i][1], look->buckets[i][0]);
		uintptr_t entry = (uintptr_t)&slots[bucket * BUCKET_SLOTS + match_slot(match)];

		entry = choose(mask_if(match != 0), entry, (uintptr_t)&packed_nothing);
		__builtin_prefetch((const void *)entry);
		look->entries[i] = (const void *)entry;
		some |= (uint32_t)(match != 0) << i;
		more |= (uint32_t)(others != 0) << i;
	}
	look->some = some;
	look->more = more;
}

#define NOT_SIMPLY ((uint64_t)(INDEX_EXPIRES | INDEX_FORGOTTEN) << 48)

/* It is not simply there, as the entry that was fetched for it. */
static void look_closer(const struct index *index, const struct index_look *look, uint32_t i,
			uint64_t sequence, struct index_seen *seen)
{
	struct place place = find_place(index, &look->hashes[i]);
	const struct packed *packed;

	if (place.bucket == NULL)
		return;
	packed = slot_at(index, place.bucket, place.slot);
	if (!is_live(index, packed))
		seen->stale |= (uint32_t)(packed_sequence(packed) >= sequence) << i;
	else if ((packed->sequence_flags & NOT_SIMPLY) != 0 || packed_sequence(packed) < sequence)
		seen->unclear |= 1u << i;
	else
		seen->live |= 1u << i;
}

struct index_seen index_look_finish(const struct index *index, const struct index_look *look,
				    uint64_t sequence)
{
	const uint64_t *first_sequence = index->segments->first_sequence;
	struct index_seen seen = { 0, 0, 0 };
	uint32_t others = 0; /* the entry is another's: nothing is, if no other tag agrees */

	for (uint32_t i = 0; i < look->count; i++) {
		const struct packed *packed = look->entries[i];
		uint32_t segment = packed_segment(packed);
		uint64_t hash = (packed->hash_lo ^ look->hashes[i].lo) |
				(packed->hash_hi ^ look->hashes[i].hi);
		uint64_t difference = hash | (packed->sequence_flags & NOT_SIMPLY);
		uint64_t since;

		ASSERT(segment < index->segments->count);
		since = MAX(first_sequence[segment], sequence);
		seen.live |= (uint32_t)((difference == 0) & (packed_sequence(packed) >= since))
			     << i;
		others |= (uint32_t)(hash != 0) << i;
	}
	seen.live &= look->some;
	for (uint32_t left = look->some & ~seen.live & (~others | look->more); left != 0;
	     left &= left - 1)
		look_closer(index, look, (uint32_t)__builtin_ctz(left), sequence, &seen);
	return seen;
}

bool index_remembers(const struct index *index, const struct hash128 *hash, uint64_t *sequence_out)
{
	struct index_entry entry;

	if (index_look(index, hash, &entry) != INDEX_STALE)
		return false;
	*sequence_out = entry.sequence;
	return true;
}

int index_insert(struct index *index, const struct index_entry *entry)
{
	const struct packed packed = pack(entry);
	const struct packed_more more = pack_more(entry);
	struct place place;

	CHECK_OBJ(index, INDEX_MAGIC);
	ASSERT(is_live(index, &packed));
	place = find_place(index, &entry->hash);
	if (place.bucket == NULL) {
		place = make_place(index, &entry->hash);
		if (place.bucket == NULL)
			return -ENOSPC;
		index->used++;
	}
	place_set(index, place, &packed, &more);
	return 0;
}

bool index_update(struct index *index, const struct index_entry *entry)
{
	struct packed *packed;
	struct index_entry present;

	CHECK_OBJ(index, INDEX_MAGIC);
	packed = find_live(index, &entry->hash);
	if (packed == NULL || packed_sequence(packed) != entry->sequence)
		return false;
	present = unpack(index, packed);
	present.flags = entry->flags;
	present.hits = entry->hits;
	present.leases = entry->leases;
	*packed = pack(&present);
	return true;
}

bool index_remove(struct index *index, const struct hash128 *hash, uint64_t before)
{
	struct place place;
	const struct packed *packed;
	bool was_live;

	CHECK_OBJ(index, INDEX_MAGIC);
	place = find_place(index, hash);
	if (place.bucket == NULL)
		return false;
	packed = slot_at(index, place.bucket, place.slot);
	was_live = is_live(index, packed);
	if (was_live && packed_sequence(packed) >= before)
		return false;
	place_clear(index, place);
	return was_live;
}

uint64_t index_count(const struct index *index)
{
	CHECK_OBJ(index, INDEX_MAGIC);
	return index->used;
}

uint64_t index_room(const struct index *index)
{
	CHECK_OBJ(index, INDEX_MAGIC);
	return index->bucket_count * BUCKET_SLOTS * FILL_NUM / FILL_DEN;
}

void index_forget(struct index *index, const struct hash128 *hash, uint64_t sequence)
{
	struct packed *packed;

	CHECK_OBJ(index, INDEX_MAGIC);
	packed = find_live(index, hash);
	if (packed != NULL && packed_sequence(packed) == sequence)
		packed->sequence_flags |= (uint64_t)INDEX_FORGOTTEN << 48;
}

uint32_t index_candidates(const struct index *index, const struct hash128 *hash,
			  struct index_entry entries_out[INDEX_CANDIDATES])
{
	uint64_t both[2];
	uint32_t count = 0;

	_Static_assert(INDEX_CANDIDATES == 2 * BUCKET_SLOTS, "two buckets");
	CHECK_OBJ(index, INDEX_MAGIC);
	buckets_of(index, hash->lo, hash->hi, both);
	for (uint32_t i = 0; i < 2; i++) {
		const struct bucket *bucket = &index->buckets[both[i]];

		for (uint32_t slot = 0; slot < BUCKET_SLOTS; slot++) {
			if (tag_at(bucket, slot) != 0 &&
			    is_live(index, slot_at(index, bucket, slot)))
				entries_out[count++] = unpack(index, slot_at(index, bucket, slot));
		}
	}
	return count;
}

static void walk_bucket(struct index *index, struct bucket *bucket, bool keeps_stale,
			bool (*visit)(void *ctx, const struct index_entry *entry), void *ctx)
{
	for (uint32_t slot = 0; slot < BUCKET_SLOTS; slot++) {
		const struct packed *packed = slot_at(index, bucket, slot);
		struct index_entry entry;

		if (tag_at(bucket, slot) == 0 || (keeps_stale && !is_live(index, packed)))
			continue;
		entry = unpack(index, packed);
		if (!is_live(index, packed) || !visit(ctx, &entry))
			place_clear(index, (struct place) { bucket, slot });
	}
}

uint64_t index_walk_part(struct index *index, uint64_t bucket, uint64_t count,
			 bool (*visit)(void *ctx, const struct index_entry *entry), void *ctx)
{
	uint64_t end = MIN(bucket + count, index->bucket_count);

	CHECK_OBJ(index, INDEX_MAGIC);
	for (; bucket < end; bucket++)
		walk_bucket(index, &index->buckets[bucket], true, visit, ctx);
	return end == index->bucket_count ? 0 : end;
}

void index_walk(struct index *index, bool (*visit)(void *ctx, const struct index_entry *entry),
		void *ctx)
{
	CHECK_OBJ(index, INDEX_MAGIC);
	for (uint64_t bucket = 0; bucket < index->bucket_count; bucket++)
		walk_bucket(index, &index->buckets[bucket], false, visit, ctx);
}
