/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `start` share. */
#ifndef CMD_START_H
#define CMD_START_H

#include <pthread.h>
#include <sched.h>

#include "../admin/admin.h"
#include "../env/choose.h"
#include "../server/server.h"
#include "cmd.h"
#include "supervise.h"

#define RELOAD_TEXT_SIZE 1024

/* See start_reload.c. Behind lock but thread and is_begun, which are the main thread's. */
struct reload {
	pthread_t thread;
	bool is_begun;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool is_ending;
	uint64_t asked; /* how often */
	uint64_t done;  /* of these */
	int rc;         /* of the last, and what it came to */
	char text[RELOAD_TEXT_SIZE];
};

struct start {
	struct options *options;
	struct env *env;         /* of the main thread: memory of tenants; never sealed */
	struct tenants *tenants; /* of the reload thread while it is there */
	struct reload reload;
	struct heartbeat *heartbeat;
	struct heartbeat own_heartbeat; /* where nobody shares one */
	uint64_t watchdog_ns;           /* of whoever watches; 0: nobody */
	struct pulse pulse;             /* systemd: the main thread looks itself */
	struct server_opts server_opts;
	struct reactor_listen listens[2]; /* tcp; the doors of this host, when there is a dir */
	char door_prefix[OPT_TEXT_MAX + 64];
	const char *door_missing; /* why there is none, when that was not asked for */
	struct env_posix_opts env_opts;
	cpu_set_t all_cpus;                /* of the process, before reactors are pinned */
	uint32_t cpus[SERVER_REACTOR_MAX]; /* of each reactor */
	uint32_t cpu_count;                /* 0: not pinned */
	/* What each reactor reads and writes with, and why not with io_uring. */
	char back_end[SERVER_REACTOR_MAX][ENV_TEXT_SIZE];
	char io_message[SERVER_REACTOR_MAX][ENV_TEXT_SIZE];
	char media[OPT_TEXT_MAX]; /* cut into server_opts.media */
	struct server *server;
	struct admin *admin;    /* NULL: none is wanted */
	uint64_t offline_count; /* shards, as last told */
	int signal_fd;
	bool is_stopping;
	/* While it starts; see begin_watch(). */
	int begun_pipe[2];
	pthread_t begin_thread;
	bool is_begin_watched;
	bool is_hangup_due;
};

/* --- start_opts.c: the options as the server wants them. 0, or negative after a message --- */

int start_opts_make(struct start *start);
/* Those of them that say what the server will take; nothing is made. */
int start_opts_plan(struct start *start);

/* --- start_admin.c: the admin endpoint --- */

int start_admin_begin(struct start *start);
void start_admin_print(const struct start *start);

/* --- start_reload.c: secrets and media, once more --- */

/* The server runs. 0, or negative after a message. */
int start_reload_begin(struct start *start);
/* It is about to end: waits for what is under way. */
void start_reload_end(struct start *start);
/* ANY_THREAD between the two. */
void start_reload_ask(struct start *start);
/* What the last asking came to: 0, why not, -EINPROGRESS after timeout_ns, -ENOENT: none asked. */
int start_reload_wait(struct start *start, uint64_t timeout_ns, char *text, size_t text_size);

/* --- start_door.c: shared memory for clients of this host --- */

/* Where the doors are to be: into listens[1]. 0, or negative after a message. */
int start_door_plan(struct start *start);
/* The server runs: the sockets are the group's. */
void start_door_open(const struct start *start);
void start_door_print(const struct start *start);
/* It is about to end: so do the sockets. */
void start_door_close(const struct start *start);

/* --- start_print.c --- */

void start_print(const struct start *start, uint64_t ready_ns);

#endif
