/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS under tcp: what somebody on the way sees and can do. A relay between both ends listens and
 * flips bits; peers have the wrong key, stop in the middle of the handshake, or answer in the
 * clear. No byte is readable, none arrives changed, and nobody goes on without TLS. That frames and
 * moves work under it is the suite's matter (test_xprt.c, test_random.c).
 */
#include "raw.h"

#include "../../src/base/hash.h"
#include "../lib/t.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NEVER UINT64_MAX

static const struct pair_kind *tls_kind(void)
{
	for (size_t i = 0; i < pair_kind_count; i++) {
		if (pair_kinds[i].is_tls)
			return &pair_kinds[i];
	}
	fail_msg("no kind is under TLS");
	return NULL;
}

/* --- somebody on the way --- */

enum way { TO_SERVER, TO_CLIENT };

struct relay {
	struct pair *pair;
	struct raw ends[2]; /* towards the server, towards the client */
	int listen_fd;
	uint64_t count[2];   /* bytes relayed */
	uint64_t flip_at[2]; /* this byte is changed */
	bool is_cut;         /* what comes behind flip_at does not arrive, and the line is cut */
	uint8_t *seen[2];    /* all of it */
};

#define SEEN_MAX (4 * MiB)

static void relay_begin(struct relay *relay, struct pair *pair)
{
	char address[64];

	*relay = (struct relay) { .pair = pair, .flip_at = { NEVER, NEVER } };
	for (uint32_t i = 0; i < 2; i++) {
		relay->ends[i].fd = -1;
		relay->seen[i] = calloc(1, SEEN_MAX);
		assert_non_null(relay->seen[i]);
	}
	relay->listen_fd = raw_listen(address, sizeof(address));
	assert_non_null(pair_dial(pair, address, 0));
	relay->ends[TO_CLIENT].pair = pair;
	relay->ends[TO_CLIENT].fd = accept4(relay->listen_fd, NULL, NULL, SOCK_NONBLOCK);
	assert_true(relay->ends[TO_CLIENT].fd >= 0);
	raw_connect(&relay->ends[TO_SERVER], pair, 0, false);
	assert_int_equal(fcntl(relay->ends[TO_SERVER].fd, F_SETFL, O_NONBLOCK), 0);
}

static void relay_cut(struct relay *relay)
{
	for (uint32_t i = 0; i < 2; i++) {
		if (relay->ends[i].fd >= 0)
			close(relay->ends[i].fd);
		relay->ends[i].fd = -1;
	}
}

static void relay_end(struct relay *relay)
{
	relay_cut(relay);
	close(relay->listen_fd);
	free(relay->seen[0]);
	free(relay->seen[1]);
}

/* Bytes on their way; false: an end has closed. */
static bool relay_pass(struct relay *relay, enum way way)
{
	uint64_t at = relay->count[way];
	uint8_t bytes[16384];
	ssize_t got;

	if (relay->ends[way].fd < 0)
		return false;
	got = recv(relay->ends[!way].fd, bytes, sizeof(bytes), 0);
	if (got <= 0)
		return got < 0 && errno == EAGAIN;
	memcpy(relay->seen[way] + at, bytes, (size_t)MIN((uint64_t)got, SEEN_MAX - at));
	relay->count[way] += (uint64_t)got;
	if (relay->flip_at[way] >= at && relay->flip_at[way] < relay->count[way]) {
		if (relay->is_cut)
			return false;
		bytes[relay->flip_at[way] - at] ^= 0x10;
	}
	for (ssize_t sent = 0; sent < got;) {
		ssize_t step =
			send(relay->ends[way].fd, bytes + sent, (size_t)(got - sent), MSG_NOSIGNAL);

		if (step < 0 && errno != EAGAIN)
			return false;
		sent += MAX(step, 0);
		if (sent < got)
			pair_poll(relay->pair);
	}
	return true;
}

static void relay_run(struct relay *relay)
{
	if (!relay_pass(relay, TO_SERVER) || !relay_pass(relay, TO_CLIENT))
		relay_cut(relay);
	pair_poll(relay->pair);
}

#define RELAY_UNTIL(relay, condition)                                                              \
	do {                                                                                       \
		uint64_t until_ns = env_now_ns((relay)->pair->env) + 10 * NS_PER_S;                \
                                                                                                   \
		while (!(condition)) {                                                             \
			assert_true(env_now_ns((relay)->pair->env) < until_ns);                    \
			relay_run(relay);                                                          \
		}                                                                                  \
	} while (0)

static bool is_seen(const struct relay *relay, const void *what, size_t size)
{
	for (uint32_t way = 0; way < 2; way++) {
		if (memmem(relay->seen[way], MIN(relay->count[way], SEEN_MAX), what, size) != NULL)
			return true;
	}
	return false;
}

/* --- what is sent through it: a frame each way, and a block each way --- */

struct talk {
	struct pair_block *block;
	struct pair_move push;
	struct wire_key key;
};

static void probe_send(struct pair *pair, const struct wire_key *key)
{
	struct {
		struct wire_request request;
		struct wire_key key;
	} body = { .request = { .budget_ns = 1 }, .key = *key };
	struct wire_header header;

	wire_header_init(&header, WIRE_PROBE, 1, 1, sizeof(body));
	assert_int_equal(xprt_tcp.send(pair->client.group.lanes[0], &header, &body, NULL, 0), 0);
}

static void talk_begin(struct talk *talk, struct pair *pair)
{
	memset(talk->key.bytes, 0x5a, sizeof(talk->key.bytes));
	probe_send(pair, &talk->key);
	talk->block = pair_block_add(pair, 9, 100000, 100000);
	pair_move_init(&talk->push, pair, talk->block, 0, 100000, 3);
	pair_fill(talk->push.bytes, 100000, 7);
	xprt_tcp.push(pair->server.group.lanes[0], &talk->push.move);
}

static bool talk_is_done(const struct talk *talk, const struct pair *pair)
{
	return pair->server.frame_count == 1 && talk->block->got == 100000;
}

static void nobody_on_the_way_reads_anything(void **state)
{
	struct pair pair;
	struct relay relay;
	struct talk talk;

	pair_init(&pair, tls_kind());
	relay_begin(&relay, &pair);
	RELAY_UNTIL(&relay, pair.client.opened == 1 && pair.server.opened == 1);
	talk_begin(&talk, &pair);
	RELAY_UNTIL(&relay, talk_is_done(&talk, &pair));
	assert_true(pair_is_filled(talk.block->bytes, 100000, 7));
	assert_true(
		is_seen(&relay, WIRE_PREFACE_MAGIC, 8)); /* the preface, and the tenant's name */
	assert_true(is_seen(&relay, "the client", 10));
	assert_false(is_seen(&relay, talk.key.bytes, 8));
	for (uint32_t offset = 0; offset < 100000 - 8; offset += 997)
		assert_false(is_seen(&relay, talk.push.bytes + offset, 8));
	pair_move_fini(&talk.push);
	relay_end(&relay);
	pair_fini(&pair);
}

/* Change a byte of one direction, or cut there. What arrives is what was sent, or nothing. */
static void meddle(enum way way, uint64_t at, bool is_cut)
{
	struct pair pair;
	struct relay relay;
	struct talk talk = { 0 };
	uint32_t crc = 0;

	pair_init(&pair, tls_kind());
	relay_begin(&relay, &pair);
	relay.flip_at[way] = at;
	relay.is_cut = is_cut;
	/* A changed length makes the receiver wait: nobody but a deadline ends that. */
	for (uint32_t quiet = 0; quiet < 20 && relay.ends[0].fd >= 0; quiet++) {
		uint64_t before = relay.count[0] + relay.count[1];

		relay_run(&relay);
		if (relay.count[0] + relay.count[1] != before)
			quiet = 0;
		if (talk.block == NULL && pair.client.opened == 1 && pair.server.opened == 1)
			talk_begin(&talk, &pair);
	}
	relay_cut(&relay);
	PAIR_UNTIL(&pair, pair.client.closed == 1 && pair.server.closed == pair.server.opened);
	assert_true(relay.count[way] > at);
	assert_false(talk.block != NULL && talk_is_done(&talk, &pair));
	if (pair.server.frame_count > 0) {
		struct {
			struct wire_request request;
			struct wire_key key;
		} body = { { .budget_ns = 1 }, talk.key };

		crc = crc32c(0, &body, sizeof(body));
		assert_int_equal(pair.server.frame_count, 1);
		assert_int_equal(pair.server.frames[0].crc, crc);
	}
	assert_int_equal(pair.client.frame_count, 0);
	if (talk.block != NULL) {
		assert_true(talk.block->got == 0 || pair_is_filled(talk.block->bytes, 100000, 7));
		pair_move_fini(&talk.push);
	}
	relay_end(&relay);
	pair_fini(&pair);
}

static void a_changed_byte_never_arrives(void **state)
{
	/* The client's handshake and frame: some 500 bytes. The server's, and 100,000 of payload.
	 */
	for (uint64_t at = sizeof(struct wire_preface); at < 400; at += 13)
		meddle(TO_SERVER, at, false);
	for (uint64_t at = 0; at < 200; at += 11)
		meddle(TO_CLIENT, at, false);
	for (uint64_t at = 1000; at < 100000; at += 9001)
		meddle(TO_CLIENT, at, false);
}

static void a_cut_handshake_ends_both(void **state)
{
	for (uint64_t at = sizeof(struct wire_preface); at < 400; at += 101)
		meddle(TO_SERVER, at, true);
	for (uint64_t at = 0; at < 200; at += 97)
		meddle(TO_CLIENT, at, true);
}

/* --- peers without the key --- */

static void another_key_opens_nothing(void **state)
{
	struct pair pair;

	for (uint32_t i = 0; i < 2; i++) {
		pair_init(&pair, tls_kind());
		if (i == 0)
			pair.tls_keys[1] = 1;
		else
			pair.is_tls_nobody = true; /* looks the same from outside */
		assert_non_null(pair_dial(&pair, pair.address, 0));
		PAIR_UNTIL(&pair, pair.client.closed == 1 && pair.server.closed == 1);
		assert_int_equal(pair.client.opened, 0);
		assert_int_equal(pair.client.why, -ERR_AUTH);
		assert_int_equal(pair.server.why, -ERR_AUTH);
		pair_fini(&pair);
	}
}

/* A client that asks for TLS, and then sends something of its own. */
static void raw_begin(struct raw *raw, struct pair *pair)
{
	const struct wire_preface preface = { .magic = WIRE_PREFACE_MAGIC,
					      .version_min = 1,
					      .version_max = 1,
					      .mode = WIRE_MODE_JOIN,
					      .flags = WIRE_PREFACE_TLS,
					      .reactor = 0xffff,
					      .incarnation = 1,
					      .session = 1 };

	raw_connect(raw, pair, 0, false);
	raw_write(raw, &preface, sizeof(preface));
}

static void noise_instead_of_a_handshake_ends_the_lane(void **state)
{
	static uint8_t noise[40000];
	struct pair pair;
	struct raw raw;

	pair_init(&pair, tls_kind());
	for (uint32_t i = 0; i < 20; i++) {
		pair_fill(noise, sizeof(noise), i);
		if (i % 2 == 0)
			memcpy(noise, "\x16\x03\x01\xff\xff\x01",
			       6); /* a record that is too large */
		raw_begin(&raw, &pair);
		raw_write(&raw, noise, 100 + i * 2000 % sizeof(noise));
		PAIR_UNTIL(&pair, pair.server.closed == i + 1);
		raw_close(&raw);
	}
	assert_int_equal(pair.server.frame_count, 0);
	pair_fini(&pair);
}

/* The beginning of a record is here, and for a long time nothing more: the loop sleeps. */
static void half_a_record_keeps_nobody_awake(void **state)
{
	struct pair pair;
	struct raw raw;
	uint64_t until_ns;
	uint32_t turns = 0;

	pair_init(&pair, tls_kind());
	raw_begin(&raw, &pair);
	raw_write(&raw, "\x16\x03\x01\x01", 4);
	pair_settle(&pair);
	until_ns = env_now_ns(pair.env) + 50 * NS_PER_MS;
	while (env_now_ns(pair.env) < until_ns) {
		pair_poll(&pair); /* up to 1 ms each */
		turns++;
	}
	assert_in_range(turns, 1, 100);
	raw_close(&raw);
	pair_fini(&pair);
}

static struct env_ops late_ops;
static const struct env_ops *prompt_ops;
static uint32_t late_count; /* so many reads find nothing yet */

static ssize_t late_recv(struct env *env, struct env_sock *sock, const struct iovec *iov,
			 uint32_t iov_count)
{
	if (late_count == 0)
		return prompt_ops->sock_recv(env, sock, iov, iov_count);
	late_count--;
	return -EAGAIN;
}

/* The end of the handshake and the first frame come together, just behind the server's read: its
 * flush takes them, and the socket tells of nothing more. */
static void what_comes_with_the_end_of_the_handshake_is_read(void **state)
{
	const struct wire_key key = { { 1 } };
	struct pair pair;

	pair_init(&pair, tls_kind());
	assert_non_null(pair_dial(&pair, pair.address, 0));
	probe_send(&pair, &key);
	PAIR_UNTIL(&pair, pair.client.opened == 1);
	prompt_ops = pair.env->ops;
	late_ops = *prompt_ops;
	late_ops.sock_recv = late_recv;
	pair.env->ops = &late_ops;
	late_count = 1;
	PAIR_UNTIL(&pair, pair.server.frame_count == 1);
	assert_int_equal(late_count, 0);
	pair.env->ops = prompt_ops;
	pair_fini(&pair);
}

/* --- answers in the clear --- */

static void a_refusal_in_the_clear_is_heard(void **state)
{
	struct pair pair;

	pair_init(&pair, tls_kind());
	pair.accept_rc = -ERR_BUSY;
	assert_non_null(pair_dial(&pair, pair.address, 0));
	PAIR_UNTIL(&pair, pair.client.closed == 1);
	assert_int_equal(pair.client.opened, 0);
	assert_int_equal(pair.client.frame_count, 1);
	assert_int_equal(pair.client.frames[0].kind, WIRE_REFUSE);
	pair_fini(&pair);
}

static void no_other_answer_in_the_clear_is_taken(void **state)
{
	struct {
		struct wire_header header;
		struct wire_challenge challenge;
	} answer = { .challenge = { .version = 1, .incarnation = 1 } }; /* a good one */
	struct pair pair;
	char address[64];
	struct raw raw;
	int listen_fd;
	uint8_t byte;

	pair_init(&pair, tls_kind());
	listen_fd = raw_listen(address, sizeof(address));
	assert_non_null(pair_dial(&pair, address, 0));
	raw = (struct raw) { .pair = &pair, .fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK) };
	wire_header_init(&answer.header, WIRE_CHALLENGE, 0, 0, sizeof(answer.challenge));
	answer.header.magic = WIRE_MAGIC;
	raw_write(&raw, &answer, sizeof(answer));
	PAIR_UNTIL(&pair, pair.client.closed == 1);
	assert_int_equal(pair.client.opened, 0);
	assert_int_equal(pair.client.frame_count, 0);
	assert_int_equal(pair.client.why, -ERR_PROTOCOL);
	/* It has sent its preface and a handshake, and nothing in the clear behind it. */
	for (uint32_t i = 0; raw_read(&raw, &byte, 1); i++) {
		if (i == sizeof(struct wire_preface))
			assert_int_equal(byte, 0x16);
	}
	raw_close(&raw);
	close(listen_fd);
	pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_on_the_way_reads_anything),
		cmocka_unit_test(a_changed_byte_never_arrives),
		cmocka_unit_test(a_cut_handshake_ends_both),
		cmocka_unit_test(another_key_opens_nothing),
		cmocka_unit_test(noise_instead_of_a_handshake_ends_the_lane),
		cmocka_unit_test(half_a_record_keeps_nobody_awake),
		cmocka_unit_test(what_comes_with_the_end_of_the_handshake_is_read),
		cmocka_unit_test(a_refusal_in_the_clear_is_heard),
		cmocka_unit_test(no_other_answer_in_the_clear_is_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
