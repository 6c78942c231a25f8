/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines of a server, to standard error, without waiting for it: a reader that has stopped (a
 * full pipe, a paused terminal) must not hold up a reactor.
 *
 * What strangers do is told, but they do not decide how much is written: of lines below error at
 * most LINES_PER_S a second.
 *
 * Normal path: whoever logs claims a slot of a ring, writes the line into it and publishes it; the
 * writer's thread is woken and writes. A line that finds the ring full, or is over the limit, is
 * counted; the next one written is preceded by how many were left out.
 *
 * The ring is that of server/mailbox.h, with lines instead of mails: a turn for each slot.
 *
 * Failure: no thread can be made: lines are written by who logs, as in every other command. At the
 * end cmd_log_end() waits for the writer, at most a second: a reader that has stopped does not keep
 * the server. A panic writes by itself (base.c).
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../base/log.h"
#include "clock.h"
#include "cmd.h"

#define LINES_PER_S 50
#define RING_SIZE   256 /* a power of two */
#define LINE_SIZE   512
#define END_NS      NS_PER_S

struct slot {
	atomic_uint_least64_t turn; /* as mail_slot.turn */
	char line[LINE_SIZE];
};

static struct slot ring[RING_SIZE];
static atomic_uint_least64_t tail; /* claimed by who logs: relaxed, turn orders */
static uint64_t head;              /* the writer's */
static sem_t lines;                /* a post for each line, and one for the end */
static sem_t ended;
static pthread_t writer;
static bool has_writer;       /* set before other threads are made */
static atomic_bool is_ending; /* stored before the last post; relaxed */

/* Independent, relaxed: a line more or less at the turn of a second is no harm. */
static atomic_uint_least64_t second;
static atomic_uint count; /* lines of it */
static atomic_uint left_out;

static bool is_over_limit(void)
{
	uint64_t now_s = clock_ns() / NS_PER_S;

	if (atomic_exchange_explicit(&second, now_s, memory_order_relaxed) != now_s)
		atomic_store_explicit(&count, 0, memory_order_relaxed);
	return atomic_fetch_add_explicit(&count, 1, memory_order_relaxed) >= LINES_PER_S;
}

static struct slot *slot_claim(void)
{
	uint64_t position = atomic_load_explicit(&tail, memory_order_relaxed);

	for (;;) {
		struct slot *slot = &ring[position % RING_SIZE];
		/* Partner: the release in line_take(). */
		uint64_t turn = atomic_load_explicit(&slot->turn, memory_order_acquire);

		if (turn < position)
			return NULL;
		if (turn == position && atomic_compare_exchange_weak_explicit(
						&tail, &position, position + 1,
						memory_order_relaxed, memory_order_relaxed))
			return slot;
		if (turn > position)
			position = atomic_load_explicit(&tail, memory_order_relaxed);
	}
}

static void line_put(void *ctx, enum log_level level, const char *line)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	struct slot *slot = level != LOG_ERROR && is_over_limit() ? NULL : slot_claim();

	if (slot == NULL) {
		atomic_fetch_add_explicit(&left_out, 1, memory_order_relaxed);
		return;
	}
	snprintf(slot->line, sizeof(slot->line), "ctxkv: %s: %s\n", names[level], line);
	/* Ours alone since the claim. Partner: line_take(). */
	atomic_fetch_add_explicit(&slot->turn, 1, memory_order_release);
	sem_post(&lines);
}

static bool line_take(char *line)
{
	struct slot *slot = &ring[head % RING_SIZE];

	/* Partner: line_put(). */
	if (atomic_load_explicit(&slot->turn, memory_order_acquire) != head + 1)
		return false;
	memcpy(line, slot->line, LINE_SIZE);
	/* Partner: slot_claim() of the next round. */
	atomic_store_explicit(&slot->turn, head + RING_SIZE, memory_order_release);
	head++;
	return true;
}

static void write_all(void)
{
	char line[LINE_SIZE];

	while (line_take(line)) {
		unsigned missing = atomic_exchange_explicit(&left_out, 0, memory_order_relaxed);

		if (missing > 0)
			fprintf(stderr, "ctxkv: warn: log %u lines left out\n", missing);
		fputs(line, stderr);
	}
}

static void *writer_main(void *ctx)
{
	while (!atomic_load_explicit(&is_ending, memory_order_relaxed)) {
		(void)sem_wait(&lines); /* interrupted: there is nothing to do but look */
		write_all();
	}
	sem_post(&ended);
	return NULL;
}

void cmd_log_begin(void)
{
	for (uint64_t i = 0; i < RING_SIZE; i++)
		atomic_init(&ring[i].turn, i);
	sem_init(&lines, 0, 0);
	sem_init(&ended, 0, 0);
	has_writer = pthread_create(&writer, NULL, writer_main, NULL) == 0;
	if (has_writer)
		log_sink_set(line_put, NULL);
}

void cmd_log_end(void)
{
	uint64_t until_ns = clock_ns() + END_NS;
	const struct timespec until = { (time_t)(until_ns / NS_PER_S),
					(long)(until_ns % NS_PER_S) };

	if (!has_writer)
		return;
	atomic_store_explicit(&is_ending, true, memory_order_relaxed);
	sem_post(&lines);
	if (sem_clockwait(&ended, CLOCK_MONOTONIC, &until) == 0)
		pthread_join(writer, NULL);
	log_sink_set(NULL, NULL);
	has_writer = false;
}
