/* SPDX-License-Identifier: Apache-2.0 */
/* The documentation inside the binary: a table that tools/embed-docs writes from docs/. */
#ifndef CMD_DOC_H
#define CMD_DOC_H

#include "../base/base.h"

struct doc_page {
	const char *path; /* in the source tree: "docs/operating/drive.md" */
	const char *title;
	const char *text; /* Markdown, with a NUL behind it */
	size_t size;
};

/* README.md first, then by path. */
extern const struct doc_page doc_pages[];
extern const size_t doc_page_count;

/* By path, by path without docs/ and .md, or by the last part of that when only one page has it. */
const struct doc_page *doc_find(const char *name);

/* The page at exactly this path of a URL ("/docs/design.md"); nothing else is ever served. */
const struct doc_page *doc_find_url(const char *url);

/* The page as a whole HTML document; freed by the caller. NULL: no memory. */
char *doc_html(const struct doc_page *page);

/* The list of pages, likewise. */
char *doc_html_index(void);

/* "operating/drive": what doc_find() takes. Returns buf. */
const char *doc_name(const struct doc_page *page, char *buf, size_t buf_size);

#endif
