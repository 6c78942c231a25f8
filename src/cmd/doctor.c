/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor: what is in the way of a server or a client on this host, and how to mend it. A line each:
 * ok, warn (it works, but slower or not as safe), fail (it does not). Exit code 1 when something
 * fails. It changes nothing.
 *
 * A host without server.yaml is taken for a client's; without a URL, for a server's only.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../env/posix/posix.h"
#include "doctor.h"

static const char *const verdicts[] = { "ok", "warn", "fail" };

void doctor_add(struct doctor *doctor, const struct doctor_row *row)
{
	doctor->counts[row->verdict]++;
	if (doctor->rows != NULL) {
		json_array_append_new(doctor->rows,
				      json_pack("{s:s, s:s, s:s, s:s}", "verdict",
						verdicts[row->verdict], "name", row->name, "text",
						row->text, "advice", row->advice));
		return;
	}
	printf("%-5s %-13s %s\n", verdicts[row->verdict], row->name, row->text);
	if (row->advice[0] != '\0')
		printf("%-5s %-13s -> %s\n", "", "", row->advice);
	fflush(stdout);
}

void doctor_say(struct doctor *doctor, enum doctor_verdict verdict, const char *name,
		const char *advice, const char *format, ...)
{
	char text[320];
	struct doctor_row row;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	row = doctor_row_make(verdict, name, advice, "%s", text);
	doctor_add(doctor, &row);
}

const char *doctor_line(const char *path, char *buf, size_t buf_size)
{
	FILE *file = fopen(path, "re");

	buf[0] = '\0';
	if (file == NULL)
		return buf;
	if (fgets(buf, (int)buf_size, file) == NULL)
		buf[0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	fclose(file);
	return buf;
}

/* server.yaml, as start finds it; NULL when there is none or it is wrong (which is said). */
static struct options *server_options(struct doctor *doctor)
{
	static const struct opt_set none;
	struct options *server = calloc(1, sizeof(*server));
	char dir[OPT_TEXT_MAX];
	char path[OPT_TEXT_MAX + 16];

	if (server == NULL || cmd_config_dir(doctor->options, dir, sizeof(dir)) < 0)
		goto out_free;
	options_init(server);
	snprintf(path, sizeof(path), "%s/server.yaml", dir);
	if (doctor->options->config[0] != '\0')
		snprintf(path, sizeof(path), "%s", doctor->options->config);
	if (access(path, R_OK) < 0) {
		bool is_named = doctor->options->config[0] != '\0' ||
				doctor->options->dir[0] != '\0' || errno != ENOENT;

		doctor_say(doctor, is_named ? DOCTOR_FAIL : DOCTOR_OK, "server",
			   is_named ? "'ctxkv setup' writes it; --config FILE names another" : "",
			   is_named ? "cannot read %s: %s" : "none is set up here (no %s): %s",
			   path, is_named ? err_str(errno) : "taken for a client's host");
		goto out_free;
	}
	if (cmd_config_load(path, server, &none) < 0) {
		doctor_say(doctor, DOCTOR_FAIL, "server", "the line above says what is wanted",
			   "%s is not right", path);
		goto out_free;
	}
	doctor_say(doctor, DOCTOR_OK, "server", "", "configured by %s", path);
	return server;

out_free:
	free(server);
	return NULL;
}

static int report_end(struct doctor *doctor)
{
	const uint32_t *counts = doctor->counts;

	if (doctor->rows != NULL) {
		json_t *all = json_pack("{s:o, s:i, s:i, s:i}", "rows", doctor->rows, "ok",
					(int)counts[DOCTOR_OK], "warn", (int)counts[DOCTOR_WARN],
					"fail", (int)counts[DOCTOR_FAIL]);

		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
	} else {
		printf("\n%u ok, %u to look at, %u to mend\n", counts[DOCTOR_OK],
		       counts[DOCTOR_WARN], counts[DOCTOR_FAIL]);
	}
	return counts[DOCTOR_FAIL] > 0 ? EXIT_FAILED : EXIT_DONE;
}

int cmd_doctor(struct options *options, const struct opt_set *set)
{
	const struct env_posix_opts env_opts = { .io_thread_count = 1, .sock_max = 4 };
	struct doctor doctor = { .options = options };
	int rc;

	(void)set;
	rc = env_posix_create(&env_opts, &doctor.env);
	if (rc < 0)
		return cmd_fail(EXIT_FAILED, "cannot begin: %s", err_str(rc));
	if (options->json)
		doctor.rows = json_array();
	doctor.server = server_options(&doctor);
	doctor_host(&doctor);
	if (doctor.server != NULL) {
		doctor_media(&doctor);
		doctor_server(&doctor);
		doctor_plan(&doctor);
	}
	doctor_clients(&doctor);
	free(doctor.server);
	env_posix_destroy(&doctor.env);
	return report_end(&doctor);
}
