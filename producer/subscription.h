/* Reads a results topic, all of it, in no consumer group. */
#ifndef PRODUCER_SUBSCRIPTION_H
#define PRODUCER_SUBSCRIPTION_H

#include "producer/options.h"
#include "schemas/codec.h"
#include "worker/base/fault.h"

struct subscription;

/* campaign_client_subscribe says what it does. options are borrowed until subscription_free. */
struct subscription *subscription_new(const struct options *options, enum campaign_from from, int64_t time_ms,
				      struct fault *fault) MUST_CHECK;
void subscription_free(struct subscription *subscription); /* accepts NULL */

/* Takes the next record: 1, or 0 if there is none within wait_ms, -1 with FAULT_FATAL. Partitions that were added to the topic
 * are read from their beginning. The record is kept until the next call. */
int subscription_next(struct subscription *subscription, int wait_ms, struct fault *fault) MUST_CHECK;

/* The key of the record that was taken, a traceId; NULL: it has none. */
const void *subscription_key(const struct subscription *subscription, size_t *size);

/* Decodes the record that was taken: the event is a CAMPAIGN_RESULT or a CAMPAIGN_UNREADABLE. */
void subscription_decode(const struct subscription *subscription, struct codec *codec, struct arena *arena,
			 struct campaign_event *event);

/* Whether every record was taken that stood in the topic when the subscription began. */
bool subscription_caught_up(const struct subscription *subscription);

#endif
