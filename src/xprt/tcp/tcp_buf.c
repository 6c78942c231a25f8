/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lane's two buffers: of bytes that were received, and of control frames to be sent.
 *
 * Normal path: each is memory of the lane. A server's is small: for a frame that does not fit, a
 * big buffer of the listener takes its place, with what is there, until what is there fits again.
 *
 * Failure: no big buffer is free. Nothing is changed; the lane waits for one (tcp_listen.c).
 */
#include "tcp.h"

#include <string.h>

void tcp_buf_move(struct tcp_buf *buf, uint8_t *bytes, uint32_t size)
{
	uint32_t have = tcp_buf_have(buf);

	ASSERT(have <= size);
	memmove(bytes, buf->bytes + buf->start, have);
	buf->bytes = bytes;
	buf->size = size;
	buf->start = 0;
	buf->end = have;
}

bool tcp_buf_grow(struct tcp_lane *lane, struct tcp_buf *buf)
{
	ASSERT(buf->big == NULL);
	buf->big = tcp_big_get(lane);
	if (buf->big == NULL)
		return false;
	tcp_buf_move(buf, buf->big, TCP_BIG_SIZE);
	return true;
}

void tcp_buf_shrink(struct tcp_lane *lane, struct tcp_buf *buf, uint8_t *own, uint32_t own_size)
{
	ASSERT(buf->bytes == buf->big);
	tcp_buf_move(buf, own, own_size);
	tcp_big_put(lane, &buf->big);
}
