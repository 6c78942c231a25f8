/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes from outside into the admin endpoint: the token and its file, the body of a drop,
 * addresses, Host headers. What is not exactly right is refused with a sentence.
 */
#include <string.h>

#include "../../../src/admin/address.h"
#include "../../../src/admin/params.h"
#include "../../../src/wire/auth.h"
#include "../../lib/t.h"

#define TOKEN "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static void a_token_is_the_first_line_with_something(void **state)
{
	static const char *const good[] = {
		TOKEN,
		TOKEN "\n",
		"\n# a comment\n\n" TOKEN "\r\nsomething else\n",
	};
	char token[ADMIN_TOKEN_MAX + 1];
	char message[256];

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(admin_token_parse(good[i], token, message), 0);
		assert_string_equal(token, TOKEN);
	}
}

static void tokens_that_could_be_guessed_or_not_be_sent_are_refused(void **state)
{
	static char long_one[ADMIN_TOKEN_MAX + 2];
	const char *const bad[] = { "",
				    "\n\n",
				    "# only a comment",
				    "secret",
				    "0123456789abcdef0123456789abcde", /* 31 */
				    "0123456789abcdef 0123456789abcdef",
				    "0123456789abcdef\x01"
				    "0123456789abcdef",
				    long_one };
	char token[ADMIN_TOKEN_MAX + 1] = "untouched";
	char message[256];

	memset(long_one, 'a', sizeof(long_one) - 1);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		message[0] = '\0';
		assert_int_equal(admin_token_parse(bad[i], token, message), -EINVAL);
		assert_true(strlen(message) > 10);
	}
	assert_string_equal(token, "untouched");
	long_one[ADMIN_TOKEN_MAX] = '\0';
	assert_int_equal(admin_token_parse(long_one, token, message), 0);
}

static void only_the_whole_token_is_the_token(void **state)
{
	char almost[] = "Bearer " TOKEN;

	assert_true(admin_token_is_in("Bearer " TOKEN, TOKEN));
	assert_false(admin_token_is_in(NULL, TOKEN));
	assert_false(admin_token_is_in("", TOKEN));
	assert_false(admin_token_is_in("Bearer ", TOKEN));
	assert_false(admin_token_is_in(TOKEN, TOKEN));
	assert_false(admin_token_is_in("bearer " TOKEN, TOKEN));
	assert_false(admin_token_is_in("Basic " TOKEN, TOKEN));
	assert_false(admin_token_is_in("Bearer " TOKEN "0", TOKEN));
	assert_false(admin_token_is_in("Bearer  " TOKEN, TOKEN));
	/* Every single character counts. */
	for (size_t i = 7; i < strlen(almost); i++) {
		almost[i] ^= 1;
		assert_false(admin_token_is_in(almost, TOKEN));
		almost[i] ^= 1;
	}
	for (size_t size = 0; size < strlen(almost); size++) {
		char cut[sizeof(almost)] = "";

		memcpy(cut, almost, size);
		assert_false(admin_token_is_in(cut, TOKEN));
	}
}

#define ID  "00112233445566778899aabbccddeeff"
#define KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static int drop_parse(const char *text, struct query_drop *drop, char message[256])
{
	return admin_drop_parse(text, strlen(text), drop, message);
}

static void a_drop_names_a_namespace_or_a_key(void **state)
{
	struct query_drop drop;
	char message[256];
	uint8_t id[16];

	assert_int_equal(
		drop_parse("{\"domain\": \"alice\", \"namespace_id\": \"" ID "\"}", &drop, message),
		0);
	auth_domain_id("alice", id);
	assert_memory_equal(drop.domain, id, 16);
	assert_int_equal(drop.ns[0], 0);
	assert_int_equal(drop.ns[15], 0xff);
	assert_true(drop.is_namespace);
	assert_int_equal(drop_parse("{\"namespace\": \"llama 70b\", \"domain\": \"shared.a\", "
				    "\"key\": \"" KEY "\"}",
				    &drop, message),
			 0);
	auth_namespace_id("llama 70b", id);
	assert_memory_equal(drop.ns, id, 16);
	assert_false(drop.is_namespace);
	assert_int_equal(drop.key[31], 0x1f);
}

static void other_drops_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"{",
		"[]",
		"null",
		"\"alice\"",
		"{}",
		"{\"domain\": \"alice\"}",
		"{\"namespace\": \"x\"}",
		"{\"domain\": \"alice\", \"key\": \"" KEY "\"}",
		"{\"domain\": 7, \"namespace\": \"x\"}",
		"{\"domain\": \"\", \"namespace\": \"x\"}",
		"{\"domain\": \"a b\", \"namespace\": \"x\"}",
		"{\"domain\": \"alice\", \"namespace\": \"\"}",
		"{\"domain\": \"alice\", \"namespace\": \"x\", \"namespace_id\": \"" ID "\"}",
		"{\"domain\": \"alice\", \"namespace_id\": \"" ID "0\"}",
		"{\"domain\": \"alice\", \"namespace_id\": \"g0112233445566778899aabbccddeeff\"}",
		"{\"domain\": \"alice\", \"namespace\": \"x\", \"key\": \"00\"}",
		"{\"domain\": \"alice\", \"namespace\": \"x\", \"keys\": \"" KEY "\"}",
		"{\"domain\": \"alice\", \"namespace\": \"x\", \"namespace\": \"y\"}",
		"{\"domain\": \"alice\", \"namespace\": \"x\"} {}",
	};
	struct query_drop drop;
	struct query_drop before;
	char message[256];

	memset(&drop, 0x5a, sizeof(drop));
	before = drop;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		message[0] = '\0';
		assert_int_equal(drop_parse(bad[i], &drop, message), -EINVAL);
		assert_true(strlen(message) > 5);
	}
	assert_memory_equal(&drop, &before, sizeof(drop));
	/* Bytes that are no text, and text that ends early. */
	assert_int_equal(admin_drop_parse("\xff\xfe\x00{", 4, &drop, message), -EINVAL);
}

static void addresses_are_numeric(void **state)
{
	static const struct {
		const char *text;
		const char *back; /* NULL: refused */
		bool is_loopback;
	} rows[] = {
		{ "127.0.0.1:9901", "127.0.0.1:9901", true },
		{ "127.0.0.1", "127.0.0.1:9901", true },
		{ "127.8.9.10:0", "127.8.9.10:0", true },
		{ "0.0.0.0:9901", "0.0.0.0:9901", false },
		{ "10.1.2.3:80", "10.1.2.3:80", false },
		{ "128.0.0.1:80", "128.0.0.1:80", false },
		{ "[::1]:9901", "[::1]:9901", true },
		{ "[::1]", "[::1]:9901", true },
		{ "[::]:7", "[::]:7", false },
		{ "[fe80::1]:7", "[fe80::1]:7", false },
		{ "", NULL, false },
		{ ":9901", NULL, false },
		{ "localhost:9901", NULL, false },
		{ "127.0.0.1:", NULL, false },
		{ "127.0.0.1:65536", NULL, false },
		{ "127.0.0.1:-1", NULL, false },
		{ "127.0.0.1:99x", NULL, false },
		{ "127.0.0.256:1", NULL, false },
		{ "[::1", NULL, false },
		{ "[::1]9901", NULL, false },
		{ "[]:1", NULL, false },
		{ "0.0.0.0:1,127.0.0.1:2", NULL, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		union admin_address address;
		char back[80];
		int rc = admin_address_parse(rows[i].text, &address);

		assert_int_equal(rc, rows[i].back != NULL ? 0 : -EINVAL);
		if (rc < 0)
			continue;
		assert_string_equal(admin_address_format(&address, back, sizeof(back)),
				    rows[i].back);
		assert_int_equal(admin_address_is_loopback(&address), rows[i].is_loopback);
	}
}

static void names_of_other_sites_are_no_host_of_ours(void **state)
{
	static const char *const plain[] = { "localhost", "localhost:9901", "127.0.0.1:9901",
					     "[::1]:9901", "10.0.0.1" };
	static const char *const others[] = { "",
					      "example.com",
					      "example.com:9901",
					      "localhost.example.com",
					      "127.0.0.1.example.com:9901",
					      "localhost:",
					      "xlocalhost" };

	for (size_t i = 0; i < ARRAY_LEN(plain); i++)
		assert_true(admin_host_is_plain(plain[i]));
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		assert_false(admin_host_is_plain(others[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_token_is_the_first_line_with_something),
		cmocka_unit_test(tokens_that_could_be_guessed_or_not_be_sent_are_refused),
		cmocka_unit_test(only_the_whole_token_is_the_token),
		cmocka_unit_test(a_drop_names_a_namespace_or_a_key),
		cmocka_unit_test(other_drops_are_refused),
		cmocka_unit_test(addresses_are_numeric),
		cmocka_unit_test(names_of_other_sites_are_no_host_of_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
