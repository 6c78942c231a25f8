/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The admin endpoint of `start`: it listens before the media are opened, so that "starting" can be
 * seen while blocks are recovered, and answers until the server has stopped.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "start.h"

#define RELOAD_PATIENCE (300 * NS_PER_MS) /* the endpoint answers nobody else meanwhile */

/* NULL: no file is named. Freed by the caller. A negative code after a message. */
static int token_read(const char *path, char **text_out)
{
	struct stat st;

	*text_out = NULL;
	if (path[0] == '\0')
		return 0;
	if (stat(path, &st) == 0 && (st.st_mode & 077) != 0)
		return cmd_fail(-EPERM, "%s can be read by others: chmod 600 %s", path, path);
	*text_out = cmd_read_file(path);
	if (*text_out == NULL)
		return cmd_fail(-errno, "cannot read the admin token %s: %s", path, err_str(errno));
	return 0;
}

static int reload_cb(void *ctx, bool is_asked, char *text, size_t text_size)
{
	struct start *start = ctx;

	/* The server is shown to the endpoint behind start_reload_begin(). */
	if (!start->reload.is_begun) {
		snprintf(text, text_size, "this server cannot reload; its log says why");
		return -ENOTSUP;
	}
	if (is_asked)
		start_reload_ask(start);
	return start_reload_wait(start, is_asked ? RELOAD_PATIENCE : 0, text, text_size);
}

int start_admin_begin(struct start *start)
{
	struct admin_opts opts = { .address = start->options->admin_listen,
				   .options = start->options,
				   .reload = reload_cb,
				   .ctx = start };
	char message[256] = "";
	char *text;
	int rc;

	if (strcmp(opts.address, "none") == 0)
		return 0;
	rc = token_read(start->options->admin_token, &text);
	if (rc < 0)
		return rc;
	opts.token_text = text;
	rc = admin_start(&opts, &start->admin, message);
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
	return rc < 0 ? cmd_fail(rc, "%s", message) : 0;
}

void start_admin_print(const struct start *start)
{
	const char *token = start->options->admin_token;
	char name[128];

	if (start->admin == NULL) {
		puts("admin      none");
		return;
	}
	admin_name(start->admin, name, sizeof(name));
	printf("admin      http://%s/, %s%s\n", name,
	       token[0] != '\0' ? "changes by the token in " : "no changes: there is no token",
	       token);
}
