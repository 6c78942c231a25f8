/* SPDX-License-Identifier: Apache-2.0 */
/* What the rest of the store needs of an open medium; store.h has what everybody may call. */
#ifndef STORE_MEDIUM_H
#define STORE_MEDIUM_H

#include "store.h"

/* Belongs to the medium. */
struct env_blk *medium_blk(struct medium *medium);

/* Where shard index (below medium_info.shard_count) lies. */
struct disk_extent medium_extent(const struct medium *medium, uint32_t index);

/* The label that was believed; whether a page is a whole one. */
const struct disk_label *medium_label(const struct medium *medium);
bool medium_label_is_whole(const struct disk_label *label);

#endif
