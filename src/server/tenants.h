/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may come in, and what for: tenants, their secrets, their rights on domains, their limits.
 *
 * A table is made whole from the text of a secrets file and never changed; a new file makes a new
 * table, which takes the old one's place in every reactor (reactor_set_tenants()) before the old
 * one is destroyed. Who holds a pointer into a table is a session or a connection in hello, and
 * finds its row again at the change (tenancy.c).
 *
 * tenant_rights() is the one place that says what a tenant may do where.
 */
#ifndef SERVER_TENANTS_H
#define SERVER_TENANTS_H

#include "../env/env.h"
#include "../wire/keyfile.h"

struct tenant_domain {
	char name[WIRE_TENANT_MAX];
	uint8_t id[16]; /* auth_domain_id() of its name */
	uint8_t rights; /* enum wire_right */
};

struct tenant {
	char name[WIRE_TENANT_MAX];
	uint8_t id[16]; /* auth_domain_id(name): payer, and its own domain */
	struct auth_secret secrets[2];
	uint8_t secret_ids[2][8];
	uint32_t secret_count;
	uint32_t session_max; /* at once at a reactor; 0: as many as there are */
	uint64_t quota;       /* payload bytes at the whole server; 0: none */
	uint8_t rights;       /* enum wire_right on its own domain */
	struct tenant_domain domains[KEYFILE_DOMAIN_MAX];
	uint32_t domain_count;
};

struct tenants {
	struct tenant *rows;
	uint32_t count;
	struct tenants *before; /* goes with it: somebody may still use that one; mostly NULL */
};

/* From the text of a secrets file. At least one tenant. */
int tenants_create(struct env *env, const char *keyfile_text, struct tenants **tenants_out,
		   char message_out[256]) MUST_USE;
void tenants_destroy(struct env *env, struct tenants **tenants);

/* NULL when there is none; *secret_out is the secret with that id, or NULL. */
const struct tenant *tenants_find(const struct tenants *tenants, const char *name,
				  const uint8_t secret_id[8],
				  const struct auth_secret **secret_out);

/* The name of the domain with that id; NULL: it is no tenant's and no row has a right on it. */
const char *tenants_domain_name(const struct tenants *tenants, const uint8_t domain[16]);

/* Rights of the tenant on the domain with that id, 0: none. Zeros are its own domain. */
uint8_t tenant_rights(const struct tenant *tenant, const uint8_t domain[16]);

#endif
