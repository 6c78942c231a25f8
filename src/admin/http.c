/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP, by libmicrohttpd: start and stop of its thread, and a request from its first byte to
 * admin_serve(). Per request: what came of its body (at most ADMIN_BODY_MAX), freed at its end.
 */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/log.h"
#include "../base/text.h"
#include "admin_priv.h"

struct body {
	size_t size;
	char bytes[ADMIN_BODY_MAX];
};

static const char *header_of(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static enum MHD_Result reply_send(struct MHD_Connection *connection,
				  const struct admin_reply *reply)
{
	struct MHD_Response *response;
	enum MHD_Result rc;

	response = MHD_create_response_from_buffer(
		reply->size, (void *)(uintptr_t)(reply->text != NULL ? reply->text : reply->fixed),
		reply->text != NULL ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	if (response == NULL) {
		free(reply->text);
		return MHD_NO;
	}
	(void)MHD_add_response_header(response, "Content-Type", reply->type);
	(void)MHD_add_response_header(response, "Cache-Control", "no-store");
	(void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	(void)MHD_add_response_header(response, "Content-Security-Policy",
				      "default-src 'none'; connect-src 'self'; style-src "
				      "'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
				      "frame-ancestors 'none'");
	if (reply->header != NULL)
		(void)MHD_add_response_header(response, reply->header, reply->value);
	rc = MHD_queue_response(connection, reply->status, response);
	MHD_destroy_response(response);
	return rc;
}

/* The first call: headers are here. A body that is announced as too large is not waited for. */
static enum MHD_Result request_begin(struct MHD_Connection *connection, void **state)
{
	static const char text[] = "{\"error\": \"the body is too large\"}\n";
	const char *announced = header_of(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
	uint64_t size = 0;

	if (announced != NULL && (text_parse_u64(announced, &size) < 0 || size > ADMIN_BODY_MAX))
		return reply_send(connection,
				  &(struct admin_reply) { .status = MHD_HTTP_CONTENT_TOO_LARGE,
							  .type = "application/json",
							  .fixed = text,
							  .size = sizeof(text) - 1 });
	*state = calloc(1, sizeof(struct body));
	return *state != NULL ? MHD_YES : MHD_NO;
}

static enum MHD_Result request_end(struct admin *admin, struct MHD_Connection *connection,
				   const char *path, const char *method, const struct body *body)
{
	const struct admin_request request = {
		.method = method,
		.path = path,
		.authorization = header_of(connection, MHD_HTTP_HEADER_AUTHORIZATION),
		.host = header_of(connection, MHD_HTTP_HEADER_HOST),
		.body = body->bytes,
		.body_size = body->size,
	};
	struct admin_reply reply = { 0 };

	if (!admin_serve(admin, &request, &reply))
		return MHD_NO;
	return reply_send(connection, &reply);
}

static enum MHD_Result request_cb(void *ctx, struct MHD_Connection *connection, const char *path,
				  const char *method, const char *version, const char *data,
				  size_t *data_size, void **state)
{
	struct admin *admin = ctx;
	struct body *body = *state;

	CHECK_OBJ(admin, ADMIN_MAGIC);
	if (body == NULL)
		return request_begin(connection, state);
	if (*data_size == 0)
		return request_end(admin, connection, path, method, body);
	if (*data_size > sizeof(body->bytes) - body->size)
		return MHD_NO;
	memcpy(body->bytes + body->size, data, *data_size);
	body->size += *data_size;
	*data_size = 0;
	return MHD_YES;
}

static void ended_cb(void *ctx, struct MHD_Connection *connection, void **state,
		     enum MHD_RequestTerminationCode code)
{
	free(*state);
	*state = NULL;
}

static void PRINTF_LIKE(2, 0) log_cb(void *ctx, const char *format, va_list args)
{
	char line[256];

	vsnprintf(line, sizeof(line), format, args);
	line[strcspn(line, "\n")] = '\0';
	log_debug("admin http %s", line);
}

/* --- start and stop --- */

static int daemon_start(struct admin *admin, char message_out[256])
{
	unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ERROR_LOG;
	const union MHD_DaemonInfo *info;

	if (admin->address.any.sa_family == AF_INET6)
		flags |= MHD_USE_IPv6;
	errno = 0;
	admin->daemon = MHD_start_daemon(
		flags, 0, NULL, NULL, request_cb, admin, MHD_OPTION_EXTERNAL_LOGGER, log_cb, NULL,
		MHD_OPTION_SOCK_ADDR, &admin->address.any, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned)ADMIN_CONNECTIONS, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		(unsigned)(admin->is_loopback ? ADMIN_CONNECTIONS : ADMIN_CONNECTIONS / 2),
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)ADMIN_IDLE_S,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)ADMIN_CONNECTION_SIZE,
		MHD_OPTION_NOTIFY_COMPLETED, ended_cb, NULL, MHD_OPTION_END);
	if (admin->daemon == NULL) {
		int rc = errno != 0 ? -errno : -EIO;

		snprintf(message_out, 256,
			 "admin endpoint: cannot listen on %s: %s; --admin-listen names another "
			 "address, --admin-listen none starts without",
			 admin->opts.address, err_str(rc));
		return rc;
	}
	info = MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_BIND_PORT);
	if (info != NULL)
		admin->address.v4.sin_port = htons(info->port); /* v6 has it in the same place */
	return 0;
}

static int token_take(struct admin *admin, char message_out[256])
{
	char why[200];
	int rc;

	if (admin->opts.token_text != NULL) {
		char reason[256];

		rc = admin_token_parse(admin->opts.token_text, admin->token, reason);
		if (rc < 0) {
			snprintf(why, sizeof(why), "%.190s", reason);
			snprintf(message_out, 256, "admin token: %s", why);
			return rc;
		}
		admin->has_token = true;
		admin->opts.token_text = NULL; /* the caller's, and he wipes it */
	}
	if (admin->has_token || admin->is_loopback)
		return 0;
	snprintf(message_out, 256,
		 "admin endpoint: %.100s can be reached from other hosts and there is no token; "
		 "name its file (admin-token) or listen on 127.0.0.1",
		 admin->opts.address);
	return -EPERM;
}

static struct admin *admin_alloc(const struct admin_opts *opts)
{
	struct admin *admin = calloc(1, sizeof(*admin));

	if (admin == NULL)
		return NULL;
	admin->magic = ADMIN_MAGIC;
	admin->opts = *opts;
	admin->state_without = ADMIN_STARTING;
	admin->view = calloc(1, sizeof(*admin->view));
	if (admin->view == NULL) {
		free(admin);
		return NULL;
	}
	admin->view->options = opts->options;
	admin->view->gpu_cents = opts->options->gpu_price;
	pthread_mutex_init(&admin->lock, NULL);
	return admin;
}

static void admin_free(struct admin *admin)
{
	pthread_mutex_destroy(&admin->lock);
	explicit_bzero(admin->token, sizeof(admin->token));
	free(admin->view);
	admin->magic = 0;
	free(admin);
}

int admin_start(const struct admin_opts *opts, struct admin **admin_out, char message_out[256])
{
	struct admin *admin = admin_alloc(opts);
	int rc;

	ASSERT(*admin_out == NULL);
	snprintf(message_out, 256, "no memory for the admin endpoint");
	if (admin == NULL)
		return -ENOMEM;
	rc = admin_address_parse(opts->address, &admin->address);
	if (rc < 0) {
		snprintf(message_out, 256,
			 "admin-listen takes an address and a port such as 127.0.0.1:9901, not "
			 "'%.80s'",
			 opts->address);
		goto err_free;
	}
	admin->is_loopback = admin_address_is_loopback(&admin->address);
	rc = token_take(admin, message_out);
	if (rc < 0)
		goto err_free;
	rc = daemon_start(admin, message_out);
	if (rc < 0)
		goto err_free;
	message_out[0] = '\0';
	*admin_out = admin;
	return 0;

err_free:
	admin_free(admin);
	return rc;
}

void admin_set_server(struct admin *admin, struct server *server)
{
	CHECK_OBJ(admin, ADMIN_MAGIC);
	ASSERT(server != NULL);
	pthread_mutex_lock(&admin->lock);
	admin->server = server;
	pthread_mutex_unlock(&admin->lock);
}

void admin_clear_server(struct admin *admin)
{
	CHECK_OBJ(admin, ADMIN_MAGIC);
	pthread_mutex_lock(&admin->lock);
	admin->server = NULL;
	admin->state_without = ADMIN_DRAINING;
	pthread_mutex_unlock(&admin->lock);
}

void admin_name(const struct admin *admin, char *buf, size_t buf_size)
{
	CHECK_OBJ(admin, ADMIN_MAGIC);
	(void)admin_address_format(&admin->address, buf, buf_size);
}

void admin_stop(struct admin **admin_ptr)
{
	struct admin *admin = *admin_ptr;

	if (admin == NULL)
		return;
	CHECK_OBJ(admin, ADMIN_MAGIC);
	MHD_stop_daemon(admin->daemon);
	admin_free(admin);
	*admin_ptr = NULL;
}
