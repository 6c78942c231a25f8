/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's core over a transport that the test plays by hand, with a virtual clock. The test is
 * every server: it sees the frames that were sent and makes the transport's upcalls. A server is
 * told by the address that its lanes were connected to; what it welcomes with is row_of() it.
 */
#ifndef TEST_CLIENT_CORE_RIG_H
#define TEST_CLIENT_CORE_RIG_H

#include "../../../src/client/client_priv.h"
#include "../../lib/env_fake.h"
#include "../../lib/t.h"

#define FRAME_MAX 64
#define LANES     4
#define PEERS     8

struct sent {
	struct wire_header header;
	uint8_t *body;
	uint8_t *payload;
	uint32_t lane;
};

struct fake_lane {
	struct xprt_lane lane;
	struct wire_preface preface;
	char address[64];
	bool is_open;
	bool is_full; /* send says -EAGAIN */
};

/* What a server says of itself. */
struct peer {
	char address[64];
	struct wire_welcome welcome;
	struct wire_shard shards[WIRE_SHARD_MAX];
	uint16_t shard_count;
	struct wire_offer offer; /* transport 0: none */
};

struct world {
	struct env_fake fake;
	struct env *env;
	struct client *client;
	struct fake_lane lanes[64];
	uint32_t lane_count; /* ever connected */
	struct peer peers[PEERS];
	uint32_t peer_count;
	struct sent sent[FRAME_MAX];
	uint32_t sent_count;
	bool is_full;    /* all lanes are */
	int door_error;  /* what connecting to a Unix socket says; 0: it goes on */
	int share_error; /* what declaring the caller's memory to a door says */
	int stage_error; /* and the staging area */
	uint32_t shares; /* how often anything was */
	void *stage;
	struct xprt_fence *fences[16]; /* asked for; NULL: ended */
	uint32_t fence_count;
	uint32_t closes;
	uint32_t forgets;
	uint32_t events;
};

extern struct world w;
extern const struct xprt_ops fake_sync;
extern const struct xprt_ops fake_direct;
extern const struct xprt_ops fake_door;    /* what shared memory is like */
extern const struct client_opts core_opts; /* one server, "the server" */

/* --- the world --- */

void begin(const struct xprt_ops *xprt, uint32_t lanes);
/* The same with other options. */
void begin_with(const struct client_opts *opts);
void connect_all(uint32_t lanes);
void end(void);
void settle(void);
void pass_ns(uint64_t ns);

/* --- the servers' part --- */

struct peer *peer_add(const char *address);
void sent_clear(void);
int deliver(uint32_t lane, enum wire_kind kind, uint64_t request, uint16_t count, uint8_t flags,
	    uint32_t credit, const void *body, uint32_t body_size);
int reply(const struct sent *to, const struct wire_result *results, uint16_t count, bool is_last,
	  uint32_t credit);
/* Every item of a request: done with this status and size. */
int reply_all(const struct sent *to, int status, uint32_t size, uint32_t credit);
/* BITMAP: item i is here when bit i is set. */
void answer_bits(const struct sent *to, uint32_t bits, uint64_t lease, uint32_t leased);
void land(const struct sent *to, uint32_t item, uint64_t offset, const void *bytes, uint32_t size,
	  int count_expected);
/* The lane's hello, from HELLO to WELCOME. */
void hello(uint32_t lane);
/* Nothing lands any more for what was under way there. */
void fence_end(uint32_t index);
/* The connection ends. */
void lane_break(uint32_t lane, int why);

/* --- ops --- */

struct test_op {
	struct ctxkv_op op;
	struct ctxkv_item items[64];
	struct ctxkv_iov iovs[64];
};

#define MEMORY_SIZE (256 * KiB)
/* All items over the same memory: nothing of it is looked at but by the checksum test. */
extern uint8_t memory[MEMORY_SIZE];

/* Item i has a key of first byte i, and no place. */
void submit(struct test_op *test, uint32_t opcode, uint32_t count, uint64_t size);
uint32_t told(const struct test_op *test);

#define BOTH (CTXKV_RESULT | CTXKV_RELEASE)

#endif
