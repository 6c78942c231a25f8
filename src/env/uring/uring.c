/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block I/O through a ring of the kernel's, under the loop of env/posix.
 *
 * blk_submit() only lists. The next turn of the loop fills an entry of the ring for each that is
 * listed, while fewer than RING_DEPTH are with the kernel, and hands all over with one system call;
 * then it waits in epoll, where the ring stands beside the sockets. A large write goes at once: who
 * writes several makes the checksums of the next meanwhile. Completions are work of the
 * kernel's in this thread's name (IORING_SETUP_COOP_TASKRUN): they end the wait as a signal would,
 * without a handler, and collect() finds them in the ring behind the events of every turn.
 *
 * A read or write of one piece inside declared memory goes by the registered buffer it lies in
 * (memory.c); others name their pieces. Files are registered when they are opened. Both are for
 * speed only: where the kernel does not allow it, I/O goes without.
 *
 * Each medium has its own lists, its own bound of reads with the kernel and an even part of the
 * ring: one that answers late, or never, holds up nothing of another's.
 *
 * Failure. What the ring does not do whole (a short read or write, -EAGAIN, -EINTR) a thread of the
 * pool does again from its beginning: the bytes are the same, and it goes on until they are all
 * moved. Real errors are results. When the kernel takes nothing now (-EAGAIN, -EBUSY), the entries
 * stay and the loop tries again within RETRY_NS; when it refuses the ring itself, what it has not
 * taken, and everything from then on, goes to the pool. No more is with the kernel than the
 * completion queue has room for: it cannot overflow.
 *
 * What is with the kernel outlives the process: it lands, and keeps the file locked until then.
 * Who opens the medium next waits for that (blk_open()). destroy waits itself.
 */
#include "uring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <unistd.h>

#include "../../base/log.h"
#include "../../base/text.h"
#include "../posix/posix_priv.h"
#include "memory.h"

#define RING_DEPTH 256
/*
 * Bytes of reads of one medium with the kernel at once. Drives serve all they are given side by
 * side: with 16 MiB of it the pieces of eight blocks ended together, late, and nothing was sent
 * meanwhile (1 MiB gets from a file: 1.6 instead of 3.0 GiB/s). This covers 1 ms of a drive of 4
 * GiB/s. A few commands may be more: they are large, and one is no queue. Nobody waits for a piece
 * of a write: their users' own limits do.
 */
#define RING_READ_MAX (4 * MiB)
#define RING_READ_FEW 8
/* So much is with the kernel that no drive is through with it soon: 0.15 ms at 7 GiB/s. */
#define DRIVE_BUSY    MiB
#define WRITE_NOW     (256 * KiB) /* a write of so much is not listed */
#define COLLECT_MAX   64
#define FILE_SLOTS    64
#define IO_MAX        GiB /* larger goes to the pool: results of the ring are 32 bits */
#define RETRY_NS      NS_PER_MS
#define FEATURES_MUST (IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_FAST_POLL)

struct uring {
	struct posix posix; /* first */
	struct env_ops ops;
	struct io_uring ring;
	struct posix_source source; /* of the ring's descriptor in the epoll set */
	struct list media;          /* blk_queue.node: all that are open */
	uint32_t medium_count;
	struct list entered; /* have an entry that the kernel has not taken */
	uint32_t in_kernel;
	uint64_t bytes;  /* of reads and writes in the ring and with the kernel */
	bool is_refused; /* the kernel took the ring away: all goes to the pool */
	bool has_files;
	bool file_used[FILE_SLOTS];
	struct ring_memory memory;
};

static void uring_collect(struct posix *posix);

static struct uring *uring_of(struct env *env)
{
	struct posix *posix = posix_of(env);

	ASSERT(posix->collect == uring_collect);
	return CONTAINER_OF(posix, struct uring, posix);
}

/* --- declared memory --- */

static void uring_blk_declare(struct env *env, void *base, size_t size)
{
	struct uring *uring = uring_of(env);

	memory_declare(&uring->memory, base, size, !uring->posix.is_sealed);
}

static void uring_blk_undeclare(struct env *env, void *base)
{
	memory_undeclare(&uring_of(env)->memory, base);
}

/* --- files --- */

static void file_register(struct uring *uring, struct env_blk *blk)
{
	uint32_t slot = 0;

	while (slot < FILE_SLOTS && uring->file_used[slot])
		slot++;
	if (!uring->has_files || slot == FILE_SLOTS)
		return;
	if (io_uring_register_files_update(&uring->ring, slot, &blk->fd, 1) != 1)
		return;
	uring->file_used[slot] = true;
	blk->file_slot = (int32_t)slot + 1;
}

static void queue_begin(struct uring *uring, struct blk_queue *queue)
{
	list_init(&queue->node);
	list_init(&queue->reads);
	list_init(&queue->listed);
	list_add_tail(&uring->media, &queue->node);
	uring->medium_count++;
}

/* What is still listed is never done: the env is about to go. */
static void queue_end(struct uring *uring, struct blk_queue *queue)
{
	list_del(&queue->node);
	uring->medium_count--;
}

static int uring_blk_open(struct env *env, const char *path, uint32_t flags,
			  struct env_blk **blk_out)
{
	struct uring *uring = uring_of(env);
	int rc = posix_blk_open(env, path, flags, blk_out);

	if (rc < 0)
		return rc;
	file_register(uring, *blk_out);
	queue_begin(uring, &(*blk_out)->queue);
	return 0;
}

static void uring_blk_close(struct env *env, struct env_blk *blk)
{
	struct uring *uring = uring_of(env);
	const int none = -1;

	if (blk->file_slot != 0) {
		unsigned slot = (unsigned)blk->file_slot - 1;

		/* The kernel may keep its own reference for a while: the lock must not wait. */
		(void)flock(blk->fd, LOCK_UN);
		if (io_uring_register_files_update(&uring->ring, slot, &none, 1) == 1)
			uring->file_used[slot] = false;
	}
	queue_end(uring, &blk->queue);
	posix_blk_close(env, blk);
}

/* --- to the kernel --- */

static void entry_fill_move(const struct uring *uring, struct io_uring_sqe *sqe,
			    const struct env_io *io, int fd)
{
	const struct iovec *piece = &io->iov[0];
	unsigned size = (unsigned)piece->iov_len;
	int slot = io->iov_count == 1 ? memory_find(&uring->memory, piece) : -1;
	bool is_read = io->kind == ENV_READ;

	if (slot >= 0 && is_read)
		io_uring_prep_read_fixed(sqe, fd, piece->iov_base, size, io->offset, slot);
	else if (slot >= 0)
		io_uring_prep_write_fixed(sqe, fd, piece->iov_base, size, io->offset, slot);
	else if (is_read)
		io_uring_prep_readv(sqe, fd, io->iov, io->iov_count, io->offset);
	else
		io_uring_prep_writev(sqe, fd, io->iov, io->iov_count, io->offset);
}

static void entry_fill(const struct uring *uring, struct io_uring_sqe *sqe, struct env_io *io)
{
	bool is_registered = io->blk->file_slot != 0;
	int fd = is_registered ? io->blk->file_slot - 1 : io->blk->fd;

	if (io->kind == ENV_FLUSH)
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	else
		entry_fill_move(uring, sqe, io, fd);
	if (is_registered)
		io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data(sqe, io);
}

/* Entries that one medium may have: with others beside it, an even part; a few in any case. */
static uint32_t queue_share(const struct uring *uring)
{
	return MAX(RING_DEPTH / MAX(uring->medium_count, 1), RING_READ_FEW);
}

/* Reads go first, as far as they may. */
static struct env_io *queue_next(const struct blk_queue *queue)
{
	struct env_io *read = list_head(&queue->reads, struct env_io, node);

	if (read != NULL &&
	    (queue->read_count < RING_READ_FEW || queue->read_bytes + read->size <= RING_READ_MAX))
		return read;
	return list_head(&queue->listed, struct env_io, node);
}

static void queue_count(struct blk_queue *queue, const struct env_io *io)
{
	queue->count++;
	if (io->kind != ENV_READ)
		return;
	queue->read_count++;
	queue->read_bytes += io->size;
}

static void queue_discount(struct blk_queue *queue, const struct env_io *io)
{
	ASSERT(queue->count > 0);
	queue->count--;
	if (io->kind != ENV_READ)
		return;
	ASSERT(queue->read_bytes >= io->size);
	queue->read_count--;
	queue->read_bytes -= io->size;
}

/* An entry for each of a medium's that is listed, as far as its share and room go. */
static void queue_fill(struct uring *uring, struct blk_queue *queue)
{
	struct env_io *io;

	while (queue->count < queue_share(uring) &&
	       uring->in_kernel + io_uring_sq_ready(&uring->ring) < RING_DEPTH &&
	       (io = queue_next(queue)) != NULL) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

		if (sqe == NULL)
			return;
		entry_fill(uring, sqe, io);
		uring->bytes += io->size;
		queue_count(queue, io);
		list_del(&io->node);
		list_add_tail(&uring->entered, &io->node);
	}
}

static void entries_fill(struct uring *uring)
{
	list_for_each (pos, &uring->media)
		queue_fill(uring, list_entry(pos, struct blk_queue, node));
}

/* The kernel has taken count entries, in order. */
static void entries_taken(struct uring *uring, uint32_t count)
{
	uring->in_kernel += count;
	for (; count > 0; count--) {
		struct env_io *io = list_head(&uring->entered, struct env_io, node);

		ASSERT(io != NULL);
		list_del(&io->node);
	}
}

/* The ring is lost: threads do what it has not taken. */
static void ring_refuse(struct uring *uring, int rc)
{
	struct env_io *io;

	log_error("io_uring was taken away: %s; threads go on", err_str(rc));
	uring->is_refused = true;
	list_for_each (pos, &uring->media) {
		struct blk_queue *queue = list_entry(pos, struct blk_queue, node);

		list_splice_tail(&uring->entered, &queue->reads);
		list_splice_tail(&uring->entered, &queue->listed);
	}
	while ((io = list_head(&uring->entered, struct env_io, node)) != NULL) {
		list_del(&io->node);
		pool_submit(&uring->posix, io);
	}
}

/* True: all was taken. */
static bool ring_submit(struct uring *uring)
{
	if (uring->is_refused)
		return true;
	entries_fill(uring);
	while (io_uring_sq_ready(&uring->ring) > 0) {
		int rc = io_uring_submit(&uring->ring);

		if (rc == -EINTR)
			continue;
		if (rc == 0 || rc == -EAGAIN || rc == -EBUSY)
			return false;
		if (rc < 0) {
			ring_refuse(uring, rc);
			return true;
		}
		entries_taken(uring, (uint32_t)rc);
	}
	return true;
}

static void uring_blk_submit(struct env *env, struct env_io *io)
{
	struct uring *uring = uring_of(env);
	struct blk_queue *queue = &io->blk->queue;

	ASSERT_SLOW(blk_io_is_valid(io));
	if (uring->is_refused || io->kind == ENV_DISCARD || io->size > IO_MAX)
		pool_submit(&uring->posix, io);
	else
		list_add_tail(io->kind == ENV_READ ? &queue->reads : &queue->listed, &io->node);
	if (io->kind == ENV_WRITE && io->size >= WRITE_NOW)
		(void)ring_submit(uring); /* not taken: the loop tries again */
}

/* --- from the kernel --- */

static bool is_whole(const struct env_io *io, int32_t result)
{
	return result >= 0 && (io->kind == ENV_FLUSH || (uint64_t)result == io->size);
}

static void io_landed(struct uring *uring, struct env_io *io, int32_t result, struct list *done)
{
	ASSERT(uring->in_kernel > 0);
	ASSERT(uring->bytes >= io->size);
	uring->in_kernel--;
	uring->bytes -= io->size;
	queue_discount(&io->blk->queue, io);
	if (is_whole(io, result) || (result < 0 && result != -EAGAIN && result != -EINTR)) {
		io->result = result;
		list_add_tail(done, &io->node);
	} else {
		pool_submit(&uring->posix, io);
	}
}

static void uring_collect(struct posix *posix)
{
	struct uring *uring = CONTAINER_OF(posix, struct uring, posix);
	struct io_uring_cqe *cqes[COLLECT_MAX];
	struct env_io *io;
	struct list done;
	unsigned count;

	list_init(&done);
	do {
		count = io_uring_peek_batch_cqe(&uring->ring, cqes, COLLECT_MAX);
		for (unsigned i = 0; i < count; i++)
			io_landed(uring, io_uring_cqe_get_data(cqes[i]), cqes[i]->res, &done);
		io_uring_cq_advance(&uring->ring, count);
	} while (count == COLLECT_MAX);
	while ((io = list_head(&done, struct env_io, node)) != NULL) {
		list_del(&io->node);
		io->done(io);
	}
}

static void ring_ready(struct posix_source *source, uint32_t epoll_events)
{
	/* collect() comes behind the events. */
	(void)source;
	(void)epoll_events;
}

static int uring_poll(struct env *env, uint64_t timeout_ns)
{
	struct uring *uring = uring_of(env);

	if (!ring_submit(uring))
		timeout_ns = MIN(timeout_ns, RETRY_NS);
	if (io_uring_cq_ready(&uring->ring) > 0)
		timeout_ns = 0;
	uring->posix.spin.is_drive_busy = !uring->is_refused && uring->bytes >= DRIVE_BUSY;
	return posix_poll(env, timeout_ns);
}

/* --- beginning and end --- */

/* Of a setup that failed: who forbids it, as far as it can be told. */
static void refusal_explain(int rc, char *message_out, size_t message_size)
{
	if (rc == -EPERM)
		snprintf(message_out, message_size,
			 "not permitted here (seccomp or kernel.io_uring_disabled)");
	else if (rc == -ENOSYS)
		snprintf(message_out, message_size,
			 "this kernel, or the profile of this container, does not have it");
	else if (rc == -ENOMEM)
		snprintf(message_out, message_size,
			 "no memory for the ring (RLIMIT_MEMLOCK, on kernels before 5.12)");
	else
		snprintf(message_out, message_size, "%s", err_str(rc));
}

static int ring_init(struct io_uring *ring)
{
	struct io_uring_params params = { .flags = IORING_SETUP_COOP_TASKRUN };
	int rc = io_uring_queue_init_params(RING_DEPTH, ring, &params);

	if (rc == -EINVAL) { /* before 5.19: completions interrupt more often */
		params = (struct io_uring_params) { 0 };
		rc = io_uring_queue_init_params(RING_DEPTH, ring, &params);
	}
	if (rc < 0)
		return rc;
	if ((params.features & FEATURES_MUST) != FEATURES_MUST) {
		io_uring_queue_exit(ring);
		return -ENOSYS;
	}
	ASSERT(params.cq_entries >= RING_DEPTH);
	return 0;
}

/* A profile may allow the setup and forbid the use: send nothing through it and see it come back.
 */
static int ring_try(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int rc;

	io_uring_prep_nop(io_uring_get_sqe(ring));
	do
		rc = io_uring_submit_and_wait(ring, 1);
	while (rc == -EINTR);
	if (rc < 0)
		return rc;
	rc = io_uring_peek_cqe(ring, &cqe);
	if (rc < 0)
		return rc;
	io_uring_cqe_seen(ring, cqe);
	return 0;
}

static int ring_open(struct uring *uring, char *message_out, size_t message_size)
{
	int rc = ring_init(&uring->ring);

	if (rc == 0) {
		rc = ring_try(&uring->ring);
		if (rc < 0)
			io_uring_queue_exit(&uring->ring);
	}
	if (rc == 0)
		return 0;
	if (rc == -EMFILE || rc == -ENFILE)
		return rc;
	refusal_explain(rc, message_out, message_size);
	return -EOPNOTSUPP;
}

/* A child shares the ring: its parent's I/O is none of its business. */
static void ring_settle(struct uring *uring)
{
	struct io_uring_cqe *cqe;

	while (uring->posix.pid == getpid() && uring->in_kernel > 0) {
		int rc = io_uring_wait_cqe(&uring->ring, &cqe);

		if (rc == -EINTR || rc == -EAGAIN)
			continue;
		if (rc < 0)
			return;
		io_uring_cqe_seen(&uring->ring, cqe);
		uring->in_kernel--;
	}
}

static void uring_init(struct uring *uring)
{
	list_init(&uring->media);
	list_init(&uring->entered);
	uring->source.ready = ring_ready;
	uring->ops = posix_ops;
	uring->ops.name = "uring";
	uring->ops.poll = uring_poll;
	uring->ops.blk_open = uring_blk_open;
	uring->ops.blk_close = uring_blk_close;
	uring->ops.blk_submit = uring_blk_submit;
	uring->ops.blk_declare = uring_blk_declare;
	uring->ops.blk_undeclare = uring_blk_undeclare;
	uring->posix.env.ops = &uring->ops;
	uring->posix.collect = uring_collect;
	uring->has_files = io_uring_register_files_sparse(&uring->ring, FILE_SLOTS) == 0;
	memory_init(&uring->memory, &uring->posix.env, &uring->ring);
}

int env_uring_create(const struct env_posix_opts *opts, struct env **env_out, char *message_out,
		     size_t message_size)
{
	struct uring *uring = calloc(1, sizeof(*uring));
	int rc;

	if (uring == NULL)
		return -ENOMEM;
	rc = ring_open(uring, message_out, message_size);
	if (rc < 0)
		goto err_free;
	rc = posix_init(&uring->posix, opts);
	if (rc < 0)
		goto err_exit_ring;
	uring_init(uring);
	rc = posix_epoll_set(&uring->posix, EPOLL_CTL_ADD, uring->ring.ring_fd, EPOLLIN,
			     &uring->source);
	if (rc < 0)
		goto err_posix_fini;
	*env_out = &uring->posix.env;
	return 0;

err_posix_fini:
	posix_fini(&uring->posix);
err_exit_ring:
	io_uring_queue_exit(&uring->ring);
err_free:
	free(uring);
	return rc;
}

void env_uring_destroy(struct env **env)
{
	struct uring *uring;

	if (*env == NULL)
		return;
	uring = uring_of(*env);
	ring_settle(uring);
	posix_fini(&uring->posix);
	io_uring_queue_exit(&uring->ring);
	free(uring);
	*env = NULL;
}

bool env_is_uring(struct env *env)
{
	return posix_of(env)->collect == uring_collect;
}

uint64_t env_uring_registered(struct env *env)
{
	return memory_registered(&uring_of(env)->memory);
}
