/* SPDX-License-Identifier: Apache-2.0 */
/* What `bench` rests on: when operations are due, CPU time of processes. */
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../src/cmd/clock.h"
#include "../../../src/cmd/pace.h"
#include "../../../src/cmd/proc_cpu.h"
#include "../../lib/t.h"

/* Clients share a rate: together every operation once, at even times, however long it runs. */
static void operations_are_due_at_even_times(void **state)
{
	static const uint64_t rates[] = { 1, 3, 1000, 9999991 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
		uint64_t rate = rates[i];

		for (uint64_t op = 0; op < 100; op++) {
			struct pace pace = { 77, rate, op % 3, 3 };
			uint64_t due = pace_due_ns(&pace, op / 3);

			assert_int_equal(due, 77 + op * NS_PER_S / rate);
		}
		/* A year on, not a nanosecond is lost. */
		assert_int_equal(pace_due_ns(&(struct pace) { 0, rate, 0, 1 }, rate * 31536000),
				 31536000 * NS_PER_S);
	}
}

/* Who waits is awake a little before. */
static void sleep_ends_before_an_operation_is_due(void **state)
{
	struct pace pace = { NS_PER_S, 1000, 0, 1 };

	(void)state;
	assert_int_equal(pace_sleep_ns(&pace, 5, NS_PER_S), 5 * NS_PER_MS - PACE_AWAKE_NS);
	assert_int_equal(pace_sleep_ns(&pace, 0, NS_PER_S - PACE_AWAKE_NS), 0);
	assert_int_equal(pace_sleep_ns(&pace, 0, 2 * NS_PER_S), 0);
}

static void burn(uint64_t ns)
{
	uint64_t begin = proc_cpu_self_ns();

	while (proc_cpu_self_ns() < begin + ns)
		;
}

static void cpu_time_is_the_processs(void **state)
{
	uint64_t begin = 0;
	uint64_t end = 0;
	int ready[2];
	pid_t pid;
	char byte;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		burn(30 * NS_PER_MS);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(proc_cpu_ns(pid, &begin), 0);
	assert_true(begin >= 30 * NS_PER_MS);
	burn(20 * NS_PER_MS); /* ours is not its */
	assert_int_equal(proc_cpu_ns(pid, &end), 0);
	assert_true(end - begin < 20 * NS_PER_MS);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(proc_cpu_ns(pid, &end), -ESRCH);
	close(ready[0]);
	close(ready[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(operations_are_due_at_even_times),
		cmocka_unit_test(sleep_ends_before_an_operation_is_due),
		cmocka_unit_test(cpu_time_is_the_processs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
