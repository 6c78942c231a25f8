/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a medium is given up.
 *
 * A block that cannot be read or written costs itself: a miss, or a put that fails; drives lose a
 * sector now and then. A medium that is gone, or that fails all the time, costs every get its time
 * first; it is better offline, where its blocks miss at once and its puts are refused.
 *
 *   gone      the error says that there is no medium any more, or none that may be written
 *             (ENODEV, ENXIO, EROFS, …): offline at once
 *   failing   more than opts.io_error_max errors within HEALTH_NS: offline
 *
 * It happens from the loop: whoever saw the error is in the middle of something. A shard that is
 * offline stays so until it is opened anew; what it holds is looked at by `ctxkv drive check`.
 */
#include "shard_priv.h"

#define HEALTH_NS (60 * NS_PER_S)

static bool is_gone(int rc)
{
	return rc == -ENODEV || rc == -ENXIO || rc == -EROFS || rc == -ENOMEDIUM || rc == -ESTALE ||
	       rc == -EBADF || rc == -ESHUTDOWN;
}

static void health_cb(struct env_task *task)
{
	struct shard *shard = CONTAINER_OF(task, struct shard, health.task);

	CHECK_OBJ(shard, SHARD_MAGIC);
	shard_go_offline(shard, "I/O", shard->health.rc);
}

void health_init(struct shard *shard)
{
	shard->health = (struct health) { .task = { .run = health_cb } };
}

void health_fini(struct shard *shard)
{
	shard->env->ops->undefer(shard->env, &shard->health.task);
}

void shard_io_failed(struct shard *shard, int rc)
{
	struct health *health = &shard->health;
	uint64_t now_ns = env_now_ns(shard->env);

	ASSERT(rc < 0);
	shard->stats.io_errors++;
	if (shard->is_offline)
		return;
	if (health->error_count == 0 || now_ns - health->since_ns > HEALTH_NS) {
		health->since_ns = now_ns;
		health->error_count = 0;
	}
	health->error_count++;
	if (!is_gone(rc) &&
	    (shard->opts.io_error_max == 0 || health->error_count <= shard->opts.io_error_max))
		return;
	health->rc = rc;
	shard->env->ops->defer(shard->env, &shard->health.task);
}
