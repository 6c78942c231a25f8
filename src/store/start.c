/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a shard starts and stops, and the memory it takes.
 *
 * Open       Geometry from the super (or from shard_memory); all memory at once; then recovery.c.
 * Close      What is buffered is written, footers of full segments and of the open one follow, all
 *            is flushed, and the super says clean. It polls the env meanwhile: callbacks of puts
 *            come. A medium that does not answer for CLOSE_NS: the rest is left to recovery, and
 *            the memory that the medium may still reach into is not given back.
 */
#include <string.h>

#include "medium.h"
#include "shard_priv.h"

#define CLOSE_NS        (30 * NS_PER_S)
#define CLOSE_STEP      (10 * NS_PER_MS)
#define MEMORY_SEGMENTS 64u

/* --- memory --- */

/* What decides how much memory a shard takes. */
struct geometry {
	uint64_t segment_room;
	uint64_t segment_size;
	uint32_t segment_count;
	uint32_t block_max;
	uint64_t index_entries;
};

static uint64_t ring_size_of(const struct geometry *geometry)
{
	return round_down(reclaim_ring_size(geometry->segment_size, geometry->block_max),
			  PAGE_SIZE);
}

/* Cuts pieces off the arena; base NULL: only adds up. */
struct carve {
	char *base;
	uint64_t size;
};

static void *carve(struct carve *from, uint64_t count, uint64_t size, uint64_t align)
{
	uint64_t offset = round_up(from->size, align);

	from->size = offset + count * size;
	return from->base != NULL ? from->base + offset : NULL;
}

/* What a shard has beside index, names and super. */
struct layout {
	struct segment *segments;
	uint64_t *first_sequence;
	struct segment_age *ages;
	struct list *buckets;
	uint16_t *rows[3];
	void *drops;
	void *quota;
	void *governor;
	/* With a medium only. */
	char *scratch;
	struct disk_span *span;
	struct foot *feet;
	struct disk_foot_entry *foot_entries;
	struct log_record *records;
	struct disk_record *headers;
	struct log_write *writes;
	void *reads;
	char *reclaim_buffer; /* of a directory */
	struct disk_footer *reclaim_footer;
	char *ring;
	struct rewrite_run *runs;
	struct rewrite_put *puts;
};

static uint32_t bucket_count_of(uint32_t put_max)
{
	uint32_t count = 1;

	while (count < put_max)
		count *= 2;
	return count;
}

static uint32_t record_count_of(const struct shard_opts *opts)
{
	return opts->put_max + SHARD_DROP_MAX + REWRITE_PUTS;
}

static uint64_t directory_pages(uint32_t segment_pages)
{
	return MAX(disk_foot_pages(FOOT_NAMES_MAX, segment_pages), MiB / PAGE_SIZE);
}

static void layout_reclaim(struct carve *from, const struct geometry *geometry, struct layout *out)
{
	uint32_t pages = (uint32_t)(geometry->segment_size / PAGE_SIZE);

	out->reclaim_buffer = carve(from, directory_pages(pages), PAGE_SIZE, PAGE_SIZE);
	out->reclaim_footer = carve(from, 1, PAGE_SIZE, PAGE_SIZE);
	out->ring = carve(from, 1, ring_size_of(geometry), PAGE_SIZE);
	out->runs = carve(from, REWRITE_RUNS, sizeof(*out->runs), 64);
	out->puts = carve(from, REWRITE_PUTS, sizeof(*out->puts), 64);
}

static void layout(struct carve *from, const struct shard_opts *opts,
		   const struct geometry *geometry, bool has_medium, struct layout *out)
{
	uint32_t segment_count = geometry->segment_count;
	uint32_t segment_pages = (uint32_t)(geometry->segment_size / PAGE_SIZE);

	*out = (struct layout) { 0 };
	out->segments = carve(from, segment_count, sizeof(*out->segments), 64);
	out->first_sequence = carve(from, segment_count, sizeof(*out->first_sequence), 64);
	out->ages = carve(from, segment_count, sizeof(*out->ages), 64);
	out->buckets = carve(from, bucket_count_of(opts->put_max), sizeof(*out->buckets), 64);
	for (uint32_t i = 0; i < ARRAY_LEN(out->rows); i++)
		out->rows[i] = carve(from, NAMES_MAX + 1, sizeof(*out->rows[i]), 64);
	out->drops = carve(from, 1, drop_memory_size(), 64);
	out->quota = carve(from, 1, quota_memory_size(segment_count), 64);
	out->governor = carve(from, 1, governor_memory_size(), 64);
	if (!has_medium)
		return;
	out->scratch = carve(from, directory_pages(segment_pages), PAGE_SIZE, PAGE_SIZE);
	out->span = carve(from, 1, PAGE_SIZE, PAGE_SIZE);
	out->headers = carve(from, record_count_of(opts), PAGE_SIZE, PAGE_SIZE);
	out->reads = carve(from, 1, read_memory_size(), PAGE_SIZE);
	out->foot_entries = carve(from, (uint64_t)SHARD_FOOT_MAX * segment_pages,
				  sizeof(*out->foot_entries), 64);
	out->feet = carve(from, SHARD_FOOT_MAX, sizeof(*out->feet), 64);
	out->records = carve(from, record_count_of(opts), sizeof(*out->records), 64);
	out->writes = carve(from, opts->queue_depth, sizeof(*out->writes), 64);
	layout_reclaim(from, geometry, out);
}

static int geometry_of_memory(const struct shard_memory *memory, struct geometry *out)
{
	uint64_t room = memory->segment_room;

	if (room == 0) {
		room = DISK_SEGMENT_MAX;
		while (room > MiB && memory->size / room < MEMORY_SEGMENTS)
			room /= 2;
		while (room < DISK_SEGMENT_MAX && room / 4 < memory->block_max)
			room *= 2;
	}
	if (!is_power_of_2(room) || room < PAGE_SIZE || room > DISK_SEGMENT_MAX ||
	    memory->size / room < 4)
		return -EINVAL;
	out->segment_room = room;
	/* Its directory beside the room, as large as the footer of a medium would be. */
	out->segment_size = room + round_up(MAX(room / 1000 * 3, 1), PAGE_SIZE);
	out->segment_count = (uint32_t)(memory->size / room);
	out->block_max =
		(uint32_t)(memory->block_max != 0 ? memory->block_max : MIN(64 * MiB, room / 4));
	if (out->block_max > room / 4)
		return -EINVAL;
	return 0;
}

static int geometry_of(const struct medium_info *info, const struct shard_memory *memory,
		       const struct shard_opts *opts, struct geometry *out)
{
	int rc;

	if (info != NULL) {
		*out = (struct geometry) { .segment_room = info->segment_room,
					   .segment_size = disk_segment_size(info->segment_room),
					   .segment_count = info->segment_count,
					   .block_max = info->block_max };
	} else {
		rc = geometry_of_memory(memory, out);
		if (rc < 0)
			return rc;
	}
	out->index_entries = opts->index_entries;
	if (out->index_entries == 0)
		out->index_entries = MAX(out->segment_count * out->segment_room / MiB, MiB);
	return 0;
}

uint32_t shard_memory_block_max(const struct shard_memory *memory)
{
	struct geometry geometry;

	return geometry_of_memory(memory, &geometry) < 0 ? 0 : geometry.block_max;
}

uint64_t shard_memory_size(const struct medium_info *info, const struct shard_memory *memory,
			   const struct shard_opts *opts)
{
	struct carve count = { .base = NULL };
	struct geometry geometry;
	struct layout unused;

	if (geometry_of(info, memory, opts, &geometry) < 0)
		return 0;
	layout(&count, opts, &geometry, info != NULL, &unused);
	return sizeof(struct shard) + count.size + super_size() +
	       index_size(geometry.index_entries) + 3 * names_size(NAMES_MAX) +
	       (info == NULL ? geometry.segment_count * geometry.segment_size : 0);
}

static int take_names(struct shard *shard)
{
	struct names **tables[] = { &shard->domains, &shard->payers, &shard->namespaces };
	int rc = 0;

	for (uint32_t i = 0; i < ARRAY_LEN(tables) && rc == 0; i++)
		rc = names_create(shard->env, NAMES_MAX, tables[i]);
	return rc;
}

static int take_arena(struct shard *shard, const struct geometry *geometry, struct layout *parts)
{
	struct carve count = { .base = NULL };
	struct env *env = shard->env;

	layout(&count, &shard->opts, geometry, !is_memory(shard), parts);
	shard->arena = env->ops->map(env, count.size);
	if (shard->arena == NULL)
		return -ENOMEM;
	shard->arena_size = count.size;
	count = (struct carve) { .base = shard->arena };
	layout(&count, &shard->opts, geometry, !is_memory(shard), parts);
	ASSERT(count.size == shard->arena_size);
	if (!is_memory(shard))
		return 0;
	shard->memory_size = shard->segment_count * shard->segment_size;
	shard->memory = env->ops->map(env, shard->memory_size);
	return shard->memory != NULL ? 0 : -ENOMEM;
}

/* --- start and stop --- */

static void parts_init(struct shard *shard, const struct layout *parts)
{
	shard->segments = parts->segments;
	shard->first_sequence = parts->first_sequence;
	shard->ages = parts->ages;
	shard->buckets = parts->buckets;
	shard->bucket_mask = bucket_count_of(shard->opts.put_max) - 1;
	shard->scratch = parts->scratch;
	shard->prepare.span = parts->span;
	shard->index_segments =
		(struct index_segments) { shard->first_sequence, shard->segment_count };
	memcpy(shard->rows, parts->rows, sizeof(shard->rows));
	for (uint32_t i = 0; i <= shard->bucket_mask; i++)
		list_init(&shard->buckets[i]);
	for (uint32_t i = 0; i < shard->segment_count; i++) {
		shard->segments[i] = (struct segment) { .state = SEGMENT_FREE };
		shard->first_sequence[i] = UINT64_MAX;
		list_init(&shard->segments[i].node);
	}
	list_init(&shard->free);
	list_init(&shard->sealing);
	list_init(&shard->sealed);
	list_init(&shard->feet);
	list_init(&shard->telling);
	shard->task.run = shard_telling_run;
	drop_init(shard, parts->drops);
	flush_init(shard);
	reclaim_init(shard);
	quota_init(shard, parts->quota);
	governor_init(shard, parts->governor);
	shard->reclaim.buffer = parts->reclaim_buffer;
	shard->reclaim.footer = parts->reclaim_footer;
	if (is_memory(shard)) {
		log_init(shard, NULL, 0, NULL, NULL);
		return;
	}
	for (uint32_t i = 0; i < SHARD_FOOT_MAX; i++) {
		parts->feet[i].entries = parts->foot_entries + (uint64_t)i * shard->segment_pages;
		list_add_tail(&shard->feet, &parts->feet[i].node);
	}
	log_init(shard, parts->records, record_count_of(&shard->opts), parts->headers,
		 parts->writes);
	read_init(shard, parts->reads);
}

/* Give back whatever was taken. */
static void shard_free(struct shard *shard)
{
	struct env *env = shard->env;

	health_fini(shard);
	index_destroy(&shard->index);
	names_destroy(&shard->domains);
	names_destroy(&shard->payers);
	names_destroy(&shard->namespaces);
	if (shard->memory != NULL)
		env->ops->unmap(env, shard->memory, shard->memory_size);
	if (shard->arena != NULL)
		env->ops->unmap(env, shard->arena, shard->arena_size);
	if (shard->super.env != NULL)
		super_close(&shard->super);
	shard->magic = 0;
	env->ops->free(env, shard);
}

static int super_take(struct shard *shard, struct medium *medium, uint32_t index,
		      const struct geometry *geometry)
{
	struct env_blk_info info;
	struct disk_extent extent;
	int rc;

	if (medium == NULL) {
		rc = super_open_memory(&shard->super, shard->env, geometry->segment_room,
				       geometry->segment_count);
	} else {
		extent = medium_extent(medium, index);
		shard->blk = medium_blk(medium);
		shard->env->ops->blk_info(shard->env, shard->blk, &info);
		/* A hole in a file would have to be allocated again, when there may be no room. */
		shard->has_trim = info.is_device && info.discards != 0;
		shard->base = extent.offset + DISK_SEGMENTS_OFFSET;
		shard->incarnation = medium_incarnation(medium);
		rc = super_open(&shard->super, shard->env, shard->blk, &extent);
	}
	if (rc < 0)
		shard->super.env = NULL; /* not open */
	return rc;
}

static int shard_fill(struct shard *shard, const struct geometry *geometry)
{
	struct layout parts;
	int rc;

	rc = take_arena(shard, geometry, &parts);
	if (rc < 0)
		return rc;
	parts_init(shard, &parts);
	if (!is_memory(shard))
		rewrite_init(shard, parts.ring, ring_size_of(geometry), parts.runs, parts.puts);
	rc = take_names(shard);
	if (rc < 0)
		return rc;
	rc = index_create(shard->env, geometry->index_entries, &shard->index_segments,
			  &shard->index);
	if (rc < 0)
		return rc;
	if (!is_memory(shard))
		return shard->opts.is_read_only ? recovery_look(shard) : recovery_run(shard);
	/* Not 1: a client may remember the name of a record of before a restart. 47 bits of 48. */
	shard->env->ops->random(shard->env, &shard->sequence, sizeof(shard->sequence));
	shard->sequence = (shard->sequence >> 17) + 1;
	for (uint32_t i = 0; i < shard->segment_count; i++)
		list_add_tail(&shard->free, &shard->segments[i].node);
	shard->free_count = shard->segment_count;
	return 0;
}

int shard_open(struct env *env, struct medium *medium, uint32_t index,
	       const struct shard_memory *memory, const struct shard_opts *opts,
	       struct shard **shard_out)
{
	struct medium_info info;
	struct geometry geometry;
	struct shard *shard;
	int rc;

	ASSERT((medium == NULL) != (memory == NULL));
	ASSERT(*shard_out == NULL);
	ASSERT(opts->queue_depth > 0);
	ASSERT(opts->put_max > 0);
	ASSERT(opts->reinsert_share <= 75);
	ASSERT(opts->write_size % PAGE_SIZE == 0 && opts->write_size > 0);
	if (medium != NULL)
		medium_get_info(medium, &info);
	rc = geometry_of(medium != NULL ? &info : NULL, memory, opts, &geometry);
	if (rc < 0)
		return rc;

	shard = env->ops->alloc(env, sizeof(*shard));
	if (shard == NULL)
		return -ENOMEM;
	*shard = (struct shard) { .magic = SHARD_MAGIC,
				  .env = env,
				  .opts = *opts,
				  .block_max = geometry.block_max,
				  .segment_size = geometry.segment_size,
				  .segment_count = geometry.segment_count,
				  .segment_pages = (uint32_t)(geometry.segment_size / PAGE_SIZE) };
	health_init(shard);
	rc = super_take(shard, medium, index, &geometry);
	if (rc < 0)
		goto err_free;
	if (medium != NULL)
		shard->opts.write_budget /= MAX(info.shard_count, 1);
	rc = shard_fill(shard, &geometry);
	if (rc < 0)
		goto err_free;
	shard->opts.mark = NULL;
	shard->stats.index_entries = index_room(shard->index);
	shard->stats.index_bytes = index_size(geometry.index_entries);
	shard->stats.memory_bytes = shard_memory_size(medium != NULL ? &info : NULL, memory, opts);
	*shard_out = shard;
	return 0;

err_free:
	shard_free(shard);
	return rc;
}

bool shard_is_idle(const struct shard *shard)
{
	return list_is_empty(&shard->log.unwritten) && shard->log.writes_under_way == 0 &&
	       !shard->flush.is_under_way && list_is_empty(&shard->flush.waiting) &&
	       shard->prepare.segment == NULL && !super_is_busy(&shard->super) &&
	       (shard->is_offline || list_is_empty(&shard->sealing)) &&
	       !shard->foot_write.is_under_way && list_is_empty(&shard->telling) &&
	       shard->put_count == 0 && shard->drop_count == 0 && shard->read_count == 0 &&
	       reclaim_is_idle(shard) && shard->quota.state == QUOTA_IDLE;
}

int shard_drain(struct shard *shard)
{
	struct env *env = shard->env;
	uint64_t until_ns = env_now_ns(env) + CLOSE_NS;

	while (!shard_is_idle(shard)) {
		uint64_t now_ns = env_now_ns(env);

		log_close_group(shard);
		(void)env->ops->poll(env, CLOSE_STEP); /* what it says comes by callbacks */
		if (now_ns >= until_ns)
			return -ETIMEDOUT;
	}
	return shard->is_offline ? -ERR_OFFLINE : 0;
}

static int shard_stop(struct shard *shard)
{
	int rc;

	shard->is_closing = true;
	reclaim_wake(shard); /* it stops */
	rc = shard_drain(shard);
	if (rc < 0 || is_memory(shard))
		return rc;
	segment_leave(shard);
	rc = shard_drain(shard);
	if (rc < 0)
		return rc;
	/* What is_clean vouches for survives before it does: the footers. */
	rc = shard->env->ops->blk_flush(shard->env, shard->blk);
	if (rc < 0)
		return rc;
	shard->super.disk->is_clean = 1;
	return super_store(&shard->super);
}

void shard_forget_all(struct shard *shard)
{
	struct env *env = shard->env;

	env->ops->timer_clear(env, &shard->log.timer);
	env->ops->undefer(env, &shard->flush.task);
	env->ops->undefer(env, &shard->reclaim.task);
	env->ops->undefer(env, &shard->quota.task);
	env->ops->undefer(env, &shard->check_task);
	env->ops->undefer(env, &shard->task);
	env->ops->undefer(env, &shard->super.task);
	shard->super.is_writing = false;
	list_init(&shard->super.waiting);
	list_init(&shard->super.writing);
}

int shard_close(struct shard **shard, bool is_crash)
{
	int rc = 0;

	if (*shard == NULL)
		return 0;
	CHECK_OBJ(*shard, SHARD_MAGIC);
	if (!is_crash)
		rc = shard_stop(*shard);
	shard_forget_all(*shard);
	if (rc != -ETIMEDOUT) /* else the medium may still reach into its memory */
		shard_free(*shard);
	*shard = NULL;
	return rc;
}
