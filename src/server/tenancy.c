/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new table of tenants in the place of the old one.
 *
 * Normal path: every session finds its tenant again by name, and its secret by id; from its next
 * request on it has the rights and limits of the new row. Requests under way go on. Connections in
 * hello look their tenant up again when they prove themselves.
 *
 * A tenant's quota is of the whole server: each shard holds him to a part of it by its size, so
 * that nobody has to ask another reactor. A tenant that is gone keeps his; nobody puts for him.
 *
 * Failure: a session whose tenant or secret is not in the new table is told (NOTICE revoked) and
 * ends: its requests are not answered any more, its unfinished puts are aborted. Nobody points into
 * the old table when reactor_set_tenants() returns.
 */
#include <string.h>

#include "query.h"
#include "reactor_priv.h"

static void session_revoke(struct session *session, const char *why)
{
	struct wire_notice notice = { .code = WIRE_NOTICE_REVOKED };
	struct wire_header header;

	log_warn("session %016llx of tenant %s ends: %s", (unsigned long long)session->id,
		 session->tenant->name, why);
	memcpy(notice.text, why, MIN(strlen(why), sizeof(notice.text) - 1));
	for (uint16_t i = 0; i < session->group.lane_count; i++) {
		wire_header_init(&header, WIRE_NOTICE, 0, 0, sizeof(notice));
		if (session_send(session, i, &header, &notice) == 0)
			break; /* the end of the session sends it, as far as that needs no waiting
				*/
	}
	session->reactor->metrics.sessions_revoked++;
	session_end(session);
}

static void session_find_tenant(struct session *session, const struct tenants *tenants)
{
	const struct auth_secret *secret;
	const struct tenant *tenant =
		tenants_find(tenants, session->tenant->name, session->secret_id, &secret);

	if (tenant == NULL)
		session_revoke(session, "its tenant was removed");
	else if (secret == NULL)
		session_revoke(session, "its secret was removed");
	else
		session->tenant = tenant;
}

/* The part of one shard, rounded up: it is not 0, which would be none. */
static uint64_t quota_part(uint64_t quota, uint64_t capacity, uint64_t all)
{
	return (uint64_t)(((unsigned __int128)quota * capacity + all - 1) / all);
}

void tenancy_quotas(struct reactor *reactor)
{
	const struct tenants *tenants = reactor->opts.tenants;
	uint64_t all = reactor_capacity(reactor);

	for (uint32_t i = 0; i < reactor->opts.shard_count; i++) {
		struct shard *shard = reactor->slots[i].shard;
		struct shard_stats stats;

		if (shard == NULL)
			continue;
		shard_get_stats(shard, &stats);
		for (uint32_t j = 0; j < tenants->count; j++) {
			const struct tenant *tenant = &tenants->rows[j];
			uint64_t part = quota_part(tenant->quota, stats.capacity, all);

			if (shard_set_quota(shard, tenant->id, part) < 0)
				log_warn("tenant %s has no quota, there are too many payers",
					 tenant->name);
		}
	}
}

void reactor_set_tenants(struct reactor *reactor, const struct tenants *tenants)
{
	CHECK_OBJ(reactor, REACTOR_MAGIC);
	ASSERT(tenants->count > 0);
	reactor->opts.tenants = tenants;
	list_for_each_safe (pos, &reactor->sessions)
		session_find_tenant(list_entry(pos, struct session, node), tenants);
	list_for_each (pos, &reactor->pending)
		conn_forget_tenant(list_entry(pos, struct conn, node));
	tenancy_quotas(reactor);
	reactor->metrics.tenants_set++;
}

void query_tenants(struct reactor *reactor, struct reactor_query *query)
{
	reactor_set_tenants(reactor, query->in.tenants);
	query_end(query, 0);
}
