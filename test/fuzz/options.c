/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options as on a command line: lines "name=value". What is accepted is in its range, and as text
 * is accepted again and means the same; what is refused has a reason.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/tbl/options.h"
#include "fuzz.h"

#define EVERYWHERE UINT32_MAX

static void check_set(const struct options *options, const struct opt *opt)
{
	char message[256];
	char text[2 * OPT_TEXT_MAX];
	struct options again;
	uint64_t value;

	if (opt->kind != OPT_TEXT && opt->kind != OPT_BOOL && opt->kind != OPT_ENUM) {
		memcpy(&value, (const char *)options + opt->offset, sizeof(value));
		ASSERT(value >= opt->min);
		ASSERT(value <= opt->max);
	}
	options_init(&again);
	(void)options_format(options, opt, text, sizeof(text));
	ASSERT(options_set(&again, opt->name, text, EVERYWHERE, message) == 0);
	ASSERT(memcmp((const char *)&again + opt->offset, (const char *)options + opt->offset,
		      opt->kind == OPT_TEXT ? strlen(text) + 1 : sizeof(value)) == 0);
}

static void run_line(char *line)
{
	char *value = strchr(line, '=');
	char message[256] = "";
	struct options options;
	int rc;

	if (value == NULL)
		return;
	*value++ = '\0';
	options_init(&options);
	rc = options_set(&options, line, value, EVERYWHERE, message);
	if (rc < 0)
		ASSERT(strlen(message) > 0);
	else
		check_set(&options, options_find(line, EVERYWHERE));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	char *text = malloc(size + 1);
	char *rest = text;
	char *line;

	ASSERT(text != NULL);
	memcpy(text, bytes, size);
	text[size] = '\0';
	while ((line = strsep(&rest, "\n")) != NULL)
		run_line(line);
	free(text);
	return 0;
}
