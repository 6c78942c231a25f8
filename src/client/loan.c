/* SPDX-License-Identifier: Apache-2.0 */
#include "loan.h"

#include <errno.h>

#include "tick.h"

static bool change(struct loan *loan, uint32_t from, uint32_t to)
{
	return atomic_compare_exchange_strong(&loan->state, &from, to);
}

int loan_init(struct loan *loan)
{
	loan->near_wanted = LOAN_NEAR;
	return sem_init(&loan->is_back, 0, 0) < 0 ? -errno : 0;
}

void loan_fini(struct loan *loan)
{
	sem_destroy(&loan->is_back);
}

/* --- the user's thread --- */

/* Ops rested for so long, or until the thread took the core. */
static void rested(struct loan *loan, uint64_t away_ns)
{
	uint32_t uses = atomic_load_explicit(&loan->uses, memory_order_relaxed);
	uint64_t saved_ns = (uses - loan->uses_asked) * LOAN_GAIN_NS;

	loan->is_resting = false;
	if (saved_ns >= MIN(away_ns, 2 * LOAN_TICK_NS))
		loan->near_wanted = LOAN_NEAR;
	else
		loan->near_wanted = MIN(2 * loan->near_wanted, LOAN_NEAR_MAX);
}

void loan_note_begin(struct loan *loan, uint64_t now_ns)
{
	uint64_t away_ns = now_ns - loan->left_ns;

	if (away_ns < LOAN_NEAR_NS) {
		loan->near_count = MIN(loan->near_count + 1, LOAN_NEAR_MAX);
		return;
	}
	loan->near_count = 0;
	if (loan->is_resting)
		rested(loan, away_ns);
}

bool loan_ask(struct loan *loan)
{
	if (loan->near_count < loan->near_wanted || !change(loan, LOAN_NONE, LOAN_ASKED))
		return false;
	loan->uses_asked = atomic_load_explicit(&loan->uses, memory_order_relaxed);
	return true;
}

bool loan_use(struct loan *loan)
{
	if (atomic_load_explicit(&loan->state, memory_order_relaxed) == LOAN_USED)
		return true; /* only he sets it, and takes it back */
	if (!change(loan, LOAN_OPEN, LOAN_USED))
		return false;
	atomic_fetch_add_explicit(&loan->uses, 1, memory_order_relaxed);
	return true;
}

static void give(struct loan *loan, uint32_t from)
{
	if (change(loan, from, LOAN_NONE))
		loan_wake(loan);
}

void loan_note_end(struct loan *loan, uint64_t now_ns, bool is_busy)
{
	bool has_core = atomic_load_explicit(&loan->state, memory_order_relaxed) == LOAN_USED;

	loan->left_ns = now_ns;
	loan->is_resting = has_core && is_busy;
	if (!has_core)
		return;
	if (is_busy && loan->near_count == 0)
		give(loan, LOAN_USED);
	else if (change(loan, LOAN_USED, LOAN_OPEN) &&
		 atomic_load(&loan->is_deep)) /* partner: loan_sleep() */
		loan_wake(loan);
}

void loan_return(struct loan *loan)
{
	/* In this order: ASKED becomes OPEN by itself, OPEN never ASKED. */
	if (!change(loan, LOAN_ASKED, LOAN_NONE))
		give(loan, LOAN_OPEN);
}

void loan_wake(struct loan *loan)
{
	/* It is full only when the thread has been woken two thousand million times in vain. */
	(void)sem_post(&loan->is_back);
}

/* --- the progress thread --- */

bool loan_give(struct loan *loan)
{
	if (!loan_is_asked(loan))
		return false;
	while (sem_trywait(&loan->is_back) == 0) {
		/* Woken for what was over before it was asked for. */
	}
	return change(loan, LOAN_ASKED, LOAN_OPEN);
}

enum loan_turn loan_look(struct loan *loan, uint32_t uses)
{
	uint32_t state = atomic_load(&loan->state);

	if (state == LOAN_NONE || state == LOAN_ASKED)
		return LOAN_GO; /* given back, and perhaps asked for again */
	if (uses != atomic_load_explicit(&loan->uses, memory_order_relaxed))
		return LOAN_SLEEP;
	if (state == LOAN_USED)
		return LOAN_SLEEP_ON;
	return change(loan, LOAN_OPEN, LOAN_NONE) ? LOAN_GO : LOAN_SLEEP;
}

/* The wait goes on. Its end looks at is_deep behind it: one of the two sees the other. */
static void sleep_on(struct loan *loan)
{
	atomic_store(&loan->is_deep, true);
	if (atomic_load(&loan->state) == LOAN_USED)
		(void)sem_wait(&loan->is_back); /* cut short: one more look */
	atomic_store(&loan->is_deep, false);
}

void loan_sleep(struct loan *loan, const atomic_bool *is_broken)
{
	enum loan_turn turn = LOAN_SLEEP;

	while (turn != LOAN_GO && !atomic_load(is_broken)) {
		uint32_t uses = atomic_load_explicit(&loan->uses, memory_order_relaxed);

		if (turn == LOAN_SLEEP_ON)
			sleep_on(loan);
		(void)tick_wait(&loan->is_back, LOAN_TICK_NS);
		if (!atomic_load(is_broken))
			turn = loan_look(loan, uses);
	}
}
