/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated cluster in one thread: one virtual clock, one source of chance, any number of envs
 * (one for each simulated process), disks and a network. The code under test is the real one and
 * runs on these envs unchanged. One seed decides everything; the same seed gives the same trace
 * hash.
 *
 * A step takes the env whose next event is due first (among several due, any), moves the clock and
 * runs exactly one callback. Nothing else ever runs, so that between two steps the world may look
 * at, freeze, or kill whatever it likes.
 *
 * Fault model. Injected:
 *   power loss    every 512-byte sector not yet flushed is kept or lost by itself; so are writes
 *                 in flight. kill -9: completed writes stay, those in flight whole, in part or not.
 *                 At any event, and at any I/O of a recovery, too (sim_disk.dies_in).
 *   disk          I/O ends out of order after any delay; EIO; discarded pages hold anything. One
 *                 disk is slow for a while beside others that are not.
 *   media         (only runs with verify) lost, misdirected and rotten writes, stale reads. Blocks
 *                 may be lost then, and dropped ones come back: a lost write of a tombstone or of
 *                 the drop table cannot be seen. Bytes that come back are still one version's.
 *   network       delay, any chunking, back-pressure, reset, cuts, half-open connections.
 *   processes     kill and restart, freeze, clocks that jump ahead.
 * Not injected, because not promised: I/O that changes after its flush (but media faults), an
 * allocator that fails, bytes changed on the wire (TCP's checksum and the MACs have unit tests).
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "../../src/env/env.h"
#include "../../src/env/timers.h"
#include "rng.h"

#define SIM_NODE_MAX 24

struct sim;
struct sim_env;
struct sim_disk;

/* Something that happens to an env at a time. Owned by the env's queue; run() frees it. */
struct sim_event {
	uint64_t when_ns;
	uint64_t order; /* of being scheduled: decides equal times */
	/* is_dropped: the env is going away; only free. */
	void (*run)(struct sim_event *event, bool is_dropped);
};

struct sim_queue {
	struct sim_event **heap;
	uint32_t count;
	uint32_t room;
};

struct sim {
	uint64_t seed;
	struct rng rng;
	uint64_t now_ns;
	uint64_t wall_base_s;
	uint64_t trace; /* hash of all that happened */
	uint64_t order;
	uint64_t steps;
	uint64_t blocked_ns; /* that passed in blocking calls: nobody else ran */
	bool is_verbose;
	bool has_faults; /* false: networks and disks behave from now on */
	struct list envs;
	struct list disks;
	/* Network: what the run is like. */
	struct sim_env *net; /* whose events the network's are */
	uint32_t conn_count;
	struct list conns;
	struct list listeners;
	uint64_t net_delay_max_ns;
	uint32_t net_window; /* bytes in flight in a direction of a connection */
	uint32_t reset_rate; /* permyriad of sends that find the connection broken */
	uint64_t cut_until_ns[SIM_NODE_MAX][SIM_NODE_MAX]; /* from, to */
	/* Names: fills in what the name server says; NULL: a name is its own address. */
	void (*names)(void *ctx, struct env_resolve *resolve);
	void *names_ctx;
};

struct sim_env {
	struct env env;
	uint32_t magic;
	uint32_t node; /* the host it runs on */
	struct sim *sim;
	struct list node_envs;
	char name[16];
	struct timers timers;
	struct sim_queue queue;
	struct list tasks;
	struct list ready; /* sockets to be told */
	struct list socks;
	struct list allocs;
	struct env_task *wake_task;
	uint64_t held_count; /* allocations not given back */
	uint64_t held_bytes;
	uint64_t frozen_until_ns;
	bool is_sealed;
	bool is_dead;   /* killed: what it still does has no effect outside of it */
	bool is_silent; /* and nobody was told */
};

/* --- the run --- */

void sim_init(struct sim *sim, uint64_t seed, bool is_verbose);
void sim_fini(struct sim *sim); /* all envs are destroyed */

/* Run one callback of one env. False: nothing will ever happen again. */
bool sim_step(struct sim *sim);

/* Add to the trace; values only, never addresses. */
void sim_trace(struct sim *sim, uint64_t a, uint64_t b);

/* A line for --verbose. */
void sim_note(struct sim *sim, const char *format, ...) PRINTF_LIKE(2, 3);

/* An oracle has spoken: print why and how to replay, leave the process. */
_Noreturn void sim_fail(struct sim *sim, const char *format, ...) PRINTF_LIKE(2, 3);

/* --- processes --- */

struct sim_env *sim_env_create(struct sim *sim, const char *name, uint32_t node);

/* From here on nothing that this process does is seen by anybody. Its connections: is_silent
 * leaves the peers without a word (power loss); else they see a reset or an end. */
void sim_env_kill(struct sim_env *env, bool is_silent);

/* Everything it took must have been given back, else the run fails. */
void sim_env_destroy(struct sim_env **env);

void sim_env_freeze(struct sim_env *env, uint64_t until_ns);

struct sim_env *sim_env_of(struct env *env);

/* Schedule event for env, after delay_ns. */
void sim_env_schedule(struct sim_env *env, struct sim_event *event, uint64_t delay_ns,
		      void (*run)(struct sim_event *event, bool is_dropped));

/* Take a scheduled event back; it is the caller's again. */
void sim_env_cancel(struct sim_env *env, struct sim_event *event);

/* --- disks (disk.c) --- */

struct sim_disk_faults {
	uint32_t read_eio; /* permyriad of I/Os, all of them */
	uint32_t write_eio;
	uint32_t lost;
	uint32_t misdirected;
	uint32_t rot;
	uint32_t stale;
	uint64_t delay_max_ns;
};

struct sim_disk {
	struct list node;
	struct sim *sim;
	char path[32];
	uint64_t size;
	struct sim_page *pages;
	uint64_t page_count;
	uint32_t *dirty; /* pages with unflushed content */
	uint32_t dirty_count;
	struct list inflight;   /* struct sim_io */
	uint64_t epoch;         /* of flushes */
	uint64_t slow_until_ns; /* it is slow: so many bytes a second */
	uint64_t slow_rate;
	uint64_t slow_free_ns; /* it has done what it was given */
	struct env_blk *opener;
	struct sim_disk_faults faults;
	uint64_t io_count;
	uint64_t media_faults; /* lost, misdirected, rotten, stale, or not read by recovery */
	uint64_t eio_count;
	/* The power goes at the I/O so many from now (0: never): that one and all later ones fail
	 * until sim_disk_crash(). */
	uint64_t dies_in;
	bool is_dead;
};

/* An empty file of that name. */
struct sim_disk *sim_disk_create(struct sim *sim, const char *path, uint64_t size);
void sim_disk_destroy(struct sim_disk **disk);

/* The process that had it open is gone; is_power_loss: so is the drive's cache. */
void sim_disk_crash(struct sim_disk *disk, bool is_power_loss);

/* --- the env's parts, for sim_env only --- */

extern const struct env_ops sim_env_ops;

int sim_blk_open(struct env *env, const char *path, uint32_t flags, struct env_blk **blk_out);
void sim_blk_close(struct env *env, struct env_blk *blk);
void sim_blk_info(struct env *env, struct env_blk *blk, struct env_blk_info *info_out);
int sim_blk_resize(struct env *env, struct env_blk *blk, uint64_t size, bool is_sparse);
int sim_blk_read(struct env *env, struct env_blk *blk, void *buf, size_t size, uint64_t offset);
int sim_blk_write(struct env *env, struct env_blk *blk, const void *buf, size_t size,
		  uint64_t offset);
int sim_blk_flush(struct env *env, struct env_blk *blk);
void sim_blk_submit(struct env *env, struct env_io *io);

int sim_sock_listen(struct env *env, const char *address, struct env_sock **sock_out);
int sim_sock_accept(struct env *env, struct env_sock *listener, struct env_sock **sock_out);
int sim_sock_connect(struct env *env, const char *address, struct env_sock **sock_out);
void sim_sock_watch(struct env *env, struct env_sock *sock, uint32_t events, env_sock_ready ready,
		    void *ctx);
void sim_sock_want(struct env *env, struct env_sock *sock, uint32_t size);
ssize_t sim_sock_recv(struct env *env, struct env_sock *sock, const struct iovec *iov,
		      uint32_t iov_count);
ssize_t sim_sock_send(struct env *env, struct env_sock *sock, const struct iovec *iov,
		      uint32_t iov_count);
void sim_sock_close(struct env *env, struct env_sock *sock);
void sim_sock_name(struct env *env, struct env_sock *sock, bool is_peer, char *buf,
		   size_t buf_size);
int sim_sock_adopt(struct env *env, int fd, struct env_sock **sock_out);
int sim_sock_detach(struct env *env, struct env_sock *sock);
void sim_resolve(struct env *env, struct env_resolve *resolve);

/* Tell the first ready socket of env. */
void sim_net_run(struct sim_env *env);
void sim_net_kill(struct sim_env *env, bool is_silent);
void sim_net_fini(struct sim *sim);

#endif
