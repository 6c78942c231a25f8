/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring between threads: what several writers put comes out once each, each writer's in order,
 * with all of its bytes; a full ring refuses and takes nothing. Build with TSan to see the races.
 */
#include <pthread.h>

#include "../../../src/server/mailbox.h"
#include "../../lib/t.h"

#define WRITERS      4
#define MAILS        20000
#define WRITER_SHIFT 24

static atomic_uint wakes;

static void count_wake(struct env *env)
{
	atomic_fetch_add(&wakes, 1);
}

static const struct env_ops ops = { .wake = count_wake };
static struct env env = { .ops = &ops };

struct writer {
	struct mailbox *mailbox;
	uint32_t number;
	uint64_t refused;
};

static void *write_all(void *ctx)
{
	struct writer *writer = ctx;

	for (uint32_t i = 0; i < MAILS;) {
		struct mail *mail = mailbox_reserve(writer->mailbox);

		if (mail == NULL) {
			writer->refused++;
			continue;
		}
		mail->kind = MAIL_CONNECTION;
		mail->u.connection.listener = writer->number << WRITER_SHIFT | i;
		mail->u.connection.preface.session = ~(uint64_t)mail->u.connection.listener;
		mailbox_commit(writer->mailbox, mail);
		i++;
	}
	return NULL;
}

static void every_mail_of_every_writer_comes_once_and_in_order(void **state)
{
	static struct mailbox mailbox;
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS];
	uint32_t next[WRITERS] = { 0 };

	mailbox_init(&mailbox, &env);
	for (uint32_t i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer) { .mailbox = &mailbox, .number = i };
		assert_int_equal(pthread_create(&threads[i], NULL, write_all, &writers[i]), 0);
	}
	for (uint32_t taken = 0; taken < WRITERS * MAILS;) {
		struct mail mail;
		uint32_t number;

		if (!mailbox_take(&mailbox, &mail))
			continue;
		taken++;
		assert_int_equal(mail.kind, MAIL_CONNECTION);
		assert_true(mail.u.connection.preface.session ==
			    ~(uint64_t)mail.u.connection.listener);
		number = mail.u.connection.listener >> WRITER_SHIFT;
		assert_in_range(number, 0, WRITERS - 1);
		assert_int_equal(mail.u.connection.listener & ((1u << WRITER_SHIFT) - 1),
				 next[number]);
		next[number]++;
	}
	for (uint32_t i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&wakes), WRITERS * MAILS);
}

static void a_full_ring_refuses_and_takes_nothing(void **state)
{
	static struct mailbox mailbox;
	struct mail mail;

	mailbox_init(&mailbox, &env);
	assert_false(mailbox_take(&mailbox, &mail));
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < MAILBOX_SIZE; i++) {
			struct mail *slot = mailbox_reserve(&mailbox);

			assert_non_null(slot);
			*slot = (struct mail) { .kind = MAIL_NOTHING };
			mailbox_commit(&mailbox, slot);
		}
		assert_null(mailbox_reserve(&mailbox));
		for (uint32_t i = 0; i < MAILBOX_SIZE; i++)
			assert_true(mailbox_take(&mailbox, &mail));
		assert_false(mailbox_take(&mailbox, &mail));
	}
}

/* What is reserved and not committed is not seen, nor what stands behind it. */
static void a_mail_is_seen_when_it_is_whole(void **state)
{
	static struct mailbox mailbox;
	struct mail *first;
	struct mail *second;
	struct mail mail;

	mailbox_init(&mailbox, &env);
	first = mailbox_reserve(&mailbox);
	second = mailbox_reserve(&mailbox);
	second->kind = MAIL_QUERY;
	mailbox_commit(&mailbox, second);
	assert_false(mailbox_take(&mailbox, &mail));
	first->kind = MAIL_NOTHING;
	mailbox_commit(&mailbox, first);
	assert_true(mailbox_take(&mailbox, &mail));
	assert_int_equal(mail.kind, MAIL_NOTHING);
	assert_true(mailbox_take(&mailbox, &mail));
	assert_int_equal(mail.kind, MAIL_QUERY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_mail_of_every_writer_comes_once_and_in_order),
		cmocka_unit_test(a_full_ring_refuses_and_takes_nothing),
		cmocka_unit_test(a_mail_is_seen_when_it_is_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
