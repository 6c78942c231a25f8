/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration file: YAML, one mapping, the options of `start` as "name: value". Values are
 * the same text as on the command line. libcyaml reads it by a schema made from options.def.
 */
#include <cyaml/cyaml.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"

struct config_file {
#define OPT(id, name, kind, def, min, max, where, text) char *id;
#define OPT_TEXT(id, name, def, where, text)            char *id;
#define OPT_ENUM(id, name, def, choices, where, text)   char *id;
#include "../tbl/options.def"
#undef OPT
#undef OPT_TEXT
#undef OPT_ENUM
};

#define FIELD(id, name)                                                                            \
	CYAML_FIELD_STRING_PTR(name, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct config_file, \
			       id, 0, OPT_TEXT_MAX - 1),

static const cyaml_schema_field_t fields[] = {
#define OPT(id, name, kind, def, min, max, where, text) FIELD(id, name)
#define OPT_TEXT(id, name, def, where, text)            FIELD(id, name)
#define OPT_ENUM(id, name, def, choices, where, text)   FIELD(id, name)
#include "../tbl/options.def"
#undef OPT
#undef OPT_TEXT
#undef OPT_ENUM
	CYAML_FIELD_END
};

static const cyaml_schema_value_t schema = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct config_file, fields),
};

/* The first line that libcyaml logs says what is wrong; the others are a backtrace. */
static void PRINTF_LIKE(3, 0)
	log_keep(cyaml_log_t level, void *ctx, const char *format, va_list args)
{
	char *line = ctx;

	if (level < CYAML_LOG_ERROR || line[0] != '\0')
		return;
	vsnprintf(line, 256, format, args);
	line[strcspn(line, "\n")] = '\0';
}

/* Values of the file that the command line has not set. rows[i] is the text of opt_table[i]. */
static int apply(const char *path, char *const *rows, struct options *options,
		 const struct opt_set *set)
{
	char message[256];
	struct options scratch;

	for (size_t i = 0; i < opt_count; i++) {
		if (rows[i] == NULL)
			continue;
		/* A value is checked even where the command line outranks it. */
		options_init(&scratch);
		if (options_set(set->is_set[i] ? &scratch : options, opt_table[i].name, rows[i],
				IN_START, message) < 0)
			return cmd_fail(-EINVAL, "%s: %s", path, message);
	}
	return 0;
}

int cmd_config_load(const char *path, struct options *options, const struct opt_set *set)
{
	static const char unknown[] = "Unexpected key: ";
	char line[256] = "";
	char message[256];
	const cyaml_config_t config = {
		.log_fn = log_keep,
		.log_ctx = line,
		.log_level = CYAML_LOG_ERROR,
		.mem_fn = cyaml_mem,
	};
	struct config_file *file = NULL;
	const char *key;
	cyaml_err_t err;
	int rc;

	err = cyaml_load_file(path, &config, &schema, (cyaml_data_t **)&file, NULL);
	if (err != CYAML_OK) {
		key = strstr(line, unknown);
		if (key != NULL &&
		    options_set(options, key + strlen(unknown), "", IN_START, message) == -ENOENT)
			return cmd_fail(-EINVAL, "%s: %s", path, message);
		return cmd_fail(-EINVAL, "%s: %s", path,
				line[0] != '\0' ? line : cyaml_strerror(err));
	}
	if (file == NULL) /* an empty file */
		return 0;
	_Static_assert(sizeof(*file) == sizeof(char *) * (ARRAY_LEN(fields) - 1), "only pointers");
	rc = apply(path, (char *const *)(const void *)file, options, set);
	cyaml_free(&config, &schema, file, 0);
	return rc;
}
