/* SPDX-License-Identifier: Apache-2.0 */
/* The server's struct and what its files call of each other. */
#ifndef SERVER_SERVER_PRIV_H
#define SERVER_SERVER_PRIV_H

#include <pthread.h>
#include <semaphore.h>

#include "mailbox.h"
#include "server.h"

#define SERVER_MAGIC        UINT32_C(0x56525343)
#define SERVER_MESSAGE_SIZE 256
#define SERVER_QUERY_BYTES  (64 * KiB) /* rows of an answer at a time */
#define MEDIUM_NOT_HERE     UINT16_MAX

/* What a reactor's thread is told to do next. Between two steps it waits. */
enum server_step {
	STEP_ENV,     /* make the env */
	STEP_MEDIA,   /* open the media it owns */
	STEP_SHARDS,  /* share the others' media, open its shards: recovery */
	STEP_REACTOR, /* make the reactor, with its doors */
	STEP_RUN,     /* the loop, until the server stops; then all is finished or given up */
	STEP_UNREACTOR,
	STEP_UNSHARDS,
	STEP_UNMEDIA,
	STEP_UNENV,
	STEP_QUIT, /* the thread ends */
	STEP_COUNT,
};

/* A question to one reactor, in memory that outlives both sides. */
enum query_slot_state {
	QUERY_SLOT_FREE = 0,
	QUERY_SLOT_ASKED,
	QUERY_SLOT_ANSWERED,
	QUERY_SLOT_ABANDONED, /* nobody waits any more; the reactor frees it */
};

struct query_slot {
	struct reactor_query query; /* ASKED: the reactor's; else the asker's */
	atomic_uint state;          /* enum query_slot_state; see server_query.c */
	sem_t answered;
	uint8_t *rows; /* SERVER_QUERY_BYTES */
};

struct reactor_thread {
	struct server *server;
	uint32_t index;
	pthread_t thread;
	bool is_begun; /* thread is there */
	sem_t go;      /* step is set: by the main thread */
	enum server_step step;
	int rc; /* of the step; the main thread reads it behind server->done */
	char message[SERVER_MESSAGE_SIZE];

	struct env *env;
	struct medium *media[SERVER_MEDIUM_MAX]; /* own or shared, by row of opts.media */
	struct shard *shards[WIRE_SHARD_MAX];    /* its own, in order */
	uint32_t shard_count;
	struct reactor *reactor;
	struct mailbox mailbox;
	struct query_slot query;
	struct env_timer beat;
	bool is_stuck; /* the store does not let go of something: leave it as after a crash */
};

struct server {
	uint32_t magic;
	struct server_opts opts;
	uint32_t reactor_count;
	struct reactor_thread *threads;
	struct mailbox *mailboxes[SERVER_REACTOR_MAX];
	sem_t done; /* a thread has finished its step */
	/* Set by server_stop(), looked at by each reactor's loop after a wake-up: relaxed, since it
	 * is alone. */
	atomic_bool is_stopping;
	pthread_mutex_t query_lock; /* one asker at a time */
	bool is_running;

	/* Made by the main thread between two steps; later on who returns media changes what it
	 * says of them and its table. */
	struct server_plan plan;
	/* Of the plan, as it is now. Partner: server_get_info(); relaxed, nothing follows from it.
	 */
	atomic_uint missing_count;
	bool is_direct;

	/* Of who returns media; behind return_lock. */
	pthread_mutex_t return_lock;
	struct env *return_env[SERVER_MEDIUM_MAX]; /* of a medium that came back: it has the lock */
	struct medium *returned[SERVER_MEDIUM_MAX];
	struct shard *joining[WIRE_SHARD_MAX]; /* by index; each goes to its reactor */
	bool is_join_open; /* a reactor did not say in time whether it took its */
	struct shard_mark marks[WIRE_SHARD_MAX];
	bool has_mark[WIRE_SHARD_MAX]; /* it was open in this process */
};

/* --- server_media.c: what is opened where; every function returns 0 or says why not --- */

/* On the thread. */
int media_open(struct reactor_thread *thread, char *message);
int shards_open(struct reactor_thread *thread, char *message);
int shards_close(struct reactor_thread *thread);
void media_close(struct reactor_thread *thread);

/* --- server_plan.c --- */

/* Whether b goes with a: one server, set up together. */
int server_check_alike(const struct server_opts *opts, const struct server_plan *plan, uint32_t a,
		       uint32_t b, char *message);
/* The reactor that opens it with its lock. */
uint32_t server_medium_owner(const struct server_opts *opts, uint32_t medium);
/* Memory mode: of each reactor. */
struct shard_memory server_memory_share(const struct server_opts *opts);

/* --- server.c --- */

/* Returns rc, so that telling and leaving are one line. */
int server_say(char *message, int rc, const char *format, ...) PRINTF_LIKE(3, 4);

/* --- server_return.c --- */

/* Behind all threads' handles. */
void server_return_fini(struct server *server);

/* --- server_query.c --- */

int server_query_init(struct reactor_thread *thread);
void server_query_fini(struct reactor_thread *thread);

#endif
