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

/* The keys of a request, those of one shard together. */
struct probe {
	struct store_id id; /* without a key */
	struct saving_row *saving;
	const uint8_t *keys[WIRE_ITEM_MAX];
	uint16_t at[WIRE_ITEM_MAX];    /* where each stands in the request */
	uint16_t ends[WIRE_SHARD_MAX]; /* of a shard's */
	uint8_t shards[WIRE_ITEM_MAX]; /* by place in the request */
	uint8_t here[WIRE_ITEM_MAX / 8];
};

static void probe_shard(const struct probe *probe, struct request *request, uint32_t from,
			uint32_t to, const struct shard_slot *slot, uint8_t *here_out)
{
	struct reactor *reactor = request->session->reactor;
	struct shard_found found;

	if (from == to || !slot_is_open(slot))
		return;
	shard_find_many(slot->shard, &probe->id, probe->keys + from, to - from, here_out, &found);
	reactor->metrics.probe_found += found.here;
	count_misses(reactor, probe->saving, found.forgotten, found.missing);
}

static void probe_sort(struct probe *probe, const struct wire_key *keys, uint32_t count,
		       uint32_t shard_count)
{
	uint16_t at = 0;

	memset(probe->ends, 0, shard_count * sizeof(probe->ends[0]));
	for (uint32_t i = 0; i < count; i++) {
		probe->shards[i] = (uint8_t)place_shard(&keys[i], shard_count);
		probe->ends[probe->shards[i]]++;
	}
	for (uint32_t shard = 0; shard < shard_count; shard++) {
		uint16_t of_shard = probe->ends[shard];

		probe->ends[shard] = at;
		at += of_shard;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint16_t next = probe->ends[probe->shards[i]]++;

		probe->keys[next] = keys[i].bytes;
		probe->at[next] = (uint16_t)i;
	}
}

static void probe_sorted(struct probe *probe, struct request *request, const struct wire_key *keys,
			 uint32_t count, uint32_t shard_count)
{
	const struct reactor *reactor = request->session->reactor;
	uint32_t from = 0;

	probe_sort(probe, keys, count, shard_count);
	for (uint32_t shard = 0; shard < shard_count; from = probe->ends[shard++]) {
		uint32_t here_count = probe->ends[shard] - from;

		memset(probe->here, 0, (here_count + 7) / 8);
		probe_shard(probe, request, from, probe->ends[shard], reactor->slot_of[shard],
			    probe->here);
		for (uint32_t i = 0; i < here_count; i++) {
			uint32_t at = probe->at[from + i];
			uint32_t is_here = probe->here[i / 8] >> i % 8 & 1u;

			request->bits[at / 8] |= (uint8_t)(is_here << at % 8);
		}
	}
}

static void lookup_probe(struct request *request, const struct wire_header *header,
			 const void *body)
{
	const struct wire_key *keys = wire_items(header, body);
	struct reactor *reactor = request->session->reactor;
	uint32_t shard_count = reactor->opts.table_count;
	struct probe probe; /* the keys are written before they are read */

	memcpy(probe.id.domain, request->domain, sizeof(probe.id.domain));
	memcpy(probe.id.ns, request->ns, sizeof(probe.id.ns));
	probe.saving = request_saving(request);
	if (shard_count == 1) {
		for (uint32_t i = 0; i < header->count; i++)
			probe.keys[i] = keys[i].bytes;
		probe_shard(&probe, request, 0, header->count, reactor->slot_of[0], request->bits);
	} else {
		probe_sorted(&probe, request, keys, header->count, shard_count);
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
