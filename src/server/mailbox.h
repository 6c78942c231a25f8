/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only way into a reactor from another thread: a bounded ring of typed structs, and a wake-up.
 * Any thread puts, the reactor's thread takes. Nothing on the path of a block goes through it:
 * connections that are handed over, questions and commands of other threads.
 *
 * Normal path: reserve() claims a slot (a compare-and-swap of tail), the writer fills it, commit()
 * publishes it (the slot's turn, with release) and wakes the reactor, whose take() sees the turn
 * with acquire, copies the mail and frees the slot by setting its turn one round on.
 *
 * Failure: a ring that is full refuses (NULL), and nothing was taken. A writer that dies between
 * reserve and commit takes the process with it (threads do not die alone), so no slot is lost.
 *
 * Memory: inside the struct; no allocation.
 */
#ifndef SERVER_MAILBOX_H
#define SERVER_MAILBOX_H

#include <stdatomic.h>

#include "../xprt/xprt.h"

#define MAILBOX_SIZE 64 /* a power of two */

struct reactor_query;

enum mail_kind {
	MAIL_NONE = 0,
	MAIL_NOTHING,    /* was reserved and came to nothing */
	MAIL_CONNECTION, /* a connection whose preface another reactor has read */
	MAIL_QUERY,      /* a question or command; answered by query->done() */
};

struct mail {
	enum mail_kind kind;
	union {
		struct xprt_handover connection; /* owned by who takes the mail */
		struct reactor_query *query;     /* borrowed until done() */
	} u;
};

struct mail_slot {
	/* Whose turn it is: == position: free for the writer of that position; == position + 1:
	 * published for the reader. Writers and the reader are each other's partners. */
	atomic_uint_least64_t turn;
	struct mail mail;
};

struct mailbox {
	_Alignas(64) atomic_uint_least64_t tail; /* next position to be claimed, by writers */
	_Alignas(64) uint64_t head;              /* next position to be taken; the reader's own */
	struct env *env;                         /* woken by commit() */
	struct mail_slot slots[MAILBOX_SIZE];
};

/* Before any other thread knows it. env's owner is the reader. */
void mailbox_init(struct mailbox *mailbox, struct env *env);

/* ANY_THREAD. A slot to be filled, and to be given to commit() at once; NULL: the ring is full. */
struct mail *mailbox_reserve(struct mailbox *mailbox) MUST_USE;
void mailbox_commit(struct mailbox *mailbox, struct mail *mail);

/* The reader's thread. False: nothing is there. */
bool mailbox_take(struct mailbox *mailbox, struct mail *mail_out) MUST_USE;

#endif
