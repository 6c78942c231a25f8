/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <inttypes.h>
#include <string.h>

#include "../base/text.h"

const struct opt opt_table[] = {
#define OPT(id, name, kind, def, min, max, where, text)                                            \
	{ name, text, NULL, NULL, offsetof(struct options, id), def, min, max, OPT_##kind, where },
#define OPT_TEXT(id, name, def, where, text)                                                       \
	{ name, text, NULL, def, offsetof(struct options, id), 0, 0, 0, OPT_TEXT, where },
#define OPT_ENUM(id, name, def, choices, where, text)                                              \
	{ name, text, choices, NULL, offsetof(struct options, id), def, 0, 0, OPT_ENUM, where },
#include "options.def"
#undef OPT
#undef OPT_TEXT
#undef OPT_ENUM
};
const size_t opt_count = ARRAY_LEN(opt_table);

const char *const opt_where_names[] = { "setup", "start",  "bench", "replay", "stat",   "version",
					"drive", "doctor", "doc",   "cost",   "tenant", "admin" };
const size_t opt_where_count = ARRAY_LEN(opt_where_names);

/* A default outside its own range does not compile. */
#define OPT(id, name, kind, def, min, max, where, text)                                            \
	_Static_assert((def) + UINT64_C(1) > (min) && (def) <= (max),                              \
		       name ": default out of range");
#define OPT_TEXT(id, name, def, where, text)                                                       \
	_Static_assert(sizeof(def) <= OPT_TEXT_MAX, name ": default too long");
#define OPT_ENUM(id, name, def, choices, where, text)
#include "options.def"
#undef OPT
#undef OPT_TEXT
#undef OPT_ENUM

static void *opt_value(const struct options *options, const struct opt *opt)
{
	return (char *)(uintptr_t)options + opt->offset;
}

/* The index-th of "a|b|c" begins at the returned place and has *size_out characters; or NULL. */
static const char *choice_at(const char *choices, uint64_t index, size_t *size_out)
{
	for (; index > 0; index--) {
		choices = strchr(choices, '|');
		if (choices == NULL)
			return NULL;
		choices++;
	}
	*size_out = strcspn(choices, "|");
	return choices;
}

static int choice_parse(const char *choices, const char *text, uint64_t *value_out)
{
	const char *choice;
	size_t size;

	for (uint64_t i = 0; (choice = choice_at(choices, i, &size)) != NULL; i++) {
		if (strlen(text) == size && memcmp(text, choice, size) == 0) {
			*value_out = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int bool_parse(const char *text, uint64_t *value_out)
{
	static const char *const words[] = { "no", "yes", "false", "true", "off", "on", "0", "1" };

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(text, words[i]) == 0) {
			*value_out = i % 2;
			return 0;
		}
	}
	return -EINVAL;
}

static int value_parse(const struct opt *opt, const char *text, uint64_t *value_out)
{
	switch (opt->kind) {
	case OPT_U64:
		return text_parse_u64(text, value_out);
	case OPT_BYTES:
		return text_parse_size(text, value_out);
	case OPT_DURATION:
		return text_parse_duration(text, value_out);
	case OPT_BOOL:
		return bool_parse(text, value_out);
	case OPT_ENUM:
		return choice_parse(opt->choices, text, value_out);
	case OPT_TEXT:
		break;
	}
	ASSERT(false);
	return -EINVAL;
}

/* In a large unit where that says it exactly, else in the smallest. */
static const char *number_format(const struct opt *opt, uint64_t value, char *buf, size_t buf_size)
{
	const char *choice;
	uint64_t again;
	size_t size = 0;

	switch (opt->kind) {
	case OPT_BYTES:
		(void)text_format_size(buf, buf_size, value);
		if (text_parse_size(buf, &again) < 0 || again != value)
			snprintf(buf, buf_size, "%" PRIu64, value);
		return buf;
	case OPT_DURATION:
		(void)text_format_duration(buf, buf_size, value);
		if (text_parse_duration(buf, &again) < 0 || again != value)
			snprintf(buf, buf_size, "%" PRIu64 "ns", value);
		return buf;
	case OPT_BOOL:
		snprintf(buf, buf_size, "%s", value != 0 ? "yes" : "no");
		return buf;
	case OPT_ENUM:
		choice = choice_at(opt->choices, value, &size);
		snprintf(buf, buf_size, "%.*s", (int)size, choice != NULL ? choice : "");
		return buf;
	default:
		snprintf(buf, buf_size, "%" PRIu64, value);
		return buf;
	}
}

void options_init(struct options *options)
{
	memset(options, 0, sizeof(*options));
	for (size_t i = 0; i < opt_count; i++) {
		const struct opt *opt = &opt_table[i];

		if (opt->kind == OPT_TEXT)
			snprintf(opt_value(options, opt), OPT_TEXT_MAX, "%s", opt->def_text);
		else
			memcpy(opt_value(options, opt), &opt->def, sizeof(opt->def));
	}
}

const struct opt *options_find(const char *name, uint32_t where)
{
	for (size_t i = 0; i < opt_count; i++) {
		if ((opt_table[i].where & where) != 0 && strcmp(opt_table[i].name, name) == 0)
			return &opt_table[i];
	}
	return NULL;
}

static const char *nearest(const char *name, uint32_t where)
{
	const char *best = "";
	unsigned best_distance = UINT32_MAX;

	for (size_t i = 0; i < opt_count; i++) {
		unsigned distance;

		if ((opt_table[i].where & where) == 0)
			continue;
		distance = text_distance(name, opt_table[i].name);
		if (distance < best_distance) {
			best_distance = distance;
			best = opt_table[i].name;
		}
	}
	return best;
}

static int range_check(const struct opt *opt, uint64_t value, char message_out[256])
{
	char low[48];
	char high[48];

	if (opt->kind == OPT_ENUM || (value >= opt->min && value <= opt->max))
		return 0;
	snprintf(message_out, 256, "%s must be from %s to %s", opt->name,
		 number_format(opt, opt->min, low, sizeof(low)),
		 number_format(opt, opt->max, high, sizeof(high)));
	return -ERANGE;
}

static const char *wanted(const struct opt *opt)
{
	switch (opt->kind) {
	case OPT_BYTES:
		return "a size such as 64KiB or 20GiB";
	case OPT_DURATION:
		return "a duration such as 250ms or 10s";
	case OPT_BOOL:
		return "yes or no";
	case OPT_ENUM:
		return opt->choices;
	default:
		return "a whole number";
	}
}

int options_set(struct options *options, const char *name, const char *value, uint32_t where,
		char message_out[256])
{
	const struct opt *opt = options_find(name, where);
	uint64_t number = 0;
	int rc;

	if (opt == NULL) {
		snprintf(message_out, 256, "there is no option '%.80s' here; did you mean '%s'?",
			 name, nearest(name, where));
		return -ENOENT;
	}
	if (opt->kind == OPT_TEXT) {
		if (strlen(value) >= OPT_TEXT_MAX) {
			snprintf(message_out, 256, "%s is longer than %d characters", name,
				 OPT_TEXT_MAX - 1);
			return -ERANGE;
		}
		snprintf(opt_value(options, opt), OPT_TEXT_MAX, "%s", value);
		return 0;
	}
	rc = value_parse(opt, value, &number);
	if (rc < 0) {
		snprintf(message_out, 256, "%s takes %s, not '%.80s'", name, wanted(opt), value);
		return rc;
	}
	rc = range_check(opt, number, message_out);
	if (rc < 0)
		return rc;
	memcpy(opt_value(options, opt), &number, sizeof(number));
	return 0;
}

const char *options_format(const struct options *options, const struct opt *opt, char *buf,
			   size_t buf_size)
{
	uint64_t number;

	if (opt->kind == OPT_TEXT) {
		snprintf(buf, buf_size, "%s", (const char *)opt_value(options, opt));
		return buf;
	}
	memcpy(&number, opt_value(options, opt), sizeof(number));
	return number_format(opt, number, buf, buf_size);
}

/* "default 16, from 1 to 256" */
static void range_print(FILE *out, const struct opt *opt)
{
	char buf[64];

	if (opt->kind == OPT_TEXT) {
		if (opt->def_text[0] != '\0')
			fprintf(out, " (default %s)", opt->def_text);
		return;
	}
	fprintf(out, " (default %s", number_format(opt, opt->def, buf, sizeof(buf)));
	if (opt->kind == OPT_ENUM) {
		fputs("; one of ", out);
		for (const char *c = opt->choices; *c != '\0'; c++)
			fputs(*c == '|' ? ", " : (char[]) { *c, '\0' }, out);
	} else if (opt->kind != OPT_BOOL) {
		fprintf(out, ", from %s", number_format(opt, opt->min, buf, sizeof(buf)));
		fprintf(out, " to %s", number_format(opt, opt->max, buf, sizeof(buf)));
	}
	fputc(')', out);
}

void options_help(FILE *out, uint32_t where)
{
	for (size_t i = 0; i < opt_count; i++) {
		const struct opt *opt = &opt_table[i];

		if ((opt->where & where) == 0)
			continue;
		fprintf(out, "  --%s%s\n      %s", opt->name, opt->kind == OPT_BOOL ? "" : " VALUE",
			opt->text);
		range_print(out, opt);
		fputc('\n', out);
	}
}

void options_sample(FILE *out, const struct options *options)
{
	char buf[OPT_TEXT_MAX];

	for (size_t i = 0; i < opt_count; i++) {
		const struct opt *opt = &opt_table[i];
		uint64_t number = 0;
		bool is_default;

		if ((opt->where & IN_START) == 0 || strcmp(opt->name, "config") == 0 ||
		    strcmp(opt->name, "dir") == 0)
			continue;
		options_format(options, opt, buf, sizeof(buf));
		if (opt->kind == OPT_TEXT) {
			is_default = strcmp(buf, opt->def_text) == 0;
		} else {
			memcpy(&number, opt_value(options, opt), sizeof(number));
			is_default = number == opt->def;
		}
		fprintf(out, "# %s", opt->text);
		range_print(out, opt);
		fprintf(out, "\n%s%s: \"%s\"\n\n", is_default ? "# " : "", opt->name, buf);
	}
}

static void where_print(FILE *out, uint32_t where)
{
	const char *comma = "";

	for (size_t i = 0; i < opt_where_count; i++) {
		if ((where & (1u << i)) == 0)
			continue;
		fprintf(out, "%s%s", comma, opt_where_names[i]);
		comma = ", ";
	}
}

void options_reference(FILE *out)
{
	fputs("# Options\n\nWritten from `src/tbl/options.def` by `ctxkv version --reference`. "
	      "Options of `start` can stand in the configuration\nfile as `name: value`.\n\n"
	      "| option | commands | what |\n| --- | --- | --- |\n",
	      out);
	for (size_t i = 0; i < opt_count; i++) {
		fprintf(out, "| `%s` | ", opt_table[i].name);
		where_print(out, opt_table[i].where);
		fprintf(out, " | %s", opt_table[i].text);
		range_print(out, &opt_table[i]);
		fputs(" |\n", out);
	}
}
