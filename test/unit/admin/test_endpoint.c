/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The admin endpoint over real HTTP, at a real server of three reactors: who may what, what each
 * page says in each state, what the commands do, and that nothing a client does to it, and no
 * reactor that stands still, keeps it from answering.
 */
#include <jansson.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../../src/admin/admin.h"
#include "../../../src/base/text.h"
#include "../../../src/cmd/http.h"
#include "../server/server_rig.h"

#define REACTORS 3
#define TOKEN    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

struct bench {
	struct server_rig rig;
	struct options options;
	struct admin *admin;
	uint16_t port;
	uint32_t reloads;
	int reload_rc;
	const char *reload_text; /* NULL never */
};

static int reload_cb(void *ctx, bool is_asked, char *text, size_t text_size)
{
	struct bench *bench = ctx;

	bench->reloads += is_asked;
	snprintf(text, text_size, "%s", bench->reload_text);
	return bench->reload_rc;
}

static int try_admin(struct bench *bench, const char *address, const char *token, char message[256])
{
	const struct admin_opts opts = { .address = address,
					 .token_text = token,
					 .options = &bench->options,
					 .reload = reload_cb,
					 .ctx = bench };

	return admin_start(&opts, &bench->admin, message);
}

static void start_admin(struct bench *bench, const char *address, const char *token)
{
	char message[256];
	char name[128];

	*bench = (struct bench) { 0 };
	options_init(&bench->options);
	assert_int_equal(try_admin(bench, address, token, message), 0);
	admin_name(bench->admin, name, sizeof(name));
	bench->port = (uint16_t)atoi(strrchr(name, ':') + 1);
	assert_true(bench->port > 0);
}

/* stalled: the reactor that can be made to stand still. */
static void start_both(struct bench *bench, uint32_t stalled)
{
	start_admin(bench, "127.0.0.1:0", TOKEN);
	server_rig_init(&bench->rig, REACTORS);
	bench->rig.stalled = stalled;
	server_rig_start(&bench->rig);
	admin_set_server(bench->admin, bench->rig.server);
}

static void stop_both(struct bench *bench)
{
	admin_clear_server(bench->admin);
	server_rig_stop(&bench->rig);
	server_rig_fini(&bench->rig);
	admin_stop(&bench->admin);
	assert_null(bench->admin);
}

/* Status of HTTP; the body is answer_out's, freed by the caller, when that is not NULL. */
static unsigned ask(const struct bench *bench, const char *method, const char *path,
		    const char *token, const char *body, json_t **answer_out)
{
	const struct http_request request = { .address = "127.0.0.1",
					      .port = bench->port,
					      .method = method,
					      .path = path,
					      .token = token,
					      .body = body,
					      .timeout_ns = 20 * NS_PER_S };
	struct http_answer answer;

	assert_int_equal(http_ask(&request, &answer), 0);
	if (answer_out != NULL) {
		*answer_out = json_loads(answer.body, 0, NULL);
		assert_non_null(*answer_out);
	}
	free(answer.body);
	return answer.status;
}

static unsigned get(const struct bench *bench, const char *path, json_t **answer_out)
{
	return ask(bench, "GET", path, NULL, NULL, answer_out);
}

static void assert_state(const struct bench *bench, const char *path, unsigned status,
			 const char *state)
{
	json_t *answer;

	assert_int_equal(get(bench, path, &answer), status);
	assert_string_equal(json_string_value(json_object_get(answer, "state")), state);
	json_decref(answer);
}

/* --- who may --- */

static const char *const reads[] = { "/metrics",     "/v1/health", "/v1/ready",  "/v1/savings",
				     "/v1/sessions", "/v1/status", "/v1/tenants" };
static const char *const changes[] = { "/v1/drain", "/v1/drop", "/v1/reload" };

static void reading_is_free_on_loopback_and_changing_needs_the_token(void **state)
{
	struct bench bench;

	start_admin(&bench, "127.0.0.1:0", TOKEN);
	for (size_t i = 0; i < ARRAY_LEN(reads); i++)
		assert_int_not_equal(ask(&bench, "GET", reads[i], NULL, NULL, NULL), 401);
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		assert_int_equal(ask(&bench, "POST", changes[i], NULL, "{}", NULL), 401);
		assert_int_equal(ask(&bench, "POST", changes[i], TOKEN "0", "{}", NULL), 401);
		assert_int_equal(ask(&bench, "POST", changes[i], "x", "{}", NULL), 401);
		assert_int_not_equal(ask(&bench, "POST", changes[i], TOKEN, "{}", NULL), 401);
		/* A link or an image changes nothing. */
		assert_int_equal(ask(&bench, "GET", changes[i], TOKEN, NULL, NULL), 405);
	}
	assert_int_equal(bench.reloads, 0);
	admin_stop(&bench.admin);
}

static void without_a_token_nothing_can_be_changed(void **state)
{
	struct bench bench;

	start_admin(&bench, "127.0.0.1:0", NULL);
	assert_int_equal(get(&bench, "/v1/status", NULL), 200);
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		assert_int_equal(ask(&bench, "POST", changes[i], NULL, "{}", NULL), 403);
		assert_int_equal(ask(&bench, "POST", changes[i], "", "{}", NULL), 403);
	}
	admin_stop(&bench.admin);
}

static void other_hosts_need_the_token_for_all_but_the_page(void **state)
{
	struct bench bench;

	start_admin(&bench, "0.0.0.0:0", TOKEN);
	for (size_t i = 0; i < ARRAY_LEN(reads); i++) {
		assert_int_equal(ask(&bench, "GET", reads[i], NULL, NULL, NULL), 401);
		assert_int_equal(ask(&bench, "GET", reads[i], "wrong", NULL, NULL), 401);
		assert_int_not_equal(ask(&bench, "GET", reads[i], TOKEN, NULL, NULL), 401);
	}
	assert_int_equal(ask(&bench, "GET", "/", NULL, NULL, NULL), 200);
	admin_stop(&bench.admin);
}

static void what_cannot_be_safe_does_not_start(void **state)
{
	struct bench bench = { 0 };
	char message[256];

	options_init(&bench.options);
	assert_int_equal(try_admin(&bench, "0.0.0.0:0", NULL, message), -EPERM);
	assert_non_null(strstr(message, "admin-token"));
	assert_int_equal(try_admin(&bench, "[::]:0", NULL, message), -EPERM);
	assert_int_equal(try_admin(&bench, "127.0.0.1:0", "short", message), -EINVAL);
	assert_non_null(strstr(message, "32"));
	assert_int_equal(try_admin(&bench, "example.com:1", NULL, message), -EINVAL);
	assert_non_null(strstr(message, "127.0.0.1:9901"));
	assert_null(bench.admin);
}

static void an_address_in_use_is_told(void **state)
{
	struct bench bench;
	struct bench second = { 0 };
	char address[32];
	char message[256];

	start_admin(&bench, "127.0.0.1:0", NULL);
	options_init(&second.options);
	snprintf(address, sizeof(address), "127.0.0.1:%u", bench.port);
	assert_int_equal(try_admin(&second, address, NULL, message), -EADDRINUSE);
	assert_non_null(strstr(message, "--admin-listen"));
	admin_stop(&bench.admin);
}

/* --- bytes --- */

/* Send these bytes, read what comes until the peer closes. */
static size_t raw(const struct bench *bench, const char *bytes, size_t size, char *out,
		  size_t out_size)
{
	const struct sockaddr_in address = { .sin_family = AF_INET,
					     .sin_port = htons(bench->port),
					     .sin_addr = { htonl(INADDR_LOOPBACK) } };
	size_t used = 0;
	ssize_t got;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (const void *)&address, sizeof(address)), 0);
	while (size > 0) {
		ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);

		if (sent <= 0)
			break;
		bytes += sent;
		size -= (size_t)sent;
	}
	while ((got = recv(fd, out + used, out_size - 1 - used, 0)) > 0)
		used += (size_t)got;
	out[used] = '\0';
	close(fd);
	return used;
}

static void a_page_of_another_site_reads_nothing(void **state)
{
	static const char request[] = "GET /v1/status HTTP/1.0\r\nHost: evil.example\r\n\r\n";
	struct bench bench;
	char answer[4096];

	start_admin(&bench, "127.0.0.1:0", TOKEN);
	assert_true(raw(&bench, request, sizeof(request) - 1, answer, sizeof(answer)) > 0);
	assert_non_null(strstr(answer, " 403 "));
	assert_null(strstr(answer, "configuration"));
	admin_stop(&bench.admin);
}

static void wrong_requests_cost_only_themselves(void **state)
{
	static char big[ADMIN_BODY_MAX + 2];
	static char answer[8192];
	struct bench bench;

	start_admin(&bench, "127.0.0.1:0", TOKEN);
	assert_int_equal(get(&bench, "/v1/nothing", NULL), 404);
	assert_int_equal(get(&bench, "/v1/status/", NULL), 404);
	assert_int_equal(get(&bench, "/../etc/passwd", NULL), 404);
	assert_int_equal(ask(&bench, "POST", "/v1/status", TOKEN, "{}", NULL), 405);
	assert_int_equal(ask(&bench, "DELETE", "/v1/drop", TOKEN, "{}", NULL), 405);
	memset(big, ' ', sizeof(big) - 1);
	assert_int_equal(ask(&bench, "POST", "/v1/drop", TOKEN, big, NULL), 413);
	big[ADMIN_BODY_MAX] = '\0';
	assert_int_equal(ask(&bench, "POST", "/v1/drop", TOKEN, big, NULL), 400);
	(void)raw(&bench, "\x16\x03\x01garbage\r\n\r\n", 14, answer, sizeof(answer));
	(void)raw(&bench, "GET", 3, answer, 1);
	(void)raw(&bench, "GET / HTTP/1.0\r\nContent-Length: 99999999999999999999\r\n\r\n", 54,
		  answer, sizeof(answer));
	assert_int_equal(get(&bench, "/v1/health", NULL), 200);
	admin_stop(&bench.admin);
}

static void connections_that_say_nothing_hold_up_nobody(void **state)
{
	struct bench bench;
	int fds[ADMIN_CONNECTIONS - 1];

	start_admin(&bench, "127.0.0.1:0", TOKEN);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		const struct sockaddr_in address = { .sin_family = AF_INET,
						     .sin_port = htons(bench.port),
						     .sin_addr = { htonl(INADDR_LOOPBACK) } };

		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(connect(fds[i], (const void *)&address, sizeof(address)), 0);
		assert_int_equal(send(fds[i], "GET /", 5, MSG_NOSIGNAL), 5);
	}
	assert_int_equal(get(&bench, "/v1/health", NULL), 200);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	admin_stop(&bench.admin);
}

/* --- states --- */

static void a_server_that_starts_is_alive_and_not_ready(void **state)
{
	struct bench bench;
	json_t *answer;

	start_admin(&bench, "127.0.0.1:0", TOKEN);
	assert_state(&bench, "/v1/health", 200, "starting");
	assert_state(&bench, "/v1/ready", 503, "starting");
	assert_int_equal(get(&bench, "/v1/status", &answer), 200);
	assert_string_equal(json_string_value(json_object_get(
				    json_object_get(answer, "configuration"), "verify")),
			    "medium");
	json_decref(answer);
	assert_int_equal(ask(&bench, "POST", "/v1/drain", TOKEN, NULL, NULL), 409);
	assert_int_equal(ask(&bench, "POST", "/v1/reload", TOKEN, NULL, NULL), 409);
	assert_int_equal(get(&bench, "/v1/sessions", NULL), 200);
	admin_stop(&bench.admin);
}

static void states_follow_the_server(void **state)
{
	struct bench bench;

	start_both(&bench, UINT32_MAX);
	assert_state(&bench, "/v1/ready", 200, "ready");
	assert_state(&bench, "/v1/health", 200, "ready");
	assert_int_equal(ask(&bench, "POST", "/v1/drain", TOKEN, NULL, NULL), 200);
	assert_state(&bench, "/v1/ready", 503, "draining");
	assert_state(&bench, "/v1/health", 200, "draining");
	admin_clear_server(bench.admin);
	assert_state(&bench, "/v1/ready", 503, "draining");
	server_rig_stop(&bench.rig);
	server_rig_fini(&bench.rig);
	admin_stop(&bench.admin);
}

static void a_reactor_that_stands_still_is_seen_and_waited_for_no_longer(void **state)
{
	struct bench bench;
	struct raw_client client;
	json_t *answer;
	uint64_t begin_ns;

	start_both(&bench, 1);
	atomic_store(&bench.rig.is_stalled, true);
	server_rig_client(&bench.rig, &client, 0); /* something turns every loop once */
	begin_ns = env_now_ns(bench.rig.env);
	while (get(&bench, "/v1/health", NULL) == 200)
		assert_true(env_now_ns(bench.rig.env) - begin_ns < 60 * NS_PER_S);
	begin_ns = env_now_ns(bench.rig.env);
	assert_int_equal(get(&bench, "/v1/status", &answer), 200);
	assert_true(env_now_ns(bench.rig.env) - begin_ns < 10 * NS_PER_S);
	assert_string_equal(json_string_value(json_object_get(answer, "state")), "degraded");
	assert_int_equal(json_integer_value(json_object_get(answer, "reactors_silent")), 1);
	json_decref(answer);
	assert_state(&bench, "/v1/ready", 200, "degraded");
	atomic_store(&bench.rig.is_stalled, false);
	begin_ns = env_now_ns(bench.rig.env);
	while (get(&bench, "/v1/health", NULL) != 200)
		assert_true(env_now_ns(bench.rig.env) - begin_ns < 60 * NS_PER_S);
	raw_client_close(&client);
	stop_both(&bench);
}

/* --- what is told --- */

static void status_tells_sessions_tenants_and_shards(void **state)
{
	struct bench bench;
	struct raw_client clients[2];
	json_t *answer;
	json_t *row;

	start_both(&bench, UINT32_MAX);
	server_rig_client(&bench.rig, &clients[0], 0);
	server_rig_client(&bench.rig, &clients[1], 2);
	assert_int_equal(get(&bench, "/v1/status", &answer), 200);
	assert_int_equal(json_array_size(json_object_get(answer, "reactors")), REACTORS);
	assert_int_equal(json_array_size(json_object_get(answer, "shards")), REACTORS);
	assert_int_equal(json_integer_value(json_object_get(answer, "session_count")), 2);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(answer, "transports"), "tcp")),
		2);
	assert_true(json_is_null(json_object_get(answer, "hit_rate")));
	assert_non_null(json_object_get(json_object_get(answer, "totals"), "ctxkv_get_time"));
	json_decref(answer);

	assert_int_equal(get(&bench, "/v1/sessions", &answer), 200);
	assert_int_equal(json_array_size(json_object_get(answer, "sessions")), 2);
	row = json_array_get(json_object_get(answer, "sessions"), 0);
	assert_string_equal(json_string_value(json_object_get(row, "tenant")), "alice");
	json_decref(answer);

	assert_int_equal(get(&bench, "/v1/tenants", &answer), 200);
	row = json_array_get(json_object_get(answer, "tenants"), 0);
	assert_string_equal(json_string_value(json_object_get(row, "name")), "alice");
	assert_int_equal(json_integer_value(json_object_get(row, "sessions")), 2);
	json_decref(answer);
	raw_client_close(&clients[0]);
	raw_client_close(&clients[1]);
	stop_both(&bench);
}

static char *scrape(const struct bench *bench)
{
	const struct http_request request = { .address = "127.0.0.1",
					      .port = bench->port,
					      .method = "GET",
					      .path = "/metrics",
					      .timeout_ns = 20 * NS_PER_S };
	struct http_answer answer;

	assert_int_equal(http_ask(&request, &answer), 0);
	assert_int_equal(answer.status, 200);
	return answer.body;
}

static void report(struct raw_client *client, uint64_t tokens)
{
	struct {
		struct wire_request request;
		struct wire_report report;
	} body = { 0 };
	struct wire_header header;

	memset(body.request.ns, 0xab, sizeof(body.request.ns));
	body.request.budget_ns = 10 * NS_PER_S;
	body.report = (struct wire_report) { tokens, 100, NS_PER_S, NS_PER_S };
	wire_header_init(&header, WIRE_REPORT, ++client->request, 0, sizeof(body));
	assert_true(raw_client_send(client, &header, &body, NULL));
	assert_int_equal(raw_client_finish(client, client->request, NULL, NULL, NULL), 0);
}

/* Two reactors have a row of the namespace: it is shown once, with the sum. */
static void the_scrape_tells_reactors_shards_tenants_and_savings(void **state)
{
	struct bench bench;
	struct raw_client clients[2];
	char *text;

	start_both(&bench, UINT32_MAX);
	server_rig_client(&bench.rig, &clients[0], 0);
	server_rig_client(&bench.rig, &clients[1], 1);
	report(&clients[0], 1000);
	report(&clients[1], 500);
	text = scrape(&bench);
	assert_non_null(strstr(text, "\nctxkv_state{state=\"ready\"} 1\n"));
	assert_non_null(strstr(text, "\nctxkv_state{state=\"draining\"} 0\n"));
	assert_non_null(strstr(text, "\nctxkv_sessions{reactor=\"1\"} 1\n"));
	assert_non_null(strstr(text, "\nctxkv_sessions{reactor=\"2\"} 0\n"));
	assert_non_null(strstr(text, "\nctxkv_shard_online{shard=\"2\",reactor=\"2\""));
	assert_non_null(strstr(text, "\nctxkv_tenant_sessions{tenant=\"alice\"} 2\n"));
	assert_non_null(strstr(text, "\nctxkv_saving_tokens_loaded_total{tenant=\"alice\","
				     "namespace=\"abababababababababababababababab\"} 1500\n"));
	/* 1500 tokens at 10 ms each, less 2 s. */
	assert_non_null(strstr(text, "\nctxkv_saving_gpu_seconds{tenant=\"alice\","
				     "namespace=\"abababababababababababababababab\"} 13\n"));
	free(text);
	raw_client_close(&clients[0]);
	raw_client_close(&clients[1]);
	stop_both(&bench);
}

/* --- what is done --- */

/* Blocks that it hid; none is told with an error. */
static json_int_t drop(const struct bench *bench, const char *body, unsigned status)
{
	json_t *answer;
	json_int_t blocks;

	assert_int_equal(ask(bench, "POST", "/v1/drop", TOKEN, body, &answer), status);
	blocks = json_integer_value(json_object_get(answer, "blocks"));
	assert_int_equal(json_is_integer(json_object_get(answer, "blocks")), status == 200);
	json_decref(answer);
	return blocks;
}

/* Blocks of the namespace of 16 such bytes, as /v1/savings has it; 0: no row. */
static json_int_t blocks_of(const struct bench *bench, uint8_t byte, json_int_t *bytes_out)
{
	json_int_t blocks = 0;
	uint8_t ns[16];
	char hex[33];
	json_t *answer;
	json_t *row;
	size_t i;

	memset(ns, byte, sizeof(ns));
	text_format_hex(hex, sizeof(hex), ns, sizeof(ns));
	assert_int_equal(get(bench, "/v1/savings", &answer), 200);
	json_array_foreach(json_object_get(answer, "savings"), i, row)
	{
		if (strcmp(json_string_value(json_object_get(row, "namespace")), hex) != 0)
			continue;
		assert_string_equal(json_string_value(json_object_get(row, "tenant")), "alice");
		assert_int_equal(blocks, 0); /* a row each */
		blocks = json_integer_value(json_object_get(row, "blocks"));
		*bytes_out = json_integer_value(json_object_get(row, "payload_bytes"));
	}
	json_decref(answer);
	return blocks;
}

/* Keys of all three shards: one is dropped, then the namespace; another namespace stays. */
static void a_drop_reaches_the_reactor_of_its_key_and_all_of_a_namespace(void **state)
{
	struct bench bench;
	struct raw_client clients[REACTORS];
	struct wire_key keys[REACTORS];
	json_int_t bytes = 0;
	char body[256];
	char key[65];

	start_both(&bench, UINT32_MAX);
	for (uint16_t i = 0; i < REACTORS; i++) {
		server_rig_client(&bench.rig, &clients[i], i);
		keys[i] = server_rig_key(i, REACTORS, 1);
		memset(clients[i].ns, 0x11, 16);
		assert_int_equal(server_rig_put(&clients[i], &keys[i], 5000), 0);
		memset(clients[i].ns, 0x22, 16);
		assert_int_equal(server_rig_put(&clients[i], &keys[i], 5000), 0);
	}
	for (size_t i = 0; i < sizeof(keys[1]); i++)
		snprintf(key + 2 * i, 3, "%02x", keys[1].bytes[i]);
	snprintf(body, sizeof(body),
		 "{\"domain\": \"alice\", \"namespace_id\": \"%s\", \"key\": \"%s\"}",
		 "11111111111111111111111111111111", key);
	assert_int_equal(blocks_of(&bench, 0x11, &bytes), REACTORS);
	assert_int_equal(bytes, REACTORS * 5000);
	assert_int_equal(drop(&bench, body, 200), 1);
	assert_int_equal(drop(&bench, body, 200), 0);
	for (uint16_t i = 0; i < REACTORS; i++) {
		memset(clients[i].ns, 0x11, 16);
		assert_int_equal(server_rig_get(&clients[i], &keys[i], 5000),
				 i == 1 ? -ERR_MISS : 0);
	}
	for (int again = 0; again < 2; again++)
		assert_int_equal(drop(&bench,
				      "{\"domain\": \"alice\", \"namespace_id\": "
				      "\"11111111111111111111111111111111\"}",
				      200),
				 again == 0 ? REACTORS - 1 : 0);
	assert_int_equal(blocks_of(&bench, 0x11, &bytes), 0);
	assert_int_equal(blocks_of(&bench, 0x22, &bytes), REACTORS);
	for (uint16_t i = 0; i < REACTORS; i++) {
		assert_int_equal(server_rig_get(&clients[i], &keys[i], 5000), -ERR_MISS);
		memset(clients[i].ns, 0x22, 16);
		assert_int_equal(server_rig_get(&clients[i], &keys[i], 5000), 0);
	}
	/* Nobody has that name. */
	(void)drop(&bench,
		   "{\"domain\": \"bob\", \"namespace_id\": "
		   "\"22222222222222222222222222222222\"}",
		   404);
	assert_int_equal(server_rig_get(&clients[0], &keys[0], 5000), 0);
	(void)drop(&bench, "{\"domain\": \"alice\"}", 400);
	for (uint16_t i = 0; i < REACTORS; i++)
		raw_client_close(&clients[i]);
	stop_both(&bench);
}

static void a_reload_is_told_as_it_went(void **state)
{
	struct bench bench;
	json_t *answer;

	start_both(&bench, UINT32_MAX);
	bench.reload_text = "";
	bench.reload_rc = -ENOENT;
	assert_int_equal(ask(&bench, "GET", "/v1/reloaded", NULL, NULL, &answer), 200);
	assert_string_equal(json_string_value(json_object_get(answer, "reload")), "none");
	json_decref(answer);
	bench.reload_rc = -EINPROGRESS;
	assert_int_equal(ask(&bench, "POST", "/v1/reload", TOKEN, NULL, &answer), 202);
	assert_string_equal(json_string_value(json_object_get(answer, "reload")), "running");
	json_decref(answer);
	assert_int_equal(ask(&bench, "GET", "/v1/reloaded", NULL, NULL, NULL), 202);
	bench.reload_rc = 0;
	bench.reload_text = "tenants 3";
	assert_int_equal(ask(&bench, "GET", "/v1/reloaded", NULL, NULL, &answer), 200);
	assert_string_equal(json_string_value(json_object_get(answer, "message")), "tenants 3");
	json_decref(answer);
	bench.reload_rc = -EINVAL;
	bench.reload_text = "line 3: no secret";
	assert_int_equal(ask(&bench, "POST", "/v1/reload", TOKEN, NULL, &answer), 409);
	assert_string_equal(json_string_value(json_object_get(answer, "error")),
			    "line 3: no secret");
	json_decref(answer);
	assert_int_equal(bench.reloads, 2);
	stop_both(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reading_is_free_on_loopback_and_changing_needs_the_token),
		cmocka_unit_test(without_a_token_nothing_can_be_changed),
		cmocka_unit_test(other_hosts_need_the_token_for_all_but_the_page),
		cmocka_unit_test(what_cannot_be_safe_does_not_start),
		cmocka_unit_test(an_address_in_use_is_told),
		cmocka_unit_test(a_page_of_another_site_reads_nothing),
		cmocka_unit_test(wrong_requests_cost_only_themselves),
		cmocka_unit_test(connections_that_say_nothing_hold_up_nobody),
		cmocka_unit_test(a_server_that_starts_is_alive_and_not_ready),
		cmocka_unit_test(states_follow_the_server),
		cmocka_unit_test(a_reactor_that_stands_still_is_seen_and_waited_for_no_longer),
		cmocka_unit_test(status_tells_sessions_tenants_and_shards),
		cmocka_unit_test(the_scrape_tells_reactors_shards_tenants_and_savings),
		cmocka_unit_test(a_drop_reaches_the_reactor_of_its_key_and_all_of_a_namespace),
		cmocka_unit_test(a_reload_is_told_as_it_went),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
