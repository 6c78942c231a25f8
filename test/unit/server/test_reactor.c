/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a reactor and a table of tenants: every call that can fail fails once, nothing is kept;
 * options that cannot work are refused with a sentence; the memory taken is the memory announced.
 */
#include <string.h>
#include <unistd.h>

#include "rig.h"

/* env/posix, with the fail_at-th call that takes something failing. */
struct faulty {
	struct env env;
	struct env_ops ops;
	struct env *real;
	uint64_t calls;
	uint64_t fail_at;
	uint64_t held;
	uint64_t bytes;
};

static struct faulty faulty;

static bool fails(void)
{
	return ++faulty.calls == faulty.fail_at;
}

static void *faulty_alloc(struct env *env, size_t size)
{
	if (fails())
		return NULL;
	faulty.held++;
	faulty.bytes += size;
	return faulty.real->ops->alloc(faulty.real, size);
}

static void faulty_free(struct env *env, void *ptr)
{
	if (ptr != NULL)
		faulty.held--;
	faulty.real->ops->free(faulty.real, ptr);
}

static void *faulty_map(struct env *env, size_t size)
{
	if (fails())
		return NULL;
	faulty.held++;
	faulty.bytes += size;
	return faulty.real->ops->map(faulty.real, size);
}

static void faulty_unmap(struct env *env, void *ptr, size_t size)
{
	faulty.held--;
	faulty.real->ops->unmap(faulty.real, ptr, size);
}

static int faulty_listen(struct env *env, const char *address, struct env_sock **sock_out)
{
	if (fails())
		return -EADDRINUSE;
	faulty.held++;
	return faulty.real->ops->sock_listen(faulty.real, address, sock_out);
}

static void faulty_sock_close(struct env *env, struct env_sock *sock)
{
	faulty.held--;
	faulty.real->ops->sock_close(faulty.real, sock);
}

static uint64_t faulty_now_ns(struct env *env)
{
	return faulty.real->ops->now_ns(faulty.real);
}

static void faulty_timer_set(struct env *env, struct env_timer *timer, uint64_t when_ns)
{
	faulty.real->ops->timer_set(faulty.real, timer, when_ns);
}

static void faulty_timer_clear(struct env *env, struct env_timer *timer)
{
	faulty.real->ops->timer_clear(faulty.real, timer);
}

static void faulty_defer(struct env *env, struct env_task *task)
{
	faulty.real->ops->defer(faulty.real, task);
}

static void faulty_undefer(struct env *env, struct env_task *task)
{
	faulty.real->ops->undefer(faulty.real, task);
}

static void faulty_blk_declare(struct env *env, void *base, size_t size)
{
}

static void faulty_blk_undeclare(struct env *env, void *base)
{
}

static void faulty_watch(struct env *env, struct env_sock *sock, uint32_t events,
			 env_sock_ready ready, void *ctx)
{
	faulty.real->ops->sock_watch(faulty.real, sock, events, ready, ctx);
}

static void faulty_sock_name(struct env *env, struct env_sock *sock, bool is_peer, char *buf,
			     size_t buf_size)
{
	faulty.real->ops->sock_name(faulty.real, sock, is_peer, buf, buf_size);
}

static void faulty_init(struct env *real, uint64_t fail_at)
{
	faulty = (struct faulty) { .real = real, .fail_at = fail_at };
	faulty.ops = (struct env_ops) {
		.name = "faulty",
		.alloc = faulty_alloc,
		.free = faulty_free,
		.map = faulty_map,
		.unmap = faulty_unmap,
		.now_ns = faulty_now_ns,
		.timer_set = faulty_timer_set,
		.timer_clear = faulty_timer_clear,
		.defer = faulty_defer,
		.undefer = faulty_undefer,
		.blk_declare = faulty_blk_declare,
		.blk_undeclare = faulty_blk_undeclare,
		.sock_listen = faulty_listen,
		.sock_watch = faulty_watch,
		.sock_name = faulty_sock_name,
		.sock_close = faulty_sock_close,
	};
	faulty.env.ops = &faulty.ops;
}

static void creation_survives_each_fault(void **state)
{
	const struct reactor_listen listens[] = { { .ops = &xprt_tcp, .address = "127.0.0.1:0" },
						  { .ops = &xprt_tcp, .address = "127.0.0.1:0" } };
	struct rig rig;

	rig_init(&rig);
	rig.goes_on_taking_memory = true;
	rig_start(&rig, false);
	rig.opts.listens = listens;
	rig.opts.listen_count = 2;
	for (uint64_t k = 1;; k++) {
		struct reactor *reactor = NULL;
		char message[256] = "";
		int rc;

		faulty_init(rig.env, k);
		rc = reactor_create(&faulty.env, &rig.opts, &reactor, message);
		if (rc == 0) {
			assert_true(faulty.calls < k);
			assert_string_equal(message, "");
			/* What listen() rounds up to pages and sockets cost aside. */
			assert_true(faulty.bytes <= reactor_memory_size(&rig.opts) + 64 * KiB);
			assert_true(faulty.bytes >= reactor_memory_size(&rig.opts));
			reactor_destroy(&reactor);
			assert_int_equal(faulty.held, 0);
			/* reactor, six pools, one share, and both listeners' own. */
			assert_true(k > 1 + 6 + 2 + 2);
			break;
		}
		assert_null(reactor);
		assert_int_equal(faulty.held, 0);
		assert_true(strlen(message) > 0);
	}
	rig_stop(&rig);
}

static void what_cannot_work_is_refused_with_a_sentence(void **state)
{
	struct reactor *reactor = NULL;
	struct reactor_opts opts;
	char message[256];
	struct rig rig;

	rig_init(&rig);
	rig_start(&rig, true);
	opts = rig.opts;
	opts.buffer_bytes = 4 * shard_block_max(rig.shard) - 1;
	assert_int_equal(reactor_create(rig.env, &opts, &reactor, message), -EINVAL);
	assert_non_null(strstr(message, "buffers must be at least 16"));
	rig_stop(&rig);
}

static void tenants_are_found_by_name_and_secret(void **state)
{
	struct rig rig;
	const struct auth_secret *secret;
	const struct tenant *alice;
	uint8_t unknown[8] = { 0 };

	rig_init(&rig);
	alice = &rig.tenants->rows[0];
	assert_ptr_equal(tenants_find(rig.tenants, "alice", alice->secret_ids[0], &secret), alice);
	assert_ptr_equal(secret, &alice->secrets[0]);
	assert_ptr_equal(tenants_find(rig.tenants, "alice", unknown, &secret), alice);
	assert_null(secret);
	assert_null(tenants_find(rig.tenants, "alic", alice->secret_ids[0], &secret));
	assert_null(secret);
	rig_start(&rig, false);
	rig_stop(&rig);
}

static void tenants_survive_each_fault(void **state)
{
	static const char text[] =
		"a 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
	struct env_posix_opts opts = { .sock_max = 4 };
	struct tenants *tenants = NULL;
	struct env *env;
	char message[256];

	assert_int_equal(env_posix_create(&opts, &env), 0);
	for (uint64_t k = 1; k <= 4; k++) {
		int rc;

		faulty_init(env, k);
		rc = tenants_create(&faulty.env, text, &tenants, message);
		assert_int_equal(rc, k < 4 ? -ENOMEM : 0);
		tenants_destroy(&faulty.env, &tenants);
		assert_int_equal(faulty.held, 0);
	}
	assert_int_equal(tenants_create(env, "# nobody\n", &tenants, message), -EINVAL);
	assert_non_null(strstr(message, "no tenant"));
	env_posix_destroy(&env);
}

/* Session, connection and lane, with their buffers; beside it OpenSSL's two contexts for the MACs
 * (about 2 KiB) and the kernel's buffers. */
static void an_idle_session_is_small(void **state)
{
	print_message("an idle session with one lane takes %llu bytes\n",
		      (unsigned long long)reactor_session_size(&xprt_tcp));
	assert_in_range(reactor_session_size(&xprt_tcp), 1, 14 * KiB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_idle_session_is_small),
		cmocka_unit_test(creation_survives_each_fault),
		cmocka_unit_test(what_cannot_work_is_refused_with_a_sentence),
		cmocka_unit_test(tenants_are_found_by_name_and_secret),
		cmocka_unit_test(tenants_survive_each_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
