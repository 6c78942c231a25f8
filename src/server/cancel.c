/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CANCEL: give up requests, and say when nothing more lands for them.
 *
 * A request that is named gives up its ops: moves that have not begun are revoked, puts are
 * aborted. Its items are answered -ECANCELED (or with what they had come to) in REPLYs of its own,
 * and when its last one is on its way the item of the CANCEL that named it is answered 0: from then
 * on no byte lands for that request. One that is not in flight (any more) is answered 0 at once,
 * one that another CANCEL has named already -EALREADY: the answer to the first counts. A CANCEL
 * cannot be cancelled: -EINVAL. CANCEL has no deadline: it ends with the last move, or with the
 * lane of a client that stands still.
 */
#include <string.h>

#include "reactor_priv.h"

static void bit_set(uint8_t *bits, uint32_t index)
{
	bits[index / 8] |= (uint8_t)(1u << index % 8);
}

void cancel_ended(struct request *cancel, uint32_t item)
{
	CHECK_OBJ(cancel, REQUEST_MAGIC);
	ASSERT(cancel->kind == WIRE_CANCEL);
	ASSERT(item < cancel->item_count);
	bit_set(cancel->bits, item);
	request_reply_later(cancel);
}

void cancel_request(struct request *request, const struct wire_header *header, const void *body)
{
	const struct wire_cancel *items = wire_items(header, body);

	for (uint32_t i = 0; i < header->count; i++) {
		struct request *target = request_find(request->session, items[i].request);

		if (target != NULL && target->kind == WIRE_CANCEL) {
			bit_set(request->invalid_bits, i);
		} else if (target != NULL && target->canceller != NULL) {
			bit_set(request->already_bits, i);
		} else if (target != NULL) {
			request->session->reactor->metrics.cancels++;
			target->canceller = request;
			target->canceller_item = i;
			request_give_up(target, -ECANCELED);
			continue;
		}
		cancel_ended(request, i);
	}
}
