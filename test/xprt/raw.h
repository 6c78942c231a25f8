/* SPDX-License-Identifier: Apache-2.0 */
/* A peer of a tcp lane that is a bare socket: it can send what no lane of ours ever would. */
#ifndef TEST_XPRT_RAW_H
#define TEST_XPRT_RAW_H

#include "pair.h"

struct raw {
	struct pair *pair;
	int fd;
	struct auth_mac *mac; /* seals what it sends; NULL: nothing is sealed */
	uint64_t sent;
};

/* Connect to the pair's listener; with_preface: be lane index of the session. */
void raw_connect(struct raw *raw, struct pair *pair, uint32_t index, bool with_preface);
/* Listen for a lane of the client, and take it. */
int raw_listen(char *address, size_t address_size);
void raw_accept(struct raw *raw, struct pair *pair, int listen_fd, uint32_t index);
void raw_close(struct raw *raw);

/* Send all of it, polling the pair's env when the socket has no room. */
void raw_write(struct raw *raw, const void *bytes, size_t size);
/* Receive exactly size bytes, polling meanwhile. False: the stream has ended. */
bool raw_read(struct raw *raw, void *bytes, size_t size);
/* A frame of frame_max bytes at most; 0: the stream has ended. */
uint32_t raw_read_frame(struct raw *raw, void *frame, uint32_t frame_max);

/* Frames as bytes: return the size. Sealed by mac unless it is NULL. */
uint32_t raw_probe(uint8_t *frame, struct auth_mac *mac, uint64_t request, uint16_t count);
uint32_t raw_data(uint8_t *frame, struct auth_mac *mac, enum wire_kind kind, uint64_t request,
		  uint64_t offset, uint32_t size, uint32_t seed);
uint32_t raw_grants(uint8_t *frame, uint64_t request, uint16_t count, uint32_t size);

/* MACs of a lane; direction's both ends agree. */
struct auth_mac *raw_mac(enum wire_direction direction);

#endif
