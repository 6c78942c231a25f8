/* SPDX-License-Identifier: Apache-2.0 */
/* What replay counts with: traces, the ideal hit rate, the model of prefill, contents. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../../src/cmd/content.h"
#include "../../../src/cmd/model.h"
#include "../../../src/cmd/trace.h"
#include "../../lib/t.h"

static void load_text(const char *text, struct trace *trace, int want)
{
	char path[] = "/tmp/ctxkv-trace-XXXXXX";
	char message[256];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	assert_int_equal(trace_load(path, trace, message), want);
	unlink(path);
	if (want < 0)
		assert_non_null(strstr(message, "line 2"));
}

static void a_trace_is_read_line_by_line(void **state)
{
	struct trace trace;

	(void)state;
	load_text("{\"timestamp\": 5, \"input_length\": 1030, \"output_length\": 1, "
		  "\"hash_ids\": [7, 8, 9]}\n{\"timestamp\": 6, \"input_length\": 3, "
		  "\"output_length\": 2, \"hash_ids\": []}\n",
		  &trace, 0);
	assert_int_equal(trace.request_count, 2);
	assert_int_equal(trace.requests[0].count, 3);
	assert_int_equal(trace.ids[2], 9);
	assert_int_equal(trace.requests[1].timestamp_ms, 6);
	trace_free(&trace);
}

static void a_bad_line_is_named(void **state)
{
	struct trace trace;

	(void)state;
	load_text("{\"timestamp\": 5, \"input_length\": 1, \"hash_ids\": [1]}\n{\"hash_ids\": 3}\n",
		  &trace, -EINVAL);
	load_text("{\"timestamp\": 5, \"input_length\": 1, \"hash_ids\": [1]}\n{\"timestamp\": 1, "
		  "\"input_length\": 1, \"hash_ids\": [-4]}\n",
		  &trace, -EINVAL);
}

/* Figures that traces/README.md states, from the file in the repo. */
static void conversation_has_its_published_counts(void **state)
{
	struct trace trace;
	char message[256];
	uint64_t total;
	uint64_t hits;

	(void)state;
	assert_int_equal(trace_load(TRACE_DIR "/mooncake_conversation.jsonl.zst", &trace, message),
			 0);
	assert_int_equal(trace.request_count, 12031);
	assert_int_equal(trace.id_count, 288500);
	hits = trace_ideal_hits(&trace, 0, trace.request_count, &total);
	assert_int_equal(total, 288500);
	assert_true(fabs(100.0 * (double)hits / (double)total - 36.6) < 0.1);
	trace_free(&trace);
}

static void ideal_hits_are_leading_runs(void **state)
{
	uint32_t ids[] = { 1, 2, 3, 1, 9, 3, 1, 9, 3 };
	struct trace_request requests[] = { { 0, 0, 0, 3 }, { 0, 0, 3, 3 }, { 0, 0, 6, 3 } };
	struct trace trace = { requests, 3, ids, 9 };
	uint64_t total;

	(void)state;
	/* Second request: 1, then 9 is new: 3 counts no more. Third: all. */
	assert_int_equal(trace_ideal_hits(&trace, 0, 3, &total), 4);
	assert_int_equal(total, 9);
	assert_int_equal(trace_ideal_hits(&trace, 1, 2, &total), 3);
	assert_int_equal(total, 6);
}

static void prefill_meets_the_calibration(void **state)
{
	const struct model *big = &model_table[0];

	(void)state;
	assert_true(fabs(model_prefill_s(big, 0, 8192) - 1.87) < 0.01);
	assert_true(fabs(model_prefill_s(big, 0, 65536) - 24.5) < 0.1);
	assert_true(fabs(model_prefill_s(big, 0, 32768) - 9.9) < 0.5);
	assert_true(fabs(model_prefill_s(big, 0, 1000) + model_prefill_s(big, 1000, 5000) -
			 model_prefill_s(big, 0, 5000)) < 1e-9);
	assert_int_equal(big->bytes_per_token, 320 * KiB);
	assert_int_equal(model_table[1].bytes_per_token, 128 * KiB);
	assert_int_equal(model_table[4].bytes_per_token / KiB, 68); /* about 70 kB */
}

static void contents_differ_by_key_and_every_byte_counts(void **state)
{
	struct ctxkv_key a = content_key(1, 0);
	struct ctxkv_key b = content_key(1, 1);
	uint8_t buf[1021];

	(void)state;
	content_fill(buf, sizeof(buf), &a);
	assert_true(content_is_right(buf, sizeof(buf), &a));
	assert_false(content_is_right(buf, sizeof(buf), &b));
	for (size_t i = 0; i < sizeof(buf); i++) {
		buf[i] ^= 1;
		assert_false(content_is_right(buf, sizeof(buf), &a));
		buf[i] ^= 1;
	}
	assert_int_not_equal(memcmp(buf, buf + 8, 512), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_trace_is_read_line_by_line),
		cmocka_unit_test(a_bad_line_is_named),
		cmocka_unit_test(conversation_has_its_published_counts),
		cmocka_unit_test(ideal_hits_are_leading_runs),
		cmocka_unit_test(prefill_meets_the_calibration),
		cmocka_unit_test(contents_differ_by_key_and_every_byte_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
