/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer behind `bench --ops mixed`: a thread with a client of its own that puts blocks under
 * ever new keys, WRITER_BATCH in flight, at a steady rate, while others are measured. It begins a
 * put when the time for it has come, however late the last one was answered: what the server
 * cannot take shows as a lower rate.
 *
 * Atomics: should_end is written by who started it and polled by the thread; pthread_join() is
 * what publishes the figures.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "bench_writer.h"
#include "clock.h"
#include "cmd.h"
#include "content.h"

struct writer_slot {
	struct ctxkv_op op;
	struct ctxkv_item item;
	struct ctxkv_iov iov;
	bool is_busy;
};

/* Begin what is due; returns how many are in flight. */
static uint32_t writer_submit(struct bench_writer *writer, struct writer_slot *slots)
{
	uint32_t busy = 0;

	for (uint32_t i = 0; i < WRITER_BATCH; i++) {
		struct writer_slot *slot = &slots[i];
		struct ctxkv_op *op = &slot->op;
		uint64_t due_ns = writer->begin_ns + writer->next * writer->interval_ns;

		if (slot->is_busy || atomic_load(&writer->should_end) || clock_ns() < due_ns) {
			busy += slot->is_busy;
			continue;
		}
		*op = (struct ctxkv_op) { .opcode = CTXKV_OP_PUT,
					  .ns = writer->ns,
					  .items = &slot->item,
					  .item_count = 1,
					  .user = slot };
		slot->item = (struct ctxkv_item) { .key = content_key(writer->run, writer->next++),
						   .iov = &slot->iov,
						   .iov_count = 1 };
		slot->iov = (struct ctxkv_iov) { writer->bytes, writer->block_size };
		if (ctxkv_submit(writer->client, &op, 1) == 1) {
			slot->is_busy = true;
			busy++;
		}
	}
	return busy;
}

static void answer_note(struct bench_writer *writer, const struct writer_slot *slot)
{
	int rc = slot->op.status < 0 ? slot->op.status : slot->item.status;

	if (rc == 0) {
		writer->stored++;
		return;
	}
	writer->failures++;
	if (writer->error == 0)
		writer->error = rc;
}

static void writer_collect(struct bench_writer *writer)
{
	struct ctxkv_event events[WRITER_BATCH];
	struct pollfd fd = { .fd = ctxkv_event_fd(writer->client), .events = POLLIN };
	int count = ctxkv_poll(writer->client, events, ARRAY_LEN(events));

	if (count == 0)
		poll(&fd, 1, 1);
	for (int i = 0; i < count; i++) {
		struct writer_slot *slot = events[i].op->user;

		if ((events[i].what & CTXKV_RELEASE) == 0)
			continue;
		slot->is_busy = false;
		answer_note(writer, slot);
	}
}

static void *writer_main(void *ctx)
{
	struct bench_writer *writer = ctx;
	struct writer_slot slots[WRITER_BATCH] = { 0 };

	while (writer_submit(writer, slots) > 0 || !atomic_load(&writer->should_end))
		writer_collect(writer);
	writer->end_ns = clock_ns();
	return NULL;
}

int bench_writer_start(struct bench_writer *writer, const struct options *options,
		       const struct ctxkv_ns *ns, uint64_t block_size)
{
	*writer = (struct bench_writer) { .ns = *ns,
					  .run = clock_ns() << 16,
					  .block_size = block_size,
					  .interval_ns =
						  block_size * 1000000000 / options->write_rate };
	writer->client = cmd_client_open(options, (uint32_t)options->lanes);
	writer->bytes = malloc(block_size);
	if (writer->client == NULL || writer->bytes == NULL)
		goto err_close;
	memset(writer->bytes, 0x5a, block_size);
	writer->begin_ns = clock_ns();
	if (pthread_create(&writer->thread, NULL, writer_main, writer) != 0)
		goto err_close;
	return 0;

err_close:
	free(writer->bytes);
	ctxkv_close(&writer->client);
	return -1;
}

double bench_writer_stop(struct bench_writer *writer)
{
	atomic_store(&writer->should_end, true);
	pthread_join(writer->thread, NULL);
	ctxkv_close(&writer->client);
	free(writer->bytes);
	return (double)(writer->stored * writer->block_size) * 1e9 /
	       (double)MAX(writer->end_ns - writer->begin_ns, 1);
}
