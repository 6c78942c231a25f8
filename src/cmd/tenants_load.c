/* SPDX-License-Identifier: Apache-2.0 */
/* The secrets file of start: read when the server begins, and again at each SIGHUP. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd.h"
#include "tenants_load.h"

int cmd_tenants_load(struct env *env, const char *path, struct tenants **tenants_out,
		     char message_out[512])
{
	char why[256] = "";
	struct stat st;
	char *text;
	int rc;

	if (stat(path, &st) == 0 && (st.st_mode & 077) != 0) {
		snprintf(message_out, 512, "%.200s can be read by others: chmod 600 %.200s", path,
			 path);
		return -EPERM;
	}
	text = cmd_read_file(path);
	if (text == NULL) {
		rc = errno != 0 ? -errno : -EIO;
		snprintf(message_out, 512, "cannot read %.400s: %s", path, err_str(rc));
		return rc;
	}
	rc = tenants_create(env, text, tenants_out, why);
	explicit_bzero(text, strlen(text));
	free(text);
	if (rc < 0)
		snprintf(message_out, 512, "%.200s: %s", path, why[0] != '\0' ? why : err_str(rc));
	return rc;
}
