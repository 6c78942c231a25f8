/* SPDX-License-Identifier: Apache-2.0 */
/* What a server says of itself, as it says it, and how it is reached from here: "name value" a
 * line, or the same as JSON. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../include/ctxkv.h"
#include "../base/text.h"
#include "cmd.h"

#define TEXT_SIZE   (64 * KiB)
#define SERVERS_MAX 256

/* What reads as a number becomes one, all else a string. */
static json_t *value_to_json(const char *value)
{
	bool is_decimal = strspn(value, "-.0123456789") == strlen(value);
	json_t *json = is_decimal ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;

	if (json_is_number(json))
		return json;
	json_decref(json);
	return json_string(value);
}

static json_t *lines_to_json(char *text)
{
	json_t *object = json_object();
	char *rest = NULL;

	for (char *line = strtok_r(text, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest)) {
		char *value = strchr(line, ' ');

		if (value == NULL || line[0] == '#')
			continue;
		*value++ = '\0';
		json_object_set_new(object, line, value_to_json(value));
	}
	return object;
}

/* Who told: the first server that could be reached, and one reactor of it. */
struct teller {
	char address[128]; /* "": it is not known */
	int server_count;
	bool is_whole; /* it has one reactor */
};

static void teller_find(struct ctxkv_client *client, const char *text, struct teller *out)
{
	static struct ctxkv_server servers[SERVERS_MAX];
	const char *told = strstr(text, "\nserver ");
	char uuid[33];

	*out = (struct teller) { .is_whole = strstr(text, "\nreactors 1\n") != NULL };
	servers[0].size = sizeof(servers[0]);
	out->server_count = MIN(ctxkv_get_servers(client, servers, SERVERS_MAX), SERVERS_MAX);
	for (int i = 0; i < out->server_count && told != NULL; i++) {
		text_format_hex(uuid, sizeof(uuid), servers[i].uuid, sizeof(servers[i].uuid));
		if (out->address[0] == '\0' &&
		    strncmp(told + strlen("\nserver "), uuid, strlen(uuid)) == 0)
			memcpy(out->address, servers[i].address, sizeof(out->address));
	}
}

static void say_which(const struct teller *teller)
{
	if (teller->server_count > 1)
		printf("# of %s, 1 of %d servers; of all: ctxkv admin status --all\n",
		       teller->address, teller->server_count);
	else
		printf("# of %s\n", teller->address);
	if (!teller->is_whole)
		puts("# of the one reactor that was asked; of the whole server: ctxkv admin "
		     "status");
}

/* How this client reaches it. */
static void add_client(struct ctxkv_client *client, char *text)
{
	struct ctxkv_stat stat = { .size = sizeof(stat) };
	size_t used = strlen(text);
	char *to = text + used;

	if (ctxkv_get_stat(client, &stat) < 0)
		return;
	used += (size_t)snprintf(to, TEXT_SIZE - used, "client_transport %s\n", stat.transport);
	if (stat.fallback[0] != '\0' && used < TEXT_SIZE)
		snprintf(text + used, TEXT_SIZE - used, "client_fallback %s\n", stat.fallback);
}

int cmd_stat(struct options *options, const struct opt_set *set)
{
	struct ctxkv_client *client = cmd_client_open(options, 1);
	struct teller teller = { 0 };
	char *text;
	int rc;

	(void)set;
	if (client == NULL)
		return EXIT_FAILED;
	text = calloc(1, TEXT_SIZE);
	rc = text == NULL ? -ENOMEM : ctxkv_server_stat(client, options->timeout, text, TEXT_SIZE);
	if (rc >= 0)
		add_client(client, text);
	if (rc >= 0)
		teller_find(client, text, &teller);
	ctxkv_close(&client);
	if (rc < 0) {
		free(text);
		return cmd_fail(EXIT_FAILED, "the server did not tell: %s", ctxkv_strerror(rc));
	}
	if (options->json) {
		json_t *object = lines_to_json(text);

		json_object_set_new(object, "address", json_string(teller.address));
		json_object_set_new(object, "servers", json_integer(teller.server_count));
		json_dumpf(object, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(object);
	} else {
		say_which(&teller);
		fputs(text, stdout);
	}
	free(text);
	return EXIT_DONE;
}
