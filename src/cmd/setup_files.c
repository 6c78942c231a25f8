/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of setup: written as PATH.new (mode 0600, flushed), renamed when all else is done. What
 * they replace is linked to PATH.old first, so there is no moment without one.
 *
 * Failure: undo takes away what was staged, or was renamed already, and puts the old one back. A
 * crash may leave PATH.new behind; the next setup writes it anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "setup.h"

#define NAME_SIZE (OPT_TEXT_MAX + 64)

static const char *name_make(const struct setup_file *file, const char *end, char buf[NAME_SIZE])
{
	snprintf(buf, NAME_SIZE, "%s%s", file->path, end);
	return buf;
}

int setup_file_begin(struct setup_file *file)
{
	char path[NAME_SIZE];
	int fd;

	ASSERT(file->state == SETUP_FILE_NONE);
	(void)unlink(name_make(file, ".new", path)); /* of a setup that was cut off */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return cmd_fail(-errno, "cannot write %s: %s", path, err_str(errno));
	file->state = SETUP_FILE_STAGED;
	file->out = fdopen(fd, "w");
	if (file->out != NULL)
		return 0;
	close(fd);
	return cmd_fail(-ENOMEM, "no memory");
}

int setup_file_end(struct setup_file *file)
{
	bool is_bad = fflush(file->out) != 0 || fsync(fileno(file->out)) < 0;

	is_bad = fclose(file->out) != 0 || is_bad;
	file->out = NULL;
	return is_bad ? cmd_fail(-EIO, "cannot write %s: %s", file->path, err_str(errno)) : 0;
}

static int folder_flush(const char *path)
{
	char copy[NAME_SIZE];
	int fd;
	int rc = 0;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

int setup_file_commit(struct setup_file *file)
{
	char from[NAME_SIZE];
	char old[NAME_SIZE];
	int rc = 0;

	if (file->state != SETUP_FILE_STAGED)
		return 0;
	name_make(file, ".new", from);
	name_make(file, ".old", old);
	if (access(file->path, F_OK) == 0) {
		(void)unlink(old);
		file->has_old = link(file->path, old) == 0;
		rc = file->has_old ? 0 : -errno;
	}
	if (rc == 0 && rename(from, file->path) < 0)
		rc = -errno;
	if (rc == 0) {
		file->state = SETUP_FILE_DONE;
		rc = folder_flush(file->path);
	}
	return rc < 0 ? cmd_fail(rc, "cannot write %s: %s", file->path, err_str(rc)) : 0;
}

void setup_file_undo(struct setup_file *file)
{
	char path[NAME_SIZE];

	if (file->out != NULL)
		fclose(file->out);
	file->out = NULL;
	/* What failed has been told; what cannot be undone is in nobody's way. */
	if (file->state == SETUP_FILE_STAGED)
		(void)unlink(name_make(file, ".new", path));
	else if (file->state == SETUP_FILE_DONE && file->has_old)
		(void)rename(name_make(file, ".old", path), file->path);
	else if (file->state == SETUP_FILE_DONE)
		(void)unlink(file->path);
	file->state = SETUP_FILE_NONE;
}

/* --- folders --- */

int setup_dir_make(const char *dir, size_t *kept_size_out)
{
	char path[OPT_TEXT_MAX];

	*kept_size_out = strlen(dir);
	snprintf(path, sizeof(path), "%s", dir);
	for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
		if (slash != NULL)
			*slash = '\0';
		if (mkdir(path, 0700) == 0)
			*kept_size_out = MIN(*kept_size_out, strlen(path) - 1);
		else if (errno != EEXIST)
			return cmd_fail(-errno, "cannot make %s: %s", path, err_str(errno));
		if (slash == NULL)
			return 0;
		*slash = '/';
	}
}

void setup_dir_undo(const char *dir, size_t kept_size)
{
	char path[OPT_TEXT_MAX];

	snprintf(path, sizeof(path), "%s", dir);
	/* Those with something in them stay. */
	while (strlen(path) > kept_size && (rmdir(path) == 0 || errno == ENOENT))
		*strrchr(path, '/') = '\0';
}
