/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writing, step by step:
 *
 *   1. *disk is copied to *out, with the next count and a CRC: rows may change meanwhile.
 *   2. *out goes to the slot that does not hold the last good writing, and is flushed: now it does.
 *   3. The same again, to the other slot. Now either may rot, or have been lost by the drive.
 *   4. Who waits is told. Who came meanwhile gets a writing of his own, one for all of them.
 *
 * Power lost in 2: that slot fails its CRC or is whole; the other one is untouched. Lost in 3: the
 * slot of 2 is whole and has the higher count. An error in 2 or 3: the slot may hold anything, so
 * the next writing begins with it, under a count above both.
 */
#include "super.h"

#include <string.h>

#include "../base/hash.h"

#define SUPER_BYTES  (2 * sizeof(struct disk_super)) /* disk, out */
#define SUPER_ROUNDS 2u                              /* of a writing: one a slot */

static void writing_start(struct super *super);

/* Row of (domain, ns) in drop_slots, or the empty slot where it would go. */
static uint8_t *drop_slot(const struct super *super, const uint8_t domain[16], const uint8_t ns[16])
{
	const struct disk_super *disk = super->disk;
	uint8_t name[32];
	uint64_t hash;

	memcpy(name, domain, 16);
	memcpy(name + 16, ns, 16);
	hash = hash128(name, sizeof(name), disk->seed).lo;
	for (uint32_t i = (uint32_t)hash;; i++) {
		const uint8_t *slot = &super->drop_slots[i % SUPER_DROP_SLOTS];
		const struct disk_drop *drop;

		if (*slot == 0)
			return (uint8_t *)slot;
		drop = &disk->drops[*slot - 1];
		if (memcmp(drop->domain, domain, 16) == 0 && memcmp(drop->ns, ns, 16) == 0)
			return (uint8_t *)slot;
	}
}

static void drop_slots_build(struct super *super)
{
	_Static_assert(SUPER_DROP_SLOTS >= 2 * DISK_DROP_MAX, "probes end");
	_Static_assert(DISK_DROP_MAX < UINT8_MAX, "row + 1 in a byte");

	memset(super->drop_slots, 0, sizeof(super->drop_slots));
	for (uint32_t row = 0; row < super->disk->drop_count; row++) {
		const struct disk_drop *drop = &super->disk->drops[row];

		*drop_slot(super, drop->domain, drop->ns) = (uint8_t)(row + 1);
	}
}

static void seal_slot(struct disk_super *disk)
{
	disk->magic = DISK_SUPER_MAGIC;
	disk->version = DISK_VERSION;
	disk->crc = disk_crc(disk, sizeof(*disk), offsetof(struct disk_super, crc));
}

bool super_slot_is_whole(const struct disk_super *disk, uint64_t offset)
{
	return disk->magic == DISK_SUPER_MAGIC && disk->version != 0 && disk->offset == offset &&
	       disk->crc == disk_crc(disk, sizeof(*disk), offsetof(struct disk_super, crc));
}

/* What a whole slot claims, held against the extent it was found in. */
static int check(const struct disk_super *disk, const struct disk_extent *extent)
{
	if (disk->version > DISK_VERSION)
		return -ERR_VERSION;
	if (!is_power_of_2(disk->segment_room) || disk->segment_room < DISK_SEGMENT_MIN ||
	    disk->segment_room > DISK_SEGMENT_MAX)
		return -ERR_FORMAT;
	if (disk->segment_size != disk_segment_size(disk->segment_room))
		return -ERR_FORMAT;
	if (disk->segment_count == 0 ||
	    disk->segment_count > disk_segment_count(extent->size, disk->segment_size))
		return -ERR_FORMAT;
	if (disk->drop_count > DISK_DROP_MAX)
		return -ERR_FORMAT;
	return 0;
}

static int init(struct super *super, struct env *env, struct env_blk *blk)
{
	struct disk_super *pages = env->ops->map(env, SUPER_BYTES);

	if (pages == NULL)
		return -ENOMEM;
	memset(pages, 0, SUPER_BYTES);
	*super = (struct super) { .env = env, .blk = blk, .disk = &pages[0], .out = &pages[1] };
	list_init(&super->waiting);
	list_init(&super->writing);
	return 0;
}

uint64_t super_size(void)
{
	return SUPER_BYTES;
}

static int load(struct super *super, const struct disk_extent *extent)
{
	struct disk_super *slots[2] = { super->disk, super->out };
	bool whole[2];

	for (uint32_t i = 0; i < 2; i++) {
		int rc = super->env->ops->blk_read(super->env, super->blk, slots[i],
						   sizeof(*slots[i]),
						   super->offset + i * DISK_SUPER_SIZE);

		whole[i] = rc >= 0 && super_slot_is_whole(slots[i], super->offset);
		if (rc < 0 && rc != -EIO) /* a slot that cannot be read is as good as a torn one */
			return rc;
	}
	if (!whole[0] && !whole[1])
		return -ERR_FORMAT;
	super->slot = whole[1] && (!whole[0] || slots[1]->count > slots[0]->count);
	if (super->slot == 1)
		*super->disk = *super->out;
	super->kept_count = super->disk->count;
	return check(super->disk, extent);
}

int super_open(struct super *super, struct env *env, struct env_blk *blk,
	       const struct disk_extent *extent)
{
	int rc;

	ASSERT(blk != NULL);
	rc = init(super, env, blk);
	if (rc < 0)
		return rc;
	super->offset = extent->offset;
	rc = load(super, extent);
	if (rc < 0)
		goto err_close;
	drop_slots_build(super);
	return 0;

err_close:
	super_close(super);
	return rc;
}

int super_open_memory(struct super *super, struct env *env, uint64_t segment_room,
		      uint32_t segment_count)
{
	int rc = init(super, env, NULL);

	if (rc < 0)
		return rc;
	super_uuid_draw(env, super->disk->shard);
	env->ops->random(env, &super->disk->seed, sizeof(super->disk->seed));
	super->disk->segment_room = segment_room;
	super->disk->segment_size = segment_room;
	super->disk->segment_count = segment_count;
	return 0;
}

void super_close(struct super *super)
{
	ASSERT(!super_is_busy(super));
	super->env->ops->unmap(super->env, super->disk, SUPER_BYTES);
	*super = (struct super) { .env = NULL };
}

int super_format(struct env *env, struct env_blk *blk, uint64_t offset, struct disk_super *disk)
{
	super_uuid_draw(env, disk->shard);
	env->ops->random(env, &disk->seed, sizeof(disk->seed));
	disk->offset = offset;
	disk->is_clean = 1;
	for (uint32_t i = 0; i < 2; i++) {
		int rc;

		disk->count = i + 1;
		seal_slot(disk);
		rc = env->ops->blk_write(env, blk, disk, sizeof(*disk),
					 offset + i * DISK_SUPER_SIZE);
		if (rc < 0)
			return rc;
	}
	return 0;
}

void super_uuid_draw(struct env *env, uint8_t uuid_out[16])
{
	env->ops->random(env, uuid_out, 16);
	uuid_out[6] = (uuid_out[6] & 0x0f) | 0x40; /* version 4, RFC 9562 */
	uuid_out[8] = (uuid_out[8] & 0x3f) | 0x80;
}

bool super_is_busy(const struct super *super)
{
	return super->is_writing || !list_is_empty(&super->waiting);
}

/* Step 1. */
static void writing_prepare(struct super *super)
{
	super->disk->count++;
	*super->out = *super->disk;
	seal_slot(super->out);
}

/* Where the next round of a writing puts it. */
static uint64_t slot_offset(const struct super *super)
{
	return super->offset + (1 - super->slot) * DISK_SUPER_SIZE;
}

int super_store(struct super *super)
{
	struct env *env = super->env;

	ASSERT(!super_is_busy(super));
	if (super->blk == NULL)
		return 0;
	writing_prepare(super);
	for (uint32_t round = 0; round < SUPER_ROUNDS; round++) {
		int rc = env->ops->blk_write(env, super->blk, super->out, sizeof(*super->out),
					     slot_offset(super));

		if (rc < 0)
			return rc;
		rc = env->ops->blk_flush(env, super->blk);
		if (rc < 0)
			return rc;
		super->slot = 1 - super->slot;
	}
	super->kept_count = super->out->count;
	return 0;
}

/* Step 4, then tell. A waiter may call anything but super_close() before the last was told. */
static void writing_end(struct super *super, int rc)
{
	struct list told;

	ASSERT(super->is_writing);
	super->is_writing = false;
	if (rc == 0 && super->blk != NULL)
		super->kept_count = super->out->count;
	list_init(&told);
	list_splice_tail(&told, &super->writing);
	if (!list_is_empty(&super->waiting))
		writing_start(super);
	while (!list_is_empty(&told)) {
		struct super_wait *wait = list_head(&told, struct super_wait, node);

		list_del(&wait->node);
		wait->done(wait, rc);
	}
}

static void round_start(struct super *super);

static void io_done(struct env_io *io)
{
	struct super *super = CONTAINER_OF(io, struct super, io);

	if (io->result < 0) {
		writing_end(super, (int)io->result);
	} else if (io->kind == ENV_WRITE) {
		super->io =
			(struct env_io) { .done = io_done, .blk = super->blk, .kind = ENV_FLUSH };
		super->env->ops->blk_submit(super->env, &super->io);
	} else {
		super->slot = 1 - super->slot;
		if (++super->round < SUPER_ROUNDS)
			round_start(super);
		else
			writing_end(super, 0);
	}
}

static void round_start(struct super *super)
{
	super->iov = (struct iovec) { .iov_base = super->out, .iov_len = sizeof(*super->out) };
	super->io = (struct env_io) { .done = io_done,
				      .blk = super->blk,
				      .kind = ENV_WRITE,
				      .offset = slot_offset(super),
				      .size = sizeof(*super->out),
				      .iov = &super->iov,
				      .iov_count = 1 };
	super->env->ops->blk_submit(super->env, &super->io);
}

static void memory_done(struct env_task *task)
{
	writing_end(CONTAINER_OF(task, struct super, task), 0);
}

static void writing_start(struct super *super)
{
	ASSERT(!super->is_writing);
	super->is_writing = true;
	list_splice_tail(&super->writing, &super->waiting);
	if (super->blk == NULL) {
		super->task.run = memory_done;
		super->env->ops->defer(super->env, &super->task);
		return;
	}
	writing_prepare(super);
	super->round = 0;
	round_start(super);
}

uint64_t super_drop_sequence(const struct super *super, const uint8_t domain[16],
			     const uint8_t ns[16])
{
	uint8_t row;

	if (super->disk->drop_count == 0)
		return 0;
	row = *drop_slot(super, domain, ns);
	return row == 0 ? 0 : super->disk->drops[row - 1].sequence;
}

int super_drop_add(struct super *super, const uint8_t domain[16], const uint8_t ns[16],
		   uint64_t sequence, struct super_wait *wait)
{
	uint8_t *slot = drop_slot(super, domain, ns);
	struct disk_super *disk = super->disk;
	struct disk_drop *drop;

	ASSERT(sequence > 0);
	if (*slot == 0) {
		if (disk->drop_count == DISK_DROP_MAX)
			return -ERR_BUSY;
		drop = &disk->drops[disk->drop_count++];
		memcpy(drop->domain, domain, 16);
		memcpy(drop->ns, ns, 16);
		drop->sequence = sequence;
		*slot = (uint8_t)disk->drop_count;
	} else {
		drop = &disk->drops[*slot - 1];
		drop->sequence = MAX(drop->sequence, sequence);
	}
	list_add_tail(&super->waiting, &wait->node);
	if (!super->is_writing)
		writing_start(super);
	return 0;
}

void super_drop_prune(struct super *super, uint64_t oldest)
{
	struct disk_super *disk = super->disk;
	uint32_t kept = 0;

	for (uint32_t row = 0; row < disk->drop_count; row++) {
		if (disk->drops[row].sequence > oldest)
			disk->drops[kept++] = disk->drops[row];
	}
	if (kept == disk->drop_count)
		return;
	memset(&disk->drops[kept], 0, (disk->drop_count - kept) * sizeof(disk->drops[0]));
	disk->drop_count = kept;
	drop_slots_build(super);
}
