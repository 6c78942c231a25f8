/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "../base/text.h"

#define HOST_SIZE 64

/* "HOST:PORT" or "[HOST]:PORT", the port optional; *port_out is then left as it is. */
static int split(const char *text, char host_out[HOST_SIZE], uint64_t *port_out)
{
	const char *end = text + strlen(text);
	const char *begin = text;
	const char *colon = strrchr(text, ':');

	if (text[0] == '[') {
		begin = text + 1;
		end = strchr(text, ']');
		if (end == NULL || (end[1] != '\0' && end[1] != ':'))
			return -EINVAL;
		colon = end[1] == ':' ? end + 1 : NULL;
	} else if (colon != NULL) {
		end = colon;
	}
	if (end == begin || (size_t)(end - begin) >= HOST_SIZE)
		return -EINVAL;
	memcpy(host_out, begin, (size_t)(end - begin));
	host_out[end - begin] = '\0';
	return colon != NULL ? text_parse_u64(colon + 1, port_out) : 0;
}

int admin_address_parse(const char *text, union admin_address *address_out)
{
	union admin_address address = { 0 };
	char host[HOST_SIZE];
	uint64_t port = ADMIN_PORT;

	if (split(text, host, &port) < 0 || port > UINT16_MAX)
		return -EINVAL;
	if (inet_pton(AF_INET, host, &address.v4.sin_addr) == 1) {
		address.v4.sin_family = AF_INET;
		address.v4.sin_port = htons((uint16_t)port);
	} else if (inet_pton(AF_INET6, host, &address.v6.sin6_addr) == 1) {
		address.v6.sin6_family = AF_INET6;
		address.v6.sin6_port = htons((uint16_t)port);
	} else {
		return -EINVAL;
	}
	*address_out = address;
	return 0;
}

bool admin_address_is_loopback(const union admin_address *address)
{
	if (address->any.sa_family == AF_INET)
		return ntohl(address->v4.sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

const char *admin_address_format(const union admin_address *address, char *buf, size_t buf_size)
{
	char host[INET6_ADDRSTRLEN] = "";

	if (address->any.sa_family == AF_INET) {
		inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof(host));
		snprintf(buf, buf_size, "%s:%u", host, ntohs(address->v4.sin_port));
	} else {
		inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof(host));
		snprintf(buf, buf_size, "[%s]:%u", host, ntohs(address->v6.sin6_port));
	}
	return buf;
}

bool admin_host_is_plain(const char *host)
{
	union admin_address address;
	char name[HOST_SIZE];
	uint64_t port;

	if (split(host, name, &port) < 0)
		return false;
	return strcmp(name, "localhost") == 0 || admin_address_parse(host, &address) == 0;
}
