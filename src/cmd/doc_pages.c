/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages found and rendered. Rendering is cmark-gfm's, in its safe mode: raw HTML and dangerous
 * links of a page are left out.
 */
#include <cmark-gfm-core-extensions.h>
#include <cmark-gfm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doc.h"

#define NAME_SIZE 256

static const char head[] =
	"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<title>%s - "
	"ctxkv</title>\n"
	"<style>body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
	"pre,code{font:14px/1.4 monospace;background:#f4f4f4}pre{padding:.6em;overflow:auto}"
	"table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .5em;"
	"vertical-align:top}</style></head><body>\n<p><a href=\"/\">All pages</a></p>\n";
static const char tail[] = "</body></html>\n";

const char *doc_name(const struct doc_page *page, char *buf, size_t buf_size)
{
	const char *path = page->path;
	size_t size;

	if (strncmp(path, "docs/", 5) == 0)
		path += 5;
	size = strlen(path);
	snprintf(buf, buf_size, "%.*s", (int)(size > 3 ? size - 3 : size), path); /* ".md" */
	return buf;
}

const struct doc_page *doc_find(const char *name)
{
	const struct doc_page *found = NULL;
	char buf[NAME_SIZE];

	for (size_t i = 0; i < doc_page_count; i++) {
		if (strcmp(doc_pages[i].path, name) == 0 ||
		    strcmp(doc_name(&doc_pages[i], buf, sizeof(buf)), name) == 0)
			return &doc_pages[i];
	}
	for (size_t i = 0; i < doc_page_count; i++) {
		const char *slash = strrchr(doc_name(&doc_pages[i], buf, sizeof(buf)), '/');

		if (slash == NULL || strcmp(slash + 1, name) != 0)
			continue;
		if (found != NULL)
			return NULL; /* which of them? */
		found = &doc_pages[i];
	}
	return found;
}

const struct doc_page *doc_find_url(const char *url)
{
	for (size_t i = 0; url[0] == '/' && i < doc_page_count; i++) {
		if (strcmp(url + 1, doc_pages[i].path) == 0)
			return &doc_pages[i];
	}
	return NULL;
}

/* Markdown to HTML, with tables. */
static char *render(const char *text, size_t size)
{
	cmark_parser *parser;
	cmark_syntax_extension *table;
	cmark_node *root;
	char *html;

	cmark_gfm_core_extensions_ensure_registered();
	parser = cmark_parser_new(CMARK_OPT_DEFAULT);
	table = cmark_find_syntax_extension("table");
	if (table != NULL)
		cmark_parser_attach_syntax_extension(parser, table);
	cmark_parser_feed(parser, text, size);
	root = cmark_parser_finish(parser);
	html = cmark_render_html(root, CMARK_OPT_DEFAULT,
				 cmark_parser_get_syntax_extensions(parser));
	cmark_node_free(root);
	cmark_parser_free(parser);
	return html;
}

/* A whole document around the body. */
static char *document(const char *title, const char *body)
{
	char *html = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&html, &size);

	if (out == NULL)
		return NULL;
	fprintf(out, head, title);
	fputs(body, out);
	fputs(tail, out);
	return fclose(out) == 0 ? html : NULL;
}

char *doc_html(const struct doc_page *page)
{
	char *body = render(page->text, page->size);
	char *html = body != NULL ? document(page->title, body) : NULL;

	free(body);
	return html;
}

char *doc_html_index(void)
{
	char *body = NULL;
	char *html = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&body, &size);
	char name[NAME_SIZE];

	if (out == NULL)
		return NULL;
	fputs("<h1>ctxkv</h1>\n<ul>\n", out);
	for (size_t i = 0; i < doc_page_count; i++)
		fprintf(out, "<li><a href=\"/%s\">%s</a>: %s</li>\n", doc_pages[i].path,
			doc_name(&doc_pages[i], name, sizeof(name)), doc_pages[i].title);
	fputs("</ul>\n", out);
	if (fclose(out) == 0)
		html = document("Documentation", body);
	free(body);
	return html;
}
