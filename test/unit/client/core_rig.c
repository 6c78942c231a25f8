/* SPDX-License-Identifier: Apache-2.0 */
#include "core_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct world w;

/* --- the transport --- */

static int fake_connect(struct env *env, const char *address, const struct wire_preface *preface,
			const struct xprt_user *user, void *ctx, struct xprt_lane **out)
{
	struct fake_lane *lane = &w.lanes[w.lane_count];

	assert_true(w.lane_count < ARRAY_LEN(w.lanes));
	assert_int_equal(wire_check_preface(preface), 0);
	if (strncmp(address, "unix:", 5) == 0 && w.door_error != 0)
		return w.door_error;
	w.lane_count++;
	*lane = (struct fake_lane) { .preface = *preface, .is_open = true };
	snprintf(lane->address, sizeof(lane->address), "%s", address);
	lane->lane.user = user;
	lane->lane.env = env;
	lane->lane.ctx = ctx;
	*out = &lane->lane;
	return 0;
}

static int fake_send(struct xprt_lane *xlane, struct wire_header *header, const void *body,
		     const struct iovec *payload, uint32_t payload_count)
{
	struct fake_lane *lane = CONTAINER_OF(xlane, struct fake_lane, lane);
	struct sent *sent = &w.sent[w.sent_count];
	uint32_t at = 0;

	assert_true(lane->is_open);
	if (w.is_full || lane->is_full)
		return -EAGAIN;
	assert_true(w.sent_count < FRAME_MAX);
	w.sent_count++;
	sent->header = *header;
	sent->lane = (uint32_t)(lane - w.lanes);
	sent->body = aligned_alloc(8, round_up(header->body_size + 1, 8));
	memcpy(sent->body, body, header->body_size);
	sent->payload = malloc(header->payload_size + 1);
	for (uint32_t i = 0; i < payload_count; i++) {
		memcpy(sent->payload + at, payload[i].iov_base, payload[i].iov_len);
		at += (uint32_t)payload[i].iov_len;
	}
	assert_int_equal(at, header->payload_size);
	/* Whatever the core sends is a frame that a server takes. */
	assert_int_equal(wire_check_header(&sent->header, WIRE_C2S), 0);
	assert_int_equal(wire_check_body(&sent->header, sent->body), 0);
	return 0;
}

static void fake_close(struct xprt_lane **xlane)
{
	struct fake_lane *lane = CONTAINER_OF(*xlane, struct fake_lane, lane);

	assert_true(lane->is_open);
	lane->is_open = false;
	w.closes++;
	*xlane = NULL;
}

static void fake_secure(struct xprt_lane *lane, struct auth_mac *out, struct auth_mac *in)
{
	assert_null(out);
	assert_null(in);
}

static void fake_forget(struct xprt_group *group, uint64_t request)
{
	w.forgets++;
}

static int fake_declare(struct xprt_lane *lane, struct xprt_region *region)
{
	region->declare = (struct wire_declare) {
		.region = region->id,
		.kind = WIRE_REGION_LOOP,
		.access = 3,
		.size = region->size,
		.address = (uintptr_t)region->base,
	};
	return 0;
}

static int fake_share(struct xprt_lane *lane, struct xprt_region *region)
{
	bool is_stage = region->base == w.stage;

	assert_true(CONTAINER_OF(lane, struct fake_lane, lane)->is_open);
	w.shares++;
	if (is_stage ? w.stage_error != 0 : w.share_error != 0)
		return is_stage ? w.stage_error : w.share_error;
	return fake_declare(lane, region);
}

static void fake_fence(struct xprt_lane *xlane, struct xprt_fence *fence)
{
	assert_true(w.fence_count < ARRAY_LEN(w.fences));
	assert_non_null(fence->done);
	w.fences[w.fence_count++] = fence;
}

static void fake_undeclare(struct xprt_lane *lane, struct xprt_region *region)
{
}

const struct xprt_ops fake_sync = {
	.name = "fake",
	.transport = WIRE_XPRT_TCP,
	.caps = XPRT_CAP_SYNC_RELEASE | XPRT_CAP_CLOSE_FENCES,
	.connect = fake_connect,
	.send = fake_send,
	.close = fake_close,
	.secure = fake_secure,
	.forget = fake_forget,
};

const struct xprt_ops fake_direct = {
	.name = "fake direct",
	.transport = WIRE_XPRT_LOOP,
	.caps = XPRT_CAP_DIRECT | XPRT_CAP_CLOSE_FENCES,
	.seg_max = WIRE_SEG_MAX,
	.connect = fake_connect,
	.send = fake_send,
	.close = fake_close,
	.secure = fake_secure,
	.declare = fake_declare,
	.undeclare = fake_undeclare,
};

const struct xprt_ops fake_door = {
	.name = "door",
	.transport = WIRE_XPRT_SHM,
	.caps = XPRT_CAP_DIRECT | XPRT_CAP_MAPPED,
	.seg_max = 16,
	.connect = fake_connect,
	.send = fake_send,
	.close = fake_close,
	.secure = fake_secure,
	.declare = fake_share,
	.undeclare = fake_undeclare,
	.fence = fake_fence,
};

/* --- the server's part --- */

void settle(void)
{
	env_fake_settle(&w.fake);
}

void pass_ns(uint64_t ns)
{
	w.fake.now_ns += ns;
	w.env->ops->poll(w.env, 0);
	settle();
}

void sent_clear(void)
{
	for (uint32_t i = 0; i < w.sent_count; i++) {
		free(w.sent[i].body);
		free(w.sent[i].payload);
	}
	w.sent_count = 0;
}

int deliver(uint32_t lane, enum wire_kind kind, uint64_t request, uint16_t count, uint8_t flags,
	    uint32_t credit, const void *body, uint32_t body_size)
{
	struct xprt_lane *xlane = &w.lanes[lane].lane;
	struct wire_header header;
	struct xprt_frame frame = { &header, body, NULL };
	int rc;

	wire_header_init(&header, kind, request, count, body_size);
	header.flags = flags;
	header.credit = credit;
	xlane->progress_ns = w.fake.now_ns;
	rc = xlane->user->frame(xlane, &frame);
	settle();
	return rc;
}

int reply(const struct sent *to, const struct wire_result *results, uint16_t count, bool is_last,
	  uint32_t credit)
{
	return deliver(to->lane, WIRE_REPLY, to->header.request, count,
		       is_last ? WIRE_FLAG_LAST : 0, credit, results, count * sizeof(*results));
}

/* Every item of a request: done with this status and size. */
int reply_all(const struct sent *to, int status, uint32_t size, uint32_t credit)
{
	struct wire_result results[64] = { { 0 } };
	uint16_t count = MAX(to->header.count, 1);

	for (uint32_t i = 0; i < count; i++)
		results[i] = (struct wire_result) { .item = i, .status = status, .size = size };
	return reply(to, results, count, true, credit);
}

void answer_bits(const struct sent *to, uint32_t bits, uint64_t lease, uint32_t leased)
{
	struct {
		struct wire_bitmap bitmap;
		uint8_t bytes[8];
	} body = {
		.bitmap = { .lease = lease, .leased = leased, .duration_ms = lease != 0 ? 1000 : 0 }
	};

	memcpy(body.bytes, &bits, sizeof(bits));
	assert_int_equal(deliver(to->lane, WIRE_BITMAP, to->header.request, to->header.count, 0, 0,
				 &body,
				 (uint32_t)sizeof(body.bitmap) + (to->header.count + 7u) / 8),
			 0);
}

void land(const struct sent *to, uint32_t item, uint64_t offset, const void *bytes, uint32_t size,
	  int count_expected)
{
	struct xprt_lane *xlane = &w.lanes[to->lane].lane;
	struct iovec iov[8];
	const uint8_t *from = bytes;
	int count = xlane->user->locate(xlane, WIRE_DATA_GET, to->header.request, item, offset,
					size, iov, 8);

	assert_int_equal(count, count_expected);
	for (int i = 0; i < count; i++) {
		memcpy(iov[i].iov_base, from, iov[i].iov_len);
		from += iov[i].iov_len;
	}
	if (count > 0)
		xlane->user->landed(xlane, WIRE_DATA_GET, to->header.request, item, offset, size);
	settle();
}

static struct peer *peer_of(const struct fake_lane *lane)
{
	for (uint32_t i = 0; i < w.peer_count; i++) {
		if (strcmp(w.peers[i].address, lane->address) == 0)
			return &w.peers[i];
	}
	fail_msg("nobody is at %s", lane->address);
	return NULL;
}

/* The session that a lane belongs to. */
static const struct session *session_of(const struct fake_lane *lane)
{
	const struct client_lane *client_lane = lane->lane.ctx;

	return client_lane->session;
}

void hello(uint32_t index)
{
	struct fake_lane *lane = &w.lanes[index];
	const struct peer *peer = peer_of(lane);
	const void *secret = w.client->opts.target.secret.bytes;
	struct auth_transcript transcript = { .preface = lane->preface };
	bool is_new = lane->preface.mode == WIRE_MODE_NEW;
	const void *key = is_new ? secret : session_of(lane)->lanes[0].key.bytes;
	struct {
		struct wire_welcome welcome;
		struct wire_shard shards[WIRE_SHARD_MAX];
		struct wire_offer offer; /* moves to behind the shards that there are */
	} body = { .welcome = peer->welcome };
	struct wire_offer *offer = (void *)&body.shards[peer->shard_count];
	uint8_t proof[32];

	if (is_new && lane->preface.reactor != REACTOR_ANY)
		body.welcome.reactor = lane->preface.reactor;
	memcpy(body.shards, peer->shards, sizeof(body.shards));
	*offer = peer->offer;
	body.welcome.offer_count = peer->offer.transport != 0;
	sent_clear();
	lane->lane.user->opened(&lane->lane);
	assert_int_equal(w.sent_count, 1);
	assert_int_equal(w.sent[0].header.kind, WIRE_HELLO);
	memcpy(&transcript.hello, w.sent[0].body, sizeof(transcript.hello));
	transcript.challenge = (struct wire_challenge) {
		.version = 1,
		.incarnation = peer->welcome.incarnation,
	};
	memset(transcript.challenge.nonce, (int)index, sizeof(transcript.challenge.nonce));
	auth_proof(key, AUTH_SERVER, &transcript, transcript.challenge.proof);
	assert_int_equal(deliver(index, WIRE_CHALLENGE, 0, 0, 0, 0, &transcript.challenge,
				 sizeof(transcript.challenge)),
			 0);
	assert_int_equal(w.sent_count, 2);
	assert_int_equal(w.sent[1].header.kind, WIRE_PROOF);
	auth_proof(key, AUTH_CLIENT, &transcript, proof);
	assert_memory_equal(w.sent[1].body, proof, sizeof(proof));
	sent_clear();
	assert_int_equal(deliver(index, WIRE_WELCOME, 0, peer->shard_count, 0, 0, &body,
				 (uint32_t)(sizeof(body.welcome) +
					    peer->shard_count * sizeof(body.shards[0]) +
					    body.welcome.offer_count * sizeof(*offer))),
			 0);
}

void lane_break(uint32_t index, int why)
{
	struct xprt_lane *lane = &w.lanes[index].lane;

	w.lanes[index].is_open = false;
	lane->user->closed(lane, why);
	settle();
}

static void on_event(void *ctx, struct ctxkv_op *op, uint32_t what)
{
	w.events++;
	op->user = (void *)((uintptr_t)op->user | what);
}

const struct client_opts core_opts = {
	.target = { .hosts = { { .host = "the server", .is_numeric = true } },
		    .host_count = 1,
		    .tenant = "tester" },
	.inflight_max = 32,
	.probe_timeout_ns = NS_PER_S,
	.timeout_ns = 10 * NS_PER_S,
	.connect_timeout_ns = 2 * NS_PER_S,
	.release_wait_ns = 100 * NS_PER_MS,
	.event = on_event,
};

struct peer *peer_add(const char *address)
{
	struct peer *peer = &w.peers[w.peer_count++];

	assert_true(w.peer_count <= PEERS);
	*peer = (struct peer) {
		.welcome = {
			.session = 1234,
			.incarnation = 9,
			.block_max = 4 * MiB,
			.credit = 256 * KiB,
			.request_max = 64,
			.reactor_count = 1,
			.lane_max = WIRE_LANE_MAX,
			.weight = 100,
			.capacity = MiB,
		},
		.shard_count = 1,
	};
	snprintf(peer->address, sizeof(peer->address), "%s", address);
	memset(peer->welcome.server, (int)w.peer_count, sizeof(peer->welcome.server));
	return peer;
}

void begin_with(const struct client_opts *given)
{
	struct client_opts opts = *given;

	memset(&w, 0, sizeof(w));
	w.stage = opts.stage;
	env_fake_init(&w.fake, 42);
	w.fake.now_ns = NS_PER_S;
	w.env = &w.fake.env;
	memset(opts.target.secret.bytes, 7, sizeof(opts.target.secret.bytes));
	assert_int_equal(client_create(w.env, &opts, &w.client), 0);
}

void begin(const struct xprt_ops *xprt, uint32_t lanes)
{
	struct client_opts opts = core_opts;

	opts.xprt = xprt;
	opts.lanes = lanes;
	begin_with(&opts);
	peer_add("the server");
}

void connect_all(uint32_t lanes)
{
	client_connect(w.client);
	pass_ns(1);
	assert_int_equal(w.lane_count, 1);
	for (uint32_t i = 0; i < lanes; i++)
		hello(i);
	assert_int_equal(w.lane_count, lanes);
}

void fence_end(uint32_t index)
{
	struct xprt_fence *fence = w.fences[index];

	assert_true(index < w.fence_count);
	assert_non_null(fence);
	w.fences[index] = NULL;
	fence->done(fence);
	settle();
}

void end(void)
{
	client_end(w.client);
	for (uint32_t i = 0; i < w.fence_count; i++) {
		if (w.fences[i] != NULL)
			fence_end(i);
	}
	client_destroy(&w.client);
	assert_null(w.client);
	sent_clear();
	assert_int_equal(w.fake.held, 0);
	env_fake_fini(&w.fake);
}

/* --- ops --- */

uint8_t memory[MEMORY_SIZE];

void submit(struct test_op *test, uint32_t opcode, uint32_t count, uint64_t size)
{
	memset(test, 0, sizeof(*test));
	test->op.opcode = opcode;
	test->op.items = test->items;
	test->op.item_count = count;
	for (uint32_t i = 0; i < count; i++) {
		test->items[i].key.bytes[0] = (uint8_t)i;
		test->iovs[i] = (struct ctxkv_iov) { memory, size };
		test->items[i].iov = &test->iovs[i];
		test->items[i].iov_count = size > 0;
	}
	assert_int_equal(client_submit(w.client, &test->op), 0);
}

uint32_t told(const struct test_op *test)
{
	return (uint32_t)(uintptr_t)test->op.user;
}
