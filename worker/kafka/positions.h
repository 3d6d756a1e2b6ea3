/* Where the partitions of a topic stand: what the group has committed, and the first and last offsets that a read_committed
 * consumer finds. Asked of the brokers, in one request for all partitions where that goes. */
#ifndef POSITIONS_H
#define POSITIONS_H

#include <stddef.h>

#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/base/offsets.h"

struct rd_kafka_s;

/* All of them take n positions with their partitions set, and wait at most timeout_ms for an answer. */

/* Sets committed, asked as the group of rk. FAULT_RETRY: an offset is not stable (a transaction is pending), or the coordinator
 * did not answer. */
int positions_fetch_committed(struct rd_kafka_s *rk, const char *topic, struct position *positions, size_t n, int timeout_ms,
			      struct fault *fault) MUST_CHECK;
/* Sets low, high and unknown. FAULT_WAIT: none was answered. */
int positions_find_ends(struct rd_kafka_s *rk, const char *topic, struct position *positions, size_t n, int timeout_ms,
			struct fault *fault) MUST_CHECK;
/* The same, each alone if all together fail; what is unknown is logged. */
void positions_find_ends_patiently(struct rd_kafka_s *rk, const char *topic, struct position *positions, size_t n, int timeout_ms);

/* Partitions of a topic; 0: not known. */
int positions_count_partitions(struct rd_kafka_s *rk, const char *topic, int timeout_ms);

/* A look from outside of the group: the cluster's id (into size bytes) and the ends of one partition of the commands topic.
 * FAULT_WAIT: no answer. */
int positions_look(const struct config *config, char *cluster_id, size_t size, struct position *position, int timeout_ms,
		   struct fault *fault) MUST_CHECK;

#endif
