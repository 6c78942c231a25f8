/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server of several reactors: connections reach the reactor they ask for, each key is served by
 * the reactor of its shard and by no other; questions are answered by all reactors, and one that
 * stands still holds up nobody but who waits for it, and no longer than he said. It starts whole or
 * not at all.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "server_rig.h"

#define REACTORS 3

static void a_connection_reaches_the_reactor_it_asks_for(void **state)
{
	struct server_rig rig;
	struct raw_client clients[REACTORS];
	struct raw_client lane;

	server_rig_init(&rig, REACTORS);
	server_rig_start(&rig);
	for (uint16_t i = 0; i < REACTORS; i++) {
		server_rig_client(&rig, &clients[i], i);
		assert_int_equal(clients[i].welcome.reactor, i);
		assert_int_equal(clients[i].welcome.reactor_count, REACTORS);
		for (uint32_t j = 0; j < REACTORS; j++) {
			assert_int_equal(clients[i].shards[j].index, j);
			assert_int_equal(clients[i].shards[j].reactor, j);
			assert_int_equal(clients[i].shards[j].weight, 1);
			assert_memory_equal(clients[i].shards[j].uuid, clients[0].shards[j].uuid,
					    16);
		}
		assert_int_equal(clients[i].shards[REACTORS].weight, 0);
	}
	/* A lane joins its session there, too. */
	raw_client_open(&lane, rig.port, clients[2].poll, NULL);
	assert_int_equal(raw_client_join(&lane, &clients[2], "alice", 1), 0);
	assert_int_equal(lane.welcome.session, clients[2].welcome.session);
	raw_client_close(&lane);
	/* A lane that names another reactor than its session's is refused. */
	raw_client_open(&lane, rig.port, clients[2].poll, NULL);
	clients[2].welcome.reactor = 1;
	assert_int_equal(raw_client_join(&lane, &clients[2], "alice", 1), -ERR_CHANGED);
	raw_client_close(&lane);
	for (uint16_t i = 0; i < REACTORS; i++)
		raw_client_close(&clients[i]);
	server_rig_stop(&rig);
	server_rig_fini(&rig);
}

static void connections_that_want_any_reactor_are_dealt_out(void **state)
{
	struct server_rig rig;
	struct raw_client clients[2 * REACTORS];
	uint32_t counts[REACTORS] = { 0 };

	server_rig_init(&rig, REACTORS);
	server_rig_start(&rig);
	for (uint32_t i = 0; i < ARRAY_LEN(clients); i++) {
		server_rig_client(&rig, &clients[i], 0xffff);
		counts[clients[i].welcome.reactor]++;
	}
	for (uint32_t i = 0; i < REACTORS; i++)
		assert_int_equal(counts[i], 2);
	for (uint32_t i = 0; i < ARRAY_LEN(clients); i++)
		raw_client_close(&clients[i]);
	server_rig_stop(&rig);
	server_rig_fini(&rig);
}

static void a_key_is_served_by_the_reactor_of_its_shard_only(void **state)
{
	struct server_rig rig;
	struct raw_client client;

	server_rig_init(&rig, REACTORS);
	server_rig_start(&rig);
	for (uint16_t at = 0; at < REACTORS; at++) {
		server_rig_client(&rig, &client, at);
		for (uint32_t shard = 0; shard < REACTORS; shard++) {
			struct wire_key key = server_rig_key(shard, REACTORS, 1);
			int want = shard == at ? 0 : -ERR_CHANGED;

			assert_int_equal(server_rig_put(&client, &key, 200000), want);
			assert_int_equal(server_rig_put(&client, &key, 2000), want);
			assert_int_equal(server_rig_get(&client, &key, 200000), want);
			assert_int_equal(
				raw_client_finish(&client,
						  raw_client_keys(&client, WIRE_DROP, &key, 1),
						  NULL, NULL, NULL),
				want);
		}
		raw_client_close(&client);
	}
	server_rig_stop(&rig);
	server_rig_fini(&rig);
}

static void questions_are_answered_by_all_reactors(void **state)
{
	struct server_rig rig;
	struct raw_client clients[REACTORS];
	struct session_row sessions[8];
	struct shard_row shards[8];
	struct metrics metrics[REACTORS];
	struct server_query query = { .kind = QUERY_SESSIONS,
				      .reactor = SERVER_REACTOR_ALL,
				      .rows = sessions,
				      .row_max = ARRAY_LEN(sessions),
				      .timeout_ns = 10 * NS_PER_S };

	server_rig_init(&rig, REACTORS);
	server_rig_start(&rig);
	for (uint16_t i = 0; i < REACTORS; i++)
		server_rig_client(&rig, &clients[i], i);
	assert_int_equal(server_query(rig.server, &query), 0);
	assert_int_equal(query.row_count, REACTORS);
	assert_false(query.is_cut);
	for (uint16_t i = 0; i < REACTORS; i++) {
		assert_int_equal(sessions[i].reactor, i);
		assert_int_equal(sessions[i].id, clients[i].welcome.session);
		assert_string_equal(sessions[i].tenant, "alice");
		assert_string_equal(sessions[i].transport, "tcp");
		assert_int_equal(sessions[i].lane_count, 1);
	}
	query.row_max = 2; /* fewer than there are */
	assert_int_equal(server_query(rig.server, &query), 0);
	assert_int_equal(query.row_count, 2);
	assert_true(query.is_cut);

	query = (struct server_query) { .kind = QUERY_SHARDS,
					.reactor = 1,
					.rows = shards,
					.row_max = ARRAY_LEN(shards),
					.timeout_ns = 10 * NS_PER_S };
	assert_int_equal(server_query(rig.server, &query), 0);
	assert_int_equal(query.row_count, 1);
	assert_int_equal(shards[0].index, 1);
	assert_int_equal(shards[0].state, SHARD_STATE_ONLINE);
	assert_int_equal(shards[0].stats.capacity, 64 * MiB);

	assert_int_equal(server_get_metrics(rig.server, metrics, REACTORS, 10 * NS_PER_S),
			 REACTORS);
	for (uint16_t i = 0; i < REACTORS; i++)
		assert_int_equal(metrics[i].sessions, 1);
	for (uint16_t i = 0; i < REACTORS; i++)
		raw_client_close(&clients[i]);
	server_rig_stop(&rig);
	server_rig_fini(&rig);
}

static void an_administrator_drops_keys_and_namespaces(void **state)
{
	struct server_rig rig;
	struct raw_client clients[REACTORS];
	struct wire_key keys[REACTORS];
	struct server_query query = { .kind = QUERY_DROP,
				      .reactor = SERVER_REACTOR_ALL,
				      .timeout_ns = 10 * NS_PER_S };

	server_rig_init(&rig, REACTORS);
	server_rig_start(&rig);
	for (uint16_t i = 0; i < REACTORS; i++) {
		server_rig_client(&rig, &clients[i], i);
		keys[i] = server_rig_key(i, REACTORS, 7);
		assert_int_equal(server_rig_put(&clients[i], &keys[i], 5000), 0);
	}
	memcpy(query.in.drop.domain, clients[0].domain, 16);
	memcpy(query.in.drop.ns, clients[0].ns, 16);
	memcpy(query.in.drop.key, keys[1].bytes, 32);
	query.reactor = 1;
	assert_int_equal(server_query(rig.server, &query), 0);
	query.reactor = 2;
	assert_int_equal(server_query(rig.server, &query), -ERR_CHANGED);
	assert_int_equal(server_rig_get(&clients[1], &keys[1], 5000), -ERR_MISS);
	assert_int_equal(server_rig_get(&clients[0], &keys[0], 5000), 0);
	query.reactor = SERVER_REACTOR_ALL;
	query.in.drop.is_namespace = true;
	assert_int_equal(server_query(rig.server, &query), 0);
	for (uint16_t i = 0; i < REACTORS; i++) {
		assert_int_equal(server_rig_get(&clients[i], &keys[i], 5000), -ERR_MISS);
		raw_client_close(&clients[i]);
	}
	server_rig_stop(&rig);
	server_rig_fini(&rig);
}

static void a_draining_server_takes_no_puts_and_serves_gets(void **state)
{
	struct server_rig rig;
	struct raw_client client;
	struct raw_client late;
	struct wire_key key = server_rig_key(1, 2, 3);

	server_rig_init(&rig, 2);
	server_rig_start(&rig);
	server_rig_client(&rig, &client, 1);
	assert_int_equal(server_rig_put(&client, &key, 5000), 0);
	assert_int_equal(server_drain(rig.server, 10 * NS_PER_S), 0);
	assert_int_equal(server_rig_put(&client, &key, 5000), -ERR_CLOSING);
	assert_int_equal(server_rig_get(&client, &key, 5000), 0);
	server_rig_client(&rig, &late, 1); /* who reads may still come */
	assert_int_equal(server_rig_get(&late, &key, 5000), 0);
	raw_client_close(&late);
	raw_client_close(&client);
	server_rig_stop(&rig);
	server_rig_fini(&rig);
}

/* Both sides of the race for a slot: an answer in time, one too late, and a question meanwhile. */
static void a_reactor_that_stands_still_holds_up_nobody(void **state)
{
	struct server_rig rig;
	struct raw_client client;
	struct wire_key key = server_rig_key(0, 2, 5);
	struct metrics metrics[2];
	struct server_query query = { .kind = QUERY_SHARDS, .reactor = 1 };
	const struct timespec pause = { .tv_nsec = NS_PER_MS };
	struct shard_row row;

	server_rig_init(&rig, 2);
	rig.stalled = 1;
	server_rig_start(&rig);
	query.rows = &row;
	query.row_max = 1;
	atomic_store(&rig.is_stalled, true);
	query.timeout_ns = 10 * NS_PER_S;
	if (server_query(rig.server, &query) == 0) /* the last one that it answers */
		assert_int_equal(query.row_count, 1);
	while (atomic_load(&rig.stall_count) == 0)
		nanosleep(&pause, NULL);
	query.timeout_ns = 1;
	assert_int_equal(server_query(rig.server, &query), -ETIMEDOUT);
	assert_int_equal(query.silent_count, 1);
	assert_int_equal(server_get_metrics(rig.server, metrics, 2, 100 * NS_PER_MS), 1);
	server_rig_client(&rig, &client, 0);
	assert_int_equal(server_rig_put(&client, &key, 5000), 0);
	assert_int_equal(server_rig_get(&client, &key, 5000), 0);
	raw_client_close(&client);

	atomic_store(&rig.is_stalled, false);
	query.timeout_ns = 10 * NS_PER_S;
	for (uint32_t i = 0; server_query(rig.server, &query) < 0; i++) {
		assert_in_range(i, 0, 10000); /* until the late answer has freed its slot */
		nanosleep(&pause, NULL);
	}
	assert_int_equal(query.row_count, 1);
	assert_int_equal(row.index, 1);
	server_rig_stop(&rig);
	server_rig_fini(&rig);
}

static void beats_go_on_while_the_loops_turn(void **state)
{
	static atomic_uint_least64_t beats[2];
	const struct timespec pause = { .tv_nsec = NS_PER_MS };
	struct server_rig rig;
	uint64_t before;

	server_rig_init(&rig, 2);
	rig.opts.beats = beats;
	rig.opts.beat_ns = NS_PER_MS;
	rig.stalled = 1;
	server_rig_start(&rig);
	for (uint32_t i = 0; server_beats(rig.server, 0) < 5 || server_beats(rig.server, 1) < 5;
	     i++) {
		assert_in_range(i, 0, 10000);
		nanosleep(&pause, NULL);
	}
	atomic_store(&rig.is_stalled, true);
	while (atomic_load(&rig.stall_count) == 0)
		nanosleep(&pause, NULL);
	before = server_beats(rig.server, 1);
	for (uint64_t first = server_beats(rig.server, 0); server_beats(rig.server, 0) < first + 5;)
		nanosleep(&pause, NULL);
	assert_int_equal(server_beats(rig.server, 1), before);
	atomic_store(&rig.is_stalled, false);
	server_rig_stop(&rig);
	server_rig_fini(&rig);
}

static void a_server_that_cannot_listen_leaves_nothing(void **state)
{
	struct server_rig rig;
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t size = sizeof(address);
	char name[32];
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	snprintf(name, sizeof(name), "127.0.0.1:%u", ntohs(address.sin_port));
	server_rig_init(&rig, REACTORS);
	rig.listen.address = name;
	assert_int_equal(server_rig_try(&rig), -EADDRINUSE);
	assert_non_null(strstr(rig.message, name));
	close(fd);
	server_rig_start(&rig); /* the same, once the port is free */
	server_rig_stop(&rig);
	server_rig_fini(&rig);
}

/* Shards 0 and 1 on the first medium, 2 and 3 on the second, a reactor each. */
static void a_missing_medium_is_refused_or_left_out_when_told(void **state)
{
	struct server_rig rig;
	struct raw_client client;
	struct wire_key here = server_rig_key(0, 4, 1);
	struct wire_key gone = server_rig_key(2, 4, 1);
	struct shard_row rows[4];
	struct server_query query = { .kind = QUERY_SHARDS,
				      .reactor = SERVER_REACTOR_ALL,
				      .rows = rows,
				      .row_max = 4,
				      .timeout_ns = 10 * NS_PER_S };
	struct server_query drop = { .kind = QUERY_DROP,
				     .reactor = 0,
				     .in.drop.is_namespace = true,
				     .timeout_ns = 10 * NS_PER_S };

	server_rig_init(&rig, 2);
	server_rig_media(&rig, 2, 2);
	server_rig_start(&rig);
	server_rig_client(&rig, &client, 0);
	assert_int_equal(server_rig_put(&client, &here, 5000), 0);
	raw_client_close(&client);
	server_rig_client(&rig, &client, 1);
	assert_int_equal(server_rig_put(&client, &gone, 5000), 0);
	raw_client_close(&client);
	server_rig_stop(&rig);

	rig.opts.medium_count = 1;
	assert_int_equal(server_rig_try(&rig), -ENODEV);
	assert_non_null(strstr(rig.message, "--degraded"));
	rig.opts.has_degraded = true;
	server_rig_start(&rig);
	assert_int_equal(server_query(rig.server, &query), 0);
	assert_int_equal(query.row_count, 4);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(rows[i].state,
				 rows[i].index < 2 ? SHARD_STATE_ONLINE : SHARD_STATE_MISSING);
	server_rig_client(&rig, &client, 0);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(client.shards[i].index, i);
	assert_int_equal(server_rig_get(&client, &here, 5000), 0);
	assert_int_equal(server_rig_get(&client, &gone, 5000), -ERR_MISS);
	assert_int_equal(server_rig_put(&client, &gone, 5000), -ERR_OFFLINE);
	/* What was dropped stays dropped: it would come back with the medium. */
	assert_int_equal(raw_client_finish(&client, raw_client_keys(&client, WIRE_DROP, &gone, 1),
					   NULL, NULL, NULL),
			 -ERR_OFFLINE);
	assert_int_equal(
		raw_client_finish(&client, raw_client_plain(&client, WIRE_DROP), NULL, NULL, NULL),
		-ERR_OFFLINE);
	memcpy(drop.in.drop.domain, client.domain, 16);
	assert_int_equal(server_query(rig.server, &drop), -ERR_OFFLINE);
	raw_client_close(&client);
	server_rig_stop(&rig);

	rig.opts.medium_count = 2;
	rig.opts.has_degraded = false;
	server_rig_start(&rig);
	server_rig_client(&rig, &client, 1);
	assert_int_equal(server_rig_get(&client, &gone, 5000), 0);
	raw_client_close(&client);
	server_rig_stop(&rig);
	server_rig_fini(&rig);
}

/* Two reactors share the medium of the first: both write to it, and both find it again. */
static void shards_of_one_medium_run_on_several_reactors(void **state)
{
	struct server_rig rig;
	struct raw_client client;

	server_rig_init(&rig, 2);
	server_rig_media(&rig, 1, 2);
	for (uint32_t life = 0; life < 2; life++) {
		server_rig_start(&rig);
		for (uint16_t at = 0; at < 2; at++) {
			struct wire_key key = server_rig_key(at, 2, 9);

			server_rig_client(&rig, &client, at);
			if (life == 0)
				assert_int_equal(server_rig_put(&client, &key, 700000), 0);
			assert_int_equal(server_rig_get(&client, &key, 700000), 0);
			raw_client_close(&client);
		}
		server_rig_stop(&rig);
	}
	server_rig_fini(&rig);
}

static void too_much_memory_is_refused_with_the_sum(void **state)
{
	struct server_rig rig;

	server_rig_init(&rig, 2);
	rig.opts.ram_bytes = 100 * MiB;
	assert_int_equal(server_rig_try(&rig), -ENOMEM);
	assert_non_null(strstr(rig.message, "100 MiB"));
	server_rig_fini(&rig);
}

/* What the labels of its media say, without opening it. */
static void plan_of(struct server_rig *rig, struct server_plan *plan)
{
	memset(plan, 0, sizeof(*plan));
	for (uint32_t i = 0; i < rig->opts.medium_count; i++) {
		struct medium *medium = NULL;

		assert_int_equal(
			medium_open_read_only(rig->env, rig->opts.media[i], &medium, rig->message),
			0);
		medium_get_info(medium, &plan->media[i]);
		medium_close(&medium);
	}
}

/* Who only wants to know is told what start would make of it, or why it would refuse. */
static void a_plan_is_what_start_makes(void **state)
{
	for (uint32_t media = 0; media <= 2; media += 2) {
		struct server_rig rig;
		struct server_plan plan;
		struct server_info info;

		server_rig_init(&rig, 2);
		if (media > 0)
			server_rig_media(&rig, media, 2);
		plan_of(&rig, &plan);
		assert_int_equal(server_plan_shards(&rig.opts, &plan, rig.message), 0);
		assert_int_equal(server_plan_memory(&rig.opts, &plan, rig.message), 0);
		server_rig_start(&rig);
		server_get_info(rig.server, &info);
		assert_int_equal(info.shard_count, plan.table_count);
		assert_int_equal(info.shards_missing, plan.missing_count);
		assert_int_equal(info.block_max, plan.block_max);
		assert_memory_equal(&info.memory, &plan.memory, sizeof(info.memory));
		if (media > 0) {
			assert_memory_equal(info.uuid, plan.uuid, sizeof(info.uuid));
			assert_int_equal(info.buffer_bytes, plan.buffer_bytes);
		}
		server_rig_stop(&rig);
		server_rig_fini(&rig);
	}
}

static void a_plan_refuses_as_start_does(void **state)
{
	struct server_rig rig;
	struct server_plan plan;
	char why[256];

	server_rig_init(&rig, 1);
	server_rig_media(&rig, 2, 1);
	plan_of(&rig, &plan);
	rig.opts.medium_count = 1;
	assert_int_equal(server_plan_shards(&rig.opts, &plan, why), -ENODEV);
	assert_int_equal(server_rig_try(&rig), -ENODEV);
	assert_string_equal(why, rig.message);
	rig.opts.medium_count = 2;
	rig.opts.ram_bytes = 10 * MiB;
	plan_of(&rig, &plan);
	assert_int_equal(server_plan_shards(&rig.opts, &plan, why), 0);
	assert_int_equal(server_plan_memory(&rig.opts, &plan, why), -ENOMEM);
	assert_int_equal(server_rig_try(&rig), -ENOMEM);
	assert_string_equal(why, rig.message);
	server_rig_fini(&rig);
}

static uint32_t default_for(uint32_t medium_count, uint64_t memory, uint32_t core_count)
{
	const struct server_opts opts = { .medium_count = medium_count, .memory.size = memory };

	return server_reactor_default(&opts, core_count);
}

static void reactors_are_few_by_default(void **state)
{
	assert_int_equal(default_for(1, 0, 128), 1);
	assert_int_equal(default_for(3, 0, 128), 3);
	assert_int_equal(default_for(8, 0, 128), 4);
	assert_int_equal(default_for(8, 0, 16), 2);
	assert_int_equal(default_for(8, 0, 2), 1);
	assert_int_equal(default_for(0, 64 * GiB, 128), 4);
	assert_int_equal(default_for(0, 64 * GiB, 8), 2);
	assert_int_equal(default_for(0, 35 * GiB, 128), 2);
	assert_int_equal(default_for(0, 31 * GiB, 128), 1);
	assert_int_equal(default_for(0, 64 * GiB, 2), 1);
}

/* A block may be as large as in one that has all of the memory: as setup has printed it. */
static void several_reactors_leave_room_for_blocks(void **state)
{
	const uint64_t sizes[] = { 32 * GiB, 48 * GiB, 64 * GiB, 1024 * GiB };

	for (uint32_t i = 0; i < ARRAY_LEN(sizes); i++) {
		const struct shard_memory all = { .size = sizes[i] };
		uint32_t count = default_for(0, sizes[i], 128);
		const struct shard_memory share = { .size = sizes[i] / count };

		assert_true(count > 1);
		assert_int_equal(shard_memory_block_max(&share), shard_memory_block_max(&all));
	}
}

static void a_table_of_tenants_reaches_every_reactor(void **state)
{
	static const char text[] =
		"carol 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
	struct server_rig rig;
	struct raw_client clients[REACTORS];
	struct tenants *tenants = NULL;
	char message[256];

	server_rig_init(&rig, REACTORS);
	server_rig_start(&rig);
	for (uint16_t i = 0; i < REACTORS; i++)
		server_rig_client(&rig, &clients[i], i);
	assert_int_equal(tenants_create(rig.env, text, &tenants, message), 0);
	assert_int_equal(server_set_tenants(rig.server, tenants, 10 * NS_PER_S), 0);
	tenants_destroy(rig.env, &rig.tenants); /* nobody points into it */
	rig.tenants = tenants;
	for (uint16_t i = 0; i < REACTORS; i++) {
		struct wire_header header;

		assert_true(raw_client_read(&clients[i], &header, sizeof(header)));
		assert_int_equal(header.kind, WIRE_NOTICE);
		raw_client_close(&clients[i]);
		raw_client_open(&clients[i], rig.port, clients[i].poll, NULL);
		assert_int_equal(raw_client_hello(&clients[i], "alice", &rig.secret), -ERR_AUTH);
		raw_client_close(&clients[i]);
		raw_client_open(&clients[i], rig.port, clients[i].poll, NULL);
		assert_int_equal(
			raw_client_hello(&clients[i], "carol", &tenants->rows[0].secrets[0]), 0);
		raw_client_close(&clients[i]);
	}
	server_rig_stop(&rig);
	server_rig_fini(&rig);
}

/* Nearly the same size is the same weight; twice the size is twice the weight; never 0. */
static void the_weight_of_a_server_follows_its_capacity_in_steps(void **state)
{
	static const struct {
		uint64_t gib;
		uint32_t weight;
	} rows[] = { { 0, 1 },      { 8, 1 },          { 11, 1 },         { 12, 2 },
		     { 16, 2 },     { 19, 2 },         { 20, 3 },         { 27, 3 },
		     { 28, 4 },     { 32, 4 },         { 39, 4 },         { 40, 6 },
		     { 99, 12 },    { 100, 12 },       { 1000, 128 },     { 2000, 256 },
		     { 1500, 192 }, { 262144, 32768 }, { 524288, 49152 }, { 1 << 30, 49152 } };
	uint32_t last = 0;

	for (uint32_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(server_weight(rows[i].gib * GiB), rows[i].weight);
	for (uint64_t size = GiB; size < UINT64_C(1) << 50; size += size / 64) {
		uint32_t weight = server_weight(size);

		assert_true(weight >= last);
		last = weight;
		if (size < 16 * GiB || weight == SERVER_WEIGHT_MAX)
			continue;
		/* Never more than a quarter off. */
		assert_true(weight * SERVER_WEIGHT_UNIT <= size + size / 4);
		assert_true(weight * SERVER_WEIGHT_UNIT >= size - size / 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_of_tenants_reaches_every_reactor),
		cmocka_unit_test(a_connection_reaches_the_reactor_it_asks_for),
		cmocka_unit_test(connections_that_want_any_reactor_are_dealt_out),
		cmocka_unit_test(a_key_is_served_by_the_reactor_of_its_shard_only),
		cmocka_unit_test(questions_are_answered_by_all_reactors),
		cmocka_unit_test(an_administrator_drops_keys_and_namespaces),
		cmocka_unit_test(a_draining_server_takes_no_puts_and_serves_gets),
		cmocka_unit_test(a_reactor_that_stands_still_holds_up_nobody),
		cmocka_unit_test(beats_go_on_while_the_loops_turn),
		cmocka_unit_test(a_server_that_cannot_listen_leaves_nothing),
		cmocka_unit_test(a_missing_medium_is_refused_or_left_out_when_told),
		cmocka_unit_test(shards_of_one_medium_run_on_several_reactors),
		cmocka_unit_test(too_much_memory_is_refused_with_the_sum),
		cmocka_unit_test(a_plan_is_what_start_makes),
		cmocka_unit_test(a_plan_refuses_as_start_does),
		cmocka_unit_test(reactors_are_few_by_default),
		cmocka_unit_test(several_reactors_leave_room_for_blocks),
		cmocka_unit_test(the_weight_of_a_server_follows_its_capacity_in_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
