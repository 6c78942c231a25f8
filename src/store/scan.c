/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking a segment that has no footer, or has one and went on behind it.
 *
 * From the tail, page by page: a record header that counts under the current nonce gives its
 * entries, and the walk goes on behind its payloads; a span header that names the current nonce as
 * the one before gives the next nonce; whatever else stands there (a hole, a torn header, a payload
 * whose header was lost, what an earlier life left) is stepped over 4 KiB at a time. Payloads are
 * not read: their entries are marked and verified at their first get.
 *
 * A read fails: the same page again alone, and stepped over when it fails again.
 */
#include <string.h>

#include "shard_priv.h"

#define SCAN_PAGES (MiB / PAGE_SIZE)

struct scan {
	struct recovery *recovery;
	struct segment *segment;
	const struct scan_visitor *visitor;
	uint32_t first; /* what is in the scratch: pages of the segment */
	uint32_t count;
	uint32_t window; /* pages to read next */
};

/* scan_segment()'s visitor. */
struct scan_apply {
	struct recovery *recovery;
	struct segment *segment;
};

/* The bytes of a page; NULL: it cannot be read. */
static const void *scan_page(struct scan *scan, uint32_t page)
{
	struct shard *shard = scan->recovery->shard;
	uint32_t count = (uint32_t)MIN(scan->window, shard->segment_pages - page);

	if (page - scan->first < scan->count)
		return shard->scratch + (page - scan->first) * PAGE_SIZE;
	scan->window = (uint32_t)MIN(4 * scan->window, SCAN_PAGES);
	scan->first = page;
	scan->count = count;
	if (recovery_read(scan->recovery, scan->segment, page, count, shard->scratch) == 0)
		return shard->scratch;
	scan->count = 1;
	if (recovery_read(scan->recovery, scan->segment, page, 1, shard->scratch) == 0)
		return shard->scratch;
	scan->count = 0;
	return NULL;
}

static void entry_apply(const struct scan_apply *apply, const struct disk_entry *entry,
			uint32_t record_page)
{
	struct shard *shard = apply->recovery->shard;
	struct store_id id;
	struct hash128 hash;

	memcpy(id.domain, entry->domain, sizeof(id.domain));
	memcpy(id.ns, entry->ns, sizeof(id.ns));
	memcpy(id.key, entry->key, sizeof(id.key));
	hash = index_hash(shard->super.disk->seed, &id);
	recovery_apply(apply->recovery, apply->segment,
		       &(struct disk_foot_entry) {
			       .hash = { hash.lo, hash.hi },
			       .sequence = entry->sequence,
			       .page = entry->page,
			       .size = entry->size,
			       .crc = entry->crc,
			       .chain = (uint32_t)(entry->chain ^ entry->chain >> 32),
			       .expiry_s = (uint32_t)MIN(entry->expiry_s, UINT32_MAX),
			       .depth = entry->depth,
			       .flags = entry->flags | DISK_ENTRY_SUSPECT,
			       .domain = names_intern(shard->domains, entry->domain),
			       .payer = names_intern(shard->payers, entry->payer),
			       .ns = names_intern(shard->namespaces, entry->ns),
			       .record_page = record_page,
		       });
}

static void record_apply(void *ctx, const struct disk_record *record)
{
	for (uint32_t i = 0; i < record->entry_count; i++)
		entry_apply(ctx, record_entry(record, i), record->page);
}

/* Pages of the record whose header this is, told; 0: it is none that counts. */
static uint32_t record_visit(const struct scan *scan, const void *bytes, uint32_t page)
{
	const struct shard *shard = scan->recovery->shard;
	const struct disk_record *record = bytes;
	struct record_where where = { .shard = shard->super.disk->shard,
				      .nonce = scan->segment->nonce,
				      .segment = segment_index(shard, scan->segment),
				      .page = page,
				      .segment_pages = shard->segment_pages };

	uint32_t page_count;

	if (!record_check(record, &where))
		return 0;
	page_count = record->page_count;
	scan->visitor->record(scan->visitor->ctx, record);
	return page_count;
}

/* True when a further span of this life begins in page: its nonce is the current one now. */
static bool span_apply(const struct scan *scan, const void *bytes, uint32_t page)
{
	const struct shard *shard = scan->recovery->shard;
	struct segment *segment = scan->segment;
	const struct disk_span *span = bytes;

	if (!span_check(shard, span, segment_index(shard, segment), page) ||
	    span->opened != segment->opened ||
	    memcmp(span->previous, segment->nonce, sizeof(span->previous)) != 0)
		return false;
	memcpy(segment->nonce, span->nonce, sizeof(segment->nonce));
	scan->recovery->sequence_max = MAX(scan->recovery->sequence_max, span->sequence);
	return true;
}

/* Pages that were found in page: of a record, of a span header; 0: neither. */
static uint32_t page_visit(const struct scan *scan, uint32_t page, const void *bytes)
{
	uint32_t pages = bytes != NULL ? record_visit(scan, bytes, page) : 0;

	if (pages == 0 && bytes != NULL && span_apply(scan, bytes, page))
		pages = 1;
	if (pages == 0 && scan->visitor->other != NULL)
		scan->visitor->other(scan->visitor->ctx, bytes, page);
	return pages;
}

void scan_walk(struct recovery *recovery, struct segment *segment,
	       const struct scan_visitor *visitor)
{
	struct scan scan = { .recovery = recovery,
			     .segment = segment,
			     .visitor = visitor,
			     .window = visitor->is_sparse ? 1 : SCAN_PAGES };
	uint32_t page = segment->tail;

	ASSERT(page >= 1);
	while (page < recovery->shard->segment_pages) {
		uint32_t pages = page_visit(&scan, page, scan_page(&scan, page));

		page += MAX(pages, 1);
		if (pages == 0)
			continue;
		segment->tail = page;
		if (visitor->is_sparse)
			scan.window = 1;
	}
}

void scan_segment(struct recovery *recovery, struct segment *segment)
{
	struct scan_apply apply = { .recovery = recovery, .segment = segment };

	scan_walk(recovery, segment,
		  &(struct scan_visitor) { .ctx = &apply, .record = record_apply });
}
