/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Media: making one, opening one.
 *
 * Setup    Open: decide the geometry; open with the lock; look at the head (all before the first
 *          extent) and refuse what is not empty. Nothing is written yet. Write: give a file its
 *          size and write it once; clear the head; super slots of all shards; flush; label and
 *          copy; flush. Whatever stops it before the last step leaves a medium without a label:
 *          -ERR_FORMAT, never a store.
 * Open     Open with the lock; believe the label or its copy; write the incarnation to the one that
 *          was not believed, flush, then to the other, flush: at any moment one is whole.
 * Message  The first step that knows what is wrong writes the sentence; the code goes up.
 */
#include "medium.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../base/text.h"
#include "super.h"

#define MEDIUM_MAGIC     0x6d656469u
#define MESSAGE_SIZE     256
#define MEDIUM_PATH_MAX  4096
#define HEAD_SIZE        DISK_EXTENT_ALIGN /* label, copy, nothing */
#define CHUNK_SIZE       (4 * MiB)         /* of writing a file once */
#define BLOCK_MAX        (64 * MiB)
#define SEGMENTS_DEFAULT 64               /* a shard has as many when nobody chooses */
#define SEGMENTS_MAX     ((1u << 24) - 1) /* bits of an index entry */
#define LABEL_COUNT      2u               /* label, copy */

struct medium {
	uint32_t magic;
	struct env *env;
	struct env *memory; /* gave this struct */
	struct env_blk *blk;
	char path[MEDIUM_PATH_MAX];
	struct disk_label label;
	struct medium_info info;
};

/* A setup under way. */
struct medium_setup {
	struct env *env;
	const struct medium_spec *spec;
	char *message; /* of the call under way */
	struct env_blk *blk;
	uint8_t *chunk; /* CHUNK_SIZE, page aligned */
	uint64_t size;  /* the medium's */
	uint32_t shard_count;
	uint32_t server_shards;
	uint32_t block_max;
	uint32_t segment_count;
	uint64_t segment_room;
	uint64_t extent_size;
};

_Static_assert(HEAD_SIZE <= CHUNK_SIZE, "the head is looked at in one chunk");

/* Returns rc, so that telling and leaving are one line. */
PRINTF_LIKE(3, 4) static int say(char *message, int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(message, MESSAGE_SIZE, format, args); /* cut off when too long */
	va_end(args);
	return rc;
}

/* --- label --- */

bool medium_label_is_whole(const struct disk_label *label)
{
	return label->magic == DISK_LABEL_MAGIC && label->version != 0 &&
	       label->crc == disk_crc(label, sizeof(*label), offsetof(struct disk_label, crc));
}

/* The page that counts: 0, else its copy 1; LABEL_COUNT: neither. */
static uint32_t label_choose(const struct disk_label labels[LABEL_COUNT])
{
	uint32_t i = 0;

	while (i < LABEL_COUNT && !medium_label_is_whole(&labels[i]))
		i++;
	return i;
}

static void label_seal(struct disk_label *label)
{
	label->magic = DISK_LABEL_MAGIC;
	label->version = DISK_VERSION;
	label->crc = disk_crc(label, sizeof(*label), offsetof(struct disk_label, crc));
}

/* What a whole label of our version claims. */
static bool label_is_sound(const struct disk_label *label)
{
	uint64_t end = HEAD_SIZE;

	if (label->shard_count == 0 || label->shard_count > DISK_SHARD_MAX)
		return false;
	if (label->block_max == 0 || label->block_max > BLOCK_MAX)
		return false;
	if (label->server_shards == 0
		    ? label->shard_first != 0
		    : label->server_shards > DISK_SHARD_MAX ||
			      label->shard_first > label->server_shards ||
			      label->shard_count > label->server_shards - label->shard_first)
		return false;
	for (uint32_t i = 0; i < label->shard_count; i++) {
		const struct disk_extent *extent = &label->extents[i];

		if (extent->offset % DISK_EXTENT_ALIGN != 0 || extent->offset < end)
			return false;
		if (extent->offset > label->size || extent->size > label->size - extent->offset)
			return false;
		end = extent->offset + extent->size;
	}
	return true;
}

/* --- setup --- */

static int setup_check(struct medium_setup *setup)
{
	const struct medium_spec *spec = setup->spec;

	if (spec->shard_count > DISK_SHARD_MAX)
		return say(setup->message, -EINVAL, "%s: %u shards: a medium has at most %u",
			   spec->path, spec->shard_count, DISK_SHARD_MAX);
	if (spec->segment_room != 0 &&
	    (!is_power_of_2(spec->segment_room) || spec->segment_room < DISK_SEGMENT_MIN ||
	     spec->segment_room > DISK_SEGMENT_MAX))
		return say(setup->message, -EINVAL,
			   "%s: a segment is a power of two from %u to %u MiB", spec->path,
			   (unsigned)(DISK_SEGMENT_MIN / MiB), (unsigned)(DISK_SEGMENT_MAX / MiB));
	if (spec->block_max > BLOCK_MAX)
		return say(setup->message, -EINVAL, "%s: the largest block is at most 64 MiB",
			   spec->path);
	setup->shard_count = MAX(spec->shard_count, 1);
	setup->server_shards = MAX(spec->server_shards, spec->shard_first + setup->shard_count);
	if (setup->server_shards > DISK_SHARD_MAX)
		return say(setup->message, -EINVAL, "%s: %u shards: a server has at most %u",
			   spec->path, setup->server_shards, DISK_SHARD_MAX);
	return 0;
}

/* How much of a path is the folder. */
static int folder_size(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? (int)MAX(slash - path, 1) : 0;
}

static int setup_open(struct medium_setup *setup)
{
	const struct medium_spec *spec = setup->spec;
	int rc = setup->env->ops->blk_open(setup->env, spec->path,
					   spec->size != 0 ? ENV_BLK_CREATE : 0, &setup->blk);

	if (rc == -ENOENT && spec->size != 0)
		return say(setup->message, rc, "%s: the folder %.*s does not exist", spec->path,
			   folder_size(spec->path), spec->path);
	if (rc == -ENOENT)
		return say(setup->message, rc, "%s: does not exist; with a size it is made",
			   spec->path);
	if (rc == -ERR_IN_USE)
		return say(setup->message, rc, "%s: in use by another process", spec->path);
	if (rc < 0)
		return say(setup->message, rc, "%s: %s", spec->path, err_str(rc));
	return 0;
}

/* Refuse a medium that holds something, unless forced. */
static int setup_look(struct medium_setup *setup, uint64_t size_present)
{
	const struct medium_spec *spec = setup->spec;
	uint64_t size = MIN(round_down(size_present, PAGE_SIZE), HEAD_SIZE);
	int rc;

	if (spec->is_forced)
		return 0;
	if (size == 0 && size_present > 0)
		return say(setup->message, -ERR_FOREIGN,
			   "%s: holds %u bytes that are not ours; --force would erase them",
			   spec->path, (unsigned)size_present);
	if (size == 0)
		return 0;
	rc = setup->env->ops->blk_read(setup->env, setup->blk, setup->chunk, size, 0);
	if (rc < 0)
		return say(setup->message, rc, "%s: cannot be read: %s", spec->path, err_str(rc));
	if (size >= LABEL_COUNT * PAGE_SIZE &&
	    label_choose((const struct disk_label *)(void *)setup->chunk) < LABEL_COUNT)
		return say(setup->message, -ERR_FOREIGN,
			   "%s: already holds a ctxkv store; --force would erase it", spec->path);
	for (uint64_t i = 0; i < size; i++) {
		if (setup->chunk[i] != 0)
			return say(setup->message, -ERR_FOREIGN,
				   "%s: holds data that is not ours (byte %u is not zero); --force "
				   "would erase it",
				   spec->path, (unsigned)i);
	}
	return 0;
}

static uint64_t segments_at(const struct medium_setup *setup, uint64_t room)
{
	return disk_segment_count(setup->extent_size, disk_segment_size(room));
}

/* Largest room that gives SEGMENTS_DEFAULT segments; larger when the blocks asked for need it. */
static uint64_t room_choose(const struct medium_setup *setup)
{
	uint64_t room = DISK_SEGMENT_MIN;

	while (room < DISK_SEGMENT_MAX && segments_at(setup, 2 * room) >= SEGMENTS_DEFAULT)
		room *= 2;
	while (room < 4 * setup->spec->block_max)
		room *= 2;
	return room;
}

static int setup_plan(struct medium_setup *setup, uint64_t size)
{
	const struct medium_spec *spec = setup->spec;
	uint64_t need;
	char have_text[32], need_text[32], room_text[32];

	ASSERT(setup->shard_count > 0);
	setup->size = round_down(size, PAGE_SIZE);
	if (setup->size > HEAD_SIZE)
		setup->extent_size = round_down((setup->size - HEAD_SIZE) / setup->shard_count,
						DISK_EXTENT_ALIGN);
	setup->segment_room = spec->segment_room != 0 ? spec->segment_room : room_choose(setup);
	setup->segment_count = (uint32_t)MIN(segments_at(setup, setup->segment_room), SEGMENTS_MAX);
	text_format_size(room_text, sizeof(room_text), setup->segment_room);
	if (setup->segment_count < DISK_SEGMENTS_MIN) {
		need = DISK_SEGMENTS_OFFSET +
		       DISK_SEGMENTS_MIN * disk_segment_size(setup->segment_room);
		need = HEAD_SIZE + setup->shard_count * round_up(need, DISK_EXTENT_ALIGN);
		return say(setup->message, -ENOSPC,
			   "%s: has %s, but %u shard(s) of at least %u segments of %s need %s",
			   spec->path, text_format_size(have_text, sizeof(have_text), setup->size),
			   setup->shard_count, DISK_SEGMENTS_MIN, room_text,
			   text_format_size(need_text, sizeof(need_text), need));
	}
	setup->block_max = (uint32_t)MIN(BLOCK_MAX, setup->segment_room / 4);
	if (spec->block_max > setup->block_max)
		return say(setup->message, -EINVAL,
			   "%s: blocks of %s do not fit: at most a quarter of a segment of %s",
			   spec->path,
			   text_format_size(have_text, sizeof(have_text), spec->block_max),
			   room_text);
	if (spec->block_max != 0)
		setup->block_max = (uint32_t)spec->block_max;
	return 0;
}

/* Give a file its size, and write it once: later writes then find their blocks allocated. */
static int setup_fill(struct medium_setup *setup)
{
	const struct medium_spec *spec = setup->spec;
	struct env *env = setup->env;
	int rc = env->ops->blk_resize(env, setup->blk, setup->size, spec->is_sparse);

	if (rc < 0)
		return say(setup->message, rc, "%s: cannot be given its size: %s", spec->path,
			   err_str(rc));
	if (spec->is_sparse)
		return 0;
	memset(setup->chunk, 0, CHUNK_SIZE);
	for (uint64_t done = 0; done < setup->size;) {
		uint64_t size = MIN(CHUNK_SIZE, setup->size - done);

		rc = env->ops->blk_write(env, setup->blk, setup->chunk, size, done);
		if (rc < 0)
			return say(setup->message, rc, "%s: cannot be written: %s", spec->path,
				   err_str(rc));
		done += size;
		if (spec->progress != NULL)
			spec->progress(spec->ctx, done, setup->size);
	}
	return 0;
}

static uint64_t extent_offset(const struct medium_setup *setup, uint32_t index)
{
	return HEAD_SIZE + index * setup->extent_size;
}

static int write_supers(struct medium_setup *setup)
{
	struct disk_super *disk = (struct disk_super *)(void *)setup->chunk;

	for (uint32_t i = 0; i < setup->shard_count; i++) {
		int rc;

		*disk = (struct disk_super) { .segment_room = setup->segment_room,
					      .segment_size =
						      disk_segment_size(setup->segment_room),
					      .segment_count = setup->segment_count,
					      .index = setup->spec->shard_first + i };
		rc = super_format(setup->env, setup->blk, extent_offset(setup, i), disk);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int write_labels(struct medium_setup *setup, uint8_t medium_out[16])
{
	struct disk_label *labels = (struct disk_label *)(void *)setup->chunk;
	struct env *env = setup->env;

	labels[0] = (struct disk_label) { .size = setup->size,
					  .created_s = env->ops->wall_s(env),
					  .shard_count = setup->shard_count,
					  .block_max = setup->block_max,
					  .shard_first = setup->spec->shard_first,
					  .server_shards = setup->server_shards };
	super_uuid_draw(env, labels[0].medium);
	memcpy(labels[0].server, setup->spec->server, sizeof(labels[0].server));
	for (uint32_t i = 0; i < setup->shard_count; i++)
		labels[0].extents[i] =
			(struct disk_extent) { extent_offset(setup, i), setup->extent_size };
	label_seal(&labels[0]);
	labels[1] = labels[0];
	memcpy(medium_out, labels[0].medium, sizeof(labels[0].medium));
	return env->ops->blk_write(env, setup->blk, labels, LABEL_COUNT * sizeof(*labels), 0);
}

/* Head, supers, labels: the order of this file's head comment. */
static int setup_write(struct medium_setup *setup, uint8_t medium_out[16])
{
	struct env *env = setup->env;
	int rc;

	memset(setup->chunk, 0, HEAD_SIZE);
	rc = env->ops->blk_write(env, setup->blk, setup->chunk, HEAD_SIZE, 0);
	if (rc == 0)
		rc = env->ops->blk_flush(env, setup->blk);
	if (rc == 0)
		rc = write_supers(setup);
	if (rc == 0)
		rc = env->ops->blk_flush(env, setup->blk);
	if (rc == 0)
		rc = write_labels(setup, medium_out);
	if (rc == 0)
		rc = env->ops->blk_flush(env, setup->blk);
	if (rc < 0)
		return say(setup->message, rc, "%s: cannot be written: %s", setup->spec->path,
			   err_str(rc));
	return 0;
}

/* A device is used whole, a file as large as it is to be. */
static int setup_measure(struct medium_setup *setup)
{
	const struct medium_spec *spec = setup->spec;
	struct env_blk_info blk_info;
	int rc;

	setup->env->ops->blk_info(setup->env, setup->blk, &blk_info);
	if (blk_info.is_device && spec->size != 0)
		return say(setup->message, -EINVAL,
			   "%s: is a device and used whole; a size is for files", spec->path);
	rc = setup_look(setup, blk_info.size);
	return rc == 0 && spec->size == 0 ? setup_plan(setup, blk_info.size) : rc;
}

static void setup_tell(const struct medium_setup *setup, const struct env_blk_info *blk_info,
		       struct medium_info *info)
{
	const struct medium_spec *spec = setup->spec;

	memcpy(info->server, spec->server, sizeof(info->server));
	info->size = setup->size;
	info->shard_count = setup->shard_count;
	info->block_max = setup->block_max;
	info->segment_room = setup->segment_room;
	info->segment_count = setup->segment_count;
	info->shard_first = spec->shard_first;
	info->server_shards = setup->server_shards;
	info->is_direct = blk_info->is_direct;
}

int medium_setup_open(struct env *env, const struct medium_spec *spec,
		      struct medium_setup **setup_out, char message_out[MESSAGE_SIZE])
{
	struct medium_setup plan = { .env = env, .spec = spec, .message = message_out };
	struct medium_setup *setup;
	int rc;

	ASSERT(spec->path != NULL);
	ASSERT(*setup_out == NULL);
	rc = setup_check(&plan);
	if (rc == 0 && spec->size != 0) /* before a file is made that would be too small */
		rc = setup_plan(&plan, spec->size);
	if (rc < 0)
		return rc;
	setup = env->ops->alloc(env, sizeof(*setup));
	if (setup == NULL)
		return say(message_out, -ENOMEM, "%s: no memory to set it up", spec->path);
	*setup = plan;
	setup->chunk = env->ops->map(env, CHUNK_SIZE);
	rc = setup->chunk != NULL
		     ? setup_open(setup)
		     : say(message_out, -ENOMEM, "%s: no memory to set it up", spec->path);
	if (rc == 0)
		rc = setup_measure(setup);
	if (rc < 0)
		medium_setup_close(&setup);
	else
		*setup_out = setup;
	return rc;
}

int medium_setup_write(struct medium_setup *setup, struct medium_info *info_out,
		       char message_out[MESSAGE_SIZE])
{
	const struct medium_spec *spec = setup->spec;
	struct env_blk_info blk_info;
	struct medium_info info;
	char size_text[32];
	int rc = 0;

	setup->message = message_out;
	setup->env->ops->blk_info(setup->env, setup->blk, &blk_info);
	if (!blk_info.is_device)
		rc = setup_fill(setup);
	if (rc == 0)
		rc = setup_write(setup, info.medium);
	if (rc < 0)
		return rc;
	setup_tell(setup, &blk_info, &info);
	*info_out = info;
	return say(setup->message, 0, "%s: %s of %s%s", spec->path,
		   blk_info.is_device ? "device" : "file",
		   text_format_size(size_text, sizeof(size_text), setup->size),
		   blk_info.is_device ? ""
		   : spec->is_sparse  ? ", sparse: space is taken when it is first written"
				      : ", allocated and written once");
}

void medium_setup_close(struct medium_setup **setup_ptr)
{
	struct medium_setup *setup = *setup_ptr;

	if (setup == NULL)
		return;
	*setup_ptr = NULL;
	if (setup->blk != NULL)
		setup->env->ops->blk_close(setup->env, setup->blk);
	if (setup->chunk != NULL)
		setup->env->ops->unmap(setup->env, setup->chunk, CHUNK_SIZE);
	setup->env->ops->free(setup->env, setup);
}

int medium_setup(struct env *env, const struct medium_spec *spec, struct medium_info *info_out,
		 char message_out[MESSAGE_SIZE])
{
	struct medium_setup *setup = NULL;
	int rc = medium_setup_open(env, spec, &setup, message_out);

	if (rc == 0)
		rc = medium_setup_write(setup, info_out, message_out);
	medium_setup_close(&setup);
	return rc;
}

/* --- open --- */

/* Both pages, one by one: a page that cannot be read is as good as a torn one. */
static int labels_read(struct env *env, struct env_blk *blk, struct disk_label labels[LABEL_COUNT])
{
	for (uint32_t i = 0; i < LABEL_COUNT; i++) {
		int rc = env->ops->blk_read(env, blk, &labels[i], sizeof(labels[i]),
					    i * sizeof(labels[i]));

		if (rc == -EIO)
			memset(&labels[i], 0, sizeof(labels[i]));
		else if (rc < 0)
			return rc;
	}
	return 0;
}

/* Who only looks at a medium is not told to set it up. */
static int no_store(const char *path, bool is_looked_at, const char *what, char *message)
{
	return say(message, -ERR_FORMAT, "%s: %s%s", path, what,
		   is_looked_at ? "" : "; is it the right medium? 'ctxkv setup' makes it one");
}

/* The label that counts, checked, to labels[0]. Returns which page it was, or negative. */
static int label_load(struct env *env, struct env_blk *blk, const char *path, bool is_looked_at,
		      struct disk_label labels[LABEL_COUNT], char *message)
{
	struct env_blk_info info;
	uint32_t chosen;
	char have_text[32], want_text[32];
	int rc;

	env->ops->blk_info(env, blk, &info);
	if (info.size < HEAD_SIZE)
		return no_store(path, is_looked_at, "holds no ctxkv store", message);
	rc = labels_read(env, blk, labels);
	if (rc < 0)
		return say(message, rc, "%s: cannot be read: %s", path, err_str(rc));
	chosen = label_choose(labels);
	if (chosen == LABEL_COUNT)
		return no_store(path, is_looked_at, "holds no ctxkv store", message);
	labels[0] = labels[chosen];
	if (labels->version > DISK_VERSION)
		return say(message, -ERR_VERSION,
			   "%s: has disk format %u, this program knows up to %u: use a newer one",
			   path, labels->version, DISK_VERSION);
	if (labels->size > info.size)
		return say(message, -ERR_FORMAT, "%s: has shrunk: %s, but was set up with %s", path,
			   text_format_size(have_text, sizeof(have_text), info.size),
			   text_format_size(want_text, sizeof(want_text), labels->size));
	if (!label_is_sound(labels))
		return no_store(path, is_looked_at, "its label makes no sense", message);
	return (int)chosen;
}

/* The other page first: the one that was believed is whole until that is flushed. */
static int label_claim(struct env *env, struct env_blk *blk, struct disk_label *label,
		       uint32_t believed)
{
	label_seal(label);
	for (uint32_t i = 0; i < LABEL_COUNT; i++) {
		uint32_t page = i == 0 ? 1 - believed : believed;
		int rc = env->ops->blk_write(env, blk, label, sizeof(*label), page * PAGE_SIZE);

		if (rc < 0)
			return rc;
		rc = env->ops->blk_flush(env, blk);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* All shards of a medium are cut alike: the first one's super tells. */
static int info_load(struct medium *medium, const char *path, char *message)
{
	const struct disk_label *label = &medium->label;
	struct env_blk_info blk_info;
	struct super super;
	int rc = super_open(&super, medium->env, medium->blk, &label->extents[0]);

	if (rc < 0)
		return say(message, rc, "%s: its first shard cannot be opened: %s", path,
			   err_str(rc));
	medium->env->ops->blk_info(medium->env, medium->blk, &blk_info);
	medium->info = (struct medium_info) { .size = label->size,
					      .shard_count = label->shard_count,
					      .block_max = label->block_max,
					      .segment_room = super.disk->segment_room,
					      .segment_count = super.disk->segment_count,
					      .shard_first = label->shard_first,
					      .server_shards = label->server_shards != 0
								       ? label->server_shards
								       : label->shard_count,
					      .is_direct = blk_info.is_direct };
	memcpy(medium->info.medium, label->medium, sizeof(label->medium));
	memcpy(medium->info.server, label->server, sizeof(label->server));
	super_close(&super);
	return 0;
}

/* incarnation NULL: claim nothing. */
static int open_loaded(struct medium *medium, const char *path, const uint64_t *incarnation,
		       struct disk_label labels[LABEL_COUNT], char *message)
{
	int believed =
		label_load(medium->env, medium->blk, path, incarnation == NULL, labels, message);
	int rc;

	if (believed < 0)
		return believed;
	if (incarnation != NULL)
		labels->incarnation = *incarnation;
	medium->label = labels[0];
	rc = info_load(medium, path, message);
	if (rc < 0 || incarnation == NULL)
		return rc;
	rc = label_claim(medium->env, medium->blk, labels, (uint32_t)believed);
	if (rc < 0)
		return say(message, rc, "%s: cannot be written: %s", path, err_str(rc));
	return 0;
}

static int open_with(struct env *env, const char *path, const uint64_t *incarnation,
		     struct medium **medium_out, char message_out[MESSAGE_SIZE])
{
	struct medium *medium;
	struct disk_label *labels;
	int rc;

	ASSERT(*medium_out == NULL);
	medium = env->ops->alloc(env, sizeof(*medium));
	labels = env->ops->map(env, LABEL_COUNT * sizeof(*labels));
	if (medium == NULL || labels == NULL) {
		rc = say(message_out, -ENOMEM, "%s: no memory to open it", path);
		goto err_free;
	}
	*medium = (struct medium) { .magic = MEDIUM_MAGIC, .env = env, .memory = env };
	snprintf(medium->path, sizeof(medium->path), "%s", path);

	rc = env->ops->blk_open(env, path, incarnation == NULL ? ENV_BLK_READ_ONLY : 0,
				&medium->blk);
	if (rc < 0) {
		(void)say(message_out, rc, "%s: %s%s", path, err_str(rc),
			  rc == -ENOENT ? "; run 'ctxkv setup'" : "");
		goto err_free;
	}
	rc = open_loaded(medium, path, incarnation, labels, message_out);
	if (rc < 0)
		goto err_close;

	env->ops->unmap(env, labels, LABEL_COUNT * sizeof(*labels));
	*medium_out = medium;
	return 0;

err_close:
	env->ops->blk_close(env, medium->blk);
err_free:
	if (labels != NULL)
		env->ops->unmap(env, labels, LABEL_COUNT * sizeof(*labels));
	if (medium != NULL)
		env->ops->free(env, medium);
	return rc;
}

int medium_share(struct env *env, struct env *memory, const struct medium *owner,
		 struct medium **medium_out, char message_out[MESSAGE_SIZE])
{
	struct medium *medium;
	int rc;

	CHECK_OBJ(owner, MEDIUM_MAGIC);
	ASSERT(*medium_out == NULL);
	medium = memory->ops->alloc(memory, sizeof(*medium));
	if (medium == NULL)
		return say(message_out, -ENOMEM, "%s: no memory to open it", owner->path);
	*medium = *owner;
	medium->env = env;
	medium->memory = memory;
	medium->blk = NULL;
	rc = env->ops->blk_open(env, owner->path, ENV_BLK_SHARED, &medium->blk);
	if (rc < 0) {
		(void)say(message_out, rc, "%s: %s", owner->path, err_str(rc));
		memory->ops->free(memory, medium);
		return rc;
	}
	*medium_out = medium;
	return 0;
}

int medium_open(struct env *env, const char *path, uint64_t incarnation, struct medium **medium_out,
		char message_out[MESSAGE_SIZE])
{
	return open_with(env, path, &incarnation, medium_out, message_out);
}

int medium_open_read_only(struct env *env, const char *path, struct medium **medium_out,
			  char message_out[MESSAGE_SIZE])
{
	return open_with(env, path, NULL, medium_out, message_out);
}

const struct disk_label *medium_label(const struct medium *medium)
{
	CHECK_OBJ(medium, MEDIUM_MAGIC);
	return &medium->label;
}

void medium_close(struct medium **medium)
{
	struct medium *dead = *medium;

	if (dead == NULL)
		return;
	CHECK_OBJ(dead, MEDIUM_MAGIC);
	dead->env->ops->blk_close(dead->env, dead->blk);
	dead->magic = 0;
	dead->memory->ops->free(dead->memory, dead);
	*medium = NULL;
}

void medium_get_info(const struct medium *medium, struct medium_info *info_out)
{
	CHECK_OBJ(medium, MEDIUM_MAGIC);
	*info_out = medium->info;
}

struct env_blk *medium_blk(struct medium *medium)
{
	CHECK_OBJ(medium, MEDIUM_MAGIC);
	return medium->blk;
}

uint64_t medium_incarnation(const struct medium *medium)
{
	CHECK_OBJ(medium, MEDIUM_MAGIC);
	return medium->label.incarnation;
}

struct disk_extent medium_extent(const struct medium *medium, uint32_t index)
{
	CHECK_OBJ(medium, MEDIUM_MAGIC);
	ASSERT(index < medium->label.shard_count);
	return medium->label.extents[index];
}
