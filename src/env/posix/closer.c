/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closing what a peer passed. The last close of a descriptor may wait: a TCP socket for as long as
 * its SO_LINGER says, a file of NFS or FUSE for its server or its daemon; and the peer chooses. So
 * does the close of a socket in which descriptors lie that nobody received, and of a listening one
 * with such connections waiting. No loop does that: one thread of the process, which nobody waits
 * for, closes them one after the other.
 *
 * Normal path: it sleeps. Memory is closed by the loop (posix_fd_close), a socket of a peer's only
 * comes here when something in it was not received. The loop has shut the socket down before: the
 * peer sees the end at once, and no more descriptors come in.
 *
 * Failure. A close that does not return holds up the others. From CLOSER_FULL waiting on the
 * listeners of Unix sockets rest (sock.c), so that no new peer adds to them; a connection adds a
 * few at its end, and then it is gone. The process ends without the thread: a signal that kills
 * ends the waits of sockets, NFS and most of FUSE; docs/security.md says what is left.
 */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "../../base/log.h"
#include "../../base/text.h"
#include "posix_priv.h"

#define CLOSER_FULL 256
/* So many peers may be connected meanwhile (each has a row of share.c, but those without preface),
 * each with six at most: its socket, the descriptor of a note that is not whole, those that ended
 * it, and the same seen too early. */
#define CLOSER_MAX (CLOSER_FULL + 6 * 8192)

/* All under lock. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	pid_t pid; /* whose thread it is; else there is none: a child has none of its parent's */
	uint32_t first;
	uint32_t count; /* also the one that is being closed */
	int fds[CLOSER_MAX];
} closer = { .lock = PTHREAD_MUTEX_INITIALIZER, .wanted = PTHREAD_COND_INITIALIZER };

static void close_one(int fd)
{
	struct timespec begin;
	struct timespec end;
	char buf[32];

	clock_gettime(CLOCK_MONOTONIC, &begin);
	close(fd);
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (end.tv_sec - begin.tv_sec > 1)
		log_warn("closing what a client had passed took %s",
			 text_format_duration(buf, sizeof(buf),
					      (uint64_t)(end.tv_sec - begin.tv_sec) * NS_PER_S));
}

static void *closer_main(void *ctx)
{
	(void)ctx;
	pthread_mutex_lock(&closer.lock);
	for (;;) {
		int fd = closer.fds[closer.first];

		if (closer.count == 0) {
			pthread_cond_wait(&closer.wanted, &closer.lock);
			continue;
		}
		pthread_mutex_unlock(&closer.lock);
		close_one(fd);
		pthread_mutex_lock(&closer.lock);
		closer.first = (closer.first + 1) % CLOSER_MAX;
		closer.count--;
	}
	return NULL;
}

/* With the lock held. */
static int thread_begin(void)
{
	pthread_attr_t attr;
	pthread_t id;
	sigset_t all;
	sigset_t before;
	int rc;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
	rc = -pthread_create(&id, &attr, closer_main, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return rc;
}

int closer_begin(void)
{
	int rc = 0;

	pthread_mutex_lock(&closer.lock);
	if (closer.pid != getpid()) {
		closer.count = 0; /* a parent's */
		rc = thread_begin();
		if (rc == 0)
			closer.pid = getpid();
	}
	pthread_mutex_unlock(&closer.lock);
	return rc;
}

void closer_close(int fd)
{
	bool is_taken = false;

	pthread_mutex_lock(&closer.lock);
	if (closer.pid == getpid() && closer.count < CLOSER_MAX) {
		closer.fds[(closer.first + closer.count) % CLOSER_MAX] = fd;
		closer.count++;
		is_taken = true;
		pthread_cond_signal(&closer.wanted);
	}
	pthread_mutex_unlock(&closer.lock);
	if (!is_taken)
		close(fd);
}

bool closer_is_full(void)
{
	bool is_full;

	pthread_mutex_lock(&closer.lock);
	is_full = closer.count >= CLOSER_FULL;
	pthread_mutex_unlock(&closer.lock);
	return is_full;
}

uint32_t posix_fd_waiting(struct env *env)
{
	uint32_t count;

	(void)env;
	pthread_mutex_lock(&closer.lock);
	count = closer.count;
	pthread_mutex_unlock(&closer.lock);
	return count;
}

/* What is memory is known without asking the file: seals are the kernel's own, of memory only. */
bool posix_fd_is_memory(int fd)
{
	return fcntl(fd, F_GET_SEALS) >= 0;
}

bool posix_fd_close(struct env *env, int fd)
{
	bool is_memory = posix_fd_is_memory(fd);

	(void)env;
	if (is_memory)
		close(fd);
	else
		closer_close(fd);
	return is_memory;
}
