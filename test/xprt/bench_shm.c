/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What shm costs by itself: two processes, one a client and one a server without a store.
 *
 *   bench_shm [SECONDS]          for each row; 1 by default
 *
 * Rows: a frame there and back, one at a time and 32 at a time; a frame of 256 keys; pushes of
 * blocks, 32 at a time, beside a memcpy between the same two mappings. CPU is of both processes.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../src/base/text.h"
#include "../../src/env/posix/posix.h"
#include "../../src/xprt/xprt.h"

#define REGION_SIZE (256 * MiB)
#define BATCH       32

/* --- the server --- */

struct block {
	struct xprt_move move;
	struct wire_seg seg;
	uint64_t request;
	struct xprt_lane *lane;
};

static struct xprt_group group;
static uint8_t *source;
static struct block blocks[BATCH];

static void answer(struct xprt_lane *lane, uint64_t request)
{
	struct {
		struct wire_text text;
		uint8_t bytes[32];
	} body = { .text = { .size = 32 } };
	struct wire_header header;

	wire_header_init(&header, WIRE_TEXT, request, 0, sizeof(body));
	if (lane->ops->send(lane, &header, &body, NULL, 0) < 0)
		_exit(1);
}

static void pushed(struct xprt_move *move, int rc)
{
	struct block *block = CONTAINER_OF(move, struct block, move);
	uint32_t rest = block->seg.size - (uint32_t)move->offset - move->size;

	if (rc < 0)
		_exit(1);
	if (rest == 0) {
		answer(block->lane, block->request);
		return;
	}
	move->offset += move->size;
	move->size = MIN(rest, (uint32_t)WIRE_DATA_MAX);
	move->iov[0] = (struct iovec) { source + block->seg.offset + move->offset, move->size };
	move->iov_count = 1;
	block->lane->ops->push(block->lane, move);
}

/* A GET of one item: its segment is filled. */
static void get(struct xprt_lane *lane, const struct xprt_frame *frame)
{
	const struct wire_get *item = wire_items(frame->header, frame->body);
	struct block *block = &blocks[frame->header->request % BATCH];

	block->seg = *wire_get_segs(item);
	block->request = frame->header->request;
	block->lane = lane;
	block->move = (struct xprt_move) {
		.request = block->request,
		.size = MIN(block->seg.size, (uint32_t)WIRE_DATA_MAX),
		.segs = &block->seg,
		.seg_count = 1,
		.iov_count = 1,
		.done = pushed,
	};
	block->move.iov[0] = (struct iovec) { source + block->seg.offset, block->move.size };
	lane->ops->push(lane, &block->move);
}

static int server_accepted(struct xprt_listener *listener, struct xprt_lane *lane,
			   const struct wire_preface *preface)
{
	xprt_group_init(&group, NULL);
	group.lanes[0] = lane;
	group.lane_count = 1;
	lane->group = &group;
	return 0;
}

static int server_frame(struct xprt_lane *lane, const struct xprt_frame *frame)
{
	if (frame->header->kind == WIRE_GET) {
		get(lane, frame);
		return 0;
	}
	if (frame->header->kind == WIRE_DECLARE &&
	    lane->ops->region_add(&group, wire_items(frame->header, frame->body)) < 0)
		return -ERR_PROTOCOL;
	answer(lane, frame->header->request);
	return 0;
}

static void quiet(struct xprt_lane *lane)
{
}

static void closed(struct xprt_lane *lane, int why)
{
	exit(0);
}

static const struct xprt_user server_user = {
	.accepted = server_accepted,
	.frame = server_frame,
	.writable = quiet,
	.closed = closed,
};

static void server_main(const char *address)
{
	const struct env_posix_opts opts = { .sock_max = 16 };
	struct xprt_listener *listener = NULL;
	struct env *env = NULL;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	source = mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	memset(source, 1, REGION_SIZE);
	if (env_posix_create(&opts, &env) < 0 ||
	    xprt_shm.listen(&xprt_shm, env, address, 4, &server_user, NULL, &listener) < 0)
		exit(1);
	for (;;)
		env->ops->poll(env, ENV_FOREVER);
}

/* --- the client --- */

struct client {
	struct env *env;
	struct xprt_lane *lane;
	struct xprt_region region;
	pid_t server;
	uint64_t answers;
	uint64_t sent;
};

static int client_frame(struct xprt_lane *lane, const struct xprt_frame *frame)
{
	((struct client *)lane->ctx)->answers++;
	return 0;
}

static const struct xprt_user client_user = {
	.opened = quiet,
	.frame = client_frame,
	.writable = quiet,
	.closed = closed,
};

static void send_probe(struct client *client, uint32_t keys, uint32_t size)
{
	static struct {
		struct wire_request request;
		struct wire_key keys[256];
	} body = { .request = { .budget_ns = 1 } };
	struct wire_header header;

	wire_header_init(&header, WIRE_PROBE, ++client->sent, (uint16_t)keys,
			 (uint32_t)(sizeof(body.request) + keys * sizeof(body.keys[0])));
	if (client->lane->ops->send(client->lane, &header, &body, NULL, 0) < 0)
		exit(1);
}

static void send_get(struct client *client, uint32_t keys, uint32_t size)
{
	struct {
		struct wire_request request;
		struct wire_get get;
		struct wire_seg seg;
	} body = { .request = { .budget_ns = 1 }, .get = { .size = size, .seg_count = 1 } };
	uint64_t slots = REGION_SIZE / size;
	struct wire_header header;

	body.seg = (struct wire_seg) { 1, size, client->sent * 7919 % slots * size };
	wire_header_init(&header, WIRE_GET, ++client->sent, 1, sizeof(body));
	if (client->lane->ops->send(client->lane, &header, &body, NULL, 0) < 0)
		exit(1);
}

static void declare(struct client *client)
{
	struct {
		struct wire_request request;
		struct wire_declare declare;
	} body = { .request = { .budget_ns = 1 } };
	struct wire_header header;
	int fd = memfd_create("region", MFD_CLOEXEC);

	if (ftruncate(fd, REGION_SIZE) < 0)
		exit(1);
	client->region = (struct xprt_region) {
		.base = mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			     fd, 0),
		.size = REGION_SIZE,
		.id = 1,
	};
	if (xprt_shm.declare(client->lane, &client->region) < 0)
		exit(1);
	body.declare = client->region.declare;
	wire_header_init(&header, WIRE_DECLARE, ++client->sent, 0, sizeof(body));
	if (xprt_shm.send(client->lane, &header, &body, NULL, 0) < 0)
		exit(1);
	while (client->answers < client->sent)
		client->env->ops->poll(client->env, ENV_FOREVER);
}

/* CPU of the server so far, by its clock. */
static uint64_t cpu_ns(const struct client *client)
{
	clockid_t clock;
	struct timespec theirs = { 0 };
	struct timespec ours = { 0 };

	if (clock_getcpuclockid(client->server, &clock) == 0)
		clock_gettime(clock, &theirs);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ours);
	return (uint64_t)(theirs.tv_sec + ours.tv_sec) * NS_PER_S +
	       (uint64_t)(theirs.tv_nsec + ours.tv_nsec);
}

static void row(struct client *client, const char *name,
		void (*send)(struct client *client, uint32_t keys, uint32_t size), uint32_t keys,
		uint32_t size, uint32_t batch, uint64_t time_ns)
{
	uint64_t begin_ns = env_now_ns(client->env);
	uint64_t cpu = cpu_ns(client);
	uint64_t first = client->answers;
	uint64_t count;
	double seconds;

	while (env_now_ns(client->env) - begin_ns < time_ns) {
		while (client->sent - client->answers < batch)
			send(client, keys, size);
		client->env->ops->poll(client->env, ENV_FOREVER);
	}
	while (client->answers < client->sent)
		client->env->ops->poll(client->env, ENV_FOREVER);
	count = client->answers - first;
	seconds = (double)(env_now_ns(client->env) - begin_ns) / 1e9;
	printf("%-28s %9.0f/s  %7.2f us each  %6.2f GiB/s  CPU %5.2f us each\n", name,
	       (double)count / seconds, seconds / (double)count * 1e6,
	       (double)count * size / seconds / (double)GiB,
	       (double)(cpu_ns(client) - cpu) / 1e3 / (double)count);
}

/* The same addresses, by memcpy in this process. */
static void floor_row(struct client *client, uint32_t size, uint64_t time_ns)
{
	uint8_t *from = mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	uint64_t begin_ns = env_now_ns(client->env);
	uint64_t count = 0;
	double seconds;

	memset(from, 1, REGION_SIZE);
	begin_ns = env_now_ns(client->env);
	while (env_now_ns(client->env) - begin_ns < time_ns) {
		uint64_t at = count++ * 7919 % (REGION_SIZE / size) * size;

		memcpy((uint8_t *)client->region.base + at, from + at, size);
	}
	seconds = (double)(env_now_ns(client->env) - begin_ns) / 1e9;
	printf("%-28s %9.0f/s  %7.2f us each  %6.2f GiB/s\n", "  memcpy", (double)count / seconds,
	       seconds / (double)count * 1e6, (double)count * size / seconds / (double)GiB);
	munmap(from, REGION_SIZE);
}

int main(int argc, char **argv)
{
	const uint32_t sizes[] = { 4 * KiB, 64 * KiB, 512 * KiB, 2 * MiB, 16 * MiB };
	const struct env_posix_opts opts = { .sock_max = 16 };
	struct wire_preface preface = { .version_min = 1, .version_max = 1, .reactor = 0xffff };
	struct client client = { .answers = 0 };
	uint64_t seconds = 1;
	char address[64];
	char name[64];

	if (argc > 1 && text_parse_u64(argv[1], &seconds) < 0)
		return 1;
	snprintf(address, sizeof(address), "unix:/tmp/bench-shm-%d.sock", (int)getpid());
	client.server = fork();
	if (client.server == 0)
		server_main(address);
	if (env_posix_create(&opts, &client.env) < 0)
		return 1;
	memcpy(preface.magic, WIRE_PREFACE_MAGIC, sizeof(preface.magic));
	while (xprt_shm.connect(client.env, address, &preface, &client_user, &client,
				&client.lane) < 0)
		usleep(1000);
	(void)unlink(address + 5);
	declare(&client);
	row(&client, "1 key, one at a time", send_probe, 1, 0, 1, seconds * NS_PER_S);
	row(&client, "1 key, 32 at a time", send_probe, 1, 0, BATCH, seconds * NS_PER_S);
	row(&client, "256 keys, one at a time", send_probe, 256, 0, 1, seconds * NS_PER_S);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		snprintf(name, sizeof(name), "push of %u KiB, one", sizes[i] / 1024);
		row(&client, name, send_get, 0, sizes[i], 1, seconds * NS_PER_S);
		snprintf(name, sizeof(name), "push of %u KiB, 32", sizes[i] / 1024);
		row(&client, name, send_get, 0, sizes[i], BATCH, seconds * NS_PER_S);
		floor_row(&client, sizes[i], seconds * NS_PER_S);
	}
	kill(client.server, SIGKILL);
	waitpid(client.server, NULL, 0);
	return 0;
}
