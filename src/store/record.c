/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record on the medium: its header page and the blocks behind it.
 *
 * Made     record_encode(), when log.c closes a record (record_close(): its one large block, or
 *          small ones that were gathered): identity, sizes and checksums of each block become an
 * entry, the place where the page will stand and the segment's nonce its head, a CRC over the page
 * its seal. Believed record_check(), by recovery (scan.c), ranges (read.c), reclaim (rewrite.c) and
 * inspect.c: all of it is held against where it was found before anything of it is used. What does
 * not fit is no record: torn, left over from an earlier life of the segment, or somebody else's.
 */
#include "record.h"

#include <string.h>

#include "shard_priv.h"

static uint32_t *strides_of(const struct disk_record *page)
{
	return (uint32_t *)(void *)((char *)(uintptr_t)page->body +
				    page->entry_count * sizeof(struct disk_entry));
}

static void entry_encode(struct disk_record *page, struct disk_entry *entry,
			 const struct shard_put *put)
{
	memcpy(entry->key, put->id.key, sizeof(entry->key));
	memcpy(entry->ns, put->id.ns, sizeof(entry->ns));
	memcpy(entry->domain, put->id.domain, sizeof(entry->domain));
	memcpy(entry->payer, put->payer, sizeof(entry->payer));
	memcpy(entry->place, put->place, sizeof(entry->place));
	entry->chain = put->chain;
	entry->sequence = put->sequence_out;
	entry->expiry_s = put->expiry_s;
	entry->depth = put->depth;
	entry->size = put->size;
	entry->crc = put->crc;
	entry->page = put->size > 0 ? put->page : 0;
	entry->flags = put->entry_flags;
	entry->stride_first = (uint16_t)page->stride_count;
	entry->stride_count = (uint16_t)put->stride_count;
	memcpy(strides_of(page) + page->stride_count, put->strides,
	       put->stride_count * sizeof(put->strides[0]));
	page->stride_count += put->stride_count;
}

void record_encode(const struct shard *shard, struct log_record *record)
{
	struct disk_record *page = record->header;

	ASSERT(record->put_count >= 1);
	ASSERT(record->put_count <= DISK_GROUP_MAX);
	memset(page, 0, sizeof(*page));
	page->magic = DISK_REC_MAGIC;
	page->version = DISK_VERSION;
	memcpy(page->shard, shard->super.disk->shard, sizeof(page->shard));
	memcpy(page->nonce, record->segment->nonce, sizeof(page->nonce));
	page->segment = segment_index(shard, record->segment);
	page->page = record->page;
	page->page_count = record->page_count;
	page->entry_count = record->put_count;
	for (uint32_t i = 0; i < record->put_count; i++)
		entry_encode(page, (struct disk_entry *)(void *)page->body + i, record->puts[i]);
	ASSERT(record_has_room(page->entry_count, page->stride_count));
	page->crc = disk_crc(page, sizeof(*page), offsetof(struct disk_record, crc));
}

const struct disk_entry *record_entry(const struct disk_record *page, uint32_t index)
{
	ASSERT(index < page->entry_count);
	return (const struct disk_entry *)(const void *)page->body + index;
}

const uint32_t *record_strides(const struct disk_record *page, const struct disk_entry *entry)
{
	ASSERT(entry->stride_first + entry->stride_count <= page->stride_count);
	return strides_of(page) + entry->stride_first;
}

static bool entry_check(const struct disk_record *page, const struct disk_entry *entry)
{
	uint32_t stride_count = record_stride_count(entry->size);

	if (entry->sequence == 0 || entry->sequence >> 48 != 0)
		return false;
	if ((entry->flags & DISK_ENTRY_TOMBSTONE) != 0)
		return entry->size == 0 && entry->page == 0 && entry->stride_count == 0 &&
		       entry->stride_first <= page->stride_count;
	if (entry->size == 0 || entry->page <= page->page)
		return false;
	if (entry->page - page->page + pages_of(entry->size) > page->page_count)
		return false;
	if ((entry->flags & DISK_ENTRY_NO_CRC) != 0)
		stride_count = 0;
	return entry->stride_count == stride_count &&
	       (uint32_t)entry->stride_first + stride_count <= page->stride_count;
}

bool record_check(const struct disk_record *page, const struct record_where *where)
{
	if (page->magic != DISK_REC_MAGIC || page->version != DISK_VERSION)
		return false;
	if (page->crc != disk_crc(page, sizeof(*page), offsetof(struct disk_record, crc)))
		return false;
	if (memcmp(page->shard, where->shard, sizeof(page->shard)) != 0)
		return false;
	if (where->nonce != NULL && memcmp(page->nonce, where->nonce, sizeof(page->nonce)) != 0)
		return false;
	if (page->segment != where->segment || page->page != where->page)
		return false;
	if (page->page_count == 0 || page->page_count > where->segment_pages - where->page)
		return false;
	if (page->entry_count == 0 || page->entry_count > DISK_GROUP_MAX ||
	    page->stride_count > DISK_STRIDE_MAX ||
	    !record_has_room(page->entry_count, page->stride_count))
		return false;
	for (uint32_t i = 0; i < page->entry_count; i++) {
		if (!entry_check(page, record_entry(page, i)))
			return false;
	}
	return true;
}
