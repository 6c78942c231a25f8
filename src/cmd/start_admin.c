/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The admin endpoint of `start`: it listens before the media are opened, so that "starting" can be
 * seen while blocks are recovered, and answers until the server has stopped.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "start.h"

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

/* As an operator's kill -HUP: the main thread does it, and logs what came of it. */
static int reload_cb(void *ctx, char message_out[256])
{
	(void)ctx;
	(void)message_out;
	return kill(getpid(), SIGHUP) < 0 ? -errno : 0;
}

int start_admin_begin(struct start *start)
{
	struct admin_opts opts = { .address = start->options->admin_listen,
				   .options = start->options,
				   .reload = reload_cb };
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
