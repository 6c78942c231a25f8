/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client of shm may do to a server: pass wrong descriptors or none, move its ends of the
 * rings where they cannot be, rewrite what is being read, send frames and notes that are none. Each
 * ends that lane, with one closed() where it was accepted, and nothing else: no memory is touched
 * that was not given, no descriptor is kept, other lanes go on.
 */
#include "pair.h"

#include "../../src/xprt/shm/shm.h"
#include "../lib/linger.h"
#include "../lib/t.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A client that is a bare socket and the memory. */
struct peer {
	struct pair *pair;
	int fd;
	int memory_fd;
	struct shm_memory *memory;
	struct ring tx;
	struct ring rx;
};

/* What is closed behind the loop's back is closed soon. */
static uint32_t open_fds(struct pair *pair)
{
	uint32_t count = 0;
	DIR *dir;

	for (uint32_t i = 0; i < 5000 && pair->env->ops->fd_waiting(pair->env) > 0; i++)
		usleep(1000);
	dir = opendir("/proc/self/fd");
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

static int memory_fd_make(size_t size, int seals)
{
	int fd = memfd_create("peer", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	if (seals != 0)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

/* Send bytes with descriptors beside them. */
static void send_with_fds(int sock, const void *bytes, size_t size, const int *fds, uint32_t count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(32 * sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)bytes, size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count > 0) {
		struct cmsghdr *head;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(head), fds, count * sizeof(int));
	}
	assert_int_equal(sendmsg(sock, &message, MSG_NOSIGNAL), size);
}

static int peer_socket(const struct pair *pair)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", pair->address + strlen("unix:"));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static struct wire_preface preface_make(uint32_t index)
{
	struct wire_preface preface = {
		.version_min = WIRE_VERSION_MIN,
		.version_max = WIRE_VERSION,
		.mode = WIRE_MODE_JOIN,
		.reactor = 0xffff,
		.incarnation = 1,
		.session = index + 1,
	};

	memcpy(preface.magic, WIRE_PREFACE_MAGIC, sizeof(preface.magic));
	return preface;
}

/* A peer with memory as it should be, whose preface is not sent yet. */
static void peer_init(struct peer *peer, struct pair *pair)
{
	*peer = (struct peer) { .pair = pair, .fd = peer_socket(pair) };
	peer->memory_fd = memory_fd_make(sizeof(struct shm_memory), F_SEAL_SHRINK | F_SEAL_GROW);
	peer->memory = mmap(NULL, sizeof(struct shm_memory), PROT_READ | PROT_WRITE, MAP_SHARED,
			    peer->memory_fd, 0);
	assert_ptr_not_equal(peer->memory, MAP_FAILED);
	peer->memory->version = SHM_VERSION;
	ring_init(&peer->tx, &peer->memory->rings[SHM_C2S], peer->memory->bytes[SHM_C2S]);
	ring_init(&peer->rx, &peer->memory->rings[SHM_S2C], peer->memory->bytes[SHM_S2C]);
}

static void peer_connect(struct peer *peer, struct pair *pair, uint32_t index)
{
	struct wire_preface preface = preface_make(index);
	uint32_t opened = pair->server.opened;

	peer_init(peer, pair);
	send_with_fds(peer->fd, &preface, sizeof(preface), &peer->memory_fd, 1);
	PAIR_UNTIL(pair, pair->server.opened == opened + 1);
}

static void peer_close(struct peer *peer)
{
	if (peer->fd >= 0)
		close(peer->fd);
	close(peer->memory_fd);
	munmap(peer->memory, sizeof(struct shm_memory));
}

static void peer_note(struct peer *peer, struct shm_note note, const int *fds, uint32_t count)
{
	send_with_fds(peer->fd, &note, sizeof(note), fds, count);
}

static void peer_bell(struct peer *peer)
{
	peer_note(peer, (struct shm_note) { .kind = SHM_NOTE_BELL }, NULL, 0);
}

/* The server has ended it: the socket is at its end. */
static bool peer_is_ended(struct peer *peer)
{
	char bytes[256];
	ssize_t got;

	pair_poll(peer->pair);
	do
		got = recv(peer->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	while (got > 0);
	return got == 0 || errno == ECONNRESET;
}

/* A PROBE of count keys, into the ring; not published. */
static void peer_write_probe(struct peer *peer, uint64_t request, uint16_t count)
{
	static uint8_t body[WIRE_BODY_MAX];
	struct wire_header header;
	uint32_t size = (uint32_t)(sizeof(struct wire_request) + count * sizeof(struct wire_key));

	wire_header_init(&header, WIRE_PROBE, request, count, size);
	ring_write(&peer->tx, &header, sizeof(header));
	ring_write(&peer->tx, body, size);
	ring_write_pad(&peer->tx);
}

/* A GET of count items. */
static void peer_write_get(struct peer *peer, uint64_t request, uint16_t count)
{
	const struct wire_get item = { .size = PAGE_SIZE };
	const struct wire_request head = { .budget_ns = 1 };
	struct wire_header header;

	wire_header_init(&header, WIRE_GET, request, count,
			 (uint32_t)(sizeof(head) + count * sizeof(item)));
	ring_write(&peer->tx, &header, sizeof(header));
	ring_write(&peer->tx, &head, sizeof(head));
	for (uint32_t i = 0; i < count; i++)
		ring_write(&peer->tx, &item, sizeof(item));
	ring_write_pad(&peer->tx);
}

/* --- the door --- */

enum {
	GOOD,
	NONE,
	PIPE,
	FILE_ON_DISK,
	UNSEALED,
	TOO_SMALL,
	WRONG_VERSION,
	TWO,
	TWENTY,
	MEMORY_COUNT
};

/* Descriptors of that kind; the caller closes them. */
static uint32_t wrong_fds(int what, int *fds)
{
	char path[] = "/var/tmp/ctxkv-test-shm-XXXXXX";
	size_t size = sizeof(struct shm_memory);
	int seals = F_SEAL_SHRINK | F_SEAL_GROW;

	switch (what) {
	case NONE:
		return 0;
	case PIPE:
		assert_int_equal(pipe(fds), 0);
		close(fds[1]);
		return 1;
	case FILE_ON_DISK:
		fds[0] = mkstemp(path);
		assert_int_equal(ftruncate(fds[0], (off_t)size), 0);
		unlink(path);
		return 1;
	case UNSEALED:
		fds[0] = memory_fd_make(size, 0);
		return 1;
	case TOO_SMALL:
		fds[0] = memory_fd_make(size - PAGE_SIZE, seals);
		return 1;
	case TWO:
	case TWENTY:
		for (int i = 0; i < (what == TWO ? 2 : 20); i++)
			fds[i] = memory_fd_make(size, seals);
		return what == TWO ? 2 : 20;
	default: /* its version is zero */
		fds[0] = memory_fd_make(size, seals);
		return 1;
	}
}

static void memory_that_is_none_is_refused(void **state)
{
	struct pair pair;

	pair_init(&pair, pair_shm);
	for (int what = NONE; what < MEMORY_COUNT; what++) {
		struct wire_preface preface = preface_make(0);
		uint32_t before = open_fds(&pair);
		struct peer peer;
		int fds[32];
		uint32_t count;

		peer_init(&peer, &pair);
		count = wrong_fds(what, fds);
		send_with_fds(peer.fd, &preface, sizeof(preface), fds, count);
		for (uint32_t i = 0; i < count; i++)
			close(fds[i]);
		PAIR_UNTIL(&pair, peer_is_ended(&peer));
		assert_int_equal(pair.server.opened, 0);
		assert_int_equal(pair.server.closed, 0);
		peer_close(&peer);
		assert_int_equal(open_fds(&pair), before);
	}
	pair_connect(&pair, 1); /* the door is as it was */
	pair_fini(&pair);
}

static void a_preface_that_is_none_ends_the_connection(void **state)
{
	struct wire_preface preface = preface_make(0);
	struct peer peer;
	struct pair pair;

	pair_init(&pair, pair_shm);
	peer_init(&peer, &pair);
	preface.magic[0] ^= 1;
	send_with_fds(peer.fd, &preface, sizeof(preface), &peer.memory_fd, 1);
	PAIR_UNTIL(&pair, peer_is_ended(&peer));
	assert_int_equal(pair.server.opened, 0);
	peer_close(&peer);
	pair_fini(&pair);
}

/* Byte by byte, as a socket may bring it. */
static void a_preface_may_come_in_pieces(void **state)
{
	struct wire_preface preface = preface_make(0);
	struct peer peer;
	struct pair pair;

	pair_init(&pair, pair_shm);
	peer_init(&peer, &pair);
	for (size_t i = 0; i < sizeof(preface); i++) {
		send_with_fds(peer.fd, (uint8_t *)&preface + i, 1, &peer.memory_fd, i == 7);
		pair_poll(&pair);
	}
	PAIR_UNTIL(&pair, pair.server.opened == 1);
	peer_close(&peer);
	PAIR_UNTIL(&pair, pair.server.closed == 1);
	pair_fini(&pair);
}

/* Of another version: it hears so, and its frames are not looked at. */
static void a_refused_client_reads_why(void **state)
{
	struct wire_preface preface = preface_make(0);
	struct wire_header header;
	struct wire_refuse refuse;
	struct peer peer;
	struct pair pair;

	pair_init(&pair, pair_shm);
	peer_init(&peer, &pair);
	preface.version_min = preface.version_max = WIRE_VERSION + 1;
	peer_write_probe(&peer, 1, 1);
	ring_publish_tail(&peer.tx);
	send_with_fds(peer.fd, &preface, sizeof(preface), &peer.memory_fd, 1);
	PAIR_UNTIL(&pair,
		   (pair_poll(&pair), ring_see_tail(&peer.rx) == 0 && ring_have(&peer.rx) > 0));
	ring_read(&peer.rx, &header, sizeof(header));
	assert_int_equal(header.kind, WIRE_REFUSE);
	ring_read(&peer.rx, &refuse, sizeof(refuse));
	assert_int_equal(refuse.code, -ERR_VERSION);
	pair_settle(&pair);
	assert_int_equal(pair.server.frame_count, 0);
	peer_close(&peer);
	pair_settle(&pair);
	pair_fini(&pair);
}

/* --- positions --- */

static void positions_that_cannot_be_end_the_lane(void **state)
{
	const struct {
		bool is_tail;
		uint64_t position; /* beyond what is right */
	} cases[] = {
		{ true, 1 },
		{ true, RING_SIZE + 8 },
		{ true, UINT64_MAX - 7 },
		{ true, UINT64_C(1) << 32 },
		{ true, 40 }, /* not even a header */
		{ false, 8 },
		{ false, UINT64_MAX - 7 },
		{ false, RING_SIZE },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct peer peer;
		struct pair pair;

		pair_init(&pair, pair_shm);
		peer_connect(&peer, &pair, 0);
		if (cases[i].is_tail)
			peer.memory->rings[SHM_C2S].tail += cases[i].position;
		else
			peer.memory->rings[SHM_S2C].head += cases[i].position;
		peer_bell(&peer);
		/* A head is looked at when there is no room. */
		while (!cases[i].is_tail && pair.server.closed == 0) {
			struct wire_text text = { .size = 1000 };
			static uint8_t body[1100];
			struct wire_header header;

			memcpy(body, &text, sizeof(text));
			wire_header_init(&header, WIRE_TEXT, 1, 0, sizeof(text) + 1000);
			if (pair.server.group.lanes[0]->ops->send(pair.server.group.lanes[0],
								  &header, body, NULL, 0) != 0)
				pair_poll(&pair);
		}
		PAIR_UNTIL(&pair, pair.server.closed == 1);
		assert_int_equal(pair.server.why, -ERR_PROTOCOL);
		PAIR_UNTIL(&pair, peer_is_ended(&peer));
		peer_close(&peer);
		pair_fini(&pair);
	}
}

/* --- frames --- */

static void frames_that_are_none_end_the_lane(void **state)
{
	const struct {
		struct wire_header header;
		uint32_t published; /* bytes, header included */
	} cases[] = {
		{ { .magic = 0 }, 48 },
		{ { .magic = WIRE_MAGIC,
		    .kind = WIRE_PROBE,
		    .count = 1,
		    .body_size = 96,
		    .request = 1 },
		  48 + 88 }, /* cut short */
		{ { .magic = WIRE_MAGIC,
		    .kind = WIRE_PROBE,
		    .count = 1,
		    .body_size = 96,
		    .request = 1 },
		  48 },
		{ { .magic = WIRE_MAGIC,
		    .kind = WIRE_PROBE,
		    .count = 1,
		    .body_size = 65528,
		    .request = 1 },
		  48 + 96 },
		{ { .magic = WIRE_MAGIC,
		    .kind = WIRE_PROBE,
		    .count = 1,
		    .body_size = UINT32_MAX,
		    .request = 1 },
		  48 + 96 },
		{ { .magic = WIRE_MAGIC,
		    .kind = WIRE_PUT,
		    .count = 1,
		    .body_size = 152,
		    .payload_size = UINT32_MAX,
		    .request = 1 },
		  48 + 96 },
		{ { .magic = WIRE_MAGIC,
		    .kind = WIRE_DATA_PUT,
		    .body_size = 16,
		    .payload_size = 32,
		    .request = 1 },
		  48 + 48 }, /* payload does not go in frames here */
		{ { .magic = WIRE_MAGIC,
		    .kind = WIRE_REPLY,
		    .count = 0,
		    .body_size = 0,
		    .request = 1 },
		  48 }, /* the server's */
		{ { .magic = WIRE_MAGIC, .kind = 200, .body_size = 65536 + 8, .request = 1 }, 48 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct peer peer;
		struct pair pair;

		pair_init(&pair, pair_shm);
		peer_connect(&peer, &pair, 0);
		ring_write(&peer.tx, &cases[i].header, sizeof(cases[i].header));
		peer.tx.own = cases[i].published;
		ring_publish_tail(&peer.tx);
		peer_bell(&peer);
		PAIR_UNTIL(&pair, pair.server.closed == 1);
		assert_int_equal(pair.server.why, -ERR_PROTOCOL);
		assert_int_equal(pair.server.frame_count, 0);
		peer_close(&peer);
		pair_fini(&pair);
	}
}

/* A newer client's: the server's user says that it does not know it. */
static void a_kind_that_is_not_known_is_handed_on(void **state)
{
	struct wire_header header;
	struct peer peer;
	struct pair pair;

	pair_init(&pair, pair_shm);
	peer_connect(&peer, &pair, 0);
	wire_header_init(&header, WIRE_PROBE, 1, 0, 24);
	header.kind = 200;
	ring_write(&peer.tx, &header, sizeof(header));
	ring_write(&peer.tx, "twenty-four bytes, whole", 24);
	ring_publish_tail(&peer.tx);
	peer_bell(&peer);
	PAIR_UNTIL(&pair, pair.server.frame_count == 1);
	assert_int_equal(pair.server.frames[0].kind, 200);
	assert_int_equal(pair.server.closed, 0);
	peer_close(&peer);
	pair_fini(&pair);
}

/* --- rewriting --- */

struct rewriter {
	struct peer *peer;
	uint32_t seen;
};

/* The peer rewrites its ring while the server has a frame of it in hand. */
static void rewrite(struct pair_end *end, const struct xprt_frame *frame)
{
	struct rewriter *rewriter = end->ctx;
	const struct wire_header before = *frame->header;
	uint8_t body[4096];

	assert_true(before.body_size <= sizeof(body));
	memcpy(body, frame->body, before.body_size);
	memset(rewriter->peer->memory->bytes[SHM_C2S], 0xff, RING_SIZE);
	assert_memory_equal(frame->header, &before, sizeof(before));
	assert_memory_equal(frame->body, body, before.body_size);
	rewriter->seen++;
}

static void a_frame_in_hand_does_not_change(void **state)
{
	struct rewriter rewriter = { .seen = 0 };
	struct peer peer;
	struct pair pair;

	pair_init(&pair, pair_shm);
	peer_connect(&peer, &pair, 0);
	rewriter.peer = &peer;
	pair.server.on_frame = rewrite;
	pair.server.ctx = &rewriter;
	peer_write_probe(&peer, 1, 50);
	peer_write_probe(&peer, 2, 50); /* rewritten before it is read */
	ring_publish_tail(&peer.tx);
	peer_bell(&peer);
	PAIR_UNTIL(&pair, pair.server.closed == 1);
	assert_int_equal(rewriter.seen, 1);
	assert_int_equal(pair.server.why, -ERR_PROTOCOL);
	peer_close(&peer);
	pair_fini(&pair);
}

/* Whatever is written to the ring meanwhile: what the user gets is what passed the checks. */
static void recheck(struct pair_end *end, const struct xprt_frame *frame)
{
	assert_int_equal(wire_check_body(frame->header, frame->body), 0);
	(*(uint32_t *)end->ctx)++;
}

struct flipper {
	atomic_uint *word; /* what may be 0 only */
	atomic_bool is_running;
	atomic_bool is_stopping;
};

static void *flip(void *ctx)
{
	struct flipper *flipper = ctx;

	flipper->is_running = true;
	while (!flipper->is_stopping) {
		*flipper->word = UINT32_MAX;
		*flipper->word = 0;
	}
	return NULL;
}

static void what_is_checked_is_what_is_handed_on(void **state)
{
	uint32_t seen = 0;
	struct pair pair;

	pair_init(&pair, pair_shm);
	pair.server.on_frame = recheck;
	pair.server.ctx = &seen;
	for (uint32_t round = 0; round < 200; round++) {
		uint32_t closed = pair.server.closed;
		struct flipper flipper = { .is_stopping = false };
		struct peer peer;
		pthread_t thread;

		peer_connect(&peer, &pair, 0);
		peer_write_get(&peer, 1, 600);
		/* Of the first item: all others are checked behind it. */
		flipper.word = (void *)(peer.memory->bytes[SHM_C2S] + sizeof(struct wire_header) +
					sizeof(struct wire_request) +
					offsetof(struct wire_get, reserved1));
		assert_int_equal(pthread_create(&thread, NULL, flip, &flipper), 0);
		while (!flipper.is_running) {
		}
		ring_publish_tail(&peer.tx);
		peer_bell(&peer);
		pair_poll(&pair);
		pair_poll(&pair);
		flipper.is_stopping = true;
		pthread_join(thread, NULL);
		peer_close(&peer);
		PAIR_UNTIL(&pair, pair.server.closed == closed + 1);
		pair.server.frame_count = 0;
	}
	assert_true(seen > 0);
	pair_fini(&pair);
}

/* Bytes of many frames change at random, some while they are read. Nothing but lanes may end. */
static void rings_full_of_nonsense_harm_nobody_else(void **state)
{
	uint32_t x = 12345;
	struct pair pair;

	pair_init(&pair, pair_shm);
	assert_non_null(pair_dial(&pair, pair.address, 1));
	PAIR_UNTIL(&pair, pair.server.opened == 1);
	for (uint32_t round = 0; round < 300; round++) {
		uint32_t closed = pair.server.closed;
		struct peer peer;

		peer_connect(&peer, &pair, 0);
		for (uint32_t i = 0; i < 20; i++)
			peer_write_probe(&peer, i + 1, (uint16_t)(1 + (x >> 9) % 40));
		for (uint32_t i = 0; i < 5; i++) {
			x = x * 1664525u + 1013904223u;
			peer.memory->bytes[SHM_C2S][(x >> 8) % peer.tx.own] ^= (uint8_t)(x >> 3);
		}
		ring_publish_tail(&peer.tx);
		peer_bell(&peer);
		pair_poll(&pair);
		pair_poll(&pair);
		peer_close(&peer);
		PAIR_UNTIL(&pair, pair.server.closed == closed + 1);
		pair.server.frame_count = 0;
	}
	assert_non_null(pair.server.group.lanes[1]);
	pair_fini(&pair);
}

/* --- notes --- */

static void notes_that_do_not_belong_end_the_lane(void **state)
{
	const struct {
		struct shm_note note;
		uint32_t fd_count;
	} cases[] = {
		{ { .kind = 0 }, 0 },
		{ { .kind = 77 }, 0 },
		{ { .kind = SHM_NOTE_SERVER }, 1 },
		{ { .kind = SHM_NOTE_DIRECT, .value = 1 }, 0 },
		{ { .kind = SHM_NOTE_REGION, .value = 1, .size = PAGE_SIZE }, 0 },
		{ { .kind = SHM_NOTE_REGION, .value = 0, .size = PAGE_SIZE }, 1 },
		{ { .kind = SHM_NOTE_REGION, .value = 1, .size = PAGE_SIZE }, 2 },
		{ { .kind = SHM_NOTE_REGION, .value = 1, .size = PAGE_SIZE }, 20 },
		{ { .kind = SHM_NOTE_BELL }, 1 },
		{ { .kind = SHM_NOTE_BELL }, 16 },
		{ { .kind = SHM_NOTE_END }, 1 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint32_t before;
		struct peer peer;
		struct pair pair;
		int fds[32];

		pair_init(&pair, pair_shm);
		before = open_fds(&pair);
		peer_connect(&peer, &pair, 0);
		for (uint32_t k = 0; k < cases[i].fd_count; k++)
			fds[k] = memory_fd_make(PAGE_SIZE, 0);
		peer_note(&peer, cases[i].note, fds, cases[i].fd_count);
		for (uint32_t k = 0; k < cases[i].fd_count; k++)
			close(fds[k]);
		PAIR_UNTIL(&pair, pair.server.closed == 1);
		peer_close(&peer);
		assert_int_equal(open_fds(&pair), before);
		pair_fini(&pair);
	}
}

static void a_region_before_hello_ends_the_lane(void **state)
{
	const struct shm_note note = { .kind = SHM_NOTE_REGION, .value = 1, .size = PAGE_SIZE };
	struct peer peer;
	struct pair pair;
	int fd = memory_fd_make(PAGE_SIZE, 0);

	pair_init(&pair, pair_shm);
	pair.is_before_hello = true;
	peer_connect(&peer, &pair, 0);
	peer_note(&peer, note, &fd, 1);
	PAIR_UNTIL(&pair, pair.server.closed == 1);
	close(fd);
	peer_close(&peer);
	pair_fini(&pair);
}

/* A bell that found no room is not missed: what filled the socket wakes as well. */
static void every_note_wakes(void **state)
{
	struct peer peer;
	struct pair pair;
	int fd = memory_fd_make(PAGE_SIZE, 0);

	pair_init(&pair, pair_shm);
	peer_connect(&peer, &pair, 0);
	PAIR_UNTIL(&pair, peer.memory->rings[SHM_C2S].bytes_bell != 0); /* it sleeps */
	peer_write_probe(&peer, 1, 1);
	ring_publish_tail(&peer.tx);
	peer_note(&peer,
		  (struct shm_note) { .kind = SHM_NOTE_REGION, .value = 1, .size = PAGE_SIZE }, &fd,
		  1);
	PAIR_UNTIL(&pair, pair.server.frame_count == 1);
	close(fd);
	peer_close(&peer);
	pair_fini(&pair);
}

/* A client that could not say DECLARE notes the region once more; after DECLARE it may not. */
static void a_region_is_noted_again_until_it_is_declared(void **state)
{
	const struct shm_note note = { .kind = SHM_NOTE_REGION, .value = 1, .size = PAGE_SIZE };
	const struct wire_declare declare = {
		.region = 1, .kind = WIRE_REGION_SHM, .access = 3, .size = PAGE_SIZE
	};
	struct peer peer;
	struct pair pair;
	int fd = memory_fd_make(PAGE_SIZE, 0);
	uint32_t before;

	pair_init(&pair, pair_shm);
	peer_connect(&peer, &pair, 0);
	for (uint32_t i = 0; i < 3; i++)
		peer_note(&peer, note, &fd, 1);
	pair_settle(&pair);
	assert_int_equal(pair.server.closed, 0);
	assert_int_equal(xprt_shm.region_add(&pair.server.group, &declare), 0);
	before = open_fds(&pair);
	peer_note(&peer, note, &fd, 1);
	PAIR_UNTIL(&pair, pair.server.closed == 1);
	assert_int_equal(open_fds(&pair), before - 1); /* the server's socket */
	close(fd);
	peer_close(&peer);
	pair_fini(&pair);
}

static void regions_are_bounded(void **state)
{
	struct peer peer;
	struct pair pair;
	int fd = memory_fd_make(PAGE_SIZE, 0);

	pair_init(&pair, pair_shm);
	peer_connect(&peer, &pair, 0);
	for (uint32_t i = 0; i <= SHM_REGION_MAX; i++) {
		assert_int_equal(pair.server.closed, 0);
		peer_note(&peer,
			  (struct shm_note) {
				  .kind = SHM_NOTE_REGION, .value = i + 1, .size = PAGE_SIZE },
			  &fd, 1);
		if (i % 16 == 0)
			pair_poll(&pair);
	}
	PAIR_UNTIL(&pair, pair.server.closed == 1);
	close(fd);
	peer_close(&peer);
	pair_fini(&pair);
}

/* --- what waits at its last close --- */

enum { AS_MEMORY, BESIDE_A_BELL, AS_A_REGION, UNREAD, PASS_COUNT };

/* The descriptor is passed in that way; its lane is to end. */
static void pass(struct peer *peer, struct pair *pair, int way, int fd)
{
	struct wire_preface preface = preface_make(0);

	if (way == AS_MEMORY) {
		peer_init(peer, pair);
		send_with_fds(peer->fd, &preface, sizeof(preface), &fd, 1);
		return;
	}
	peer_connect(peer, pair, 0);
	if (way == UNREAD) /* behind one that ends the lane */
		peer_note(peer, (struct shm_note) { .kind = 77 }, NULL, 0);
	peer_note(peer,
		  (struct shm_note) { .kind = way == AS_A_REGION ? SHM_NOTE_REGION : SHM_NOTE_BELL,
				      .value = 1,
				      .size = PAGE_SIZE },
		  &fd, 1);
}

/* It would hold the loop for 30 s; others are served meanwhile. */
static void a_descriptor_that_waits_holds_nobody(void **state)
{
	for (int way = AS_MEMORY; way < PASS_COUNT; way++) {
		struct lingering linger;
		uint64_t begin_ns;
		struct peer peer;
		struct pair pair;

		pair_init(&pair, pair_shm);
		lingering_init(&linger);
		begin_ns = env_now_ns(pair.env);
		pass(&peer, &pair, way, linger.fd);
		close(linger.fd);
		linger.fd = -1;
		PAIR_UNTIL(&pair, peer_is_ended(&peer));
		pair_connect(&pair, 1);
		assert_true(env_now_ns(pair.env) - begin_ns < 10 * NS_PER_S);
		assert_true(pair.env->ops->fd_waiting(pair.env) > 0);
		peer_close(&peer);
		lingering_end(&linger);
		pair_fini(&pair);
	}
}

/* --- strangers --- */

/* Connections that send nothing: the door stays open for others. */
static void silent_strangers_do_not_close_the_door(void **state)
{
	int fds[100];
	struct pair pair;

	pair_init(&pair, pair_shm);
	for (uint32_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = peer_socket(&pair);
		pair_poll(&pair);
	}
	pair_connect(&pair, 1);
	for (uint32_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	pair_settle(&pair);
	assert_int_equal(pair.server.opened, 1);
	assert_int_equal(pair.server.closed, 0);
	pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_that_is_none_is_refused),
		cmocka_unit_test(a_preface_that_is_none_ends_the_connection),
		cmocka_unit_test(a_preface_may_come_in_pieces),
		cmocka_unit_test(a_refused_client_reads_why),
		cmocka_unit_test(positions_that_cannot_be_end_the_lane),
		cmocka_unit_test(frames_that_are_none_end_the_lane),
		cmocka_unit_test(a_kind_that_is_not_known_is_handed_on),
		cmocka_unit_test(a_frame_in_hand_does_not_change),
		cmocka_unit_test(what_is_checked_is_what_is_handed_on),
		cmocka_unit_test(rings_full_of_nonsense_harm_nobody_else),
		cmocka_unit_test(notes_that_do_not_belong_end_the_lane),
		cmocka_unit_test(a_region_before_hello_ends_the_lane),
		cmocka_unit_test(every_note_wakes),
		cmocka_unit_test(a_region_is_noted_again_until_it_is_declared),
		cmocka_unit_test(regions_are_bounded),
		cmocka_unit_test(a_descriptor_that_waits_holds_nobody),
		cmocka_unit_test(silent_strangers_do_not_close_the_door),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
