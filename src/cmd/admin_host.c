/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts of admin endpoints, from what users write. Pure. */
#include <stdio.h>
#include <string.h>

#include "../base/text.h"
#include "admin_target.h"

#define SCHEME "ctxkv://"

int admin_host_parse(const char *text, size_t size, char host_out[128], uint16_t *port_out)
{
	char copy[160];
	char *host = copy;
	char *colon;
	uint64_t port = ADMIN_DEFAULT_PORT;

	if (size == 0 || size >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, text, size);
	copy[size] = '\0';
	colon = strrchr(copy, ':');
	if (copy[0] == '[') {
		char *end = strchr(copy, ']');

		if (end == NULL || (end[1] != '\0' && end[1] != ':'))
			return -EINVAL;
		host++;
		*end = '\0';
		colon = end[1] == ':' ? end + 1 : NULL;
	}
	if (colon != NULL) {
		*colon = '\0';
		if (text_parse_u64(colon + 1, &port) < 0 || port == 0 || port > UINT16_MAX)
			return -EINVAL;
	}
	if (host[0] == '\0' || strlen(host) >= 128)
		return -EINVAL;
	snprintf(host_out, 128, "%s", host);
	*port_out = (uint16_t)port;
	return 0;
}

int admin_list_of_url(const char *url, char *list_out, size_t list_size)
{
	const char *hosts = url;
	const char *at;
	size_t size;
	size_t used = 0;

	if (strncmp(url, SCHEME, strlen(SCHEME)) == 0)
		hosts += strlen(SCHEME);
	size = strcspn(hosts, "?/\r\n");
	at = memchr(hosts, '@', size);
	if (at != NULL) {
		size -= (size_t)(at + 1 - hosts);
		hosts = at + 1;
	}
	list_out[0] = '\0';
	for (const char *end = hosts + size; hosts < end;) {
		size_t one = MIN(strcspn(hosts, ","), (size_t)(end - hosts));
		char host[128];
		uint16_t port;
		int added;

		if (admin_host_parse(hosts, one, host, &port) < 0)
			return -EINVAL;
		added = snprintf(list_out + used, list_size - used,
				 strchr(host, ':') != NULL ? "%s[%s]" : "%s%s", used > 0 ? "," : "",
				 host);
		if (added < 0 || (size_t)added >= list_size - used)
			return -EINVAL;
		used += (size_t)added;
		hosts += one + 1;
	}
	return used > 0 ? 0 : -EINVAL;
}
