/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client made by hand over a bare TCP socket: it does hello as it should, and sends whatever
 * frames a test wants, right or wrong. It knows nothing of libctxkv. Or over a lane of a transport
 * without MACs (loop): then frames only, no bytes.
 *
 * poll   called while it waits: for a server in the same thread, poll its env there. NULL: sleep.
 * Time   nothing waits longer than RAW_CLIENT_WAIT_NS; then reads fail as if the peer had closed.
 */
#ifndef TEST_LIB_RAW_CLIENT_H
#define TEST_LIB_RAW_CLIENT_H

#include "../../src/wire/auth.h"
#include "../../src/wire/wire.h"
#include "../../src/xprt/xprt.h"

#define RAW_CLIENT_WAIT_NS (10 * NS_PER_S)

struct raw_client {
	int fd;
	/* Instead of it: */
	const struct xprt_ops *xprt;
	struct env *env;
	const char *address;
	struct xprt_lane *lane; /* once the preface was sent, until it is closed */
	struct xprt_group group;
	struct list inbox;           /* frames that came */
	const struct wire_seg *segs; /* of the only item of the next gets and puts */
	uint32_t seg_count;
	void (*poll)(void *ctx);
	void *ctx;
	struct auth_transcript transcript;
	struct auth_key key; /* of the session */
	struct auth_mac *out;
	struct auth_mac *in;
	struct wire_welcome welcome;
	struct wire_shard shards[WIRE_SHARD_MAX]; /* of welcome; weight 0 behind the last */
	uint16_t reactor;                         /* wanted by the next preface; 0xffff: any */
	uint64_t request;                         /* last id used */
	uint32_t credit;                          /* as the last header said */
	uint8_t domain[16];                       /* that requests name; its own after hello */
	uint8_t ns[16];
	uint64_t lease;     /* that gets read under */
	uint32_t get_flags; /* of gets */
	uint32_t put_ttl_s; /* of puts */
	bool is_mac_wrong;  /* of the next frame sent */
};

struct raw_client_frame {
	struct wire_header header;
	_Alignas(8) uint8_t body[WIRE_BODY_MAX];
	uint8_t payload[WIRE_DATA_MAX];
};

/* Connect; nothing is sent. */
void raw_client_open(struct raw_client *client, uint16_t port, void (*poll)(void *ctx), void *ctx);
/* The same, by a lane of xprt on env, which poll polls. */
void raw_client_open_lane(struct raw_client *client, struct env *env, const struct xprt_ops *xprt,
			  const char *address, void (*poll)(void *ctx), void *ctx);
void raw_client_close(struct raw_client *client);

/* Bytes. False: the peer has closed, or time is up. */
bool raw_client_write(struct raw_client *client, const void *bytes, size_t size);
bool raw_client_read(struct raw_client *client, void *bytes, size_t size);
/* True: the peer closes without another byte. */
bool raw_client_is_closed(struct raw_client *client);

/* Send a frame: magic and MAC are filled in. */
bool raw_client_send(struct raw_client *client, struct wire_header *header, const void *body,
		     const void *payload);
/* The next frame; NOTICEs are passed over. False: closed, or its MAC is wrong. */
bool raw_client_recv(struct raw_client *client, struct raw_client_frame *frame);

/* The steps of hello; 0, the code of a REFUSE, or -ERR_PEER. */
void raw_client_preface(struct raw_client *client, enum wire_mode mode, uint64_t incarnation,
			uint64_t session);
int raw_client_challenge(struct raw_client *client, const char *tenant,
			 const struct auth_secret *secret, uint16_t lane);
int raw_client_prove(struct raw_client *client, const void *key);
/* All of it. */
int raw_client_hello(struct raw_client *client, const char *tenant,
		     const struct auth_secret *secret);
int raw_client_join(struct raw_client *client, const struct raw_client *first, const char *tenant,
		    uint16_t lane);

/* --- requests; each returns its id --- */

struct raw_client_put {
	struct wire_key key;
	const void *bytes;
	uint32_t size;
	bool is_inline;
};

uint64_t raw_client_put(struct raw_client *client, const struct raw_client_put *puts,
			uint16_t count, uint32_t flags, uint64_t budget_ns);
uint64_t raw_client_get(struct raw_client *client, const struct wire_key *keys, uint16_t count,
			uint32_t offset, uint32_t size, uint64_t budget_ns);
uint64_t raw_client_keys(struct raw_client *client, enum wire_kind kind,
			 const struct wire_key *keys, uint16_t count);
uint64_t raw_client_cancel(struct raw_client *client, const uint64_t *requests, uint16_t count);
/* Items follow the request as they are. */
uint64_t raw_client_items(struct raw_client *client, enum wire_kind kind, const void *items,
			  size_t items_size, uint16_t count);
/* LEASE with a duration, RENEW of a lease. */
uint64_t raw_client_lease(struct raw_client *client, const struct wire_key *keys, uint16_t count,
			  uint32_t flags, uint32_t duration_ms);
uint64_t raw_client_renew(struct raw_client *client, uint64_t lease, uint32_t duration_ms);
/* A request without items: STAT, RENEW … */
uint64_t raw_client_plain(struct raw_client *client, enum wire_kind kind);

/* Receive until request is answered: data of gets goes to bytes (of item 0), grants of puts are
 * answered from put. Returns the status of item 0; results_out (may be NULL) has all. */
int raw_client_finish(struct raw_client *client, uint64_t request, void *bytes,
		      const struct raw_client_put *puts, struct wire_result *results_out);

/* Answer a GRANT frame from puts. */
bool raw_client_answer(struct raw_client *client, const struct raw_client_frame *frame,
		       const struct raw_client_put *puts);

#endif
