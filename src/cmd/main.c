/* SPDX-License-Identifier: Apache-2.0 */
/* ctxkv COMMAND [ACTION] [--option VALUE | --option=VALUE | --flag | --no-flag] [OPERAND] */
#include <stdio.h>
#include <string.h>

#include "../base/text.h"
#include "cmd.h"

static void usage(FILE *out)
{
	fputs("usage: ctxkv COMMAND [OPTIONS]\n\n"
	      "A shared, flash-native context memory for LLM inference.\n\n",
	      out);
	for (size_t i = 0; i < cmd_count; i++)
		fprintf(out, "  %-9s %s\n", cmd_table[i].name, cmd_table[i].text);
	fputs("\n'ctxkv help COMMAND' lists its options, with examples.\n", out);
}

static const struct cmd *cmd_find(const char *name)
{
	for (size_t i = 0; i < cmd_count; i++) {
		if (strcmp(cmd_table[i].name, name) == 0)
			return &cmd_table[i];
	}
	return NULL;
}

static const char *cmd_nearest(const char *name)
{
	const char *best = cmd_table[0].name;

	for (size_t i = 1; i < cmd_count; i++) {
		if (text_distance(name, cmd_table[i].name) < text_distance(name, best))
			best = cmd_table[i].name;
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

/* The index of word in "a|b|c", or -1. */
static int action_find(const char *actions, const char *word)
{
	size_t size = strlen(word);

	for (int i = 0; actions != NULL; i++) {
		if (strcspn(actions, "|") == size && memcmp(actions, word, size) == 0)
			return i;
		actions = strchr(actions, '|');
		actions = actions != NULL ? actions + 1 : NULL;
	}
	return -1;
}

static int action_set(const struct cmd *cmd, struct opt_set *set, const char *word)
{
	int action = action_find(cmd->actions, word);

	if (action < 0)
		return cmd_fail(-1, "%s does %s, not '%s'", cmd->name, cmd->actions, word);
	set->action = (unsigned)action;
	return 0;
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

/* The command's arguments: 0; 1 when help was asked for and given; negative after a message. */
static int arguments_read(const struct cmd *cmd, struct options *options, struct opt_set *set,
			  int count, char **args)
{
	bool wants_action = cmd->actions != NULL;
	int rc;

	for (int i = 0; i < count; i += rc) {
		if (strcmp(args[i], "--help") == 0 || strcmp(args[i], "-h") == 0) {
			cmd_help_print(stdout, cmd);
			return 1;
		}
		rc = 1;
		if (strncmp(args[i], "--", 2) == 0) {
			rc = argument_set(cmd, options, set, count - i, args + i);
		} else if (wants_action) {
			wants_action = false;
			rc = action_set(cmd, set, args[i]) < 0 ? -1 : 1;
		} else if (operand_set(cmd, options, set, args[i]) < 0) {
			rc = -1;
		}
		if (rc < 0)
			return rc;
	}
	if (wants_action)
		return cmd_fail(-1, "say what %s is to do: %s", cmd->name, cmd->actions);
	return 0;
}

static int unknown(const char *name)
{
	return cmd_fail(EXIT_USAGE, "there is no command '%s'; did you mean '%s'?", name,
			cmd_nearest(name));
}

/* ctxkv help [COMMAND] */
static int help(const char *name)
{
	const struct cmd *cmd = name != NULL ? cmd_find(name) : NULL;

	if (name == NULL)
		usage(stdout);
	else if (cmd == NULL)
		return unknown(name);
	else
		cmd_help_print(stdout, cmd);
	return EXIT_DONE;
}

int main(int argc, char **argv)
{
	static struct options options;
	static struct opt_set set;
	const struct cmd *cmd;
	int rc;

	ASSERT(opt_count <= ARRAY_LEN(set.is_set));
	options_init(&options);
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0)
		return help(argc > 2 ? argv[2] : NULL);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return cmd_version(&options, &set);
	cmd = cmd_find(argv[1]);
	if (cmd == NULL)
		return unknown(argv[1]);
	rc = arguments_read(cmd, &options, &set, argc - 2, argv + 2);
	if (rc != 0)
		return rc > 0 ? EXIT_DONE : EXIT_USAGE;
	return cmd->run(&options, &set);
}
