/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One flush at a time, for all that wait.
 *
 *   1. What was written joins `waiting` (flush_wait) and a task is deferred, so that all writes
 *      that ended in the same turn of the loop share a flush.
 *   2. The task begins a flush: `waiting` becomes `serving`, and the oldest record that is not yet
 *      written is remembered: every entry below it is on the medium now.
 *   3. The flush ends: `serving` is told, entries below the remembered one are durable, and what
 *      joined meanwhile gets a flush of its own. A flush that was under way when a write ended says
 *      nothing about it.
 *
 * A flush that fails says that any write since the last good one may be lost, whatever it
 * answered: the shard goes offline, all that wait get -EIO.
 */
#include "shard_priv.h"

static void tell_all(struct list *waits, int rc)
{
	struct list all;

	list_init(&all);
	list_splice_tail(&all, waits);
	while (!list_is_empty(&all)) {
		struct shard_wait *wait = list_head(&all, struct shard_wait, node);

		list_del(&wait->node);
		wait->done(wait, rc);
	}
}

static void flush_ended(struct env_io *io)
{
	struct shard *shard = CONTAINER_OF(io, struct shard, flush.io);
	struct flush *flush = &shard->flush;

	CHECK_OBJ(shard, SHARD_MAGIC);
	ASSERT(flush->is_under_way);
	flush->is_under_way = false;
	if (io->result < 0) {
		shard->stats.io_errors++;
		shard_go_offline(shard, "flush", (int)io->result);
		return;
	}
	shard->durable_sequence = MAX(shard->durable_sequence, flush->watermark);
	shard->kept_sequence = flush->covered;
	tell_all(&flush->serving, 0);
	if (!list_is_empty(&flush->waiting))
		shard->env->ops->defer(shard->env, &flush->task);
}

static void flush_run(struct env_task *task)
{
	struct shard *shard = CONTAINER_OF(task, struct shard, flush.task);
	struct flush *flush = &shard->flush;

	CHECK_OBJ(shard, SHARD_MAGIC);
	if (flush->is_under_way || list_is_empty(&flush->waiting))
		return;
	flush->is_under_way = true;
	flush->watermark = log_oldest_unwritten(shard);
	flush->covered = shard->written_sequence;
	list_splice_tail(&flush->serving, &flush->waiting);
	shard->stats.flushes++;
	flush->io = (struct env_io) { .done = flush_ended, .blk = shard->blk, .kind = ENV_FLUSH };
	shard->env->ops->blk_submit(shard->env, &flush->io);
}

void flush_init(struct shard *shard)
{
	shard->flush.task.run = flush_run;
	list_init(&shard->flush.waiting);
	list_init(&shard->flush.serving);
}

void flush_wait(struct shard *shard, struct shard_wait *wait)
{
	if (shard->is_offline) {
		wait->done(wait, -EIO);
		return;
	}
	list_add_tail(&shard->flush.waiting, &wait->node);
	if (!shard->flush.is_under_way)
		shard->env->ops->defer(shard->env, &shard->flush.task);
}

void flush_fail(struct shard *shard, int rc)
{
	ASSERT(shard->is_offline);
	tell_all(&shard->flush.serving, rc);
	tell_all(&shard->flush.waiting, rc);
}
