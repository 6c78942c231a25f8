/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header page of a record, with a checksum that is right whatever it holds (a page nobody could
 * have spoiled by accident is accepted for what it says). What record_check() lets through lies in
 * its record, in its segment, in 64-bit arithmetic, and its checksums in the page.
 */
#include <string.h>

#include "../../src/store/record.h"
#include "fuzz.h"

#define SEGMENT_PAGES 4160
#define WHERE_PAGE    7
#define WHERE_SEGMENT 3

static uint64_t pages_of_size(uint64_t size)
{
	return (size + PAGE_SIZE - 1) / PAGE_SIZE;
}

static void use_entry(const struct disk_record *record, const struct disk_entry *entry)
{
	const uint32_t *strides = record_strides(record, entry);
	uint32_t stride_end = entry->stride_first + entry->stride_count;
	const uint8_t *end = (const uint8_t *)(record + 1);

	ASSERT(stride_end <= record->stride_count);
	ASSERT((const uint8_t *)(strides + entry->stride_count) <= end);
	if ((entry->flags & DISK_ENTRY_TOMBSTONE) != 0)
		return;
	ASSERT(entry->size > 0);
	ASSERT(entry->page > record->page);
	ASSERT(entry->page + pages_of_size(entry->size) <=
	       (uint64_t)record->page + record->page_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct disk_record record;
	struct record_where where = { .shard = record.shard,
				      .nonce = record.nonce,
				      .segment = WHERE_SEGMENT,
				      .page = WHERE_PAGE,
				      .segment_pages = SEGMENT_PAGES };

	memset(&record, 0, sizeof(record));
	memcpy(&record, bytes, MIN(size, sizeof(record)));
	record.magic = DISK_REC_MAGIC;
	record.version = DISK_VERSION;
	record.segment = WHERE_SEGMENT;
	record.page = WHERE_PAGE;
	record.crc = disk_crc(&record, sizeof(record), offsetof(struct disk_record, crc));
	if (!record_check(&record, &where))
		return 0;
	ASSERT((uint64_t)record.page + record.page_count <= SEGMENT_PAGES);
	for (uint32_t i = 0; i < record.entry_count; i++)
		use_entry(&record, record_entry(&record, i));
	return 0;
}
