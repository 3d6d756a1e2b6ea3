/* Questions to the consumer group's coordinator. */
#ifndef GROUP_H
#define GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/fault.h"

struct rd_kafka_s;
struct rd_kafka_consumer_group_metadata_s;

struct start {
	int32_t partition;
	int64_t offset;
};

/* Whether metadata are those of a member of some generation. */
bool group_is_member(const struct rd_kafka_consumer_group_metadata_s *metadata);

/* Whether somebody with that client.id is in the group. FAULT_RETRY: no answer within timeout_ms. */
int group_find_member(struct rd_kafka_s *rk, const char *name, const char *client_id, bool *found, int timeout_ms,
		      struct fault *fault) MUST_CHECK;

/* Commits these offsets in the generation that holds when the request is sent. FAULT_FENCED: not a member of it any more, or a
 * rebalance is on its way. FAULT_REBUILD: no answer within timeout_ms: its late copy could undo later offsets, so that the group
 * must be joined anew. FAULT_WAIT: refused for another reason. */
int group_commit(struct rd_kafka_s *rk, const char *topic, const struct start *starts, size_t n, int timeout_ms,
		 struct fault *fault) MUST_CHECK;

#endif
