/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What SIGHUP and `ctxkv admin reload` ask for: the secrets file is read again, and media that are
 * away are opened again. In a thread of its own, as a medium's recovery takes its time and the main
 * thread has to beat.
 *
 * Normal path: who asks takes a number; the thread does it once for all who asked before it began,
 * and says what came of it, in the log and to who waits.
 *
 * Failure: a secrets file that is no good changes nothing, and no medium is looked at. A reactor
 * that does not take a new table in time: both tables stay. A medium that stays away is said with
 * its reason. start's env gives the memory of the tables; nobody polls it, and as long as this
 * thread is there, start->tenants is its own.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "start.h"
#include "tenants_load.h"

#define SECRETS_NS NS_PER_S /* for all reactors to take a new table */

/* --- secrets --- */

static bool is_same(const struct tenant *a, const struct tenant *b)
{
	if (a->secret_count != b->secret_count || a->session_max != b->session_max ||
	    a->quota != b->quota || a->rights != b->rights || a->domain_count != b->domain_count)
		return false;
	for (uint32_t i = 0; i < a->secret_count; i++) {
		if (memcmp(a->secret_ids[i], b->secret_ids[i], sizeof(a->secret_ids[i])) != 0)
			return false;
	}
	for (uint32_t i = 0; i < a->domain_count; i++) {
		if (memcmp(a->domains[i].id, b->domains[i].id, sizeof(a->domains[i].id)) != 0 ||
		    a->domains[i].rights != b->domains[i].rights)
			return false;
	}
	return true;
}

static const struct tenant *find(const struct tenants *tenants, const char *name)
{
	for (uint32_t i = 0; i < tenants->count; i++) {
		if (strcmp(tenants->rows[i].name, name) == 0)
			return &tenants->rows[i];
	}
	return NULL;
}

/* "tenants 3: 1 new, 0 gone, 1 changed". */
static void describe(const struct tenants *before, const struct tenants *now,
		     char text[RELOAD_TEXT_SIZE])
{
	uint32_t new = 0;
	uint32_t changed = 0;

	for (uint32_t i = 0; i < now->count; i++) {
		const struct tenant *old = find(before, now->rows[i].name);

		new += old == NULL;
		changed += old != NULL && !is_same(old, &now->rows[i]);
	}
	snprintf(text, RELOAD_TEXT_SIZE, "tenants %u: %u new, %u gone, %u changed", now->count, new,
		 before->count - (now->count - new), changed);
}

static int secrets_read_again(struct start *start, char text[RELOAD_TEXT_SIZE])
{
	const char *path = start->options->secrets;
	struct tenants *tenants = NULL;
	char message[512] = "";
	int rc = cmd_tenants_load(start->env, path, &tenants, message);

	if (rc < 0) {
		snprintf(text, RELOAD_TEXT_SIZE, "secrets not taken, those of before stay: %s",
			 message);
		log_error("%s", text);
		return rc;
	}
	describe(start->tenants, tenants, text);
	rc = server_set_tenants(start->server, tenants, SECRETS_NS);
	if (rc == 0) {
		tenants_destroy(start->env, &start->tenants);
		log_info("secrets taken from %s: %s", path, text);
	} else {
		tenants->before = start->tenants; /* a reactor may use it still */
		snprintf(text, RELOAD_TEXT_SIZE,
			 "secrets did not reach every reactor in time: %s; ask again", err_str(rc));
		log_error("%s", text);
	}
	start->tenants = tenants;
	return rc;
}

/* --- media --- */

/* Behind what text says already. */
static int media_return(struct start *start, char text[RELOAD_TEXT_SIZE])
{
	struct server_return rows[SERVER_MEDIUM_MAX];
	int count = server_return_media(start->server, rows);
	size_t used = strlen(text);
	int first = 0;

	if (count < 0) {
		snprintf(text + used, RELOAD_TEXT_SIZE - used,
			 "; whether a medium is away is not known: %s", err_str(count));
		return count;
	}
	for (int i = 0; i < count && used < RELOAD_TEXT_SIZE; i++) {
		used += (size_t)snprintf(text + used, RELOAD_TEXT_SIZE - used, "; %s%s",
					 rows[i].rc < 0 ? "stays away: " : "", rows[i].message);
		first = first == 0 ? rows[i].rc : first;
	}
	return first;
}

/* --- the thread --- */

static void reload_run(struct start *start)
{
	struct reload *reload = &start->reload;
	char text[RELOAD_TEXT_SIZE] = "";
	uint64_t asked = reload->asked;
	int rc;

	pthread_mutex_unlock(&reload->lock);
	rc = secrets_read_again(start, text);
	if (rc == 0)
		rc = media_return(start, text);
	pthread_mutex_lock(&reload->lock);
	reload->done = asked;
	reload->rc = rc;
	memcpy(reload->text, text, sizeof(reload->text));
	pthread_cond_broadcast(&reload->changed);
}

static void *reload_main(void *ctx)
{
	struct start *start = ctx;
	struct reload *reload = &start->reload;

	pthread_setname_np(pthread_self(), "reload");
	pthread_mutex_lock(&reload->lock);
	while (!reload->is_ending) {
		if (reload->done < reload->asked)
			reload_run(start);
		else
			pthread_cond_wait(&reload->changed, &reload->lock);
	}
	pthread_mutex_unlock(&reload->lock);
	return NULL;
}

int start_reload_begin(struct start *start)
{
	struct reload *reload = &start->reload;
	pthread_condattr_t attr;
	int rc;

	pthread_mutex_init(&reload->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&reload->changed, &attr);
	pthread_condattr_destroy(&attr);
	rc = -pthread_create(&reload->thread, NULL, reload_main, start);
	if (rc < 0)
		return cmd_fail(rc, "cannot make a thread: %s", err_str(rc));
	reload->is_begun = true;
	return 0;
}

void start_reload_end(struct start *start)
{
	struct reload *reload = &start->reload;

	if (!reload->is_begun)
		return;
	pthread_mutex_lock(&reload->lock);
	reload->is_ending = true;
	pthread_cond_broadcast(&reload->changed);
	pthread_mutex_unlock(&reload->lock);
	pthread_join(reload->thread, NULL);
	reload->is_begun = false;
}

void start_reload_ask(struct start *start)
{
	struct reload *reload = &start->reload;

	pthread_mutex_lock(&reload->lock);
	reload->asked++;
	pthread_cond_broadcast(&reload->changed);
	pthread_mutex_unlock(&reload->lock);
}

int start_reload_wait(struct start *start, uint64_t timeout_ns, char *text, size_t text_size)
{
	struct reload *reload = &start->reload;
	uint64_t until_ns = clock_ns() + timeout_ns;
	const struct timespec until = { .tv_sec = (time_t)(until_ns / NS_PER_S),
					.tv_nsec = (long)(until_ns % NS_PER_S) };
	int rc = 0;

	pthread_mutex_lock(&reload->lock);
	while (reload->done < reload->asked && !reload->is_ending && rc == 0)
		rc = -pthread_cond_timedwait(&reload->changed, &reload->lock, &until);
	if (reload->asked == 0)
		rc = -ENOENT;
	else if (reload->done < reload->asked)
		rc = -EINPROGRESS;
	else
		rc = reload->rc;
	snprintf(text, text_size, "%s", reload->text);
	pthread_mutex_unlock(&reload->lock);
	return rc;
}
