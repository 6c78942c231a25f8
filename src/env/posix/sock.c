/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream sockets. Handles come from a pool taken at create. A listener that runs out of descriptors
 * (the process's or the pool's) would be readable for ever: it rests for ACCEPT_PAUSE_NS instead,
 * after one log line.
 *
 * A socket that alone has had something ALONE_COUNT times in a row is the likeliest to have the
 * next, and while the loop looks (pollers.c) it is told IN without epoll being asked: its user's
 * recv is the look: a system call less for what comes.
 *
 * Who connects to a Unix socket of ours may pass descriptors whose last close waits (closer.c). The
 * kernel closes those that find no room when their bytes are received, and those that nobody
 * received with the socket. So all are looked at first, while they stay where they are
 * (posix_sock_recv_fds); and a socket that has something left in it is closed elsewhere.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../base/log.h"
#include "../../base/text.h"
#include "posix_priv.h"

#define LISTEN_BACKLOG  512
#define ACCEPT_PAUSE_NS (100 * NS_PER_MS)
/* A peer whose host is gone, or who takes nothing, is told from an idle one by the kernel. */
#define KEEPALIVE_IDLE_S     30
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_COUNT      3
#define SILENCE_MS           (60 * 1000) /* bytes sent and not acknowledged */

/* Less, and two that take turns would be looked at too late. */
#define ALONE_COUNT 4
/* Who receives so much at once is not in a hurry, and a look that takes the socket from who is
 * filling it holds both up. */
#define ALONE_MAX (32 * KiB)

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un un;
};

/* --- addresses --- */

static int parse_inet(const char *text, union address *address_out, socklen_t *size_out)
{
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN + 2];
	size_t host_size;
	uint64_t port;

	if (colon == NULL || text_parse_u64(colon + 1, &port) < 0 || port > UINT16_MAX)
		return -EINVAL;
	host_size = (size_t)(colon - text);
	if (host_size == 0 || host_size >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, host_size);
	host[host_size] = '\0';
	if (inet_pton(AF_INET, host, &address_out->v4.sin_addr) == 1) {
		address_out->v4.sin_family = AF_INET;
		address_out->v4.sin_port = htons((uint16_t)port);
		*size_out = sizeof(address_out->v4);
		return 0;
	}
	if (host[0] != '[' || host[host_size - 1] != ']')
		return -EINVAL;
	host[host_size - 1] = '\0';
	if (inet_pton(AF_INET6, host + 1, &address_out->v6.sin6_addr) != 1)
		return -EINVAL;
	address_out->v6.sin6_family = AF_INET6;
	address_out->v6.sin6_port = htons((uint16_t)port);
	*size_out = sizeof(address_out->v6);
	return 0;
}

static int parse_address(const char *text, union address *address_out, socklen_t *size_out)
{
	size_t path_size;

	memset(address_out, 0, sizeof(*address_out));
	if (strncmp(text, "unix:", 5) != 0)
		return parse_inet(text, address_out, size_out);
	path_size = strlen(text + 5);
	if (path_size == 0 || path_size >= sizeof(address_out->un.sun_path))
		return -EINVAL;
	address_out->un.sun_family = AF_UNIX;
	memcpy(address_out->un.sun_path, text + 5, path_size);
	*size_out = sizeof(address_out->un);
	return 0;
}

/* --- handles --- */

static void note_ready(struct env_sock *sock)
{
	struct posix *posix = sock->posix;

	posix->spin.was_busy = true;
	posix->spin.was_sock_busy = true;
	posix->ready_count =
		posix->ready_sock == sock ? MIN(posix->ready_count + 1, (uint32_t)ALONE_COUNT) : 1;
	posix->ready_sock = sock;
}

bool posix_sock_is_alone(const struct posix *posix)
{
	const struct env_sock *sock = posix->ready_sock;

	return posix->ready_count == ALONE_COUNT && sock->is_stream && !sock->is_patient &&
	       (sock->watched & ENV_SOCK_IN) != 0;
}

void posix_sock_look(struct posix *posix)
{
	struct env_sock *sock = posix->ready_sock;

	ASSERT(posix_sock_is_alone(posix));
	sock->ready(sock, sock->ctx, ENV_SOCK_IN);
}

static void sock_ready(struct posix_source *source, uint32_t epoll_events)
{
	struct env_sock *sock = CONTAINER_OF(source, struct env_sock, source);
	uint32_t events = 0;

	/* Only what is watched now: a callback of the same batch may have changed that. */
	if ((epoll_events & EPOLLIN) != 0)
		events |= ENV_SOCK_IN;
	if ((epoll_events & EPOLLOUT) != 0)
		events |= ENV_SOCK_OUT;
	events &= sock->watched;
	if ((epoll_events & (EPOLLERR | EPOLLHUP)) != 0)
		events |= ENV_SOCK_ERR;
	if (events == 0 || sock->ready == NULL)
		return;
	note_ready(sock);
	sock->ready(sock, sock->ctx, events);
}

static int watch_apply(struct env_sock *sock, int op)
{
	uint32_t epoll_events = 0;

	if ((sock->watched & ENV_SOCK_IN) != 0)
		epoll_events |= EPOLLIN;
	if ((sock->watched & ENV_SOCK_OUT) != 0)
		epoll_events |= EPOLLOUT;
	return posix_epoll_set(sock->posix, op, sock->fd, epoll_events, &sock->source);
}

static void pause_end(struct env_timer *timer)
{
	struct env_sock *sock = CONTAINER_OF(timer, struct env_sock, pause);

	if (watch_apply(sock, EPOLL_CTL_MOD) < 0)
		log_error("listener watch lost");
}

static void accept_pause(struct env_sock *listener, const char *why)
{
	struct posix *posix = listener->posix;

	if (!listener->is_pause_told)
		log_warn("listener out of %s, looking again every %u ms", why,
			 (unsigned)(ACCEPT_PAUSE_NS / NS_PER_MS));
	listener->is_pause_told = true;
	if (posix_epoll_set(posix, EPOLL_CTL_MOD, listener->fd, 0, &listener->source) == 0)
		timers_set(&posix->timers, &listener->pause,
			   env_now_ns(&posix->env) + ACCEPT_PAUSE_NS);
}

/* fd is taken: closed when there is no handle for it. */
static int sock_take(struct posix *posix, int fd, struct env_sock **sock_out)
{
	struct env_sock *sock = list_head(&posix->sock_free, struct env_sock, node);
	int rc;

	if (sock == NULL) {
		close(fd);
		return -EMFILE;
	}
	sock->fd = fd;
	sock->watched = 0;
	sock->ready = NULL;
	sock->is_pause_told = false;
	sock->is_stream = false;
	ASSERT(!sock->is_patient);
	sock->is_peers = false;
	rc = watch_apply(sock, EPOLL_CTL_ADD);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	list_del(&sock->node);
	list_add_tail(&posix->sock_open, &sock->node);
	*sock_out = sock;
	return 0;
}

/* All of it is for the better only: where the system does not know one, it goes without. */
static void inet_options(int fd)
{
	static const struct {
		int level;
		int name;
		int value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, SILENCE_MS },
	};

	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		(void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
				 sizeof(options[i].value));
}

static int socket_make(const union address *address)
{
	const int one = 1;
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (address->any.sa_family != AF_UNIX) {
		inet_options(fd);
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	}
	return fd;
}

/*
 * Remove a socket whose server died. What is no socket, or has somebody listening, stays, and bind
 * says -EADDRINUSE.
 */
static void unlink_stale(const union address *address, socklen_t size)
{
	struct stat st;
	int fd;

	if (lstat(address->un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	fd = socket_make(address);
	if (fd < 0)
		return;
	if (connect(fd, &address->any, size) < 0 && errno == ECONNREFUSED)
		unlink(address->un.sun_path);
	close(fd);
}

/* Who may connect to a Unix socket: its user and group; the group is whoever made it to say. */
#define UNIX_MODE 0660

/* A Unix socket is never more open than it will be: bind() takes the descriptor's mode. */
static int socket_bind(int fd, const union address *address, socklen_t size)
{
	bool is_unix = address->any.sa_family == AF_UNIX;

	if (is_unix && fchmod(fd, UNIX_MODE) < 0)
		return -errno;
	if (bind(fd, &address->any, size) < 0)
		return -errno;
	/* What the umask took away. */
	if (is_unix && chmod(address->un.sun_path, UNIX_MODE) < 0)
		return -errno;
	return 0;
}

int posix_sock_listen(struct env *env, const char *text, struct env_sock **sock_out)
{
	union address address;
	socklen_t size;
	int fd;
	int rc = parse_address(text, &address, &size);

	if (rc < 0)
		return rc;
	if (address.any.sa_family == AF_UNIX)
		rc = closer_begin();
	if (rc < 0)
		return rc;
	fd = socket_make(&address);
	if (fd < 0)
		return fd;
	if (address.any.sa_family == AF_UNIX)
		unlink_stale(&address, size);
	rc = socket_bind(fd, &address, size);
	if (rc == 0 && listen(fd, LISTEN_BACKLOG) < 0)
		rc = -errno;
	if (rc < 0) {
		close(fd);
		return rc;
	}
	rc = sock_take(posix_of(env), fd, sock_out);
	if (rc == 0)
		(*sock_out)->is_peers = address.any.sa_family == AF_UNIX;
	return rc;
}

int posix_sock_accept(struct env *env, struct env_sock *listener, struct env_sock **sock_out)
{
	const int one = 1;
	int rc;
	int fd;

	if (list_is_empty(&listener->posix->sock_free)) {
		accept_pause(listener, "socket handles");
		return -EAGAIN;
	}
	if (listener->is_peers && closer_is_full()) {
		accept_pause(listener, "patience: too many descriptors that clients passed wait to "
				       "be closed");
		return -EAGAIN;
	}
	fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			accept_pause(listener, "descriptors");
		return -EAGAIN; /* also for connections that ended before they were accepted */
	}
	listener->is_pause_told = false;
	if (!listener->is_peers)
		inet_options(fd);
	/* Bytes out of band are bytes: the kernel would skip them, and close what came with them.
	 */
	else if (setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one)) < 0)
		log_error("socket cannot take bytes out of band inline");
	rc = sock_take(posix_of(env), fd, sock_out);
	if (rc == 0)
		(*sock_out)->is_peers = listener->is_peers;
	return rc;
}

int posix_sock_connect(struct env *env, const char *text, struct env_sock **sock_out)
{
	union address address;
	socklen_t size;
	int fd;
	int rc = parse_address(text, &address, &size);

	if (rc < 0)
		return rc;
	fd = socket_make(&address);
	if (fd < 0)
		return fd;
	if (connect(fd, &address.any, size) < 0 && errno != EINPROGRESS) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return sock_take(posix_of(env), fd, sock_out);
}

int posix_sock_adopt(struct env *env, int fd, struct env_sock **sock_out)
{
	int flags = fcntl(fd, F_GETFL);
	int rc;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		rc = -errno;
		if (rc != -EBADF)
			close(fd);
		return rc;
	}
	return sock_take(posix_of(env), fd, sock_out);
}

void posix_sock_watch(struct env *env, struct env_sock *sock, uint32_t events, env_sock_ready ready,
		      void *ctx)
{
	(void)env;
	sock->ready = ready;
	sock->ctx = ctx;
	if (sock->watched == events)
		return;
	sock->watched = events;
	if (sock->pause.is_set)
		return; /* pause_end() does it */
	if (watch_apply(sock, EPOLL_CTL_MOD) < 0)
		log_error("socket watch lost");
}

static void set_patient(struct env *env, struct env_sock *sock, bool is_patient)
{
	struct posix_spin *spin = &posix_of(env)->spin;

	if (sock->is_patient && !is_patient)
		spin->patient--;
	else if (!sock->is_patient && is_patient)
		spin->patient++;
	sock->is_patient = is_patient;
}

int posix_sock_detach(struct env *env, struct env_sock *sock)
{
	struct posix *posix = posix_of(env);
	int fd = sock->fd;

	ASSERT(fd >= 0);
	timers_clear(&posix->timers, &sock->pause);
	set_patient(env, sock, false);
	posix_epoll_remove(posix, fd, &sock->source);
	if (posix->ready_sock == sock) {
		posix->ready_sock = NULL;
		posix->ready_count = 0;
	}
	sock->fd = -1;
	sock->ready = NULL;
	list_del(&sock->node);
	/* To the tail: a stale pointer is more likely caught by its fd of -1. */
	list_add_tail(&posix->sock_free, &sock->node);
	return fd;
}

/* Whether it has nothing in it that was not received, and nothing can come any more. */
static bool is_empty(int fd)
{
	int size = 0;

	return shutdown(fd, SHUT_RDWR) == 0 && ioctl(fd, FIONREAD, &size) == 0 && size == 0;
}

void posix_sock_close(struct env *env, struct env_sock *sock)
{
	bool is_ours = !sock->is_peers || posix_of(env)->pid != getpid();
	int fd = posix_sock_detach(env, sock);

	if (is_ours || is_empty(fd))
		close(fd);
	else
		closer_close(fd);
}

/* --- bytes --- */

static ssize_t socket_recv(int fd, struct msghdr *message, int flags)
{
	ssize_t size;

	do
		size = recvmsg(fd, message, flags);
	while (size < 0 && errno == EINTR);
	return size < 0 ? -errno : size;
}

ssize_t posix_sock_send(struct env *env, struct env_sock *sock, const struct iovec *iov,
			uint32_t iov_count)
{
	const struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)iov,
					.msg_iovlen = iov_count };
	ssize_t size;

	(void)env;
	do
		size = sendmsg(sock->fd, &message, MSG_NOSIGNAL);
	while (size < 0 && errno == EINTR);
	return size < 0 ? -errno : size;
}

/* The kernel says IN all the same when it has no room for so much. */
void posix_sock_want(struct env *env, struct env_sock *sock, uint32_t size)
{
	const int low = (int)MIN(size, (uint32_t)INT32_MAX);

	set_patient(env, sock, size > 1);
	(void)setsockopt(sock->fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low)); /* or it need not */
}

/* --- descriptors beside bytes --- */

union fds_control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(ENV_FDS_MAX * sizeof(int))];
};

ssize_t posix_sock_send_fds(struct env *env, struct env_sock *sock, const struct iovec *iov,
			    uint32_t iov_count, const int *fds, uint32_t fd_count)
{
	union fds_control control = { .bytes = { 0 } };
	const struct msghdr message = {
		.msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = iov_count,
		.msg_control = control.bytes,
		.msg_controllen = CMSG_SPACE(fd_count * sizeof(int)),
	};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	ssize_t size;

	(void)env;
	ASSERT(fd_count > 0);
	ASSERT(fd_count <= ENV_FDS_MAX);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
	memcpy(CMSG_DATA(head), fds, fd_count * sizeof(int));
	do
		size = sendmsg(sock->fd, &message, MSG_NOSIGNAL);
	while (size < 0 && errno == EINTR);
	return size < 0 ? -errno : size;
}

/* Receive size bytes that are known to be there. What is beside them is closed, and said. */
static ssize_t bytes_take(int fd, const struct iovec *iov, uint32_t iov_count, ssize_t size,
			  bool *has_fds_out)
{
	struct iovec pieces[ENV_IOV_MAX];
	struct msghdr message = { .msg_iov = pieces };
	size_t left = (size_t)size;

	for (uint32_t i = 0; i < iov_count && left > 0; i++) {
		pieces[i] = (struct iovec) { iov[i].iov_base, MIN(iov[i].iov_len, left) };
		left -= pieces[i].iov_len;
		message.msg_iovlen = i + 1;
	}
	size = socket_recv(fd, &message, 0);
	*has_fds_out = (message.msg_flags & MSG_CTRUNC) != 0;
	return size;
}

static void fds_close(struct env *env, const int *fds, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		(void)posix_fd_close(env, fds[i]); /* the stream ends, or they come again */
}

static uint32_t fds_take(struct msghdr *message, int fds_out[ENV_FDS_MAX])
{
	uint32_t count = 0;

	for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
	     head = CMSG_NXTHDR(message, head)) {
		uint32_t here = (uint32_t)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
			continue;
		ASSERT(count + here <= ENV_FDS_MAX); /* the control buffer has no more room */
		memcpy(fds_out + count, CMSG_DATA(head), here * sizeof(int));
		count += here;
	}
	return count;
}

/*
 * Looked at first, which copies the descriptors, then taken: so the kernel, which closes what finds
 * no room here, never closes the last of them. A look also shows those of the bytes right behind
 * (Linux 6.18): they come again.
 */
ssize_t posix_sock_recv_fds(struct env *env, struct env_sock *sock, const struct iovec *iov,
			    uint32_t iov_count, int fds_out[ENV_FDS_MAX], uint32_t *fd_count_out)
{
	union fds_control control;
	struct msghdr message = {
		.msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = iov_count,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t seen = socket_recv(sock->fd, &message, MSG_CMSG_CLOEXEC | MSG_PEEK);
	ssize_t size = -EMFILE;
	bool has_fds = false;
	uint32_t count;

	if (seen <= 0)
		return seen;
	count = fds_take(&message, fds_out);
	if ((message.msg_flags & MSG_CTRUNC) == 0)
		size = bytes_take(sock->fd, iov, iov_count, seen, &has_fds);
	if (!has_fds || size != seen) {
		fds_close(env, fds_out, count);
		count = 0;
	}
	if (size >= 0 && size != seen)
		return -EIO;
	if (size >= 0)
		*fd_count_out = count;
	return size;
}

/* It had something: also where nobody but its user looked. */
static void note_recv(struct env_sock *sock, ssize_t size)
{
	if (size == -EAGAIN)
		return;
	sock->is_stream = true;
	if (size >= (ssize_t)ALONE_MAX)
		sock->posix->ready_count = 0;
	sock->posix->spin.was_busy = true;
	sock->posix->spin.was_sock_busy = true;
}

/* Without a place for descriptors: a stream with any is broken. */
ssize_t posix_sock_recv(struct env *env, struct env_sock *sock, const struct iovec *iov,
			uint32_t iov_count)
{
	struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)iov,
				  .msg_iovlen = iov_count };
	int fds[ENV_FDS_MAX];
	uint32_t count = 0;
	ssize_t size;

	if (!sock->is_peers) {
		size = socket_recv(sock->fd, &message, 0);
		note_recv(sock, size);
		return size;
	}
	size = posix_sock_recv_fds(env, sock, iov, iov_count, fds, &count);
	if (count == 0)
		return size;
	fds_close(env, fds, count);
	return -EPROTO;
}

void posix_sock_name(struct env *env, struct env_sock *sock, bool is_peer, char *buf,
		     size_t buf_size)
{
	union address address;
	socklen_t size = sizeof(address);
	char host[INET6_ADDRSTRLEN] = "?";
	int rc;

	(void)env;
	memset(&address, 0, sizeof(address));
	rc = is_peer ? getpeername(sock->fd, &address.any, &size)
		     : getsockname(sock->fd, &address.any, &size);
	if (rc < 0) {
		snprintf(buf, buf_size, "?");
	} else if (address.any.sa_family == AF_INET) {
		inet_ntop(AF_INET, &address.v4.sin_addr, host, sizeof(host));
		snprintf(buf, buf_size, "%s:%u", host, ntohs(address.v4.sin_port));
	} else if (address.any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &address.v6.sin6_addr, host, sizeof(host));
		snprintf(buf, buf_size, "[%s]:%u", host, ntohs(address.v6.sin6_port));
	} else {
		/* A longest path has no NUL. */
		snprintf(buf, buf_size, "unix:%.*s", (int)sizeof(address.un.sun_path),
			 address.un.sun_path);
	}
}

/* --- beginning and end --- */

int posix_sock_init(struct posix *posix, uint32_t sock_max)
{
	list_init(&posix->sock_free);
	list_init(&posix->sock_open);
	posix->socks = calloc(MAX(sock_max, 1), sizeof(*posix->socks));
	if (posix->socks == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < sock_max; i++) {
		struct env_sock *sock = &posix->socks[i];

		sock->source.ready = sock_ready;
		sock->pause.fire = pause_end;
		sock->posix = posix;
		sock->fd = -1;
		list_add_tail(&posix->sock_free, &sock->node);
	}
	return 0;
}

void posix_sock_fini(struct posix *posix)
{
	struct env_sock *sock;

	while ((sock = list_head(&posix->sock_open, struct env_sock, node)) != NULL)
		posix_sock_close(&posix->env, sock);
	free(posix->socks);
}
