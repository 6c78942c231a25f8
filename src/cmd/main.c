/* SPDX-License-Identifier: Apache-2.0 */
/* ctxkv COMMAND [--option VALUE | --option=VALUE | --flag | --no-flag] [OPERAND] */
#include <stdio.h>
#include <string.h>

#include "../base/text.h"
#include "cmd.h"

static const struct cmd cmds[] = {
	{ "setup", "make a medium ready, write secrets and a commented configuration",
	  "ctxkv setup /data/ctxkv.store --size 100GiB", IN_SETUP, "media", cmd_setup },
	{ "start", "run the server", "ctxkv start", IN_START, NULL, cmd_start },
	{ "stat", "show a server's counters and state", "ctxkv stat --json", IN_STAT, NULL,
	  cmd_stat },
	{ "bench", "measure put, get and probe beside what the bare machine does",
	  "ctxkv bench --sizes 2MiB,16MiB --lanes 4", IN_BENCH, NULL, cmd_bench },
	{ "replay", "replay a trace of LLM requests and print what the store saved",
	  "ctxkv replay traces/mooncake_conversation.jsonl.zst --scale 320 --requests 300",
	  IN_REPLAY, "trace", cmd_replay },
	{ "version", "print the version", "ctxkv version --json", IN_VERSION, NULL, cmd_version },
};

static void usage(FILE *out)
{
	fputs("usage: ctxkv COMMAND [OPTIONS]\n\n"
	      "A shared, flash-native context memory for LLM inference.\n\n",
	      out);
	for (size_t i = 0; i < ARRAY_LEN(cmds); i++)
		fprintf(out, "  %-9s %s\n", cmds[i].name, cmds[i].text);
	fputs("\n'ctxkv COMMAND --help' lists its options.\n", out);
}

static void cmd_help(FILE *out, const struct cmd *cmd)
{
	fprintf(out, "usage: ctxkv %s [OPTIONS]", cmd->name);
	if (cmd->operand != NULL)
		fprintf(out, " [%s]", cmd->operand);
	fprintf(out, "\n\n%s\n\nexample:\n  %s\n\noptions:\n", cmd->text, cmd->example);
	options_help(out, cmd->where);
}

static const struct cmd *cmd_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(cmds); i++) {
		if (strcmp(cmds[i].name, name) == 0)
			return &cmds[i];
	}
	return NULL;
}

static const char *cmd_nearest(const char *name)
{
	const char *best = cmds[0].name;

	for (size_t i = 1; i < ARRAY_LEN(cmds); i++) {
		if (text_distance(name, cmds[i].name) < text_distance(name, best))
			best = cmds[i].name;
	}
	return best;
}

/* One "--name[=value]", or "--name value" when it takes one. Returns arguments used, or -1. */
static int argument_set(const struct cmd *cmd, struct options *options, struct opt_set *set,
			int left, char **args)
{
	const char *name = args[0] + 2;
	const char *value = strchr(name, '=');
	char message[256];
	char bare[64];
	const struct opt *opt;
	int used = 1;

	snprintf(bare, sizeof(bare), "%.*s", (int)strcspn(name, "="), name);
	opt = options_find(bare, cmd->where);
	if (value != NULL) {
		value++;
	} else if (opt == NULL && strncmp(bare, "no-", 3) == 0) {
		opt = options_find(bare + 3, cmd->where);
		if (opt != NULL && opt->kind == OPT_BOOL) {
			memmove(bare, bare + 3, strlen(bare + 3) + 1);
			value = "no";
		}
	} else if (opt != NULL && opt->kind == OPT_BOOL) {
		value = "yes";
	} else if (opt != NULL) {
		if (left < 2) {
			cmd_fail(0, "--%s needs a value", bare);
			return -1;
		}
		value = args[1];
		used = 2;
	}
	if (options_set(options, bare, value != NULL ? value : "", cmd->where, message) < 0) {
		cmd_fail(0, "%s", message);
		return -1;
	}
	set->is_set[options_find(bare, cmd->where) - opt_table] = true;
	return used;
}

static int operand_set(const struct cmd *cmd, struct options *options, struct opt_set *set,
		       const char *value)
{
	char message[256];
	const struct opt *opt;

	if (cmd->operand == NULL)
		return cmd_fail(-1, "%s takes no argument; '%s' was given", cmd->name, value);
	opt = options_find(cmd->operand, cmd->where);
	if (set->is_set[opt - opt_table])
		return cmd_fail(-1, "more than one %s was given; '%s' is one too many",
				cmd->operand, value);
	if (options_set(options, cmd->operand, value, cmd->where, message) < 0)
		return cmd_fail(-1, "%s", message);
	set->is_set[opt - opt_table] = true;
	return 0;
}

int main(int argc, char **argv)
{
	static struct options options;
	static struct opt_set set;
	const struct cmd *cmd;

	ASSERT(opt_count <= ARRAY_LEN(set.is_set));
	options_init(&options);
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
		usage(argc < 2 ? stderr : stdout);
		return argc < 2 ? EXIT_USAGE : EXIT_DONE;
	}
	if (strcmp(argv[1], "--version") == 0)
		return cmd_version(&options, &set);
	cmd = cmd_find(argv[1]);
	if (cmd == NULL)
		return cmd_fail(EXIT_USAGE, "there is no command '%s'; did you mean '%s'?", argv[1],
				cmd_nearest(argv[1]));
	for (int i = 2; i < argc;) {
		int used = 1;

		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			cmd_help(stdout, cmd);
			return EXIT_DONE;
		}
		if (strncmp(argv[i], "--", 2) == 0)
			used = argument_set(cmd, &options, &set, argc - i, argv + i);
		else if (operand_set(cmd, &options, &set, argv[i]) < 0)
			used = -1;
		if (used < 0)
			return EXIT_USAGE;
		i += used;
	}
	return cmd->run(&options, &set);
}
