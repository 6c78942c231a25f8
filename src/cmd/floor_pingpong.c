/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two threads at the ends of a loopback TCP connection: one asks and waits for the whole answer,
 * the other answers, with scatter and gather lists as ours. It ends when the time is up: the asker
 * shuts its side, the other reads the end of the stream. An error on either side shuts both
 * directions, so that nobody waits for who has left.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "floor_priv.h"

struct side {
	const struct floor_walk *walk;
	const struct floor_exchange *exchange;
	int fd;
	int rc;
	char *message; /* FLOOR_MESSAGE_MAX */
};

/* Done bytes off the front of the list. */
static void iov_advance(struct msghdr *message, size_t done)
{
	while (message->msg_iovlen > 0 && done >= message->msg_iov->iov_len) {
		done -= message->msg_iov->iov_len;
		message->msg_iov++;
		message->msg_iovlen--;
	}
	if (message->msg_iovlen == 0)
		return;
	message->msg_iov->iov_base = (char *)message->msg_iov->iov_base + done;
	message->msg_iov->iov_len -= done;
}

/* All of the list; 0, or why not. -ECONNRESET: the stream has ended. */
static int move_all(const struct side *side, struct iovec *iov, size_t count, bool is_send)
{
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = count };
	int flags = MSG_NOSIGNAL | (side->exchange->is_awake ? MSG_DONTWAIT : 0);

	while (message.msg_iovlen > 0) {
		ssize_t moved = is_send ? sendmsg(side->fd, &message, flags)
					: recvmsg(side->fd, &message, flags);

		if (moved == 0)
			return -ECONNRESET;
		if (moved < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (moved > 0)
			iov_advance(&message, (size_t)moved);
	}
	return 0;
}

static int request_move(const struct side *side, bool is_send)
{
	struct iovec iov = { side->message, side->exchange->request_size };

	return move_all(side, &iov, 1, is_send);
}

static int answer_move(const struct side *side, uint64_t step, bool is_send)
{
	char *memory = is_send ? side->walk->source : side->walk->target;
	struct iovec iov[2] = { { side->message, side->exchange->head_size },
				{ memory + block_at(side->walk, step), side->walk->block_size } };

	return move_all(side, iov, side->exchange->is_block ? 2 : 1, is_send);
}

static void *answer_main(void *ctx)
{
	struct side *side = ctx;

	for (uint64_t step = 0; side->rc == 0; step++) {
		side->rc = request_move(side, false);
		if (side->rc == 0)
			side->rc = answer_move(side, step, true);
	}
	if (side->rc == -ECONNRESET)
		side->rc = 0;
	shutdown(side->fd, SHUT_RDWR);
	return NULL;
}

static void ask_until(struct side *side, uint64_t until_ns, struct floor_result *result)
{
	uint64_t cpu_begin = proc_cpu_self_ns();
	uint64_t begin = clock_ns();
	uint64_t size = side->exchange->is_block
				? side->walk->block_size
				: side->exchange->request_size + side->exchange->head_size;
	uint64_t now = begin;
	uint64_t step = 0;

	do {
		uint64_t asked = now;

		side->rc = request_move(side, true);
		if (side->rc == 0)
			side->rc = answer_move(side, step, false);
		if (side->rc < 0)
			break;
		now = clock_ns();
		histogram_add(&result->latency, now - asked);
		step++;
	} while (now < until_ns);
	floor_result_set(result, step, size, clock_ns() - begin, cpu_begin);
}

static int sides_run(struct side *asker, struct side *answerer, uint64_t duration_ns,
		     struct floor_result *result_out)
{
	pthread_t thread;
	int rc = -pthread_create(&thread, NULL, answer_main, answerer);

	if (rc < 0)
		return rc;
	*result_out = (struct floor_result) { 0 };
	ask_until(asker, clock_ns() + duration_ns, result_out);
	shutdown(asker->fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	return asker->rc < 0 ? asker->rc : answerer->rc;
}

int floor_pingpong(const struct floor_walk *walk, const struct floor_exchange *exchange,
		   uint64_t duration_ns, struct floor_result *result_out)
{
	struct side asker = { .walk = walk, .exchange = exchange };
	struct side answerer = { .walk = walk, .exchange = exchange };
	int rc;

	ASSERT(exchange->request_size > 0 && exchange->request_size <= FLOOR_MESSAGE_MAX);
	ASSERT(exchange->head_size > 0 && exchange->head_size <= FLOOR_MESSAGE_MAX);
	asker.message = calloc(1, FLOOR_MESSAGE_MAX);
	answerer.message = calloc(1, FLOOR_MESSAGE_MAX);
	rc = asker.message == NULL || answerer.message == NULL
		     ? -ENOMEM
		     : floor_pair_make(&asker.fd, &answerer.fd);
	if (rc == 0) {
		rc = sides_run(&asker, &answerer, duration_ns, result_out);
		close(asker.fd);
		close(answerer.fd);
	}
	free(asker.message);
	free(answerer.message);
	return rc;
}
