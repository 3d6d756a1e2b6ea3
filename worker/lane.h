/* A lane: the whole machine once. A consumer, a PostgreSQL connection, a transactional producer, and a loop on one thread:
 *
 *   assigned -> claimed -> generation-checked -> positioned -> running      (per partition; or halted)
 *   running:  fetch -> decode and check -> one PostgreSQL transaction -> one Kafka transaction -> running
 *
 * Whatever goes wrong between fetch and the end of the Kafka transaction, the batch is dropped unpublished and the lane
 * starts over: claim with a new epoch, look at the state again. */
#ifndef LANE_H
#define LANE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/config.h"
#include "worker/base/statistics.h"
#include "worker/operation.h"

struct lane;

/* Reads the schemas (FAULT_FATAL) and connects to nothing yet. One after another: avro-c is not made for threads here. */
struct lane *lane_new(const struct config *config, const struct operation *operation, int number, const atomic_bool *stop,
		      struct fault *fault) MUST_CHECK;
void lane_free(struct lane *lane); /* accepts NULL */

/* Runs until *stop; finishes the batch in hand, leaves the group and drops its clients. 0, or -1 if a person must change something (logged). */
int lane_run(struct lane *lane);

/* What other threads may ask at any time; the lane is not stopped by it. */
struct lane_partition {
	int32_t partition;
	const char *state;  /* "running" ... (assignment.h) */
	int64_t next_offset; /* results of all offsets below are published */
};
const struct statistics *lane_statistics(const struct lane *lane);
/* Copies at most max of the lane's partitions; returns how many it has. */
size_t lane_partitions(struct lane *lane, struct lane_partition *partitions, size_t max);

#endif
