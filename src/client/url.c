/* SPDX-License-Identifier: Apache-2.0 */
#include "url.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/log.h"
#include "../base/text.h"
#include "../wire/keyfile.h"

#define SCHEME       "ctxkv://"
#define KEYFILE_MAX  (64 * KiB)
#define URL_TEXT_MAX (8 * KiB) /* of client.url */
#define TENANTS_MAX  64        /* rows of a client's key file that are looked at */
#define HOW_TO_MEND                                                                                \
	"run 'ctxkv setup' on this host, or give a URL like ctxkv://TENANT@HOST?keyfile=PATH"

static int fail(char message_out[URL_MESSAGE_SIZE], int rc, const char *format, ...)
	PRINTF_LIKE(3, 4);

static int fail(char message_out[URL_MESSAGE_SIZE], int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(message_out, URL_MESSAGE_SIZE, format, args);
	va_end(args);
	return rc;
}

/* --- parse --- */

/* The next part of text, up to one of stop or the end. */
struct part {
	const char *at;
	size_t size;
};

static int copy_part(char *to, size_t to_size, struct part part, const char *what, char *message)
{
	if (part.size >= to_size)
		return fail(message, -ERR_URL, "the %s in the URL is longer than %zu characters",
			    what, to_size - 1);
	memcpy(to, part.at, part.size);
	to[part.size] = '\0';
	return 0;
}

static int parse_port(struct part part, uint16_t *port_out, char *message)
{
	char digits[8];
	uint64_t port;

	if (part.size < sizeof(digits)) {
		memcpy(digits, part.at, part.size);
		digits[part.size] = '\0';
		if (text_parse_u64(digits, &port) == 0 && port > 0 && port <= UINT16_MAX) {
			*port_out = (uint16_t)port;
			return 0;
		}
	}
	return fail(message, -ERR_URL, "port '%.*s' in the URL is not a number from 1 to 65535",
		    (int)MIN(part.size, 40), part.at);
}

static int parse_tenant(struct part part, struct url *url, char *message)
{
	int rc = copy_part(url->tenant, sizeof(url->tenant), part, "tenant", message);

	if (rc < 0)
		return rc;
	if (!keyfile_is_tenant(url->tenant))
		return fail(message, -ERR_URL,
			    "tenant '%s' in the URL is not a name: letters, digits, '-', '_' and "
			    "'.', at most %d",
			    url->tenant, WIRE_TENANT_MAX - 1);
	return 0;
}

static bool is_host_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_';
}

/* HOST, HOST:PORT, [ADDRESS] or [ADDRESS]:PORT. */
static int parse_host(struct part part, struct client_host *to, char *message)
{
	struct part host = part;
	const char *rest;

	if (part.size > 0 && part.at[0] == '[') {
		const char *close = memchr(part.at, ']', part.size);
		struct in6_addr address;

		if (close == NULL)
			return fail(message, -ERR_URL, "the URL has a '[' without its ']'");
		host = (struct part) { part.at + 1, (size_t)(close - part.at) - 1 };
		rest = close + 1;
		if (copy_part(to->host, sizeof(to->host), host, "host", message) < 0 ||
		    inet_pton(AF_INET6, to->host, &address) != 1)
			return fail(message, -ERR_URL, "'%.*s' in the URL is not an IPv6 address",
				    (int)MIN(host.size, 80), host.at);
	} else {
		const char *colon = memchr(part.at, ':', part.size);

		if (colon != NULL && memrchr(part.at, ':', part.size) != colon)
			return fail(message, -ERR_URL,
				    "write the IPv6 address in the URL in brackets, as in [::1]");
		host.size = colon != NULL ? (size_t)(colon - part.at) : part.size;
		rest = host.at + host.size;
		if (copy_part(to->host, sizeof(to->host), host, "host", message) < 0)
			return -ERR_URL;
		for (size_t i = 0; i < host.size; i++) {
			if (!is_host_char(host.at[i]))
				return fail(message, -ERR_URL,
					    "the host in the URL has a character that no host name "
					    "has: '%c'",
					    host.at[i]);
		}
	}
	if (host.size == 0)
		return fail(message, -ERR_URL, "the URL names no host");
	if (rest == part.at + part.size)
		return 0;
	if (*rest != ':')
		return fail(message, -ERR_URL, "a ':' and a port must follow the ']' in the URL");
	rest++;
	return parse_port((struct part) { rest, (size_t)(part.at + part.size - rest) }, &to->port,
			  message);
}

/* HOST,HOST:PORT,…: each a server, or a name for several. */
static int parse_hosts(struct part part, struct url *url, char *message)
{
	const char *end = part.at + part.size;
	const char *at = part.at;

	for (;;) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		struct part host = { at, (size_t)((comma != NULL ? comma : end) - at) };
		int rc;

		if (url->host_count == HOST_MAX)
			return fail(message, -ERR_URL, "the URL names more than %d hosts",
				    HOST_MAX);
		rc = parse_host(host, &url->hosts[url->host_count++], message);
		if (rc < 0)
			return rc;
		if (comma == NULL)
			return 0;
		at = comma + 1;
	}
}

/* %XX, so that a path may hold '&', '%' and '#'. */
static int parse_value(struct part part, char *to, size_t to_size, const char *what, char *message)
{
	size_t used = 0;

	for (size_t i = 0; i < part.size; i++) {
		char c = part.at[i];

		if (c == '%') {
			char hex[3] = { 0 };

			if (part.size - i > 2)
				memcpy(hex, part.at + i + 1, 2);
			if (text_parse_hex(hex, &c, 1) < 0 || c == '\0')
				return fail(message, -ERR_URL,
					    "a '%%' in %s= must be followed by two hex digits",
					    what);
			i += 2;
		}
		if (used + 1 >= to_size)
			return fail(message, -ERR_URL, "%s= in the URL is too long", what);
		to[used++] = c;
	}
	to[used] = '\0';
	if (used == 0)
		return fail(message, -ERR_URL, "%s= in the URL is empty", what);
	return 0;
}

static int parse_tls(struct url *url, char *message)
{
	if (strcmp(url->tls, "required") == 0)
		snprintf(url->tls, sizeof(url->tls), "1");
	if (strcmp(url->tls, "0") != 0 && strcmp(url->tls, "1") != 0)
		return fail(message, -ERR_URL, "tls= in the URL is 1 (or required), or 0");
	return 0;
}

static int parse_transport(struct url *url, char *message)
{
	if (strcmp(url->transport, "auto") != 0 && strcmp(url->transport, "tcp") != 0 &&
	    strcmp(url->transport, "shm") != 0)
		return fail(message, -ERR_URL, "transport= in the URL is auto, tcp or shm");
	return 0;
}

static const struct parameter {
	const char *name;
	const char *example;
	size_t offset; /* of its text in struct url */
	size_t size;
	int (*check)(struct url *url, char *message); /* NULL: any text will do */
} parameters[] = {
	{ "keyfile", "keyfile=PATH", offsetof(struct url, keyfile),
	  sizeof(((struct url *)0)->keyfile), NULL },
	{ "tls", "tls=1", offsetof(struct url, tls), sizeof(((struct url *)0)->tls), parse_tls },
	{ "transport", "transport=shm", offsetof(struct url, transport),
	  sizeof(((struct url *)0)->transport), parse_transport },
};

/* The nearest right name to a wrong one. */
static int unknown_parameter(const char *name, char *message)
{
	for (size_t i = 0; i < ARRAY_LEN(parameters); i++) {
		const char *known = parameters[i].name;

		if (text_distance(name, known) < MIN(strlen(known), 4))
			return fail(message, -ERR_URL,
				    "the URL has a parameter '%s': did you mean '%s'?", name,
				    known);
	}
	return fail(message, -ERR_URL,
		    "the URL has an unknown parameter '%s'; there are 'keyfile', 'tls' and "
		    "'transport'",
		    name);
}

static const struct parameter *parameter_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(parameters); i++) {
		if (strcmp(name, parameters[i].name) == 0)
			return &parameters[i];
	}
	return NULL;
}

static int parse_parameter(struct part part, struct url *url, char *message)
{
	const char *equals = memchr(part.at, '=', part.size);
	const struct parameter *parameter;
	struct part name = part;
	char text[32];
	char *value;
	int rc;

	if (equals != NULL)
		name.size = (size_t)(equals - part.at);
	snprintf(text, sizeof(text), "%.*s", (int)MIN(name.size, sizeof(text) - 1), name.at);
	parameter = parameter_find(text);
	if (parameter == NULL)
		return unknown_parameter(text, message);
	if (equals == NULL)
		return fail(message, -ERR_URL, "write %s in the URL", parameter->example);
	value = (char *)url + parameter->offset;
	if (value[0] != '\0')
		return fail(message, -ERR_URL, "the URL has %s= twice", text);
	rc = parse_value((struct part) { equals + 1, part.size - name.size - 1 }, value,
			 parameter->size, text, message);
	return rc == 0 && parameter->check != NULL ? parameter->check(url, message) : rc;
}

int url_parse(const char *text, struct url *url_out, char message_out[URL_MESSAGE_SIZE])
{
	struct url url = { 0 };
	const char *at = text;
	const char *question;
	struct part host;
	const char *sign;
	int rc;

	if (strncmp(at, SCHEME, strlen(SCHEME)) != 0)
		return fail(message_out, -ERR_URL, "the URL '%.80s' does not begin with " SCHEME,
			    text);
	at += strlen(SCHEME);
	question = strchr(at, '?');
	host = (struct part) { at, question != NULL ? (size_t)(question - at) : strlen(at) };
	if (host.size > 0 && host.at[host.size - 1] == '/')
		host.size--;

	sign = memchr(host.at, '@', host.size);
	if (sign != NULL) {
		rc = parse_tenant((struct part) { host.at, (size_t)(sign - host.at) }, &url,
				  message_out);
		if (rc < 0)
			return rc;
		host = (struct part) { sign + 1, (size_t)(host.at + host.size - sign) - 1 };
	}
	rc = parse_hosts(host, &url, message_out);
	if (rc < 0)
		return rc;
	while (question != NULL) {
		const char *next = strchr(question + 1, '&');
		size_t size = next != NULL ? (size_t)(next - question) - 1 : strlen(question + 1);

		rc = parse_parameter((struct part) { question + 1, size }, &url, message_out);
		if (rc < 0)
			return rc;
		question = next;
	}
	*url_out = url;
	return 0;
}

/* --- files --- */

/* Reads a small file whole. Returns its size, or negative. */
static int file_read(const char *path, char *buf, size_t buf_size, struct stat *stat_out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, stat_out) < 0)
		rc = -errno;
	while (rc == 0 && used < buf_size - 1) {
		ssize_t got = read(fd, buf + used, buf_size - 1 - used);

		if (got <= 0) {
			rc = got < 0 ? -errno : 0;
			break;
		}
		used += (size_t)got;
	}
	close(fd);
	if (rc == 0 && used == buf_size - 1)
		rc = -EFBIG;
	buf[used] = '\0';
	return rc < 0 ? rc : (int)used;
}

static bool default_path(char *buf, size_t buf_size)
{
	const char *config = getenv("XDG_CONFIG_HOME");
	const char *home = getenv("HOME");

	if (config != NULL && config[0] == '/')
		snprintf(buf, buf_size, "%s/ctxkv/client.url", config);
	else if (home != NULL && home[0] != '\0')
		snprintf(buf, buf_size, "%s/.config/ctxkv/client.url", home);
	else
		return false;
	return true;
}

/* The URL that setup wrote, -ENOENT when there is none. */
static int url_default(struct url *url_out, char *message)
{
	char text[URL_TEXT_MAX];
	char path[4096];
	char why[URL_MESSAGE_SIZE];
	struct stat st;
	int rc;

	if (!default_path(path, sizeof(path)))
		return -ENOENT;
	rc = file_read(path, text, sizeof(text), &st);
	if (rc == -ENOENT || rc == -ENOTDIR)
		return -ENOENT;
	if (rc < 0)
		return fail(message, rc, "cannot read %s: %s", path, err_str(rc));
	text[strcspn(text, "\r\n")] = '\0';
	rc = url_parse(text, url_out, why);
	if (rc < 0)
		return fail(message, rc, "%s: %.400s", path, why);
	return 0;
}

/* --- tenant and secret --- */

static int keyfile_pick(const struct url *url, const struct keyfile_row *rows, uint32_t row_count,
			struct client_target *target, char *message)
{
	const struct keyfile_row *row = NULL;

	if (url->tenant[0] == '\0' && row_count != 1)
		return fail(message, -ERR_URL,
			    "%s has %u tenants: name one in the URL, as in ctxkv://%s@%s",
			    url->keyfile, row_count, row_count > 0 ? rows[0].tenant : "TENANT",
			    url->hosts[0].host);
	for (uint32_t i = 0; i < row_count; i++) {
		if (url->tenant[0] == '\0' || strcmp(rows[i].tenant, url->tenant) == 0)
			row = &rows[i];
	}
	if (row == NULL)
		return fail(message, -ERR_URL, "%s has no secret for tenant %s", url->keyfile,
			    url->tenant);
	snprintf(target->tenant, sizeof(target->tenant), "%s", row->tenant);
	target->secret = row->secrets[0];
	return 0;
}

static int keyfile_load(const struct url *url, struct client_target *target, char *message)
{
	static const char *const mend = HOW_TO_MEND;
	char text[KEYFILE_MAX];
	struct keyfile_row rows[TENANTS_MAX];
	char why[256];
	struct stat st;
	int count;
	int rc;

	rc = file_read(url->keyfile, text, sizeof(text), &st);
	if (rc == -EACCES)
		return fail(
			message, rc,
			"cannot read key file %s: %s; it belongs to another user: name a copy of "
			"the tenant's line that this one owns, as keyfile=PATH in the URL",
			url->keyfile, err_str(rc));
	if (rc < 0)
		return fail(message, rc, "cannot read key file %s: %s; %s", url->keyfile,
			    err_str(rc), mend);
	count = keyfile_parse(text, rows, TENANTS_MAX, why);
	explicit_bzero(text, sizeof(text));
	if (count < 0)
		rc = fail(message, -EINVAL, "key file %s: %s", url->keyfile, why);
	else if (count > TENANTS_MAX)
		rc = fail(message, -EINVAL,
			  "key file %s has %d tenants; give a client a file with its own line",
			  url->keyfile, count);
	else
		rc = keyfile_pick(url, rows, (uint32_t)count, target, message);
	explicit_bzero(rows, sizeof(rows));
	if (rc == 0 && S_ISREG(st.st_mode) && (st.st_mode & 077) != 0)
		log_warn("key file %s can be read by others than its owner: chmod 600 it",
			 url->keyfile);
	return rc;
}

static bool is_numeric(const char *host)
{
	struct in6_addr v6;
	struct in_addr v4;

	return inet_pton(AF_INET, host, &v4) == 1 || inet_pton(AF_INET6, host, &v6) == 1;
}

/* What the URL left out, from the default one. */
static int url_complete(struct url *url, char *message)
{
	struct url preset = { 0 };
	int rc;

	if (url->keyfile[0] != '\0')
		return 0;
	rc = url_default(&preset, message);
	if (rc == -ENOENT || (rc == 0 && preset.keyfile[0] == '\0'))
		return fail(message, -ERR_URL,
			    "no key file is known: add ?keyfile=PATH to the URL, or %s",
			    HOW_TO_MEND);
	if (rc < 0)
		return rc;
	memcpy(url->keyfile, preset.keyfile, sizeof(url->keyfile));
	if (url->tenant[0] == '\0')
		memcpy(url->tenant, preset.tenant, sizeof(url->tenant));
	if (url->tls[0] == '\0')
		memcpy(url->tls, preset.tls, sizeof(url->tls));
	if (url->transport[0] == '\0')
		memcpy(url->transport, preset.transport, sizeof(url->transport));
	return 0;
}

static enum client_transport transport_of(const struct url *url)
{
	if (strcmp(url->transport, "shm") == 0)
		return CLIENT_SHM;
	return strcmp(url->transport, "tcp") == 0 ? CLIENT_TCP : CLIENT_AUTO;
}

int url_resolve(const char *text, struct client_target *target_out,
		char message_out[URL_MESSAGE_SIZE])
{
	struct client_target target = { 0 };
	struct url url;
	int rc;

	if (text == NULL)
		text = getenv("CTXKV_URL");
	if (text != NULL && text[0] != '\0') {
		rc = url_parse(text, &url, message_out);
	} else {
		rc = url_default(&url, message_out);
		if (rc == -ENOENT)
			return fail(message_out, -ERR_URL, "no URL is given and none is set up: %s",
				    HOW_TO_MEND);
	}
	if (rc == 0)
		rc = url_complete(&url, message_out);
	if (rc == 0)
		rc = keyfile_load(&url, &target, message_out);
	if (rc < 0)
		return rc;

	/* Not left to the resolver: it may prefer ::1, where a server on 127.0.0.1 does not listen.
	 */
	target.is_tls = url.tls[0] == '1';
	target.transport = transport_of(&url);
	target.host_count = url.host_count;
	for (uint32_t i = 0; i < url.host_count; i++) {
		struct client_host *host = &target.hosts[i];

		*host = url.hosts[i];
		if (strcmp(host->host, "localhost") == 0)
			snprintf(host->host, sizeof(host->host), "127.0.0.1");
		host->port = host->port != 0 ? host->port : WIRE_PORT;
		host->is_numeric = is_numeric(host->host);
	}
	*target_out = target;
	return 0;
}
