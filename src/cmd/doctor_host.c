/* SPDX-License-Identifier: Apache-2.0 */
/* doctor: what the host gives to every process. */
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../base/text.h"
#include "doctor.h"

uint64_t doctor_meminfo(const char *name)
{
	FILE *file = fopen("/proc/meminfo", "re");
	uint64_t value = 0;
	char line[128];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, name, strlen(name)) != 0)
			continue;
		value = doctor_number(line + strlen(name));
		if (strstr(line, " kB") != NULL)
			value *= KiB;
	}
	if (file != NULL)
		fclose(file);
	return value;
}

static int uring_try(void)
{
	struct io_uring ring;
	int rc = io_uring_queue_init(1, &ring, 0);

	if (rc == 0)
		io_uring_queue_exit(&ring);
	return rc;
}

static int uring_disabled(void)
{
	char line[16];
	uint64_t value;

	doctor_line("/proc/sys/kernel/io_uring_disabled", line, sizeof(line));
	return text_parse_u64(line, &value) == 0 ? (int)value : -1;
}

void doctor_host(struct doctor *doctor)
{
	char line[128];
	struct utsname name;
	struct timex timex = { .modes = 0 };
	struct doctor_row rows[6];
	uint32_t count = 0;

	if (uname(&name) == 0)
		rows[count++] = doctor_judge_kernel(name.release);
	rows[count++] = doctor_judge_uring(uring_try(), uring_disabled());
	if (doctor->server != NULL) {
		rows[count++] = doctor_judge_huge_pages(
			doctor_meminfo("HugePages_Total:"), doctor_meminfo("HugePages_Free:"),
			doctor_line("/sys/kernel/mm/transparent_hugepage/enabled", line,
				    sizeof(line)));
		rows[count++] = doctor_judge_shared_huge_pages(doctor_line(
			"/sys/kernel/mm/transparent_hugepage/shmem_enabled", line, sizeof(line)));
	}
	rows[count++] = doctor_judge_clock(adjtimex(&timex) != TIME_ERROR);
	for (uint32_t i = 0; i < count; i++)
		doctor_add(doctor, &rows[i]);
	rows[0] = doctor_judge_governor(doctor_line(
		"/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", line, sizeof(line)));
	doctor_add(doctor, &rows[0]);
}
