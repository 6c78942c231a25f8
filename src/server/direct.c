/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's memory, where its transport maps it: gets read into it and durable puts are written
 * from it without a copy and without buffers (get.c, put.c).
 *
 * A hold keeps the mapping whatever the client does. While the drive reads or writes there the op
 * is lent: it is not answered, not even when it was given up. What the client changes meanwhile is
 * its own loss: nothing in that memory is believed.
 *
 * Failure: it cannot be mapped, or has no shape for a drive: copies do it (counted). The client
 * took it away under a hold: direct_unmap() says so, and the op ends with -ERR_PEER.
 */
#include "reactor_priv.h"

bool direct_is_possible(const struct op *op)
{
	return (op->session->xprt->caps & XPRT_CAP_MAPPED) != 0;
}

/* Neighbours are one piece; what is behind size goes. */
static uint32_t pieces_join(struct iovec *iov, uint32_t iov_count, uint64_t size)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < iov_count && size > 0; i++) {
		struct iovec *last = count > 0 ? &iov[count - 1] : NULL;
		uint64_t part = MIN(iov[i].iov_len, size);

		size -= part;
		if (last != NULL && (char *)last->iov_base + last->iov_len == iov[i].iov_base)
			last->iov_len += part;
		else
			iov[count++] = (struct iovec) { iov[i].iov_base, part };
	}
	return size == 0 ? count : 0;
}

bool direct_map(struct op *op)
{
	struct session *session = op->session;
	int rc;

	ASSERT(op->hold == NULL);
	ASSERT(direct_is_possible(op));
	op->hold_xprt = session->xprt;
	rc = session->xprt->map(&session->group, op->segs, op->seg_count, op->mapped, &op->hold);
	if (rc < 0)
		return false;
	op->mapped_count = pieces_join(op->mapped, op->seg_count, op->size);
	if (op->mapped_count > 0)
		return true;
	(void)direct_unmap(op); /* nothing was done there */
	return false;
}

int direct_unmap(struct op *op)
{
	ASSERT(!op->is_lent);
	if (op->hold == NULL)
		return 0;
	return op->hold_xprt->unmap(&op->hold);
}
