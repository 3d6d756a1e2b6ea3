/* The transactional producer of one lane: results, dead letters and the batch's offsets become visible together or not at
 * all. A transactional call that timed out, or whose request was sent again while an earlier copy was unanswered, makes the
 * producer unusable (protocol.txt, rule 5 of the fence). A new producer with the same transactional.id gets a new epoch and
 * fences the requests that may still be on their way. */
#ifndef PUBLISHER_H
#define PUBLISHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schemas/record.h"
#include "worker/base/arena.h"
#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/kafka/limits.h"

struct publisher;
struct codec;
struct rd_kafka_consumer_group_metadata_s;

/* What the producers of a lane learn of their topics, and leave to the next one. Zeroed: nothing. */
struct lessons {
	struct limit limits[LIMITS];
	bool command_times[LIMITS]; /* records have the times of their commands: the topic refused those of our clock */
	int time_refusals[LIMITS];  /* since it took a transaction */
};

/* Makes the producer; publisher_init must succeed before anything is published. lessons is borrowed. */
struct publisher *publisher_new(const struct config *config, const char *transactional_id, struct lessons *lessons,
				struct fault *fault) MUST_CHECK;
void publisher_free(struct publisher *publisher); /* accepts NULL; drops the records in flight */

/* Gets the producer its epoch, which ends a predecessor's transaction, and checks that its two topics exist. FAULT_RETRY: not
 * within timeout_ms; call again. FAULT_WAIT: a topic is missing or barred to us; call again. FAULT_REBUILD: make a new
 * producer. */
int publisher_init(struct publisher *publisher, int timeout_ms, struct fault *fault) MUST_CHECK;

/* To be called now and then, also while nothing is published: learns of changes to what the topics take. Waits for nothing. */
void publisher_renew_limits(struct publisher *publisher);
/* Sets how many bytes the texts of a success may have: a draft whose result nobody would take must not be written. */
void publisher_bound_results(const struct publisher *publisher, struct codec *codec, struct job *jobs, size_t n, struct arena *arena);

struct batch_offset {
	int32_t partition;
	int64_t next; /* the offset after the batch's last record */
};

struct publication {
	struct job *jobs;
	size_t count;
	const struct batch_offset *offsets;
	size_t offset_count;
	const struct rd_kafka_consumer_group_metadata_s *metadata; /* of the generation the batch was fetched in */
};

/* One Kafka transaction: for each job its result (if answerable) and its dead letter (if any), and the offsets. 0: committed.
 * FAULT_ABORT: aborted, nothing is visible; where a topic refused a record, the next try has records that it takes. FAULT_WAIT:
 * the same, but somebody has to change the topic first. FAULT_FENCED: the same, because the group has moved on.
 * FAULT_REBUILD: the outcome is open until a new producer with this transactional.id is initialised. */
int publisher_publish(struct publisher *publisher, struct codec *codec, const struct publication *publication, struct arena *arena,
		   struct fault *fault) MUST_CHECK;

/* Whether the producer must be made anew although it is not broken: because a request was sent twice, or because a record was
 * refused (it skips that record's sequence number, and librdkafka's next transactions fail, or wait in vain). */
bool publisher_is_spent(const struct publisher *publisher);

/* Whether another producer took this transactional.id. */
bool publisher_was_fenced(const struct publisher *publisher);

/* Ends the transaction that a dead producer left pending, by taking its transactional.id for a moment. */
int publisher_end_transaction(const struct config *config, const char *transactional_id, int timeout_ms, struct fault *fault) MUST_CHECK;

/* The fault kind for a transactional call's error. Exposed for its test. */
enum fault_kind publisher_classify(bool fatal, bool requires_abort, bool retriable, int code);

#endif
