/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long the loop looks before it sleeps; and pollers: what becomes ready without the kernel
 * knowing.
 *
 * Normal path. Every turn looks at all pollers, behind the events. While one of them does
 * something, or tasks are queued, descriptors are looked at only every EVENTS_NS, so that a turn
 * costs no system call. When none does, and no socket either, poll() goes on returning at once for
 * window_ns, so that what comes soon is seen soon, and who sends it need not wake anybody; then all
 * pollers are asked to sleep, and it waits as ever. Without pollers, and where the last to have
 * something was a socket, every look is one at the descriptors; or at that socket alone, when it
 * was the only one for a while (sock.c), and at all of them every EVENTS_NS.
 *
 * The window is what an answer is likely to come in, at most SPIN_NS. Looking in vain halves it,
 * down to nothing: waiting for a drive or a slow peer costs no CPU. When something comes within
 * SPIN_BACK_NS of falling asleep, the window is SPIN_NS again: looking would have seen it, for
 * where both sides sleep each wake-up takes as long as all the rest. The price: what keeps coming
 * every 50 to 150 us costs SPIN_NS of looking each time, in vain.
 *
 * The drive is busy for longer than the window (a back end says so): its completion ends the wait,
 * and who asks meanwhile for what it has yet to bring waits for it anyway. Then looking goes on for
 * SPIN_DRIVE_NS only, and says nothing of the window. Likewise SPIN_BULK_NS while a socket waits
 * for many bytes: whoever sends them is not to be answered soon, and a look holds his socket.
 *
 * Others want the core: a sched_yield() that returns late says that somebody else ran, and the loop
 * goes to sleep. A loop with nothing to do sleeps in one call, however many pollers there are.
 */
#include <sched.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "posix_priv.h"

#define SPIN_NS       (50 * NS_PER_US)
#define SPIN_BACK_NS  (2 * SPIN_NS)
#define SPIN_MIN_NS   (2 * NS_PER_US) /* less than this is not worth a turn */
#define EVENTS_NS     (10 * NS_PER_US)
#define SPIN_DRIVE_NS (3 * NS_PER_US)
#define SPIN_BULK_NS  (15 * NS_PER_US)
#define RELAX_NS      NS_PER_US        /* after so long in vain */
#define RELAX_COUNT   4                /* of 10 to 50 ns each */
#define YIELD_NS      (10 * NS_PER_US) /* nobody else ran in less: about 0.5 us are usual */

/* Looking in vain: what shares the core's units goes on faster. */
static void relax(void)
{
	for (int i = 0; i < RELAX_COUNT; i++) {
#if defined(__x86_64__)
		_mm_pause();
#elif defined(__aarch64__)
		__asm__ volatile("yield");
#endif
	}
}

void pollers_init(struct posix *posix)
{
	list_init(&posix->pollers);
	posix->spin.window_ns = SPIN_NS;
}

void posix_poller_add(struct env *env, struct env_poller *poller)
{
	list_add_tail(&posix_of(env)->pollers, &poller->node);
}

void posix_poller_remove(struct env *env, struct env_poller *poller)
{
	(void)env;
	list_del(&poller->node);
}

bool pollers_sleep(struct posix *posix)
{
	list_for_each (node, &posix->pollers) {
		struct env_poller *poller = list_entry(node, struct env_poller, node);

		if (!poller->sleep(poller))
			return false; /* the others are rung for if need be */
	}
	posix->spin.is_spinning = false;
	posix->spin.was_busy = false;
	posix->spin.was_sock_busy = false;
	return true;
}

/* All descriptors were looked at a moment ago. */
static bool are_events_fresh(const struct posix *posix, uint64_t now_ns)
{
	return posix->spin.is_spinning && now_ns - posix->spin.events_ns < EVENTS_NS;
}

/* While pollers are busy, or tasks are to be run, the descriptors wait. */
static bool are_events_spared(const struct posix *posix, uint64_t now_ns)
{
	bool are_pollers_busy = !list_is_empty(&posix->pollers) && !posix->spin.is_sock_busy;

	return are_events_fresh(posix, now_ns) &&
	       (are_pollers_busy || !list_is_empty(&posix->tasks));
}

/* Whether the core was given to somebody for long. */
static bool has_given_way(struct posix *posix, uint64_t now_ns)
{
	posix->spin.yielded_ns = now_ns;
	sched_yield();
	return posix->env.ops->now_ns(&posix->env) - now_ns >= YIELD_NS;
}

/* Nothing was found for as long as it is worth, or the core is wanted. */
static bool is_spin_over(struct posix *posix, uint64_t now_ns)
{
	struct posix_spin *spin = &posix->spin;

	if (!spin->is_spinning)
		return true;
	if (spin->is_drive_busy && now_ns - spin->busy_ns >= SPIN_DRIVE_NS)
		return true;
	if (spin->patient > 0 && now_ns - spin->busy_ns >= SPIN_BULK_NS)
		return true;
	if (now_ns - spin->busy_ns < spin->window_ns &&
	    (now_ns - spin->yielded_ns < EVENTS_NS || !has_given_way(posix, now_ns)))
		return false;
	spin->window_ns /= 2;
	if (spin->window_ns < SPIN_MIN_NS)
		spin->window_ns = 0;
	return true;
}

/* The last turn did something. */
static void spin_on(struct posix_spin *spin, uint64_t now_ns)
{
	if (!spin->is_spinning && now_ns - spin->slept_ns < SPIN_BACK_NS)
		spin->window_ns = SPIN_NS;
	if (!spin->is_spinning)
		spin->yielded_ns = now_ns;
	spin->is_spinning = true;
	spin->is_sock_busy = spin->was_sock_busy;
	spin->was_busy = false;
	spin->was_sock_busy = false;
	spin->busy_ns = now_ns;
}

uint64_t pollers_wait(struct posix *posix, uint64_t timeout_ns)
{
	struct posix_spin *spin = &posix->spin;
	uint64_t now_ns;

	spin->turn_ns = 0;
	if (!spin->is_spinning && !spin->was_busy && timeout_ns == 0)
		return timeout_ns;
	now_ns = posix->env.ops->now_ns(&posix->env);
	if (spin->was_busy)
		spin_on(spin, now_ns);
	if (timeout_ns > 0 && is_spin_over(posix, now_ns) && pollers_sleep(posix)) {
		spin->slept_ns = now_ns;
		return timeout_ns;
	}
	if (are_events_spared(posix, now_ns)) {
		spin->turn_ns = now_ns;
		if (now_ns - spin->busy_ns > RELAX_NS && list_is_empty(&posix->tasks))
			relax();
		return POLLERS_GO_ON;
	}
	if (are_events_fresh(posix, now_ns) && posix_sock_is_alone(posix)) {
		spin->turn_ns = now_ns;
		if (now_ns - spin->busy_ns > RELAX_NS)
			relax(); /* a look holds the socket, and the sender wants to fill it */
		return POLLERS_ONE_SOCK;
	}
	spin->events_ns = now_ns;
	return 0;
}

void pollers_look(struct posix *posix)
{
	struct list batch;
	struct env_poller *poller;
	bool is_busy = false;

	if (list_is_empty(&posix->pollers))
		return;
	list_init(&batch);
	list_splice_tail(&batch, &posix->pollers);
	while ((poller = list_head(&batch, struct env_poller, node)) != NULL) {
		list_del(&poller->node);
		list_add_tail(&posix->pollers, &poller->node);
		is_busy |= poller->look(poller);
	}
	posix->spin.was_busy |= is_busy;
}
