/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reactor's side of its mailbox: what arrives from other threads, handled in the loop. See
 * mailbox.h for the ring.
 *
 * Failure: a connection that comes while the reactor ends, or for a listener that it lacks, is
 * closed; the client comes again. A query that comes then is answered -ERR_CLOSING.
 */
#include "mailbox.h"
#include "query.h"
#include "reactor_priv.h"

static struct mailbox *mailbox_of(const struct reactor *reactor)
{
	return reactor->opts.mailboxes != NULL ? reactor->opts.mailboxes[reactor->opts.index]
					       : NULL;
}

static void mail_connection(struct reactor *reactor, const struct xprt_handover *connection)
{
	if (connection->listener >= reactor->listener_count || reactor->is_finishing)
		connection->ops->discard(reactor->env, connection);
	else
		connection->ops->attach(reactor->listeners[connection->listener], connection);
}

static void mail_handle(struct reactor *reactor, const struct mail *mail)
{
	switch (mail->kind) {
	case MAIL_CONNECTION:
		mail_connection(reactor, &mail->u.connection);
		break;
	case MAIL_QUERY:
		reactor_query_start(reactor, mail->u.query);
		break;
	case MAIL_NOTHING:
		break;
	case MAIL_NONE:
		ASSERT(false);
	}
}

void reactor_mail(struct reactor *reactor)
{
	struct mailbox *mailbox = mailbox_of(reactor);
	struct mail mail;

	/* A round at most, so that who writes without end does not keep the loop. */
	for (uint32_t i = 0; mailbox != NULL && i < MAILBOX_SIZE; i++) {
		if (!mailbox_take(mailbox, &mail))
			return;
		mail_handle(reactor, &mail);
	}
	if (mailbox != NULL)
		reactor->env->ops->wake(reactor->env);
}

static void mail_cb(struct env_task *task)
{
	struct reactor *reactor = CONTAINER_OF(task, struct reactor, mail_task);

	CHECK_OBJ(reactor, REACTOR_MAGIC);
	reactor_mail(reactor);
}

void mail_begin(struct reactor *reactor)
{
	reactor->mail_task.run = mail_cb;
	if (mailbox_of(reactor) != NULL)
		reactor->env->ops->on_wake(reactor->env, &reactor->mail_task);
}

void mail_end(struct reactor *reactor)
{
	struct mailbox *mailbox = mailbox_of(reactor);
	struct mail mail;

	if (mailbox == NULL)
		return;
	reactor->env->ops->on_wake(reactor->env, NULL);
	reactor->env->ops->undefer(reactor->env, &reactor->mail_task);
	while (mailbox_take(mailbox, &mail)) {
		if (mail.kind == MAIL_CONNECTION)
			mail.u.connection.ops->discard(reactor->env, &mail.u.connection);
		else if (mail.kind == MAIL_QUERY)
			query_refuse(reactor, mail.u.query, -ERR_CLOSING);
	}
}
