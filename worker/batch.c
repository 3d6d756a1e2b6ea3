#include "worker/batch.h"

#include <stdlib.h>
#include <string.h>

#include "schemas/command.h"
#include "schemas/id.h"
#include "schemas/murmur2.h"
#include "schemas/result.h"
#include "worker/base/failpoint.h"
#include "worker/base/log.h"
#include "worker/base/must.h"

#define ARENA_KEEP ((size_t)4 * 1024 * 1024)

void batch_init(struct batch *batch, size_t count_max)
{
	*batch = (struct batch){ .arena = arena_new(ARENA_KEEP), .trace_slots = 16 };
	batch->jobs = must(calloc(count_max, sizeof *batch->jobs));
	batch->order = must(calloc(count_max, sizeof *batch->order));
	while (batch->trace_slots < 2 * count_max)
		batch->trace_slots *= 2;
	batch->traces = must(calloc(batch->trace_slots, sizeof *batch->traces));
}

void batch_destroy(struct batch *batch)
{
	arena_free(batch->arena);
	free(batch->jobs);
	free(batch->order);
	free(batch->offsets);
	free(batch->fences);
	free(batch->traces);
}

void batch_resize(struct batch *batch, size_t partitions)
{
	free(batch->offsets);
	free(batch->fences);
	batch->offsets = must(calloc(partitions + 1, sizeof *batch->offsets));
	batch->fences = must(calloc(partitions + 1, sizeof *batch->fences));
	batch_clear(batch);
}

void batch_clear(struct batch *batch)
{
	arena_reset(batch->arena);
	batch->count = batch->bytes = batch->offset_count = 0;
	batch->only = CONSUMER_ALL;
	batch->fault.kind = FAULT_NONE;
}

/* ---- the rules that need no database ---- */

/* Header traceId, the last one if it is well-formed: so that even bytes that do not decode can be answered. */
static const char *header_trace_id(const struct record *record, struct arena *arena)
{
	for (size_t i = record->header_count; i-- > 0;) {
		const struct header *header = &record->headers[i];
		const char *id;

		if (strcmp(header->name, "traceId") != 0)
			continue;
		if (header->value == NULL || header->size > CAMPAIGN_ID_MAX || memchr(header->value, '\0', header->size))
			return NULL;
		id = arena_strndup(arena, header->value, header->size);
		return id_is_well_formed(id) ? id : NULL;
	}
	return NULL;
}

static void refuse(struct job *job, const struct reason *reason, const char *details)
{
	job->reason = reason;
	result_refuse(&job->result, reason, details);
	job->dead_letter = reason->dead_letter;
	job->cause = job->dead_letter ? details : NULL;
}

/* The traceId in the value cannot be used: the header's answers, and the record is kept as a dead letter. */
static void refuse_without_trace(struct job *job, const struct reason *reason, const char *details, struct arena *arena)
{
	refuse(job, reason, details);
	job->dead_letter = true;
	job->cause = details;
	job->result.trace_id = header_trace_id(&job->record, arena);
	job->answerable = job->result.trace_id != NULL;
}

static bool key_is(const struct record *record, const char *account_group_id)
{
	return record->key && record->key_size == strlen(account_group_id) &&
	       memcmp(record->key, account_group_id, record->key_size) == 0;
}

static const struct reason *find_mistake(const struct contract *contract, struct job *job, struct arena *arena,
					 const char **details)
{
	if (!key_is(&job->record, job->command->account_group_id)) {
		*details = "the record key is not the command's accountGroupId";
		return &reason_key_mismatch;
	}
	return command_check(contract, job->command, arena, details) < 0 ? &reason_invalid_field : NULL;
}

/* Rules 0 and 1 (protocol.txt). -1: it cannot be told now what the record is. */
static int validate(const struct batch_source *source, struct arena *arena, struct job *job, struct fault *fault)
{
	const struct record *record = &job->record;
	const struct reason *reason;
	const char *details;

	job->command = arena_alloc(arena, source->contract->command->size);
	job->result.command_topic = record->topic;
	job->result.command_partition = record->partition;
	job->result.command_offset = record->offset;
	job->result.command_timestamp_ms = record->timestamp_ms;
	if (codec_decode_command(source->codec, record->value, record->value_size, arena, job->command, &reason, fault) < 0) {
		if (fault->kind == FAULT_WAIT)
			return -1;
		refuse_without_trace(job, reason, arena_strndup(arena, fault->msg, strlen(fault->msg)), arena);
		return 0;
	}
	job->answerable = id_is_well_formed(job->command->trace_id);
	result_describe(&job->result, source->contract, job->command);
	reason = find_mistake(source->contract, job, arena, &details);
	job->executable = reason == NULL;
	if (reason && job->answerable)
		refuse(job, reason, details);
	else if (reason)
		refuse_without_trace(job, reason, details, arena);
	return 0;
}

static uint32_t hash_text(uint32_t hash, const char *text)
{
	do
		hash = (hash ^ (unsigned char)*text) * 16777619u; /* FNV-1a, the NUL included */
	while (*text++);
	return hash;
}

/* Whether two records of a trace hold the same command. Those of another partition do not count: what holds up a partition
 * must not hold up the answers of others. */
static bool is_copy(const struct job *job, const struct job *first)
{
	const struct command_head *a = job->command, *b = first->command;

	return job->record.partition == first->record.partition && memcmp(a->digest, b->digest, sizeof a->digest) == 0 &&
	       a->has_expiry == b->has_expiry && (!a->has_expiry || a->expires_at_ms == b->expires_at_ms);
}

static bool add_copy(struct job *job, struct job *first)
{
	if (!is_copy(job, first))
		return false;
	job->copy_of = first;
	job->executable = false;
	return true;
}

/* Adds a job's (account group, trace), or marks the job as a copy; false if the batch has another command of that trace. */
static bool add_trace(struct batch *batch, size_t index)
{
	const struct command_head *command = batch->jobs[index].command;
	size_t mask = batch->trace_slots - 1, slot = hash_text(hash_text(2166136261u, command->account_group_id), command->trace_id);

	for (slot &= mask; batch->traces[slot]; slot = (slot + 1) & mask) {
		struct job *first = &batch->jobs[batch->traces[slot] - 1];

		if (strcmp(first->command->trace_id, command->trace_id) == 0 &&
		    strcmp(first->command->account_group_id, command->account_group_id) == 0)
			return add_copy(&batch->jobs[index], first);
	}
	batch->traces[slot] = (uint32_t)index + 1;
	return true;
}

static void warn_if_misplaced(const struct consumer *consumer, const struct record *record)
{
	int count = consumer_partition_count(consumer);

	if (count > 0 && record->key && murmur2_positive(record->key, record->key_size) % (uint32_t)count != (uint32_t)record->partition)
		log_warn("misplaced_key", "a record does not lie where murmur2 of its key says: the publisher's partitioner differs from "
			 "Java's (librdkafka: partitioner=murmur2_random), or partitions were added",
			 "topic", record->topic, "partition", LOG_INT(record->partition), "offset", LOG_INT(record->offset));
}

/* The fence confirms what is published: while the batch before this one is not, that is where it began. */
static void add_partition(struct batch *batch, size_t place, const struct fence_partition *partition)
{
	struct batch_offset *offset = batch->offsets + place;
	struct fence_partition *fence = batch->fences + place;

	memmove(offset + 1, offset, (batch->offset_count - place) * sizeof *offset);
	memmove(fence + 1, fence, (batch->offset_count - place) * sizeof *fence);
	*fence = *partition;
	batch->offset_count++;
}

/* The consumer gives out records of running partitions only. */
static const struct fence_partition *find_partition(const struct batch_source *source, int32_t id)
{
	const struct fence_partition *partition = source->partitions, *end = partition + source->partition_count;

	while (partition < end && partition->partition != id)
		partition++;
	must_be(partition < end);
	return partition;
}

static void add_offset(struct batch *batch, const struct batch_source *source, const struct record *record)
{
	size_t i = 0;

	while (i < batch->offset_count && batch->offsets[i].partition < record->partition)
		i++;
	if (i == batch->offset_count || batch->offsets[i].partition != record->partition)
		add_partition(batch, i, find_partition(source, record->partition));
	batch->offsets[i] = (struct batch_offset){ record->partition, record->offset + 1 };
	batch->fences[i].end_offset = record->offset + 1;
}

/* The next record; false: there is none, it is for the next batch, or it cannot be decoded now. */
static bool add_record(struct batch *batch, const struct batch_source *source)
{
	struct job *job = &batch->jobs[batch->count];
	const struct record *record = &job->record;
	struct fault fault;

	*job = (struct job){ 0 };
	if (!consumer_peek(source->consumer, batch->arena, &job->record))
		return false;
	if (batch->count > 0 && batch->bytes + arena_used(batch->arena) + record->value_size > source->bytes_max)
		return false;
	if (validate(source, batch->arena, job, &fault) < 0) {
		batch->fault = fault;
		return false;
	}
	if (job->executable && !add_trace(batch, batch->count))
		return false;
	warn_if_misplaced(source->consumer, record);
	add_offset(batch, source, record);
	consumer_take(source->consumer);
	batch->order[batch->count++] = job;
	batch->bytes += record->value_size;
	return true;
}

void batch_fill(struct batch *batch, const struct batch_source *source)
{
	size_t before = batch->count;

	batch->fault.kind = FAULT_NONE;
	if (before == 0)
		memset(batch->traces, 0, batch->trace_slots * sizeof *batch->traces);
	while (batch->count < source->count_max && add_record(batch, source))
		;
	if (batch->count > before)
		failpoint("decode");
}

/* ---- log ---- */

static const char *describe_outcome(const struct job *job)
{
	if (job->cause)
		return job->cause;
	if (job->reason)
		return job->reason->message;
	return job->result.draft_existed ? "the draft was there already" : "a draft was written";
}

static void log_job(const struct contract *contract, const struct job *job)
{
	const struct reason *reason = job->reason;
	enum log_level level = reason == &reason_database_error ? LEVEL_ERROR :
			       job->dead_letter || reason == &reason_rows_locked ? LEVEL_WARN : LEVEL_DEBUG;

	if (!log_is_on(level))
		return;
	log_event(level, job->dead_letter ? "dead_letter" : reason ? "refused" : "accepted", describe_outcome(job), "traceId",
		  job->answerable ? job->result.trace_id : NULL, "reason", reason ? reason->word : NULL, "accountGroupId",
		  job->result.account_group_id, "key", job->key_public_id, "campaignId", result_id(&job->result, contract), "topic",
		  job->record.topic, "partition", LOG_INT(job->record.partition), "offset", LOG_INT(job->record.offset), (char *)0);
}

void batch_log(const struct batch *batch, const struct contract *contract)
{
	for (size_t i = 0; i < batch->count; i++)
		log_job(contract, &batch->jobs[i]);
}
