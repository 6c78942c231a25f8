/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server looks like at one moment: the answers of its reactors, gathered for one request and
 * then written as JSON (status.c) or Prometheus text (scrape.c), which are pure functions of it.
 *
 * Threads    view_fill() asks the reactors (ANY_THREAD calls of server.h) and waits for them, at
 *            most VIEW_NS in all; a census takes up to VIEW_CENSUS_NS more. The reactors answer
 * from their loops: they wait for nobody. Memory     One view is taken at the start of the admin
 * endpoint, for the largest answer; what is beyond is cut, and said to be (is_cut).
 */
#ifndef ADMIN_VIEW_H
#define ADMIN_VIEW_H

#include "../server/saving.h"
#include "../server/server.h"
#include "../tbl/options.h"

#define VIEW_NS        (2 * NS_PER_S)
#define VIEW_CENSUS_NS (8 * NS_PER_S)
#define VIEW_SESSIONS  2048
#define VIEW_TENANTS   1024
#define VIEW_SAVINGS   1024
#define VIEW_CENSUS    1024

/* What of the server a view is to have; metrics and shards are in all. */
enum view_part {
	VIEW_PART_SESSIONS = 1u << 0,
	VIEW_PART_TENANTS = 1u << 1,
	VIEW_PART_SAVINGS = 1u << 2,
	VIEW_PART_ALL = 7,
	VIEW_PART_CENSUS = 1u << 3, /* walks the indexes: for who asks for it only */
};

enum admin_state {
	ADMIN_STARTING, /* media are opened, blocks are recovered */
	ADMIN_READY,
	ADMIN_DEGRADED, /* serves, but a medium or a reactor does not */
	ADMIN_DRAINING, /* takes no new puts; or is about to end */
};

/* Names by state: "starting", … */
extern const char *const admin_state_names[];

struct view {
	enum admin_state state;
	bool has_server;               /* false: only state, version and configuration */
	const struct options *options; /* as the server was started */
	struct server_info info;
	char address[128]; /* clients connect to */
	uint64_t gpu_cents;
	/* By reactor; those that did not answer have zeros. */
	struct metrics reactors[SERVER_REACTOR_MAX];
	uint32_t silent_count; /* reactors that did not answer in time */
	struct metrics total;
	struct shard_row shards[WIRE_SHARD_MAX];
	uint32_t shard_count;
	uint32_t parts; /* enum view_part: what of the following was asked for */
	struct session_row sessions[VIEW_SESSIONS];
	uint32_t session_count;
	struct tenant_row tenants[VIEW_TENANTS];
	uint32_t tenant_count;
	struct saving_row savings[VIEW_SAVINGS];
	uint32_t saving_count;
	struct census_row census[VIEW_CENSUS];
	uint32_t census_count;
	bool is_cut; /* some of these have more rows, or a reactor told none */
	/* Of one reactor, before they are merged. */
	struct saving_row saving_scratch[SAVING_ROWS];
	struct tenant_row tenant_scratch[VIEW_TENANTS];
	struct census_row census_scratch[VIEW_CENSUS];
};

/* server NULL: it is not there (yet). Fills all but options. */
void view_fill(struct view *view, struct server *server, enum admin_state state_without,
	       uint32_t parts);

/* Payload in the store by room for it, 0 … 1. */
double view_fill_share(const struct view *view);
/* Blocks delivered by blocks asked for, since the start; negative: none was asked for. */
double view_hit_rate(const struct view *view);
/* Seconds since the oldest block was written. */
uint64_t view_oldest_s(const struct view *view);

#endif
