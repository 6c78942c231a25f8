/* SPDX-License-Identifier: Apache-2.0 */
/* memcached, by its meta commands. TARGET: HOST:PORT. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load_socket.h"

static int meta_set(char *buf, size_t size, const char *name, uint64_t payload_size)
{
	return snprintf(buf, size, "ms %s %" PRIu64 "\r\n", name, payload_size);
}

static int meta_get(char *buf, size_t size, const char *name)
{
	return snprintf(buf, size, "mg %s v\r\n", name);
}

static int meta_here(char *buf, size_t size, const char *name)
{
	return snprintf(buf, size, "mg %s\r\n", name); /* no flag: no value */
}

/* Else "SERVER_ERROR out of memory storing object" and the like: not taken. */
static enum load_status set_status(const char *line)
{
	return strncmp(line, "HD", 2) == 0 ? LOAD_OK : LOAD_FAILED;
}

/* "VA SIZE", or "EN" where there is none. */
static enum load_status get_status(const char *line, uint64_t *size_out)
{
	if (strncmp(line, "VA ", 3) == 0) {
		*size_out = strtoull(line + 3, NULL, 10);
		return LOAD_OK;
	}
	return strncmp(line, "EN", 2) == 0 ? LOAD_MISSING : LOAD_FAILED;
}

static enum load_status here_status(const char *line)
{
	if (strncmp(line, "HD", 2) == 0)
		return LOAD_OK;
	return strncmp(line, "EN", 2) == 0 ? LOAD_MISSING : LOAD_FAILED;
}

static void *memcached_open(const char *target)
{
	static const struct load_dialect dialect = {
		.set = meta_set,
		.get = meta_get,
		.here = meta_here,
		.set_status = set_status,
		.get_status = get_status,
		.here_status = here_status,
	};

	return load_socket_open(target, &dialect);
}

const struct load_backend load_memcached = {
	.name = "memcached",
	.open = memcached_open,
	.put = load_socket_put,
	.get = load_socket_get,
	.probe = load_socket_probe,
};
