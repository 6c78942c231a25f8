/* SPDX-License-Identifier: Apache-2.0 */
/*
 * setup: make media ready (or choose memory mode), and write into the configuration directory
 *   server.yaml  the server's configuration, every option with its sentence
 *   secrets      the tenants' secrets, mode 0600 (or --secrets FILE: an existing one is used)
 *   admin-token  what the admin endpoint asks for, mode 0600 (or --admin-token FILE: is used)
 *   client.url   the URL that clients on this host use when none is given
 * The media come last: a setup that fails over a file has erased nothing. One that fails at a later
 * medium leaves those before it set up; start refuses them, since the others are missing.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/text.h"
#include "../env/posix/posix.h"
#include "../server/server.h"
#include "../wire/keyfile.h"
#include "cmd.h"

#define TOKEN_SIZE 32 /* bytes of a new admin token */

struct setup {
	struct options *options;
	struct env *env;
	char dir[OPT_TEXT_MAX];
	char config_path[OPT_TEXT_MAX + 32];
	char secrets_path[OPT_TEXT_MAX + 32];
	char url_path[OPT_TEXT_MAX + 32];
	char tenant[WIRE_TENANT_MAX]; /* whose URL is written */
	uint8_t server[16];           /* UUID that all media get */
};

static int dir_make(const char *dir)
{
	char path[OPT_TEXT_MAX];

	snprintf(path, sizeof(path), "%s", dir);
	for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
		if (slash != NULL)
			*slash = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return cmd_fail(-errno, "cannot make %s: %s", path, err_str(errno));
		if (slash == NULL)
			return 0;
		*slash = '/';
	}
}

/* A new file that only its owner reads; one that exists is replaced only with --force. */
static int file_open_new(const struct setup *setup, const char *path, FILE **file_out)
{
	int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (setup->options->force ? O_TRUNC : O_EXCL);
	int fd = open(path, flags, 0600);

	if (fd < 0 && errno == EEXIST)
		return cmd_fail(-EEXIST, "%s exists already; --force replaces it", path);
	if (fd < 0)
		return cmd_fail(-errno, "cannot write %s: %s", path, err_str(errno));
	*file_out = fdopen(fd, "w");
	return *file_out != NULL ? 0 : cmd_fail(-ENOMEM, "no memory");
}

static int file_close(FILE *file, const char *path)
{
	bool is_bad = ferror(file) != 0;

	if (fclose(file) != 0 || is_bad)
		return cmd_fail(-EIO, "cannot write %s", path);
	return 0;
}

/* The first tenant of an existing secrets file is the one that client.url names. */
static int secrets_use(struct setup *setup)
{
	struct keyfile_row row;
	char message[256] = "no tenant in it";
	char *text = cmd_read_file(setup->secrets_path);
	int count;

	if (text == NULL)
		return cmd_fail(-errno, "cannot read %s: %s", setup->secrets_path, err_str(errno));
	count = keyfile_parse(text, &row, 1, message);
	free(text);
	if (count < 1)
		return cmd_fail(-EINVAL, "%s: %s", setup->secrets_path, message);
	snprintf(setup->tenant, sizeof(setup->tenant), "%s", row.tenant);
	printf("secrets    %s (kept)\n", setup->secrets_path);
	return 0;
}

static int secrets_make(struct setup *setup)
{
	struct auth_secret secret;
	char hex[2 * AUTH_SECRET_SIZE + 1];
	FILE *file = NULL;
	int rc;

	if (!keyfile_is_tenant(setup->options->tenant))
		return cmd_fail(-EINVAL,
				"'%s' is no tenant's name: letters, digits, '-', '_' and '.' only",
				setup->options->tenant);
	rc = file_open_new(setup, setup->secrets_path, &file);
	if (rc < 0)
		return rc;
	setup->env->ops->random(setup->env, &secret, sizeof(secret));
	fprintf(file, "# TENANT SECRET [SECRET] [OPTION]...: who may use this store. Keep it to "
		      "its owner;\n"
		      "# 'ctxkv tenant' edits it.\n");
	fprintf(file, "%s %s\n", setup->options->tenant,
		text_format_hex(hex, sizeof(hex), &secret, sizeof(secret)));
	snprintf(setup->tenant, sizeof(setup->tenant), "%.63s", setup->options->tenant);
	printf("secrets    %s (tenant %s)\n", setup->secrets_path, setup->tenant);
	return file_close(file, setup->secrets_path);
}

static int secrets_write(struct setup *setup)
{
	if (setup->options->secrets[0] != '\0') {
		snprintf(setup->secrets_path, sizeof(setup->secrets_path), "%s",
			 setup->options->secrets);
		return secrets_use(setup);
	}
	snprintf(setup->secrets_path, sizeof(setup->secrets_path), "%s/secrets", setup->dir);
	return secrets_make(setup);
}

static int token_write(struct setup *setup)
{
	char *path = setup->options->admin_token;
	char hex[2 * TOKEN_SIZE + 1];
	uint8_t token[TOKEN_SIZE];
	FILE *file = NULL;
	int rc;

	if (path[0] != '\0') {
		if (access(path, R_OK) < 0)
			return cmd_fail(-errno, "cannot read %s: %s", path, err_str(errno));
		printf("token      %s (kept)\n", path);
		return 0;
	}
	snprintf(path, OPT_TEXT_MAX, "%.490s/admin-token", setup->dir);
	rc = file_open_new(setup, path, &file);
	if (rc < 0)
		return rc;
	setup->env->ops->random(setup->env, token, sizeof(token));
	fprintf(file, "%s\n", text_format_hex(hex, sizeof(hex), token, sizeof(token)));
	printf("token      %s (of the admin endpoint)\n", path);
	return file_close(file, path);
}

static int config_write(struct setup *setup)
{
	FILE *file = NULL;
	int rc = file_open_new(setup, setup->config_path, &file);

	if (rc < 0)
		return rc;
	snprintf(setup->options->secrets, OPT_TEXT_MAX, "%.500s", setup->secrets_path);
	fputs("# Configuration of 'ctxkv start'. Lines that begin with # and a name show "
	      "defaults.\n\n",
	      file);
	options_sample(file, setup->options);
	printf("config     %s\n", setup->config_path);
	return file_close(file, setup->config_path);
}

static int url_write(struct setup *setup)
{
	const char *colon = strrchr(setup->options->listen, ':');
	FILE *file = NULL;
	int rc = file_open_new(setup, setup->url_path, &file);

	if (rc < 0)
		return rc;
	fprintf(file, "ctxkv://%s@localhost%s?keyfile=%s\n", setup->tenant,
		colon != NULL ? colon : ":9900", setup->secrets_path);
	printf("client url %s\n", setup->url_path);
	return file_close(file, setup->url_path);
}

static void medium_progress(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	cmd_progress("writing the medium once", done, total);
}

/* One of count media; all of them get the same server and the indexes that follow. */
static int medium_make(struct setup *setup, const char *path, uint32_t index, uint32_t count)
{
	const struct options *options = setup->options;
	uint32_t shards = (uint32_t)options->shards;
	struct medium_spec spec = {
		.path = path,
		.size = options->size,
		.shard_count = shards,
		.shard_first = index * shards,
		.server_shards = count * shards,
		.segment_room = options->segment_size,
		.block_max = options->block_max,
		.is_sparse = options->sparse != 0,
		.is_forced = options->force != 0,
		.progress = medium_progress,
	};
	struct medium_info info;
	char message[256] = "";
	char size[32];
	char room[32];
	char block[32];
	int rc;

	memcpy(spec.server, setup->server, sizeof(spec.server));
	rc = medium_setup(setup->env, &spec, &info, message);
	if (rc < 0)
		return cmd_fail(rc, "%s", message[0] != '\0' ? message : err_str(rc));
	printf("medium     %s: %s, ", path, text_format_size(size, sizeof(size), info.size));
	if (shards > 1)
		printf("%" PRIu32 " shards of ", shards);
	printf("%" PRIu32 " segments of %s, largest block %s%s%s\n", info.segment_count,
	       text_format_size(room, sizeof(room), info.segment_room),
	       text_format_size(block, sizeof(block), info.block_max),
	       info.is_direct ? "" : ", without direct I/O",
	       options->sparse ? ", sparse: not allocated" : "");
	return 0;
}

static int media_make(struct setup *setup)
{
	char text[OPT_TEXT_MAX];
	const char *media[SERVER_MEDIUM_MAX];
	int count;
	int rc = 0;

	snprintf(text, sizeof(text), "%s", setup->options->media);
	count = cmd_list_cut(text, media, SERVER_MEDIUM_MAX);
	setup->env->ops->random(setup->env, setup->server, sizeof(setup->server));
	for (int i = 0; rc == 0 && i < count; i++)
		rc = medium_make(setup, media[i], (uint32_t)i, (uint32_t)count);
	return rc;
}

/* What start makes of it on one reactor; several share it. */
static int memory_check(const struct options *options)
{
	const struct shard_memory memory = { .size = options->memory,
					     .segment_room = options->segment_size,
					     .block_max = options->block_max };
	uint32_t block_max = shard_memory_block_max(&memory);
	char size[32];
	char block[32];

	text_format_size(size, sizeof(size), options->memory);
	text_format_size(block, sizeof(block), options->block_max);
	if (block_max == 0)
		return cmd_fail(-EINVAL,
				"memory of %s makes no store%s%s: ask for more, or for smaller "
				"segments or blocks",
				size, options->block_max != 0 ? " of blocks of " : "",
				options->block_max != 0 ? block : "");
	printf("memory     %s, largest block %s\n", size,
	       text_format_size(block, sizeof(block), block_max));
	return 0;
}

static int setup_run(struct setup *setup)
{
	int rc = 0;

	if (setup->options->memory != 0)
		rc = memory_check(setup->options);
	if (rc == 0)
		rc = dir_make(setup->dir);
	if (rc == 0)
		rc = secrets_write(setup);
	if (rc == 0)
		rc = token_write(setup);
	if (rc == 0)
		rc = config_write(setup);
	if (rc == 0)
		rc = url_write(setup);
	if (rc == 0 && setup->options->media[0] != '\0')
		rc = media_make(setup);
	return rc;
}

/* The configuration must mean the same files wherever start is called: full paths. */
static int media_name(struct options *options)
{
	char text[OPT_TEXT_MAX];
	char full[SERVER_MEDIUM_MAX * 2 * OPT_TEXT_MAX] = "";
	char cwd[OPT_TEXT_MAX];
	const char *media[SERVER_MEDIUM_MAX];
	size_t used = 0;
	int count;

	snprintf(text, sizeof(text), "%s", options->media);
	count = cmd_list_cut(text, media, SERVER_MEDIUM_MAX);
	if (count < 0)
		return cmd_fail(-1, "a server has at most %d media", SERVER_MEDIUM_MAX);
	if (getcwd(cwd, sizeof(cwd)) == NULL)
		return cmd_fail(-1, "name the media by their full paths");
	for (int i = 0; i < count; i++) {
		bool is_full = media[i][0] == '/';

		used += (size_t)snprintf(full + used, sizeof(full) - used, "%s%s%s%s",
					 i > 0 ? "," : "", is_full ? "" : cwd, is_full ? "" : "/",
					 media[i]);
	}
	if (used >= OPT_TEXT_MAX)
		return cmd_fail(-1, "the paths of the media are too long");
	memcpy(options->media, full, used + 1);
	return 0;
}

static int choices_check(struct options *options)
{
	if ((options->media[0] == '\0') == (options->memory == 0))
		return cmd_fail(-1, "name a medium (ctxkv setup PATH --size SIZE), several "
				    "(--media A,B), or --memory SIZE, one of them");
	return options->media[0] == '\0' ? 0 : media_name(options);
}

int cmd_setup(struct options *options, const struct opt_set *set)
{
	struct setup setup = { .options = options };
	const struct env_posix_opts env_opts = { .io_thread_count = 1, .sock_max = 1 };
	int rc;

	(void)set;
	if (choices_check(options) < 0)
		return EXIT_USAGE;
	rc = cmd_config_dir(options, setup.dir, sizeof(setup.dir));
	if (rc < 0)
		return EXIT_FAILED;
	snprintf(setup.config_path, sizeof(setup.config_path), "%s/server.yaml", setup.dir);
	snprintf(setup.url_path, sizeof(setup.url_path), "%s/client.url", setup.dir);
	rc = env_posix_create(&env_opts, &setup.env);
	if (rc < 0)
		return cmd_fail(EXIT_FAILED, "cannot begin: %s", err_str(rc));
	rc = setup_run(&setup);
	env_posix_destroy(&setup.env);
	if (rc < 0)
		return EXIT_FAILED;
	if (options->dir[0] == '\0')
		puts("\nNext: 'ctxkv start' here, and 'ctxkv stat' or 'ctxkv bench' in another "
		     "shell.");
	else
		printf("\nNext: 'ctxkv start --dir %s'; clients: --url \"$(cat %s)\".\n", setup.dir,
		       setup.url_path);
	return EXIT_DONE;
}
