/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public calls of ctxkv.h for the user's thread: open, close, options, alloc, submit and poll,
 * the blocking ones, and what a client says of itself.
 *
 * An op goes through a ring to whoever drives the client, the progress thread (thread.c) or the
 * user's own calls (CTXKV_CALLER_DRIVEN), which owns everything below; results come back through
 * another (face.h). So nothing here touches a session. op.c has what becomes of an op.
 *
 * Failure: arguments are checked here, with a sentence at open; afterwards everything is the
 * outcome of an op. A broken assertion below leaves a client that answers misses (panic.c).
 */
#include "../../include/ctxkv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "../base/log.h"
#include "../env/posix/posix.h"
#include "face.h"
#include "stage.h"
#include "url.h"

#define LANES_DEFAULT    4
#define INFLIGHT_DEFAULT 1024
#define RELEASE_WAIT_NS  (100 * NS_PER_MS)
#define OPEN_TICK_NS     (2 * NS_PER_MS)
#define STAGING_DEFAULT  (128 * MiB)

#define SAME(name)       _Static_assert(CTXKV_E##name == ERR_##name, "ctxkv.h repeats errors.def")
SAME(MISS);
SAME(CORRUPT);
SAME(CHANGED);
SAME(DEADLINE);
SAME(UNREACHABLE);
SAME(BROKEN);
SAME(OFFLINE);
SAME(NAME);
SAME(PEER);
SAME(CLOSING);
SAME(BUSY);
SAME(FULL);
SAME(ABORTED);
SAME(TOO_LARGE);
SAME(DENIED);
SAME(AUTH);
SAME(PROTOCOL);
SAME(VERSION);
SAME(FORMAT);
SAME(IN_USE);
SAME(FOREIGN);
SAME(UNSUPPORTED);
SAME(FORKED);
SAME(URL);
#undef SAME
_Static_assert(sizeof(struct ctxkv_item) == 160, "ABI");
_Static_assert(sizeof(struct ctxkv_op) == 192, "ABI");
_Static_assert(CTXKV_TRANSPORT_TCP == CLIENT_TCP, "ctxkv.h repeats client.h");
_Static_assert(CTXKV_TRANSPORT_SHM == CLIENT_SHM, "ctxkv.h repeats client.h");
_Static_assert(CTXKV_ITEM_MAX == WIRE_ITEM_MAX, "an op is at most a request");

/* --- options --- */

void ctxkv_opts_init(struct ctxkv_opts *opts, size_t size)
{
	const struct ctxkv_opts defaults = {
		.size = size,
		.lanes = LANES_DEFAULT,
		.sessions = SESSION_DEFAULT,
		.inflight_max = INFLIGHT_DEFAULT,
		.log_level = CTXKV_LOG_WARN,
		.probe_timeout_ns = NS_PER_S,
		.timeout_ns = 10 * NS_PER_S,
		.connect_timeout_ns = 2 * NS_PER_S,
		.staging_size = STAGING_DEFAULT,
	};

	memset(opts, 0, size);
	memcpy(opts, &defaults, MIN(size, sizeof(defaults)));
}

/* The caller may have been compiled with a shorter struct: what it lacks has its default. */
static int opts_take(const struct ctxkv_opts *given, struct ctxkv_opts *opts_out, char *message)
{
	struct ctxkv_opts opts;
	const char *wrong = NULL;

	ctxkv_opts_init(&opts, sizeof(opts));
	if (given != NULL)
		memcpy(&opts, given, MIN(given->size, sizeof(opts)));
	if (given != NULL && given->size < offsetof(struct ctxkv_opts, lanes))
		wrong = "size is not set: call ctxkv_opts_init() first";
	else if (given != NULL && given->size > sizeof(opts))
		wrong = "size is that of a newer ctxkv.h than this library";
	else if ((opts.flags & ~(CTXKV_CALLER_DRIVEN | CTXKV_HUGE_PAGES)) != 0)
		wrong = "flags has a bit that is not known";
	else if (opts.lanes < 1 || opts.lanes > WIRE_LANE_MAX)
		wrong = "lanes is not 1 to 16";
	else if (opts.inflight_max < 1 || opts.inflight_max > CLIENT_INFLIGHT_MAX)
		wrong = "inflight_max is not 1 to 32768";
	else if (opts.sessions < 1 || opts.sessions > SESSION_MAX)
		wrong = "sessions is not 1 to 512";
	else if (opts.transport > CTXKV_TRANSPORT_SHM)
		wrong = "transport is not one of CTXKV_TRANSPORT_*";
	else if (opts.log_level > CTXKV_LOG_DEBUG)
		wrong = "log_level is not one of CTXKV_LOG_*";
	else if (opts.probe_timeout_ns == 0 || opts.timeout_ns == 0 || opts.connect_timeout_ns == 0)
		wrong = "a timeout is 0";
	else if (opts.staging_size < STAGE_SIZE_MIN || opts.staging_size > STAGE_SIZE_MAX)
		wrong = "staging_size is not 64 MiB to 4 GiB";
	if (wrong != NULL) {
		snprintf(message, URL_MESSAGE_SIZE, "ctxkv_opts: %s", wrong);
		return -EINVAL;
	}
	*opts_out = opts;
	return 0;
}

/* --- make and free --- */

static uint32_t power_of_2_from(uint32_t value)
{
	uint32_t power = 1;

	while (power < value)
		power *= 2;
	return power;
}

static void face_free(struct ctxkv_client *face)
{
	while (face->allocations != NULL) {
		struct allocation *allocation = face->allocations;

		face->allocations = allocation->next;
		shared_free(&allocation->memory);
		free(allocation);
	}
	shared_free(&face->stage);
	if (face->event_fd >= 0)
		close(face->event_fd);
	loan_fini(&face->loan);
	free(face->table);
	free(face->free_slots);
	free(face->kept.entries);
	free(face->calls.entries);
	free(face->events.entries);
	face->magic = 0;
	free(face);
}

/* Before there is an env: the only memory of the library that does not come from one. */
static struct ctxkv_client *face_alloc(const struct ctxkv_opts *opts)
{
	struct ctxkv_client *face = calloc(1, sizeof(*face));
	uint32_t inflight_max = opts->inflight_max;
	uint32_t events = power_of_2_from(2 * inflight_max);
	uint32_t calls = power_of_2_from(2 * inflight_max + 16); /* submit, cancel; and others */

	if (face == NULL)
		return NULL;
	face->magic = FACE_MAGIC;
	face->fork_generation = face_fork_generation();
	face->inflight_max = inflight_max;
	face->spin_ns = SPIN_MAX_NS;
	face->has_thread = (opts->flags & CTXKV_CALLER_DRIVEN) == 0;
	face->is_huge = (opts->flags & CTXKV_HUGE_PAGES) != 0;
	face->log = (struct panic_log) {
		.line = opts->log,
		.ctx = opts->log_ctx,
		.level = (enum log_level)opts->log_level,
	};
	face->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	face->table = calloc(inflight_max, sizeof(*face->table));
	face->free_slots = calloc(inflight_max, sizeof(*face->free_slots));
	ring_init(&face->kept, calloc(events, sizeof(struct ctxkv_event)), events,
		  sizeof(struct ctxkv_event));
	ring_init(&face->events, calloc(events, sizeof(struct ctxkv_event)), events,
		  sizeof(struct ctxkv_event));
	ring_init(&face->calls, calloc(calls, sizeof(struct call)), calls, sizeof(struct call));
	if (loan_init(&face->loan) < 0 || face->event_fd < 0 || face->table == NULL ||
	    face->free_slots == NULL || face->kept.entries == NULL ||
	    face->events.entries == NULL || face->calls.entries == NULL) {
		face_free(face);
		return NULL;
	}
	for (uint32_t i = 0; i < inflight_max; i++)
		face->free_slots[i] = inflight_max - 1 - i;
	face->free_count = inflight_max;
	return face;
}

/* --- open --- */

struct opening {
	struct ctxkv_client *face;
	const struct ctxkv_opts *opts;
	const char *url;
	int rc;
	char message[URL_MESSAGE_SIZE];
};

/* Lanes that are there, and as many of a session that come while others go. */
static uint32_t sock_max(const struct ctxkv_opts *opts)
{
	return opts->lanes * opts->sessions + 2 * WIRE_LANE_MAX;
}

/* How sessions to servers on this host are made, and the memory for it. NULL: as all others. */
static int open_door(struct opening *opening, const struct client_target *target,
		     const struct xprt_ops **door_out)
{
	const struct xprt_ops *door = xprt_find("shm");
	struct ctxkv_client *face = opening->face;
	int rc = 0;

	if (target->transport == CLIENT_SHM && (door == NULL || target->is_tls)) {
		snprintf(opening->message, sizeof(opening->message),
			 target->is_tls ? "shared memory has no TLS: ask for one or the other"
					: "this library has no shared memory");
		return -ERR_UNSUPPORTED;
	}
	if (target->transport == CLIENT_TCP || target->is_tls || door == NULL)
		return 0;
	rc = shared_alloc(&face->stage, round_up(opening->opts->staging_size, STAGE_CHUNK), false,
			  false);
	if (rc < 0) {
		snprintf(opening->message, sizeof(opening->message),
			 "no shared memory of %llu bytes to stage in: %s",
			 (unsigned long long)opening->opts->staging_size, err_str(rc));
		return rc;
	}
	*door_out = door;
	return 0;
}

static int open_core(struct opening *opening, const struct client_target *target)
{
	const struct xprt_ops *door = NULL;
	int door_rc = open_door(opening, target, &door);
	struct ctxkv_client *face = opening->face;
	const struct env_posix_opts env_opts = { .io_thread_count = 1,
						 .sock_max = sock_max(opening->opts) };
	const struct client_opts core_opts = {
		.target = *target,
		.xprt = &xprt_tcp,
		.door = door,
		.is_door_only = target->transport == CLIENT_SHM,
		.is_door_used = &face->is_reached,
		.stage = face->stage.base,
		.stage_size = face->stage.base != NULL ? face->stage.size : 0,
		.stage_prepare = shared_make_huge,
		.lanes = opening->opts->lanes,
		.session_max = opening->opts->sessions,
		.inflight_max = opening->opts->inflight_max,
		.probe_timeout_ns = opening->opts->probe_timeout_ns,
		.timeout_ns = opening->opts->timeout_ns,
		.connect_timeout_ns = opening->opts->connect_timeout_ns,
		.release_wait_ns = RELEASE_WAIT_NS,
		.event = face_event,
		.ctx = face,
	};
	int rc;

	if (door_rc < 0)
		return door_rc;
	rc = env_posix_create(&env_opts, &face->env);
	if (rc < 0)
		return rc;
	rc = client_create(face->env, &core_opts, &face->core);
	if (rc < 0)
		goto err_destroy_env;
	if (!face->has_thread)
		return 0;
	rc = face_thread_start(face);
	if (rc < 0)
		goto err_destroy_core;
	return 0;

err_destroy_core:
	client_destroy(&face->core);
err_destroy_env:
	env_posix_destroy(&face->env);
	return rc;
}

static void open_body(void *ctx)
{
	struct opening *opening = ctx;
	struct client_target target;

	if (opening->opts->log_level == CTXKV_LOG_DEBUG)
		log_level_set(LOG_DEBUG);
	opening->rc = url_resolve(opening->url, &target, opening->message);
	if (opening->rc < 0)
		return;
	if (opening->opts->transport != CTXKV_TRANSPORT_AUTO)
		target.transport = (enum client_transport)opening->opts->transport;
	opening->rc = open_core(opening, &target);
	explicit_bzero(&target, sizeof(target));
	if (opening->rc < 0 && opening->message[0] == '\0')
		snprintf(opening->message, sizeof(opening->message), "cannot start the client: %s",
			 err_str(opening->rc));
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/*
 * Until every server is connected or known to be out of reach, wait_ns at most. Who is refused by
 * all of them, and by one for his secret or version, has a configuration to mend: an error.
 */
static int open_wait(struct ctxkv_client *face, uint64_t wait_ns, char *message)
{
	uint64_t begin_ns = now_ns();
	struct sync sync = { .kind = SYNC_STAT };
	const struct timespec tick = { .tv_nsec = (long)OPEN_TICK_NS };
	int why;
	int rc;

	do {
		rc = face_sync(face, &sync);
		if (rc < 0 || (sync.is_settled && sync.stat.is_connected != 0))
			return rc;
		why = (int)sync.stat.last_error;
		if (sync.is_settled && err_class_of(why) == ERR_CLASS_SETUP) {
			snprintf(message, URL_MESSAGE_SIZE, "server %s: %s%s", sync.stat.server,
				 sync.stat.fallback[0] != '\0' ? "shared memory: " : "",
				 sync.stat.fallback[0] != '\0' ? sync.stat.fallback : err_str(why));
			return why;
		}
		if (sync.is_settled)
			return 0;
		if (face->has_thread)
			(void)nanosleep(&tick, NULL); /* cut short: one more look */
		else
			face_run_once(face, OPEN_TICK_NS);
		sync = (struct sync) { .kind = SYNC_STAT };
	} while (now_ns() - begin_ns < wait_ns);
	return 0;
}

int ctxkv_open(const struct ctxkv_opts *given, uint64_t wait_ns, struct ctxkv_client **client_out,
	       char *message_out, size_t message_size)
{
	struct opening opening = { .message = "" };
	struct ctxkv_opts opts;
	int rc;

	panic_init();
	face_fork_init();
	rc = opts_take(given, &opts, opening.message);
	if (rc == 0) {
		opening.opts = &opts;
		opening.url = opts.url;
		opening.face = face_alloc(&opts);
		rc = opening.face != NULL ? 0 : -ENOMEM;
	}
	if (rc == 0) {
		rc = panic_guard(&opening.face->log, open_body, &opening);
		rc = rc < 0 ? rc : opening.rc;
		if (rc < 0)
			face_free(opening.face);
	}
	if (rc == 0) {
		face_call(opening.face, (struct call) { .kind = CALL_CONNECT });
		face_wake(opening.face);
		if (wait_ns > 0)
			rc = open_wait(opening.face, wait_ns, opening.message);
		if (rc < 0)
			ctxkv_close(&opening.face);
	}
	if (rc == 0)
		*client_out = opening.face;
	else if (message_out != NULL && message_size > 0)
		snprintf(message_out, message_size, "%s",
			 opening.message[0] != '\0' ? opening.message : err_str(rc));
	return rc;
}

/* --- close --- */

static void close_body(void *ctx)
{
	face_close_core(ctx);
}

/* What a broken client held stays where it is, and reachable. */
static void face_leave(struct ctxkv_client *face)
{
	static _Atomic(struct ctxkv_client *) broken;

	close(face->event_fd);
	face->event_fd = -1;
	face->magic = 0;
	face->next_broken = atomic_exchange(&broken, face);
}

/* The ops of a closed client may be used again with another. */
static void table_clear(struct ctxkv_client *face)
{
	for (uint32_t slot = 0; slot < face->inflight_max; slot++) {
		if (face->table[slot] != NULL)
			memset(face->table[slot]->reserved, 0, sizeof(face->table[slot]->reserved));
	}
}

void ctxkv_close(struct ctxkv_client **client)
{
	struct ctxkv_client *face = *client;
	int rc;

	if (face == NULL)
		return;
	*client = NULL;
	rc = face_check(face);
	if (rc == -EINVAL)
		return;
	if (rc == 0 && !face->is_buried) {
		if (face->has_thread) {
			loan_return(&face->loan);
			face_call(face, (struct call) { .kind = CALL_STOP });
			face_wake(face);
			pthread_join(face->thread, NULL);
		} else {
			face_run(face, close_body, face);
		}
		if (atomic_load(&face->is_broken)) {
			face->is_joined = true;
			face_bury(face);
		}
	}
	if (rc == 0)
		table_clear(face);
	if (face->is_buried || face->is_left) {
		face_leave(face);
		return;
	}
	if (face_env_destroy(face) < 0) {
		face_leave(face);
		return;
	}
	face_free(face);
}

/* --- regions --- */

/* A call about memory, in the core's thread. */
static int region_call(struct ctxkv_client *client, struct sync *sync)
{
	int rc = face_check(client);

	if (rc < 0)
		return rc;
	return client->is_buried ? -ERR_BROKEN : face_sync(client, sync);
}

static int declare(struct ctxkv_client *client, void *base, uint64_t size, uint32_t page_size,
		   struct ctxkv_region **region_out)
{
	struct sync sync = { .kind = SYNC_DECLARE,
			     .region = { .base = base, .size = size, .page_size = page_size } };
	int rc = region_call(client, &sync);

	if (rc == 0)
		*region_out = sync.region.region;
	return rc;
}

int ctxkv_region_declare(struct ctxkv_client *client, void *base, uint64_t size,
			 struct ctxkv_region **region_out)
{
	return declare(client, base, size, 0, region_out);
}

int ctxkv_region_undeclare(struct ctxkv_client *client, struct ctxkv_region **region)
{
	struct sync sync = { .kind = SYNC_UNDECLARE, .region = { .region = *region } };
	int rc = face_check(client);

	if (rc == 0 && !client->is_buried)
		rc = face_sync(client, &sync);
	if (rc == 0)
		*region = NULL;
	return rc;
}

int ctxkv_region_get_info(const struct ctxkv_region *region, struct ctxkv_region_info *info)
{
	struct ctxkv_region_info all;
	uint64_t size = MIN(info->size, sizeof(all));

	if (size < sizeof(info->size))
		return -EINVAL;
	client_region_info(region, &all);
	memcpy(info, &all, size);
	info->size = size;
	return 0;
}

struct ctxkv_region *ctxkv_region_find(struct ctxkv_client *client, const void *base, uint64_t size)
{
	struct sync sync = { .kind = SYNC_FIND, .region = { .base = (void *)base, .size = size } };

	return region_call(client, &sync) == 0 ? sync.region.region : NULL;
}

static int alloc_memory(struct ctxkv_client *client, uint64_t size, struct shared *memory)
{
	int rc = -ENOMEM;

	if (client->is_huge)
		rc = shared_alloc(memory, size, true, true);
	if (rc == 0)
		return 0;
	if (client->is_huge && !client->is_huge_missed) {
		client->is_huge_missed = true;
		log_warn(
			"ctxkv_alloc: no huge pages for %llu bytes, normal ones are taken: reserve "
			"some (sysctl vm.nr_hugepages)",
			(unsigned long long)size);
	}
	return shared_alloc(memory, size, false, true);
}

struct alloc_call {
	struct ctxkv_client *client;
	uint64_t size;
	struct shared *memory;
	int rc;
};

/* Under a guard, so that what it logs goes where the client's log goes. */
static void alloc_body(void *ctx)
{
	struct alloc_call *call = ctx;

	call->rc = alloc_memory(call->client, call->size, call->memory);
}

void *ctxkv_alloc(struct ctxkv_client *client, uint64_t size)
{
	struct allocation *allocation;
	struct alloc_call call = { client, size, NULL, 0 };

	if (face_check(client) < 0)
		return NULL;
	allocation = calloc(1, sizeof(*allocation));
	if (allocation == NULL)
		return NULL;
	call.memory = &allocation->memory;
	if (panic_guard(&client->log, alloc_body, &call) < 0 || call.rc < 0) {
		free(allocation);
		return NULL;
	}
	allocation->next = client->allocations;
	client->allocations = allocation;
	/* Not declared (the table is full): it is memory all the same. */
	(void)!declare(client, allocation->memory.base, allocation->memory.size,
		       allocation->memory.page_size, &allocation->region);
	return allocation->memory.base;
}

void ctxkv_free(struct ctxkv_client *client, void *base)
{
	struct allocation **at;

	if (face_check(client) < 0)
		return;
	for (at = &client->allocations; *at != NULL; at = &(*at)->next) {
		struct allocation *allocation = *at;
		struct sync sync = { .kind = SYNC_ABANDON };

		if (allocation->memory.base != base)
			continue;
		*at = allocation->next;
		sync.region.region = allocation->region;
		if (allocation->region != NULL)
			(void)!region_call(client, &sync); /* broken: nobody looks at it any more */
		shared_free(&allocation->memory);
		free(allocation);
		return;
	}
}

/* --- names --- */

void ctxkv_namespace(const char *text, struct ctxkv_ns *ns_out)
{
	auth_namespace_id(text, ns_out->bytes);
}

void ctxkv_domain(const char *name, uint8_t domain_out[16])
{
	auth_domain_id(name, domain_out);
}

/* --- state --- */

int ctxkv_get_stat(const struct ctxkv_client *client, struct ctxkv_stat *stat)
{
	struct sync sync = { .kind = SYNC_STAT };
	uint64_t size = MIN(stat->size, sizeof(*stat));
	int rc = face_check(client);

	if (rc < 0)
		return rc;
	if (size < sizeof(stat->size))
		return -EINVAL;
	rc = client->is_buried ? -ERR_BROKEN : face_sync((struct ctxkv_client *)client, &sync);
	if (rc == -ERR_BROKEN)
		sync.stat = (struct ctxkv_stat) { .last_error = -ERR_BROKEN };
	else if (rc < 0)
		return rc;
	memcpy(stat, &sync.stat, size);
	stat->size = size;
	return 0;
}

int ctxkv_get_servers(const struct ctxkv_client *client, struct ctxkv_server *servers, size_t count)
{
	struct sync sync = { .kind = SYNC_SERVERS };
	int rc = face_check(client);

	if (rc < 0)
		return rc;
	if (count > 0 && servers[0].size < sizeof(servers[0].size))
		return -EINVAL;
	sync.servers.rows = servers;
	sync.servers.size = count > 0 ? (size_t)servers[0].size : 0;
	sync.servers.count = count;
	return client->is_buried ? -ERR_BROKEN : face_sync((struct ctxkv_client *)client, &sync);
}

int ctxkv_server_stat(struct ctxkv_client *client, uint64_t timeout_ns, char *buf, size_t buf_size)
{
	struct sync sync = {
		.kind = SYNC_SERVER_STAT,
		.server_stat = { .text.timeout_ns = timeout_ns, .buf = buf, .buf_size = buf_size },
	};
	int rc = face_check(client);

	if (rc < 0)
		return rc;
	return client->is_buried ? -ERR_BROKEN : face_sync(client, &sync);
}

const char *ctxkv_strerror(int code)
{
	return err_str(code);
}

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

const char *ctxkv_version(void)
{
	return TEXT(CTXKV_VERSION_MAJOR) "." TEXT(CTXKV_VERSION_MINOR) "." TEXT(
		CTXKV_VERSION_PATCH);
}
