/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking: the smallest free piece that is large enough is halved until it fits. Giving back: as
 * long as the buddy (the other half of the piece twice as large) is free and whole, both become
 * one.
 *
 * With slow checks each page of a free piece ends in a word that must still be there when the piece
 * is taken: what somebody writes after giving back (a transfer that lands late) does not stay
 * unseen.
 */
#include "buddy.h"

#include <string.h>

/* What a page's byte says. Pages inside a piece have INSIDE. */
#define INSIDE 0
#define FREE   0x40 /* | order: a free piece begins here */
#define TAKEN  0x80 /* | order: a taken piece begins here */

#define GUARD  UINT64_C(0xfeedfacedeadbeef) /* any value unlikely in payload */

static uint32_t order_of(uint64_t size)
{
	uint32_t order = 0;

	while ((BUDDY_PIECE_MIN << order) < size)
		order++;
	return order;
}

static uint64_t page_of(const struct buddy *buddy, const void *piece)
{
	return (uint64_t)((const char *)piece - buddy->arena) / BUDDY_PIECE_MIN;
}

static struct list *node_at(const struct buddy *buddy, uint64_t page)
{
	return (struct list *)(void *)(buddy->arena + page * BUDDY_PIECE_MIN);
}

static uint64_t *guard_at(const struct buddy *buddy, uint64_t page)
{
	return (uint64_t *)(void *)(buddy->arena + (page + 1) * BUDDY_PIECE_MIN - sizeof(uint64_t));
}

static void guards_set(struct buddy *buddy, uint64_t page, uint64_t count)
{
#ifdef CTXKV_SLOW_CHECKS
	for (uint64_t i = page; i < page + count; i++)
		*guard_at(buddy, i) = GUARD;
#endif
}

static bool guards_are_whole(const struct buddy *buddy, uint64_t page, uint64_t count)
{
	for (uint64_t i = page; i < page + count; i++) {
		if (*guard_at(buddy, i) != GUARD)
			return false;
	}
	return true;
}

static void free_add(struct buddy *buddy, uint64_t page, uint32_t order)
{
	buddy->pages[page] = (uint8_t)(FREE | order);
	list_add_head(&buddy->free[order], node_at(buddy, page));
}

uint64_t buddy_pages_size(uint64_t size)
{
	return size / BUDDY_PIECE_MIN;
}

void buddy_init(struct buddy *buddy, void *arena, uint64_t size, void *pages)
{
	buddy_init_part(buddy, arena, size, pages, 0, size);
}

void buddy_init_part(struct buddy *buddy, void *arena, uint64_t arena_size, void *pages,
		     uint64_t offset, uint64_t size)
{
	uint64_t first = offset / BUDDY_PIECE_MIN;

	ASSERT((uintptr_t)arena % BUDDY_PIECE_MIN == 0);
	ASSERT(offset % BUDDY_PIECE_MAX == 0);
	ASSERT(size % BUDDY_PIECE_MAX == 0);
	ASSERT(offset + size <= arena_size);
	*buddy = (struct buddy) {
		.arena = arena, .pages = pages, .arena_size = arena_size, .size = size
	};
	memset(buddy->pages + first, INSIDE, buddy_pages_size(size));
	guards_set(buddy, first, buddy_pages_size(size));
	for (uint32_t order = 0; order < BUDDY_ORDERS; order++)
		list_init(&buddy->free[order]);
	for (uint64_t at = offset + size; at > offset; at -= BUDDY_PIECE_MAX)
		free_add(buddy, (at - BUDDY_PIECE_MAX) / BUDDY_PIECE_MIN, BUDDY_ORDERS - 1);
}

uint64_t buddy_piece_size(uint64_t size)
{
	return BUDDY_PIECE_MIN << order_of(size);
}

void *buddy_take(struct buddy *buddy, uint64_t size)
{
	uint32_t want = order_of(size);
	uint32_t order = want;
	struct list *node;
	uint64_t page;

	ASSERT(size > 0);
	ASSERT(size <= BUDDY_PIECE_MAX);
	while (order < BUDDY_ORDERS && list_is_empty(&buddy->free[order]))
		order++;
	if (order == BUDDY_ORDERS)
		return NULL;
	node = buddy->free[order].next;
	list_del(node);
	page = page_of(buddy, node);
	ASSERT(buddy->pages[page] == (FREE | order));
	for (; order > want; order--)
		free_add(buddy, page + (UINT64_C(1) << (order - 1)), order - 1);
	ASSERT_SLOW(guards_are_whole(buddy, page, UINT64_C(1) << want));
	buddy->pages[page] = (uint8_t)(TAKEN | want);
	buddy->used += BUDDY_PIECE_MIN << want;
	buddy->used_max = MAX(buddy->used_max, buddy->used);
	return node;
}

void buddy_give(struct buddy *buddy, void *piece)
{
	uint64_t page = page_of(buddy, piece);
	uint32_t order;

	ASSERT(page < buddy_pages_size(buddy->arena_size));
	ASSERT(piece == node_at(buddy, page));
	ASSERT((buddy->pages[page] & TAKEN) != 0);
	order = buddy->pages[page] & 0x3f;
	ASSERT(buddy->used >= BUDDY_PIECE_MIN << order);
	buddy->used -= BUDDY_PIECE_MIN << order;
	guards_set(buddy, page, UINT64_C(1) << order);
	for (; order < BUDDY_ORDERS - 1; order++) {
		uint64_t other = page ^ (UINT64_C(1) << order);

		if (buddy->pages[other] != (FREE | order))
			break;
		list_del(node_at(buddy, other));
		buddy->pages[other] = INSIDE;
		buddy->pages[page] = INSIDE;
		page = MIN(page, other);
	}
	free_add(buddy, page, order);
}
