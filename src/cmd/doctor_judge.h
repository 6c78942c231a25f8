/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `ctxkv doctor` thinks of what it found: pure, facts in, verdict and advice out, so that
 * every fault can be shown to it. doctor_host.c, doctor_media.c and doctor_server.c find the facts.
 */
#ifndef CMD_DOCTOR_JUDGE_H
#define CMD_DOCTOR_JUDGE_H

#include "../base/base.h"

enum doctor_verdict { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };

/* One line of the report. */
struct doctor_row {
	enum doctor_verdict verdict;
	char name[32];
	char text[320];   /* what is */
	char advice[320]; /* what to change and how; "" when there is nothing to */
};

PRINTF_LIKE(4, 5)
struct doctor_row doctor_row_make(enum doctor_verdict verdict, const char *name, const char *advice,
				  const char *format, ...);

/* The first number in text, 0 when there is none. */
uint64_t doctor_number(const char *text);

struct doctor_row doctor_judge_kernel(const char *release);

/* rc of io_uring_setup(): 0 or a negative errno; disabled: kernel.io_uring_disabled, -1 unknown. */
struct doctor_row doctor_judge_uring(int rc, int disabled);

/* limit: RLIMIT_MEMLOCK (UINT64_MAX: none); need: bytes of buffers that are to be registered. */
struct doctor_row doctor_judge_memlock(uint64_t limit, uint64_t need);

/* thp: the text of transparent_hugepage/enabled ("always [madvise] never"), "" unknown. */
struct doctor_row doctor_judge_huge_pages(uint64_t reserved, uint64_t free, const char *thp);
/* Of memory that clients share; shmem: the text of transparent_hugepage/shmem_enabled. */
struct doctor_row doctor_judge_shared_huge_pages(const char *shmem);

struct doctor_row doctor_judge_memory(uint64_t total, uint64_t available, uint64_t need);

/* 0: a clock daemon keeps the time; else what adjtimex() says. */
struct doctor_row doctor_judge_clock(bool is_synchronised);

/* "" when there is none. */
struct doctor_row doctor_judge_governor(const char *governor);

/* Of a key file: mode bits and owner. */
struct doctor_row doctor_judge_key_file(const char *path, uint32_t mode, bool is_ours);

/* Queue attributes of the drive below a medium; "" unknown. */
struct doctor_disk {
	char scheduler[64]; /* "[none] mq-deadline" */
	char write_cache[32];
	int is_rotational; /* -1: unknown */
};

/* Rows about the drive that are worth saying; their number, at most 3. */
uint32_t doctor_judge_disk(const struct doctor_disk *disk, struct doctor_row rows_out[3]);

/* What the round trips of a server took, the fastest. */
struct doctor_row doctor_judge_latency(const char *server, uint64_t ns);

#endif
