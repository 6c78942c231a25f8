/* SPDX-License-Identifier: Apache-2.0 */
/* The header page of a record, to and from bytes: pure. */
#ifndef STORE_RECORD_H
#define STORE_RECORD_H

#include "store.h"

struct shard;
struct log_record;

/* Where a header must say that it stands. */
struct record_where {
	const uint8_t *shard;  /* UUID */
	const uint64_t *nonce; /* NULL: any */
	uint32_t segment;
	uint32_t page;
	uint32_t segment_pages;
};

/* Bytes of payload under one checksum in the header, for a block of size. */
static inline uint32_t record_stride(uint64_t size)
{
	return size <= 32 * MiB ? DISK_STRIDE : DISK_STRIDE_BIG;
}

static inline uint32_t record_stride_count(uint64_t size)
{
	return (uint32_t)((size + record_stride(size) - 1) / record_stride(size));
}

/* Room for another entry with so many strides beside those there are. */
static inline bool record_has_room(uint32_t entry_count, uint32_t stride_count)
{
	return entry_count <= DISK_GROUP_MAX &&
	       entry_count * sizeof(struct disk_entry) + stride_count * sizeof(uint32_t) <=
		       sizeof(((struct disk_record *)0)->body);
}

void record_encode(const struct shard *shard, struct log_record *record);

/* True when page is a valid header that stands where it should; its entries and strides can be
 * used without further checks then. */
bool record_check(const struct disk_record *page, const struct record_where *where);

const struct disk_entry *record_entry(const struct disk_record *page, uint32_t index);

/* Checksums of an entry's strides. */
const uint32_t *record_strides(const struct disk_record *page, const struct disk_entry *entry);

#endif
