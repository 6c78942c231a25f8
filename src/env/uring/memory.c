/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <string.h>
#include <sys/mman.h>

#include "../../base/log.h"
#include "../../base/text.h"
#include "../posix/posix_priv.h"

#define FAULT_SIZE (64 * KiB) /* what a fault maps: the kernel's fault_around_bytes */

static void memory_tell(struct ring_memory *memory, int rc)
{
	if (memory->is_told)
		return;
	memory->is_told = true;
	if (rc == -ENOMEM)
		log_warn(
			"io_uring cannot hold buffers ready, RLIMIT_MEMLOCK is too small: each I/O "
			"costs more; raise it (LimitMEMLOCK=infinity, --ulimit memlock=-1)");
	else
		log_info("io_uring cannot hold buffers ready: %s", err_str(rc));
}

static int slot_set(struct ring_memory *memory, uint32_t slot, char *base, size_t size)
{
	const struct iovec iov = { base, size };
	const __u64 tag = 0;
	int rc = io_uring_register_buffers_update_tag(memory->ring, slot, &iov, &tag, 1);

	return MIN(rc, 0);
}

/* The first buffer behind address. */
static uint32_t buffer_behind(const struct ring_memory *memory, const char *address)
{
	uint32_t low = 0;
	uint32_t high = memory->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (memory->buffers[middle].base <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int buffer_add(struct ring_memory *memory, const void *declared, char *base, size_t size)
{
	uint32_t index = buffer_behind(memory, base);
	uint32_t slot;
	int rc;

	if (memory->free_count == 0)
		return -ENOSPC;
	slot = memory->free_slots[memory->free_count - 1];
	rc = slot_set(memory, slot, base, size);
	if (rc < 0)
		return rc;
	memory->free_count--;
	memmove(&memory->buffers[index + 1], &memory->buffers[index],
		(memory->count - index) * sizeof(memory->buffers[0]));
	memory->buffers[index] = (struct ring_buffer) { base, size, declared, slot };
	memory->count++;
	return 0;
}

/* --- piece by piece --- */

static bool is_resident(struct ring_memory *memory, char *base, size_t size)
{
	if (mincore(base, size, memory->resident) < 0)
		return false;
	for (size_t i = 0; i < size / PAGE_SIZE; i++) {
		if ((memory->resident[i] & 1) == 0)
			return false;
	}
	return true;
}

/*
 * Its pages are there; mapped, too, they are registered without a fault for each. One of those that
 * a fault maps is asked for: what is asked for whole is walked page by page. Nothing is touched:
 * where its client has cut them meanwhile, zeros of ours would come in their place
 * (env/posix/share.c), and be registered. A kernel before 5.14 does not do it.
 */
static void pages_map(char *base, size_t size)
{
	for (size_t at = 0; at < size; at += FAULT_SIZE) {
		if (madvise(base + at, PAGE_SIZE, MADV_POPULATE_READ) < 0)
			return;
	}
}

static void later_remove(struct ring_memory *memory, uint32_t index)
{
	memory->later_count--;
	memmove(&memory->later[index], &memory->later[index + 1],
		(memory->later_count - index) * sizeof(memory->later[0]));
}

/* The next piece of the memory that has waited longest. */
static void later_next(struct ring_memory *memory)
{
	struct ring_later *later = &memory->later[0];
	char *piece = later->base + later->done;
	size_t size = MIN(later->size - later->done, MEMORY_PIECE);
	int rc = 0;

	ASSERT(memory->later_count > 0);
	if (later->is_there || is_resident(memory, piece, size)) {
		pages_map(piece, size);
		rc = buffer_add(memory, later->base, piece, size);
	}
	later->done += size;
	if (rc < 0 && rc != -EFAULT) {
		memory_tell(memory, rc);
		later->done = later->size;
	}
	if (later->done == later->size)
		later_remove(memory, 0);
}

static void gone_next(struct ring_memory *memory)
{
	for (uint32_t i = 0; i < MEMORY_GONE_TURN && memory->gone_count > 0; i++) {
		uint32_t slot = memory->gone_slots[--memory->gone_count];

		if (slot_set(memory, slot, NULL, 0) < 0)
			log_warn("io_uring does not let go of a buffer");
		memory->free_slots[memory->free_count++] = slot;
	}
}

static void memory_run(struct env_task *task)
{
	struct ring_memory *memory = CONTAINER_OF(task, struct ring_memory, task);

	if (memory->gone_count > 0)
		gone_next(memory);
	else if (memory->later_count > 0)
		later_next(memory);
	if (memory->gone_count > 0 || memory->later_count > 0)
		memory->env->ops->defer(memory->env, &memory->task);
}

static int later_add(struct ring_memory *memory, void *base, size_t size)
{
	if (memory->later_count == MEMORY_LATER_MAX)
		return -ENOSPC;
	memory->later[memory->later_count++] =
		(struct ring_later) { base, size, 0, posix_share_is_there(base) };
	memory->env->ops->defer(memory->env, &memory->task);
	return 0;
}

/* --- for the ring --- */

void memory_declare(struct ring_memory *memory, void *base, size_t size, bool is_ours)
{
	int rc = memory->is_possible ? 0 : -EOPNOTSUPP;

	ASSERT((uintptr_t)base % PAGE_SIZE == 0);
	ASSERT(size > 0);
	if (rc == 0 && !is_ours)
		rc = later_add(memory, base, size);
	for (size_t at = 0; is_ours && at < size && rc == 0; at += MEMORY_SIZE_MAX)
		rc = buffer_add(memory, base, (char *)base + at, MIN(size - at, MEMORY_SIZE_MAX));
	if (rc < 0)
		memory_tell(memory, rc);
}

void memory_undeclare(struct ring_memory *memory, const void *base)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < memory->later_count; i++) {
		if (memory->later[i].base == base) {
			later_remove(memory, i);
			break;
		}
	}
	for (uint32_t i = 0; i < memory->count; i++) {
		const struct ring_buffer *buffer = &memory->buffers[i];

		if (buffer->declared != base) {
			memory->buffers[kept++] = *buffer;
			continue;
		}
		memory->gone_slots[memory->gone_count++] = buffer->slot;
	}
	memory->count = kept;
	if (memory->gone_count > 0)
		memory->env->ops->defer(memory->env, &memory->task);
}

int memory_find(const struct ring_memory *memory, const struct iovec *piece)
{
	const char *base = piece->iov_base;
	uint32_t behind = buffer_behind(memory, base);
	const struct ring_buffer *buffer;

	if (behind == 0)
		return -1;
	buffer = &memory->buffers[behind - 1];
	if (piece->iov_len > buffer->size ||
	    (size_t)(base - buffer->base) > buffer->size - piece->iov_len)
		return -1;
	return (int)buffer->slot;
}

uint64_t memory_registered(const struct ring_memory *memory)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < memory->count; i++)
		sum += memory->buffers[i].size;
	return sum;
}

void memory_init(struct ring_memory *memory, struct env *env, struct io_uring *ring)
{
	memory->env = env;
	memory->ring = ring;
	memory->task.run = memory_run;
	memory->is_possible = io_uring_register_buffers_sparse(ring, MEMORY_SLOTS) == 0;
	for (uint32_t slot = MEMORY_SLOTS; slot > 0; slot--)
		memory->free_slots[memory->free_count++] = slot - 1;
}
