/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor of what one would write oneself: a file a block, named by its key, `batch` threads that
 * open, read or write at once, and close. A block is written beside and renamed into place, so that
 * none is seen by half. TARGET: "buffered:FOLDER" or "direct:FOLDER"; the folder has 256 folders.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "load.h"

#define THREADS_MAX 16
#define PATH_SIZE   512

struct files {
	char folder[PATH_SIZE - 2 * LOAD_NAME_SIZE];
	int open_flags;
};

/* One turn of a walk over the threads. next is taken with fetch_add, each index by one thread. */
struct turn {
	struct files *files;
	const struct load_walk *walk;
	void (*move)(struct files *files, const struct load_walk *walk, struct load_block *block);
	atomic_uint_fast64_t next;
};

static void *files_open(const char *target)
{
	struct files *files = calloc(1, sizeof(*files));
	const char *folder = strchr(target, ':');
	char path[PATH_SIZE];

	if (files == NULL || folder == NULL || strlen(folder) >= sizeof(files->folder))
		load_die("files wants direct:FOLDER or buffered:FOLDER");
	strcpy(files->folder, folder + 1);
	files->open_flags = strncmp(target, "direct:", 7) == 0 ? O_DIRECT : 0;
	for (unsigned i = 0; i < 256; i++) {
		snprintf(path, sizeof(path), "%s/%02x", files->folder, i);
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			load_die("%s: %s", path, err_str(-errno));
	}
	return files;
}

static void path_of(const struct files *files, const struct load_block *block, const char *end,
		    char *path)
{
	snprintf(path, PATH_SIZE, "%s/%.2s/%s%s", files->folder, block->name, block->name, end);
}

static enum load_status move_all(int fd, const struct load_walk *walk, char *bytes, bool is_write)
{
	for (uint64_t done = 0; done < walk->size;) {
		ssize_t moved = is_write ? pwrite(fd, bytes + done, walk->size - done, (off_t)done)
					 : pread(fd, bytes + done, walk->size - done, (off_t)done);

		if (moved <= 0)
			return LOAD_FAILED;
		done += (uint64_t)moved;
	}
	return LOAD_OK;
}

static void put_one(struct files *files, const struct load_walk *walk, struct load_block *block)
{
	char beside[PATH_SIZE];
	char path[PATH_SIZE];
	int fd;

	path_of(files, block, ".new", beside);
	path_of(files, block, "", path);
	fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | files->open_flags, 0600);
	block->status = fd < 0 ? LOAD_FAILED : move_all(fd, walk, block->bytes, true);
	if (fd >= 0)
		close(fd);
	if (block->status == LOAD_OK && rename(beside, path) < 0)
		block->status = LOAD_FAILED;
}

static void get_one(struct files *files, const struct load_walk *walk, struct load_block *block)
{
	char path[PATH_SIZE];
	int fd;

	path_of(files, block, "", path);
	fd = open(path, O_RDONLY | O_CLOEXEC | files->open_flags);
	if (fd < 0) {
		block->status = errno == ENOENT ? LOAD_MISSING : LOAD_FAILED;
		return;
	}
	block->status = move_all(fd, walk, block->bytes, false);
	close(fd);
}

static void drop_one(struct files *files, const struct load_walk *walk, struct load_block *block)
{
	char path[PATH_SIZE];

	(void)walk;
	path_of(files, block, "", path);
	block->status = unlink(path) == 0 ? LOAD_OK : LOAD_MISSING;
}

static void *turn_main(void *ctx)
{
	struct turn *turn = ctx;

	while (!load_is_over(turn->walk)) {
		uint64_t i = atomic_fetch_add(&turn->next, 1);

		if (i >= turn->walk->count)
			break;
		turn->move(turn->files, turn->walk, &turn->walk->blocks[i]);
	}
	return NULL;
}

static void turn_run(struct files *files, const struct load_walk *walk,
		     void (*move)(struct files *, const struct load_walk *, struct load_block *))
{
	struct turn turn = { .files = files, .walk = walk, .move = move };
	pthread_t threads[THREADS_MAX];
	uint64_t count = 0;

	while (count + 1 < MIN(walk->batch, THREADS_MAX) &&
	       pthread_create(&threads[count], NULL, turn_main, &turn) == 0)
		count++;
	turn_main(&turn);
	for (uint64_t i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

static void files_put(void *store, const struct load_walk *walk)
{
	turn_run(store, walk, put_one);
}

static void files_get(void *store, const struct load_walk *walk)
{
	turn_run(store, walk, get_one);
}

static void files_drop(void *store, const struct load_walk *walk)
{
	turn_run(store, walk, drop_one);
}

static void files_probe(void *store, const struct load_walk *walk)
{
	char path[PATH_SIZE];

	for (uint64_t i = 0; i < walk->count; i++) { /* a thread would cost more than it saves */
		path_of(store, &walk->blocks[i], "", path);
		walk->blocks[i].status = access(path, F_OK) == 0 ? LOAD_OK : LOAD_MISSING;
	}
}

const struct load_backend load_files = {
	.name = "files",
	.open = files_open,
	.put = files_put,
	.get = files_get,
	.probe = files_probe,
	.drop = files_drop,
};
