/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open loop: when operations are due, however earlier ones fare. Several clients share a rate:
 * each has every `step`-th operation of it, from `first` on. An operation's latency counts from
 * when it was due, so that one that had to wait for a slow server, or for its turn behind one, has
 * waited (no coordinated omission).
 */
#ifndef CMD_PACE_H
#define CMD_PACE_H

#include "../base/base.h"

struct pace {
	uint64_t begin_ns;
	uint64_t rate; /* operations a second, of all clients together; not 0 */
	uint64_t first;
	uint64_t step;
};

/* When the client's operation `index` is due. */
static inline uint64_t pace_due_ns(const struct pace *pace, uint64_t index)
{
	uint64_t operation = pace->first + index * pace->step;

	/* In two parts: exact, and without an overflow however long it runs. */
	return pace->begin_ns + operation / pace->rate * NS_PER_S +
	       operation % pace->rate * NS_PER_S / pace->rate;
}

/* How long to sleep before operation `index`: not to the last moment, as who sleeps wakes late. */
#define PACE_AWAKE_NS (100 * NS_PER_US)

static inline uint64_t pace_sleep_ns(const struct pace *pace, uint64_t index, uint64_t now_ns)
{
	uint64_t due_ns = pace_due_ns(pace, index);

	return due_ns > now_ns + PACE_AWAKE_NS ? due_ns - now_ns - PACE_AWAKE_NS : 0;
}

#endif
