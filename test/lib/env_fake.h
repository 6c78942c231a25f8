/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An env for unit tests of one module: virtual clock, disks in memory, every fallible call counted
 * and, on request, failed. No sockets. Loops of several processes, and random faults, are the
 * simulator's (test/sim).
 *
 * Disks      Named by path, made by env_fake_disk(); they outlive handles and power cuts. Pages are
 *            sparse. A write is volatile until a flush that was submitted after its completion has
 *            completed; env_fake_power_cut() keeps or loses each volatile page by chance.
 *            (Rewriting a page while a flush is under way may lose both versions.)
 * I/O        blk_submit() queues; the next poll() applies and completes, in order of submission or
 *            shuffled. Buffers are read and written then, not before.
 * Faults     fail_at: the number of the call that fails (alloc and map: NULL; block calls: -EIO;
 *            counted from 1), fail_count: how many from there on. Success although calls >= fail_at
 *            means that somebody swallowed an error.
 * Power cut  cut_at: the number of the write (from 1) that is torn behind cut_size bytes; after it
 *            nothing reaches a disk, every block call is -EIO, until env_fake_power_cut().
 * Leaks      held counts allocations, maps and open handles; taken adds up what was asked for.
 */
#ifndef TEST_LIB_ENV_FAKE_H
#define TEST_LIB_ENV_FAKE_H

#include "../../src/env/env.h"
#include "../../src/env/timers.h"

#define ENV_FAKE_DISKS 8

struct env_fake_disk {
	char path[64];
	uint64_t size;
	uint64_t page_count;
	uint8_t **pages;   /* NULL: zeros */
	uint8_t **durable; /* of a volatile page: what a power cut may bring back; else NULL */
	uint64_t *stamps;  /* of a volatile page: when it was written */
	bool is_device;
	bool is_open;
};

struct env_fake {
	struct env env;
	uint64_t seed; /* decides random(), shuffling and what a power cut loses */
	uint64_t now_ns;
	uint64_t wall_s;
	bool is_shuffled;
	uint64_t calls; /* fallible ones so far */
	uint64_t fail_at;
	uint64_t fail_count; /* 0: 1 */
	int fail_rc;         /* of block calls; 0: -EIO */
	uint64_t writes;     /* so far, sync and async */
	uint64_t cut_at;
	uint64_t cut_size;
	bool is_cut;
	uint64_t flushes; /* completed */
	uint64_t held;
	uint64_t taken;              /* bytes of allocations and maps, ever */
	struct env_resolve *resolve; /* a name that waits for env_fake_answer() */
	/* Its own. */
	bool is_sealed;
	bool is_woken;
	struct env_task *wake_task;
	struct timers timers;
	struct list tasks;
	struct list ios;
	uint64_t stamp;
	struct env_fake_disk disks[ENV_FAKE_DISKS];
};

void env_fake_init(struct env_fake *fake, uint64_t seed);

/* Frees the disks. Nothing is held. */
void env_fake_fini(struct env_fake *fake);

/* The disk of this path, made of size bytes when there is none. */
struct env_fake_disk *env_fake_disk(struct env_fake *fake, const char *path, uint64_t size);

/* The bytes of a page, to look at or to spoil. */
uint8_t *env_fake_page(struct env_fake_disk *disk, uint64_t page);

/* Bytes that are on the disk now. Not a call of the code under test: neither counted nor failed. */
void env_fake_peek(struct env_fake_disk *disk, void *buf, size_t size, uint64_t offset);
void env_fake_poke(struct env_fake_disk *disk, const void *buf, size_t size, uint64_t offset);

/*
 * The machine loses power and comes back: what was volatile is kept or lost page by page, I/O in
 * flight likewise, timers and tasks are gone, no callback comes. The code under test is freed by
 * the test afterwards, or before.
 */
void env_fake_power_cut(struct env_fake *fake);

/* The name that is waited for has these addresses; none: it does not exist. */
void env_fake_answer(struct env_fake *fake, const char *const *addresses, uint32_t count);

/* poll() until nothing is queued (timers may be set). */
void env_fake_settle(struct env_fake *fake);

#endif
