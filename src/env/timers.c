/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986) of intrusive nodes: a tree in which no
 * child is due before its parent. child is the first child, sibling the next one, prev the left
 * sibling or, for a first child, the parent. Adding melds a node with the root; taking the root
 * melds its children in pairs from left to right, then the pairs from right to left.
 */
#include "timers.h"

static bool is_before(const struct env_timer *a, const struct env_timer *b)
{
	return a->when_ns < b->when_ns || (a->when_ns == b->when_ns && a->order < b->order);
}

/* Both are roots, or NULL. */
static struct env_timer *meld(struct env_timer *a, struct env_timer *b)
{
	struct env_timer *top;
	struct env_timer *below;

	if (a == NULL)
		return b;
	if (b == NULL)
		return a;
	top = is_before(b, a) ? b : a;
	below = top == a ? b : a;
	below->prev = top;
	below->sibling = top->child;
	if (top->child != NULL)
		top->child->prev = below;
	top->child = below;
	return top;
}

/* One tree of a list of siblings. No recursion: the pairs are stacked through prev. */
static struct env_timer *meld_siblings(struct env_timer *first)
{
	struct env_timer *pairs = NULL;
	struct env_timer *root = NULL;

	while (first != NULL) {
		struct env_timer *second = first->sibling;
		struct env_timer *rest = second != NULL ? second->sibling : NULL;
		struct env_timer *pair;

		first->sibling = NULL;
		first->prev = NULL;
		if (second != NULL) {
			second->sibling = NULL;
			second->prev = NULL;
		}
		pair = meld(first, second);
		pair->prev = pairs;
		pairs = pair;
		first = rest;
	}
	while (pairs != NULL) {
		struct env_timer *next = pairs->prev;

		pairs->prev = NULL;
		root = meld(root, pairs);
		pairs = next;
	}
	return root;
}

static void cut(struct env_timer *timer)
{
	if (timer->prev->child == timer)
		timer->prev->child = timer->sibling;
	else
		timer->prev->sibling = timer->sibling;
	if (timer->sibling != NULL)
		timer->sibling->prev = timer->prev;
	timer->sibling = NULL;
	timer->prev = NULL;
}

void timers_set(struct timers *timers, struct env_timer *timer, uint64_t when_ns)
{
	ASSERT(timer->fire != NULL);
	timers_clear(timers, timer);
	timer->when_ns = when_ns;
	timer->order = timers->set_count++;
	timer->is_set = true;
	timers->root = meld(timers->root, timer);
}

void timers_clear(struct timers *timers, struct env_timer *timer)
{
	struct env_timer *below;

	if (!timer->is_set)
		return;
	if (timer != timers->root)
		cut(timer);
	below = meld_siblings(timer->child);
	timer->child = NULL;
	timer->is_set = false;
	timers->root = timer == timers->root ? below : meld(timers->root, below);
}

uint64_t timers_next_ns(const struct timers *timers)
{
	return timers->root != NULL ? timers->root->when_ns : ENV_FOREVER;
}

struct env_timer *timers_take_due(struct timers *timers, uint64_t now_ns)
{
	struct env_timer *timer = timers->root;

	if (timer == NULL || timer->when_ns > now_ns)
		return NULL;
	timers_clear(timers, timer);
	return timer;
}
