/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intrusive doubly linked list. A node on no list points to itself, so that list_del() of it does
 * nothing and list_is_empty() tells.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base.h"

struct list {
	struct list *next;
	struct list *prev;
};

static inline void list_init(struct list *list)
{
	list->next = list;
	list->prev = list;
}

static inline bool list_is_empty(const struct list *list)
{
	return list->next == list;
}

static inline void list_add_tail(struct list *list, struct list *node)
{
	node->prev = list->prev;
	node->next = list;
	list->prev->next = node;
	list->prev = node;
}

static inline void list_add_head(struct list *list, struct list *node)
{
	list_add_tail(list->next, node);
}

/* Take node off its list; it is then on no list. */
static inline void list_del(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* Move all nodes of from, in order, to the tail of list. */
static inline void list_splice_tail(struct list *list, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->next->prev = list->prev;
	list->prev->next = from->next;
	from->prev->next = list;
	list->prev = from->prev;
	list_init(from);
}

#define list_entry(node, type, member) CONTAINER_OF(node, type, member)

/* First entry, or NULL. */
#define list_head(list, type, member)                                                              \
	(list_is_empty(list) ? NULL : list_entry((list)->next, type, member))

/* pos is a struct list *; the list must not change in the body. */
#define list_for_each(pos, head)                                                                   \
	for (struct list *pos = (head)->next; pos != (head); pos = pos->next)

/* The body may take pos off the list, and nothing else. */
#define list_for_each_safe(pos, head)                                                              \
	for (struct list *pos = (head)->next, *pos##_next = pos->next; pos != (head);              \
	     pos = pos##_next, pos##_next = pos->next)

#endif
