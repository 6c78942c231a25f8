/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drive inspect|check|dump MEDIUM: a medium looked at offline. Read-only, without a lock: what a
 * server has open can be inspected (and is said to be in use), but not checked or dumped.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../base/text.h"
#include "../env/posix/posix.h"
#include "drive.h"

enum { INSPECT, CHECK, DUMP }; /* the actions in cmds.c */

const char *const drive_copy_names[] = { "whole", "older", "damaged" };
const char *const drive_state_names[] = { "free", "sealed", "stopped", "open" };
const char *const drive_life_names[] = { "live", "replaced", "dropped", "expired", "tombstone" };

/* --- JSON --- */

json_t *drive_hex_json(const void *bytes, size_t size)
{
	char hex[2 * 64 + 1];

	ASSERT(size <= 64);
	return json_string(text_format_hex(hex, sizeof(hex), bytes, size));
}

json_t *drive_medium_json(const struct drive *drive)
{
	const struct inspect_medium *medium = drive->medium;

	return json_pack("{s:s, s:o, s:o, s:I, s:I, s:o, s:I, s:I, s:b, s:b, s:[s, s]}", "medium",
			 drive->options->media, "uuid", drive_hex_json(medium->label.medium, 16),
			 "server", drive_hex_json(medium->label.server, 16), "size",
			 (json_int_t)medium->label.size, "created",
			 (json_int_t)medium->label.created_s, "incarnation",
			 drive_hex_json(&medium->label.incarnation, 8), "shards",
			 (json_int_t)medium->label.shard_count, "block_max",
			 (json_int_t)medium->label.block_max, "in_use", (int)medium->is_in_use,
			 "direct", (int)medium->info.is_direct, "label",
			 drive_copy_names[medium->labels[0]], drive_copy_names[medium->labels[1]]);
}

json_t *drive_shard_json(const struct inspect_shard *shard)
{
	return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:[s, s], s:b, s:I, s:I, s:I, s:I, s:b}",
			 "uuid", drive_hex_json(shard->uuid, 16), "index", (json_int_t)shard->index,
			 "offset", (json_int_t)shard->extent.offset, "size",
			 (json_int_t)shard->extent.size, "segment_size",
			 (json_int_t)shard->segment_size, "writings", (json_int_t)shard->writings,
			 "super", drive_copy_names[shard->supers[0]],
			 drive_copy_names[shard->supers[1]], "clean", (int)shard->is_clean,
			 "dropped_namespaces", (json_int_t)shard->drop_count, "blocks",
			 (json_int_t)shard->blocks, "bytes", (json_int_t)shard->bytes, "scanned",
			 (json_int_t)shard->scanned, "index_short", (int)shard->is_index_full);
}

json_t *drive_block_json(uint32_t shard, const struct inspect_block *block)
{
	const struct disk_entry *entry = block->entry;
	json_t *object = json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:b}", "shard", (json_int_t)shard,
		"segment", (json_int_t)block->segment, "header", (json_int_t)block->record_page,
		"page", (json_int_t)block->page, "size", (json_int_t)block->size, "depth",
		(json_int_t)block->depth, "expiry", (json_int_t)block->expiry_s, "sequence",
		(json_int_t)block->sequence, "state", drive_life_names[block->life], "in_footer",
		(int)block->is_in_footer);

	if (entry == NULL)
		return object;
	json_object_set_new(object, "key", drive_hex_json(entry->key, 32));
	json_object_set_new(object, "namespace", drive_hex_json(entry->ns, 16));
	json_object_set_new(object, "domain", drive_hex_json(entry->domain, 16));
	json_object_set_new(object, "payer", drive_hex_json(entry->payer, 16));
	json_object_set_new(object, "place", drive_hex_json(entry->place, 16));
	json_object_set_new(object, "chain", drive_hex_json(&entry->chain, 8));
	return object;
}

/* --- inspect --- */

static const char *time_format(char *buf, size_t buf_size, uint64_t when_s)
{
	time_t when = (time_t)when_s;
	struct tm tm;

	if (gmtime_r(&when, &tm) == NULL || strftime(buf, buf_size, "%F %T UTC", &tm) == 0)
		snprintf(buf, buf_size, "%" PRIu64, when_s);
	return buf;
}

static void medium_print(const struct drive *drive)
{
	const struct inspect_medium *medium = drive->medium;
	char hex[33];
	char text[64];

	printf("medium     %s: %s%s\n", drive->options->media,
	       text_format_size(text, sizeof(text), medium->label.size),
	       medium->info.is_direct ? "" : ", without direct I/O");
	printf("uuid       %s\n", text_format_hex(hex, sizeof(hex), medium->label.medium, 16));
	printf("server     %s\n", text_format_hex(hex, sizeof(hex), medium->label.server, 16));
	printf("set up     %s\n", time_format(text, sizeof(text), medium->label.created_s));
	printf("label      %s, its copy %s\n", drive_copy_names[medium->labels[0]],
	       drive_copy_names[medium->labels[1]]);
	printf("blocks of  at most %s\n",
	       text_format_size(text, sizeof(text), medium->label.block_max));
	printf("state      %s\n", medium->is_in_use
					  ? "in use by a server: what follows may change meanwhile"
					  : "not in use");
}

static void shard_print(const struct drive *drive, const struct inspect_shard *shard)
{
	const struct medium_info *info = &drive->medium->info;
	char hex[33];
	char a[32];
	char b[32];

	printf("\nshard %-4" PRIu32 " %s, %s at %s\n", shard->index,
	       text_format_hex(hex, sizeof(hex), shard->uuid, 16),
	       text_format_size(a, sizeof(a), shard->extent.size),
	       text_format_size(b, sizeof(b), shard->extent.offset));
	printf("super      slot 0 %s, slot 1 %s, %" PRIu64 " writings, %" PRIu32
	       " dropped namespaces\n",
	       drive_copy_names[shard->supers[0]], drive_copy_names[shard->supers[1]],
	       shard->writings, shard->drop_count);
	printf("stop       %s\n", shard->is_clean ? "clean"
						  : "not clean: the next start scans what has no "
						    "footer");
	printf("found      %" PRIu64 " blocks, %s of %s; %" PRIu64
	       " of them behind no footer: verified at their first get\n",
	       shard->blocks, text_format_size(a, sizeof(a), shard->bytes),
	       text_format_size(b, sizeof(b), info->segment_count * info->segment_room),
	       shard->scanned);
	if (shard->is_index_full)
		puts("           an index of this size has no room for all: a start would forget "
		     "the oldest (--index-entries)");
}

struct segments_sum {
	uint32_t by_state[4];
	uint32_t damaged;
	uint64_t oldest_s;
};

static json_t *segment_json(const struct inspect_segment *segment)
{
	static const char *const footers[] = { "none", "whole", "damaged" };

	return json_pack("{s:I, s:s, s:s, s:b, s:I, s:I, s:I, s:I}", "index",
			 (json_int_t)segment->index, "state", drive_state_names[segment->state],
			 "footer", footers[segment->footer], "span_damaged",
			 (int)segment->is_span_damaged, "blocks", (json_int_t)segment->live_blocks,
			 "bytes", (json_int_t)segment->live_bytes, "tail",
			 (json_int_t)segment->tail, "created", (json_int_t)segment->created_s);
}

static void segment_print(const struct inspect_segment *segment, uint64_t room)
{
	char when[64];

	printf("  %6" PRIu32 " %-8s %9" PRIu64 " blocks %5.1f %%  %s%s\n", segment->index,
	       drive_state_names[segment->state], segment->live_blocks,
	       100 * (double)segment->live_bytes / (double)room,
	       segment->state == INSPECT_FREE ? ""
					      : time_format(when, sizeof(when), segment->created_s),
	       segment->footer == INSPECT_FOOTER_DAMAGED ? ", footer damaged"
	       : segment->is_span_damaged                ? ", span header damaged"
							 : "");
}

/* Segments of the current shard: counted, and printed one by one when asked for. */
static json_t *segments_tell(const struct drive *drive, struct segments_sum *sum)
{
	json_t *rows = json_array();

	*sum = (struct segments_sum) { .oldest_s = UINT64_MAX };
	for (uint32_t i = 0; i < inspect_segment_count(drive->inspect); i++) {
		struct inspect_segment segment;

		inspect_segment_get(drive->inspect, i, &segment);
		sum->by_state[segment.state]++;
		sum->damaged += segment.is_span_damaged || segment.footer == INSPECT_FOOTER_DAMAGED;
		if (segment.live_blocks > 0)
			sum->oldest_s = MIN(sum->oldest_s, segment.created_s);
		if (drive->options->json)
			json_array_append_new(rows, segment_json(&segment));
		else if (drive->options->segments)
			segment_print(&segment, drive->medium->info.segment_room);
	}
	return rows;
}

static void segments_print(const struct drive *drive, const struct segments_sum *sum)
{
	char room[32];
	char when[64];

	printf("segments   %" PRIu32 " of %s:", inspect_segment_count(drive->inspect),
	       text_format_size(room, sizeof(room), drive->medium->info.segment_room));
	for (size_t i = 0; i < ARRAY_LEN(sum->by_state); i++)
		printf(" %" PRIu32 " %s%s", sum->by_state[i], drive_state_names[i],
		       i + 1 < ARRAY_LEN(sum->by_state) ? "," : "\n");
	if (sum->damaged > 0)
		printf("damaged    %" PRIu32 " of them: 'ctxkv drive check'\n", sum->damaged);
	if (sum->oldest_s != UINT64_MAX)
		printf("oldest     written since %s\n",
		       time_format(when, sizeof(when), sum->oldest_s));
}

static int drive_inspect(const struct drive *drive)
{
	json_t *all = drive_medium_json(drive);
	json_t *shards = json_array();
	int rc = DRIVE_SOUND;

	json_object_set_new(all, "shard", shards);
	if (!drive->options->json)
		medium_print(drive);
	for (uint32_t i = 0; i < drive->medium->label.shard_count; i++) {
		struct inspect_shard shard;
		struct segments_sum sum;
		json_t *object;

		if (drive_shard(drive, i, &shard) != 0) {
			rc = DRIVE_FAILED;
			continue;
		}
		if (!drive->options->json)
			shard_print(drive, &shard);
		object = drive_shard_json(&shard);
		json_object_set_new(object, "segments", segments_tell(drive, &sum));
		json_array_append_new(shards, object);
		if (!drive->options->json)
			segments_print(drive, &sum);
	}
	if (drive->options->json) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(all);
	return rc;
}

/* --- all --- */

int drive_shard(const struct drive *drive, uint32_t index, struct inspect_shard *shard_out)
{
	int rc = inspect_shard(drive->inspect, index, drive->options->index_entries, shard_out);

	if (rc < 0)
		return cmd_fail(DRIVE_FAILED, "%s: shard %" PRIu32 " cannot be opened: %s",
				drive->options->media, index, err_str(rc));
	return 0;
}

static int drive_run(struct drive *drive, unsigned action)
{
	char message[256] = "";
	int rc = inspect_open(drive->env, drive->options->media, &drive->inspect, message);

	if (rc < 0)
		return cmd_fail(DRIVE_FAILED, "%s", message[0] != '\0' ? message : err_str(rc));
	drive->medium = inspect_medium(drive->inspect);
	if (action == INSPECT)
		rc = drive_inspect(drive);
	else if (drive->medium->is_in_use)
		rc = cmd_fail(DRIVE_FAILED,
			      "%s: in use by a server; stop it first ('ctxkv drive inspect' works "
			      "meanwhile)",
			      drive->options->media);
	else
		rc = action == CHECK ? drive_check(drive) : drive_dump(drive);
	inspect_close(&drive->inspect);
	return rc;
}

int cmd_drive(struct options *options, const struct opt_set *set)
{
	const struct env_posix_opts env_opts = { .io_thread_count = 1, .sock_max = 1 };
	struct drive drive = { .options = options };
	int rc;

	if (options->media[0] == '\0')
		return cmd_fail(EXIT_USAGE, "name the medium: ctxkv drive inspect PATH");
	cmd_catch_signals();
	rc = env_posix_create(&env_opts, &drive.env);
	if (rc < 0)
		return cmd_fail(DRIVE_FAILED, "cannot begin: %s", err_str(rc));
	rc = drive_run(&drive, set->action);
	env_posix_destroy(&drive.env);
	return cmd_is_interrupted() ? EXIT_INTERRUPTED : rc;
}
