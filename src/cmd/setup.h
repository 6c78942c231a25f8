/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `setup` share. */
#ifndef CMD_SETUP_H
#define CMD_SETUP_H

#include "../server/server.h"
#include "cmd.h"

/* --- setup_files.c: a file that is there whole, or as it was before --- */

enum setup_file_state {
	SETUP_FILE_NONE,   /* nothing was done */
	SETUP_FILE_KEPT,   /* it was there, and stays */
	SETUP_FILE_STAGED, /* written as PATH.new */
	SETUP_FILE_DONE,   /* that was renamed */
};

struct setup_file {
	char path[OPT_TEXT_MAX + 32];
	FILE *out; /* between begin and end */
	enum setup_file_state state;
	bool has_old; /* what it replaced stands in PATH.old */
};

/* All say what is wrong and return negative. */
int setup_file_begin(struct setup_file *file) MUST_USE;
int setup_file_end(struct setup_file *file) MUST_USE;
int setup_file_commit(struct setup_file *file) MUST_USE;
void setup_file_undo(struct setup_file *file);

/* Folders that are not there, mode 0700. kept_size_out: how much of the path was there before. */
int setup_dir_make(const char *dir, size_t *kept_size_out) MUST_USE;
void setup_dir_undo(const char *dir, size_t kept_size);

/* --- setup_media.c --- */

struct setup_media {
	struct env *env;
	char text[OPT_TEXT_MAX]; /* cut into paths */
	const char *paths[SERVER_MEDIUM_MAX];
	struct medium_spec specs[SERVER_MEDIUM_MAX];
	struct medium_setup *setups[SERVER_MEDIUM_MAX];
	bool is_made[SERVER_MEDIUM_MAX]; /* a file that was not there before */
	uint32_t count;
};

/* Take all of them, or none: locked, looked at, nothing written. */
int setup_media_open(struct setup_media *media, struct env *env,
		     const struct options *options) MUST_USE;
int setup_media_write(struct setup_media *media) MUST_USE;
/* is_failed: files that were made go. */
void setup_media_close(struct setup_media *media, bool is_failed);

/* --- setup.c and setup_check.c --- */

struct setup {
	/* What the command line says, then what a kept configuration says beside it. */
	struct options *options;
	const struct opt_set *set;
	struct env *env;
	char dir[OPT_TEXT_MAX];
	size_t dir_kept; /* see setup_dir_make() */
	struct setup_file secrets;
	struct setup_file token;
	struct setup_file url;
	struct setup_file config;
	char tenant[WIRE_TENANT_MAX]; /* whose URL is written */
	uint32_t block_max;           /* of memory mode */
	struct setup_media media;
};

/*
 * Before anything is written: paths are made full, files that are there are read, and everything is
 * held against what start would refuse. An exit code; anything but EXIT_DONE after a message.
 */
int setup_check(struct setup *setup) MUST_USE;

#endif
