/* SPDX-License-Identifier: Apache-2.0 */
/* Every fault that doctor knows is called one, with what to change; and what is well is called so.
 */
#include <string.h>

#include "../../../src/cmd/doctor_judge.h"
#include "../../lib/t.h"

/* What is not ok comes with advice, what is ok without. */
static void assert_row(struct doctor_row row, enum doctor_verdict verdict, const char *advice)
{
	assert_int_equal(row.verdict, verdict);
	assert_true(row.name[0] != '\0' && row.text[0] != '\0');
	if (advice != NULL)
		assert_non_null(strstr(row.advice, advice));
	else
		assert_string_equal(row.advice, "");
}

static void old_kernels_are_named(void **state)
{
	assert_row(doctor_judge_kernel("6.1.0-18-amd64"), DOCTOR_OK, NULL);
	assert_row(doctor_judge_kernel("5.15.0"), DOCTOR_OK, NULL);
	assert_row(doctor_judge_kernel("5.10.0-28"), DOCTOR_WARN, "5.15");
	assert_row(doctor_judge_kernel("4.19.0"), DOCTOR_FAIL, "5.15");
	assert_row(doctor_judge_kernel("nonsense"), DOCTOR_FAIL, "5.15");
}

static void each_way_of_losing_io_uring_has_its_advice(void **state)
{
	assert_row(doctor_judge_uring(0, 0), DOCTOR_OK, NULL);
	assert_row(doctor_judge_uring(0, -1), DOCTOR_OK, NULL);
	assert_row(doctor_judge_uring(-EPERM, 2), DOCTOR_WARN, "kernel.io_uring_disabled=0");
	assert_row(doctor_judge_uring(-EPERM, 0), DOCTOR_WARN, "seccomp");
	assert_row(doctor_judge_uring(-EPERM, -1), DOCTOR_WARN, "seccomp");
	assert_row(doctor_judge_uring(-ENOSYS, -1), DOCTOR_WARN, "CONFIG_IO_URING");
}

static void limits_are_held_against_what_is_needed(void **state)
{
	assert_row(doctor_judge_memlock(UINT64_MAX, GiB), DOCTOR_OK, NULL);
	assert_row(doctor_judge_memlock(GiB, GiB), DOCTOR_OK, NULL);
	assert_row(doctor_judge_memlock(GiB - 1, GiB), DOCTOR_WARN, "LimitMEMLOCK");
	assert_row(doctor_judge_memory(16 * GiB, 4 * GiB, 4 * GiB), DOCTOR_OK, NULL);
	assert_row(doctor_judge_memory(16 * GiB, 4 * GiB, 5 * GiB), DOCTOR_FAIL, "buffers");
}

static void huge_pages_of_either_kind_will_do(void **state)
{
	assert_row(doctor_judge_huge_pages(8, 8, "always madvise [never]"), DOCTOR_OK, NULL);
	assert_row(doctor_judge_huge_pages(0, 0, "always [madvise] never"), DOCTOR_OK, NULL);
	assert_row(doctor_judge_huge_pages(0, 0, "[always] madvise never"), DOCTOR_OK, NULL);
	assert_row(doctor_judge_huge_pages(8, 0, "always madvise [never]"), DOCTOR_WARN,
		   "nr_hugepages");
	assert_row(doctor_judge_huge_pages(0, 0, ""), DOCTOR_WARN, "transparent_hugepage");
}

static void memory_that_is_shared_has_huge_pages_of_its_own(void **state)
{
	assert_row(doctor_judge_shared_huge_pages("always within_size [advise] never deny force"),
		   DOCTOR_OK, NULL);
	assert_row(doctor_judge_shared_huge_pages("[always] within_size advise never deny force"),
		   DOCTOR_OK, NULL);
	assert_row(doctor_judge_shared_huge_pages("always within_size advise [never] deny force"),
		   DOCTOR_WARN, "shmem_enabled");
	assert_row(doctor_judge_shared_huge_pages("always within_size advise never [deny] force"),
		   DOCTOR_WARN, "shmem_enabled");
	assert_row(doctor_judge_shared_huge_pages(""), DOCTOR_WARN, "CTXKV_HUGE_PAGES");
}

static void clock_and_governor(void **state)
{
	assert_row(doctor_judge_clock(true), DOCTOR_OK, NULL);
	assert_row(doctor_judge_clock(false), DOCTOR_WARN, "chrony");
	assert_row(doctor_judge_governor(""), DOCTOR_OK, NULL);
	assert_row(doctor_judge_governor("performance"), DOCTOR_OK, NULL);
	assert_row(doctor_judge_governor("powersave"), DOCTOR_WARN, "cpupower");
}

static void a_key_file_is_its_owners_only(void **state)
{
	assert_row(doctor_judge_key_file("/k", 0600, true), DOCTOR_OK, NULL);
	assert_row(doctor_judge_key_file("/k", 0400, true), DOCTOR_OK, NULL);
	assert_row(doctor_judge_key_file("/k", 0640, true), DOCTOR_FAIL, "chmod 600 /k");
	assert_row(doctor_judge_key_file("/k", 0604, false), DOCTOR_FAIL, "chmod 600 /k");
	assert_row(doctor_judge_key_file("/k", 0600, false), DOCTOR_WARN, "chown");
}

static void drives(void **state)
{
	struct doctor_disk disk = { "[none] mq-deadline", "write through", 0 };
	struct doctor_row rows[3];

	assert_int_equal(doctor_judge_disk(&disk, rows), 0);
	disk = (struct doctor_disk) { "none [mq-deadline]", "write back", 0 };
	assert_int_equal(doctor_judge_disk(&disk, rows), 2);
	assert_row(rows[0], DOCTOR_WARN, "echo none");
	assert_row(rows[1], DOCTOR_OK, NULL);
	disk = (struct doctor_disk) { "none [mq-deadline]", "write through", 1 };
	assert_int_equal(doctor_judge_disk(&disk, rows), 1);
	assert_row(rows[0], DOCTOR_WARN, "NVMe");
	disk = (struct doctor_disk) { "", "", -1 };
	assert_int_equal(doctor_judge_disk(&disk, rows), 0);
}

static void latency(void **state)
{
	assert_row(doctor_judge_latency("h:1", 80 * NS_PER_US), DOCTOR_OK, NULL);
	assert_row(doctor_judge_latency("h:1", 3 * NS_PER_MS), DOCTOR_WARN, "round trip");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(old_kernels_are_named),
		cmocka_unit_test(each_way_of_losing_io_uring_has_its_advice),
		cmocka_unit_test(limits_are_held_against_what_is_needed),
		cmocka_unit_test(huge_pages_of_either_kind_will_do),
		cmocka_unit_test(memory_that_is_shared_has_huge_pages_of_its_own),
		cmocka_unit_test(clock_and_governor),
		cmocka_unit_test(a_key_file_is_its_owners_only),
		cmocka_unit_test(drives),
		cmocka_unit_test(latency),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
