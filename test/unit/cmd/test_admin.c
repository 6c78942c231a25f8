/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command 'admin' without its network: hosts from what users write, HTTP answers taken apart,
 * tables aligned, and the differences of configurations named, with who has what.
 */
#include <stdlib.h>
#include <string.h>

#include "../../../src/cmd/admin.h"
#include "../../../src/cmd/http.h"
#include "../../../src/cmd/table.h"
#include "../../lib/t.h"

static void hosts_have_their_port_or_the_usual_one(void **state)
{
	static const struct {
		const char *text;
		const char *host; /* NULL: refused */
		uint16_t port;
	} rows[] = {
		{ "kv1", "kv1", 9901 },
		{ "kv1:80", "kv1", 80 },
		{ "10.0.0.1:9902", "10.0.0.1", 9902 },
		{ "[::1]", "::1", 9901 },
		{ "[fe80::2]:7", "fe80::2", 7 },
		{ "", NULL, 0 },
		{ ":9901", NULL, 0 },
		{ "kv1:", NULL, 0 },
		{ "kv1:0", NULL, 0 },
		{ "kv1:65536", NULL, 0 },
		{ "kv1:9901x", NULL, 0 },
		{ "[::1", NULL, 0 },
		{ "[::1]x", NULL, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char host[128];
		uint16_t port;
		int rc = admin_host_parse(rows[i].text, strlen(rows[i].text), host, &port);

		assert_int_equal(rc, rows[i].host != NULL ? 0 : -EINVAL);
		if (rc < 0)
			continue;
		assert_string_equal(host, rows[i].host);
		assert_int_equal(port, rows[i].port);
	}
}

static void a_url_names_the_hosts_of_its_servers(void **state)
{
	static const struct {
		const char *url;
		const char *list; /* NULL: refused */
	} rows[] = {
		{ "ctxkv://alice@kv1:9900?keyfile=/x", "kv1" },
		{ "ctxkv://kv1", "kv1" },
		{ "ctxkv://a@kv1:9900,kv2:9900,kv3?keyfile=/a@b,c", "kv1,kv2,kv3" },
		{ "ctxkv://a@[::1]:9900,10.0.0.2\n", "[::1],10.0.0.2" },
		{ "ctxkv://a@/x", NULL },
		{ "ctxkv://", NULL },
		{ "", NULL },
		{ "ctxkv://a@kv1:x", NULL },
		{ "ctxkv://a@kv1,,kv2", NULL },
	};
	char list[128];
	char small[8];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int rc = admin_list_of_url(rows[i].url, list, sizeof(list));

		assert_int_equal(rc, rows[i].list != NULL ? 0 : -EINVAL);
		if (rc == 0)
			assert_string_equal(list, rows[i].list);
	}
	assert_int_equal(admin_list_of_url("ctxkv://kv1,kv2,kv3", small, sizeof(small)), -EINVAL);
}

static void answers_are_taken_apart(void **state)
{
	static const char good[] = "HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\n{}";
	static const char *const bad[] = { "",
					   "HTTP/1.1",
					   "HTTP/1.1 2x0 OK\r\n\r\n",
					   "HTTP/2 200 OK\r\n\r\n",
					   "HTTP/1.0 200 OK\r\nA: b\r\n",
					   "SSH-2.0-OpenSSH_9.2\r\n\r\n" };
	unsigned status;
	size_t body;

	assert_int_equal(http_parse(good, sizeof(good) - 1, &status, &body), 0);
	assert_int_equal(status, 503);
	assert_string_equal(good + body, "{}");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(http_parse(bad[i], strlen(bad[i]), &status, &body), -EINVAL);
}

/* What is written to a stream by print(), as text; freed by the caller. */
#define PRINTED(text, out, print)                                                                  \
	do {                                                                                       \
		size_t size_ = 0;                                                                  \
		FILE *out = open_memstream(&(text), &size_);                                       \
		assert_non_null(out);                                                              \
		print;                                                                             \
		assert_int_equal(fclose(out), 0);                                                  \
	} while (0)

static void columns_are_as_wide_as_their_widest_cell(void **state)
{
	char *text = NULL;

	PRINTED(text, out, table_print(out, "name\tn\nä\t10\nlonger\t7\n", 1));
	assert_string_equal(text, "name     n\n"
				  "ä       10\n"
				  "longer   7\n");
	free(text);
}

static void fleet_add(struct admin_fleet *fleet, const char *name, const char *json)
{
	struct admin_server *server = &fleet->servers[fleet->count++];

	memset(server, 0, sizeof(*server));
	snprintf(server->target.name, sizeof(server->target.name), "%s", name);
	if (json == NULL) {
		snprintf(server->why, sizeof(server->why), "Connection refused");
		return;
	}
	server->answer = json_loads(json, 0, NULL);
	assert_non_null(server->answer);
}

static void fleet_end(struct admin_fleet *fleet)
{
	for (uint32_t i = 0; i < fleet->count; i++)
		json_decref(fleet->servers[i].answer);
}

static void skew_names_the_odd_ones_out(void **state)
{
	static struct admin_fleet fleet;
	uint32_t skew[4] = { 0 };
	char *text = NULL;
	uint32_t count = 0;

	fleet.count = 0;
	fleet_add(&fleet, "kv1",
		  "{\"configuration\": {\"verify\": \"medium\", \"media\": \"/a\"}}");
	fleet_add(&fleet, "kv2", "{\"configuration\": {\"verify\": \"all\", \"media\": \"/b\"}}");
	fleet_add(&fleet, "kv3",
		  "{\"configuration\": {\"verify\": \"medium\", \"media\": \"/a\", "
		  "\"new\": \"1\"}}");
	fleet_add(&fleet, "kv4", NULL);
	PRINTED(text, out, count = admin_print_skew(out, &fleet, skew));
	assert_int_equal(count, 2);
	assert_non_null(strstr(text, "  verify: medium, but all at kv2\n"));
	assert_non_null(strstr(text, "  new: 1, but not known at kv1, but not known at kv2\n"));
	assert_null(strstr(text, "media"));
	assert_null(strstr(text, "kv4"));
	assert_int_equal(skew[0], 1);
	assert_int_equal(skew[1], 2);
	assert_int_equal(skew[2], 0);
	assert_int_equal(skew[3], 0);
	free(text);
	fleet_end(&fleet);
}

static void the_table_has_a_row_for_who_does_not_answer(void **state)
{
	static struct admin_fleet now;
	static struct admin_fleet before;
	char *text = NULL;

	now.count = 0;
	before.count = 0;
	fleet_add(
		&now, "kv1:9901",
		"{\"state\": \"ready\", \"version\": \"0.1.0\", \"fill\": 0.5, \"hit_rate\": null, "
		"\"oldest_s\": 90, \"session_count\": 3, \"transports\": {\"tcp\": 3}, "
		"\"totals\": {\"ctxkv_get_delivered_bytes_total\": 4194304, "
		"\"ctxkv_store_put_bytes_total\": 5}, \"configuration\": {}}");
	fleet_add(&now, "kv2:9901", NULL);
	fleet_add(&before, "kv1:9901",
		  "{\"totals\": {\"ctxkv_get_delivered_bytes_total\": 0, "
		  "\"ctxkv_store_put_bytes_total\": 9}}");
	fleet_add(&before, "kv2:9901", NULL);
	PRINTED(text, out, admin_print_fleet(out, &now, &before, 2));
	assert_non_null(strstr(text, "kv1:9901"));
	assert_non_null(strstr(text, "50.0 %"));
	assert_non_null(strstr(text, "2 MiB/s")); /* 4 MiB in 2 s */
	assert_non_null(strstr(text, "unreachable"));
	assert_non_null(strstr(text, "kv2:9901: Connection refused"));
	assert_null(strstr(text, "configuration differs"));
	free(text);
	fleet_end(&now);
	fleet_end(&before);
}

/* Whatever a server says (another version, another program), nothing breaks. */
static void strange_answers_are_shown_as_far_as_they_go(void **state)
{
	static const char *const strange[] = {
		"{}", "{\"state\": 7, \"totals\": [], \"configuration\": 3, \"shards\": {}}",
		"{\"sessions\": [1, \"x\", {}], \"tenants\": [{}], \"savings\": [{\"tenant\": 1}]}",
		"[]"
	};
	static struct admin_fleet fleet;
	char *text = NULL;

	fleet.count = 0;
	for (size_t i = 0; i < ARRAY_LEN(strange); i++)
		fleet_add(&fleet, "kv", strange[i]);
	PRINTED(text, out, {
		admin_print_fleet(out, &fleet, NULL, 0);
		admin_print_sessions(out, &fleet);
		admin_print_tenants(out, &fleet);
		admin_print_savings(out, &fleet);
		for (uint32_t i = 0; i < fleet.count; i++)
			admin_print_status(out, fleet.servers[i].answer);
	});
	assert_true(strlen(text) > 0);
	free(text);
	fleet_end(&fleet);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hosts_have_their_port_or_the_usual_one),
		cmocka_unit_test(a_url_names_the_hosts_of_its_servers),
		cmocka_unit_test(answers_are_taken_apart),
		cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
		cmocka_unit_test(skew_names_the_odd_ones_out),
		cmocka_unit_test(the_table_has_a_row_for_who_does_not_answer),
		cmocka_unit_test(strange_answers_are_shown_as_far_as_they_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
