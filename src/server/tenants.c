/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants from a key file: parsed once to count, once to keep. */
#include "tenants.h"

#include <stdio.h>
#include <string.h>

static void tenant_init(struct tenant *tenant, const struct keyfile_row *row)
{
	memcpy(tenant->name, row->tenant, sizeof(tenant->name));
	auth_domain_id(tenant->name, tenant->id);
	tenant->secret_count = row->secret_count;
	for (uint32_t i = 0; i < row->secret_count; i++) {
		tenant->secrets[i] = row->secrets[i];
		auth_secret_id(&row->secrets[i], tenant->secret_ids[i]);
	}
	tenant->rights = row->rights;
	tenant->quota = row->quota;
	tenant->session_max = row->session_max;
	tenant->domain_count = row->domain_count;
	for (uint32_t i = 0; i < row->domain_count; i++) {
		memcpy(tenant->domains[i].name, row->domains[i].name,
		       sizeof(tenant->domains[i].name));
		auth_domain_id(row->domains[i].name, tenant->domains[i].id);
		tenant->domains[i].rights = row->domains[i].rights;
	}
}

/* rows is scratch for row_count rows. */
static int tenants_fill(struct env *env, const char *text, struct keyfile_row *rows,
			uint32_t row_count, struct tenants **tenants_out, char message_out[256])
{
	struct tenants *tenants;
	int rc;

	rc = keyfile_parse(text, rows, row_count, message_out);
	if (rc < 0)
		return rc;
	tenants = env->ops->alloc(env, sizeof(*tenants));
	if (tenants == NULL)
		return -ENOMEM;
	tenants->rows = env->ops->alloc(env, row_count * sizeof(tenants->rows[0]));
	if (tenants->rows == NULL) {
		env->ops->free(env, tenants);
		return -ENOMEM;
	}
	tenants->count = row_count;
	for (uint32_t i = 0; i < row_count; i++)
		tenant_init(&tenants->rows[i], &rows[i]);
	*tenants_out = tenants;
	return 0;
}

int tenants_create(struct env *env, const char *keyfile_text, struct tenants **tenants_out,
		   char message_out[256])
{
	struct keyfile_row *rows;
	size_t rows_size;
	int count;
	int rc;

	ASSERT(*tenants_out == NULL);
	count = keyfile_parse(keyfile_text, NULL, 0, message_out);
	if (count < 0)
		return count;
	if (count == 0) {
		snprintf(message_out, 256, "the secrets file names no tenant");
		return -EINVAL;
	}
	rows_size = (size_t)count * sizeof(*rows);
	rows = env->ops->alloc(env, rows_size);
	if (rows == NULL)
		return -ENOMEM;
	rc = tenants_fill(env, keyfile_text, rows, (uint32_t)count, tenants_out, message_out);
	explicit_bzero(rows, rows_size);
	env->ops->free(env, rows);
	return rc;
}

void tenants_destroy(struct env *env, struct tenants **tenants)
{
	while (*tenants != NULL) {
		struct tenants *before = (*tenants)->before;

		explicit_bzero((*tenants)->rows, (*tenants)->count * sizeof((*tenants)->rows[0]));
		env->ops->free(env, (*tenants)->rows);
		env->ops->free(env, *tenants);
		*tenants = before;
	}
}

const struct tenant *tenants_find(const struct tenants *tenants, const char *name,
				  const uint8_t secret_id[8], const struct auth_secret **secret_out)
{
	*secret_out = NULL;
	for (uint32_t i = 0; i < tenants->count; i++) {
		const struct tenant *tenant = &tenants->rows[i];

		if (strcmp(tenant->name, name) != 0)
			continue;
		for (uint32_t j = 0; j < tenant->secret_count; j++) {
			if (memcmp(tenant->secret_ids[j], secret_id, 8) == 0)
				*secret_out = &tenant->secrets[j];
		}
		return tenant;
	}
	return NULL;
}

const char *tenants_domain_name(const struct tenants *tenants, const uint8_t domain[16])
{
	for (uint32_t i = 0; i < tenants->count; i++) {
		const struct tenant *tenant = &tenants->rows[i];

		if (memcmp(tenant->id, domain, sizeof(tenant->id)) == 0)
			return tenant->name;
		for (uint32_t k = 0; k < tenant->domain_count; k++) {
			if (memcmp(tenant->domains[k].id, domain, 16) == 0)
				return tenant->domains[k].name;
		}
	}
	return NULL;
}

uint8_t tenant_rights(const struct tenant *tenant, const uint8_t domain[16])
{
	static const uint8_t own[16];

	if (memcmp(domain, own, sizeof(own)) == 0 ||
	    memcmp(domain, tenant->id, sizeof(tenant->id)) == 0)
		return tenant->rights;
	for (uint32_t i = 0; i < tenant->domain_count; i++) {
		if (memcmp(domain, tenant->domains[i].id, sizeof(tenant->domains[i].id)) == 0)
			return tenant->domains[i].rights;
	}
	return 0;
}
