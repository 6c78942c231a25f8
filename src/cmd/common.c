/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../include/ctxkv.h"
#include "cmd.h"

#define FILE_SIZE_MAX MiB

static volatile sig_atomic_t signals_seen;

int cmd_fail(int code, const char *format, ...)
{
	va_list args;

	fputs("ctxkv: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return code;
}

static void signal_seen(int number)
{
	signals_seen++;
	if (signals_seen > 1 && number == SIGINT)
		_exit(EXIT_INTERRUPTED);
}

void cmd_catch_signals(void)
{
	struct sigaction action = { .sa_handler = signal_seen };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

bool cmd_is_interrupted(void)
{
	return signals_seen > 0;
}

void cmd_progress(const char *what, uint64_t done, uint64_t total)
{
	static unsigned shown = UINT32_MAX;
	unsigned percent = total == 0 ? 100 : (unsigned)(done * 100 / total);

	if (percent == shown || isatty(STDERR_FILENO) == 0)
		return;
	shown = percent;
	fprintf(stderr, "\r%s: %u %%%s", what, percent, done >= total ? "\n" : "");
	if (done >= total)
		shown = UINT32_MAX;
}

int cmd_config_dir(const struct options *options, char *buf, size_t buf_size)
{
	const char *xdg = getenv("XDG_CONFIG_HOME");
	const char *home = getenv("HOME");

	if (options->dir[0] != '\0')
		snprintf(buf, buf_size, "%s", options->dir);
	else if (xdg != NULL && xdg[0] != '\0')
		snprintf(buf, buf_size, "%s/ctxkv", xdg);
	else if (home != NULL && home[0] != '\0')
		snprintf(buf, buf_size, "%s/.config/ctxkv", home);
	else
		return cmd_fail(-ENOENT, "neither --dir nor HOME says where configuration lives");
	return 0;
}

bool cmd_shm_dir(const struct options *options, char *buf, size_t buf_size)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	const char *unit = getenv("RUNTIME_DIRECTORY"); /* systemd: the unit's own; the first one */

	if (options->shm_dir[0] != '\0')
		snprintf(buf, buf_size, "%s", options->shm_dir);
	else if (unit != NULL && unit[0] == '/')
		snprintf(buf, buf_size, "%.*s", (int)strcspn(unit, ":"), unit);
	else if (geteuid() == 0)
		snprintf(buf, buf_size, "/run/ctxkv");
	else if (runtime != NULL && runtime[0] != '\0')
		snprintf(buf, buf_size, "%.480s/ctxkv", runtime);
	else
		return false;
	return true;
}

bool cmd_url_find(const struct options *options, char url_out[OPT_TEXT_MAX],
		  enum cmd_url_from *from_out)
{
	const char *preset = getenv("CTXKV_URL");
	char path[OPT_TEXT_MAX + 16];
	char dir[OPT_TEXT_MAX];
	char *text;

	*from_out = URL_FROM_USER;
	if (options->url[0] != '\0')
		preset = options->url;
	if (preset != NULL && preset[0] != '\0') {
		snprintf(url_out, OPT_TEXT_MAX, "%s", preset);
		return true;
	}
	*from_out = URL_FROM_SETUP;
	if (cmd_config_dir(options, dir, sizeof(dir)) < 0)
		return false;
	snprintf(path, sizeof(path), "%s/client.url", dir);
	text = cmd_read_file(path);
	if (text == NULL)
		return false;
	snprintf(url_out, OPT_TEXT_MAX, "%.*s", (int)strcspn(text, "\r\n"), text);
	free(text);
	return true;
}

int cmd_list_cut(char *text, const char **items, int max)
{
	char *one;
	int count = 0;

	while ((one = strsep(&text, ",")) != NULL) {
		if (one[0] == '\0')
			continue;
		if (count == max)
			return -ERANGE;
		items[count++] = one;
	}
	return count;
}

char *cmd_read_file(const char *path)
{
	struct stat st;
	char *text = NULL;
	ssize_t size;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && (uint64_t)st.st_size <= FILE_SIZE_MAX)
		text = calloc(1, (size_t)st.st_size + 1);
	if (text != NULL) {
		size = read(fd, text, (size_t)st.st_size);
		text[size > 0 ? size : 0] = '\0';
	}
	close(fd);
	return text;
}

struct ctxkv_client *cmd_client_open(const struct options *options, uint32_t lanes)
{
	struct ctxkv_client *client = NULL;
	struct ctxkv_opts opts;
	struct ctxkv_stat stat = { .size = sizeof(stat) };
	char message[512] = "";
	int rc;

	ctxkv_opts_init(&opts, sizeof(opts));
	opts.url = options->url[0] != '\0' ? options->url : NULL;
	opts.lanes = lanes;
	opts.flags = options->caller_driven ? CTXKV_CALLER_DRIVEN : 0;
	opts.transport = (uint32_t)options->transport;
	opts.timeout_ns = options->timeout;
	opts.log_level =
		options->log_level == LOG_INFO ? CTXKV_LOG_WARN : (uint32_t)options->log_level;
	rc = ctxkv_open(&opts, 5 * NS_PER_S, &client, message, sizeof(message));
	if (rc < 0) {
		cmd_fail(rc, "%s", message[0] != '\0' ? message : ctxkv_strerror(rc));
		return NULL;
	}
	rc = ctxkv_get_stat(client, &stat);
	if (rc == 0 && stat.is_connected == 0) {
		cmd_fail(rc, "no session with %s: %s", stat.server,
			 stat.last_error != 0 ? ctxkv_strerror((int)stat.last_error) : "no answer");
		ctxkv_close(&client);
		return NULL;
	}
	return client;
}
