/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that pass between processes: they come with their bytes and in order; one of a
 * process tells of its end; too many are an error and no leak; and what waits when it is closed is
 * waited for by nobody, however it came.
 */
#include "../../lib/t.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../src/env/posix/posix.h"
#include "../../lib/back_end.h"
#include "../../lib/linger.h"
#include "../../lib/memory.h"

/* --- of a process --- */

static void on_end(struct env_sock *sock, void *ctx, uint32_t events)
{
	(void)sock;
	*(uint32_t *)ctx = events;
}

/* A child's descriptor of itself, watched here: quiet while it lives, readable when it is dead. */
static void the_end_of_a_process_is_seen(void **state)
{
	struct env *env = *state;
	struct env_sock *watch = NULL;
	uint32_t events = 0;
	int ends[2];
	int passed = -1;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	pid = fork();
	if (pid == 0) {
		struct env_sock *sock = NULL;
		char byte = 0;
		struct iovec iov = { &byte, 1 };
		const struct env_posix_opts opts = { .sock_max = 1 };
		struct env *own = NULL;
		int fd;

		if (env_posix_create(&opts, &own) < 0 ||
		    own->ops->sock_adopt(own, ends[1], &sock) < 0)
			_exit(1);
		fd = own->ops->process_fd(own);
		if (own->ops->sock_send_fds(own, sock, &iov, 1, &fd, 1) != 1)
			_exit(1);
		pause();
		_exit(1);
	}
	close(ends[1]);
	{
		int fds[ENV_FDS_MAX];
		uint32_t count = 0;
		struct env_sock *sock = NULL;
		char byte;
		struct iovec iov = { &byte, 1 };

		assert_int_equal(env->ops->sock_adopt(env, ends[0], &sock), 0);
		while (count == 0)
			(void)env->ops->sock_recv_fds(env, sock, &iov, 1, fds, &count);
		assert_int_equal(count, 1);
		passed = fds[0];
		env->ops->sock_close(env, sock);
	}
	assert_int_equal(env->ops->sock_adopt(env, passed, &watch), 0);
	env->ops->sock_watch(env, watch, ENV_SOCK_IN, on_end, &events);
	env->ops->poll(env, 20 * NS_PER_MS);
	assert_int_equal(events, 0);
	kill(pid, SIGKILL);
	while (events == 0)
		env->ops->poll(env, NS_PER_S);
	env->ops->sock_close(env, watch);
	waitpid(pid, NULL, 0);
}

/* --- descriptors beside bytes --- */

struct ends {
	struct env_sock *a;
	struct env_sock *b;
};

static struct ends ends_make(struct env *env)
{
	struct ends ends = { NULL, NULL };
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(env->ops->sock_adopt(env, fds[0], &ends.a), 0);
	assert_int_equal(env->ops->sock_adopt(env, fds[1], &ends.b), 0);
	return ends;
}

static void descriptors_come_in_order_and_not_behind_their_bytes(void **state)
{
	struct env *env = *state;
	struct ends ends = ends_make(env);
	int sent[3] = { memory_make("0", PAGE_SIZE), memory_make("1", PAGE_SIZE),
			memory_make("2", PAGE_SIZE) };
	int got[ENV_FDS_MAX];
	uint32_t count = 0;
	uint32_t total = 0;
	char bytes[64];
	struct iovec iov = { bytes, 8 };

	for (int i = 0; i < 3; i++)
		assert_int_equal(pwrite(sent[i], &(char) { (char)('0' + i) }, 1, 0), 1);
	memcpy(bytes, "headhead", 8);
	assert_int_equal(env->ops->sock_send(env, ends.a, &iov, 1), 8);
	assert_int_equal(env->ops->sock_send_fds(env, ends.a, &iov, 1, sent, 2), 8);
	assert_int_equal(env->ops->sock_send_fds(env, ends.a, &iov, 1, sent + 2, 1), 8);
	assert_int_equal(env->ops->sock_send(env, ends.a, &iov, 1), 8);
	for (uint32_t have = 0; have < 32;) {
		struct iovec into = { bytes, 5 };
		ssize_t size = env->ops->sock_recv_fds(env, ends.b, &into, 1, got, &count);

		assert_true(size > 0);
		have += (uint32_t)size;
		for (uint32_t i = 0; i < count; i++, total++) {
			assert_int_equal(pread(got[i], bytes, 1, 0), 1);
			assert_int_equal(bytes[0], '0' + (int)total);
			assert_int_not_equal(fcntl(got[i], F_GETFD) & FD_CLOEXEC, 0);
			close(got[i]);
		}
		/* With the last byte of a message all of its descriptors are here. */
		assert_true(total >= (have > 16 ? 3u : have > 8 ? 2u : 0u));
	}
	assert_int_equal(total, 3);
	assert_int_equal(env->ops->sock_recv_fds(env, ends.b, &iov, 1, got, &count), -EAGAIN);
	for (int i = 0; i < 3; i++)
		close(sent[i]);
	env->ops->sock_close(env, ends.a);
	env->ops->sock_close(env, ends.b);
}

static void descriptors_beyond_the_limits_are_an_error_and_no_leak(void **state)
{
	struct env *env = *state;
	struct ends ends = ends_make(env);
	int fd = memory_make("one", PAGE_SIZE);
	int fds[ENV_FDS_MAX];
	uint32_t count = 0;
	uint32_t before = descriptor_count();
	struct rlimit limit_before;
	struct rlimit limit;
	char byte = 'x';
	struct iovec iov = { &byte, 1 };
	int lowest;

	for (int i = 0; i < ENV_FDS_MAX; i++)
		fds[i] = fd;
	assert_int_equal(env->ops->sock_send_fds(env, ends.a, &iov, 1, fds, ENV_FDS_MAX), 1);
	lowest = dup(0);
	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit_before), 0);
	limit = limit_before;
	limit.rlim_cur = (rlim_t)lowest + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(env->ops->sock_recv_fds(env, ends.b, &iov, 1, fds, &count), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit_before), 0);
	assert_int_equal(descriptor_count(), before);
	close(fd);
	env->ops->sock_close(env, ends.a);
	env->ops->sock_close(env, ends.b);
}

/* --- what waits at its last close --- */

static void waiting_for(struct env *env, uint32_t count)
{
	uint64_t until_ns = env_now_ns(env) + 10 * NS_PER_S;

	while (env->ops->fd_waiting(env) != count) {
		assert_true(env_now_ns(env) < until_ns);
		usleep(1000);
	}
}

/* A door of ours, and a peer who has connected to it. */
struct door {
	char path[64];
	struct env_sock *listener;
	struct env_sock *sock; /* the peer's, here */
	int peer;
};

static int peer_connect(const struct door *door)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", door->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void door_accept(struct env *env, struct door *door)
{
	door->peer = peer_connect(door);
	assert_int_equal(env->ops->sock_accept(env, door->listener, &door->sock), 0);
}

static void door_open(struct env *env, struct door *door)
{
	char address[80];

	snprintf(door->path, sizeof(door->path), "/tmp/ctxkv-share-%d.sock", (int)getpid());
	snprintf(address, sizeof(address), "unix:%s", door->path);
	assert_int_equal(env->ops->sock_listen(env, address, &door->listener), 0);
	door_accept(env, door);
}

static void peer_pass(const struct door *door, const int *fds, uint32_t count, int flags)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(32 * sizeof(int))];
	} control = { .bytes = { 0 } };
	/* Of more bytes only the last would be out of band, and without what is passed. */
	struct iovec iov = { (void *)(uintptr_t) "12345678", (flags & MSG_OOB) != 0 ? 1 : 8 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(head), fds, count * sizeof(int));
	assert_int_equal(sendmsg(door->peer, &message, MSG_NOSIGNAL | flags), iov.iov_len);
}

enum { UNREAD, READ, READ_AS_BYTES, TOO_MANY, OUT_OF_BAND, NO_ROOM, WAY_COUNT };

/* One descriptor that waits 30 s is passed, and comes to its end here in that way. */
static void end_in(struct env *env, struct door *door, int way, struct lingering *linger)
{
	int passed[20];
	int fds[ENV_FDS_MAX];
	uint32_t count = 0;
	char bytes[8];
	struct iovec iov = { bytes, 8 };
	struct rlimit before;
	struct rlimit limit;

	for (uint32_t i = 0; i < ARRAY_LEN(passed); i++)
		passed[i] = linger->fd;
	peer_pass(door, passed, way == TOO_MANY ? ARRAY_LEN(passed) : 1,
		  way == OUT_OF_BAND ? MSG_OOB : 0);
	close(linger->fd);
	linger->fd = -1;
	if (way == UNREAD)
		return;
	if (way == READ_AS_BYTES) {
		assert_int_equal(env->ops->sock_recv(env, door->sock, &iov, 1), -EPROTO);
		return;
	}
	if (way == NO_ROOM) {
		int lowest = dup(0);

		close(lowest);
		assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
		limit = before;
		limit.rlim_cur = (rlim_t)lowest;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	}
	assert_int_equal(env->ops->sock_recv_fds(env, door->sock, &iov, 1, fds, &count),
			 way == TOO_MANY || way == NO_ROOM ? -EMFILE
			 : way == OUT_OF_BAND              ? 1
							   : 8);
	if (way == NO_ROOM)
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(count, way == READ || way == OUT_OF_BAND);
	if (count == 1)
		(void)env->ops->fd_close(env, fds[0]);
}

/* Behind one that waits they all wait: none is closed by who says so. */
static void what_a_peer_passed_is_closed_in_its_turn(void **state)
{
	struct env *env = *state;
	struct lingering linger;
	struct door door;
	int fds[2];

	lingering_init(&linger);
	door_open(env, &door);
	end_in(env, &door, UNREAD, &linger);
	env->ops->sock_close(env, door.sock);
	env->ops->sock_close(env, door.listener);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_false(env->ops->fd_close(env, fds[0]));
	assert_true(fcntl(fds[0], F_GETFD) >= 0);
	close(fds[1]);
	close(door.peer);
	lingering_end(&linger);
	waiting_for(env, 0);
	assert_int_equal(fcntl(fds[0], F_GETFD), -1);
	unlink(door.path);
}

static void what_waits_at_its_close_is_waited_for_by_nobody(void **state)
{
	struct env *env = *state;

	for (int way = UNREAD; way < WAY_COUNT; way++) {
		struct lingering linger;
		struct door door;
		uint64_t begin_ns;
		char byte;

		lingering_init(&linger);
		door_open(env, &door);
		begin_ns = env_now_ns(env);
		end_in(env, &door, way, &linger);
		env->ops->sock_close(env, door.sock);
		env->ops->sock_close(env, door.listener);
		assert_true(env_now_ns(env) - begin_ns < 5 * NS_PER_S);
		assert_true(env->ops->fd_waiting(env) > 0);
		errno = 0; /* the peer sees the end all the same */
		assert_true(recv(door.peer, &byte, 1, MSG_DONTWAIT) <= 0);
		assert_int_not_equal(errno, EAGAIN);
		close(door.peer);
		lingering_end(&linger);
		waiting_for(env, 0);
		unlink(door.path);
	}
}

/* Connections that nobody has accepted go with the listener. */
static void a_listener_waits_for_nobody_either(void **state)
{
	struct env *env = *state;
	struct lingering linger;
	struct door door;
	struct door waiting;
	uint64_t begin_ns;

	lingering_init(&linger);
	door_open(env, &door);
	waiting = door;
	waiting.peer = peer_connect(&door);
	peer_pass(&waiting, &linger.fd, 1, 0);
	close(linger.fd);
	linger.fd = -1;
	begin_ns = env_now_ns(env);
	env->ops->sock_close(env, door.sock);
	env->ops->sock_close(env, door.listener);
	assert_true(env_now_ns(env) - begin_ns < 5 * NS_PER_S);
	close(waiting.peer);
	close(door.peer);
	lingering_end(&linger);
	waiting_for(env, 0);
	unlink(door.path);
}

/* Many that wait: no new peer adds to them, until some are closed. */
static void a_door_rests_while_too_many_wait(void **state)
{
	struct env *env = *state;
	struct env_sock *sock = NULL;
	struct lingering linger;
	struct door door;
	int fds[2];

	lingering_init(&linger);
	door_open(env, &door);
	env->ops->sock_close(env, door.sock);
	close(door.peer);
	(void)env->ops->fd_close(env, linger.fd);
	linger.fd = -1;
	while (env->ops->fd_waiting(env) < 256) {
		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		(void)env->ops->fd_close(env, fds[0]);
		(void)env->ops->fd_close(env, fds[1]);
	}
	assert_int_equal(env->ops->sock_accept(env, door.listener, &sock), -EAGAIN);
	lingering_end(&linger);
	waiting_for(env, 0);
	door_accept(env, &door);
	env->ops->sock_close(env, door.sock);
	env->ops->sock_close(env, door.listener);
	close(door.peer);
	waiting_for(env, 0);
	unlink(door.path);
}

#define T(name) cmocka_unit_test_setup_teardown(name, back_end_begin, back_end_end)

static int run_all(const char *back_end)
{
	const struct CMUnitTest first[] = {
		T(what_a_peer_passed_is_closed_in_its_turn),
	};
	const struct CMUnitTest tests[] = {
		T(the_end_of_a_process_is_seen),
		T(descriptors_come_in_order_and_not_behind_their_bytes),
		T(descriptors_beyond_the_limits_are_an_error_and_no_leak),
		T(what_waits_at_its_close_is_waited_for_by_nobody),
		T(a_listener_waits_for_nobody_either),
		T(a_door_rests_while_too_many_wait),
	};

	/* The others would wait long for what this says at once. */
	if (cmocka_run_group_tests_name(back_end, first, NULL, NULL) != 0)
		return 1;
	return cmocka_run_group_tests_name(back_end, tests, NULL, NULL);
}

int main(void)
{
	return back_ends_run(run_all);
}
