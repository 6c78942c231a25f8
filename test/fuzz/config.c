/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file of `start`: YAML by libcyaml, values as options. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../src/cmd/cmd.h"
#include "fuzz.h"

/* The command's own writes a line to standard error. */
int cmd_fail(int code, const char *format, ...)
{
	ASSERT(strlen(format) > 0);
	return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	const struct opt_set set = { .is_set = { [3] = true } };
	struct options options;
	char path[64];
	int rc;
	int fd = memfd_create("config", MFD_CLOEXEC);

	ASSERT(fd >= 0);
	ASSERT(write(fd, bytes, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	options_init(&options);
	rc = cmd_config_load(path, &options, &set);
	ASSERT(rc <= 0);
	close(fd);
	return 0;
}
