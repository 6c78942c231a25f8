/* SPDX-License-Identifier: Apache-2.0 */
/* Who may come in: tenants, their secrets, their domain and rights. Read-only for reactors. */
#ifndef SERVER_TENANTS_H
#define SERVER_TENANTS_H

#include "../env/env.h"
#include "../wire/keyfile.h"

struct tenant {
	char name[WIRE_TENANT_MAX];
	uint8_t id[16]; /* auth_domain_id(name): payer, and its own domain */
	struct auth_secret secrets[2];
	uint8_t secret_ids[2][8];
	uint32_t secret_count;
	uint8_t rights; /* enum wire_right on its own domain */
};

struct tenants {
	struct tenant *rows;
	uint32_t count;
};

/* From the text of a secrets file. At least one tenant. */
int tenants_create(struct env *env, const char *keyfile_text, struct tenants **tenants_out,
		   char message_out[256]) MUST_USE;
void tenants_destroy(struct env *env, struct tenants **tenants);

/* NULL when there is none; *secret_out is the secret with that id, or NULL. */
const struct tenant *tenants_find(const struct tenants *tenants, const char *name,
				  const uint8_t secret_id[8],
				  const struct auth_secret **secret_out);

#endif
