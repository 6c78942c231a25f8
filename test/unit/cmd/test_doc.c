/* SPDX-License-Identifier: Apache-2.0 */
/* Pages are found by what people type, never by what stands elsewhere; they become safe HTML. */
#include <stdlib.h>
#include <string.h>

#include "../../../src/cmd/doc.h"
#include "../../lib/t.h"

static void pages_are_found_by_path_name_and_last_part(void **state)
{
	const struct doc_page *drive = doc_find("docs/operating/drive.md");

	assert_non_null(drive);
	assert_ptr_equal(doc_find("operating/drive"), drive);
	assert_ptr_equal(doc_find("drive"), drive);
	assert_string_equal(doc_find("README")->path, "README.md");
	assert_null(doc_find("nothing"));
	assert_null(doc_find(""));
	assert_true(strlen(drive->text) == drive->size);
}

static void every_page_is_found_by_its_name(void **state)
{
	char name[256];

	assert_true(doc_page_count > 10);
	for (size_t i = 0; i < doc_page_count; i++) {
		doc_name(&doc_pages[i], name, sizeof(name));
		assert_ptr_equal(doc_find(name), &doc_pages[i]);
		assert_true(doc_pages[i].title[0] != '\0');
		assert_null(strchr(doc_pages[i].title, '<'));
	}
}

static void only_exact_paths_are_served(void **state)
{
	static const char *const tricks[] = { "",
					      "/",
					      "docs/design.md",
					      "//docs/design.md",
					      "/docs/../README.md",
					      "/docs/./design.md",
					      "/docs/design",
					      "/docs/design.md/",
					      "/../../etc/passwd",
					      "/etc/passwd",
					      "/docs/operating/../../../etc/passwd",
					      "/docs\\design.md",
					      "/DOCS/design.md" };

	assert_non_null(doc_find_url("/docs/design.md"));
	assert_non_null(doc_find_url("/README.md"));
	for (size_t i = 0; i < ARRAY_LEN(tricks); i++)
		assert_null(doc_find_url(tricks[i]));
}

static void pages_become_html_with_tables(void **state)
{
	char *html;

	for (size_t i = 0; i < doc_page_count; i++) {
		html = doc_html(&doc_pages[i]);
		assert_non_null(html);
		assert_non_null(strstr(html, "<h1>"));
		free(html);
	}
	html = doc_html(doc_find("drive"));
	assert_non_null(strstr(html, "<table>"));
	free(html);
	html = doc_html_index();
	assert_non_null(strstr(html, "href=\"/docs/operating/drive.md\""));
	free(html);
}

static void raw_html_and_scripts_are_left_out(void **state)
{
	static const char text[] = "# T\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1))\n";
	const struct doc_page page = { "docs/x.md", "T", text, sizeof(text) - 1 };
	char *html = doc_html(&page);

	assert_non_null(html);
	assert_null(strstr(html, "<script"));
	assert_null(strstr(html, "javascript:"));
	free(html);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_are_found_by_path_name_and_last_part),
		cmocka_unit_test(every_page_is_found_by_its_name),
		cmocka_unit_test(only_exact_paths_are_served),
		cmocka_unit_test(pages_become_html_with_tables),
		cmocka_unit_test(raw_html_and_scripts_are_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
