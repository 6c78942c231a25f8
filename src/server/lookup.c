/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that are answered on the spot: PROBE by a bitmap (nothing is pinned, no hit is counted);
 * DECLARE and UNDECLARE where the transport reaches the client's memory; REPORT by adding it up
 * (saving.c). LEASE and RENEW: lease.c.
 */
#include <string.h>

#include "reactor_priv.h"

struct saving_row *request_saving(const struct request *request)
{
	struct session *session = request->session;

	return saving_find(&session->reactor->saving, session->tenant->id, request->ns);
}

static void count_misses(struct reactor *reactor, struct saving_row *saving, uint32_t forgotten,
			 uint32_t new)
{
	reactor->metrics.miss_forgotten += forgotten;
	reactor->metrics.miss_new += new;
	if (saving == NULL)
		return;
	saving->miss_forgotten += forgotten;
	saving->miss_new += new;
}

void reactor_count_miss(struct reactor *reactor, struct saving_row *saving,
			const struct shard *shard, const struct store_id *id)
{
	bool was_here = shard_was_here(shard, id);

	count_misses(reactor, saving, was_here, !was_here);
}

/* What is looked up together: the index is larger than what is near, and each wait for it the
 * larger part of a lookup. */
struct probe {
	struct store_id id; /* with the key of the one that is looked at */
	struct shard_look looks[SHARD_LOOK_MAX];
	uint32_t at[SHARD_LOOK_MAX]; /* of keys */
	uint32_t count;
};

static void probe_start(struct probe *probe, struct reactor *reactor, const struct wire_key *keys,
			uint32_t from, uint32_t to)
{
	probe->count = 0;
	for (uint32_t i = from; i < to; i++) {
		const struct shard_slot *slot = reactor_slot(reactor, &keys[i]);

		if (!slot_is_open(slot))
			continue;
		memcpy(probe->id.key, keys[i].bytes, sizeof(probe->id.key));
		shard_look_start(slot->shard, &probe->id, &probe->looks[probe->count]);
		probe->at[probe->count++] = i;
	}
	for (uint32_t i = 0; i < probe->count; i++)
		shard_look_fetch(&probe->looks[i]);
}

static void probe_finish(struct probe *probe, struct request *request, struct saving_row *saving,
			 const struct wire_key *keys)
{
	struct reactor *reactor = request->session->reactor;
	uint32_t counts[] = {
		[SHARD_LOOK_MISS] = 0, [SHARD_LOOK_FORGOTTEN] = 0, [SHARD_LOOK_HERE] = 0
	};

	for (uint32_t i = 0; i < probe->count; i++) {
		uint32_t at = probe->at[i];
		enum shard_looked looked;

		memcpy(probe->id.key, keys[at].bytes, sizeof(probe->id.key));
		looked = shard_look_finish(&probe->looks[i], &probe->id);
		counts[looked]++;
		request->bits[at / 8] |= (uint8_t)((looked == SHARD_LOOK_HERE) << at % 8);
	}
	reactor->metrics.probe_found += counts[SHARD_LOOK_HERE];
	count_misses(reactor, saving, counts[SHARD_LOOK_FORGOTTEN], counts[SHARD_LOOK_MISS]);
}

static void lookup_probe(struct request *request, const struct wire_header *header,
			 const void *body)
{
	const struct wire_key *keys = wire_items(header, body);
	struct reactor *reactor = request->session->reactor;
	struct saving_row *saving = request_saving(request);
	struct probe probe;

	memcpy(probe.id.domain, request->domain, sizeof(probe.id.domain));
	memcpy(probe.id.ns, request->ns, sizeof(probe.id.ns));
	for (uint32_t i = 0; i < header->count; i += SHARD_LOOK_MAX) {
		probe_start(&probe, reactor, keys, i, MIN(i + SHARD_LOOK_MAX, header->count));
		probe_finish(&probe, request, saving, keys);
	}
	reactor->metrics.probe_keys += header->count;
}

/* Whether an op that may still move names the region. */
static bool lookup_is_in_use(const struct session *session, uint32_t region)
{
	list_for_each (pos, &session->ops) {
		const struct op *op = list_entry(pos, struct op, session_node);

		for (uint32_t i = 0; op->state != OP_ANSWERED && i < op->seg_count; i++) {
			if (op->segs[i].region == region)
				return true;
		}
	}
	return false;
}

static int lookup_declare(struct request *request, const struct wire_header *header,
			  const void *body)
{
	struct session *session = request->session;
	const struct wire_undeclare *undeclare = wire_items(header, body);

	if ((session->xprt->caps & XPRT_CAP_DIRECT) == 0)
		return -ERR_UNSUPPORTED;
	if (header->kind == WIRE_DECLARE) {
		int rc = session->xprt->region_add(&session->group, wire_items(header, body));

		session->reactor->metrics.regions_refused += rc == -ERR_BUSY;
		return rc;
	}
	if (lookup_is_in_use(session, undeclare->region))
		return -ERR_BUSY;
	return session->xprt->region_remove(&session->group, undeclare->region);
}

static int lookup_report(struct request *request, const struct wire_header *header,
			 const void *body)
{
	struct session *session = request->session;
	struct metrics *metrics = &session->reactor->metrics;
	const struct wire_report *report = wire_items(header, body);
	int rc = saving_report(&session->reactor->saving, session->tenant->name,
			       session->tenant->id, request->ns, report);

	if (rc < 0)
		return rc;
	metrics->report_tokens_loaded += report->tokens_loaded;
	metrics->report_tokens_recomputed += report->tokens_recomputed;
	metrics->report_load += report->load_ns;
	metrics->report_prefill += report->prefill_ns;
	return 0;
}

void lookup_request(struct request *request, const struct wire_header *header, const void *body)
{
	switch (header->kind) {
	case WIRE_PROBE:
		lookup_probe(request, header, body);
		break;
	case WIRE_LEASE:
		lease_request(request, header, body);
		break;
	case WIRE_RENEW:
		request_refuse(request, 0, lease_renew(request, body));
		break;
	case WIRE_DECLARE:
	case WIRE_UNDECLARE:
		request_refuse(request, 0, lookup_declare(request, header, body));
		break;
	case WIRE_REPORT:
		request_refuse(request, 0, lookup_report(request, header, body));
		break;
	case WIRE_STAT:
		break; /* its text is made when it is sent */
	default:
		request_refuse(request, 0, -ERR_UNSUPPORTED);
		break;
	}
	request_reply_later(request);
}
