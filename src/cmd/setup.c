/* SPDX-License-Identifier: Apache-2.0 */
/*
 * setup: make media ready (or choose memory mode), and write into the configuration directory
 *   secrets      the tenants' secrets, mode 0600 (or --secrets FILE: an existing one is used)
 *   admin-token  what the admin endpoint asks for, mode 0600 (or --admin-token FILE: is used)
 *   client.url   the URL that clients on this host use when none is given
 *   server.yaml  the server's configuration, every option with its sentence
 * Those that are there are kept (setup_check.c).
 *
 * Normal path: everything is looked at; the media are locked; the files are written beside where
 * they will be; the media are written, which may take long; the files are renamed, the
 * configuration last: where it is, setup was done.
 *
 * Failure: what is wrong with the command line, the files or a medium is found before anything is
 * written. Later (a drive that fails, no space) what this run made is taken away, so that it can be
 * repeated; media that held something are then empty. A crash leaves files *.new, which the next
 * run replaces, and media that are no store yet.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../base/text.h"
#include "../env/posix/posix.h"
#include "server_check.h"
#include "setup.h"

#define TOKEN_SIZE 32 /* bytes of a new admin token */

/* --- the files, beside where they will be --- */

static int secrets_stage(struct setup *setup)
{
	char hex[2 * AUTH_SECRET_SIZE + 1];
	struct auth_secret secret;

	if (setup_file_begin(&setup->secrets) < 0)
		return -EIO;
	setup->env->ops->random(setup->env, &secret, sizeof(secret));
	fprintf(setup->secrets.out,
		"# TENANT SECRET [SECRET] [OPTION]...: who may use this store. Keep it to its "
		"owner;\n# 'ctxkv tenant' edits it.\n%s %s\n",
		setup->tenant, text_format_hex(hex, sizeof(hex), &secret, sizeof(secret)));
	return setup_file_end(&setup->secrets);
}

static int token_stage(struct setup *setup)
{
	char hex[2 * TOKEN_SIZE + 1];
	uint8_t token[TOKEN_SIZE];

	if (setup_file_begin(&setup->token) < 0)
		return -EIO;
	setup->env->ops->random(setup->env, token, sizeof(token));
	fprintf(setup->token.out, "%s\n", text_format_hex(hex, sizeof(hex), token, sizeof(token)));
	return setup_file_end(&setup->token);
}

static int url_stage(struct setup *setup)
{
	char host[OPT_TEXT_MAX];

	if (!cmd_listen_reach(setup->options->listen, host, sizeof(host)))
		return 0;
	if (setup_file_begin(&setup->url) < 0)
		return -EIO;
	fprintf(setup->url.out, "ctxkv://%s@%s?keyfile=", setup->tenant, host);
	for (const char *c = setup->secrets.path; *c != '\0'; c++)
		fprintf(setup->url.out, strchr("%&#", *c) != NULL ? "%%%02X" : "%c", *c);
	fputc('\n', setup->url.out);
	return setup_file_end(&setup->url);
}

static int config_stage(struct setup *setup)
{
	if (setup_file_begin(&setup->config) < 0)
		return -EIO;
	fputs("# Configuration of 'ctxkv start'. Lines that begin with # and a name show "
	      "defaults.\n\n",
	      setup->config.out);
	options_sample(setup->config.out, setup->options);
	return setup_file_end(&setup->config);
}

static int files_stage(struct setup *setup)
{
	bool is_config_kept = setup->config.state == SETUP_FILE_KEPT;
	int rc = setup_dir_make(setup->dir, &setup->dir_kept);

	if (rc == 0 && setup->secrets.state != SETUP_FILE_KEPT)
		rc = secrets_stage(setup);
	if (rc == 0 && setup->token.state != SETUP_FILE_KEPT && setup->token.path[0] != '\0')
		rc = token_stage(setup);
	if (rc == 0 && is_config_kept && access(setup->url.path, F_OK) == 0)
		setup->url.state = SETUP_FILE_KEPT; /* it may name more servers than this one */
	else if (rc == 0)
		rc = url_stage(setup);
	return rc == 0 && !is_config_kept ? config_stage(setup) : rc;
}

static int files_commit(struct setup *setup)
{
	int rc = setup_file_commit(&setup->secrets);

	if (rc == 0)
		rc = setup_file_commit(&setup->token);
	if (rc == 0)
		rc = setup_file_commit(&setup->url);
	return rc == 0 ? setup_file_commit(&setup->config) : rc;
}

static void files_undo(struct setup *setup)
{
	setup_file_undo(&setup->config);
	setup_file_undo(&setup->url);
	setup_file_undo(&setup->token);
	setup_file_undo(&setup->secrets);
	setup_dir_undo(setup->dir, setup->dir_kept);
}

/* --- what came of it --- */

static void file_print(const char *what, const struct setup_file *file, const char *more)
{
	if (file->state == SETUP_FILE_NONE)
		printf("%-10s none%s\n", what, more);
	else
		printf("%-10s %s%s%s\n", what, file->path,
		       file->state == SETUP_FILE_KEPT ? " (kept)" : more,
		       file->has_old ? "; what was there is beside it, as .old" : "");
}

static void files_print(const struct setup *setup)
{
	char tenant[WIRE_TENANT_MAX + 16];
	char size[32];
	char block[32];

	if (setup->options->memory != 0)
		printf("memory     %s, largest block %s\n",
		       text_format_size(size, sizeof(size), setup->options->memory),
		       text_format_size(block, sizeof(block), setup->block_max));
	snprintf(tenant, sizeof(tenant), " (tenant %s)", setup->tenant);
	file_print("secrets", &setup->secrets, tenant);
	file_print("token", &setup->token,
		   setup->token.state == SETUP_FILE_NONE
			   ? ": nothing can be changed over the admin endpoint"
			   : " (of the admin endpoint)");
	file_print("config", &setup->config, "");
	file_print("client url", &setup->url,
		   setup->url.state == SETUP_FILE_NONE
			   ? ": the port is chosen at each start, which prints it"
			   : "");
}

static void next_print(const struct setup *setup)
{
	if (setup->options->dir[0] == '\0')
		puts("\nNext: 'ctxkv start' here, and 'ctxkv stat' or 'ctxkv bench' in another "
		     "shell.");
	else if (setup->url.state == SETUP_FILE_NONE)
		printf("\nNext: 'ctxkv start --dir %s'.\n", setup->dir);
	else
		printf("\nNext: 'ctxkv start --dir %s'; clients: --url \"$(cat %s)\".\n",
		       setup->dir, setup->url.path);
}

/* --- all of it --- */

static int setup_run(struct setup *setup)
{
	int rc = setup_media_open(&setup->media, setup->env, setup->options);

	if (rc == 0)
		rc = files_stage(setup);
	if (rc == 0)
		rc = setup_media_write(&setup->media);
	if (rc == 0)
		rc = files_commit(setup);
	setup_media_close(&setup->media, rc < 0);
	if (rc < 0)
		files_undo(setup);
	return rc;
}

int cmd_setup(struct options *options, const struct opt_set *set)
{
	static struct setup setup;
	const struct env_posix_opts env_opts = { .io_thread_count = 1, .sock_max = 1 };
	int code;
	int rc;

	setup = (struct setup) { .options = options, .set = set, .dir_kept = SIZE_MAX };
	if (cmd_config_dir(options, setup.dir, sizeof(setup.dir)) < 0)
		return EXIT_FAILED;
	rc = env_posix_create(&env_opts, &setup.env);
	if (rc < 0)
		return cmd_fail(EXIT_FAILED, "cannot begin: %s", err_str(rc));
	code = setup_check(&setup);
	if (code == EXIT_DONE && setup_run(&setup) < 0)
		code = EXIT_FAILED;
	env_posix_destroy(&setup.env);
	if (code != EXIT_DONE)
		return code;
	files_print(&setup);
	next_print(&setup);
	return EXIT_DONE;
}
