/* SPDX-License-Identifier: Apache-2.0 */
/* CPU time that a process has used since it began, in all its threads, those that ended included.
 */
#ifndef CMD_PROC_CPU_H
#define CMD_PROC_CPU_H

#include <sys/types.h>

#include "../base/base.h"

uint64_t proc_cpu_self_ns(void);
/* 0, or -ESRCH: no such process. To the kernel's own account, not in ticks of 10 ms. */
int proc_cpu_ns(pid_t pid, uint64_t *ns_out) MUST_USE;

#endif
