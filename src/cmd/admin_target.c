/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which admin endpoints are asked: --admin; else the hosts of a URL that the user gives; else,
 * where a server was set up in the directory of configuration, its own endpoint (admin-listen);
 * else the hosts of client.url. A client.url that names several servers comes before this host's
 * own.
 */
#include "admin_target.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmd.h"
#include "server_check.h"

/* The endpoint of the server that was set up here, as server.yaml says. False: it does not. */
static bool own_find(const struct options *options, char list_out[OPT_TEXT_MAX])
{
	static const struct opt_set none;
	struct options *server = calloc(1, sizeof(*server));
	char path[OPT_TEXT_MAX + 16];
	char dir[OPT_TEXT_MAX];
	bool is_found = false;

	if (server == NULL || cmd_config_dir(options, dir, sizeof(dir)) < 0)
		goto out_free;
	snprintf(path, sizeof(path), "%s/server.yaml", dir);
	options_init(server);
	if (access(path, R_OK) == 0 && cmd_config_load(path, server, &none) == 0)
		is_found = cmd_listen_reach(server->admin_listen, list_out, OPT_TEXT_MAX);
out_free:
	free(server);
	return is_found;
}

static int list_find(const struct options *options, char list_out[OPT_TEXT_MAX])
{
	enum cmd_url_from from = URL_FROM_SETUP;
	char url[OPT_TEXT_MAX];
	bool is_found;

	if (options->admin[0] != '\0') {
		snprintf(list_out, OPT_TEXT_MAX, "%s", options->admin);
		return 0;
	}
	is_found = cmd_url_find(options, url, &from);
	if (from == URL_FROM_SETUP && (!is_found || strchr(url, ',') == NULL) &&
	    own_find(options, list_out))
		return 0;
	if (!is_found) {
		snprintf(list_out, OPT_TEXT_MAX, "127.0.0.1");
		return 0;
	}
	if (admin_list_of_url(url, list_out, OPT_TEXT_MAX) < 0)
		return cmd_fail(-EINVAL,
				"no host stands in the URL '%s'; --admin names the servers", url);
	return 0;
}

/* Add the addresses of a host. */
static int resolve(const char *host, uint16_t port, struct admin_target *targets, uint32_t count,
		   uint32_t target_max)
{
	bool is_local =
		strcmp(host, "localhost") == 0; /* one server, though it has two addresses */
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
					.ai_family = is_local ? AF_INET : AF_UNSPEC };
	struct addrinfo *list;
	char shown[64];
	uint32_t first = count;
	int rc = getaddrinfo(host, NULL, &hints, &list);

	if (rc != 0)
		return cmd_fail(-ENOENT, "%s: %s", host, gai_strerror(rc));
	for (struct addrinfo *one = list; one != NULL && count < target_max; one = one->ai_next) {
		struct admin_target *target = &targets[count];

		if (getnameinfo(one->ai_addr, one->ai_addrlen, target->address,
				sizeof(target->address), NULL, 0, NI_NUMERICHOST) != 0)
			continue;
		target->port = port;
		count++;
	}
	freeaddrinfo(list);
	for (uint32_t i = first; i < count; i++) {
		snprintf(shown, sizeof(shown), "%s", count - first > 1 ? targets[i].address : "");
		snprintf(targets[i].name, sizeof(targets[i].name), "%.80s:%u",
			 shown[0] != '\0' ? shown : host, port);
	}
	return (int)count;
}

int admin_targets(const struct options *options, struct admin_target *targets_out,
		  uint32_t target_max)
{
	char list[OPT_TEXT_MAX];
	int count = 0;
	int rc = list_find(options, list);

	if (rc < 0)
		return rc;
	for (const char *at = list; *at != '\0' && (uint32_t)count < target_max;) {
		size_t size = strcspn(at, ",");
		char host[128];
		uint16_t port;

		if (admin_host_parse(at, size, host, &port) < 0)
			return cmd_fail(-EINVAL, "'%.*s' is no HOST[:PORT] of an admin endpoint",
					(int)size, at);
		count = resolve(host, port, targets_out, (uint32_t)count, target_max);
		if (count < 0)
			return count;
		at += size + (at[size] == ',');
	}
	return count > 0 ? count : cmd_fail(-ENOENT, "no admin endpoint has an address");
}
