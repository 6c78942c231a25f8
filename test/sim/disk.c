/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A drive with a volatile cache, page by page. A write that has completed is `dirty`: everybody
 * reads it, a flush that is submitted later makes it `stable`. Power loss decides sector by sector
 * which dirty ones had reached the medium.
 *
 * What an I/O does, it does when it completes; its memory must be the same then as when it was
 * submitted (a write's source is pinned by whoever submitted it), which is checked by a hash.
 *
 * sync calls (start-up, stop) take no time and no faults but EIO; every I/O counts for dies_in.
 */
#include "sim.h"

#include "../../src/base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR_SIZE      512u
#define SECTORS_PER_PAGE (PAGE_SIZE / SECTOR_SIZE)
#define SLOW_MAX_NS      (5 * NS_PER_S) /* of a command, whatever stands before it */

struct sim_page {
	uint8_t *stable; /* NULL: zeros */
	uint8_t *dirty;  /* NULL: none newer */
	uint64_t epoch;  /* of dirty */
};

struct env_blk {
	struct sim_disk *disk;
	struct sim_env *env;
	bool is_read_only;
};

struct sim_io {
	struct sim_event event;
	struct list node;
	struct env_io *io;
	struct sim_disk *disk;
	uint64_t epoch; /* FLUSH: covers writes of this and before */
	struct hash128 source;
	bool is_void; /* the disk died meanwhile */
};

static const uint8_t zero_page[PAGE_SIZE];

static uint8_t *page_alloc(const uint8_t *content)
{
	uint8_t *page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);

	ASSERT(page != NULL);
	memcpy(page, content, PAGE_SIZE);
	return page;
}

static const uint8_t *page_stable(const struct sim_page *page)
{
	return page->stable != NULL ? page->stable : zero_page;
}

static const uint8_t *page_content(const struct sim_page *page)
{
	return page->dirty != NULL ? page->dirty : page_stable(page);
}

static void page_settle(struct sim_page *page)
{
	free(page->stable);
	page->stable = page->dirty;
	page->dirty = NULL;
}

struct sim_disk *sim_disk_create(struct sim *sim, const char *path, uint64_t size)
{
	struct sim_disk *disk = calloc(1, sizeof(*disk));

	ASSERT(disk != NULL);
	ASSERT(size % PAGE_SIZE == 0);
	disk->sim = sim;
	disk->size = size;
	disk->page_count = size / PAGE_SIZE;
	disk->pages = calloc(disk->page_count, sizeof(disk->pages[0]));
	disk->dirty = calloc(disk->page_count, sizeof(disk->dirty[0]));
	ASSERT(disk->pages != NULL);
	ASSERT(disk->dirty != NULL);
	disk->faults.delay_max_ns = NS_PER_MS;
	snprintf(disk->path, sizeof(disk->path), "%s", path);
	list_init(&disk->inflight);
	list_add_tail(&sim->disks, &disk->node);
	return disk;
}

void sim_disk_destroy(struct sim_disk **disk_ptr)
{
	struct sim_disk *disk = *disk_ptr;

	ASSERT(list_is_empty(&disk->inflight));
	for (uint64_t i = 0; i < disk->page_count; i++) {
		free(disk->pages[i].stable);
		free(disk->pages[i].dirty);
	}
	list_del(&disk->node);
	free(disk->pages);
	free(disk->dirty);
	free(disk);
	*disk_ptr = NULL;
}

/* --- the medium --- */

/* The sectors of mask (bit 0: the first) of page index become those of content. */
static void disk_put_sectors(struct sim_disk *disk, uint64_t index, const uint8_t *content,
			     uint32_t mask)
{
	struct sim_page *page = &disk->pages[index];

	if (page->dirty != NULL && page->epoch < disk->epoch) {
		/* A flush under way may cover it: it has reached the medium just now. */
		uint8_t *copy = page_alloc(page->dirty);

		page_settle(page);
		page->dirty = copy;
	} else if (page->dirty == NULL) {
		page->dirty = page_alloc(page_stable(page));
		disk->dirty[disk->dirty_count++] = (uint32_t)index;
	}
	page->epoch = disk->epoch;
	for (uint32_t s = 0; s < SECTORS_PER_PAGE; s++) {
		if ((mask & (1u << s)) != 0)
			memcpy(page->dirty + s * SECTOR_SIZE, content + s * SECTOR_SIZE,
			       SECTOR_SIZE);
	}
}

static void disk_put_page(struct sim_disk *disk, uint64_t index, const uint8_t *content)
{
	disk_put_sectors(disk, index, content, (1u << SECTORS_PER_PAGE) - 1);
}

static void disk_settle(struct sim_disk *disk, uint64_t epoch)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < disk->dirty_count; i++) {
		struct sim_page *page = &disk->pages[disk->dirty[i]];

		if (page->epoch <= epoch)
			page_settle(page);
		else
			disk->dirty[kept++] = disk->dirty[i];
	}
	disk->dirty_count = kept;
}

static void disk_rot(struct sim_disk *disk, uint64_t index)
{
	struct sim_page *page = &disk->pages[index];
	uint64_t bit = rng_below(&disk->sim->rng, PAGE_SIZE * 8);

	if (page->stable == NULL && page->dirty == NULL)
		return;
	if (page->stable != NULL)
		page->stable[bit / 8] ^= (uint8_t)(1u << bit % 8);
	if (page->dirty != NULL)
		page->dirty[bit / 8] ^= (uint8_t)(1u << bit % 8);
	disk->media_faults++;
	sim_note(disk->sim, "disk %s page %llu rots", disk->path, (unsigned long long)index);
}

static bool disk_fault(struct sim_disk *disk, uint32_t rate)
{
	return rate != 0 && disk->sim->has_faults && rng_chance(&disk->sim->rng, rate);
}

/* --- death --- */

/* A write that was under way when the power went: any of its sectors. */
static void io_tear(struct sim_io *sim_io)
{
	struct sim_disk *disk = sim_io->disk;
	const struct env_io *io = sim_io->io;
	uint64_t index = io->offset / PAGE_SIZE;
	uint32_t keep = (uint32_t)rng_below(&disk->sim->rng, 5) * 2500;

	sim_io->is_void = true;
	if (io->kind != ENV_WRITE || keep == 0)
		return;
	for (uint32_t i = 0; i < io->iov_count; i++) {
		for (size_t at = 0; at < io->iov[i].iov_len; at += PAGE_SIZE, index++) {
			uint32_t mask = (uint32_t)rng_next(&disk->sim->rng) & 0xff;

			if (rng_chance(&disk->sim->rng, keep))
				mask = 0xff;
			disk_put_sectors(disk, index, (uint8_t *)io->iov[i].iov_base + at, mask);
		}
	}
}

static void disk_die(struct sim_disk *disk)
{
	list_for_each_safe (pos, &disk->inflight) {
		struct sim_io *sim_io = list_entry(pos, struct sim_io, node);

		io_tear(sim_io);
		list_del(&sim_io->node);
	}
	disk->is_dead = true;
}

void sim_disk_crash(struct sim_disk *disk, bool is_power_loss)
{
	uint32_t keep = (uint32_t)rng_below(&disk->sim->rng, 5) * 2500;

	disk_die(disk);
	for (uint32_t i = 0; is_power_loss && i < disk->dirty_count; i++) {
		uint32_t index = disk->dirty[i];
		struct sim_page *page = &disk->pages[index];
		const uint8_t *stable = page_stable(page);

		for (uint32_t s = 0; s < SECTORS_PER_PAGE; s++) {
			if (!rng_chance(&disk->sim->rng, keep))
				memcpy(page->dirty + s * SECTOR_SIZE, stable + s * SECTOR_SIZE,
				       SECTOR_SIZE);
		}
		page_settle(page);
	}
	if (is_power_loss)
		disk->dirty_count = 0;
	disk->is_dead = false;
	disk->dies_in = 0;
	sim_note(disk->sim, "disk %s crash, power loss %d, keeps %u", disk->path, is_power_loss,
		 keep);
}

/* Counts an I/O; true when the disk is dead. */
static bool disk_tick(struct sim_disk *disk)
{
	disk->io_count++;
	if (disk->dies_in != 0 && --disk->dies_in == 0) {
		sim_note(disk->sim, "disk %s dies", disk->path);
		disk_die(disk);
	}
	return disk->is_dead;
}

/* --- env: open and sync calls --- */

int sim_blk_open(struct env *env, const char *path, uint32_t flags, struct env_blk **blk_out)
{
	struct sim_env *self = sim_env_of(env);
	bool is_read_only = (flags & ENV_BLK_READ_ONLY) != 0;
	bool is_shared = (flags & ENV_BLK_SHARED) != 0;

	list_for_each (pos, &self->sim->disks) {
		struct sim_disk *disk = list_entry(pos, struct sim_disk, node);
		struct env_blk *blk;

		if (strcmp(disk->path, path) != 0)
			continue;
		if (!is_read_only && !is_shared && disk->opener != NULL)
			return -ERR_IN_USE;
		blk = calloc(1, sizeof(*blk));
		ASSERT(blk != NULL);
		*blk = (struct env_blk) { disk, self, is_read_only };
		if (!is_read_only && !is_shared)
			disk->opener = blk;
		self->held_count++;
		*blk_out = blk;
		return 0;
	}
	return -ENOENT;
}

void sim_blk_close(struct env *env, struct env_blk *blk)
{
	struct sim_env *self = sim_env_of(env);

	ASSERT(blk->env == self);
	if (!self->is_dead)
		ASSERT(list_is_empty(&blk->disk->inflight));
	if (blk->disk->opener == blk)
		blk->disk->opener = NULL;
	self->held_count--;
	free(blk);
}

void sim_blk_info(struct env *env, struct env_blk *blk, struct env_blk_info *info_out)
{
	*info_out = (struct env_blk_info) {
		.size = blk->disk->size,
		.is_direct = true,
		.discards = 1,
	};
}

/* Files have their size from sim_disk_create(). */
int sim_blk_resize(struct env *env, struct env_blk *blk, uint64_t size, bool is_sparse)
{
	return size <= blk->disk->size ? 0 : -ENOSPC;
}

static void check_range(const struct sim_disk *disk, uint64_t size, uint64_t offset)
{
	ASSERT(size % PAGE_SIZE == 0);
	ASSERT(offset % PAGE_SIZE == 0);
	ASSERT(offset <= disk->size);
	ASSERT(size <= disk->size - offset);
}

int sim_blk_read(struct env *env, struct env_blk *blk, void *buf, size_t size, uint64_t offset)
{
	struct sim_disk *disk = blk->disk;

	check_range(disk, size, offset);
	ASSERT((uintptr_t)buf % PAGE_SIZE == 0);
	if (disk_tick(disk))
		return -EIO;
	if (disk_fault(disk, disk->faults.read_eio)) {
		disk->eio_count++;
		disk->media_faults++; /* recovery goes on without what stands there */
		return -EIO;
	}
	for (size_t at = 0; at < size; at += PAGE_SIZE)
		memcpy((uint8_t *)buf + at, page_content(&disk->pages[(offset + at) / PAGE_SIZE]),
		       PAGE_SIZE);
	return 0;
}

int sim_blk_write(struct env *env, struct env_blk *blk, const void *buf, size_t size,
		  uint64_t offset)
{
	struct sim_disk *disk = blk->disk;
	bool is_dead;

	ASSERT(!blk->is_read_only);
	check_range(disk, size, offset);
	ASSERT((uintptr_t)buf % PAGE_SIZE == 0);
	if (disk->is_dead)
		return -EIO;
	is_dead = disk_tick(disk); /* dying in it leaves some of its sectors */
	for (size_t at = 0; at < size; at += PAGE_SIZE) {
		uint32_t mask = is_dead ? (uint32_t)rng_next(&disk->sim->rng) & 0xff : 0xff;

		disk_put_sectors(disk, (offset + at) / PAGE_SIZE, (const uint8_t *)buf + at, mask);
	}
	return is_dead ? -EIO : 0;
}

int sim_blk_flush(struct env *env, struct env_blk *blk)
{
	if (disk_tick(blk->disk))
		return -EIO;
	disk_settle(blk->disk, blk->disk->epoch++);
	return 0;
}

/* --- env: async I/O --- */

static struct hash128 io_hash(const struct env_io *io)
{
	struct hash128 sum = { 0, 0 };

	for (uint32_t i = 0; i < io->iov_count; i++) {
		struct hash128 piece = hash128(io->iov[i].iov_base, io->iov[i].iov_len, sum.lo);

		sum.lo = piece.lo;
		sum.hi ^= piece.hi;
	}
	return sum;
}

static int64_t io_read(struct sim_disk *disk, const struct env_io *io)
{
	uint64_t index = io->offset / PAGE_SIZE;
	bool is_stale = disk_fault(disk, disk->faults.stale);

	if (disk_fault(disk, disk->faults.read_eio)) {
		disk->eio_count++;
		return -EIO;
	}
	if (disk_fault(disk, disk->faults.rot))
		disk_rot(disk, index + rng_below(&disk->sim->rng, io->size / PAGE_SIZE));
	for (uint32_t i = 0; i < io->iov_count; i++) {
		for (size_t at = 0; at < io->iov[i].iov_len; at += PAGE_SIZE, index++) {
			const struct sim_page *page = &disk->pages[index];
			bool is_old = is_stale && page->dirty != NULL;

			disk->media_faults += is_old;
			memcpy((uint8_t *)io->iov[i].iov_base + at,
			       is_old ? page_stable(page) : page_content(page), PAGE_SIZE);
		}
	}
	return (int64_t)io->size;
}

static int64_t io_write(struct sim_disk *disk, const struct env_io *io)
{
	uint64_t index = io->offset / PAGE_SIZE;
	uint64_t count = io->size / PAGE_SIZE;

	if (disk_fault(disk, disk->faults.write_eio)) {
		disk->eio_count++;
		return -EIO;
	}
	if (disk_fault(disk, disk->faults.lost)) {
		disk->media_faults++;
		sim_note(disk->sim, "disk %s loses the write of page %llu", disk->path,
			 (unsigned long long)index);
		return (int64_t)io->size;
	}
	if (disk_fault(disk, disk->faults.misdirected)) {
		disk->media_faults++;
		/* Anywhere but on the label, which has no second home. */
		index = rng_range(&disk->sim->rng, 2, disk->page_count - count);
		sim_note(disk->sim, "disk %s misdirects a write to page %llu", disk->path,
			 (unsigned long long)index);
	}
	for (uint32_t i = 0; i < io->iov_count; i++) {
		for (size_t at = 0; at < io->iov[i].iov_len; at += PAGE_SIZE)
			disk_put_page(disk, index++, (uint8_t *)io->iov[i].iov_base + at);
	}
	return (int64_t)io->size;
}

/* A discarded page is zero, noise, or as it was. */
static int64_t io_discard(struct sim_disk *disk, const struct env_io *io)
{
	uint8_t noise[PAGE_SIZE];

	memset(noise, (int)rng_below(&disk->sim->rng, 256), sizeof(noise));
	for (uint64_t at = 0; at < io->size; at += PAGE_SIZE) {
		uint64_t index = (io->offset + at) / PAGE_SIZE;
		uint64_t choice = rng_below(&disk->sim->rng, 3);

		if (choice < 2)
			disk_put_page(disk, index, choice == 0 ? zero_page : noise);
	}
	return 0;
}

static int64_t io_run(struct sim_io *sim_io)
{
	struct sim_disk *disk = sim_io->disk;
	const struct env_io *io = sim_io->io;

	switch (io->kind) {
	case ENV_READ:
		return io_read(disk, io);
	case ENV_WRITE:
		return io_write(disk, io);
	case ENV_FLUSH:
		if (disk_fault(disk, disk->faults.write_eio / 4)) {
			disk->eio_count++;
			return -EIO;
		}
		disk_settle(disk, sim_io->epoch);
		return 0;
	case ENV_DISCARD:
		return io_discard(disk, io);
	}
	ASSERT(false);
	return -EINVAL;
}

static void io_end(struct sim_event *event, bool is_dropped)
{
	struct sim_io *sim_io = CONTAINER_OF(event, struct sim_io, event);
	struct sim_disk *disk = sim_io->disk;
	struct env_io *io = sim_io->io;

	if (!sim_io->is_void)
		list_del(&sim_io->node);
	if (is_dropped) {
		free(sim_io);
		return;
	}
	if (io->kind == ENV_WRITE && !sim_io->is_void) {
		struct hash128 now = io_hash(io);

		if (now.lo != sim_io->source.lo || now.hi != sim_io->source.hi)
			sim_fail(disk->sim, "memory under a write at %llu has changed",
				 (unsigned long long)io->offset);
	}
	io->result = sim_io->is_void ? -EIO : io_run(sim_io);
	sim_trace(disk->sim, (uint64_t)io->kind << 32 | (uint32_t)io->result, io->offset);
	free(sim_io);
	io->done(io);
}

static void check_io(const struct env_io *io)
{
	uint64_t sum = 0;

	check_range(io->blk->disk, io->size, io->offset);
	ASSERT(io->done != NULL);
	ASSERT(io->iov_count <= ENV_IOV_MAX);
	if (io->kind != ENV_READ && io->kind != ENV_WRITE)
		return;
	for (uint32_t i = 0; i < io->iov_count; i++) {
		ASSERT((uintptr_t)io->iov[i].iov_base % PAGE_SIZE == 0);
		ASSERT(io->iov[i].iov_len % PAGE_SIZE == 0);
		sum += io->iov[i].iov_len;
	}
	ASSERT(sum == io->size);
	ASSERT(sum > 0);
}

/* A slow one takes its commands one behind the other. */
static uint64_t slow_delay(struct sim_disk *disk, const struct env_io *io)
{
	uint64_t now_ns = disk->sim->now_ns;
	uint64_t time_ns;

	if (!disk->sim->has_faults || now_ns >= disk->slow_until_ns)
		return 0;
	time_ns = MAX(io->size, PAGE_SIZE) * NS_PER_S / disk->slow_rate;
	disk->slow_free_ns = MAX(disk->slow_free_ns, now_ns) + time_ns;
	disk->slow_free_ns = MIN(disk->slow_free_ns, now_ns + SLOW_MAX_NS);
	return disk->slow_free_ns - now_ns;
}

static uint64_t io_delay(const struct sim_disk *disk)
{
	return rng_log(&disk->sim->rng, NS_PER_US,
		       disk->sim->has_faults ? disk->faults.delay_max_ns : 200 * NS_PER_US);
}

void sim_blk_submit(struct env *env, struct env_io *io)
{
	struct sim_disk *disk = io->blk->disk;
	struct sim_io *sim_io = calloc(1, sizeof(*sim_io));

	ASSERT(sim_io != NULL);
	check_io(io);
	sim_io->io = io;
	sim_io->disk = disk;
	if (io->kind == ENV_FLUSH)
		sim_io->epoch = disk->epoch++;
	if (io->kind == ENV_WRITE) {
		ASSERT(!io->blk->is_read_only);
		sim_io->source = io_hash(io);
	}
	if (disk->is_dead) {
		sim_io->is_void = true;
	} else {
		list_add_tail(&disk->inflight, &sim_io->node);
		(void)disk_tick(disk); /* when it dies now, this one is torn with the others */
	}
	sim_env_schedule(sim_env_of(env), &sim_io->event, io_delay(disk) + slow_delay(disk, io),
			 io_end);
}
