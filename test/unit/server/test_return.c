/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A medium that failed, or was missing at the start, comes back while the server runs: its blocks
 * are there, it takes puts again, and nothing that was dropped comes back with it. What is not the
 * medium that was there stays away, with the reason, and costs the others nothing.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "server_rig.h"

#define SIZE   5000u
#define PLACES 64 /* of a path, as in the rig */

/* Two media of two shards, four reactors: shards 2 and 3, of the second, run on reactors 1 and 3.
 */
#define SHARDS 4u

static void rig_begin(struct server_rig *rig)
{
	server_rig_init(rig, 4);
	server_rig_media(rig, 2, 2);
	rig->opts.shard.io_error_max = 1;
	rig->opts.reactor.session_max = 64;
	rig->opts.reactor.idle_ns = NS_PER_MS; /* each act() leaves a session behind */
	rig->stalled = 1;
	server_rig_start(rig);
}

static void rig_end(struct server_rig *rig)
{
	server_rig_stop(rig);
	server_rig_fini(rig);
}

static uint16_t reactor_of(const struct server_rig *rig, uint32_t shard)
{
	struct shard_row rows[SHARDS];
	struct server_query query = { .kind = QUERY_SHARDS,
				      .reactor = SERVER_REACTOR_ALL,
				      .rows = rows,
				      .row_max = SHARDS,
				      .timeout_ns = 10 * NS_PER_S };
	uint32_t i = 0;

	assert_int_equal(server_query(rig->server, &query), 0);
	assert_int_equal(query.row_count, SHARDS);
	while (rows[i].index != shard)
		i++;
	return rows[i].reactor;
}

enum what { PUT, GET, DROP };

/* One operation on block number of a shard, by a client of its own. */
static int act(const struct server_rig *rig, enum what what, uint32_t shard, uint32_t number)
{
	struct wire_key key = server_rig_key(shard, SHARDS, number);
	struct raw_client client;
	int rc;

	server_rig_client(rig, &client, reactor_of(rig, shard));
	if (what == PUT)
		rc = server_rig_put(&client, &key, SIZE);
	else if (what == GET)
		rc = server_rig_get(&client, &key, SIZE);
	else
		rc = raw_client_finish(&client, raw_client_keys(&client, WIRE_DROP, &key, 1), NULL,
				       NULL, NULL);
	raw_client_close(&client);
	return rc;
}

/* What every restart does: nothing is in the cache. */
static void restart(struct server_rig *rig)
{
	server_rig_stop(rig);
	rig->opts.reactor.incarnation++;
	server_rig_start(rig);
}

/* Of all four reactors. */
static struct metrics metrics_of(struct server_rig *rig)
{
	struct metrics sum = { 0 };
	struct metrics rows[4];

	assert_int_equal(server_get_metrics(rig->server, rows, 4, 10 * NS_PER_S), 4);
	for (uint32_t i = 0; i < 4; i++)
		metrics_add(&sum, &rows[i]);
	return sum;
}

static uint64_t offline(struct server_rig *rig)
{
	return metrics_of(rig).store_offline;
}

static uint64_t puts_counted(struct server_rig *rig)
{
	return metrics_of(rig).store_puts;
}

/* Gets of block number of shard 2 fail until its medium is given up. */
static void fail_shard_2(struct server_rig *rig, uint32_t number)
{
	atomic_store(&rig->is_failing, true);
	for (uint32_t i = 0; offline(rig) == 0; i++) {
		assert_in_range(i, 0, 100);
		assert_int_not_equal(act(rig, GET, 2, number + i), 0);
	}
	atomic_store(&rig->is_failing, false);
	assert_int_equal(offline(rig), 1);
}

/* What the second medium's return comes to; 1: it was not away. */
static int return_it(struct server_rig *rig, const char *word)
{
	struct server_return rows[SERVER_MEDIUM_MAX];
	int count = server_return_media(rig->server, rows);

	if (count == 0)
		return 1;
	assert_int_equal(count, 1);
	assert_string_equal(rows[0].path, rig->paths[1]);
	if (word != NULL && strstr(rows[0].message, word) == NULL)
		fail_msg("'%s' is not in: %s", word, rows[0].message);
	return rows[0].rc;
}

/* Only what was written: the files are sparse. */
static void file_copy(const char *from, const char *to)
{
	int in = open(from, O_RDONLY);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	off_t end = lseek(in, 0, SEEK_END);
	off_t at = 0;
	char buf[65536];

	assert_true(in >= 0 && out >= 0);
	assert_int_equal(ftruncate(out, end), 0);
	while (at < end && (at = lseek(in, at, SEEK_DATA)) >= 0) {
		ssize_t size = pread(in, buf, sizeof(buf), at);

		assert_true(size > 0);
		assert_int_equal(pwrite(out, buf, (size_t)size, at), size);
		at += size;
	}
	close(in);
	close(out);
}

static void beside(const struct server_rig *rig, const char *what, char path_out[PLACES + 8])
{
	snprintf(path_out, PLACES + 8, "%s.%s", rig->paths[1], what);
}

static void a_medium_that_failed_comes_back_whole(void **state)
{
	struct server_rig rig;
	uint64_t puts;

	rig_begin(&rig);
	for (uint32_t shard = 0; shard < SHARDS; shard++) {
		for (uint32_t i = 0; i < 8; i++)
			assert_int_equal(act(&rig, PUT, shard, i), 0);
	}
	for (uint32_t i = 40; i < 48; i++) /* nobody reads them before they are to fail */
		assert_int_equal(act(&rig, PUT, 2, i), 0);
	assert_int_equal(act(&rig, DROP, 2, 7), 0);
	restart(&rig);
	assert_int_equal(act(&rig, PUT, 2, 20), 0);
	puts = puts_counted(&rig);
	fail_shard_2(&rig, 0);
	assert_int_equal(act(&rig, PUT, 2, 21), -ERR_OFFLINE);
	assert_int_equal(act(&rig, DROP, 2, 5), -ERR_OFFLINE);
	assert_int_equal(act(&rig, GET, 3, 1), 0); /* its neighbour goes on until it is asked for */

	assert_int_equal(return_it(&rig, "is back: 2 shards"), 0);
	assert_int_equal(offline(&rig), 0);
	assert_int_equal(puts_counted(&rig), puts);
	for (uint32_t shard = 0; shard < SHARDS; shard++) {
		for (uint32_t i = 0; i < 8; i++)
			assert_int_equal(act(&rig, GET, shard, i),
					 shard == 2 && i == 7 ? -ERR_MISS : 0);
	}
	assert_int_equal(act(&rig, GET, 2, 20), 0);
	assert_int_equal(act(&rig, PUT, 2, 21), 0);
	assert_int_equal(act(&rig, DROP, 2, 5), 0);
	assert_int_equal(return_it(&rig, NULL), 1);

	/* Once more, and over a restart. */
	fail_shard_2(&rig, 40);
	assert_int_equal(return_it(&rig, "is back"), 0);
	assert_int_equal(act(&rig, GET, 2, 5), -ERR_MISS);
	assert_int_equal(act(&rig, GET, 2, 21), 0);
	restart(&rig);
	assert_int_equal(act(&rig, GET, 2, 5), -ERR_MISS);
	assert_int_equal(act(&rig, GET, 2, 21), 0);
	rig_end(&rig);
}

static void a_medium_that_was_missing_comes_back(void **state)
{
	struct server_rig rig;
	struct server_info info;
	struct raw_client client;
	char elsewhere[PLACES + 8];
	uint8_t uuid[16];

	rig_begin(&rig);
	assert_int_equal(act(&rig, PUT, 3, 1), 0);
	server_rig_client(&rig, &client, 0);
	memcpy(uuid, client.shards[3].uuid, sizeof(uuid));
	raw_client_close(&client);
	server_rig_stop(&rig);
	beside(&rig, "away", elsewhere);
	assert_int_equal(rename(rig.paths[1], elsewhere), 0);
	rig.opts.has_degraded = true;
	rig.opts.reactor.incarnation++;
	server_rig_start(&rig);
	assert_int_equal(act(&rig, GET, 3, 1), -ERR_MISS);
	assert_int_equal(return_it(&rig, rig.paths[1]), -ENOENT);
	assert_int_equal(act(&rig, DROP, 3, 1), -ERR_OFFLINE);

	assert_int_equal(rename(elsewhere, rig.paths[1]), 0);
	assert_int_equal(return_it(&rig, "is back: 2 shards, 1 blocks"), 0);
	server_get_info(rig.server, &info);
	assert_int_equal(info.shards_missing, 0);
	for (uint16_t i = 0; i < 4; i++) { /* every reactor knows its name */
		server_rig_client(&rig, &client, i);
		assert_memory_equal(client.shards[3].uuid, uuid, sizeof(uuid));
		raw_client_close(&client);
	}
	for (uint32_t shard = 0; shard < SHARDS; shard++)
		assert_int_equal(act(&rig, PUT, shard, 2), 0);
	assert_int_equal(act(&rig, GET, 3, 1), 0);
	assert_int_equal(offline(&rig), 0);
	rig_end(&rig);
}

/* The block was dropped, and the drop acknowledged, after the copy was made. */
static void an_older_copy_stays_away(void **state)
{
	struct server_rig rig;
	char copy[PLACES + 8];
	char away[PLACES + 8];

	rig_begin(&rig);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(act(&rig, PUT, 2, i), 0);
	restart(&rig);
	beside(&rig, "copy", copy);
	beside(&rig, "away", away);
	file_copy(rig.paths[1], copy);
	assert_int_equal(act(&rig, DROP, 2, 3), 0);
	fail_shard_2(&rig, 4);
	assert_int_equal(rename(rig.paths[1], away), 0);
	assert_int_equal(rename(copy, rig.paths[1]), 0);
	assert_int_equal(return_it(&rig, "an older copy"), -ERR_FOREIGN);
	assert_int_equal(offline(&rig), 2);
	assert_int_equal(act(&rig, GET, 2, 3), -ERR_MISS);
	assert_int_equal(act(&rig, DROP, 2, 0), -ERR_OFFLINE);

	/* The right one comes back all the same. */
	assert_int_equal(rename(away, rig.paths[1]), 0);
	assert_int_equal(return_it(&rig, "is back"), 0);
	assert_int_equal(act(&rig, GET, 2, 3), -ERR_MISS);
	assert_int_equal(act(&rig, GET, 2, 0), 0);
	rig_end(&rig);
}

static void one_that_another_server_had_open_stays_away(void **state)
{
	struct server_rig rig;
	struct medium *medium = NULL;
	char copy[PLACES + 8];

	rig_begin(&rig);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(act(&rig, PUT, 2, i), 0);
	restart(&rig);
	fail_shard_2(&rig, 0);
	beside(&rig, "copy", copy);
	file_copy(rig.paths[1], copy);
	assert_int_equal(medium_open(rig.env, copy, 4711, &medium, rig.message), 0);
	medium_close(&medium);
	assert_int_equal(rename(copy, rig.paths[1]), 0);
	assert_int_equal(return_it(&rig, "another server"), -ERR_FOREIGN);
	assert_int_equal(offline(&rig), 1); /* nothing was touched */
	/* A restart takes it; what is offline cannot be left in order. */
	assert_int_equal(server_stop(rig.server), -ERR_OFFLINE);
	server_destroy(&rig.server);
	rig.opts.reactor.incarnation++;
	server_rig_start(&rig);
	assert_int_equal(act(&rig, GET, 2, 1), 0);
	rig_end(&rig);
}

static void another_medium_stays_away(void **state)
{
	struct server_rig rig;
	struct server_rig other;
	char away[PLACES + 8];
	char strange[PLACES + 8];

	server_rig_init(&other, 1);
	server_rig_media(&other, 2, 2);
	beside(&other, "strange", strange);
	assert_int_equal(rename(other.paths[1], strange), 0); /* the rigs share their paths */
	rig_begin(&rig);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(act(&rig, PUT, 2, i), 0);
	restart(&rig);
	fail_shard_2(&rig, 0);
	beside(&rig, "away", away);
	assert_int_equal(rename(rig.paths[1], away), 0);
	assert_int_equal(return_it(&rig, rig.paths[1]), -ENOENT);
	assert_int_equal(rename(strange, rig.paths[1]), 0);
	assert_int_equal(return_it(&rig, "not the medium that was there"), -ERR_FOREIGN);
	assert_int_equal(offline(&rig), 1);
	assert_int_equal(rename(away, rig.paths[1]), 0);
	assert_int_equal(return_it(&rig, "is back"), 0);
	rig_end(&rig);
	server_rig_fini(&other);
}

static void one_in_use_stays_away_until_it_is_not(void **state)
{
	struct server_rig rig;
	char copy[PLACES + 8];
	int fd;

	rig_begin(&rig);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(act(&rig, PUT, 2, i), 0);
	restart(&rig);
	fail_shard_2(&rig, 0);
	beside(&rig, "copy", copy);
	file_copy(rig.paths[1], copy);
	assert_int_equal(rename(copy, rig.paths[1]), 0);
	fd = open(rig.paths[1], O_RDWR);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(return_it(&rig, "in use"), -ERR_IN_USE);
	assert_int_equal(offline(&rig), 2);
	close(fd);
	assert_int_equal(return_it(&rig, "is back"), 0);
	assert_int_equal(act(&rig, GET, 2, 1), 0);
	rig_end(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_medium_that_failed_comes_back_whole),
		cmocka_unit_test(a_medium_that_was_missing_comes_back),
		cmocka_unit_test(an_older_copy_stays_away),
		cmocka_unit_test(one_that_another_server_had_open_stays_away),
		cmocka_unit_test(another_medium_stays_away),
		cmocka_unit_test(one_in_use_stays_away_until_it_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
