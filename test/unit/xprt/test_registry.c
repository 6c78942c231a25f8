/* SPDX-License-Identifier: Apache-2.0 */
/* The registry holds well-formed transports only, and the checker catches every kind of liar. */
#include "../../../src/xprt/xprt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void all_in_the_registry_are_well_formed(void **state)
{
	assert_true(xprt_count > 0);
	for (size_t i = 0; i < xprt_count; i++) {
		assert_null(xprt_ops_check(xprt_list[i]));
		assert_ptr_equal(xprt_find(xprt_list[i]->name), xprt_list[i]);
		for (size_t k = 0; k < i; k++)
			assert_int_not_equal(xprt_list[i]->transport, xprt_list[k]->transport);
	}
	assert_null(xprt_ops_check(&xprt_loop_mapped));
	assert_null(xprt_find("pigeon"));
	assert_null(xprt_find(""));
}

/* Ops that were well formed, but for one thing. */
#define LIAR(change)                                                                               \
	do {                                                                                       \
		struct xprt_ops ops = xprt_tcp;                                                    \
                                                                                                   \
		change;                                                                            \
		assert_non_null(xprt_ops_check(&ops));                                             \
	} while (0)

static void a_missing_op_is_noticed(void **state)
{
	LIAR(ops.listen_size = NULL);
	LIAR(ops.listen = NULL);
	LIAR(ops.unlisten = NULL);
	LIAR(ops.listener_name = NULL);
	LIAR(ops.connect = NULL);
	LIAR(ops.send = NULL);
	LIAR(ops.close = NULL);
	LIAR(ops.secure = NULL);
	LIAR(ops.peer_name = NULL);
	LIAR(ops.push = NULL);
	LIAR(ops.pull = NULL);
	LIAR(ops.revoke = NULL);
	LIAR(ops.forget = NULL);
}

static int fake_declare(struct xprt_lane *lane, struct xprt_region *region)
{
	return 0;
}

static void fake_undeclare(struct xprt_lane *lane, struct xprt_region *region)
{
}

static int fake_region_add(struct xprt_group *group, const struct wire_declare *declare)
{
	return 0;
}

static int fake_region_remove(struct xprt_group *group, uint32_t region)
{
	return 0;
}

static int fake_map(struct xprt_group *group, const struct wire_seg *segs, uint32_t seg_count,
		    struct iovec *iov_out, void **hold_out)
{
	return 0;
}

static int fake_unmap(void **hold)
{
	return 0;
}

static void fake_fence(struct xprt_lane *lane, struct xprt_fence *fence)
{
}

static struct xprt_ops direct_ops(void)
{
	struct xprt_ops ops = xprt_tcp;

	ops.caps |= XPRT_CAP_DIRECT;
	ops.seg_max = XPRT_MOVE_SEG_MAX;
	ops.forget = NULL;
	ops.declare = fake_declare;
	ops.undeclare = fake_undeclare;
	ops.region_add = fake_region_add;
	ops.region_remove = fake_region_remove;
	return ops;
}

#define DIRECT_LIAR(change)                                                                        \
	do {                                                                                       \
		struct xprt_ops ops = direct_ops();                                                \
                                                                                                   \
		assert_null(xprt_ops_check(&ops));                                                 \
		change;                                                                            \
		assert_non_null(xprt_ops_check(&ops));                                             \
	} while (0)

static void capabilities_and_ops_must_agree(void **state)
{
	LIAR(ops.caps |= XPRT_CAP_DIRECT);
	LIAR(ops.declare = fake_declare);
	LIAR(ops.undeclare = fake_undeclare);
	LIAR(ops.region_add = fake_region_add);
	LIAR(ops.region_remove = fake_region_remove);
	LIAR(ops.seg_max = 1);
	DIRECT_LIAR(ops.caps &= ~(uint32_t)XPRT_CAP_DIRECT);
	DIRECT_LIAR(ops.declare = NULL);
	DIRECT_LIAR(ops.undeclare = NULL);
	DIRECT_LIAR(ops.region_add = NULL);
	DIRECT_LIAR(ops.region_remove = NULL);
	DIRECT_LIAR(ops.forget = xprt_tcp.forget);
	DIRECT_LIAR(ops.seg_max = 0);
	DIRECT_LIAR(ops.seg_max = XPRT_MOVE_SEG_MAX + 1);
	DIRECT_LIAR(ops.caps |= XPRT_CAP_MAPPED);
	DIRECT_LIAR(ops.map = fake_map);
	DIRECT_LIAR(ops.unmap = fake_unmap);
	LIAR((ops.caps |= XPRT_CAP_MAPPED, ops.map = fake_map, ops.unmap = fake_unmap));
	LIAR(ops.fence = fake_fence);
	LIAR(ops.caps &= ~(uint32_t)(XPRT_CAP_SYNC_RELEASE | XPRT_CAP_CLOSE_FENCES));
}

static void names_and_bits_are_checked(void **state)
{
	LIAR(ops.name = NULL);
	LIAR(ops.name = "");
	LIAR(ops.transport = 0);
	LIAR(ops.lane_max = 0);
	LIAR(ops.lane_max = WIRE_LANE_MAX + 1);
	LIAR(ops.transport = WIRE_XPRT_TCP | WIRE_XPRT_SHM);
	LIAR(ops.caps |= 1u << 31);
}

static void lanes_fill_one_by_one_and_then_the_emptiest_is_picked(void **state)
{
	struct xprt_lane lanes[4] = {
		{ .backlog_size = XPRT_STRIPE_SIZE - 1 },
		{ .backlog_size = 10 },
		{ .backlog_size = UINT64_MAX },
		{ .backlog_size = XPRT_STRIPE_SIZE + 10 },
	};
	struct xprt_group group;

	xprt_group_init(&group, lanes);
	assert_ptr_equal(group.ctx, lanes);
	assert_true(list_is_empty(&group.pulls));
	assert_null(xprt_group_pick(&group));

	group.lanes[2] = &lanes[2];
	group.lane_count = 3;
	assert_null(xprt_group_pick(&group)); /* it is broken */

	group.lanes[4] = &lanes[0];
	group.lanes[5] = &lanes[1];
	group.lanes[7] = &lanes[3];
	group.lane_count = 8;
	assert_ptr_equal(xprt_group_pick(&group),
			 &lanes[0]); /* little more goes with what it has */
	lanes[0].backlog_size = XPRT_STRIPE_SIZE;
	assert_ptr_equal(xprt_group_pick(&group), &lanes[1]);
	lanes[0].backlog_size = 10;
	assert_ptr_equal(xprt_group_pick(&group), &lanes[0]);
	lanes[0].is_blocked = true; /* its peer may stand still: only what it has waits for it */
	assert_ptr_equal(xprt_group_pick(&group), &lanes[1]);
	lanes[0] = (struct xprt_lane) { .backlog_size = XPRT_STRIPE_SIZE };
	lanes[1].backlog_size = 4 * XPRT_STRIPE_SIZE;
	assert_ptr_equal(xprt_group_pick(&group), &lanes[0]);
	lanes[0].backlog_size = 3 * XPRT_STRIPE_SIZE;
	assert_ptr_equal(xprt_group_pick(&group), &lanes[3]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_in_the_registry_are_well_formed),
		cmocka_unit_test(a_missing_op_is_noticed),
		cmocka_unit_test(capabilities_and_ops_must_agree),
		cmocka_unit_test(names_and_bits_are_checked),
		cmocka_unit_test(lanes_fill_one_by_one_and_then_the_emptiest_is_picked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
