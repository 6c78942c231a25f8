/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant: edit a secrets file.
 *   list           who is in it: rights, limits, the ids of secrets (never the secrets)
 *   add NAME       a new tenant with a fresh secret
 *   set NAME       change its rights, domains and limits: those that stand on the command line
 *   rotate NAME    a second secret, fresh, before the old one: both are good from then on
 *   finish NAME    the old secret goes
 *   remove NAME    the tenant goes; its blocks stay until they are forgotten or dropped
 * A running server takes the file up when it is told so ('ctxkv admin
 * reload', SIGHUP). What a client needs is printed:
 * a line for its own key file, and the URL.
 */
#include <stdio.h>
#include <string.h>

#include "../base/text.h"
#include "../env/posix/posix.h"
#include "cmd.h"
#include "secrets.h"

enum action { TENANT_LIST, TENANT_ADD, TENANT_SET, TENANT_ROTATE, TENANT_FINISH, TENANT_REMOVE };

static int secret_make(struct auth_secret *secret_out)
{
	const struct env_posix_opts opts = { .io_thread_count = 1, .sock_max = 1 };
	struct env *env = NULL;
	int rc = env_posix_create(&opts, &env);

	if (rc < 0)
		return cmd_fail(rc, "cannot begin: %s", err_str(rc));
	env->ops->random(env, secret_out, sizeof(*secret_out));
	env_posix_destroy(&env);
	return 0;
}

/* --- list --- */

static void row_print(const struct keyfile_row *row)
{
	char size[32];
	char hex[17];
	uint8_t id[8];

	printf("%-16s %s", row->tenant, keyfile_rights_name(row->rights));
	for (uint32_t i = 0; i < row->domain_count; i++)
		printf(", %s %s", row->domains[i].name,
		       keyfile_rights_name(row->domains[i].rights));
	if (row->quota != 0)
		printf(", quota %s", text_format_size(size, sizeof(size), row->quota));
	if (row->session_max != 0)
		printf(", %u sessions", row->session_max);
	for (uint32_t i = 0; i < row->secret_count; i++) {
		auth_secret_id(&row->secrets[i], id);
		printf("%s%s", i == 0 ? ", secret " : ", old secret ",
		       text_format_hex(hex, sizeof(hex), id, sizeof(id)));
	}
	putchar('\n');
}

static int tenant_list(const struct secrets *secrets)
{
	for (uint32_t i = 0; i < secrets->row_count; i++)
		row_print(&secrets->rows[i]);
	return 0;
}

/* --- changes --- */

static bool is_given(const struct opt_set *set, const char *name)
{
	return set->is_set[options_find(name, IN_TENANT) - opt_table];
}

static int domains_set(struct keyfile_row *row, const char *text)
{
	row->domain_count = 0;
	while (*text != '\0') {
		size_t size = strcspn(text, ",");
		char one[128];

		snprintf(one, sizeof(one), "%.*s", (int)MIN(size, sizeof(one)), text);
		if (row->domain_count == KEYFILE_DOMAIN_MAX || size >= sizeof(one) ||
		    keyfile_parse_domain(one, &row->domains[row->domain_count]) < 0)
			return cmd_fail(-EINVAL,
					"domains are NAME, NAME:read or NAME:read+write, separated "
					"by commas, %d at most",
					KEYFILE_DOMAIN_MAX);
		row->domain_count++;
		text += size + (text[size] == ',');
	}
	return 0;
}

/* What stands on the command line. */
static int row_options(struct keyfile_row *row, const struct options *options,
		       const struct opt_set *set)
{
	if (is_given(set, "rights"))
		row->rights = WIRE_RIGHT_READ | (options->rights != 0 ? WIRE_RIGHT_WRITE : 0);
	if (is_given(set, "quota"))
		row->quota = options->quota;
	if (is_given(set, "sessions"))
		row->session_max = (uint32_t)options->sessions;
	return is_given(set, "domains") ? domains_set(row, options->domains) : 0;
}

static int row_add(struct keyfile_row *row, const struct options *options,
		   const struct opt_set *set)
{
	if (row->secret_count > 0)
		return cmd_fail(-EEXIST, "there is a tenant %s already; 'set' changes it",
				row->tenant);
	if (!keyfile_is_tenant(row->tenant))
		return cmd_fail(-EINVAL,
				"'%s' is no tenant's name: letters, digits, '-', '_' and '.' only",
				options->tenant);
	row->rights = WIRE_RIGHT_READ | WIRE_RIGHT_WRITE;
	row->secret_count = 1;
	if (row_options(row, options, set) < 0)
		return -EINVAL;
	return secret_make(&row->secrets[0]);
}

static int row_rotate(struct keyfile_row *row)
{
	if (row->secret_count == 2)
		return cmd_fail(-EEXIST, "tenant %s has two secrets: 'finish' first", row->tenant);
	row->secrets[1] = row->secrets[0];
	row->secret_count = 2;
	return secret_make(&row->secrets[0]);
}

static int row_finish(struct keyfile_row *row)
{
	if (row->secret_count == 1)
		return cmd_fail(-EINVAL, "tenant %s has one secret: nothing to finish",
				row->tenant);
	explicit_bzero(&row->secrets[1], sizeof(row->secrets[1]));
	row->secret_count = 1;
	return 0;
}

static int row_change(struct keyfile_row *row, enum action action, const struct options *options,
		      const struct opt_set *set)
{
	switch (action) {
	case TENANT_ADD:
		return row_add(row, options, set);
	case TENANT_SET:
		return row_options(row, options, set);
	case TENANT_ROTATE:
		return row_rotate(row);
	case TENANT_FINISH:
		return row_finish(row);
	default:
		return 0;
	}
}

/* --- what to do next --- */

static void client_print(const struct keyfile_row *row)
{
	char hex[2 * AUTH_SECRET_SIZE + 1];

	printf("key file   %s %s\n", row->tenant,
	       text_format_hex(hex, sizeof(hex), &row->secrets[0], AUTH_SECRET_SIZE));
	printf("client url ctxkv://%s@HOST?keyfile=PATH (the line above in a file of mode 0600)\n",
	       row->tenant);
	explicit_bzero(hex, sizeof(hex));
}

static void next_print(const struct keyfile_row *row, enum action action,
		       const struct secrets *secrets)
{
	static const char *const did[] = {
		[TENANT_ADD] = "added",
		[TENANT_SET] = "changed",
		[TENANT_ROTATE] = "has two secrets",
		[TENANT_FINISH] = "has its new secret only",
		[TENANT_REMOVE] = "removed",
	};

	printf("tenant     %s %s (%s)\n", row->tenant, did[action], secrets->path);
	if (action == TENANT_ADD || action == TENANT_ROTATE)
		client_print(row);
	puts("next       tell each server that has this file: ctxkv admin reload --all");
	if (action == TENANT_ROTATE)
		printf("           then give clients the new line, and when all have it: "
		       "ctxkv tenant finish %s\n",
		       row->tenant);
}

static int tenant_change(const struct secrets *secrets, enum action action,
			 const struct options *options, const struct opt_set *set)
{
	const struct keyfile_row *old = secrets_find(secrets, options->tenant);
	struct keyfile_row row = { 0 };
	int rc;

	if (old == NULL && action != TENANT_ADD)
		return cmd_fail(-ENOENT, "there is no tenant %s in %s", options->tenant,
				secrets->path);
	if (old != NULL)
		row = *old;
	else
		snprintf(row.tenant, sizeof(row.tenant), "%.63s", options->tenant);
	rc = row_change(&row, action, options, set);
	if (rc == 0)
		rc = secrets_write(secrets, &row, action == TENANT_REMOVE);
	if (rc == 0)
		next_print(&row, action, secrets);
	explicit_bzero(&row, sizeof(row));
	return rc;
}

int cmd_tenant(struct options *options, const struct opt_set *set)
{
	enum action action = (enum action)set->action;
	char path[2 * OPT_TEXT_MAX];
	char dir[OPT_TEXT_MAX];
	struct secrets secrets;
	int rc;

	if (action != TENANT_LIST && !is_given(set, "tenant"))
		return cmd_fail(EXIT_USAGE, "say which tenant, as in 'ctxkv tenant add NAME'");
	snprintf(path, sizeof(path), "%s", options->secrets);
	if (options->secrets[0] == '\0') {
		if (cmd_config_dir(options, dir, sizeof(dir)) < 0)
			return EXIT_FAILED;
		snprintf(path, sizeof(path), "%s/secrets", dir);
	}
	rc = secrets_open(&secrets, path, action != TENANT_LIST);
	if (rc < 0)
		return EXIT_FAILED;
	rc = action == TENANT_LIST ? tenant_list(&secrets)
				   : tenant_change(&secrets, action, options, set);
	secrets_close(&secrets);
	return rc < 0 ? EXIT_FAILED : EXIT_DONE;
}
