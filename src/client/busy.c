/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Items that a server had no room for (-ERR_BUSY) are sent again, until the deadline of their op.
 *
 * Such an item was not begun: nothing of it is under way, and its request is rid of it, so that it
 * is not lost with that (whose lane may be lost while it waits for its other items). It waits in a
 * part that is its op's for what is to be sent again to that session, for a pause that is the
 * session's for puts, or for gets: short after a round of answers without a refusal, twice as long
 * after each that began with one. Some of what puts are refused for gets do not need (buffers for
 * bytes in the frame), so neither waits because the other is refused. New puts wait behind refused
 * ones; probes and gets do not.
 *
 * Only gets and puts. A drop is refused for what lasts (the table of dropped namespaces is full),
 * or goes to all reactors, where to ask again is the caller's.
 *
 * Failure: no part is free, or the deadline comes first: the outcome is what the server said,
 * -ERR_BUSY.
 */
#include "client_priv.h"

#define PAUSE_MIN NS_PER_MS
#define PAUSE_MAX (64 * NS_PER_MS)

static void busy_timer(struct env_timer *timer)
{
	struct busy *busy = CONTAINER_OF(timer, struct busy, timer);

	CHECK_OBJ(busy->session, SESSION_MAGIC);
	session_pump_later(busy->session);
}

static struct busy *busy_of(const struct request *request)
{
	return request->kind == WIRE_PUT ? &request->session->busy_puts
					 : &request->session->busy_gets;
}

/* Clients that were refused together do not come back together. */
static void busy_pause(struct busy *busy)
{
	struct client *client = busy->session->client;
	struct env *env = client->env;
	uint64_t pause_ns = MAX(PAUSE_MIN, MIN(2 * busy->pause_ns, PAUSE_MAX));

	if (busy->timer.is_set)
		return;
	busy->pause_ns = pause_ns;
	env->ops->timer_set(env, &busy->timer,
			    env_now_ns(env) + pause_ns / 2 + client_chance(client) % pause_ns);
}

bool busy_again(struct request *request, uint32_t position)
{
	struct session *session = request->session;
	struct client_op *cop = request->cop;
	struct part *part = part_again(cop, session);

	if (part == NULL)
		return false;
	part->next = MIN(part->next, position);
	part->end = MAX(part->end, position + 1);
	item_state(&cop->op->items[op_unit_at(cop, position)])->flags |= ITEM_BUSY;
	cop->has_answer = true;
	cop->op->status = 0;
	cop->client->stat.retries++;
	busy_pause(busy_of(request));
	return true;
}

void busy_sent(const struct part *part, const struct request *request, uint32_t count)
{
	const struct client_op *cop = part->cop;

	for (uint32_t at = part->next; part->is_again && at < part->next + count; at++) {
		struct item_state *state = item_state(&cop->op->items[op_unit_at(cop, at)]);

		state->flags &= (uint16_t)~ITEM_BUSY;
		state->again = (uint16_t)(id_index_of(request->id) + 1);
	}
}

bool busy_took(const struct request *request, uint32_t unit)
{
	const struct item_state *state;

	if (request->kind != WIRE_GET && request->kind != WIRE_PUT)
		return false;
	state = item_state(&request->cop->op->items[unit]);
	return (state->flags & ITEM_BUSY) != 0 ||
	       (state->again != 0 && state->again != id_index_of(request->id) + 1);
}

void busy_passed(const struct request *request)
{
	struct busy *busy = busy_of(request);

	if (!busy->timer.is_set)
		busy->pause_ns = 0;
}

static void busy_clear(struct busy *busy)
{
	struct env *env = busy->session->client->env;

	busy->pause_ns = 0;
	env->ops->timer_clear(env, &busy->timer);
}

void busy_close(struct session *session)
{
	busy_clear(&session->busy_gets);
	busy_clear(&session->busy_puts);
}

void busy_init(struct session *session)
{
	const struct busy none = { .session = session, .timer.fire = busy_timer };

	session->busy_gets = none;
	session->busy_puts = none;
}
