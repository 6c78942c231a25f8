/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that has a secret and does not keep to the protocol: its session ends, or it is told
 * no; the server and other sessions go on.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "rig.h"

struct abuse {
	struct rig rig;
	struct raw_client client;
	struct raw_client other; /* must not notice */
};

static void abuse_begin(struct abuse *abuse)
{
	rig_init(&abuse->rig);
	rig_start(&abuse->rig, false);
	rig_client(&abuse->rig, &abuse->client);
	rig_client(&abuse->rig, &abuse->other);
}

/* The other session still works. */
static void abuse_end(struct abuse *abuse)
{
	struct raw_client_put put = { rig_key(1000), "x", 1, true };
	uint64_t request = raw_client_put(&abuse->other, &put, 1, 0, NS_PER_S);

	assert_int_equal(raw_client_finish(&abuse->other, request, NULL, &put, NULL), 0);
	raw_client_close(&abuse->client);
	raw_client_close(&abuse->other);
	rig_stop(&abuse->rig);
}

static void a_request_id_in_use_ends_the_session(void **state)
{
	struct abuse abuse;
	uint8_t *bytes = calloc(1, MiB);
	struct raw_client_put put = { rig_key(1), bytes, MiB, false };

	abuse_begin(&abuse);
	(void)raw_client_put(&abuse.client, &put, 1, 0, 5 * NS_PER_S);
	abuse.client.request--;
	put.key = rig_key(2);
	(void)raw_client_put(&abuse.client, &put, 1, 0, 5 * NS_PER_S);
	RIG_UNTIL(&abuse.rig, rig_metrics(&abuse.rig).sessions == 1);
	assert_int_equal(rig_metrics(&abuse.rig).protocol_errors, 1);
	/* Its unfinished put went with it. */
	RIG_UNTIL(&abuse.rig, rig_metrics(&abuse.rig).ops == 0);
	free(bytes);
	abuse_end(&abuse);
}

static void more_than_its_credit_ends_the_session(void **state)
{
	struct abuse abuse;
	uint8_t *bytes = calloc(1, 60000);
	struct raw_client_put put = { rig_key(1), bytes, 60000, true };
	struct raw_client_put follow = { rig_key(2), bytes, 60000, true };
	struct raw_client_put first = { rig_key(2), bytes, 60000, false };

	abuse_begin(&abuse);
	/* One is fine, and again when its credit is back. */
	for (uint32_t i = 0; i < 5; i++) {
		uint64_t request = raw_client_put(&abuse.client, &put, 1, 0, NS_PER_S);

		assert_int_equal(raw_client_finish(&abuse.client, request, NULL, &put, NULL), 0);
	}
	/* This one's bytes stay with the server: it follows a put that nobody fills. */
	(void)raw_client_put(&abuse.other, &first, 1, 0, 500 * NS_PER_MS);
	RIG_UNTIL(&abuse.rig, rig_metrics(&abuse.rig).put_blocks == 6);
	(void)raw_client_put(&abuse.client, &follow, 1, 0, NS_PER_S);
	RIG_UNTIL(&abuse.rig, rig_metrics(&abuse.rig).put_followed == 1);
	assert_int_equal(rig_metrics(&abuse.rig).sessions, 2);
	put.key = rig_key(3);
	(void)raw_client_put(&abuse.client, &put, 1, 0, NS_PER_S);
	RIG_UNTIL(&abuse.rig, rig_metrics(&abuse.rig).sessions == 1);
	assert_int_equal(rig_metrics(&abuse.rig).protocol_errors, 1);
	free(bytes);
	abuse_end(&abuse);
}

static void requests_beyond_the_limit_are_busy(void **state)
{
	struct abuse abuse;
	uint8_t *bytes = calloc(1, MiB);
	uint64_t cancel;
	uint64_t last = 0;
	uint32_t max;

	abuse_begin(&abuse);
	max = abuse.client.welcome.request_max;
	for (uint32_t i = 0; i <= max; i++) {
		struct raw_client_put put = { rig_key(i), bytes, MiB, false };
		uint64_t request = raw_client_put(&abuse.client, &put, 1, 0, 5 * NS_PER_S);

		if (i < max) {
			last = request;
			continue;
		}
		/* Grants of the others come meanwhile, and are not answered. */
		for (;;) {
			static struct raw_client_frame frame;
			const struct wire_result *result = (const void *)frame.body;

			assert_true(raw_client_recv(&abuse.client, &frame));
			if (frame.header.kind == WIRE_GRANT)
				continue;
			assert_int_equal(frame.header.request, request);
			assert_int_equal(frame.header.flags, WIRE_FLAG_LAST);
			assert_int_equal(result->status, -ERR_BUSY);
			break;
		}
	}
	assert_int_equal(rig_metrics(&abuse.rig).busy_requests, 1);
	/* A CANCEL is heard all the same. */
	cancel = raw_client_cancel(&abuse.client, &last, 1);
	assert_int_equal(raw_client_finish(&abuse.client, cancel, NULL, NULL, NULL), 0);
	assert_int_equal(rig_metrics(&abuse.rig).cancels, 1);
	raw_client_close(&abuse.client);
	RIG_UNTIL(&abuse.rig, rig_metrics(&abuse.rig).ops == 0);
	free(bytes);
	abuse_end(&abuse);
}

static void items_beyond_the_limit_are_busy(void **state)
{
	static struct wire_result results[WIRE_ITEM_MAX];
	struct rig rig;
	struct raw_client client;
	struct wire_key keys[300];
	uint64_t request;
	uint32_t busy = 0;

	rig_init(&rig);
	rig.opts.operation_max = 200;
	rig_start(&rig, false);
	rig_client(&rig, &client);
	for (uint32_t i = 0; i < 300; i++)
		keys[i] = rig_key(i);
	request = raw_client_get(&client, keys, 300, 0, 10, NS_PER_S);
	assert_int_equal(raw_client_finish(&client, request, NULL, NULL, results), -ERR_MISS);
	for (uint32_t i = 0; i < 300; i++) {
		assert_int_equal(results[i].item, i);
		if (results[i].status == -ERR_BUSY)
			busy++;
		else
			assert_int_equal(results[i].status, -ERR_MISS);
	}
	assert_int_equal(busy, 100);
	assert_int_equal(rig_metrics(&rig).busy_items, 100);
	raw_client_close(&client);
	rig_stop(&rig);
}

static void what_a_tenant_may_not_see_is_denied(void **state)
{
	struct abuse abuse;
	struct {
		struct wire_request request;
		struct wire_key key;
	} body = { { .budget_ns = NS_PER_S }, rig_key(1) };
	struct raw_client_frame frame;
	struct wire_header header;

	abuse_begin(&abuse);
	auth_domain_id("bob", body.request.domain);
	wire_header_init(&header, WIRE_PROBE, 1, 1, sizeof(body));
	assert_true(raw_client_send(&abuse.client, &header, &body, NULL));
	assert_true(raw_client_recv(&abuse.client, &frame));
	assert_int_equal(((struct wire_bitmap *)(void *)frame.body)->status, -ERR_DENIED);
	assert_int_equal(rig_metrics(&abuse.rig).denied, 1);
	abuse_end(&abuse);
}

static void frames_that_are_not_allowed_end_the_lane(void **state)
{
	/* What is wrong: too large a body, a hello frame, a kind from the wrong side, no id. */
	static const struct {
		enum wire_kind kind;
		uint64_t request;
		uint32_t body_size;
	} rows[] = {
		{ WIRE_GET, 1, (uint32_t)GiB },
		{ WIRE_PROOF, 0, sizeof(struct wire_proof) },
		{ WIRE_REPLY, 1, sizeof(struct wire_result) },
		{ WIRE_STAT, 0, sizeof(struct wire_request) },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct abuse abuse;
		static uint64_t body[32];
		struct wire_header header;

		abuse_begin(&abuse);
		wire_header_init(&header, rows[i].kind, rows[i].request, 0, rows[i].body_size);
		if (rows[i].body_size > sizeof(body)) {
			header.magic = WIRE_MAGIC;
			assert_true(raw_client_write(&abuse.client, &header, sizeof(header)));
		} else {
			assert_true(raw_client_send(&abuse.client, &header, body, NULL));
		}
		assert_true(raw_client_is_closed(&abuse.client));
		assert_int_equal(rig_metrics(&abuse.rig).lanes_lost, 1);
		abuse_end(&abuse);
	}
}

static void a_kind_not_known_is_refused_and_skipped(void **state)
{
	struct abuse abuse;
	struct raw_client_frame frame;
	struct wire_header header;
	static uint8_t body[1000];
	const struct wire_result *result = (const void *)frame.body;

	abuse_begin(&abuse);
	wire_header_init(&header, 99, 5, 3, sizeof(body));
	assert_true(raw_client_send(&abuse.client, &header, body, NULL));
	assert_true(raw_client_recv(&abuse.client, &frame));
	assert_int_equal(frame.header.kind, WIRE_REPLY);
	assert_int_equal(frame.header.request, 5);
	assert_int_equal(frame.header.count, 1);
	assert_int_equal(frame.header.flags, WIRE_FLAG_LAST);
	assert_int_equal(result->status, -ERR_UNSUPPORTED);
	(void)raw_client_plain(&abuse.client, WIRE_STAT);
	assert_true(raw_client_recv(&abuse.client, &frame));
	assert_int_equal(frame.header.kind, WIRE_TEXT);
	abuse_end(&abuse);
}

static void a_frame_cut_short_never_was(void **state)
{
	struct abuse abuse;
	struct raw_client_put put = { rig_key(1), "abc", 3, true };
	struct {
		struct wire_request request;
		struct wire_put put;
	} body = { { .budget_ns = NS_PER_S },
		   { .key = put.key, .size = 3, .flags = WIRE_PUT_INLINE } };
	struct wire_header header;
	uint64_t request;

	abuse_begin(&abuse);
	wire_header_init(&header, WIRE_PUT, 1, 1, sizeof(body));
	header.payload_size = 3;
	header.magic = WIRE_MAGIC;
	auth_mac_seal(abuse.client.out, &header, &body);
	assert_true(raw_client_write(&abuse.client, &header, sizeof(header)));
	assert_true(raw_client_write(&abuse.client, &body, sizeof(body)));
	assert_true(raw_client_write(&abuse.client, "ab", 2));
	raw_client_close(&abuse.client);
	RIG_UNTIL(&abuse.rig, rig_metrics(&abuse.rig).lanes_lost == 1);
	request = raw_client_get(&abuse.other, &put.key, 1, 0, 3, NS_PER_S);
	assert_int_equal(raw_client_finish(&abuse.other, request, NULL, NULL, NULL), -ERR_MISS);
	abuse_end(&abuse);
}

static void too_large_a_block_is_told_so(void **state)
{
	struct abuse abuse;
	struct raw_client_put put = { rig_key(1), NULL, 4 * MiB + 1, false };
	struct wire_key key = rig_key(2);
	struct raw_client_put small = { key, "abc", 3, true };

	abuse_begin(&abuse);
	assert_int_equal(raw_client_finish(&abuse.client,
					   raw_client_put(&abuse.client, &put, 1, 0, NS_PER_S),
					   NULL, NULL, NULL),
			 -ERR_TOO_LARGE);
	assert_int_equal(rig_metrics(&abuse.rig).put_too_large, 1);
	assert_int_equal(raw_client_finish(&abuse.client,
					   raw_client_put(&abuse.client, &small, 1, 0, NS_PER_S),
					   NULL, NULL, NULL),
			 0);
	assert_int_equal(raw_client_finish(&abuse.client,
					   raw_client_get(&abuse.client, &key, 1, 3, 1, NS_PER_S),
					   NULL, NULL, NULL),
			 -EINVAL);
	abuse_end(&abuse);
}

/* xorshift64*: the same frames every time. */
static uint32_t chance(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)(*state * UINT64_C(2685821657736338717) >> 32);
}

/* A request of some kind with plausible fields, some of them spoilt, under a right MAC. */
static void send_spoilt(struct raw_client *client, uint64_t *state)
{
	static const uint8_t kinds[] = { WIRE_PROBE, WIRE_LEASE,   WIRE_GET,       WIRE_PUT,
					 WIRE_PUT,   WIRE_DROP,    WIRE_CANCEL,    WIRE_RENEW,
					 WIRE_GET,   WIRE_DECLARE, WIRE_UNDECLARE, WIRE_REPORT,
					 WIRE_STAT,  WIRE_DATA_PUT };
	static uint64_t body[64];
	static const uint8_t payload[256];
	struct wire_request *request = (void *)body;
	struct wire_put *put = (void *)(request + 1);
	struct wire_get *get = (void *)(request + 1);
	struct wire_cancel *cancel = (void *)(request + 1);
	struct wire_declare *declare = (void *)(request + 1);
	uint8_t kind = kinds[chance(state) % ARRAY_LEN(kinds)];
	struct wire_header header;
	uint32_t size = sizeof(*request);
	uint16_t count = 1;

	memset(body, 0, sizeof(body));
	request->budget_ns = chance(state) % (50 * NS_PER_MS);
	request->lease = kind == WIRE_RENEW;
	wire_header_init(&header, kind, 0, 0, 0);
	if (kind == WIRE_PUT) {
		put->key = rig_key(chance(state) % 8);
		put->size = 1 + chance(state) % (chance(state) % 2 ? 200 : 3 * MiB);
		if (put->size <= 200) {
			put->flags = WIRE_PUT_INLINE;
			header.payload_size = put->size;
		}
		size += sizeof(*put);
	} else if (kind == WIRE_GET) {
		get->key = rig_key(chance(state) % 8);
		get->offset = chance(state) % 4 == 0 ? chance(state) % 1000 : 0;
		get->size = 1 + chance(state) % (4 * MiB);
		size += sizeof(*get);
	} else if (kind == WIRE_CANCEL) {
		cancel->request = client->request - chance(state) % 4;
		size += sizeof(*cancel);
	} else if (kind == WIRE_PROBE || kind == WIRE_LEASE || kind == WIRE_DROP) {
		put->key = rig_key(chance(state) % 8);
		size += sizeof(put->key);
	} else if (kind == WIRE_DATA_PUT) {
		memset(body, 0, sizeof(body));
		size = sizeof(struct wire_data);
		header.payload_size = 1 + chance(state) % 256;
		count = 0;
	} else {
		size += kind == WIRE_DECLARE     ? sizeof(struct wire_declare)
			: kind == WIRE_UNDECLARE ? sizeof(struct wire_undeclare)
			: kind == WIRE_REPORT    ? sizeof(struct wire_report)
						 : 0;
		*declare = (struct wire_declare) { .region = 1, .size = 1 };
		if (kind == WIRE_DECLARE) {
			declare->kind = WIRE_REGION_LOOP;
			declare->access = 1;
		}
		count = 0;
	}
	header.request = ++client->request;
	header.count = count;
	header.body_size = size;
	if (chance(state) % 12 == 0) {
		uint8_t *bytes = chance(state) % 4 == 0 ? (uint8_t *)&header + 4 : (uint8_t *)body;
		uint32_t room = bytes == (uint8_t *)body ? size : 20;

		bytes[chance(state) % room] ^= (uint8_t)(1u << chance(state) % 8);
	}
	if (header.body_size > sizeof(body) || header.payload_size > sizeof(payload))
		return; /* what it announces would have to be sent */
	(void)raw_client_send(client, &header, body, payload);
}

/* Whatever comes, the server stands; when the clients are gone nothing is held. */
static void spoilt_frames_do_not_harm_the_server(void **state)
{
	uint64_t random = 7;

	for (int is_file = 0; is_file < 2; is_file++) {
		struct rig rig;
		struct raw_client client;
		char sink[65536];

		rig_init(&rig);
		rig_start(&rig, is_file);
		for (uint32_t i = 0; i < 150; i++) {
			rig_client(&rig, &client);
			for (uint32_t j = 0; j < 20; j++) {
				send_spoilt(&client, &random);
				if (chance(&random) % 2 == 0)
					rig_poll(&rig);
				while (recv(client.fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
					;
			}
			raw_client_close(&client);
		}
		RIG_UNTIL(&rig, reactor_is_idle(rig.reactor));
		assert_int_equal(rig_metrics(&rig).ops, 0);
		assert_int_equal(rig_metrics(&rig).buffers_used, 0);
		assert_true(rig_metrics(&rig).requests > 500);
		assert_true(rig_metrics(&rig).protocol_errors + rig_metrics(&rig).lanes_lost > 50);
		rig_stop(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_id_in_use_ends_the_session),
		cmocka_unit_test(more_than_its_credit_ends_the_session),
		cmocka_unit_test(requests_beyond_the_limit_are_busy),
		cmocka_unit_test(items_beyond_the_limit_are_busy),
		cmocka_unit_test(what_a_tenant_may_not_see_is_denied),
		cmocka_unit_test(frames_that_are_not_allowed_end_the_lane),
		cmocka_unit_test(a_kind_not_known_is_refused_and_skipped),
		cmocka_unit_test(a_frame_cut_short_never_was),
		cmocka_unit_test(too_large_a_block_is_told_so),
		cmocka_unit_test(spoilt_frames_do_not_harm_the_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
