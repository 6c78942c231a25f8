/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two ends of a transport in one env and one thread: a listener, and a client's lanes to it that
 * form a session without any hello. What arrives is recorded; both ends can be told to close from
 * inside any upcall, and a lane of tcp to read nothing. The suite runs every test over every kind
 * in pair_kinds[].
 */
#ifndef TEST_XPRT_PAIR_H
#define TEST_XPRT_PAIR_H

#include "../../src/xprt/xprt.h"

#define PAIR_FRAME_MAX 4096
#define PAIR_BLOCK_MAX 1024
#define PAIR_QUIET_NS  (30 * NS_PER_MS) /* nothing happens any more */

struct pair_kind {
	const char *name;
	const struct xprt_ops *ops;
	int (*env_create)(struct env **env_out);
	void (*env_destroy)(struct env **env);
	const char *address; /* NULL: a Unix socket of this process */
	bool is_tls;         /* the client asks for it */
};

extern const struct pair_kind pair_kinds[];
extern const size_t pair_kind_count;
extern const struct pair_kind *const pair_shm; /* the first of shm */

/* False, and said so: this host or container has none of it. */
bool pair_kind_is_here(const struct pair_kind *kind);

/* A frame as it came. */
struct pair_frame {
	uint8_t kind;
	uint8_t lane;
	uint16_t count;
	uint64_t request;
	uint32_t body_size;
	uint32_t payload_size;
	uint32_t crc; /* of body and payload */
};

struct pair_end {
	struct xprt_group group;
	struct pair_frame *frames; /* PAIR_FRAME_MAX */
	uint32_t frame_count;
	uint32_t opened;
	uint32_t closed;
	int why; /* of the last closed() */
	uint32_t writable;
	int frame_rc;         /* what frame() returns */
	bool closes_in_frame; /* frame() closes the lane it came on */
	/* Called in frame(), behind what it records; NULL: nobody. */
	void (*on_frame)(struct pair_end *end, const struct xprt_frame *frame);
	void *ctx;                /* of on_frame */
	struct xprt_fence *fence; /* asked for in closed(); NULL: none */
};

/* Memory of the client that can be passed on where the transport wants that. */
struct pair_memory {
	uint8_t *bytes;
	size_t size;
	int fd; /* by which it can be passed on; -1: private */
};

/* The caller's memory of one request of the client. */
struct pair_block {
	uint64_t request;
	struct pair_memory memory;
	uint8_t *bytes; /* of it */
	uint32_t size;
	uint32_t piece_size; /* locate() hands it out in pieces of this size */
	bool is_gone;
	bool is_put;   /* nothing may be written to it */
	uint64_t got;  /* bytes landed */
	uint64_t sent; /* bytes handed on */
	struct xprt_region region;
	struct wire_seg segs[2];
};

struct pair {
	const struct pair_kind *kind;
	struct env *env;
	struct xprt_listener *listener;
	char address[128];
	char unix_path[64];
	struct pair_end server;
	struct pair_end client;
	struct pair_block blocks[PAIR_BLOCK_MAX];
	uint32_t block_count;
	uint32_t lane_max;
	int accept_rc;        /* what accepted() returns */
	bool is_before_hello; /* accepted() sets no group */
	uint8_t tls_keys[2];  /* what the client's and the server's key is made of */
	bool is_tls_nobody;   /* the server knows no identity */
};

/* A move of the server with its memory. */
struct pair_move {
	struct xprt_move move;
	uint8_t *bytes;
	uint32_t done;
	int rc;
	bool closes_lane;         /* done() closes lane 0 */
	struct xprt_move *pushes; /* done() pushes this on the move's lane */
	struct xprt_group *group;
};

void pair_init(struct pair *pair, const struct pair_kind *kind);
void pair_fini(struct pair *pair);
/* lane_count lanes between both ends, groups set. */
void pair_connect(struct pair *pair, uint32_t lane_count);
/* One lane of the client to address; not waited for. NULL: refused at once. */
struct xprt_lane *pair_dial(struct pair *pair, const char *address, uint32_t index);

/* Poll until the condition holds; fails the test after ten seconds of the env. */
#define PAIR_UNTIL(pair, condition)                                                                \
	do {                                                                                       \
		uint64_t until_ns = env_now_ns((pair)->env) + 10 * NS_PER_S;                       \
                                                                                                   \
		while (!(condition)) {                                                             \
			assert_true(env_now_ns((pair)->env) < until_ns);                           \
			pair_poll(pair);                                                           \
		}                                                                                  \
	} while (0)

void pair_poll(struct pair *pair);
/* Poll until nothing has happened for a while. */
void pair_settle(struct pair *pair);

/* Nothing of lane's socket is received until pair_release(), of all: its peer has a full one.
 * False: it has no socket that carries frames. */
bool pair_hold(struct pair *pair, struct xprt_lane *lane);
void pair_release(struct pair *pair);

struct pair_memory pair_memory_make(const struct pair *pair, size_t size);
void pair_memory_free(struct pair_memory *memory);

/* Bytes that depend on seed. */
void pair_fill(uint8_t *bytes, uint32_t size, uint32_t seed);
bool pair_is_filled(const uint8_t *bytes, uint32_t size, uint32_t seed);

/* The client's memory for a request; regions are declared where the transport wants them. */
struct pair_block *pair_block_add(struct pair *pair, uint64_t request, uint32_t size,
				  uint32_t piece_size);
/* A move of size bytes from offset of the block's item 0, from memory in piece_count pieces. */
void pair_move_init(struct pair_move *move, struct pair *pair, struct pair_block *block,
		    uint32_t offset, uint32_t size, uint32_t piece_count);
void pair_move_fini(struct pair_move *move);

extern const struct xprt_user pair_server_user;
extern const struct xprt_user pair_client_user;

#endif
