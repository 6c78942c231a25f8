/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The staging area: memory of the library that servers on this host reach, for items whose own
 * memory they do not. A get lands here and is copied to the caller, a put is copied in first.
 *
 * It is cut into chunks. An item takes as many as hold it, all at once or none (-EAGAIN), the
 * lowest that are free, so that no more of the area is touched than is used, in steps of STAGE_STEP
 * (client_opts.stage_prepare); neighbours are one segment. Any item fits into an empty area. Pure
 * but for the bytes it copies.
 */
#ifndef CLIENT_STAGE_H
#define CLIENT_STAGE_H

#include "../../include/ctxkv.h"
#include "../base/list.h"
#include "../wire/wire.h"

#define STAGE_CHUNK    (64 * KiB)
#define STAGE_STEP     (2 * MiB) /* by which it grows: a huge page */
#define STAGE_SIZE_MIN WIRE_BLOCK_MAX
#define STAGE_SIZE_MAX (4 * GiB)
#define STAGE_NONE     UINT32_MAX

/* A chunk's row; that of an item's first chunk is the item's slot. */
struct stage_slot {
	struct list node; /* its request's slots; its user's */
	uint32_t size;    /* bytes of the item */
	uint32_t next;    /* the item's next chunk; STAGE_NONE: none */
	bool is_taken;
};

struct stage {
	uint8_t *base; /* NULL: there is none */
	struct stage_slot *slots;
	uint32_t chunk_count;
	uint32_t free_count;
	uint32_t free_from; /* all chunks before it are taken */
};

/* base: size bytes, a multiple of STAGE_CHUNK. slots: zeroed, one for each chunk. */
void stage_init(struct stage *stage, void *base, uint64_t size, struct stage_slot *slots);

/* Room for size bytes in at most seg_max segments. -EAGAIN: not now. */
int stage_take(struct stage *stage, uint32_t size, uint32_t seg_max,
	       struct stage_slot **slot_out) MUST_USE;
void stage_give(struct stage *stage, struct stage_slot *slot);

/* Its segments, of that region. Returns how many: at most seg_max. */
uint32_t stage_segs(const struct stage *stage, const struct stage_slot *slot, uint32_t region,
		    struct wire_seg *segs);

/* Bytes offset … end - 1 of an item, between its pieces and its slot. */
void stage_copy_in(const struct stage *stage, const struct stage_slot *slot,
		   const struct ctxkv_item *item, uint64_t offset, uint64_t end);
void stage_copy_out(const struct stage *stage, const struct stage_slot *slot,
		    const struct ctxkv_item *item, uint64_t offset, uint64_t end);

static inline struct stage_slot *stage_slot_at(const struct stage *stage, uint32_t index)
{
	ASSERT(index < stage->chunk_count);
	ASSERT(stage->slots[index].is_taken);
	return &stage->slots[index];
}

static inline uint32_t stage_index_of(const struct stage *stage, const struct stage_slot *slot)
{
	return (uint32_t)(slot - stage->slots);
}

#endif
