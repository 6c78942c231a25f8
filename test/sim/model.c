/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <stdlib.h>
#include <string.h>

void model_init(struct model *model, struct sim *sim, uint32_t ident_count)
{
	*model = (struct model) { .sim = sim, .tick = 1, .ident_count = ident_count };
	model->idents = calloc(ident_count, sizeof(model->idents[0]));
	ASSERT(model->idents != NULL);
}

void model_fini(struct model *model)
{
	for (uint32_t i = 0; i < model->ident_count; i++)
		free(model->idents[i].versions);
	free(model->idents);
}

uint64_t model_tick(struct model *model)
{
	return ++model->tick;
}

static struct model_version *version_of(const struct model *model, uint32_t ident, uint32_t version)
{
	ASSERT(ident < model->ident_count);
	ASSERT(version < model->idents[ident].count);
	return &model->idents[ident].versions[version];
}

uint32_t model_put(struct model *model, uint32_t ident, uint32_t size, uint64_t expiry_s)
{
	struct model_ident *row = &model->idents[ident];

	ASSERT(ident < model->ident_count);
	if (row->count == row->room) {
		row->room = MAX(4, 2 * row->room);
		row->versions = realloc(row->versions, row->room * sizeof(row->versions[0]));
		ASSERT(row->versions != NULL);
	}
	row->versions[row->count] = (struct model_version) {
		.size = size, .is_open = true, .expiry_s = expiry_s, .begin = model_tick(model)
	};
	return row->count++;
}

void model_commit(struct model *model, uint32_t ident, uint32_t version)
{
	version_of(model, ident, version)->commit = model_tick(model);
}

/* No version that was there before tick can be seen any more. */
static void kill_before(struct model *model, uint32_t ident, uint64_t tick, bool is_durable)
{
	struct model_ident *row = &model->idents[ident];
	uint64_t now = model_tick(model);

	for (uint32_t i = 0; i < row->count; i++) {
		struct model_version *version = &row->versions[i];

		if (version->commit == 0 || version->commit >= tick)
			continue;
		version->is_promised = false;
		if (version->dead_live == 0)
			version->dead_live = now;
		if (is_durable && version->dead_durable == 0)
			version->dead_durable = now;
	}
}

void model_stored(struct model *model, uint32_t ident, uint32_t version, bool is_durable)
{
	struct model_version *row = version_of(model, ident, version);

	if (row->commit == 0)
		model_commit(model, ident, version);
	row->outcome = MODEL_STORED;
	row->is_open = false;
	row->is_durable |= is_durable;
	/* Dropped between its commit and its answer: nothing is promised. */
	row->is_promised = row->dead_live == 0 && !row->is_mortal &&
			   model->idents[ident].drops_open == 0 &&
			   model->idents[ident].drops_unknown == 0 &&
			   model->idents[ident].drop_over < row->begin;
	/* It was stored, so what was complete before it began is gone. */
	kill_before(model, ident, row->begin, is_durable);
}

void model_void(struct model *model, uint32_t ident, uint32_t version)
{
	version_of(model, ident, version)->outcome = MODEL_VOID;
	version_of(model, ident, version)->is_open = false;
}

void model_unknown(struct model *model, uint32_t ident, uint32_t version)
{
	version_of(model, ident, version)->is_open = false;
}

void model_existed_durable(struct model *model, uint32_t ident, uint32_t by)
{
	struct model_ident *row = &model->idents[ident];
	struct model_version *only = NULL;

	for (uint32_t i = 0; i < row->count; i++) {
		struct model_version *version = &row->versions[i];

		if (version->outcome == MODEL_VOID || version->dead_live != 0 ||
		    version->commit == 0 || version->commit > row->versions[by].begin)
			continue;
		if (only != NULL)
			return; /* which of them it was cannot be told */
		only = version;
	}
	if (only != NULL && only->outcome == MODEL_STORED)
		only->is_durable = true;
}

void model_drop_asked(struct model *model, uint32_t ident)
{
	struct model_ident *row = &model->idents[ident];

	row->drops_open++;
	for (uint32_t i = 0; i < row->count; i++)
		row->versions[i].is_promised = false;
}

void model_drop_over(struct model *model, uint32_t ident, bool is_known)
{
	struct model_ident *row = &model->idents[ident];

	ASSERT(row->drops_open > 0);
	row->drops_open--;
	row->drops_unknown += !is_known;
	row->drop_over = model_tick(model);
}

/* The process is gone, and so are the drops that it had not answered. */
static void drops_end(struct model *model)
{
	for (uint32_t i = 0; i < model->ident_count; i++) {
		if (model->idents[i].drops_unknown > 0)
			model->idents[i].drop_over = model_tick(model);
		model->idents[i].drops_unknown = 0;
	}
}

void model_dropped(struct model *model, uint32_t ident, uint64_t tick, bool is_durable)
{
	kill_before(model, ident, tick, is_durable);
}

void model_crash(struct model *model)
{
	uint64_t now = model_tick(model);

	drops_end(model);
	for (uint32_t i = 0; i < model->ident_count; i++) {
		for (uint32_t v = 0; v < model->idents[i].count; v++) {
			struct model_version *version = &model->idents[i].versions[v];

			version->dead_live = version->dead_durable;
			if (!version->is_durable)
				version->is_promised = false;
			if (version->commit == 0 && !version->is_open)
				version->commit = now; /* it is there by now, or never */
		}
	}
}

void model_stop(struct model *model)
{
	drops_end(model);
	for (uint32_t i = 0; i < model->ident_count; i++) {
		for (uint32_t v = 0; v < model->idents[i].count; v++) {
			struct model_version *version = &model->idents[i].versions[v];

			version->dead_durable = version->dead_live;
			if (version->is_promised)
				version->is_durable = true;
		}
	}
}

/* A later put, of whatever outcome, may have taken its place (a block that a restart has found and
 * nobody has verified counts as absent) and expired. */
static bool may_have_expired(const struct model_ident *row, uint32_t version)
{
	for (uint32_t i = version + 1; i < row->count; i++) {
		if (row->versions[i].expiry_s != 0 && row->versions[i].outcome != MODEL_VOID)
			return true;
	}
	return false;
}

struct model_version *model_promised(const struct model *model, uint32_t ident, uint64_t wall_s)
{
	const struct model_ident *row = &model->idents[ident];

	for (uint32_t i = 0; i < row->count; i++) {
		struct model_version *version = &row->versions[i];

		if (version->is_promised && (version->expiry_s == 0 || wall_s < version->expiry_s))
			return may_have_expired(row, i) ? NULL : version;
	}
	return NULL;
}

/* --- content --- */

static uint64_t content_base(const struct model *model, uint32_t ident, uint32_t version)
{
	return rng_mix(rng_mix(model->sim->seed + 77) ^ ((uint64_t)ident << 32 | version));
}

static uint64_t content_word(uint64_t base, uint64_t index)
{
	uint64_t word = (base + index) * UINT64_C(0x9e3779b97f4a7c15);

	return word ^ word >> 29;
}

static void content_fill(uint64_t base, uint64_t offset, uint8_t *bytes, uint64_t size)
{
	while (size > 0) {
		uint64_t word = content_word(base, offset / 8);
		uint64_t skip = offset % 8;
		uint64_t part = MIN(size, 8 - skip);

		memcpy(bytes, (uint8_t *)&word + skip, part);
		bytes += part;
		offset += part;
		size -= part;
	}
}

void model_fill(const struct model *model, uint32_t ident, uint32_t version, uint64_t offset,
		void *bytes, uint64_t size)
{
	content_fill(content_base(model, ident, version), offset, bytes, size);
}

static bool content_match(uint64_t base, uint64_t offset, const struct iovec *iov, uint64_t size)
{
	uint8_t expected[512];

	for (; size > 0; iov++) {
		for (uint64_t at = 0; at < iov->iov_len && size > 0;) {
			uint64_t part = MIN(MIN(sizeof(expected), iov->iov_len - at), size);

			content_fill(base, offset, expected, part);
			if (memcmp(expected, (const uint8_t *)iov->iov_base + at, part) != 0)
				return false;
			at += part;
			offset += part;
			size -= part;
		}
	}
	return true;
}

static const char *not_allowed(const struct model_version *version, uint64_t tick, uint64_t wall_s)
{
	if (version->outcome == MODEL_VOID)
		return "was never published";
	if (version->dead_live != 0 && version->dead_live <= tick)
		return "was dropped or replaced before";
	if (version->expiry_s != 0 && wall_s > version->expiry_s)
		return "had expired";
	return NULL;
}

uint32_t model_check(const struct model *model, uint32_t ident, uint64_t tick, uint64_t wall_s,
		     uint32_t block_size, uint64_t offset, const struct iovec *iov, uint64_t size)
{
	const struct model_ident *row = &model->idents[ident];
	const char *why = "is of no version";

	for (uint32_t i = row->count; i-- > 0;) {
		const char *reason;

		if (row->versions[i].size != block_size ||
		    !content_match(content_base(model, ident, i), offset, iov, size))
			continue;
		reason = not_allowed(&row->versions[i], tick, wall_s);
		if (reason == NULL || (model->is_lenient && row->versions[i].outcome != MODEL_VOID))
			return i;
		why = reason;
	}
	sim_fail(model->sim, "identity %u: what a get returned (%llu bytes at %llu of %u) %s",
		 ident, (unsigned long long)size, (unsigned long long)offset, block_size, why);
}
