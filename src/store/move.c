/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shard goes from one env to another: so that the recovery of a medium that comes back while
 * others serve takes the time of a thread that serves nobody.
 *
 *   1. shard_open() on the env of the thread that waits for it; shard_settle(): footers that
 *      recovery began are written.
 *   2. shard_detach(): no timer, task or I/O of the shard is with that env any more.
 *   3. shard_attach() in the thread of the reactor that will run it, on that reactor's own handle
 *      of the medium.
 *
 * A shard whose medium failed takes the same way back, and is freed in that thread: to give back
 * gigabytes takes its time, too. It must be quiet for that. One with I/O that never ends is not: it
 * stays where it is, as the kernel may still write into its memory, and its medium stays away.
 *
 * Envs of one kind give memory back for each other; what was sealed is not asked for any.
 */
#include <string.h>

#include "medium.h"
#include "shard_priv.h"

int shard_settle(struct shard *shard)
{
	CHECK_OBJ(shard, SHARD_MAGIC);
	return shard_drain(shard);
}

bool shard_is_quiet(const struct shard *shard)
{
	CHECK_OBJ(shard, SHARD_MAGIC);
	for (uint32_t i = 0; i < shard->segment_count; i++) {
		if (shard->segments[i].pins > 0)
			return false;
	}
	return shard_is_idle(shard);
}

void shard_detach(struct shard *shard)
{
	ASSERT(shard_is_quiet(shard));
	ASSERT(!is_memory(shard));
	shard_forget_all(shard);
	health_fini(shard);
	shard->room_task = NULL;
	shard->env = NULL;
}

void shard_attach(struct shard *shard, struct env *env, struct medium *medium)
{
	CHECK_OBJ(shard, SHARD_MAGIC);
	ASSERT(shard->env == NULL);
	ASSERT(medium != NULL || shard->is_offline);
	shard->env = env;
	shard->blk = medium != NULL ? medium_blk(medium) : NULL;
	shard->super.env = env;
	shard->super.blk = shard->blk;
	index_move(shard->index, env);
	names_move(shard->domains, env);
	names_move(shard->payers, env);
	names_move(shard->namespaces, env);
	if (!shard->is_offline)
		reclaim_wake(shard); /* it may have been about to do something */
}

void shard_give_up(struct shard *shard)
{
	CHECK_OBJ(shard, SHARD_MAGIC);
	shard_go_offline(shard, "medium", -ENODEV);
}

void shard_get_mark(const struct shard *shard, struct shard_mark *mark_out)
{
	CHECK_OBJ(shard, SHARD_MAGIC);
	memcpy(mark_out->uuid, shard->super.disk->shard, sizeof(mark_out->uuid));
	mark_out->super_count = shard->super.kept_count;
	mark_out->kept_sequence = shard->kept_sequence;
	mark_out->next_sequence = shard->sequence;
}
