/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the compiler can say about the disk format: every field stands where layout.def puts it. And
 * the arithmetic that every reader and writer of a medium must share: checksum and geometry.
 */
#include "format.h"

#include "../base/hash.h"

#define AT(type, field, offset)                                                                    \
	_Static_assert(offsetof(struct type, field) == (offset), "disk format: " #type "." #field);
#define SIZE(type, size) _Static_assert(sizeof(struct type) == (size), "disk format: " #type);
#include "layout.def"
#undef AT
#undef SIZE

/* A record header has room for a full group, and for one block of the most strides. */
#define BODY_SIZE sizeof(((struct disk_record *)0)->body)
_Static_assert(DISK_GROUP_MAX *(sizeof(struct disk_entry) +
				DISK_GROUP_BLOCK_MAX / DISK_STRIDE * sizeof(uint32_t)) <= BODY_SIZE,
	       "a group of the largest blocks that may share a record");
_Static_assert(sizeof(struct disk_entry) + DISK_STRIDE_MAX * sizeof(uint32_t) <= BODY_SIZE,
	       "the largest block");
#undef BODY_SIZE

uint32_t disk_crc(const void *page, size_t size, size_t crc_offset)
{
	static const uint32_t zero;
	const uint8_t *bytes = page;
	size_t rest = crc_offset + sizeof(zero);
	uint32_t crc;

	ASSERT(rest <= size);
	crc = crc32c(0, bytes, crc_offset);
	crc = crc32c(crc, &zero, sizeof(zero));
	return crc32c(crc, bytes + rest, size - rest);
}

uint64_t disk_segment_size(uint64_t segment_room)
{
	ASSERT(is_power_of_2(segment_room));
	ASSERT(segment_room >= DISK_SEGMENT_MIN);
	ASSERT(segment_room <= DISK_SEGMENT_MAX);
	return segment_room + MAX(round_up(segment_room * 3 / 1000, PAGE_SIZE), DISK_OVERHEAD_MIN);
}

uint64_t disk_segment_count(uint64_t extent_size, uint64_t segment_size)
{
	ASSERT(segment_size > 0);
	if (extent_size < DISK_SEGMENTS_OFFSET)
		return 0;
	return (extent_size - DISK_SEGMENTS_OFFSET) / segment_size;
}

uint64_t disk_foot_entries_offset(uint32_t name_count)
{
	return round_up(name_count * sizeof(struct disk_name), sizeof(struct disk_foot_entry));
}

uint32_t disk_foot_pages(uint32_t name_count, uint32_t entry_count)
{
	uint64_t size =
		disk_foot_entries_offset(name_count) + entry_count * sizeof(struct disk_foot_entry);

	return (uint32_t)(round_up(size, PAGE_SIZE) / PAGE_SIZE) + 1;
}
