/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor_judge.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/text.h"

#define KERNEL_MIN   50004 /* major * 10000 + minor: the oldest long-term kernel of interest */
#define KERNEL_URING 50015 /* io_uring with all that env/uring asks for */
#define LATENCY_WARN (2 * NS_PER_MS)

struct doctor_row doctor_row_make(enum doctor_verdict verdict, const char *name, const char *advice,
				  const char *format, ...)
{
	struct doctor_row row = { .verdict = verdict };
	va_list args;

	snprintf(row.name, sizeof(row.name), "%s", name);
	snprintf(row.advice, sizeof(row.advice), "%s", advice);
	va_start(args, format);
	vsnprintf(row.text, sizeof(row.text), format, args);
	va_end(args);
	return row;
}

uint64_t doctor_number(const char *text)
{
	static const char digits[] = "0123456789";
	size_t begin = strcspn(text, digits);
	uint64_t value = 0;
	char number[24];

	snprintf(number, sizeof(number), "%.*s", (int)strspn(text + begin, digits), text + begin);
	return text_parse_u64(number, &value) == 0 ? value : 0;
}

/* "6.1.0-18-amd64" to 60001; 0 when it is no version. */
static unsigned kernel_number(const char *release)
{
	const char *point = strchr(release, '.');

	if (point == NULL || release[0] < '0' || release[0] > '9')
		return 0;
	return (unsigned)(MIN(doctor_number(release), 1000) * 10000 +
			  MIN(doctor_number(point + 1), 9999));
}

struct doctor_row doctor_judge_kernel(const char *release)
{
	unsigned number = kernel_number(release);

	if (number < KERNEL_MIN)
		return doctor_row_make(DOCTOR_FAIL, "kernel",
				       "run Linux 5.15 or newer (Debian 12 has 6.1)", "Linux %s",
				       release);
	if (number < KERNEL_URING)
		return doctor_row_make(DOCTOR_WARN, "kernel",
				       "Linux 5.15 or newer lets the server use io_uring",
				       "Linux %s: without io_uring", release);
	return doctor_row_make(DOCTOR_OK, "kernel", "", "Linux %s", release);
}

struct doctor_row doctor_judge_uring(int rc, int disabled)
{
	static const char *const slower =
		"the server falls back to a thread pool, which costs more CPU an operation";

	if (rc >= 0)
		return doctor_row_make(DOCTOR_OK, "io_uring", "", "allowed");
	if (disabled > 0)
		return doctor_row_make(
			DOCTOR_WARN, "io_uring", "as root: sysctl kernel.io_uring_disabled=0",
			"turned off by kernel.io_uring_disabled=%d: %s", disabled, slower);
	if (rc == -EPERM || rc == -EACCES)
		return doctor_row_make(
			DOCTOR_WARN, "io_uring",
			"Docker's and Kubernetes' default seccomp profiles forbid it: allow "
			"io_uring_setup, io_uring_enter and io_uring_register in a copy of it",
			"forbidden here: %s", slower);
	return doctor_row_make(DOCTOR_WARN, "io_uring", "a kernel with CONFIG_IO_URING has it",
			       "not available (%s): %s", err_str(rc), slower);
}

struct doctor_row doctor_judge_memlock(uint64_t limit, uint64_t need)
{
	char have[32];
	char want[32];

	if (limit == UINT64_MAX)
		return doctor_row_make(DOCTOR_OK, "memlock", "", "unlimited");
	text_format_size(have, sizeof(have), limit);
	text_format_size(want, sizeof(want), need);
	if (limit >= need)
		return doctor_row_make(DOCTOR_OK, "memlock", "", "%s, buffers take %s", have, want);
	return doctor_row_make(
		DOCTOR_WARN, "memlock",
		"systemd: LimitMEMLOCK=infinity; a shell: ulimit -l unlimited (root), "
		"or a line in /etc/security/limits.d",
		"%s, buffers take %s: without CAP_IPC_LOCK they are not registered with "
		"io_uring, which costs CPU",
		have, want);
}

struct doctor_row doctor_judge_huge_pages(uint64_t reserved, uint64_t free, const char *thp)
{
	const char *mode = strchr(thp, '[');

	if (free > 0)
		return doctor_row_make(DOCTOR_OK, "huge pages", "",
				       "%llu of %llu reserved ones of 2 MiB are free",
				       (unsigned long long)free, (unsigned long long)reserved);
	if (mode != NULL && strncmp(mode, "[never]", 7) != 0)
		return doctor_row_make(DOCTOR_OK, "huge pages", "", "transparent ones (%.*s)%s",
				       (int)strcspn(mode + 1, "]"), mode + 1,
				       reserved > 0 ? "; the reserved ones are taken" : "");
	return doctor_row_make(
		DOCTOR_WARN, "huge pages",
		"echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, or reserve some: "
		"sysctl vm.nr_hugepages=1024",
		"none: direct I/O is cut into 4 KiB pieces, reads of large blocks take up to twice "
		"as long");
}

struct doctor_row doctor_judge_shared_huge_pages(const char *shmem)
{
	const char *mode = strchr(shmem, '[');

	if (mode != NULL && strncmp(mode, "[never]", 7) != 0 && strncmp(mode, "[deny]", 6) != 0)
		return doctor_row_make(DOCTOR_OK, "shared huge pages", "",
				       "transparent ones (%.*s)", (int)strcspn(mode + 1, "]"),
				       mode + 1);
	return doctor_row_make(
		DOCTOR_WARN, "shared huge pages",
		"echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled, or reserve some "
		"and set CTXKV_HUGE_PAGES",
		"no transparent ones but what ctxkv_alloc() asks for: direct I/O into an engine's "
		"own shared pool takes up to twice the CPU, in a virtual machine up to three times "
		"as long");
}

struct doctor_row doctor_judge_memory(uint64_t total, uint64_t available, uint64_t need)
{
	char a[32];
	char b[32];
	char c[32];

	text_format_size(a, sizeof(a), total);
	text_format_size(b, sizeof(b), available);
	text_format_size(c, sizeof(c), need);
	if (need > available)
		return doctor_row_make(DOCTOR_FAIL, "memory",
				       "lower 'buffers' or 'memory' in server.yaml, or free some",
				       "%s, %s of it available; the configuration takes %s", a, b,
				       c);
	return doctor_row_make(DOCTOR_OK, "memory", "", "%s, %s of it available", a, b);
}

struct doctor_row doctor_judge_clock(bool is_synchronised)
{
	if (is_synchronised)
		return doctor_row_make(DOCTOR_OK, "clock", "", "synchronised");
	return doctor_row_make(
		DOCTOR_WARN, "clock",
		"install chrony or enable systemd-timesyncd: timedatectl set-ntp true",
		"not synchronised: blocks with a time to live end by this clock");
}

struct doctor_row doctor_judge_governor(const char *governor)
{
	if (strcmp(governor, "powersave") == 0 || strcmp(governor, "conservative") == 0)
		return doctor_row_make(DOCTOR_WARN, "CPU governor",
				       "cpupower frequency-set -g performance",
				       "%s: short bursts run at a low clock", governor);
	return doctor_row_make(DOCTOR_OK, "CPU governor", "", "%s",
			       governor[0] != '\0' ? governor : "none (fixed, or the host's)");
}

struct doctor_row doctor_judge_key_file(const char *path, uint32_t mode, bool is_ours)
{
	struct doctor_row row;

	if ((mode & 077) != 0) {
		row = doctor_row_make(DOCTOR_FAIL, "key file", "",
				      "%s can be read by others (%03o)", path, mode & 0777);
		snprintf(row.advice, sizeof(row.advice), "chmod 600 %.290s", path);
		return row;
	}
	if (!is_ours)
		return doctor_row_make(DOCTOR_WARN, "key file",
				       "give it to the user that runs ctxkv: chown",
				       "%s belongs to another user", path);
	return doctor_row_make(DOCTOR_OK, "key file", "", "%s, for its owner only", path);
}

uint32_t doctor_judge_disk(const struct doctor_disk *disk, struct doctor_row rows_out[3])
{
	const char *chosen = strchr(disk->scheduler, '[');
	uint32_t count = 0;

	if (disk->is_rotational == 1)
		rows_out[count++] =
			doctor_row_make(DOCTOR_WARN, "drive", "put the medium on flash (NVMe)",
					"it rotates: reads are as slow as its head");
	if (chosen != NULL && strncmp(chosen, "[none]", 6) != 0 && disk->is_rotational == 0)
		rows_out[count++] = doctor_row_make(
			DOCTOR_WARN, "scheduler",
			"echo none > /sys/block/DEVICE/queue/scheduler (a udev rule keeps it)",
			"%.*s: on flash it only costs time", (int)strcspn(chosen + 1, "]"),
			chosen + 1);
	if (strcmp(disk->write_cache, "write back") == 0)
		rows_out[count++] = doctor_row_make(
			DOCTOR_OK, "write cache", "",
			"volatile: 'durable' waits for a flush; drives with power-loss protection "
			"answer it at once");
	return count;
}

struct doctor_row doctor_judge_latency(const char *server, uint64_t ns)
{
	char text[32];

	text_format_duration(text, sizeof(text), ns);
	if (ns > LATENCY_WARN)
		return doctor_row_make(DOCTOR_WARN, "latency",
				       "a lookup costs a round trip before each request: look at "
				       "the path (hops, a busy link, power saving)",
				       "%s: %s a round trip", server, text);
	return doctor_row_make(DOCTOR_OK, "latency", "", "%s: %s a round trip", server, text);
}
