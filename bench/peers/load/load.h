/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peers_load: one client of one store, told by lines on its standard input what to do, answering
 * each with a line of JSON (load.c). A back end knows how to move a walk of blocks; the walk, the
 * content that derives from its keys, the clock and the check of what arrived are the same for all,
 * and load_content.c lends the same content to clients written in Python.
 *
 * A back end ends the process (load_die) when it cannot go on at all: the harness then has a row
 * "failed" with the last line of standard error.
 */
#ifndef PEERS_LOAD_H
#define PEERS_LOAD_H

#include "../../../src/base/base.h"
#include "../../../src/cmd/content.h"

#define LOAD_NAME_SIZE 65 /* a key in hex, and the NUL */

enum load_status {
	LOAD_SKIPPED, /* not begun when the time was up */
	LOAD_OK,
	LOAD_MISSING,
	LOAD_FAILED,
};

/* One block of a walk. */
struct load_block {
	struct ctxkv_key key;
	char name[LOAD_NAME_SIZE]; /* the same key, for stores whose keys are text */
	char *bytes;               /* page-aligned; put: content, get: room */
	enum load_status status;   /* out */
};

struct load_walk {
	struct load_block *blocks;
	uint64_t count;
	uint64_t size;     /* of each block */
	uint64_t batch;    /* blocks in flight at most */
	uint64_t until_ns; /* begin none later */
};

struct load_backend {
	const char *name;
	/* target: of the harness's peer module. Never NULL. */
	void *(*open)(const char *target);
	/* Memory for all blocks, where the store's client likes some kind best. NULL: any. */
	void *(*memory)(void *store, uint64_t size);
	void (*put)(void *store, const struct load_walk *walk);
	void (*get)(void *store, const struct load_walk *walk);
	/* Which are here: LOAD_OK or LOAD_MISSING. */
	void (*probe)(void *store, const struct load_walk *walk);
	/* Forget them. NULL: the store does so by itself when it is full. */
	void (*drop)(void *store, const struct load_walk *walk);
};

extern const struct load_backend load_ctxkv;
extern const struct load_backend load_files;
extern const struct load_backend load_memcached;
extern const struct load_backend load_redis;

_Noreturn void load_die(const char *format, ...) PRINTF_LIKE(1, 2);

/* Whether another block of the walk may begin. */
bool load_is_over(const struct load_walk *walk);

#endif
