/* SPDX-License-Identifier: Apache-2.0 */
/* Key files: what is accepted, and that each mistake is refused with its line and no secret. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/wire/keyfile.h"
#include "../../lib/t.h"

#define HEX16 "00112233445566778899aAbBcCdDeEfF"
#define HEX_A HEX16 HEX16
#define HEX_B "ffffffffffffffffffffffffffffffff" HEX16

static void rows_are_read(void **state)
{
	static const char text[] = "# tenants\n"
				   "\n"
				   "acme " HEX_A "\n"
				   "\t b-2_c.d\t" HEX_A "  " HEX_B " # while A goes\r\n"
				   "last " HEX_B;
	static const uint8_t half[16] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
					  0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
	struct keyfile_row rows[4];
	char message[256] = "";

	assert_int_equal(keyfile_parse(text, rows, 4, message), 3);
	assert_string_equal(rows[0].tenant, "acme");
	assert_int_equal(rows[0].secret_count, 1);
	assert_memory_equal(rows[0].secrets[0].bytes, half, 16);
	assert_memory_equal(rows[0].secrets[0].bytes + 16, half, 16);
	assert_string_equal(rows[1].tenant, "b-2_c.d");
	assert_int_equal(rows[1].secret_count, 2);
	assert_int_equal(rows[1].secrets[1].bytes[0], 0xff);
	assert_string_equal(rows[2].tenant, "last");
	assert_string_equal(message, "");
}

static void options_are_read(void **state)
{
	static const char text[] =
		"plain " HEX_A "\n"
		"full " HEX_A " rights=read domain=club domain=lab:read+write quota=2GiB "
		"sessions=7 # all\n"
		"mixed quota=100 " HEX_A " domain=club:read " HEX_B "\n";
	struct keyfile_row rows[3];
	char message[256] = "";

	assert_int_equal(keyfile_parse(text, rows, 3, message), 3);
	assert_int_equal(rows[0].rights, WIRE_RIGHT_READ | WIRE_RIGHT_WRITE);
	assert_int_equal(rows[0].domain_count, 0);
	assert_int_equal(rows[0].quota, 0);
	assert_int_equal(rows[0].session_max, 0);
	assert_int_equal(rows[0].line, 1);
	assert_int_equal(rows[1].rights, WIRE_RIGHT_READ);
	assert_int_equal(rows[1].domain_count, 2);
	assert_string_equal(rows[1].domains[0].name, "club");
	assert_int_equal(rows[1].domains[0].rights, WIRE_RIGHT_READ);
	assert_string_equal(rows[1].domains[1].name, "lab");
	assert_int_equal(rows[1].domains[1].rights, WIRE_RIGHT_READ | WIRE_RIGHT_WRITE);
	assert_int_equal(rows[1].quota, 2 * GiB);
	assert_int_equal(rows[1].session_max, 7);
	assert_int_equal(rows[2].secret_count, 2);
	assert_int_equal(rows[2].quota, 100);
	assert_int_equal(rows[2].line, 3);
}

/* What is written is read again, at its largest, too. */
static void a_row_is_written_as_it_is_read(void **state)
{
	struct keyfile_row row = { .secret_count = 2,
				   .rights = WIRE_RIGHT_READ,
				   .quota = UINT64_MAX / 2,
				   .session_max = UINT32_MAX,
				   .domain_count = KEYFILE_DOMAIN_MAX,
				   .line = 1 };
	struct keyfile_row again;
	char line[KEYFILE_LINE_MAX];
	char message[256] = "";

	memset(row.tenant, 't', WIRE_TENANT_MAX - 1);
	memset(row.secrets, 0xab, sizeof(row.secrets));
	for (uint32_t i = 0; i < KEYFILE_DOMAIN_MAX; i++) {
		memset(row.domains[i].name, 'a' + (int)i, WIRE_TENANT_MAX - 1);
		row.domains[i].rights = WIRE_RIGHT_READ | (i % 2 == 0 ? WIRE_RIGHT_WRITE : 0);
	}
	memset(&again, 0, sizeof(again));
	assert_int_equal(keyfile_parse(keyfile_format(&row, line), &again, 1, message), 1);
	assert_string_equal(message, "");
	assert_memory_equal(&again, &row, sizeof(row));
}

static void an_empty_file_has_no_row(void **state)
{
	char message[256];

	assert_int_equal(keyfile_parse("", NULL, 0, message), 0);
	assert_int_equal(keyfile_parse("#\n\n \t\n", NULL, 0, message), 0);
}

static void rows_beyond_the_room_are_counted(void **state)
{
	struct keyfile_row rows[2] = { 0 };
	char message[256];

	assert_int_equal(keyfile_parse("a " HEX_A "\nb " HEX_A "\nc " HEX_A "\n", rows, 1, message),
			 3);
	assert_string_equal(rows[0].tenant, "a");
	assert_string_equal(rows[1].tenant, "");
}

static void mistakes_are_refused_with_their_line(void **state)
{
	static const struct {
		const char *text;
		const char *message;
	} cases[] = {
		{ "acme\n", "line 1: tenant acme has no secret" },
		{ "\n\nacme " HEX16 "\n", "line 3: secret 1 of tenant acme is not 64 hex digits" },
		{ "acme " HEX_A "0\n", "line 1: secret 1 of tenant acme is not 64 hex digits" },
		{ "acme " HEX_A " " HEX16 HEX16 "x",
		  "line 1: secret 2 of tenant acme is not 64 hex digits" },
		{ "acme " HEX16 "zz112233445566778899aAbBcCdDeEfF",
		  "line 1: secret 1 of tenant acme is not 64 hex digits" },
		{ "acme " HEX_A " " HEX_A " " HEX_A "\n",
		  "line 1: more than a tenant and two secrets" },
		{ "ac/me " HEX_A "\n",
		  "line 1: a tenant is 1 to 63 letters, digits, '-', '_' and '.'" },
		{ "a " HEX_A "\nb " HEX_A "\na " HEX_B "\n", "line 3: tenant a was named before" },
		{ "a " HEX_A " color=red\n",
		  "line 1: tenant a has an option that is not known; there are domain=, quota=, "
		  "rights= and sessions=" },
		{ "a " HEX_A " quota=1 quota=2\n", "line 1: tenant a has quota= twice" },
		{ "a " HEX_A " quota=many\n",
		  "line 1: quota= of tenant a is not a size above 0, as in 200GiB" },
		{ "a " HEX_A " rights=write\n",
		  "line 1: rights= of tenant a is not read or read+write" },
		{ "a " HEX_A " sessions=0\n",
		  "line 1: sessions= of tenant a is not a number above 0" },
		{ "a " HEX_A " domain=x/y\n",
		  "line 1: domain= of tenant a is not NAME, NAME:read or NAME:read+write, 8 at "
		  "most" },
		{ "a " HEX_A " domain=x domain=x:read\n",
		  "line 1: domain= of tenant a is not NAME, NAME:read or NAME:read+write, 8 at "
		  "most" },
		{ "a " HEX_A "\nb " HEX_B " domain=a\n",
		  "line 2: domain a has the name of a tenant, and is his own" },
		{ "a " HEX_A " domain=a\n",
		  "line 1: domain a has the name of a tenant, and is his own" },
		{ "a quota=1GiB\n", "line 1: tenant a has no secret" },
		{ "a\v" HEX_A, "line 1: a tenant is 1 to 63 letters, digits, '-', '_' and '.'" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct keyfile_row rows[4];
		char message[256] = "";

		assert_int_equal(keyfile_parse(cases[i].text, rows, 4, message), -EINVAL);
		assert_string_equal(message, cases[i].message);
	}
}

static void tenants_have_an_alphabet_and_a_size(void **state)
{
	char name[65];

	memset(name, 'x', sizeof(name));
	name[64] = '\0';
	assert_false(keyfile_is_tenant(name));
	name[63] = '\0';
	assert_true(keyfile_is_tenant(name));
	assert_false(keyfile_is_tenant(""));
	for (int c = 1; c < 256; c++) {
		bool is_good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			       (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';

		name[0] = (char)c;
		name[1] = '\0';
		assert_int_equal(keyfile_is_tenant(name), is_good);
	}
}

/* A message must not carry a secret into a log. */
static void no_message_shows_a_secret(void **state)
{
	struct keyfile_row rows[4];
	char message[256];

	assert_int_equal(keyfile_parse(HEX_A "\n", rows, 4, message), -EINVAL);
	assert_null(strstr(message, "0011"));
	assert_int_equal(keyfile_parse(HEX_A " acme\n", rows, 4, message), -EINVAL);
	assert_null(strstr(message, "0011"));
	assert_int_equal(keyfile_parse("acme " HEX_A "7\n", rows, 4, message), -EINVAL);
	assert_null(strstr(message, "0011"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_read),
		cmocka_unit_test(options_are_read),
		cmocka_unit_test(a_row_is_written_as_it_is_read),
		cmocka_unit_test(an_empty_file_has_no_row),
		cmocka_unit_test(rows_beyond_the_room_are_counted),
		cmocka_unit_test(mistakes_are_refused_with_their_line),
		cmocka_unit_test(tenants_have_an_alphabet_and_a_size),
		cmocka_unit_test(no_message_shows_a_secret),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
