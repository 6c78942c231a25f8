/* SPDX-License-Identifier: Apache-2.0 */
/* Payload that derives from a key and a position, so that every byte read back can be checked. */
#ifndef CMD_CONTENT_H
#define CMD_CONTENT_H

#include "../../include/ctxkv.h"
#include "../base/base.h"

/* The key of the part-th block of something numbered id. */
struct ctxkv_key content_key(uint64_t id, uint64_t part);

void content_fill(void *buf, uint64_t size, const struct ctxkv_key *key);
bool content_is_right(const void *buf, uint64_t size, const struct ctxkv_key *key);

#endif
