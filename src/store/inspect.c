/* SPDX-License-Identifier: Apache-2.0 */
#include "inspect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "medium.h"
#include "shard_priv.h"

#define INSPECT_MAGIC 0x696e7370u

struct inspect {
	uint32_t magic;
	struct env *env;
	struct medium *medium;
	struct inspect_medium about;
	struct shard *shard; /* the current one; NULL: none yet */
	struct recovery recovery;
	char *payload; /* of a largest block, page aligned; or two label pages, a super slot */
	uint64_t payload_size;
	struct disk_foot_entry *foot; /* of the segment being walked, by sequence */
	uint32_t foot_room;
	uint32_t foot_count;
	bool *is_met; /* beside foot: its record header was met */
};

/* A walk under way. */
struct walk {
	struct inspect *inspect;
	struct segment *segment;
	const struct inspect_visitor *visitor;
};

/* --- medium --- */

static enum inspect_copy label_copy(const struct disk_label *copy, const struct disk_label *label)
{
	if (memcmp(copy, label, sizeof(*copy)) == 0)
		return INSPECT_WHOLE;
	return medium_label_is_whole(copy) ? INSPECT_OLDER : INSPECT_DAMAGED;
}

static void medium_look(struct inspect *inspect)
{
	struct env_blk *blk = medium_blk(inspect->medium);
	struct disk_label *copy = (struct disk_label *)(void *)inspect->payload;
	struct inspect_medium *about = &inspect->about;
	struct env_blk_info blk_info;

	medium_get_info(inspect->medium, &about->info);
	about->label = *medium_label(inspect->medium);
	inspect->env->ops->blk_info(inspect->env, blk, &blk_info);
	about->is_in_use = blk_info.is_in_use;
	for (uint32_t i = 0; i < ARRAY_LEN(about->labels); i++) {
		int rc = inspect->env->ops->blk_read(inspect->env, blk, copy, sizeof(*copy),
						     i * sizeof(*copy));

		about->labels[i] = rc < 0 ? INSPECT_DAMAGED : label_copy(copy, &about->label);
	}
}

int inspect_open(struct env *env, const char *path, struct inspect **inspect_out,
		 char message_out[256])
{
	struct inspect *inspect = env->ops->alloc(env, sizeof(*inspect));
	struct medium_info info;
	int rc;

	ASSERT(*inspect_out == NULL);
	if (inspect == NULL)
		return -ENOMEM;
	*inspect = (struct inspect) { .magic = INSPECT_MAGIC, .env = env };
	rc = medium_open_read_only(env, path, &inspect->medium, message_out);
	if (rc < 0)
		goto err_free;
	medium_get_info(inspect->medium, &info);
	inspect->payload_size = MAX(round_up(info.block_max, PAGE_SIZE), DISK_SUPER_SIZE);
	inspect->payload = env->ops->map(env, inspect->payload_size);
	if (inspect->payload == NULL) {
		(void)snprintf(message_out, 256, "no memory for a block of %u bytes",
			       info.block_max); /* short */
		rc = -ENOMEM;
		goto err_close;
	}
	medium_look(inspect);
	*inspect_out = inspect;
	return 0;

err_close:
	medium_close(&inspect->medium);
err_free:
	env->ops->free(env, inspect);
	return rc;
}

static void shard_drop_current(struct inspect *inspect)
{
	struct env *env = inspect->env;

	(void)shard_close(&inspect->shard, true); /* nothing was written, nothing can fail */
	if (inspect->foot != NULL)
		env->ops->free(env, inspect->foot);
	if (inspect->is_met != NULL)
		env->ops->free(env, inspect->is_met);
	inspect->foot = NULL;
	inspect->is_met = NULL;
}

void inspect_close(struct inspect **inspect)
{
	struct inspect *dead = *inspect;

	if (dead == NULL)
		return;
	CHECK_OBJ(dead, INSPECT_MAGIC);
	shard_drop_current(dead);
	dead->env->ops->unmap(dead->env, dead->payload, dead->payload_size);
	medium_close(&dead->medium);
	dead->magic = 0;
	dead->env->ops->free(dead->env, dead);
	*inspect = NULL;
}

const struct inspect_medium *inspect_medium(const struct inspect *inspect)
{
	CHECK_OBJ(inspect, INSPECT_MAGIC);
	return &inspect->about;
}

/* --- shard --- */

static enum inspect_copy super_copy(struct inspect *inspect, uint32_t slot)
{
	const struct super *super = &inspect->shard->super;
	struct disk_super *copy = (struct disk_super *)(void *)inspect->payload;
	int rc = inspect->env->ops->blk_read(inspect->env, super->blk, copy, sizeof(*copy),
					     super->offset + slot * DISK_SUPER_SIZE);

	if (rc < 0 || !super_slot_is_whole(copy, super->offset))
		return INSPECT_DAMAGED;
	return copy->count == super->disk->count ? INSPECT_WHOLE : INSPECT_OLDER;
}

static void shard_look(struct inspect *inspect, uint32_t index, struct inspect_shard *out)
{
	const struct shard *shard = inspect->shard;
	const struct disk_super *disk = shard->super.disk;
	struct shard_stats stats;

	shard_get_stats(shard, &stats);
	*out = (struct inspect_shard) {
		.index = disk->index,
		.extent = medium_extent(inspect->medium, index),
		.segment_size = disk->segment_size,
		.writings = disk->count,
		.supers = { super_copy(inspect, 0), super_copy(inspect, 1) },
		.is_clean = disk->is_clean != 0,
		.drop_count = disk->drop_count,
		.blocks = stats.block_count,
		.bytes = stats.block_bytes,
		.scanned = stats.recovered_scanned,
		.io_errors = stats.io_errors,
		.recovery_bytes = stats.recovery_bytes,
		.is_index_full = stats.is_index_short,
	};
	memcpy(out->uuid, disk->shard, sizeof(out->uuid));
}

int inspect_shard(struct inspect *inspect, uint32_t index, uint64_t index_entries,
		  struct inspect_shard *shard_out)
{
	const struct shard_opts opts = { .index_entries = index_entries,
					 .queue_depth = 1,
					 .put_max = 1,
					 .write_size = MiB,
					 .is_read_only = true };
	struct env *env = inspect->env;
	int rc;

	CHECK_OBJ(inspect, INSPECT_MAGIC);
	shard_drop_current(inspect);
	rc = shard_open(env, inspect->medium, index, NULL, &opts, &inspect->shard);
	if (rc < 0)
		return rc;
	inspect->recovery = (struct recovery) { .shard = inspect->shard };
	inspect->foot_room = inspect->shard->segment_pages;
	inspect->foot = env->ops->alloc(env, inspect->foot_room * sizeof(*inspect->foot));
	inspect->is_met = env->ops->alloc(env, inspect->foot_room * sizeof(*inspect->is_met));
	if (inspect->foot == NULL || inspect->is_met == NULL) {
		shard_drop_current(inspect);
		return -ENOMEM;
	}
	shard_look(inspect, index, shard_out);
	return 0;
}

/* --- segments --- */

/* Page 0 is no span header of ours, but the last page a footer: there was a life here. */
static bool is_span_lost(struct inspect *inspect, const struct segment *segment)
{
	struct shard *shard = inspect->shard;
	const struct disk_footer *footer = (const struct disk_footer *)(void *)shard->scratch;
	uint32_t index = segment_index(shard, segment);

	if (recovery_read(&inspect->recovery, segment, 0, 1, shard->scratch) < 0)
		return true;
	if (span_check(shard, (const struct disk_span *)(void *)shard->scratch, index, 0))
		return false;
	if (recovery_read(&inspect->recovery, segment, shard->segment_pages - 1, 1,
			  shard->scratch) < 0)
		return false;
	return footer->magic == DISK_FOOT_MAGIC && footer->segment == index &&
	       memcmp(footer->shard, shard->super.disk->shard, sizeof(footer->shard)) == 0 &&
	       footer->crc == disk_crc(footer, sizeof(*footer), offsetof(struct disk_footer, crc));
}

uint32_t inspect_segment_count(const struct inspect *inspect)
{
	CHECK_OBJ(inspect, INSPECT_MAGIC);
	return inspect->shard->segment_count;
}

void inspect_segment_get(struct inspect *inspect, uint32_t index,
			 struct inspect_segment *segment_out)
{
	const struct shard *shard = inspect->shard;
	const struct segment *segment = &shard->segments[index];
	struct disk_footer footer;
	enum foot_state foot;

	ASSERT(index < shard->segment_count);
	*segment_out = (struct inspect_segment) { .index = index,
						  .tail = segment->tail,
						  .opened = segment->opened,
						  .created_s = segment->created_s,
						  .live_blocks = segment->live_count,
						  .live_bytes = segment->live_bytes };
	if (segment->state == SEGMENT_FREE) {
		segment_out->state = INSPECT_FREE;
		segment_out->is_span_damaged = is_span_lost(inspect, segment);
		return;
	}
	foot = foot_read(&inspect->recovery, segment, &footer);
	segment_out->state = foot != FOOT_COUNTS     ? INSPECT_OPEN
			     : footer.is_sealed != 0 ? INSPECT_SEALED
						     : INSPECT_STOPPED;
	segment_out->footer = foot == FOOT_COUNTS ? INSPECT_FOOTER
			      : foot == FOOT_TORN ? INSPECT_FOOTER_DAMAGED
						  : INSPECT_NO_FOOTER;
}

/* --- the walk --- */

static int by_sequence(const void *a, const void *b)
{
	const struct disk_foot_entry *x = a;
	const struct disk_foot_entry *y = b;

	return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static void foot_take(struct inspect *inspect, const struct segment *segment)
{
	struct disk_footer footer;

	inspect->foot_count = 0;
	if (foot_read(&inspect->recovery, segment, &footer) != FOOT_COUNTS)
		return;
	ASSERT(footer.entry_count <= inspect->foot_room);
	inspect->foot_count = footer.entry_count;
	memcpy(inspect->foot, inspect->shard->scratch + disk_foot_entries_offset(footer.name_count),
	       footer.entry_count * sizeof(*inspect->foot));
	memset(inspect->is_met, 0, footer.entry_count * sizeof(*inspect->is_met));
	qsort(inspect->foot, inspect->foot_count, sizeof(*inspect->foot), by_sequence);
}

/* The row of foot with this sequence; NULL: none. */
static const struct disk_foot_entry *foot_find(const struct inspect *inspect, uint64_t sequence)
{
	const struct disk_foot_entry key = { .sequence = sequence };

	return bsearch(&key, inspect->foot, inspect->foot_count, sizeof(key), by_sequence);
}

static enum inspect_life life_of(const struct inspect *inspect, const struct inspect_block *block)
{
	const struct shard *shard = inspect->shard;
	const struct disk_entry *entry = block->entry;
	struct index_entry found;

	if (block->size == 0)
		return INSPECT_TOMBSTONE;
	if (entry != NULL &&
	    block->sequence < super_drop_sequence(&shard->super, entry->domain, entry->ns))
		return INSPECT_DROPPED;
	if (!index_find(shard->index, &block->hash, &found) || found.sequence != block->sequence)
		return INSPECT_REPLACED;
	if (block->expiry_s != 0 && block->expiry_s <= inspect->env->ops->wall_s(inspect->env))
		return INSPECT_EXPIRED;
	return INSPECT_LIVE;
}

/* Where the first wrong stride of the payload begins. */
static uint32_t wrong_offset(const struct inspect *inspect, const struct disk_record *record,
			     const struct disk_entry *entry)
{
	const uint32_t *strides = record_strides(record, entry);
	uint32_t stride = record_stride(entry->size);

	for (uint32_t i = 0; i < entry->stride_count; i++) {
		uint32_t at = i * stride;

		if (crc32c(0, inspect->payload + at, MIN(stride, entry->size - at)) != strides[i])
			return at;
	}
	return 0;
}

int inspect_payload(struct inspect *inspect, const struct inspect_block *block, void *buf)
{
	struct shard *shard = inspect->shard;
	uint32_t pages = (uint32_t)pages_of(block->size);
	int rc;

	CHECK_OBJ(inspect, INSPECT_MAGIC);
	ASSERT(block->entry != NULL);
	if (pages * PAGE_SIZE > inspect->payload_size)
		return -ERR_CORRUPT; /* larger than the largest: recovery passes it over, too */
	rc = recovery_read(&inspect->recovery, &shard->segments[block->segment], block->page, pages,
			   inspect->payload);
	if (rc < 0)
		return rc;
	if ((block->entry->flags & DISK_ENTRY_NO_CRC) == 0 &&
	    crc32c(0, inspect->payload, block->size) != block->entry->crc)
		return -ERR_CORRUPT;
	if (buf != NULL)
		memcpy(buf, inspect->payload, block->size);
	return 0;
}

static void payload_judge(struct inspect *inspect, struct inspect_block *block,
			  const struct disk_record *record)
{
	int rc;

	if (block->size == 0)
		return;
	rc = inspect_payload(inspect, block, NULL);
	if (rc == -ERR_CORRUPT) {
		block->payload = INSPECT_PAYLOAD_WRONG;
		block->wrong_offset = wrong_offset(inspect, record, block->entry);
	} else if (rc < 0) {
		block->payload = INSPECT_PAYLOAD_UNREADABLE;
	} else {
		block->payload = (block->entry->flags & DISK_ENTRY_NO_CRC) != 0
					 ? INSPECT_PAYLOAD_UNSUMMED
					 : INSPECT_PAYLOAD_RIGHT;
	}
}

static void entry_tell(const struct walk *walk, const struct disk_record *record,
		       const struct disk_entry *entry)
{
	struct inspect *inspect = walk->inspect;
	const struct disk_foot_entry *row = foot_find(inspect, entry->sequence);
	struct inspect_block block = { .segment = segment_index(inspect->shard, walk->segment),
				       .record_page = record->page,
				       .page = entry->page,
				       .entry = entry,
				       .sequence = entry->sequence,
				       .expiry_s = entry->expiry_s,
				       .depth = entry->depth,
				       .size = entry->size,
				       .is_in_footer = row != NULL };
	struct store_id id;

	memcpy(id.domain, entry->domain, sizeof(id.domain));
	memcpy(id.ns, entry->ns, sizeof(id.ns));
	memcpy(id.key, entry->key, sizeof(id.key));
	block.hash = index_hash(inspect->shard->super.disk->seed, &id);
	block.life = life_of(inspect, &block);
	if (row != NULL)
		inspect->is_met[row - inspect->foot] = true;
	if (walk->visitor->reads_payload)
		payload_judge(inspect, &block, record);
	walk->visitor->block(walk->visitor->ctx, &block);
}

static void record_met(void *ctx, const struct disk_record *record)
{
	const struct walk *walk = ctx;
	/* The header lies in the scratch; it is needed until its payloads are judged. */
	struct disk_record copy = *record;

	for (uint32_t i = 0; i < copy.entry_count; i++)
		entry_tell(walk, &copy, record_entry(&copy, i));
}

/* A header of this life that stands where it says, but for its checksum. */
static void other_met(void *ctx, const void *bytes, uint32_t page)
{
	const struct walk *walk = ctx;
	const struct shard *shard = walk->inspect->shard;
	const struct disk_record *record = bytes;
	const struct disk_span *span = bytes;
	uint32_t segment = segment_index(shard, walk->segment);

	if (walk->visitor->damage == NULL)
		return;
	if (bytes == NULL) {
		walk->visitor->damage(walk->visitor->ctx, INSPECT_PAGE_UNREADABLE, segment, page);
	} else if (record->magic == DISK_REC_MAGIC && record->page == page &&
		   memcmp(record->nonce, walk->segment->nonce, sizeof(record->nonce)) == 0) {
		walk->visitor->damage(walk->visitor->ctx, INSPECT_HEADER_TORN, segment, page);
	} else if (span->magic == DISK_SPAN_MAGIC && span->page == page &&
		   memcmp(span->previous, walk->segment->nonce, sizeof(span->previous)) == 0) {
		walk->visitor->damage(walk->visitor->ctx, INSPECT_SPAN_TORN, segment, page);
	}
}

static bool record_has(const struct disk_record *record, uint64_t sequence)
{
	for (uint32_t i = 0; i < record->entry_count; i++) {
		if (record_entry(record, i)->sequence == sequence)
			return true;
	}
	return false;
}

/* An entry of the footer that the walk did not meet: behind a span header that is gone, or its own
 * header is. */
static void unmet_tell(const struct walk *walk, const struct disk_foot_entry *row)
{
	struct inspect *inspect = walk->inspect;
	struct shard *shard = inspect->shard;
	const struct disk_record *record = (const struct disk_record *)(void *)shard->scratch;
	const struct record_where where = { .shard = shard->super.disk->shard,
					    .segment = segment_index(shard, walk->segment),
					    .page = row->record_page,
					    .segment_pages = shard->segment_pages };
	struct inspect_block block = { .segment = where.segment,
				       .record_page = row->record_page,
				       .page = row->page,
				       .hash = { row->hash[0], row->hash[1] },
				       .sequence = row->sequence,
				       .expiry_s = row->expiry_s,
				       .depth = row->depth,
				       .size = row->size,
				       .is_in_footer = true };

	if (row->record_page < shard->segment_pages &&
	    recovery_read(&inspect->recovery, walk->segment, row->record_page, 1, shard->scratch) ==
		    0 &&
	    record_check(record, &where) && record_has(record, row->sequence)) {
		record_met((void *)(uintptr_t)walk, record);
		return;
	}
	block.life = life_of(inspect, &block);
	walk->visitor->block(walk->visitor->ctx, &block);
}

void inspect_segment_walk(struct inspect *inspect, uint32_t index,
			  const struct inspect_visitor *visitor)
{
	struct segment *segment = &inspect->shard->segments[index];
	struct walk walk = { .inspect = inspect, .segment = segment, .visitor = visitor };
	const struct scan_visitor scan = {
		.ctx = &walk, .record = record_met, .other = other_met, .is_sparse = true
	};

	CHECK_OBJ(inspect, INSPECT_MAGIC);
	ASSERT(index < inspect->shard->segment_count);
	if (segment->state == SEGMENT_FREE)
		return;
	foot_take(inspect, segment);
	segment->tail = 1;
	memcpy(segment->nonce, segment->first, sizeof(segment->nonce));
	scan_walk(&inspect->recovery, segment, &scan);
	for (uint32_t i = 0; i < inspect->foot_count; i++) {
		if (!inspect->is_met[i])
			unmet_tell(&walk, &inspect->foot[i]);
	}
}
