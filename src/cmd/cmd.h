/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The binary `ctxkv`: one file per subcommand, a row each in cmds.c. A command gets its options
 * parsed; it returns an exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted.
 */
#ifndef CMD_CMD_H
#define CMD_CMD_H

#include "../tbl/options.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* What stood on the command line. */
struct opt_set {
	bool is_set[192]; /* by row of opt_table */
	unsigned action;  /* index in cmd.actions */
};

#define CMD_EXAMPLES 4

struct cmd {
	const char *name;
	const char *text;
	const char *examples[CMD_EXAMPLES];
	enum opt_where where;
	const char *actions; /* "a|b|c": the first bare argument is one of them; NULL: none */
	const char *operand; /* option that the (next) bare argument sets; NULL: takes none */
	int (*run)(struct options *options, const struct opt_set *set);
};

/* The commands, in the order in which a user meets them: cmds.c. */
extern const struct cmd cmd_table[];
extern const size_t cmd_count;

int cmd_setup(struct options *options, const struct opt_set *set);
int cmd_start(struct options *options, const struct opt_set *set);
int cmd_cost(struct options *options, const struct opt_set *set);
int cmd_drive(struct options *options, const struct opt_set *set);
int cmd_doctor(struct options *options, const struct opt_set *set);
int cmd_doc(struct options *options, const struct opt_set *set);
int cmd_bench(struct options *options, const struct opt_set *set);
int cmd_replay(struct options *options, const struct opt_set *set);
int cmd_stat(struct options *options, const struct opt_set *set);
int cmd_tenant(struct options *options, const struct opt_set *set);
int cmd_admin(struct options *options, const struct opt_set *set);
int cmd_version(struct options *options, const struct opt_set *set);

/* Use, text, examples and options of one command; the manual page ctxkv(1). */
void cmd_help_print(FILE *out, const struct cmd *cmd);
void cmd_man_print(FILE *out);

/* --- what several commands do --- */

/* One line to standard error, "ctxkv: " before it; returns code. */
int cmd_fail(int code, const char *format, ...) PRINTF_LIKE(2, 3);

/* From here on log lines are limited in number and written by a thread of their own, so that nobody
 * waits for who reads them: log_writer.c. */
void cmd_log_begin(void);
/* Write what is left; no other thread logs any more. */
void cmd_log_end(void);

/* True once SIGINT or SIGTERM has come; cmd_catch_signals() begins to watch. A second SIGINT ends
 * the process at once. */
void cmd_catch_signals(void);
bool cmd_is_interrupted(void);

/* A line on standard error that rewrites itself, on a terminal only. done == total ends it. */
void cmd_progress(const char *what, uint64_t done, uint64_t total);

/* Where the sockets for clients of this host are to be. False: nothing says where. */
bool cmd_shm_dir(const struct options *options, char *buf, size_t buf_size);
/* Directory of configuration: options.dir, else $XDG_CONFIG_HOME/ctxkv, else ~/.config/ctxkv. */
int cmd_config_dir(const struct options *options, char *buf, size_t buf_size) MUST_USE;

/* The URL of this user's clients, as the library finds it: --url, $CTXKV_URL, or what setup wrote,
 * in options.dir where that is given. False: there is none. */
enum cmd_url_from { URL_FROM_USER, URL_FROM_SETUP };
bool cmd_url_find(const struct options *options, char url_out[OPT_TEXT_MAX],
		  enum cmd_url_from *from_out);

/* Cut "a,b,c" apart in place; empty ones are left out. How many, or -ERANGE: more than max. */
int cmd_list_cut(char *text, const char **items, int max) MUST_USE;

/* The whole file as text, at most 1 MiB; freed by the caller. NULL and errno when not. */
char *cmd_read_file(const char *path);

/* Options of IN_START from a YAML file, where the command line has not set them. */
int cmd_config_load(const char *path, struct options *options, const struct opt_set *set) MUST_USE;

struct ctxkv_client;
/* Open a client as the options say (url, lanes, timeout, log level), connected within a few
 * seconds; NULL after a message when it could not be. */
struct ctxkv_client *cmd_client_open(const struct options *options, uint32_t lanes);

#endif
