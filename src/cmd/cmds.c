/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of commands, and what is written from it: help and the manual page.
 *
 * setup    setup.c, setup_check.c, setup_files.c, setup_media.c; server_check.c
 * start    start.c, start_*.c, config_file.c, server_check.c, tenants_load.c, log_writer.c,
 *          notify.c (systemd) or supervise.c (its own parent)
 * stat     stat.c
 * admin    admin.c, admin_*.c, http.c
 * bench    bench.c, bench_*.c, floor*.c, content.c, histogram.c, proc_cpu.c
 * replay   replay.c, replay_*.c, trace.c, model.c, content.c
 * drive    drive.c, drive_*.c
 * doctor   doctor.c, doctor_*.c
 * doc      doc.c, doc_pages.c
 * cost     cost.c, cost_model.c, cost_steps.def, model.c
 * tenant   tenant.c, secrets.c
 * version  version.c
 *
 * main.c reads the arguments, common.c has what several commands do. Exit codes: 0 done, 1 failed,
 * 2 wrong use, 130 interrupted. admin: 1 when any server did not do it; doctor: 1 when something is
 * to be mended; drive: 1 for findings, 2 when it could not look.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "../../include/ctxkv.h"
#include "cmd.h"

const struct cmd cmd_table[] = {
	{ .name = "setup",
	  .text = "make a medium ready, write secrets and a commented configuration",
	  .examples = { "ctxkv setup /data/ctxkv.store --size 100GiB", "ctxkv setup /dev/nvme1n1",
			"ctxkv setup --media /dev/nvme1n1,/dev/nvme2n1 --shards 2",
			"ctxkv setup --memory 8GiB" },
	  .where = IN_SETUP,
	  .operand = "media",
	  .run = cmd_setup },
	{ .name = "start",
	  .text = "run the server",
	  .examples = { "ctxkv start", "ctxkv start --config /etc/ctxkv/server.yaml",
			"ctxkv start --reactors 4 --cpus 0-3", "ctxkv start --degraded" },
	  .where = IN_START,
	  .run = cmd_start },
	{ .name = "stat",
	  .text = "show a server's counters and state",
	  .examples = { "ctxkv stat", "ctxkv stat --json" },
	  .where = IN_STAT,
	  .run = cmd_stat },
	{ .name = "admin",
	  .text = "ask and command servers over their admin endpoint",
	  .examples = { "ctxkv admin status --all --watch", "ctxkv admin savings",
			"ctxkv admin drain --admin kv3:9901 --admin-token token",
			"ctxkv admin drop --domain default --namespace "
			"00112233445566778899aabbccddeeff" },
	  .where = IN_ADMIN,
	  .actions = "status|sessions|tenants|savings|health|drain|drop|reload",
	  .run = cmd_admin },
	{ .name = "bench",
	  .text = "measure put, get and probe beside what the bare machine does, and leave a "
		  "store's blocks alone",
	  .examples = { "ctxkv bench", "ctxkv bench --sizes 2MiB,16MiB --lanes 4",
			"ctxkv bench --evict" },
	  .where = IN_BENCH,
	  .run = cmd_bench },
	{ .name = "replay",
	  .text = "replay a trace of LLM requests and print what the store saved",
	  .examples = { "ctxkv replay traces/mooncake_conversation.jsonl.zst --scale 320 "
			"--requests 300" },
	  .where = IN_REPLAY,
	  .operand = "trace",
	  .run = cmd_replay },
	{ .name = "drive",
	  .text = "look at a medium offline, read-only: what is on it, whether it is sound, its "
		  "blocks",
	  .examples = { "ctxkv drive inspect /data/ctxkv.store",
			"ctxkv drive check --quick /dev/nvme1n1",
			"ctxkv drive dump --json /data/ctxkv.store",
			"ctxkv drive dump --key HEX --output block.bin /data/ctxkv.store" },
	  .where = IN_DRIVE,
	  .actions = "inspect|check|dump",
	  .operand = "media",
	  .run = cmd_drive },
	{ .name = "doctor",
	  .text = "what is in the way of a server or a client on this host, and how to mend it",
	  .examples = { "ctxkv doctor",
			"ctxkv doctor --url ctxkv://default@server1:9900?keyfile=/etc/ctxkv/key",
			"ctxkv doctor --config /etc/ctxkv/server.yaml --json" },
	  .where = IN_DOCTOR,
	  .run = cmd_doctor },
	{ .name = "doc",
	  .text = "the documentation: its pages, one of them as text, or all of them in a browser",
	  .examples = { "ctxkv doc", "ctxkv doc quick-start", "ctxkv doc --serve" },
	  .where = IN_DOC,
	  .operand = "page",
	  .run = cmd_doc },
	{ .name = "cost",
	  .text = "what recomputing context costs a year, and what a store saves, step by step",
	  .examples = { "ctxkv cost",
			"ctxkv cost --gpus 512 --gpu-price 250 --context-tokens 32768",
			"ctxkv cost --model llama-3.1-8b --prefill 4s --miss-rate 40" },
	  .where = IN_COST,
	  .run = cmd_cost },
	{ .name = "tenant",
	  .text = "edit the secrets file: who may use the store, for what, with which secret",
	  .examples = { "ctxkv tenant list",
			"ctxkv tenant add alice --quota 200GiB --domains club:read+write",
			"ctxkv tenant rotate alice --secrets /etc/ctxkv/secrets",
			"ctxkv tenant finish alice --secrets /etc/ctxkv/secrets" },
	  .where = IN_TENANT,
	  .actions = "list|add|set|rotate|finish|remove",
	  .operand = "tenant",
	  .run = cmd_tenant },
	{ .name = "version",
	  .text = "print the version",
	  .examples = { "ctxkv version --json" },
	  .where = IN_VERSION,
	  .run = cmd_version },
};
const size_t cmd_count = ARRAY_LEN(cmd_table);

/* " a|b|c [OPTIONS] [MEDIA]" */
static void synopsis_print(FILE *out, const struct cmd *cmd)
{
	if (cmd->actions != NULL)
		fprintf(out, " %s", cmd->actions);
	fputs(" [OPTIONS]", out);
	if (cmd->operand == NULL)
		return;
	fputs(" [", out);
	for (const char *c = cmd->operand; *c != '\0'; c++)
		fputc(toupper((unsigned char)*c), out);
	fputc(']', out);
}

void cmd_help_print(FILE *out, const struct cmd *cmd)
{
	fprintf(out, "usage: ctxkv %s", cmd->name);
	synopsis_print(out, cmd);
	fprintf(out, "\n\n%s\n\nexample:\n", cmd->text);
	for (size_t i = 0; i < CMD_EXAMPLES && cmd->examples[i] != NULL; i++)
		fprintf(out, "  %s\n", cmd->examples[i]);
	fputs("\noptions:\n", out);
	options_help(out, cmd->where);
}

/* --- ctxkv(1) --- */

/* roff: a backslash anywhere, and a dot or quote at the beginning of a line, mean something. */
static void roff_print(FILE *out, const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (; *text != '\0'; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
	}
}

static void man_option(FILE *out, const struct opt *opt)
{
	fputs(".TP\n.B ", out);
	roff_print(out, "--");
	roff_print(out, opt->name);
	fprintf(out, "%s\n", opt->kind == OPT_BOOL ? "" : " \\fIVALUE\\fR");
	roff_print(out, opt->text);
	fputc('\n', out);
}

static void man_command(FILE *out, const struct cmd *cmd)
{
	fprintf(out, ".SS ctxkv %s", cmd->name);
	synopsis_print(out, cmd);
	fputc('\n', out);
	roff_print(out, cmd->text);
	fputs(".\n.PP\n.nf\n.RS 4\n", out);
	for (size_t i = 0; i < CMD_EXAMPLES && cmd->examples[i] != NULL; i++) {
		roff_print(out, cmd->examples[i]);
		fputc('\n', out);
	}
	fputs(".RE\n.fi\n", out);
	for (size_t i = 0; i < opt_count; i++) {
		if ((opt_table[i].where & cmd->where) != 0)
			man_option(out, &opt_table[i]);
	}
}

void cmd_man_print(FILE *out)
{
	fprintf(out,
		".\\\" Written by 'ctxkv version --man' from the tables of commands and options.\n"
		".TH CTXKV 1 \"\" \"ctxkv %s\" \"User Commands\"\n"
		".SH NAME\nctxkv \\- a shared, flash\\-native context memory for LLM inference\n"
		".SH SYNOPSIS\n.B ctxkv\n.I COMMAND\n[\\fIOPTIONS\\fR]\n"
		".SH DESCRIPTION\n"
		"One binary: the server, its setup and its tools. A switch is turned off with\n"
		"\\fB\\-\\-no\\-\\fR before its name. "
		"\\fBctxkv help \\fICOMMAND\\fR shows ranges and defaults.\n"
		".SH COMMANDS\n",
		ctxkv_version());
	for (size_t i = 0; i < cmd_count; i++)
		man_command(out, &cmd_table[i]);
	fputs(".SH EXIT STATUS\n0 done, 1 failed, 2 wrong use, 130 interrupted.\n"
	      ".SH FILES\n"
	      ".TP\n.I ~/.config/ctxkv/server.yaml\nconfiguration of \\fBstart\\fR\n"
	      ".TP\n.I ~/.config/ctxkv/secrets\nsecrets of the tenants, mode 0600\n"
	      ".TP\n.I ~/.config/ctxkv/client.url\nURL used when none is given\n"
	      ".SH ENVIRONMENT\n.TP\n.B CTXKV_URL\nURL of the store, when \\fB\\-\\-url\\fR is "
	      "not given\n"
	      ".SH SEE ALSO\n.BR ctxkv (3)\n",
	      out);
}
