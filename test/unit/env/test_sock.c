/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream sockets through each back end: bytes arrive in order and whole, ends and refusals are
 * told, a callback may close or unwatch any socket of the same batch, and running out of handles or
 * descriptors rests the listener instead of spinning.
 */
#include "../../lib/t.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../src/base/log.h"
#include "../../../src/env/posix/posix_priv.h"
#include "../../lib/back_end.h"

#define LIMIT_NS (5 * NS_PER_S)
#define SOCK_MAX 8

static int log_lines;

static void log_count(void *ctx, enum log_level level, const char *line)
{
	log_lines++;
}

static int begin(void **state)
{
	const struct env_posix_opts opts = { .sock_max = SOCK_MAX };
	struct env *env = NULL;

	log_lines = 0;
	log_sink_set(log_count, NULL);
	assert_int_equal(back_end_create(&opts, &env), 0);
	*state = env;
	return 0;
}

static int end(void **state)
{
	struct env *env = *state;

	env_close(&env); /* closes what a test left open */
	log_sink_set(NULL, NULL);
	return 0;
}

/* --- a socket and what was told of it --- */

struct peer {
	struct env *env;
	struct env_sock *sock;
	uint32_t events; /* all so far */
	int calls;
	struct peer *closed;    /* by this one's callback */
	struct peer *unwatched; /* likewise */
	struct peer *reopened;  /* likewise: adopts fd, perhaps in the handle just closed */
	int fd;
};

static void peer_ready(struct env_sock *sock, void *ctx, uint32_t events)
{
	struct peer *peer = ctx;

	assert_ptr_equal(sock, peer->sock);
	peer->events |= events;
	peer->calls++;
	if (peer->closed != NULL && peer->closed->sock != NULL) {
		peer->env->ops->sock_close(peer->env, peer->closed->sock);
		peer->closed->sock = NULL;
	}
	if (peer->unwatched != NULL)
		peer->env->ops->sock_watch(peer->env, peer->unwatched->sock, 0, peer_ready,
					   peer->unwatched);
	if (peer->reopened != NULL && peer->reopened->sock == NULL) {
		assert_int_equal(peer->env->ops->sock_adopt(peer->env, peer->reopened->fd,
							    &peer->reopened->sock),
				 0);
		peer->env->ops->sock_watch(peer->env, peer->reopened->sock, ENV_SOCK_IN, peer_ready,
					   peer->reopened);
	}
}

static void watch(struct peer *peer, uint32_t events)
{
	peer->env->ops->sock_watch(peer->env, peer->sock, events, peer_ready, peer);
}

static void poll_until_events(struct peer *peer, uint32_t events)
{
	uint64_t until = env_now_ns(peer->env) + LIMIT_NS;

	while ((peer->events & events) == 0 && env_now_ns(peer->env) < until)
		assert_int_equal(peer->env->ops->poll(peer->env, LIMIT_NS), 0);
	assert_int_not_equal(peer->events & events, 0);
}

static ssize_t send_text(struct peer *peer, const char *text)
{
	const struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };

	return peer->env->ops->sock_send(peer->env, peer->sock, &iov, 1);
}

static ssize_t recv_into(struct peer *peer, void *buf, size_t size)
{
	const struct iovec iov = { buf, size };

	return peer->env->ops->sock_recv(peer->env, peer->sock, &iov, 1);
}

/* Listen at address, connect to it, accept. */
static void connect_pair(struct env *env, const char *address, struct peer *listener,
			 struct peer *client, struct peer *server)
{
	char name[128];

	*listener = (struct peer) { .env = env };
	*client = (struct peer) { .env = env };
	*server = (struct peer) { .env = env };
	assert_int_equal(env->ops->sock_listen(env, address, &listener->sock), 0);
	watch(listener, ENV_SOCK_IN);
	env->ops->sock_name(env, listener->sock, false, name, sizeof(name));
	assert_int_equal(env->ops->sock_connect(env, name, &client->sock), 0);
	watch(client, ENV_SOCK_OUT);
	poll_until_events(client, ENV_SOCK_OUT);
	assert_int_equal(client->events & ENV_SOCK_ERR, 0);
	watch(client, ENV_SOCK_IN);
	poll_until_events(listener, ENV_SOCK_IN);
	assert_int_equal(env->ops->sock_accept(env, listener->sock, &server->sock), 0);
	watch(server, ENV_SOCK_IN);
	assert_int_equal(env->ops->sock_accept(env, listener->sock, &server->sock), -EAGAIN);
}

/* Two ends of a pair, one in the env, one the test's own. */
static int adopt_pair(struct peer *peer, struct env *env)
{
	int fds[2];

	*peer = (struct peer) { .env = env };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(env->ops->sock_adopt(env, fds[0], &peer->sock), 0);
	return fds[1];
}

/* --- bytes --- */

static void check_conversation(struct env *env, const char *address)
{
	struct peer listener;
	struct peer client;
	struct peer server;
	char head[3];
	char tail[8];
	struct iovec iov[2] = { { head, sizeof(head) }, { tail, sizeof(tail) } };

	connect_pair(env, address, &listener, &client, &server);
	assert_int_equal(recv_into(&server, head, 1), -EAGAIN);
	assert_int_equal(send_text(&client, "hello world"), 11);
	poll_until_events(&server, ENV_SOCK_IN);
	assert_int_equal(env->ops->sock_recv(env, server.sock, iov, 2), 11);
	assert_memory_equal(head, "hel", 3);
	assert_memory_equal(tail, "lo world", 8);
	/* Level triggered: what was not read is told again. */
	assert_int_equal(send_text(&server, "ab"), 2);
	poll_until_events(&client, ENV_SOCK_IN);
	assert_int_equal(recv_into(&client, head, 1), 1);
	client.events = 0;
	poll_until_events(&client, ENV_SOCK_IN);
	/* The end of the stream comes behind all bytes. */
	env->ops->sock_close(env, server.sock);
	assert_int_equal(recv_into(&client, head, 3), 1);
	client.events = 0;
	poll_until_events(&client, ENV_SOCK_IN | ENV_SOCK_ERR);
	assert_int_equal(recv_into(&client, head, 3), 0);
	env->ops->sock_close(env, client.sock);
	env->ops->sock_close(env, listener.sock);
}

static void bytes_come_over_tcp(void **state)
{
	check_conversation(*state, "127.0.0.1:0");
}

static void bytes_come_over_tcp6(void **state)
{
	struct env *env = *state;
	struct env_sock *sock = NULL;

	if (env->ops->sock_listen(env, "[::1]:0", &sock) < 0) {
		print_message("this machine has no IPv6\n");
		skip();
	}
	env->ops->sock_close(env, sock);
	check_conversation(env, "[::1]:0");
}

/* The sender is told to stop, waits for room, and everything arrives. */
static void more_than_fits_arrives_whole(void **state)
{
	enum { SIZE = 8 << 20 };
	struct env *env = *state;
	struct peer listener;
	struct peer client;
	struct peer server;
	char *from = malloc(SIZE);
	char *to = malloc(SIZE);
	size_t sent = 0;
	size_t received = 0;
	bool was_full = false;

	connect_pair(env, "127.0.0.1:0", &listener, &client, &server);
	for (size_t i = 0; i < SIZE; i++)
		from[i] = (char)(i * 31 + i / 4096);
	while (received < SIZE) {
		const struct iovec out = { from + sent, SIZE - sent };
		ssize_t moved = sent < SIZE ? env->ops->sock_send(env, client.sock, &out, 1) : 0;

		was_full = was_full || moved == -EAGAIN;
		assert_true(moved >= 0 || moved == -EAGAIN);
		sent += moved > 0 ? (size_t)moved : 0;
		if (moved > 0)
			continue; /* until it is full */
		server.events = 0;
		poll_until_events(&server, ENV_SOCK_IN);
		moved = recv_into(&server, to + received, SIZE - received);
		assert_true(moved > 0);
		received += (size_t)moved;
	}
	assert_true(was_full);
	assert_memory_equal(from, to, SIZE);
	free(from);
	free(to);
}

/* IN may wait for what is wanted, and not for what cannot come any more. */
static void what_is_wanted_or_the_end_is_told(void **state)
{
	struct env *env = *state;
	struct peer listener;
	struct peer client;
	struct peer server;
	char bytes[64];

	connect_pair(env, "127.0.0.1:0", &listener, &client, &server);
	env->ops->sock_want(env, server.sock, 22);
	assert_int_equal(send_text(&client, "hello world"), 11);
	assert_int_equal(send_text(&client, "hello world"), 11);
	poll_until_events(&server, ENV_SOCK_IN);
	assert_int_equal(recv_into(&server, bytes, sizeof(bytes)), 22);
	server.events = 0;
	assert_int_equal(send_text(&client, "hello world"), 11);
	assert_int_equal(env->ops->poll(env, 20 * NS_PER_MS), 0);
	assert_int_equal(server.events, 0); /* that the kernel does wait is what it is for */
	env->ops->sock_want(env, server.sock, 1);
	poll_until_events(&server, ENV_SOCK_IN);
	assert_int_equal(recv_into(&server, bytes, sizeof(bytes)), 11);
	env->ops->sock_want(env, server.sock, 1000);
	assert_int_equal(send_text(&client, "bye"), 3);
	env->ops->sock_close(env, client.sock);
	server.events = 0;
	poll_until_events(&server, ENV_SOCK_IN | ENV_SOCK_ERR);
	assert_int_equal(recv_into(&server, bytes, sizeof(bytes)), 3);
	env->ops->sock_close(env, server.sock);
	env->ops->sock_close(env, listener.sock);
}

static void a_refused_connection_is_an_error_with_its_cause(void **state)
{
	struct env *env = *state;
	struct peer listener = { .env = env };
	struct peer client = { .env = env };
	char name[128];
	char byte;

	assert_int_equal(env->ops->sock_listen(env, "127.0.0.1:0", &listener.sock), 0);
	env->ops->sock_name(env, listener.sock, false, name, sizeof(name));
	env->ops->sock_close(env, listener.sock);
	assert_int_equal(env->ops->sock_connect(env, name, &client.sock), 0);
	watch(&client, ENV_SOCK_OUT);
	poll_until_events(&client, ENV_SOCK_ERR);
	assert_int_equal(recv_into(&client, &byte, 1), -ECONNREFUSED);
}

/* No SIGPIPE: the engine's process may have its own use of it. */
static void sending_to_nobody_is_an_error_and_no_signal(void **state)
{
	struct env *env = *state;
	struct peer peer;
	int other = adopt_pair(&peer, env);

	close(other);
	assert_int_equal(send_text(&peer, "x"), -EPIPE);
}

/* --- the only one that has something --- */

/* So often in a row that it is looked at without epoll. */
static void feed_alone(struct peer *peer, int other)
{
	char byte;

	for (int i = 0; i < 8; i++) {
		assert_int_equal(write(other, "x", 1), 1);
		peer->events = 0;
		poll_until_events(peer, ENV_SOCK_IN);
		assert_int_equal(recv_into(peer, &byte, 1), 1);
	}
	peer->calls = 0;
}

static void poll_for(struct env *env, uint64_t time_ns)
{
	uint64_t until_ns = env_now_ns(env) + time_ns;

	while (env_now_ns(env) < until_ns)
		assert_int_equal(env->ops->poll(env, 0), 0);
}

static void who_is_alone_is_looked_at_and_keeps_nobody_waiting(void **state)
{
	struct env *env = *state;
	struct peer alone;
	struct peer second;
	int alone_fd = adopt_pair(&alone, env);
	int second_fd = adopt_pair(&second, env);

	watch(&alone, ENV_SOCK_IN);
	watch(&second, ENV_SOCK_IN);
	feed_alone(&alone, alone_fd);
	poll_for(env, NS_PER_MS);
	assert_true(alone.calls > 0); /* nothing came: it was only looked at */
	assert_int_equal(write(second_fd, "x", 1), 1);
	poll_for(env, 5 * NS_PER_MS);
	assert_int_equal(second.events, ENV_SOCK_IN);
	alone.calls = 0;
	poll_for(env, NS_PER_MS);
	assert_int_equal(alone.calls, 0);
	close(alone_fd);
	close(second_fd);
}

/* A look would take what is to come at once piece by piece. */
static void who_wants_more_than_a_byte_is_not_looked_at(void **state)
{
	struct env *env = *state;
	struct peer peer;
	int other = adopt_pair(&peer, env);

	watch(&peer, ENV_SOCK_IN);
	feed_alone(&peer, other);
	env->ops->sock_want(env, peer.sock, 100);
	poll_for(env, NS_PER_MS);
	assert_int_equal(peer.calls, 0);
	env->ops->sock_want(env, peer.sock, 1);
	watch(&peer, 0);
	poll_for(env, NS_PER_MS);
	assert_int_equal(peer.calls, 0);
	close(other);
}

static void who_was_alone_may_be_closed(void **state)
{
	struct env *env = *state;
	struct peer peer;
	int other = adopt_pair(&peer, env);

	watch(&peer, ENV_SOCK_IN);
	feed_alone(&peer, other);
	env->ops->sock_close(env, peer.sock);
	poll_for(env, NS_PER_MS);
	assert_int_equal(peer.calls, 0);
	close(other);
}

struct again {
	struct env_task task;
	struct env *env;
};

static void on_again(struct env_task *task)
{
	struct again *again = CONTAINER_OF(task, struct again, task);

	again->env->ops->defer(again->env, task);
}

static void tasks_keep_no_socket_waiting(void **state)
{
	struct env *env = *state;
	struct again again = { .task = { .run = on_again }, .env = env };
	struct peer peer;
	int other = adopt_pair(&peer, env);

	watch(&peer, ENV_SOCK_IN);
	feed_alone(&peer, other);
	env->ops->defer(env, &again.task);
	for (int i = 0; i < 3; i++)
		feed_alone(&peer, other);
	env->ops->undefer(env, &again.task);
	close(other);
}

/* --- addresses --- */

static void addresses_are_numeric_or_refused(void **state)
{
	struct env *env = *state;
	char too_long[128] = "unix:/";
	const char *const bad[] = {
		"",
		":1",
		"127.0.0.1",
		"127.0.0.1:",
		"127.0.0.1:65536",
		"127.0.0.1:x",
		"localhost:1",
		"::1:1",
		"[::1]",
		"[::1:1",
		"[]:1",
		"1.2.3.4.5:1",
		"unix:",
		too_long,
	};
	struct env_sock *sock = NULL;

	memset(too_long + 6, 'x', sizeof(too_long) - 7);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(env->ops->sock_listen(env, bad[i], &sock), -EINVAL);
		assert_int_equal(env->ops->sock_connect(env, bad[i], &sock), -EINVAL);
		assert_null(sock);
	}
}

static void names_tell_both_ends(void **state)
{
	struct env *env = *state;
	struct peer listener;
	struct peer client;
	struct peer server;
	char a[64];
	char b[64];

	connect_pair(env, "127.0.0.1:0", &listener, &client, &server);
	env->ops->sock_name(env, client.sock, true, a, sizeof(a));
	env->ops->sock_name(env, listener.sock, false, b, sizeof(b));
	assert_string_equal(a, b);
	assert_int_equal(strncmp(a, "127.0.0.1:", 10), 0);
	assert_string_not_equal(a, "127.0.0.1:0");
	env->ops->sock_name(env, client.sock, false, a, sizeof(a));
	env->ops->sock_name(env, server.sock, true, b, sizeof(b));
	assert_string_equal(a, b);
	env->ops->sock_name(env, server.sock, true, b, 6); /* cut, not overrun */
	assert_string_equal(b, "127.0");
	env->ops->sock_name(env, listener.sock, true, b, sizeof(b));
	assert_string_equal(b, "?"); /* it has no peer */
}

static void sockets_do_not_delay_and_do_not_leak_into_children(void **state)
{
	struct env *env = *state;
	struct peer all[3];

	connect_pair(env, "127.0.0.1:0", &all[0], &all[1], &all[2]);
	for (int i = 0; i < 3; i++) {
		int value = 0;
		socklen_t size = sizeof(value);

		assert_true((fcntl(all[i].sock->fd, F_GETFD) & FD_CLOEXEC) != 0);
		assert_true((fcntl(all[i].sock->fd, F_GETFL) & O_NONBLOCK) != 0);
		assert_int_equal(
			getsockopt(all[i].sock->fd, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
		assert_int_not_equal(value, 0);
	}
}

static int option_of(const struct peer *peer, int level, int name)
{
	int value = 0;
	socklen_t size = sizeof(value);

	assert_int_equal(getsockopt(peer->sock->fd, level, name, &value, &size), 0);
	return value;
}

/* Else the session of a host that lost its power stays, until all sessions are such. */
static void a_host_that_is_gone_is_noticed(void **state)
{
	struct env *env = *state;
	struct peer all[3];

	connect_pair(env, "127.0.0.1:0", &all[0], &all[1], &all[2]);
	for (int i = 1; i < 3; i++) {
		assert_int_not_equal(option_of(&all[i], SOL_SOCKET, SO_KEEPALIVE), 0);
		assert_in_range(option_of(&all[i], IPPROTO_TCP, TCP_KEEPIDLE), 1, 60);
		assert_in_range(option_of(&all[i], IPPROTO_TCP, TCP_USER_TIMEOUT), 1, 120000);
	}
}

/* A dead server's socket is replaced; a live one's, and any other file, is not touched. */
static void a_unix_listener_replaces_only_dead_sockets(void **state)
{
	struct env *env = *state;
	char dir[] = "/tmp/ctxkv-sock-XXXXXX";
	char path[64];
	char address[80];
	struct env_sock *first = NULL;
	struct env_sock *second = NULL;
	struct stat st;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(address, sizeof(address), "unix:%s", path);
	check_conversation(env, address);
	assert_int_equal(env->ops->sock_listen(env, address, &first), 0); /* over what it left */
	assert_int_equal(env->ops->sock_listen(env, address, &second), -EADDRINUSE);
	env->ops->sock_close(env, first);
	unlink(path);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(env->ops->sock_listen(env, address, &second), -EADDRINUSE);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	unlink(path);
	rmdir(dir);
}

/* --- changes in the middle of a batch --- */

/*
 * Both are ready; the first closes the second and opens a third in the same handle: the pool has no
 * other. Nothing but the scrub keeps the old event from the third.
 */
static void a_closed_socket_gets_no_event_of_its_batch(void **state)
{
	struct env *env = *state;
	struct peer a;
	struct peer b;
	struct peer fresh = { .env = env };
	struct peer spare[SOCK_MAX - 2];
	int others[SOCK_MAX - 2];
	int other_a = adopt_pair(&a, env);
	int other_b = adopt_pair(&b, env);
	int fds[2];

	for (int i = 0; i < SOCK_MAX - 2; i++)
		others[i] = adopt_pair(&spare[i], env);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	fresh.fd = fds[0];
	a.closed = &b;
	b.closed = &a;
	a.reopened = b.reopened = &fresh;
	watch(&a, ENV_SOCK_IN);
	watch(&b, ENV_SOCK_IN);
	assert_int_equal(write(other_a, "x", 1), 1);
	assert_int_equal(write(other_b, "x", 1), 1);
	assert_int_equal(env->ops->poll(env, LIMIT_NS), 0);
	assert_int_equal(a.calls + b.calls, 1);
	assert_int_equal(fresh.calls, 0);
	assert_int_equal(write(fds[1], "x", 1), 1); /* the new one lives */
	poll_until_events(&fresh, ENV_SOCK_IN);
	for (int i = 0; i < SOCK_MAX - 2; i++)
		close(others[i]);
	close(other_a);
	close(other_b);
	close(fds[1]);
}

static void an_unwatched_socket_gets_no_event_of_its_batch(void **state)
{
	struct env *env = *state;
	struct peer a;
	struct peer b;
	int other_a = adopt_pair(&a, env);
	int other_b = adopt_pair(&b, env);

	a.unwatched = &b;
	b.unwatched = &a;
	watch(&a, ENV_SOCK_IN);
	watch(&b, ENV_SOCK_IN);
	assert_int_equal(write(other_a, "x", 1), 1);
	assert_int_equal(write(other_b, "x", 1), 1);
	assert_int_equal(env->ops->poll(env, LIMIT_NS), 0);
	assert_int_equal(a.calls + b.calls, 1);
	close(other_a);
	close(other_b);
}

static void a_socket_may_close_itself(void **state)
{
	struct env *env = *state;
	struct peer peer;
	int other = adopt_pair(&peer, env);

	peer.closed = &peer;
	watch(&peer, ENV_SOCK_IN);
	assert_int_equal(write(other, "x", 1), 1);
	assert_int_equal(env->ops->poll(env, LIMIT_NS), 0);
	assert_null(peer.sock);
	assert_int_equal(read(other, &(char) { 0 }, 1), -1); /* reset: bytes were not read */
	close(other);
}

/* --- limits --- */

/* Poll for 50 ms; how often the listener was told to be ready. */
static int calls_in_50_ms(struct env *env, struct peer *listener)
{
	uint64_t until = env_now_ns(env) + 50 * NS_PER_MS;
	int before = listener->calls;

	while (env_now_ns(env) < until)
		assert_int_equal(env->ops->poll(env, until - env_now_ns(env) + 1), 0);
	return listener->calls - before;
}

static void accept_within_limit(struct env *env, struct peer *listener, struct env_sock **sock_out)
{
	uint64_t until = env_now_ns(env) + LIMIT_NS;
	int rc = -EAGAIN;

	while (rc == -EAGAIN && env_now_ns(env) < until) {
		listener->events = 0;
		poll_until_events(listener, ENV_SOCK_IN);
		rc = env->ops->sock_accept(env, listener->sock, sock_out);
	}
	assert_int_equal(rc, 0);
}

static void without_handles_the_listener_rests(void **state)
{
	struct env *env = *state;
	struct peer listener;
	struct peer client;
	struct peer server;
	struct peer spare[SOCK_MAX];
	struct env_sock *sock = NULL;
	int others[SOCK_MAX];
	int count = 0;
	char name[64];

	connect_pair(env, "127.0.0.1:0", &listener, &client, &server);
	env->ops->sock_close(env, server.sock);
	env->ops->sock_name(env, listener.sock, false, name, sizeof(name));
	assert_int_equal(env->ops->sock_connect(env, name, &sock), 0);
	while (count + 3 < SOCK_MAX) {
		others[count] = adopt_pair(&spare[count], env);
		count++;
	}
	assert_int_equal(env->ops->sock_connect(env, name, &server.sock), -EMFILE);
	listener.events = 0;
	poll_until_events(&listener, ENV_SOCK_IN);
	assert_int_equal(env->ops->sock_accept(env, listener.sock, &server.sock), -EAGAIN);
	assert_int_equal(calls_in_50_ms(env, &listener), 0);
	assert_int_equal(log_lines, 1);
	env->ops->sock_close(env, spare[0].sock);
	accept_within_limit(env, &listener, &server.sock);
	while (count > 0)
		close(others[--count]);
}

static void without_descriptors_the_listener_rests(void **state)
{
	struct env *env = *state;
	struct peer listener = { .env = env };
	struct env_sock *client = NULL;
	struct env_sock *server = NULL;
	struct rlimit before;
	struct rlimit limit;
	char name[64];
	int lowest;

	assert_int_equal(env->ops->sock_listen(env, "127.0.0.1:0", &listener.sock), 0);
	watch(&listener, ENV_SOCK_IN);
	env->ops->sock_name(env, listener.sock, false, name, sizeof(name));
	assert_int_equal(env->ops->sock_connect(env, name, &client), 0);
	poll_until_events(&listener, ENV_SOCK_IN);
	lowest = dup(0);
	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = (rlim_t)lowest;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(env->ops->sock_accept(env, listener.sock, &server), -EAGAIN);
	assert_int_equal(calls_in_50_ms(env, &listener), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	accept_within_limit(env, &listener, &server);
	assert_int_equal(log_lines, 1);
}

/* A listener that is closed while it rests must not be woken. */
static void a_resting_listener_can_be_closed(void **state)
{
	struct env *env = *state;
	struct peer listener = { .env = env };
	struct peer spare[SOCK_MAX];
	int others[SOCK_MAX];
	struct env_sock *server = NULL;
	uint64_t until;

	assert_int_equal(env->ops->sock_listen(env, "127.0.0.1:0", &listener.sock), 0);
	watch(&listener, ENV_SOCK_IN);
	for (int i = 0; i < SOCK_MAX - 1; i++)
		others[i] = adopt_pair(&spare[i], env);
	assert_int_equal(env->ops->sock_accept(env, listener.sock, &server), -EAGAIN);
	env->ops->sock_close(env, listener.sock);
	assert_int_equal(env_posix_timeout_ns(env), ENV_FOREVER);
	until = env_now_ns(env) + 10 * NS_PER_MS;
	while (env_now_ns(env) < until)
		assert_int_equal(env->ops->poll(env, 10 * NS_PER_MS), 0);
	for (int i = 0; i < SOCK_MAX - 1; i++)
		close(others[i]);
}

static void what_cannot_be_adopted_is_closed(void **state)
{
	struct env *env = *state;
	struct peer spare[SOCK_MAX];
	int others[SOCK_MAX];
	struct env_sock *sock = NULL;
	int fds[2];

	assert_int_equal(env->ops->sock_adopt(env, -1, &sock), -EBADF);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	for (int i = 0; i < SOCK_MAX; i++)
		others[i] = adopt_pair(&spare[i], env);
	assert_int_equal(env->ops->sock_adopt(env, fds[0], &sock), -EMFILE);
	assert_int_equal(fcntl(fds[0], F_GETFD), -1);
	assert_null(sock);
	for (int i = 0; i < SOCK_MAX; i++)
		close(others[i]);
	close(fds[1]);
}

/* Every create that fails for want of descriptors gives back what it had. */
static void create_survives_each_missing_descriptor(void **state)
{
	const struct env_posix_opts opts = { .sock_max = 1 };
	struct rlimit before;
	struct rlimit limit;
	int lowest = dup(0);
	int fails = 0;

	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	for (int allowed = 0;; allowed++) {
		struct env *env = NULL;
		int rc;

		limit.rlim_cur = (rlim_t)(lowest + allowed);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		rc = back_end_create(&opts, &env);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		if (rc == 0) {
			env_close(&env);
			break;
		}
		assert_int_equal(rc, -EMFILE);
		assert_null(env);
		fails++;
		fails += dup(0) == lowest ? 0 : 100; /* nothing is left open */
		close(lowest);
	}
	assert_int_equal(fails, back_end_is_uring() ? 3 : 2); /* ring, epoll, eventfd */
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)

static int run_all(const char *back_end)
{
	const struct CMUnitTest tests[] = {
		T(bytes_come_over_tcp),
		T(bytes_come_over_tcp6),
		T(more_than_fits_arrives_whole),
		T(what_is_wanted_or_the_end_is_told),
		T(a_refused_connection_is_an_error_with_its_cause),
		T(sending_to_nobody_is_an_error_and_no_signal),
		T(who_is_alone_is_looked_at_and_keeps_nobody_waiting),
		T(who_wants_more_than_a_byte_is_not_looked_at),
		T(who_was_alone_may_be_closed),
		T(tasks_keep_no_socket_waiting),
		T(addresses_are_numeric_or_refused),
		T(names_tell_both_ends),
		T(sockets_do_not_delay_and_do_not_leak_into_children),
		T(a_host_that_is_gone_is_noticed),
		T(a_unix_listener_replaces_only_dead_sockets),
		T(a_closed_socket_gets_no_event_of_its_batch),
		T(an_unwatched_socket_gets_no_event_of_its_batch),
		T(a_socket_may_close_itself),
		T(without_handles_the_listener_rests),
		T(without_descriptors_the_listener_rests),
		T(a_resting_listener_can_be_closed),
		T(what_cannot_be_adopted_is_closed),
		T(create_survives_each_missing_descriptor),
	};

	return cmocka_run_group_tests_name(back_end, tests, NULL, NULL);
}

int main(void)
{
	return back_ends_run(run_all);
}
