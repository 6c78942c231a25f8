/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drive check: everything that a server would believe is read and held against its checksum.
 *
 * A finding is one of
 *   copy       a label page or super slot that is damaged: the other one serves
 *   segment    a damaged footer (recovery scans the segment instead) or first span header (the
 *              blocks of the segment are not found)
 *   header     a torn record or span header in a segment without a footer, or one that rotted
 *   block      a payload that is not what was put, or cannot be read; or whose record header is
 *              gone (it is served whole, ranges of it miss)
 * What is wrong in blocks that no get would find any more is counted, not judged. A crash leaves
 * torn records that were never acknowledged as durable; they cannot be told from rot, so they are
 * findings, too, marked as behind no footer.
 */
#include <inttypes.h>
#include <stdio.h>

#include "../base/text.h"
#include "drive.h"

#define FINDINGS_SHOWN 100
#define FINDINGS_MAX   10000 /* in JSON */

struct check {
	const struct drive *drive;
	uint32_t shard;
	json_t *findings; /* NULL: text */
	uint64_t found;
	uint64_t blocks; /* entries met */
	uint64_t live;
	uint64_t bytes;            /* of payload read */
	uint64_t lost;             /* live blocks that a get would miss */
	uint64_t behind_no_footer; /* of these, what a crash may have torn */
	uint64_t dead;             /* wrong payloads that nobody will get */
};

/* One finding, in words and as JSON (taken). */
PRINTF_LIKE(3, 4)
static void finding(struct check *check, json_t *object, const char *format, ...)
{
	va_list args;

	check->found++;
	if (check->findings != NULL && check->found <= FINDINGS_MAX) {
		json_array_append(check->findings, object);
	} else if (check->findings == NULL && check->found <= FINDINGS_SHOWN) {
		va_start(args, format);
		vprintf(format, args);
		va_end(args);
		putchar('\n');
	}
	json_decref(object);
}

static void copy_check(struct check *check, const char *what, enum inspect_copy copy)
{
	if (copy == INSPECT_DAMAGED)
		finding(check,
			json_pack("{s:s, s:s, s:I}", "kind", "copy", "what", what, "shard",
				  (json_int_t)check->shard),
			"copy     %s is damaged; the other one serves", what);
}

static void segment_check(struct check *check, const struct inspect_segment *segment)
{
	const char *what = segment->is_span_damaged ? "span header" : "footer";

	if (!segment->is_span_damaged && segment->footer != INSPECT_FOOTER_DAMAGED)
		return;
	finding(check,
		json_pack("{s:s, s:s, s:I, s:I}", "kind", "segment", "what", what, "shard",
			  (json_int_t)check->shard, "segment", (json_int_t)segment->index),
		"segment  shard %" PRIu32 " segment %" PRIu32 ": %s", check->shard, segment->index,
		segment->is_span_damaged ? "its span header is damaged: its blocks are not found"
					 : "its footer is damaged: recovery scans it instead");
}

static void header_finding(void *ctx, enum inspect_damage what, uint32_t segment, uint32_t page)
{
	static const char *const names[] = { "record header torn", "span header torn",
					     "cannot be read" };
	struct check *check = ctx;

	finding(check,
		json_pack("{s:s, s:s, s:I, s:I, s:I}", "kind", "header", "what", names[what],
			  "shard", (json_int_t)check->shard, "segment", (json_int_t)segment, "page",
			  (json_int_t)page),
		"header   shard %" PRIu32 " segment %" PRIu32 " page %" PRIu32 ": %s", check->shard,
		segment, page, names[what]);
}

static void block_finding(struct check *check, const struct inspect_block *block, const char *what)
{
	json_t *object = drive_block_json(check->shard, block);
	char key[65] = "?";
	char size[32];

	json_object_set_new(object, "kind", json_string("block"));
	json_object_set_new(object, "what", json_string(what));
	if (block->payload == INSPECT_PAYLOAD_WRONG)
		json_object_set_new(object, "wrong_offset", json_integer(block->wrong_offset));
	if (block->entry != NULL)
		text_format_hex(key, sizeof(key), block->entry->key, sizeof(block->entry->key));
	finding(check, object,
		"block    %s shard %" PRIu32 " segment %" PRIu32 " page %" PRIu32 ", %s: %s%s", key,
		check->shard, block->segment, block->page,
		text_format_size(size, sizeof(size), block->size), what,
		block->is_in_footer ? "" : " (behind no footer: perhaps torn by a crash)");
}

static bool is_bad(const struct inspect_block *block)
{
	return block->payload == INSPECT_PAYLOAD_WRONG ||
	       block->payload == INSPECT_PAYLOAD_UNREADABLE;
}

static void block_check(void *ctx, const struct inspect_block *block)
{
	struct check *check = ctx;

	check->blocks++;
	if (block->payload != INSPECT_PAYLOAD_UNREAD)
		check->bytes += block->size;
	if (block->life != INSPECT_LIVE) {
		check->dead += is_bad(block);
		return;
	}
	check->live++;
	if (block->entry == NULL) {
		block_finding(check, block, "its record header is gone: ranges of it miss");
	} else if (is_bad(block)) {
		check->lost++;
		check->behind_no_footer += !block->is_in_footer;
		block_finding(check, block,
			      block->payload == INSPECT_PAYLOAD_WRONG ? "payload is wrong"
								      : "payload cannot be read");
	}
}

static void segments_check(struct check *check)
{
	const struct drive *drive = check->drive;
	uint32_t count = inspect_segment_count(drive->inspect);
	const struct inspect_visitor visitor = { .ctx = check,
						 .block = block_check,
						 .damage = header_finding,
						 .reads_payload = drive->options->quick == 0 };

	for (uint32_t i = 0; i < count && !cmd_is_interrupted(); i++) {
		struct inspect_segment segment;

		inspect_segment_get(drive->inspect, i, &segment);
		segment_check(check, &segment);
		inspect_segment_walk(drive->inspect, i, &visitor);
		cmd_progress("checking", (uint64_t)check->shard * count + i + 1,
			     (uint64_t)drive->medium->label.shard_count * count);
	}
}

/* A shard that cannot be opened is a finding of its own. */
static void shard_look_into(struct check *check, json_t *shards)
{
	struct inspect_shard shard;
	int rc = inspect_shard(check->drive->inspect, check->shard,
			       check->drive->options->index_entries, &shard);

	if (rc < 0) {
		finding(check,
			json_pack("{s:s, s:s, s:I}", "kind", "shard", "what", err_str(rc), "shard",
				  (json_int_t)check->shard),
			"shard    %" PRIu32 " cannot be opened: %s", check->shard, err_str(rc));
		return;
	}
	json_array_append_new(shards, drive_shard_json(&shard));
	copy_check(check, "super slot 0", shard.supers[0]);
	copy_check(check, "super slot 1", shard.supers[1]);
	segments_check(check);
}

static void verdict_print(const struct check *check)
{
	char bytes[32];

	if (check->found > FINDINGS_SHOWN)
		printf("         … and %" PRIu64 " more (--json has them)\n",
		       check->found - FINDINGS_SHOWN);
	printf("%schecked  %" PRIu64 " blocks, %" PRIu64 " of them live, %s of payload%s\n",
	       check->found > 0 ? "\n" : "", check->blocks, check->live,
	       text_format_size(bytes, sizeof(bytes), check->bytes),
	       check->drive->options->quick ? " (quick: payloads were not read)" : "");
	if (check->dead > 0)
		printf("dead     %" PRIu64 " more with wrong payloads that no get finds\n",
		       check->dead);
	if (check->found == 0)
		puts("verdict  sound");
	else
		printf("verdict  %" PRIu64 " findings; %" PRIu64
		       " blocks a get would miss, %" PRIu64 " of them behind no footer. The store "
		       "serves all else\n",
		       check->found, check->lost, check->behind_no_footer);
}

int drive_check(const struct drive *drive)
{
	struct check check = { .drive = drive };
	json_t *shards = json_array();

	if (drive->options->json)
		check.findings = json_array();
	copy_check(&check, "label", drive->medium->labels[0]);
	copy_check(&check, "label's copy", drive->medium->labels[1]);
	for (; check.shard < drive->medium->label.shard_count && !cmd_is_interrupted();
	     check.shard++)
		shard_look_into(&check, shards);
	if (check.findings != NULL) {
		json_t *all = json_pack(
			"{s:o, s:o, s:o, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "medium",
			drive_medium_json(drive), "shards", shards, "findings", check.findings,
			"quick", (int)(drive->options->quick != 0), "found",
			(json_int_t)check.found, "blocks", (json_int_t)check.blocks, "live",
			(json_int_t)check.live, "bytes", (json_int_t)check.bytes, "lost",
			(json_int_t)check.lost, "behind_no_footer",
			(json_int_t)check.behind_no_footer, "dead", (json_int_t)check.dead);

		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
	} else {
		json_decref(shards);
		verdict_print(&check);
	}
	return check.found > 0 ? DRIVE_DAMAGED : DRIVE_SOUND;
}
