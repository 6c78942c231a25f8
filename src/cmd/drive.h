/* SPDX-License-Identifier: Apache-2.0 */
/* What the actions of `ctxkv drive` share: drive.c (and inspect), drive_check.c, drive_dump.c. */
#ifndef CMD_DRIVE_H
#define CMD_DRIVE_H

#include <jansson.h>

#include "../store/inspect.h"
#include "cmd.h"

/* Exit codes: all is well; something does not check out, or what was asked for is not there; it
 * could not be looked at. */
enum { DRIVE_SOUND = 0, DRIVE_DAMAGED = 1, DRIVE_FAILED = 2 };

struct drive {
	const struct options *options;
	struct env *env;
	struct inspect *inspect;
	const struct inspect_medium *medium;
};

extern const char *const drive_copy_names[];  /* by enum inspect_copy */
extern const char *const drive_state_names[]; /* by enum inspect_segment_state */
extern const char *const drive_life_names[];  /* by enum inspect_life */

/* Make shard index current and tell of it, or say why not: DRIVE_FAILED. */
int drive_shard(const struct drive *drive, uint32_t index, struct inspect_shard *shard_out);

json_t *drive_medium_json(const struct drive *drive);
json_t *drive_shard_json(const struct inspect_shard *shard);

/* "key", "namespace", "shard", "segment", … of a block. */
json_t *drive_block_json(uint32_t shard, const struct inspect_block *block);

/* Lower-case hex as a JSON string. */
json_t *drive_hex_json(const void *bytes, size_t size);

int drive_check(const struct drive *drive);
int drive_dump(const struct drive *drive);

#endif
