/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking reactors from another thread.
 *
 * Normal path: under query_lock the asker fills the reactor's slot, sets it ASKED and posts a mail;
 * the reactor answers into the slot's rows, sets it ANSWERED and posts the semaphore; the asker
 * copies the rows to the caller and frees the slot. All reactors are asked first, then waited for,
 * so that they work at the same time. Rows that do not fit one slot come by asking again behind the
 * cursor.
 *
 * Failure: a reactor that does not answer in time: the asker sets ABANDONED and goes on; the slot
 * is the reactor's until it answers, which frees it. Until then it counts as silent at once. The
 * exchange of ASKED decides between the two: exactly one of them frees the slot. The semaphore may
 * carry a post of an answer that nobody waited for: who waits looks at the state, not at it.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server_priv.h"

static struct reactor_thread *thread_of(struct reactor_query *query)
{
	struct query_slot *slot = CONTAINER_OF(query, struct query_slot, query);

	return CONTAINER_OF(slot, struct reactor_thread, query);
}

/* On the reactor's thread. */
static void answered_cb(struct reactor_query *query)
{
	struct query_slot *slot = &thread_of(query)->query;
	unsigned was = QUERY_SLOT_ASKED;

	/* Release: the answer is written before. Partner: slot_wait(). */
	if (atomic_compare_exchange_strong_explicit(&slot->state, &was, QUERY_SLOT_ANSWERED,
						    memory_order_release, memory_order_relaxed))
		sem_post(&slot->answered);
	else
		/* Release: we are done with the slot. Partner: slot_ask(). */
		atomic_store_explicit(&slot->state, QUERY_SLOT_FREE, memory_order_release);
}

int server_query_init(struct reactor_thread *thread)
{
	struct query_slot *slot = &thread->query;

	sem_init(&slot->answered, 0, 0);
	slot->rows = calloc(1, SERVER_QUERY_BYTES);
	return slot->rows != NULL ? 0 : -ENOMEM;
}

void server_query_fini(struct reactor_thread *thread)
{
	free(thread->query.rows);
	thread->query.rows = NULL;
	sem_destroy(&thread->query.answered);
}

/* --- one question to one reactor --- */

static bool slot_ask(struct reactor_thread *thread, const struct server_query *query,
		     uint64_t cursor)
{
	struct query_slot *slot = &thread->query;
	size_t row_size = query_row_size(query->kind);
	struct mail *mail;

	/* Partner: answered_cb() of an abandoned question. */
	if (atomic_load_explicit(&slot->state, memory_order_acquire) != QUERY_SLOT_FREE)
		return false;
	mail = mailbox_reserve(&thread->mailbox);
	if (mail == NULL)
		return false;
	slot->query = (struct reactor_query) {
		.kind = query->kind,
		.in = query->in,
		.rows = slot->rows,
		.row_max = row_size > 0 ? (uint32_t)(SERVER_QUERY_BYTES / row_size) : 0,
		.cursor = cursor,
		.done = answered_cb,
	};
	atomic_store_explicit(&slot->state, QUERY_SLOT_ASKED, memory_order_relaxed);
	*mail = (struct mail) { .kind = MAIL_QUERY, .u.query = &slot->query };
	mailbox_commit(&thread->mailbox, mail); /* releases the slot */
	return true;
}

/* False: not in time, the slot is left to the reactor. */
static bool slot_wait(struct query_slot *slot, const struct timespec *until)
{
	unsigned was = QUERY_SLOT_ASKED;

	for (;;) {
		/* Acquire: the answer. Partner: answered_cb(). */
		if (atomic_load_explicit(&slot->state, memory_order_acquire) == QUERY_SLOT_ANSWERED)
			return true;
		if (sem_clockwait(&slot->answered, CLOCK_MONOTONIC, until) < 0 &&
		    errno == ETIMEDOUT)
			break;
	}
	return !atomic_compare_exchange_strong_explicit(&slot->state, &was, QUERY_SLOT_ABANDONED,
							memory_order_acquire, memory_order_acquire);
}

static void slot_free(struct query_slot *slot)
{
	atomic_store_explicit(&slot->state, QUERY_SLOT_FREE, memory_order_relaxed);
}

/* --- all of them --- */

/* What one reactor's answer adds to the caller's; its cursor. */
static uint64_t rows_take(struct server_query *query, const struct reactor_query *answer)
{
	size_t row_size = query_row_size(query->kind);
	uint32_t room = query->row_max - query->row_count;
	uint32_t count = MIN(answer->row_count, room);

	if (count > 0)
		memcpy((char *)query->rows + query->row_count * row_size, answer->rows,
		       count * row_size);
	query->row_count += count;
	query->is_cut = query->is_cut || answer->row_count > room ||
			(answer->cursor != 0 && query->row_count == query->row_max);
	return query->row_count < query->row_max ? answer->cursor : 0;
}

/* The rest of a reactor whose first answer stands in its slot. */
static int reactor_finish_query(struct reactor_thread *thread, struct server_query *query,
				const struct timespec *until)
{
	struct query_slot *slot = &thread->query;
	int rc = 0;

	for (;;) {
		uint64_t cursor;

		if (!slot_wait(slot, until))
			break;
		cursor = rows_take(query, &slot->query);
		rc = slot->query.rc;
		slot_free(slot);
		if (rc < 0 || cursor == 0)
			return rc;
		if (!slot_ask(thread, query, cursor))
			break;
	}
	query->silent_count++;
	return rc;
}

static struct timespec until_make(uint64_t timeout_ns)
{
	struct timespec until;
	uint64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &until);
	timeout_ns = MIN(timeout_ns, 3600 * NS_PER_S);
	ns = (uint64_t)until.tv_nsec + timeout_ns;
	until.tv_sec += (time_t)(ns / NS_PER_S);
	until.tv_nsec = (long)(ns % NS_PER_S);
	return until;
}

static bool is_meant(const struct server_query *query, uint32_t reactor)
{
	return query->reactor == SERVER_REACTOR_ALL || query->reactor == reactor;
}

static int query_run(struct server *server, struct server_query *query,
		     const struct timespec *until)
{
	bool is_asked[SERVER_REACTOR_MAX] = { false };
	int first = 0;

	for (uint32_t i = 0; i < server->reactor_count; i++) {
		if (!is_meant(query, i))
			continue;
		is_asked[i] = slot_ask(&server->threads[i], query, 0);
		query->silent_count += !is_asked[i];
	}
	for (uint32_t i = 0; i < server->reactor_count; i++) {
		int rc = 0;

		if (is_asked[i])
			rc = reactor_finish_query(&server->threads[i], query, until);
		if (first == 0)
			first = rc;
	}
	if (first == 0 && query->silent_count > 0)
		return -ETIMEDOUT;
	return first;
}

int server_query(struct server *server, struct server_query *query)
{
	struct timespec until = until_make(query->timeout_ns);
	int rc;

	CHECK_OBJ(server, SERVER_MAGIC);
	ASSERT(query->row_max == 0 || query->rows != NULL);
	query->row_count = 0;
	query->silent_count = 0;
	query->is_cut = false;
	pthread_mutex_lock(&server->query_lock);
	rc = server->is_running ? query_run(server, query, &until) : -ERR_CLOSING;
	pthread_mutex_unlock(&server->query_lock);
	return rc;
}

int server_drain(struct server *server, uint64_t timeout_ns)
{
	struct server_query query = { .kind = QUERY_DRAIN,
				      .reactor = SERVER_REACTOR_ALL,
				      .timeout_ns = timeout_ns };

	return server_query(server, &query);
}

int server_set_tenants(struct server *server, const struct tenants *tenants, uint64_t timeout_ns)
{
	struct server_query query = { .kind = QUERY_TENANTS,
				      .reactor = SERVER_REACTOR_ALL,
				      .in.tenants = tenants,
				      .timeout_ns = timeout_ns };

	return server_query(server, &query);
}

/* All are asked, then all are waited for; each answer in its own row. */
static uint32_t metrics_run(struct server *server, struct metrics *rows, uint32_t count,
			    const struct timespec *until)
{
	const struct server_query query = { .kind = QUERY_METRICS };
	bool is_asked[SERVER_REACTOR_MAX] = { false };
	uint32_t answered = 0;

	for (uint32_t i = 0; i < count; i++)
		is_asked[i] = slot_ask(&server->threads[i], &query, 0);
	for (uint32_t i = 0; i < count; i++) {
		struct query_slot *slot = &server->threads[i].query;

		if (!is_asked[i] || !slot_wait(slot, until))
			continue;
		memcpy(&rows[i], slot->rows, sizeof(rows[i]));
		slot_free(slot);
		answered++;
	}
	return answered;
}

uint32_t server_get_metrics(struct server *server, struct metrics *rows, uint32_t count,
			    uint64_t timeout_ns)
{
	struct timespec until = until_make(timeout_ns);
	uint32_t answered = 0;

	CHECK_OBJ(server, SERVER_MAGIC);
	memset(rows, 0, count * sizeof(rows[0]));
	pthread_mutex_lock(&server->query_lock);
	if (server->is_running)
		answered = metrics_run(server, rows, MIN(count, server->reactor_count), &until);
	pthread_mutex_unlock(&server->query_lock);
	return answered;
}
