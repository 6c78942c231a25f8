/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The media of setup: all are locked and looked at before the first is written, so that one that is
 * in use, foreign or too small is refused while all of them are what they were.
 *
 * Failure while they are written leaves media without a label (start refuses them), or, of several,
 * some that are set up: start refuses those, since the others are missing. Files that were made for
 * this are removed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../base/text.h"
#include "setup.h"

static void progress(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	cmd_progress("writing the medium once", done, total);
}

/* They follow one another in the server's shards. */
static void specs_make(struct setup_media *media, const struct options *options)
{
	uint32_t shards = (uint32_t)options->shards;
	uint8_t server[16];

	media->env->ops->random(media->env, server, sizeof(server));
	for (uint32_t i = 0; i < media->count; i++) {
		media->specs[i] = (struct medium_spec) {
			.path = media->paths[i],
			.size = options->size,
			.shard_count = shards,
			.shard_first = i * shards,
			.server_shards = media->count * shards,
			.segment_room = options->segment_size,
			.block_max = options->block_max,
			.is_sparse = options->sparse != 0,
			.is_forced = options->force != 0,
			.progress = progress,
		};
		memcpy(media->specs[i].server, server, sizeof(server));
	}
}

int setup_media_open(struct setup_media *media, struct env *env, const struct options *options)
{
	int count;

	media->env = env;
	snprintf(media->text, sizeof(media->text), "%s", options->media);
	count = cmd_list_cut(media->text, media->paths, SERVER_MEDIUM_MAX);
	ASSERT(count >= 0); /* setup_check() */
	media->count = (uint32_t)count;
	specs_make(media, options);
	for (uint32_t i = 0; i < media->count; i++) {
		const struct medium_spec *spec = &media->specs[i];
		char message[256] = "";
		int rc;

		media->is_made[i] = spec->size != 0 && access(spec->path, F_OK) < 0;
		rc = medium_setup_open(env, spec, &media->setups[i], message);
		if (rc < 0)
			return cmd_fail(rc, "%s", message[0] != '\0' ? message : err_str(rc));
	}
	return 0;
}

static void medium_print(const struct medium_spec *spec, const struct medium_info *info)
{
	char size[32];
	char room[32];
	char block[32];

	printf("medium     %s: %s, ", spec->path, text_format_size(size, sizeof(size), info->size));
	if (info->shard_count > 1)
		printf("%" PRIu32 " shards of ", info->shard_count);
	printf("%" PRIu32 " segments of %s, largest block %s%s%s\n", info->segment_count,
	       text_format_size(room, sizeof(room), info->segment_room),
	       text_format_size(block, sizeof(block), info->block_max),
	       info->is_direct ? "" : ", without direct I/O",
	       spec->is_sparse ? ", sparse: not allocated" : "");
}

int setup_media_write(struct setup_media *media)
{
	for (uint32_t i = 0; i < media->count; i++) {
		struct medium_info info;
		char message[256] = "";
		int rc = medium_setup_write(media->setups[i], &info, message);

		if (rc < 0)
			return cmd_fail(rc, "%s", message[0] != '\0' ? message : err_str(rc));
		medium_print(&media->specs[i], &info);
	}
	return 0;
}

void setup_media_close(struct setup_media *media, bool is_failed)
{
	for (uint32_t i = 0; i < media->count; i++) {
		/* Ours while we hold its lock. */
		if (is_failed && media->is_made[i] && media->setups[i] != NULL)
			(void)unlink(media->paths[i]);
		medium_setup_close(&media->setups[i]);
	}
}
