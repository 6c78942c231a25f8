/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connect, send, read to the end, take apart; each step waits for the socket until the one deadline
 * of the request. Failure: what connecting or the socket says; -ETIMEDOUT at the deadline; -ENOMEM
 * for an answer above HTTP_ANSWER_MAX; -EINVAL for one that is not HTTP.
 */
#include "http.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

#define REQUEST_MAX 8192
#define ANSWER_STEP (64 * KiB)

int http_parse(const char *bytes, size_t size, unsigned *status_out, size_t *body_out)
{
	static const char *const ends[] = { "\r\n\r\n", "\n\n" };
	unsigned status = 0;

	/* "HTTP/1.1 200 OK" */
	if (size < 13 || memcmp(bytes, "HTTP/1.", 7) != 0 || bytes[8] != ' ')
		return -EINVAL;
	for (size_t i = 9; i < 12; i++) {
		if (bytes[i] < '0' || bytes[i] > '9')
			return -EINVAL;
		status = 10 * status + (unsigned)(bytes[i] - '0');
	}
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		const char *end = memmem(bytes, size, ends[i], strlen(ends[i]));

		if (end == NULL)
			continue;
		*status_out = status;
		*body_out = (size_t)(end - bytes) + strlen(ends[i]);
		return 0;
	}
	return -EINVAL;
}

/* --- the connection --- */

/* Wait until events; 0, or -ETIMEDOUT. */
static int wait_for(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };
	uint64_t now_ns = clock_ns();
	int rc;

	if (now_ns >= deadline_ns)
		return -ETIMEDOUT;
	rc = poll(&poll_fd, 1, (int)MIN((deadline_ns - now_ns) / NS_PER_MS + 1, 3600000));
	if (rc < 0)
		return -errno;
	return rc == 0 ? -ETIMEDOUT : 0;
}

static int connect_within(int fd, const struct addrinfo *address, uint64_t deadline_ns)
{
	socklen_t size = sizeof(int);
	int error = 0;
	int rc;

	if (connect(fd, address->ai_addr, address->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	rc = wait_for(fd, POLLOUT, deadline_ns);
	if (rc < 0)
		return rc;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		return -errno;
	return -error;
}

/* A connected socket, or a negative code. */
static int open_connection(const struct http_request *request, uint64_t deadline_ns)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
					.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *address;
	char port[8];
	int rc;
	int fd;

	snprintf(port, sizeof(port), "%u", request->port);
	if (getaddrinfo(request->address, port, &hints, &address) != 0)
		return -EINVAL;
	fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	rc = fd < 0 ? -errno : connect_within(fd, address, deadline_ns);
	freeaddrinfo(address);
	if (rc == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return rc;
}

static int send_all(int fd, const char *bytes, size_t size, uint64_t deadline_ns)
{
	while (size > 0) {
		ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
		int rc;

		if (sent >= 0) {
			bytes += sent;
			size -= (size_t)sent;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		rc = wait_for(fd, POLLOUT, deadline_ns);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Until the peer closes. The bytes have room for a NUL behind them. */
static int receive_all(int fd, uint64_t deadline_ns, char **bytes_out, size_t *size_out)
{
	char *bytes = NULL;
	size_t room = 0;
	size_t size = 0;

	for (;;) {
		ssize_t got;
		int rc;

		if (size + 1 >= room) {
			char *more =
				room < HTTP_ANSWER_MAX ? realloc(bytes, room + ANSWER_STEP) : NULL;

			if (more == NULL) {
				free(bytes);
				return -ENOMEM;
			}
			bytes = more;
			room += ANSWER_STEP;
		}
		got = recv(fd, bytes + size, room - size - 1, 0);
		if (got == 0)
			break;
		if (got > 0) {
			size += (size_t)got;
			continue;
		}
		rc = errno != EAGAIN && errno != EINTR ? -errno : wait_for(fd, POLLIN, deadline_ns);
		if (rc < 0) {
			free(bytes);
			return rc;
		}
	}
	bytes[size] = '\0';
	*bytes_out = bytes;
	*size_out = size;
	return 0;
}

/* --- the request --- */

static int request_format(const struct http_request *request, char *buf, size_t buf_size)
{
	bool is_v6 = strchr(request->address, ':') != NULL;
	const char *body = request->body != NULL ? request->body : "";
	int size = snprintf(buf, buf_size,
			    "%s %s HTTP/1.0\r\nHost: %s%s%s:%u\r\n%s%s%s"
			    "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
			    request->method, request->path, is_v6 ? "[" : "", request->address,
			    is_v6 ? "]" : "", request->port,
			    request->token != NULL ? "Authorization: Bearer " : "",
			    request->token != NULL ? request->token : "",
			    request->token != NULL ? "\r\n" : "", strlen(body), body);

	return size < 0 || (size_t)size >= buf_size ? -EINVAL : size;
}

static int answer_take(char *bytes, size_t size, struct http_answer *answer)
{
	size_t body;
	int rc = http_parse(bytes, size, &answer->status, &body);

	if (rc < 0) {
		free(bytes);
		return rc;
	}
	answer->size = size - body;
	memmove(bytes, bytes + body, answer->size + 1);
	answer->body = bytes;
	return 0;
}

int http_ask(const struct http_request *request, struct http_answer *answer_out)
{
	uint64_t deadline_ns = clock_ns() + request->timeout_ns;
	char text[REQUEST_MAX];
	char *bytes = NULL;
	size_t size = 0;
	int text_size = request_format(request, text, sizeof(text));
	int fd;
	int rc;

	if (text_size < 0)
		return text_size;
	fd = open_connection(request, deadline_ns);
	if (fd < 0)
		return fd;
	rc = send_all(fd, text, (size_t)text_size, deadline_ns);
	if (rc == 0)
		rc = receive_all(fd, deadline_ns, &bytes, &size);
	close(fd);
	explicit_bzero(text, sizeof(text));
	return rc < 0 ? rc : answer_take(bytes, size, answer_out);
}
