/* SPDX-License-Identifier: Apache-2.0 */
#include "saving.h"

#include <stdio.h>
#include <string.h>

#include "../base/hash.h"
#include "../base/text.h"

static struct list *bucket_of(struct saving *saving, const uint8_t tenant_id[16],
			      const uint8_t ns[16])
{
	uint8_t both[32];

	memcpy(both, tenant_id, 16);
	memcpy(both + 16, ns, 16);
	return &saving->buckets[hash128(both, sizeof(both), 0).lo % SAVING_BUCKETS];
}

static bool row_is(const struct saving_row *row, const uint8_t tenant_id[16], const uint8_t ns[16])
{
	return memcmp(row->tenant_id, tenant_id, 16) == 0 && memcmp(row->ns, ns, 16) == 0;
}

static struct saving_slot *slot_find(struct saving *saving, const uint8_t tenant_id[16],
				     const uint8_t ns[16])
{
	list_for_each (pos, bucket_of(saving, tenant_id, ns)) {
		struct saving_slot *slot = list_entry(pos, struct saving_slot, bucket);

		if (row_is(&slot->row, tenant_id, ns))
			return slot;
	}
	return NULL;
}

void saving_init(struct saving *saving)
{
	list_init(&saving->ages);
	list_init(&saving->free);
	saving->replaced = 0;
	for (uint32_t i = 0; i < SAVING_BUCKETS; i++)
		list_init(&saving->buckets[i]);
	for (uint32_t i = 0; i < SAVING_ROWS; i++) {
		list_init(&saving->slots[i].bucket);
		list_init(&saving->slots[i].age);
		list_add_tail(&saving->free, &saving->slots[i].age);
	}
}

/* The tenant's row that was reported to longest ago, and how many rows it has. */
static struct saving_slot *oldest_of(const struct saving *saving, const uint8_t tenant_id[16],
				     uint32_t *count_out)
{
	struct saving_slot *oldest = NULL;

	*count_out = 0;
	list_for_each (pos, &saving->ages) {
		struct saving_slot *slot = list_entry(pos, struct saving_slot, age);

		if (memcmp(slot->row.tenant_id, tenant_id, 16) != 0)
			continue;
		if (oldest == NULL)
			oldest = slot;
		(*count_out)++;
	}
	return oldest;
}

/* A slot for a row that is new: a free one, or that of the row that gives way. */
static struct saving_slot *slot_take(struct saving *saving, const uint8_t tenant_id[16])
{
	uint32_t count;
	struct saving_slot *slot = oldest_of(saving, tenant_id, &count);

	if (count < SAVING_TENANT_ROWS) {
		slot = list_head(&saving->free, struct saving_slot, age);
		if (slot != NULL)
			return slot;
		slot = list_head(&saving->ages, struct saving_slot, age);
	}
	ASSERT(slot != NULL);
	list_del(&slot->bucket);
	saving->replaced++;
	return slot;
}

static struct saving_slot *slot_make(struct saving *saving, const char *tenant,
				     const uint8_t tenant_id[16], const uint8_t ns[16])
{
	struct saving_slot *slot = slot_take(saving, tenant_id);

	memset(&slot->row, 0, sizeof(slot->row));
	memcpy(slot->row.tenant, tenant, strnlen(tenant, WIRE_TENANT_MAX - 1));
	memcpy(slot->row.tenant_id, tenant_id, 16);
	memcpy(slot->row.ns, ns, 16);
	list_add_tail(bucket_of(saving, tenant_id, ns), &slot->bucket);
	return slot;
}

int saving_report(struct saving *saving, const char *tenant, const uint8_t tenant_id[16],
		  const uint8_t ns[16], const struct wire_report *report)
{
	struct saving_slot *slot;

	if (report->tokens_loaded > SAVING_TOKENS_MAX ||
	    report->tokens_recomputed > SAVING_TOKENS_MAX || report->load_ns > SAVING_NS_MAX ||
	    report->prefill_ns > SAVING_NS_MAX)
		return -EINVAL;
	slot = slot_find(saving, tenant_id, ns);
	if (slot == NULL)
		slot = slot_make(saving, tenant, tenant_id, ns);
	list_del(&slot->age);
	list_add_tail(&saving->ages, &slot->age);
	slot->row.reports++;
	slot->row.tokens_loaded += report->tokens_loaded;
	slot->row.tokens_recomputed += report->tokens_recomputed;
	slot->row.load_ns += report->load_ns;
	slot->row.prefill_ns += report->prefill_ns;
	return 0;
}

struct saving_row *saving_find(struct saving *saving, const uint8_t tenant_id[16],
			       const uint8_t ns[16])
{
	struct saving_slot *slot = slot_find(saving, tenant_id, ns);

	return slot != NULL ? &slot->row : NULL;
}

uint32_t saving_rows(const struct saving *saving, const uint8_t *tenant_id, struct saving_row *out,
		     uint32_t row_max)
{
	uint32_t count = 0;

	/* The latest first: what is cut is what nobody has reported to for longest. */
	for (const struct list *pos = saving->ages.prev; pos != &saving->ages && count < row_max;
	     pos = pos->prev) {
		const struct saving_slot *slot = list_entry(pos, struct saving_slot, age);

		if (tenant_id == NULL || memcmp(slot->row.tenant_id, tenant_id, 16) == 0)
			out[count++] = slot->row;
	}
	return count;
}

const struct saving_row *saving_row_at(const struct saving *saving, uint32_t slot)
{
	ASSERT(slot < SAVING_ROWS);
	return list_is_empty(&saving->slots[slot].bucket) ? NULL : &saving->slots[slot].row;
}

uint32_t saving_merge(struct saving_row *rows, uint32_t count, uint32_t row_max,
		      const struct saving_row *more)
{
	for (uint32_t i = 0; i < count; i++) {
		struct saving_row *row = &rows[i];

		if (!row_is(row, more->tenant_id, more->ns))
			continue;
		row->reports += more->reports;
		row->tokens_loaded += more->tokens_loaded;
		row->tokens_recomputed += more->tokens_recomputed;
		row->load_ns += more->load_ns;
		row->prefill_ns += more->prefill_ns;
		row->miss_forgotten += more->miss_forgotten;
		row->miss_new += more->miss_new;
		return count;
	}
	if (count == row_max)
		return count;
	rows[count] = *more;
	return count + 1;
}

struct saving_sum saving_sum(const struct saving_row *row, uint64_t gpu_cents)
{
	uint64_t misses = row->miss_forgotten + row->miss_new;
	struct saving_sum sum = {
		.load_s = (double)row->load_ns / (double)NS_PER_S,
		.prefill_s = (double)row->prefill_ns / (double)NS_PER_S,
		.is_measured = row->tokens_recomputed > 0 && row->prefill_ns > 0,
		.is_again_measured = misses > 0,
	};

	if (sum.is_measured) {
		sum.gpu_s = (double)row->tokens_loaded *
				    (sum.prefill_s / (double)row->tokens_recomputed) -
			    sum.load_s;
		sum.money = sum.gpu_s / 3600 * (double)gpu_cents / 100;
	}
	if (sum.is_again_measured) {
		sum.again_share = (double)row->miss_forgotten / (double)misses;
		sum.again_s = sum.prefill_s * sum.again_share;
	}
	return sum;
}

uint32_t saving_format(const struct saving_row *row, uint64_t gpu_cents, char *buf,
		       uint32_t buf_size)
{
	const struct saving_sum sum = saving_sum(row, gpu_cents);
	const struct {
		const char *name;
		double value;
		int digits;
		bool is_known;
	} lines[] = {
		{ "reports", (double)row->reports, 0, true },
		{ "tokens_loaded", (double)row->tokens_loaded, 0, true },
		{ "tokens_recomputed", (double)row->tokens_recomputed, 0, true },
		{ "load_seconds", sum.load_s, 3, true },
		{ "prefill_seconds", sum.prefill_s, 3, true },
		{ "gpu_seconds_saved", sum.gpu_s, 3, sum.is_measured },
		{ "money_saved", sum.money, 2, sum.is_measured },
		{ "recomputed_again_share", sum.again_share, 4, sum.is_again_measured },
		{ "recomputed_again_seconds", sum.again_s, 3, sum.is_again_measured },
	};
	char ns[33];
	uint32_t used = 0;

	text_format_hex(ns, sizeof(ns), row->ns, sizeof(row->ns));
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		int size;

		if (!lines[i].is_known)
			continue;
		size = snprintf(buf + used, buf_size - used, "saving_%s_%s %.*f\n", ns,
				lines[i].name, lines[i].digits, lines[i].value);
		ASSERT(size > 0);
		if ((uint32_t)size >= buf_size - used)
			break;
		used += (uint32_t)size;
	}
	buf[used] = '\0';
	return used;
}
