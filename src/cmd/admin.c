/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin: speak to the admin endpoints of servers and show what they say. All servers are asked one
 * after the other, each within the time-out; one that does not answer is a row that says so, and
 * the exit code. --watch asks and draws again until Ctrl-C, which leaves the terminal as it was.
 */
#include "admin.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/text.h"
#include "clock.h"
#include "cmd.h"
#include "http.h"

#define TOKEN_MAX       256
#define RELOAD_PAUSE_MS 200

enum action {
	ACTION_STATUS,
	ACTION_SESSIONS,
	ACTION_TENANTS,
	ACTION_SAVINGS,
	ACTION_HEALTH,
	ACTION_DRAIN,
	ACTION_DROP,
	ACTION_RELOAD,
};

/* In the order of the actions in cmds.c. */
static const struct {
	const char *method;
	const char *path;
	void (*print)(FILE *out, const struct admin_fleet *fleet); /* NULL: by itself */
} actions[] = {
	[ACTION_STATUS] = { "GET", "/v1/status", NULL },
	[ACTION_SESSIONS] = { "GET", "/v1/sessions", admin_print_sessions },
	[ACTION_TENANTS] = { "GET", "/v1/tenants", admin_print_tenants },
	[ACTION_SAVINGS] = { "GET", "/v1/savings", admin_print_savings },
	[ACTION_HEALTH] = { "GET", "/v1/ready", NULL },
	[ACTION_DRAIN] = { "POST", "/v1/drain", NULL },
	[ACTION_DROP] = { "POST", "/v1/drop", NULL },
	[ACTION_RELOAD] = { "POST", "/v1/reload", NULL },
};

struct admin_cmd {
	const struct options *options;
	enum action action;
	char token[TOKEN_MAX + 1]; /* "": none */
	char *body;                /* of a drop */
	struct admin_fleet now;
	struct admin_fleet before;
	uint64_t asked_ns;
	uint64_t asked_before_ns;
};

/* --- the token --- */

/* The first line that is neither empty nor a comment. */
static int token_parse(struct admin_cmd *cmd, const char *text, const char *path)
{
	while (*text == '#' || *text == '\n' || *text == '\r') {
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	if (strcspn(text, "\r\n") > TOKEN_MAX || *text == '\0')
		return cmd_fail(-EINVAL, "there is no token in %s", path);
	snprintf(cmd->token, sizeof(cmd->token), "%.*s", (int)strcspn(text, "\r\n"), text);
	return 0;
}

/* --admin-token FILE must be readable; the one that setup wrote is taken where it is. */
static int token_read(struct admin_cmd *cmd)
{
	char path[OPT_TEXT_MAX + 16];
	char dir[OPT_TEXT_MAX];
	char *text;
	int rc;

	if (cmd->options->admin_token[0] != '\0') {
		snprintf(path, sizeof(path), "%s", cmd->options->admin_token);
	} else {
		if (cmd_config_dir(cmd->options, dir, sizeof(dir)) < 0)
			return 0;
		snprintf(path, sizeof(path), "%s/admin-token", dir);
		if (access(path, R_OK) < 0)
			return 0;
	}
	text = cmd_read_file(path);
	if (text == NULL)
		return cmd_fail(-errno, "cannot read %s: %s", path, err_str(errno));
	rc = token_parse(cmd, text, path);
	explicit_bzero(text, strlen(text));
	free(text);
	return rc;
}

/* --- asking --- */

static void answer_take(struct admin_server *server, const struct http_answer *answer)
{
	json_error_t error;
	json_t *json = json_loads(answer->body, 0, &error);
	const char *why = json_string_value(json_object_get(json, "error"));

	server->status = answer->status;
	if (json != NULL && why == NULL) {
		server->answer = json;
		return;
	}
	snprintf(server->why, sizeof(server->why), "%.1024s%s",
		 why != NULL ? why : "it does not speak as an admin endpoint does",
		 answer->status == 401 ? "; --admin-token FILE names the file with it" : "");
	json_decref(json);
}

static void server_ask_once(const struct admin_cmd *cmd, struct admin_server *server,
			    const char *method, const char *path)
{
	const struct http_request request = {
		.address = server->target.address,
		.port = server->target.port,
		.method = method,
		.path = path,
		.token = cmd->token[0] != '\0' ? cmd->token : NULL,
		.body = cmd->body,
		.timeout_ns = cmd->options->timeout,
	};
	struct http_answer answer = { 0 };
	int rc = http_ask(&request, &answer);

	server->answer = NULL;
	server->status = 0;
	if (rc < 0) {
		snprintf(server->why, sizeof(server->why), "%s%s", err_str(rc),
			 rc == -ECONNREFUSED
				 ? "; is its admin-listen such that this host reaches it?"
				 : "");
		return;
	}
	answer_take(server, &answer);
	free(answer.body);
}

/* What takes long is answered at once: then ask until it is done. */
static void server_ask(const struct admin_cmd *cmd, struct admin_server *server)
{
	server_ask_once(cmd, server, actions[cmd->action].method, actions[cmd->action].path);
	while (server->status == 202 && !cmd_is_interrupted()) {
		json_decref(server->answer);
		(void)poll(NULL, 0, RELOAD_PAUSE_MS); /* a signal ends the wait */
		server_ask_once(cmd, server, "GET", "/v1/reloaded");
	}
}

static void fleet_free(struct admin_fleet *fleet)
{
	for (uint32_t i = 0; i < fleet->count; i++)
		json_decref(fleet->servers[i].answer);
	fleet->count = 0;
}

static void fleet_ask(struct admin_cmd *cmd, const struct admin_target *targets, uint32_t count)
{
	fleet_free(&cmd->before);
	cmd->before = cmd->now;
	cmd->asked_before_ns = cmd->asked_ns;
	cmd->now.count = count;
	for (uint32_t i = 0; i < count; i++) {
		cmd->now.servers[i].target = targets[i];
		server_ask(cmd, &cmd->now.servers[i]);
	}
	cmd->asked_ns = clock_ns();
}

/* --- showing --- */

static void print_json(FILE *out, const struct admin_fleet *fleet)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < fleet->count; i++) {
		const struct admin_server *server = &fleet->servers[i];
		json_t *row = json_pack("{s:s}", "endpoint", server->target.name);

		if (server->answer != NULL)
			json_object_update(row, server->answer);
		else
			json_object_set_new(row, "error", json_string(server->why));
		json_array_append_new(array, row);
	}
	json_dumpf(fleet->count == 1 ? json_array_get(array, 0) : array, out, JSON_INDENT(2));
	fputc('\n', out);
	json_decref(array);
}

/* How much a drop has hidden. */
static void print_dropped(FILE *out, const struct admin_server *server)
{
	const json_t *blocks = json_object_get(server->answer, "blocks");
	const json_t *bytes = json_object_get(server->answer, "payload_bytes");
	json_int_t count = json_integer_value(blocks);
	char size[32];

	fprintf(out, "%s  dropped: ", server->target.name);
	if (!json_is_integer(blocks))
		fputs("it did not count how many blocks\n", out);
	else if (count == 0)
		fputs("no block of it was here; noted, so that none comes back\n", out);
	else if (json_is_integer(bytes))
		fprintf(out, "%" JSON_INTEGER_FORMAT " blocks, %s\n", count,
			text_format_size(size, sizeof(size), (uint64_t)json_integer_value(bytes)));
	else
		fprintf(out, "%" JSON_INTEGER_FORMAT " block\n", count);
}

/* What came of a command, a line each server. */
static void print_outcome(FILE *out, const struct admin_cmd *cmd)
{
	static const char *const done[] = {
		[ACTION_DRAIN] = "drains: no new puts; gets go on until it is stopped",
	};

	for (uint32_t i = 0; i < cmd->now.count; i++) {
		const struct admin_server *server = &cmd->now.servers[i];
		const char *text = cmd->action < ARRAY_LEN(done) ? done[cmd->action] : NULL;

		if (server->answer == NULL)
			continue;
		if (cmd->action == ACTION_DROP) {
			print_dropped(out, server);
			continue;
		}
		if (cmd->action == ACTION_HEALTH)
			text = json_string_value(json_object_get(server->answer, "state"));
		if (cmd->action == ACTION_RELOAD)
			text = json_string_value(json_object_get(server->answer, "message"));
		fprintf(out, "%s  %s\n", server->target.name, text != NULL ? text : "-");
	}
}

static void print_failures(const struct admin_fleet *fleet)
{
	for (uint32_t i = 0; i < fleet->count; i++) {
		if (fleet->servers[i].answer == NULL)
			cmd_fail(0, "%s: %s", fleet->servers[i].target.name, fleet->servers[i].why);
	}
}

static void show(FILE *out, const struct admin_cmd *cmd)
{
	const struct admin_fleet *before = cmd->before.count > 0 ? &cmd->before : NULL;
	double seconds = (double)(cmd->asked_ns - cmd->asked_before_ns) / (double)NS_PER_S;
	bool is_table = cmd->options->all || cmd->options->watch;

	if (cmd->options->json) {
		print_json(out, &cmd->now);
	} else if (actions[cmd->action].print != NULL) {
		actions[cmd->action].print(out, &cmd->now);
	} else if (cmd->action != ACTION_STATUS) {
		print_outcome(out, cmd);
	} else if (is_table) {
		admin_print_fleet(out, &cmd->now, before, seconds);
	} else if (cmd->now.servers[0].answer != NULL) {
		admin_print_status(out, cmd->now.servers[0].answer);
	}
}

/* --- the live view --- */

/* 24 lines of 80 where it does not say. */
static struct winsize terminal_size(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
		size = (struct winsize) { .ws_row = 24, .ws_col = 80 };
	return size;
}

/* From the upper left corner, each line cleared behind its end, the rest of the screen, too. What
 * is wider or longer than the terminal is cut. */
static void draw(const char *text)
{
	const struct winsize terminal = terminal_size();

	fputs("\033[H", stdout);
	for (unsigned i = 1; *text != '\0' && i < terminal.ws_row; i++) {
		size_t size = strcspn(text, "\n");

		printf("%.*s\033[K\n", (int)MIN(size, terminal.ws_col), text);
		text += size + (text[size] == '\n');
	}
	fputs("\033[J", stdout);
	fflush(stdout);
}

static void draw_once(const struct admin_cmd *cmd)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		return;
	show(out, cmd);
	if (fclose(out) == 0)
		draw(text);
	free(text);
}

static int watch(struct admin_cmd *cmd, const struct admin_target *targets, uint32_t count)
{
	bool is_terminal = isatty(STDOUT_FILENO) != 0;

	cmd_catch_signals();
	if (is_terminal)
		fputs("\033[?25l\033[H\033[J", stdout); /* no cursor, empty screen */
	while (!cmd_is_interrupted()) {
		fleet_ask(cmd, targets, count);
		if (cmd_is_interrupted())
			break;
		if (is_terminal)
			draw_once(cmd);
		else
			show(stdout, cmd);
		fflush(stdout);
		/* A signal ends the wait. */
		(void)poll(NULL, 0, (int)(cmd->options->interval / NS_PER_MS));
	}
	if (is_terminal)
		fputs("\033[?25h\n", stdout);
	fflush(stdout);
	return EXIT_INTERRUPTED;
}

/* --- the command --- */

static int body_make(struct admin_cmd *cmd)
{
	const struct options *options = cmd->options;
	json_t *body;

	if (cmd->action != ACTION_DROP)
		return 0;
	if (options->domain[0] == '\0' ||
	    (options->namespace[0] == '\0') == (options->namespace_text[0] == '\0'))
		return cmd_fail(-EINVAL, "drop needs --domain NAME, and --namespace HEX or "
					 "--namespace-text TEXT");
	body = json_pack("{s:s}", "domain", options->domain);
	if (options->namespace[0] != '\0')
		json_object_set_new(body, "namespace_id", json_string(options->namespace));
	else
		json_object_set_new(body, "namespace", json_string(options->namespace_text));
	if (options->key[0] != '\0')
		json_object_set_new(body, "key", json_string(options->key));
	cmd->body = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	return cmd->body != NULL ? 0 : cmd_fail(-ENOMEM, "no memory");
}

static int run(struct admin_cmd *cmd)
{
	static struct admin_target targets[ADMIN_TARGETS_MAX];
	int code = EXIT_DONE;
	int count;

	if (token_read(cmd) < 0)
		return EXIT_FAILED;
	count = admin_targets(cmd->options, targets, ADMIN_TARGETS_MAX);
	if (count < 0)
		return EXIT_FAILED;
	if (!cmd->options->all && count > 1 && cmd->action == ACTION_DROP)
		cmd_fail(0, "this is 1 of %d servers; --all drops it at all of them", count);
	if (!cmd->options->all)
		count = 1;
	if (cmd->options->watch)
		return watch(cmd, targets, (uint32_t)count);
	fleet_ask(cmd, targets, (uint32_t)count);
	show(stdout, cmd);
	fflush(stdout);
	print_failures(&cmd->now);
	for (uint32_t i = 0; i < cmd->now.count; i++) {
		if (cmd->now.servers[i].answer == NULL || cmd->now.servers[i].status / 100 != 2)
			code = EXIT_FAILED;
	}
	return code;
}

int cmd_admin(struct options *options, const struct opt_set *set)
{
	static struct admin_cmd cmd;
	int code;

	cmd.options = options;
	cmd.action = (enum action)set->action;
	ASSERT(cmd.action < ARRAY_LEN(actions));
	if (options->watch && actions[cmd.action].method[0] != 'G')
		return cmd_fail(EXIT_USAGE, "--watch is for what reads");
	if (body_make(&cmd) < 0)
		return EXIT_USAGE;
	code = run(&cmd);
	fleet_free(&cmd.now);
	fleet_free(&cmd.before);
	explicit_bzero(cmd.token, sizeof(cmd.token));
	free(cmd.body);
	return code;
}
