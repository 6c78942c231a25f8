/* SPDX-License-Identifier: Apache-2.0 */
/* Redis and Valkey, by RESP. TARGET: HOST:PORT. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "load_socket.h"

static int redis_set(char *buf, size_t size, const char *name, uint64_t payload_size)
{
	return snprintf(buf, size, "*3\r\n$3\r\nSET\r\n$64\r\n%s\r\n$%" PRIu64 "\r\n", name,
			payload_size);
}

static int redis_get(char *buf, size_t size, const char *name)
{
	return snprintf(buf, size, "*2\r\n$3\r\nGET\r\n$64\r\n%s\r\n", name);
}

static int redis_exists(char *buf, size_t size, const char *name)
{
	return snprintf(buf, size, "*2\r\n$6\r\nEXISTS\r\n$64\r\n%s\r\n", name);
}

/* Else "-OOM ..." and the like: not taken. */
static enum load_status set_status(const char *line)
{
	return line[0] == '+' ? LOAD_OK : LOAD_FAILED;
}

/* "$SIZE", or "$-1" where there is none. */
static enum load_status get_status(const char *line, uint64_t *size_out)
{
	if (line[0] != '$')
		return LOAD_FAILED;
	*size_out = strtoull(line + 1, NULL, 10);
	return line[1] == '-' ? LOAD_MISSING : LOAD_OK;
}

static enum load_status exists_status(const char *line)
{
	if (line[0] != ':')
		return LOAD_FAILED;
	return line[1] == '1' ? LOAD_OK : LOAD_MISSING;
}

static void *redis_open(const char *target)
{
	static const struct load_dialect dialect = {
		.set = redis_set,
		.get = redis_get,
		.here = redis_exists,
		.set_status = set_status,
		.get_status = get_status,
		.here_status = exists_status,
	};

	return load_socket_open(target, &dialect);
}

const struct load_backend load_redis = {
	.name = "redis",
	.open = redis_open,
	.put = load_socket_put,
	.get = load_socket_get,
	.probe = load_socket_probe,
};
