/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a tenant may do where: at every operation the domain is compared and the rights are looked
 * at, whatever bytes a client sends; and each tenant has its own limit of sessions.
 */
#include <string.h>

#include "rig.h"

#define SECRET(d) d d d d "000000000000000000000000000000000000000000000000000000000000"

/* alice owns blocks, reader sees the shared domain only to read, writer may write there. */
static const char table[] = "alice  " SECRET(
	"a") " domain=club:read+write sessions=2\n"
	     "mallory " SECRET(
		     "b") "\n"
			  "reader " SECRET(
				  "c") " rights=read domain=club\n"
				       "writer " SECRET(
					       "d") " rights=read domain=club:read+write\n";

struct world {
	struct rig rig;
	struct raw_client clients[4]; /* by row */
};

enum { ALICE, MALLORY, READER, WRITER };

static void table_set(struct rig *rig, const char *text)
{
	char message[256] = "";

	tenants_destroy(rig->env, &rig->tenants);
	assert_int_equal(tenants_create(rig->env, text, &rig->tenants, message), 0);
	rig->opts.tenants = rig->tenants;
}

static void client_open(struct world *world, uint32_t row, struct raw_client *client)
{
	const struct tenant *tenant = &world->rig.tenants->rows[row];

	raw_client_open(client, world->rig.port, rig_poll, &world->rig);
	assert_int_equal(raw_client_hello(client, tenant->name, &tenant->secrets[0]), 0);
}

static void world_begin(struct world *world)
{
	rig_init(&world->rig);
	table_set(&world->rig, table);
	rig_start(&world->rig, false);
	for (uint32_t i = 0; i < ARRAY_LEN(world->clients); i++)
		client_open(world, i, &world->clients[i]);
}

static void world_end(struct world *world)
{
	for (uint32_t i = 0; i < ARRAY_LEN(world->clients); i++)
		raw_client_close(&world->clients[i]);
	rig_stop(&world->rig);
}

/* --- every operation, once --- */

static const uint8_t bytes[3000] = { 1, 2, 3 };

enum ask {
	ASK_PROBE,
	ASK_LEASE,
	ASK_GET,
	ASK_PUT,
	ASK_PUT_INLINE,
	ASK_DROP,
	ASK_DROP_NAMESPACE,
	ASK_RENEW,
	ASK_CANCEL,
	ASK_DECLARE,
	ASK_UNDECLARE,
	ASK_REPORT,
	ASK_STAT,
	ASK_COUNT,
};

static uint64_t ask_send(struct raw_client *client, enum ask ask, struct wire_key key)
{
	const struct raw_client_put put = { .key = key,
					    .bytes = bytes,
					    .size = sizeof(bytes),
					    .is_inline = ask == ASK_PUT_INLINE };
	const struct wire_declare declare = {
		.region = 1, .kind = WIRE_REGION_LOOP, .access = 1, .size = 10
	};
	const struct wire_undeclare undeclare = { .region = 1 };
	const struct wire_report report = { .tokens_loaded = 1 };
	const uint64_t cancelled = 1u << 20;

	switch (ask) {
	case ASK_PROBE:
		return raw_client_keys(client, WIRE_PROBE, &key, 1);
	case ASK_LEASE:
		return raw_client_keys(client, WIRE_LEASE, &key, 1);
	case ASK_GET:
		return raw_client_get(client, &key, 1, 0, sizeof(bytes), NS_PER_S);
	case ASK_PUT:
	case ASK_PUT_INLINE:
		return raw_client_put(client, &put, 1, 0, NS_PER_S);
	case ASK_DROP:
		return raw_client_keys(client, WIRE_DROP, &key, 1);
	case ASK_DROP_NAMESPACE:
		return raw_client_plain(client, WIRE_DROP);
	case ASK_RENEW:
		return raw_client_plain(client, WIRE_RENEW);
	case ASK_CANCEL:
		return raw_client_cancel(client, &cancelled, 1);
	case ASK_DECLARE:
		return raw_client_items(client, WIRE_DECLARE, &declare, sizeof(declare), 0);
	case ASK_UNDECLARE:
		return raw_client_items(client, WIRE_UNDECLARE, &undeclare, sizeof(undeclare), 0);
	case ASK_REPORT:
		return raw_client_items(client, WIRE_REPORT, &report, sizeof(report), 0);
	default:
		return raw_client_plain(client, WIRE_STAT);
	}
}

/* The status that the whole request, or its one item, is answered with. */
static int ask_status(struct raw_client *client, enum ask ask, struct wire_key key)
{
	static struct raw_client_frame frame;
	const struct raw_client_put put = { .key = key, .bytes = bytes, .size = sizeof(bytes) };
	uint64_t request = ask_send(client, ask, key);

	for (;;) {
		assert_true(raw_client_recv(client, &frame));
		if (frame.header.request != request)
			continue;
		switch (frame.header.kind) {
		case WIRE_GRANT:
			assert_true(raw_client_answer(client, &frame, &put));
			break;
		case WIRE_BITMAP:
			return ((struct wire_bitmap *)(void *)frame.body)->status;
		case WIRE_TEXT:
			if (((struct wire_text *)(void *)frame.body)->status < 0)
				assert_int_equal(((struct wire_text *)(void *)frame.body)->size, 0);
			return ((struct wire_text *)(void *)frame.body)->status;
		case WIRE_REPLY:
			return ((struct wire_result *)(void *)frame.body)->status;
		default:
			break;
		}
	}
}

static void name_domain(struct raw_client *client, const char *domain)
{
	auth_domain_id(domain, client->domain);
}

/* --- tests --- */

static void another_tenants_domain_is_denied_at_every_operation(void **state)
{
	struct world world;
	struct raw_client *alice = &world.clients[ALICE];
	struct raw_client *mallory = &world.clients[MALLORY];

	world_begin(&world);
	assert_int_equal(ask_status(alice, ASK_PUT, rig_key(1)), 0);
	name_domain(mallory, "alice");
	for (enum ask ask = 0; ask < ASK_COUNT; ask++)
		assert_int_equal(ask_status(mallory, ask, rig_key(1)), -ERR_DENIED);
	assert_int_equal(rig_metrics(&world.rig).denied, ASK_COUNT);
	/* A domain that nobody has. */
	name_domain(mallory, "nobody");
	for (enum ask ask = 0; ask < ASK_COUNT; ask++)
		assert_int_equal(ask_status(mallory, ask, rig_key(1)), -ERR_DENIED);
	/* In its own domain the same keys are other blocks: not there, and dropped in vain. */
	name_domain(mallory, "mallory");
	assert_int_equal(ask_status(mallory, ASK_GET, rig_key(1)), -ERR_MISS);
	assert_int_equal(ask_status(mallory, ASK_DROP, rig_key(1)), 0);
	assert_int_equal(ask_status(mallory, ASK_DROP_NAMESPACE, rig_key(1)), 0);
	assert_int_equal(ask_status(mallory, ASK_PUT_INLINE, rig_key(1)), 0);
	assert_int_equal(ask_status(alice, ASK_GET, rig_key(1)), 0);
	world_end(&world);
}

static void rights_are_looked_at_at_every_operation(void **state)
{
	static const enum ask writes[] = { ASK_PUT, ASK_PUT_INLINE, ASK_DROP, ASK_DROP_NAMESPACE };
	struct world world;
	struct raw_client *reader = &world.clients[READER];
	struct raw_client *writer = &world.clients[WRITER];

	world_begin(&world);
	assert_int_equal(reader->welcome.rights, WIRE_RIGHT_READ);
	for (size_t i = 0; i < ARRAY_LEN(writes); i++) {
		name_domain(reader, "club");
		assert_int_equal(ask_status(reader, writes[i], rig_key(1)), -ERR_DENIED);
		name_domain(reader, "reader");
		assert_int_equal(ask_status(reader, writes[i], rig_key(1)), -ERR_DENIED);
		memset(reader->domain, 0, sizeof(reader->domain));
		assert_int_equal(ask_status(reader, writes[i], rig_key(1)), -ERR_DENIED);
		/* A right on one domain is none on another. */
		name_domain(writer, "writer");
		assert_int_equal(ask_status(writer, writes[i], rig_key(1)), -ERR_DENIED);
	}
	world_end(&world);
}

static void a_shared_domain_is_shared(void **state)
{
	struct world world;
	struct raw_client *alice = &world.clients[ALICE];
	struct raw_client *reader = &world.clients[READER];
	struct raw_client *writer = &world.clients[WRITER];

	world_begin(&world);
	name_domain(alice, "club");
	name_domain(reader, "club");
	name_domain(writer, "club");
	name_domain(&world.clients[MALLORY], "club");
	assert_int_equal(ask_status(writer, ASK_PUT, rig_key(1)), 0);
	assert_int_equal(ask_status(reader, ASK_GET, rig_key(1)), 0);
	assert_int_equal(ask_status(alice, ASK_GET, rig_key(1)), 0);
	assert_int_equal(ask_status(&world.clients[MALLORY], ASK_GET, rig_key(1)), -ERR_DENIED);
	/* It is a domain of its own. */
	name_domain(alice, "alice");
	assert_int_equal(ask_status(alice, ASK_GET, rig_key(1)), -ERR_MISS);
	name_domain(alice, "club");
	assert_int_equal(ask_status(alice, ASK_DROP, rig_key(1)), 0);
	assert_int_equal(ask_status(reader, ASK_GET, rig_key(1)), -ERR_MISS);
	world_end(&world);
}

/* Ids of leases are no secret: somebody else's is not there. */
static void a_lease_is_its_tenants(void **state)
{
	static struct raw_client_frame frame;
	const struct wire_key key = rig_key(1);
	struct world world;
	struct raw_client *alice = &world.clients[ALICE];
	struct raw_client *mallory = &world.clients[MALLORY];
	uint64_t lease;

	world_begin(&world);
	assert_int_equal(ask_status(alice, ASK_PUT, key), 0);
	(void)raw_client_lease(alice, &key, 1, 0, 60000);
	assert_true(raw_client_recv(alice, &frame));
	lease = ((struct wire_bitmap *)(void *)frame.body)->lease;
	assert_int_not_equal(lease, 0);
	assert_int_equal(
		raw_client_finish(mallory, raw_client_renew(mallory, lease, 0), NULL, NULL, NULL),
		-ERR_MISS);
	mallory->lease = lease;
	assert_int_equal(ask_status(mallory, ASK_GET, key), -ERR_MISS);
	name_domain(mallory, "alice");
	assert_int_equal(ask_status(mallory, ASK_GET, key), -ERR_DENIED);
	assert_int_equal(
		raw_client_finish(alice, raw_client_renew(alice, lease, 0), NULL, NULL, NULL), 0);
	world_end(&world);
}

static void a_tenant_has_its_own_limit_of_sessions(void **state)
{
	struct world world;
	struct raw_client second;
	struct raw_client third;
	const struct auth_secret *secret;

	world_begin(&world);
	secret = &world.rig.tenants->rows[ALICE].secrets[0];
	client_open(&world, ALICE, &second);
	raw_client_open(&third, world.rig.port, rig_poll, &world.rig);
	assert_int_equal(raw_client_hello(&third, "alice", secret), -ERR_BUSY);
	raw_client_close(&third);
	/* One that has lost its lanes makes room. */
	raw_client_close(&second);
	RIG_UNTIL(&world.rig, rig_metrics(&world.rig).lanes_lost == 1);
	client_open(&world, ALICE, &third);
	raw_client_close(&third);
	world_end(&world);
}

/* --- another table --- */

static void table_replace(struct world *world, const char *text)
{
	struct tenants *old = world->rig.tenants;
	char message[256] = "";

	world->rig.tenants = NULL;
	assert_int_equal(tenants_create(world->rig.env, text, &world->rig.tenants, message), 0);
	reactor_set_tenants(world->rig.reactor, world->rig.tenants);
	tenants_destroy(world->rig.env, &old); /* who still reads it is found by ASan */
}

/* The last word is NOTICE revoked, then the end. */
static void assert_revoked(struct raw_client *client)
{
	struct {
		struct wire_header header;
		struct wire_notice notice;
	} last;

	assert_true(raw_client_read(client, &last, sizeof(last)));
	assert_int_equal(last.header.kind, WIRE_NOTICE);
	assert_int_equal(last.notice.code, WIRE_NOTICE_REVOKED);
	assert_true(raw_client_is_closed(client));
}

static void world_begin_unsealed(struct world *world)
{
	rig_init(&world->rig);
	world->rig.goes_on_taking_memory = true;
	table_set(&world->rig, table);
	rig_start(&world->rig, false);
	for (uint32_t i = 0; i < ARRAY_LEN(world->clients); i++)
		client_open(world, i, &world->clients[i]);
}

static void a_rotation_disturbs_nobody(void **state)
{
	struct world world;
	struct raw_client fresh;
	struct auth_secret old;

	world_begin_unsealed(&world);
	old = world.rig.tenants->rows[MALLORY].secrets[0];
	table_replace(&world,
		      "mallory " SECRET("e") " " SECRET("b") "\n"
							     "alice " SECRET("a") " sessions=2\n");
	/* Both secrets open sessions; who was there goes on. */
	assert_int_equal(ask_status(&world.clients[MALLORY], ASK_PUT, rig_key(1)), 0);
	client_open(&world, 0, &fresh);
	assert_int_equal(ask_status(&fresh, ASK_GET, rig_key(1)), 0);
	assert_int_equal(ask_status(&world.clients[ALICE], ASK_PUT, rig_key(1)), 0);
	assert_revoked(&world.clients[READER]);
	assert_revoked(&world.clients[WRITER]);
	assert_int_equal(rig_metrics(&world.rig).sessions_revoked, 2);

	/* The old one goes, and its session with it. */
	table_replace(&world, "mallory " SECRET("e") "\n"
						     "alice " SECRET("a") "\n");
	assert_revoked(&world.clients[MALLORY]);
	assert_int_equal(ask_status(&fresh, ASK_GET, rig_key(1)), 0);
	raw_client_close(&world.clients[MALLORY]);
	raw_client_open(&world.clients[MALLORY], world.rig.port, rig_poll, &world.rig);
	assert_int_equal(raw_client_hello(&world.clients[MALLORY], "mallory", &old), -ERR_AUTH);
	assert_int_equal(rig_metrics(&world.rig).sessions_revoked, 3);
	raw_client_close(&fresh);
	world_end(&world);
}

static void rights_and_limits_change_at_once(void **state)
{
	struct world world;
	struct raw_client more;
	struct raw_client *alice = &world.clients[ALICE];
	struct raw_client *reader = &world.clients[READER];

	world_begin_unsealed(&world);
	name_domain(reader, "club");
	assert_int_equal(ask_status(reader, ASK_PUT, rig_key(1)), -ERR_DENIED);
	table_replace(&world,
		      "alice  " SECRET("a") " rights=read sessions=1\n"
					    "mallory " SECRET(
						    "b") "\n"
							 "reader " SECRET(
								 "c") " domain=club:read+write\n"
								      "writer " SECRET("d") "\n");
	assert_int_equal(ask_status(reader, ASK_PUT, rig_key(1)), 0);
	assert_int_equal(ask_status(alice, ASK_PUT, rig_key(1)), -ERR_DENIED);
	assert_int_equal(ask_status(alice, ASK_GET, rig_key(1)), -ERR_MISS);
	name_domain(alice, "club");
	assert_int_equal(ask_status(alice, ASK_GET, rig_key(1)), -ERR_DENIED);
	raw_client_open(&more, world.rig.port, rig_poll, &world.rig);
	assert_int_equal(
		raw_client_hello(&more, "alice", &world.rig.tenants->rows[ALICE].secrets[0]),
		-ERR_BUSY);
	raw_client_close(&more);
	world_end(&world);
}

/* Between CHALLENGE and PROOF the secret goes: the proof is worth nothing any more. */
static void a_hello_under_way_is_judged_by_the_new_table(void **state)
{
	struct world world;
	struct raw_client late;
	struct auth_secret old;

	world_begin_unsealed(&world);
	old = world.rig.tenants->rows[MALLORY].secrets[0];
	raw_client_open(&late, world.rig.port, rig_poll, &world.rig);
	raw_client_preface(&late, WIRE_MODE_NEW, 0, 0);
	assert_int_equal(raw_client_challenge(&late, "mallory", &old, 0), 0);
	auth_session_key(&old, &late.transcript, &late.key);
	table_replace(&world, "mallory " SECRET("f") "\n");
	assert_int_equal(raw_client_prove(&late, &old), -ERR_AUTH);
	raw_client_close(&late);
	world_end(&world);
}

/* An unfinished put of a session that is revoked goes with it. */
static void a_revoked_session_leaves_nothing_behind(void **state)
{
	struct world world;
	static const uint8_t block[2 * MiB];
	const struct raw_client_put put = { .key = rig_key(7),
					    .bytes = block,
					    .size = sizeof(block) };

	world_begin_unsealed(&world);
	(void)raw_client_put(&world.clients[MALLORY], &put, 1, 0, NS_PER_S);
	RIG_UNTIL(&world.rig, rig_metrics(&world.rig).ops == 1);
	table_replace(&world, "alice " SECRET("a") "\n");
	RIG_UNTIL(&world.rig, rig_metrics(&world.rig).ops == 0);
	assert_int_equal(rig_metrics(&world.rig).sessions, 1);
	world_end(&world);
}

static int put_status(struct raw_client *client, const struct raw_client_put *put)
{
	uint64_t request = raw_client_put(client, put, 1, 0, 5 * NS_PER_S);

	return raw_client_finish(client, request, NULL, put, NULL);
}

static uint64_t used_by(const struct world *world, uint32_t row)
{
	return shard_payer_bytes(world->rig.shard, world->rig.tenants->rows[row].id);
}

/* Over his quota a tenant's oldest go, nobody else's; a block above it is refused. */
static void a_tenant_has_its_quota(void **state)
{
	static const uint8_t block[MiB];
	struct world world;

	rig_init(&world.rig);
	table_set(&world.rig, "alice " SECRET("a") " quota=4MiB\nbob " SECRET("b") "\n");
	rig_start(&world.rig, false);
	client_open(&world, 0, &world.clients[0]);
	client_open(&world, 1, &world.clients[1]);
	for (uint32_t i = 0; i < 20; i++) {
		const struct raw_client_put put = { rig_key(i), block, sizeof(block), false };

		for (uint32_t who = 0; who < 2; who++)
			assert_int_equal(put_status(&world.clients[who], &put), 0);
	}
	assert_in_range(used_by(&world, 0), 3 * MiB, 4 * MiB);
	assert_int_equal(used_by(&world, 1), 20 * MiB);
	raw_client_close(&world.clients[0]);
	raw_client_close(&world.clients[1]);
	rig_stop(&world.rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(another_tenants_domain_is_denied_at_every_operation),
		cmocka_unit_test(rights_are_looked_at_at_every_operation),
		cmocka_unit_test(a_shared_domain_is_shared),
		cmocka_unit_test(a_lease_is_its_tenants),
		cmocka_unit_test(a_tenant_has_its_own_limit_of_sessions),
		cmocka_unit_test(a_tenant_has_its_quota),
		cmocka_unit_test(a_rotation_disturbs_nobody),
		cmocka_unit_test(rights_and_limits_change_at_once),
		cmocka_unit_test(a_hello_under_way_is_judged_by_the_new_table),
		cmocka_unit_test(a_revoked_session_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
