/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drive dump: the blocks of a medium, a line each; or, with --key, the payload of one, checked, to
 * a file or to standard output.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/text.h"
#include "drive.h"

struct dump {
	const struct drive *drive;
	uint32_t shard;
	bool has_ns;
	uint8_t ns[16];
	/* --key */
	bool has_key;
	uint8_t key[32];
	uint64_t matches;
	char *payload;
	uint32_t size;
	int rc; /* of reading it */
};

static const char *const columns =
	"shard segment    page      size  depth      expiry state     key"
	"                                                              namespace"
	"                        domain                           place\n";

static void row_print(const struct dump *dump, const struct inspect_block *block)
{
	const struct disk_entry *entry = block->entry;
	char hex[4][65] = { "?", "?", "?", "?" };

	if (entry != NULL) {
		text_format_hex(hex[0], sizeof(hex[0]), entry->key, sizeof(entry->key));
		text_format_hex(hex[1], sizeof(hex[1]), entry->ns, sizeof(entry->ns));
		text_format_hex(hex[2], sizeof(hex[2]), entry->domain, sizeof(entry->domain));
		text_format_hex(hex[3], sizeof(hex[3]), entry->place, sizeof(entry->place));
	}
	printf("%5" PRIu32 " %7" PRIu32 " %7" PRIu32 " %9" PRIu32 " %6" PRIu32 " %11" PRIu64
	       " %-9s %-64s %-32s %-32s %s\n",
	       dump->shard, block->segment, block->page, block->size, block->depth, block->expiry_s,
	       drive_life_names[block->life], hex[0], hex[1], hex[2], hex[3]);
}

static bool is_wanted(const struct dump *dump, const struct inspect_block *block)
{
	if (block->life != INSPECT_LIVE && (dump->has_key || !dump->drive->options->dead))
		return false;
	if (block->entry == NULL)
		return !dump->has_key && !dump->has_ns;
	if (dump->has_ns && memcmp(block->entry->ns, dump->ns, sizeof(dump->ns)) != 0)
		return false;
	return !dump->has_key || memcmp(block->entry->key, dump->key, sizeof(dump->key)) == 0;
}

/* The first match's payload is kept; that there are more is an error of the question. */
static void payload_take(struct dump *dump, const struct inspect_block *block)
{
	if (dump->matches++ > 0)
		return;
	dump->size = block->size;
	dump->payload = malloc(block->size);
	dump->rc = dump->payload == NULL
			   ? -ENOMEM
			   : inspect_payload(dump->drive->inspect, block, dump->payload);
}

static void block_dump(void *ctx, const struct inspect_block *block)
{
	struct dump *dump = ctx;

	if (!is_wanted(dump, block))
		return;
	if (dump->has_key) {
		payload_take(dump, block);
	} else if (dump->drive->options->json) {
		json_t *object = drive_block_json(dump->shard, block);

		json_dumpf(object, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(object);
	} else {
		row_print(dump, block);
	}
}

static int payload_write(const struct dump *dump)
{
	const char *path = dump->drive->options->output;
	bool is_file = path[0] != '\0' && strcmp(path, "-") != 0;
	FILE *file = stdout;
	int fd;

	if (is_file) {
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		file = fd >= 0 ? fdopen(fd, "w") : NULL;
		if (file == NULL)
			return cmd_fail(DRIVE_FAILED, "cannot write %s: %s", path, err_str(errno));
	}
	fwrite(dump->payload, 1, dump->size, file);
	if (ferror(file) || (is_file ? fclose(file) : fflush(file)) != 0)
		return cmd_fail(DRIVE_FAILED, "cannot write the payload");
	if (is_file)
		printf("%" PRIu32 " bytes to %s\n", dump->size, path);
	return DRIVE_SOUND;
}

static int payload_finish(const struct dump *dump)
{
	if (dump->matches == 0)
		return cmd_fail(DRIVE_DAMAGED, "no live block has this key%s",
				dump->has_ns ? " in this namespace" : "");
	if (dump->matches > 1)
		return cmd_fail(DRIVE_DAMAGED,
				"%" PRIu64
				" blocks have this key; --namespace HEX says which one is meant",
				dump->matches);
	if (dump->rc < 0)
		return cmd_fail(DRIVE_DAMAGED, "the payload is not what was put: %s",
				err_str(dump->rc));
	return payload_write(dump);
}

static int dump_prepare(struct dump *dump)
{
	const struct options *options = dump->drive->options;

	dump->has_key = options->key[0] != '\0';
	dump->has_ns = options->namespace[0] != '\0';
	if (dump->has_key && (strlen(options->key) != 2 * sizeof(dump->key) ||
			      text_parse_hex(options->key, dump->key, sizeof(dump->key)) < 0))
		return cmd_fail(DRIVE_FAILED, "key takes 64 hex digits");
	if (dump->has_ns && (strlen(options->namespace) != 2 * sizeof(dump->ns) ||
			     text_parse_hex(options->namespace, dump->ns, sizeof(dump->ns)) < 0))
		return cmd_fail(DRIVE_FAILED, "namespace takes 32 hex digits");
	if (options->output[0] != '\0' && !dump->has_key)
		return cmd_fail(DRIVE_FAILED, "output goes with --key");
	if (dump->has_key && options->output[0] == '\0' && isatty(STDOUT_FILENO))
		return cmd_fail(DRIVE_FAILED, "name a file for the payload: --output FILE");
	return 0;
}

int drive_dump(const struct drive *drive)
{
	struct dump dump = { .drive = drive };
	const struct inspect_visitor visitor = { .ctx = &dump, .block = block_dump };
	struct inspect_shard shard;
	int rc = dump_prepare(&dump);

	if (rc != 0)
		return rc;
	if (!dump.has_key && !drive->options->json)
		fputs(columns, stdout);
	for (; rc == 0 && dump.shard < drive->medium->label.shard_count; dump.shard++) {
		rc = drive_shard(drive, dump.shard, &shard);
		if (rc != 0)
			break;
		for (uint32_t i = 0; i < inspect_segment_count(drive->inspect); i++) {
			if (cmd_is_interrupted())
				break;
			inspect_segment_walk(drive->inspect, i, &visitor);
		}
	}
	if (rc == 0 && dump.has_key)
		rc = payload_finish(&dump);
	free(dump.payload);
	return rc;
}
