/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that can be shared with a server on this host: what ctxkv_alloc() gives, and the staging
 * area. */
#ifndef CLIENT_SHARED_H
#define CLIENT_SHARED_H

#include "../base/base.h"

struct shared {
	void *base; /* NULL: none */
	uint64_t size;
	uint32_t page_size;
	int fd; /* stays open: by it the memory is passed on */
};

/*
 * size is rounded up. is_huge: of reserved huge pages; -ENOMEM when there are not enough.
 * is_touched: no later first touch costs.
 */
int shared_alloc(struct shared *shared, uint64_t size, bool is_huge, bool is_touched) MUST_USE;
/* Memory of small pages that nobody has used yet, from a multiple of 2 MiB: whole pieces of 2 MiB
 * become one page each, where the kernel can. */
void shared_make_huge(void *base, uint64_t size);
void shared_free(struct shared *shared);

#endif
