/* SPDX-License-Identifier: Apache-2.0 */
#include "load_socket.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define REQUEST_SIZE 256 /* room for one without its payload */
#define LINE_SIZE    256
#define PROBES_MAX   256 /* requests in one send: the replies to them fit the socket's buffers */

struct text_store {
	const struct load_dialect *dialect;
	int fd;
	size_t begin; /* of what was received and not yet taken, in buf */
	size_t end;
	char buf[16 * KiB];
	char line[LINE_SIZE];
};

/* --- the connection --- */

void *load_socket_open(const char *target, const struct load_dialect *dialect)
{
	struct text_store *store = calloc(1, sizeof(*store));
	struct sockaddr_in address = { .sin_family = AF_INET };
	const char *port = strchr(target, ':');
	char host[64] = "";
	const int one = 1;

	if (store == NULL || port == NULL || (size_t)(port - target) >= sizeof(host))
		load_die("'%s' is not HOST:PORT", target);
	memcpy(host, target, (size_t)(port - target));
	address.sin_port = htons((uint16_t)strtoul(port + 1, NULL, 10));
	store->dialect = dialect;
	store->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (inet_pton(AF_INET, host, &address.sin_addr) != 1 || store->fd < 0 ||
	    connect(store->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		load_die("%s: %s", target, err_str(-errno));
	(void)setsockopt(store->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return store;
}

static void send_all(struct text_store *store, struct iovec *iov, size_t count)
{
	while (count > 0) {
		struct msghdr message = { .msg_iov = iov, .msg_iovlen = count };
		ssize_t sent = sendmsg(store->fd, &message, MSG_NOSIGNAL);

		if (sent < 0)
			load_die("send: %s", err_str(-errno));
		for (; count > 0 && (size_t)sent >= iov->iov_len; iov++, count--)
			sent -= (ssize_t)iov->iov_len;
		if (count > 0) {
			iov->iov_base = (char *)iov->iov_base + sent;
			iov->iov_len -= (size_t)sent;
		}
	}
}

static size_t receive(struct text_store *store, void *bytes, uint64_t size, int flags)
{
	ssize_t got = recv(store->fd, bytes, size, flags);

	if (got <= 0)
		load_die("the server closed the connection");
	return (size_t)got;
}

static void buf_fill(struct text_store *store)
{
	memmove(store->buf, store->buf + store->begin, store->end - store->begin);
	store->end -= store->begin;
	store->begin = 0;
	if (store->end == sizeof(store->buf))
		load_die("a line without an end");
	store->end += receive(store, store->buf + store->end, sizeof(store->buf) - store->end, 0);
}

/* One line without its CR LF, cut at LINE_SIZE; valid until the next call. */
static const char *line_take(struct text_store *store)
{
	const char *end;
	size_t size;

	while ((end = memchr(store->buf + store->begin, '\n', store->end - store->begin)) == NULL)
		buf_fill(store);
	size = (size_t)(end - (store->buf + store->begin));
	memcpy(store->line, store->buf + store->begin, MIN(size, LINE_SIZE - 1));
	store->line[MIN(size, LINE_SIZE - 1)] = '\0';
	store->line[strcspn(store->line, "\r")] = '\0';
	store->begin += size + 1;
	return store->line;
}

/* What is in the buffer, then the rest from the socket into place. */
static void payload_take(struct text_store *store, char *bytes, uint64_t size)
{
	uint64_t done = MIN(size, store->end - store->begin);

	memcpy(bytes, store->buf + store->begin, done);
	store->begin += done;
	while (done < size)
		done += receive(store, bytes + done, size - done, MSG_WAITALL);
	line_take(store); /* the CR LF behind it */
}

/* --- one block --- */

static void set_ask(struct text_store *store, const struct load_walk *walk,
		    const struct load_block *block)
{
	char head[REQUEST_SIZE];
	int size = store->dialect->set(head, sizeof(head), block->name, walk->size);
	struct iovec iov[] = { { head, (size_t)size },
			       { block->bytes, walk->size },
			       { (char[]) { '\r', '\n' }, 2 } };

	send_all(store, iov, ARRAY_LEN(iov));
}

static void set_answer(struct text_store *store, const struct load_walk *walk,
		       struct load_block *block)
{
	(void)walk;
	block->status = store->dialect->set_status(line_take(store));
}

static void get_ask(struct text_store *store, const struct load_walk *walk,
		    const struct load_block *block)
{
	char request[REQUEST_SIZE];
	int size = store->dialect->get(request, sizeof(request), block->name);
	struct iovec iov = { request, (size_t)size };

	(void)walk;
	send_all(store, &iov, 1);
}

static void get_answer(struct text_store *store, const struct load_walk *walk,
		       struct load_block *block)
{
	uint64_t size = 0;

	block->status = store->dialect->get_status(line_take(store), &size);
	if (block->status != LOAD_OK)
		return;
	if (size != walk->size)
		load_die("a value of another size: %s", store->line);
	payload_take(store, block->bytes, size);
}

/* --- walks --- */

static void
walk_run(struct text_store *store, const struct load_walk *walk,
	 void (*ask)(struct text_store *, const struct load_walk *, const struct load_block *),
	 void (*answer)(struct text_store *, const struct load_walk *, struct load_block *))
{
	uint64_t asked = 0;

	for (uint64_t answered = 0;; answered++) {
		while (asked < walk->count && asked - answered < walk->batch && !load_is_over(walk))
			ask(store, walk, &walk->blocks[asked++]);
		if (answered == asked)
			return;
		answer(store, walk, &walk->blocks[answered]);
	}
}

void load_socket_put(void *store, const struct load_walk *walk)
{
	walk_run(store, walk, set_ask, set_answer);
}

void load_socket_get(void *store, const struct load_walk *walk)
{
	walk_run(store, walk, get_ask, get_answer);
}

void load_socket_probe(void *ctx, const struct load_walk *walk)
{
	static char requests[PROBES_MAX * REQUEST_SIZE];
	struct text_store *store = ctx;

	for (uint64_t i = 0; i < walk->count;) {
		uint64_t end = MIN(i + PROBES_MAX, walk->count);
		struct iovec iov = { .iov_base = requests };

		for (uint64_t j = i; j < end; j++)
			iov.iov_len += (size_t)store->dialect->here(
				requests + iov.iov_len, REQUEST_SIZE, walk->blocks[j].name);
		send_all(store, &iov, 1);
		for (; i < end; i++)
			walk->blocks[i].status = store->dialect->here_status(line_take(store));
	}
}
