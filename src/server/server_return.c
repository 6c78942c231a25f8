/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Media that were away come back while the others serve.
 *
 * Normal path, for a medium of which a shard is offline or missing:
 *   1. It is looked at without lock or claim: is it the one that was there? When it is not, nothing
 *      has happened yet.
 *   2. Every reactor gives up its shards of it (QUERY_LEAVE), asked again until they are out of
 * use, LEAVE_NS at most. They are freed in this thread; their memory is never there twice.
 *   3. It is opened with the lock, in an env of this thread, and its shards recover in this thread;
 *      what was acknowledged before is demanded of them (struct shard_mark).
 *   4. Every reactor hears of it and takes its shards (QUERY_JOIN).
 *
 * What was dropped stays dropped. While a medium is away, drops that concern it are refused: no
 * drop that it does not know of was acknowledged. A medium that does not know of one that was
 * acknowledged before is an older copy, or lost what it had flushed, and stays away. So does one
 * that another server has opened since. A restart takes either: it has nothing to hold against
 * them. Of a medium that was missing at the start nothing is known: it is taken as a start would.
 *
 * Failure: whatever goes wrong leaves the medium away: missing, if it was let go of. What was found
 * is said, and the next call begins anew.
 *   A drive that never ends an I/O keeps its shards in step 2: the kernel may still write there.
 *   A reactor that cannot open the medium in step 4 leaves its shards to this thread, which closes
 *   them again, as after a crash; the others have theirs. One that does not answer may take them
 *   at any time: they are left to it, and no other medium comes back in this life of the server.
 *
 * The lock of a medium is its handle here, which stays until the medium leaves again, or the end;
 * its env with it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../base/log.h"
#include "../base/text.h"
#include "server_priv.h"

#define QUERY_NS    (10 * NS_PER_S)
#define LEAVE_NS    (5 * NS_PER_S)
#define LEAVE_PAUSE (20 * NS_PER_MS)

/* A medium on its way back. */
struct comeback {
	struct server *server;
	uint16_t row;
	const char *path;
	char *message;
	struct env *env;
	struct medium *medium;
	struct medium_info info;
	uint32_t shard_count; /* that were opened */
	uint64_t block_count;
};

static struct server_query query_of(const struct comeback *back, enum query_kind kind)
{
	return (struct server_query) { .kind = kind,
				       .reactor = SERVER_REACTOR_ALL,
				       .in.medium.row = back->row,
				       .timeout_ns = QUERY_NS };
}

/* --- 1: is it the one --- */

static int check_known(const struct comeback *back, const struct medium *medium)
{
	const struct medium_info *known = &back->server->plan.media[back->row];

	if (memcmp(known->medium, back->info.medium, sizeof(known->medium)) != 0)
		return server_say(back->message, -ERR_FOREIGN,
				  "%.180s is not the medium that was there", back->path);
	if (medium_incarnation(medium) != back->server->opts.reactor.incarnation)
		return server_say(back->message, -ERR_FOREIGN,
				  "%.100s was opened by another server since, or is an older copy; "
				  "a restart takes it as it is",
				  back->path);
	return 0;
}

static int check_free(const struct comeback *back)
{
	const struct medium_info *info = &back->info;

	for (uint32_t i = 0; i < info->shard_count; i++) {
		if (back->server->plan.table[info->shard_first + i].medium != MEDIUM_NOT_HERE)
			return server_say(back->message, -EINVAL,
					  "%.150s has shard %u, which another medium has",
					  back->path, info->shard_first + i);
	}
	return 0;
}

/* It goes with each of those that are there. */
static int check_missing(const struct comeback *back)
{
	struct server *server = back->server;

	server->plan.media[back->row] = back->info; /* nobody looks at it while it is missing */
	for (uint32_t i = 0; i < server->opts.medium_count; i++) {
		int rc = 0;

		if (!server->plan.is_missing[i])
			rc = server_check_alike(&server->opts, &server->plan, i, back->row,
						back->message);
		if (rc < 0)
			return rc;
	}
	return check_free(back);
}

static int look(struct comeback *back)
{
	struct medium *medium = NULL;
	int rc = medium_open_read_only(back->env, back->path, &medium, back->message);

	if (rc < 0)
		return rc;
	medium_get_info(medium, &back->info);
	rc = back->server->plan.is_missing[back->row] ? check_missing(back)
						      : check_known(back, medium);
	medium_close(&medium);
	return rc;
}

/* --- 2: the reactors let go --- */

/* What a reactor has let go of is freed at once, whatever the others say. */
static void left_take(struct comeback *back, const struct left_row *rows, uint32_t count)
{
	struct server *server = back->server;

	for (uint32_t i = 0; i < count; i++) {
		struct shard *shard = rows[i].shard;

		shard_get_mark(shard, &server->marks[rows[i].index]);
		server->has_mark[rows[i].index] = true;
		shard_attach(shard, back->env, NULL);
		(void)shard_close(&shard, true); /* as a crash: nothing can fail */
		atomic_fetch_add_explicit(&server->missing_count, 1, memory_order_relaxed);
	}
}

static int leave_ask(struct comeback *back)
{
	struct left_row rows[WIRE_SHARD_MAX];
	struct server_query query = query_of(back, QUERY_LEAVE);
	int rc;

	query.rows = rows;
	query.row_max = WIRE_SHARD_MAX;
	rc = server_query(back->server, &query);
	left_take(back, rows, query.row_count);
	return rc;
}

static int leave(struct comeback *back)
{
	struct server *server = back->server;
	int rc = leave_ask(back);

	for (uint64_t waited = 0; rc == -EAGAIN && waited < LEAVE_NS; waited += LEAVE_PAUSE) {
		(void)back->env->ops->poll(back->env, LEAVE_PAUSE); /* nothing comes there */
		rc = leave_ask(back);
	}
	if (rc == -EAGAIN)
		return server_say(back->message, -ERR_BUSY,
				  "%.150s is still in use: by operations, or by reads and writes "
				  "that its drive does not end",
				  back->path);
	if (rc < 0)
		return server_say(back->message, rc, "%.150s: the reactors do not let go of it: %s",
				  back->path, err_str(rc));
	medium_close(&server->returned[back->row]);
	if (server->return_env[back->row] != NULL)
		server->opts.env_destroy(server->opts.ctx, &server->return_env[back->row]);
	return 0;
}

/* --- 3: it is opened --- */

static int check_memory(const struct comeback *back)
{
	const struct server *server = back->server;
	uint64_t more;
	char text[32];

	if (!server->plan.is_missing[back->row] || server->opts.ram_bytes == 0)
		return 0; /* it had its memory before */
	more = back->info.shard_count * shard_memory_size(&back->info, NULL, &server->opts.shard);
	if (server->plan.memory.total + more <= server->opts.ram_bytes)
		return 0;
	return server_say(back->message, -ENOMEM,
			  "%.100s needs %s more than the machine has memory: restart with fewer "
			  "buffers",
			  back->path, text_format_size(text, sizeof(text), more));
}

static int open_medium(struct comeback *back)
{
	struct medium_info info;
	int rc = medium_open(back->env, back->path, back->server->opts.reactor.incarnation,
			     &back->medium, back->message);

	if (rc < 0)
		return rc;
	medium_get_info(back->medium, &info);
	if (memcmp(info.medium, back->info.medium, sizeof(info.medium)) != 0)
		return server_say(back->message, -ERR_FOREIGN,
				  "%.150s became another medium meanwhile", back->path);
	return 0;
}

static int open_shard(struct comeback *back, uint32_t index)
{
	struct server *server = back->server;
	uint32_t at = back->info.shard_first + index;
	struct shard_opts opts = server->opts.shard;
	struct shard_stats stats;
	int rc;

	opts.mark = server->has_mark[at] ? &server->marks[at] : NULL;
	rc = shard_open(back->env, back->medium, index, NULL, &opts, &server->joining[at]);
	if (rc == -ERR_FOREIGN)
		return server_say(back->message, rc,
				  "%.80s: shard %u does not hold all that it had acknowledged: an "
				  "older copy, or the drive lost it; a restart takes it as it is",
				  back->path, at);
	if (rc == 0)
		rc = shard_settle(server->joining[at]);
	if (rc < 0)
		return server_say(back->message, rc, "%.150s: shard %u cannot be opened: %s",
				  back->path, at, err_str(rc));
	shard_get_stats(server->joining[at], &stats);
	back->block_count += stats.block_count;
	back->shard_count++;
	return 0;
}

static void joining_close(struct comeback *back)
{
	for (uint32_t i = 0; i < WIRE_SHARD_MAX; i++)
		(void)shard_close(&back->server->joining[i], true); /* as a crash */
}

static int open_all(struct comeback *back)
{
	int rc = check_memory(back);

	if (rc == 0)
		rc = open_medium(back);
	for (uint32_t i = 0; i < back->info.shard_count && rc == 0; i++)
		rc = open_shard(back, i);
	if (rc == 0)
		return 0;
	joining_close(back);
	medium_close(&back->medium);
	return rc;
}

/* --- 4: the reactors take it --- */

static void table_set(const struct comeback *back)
{
	struct server *server = back->server;
	const struct medium_info *info = &back->info;

	for (uint32_t i = info->shard_first; i < info->shard_first + info->shard_count; i++) {
		server->plan.table[i].medium = back->row;
		shard_get_uuid(server->joining[i], server->plan.table[i].uuid);
	}
	if (server->plan.is_missing[back->row])
		server->opts.reactor.capacity +=
			info->shard_count * info->segment_count * info->segment_room;
	server->plan.is_missing[back->row] = false;
	server->plan.media[back->row] = *info;
}

/* What nobody took: the reactor could not open the medium. */
static uint32_t untaken_close(struct comeback *back)
{
	struct server *server = back->server;
	uint32_t count = 0;

	for (uint32_t i = 0; i < WIRE_SHARD_MAX; i++) {
		if (server->joining[i] == NULL)
			continue;
		count++;
		shard_get_mark(server->joining[i], &server->marks[i]);
		server->has_mark[i] = true;
		shard_attach(server->joining[i], server->return_env[back->row],
			     server->returned[back->row]);
	}
	joining_close(back);
	return count;
}

static int join(struct comeback *back)
{
	struct server *server = back->server;
	struct server_query query = query_of(back, QUERY_JOIN);
	uint32_t left;
	int rc;

	table_set(back);
	for (uint32_t i = 0; i < WIRE_SHARD_MAX; i++) {
		if (server->joining[i] != NULL)
			shard_detach(server->joining[i]);
	}
	query.in.medium.owner = server->returned[back->row] = back->medium;
	query.in.medium.memory = server->return_env[back->row] = back->env;
	query.in.medium.shards = server->joining;
	query.in.medium.table = server->plan.table;
	query.in.medium.capacity = server->opts.reactor.capacity;
	rc = server_query(server, &query);
	server->is_join_open = query.silent_count > 0;
	left = server->is_join_open ? back->shard_count : untaken_close(back);
	atomic_fetch_sub_explicit(&server->missing_count, back->shard_count - left,
				  memory_order_relaxed);
	if (rc < 0)
		return server_say(back->message, rc, "%.150s: %u shards stay away: %s", back->path,
				  left, err_str(rc));
	return 0;
}

/* --- all of it --- */

static int run(struct comeback *back)
{
	struct server *server = back->server;
	uint64_t begin_ns;
	int rc = server->opts.env_create(server->opts.ctx, SERVER_ENV_RECOVERY, &back->env,
					 back->message);

	if (rc < 0)
		return rc;
	begin_ns = env_now_ns(back->env);
	rc = look(back);
	if (rc == 0)
		rc = leave(back);
	if (rc == 0)
		rc = open_all(back);
	if (rc < 0) {
		server->opts.env_destroy(server->opts.ctx, &back->env);
		return rc;
	}
	rc = join(back);
	if (rc < 0)
		return rc;
	return server_say(back->message, 0,
			  "%.150s is back: %u shards, %" PRIu64 " blocks, %" PRIu64 " ms",
			  back->path, back->shard_count, back->block_count,
			  (env_now_ns(back->env) - begin_ns) / NS_PER_MS);
}

static void row_run(struct server *server, uint16_t medium, struct server_return *row)
{
	struct comeback back = { .server = server,
				 .row = medium,
				 .path = server->opts.media[medium],
				 .message = row->message };

	row->path = back.path;
	row->message[0] = '\0';
	row->rc = run(&back);
	if (row->rc < 0 && row->message[0] == '\0')
		(void)server_say(row->message, 0, "%.150s: %s", back.path, err_str(row->rc));
	if (row->rc < 0)
		log_warn("medium stays away: %s", row->message);
	else
		log_info("medium %s", row->message);
}

/* Which media have a shard that does not answer, by row. */
static int media_away(struct server *server, bool is_away[SERVER_MEDIUM_MAX])
{
	struct shard_row rows[WIRE_SHARD_MAX];
	struct server_query query = { .kind = QUERY_SHARDS,
				      .reactor = SERVER_REACTOR_ALL,
				      .rows = rows,
				      .row_max = WIRE_SHARD_MAX,
				      .timeout_ns = QUERY_NS };
	int rc = server_query(server, &query);

	for (uint32_t i = 0; i < server->opts.medium_count; i++)
		is_away[i] = server->plan.is_missing[i];
	for (uint32_t i = 0; i < query.row_count; i++) {
		if (rows[i].state != SHARD_STATE_ONLINE && rows[i].medium != MEDIUM_NOT_HERE)
			is_away[rows[i].medium] = true;
	}
	return server->is_join_open ? -ETIMEDOUT : rc;
}

int server_return_media(struct server *server, struct server_return rows[SERVER_MEDIUM_MAX])
{
	bool is_away[SERVER_MEDIUM_MAX] = { false };
	int count = 0;
	int rc;

	CHECK_OBJ(server, SERVER_MAGIC);
	if (server->opts.medium_count == 0)
		return 0;
	pthread_mutex_lock(&server->return_lock);
	rc = media_away(server, is_away);
	for (uint16_t i = 0; i < server->opts.medium_count && rc == 0; i++) {
		if (is_away[i] && !server->is_join_open)
			row_run(server, i, &rows[count++]);
	}
	pthread_mutex_unlock(&server->return_lock);
	return rc < 0 ? rc : count;
}

void server_return_fini(struct server *server)
{
	for (uint32_t i = 0; i < SERVER_MEDIUM_MAX; i++) {
		medium_close(&server->returned[i]);
		if (server->return_env[i] != NULL)
			server->opts.env_destroy(server->opts.ctx, &server->return_env[i]);
	}
}
