/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core on loan: the progress thread lets a user who waits do its work.
 *
 * A waiting thread has nothing better to do, and what it does itself needs no wake-up of anybody:
 * with the core in its hands an answer is one system call away, not two threads. So the progress
 * thread lends the core to a user who waits again and again, and has it back when he does not.
 *
 * Normal path. A wait asks (NONE → ASKED) once the last ones followed each other closely. The
 * progress thread sees that between two turns, lends (ASKED → OPEN), says so by the event
 * descriptor and sleeps. The wait, and those that follow, use the loan (OPEN → USED) and leave it
 * open (USED → OPEN), without a word to the thread.
 *
 * The user does not come back: the thread looks every LOAN_TICK_NS; who has not waited for a whole
 * tick loses the core (OPEN → NONE). What is in flight rests for two ticks at most. That happens
 * once: a wait that comes late gives the core back at its end (USED → NONE, the thread is woken),
 * and none asks before waits are close again.
 *
 * A loan is to save more (LOAN_GAIN_NS a use) than the time for which ops rested at its end. One
 * that did not (waits come in bursts, and behind each the user computes, or waits for the event
 * descriptor) makes the next need twice as many close waits; one that did, LOAN_NEAR again.
 *
 * A wait is longer than a tick: the thread stops looking (is_deep) and is woken at its end.
 *
 * The user needs the thread (for a call that must not rest: stop, cancel, what he waits for by a
 * semaphore): loan_return(), whatever the state is.
 *
 * Every change of state is one compare-and-swap, with acquire by who gets the core and release by
 * who gives it away: so both threads may touch core, env and the inner ends of the two rings, each
 * when it has the core.
 */
#ifndef CLIENT_LOAN_H
#define CLIENT_LOAN_H

#include <semaphore.h>
#include <stdatomic.h>

#include "../base/base.h"

#define LOAN_TICK_NS  NS_PER_MS
#define LOAN_NEAR_NS  (100 * NS_PER_US) /* waits so far apart follow each other closely */
#define LOAN_NEAR     2                 /* so many waits make a habit at first, … */
#define LOAN_NEAR_MAX 128 /* … and at most: about what pays for a rest of two ticks */
#define LOAN_GAIN_NS  (20 * NS_PER_US) /* about two wake-ups */

enum loan_state {
	LOAN_NONE,  /* the thread has the core, whether it works or sleeps in poll() */
	LOAN_ASKED, /* likewise, and is asked for it */
	LOAN_OPEN,  /* a wait may use it; the thread sleeps in loan_sleep() */
	LOAN_USED,  /* a wait does */
};

struct loan {
	_Atomic uint32_t state;
	atomic_bool is_deep;   /* the thread sleeps until it is woken, not for a tick */
	_Atomic uint32_t uses; /* how often a wait has begun to use it */
	sem_t is_back;         /* wakes the thread */
	/* The user's. */
	uint32_t near_count;  /* waits in a row that followed closely, as far as they matter */
	uint32_t near_wanted; /* so many make a habit */
	uint32_t uses_asked;  /* uses when it was last asked for */
	bool is_resting;  /* ops were in flight behind the last wait, and it left the core open */
	uint64_t left_ns; /* the last wait's end */
};

/* What loan_look() says. */
enum loan_turn {
	LOAN_SLEEP,    /* for a tick */
	LOAN_SLEEP_ON, /* until it is woken */
	LOAN_GO,       /* it has the core */
};

int loan_init(struct loan *loan) MUST_USE;
void loan_fini(struct loan *loan);

/* --- the user's thread --- */

/* A wait begins. */
void loan_note_begin(struct loan *loan, uint64_t now_ns);
/* Whether it is worth to ask; if so, it has been asked for, and the thread must be woken. */
bool loan_ask(struct loan *loan);
static inline bool loan_is_open(const struct loan *loan)
{
	return atomic_load_explicit(&loan->state, memory_order_relaxed) == LOAN_OPEN;
}
/* In a wait. True: the user has the core, until the wait ends. */
bool loan_use(struct loan *loan);
/* The wait ends, whoever had the core. is_busy: there are ops in flight. */
void loan_note_end(struct loan *loan, uint64_t now_ns, bool is_busy);
/* Not in a wait: ops were pushed. */
static inline void loan_note_submit(struct loan *loan)
{
	loan->is_resting |= loan_is_open(loan);
}
/* Not in a wait: the thread shall have the core. */
void loan_return(struct loan *loan);
/* The thread shall see that the client is broken. */
void loan_wake(struct loan *loan);

/* --- the progress thread --- */

static inline bool loan_is_asked(const struct loan *loan)
{
	return atomic_load_explicit(&loan->state, memory_order_relaxed) == LOAN_ASKED;
}

/* Between two turns. True: the core is lent, and the thread must come to loan_sleep(). */
bool loan_give(struct loan *loan);
/* Until the core is the thread's again, or *is_broken. */
void loan_sleep(struct loan *loan, const atomic_bool *is_broken);
/* One look of it, behind a tick that began with so many uses; for tests of every order. */
enum loan_turn loan_look(struct loan *loan, uint32_t uses);

#endif
