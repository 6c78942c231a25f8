/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams that were right but for a few bytes, cut anywhere, on lanes without MACs, so that what is
 * behind them is reached. Whatever comes: no memory is touched that was not given, every move is
 * done once, the lane ends with its connection.
 *
 *   test_suite_mutate [seed]     replays one seed
 */
#include "raw.h"

#include "../lib/t.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STREAM_MAX (256 * KiB)
#define GUARD      4096
#define BLOCK_SIZE 20000

static uint32_t seed_first = 1;
static uint32_t seed_count = 150;
static uint32_t random_state;
static uint8_t stream[STREAM_MAX];

static uint32_t pick(uint32_t below)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (random_state >> 8) % below;
}

/* Change up to three bytes, mostly of headers and bodies, and perhaps cut the end off. */
static uint32_t mutate(uint32_t size, const uint32_t *frames, uint32_t frame_count)
{
	for (uint32_t i = pick(3) + 1; i > 0; i--) {
		uint32_t at = frames[pick(frame_count)] + pick(80);

		if (at < size)
			stream[at] = pick(2) == 0 ? (uint8_t)pick(256) : stream[at] ^ 1u << pick(8);
	}
	return pick(4) == 0 ? pick(size) : size;
}

static void write_in_pieces(struct raw *raw, uint32_t size)
{
	for (uint32_t at = 0; at < size;) {
		uint32_t step = MIN(size - at, 1 + pick(1u << pick(17)));

		raw_write(raw, stream + at, step);
		at += step;
		if (pick(4) == 0)
			pair_poll(raw->pair);
	}
}

static bool is_all(const uint8_t *bytes, uint32_t size, uint8_t value)
{
	for (uint32_t i = 0; i < size; i++) {
		if (bytes[i] != value)
			return false;
	}
	return true;
}

static uint32_t put_write(uint8_t *frame, uint64_t request, uint32_t size)
{
	struct wire_put put = { .size = size, .flags = WIRE_PUT_INLINE };
	struct wire_header header;
	uint32_t head = sizeof(header) + sizeof(struct wire_request);

	wire_header_init(&header, WIRE_PUT, request, 1, sizeof(struct wire_request) + sizeof(put));
	header.payload_size = size;
	memcpy(frame, &header, sizeof(header));
	memset(frame + sizeof(header), 0, sizeof(struct wire_request));
	memcpy(frame + head, &put, sizeof(put));
	pair_fill(frame + head + sizeof(put), size, 1);
	return head + (uint32_t)sizeof(put) + size;
}

static void server_run(uint32_t seed)
{
	uint32_t frames[8];
	uint32_t size = 0;
	struct pair_block *block;
	struct pair_move moves[2];
	struct pair pair;
	struct raw raw;

	random_state = seed;
	pair_init(&pair, &pair_kinds[0]);
	raw_connect(&raw, &pair, 0, true);
	for (uint32_t i = 0; i < 2; i++) {
		block = pair_block_add(&pair, 9 + i, BLOCK_SIZE, BLOCK_SIZE);
		pair_move_init(&moves[i], &pair, block, 0, BLOCK_SIZE, 3);
		free(moves[i].bytes); /* one with guards instead */
		moves[i].bytes = malloc(BLOCK_SIZE + 2 * GUARD);
		memset(moves[i].bytes, 0x33, BLOCK_SIZE + 2 * GUARD);
		moves[i].move.iov[0] = (struct iovec) { moves[i].bytes + GUARD, BLOCK_SIZE };
		moves[i].move.iov_count = 1;
		xprt_tcp.pull(pair.server.group.lanes[0], &moves[i].move);
	}
	pair_poll(&pair);
	for (uint32_t i = 0; i < ARRAY_LEN(frames); i++) {
		frames[i] = size;
		if (i == 2 || i == 6)
			size += raw_data(stream + size, NULL, WIRE_DATA_PUT, i == 2 ? 9 : 10, 0,
					 BLOCK_SIZE, i);
		else if (i % 2 == 0)
			size += put_write(stream + size, i + 1, pick(20000) + 1);
		else
			size += raw_probe(stream + size, NULL, i + 1, (uint16_t)(1 + pick(400)));
	}
	write_in_pieces(&raw, mutate(size, frames, ARRAY_LEN(frames)));
	raw_close(&raw);
	PAIR_UNTIL(&pair, pair.server.closed == 1);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(moves[i].done, 1);
		assert_true(is_all(moves[i].bytes, GUARD, 0x33));
		assert_true(is_all(moves[i].bytes + GUARD + BLOCK_SIZE, GUARD, 0x33));
		pair_move_fini(&moves[i]);
	}
	pair_fini(&pair);
}

static void client_run(uint32_t seed)
{
	struct pair_block *blocks[2];
	uint32_t frames[8];
	uint32_t size = 0;
	struct pair pair;
	struct raw raw;
	char address[64];
	int fd;

	random_state = seed;
	pair_init(&pair, &pair_kinds[0]);
	fd = raw_listen(address, sizeof(address));
	assert_non_null(pair_dial(&pair, address, 0));
	raw_accept(&raw, &pair, fd, 0);
	blocks[0] = pair_block_add(&pair, 1, BLOCK_SIZE, 1 + pick(5000)); /* of a get */
	blocks[1] = pair_block_add(&pair, 2, 50 * 1000, 1 + pick(5000));  /* of a put */
	blocks[1]->is_put = true;
	pair_fill(blocks[1]->bytes, blocks[1]->size, 7);
	for (uint32_t i = 0; i < ARRAY_LEN(frames); i++) {
		frames[i] = size;
		if (i % 2 == 0)
			size += raw_data(stream + size, NULL, WIRE_DATA_GET, 1, i / 2 * 5000, 5000,
					 i);
		else
			size += raw_grants(stream + size, 2, 50, 1000);
	}
	write_in_pieces(&raw, mutate(size, frames, ARRAY_LEN(frames)));
	raw_close(&raw);
	PAIR_UNTIL(&pair, pair.client.closed == 1);
	assert_true(pair_is_filled(blocks[1]->bytes, blocks[1]->size, 7)); /* a put is only read */
	close(fd);
	pair_fini(&pair);
}

static void a_server_survives_what_a_client_sends(void **state)
{
	for (uint32_t seed = seed_first; seed < seed_first + seed_count; seed++)
		server_run(seed);
}

static void a_client_survives_what_a_server_sends(void **state)
{
	for (uint32_t seed = seed_first; seed < seed_first + seed_count; seed++)
		client_run(seed);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_server_survives_what_a_client_sends),
		cmocka_unit_test(a_client_survives_what_a_server_sends),
	};

	if (argc > 1) {
		seed_first = (uint32_t)strtoul(argv[1], NULL, 10);
		seed_count = 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
