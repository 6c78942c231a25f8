/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A put, from begin to release.
 *
 *   1. begin looks the identity up. It is there: existed, nothing is moved (a durable put waits
 *      until what is there survives a crash). Another put of it is FILLING: this one follows it.
 *      Else it is FILLING: the caller brings the payload to iov.
 *   2. commit: checksums, a place in the log (log.c), a sequence, an entry in the index. From now
 *      on the block is read from the put's buffers. A buffered put is done; a durable one waits for
 *      its record and a flush. Followers share the outcome, each with its own acknowledgement.
 *   3. The record is written: the entry says so, reads go to the medium, and when no reader has the
 *      buffers pinned any more, they are released.
 *
 * Callbacks are collected in `due` and made by the shard's task: never out of a call.
 *
 * The caller gives up (abort): the first follower is FILLING now and told so.
 * An entry that recovery found by a scan and nobody verified yet does not count as there: its
 * payload may be torn, and the put may have been promised to be durable. It is replaced.
 * Foreign buffers (a client's memory): checksums are taken once, at commit; what the client changes
 * behind that fails them when the block is read, and costs only this block. Nobody is shown the
 * buffers, and they alone are in their record.
 * The record cannot be written: the entry leaves the index, who waits for durability gets the
 * error; who had asked for buffered was told 0 before, and finds a miss (lost_out is for who has
 * not passed it on).
 * The index is full of blocks that cannot be forgotten: -ERR_FULL.
 */
#include <string.h>

#include "shard_priv.h"

enum put_due {
	PUT_DUE_FILLING = 1u << 0,
	PUT_DUE_DONE = 1u << 1,
	PUT_DUE_RELEASED = 1u << 2,
	PUT_DUE = PUT_DUE_FILLING | PUT_DUE_DONE | PUT_DUE_RELEASED,
	/* What stays. */
	PUT_HAS_RESULT = 1u << 3,
	PUT_IS_WRITTEN = 1u << 4, /* the log needs its buffers no more, or never did */
	PUT_IS_RELEASED = 1u << 5,
	PUT_IS_SUMMED = 1u << 6,
};

/* --- what the caller is told --- */

static void put_tell(struct env_task *task)
{
	struct shard_put *put = CONTAINER_OF(task, struct shard_put, task);
	uint32_t due = put->due & PUT_DUE;

	CHECK_OBJ(put->shard, SHARD_MAGIC);
	put->due &= ~due;
	if ((due & PUT_DUE_FILLING) != 0)
		put->filling(put);
	if ((due & PUT_DUE_DONE) != 0)
		put->done(put, put->rc);
	if ((due & PUT_DUE_RELEASED) != 0) {
		ASSERT(put->shard->put_count > 0);
		put->shard->put_count--;
		put->released(put); /* the last: the put is gone */
	}
}

static void put_due(struct shard_put *put, uint32_t due)
{
	put->due |= due;
	shard_tell(put->shard, &put->task);
}

/* Release the buffers once nobody needs them and the result is known. */
static void put_settle(struct shard_put *put)
{
	uint32_t needs = PUT_HAS_RESULT | PUT_IS_WRITTEN;

	if ((put->due & needs) != needs || (put->due & PUT_IS_RELEASED) != 0 || put->pin_count > 0)
		return;
	put->state = SHARD_PUT_DONE;
	put_due(put, PUT_IS_RELEASED | PUT_DUE_RELEASED);
}

static void put_result(struct shard_put *put, int rc)
{
	ASSERT((put->due & PUT_HAS_RESULT) == 0);
	put->rc = rc;
	put_due(put, PUT_HAS_RESULT | PUT_DUE_DONE);
	put_settle(put);
}

/* The put ends here: nothing of it is written. */
static void put_end(struct shard_put *put, int rc)
{
	put->state = SHARD_PUT_DONE;
	put->due &= ~PUT_DUE_FILLING;
	put->due |= PUT_IS_WRITTEN;
	put_result(put, rc);
}

/* What the put waited for is written and flushed, or could not be. */
static void put_survives(struct shard_wait *wait, int rc)
{
	struct shard_put *put = CONTAINER_OF(wait, struct shard_put, wait);

	put->durable_out = rc == 0;
	put_result(put, rc < 0 ? -EIO : 0);
}

/* --- puts in flight --- */

static struct list *bucket_of(const struct shard *shard, const struct hash128 *hash)
{
	return &shard->buckets[hash->lo & shard->bucket_mask];
}

static bool is_hash(const struct shard_put *put, const struct hash128 *hash)
{
	return put->hash.lo == hash->lo && put->hash.hi == hash->hi;
}

static struct shard_put *find_filling(const struct shard *shard, const struct hash128 *hash)
{
	list_for_each (node, bucket_of(shard, hash)) {
		struct shard_put *put = list_entry(node, struct shard_put, node);

		if (is_hash(put, hash) && put->state == SHARD_PUT_FILLING)
			return put;
	}
	return NULL;
}

struct shard_put *put_find_buffered(const struct shard *shard, const struct hash128 *hash,
				    uint64_t sequence)
{
	list_for_each (node, bucket_of(shard, hash)) {
		struct shard_put *put = list_entry(node, struct shard_put, node);

		if (is_hash(put, hash) && put->state == SHARD_PUT_COMMITTED &&
		    put->sequence_out == sequence)
			return put;
	}
	return NULL;
}

/* --- begin --- */

static int put_intern(struct shard *shard, struct shard_put *put)
{
	put->domain_name = names_intern(shard->domains, put->id.domain);
	put->payer_name = names_intern(shard->payers, put->payer);
	put->ns_name = names_intern(shard->namespaces, put->id.ns); /* NONE is fine */
	if (put->domain_name == NAMES_NONE || put->payer_name == NAMES_NONE)
		return -ERR_FULL;
	return 0;
}

static void put_init(struct shard *shard, struct shard_put *put)
{
	ASSERT(put->done != NULL);
	ASSERT(put->released != NULL);
	put->shard = shard;
	put->task = (struct env_task) { .run = put_tell };
	put->due = 0;
	put->entry_flags = put->flags & DISK_ENTRY_SHARED;
	put->pin_count = 0;
	put->stride_count = 0;
	put->crc = 0;
	put->record = NULL;
	put->rc = 0;
	put->sequence_out = 0;
	put->existed_out = false;
	put->durable_out = false;
	put->lost_out = false;
	put->wait.done = put_survives;
	list_init(&put->node);
	list_init(&put->followers);
	list_init(&put->wait.node);
}

/* Its block is there as entry: answer, at once or when that survives a crash. */
static void put_exists(struct shard *shard, struct shard_put *put, const struct index_entry *entry)
{
	bool is_durable = !is_memory(shard) && entry->sequence < shard->durable_sequence;

	put->existed_out = true;
	put->sequence_out = entry->sequence;
	if (!put->is_durable || is_durable || is_memory(shard)) {
		put->durable_out = is_durable;
		put_end(put, 0);
		return;
	}
	put->state = SHARD_PUT_DONE;
	put->due |= PUT_IS_WRITTEN;
	if ((entry->flags & INDEX_BUFFERED) != 0) {
		struct shard_put *first = put_find_buffered(shard, &entry->hash, entry->sequence);

		ASSERT(first != NULL);
		log_wait(shard, first->record, &put->wait);
	} else {
		flush_wait(shard, &put->wait);
	}
}

/* A segment for the payload, now or when it is complete. */
static int put_segment(struct shard *shard, struct shard_put *put)
{
	if (!reclaim_admits(shard, 1 + pages_of(put->size)))
		return -EAGAIN;
	if (is_memory(shard))
		return memory_reserve(shard, put);
	if (shard->open != NULL || shard->ready != NULL)
		return governor_admit(shard, put);
	shard->is_room_wanted = true;
	segment_prepare(shard);
	return -EAGAIN;
}

/* May it be filled? */
static int put_room(struct shard *shard, struct shard_put *put)
{
	int rc = quota_admit(shard, put);

	if (rc == 0)
		rc = put_segment(shard, put);
	if (rc == 0)
		quota_fill(shard, put);
	return rc;
}

int shard_put_begin(struct shard *shard, struct shard_put *put)
{
	struct index_entry entry;
	struct shard_put *first;
	int rc;

	CHECK_OBJ(shard, SHARD_MAGIC);
	ASSERT(put->state == SHARD_PUT_IDLE || put->state == SHARD_PUT_DONE);
	if (shard->is_offline)
		return -ERR_OFFLINE;
	if (put->size == 0)
		return -EINVAL;
	if (put->size > shard->block_max)
		return -ERR_TOO_LARGE;
	if (shard->put_count == shard->opts.put_max)
		return -ERR_BUSY;
	rc = put_intern(shard, put);
	if (rc < 0)
		return rc;

	put_init(shard, put);
	if (shard_lookup(shard, &put->id, &put->hash, &entry) &&
	    (entry.flags & INDEX_SUSPECT) == 0) {
		shard->put_count++;
		put_exists(shard, put, &entry);
		return 0;
	}
	first = find_filling(shard, &put->hash);
	if (first != NULL) {
		put->state = SHARD_PUT_FOLLOWING;
		list_add_tail(&first->followers, &put->followers);
	} else {
		rc = put_room(shard, put);
		if (rc < 0)
			return rc;
		put->state = SHARD_PUT_FILLING;
		list_add_tail(bucket_of(shard, &put->hash), &put->node);
	}
	shard->put_count++;
	return 0;
}

/* --- commit --- */

/* Zeros behind the payload up to the page: what is written with it must not be anybody's data. */
static void pad(const struct iovec *iov, uint64_t used)
{
	memset((char *)iov->iov_base + used, 0, round_up(used, PAGE_SIZE) - used);
}

void put_pad(const struct shard_put *put)
{
	uint64_t left = put->size;

	for (uint32_t i = 0; left > 0; i++) {
		uint64_t used = MIN(put->iov[i].iov_len, left);

		left -= used;
		if (left == 0)
			pad(&put->iov[i], used);
	}
}

void put_sum(const struct shard *shard, struct shard_put *put)
{
	uint32_t stride = record_stride(put->size);
	uint64_t left = put->size;
	uint32_t crc = 0;
	uint32_t done = 0; /* of this stride */

	put->crc = 0;
	for (uint32_t i = 0; left > 0; i++) {
		const char *data = put->iov[i].iov_base;
		uint64_t used = MIN(put->iov[i].iov_len, left);

		ASSERT(i < put->iov_count);
		for (uint64_t at = 0; at < used;) {
			uint32_t size = (uint32_t)MIN(stride - done, used - at);

			crc = crc32c(crc, data + at, size);
			at += size;
			done += size;
			if (done < stride && left - at > 0)
				continue;
			put->strides[put->stride_count++] = crc;
			put->crc = crc32c_combine(put->crc, crc, done);
			crc = 0;
			done = 0;
		}
		left -= used;
		if (left == 0 && !is_memory(shard))
			pad(&put->iov[i], used);
	}
	ASSERT(put->stride_count == record_stride_count(put->size));
}

static int put_insert(struct shard *shard, const struct shard_put *put)
{
	struct index_entry entry = {
		.hash = put->hash,
		.sequence = put->sequence_out,
		.segment = put->segment,
		.page = put->page,
		.size = put->size,
		.crc = put->crc,
		.chain = (uint32_t)(put->chain ^ put->chain >> 32),
		.expiry_s = (uint32_t)MIN(put->expiry_s, UINT32_MAX),
		.domain = put->domain_name,
		.payer = put->payer_name,
		.ns = put->ns_name,
		.depth = (uint16_t)MIN(put->depth, UINT16_MAX),
	};

	if (!is_memory(shard))
		entry.flags |= INDEX_BUFFERED;
	if ((put->entry_flags & DISK_ENTRY_NO_CRC) != 0)
		entry.flags |= INDEX_NO_CRC;
	if ((put->entry_flags & DISK_ENTRY_SHARED) != 0)
		entry.flags |= INDEX_SHARED;
	return shard_index_insert(shard, &entry);
}

/* The first put is committed: so are its followers. */
static void followers_share(struct shard *shard, struct shard_put *first)
{
	while (!list_is_empty(&first->followers)) {
		struct shard_put *put = list_head(&first->followers, struct shard_put, followers);

		list_del(&put->followers);
		put->existed_out = true;
		put->sequence_out = first->sequence_out;
		if (!put->is_durable || is_memory(shard)) {
			put_end(put, 0);
			continue;
		}
		put->state = SHARD_PUT_DONE;
		put->due |= PUT_IS_WRITTEN;
		log_wait(shard, first->record, &put->wait);
	}
}

/* A place and a sequence for the put and an entry for its block. -EAGAIN: no place. */
static int put_publish(struct shard *shard, struct shard_put *put)
{
	int rc;

	if (!is_memory(shard)) {
		if (!list_is_empty(&shard->drops_waiting)) { /* their tombstones come first */
			shard->is_room_wanted = true;
			return -EAGAIN;
		}
		rc = log_reserve(shard, put);
		if (rc < 0)
			return rc;
	}
	put->sequence_out = shard->sequence++;
	rc = put_insert(shard, put);
	if (rc < 0)
		return -ERR_FULL;
	if (is_memory(shard))
		memory_publish(shard, put);
	quota_filled(shard, put);
	put->state = SHARD_PUT_COMMITTED;
	shard->stats.puts++;
	shard->stats.put_bytes += put->size;
	return 0;
}

int shard_put_commit(struct shard *shard, struct shard_put *put)
{
	int rc;

	CHECK_OBJ(shard, SHARD_MAGIC);
	ASSERT(put->shard == shard);
	ASSERT(put->state == SHARD_PUT_FILLING);
	if (put->is_foreign)
		ASSERT(put->is_durable &&
		       shard_put_fits(shard, put->size, put->iov, put->iov_count));
	if (shard->is_offline) {
		shard_put_abort(shard, put, -ERR_OFFLINE);
		return 0;
	}
	if (is_memory(shard) && shard->opts.verify != STORE_VERIFY_ALL) {
		/* Nothing is read from a medium, and nobody else asks. */
		put->entry_flags |= DISK_ENTRY_NO_CRC;
	} else if ((put->due & PUT_IS_SUMMED) == 0) {
		put_sum(shard, put);
		put->due |= PUT_IS_SUMMED;
	}
	rc = put_publish(shard, put);
	if (rc == -EAGAIN)
		return rc;
	if (rc < 0) {
		shard_put_abort(shard, put, rc);
		return 0;
	}
	if (is_memory(shard)) {
		memory_settle(shard, put);
		list_del(&put->node);
		put->due |= PUT_IS_WRITTEN;
	} else {
		log_append(shard, put);
	}
	followers_share(shard, put);
	if (!put->is_durable || is_memory(shard))
		put_result(put, 0);
	return 0;
}

void put_written(struct shard *shard, struct shard_put *put, int rc)
{
	struct index_entry entry;

	put->record = NULL;
	if ((put->entry_flags & DISK_ENTRY_TOMBSTONE) != 0)
		return;
	if ((put->entry_flags & DISK_ENTRY_REWRITTEN) != 0) {
		rewrite_written(shard, put, rc);
		return;
	}
	ASSERT(put->state == SHARD_PUT_COMMITTED);
	list_del(&put->node);
	if (rc < 0) {
		put->lost_out = true;
		(void)shard_index_remove(shard, &put->hash, put->sequence_out); /* may be gone */
	} else if (index_find(shard->index, &put->hash, &entry) &&
		   entry.sequence == put->sequence_out) {
		entry.flags &= (uint16_t)~INDEX_BUFFERED;
		(void)index_update(shard->index, &entry); /* it was just found */
	}
	put->due |= PUT_IS_WRITTEN;
	put_settle(put);
}

void put_unpin(struct shard_put *put)
{
	ASSERT(put->pin_count > 0);
	put->pin_count--;
	put_settle(put);
}

/* --- abort --- */

/* The first put is gone: the next of its followers takes its part. */
static void followers_inherit(struct shard *shard, struct shard_put *gone)
{
	while (!list_is_empty(&gone->followers)) {
		struct shard_put *put = list_head(&gone->followers, struct shard_put, followers);

		list_del(&put->followers);
		if (shard->is_offline || put_room(shard, put) < 0) {
			put_end(put, shard->is_offline ? -ERR_OFFLINE : -ERR_ABORTED);
			continue;
		}
		list_splice_tail(&put->followers, &gone->followers);
		put->state = SHARD_PUT_FILLING;
		list_add_tail(bucket_of(shard, &put->hash), &put->node);
		put_due(put, PUT_DUE_FILLING);
		return;
	}
}

void shard_put_abort(struct shard *shard, struct shard_put *put, int rc)
{
	CHECK_OBJ(shard, SHARD_MAGIC);
	ASSERT(put->shard == shard);
	ASSERT(rc < 0);
	if (put->state == SHARD_PUT_FOLLOWING) {
		list_del(&put->followers);
	} else {
		ASSERT(put->state == SHARD_PUT_FILLING);
		list_del(&put->node);
		quota_filled(shard, put);
		if (is_memory(shard))
			memory_settle(shard, put);
		followers_inherit(shard, put);
	}
	put_end(put, rc);
}
