/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures: the reactor's metrics with what its shards count, and the text that STAT answers. Lines
 * are "name value"; the first lines say what kind of server this is.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../base/text.h"
#include "query.h"
#include "reactor_priv.h"

/* Namespaces that STAT tells of, those reported to last: a few KiB of its body. */
#define STAT_SAVINGS_MAX 16

static void metrics_add_shard(struct metrics *metrics, const struct shard *shard)
{
	struct shard_stats stats;

	shard_get_stats(shard, &stats);
	metrics->store_blocks += stats.block_count;
	metrics->store_payload += stats.block_bytes;
	metrics->store_capacity += stats.capacity;
	metrics->store_corrupt += stats.corrupt;
	metrics->store_dropped += stats.dropped;
	metrics->store_expired += stats.expired;
	metrics->store_flushes += stats.flushes;
	metrics->store_forgotten += stats.forgotten;
	metrics->store_budget_left += stats.budget_left;
	metrics->store_forgotten_quota += stats.forgotten_quota;
	metrics->store_forgotten_leased += stats.forgotten_leased;
	metrics->store_forgotten_index += stats.forgotten_index_full;
	metrics->store_index_entries += stats.index_entries;
	metrics->store_index_size += stats.index_bytes;
	metrics->store_io_errors += stats.io_errors;
	metrics->store_leased += stats.leased_bytes;
	metrics->store_leased_blocks += stats.leased_count;
	metrics->store_memory += stats.memory_bytes;
	metrics->store_offline += stats.is_offline;
	metrics->store_oldest = MAX(metrics->store_oldest, stats.oldest_s);
	metrics->store_padding += stats.padding_bytes;
	metrics->store_put += stats.put_bytes;
	metrics->store_puts += stats.puts;
	metrics->store_read += stats.read_bytes;
	metrics->store_recovered += stats.recovered;
	metrics->store_recovery += stats.recovery_ns;
	metrics->store_recovery_read += stats.recovery_bytes;
	metrics->store_refused_budget += stats.refused_budget;
	metrics->store_refused_quota += stats.refused_quota;
	metrics->store_rewritten += stats.rewritten_bytes;
	metrics->store_rewritten_blocks += stats.rewritten;
	metrics->store_segments += stats.segments_total;
	metrics->store_segments_free += stats.segments_free;
	metrics->store_trims += stats.trims;
	metrics->store_written += stats.written_bytes;
}

static void metrics_add_slot(struct metrics *metrics, const struct shard_slot *slot)
{
	if (slot->shard != NULL)
		metrics_add_shard(metrics, slot->shard);
	else
		metrics->store_offline++;
}

void reactor_keep_counters(struct reactor *reactor, const struct shard *shard)
{
	struct metrics all = { 0 };
	struct metrics counters = { 0 };

	metrics_add_shard(&all, shard);
#define KEEP_COUNTER(id)          counters.id = all.id
#define KEEP_GAUGE(id)            (void)0
#define KEEP_HISTOGRAM(id)        (void)0
#define MET(id, kind, unit, text) KEEP_##kind(id);
#include "../tbl/metrics.def"
#undef MET
	metrics_add(&reactor->metrics, &counters);
}

static void metrics_add_buffers(struct metrics *metrics, const struct buffers *pool)
{
	metrics->buffer_waits += pool->waits;
	metrics->buffers_size += pool->buddy.size;
	metrics->buffers_used += pool->buddy.used;
	metrics->buffers_used_max += pool->buddy.used_max;
}

static void metrics_add_sessions(struct metrics *metrics, const struct reactor *reactor)
{
	list_for_each (pos, &reactor->sessions) {
		const struct session *session = list_entry(pos, struct session, node);
		bool is_idle = session->lane_count == 0;

		metrics->sessions += !is_idle;
		metrics->sessions_idle += is_idle;
		metrics->sessions_shm += !is_idle && session->xprt->transport == WIRE_XPRT_SHM;
	}
}

void reactor_get_metrics(const struct reactor *reactor, struct metrics *metrics_out)
{
	CHECK_OBJ(reactor, REACTOR_MAGIC);
	*metrics_out = reactor->metrics;
	for (uint32_t i = 0; i < reactor->opts.shard_count; i++)
		metrics_add_slot(metrics_out, &reactor->slots[i]);
	metrics_add_buffers(metrics_out, &reactor->inline_buffers);
	metrics_add_buffers(metrics_out, &reactor->receive_buffers);
	metrics_add_buffers(metrics_out, &reactor->read_buffers);
	metrics_out->cache_blocks = reactor->cache.used;
	metrics_out->cache_copied = reactor->cache.copied;
	metrics_out->cache_corrupt = reactor->cache.corrupt;
	metrics_out->cache_evictions = reactor->cache.evictions;
	metrics_out->cache_hits = reactor->cache.hits;
	metrics_out->cache_misses = reactor->cache.misses;
	metrics_out->cache_size = reactor->cache.buddy.size;
	metrics_out->cache_used = reactor->cache.buddy.used;
	metrics_out->draining = reactor->is_draining;
	metrics_out->leases = reactor->leases.used;
	metrics_out->ops = reactor->ops.used;
	metrics_out->ops_max = reactor->ops.used_max;
	metrics_add_sessions(metrics_out, reactor);
	/* Of the process. */
	if (reactor->opts.index == 0 && reactor->env->ops->fd_waiting != NULL)
		metrics_out->descriptors_waiting = reactor->env->ops->fd_waiting(reactor->env);
	metrics_out->uptime = (env_now_ns(reactor->env) - reactor->started_ns) / NS_PER_S;
}

/* Lines saving_<namespace>_<what> of the session's tenant; those of others are not its business. */
static uint32_t stat_savings(struct reactor *reactor, const struct session *session, char *buf,
			     uint32_t buf_size)
{
	struct saving_row rows[STAT_SAVINGS_MAX];
	uint32_t count = saving_rows(&reactor->saving, session->tenant->id, rows, STAT_SAVINGS_MAX);
	uint32_t used = 0;

	for (uint32_t i = 0; i < count; i++) {
		used += saving_format(&rows[i], reactor->opts.gpu_cents, buf + used,
				      buf_size - used);
	}
	return used;
}

void query_metrics(struct reactor *reactor, struct reactor_query *query)
{
	struct metrics *row = query_row(query);

	if (row != NULL)
		reactor_get_metrics(reactor, row);
	query->cursor = 0;
	query_end(query, 0);
}

uint32_t stat_text(struct reactor *reactor, const struct session *session, char *buf,
		   uint32_t buf_size)
{
	static const char *const verify[] = { "none", "medium", "all" };
	struct metrics metrics;
	char uuid[33];
	int used;

	reactor_get_metrics(reactor, &metrics);
	text_format_hex(uuid, sizeof(uuid), reactor->opts.server, sizeof(reactor->opts.server));
	used = snprintf(buf, buf_size,
			"version %d\nserver %s\nincarnation %016" PRIx64
			"\ntransport %s\ntls %d\nback_end %s\n"
			"verify %s\nreactor %u\nreactors %u\nshards %u\nmemory_mode %d\nblock_max "
			"%u\ntenant %s\n"
			"session %016" PRIx64 "\nlanes %u\ndraining %d\n",
			WIRE_VERSION, uuid, reactor->opts.incarnation, session->xprt->name,
			session->is_tls, reactor->env->ops->name, verify[reactor->opts.verify],
			reactor->opts.index, reactor->opts.reactor_count, reactor->opts.table_count,
			reactor->opts.shard_count > 0 && reactor->slots[0].is_memory,
			reactor->block_max, session->tenant->name, session->id, session->lane_count,
			reactor->is_draining);
	ASSERT(used > 0);
	ASSERT((uint32_t)used < buf_size);
	used += (int)stat_savings(reactor, session, buf + used, buf_size - (uint32_t)used);
	used += (int)metrics_format(&metrics, buf + used, buf_size - (uint32_t)used);
	return (uint32_t)used;
}
