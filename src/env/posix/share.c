/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory shared between processes: by which descriptor a piece of ours can be passed on (find),
 * memory made for that (make), and a piece of another's by the descriptor that came (map).
 *
 * find. The mappings that cover the piece are read from /proc/self/maps: all shared, of one file,
 * without a gap in it. The file's descriptor is looked for among ours by device and inode; a pool
 * whose maker has closed it may still have its path. A name is believed only when what it opens is
 * that inode.
 *
 * map. Only memory is taken: tmpfs or hugetlbfs, so that touching it waits for no disk, no network
 * and nobody's FUSE daemon; and only inside the file. The whole pages of the file around the piece
 * are mapped.
 *
 * unmap. A pool of a client's may be hundreds of GiB, and to unmap one takes 30 ms if it was used,
 * page by page: for so long nobody else would be served. What is large goes by parts, one a turn of
 * the loop; it is nobody's from the beginning. (Of very much at a time the rest goes at once: who
 * maps and unmaps huge files of nothing would take all addresses.)
 *
 * Failure. The other process may cut its file at any time; touching what is cut raises SIGBUS. The
 * handler puts private zeros around where it was touched and marks the piece lost: whoever was
 * copying goes on undisturbed, asks share_is_lost() behind the copy, and unmaps the piece: what he
 * touches of it until then is memory of ours. (Asking is one load unless some piece of the process
 * is lost just now.) A SIGBUS elsewhere is not ours: what was there before us has it. The handler
 * reads a fixed table by atomics only.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../../base/text.h"
#include "huge.h"
#include "posix_priv.h"

#define SHARE_MAX       16384 /* pieces mapped in a process */
#define STAT_BLOCK_SIZE 512   /* of st_blocks, whatever the file */
/* So much of a lost piece turns into zeros at once: a block is soon through, and little is ours. */
#define LOST_SIZE  (2 * MiB)
#define UNMAP_SIZE (16 * MiB) /* in a turn: half a ms */
/* What goes so at a time, in each loop. */
#define UNMAP_SIZE_MAX  (2048 * GiB)
#define UNMAP_COUNT_MAX 256

static bool is_memory(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC);
}

/* --- find --- */

/* A line of /proc/self/maps. */
struct mapping {
	uintptr_t from;
	uintptr_t to;
	uint64_t offset;
	dev_t device;
	unsigned long inode;
	bool is_shared;
	char path[512]; /* of the file, or what it was; cut when it is longer */
};

static void line_end(FILE *lines)
{
	int c;

	do
		c = fgetc(lines);
	while (c != '\n' && c != EOF);
}

static bool mapping_read(FILE *maps, struct mapping *mapping_out)
{
	unsigned long from;
	unsigned long to;
	unsigned long long offset;
	unsigned major;
	unsigned minor;
	char kind[5];
	char *path = mapping_out->path;

	if (fscanf(maps, "%lx-%lx %4s %llx %x:%x %lu", &from, &to, kind, &offset, &major, &minor,
		   &mapping_out->inode) != 7 ||
	    fgets(path, sizeof(mapping_out->path), maps) == NULL)
		return false;
	if (strchr(path, '\n') == NULL)
		line_end(maps);
	mapping_out->from = from;
	mapping_out->to = to;
	mapping_out->offset = offset;
	mapping_out->device = makedev(major, minor);
	mapping_out->is_shared = kind[3] == 's';
	path[strcspn(path, "\n")] = '\0';
	memmove(path, path + strspn(path, " "), strlen(path) - strspn(path, " ") + 1);
	return true;
}

/* Whether next goes on, in memory and in the file, where so_far ends. */
static bool mapping_follows(const struct mapping *so_far, const struct mapping *next)
{
	return next->from == so_far->to && next->is_shared && next->device == so_far->device &&
	       next->inode == so_far->inode &&
	       next->offset == so_far->offset + (so_far->to - so_far->from);
}

/* The one shared file that covers base … end; its offset is that of base. */
static int piece_file(uintptr_t base, uintptr_t end, struct mapping *file_out)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	struct mapping next;
	int rc = -EOPNOTSUPP;

	if (maps == NULL)
		return -errno;
	*file_out = (struct mapping) { 0 };
	while (rc != 0 && mapping_read(maps, &next)) {
		if (next.to <= base)
			continue;
		if (file_out->to == 0 && next.from <= base && next.is_shared && next.inode != 0)
			*file_out = next;
		else if (file_out->to != 0 && mapping_follows(file_out, &next))
			file_out->to = next.to;
		else
			break;
		if (file_out->to >= end)
			rc = 0;
	}
	fclose(maps);
	if (rc == 0)
		file_out->offset += base - file_out->from;
	return rc;
}

static bool is_file(int fd, const struct mapping *file)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_dev == file->device && st.st_ino == file->inode &&
	       (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
}

/* A copy of a descriptor of ours that is the file, or -ENOENT. */
static int open_by_descriptor(const struct mapping *file)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	int fd = -ENOENT;

	if (dir == NULL)
		return -errno;
	while (fd < 0 && (entry = readdir(dir)) != NULL) {
		uint64_t number;

		if (text_parse_u64(entry->d_name, &number) == 0 && number <= INT32_MAX &&
		    is_file((int)number, file))
			fd = fcntl((int)number, F_DUPFD_CLOEXEC, 0);
	}
	closedir(dir);
	return fd;
}

static int open_by_path(const struct mapping *file)
{
	int fd = open(file->path, O_RDWR | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -ENOENT;
	if (is_file(fd, file))
		return fd;
	close(fd);
	return -ENOENT;
}

int posix_share_find(struct env *env, const void *base, size_t size, int *fd_out,
		     uint64_t *offset_out)
{
	struct mapping file;
	uintptr_t end;
	int rc;
	int fd;

	(void)env;
	if (size == 0 || __builtin_add_overflow((uintptr_t)base, size, &end))
		return -EINVAL;
	rc = piece_file((uintptr_t)base, end, &file);
	if (rc < 0)
		return rc;
	fd = open_by_descriptor(&file);
	if (fd < 0)
		fd = open_by_path(&file);
	if (fd < 0)
		return fd;
	if (!is_memory(fd)) {
		close(fd);
		return -EOPNOTSUPP;
	}
	*fd_out = fd;
	*offset_out = file.offset;
	return 0;
}

/* --- map --- */

/*
 * A mapped piece, in whole pages. base is stored last with release and cleared first, by the thread
 * that maps; the handler, in any thread, loads it with acquire. is_lost is stored by the handler,
 * and read by who touched the piece, in the same thread; so is lost_count.
 */
struct share {
	atomic_uintptr_t base; /* 0: free */
	atomic_size_t size;
	atomic_size_t page_size; /* of its file */
	atomic_bool is_lost;
	atomic_flag is_taken; /* between threads that map at once */
	/* Of the thread that has mapped it: … */
	bool is_there; /* pages of which mincore() does not say it */
	/* … and what is still to be unmapped. */
	struct list node; /* posix->unmapping */
	char *rest;
	size_t rest_size;
};

static struct share shares[SHARE_MAX];
static atomic_uint shares_top;     /* rows from here on were never in use */
static atomic_uint lost_count;     /* of them, is_lost */
static struct sigaction before_us; /* written only while the handler is not ours */
static pthread_mutex_t handler_lock = PTHREAD_MUTEX_INITIALIZER;

static struct share *share_at(uintptr_t address)
{
	uint32_t top = atomic_load_explicit(&shares_top, memory_order_acquire);

	for (uint32_t i = 0; i < top; i++) {
		uintptr_t base = atomic_load_explicit(&shares[i].base, memory_order_acquire);

		if (base != 0 && address >= base &&
		    address - base < atomic_load_explicit(&shares[i].size, memory_order_relaxed))
			return &shares[i];
	}
	return NULL;
}

/* Private zeros around an address of a piece; false: the kernel has none. */
static bool zeros_map(struct share *share, uintptr_t address)
{
	uintptr_t base = atomic_load_explicit(&share->base, memory_order_relaxed);
	size_t size = atomic_load_explicit(&share->size, memory_order_relaxed);
	size_t page_size = atomic_load_explicit(&share->page_size, memory_order_relaxed);
	size_t from = round_down(address - base, MAX(page_size, LOST_SIZE));

	return mmap((void *)(base + from), MIN(size - from, MAX(page_size, LOST_SIZE)),
		    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
		    -1, 0) != MAP_FAILED;
}

/* Also in a thread that holds locks: system calls and atomics only. */
static void on_sigbus(int number, siginfo_t *info, void *context)
{
	struct share *share = share_at((uintptr_t)info->si_addr);
	int saved = errno;

	(void)number;
	(void)context;
	if (share == NULL || !zeros_map(share, (uintptr_t)info->si_addr))
		sigaction(SIGBUS, &before_us, NULL); /* it comes again, to whom it belongs */
	else if (!atomic_exchange_explicit(&share->is_lost, true, memory_order_relaxed))
		atomic_fetch_add_explicit(&lost_count, 1, memory_order_relaxed);
	errno = saved;
}

/* Before a piece is mapped: who sets a handler of his own meanwhile must not find us gone. */
static void handler_ensure(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	struct sigaction now;

	pthread_mutex_lock(&handler_lock);
	sigaction(SIGBUS, NULL, &now);
	if (now.sa_sigaction != on_sigbus) {
		before_us = now;
		sigemptyset(&action.sa_mask);
		sigaction(SIGBUS, &action, NULL);
	}
	pthread_mutex_unlock(&handler_lock);
}

static void top_raise(uint32_t top)
{
	uint32_t before = atomic_load_explicit(&shares_top, memory_order_relaxed);

	while (before < top &&
	       !atomic_compare_exchange_weak_explicit(&shares_top, &before, top,
						      memory_order_acq_rel, memory_order_relaxed)) {
	}
}

static struct share *share_take(void)
{
	for (uint32_t i = 0; i < SHARE_MAX; i++) {
		if (atomic_flag_test_and_set_explicit(&shares[i].is_taken, memory_order_acquire))
			continue;
		top_raise(i + 1);
		return &shares[i];
	}
	return NULL;
}

static int fd_check(int fd, uint64_t offset, size_t size)
{
	struct stat st;
	uint64_t end;

	if (size == 0 || __builtin_add_overflow(offset, size, &end) || end > INT64_MAX)
		return -EINVAL;
	if (fcntl(fd, F_GETFD) < 0)
		return -errno;
	/* Asked first: whoever is behind another file may let fstat() and all else wait. */
	if (!posix_fd_is_memory(fd))
		return -EOPNOTSUPP;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || !is_memory(fd))
		return -EOPNOTSUPP;
	return end <= (uint64_t)st.st_size ? 0 : -EINVAL;
}

/* The pages of the file that the piece lies in. */
static int piece_pages(int fd, uint64_t *offset_io, size_t *size_io, size_t *page_size_out)
{
	struct statfs fs;
	uint64_t end = *offset_io + *size_io;

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	*page_size_out = (size_t)fs.f_bsize;
	*offset_io = round_down(*offset_io, (uint64_t)fs.f_bsize);
	*size_io = round_up(end, (uint64_t)fs.f_bsize) - *offset_io;
	return 0;
}

/* Of hugetlbfs mincore() tells only what we have touched; and none of it is swapped out. */
static bool is_there(int fd)
{
	struct statfs fs;
	struct stat st;

	return fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC && fstat(fd, &st) == 0 &&
	       (uint64_t)st.st_blocks * STAT_BLOCK_SIZE >= (uint64_t)st.st_size;
}

int posix_share_map(struct env *env, int fd, uint64_t offset, size_t size, void **base_out)
{
	struct share *share;
	uint64_t from = offset;
	size_t page_size = 0;
	void *base = NULL;
	int rc = fd_check(fd, offset, size);

	(void)env;
	if (rc == 0)
		rc = piece_pages(fd, &from, &size, &page_size);
	if (rc < 0)
		return rc;
	handler_ensure();
	share = share_take();
	if (share == NULL)
		return -ENOSPC;
	rc = huge_map(fd, from, size, page_size, &base);
	if (rc < 0) {
		atomic_flag_clear_explicit(&share->is_taken, memory_order_release);
		return rc;
	}
	share->is_there = is_there(fd);
	atomic_store_explicit(&share->is_lost, false, memory_order_relaxed);
	atomic_store_explicit(&share->size, size, memory_order_relaxed);
	atomic_store_explicit(&share->page_size, page_size, memory_order_relaxed);
	atomic_store_explicit(&share->base, (uintptr_t)base, memory_order_release);
	*base_out = (char *)base + (offset - from);
	return 0;
}

bool posix_share_is_there(const void *address)
{
	const struct share *share = share_at((uintptr_t)address);

	return share != NULL && share->is_there;
}

uint64_t posix_share_max(struct env *env)
{
	return posix_of(env)->share_max;
}

/* So much of what goes; behind the last of it the row is free. */
static void rest_unmap(struct posix *posix, struct share *share, size_t size)
{
	munmap(share->rest, size);
	share->rest += size;
	share->rest_size -= size;
	posix->unmapping_size -= size;
	if (share->rest_size > 0)
		return;
	list_del(&share->node);
	posix->unmapping_count--;
	atomic_flag_clear_explicit(&share->is_taken, memory_order_release);
}

static void unmap_next(struct env_task *task)
{
	struct posix *posix = CONTAINER_OF(task, struct posix, unmap_task);
	struct share *share = list_head(&posix->unmapping, struct share, node);
	size_t page_size = atomic_load_explicit(&share->page_size, memory_order_relaxed);

	rest_unmap(posix, share, MIN(share->rest_size, MAX(page_size, UNMAP_SIZE)));
	if (!list_is_empty(&posix->unmapping))
		posix->env.ops->defer(&posix->env, task);
}

/* Rows and addresses are everybody's. */
static bool may_go_later(const struct posix *posix, size_t size)
{
	return size > UNMAP_SIZE && posix->unmapping_count < UNMAP_COUNT_MAX &&
	       size <= UNMAP_SIZE_MAX - MIN(posix->unmapping_size, UNMAP_SIZE_MAX);
}

void posix_share_unmap(struct env *env, void *address)
{
	struct posix *posix = posix_of(env);
	struct share *share = share_at((uintptr_t)address);
	bool is_later;

	ASSERT(share != NULL);
	share->rest = (char *)atomic_load_explicit(&share->base, memory_order_relaxed);
	share->rest_size = atomic_load_explicit(&share->size, memory_order_relaxed);
	atomic_store_explicit(&share->base, 0, memory_order_release);
	if (atomic_load_explicit(&share->is_lost, memory_order_relaxed))
		atomic_fetch_sub_explicit(&lost_count, 1, memory_order_relaxed);
	is_later = may_go_later(posix, share->rest_size);
	list_add_tail(&posix->unmapping, &share->node);
	posix->unmapping_count++;
	posix->unmapping_size += share->rest_size;
	if (is_later)
		env->ops->defer(env, &posix->unmap_task);
	else
		rest_unmap(posix, share, share->rest_size);
}

void posix_share_init(struct posix *posix)
{
	list_init(&posix->unmapping);
	posix->unmap_task.run = unmap_next;
}

void posix_share_fini(struct posix *posix)
{
	struct share *share;

	while ((share = list_head(&posix->unmapping, struct share, node)) != NULL)
		rest_unmap(posix, share, share->rest_size);
}

bool posix_share_is_lost(struct env *env, const void *address)
{
	const struct share *share;

	(void)env;
	if (atomic_load_explicit(&lost_count, memory_order_relaxed) == 0)
		return false;
	share = share_at((uintptr_t)address);
	ASSERT(share != NULL);
	return atomic_load_explicit(&share->is_lost, memory_order_relaxed);
}

/* --- make --- */

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int posix_share_make(struct env *env, size_t size, int *fd_out, void **base_out)
{
	int fd = memfd_create("ctxkv", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	rc = posix_share_map(env, fd, 0, size, base_out);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	memset(*base_out, 0, size);
	*fd_out = fd;
	return 0;
}

bool posix_share_is_fixed(struct env *env, int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	(void)env;
	return seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
}

int posix_process_fd(struct env *env)
{
	long fd = syscall(SYS_pidfd_open, getpid(), 0);

	(void)env;
	return fd < 0 ? -errno : (int)fd;
}
