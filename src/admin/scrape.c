/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three groups: what the server is (ctxkv_build_info, ctxkv_state); the rows of metrics.def by
 * reactor; what is told by shard, tenant and namespace. How many lines there can be is bounded by
 * the rows of a view: 64 shards, SCRAPE_TENANTS tenants, SCRAPE_SAVINGS namespaces.
 */
#include "scrape.h"

#include <inttypes.h>
#include <string.h>

#include "../../include/ctxkv.h"
#include "../base/text.h"

#define SCRAPE_TENANTS 256
#define SCRAPE_SAVINGS 256

static void family(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_server(FILE *out, const struct view *view)
{
	char uuid[33];

	family(out, "ctxkv_build_info", "gauge", "Version and UUID of the server; always 1.");
	text_format_hex(uuid, sizeof(uuid), view->info.uuid, sizeof(view->info.uuid));
	fprintf(out, "ctxkv_build_info{version=\"%d.%d.%d\",server=\"%s\"} 1\n",
		CTXKV_VERSION_MAJOR, CTXKV_VERSION_MINOR, CTXKV_VERSION_PATCH, uuid);
	family(out, "ctxkv_state", "gauge", "1 at the state that the server is in.");
	for (int state = ADMIN_STARTING; state <= ADMIN_DRAINING; state++)
		fprintf(out, "ctxkv_state{state=\"%s\"} %d\n", admin_state_names[state],
			view->state == (enum admin_state)state);
	family(out, "ctxkv_reactors_silent", "gauge",
	       "Reactors that did not answer this scrape in time; their samples are zero.");
	fprintf(out, "ctxkv_reactors_silent %u\n", view->silent_count);
}

/* --- shards --- */

static void print_shard_gauge(FILE *out, const struct view *view, const char *name,
			      const char *help, size_t offset)
{
	family(out, name, "gauge", help);
	for (uint32_t i = 0; i < view->shard_count; i++) {
		const struct shard_row *row = &view->shards[i];
		uint64_t value;

		memcpy(&value, (const char *)&row->stats + offset, sizeof(value));
		fprintf(out, "%s{shard=\"%u\",reactor=\"%u\",medium=\"%u\"} %" PRIu64 "\n", name,
			row->index, row->reactor, row->medium, value);
	}
}

static void print_shards(FILE *out, const struct view *view)
{
	family(out, "ctxkv_shard_online", "gauge",
	       "1: the shard serves; 0: its medium has failed or is missing.");
	for (uint32_t i = 0; i < view->shard_count; i++)
		fprintf(out, "ctxkv_shard_online{shard=\"%u\",reactor=\"%u\",medium=\"%u\"} %d\n",
			view->shards[i].index, view->shards[i].reactor, view->shards[i].medium,
			view->shards[i].state == SHARD_STATE_ONLINE);
	print_shard_gauge(out, view, "ctxkv_shard_capacity_bytes",
			  "Payload that the shard has room for.",
			  offsetof(struct shard_stats, capacity));
	print_shard_gauge(out, view, "ctxkv_shard_payload_bytes", "Payload in the shard.",
			  offsetof(struct shard_stats, block_bytes));
	print_shard_gauge(out, view, "ctxkv_shard_oldest_seconds", "Age of its oldest block.",
			  offsetof(struct shard_stats, oldest_s));
}

/* --- tenants --- */

static void print_tenant_gauge(FILE *out, const struct view *view, const char *name,
			       const char *help, size_t offset)
{
	family(out, name, "gauge", help);
	for (uint32_t i = 0; i < MIN(view->tenant_count, SCRAPE_TENANTS); i++) {
		uint64_t value;

		memcpy(&value, (const char *)&view->tenants[i] + offset, sizeof(value));
		fprintf(out, "%s{tenant=\"%s\"} %" PRIu64 "\n", name, view->tenants[i].name, value);
	}
}

static void print_tenants(FILE *out, const struct view *view)
{
	print_tenant_gauge(out, view, "ctxkv_tenant_used_bytes",
			   "Payload in the store that the tenant put first.",
			   offsetof(struct tenant_row, used_bytes));
	print_tenant_gauge(out, view, "ctxkv_tenant_quota_bytes",
			   "What it may have here; 0: as much as there is room.",
			   offsetof(struct tenant_row, quota_bytes));
	print_tenant_gauge(out, view, "ctxkv_tenant_sessions", "Its open sessions.",
			   offsetof(struct tenant_row, session_count));
}

/* --- savings --- */

/* A value of a namespace; NaN is never printed: a sample that is not known is left out. */
struct saving_value {
	double value;
	bool is_known;
};

enum saving_what {
	SAVING_LOADED,
	SAVING_RECOMPUTED,
	SAVING_LOAD,
	SAVING_PREFILL,
	SAVING_GPU,
	SAVING_MONEY,
	SAVING_AGAIN_SHARE,
	SAVING_AGAIN,
	SAVING_MISS_FORGOTTEN,
	SAVING_MISS_NEW,
};

static struct saving_value saving_value(const struct saving_row *row, uint64_t gpu_cents,
					enum saving_what what)
{
	const struct saving_sum sum = saving_sum(row, gpu_cents);

	switch (what) {
	case SAVING_LOADED:
		return (struct saving_value) { (double)row->tokens_loaded, true };
	case SAVING_RECOMPUTED:
		return (struct saving_value) { (double)row->tokens_recomputed, true };
	case SAVING_LOAD:
		return (struct saving_value) { sum.load_s, true };
	case SAVING_PREFILL:
		return (struct saving_value) { sum.prefill_s, true };
	case SAVING_GPU:
		return (struct saving_value) { sum.gpu_s, sum.is_measured };
	case SAVING_MONEY:
		return (struct saving_value) { sum.money, sum.is_measured };
	case SAVING_AGAIN_SHARE:
		return (struct saving_value) { sum.again_share, sum.is_again_measured };
	case SAVING_AGAIN:
		return (struct saving_value) { sum.again_s, sum.is_again_measured };
	case SAVING_MISS_FORGOTTEN:
		return (struct saving_value) { (double)row->miss_forgotten, true };
	case SAVING_MISS_NEW:
		return (struct saving_value) { (double)row->miss_new, true };
	}
	ASSERT(false);
	return (struct saving_value) { 0, false };
}

static void print_savings(FILE *out, const struct view *view)
{
	static const struct {
		enum saving_what what;
		const char *name;
		const char *type;
		const char *help;
	} rows[] = {
		{ SAVING_LOADED, "ctxkv_saving_tokens_loaded_total", "counter",
		  "Tokens loaded instead of computed." },
		{ SAVING_RECOMPUTED, "ctxkv_saving_tokens_recomputed_total", "counter",
		  "Tokens computed although they could have been loaded." },
		{ SAVING_LOAD, "ctxkv_saving_load_seconds_total", "counter",
		  "Time spent loading." },
		{ SAVING_PREFILL, "ctxkv_saving_prefill_seconds_total", "counter",
		  "Time spent computing these." },
		{ SAVING_GPU, "ctxkv_saving_gpu_seconds", "gauge",
		  "GPU-seconds saved, by the measured prefill rate; negative: a loss." },
		{ SAVING_MONEY, "ctxkv_saving_dollars", "gauge",
		  "Money saved, at the option gpu-price." },
		{ SAVING_AGAIN_SHARE, "ctxkv_saving_recomputed_again_ratio", "gauge",
		  "Share of the keys missed that were here once; an estimate from below." },
		{ SAVING_AGAIN, "ctxkv_saving_recomputed_again_seconds", "gauge",
		  "Prefill that recomputed what was here once; an estimate from below." },
		{ SAVING_MISS_FORGOTTEN, "ctxkv_saving_miss_forgotten_total", "counter",
		  "Keys missed that were here once, as far as the index remembers." },
		{ SAVING_MISS_NEW, "ctxkv_saving_miss_new_total", "counter",
		  "Keys missed that the index does not remember." },
	};
	char ns[33];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		family(out, rows[i].name, rows[i].type, rows[i].help);
		for (uint32_t k = 0; k < MIN(view->saving_count, SCRAPE_SAVINGS); k++) {
			const struct saving_row *row = &view->savings[k];
			struct saving_value value =
				saving_value(row, view->gpu_cents, rows[i].what);

			if (!value.is_known)
				continue;
			text_format_hex(ns, sizeof(ns), row->ns, sizeof(row->ns));
			fprintf(out, "%s{tenant=\"%s\",namespace=\"%s\"} %.15g\n", rows[i].name,
				row->tenant, ns, value.value);
		}
	}
}

void scrape_print(FILE *out, const struct view *view)
{
	print_server(out, view);
	if (!view->has_server)
		return;
	metrics_prometheus(out, view->reactors, view->info.reactor_count, "reactor");
	print_shards(out, view);
	print_tenants(out, view);
	print_savings(out, view);
}
