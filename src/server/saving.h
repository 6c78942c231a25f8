/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store saves, metered by namespace: the sums of what clients REPORT, and how many of the
 * keys that were asked for and are not here were here once.
 *
 * A table of SAVING_ROWS rows by (tenant, namespace). A report makes the row; probes and gets of a
 * namespace that nobody reports about are not counted, so that asking alone pushes nobody out. A
 * tenant has at most SAVING_TENANT_ROWS: beyond that, and when the table is full, the row that was
 * reported to longest ago gives way (of the same tenant first). Its sums then are only in the
 * totals of metrics.def, which never shrink.
 *
 * Threads    The reactor's. Pure: no clock, no outside.
 * Memory     saving_memory_size(), taken by the reactor.
 */
#ifndef SERVER_SAVING_H
#define SERVER_SAVING_H

#include "../base/list.h"
#include "../wire/wire.h"

#define SAVING_ROWS        256
#define SAVING_TENANT_ROWS 64
#define SAVING_BUCKETS     256

/* A report beyond these is refused: sums could wrap. */
#define SAVING_TOKENS_MAX (UINT64_C(1) << 40)
#define SAVING_NS_MAX     (UINT64_C(1) << 53) /* 104 days */

/* Sums of one namespace of one tenant since the reactor started. */
struct saving_row {
	char tenant[WIRE_TENANT_MAX];
	uint8_t tenant_id[16];
	uint8_t ns[16];
	uint64_t reports;
	uint64_t tokens_loaded;
	uint64_t tokens_recomputed;
	uint64_t load_ns;
	uint64_t prefill_ns;
	uint64_t miss_forgotten; /* keys asked for that were here once */
	uint64_t miss_new;       /* keys asked for that this store does not remember */
};

struct saving_slot {
	struct saving_row row;
	struct list bucket; /* of the table; or alone: free */
	struct list age;    /* table->ages, oldest report first; or table->free */
};

struct saving {
	struct list buckets[SAVING_BUCKETS];
	struct list ages;
	struct list free;
	uint64_t replaced; /* rows that gave way */
	struct saving_slot slots[SAVING_ROWS];
};

void saving_init(struct saving *saving);

/* 0, or -EINVAL: numbers that no engine can mean. */
int saving_report(struct saving *saving, const char *tenant, const uint8_t tenant_id[16],
		  const uint8_t ns[16], const struct wire_report *report) MUST_USE;

/* The row that misses of this namespace count in; NULL: none is kept. Valid until the next report.
 */
struct saving_row *saving_find(struct saving *saving, const uint8_t tenant_id[16],
			       const uint8_t ns[16]);

/* Copy rows into out, at most row_max; tenant_id NULL: of all tenants. Returns how many. */
uint32_t saving_rows(const struct saving *saving, const uint8_t *tenant_id, struct saving_row *out,
		     uint32_t row_max);

/* The row of a slot below SAVING_ROWS; NULL: it has none. */
const struct saving_row *saving_row_at(const struct saving *saving, uint32_t slot);

/* Add more to the row of the same tenant and namespace among count rows, or append it (never beyond
 * row_max: then it is left out). Returns the new count. */
uint32_t saving_merge(struct saving_row *rows, uint32_t count, uint32_t row_max,
		      const struct saving_row *more);

/*
 * What the sums mean. A token loaded saved what computing one costs in the same namespace, less
 * what loading it cost:
 *
 *   gpu_s = tokens_loaded * (prefill_s / tokens_recomputed) - load_s
 *
 * Negative: loading cost more than it saved. Without a measured prefill (is_measured false) nothing
 * is claimed. docs/operating/saving.md tells when this is too kind and when too harsh.
 */
struct saving_sum {
	double load_s;
	double prefill_s;
	double gpu_s;
	double money;           /* of gpu_s, at cents an hour */
	double again_share;     /* of the keys that missed: were here once; 0 … 1 */
	double again_s;         /* prefill_s * again_share: the prefill that a larger store saves */
	bool is_measured;       /* gpu_s and money say something */
	bool is_again_measured; /* again_share and again_s do */
};

struct saving_sum saving_sum(const struct saving_row *row, uint64_t gpu_cents);

/* Lines "saving_<namespace>_<what> value"; returns the size, at most buf_size - 1 (cut at a line).
 */
uint32_t saving_format(const struct saving_row *row, uint64_t gpu_cents, char *buf,
		       uint32_t buf_size);

#endif
