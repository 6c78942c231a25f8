/* SPDX-License-Identifier: Apache-2.0 */
/* What a server says of itself, as it says it: "name value" a line, or the same as JSON. */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../include/ctxkv.h"
#include "../base/text.h"
#include "cmd.h"

#define TEXT_SIZE (64 * KiB)

/* Numbers become JSON numbers, all else strings. */
static json_t *lines_to_json(char *text)
{
	json_t *object = json_object();
	char *rest = NULL;

	for (char *line = strtok_r(text, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest)) {
		char *value = strchr(line, ' ');
		uint64_t number;

		if (value == NULL || line[0] == '#')
			continue;
		*value++ = '\0';
		json_object_set_new(object, line,
				    text_parse_u64(value, &number) == 0
					    ? json_integer((json_int_t)number)
					    : json_string(value));
	}
	return object;
}

int cmd_stat(struct options *options, const struct opt_set *set)
{
	struct ctxkv_client *client = cmd_client_open(options, 1);
	char *text;
	int rc;

	(void)set;
	if (client == NULL)
		return EXIT_FAILED;
	text = calloc(1, TEXT_SIZE);
	rc = text == NULL ? -ENOMEM : ctxkv_server_stat(client, options->timeout, text, TEXT_SIZE);
	ctxkv_close(&client);
	if (rc < 0) {
		free(text);
		return cmd_fail(EXIT_FAILED, "the server did not tell: %s", ctxkv_strerror(rc));
	}
	if (options->json) {
		json_t *object = lines_to_json(text);

		json_dumpf(object, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(object);
	} else {
		fputs(text, stdout);
	}
	free(text);
	return EXIT_DONE;
}
