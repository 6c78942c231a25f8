/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How close pushes and pulls over tcp come to a bare socket pair. Two processes over loopback; the
 * server's memory and the client's are walked in the same order both ways; both sides touch all of
 * it first. Prints GiB/s of each round and the median of the paired ratios.
 *
 *   bench_tcp [move KiB] [lanes] [queue] [rounds] [push|pull]
 *
 * Not run by the tests: figures depend on the machine.
 */
#include "../../src/env/posix/posix.h"
#include "../../src/xprt/xprt.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WALK_SIZE  (256 * MiB) /* memory of each side */
#define TOTAL_SIZE (2 * GiB)
#define QUEUE_MAX  64

static uint32_t move_size = MiB;
static uint32_t lane_count = 1;
static uint32_t queue_max = 8;
static uint32_t round_count = 5;
static bool is_pull;
/* Shared between the processes, so that no page is copied after fork(). */
static uint8_t *server_memory; /* WALK_SIZE */
static uint8_t *client_memory; /* WIRE_BLOCK_MAX */

static void must(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, err_str(rc == -1 ? -errno : rc));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static struct env *env_make(void)
{
	const struct env_posix_opts opts = { .sock_max = 64 };
	struct env *env = NULL;

	must(env_posix_create(&opts, &env), "env");
	return env;
}

static struct auth_mac *mac_make(enum wire_direction direction)
{
	const struct auth_key key = { { 1 } };
	const struct auth_transcript transcript = { .hello = { .lane = 0 } };
	struct auth_mac *mac = NULL;

	must(auth_mac_create(&key, &transcript, direction, &mac), "mac");
	return mac;
}

/* --- the client's process --- */

static struct xprt_group client_group;
static uint64_t client_landed;
static bool client_over;

static int on_locate(struct xprt_lane *lane, enum wire_kind kind, uint64_t request, uint32_t item,
		     uint64_t offset, uint32_t size, struct iovec *iov, uint32_t iov_max)
{
	iov[0] = (struct iovec) { client_memory + offset, size };
	return 1;
}

static void on_landed(struct xprt_lane *lane, enum wire_kind kind, uint64_t request, uint32_t item,
		      uint64_t offset, uint32_t size)
{
	const struct wire_request body = { .flags = 0 };
	struct wire_header header;

	client_landed += size;
	if (kind != WIRE_DATA_GET || client_landed < TOTAL_SIZE)
		return;
	wire_header_init(&header, WIRE_STAT, 1, 0, sizeof(body));
	must(lane->ops->send(lane, &header, &body, NULL, 0), "send");
}

static void on_client_closed(struct xprt_lane *lane, int why)
{
	for (uint32_t i = 0; i < lane_count; i++) {
		if (client_group.lanes[i] == lane)
			client_group.lanes[i] = NULL;
	}
	client_over = true;
}

static void on_opened(struct xprt_lane *lane)
{
}

static void on_writable(struct xprt_lane *lane)
{
}

static int on_frame(struct xprt_lane *lane, const struct xprt_frame *frame);

static const struct xprt_user client_user = {
	.opened = on_opened,
	.frame = on_frame,
	.locate = on_locate,
	.landed = on_landed,
	.writable = on_writable,
	.closed = on_client_closed,
};

static void client_run(const char *address)
{
	struct env *env = env_make();
	struct wire_preface preface = { .version_min = 1, .version_max = 1 };

	memcpy(preface.magic, WIRE_PREFACE_MAGIC, sizeof(preface.magic));
	xprt_group_init(&client_group, NULL);
	client_group.lane_count = lane_count;
	for (uint32_t i = 0; i < lane_count; i++) {
		must(xprt_tcp.connect(env, address, &preface, &client_user, NULL,
				      &client_group.lanes[i]),
		     "connect");
		client_group.lanes[i]->group = &client_group;
		xprt_tcp.secure(client_group.lanes[i], mac_make(WIRE_C2S), mac_make(WIRE_S2C));
	}
	while (!client_over)
		must(env->ops->poll(env, NS_PER_S), "poll");
	_exit(0);
}

/* --- the server's process --- */

static struct xprt_group server_group;
static struct xprt_move moves[QUEUE_MAX];
static uint64_t server_issued;
static uint64_t server_done;
static bool server_over;

static int on_accepted(struct xprt_listener *listener, struct xprt_lane *lane,
		       const struct wire_preface *preface)
{
	server_group.lanes[server_group.lane_count++] = lane;
	lane->group = &server_group;
	xprt_tcp.secure(lane, mac_make(WIRE_S2C), mac_make(WIRE_C2S));
	return 0;
}

static int on_frame(struct xprt_lane *lane, const struct xprt_frame *frame)
{
	server_over = true;
	return 0;
}

static void on_server_closed(struct xprt_lane *lane, int why)
{
	must(why, "lane");
}

static const struct xprt_user server_user = {
	.accepted = on_accepted,
	.frame = on_frame,
	.writable = on_writable,
	.closed = on_server_closed,
};

static void move_issue(struct xprt_move *move);

static void on_done(struct xprt_move *move, int rc)
{
	must(rc, "move");
	server_done += move->size;
	if (server_issued < TOTAL_SIZE)
		move_issue(move);
	if (is_pull && server_done == TOTAL_SIZE)
		server_over = true;
}

static void move_issue(struct xprt_move *move)
{
	uint64_t offset = server_issued % WALK_SIZE;

	*move = (struct xprt_move) {
		.request = 1,
		.size = move_size,
		.offset = offset % WIRE_BLOCK_MAX,
		.iov = { { server_memory + offset, move_size } },
		.iov_count = 1,
		.done = on_done,
	};
	server_issued += move_size;
	if (is_pull)
		xprt_tcp.pull(xprt_group_pick(&server_group), move);
	else
		xprt_tcp.push(xprt_group_pick(&server_group), move);
}

static double xprt_round(void)
{
	struct xprt_listener *listener = NULL;
	struct env *env = env_make();
	char address[128];
	uint64_t begin_ns;
	pid_t pid;

	xprt_group_init(&server_group, NULL);
	server_issued = 0;
	server_done = 0;
	server_over = false;
	must(xprt_tcp.listen(&xprt_tcp, env, "127.0.0.1:0", 32, &server_user, NULL, &listener),
	     "listen");
	xprt_tcp.listener_name(listener, address, sizeof(address));
	pid = fork();
	must(pid, "fork");
	if (pid == 0)
		client_run(address);
	while (server_group.lane_count < lane_count)
		must(env->ops->poll(env, NS_PER_S), "poll");
	begin_ns = now_ns();
	for (uint32_t i = 0; i < queue_max; i++)
		move_issue(&moves[i]);
	while (!server_over)
		must(env->ops->poll(env, NS_PER_S), "poll");
	begin_ns = now_ns() - begin_ns;
	for (uint32_t i = 0; i < lane_count; i++)
		xprt_tcp.close(&server_group.lanes[i]);
	waitpid(pid, NULL, 0);
	xprt_tcp.unlisten(&listener);
	env_posix_destroy(&env);
	return (double)TOTAL_SIZE / GiB / ((double)begin_ns / NS_PER_S);
}

/* --- the floor --- */

static void floor_receive(int fd, uint8_t *memory, uint64_t memory_size)
{
	char byte = 1;

	for (uint64_t got = 0; got < TOTAL_SIZE;) {
		ssize_t rc = recv(fd, memory + got % memory_size, move_size - got % move_size, 0);

		must((int)MIN(rc, 1), "recv");
		got += (uint64_t)rc;
	}
	must((int)write(fd, &byte, 1), "write");
}

static void floor_send(int fd, const uint8_t *memory, uint64_t memory_size)
{
	char byte;

	for (uint64_t sent = 0; sent < TOTAL_SIZE;) {
		ssize_t rc = send(fd, memory + sent % memory_size, move_size - sent % move_size, 0);

		must((int)MIN(rc, 1), "send");
		sent += (uint64_t)rc;
	}
	must((int)read(fd, &byte, 1), "read");
}

static void floor_side(int fd, bool is_server)
{
	uint8_t *memory = is_server ? server_memory : client_memory;
	uint64_t memory_size = is_server ? WALK_SIZE : WIRE_BLOCK_MAX;

	if (is_server == is_pull)
		floor_receive(fd, memory, memory_size);
	else
		floor_send(fd, memory, memory_size);
}

static double floor_round(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	const int one = 1;
	uint64_t begin_ns;
	pid_t pid;
	int fd;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	must(bind(listener, (struct sockaddr *)&address, sizeof(address)), "bind");
	must(listen(listener, 1), "listen");
	must(getsockname(listener, (struct sockaddr *)&address, &size), "getsockname");
	pid = fork();
	must(pid, "fork");
	if (pid == 0) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		must(connect(fd, (struct sockaddr *)&address, sizeof(address)), "connect");
		floor_side(fd, false);
		_exit(0);
	}
	fd = accept(listener, NULL, NULL);
	must(fd, "accept");
	must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), "nodelay");
	begin_ns = now_ns();
	floor_side(fd, true);
	begin_ns = now_ns() - begin_ns;
	waitpid(pid, NULL, 0);
	close(fd);
	close(listener);
	return (double)TOTAL_SIZE / GiB / ((double)begin_ns / NS_PER_S);
}

static uint8_t *memory_make(size_t size)
{
	uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	must(memory == MAP_FAILED ? -1 : 0, "mmap");
	memset(memory, 1, size);
	return memory;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	double ratios[101];

	if (argc > 1)
		move_size = (uint32_t)(strtoul(argv[1], NULL, 10) * KiB);
	if (argc > 2)
		lane_count = (uint32_t)strtoul(argv[2], NULL, 10);
	if (argc > 3)
		queue_max = MIN((uint32_t)strtoul(argv[3], NULL, 10), QUEUE_MAX);
	if (argc > 4)
		round_count = MIN((uint32_t)strtoul(argv[4], NULL, 10), ARRAY_LEN(ratios));
	is_pull = argc > 5 && strcmp(argv[5], "pull") == 0;
	server_memory = memory_make(WALK_SIZE);
	client_memory = memory_make(WIRE_BLOCK_MAX);
	for (uint32_t i = 0; i < round_count; i++) {
		double bare = floor_round();
		double ours = xprt_round();

		ratios[i] = ours / bare;
		printf("round %u  bare %.2f GiB/s  tcp %.2f GiB/s  ratio %.3f\n", i, bare, ours,
		       ratios[i]);
		fflush(stdout);
	}
	qsort(ratios, round_count, sizeof(ratios[0]), compare);
	printf("%s of %u KiB, %u lanes, queue %u: median ratio %.3f\n", is_pull ? "pull" : "push",
	       (unsigned)(move_size / KiB), lane_count, queue_max, ratios[round_count / 2]);
	return 0;
}
