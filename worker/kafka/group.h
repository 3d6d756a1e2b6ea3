/* Requests to the consumer group's coordinator. */
#ifndef GROUP_H
#define GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/fault.h"

struct rd_kafka_s;
struct rd_kafka_consumer_group_metadata_s;

/* A partition and the offset from which it is read. */
struct start {
	int32_t partition;
	int64_t offset;
};

struct group_member {
	char client_id[384], host[256];
};

/* Whether the metadata are those of a member of a generation. */
bool group_is_member(const struct rd_kafka_consumer_group_metadata_s *metadata);

/* *members: to be freed; none of an empty or unknown group. FAULT_RETRY: no answer within timeout_ms. FAULT_WAIT: the group's
 * members joined by a protocol that does not tell them to this request. */
int group_list_members(struct rd_kafka_s *rk, const char *name, struct group_member **members, size_t *n, int timeout_ms,
		       struct fault *fault) MUST_CHECK;
/* *found: whether a member with that client.id is in the group. Faults as group_list_members. */
int group_find_member(struct rd_kafka_s *rk, const char *name, const char *client_id, bool *found, int timeout_ms,
		      struct fault *fault) MUST_CHECK;

/* Commits these offsets in the generation that holds when the request is sent. FAULT_FENCED: the client is no member of it
 * any more, or a rebalance is on its way. FAULT_REBUILD: no answer within timeout_ms. A late copy of the request could undo
 * later offsets, so the group must be joined anew. FAULT_WAIT: refused for another reason. */
int group_commit(struct rd_kafka_s *rk, const char *topic, const struct start *starts, size_t n, int timeout_ms,
		 struct fault *fault) MUST_CHECK;

#endif
