/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What setup looks at before it writes: the command line, and the files that are there.
 *
 * Secrets, token and configuration that are there are kept (unless --replace-files): tenants hold
 * those secrets, and somebody may have edited the rest. A kept configuration says what the command
 * line leaves open, the media too; where the two differ setup refuses, since what it would set up
 * is not what start would use.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/text.h"
#include "secrets.h"
#include "server_check.h"
#include "setup.h"
#include "tenants_load.h"

#define DIR_SIZE_MAX 4000 /* leaves room for names in it */

/* --- full paths: the configuration must mean the same files wherever start is called --- */

static int path_complete(char path[OPT_TEXT_MAX], const char *what)
{
	char cwd[OPT_TEXT_MAX];
	char full[2 * OPT_TEXT_MAX];

	if (path[0] == '\0' || path[0] == '/')
		return 0;
	if (getcwd(cwd, sizeof(cwd)) == NULL ||
	    snprintf(full, sizeof(full), "%s/%s", cwd,
		     path + (strncmp(path, "./", 2) == 0 ? 2 : 0)) >= OPT_TEXT_MAX)
		return cmd_fail(-EINVAL, "name the %s by a full path", what);
	memcpy(path, full, strlen(full) + 1);
	return 0;
}

static int media_complete(struct options *options)
{
	static char full[SERVER_MEDIUM_MAX * (OPT_TEXT_MAX + 1)];
	char text[OPT_TEXT_MAX];
	const char *media[SERVER_MEDIUM_MAX];
	size_t used = 0;
	int count;

	snprintf(text, sizeof(text), "%s", options->media);
	count = cmd_list_cut(text, media, SERVER_MEDIUM_MAX);
	if (count < 0)
		return cmd_fail(-ERANGE, "a server has at most %d media", SERVER_MEDIUM_MAX);
	for (int i = 0; i < count; i++) {
		char path[OPT_TEXT_MAX];

		snprintf(path, sizeof(path), "%s", media[i]);
		if (path_complete(path, "media") < 0)
			return -EINVAL;
		for (int j = 0; j < i; j++) {
			if (strcmp(media[i], media[j]) == 0)
				return cmd_fail(-EINVAL, "%s is named twice: name each medium once",
						media[i]);
		}
		used += (size_t)snprintf(full + used, sizeof(full) - used, "%s%s", i > 0 ? "," : "",
					 path);
	}
	if (used >= OPT_TEXT_MAX)
		return cmd_fail(-ERANGE,
				"the full paths of the media are longer than %d characters",
				OPT_TEXT_MAX - 1);
	memcpy(options->media, full, used + 1);
	return 0;
}

static int paths_complete(struct setup *setup)
{
	struct options *options = setup->options;

	if (path_complete(setup->dir, "directory") < 0 ||
	    path_complete(options->secrets, "secrets file") < 0 ||
	    path_complete(options->admin_token, "admin token") < 0)
		return -EINVAL;
	if (strlen(setup->dir) > DIR_SIZE_MAX)
		return cmd_fail(-ERANGE, "the path of the directory is longer than %d characters",
				DIR_SIZE_MAX);
	return media_complete(options);
}

/* --- a configuration that is there --- */

static bool is_there(const struct setup *setup, const char *path)
{
	return setup->options->replace_files == 0 && access(path, F_OK) == 0;
}

/* The first option of setup that the command line wants otherwise. */
static int difference_find(const struct setup *setup, const struct options *kept)
{
	for (size_t i = 0; i < opt_count; i++) {
		const struct opt *opt = &opt_table[i];
		char is[OPT_TEXT_MAX];
		char wanted[OPT_TEXT_MAX];

		if ((opt->where & (IN_SETUP | IN_START)) != (IN_SETUP | IN_START) ||
		    strcmp(opt->name, "dir") == 0)
			continue;
		options_format(kept, opt, is, sizeof(is));
		options_format(setup->options, opt, wanted, sizeof(wanted));
		if (strcmp(is, wanted) != 0)
			return cmd_fail(-EEXIST,
					"%s is kept, and says %s '%s', not '%s': change it there "
					"first; or, for a new one, move it away",
					setup->config.path, opt->name, is, wanted);
	}
	return 0;
}

/* A kept configuration is read twice: as it is, and below the command line. */
static int config_keep(struct setup *setup)
{
	static const struct opt_set none;
	struct options *kept = calloc(1, sizeof(*kept));
	int rc;

	if (kept == NULL)
		return cmd_fail(-ENOMEM, "no memory");
	options_init(kept);
	setup->config.state = SETUP_FILE_KEPT;
	rc = cmd_config_load(setup->config.path, kept, &none);
	if (rc == 0)
		rc = cmd_config_load(setup->config.path, setup->options, setup->set);
	if (rc == 0)
		rc = difference_find(setup, kept);
	free(kept);
	return rc;
}

/* --- secrets and token --- */

/* All of it must be as start wants it; the tenant is the one asked for, else the first. */
static int secrets_keep(struct setup *setup)
{
	bool is_asked = setup->set->is_set[options_find("tenant", IN_SETUP) - opt_table];
	const struct keyfile_row *row;
	struct tenants *tenants = NULL;
	struct secrets secrets;
	char message[512] = "";

	setup->secrets.state = SETUP_FILE_KEPT;
	if (cmd_tenants_load(setup->env, setup->secrets.path, &tenants, message) < 0)
		return cmd_fail(-EINVAL, "%s", message);
	tenants_destroy(setup->env, &tenants);
	if (secrets_open(&secrets, setup->secrets.path, false) < 0)
		return -EINVAL;
	row = is_asked                ? secrets_find(&secrets, setup->options->tenant)
	      : secrets.row_count > 0 ? secrets.rows
				      : NULL;
	if (row != NULL)
		snprintf(setup->tenant, sizeof(setup->tenant), "%s", row->tenant);
	secrets_close(&secrets);
	if (row == NULL)
		return cmd_fail(-ENOENT,
				"%s is kept, and has no tenant %s; 'ctxkv tenant add' adds one",
				setup->secrets.path, setup->options->tenant);
	return 0;
}

/* One that the command line names must be there; any other is kept where it is. */
static bool is_kept(const struct setup *setup, const char *option, const char *path)
{
	return setup->set->is_set[options_find(option, IN_SETUP) - opt_table] ||
	       is_there(setup, path);
}

/* Where the file is that value names, "" the one of this name in the directory. */
static void path_choose(const struct setup *setup, char value[OPT_TEXT_MAX], const char *name,
			struct setup_file *file)
{
	if (value[0] == '\0')
		snprintf(value, OPT_TEXT_MAX, "%.4000s/%s", setup->dir, name); /* DIR_SIZE_MAX */
	snprintf(file->path, sizeof(file->path), "%s", value);
}

static int secrets_choose(struct setup *setup)
{
	const char *tenant = setup->options->tenant;

	path_choose(setup, setup->options->secrets, "secrets", &setup->secrets);
	if (is_kept(setup, "secrets", setup->secrets.path))
		return secrets_keep(setup);
	if (!keyfile_is_tenant(tenant))
		return cmd_fail(-EINVAL,
				"'%s' is no tenant's name: letters, digits, '-', '_' and '.' only",
				tenant);
	snprintf(setup->tenant, sizeof(setup->tenant), "%.63s", tenant);
	return 0;
}

static int token_choose(struct setup *setup)
{
	if (setup->options->admin_token[0] == '\0' && setup->config.state == SETUP_FILE_KEPT)
		return 0; /* it goes without one */
	path_choose(setup, setup->options->admin_token, "admin-token", &setup->token);
	if (!is_kept(setup, "admin-token", setup->token.path))
		return 0;
	setup->token.state = SETUP_FILE_KEPT;
	return cmd_private_check(setup->token.path);
}

/* --- all --- */

static int choice_check(const struct options *options)
{
	if ((options->media[0] == '\0') == (options->memory == 0))
		return cmd_fail(-EINVAL, "name a medium (ctxkv setup PATH --size SIZE), several "
					 "(--media A,B), or --memory SIZE, one of them");
	return 0;
}

/* What start makes of it on one reactor; several share it. */
static int memory_check(struct setup *setup)
{
	const struct options *options = setup->options;
	const struct shard_memory memory = { .size = options->memory,
					     .segment_room = options->segment_size,
					     .block_max = options->block_max };
	char size[32];
	char block[32];

	setup->block_max = options->memory != 0 ? shard_memory_block_max(&memory) : 0;
	if (options->memory == 0 || setup->block_max != 0)
		return 0;
	return cmd_fail(-EINVAL,
			"memory of %s makes no store%s%s: ask for more, or for smaller segments or "
			"blocks",
			text_format_size(size, sizeof(size), options->memory),
			options->block_max != 0 ? " of blocks of " : "",
			options->block_max != 0
				? text_format_size(block, sizeof(block), options->block_max)
				: "");
}

int setup_check(struct setup *setup)
{
	if (paths_complete(setup) < 0)
		return EXIT_USAGE;
	snprintf(setup->config.path, sizeof(setup->config.path), "%s/server.yaml", setup->dir);
	snprintf(setup->url.path, sizeof(setup->url.path), "%s/client.url", setup->dir);
	if (is_there(setup, setup->config.path) && config_keep(setup) < 0)
		return EXIT_FAILED;
	if (choice_check(setup->options) < 0)
		return EXIT_USAGE;
	if (memory_check(setup) < 0 || secrets_choose(setup) < 0 || token_choose(setup) < 0)
		return EXIT_FAILED;
	return cmd_server_check(setup->options) < 0 ? EXIT_USAGE : EXIT_DONE;
}
