/* SPDX-License-Identifier: Apache-2.0 */
#include "linger.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "t.h"

void lingering_init(struct lingering *linger)
{
	const struct linger option = { 1, LINGER_S };
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t size = sizeof(address);
	static const char bytes[65536];
	int door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(door, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(door, 1), 0);
	assert_int_equal(getsockname(door, (struct sockaddr *)&address, &size), 0);
	linger->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(linger->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	linger->other = accept4(door, NULL, NULL, SOCK_CLOEXEC);
	assert_true(linger->other >= 0);
	close(door);
	while (send(linger->fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
	}
	assert_int_equal(setsockopt(linger->fd, SOL_SOCKET, SO_LINGER, &option, sizeof(option)), 0);
}

void lingering_end(struct lingering *linger)
{
	close(linger->other); /* with bytes unread: a reset */
	if (linger->fd >= 0)
		close(linger->fd);
}
