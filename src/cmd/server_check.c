/* SPDX-License-Identifier: Apache-2.0 */
#include "server_check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../admin/address.h"

/* The colon before the port of "1.2.3.4:9900" or "[::1]:9900"; NULL: there is none. */
static const char *port_colon(const char *text)
{
	const char *close = strchr(text, ']');
	const char *colon = strrchr(text, ':');

	if (colon == NULL)
		return NULL;
	return (close != NULL ? colon == close + 1 : strchr(text, ':') == colon) ? colon : NULL;
}

static int listen_check(const char *listen)
{
	union admin_address address;

	if (port_colon(listen) == NULL || admin_address_parse(listen, &address) < 0)
		return cmd_fail(-EINVAL,
				"listen: '%s' is no ADDRESS:PORT such as 0.0.0.0:9900 or "
				"[::]:9900; the address is one of this host, not a name",
				listen);
	return 0;
}

static int admin_listen_check(const char *listen)
{
	union admin_address address;

	if (strcmp(listen, "none") != 0 && admin_address_parse(listen, &address) < 0)
		return cmd_fail(-EINVAL,
				"admin-listen: '%s' is no ADDRESS:PORT such as 127.0.0.1:9901; "
				"'none' goes without",
				listen);
	return 0;
}

int cmd_server_check(const struct options *options)
{
	int rc;

	if (options->secrets[0] == '\0')
		return cmd_fail(-EINVAL, "no secrets file is named; 'ctxkv setup' makes one, "
					 "--secrets FILE names one");
	if ((options->media[0] == '\0') == (options->memory == 0))
		return cmd_fail(-EINVAL, "name media (media) or memory mode (memory), one of them");
	if (options->memory != 0 && options->buffers != 0)
		return cmd_fail(-EINVAL,
				"buffers (--buffers) are of media: in memory mode blocks go from "
				"and to where they stay; leave them out");
	rc = listen_check(options->listen);
	return rc == 0 ? admin_listen_check(options->admin_listen) : rc;
}

int cmd_private_check(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return cmd_fail(-errno, "cannot read %s: %s", path, err_str(errno));
	if ((st.st_mode & 077) != 0)
		return cmd_fail(-EPERM, "%s can be read by others: chmod 600 %s", path, path);
	return 0;
}

bool cmd_listen_reach(const char *listen, char *buf, size_t buf_size)
{
	const char *colon = port_colon(listen);
	union admin_address address;
	bool is_any;

	if (admin_address_parse(listen, &address) < 0 || address.v4.sin_port == 0)
		return false;
	is_any = address.any.sa_family == AF_INET ? address.v4.sin_addr.s_addr == htonl(INADDR_ANY)
						  : IN6_IS_ADDR_UNSPECIFIED(&address.v6.sin6_addr);
	if (is_any)
		snprintf(buf, buf_size, "localhost%s", colon != NULL ? colon : "");
	else
		snprintf(buf, buf_size, "%s", listen);
	return true;
}
