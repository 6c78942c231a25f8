/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor: the address and the secrets of the server of this host, and every server that the URL
 * names, as a client would meet it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../include/ctxkv.h"
#include "../env/env.h"
#include "../wire/keyfile.h"
#include "clock.h"
#include "doctor.h"

#define ROUND_TRIPS  5
#define CONNECT_WAIT (3 * NS_PER_S)
#define STAT_SIZE    (64 * KiB)
#define SERVERS_MAX  64
#define SCHEME       "ctxkv://"

/* --- the server of this host --- */

/* Our own server holds the port when the medium is in use: that is told as it is. */
static void port_look(struct doctor *doctor)
{
	const char *listen = doctor->server->listen;
	struct env_sock *sock = NULL;
	int rc = doctor->env->ops->sock_listen(doctor->env, listen, &sock);

	if (rc == 0) {
		doctor->env->ops->sock_close(doctor->env, sock);
		doctor_say(doctor, DOCTOR_OK, "address", "", "%s is free", listen);
	} else if (rc == -EADDRINUSE) {
		doctor->is_running = true;
		doctor_say(
			doctor, DOCTOR_WARN, "address",
			"a running server of this host? 'ss -ltnp' says whose it is; 'listen' in "
			"server.yaml names another",
			"%s is taken", listen);
	} else {
		doctor_say(doctor, DOCTOR_FAIL, "address", "mend 'listen' in server.yaml",
			   "%s cannot be listened on: %s", listen, err_str(rc));
	}
}

/* Whether clients of this host will have shared memory. */
static void shm_look(struct doctor *doctor)
{
	const struct options *server = doctor->server;
	char dir[OPT_TEXT_MAX];
	char parent[OPT_TEXT_MAX];

	if (strcmp(server->shm_dir, "none") == 0) {
		doctor_say(doctor, DOCTOR_OK, "shm", "",
			   "not asked for: clients of this host use TCP");
		return;
	}
	if (!cmd_shm_dir(server, dir, sizeof(dir))) {
		doctor_say(doctor, DOCTOR_WARN, "shm", "'shm-dir' in server.yaml names a directory",
			   "neither RUNTIME_DIRECTORY nor XDG_RUNTIME_DIR is set: clients of this "
			   "host use TCP, unless a service manager sets one for the server");
		return;
	}
	snprintf(parent, sizeof(parent), "%s", dir);
	if (strrchr(parent, '/') > parent)
		*strrchr(parent, '/') = '\0';
	if (access(dir, W_OK) == 0 || (errno == ENOENT && access(parent, W_OK) == 0))
		doctor_say(doctor, DOCTOR_OK, "shm", "", "sockets in %s", dir);
	else
		doctor_say(doctor, DOCTOR_WARN, "shm",
			   "give it to the user that runs ctxkv, or name another with 'shm-dir'",
			   "%s: %s: clients of this host use TCP", dir, err_str(errno));
}

/* False: it cannot be read, which was said. */
static bool key_file_look(struct doctor *doctor, const char *path)
{
	struct doctor_row row;
	struct stat st;

	if (path[0] == '\0' || stat(path, &st) < 0) {
		doctor_say(doctor, DOCTOR_FAIL, "key file", "'ctxkv setup' makes one",
			   path[0] == '\0' ? "none is named%s%s" : "%s: %s", path,
			   path[0] == '\0' ? "" : err_str(errno));
		return false;
	}
	row = doctor_judge_key_file(path, st.st_mode, st.st_uid == geteuid());
	doctor_add(doctor, &row);
	return true;
}

void doctor_server(struct doctor *doctor)
{
	const char *path = doctor->server->secrets;
	char message[256] = "no tenant in it";
	struct keyfile_row row;
	char *text;
	int count;

	port_look(doctor);
	shm_look(doctor);
	if (!key_file_look(doctor, path))
		return;
	text = cmd_read_file(path);
	if (text == NULL) {
		doctor_say(doctor, DOCTOR_FAIL, "key file", "give it to the user that runs ctxkv",
			   "%s: %s", path, err_str(errno));
		return;
	}
	count = keyfile_parse(text, &row, 1, message);
	explicit_bzero(text, strlen(text));
	explicit_bzero(&row, sizeof(row));
	free(text);
	if (count < 1)
		doctor_say(doctor, DOCTOR_FAIL, "key file",
			   "'ctxkv setup' writes one; a line is TENANT SECRET [SECRET]", "%s: %s",
			   path, message);
	else
		doctor_say(doctor, DOCTOR_OK, "tenants", "", "%d", count);
}

/* --- the servers of the URL --- */

/* The value of "name VALUE" among lines, "" when there is none. */
static void line_value(const char *text, const char *name, char *buf, size_t buf_size)
{
	size_t size = strlen(name);

	buf[0] = '\0';
	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, size) == 0 && line[size] == ' ') {
			line += size + 1;
			snprintf(buf, buf_size, "%.*s", (int)strcspn(line, "\n"), line);
			return;
		}
	}
}

/* Round trips with a server that answered: the fastest one, and what it says of itself. */
static void server_measure(struct doctor *doctor, struct ctxkv_client *client,
			   const struct ctxkv_stat *stat)
{
	char *text = calloc(1, STAT_SIZE);
	uint64_t best = UINT64_MAX;
	char version[64] = "";
	struct doctor_row row;

	for (int i = 0; text != NULL && i < ROUND_TRIPS; i++) {
		uint64_t begin = clock_ns();

		if (ctxkv_server_stat(client, CONNECT_WAIT, text, STAT_SIZE) >= 0)
			best = MIN(best, clock_ns() - begin);
	}
	if (best == UINT64_MAX) {
		doctor_say(doctor, DOCTOR_FAIL, "reached", "look at its log",
			   "%s: connected, but it does not answer", stat->server);
	} else {
		line_value(text, "version", version, sizeof(version));
		doctor_say(doctor, DOCTOR_OK, "reached", "",
			   "%s by %s%s%s, blocks of at most %" PRIu64 " bytes", stat->server,
			   stat->transport, version[0] != '\0' ? ", protocol " : "", version,
			   stat->block_max);
		row = doctor_judge_latency(stat->server, best);
		doctor_add(doctor, &row);
	}
	free(text);
}

/* A client of this URL, after it has had time for a session; NULL when that was refused: said. */
static struct ctxkv_client *client_open(struct doctor *doctor, const char *url)
{
	struct ctxkv_client *client = NULL;
	char message[512] = "";
	struct ctxkv_opts opts;
	int rc;

	ctxkv_opts_init(&opts, sizeof(opts));
	opts.url = url;
	opts.lanes = 1;
	opts.log_level = CTXKV_LOG_ERROR;
	rc = ctxkv_open(&opts, CONNECT_WAIT, &client, message, sizeof(message));
	if (rc < 0)
		doctor_say(doctor, DOCTOR_FAIL, "reached",
			   rc == -CTXKV_EAUTH
				   ? "the tenant's line in the key file must be the server's"
				   : "",
			   "%s", message[0] != '\0' ? message : ctxkv_strerror(rc));
	return client;
}

/* The one server of a client. */
static void server_tell(struct doctor *doctor, struct ctxkv_client *client)
{
	struct ctxkv_stat stat = { .size = sizeof(stat) };
	int rc = ctxkv_get_stat(client, &stat);

	if (rc == 0 && stat.is_connected == 0)
		doctor_say(doctor, DOCTOR_FAIL, "reached",
			   "is 'ctxkv start' running there, and the port open on the way?",
			   "no session with %s: %s", stat.server,
			   stat.last_error != 0 ? ctxkv_strerror((int)stat.last_error)
						: "no answer");
	else if (rc == 0)
		server_measure(doctor, client, &stat);
}

/* "ctxkv://TENANT@", hosts, "?keyfile=…": so that a host can be put in their place. */
struct url_parts {
	const char *url;
	int head_size;
	const char *tail;
};

/* The server of a host; a name with several addresses (a headless service) has one at each. */
static void host_reach(struct doctor *doctor, const struct url_parts *parts, const char *host,
		       int host_size)
{
	struct ctxkv_server servers[SERVERS_MAX] = { { .size = sizeof(servers[0]) } };
	struct ctxkv_client *client;
	char url[2 * OPT_TEXT_MAX];
	int count;

	snprintf(url, sizeof(url), "%.*s%.*s%s", parts->head_size, parts->url, host_size, host,
		 parts->tail);
	client = client_open(doctor, url);
	if (client == NULL)
		return;
	count = ctxkv_get_servers(client, servers, SERVERS_MAX);
	if (count <= 1)
		server_tell(doctor, client);
	ctxkv_close(&client);
	for (int i = 0; count > 1 && i < MIN(count, SERVERS_MAX); i++) {
		snprintf(url, sizeof(url), "%.*s%s%s", parts->head_size, parts->url,
			 servers[i].address, parts->tail);
		client = client_open(doctor, url);
		if (client != NULL)
			server_tell(doctor, client);
		ctxkv_close(&client);
	}
}

/* The key file that a URL names; false: none, or by a path with escapes in it, which the client
 * library reads. */
static bool url_key_file(const char *url, char *buf, size_t buf_size)
{
	const char *value = strstr(url, "keyfile=");

	if (value == NULL)
		return false;
	value += strlen("keyfile=");
	snprintf(buf, buf_size, "%.*s", (int)strcspn(value, "&"), value);
	return strchr(buf, '%') == NULL;
}

/* Each host of "ctxkv://[TENANT@]HOST,HOST…[?…]". */
static void hosts_reach(struct doctor *doctor, const char *url)
{
	const char *host = url + strlen(SCHEME);
	const char *sign = memchr(host, '@', strcspn(host, "?/"));
	struct url_parts parts = { .url = url };

	host = sign != NULL ? sign + 1 : host;
	parts.head_size = (int)(host - url);
	parts.tail = host + strcspn(host, "?/");
	while (host <= parts.tail) {
		int size = (int)strcspn(host, ",?/");

		host_reach(doctor, &parts, host, size);
		host += size + 1;
	}
}

void doctor_clients(struct doctor *doctor)
{
	char text[OPT_TEXT_MAX];
	char path[OPT_TEXT_MAX];
	enum cmd_url_from from;

	if (!cmd_url_find(doctor->options, text, &from)) {
		doctor_say(doctor, DOCTOR_WARN, "url",
			   "--url or CTXKV_URL: ctxkv://TENANT@HOST:PORT?keyfile=PATH",
			   "none is known: no server was tried");
		return;
	}
	if (strncmp(text, SCHEME, strlen(SCHEME)) != 0) {
		doctor_say(doctor, DOCTOR_FAIL, "url",
			   "a URL is ctxkv://TENANT@HOST:PORT?keyfile=PATH",
			   "'%s' does not begin with " SCHEME, text);
		return;
	}
	doctor_say(doctor, DOCTOR_OK, "url", "", "%s", text);
	if (url_key_file(text, path, sizeof(path)) &&
	    (doctor->server == NULL || strcmp(path, doctor->server->secrets) != 0) &&
	    !key_file_look(doctor, path))
		return;
	hosts_reach(doctor, text);
}
