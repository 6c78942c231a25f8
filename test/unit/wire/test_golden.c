/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each struct of wire.h, filled field by field with the values of golden.def, must have its bytes:
 * nothing about the format can change unnoticed.
 */
#include "golden.h"

/* An array of bytes that count up from first: "seq". */
#define SEQ8(a) (a), (a) + 1, (a) + 2, (a) + 3, (a) + 4, (a) + 5, (a) + 6, (a) + 7
#define SEQ16(a)                                                                                   \
	{                                                                                          \
		SEQ8(a), SEQ8((a) + 8)                                                             \
	}
#define SEQ32(a)                                                                                   \
	{                                                                                          \
		SEQ8(a), SEQ8((a) + 8), SEQ8((a) + 16), SEQ8((a) + 24)                             \
	}

#define INCARNATION UINT64_C(0x1122334455667788)
#define SESSION     UINT64_C(0x0102030405060708)

/* What the tests below build: parts are appended to a body. */
struct build {
	struct wire_header header;
	_Alignas(8) uint8_t body[GOLDEN_BODY_MAX];
	uint32_t size;
};

static void add(struct build *build, const void *part, size_t size)
{
	assert_true(size <= sizeof(build->body) - build->size);
	memcpy(build->body + build->size, part, size);
	build->size += (uint32_t)size;
}

#define ADD(build, ...) add((build), &(__VA_ARGS__), sizeof(__VA_ARGS__))

static void init(struct build *build, enum wire_kind kind, uint64_t request, uint16_t count)
{
	memset(build, 0, sizeof(*build));
	wire_header_init(&build->header, kind, request, count, 0);
}

static void expect(enum golden_id id, struct build *build)
{
	struct golden_frame frame;

	build->header.body_size = build->size;
	golden_load(id, &frame);
	assert_memory_equal(&build->header, &frame.header, sizeof(frame.header));
	assert_memory_equal(build->body, frame.body, build->size);
	assert_int_equal(wire_check_header(&build->header, golden[id].direction), 0);
	assert_int_equal(wire_check_body(&build->header, build->body), 0);
}

static const struct wire_request plain = {
	.ns = SEQ16(0x10),
	.domain = SEQ16(0x20),
	.budget_ns = NS_PER_S,
};
static const struct wire_request nameless = { .budget_ns = NS_PER_S };
static const struct wire_key key_a = { SEQ32(0x30) };
static const struct wire_key key_b = { SEQ32(0x50) };

static void hello_frames_have_their_bytes(void **state)
{
	struct build build;
	struct wire_preface preface = {
		.version_min = 1,
		.version_max = 1,
		.mode = WIRE_MODE_JOIN,
		.reactor = 0xffff,
		.incarnation = INCARNATION,
		.session = SESSION,
	};
	uint8_t bytes[sizeof(preface)];

	memcpy(preface.magic, WIRE_PREFACE_MAGIC, sizeof(preface.magic));
	assert_int_equal(golden_decode(golden_preface, bytes, sizeof(bytes)), sizeof(preface));
	assert_memory_equal(&preface, bytes, sizeof(bytes));
	assert_int_equal(wire_check_preface(&preface), 0);

	init(&build, WIRE_HELLO, 0, 0);
	ADD(&build, (struct wire_hello) {
			    .tenant = "acme",
			    .nonce = SEQ32(0x40),
			    .secret_id = { SEQ8(0xa0) },
			    .transports = WIRE_XPRT_TCP,
			    .lane = 3,
		    });
	expect(GOLDEN_hello, &build);

	init(&build, WIRE_CHALLENGE, 0, 0);
	ADD(&build, (struct wire_challenge) {
			    .version = 1,
			    .nonce = SEQ32(0x60),
			    .server = SEQ16(0xb0),
			    .incarnation = INCARNATION,
			    .proof = SEQ32(0xc0),
		    });
	expect(GOLDEN_challenge, &build);

	init(&build, WIRE_PROOF, 0, 0);
	ADD(&build, (struct wire_proof) { SEQ32(0xe0) });
	expect(GOLDEN_proof, &build);

	init(&build, WIRE_REFUSE, 0, 0);
	ADD(&build, (struct wire_refuse) {
			    .code = -ERR_AUTH,
			    .text = "unknown tenant or wrong secret",
		    });
	expect(GOLDEN_refuse, &build);
}

static void welcome_has_its_bytes(void **state)
{
	struct build build;

	init(&build, WIRE_WELCOME, 0, 2);
	build.header.credit = 4 * MiB;
	ADD(&build, (struct wire_welcome) {
			    .session = SESSION,
			    .incarnation = INCARNATION,
			    .server = SEQ16(0xb0),
			    .block_max = 16 * MiB,
			    .credit = 4 * MiB,
			    .request_max = 256,
			    .weight = 1000,
			    .capacity = UINT64_C(1) << 40,
			    .reactor = 1,
			    .reactor_count = 2,
			    .lane_max = 16,
			    .verify = WIRE_VERIFY_MEDIUM,
			    .rights = WIRE_RIGHT_READ | WIRE_RIGHT_WRITE,
			    .offer_count = 1,
			    .stall_ms = 5000,
		    });
	ADD(&build, (struct wire_shard) { .uuid = SEQ16(0x01), .weight = 700 });
	ADD(&build,
	    (struct wire_shard) { .uuid = SEQ16(0x11), .index = 1, .reactor = 1, .weight = 300 });
	ADD(&build, (struct wire_offer) {
			    .transport = WIRE_XPRT_SHM,
			    .reactor = 1,
			    .address = "/run/ctxkv/1.sock",
		    });
	expect(GOLDEN_welcome, &build);
}

static void keyed_requests_have_their_bytes(void **state)
{
	struct build build;
	struct wire_request request = plain;

	init(&build, WIRE_PROBE, 7, 2);
	ADD(&build, plain);
	ADD(&build, key_a);
	ADD(&build, key_b);
	expect(GOLDEN_probe, &build);

	init(&build, WIRE_LEASE, 8, 1);
	request.flags = WIRE_REQ_ALL | WIRE_REQ_WARM;
	request.duration_ms = 60000;
	ADD(&build, request);
	ADD(&build, key_a);
	expect(GOLDEN_lease, &build);

	init(&build, WIRE_DROP, 11, 1);
	ADD(&build, plain);
	ADD(&build, key_a);
	expect(GOLDEN_drop, &build);

	init(&build, WIRE_DROP, 12, 0);
	ADD(&build, plain);
	expect(GOLDEN_drop_namespace, &build);
}

static void get_has_its_bytes(void **state)
{
	struct build build;
	struct wire_request request = plain;

	init(&build, WIRE_GET, 9, 2);
	request.flags = WIRE_REQ_PROGRESS;
	request.lease = 0x99;
	ADD(&build, request);
	ADD(&build, (struct wire_get) {
			    .key = key_a,
			    .record = { .sequence = 77, .shard = 2 },
			    .offset = 64 * KiB,
			    .size = MiB,
		    });
	ADD(&build, (struct wire_get) { .key = key_b, .size = 12 * KiB, .seg_count = 2 });
	ADD(&build, (struct wire_seg) { .region = 1, .size = 8192, .offset = 4096 });
	ADD(&build, (struct wire_seg) { .region = 2, .size = 4096, .offset = 0x10000 });
	expect(GOLDEN_get, &build);
}

static void put_has_its_bytes(void **state)
{
	struct build build;
	struct wire_request request = plain;

	init(&build, WIRE_PUT, 10, 2);
	build.header.payload_size = 5;
	request.flags = WIRE_REQ_DURABLE | WIRE_REQ_SHARED;
	ADD(&build, request);
	ADD(&build, (struct wire_put) {
			    .key = key_a,
			    .place = SEQ16(0x70),
			    .chain = 0xabcdef,
			    .depth = 5,
			    .size = 5,
			    .ttl_s = 3600,
			    .flags = WIRE_PUT_INLINE,
		    });
	ADD(&build, (struct wire_put) {
			    .key = key_b, .place = SEQ16(0x70), .size = 2 * MiB, .seg_count = 1 });
	ADD(&build, (struct wire_seg) { .region = 3, .size = 2 * MiB, .offset = 4 * GiB });
	expect(GOLDEN_put, &build);
}

static void other_requests_have_their_bytes(void **state)
{
	struct build build;
	struct wire_request renew = nameless;

	init(&build, WIRE_RENEW, 13, 0);
	renew.lease = 0x99;
	renew.duration_ms = 30000;
	ADD(&build, renew);
	expect(GOLDEN_renew, &build);

	init(&build, WIRE_CANCEL, 14, 2);
	ADD(&build, nameless);
	ADD(&build, (struct wire_cancel) { .request = 9 });
	ADD(&build, (struct wire_cancel) { .request = 10 });
	expect(GOLDEN_cancel, &build);

	init(&build, WIRE_DECLARE, 15, 0);
	ADD(&build, nameless);
	ADD(&build, (struct wire_declare) {
			    .region = 1,
			    .kind = WIRE_REGION_RDMA,
			    .access = 3,
			    .size = GiB,
			    .address = UINT64_C(0x7f0012340000),
			    .rkey = 0xdeadbeef,
		    });
	expect(GOLDEN_declare, &build);

	init(&build, WIRE_UNDECLARE, 16, 0);
	ADD(&build, nameless);
	ADD(&build, (struct wire_undeclare) { .region = 1 });
	expect(GOLDEN_undeclare, &build);

	init(&build, WIRE_REPORT, 17, 0);
	ADD(&build, plain);
	ADD(&build, (struct wire_report) {
			    .tokens_loaded = 65536,
			    .tokens_recomputed = 512,
			    .load_ns = 900000000,
			    .prefill_ns = 120000000,
		    });
	expect(GOLDEN_report, &build);

	init(&build, WIRE_STAT, 18, 0);
	ADD(&build, nameless);
	expect(GOLDEN_stat, &build);
}

static void answers_have_their_bytes(void **state)
{
	struct build build;

	init(&build, WIRE_REPLY, 9, 2);
	build.header.flags = WIRE_FLAG_LAST;
	build.header.credit = 5 * MiB;
	ADD(&build, (struct wire_result) {
			    .size = MiB,
			    .block_size = 2 * MiB,
			    .record = { .sequence = 77, .shard = 2 },
			    .crc = 0xe3069283,
			    .flags = WIRE_RESULT_CRC,
		    });
	ADD(&build, (struct wire_result) { .item = 1, .status = -ERR_MISS });
	expect(GOLDEN_reply, &build);

	init(&build, WIRE_BITMAP, 8, 11);
	build.header.credit = 5 * MiB;
	ADD(&build, (struct wire_bitmap) { .lease = 0x99, .leased = 9, .duration_ms = 60000 });
	add(&build, "\xff\x03", 2);
	expect(GOLDEN_bitmap, &build);

	init(&build, WIRE_TEXT, 18, 0);
	build.header.credit = 5 * MiB;
	ADD(&build, (struct wire_text) { .size = 10 });
	add(&build, "get_hits 7", 10);
	expect(GOLDEN_text, &build);

	init(&build, WIRE_NOTICE, 0, 0);
	build.header.credit = 6 * MiB;
	ADD(&build, (struct wire_notice) { .code = WIRE_NOTICE_DRAINING, .text = "draining" });
	expect(GOLDEN_notice, &build);
}

static void data_frames_have_their_bytes(void **state)
{
	struct build build;

	init(&build, WIRE_GRANT, 10, 2);
	build.header.credit = 5 * MiB;
	ADD(&build, (struct wire_grant) { .item = 1, .size = MiB });
	ADD(&build, (struct wire_grant) { .item = 1, .size = MiB, .offset = MiB });
	expect(GOLDEN_grant, &build);

	init(&build, WIRE_DATA_GET, 9, 0);
	build.header.credit = 5 * MiB;
	build.header.payload_size = MiB;
	ADD(&build, (struct wire_data) { .item = 0, .offset = MiB });
	expect(GOLDEN_data_get, &build);

	init(&build, WIRE_DATA_PUT, 10, 0);
	build.header.payload_size = MiB;
	ADD(&build, (struct wire_data) { .item = 1, .offset = MiB });
	expect(GOLDEN_data_put, &build);
}

/* The table of frames and golden.def have the same kinds under the same numbers. */
static void every_kind_has_a_golden_frame(void **state)
{
	for (uint32_t kind = 0; kind < 256; kind++) {
		bool is_golden = false;

		for (int id = 0; id < GOLDEN_COUNT; id++) {
			struct golden_frame frame;

			golden_load((enum golden_id)id, &frame);
			is_golden |= frame.header.kind == kind;
		}
		assert_int_equal(wire_kind_name((uint8_t)kind) != NULL, is_golden);
	}
	assert_string_equal(wire_kind_name(WIRE_GET), "GET");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello_frames_have_their_bytes),
		cmocka_unit_test(welcome_has_its_bytes),
		cmocka_unit_test(keyed_requests_have_their_bytes),
		cmocka_unit_test(get_has_its_bytes),
		cmocka_unit_test(put_has_its_bytes),
		cmocka_unit_test(other_requests_have_their_bytes),
		cmocka_unit_test(answers_have_their_bytes),
		cmocka_unit_test(data_frames_have_their_bytes),
		cmocka_unit_test(every_kind_has_a_golden_frame),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
