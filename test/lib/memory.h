/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory as clients have it: files of nowhere, and who has them mapped. */
#ifndef TEST_LIB_MEMORY_H
#define TEST_LIB_MEMORY_H

#include "../../src/base/base.h"

/* A descriptor of memory of that size. */
int memory_make(const char *name, size_t size);

/* Mappings of that file in this process, as /proc/self/maps has them. */
uint32_t memory_mapping_count(int fd);

#endif
