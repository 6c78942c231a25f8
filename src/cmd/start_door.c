/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared memory for clients of this host: a Unix socket for each reactor in the run-time directory,
 * named after the server's port and the reactor, so that servers of one host may share it.
 *
 * The socket is made by the reactor with mode 0660; the group is set when the server runs, so it is
 * never open to more than in the end. A socket that a dead server left is replaced; one that
 * somebody listens at is not.
 *
 * Failure. No directory to be found or made: said at start, and clients come over TCP. One that was
 * named and cannot be made, or a group that does not exist: start refuses. A socket that cannot be
 * made: the reactor says so, and goes on without.
 */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "../base/text.h"
#include "start.h"

#define PATH_MAX_UNIX 100 /* of sun_path, "unix:" and what the reactor adds left out */

/* --- where --- */

static bool is_wanted(const struct start *start)
{
	return strcmp(start->options->shm_dir, "none") != 0;
}

/* The port, as it is named; of "any port" the process. */
static void server_name(const struct start *start, char *buf, size_t buf_size)
{
	const char *colon = strrchr(start->options->listen, ':');
	uint64_t port = 0;

	if (colon == NULL || text_parse_u64(colon + 1, &port) < 0 || port == 0)
		snprintf(buf, buf_size, "pid%d", (int)getpid());
	else
		snprintf(buf, buf_size, "%u", (unsigned)port);
}

static int group_find(const char *name, gid_t *gid_out)
{
	struct group row;
	struct group *found = NULL;
	char buf[4096];
	uint64_t number;

	if (getgrnam_r(name, &row, buf, sizeof(buf), &found) == 0 && found != NULL) {
		*gid_out = found->gr_gid;
		return 0;
	}
	if (text_parse_u64(name, &number) < 0 || number >= UINT32_MAX)
		return -ENOENT;
	*gid_out = (gid_t)number;
	return 0;
}

int start_door_plan(struct start *start)
{
	struct server_opts *opts = &start->server_opts;
	bool is_named = start->options->shm_dir[0] != '\0';
	char dir[OPT_TEXT_MAX];
	char name[32];
	gid_t gid;

	if (start->options->shm_group[0] != '\0' && group_find(start->options->shm_group, &gid) < 0)
		return cmd_fail(-ENOENT, "there is no group '%s' (shm-group)",
				start->options->shm_group);
	if (!is_wanted(start))
		return 0;
	if (!cmd_shm_dir(start->options, dir, sizeof(dir))) {
		start->door_missing = "there is no directory for its sockets (RUNTIME_DIRECTORY, "
				      "XDG_RUNTIME_DIR); --shm-dir names one";
		return 0;
	}
	server_name(start, name, sizeof(name));
	if (strlen(dir) + strlen(name) + sizeof("/.63.sock") > PATH_MAX_UNIX)
		return cmd_fail(-ENAMETOOLONG, "shm-dir %s is too long for the path of a socket",
				dir);
	if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
		if (is_named)
			return cmd_fail(-errno, "cannot make %s: %s (shm-dir)", dir,
					err_str(errno));
		start->door_missing = "the run-time directory cannot be made; --shm-dir names "
				      "another";
		return 0;
	}
	snprintf(start->door_prefix, sizeof(start->door_prefix), "unix:%s/%s", dir, name);
	start->listens[opts->reactor.listen_count++] = (struct reactor_listen) {
		.ops = xprt_find("shm"),
		.address = start->door_prefix,
		.is_door = true,
	};
	return 0;
}

/* --- while it runs --- */

/* The path of a reactor's socket; NULL: it has none. */
static const char *door_path(const struct start *start, uint32_t reactor, char *buf,
			     size_t buf_size)
{
	if (start->door_prefix[0] == '\0' ||
	    server_door_name(start->server, reactor, buf, buf_size) < 0)
		return NULL;
	return strncmp(buf, "unix:", 5) == 0 ? buf + 5 : buf;
}

void start_door_open(const struct start *start)
{
	gid_t gid;

	if (start->options->shm_group[0] == '\0' || group_find(start->options->shm_group, &gid) < 0)
		return;
	for (uint32_t i = 0; i < start->server_opts.reactor_count; i++) {
		char buf[128];
		const char *path = door_path(start, i, buf, sizeof(buf));

		if (path != NULL && chown(path, (uid_t)-1, gid) < 0)
			log_warn("socket %s cannot be given to group %s: %s", path,
				 start->options->shm_group, err_str(errno));
	}
}

void start_door_print(const struct start *start)
{
	uint32_t count = 0;
	char first[128] = "";

	for (uint32_t i = 0; i < start->server_opts.reactor_count; i++) {
		char buf[128];
		const char *path = door_path(start, i, buf, sizeof(buf));

		if (path != NULL && count++ == 0)
			snprintf(first, sizeof(first), "%s", path);
	}
	if (count > 0)
		printf("shm        %s%s, for group %s\n", first, count > 1 ? " and so on" : "",
		       start->options->shm_group[0] != '\0' ? start->options->shm_group
							    : "of the server");
	else
		printf("shm        none: %s\n",
		       !is_wanted(start)             ? "not asked for (shm-dir: none)"
		       : start->door_missing != NULL ? start->door_missing
						     : "its sockets cannot be made, see the log");
}

void start_door_close(const struct start *start)
{
	for (uint32_t i = 0; i < start->server_opts.reactor_count; i++) {
		char buf[128];
		const char *path = door_path(start, i, buf, sizeof(buf));

		if (path != NULL)
			(void)unlink(path); /* the next start does it */
	}
}
