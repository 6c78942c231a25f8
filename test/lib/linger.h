/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A descriptor whose last close waits: a TCP socket with SO_LINGER and bytes that nobody reads. So
 * a peer may pass it to us.
 */
#ifndef TEST_LIB_LINGER_H
#define TEST_LIB_LINGER_H

#define LINGER_S 30 /* so long; tests hold far less against it */

struct lingering {
	int fd; /* the one; -1: closed here, passed elsewhere */
	int other;
};

void lingering_init(struct lingering *linger);
/* Whoever closes it has waited long enough. */
void lingering_end(struct lingering *linger);

#endif
