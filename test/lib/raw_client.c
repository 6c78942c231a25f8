/* SPDX-License-Identifier: Apache-2.0 */
#include "raw_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void wait_a_moment(struct raw_client *client)
{
	static const struct timespec pause = { 0, 100 * 1000 };

	if (client->poll != NULL)
		client->poll(client->ctx);
	else
		nanosleep(&pause, NULL);
}

static void random_bytes(void *bytes, size_t size)
{
	ASSERT(getrandom(bytes, size, 0) == (ssize_t)size);
}

/* --- bytes --- */

void raw_client_open(struct raw_client *client, uint16_t port, void (*poll)(void *ctx), void *ctx)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1;

	*client = (struct raw_client) { .poll = poll, .ctx = ctx, .reactor = 0xffff };
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT(client->fd >= 0);
	ASSERT(connect(client->fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	ASSERT(fcntl(client->fd, F_SETFL, O_NONBLOCK) == 0);
	setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* --- a lane instead --- */

/* A frame that came. */
struct arrived {
	struct list node;
	struct wire_header header;
	_Alignas(8) uint8_t body[];
};

static int never_accepted(struct xprt_listener *listener, struct xprt_lane *lane,
			  const struct wire_preface *preface)
{
	ASSERT(false);
}

static void lane_nothing(struct xprt_lane *lane)
{
}

static int lane_frame(struct xprt_lane *lane, const struct xprt_frame *frame)
{
	struct raw_client *client = lane->ctx;
	struct arrived *arrived = calloc(1, sizeof(*arrived) + frame->header->body_size);

	ASSERT(arrived != NULL);
	arrived->header = *frame->header;
	if (frame->header->body_size > 0)
		memcpy(arrived->body, frame->body, frame->header->body_size);
	list_init(&arrived->node);
	list_add_tail(&client->inbox, &arrived->node);
	return 0;
}

static void lane_closed(struct xprt_lane *lane, int why)
{
	struct raw_client *client = lane->ctx;

	client->lane = NULL;
	client->group.lanes[0] = NULL;
}

static const struct xprt_user lane_user = {
	.accepted = never_accepted,
	.opened = lane_nothing,
	.frame = lane_frame,
	.writable = lane_nothing,
	.closed = lane_closed,
};

void raw_client_open_lane(struct raw_client *client, struct env *env, const struct xprt_ops *xprt,
			  const char *address, void (*poll)(void *ctx), void *ctx)
{
	*client = (struct raw_client) { .fd = -1,
					.xprt = xprt,
					.env = env,
					.address = address,
					.poll = poll,
					.ctx = ctx,
					.reactor = 0xffff };
	list_init(&client->inbox);
}

static void lane_connect(struct raw_client *client)
{
	int rc = client->xprt->connect(client->env, client->address, &client->transcript.preface,
				       &lane_user, client, &client->lane);

	ASSERT(rc == 0);
	xprt_group_init(&client->group, client);
	client->group.lanes[0] = client->lane;
	client->group.lane_count = 1;
	client->lane->group = &client->group;
}

static bool lane_send(struct raw_client *client, struct wire_header *header, const void *body,
		      const void *payload)
{
	const struct iovec iov = { (void *)(uintptr_t)payload, header->payload_size };
	uint64_t end_ns = clock_ns() + RAW_CLIENT_WAIT_NS;
	int rc = -EAGAIN;

	while (client->lane != NULL && rc == -EAGAIN && clock_ns() < end_ns) {
		rc = client->xprt->send(client->lane, header, body, &iov, header->payload_size > 0);
		if (rc == -EAGAIN)
			wait_a_moment(client);
	}
	return rc == 0;
}

static bool lane_recv(struct raw_client *client, struct raw_client_frame *frame)
{
	uint64_t end_ns = clock_ns() + RAW_CLIENT_WAIT_NS;
	struct arrived *arrived;

	while (list_is_empty(&client->inbox)) {
		if (client->lane == NULL || clock_ns() > end_ns)
			return false;
		wait_a_moment(client);
	}
	arrived = list_head(&client->inbox, struct arrived, node);
	list_del(&arrived->node);
	frame->header = arrived->header;
	memcpy(frame->body, arrived->body, arrived->header.body_size);
	free(arrived);
	return true;
}

static void lane_close(struct raw_client *client)
{
	client->xprt->close(&client->lane);
	client->group.lanes[0] = NULL;
	while (!list_is_empty(&client->inbox)) {
		struct arrived *arrived = list_head(&client->inbox, struct arrived, node);

		list_del(&arrived->node);
		free(arrived);
	}
}

void raw_client_close(struct raw_client *client)
{
	if (client->xprt != NULL)
		lane_close(client);
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	auth_mac_destroy(&client->out);
	auth_mac_destroy(&client->in);
}

bool raw_client_write(struct raw_client *client, const void *bytes, size_t size)
{
	uint64_t end_ns = clock_ns() + RAW_CLIENT_WAIT_NS;
	const uint8_t *at = bytes;

	while (size > 0) {
		ssize_t sent = send(client->fd, at, size, MSG_NOSIGNAL);

		if (sent < 0 && (errno != EAGAIN || clock_ns() > end_ns))
			return false;
		if (sent < 0) {
			wait_a_moment(client);
			continue;
		}
		at += sent;
		size -= (size_t)sent;
	}
	return true;
}

bool raw_client_read(struct raw_client *client, void *bytes, size_t size)
{
	uint64_t end_ns = clock_ns() + RAW_CLIENT_WAIT_NS;
	uint8_t *at = bytes;

	while (size > 0) {
		ssize_t got = recv(client->fd, at, size, 0);

		if (got == 0 || (got < 0 && (errno != EAGAIN || clock_ns() > end_ns)))
			return false;
		if (got < 0) {
			wait_a_moment(client);
			continue;
		}
		at += got;
		size -= (size_t)got;
	}
	return true;
}

bool raw_client_is_closed(struct raw_client *client)
{
	uint64_t end_ns = clock_ns() + RAW_CLIENT_WAIT_NS;
	uint8_t byte;

	while (clock_ns() < end_ns) {
		ssize_t got = recv(client->fd, &byte, 1, 0);

		if (got > 0)
			return false;
		if (got == 0 || errno != EAGAIN)
			return true;
		wait_a_moment(client);
	}
	return false;
}

/* --- frames --- */

bool raw_client_send(struct raw_client *client, struct wire_header *header, const void *body,
		     const void *payload)
{
	header->magic = WIRE_MAGIC;
	if (client->xprt != NULL)
		return lane_send(client, header, body, payload);
	if (client->out != NULL)
		auth_mac_seal(client->out, header, body);
	if (client->is_mac_wrong)
		header->mac[0] ^= 1;
	client->is_mac_wrong = false;
	return raw_client_write(client, header, sizeof(*header)) &&
	       raw_client_write(client, body, header->body_size) &&
	       raw_client_write(client, payload, header->payload_size);
}

static bool recv_any(struct raw_client *client, struct raw_client_frame *frame)
{
	struct wire_header *header = &frame->header;

	if (client->xprt != NULL)
		return lane_recv(client, frame);
	if (!raw_client_read(client, header, sizeof(*header)))
		return false;
	ASSERT(wire_check_header(header, WIRE_S2C) == 0);
	if (!raw_client_read(client, frame->body, header->body_size))
		return false;
	if (client->in != NULL && !auth_mac_check(client->in, header, frame->body))
		return false;
	ASSERT(wire_check_body(header, frame->body) == 0);
	if (header->credit != 0 && (int32_t)(header->credit - client->credit) > 0)
		client->credit = header->credit;
	return raw_client_read(client, frame->payload, header->payload_size);
}

bool raw_client_recv(struct raw_client *client, struct raw_client_frame *frame)
{
	do {
		if (!recv_any(client, frame))
			return false;
	} while (frame->header.kind == WIRE_NOTICE);
	return true;
}

/* --- hello --- */

static int refused(const struct raw_client_frame *frame)
{
	const struct wire_refuse *refuse = (const void *)frame->body;

	return frame->header.kind == WIRE_REFUSE ? refuse->code : -ERR_PROTOCOL;
}

/* The next frame if it is of kind, else why not. */
static int recv_kind(struct raw_client *client, enum wire_kind kind, void *body, size_t body_size)
{
	struct raw_client_frame *frame = calloc(1, sizeof(*frame));
	int rc = -ERR_PEER;

	ASSERT(frame != NULL);
	if (raw_client_recv(client, frame)) {
		rc = frame->header.kind == kind ? 0 : refused(frame);
		if (rc == 0)
			memcpy(body, frame->body, body_size);
	}
	free(frame);
	return rc;
}

static int recv_welcome(struct raw_client *client)
{
	struct {
		struct wire_welcome fixed;
		struct wire_shard shards[WIRE_SHARD_MAX];
	} body;
	int rc = recv_kind(client, WIRE_WELCOME, &body, sizeof(body));

	if (rc < 0)
		return rc;
	client->welcome = body.fixed;
	memcpy(client->shards, body.shards, sizeof(client->shards));
	return 0;
}

void raw_client_preface(struct raw_client *client, enum wire_mode mode, uint64_t incarnation,
			uint64_t session)
{
	struct wire_preface *preface = &client->transcript.preface;

	*preface = (struct wire_preface) {
		.version_min = WIRE_VERSION_MIN,
		.version_max = WIRE_VERSION,
		.mode = (uint8_t)mode,
		.reactor =
			mode == WIRE_MODE_JOIN && client->reactor == 0xffff ? 0 : client->reactor,
		.incarnation = incarnation,
		.session = session,
	};
	memcpy(preface->magic, WIRE_PREFACE_MAGIC, sizeof(preface->magic));
	if (client->xprt != NULL) {
		lane_connect(client);
		return;
	}
	(void)raw_client_write(client, preface, sizeof(*preface)); /* the answer will tell */
}

int raw_client_challenge(struct raw_client *client, const char *tenant,
			 const struct auth_secret *secret, uint16_t lane)
{
	struct wire_hello *hello = &client->transcript.hello;
	struct wire_header header;

	*hello = (struct wire_hello) { .transports = client->xprt != NULL ? client->xprt->transport
									  : WIRE_XPRT_TCP,
				       .lane = lane };
	memcpy(hello->tenant, tenant, strlen(tenant));
	random_bytes(hello->nonce, sizeof(hello->nonce));
	if (secret != NULL)
		auth_secret_id(secret, hello->secret_id);
	wire_header_init(&header, WIRE_HELLO, 0, 0, sizeof(*hello));
	if (!raw_client_send(client, &header, hello, NULL))
		return -ERR_PEER;
	return recv_kind(client, WIRE_CHALLENGE, &client->transcript.challenge,
			 sizeof(client->transcript.challenge));
}

/* From here on frames carry MACs. */
static int macs_begin(struct raw_client *client)
{
	struct wire_header header;
	int rc;

	ASSERT(auth_mac_create(&client->key, &client->transcript, WIRE_C2S, &client->out) == 0);
	/* A REFUSE carries no MAC: its header says what comes. */
	while (recv(client->fd, &header, sizeof(header), MSG_PEEK) != sizeof(header)) {
		char byte;

		if (recv(client->fd, &byte, 1, MSG_PEEK) == 0)
			return -ERR_PEER;
		wait_a_moment(client);
	}
	if (header.kind == WIRE_WELCOME) {
		rc = auth_mac_create(&client->key, &client->transcript, WIRE_S2C, &client->in);
		ASSERT(rc == 0);
	}
	return 0;
}

int raw_client_prove(struct raw_client *client, const void *key)
{
	struct wire_header header;
	struct wire_proof proof;
	int rc = 0;

	auth_proof(key, AUTH_CLIENT, &client->transcript, proof.proof);
	wire_header_init(&header, WIRE_PROOF, 0, 0, sizeof(proof));
	if (!raw_client_send(client, &header, &proof, NULL))
		return -ERR_PEER;
	if (client->xprt == NULL)
		rc = macs_begin(client);
	if (rc == 0)
		rc = recv_welcome(client);
	if (rc == 0)
		auth_domain_id((const char *)client->transcript.hello.tenant, client->domain);
	return rc;
}

int raw_client_hello(struct raw_client *client, const char *tenant,
		     const struct auth_secret *secret)
{
	uint8_t proof[32];
	int rc;

	raw_client_preface(client, WIRE_MODE_NEW, 0, 0);
	rc = raw_client_challenge(client, tenant, secret, 0);
	if (rc < 0)
		return rc;
	auth_proof(secret, AUTH_SERVER, &client->transcript, proof);
	if (!auth_proof_equal(proof, client->transcript.challenge.proof))
		return -ERR_AUTH;
	auth_session_key(secret, &client->transcript, &client->key);
	return raw_client_prove(client, secret);
}

int raw_client_join(struct raw_client *client, const struct raw_client *first, const char *tenant,
		    uint16_t lane)
{
	uint8_t proof[32];
	int rc;

	client->key = first->key;
	memcpy(client->ns, first->ns, sizeof(client->ns));
	client->request = first->request + ((uint64_t)lane << 32);
	client->reactor = first->welcome.reactor;
	raw_client_preface(client, WIRE_MODE_JOIN, first->welcome.incarnation,
			   first->welcome.session);
	rc = raw_client_challenge(client, tenant, NULL, lane);
	if (rc < 0)
		return rc;
	auth_proof(&client->key, AUTH_SERVER, &client->transcript, proof);
	if (!auth_proof_equal(proof, client->transcript.challenge.proof))
		return -ERR_AUTH;
	return raw_client_prove(client, &client->key);
}

/* --- requests --- */

#define BODY_MAX (WIRE_BODY_MAX / 8)

static struct wire_request *request_begin(const struct raw_client *client, uint64_t *body,
					  uint64_t budget_ns)
{
	struct wire_request *request = (void *)body;

	*request = (struct wire_request) { .budget_ns = budget_ns };
	memcpy(request->ns, client->ns, sizeof(request->ns));
	memcpy(request->domain, client->domain, sizeof(request->domain));
	return request;
}

/* Behind the only item. */
static uint16_t segs_add(const struct raw_client *client, void *to)
{
	if (client->seg_count > 0)
		memcpy(to, client->segs, client->seg_count * sizeof(*client->segs));
	return (uint16_t)client->seg_count;
}

uint64_t raw_client_put(struct raw_client *client, const struct raw_client_put *puts,
			uint16_t count, uint32_t flags, uint64_t budget_ns)
{
	static uint64_t body[BODY_MAX];
	static uint8_t payload[WIRE_INLINE_MAX];
	struct wire_request *request = request_begin(client, body, budget_ns);
	struct wire_put *item = (void *)(request + 1);
	struct wire_header header;
	uint32_t payload_size = 0;

	request->flags = flags;
	for (uint16_t i = 0; i < count; i++) {
		*item = (struct wire_put) { .key = puts[i].key,
					    .size = puts[i].size,
					    .ttl_s = client->put_ttl_s };
		if (puts[i].is_inline) {
			ASSERT(payload_size + puts[i].size <= sizeof(payload));
			item->flags = WIRE_PUT_INLINE;
			memcpy(payload + payload_size, puts[i].bytes, puts[i].size);
			payload_size += puts[i].size;
		}
		item->seg_count = segs_add(client, item + 1);
		item = (void *)((struct wire_seg *)(void *)(item + 1) + item->seg_count);
	}
	wire_header_init(&header, WIRE_PUT, ++client->request, count,
			 (uint32_t)((uint8_t *)item - (uint8_t *)body));
	header.payload_size = payload_size;
	(void)raw_client_send(client, &header, body, payload); /* the answer will tell */
	return client->request;
}

uint64_t raw_client_get(struct raw_client *client, const struct wire_key *keys, uint16_t count,
			uint32_t offset, uint32_t size, uint64_t budget_ns)
{
	static uint64_t body[BODY_MAX];
	struct wire_request *request = request_begin(client, body, budget_ns);
	struct wire_get *items = (void *)(request + 1);
	struct wire_header header;

	request->lease = client->lease;
	request->flags = client->get_flags;
	for (uint16_t i = 0; i < count; i++)
		items[i] = (struct wire_get) { .key = keys[i], .offset = offset, .size = size };
	items[0].seg_count = segs_add(client, &items[count]);
	wire_header_init(&header, WIRE_GET, ++client->request, count,
			 (uint32_t)(sizeof(*request) + count * sizeof(*items) +
				    client->seg_count * sizeof(*client->segs)));
	(void)raw_client_send(client, &header, body, NULL);
	return client->request;
}

uint64_t raw_client_items(struct raw_client *client, enum wire_kind kind, const void *items,
			  size_t items_size, uint16_t count)
{
	static uint64_t body[BODY_MAX];
	struct wire_request *request = request_begin(client, body, NS_PER_S);
	struct wire_header header;

	if (kind == WIRE_RENEW)
		request->lease = 1;
	if (items_size > 0)
		memcpy(request + 1, items, items_size);
	wire_header_init(&header, kind, ++client->request, count,
			 (uint32_t)(sizeof(*request) + items_size));
	(void)raw_client_send(client, &header, body, NULL);
	return client->request;
}

uint64_t raw_client_keys(struct raw_client *client, enum wire_kind kind,
			 const struct wire_key *keys, uint16_t count)
{
	return raw_client_items(client, kind, keys, count * sizeof(*keys), count);
}

uint64_t raw_client_cancel(struct raw_client *client, const uint64_t *requests, uint16_t count)
{
	return raw_client_items(client, WIRE_CANCEL, requests, count * sizeof(*requests), count);
}

uint64_t raw_client_lease(struct raw_client *client, const struct wire_key *keys, uint16_t count,
			  uint32_t flags, uint32_t duration_ms)
{
	static uint64_t body[BODY_MAX];
	struct wire_request *request = request_begin(client, body, NS_PER_S);
	struct wire_header header;

	request->flags = flags;
	request->duration_ms = duration_ms;
	memcpy(request + 1, keys, count * sizeof(*keys));
	wire_header_init(&header, WIRE_LEASE, ++client->request, count,
			 (uint32_t)(sizeof(*request) + count * sizeof(*keys)));
	(void)raw_client_send(client, &header, body, NULL);
	return client->request;
}

uint64_t raw_client_renew(struct raw_client *client, uint64_t lease, uint32_t duration_ms)
{
	struct wire_request request = { .budget_ns = NS_PER_S,
					.lease = lease,
					.duration_ms = duration_ms };
	struct wire_header header;

	wire_header_init(&header, WIRE_RENEW, ++client->request, 0, sizeof(request));
	(void)raw_client_send(client, &header, &request, NULL);
	return client->request;
}

uint64_t raw_client_plain(struct raw_client *client, enum wire_kind kind)
{
	return raw_client_items(client, kind, NULL, 0, 0);
}

/* --- answers --- */

bool raw_client_answer(struct raw_client *client, const struct raw_client_frame *frame,
		       const struct raw_client_put *puts)
{
	const struct wire_grant *grants = (const void *)frame->body;

	for (uint16_t i = 0; i < frame->header.count; i++) {
		const struct wire_grant *grant = &grants[i];
		struct wire_data data = { .item = grant->item, .offset = grant->offset };
		struct wire_header header;

		wire_header_init(&header, WIRE_DATA_PUT, frame->header.request, 0, sizeof(data));
		header.payload_size = grant->size;
		if (!raw_client_send(client, &header, &data,
				     (const uint8_t *)puts[grant->item].bytes + grant->offset))
			return false;
	}
	return true;
}

/* What a REPLY says of item 0 and of the others. */
static void note_results(const struct raw_client_frame *frame, int *status,
			 struct wire_result *results_out)
{
	const struct wire_result *results = (const void *)frame->body;

	for (uint16_t i = 0; i < frame->header.count; i++) {
		if (results[i].item == 0)
			*status = results[i].status;
		if (results_out != NULL)
			results_out[results[i].item] = results[i];
	}
}

int raw_client_finish(struct raw_client *client, uint64_t request, void *bytes,
		      const struct raw_client_put *puts, struct wire_result *results_out)
{
	struct raw_client_frame *frame = malloc(sizeof(*frame));
	const struct wire_data *data = (const void *)frame->body;
	int status = -ERR_PEER;

	ASSERT(frame != NULL);
	while (raw_client_recv(client, frame)) {
		if (frame->header.request != request)
			continue;
		if (frame->header.kind == WIRE_GRANT && !raw_client_answer(client, frame, puts))
			break;
		if (frame->header.kind == WIRE_DATA_GET && data->item == 0 && bytes != NULL)
			memcpy((uint8_t *)bytes + data->offset, frame->payload,
			       frame->header.payload_size);
		if (frame->header.kind != WIRE_REPLY)
			continue;
		note_results(frame, &status, results_out);
		if ((frame->header.flags & WIRE_FLAG_LAST) != 0)
			break;
	}
	free(frame);
	return status;
}
