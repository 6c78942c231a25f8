/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doc [PAGE]: the documentation of this very version. Without a page a list of them; a page as
 * text, through $PAGER on a terminal; --serve: all of them as HTML, on loopback only, until
 * interrupted.
 *
 * What is served is found by comparing the URL with the paths of the table: no file is opened, so
 * there is no path to trick.
 */
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../base/text.h"
#include "cmd.h"
#include "doc.h"

#define CONNECTIONS 16
#define TIMEOUT_S   30
#define NAME_SIZE   256

/* --- as text --- */

static void list_print(void)
{
	char name[NAME_SIZE];

	for (size_t i = 0; i < doc_page_count; i++)
		printf("%-32s %s\n", doc_name(&doc_pages[i], name, sizeof(name)),
		       doc_pages[i].title);
	puts("\n'ctxkv doc PAGE' prints one; 'ctxkv doc --serve' shows all in a browser.");
}

static int unknown_page(const char *wanted)
{
	char best[NAME_SIZE] = "";
	char name[NAME_SIZE];

	for (size_t i = 0; i < doc_page_count; i++) {
		doc_name(&doc_pages[i], name, sizeof(name));
		if (best[0] == '\0' || text_distance(wanted, name) < text_distance(wanted, best))
			memcpy(best, name, sizeof(best));
	}
	return cmd_fail(EXIT_USAGE,
			"there is no page '%s', or more than one; did you mean '%s'? 'ctxkv doc' "
			"lists them",
			wanted, best);
}

/* The child that shows what it reads from *fd_out; 0: there is none, print it plainly. */
static pid_t pager_start(int *fd_out)
{
	const char *pager = getenv("PAGER");
	int ends[2];
	pid_t pid;

	if (pager == NULL || pager[0] == '\0')
		pager = "less -FRS";
	if (isatty(STDOUT_FILENO) == 0 || pipe(ends) < 0)
		return 0;
	pid = fork();
	if (pid == 0) {
		dup2(ends[0], STDIN_FILENO);
		close(ends[0]);
		close(ends[1]);
		execl("/bin/sh", "sh", "-c", pager, (char *)NULL);
		_exit(127);
	}
	close(ends[0]);
	if (pid < 0) {
		close(ends[1]);
		return 0;
	}
	*fd_out = ends[1];
	return pid;
}

static int page_print(const struct doc_page *page)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	FILE *out = stdout;
	int status = 0;
	int fd = -1;
	pid_t pager = pager_start(&fd);

	if (pager > 0) {
		sigaction(SIGPIPE, &ignore, NULL); /* he may leave before the end */
		out = fdopen(fd, "w");
	}
	if (out == NULL)
		return cmd_fail(EXIT_FAILED, "no memory");
	fwrite(page->text, 1, page->size, out);
	if (pager <= 0)
		return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
	fclose(out);
	waitpid(pager, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		fwrite(page->text, 1, page->size, stdout); /* there is no such pager */
	return EXIT_DONE;
}

/* --- served --- */

static enum MHD_Result respond(struct MHD_Connection *connection, unsigned code, char *body,
			       const char *type)
{
	struct MHD_Response *response;
	enum MHD_Result result;

	if (body == NULL)
		return MHD_NO; /* the connection is closed */
	response = MHD_create_response_from_buffer(strlen(body), body, MHD_RESPMEM_MUST_FREE);
	if (response == NULL) {
		free(body);
		return MHD_NO;
	}
	MHD_add_response_header(response, "Content-Type", type);
	MHD_add_response_header(response, "Content-Security-Policy",
				"default-src 'none'; style-src 'unsafe-inline'");
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	result = MHD_queue_response(connection, code, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result request(void *ctx, struct MHD_Connection *connection, const char *url,
			       const char *method, const char *version, const char *upload,
			       size_t *upload_size, void **state)
{
	static const char text[] = "text/plain; charset=utf-8";
	static const char html[] = "text/html; charset=utf-8";
	const struct doc_page *page;

	(void)ctx;
	(void)version;
	(void)upload;
	(void)state;
	if (*upload_size != 0) { /* passed over; the answer to it comes at its end */
		*upload_size = 0;
		return MHD_YES;
	}
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return respond(connection, MHD_HTTP_METHOD_NOT_ALLOWED, strdup("GET only\n"), text);
	if (strcmp(url, "/") == 0)
		return respond(connection, MHD_HTTP_OK, doc_html_index(), html);
	page = doc_find_url(url);
	if (page == NULL)
		return respond(connection, MHD_HTTP_NOT_FOUND, strdup("no such page\n"), text);
	return respond(connection, MHD_HTTP_OK, doc_html(page), html);
}

static int serve(uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct MHD_Daemon *daemon;

	daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, port, NULL, NULL, request, NULL,
				  MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_CONNECTION_LIMIT,
				  (unsigned)CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
				  (unsigned)TIMEOUT_S, MHD_OPTION_END);
	if (daemon == NULL)
		return cmd_fail(EXIT_FAILED,
				"cannot listen on 127.0.0.1:%u: %s; --port names another", port,
				err_str(errno));
	printf("http://127.0.0.1:%u/ (Ctrl-C ends it)\n",
	       MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
	fflush(stdout);
	while (!cmd_is_interrupted())
		(void)poll(NULL, 0, 200); /* a signal cuts it short */
	MHD_stop_daemon(daemon);
	return EXIT_DONE;
}

int cmd_doc(struct options *options, const struct opt_set *set)
{
	const struct doc_page *page;

	(void)set;
	if (options->serve) {
		cmd_catch_signals();
		return serve((uint16_t)options->port);
	}
	if (options->page[0] == '\0') {
		list_print();
		return EXIT_DONE;
	}
	page = doc_find(options->page);
	return page != NULL ? page_print(page) : unknown_page(options->page);
}
