/* SPDX-License-Identifier: Apache-2.0 */
/* Block devices and files, by preadv and pwritev; the pool's threads call blk_execute(). */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "../../base/log.h"
#include "posix_priv.h"

#define LOCK_PATIENCE_NS (NS_PER_S)
#define LOCK_PAUSE_NS    (10 * NS_PER_MS)

/* --- opening --- */

static int open_with(const char *path, uint32_t flags, bool is_direct)
{
	struct stat st;
	int mode = O_CLOEXEC | ((flags & ENV_BLK_READ_ONLY) != 0 ? O_RDONLY : O_RDWR);

	if (is_direct)
		mode |= O_DIRECT;
	if ((flags & ENV_BLK_CREATE) != 0)
		mode |= O_CREAT;
	/* On a block device O_EXCL without O_CREAT refuses one that is mounted or in use. */
	if (stat(path, &st) == 0 && S_ISBLK(st.st_mode)) {
		mode &= ~O_CREAT;
		if ((flags & (ENV_BLK_READ_ONLY | ENV_BLK_SHARED)) == 0)
			mode |= O_EXCL;
	}
	return open(path, mode, 0600);
}

static int open_best(const char *path, uint32_t flags, bool *is_direct_out)
{
	int fd;

	*is_direct_out = (flags & ENV_BLK_BUFFERED) == 0;
	fd = open_with(path, flags, *is_direct_out);
	if (fd < 0 && errno == EINVAL && *is_direct_out) {
		log_warn("medium %s no direct I/O on this file system, using the page cache", path);
		*is_direct_out = false;
		fd = open_with(path, flags, false);
	}
	if (fd < 0)
		return errno == EBUSY ? -ERR_IN_USE : -errno;
	return fd;
}

/* A hole behind the end changes nothing and tells whether the file system makes holes. */
static bool file_discards(int fd, off_t size)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, size, (off_t)PAGE_SIZE) ==
	       0;
}

/* A partition has no queue of its own: its disk's stands one directory above. */
static bool device_discards(dev_t device)
{
	static const char *const places[] = { "queue", "../queue" };
	unsigned long long bytes = 0;

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		char path[96];
		FILE *file;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/discard_max_bytes",
			 major(device), minor(device), places[i]);
		file = fopen(path, "re");
		if (file == NULL)
			continue;
		if (fscanf(file, "%llu", &bytes) != 1)
			bytes = 0;
		fclose(file);
		break;
	}
	return bytes > 0;
}

static int info_fill(int fd, struct env_blk_info *info)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	info->is_device = S_ISBLK(st.st_mode);
	info->discards =
		info->is_device ? device_discards(st.st_rdev) : file_discards(fd, st.st_size);
	if (!info->is_device && !S_ISREG(st.st_mode))
		return -ENOTBLK;
	info->size = (uint64_t)st.st_size;
	if (info->is_device && ioctl(fd, BLKGETSIZE64, &info->size) < 0)
		return -errno;
	return 0;
}

/* Returns the descriptor, locked unless flags say otherwise. */
static int open_locked(const char *path, uint32_t flags, bool *is_direct_out)
{
	int fd = open_best(path, flags, is_direct_out);
	int rc;

	if (fd < 0 || (flags & (ENV_BLK_READ_ONLY | ENV_BLK_SHARED)) != 0 ||
	    flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	rc = errno == EWOULDBLOCK ? -ERR_IN_USE : -errno;
	close(fd);
	return rc;
}

/*
 * A server that was killed may have left I/O with the kernel (env/uring), which holds the file
 * until it has landed: who comes next waits a little, and then finds nobody's bytes still on their
 * way.
 */
static int open_patient(const char *path, uint32_t flags, bool *is_direct_out)
{
	const struct timespec pause = { 0, LOCK_PAUSE_NS };
	int rc = open_locked(path, flags, is_direct_out);

	for (uint64_t waited = 0; rc == -ERR_IN_USE && waited < LOCK_PATIENCE_NS;
	     waited += LOCK_PAUSE_NS) {
		nanosleep(&pause, NULL);
		rc = open_locked(path, flags, is_direct_out);
	}
	return rc;
}

int posix_blk_open(struct env *env, const char *path, uint32_t flags, struct env_blk **blk_out)
{
	struct env_blk *blk = calloc(1, sizeof(*blk));
	int rc;

	if (blk == NULL)
		return -ENOMEM;
	rc = open_patient(path, flags, &blk->info.is_direct);
	if (rc < 0)
		goto err_free;
	blk->fd = rc;
	/* A server holds the exclusive lock; ours is given back, so that one may start. */
	if ((flags & ENV_BLK_READ_ONLY) != 0)
		blk->info.is_in_use = flock(blk->fd, LOCK_SH | LOCK_NB) < 0;
	if ((flags & ENV_BLK_READ_ONLY) != 0 && !blk->info.is_in_use)
		(void)flock(blk->fd, LOCK_UN); /* it was just taken */
	rc = info_fill(blk->fd, &blk->info);
	if (rc < 0)
		goto err_close;
	pool_medium_add(posix_of(env), blk);
	*blk_out = blk;
	return 0;

err_close:
	close(blk->fd);
err_free:
	free(blk);
	return rc;
}

void posix_blk_close(struct env *env, struct env_blk *blk)
{
	pool_medium_remove(posix_of(env), blk);
	close(blk->fd);
	free(blk);
}

void posix_blk_info(struct env *env, struct env_blk *blk, struct env_blk_info *info_out)
{
	(void)env;
	*info_out = blk->info;
}

int posix_blk_resize(struct env *env, struct env_blk *blk, uint64_t size, bool is_sparse)
{
	int rc;

	(void)env;
	if (blk->info.is_device)
		return -ENOTSUP;
	if (ftruncate(blk->fd, (off_t)size) < 0)
		return -errno;
	blk->info.size = size;
	if (is_sparse || size == 0)
		return 0;
	/* Not posix_fallocate: where it must emulate, it writes single bytes, which O_DIRECT
	 * refuses. */
	do
		rc = fallocate(blk->fd, 0, 0, (off_t)size);
	while (rc < 0 && errno == EINTR);
	if (rc < 0 && errno == EOPNOTSUPP) {
		log_warn("medium cannot be allocated on this file system until it is written");
		return 0;
	}
	return rc < 0 ? -errno : 0;
}

/* --- reading and writing --- */

/* Drop size bytes from the front of a list of pieces. */
static void iov_advance(struct iovec *iov, uint32_t *first, uint32_t count, size_t size)
{
	while (size > 0) {
		size_t part;

		ASSERT(*first < count);
		part = MIN(size, iov[*first].iov_len);
		iov[*first].iov_base = (char *)iov[*first].iov_base + part;
		iov[*first].iov_len -= part;
		size -= part;
		if (iov[*first].iov_len == 0)
			(*first)++;
	}
}

/* All of it, however short the kernel's steps are. */
static int64_t transfer(const struct env_blk *blk, enum env_io_kind kind,
			const struct iovec *pieces, uint32_t count, uint64_t offset, uint64_t size)
{
	struct iovec iov[ENV_IOV_MAX];
	uint64_t moved = 0;
	uint32_t first = 0;

	ASSERT(count <= ENV_IOV_MAX);
	memcpy(iov, pieces, count * sizeof(*iov));
	while (moved < size) {
		off_t at = (off_t)(offset + moved);
		ssize_t part = kind == ENV_READ
				       ? preadv(blk->fd, iov + first, (int)(count - first), at)
				       : pwritev(blk->fd, iov + first, (int)(count - first), at);

		if (part < 0 && errno == EINTR)
			continue;
		if (part < 0)
			return -errno;
		if (part == 0)
			return -EIO; /* behind the end */
		moved += (uint64_t)part;
		iov_advance(iov, &first, count, (size_t)part);
	}
	return (int64_t)moved;
}

static int discard(const struct env_blk *blk, uint64_t offset, uint64_t size)
{
	uint64_t range[2] = { offset, size };
	int rc;

	if (blk->info.is_device)
		rc = ioctl(blk->fd, BLKDISCARD, range);
	else
		rc = fallocate(blk->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			       (off_t)size);
	return rc < 0 ? -errno : 0;
}

bool blk_io_is_valid(const struct env_io *io)
{
	uint64_t size = 0;

	if (io->done == NULL || io->blk == NULL || io->offset % PAGE_SIZE != 0)
		return false;
	if (io->kind == ENV_FLUSH)
		return true;
	if (io->kind == ENV_DISCARD)
		return io->size > 0 && io->size % PAGE_SIZE == 0;
	if (io->iov_count == 0 || io->iov_count > ENV_IOV_MAX)
		return false;
	for (uint32_t i = 0; i < io->iov_count; i++) {
		if ((uintptr_t)io->iov[i].iov_base % PAGE_SIZE != 0 ||
		    io->iov[i].iov_len % PAGE_SIZE != 0)
			return false;
		size += io->iov[i].iov_len;
	}
	return size == io->size;
}

int64_t blk_execute(struct env_io *io)
{
	switch (io->kind) {
	case ENV_READ:
	case ENV_WRITE:
		return transfer(io->blk, io->kind, io->iov, io->iov_count, io->offset, io->size);
	case ENV_FLUSH:
		return fdatasync(io->blk->fd) < 0 ? -errno : 0;
	case ENV_DISCARD:
		return discard(io->blk, io->offset, io->size);
	}
	ASSERT(false);
	return -EINVAL;
}

int posix_blk_read(struct env *env, struct env_blk *blk, void *buf, size_t size, uint64_t offset)
{
	const struct iovec iov = { buf, size };
	int64_t rc = transfer(blk, ENV_READ, &iov, 1, offset, size);

	(void)env;
	return rc < 0 ? (int)rc : 0;
}

int posix_blk_write(struct env *env, struct env_blk *blk, const void *buf, size_t size,
		    uint64_t offset)
{
	const struct iovec iov = { (void *)(uintptr_t)buf, size };
	int64_t rc = transfer(blk, ENV_WRITE, &iov, 1, offset, size);

	(void)env;
	return rc < 0 ? (int)rc : 0;
}

int posix_blk_flush(struct env *env, struct env_blk *blk)
{
	(void)env;
	return fdatasync(blk->fd) < 0 ? -errno : 0;
}
