/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who gets in: one with the secret; nobody else, whatever of a true hello he repeats or cuts. What
 * strangers may take of the server is bounded in number and time.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"

static void the_secret_opens_a_session(void **state)
{
	struct rig rig;
	struct raw_client client;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &client);
	assert_int_equal(client.welcome.incarnation, 77);
	assert_int_equal(client.welcome.block_max, 4 * MiB);
	assert_int_equal(client.welcome.lane_max, 4);
	assert_int_equal(client.welcome.credit, 64 * KiB);
	assert_in_range(client.welcome.request_max, 1, 16);
	assert_int_equal(client.welcome.rights, WIRE_RIGHT_READ | WIRE_RIGHT_WRITE);
	assert_int_equal(rig_metrics(&rig).sessions, 1);
	raw_client_close(&client);
	rig_stop(&rig);
}

static void a_wrong_secret_and_an_unknown_tenant_look_alike(void **state)
{
	static const char *const names[] = { "alice", "mallory" };
	struct rig rig;
	struct raw_client client;
	struct auth_secret wrong = { { 1, 2, 3 } };

	rig_init(&rig);
	rig_start(&rig, false);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		raw_client_open(&client, rig.port, rig_poll, &rig);
		raw_client_preface(&client, WIRE_MODE_NEW, 0, 0);
		assert_int_equal(raw_client_challenge(&client, names[i], &wrong, 0), 0);
		assert_int_equal(raw_client_prove(&client, &wrong), -ERR_AUTH);
		assert_true(raw_client_is_closed(&client));
		raw_client_close(&client);
	}
	assert_int_equal(rig_metrics(&rig).auth_failures, 2);
	assert_int_equal(rig_metrics(&rig).sessions_opened, 0);
	rig_stop(&rig);
}

/* Another tenant's good secret does not prove alice. */
static void a_tenant_cannot_be_another(void **state)
{
	struct rig rig;
	struct raw_client client;
	const struct auth_secret *bob;

	rig_init(&rig);
	rig_start(&rig, false);
	bob = &rig.tenants->rows[1].secrets[0];
	raw_client_open(&client, rig.port, rig_poll, &rig);
	raw_client_preface(&client, WIRE_MODE_NEW, 0, 0);
	assert_int_equal(raw_client_challenge(&client, "alice", bob, 0), 0);
	assert_int_equal(raw_client_prove(&client, bob), -ERR_AUTH);
	raw_client_close(&client);
	rig_stop(&rig);
}

/* What a listener on the wire has seen of a good hello is worth nothing on another connection. */
static void a_replayed_hello_is_refused(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct raw_client replay;
	struct raw_client_frame frame;
	struct wire_header header;
	struct wire_proof proof;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &client);
	auth_proof(&rig.secret, AUTH_CLIENT, &client.transcript, proof.proof);

	raw_client_open(&replay, rig.port, rig_poll, &rig);
	assert_true(raw_client_write(&replay, &client.transcript.preface,
				     sizeof(client.transcript.preface)));
	wire_header_init(&header, WIRE_HELLO, 0, 0, sizeof(client.transcript.hello));
	assert_true(raw_client_send(&replay, &header, &client.transcript.hello, NULL));
	assert_true(raw_client_recv(&replay, &frame));
	assert_int_equal(frame.header.kind, WIRE_CHALLENGE);
	wire_header_init(&header, WIRE_PROOF, 0, 0, sizeof(proof));
	assert_true(raw_client_send(&replay, &header, &proof, NULL));
	assert_true(raw_client_recv(&replay, &frame));
	assert_int_equal(frame.header.kind, WIRE_REFUSE);
	assert_int_equal(((struct wire_refuse *)(void *)frame.body)->code, -ERR_AUTH);
	raw_client_close(&replay);
	raw_client_close(&client);
	rig_stop(&rig);
}

static void a_lane_joins_with_the_sessions_key_only(void **state)
{
	struct rig rig;
	struct raw_client first;
	struct raw_client second;
	struct raw_client wrong;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &first);
	raw_client_open(&second, rig.port, rig_poll, &rig);
	assert_int_equal(raw_client_join(&second, &first, "alice", 1), 0);
	assert_int_equal(second.welcome.session, first.welcome.session);

	/* The number is taken; the number is too large; the key is wrong; another tenant. */
	raw_client_open(&wrong, rig.port, rig_poll, &rig);
	assert_int_equal(raw_client_join(&wrong, &first, "alice", 1), -ERR_BUSY);
	raw_client_close(&wrong);
	raw_client_open(&wrong, rig.port, rig_poll, &rig);
	assert_int_equal(raw_client_join(&wrong, &first, "alice", 4), -ERR_BUSY);
	raw_client_close(&wrong);
	raw_client_open(&wrong, rig.port, rig_poll, &rig);
	raw_client_preface(&wrong, WIRE_MODE_JOIN, 77, first.welcome.session);
	assert_int_equal(raw_client_challenge(&wrong, "alice", NULL, 2), 0);
	assert_int_equal(raw_client_prove(&wrong, &rig.secret), -ERR_AUTH);
	raw_client_close(&wrong);
	raw_client_open(&wrong, rig.port, rig_poll, &rig);
	raw_client_preface(&wrong, WIRE_MODE_JOIN, 77, first.welcome.session);
	assert_int_equal(raw_client_challenge(&wrong, "bob", NULL, 2), 0);
	assert_int_equal(raw_client_prove(&wrong, &first.key), -ERR_AUTH);
	raw_client_close(&wrong);

	raw_client_close(&second);
	raw_client_close(&first);
	rig_stop(&rig);
}

static void a_join_needs_this_incarnation_and_session(void **state)
{
	struct rig rig;
	struct raw_client first;
	struct raw_client second;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &first);
	raw_client_open(&second, rig.port, rig_poll, &rig);
	raw_client_preface(&second, WIRE_MODE_JOIN, 76, first.welcome.session);
	assert_int_equal(raw_client_challenge(&second, "alice", NULL, 1), -ERR_CHANGED);
	raw_client_close(&second);
	raw_client_open(&second, rig.port, rig_poll, &rig);
	raw_client_preface(&second, WIRE_MODE_JOIN, 77, first.welcome.session + 1);
	assert_int_equal(raw_client_challenge(&second, "alice", NULL, 1), -ERR_CHANGED);
	raw_client_close(&second);
	raw_client_close(&first);
	rig_stop(&rig);
}

static void frames_out_of_place_end_a_connection(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct wire_proof proof = { { 0 } };
	struct wire_header header;

	rig_init(&rig);
	rig_start(&rig, false);
	raw_client_open(&client, rig.port, rig_poll, &rig);
	raw_client_preface(&client, WIRE_MODE_NEW, 0, 0);
	wire_header_init(&header, WIRE_PROOF, 0, 0, sizeof(proof));
	assert_true(raw_client_send(&client, &header, &proof, NULL));
	assert_true(raw_client_is_closed(&client));
	raw_client_close(&client);

	raw_client_open(&client, rig.port, rig_poll, &rig);
	raw_client_preface(&client, WIRE_MODE_NEW, 0, 0);
	(void)raw_client_plain(&client, WIRE_STAT);
	assert_true(raw_client_is_closed(&client));
	raw_client_close(&client);
	assert_int_equal(rig_metrics(&rig).protocol_errors, 2);
	rig_stop(&rig);
}

static void a_wrong_or_repeated_mac_ends_the_lane(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct wire_request request = { .budget_ns = NS_PER_S };
	struct wire_header header;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &client);
	client.is_mac_wrong = true;
	(void)raw_client_plain(&client, WIRE_STAT);
	assert_true(raw_client_is_closed(&client));
	raw_client_close(&client);

	rig_client(&rig, &client);
	wire_header_init(&header, WIRE_STAT, 1, 0, sizeof(request));
	assert_true(raw_client_send(&client, &header, &request, NULL));
	assert_true(raw_client_write(&client, &header, sizeof(header)));
	assert_true(raw_client_write(&client, &request, sizeof(request)));
	RIG_UNTIL(&rig, rig_metrics(&rig).lanes_lost == 2);
	assert_int_equal(rig_metrics(&rig).requests, 1);
	raw_client_close(&client);
	rig_stop(&rig);
}

static void strangers_are_bounded_in_number_and_time(void **state)
{
	struct rig rig;
	struct raw_client clients[3];
	struct raw_client late;

	rig_init(&rig);
	rig.opts.pending_max = 3;
	rig.opts.hello_ns = 200 * NS_PER_MS;
	rig_start(&rig, false);
	for (size_t i = 0; i < 3; i++) {
		raw_client_open(&clients[i], rig.port, rig_poll, &rig);
		raw_client_preface(&clients[i], WIRE_MODE_NEW, 0, 0);
	}
	RIG_UNTIL(&rig, rig_metrics(&rig).connections == 3);
	raw_client_open(&late, rig.port, rig_poll, &rig);
	raw_client_preface(&late, WIRE_MODE_NEW, 0, 0);
	assert_int_equal(raw_client_challenge(&late, "alice", &rig.secret, 0), -ERR_BUSY);
	raw_client_close(&late);

	for (size_t i = 0; i < 3; i++) {
		assert_true(raw_client_is_closed(&clients[i]));
		raw_client_close(&clients[i]);
	}
	assert_int_equal(rig_metrics(&rig).hello_timeouts, 3);
	rig_client(&rig, &late);
	raw_client_close(&late);
	rig_stop(&rig);
}

/* Whatever the first were given, the last has its least, and who ends gives all of it back. */
static void there_are_as_many_sessions_as_promised(void **state)
{
	struct raw_client clients[64];
	struct raw_client late;
	struct rig rig;

	rig_init(&rig);
	rig.opts.session_max = ARRAY_LEN(clients);
	rig.opts.request_max = 256;
	rig_start(&rig, false);
	for (uint32_t round = 0; round < 2; round++) {
		for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
			rig_client(&rig, &clients[i]);
			assert_in_range(clients[i].welcome.request_max, 8, 256);
		}
		assert_in_range(clients[0].welcome.request_max, 16, 256);
		assert_int_equal(rig_metrics(&rig).sessions, ARRAY_LEN(clients));
		raw_client_open(&late, rig.port, rig_poll, &rig);
		assert_int_equal(raw_client_hello(&late, "alice", &rig.secret), -ERR_BUSY);
		raw_client_close(&late);
		for (size_t i = 0; i < ARRAY_LEN(clients); i++)
			raw_client_close(&clients[i]);
		RIG_UNTIL(&rig,
			  rig_metrics(&rig).sessions_closed == (round + 1) * ARRAY_LEN(clients));
	}
	rig_stop(&rig);
}

/* Have a lease: what a session is kept for when its lanes have ended. */
static void lease_take(struct raw_client *client)
{
	struct raw_client_frame *frame = malloc(sizeof(*frame));
	const struct wire_key key = rig_key(1);

	assert_non_null(frame);
	rig_put(client, 1, 4096, 0, 0);
	(void)raw_client_lease(client, &key, 1, 0, 60000);
	assert_true(raw_client_recv(client, frame));
	assert_int_equal(frame->header.kind, WIRE_BITMAP);
	free(frame);
}

static void sessions_are_bounded_and_idle_ones_make_room(void **state)
{
	struct rig rig;
	struct raw_client a;
	struct raw_client b;
	struct raw_client c;

	rig_init(&rig);
	rig.opts.session_max = 2;
	rig_start(&rig, false);
	rig_client(&rig, &a);
	rig_client(&rig, &b);
	raw_client_open(&c, rig.port, rig_poll, &rig);
	assert_int_equal(raw_client_hello(&c, "alice", &rig.secret), -ERR_BUSY);
	raw_client_close(&c);

	lease_take(&a);
	raw_client_close(&a);
	RIG_UNTIL(&rig, rig_metrics(&rig).lanes_lost == 1);
	assert_int_equal(rig_metrics(&rig).sessions, 1);
	assert_int_equal(rig_metrics(&rig).sessions_idle, 1); /* others may read under its lease */
	rig_client(&rig, &c);
	assert_int_equal(rig_metrics(&rig).sessions, 2);
	assert_int_equal(rig_metrics(&rig).sessions_idle, 0);
	raw_client_close(&b);
	raw_client_close(&c);
	rig_stop(&rig);
}

static void a_session_ends_with_its_last_lane_or_in_time_with_its_leases(void **state)
{
	for (int has_lease = 0; has_lease < 2; has_lease++) {
		struct rig rig;
		struct raw_client client;
		struct raw_client second;

		rig_init(&rig);
		if (has_lease)
			rig.opts.idle_ns = 100 * NS_PER_MS;
		rig_start(&rig, false);
		rig_client(&rig, &client);
		raw_client_open(&second, rig.port, rig_poll, &rig);
		assert_int_equal(raw_client_join(&second, &client, "alice", 1), 0);
		if (has_lease)
			lease_take(&client);
		raw_client_close(&client);
		RIG_UNTIL(&rig, rig_metrics(&rig).lanes_lost == 1);
		assert_int_equal(rig_metrics(&rig).sessions, 1);
		raw_client_close(&second);
		RIG_UNTIL(&rig, rig_metrics(&rig).lanes_lost == 2);
		assert_int_equal(rig_metrics(&rig).sessions, 0);
		assert_int_equal(rig_metrics(&rig).sessions_idle, has_lease);
		RIG_UNTIL(&rig, rig_metrics(&rig).sessions_closed == 1);
		assert_int_equal(rig_metrics(&rig).leases, 0);
		rig_stop(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_secret_opens_a_session),
		cmocka_unit_test(a_wrong_secret_and_an_unknown_tenant_look_alike),
		cmocka_unit_test(a_tenant_cannot_be_another),
		cmocka_unit_test(a_replayed_hello_is_refused),
		cmocka_unit_test(a_lane_joins_with_the_sessions_key_only),
		cmocka_unit_test(a_join_needs_this_incarnation_and_session),
		cmocka_unit_test(frames_out_of_place_end_a_connection),
		cmocka_unit_test(a_wrong_or_repeated_mac_ends_the_lane),
		cmocka_unit_test(strangers_are_bounded_in_number_and_time),
		cmocka_unit_test(sessions_are_bounded_and_idle_ones_make_room),
		cmocka_unit_test(there_are_as_many_sessions_as_promised),
		cmocka_unit_test(a_session_ends_with_its_last_lane_or_in_time_with_its_leases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
