/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases at the server: what they hold, who may read under them, extend and end them, when they
 * end, and how far each limit lets them go.
 */
#include <stdlib.h>
#include <string.h>

#include "rig.h"

#define SIZE 3000u

struct lease_answer {
	struct wire_bitmap bitmap;
	uint8_t bits[4];
};

static struct lease_answer lease(struct raw_client *client, uint32_t first, uint16_t count,
				 uint32_t flags, uint32_t duration_ms)
{
	struct raw_client_frame *frame = malloc(sizeof(*frame));
	struct lease_answer answer = { 0 };
	struct wire_key keys[32];

	assert_non_null(frame);
	assert_true(count <= ARRAY_LEN(keys));
	for (uint32_t i = 0; i < count; i++)
		keys[i] = rig_key(first + i);
	(void)raw_client_lease(client, keys, count, flags, duration_ms);
	assert_true(raw_client_recv(client, frame));
	assert_int_equal(frame->header.kind, WIRE_BITMAP);
	memcpy(&answer.bitmap, frame->body, sizeof(answer.bitmap));
	memcpy(answer.bits, frame->body + sizeof(answer.bitmap), (count + 7u) / 8);
	assert_int_equal(answer.bitmap.status, 0);
	free(frame);
	return answer;
}

static int renew(struct raw_client *client, uint64_t id, uint32_t duration_ms)
{
	return raw_client_finish(client, raw_client_renew(client, id, duration_ms), NULL, NULL,
				 NULL);
}

static void start(struct rig *rig, struct raw_client *client)
{
	rig_start(rig, false);
	rig_client(rig, client);
}

static void stop(struct rig *rig, struct raw_client *client)
{
	raw_client_close(client);
	RIG_UNTIL(rig, rig_metrics(rig).leases == 0 || rig->opts.idle_ns > NS_PER_S);
	rig_stop(rig);
}

static void it_holds_the_leading_run_or_all(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct lease_answer run;
	struct lease_answer all;

	rig_init(&rig);
	start(&rig, &client);
	for (uint32_t i = 0; i < 12; i++) {
		if (i != 3)
			rig_put(&client, i, SIZE, 0, 0);
	}
	run = lease(&client, 0, 12, 0, 5000);
	assert_int_equal(run.bits[0], 0xf7);
	assert_int_equal(run.bits[1], 0x0f);
	assert_int_equal(run.bitmap.leased, 3);
	assert_int_equal(run.bitmap.duration_ms, 5000);
	assert_int_not_equal(run.bitmap.lease, 0);
	assert_int_equal(rig_metrics(&rig).store_leased, 3 * SIZE);

	all = lease(&client, 0, 12, WIRE_REQ_ALL, 5000);
	assert_int_equal(all.bitmap.leased, 11);
	assert_int_not_equal(all.bitmap.lease, run.bitmap.lease);
	assert_int_equal(rig_metrics(&rig).store_leased_blocks, 11);
	assert_int_equal(rig_metrics(&rig).leases, 2);

	/* The first lease holds what the second lets go of. */
	assert_int_equal(renew(&client, all.bitmap.lease, 0), 0);
	assert_int_equal(rig_metrics(&rig).store_leased_blocks, 3);
	assert_int_equal(renew(&client, all.bitmap.lease, 1000), -ERR_MISS);
	assert_int_equal(renew(&client, run.bitmap.lease, 0), 0);
	assert_int_equal(rig_metrics(&rig).store_leased_blocks, 0);

	/* Nothing is there, or no time is asked for: no lease. */
	assert_int_equal(lease(&client, 100, 2, 0, 5000).bitmap.lease, 0);
	run = lease(&client, 0, 2, WIRE_REQ_WARM, 0);
	assert_int_equal(run.bits[0], 3);
	assert_int_equal(run.bitmap.lease, 0);
	assert_int_equal(run.bitmap.leased, 0);
	assert_int_equal(rig_metrics(&rig).leases_granted, 2);
	assert_int_equal(rig_metrics(&rig).leases_shortened, 0);
	stop(&rig, &client);
}

static void it_ends_at_its_deadline_unless_renewed(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct lease_answer answer;

	rig_init(&rig);
	rig.opts.lease_ms_max = 400;
	start(&rig, &client);
	rig_put(&client, 1, SIZE, 0, 0);
	answer = lease(&client, 1, 1, 0, 1u << 31);
	assert_int_equal(answer.bitmap.duration_ms, 400);
	for (uint32_t i = 0; i < 3; i++) {
		rig_run_ns(&rig, 200 * NS_PER_MS);
		assert_int_equal(renew(&client, answer.bitmap.lease, 100000), 0);
	}
	assert_int_equal(rig_metrics(&rig).leases, 1);
	RIG_UNTIL(&rig, rig_metrics(&rig).leases == 0);
	assert_int_equal(rig_metrics(&rig).leases_expired, 1);
	assert_int_equal(rig_metrics(&rig).store_leased, 0);
	assert_int_equal(renew(&client, answer.bitmap.lease, 1000), -ERR_MISS);
	answer = lease(&client, 1, 1, 0, 20);
	RIG_UNTIL(&rig, rig_metrics(&rig).leases_expired == 2);
	stop(&rig, &client);
}

static void it_ends_with_its_session(void **state)
{
	struct rig rig;
	struct raw_client owner;
	struct raw_client other;
	struct lease_answer answer;

	rig_init(&rig);
	rig.opts.idle_ns = 20 * NS_PER_MS;
	start(&rig, &owner);
	rig_client(&rig, &other);
	rig_put(&owner, 1, SIZE, 0, 0);
	answer = lease(&owner, 1, 1, 0, 60000);
	assert_int_equal(renew(&other, answer.bitmap.lease, 60000), 0);
	raw_client_close(&owner);
	RIG_UNTIL(&rig, rig_metrics(&rig).leases == 0);
	assert_int_equal(rig_metrics(&rig).store_leased, 0);
	assert_int_equal(rig_metrics(&rig).leases_expired, 0);
	assert_int_equal(renew(&other, answer.bitmap.lease, 60000), -ERR_MISS);
	stop(&rig, &other);
}

/* Another session of the tenant reads what has expired, under the lease and only so. */
static void expired_blocks_are_read_under_it(void **state)
{
	struct rig rig;
	struct raw_client owner;
	struct raw_client other;
	struct lease_answer answer;
	struct lease_answer second;

	rig_init(&rig);
	start(&rig, &owner);
	rig_client(&rig, &other);
	rig_put(&owner, 1, SIZE, 0, 1);
	rig_put(&owner, 2, SIZE, 0, 1);
	rig_put(&owner, 3, SIZE, 0, 0);
	answer = lease(&owner, 1, 1, 0, 60000);
	second = lease(&owner, 3, 1, 0, 60000);
	rig_run_ns(&rig, 2 * NS_PER_S);
	other.lease = answer.bitmap.lease;
	assert_int_equal(rig_get(&other, 1, SIZE), 0);
	assert_int_equal(rig_get(&other, 2, SIZE), -ERR_MISS);
	assert_int_equal(rig_get(&owner, 1, SIZE), -ERR_MISS);
	assert_int_equal(rig_get(&other, 1, SIZE), 0);
	other.lease = 12345;
	assert_int_equal(rig_get(&other, 1, SIZE), -ERR_MISS);
	assert_int_equal(rig_get(&other, 3, SIZE), 0); /* what is there needs no lease */
	other.lease = answer.bitmap.lease;
	assert_int_equal(renew(&owner, answer.bitmap.lease, 0), 0);
	assert_int_equal(rig_get(&other, 1, SIZE), -ERR_MISS);
	assert_int_equal(renew(&owner, second.bitmap.lease, 0), 0);
	raw_client_close(&owner);
	stop(&rig, &other);
}

static void a_drop_outranks_it(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct wire_key key = rig_key(1);
	struct lease_answer first;
	struct lease_answer again;

	rig_init(&rig);
	start(&rig, &client);
	rig_put(&client, 1, SIZE, 0, 0);
	rig_put(&client, 2, SIZE, 0, 0);
	first = lease(&client, 1, 2, 0, 60000);
	client.lease = first.bitmap.lease;
	assert_int_equal(raw_client_finish(&client, raw_client_keys(&client, WIRE_DROP, &key, 1),
					   NULL, NULL, NULL),
			 0);
	assert_int_equal(rig_get(&client, 1, SIZE), -ERR_MISS);
	assert_int_equal(rig_metrics(&rig).store_leased_blocks, 1);

	/* Put again and leased again, it is held until the last of both leases ends. */
	rig_put(&client, 1, SIZE, 0, 0);
	again = lease(&client, 1, 1, 0, 60000);
	assert_int_equal(again.bitmap.leased, 1);
	assert_int_equal(rig_metrics(&rig).store_leased_blocks, 2);
	assert_int_equal(renew(&client, again.bitmap.lease, 0), 0);
	assert_int_equal(rig_metrics(&rig).store_leased_blocks, 2);
	assert_int_equal(renew(&client, first.bitmap.lease, 0), 0);
	assert_int_equal(rig_metrics(&rig).store_leased_blocks, 0);
	assert_int_equal(rig_get(&client, 1, SIZE), 0);
	stop(&rig, &client);
}

/* Its id is no secret to another tenant, and of no use. */
static void another_tenant_has_no_part_in_it(void **state)
{
	struct rig rig;
	struct raw_client alice;
	struct raw_client bob;
	struct lease_answer answer;

	rig_init(&rig);
	start(&rig, &alice);
	raw_client_open(&bob, rig.port, rig_poll, &rig);
	assert_int_equal(raw_client_hello(&bob, "bob", &rig.tenants->rows[1].secrets[0]), 0);
	rig_put(&alice, 1, SIZE, 0, 0);
	answer = lease(&alice, 1, 1, 0, 60000);
	assert_int_equal(renew(&bob, answer.bitmap.lease, 0), -ERR_MISS);
	bob.lease = answer.bitmap.lease;
	assert_int_equal(rig_get(&bob, 1, SIZE), -ERR_MISS);
	assert_int_equal(lease(&bob, 1, 1, 0, 60000).bitmap.leased, 0);
	assert_int_equal(rig_metrics(&rig).leases, 1);
	raw_client_close(&bob);
	stop(&rig, &alice);
}

static void a_table_that_is_full_shortens_it(void **state)
{
	struct rig rig;
	struct raw_client first;
	struct raw_client second;
	struct lease_answer answer;

	rig_init(&rig);
	rig.opts.lease_max = 8; /* two a session */
	rig.opts.lease_block_max = 16;
	start(&rig, &first);
	rig_client(&rig, &second);
	for (uint32_t i = 0; i < 8; i++)
		rig_put(&first, i, SIZE, 0, 0);
	answer = lease(&first, 0, 8, 0, 60000);
	assert_int_equal(answer.bits[0], 0xff);
	assert_int_equal(answer.bitmap.leased, 4);
	assert_int_equal(rig_metrics(&rig).leases_shortened, 1);
	assert_int_equal(lease(&first, 0, 1, 0, 60000).bitmap.lease, 0);
	assert_int_equal(rig_metrics(&rig).leases_shortened, 2);
	assert_int_equal(renew(&first, answer.bitmap.lease, 0), 0);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(lease(&first, i, 1, 0, 60000).bitmap.leased, 1);
	assert_int_equal(lease(&first, 2, 1, 0, 60000).bitmap.lease, 0);
	assert_int_equal(rig_metrics(&rig).leases_shortened, 3);
	/* Not so for another session. */
	assert_int_equal(lease(&second, 0, 2, 0, 60000).bitmap.leased, 2);
	raw_client_close(&second);
	stop(&rig, &first);
}

static void bytes_are_shared_among_tenants(void **state)
{
	const uint32_t size = MiB;
	struct rig rig;
	struct raw_client alice;
	struct raw_client bob;
	struct lease_answer answer;

	rig_init(&rig);
	start(&rig, &alice);
	raw_client_open(&bob, rig.port, rig_poll, &rig);
	assert_int_equal(raw_client_hello(&bob, "bob", &rig.tenants->rows[1].secrets[0]), 0);
	for (uint32_t i = 0; i < 20; i++) {
		rig_put(&alice, i, size, 0, 0);
		rig_put(&bob, i, size, 0, 0);
	}
	/* 16 of 64 MiB: one may have half, the next half of what is left, and so on. */
	answer = lease(&alice, 0, 20, 0, 60000);
	assert_int_equal(answer.bitmap.leased, 8);
	assert_int_equal(lease(&bob, 0, 20, 0, 60000).bitmap.leased, 4);
	assert_int_equal(lease(&alice, 19, 1, 0, 60000).bitmap.leased, 0);
	assert_int_equal(lease(&alice, 0, 8, 0, 60000).bitmap.leased, 8); /* costs nothing */
	assert_int_equal(rig_metrics(&rig).store_leased, 12 * size);
	raw_client_close(&bob);
	stop(&rig, &alice);
}

/* Leased blocks stay while the memory is written over; then they go like any. */
static void what_it_holds_is_not_forgotten(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct lease_answer answer;

	rig_init(&rig);
	start(&rig, &client);
	for (uint32_t i = 0; i < 4; i++)
		rig_put(&client, i, MiB, 0, 0);
	answer = lease(&client, 0, 2, 0, 60000);
	for (uint32_t i = 100; i < 250; i++)
		rig_put(&client, i, MiB, 0, 0);
	assert_int_equal(rig_get(&client, 0, MiB), 0);
	assert_int_equal(rig_get(&client, 1, MiB), 0);
	assert_int_equal(renew(&client, answer.bitmap.lease, 0), 0);
	for (uint32_t i = 300; i < 450; i++)
		rig_put(&client, i, MiB, 0, 0);
	assert_int_equal(rig_get(&client, 100, MiB), -ERR_MISS);
	stop(&rig, &client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_holds_the_leading_run_or_all),
		cmocka_unit_test(it_ends_at_its_deadline_unless_renewed),
		cmocka_unit_test(it_ends_with_its_session),
		cmocka_unit_test(expired_blocks_are_read_under_it),
		cmocka_unit_test(a_drop_outranks_it),
		cmocka_unit_test(another_tenant_has_no_part_in_it),
		cmocka_unit_test(a_table_that_is_full_shortens_it),
		cmocka_unit_test(bytes_are_shared_among_tenants),
		cmocka_unit_test(what_it_holds_is_not_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
