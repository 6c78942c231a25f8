/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public functions where there is no server, or none that answers: every op ends in time as a
 * miss, and nothing hangs, aborts or leaks.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../src/client/client_priv.h"
#include "../../lib/t.h"
#include "face_lib.h"

#define SLACK_NS (400 * NS_PER_MS) /* of a busy machine */

static void an_absent_server_is_a_miss_and_then_at_once(void **state)
{
	struct ctxkv_client *client = face_open(face_url(face_port(NULL), FACE_SECRET), 0, 2, 0);
	struct ctxkv_stat stat = { .size = sizeof(stat) };
	struct face_op get;
	uint64_t begin_ns;

	face_op_init(&get, CTXKV_OP_GET, 1, 3, 100);
	get.op.timeout_ns = 2 * NS_PER_S;
	begin_ns = face_now_ns();
	assert_int_equal(ctxkv_run(client, &get.op), -CTXKV_EUNREACHABLE);
	assert_true(face_now_ns() - begin_ns < 2 * NS_PER_S);
	for (int i = 0; i < 3; i++)
		assert_int_equal(get.items[i].status, -CTXKV_EUNREACHABLE);

	begin_ns = face_now_ns();
	for (int i = 0; i < 20; i++) {
		face_op_again(&get);
		assert_int_equal(ctxkv_run(client, &get.op), -CTXKV_EUNREACHABLE);
	}
	assert_true(face_now_ns() - begin_ns < SLACK_NS); /* no waiting while the breaker is open */
	assert_int_equal(ctxkv_get_stat(client, &stat), 0);
	assert_int_equal(stat.is_connected, 0);
	assert_int_equal(stat.breaker_opens, 1);
	assert_int_equal(stat.misses, 63);
	assert_int_equal(stat.last_error, -ECONNREFUSED);
	assert_non_null(strstr(face_log, "not reachable"));
	ctxkv_close(&client);
	assert_null(client);
	face_op_free(&get);
}

/* Connections are made by the kernel, and then nothing is ever said. */
static void a_frozen_server_costs_the_deadline(uint32_t flags)
{
	int listener;
	uint16_t port = face_port(&listener);
	struct ctxkv_client *client = face_open(face_url(port, FACE_SECRET), flags, 1, 0);
	struct face_op ops[3];

	for (int i = 0; i < 3; i++) {
		struct ctxkv_op *op = &ops[i].op;

		face_op_init(&ops[i], i == 1 ? CTXKV_OP_PUT : CTXKV_OP_GET, 1, 2, 5000);
		op->timeout_ns = 150 * NS_PER_MS;
		assert_int_equal(ctxkv_submit(client, &op, 1), 1);
	}
	for (int i = 0; i < 3; i++) {
		uint64_t took_ns = face_wait_released(client, &ops[i].op, 5 * NS_PER_S);

		assert_true(took_ns < 150 * NS_PER_MS + SLACK_NS);
		if (i == 0)
			assert_true(took_ns >= 100 * NS_PER_MS);
		assert_int_equal(ops[i].op.status, -CTXKV_EDEADLINE);
		assert_int_equal(ops[i].items[1].status, -CTXKV_EDEADLINE);
		assert_int_equal(ops[i].op.state, CTXKV_RESULT | CTXKV_RELEASE);
		face_op_free(&ops[i]);
	}
	ctxkv_close(&client);
	close(listener);
}

static void a_frozen_server_costs_the_deadline_by_thread(void **state)
{
	a_frozen_server_costs_the_deadline(0);
}

static void a_frozen_server_costs_the_deadline_by_caller(void **state)
{
	a_frozen_server_costs_the_deadline(CTXKV_CALLER_DRIVEN);
}

static void cancel_ends_an_op_and_only_that(void **state)
{
	int listener;
	uint16_t port = face_port(&listener);
	struct ctxkv_client *client = face_open(face_url(port, FACE_SECRET), 0, 1, 0);
	struct face_op gets[2];

	for (int i = 0; i < 2; i++) {
		struct ctxkv_op *op = &gets[i].op;

		face_op_init(&gets[i], CTXKV_OP_GET, 1, 1, 10);
		op->timeout_ns = 300 * NS_PER_MS;
		assert_int_equal(ctxkv_submit(client, &op, 1), 1);
	}
	ctxkv_cancel(client, &gets[0].op);
	ctxkv_cancel(client, &gets[0].op); /* twice is once */
	assert_true(face_wait_released(client, &gets[0].op, NS_PER_S) < 300 * NS_PER_MS);
	assert_int_equal(gets[0].op.status, -ECANCELED);
	assert_int_equal(gets[0].items[0].status, -ECANCELED);
	(void)face_wait_released(client, &gets[1].op, NS_PER_S);
	assert_int_equal(gets[1].op.status, -CTXKV_EDEADLINE);
	ctxkv_cancel(client, &gets[1].op); /* after its release: nothing */
	ctxkv_close(&client);
	close(listener);
	face_op_free(&gets[0]);
	face_op_free(&gets[1]);
}

static bool is_readable(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1;
}

/* face_notify() stopped between flag and write, ctxkv_poll() in between: afterwards the descriptor
 * must not be readable for ever, or the caller's loop spins. */
static void a_poll_in_the_middle_of_a_notification_loses_nothing(void **state)
{
	struct ctxkv_client *client = face_open(face_url(face_port(NULL), FACE_SECRET), 0, 1, 0);
	const uint64_t one = 1;
	struct ctxkv_event event;

	assert_false(atomic_exchange(&client->is_notified, true));
	assert_int_equal(ctxkv_poll(client, &event, 1), 0);
	assert_int_equal(write(client->event_fd, &one, sizeof(one)), sizeof(one));
	assert_true(is_readable(ctxkv_event_fd(client)));
	assert_int_equal(ctxkv_poll(client, &event, 1), 0);
	assert_false(is_readable(ctxkv_event_fd(client)));
	face_notify(client);
	assert_true(is_readable(ctxkv_event_fd(client)));
	ctxkv_close(&client);
}

static void inflight_max_is_back_pressure(void **state)
{
	int listener;
	uint16_t port = face_port(&listener);
	struct ctxkv_op *pointers[6];
	struct face_op gets[6];
	struct ctxkv_client *client = NULL;
	struct ctxkv_opts opts;
	struct ctxkv_event events[16];

	ctxkv_opts_init(&opts, sizeof(opts));
	opts.url = face_url(port, FACE_SECRET);
	opts.inflight_max = 4;
	opts.log_level = CTXKV_LOG_ERROR;
	assert_int_equal(ctxkv_open(&opts, 0, &client, NULL, 0), 0);
	for (int i = 0; i < 6; i++) {
		face_op_init(&gets[i], CTXKV_OP_GET, 1, 1, 10);
		gets[i].op.timeout_ns = 50 * NS_PER_MS;
		pointers[i] = &gets[i].op;
	}
	assert_int_equal(ctxkv_submit(client, pointers, 6), 4);
	assert_int_equal(ctxkv_submit(client, pointers + 4, 2), 0);
	(void)face_wait_released(client, &gets[3].op, NS_PER_S);
	assert_true(ctxkv_submit(client, pointers + 4, 1) == 1);
	/* What is in flight may not be submitted again. */
	assert_int_equal(ctxkv_submit(client, pointers + 4, 1), -EINVAL);
	ctxkv_close(&client);
	(void)events;
	close(listener);
	for (int i = 0; i < 6; i++)
		face_op_free(&gets[i]);
}

static void run_keeps_the_events_of_others(void **state)
{
	struct ctxkv_client *client = face_open(face_url(face_port(NULL), FACE_SECRET), 0, 1, 0);
	struct face_op first;
	struct face_op second;
	struct ctxkv_op *op = &first.op;
	struct ctxkv_event event;

	face_op_init(&first, CTXKV_OP_PROBE, 1, 4, 0);
	face_op_init(&second, CTXKV_OP_PROBE, 1, 4, 0);
	first.op.user = &second;
	assert_int_equal(ctxkv_submit(client, &op, 1), 1);
	assert_int_equal(ctxkv_run(client, &second.op), -CTXKV_EUNREACHABLE);
	assert_int_equal(ctxkv_poll(client, &event, 1), 1);
	assert_ptr_equal(event.op, &first.op);
	assert_ptr_equal(event.op->user, &second);
	assert_int_equal(event.what, CTXKV_RESULT | CTXKV_RELEASE);
	assert_int_equal(ctxkv_poll(client, &event, 1), 0);
	ctxkv_close(&client);
	face_op_free(&first);
	face_op_free(&second);
}

#define BURST 64

/* Few events at a time, and only when the descriptor says so: none is left lying. */
static void every_event_makes_the_descriptor_readable(void **state)
{
	struct ctxkv_client *client = face_open(face_url(face_port(NULL), FACE_SECRET), 0, 1, 0);
	static struct face_op probes[BURST];
	uint32_t outstanding = 0;
	uint32_t seed = 3;

	for (uint32_t i = 0; i < BURST; i++)
		face_op_init(&probes[i], CTXKV_OP_PROBE, i, 1, 0);
	assert_int_equal(ctxkv_run(client, &probes[0].op), -CTXKV_EUNREACHABLE);
	for (uint32_t i = 0; i < 6000; i++) {
		struct pollfd pollfd = { .fd = ctxkv_event_fd(client), .events = POLLIN };
		struct ctxkv_op *op = &probes[i % BURST].op;
		struct ctxkv_event events[4];
		int count;

		if (op->reserved[0] == 0) {
			assert_int_equal(ctxkv_submit(client, &op, 1), 1);
			outstanding++;
		}
		seed = seed * 1664525u + 1013904223u;
		if (outstanding < (seed >> 8) % BURST)
			continue;
		if (poll(&pollfd, 1, 2000) != 1)
			fail_msg("%u ops are out, and nothing is told", outstanding);
		count = ctxkv_poll(client, events, 1 + (seed >> 16) % 4);
		assert_true(count >= 0);
		outstanding -= (uint32_t)count;
	}
	ctxkv_close(&client);
	for (uint32_t i = 0; i < BURST; i++)
		face_op_free(&probes[i]);
}

static void bad_ops_end_as_invalid(uint32_t flags)
{
	struct ctxkv_client *client =
		face_open(face_url(face_port(NULL), FACE_SECRET), flags, 1, 0);
	struct ctxkv_iov wrap = { (void *)(UINTPTR_MAX - 10), 100 };
	struct ctxkv_iov half = { (void *)1, UINT64_MAX / 2 + 1 };
	struct ctxkv_iov twice[2] = { half, half };
	struct ctxkv_item item = { 0 };
	const struct {
		struct ctxkv_op op;
		const struct ctxkv_iov *iov;
		uint32_t iov_count;
	} rows[] = {
		{ { .opcode = 0 }, NULL, 0 },
		{ { .opcode = 8 }, NULL, 0 },
		{ { .opcode = UINT32_MAX }, NULL, 0 },
		{ { .opcode = CTXKV_OP_PROBE }, NULL, 0 },
		{ { .opcode = CTXKV_OP_GET, .item_count = 1 }, NULL, 0 },
		{ { .opcode = CTXKV_OP_GET, .items = &item, .item_count = 1 }, NULL, 0 },
		{ { .opcode = CTXKV_OP_GET, .items = &item, .item_count = 1 }, NULL, 1 },
		{ { .opcode = CTXKV_OP_PUT, .items = &item, .item_count = 1 }, &wrap, 1 },
		{ { .opcode = CTXKV_OP_PUT, .items = &item, .item_count = 1 }, twice, 2 },
		{ { .opcode = CTXKV_OP_GET,
		    .flags = CTXKV_DURABLE,
		    .items = &item,
		    .item_count = 1 },
		  NULL,
		  0 },
		{ { .opcode = CTXKV_OP_DROP, .items = &item, .item_count = CTXKV_ITEM_MAX + 1 },
		  NULL,
		  0 },
		{ { .opcode = CTXKV_OP_RENEW }, NULL, 0 },
		{ { .opcode = CTXKV_OP_REPORT, .items = &item, .item_count = 1 }, NULL, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct ctxkv_op op = rows[i].op;

		item.iov = rows[i].iov;
		item.iov_count = rows[i].iov_count;
		assert_int_equal(ctxkv_run(client, &op), -EINVAL);
		assert_int_equal(op.state, CTXKV_RESULT | CTXKV_RELEASE);
	}
	assert_int_equal(ctxkv_submit(client, &(struct ctxkv_op *) { NULL }, 1), -EINVAL);
	ctxkv_close(&client);
}

static void bad_ops_end_as_invalid_by_thread(void **state)
{
	bad_ops_end_as_invalid(0);
}

static void bad_ops_end_as_invalid_by_caller(void **state)
{
	bad_ops_end_as_invalid(CTXKV_CALLER_DRIVEN);
}

static void bad_options_are_refused_with_a_sentence(void **state)
{
	struct ctxkv_client *client = NULL;
	char message[256];
	struct ctxkv_opts opts;

	ctxkv_opts_init(&opts, sizeof(opts));
	opts.url = face_url(9, FACE_SECRET);
	opts.lanes = 17;
	assert_int_equal(ctxkv_open(&opts, 0, &client, message, sizeof(message)), -EINVAL);
	assert_non_null(strstr(message, "lanes"));
	ctxkv_opts_init(&opts, sizeof(opts));
	opts.url = "ctxkv://a,,b";
	assert_int_equal(ctxkv_open(&opts, 0, &client, message, sizeof(message)), -CTXKV_EURL);
	assert_non_null(strstr(message, "names no host"));
	memset(&opts, 0, sizeof(opts));
	assert_int_equal(ctxkv_open(&opts, 0, &client, message, sizeof(message)), -EINVAL);
	assert_non_null(strstr(message, "ctxkv_opts_init"));
	assert_null(client);
}

/* A caller compiled against a shorter struct gets the defaults for what it lacks. */
static void shorter_options_are_completed(void **state)
{
	struct ctxkv_client *client = NULL;
	struct ctxkv_opts opts;

	memset(&opts, 0xff, sizeof(opts));
	ctxkv_opts_init(&opts, offsetof(struct ctxkv_opts, inflight_max));
	opts.url = face_url(face_port(NULL), FACE_SECRET);
	assert_int_equal(ctxkv_open(&opts, 0, &client, NULL, 0), 0);
	assert_int_equal(client->inflight_max, 1024);
	ctxkv_close(&client);
}

/* In a child every call but close is refused, and its close does not disturb the parent. */
static void a_child_may_only_close(uint32_t flags)
{
	int listener;
	uint16_t port = face_port(&listener);
	struct ctxkv_client *client = face_open(face_url(port, FACE_SECRET), flags, 1, 0);
	struct face_op get;
	struct ctxkv_op *op = &get.op;
	struct ctxkv_event event;
	int status = 0;
	pid_t pid;

	face_op_init(&get, CTXKV_OP_GET, 1, 1, 10);
	get.op.timeout_ns = 300 * NS_PER_MS;
	assert_int_equal(ctxkv_submit(client, &op, 1), 1);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct ctxkv_stat stat = { .size = sizeof(stat) };
		bool is_right = ctxkv_submit(client, &op, 1) == -CTXKV_EFORKED &&
				ctxkv_poll(client, &event, 1) == -CTXKV_EFORKED &&
				ctxkv_run(client, op) == -CTXKV_EFORKED &&
				ctxkv_event_fd(client) == -CTXKV_EFORKED &&
				ctxkv_get_stat(client, &stat) == -CTXKV_EFORKED;

		ctxkv_close(&client);
		_exit(is_right && client == NULL ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	(void)face_wait_released(client, op, 2 * NS_PER_S);
	assert_int_equal(get.op.status, -CTXKV_EDEADLINE);
	ctxkv_close(&client);
	close(listener);
	face_op_free(&get);
}

static void a_child_may_only_close_by_thread(void **state)
{
	a_child_may_only_close(0);
}

static void a_child_may_only_close_by_caller(void **state)
{
	a_child_may_only_close(CTXKV_CALLER_DRIVEN);
}

/* The planted bug: the core's magic is wrong, so that the next CHECK_OBJ fails. */
static void a_failed_assert_breaks_the_client_and_not_the_process(uint32_t flags)
{
	int listener;
	uint16_t port = face_port(&listener);
	struct ctxkv_client *client = face_open(face_url(port, FACE_SECRET), flags, 1, 0);
	struct ctxkv_stat stat = { .size = sizeof(stat) };
	struct ctxkv_region *region = NULL;
	struct face_op before;
	struct face_op after;
	struct ctxkv_op *op = &before.op;
	char text[64];
	const char *line;
	uint64_t begin_ns;

	face_op_init(&before, CTXKV_OP_GET, 1, 2, 10);
	face_op_init(&after, CTXKV_OP_PUT, 1, 2, 10);
	assert_int_equal(ctxkv_submit(client, &op, 1), 1);
	assert_int_equal(ctxkv_get_stat(client, &stat), 0); /* the core has it by now */
	client->core->magic ^= 1;

	begin_ns = face_now_ns();
	assert_int_equal(ctxkv_run(client, &after.op), -CTXKV_EBROKEN);
	assert_int_equal(after.items[1].status, -CTXKV_EBROKEN);
	(void)face_wait_released(client, &before.op, NS_PER_S);
	assert_int_equal(before.op.status, -CTXKV_EBROKEN);
	assert_int_equal(before.items[0].status, -CTXKV_EBROKEN);
	for (int i = 0; i < 100; i++) {
		face_op_again(&after);
		assert_int_equal(ctxkv_run(client, &after.op), -CTXKV_EBROKEN);
	}
	assert_true(face_now_ns() - begin_ns < NS_PER_S);

	assert_int_equal(ctxkv_get_stat(client, &stat), 0);
	assert_int_equal(stat.last_error, -CTXKV_EBROKEN);
	assert_int_equal(ctxkv_server_stat(client, NS_PER_S, text, sizeof(text)), -CTXKV_EBROKEN);
	assert_int_equal(ctxkv_region_declare(client, text, sizeof(text), &region), -CTXKV_EBROKEN);
	line = strstr(face_log, "client broken");
	assert_non_null(line);
	assert_null(strstr(line + 1, "client broken")); /* said once */
	ctxkv_close(&client);
	assert_null(client);
	close(listener);
	face_op_free(&before);
	face_op_free(&after);
}

static void a_failed_assert_breaks_the_client_by_thread(void **state)
{
	a_failed_assert_breaks_the_client_and_not_the_process(0);
}

static void a_failed_assert_breaks_the_client_by_caller(void **state)
{
	a_failed_assert_breaks_the_client_and_not_the_process(CTXKV_CALLER_DRIVEN);
}

static void close_ends_what_is_outstanding(void **state)
{
	int listener;
	uint16_t port = face_port(&listener);
	struct ctxkv_client *client = face_open(face_url(port, FACE_SECRET), 0, 4, 0);
	struct face_op get;
	struct ctxkv_op *op = &get.op;
	uint64_t begin_ns = face_now_ns();

	face_op_init(&get, CTXKV_OP_GET, 1, 5, 10);
	assert_int_equal(ctxkv_submit(client, &op, 1), 1);
	ctxkv_close(&client);
	assert_true(face_now_ns() - begin_ns < SLACK_NS);
	assert_int_equal(get.op.status, -ECANCELED);
	for (size_t i = 0; i < ARRAY_LEN(get.op.reserved); i++)
		assert_int_equal(get.op.reserved[i], 0);
	close(listener);
	face_op_free(&get);
	ctxkv_close(&client); /* NULL is a no-op */
}

static void memory_of_the_library_is_declared_memory(void **state)
{
	struct ctxkv_client *client = face_open(face_url(face_port(NULL), FACE_SECRET), 0, 1, 0);
	struct ctxkv_region_info info = { .size = sizeof(info) };
	struct ctxkv_region *region = NULL;
	uint8_t *bytes = ctxkv_alloc(client, 100000);
	uint8_t *more = ctxkv_alloc(client, 1);

	assert_non_null(bytes);
	assert_int_equal((uintptr_t)bytes % 4096, 0);
	memset(bytes, 1, 100000);
	ctxkv_free(client, bytes);
	assert_int_equal(ctxkv_region_declare(client, NULL, 5, &region), -EINVAL);
	assert_int_equal(ctxkv_region_declare(client, &info, 0, &region), -EINVAL);
	assert_int_equal(ctxkv_region_declare(client, more, 1, &region), 0);
	assert_int_equal(ctxkv_region_get_info(region, &info), 0);
	assert_string_equal(info.served, "tcp: received into place");
	assert_int_equal(ctxkv_region_undeclare(client, &region), 0);
	assert_null(region);
	ctxkv_close(&client); /* frees what is left of ctxkv_alloc() */
}

static void wait_ends_with_events_or_the_time(void **state)
{
	static const uint32_t flags[] = { 0, CTXKV_CALLER_DRIVEN };

	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		int listener;
		const char *url = face_url(face_port(&listener), FACE_SECRET);
		struct ctxkv_client *client = face_open(url, flags[i], 1, 0);
		uint64_t begin = face_now_ns();
		struct ctxkv_op *op;
		struct face_op get;

		assert_int_equal(ctxkv_wait(client, 10 * NS_PER_MS), 0);
		assert_true(face_now_ns() - begin >= 10 * NS_PER_MS);
		face_op_init(&get, CTXKV_OP_GET, 1, 1, 100);
		get.op.timeout_ns = 50 * NS_PER_MS;
		op = &get.op;
		assert_int_equal(ctxkv_submit(client, &op, 1), 1);
		begin = face_now_ns();
		assert_int_equal(ctxkv_wait(client, 10 * NS_PER_S), 1);
		assert_true(face_now_ns() - begin < 5 * NS_PER_S);
		assert_int_equal(ctxkv_wait(client, 10 * NS_PER_S), 1); /* until it is taken */
		face_wait_released(client, op, NS_PER_S);
		assert_int_equal(ctxkv_wait(client, 0), 0);
		close(listener);
		face_op_free(&get);
		ctxkv_close(&client);
		assert_int_equal(ctxkv_wait(client, 0), -EINVAL);
	}
}

/* Wherever there are none reserved, and where there are. */
static void huge_pages_are_taken_or_missed_aloud(void **state)
{
	struct ctxkv_client *client = face_open(face_url(face_port(NULL), FACE_SECRET),
						CTXKV_HUGE_PAGES | CTXKV_CALLER_DRIVEN, 1, 0);
	struct ctxkv_region_info info = { .size = sizeof(info) };
	uint64_t size = 3 << 20;
	uint8_t *bytes = ctxkv_alloc(client, size);
	struct ctxkv_region *region = ctxkv_region_find(client, bytes + size - 1, 1);

	assert_non_null(bytes);
	assert_int_equal((uintptr_t)bytes % (2 << 20), 0);
	for (uint64_t i = 0; i < size; i++)
		assert_int_equal(bytes[i], 0);
	assert_non_null(region);
	assert_int_equal(ctxkv_region_get_info(region, &info), 0);
	if (info.page_size != 2 << 20) {
		assert_int_equal(info.page_size, 4096);
		assert_non_null(strstr(face_log, "no huge pages"));
	}
	assert_null(ctxkv_region_find(client, bytes + size, 2 << 20));
	assert_null(ctxkv_region_find(client, &info, 1));
	ctxkv_free(client, bytes);
	assert_null(ctxkv_region_find(client, bytes, 1));
	ctxkv_close(&client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_absent_server_is_a_miss_and_then_at_once),
		cmocka_unit_test(a_frozen_server_costs_the_deadline_by_thread),
		cmocka_unit_test(a_frozen_server_costs_the_deadline_by_caller),
		cmocka_unit_test(cancel_ends_an_op_and_only_that),
		cmocka_unit_test(a_poll_in_the_middle_of_a_notification_loses_nothing),
		cmocka_unit_test(inflight_max_is_back_pressure),
		cmocka_unit_test(run_keeps_the_events_of_others),
		cmocka_unit_test(every_event_makes_the_descriptor_readable),
		cmocka_unit_test(bad_ops_end_as_invalid_by_thread),
		cmocka_unit_test(bad_ops_end_as_invalid_by_caller),
		cmocka_unit_test(bad_options_are_refused_with_a_sentence),
		cmocka_unit_test(shorter_options_are_completed),
		cmocka_unit_test(a_child_may_only_close_by_thread),
		cmocka_unit_test(a_child_may_only_close_by_caller),
		cmocka_unit_test(a_failed_assert_breaks_the_client_by_thread),
		cmocka_unit_test(a_failed_assert_breaks_the_client_by_caller),
		cmocka_unit_test(close_ends_what_is_outstanding),
		cmocka_unit_test(memory_of_the_library_is_declared_memory),
		cmocka_unit_test(wait_ends_with_events_or_the_time),
		cmocka_unit_test(huge_pages_are_taken_or_missed_aloud),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
