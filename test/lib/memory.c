/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include "t.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int memory_make(const char *name, size_t size)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

uint32_t memory_mapping_count(int fd)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	uint32_t count = 0;
	char inode[32];
	char line[512];
	struct stat st;

	assert_non_null(maps);
	assert_int_equal(fstat(fd, &st), 0);
	snprintf(inode, sizeof(inode), " %lu ", (unsigned long)st.st_ino);
	while (fgets(line, sizeof(line), maps) != NULL)
		count += strstr(line, inode) != NULL;
	fclose(maps);
	return count;
}

uint32_t descriptor_count(void)
{
	uint32_t count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}
