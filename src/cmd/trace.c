/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a trace: the file whole, unpacked where it is .zst, at most a GiB of text, then a request
 * a line. Failure: the first line that is no request is named, and nothing is kept.
 */
#include "trace.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define TEXT_MAX GiB

/* Bytes that grow by doubling. */
struct text {
	char *bytes;
	size_t size;
	size_t room;
};

static int text_reserve(struct text *text, size_t more)
{
	size_t room = MAX(text->room, MiB);
	char *bytes;

	while (room < text->size + more + 1)
		room *= 2;
	if (room > TEXT_MAX)
		return -EFBIG;
	if (room == text->room)
		return 0;
	bytes = realloc(text->bytes, room);
	if (bytes == NULL)
		return -ENOMEM;
	text->bytes = bytes;
	text->room = room;
	return 0;
}

static int read_plain(FILE *file, struct text *text)
{
	size_t size;

	do {
		if (text_reserve(text, MiB) < 0)
			return -ENOMEM;
		size = fread(text->bytes + text->size, 1, MiB, file);
		text->size += size;
	} while (size > 0);
	return ferror(file) != 0 ? -EIO : 0;
}

static int inflate_all(const struct text *packed, struct text *text)
{
	ZSTD_DStream *stream = ZSTD_createDStream();
	ZSTD_inBuffer in = { packed->bytes, packed->size, 0 };
	int rc = stream == NULL ? -ENOMEM : 0;

	while (rc == 0 && in.pos < in.size) {
		ZSTD_outBuffer out;

		rc = text_reserve(text, MiB);
		if (rc < 0)
			break;
		out = (ZSTD_outBuffer) { text->bytes + text->size, MiB, 0 };
		if (ZSTD_isError(ZSTD_decompressStream(stream, &out, &in)))
			rc = -EINVAL;
		text->size += out.pos;
	}
	ZSTD_freeDStream(stream);
	return rc;
}

static int read_text(const char *path, struct text *text)
{
	const char *dot = strrchr(path, '.');
	struct text packed = { 0 };
	FILE *file = fopen(path, "re");
	int rc;

	if (file == NULL)
		return -errno;
	rc = read_plain(file, &packed);
	fclose(file);
	if (rc < 0 || dot == NULL || strcmp(dot, ".zst") != 0) {
		*text = packed;
		return rc;
	}
	rc = inflate_all(&packed, text);
	free(packed.bytes);
	return rc;
}

static int request_parse(json_t *object, struct trace *trace)
{
	struct trace_request *request = &trace->requests[trace->request_count];
	json_t *ids = json_object_get(object, "hash_ids");
	json_t *timestamp = json_object_get(object, "timestamp");
	json_t *tokens = json_object_get(object, "input_length");

	if (!json_is_array(ids) || !json_is_number(timestamp) || !json_is_integer(tokens))
		return -EINVAL;
	request->timestamp_ms = (uint64_t)json_number_value(timestamp);
	request->input_tokens = (uint64_t)json_integer_value(tokens);
	request->first = trace->id_count;
	request->count = json_array_size(ids);
	for (size_t i = 0; i < request->count; i++) {
		json_t *id = json_array_get(ids, i);

		if (!json_is_integer(id) || json_integer_value(id) < 0 ||
		    json_integer_value(id) >= UINT32_MAX)
			return -EINVAL;
		trace->ids[trace->id_count++] = (uint32_t)json_integer_value(id);
	}
	trace->request_count++;
	return 0;
}

static uint64_t count_of(const struct text *text, char what)
{
	uint64_t count = 0;

	for (size_t i = 0; i < text->size; i++)
		count += text->bytes[i] == what;
	return count;
}

static int text_parse(struct text *text, struct trace *trace, char message_out[256])
{
	char *rest = NULL;
	uint64_t number = 0;

	text->bytes[text->size] = '\0';
	/* A request is a line, an id stands before or behind a comma: more room than is needed. */
	trace->requests = calloc(count_of(text, '\n') + 1, sizeof(*trace->requests));
	trace->ids = calloc(count_of(text, ',') + 1, sizeof(*trace->ids));
	if (trace->requests == NULL || trace->ids == NULL)
		return -ENOMEM;
	for (char *line = strtok_r(text->bytes, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest)) {
		json_t *object = json_loads(line, 0, NULL);
		int rc = object == NULL ? -EINVAL : request_parse(object, trace);

		json_decref(object);
		number++;
		if (rc < 0) {
			snprintf(message_out, 256, "line %lu is no request of a Mooncake trace",
				 (unsigned long)number);
			return rc;
		}
	}
	return 0;
}

int trace_load(const char *path, struct trace *trace_out, char message_out[256])
{
	struct trace trace = { 0 };
	struct text text = { 0 };
	int rc;

	message_out[0] = '\0';
	rc = read_text(path, &text);
	if (rc == 0)
		rc = text_reserve(&text, 1);
	if (rc == 0)
		rc = text_parse(&text, &trace, message_out);
	free(text.bytes);
	if (rc < 0) {
		if (message_out[0] == '\0')
			snprintf(message_out, 256, "%s", err_str(rc));
		trace_free(&trace);
		return rc;
	}
	*trace_out = trace;
	return 0;
}

void trace_free(struct trace *trace)
{
	free(trace->requests);
	free(trace->ids);
	*trace = (struct trace) { 0 };
}

uint64_t trace_ideal_hits(const struct trace *trace, uint64_t first, uint64_t count,
			  uint64_t *total_out)
{
	uint32_t id_max = 0;
	uint64_t hits = 0;
	uint8_t *seen;

	*total_out = 0;
	for (uint64_t i = 0; i < trace->id_count; i++)
		id_max = MAX(id_max, trace->ids[i]);
	seen = calloc((size_t)id_max + 1, 1);
	if (seen == NULL)
		return 0;
	for (uint64_t r = first; r < first + count; r++) {
		const struct trace_request *request = &trace->requests[r];
		const uint32_t *ids = trace->ids + request->first;
		uint64_t run = 0;

		while (run < request->count && seen[ids[run]] != 0)
			run++;
		for (uint64_t i = run; i < request->count; i++)
			seen[ids[i]] = 1;
		hits += run;
		*total_out += request->count;
	}
	free(seen);
	return hits;
}
