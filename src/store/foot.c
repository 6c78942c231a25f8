/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Footers: what the index needs of a segment's blocks, at the segment's end, so that a restart
 * reads 64 bytes a block instead of walking headers.
 *
 *   1. While a segment is open, an entry is added for each place taken; segment_fits() keeps the
 *      room that they will need.
 *   2. It is full (segment.c puts it on the list `sealing`): its records are written, then a flush
 *      is waited for, so that a footer speaks only of payloads that survive.
 *   3. Names are numbered, the whole footer is built in the shard's scratch and written from front
 *      to back, its own page last.
 *   4. The segment is sealed. At a clean stop the open segment gets a footer, too, with is_sealed
 * 0.
 *   5. At start foot_load believes a footer whose checksums are right and which names the nonce
 *      that stands in the segment's first page: a footer of an earlier life does not.
 *
 * A write fails, or the crash comes first: there is no footer; the segment is scanned at start.
 */
#include <string.h>

#include "shard_priv.h"

enum { NAME_DOMAIN, NAME_PAYER, NAME_NS };

static void foot_next(struct shard *shard);

void foot_add(struct segment *segment, const struct disk_foot_entry *entry)
{
	segment->foot->entries[segment->foot->count++] = *entry;
}

void foot_add_put(struct shard *shard, struct segment *segment, const struct shard_put *put)
{
	ASSERT(segment->foot->count < shard->segment_pages);
	foot_add(segment, &(struct disk_foot_entry) {
				  .hash = { put->hash.lo, put->hash.hi },
				  .sequence = put->sequence_out,
				  .page = put->size > 0 ? put->page : 0,
				  .size = put->size,
				  .crc = put->crc,
				  .chain = (uint32_t)(put->chain ^ put->chain >> 32),
				  .expiry_s = (uint32_t)MIN(put->expiry_s, UINT32_MAX),
				  .depth = put->depth,
				  .flags = put->entry_flags,
				  .domain = put->domain_name,
				  .payer = put->payer_name,
				  .ns = put->ns_name,
				  .record_page = put->record->page,
			  });
}

void foot_void(struct foot *foot, uint32_t first, uint32_t count)
{
	ASSERT(first + count <= foot->count);
	for (uint32_t i = first; i < first + count; i++)
		foot->entries[i].sequence = 0;
	foot->void_count += count;
}

static const struct names *names_of(const struct shard *shard, uint32_t kind)
{
	return kind == NAME_DOMAIN  ? shard->domains
	       : kind == NAME_PAYER ? shard->payers
				    : shard->namespaces;
}

uint32_t foot_pages(const struct shard *shard, const struct segment *segment, uint32_t extra)
{
	uint64_t entries = (uint64_t)segment->foot->count + extra;
	uint64_t names = 0;

	for (uint32_t kind = NAME_DOMAIN; kind <= NAME_NS; kind++)
		names += names_count(names_of(shard, kind));
	names = MIN(MIN(names, 3 * entries), FOOT_NAMES_MAX);
	return disk_foot_pages((uint32_t)names, (uint32_t)entries);
}

/* --- writing --- */

/* Row + 1 of a name in the footer that is built at out; 0: it has none. */
static uint16_t row_of(struct shard *shard, uint32_t kind, uint16_t id, struct disk_name *out,
		       uint32_t *name_count)
{
	if (id == NAMES_NONE || *name_count == FOOT_NAMES_MAX)
		return 0;
	if (shard->rows[kind][id] == 0) {
		memcpy(out[*name_count].bytes, names_get(names_of(shard, kind), id),
		       sizeof(out->bytes));
		shard->rows[kind][id] = (uint16_t)++ * name_count;
	}
	return shard->rows[kind][id];
}

/* Rows for all names of foot; their count. */
static uint32_t names_build(struct shard *shard, const struct foot *foot, struct disk_name *out)
{
	uint32_t name_count = 0;

	for (uint32_t kind = NAME_DOMAIN; kind <= NAME_NS; kind++)
		memset(shard->rows[kind], 0, (NAMES_MAX + 1) * sizeof(uint16_t));
	for (uint32_t i = 0; i < foot->count; i++) {
		const struct disk_foot_entry *entry = &foot->entries[i];

		if (entry->sequence == 0)
			continue;
		(void)row_of(shard, NAME_DOMAIN, entry->domain, out, &name_count); /* remembered */
		(void)row_of(shard, NAME_PAYER, entry->payer, out, &name_count);
		(void)row_of(shard, NAME_NS, entry->ns, out, &name_count);
	}
	return name_count;
}

/* Copy the entries that count; the highest sequence of them. */
static uint64_t entries_build(const struct shard *shard, const struct foot *foot,
			      struct disk_foot_entry *out)
{
	uint64_t sequence_max = 0;

	for (uint32_t i = 0; i < foot->count; i++) {
		const struct disk_foot_entry *entry = &foot->entries[i];

		if (entry->sequence == 0)
			continue;
		*out = *entry;
		out->domain = shard->rows[NAME_DOMAIN][entry->domain];
		out->payer = shard->rows[NAME_PAYER][entry->payer];
		out->ns = shard->rows[NAME_NS][entry->ns];
		out++;
		sequence_max = MAX(sequence_max, entry->sequence);
	}
	return sequence_max;
}

/* The whole footer of segment into the scratch; its pages. */
static uint32_t foot_build(struct shard *shard, const struct segment *segment, bool is_sealed)
{
	const struct foot *foot = segment->foot;
	uint32_t entry_count = foot->count - foot->void_count;
	uint32_t name_count;
	uint32_t pages;
	struct disk_footer *footer;
	uint64_t sequence_max;

	/* Too many pages zeroed: names are counted only now. */
	memset(shard->scratch, 0, foot_pages(shard, segment, 0) * PAGE_SIZE);
	name_count = names_build(shard, foot, (struct disk_name *)(void *)shard->scratch);
	sequence_max = entries_build(
		shard, foot,
		(struct disk_foot_entry *)(void *)(shard->scratch +
						   disk_foot_entries_offset(name_count)));
	pages = disk_foot_pages(name_count, entry_count);
	ASSERT(pages <= foot_pages(shard, segment, 0));
	footer = (struct disk_footer *)(void *)(shard->scratch + (pages - 1) * PAGE_SIZE);
	*footer = (struct disk_footer) {
		.magic = DISK_FOOT_MAGIC,
		.version = DISK_VERSION,
		.nonce = { segment->nonce[0], segment->nonce[1] },
		.segment = segment_index(shard, segment),
		.entry_count = entry_count,
		.first_page = shard->segment_pages - pages,
		.entries_crc = crc32c(0, shard->scratch, (pages - 1) * PAGE_SIZE),
		.tail = segment->tail,
		.is_sealed = is_sealed,
		.name_count = name_count,
		.opened = segment->opened,
		.sequence_max = sequence_max,
		.first = { segment->first[0], segment->first[1] },
	};
	ASSERT(footer->first_page >= footer->tail);
	memcpy(footer->shard, shard->super.disk->shard, sizeof(footer->shard));
	footer->crc = disk_crc(footer, sizeof(*footer), offsetof(struct disk_footer, crc));
	return pages;
}

/* Among the sealed ones by age, not behind them: what recovery had to scan may be older than they
 * are, and segments are used again in order of age, or a tombstone would go before what it buries.
 */
static void sealed_add(struct shard *shard, struct segment *segment)
{
	struct list *at = shard->sealed.prev;

	while (at != &shard->sealed &&
	       list_entry(at, struct segment, node)->opened > segment->opened)
		at = at->prev;
	list_add_head(at, &segment->node); /* behind at */
}

/* The head of sealing has its footer, or will do without one. */
static void foot_end(struct shard *shard)
{
	struct segment *segment = list_head(&shard->sealing, struct segment, node);

	ASSERT(segment->state == SEGMENT_SEALING);
	shard->foot_write.is_under_way = false;
	segment->state = SEGMENT_SEALED;
	list_del(&segment->node);
	sealed_add(shard, segment);
	list_add_tail(&shard->feet, &segment->foot->node);
	segment->foot = NULL;
	reclaim_wake(shard);
	shard_room(shard);
	foot_advance(shard);
}

static void foot_wrote(struct env_io *io)
{
	struct shard *shard = CONTAINER_OF(io, struct shard, foot_write.io);

	CHECK_OBJ(shard, SHARD_MAGIC);
	if (io->result < 0) {
		shard_io_failed(shard, (int)io->result);
		foot_end(shard);
		return;
	}
	shard->stats.written_bytes += io->size;
	foot_next(shard);
}

/* Write the next piece of the footer in the scratch. */
static void foot_next(struct shard *shard)
{
	struct foot_write *write = &shard->foot_write;
	const struct segment *segment = list_head(&shard->sealing, struct segment, node);
	uint32_t first = shard->segment_pages - write->page_count;
	uint64_t pages =
		MIN(write->page_count - write->next_page, shard->opts.write_size / PAGE_SIZE);

	if (pages == 0) {
		foot_end(shard);
		return;
	}
	write->iov =
		(struct iovec) { shard->scratch + write->next_page * PAGE_SIZE, pages * PAGE_SIZE };
	write->io = (struct env_io) {
		.done = foot_wrote,
		.blk = shard->blk,
		.kind = ENV_WRITE,
		.offset = segment_offset(shard, segment_index(shard, segment),
					 first + write->next_page),
		.size = pages * PAGE_SIZE,
		.iov = &write->iov,
		.iov_count = 1,
	};
	write->next_page += (uint32_t)pages;
	shard->env->ops->blk_submit(shard->env, &write->io);
}

static void foot_flushed(struct shard_wait *wait, int rc)
{
	struct shard *shard = CONTAINER_OF(wait, struct shard, foot_write.wait);
	struct foot_write *write = &shard->foot_write;

	CHECK_OBJ(shard, SHARD_MAGIC);
	if (rc < 0) { /* offline: segments stay as they are */
		write->is_under_way = false;
		return;
	}
	write->page_count = foot_build(shard, list_head(&shard->sealing, struct segment, node),
				       !write->is_last);
	write->next_page = 0;
	foot_next(shard);
}

void foot_advance(struct shard *shard)
{
	struct foot_write *write = &shard->foot_write;
	const struct segment *segment = list_head(&shard->sealing, struct segment, node);

	if (segment == NULL || segment->unwritten > 0 || write->is_under_way || shard->is_offline)
		return;
	write->is_under_way = true;
	write->wait.done = foot_flushed;
	flush_wait(shard, &write->wait);
}

/* --- reading --- */

static bool footer_is_whole(const struct disk_footer *footer)
{
	return footer->crc == disk_crc(footer, sizeof(*footer), offsetof(struct disk_footer, crc));
}

bool footer_check(const struct shard *shard, const struct segment *segment,
		  const struct disk_footer *footer)
{
	if (footer->magic != DISK_FOOT_MAGIC || footer->version != DISK_VERSION)
		return false;
	if (!footer_is_whole(footer))
		return false;
	if (memcmp(footer->shard, shard->super.disk->shard, sizeof(footer->shard)) != 0)
		return false;
	if (footer->segment != segment_index(shard, segment) || footer->opened != segment->opened)
		return false;
	if (memcmp(footer->first, segment->first, sizeof(footer->first)) != 0)
		return false;
	if (footer->entry_count > shard->segment_pages || footer->name_count > FOOT_NAMES_MAX ||
	    footer->first_page >= shard->segment_pages)
		return false;
	if (disk_foot_pages(footer->name_count, footer->entry_count) !=
	    shard->segment_pages - footer->first_page)
		return false;
	return footer->tail >= 1 && footer->tail <= footer->first_page;
}

/* The id of the name in a footer's row; rows are interned once a footer. */
static uint16_t id_of(struct shard *shard, uint32_t kind, uint16_t row,
		      const struct disk_footer *footer)
{
	const struct disk_name *names = (const struct disk_name *)(void *)shard->scratch;
	struct names *table = kind == NAME_DOMAIN  ? shard->domains
			      : kind == NAME_PAYER ? shard->payers
						   : shard->namespaces;

	if (row == 0 || row > footer->name_count)
		return NAMES_NONE;
	if (shard->rows[kind][row] == 0)
		shard->rows[kind][row] = names_intern(table, names[row - 1].bytes);
	return shard->rows[kind][row];
}

bool foot_entry_check(const struct disk_footer *footer, const struct disk_foot_entry *entry)
{
	if (entry->sequence == 0 || entry->sequence >> 48 != 0)
		return false;
	if ((entry->flags & DISK_ENTRY_TOMBSTONE) != 0)
		return entry->size == 0 && entry->page == 0;
	return entry->size > 0 && entry->page > 0 && entry->page < footer->tail &&
	       pages_of(entry->size) <= footer->tail - entry->page;
}

static void entries_apply(struct recovery *recovery, struct segment *segment,
			  const struct disk_footer *footer)
{
	struct shard *shard = recovery->shard;
	const struct disk_foot_entry *entries =
		(const struct disk_foot_entry *)(void *)(shard->scratch +
							 disk_foot_entries_offset(
								 footer->name_count));

	for (uint32_t kind = NAME_DOMAIN; kind <= NAME_NS; kind++)
		memset(shard->rows[kind], 0, (NAMES_MAX + 1) * sizeof(uint16_t));
	for (uint32_t i = 0; i < footer->entry_count; i++) {
		struct disk_foot_entry entry = entries[i];

		if (!foot_entry_check(footer, &entry))
			continue;
		entry.domain = id_of(shard, NAME_DOMAIN, entry.domain, footer);
		entry.payer = id_of(shard, NAME_PAYER, entry.payer, footer);
		entry.ns = id_of(shard, NAME_NS, entry.ns, footer);
		recovery_apply(recovery, segment, &entry);
	}
}

enum foot_state foot_read(struct recovery *recovery, const struct segment *segment,
			  struct disk_footer *footer_out)
{
	struct shard *shard = recovery->shard;
	struct disk_footer *footer = footer_out;
	uint32_t last = shard->segment_pages - 1;

	if (recovery_read(recovery, segment, last, 1, shard->scratch) < 0)
		return FOOT_TORN;
	memcpy(footer, shard->scratch, sizeof(*footer));
	if (!footer_check(shard, segment, footer))
		return footer->magic == DISK_FOOT_MAGIC && !footer_is_whole(footer) ? FOOT_TORN
										    : FOOT_NONE;
	if (recovery_read(recovery, segment, footer->first_page, last - footer->first_page,
			  shard->scratch) < 0)
		return FOOT_TORN;
	if (crc32c(0, shard->scratch, (last - footer->first_page) * PAGE_SIZE) !=
	    footer->entries_crc)
		return FOOT_TORN;
	return FOOT_COUNTS;
}

bool foot_load(struct recovery *recovery, struct segment *segment, bool *is_sealed_out)
{
	struct shard *shard = recovery->shard;
	struct disk_footer footer;

	if (foot_read(recovery, segment, &footer) != FOOT_COUNTS)
		return false;
	if (footer.is_sealed != 0 && segment->foot != NULL) {
		list_add_tail(&shard->feet, &segment->foot->node);
		segment->foot = NULL;
	}
	memcpy(segment->nonce, footer.nonce, sizeof(segment->nonce));
	segment->tail = footer.tail;
	entries_apply(recovery, segment, &footer);
	*is_sealed_out = footer.is_sealed != 0;
	return true;
}
