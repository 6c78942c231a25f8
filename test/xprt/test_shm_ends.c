/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the ends of shm know of each other: a fence waits for the server's word or for its death,
 * and not longer; who sleeps is woken, and idle lanes are not looked at.
 */
#include "shm_held.h"

#include "../../src/env/posix/posix.h"
#include "../../src/xprt/shm/shm.h"
#include "../lib/t.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE HELD_SIZE

/* --- fences --- */

struct watched_fence {
	struct xprt_fence fence;
	uint32_t done;
};

static void on_fence(struct xprt_fence *fence)
{
	CONTAINER_OF(fence, struct watched_fence, fence)->done++;
}

static void fence_and_close(struct pair *pair, struct watched_fence *fence)
{
	*fence = (struct watched_fence) { .fence = { .done = on_fence } };
	list_init(&fence->fence.node);
	xprt_shm.fence(pair->client.group.lanes[0], &fence->fence);
	assert_int_equal(fence->done, 0); /* from the loop */
	xprt_shm.close(&pair->client.group.lanes[0]);
}

static void a_fence_waits_for_the_last_hold(void **state)
{
	struct watched_fence fence;
	struct held held;

	held_init(&held);
	fence_and_close(&held.pair, &fence);
	pair_settle(&held.pair);
	assert_int_equal(held.pair.server.closed, 1);
	assert_int_equal(fence.done, 0);
	held_write(&held, 1); /* lands late, and the client knows that it may */
	assert_int_equal(xprt_shm.unmap(&held.hold), 0);
	PAIR_UNTIL(&held.pair, fence.done == 1);
	held_fini(&held);
}

/* That its drive writes is on its way to the client, who closes without having looked. */
static void what_the_server_said_last_is_heard(void **state)
{
	struct watched_fence fence;
	struct shm_lane *lane;
	struct held held;

	held_init(&held);
	lane = CONTAINER_OF(held.pair.client.group.lanes[0], struct shm_lane, lane);
	assert_int_equal(lane->client->io_ms, 0);
	fence_and_close(&held.pair, &fence);
	assert_int_equal(lane->client->io_ms, SHM_IO_TIMEOUT_MS);
	assert_int_equal(xprt_shm.unmap(&held.hold), 0);
	PAIR_UNTIL(&held.pair, fence.done == 1);
	held_fini(&held);
}

static void a_fence_is_done_when_the_server_has_ended_the_lane(void **state)
{
	struct pair_memory memory;
	struct xprt_region region;
	struct watched_fence fence;
	struct pair pair;

	for (int server_first = 0; server_first < 2; server_first++) {
		pair_init(&pair, pair_shm);
		pair_connect(&pair, 1);
		memory = pair_memory_make(&pair, SIZE);
		region = held_region_of(&pair, &memory, 1);
		assert_int_equal(xprt_shm.region_add(&pair.server.group, &region.declare), 0);
		/* It knows the process of the server, which lives on: its word alone ends it. */
		pair_settle(&pair);
		if (server_first != 0)
			xprt_shm.close(&pair.server.group.lanes[0]);
		fence_and_close(&pair, &fence);
		PAIR_UNTIL(&pair, fence.done == 1);
		pair_settle(&pair);
		assert_int_equal(fence.done, 1);
		pair_memory_free(&memory);
		pair_fini(&pair);
	}
}

static void without_regions_a_fence_waits_for_nobody(void **state)
{
	struct watched_fence fence;
	struct pair pair;

	pair_init(&pair, pair_shm);
	assert_non_null(pair_dial(&pair, pair.address, 0)); /* not even accepted */
	fence_and_close(&pair, &fence);
	PAIR_UNTIL(&pair, fence.done == 1);
	pair_fini(&pair);
}

/* --- a server in another process --- */

struct other {
	pid_t pid;
	char address[64];
};

static int other_accepted(struct xprt_listener *listener, struct xprt_lane *lane,
			  const struct wire_preface *preface)
{
	static struct xprt_group group;

	xprt_group_init(&group, NULL);
	group.lanes[0] = lane;
	group.lane_count = 1;
	lane->group = &group;
	return 0;
}

#define HELD 1000 /* id of a DECLARE whose region is to be held */

/* DECLARE: note it, hold it where the client asks for that. All else is sent back as text. */
static int other_frame(struct xprt_lane *lane, const struct xprt_frame *frame)
{
	struct {
		struct wire_text text;
		uint8_t bytes[16];
	} body = { .text = { .size = 16 } };
	struct wire_header header;

	if (frame->header->kind == WIRE_DECLARE) {
		const struct wire_declare *declare = wire_items(frame->header, frame->body);
		struct wire_seg seg = { declare->region, 8, 0 };
		struct iovec iov;
		void *hold = NULL;

		if (lane->ops->region_add(lane->group, declare) < 0)
			return -ERR_PROTOCOL;
		if (frame->header->request == HELD &&
		    lane->ops->map(lane->group, &seg, 1, &iov, &hold) < 0)
			return -ERR_PROTOCOL;
	}
	wire_header_init(&header, WIRE_TEXT, frame->header->request, 0, sizeof(body));
	return lane->ops->send(lane, &header, &body, NULL, 0);
}

static void other_quiet(struct xprt_lane *lane)
{
}

static void other_closed(struct xprt_lane *lane, int why)
{
}

static const struct xprt_user other_user = {
	.accepted = other_accepted,
	.frame = other_frame,
	.writable = other_quiet,
	.closed = other_closed,
};

static void other_main(const char *address)
{
	const struct env_posix_opts opts = { .sock_max = 16 };
	struct xprt_listener *listener = NULL;
	struct env *env = NULL;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* of a test that failed */
	if (env_posix_create(&opts, &env) < 0 ||
	    xprt_shm.listen(&xprt_shm, env, address, 4, &other_user, NULL, &listener) < 0)
		_exit(1);
	for (;;)
		env->ops->poll(env, ENV_FOREVER);
}

static void other_start(struct other *other)
{
	snprintf(other->address, sizeof(other->address), "unix:/tmp/ctxkv-test-shm-%d.sock",
		 (int)getpid());
	(void)unlink(other->address + 5);
	other->pid = fork();
	if (other->pid == 0)
		other_main(other->address);
	while (access(other->address + 5, F_OK) < 0)
		usleep(1000);
}

static void other_kill(struct other *other)
{
	kill(other->pid, SIGKILL);
	waitpid(other->pid, NULL, 0);
	(void)unlink(other->address + 5);
}

/* A lane to it. It listens a moment after its socket is there. */
static void other_dial(struct other *other, struct pair *pair)
{
	while (pair_dial(pair, other->address, 0) == NULL)
		usleep(1000);
	PAIR_UNTIL(pair, pair->client.opened > 0);
}

static void other_declare(struct pair *pair, struct pair_memory *memory, bool is_held)
{
	struct {
		struct wire_request request;
		struct wire_declare declare;
	} body = { .request = { .budget_ns = 1 } };
	struct xprt_region region = held_region_of(pair, memory, 1);
	struct xprt_lane *lane = pair->client.group.lanes[0];
	struct wire_header header;

	body.declare = region.declare;
	wire_header_init(&header, WIRE_DECLARE, is_held ? HELD : HELD + 1, 0, sizeof(body));
	assert_int_equal(xprt_shm.send(lane, &header, &body, NULL, 0), 0);
	PAIR_UNTIL(pair, pair->client.frame_count == 1);
}

/* A lane to another process, to which memory is declared. */
static struct pair_memory other_begin(struct other *other, struct pair *pair, bool is_held)
{
	struct pair_memory memory;

	pair_init(pair, pair_shm);
	other_start(other);
	other_dial(other, pair);
	memory = pair_memory_make(pair, SIZE);
	other_declare(pair, &memory, is_held);
	return memory;
}

/* Copies ended with it, whatever else is still open of it. */
static void the_death_of_a_server_that_copied_is_enough(void **state)
{
	struct watched_fence fence;
	struct pair_memory memory;
	struct other other;
	struct pair pair;

	memory = other_begin(&other, &pair, false);
	kill(other.pid, SIGSTOP); /* frozen: it may go on */
	fence_and_close(&pair, &fence);
	pair_settle(&pair);
	assert_int_equal(fence.done, 0);
	other_kill(&other);
	PAIR_UNTIL(&pair, fence.done == 1);
	pair_memory_free(&memory);
	pair_fini(&pair);
}

/* The lane's end is heard first, and the fence asked for in closed(). */
static void a_fence_may_come_with_closed(void **state)
{
	struct watched_fence fence = { .fence = { .done = on_fence } };
	struct pair_memory memory;
	struct other other;
	struct pair pair;

	memory = other_begin(&other, &pair, false);
	list_init(&fence.fence.node);
	pair.client.fence = &fence.fence;
	other_kill(&other);
	PAIR_UNTIL(&pair, fence.done == 1);
	assert_int_equal(pair.client.closed, 1);
	pair_memory_free(&memory);
	pair_fini(&pair);
}

/* What it gave to the kernel outlives it by the time it told. */
static void a_dead_server_that_let_the_drive_write_is_waited_for(void **state)
{
	struct watched_fence fence;
	struct pair_memory memory;
	struct shm_lane *lane;
	struct other other;
	struct pair pair;
	uint64_t begin_ns;

	memory = other_begin(&other, &pair, true);
	lane = CONTAINER_OF(pair.client.group.lanes[0], struct shm_lane, lane);
	PAIR_UNTIL(&pair, lane->client->io_ms != 0);
	assert_int_equal(lane->client->io_ms, SHM_IO_TIMEOUT_MS);
	lane->client->io_ms = 300; /* as if it had told that: a test has not all day */
	begin_ns = env_now_ns(pair.env);
	other_kill(&other);
	fence_and_close(&pair, &fence);
	PAIR_UNTIL(&pair, fence.done == 1);
	assert_true(env_now_ns(pair.env) - begin_ns >= 300 * NS_PER_MS);
	pair_memory_free(&memory);
	pair_fini(&pair);
}

/* --- sleeping --- */

/* Back and forth between two processes, with pauses about as long as it takes to fall asleep. */
static void two_processes_do_not_sleep_over_each_other(void **state)
{
	struct other other;
	struct pair pair;
	uint32_t x = 1;

	pair_init(&pair, pair_shm);
	other_start(&other);
	other_dial(&other, &pair);
	for (uint32_t i = 0; i < 20000; i++) {
		uint64_t pause_ns;

		held_ping(&pair, i + 1);
		pair.client.frame_count = 0;
		PAIR_UNTIL(&pair, pair.client.frame_count == 1);
		x = x * 1664525u + 1013904223u;
		pause_ns = env_now_ns(pair.env) + (x >> 8) % (60 * NS_PER_US);
		while (x % 4 == 0 && env_now_ns(pair.env) < pause_ns) {
		}
	}
	other_kill(&other);
	pair_fini(&pair);
}

static uint64_t cpu_ns(int who)
{
	struct rusage usage;

	getrusage(who, &usage);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * NS_PER_US;
}

static void an_idle_pair_costs_no_cpu(void **state)
{
	struct other other;
	struct pair pair;
	uint64_t before;

	pair_init(&pair, pair_shm);
	other_start(&other);
	other_dial(&other, &pair);
	for (uint32_t i = 0; i < 100; i++) {
		held_ping(&pair, i + 1);
		PAIR_UNTIL(&pair, pair.client.frame_count == i + 1);
	}
	before = cpu_ns(RUSAGE_SELF);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(pair.env->ops->poll(pair.env, 100 * NS_PER_MS), 0);
	assert_true(cpu_ns(RUSAGE_SELF) - before < 10 * NS_PER_MS);
	before = cpu_ns(RUSAGE_CHILDREN);
	other_kill(&other);
	/* Its whole life: 100 frames, start and end, and a second of nothing. */
	assert_true(cpu_ns(RUSAGE_CHILDREN) - before < 200 * NS_PER_MS);
	pair_fini(&pair);
}

static void lanes_that_sleep_are_not_looked_at(void **state)
{
	const struct shm_listener *listener;
	struct pair pair;

	pair_init(&pair, pair_shm);
	listener = CONTAINER_OF(pair.listener, struct shm_listener, door.listener);
	pair_connect(&pair, 16);
	pair_settle(&pair);
	assert_true(list_is_empty(&listener->poll.awake));
	held_ping(&pair, 1);
	PAIR_UNTIL(&pair, pair.server.frame_count == 1);
	assert_true(list_is_empty(&listener->poll.awake) ||
		    listener->poll.awake.next->next == &listener->poll.awake);
	pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fence_waits_for_the_last_hold),
		cmocka_unit_test(what_the_server_said_last_is_heard),
		cmocka_unit_test(a_fence_is_done_when_the_server_has_ended_the_lane),
		cmocka_unit_test(without_regions_a_fence_waits_for_nobody),
		cmocka_unit_test(the_death_of_a_server_that_copied_is_enough),
		cmocka_unit_test(a_fence_may_come_with_closed),
		cmocka_unit_test(a_dead_server_that_let_the_drive_write_is_waited_for),
		cmocka_unit_test(two_processes_do_not_sleep_over_each_other),
		cmocka_unit_test(an_idle_pair_costs_no_cpu),
		cmocka_unit_test(lanes_that_sleep_are_not_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
