/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options: rows of options.def become the struct, the defaults, the parser, --help, the sample
 * configuration and docs/reference/options.md. Pure.
 */
#ifndef TBL_OPTIONS_H
#define TBL_OPTIONS_H

#include <stdio.h>

#include "../base/base.h"
#include "../base/log.h"

#define OPT_TEXT_MAX 4096 /* 16 media by their ids; a URL of 64 hosts */

/* The commands that take an option. */
enum opt_where {
	IN_SETUP = 1u << 0,
	IN_START = 1u << 1,
	IN_BENCH = 1u << 2,
	IN_REPLAY = 1u << 3,
	IN_STAT = 1u << 4,
	IN_VERSION = 1u << 5,
	IN_DRIVE = 1u << 6,
	IN_DOCTOR = 1u << 7,
	IN_DOC = 1u << 8,
	IN_COST = 1u << 9,
	IN_TENANT = 1u << 10,
	IN_ADMIN = 1u << 11,
};

/* The command of bit i. */
extern const char *const opt_where_names[];
extern const size_t opt_where_count;

enum opt_kind { OPT_U64, OPT_BYTES, OPT_DURATION, OPT_BOOL, OPT_ENUM, OPT_TEXT };

struct options {
#define OPT(id, name, kind, def, min, max, where, text) uint64_t id;
#define OPT_TEXT(id, name, def, where, text)            char id[OPT_TEXT_MAX];
#define OPT_ENUM(id, name, def, choices, where, text)   uint64_t id;
#include "options.def"
#undef OPT
#undef OPT_TEXT
#undef OPT_ENUM
};

struct opt {
	const char *name;
	const char *text;
	const char *choices;  /* ENUM */
	const char *def_text; /* TEXT */
	size_t offset;        /* in struct options */
	uint64_t def, min, max;
	enum opt_kind kind;
	uint32_t where; /* enum opt_where */
};

extern const struct opt opt_table[];
extern const size_t opt_count;

void options_init(struct options *options);

/* NULL: no such option for any of these commands. */
const struct opt *options_find(const char *name, uint32_t where);

/*
 * Set one option from text. 0; -ENOENT: no such option of these commands (the message names the
 * nearest); -EINVAL, -ERANGE: the message says what is wanted.
 */
int options_set(struct options *options, const char *name, const char *value, uint32_t where,
		char message_out[256]) MUST_USE;

/* The value as text, as options_set() takes it. Returns buf. */
const char *options_format(const struct options *options, const struct opt *opt, char *buf,
			   size_t buf_size);

/* --help of a command; a commented configuration file with these values; the reference page. */
void options_help(FILE *out, uint32_t where);
void options_sample(FILE *out, const struct options *options);
void options_reference(FILE *out);

#endif
