/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request frame being built in the client's one body buffer: as many units of one part as fit in
 * a body of WIRE_BODY_MAX bytes and in the credit that the session has left. Puts of at most
 * WIRE_INLINE_MAX bytes travel in the frame, several together, while there is credit for them; all
 * others are granted and pulled.
 */
#ifndef CLIENT_FRAME_H
#define CLIENT_FRAME_H

#include "client_priv.h"

struct frame {
	struct request *request; /* that it is to be */
	struct session *session;
	uint8_t *body;
	uint32_t body_size;
	uint32_t body_max;
	uint32_t cost_max; /* body and payload */
	uint32_t count;
	uint32_t payload_size;
	uint32_t iov_count;
	struct iovec iov[REQUEST_IOV_MAX];
};

/* An empty request with what is left until then as its budget. */
void frame_begin(struct frame *frame, struct request *request, uint64_t deadline_ns);

/* Room for so much more of the body. It fits. */
void *frame_add(struct frame *frame, size_t size);

/*
 * The op's own fields, and units from part->next on: a run of units that are still open. Moves
 * part->next to where it begins; frame->count is 0 when none is left (or the op has no items).
 * -EAGAIN: a region is not declared yet, or no room to stage it; -EINVAL: the first has more pieces
 * than the transport can name.
 */
int frame_fill(struct frame *frame, struct part *part) MUST_USE;

/* It was not sent: its items are not staged any more (their slots are the request's to free). */
void frame_undo(const struct frame *frame, const struct part *part);

#endif
