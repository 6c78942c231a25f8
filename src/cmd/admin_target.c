/* SPDX-License-Identifier: Apache-2.0 */
#include "admin_target.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cmd.h"

#define LIST_SIZE 4096

/* The URL that clients of this user have. False: there is none. */
static bool url_find(const struct options *options, char *url, size_t url_size)
{
	const char *from_environment = getenv("CTXKV_URL");
	char path[OPT_TEXT_MAX + 16];
	char dir[OPT_TEXT_MAX];
	char *text;

	if (options->url[0] != '\0' || from_environment != NULL) {
		snprintf(url, url_size, "%s",
			 options->url[0] != '\0' ? options->url : from_environment);
		return true;
	}
	if (cmd_config_dir(options, dir, sizeof(dir)) < 0)
		return false;
	snprintf(path, sizeof(path), "%s/client.url", dir);
	text = cmd_read_file(path);
	if (text == NULL)
		return false;
	snprintf(url, url_size, "%s", text);
	free(text);
	return true;
}

static int list_find(const struct options *options, char *list, size_t list_size)
{
	char url[2 * OPT_TEXT_MAX];

	if (options->admin[0] != '\0') {
		snprintf(list, list_size, "%s", options->admin);
		return 0;
	}
	if (!url_find(options, url, sizeof(url))) {
		snprintf(list, list_size, "127.0.0.1");
		return 0;
	}
	if (admin_list_of_url(url, list, list_size) < 0)
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
	char list[LIST_SIZE];
	int count = 0;
	int rc = list_find(options, list, sizeof(list));

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
