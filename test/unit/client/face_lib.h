/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of the public functions: a key file, ports, ops made in a line, time bounds. */
#ifndef TEST_FACE_LIB_H
#define TEST_FACE_LIB_H

#include "../../../include/ctxkv.h"
#include "../../../src/client/face.h"

#define FACE_SECRET "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define FACE_OTHER  "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"

/* "ctxkv://tester@127.0.0.1:PORT?keyfile=…" with that secret. Static. */
const char *face_url(uint16_t port, const char *secret);

/* A socket that listens (and nobody accepts), or only a free port when fd_out is NULL. */
uint16_t face_port(int *fd_out);

/* Opens, fails the test when that fails. flags: CTXKV_CALLER_DRIVEN. Lines go to face_log. */
struct ctxkv_client *face_open(const char *url, uint32_t flags, uint32_t lanes, uint64_t wait_ns);
extern char face_log[16384];

/* An op with item_count items over one buffer each; freed by face_op_free(). Keys are first, … */
struct face_op {
	struct ctxkv_op op;
	struct ctxkv_item *items;
	struct ctxkv_iov *iovs;
	uint8_t *bytes; /* item_count * size */
	uint64_t size;
};
void face_op_init(struct face_op *op, uint32_t opcode, uint32_t first, uint32_t item_count,
		  uint64_t size);
void face_op_again(struct face_op *op); /* to be submitted once more */
void face_op_free(struct face_op *op);

/* Bytes that belong to a key, and whether they are it. */
void face_fill(uint8_t *bytes, uint64_t size, uint32_t key, uint64_t offset);
bool face_is_filled(const uint8_t *bytes, uint64_t size, uint32_t key, uint64_t offset);

uint64_t face_now_ns(void);
/* Collect events until op is released; fails the test after limit_ns. Returns ns it took. */
uint64_t face_wait_released(struct ctxkv_client *client, struct ctxkv_op *op, uint64_t limit_ns);

#endif
