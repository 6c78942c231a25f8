/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a request to its reply: a table of routes, who may, and what each does. Knows nothing of
 * HTTP's bytes, so that tests call it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/log.h"
#include "admin_priv.h"
#include "scrape.h"
#include "status.h"

enum {
	HTTP_OK = 200,
	HTTP_ACCEPTED = 202,
	HTTP_BAD_REQUEST = 400,
	HTTP_UNAUTHORIZED = 401,
	HTTP_FORBIDDEN = 403,
	HTTP_NOT_FOUND = 404,
	HTTP_NOT_ALLOWED = 405,
	HTTP_CONFLICT = 409,
	HTTP_UNAVAILABLE = 503,
};

/* --- replies --- */

static bool reply_json(struct admin_reply *reply, unsigned status, json_t *object)
{
	char *text = object != NULL ? json_dumps(object, JSON_INDENT(1)) : NULL;

	json_decref(object);
	if (text == NULL)
		return false;
	reply->status = status;
	reply->type = "application/json";
	reply->text = text;
	reply->size = strlen(text);
	return true;
}

static bool reply_error(struct admin_reply *reply, unsigned status, const char *why)
{
	return reply_json(reply, status, json_pack("{s:s}", "error", why));
}

static bool reply_state(struct admin_reply *reply, unsigned status, enum admin_state state)
{
	return reply_json(reply, status, json_pack("{s:s}", "state", admin_state_names[state]));
}

/* --- reading; the lock is held --- */

static bool serve_page(struct admin *admin, const struct admin_request *request,
		       struct admin_reply *reply)
{
	reply->status = HTTP_OK;
	reply->type = "text/html; charset=utf-8";
	reply->fixed = admin_page;
	reply->size = admin_page_size;
	return true;
}

/* Alive: the reactors turn. A server that starts is, too. */
static bool serve_health(struct admin *admin, const struct admin_request *request,
			 struct admin_reply *reply)
{
	view_fill(admin->view, admin->server, admin->state_without, 0);
	return reply_state(reply, admin->view->silent_count == 0 ? HTTP_OK : HTTP_UNAVAILABLE,
			   admin->view->state);
}

/* Wants traffic. */
static bool serve_ready(struct admin *admin, const struct admin_request *request,
			struct admin_reply *reply)
{
	enum admin_state state;

	view_fill(admin->view, admin->server, admin->state_without, 0);
	state = admin->view->state;
	return reply_state(
		reply, state == ADMIN_READY || state == ADMIN_DEGRADED ? HTTP_OK : HTTP_UNAVAILABLE,
		state);
}

static bool serve_status(struct admin *admin, const struct admin_request *request,
			 struct admin_reply *reply)
{
	view_fill(admin->view, admin->server, admin->state_without, VIEW_PART_ALL);
	return reply_json(reply, HTTP_OK, status_json(admin->view));
}

static bool serve_sessions(struct admin *admin, const struct admin_request *request,
			   struct admin_reply *reply)
{
	view_fill(admin->view, admin->server, admin->state_without, VIEW_PART_SESSIONS);
	return reply_json(reply, HTTP_OK, status_sessions_json(admin->view));
}

static bool serve_tenants(struct admin *admin, const struct admin_request *request,
			  struct admin_reply *reply)
{
	view_fill(admin->view, admin->server, admin->state_without, VIEW_PART_TENANTS);
	return reply_json(reply, HTTP_OK, status_tenants_json(admin->view));
}

static bool serve_savings(struct admin *admin, const struct admin_request *request,
			  struct admin_reply *reply)
{
	view_fill(admin->view, admin->server, admin->state_without,
		  VIEW_PART_SAVINGS | VIEW_PART_CENSUS);
	return reply_json(reply, HTTP_OK, status_savings_json(admin->view));
}

static bool serve_metrics(struct admin *admin, const struct admin_request *request,
			  struct admin_reply *reply)
{
	FILE *out = open_memstream(&reply->text, &reply->size);
	bool is_whole;

	if (out == NULL)
		return false;
	view_fill(admin->view, admin->server, admin->state_without,
		  VIEW_PART_TENANTS | VIEW_PART_SAVINGS);
	scrape_print(out, admin->view);
	is_whole = ferror(out) == 0;
	if (fclose(out) != 0 || !is_whole) {
		free(reply->text);
		reply->text = NULL;
		return false;
	}
	reply->status = HTTP_OK;
	reply->type = "text/plain; version=0.0.4; charset=utf-8";
	return true;
}

/* --- changing; the lock is held, the token was right --- */

static bool serve_drain(struct admin *admin, const struct admin_request *request,
			struct admin_reply *reply)
{
	int rc;

	if (admin->server == NULL)
		return reply_error(reply, HTTP_CONFLICT, "there is no server that could drain");
	rc = server_drain(admin->server, ADMIN_COMMAND_NS);
	log_info("admin drain %s", rc < 0 ? err_str(rc) : "begun");
	if (rc < 0)
		return reply_error(reply, HTTP_UNAVAILABLE, err_str(rc));
	return reply_state(reply, HTTP_OK, ADMIN_DRAINING);
}

/* What a namespace has at all reactors, and the name of its domain if it has one. False: one of
 * them did not say it in time. */
static bool drop_census(struct admin *admin, const struct query_drop *drop, uint32_t count,
			struct census_row *sum)
{
	for (uint32_t i = 0; i < count; i++) {
		struct census_row row = { 0 };
		struct server_query query = { .kind = QUERY_CENSUS,
					      .reactor = i,
					      .in.census.is_one = true,
					      .rows = &row,
					      .row_max = 1,
					      .timeout_ns = VIEW_CENSUS_NS / count };

		memcpy(query.in.census.id.domain, drop->domain, sizeof(drop->domain));
		memcpy(query.in.census.id.ns, drop->ns, sizeof(drop->ns));
		if (server_query(admin->server, &query) < 0)
			return false;
		memcpy(sum->domain_name, row.domain_name, sizeof(sum->domain_name));
		sum->blocks += row.blocks;
		sum->bytes += row.bytes;
	}
	return true;
}

/* A namespace from every reactor; a key from the one that has its shard: *keys_out: was it here? */
static int drop_everywhere(struct admin *admin, const struct query_drop *drop, uint32_t count,
			   uint64_t *keys_out)
{
	struct census_row row;
	int rc = drop->is_namespace ? 0 : -ERR_CHANGED;

	for (uint32_t i = 0; i < count; i++) {
		struct server_query query = { .kind = QUERY_DROP,
					      .reactor = i,
					      .in.drop = *drop,
					      .rows = &row,
					      .row_max = 1,
					      .timeout_ns = ADMIN_COMMAND_NS / count };
		int one = server_query(admin->server, &query);

		if (one == -ERR_CHANGED && !drop->is_namespace)
			continue; /* another reactor's */
		if (one < 0 || rc == -ERR_CHANGED)
			rc = one;
		*keys_out += query.row_count;
	}
	return rc;
}

/* Blocks and bytes are null where nobody knows how many there were. */
static json_t *dropped_json(const struct query_drop *drop, const struct census_row *sum,
			    bool is_counted, uint64_t keys)
{
	json_t *object = json_pack("{s:b}", "dropped", 1);

	if (!drop->is_namespace) {
		json_object_set_new(object, "blocks", json_integer((json_int_t)keys));
		return object;
	}
	json_object_set_new(object, "blocks",
			    is_counted ? json_integer((json_int_t)sum->blocks) : json_null());
	json_object_set_new(object, "payload_bytes",
			    is_counted ? json_integer((json_int_t)sum->bytes) : json_null());
	return object;
}

static bool serve_drop(struct admin *admin, const struct admin_request *request,
		       struct admin_reply *reply)
{
	struct server_info info;
	struct census_row sum = { 0 };
	struct query_drop drop;
	char message[256];
	uint64_t keys = 0;
	bool is_counted;
	int rc;

	if (admin_drop_parse(request->body, request->body_size, &drop, message) < 0)
		return reply_error(reply, HTTP_BAD_REQUEST, message);
	if (admin->server == NULL)
		return reply_error(reply, HTTP_CONFLICT, "there is no server that could drop");
	server_get_info(admin->server, &info);
	is_counted = drop_census(admin, &drop, info.reactor_count, &sum);
	/* One that is no tenant's any more may still have blocks. */
	if (is_counted && sum.domain_name[0] == '\0' && sum.blocks == 0)
		return reply_error(
			reply, HTTP_NOT_FOUND,
			"no tenant and no shared domain has that name, and nothing of it "
			"is here: nothing was dropped");
	rc = drop_everywhere(admin, &drop, info.reactor_count, &keys);
	log_info("admin drop of a %s: %s blocks %llu", drop.is_namespace ? "namespace" : "key",
		 rc < 0 ? err_str(rc) : "done",
		 (unsigned long long)(drop.is_namespace ? sum.blocks : keys));
	if (rc < 0)
		return reply_error(reply, HTTP_UNAVAILABLE, err_str(rc));
	return reply_json(reply, HTTP_OK, dropped_json(&drop, &sum, is_counted, keys));
}

/* What a reload came to. */
static bool reply_reload(struct admin *admin, bool is_asked, struct admin_reply *reply)
{
	char text[ADMIN_RELOAD_TEXT] = "";
	int rc;

	if (admin->opts.reload == NULL || admin->server == NULL)
		return reply_error(reply, HTTP_CONFLICT, "there is nothing to reload");
	rc = admin->opts.reload(admin->opts.ctx, is_asked, text, sizeof(text));
	if (rc == -EINPROGRESS)
		return reply_json(reply, HTTP_ACCEPTED, json_pack("{s:s}", "reload", "running"));
	if (rc == -ENOENT && text[0] == '\0')
		return reply_json(reply, HTTP_OK, json_pack("{s:s}", "reload", "none"));
	if (rc < 0)
		return reply_error(reply, HTTP_CONFLICT, text[0] != '\0' ? text : err_str(rc));
	return reply_json(reply, HTTP_OK,
			  json_pack("{s:s, s:s}", "reload", "done", "message", text));
}

static bool serve_reload(struct admin *admin, const struct admin_request *request,
			 struct admin_reply *reply)
{
	return reply_reload(admin, true, reply);
}

static bool serve_reloaded(struct admin *admin, const struct admin_request *request,
			   struct admin_reply *reply)
{
	return reply_reload(admin, false, reply);
}

/* --- routes --- */

static const struct route {
	const char *path;
	bool is_change; /* POST, and needs the token */
	bool is_open;   /* the same for everybody: needs no token anywhere */
	bool (*serve)(struct admin *admin, const struct admin_request *request,
		      struct admin_reply *reply);
} routes[] = {
	{ "/", false, true, serve_page },
	{ "/metrics", false, false, serve_metrics },
	{ "/v1/drain", true, false, serve_drain },
	{ "/v1/drop", true, false, serve_drop },
	{ "/v1/health", false, false, serve_health },
	{ "/v1/ready", false, false, serve_ready },
	{ "/v1/reload", true, false, serve_reload },
	{ "/v1/reloaded", false, false, serve_reloaded },
	{ "/v1/savings", false, false, serve_savings },
	{ "/v1/sessions", false, false, serve_sessions },
	{ "/v1/status", false, false, serve_status },
	{ "/v1/tenants", false, false, serve_tenants },
};

static const struct route *route_find(const char *path)
{
	for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
		if (strcmp(routes[i].path, path) == 0)
			return &routes[i];
	}
	return NULL;
}

static bool method_fits(const struct route *route, const char *method)
{
	if (route->is_change)
		return strcmp(method, "POST") == 0;
	return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* NULL: he may. Else why not, and the status. */
static const char *refusal(const struct admin *admin, const struct route *route,
			   const struct admin_request *request, unsigned *status_out)
{
	bool needs_token = route->is_change || !admin->is_loopback;

	*status_out = HTTP_FORBIDDEN;
	if (needs_token && !route->is_open) {
		if (!admin->has_token)
			return "this server has no admin token: name a file with one (admin-token)";
		*status_out = HTTP_UNAUTHORIZED;
		if (request->authorization == NULL)
			return "this needs the admin token: Authorization: Bearer TOKEN";
		if (!admin_token_is_in(request->authorization, admin->token)) {
			log_warn("admin token wrong for %s", route->path);
			return "the admin token is not this server's";
		}
		return NULL;
	}
	if (admin->is_loopback && (request->host == NULL || !admin_host_is_plain(request->host)))
		return "address this server as localhost or by its address";
	return NULL;
}

static bool reply_refusal(struct admin_reply *reply, unsigned status, const char *why)
{
	if (status == HTTP_UNAUTHORIZED) {
		reply->header = "WWW-Authenticate";
		reply->value = "Bearer";
	}
	return reply_error(reply, status, why);
}

bool admin_serve(struct admin *admin, const struct admin_request *request,
		 struct admin_reply *reply)
{
	const struct route *route = route_find(request->path);
	const char *why;
	unsigned status;
	bool is_served;

	if (route == NULL)
		return reply_error(reply, HTTP_NOT_FOUND,
				   "no such page; docs/operating/admin.md lists them");
	if (!method_fits(route, request->method)) {
		reply->header = "Allow";
		reply->value = route->is_change ? "POST" : "GET, HEAD";
		return reply_error(reply, HTTP_NOT_ALLOWED, "this page takes another method");
	}
	why = refusal(admin, route, request, &status);
	if (why != NULL)
		return reply_refusal(reply, status, why);
	pthread_mutex_lock(&admin->lock);
	is_served = route->serve(admin, request, reply);
	pthread_mutex_unlock(&admin->lock);
	return is_served;
}
