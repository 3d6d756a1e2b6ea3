/* The transactional producer of one lane: results, dead letters and the batch's offsets become visible together or not at
 * all. Every transactional call that timed out, or whose request was sent again while an earlier copy was unanswered, makes
 * the producer unusable (protocol.txt, rule 5 of the fence): a new one with the same transactional.id gets a new epoch and
 * fences what may still be on its way. */
#ifndef OUTLET_H
#define OUTLET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "config.h"
#include "fault.h"
#include "record.h"

struct outlet;
struct codec;
struct rd_kafka_consumer_group_metadata_s;

/* Makes the producer; outlet_init must succeed before anything is published. */
struct outlet *outlet_new(const struct config *config, const char *transactional_id, struct fault *fault) MUST_CHECK;
void outlet_free(struct outlet *outlet); /* accepts NULL; drops what is in flight */

/* Gets the producer its epoch, ending a predecessor's transaction, and looks for its two topics. FAULT_RETRY: not within
 * timeout_ms, call again. FAULT_WAIT: a topic is missing or barred to us, call again. FAULT_REBUILD. */
int outlet_init(struct outlet *outlet, int timeout_ms, struct fault *fault) MUST_CHECK;

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
int outlet_publish(struct outlet *outlet, struct codec *codec, const struct publication *publication, struct arena *arena,
		   struct fault *fault) MUST_CHECK;

/* After success: the producer must be made anew all the same, because a request was sent twice. */
bool outlet_is_spent(const struct outlet *outlet);

/* Another producer took this transactional.id. */
bool outlet_was_fenced(const struct outlet *outlet);

/* Ends the transaction that a producer which is gone left behind, by taking its transactional.id for a moment. */
int outlet_end_transaction(const struct config *config, const char *transactional_id, int timeout_ms, struct fault *fault) MUST_CHECK;

/* What a transactional call's error asks for. Exposed for its test. */
enum fault_kind outlet_classify(bool fatal, bool requires_abort, bool retriable, int code);

#endif
