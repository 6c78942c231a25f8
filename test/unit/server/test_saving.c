/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The meter of what is saved: sums are those of a naive twin, the table has its limits and nobody
 * pushes others out, the arithmetic is that of docs/operating/saving.md; and a real server counts
 * what is asked for again after it was forgotten, and tells a tenant of its own namespaces only.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/server/saving.h"
#include "rig.h"

static struct saving saving;

static void id_of(uint32_t number, uint8_t id[16])
{
	memset(id, 0, 16);
	memcpy(id, &number, sizeof(number));
}

static int report(uint32_t tenant, uint32_t ns, const struct wire_report *what)
{
	uint8_t tenant_id[16];
	uint8_t ns_id[16];
	char name[32];

	id_of(tenant, tenant_id);
	id_of(ns, ns_id);
	snprintf(name, sizeof(name), "tenant-%u", tenant);
	return saving_report(&saving, name, tenant_id, ns_id, what);
}

static struct saving_row *find(uint32_t tenant, uint32_t ns)
{
	uint8_t tenant_id[16];
	uint8_t ns_id[16];

	id_of(tenant, tenant_id);
	id_of(ns, ns_id);
	return saving_find(&saving, tenant_id, ns_id);
}

static const struct wire_report one = { 1, 2, 3, 4 };

static void reports_add_up_by_tenant_and_namespace(void **state)
{
	static uint64_t twin[5][7];

	saving_init(&saving);
	for (uint32_t i = 0; i < 1000; i++) {
		uint32_t tenant = i * 7 % 5;
		uint32_t ns = i * 11 % 7;
		struct wire_report what = { i, 2 * i, 3 * i, 4 * i };

		assert_int_equal(report(tenant, ns, &what), 0);
		twin[tenant][ns] += i;
	}
	for (uint32_t tenant = 0; tenant < 5; tenant++) {
		for (uint32_t ns = 0; ns < 7; ns++) {
			const struct saving_row *row = find(tenant, ns);

			assert_non_null(row);
			assert_int_equal(row->tokens_loaded, twin[tenant][ns]);
			assert_int_equal(row->tokens_recomputed, 2 * twin[tenant][ns]);
			assert_int_equal(row->load_ns, 3 * twin[tenant][ns]);
			assert_int_equal(row->prefill_ns, 4 * twin[tenant][ns]);
		}
	}
	assert_string_equal(find(3, 1)->tenant, "tenant-3");
	assert_null(find(3, 7));
	assert_null(find(5, 1));
}

static void absurd_reports_are_refused(void **state)
{
	static const struct wire_report absurd[] = {
		{ .tokens_loaded = SAVING_TOKENS_MAX + 1 },
		{ .tokens_recomputed = UINT64_MAX },
		{ .load_ns = SAVING_NS_MAX + 1 },
		{ .prefill_ns = UINT64_MAX },
	};

	saving_init(&saving);
	for (size_t i = 0; i < ARRAY_LEN(absurd); i++)
		assert_int_equal(report(1, 1, &absurd[i]), -EINVAL);
	assert_null(find(1, 1));
	assert_int_equal(report(1, 1,
				&(struct wire_report) { SAVING_TOKENS_MAX, SAVING_TOKENS_MAX,
							SAVING_NS_MAX, SAVING_NS_MAX }),
			 0);
}

/* A tenant that reports about ever new namespaces loses its own oldest rows, and no one else's. */
static void a_tenant_pushes_out_only_itself(void **state)
{
	saving_init(&saving);
	assert_int_equal(report(1, 1, &one), 0);
	for (uint32_t ns = 0; ns < 1000; ns++)
		assert_int_equal(report(2, ns, &one), 0);
	assert_non_null(find(1, 1));
	for (uint32_t ns = 0; ns < 1000; ns++)
		assert_int_equal(find(2, ns) != NULL, ns >= 1000 - SAVING_TENANT_ROWS);
	assert_int_equal(saving.replaced, 1000 - SAVING_TENANT_ROWS);
}

/* The table is full: what was reported to longest ago gives way, and a late report keeps a row. */
static void the_oldest_row_of_a_full_table_gives_way(void **state)
{
	saving_init(&saving);
	for (uint32_t i = 0; i < SAVING_ROWS; i++)
		assert_int_equal(report(i, 1, &one), 0);
	assert_int_equal(saving.replaced, 0);
	assert_int_equal(report(0, 1, &one), 0);
	assert_int_equal(report(SAVING_ROWS, 1, &one), 0);
	assert_non_null(find(0, 1));
	assert_null(find(1, 1));
	assert_non_null(find(SAVING_ROWS, 1));
	assert_int_equal(find(SAVING_ROWS, 1)->reports, 1);
	assert_int_equal(find(0, 1)->reports, 2);
}

static void rows_are_a_tenants_or_all(void **state)
{
	static struct saving_row rows[SAVING_ROWS];
	uint8_t id[16];

	saving_init(&saving);
	for (uint32_t i = 0; i < 10; i++) {
		assert_int_equal(report(1, i, &one), 0);
		assert_int_equal(report(2, i, &one), 0);
	}
	id_of(1, id);
	assert_int_equal(saving_rows(&saving, NULL, rows, SAVING_ROWS), 20);
	assert_int_equal(saving_rows(&saving, id, rows, SAVING_ROWS), 10);
	for (uint32_t i = 0; i < 10; i++)
		assert_string_equal(rows[i].tenant, "tenant-1");
	/* Cut: the latest stay. */
	assert_int_equal(saving_rows(&saving, id, rows, 2), 2);
	id_of(9, id);
	assert_memory_equal(rows[0].ns, id, 16);
}

static void rows_of_reactors_merge(void **state)
{
	struct saving_row rows[2] = { 0 };
	struct saving_row more = { .tenant = "a",
				   .ns = { 1 },
				   .reports = 1,
				   .tokens_loaded = 10,
				   .miss_forgotten = 3,
				   .miss_new = 4 };
	uint32_t count = 0;

	count = saving_merge(rows, count, 2, &more);
	count = saving_merge(rows, count, 2, &more);
	assert_int_equal(count, 1);
	assert_int_equal(rows[0].tokens_loaded, 20);
	assert_int_equal(rows[0].miss_forgotten, 6);
	assert_int_equal(rows[0].miss_new, 8);
	more.ns[0] = 2;
	count = saving_merge(rows, count, 2, &more);
	assert_int_equal(count, 2);
	more.ns[0] = 3;
	count = saving_merge(rows, count, 2, &more);
	assert_int_equal(count, 2);
}

static bool is_near(double a, double b)
{
	return fabs(a - b) < 1e-9 * (1 + fabs(b));
}

/* 1 M tokens loaded in 20 s; 100 k recomputed in 50 s: 500 us a token, so 500 s - 20 s. */
static void the_sum_is_what_the_page_says(void **state)
{
	struct saving_row row = {
		.tokens_loaded = 1000000,
		.tokens_recomputed = 100000,
		.load_ns = 20 * NS_PER_S,
		.prefill_ns = 50 * NS_PER_S,
		.miss_forgotten = 30,
		.miss_new = 90,
	};
	struct saving_sum sum = saving_sum(&row, 300);

	assert_true(sum.is_measured);
	assert_true(is_near(sum.gpu_s, 480));
	assert_true(is_near(sum.money, 480.0 / 3600 * 3));
	assert_true(sum.is_again_measured);
	assert_true(is_near(sum.again_share, 0.25));
	assert_true(is_near(sum.again_s, 12.5));
	/* Loading that costs more than computing is told as a loss. */
	row.load_ns = 600 * NS_PER_S;
	assert_true(is_near(saving_sum(&row, 300).gpu_s, -100));
	/* Without a measured rate nothing is claimed. */
	row.tokens_recomputed = 0;
	row.miss_forgotten = 0;
	row.miss_new = 0;
	sum = saving_sum(&row, 300);
	assert_false(sum.is_measured);
	assert_false(sum.is_again_measured);
	assert_true(sum.gpu_s == 0);
}

/* --- over a real server --- */

static int client_report(struct raw_client *client, const struct wire_report *what)
{
	struct {
		struct wire_request request;
		struct wire_report report;
	} body = { 0 };
	struct wire_header header;

	memcpy(body.request.ns, client->ns, sizeof(client->ns));
	body.request.budget_ns = NS_PER_S;
	body.report = *what;
	wire_header_init(&header, WIRE_REPORT, ++client->request, 0, sizeof(body));
	assert_true(raw_client_send(client, &header, &body, NULL));
	return raw_client_finish(client, client->request, NULL, NULL, NULL);
}

/* What STAT tells the client; valid until the next call. */
static const char *client_stat(struct raw_client *client)
{
	static struct raw_client_frame frame;
	uint64_t request = raw_client_plain(client, WIRE_STAT);
	struct wire_text *text = (void *)frame.body;

	do {
		assert_true(raw_client_recv(client, &frame));
	} while (frame.header.request != request);
	frame.body[sizeof(*text) + text->size] = '\0';
	return (const char *)(text + 1);
}

static void a_tenant_is_told_its_own_namespaces(void **state)
{
	const struct wire_report what = { 1000, 100, NS_PER_S, 10 * NS_PER_S };
	struct rig rig;
	struct raw_client alice;
	struct raw_client bob;

	rig_init(&rig);
	rig.opts.gpu_cents = 36000;
	rig_start(&rig, false);
	rig_client(&rig, &alice);
	raw_client_open(&bob, rig.port, rig_poll, &rig);
	assert_int_equal(raw_client_hello(&bob, "bob", &rig.tenants->rows[1].secrets[0]), 0);
	memset(alice.ns, 0xaa, 16);
	memset(bob.ns, 0xbb, 16);
	assert_int_equal(client_report(&alice, &what), 0);
	assert_int_equal(client_report(&bob, &what), 0);
	assert_int_equal(client_report(&alice, &(struct wire_report) { .load_ns = UINT64_MAX }),
			 -EINVAL);
	assert_non_null(
		strstr(client_stat(&alice),
		       "saving_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_gpu_seconds_saved 99.000\n"));
	assert_non_null(strstr(client_stat(&alice), "_money_saved 9.90\n"));
	assert_null(strstr(client_stat(&alice), "_bbbb"));
	assert_non_null(strstr(client_stat(&bob), "saving_bbbb"));
	assert_null(strstr(client_stat(&bob), "_aaaa"));
	assert_int_equal(rig_metrics(&rig).report_tokens_loaded, 2000);
	raw_client_close(&alice);
	raw_client_close(&bob);
	rig_stop(&rig);
}

#define BLOCK_SIZE (4 * MiB)

static void put(struct raw_client *client, uint32_t number)
{
	static uint8_t bytes[BLOCK_SIZE];
	struct raw_client_put what = { rig_key(number), bytes, BLOCK_SIZE, false };
	uint64_t request = raw_client_put(client, &what, 1, 0, 10 * NS_PER_S);

	assert_int_equal(raw_client_finish(client, request, NULL, &what, NULL), 0);
}

static void probe(struct raw_client *client, uint32_t number)
{
	static struct raw_client_frame frame;
	struct wire_key key = rig_key(number);

	(void)raw_client_keys(client, WIRE_PROBE, &key, 1);
	assert_true(raw_client_recv(client, &frame));
	assert_int_equal(frame.header.kind, WIRE_BITMAP);
}

/* A store of 64 MiB, 30 blocks of 4 MiB: the first were here once, the 31st never. */
static void what_was_forgotten_is_told_from_what_is_new(void **state)
{
	static uint8_t bytes[BLOCK_SIZE];
	const struct wire_report what = { 1000, 100, 0, 10 * NS_PER_S };
	struct rig rig;
	struct raw_client client;
	struct wire_key key;
	uint64_t request;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &client);
	for (uint32_t i = 0; i < 30; i++)
		put(&client, i);
	assert_true(rig_metrics(&rig).store_forgotten > 0);
	probe(&client, 0); /* nobody reported yet: only the total counts */
	assert_int_equal(client_report(&client, &what), 0);
	probe(&client, 0);
	probe(&client, 29); /* here */
	probe(&client, 30);
	probe(&client, 31);
	key = rig_key(32);
	request = raw_client_get(&client, &key, 1, 0, BLOCK_SIZE, NS_PER_S);
	assert_int_equal(raw_client_finish(&client, request, bytes, NULL, NULL), -ERR_MISS);
	assert_int_equal(rig_metrics(&rig).miss_forgotten, 2);
	assert_int_equal(rig_metrics(&rig).miss_new, 3);
	assert_non_null(strstr(client_stat(&client), "_recomputed_again_share 0.2500\n"));
	assert_non_null(strstr(client_stat(&client), "_recomputed_again_seconds 2.500\n"));
	/* It came back: asking for it is a hit, not a miss of something forgotten. */
	put(&client, 0);
	probe(&client, 0);
	assert_int_equal(rig_metrics(&rig).miss_forgotten, 2);
	raw_client_close(&client);
	rig_stop(&rig);
}

static void durations_are_measured(void **state)
{
	static uint8_t bytes[BLOCK_SIZE];
	struct rig rig;
	struct raw_client client;
	struct wire_key key = rig_key(1);
	struct metrics metrics;
	uint64_t request;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &client);
	put(&client, 1);
	probe(&client, 1);
	request = raw_client_get(&client, &key, 1, 0, BLOCK_SIZE, NS_PER_S);
	assert_int_equal(raw_client_finish(&client, request, bytes, NULL, NULL), 0);
	metrics = rig_metrics(&rig);
	assert_int_equal(metric_histogram_count(&metrics.put_time), 1);
	assert_int_equal(metric_histogram_count(&metrics.get_time), 1);
	assert_int_equal(metric_histogram_count(&metrics.probe_time), 1);
	assert_true(metrics.put_time.sum_ns > 0);
	assert_true(metrics.get_time.sum_ns < 10 * NS_PER_S);
	raw_client_close(&client);
	rig_stop(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reports_add_up_by_tenant_and_namespace),
		cmocka_unit_test(absurd_reports_are_refused),
		cmocka_unit_test(a_tenant_pushes_out_only_itself),
		cmocka_unit_test(the_oldest_row_of_a_full_table_gives_way),
		cmocka_unit_test(rows_are_a_tenants_or_all),
		cmocka_unit_test(rows_of_reactors_merge),
		cmocka_unit_test(the_sum_is_what_the_page_says),
		cmocka_unit_test(a_tenant_is_told_its_own_namespaces),
		cmocka_unit_test(what_was_forgotten_is_told_from_what_is_new),
		cmocka_unit_test(durations_are_measured),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
