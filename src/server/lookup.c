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

void reactor_count_miss(struct reactor *reactor, struct saving_row *saving,
			const struct shard *shard, const struct store_id *id)
{
	bool was_here = shard_was_here(shard, id);

	reactor->metrics.miss_forgotten += was_here;
	reactor->metrics.miss_new += !was_here;
	if (saving == NULL)
		return;
	saving->miss_forgotten += was_here;
	saving->miss_new += !was_here;
}

static void lookup_probe(struct request *request, const struct wire_header *header,
			 const void *body)
{
	const struct wire_key *keys = wire_items(header, body);
	struct reactor *reactor = request->session->reactor;
	struct saving_row *saving = request_saving(request);
	struct store_id id;
	struct shard_ref ref;

	memcpy(id.domain, request->domain, sizeof(id.domain));
	memcpy(id.ns, request->ns, sizeof(id.ns));
	for (uint32_t i = 0; i < header->count; i++) {
		const struct shard_slot *slot = reactor_slot(reactor, &keys[i]);

		memcpy(id.key, keys[i].bytes, sizeof(id.key));
		if (slot == NULL || slot->shard == NULL)
			continue;
		if (!shard_find(slot->shard, &id, &ref)) {
			reactor_count_miss(reactor, saving, slot->shard, &id);
			continue;
		}
		request->bits[i / 8] |= (uint8_t)(1u << i % 8);
		reactor->metrics.probe_found++;
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
	if (header->kind == WIRE_DECLARE)
		return session->xprt->region_add(&session->group, wire_items(header, body));
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
