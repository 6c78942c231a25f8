/* SPDX-License-Identifier: Apache-2.0 */
#include "status.h"

#include <stdio.h>
#include <string.h>

#include "../../include/ctxkv.h"
#include "../base/text.h"

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)MIN(value, (uint64_t)INT64_MAX));
}

static json_t *hex(const void *bytes, size_t size)
{
	char text[65];

	ASSERT(2 * size < sizeof(text));
	return json_string(text_format_hex(text, sizeof(text), bytes, size));
}

/* --- configuration --- */

/* Every option of start but the ones that only say where its file is. */
static json_t *configuration_json(const struct options *options)
{
	json_t *object = json_object();
	char text[OPT_TEXT_MAX];

	for (size_t i = 0; i < opt_count; i++) {
		const struct opt *opt = &opt_table[i];

		if ((opt->where & IN_START) == 0 || strcmp(opt->name, "config") == 0 ||
		    strcmp(opt->name, "dir") == 0)
			continue;
		json_object_set_new(object, opt->name,
				    json_string(options_format(options, opt, text, sizeof(text))));
	}
	return object;
}

/* --- rows --- */

static json_t *histogram_json(const struct metric_histogram *histogram)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "count", number(metric_histogram_count(histogram)),
			 "sum_ns", number(histogram->sum_ns), "p50_ns",
			 number(metric_histogram_quantile(histogram, 500)), "p99_ns",
			 number(metric_histogram_quantile(histogram, 990)));
}

/* By the names that 'ctxkv stat' uses. */
static json_t *metrics_json(const struct metrics *metrics)
{
	json_t *object = json_object();

	for (size_t i = 0; i < metric_count; i++) {
		const struct metric_row *row = &metric_table[i];

		json_object_set_new(object, row->name,
				    row->kind == METRIC_HISTOGRAM
					    ? histogram_json(metric_histogram_of(metrics, row))
					    : number(metric_value(metrics, row)));
	}
	return object;
}

static json_t *reactors_json(const struct view *view)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < view->info.reactor_count; i++) {
		const struct metrics *metrics = &view->reactors[i];

		json_array_append_new(array,
				      json_pack("{s:i, s:o, s:o, s:o, s:o, s:o}", "index", (int)i,
						"sessions", number(metrics->sessions), "ops",
						number(metrics->ops), "buffers_used",
						number(metrics->buffers_used), "get_bytes",
						number(metrics->get_delivered), "put_bytes",
						number(metrics->store_put)));
	}
	return array;
}

static const char *shard_state_name(enum shard_state state)
{
	switch (state) {
	case SHARD_STATE_ONLINE:
		return "online";
	case SHARD_STATE_OFFLINE:
		return "offline";
	case SHARD_STATE_MISSING:
		return "missing";
	}
	ASSERT(false);
	return "";
}

static json_t *shards_json(const struct view *view)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < view->shard_count; i++) {
		const struct shard_row *row = &view->shards[i];

		json_array_append_new(
			array,
			json_pack("{s:i, s:o, s:i, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o}",
				  "index", row->index, "uuid", hex(row->uuid, sizeof(row->uuid)),
				  "reactor", row->reactor, "medium", row->medium, "state",
				  shard_state_name(row->state), "capacity_bytes",
				  number(row->stats.capacity), "payload_bytes",
				  number(row->stats.block_bytes), "blocks",
				  number(row->stats.block_count), "oldest_s",
				  number(row->stats.oldest_s), "io_errors",
				  number(row->stats.io_errors), "written_bytes",
				  number(row->stats.written_bytes)));
	}
	return array;
}

/* The worst state of the shards on each medium. */
static json_t *media_json(const struct view *view)
{
	json_t *array = json_array();
	const char *at = view->options->media;

	for (uint32_t medium = 0; *at != '\0'; medium++) {
		size_t size = strcspn(at, ",");
		enum shard_state state = SHARD_STATE_ONLINE;
		uint32_t count = 0;

		for (uint32_t i = 0; i < view->shard_count; i++) {
			if (view->shards[i].medium != medium)
				continue;
			state = MAX(state, view->shards[i].state);
			count++;
		}
		json_array_append_new(array,
				      json_pack("{s:s%, s:s, s:i}", "path", at, size, "state",
						shard_state_name(state), "shards", (int)count));
		at += size + (at[size] == ',');
	}
	return array;
}

/* How many sessions are there over each transport. */
static json_t *transports_json(const struct view *view)
{
	json_t *object = json_object();

	for (uint32_t i = 0; i < view->session_count; i++) {
		const char *name = view->sessions[i].transport;
		json_int_t count = json_integer_value(json_object_get(object, name));

		if (!view->sessions[i].is_idle)
			json_object_set_new(object, name, json_integer(count + 1));
	}
	return object;
}

static json_t *sessions_array(const struct view *view)
{
	json_t *array = json_array();
	char id[17];

	for (uint32_t i = 0; i < view->session_count; i++) {
		const struct session_row *row = &view->sessions[i];

		snprintf(id, sizeof(id), "%016llx", (unsigned long long)row->id);
		json_array_append_new(
			array, json_pack("{s:s, s:i, s:s, s:s, s:s, s:i, s:o, s:o, s:b, s:o}", "id",
					 id, "reactor", row->reactor, "tenant", row->tenant,
					 "transport", row->transport, "peer", row->peer, "lanes",
					 row->lane_count, "requests", number(row->request_count),
					 "ops", number(row->op_count), "idle", row->is_idle,
					 "moved_bytes", number(row->moved_bytes)));
	}
	return array;
}

static json_t *tenants_array(const struct view *view)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < view->tenant_count; i++) {
		const struct tenant_row *row = &view->tenants[i];
		bool reads = (row->rights & WIRE_RIGHT_READ) != 0;
		bool writes = (row->rights & WIRE_RIGHT_WRITE) != 0;

		json_array_append_new(array, json_pack("{s:s, s:s, s:i, s:i, s:o, s:o, s:o}",
						       "name", row->name, "rights",
						       writes  ? "read, write"
						       : reads ? "read"
							       : "none",
						       "domains", (int)row->domain_count, "secrets",
						       (int)row->secret_count, "sessions",
						       number(row->session_count), "quota_bytes",
						       number(row->quota_bytes), "used_bytes",
						       number(row->used_bytes)));
	}
	return array;
}

static json_t *saving_json(const struct saving_row *row, uint64_t gpu_cents)
{
	const struct saving_sum sum = saving_sum(row, gpu_cents);
	json_t *object = json_pack(
		"{s:s, s:o, s:o, s:o, s:o, s:f, s:f, s:o, s:o}", "tenant", row->tenant, "namespace",
		hex(row->ns, sizeof(row->ns)), "reports", number(row->reports), "tokens_loaded",
		number(row->tokens_loaded), "tokens_recomputed", number(row->tokens_recomputed),
		"load_seconds", sum.load_s, "prefill_seconds", sum.prefill_s, "miss_forgotten",
		number(row->miss_forgotten), "miss_new", number(row->miss_new));

	if (sum.is_measured) {
		json_object_set_new(object, "gpu_seconds_saved", json_real(sum.gpu_s));
		json_object_set_new(object, "dollars_saved", json_real(sum.money));
	}
	if (sum.is_again_measured) {
		json_object_set_new(object, "recomputed_again_share", json_real(sum.again_share));
		json_object_set_new(object, "recomputed_again_seconds", json_real(sum.again_s));
	}
	return object;
}

static json_t *savings_array(const struct view *view)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < view->saving_count; i++)
		json_array_append_new(array, saving_json(&view->savings[i], view->gpu_cents));
	return array;
}

static bool is_of(const struct saving_row *saving, const struct census_row *row)
{
	return memcmp(saving->tenant_id, row->domain, sizeof(row->domain)) == 0 &&
	       memcmp(saving->ns, row->ns, sizeof(row->ns)) == 0;
}

/* What was reported of a namespace and what it has here; either may be nothing. */
static json_t *namespace_json(const struct saving_row *saving, const struct census_row *row,
			      uint64_t gpu_cents)
{
	json_t *object = saving_json(saving, gpu_cents);

	json_object_set_new(object, "blocks", number(row->blocks));
	json_object_set_new(object, "payload_bytes", number(row->bytes));
	return object;
}

/* Nothing was reported. Its domain by name, or by id where no row of the secrets file names it. */
static void saving_of_census(const struct census_row *row, struct saving_row *out)
{
	*out = (struct saving_row) { 0 };
	memcpy(out->tenant_id, row->domain, sizeof(out->tenant_id));
	memcpy(out->ns, row->ns, sizeof(out->ns));
	if (row->domain_name[0] != '\0')
		memcpy(out->tenant, row->domain_name, sizeof(out->tenant));
	else
		text_format_hex(out->tenant, sizeof(out->tenant), row->domain, sizeof(row->domain));
}

json_t *status_savings_json(const struct view *view)
{
	const struct census_row none = { 0 };
	json_t *array = json_array();

	for (uint32_t i = 0; i < view->saving_count; i++) {
		const struct census_row *row = &none;

		for (uint32_t k = 0; k < view->census_count && row == &none; k++) {
			if (is_of(&view->savings[i], &view->census[k]))
				row = &view->census[k];
		}
		json_array_append_new(array,
				      namespace_json(&view->savings[i], row, view->gpu_cents));
	}
	for (uint32_t k = 0; k < view->census_count; k++) {
		struct saving_row saving;
		bool is_told = false;

		for (uint32_t i = 0; i < view->saving_count && !is_told; i++)
			is_told = is_of(&view->savings[i], &view->census[k]);
		saving_of_census(&view->census[k], &saving);
		if (!is_told)
			json_array_append_new(
				array, namespace_json(&saving, &view->census[k], view->gpu_cents));
	}
	return json_pack("{s:o, s:b}", "savings", array, "is_cut", view->is_cut);
}

/* --- the whole --- */

static void set_identity(json_t *object, const struct view *view)
{
	json_object_set_new(object, "state", json_string(admin_state_names[view->state]));
	json_object_set_new(object, "version",
			    json_sprintf("%d.%d.%d", CTXKV_VERSION_MAJOR, CTXKV_VERSION_MINOR,
					 CTXKV_VERSION_PATCH));
	json_object_set_new(object, "protocol", json_integer(WIRE_VERSION));
	json_object_set_new(object, "disk_format", json_integer(DISK_VERSION));
	json_object_set_new(object, "configuration", configuration_json(view->options));
}

static void set_figures(json_t *object, const struct view *view)
{
	double hit_rate = view_hit_rate(view);

	json_object_set_new(object, "fill", json_real(view_fill_share(view)));
	json_object_set_new(object, "hit_rate", hit_rate >= 0 ? json_real(hit_rate) : json_null());
	json_object_set_new(object, "oldest_s", number(view_oldest_s(view)));
	json_object_set_new(object, "uptime_s",
			    number(view->total.uptime / MAX(1, view->info.reactor_count)));
	json_object_set_new(object, "memory_bytes", number(view->info.memory.total));
	json_object_set_new(object, "block_max", number(view->info.block_max));
}

json_t *status_json(const struct view *view)
{
	json_t *object = json_object();

	set_identity(object, view);
	if (!view->has_server)
		return object;
	json_object_set_new(object, "server", hex(view->info.uuid, sizeof(view->info.uuid)));
	json_object_set_new(object, "address", json_string(view->address));
	set_figures(object, view);
	json_object_set_new(object, "reactors_silent", json_integer(view->silent_count));
	json_object_set_new(object, "reactors", reactors_json(view));
	json_object_set_new(object, "media", media_json(view));
	json_object_set_new(object, "shards", shards_json(view));
	json_object_set_new(object, "transports", transports_json(view));
	json_object_set_new(object, "session_count", number(view->total.sessions));
	json_object_set_new(object, "tenants", tenants_array(view));
	json_object_set_new(object, "savings", savings_array(view));
	json_object_set_new(object, "is_cut", json_boolean(view->is_cut));
	json_object_set_new(object, "totals", metrics_json(&view->total));
	return object;
}

json_t *status_sessions_json(const struct view *view)
{
	return json_pack("{s:o, s:b}", "sessions", sessions_array(view), "is_cut", view->is_cut);
}

json_t *status_tenants_json(const struct view *view)
{
	return json_pack("{s:o, s:b}", "tenants", tenants_array(view), "is_cut", view->is_cut);
}
