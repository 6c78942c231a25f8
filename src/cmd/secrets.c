/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Editing a secrets file.
 *
 * Normal path: lock its directory, read, parse; make the new text; parse that, too; write it to
 * FILE.new with mode 0600 and the owner of the old one, flush, rename, flush the directory.
 *
 * Failure: before the rename the old file is what it was, and FILE.new is removed. A crash may
 * leave FILE.new behind: the next edit, alone under the lock, replaces it.
 */
#include "secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd.h"

/* --- reading --- */

static int directory_open(const char *path)
{
	char copy[4096];
	int fd;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 ? fd
		       : cmd_fail(-errno, "cannot open the folder of %s: %s", path, err_str(errno));
}

static int secrets_lock(struct secrets *secrets)
{
	secrets->lock_fd = directory_open(secrets->path);
	if (secrets->lock_fd < 0)
		return secrets->lock_fd;
	if (flock(secrets->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return cmd_fail(-errno, "%s is being edited by another command; try again", secrets->path);
}

static int secrets_parse(struct secrets *secrets)
{
	char message[256] = "";
	int count = keyfile_parse(secrets->text, NULL, 0, message);

	if (count >= 0) {
		secrets->rows = calloc((size_t)count + 1, sizeof(*secrets->rows));
		if (secrets->rows == NULL)
			return cmd_fail(-ENOMEM, "no memory");
		count = keyfile_parse(secrets->text, secrets->rows, (uint32_t)count, message);
	}
	if (count < 0)
		return cmd_fail(-EINVAL, "%s: %s", secrets->path, message);
	secrets->row_count = (uint32_t)count;
	return 0;
}

int secrets_open(struct secrets *secrets, const char *path, bool is_locked)
{
	char *real = realpath(path, NULL);
	int rc = 0;

	*secrets = (struct secrets) { .lock_fd = -1 };
	if (real == NULL)
		return cmd_fail(-errno, "cannot read %s: %s; %s", path, err_str(errno),
				errno == ENOENT ? "'ctxkv setup' makes one, --secrets FILE names "
						  "another"
						: "run it as the user that owns it");
	snprintf(secrets->path, sizeof(secrets->path), "%s", real);
	free(real);
	if (is_locked)
		rc = secrets_lock(secrets);
	if (rc == 0) {
		secrets->text = cmd_read_file(secrets->path);
		if (secrets->text == NULL)
			rc = cmd_fail(-errno, "cannot read %s: %s", secrets->path, err_str(errno));
	}
	if (rc == 0)
		rc = secrets_parse(secrets);
	if (rc < 0)
		secrets_close(secrets);
	return rc;
}

void secrets_close(struct secrets *secrets)
{
	if (secrets->text != NULL)
		explicit_bzero(secrets->text, strlen(secrets->text));
	free(secrets->text);
	if (secrets->rows != NULL)
		explicit_bzero(secrets->rows, secrets->row_count * sizeof(*secrets->rows));
	free(secrets->rows);
	if (secrets->lock_fd >= 0)
		close(secrets->lock_fd);
	*secrets = (struct secrets) { .lock_fd = -1 };
}

struct keyfile_row *secrets_find(const struct secrets *secrets, const char *tenant)
{
	for (uint32_t i = 0; i < secrets->row_count; i++) {
		if (strcmp(secrets->rows[i].tenant, tenant) == 0)
			return &secrets->rows[i];
	}
	return NULL;
}

/* --- writing --- */

/* The row's line with its end. Returns its size. */
static size_t line_put(char *to, const struct keyfile_row *row)
{
	size_t size = strlen(keyfile_format(row, to));

	to[size++] = '\n';
	return size;
}

/* The text with line number row->line replaced or left out, or one more line at its end. */
static char *text_edit(const struct secrets *secrets, const struct keyfile_row *row,
		       bool is_removed)
{
	size_t size = strlen(secrets->text);
	char *text = calloc(1, size + KEYFILE_LINE_MAX + 2);
	const char *at = secrets->text;
	char *to = text;

	if (text == NULL)
		return NULL;
	for (uint32_t number = 1; *at != '\0'; number++) {
		size_t step = strcspn(at, "\n");

		step += at[step] == '\n';
		if (number != row->line) {
			memcpy(to, at, step);
			to += step;
		} else if (!is_removed) {
			to += line_put(to, row);
		}
		at += step;
	}
	if (row->line == 0) {
		if (to > text && to[-1] != '\n')
			*to++ = '\n';
		to += line_put(to, row);
	}
	return text;
}

static int text_check(const struct secrets *secrets, const char *text)
{
	uint32_t row_max = secrets->row_count + 1;
	struct keyfile_row *rows = calloc(row_max, sizeof(*rows));
	char message[256] = "";
	int count;

	if (rows == NULL)
		return cmd_fail(-ENOMEM, "no memory");
	count = keyfile_parse(text, rows, row_max, message);
	explicit_bzero(rows, row_max * sizeof(*rows));
	free(rows);
	if (count < 0)
		return cmd_fail(-EINVAL, "%s is not changed: it would say, in %s", secrets->path,
				message);
	if (count == 0)
		return cmd_fail(-EINVAL,
				"%s is not changed: a server does not start without a tenant",
				secrets->path);
	return 0;
}

static int file_fill(int fd, const char *text, const struct stat *like)
{
	size_t size = strlen(text);

	if (fchown(fd, like->st_uid, like->st_gid) < 0)
		return -errno;
	while (size > 0) {
		ssize_t wrote = write(fd, text, size);

		if (wrote < 0)
			return -errno;
		text += wrote;
		size -= (size_t)wrote;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

static int file_replace(const struct secrets *secrets, const char *text)
{
	char path[sizeof(secrets->path) + 8];
	struct stat like;
	int fd;
	int rc;

	if (stat(secrets->path, &like) < 0)
		return -errno;
	snprintf(path, sizeof(path), "%s.new", secrets->path);
	(void)unlink(path); /* of an edit that was cut off */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	rc = file_fill(fd, text, &like);
	close(fd);
	if (rc == 0 && rename(path, secrets->path) < 0)
		rc = -errno;
	if (rc < 0)
		(void)unlink(path); /* what failed is told */
	else if (fsync(secrets->lock_fd) < 0)
		rc = -errno;
	return rc;
}

int secrets_write(const struct secrets *secrets, const struct keyfile_row *row, bool is_removed)
{
	char *text = text_edit(secrets, row, is_removed);
	int rc;

	ASSERT(secrets->lock_fd >= 0);
	if (text == NULL)
		return cmd_fail(-ENOMEM, "no memory");
	rc = text_check(secrets, text);
	if (rc == 0) {
		rc = file_replace(secrets, text);
		if (rc < 0)
			cmd_fail(rc, "cannot write %s: %s", secrets->path, err_str(rc));
	}
	explicit_bzero(text, strlen(text));
	free(text);
	return rc;
}
