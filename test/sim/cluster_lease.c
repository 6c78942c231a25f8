/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases of a client's process: it asks for them, reads under them, extends and ends them, and
 * holds the server to its word: a block of a run that it holds is not missed, as long as the lease
 * has time left, its session and the server live, nothing was dropped, and the medium told no lies.
 */
#include "cluster.h"

#include <string.h>

void lease_clear(struct user *user)
{
	memset(user->leases, 0, sizeof(user->leases));
}

static struct user_lease *lease_any(struct user *user)
{
	struct user_lease *lease =
		&user->leases[rng_below(&user->cluster->sim->rng, USER_LEASE_MAX)];

	return lease->handle != 0 ? lease : NULL;
}

void lease_ask(struct user *user)
{
	struct cluster *cluster = user->cluster;
	struct rng *rng = &cluster->sim->rng;
	const struct user_lease *lease = lease_any(user);

	if (lease != NULL && rng_chance(rng, 5000))
		user_ask(user, CTXKV_OP_RENEW, 0);
	else
		user_ask(user, CTXKV_OP_LEASE,
			 (uint32_t)rng_below(rng, cluster->model.ident_count));
}

void lease_fill(struct user *user, struct ctxkv_op *op)
{
	struct rng *rng = &user->cluster->sim->rng;
	struct user_lease *lease = lease_any(user);

	switch (op->opcode) {
	case CTXKV_OP_LEASE:
		op->duration_ms =
			rng_chance(rng, 1000) ? 0 : (uint32_t)rng_log(rng, 1, LEASE_MS_MAX);
		op->flags |= rng_chance(rng, 3000) ? CTXKV_ALL : 0;
		op->flags |= op->duration_ms == 0 || rng_chance(rng, 3000) ? CTXKV_WARM : 0;
		break;
	case CTXKV_OP_RENEW:
		op->duration_ms =
			rng_chance(rng, 3000) ? 0 : (uint32_t)rng_log(rng, 1, LEASE_MS_MAX);
		op->lease = lease != NULL ? lease->handle : 1;
		if (lease != NULL)
			lease->renewals++;
		break;
	case CTXKV_OP_GET:
		op->flags |= rng_chance(rng, 3000) ? CTXKV_PROGRESS : 0;
		op->lease = lease != NULL && rng_chance(rng, 7000) ? lease->handle : 0;
		break;
	default:
		break;
	}
}

void lease_granted(struct user *user, const struct ctxkv_op *op, const uint32_t *idents,
		   const struct user_lease *asked)
{
	struct user_lease *lease =
		&user->leases[rng_below(&user->cluster->sim->rng, USER_LEASE_MAX)];

	if (op->lease == 0 || op->run == 0)
		return;
	user->cluster->leases++;
	*lease = *asked;
	lease->handle = op->lease;
	lease->count = (uint32_t)op->run;
	for (uint32_t i = 0; i < lease->count; i++)
		lease->idents[i] = idents[i];
	lease->until_ns = asked->begin_ns + op->duration_ms * NS_PER_MS;
	lease->duration_ms = op->duration_ms;
}

void lease_renewed(struct user *user, const struct ctxkv_op *op, const struct user_lease *asked)
{
	for (uint32_t i = 0; i < USER_LEASE_MAX; i++) {
		struct user_lease *lease = &user->leases[i];

		if (lease->handle != op->lease || lease->handle == 0)
			continue;
		ASSERT(lease->renewals > 0);
		lease->renewals--;
		if (op->status != 0 || op->duration_ms == 0)
			*lease = (struct user_lease) { 0 };
		else
			lease->until_ns = asked->begin_ns +
					  MIN(op->duration_ms, lease->duration_ms) * NS_PER_MS;
	}
}

static bool is_dropped_since(const struct cluster *cluster, uint32_t ident, uint64_t tick)
{
	const struct model_ident *row = &cluster->model.idents[ident];

	return row->drops_open > 0 || row->drops_unknown > 0 || row->drop_over >= tick;
}

/* What has expired is found only by who names a lease that lives. */
static bool may_expire(const struct cluster *cluster, uint32_t ident)
{
	const struct model_ident *row = &cluster->model.idents[ident];

	for (uint32_t i = 0; i < row->count; i++) {
		if (row->versions[i].is_mortal)
			return true;
	}
	return false;
}

void lease_check_miss(struct user *user, uint32_t ident, uint64_t tick, uint64_t connects,
		      uint64_t named)
{
	const struct cluster *cluster = user->cluster;

	if (servers_have_lied(cluster))
		return;
	for (uint32_t i = 0; i < USER_LEASE_MAX; i++) {
		const struct user_lease *lease = &user->leases[i];

		if (lease->handle == 0 || lease->renewals > 0 ||
		    lease->until_ns <= cluster->sim->now_ns || lease->tick >= tick ||
		    lease->life != cluster->life || lease->connects != connects)
			continue;
		for (uint32_t j = 0; j < lease->count; j++) {
			if (lease->idents[j] == ident &&
			    !is_dropped_since(cluster, ident, lease->asked) &&
			    (lease->handle == named || !may_expire(cluster, ident)))
				sim_fail(cluster->sim,
					 "client %u: identity %u is missed under lease %llx",
					 user->number, ident, (unsigned long long)lease->handle);
		}
	}
}
