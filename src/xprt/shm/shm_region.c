/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regions: the client's memory, mapped by the server.
 *
 * Normal path. The client finds the descriptor of its memory (env) and sends it with a REGION note,
 * then the user sends DECLARE. The note is handled when it is received: the memory is mapped and
 * the descriptor closed; it waits in the lane's table. region_add() finds it there; when DECLARE
 * was faster it receives what the socket has, where the note is, as it was sent before. UNDECLARE
 * takes the region away.
 *
 * Holds. map() holds the mapping, unmap() lets go. A mapping that was held is declared to env: the
 * drive will come again, and env may prepare its pages for that (and pin them, until it goes). A
 * region that goes takes its mapping along when nobody holds it, else the last unmap() does. A lane
 * with holds says END when there are none left.
 *
 * Failure. What is no memory ends the lane when it comes; memory that is too small ends the
 * session: region_add() refuses. No place in the process's table of mappings, or more bytes than
 * the server maps: -ERR_BUSY; and the sessions of one owner (tenant) leave a quarter of both to
 * others. A client that takes memory away while it is used: env puts zeros there, whoever used it
 * is told -ERR_PEER, and the region is nobody's from then on: its mapping goes, and no move touches
 * it again, as what is touched would be the server's memory. Its row stays until UNDECLARE.
 */
#include "shm.h"

#include "../../base/log.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define PASS_PAUSE_NS (10 * NS_PER_MS)

/* --- client --- */

void shm_declare_again(struct env_timer *timer)
{
	struct shm_lane *lane = CONTAINER_OF(timer, struct shm_client, pass_timer)->lane;

	shm_lane_enter(lane);
	if (shm_lane_is_open(lane))
		lane->lane.user->writable(&lane->lane);
	shm_lane_leave(lane);
}

/*
 * The note did not go. The socket tells when it has room; that fewer descriptors are under way on
 * this host (-ETOOMANYREFS) nobody tells. Others: the lane is about to end.
 */
static void declare_later(struct shm_lane *lane, int rc)
{
	struct env *env = lane->lane.env;

	if (rc == -EAGAIN) {
		lane->is_room_due = true;
		shm_lane_watch(lane);
	} else {
		env->ops->timer_set(env, &lane->client->pass_timer,
				    env_now_ns(env) + PASS_PAUSE_NS);
	}
}

int shm_declare(struct xprt_lane *xprt_lane, struct xprt_region *region)
{
	struct shm_lane *lane = shm_of(xprt_lane);
	struct env *env = xprt_lane->env;
	struct shm_note note = {
		.kind = SHM_NOTE_REGION,
		.value = region->id,
		.size = region->size,
	};
	int fd;
	int rc = env->ops->share_find(env, region->base, region->size, &fd, &note.offset);

	if (rc == -ENOENT)
		return -EOPNOTSUPP;
	if (rc < 0)
		return rc;
	rc = shm_note_send(lane, &note, fd);
	close(fd);
	if (rc < 0) {
		declare_later(lane, rc);
		return -EAGAIN;
	}
	lane->client->has_regions = true;
	region->declare = (struct wire_declare) {
		.region = region->id,
		.kind = WIRE_REGION_SHM,
		.access = SHM_WRITE | SHM_READ,
		.size = region->size,
		.address = note.offset,
	};
	return 0;
}

void shm_undeclare(struct xprt_lane *lane, struct xprt_region *region)
{
}

/* --- mappings --- */

/* The pages around it, which are mapped with it. */
static void *mapping_pages(const struct shm_mapping *mapping, size_t *size_out)
{
	uintptr_t begin = round_down((uintptr_t)mapping->base, PAGE_SIZE);

	*size_out = round_up((uintptr_t)mapping->base + mapping->size, PAGE_SIZE) - begin;
	return (void *)begin;
}

static void mapping_declare(struct shm_mapping *mapping)
{
	struct env *env = mapping->lane->lane.env;
	size_t size;
	void *pages = mapping_pages(mapping, &size);

	if (mapping->is_declared)
		return;
	env->ops->blk_declare(env, pages, size);
	mapping->is_declared = true;
}

static void mapping_free(struct shm_listener *listener, struct shm_mapping *mapping)
{
	struct env *env = listener->door.listener.env;
	size_t size;

	ASSERT(mapping->hold_count == 0);
	if (mapping->is_declared)
		env->ops->blk_undeclare(env, mapping_pages(mapping, &size));
	env->ops->share_unmap(env, mapping->base);
	ASSERT(mapping->lane->mapping_count > 0);
	mapping->lane->mapping_count--;
	mapping->lane->mapped_size -= mapping->size;
	listener->mapping_count--;
	listener->mapped_size -= mapping->size;
	*mapping = (struct shm_mapping) { 0 };
	list_add_head(&listener->mappings_free, &mapping->node);
}

/* Whether so much more leaves others theirs. */
static bool has_room(const struct shm_lane *lane, uint64_t size)
{
	const struct shm_listener *listener = lane->listener;
	uint64_t bytes_max = lane->lane.env->ops->share_max(lane->lane.env);
	uint32_t count_max = listener->mapping_max;
	uint64_t bytes = size;
	uint32_t count = 1;

	if (bytes_max == 0)
		bytes_max = UINT64_MAX / 2;
	if (size > bytes_max || listener->mapped_size > bytes_max - size)
		return false;
	list_for_each (node, &listener->door.known) {
		const struct shm_lane *other = list_entry(node, struct shm_lane, door.node);

		if (other->owner != lane->owner)
			continue;
		bytes += other->mapped_size;
		count += other->mapping_count;
	}
	return count <= count_max - count_max / SHM_OWNER_SHARE &&
	       bytes <= bytes_max - bytes_max / SHM_OWNER_SHARE;
}

/* A client may ask as often as it likes. */
static void room_tell(struct shm_lane *lane, uint64_t size)
{
	if (!lane->is_refused)
		log_warn("region of %" PRIu64 " bytes of a client of %s is not mapped: it has its "
			 "share, or the server all that it maps (shm-memory-max)",
			 size, lane->listener->door.address);
	lane->is_refused = true;
}

static int mapping_make(struct shm_lane *lane, int fd, const struct shm_note *note,
			struct shm_mapping **mapping_out)
{
	struct shm_listener *listener = lane->listener;
	struct env *env = lane->lane.env;
	struct shm_mapping *mapping = list_head(&listener->mappings_free, struct shm_mapping, node);
	void *base;
	int rc;

	if (mapping == NULL)
		return -ENOSPC;
	if (note->size > SIZE_MAX / 2)
		return -EINVAL;
	lane->owner = lane->lane.group->owner; /* also of mappings that outlive the session */
	if (!has_room(lane, note->size)) {
		room_tell(lane, note->size);
		return -ENOSPC;
	}
	rc = env->ops->share_map(env, fd, note->offset, note->size, &base);
	if (rc < 0)
		return rc;
	list_del(&mapping->node);
	*mapping = (struct shm_mapping) {
		.lane = lane, .region = note->value, .base = base, .size = note->size
	};
	list_init(&mapping->node);
	lane->mapping_count++;
	lane->mapped_size += note->size;
	listener->mapping_count++;
	listener->mapped_size += note->size;
	*mapping_out = mapping;
	return 0;
}

/* It is no region's any more. */
static void mapping_drop(struct shm_lane *lane, struct shm_mapping *mapping)
{
	if (mapping == NULL)
		return;
	mapping->is_gone = true;
	if (mapping->hold_count == 0)
		mapping_free(lane->listener, mapping);
}

/* --- a lane's table --- */

static struct shm_region *region_find(struct shm_regions *regions, uint32_t id)
{
	uint32_t last = regions->last;

	if (last < regions->count && regions->ids[last] == id)
		return &regions->rows[last];
	for (uint32_t i = 0; i < regions->count; i++) {
		if (regions->ids[i] == id) {
			regions->last = i;
			return &regions->rows[i];
		}
	}
	return NULL;
}

static void region_drop(struct shm_lane *lane, struct shm_region *region)
{
	struct shm_regions *regions = shm_regions_of(lane);
	uint32_t index = (uint32_t)(region - regions->rows);

	mapping_drop(lane, region->mapping);
	regions->count--;
	regions->ids[index] = regions->ids[regions->count];
	regions->rows[index] = regions->rows[regions->count];
}

void shm_regions_drop(struct shm_lane *lane)
{
	struct shm_regions *regions = shm_regions_of(lane);

	while (regions->count > 0)
		region_drop(lane, &regions->rows[0]);
}

void shm_region_noted(struct shm_lane *lane, const struct shm_note *note, int fd)
{
	struct shm_regions *regions = shm_regions_of(lane);
	struct shm_region *region = region_find(regions, note->value);

	if (note->value == 0 || (region != NULL && region->access != 0)) {
		shm_lane_fault(lane, "noted a region twice");
		return;
	}
	if (region != NULL) /* its DECLARE did not come: it was tried again */
		region_drop(lane, region);
	if (regions->count == SHM_REGION_MAX) {
		shm_lane_fault(lane, "noted more regions than a session may have");
		return;
	}
	region = &regions->rows[regions->count];
	*region = (struct shm_region) { .offset = note->offset, .size = note->size };
	region->rc = mapping_make(lane, fd, note, &region->mapping);
	regions->ids[regions->count++] = note->value;
}

/* The region of a session, and the lane that has it. */
static struct shm_region *group_find(const struct xprt_group *group, uint32_t id,
				     struct shm_lane **lane_out)
{
	for (uint32_t i = 0; i < group->lane_count; i++) {
		struct shm_region *region;

		if (group->lanes[i] == NULL)
			continue;
		*lane_out = shm_of(group->lanes[i]);
		region = region_find(shm_regions_of(*lane_out), id);
		if (region != NULL)
			return region;
	}
	return NULL;
}

/* --- server --- */

/* As DECLARE says it, of what was noted. */
static int region_check(const struct shm_region *region, const struct wire_declare *declare)
{
	if (region->access != 0 || region->offset != declare->address ||
	    region->size != declare->size)
		return -ERR_PROTOCOL;
	if (region->rc == -ENOSPC)
		return -ERR_BUSY;
	return region->rc < 0 ? -ERR_PROTOCOL : 0;
}

int shm_region_add(struct xprt_group *group, const struct wire_declare *declare)
{
	struct shm_lane *lane = NULL;
	struct shm_region *region;
	int rc;

	if (declare->kind != WIRE_REGION_SHM || (declare->access & ~(SHM_WRITE | SHM_READ)) != 0 ||
	    declare->access == 0)
		return -ERR_PROTOCOL;
	region = group_find(group, declare->region, &lane);
	for (uint32_t i = 0; i < group->lane_count && region == NULL; i++) {
		if (group->lanes[i] == NULL)
			continue;
		shm_notes_receive(shm_of(group->lanes[i]));
		region = group_find(group, declare->region, &lane);
	}
	if (region == NULL)
		return -ERR_PROTOCOL;
	rc = region_check(region, declare);
	if (rc == 0)
		region->access = declare->access;
	else if (region->access == 0)
		region_drop(lane, region);
	return rc;
}

int shm_region_remove(struct xprt_group *group, uint32_t id)
{
	struct shm_lane *lane = NULL;
	struct shm_region *region = group_find(group, id, &lane);

	if (region == NULL || region->access == 0)
		return -ERR_PROTOCOL;
	region_drop(lane, region);
	return 0;
}

/* The client took it away: no move touches it any more, and the mapping goes. */
static void mapping_lose(struct shm_mapping *mapping)
{
	struct shm_region *region = region_find(shm_regions_of(mapping->lane), mapping->region);

	if (mapping->is_gone || region == NULL || region->mapping != mapping)
		return;
	log_warn("region %u of a client of %s was cut: it is not used any more", mapping->region,
		 mapping->lane->listener->door.address);
	region->mapping = NULL;
	region->rc = -ERR_PEER;
	mapping_drop(mapping->lane, mapping);
}

/* The mapping may be gone behind that. */
bool shm_mapping_is_lost(struct shm_mapping *mapping)
{
	struct env *env = mapping->lane->lane.env;

	if (!env->ops->share_is_lost(env, mapping->base))
		return false;
	mapping_lose(mapping);
	return true;
}

int shm_seg_memory(const struct xprt_group *group, const struct wire_seg *seg, uint16_t access,
		   uint8_t **memory_out, struct shm_mapping **mapping_out)
{
	struct shm_lane *lane = NULL;
	const struct shm_region *region = group_find(group, seg->region, &lane);

	if (region == NULL || (region->access & access) != access)
		return -ERR_PROTOCOL;
	if (seg->offset > region->size || seg->size > region->size - seg->offset)
		return -ERR_PROTOCOL;
	if (region->mapping == NULL || shm_mapping_is_lost(region->mapping))
		return -ERR_PEER;
	*mapping_out = region->mapping;
	*memory_out = region->mapping->base + seg->offset;
	return 0;
}

/* --- holds --- */

/* Before the kernel may move into this client's memory the client is told, for its fence. */
static int lane_say_direct(struct shm_lane *lane)
{
	const struct shm_note note = { .kind = SHM_NOTE_DIRECT, .value = SHM_IO_TIMEOUT_MS };
	int rc;

	if (lane->is_direct)
		return 0;
	rc = shm_note_send(lane, &note, -1);
	lane->is_direct = rc == 0;
	return rc;
}

int shm_map(struct xprt_group *group, const struct wire_seg *segs, uint32_t seg_count,
	    struct iovec *iov_out, void **hold_out)
{
	struct shm_mapping *mapping = NULL;

	ASSERT(seg_count > 0);
	for (uint32_t i = 0; i < seg_count; i++) {
		uint8_t *memory;
		int rc;

		if (segs[i].region != segs[0].region)
			return -EOPNOTSUPP;
		rc = shm_seg_memory(group, &segs[i], SHM_WRITE | SHM_READ, &memory, &mapping);
		if (rc < 0)
			return rc;
		iov_out[i] = (struct iovec) { memory, segs[i].size };
	}
	if (lane_say_direct(mapping->lane) < 0)
		return -EOPNOTSUPP;
	mapping_declare(mapping);
	mapping->hold_count++;
	mapping->lane->hold_count++;
	*hold_out = mapping;
	return 0;
}

int shm_unmap(void **hold)
{
	struct shm_mapping *mapping = *hold;
	struct shm_lane *lane = mapping->lane;
	bool is_lost = shm_mapping_is_lost(mapping);

	ASSERT(mapping->hold_count > 0);
	ASSERT(lane->hold_count > 0);
	*hold = NULL;
	mapping->hold_count--;
	if (mapping->hold_count == 0 && mapping->is_gone)
		mapping_free(lane->listener, mapping);
	lane->hold_count--;
	if (lane->hold_count == 0)
		shm_lane_unheld(lane);
	return is_lost ? -ERR_PEER : 0;
}
