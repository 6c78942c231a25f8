/* SPDX-License-Identifier: Apache-2.0 */
#include "face_server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../src/env/posix/posix.h"
#include "../../../src/server/reactor.h"
#include "../../lib/t.h"

static struct shard *server_shard(struct env *env, const struct face_server *server)
{
	const struct shard_opts opts = {
		.index_entries = 16384,
		.queue_depth = 8,
		.put_max = 1024,
		.write_size = MiB,
		.group_delay_ns = NS_PER_MS,
		.verify = (enum store_verify)server->verify,
	};
	const struct shard_memory memory = {
		.size = server->memory,
		.segment_room = server->segment_room,
		.block_max = server->block_max,
	};
	struct shard *shard = NULL;

	if (shard_open(env, NULL, 0, &memory, &opts, &shard) < 0)
		_exit(3);
	return shard;
}

static void server_main(const struct face_server *server, int ready_fd)
{
	const struct env_posix_opts env_opts = { .io_thread_count = 1, .sock_max = 256 };
	struct reactor_listen listen = { .ops = &xprt_tcp, .address = NULL };
	struct reactor *reactor = NULL;
	struct tenants *tenants = NULL;
	struct reactor_opts opts;
	struct env *env = NULL;
	struct shard *shard;
	char keys[128];
	char address[64];
	char message[256] = "";

	snprintf(keys, sizeof(keys), "tester %s\n", FACE_SECRET);
	snprintf(address, sizeof(address), "127.0.0.1:%u", server->port);
	listen.address = address;
	if (env_posix_create(&env_opts, &env) < 0 ||
	    tenants_create(env, keys, &tenants, message) < 0)
		_exit(2);
	shard = server_shard(env, server);
	reactor_opts_init(&opts);
	opts.incarnation = (uint64_t)getpid();
	opts.shards = &shard;
	opts.shard_count = 1;
	opts.tenants = tenants;
	opts.listens = &listen;
	opts.listen_count = 1;
	opts.verify = (enum store_verify)server->verify;
	opts.buffer_bytes = MAX(32 * MiB, 4 * server->block_max);
	if (server->request_max != 0)
		opts.request_max = server->request_max;
	if (reactor_create(env, &opts, &reactor, message) < 0) {
		fprintf(stderr, "server: %s\n", message);
		_exit(4);
	}
	reactor_listener_name(reactor, 0, address, sizeof(address));
	if (write(ready_fd, address, sizeof(address)) != sizeof(address))
		_exit(5);
	for (;;)
		env->ops->poll(env, NS_PER_S);
}

void face_server_start(struct face_server *server)
{
	char address[64] = "";
	pid_t parent = getpid();
	int fds[2];

	if (server->memory == 0) {
		server->memory = 160 * MiB;
		server->segment_room = 16 * MiB;
		server->block_max = 4 * MiB;
	}
	assert_int_equal(pipe(fds), 0);
	server->pid = fork();
	assert_true(server->pid >= 0);
	if (server->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		close(fds[0]);
		server_main(server, fds[1]);
	}
	close(fds[1]);
	if (read(fds[0], address, sizeof(address)) != sizeof(address))
		fail_msg("the server did not start");
	close(fds[0]);
	server->port = (uint16_t)atoi(strrchr(address, ':') + 1);
}

void face_server_kill(struct face_server *server)
{
	assert_int_equal(kill(server->pid, SIGKILL), 0);
	assert_int_equal(waitpid(server->pid, NULL, 0), server->pid);
	server->pid = 0;
}

void face_server_freeze(struct face_server *server)
{
	int status;

	assert_int_equal(kill(server->pid, SIGSTOP), 0);
	assert_int_equal(waitpid(server->pid, &status, WUNTRACED), server->pid);
}

void face_server_thaw(struct face_server *server)
{
	assert_int_equal(kill(server->pid, SIGCONT), 0);
}

struct face_server face_server;

int face_server_setup(void **state)
{
	face_server = (struct face_server) { 0 };
	face_server_start(&face_server);
	return 0;
}

int face_server_teardown(void **state)
{
	if (face_server.pid != 0)
		face_server_kill(&face_server);
	return 0;
}
