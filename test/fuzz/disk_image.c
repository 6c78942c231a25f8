/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole medium, spoiled: a store that was stopped once, went on and lost power is patched as the
 * input says, opened, read, written to and closed. It must neither fall over nor hang.
 *
 * Byte 0 of the input, bit 0: the checksums of what was patched are made right again, so that
 * recovery believes it. Without them a block must be whole or a miss: never other bytes.
 * Then patches of PATCH_SIZE bytes: page (of those that hold anything), offset, four bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "../lib/store_bench.h"
#include "fuzz.h"

#define SEGMENTS   32
#define BLOCKS     24
#define DROPPED    2
#define PAGES_MAX  4096
#define PATCH_SIZE 8
#define PATCH_MAX  32

struct patch {
	uint16_t page;
	uint16_t offset;
	uint8_t bytes[4];
};

_Static_assert(sizeof(struct patch) == PATCH_SIZE, "as in the input");

struct image {
	uint64_t numbers[PAGES_MAX]; /* of the page on the disk */
	uint8_t (*pages)[PAGE_SIZE];
	uint32_t count;
};

static struct image image;

/* Small ones that share a record, and some of several strides. */
static uint32_t size_of(uint64_t number)
{
	return number % 4 == 3 ? (uint32_t)(number * 11000 + 1) : (uint32_t)(number * 700 + 1);
}

static void image_take(struct store_bench *bench)
{
	const struct env_fake_disk *disk = env_fake_disk(&bench->fake, BENCH_PATH, 0);

	image.pages = malloc(PAGES_MAX * sizeof(image.pages[0]));
	ASSERT(image.pages != NULL);
	for (uint64_t page = 0; page < disk->page_count; page++) {
		if (disk->pages[page] == NULL)
			continue;
		ASSERT(image.count < PAGES_MAX);
		image.numbers[image.count] = page;
		memcpy(image.pages[image.count++], disk->pages[page], PAGE_SIZE);
	}
}

static void image_make(void)
{
	struct store_bench bench;

	bench_init(&bench, 1, SEGMENTS);
	ASSERT(bench_open(&bench) == 0);
	for (uint64_t number = 0; number < BLOCKS / 2; number++)
		ASSERT(bench_put(&bench, number, size_of(number), true) == 0);
	ASSERT(bench_close(&bench) == 0);
	ASSERT(bench_open(&bench) == 0);
	for (uint64_t number = BLOCKS / 2; number < BLOCKS; number++)
		ASSERT(bench_put(&bench, number, size_of(number), true) == 0);
	ASSERT(bench_drop(&bench, DROPPED, false) == 0);
	bench_crash(&bench);
	image_take(&bench);
	bench_fini(&bench);
}

/* --- checksums made right --- */

static uint8_t *image_find(uint8_t (*pages)[PAGE_SIZE], uint64_t number)
{
	for (uint32_t i = 0; i < image.count; i++) {
		if (image.numbers[i] == number)
			return pages[i];
	}
	return NULL;
}

/* All that carry one have it at the same place. */
_Static_assert(offsetof(struct disk_label, crc) == offsetof(struct disk_footer, crc), "crc");
_Static_assert(offsetof(struct disk_span, crc) == offsetof(struct disk_record, crc), "crc");

static void page_seal(uint8_t *bytes)
{
	struct disk_footer *page = (void *)bytes;

	page->crc = disk_crc(page, PAGE_SIZE, offsetof(struct disk_footer, crc));
}

static void super_seal(uint8_t (*pages)[PAGE_SIZE], uint32_t i)
{
	uint8_t *next = image_find(pages, image.numbers[i] + 1);
	struct disk_super super;

	memcpy(&super, pages[i], PAGE_SIZE);
	memset((uint8_t *)&super + PAGE_SIZE, 0, PAGE_SIZE);
	if (next != NULL)
		memcpy((uint8_t *)&super + PAGE_SIZE, next, PAGE_SIZE);
	super.crc = disk_crc(&super, sizeof(super), offsetof(struct disk_super, crc));
	memcpy(pages[i], &super, PAGE_SIZE);
}

/* The entry pages stand before the footer's own. */
static void footer_seal(uint8_t (*pages)[PAGE_SIZE], uint32_t i)
{
	struct disk_footer *footer = (void *)pages[i];
	uint32_t count = disk_foot_pages(footer->name_count % 1024, footer->entry_count % 8192) - 1;
	static const uint8_t zeros[PAGE_SIZE];

	footer->entries_crc = 0;
	for (uint32_t k = count; k > 0 && k <= image.numbers[i]; k--) {
		const uint8_t *entries = image_find(pages, image.numbers[i] - k);

		footer->entries_crc =
			crc32c(footer->entries_crc, entries != NULL ? entries : zeros, PAGE_SIZE);
	}
	page_seal(pages[i]);
}

static void image_seal(uint8_t (*pages)[PAGE_SIZE])
{
	for (uint32_t i = 0; i < image.count; i++) {
		uint64_t magic;

		memcpy(&magic, pages[i], sizeof(magic));
		if (magic == DISK_FOOT_MAGIC)
			footer_seal(pages, i);
		else if (magic == DISK_SUPER_MAGIC)
			super_seal(pages, i);
		else if (magic == DISK_LABEL_MAGIC || magic == DISK_SPAN_MAGIC ||
			 magic == DISK_REC_MAGIC)
			page_seal(pages[i]);
	}
}

/* --- a run --- */

static void image_put(struct store_bench *bench, const uint8_t *bytes, size_t size)
{
	struct env_fake_disk *disk = env_fake_disk(&bench->fake, BENCH_PATH, 0);
	uint8_t(*pages)[PAGE_SIZE] = malloc(image.count * sizeof(pages[0]));
	bool is_sealed = size > 0 && (bytes[0] & 1) != 0;

	ASSERT(pages != NULL);
	memcpy(pages, image.pages, image.count * sizeof(pages[0]));
	for (size_t i = 0; i < PATCH_MAX && 1 + (i + 1) * PATCH_SIZE <= size; i++) {
		struct patch patch;

		memcpy(&patch, bytes + 1 + i * PATCH_SIZE, sizeof(patch));
		memcpy(pages[patch.page % image.count] + patch.offset % (PAGE_SIZE - 3),
		       patch.bytes, sizeof(patch.bytes));
	}
	if (is_sealed)
		image_seal(pages);
	for (uint32_t i = 0; i < image.count; i++)
		env_fake_poke(disk, pages[i], PAGE_SIZE, image.numbers[i] * PAGE_SIZE);
	free(pages);
}

static void use(struct store_bench *bench, bool is_sealed, bool is_patched)
{
	for (uint64_t number = 0; number < BLOCKS; number++) {
		enum bench_block block = bench_get(bench, number, size_of(number), NULL);

		if (!is_sealed)
			ASSERT(block != BENCH_WRONG);
		if (!is_patched)
			ASSERT(block == (number == DROPPED ? BENCH_MISS : BENCH_WHOLE));
	}
	if (bench_put(bench, BLOCKS + 1, 5000, true) == 0)
		ASSERT(bench_get(bench, BLOCKS + 1, 5000, NULL) == BENCH_WHOLE);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	bool is_sealed = size > 0 && (bytes[0] & 1) != 0;
	struct store_bench bench;

	if (image.count == 0)
		image_make();
	bench_init(&bench, 2, SEGMENTS);
	image_put(&bench, bytes, size);
	if (bench_open(&bench) == 0) {
		use(&bench, is_sealed, size > PATCH_SIZE);
		(void)bench_close(&bench);
	}
	bench_fini(&bench);
	return 0;
}
