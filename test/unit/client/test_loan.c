/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core is in one thread's hands at a time, whatever order the two take their steps in, and
 * never in nobody's; then with a real server: what rests goes on, and nobody hangs.
 */
#include <poll.h>
#include <string.h>
#include <time.h>

#include "../../../src/client/client_priv.h"
#include "../../lib/t.h"
#include "face_server.h"

/* --- every order of steps --- */

enum step {
	USER_NEAR, /* begins a wait that follows closely, and asks */
	USER_FAR,  /* begins one that does not */
	USER_ENTER,
	USER_END_BUSY,
	USER_END_IDLE,
	USER_RETURN,
	THREAD_LEND,
	THREAD_LOOK,
	STEP_COUNT
};

struct walk {
	struct loan loan;
	bool is_waiting; /* the user is in a wait */
	bool user_has;
	bool thread_has;
	uint32_t uses; /* when the thread's tick began */
	uint64_t now_ns;
};

static void wait_begin(struct walk *walk, uint64_t gap_ns)
{
	walk->now_ns += gap_ns;
	walk->is_waiting = true;
	loan_note_begin(&walk->loan, walk->now_ns);
	if (gap_ns < LOAN_NEAR_NS)
		(void)loan_ask(&walk->loan);
}

static void wait_end(struct walk *walk, bool is_busy)
{
	loan_note_end(&walk->loan, walk->now_ns, is_busy);
	walk->is_waiting = false;
	walk->user_has = false;
}

static void look(struct walk *walk)
{
	enum loan_turn turn = loan_look(&walk->loan, walk->uses);

	walk->thread_has = turn == LOAN_GO;
	walk->uses = atomic_load(&walk->loan.uses);
}

/* False: nobody can take this step now. */
static bool step_take(struct walk *walk, enum step step)
{
	bool is_thread = step == THREAD_LEND || step == THREAD_LOOK;
	bool is_begin = step == USER_NEAR || step == USER_FAR || step == USER_RETURN;

	if (is_thread ? walk->thread_has != (step == THREAD_LEND) : walk->is_waiting == is_begin)
		return false;
	switch (step) {
	case USER_NEAR:
		wait_begin(walk, 1);
		break;
	case USER_FAR:
		wait_begin(walk, LOAN_NEAR_NS);
		break;
	case USER_ENTER:
		walk->user_has = loan_use(&walk->loan);
		break;
	case USER_END_BUSY:
	case USER_END_IDLE:
		wait_end(walk, step == USER_END_BUSY);
		break;
	case USER_RETURN:
		loan_return(&walk->loan);
		break;
	case THREAD_LEND:
		walk->thread_has = !loan_give(&walk->loan);
		break;
	default:
		look(walk);
	}
	return true;
}

static void walk_begin(struct walk *walk)
{
	memset(walk, 0, sizeof(*walk));
	walk->thread_has = true;
	walk->now_ns = NS_PER_S;
	assert_int_equal(loan_init(&walk->loan), 0);
	for (int i = 0; i < LOAN_NEAR; i++) { /* waits close together, or none ever asks */
		loan_note_begin(&walk->loan, walk->now_ns);
		loan_note_end(&walk->loan, walk->now_ns, false);
	}
}

/* A user who is gone leaves the core to the thread within two ticks: the first may have begun
 * before he left. */
static void thread_gets_it(struct walk *walk)
{
	if (walk->is_waiting)
		wait_end(walk, true);
	for (int i = 0; i < 2 && !walk->thread_has; i++)
		look(walk);
	if (!walk->thread_has)
		fail_msg("the core is nobody's in state %u", atomic_load(&walk->loan.state));
}

#define DEPTH 8

/* How many of these steps can be taken in this order; what must hold holds behind each. */
static int order_take(const uint8_t *steps)
{
	struct walk walk;
	int taken = 0;

	walk_begin(&walk);
	while (taken < DEPTH && step_take(&walk, (enum step)steps[taken])) {
		if (walk.user_has && walk.thread_has)
			fail_msg("both have the core");
		taken++;
	}
	thread_gets_it(&walk);
	loan_fini(&walk.loan);
	return taken;
}

/* The next order that differs in step at or before it. False: there is none. */
static bool order_next(uint8_t *steps, int at)
{
	memset(steps + at + 1, 0, (size_t)(DEPTH - at - 1));
	while (++steps[at] == STEP_COUNT) {
		steps[at] = 0;
		if (at-- == 0)
			return false;
	}
	return true;
}

static void the_core_is_in_one_hand_in_every_order(void **state)
{
	uint8_t steps[DEPTH] = { 0 };
	uint64_t orders = 0;
	int taken;

	do {
		taken = order_take(steps);
		orders += taken == DEPTH;
	} while (order_next(steps, MIN(taken, DEPTH - 1)));
	assert_true(orders > 1000);
}

/* Else every wait would be a word to the thread. */
static void a_user_who_comes_back_keeps_the_core(void **state)
{
	struct walk walk;

	walk_begin(&walk);
	assert_true(step_take(&walk, USER_NEAR));
	assert_true(step_take(&walk, THREAD_LEND));
	assert_false(walk.thread_has);
	assert_true(step_take(&walk, USER_ENTER));
	for (int i = 0; i < 10; i++) {
		assert_true(walk.user_has);
		assert_true(step_take(&walk, USER_END_BUSY));
		assert_true(step_take(&walk, THREAD_LOOK));
		assert_false(walk.thread_has);
		assert_true(step_take(&walk, USER_NEAR));
		assert_true(step_take(&walk, USER_ENTER));
	}
	assert_true(step_take(&walk, USER_END_BUSY)); /* for good: one tick is not enough to say */
	assert_true(step_take(&walk, THREAD_LOOK));
	assert_false(walk.thread_has);
	assert_true(step_take(&walk, THREAD_LOOK));
	assert_true(walk.thread_has);
	loan_fini(&walk.loan);
}

/* So many waits close together, which the thread lends the core to when it is asked. */
static uint32_t burst_lent(struct walk *walk, uint32_t waits)
{
	uint32_t uses = atomic_load(&walk->loan.uses);

	for (uint32_t i = 0; i < waits; i++) {
		assert_true(step_take(walk, i == 0 ? USER_FAR : USER_NEAR));
		if (walk->thread_has)
			(void)step_take(walk, THREAD_LEND);
		assert_true(step_take(walk, USER_ENTER));
		assert_true(step_take(walk, USER_END_IDLE));
	}
	return atomic_load(&walk->loan.uses) - uses;
}

/* Ops are pushed, and nobody comes before the thread has the core. */
static void rest(struct walk *walk)
{
	loan_note_submit(&walk->loan);
	for (int i = 0; i < 2 && !walk->thread_has; i++)
		look(walk);
	assert_true(walk->thread_has);
	walk->now_ns += 5 * LOAN_TICK_NS;
}

/* Else what is submitted behind each burst would rest for two ticks. */
static void bursts_that_do_not_pay_get_no_loan(void **state)
{
	struct walk walk;

	walk_begin(&walk);
	for (int i = 0; i < 4; i++) {
		(void)burst_lent(&walk, 8);
		rest(&walk);
	}
	for (int i = 0; i < 10; i++) {
		assert_int_equal(burst_lent(&walk, 8), 0);
		rest(&walk);
	}
	assert_true(burst_lent(&walk, 1000) > 800); /* this pays … */
	rest(&walk);
	assert_true(burst_lent(&walk, 8) > 4); /* … and is remembered */
	loan_fini(&walk.loan);
}

/* A call that needs the thread may come as soon as the core is lent. */
static void a_return_behind_the_loan_is_not_slept_over(void **state)
{
	uint64_t least_ns = UINT64_MAX;
	const atomic_bool is_broken = false;

	for (int i = 0; i < 20; i++) {
		struct walk walk;
		uint64_t begin_ns;

		walk_begin(&walk);
		loan_wake(&walk.loan); /* for what was over before */
		assert_true(step_take(&walk, USER_NEAR));
		assert_true(loan_give(&walk.loan));
		wait_end(&walk, false);
		loan_return(&walk.loan);
		begin_ns = face_now_ns();
		loan_sleep(&walk.loan, &is_broken);
		least_ns = MIN(least_ns, face_now_ns() - begin_ns);
		loan_fini(&walk.loan);
	}
	assert_true(least_ns < LOAN_TICK_NS / 2);
}

/* --- with a server --- */

static void nap(uint64_t ns)
{
	const struct timespec time = { (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) };

	nanosleep(&time, NULL);
}

#define SIZE 5000

static void check_get(struct face_op *get, uint32_t first)
{
	assert_int_equal(get->op.status, 0);
	assert_int_equal(get->items[0].status, 0);
	assert_true(face_is_filled(get->bytes, SIZE, first, 0));
	memset(get->bytes, 0, SIZE);
	face_op_again(get);
}

/* A client whose user has the core on loan. On a busy machine waits may be far apart for a while.
 */
static struct ctxkv_client *open_lent(struct face_op *get)
{
	struct ctxkv_client *client =
		face_open(face_url(face_server.port, FACE_SECRET), 0, 2, 5 * NS_PER_S);
	struct face_op put;

	face_op_init(&put, CTXKV_OP_PUT, 1, 1, SIZE);
	assert_int_equal(ctxkv_run(client, &put.op), 0);
	face_op_free(&put);
	face_op_init(get, CTXKV_OP_GET, 1, 1, SIZE);
	for (int i = 0; i < 20000 && atomic_load(&client->loan.uses) < 50; i++) {
		assert_int_equal(ctxkv_run(client, &get->op), 0);
		check_get(get, 1);
	}
	assert_true(atomic_load(&client->loan.uses) >= 50);
	return client;
}

static void what_rests_goes_on_by_the_thread(void **state)
{
	struct face_op get;
	struct ctxkv_client *client = open_lent(&get);
	struct ctxkv_op *op = &get.op;
	struct ctxkv_event event;
	uint64_t begin_ns;

	for (int i = 0; i < 20; i++) {
		assert_int_equal(ctxkv_run(client, op), 0);
		check_get(&get, 1);
		assert_int_equal(ctxkv_submit(client, &op, 1), 1);
		begin_ns = face_now_ns();
		while (ctxkv_poll(client, &event, 1) == 0) { /* it asks for nothing */
			if (face_now_ns() - begin_ns > 5 * NS_PER_S)
				fail_msg("nobody lets the core work");
			nap(100 * NS_PER_US);
		}
		check_get(&get, 1);
	}
	ctxkv_close(&client);
	face_op_free(&get);
}

/* Whoever asks for the descriptor hears of what came before and behind that. */
static void the_descriptor_tells_what_came_in_a_wait(void **state)
{
	struct face_op get;
	struct ctxkv_client *client = open_lent(&get);
	struct ctxkv_op *op = &get.op;

	for (int i = 0; i < 100; i++) {
		struct ctxkv_event event;
		struct pollfd pollfd = { .events = POLLIN };

		assert_int_equal(ctxkv_submit(client, &op, 1), 1);
		assert_int_equal(ctxkv_wait(client, 5 * NS_PER_S), 1);
		pollfd.fd = ctxkv_event_fd(client);
		assert_int_equal(poll(&pollfd, 1, 5000), 1);
		assert_int_equal(ctxkv_poll(client, &event, 1), 1);
		check_get(&get, 1);
		assert_int_equal(ctxkv_poll(client, &event, 1), 0);
		assert_int_equal(poll(&pollfd, 1, 0), 0);
	}
	ctxkv_close(&client);
	face_op_free(&get);
}

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void check_vain_wait(struct ctxkv_client *client)
{
	uint64_t begin_ns = face_now_ns();
	uint64_t begin_cpu_ns = cpu_ns();

	assert_int_equal(ctxkv_wait(client, 200 * NS_PER_MS), 0);
	assert_true(face_now_ns() - begin_ns >= 200 * NS_PER_MS);
	assert_true(cpu_ns() - begin_cpu_ns < 50 * NS_PER_MS);
}

/* Polls that ask for as many events as there are leave the descriptor readable. */
static void a_wait_in_vain_sleeps(void **state)
{
	struct face_op get;
	struct ctxkv_client *client = open_lent(&get);
	struct ctxkv_op *op = &get.op;
	struct ctxkv_event event = { .what = 0 };

	assert_int_equal(ctxkv_submit(client, &op, 1), 1);
	nap(5 * LOAN_TICK_NS);
	while ((event.what & CTXKV_RELEASE) == 0) {
		assert_int_equal(ctxkv_wait(client, 5 * NS_PER_S), 1);
		assert_int_equal(ctxkv_poll(client, &event, 1), 1);
	}
	nap(5 * LOAN_TICK_NS);
	check_vain_wait(client);
	check_get(&get, 1);
	ctxkv_close(&client);
	face_op_free(&get);
}

/* All calls, with naps about as long as ticks between them. */
static void all_calls_in_any_order(void **state)
{
	struct face_op gets[4];
	struct ctxkv_client *client = open_lent(&gets[0]);
	uint64_t end_ns = face_now_ns() + 3 * NS_PER_S;
	uint32_t in_flight = 0;
	uint32_t seed = 7;

	for (int i = 1; i < 4; i++)
		face_op_init(&gets[i], CTXKV_OP_GET, 1, 1, SIZE);
	while (face_now_ns() < end_ns || in_flight > 0) {
		struct ctxkv_stat stat = { .size = sizeof(stat) };
		struct ctxkv_event event;
		struct ctxkv_op *op;

		seed = seed * 1664525u + 1013904223u;
		op = &gets[(seed >> 8) % 4].op;
		if (op->reserved[0] == 0 && face_now_ns() < end_ns) {
			assert_int_equal(ctxkv_submit(client, &op, 1), 1);
			in_flight++;
		}
		if ((seed >> 12) % 256 == 0)
			assert_int_equal(ctxkv_get_stat(client, &stat), 0);
		if ((seed >> 12) % 64 == 1)
			nap((seed >> 20) % (3 * LOAN_TICK_NS));
		if ((seed >> 12) % 64 == 2)
			ctxkv_cancel(client, op);
		if (ctxkv_wait(client, (seed >> 12) % 16 == 3 ? 20 * NS_PER_US : NS_PER_S) == 0)
			continue;
		assert_int_equal(ctxkv_poll(client, &event, 1), 1);
		if ((event.what & CTXKV_RELEASE) == 0)
			continue;
		in_flight--;
		if (event.op->status != -ECANCELED)
			check_get(CONTAINER_OF(event.op, struct face_op, op), 1);
		else
			face_op_again(CONTAINER_OF(event.op, struct face_op, op));
	}
	ctxkv_close(&client);
	for (int i = 0; i < 4; i++)
		face_op_free(&gets[i]);
}

/* The planted bug of test_face.c, while the user has the core. */
static void a_failed_assert_in_the_users_hands_breaks_the_client_alone(void **state)
{
	struct face_op get;
	struct ctxkv_client *client = open_lent(&get);
	uint64_t begin_ns;

	while (atomic_load(&client->loan.state) != LOAN_OPEN) {
		assert_int_equal(ctxkv_run(client, &get.op), 0);
		check_get(&get, 1);
	}
	client->core->magic ^= 1;
	begin_ns = face_now_ns();
	assert_int_equal(ctxkv_run(client, &get.op), -CTXKV_EBROKEN);
	assert_int_equal(get.items[0].status, -CTXKV_EBROKEN);
	check_vain_wait(client);
	ctxkv_close(&client);
	assert_true(face_now_ns() - begin_ns < 2 * NS_PER_S);
	face_op_free(&get);
}

static void *wait_for_nothing(void *ctx)
{
	struct ctxkv_client *client = ctx;

	for (;;) {
		(void)!ctxkv_wait(client, 20 * NS_PER_MS);
		pthread_testcancel();
	}
	return NULL;
}

/* It ends between its waits, and leaves the core to whoever comes. */
static void a_user_who_is_ended_takes_nothing_along(void **state)
{
	struct face_op get;
	struct ctxkv_client *client = open_lent(&get);
	uint64_t begin_ns;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, wait_for_nothing, client), 0);
	nap(50 * NS_PER_MS);
	assert_int_equal(pthread_cancel(thread), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	begin_ns = face_now_ns();
	assert_int_equal(ctxkv_run(client, &get.op), 0);
	check_get(&get, 1);
	ctxkv_close(&client);
	assert_true(face_now_ns() - begin_ns < 2 * NS_PER_S);
	face_op_free(&get);
}

static void close_in_the_users_hands(void **state)
{
	struct face_op get;
	struct ctxkv_client *client = open_lent(&get);
	struct ctxkv_op *op = &get.op;
	uint64_t begin_ns = face_now_ns();

	assert_int_equal(ctxkv_submit(client, &op, 1), 1);
	ctxkv_close(&client);
	assert_true(face_now_ns() - begin_ns < 2 * NS_PER_S);
	face_op_free(&get);
}

#define WITH_SERVER(test)                                                                          \
	cmocka_unit_test_setup_teardown(test, face_server_setup, face_server_teardown)

int main(void)
{
	const struct CMUnitTest orders[] = {
		cmocka_unit_test(the_core_is_in_one_hand_in_every_order),
		cmocka_unit_test(a_user_who_comes_back_keeps_the_core),
		cmocka_unit_test(bursts_that_do_not_pay_get_no_loan),
		cmocka_unit_test(a_return_behind_the_loan_is_not_slept_over),
	};
	const struct CMUnitTest tests[] = {
		WITH_SERVER(what_rests_goes_on_by_the_thread),
		WITH_SERVER(the_descriptor_tells_what_came_in_a_wait),
		WITH_SERVER(a_wait_in_vain_sleeps),
		WITH_SERVER(all_calls_in_any_order),
		WITH_SERVER(a_failed_assert_in_the_users_hands_breaks_the_client_alone),
		WITH_SERVER(a_user_who_is_ended_takes_nothing_along),
		WITH_SERVER(close_in_the_users_hands),
	};
	int failures = cmocka_run_group_tests(orders, NULL, NULL);

	/* Threads whose steps do not fit together would only hang. */
	return failures > 0 ? failures : cmocka_run_group_tests(tests, NULL, NULL);
}
