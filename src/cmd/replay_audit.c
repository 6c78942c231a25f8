/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay --audit JOURNAL: every block that a replay saw acknowledged durable must be here, with its
 * bytes. The journal: the namespace's text, then "id part bytes" a block.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/text.h"
#include "cmd.h"
#include "content.h"
#include "replay.h"

struct audit {
	struct ctxkv_client *client;
	struct ctxkv_ns ns;
	char *memory;
	struct ctxkv_item items[REPLAY_WINDOW_BLOCKS];
	struct ctxkv_iov iov[REPLAY_WINDOW_BLOCKS];
	uint64_t count; /* of the window */
	uint64_t used;  /* bytes of the window */
	uint64_t there;
	uint64_t missing;
	uint64_t wrong;
};

static void window_check(struct audit *audit)
{
	struct ctxkv_op op = { .opcode = CTXKV_OP_GET,
			       .ns = audit->ns,
			       .items = audit->items,
			       .item_count = audit->count };

	if (audit->count == 0)
		return;
	if (ctxkv_run(audit->client, &op) < 0)
		log_debug("audit get %s", ctxkv_strerror(op.status));
	for (uint64_t i = 0; i < audit->count; i++) {
		const struct ctxkv_item *item = &audit->items[i];

		if (item->status < 0 || item->done_size != audit->iov[i].size)
			audit->missing++;
		else if (!content_is_right(audit->iov[i].base, audit->iov[i].size, &item->key))
			audit->wrong++;
		else
			audit->there++;
	}
	audit->count = 0;
	audit->used = 0;
}

static int line_add(struct audit *audit, uint64_t id, uint64_t part, uint64_t size)
{
	uint64_t room = round_up(size, PAGE_SIZE);
	struct ctxkv_item *item;

	if (size == 0 || room > REPLAY_WINDOW_SIZE * 2)
		return -EINVAL;
	if (audit->count == REPLAY_WINDOW_BLOCKS || audit->used + room > REPLAY_WINDOW_SIZE * 2)
		window_check(audit);
	item = &audit->items[audit->count];
	*item = (struct ctxkv_item) { .key = content_key(id, part) };
	audit->iov[audit->count] = (struct ctxkv_iov) { audit->memory + audit->used, size };
	item->iov = &audit->iov[audit->count];
	item->iov_count = 1;
	audit->used += room;
	audit->count++;
	return 0;
}

/* "ID PART SIZE" and nothing else. */
static int line_parse(char *line, uint64_t *id_out, uint64_t *part_out, uint64_t *size_out)
{
	uint64_t *const values[] = { id_out, part_out, size_out };
	char *rest = line;

	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		const char *word = strsep(&rest, " ");

		if (word == NULL || text_parse_u64(word, values[i]) < 0)
			return -EINVAL;
	}
	return rest == NULL ? 0 : -EINVAL;
}

static int journal_walk(struct audit *audit, FILE *file)
{
	char line[256];
	uint64_t id;
	uint64_t part;
	uint64_t size;

	if (fgets(line, sizeof(line), file) == NULL)
		return -EINVAL;
	line[strcspn(line, "\n")] = '\0';
	ctxkv_namespace(line, &audit->ns);
	while (fgets(line, sizeof(line), file) != NULL && !cmd_is_interrupted()) {
		line[strcspn(line, "\n")] = '\0';
		if (line_parse(line, &id, &part, &size) < 0 || line_add(audit, id, part, size) < 0)
			return -EINVAL;
	}
	window_check(audit);
	return 0;
}

static int audit_report(const struct audit *audit, const struct options *options)
{
	printf(options->json ? "{\"durable\": %" PRIu64 ", \"there\": %" PRIu64
			       ", \"missing\": %" PRIu64 ", \"wrong\": %" PRIu64 "}\n"
			     : "audit            %" PRIu64
			       " blocks were acknowledged durable: %" PRIu64 " are there, %" PRIu64
			       " missing, %" PRIu64 " wrong\n",
	       audit->there + audit->missing + audit->wrong, audit->there, audit->missing,
	       audit->wrong);
	return audit->missing + audit->wrong > 0 ? EXIT_FAILED : EXIT_DONE;
}

int replay_audit(const struct options *options)
{
	struct audit *audit = calloc(1, sizeof(*audit));
	FILE *file = fopen(options->audit, "re");
	int code = EXIT_FAILED;

	if (file == NULL || audit == NULL) {
		code = cmd_fail(EXIT_FAILED, "cannot read %s: %s", options->audit, err_str(errno));
		goto end;
	}
	audit->client = cmd_client_open(options, (uint32_t)options->lanes);
	if (audit->client == NULL)
		goto end;
	audit->memory = ctxkv_alloc(audit->client, REPLAY_WINDOW_SIZE * 2);
	if (audit->memory == NULL)
		cmd_fail(0, "no memory");
	else if (journal_walk(audit, file) < 0)
		cmd_fail(0, "%s is no journal of 'ctxkv replay --durable --journal'",
			 options->audit);
	else
		code = audit_report(audit, options);
	if (audit->memory != NULL)
		ctxkv_free(audit->client, audit->memory);
	ctxkv_close(&audit->client);
end:
	if (file != NULL)
		fclose(file);
	free(audit);
	return code;
}
