/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of 'ctxkv admin', from the JSON of the servers: a row for each server, session, tenant
 * or namespace. A server that did not answer is left out, or named with why; a field that an older
 * server lacks counts as 0, a text as "-". Rates need the answer before (--watch).
 */
#include "admin.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/text.h"
#include "table.h"

#define CELL 48

static uint64_t get_u64(const json_t *object, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(object, name));

	return value > 0 ? (uint64_t)value : 0;
}

static double get_real(const json_t *object, const char *name)
{
	return json_number_value(json_object_get(object, name));
}

static const char *get_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : "-";
}

static const char *format_age(char buf[CELL], uint64_t seconds)
{
	if (seconds < 120)
		snprintf(buf, CELL, "%" PRIu64 " s", seconds);
	else if (seconds < 7200)
		snprintf(buf, CELL, "%" PRIu64 " min", seconds / 60);
	else if (seconds < 48 * 3600)
		snprintf(buf, CELL, "%.1f h", (double)seconds / 3600);
	else
		snprintf(buf, CELL, "%.1f d", (double)seconds / 86400);
	return buf;
}

/* "12.3 %", or "-" when the member is not there or null. */
static const char *format_share(char buf[CELL], const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	if (json_is_number(value))
		snprintf(buf, CELL, "%.1f %%", 100 * json_number_value(value));
	else
		snprintf(buf, CELL, "-");
	return buf;
}

static const char *format_gpu(char buf[CELL], const json_t *saving)
{
	const json_t *value = json_object_get(saving, "gpu_seconds_saved");

	if (json_is_number(value))
		snprintf(buf, CELL, "%.2f h", json_number_value(value) / 3600);
	else
		snprintf(buf, CELL, "not measured");
	return buf;
}

static const char *format_money(char buf[CELL], const json_t *saving)
{
	const json_t *value = json_object_get(saving, "dollars_saved");
	double dollars = json_number_value(value);

	if (json_is_number(value))
		snprintf(buf, CELL, "%s$%.2f", dollars < 0 ? "-" : "",
			 dollars < 0 ? -dollars : dollars);
	else
		snprintf(buf, CELL, "-");
	return buf;
}

/* "2 tcp, 1 shm" */
static const char *format_transports(char buf[CELL], const json_t *status)
{
	const json_t *transports = json_object_get(status, "transports");
	const char *name;
	json_t *count;
	size_t used = 0;

	snprintf(buf, CELL, "-");
	json_object_foreach((json_t *)(uintptr_t)transports, name, count)
	{
		int size = snprintf(buf + used, CELL - used, "%s%" JSON_INTEGER_FORMAT " %s",
				    used > 0 ? ", " : "", json_integer_value(count), name);

		used = MIN(used + (size_t)size, (size_t)CELL - 1);
	}
	return buf;
}

/* --- tables are written as text with tabs, then aligned --- */

struct sheet {
	FILE *file;
	char *text;
	size_t size;
};

static bool sheet_begin(struct sheet *sheet, const char *heading)
{
	*sheet = (struct sheet) { 0 };
	sheet->file = open_memstream(&sheet->text, &sheet->size);
	if (sheet->file == NULL)
		return false;
	fprintf(sheet->file, "%s\n", heading);
	return true;
}

static void sheet_end(struct sheet *sheet, FILE *out, uint32_t left)
{
	if (fclose(sheet->file) == 0)
		table_print(out, sheet->text, left);
	free(sheet->text);
}

/* --- one server --- */

static void print_shards(FILE *out, const json_t *status)
{
	const json_t *shards = json_object_get(status, "shards");
	struct sheet sheet;
	char buf[3][CELL];

	if (!sheet_begin(&sheet,
			 "shard\tstate\tmedium\treactor\tblocks\tpayload\tcapacity\toldest"))
		return;
	for (size_t i = 0; i < json_array_size(shards); i++) {
		const json_t *shard = json_array_get(shards, i);

		fprintf(sheet.file,
			"%" PRIu64 "\t%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%s\t%s\t%s\n",
			get_u64(shard, "index"), get_text(shard, "state"), get_u64(shard, "medium"),
			get_u64(shard, "reactor"), get_u64(shard, "blocks"),
			text_format_size(buf[0], CELL, get_u64(shard, "payload_bytes")),
			text_format_size(buf[1], CELL, get_u64(shard, "capacity_bytes")),
			format_age(buf[2], get_u64(shard, "oldest_s")));
	}
	sheet_end(&sheet, out, 1u << 1);
}

static void print_latency(FILE *out, const json_t *totals)
{
	static const char *const names[] = { "get", "put", "probe", "lease", "queue" };
	char name[32];
	char buf[2][CELL];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const json_t *row;

		snprintf(name, sizeof(name), "ctxkv_%s_time", names[i]);
		row = json_object_get(totals, name);
		if (get_u64(row, "count") == 0)
			continue;
		fprintf(out, "%-11s%" PRIu64 ", half below %s, 99 %% below %s\n", names[i],
			get_u64(row, "count"),
			text_format_duration(buf[0], CELL, get_u64(row, "p50_ns")),
			get_u64(row, "p99_ns") >= INT64_MAX
				? "- (above 17 s)"
				: text_format_duration(buf[1], CELL, get_u64(row, "p99_ns")));
	}
}

void admin_print_status(FILE *out, const json_t *status)
{
	const json_t *totals = json_object_get(status, "totals");
	char buf[4][CELL];

	fprintf(out, "state      %s\nversion    %s\n", get_text(status, "state"),
		get_text(status, "version"));
	if (totals == NULL)
		return;
	fprintf(out, "server     %s at %s, up %s\n", get_text(status, "server"),
		get_text(status, "address"), format_age(buf[0], get_u64(status, "uptime_s")));
	fprintf(out, "fill       %s: %s of %s, oldest block %s\n",
		format_share(buf[0], status, "fill"),
		text_format_size(buf[1], CELL, get_u64(totals, "ctxkv_store_payload_bytes")),
		text_format_size(buf[2], CELL, get_u64(totals, "ctxkv_store_capacity_bytes")),
		format_age(buf[3], get_u64(status, "oldest_s")));
	fprintf(out, "hit rate   %s of %" PRIu64 " blocks asked for\n",
		format_share(buf[0], status, "hit_rate"),
		get_u64(totals, "ctxkv_get_blocks_total"));
	fprintf(out, "sessions   %" PRIu64 " (%s), %zu reactors%s\n",
		get_u64(status, "session_count"), format_transports(buf[0], status),
		json_array_size(json_object_get(status, "reactors")),
		get_u64(status, "reactors_silent") > 0 ? ", some do not answer" : "");
	print_latency(out, totals);
	fputc('\n', out);
	print_shards(out, status);
}

/* --- all servers --- */

/* "1.2 GiB/s" of a total that grew. */
static const char *format_rate(char buf[CELL], const json_t *now, const json_t *before,
			       const char *name, double seconds)
{
	uint64_t end = get_u64(json_object_get(now, "totals"), name);
	uint64_t begin = get_u64(json_object_get(before, "totals"), name);
	char size[CELL - 3];

	if (before == NULL || end < begin || seconds <= 0)
		snprintf(buf, CELL, "-");
	else
		snprintf(buf, CELL, "%s/s",
			 text_format_size(size, sizeof(size),
					  (uint64_t)((double)(end - begin) / seconds)));
	return buf;
}

static void print_server(FILE *out, const struct admin_server *server,
			 const struct admin_server *before, double seconds, uint32_t skew)
{
	const json_t *status = server->answer;
	const json_t *earlier = before != NULL ? before->answer : NULL;
	char buf[7][CELL];

	if (status == NULL) {
		fprintf(out, "%s\tunreachable\t-\t-\t-\t-\t-\t-\t-\t-\t-\n", server->target.name);
		return;
	}
	fprintf(out, "%s\t%s\t%s\t%u\t%s\t%s\t%s\t%s\t%s\t%" PRIu64 "\t%s\n", server->target.name,
		get_text(status, "state"), get_text(status, "version"), skew,
		format_share(buf[0], status, "fill"), format_share(buf[1], status, "hit_rate"),
		format_age(buf[2], get_u64(status, "oldest_s")),
		format_rate(buf[4], status, earlier, "ctxkv_get_delivered_bytes_total", seconds),
		format_rate(buf[5], status, earlier, "ctxkv_store_put_bytes_total", seconds),
		get_u64(status, "session_count"), format_transports(buf[3], status));
}

void admin_print_fleet(FILE *out, const struct admin_fleet *fleet, const struct admin_fleet *before,
		       double seconds)
{
	uint32_t skew[ADMIN_TARGETS_MAX] = { 0 };
	struct sheet differences;
	struct sheet sheet;

	if (!sheet_begin(&differences, ""))
		return;
	(void)admin_print_skew(differences.file, fleet, skew);
	if (sheet_begin(&sheet, "server\tstate\tversion\tskew\tfill\thit rate\toldest\tgets\tputs\t"
				"sessions\tby transport")) {
		for (uint32_t i = 0; i < fleet->count; i++)
			print_server(sheet.file, &fleet->servers[i],
				     before != NULL ? &before->servers[i] : NULL, seconds, skew[i]);
		sheet_end(&sheet, out, 1u << 0 | 1u << 1 | 1u << 2 | 1u << 10);
	}
	if (fclose(differences.file) == 0 && differences.size > 1)
		fprintf(out, "\nconfiguration differs:\n%s", differences.text + 1);
	free(differences.text);
	for (uint32_t i = 0; i < fleet->count; i++) {
		if (fleet->servers[i].answer == NULL)
			fprintf(out, "\n%s: %s\n", fleet->servers[i].target.name,
				fleet->servers[i].why);
	}
}

/* --- skew --- */

/* Names and places of this server: they differ and say nothing. */
static bool is_own(const char *option)
{
	static const char *const own[] = { "admin-listen", "admin-token", "listen", "media",
					   "secrets" };

	for (size_t i = 0; i < ARRAY_LEN(own); i++) {
		if (strcmp(own[i], option) == 0)
			return true;
	}
	return false;
}

static const char *option_of(const struct admin_server *server, const char *option)
{
	const json_t *configuration = json_object_get(server->answer, "configuration");

	return json_string_value(json_object_get(configuration, option));
}

/* The value that most servers have; among equals the first. NULL: none has the option. */
static const char *option_usual(const struct admin_fleet *fleet, const char *option)
{
	const char *usual = NULL;
	uint32_t most = 0;

	for (uint32_t i = 0; i < fleet->count; i++) {
		const char *value = option_of(&fleet->servers[i], option);
		uint32_t count = 0;

		for (uint32_t k = 0; value != NULL && k < fleet->count; k++) {
			const char *other = option_of(&fleet->servers[k], option);

			count += other != NULL && strcmp(value, other) == 0;
		}
		if (count > most) {
			most = count;
			usual = value;
		}
	}
	return usual;
}

static bool print_option(FILE *out, const struct admin_fleet *fleet, const char *option,
			 uint32_t *skew_out)
{
	const char *usual = option_usual(fleet, option);
	bool differs = false;

	for (uint32_t i = 0; i < fleet->count; i++) {
		const struct admin_server *server = &fleet->servers[i];
		const char *value = option_of(server, option);

		if (server->answer == NULL || (value != NULL && strcmp(value, usual) == 0))
			continue;
		if (!differs)
			fprintf(out, "  %s: %s", option, usual);
		differs = true;
		fprintf(out, ", but %s at %s", value != NULL ? value : "not known",
			server->target.name);
		if (skew_out != NULL)
			skew_out[i]++;
	}
	if (differs)
		fputc('\n', out);
	return differs;
}

uint32_t admin_print_skew(FILE *out, const struct admin_fleet *fleet, uint32_t *skew_out)
{
	json_t *names = json_object();
	const char *name;
	json_t *ignored;
	uint32_t count = 0;

	/* All that any server knows: versions may differ, too. */
	for (uint32_t i = 0; i < fleet->count; i++)
		json_object_update(names,
				   json_object_get(fleet->servers[i].answer, "configuration"));
	json_object_foreach(names, name, ignored)
	{
		if (!is_own(name))
			count += print_option(out, fleet, name, skew_out);
	}
	json_decref(names);
	return count;
}

/* --- rows of all servers --- */

/* Calls row for each element of the array called member, of every server that answered. */
static void for_each_row(FILE *out, const struct admin_fleet *fleet, const char *member,
			 void (*row)(FILE *out, const char *server, const json_t *element))
{
	for (uint32_t i = 0; i < fleet->count; i++) {
		const json_t *array = json_object_get(fleet->servers[i].answer, member);

		for (size_t k = 0; k < json_array_size(array); k++)
			row(out, fleet->servers[i].target.name, json_array_get(array, k));
	}
}

static void session_row(FILE *out, const char *server, const json_t *session)
{
	char moved[CELL];

	fprintf(out, "%s\t%s\t%s\t%s\t%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%s\n",
		server, get_text(session, "id"), get_text(session, "tenant"),
		get_text(session, "transport"), get_text(session, "peer"),
		get_u64(session, "reactor"), get_u64(session, "lanes"),
		get_u64(session, "requests"), get_u64(session, "ops"),
		text_format_size(moved, sizeof(moved), get_u64(session, "moved_bytes")));
}

void admin_print_sessions(FILE *out, const struct admin_fleet *fleet)
{
	struct sheet sheet;

	if (!sheet_begin(&sheet, "server\tsession\ttenant\ttransport\tpeer\treactor\tlanes\t"
				 "requests\tblocks under way\tmoved"))
		return;
	for_each_row(sheet.file, fleet, "sessions", session_row);
	sheet_end(&sheet, out, 0x1f);
}

static void tenant_row(FILE *out, const char *server, const json_t *tenant)
{
	uint64_t quota = get_u64(tenant, "quota_bytes");
	char buf[2][CELL];

	fprintf(out, "%s\t%s\t%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%s\t%s\n", server,
		get_text(tenant, "name"), get_text(tenant, "rights"), get_u64(tenant, "domains"),
		get_u64(tenant, "secrets"), get_u64(tenant, "sessions"),
		text_format_size(buf[0], CELL, get_u64(tenant, "used_bytes")),
		quota > 0 ? text_format_size(buf[1], CELL, quota) : "none");
}

void admin_print_tenants(FILE *out, const struct admin_fleet *fleet)
{
	struct sheet sheet;

	if (!sheet_begin(&sheet, "server\ttenant\trights\tshared domains\tsecrets\tsessions\tused\t"
				 "quota"))
		return;
	for_each_row(sheet.file, fleet, "tenants", tenant_row);
	sheet_end(&sheet, out, 7);
}

static void saving_row(FILE *out, const char *server, const json_t *saving)
{
	char buf[4][CELL];

	fprintf(out,
		"%s\t%s\t%s\t%" PRIu64 "\t%s\t%" PRIu64 "\t%" PRIu64
		"\t%.1f s\t%.1f s\t%s\t%s\t%s\n",
		server, get_text(saving, "tenant"), get_text(saving, "namespace"),
		get_u64(saving, "blocks"),
		text_format_size(buf[3], CELL, get_u64(saving, "payload_bytes")),
		get_u64(saving, "tokens_loaded"), get_u64(saving, "tokens_recomputed"),
		get_real(saving, "load_seconds"), get_real(saving, "prefill_seconds"),
		format_gpu(buf[0], saving), format_money(buf[1], saving),
		format_share(buf[2], saving, "recomputed_again_share"));
}

void admin_print_savings(FILE *out, const struct admin_fleet *fleet)
{
	struct sheet sheet;

	if (!sheet_begin(&sheet, "server\tdomain\tnamespace\tblocks\tpayload\tloaded\trecomputed\tl"
				 "oading\tprefill\t"
				 "GPU time saved\tmoney\tonce here"))
		return;
	for_each_row(sheet.file, fleet, "savings", saving_row);
	sheet_end(&sheet, out, 7);
}
