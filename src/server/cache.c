/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two queues, oldest first, and names (S3-FIFO; docs/decisions/0006-cache.md has the figures).
 *
 *   1. A block comes into `first` when it was written, or read from the medium, whole.
 *   2. Room is wanted: `first` gives it while it has its part of the memory, else `main`. The
 *      oldest of `first` goes over to `main` when it was hit, else only its name stays. The oldest
 *      of `main` gets another turn when it was hit, else it goes.
 *   3. A block that comes and whose name is known was read or written twice: into `main` at once.
 *
 * A whole block that can be read past the cache, straight to where it is wanted, does not come in
 * at its first sight: its name goes to the others at once. At its second it comes in by 3.
 *
 * Names stay until blocks of NAMED_PART times the cache's size have been named behind them.
 *
 * Memory of a block: pieces of BUFFER_MAX, chained by next_chunk, and a smaller tail. A whole piece
 * comes by exchange (buffers.h: the arena is common), a tail is copied into a piece of the cache's.
 *
 * A pinned block whose turn it is goes to the end of its queue. One that turns out to be wrong, or
 * whose record is no more, leaves directory and queue at once and its memory with the last pin.
 */
#include "cache.h"

#include <string.h>

#define FIRST_PART  2u         /* of the memory is the first queue's */
#define BLOCK_PART  4u         /* of the memory is the largest block's that comes in */
#define NAMED_PART  4u         /* times the memory: blocks whose names are kept */
#define ENTRY_BYTES (16 * KiB) /* of memory, one entry; names are as many */

_Static_assert(BUFFER_MAX == BUDDY_PIECE_MAX, "whole pieces can be exchanged");

/* --- tables --- */

static uint32_t entry_count_of(uint64_t size)
{
	return (uint32_t)MAX(size / ENTRY_BYTES, 1);
}

static uint32_t bucket_count_of(uint64_t size)
{
	uint32_t count = 16;

	while (count < entry_count_of(size))
		count *= 2;
	return count;
}

/* Chunks are numbered in the arena: the cache may come to own any of them. */
uint64_t cache_memory_size(uint64_t size, uint64_t arena_size)
{
	return entry_count_of(size) * (sizeof(struct cache_entry) + sizeof(struct cache_name)) +
	       bucket_count_of(size) * (sizeof(struct list) + sizeof(uint32_t)) +
	       arena_size / BUFFER_MAX * sizeof(uint32_t);
}

void cache_init(struct cache *cache, struct buffers_arena *arena, uint64_t size, void *memory)
{
	uint32_t bucket_count = bucket_count_of(size);

	*cache = (struct cache) { .entries = memory,
				  .entry_count = size == 0 ? 0 : entry_count_of(size),
				  .bucket_mask = bucket_count - 1 };
	cache->names = (void *)(cache->entries + entry_count_of(size));
	cache->buckets = (void *)(cache->names + entry_count_of(size));
	cache->name_buckets = (void *)(cache->buckets + bucket_count);
	cache->next_chunk = cache->name_buckets + bucket_count;
	list_init(&cache->unused);
	list_init(&cache->first.entries);
	list_init(&cache->main.entries);
	for (uint32_t i = 0; i < bucket_count; i++)
		list_init(&cache->buckets[i]);
	for (uint32_t i = 0; i < cache->entry_count; i++) {
		list_init(&cache->entries[i].bucket_node);
		list_add_tail(&cache->unused, &cache->entries[i].node);
	}
	buffers_arena_give(arena, &cache->buddy, size);
}

/* --- names --- */

static uint32_t *name_bucket(const struct cache *cache, uint64_t tag)
{
	return &cache->name_buckets[tag & cache->bucket_mask];
}

static struct cache_name *name_at(const struct cache *cache, uint64_t number)
{
	return &cache->names[number % cache->entry_count];
}

static void name_unlink(struct cache *cache, const struct cache_name *name)
{
	uint32_t self = (uint32_t)(name - cache->names) + 1;
	uint32_t *link = name_bucket(cache, name->tag);

	while (*link != self) {
		ASSERT(*link != 0);
		link = &cache->names[*link - 1].next;
	}
	*link = name->next;
}

/* Forget the oldest name. One that was taken before (size 0) is in no bucket. */
static void name_drop(struct cache *cache)
{
	struct cache_name *name = name_at(cache, cache->name_tail++);

	if (name->size == 0)
		return;
	name_unlink(cache, name);
	cache->named_bytes -= name->size;
}

static void name_add(struct cache *cache, uint64_t tag, uint32_t size)
{
	struct cache_name *name;
	uint32_t *link = name_bucket(cache, tag);

	while (cache->name_head - cache->name_tail == cache->entry_count ||
	       (cache->name_head > cache->name_tail &&
		cache->named_bytes + size > NAMED_PART * cache->buddy.size))
		name_drop(cache);
	name = name_at(cache, cache->name_head++);
	*name = (struct cache_name) { tag, size, *link };
	*link = (uint32_t)(name - cache->names) + 1;
	cache->named_bytes += size;
}

static struct cache_name *name_find(const struct cache *cache, uint64_t tag)
{
	for (uint32_t at = *name_bucket(cache, tag); at != 0; at = cache->names[at - 1].next) {
		if (cache->names[at - 1].tag == tag)
			return &cache->names[at - 1];
	}
	return NULL;
}

/* Whether the name is known; then it has done its duty. */
static bool name_take(struct cache *cache, uint64_t tag)
{
	struct cache_name *name = name_find(cache, tag);

	if (name == NULL)
		return false;
	name_unlink(cache, name);
	cache->named_bytes -= name->size;
	name->size = 0;
	return true;
}

static bool is_too_large(const struct cache *cache, uint32_t size)
{
	return buffers_held_size(size) > cache->buddy.size / BLOCK_PART;
}

bool cache_knows(const struct cache *cache, const struct shard_ref *ref)
{
	return !is_too_large(cache, ref->size) && name_find(cache, ref->hash.lo) != NULL;
}

void cache_note(struct cache *cache, const struct shard_ref *ref)
{
	if (!is_too_large(cache, ref->size) && name_find(cache, ref->hash.lo) == NULL)
		name_add(cache, ref->hash.lo, ref->size);
}

/* --- memory of a block --- */

static uint8_t *chunk_data(const struct cache *cache, uint32_t chunk)
{
	return (uint8_t *)cache->buddy.arena + (uint64_t)(chunk - 1) * BUFFER_MAX;
}

static uint32_t chunk_of(const struct cache *cache, const void *data)
{
	return (uint32_t)((uint64_t)((const char *)data - cache->buddy.arena) / BUFFER_MAX) + 1;
}

/* Pieces that the buddy rounds up to whole ones are chunks, the last one, too. */
static uint32_t chunk_count(uint32_t size)
{
	uint32_t tail = size % BUFFER_MAX;

	return (uint32_t)(size / BUFFER_MAX) + (tail > 0 && buddy_piece_size(tail) == BUFFER_MAX);
}

static uint32_t tail_size(uint32_t size)
{
	uint64_t whole = chunk_count(size) * BUFFER_MAX;

	return size > whole ? (uint32_t)(size - whole) : 0;
}

static void memory_give(struct cache *cache, struct cache_entry *entry)
{
	while (entry->chunk != 0) {
		uint32_t next = cache->next_chunk[entry->chunk - 1];

		buddy_give(&cache->buddy, chunk_data(cache, entry->chunk));
		entry->chunk = next;
	}
	if (entry->tail != NULL)
		buddy_give(&cache->buddy, entry->tail);
	entry->tail = NULL;
}

/* --- the directory --- */

static struct list *bucket_of(const struct cache *cache, const struct hash128 *hash)
{
	return &cache->buckets[hash->lo & cache->bucket_mask];
}

static struct cache_entry *find(const struct cache *cache, const struct shard_slot *slot,
				const struct hash128 *hash)
{
	list_for_each (node, bucket_of(cache, hash)) {
		struct cache_entry *entry = list_entry(node, struct cache_entry, bucket_node);

		if (entry->hash.lo == hash->lo && entry->hash.hi == hash->hi && entry->slot == slot)
			return entry;
	}
	return NULL;
}

static struct cache_queue *queue_of(struct cache *cache, enum cache_place place)
{
	ASSERT(place == CACHE_FIRST || place == CACHE_MAIN);
	return place == CACHE_FIRST ? &cache->first : &cache->main;
}

static void queue_add(struct cache *cache, struct cache_entry *entry, enum cache_place place)
{
	struct cache_queue *queue = queue_of(cache, place);

	entry->place = place;
	entry->is_hit = false;
	queue->bytes += buffers_held_size(entry->size);
	list_add_tail(&queue->entries, &entry->node);
}

static void queue_remove(struct cache *cache, struct cache_entry *entry)
{
	queue_of(cache, entry->place)->bytes -= buffers_held_size(entry->size);
	list_del(&entry->node);
}

static void entry_free(struct cache *cache, struct cache_entry *entry)
{
	ASSERT(entry->pins == 0);
	memory_give(cache, entry);
	entry->place = CACHE_UNUSED;
	cache->used--;
	list_add_tail(&cache->unused, &entry->node);
}

/* Nobody finds it any more; its memory goes with the last pin. */
static void entry_turn_out(struct cache *cache, struct cache_entry *entry)
{
	if (entry->place != CACHE_LOOSE) {
		queue_remove(cache, entry);
		list_del(&entry->bucket_node);
		entry->place = CACHE_LOOSE;
	}
	if (entry->pins == 0)
		entry_free(cache, entry);
}

/* --- room --- */

/* One step towards it. False: there is nothing to turn out. */
static bool evict(struct cache *cache)
{
	bool is_first = cache->first.bytes >= cache->buddy.size / FIRST_PART ||
			list_is_empty(&cache->main.entries);
	struct cache_queue *queue = is_first ? &cache->first : &cache->main;
	struct cache_entry *entry = list_head(&queue->entries, struct cache_entry, node);

	if (entry == NULL)
		return false;
	if (entry->is_hit) {
		queue_remove(cache, entry);
		queue_add(cache, entry, CACHE_MAIN);
	} else if (entry->pins > 0) {
		list_del(&entry->node);
		list_add_tail(&queue->entries, &entry->node);
	} else {
		if (is_first)
			name_add(cache, entry->hash.lo, entry->size);
		cache->evictions++;
		entry_turn_out(cache, entry);
	}
	return true;
}

/* Turn each block over twice at most: then those that are left are pinned. */
static uint32_t evict_max(const struct cache *cache)
{
	return 2 * cache->used + 2;
}

static void *piece_take(struct cache *cache, uint64_t size)
{
	void *piece = buddy_take(&cache->buddy, size);

	for (uint32_t left = evict_max(cache); piece == NULL && left > 0; left--) {
		if (!evict(cache))
			return NULL;
		piece = buddy_take(&cache->buddy, size);
	}
	return piece;
}

static struct cache_entry *entry_take(struct cache *cache)
{
	struct cache_entry *entry;

	for (uint32_t left = evict_max(cache); list_is_empty(&cache->unused) && left > 0; left--) {
		if (!evict(cache))
			return NULL;
	}
	entry = list_head(&cache->unused, struct cache_entry, node);
	if (entry == NULL)
		return NULL;
	list_del(&entry->node);
	cache->used++;
	return entry;
}

/* Memory for all of its bytes. */
static bool memory_take(struct cache *cache, struct cache_entry *entry)
{
	uint32_t tail = tail_size(entry->size);

	for (uint32_t i = chunk_count(entry->size); i > 0; i--) {
		void *piece = piece_take(cache, BUFFER_MAX);
		uint32_t chunk;

		if (piece == NULL)
			return false;
		chunk = chunk_of(cache, piece);
		cache->next_chunk[chunk - 1] = entry->chunk;
		entry->chunk = chunk;
	}
	if (tail > 0)
		entry->tail = piece_take(cache, tail);
	return tail == 0 || entry->tail != NULL;
}

struct cache_entry *cache_reserve(struct cache *cache, const struct shard_slot *slot,
				  const struct shard_ref *ref)
{
	struct cache_entry *entry;

	if (is_too_large(cache, ref->size))
		return NULL;
	entry = entry_take(cache);
	if (entry == NULL)
		return NULL;
	*entry = (struct cache_entry) {
		.slot = slot,
		.hash = ref->hash,
		.sequence = ref->sequence,
		.size = ref->size,
		.crc = ref->crc,
		.has_crc = (ref->flags & SHARD_REF_NO_CRC) == 0,
		.place = CACHE_LOOSE,
		.pins = 1,
	};
	list_init(&entry->node);
	list_init(&entry->bucket_node);
	if (memory_take(cache, entry))
		return entry;
	cache_discard(cache, entry);
	return NULL;
}

uint32_t cache_buffers(const struct cache *cache, const struct cache_entry *entry,
		       struct iovec *iov)
{
	uint64_t left = round_up(entry->size, PAGE_SIZE);
	uint32_t count = 0;

	for (uint32_t chunk = entry->chunk; chunk != 0; chunk = cache->next_chunk[chunk - 1]) {
		uint64_t size = MIN(left, BUFFER_MAX);

		iov[count++] = (struct iovec) { chunk_data(cache, chunk), size };
		left -= size;
	}
	if (left > 0)
		iov[count++] = (struct iovec) { entry->tail, left };
	return count;
}

void cache_discard(struct cache *cache, struct cache_entry *entry)
{
	ASSERT(entry->place == CACHE_LOOSE);
	cache_unpin(cache, entry);
}

/* Into the directory, and into main when it was known, or is said to be wanted. */
static void entry_enter(struct cache *cache, struct cache_entry *entry, bool is_wanted)
{
	struct cache_entry *old = find(cache, entry->slot, &entry->hash);
	bool is_known = name_take(cache, entry->hash.lo);

	ASSERT(entry->place == CACHE_LOOSE);
	if (old != NULL)
		entry_turn_out(cache, old);
	list_add_tail(bucket_of(cache, &entry->hash), &entry->bucket_node);
	queue_add(cache, entry, is_known ? CACHE_MAIN : CACHE_FIRST);
	entry->is_hit = is_wanted;
	cache_unpin(cache, entry);
}

void cache_publish(struct cache *cache, struct cache_entry *entry)
{
	entry_enter(cache, entry, true);
}

/* --- exchange --- */

/* Give each whole piece of want for one of the entry's, copy what is behind them. */
static void exchange(struct cache *cache, struct cache_entry *entry, struct buffers_want *want)
{
	uint32_t tail = tail_size(entry->size);
	uint32_t *link = &entry->chunk;
	uint32_t count = chunk_count(entry->size);

	ASSERT(want->iov_count == count + (tail > 0));
	for (uint32_t i = 0; i < count; i++) {
		uint32_t mine = *link;
		uint32_t its = chunk_of(cache, want->iov[i].iov_base);

		ASSERT(chunk_data(cache, its) == want->iov[i].iov_base);
		want->iov[i].iov_base = chunk_data(cache, mine);
		cache->next_chunk[its - 1] = cache->next_chunk[mine - 1];
		*link = its;
		link = &cache->next_chunk[its - 1];
	}
	if (tail == 0)
		return;
	memcpy(entry->tail, want->iov[count].iov_base, tail);
	cache->copied += tail;
}

void cache_take(struct cache *cache, const struct shard_slot *slot, const struct shard_ref *ref,
		struct buffers_want *want)
{
	struct cache_entry *entry;

	ASSERT(want->state == BUFFERS_HELD);
	if (cache_has(cache, slot, ref))
		return;
	entry = cache_reserve(cache, slot, ref);
	if (entry == NULL)
		return;
	exchange(cache, entry, want);
	entry_enter(cache, entry, false);
}

/* --- reading --- */

bool cache_has(const struct cache *cache, const struct shard_slot *slot,
	       const struct shard_ref *ref)
{
	const struct cache_entry *entry = find(cache, slot, &ref->hash);

	return entry != NULL && entry->sequence == ref->sequence;
}

struct cache_entry *cache_find(struct cache *cache, const struct shard_slot *slot,
			       const struct shard_ref *ref)
{
	struct cache_entry *entry = find(cache, slot, &ref->hash);

	if (entry != NULL && entry->sequence != ref->sequence) {
		entry_turn_out(cache, entry);
		entry = NULL;
	}
	if (entry == NULL) {
		cache->misses++;
		return NULL;
	}
	ASSERT(entry->size == ref->size);
	cache->hits++;
	entry->is_hit = true;
	entry->pins++;
	return entry;
}

void cache_unpin(struct cache *cache, struct cache_entry *entry)
{
	ASSERT(entry->pins > 0);
	entry->pins--;
	if (entry->pins == 0 && entry->place == CACHE_LOOSE)
		entry_free(cache, entry);
}

uint32_t cache_view(const struct cache *cache, const struct cache_entry *entry, uint32_t offset,
		    uint32_t size, struct iovec *iov, uint32_t iov_max)
{
	uint32_t chunk = entry->chunk;
	uint64_t begin = 0; /* of the piece, in the block */
	uint32_t count = 0;

	ASSERT(entry->pins > 0);
	ASSERT((uint64_t)offset + size <= entry->size);
	while (size > 0 && count < iov_max) {
		uint64_t end = chunk != 0 ? MIN(begin + BUFFER_MAX, entry->size) : entry->size;
		uint8_t *data = chunk != 0 ? chunk_data(cache, chunk) : entry->tail;

		ASSERT(data != NULL);
		if (offset < end) {
			uint32_t piece = (uint32_t)MIN(end - offset, size);

			iov[count++] = (struct iovec) { data + (offset - begin), piece };
			offset += piece;
			size -= piece;
		}
		begin = end;
		chunk = chunk != 0 ? cache->next_chunk[chunk - 1] : 0;
	}
	return count;
}

static uint32_t range_crc(const struct cache *cache, const struct cache_entry *entry,
			  uint32_t offset, uint32_t size)
{
	uint32_t crc = 0;

	while (size > 0) {
		struct iovec iov;

		(void)cache_view(cache, entry, offset, size, &iov, 1); /* one: size is not 0 */
		crc = crc32c(crc, iov.iov_base, iov.iov_len);
		offset += (uint32_t)iov.iov_len;
		size -= (uint32_t)iov.iov_len;
	}
	return crc;
}

bool cache_check(struct cache *cache, struct cache_entry *entry, uint32_t offset, uint32_t size,
		 uint32_t *crc_out)
{
	uint32_t crc = range_crc(cache, entry, offset, size);
	uint32_t whole = crc;

	if (offset != 0 || size != entry->size)
		whole = range_crc(cache, entry, 0, entry->size);
	if (entry->has_crc && whole != entry->crc) {
		cache->corrupt++;
		entry_turn_out(cache, entry);
		return false;
	}
	*crc_out = crc;
	return true;
}
