/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floors of copying, of loopback TCP one way, and of the drive; floor_pingpong.c has exchanges.
 * Each measures in the shape of what it stands beside: the same order of blocks, the same pieces,
 * the same depth. What cannot be done here (no io_uring, no direct I/O) is a code, and the report
 * goes without that column.
 */
#include "floor_priv.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "proc_cpu.h"

#define CONNECTIONS_MAX 64
#define PIECE           MiB /* of a block, on one connection */
#define DEPTH_MAX       1024

int floor_memcpy(const struct floor_walk *walk, uint64_t duration_ns,
		 struct floor_result *result_out)
{
	uint64_t cpu_begin = proc_cpu_self_ns();
	uint64_t begin = clock_ns();
	uint64_t now = begin;
	uint64_t step = 0;

	*result_out = (struct floor_result) { 0 };
	do {
		/* Two looks at the clock a MiB cost nothing, two a 4 KiB block would. */
		for (uint64_t bytes = 0; bytes < MiB; bytes += walk->block_size, step++) {
			memcpy(walk->target + block_at(walk, step),
			       walk->source + block_at(walk, step), walk->block_size);
			if (bytes == 0)
				histogram_add(&result_out->latency, clock_ns() - now);
		}
		now = clock_ns();
	} while (now < begin + duration_ns);
	floor_result_set(result_out, step, walk->block_size, now - begin, cpu_begin);
	return 0;
}

/* --- socket pair --- */

/*
 * Both sides walk the same pieces in the same order, dealt out over the connections in turn: each
 * side moves what a connection takes, then waits with poll() for any of them. The sender stops when
 * the time is up, at the end of a block; the receiver at the end of the streams.
 */
struct side {
	const struct floor_walk *walk;
	int fds[CONNECTIONS_MAX];
	uint32_t count;
	bool is_sender;
	uint64_t until_ns;
	uint64_t bytes;
	int rc;
};

/* Where a connection is in the pieces that are its own: number, and bytes of it done. */
struct stream {
	uint64_t piece;
	uint64_t done;
	bool is_ended;
};

static uint64_t pieces_of(const struct floor_walk *walk)
{
	return (walk->block_size + PIECE - 1) / PIECE;
}

static char *piece_at(const struct side *side, uint64_t piece, uint64_t *size_out)
{
	const struct floor_walk *walk = side->walk;
	uint64_t pieces = pieces_of(walk);
	uint64_t offset = piece % pieces * PIECE;
	char *memory = side->is_sender ? walk->source : walk->target;

	*size_out = MIN(walk->block_size - offset, PIECE);
	return memory + block_at(walk, piece / pieces) + offset;
}

/* Moves what the connection takes now. 0, or why not. */
static int stream_move(struct side *side, struct stream *stream, uint32_t index)
{
	for (;;) {
		uint64_t size;
		char *at = piece_at(side, stream->piece, &size);
		ssize_t moved;

		if (side->is_sender && stream->done == 0 && clock_ns() >= side->until_ns &&
		    stream->piece >= side->count) {
			shutdown(side->fds[index], SHUT_WR);
			stream->is_ended = true;
			return 0;
		}
		moved = side->is_sender ? send(side->fds[index], at + stream->done,
					       size - stream->done, MSG_NOSIGNAL | MSG_DONTWAIT)
					: recv(side->fds[index], at + stream->done,
					       size - stream->done, MSG_DONTWAIT);
		if (moved < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (moved == 0) {
			stream->is_ended = true;
			return 0;
		}
		side->bytes += (uint64_t)moved;
		stream->done += (uint64_t)moved;
		if (stream->done == size) {
			stream->done = 0;
			stream->piece += side->count;
		}
		if ((uint64_t)moved < size / 2)
			return 0; /* let the others have their turn */
	}
}

static void *side_main(void *ctx)
{
	struct side *side = ctx;
	struct pollfd polls[CONNECTIONS_MAX];
	struct stream streams[CONNECTIONS_MAX] = { 0 };
	uint32_t open = side->count;

	for (uint32_t i = 0; i < side->count; i++) {
		streams[i].piece = i;
		polls[i] = (struct pollfd) { side->fds[i], side->is_sender ? POLLOUT : POLLIN, 0 };
	}
	while (open > 0 && side->rc == 0) {
		if (poll(polls, side->count, 5000) <= 0) {
			side->rc = -ETIMEDOUT;
			break;
		}
		for (uint32_t i = 0; i < side->count && side->rc == 0; i++) {
			if (polls[i].revents == 0 || streams[i].is_ended)
				continue;
			side->rc = stream_move(side, &streams[i], i);
			if (streams[i].is_ended) {
				polls[i].fd = -1;
				open--;
			}
		}
	}
	return NULL;
}

int floor_pair_make(int *a_out, int *b_out)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	const int one = 1;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int b = -1;
	int rc = -EIO;

	if (listener >= 0 && a >= 0 && bind(listener, (struct sockaddr *)&address, size) == 0 &&
	    listen(listener, 1) == 0 &&
	    getsockname(listener, (struct sockaddr *)&address, &size) == 0 &&
	    connect(a, (struct sockaddr *)&address, size) == 0) {
		b = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		rc = b >= 0 ? 0 : -errno;
	}
	if (listener >= 0)
		close(listener);
	if (rc < 0 && a >= 0)
		close(a);
	if (rc < 0)
		return rc;
	(void)setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* as ours have it */
	(void)setsockopt(b, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	*a_out = a;
	*b_out = b;
	return 0;
}

static int socket_run(struct side *sender, struct side *receiver, uint64_t duration_ns,
		      struct floor_result *result_out)
{
	uint64_t cpu_begin = proc_cpu_self_ns();
	uint64_t begin = clock_ns();
	pthread_t thread;
	int rc;

	*result_out = (struct floor_result) { 0 };
	sender->until_ns = begin + duration_ns;
	rc = -pthread_create(&thread, NULL, side_main, sender);
	if (rc < 0)
		return rc;
	side_main(receiver);
	for (uint32_t i = 0; receiver->rc < 0 && i < receiver->count; i++)
		shutdown(receiver->fds[i], SHUT_RDWR); /* or the sender would wait for it */
	pthread_join(thread, NULL);
	floor_result_set(result_out, receiver->bytes / receiver->walk->block_size,
			 receiver->walk->block_size, clock_ns() - begin, cpu_begin);
	result_out->bytes = receiver->bytes;
	return receiver->rc < 0 ? receiver->rc : sender->rc;
}

int floor_socket(const struct floor_walk *walk, uint32_t connections, uint64_t duration_ns,
		 struct floor_result *result_out)
{
	struct side sender = { .walk = walk, .is_sender = true };
	struct side receiver = { .walk = walk };
	uint32_t count = MIN(MAX(connections, 1), CONNECTIONS_MAX);
	int rc = 0;

	while (rc == 0 && sender.count < count) {
		rc = floor_pair_make(&sender.fds[sender.count], &receiver.fds[sender.count]);
		sender.count += rc == 0;
	}
	receiver.count = sender.count;
	if (rc == 0)
		rc = socket_run(&sender, &receiver, duration_ns, result_out);
	for (uint32_t i = 0; i < sender.count; i++) {
		close(sender.fds[i]);
		close(receiver.fds[i]);
	}
	return rc;
}

/* --- drive --- */

struct drive {
	struct io_uring ring;
	const struct floor_walk *walk;
	int fd;
	bool is_write;
	uint64_t file_blocks; /* blocks the file has room for */
	uint64_t next;
	uint64_t done;
	uint32_t in_flight;
	struct histogram *latency;
};

/* Which block of the file comes next. */
static uint64_t file_block(const struct drive *drive)
{
	const struct floor_walk *walk = drive->walk;
	uint64_t step = drive->next % walk->block_count;

	if (!walk->is_scattered || drive->is_write)
		return step % drive->file_blocks;
	/* Over all of the file, however few the blocks of the walk. */
	return (uint64_t)((unsigned __int128)walk->order[step] * drive->file_blocks /
			  walk->block_count);
}

static int drive_submit(struct drive *drive, uint32_t depth)
{
	const struct floor_walk *walk = drive->walk;
	int rc;

	for (; drive->in_flight < depth; drive->in_flight++, drive->next++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&drive->ring);
		uint64_t offset = block_at(walk, drive->next);
		uint64_t at = file_block(drive) * walk->stride;

		if (sqe == NULL)
			break;
		if (drive->is_write)
			io_uring_prep_write(sqe, drive->fd, walk->source + offset,
					    (unsigned)walk->stride, at);
		else
			io_uring_prep_read(sqe, drive->fd, walk->target + offset,
					   (unsigned)walk->stride, at);
		io_uring_sqe_set_data64(sqe, clock_ns());
	}
	rc = io_uring_submit(&drive->ring);
	return MIN(rc, 0);
}

/* Waits for one; others that have ended are taken, too. */
static int drive_collect(struct drive *drive)
{
	struct io_uring_cqe *cqe;
	int rc = io_uring_wait_cqe(&drive->ring, &cqe);

	while (rc == 0) {
		int result = cqe->res;

		histogram_add(drive->latency, clock_ns() - io_uring_cqe_get_data64(cqe));
		io_uring_cqe_seen(&drive->ring, cqe);
		drive->in_flight--;
		if (result < 0)
			return result;
		if ((uint64_t)result != drive->walk->stride)
			return -EIO;
		drive->done++;
		if (io_uring_peek_cqe(&drive->ring, &cqe) != 0)
			return 0;
	}
	return rc;
}

static int drive_run(struct drive *drive, uint32_t depth, uint32_t flush_every,
		     uint64_t duration_ns, struct floor_result *result_out)
{
	uint64_t cpu_begin = proc_cpu_self_ns();
	uint64_t begin = clock_ns();
	uint64_t until = begin + MAX(duration_ns, 1); /* one batch at least */
	uint64_t flushed = 0;
	int rc = 0;

	*result_out = (struct floor_result) { 0 };
	drive->latency = &result_out->latency;
	/* One look at the clock a turn: who submits nothing must not wait either. */
	for (uint64_t now = begin; rc == 0 && (now < until || drive->in_flight > 0);
	     now = clock_ns()) {
		if (now < until)
			rc = drive_submit(drive, depth);
		if (rc == 0)
			rc = drive_collect(drive);
		if (rc == 0 && flush_every > 0 && drive->done - flushed >= flush_every) {
			rc = fdatasync(drive->fd) < 0 ? -errno : 0;
			flushed = drive->done;
		}
	}
	if (rc == 0 && flush_every > 0)
		rc = fdatasync(drive->fd) < 0 ? -errno : 0;
	floor_result_set(result_out, drive->done, drive->walk->block_size, clock_ns() - begin,
			 cpu_begin);
	return rc;
}

int floor_drive(const char *path, const struct floor_walk *walk, uint32_t depth, bool is_write,
		uint32_t flush_every, uint64_t duration_ns, struct floor_result *result_out)
{
	struct drive drive = { .walk = walk, .is_write = is_write };
	off_t size;
	int rc;

	depth = MIN(MAX(depth, 1), DEPTH_MAX);
	drive.fd = open(path, (is_write ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
	if (drive.fd < 0)
		return -errno;
	size = lseek(drive.fd, 0, SEEK_END);
	drive.file_blocks = size > 0 ? (uint64_t)size / walk->stride : 0;
	rc = drive.file_blocks == 0 ? -ENOSPC : io_uring_queue_init(depth, &drive.ring, 0);
	if (rc == 0) {
		rc = drive_run(&drive, depth, flush_every, duration_ns, result_out);
		io_uring_queue_exit(&drive.ring); /* waits for what is in flight */
	}
	close(drive.fd);
	return rc;
}
