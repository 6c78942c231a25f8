/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks in and out, in memory mode and on a file: what a get delivers is what was put, whole or in
 * ranges, inline or pulled, whichever verify is on.
 */
#include <stdlib.h>
#include <string.h>

#include "../../../src/base/hash.h"
#include "rig.h"

static const uint32_t sizes[] = { 1, 4096, 5000, 65536, 262144, 1048577, 4 * MiB };

struct block {
	uint8_t *bytes;
	struct raw_client_put put;
};

static struct block block_make(uint32_t number, uint32_t size, bool is_inline)
{
	struct block block = { .bytes = rig_bytes(number, size) };

	block.put = (struct raw_client_put) { rig_key(number), block.bytes, size, is_inline };
	return block;
}

static int put(struct raw_client *client, const struct block *block, uint32_t flags,
	       struct wire_result *result)
{
	uint64_t request = raw_client_put(client, &block->put, 1, flags, 5 * NS_PER_S);

	return raw_client_finish(client, request, NULL, &block->put, result);
}

static void check_range(struct raw_client *client, const struct block *block, uint32_t offset,
			uint32_t size)
{
	uint32_t there = MIN(size, block->put.size - offset);
	uint8_t *got = calloc(1, size);
	struct wire_result result;
	uint64_t request;

	assert_non_null(got);
	request = raw_client_get(client, &block->put.key, 1, offset, size, 5 * NS_PER_S);
	assert_int_equal(raw_client_finish(client, request, got, NULL, &result), 0);
	assert_int_equal(result.size, there);
	assert_int_equal(result.block_size, block->put.size);
	assert_memory_equal(got, block->bytes + offset, there);
	free(got);
}

static void check_block(struct raw_client *client, const struct block *block)
{
	uint32_t size = block->put.size;

	check_range(client, block, 0, size);
	check_range(client, block, 0, size + 100);
	if (size > 1) {
		check_range(client, block, size / 2, size);
		check_range(client, block, size - 1, 1);
		check_range(client, block, 1, size / 2);
	}
}

static void round_trips(bool is_file, enum store_verify verify, uint32_t flags)
{
	struct rig rig;
	struct raw_client client;
	struct wire_result result;

	rig_init(&rig);
	rig.opts.verify = verify;
	rig_start(&rig, is_file);
	rig_client(&rig, &client);
	for (uint32_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct block block = block_make(i, sizes[i], false);

		assert_int_equal(put(&client, &block, flags, &result), 0);
		assert_int_equal(result.flags & WIRE_RESULT_EXISTED, 0);
		assert_int_equal((result.flags & WIRE_RESULT_DURABLE) != 0,
				 is_file && (flags & WIRE_REQ_DURABLE) != 0);
		check_block(&client, &block);
		assert_int_equal(put(&client, &block, flags, &result), 0);
		assert_int_not_equal(result.flags & WIRE_RESULT_EXISTED, 0);
		/* By now it may be on the medium, or not: both are read. */
		rig_run_ns(&rig, 20 * NS_PER_MS);
		check_block(&client, &block);
		free(block.bytes);
	}
	raw_client_close(&client);
	rig_stop(&rig);
}

static void blocks_come_back_in_memory_mode(void **state)
{
	round_trips(false, STORE_VERIFY_NONE, 0);
	round_trips(false, STORE_VERIFY_ALL, WIRE_REQ_DURABLE);
}

static void blocks_come_back_from_a_file(void **state)
{
	round_trips(true, STORE_VERIFY_MEDIUM, WIRE_REQ_DURABLE);
	round_trips(true, STORE_VERIFY_ALL, 0);
	round_trips(true, STORE_VERIFY_NONE, 0);
}

/* Keys of two shards of a reactor in one probe: each has its own bit. */
static void a_probe_of_two_shards_answers_in_order(void **state)
{
	struct raw_client_frame *frame = malloc(sizeof(*frame));
	const struct wire_bitmap *bitmap;
	struct wire_key keys[300];
	struct wire_result result;
	struct rig rig;
	struct raw_client client;
	const uint8_t *bits;

	assert_non_null(frame);
	rig_init(&rig);
	rig.has_two_shards = true;
	rig_start(&rig, false);
	rig_client(&rig, &client);
	for (uint32_t i = 0; i < ARRAY_LEN(keys); i++) {
		keys[i] = rig_key(i);
		if (i % 3 == 0) {
			struct block block = block_make(i, 100, true);

			assert_int_equal(put(&client, &block, 0, &result), 0);
			free(block.bytes);
		}
	}
	for (uint16_t count = 1; count <= ARRAY_LEN(keys); count = (uint16_t)(count * 2 + 1)) {
		(void)raw_client_keys(&client, WIRE_PROBE, keys, count);
		assert_true(raw_client_recv(&client, frame));
		assert_int_equal(frame->header.kind, WIRE_BITMAP);
		bitmap = (const void *)frame->body;
		bits = (const uint8_t *)(bitmap + 1);
		assert_int_equal(bitmap->status, 0);
		for (uint32_t i = 0; i < count; i++)
			assert_int_equal(bits[i / 8] >> i % 8 & 1, i % 3 == 0);
	}
	assert_true(rig_metrics(&rig).miss_new > 0);
	free(frame);
	raw_client_close(&client);
	rig_stop(&rig);
}

static int get_head(struct raw_client *client, const struct block *block, uint32_t size,
		    uint8_t *got, struct wire_result *result)
{
	uint64_t request = raw_client_get(client, &block->put.key, 1, 0, size, 5 * NS_PER_S);

	return raw_client_finish(client, request, got, NULL, result);
}

/* Whoever gets it whole is told what it should be; who doubts it has it looked at, and gone. */
static void a_block_that_goes_bad_in_memory_never_passes_for_right(void **state)
{
	struct block block = block_make(1, MiB, false);
	struct rig rig;
	struct raw_client client;
	struct wire_result result;
	struct store_id id;
	struct shard_ref ref;
	struct iovec iov;

	rig_init(&rig);
	rig.opts.verify = STORE_VERIFY_ALL;
	rig_start(&rig, false);
	rig_client(&rig, &client);
	for (uint32_t flags = 0; flags <= WIRE_REQ_PROGRESS; flags += WIRE_REQ_PROGRESS) {
		uint8_t *got = calloc(1, MiB);

		assert_non_null(got);
		assert_int_equal(put(&client, &block, 0, &result), 0);
		assert_int_equal(result.flags & WIRE_RESULT_EXISTED, 0);
		memcpy(id.domain, client.domain, sizeof(id.domain));
		memcpy(id.ns, client.ns, sizeof(id.ns));
		memcpy(id.key, block.put.key.bytes, sizeof(id.key));
		assert_true(shard_find(rig.shard, &id, &ref));
		assert_int_equal(shard_view(rig.shard, &ref, 0, MiB, &iov, 1), 1);
		((uint8_t *)iov.iov_base)[MiB - 1] ^= 1;

		assert_int_equal(get_head(&client, &block, MiB, got, &result), 0);
		assert_int_not_equal(result.flags & WIRE_RESULT_CRC, 0);
		assert_int_equal(result.crc, crc32c(0, block.bytes, MiB));
		assert_int_not_equal(result.crc, crc32c(0, got, MiB));
		client.get_flags = flags; /* a range, or with progress: checked before */
		assert_int_equal(get_head(&client, &block, 1, got, &result), -ERR_CORRUPT);
		client.get_flags = 0;
		assert_int_equal(get_head(&client, &block, MiB, got, &result), -ERR_MISS);
		free(got);
	}
	assert_int_equal(rig_metrics(&rig).get_miss_corrupt, 2);
	free(block.bytes);
	raw_client_close(&client);
	rig_stop(&rig);
}

/* A byte of a block costs the sum of all of it. Who asks for many such bytes gets them, a few in
 * each turn of the loop, and others are answered meanwhile; nothing is left when he goes. */
static void many_ranges_of_a_block_take_turns_with_others(void **state)
{
	enum { RANGES = 64 };
	struct block block = block_make(1, 4 * MiB, false);
	struct wire_result results[RANGES];
	struct wire_key keys[RANGES];
	struct rig rig;
	struct raw_client many;
	struct raw_client other;
	struct raw_client_frame *frame = malloc(sizeof(*frame));
	uint64_t request;

	assert_non_null(frame);
	rig_init(&rig);
	rig.opts.verify = STORE_VERIFY_ALL;
	rig_start(&rig, false);
	rig_client(&rig, &many);
	rig_client(&rig, &other);
	assert_int_equal(put(&many, &block, 0, NULL), 0);
	for (uint32_t i = 0; i < RANGES; i++)
		keys[i] = block.put.key;
	request = raw_client_get(&many, keys, RANGES, 1, 1, 10 * NS_PER_S);
	assert_int_equal(raw_client_finish(&many, request, NULL, NULL, results), 0);
	for (uint32_t i = 0; i < RANGES; i++) {
		assert_int_equal(results[i].status, 0);
		assert_int_equal(results[i].crc, crc32c(0, (const uint8_t *)block.bytes + 1, 1));
	}
	assert_true(rig_metrics(&rig).again_check >= RANGES / 2);

	(void)raw_client_get(&many, keys, RANGES, 1, 1, 10 * NS_PER_S);
	RIG_UNTIL(&rig, rig_metrics(&rig).again_check >= RANGES);
	(void)raw_client_keys(&other, WIRE_PROBE, keys, 1);
	assert_true(raw_client_recv(&other, frame));
	assert_int_equal(frame->header.kind, WIRE_BITMAP);
	assert_true(rig_metrics(&rig).ops > 0);
	free(frame);
	raw_client_close(&many);
	RIG_UNTIL(&rig, rig_metrics(&rig).sessions == 1);
	RIG_UNTIL(&rig, rig_metrics(&rig).ops == 0);
	free(block.bytes);
	raw_client_close(&other);
	rig_stop(&rig);
}

/* Nor does who asks for little wait until who asks for much has it all, though both need sums; and
 * two who ask for as much get it together. */
static void sums_are_shared_by_sessions(void **state)
{
	enum { RANGES = 96 };
	struct block block = block_make(1, 4 * MiB, false);
	struct block little = block_make(2, 70000, false);
	static struct wire_result results[RANGES];
	struct wire_key keys[RANGES];
	struct rig rig;
	struct raw_client many[2];
	struct raw_client other;
	uint64_t requests[2];
	uint8_t byte;

	rig_init(&rig);
	rig.opts.verify = STORE_VERIFY_ALL;
	rig_start(&rig, false);
	rig_client(&rig, &other);
	assert_int_equal(put(&other, &block, 0, NULL), 0);
	assert_int_equal(put(&other, &little, 0, NULL), 0);
	for (uint32_t i = 0; i < RANGES; i++)
		keys[i] = block.put.key;
	for (uint32_t i = 0; i < 2; i++) {
		rig_client(&rig, &many[i]);
		requests[i] = raw_client_get(&many[i], keys, RANGES, 1, 1, 10 * NS_PER_S);
	}
	RIG_UNTIL(&rig, rig_metrics(&rig).again_check >= RANGES + RANGES / 2);
	assert_int_equal(get_head(&other, &little, 1, &byte, NULL), 0);
	assert_true(rig_metrics(&rig).get_hits < RANGES);
	assert_int_equal(raw_client_finish(&many[0], requests[0], NULL, NULL, results), 0);
	assert_true(rig_metrics(&rig).get_hits > RANGES + RANGES / 2);
	assert_int_equal(raw_client_finish(&many[1], requests[1], NULL, NULL, results), 0);
	assert_int_equal(rig_metrics(&rig).get_hits, 2 * RANGES + 1);
	free(block.bytes);
	free(little.bytes);
	raw_client_close(&many[0]);
	raw_client_close(&many[1]);
	raw_client_close(&other);
	rig_stop(&rig);
}

/* Whoever waits for its turn while the block becomes another, larger one gets that as he asked. */
static void a_block_that_is_put_again_meanwhile_is_not_cut(void **state)
{
	enum { RANGES = 512 };
	struct block large = block_make(1, 4 * MiB, false);
	struct block small = block_make(2, 100, true);
	struct block again = block_make(3, 1000, true);
	static struct wire_result results[RANGES];
	static struct wire_key keys[RANGES];
	struct rig rig;
	struct raw_client many;
	struct raw_client other;
	struct raw_client_frame *frame = malloc(sizeof(*frame));
	uint64_t request;

	assert_non_null(frame);
	rig_init(&rig);
	rig.opts.verify = STORE_VERIFY_ALL;
	rig.opts.operation_max = 4 * RANGES;
	rig_start(&rig, false);
	rig_client(&rig, &many);
	rig_client(&rig, &other);
	assert_int_equal(put(&many, &large, 0, NULL), 0);
	assert_int_equal(put(&many, &small, 0, NULL), 0);
	again.put.key = small.put.key;
	for (uint32_t i = 0; i < RANGES; i++)
		keys[i] = i < RANGES - 1 ? large.put.key : small.put.key;
	request = raw_client_get(&many, keys, RANGES, 1, 150, 10 * NS_PER_S);
	RIG_UNTIL(&rig, rig_metrics(&rig).again_check >= RANGES / 2);
	(void)raw_client_keys(&other, WIRE_DROP, &small.put.key, 1);
	assert_true(raw_client_recv(&other, frame));
	assert_int_equal(put(&other, &again, 0, NULL), 0);
	assert_true(rig_metrics(&rig).ops > RANGES / 8); /* it waits still */
	assert_int_equal(raw_client_finish(&many, request, NULL, NULL, results), 0);
	assert_int_equal(results[RANGES - 1].status, 0);
	assert_int_equal(results[RANGES - 1].block_size, 1000);
	assert_int_equal(results[RANGES - 1].size, 150);
	assert_int_equal(results[RANGES - 1].crc, crc32c(0, (const uint8_t *)again.bytes + 1, 150));
	free(frame);
	free(large.bytes);
	free(small.bytes);
	free(again.bytes);
	raw_client_close(&many);
	raw_client_close(&other);
	rig_stop(&rig);
}

static void inline_blocks_come_back(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct wire_result results[3];

	for (int is_file = 0; is_file < 2; is_file++) {
		struct block blocks[3] = {
			block_make(1, 100, true),
			block_make(2, 40000, true),
			block_make(3, 300000, false),
		};
		const struct raw_client_put puts[3] = { blocks[0].put, blocks[1].put,
							blocks[2].put };

		rig_init(&rig);
		rig_start(&rig, is_file);
		rig_client(&rig, &client);
		assert_int_equal(raw_client_finish(&client,
						   raw_client_put(&client, puts, 3, 0, NS_PER_S),
						   NULL, puts, results),
				 0);
		for (uint32_t i = 0; i < 3; i++) {
			assert_int_equal(results[i].status, 0);
			check_block(&client, &blocks[i]);
			free(blocks[i].bytes);
		}
		raw_client_close(&client);
		rig_stop(&rig);
	}
}

/* One move in all: sessions take turns, and everybody gets all of it. */
static void sessions_share_the_moves_of_their_reactor(void **state)
{
	struct rig rig;
	struct raw_client clients[2];
	uint32_t size = 3 * MiB + 77;
	uint8_t *bytes = rig_bytes(5, size);
	uint8_t *got = malloc(size);
	struct raw_client_put put = { .key = rig_key(5), .bytes = bytes, .size = size };
	uint64_t requests[2];

	rig_init(&rig);
	rig.opts.move_max = 1;
	rig_start(&rig, false);
	for (uint32_t i = 0; i < 2; i++)
		rig_client(&rig, &clients[i]);
	requests[0] = raw_client_put(&clients[0], &put, 1, 0, 10 * NS_PER_S);
	assert_int_equal(raw_client_finish(&clients[0], requests[0], NULL, &put, NULL), 0);
	for (uint32_t i = 0; i < 2; i++)
		requests[i] = raw_client_get(&clients[i], &put.key, 1, 0, size, 10 * NS_PER_S);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(raw_client_finish(&clients[i], requests[i], got, NULL, NULL), 0);
		assert_memory_equal(got, bytes, size);
		raw_client_close(&clients[i]);
	}
	assert_true(rig_metrics(&rig).again_move > 0);
	free(bytes);
	free(got);
	rig_stop(&rig);
}

static void what_is_not_there_is_a_miss_at_once(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct wire_key key = rig_key(9);
	uint64_t begin_ns;
	uint64_t request;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &client);
	begin_ns = env_now_ns(rig.env);
	request = raw_client_get(&client, &key, 1, 0, 4096, 10 * NS_PER_S);
	assert_int_equal(raw_client_finish(&client, request, NULL, NULL, NULL), -ERR_MISS);
	assert_true(env_now_ns(rig.env) - begin_ns < NS_PER_S);
	assert_int_equal(rig_metrics(&rig).get_miss_absent, 1);
	raw_client_close(&client);
	rig_stop(&rig);
}

/* Another namespace, another tenant: another block, whatever its key. */
static void names_keep_blocks_apart(void **state)
{
	struct rig rig;
	struct raw_client alice;
	struct raw_client bob;
	struct block block = block_make(1, 5000, true);
	uint64_t request;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &alice);
	assert_int_equal(put(&alice, &block, 0, NULL), 0);
	alice.ns[0] = 1;
	request = raw_client_get(&alice, &block.put.key, 1, 0, 5000, NS_PER_S);
	assert_int_equal(raw_client_finish(&alice, request, NULL, NULL, NULL), -ERR_MISS);

	raw_client_open(&bob, rig.port, rig_poll, &rig);
	assert_int_equal(raw_client_hello(&bob, "bob", &rig.tenants->rows[1].secrets[0]), 0);
	request = raw_client_get(&bob, &block.put.key, 1, 0, 5000, NS_PER_S);
	assert_int_equal(raw_client_finish(&bob, request, NULL, NULL, NULL), -ERR_MISS);
	free(block.bytes);
	raw_client_close(&bob);
	raw_client_close(&alice);
	rig_stop(&rig);
}

static void probe_and_drop_see_what_is_there(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct raw_client_frame frame;
	struct wire_key keys[9];
	const uint8_t *bits = frame.body + sizeof(struct wire_bitmap);

	for (int is_file = 0; is_file < 2; is_file++) {
		rig_init(&rig);
		rig_start(&rig, is_file);
		rig_client(&rig, &client);
		for (uint32_t i = 0; i < 9; i++) {
			struct block block = block_make(i, 3000, true);

			keys[i] = rig_key(i);
			if (i % 4 == 0)
				assert_int_equal(put(&client, &block, 0, NULL), 0);
			free(block.bytes);
		}
		(void)raw_client_keys(&client, WIRE_PROBE, keys, 9);
		assert_true(raw_client_recv(&client, &frame));
		assert_int_equal(frame.header.kind, WIRE_BITMAP);
		assert_int_equal(bits[0], 0x11);
		assert_int_equal(bits[1], 0x01);

		assert_int_equal(raw_client_finish(&client,
						   raw_client_keys(&client, WIRE_DROP, keys, 5),
						   NULL, NULL, NULL),
				 0);
		(void)raw_client_keys(&client, WIRE_PROBE, keys, 9);
		assert_true(raw_client_recv(&client, &frame));
		assert_int_equal(bits[0], 0);
		assert_int_equal(bits[1], 0x01);

		/* No key: the whole namespace. */
		assert_int_equal(raw_client_finish(&client,
						   raw_client_keys(&client, WIRE_DROP, keys, 0),
						   NULL, NULL, NULL),
				 0);
		(void)raw_client_keys(&client, WIRE_PROBE, keys, 9);
		assert_true(raw_client_recv(&client, &frame));
		assert_int_equal(bits[1], 0);
		raw_client_close(&client);
		rig_stop(&rig);
	}
}

static void stat_tells_in_text(void **state)
{
	struct rig rig;
	struct raw_client client;
	struct raw_client_frame frame;

	rig_init(&rig);
	rig_start(&rig, false);
	rig_client(&rig, &client);
	(void)raw_client_plain(&client, WIRE_STAT);
	assert_true(raw_client_recv(&client, &frame));
	assert_int_equal(frame.header.kind, WIRE_TEXT);
	assert_int_equal(((struct wire_text *)(void *)frame.body)->status, 0);
	assert_non_null(strstr((char *)frame.body + 8, "tenant alice\n"));
	assert_non_null(strstr((char *)frame.body + 8, "ctxkv_requests_total 1\n"));
	raw_client_close(&client);
	rig_stop(&rig);
}

/* What a get with PROGRESS is told: in order, only of bytes that came before it on its lane, and
 * how often depends on the loop's turns. */
static uint32_t progress_of(struct raw_client *client, const struct block *block, uint32_t offset)
{
	struct raw_client_frame *frame = malloc(sizeof(*frame));
	uint8_t *got = calloc(1, block->put.size);
	uint32_t size = block->put.size - offset;
	uint32_t landed = 0;
	uint32_t told = 0;
	uint32_t count = 0;
	uint64_t request;

	assert_non_null(frame);
	assert_non_null(got);
	client->get_flags = WIRE_REQ_PROGRESS;
	request = raw_client_get(client, &block->put.key, 1, offset, size, 5 * NS_PER_S);
	for (;;) {
		const struct wire_result *result = (const void *)frame->body;
		const struct wire_data *data = (const void *)frame->body;

		assert_true(raw_client_recv(client, frame));
		assert_int_equal(frame->header.request, request);
		if (frame->header.kind == WIRE_DATA_GET) {
			assert_int_equal(data->offset, landed);
			memcpy(got + landed, frame->payload, frame->header.payload_size);
			landed += frame->header.payload_size;
			continue;
		}
		assert_int_equal(frame->header.kind, WIRE_REPLY);
		assert_int_equal(frame->header.count, 1);
		assert_int_equal(result->status, 0);
		assert_int_equal(result->block_size, block->put.size);
		assert_true(result->size <= landed);
		assert_memory_equal(got + told, block->bytes + offset + told, result->size - told);
		if ((result->flags & WIRE_RESULT_PROGRESS) == 0)
			break;
		assert_int_equal(frame->header.flags & WIRE_FLAG_LAST, 0);
		assert_true(result->size > told);
		told = result->size;
		count++;
	}
	assert_int_equal(frame->header.flags & WIRE_FLAG_LAST, WIRE_FLAG_LAST);
	assert_int_equal(landed, size);
	client->get_flags = 0;
	free(frame);
	free(got);
	return count;
}

static void progress_is_told_in_order_on_one_lane(void **state)
{
	for (int is_file = 0; is_file < 2; is_file++) {
		struct block blocks[8];
		struct raw_client client;
		struct raw_client second;
		uint32_t told = 0;
		struct rig rig;

		rig_init(&rig);
		rig_start(&rig, is_file);
		rig_client(&rig, &client);
		raw_client_open(&second, rig.port, rig_poll, &rig);
		assert_int_equal(raw_client_join(&second, &client, "alice", 1), 0);
		/* The first ones are in no memory by the end. */
		for (uint32_t i = 0; i < ARRAY_LEN(blocks); i++) {
			blocks[i] = block_make(i, i == 1 ? 5000 : 4 * MiB, false);
			assert_int_equal(put(&client, &blocks[i], WIRE_REQ_DURABLE, NULL), 0);
		}
		for (uint32_t i = 0; i < ARRAY_LEN(blocks); i++) {
			told += progress_of(&client, &blocks[i], 0);
			told += progress_of(&client, &blocks[i], 777);
		}
		if (is_file) /* from memory all may land in one turn */
			assert_true(told > 0);
		for (uint32_t i = 0; i < ARRAY_LEN(blocks); i++)
			free(blocks[i].bytes);
		raw_client_close(&second);
		raw_client_close(&client);
		rig_stop(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_come_back_in_memory_mode),
		cmocka_unit_test(blocks_come_back_from_a_file),
		cmocka_unit_test(a_probe_of_two_shards_answers_in_order),
		cmocka_unit_test(a_block_that_goes_bad_in_memory_never_passes_for_right),
		cmocka_unit_test(many_ranges_of_a_block_take_turns_with_others),
		cmocka_unit_test(sums_are_shared_by_sessions),
		cmocka_unit_test(a_block_that_is_put_again_meanwhile_is_not_cut),
		cmocka_unit_test(inline_blocks_come_back),
		cmocka_unit_test(sessions_share_the_moves_of_their_reactor),
		cmocka_unit_test(what_is_not_there_is_a_miss_at_once),
		cmocka_unit_test(names_keep_blocks_apart),
		cmocka_unit_test(probe_and_drop_see_what_is_there),
		cmocka_unit_test(stat_tells_in_text),
		cmocka_unit_test(progress_is_told_in_order_on_one_lane),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
