/* SPDX-License-Identifier: Apache-2.0 */
#include "env_fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A handle. */
struct env_blk {
	struct env_fake_disk *disk;
	bool is_exclusive;
};

/* An env_io in flight. */
struct pending {
	struct list node;
	struct env_io *io;
	uint64_t stamp; /* of its submission: a flush covers what was complete then */
};

static const struct env_ops fake_ops;

static struct env_fake *fake_of(struct env *env)
{
	ASSERT(env->ops->name == fake_ops.name); /* some may be a test's own */
	return CONTAINER_OF(env, struct env_fake, env);
}

/* splitmix64 */
static uint64_t draw(struct env_fake *fake)
{
	uint64_t z = fake->seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* Count a fallible call; true when it is to fail. */
static bool is_failing(struct env_fake *fake)
{
	fake->calls++;
	return fake->fail_at != 0 && fake->calls >= fake->fail_at &&
	       fake->calls - fake->fail_at < MAX(fake->fail_count, 1);
}

static int fail_rc(const struct env_fake *fake)
{
	return fake->fail_rc != 0 && !fake->is_cut ? fake->fail_rc : -EIO;
}

/* --- memory --- */

static void *take(struct env_fake *fake, size_t align, size_t size, int fill)
{
	void *ptr = NULL;

	ASSERT(size > 0);
	if (is_failing(fake) || posix_memalign(&ptr, align, size) != 0)
		return NULL;
	memset(ptr, fill, size);
	fake->held++;
	fake->taken += size;
	return ptr;
}

static void give(struct env_fake *fake, void *ptr)
{
	if (ptr == NULL)
		return;
	ASSERT(fake->held > 0);
	fake->held--;
	free(ptr);
}

static void *fake_alloc(struct env *env, size_t size)
{
	struct env_fake *fake = fake_of(env);

	ASSERT(!fake->is_sealed);
	return take(fake, 64, size, 0);
}

static void fake_free(struct env *env, void *ptr)
{
	give(fake_of(env), ptr);
}

/* Not zeroed: env.h does not promise it. */
static void *fake_map(struct env *env, size_t size)
{
	struct env_fake *fake = fake_of(env);

	ASSERT(!fake->is_sealed);
	return take(fake, PAGE_SIZE, size, 0xa5);
}

static void fake_unmap(struct env *env, void *ptr, size_t size)
{
	ASSERT(size > 0);
	give(fake_of(env), ptr);
}

static void fake_seal(struct env *env)
{
	fake_of(env)->is_sealed = true;
}

/* --- clock and chance --- */

static uint64_t fake_now_ns(struct env *env)
{
	return fake_of(env)->now_ns;
}

static uint64_t fake_wall_s(struct env *env)
{
	struct env_fake *fake = fake_of(env);

	return fake->wall_s + fake->now_ns / NS_PER_S;
}

static void fake_random(struct env *env, void *bytes, size_t size)
{
	struct env_fake *fake = fake_of(env);
	uint8_t *out = bytes;

	for (size_t i = 0; i < size; i++)
		out[i] = (uint8_t)draw(fake);
}

/* --- disks --- */

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE_SIZE - 1) == 0;
}

static void page_read(const struct env_fake_disk *disk, uint64_t page, uint8_t *out)
{
	ASSERT(page < disk->page_count);
	if (disk->pages[page] == NULL)
		memset(out, 0, PAGE_SIZE);
	else
		memcpy(out, disk->pages[page], PAGE_SIZE);
}

uint8_t *env_fake_page(struct env_fake_disk *disk, uint64_t page)
{
	ASSERT(page < disk->page_count);
	if (disk->pages[page] == NULL)
		disk->pages[page] = calloc(1, PAGE_SIZE);
	ASSERT(disk->pages[page] != NULL);
	return disk->pages[page];
}

/* size: of the page that is written, less when it is torn. */
static void page_write(struct env_fake *fake, struct env_fake_disk *disk, uint64_t page,
		       const uint8_t *bytes, uint64_t size)
{
	if (disk->durable[page] == NULL) {
		if (disk->pages[page] == NULL && is_zero(bytes))
			return; /* writing a file once stays sparse */
		disk->durable[page] = malloc(PAGE_SIZE);
		ASSERT(disk->durable[page] != NULL);
		page_read(disk, page, disk->durable[page]);
	}
	disk->stamps[page] = ++fake->stamp;
	memcpy(env_fake_page(disk, page), bytes, MIN(size, PAGE_SIZE));
}

static void page_settle(struct env_fake_disk *disk, uint64_t page)
{
	free(disk->durable[page]);
	disk->durable[page] = NULL;
}

static void disk_flush(struct env_fake *fake, struct env_fake_disk *disk, uint64_t stamp)
{
	for (uint64_t page = 0; page < disk->page_count; page++) {
		if (disk->durable[page] != NULL && disk->stamps[page] <= stamp)
			page_settle(disk, page);
	}
	fake->flushes++;
}

static void disk_resize(struct env_fake_disk *disk, uint64_t size)
{
	uint64_t count = round_up(size, PAGE_SIZE) / PAGE_SIZE;
	uint8_t **pages = calloc(count + 1, sizeof(*pages));
	uint8_t **durable = calloc(count + 1, sizeof(*durable));
	uint64_t *stamps = calloc(count + 1, sizeof(*stamps));

	ASSERT(pages != NULL && durable != NULL && stamps != NULL);
	for (uint64_t page = 0; page < disk->page_count; page++) {
		if (page < count) {
			pages[page] = disk->pages[page];
			durable[page] = disk->durable[page];
			stamps[page] = disk->stamps[page];
		} else {
			free(disk->pages[page]);
			free(disk->durable[page]);
		}
	}
	free(disk->pages);
	free(disk->durable);
	free(disk->stamps);
	disk->pages = pages;
	disk->durable = durable;
	disk->stamps = stamps;
	disk->page_count = count;
	disk->size = size;
}

static struct env_fake_disk *disk_find(struct env_fake *fake, const char *path)
{
	for (uint32_t i = 0; i < ENV_FAKE_DISKS; i++) {
		if (strcmp(fake->disks[i].path, path) == 0)
			return &fake->disks[i];
	}
	return NULL;
}

struct env_fake_disk *env_fake_disk(struct env_fake *fake, const char *path, uint64_t size)
{
	struct env_fake_disk *disk = disk_find(fake, path);

	if (disk != NULL)
		return disk;
	disk = disk_find(fake, "");
	ASSERT(disk != NULL);
	ASSERT(strlen(path) < sizeof(disk->path));
	strcpy(disk->path, path);
	disk_resize(disk, size);
	return disk;
}

void env_fake_peek(struct env_fake_disk *disk, void *buf, size_t size, uint64_t offset)
{
	uint8_t *out = buf;

	for (size_t i = 0; i < size; i++)
		out[i] = env_fake_page(disk, (offset + i) / PAGE_SIZE)[(offset + i) % PAGE_SIZE];
}

void env_fake_poke(struct env_fake_disk *disk, const void *buf, size_t size, uint64_t offset)
{
	const uint8_t *in = buf;

	for (size_t i = 0; i < size; i++)
		env_fake_page(disk, (offset + i) / PAGE_SIZE)[(offset + i) % PAGE_SIZE] = in[i];
}

/* --- block calls --- */

static int fake_blk_open(struct env *env, const char *path, uint32_t flags,
			 struct env_blk **blk_out)
{
	struct env_fake *fake = fake_of(env);
	struct env_fake_disk *disk = disk_find(fake, path);
	bool is_exclusive = (flags & (ENV_BLK_READ_ONLY | ENV_BLK_SHARED)) == 0;
	struct env_blk *blk;

	if (is_failing(fake) || fake->is_cut)
		return fail_rc(fake);
	if (disk == NULL && (flags & ENV_BLK_CREATE) == 0)
		return -ENOENT;
	if (disk == NULL)
		disk = env_fake_disk(fake, path, 0);
	if (is_exclusive && disk->is_open)
		return -ERR_IN_USE;
	blk = malloc(sizeof(*blk));
	ASSERT(blk != NULL);
	*blk = (struct env_blk) { .disk = disk, .is_exclusive = is_exclusive };
	disk->is_open |= is_exclusive;
	fake->held++;
	*blk_out = blk;
	return 0;
}

static void fake_blk_close(struct env *env, struct env_blk *blk)
{
	struct env_fake *fake = fake_of(env);

	list_for_each (node, &fake->ios)
		ASSERT(list_entry(node, struct pending, node)->io->blk != blk);
	if (blk->is_exclusive)
		blk->disk->is_open = false;
	give(fake, blk);
}

static void fake_blk_info(struct env *env, struct env_blk *blk, struct env_blk_info *info_out)
{
	*info_out = (struct env_blk_info) { .size = blk->disk->size,
					    .is_device = blk->disk->is_device,
					    .is_direct = true,
					    .discards = 1 };
}

static int fake_blk_resize(struct env *env, struct env_blk *blk, uint64_t size, bool is_sparse)
{
	struct env_fake *fake = fake_of(env);

	ASSERT(!blk->disk->is_device);
	if (is_failing(fake) || fake->is_cut)
		return fail_rc(fake);
	disk_resize(blk->disk, size);
	return 0;
}

static void check_range(const struct env_blk *blk, const void *buf, size_t size, uint64_t offset)
{
	ASSERT((uintptr_t)buf % PAGE_SIZE == 0);
	ASSERT(size > 0 && size % PAGE_SIZE == 0);
	ASSERT(offset % PAGE_SIZE == 0);
	ASSERT(offset <= blk->disk->size && size <= blk->disk->size - offset);
}

/* Bytes of this write that reach the disk. */
static uint64_t count_write(struct env_fake *fake, uint64_t size)
{
	if (fake->is_cut)
		return 0;
	if (++fake->writes != fake->cut_at)
		return size;
	fake->is_cut = true;
	return MIN(fake->cut_size, size);
}

static int fake_blk_read(struct env *env, struct env_blk *blk, void *buf, size_t size,
			 uint64_t offset)
{
	struct env_fake *fake = fake_of(env);

	check_range(blk, buf, size, offset);
	if (is_failing(fake) || fake->is_cut)
		return fail_rc(fake);
	for (size_t i = 0; i < size; i += PAGE_SIZE)
		page_read(blk->disk, (offset + i) / PAGE_SIZE, (uint8_t *)buf + i);
	return 0;
}

static int fake_blk_write(struct env *env, struct env_blk *blk, const void *buf, size_t size,
			  uint64_t offset)
{
	struct env_fake *fake = fake_of(env);
	uint64_t whole;

	check_range(blk, buf, size, offset);
	if (is_failing(fake))
		return fail_rc(fake);
	whole = count_write(fake, size);
	for (uint64_t at = 0; at < whole; at += PAGE_SIZE)
		page_write(fake, blk->disk, (offset + at) / PAGE_SIZE, (const uint8_t *)buf + at,
			   whole - at);
	return fake->is_cut ? -EIO : 0;
}

static int fake_blk_flush(struct env *env, struct env_blk *blk)
{
	struct env_fake *fake = fake_of(env);

	if (is_failing(fake) || fake->is_cut)
		return fail_rc(fake);
	disk_flush(fake, blk->disk, fake->stamp);
	return 0;
}

static void fake_blk_submit(struct env *env, struct env_io *io)
{
	struct env_fake *fake = fake_of(env);
	struct pending *pending = malloc(sizeof(*pending));
	uint64_t size = 0;

	ASSERT(pending != NULL);
	ASSERT(io->done != NULL);
	ASSERT(io->iov_count <= ENV_IOV_MAX);
	for (uint32_t i = 0; i < io->iov_count; i++) {
		check_range(io->blk, io->iov[i].iov_base, io->iov[i].iov_len, io->offset + size);
		size += io->iov[i].iov_len;
	}
	if (io->kind == ENV_READ || io->kind == ENV_WRITE)
		ASSERT(size == io->size && size > 0);
	pending->io = io;
	pending->stamp = fake->stamp;
	list_add_tail(&fake->ios, &pending->node);
}

/* Move the first size bytes of a read or write. */
static void io_apply(struct env_fake *fake, struct env_io *io, uint64_t size)
{
	uint64_t page = io->offset / PAGE_SIZE;
	uint64_t done = 0;

	for (uint32_t i = 0; i < io->iov_count; i++) {
		uint8_t *bytes = io->iov[i].iov_base;

		for (size_t at = 0; at < io->iov[i].iov_len && done < size; at += PAGE_SIZE) {
			if (io->kind == ENV_READ)
				page_read(io->blk->disk, page++, bytes + at);
			else
				page_write(fake, io->blk->disk, page++, bytes + at, size - done);
			done += PAGE_SIZE;
		}
	}
}

static int64_t io_run(struct env_fake *fake, const struct pending *pending)
{
	struct env_io *io = pending->io;

	if (is_failing(fake) || (fake->is_cut && io->kind != ENV_WRITE))
		return fail_rc(fake);
	switch (io->kind) {
	case ENV_READ:
		io_apply(fake, io, io->size);
		break;
	case ENV_WRITE:
		io_apply(fake, io, count_write(fake, io->size));
		break;
	case ENV_FLUSH:
		disk_flush(fake, io->blk->disk, pending->stamp);
		break;
	case ENV_DISCARD:
		break; /* a discarded page may keep what it had */
	}
	return fake->is_cut ? -EIO : (int64_t)io->size;
}

static struct pending *ios_take(struct env_fake *fake, struct list *ios, uint64_t count)
{
	struct list *node = ios->next;

	for (uint64_t skip = fake->is_shuffled ? draw(fake) % count : 0; skip > 0; skip--)
		node = node->next;
	list_del(node);
	return list_entry(node, struct pending, node);
}

/* Complete what was submitted before this call. */
static bool run_ios(struct env_fake *fake)
{
	struct list ios;
	uint64_t count = 0;

	list_init(&ios);
	list_splice_tail(&ios, &fake->ios);
	list_for_each (node, &ios)
		count++;
	if (count == 0)
		return false;
	for (; count > 0; count--) {
		struct pending *pending = ios_take(fake, &ios, count);
		struct env_io *io = pending->io;

		io->result = io_run(fake, pending);
		free(pending);
		io->done(io);
	}
	return true;
}

/* --- loop --- */

static bool run_tasks(struct env_fake *fake)
{
	struct list tasks;
	bool has_run = false;

	list_init(&tasks);
	list_splice_tail(&tasks, &fake->tasks);
	while (!list_is_empty(&tasks)) {
		struct env_task *task = list_head(&tasks, struct env_task, node);

		list_del(&task->node);
		task->is_queued = false;
		task->run(task);
		has_run = true;
	}
	return has_run;
}

static bool run_timers(struct env_fake *fake)
{
	bool has_run = false;
	struct env_timer *timer;

	while ((timer = timers_take_due(&fake->timers, fake->now_ns)) != NULL) {
		timer->fire(timer);
		has_run = true;
	}
	return has_run;
}

static int fake_poll(struct env *env, uint64_t timeout_ns)
{
	struct env_fake *fake = fake_of(env);
	bool has_run = run_tasks(fake);
	uint64_t next_ns;

	if (fake->is_woken && fake->wake_task != NULL) {
		fake->is_woken = false;
		fake->wake_task->run(fake->wake_task);
		has_run = true;
	}
	has_run |= run_ios(fake);
	has_run |= run_timers(fake);
	if (has_run || timeout_ns == 0)
		return 0;
	next_ns = timers_next_ns(&fake->timers);
	if (timeout_ns < ENV_FOREVER - fake->now_ns)
		next_ns = MIN(next_ns, fake->now_ns + timeout_ns);
	ASSERT(next_ns != ENV_FOREVER); /* nothing would ever happen */
	fake->now_ns = MAX(fake->now_ns, next_ns);
	(void)run_timers(fake); /* none may be due yet */
	return 0;
}

static void fake_wake(struct env *env)
{
	fake_of(env)->is_woken = true;
}

static void fake_on_wake(struct env *env, struct env_task *task)
{
	fake_of(env)->wake_task = task;
}

static void fake_timer_set(struct env *env, struct env_timer *timer, uint64_t when_ns)
{
	timers_set(&fake_of(env)->timers, timer, when_ns);
}

static void fake_timer_clear(struct env *env, struct env_timer *timer)
{
	timers_clear(&fake_of(env)->timers, timer);
}

static void fake_defer(struct env *env, struct env_task *task)
{
	if (task->is_queued)
		return;
	task->is_queued = true;
	list_add_tail(&fake_of(env)->tasks, &task->node);
}

static void fake_undefer(struct env *env, struct env_task *task)
{
	if (!task->is_queued)
		return;
	task->is_queued = false;
	list_del(&task->node);
}

static void fake_blk_declare(struct env *env, void *base, size_t size)
{
}

static void fake_blk_undeclare(struct env *env, void *base)
{
}

static void fake_resolve(struct env *env, struct env_resolve *resolve)
{
	struct env_fake *fake = fake_of(env);

	ASSERT(fake->resolve == NULL);
	fake->resolve = resolve;
}

static const struct env_ops fake_ops = {
	.name = "fake",
	.alloc = fake_alloc,
	.free = fake_free,
	.map = fake_map,
	.unmap = fake_unmap,
	.seal = fake_seal,
	.now_ns = fake_now_ns,
	.wall_s = fake_wall_s,
	.random = fake_random,
	.poll = fake_poll,
	.wake = fake_wake,
	.on_wake = fake_on_wake,
	.timer_set = fake_timer_set,
	.timer_clear = fake_timer_clear,
	.defer = fake_defer,
	.undefer = fake_undefer,
	.blk_open = fake_blk_open,
	.blk_close = fake_blk_close,
	.blk_info = fake_blk_info,
	.blk_resize = fake_blk_resize,
	.blk_read = fake_blk_read,
	.blk_write = fake_blk_write,
	.blk_flush = fake_blk_flush,
	.blk_submit = fake_blk_submit,
	.blk_declare = fake_blk_declare,
	.blk_undeclare = fake_blk_undeclare,
	.resolve = fake_resolve,
};

/* --- the test's side --- */

void env_fake_init(struct env_fake *fake, uint64_t seed)
{
	*fake = (struct env_fake) {
		.env.ops = &fake_ops, .seed = seed, .now_ns = NS_PER_S, .wall_s = 1700000000
	};
	list_init(&fake->tasks);
	list_init(&fake->ios);
}

void env_fake_answer(struct env_fake *fake, const char *const *addresses, uint32_t count)
{
	struct env_resolve *resolve = fake->resolve;

	ASSERT(resolve != NULL);
	ASSERT(count <= ENV_ADDRESS_MAX);
	fake->resolve = NULL;
	resolve->result = count == 0 ? -EHOSTUNREACH : 0;
	resolve->count = count;
	for (uint32_t i = 0; i < count; i++)
		snprintf(resolve->addresses[i], sizeof(resolve->addresses[i]), "%s", addresses[i]);
	resolve->done(resolve);
	env_fake_settle(fake);
}

void env_fake_fini(struct env_fake *fake)
{
	ASSERT(list_is_empty(&fake->ios));
	for (uint32_t i = 0; i < ENV_FAKE_DISKS; i++) {
		disk_resize(&fake->disks[i], 0);
		free(fake->disks[i].pages);
		free(fake->disks[i].durable);
		free(fake->disks[i].stamps);
	}
}

void env_fake_power_cut(struct env_fake *fake)
{
	while (!list_is_empty(&fake->ios)) {
		struct pending *pending = list_head(&fake->ios, struct pending, node);
		struct env_io *io = pending->io;

		list_del(&pending->node);
		if (io->kind == ENV_WRITE && !fake->is_cut)
			io_apply(fake, io, draw(fake) % (io->size / 512 + 1) * 512);
		free(pending);
	}
	for (uint32_t i = 0; i < ENV_FAKE_DISKS; i++) {
		struct env_fake_disk *disk = &fake->disks[i];

		for (uint64_t page = 0; page < disk->page_count; page++) {
			if (disk->durable[page] == NULL)
				continue;
			if (draw(fake) % 2 == 0)
				memcpy(disk->pages[page], disk->durable[page], PAGE_SIZE);
			page_settle(disk, page);
		}
	}
	fake->timers = (struct timers) { .root = NULL };
	list_init(&fake->tasks);
	fake->wake_task = NULL;
	fake->is_cut = false;
	fake->cut_at = 0;
	fake->is_sealed = false;
}

void env_fake_settle(struct env_fake *fake)
{
	while (!list_is_empty(&fake->ios) || !list_is_empty(&fake->tasks))
		(void)fake_poll(&fake->env, 0); /* always 0 */
}
