/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proofs, keys and MACs are those of docs/protocol.md: the vectors are printed by auth_vectors.py,
 * which shares nothing with auth.c. What must not pass does not: another role, another byte of the
 * transcript, a frame changed, dropped, repeated, reflected or moved to another lane. A frame
 * allocates nothing.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "../../../src/base/text.h"
#include "../../../src/wire/auth.h"
#include "../../lib/t.h"

static uint64_t allocation_count;

static void *counting_malloc(size_t size, const char *file, int line)
{
	allocation_count++;
	return malloc(size);
}

static void *counting_realloc(void *ptr, size_t size, const char *file, int line)
{
	allocation_count++;
	return realloc(ptr, size);
}

static void counting_free(void *ptr, const char *file, int line)
{
	free(ptr);
}

static void fill_seq(uint8_t *bytes, size_t size, uint8_t first)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(first + i);
}

static struct auth_secret test_secret(void)
{
	struct auth_secret secret;

	fill_seq(secret.bytes, sizeof(secret.bytes), 0x01);
	return secret;
}

/* As in auth_vectors.py. */
static struct auth_transcript transcript_make(enum wire_mode mode, uint64_t session, uint16_t lane)
{
	struct auth_secret secret = test_secret();
	struct auth_transcript transcript = {
		.preface = {
			.version_min = 1,
			.version_max = 1,
			.mode = (uint8_t)mode,
			.reactor = 0xffff,
			.incarnation = UINT64_C(0x1122334455667788),
			.session = session,
		},
		.hello = { .tenant = "acme", .transports = WIRE_XPRT_TCP, .lane = lane },
		.challenge = { .version = 1, .incarnation = UINT64_C(0x1122334455667788) },
	};

	memcpy(transcript.preface.magic, WIRE_PREFACE_MAGIC, 8);
	fill_seq(transcript.hello.nonce, 32, 0x40);
	auth_secret_id(&secret, transcript.hello.secret_id);
	fill_seq(transcript.challenge.nonce, 32, 0x60);
	fill_seq(transcript.challenge.server, 16, 0xb0);
	fill_seq(transcript.challenge.proof, 32, 0xee); /* not signed: must not matter */
	return transcript;
}

static struct auth_key session_make(void)
{
	struct auth_transcript transcript = transcript_make(WIRE_MODE_NEW, 0, 0);
	struct auth_secret secret = test_secret();
	struct auth_key session;

	auth_session_key(&secret, &transcript, &session);
	return session;
}

static struct auth_mac *mac_make(uint16_t lane, enum wire_direction direction)
{
	struct auth_transcript transcript = transcript_make(WIRE_MODE_NEW, 0, lane);
	struct auth_key session = session_make();
	struct auth_mac *mac = NULL;

	assert_int_equal(auth_mac_create(&session, &transcript, direction, &mac), 0);
	assert_non_null(mac);
	return mac;
}

static void expect_hex(const void *bytes, size_t size, const char *hex)
{
	char text[2 * 64 + 1];

	assert_string_equal(text_format_hex(text, sizeof(text), bytes, size), hex);
}

static void proofs_and_keys_match_the_vectors(void **state)
{
	struct auth_transcript new = transcript_make(WIRE_MODE_NEW, 0, 0);
	struct auth_transcript join =
		transcript_make(WIRE_MODE_JOIN, UINT64_C(0x0102030405060708), 3);
	struct auth_secret secret = test_secret();
	struct auth_key session = session_make();
	uint8_t proof[32];

	expect_hex(new.hello.secret_id, 8, "4d088466246f9aa3");
	auth_proof(&secret, AUTH_SERVER, &new, proof);
	expect_hex(proof, 32, "6c613703505189193bd8742508809b558546a63fbe4935d32ebe294b1b0c27ca");
	auth_proof(&secret, AUTH_CLIENT, &new, proof);
	expect_hex(proof, 32, "be175dc7e4dd24ad78365e08ca91fdd30a0375d0c1c7b4ffb8f92d34ed5b4137");
	expect_hex(&session, 32,
		   "47db0aa1ee80becb8c62517b4fce581b2734ee8885688c5e8cbdacfa1335f1ae");
	auth_proof(&session, AUTH_SERVER, &join, proof);
	expect_hex(proof, 32, "3daa806b62fe00a764bedde272259f89df2f8fe35008ab4c0dd7af89baaab42a");
	auth_proof(&session, AUTH_CLIENT, &join, proof);
	expect_hex(proof, 32, "d7fb6d2425517e37ccabf436f35117c853f2906ddfe9358bfeac5605d9e62296");
}

static void names_match_the_vectors(void **state)
{
	uint8_t id[16];

	auth_domain_id("acme", id);
	expect_hex(id, 16, "b0febc656227d8048527bee506aa7502");
	auth_namespace_id("model=llama;dtype=bf16", id);
	expect_hex(id, 16, "292e70957cd65574b31fff7942187f70");
}

/* Whoever changes one byte of preface, hello or challenge on the way is found out by both sides. */
static void every_byte_of_the_transcript_is_signed(void **state)
{
	const struct auth_transcript good = transcript_make(WIRE_MODE_NEW, 0, 0);
	struct auth_secret secret = test_secret();
	uint8_t good_proof[32];
	uint8_t proof[32];

	auth_proof(&secret, AUTH_CLIENT, &good, good_proof);
	for (size_t i = 0; i < sizeof(good); i++) {
		struct auth_transcript bad = good;
		bool is_proof = i >= offsetof(struct auth_transcript, challenge) +
					     offsetof(struct wire_challenge, proof);

		((uint8_t *)&bad)[i] ^= 0x80;
		auth_proof(&secret, AUTH_CLIENT, &bad, proof);
		assert_int_equal(auth_proof_equal(good_proof, proof), is_proof);
	}
	/* What one side says is no proof of the other. */
	auth_proof(&secret, AUTH_SERVER, &good, proof);
	assert_false(auth_proof_equal(good_proof, proof));
	secret.bytes[31] ^= 1;
	auth_proof(&secret, AUTH_CLIENT, &good, proof);
	assert_false(auth_proof_equal(good_proof, proof));
}

static void proofs_differ_by_any_bit(void **state)
{
	uint8_t a[32] = { 0 };
	uint8_t b[32] = { 0 };

	assert_true(auth_proof_equal(a, b));
	for (size_t bit = 0; bit < 256; bit++) {
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(auth_proof_equal(a, b));
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* --- frames --- */

struct frame {
	struct wire_header header;
	uint64_t body[8];
};

static struct frame stat_make(void)
{
	struct frame frame = { 0 };
	struct wire_request request = { .budget_ns = NS_PER_S };

	wire_header_init(&frame.header, WIRE_STAT, 18, 0, sizeof(request));
	memcpy(frame.body, &request, sizeof(request));
	return frame;
}

static void macs_match_the_vectors(void **state)
{
	struct auth_mac *lane0 = mac_make(0, WIRE_C2S);
	struct auth_mac *answers = mac_make(0, WIRE_S2C);
	struct auth_mac *lane3 = mac_make(3, WIRE_C2S);
	struct frame frame = stat_make();
	struct wire_data data = { .item = 1, .offset = MiB };
	struct wire_notice notice = { 0 };

	auth_mac_seal(lane0, &frame.header, frame.body);
	expect_hex(frame.header.mac, 16, "563cd2d8aaf43259d579b7c520a7139b");
	auth_mac_seal(lane3, &frame.header, frame.body);
	expect_hex(frame.header.mac, 16, "d838bf6cfe63865882cbc982a4e5aac5");

	wire_header_init(&frame.header, WIRE_DATA_PUT, 10, 0, sizeof(data));
	frame.header.payload_size = MiB;
	auth_mac_seal(lane0, &frame.header, &data);
	expect_hex(frame.header.mac, 16, "c51ae454404119b3dc36f5bbb89a36a8");

	wire_header_init(&frame.header, (enum wire_kind)77, 0, 0, 0);
	auth_mac_seal(lane0, &frame.header, NULL);
	expect_hex(frame.header.mac, 16, "0c4fe8c0244761de960b7a1c85817947");

	wire_header_init(&frame.header, WIRE_NOTICE, 0, 0, sizeof(notice));
	frame.header.credit = 5;
	auth_mac_seal(answers, &frame.header, &notice);
	expect_hex(frame.header.mac, 16, "aae8c1e121ff064602151cb5491da551");

	auth_mac_destroy(&lane0);
	auth_mac_destroy(&answers);
	auth_mac_destroy(&lane3);
	assert_null(lane0);
	auth_mac_destroy(&lane0);
}

static void sealed_frames_are_accepted_in_their_order(void **state)
{
	struct auth_mac *out = mac_make(0, WIRE_C2S);
	struct auth_mac *in = mac_make(0, WIRE_C2S);
	struct frame frames[3];

	for (uint32_t i = 0; i < 3; i++) {
		frames[i] = stat_make();
		auth_mac_seal(out, &frames[i].header, frames[i].body);
	}
	assert_false(auth_mac_check(in, &frames[1].header, frames[1].body)); /* one was dropped */
	assert_true(auth_mac_check(in, &frames[0].header, frames[0].body));
	assert_false(auth_mac_check(in, &frames[0].header, frames[0].body)); /* replayed */
	assert_false(auth_mac_check(in, &frames[2].header, frames[2].body)); /* reordered */
	assert_true(auth_mac_check(in, &frames[1].header, frames[1].body));
	assert_true(auth_mac_check(in, &frames[2].header, frames[2].body));
	auth_mac_destroy(&out);
	auth_mac_destroy(&in);
}

static void a_changed_frame_is_refused(void **state)
{
	struct auth_mac *out = mac_make(0, WIRE_C2S);
	struct auth_mac *in = mac_make(0, WIRE_C2S);
	struct frame good = stat_make();
	size_t size = sizeof(good.header) + good.header.body_size;

	auth_mac_seal(out, &good.header, good.body);
	for (size_t bit = 0; bit < size * 8; bit++) {
		struct frame bad = good;

		/* Not the body's size: a transport has checked it before. */
		if (bit / 8 - offsetof(struct wire_header, body_size) < 4)
			continue;
		((uint8_t *)&bad)[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(auth_mac_check(in, &bad.header, bad.body));
	}
	good.header.body_size -= 8; /* truncated */
	assert_false(auth_mac_check(in, &good.header, good.body));
	good.header.body_size += 8;
	assert_true(auth_mac_check(in, &good.header, good.body));
	auth_mac_destroy(&out);
	auth_mac_destroy(&in);
}

/* Reflected to who sent it, moved to another lane, or kept from an earlier connection. */
static void a_frame_belongs_to_one_lane_and_direction(void **state)
{
	struct auth_mac *out = mac_make(0, WIRE_C2S);
	struct auth_mac *back = mac_make(0, WIRE_S2C);
	struct auth_mac *lane1 = mac_make(1, WIRE_C2S);
	struct auth_transcript later = transcript_make(WIRE_MODE_NEW, 0, 0);
	struct auth_key session = session_make();
	struct auth_mac *fresh_client = NULL;
	struct auth_mac *fresh_server = NULL;
	struct frame frame = stat_make();

	later.hello.nonce[0] ^= 1;
	assert_int_equal(auth_mac_create(&session, &later, WIRE_C2S, &fresh_client), 0);
	later.hello.nonce[0] ^= 1;
	later.challenge.nonce[31] ^= 1;
	assert_int_equal(auth_mac_create(&session, &later, WIRE_C2S, &fresh_server), 0);

	auth_mac_seal(out, &frame.header, frame.body);
	assert_false(auth_mac_check(back, &frame.header, frame.body));
	assert_false(auth_mac_check(lane1, &frame.header, frame.body));
	assert_false(auth_mac_check(fresh_client, &frame.header, frame.body));
	assert_false(auth_mac_check(fresh_server, &frame.header, frame.body));

	auth_mac_destroy(&out);
	auth_mac_destroy(&back);
	auth_mac_destroy(&lane1);
	auth_mac_destroy(&fresh_client);
	auth_mac_destroy(&fresh_server);
}

static void a_frame_allocates_nothing(void **state)
{
	struct auth_mac *out = mac_make(0, WIRE_C2S);
	struct auth_mac *in = mac_make(0, WIRE_C2S);
	struct frame frame = stat_make();
	uint64_t before = allocation_count;

	assert_true(before > 0); /* the count works */
	for (uint32_t i = 0; i < 100; i++) {
		auth_mac_seal(out, &frame.header, frame.body);
		assert_true(auth_mac_check(in, &frame.header, frame.body));
	}
	assert_int_equal(allocation_count, before);
	auth_mac_destroy(&out);
	auth_mac_destroy(&in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(proofs_and_keys_match_the_vectors),
		cmocka_unit_test(names_match_the_vectors),
		cmocka_unit_test(every_byte_of_the_transcript_is_signed),
		cmocka_unit_test(proofs_differ_by_any_bit),
		cmocka_unit_test(macs_match_the_vectors),
		cmocka_unit_test(sealed_frames_are_accepted_in_their_order),
		cmocka_unit_test(a_changed_frame_is_refused),
		cmocka_unit_test(a_frame_belongs_to_one_lane_and_direction),
		cmocka_unit_test(a_frame_allocates_nothing),
	};

	if (CRYPTO_set_mem_functions(counting_malloc, counting_realloc, counting_free) != 1)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
