/* The transactional producer of one lane: results, dead letters and the batch's offsets become visible together or not at
 * all. Every transactional call that timed out, or whose request was sent again while an earlier copy was unanswered, makes
 * the producer unusable (protocol.txt, rule 5 of the fence): a new one with the same transactional.id gets a new epoch and
 * fences what may still be on its way. */
#ifndef PUBLISHER_H
#define PUBLISHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/arena.h"
#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "schemas/record.h"

struct publisher;
struct codec;
struct rd_kafka_consumer_group_metadata_s;

/* Makes the producer; publisher_init must succeed before anything is published. */
struct publisher *publisher_new(const struct config *config, const char *transactional_id, struct fault *fault) MUST_CHECK;
void publisher_free(struct publisher *publisher); /* accepts NULL; drops what is in flight */

/* Gets the producer its epoch, ending a predecessor's transaction, and looks for its two topics. FAULT_RETRY: not within
 * timeout_ms, call again. FAULT_WAIT: a topic is missing or barred to us, call again. FAULT_REBUILD. */
int publisher_init(struct publisher *publisher, int timeout_ms, struct fault *fault) MUST_CHECK;

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
 * FAULT_ABORT: aborted, nothing is visible. FAULT_FENCED: the same, because the group has moved on. FAULT_REBUILD: the
 * outcome is open until a new producer with this transactional.id is initialised. */
int publisher_publish(struct publisher *publisher, struct codec *codec, const struct publication *publication, struct arena *arena,
		   struct fault *fault) MUST_CHECK;

/* After success: the producer must be made anew all the same, because a request was sent twice. */
bool publisher_is_spent(const struct publisher *publisher);

/* Another producer took this transactional.id. */
bool publisher_was_fenced(const struct publisher *publisher);

/* Ends the transaction that a producer which is gone left behind, by taking its transactional.id for a moment. */
int publisher_end_transaction(const struct config *config, const char *transactional_id, int timeout_ms, struct fault *fault) MUST_CHECK;

/* What a transactional call's error asks for. Exposed for its test. */
enum fault_kind publisher_classify(bool fatal, bool requires_abort, bool retriable, int code);

#endif
