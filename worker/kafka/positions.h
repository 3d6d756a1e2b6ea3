/* Positions in the partitions of a topic: the group's committed offset, and the first and last offsets that a read_committed
 * consumer finds. One request asks for all partitions where that is possible. */
#ifndef POSITIONS_H
#define POSITIONS_H

#include <stddef.h>

#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/base/offsets.h"

struct rd_kafka_s;

/* All functions wait at most timeout_ms for an answer. Those that take n positions need their partitions set. */

/* Sets committed, asked as the group of rk. FAULT_RETRY: an offset is not stable (a transaction is pending), or the coordinator
 * did not answer. */
int positions_fetch_committed(struct rd_kafka_s *rk, const char *topic, struct position *positions, size_t n, int timeout_ms,
			      struct fault *fault) MUST_CHECK;
/* Sets low, high and unknown. FAULT_WAIT: the request for all was not answered. */
int positions_find_ends(struct rd_kafka_s *rk, const char *topic, struct position *positions, size_t n, int timeout_ms,
			struct fault *fault) MUST_CHECK;
/* The same, for each partition alone if the request for all fails; partitions that stay unknown are logged. */
void positions_find_ends_patiently(struct rd_kafka_s *rk, const char *topic, struct position *positions, size_t n, int timeout_ms);

/* The number of a topic's partitions; 0: not known. */
int positions_count_partitions(struct rd_kafka_s *rk, const char *topic, int timeout_ms);

/* Makes a client outside of the group and asks for the cluster's id (copied into size bytes) and the ends of one partition of
 * the commands topic. FAULT_WAIT: no answer. */
int positions_query(const struct config *config, char *cluster_id, size_t size, struct position *position, int timeout_ms,
		    struct fault *fault) MUST_CHECK;

#endif
