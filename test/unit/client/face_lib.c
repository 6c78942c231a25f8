/* SPDX-License-Identifier: Apache-2.0 */
#include "face_lib.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../lib/t.h"

char face_log[16384];
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static void note_line(void *ctx, int level, const char *line)
{
	size_t used;

	pthread_mutex_lock(&log_lock);
	used = strlen(face_log);
	snprintf(face_log + used, sizeof(face_log) - used, "%s\n", line);
	pthread_mutex_unlock(&log_lock);
}

static char keyfile[64];

static void keyfile_remove(void)
{
	unlink(keyfile);
}

const char *face_url(uint16_t port, const char *secret)
{
	static char url[256];
	FILE *file;

	if (keyfile[0] == '\0') {
		snprintf(keyfile, sizeof(keyfile), "/tmp/ctxkv-face-%d", (int)getpid());
		atexit(keyfile_remove);
	}
	file = fopen(keyfile, "w");
	assert_non_null(file);
	fprintf(file, "tester %s\n", secret);
	fclose(file);
	chmod(keyfile, 0600);
	snprintf(url, sizeof(url), "ctxkv://tester@127.0.0.1:%u?keyfile=%s", port, keyfile);
	return url;
}

uint16_t face_port(int *fd_out)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	if (fd_out != NULL) {
		assert_int_equal(listen(fd, 16), 0);
		*fd_out = fd;
	} else {
		close(fd);
	}
	return ntohs(address.sin_port);
}

struct ctxkv_client *face_open(const char *url, uint32_t flags, uint32_t lanes, uint64_t wait_ns)
{
	struct ctxkv_client *client = NULL;
	struct ctxkv_opts opts;
	char message[512] = "";
	int rc;

	ctxkv_opts_init(&opts, sizeof(opts));
	opts.url = url;
	opts.flags = flags;
	opts.lanes = lanes;
	opts.connect_timeout_ns = 500 * NS_PER_MS;
	opts.log = note_line;
	opts.log_level = CTXKV_LOG_INFO;
	face_log[0] = '\0';
	rc = ctxkv_open(&opts, wait_ns, &client, message, sizeof(message));
	if (rc < 0)
		fail_msg("open: %s: %s", ctxkv_strerror(rc), message);
	return client;
}

static void key_init(struct ctxkv_key *key, uint32_t number)
{
	memset(key, 0x5a, sizeof(*key));
	memcpy(key->bytes + 7, &number, sizeof(number));
}

void face_op_init(struct face_op *op, uint32_t opcode, uint32_t first, uint32_t item_count,
		  uint64_t size)
{
	memset(op, 0, sizeof(*op));
	op->size = size;
	op->items = calloc(item_count, sizeof(*op->items));
	op->iovs = calloc(item_count, sizeof(*op->iovs));
	op->bytes = calloc(item_count, size > 0 ? size : 1);
	op->op.opcode = opcode;
	op->op.items = op->items;
	op->op.item_count = item_count;
	ctxkv_namespace("test model", &op->op.ns);
	for (uint32_t i = 0; i < item_count; i++) {
		key_init(&op->items[i].key, first + i);
		op->iovs[i] = (struct ctxkv_iov) { op->bytes + i * size, size };
		if (size > 0) {
			op->items[i].iov = &op->iovs[i];
			op->items[i].iov_count = 1;
		}
		if (opcode == CTXKV_OP_PUT)
			face_fill(op->bytes + i * size, size, first + i, 0);
	}
}

void face_op_again(struct face_op *op)
{
	for (uint64_t i = 0; i < op->op.item_count; i++)
		op->items[i].record = (struct ctxkv_record) { 0, 0 };
}

void face_op_free(struct face_op *op)
{
	free(op->items);
	free(op->iovs);
	free(op->bytes);
}

/* Eight bytes at a time: tests fill and compare hundreds of MiB. */
static uint64_t word_at(uint32_t key, uint64_t index)
{
	uint64_t x = index * UINT64_C(0x9e3779b97f4a7c15) + key * UINT64_C(0xd1342543de82ef95);

	x ^= x >> 29;
	return x * UINT64_C(0xbf58476d1ce4e5b9);
}

static bool walk(uint8_t *bytes, uint64_t size, uint32_t key, uint64_t offset, bool is_check)
{
	for (uint64_t i = 0; i < size;) {
		uint64_t word = word_at(key, (offset + i) / 8);
		uint64_t skip = (offset + i) % 8;
		uint64_t part = MIN(8 - skip, size - i);

		if (!is_check)
			memcpy(bytes + i, (uint8_t *)&word + skip, part);
		else if (memcmp(bytes + i, (uint8_t *)&word + skip, part) != 0)
			return false;
		i += part;
	}
	return true;
}

void face_fill(uint8_t *bytes, uint64_t size, uint32_t key, uint64_t offset)
{
	(void)walk(bytes, size, key, offset, false);
}

bool face_is_filled(const uint8_t *bytes, uint64_t size, uint32_t key, uint64_t offset)
{
	return walk((uint8_t *)bytes, size, key, offset, true);
}

uint64_t face_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t face_wait_released(struct ctxkv_client *client, struct ctxkv_op *op, uint64_t limit_ns)
{
	uint64_t begin_ns = face_now_ns();

	for (;;) {
		uint64_t left_ns = ctxkv_timeout_ns(client);
		struct pollfd pollfd = { .fd = ctxkv_event_fd(client), .events = POLLIN };
		struct ctxkv_event event;
		int rc = ctxkv_poll(client, &event, 1);

		assert_true(rc >= 0);
		if (rc == 1 && event.op == op && (event.what & CTXKV_RELEASE) != 0)
			return face_now_ns() - begin_ns;
		if (face_now_ns() - begin_ns > limit_ns)
			fail_msg("not released after %llu ns", (unsigned long long)limit_ns);
		if (rc == 0)
			(void)poll(&pollfd, 1, (int)MIN(left_ns / NS_PER_MS + 1, 20u));
	}
}
