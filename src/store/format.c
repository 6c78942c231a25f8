/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the compiler can say about docs/disk-format.md: every field stands where the page puts it.
 * And the arithmetic that every reader and writer of a medium must share: checksum and geometry.
 */
#include "format.h"

#include "../base/hash.h"

#define AT(type, field, where)                                                                     \
	_Static_assert(offsetof(struct type, field) == (where), #type "." #field)

AT(disk_label, magic, 0);
AT(disk_label, version, 8);
AT(disk_label, crc, 12);
AT(disk_label, medium, 16);
AT(disk_label, server, 32);
AT(disk_label, size, 48);
AT(disk_label, created_s, 56);
AT(disk_label, shard_count, 64);
AT(disk_label, block_max, 68);
AT(disk_label, incarnation, 72);
AT(disk_label, reserved, 80);
AT(disk_label, extents, 120);
AT(disk_label, reserved1, 1144);

AT(disk_extent, offset, 0);
AT(disk_extent, size, 8);

AT(disk_super, magic, 0);
AT(disk_super, version, 8);
AT(disk_super, crc, 12);
AT(disk_super, shard, 16);
AT(disk_super, count, 32);
AT(disk_super, seed, 40);
AT(disk_super, segment_room, 48);
AT(disk_super, segment_size, 56);
AT(disk_super, segment_count, 64);
AT(disk_super, index, 68);
AT(disk_super, drop_count, 72);
AT(disk_super, is_clean, 76);
AT(disk_super, offset, 80);
AT(disk_super, reserved, 88);
AT(disk_super, drops, 120);
AT(disk_super, reserved1, 4120);

AT(disk_drop, domain, 0);
AT(disk_drop, ns, 16);
AT(disk_drop, sequence, 32);

AT(disk_span, magic, 0);
AT(disk_span, version, 8);
AT(disk_span, crc, 12);
AT(disk_span, shard, 16);
AT(disk_span, nonce, 32);
AT(disk_span, previous, 48);
AT(disk_span, segment, 64);
AT(disk_span, page, 68);
AT(disk_span, sequence, 72);
AT(disk_span, opened, 80);
AT(disk_span, incarnation, 88);
AT(disk_span, created_s, 96);
AT(disk_span, reserved, 104);

AT(disk_entry, key, 0);
AT(disk_entry, ns, 32);
AT(disk_entry, domain, 48);
AT(disk_entry, payer, 64);
AT(disk_entry, place, 80);
AT(disk_entry, chain, 96);
AT(disk_entry, sequence, 104);
AT(disk_entry, expiry_s, 112);
AT(disk_entry, depth, 120);
AT(disk_entry, size, 124);
AT(disk_entry, crc, 128);
AT(disk_entry, page, 132);
AT(disk_entry, flags, 136);
AT(disk_entry, stride_first, 140);
AT(disk_entry, stride_count, 142);
AT(disk_entry, reserved, 144);

AT(disk_record, magic, 0);
AT(disk_record, version, 8);
AT(disk_record, crc, 12);
AT(disk_record, shard, 16);
AT(disk_record, nonce, 32);
AT(disk_record, segment, 48);
AT(disk_record, page, 52);
AT(disk_record, page_count, 56);
AT(disk_record, entry_count, 60);
AT(disk_record, stride_count, 64);
AT(disk_record, flags, 68);
AT(disk_record, reserved, 72);
AT(disk_record, body, 128);

AT(disk_footer, magic, 0);
AT(disk_footer, version, 8);
AT(disk_footer, crc, 12);
AT(disk_footer, shard, 16);
AT(disk_footer, nonce, 32);
AT(disk_footer, segment, 48);
AT(disk_footer, entry_count, 52);
AT(disk_footer, first_page, 56);
AT(disk_footer, entries_crc, 60);
AT(disk_footer, tail, 64);
AT(disk_footer, is_sealed, 68);
AT(disk_footer, name_count, 72);
AT(disk_footer, reserved0, 76);
AT(disk_footer, opened, 80);
AT(disk_footer, sequence_max, 88);
AT(disk_footer, first, 96);
AT(disk_footer, reserved, 112);

AT(disk_name, bytes, 0);

AT(disk_foot_entry, hash, 0);
AT(disk_foot_entry, sequence, 16);
AT(disk_foot_entry, page, 24);
AT(disk_foot_entry, size, 28);
AT(disk_foot_entry, crc, 32);
AT(disk_foot_entry, chain, 36);
AT(disk_foot_entry, expiry_s, 40);
AT(disk_foot_entry, depth, 44);
AT(disk_foot_entry, flags, 48);
AT(disk_foot_entry, domain, 52);
AT(disk_foot_entry, payer, 54);
AT(disk_foot_entry, ns, 56);
AT(disk_foot_entry, reserved, 58);
AT(disk_foot_entry, record_page, 60);

#undef AT

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
	return segment_room + round_up(segment_room * 3 / 1000, PAGE_SIZE);
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
