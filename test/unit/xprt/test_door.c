/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A door lets in as many as it has room for, strangers for a while only, and never keeps those out
 * who come later: a transport without bytes, whose connections are made by the test.
 */
#include "../../../src/xprt/door.h"
#include "../../lib/env_fake.h"
#include "../../lib/t.h"

#include <string.h>

#define LANES (DOOR_STRANGER_MAX + 6)

struct env_sock {
	bool is_open;
};

/* A lane, and its connection. */
struct guest {
	uint8_t before;
	struct door_lane lane;
	struct env_sock *sock;
	uint32_t drops;
	int why; /* it was dropped */
};

static struct env_fake fake;
static struct env_ops ops;
static struct env_sock socks[2 * LANES];
static struct env_sock door_sock;
static uint32_t sock_count;
static uint32_t waiting; /* connections that nobody has accepted */
static int accept_rc;
static uint32_t watched; /* events of the door's socket */
static env_sock_ready ready;
static struct door *door_here;
static uint32_t ended; /* doors that are no more */

/* --- sockets --- */

static int listen_to(struct env *env, const char *address, struct env_sock **sock_out)
{
	door_sock.is_open = true;
	*sock_out = &door_sock;
	return 0;
}

static int accept_one(struct env *env, struct env_sock *listener, struct env_sock **sock_out)
{
	assert_true(listener->is_open);
	if (accept_rc < 0)
		return accept_rc;
	if (waiting == 0)
		return -EAGAIN;
	waiting--;
	assert_true(sock_count < ARRAY_LEN(socks));
	*sock_out = &socks[sock_count++];
	(*sock_out)->is_open = true;
	return 0;
}

static void watch(struct env *env, struct env_sock *sock, uint32_t events, env_sock_ready cb,
		  void *ctx)
{
	assert_ptr_equal(sock, &door_sock);
	assert_ptr_equal(ctx, door_here);
	watched = events;
	ready = cb;
}

static void close_one(struct env *env, struct env_sock *sock)
{
	assert_true(sock->is_open);
	sock->is_open = false;
}

/* --- a transport --- */

static size_t extra_size(uint32_t lane_max)
{
	return lane_max * sizeof(uint64_t);
}

static void door_init_cb(struct door *door, void *extra)
{
	door_here = door;
	memset(extra, 1, extra_size(door->lane_max));
}

static void door_fini_cb(struct door *door)
{
	ended++;
}

static void guest_begin(struct door *door, struct door_lane *lane, struct env_sock *sock)
{
	struct guest *guest = CONTAINER_OF(lane, struct guest, lane);

	*guest = (struct guest) { .sock = sock };
}

static void guest_leave(struct guest *guest)
{
	close_one(&fake.env, guest->sock);
	door_lane_put(&guest->lane);
}

static void guest_drop(struct door_lane *lane, int why)
{
	struct guest *guest = CONTAINER_OF(lane, struct guest, lane);

	guest->drops++;
	guest->why = why;
	guest_leave(guest);
}

static const struct door_kind kind = {
	.door_size = sizeof(struct door),
	.lane_size = sizeof(struct guest),
	.lane_offset = offsetof(struct guest, lane),
	.extra_size = extra_size,
	.init = door_init_cb,
	.fini = door_fini_cb,
	.begin = guest_begin,
	.drop = guest_drop,
};
static const struct xprt_ops xprt = { .name = "test", .door = &kind };

/* --- the tests' hands --- */

static struct xprt_listener *start(const char *address, uint32_t lane_max)
{
	struct xprt_listener *listener = NULL;

	env_fake_init(&fake, 1);
	ops = *fake.env.ops;
	ops.sock_listen = listen_to;
	ops.sock_accept = accept_one;
	ops.sock_watch = watch;
	ops.sock_close = close_one;
	fake.env.ops = &ops;
	sock_count = waiting = watched = ended = 0;
	accept_rc = 0;
	assert_int_equal(door_listen(&xprt, &fake.env, address, lane_max, NULL, NULL, &listener),
			 0);
	return listener;
}

static void end(void)
{
	assert_int_equal(fake.held, 0);
	env_fake_fini(&fake);
}

/* The door is told what it has asked to hear of. */
static void come(uint32_t count)
{
	waiting += count;
	for (uint32_t i = 0; i < 2 && waiting > 0 && watched != 0; i++)
		ready(&door_sock, door_here, watched);
}

static struct guest *guest_of(uint32_t index)
{
	return (struct guest *)(void *)door_here->memory + index;
}

static void pass(uint64_t ns)
{
	fake.now_ns += ns;
	(void)fake.env.ops->poll(&fake.env, 0);
}

/* --- tests --- */

static void a_stranger_has_its_time_and_no_more(void **state)
{
	struct xprt_listener *listener = start("here", 3);

	come(3);
	door_lane_known(&guest_of(1)->lane);
	door_lane_known(&guest_of(2)->lane);
	pass(DOOR_STRANGER_NS - 1);
	assert_int_equal(guest_of(0)->drops, 0);
	door_lane_stranger(&guest_of(2)->lane); /* refused: a time of its own */
	pass(1);
	assert_int_equal(guest_of(0)->drops, 1);
	assert_int_equal(guest_of(0)->why, -ETIMEDOUT);
	pass(DOOR_STRANGER_NS - 2);
	assert_int_equal(guest_of(2)->drops, 0);
	pass(1);
	assert_int_equal(guest_of(2)->drops, 1);
	pass(100 * DOOR_STRANGER_NS);
	assert_int_equal(guest_of(1)->drops, 0); /* he is known */
	guest_leave(guest_of(1));
	door_unlisten(&listener);
	assert_int_equal(ended, 1);
	end();
}

static void the_oldest_stranger_goes_for_the_next(void **state)
{
	struct xprt_listener *listener = start("here", LANES);

	come(DOOR_STRANGER_MAX);
	assert_int_equal(door_here->stranger_count, DOOR_STRANGER_MAX);
	door_lane_known(&guest_of(0)->lane);
	come(1); /* in his place */
	assert_int_equal(guest_of(1)->drops, 0);
	come(2);
	assert_int_equal(guest_of(0)->drops, 0);
	assert_int_equal(guest_of(1)->why, -ERR_BUSY);
	assert_int_equal(guest_of(2)->why, -ERR_BUSY);
	assert_int_equal(guest_of(3)->drops, 0);
	assert_int_equal(door_here->stranger_count, DOOR_STRANGER_MAX);
	assert_int_equal(waiting, 0);
	door_unlisten(&listener);
	assert_int_equal(ended, 0); /* one is known */
	guest_leave(guest_of(0));
	assert_int_equal(ended, 1);
	end();
}

static void a_full_door_rests_until_one_leaves(void **state)
{
	struct xprt_listener *listener = start("here", 2);

	come(2);
	door_lane_known(&guest_of(0)->lane);
	door_lane_known(&guest_of(1)->lane);
	come(1);
	assert_int_equal(watched, 0);
	assert_int_equal(waiting, 1);
	door_hold(door_here); /* as a turn of its lanes does: none has left */
	door_release(door_here);
	assert_int_equal(watched, 0);
	guest_leave(guest_of(1));
	come(0);
	assert_int_equal(waiting, 0);
	door_unlisten(&listener);
	guest_leave(guest_of(0));
	assert_int_equal(ended, 1);
	end();
}

/* Nobody leaves, but one of those who are in is refused. */
static void a_full_door_looks_for_a_stranger_again(void **state)
{
	struct xprt_listener *listener = start("here", 1);

	come(1);
	door_lane_known(&guest_of(0)->lane);
	come(1);
	assert_int_equal(watched, 0);
	door_lane_stranger(&guest_of(0)->lane);
	pass(DOOR_REST_NS);
	come(0);
	assert_int_equal(waiting, 0);
	assert_false(socks[0].is_open);
	assert_true(socks[1].is_open);
	door_unlisten(&listener);
	assert_int_equal(ended, 1);
	end();
}

static void without_descriptors_it_rests_for_a_while(void **state)
{
	struct xprt_listener *listener = start("here", 2);

	accept_rc = -EMFILE;
	come(1);
	assert_int_equal(watched, 0);
	door_hold(door_here);
	door_release(door_here);
	pass(DOOR_REST_NS - 1);
	assert_int_equal(watched, 0);
	pass(1);
	come(0);
	assert_int_equal(watched, 0); /* they are short still */
	accept_rc = 0;
	pass(DOOR_REST_NS);
	come(0);
	assert_int_equal(waiting, 0);
	door_unlisten(&listener);
	assert_int_equal(ended, 1);
	end();
}

/* Those who came by another door are strangers like others when they are refused here. */
static void the_refused_are_no_more_than_strangers_may_be(void **state)
{
	struct xprt_listener *listener = start(NULL, LANES);

	for (uint32_t i = 0; i < LANES; i++) {
		struct door_lane *lane;

		socks[i].is_open = true;
		lane = door_lane_take(door_here, &socks[i]);
		door_lane_known(lane);
		door_lane_stranger(lane);
		assert_true(door_here->stranger_count <= DOOR_STRANGER_MAX);
	}
	assert_true(socks[LANES - 1].is_open);
	assert_false(socks[0].is_open);
	door_unlisten(&listener);
	assert_int_equal(ended, 1);
	end();
}

static void a_shut_door_takes_whom_it_is_given(void **state)
{
	static struct env_sock given[3];
	struct xprt_listener *listener = start(NULL, 2);
	struct door_lane *lanes[2];
	char name[8] = "?";

	door_name(listener, name, sizeof(name));
	assert_string_equal(name, "");
	for (uint32_t i = 0; i < ARRAY_LEN(given); i++)
		given[i].is_open = true;
	for (uint32_t i = 0; i < ARRAY_LEN(lanes); i++) {
		lanes[i] = door_lane_take(door_here, &given[i]);
		assert_non_null(lanes[i]);
		door_lane_known(lanes[i]);
	}
	assert_null(door_lane_take(door_here, &given[2]));
	assert_false(given[2].is_open);
	door_hold(door_here);
	door_unlisten(&listener);
	for (uint32_t i = 0; i < ARRAY_LEN(lanes); i++)
		guest_leave(CONTAINER_OF(lanes[i], struct guest, lane));
	assert_int_equal(ended, 0); /* held */
	door_release(door_here);
	assert_int_equal(ended, 1);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stranger_has_its_time_and_no_more),
		cmocka_unit_test(the_oldest_stranger_goes_for_the_next),
		cmocka_unit_test(a_full_door_rests_until_one_leaves),
		cmocka_unit_test(a_full_door_looks_for_a_stranger_again),
		cmocka_unit_test(without_descriptors_it_rests_for_a_while),
		cmocka_unit_test(the_refused_are_no_more_than_strangers_may_be),
		cmocka_unit_test(a_shut_door_takes_whom_it_is_given),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
