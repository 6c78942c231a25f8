/* SPDX-License-Identifier: Apache-2.0 */
/* Floors move what they say: every byte of the working set, and no more than the time allows. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../../src/cmd/floor.h"
#include "../../lib/t.h"

#define BLOCKS 6

static uint32_t order[BLOCKS] = { 3, 0, 5, 1, 4, 2 };

static struct floor_walk walk_make(uint64_t size)
{
	struct floor_walk walk = { .block_size = size,
				   .stride = round_up(size, PAGE_SIZE),
				   .block_count = BLOCKS,
				   .order = order };

	walk.source = aligned_alloc(PAGE_SIZE, walk.stride * BLOCKS);
	walk.target = aligned_alloc(PAGE_SIZE, walk.stride * BLOCKS);
	assert_true(walk.source != NULL && walk.target != NULL);
	for (uint64_t i = 0; i < walk.stride * BLOCKS; i++)
		walk.source[i] = (char)(i * 7 + i / 1000);
	memset(walk.target, 0, walk.stride * BLOCKS);
	return walk;
}

static void walk_free(struct floor_walk *walk)
{
	free(walk->source);
	free(walk->target);
}

/* The first bytes of the walk have arrived; how many came depends on the machine. */
static void assert_moved(const struct floor_walk *walk, const struct floor_result *result)
{
	uint64_t left = result->bytes;

	assert_true(result->bytes >= walk->block_size);
	assert_true(result->ns > 0);
	for (uint64_t i = 0; i < BLOCKS && left > 0; i++) {
		uint64_t at = order[i] * walk->stride;
		uint64_t size = MIN(left, walk->block_size);

		assert_memory_equal(walk->source + at, walk->target + at, size);
		left -= size;
	}
}

/* Over several connections blocks arrive in any order: each is as sent, or not begun, but for the
 * one that every connection may have left half. */
static void assert_blocks(const struct floor_walk *walk, const struct floor_result *result,
			  uint32_t connections)
{
	uint64_t pieces = (walk->block_size + MiB - 1) / MiB;
	uint64_t right = 0;

	for (uint64_t i = 0; i < BLOCKS; i++)
		right += memcmp(walk->source + i * walk->stride, walk->target + i * walk->stride,
				walk->block_size) == 0;
	assert_true(right + (uint64_t)connections * pieces >=
		    MIN(BLOCKS, result->bytes / walk->block_size));
}

static void memcpy_and_sockets_move_every_block(void **state)
{
	static const uint64_t sizes[] = { 1, 4096, 70000, 3 * MiB + 5 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct floor_walk walk = walk_make(sizes[i]);
		struct floor_result result;

		assert_int_equal(floor_memcpy(&walk, 20 * NS_PER_MS, &result), 0);
		assert_moved(&walk, &result);
		for (uint32_t connections = 1; connections <= 5; connections += 2) {
			memset(walk.target, 0, walk.stride * BLOCKS);
			assert_int_equal(floor_socket(&walk, connections, 50 * NS_PER_MS, &result),
					 0);
			if (connections == 1)
				assert_moved(&walk, &result);
			else
				assert_blocks(&walk, &result, connections);
		}
		walk_free(&walk);
	}
}

/* Asleep or awake, with a block behind the answer and without. */
static void a_ping_pong_brings_every_block(void **state)
{
	static const uint64_t sizes[] = { 1, 4096, 3 * MiB + 5 };
	struct floor_exchange exchange = { .request_size = 200, .head_size = 80 };
	struct floor_result result;

	(void)state;
	for (size_t i = 0; i < 4 * ARRAY_LEN(sizes); i++) {
		struct floor_walk walk = walk_make(sizes[i / 4]);

		exchange.is_awake = i % 2 == 1;
		exchange.is_block = i % 4 < 2;
		assert_int_equal(floor_pingpong(&walk, &exchange, 30 * NS_PER_MS, &result), 0);
		assert_true(result.operations > 0);
		assert_int_equal(result.latency.total, result.operations);
		assert_true(result.cpu_ns > 0);
		if (exchange.is_block)
			assert_moved(&walk, &result);
		else
			assert_int_equal(result.bytes, result.operations * 280);
		walk_free(&walk);
	}
}

static void a_drive_is_written_and_read(void **state)
{
	struct floor_walk walk = walk_make(128 * KiB);
	struct floor_result result;
	char path[] = "/var/tmp/ctxkv-floor-XXXXXX";
	int fd = mkstemp(path);
	int rc;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(floor_drive(path, &walk, 4, true, 0, NS_PER_MS, &result), -ENOSPC);
	assert_int_equal(ftruncate(fd, (off_t)(BLOCKS * walk.stride)), 0);
	close(fd);
	rc = floor_drive(path, &walk, 4, true, 2, NS_PER_MS, &result);
	if (rc == -EINVAL || rc == -EPERM || rc == -ENOSYS) {
		print_message("no O_DIRECT on this file system, or no io_uring here\n");
		unlink(path);
		walk_free(&walk);
		skip();
	}
	assert_int_equal(rc, 0);
	/* A slow drive needs longer to write every block. */
	for (uint64_t ns = 50 * NS_PER_MS; result.bytes < BLOCKS * walk.block_size; ns *= 2) {
		assert_true(ns < 8 * NS_PER_S);
		assert_int_equal(floor_drive(path, &walk, 4, true, 2, ns, &result), 0);
	}
	/* Blocks lie in the file in the order of the walk, and are read back in the same. */
	assert_int_equal(floor_drive(path, &walk, 4, false, 0, 50 * NS_PER_MS, &result), 0);
	assert_moved(&walk, &result);
	/* A scattered walk has the file's blocks where its order says. */
	walk.is_scattered = true;
	memset(walk.target, 0, BLOCKS * walk.stride);
	assert_int_equal(floor_drive(path, &walk, 4, false, 0, 50 * NS_PER_MS, &result), 0);
	assert_true(result.operations >= BLOCKS);
	for (uint64_t i = 0; i < BLOCKS; i++)
		assert_memory_equal(walk.target + i * walk.stride,
				    walk.source + order[i] * walk.stride, walk.block_size);
	/* However short the time, a batch is moved, and nothing waits for what was not begun. */
	for (uint64_t ns = 0; ns < 200; ns++) {
		assert_int_equal(floor_drive(path, &walk, 1, false, 0, ns * NS_PER_US / 2, &result),
				 0);
		assert_true(result.bytes >= walk.block_size);
	}
	unlink(path);
	walk_free(&walk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memcpy_and_sockets_move_every_block),
		cmocka_unit_test(a_ping_pong_brings_every_block),
		cmocka_unit_test(a_drive_is_written_and_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
