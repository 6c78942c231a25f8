/* SPDX-License-Identifier: Apache-2.0 */
#include "raw.h"

#include "../lib/t.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void set_nonblocking(int fd)
{
	int rc = fcntl(fd, F_SETFL, O_NONBLOCK);

	assert_int_equal(rc, 0);
}

void raw_connect(struct raw *raw, struct pair *pair, uint32_t index, bool with_preface)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	struct wire_preface preface = {
		.version_min = WIRE_VERSION_MIN,
		.version_max = WIRE_VERSION,
		.mode = WIRE_MODE_JOIN,
		.incarnation = 1,
		.session = index + 1,
	};
	uint32_t opened = pair->server.opened;
	int rc;

	*raw = (struct raw) { .pair = pair };
	raw->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(raw->fd >= 0);
	address.sin_port = htons((uint16_t)atoi(strrchr(pair->address, ':') + 1));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	rc = connect(raw->fd, (struct sockaddr *)&address, sizeof(address));
	assert_int_equal(rc, 0);
	set_nonblocking(raw->fd);
	if (!with_preface)
		return;
	memcpy(preface.magic, WIRE_PREFACE_MAGIC, sizeof(preface.magic));
	raw_write(raw, &preface, sizeof(preface));
	PAIR_UNTIL(pair, pair->server.opened > opened);
}

int raw_listen(char *address, size_t address_size)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	socklen_t size = sizeof(any);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc;

	assert_true(fd >= 0);
	any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	rc = bind(fd, (struct sockaddr *)&any, sizeof(any));
	assert_int_equal(rc, 0);
	rc = listen(fd, 16);
	assert_int_equal(rc, 0);
	rc = getsockname(fd, (struct sockaddr *)&any, &size);
	assert_int_equal(rc, 0);
	snprintf(address, address_size, "127.0.0.1:%u", ntohs(any.sin_port));
	set_nonblocking(fd);
	return fd;
}

void raw_accept(struct raw *raw, struct pair *pair, int listen_fd, uint32_t index)
{
	struct wire_preface preface;
	bool has_preface;

	*raw = (struct raw) { .pair = pair };
	PAIR_UNTIL(pair, (raw->fd = accept(listen_fd, NULL, NULL)) >= 0);
	set_nonblocking(raw->fd);
	has_preface = raw_read(raw, &preface, sizeof(preface));
	assert_true(has_preface);
	assert_memory_equal(preface.magic, WIRE_PREFACE_MAGIC, sizeof(preface.magic));
	assert_int_equal(preface.session, index + 1);
}

void raw_close(struct raw *raw)
{
	if (raw->fd >= 0)
		close(raw->fd);
	raw->fd = -1;
	auth_mac_destroy(&raw->mac);
}

void raw_write(struct raw *raw, const void *bytes, size_t size)
{
	const uint8_t *at = bytes;

	while (size > 0) {
		ssize_t sent = send(raw->fd, at, size, MSG_NOSIGNAL);

		if (sent < 0) {
			if (errno != EAGAIN)
				return; /* the lane has closed, which is what tests look for */
			pair_poll(raw->pair);
			continue;
		}
		at += sent;
		size -= (size_t)sent;
		raw->sent += (uint64_t)sent;
	}
}

bool raw_read(struct raw *raw, void *bytes, size_t size)
{
	uint8_t *at = bytes;
	uint64_t until_ns = env_now_ns(raw->pair->env) + 10 * NS_PER_S;

	while (size > 0) {
		ssize_t got = recv(raw->fd, at, size, 0);

		if (got == 0 || (got < 0 && errno != EAGAIN))
			return false;
		if (got < 0) {
			assert_true(env_now_ns(raw->pair->env) < until_ns);
			pair_poll(raw->pair);
			continue;
		}
		at += got;
		size -= (size_t)got;
	}
	return true;
}

uint32_t raw_read_frame(struct raw *raw, void *frame, uint32_t frame_max)
{
	struct wire_header header;
	uint32_t rest;
	bool is_there;

	if (!raw_read(raw, &header, sizeof(header)))
		return 0;
	rest = header.body_size + header.payload_size;
	assert_int_equal(header.magic, WIRE_MAGIC);
	assert_true(sizeof(header) + rest <= frame_max);
	memcpy(frame, &header, sizeof(header));
	is_there = raw_read(raw, (uint8_t *)frame + sizeof(header), rest);
	assert_true(is_there);
	return (uint32_t)sizeof(header) + rest;
}

static uint32_t seal(uint8_t *frame, struct wire_header *header, struct auth_mac *mac)
{
	if (mac != NULL)
		auth_mac_seal(mac, header, frame + sizeof(*header));
	memcpy(frame, header, sizeof(*header));
	return (uint32_t)sizeof(*header) + header->body_size + header->payload_size;
}

uint32_t raw_probe(uint8_t *frame, struct auth_mac *mac, uint64_t request, uint16_t count)
{
	struct wire_header header;

	wire_header_init(&header, WIRE_PROBE, request, count,
			 (uint32_t)(sizeof(struct wire_request) + count * sizeof(struct wire_key)));
	memset(frame + sizeof(header), 0, header.body_size);
	pair_fill(frame + sizeof(header) + sizeof(struct wire_request),
		  count * (uint32_t)sizeof(struct wire_key), (uint32_t)request);
	return seal(frame, &header, mac);
}

uint32_t raw_data(uint8_t *frame, struct auth_mac *mac, enum wire_kind kind, uint64_t request,
		  uint64_t offset, uint32_t size, uint32_t seed)
{
	struct wire_data data = { .offset = offset };
	struct wire_header header;

	wire_header_init(&header, kind, request, 0, sizeof(data));
	header.payload_size = size;
	memcpy(frame + sizeof(header), &data, sizeof(data));
	pair_fill(frame + sizeof(header) + sizeof(data), size, seed);
	return seal(frame, &header, mac);
}

uint32_t raw_grants(uint8_t *frame, uint64_t request, uint16_t count, uint32_t size)
{
	struct wire_header header;

	wire_header_init(&header, WIRE_GRANT, request, count,
			 (uint32_t)(count * sizeof(struct wire_grant)));
	for (uint32_t i = 0; i < count; i++) {
		struct wire_grant grant = { .size = size, .offset = (uint64_t)i * size };

		memcpy(frame + sizeof(header) + i * sizeof(grant), &grant, sizeof(grant));
	}
	return seal(frame, &header, NULL);
}

struct auth_mac *raw_mac(enum wire_direction direction)
{
	const struct auth_key key = { { 1, 2, 3 } };
	const struct auth_transcript transcript = { .hello = { .nonce = { 4, 5 } } };
	struct auth_mac *mac = NULL;
	int rc = auth_mac_create(&key, &transcript, direction, &mac);

	assert_int_equal(rc, 0);
	return mac;
}
