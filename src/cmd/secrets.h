/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A secrets file as a command edits it: read under a lock, lines replaced in memory, written whole
 * beside it and renamed over it. Whoever reads it meanwhile sees the old file or the new one. What
 * the command does not change (comments, other rows, owner) stays.
 *
 * Every function says what is wrong itself (cmd_fail) and returns negative.
 */
#ifndef CMD_SECRETS_H
#define CMD_SECRETS_H

#include "../wire/keyfile.h"

struct secrets {
	char path[4096]; /* with no symbolic link in it */
	char *text;
	struct keyfile_row *rows;
	uint32_t row_count;
	int lock_fd; /* of the directory: -1 when not locked */
};

/* is_locked: nobody else edits it until secrets_close(). */
int secrets_open(struct secrets *secrets, const char *path, bool is_locked) MUST_USE;
void secrets_close(struct secrets *secrets);

/* NULL when there is none. */
struct keyfile_row *secrets_find(const struct secrets *secrets, const char *tenant);

/*
 * Write the file with the row's line in the place of its old one (row.line; 0: at the end), or
 * without it (is_removed). What would not be a secrets file any more is not written.
 */
int secrets_write(const struct secrets *secrets, const struct keyfile_row *row,
		  bool is_removed) MUST_USE;

#endif
