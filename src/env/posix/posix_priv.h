/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of env/posix share: posix.c (loop, clock, memory), pollers.c, sock.c, share.c,
 * closer.c, blk.c, pool.c. env/uring stands on it: the same but for block I/O.
 */
#ifndef ENV_POSIX_PRIV_H
#define ENV_POSIX_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "../timers.h"
#include "posix.h"

#define POSIX_MAGIC      UINT32_C(0x50584531)
#define EPOLL_EVENTS_MAX 64

struct env_sock {
	struct posix_source source;
	struct posix *posix;
	struct list node; /* of sock_free, or of sock_open */
	int fd;
	uint32_t watched; /* enum env_sock_event */
	env_sock_ready ready;
	void *ctx;
	struct env_timer pause; /* of a listener that ran out of descriptors */
	bool is_pause_told;     /* one log line until the next connection is accepted */
	bool is_stream;         /* bytes were received from it */
	bool is_patient;        /* IN is to wait for more than a byte */
	bool is_peers; /* who is at the other end may pass anything, and we wait for nothing of it
			*/
};

/* Of one medium, for env/uring. */
struct blk_queue {
	struct list node;    /* of the ring's media */
	struct list reads;   /* env_io.node: no entry of the ring yet */
	struct list listed;  /* likewise, all but reads */
	uint32_t count;      /* in the ring and with the kernel, … */
	uint32_t read_count; /* … reads of them, … */
	uint64_t read_bytes; /* … and the bytes of those */
};

/* Likewise for the pool; under its lock. */
struct blk_work {
	struct list node;      /* of pool.ready: a thread may take its next */
	struct list todo;      /* env_io.node */
	uint32_t thread_count; /* in its I/O */
};

struct env_blk {
	int fd;
	int32_t file_slot; /* env/uring: 1 + its registered file; 0: none */
	struct env_blk_info info;
	struct blk_queue queue;
	struct blk_work work;
};

/* First in, first out, linked by env_priv. Zeroed is empty. */
struct resolve_queue {
	struct env_resolve *first;
	struct env_resolve *last; /* means nothing when first is NULL */
};

/* Threads and their work: env_io and env_resolve. */
struct pool {
	cpu_set_t cpus; /* of its threads, where has_cpus */
	bool has_cpus;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t wanted;
	struct list ready; /* blk_work.node */
	struct list done;  /* env_io.node */
	struct resolve_queue resolve_todo;
	struct resolve_queue resolve_done;
	uint32_t todo_count;   /* of both kinds, not yet taken by a thread */
	uint32_t thread_max;   /* for each medium, or for all else */
	uint32_t medium_count; /* that are open */
	uint32_t thread_count;
	uint32_t idle_count; /* threads that wait, also those signalled but not yet awake */
	bool is_stopping;
	bool is_signalled; /* the loop has been told of done */
	struct pool_thread *threads[256];
};

/* How long the loop looks at its pollers before it sleeps. */
struct posix_spin {
	bool was_busy;       /* something was done in the last turn, … */
	bool was_sock_busy;  /* … with a socket */
	bool is_spinning;    /* since something was done, … */
	bool is_sock_busy;   /* … with a socket */
	bool is_drive_busy;  /* for a while: set by a back end */
	uint32_t patient;    /* sockets that wait for more than a byte */
	uint64_t busy_ns;    /* when that was, last */
	uint64_t events_ns;  /* when descriptors were last looked at meanwhile */
	uint64_t window_ns;  /* so long behind busy_ns it goes on looking */
	uint64_t yielded_ns; /* when the core was last offered to others */
	uint64_t slept_ns;   /* when it last went to sleep */
	uint64_t turn_ns;    /* when this turn began; 0: it may have waited since */
};

struct posix {
	struct env env; /* first */
	uint32_t magic;
	pid_t pid;
	int epoll_fd;
	int event_fd; /* wake() and the pool's completions */
	struct posix_source event_source;
	struct env_task *wake_task;
	/* Set by wake() in any thread before it signals, taken by the loop after it has read the
	 * eventfd: partners, so that what was written before wake() is seen by the wake task. */
	atomic_bool is_woken;
	struct timers timers;
	uint64_t timers_ns; /* while timers fire: what is due then; else 0 */
	struct list tasks;  /* env_task.node */
	struct list pollers;
	struct posix_spin spin;
	struct list sock_free;
	struct list sock_open;
	struct env_sock *socks;
	struct env_sock *ready_sock; /* the last that was ready; NULL: it is gone */
	uint32_t ready_count;        /* so many times in a row, up to ALONE_COUNT */
	/* Events of the present batch: a source that goes away is scrubbed from it. */
	struct posix_source *batch[EPOLL_EVENTS_MAX];
	uint32_t batch_count;
	bool is_polling;
	bool is_sealed;
	bool has_huge_pages;
	uint64_t share_max;
	struct list unmapping; /* pieces of others' memory that go by parts (share.c) */
	uint32_t unmapping_count;
	uint64_t unmapping_size;
	struct env_task unmap_task;
	bool is_pwait2_missing;
	uint64_t io_in_flight;
	struct pool pool;
	/* Of a back end above this one: takes what its own I/O has done, once a turn behind the
	 * events. NULL: none. */
	void (*collect)(struct posix *posix);
};

static inline struct posix *posix_of(struct env *env)
{
	struct posix *posix = CONTAINER_OF(env, struct posix, env);

	CHECK_OBJ(posix, POSIX_MAGIC);
	return posix;
}

/* posix.c. init: posix is zeroed. */
int posix_init(struct posix *posix, const struct env_posix_opts *opts) MUST_USE;
void posix_fini(struct posix *posix);
int posix_poll(struct env *env, uint64_t timeout_ns);
extern const struct env_ops posix_ops;
int posix_epoll_set(struct posix *posix, int op, int fd, uint32_t epoll_events,
		    struct posix_source *source) MUST_USE;
void posix_epoll_remove(struct posix *posix, int fd, struct posix_source *source);
void posix_event_signal(struct posix *posix);

/* pollers.c */
#define POLLERS_GO_ON    (ENV_FOREVER - 1) /* descriptors may wait a moment longer */
#define POLLERS_ONE_SOCK (ENV_FOREVER - 2) /* all but one socket */
void pollers_init(struct posix *posix);
/* How long this turn may wait for descriptors, timeout_ns at most; or one of these two. */
uint64_t pollers_wait(struct posix *posix, uint64_t timeout_ns);
void pollers_look(struct posix *posix);
/* All of them; false: one has something to do. */
bool pollers_sleep(struct posix *posix);
void posix_poller_add(struct env *env, struct env_poller *poller);
void posix_poller_remove(struct env *env, struct env_poller *poller);

/* pool.c: ANY of these by the loop's thread. */
int pool_init(struct posix *posix, uint32_t thread_max) MUST_USE;
void pool_fini(struct posix *posix);
void pool_medium_add(struct posix *posix, struct env_blk *blk);
void pool_medium_remove(struct posix *posix, struct env_blk *blk);
void pool_submit(struct posix *posix, struct env_io *io);
void pool_resolve(struct env *env, struct env_resolve *resolve);
void pool_collect(struct posix *posix); /* runs what is done */

/* blk.c: what a thread of the pool does with an I/O. */
int64_t blk_execute(struct env_io *io);
bool blk_io_is_valid(const struct env_io *io); /* as env.h demands */
int posix_blk_open(struct env *env, const char *path, uint32_t flags, struct env_blk **blk_out);
void posix_blk_close(struct env *env, struct env_blk *blk);
void posix_blk_info(struct env *env, struct env_blk *blk, struct env_blk_info *info_out);
int posix_blk_resize(struct env *env, struct env_blk *blk, uint64_t size, bool is_sparse);
int posix_blk_read(struct env *env, struct env_blk *blk, void *buf, size_t size, uint64_t offset);
int posix_blk_write(struct env *env, struct env_blk *blk, const void *buf, size_t size,
		    uint64_t offset);
int posix_blk_flush(struct env *env, struct env_blk *blk);

/* sock.c */
int posix_sock_init(struct posix *posix, uint32_t sock_max) MUST_USE;
void posix_sock_fini(struct posix *posix);
/* Whether one socket has been the only one that was ready for a while; if so: look at it. */
bool posix_sock_is_alone(const struct posix *posix);
void posix_sock_look(struct posix *posix);
int posix_sock_listen(struct env *env, const char *address, struct env_sock **sock_out);
int posix_sock_accept(struct env *env, struct env_sock *listener, struct env_sock **sock_out);
int posix_sock_connect(struct env *env, const char *address, struct env_sock **sock_out);
void posix_sock_watch(struct env *env, struct env_sock *sock, uint32_t events, env_sock_ready ready,
		      void *ctx);
void posix_sock_want(struct env *env, struct env_sock *sock, uint32_t size);
ssize_t posix_sock_recv(struct env *env, struct env_sock *sock, const struct iovec *iov,
			uint32_t iov_count);
ssize_t posix_sock_send(struct env *env, struct env_sock *sock, const struct iovec *iov,
			uint32_t iov_count);
void posix_sock_close(struct env *env, struct env_sock *sock);
void posix_sock_name(struct env *env, struct env_sock *sock, bool is_peer, char *buf,
		     size_t buf_size);
int posix_sock_adopt(struct env *env, int fd, struct env_sock **sock_out);
int posix_sock_detach(struct env *env, struct env_sock *sock);
ssize_t posix_sock_send_fds(struct env *env, struct env_sock *sock, const struct iovec *iov,
			    uint32_t iov_count, const int *fds, uint32_t fd_count);
ssize_t posix_sock_recv_fds(struct env *env, struct env_sock *sock, const struct iovec *iov,
			    uint32_t iov_count, int fds_out[ENV_FDS_MAX], uint32_t *fd_count_out);

/* closer.c: ANY_THREAD. begin: before the first peer can connect; negative: no thread. */
int closer_begin(void) MUST_USE;
void closer_close(int fd); /* taken; nobody waits for it */
bool closer_is_full(void);
bool posix_fd_is_memory(int fd);
bool posix_fd_close(struct env *env, int fd);
uint32_t posix_fd_waiting(struct env *env);

/* share.c. fini: what is still to be unmapped goes. */
void posix_share_init(struct posix *posix);
void posix_share_fini(struct posix *posix);
int posix_share_find(struct env *env, const void *base, size_t size, int *fd_out,
		     uint64_t *offset_out);
int posix_share_map(struct env *env, int fd, uint64_t offset, size_t size, void **base_out);
/* All pages of what is mapped at address were there then, and mincore() does not say so. */
bool posix_share_is_there(const void *address);
uint64_t posix_share_max(struct env *env);
void posix_share_unmap(struct env *env, void *base);
bool posix_share_is_lost(struct env *env, const void *base);
int posix_share_make(struct env *env, size_t size, int *fd_out, void **base_out);
bool posix_share_is_fixed(struct env *env, int fd);
int posix_process_fd(struct env *env);

#endif
