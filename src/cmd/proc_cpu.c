/* SPDX-License-Identifier: Apache-2.0 */
#include "proc_cpu.h"

#include <errno.h>
#include <time.h>

static int clock_read(clockid_t clock, uint64_t *ns_out)
{
	struct timespec used;

	if (clock_gettime(clock, &used) < 0)
		return errno == EINVAL ? -ESRCH : -errno;
	*ns_out = (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
	return 0;
}

uint64_t proc_cpu_self_ns(void)
{
	uint64_t ns = 0;
	int rc = clock_read(CLOCK_PROCESS_CPUTIME_ID, &ns);

	ASSERT(rc == 0);
	return ns;
}

int proc_cpu_ns(pid_t pid, uint64_t *ns_out)
{
	clockid_t clock;
	int rc = clock_getcpuclockid(pid, &clock);

	return rc != 0 ? -rc : clock_read(clock, ns_out);
}
