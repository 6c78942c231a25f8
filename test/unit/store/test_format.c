/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of docs/disk-format.md: structs filled field by field are the golden pages, whose bytes
 * and checksums were written down from that page by another program, and nothing else. Geometry:
 * whatever fits a segment by the books fits with its headers and its footer.
 */
#include "../../lib/t.h"

#include <stdlib.h>
#include <string.h>

#include "../../../src/base/hash.h"
#include "../../../src/base/text.h"
#include "../../../src/store/format.h"

/* Bytes from offset on; what no row names is zero. */
struct golden {
	uint32_t offset;
	const char *hex;
};

static const struct golden label_golden[] = {
	{ 0, "435458564c424c31" },                  /* magic */
	{ 8, "01000000" },                          /* version */
	{ 12, "683656cd" },                         /* crc */
	{ 16, "101112131415161718191a1b1c1d1e1f" }, /* medium */
	{ 32, "202122232425262728292a2b2c2d2e2f" }, /* server */
	{ 48, "0000040302010000" },                 /* size */
	{ 56, "00f1536500000000" },                 /* created_s */
	{ 64, "02000000" },                         /* shard_count */
	{ 68, "00000004" },                         /* block_max */
	{ 72, "8877665544332211" },                 /* incarnation */
	{ 120, "0000100000000000" },                /* extents[0].offset */
	{ 128, "0000000080000000" },                /* extents[0].size */
	{ 136, "0000100080000000" },                /* extents[1].offset */
	{ 144, "0000200080000000" },                /* extents[1].size */
	{ 1128, "0000f00300000000" },               /* extents[63].offset */
	{ 1136, "0000000400000000" },               /* extents[63].size */
};

static const struct golden super_golden[] = {
	{ 0, "4354585653555031" },                    /* magic */
	{ 8, "01000000" },                            /* version */
	{ 12, "2d577d0a" },                           /* crc */
	{ 16, "303132333435363738393a3b3c3d3e3f" },   /* shard */
	{ 32, "0807060504030201" },                   /* count */
	{ 40, "a8a7a6a5a4a3a2a1" },                   /* seed */
	{ 48, "0000000100000000" },                   /* segment_room */
	{ 56, "00d0000100000000" },                   /* segment_size */
	{ 64, "03020100" },                           /* segment_count */
	{ 68, "05000000" },                           /* index */
	{ 72, "64000000" },                           /* drop_count */
	{ 76, "01000000" },                           /* is_clean */
	{ 80, "0000100080000000" },                   /* offset */
	{ 120, "404142434445464748494a4b4c4d4e4f" },  /* drops[0].domain */
	{ 136, "505152535455565758595a5b5c5d5e5f" },  /* drops[0].ns */
	{ 152, "0102030405060000" },                  /* drops[0].sequence */
	{ 4080, "606162636465666768696a6b6c6d6e6f" }, /* drops[99].domain */
	{ 4096, "707172737475767778797a7b7c7d7e7f" }, /* drops[99].ns */
	{ 4112, "1122334455660000" },                 /* drops[99].sequence */
};

static const struct golden span_golden[] = {
	{ 0, "4354585653504e31" },                  /* magic */
	{ 8, "01000000" },                          /* version */
	{ 12, "f814570f" },                         /* crc */
	{ 16, "303132333435363738393a3b3c3d3e3f" }, /* shard */
	{ 32, "1110101010101010" },                 /* nonce[0] */
	{ 40, "2120202020202020" },                 /* nonce[1] */
	{ 48, "3130303030303030" },                 /* previous[0] */
	{ 56, "4140404040404040" },                 /* previous[1] */
	{ 64, "efcdab00" },                         /* segment */
	{ 68, "45230100" },                         /* page */
	{ 72, "0102030405060000" },                 /* sequence */
	{ 80, "0101030405060000" },                 /* opened */
	{ 88, "8877665544332211" },                 /* incarnation */
	{ 96, "00f1536500000000" },                 /* created_s */
};

static const struct golden record_golden[] = {
	{ 0, "4354585652454331" },                  /* magic */
	{ 8, "01000000" },                          /* version */
	{ 12, "732c17c6" },                         /* crc */
	{ 16, "303132333435363738393a3b3c3d3e3f" }, /* shard */
	{ 32, "1110101010101010" },                 /* nonce[0] */
	{ 40, "2120202020202020" },                 /* nonce[1] */
	{ 48, "efcdab00" },                         /* segment */
	{ 52, "45230100" },                         /* page */
	{ 56, "02010000" },                         /* page_count */
	{ 60, "01000000" },                         /* entry_count */
	{ 64, "02000000" },                         /* stride_count */
	{ 68, "01000080" },                         /* flags */
	{ 128, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f" }, /* entry.key */
	{ 160, "505152535455565758595a5b5c5d5e5f" },                                 /* entry.ns */
	{ 176, "404142434445464748494a4b4c4d4e4f" }, /* entry.domain */
	{ 192, "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" }, /* entry.payer */
	{ 208, "b0b1b2b3b4b5b6b7b8b9babbbcbdbebf" }, /* entry.place */
	{ 224, "c8c7c6c5c4c3c2c1" },                 /* entry.chain */
	{ 232, "0102030405060000" },                 /* entry.sequence */
	{ 240, "00f1536501000000" },                 /* entry.expiry_s */
	{ 248, "04030201" },                         /* entry.depth */
	{ 252, "00800100" },                         /* entry.size */
	{ 256, "efbeadde" },                         /* entry.crc */
	{ 260, "46230100" },                         /* entry.page */
	{ 264, "06000000" },                         /* entry.flags */
	{ 268, "0403" },                             /* entry.stride_first */
	{ 270, "0200" },                             /* entry.stride_count */
	{ 288, "88776655" },                         /* strides[0] */
	{ 292, "ccbbaa99" },                         /* strides[1] */
};

static const struct golden footer_golden[] = {
	{ 0, "43545856464f5431" },                  /* magic */
	{ 8, "01000000" },                          /* version */
	{ 12, "afa84f0f" },                         /* crc */
	{ 16, "303132333435363738393a3b3c3d3e3f" }, /* shard */
	{ 32, "1110101010101010" },                 /* nonce[0] */
	{ 40, "2120202020202020" },                 /* nonce[1] */
	{ 48, "efcdab00" },                         /* segment */
	{ 52, "02000100" },                         /* entry_count */
	{ 56, "02030400" },                         /* first_page */
	{ 60, "0df0feca" },                         /* entries_crc */
	{ 64, "01030400" },                         /* tail */
	{ 68, "01000000" },                         /* is_sealed */
	{ 72, "04030000" },                         /* name_count */
	{ 80, "0101030405060000" },                 /* opened */
	{ 88, "9902030405060000" },                 /* sequence_max */
	{ 96, "5150505050505050" },                 /* first[0] */
	{ 104, "6160606060606060" },                /* first[1] */
};

static const struct golden foot_entry_golden[] = {
	{ 0, "1817161514131211" },  /* hash[0] */
	{ 8, "2827262524232221" },  /* hash[1] */
	{ 16, "0102030405060000" }, /* sequence */
	{ 24, "46230100" },         /* page */
	{ 28, "00800100" },         /* size */
	{ 32, "efbeadde" },         /* crc */
	{ 36, "34333231" },         /* chain */
	{ 40, "00f15365" },         /* expiry_s */
	{ 44, "04030201" },         /* depth */
	{ 48, "0d000000" },         /* flags */
	{ 52, "0201" },             /* domain */
	{ 54, "0403" },             /* payer */
	{ 56, "0605" },             /* ns */
	{ 60, "45230100" },         /* record_page */
};

static void check_golden(const void *page, size_t size, const struct golden *rows, size_t row_count)
{
	uint8_t *want = calloc(1, size);

	for (size_t i = 0; i < row_count; i++)
		assert_int_equal(
			text_parse_hex(rows[i].hex, want + rows[i].offset, strlen(rows[i].hex) / 2),
			0);
	assert_memory_equal(page, want, size);
	free(want);
}

/* size bytes first, first + 1, … */
static void count_up(uint8_t *bytes, uint8_t first, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(first + i);
}

static void label_is_golden(void **state)
{
	struct disk_label label = { .magic = DISK_LABEL_MAGIC,
				    .version = DISK_VERSION,
				    .size = 0x010203040000,
				    .created_s = 0x6553f100,
				    .shard_count = 2,
				    .block_max = 0x04000000,
				    .incarnation = 0x1122334455667788,
				    .extents = { { 0x100000, 0x8000000000 },
						 { 0x8000100000, 0x8000200000 },
						 [63] = { 0x3f00000, 0x4000000 } } };

	(void)state;
	count_up(label.medium, 0x10, 16);
	count_up(label.server, 0x20, 16);
	label.crc = disk_crc(&label, sizeof(label), offsetof(struct disk_label, crc));
	check_golden(&label, sizeof(label), label_golden, ARRAY_LEN(label_golden));
}

static void super_is_golden(void **state)
{
	struct disk_super super = { .magic = DISK_SUPER_MAGIC,
				    .version = DISK_VERSION,
				    .count = 0x0102030405060708,
				    .seed = 0xa1a2a3a4a5a6a7a8,
				    .segment_room = 16 * MiB,
				    .segment_size = disk_segment_size(16 * MiB),
				    .segment_count = 0x010203,
				    .index = 5,
				    .drop_count = DISK_DROP_MAX,
				    .is_clean = 1,
				    .offset = 0x8000100000 };

	(void)state;
	count_up(super.shard, 0x30, 16);
	count_up(super.drops[0].domain, 0x40, 16);
	count_up(super.drops[0].ns, 0x50, 16);
	super.drops[0].sequence = 0x060504030201;
	count_up(super.drops[99].domain, 0x60, 16);
	count_up(super.drops[99].ns, 0x70, 16);
	super.drops[99].sequence = 0x665544332211;
	super.crc = disk_crc(&super, sizeof(super), offsetof(struct disk_super, crc));
	check_golden(&super, sizeof(super), super_golden, ARRAY_LEN(super_golden));
}

static void span_is_golden(void **state)
{
	struct disk_span span = { .magic = DISK_SPAN_MAGIC,
				  .version = DISK_VERSION,
				  .nonce = { 0x1010101010101011, 0x2020202020202021 },
				  .previous = { 0x3030303030303031, 0x4040404040404041 },
				  .segment = 0xabcdef,
				  .page = 0x12345,
				  .sequence = 0x060504030201,
				  .opened = 0x060504030101,
				  .incarnation = 0x1122334455667788,
				  .created_s = 0x6553f100 };

	(void)state;
	count_up(span.shard, 0x30, 16);
	span.crc = disk_crc(&span, sizeof(span), offsetof(struct disk_span, crc));
	check_golden(&span, sizeof(span), span_golden, ARRAY_LEN(span_golden));
}

static void record_is_golden(void **state)
{
	const uint32_t strides[2] = { 0x55667788, 0x99aabbcc };
	struct disk_record record = { .magic = DISK_REC_MAGIC,
				      .version = DISK_VERSION,
				      .nonce = { 0x1010101010101011, 0x2020202020202021 },
				      .segment = 0xabcdef,
				      .page = 0x12345,
				      .page_count = 0x102,
				      .entry_count = 1,
				      .stride_count = 2,
				      .flags = 0x80000001 };
	struct disk_entry entry = { .chain = 0xc1c2c3c4c5c6c7c8,
				    .sequence = 0x060504030201,
				    .expiry_s = 0x016553f100,
				    .depth = 0x01020304,
				    .size = 0x18000,
				    .crc = 0xdeadbeef,
				    .page = 0x12346,
				    .flags = DISK_ENTRY_NO_CRC | DISK_ENTRY_SHARED,
				    .stride_first = 0x0304,
				    .stride_count = 2 };

	(void)state;
	count_up(record.shard, 0x30, 16);
	count_up(entry.key, 0x80, 32);
	count_up(entry.ns, 0x50, 16);
	count_up(entry.domain, 0x40, 16);
	count_up(entry.payer, 0xa0, 16);
	count_up(entry.place, 0xb0, 16);
	memcpy(record.body, &entry, sizeof(entry));
	memcpy(record.body + sizeof(entry), strides, sizeof(strides));
	record.crc = disk_crc(&record, sizeof(record), offsetof(struct disk_record, crc));
	check_golden(&record, sizeof(record), record_golden, ARRAY_LEN(record_golden));
}

static void footer_is_golden(void **state)
{
	struct disk_footer footer = { .magic = DISK_FOOT_MAGIC,
				      .version = DISK_VERSION,
				      .nonce = { 0x1010101010101011, 0x2020202020202021 },
				      .segment = 0xabcdef,
				      .entry_count = 0x10002,
				      .first_page = 0x40302,
				      .entries_crc = 0xcafef00d,
				      .tail = 0x40301,
				      .is_sealed = 1,
				      .name_count = 0x304,
				      .opened = 0x060504030101,
				      .sequence_max = 0x060504030299,
				      .first = { 0x5050505050505051, 0x6060606060606061 } };

	(void)state;
	count_up(footer.shard, 0x30, 16);
	footer.crc = disk_crc(&footer, sizeof(footer), offsetof(struct disk_footer, crc));
	check_golden(&footer, sizeof(footer), footer_golden, ARRAY_LEN(footer_golden));
}

static void footer_entry_is_golden(void **state)
{
	struct disk_foot_entry entry = { .hash = { 0x1112131415161718, 0x2122232425262728 },
					 .sequence = 0x060504030201,
					 .page = 0x12346,
					 .size = 0x18000,
					 .crc = 0xdeadbeef,
					 .chain = 0x31323334,
					 .expiry_s = 0x6553f100,
					 .depth = 0x01020304,
					 .flags = DISK_ENTRY_TOMBSTONE | DISK_ENTRY_SHARED |
						  DISK_ENTRY_SUSPECT,
					 .domain = 0x0102,
					 .payer = 0x0304,
					 .ns = 0x0506,
					 .record_page = 0x12345 };

	(void)state;
	check_golden(&entry, sizeof(entry), foot_entry_golden, ARRAY_LEN(foot_entry_golden));
}

/* --- checksum --- */

static void checksum_covers_all_but_itself(void **state)
{
	static uint8_t page[512];
	const size_t places[] = { 0, 12, sizeof(page) - 4 };

	(void)state;
	count_up(page, 3, sizeof(page));
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		uint32_t crc = disk_crc(page, sizeof(page), places[i]);

		for (size_t bit = 0; bit < 8 * sizeof(page); bit++) {
			bool is_own = bit / 8 >= places[i] && bit / 8 < places[i] + 4;

			page[bit / 8] ^= (uint8_t)(1u << bit % 8);
			assert_int_equal(disk_crc(page, sizeof(page), places[i]) == crc, is_own);
			page[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		memset(page + places[i], 0, 4);
		assert_int_equal(crc, crc32c(0, page, sizeof(page)));
	}
}

/* --- geometry --- */

static void blocks_of_2_mib_and_more_pack_without_a_gap(void **state)
{
	(void)state;
	for (uint64_t room = 16 * MiB; room <= GiB; room *= 2) {
		uint64_t pages = disk_segment_size(room) / PAGE_SIZE;

		assert_int_equal(disk_segment_size(room) % PAGE_SIZE, 0);
		assert_true(pages < 1u << 20); /* bits of a page in the index */
		/* 0.3 %, rounded to a page. */
		assert_true((disk_segment_size(room) - room - PAGE_SIZE) * 1000 <= room * 3);
		for (uint64_t block = 2 * MiB; block <= MIN(room / 4, 64 * MiB); block *= 2) {
			uint32_t count = (uint32_t)(room / block);
			/* Each of another domain, payer and namespace. */
			uint64_t need = 1 + count * (1 + block / PAGE_SIZE) +
					disk_foot_pages(3 * count, count);

			assert_true(need <= pages);
		}
	}
}

static void segments_fit_their_extent(void **state)
{
	const uint64_t size = disk_segment_size(16 * MiB);

	(void)state;
	assert_int_equal(disk_segment_count(0, size), 0);
	assert_int_equal(disk_segment_count(DISK_SEGMENTS_OFFSET - 1, size), 0);
	assert_int_equal(disk_segment_count(DISK_SEGMENTS_OFFSET, size), 0);
	for (uint64_t count = 1; count < 100; count++) {
		uint64_t need = DISK_SEGMENTS_OFFSET + count * size;

		assert_int_equal(disk_segment_count(need - 1, size), count - 1);
		assert_int_equal(disk_segment_count(need, size), count);
	}
}

static void footer_has_room_for_names_and_entries(void **state)
{
	(void)state;
	assert_int_equal(disk_foot_pages(0, 0), 1);
	for (uint32_t names = 0; names < 300; names++) {
		uint64_t offset = disk_foot_entries_offset(names);

		assert_int_equal(offset % sizeof(struct disk_foot_entry), 0);
		assert_true(offset >= names * sizeof(struct disk_name));
		assert_true(offset < names * sizeof(struct disk_name) + 64);
		for (uint32_t entries = 0; entries < 300; entries++) {
			uint64_t bytes = offset + entries * sizeof(struct disk_foot_entry);
			uint64_t room = (disk_foot_pages(names, entries) - 1) * PAGE_SIZE;

			assert_true(room >= bytes);
			assert_true(room < bytes + PAGE_SIZE);
		}
	}
	/* All one-page blocks of the largest segment. */
	assert_int_equal(disk_foot_pages(65535, 1u << 18), 1 + 256 + 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(label_is_golden),
		cmocka_unit_test(super_is_golden),
		cmocka_unit_test(span_is_golden),
		cmocka_unit_test(record_is_golden),
		cmocka_unit_test(footer_is_golden),
		cmocka_unit_test(footer_entry_is_golden),
		cmocka_unit_test(checksum_covers_all_but_itself),
		cmocka_unit_test(blocks_of_2_mib_and_more_pack_without_a_gap),
		cmocka_unit_test(segments_fit_their_extent),
		cmocka_unit_test(footer_has_room_for_names_and_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
