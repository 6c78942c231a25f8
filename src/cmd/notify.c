/* SPDX-License-Identifier: Apache-2.0 */
/*
 * systemd's notification protocol, sd_notify(3), without its library: a datagram of lines to the
 * socket that $NOTIFY_SOCKET names. Nothing depends on its success: who does not get it restarts
 * us.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../base/log.h"
#include "../base/text.h"
#include "supervise.h"

bool notify_is_there(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	return path != NULL && (path[0] == '/' || path[0] == '@') && path[1] != '\0';
}

uint64_t notify_watchdog_ns(void)
{
	const char *usec = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");
	uint64_t value;

	if (!notify_is_there() || usec == NULL || text_parse_u64(usec, &value) < 0)
		return 0;
	if (pid != NULL) {
		uint64_t whose;

		if (text_parse_u64(pid, &whose) < 0 || whose != (uint64_t)getpid())
			return 0;
	}
	return MIN(value, 3600 * UINT64_C(1000000)) * NS_PER_US;
}

void notify_send(const char *format, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char text[256];
	va_list args;
	size_t size;
	int fd;

	if (!notify_is_there() || strlen(path) >= sizeof(address.sun_path))
		return;
	size = strlen(path);
	memcpy(address.sun_path, path, size);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)) < 0)
		log_debug("systemd cannot be told: %s", err_str(errno));
	close(fd);
}
