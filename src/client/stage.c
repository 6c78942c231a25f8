/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#include <errno.h>
#include <string.h>

void stage_init(struct stage *stage, void *base, uint64_t size, struct stage_slot *slots)
{
	ASSERT(size % STAGE_CHUNK == 0);
	ASSERT(size >= STAGE_SIZE_MIN);
	*stage = (struct stage) {
		.base = base,
		.slots = slots,
		.chunk_count = (uint32_t)(size / STAGE_CHUNK),
		.free_count = (uint32_t)(size / STAGE_CHUNK),
	};
}

static uint32_t free_at_or_behind(const struct stage *stage, uint32_t index)
{
	while (index < stage->chunk_count && stage->slots[index].is_taken)
		index++;
	return index;
}

/* Whether the lowest count free chunks are at most seg_max runs of neighbours. */
static bool is_whole_enough(const struct stage *stage, uint32_t count, uint32_t seg_max)
{
	uint32_t before = STAGE_NONE;
	uint32_t runs = 0;

	for (uint32_t index = stage->free_from; count > 0; count--, before = index++) {
		index = free_at_or_behind(stage, index);
		runs += before == STAGE_NONE || index != before + 1;
	}
	return runs <= seg_max;
}

int stage_take(struct stage *stage, uint32_t size, uint32_t seg_max, struct stage_slot **slot_out)
{
	uint32_t count = (uint32_t)(((uint64_t)size + STAGE_CHUNK - 1) / STAGE_CHUNK);
	uint32_t index;
	uint32_t *link;

	ASSERT(size > 0);
	ASSERT(seg_max > 0);
	ASSERT(count <= stage->chunk_count);
	if (count > stage->free_count || !is_whole_enough(stage, count, seg_max))
		return -EAGAIN;
	stage->free_count -= count;
	index = free_at_or_behind(stage, stage->free_from);
	*slot_out = &stage->slots[index];
	list_init(&stage->slots[index].node);
	stage->slots[index].size = size;
	for (link = NULL; count > 0; count--) {
		struct stage_slot *chunk;

		index = free_at_or_behind(stage, index);
		chunk = &stage->slots[index];
		chunk->is_taken = true;
		chunk->next = STAGE_NONE;
		if (link != NULL)
			*link = index;
		link = &chunk->next;
	}
	stage->free_from = index + 1;
	return 0;
}

void stage_give(struct stage *stage, struct stage_slot *slot)
{
	uint32_t index = stage_index_of(stage, slot);

	list_del(&slot->node);
	while (index != STAGE_NONE) {
		struct stage_slot *chunk = stage_slot_at(stage, index);

		chunk->is_taken = false;
		stage->free_count++;
		stage->free_from = MIN(stage->free_from, index);
		index = chunk->next;
	}
	ASSERT(stage->free_count <= stage->chunk_count);
}

uint32_t stage_segs(const struct stage *stage, const struct stage_slot *slot, uint32_t region,
		    struct wire_seg *segs)
{
	uint32_t index = stage_index_of(stage, slot);
	uint32_t left = slot->size;
	uint32_t count = 0;

	for (; index != STAGE_NONE; index = stage->slots[index].next) {
		uint64_t offset = (uint64_t)index * STAGE_CHUNK;
		uint32_t part = MIN(left, (uint32_t)STAGE_CHUNK);

		if (count > 0 && segs[count - 1].offset + segs[count - 1].size == offset)
			segs[count - 1].size += part;
		else
			segs[count++] = (struct wire_seg) { region, part, offset };
		left -= part;
	}
	ASSERT(left == 0);
	return count;
}

/* --- copies --- */

/* Where bytes of an item are in its slot, one chunk at a time. */
struct walk {
	const struct stage *stage;
	uint32_t index;
	uint64_t begin; /* of the chunk, in the item */
};

/* What of *size_io bytes from offset lies together. Offsets only grow. */
static uint8_t *walk_to(struct walk *walk, uint64_t offset, uint64_t *size_io)
{
	ASSERT(offset >= walk->begin);
	while (offset - walk->begin >= STAGE_CHUNK) {
		walk->index = walk->stage->slots[walk->index].next;
		ASSERT(walk->index != STAGE_NONE);
		walk->begin += STAGE_CHUNK;
	}
	offset -= walk->begin;
	*size_io = MIN(*size_io, STAGE_CHUNK - offset);
	return walk->stage->base + (uint64_t)walk->index * STAGE_CHUNK + offset;
}

static void copy(const struct stage *stage, const struct stage_slot *slot,
		 const struct ctxkv_item *item, uint64_t offset, uint64_t end, bool is_in)
{
	struct walk walk = { stage, stage_index_of(stage, slot), 0 };
	uint64_t piece_begin = 0; /* in the item */

	ASSERT(end <= slot->size);
	for (uint32_t i = 0; offset < end; piece_begin += item->iov[i++].size) {
		const struct ctxkv_iov *piece = &item->iov[i];

		ASSERT(i < item->iov_count);
		while (offset < end && offset - piece_begin < piece->size) {
			uint64_t part = MIN(end - offset, piece->size - (offset - piece_begin));
			uint8_t *staged = walk_to(&walk, offset, &part);
			uint8_t *own = (uint8_t *)piece->base + (offset - piece_begin);

			memcpy(is_in ? staged : own, is_in ? own : staged, part);
			offset += part;
		}
	}
}

void stage_copy_in(const struct stage *stage, const struct stage_slot *slot,
		   const struct ctxkv_item *item, uint64_t offset, uint64_t end)
{
	copy(stage, slot, item, offset, end, true);
}

void stage_copy_out(const struct stage *stage, const struct stage_slot *slot,
		    const struct ctxkv_item *item, uint64_t offset, uint64_t end)
{
	copy(stage, slot, item, offset, end, false);
}
