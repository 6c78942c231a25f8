/* SPDX-License-Identifier: Apache-2.0 */
#include "door_rig.h"

#include <stdlib.h>
#include <string.h>

#define STAGE_SIZE STAGE_SIZE_MIN

uint8_t *stage_memory;

struct client_opts door_opts(void)
{
	struct client_opts opts = core_opts;

	opts.xprt = &fake_sync;
	opts.door = &fake_door;
	opts.lanes = 2;
	opts.stage = stage_memory;
	opts.stage_size = STAGE_SIZE;
	return opts;
}

void begin_door_with(const struct client_opts *opts)
{
	struct peer *peer;

	begin_with(opts);
	peer = peer_add("the server");
	peer->offer = (struct wire_offer) { .transport = WIRE_XPRT_SHM };
	memcpy(peer->offer.address, "/run/a.sock", 12);
	peer = peer_add(DOOR);
	memset(peer->welcome.server, 1, sizeof(peer->welcome.server));
	client_connect(w.client);
	pass_ns(1);
	assert_int_equal(w.lane_count, 1);
}

void begin_door(void)
{
	struct client_opts opts = door_opts();

	begin_door_with(&opts);
}

void begin_moved_with(const struct client_opts *opts)
{
	begin_door_with(opts);
	hello(0);
	pass_ns(1);
	assert_int_equal(w.lane_count, 2);
	assert_string_equal(w.lanes[1].address, DOOR);
	hello(1);
	assert_false(w.lanes[0].is_open);
	assert_true(w.lanes[1].is_open);
	sent_clear();
}

void begin_moved(void)
{
	struct client_opts opts = door_opts();

	begin_moved_with(&opts);
}

void begin_fallen_back(void)
{
	begin_door();
	w.door_error = -ENOENT;
	hello(0);
	pass_ns(1);
	w.door_error = 0;
}

void assert_transport(const char *name)
{
	struct ctxkv_stat stat;
	struct ctxkv_server row = { .size = sizeof(row) };

	client_get_stat(w.client, &stat);
	assert_string_equal(stat.transport, name);
	assert_int_equal(client_get_servers(w.client, &row, sizeof(row), 1), 1);
	assert_string_equal(row.transport, name);
}

int door_group_begin(void **state)
{
	stage_memory = aligned_alloc(PAGE_SIZE, STAGE_SIZE);
	return stage_memory == NULL;
}

int door_group_end(void **state)
{
	free(stage_memory);
	return 0;
}
