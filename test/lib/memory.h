/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory as clients have it, and what this process has of it and of descriptors. */
#ifndef TEST_LIB_MEMORY_H
#define TEST_LIB_MEMORY_H

#include "../../src/base/base.h"

/* A descriptor of memory of that size. */
int memory_make(const char *name, size_t size);

/* Mappings of that file in this process, as /proc/self/maps has them. */
uint32_t memory_mapping_count(int fd);

/* Descriptors of this process, of the first 256. */
uint32_t descriptor_count(void);

#endif
