/* SPDX-License-Identifier: Apache-2.0 */
/* Good URLs are taken apart right; bad ones are refused with a sentence that helps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../src/base/log.h"
#include "../../../src/client/url.h"
#include "../../lib/t.h"

#define HEX_A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEX_B "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"

static const struct {
	const char *text;
	const char *tenant;
	const char *hosts; /* each with its port */
	const char *keyfile;
	const char *tls; /* NULL: not named */
} good[] = {
	{ "ctxkv://localhost", "", "localhost 0", "", NULL },
	{ "ctxkv://localhost/", "", "localhost 0", "", NULL },
	{ "ctxkv://team-a@db.example.org:9901?keyfile=/etc/k", "team-a", "db.example.org 9901",
	  "/etc/k", NULL },
	{ "ctxkv://a.b_c@10.0.0.1:1", "a.b_c", "10.0.0.1 1", "", NULL },
	{ "ctxkv://10.0.0.1:65535/?keyfile=k", "", "10.0.0.1 65535", "k", NULL },
	{ "ctxkv://[::1]:9900", "", "::1 9900", "", NULL },
	{ "ctxkv://t@[fe80::2]", "t", "fe80::2 0", "", NULL },
	{ "ctxkv://t@a:1,b,[::1]:2?keyfile=k", "t", "a 1,b 0,::1 2", "k", NULL },
	{ "ctxkv://a,a", "", "a 0,a 0", "", NULL },
	{ "ctxkv://h?tls=1", "", "h 0", "", "1" },
	{ "ctxkv://h?tls=required&keyfile=k", "", "h 0", "k", "1" },
	{ "ctxkv://h?keyfile=k&tls=0", "", "h 0", "k", "0" },
	{ "ctxkv://h?keyfile=/a%20b%26c%3fd", "", "h 0", "/a b&c?d", NULL },
};

static const struct {
	const char *text;
	const char *says; /* part of the message */
} bad[] = {
	{ "", "does not begin with ctxkv://" },
	{ "http://localhost", "does not begin with ctxkv://" },
	{ "ctxkv:/localhost", "does not begin with ctxkv://" },
	{ "ctxkv://", "names no host" },
	{ "ctxkv://t@", "names no host" },
	{ "ctxkv://:9900", "names no host" },
	{ "ctxkv://a,,b", "names no host" },
	{ "ctxkv://a,", "names no host" },
	{ "ctxkv://a,b:0", "port '0'" },
	{ "ctxkv://h:", "port ''" },
	{ "ctxkv://h:0", "port '0'" },
	{ "ctxkv://h:65536", "port '65536'" },
	{ "ctxkv://h:99999999999999999999", "not a number from 1 to 65535" },
	{ "ctxkv://h:9x", "port '9x'" },
	{ "ctxkv://h:-1", "port '-1'" },
	{ "ctxkv://::1", "in brackets" },
	{ "ctxkv://[::1", "without its ']'" },
	{ "ctxkv://[::1]9900", "':' and a port" },
	{ "ctxkv://[localhost]", "not an IPv6 address" },
	{ "ctxkv://[]", "not an IPv6 address" },
	{ "ctxkv://h/path", "no host name has: '/'" },
	{ "ctxkv://h h", "no host name has: ' '" },
	{ "ctxkv://bad tenant@h", "not a name" },
	{ "ctxkv://@h", "not a name" },
	{ "ctxkv://h?keyfil=x", "did you mean 'keyfile'" },
	{ "ctxkv://h?KeyFile=x", "did you mean 'keyfile'" },
	{ "ctxkv://h?compression=on", "unknown parameter 'compression'" },
	{ "ctxkv://h?", "unknown parameter" },
	{ "ctxkv://h?tls", "write tls=1" },
	{ "ctxkv://h?tls=", "empty" },
	{ "ctxkv://h?tls=yes", "tls= in the URL is 1" },
	{ "ctxkv://h?tls=1&tls=1", "twice" },
	{ "ctxkv://h?transport=rdma", "auto, tcp or shm" },
	{ "ctxkv://h?transport", "write transport=shm" },
	{ "ctxkv://h?transprot=shm", "did you mean 'transport'" },
	{ "ctxkv://h?tls=0123456789abcdef", "too long" },
	{ "ctxkv://h?tsl=1", "did you mean 'tls'" },
	{ "ctxkv://h?keyfile", "keyfile=PATH" },
	{ "ctxkv://h?keyfile=", "empty" },
	{ "ctxkv://h?keyfile=a&keyfile=b", "twice" },
	{ "ctxkv://h?keyfile=a%2", "two hex digits" },
	{ "ctxkv://h?keyfile=a%zz", "two hex digits" },
	{ "ctxkv://h?keyfile=a%00", "two hex digits" },
};

static const char *hosts_text(const struct url *url)
{
	static char text[1024];
	size_t used = 0;

	for (uint32_t i = 0; i < url->host_count; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s %u",
					 i > 0 ? "," : "", url->hosts[i].host, url->hosts[i].port);
	return text;
}

static void good_urls_are_taken_apart(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		char message[URL_MESSAGE_SIZE] = "";
		struct url url;

		if (url_parse(good[i].text, &url, message) != 0)
			fail_msg("%s: %s", good[i].text, message);
		assert_string_equal(url.tenant, good[i].tenant);
		assert_string_equal(url.tls, good[i].tls != NULL ? good[i].tls : "");
		assert_string_equal(hosts_text(&url), good[i].hosts);
		assert_string_equal(url.keyfile, good[i].keyfile);
	}
}

static void bad_urls_are_refused_with_the_reason(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char message[URL_MESSAGE_SIZE] = "";
		struct url url;

		assert_int_equal(url_parse(bad[i].text, &url, message), -ERR_URL);
		if (strstr(message, bad[i].says) == NULL)
			fail_msg("'%s' says: %s", bad[i].text, message);
	}
}

static void parts_that_are_too_long_are_refused(void **state)
{
	char message[URL_MESSAGE_SIZE];
	char text[8192];
	char name[8000];
	struct url url;

	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	snprintf(text, sizeof(text), "ctxkv://%.128s", name);
	assert_int_equal(url_parse(text, &url, message), -ERR_URL);
	snprintf(text, sizeof(text), "ctxkv://%.127s", name);
	assert_int_equal(url_parse(text, &url, message), 0);
	snprintf(text, sizeof(text), "ctxkv://%.64s@h", name);
	assert_int_equal(url_parse(text, &url, message), -ERR_URL);
	snprintf(text, sizeof(text), "ctxkv://%.63s@h?keyfile=%.4095s", name, name);
	assert_int_equal(url_parse(text, &url, message), 0);
	snprintf(text, sizeof(text), "ctxkv://h?keyfile=%.4096s", name);
	assert_int_equal(url_parse(text, &url, message), -ERR_URL);
}

/* --- with files --- */

static char dir[64];
static char warned[512];

static void note_line(void *ctx, enum log_level level, const char *line)
{
	snprintf(warned, sizeof(warned), "%s", line);
}

static const char *write_file(const char *name, const char *text, mode_t mode)
{
	static char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

static int setup(void **state)
{
	char path[128];

	snprintf(dir, sizeof(dir), "/tmp/ctxkv-url-XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/ctxkv", dir);
	mkdir(path, 0700);
	setenv("XDG_CONFIG_HOME", dir, 1);
	unsetenv("CTXKV_URL");
	log_sink_set(note_line, NULL);
	warned[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	log_sink_set(NULL, NULL);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

static int resolve(const char *text, struct client_target *target, char *message)
{
	message[0] = '\0';
	return url_resolve(text, target, message);
}

static void nothing_set_up_names_setup_and_keyfile(void **state)
{
	struct client_target target;
	char message[URL_MESSAGE_SIZE];

	assert_int_equal(resolve(NULL, &target, message), -ERR_URL);
	assert_non_null(strstr(message, "ctxkv setup"));
	assert_non_null(strstr(message, "keyfile="));
	assert_int_equal(resolve("ctxkv://somewhere", &target, message), -ERR_URL);
	assert_non_null(strstr(message, "ctxkv setup"));
	assert_non_null(strstr(message, "keyfile="));
}

static void what_setup_wrote_is_the_default(void **state)
{
	struct client_target target;
	char message[URL_MESSAGE_SIZE];
	char text[512];

	snprintf(text, sizeof(text), "ctxkv://me@localhost:9911?keyfile=%s\n",
		 write_file("keys", "other " HEX_B "\nme " HEX_A " " HEX_B "\n", 0600));
	write_file("ctxkv/client.url", text, 0600);

	assert_int_equal(resolve(NULL, &target, message), 0);
	assert_string_equal(target.hosts[0].host, "127.0.0.1");
	assert_int_equal(target.hosts[0].port, 9911);
	assert_string_equal(target.tenant, "me");
	assert_int_equal(target.secret.bytes[1], 0x11);
	assert_true(target.hosts[0].is_numeric);
	assert_string_equal(warned, "");

	/* A URL without a key file takes tenant and file from there, host and port from itself. */
	assert_int_equal(resolve("ctxkv://far.example", &target, message), 0);
	assert_string_equal(target.hosts[0].host, "far.example");
	assert_int_equal(target.hosts[0].port, WIRE_PORT);
	assert_string_equal(target.tenant, "me");
	assert_false(target.hosts[0].is_numeric);

	assert_int_equal(resolve("ctxkv://other@far.example", &target, message), 0);
	assert_int_equal(target.secret.bytes[1], 0xee);
	assert_int_equal(resolve("ctxkv://nobody@far.example", &target, message), -ERR_URL);
	assert_non_null(strstr(message, "no secret for tenant nobody"));

	setenv("CTXKV_URL", "ctxkv://10.1.2.3", 1);
	assert_int_equal(resolve(NULL, &target, message), 0);
	assert_string_equal(target.hosts[0].host, "10.1.2.3");
	unsetenv("CTXKV_URL");
}

static void a_tenant_may_be_left_out_only_where_there_is_one(void **state)
{
	struct client_target target;
	char message[URL_MESSAGE_SIZE];
	char text[512];

	snprintf(text, sizeof(text), "ctxkv://h?keyfile=%s",
		 write_file("keys", "only " HEX_A "\n", 0600));
	assert_int_equal(resolve(text, &target, message), 0);
	assert_string_equal(target.tenant, "only");
	write_file("keys", "one " HEX_A "\ntwo " HEX_B "\n", 0600);
	assert_int_equal(resolve(text, &target, message), -ERR_URL);
	assert_non_null(strstr(message, "ctxkv://one@h"));
}

static void a_readable_key_file_is_warned_about(void **state)
{
	struct client_target target;
	char message[URL_MESSAGE_SIZE];
	char text[512];

	snprintf(text, sizeof(text), "ctxkv://h?keyfile=%s",
		 write_file("keys", "only " HEX_A "\n", 0640));
	assert_int_equal(resolve(text, &target, message), 0);
	assert_non_null(strstr(warned, "chmod 600"));
}

static void key_files_that_are_no_good_are_named(void **state)
{
	struct client_target target;
	char message[URL_MESSAGE_SIZE];
	char text[512];

	snprintf(text, sizeof(text), "ctxkv://h?keyfile=%s/none", dir);
	assert_int_equal(resolve(text, &target, message), -ENOENT);
	assert_non_null(strstr(message, "/none"));
	snprintf(text, sizeof(text), "ctxkv://h?keyfile=%s",
		 write_file("keys", "me nonsense\n", 0600));
	assert_int_equal(resolve(text, &target, message), -EINVAL);
	assert_non_null(strstr(message, "keys"));
	write_file("ctxkv/client.url", "ctxkv://h?keyfiles=/x\n", 0600);
	assert_int_equal(resolve(NULL, &target, message), -ERR_URL);
	assert_non_null(strstr(message, "client.url"));
	assert_non_null(strstr(message, "did you mean"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_urls_are_taken_apart),
		cmocka_unit_test(bad_urls_are_refused_with_the_reason),
		cmocka_unit_test(parts_that_are_too_long_are_refused),
		cmocka_unit_test_setup_teardown(nothing_set_up_names_setup_and_keyfile, setup,
						teardown),
		cmocka_unit_test_setup_teardown(what_setup_wrote_is_the_default, setup, teardown),
		cmocka_unit_test_setup_teardown(a_tenant_may_be_left_out_only_where_there_is_one,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_readable_key_file_is_warned_about, setup,
						teardown),
		cmocka_unit_test_setup_teardown(key_files_that_are_no_good_are_named, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
