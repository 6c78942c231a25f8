/* SPDX-License-Identifier: Apache-2.0 */
#include "mailbox.h"

#include <string.h>

_Static_assert((MAILBOX_SIZE & (MAILBOX_SIZE - 1)) == 0, "positions wrap with the ring");

static struct mail_slot *slot_at(struct mailbox *mailbox, uint64_t position)
{
	return &mailbox->slots[position % MAILBOX_SIZE];
}

void mailbox_init(struct mailbox *mailbox, struct env *env)
{
	memset(mailbox, 0, sizeof(*mailbox));
	mailbox->env = env;
	for (uint32_t i = 0; i < MAILBOX_SIZE; i++)
		atomic_init(&mailbox->slots[i].turn, i);
}

struct mail *mailbox_reserve(struct mailbox *mailbox)
{
	uint64_t position = atomic_load_explicit(&mailbox->tail, memory_order_relaxed);

	for (;;) {
		struct mail_slot *slot = slot_at(mailbox, position);
		/* Partner: the release in mailbox_take(): what it copied is read before we write.
		 */
		uint64_t turn = atomic_load_explicit(&slot->turn, memory_order_acquire);

		if (turn < position)
			return NULL; /* still holds the mail of a round before */
		if (turn == position && atomic_compare_exchange_weak_explicit(
						&mailbox->tail, &position, position + 1,
						memory_order_relaxed, memory_order_relaxed))
			return &slot->mail;
		if (turn > position)
			position = atomic_load_explicit(&mailbox->tail, memory_order_relaxed);
	}
}

void mailbox_commit(struct mailbox *mailbox, struct mail *mail)
{
	struct mail_slot *slot = CONTAINER_OF(mail, struct mail_slot, mail);

	ASSERT(mail->kind != MAIL_NONE);
	/* Ours alone between reserve and here, so add is a store. Partner: mailbox_take(). */
	atomic_fetch_add_explicit(&slot->turn, 1, memory_order_release);
	mailbox->env->ops->wake(mailbox->env);
}

bool mailbox_take(struct mailbox *mailbox, struct mail *mail_out)
{
	struct mail_slot *slot = slot_at(mailbox, mailbox->head);

	/* Partner: mailbox_commit(). */
	if (atomic_load_explicit(&slot->turn, memory_order_acquire) != mailbox->head + 1)
		return false;
	*mail_out = slot->mail;
	/* Partner: the acquire in mailbox_reserve() of the next round. */
	atomic_store_explicit(&slot->turn, mailbox->head + MAILBOX_SIZE, memory_order_release);
	mailbox->head++;
	return true;
}
