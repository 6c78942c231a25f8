/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only door to the outside: memory, time, chance, block devices, sockets, the event loop.
 *
 * One struct env is one thread's event loop (a reactor, a client's progress thread, a command). All
 * code above it is a reaction to its callbacks and never blocks. Implementations: env/posix (epoll
 * and a small thread pool), env/uring (the same, block I/O through io_uring), test/sim (virtual
 * clock, faulty disks and nets).
 *
 * Threads    An env and everything opened on it belong to the thread that calls env->ops->poll().
 *            Only wake() may be called by another.
 * Callbacks  Run from poll(), one at a time, never out of the middle of a call made by the user of
 *            the env. A callback may call anything here but poll().
 * Memory     Request structs (env_timer, env_task, env_io, env_resolve) belong to the caller, are
 *            zeroed or initialised by him, and are borrowed until their callback runs. Socket and
 *            block handles are owned by the env and given back by close.
 * Errors     0 or a count, or a negative errno or ERR_* code. -EAGAIN: not now, nothing was taken.
 */
#ifndef ENV_ENV_H
#define ENV_ENV_H

#include <sys/types.h>
#include <sys/uio.h>

#include "../base/base.h"
#include "../base/list.h"

struct env;
struct env_sock;
struct env_blk;

/* Largest number of pieces in one env_io or one sock_send/sock_recv. */
#define ENV_IOV_MAX 64
/* Largest number of descriptors beside the bytes of one sock_send_fds/sock_recv_fds. */
#define ENV_FDS_MAX 2

/*
 * A timer fires once, at or after when_ns. The fields are the timer heap's (env/timers.h); a zeroed
 * timer with fire set is idle.
 */
struct env_timer {
	void (*fire)(struct env_timer *timer);
	uint64_t when_ns;
	uint64_t order; /* of equal times, the first set fires first */
	struct env_timer *child;
	struct env_timer *sibling;
	struct env_timer *prev; /* parent or left sibling; NULL when idle or root */
	bool is_set;
};

/* Work to be done from the loop, soon. Zeroed with run set is idle; deferring twice is once. */
struct env_task {
	void (*run)(struct env_task *task);
	struct list node;
	bool is_queued;
};

/*
 * What may become ready without the kernel knowing: rings in memory shared with another process.
 * poll() looks at all pollers each turn; before it waits it goes on looking for a while after the
 * last thing done (50 us at most, less when others want the core), then asks each to sleep. After
 * that it is told by a socket of the loop's, or it is not told. Turns in which it goes on looking
 * end as if something had come.
 */
struct env_poller {
	bool (*look)(struct env_poller *poller);  /* true: something was done */
	bool (*sleep)(struct env_poller *poller); /* the loop is about to wait: from now on the
						     other side must ring. It calls nobody. false:
						     something has come after all */
	struct list node;
};

enum env_io_kind { ENV_READ = 1, ENV_WRITE, ENV_FLUSH, ENV_DISCARD };

/*
 * One block I/O. Reads and writes are whole: result is the number of bytes asked for, or negative.
 * Offset, size and every piece are multiples of PAGE_SIZE, pieces are page aligned in memory. A
 * write is not durable before a flush that was submitted after its completion has completed.
 */
struct env_io {
	void (*done)(struct env_io *io);
	struct list node; /* the env's while in flight, else the user's */
	struct env_blk *blk;
	enum env_io_kind kind;
	uint64_t offset;
	uint64_t size; /* sum of the pieces; DISCARD: bytes to discard; FLUSH: 0 */
	const struct iovec *iov;
	uint32_t iov_count;
	int64_t result;
	struct env_io *batch_next; /* the env's own */
};

enum env_blk_flag {
	ENV_BLK_CREATE = 1u << 0,    /* a file that does not exist is made */
	ENV_BLK_READ_ONLY = 1u << 1, /* no exclusive lock either */
	ENV_BLK_BUFFERED = 1u << 2,  /* O_DIRECT not wanted (tests on file systems without it) */
	ENV_BLK_SHARED = 1u << 3,    /* no lock: another env of this process has it open */
};

struct env_blk_info {
	uint64_t size;     /* bytes */
	bool is_device;    /* block device, not a file */
	bool is_direct;    /* O_DIRECT is in use */
	uint32_t discards; /* 1 when ENV_DISCARD does something */
	bool is_in_use;    /* READ_ONLY: another process has it open to write */
};

/* Bits for sock_watch() and the ready callback. */
enum env_sock_event {
	ENV_SOCK_IN = 1u << 0,
	ENV_SOCK_OUT = 1u << 1,
	ENV_SOCK_ERR = 1u << 2, /* hang-up or error: recv tells which; always watched */
};

/* Level triggered. events: what is ready of what is watched. */
typedef void (*env_sock_ready)(struct env_sock *sock, void *ctx, uint32_t events);

/* Name resolution off the loop's thread. */
#define ENV_ADDRESS_MAX 256

struct env_resolve {
	void (*done)(struct env_resolve *resolve);
	const char *host; /* borrowed until done */
	uint16_t port;
	int result; /* 0 or negative */
	/* All IPv4 addresses found, else all others, as sock_connect() takes them; none twice, in
	 * any order, ENV_ADDRESS_MAX at most. */
	char addresses[ENV_ADDRESS_MAX][64];
	uint32_t count;
	void *env_priv;
};

/* What a core may ask of its thread's time: see poll(). */
#define ENV_FOREVER UINT64_MAX

/* All required; the pollers and those from sock_send_fds to process_fd only where there are
 * processes: NULL in the simulator. */
struct env_ops {
	const char *name; /* "posix", "uring", "sim" */

	/* Memory: for start-up; after seal() alloc panics. Zeroed, 64-byte aligned. */
	void *(*alloc)(struct env *env, size_t size);
	void (*free)(struct env *env, void *ptr);
	/* Large page-aligned memory, touched, so that no later first touch costs. NULL: none left.
	 */
	void *(*map)(struct env *env, size_t size);
	void (*unmap)(struct env *env, void *ptr, size_t size);
	void (*seal)(struct env *env);

	/* Clock and chance. */
	uint64_t (*now_ns)(struct env *env); /* monotonic */
	uint64_t (*wall_s)(struct env *env); /* seconds since 1970, for expiry */
	void (*random)(struct env *env, void *bytes, size_t size); /* good enough for nonces */

	/* Loop. poll() runs what is ready, waiting at most timeout_ns for the first event. */
	int (*poll)(struct env *env, uint64_t timeout_ns);
	/* ANY_THREAD: make poll() return soon and run the task given to on_wake() (set once). */
	void (*wake)(struct env *env);
	void (*on_wake)(struct env *env, struct env_task *task);
	void (*timer_set)(struct env *env, struct env_timer *timer,
			  uint64_t when_ns); /* moves it */
	void (*timer_clear)(struct env *env, struct env_timer *timer);
	void (*defer)(struct env *env, struct env_task *task);
	void (*undefer)(struct env *env, struct env_task *task);
	/* Pollers are the caller's until removed. NULL in the simulator. */
	void (*poller_add)(struct env *env, struct env_poller *poller);
	void (*poller_remove)(struct env *env, struct env_poller *poller);

	/*
	 * Block devices and files. open takes an exclusive lock (flock; O_EXCL on a device) unless
	 * read-only: -ERR_IN_USE. The sync calls are for setup, recovery and close only.
	 */
	int (*blk_open)(struct env *env, const char *path, uint32_t flags,
			struct env_blk **blk_out);
	void (*blk_close)(struct env *env, struct env_blk *blk); /* no I/O in flight */
	void (*blk_info)(struct env *env, struct env_blk *blk, struct env_blk_info *info_out);
	/* Files only: make it size bytes, allocated unless sparse. */
	int (*blk_resize)(struct env *env, struct env_blk *blk, uint64_t size, bool is_sparse);
	int (*blk_read)(struct env *env, struct env_blk *blk, void *buf, size_t size,
			uint64_t offset);
	int (*blk_write)(struct env *env, struct env_blk *blk, const void *buf, size_t size,
			 uint64_t offset);
	int (*blk_flush)(struct env *env, struct env_blk *blk);
	void (*blk_submit)(struct env *env, struct env_io *io); /* always ends in io->done */
	/*
	 * Much I/O will be done in this memory (page aligned, from map() or a peer's mapping): a
	 * back end may prepare it once instead of at each I/O; after seal() little by little, from
	 * poll(). Never needed and never fails; to be undeclared, with no I/O in flight in it,
	 * before it is unmapped; its pages may be held for some turns more. I/O reaches the pages
	 * that were there when it was prepared.
	 */
	void (*blk_declare)(struct env *env, void *base, size_t size);
	void (*blk_undeclare)(struct env *env, void *base);

	/*
	 * Stream sockets. Addresses: "HOST:PORT" with a numeric host ("127.0.0.1:9900",
	 * "[::1]:9900"), or "unix:PATH": for its user and group (0660); one that nobody listens at
	 * any more is replaced. None of these calls blocks.
	 */
	int (*sock_listen)(struct env *env, const char *address, struct env_sock **sock_out);
	int (*sock_accept)(struct env *env, struct env_sock *listener, struct env_sock **sock_out);
	/* Returns at once; ready with OUT when connected, ERR when not. */
	int (*sock_connect)(struct env *env, const char *address, struct env_sock **sock_out);
	/* IN of a stream may be told although nothing is there: recv says -EAGAIN. */
	void (*sock_watch)(struct env *env, struct env_sock *sock, uint32_t events,
			   env_sock_ready ready, void *ctx);
	/* Bytes moved; 0 from recv: end of stream; -EAGAIN; or why the stream is broken. */
	ssize_t (*sock_recv)(struct env *env, struct env_sock *sock, const struct iovec *iov,
			     uint32_t iov_count);
	ssize_t (*sock_send)(struct env *env, struct env_sock *sock, const struct iovec *iov,
			     uint32_t iov_count);
	/* IN may wait until so many bytes are there, or no more come; it need not. 1 at first. */
	void (*sock_want)(struct env *env, struct env_sock *sock, uint32_t size);
	void (*sock_close)(struct env *env, struct env_sock *sock);
	/* The peer's or the own address as text. */
	void (*sock_name)(struct env *env, struct env_sock *sock, bool is_peer, char *buf,
			  size_t buf_size);
	/* An open descriptor as a socket (handed over, or a pair's end); taken. */
	int (*sock_adopt)(struct env *env, int fd, struct env_sock **sock_out);
	/* The descriptor of a connected socket; sock is gone. For sock_adopt() on another env of
	 * the process. What has arrived and was not received is still there. */
	int (*sock_detach)(struct env *env, struct env_sock *sock);

	/*
	 * Unix sockets: the same, with descriptors beside the bytes, in order, none later than the
	 * first byte sent with it. send: borrowed; sent when any byte is. recv: the caller's,
	 * closed on exec, for fd_close(); more than ENV_FDS_MAX at once, or no room for one:
	 * -EMFILE, none is kept, and the socket is of no more use.
	 */
	ssize_t (*sock_send_fds)(struct env *env, struct env_sock *sock, const struct iovec *iov,
				 uint32_t iov_count, const int *fds, uint32_t fd_count);
	ssize_t (*sock_recv_fds)(struct env *env, struct env_sock *sock, const struct iovec *iov,
				 uint32_t iov_count, int fds_out[ENV_FDS_MAX],
				 uint32_t *fd_count_out);
	/* Closing what came so waits for nobody, whatever it is. false: it was no memory; then its
	 * socket is to be closed soon. waiting: of the process, those whose close has not returned.
	 */
	bool (*fd_close)(struct env *env, int fd);
	uint32_t (*fd_waiting)(struct env *env);

	/*
	 * Memory shared between processes. find: a descriptor (the caller's) by which a piece of
	 * this process's memory can be passed on, and where in it it lies; -EOPNOTSUPP: it is
	 * private, or no memory; -ENOENT: its file is not to be had. map: a piece of another's
	 * (fd is borrowed; -EOPNOTSUPP: it is no memory), at least that large now; it may be cut at
	 * any time, and reads and writes of it go on, of zeros and nowhere: behind them is_lost()
	 * tells, and from then on each of them may cost memory of ours.
	 */
	int (*share_find)(struct env *env, const void *base, size_t size, int *fd_out,
			  uint64_t *offset_out);
	int (*share_map)(struct env *env, int fd, uint64_t offset, size_t size, void **base_out);
	/* How much of others' memory its user is to map in this loop; 0: what there is room for. */
	uint64_t (*share_max)(struct env *env);
	void (*share_unmap)(struct env *env, void *base);
	bool (*share_is_lost)(struct env *env, const void *base);
	/* New memory that can be passed on: mapped here (undo by share_unmap()), touched, of a size
	 * that nobody can change; fd is the caller's. is_fixed: fd is such memory. */
	int (*share_make)(struct env *env, size_t size, int *fd_out, void **base_out);
	bool (*share_is_fixed)(struct env *env, int fd);
	/* A descriptor (the caller's) of this process, to be passed on: readable when it has ended.
	 * sock_adopt() takes it, to be watched only. */
	int (*process_fd)(struct env *env);

	void (*resolve)(struct env *env, struct env_resolve *resolve);
};

struct env {
	const struct env_ops *ops;
};

static inline uint64_t env_now_ns(struct env *env)
{
	return env->ops->now_ns(env);
}

#endif
