/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"

#include "../../src/base/hash.h"
#include "../../src/env/choose.h"
#include "../../src/xprt/tcp/tcp.h"
#include "../lib/t.h"
#include "../sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* --- kinds --- */

static int posix_create(struct env **env_out)
{
	const struct env_posix_opts opts = { .sock_max = 256 };

	return env_posix_create(&opts, env_out);
}

static int uring_create(struct env **env_out)
{
	const struct env_posix_opts opts = { .sock_max = 256, .io_thread_count = 1 };
	char message[ENV_TEXT_SIZE];

	return env_open(ENV_CHOICE_URING, &opts, env_out, message);
}

/*
 * The same with sockets that are stingy: a send or recv moves a part, and one of more than a page
 * may say "not now". A real one may, but over loopback rarely does.
 */
static struct env_ops stingy_ops;
static const struct env_ops *real_ops;
static uint32_t stingy_state;

static uint32_t stingy_random(uint32_t below)
{
	stingy_state = stingy_state * 1664525u + 1013904223u;
	return (stingy_state >> 8) % below;
}

/* A beginning of iov, of at most 1 byte to 64 KiB, small ones as often as large ones. */
static uint32_t stingy_cut(const struct iovec *iov, uint32_t iov_count, struct iovec *cut)
{
	uint64_t rest = 1 + stingy_random(1u << stingy_random(17));
	uint32_t count = 0;

	while (rest > 0 && count < iov_count) {
		cut[count] = iov[count];
		cut[count].iov_len = MIN(rest, cut[count].iov_len);
		rest -= cut[count++].iov_len;
	}
	return count;
}

static bool is_refused(const struct iovec *iov, uint32_t iov_count)
{
	uint64_t size = 0;

	for (uint32_t i = 0; i < iov_count; i++)
		size += iov[i].iov_len;
	return size > PAGE_SIZE && stingy_random(8) == 0;
}

static ssize_t stingy_send(struct env *env, struct env_sock *sock, const struct iovec *iov,
			   uint32_t iov_count)
{
	struct iovec cut[ENV_IOV_MAX];

	if (is_refused(iov, iov_count))
		return -EAGAIN;
	return real_ops->sock_send(env, sock, cut, stingy_cut(iov, iov_count, cut));
}

static ssize_t stingy_recv(struct env *env, struct env_sock *sock, const struct iovec *iov,
			   uint32_t iov_count)
{
	struct iovec cut[ENV_IOV_MAX];

	if (is_refused(iov, iov_count))
		return -EAGAIN;
	return real_ops->sock_recv(env, sock, cut, stingy_cut(iov, iov_count, cut));
}

/* "It need not": pieces so small, if nobody reads them, the kernel acknowledges only after 40 ms.
 */
static void stingy_want(struct env *env, struct env_sock *sock, uint32_t size)
{
}

static int stingy_create(struct env **env_out)
{
	int rc = posix_create(env_out);

	if (rc < 0)
		return rc;
	real_ops = (*env_out)->ops;
	stingy_ops = *real_ops;
	stingy_ops.sock_send = stingy_send;
	stingy_ops.sock_recv = stingy_recv;
	stingy_ops.sock_want = stingy_want;
	stingy_state = 1;
	(*env_out)->ops = &stingy_ops;
	return 0;
}

/* The simulator's sockets: a virtual clock, any delay, any chunks. One process with both ends. */
static struct sim sim;

static int simulated_create(struct env **env_out)
{
	sim_init(&sim, 1, false);
	*env_out = &sim_env_create(&sim, "pair", 0)->env;
	return 0;
}

static void simulated_destroy(struct env **env)
{
	struct sim_env *self = sim_env_of(*env);

	sim_env_destroy(&self);
	sim_fini(&sim);
	*env = NULL;
}

const struct pair_kind pair_kinds[] = {
	{ "tcp", &xprt_tcp, posix_create, env_posix_destroy, "127.0.0.1:0", false },
	{ "tcp over stingy sockets", &xprt_tcp, stingy_create, env_posix_destroy, "127.0.0.1:0",
	  false },
	{ "tcp over Unix sockets", &xprt_tcp, posix_create, env_posix_destroy, NULL, false },
	{ "tcp under TLS", &xprt_tcp, posix_create, env_posix_destroy, "127.0.0.1:0", true },
	{ "tcp under TLS over stingy sockets", &xprt_tcp, stingy_create, env_posix_destroy,
	  "127.0.0.1:0", true },
	{ "tcp over simulated sockets", &xprt_tcp, simulated_create, simulated_destroy,
	  "10.0.0.1:9900", false },
	{ "loop", &xprt_loop, simulated_create, simulated_destroy, "here", false },
	{ "loop mapped", &xprt_loop_mapped, simulated_create, simulated_destroy, "here", false },
	{ "shm", &xprt_shm, posix_create, env_posix_destroy, NULL, false },
	{ "shm over io_uring", &xprt_shm, uring_create, env_close, NULL, false },
};
const size_t pair_kind_count = ARRAY_LEN(pair_kinds);
const struct pair_kind *const pair_shm = &pair_kinds[ARRAY_LEN(pair_kinds) - 2];

bool pair_kind_is_here(const struct pair_kind *kind)
{
	struct env *env = NULL;

	if (kind->env_create != uring_create)
		return true;
	if (kind->env_create(&env) < 0) {
		print_message("%s is passed over: it is not allowed here\n", kind->name);
		return false;
	}
	kind->env_destroy(&env);
	return true;
}

static bool kind_is_unix(const struct pair_kind *kind)
{
	return kind->address == NULL;
}

/* --- what both ends record --- */

static struct pair_end *end_of(struct xprt_lane *lane)
{
	struct pair *pair = lane->ctx;

	return lane->user == &pair_server_user ? &pair->server : &pair->client;
}

/* Lanes beyond those of a session are in no slot: NO_SLOT. */
#define NO_SLOT 0xff

static uint32_t lane_index(struct xprt_lane *lane)
{
	const struct xprt_group *group = &end_of(lane)->group;

	for (uint32_t i = 0; i < group->lane_count; i++) {
		if (group->lanes[i] == lane)
			return i;
	}
	return NO_SLOT;
}

static int on_frame(struct xprt_lane *lane, const struct xprt_frame *frame)
{
	struct pair_end *end = end_of(lane);
	const struct wire_header *header = frame->header;
	struct pair_frame *record = &end->frames[end->frame_count++];

	assert_true(end->frame_count <= PAIR_FRAME_MAX);
	assert_int_equal((uintptr_t)frame->body % 8, 0);
	assert_int_equal(frame->payload != NULL, header->payload_size > 0);
	*record = (struct pair_frame) {
		.kind = header->kind,
		.lane = (uint8_t)lane_index(lane),
		.count = header->count,
		.request = header->request,
		.body_size = header->body_size,
		.payload_size = header->payload_size,
		.crc = crc32c(crc32c(0, frame->body, header->body_size), frame->payload,
			      header->payload_size),
	};
	if (end->on_frame != NULL)
		end->on_frame(end, frame);
	if (end->closes_in_frame) {
		struct xprt_lane **slot = &end->group.lanes[record->lane];

		lane->ops->close(slot);
		assert_null(*slot);
	}
	return end->frame_rc;
}

static bool on_tls_key(struct xprt_lane *lane, char identity[AUTH_TLS_IDENTITY_MAX],
		       uint8_t key_out[AUTH_SECRET_SIZE])
{
	const struct pair *pair = lane->ctx;
	bool is_server = lane->user == &pair_server_user;

	memset(key_out, 0, AUTH_SECRET_SIZE);
	key_out[0] = pair->tls_keys[is_server];
	if (!is_server)
		snprintf(identity, AUTH_TLS_IDENTITY_MAX, "the client");
	else
		assert_string_equal(identity, "the client");
	return !is_server || !pair->is_tls_nobody;
}

static void on_writable(struct xprt_lane *lane)
{
	end_of(lane)->writable++;
}

static void on_closed(struct xprt_lane *lane, int why)
{
	struct pair_end *end = end_of(lane);

	assert_true(why < 0);
	end->closed++;
	end->why = why;
	if (end->fence != NULL)
		lane->ops->fence(lane, end->fence);
	if (lane_index(lane) != NO_SLOT)
		end->group.lanes[lane_index(lane)] = NULL;
}

/* --- the server's end --- */

static int on_accepted(struct xprt_listener *listener, struct xprt_lane *lane,
		       const struct wire_preface *preface)
{
	struct pair *pair = listener->ctx;
	uint64_t index = preface->session - 1;

	if (pair->accept_rc < 0)
		return pair->accept_rc;
	pair->server.opened++;
	if (index < WIRE_LANE_MAX) {
		assert_null(pair->server.group.lanes[index]);
		pair->server.group.lanes[index] = lane;
		pair->server.group.lane_count =
			MAX(pair->server.group.lane_count, (uint32_t)index + 1);
	}
	lane->group = pair->is_before_hello ? NULL : &pair->server.group;
	lane->ctx = pair;
	return 0;
}

static void never_opened(struct xprt_lane *lane)
{
	fail_msg("opened() on the server");
}

static int never_locate(struct xprt_lane *lane, enum wire_kind kind, uint64_t request,
			uint32_t item, uint64_t offset, uint32_t size, struct iovec *iov,
			uint32_t iov_max)
{
	fail_msg("locate() on the server");
	return -EINVAL;
}

static void never_landed(struct xprt_lane *lane, enum wire_kind kind, uint64_t request,
			 uint32_t item, uint64_t offset, uint32_t size)
{
	fail_msg("landed() on the server");
}

const struct xprt_user pair_server_user = {
	.accepted = on_accepted,
	.opened = never_opened,
	.frame = on_frame,
	.tls_key = on_tls_key,
	.locate = never_locate,
	.landed = never_landed,
	.writable = on_writable,
	.closed = on_closed,
};

/* --- the client's end --- */

static int never_accepted(struct xprt_listener *listener, struct xprt_lane *lane,
			  const struct wire_preface *preface)
{
	fail_msg("accepted() on the client");
	return -EINVAL;
}

static void on_opened(struct xprt_lane *lane)
{
	end_of(lane)->opened++;
}

static struct pair_block *block_find(struct pair *pair, uint64_t request)
{
	for (uint32_t i = 0; i < pair->block_count; i++) {
		if (pair->blocks[i].request == request && !pair->blocks[i].is_gone)
			return &pair->blocks[i];
	}
	return NULL;
}

static int on_locate(struct xprt_lane *lane, enum wire_kind kind, uint64_t request, uint32_t item,
		     uint64_t offset, uint32_t size, struct iovec *iov, uint32_t iov_max)
{
	struct pair_block *block = block_find(lane->ctx, request);
	uint32_t count = 0;

	if (block == NULL)
		return -ECANCELED;
	assert_true(size > 0);
	if (item != 0 || offset > block->size || size > block->size - offset ||
	    (kind == WIRE_DATA_GET && block->is_put))
		return -ERR_PROTOCOL;
	while (size > 0 && count < iov_max) {
		uint32_t step = MIN(size, block->piece_size);

		iov[count++] = (struct iovec) { block->bytes + offset, step };
		offset += step;
		size -= step;
	}
	return (int)count;
}

static void on_landed(struct xprt_lane *lane, enum wire_kind kind, uint64_t request, uint32_t item,
		      uint64_t offset, uint32_t size)
{
	struct pair_block *block = block_find(lane->ctx, request);

	assert_non_null(block);
	if (kind == WIRE_DATA_GET)
		block->got += size;
	else
		block->sent += size;
}

const struct xprt_user pair_client_user = {
	.accepted = never_accepted,
	.opened = on_opened,
	.frame = on_frame,
	.tls_key = on_tls_key,
	.locate = on_locate,
	.landed = on_landed,
	.writable = on_writable,
	.closed = on_closed,
};

/* --- setting up --- */

static void end_init(struct pair_end *end, struct pair *pair)
{
	*end = (struct pair_end) { .frame_rc = 0 };
	xprt_group_init(&end->group, pair);
	end->frames = calloc(PAIR_FRAME_MAX, sizeof(*end->frames));
	assert_non_null(end->frames);
}

static void end_fini(struct pair_end *end, const struct xprt_ops *ops)
{
	for (uint32_t i = 0; i < end->group.lane_count; i++)
		ops->close(&end->group.lanes[i]);
	free(end->frames);
}

/* --- who reads nothing --- */

static struct {
	struct env_ops ops;
	const struct env_ops *real;
	const struct env_sock *socks[2 * WIRE_LANE_MAX];
	uint32_t count;
} held;

static bool is_held(const struct env_sock *sock)
{
	for (uint32_t i = 0; i < held.count; i++) {
		if (held.socks[i] == sock)
			return true;
	}
	return false;
}

static ssize_t held_recv(struct env *env, struct env_sock *sock, const struct iovec *iov,
			 uint32_t iov_count)
{
	return is_held(sock) ? -EAGAIN : held.real->sock_recv(env, sock, iov, iov_count);
}

bool pair_hold(struct pair *pair, struct xprt_lane *lane)
{
	if (pair->kind->ops != &xprt_tcp)
		return false;
	if (held.count == 0) {
		held.real = pair->env->ops;
		held.ops = *held.real;
		held.ops.sock_recv = held_recv;
		pair->env->ops = &held.ops;
	}
	if (!is_held(tcp_of(lane)->sock))
		held.socks[held.count++] = tcp_of(lane)->sock;
	return true;
}

void pair_release(struct pair *pair)
{
	if (held.count > 0)
		pair->env->ops = held.real;
	held.count = 0;
}

/* --- a pair --- */

void pair_init(struct pair *pair, const struct pair_kind *kind)
{
	int rc;

	held.count = 0; /* of a test that failed */
	memset(pair, 0, sizeof(*pair));
	pair->kind = kind;
	pair->lane_max = 80;
	rc = kind->env_create(&pair->env);
	assert_int_equal(rc, 0);
	end_init(&pair->server, pair);
	end_init(&pair->client, pair);
	snprintf(pair->unix_path, sizeof(pair->unix_path), "unix:/tmp/ctxkv-test-xprt-%d.sock",
		 (int)getpid());
	rc = kind->ops->listen(kind->ops, pair->env,
			       kind_is_unix(kind) ? pair->unix_path : kind->address, pair->lane_max,
			       &pair_server_user, pair, &pair->listener);
	assert_int_equal(rc, 0);
	kind->ops->listener_name(pair->listener, pair->address, sizeof(pair->address));
}

void pair_fini(struct pair *pair)
{
	pair_release(pair);
	end_fini(&pair->client, pair->kind->ops);
	end_fini(&pair->server, pair->kind->ops);
	pair->kind->ops->unlisten(&pair->listener);
	assert_null(pair->listener);
	if (kind_is_unix(pair->kind))
		(void)unlink(pair->unix_path + strlen("unix:")); /* gone when nothing listened */
	for (uint32_t i = 0; i < pair->block_count; i++)
		pair_memory_free(&pair->blocks[i].memory);
	pair->kind->env_destroy(&pair->env);
}

struct xprt_lane *pair_dial(struct pair *pair, const char *address, uint32_t index)
{
	struct wire_preface preface = {
		.version_min = WIRE_VERSION_MIN,
		.version_max = WIRE_VERSION,
		.mode = WIRE_MODE_JOIN,
		.flags = pair->kind->is_tls ? WIRE_PREFACE_TLS : 0,
		.reactor = 0xffff,
		.incarnation = 1,
		.session = index + 1,
	};
	struct xprt_lane *lane = NULL;
	int rc;

	memcpy(preface.magic, WIRE_PREFACE_MAGIC, sizeof(preface.magic));
	rc = pair->kind->ops->connect(pair->env, address, &preface, &pair_client_user, pair, &lane);
	if (rc < 0)
		return NULL;
	assert_non_null(lane);
	lane->group = &pair->client.group;
	pair->client.group.lanes[index] = lane;
	pair->client.group.lane_count = MAX(pair->client.group.lane_count, index + 1);
	return lane;
}

void pair_connect(struct pair *pair, uint32_t lane_count)
{
	for (uint32_t i = 0; i < lane_count; i++)
		assert_non_null(pair_dial(pair, pair->address, i));
	PAIR_UNTIL(pair, pair->client.opened == lane_count && pair->server.opened == lane_count);
}

void pair_poll(struct pair *pair)
{
	int rc = pair->env->ops->poll(pair->env, NS_PER_MS);

	assert_true(rc >= 0);
}

static uint64_t pair_bytes(const struct pair *pair)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < WIRE_LANE_MAX; i++) {
		if (pair->client.group.lanes[i] != NULL)
			sum += pair->client.group.lanes[i]->bytes_in +
			       pair->client.group.lanes[i]->bytes_out;
		if (pair->server.group.lanes[i] != NULL)
			sum += pair->server.group.lanes[i]->bytes_in +
			       pair->server.group.lanes[i]->bytes_out;
	}
	return sum + pair->client.closed + pair->server.closed;
}

void pair_settle(struct pair *pair)
{
	uint64_t before = pair_bytes(pair);
	uint64_t since_ns = env_now_ns(pair->env);

	while (env_now_ns(pair->env) - since_ns < PAIR_QUIET_NS) {
		pair_poll(pair);
		if (pair_bytes(pair) != before)
			since_ns = env_now_ns(pair->env);
		before = pair_bytes(pair);
	}
}

/* --- memory and moves --- */

struct pair_memory pair_memory_make(const struct pair *pair, size_t size)
{
	struct pair_memory memory = { .size = size, .fd = -1 };

	if ((pair->kind->ops->caps & XPRT_CAP_MAPPED) == 0) {
		memory.bytes = calloc(1, size);
		assert_non_null(memory.bytes);
		return memory;
	}
	memory.fd = memfd_create("pair", MFD_CLOEXEC);
	assert_true(memory.fd >= 0);
	assert_int_equal(ftruncate(memory.fd, (off_t)size), 0);
	memory.bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd, 0);
	assert_ptr_not_equal(memory.bytes, MAP_FAILED);
	return memory;
}

void pair_memory_free(struct pair_memory *memory)
{
	if (memory->fd < 0) {
		free(memory->bytes);
		return;
	}
	munmap(memory->bytes, memory->size);
	close(memory->fd);
}

void pair_fill(uint8_t *bytes, uint32_t size, uint32_t seed)
{
	uint32_t x = seed * 2654435761u + 1;

	for (uint32_t i = 0; i < size; i++) {
		x = x * 1664525u + 1013904223u;
		bytes[i] = (uint8_t)(x >> 24);
	}
}

bool pair_is_filled(const uint8_t *bytes, uint32_t size, uint32_t seed)
{
	uint32_t x = seed * 2654435761u + 1;

	for (uint32_t i = 0; i < size; i++) {
		x = x * 1664525u + 1013904223u;
		if (bytes[i] != (uint8_t)(x >> 24))
			return false;
	}
	return true;
}

/* Direct transports: the block is a region of its own, wanted in two segments (or one). */
static void block_declare(struct pair *pair, struct pair_block *block)
{
	const struct xprt_ops *ops = pair->kind->ops;
	uint32_t half = block->size / 2;
	int rc;

	block->region = (struct xprt_region) {
		.base = block->bytes,
		.size = block->size,
		.id = pair->block_count,
	};
	rc = ops->declare(pair->client.group.lanes[0], &block->region);
	assert_int_equal(rc, 0);
	rc = ops->region_add(&pair->server.group, &block->region.declare);
	assert_int_equal(rc, 0);
	block->segs[0] = (struct wire_seg) { block->region.id, block->size - half, 0 };
	block->segs[1] = (struct wire_seg) { block->region.id, half, block->size - half };
}

struct pair_block *pair_block_add(struct pair *pair, uint64_t request, uint32_t size,
				  uint32_t piece_size)
{
	struct pair_block *block = &pair->blocks[pair->block_count++];

	assert_true(pair->block_count <= PAIR_BLOCK_MAX);
	*block = (struct pair_block) {
		.request = request,
		.size = size,
		.piece_size = piece_size,
		.memory = pair_memory_make(pair, size),
	};
	block->bytes = block->memory.bytes;
	if ((pair->kind->ops->caps & XPRT_CAP_DIRECT) != 0)
		block_declare(pair, block);
	return block;
}

static void on_done(struct xprt_move *xprt_move, int rc)
{
	struct pair_move *move = CONTAINER_OF(xprt_move, struct pair_move, move);

	move->done++;
	move->rc = rc;
	if (move->pushes != NULL) {
		struct xprt_move *next = move->pushes;

		move->pushes = NULL;
		xprt_move->lane->ops->push(xprt_move->lane, next);
	}
	if (move->closes_lane) {
		struct xprt_lane **slot = &move->group->lanes[0];

		if (*slot != NULL)
			(*slot)->ops->close(slot);
	}
}

void pair_move_init(struct pair_move *move, struct pair *pair, struct pair_block *block,
		    uint32_t offset, uint32_t size, uint32_t piece_count)
{
	uint32_t piece = MAX(1, size / piece_count);
	uint32_t at = 0;

	*move = (struct pair_move) {
		.move = {
			.request = block->request,
			.size = size,
			.offset = offset,
			.done = on_done,
		},
		.bytes = calloc(1, size),
		.group = &pair->server.group,
	};
	assert_non_null(move->bytes);
	while (at < size) {
		bool is_last = move->move.iov_count + 1 == piece_count;
		uint32_t step = is_last ? size - at : MIN(piece, size - at);

		move->move.iov[move->move.iov_count++] = (struct iovec) { move->bytes + at, step };
		at += step;
	}
	if (block->region.id != 0) {
		move->move.segs = block->segs;
		move->move.seg_count = block->segs[1].size > 0 ? 2 : 1;
	}
}

void pair_move_fini(struct pair_move *move)
{
	free(move->bytes);
	move->bytes = NULL;
}
